/* SPDX-License-Identifier: BSD-2-Clause */
/* Event datagrams. VMCI reference, 6. */
#include "proto/event.h"

#include <errno.h>
#include <string.h>

#include "proto/dg.h"

/* Size of the datagram of each kind, by id. */
static const uint8_t sizes[] = {
	[VMCI_EVENT_CTX_ID_UPDATE] = EVENT_CONTEXT_SIZE,
	[VMCI_EVENT_CTX_REMOVED] = EVENT_CONTEXT_SIZE,
	[VMCI_EVENT_QP_RESUMED] = EVENT_PLAIN_SIZE,
	[VMCI_EVENT_QP_PEER_ATTACH] = EVENT_QP_SIZE,
	[VMCI_EVENT_QP_PEER_DETACH] = EVENT_QP_SIZE,
};

static size_t size_of(uint32_t id)
{
	return id < sizeof(sizes) ? sizes[id] : 0;
}

size_t event_build(uint8_t *buf, uint32_t cid, const struct event *event)
{
	size_t size = size_of(event->id);

	if (!size)
		return 0;
	memset(buf, 0, size);
	dg_build(buf, handle_make(cid, VMCI_RID_EVENT), handle_make(VMCI_CID_HYPERVISOR, 0),
		 size - VMCI_DG_HEADER_SIZE);
	put_le32(buf + 24, event->id);
	if (size == EVENT_CONTEXT_SIZE) {
		put_le32(buf + 32, event->context);
	} else if (size == EVENT_QP_SIZE) {
		handle_put(buf + 32, event->handle);
		put_le32(buf + 40, event->context);
	}
	return size;
}

int event_parse(const uint8_t *dg, size_t size, struct event *ret_event)
{
	struct dg_header h;
	size_t need;
	uint32_t p_id;

	if (size < EVENT_PLAIN_SIZE)
		return -EBADMSG;
	h = dg_parse(dg);
	p_id = get_le32(dg + 24);
	need = size_of(p_id);
	if (!event_is_source(h.src) || h.dst.resource != VMCI_RID_EVENT || !need || size < need)
		return -EBADMSG;
	*ret_event = (struct event){ .id = p_id };
	if (need == EVENT_CONTEXT_SIZE) {
		ret_event->context = get_le32(dg + 32);
	} else if (need == EVENT_QP_SIZE) {
		ret_event->handle = handle_get(dg + 32);
		ret_event->context = get_le32(dg + 40);
	}
	return 0;
}
