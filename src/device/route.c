/* SPDX-License-Identifier: BSD-2-Clause */
/* Where a datagram from the guest goes. VMCI reference, 4.5; transport reference, 2.2. */
#include "device/priv.h"
#include "proto/dg.h"

#define SOURCE_CONTEXT_OFFSET 8

/**
 * check_source() - is the guest allowed to use this source? Completes it in @dg
 *
 * Only a reply to the hypervisor may be unwanted: the anonymous source.
 */
static bool check_source(struct dev *dev, uint8_t *dg, struct vmci_handle g_src, uint32_t dst)
{
	if (g_src.context == dev->config.cid)
		return true;
	if (!handle_is_valid(g_src))
		return dst == VMCI_CID_HYPERVISOR;
	if (g_src.context != VMCI_INVALID_ID)
		return false;
	put_le32(dg + SOURCE_CONTEXT_OFFSET, dev->config.cid);
	return true;
}

int64_t dev_send(struct dev *dev, uint8_t *dg, size_t size)
{
	struct dg_header h = dg_parse(dg);

	if (!check_source(dev, dg, h.src, h.dst.context)) {
		dev_note(dev, DEV_NOTE_SOURCE, LOG_LEVEL_WARN,
			 "datagram to %u:%u refused: its source is %u:%u", h.dst.context, h.dst.resource,
			 h.src.context, h.src.resource);
		return VMCI_ERROR_NO_ACCESS;
	}
	if (h.dst.context == VMCI_CID_HYPERVISOR)
		return dev_call(dev, h.dst.resource, dg, size);
	if (h.dst.context == VMCI_INVALID_ID)
		return VMCI_ERROR_INVALID_ARGS;
	if (h.dst.context == dev->config.cid)
		return dev_deliver(dev, dg, size);
	return dev->ports.datagram(dev->ports.ctx, dg, size);
}
