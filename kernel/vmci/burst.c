// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * DOC: Theory of operation
 *
 * A drain reads whole bursts: the first of one page, later ones, once a datagram did not fit, of the whole buffer. What
 * is between and behind datagrams is 0xff: a header position where the destination's resource is all ones is filler. A
 * datagram can begin again at the next page boundary; with no more than a page left filler is the end of the drain. A
 * datagram that the burst cuts moves to the front of the buffer, and its rest is read behind it. Fewer than 24 bytes at
 * the end of a burst hold nothing, and the device knows that. The device mirrors all this, since the stream does not
 * say where bursts end: not one byte more or less may be read than here.
 *
 * By DMA (@page 0) a burst is always the whole buffer, and the first filler is the end.
 *
 * An absent device reads as all ones, which is the end at once.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/math.h>
#include <linux/minmax.h>
#include <linux/string.h>

#include "burst.h"
#include "wire.h"

void burst_start(struct burst *b, u8 *buffer, u32 page)
{
	*b = (struct burst){ .buffer = buffer, .page = page, .cur = page ? page : BURST_SIZE };
}

static enum burst_step read_more(struct burst *b, u32 keep)
{
	b->at = keep;
	b->want = b->cur - keep;
	b->pos = 0;
	b->end = b->cur;
	return BURST_READ;
}

/* Goes on with a datagram that does not fit into the buffer. */
static enum burst_step skip(struct burst *b)
{
	enum burst_step step = read_more(b, 0);

	b->pos = (u32)min_t(u64, b->skip, b->end);
	b->skip -= b->pos;
	return step;
}

/* Is there filler at @pos, over which we shall not go? */
static bool is_end(const struct burst *b, u32 rem)
{
	return !b->page || rem <= b->page;
}

enum burst_step burst_next(struct burst *b, struct ovmci_datagram *ret_dg)
{
	u32 rem, len;

	for (;;) {
		if (b->skip)
			return skip(b);
		rem = b->end - b->pos;
		if (rem < VMCI_DG_HEADER_SIZE)
			return read_more(b, 0);
		if (!b->known) {
			b->dst = get_handle(b->buffer + b->pos);
			if (b->dst.resource == VMCI_INVALID_ID) {
				if (is_end(b, rem))
					return BURST_END;
				b->pos = (b->pos / b->page + 1) * b->page;
				continue;
			}
			b->src = get_handle(b->buffer + b->pos + 8);
			b->size = get_le64(b->buffer + b->pos + 16);
			if (b->size > BURST_SKIP_MAX)
				return BURST_BAD;
			b->known = true;
		}
		len = VMCI_DG_HEADER_SIZE + (u32)round_up(b->size, VMCI_DG_ALIGN);
		if (len > BURST_SIZE) {
			b->known = false;
			b->skip = len - rem;
			b->cur = BURST_SIZE;
			continue;
		}
		if (len > rem) {
			memmove(b->buffer, b->buffer + b->pos, rem);
			b->cur = BURST_SIZE;
			return read_more(b, rem);
		}
		*ret_dg = (struct ovmci_datagram){
			.dst = b->dst,
			.src = b->src,
			.size = (size_t)b->size,
			.payload = b->buffer + b->pos + VMCI_DG_HEADER_SIZE,
		};
		b->known = false;
		b->pos += len;
		return BURST_DATAGRAM;
	}
}

#ifdef OVMCI_DEBUG
#include "selftest/burst.c"
#endif
