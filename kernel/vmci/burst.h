/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* burst.h - datagrams in what the device hands out, as the device reference, 3.5 and 3.6, has it; pure */
#ifndef OVMCI_BURST_H
#define OVMCI_BURST_H

#include <linux/types.h>

#include <ovmci.h>

/* The buffer: the largest datagram. */
#define BURST_SIZE VMCI_DG_MAX_SIZE

/*
 * A datagram that does not fit is skipped, but not for ever: the largest that anything sends is a quarter of a MiB, and
 * behind a header that says more than this the stream is garbage.
 */
#define BURST_SKIP_MAX (16u * BURST_SIZE)

enum burst_step {
	BURST_READ,		/* have @want bytes read to @buffer + @at, then ask again */
	BURST_DATAGRAM,		/* one is ready, valid until the next call */
	BURST_END,		/* nothing waits any more */
	BURST_BAD,		/* what we read makes no sense; the same as an end otherwise */
};

/**
 * struct burst - one drain
 * @buffer: BURST_SIZE bytes; may be written by the device at any time
 * @page:   bytes of a page; 0: by DMA, where an end marker ends the drain wherever it is
 * @cur:    bytes of a burst now
 * @pos:    where the next header is
 * @end:    how far @buffer is filled
 * @skip:   bytes of a datagram that is too large and is yet to come
 * @dst, @src, @size: header of the datagram at @pos, read once; @size without the header
 * @known:  those are valid
 * @at, @want: for BURST_READ
 */
struct burst {
	u8 *buffer;
	u32 page;
	u32 cur;
	u32 pos, end;
	u64 skip;
	struct ovmci_handle dst, src;
	u64 size;
	bool known;
	u32 at, want;
};

/* burst_start() - begin a drain */
void burst_start(struct burst *b, u8 *buffer, u32 page);

/**
 * burst_next() - the next thing to do
 * @ret_dg: for BURST_DATAGRAM; its payload is in the buffer
 */
enum burst_step burst_next(struct burst *b, struct ovmci_datagram *ret_dg);

#endif /* OVMCI_BURST_H */
