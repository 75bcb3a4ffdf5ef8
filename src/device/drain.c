/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * DOC: Theory of operation
 *
 * The guest reads whole bursts, 4096 bytes first, and nothing on the wire says where one begins or
 * ends. But its algorithm is fixed, so we know from what we gave it how it will go on:
 *
 *  - We put whole datagrams into a burst, from its start, and fill the rest with 0xff. The driver
 *    takes a header position whose bytes 4..7 are 0xff as the end, or looks for more only at later
 *    page boundaries, where it finds 0xff too.
 *  - Where less than a header's 24 bytes remain behind the last datagram, the driver throws them
 *    away and reads another burst of the same size. Otherwise its drain ends with this burst.
 *  - A datagram of more than 4096 bytes goes at the start of a burst. If that was to be a small
 *    one, the driver sees that the datagram does not fit, keeps the 4096 bytes, and reads on until it has
 *    69632 bytes: the burst becomes a large one, and so do all later ones of the drain.
 *
 * The queue is looked at when a burst begins. What arrives later waits for the next burst: once
 * filler has begun a datagram could only start at a page boundary.
 *
 * The process may end between any two instructions, and another one go on for the guest, which must get the rest of
 * the same burst: a header that is half 0xff declares more bytes than a guest can read in its life. So the stores have an
 * order. A burst counts from @begun on, and the guest has seen nothing of it before; a byte counts as read when @pos is
 * beyond it; and the end of a burst is the same when it is done twice.
 */
#include "device/drain.h"

#include <stdatomic.h>
#include <string.h>

/* Stores before it are done when those behind it are, for whoever looks when this process has ended. */
static void settle(void)
{
	atomic_signal_fence(memory_order_seq_cst);
}

void dev_drain_clear(struct dev_drain *drain)
{
	drain->begun = 0;
	settle();
	drain->pos = 0;
	drain->size = DRAIN_SMALL;
}

static void begin_burst(struct dev_drain *drain, struct dev_inbox *inbox)
{
	drain->length = dev_inbox_first(inbox) > drain->size ? DRAIN_LARGE : drain->size;
	drain->data = dev_inbox_fit(inbox, drain->length);
	for (size_t off = 0, n; off < drain->data; off += n) {
		const uint8_t *p = dev_inbox_view(inbox, off, drain->data - off, &n);

		memcpy(drain->burst + off, p, n);
	}
	settle();
	drain->begun = 1;
	dev_inbox_pop(inbox, drain->data);
}

/* The last byte of the burst has been read. Return: does the guest's drain end with it? */
static bool end_burst(struct dev_drain *drain)
{
	bool ended = drain->length - drain->data >= VMCI_DG_HEADER_SIZE;

	drain->size = ended ? DRAIN_SMALL : drain->length;
	settle();
	drain->begun = 0;
	settle();
	drain->pos = 0;
	return ended;
}

uint8_t dev_drain_next(struct dev_drain *drain, struct dev_inbox *inbox, bool *ret_ended)
{
	uint8_t byte;

	if (!drain->begun)
		begin_burst(drain, inbox);
	byte = drain->pos < drain->data ? drain->burst[drain->pos] : 0xff;
	drain->pos++;
	settle();
	*ret_ended = drain->pos == drain->length && end_burst(drain);
	return byte;
}

bool dev_drain_is_empty(const struct dev_drain *drain)
{
	return !drain->begun || drain->pos >= drain->data;
}

static bool is_size(size_t size)
{
	return size == DRAIN_SMALL || size == DRAIN_LARGE;
}

void dev_drain_adopt(struct dev_drain *drain, const struct dev_drain *left)
{
	*drain = *left;
	if (!is_size(drain->size))
		dev_drain_clear(drain);
	if (!drain->begun) {
		drain->pos = 0;
		return;
	}
	if (!is_size(drain->length) || drain->data > drain->length || drain->pos > drain->length)
		dev_drain_clear(drain);
	else if (drain->pos == drain->length)
		end_burst(drain);
}
