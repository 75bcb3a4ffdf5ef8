/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * DOC: Theory of operation
 *
 * There is no start or end marker: the header says how long a datagram is, and after its last byte
 * the guest reads a result. So a read of the result is the place to find back into step: what is
 * incomplete then is dropped. A datagram that declares more than we take is dropped up to the same
 * point, wherever it really ends.
 */
#include "device/outbox.h"

#include "proto/dg.h"

void dev_outbox_clear(struct dev_outbox *outbox)
{
	outbox->len = 0;
	outbox->size = 0;
	outbox->swallow = false;
}

/* The header is complete: how much is to follow, and is that acceptable? */
static void begin(struct dev_outbox *outbox)
{
	struct dg_header g_h = dg_parse(outbox->buf);
	size_t limit = g_h.dst.context == VMCI_CID_HYPERVISOR ? LIMIT_HYPERCALL_SIZE : VMCI_DG_MAX_SIZE;

	if (g_h.payload_size > limit - VMCI_DG_HEADER_SIZE)
		outbox->swallow = true;
	else
		outbox->size = VMCI_DG_HEADER_SIZE + (size_t)g_h.payload_size;
}

bool dev_outbox_put(struct dev_outbox *outbox, uint8_t byte)
{
	if (outbox->swallow)
		return false;
	outbox->buf[outbox->len++] = byte;
	if (outbox->len == VMCI_DG_HEADER_SIZE)
		begin(outbox);
	return outbox->len == outbox->size;
}

bool dev_outbox_abort(struct dev_outbox *outbox)
{
	bool pending = outbox->len > 0 || outbox->swallow;

	dev_outbox_clear(outbox);
	return pending;
}
