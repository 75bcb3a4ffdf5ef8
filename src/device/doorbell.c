/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * DOC: Theory of operation
 *
 * The guest gives us a page of bytes, and links doorbells to bytes of it. To ring one we store 1
 * into its byte and raise the NOTIFICATION cause, always and in this order. We never read the
 * bitmap: a byte that is still 1 may be about to be cleared (reference, 5).
 *
 * Doorbells live in an array of fixed size, chained into buckets by slot number.
 */
#include "device/doorbell.h"

#include <assert.h>

#include "device/priv.h"

static_assert(LIMIT_DOORBELLS < UINT16_MAX, "slot + 1 fits");

static void tell_gone(struct dev *dev, struct vmci_handle handle)
{
	if (dev->ports.bell_gone)
		dev->ports.bell_gone(dev->ports.ctx, handle);
}

void dev_bells_reset(struct dev *dev)
{
	struct dev_bells *bells = &dev->bells;

	for (unsigned i = 0; i < BELL_BUCKETS && bells->count; i++)
		for (uint16_t *link = &bells->bucket[i], id; (id = *link); bells->count--) {
			*link = bells->slot[id - 1].next;
			tell_gone(dev, bells->slot[id - 1].handle);
		}
	bells->bitmap = 0;
	bells->has_bitmap = false;
	bells->used = 0;
	bells->free = 0;
}

int32_t dev_bells_set_bitmap(struct dev *dev, uint32_t g_ppn)
{
	uint64_t addr = (uint64_t)g_ppn << dev->page_shift;
	uint8_t probe;

	if (!dev_can_dma(dev))
		return VMCI_ERROR_UNAVAILABLE;
	if (dev->ports.mem.ops->read(dev->ports.mem.ctx, addr, &probe, sizeof(probe))) {
		dev_note(dev, DEV_NOTE_BITMAP, LOG_LEVEL_WARN,
			 "notification bitmap at 0x%llx is not guest memory", (unsigned long long)addr);
		return VMCI_ERROR_INVALID_ARGS;
	}
	dev->bells.bitmap = addr;
	dev->bells.has_bitmap = true;
	return VMCI_SUCCESS;
}

static unsigned hash_of(struct vmci_handle handle)
{
	uint32_t hash = (handle.resource ^ handle.context * 31) * UINT32_C(0x9e3779b1);

	return hash >> 16 & (BELL_BUCKETS - 1);
}

/* The link that points to @handle's slot, or the 0 at the end of its bucket. */
static uint16_t *find(struct dev_bells *bells, struct vmci_handle handle)
{
	uint16_t *link = &bells->bucket[hash_of(handle)];

	while (*link && !handle_is_equal(bells->slot[*link - 1].handle, handle))
		link = &bells->slot[*link - 1].next;
	return link;
}

int32_t dev_bells_link(struct dev *dev, const struct hc_link *g_link)
{
	struct dev_bells *bells = &dev->bells;
	struct vmci_handle handle = g_link->handle;
	uint16_t *link;
	uint16_t id;

	if (!bells->has_bitmap)
		return VMCI_ERROR_UNAVAILABLE;
	if (g_link->index >= UINT64_C(1) << dev->page_shift || handle.resource == VMCI_INVALID_ID)
		return VMCI_ERROR_INVALID_ARGS;
	if (handle.context != dev->config.cid && handle.context != VMCI_CID_HOST)
		return VMCI_ERROR_NO_ACCESS;
	link = find(bells, handle);
	if (*link)
		return VMCI_ERROR_DUPLICATE_ENTRY;
	if (bells->count == LIMIT_DOORBELLS)
		return VMCI_ERROR_NO_RESOURCES;
	if (bells->free) {
		id = bells->free;
		bells->free = bells->slot[id - 1].next;
	} else {
		id = ++bells->used;
	}
	bells->slot[id - 1] = (struct dev_bell){ .handle = handle, .index = (uint32_t)g_link->index };
	*link = id;
	bells->count++;
	return VMCI_SUCCESS;
}

int32_t dev_bells_unlink(struct dev *dev, struct vmci_handle handle)
{
	struct dev_bells *bells = &dev->bells;
	uint16_t *link = find(bells, handle);
	uint16_t id = *link;

	if (!id)
		return VMCI_ERROR_NOT_FOUND;
	*link = bells->slot[id - 1].next;
	bells->slot[id - 1].next = bells->free;
	bells->free = id;
	bells->count--;
	tell_gone(dev, handle);
	return VMCI_SUCCESS;
}

bool dev_has_bell(const struct dev *dev, struct vmci_handle handle)
{
	const struct dev_bells *bells = &dev->bells;
	uint16_t id = bells->bucket[hash_of(handle)];

	while (id && !handle_is_equal(bells->slot[id - 1].handle, handle))
		id = bells->slot[id - 1].next;
	return id != 0;
}

int32_t dev_ring(struct dev *dev, struct vmci_handle handle)
{
	struct dev_bells *bells = &dev->bells;
	uint16_t id = *find(bells, handle);
	static const uint8_t one = 1;
	uint64_t addr;

	if (!id)
		return VMCI_ERROR_NOT_FOUND;
	if (!dev_can_dma(dev))
		return VMCI_ERROR_UNAVAILABLE;
	addr = bells->bitmap + bells->slot[id - 1].index;
	if (dev->ports.mem.ops->write(dev->ports.mem.ctx, addr, &one, sizeof(one))) {
		dev_note(dev, DEV_NOTE_BITMAP, LOG_LEVEL_WARN, "notification bitmap at 0x%llx is gone",
			 (unsigned long long)bells->bitmap);
		return VMCI_ERROR_UNAVAILABLE;
	}
	dev_intr_raise(dev, VMCI_CAUSE_NOTIFICATION);
	return VMCI_SUCCESS;
}
