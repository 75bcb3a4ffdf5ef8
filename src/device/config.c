/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * DOC: Theory of operation
 *
 * Two arrays: what is there, and which bits may be written. A write takes the writable bits and
 * leaves the others, which is all that PCI asks: BAR sizing works because the low address bits of
 * a BAR are read-only, a register that does not exist reads 0 whatever is written, and nothing is
 * ever an error (vfio-user reference, 8).
 */
#include "device/config.h"

#include <string.h>

#include "base/bytes.h"
#include "vmci/defs.h"

#define COMMAND 0x04
#define COMMAND_IO 0x0001
#define COMMAND_MEMORY 0x0002
#define COMMAND_MASTER 0x0004
#define COMMAND_PARITY 0x0040
#define COMMAND_SERR 0x0100
#define COMMAND_INTX_DISABLE 0x0400
#define STATUS 0x06
#define STATUS_INTERRUPT 0x0008
#define STATUS_CAPABILITIES 0x0010
#define STATUS_FAST_BACK 0x0080
#define STATUS_DEVSEL_MEDIUM 0x0200
#define CACHE_LINE 0x0c
#define LATENCY 0x0d
#define BAR(i) (0x10 + 4 * (i))
#define BAR_IO 0x1u
#define BAR_MEMORY64 0x4u
#define BAR_PREFETCHABLE 0x8u
#define SUBSYSTEM 0x2c
#define CAPABILITIES 0x34
#define INTERRUPT_LINE 0x3c
#define INTERRUPT_PIN 0x3d
#define MIN_GRANT 0x3e
#define MAX_LATENCY 0x3f
#define MSI 0x40
#define MSIX 0x58

#define CAP_MSI 0x05
#define MSI_64BIT 0x0080
#define MSI_ENABLE 0x0001
#define CAP_MSIX 0x11
#define MSIX_ENABLE 0x8000
#define MSIX_MASK_ALL 0x4000
#define MSIX_BIR 1u

static void put16(struct dev_space *space, unsigned off, uint16_t value, uint16_t writable)
{
	put_le16(space->bytes + off, value);
	put_le16(space->writable + off, writable);
}

static void put32(struct dev_space *space, unsigned off, uint32_t value, uint32_t writable)
{
	put_le32(space->bytes + off, value);
	put_le32(space->writable + off, writable);
}

/* One message, 64-bit address, no mask bits: VMCI reference, 1.1. */
static void init_msi(struct dev_space *space)
{
	space->bytes[CAPABILITIES] = MSI;
	space->bytes[MSI] = CAP_MSI;
	put16(space, MSI + 2, MSI_64BIT, MSI_ENABLE);
	put32(space, MSI + 4, 0, 0xfffffffc);
	put32(space, MSI + 8, 0, 0xffffffff);
	put16(space, MSI + 12, 0, 0xffff);
}

static void init_msix(struct dev_space *space, bool classic)
{
	uint16_t vectors = classic ? VMCI_CLASSIC_VECTORS : VMCI_MMIO_VECTORS;
	uint32_t pba = classic ? VMCI_CLASSIC_PBA_OFFSET : VMCI_MMIO_PBA_OFFSET;

	space->bytes[CAPABILITIES] = MSIX;
	space->bytes[MSIX] = CAP_MSIX;
	put16(space, MSIX + 2, (uint16_t)(vectors - 1), MSIX_ENABLE | MSIX_MASK_ALL);
	put32(space, MSIX + 4, MSIX_BIR, 0);
	put32(space, MSIX + 8, pba | MSIX_BIR, 0);
}

void dev_space_init(struct dev_space *space, const struct dev_config *config)
{
	uint32_t bar1 = config->classic ? VMCI_CLASSIC_BAR_SIZE : VMCI_MMIO_BAR_SIZE;

	memset(space, 0, sizeof(*space));
	put16(space, 0x00, VMCI_PCI_VENDOR, 0);
	put16(space, 0x02, VMCI_PCI_DEVICE, 0);
	put16(space, COMMAND, 0,
	      COMMAND_IO | COMMAND_MEMORY | COMMAND_MASTER | COMMAND_PARITY | COMMAND_SERR |
		      COMMAND_INTX_DISABLE);
	put16(space, STATUS, STATUS_CAPABILITIES | STATUS_FAST_BACK | STATUS_DEVSEL_MEDIUM, 0);
	put32(space, 0x08, VMCI_PCI_CLASS << 8 | VMCI_PCI_REVISION, 0);
	space->writable[CACHE_LINE] = 0xff;
	space->bytes[LATENCY] = 64;
	space->writable[LATENCY] = 0xff;
	put32(space, BAR(0), BAR_IO, ~(VMCI_PORT_BAR_SIZE - 1));
	put32(space, BAR(1), BAR_MEMORY64, ~(bar1 - 1));
	put32(space, BAR(2), 0, 0xffffffff);
	if (config->window) {
		put32(space, BAR(VMCI_WINDOW_BAR), BAR_MEMORY64 | BAR_PREFETCHABLE, (uint32_t)~(config->window - 1));
		put32(space, BAR(VMCI_WINDOW_BAR + 1), 0, 0xffffffff);
	}
	put16(space, SUBSYSTEM, VMCI_PCI_VENDOR, 0);
	put16(space, SUBSYSTEM + 2, VMCI_PCI_DEVICE, 0);
	space->writable[INTERRUPT_LINE] = 0xff;
	space->bytes[INTERRUPT_PIN] = config->intx;
	space->bytes[MIN_GRANT] = 6;
	space->bytes[MAX_LATENCY] = 255;
	if (config->irq == DEV_IRQ_MSI)
		init_msi(space);
	else
		init_msix(space, config->classic);
}

void dev_space_read(const struct dev_space *space, uint64_t off, uint8_t *buf, size_t len)
{
	for (size_t i = 0; i < len; i++)
		buf[i] = off < CONFIG_SIZE && i < CONFIG_SIZE - off ? space->bytes[off + i] : 0;
}

void dev_space_write(struct dev_space *space, uint64_t off, const uint8_t *buf, size_t len)
{
	for (size_t i = 0; i < len && off < CONFIG_SIZE && i < CONFIG_SIZE - off; i++) {
		uint8_t mask = space->writable[off + i];

		space->bytes[off + i] = (uint8_t)((space->bytes[off + i] & ~mask) | (buf[i] & mask));
	}
}

bool dev_space_is_master(const struct dev_space *space)
{
	return get_le16(space->bytes + COMMAND) & COMMAND_MASTER;
}

bool dev_space_has_intx(const struct dev_space *space)
{
	return space->bytes[INTERRUPT_PIN] && !(get_le16(space->bytes + COMMAND) & COMMAND_INTX_DISABLE);
}

void dev_space_set_pending(struct dev_space *space, bool pending)
{
	if (pending)
		space->bytes[STATUS] |= STATUS_INTERRUPT;
	else
		space->bytes[STATUS] &= (uint8_t)~STATUS_INTERRUPT;
}
