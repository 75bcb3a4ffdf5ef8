// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * DOC: Theory of operation
 *
 * Sends and reads have a block of memory each: a header (struct vmci_dma_header_wire), then for sends the datagram, for
 * reads one element that describes the data area, which begins at the next page (reference, 3.3 and 3.6). The write of
 * the block's address starts it; the device says that it is done by the header's busy flag: 0 for sends, 1 for reads.
 *
 * A send is waited for by looking, first without sleeping: it takes the device as long as the write itself. A read has
 * an interrupt, which wakes us, but usually is done as soon: it is looked at for a moment, and no longer, as on a busy
 * host the device may need the processor on which we look. Both end when the device is gone, and a device that takes
 * VMCI_PATIENCE seconds is given up.
 */
#include <linux/delay.h>
#include <linux/dma-mapping.h>
#include <linux/jiffies.h>
#include <linux/ktime.h>

#include "device.h"
#include "wire.h"

#define BUSY offsetof(struct vmci_dma_header_wire, busy)
#define OPCODE offsetof(struct vmci_dma_header_wire, opcode)
#define SIZE offsetof(struct vmci_dma_header_wire, size)
#define RESULT offsetof(struct vmci_dma_header_wire, result)
#define DATA VMCI_DMA_HEADER_SIZE

#define BLOCK (PAGE_SIZE + VMCI_DG_MAX_SIZE)

/* What a device that does not write the header's result leaves there: no code of VMCI. */
#define NO_RESULT 0x7fffffff00000000ull

/* Microseconds that we look before we sleep; and for which we then sleep, where nothing wakes us. */
#define SEND_SPIN_US 1000
#define READ_SPIN_US 30
#define SLEEP_US 50

static void free_long(struct vmci_device *vd)
{
	if (vd->tx_long)
		dma_free_coherent(&vd->pdev->dev, vd->tx_long_size, vd->tx_long, vd->tx_long_dma);
	vd->tx_long = NULL;
}

static void dma_free(struct vmci_device *vd)
{
	struct device *dev = &vd->pdev->dev;

	if (vd->tx)
		dma_free_coherent(dev, BLOCK, vd->tx, vd->tx_dma);
	if (vd->rx)
		dma_free_coherent(dev, BLOCK, vd->rx, vd->rx_dma);
	vd->tx = NULL;
	vd->rx = NULL;
	vd->buffer = NULL;
	free_long(vd);
}

static int dma_alloc(struct vmci_device *vd)
{
	struct device *dev = &vd->pdev->dev;

	vd->tx = dma_alloc_coherent(dev, BLOCK, &vd->tx_dma, GFP_KERNEL);
	vd->rx = dma_alloc_coherent(dev, BLOCK, &vd->rx_dma, GFP_KERNEL);
	if (!vd->tx || !vd->rx) {
		dma_free(vd);
		return -ENOMEM;
	}
	vd->buffer = vd->rx + PAGE_SIZE;
	return 0;
}

static void dma_start(struct vmci_device *vd)
{
	free_long(vd);
	vmci_write(vd, VMCI_REG_PAGE_SHIFT, PAGE_SHIFT);
	vmci_write(vd, VMCI_REG_DATA_IN_HIGH, upper_32_bits(vd->rx_dma));
	vmci_write(vd, VMCI_REG_DATA_OUT_HIGH, upper_32_bits(vd->tx_dma));
}

static bool is_busy(const void *block)
{
	return READ_ONCE(*(const __le32 *)(block + BUSY)) != 0;
}

/* Waits without sleeping, for a moment. */
static bool spin(const void *block, bool busy, unsigned int us)
{
	ktime_t end = ktime_add_us(ktime_get(), us);

	do {
		if (is_busy(block) == busy)
			return true;
		cpu_relax();
	} while (ktime_before(ktime_get(), end));
	return false;
}

static bool wait_sent(struct vmci_device *vd)
{
	unsigned long end = jiffies + VMCI_PATIENCE * HZ;

	if (spin(vd->tx, false, SEND_SPIN_US))
		return true;
	while (!vmci_is_dead(vd)) {
		usleep_range(SLEEP_US, 2 * SLEEP_US);
		if (!is_busy(vd->tx))
			return true;
		if (vmci_is_absent(vd))
			vmci_lost(vd, "the device is gone");
		else if (time_after(jiffies, end))
			vmci_lost(vd, "the device does not finish a send");
	}
	return false;
}

/* The device's result is in the header and in a register; the register costs an exit. */
static int dma_result(struct vmci_device *vd)
{
	u64 result = get_le64(vd->tx + RESULT);

	return result == NO_RESULT ? vmci_result(vd) : (int)result;
}

/* Sends what the block describes. */
static int run(struct vmci_device *vd, u32 opcode, u32 size)
{
	put_le32(vd->tx + OPCODE, opcode);
	put_le32(vd->tx + SIZE, size);
	put_le64(vd->tx + RESULT, NO_RESULT);
	WRITE_ONCE(*(__le32 *)(vd->tx + BUSY), cpu_to_le32(1));
	dma_wmb();
	vmci_write(vd, VMCI_REG_DATA_OUT_LOW, lower_32_bits(vd->tx_dma));
	if (!wait_sent(vd))
		return VMCI_ERROR_DEVICE_NOT_FOUND;
	dma_rmb();
	return dma_result(vd);
}

/* Lists of pages can be longer than the block: they go as an element. */
static int send_long(struct vmci_device *vd, const void *dg, size_t size)
{
	int result;

	vd->tx_long = dma_alloc_coherent(&vd->pdev->dev, size, &vd->tx_long_dma, GFP_KERNEL | __GFP_NOWARN);
	if (!vd->tx_long)
		return VMCI_ERROR_NO_MEM;
	vd->tx_long_size = size;
	memcpy(vd->tx_long, dg, size);
	put_le64(vd->tx + DATA, vd->tx_long_dma);
	put_le64(vd->tx + DATA + 8, size);
	result = run(vd, VMCI_DMA_SG, 1);
	/* A device that is not done may still read it, until it was reset. */
	if (!vmci_is_dead(vd))
		free_long(vd);
	return result;
}

static int dma_send(struct vmci_device *vd, const void *dg, size_t size)
{
	if (size > BLOCK - DATA)
		return send_long(vd, dg, size);
	memcpy(vd->tx + DATA, dg, size);
	return run(vd, VMCI_DMA_INLINE, (u32)size);
}

static int dma_read(struct vmci_device *vd, u32 at, u32 want)
{
	unsigned long end = jiffies + VMCI_PATIENCE * HZ;

	/* If the device forgets the end marker, nothing old is taken for new. */
	if (want >= VMCI_DG_HEADER_SIZE && !at)
		memset(vd->buffer, 0xff, VMCI_DG_HEADER_SIZE);
	put_le32(vd->rx + OPCODE, VMCI_DMA_SG);
	put_le32(vd->rx + SIZE, 1);
	put_le64(vd->rx + DATA, vd->rx_dma + PAGE_SIZE + at);
	put_le64(vd->rx + DATA + 8, want);
	WRITE_ONCE(*(__le32 *)(vd->rx + BUSY), 0);
	dma_wmb();
	if (vmci_is_dead(vd))
		return -ENODEV;
	vmci_write(vd, VMCI_REG_DATA_IN_LOW, lower_32_bits(vd->rx_dma));
	if (!spin(vd->rx, true, READ_SPIN_US)) {
		while (!wait_event_timeout(vd->done, is_busy(vd->rx) || vmci_is_dead(vd), HZ / 20)) {
			if (vmci_is_absent(vd))
				vmci_lost(vd, "the device is gone");
			else if (time_after(jiffies, end))
				vmci_lost(vd, "the device does not finish a read");
		}
		if (!is_busy(vd->rx))
			return -ENODEV;
	}
	dma_rmb();
	return 0;
}

const struct vmci_path vmci_dma_path = {
	.name = "DMA",
	.vectors = 3,
	.caps = VMCI_CAP_DATAGRAM | VMCI_CAP_DMA_DATAGRAM,
	.page = 0,
	.alloc = dma_alloc,
	.free = dma_free,
	.start = dma_start,
	.send = dma_send,
	.read = dma_read,
};
