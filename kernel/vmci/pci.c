// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * DOC: Theory of operation
 *
 * Probing maps the registers, chooses the path, allocates what the device writes to, and brings the device up; that is
 * a session (device.c). Taking it down resets it and switches its bus mastering off, after which it uses no memory of
 * ours; then nothing of ours uses the device. The device goes up and down:
 *
 *	probe				up, and the notifiers are told
 *	suspend, reset by PCI		down; resume: up again. Bells are linked anew; queue pairs are dead, and clients
 *					are told so (VMCI_EVENT_QP_RESUMED)
 *	gone or broken (vmci_lost())	down, and the notifiers are told; from a work, since any thread finds it out
 *	shutdown			down: the kernel that comes by kexec finds a device that writes nowhere
 *	remove				down, if it is not, and the notifiers are told
 *
 * vmci_device.state serialises these. An interrupt's thread calls callbacks, which may send: so interrupts are freed
 * outside of the device's lock, when the device is not to be reached any more.
 */
#include <linux/delay.h>
#include <linux/dma-mapping.h>
#include <linux/interrupt.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/pci.h>
#include <linux/slab.h>

#include "bell.h"
#include "device.h"
#include "event.h"
#include "pci.h"
#include "qpair.h"
#include "wire.h"

static bool disable_msi, disable_msix, ports;
module_param(disable_msi, bool, 0444);
MODULE_PARM_DESC(disable_msi, "do not use MSI (default: N)");
module_param(disable_msix, bool, 0444);
MODULE_PARM_DESC(disable_msix, "do not use MSI-X (default: N)");
module_param(ports, bool, 0444);
MODULE_PARM_DESC(ports, "use I/O ports even where the device has registers in memory (default: N)");

#define PORT_BAR 0
#define MEMORY_BAR 1

/* The address bits that fit into a page number of 32 bits. */
#define PPN32_BITS (32 + PAGE_SHIFT)

/* One device at a time. */
static atomic_t bound = ATOMIC_INIT(0);

/* --- Interrupts ------------------------------------------------------------------------------------------------- */

static irqreturn_t wake_thread(int irq, void *data)
{
	return IRQ_WAKE_THREAD;
}

static irqreturn_t on_datagrams(int irq, void *data)
{
	vmci_receive(data);
	return IRQ_HANDLED;
}

static irqreturn_t on_bells(int irq, void *data)
{
	struct vmci_device *vd = data;

	if (vd->bitmap)
		vmci_bells_scan(vd->bitmap);
	return IRQ_HANDLED;
}

static irqreturn_t on_done(int irq, void *data)
{
	struct vmci_device *vd = data;

	wake_up(&vd->done);
	return IRQ_HANDLED;
}

/* With one vector for all the device says why, once. */
static irqreturn_t on_any(int irq, void *data)
{
	struct vmci_device *vd = data;
	u32 causes;

	if (vmci_is_dead(vd))
		return IRQ_NONE;
	causes = vmci_read(vd, VMCI_REG_ICR);
	if (!causes || causes == ~0u)
		return IRQ_NONE;
	if (causes & VMCI_CAUSE_DMA_DATAGRAM)
		wake_up(&vd->done);
	atomic_or((int)causes, &vd->causes);
	return IRQ_WAKE_THREAD;
}

static irqreturn_t on_any_thread(int irq, void *data)
{
	struct vmci_device *vd = data;
	u32 causes = (u32)atomic_xchg(&vd->causes, 0);

	if (causes & VMCI_CAUSE_NOTIFICATION)
		on_bells(irq, vd);
	if (causes & VMCI_CAUSE_DATAGRAM)
		on_datagrams(irq, vd);
	return IRQ_HANDLED;
}

struct vector {
	irq_handler_t hard, thread;
};

static const struct vector exclusive[] = {
	{ wake_thread, on_datagrams },
	{ wake_thread, on_bells },
	{ on_done, NULL },
};

static const struct vector shared = { on_any, on_any_thread };

static void free_vectors(struct vmci_device *vd)
{
	while (vd->vectors > 0) {
		vd->vectors--;
		free_irq(pci_irq_vector(vd->pdev, vd->vectors), vd);
	}
	pci_free_irq_vectors(vd->pdev);
}

/* Requests @count interrupts, all or nothing. */
static int request_vectors(struct vmci_device *vd, int count, const struct vector *vectors, unsigned long flags)
{
	int r;

	for (vd->vectors = 0; vd->vectors < count; vd->vectors++) {
		const struct vector *v = &vectors[vd->vectors];

		r = request_threaded_irq(pci_irq_vector(vd->pdev, vd->vectors), v->hard, v->thread, flags,
					 "vmci", vd);
		if (r) {
			free_vectors(vd);
			return r;
		}
	}
	return 0;
}

static int get_vectors(struct vmci_device *vd)
{
	struct pci_dev *pdev = vd->pdev;
	int want = (int)vd->path->vectors;
	int r = -ENOSPC;

	if (!disable_msix)
		r = pci_alloc_irq_vectors(pdev, want, want, PCI_IRQ_MSIX);
	if (r == want)
		return request_vectors(vd, want, exclusive, 0);
	r = pci_alloc_irq_vectors(pdev, 1, 1, PCI_IRQ_INTX | (disable_msix ? 0 : PCI_IRQ_MSIX) |
				  (disable_msi ? 0 : PCI_IRQ_MSI));
	if (r < 0)
		return r;
	return request_vectors(vd, 1, &shared, IRQF_SHARED);
}

/* --- Up --------------------------------------------------------------------------------------------------------- */

/* The capabilities that we will use, or 0: this is not for us. */
static u32 choose_caps(struct vmci_device *vd, const struct vmci_path *path)
{
	u32 caps = vmci_read(vd, VMCI_REG_CAPS);

	if (caps == ~0u || (caps & path->caps) != path->caps)
		return 0;
	return path->caps | (caps & (VMCI_CAP_NOTIFICATIONS | VMCI_CAP_PPN64));
}

static int set_bitmap(struct vmci_device *vd)
{
	u8 dg[VMCI_DG_HEADER_SIZE + 8];

	put_le64(dg + VMCI_DG_HEADER_SIZE, vd->bitmap_dma >> PAGE_SHIFT);
	return vmci_hypercall(vd, VMCI_HC_SET_NOTIFY_BITMAP, dg, sizeof(dg));
}

/* Does the device know the hypercall that we cannot do without? */
static int query_resources(struct vmci_device *vd)
{
	u8 dg[VMCI_DG_HEADER_SIZE + 12];

	put_le32(dg + VMCI_DG_HEADER_SIZE, 1);
	put_le32(dg + VMCI_DG_HEADER_SIZE + 4, 0);
	put_le32(dg + VMCI_DG_HEADER_SIZE + 8, VMCI_HC_GET_CONTEXT_ID);
	return vmci_hypercall(vd, VMCI_HC_RESOURCES_QUERY, dg, sizeof(dg));
}

static u32 get_context_id(struct vmci_device *vd)
{
	u8 dg[VMCI_DG_HEADER_SIZE];

	return (u32)vmci_hypercall(vd, VMCI_HC_GET_CONTEXT_ID, dg, sizeof(dg));
}

/* From here on the device does not know us, and writes nowhere. The read waits for the writes before it. */
static void reset(struct vmci_device *vd)
{
	vmci_write(vd, VMCI_REG_CONTROL, VMCI_CONTROL_RESET);
	vmci_read(vd, VMCI_REG_CAPS);
}

/* The device answers hypercalls, without interrupts. */
static int greet(struct vmci_device *vd, u32 *ret_context)
{
	struct device *dev = &vd->pdev->dev;
	int result;

	if (vd->bitmap) {
		memset(vd->bitmap, 0, PAGE_SIZE);
		result = set_bitmap(vd);
		if (result) {
			dev_err(dev, "it does not take the page of bells (%d)\n", result);
			return -ENXIO;
		}
	}
	result = query_resources(vd);
	if (result != 1) {
		dev_err(dev, "it does not know GET_CONTEXT_ID (%d)\n", result);
		return -ENXIO;
	}
	*ret_context = get_context_id(vd);
	if (*ret_context <= VMCI_CID_HOST || *ret_context >= (u32)-1000) {
		dev_err(dev, "it says that our context is %d\n", (int)*ret_context);
		return -ENXIO;
	}
	return 0;
}

/* Under vd->state. */
static int bring_up(struct vmci_device *vd)
{
	u32 context;
	int r;

	WRITE_ONCE(vd->dead, false);
	pci_set_master(vd->pdev);
	reset(vd);
	if ((choose_caps(vd, vd->path) & vd->caps) != vd->caps) {
		dev_err(&vd->pdev->dev, "it does not offer any more what it did\n");
		r = -ENXIO;
		goto fail;
	}
	vmci_write(vd, VMCI_REG_CAPS, vd->caps);
	vd->path->start(vd);
	r = greet(vd, &context);
	if (r)
		goto fail;
	atomic_set(&vd->causes, 0);
	r = get_vectors(vd);
	if (r) {
		dev_err(&vd->pdev->dev, "no interrupt (%d)\n", r);
		goto fail;
	}
	vmci_device_enter(vd, context);
	vmci_write(vd, VMCI_REG_IMR, VMCI_CAUSE_DATAGRAM | (vd->bitmap ? VMCI_CAUSE_NOTIFICATION : 0) |
		   (vd->path == &vmci_dma_path ? VMCI_CAUSE_DMA_DATAGRAM : 0));
	vmci_write(vd, VMCI_REG_CONTROL, VMCI_CONTROL_INT_ENABLE);
	vd->up = true;
	return 0;
fail:
	reset(vd);
	pci_clear_master(vd->pdev);
	WRITE_ONCE(vd->dead, true);
	cancel_work(&vd->lost);
	return r;
}

/* --- Down ------------------------------------------------------------------------------------------------------- */

/* Under vd->state. */
static void take_down(struct vmci_device *vd)
{
	if (!vd->up)
		return;
	vd->up = false;
	WRITE_ONCE(vd->dead, true);		/* nobody waits for it any more */
	vmci_device_leave(vd);
	reset(vd);
	pci_clear_master(vd->pdev);
	vmci_qpairs_end();
	vmci_device_unlock();
	wake_up(&vd->done);
	free_vectors(vd);
}

/* Down, and not to come again. */
static void retire(struct vmci_device *vd)
{
	mutex_lock(&vd->state);
	take_down(vd);
	vmci_bells_kill();
	vmci_device_tell(vd, false);
	mutex_unlock(&vd->state);
}

static void on_lost(struct work_struct *work)
{
	retire(container_of(work, struct vmci_device, lost));
}

/* --- Probe and remove ------------------------------------------------------------------------------------------- */

static bool has_memory(struct pci_dev *pdev)
{
	return pci_resource_flags(pdev, MEMORY_BAR) & IORESOURCE_MEM &&
	       pci_resource_len(pdev, MEMORY_BAR) == VMCI_MMIO_BAR_SIZE;
}

static bool has_ports(struct pci_dev *pdev)
{
	return pci_resource_flags(pdev, PORT_BAR) & IORESOURCE_IO &&
	       pci_resource_len(pdev, PORT_BAR) > VMCI_REG_PAGE_SHIFT;
}

/* Is the path that @regs are for possible? Then it is ours. */
static bool try_path(struct vmci_device *vd, const struct vmci_path *path, void __iomem *regs)
{
	if (!regs)
		return false;
	vd->regs = regs;
	vd->path = path;
	vd->caps = choose_caps(vd, path);
	if (vd->caps)
		return true;
	dev_info(&vd->pdev->dev, "no way by %s: it offers 0x%x\n", path->name, vmci_read(vd, VMCI_REG_CAPS));
	pci_iounmap(vd->pdev, regs);
	vd->regs = NULL;
	return false;
}

static int choose_path(struct vmci_device *vd)
{
	struct pci_dev *pdev = vd->pdev;

	if (has_memory(pdev) && !(ports && has_ports(pdev)) &&
	    try_path(vd, &vmci_dma_path,
		     pci_iomap_range(pdev, MEMORY_BAR, VMCI_MMIO_REGS_OFFSET, VMCI_MMIO_REGS_SIZE)))
		return 0;
	if (has_ports(pdev) && try_path(vd, &vmci_port_path, pci_iomap(pdev, PORT_BAR, 0)))
		return 0;
	dev_err(&pdev->dev, "no registers that we know, or no datagrams\n");
	return -ENXIO;
}

static void free_memory(struct vmci_device *vd)
{
	vd->path->free(vd);
	if (vd->bitmap)
		dma_free_coherent(&vd->pdev->dev, PAGE_SIZE, vd->bitmap, vd->bitmap_dma);
	vd->bitmap = NULL;
	kvfree(vd->bounce);
	vd->bounce = NULL;
}

static int alloc_memory(struct vmci_device *vd)
{
	struct device *dev = &vd->pdev->dev;
	int r;

	r = dma_set_mask_and_coherent(dev, DMA_BIT_MASK(vd->caps & VMCI_CAP_PPN64 ? 64 : PPN32_BITS));
	if (r)
		return r;
	r = vd->path->alloc(vd);
	if (r)
		return r;
	vd->bounce = kvmalloc(BURST_SIZE, GFP_KERNEL);
	if (vd->caps & VMCI_CAP_NOTIFICATIONS)
		vd->bitmap = dma_alloc_coherent(dev, PAGE_SIZE, &vd->bitmap_dma, GFP_KERNEL);
	if (vd->bounce && (vd->bitmap || !(vd->caps & VMCI_CAP_NOTIFICATIONS)))
		return 0;
	free_memory(vd);
	return -ENOMEM;
}

static int bars(struct pci_dev *pdev)
{
	return pci_select_bars(pdev, IORESOURCE_MEM | IORESOURCE_IO);
}

static int probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	struct vmci_device *vd;
	int r;

	if (atomic_cmpxchg(&bound, 0, 1)) {
		dev_err(&pdev->dev, "there is one already\n");
		return -EBUSY;
	}
	r = -ENOMEM;
	vd = kzalloc(sizeof(*vd), GFP_KERNEL);
	if (!vd)
		goto unbind;
	vd->pdev = pdev;
	vd->dead = true;
	mutex_init(&vd->state);
	init_waitqueue_head(&vd->done);
	INIT_WORK(&vd->lost, on_lost);
	pci_set_drvdata(pdev, vd);

	r = pci_enable_device(pdev);
	if (r)
		goto free;
	r = pci_request_selected_regions(pdev, bars(pdev), "vmci");
	if (r)
		goto disable;
	pci_set_master(pdev);
	r = choose_path(vd);
	if (r)
		goto release;
	r = alloc_memory(vd);
	if (r)
		goto unmap;
	mutex_lock(&vd->state);
	r = bring_up(vd);
	if (!r) {
		dev_info(&pdev->dev, "context %u, by %s, capabilities 0x%x, interrupts: %d\n", ovmci_context_id(),
			 vd->path->name, vd->caps, vd->vectors);
		vmci_device_tell(vd, true);
	}
	mutex_unlock(&vd->state);
	if (r)
		goto free_memory;
	return 0;

free_memory:
	cancel_work_sync(&vd->lost);
	free_memory(vd);
unmap:
	pci_iounmap(pdev, vd->regs);
release:
	pci_release_selected_regions(pdev, bars(pdev));
disable:
	pci_disable_device(pdev);
free:
	kfree(vd);
unbind:
	atomic_set(&bound, 0);
	return r;
}

static void remove(struct pci_dev *pdev)
{
	struct vmci_device *vd = pci_get_drvdata(pdev);

	retire(vd);
	cancel_work_sync(&vd->lost);
	free_memory(vd);
	pci_iounmap(pdev, vd->regs);
	pci_release_selected_regions(pdev, bars(pdev));
	pci_disable_device(pdev);
	kfree(vd);
	atomic_set(&bound, 0);
}

/* --- Shutdown, suspend, reset ----------------------------------------------------------------------------------- */

static void shutdown(struct pci_dev *pdev)
{
	struct vmci_device *vd = pci_get_drvdata(pdev);

	mutex_lock(&vd->state);
	take_down(vd);
	mutex_unlock(&vd->state);
}

static int suspend(struct device *dev)
{
	struct vmci_device *vd = dev_get_drvdata(dev);

	mutex_lock(&vd->state);
	take_down(vd);
	mutex_unlock(&vd->state);
	return 0;
}

static int resume(struct device *dev)
{
	const struct ovmci_event resumed = { .event = VMCI_EVENT_QP_RESUMED, .is_of_old = true };
	struct vmci_device *vd = dev_get_drvdata(dev);
	u32 before = ovmci_context_id();
	int r = 0;

	mutex_lock(&vd->state);
	if (before != VMCI_INVALID_ID)		/* else it was lost before */
		r = bring_up(vd);
	mutex_unlock(&vd->state);
	if (r)
		retire(vd);
	if (r || before == VMCI_INVALID_ID)
		return r;
	vmci_bells_rename(before, ovmci_context_id());
	vmci_bells_relink();
	if (ovmci_context_id() != before) {
		const struct ovmci_event update = {
			.event = VMCI_EVENT_CTX_ID_UPDATE,
			.context = ovmci_context_id(),
		};

		vmci_event_tell(&update);
	}
	vmci_event_tell(&resumed);
	return 0;
}

static DEFINE_SIMPLE_DEV_PM_OPS(pm_ops, suspend, resume);

static void reset_prepare(struct pci_dev *pdev)
{
	suspend(&pdev->dev);
}

static void reset_done(struct pci_dev *pdev)
{
	resume(&pdev->dev);
}

static const struct pci_error_handlers error_handlers = {
	.reset_prepare = reset_prepare,
	.reset_done = reset_done,
};

static const struct pci_device_id ids[] = {
	{ PCI_DEVICE(VMCI_PCI_VENDOR, VMCI_PCI_DEVICE) },
	{ }
};
MODULE_DEVICE_TABLE(pci, ids);

struct pci_driver vmci_pci_driver = {
	.name = "vmci",
	.id_table = ids,
	.probe = probe,
	.remove = remove,
	.shutdown = shutdown,
	.err_handler = &error_handlers,
	.driver.pm = pm_sleep_ptr(&pm_ops),
};
