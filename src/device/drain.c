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
 */
#include "device/drain.h"

#include <string.h>

void dev_drain_clear(struct dev_drain *drain)
{
	drain->data = 0;
	drain->size = DRAIN_SMALL;
	drain->pos = 0;
}

static void begin_burst(struct dev_drain *drain, struct dev_inbox *inbox)
{
	if (dev_inbox_first(inbox) > drain->size)
		drain->size = DRAIN_LARGE;
	drain->data = dev_inbox_fit(inbox, drain->size);
	for (size_t off = 0, n; off < drain->data; off += n) {
		const uint8_t *p = dev_inbox_view(inbox, off, drain->data - off, &n);

		memcpy(drain->burst + off, p, n);
	}
	dev_inbox_pop(inbox, drain->data);
}

uint8_t dev_drain_next(struct dev_drain *drain, struct dev_inbox *inbox, bool *ret_ended)
{
	uint8_t byte;

	if (drain->pos == 0)
		begin_burst(drain, inbox);
	byte = drain->pos < drain->data ? drain->burst[drain->pos] : 0xff;
	*ret_ended = false;
	if (++drain->pos == drain->size) {
		*ret_ended = drain->size - drain->data >= VMCI_DG_HEADER_SIZE;
		if (*ret_ended)
			drain->size = DRAIN_SMALL;
		drain->data = 0;
		drain->pos = 0;
	}
	return byte;
}
