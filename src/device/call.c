/* SPDX-License-Identifier: BSD-2-Clause */
/* The hypercalls: datagrams to the hypervisor context. VMCI reference, 4.2 and 4.3. */
#include "device/priv.h"
#include "proto/hypercall.h"

/*
 * One handler per hypercall: takes the datagram, returns the result for the guest. A malformed
 * payload is INVALID_ARGS.
 */
typedef int64_t (*handler)(struct dev *dev, uint32_t rid, const uint8_t *dg, size_t size);

struct call {
	handler handle;
	uint32_t needs;		/* capability without which it is unavailable */
	bool exists;		/* what RESOURCES_QUERY answers */
};

static bool is_supported(const struct dev *dev, uint32_t rid);

static int64_t resources_query(struct dev *dev, uint32_t rid, const uint8_t *dg, size_t size)
{
	struct hc_query query;
	uint32_t bits = 0;

	(void)rid;
	if (hc_query_parse(dg, size, &query))
		return VMCI_ERROR_INVALID_ARGS;
	for (uint32_t i = 0; i < query.count; i++)
		if (is_supported(dev, query.rid[i]))
			bits |= UINT32_C(1) << i;
	return bits;
}

static int64_t get_context_id(struct dev *dev, uint32_t rid, const uint8_t *dg, size_t size)
{
	(void)rid;
	(void)dg;
	(void)size;
	return dev->config.cid;
}

/* The upper half of the page number is garbage: we never offer 64-bit page numbers (reference, 4.3). */
static int64_t set_notify_bitmap(struct dev *dev, uint32_t rid, const uint8_t *dg, size_t size)
{
	uint32_t g_ppn;

	(void)rid;
	if (hc_word_parse(dg, size, &g_ppn))
		return VMCI_ERROR_INVALID_ARGS;
	return dev_bells_set_bitmap(dev, g_ppn);
}

static int64_t doorbell_link(struct dev *dev, uint32_t rid, const uint8_t *dg, size_t size)
{
	struct hc_link g_link;

	(void)rid;
	if (hc_link_parse(dg, size, &g_link))
		return VMCI_ERROR_INVALID_ARGS;
	return dev_bells_link(dev, &g_link);
}

static int64_t doorbell_unlink(struct dev *dev, uint32_t rid, const uint8_t *dg, size_t size)
{
	struct vmci_handle g_handle;

	(void)rid;
	if (hc_handle_parse(dg, size, &g_handle))
		return VMCI_ERROR_INVALID_ARGS;
	return dev_bells_unlink(dev, g_handle);
}

static int64_t doorbell_notify(struct dev *dev, uint32_t rid, const uint8_t *dg, size_t size)
{
	struct vmci_handle g_handle;

	(void)rid;
	if (hc_handle_parse(dg, size, &g_handle) || g_handle.context == VMCI_INVALID_ID ||
	    g_handle.resource == VMCI_INVALID_ID)
		return VMCI_ERROR_INVALID_ARGS;
	if (g_handle.context == dev->config.cid)
		return dev_ring(dev, g_handle);
	if (g_handle.context == VMCI_CID_HYPERVISOR || g_handle.context == VMCI_CID_WELL_KNOWN)
		return VMCI_ERROR_NOT_FOUND;
	return dev->ports.doorbell(dev->ports.ctx, g_handle);
}

static int64_t obsolete(struct dev *dev, uint32_t rid, const uint8_t *dg, size_t size)
{
	(void)dev;
	(void)rid;
	(void)dg;
	(void)size;
	return VMCI_ERROR_OBSOLETE;
}

/* Subscriptions are the guest's own business: every event that concerns it is delivered. */
static int64_t event_subscribe(struct dev *dev, uint32_t rid, const uint8_t *dg, size_t size)
{
	uint32_t g_event;

	(void)dev;
	(void)rid;
	return hc_word_parse(dg, size, &g_event) ? VMCI_ERROR_INVALID_ARGS : VMCI_SUCCESS;
}

static int64_t queuepair_alloc(struct dev *dev, uint32_t rid, const uint8_t *dg, size_t size)
{
	struct hc_qp_alloc g_alloc;
	int32_t r;

	(void)rid;
	if (hc_qp_alloc_parse(dg, size, &g_alloc))
		return VMCI_ERROR_INVALID_ARGS;
	r = dev_pairs_alloc(dev, &g_alloc);
	if (r < 0)
		dev_note(dev, DEV_NOTE_PAIR, LOG_LEVEL_DEBUG,
			 "queue pair %u:%u (%llu + %llu bytes) refused: %d", g_alloc.handle.context,
			 g_alloc.handle.resource, (unsigned long long)g_alloc.produce,
			 (unsigned long long)g_alloc.consume, r);
	return r;
}

static int64_t queuepair_detach(struct dev *dev, uint32_t rid, const uint8_t *dg, size_t size)
{
	struct vmci_handle g_handle;

	(void)rid;
	if (hc_handle_parse(dg, size, &g_handle))
		return VMCI_ERROR_INVALID_ARGS;
	return dev_pairs_leave(dev, g_handle);
}

/*
 * Resources that are not here have no handler and answer INVALID_RESOURCE: AF_VSOCK takes that for
 * EHOSTUNREACH, which ends attempts to reach the stream service of the hypervisor at once (4.2).
 */
static const struct call calls[VMCI_HC_NUM] = {
	[VMCI_HC_RESOURCES_QUERY] = { resources_query, 0, true },
	[VMCI_HC_GET_CONTEXT_ID] = { get_context_id, 0, true },
	[VMCI_HC_SET_NOTIFY_BITMAP] = { set_notify_bitmap, VMCI_CAP_NOTIFICATIONS, true },
	[VMCI_HC_DOORBELL_LINK] = { doorbell_link, VMCI_CAP_NOTIFICATIONS, true },
	[VMCI_HC_DOORBELL_UNLINK] = { doorbell_unlink, VMCI_CAP_NOTIFICATIONS, true },
	[VMCI_HC_DOORBELL_NOTIFY] = { doorbell_notify, VMCI_CAP_NOTIFICATIONS, true },
	[VMCI_HC_DATAGRAM_REQUEST_MAP] = { obsolete, 0, false },
	[VMCI_HC_DATAGRAM_REMOVE_MAP] = { obsolete, 0, false },
	[VMCI_HC_EVENT_SUBSCRIBE] = { event_subscribe, 0, true },
	[VMCI_HC_EVENT_UNSUBSCRIBE] = { event_subscribe, 0, true },
	[VMCI_HC_QUEUEPAIR_ALLOC] = { queuepair_alloc, 0, true },
	[VMCI_HC_QUEUEPAIR_DETACH] = { queuepair_detach, 0, true },
};

/* A guest without notifications may mean the shared-memory calls of 2009 by 2 to 5 (reference, 4.2). */
static bool is_available(const struct dev *dev, const struct call *call)
{
	return (dev->acked & call->needs) == call->needs;
}

static bool is_supported(const struct dev *dev, uint32_t rid)
{
	return rid < VMCI_HC_NUM && calls[rid].exists && is_available(dev, &calls[rid]);
}

int64_t dev_call(struct dev *dev, uint32_t rid, const uint8_t *dg, size_t size)
{
	int64_t r;

	if (rid >= VMCI_HC_NUM || !calls[rid].handle) {
		dev_note(dev, DEV_NOTE_HYPERCALL, LOG_LEVEL_DEBUG, "no resource %u (%s) at the hypervisor",
			 rid, hc_name(rid));
		return VMCI_ERROR_INVALID_RESOURCE;
	}
	if (!is_available(dev, &calls[rid]))
		return VMCI_ERROR_UNAVAILABLE;
	r = calls[rid].handle(dev, rid, dg, size);
	if (r == VMCI_ERROR_INVALID_ARGS)
		dev_note(dev, DEV_NOTE_HYPERCALL, LOG_LEVEL_WARN, "hypercall %s of %zu bytes is not valid",
			 hc_name(rid), size);
	return r;
}
