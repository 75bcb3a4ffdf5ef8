/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * DOC: Theory of operation
 *
 * Datagrams lie back to back in one ring of fixed size, in the form in which the guest gets them:
 * padded to 8 bytes. They need no index beside them, because each begins with its header, and
 * because the ring's size is a multiple of 8, the payload size (8 bytes at 16) never wraps.
 *
 * Two limits apply to the sum of unpadded sizes: one for datagrams, and a higher one for events,
 * so however many datagrams wait, VMCI_EVENT_QUEUE_MAX - VMCI_DG_QUEUE_MAX bytes are left for events.
 */
#include "device/inbox.h"

#include <assert.h>
#include <string.h>

#include "proto/dg.h"

static_assert((LIMIT_INBOX_RING & (LIMIT_INBOX_RING - 1)) == 0 && LIMIT_INBOX_RING % VMCI_DG_ALIGN == 0,
	      "positions are taken modulo the ring's size, and sizes do not wrap");
static_assert(LIMIT_INBOX_RING >= (uint64_t)VMCI_EVENT_QUEUE_MAX * 32 / 25, "the limits fit, padded");

void dev_inbox_clear(struct dev_inbox *inbox)
{
	inbox->head = inbox->tail = 0;
	inbox->bytes = 0;
	inbox->count = 0;
}

int32_t dev_inbox_push(struct dev_inbox *inbox, const uint8_t *dg, size_t size, bool event)
{
	size_t limit = event ? VMCI_EVENT_QUEUE_MAX : VMCI_DG_QUEUE_MAX;
	size_t at = inbox->tail % LIMIT_INBOX_RING;
	size_t first = LIMIT_INBOX_RING - at;

	if (inbox->bytes + size >= limit)
		return VMCI_ERROR_NO_RESOURCES;
	if (first > size)
		first = size;
	memcpy(inbox->ring + at, dg, first);
	memcpy(inbox->ring, dg + first, size - first);
	for (size_t i = size; i < dg_padded(size); i++)
		inbox->ring[(inbox->tail + i) % LIMIT_INBOX_RING] = 0;
	inbox->tail += dg_padded(size);
	inbox->bytes += size;
	inbox->count++;
	return VMCI_SUCCESS;
}

/* Unpadded size of the datagram at position @pos, which holds one. */
static size_t size_at(const struct dev_inbox *inbox, uint64_t pos)
{
	return VMCI_DG_HEADER_SIZE + (size_t)get_le64(inbox->ring + (pos + 16) % LIMIT_INBOX_RING);
}

size_t dev_inbox_first(const struct dev_inbox *inbox)
{
	return inbox->head == inbox->tail ? 0 : dg_padded(size_at(inbox, inbox->head));
}

size_t dev_inbox_fit(const struct dev_inbox *inbox, size_t room)
{
	uint64_t pos = inbox->head;

	while (pos != inbox->tail) {
		size_t len = dg_padded(size_at(inbox, pos));

		if (len > room)
			break;
		room -= len;
		pos += len;
	}
	return (size_t)(pos - inbox->head);
}

const uint8_t *dev_inbox_view(const struct dev_inbox *inbox, size_t off, size_t len, size_t *ret_len)
{
	size_t at = (inbox->head + off) % LIMIT_INBOX_RING;

	*ret_len = len < LIMIT_INBOX_RING - at ? len : LIMIT_INBOX_RING - at;
	return inbox->ring + at;
}

void dev_inbox_pop(struct dev_inbox *inbox, size_t len)
{
	uint64_t end = inbox->head + len;

	while (inbox->head != end) {
		size_t size = size_at(inbox, inbox->head);

		inbox->head += dg_padded(size);
		inbox->bytes -= size;
		inbox->count--;
	}
}
