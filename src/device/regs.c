/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * DOC: Theory of operation
 *
 * One register file serves the ports (BAR0) and the MMIO window (in BAR1): VMCI reference, 2.
 * Drivers use whole aligned 32-bit accesses, and bytes on the two stream registers. Other accesses
 * are defined like this:
 *
 *  - An access is cut at the borders of 32-bit registers.
 *  - A stream register takes or gives as many bytes as its piece has, if that starts at the register.
 *  - Of another register, reads return the bytes asked for; a read has its side effects if it
 *    includes the lowest byte.
 *  - A write acts if it includes the lowest byte; bytes that are not written count as 0.
 *  - The pieces of a write are handled from the highest address down, so that a 64-bit write of a
 *    DMA address latches its upper half before the lower half starts the transfer.
 */
#include "device/priv.h"

#include <string.h>

#include "base/bytes.h"

#define REGS_END (VMCI_REG_PAGE_SHIFT + 4)

/* A drain of the ports has ended. */
static void drain_ended(struct dev *dev)
{
	dev_taken(dev);
	if (dev->inbox.count)
		dev_intr_raise(dev, VMCI_CAUSE_DATAGRAM);
}

static void read_stream(struct dev *dev, uint8_t *buf, size_t len)
{
	bool ended;

	for (size_t i = 0; i < len; i++) {
		buf[i] = dev_drain_next(&dev->carry->drain, &dev->inbox, &ended);
		if (ended)
			drain_ended(dev);
	}
}

static void write_stream(struct dev *dev, const uint8_t *buf, size_t len)
{
	struct dev_outbox *outbox = &dev->outbox;

	dev->carry->sending = 1;
	for (size_t i = 0; i < len; i++) {
		if (!dev_outbox_put(outbox, buf[i]))
			continue;
		dev->result = dev_send(dev, outbox->buf, outbox->size);
		dev_outbox_clear(outbox);
	}
}

/* The guest asks for the result of what it sent through the ports: reference, 3.2. */
static int64_t read_result(struct dev *dev)
{
	dev->carry->sending = 0;
	if (!dev_outbox_abort(&dev->outbox))
		return dev->result;
	if (dev->adopted) {
		dev->result = VMCI_SUCCESS;
		return dev->result;
	}
	dev_note(dev, DEV_NOTE_OUTBOX, LOG_LEVEL_WARN, "datagram on the ports is incomplete or too large");
	dev->result = VMCI_ERROR_INVALID_ARGS;
	return dev->result;
}

/* @acts: the lowest byte is read, too. */
static uint32_t reg_read(struct dev *dev, uint32_t reg, bool acts)
{
	switch (reg) {
	case VMCI_REG_STATUS:
		return dev->intr.enabled ? VMCI_STATUS_INT_ON : 0;
	case VMCI_REG_ICR:
		return acts ? dev_intr_ack(dev) : dev->intr.icr;
	case VMCI_REG_IMR:
		return dev->intr.imr;
	case VMCI_REG_CAPS:
		return !dev->ports.mem_is_usable || dev->ports.mem_is_usable(dev->ports.ctx) ? dev->offered : 0;
	case VMCI_REG_RESULT_LOW:
		return (uint32_t)(acts ? read_result(dev) : dev->result);
	case VMCI_REG_RESULT_HIGH:
		return (uint32_t)((uint64_t)dev->result >> 32);
	case VMCI_REG_DATA_OUT_HIGH:
		return dev->out_high;
	case VMCI_REG_DATA_IN_HIGH:
		return dev->in_high;
	case VMCI_REG_PAGE_SHIFT:
		return dev->offered & VMCI_CAP_DMA_DATAGRAM ? dev->page_shift : 0;
	default:
		return 0;
	}
}

static void write_control(struct dev *dev, uint32_t v)
{
	if (v & VMCI_CONTROL_RESET) {
		dev_note(dev, DEV_NOTE_RESET, LOG_LEVEL_DEBUG, "driver resets the device");
		dev_driver_reset(dev);
		return;
	}
	if (v & VMCI_CONTROL_INT_ENABLE)
		dev_intr_set_enabled(dev, true);
	if (v & VMCI_CONTROL_INT_DISABLE)
		dev_intr_set_enabled(dev, false);
}

/* A driver begins: whatever an earlier one left behind is gone (reference, 2.3). */
static void write_caps(struct dev *dev, uint32_t v)
{
	dev_driver_reset(dev);
	dev->acked = v & dev->offered;
	dev->fresh = true;
	dev_note(dev, DEV_NOTE_SESSION, LOG_LEVEL_INFO, "driver uses capabilities 0x%x of 0x%x", v,
		 dev->offered);
}

static void write_page_shift(struct dev *dev, uint32_t g_shift)
{
	if (g_shift != 12 && g_shift != 14 && g_shift != 16) {
		dev_note(dev, DEV_NOTE_PAGE_SHIFT, LOG_LEVEL_WARN,
			 "page shift %u is not possible, taken as 12", g_shift);
		g_shift = 12;
	}
	dev->page_shift = g_shift;
}

static void dma_reg_write(struct dev *dev, uint32_t reg, uint32_t v)
{
	switch (reg) {
	case VMCI_REG_DATA_OUT_LOW:
		dev_dma_send(dev, v);
		break;
	case VMCI_REG_DATA_OUT_HIGH:
		dev->out_high = v;
		break;
	case VMCI_REG_DATA_IN_LOW:
		dev_dma_receive(dev, v);
		break;
	case VMCI_REG_DATA_IN_HIGH:
		dev->in_high = v;
		break;
	case VMCI_REG_PAGE_SHIFT:
		write_page_shift(dev, v);
		break;
	default:
		break;
	}
}

static void reg_write(struct dev *dev, uint32_t reg, uint32_t v)
{
	switch (reg) {
	case VMCI_REG_CONTROL:
		write_control(dev, v);
		break;
	case VMCI_REG_IMR:
		dev_intr_set_mask(dev, v);
		break;
	case VMCI_REG_CAPS:
		write_caps(dev, v);
		break;
	default:
		if (dev->offered & VMCI_CAP_DMA_DATAGRAM)
			dma_reg_write(dev, reg, v);
		break;
	}
}

void dev_regs_read(struct dev *dev, uint64_t off, uint8_t *buf, size_t len)
{
	memset(buf, 0, len);
	for (size_t i = 0, n; i < len && off + i < REGS_END; i += n) {
		uint32_t sub = (off + i) & 3;
		uint32_t reg = (uint32_t)(off + i) - sub;
		uint8_t word[4];

		n = len - i < 4 - sub ? len - i : 4 - sub;
		if (reg == VMCI_REG_DATA_IN) {
			if (sub == 0)
				read_stream(dev, buf + i, n);
			continue;
		}
		put_le32(word, reg_read(dev, reg, sub == 0));
		memcpy(buf + i, word + sub, n);
	}
}

void dev_regs_write(struct dev *dev, uint64_t off, const uint8_t *buf, size_t len)
{
	if (off >= REGS_END)
		return;
	if (len > REGS_END - off)
		len = (size_t)(REGS_END - off);
	for (size_t end = len, start; end > 0; end = start) {
		uint32_t reg = (uint32_t)(off + end - 1) & ~UINT32_C(3);
		uint8_t word[4] = { 0 };

		start = reg > off ? reg - (size_t)off : 0;
		if (off + start != reg)
			continue;
		if (reg == VMCI_REG_DATA_OUT) {
			write_stream(dev, buf + start, end - start);
			continue;
		}
		memcpy(word, buf + start, end - start);
		reg_write(dev, reg, get_le32(word));
	}
}
