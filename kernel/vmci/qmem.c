// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * DOC: Theory of operation
 *
 * The kernel sees the data of a ring in one piece, so that copies are as long as the ring lets them be. If there are
 * free pages side by side, it has them at their own address. Else they are allocated one by one, and
 * mapped; that costs more, also for each copy, as what checks those for programs ("hardened usercopy") looks each
 * mapped address up in a tree. Either way each page has its own count of references: programs that have them mapped
 * hold some.
 *
 * The device knows the pages by their addresses, from the request for a queue pair until it has confirmed the detach or
 * was reset: meanwhile they are in the list of mapped ones, and whoever else lets go of them, they stay (@orphan).
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

#define SIDE_BY_SIDE_MAX 1024		/* pages: the kernel has no larger piece on all machines */

static LIST_HEAD(mapped);		/* under the device's lock */
static atomic64_t used = ATOMIC64_INIT(0);

static bool charge(u64 bytes)
{
	if (atomic64_add_return((s64)bytes, &used) <= (s64)VMCI_QP_GUEST_MEMORY_MAX)
		return true;
	atomic64_sub((s64)bytes, &used);
	return false;
}

/* What the quota counts: whole pages of data. The pairs are limited in number, and so are the header pages. */
static u64 data_bytes(const struct qmem *qmem)
{
	return (u64)(qmem->count - 2) * PAGE_SIZE;
}

/* Pages that lie side by side are not mapped. */
static void unmap_data(const struct qring *ring)
{
	if (is_vmalloc_addr(ring->data))
		vunmap(ring->data);
}

static void release(struct kref *ref)
{
	struct qmem *qmem = container_of(ref, struct qmem, ref);
	unsigned long i;

	unmap_data(&qmem->ring[0]);
	unmap_data(&qmem->ring[1]);
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

/* Return: pages side by side, if there are some. Nobody is made to clear others away, and reserves are not touched. */
static void *alloc_side_by_side(unsigned long count)
{
	gfp_t gfp = (GFP_KERNEL_ACCOUNT & ~__GFP_RECLAIM) | __GFP_NOMEMALLOC | __GFP_ZERO | __GFP_NOWARN;

	return count <= SIDE_BY_SIDE_MAX ? alloc_pages_exact(count * PAGE_SIZE, gfp) : NULL;
}

static int alloc_single(struct page **pages, unsigned long count)
{
	unsigned long i;

	for (i = 0; i < count; i++) {
		pages[i] = alloc_page(GFP_KERNEL_ACCOUNT | __GFP_ZERO | __GFP_NOWARN);
		if (!pages[i])
			return -ENOMEM;
		if (fatal_signal_pending(current))
			return -EINTR;
		cond_resched();
	}
	return 0;
}

static int alloc_data(struct qring *ring)
{
	struct page **pages = ring->pages + 1;
	unsigned long i, count = ring->count - 1;
	int r;

	if (!count)
		return 0;
	ring->data = alloc_side_by_side(count);
	if (ring->data) {
		for (i = 0; i < count; i++)
			pages[i] = virt_to_page(ring->data + i * PAGE_SIZE);
		return 0;
	}
	r = alloc_single(pages, count);
	if (r)
		return r;
	ring->data = vmap(pages, (unsigned int)count, VM_MAP, PAGE_KERNEL);
	return ring->data ? 0 : -ENOMEM;
}

static int alloc_ring(struct qring *ring, struct page **pages)
{
	int r;

	ring->pages = pages;
	r = alloc_single(pages, 1);
	if (r)
		return r;
	ring->header = page_address(pages[0]);
	return alloc_data(ring);
}

static int alloc_rings(struct qmem *qmem)
{
	qmem->pages = kvcalloc(qmem->count, sizeof(*qmem->pages), GFP_KERNEL_ACCOUNT);
	qmem->addresses = kvcalloc(qmem->count, sizeof(*qmem->addresses), GFP_KERNEL_ACCOUNT);
	if (!qmem->pages || !qmem->addresses)
		return -ENOMEM;
	return alloc_ring(&qmem->ring[0], qmem->pages) ?: alloc_ring(&qmem->ring[1], qmem->pages + qmem->ring[0].count);
}

static void set_size(struct qring *ring, u64 size)
{
	ring->size = size;
	ring->count = 1 + (unsigned long)DIV_ROUND_UP(size, PAGE_SIZE);
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
	set_size(&qmem->ring[0], produce);
	set_size(&qmem->ring[1], consume);
	qmem->count = qmem->ring[0].count + qmem->ring[1].count;
	if (!charge(data_bytes(qmem))) {
		kfree(qmem);
		return ERR_PTR(-ENOBUFS);
	}
	r = alloc_rings(qmem);
	if (r) {
		qmem_put(qmem);
		return ERR_PTR(r);
	}
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

#ifdef OVMCI_DEBUG
#include "selftest/qmem.c"
#endif
