// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * DOC: Theory of operation
 *
 * The pages of a queue pair are allocated one by one, and mapped into the kernel in one piece, so that copies are as
 * long as the ring lets them be. The device knows them by their addresses, from the request for a queue pair until it
 * has confirmed the detach or was reset: meanwhile they are in the list of mapped ones, and whoever else lets go of
 * them, they stay (@orphan). Programs that have them mapped hold references of their own.
 */
#include <linux/atomic.h>
#include <linux/dma-mapping.h>
#include <linux/mm.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/vmalloc.h>

#include "device.h"
#include "qmem.h"
#include "qpair.h"

static LIST_HEAD(mapped);		/* under the device's lock */
static atomic64_t used = ATOMIC64_INIT(0);

static bool charge(u64 bytes)
{
	if (atomic64_add_return((s64)bytes, &used) <= (s64)VMCI_QP_GUEST_MEMORY_MAX)
		return true;
	atomic64_sub((s64)bytes, &used);
	return false;
}

static unsigned long pages_for(u64 size)
{
	return 1 + (unsigned long)DIV_ROUND_UP(size, PAGE_SIZE);
}

/* What the quota counts: whole pages of data. The pairs are limited in number, and so are the header pages. */
static u64 data_bytes(const struct qmem *qmem)
{
	return (u64)(qmem->count - 2) * PAGE_SIZE;
}

static void release(struct kref *ref)
{
	struct qmem *qmem = container_of(ref, struct qmem, ref);
	unsigned long i;

	if (qmem->address)
		vunmap(qmem->address);
	for (i = 0; qmem->pages && i < qmem->count; i++) {
		if (qmem->pages[i])
			put_page(qmem->pages[i]);
		cond_resched();
	}
	atomic64_sub((s64)data_bytes(qmem), &used);
	kvfree(qmem->pages);
	kvfree(qmem->addresses);
	kfree(qmem);
}

void qmem_put(struct qmem *qmem)
{
	kref_put(&qmem->ref, release);
}

static int alloc_pages_of(struct qmem *qmem)
{
	unsigned long i;

	qmem->pages = kvcalloc(qmem->count, sizeof(*qmem->pages), GFP_KERNEL_ACCOUNT);
	qmem->addresses = kvcalloc(qmem->count, sizeof(*qmem->addresses), GFP_KERNEL_ACCOUNT);
	if (!qmem->pages || !qmem->addresses)
		return -ENOMEM;
	for (i = 0; i < qmem->count; i++) {
		qmem->pages[i] = alloc_page(GFP_KERNEL_ACCOUNT | __GFP_ZERO | __GFP_NOWARN);
		if (!qmem->pages[i])
			return -ENOMEM;
		if (fatal_signal_pending(current))
			return -EINTR;
		cond_resched();
	}
	qmem->address = vmap(qmem->pages, (unsigned int)qmem->count, VM_MAP, PAGE_KERNEL);
	return qmem->address ? 0 : -ENOMEM;
}

static void set_ring(struct qmem *qmem, struct qring *ring, unsigned long first)
{
	ring->pages = qmem->pages + first;
	ring->header = qmem->address + first * PAGE_SIZE;
	ring->data = ring->header + PAGE_SIZE;
}

struct qmem *qmem_new(u64 produce, u64 consume)
{
	struct qmem *qmem;
	int r;

	if (produce > VMCI_QP_GUEST_MEMORY_MAX || consume > VMCI_QP_GUEST_MEMORY_MAX)
		return ERR_PTR(-ENOBUFS);
	qmem = kzalloc(sizeof(*qmem), GFP_KERNEL_ACCOUNT);
	if (!qmem)
		return ERR_PTR(-ENOMEM);
	kref_init(&qmem->ref);
	INIT_LIST_HEAD(&qmem->entry);
	qmem->ring[0].size = produce;
	qmem->ring[0].count = pages_for(produce);
	qmem->ring[1].size = consume;
	qmem->ring[1].count = pages_for(consume);
	qmem->count = qmem->ring[0].count + qmem->ring[1].count;
	if (!charge(data_bytes(qmem))) {
		kfree(qmem);
		return ERR_PTR(-ENOBUFS);
	}
	r = alloc_pages_of(qmem);
	if (r) {
		qmem_put(qmem);
		return ERR_PTR(r);
	}
	set_ring(qmem, &qmem->ring[0], 0);
	set_ring(qmem, &qmem->ring[1], qmem->ring[0].count);
	return qmem;
}

/* --- For the device --------------------------------------------------------------------------------------------- */

static void unmap_pages(struct qmem *qmem, unsigned long count)
{
	while (count--)
		dma_unmap_page_attrs(qmem->dev, qmem->addresses[count], PAGE_SIZE, DMA_BIDIRECTIONAL,
				     DMA_ATTR_SKIP_CPU_SYNC);
	qmem->dev = NULL;
}

int qmem_map(struct qmem *qmem, struct vmci_device *vd)
{
	u64 limit = vd->caps & VMCI_CAP_PPN64 ? ~0ull : (u64)U32_MAX << PAGE_SHIFT;
	unsigned long i;

	qmem->dev = &vd->pdev->dev;
	for (i = 0; i < qmem->count; i++) {
		dma_addr_t address = dma_map_page_attrs(qmem->dev, qmem->pages[i], 0, PAGE_SIZE, DMA_BIDIRECTIONAL,
							DMA_ATTR_SKIP_CPU_SYNC);

		if (dma_mapping_error(qmem->dev, address)) {
			unmap_pages(qmem, i);
			return -ENOMEM;
		}
		qmem->addresses[i] = address;
		/* Both sides look at the same memory all the time: copies of it, or other caches, will not do. */
		if (address > limit || dma_need_sync(qmem->dev, address)) {
			unmap_pages(qmem, i + 1);
			return -EOPNOTSUPP;
		}
		cond_resched();
	}
	list_add_tail(&qmem->entry, &mapped);
	return 0;
}

void qmem_unmap(struct qmem *qmem)
{
	list_del_init(&qmem->entry);
	unmap_pages(qmem, qmem->count);
}

void qmem_abandon(struct qmem *qmem)
{
	kref_get(&qmem->ref);
	qmem->orphan = true;
}

void vmci_qpairs_end(void)
{
	struct qmem *qmem, *next;

	list_for_each_entry_safe(qmem, next, &mapped, entry) {
		qmem_unmap(qmem);
		if (qmem->orphan)
			qmem_put(qmem);
	}
}

/* --- For programs ----------------------------------------------------------------------------------------------- */

int qmem_mmap(struct qring *ring, struct vm_area_struct *vma, unsigned long address)
{
	unsigned long left = ring->count;

	return vm_insert_pages(vma, address, ring->pages, &left);
}
