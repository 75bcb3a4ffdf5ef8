/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* qmem.h - the memory of queue pairs */
#ifndef OVMCI_QMEM_H
#define OVMCI_QMEM_H

#include <linux/kref.h>
#include <linux/list.h>
#include <linux/mm_types.h>
#include <linux/types.h>

struct vmci_device;
struct vm_area_struct;

/**
 * struct qring - a ring
 * @size:   bytes of data
 * @pages:  its header page, then those of its data; @count in all
 * @header: the header page, in the kernel's address space; @data: the data, in one piece
 */
struct qring {
	u64 size;
	struct page **pages;
	unsigned long count;
	void *header;
	void *data;
};

/**
 * struct qmem - two rings
 * @ref:       of the queue pair's ends in this kernel, and of the list of mapped ones for an @orphan
 * @ring:      as who made it sees it: the one that it produces into, the one that it consumes from
 * @pages:     those of both rings; @count of them
 * @addresses: for the device, valid while it is @mapped
 * @entry:     in the list of mapped ones, under the device's lock
 * @orphan:    it has no end any more
 */
struct qmem {
	struct kref ref;
	struct qring ring[2];
	struct page **pages;
	unsigned long count;
	dma_addr_t *addresses;
	struct device *dev;
	bool orphan;
	struct list_head entry;
};

/**
 * qmem_new() - allocate, zeroed, within the quota of all of them
 *
 * Return: it, or ERR_PTR(-ENOBUFS): more than the quota, -ENOMEM, -EINTR: a fatal signal
 */
struct qmem *qmem_new(u64 produce, u64 consume);
void qmem_put(struct qmem *qmem);

/* qmem_map() - give the device addresses for all pages; under its lock. Return: 0 or a negative errno */
int qmem_map(struct qmem *qmem, struct vmci_device *vd);

/* qmem_is_mapped() - does the device perhaps use it? */
static inline bool qmem_is_mapped(const struct qmem *qmem)
{
	return qmem->dev;
}

/* qmem_unmap() - the device does not use it any more; under its lock */
void qmem_unmap(struct qmem *qmem);

/* qmem_abandon() - the device did not let go: keep it until it was reset, for @qmem's caller, who puts its reference */
void qmem_abandon(struct qmem *qmem);

/* qmem_mmap() - map a ring into a program, at @address of @vma */
int qmem_mmap(struct qring *ring, struct vm_area_struct *vma, unsigned long address);

#endif /* OVMCI_QMEM_H */
