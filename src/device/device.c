/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * DOC: Theory of operation
 *
 * A device has two lives inside of one another. The function's begins at power-on or at a function
 * reset and owns config space. A driver session begins when a driver writes CAPS, and owns
 * everything else: bitmap, doorbells, queue pairs, queued datagrams, interrupt state, latched
 * addresses. A session ends with RESET, with the next write of CAPS (a driver that was never unloaded:
 * kexec), when bus mastering is taken away, or with the function's life. dev_driver_reset() ends
 * it, and when it returns no reference to guest memory is left (VMCI reference, 2.3).
 *
 * All arrays are part of struct dev; only queue pairs are allocated one by one.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "device/priv.h"
#include "proto/dg.h"
#include "proto/event.h"

#define LINE_MAX_SIZE 160

void dev_note(struct dev *dev, enum dev_note note, enum log_level level, const char *fmt, ...)
{
	char line[LINE_MAX_SIZE];
	va_list ap;

	if (dev->said[note] || dev->notes[note] >= LIMIT_NOTES)
		return;
	dev->said[note] = true;
	dev->notes[note]++;
	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	dev->ports.log(dev->ports.ctx, level, line);
}

bool dev_can_dma(struct dev *dev)
{
	if (dev_space_is_master(&dev->space))
		return true;
	dev_note(dev, DEV_NOTE_NO_MASTER, LOG_LEVEL_WARN, "driver wants DMA with bus mastering off");
	return false;
}

void dev_driver_reset(struct dev *dev)
{
	bool had_driver = dev->acked != 0;

	dev->resetting = true;
	dev->acked = 0;
	dev_intr_clear(dev);
	dev_bells_reset(dev);
	dev_pairs_reset(dev);
	dev_inbox_clear(&dev->inbox);
	dev_drain_clear(&dev->carry->drain);
	dev_outbox_clear(&dev->outbox);
	dev->carry->sending = 0;
	dev->adopted = false;
	dev->starved = false;
	dev->fresh = false;
	dev->page_shift = 12;
	dev->out_high = 0;
	dev->in_high = 0;
	dev->result = 0;
	memset(dev->said, 0, sizeof(dev->said));
	if (had_driver && dev->ports.driver_gone)
		dev->ports.driver_gone(dev->ports.ctx);
	dev->resetting = false;
}

int dev_new(const struct dev_config *config, const struct dev_ports *ports, struct dev **ret_dev)
{
	struct dev *dev;

	if (config->cid < VMCI_CID_FIRST_VM || config->cid == VMCI_INVALID_ID)
		return -EINVAL;
	if (config->irq != DEV_IRQ_MSIX && config->irq != DEV_IRQ_MSI)
		return -EINVAL;
	if (config->window && (config->window < LIMIT_WINDOW_MIN || config->window > LIMIT_WINDOW_MAX ||
			       config->window & (config->window - 1)))
		return -EINVAL;
	dev = calloc(1, sizeof(*dev));
	if (!dev)
		return -ENOMEM;
	dev->config = *config;
	dev->ports = *ports;
	dev->carry = ports->carry ? ports->carry : &dev->own;
	dev->offered =
		VMCI_CAP_DATAGRAM | VMCI_CAP_NOTIFICATIONS | (config->classic ? 0 : VMCI_CAP_DMA_DATAGRAM);
	dev->pairs.next_rid = VMCI_RID_FIRST_DYNAMIC;
	dev_reset(dev);
	*ret_dev = dev;
	return 0;
}

struct dev *dev_free(struct dev *dev)
{
	if (dev)
		dev_driver_reset(dev);
	free(dev);
	return NULL;
}

void dev_reset(struct dev *dev)
{
	dev_driver_reset(dev);
	dev_space_init(&dev->space, &dev->config);
	memset(dev->notes, 0, sizeof(dev->notes));
}

/* --- The VMM's side ------------------------------------------------------------------ */

uint64_t dev_bar_size(const struct dev *dev, unsigned bar)
{
	switch (bar) {
	case 0:
		return VMCI_PORT_BAR_SIZE;
	case 1:
		return dev->config.classic ? VMCI_CLASSIC_BAR_SIZE : VMCI_MMIO_BAR_SIZE;
	case VMCI_WINDOW_BAR:
		return dev->config.window;
	default:
		return 0;
	}
}

bool dev_bar_is_io(const struct dev *dev, unsigned bar)
{
	(void)dev;
	return bar == 0;
}

unsigned dev_msix_count(const struct dev *dev)
{
	if (dev->config.irq != DEV_IRQ_MSIX)
		return 0;
	return dev->config.classic ? VMCI_CLASSIC_VECTORS : VMCI_MMIO_VECTORS;
}

unsigned dev_msi_count(const struct dev *dev)
{
	return dev->config.irq == DEV_IRQ_MSI;
}

uint64_t dev_pba_offset(const struct dev *dev)
{
	return dev->config.classic ? VMCI_CLASSIC_PBA_OFFSET : VMCI_MMIO_PBA_OFFSET;
}

void dev_config_read(struct dev *dev, uint64_t off, void *buf, size_t len)
{
	dev_space_read(&dev->space, off, buf, len);
}

void dev_config_write(struct dev *dev, uint64_t off, const void *buf, size_t len)
{
	bool was_master = dev_space_is_master(&dev->space);

	dev_space_write(&dev->space, off, buf, len);
	if (was_master && !dev_space_is_master(&dev->space)) {
		if (dev->acked)
			dev_note(dev, DEV_NOTE_MASTER_OFF, LOG_LEVEL_DEBUG,
				 "bus mastering off: device reset");
		dev_driver_reset(dev);
	}
	dev_intr_update(dev);
}

/**
 * find_regs() - which part of an access to a BAR goes to the register file?
 * @off, @len:  the access; changed to the register file's offset, and the part's length
 * @ret_skip:   bytes of the access in front of the part
 *
 * Return: is there such a part?
 */
static bool find_regs(const struct dev *dev, unsigned bar, uint64_t *off, size_t *len, size_t *ret_skip)
{
	uint64_t start = *off;
	size_t skip = 0;

	if (bar == 0) {
		*ret_skip = 0;
		return true;
	}
	if (bar != 1 || dev->config.classic)
		return false;
	if (start < VMCI_MMIO_REGS_OFFSET) {
		if (VMCI_MMIO_REGS_OFFSET - start >= *len)
			return false;
		skip = (size_t)(VMCI_MMIO_REGS_OFFSET - start);
	}
	*off = start + skip - VMCI_MMIO_REGS_OFFSET;
	*len -= skip;
	*ret_skip = skip;
	return *off < VMCI_MMIO_REGS_SIZE;
}

void dev_bar_read(struct dev *dev, unsigned bar, uint64_t off, void *buf, size_t len)
{
	size_t part = len;
	size_t skip;

	memset(buf, 0, len);
	if (find_regs(dev, bar, &off, &part, &skip))
		dev_regs_read(dev, off, (uint8_t *)buf + skip, part);
}

void dev_bar_write(struct dev *dev, unsigned bar, uint64_t off, const void *buf, size_t len)
{
	size_t skip;

	if (find_regs(dev, bar, &off, &len, &skip))
		dev_regs_write(dev, off, (const uint8_t *)buf + skip, len);
}

/* --- The host's side ---------------------------------------------------------------- */

uint32_t dev_cid(const struct dev *dev)
{
	return dev->config.cid;
}

bool dev_is_active(const struct dev *dev)
{
	return (dev->acked & VMCI_CAP_DATAGRAM) && dev->intr.enabled;
}

bool dev_is_drained(const struct dev *dev)
{
	return !dev->inbox.count && !dev->pairs.owed_first && dev_drain_is_empty(&dev->carry->drain);
}

int32_t dev_queue(struct dev *dev, const uint8_t *dg, size_t size)
{
	int32_t r;

	if (!(dev->acked & VMCI_CAP_DATAGRAM))
		return VMCI_ERROR_DST_UNREACHABLE;
	r = dev_inbox_push(&dev->inbox, dg, size, event_is_source(dg_parse(dg).src));
	if (r) {
		dev_note(dev, DEV_NOTE_QUEUE_FULL, LOG_LEVEL_WARN,
			 "queue to the guest is full (%u datagrams, %zu bytes)", dev->inbox.count,
			 dev->inbox.bytes);
		dev->starved = true;
		return r;
	}
	dev_intr_raise(dev, VMCI_CAUSE_DATAGRAM);
	return (int32_t)size;
}

void dev_taken(struct dev *dev)
{
	dev_pairs_flush(dev);
	if (!dev->starved)
		return;
	dev->starved = false;
	if (dev->ports.room)
		dev->ports.room(dev->ports.ctx);
}

void dev_let_go(struct dev *dev)
{
	dev->own = *dev->carry;
	dev->carry = &dev->own;
}

void dev_adopt(struct dev *dev, const struct dev_carry *left, bool sending)
{
	if (!dev->acked)
		return;
	dev->adopted = true;
	dev_drain_adopt(&dev->carry->drain, &left->drain);
	/* Its beginning is lost, so the rest is worth nothing. */
	dev->outbox.swallow = sending || left->sending;
}

bool dev_carry_taken(const struct dev_carry *left, size_t pos, uint8_t *ret_byte)
{
	const struct dev_drain *drain = &left->drain;

	if (drain->pos == pos)
		return false;
	*ret_byte = pos < drain->data && pos < DRAIN_LARGE ? drain->burst[pos] : 0xff;
	return true;
}

void dev_void_pairs(struct dev *dev)
{
	const struct event event = { .id = VMCI_EVENT_QP_RESUMED };
	uint8_t buf[EVENT_MAX_SIZE];

	if (!dev->adopted)
		return;
	dev_queue(dev, buf, event_build(buf, dev->config.cid, &event));
}

int32_t dev_deliver(struct dev *dev, const uint8_t *dg, size_t size)
{
	struct dg_header h;

	if (size < VMCI_DG_HEADER_SIZE || size > VMCI_DG_MAX_SIZE)
		return VMCI_ERROR_INVALID_ARGS;
	h = dg_parse(dg);
	if (h.payload_size != size - VMCI_DG_HEADER_SIZE || h.dst.context != dev->config.cid ||
	    h.dst.resource == VMCI_INVALID_ID)
		return VMCI_ERROR_INVALID_ARGS;
	return dev_queue(dev, dg, size);
}
