// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * DOC: Theory of operation
 *
 * Endpoints are in a hash table by resource, which holds one endpoint for each: for our own context, or for any. Their
 * owners add and remove them under endpoints_mutex; who calls them looks them up under SRCU (callee.h).
 *
 * Datagrams from the device are dispatched by the interrupt's thread. Those to our own context do not reach the device:
 * they go into the endpoint's queue, of at most VMCI_DG_QUEUE_MAX bytes, and its work calls the endpoint. So the order
 * of one sender's datagrams is kept in both cases, and no sender waits for a receiver.
 */
#include <linux/hashtable.h>
#include <linux/list.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/workqueue.h>

#include "callee.h"
#include "datagram.h"
#include "device.h"
#include "event.h"
#include "id.h"
#include "wire.h"

/* Most datagrams are small: AF_VSOCK's control packets have 56 bytes. Those are built on the stack. */
#define SMALL 128

struct ovmci_datagrams {
	struct callee callee;
	struct hlist_node node;
	u32 resource;
	bool any;
	ovmci_datagram_fn fn;
	void *data;
	spinlock_t lock;		/* guards the queue, and closed */
	bool closed;
	struct list_head queue;
	size_t queued;
	struct work_struct work;
	struct rcu_head rcu;
};

/* A datagram to ourselves. */
struct queued {
	struct list_head entry;
	struct ovmci_datagram dg;
	u8 payload[];
};

static DEFINE_HASHTABLE(endpoints, 8);
static DEFINE_MUTEX(endpoints_mutex);
static u32 next_id;

static struct ovmci_datagrams *find(u32 resource)
{
	struct ovmci_datagrams *dgs;

	hash_for_each_possible_rcu(endpoints, dgs, node, resource,
				   srcu_read_lock_held(&vmci_callees) || lockdep_is_held(&endpoints_mutex))
		if (dgs->resource == resource)
			return dgs;
	return NULL;
}

static bool is_used(u32 resource, void *none)
{
	return find(resource);
}

static bool takes(const struct ovmci_datagrams *dgs, u32 context)
{
	return dgs->any || context == ovmci_context_id();
}

static void call(struct ovmci_datagrams *dgs, const struct ovmci_datagram *dg)
{
	if (callee_enter(&dgs->callee)) {
		dgs->fn(dgs->data, dg);
		callee_leave(&dgs->callee);
	}
}

void vmci_datagram_dispatch(const struct ovmci_datagram *dg)
{
	struct ovmci_datagrams *dgs;
	int index;

	if (dg->src.context == VMCI_CID_HYPERVISOR && dg->dst.resource == VMCI_RID_EVENT) {
		vmci_event_dispatch(dg->payload, dg->size);
		return;
	}
	/* What we send to ourselves does not go by the device: nobody out there speaks for us. */
	if (dg->src.context == ovmci_context_id())
		return;
	index = srcu_read_lock(&vmci_callees);
	dgs = find(dg->dst.resource);
	if (dgs && takes(dgs, dg->dst.context))
		call(dgs, dg);
	srcu_read_unlock(&vmci_callees, index);
}

/* --- Endpoints -------------------------------------------------------------------------------------------------- */

static struct queued *dequeue(struct ovmci_datagrams *dgs)
{
	struct queued *q;

	spin_lock(&dgs->lock);
	q = list_first_entry_or_null(&dgs->queue, struct queued, entry);
	if (q) {
		list_del(&q->entry);
		dgs->queued -= VMCI_DG_HEADER_SIZE + q->dg.size;
	}
	spin_unlock(&dgs->lock);
	return q;
}

static void call_queued(struct work_struct *work)
{
	struct ovmci_datagrams *dgs = container_of(work, struct ovmci_datagrams, work);
	struct queued *q = dequeue(dgs);

	if (!q)
		return;
	call(dgs, &q->dg);
	kvfree(q);
	queue_work(vmci_workers, work);		/* in turn with the others */
}

int ovmci_datagrams_create(u32 resource, bool any, ovmci_datagram_fn fn, void *data, struct ovmci_handle *ret_handle,
			   struct ovmci_datagrams **ret)
{
	struct ovmci_datagrams *dgs;
	int r = 0;

	if (!fn || resource == VMCI_RID_EVENT)
		return -EINVAL;
	dgs = kzalloc(sizeof(*dgs), GFP_KERNEL);
	if (!dgs)
		return -ENOMEM;
	callee_init(&dgs->callee);
	dgs->any = any;
	dgs->fn = fn;
	dgs->data = data;
	spin_lock_init(&dgs->lock);
	INIT_LIST_HEAD(&dgs->queue);
	INIT_WORK(&dgs->work, call_queued);

	mutex_lock(&endpoints_mutex);
	if (resource == VMCI_INVALID_ID)
		resource = id_choose(&next_id, is_used, NULL);
	if (resource == VMCI_INVALID_ID || find(resource)) {
		r = -EADDRINUSE;
	} else {
		dgs->resource = resource;
		ret_handle->context = ovmci_context_id();
		ret_handle->resource = resource;
		*ret = dgs;
		hash_add_rcu(endpoints, &dgs->node, resource);
	}
	mutex_unlock(&endpoints_mutex);
	if (r)
		kfree(dgs);
	return r;
}
EXPORT_SYMBOL_GPL(ovmci_datagrams_create);

static void free_endpoint(struct rcu_head *rcu)
{
	kfree(container_of(rcu, struct ovmci_datagrams, rcu));
}

void ovmci_datagrams_destroy(struct ovmci_datagrams *dgs)
{
	struct queued *q;

	if (!dgs)
		return;
	mutex_lock(&endpoints_mutex);
	hash_del_rcu(&dgs->node);
	mutex_unlock(&endpoints_mutex);
	spin_lock(&dgs->lock);
	dgs->closed = true;
	spin_unlock(&dgs->lock);
	callee_close(&dgs->callee);
	cancel_work_sync(&dgs->work);
	while ((q = dequeue(dgs)))
		kvfree(q);
	call_srcu(&vmci_callees, &dgs->rcu, free_endpoint);
}
EXPORT_SYMBOL_GPL(ovmci_datagrams_destroy);

/* --- Sending ---------------------------------------------------------------------------------------------------- */

static int enqueue(struct ovmci_datagrams *dgs, struct queued *q)
{
	size_t size = VMCI_DG_HEADER_SIZE + q->dg.size;
	int result = (int)size;

	spin_lock(&dgs->lock);
	if (dgs->closed) {
		result = VMCI_ERROR_INVALID_RESOURCE;
	} else if (dgs->queued + size > VMCI_DG_QUEUE_MAX) {
		result = VMCI_ERROR_NO_RESOURCES;
	} else {
		list_add_tail(&q->entry, &dgs->queue);
		dgs->queued += size;
		queue_work(vmci_workers, &dgs->work);
	}
	spin_unlock(&dgs->lock);
	return result;
}

static int send_local(struct ovmci_handle dst, struct ovmci_handle src, struct iov_iter *from, size_t size)
{
	struct ovmci_datagrams *dgs;
	int result = VMCI_ERROR_INVALID_RESOURCE;
	struct queued *q;
	int index;

	q = kvmalloc(struct_size(q, payload, size), GFP_KERNEL);
	if (!q)
		return VMCI_ERROR_NO_MEM;
	q->dg = (struct ovmci_datagram){ .dst = dst, .src = src, .size = size, .payload = q->payload };
	if (!copy_from_iter_full(q->payload, size, from)) {
		kvfree(q);
		return VMCI_ERROR_INVALID_ARGS;
	}
	index = srcu_read_lock(&vmci_callees);
	dgs = find(dst.resource);
	if (dgs)
		result = enqueue(dgs, q);
	srcu_read_unlock(&vmci_callees, index);
	if (result < 0)
		kvfree(q);
	return result;
}

static int send_remote(struct ovmci_handle dst, struct ovmci_handle src, struct iov_iter *from, size_t size)
{
	size_t total = VMCI_DG_HEADER_SIZE + size;
	u8 small[SMALL], *dg = small;
	int result;

	if (total > sizeof(small))
		dg = kvmalloc(total, GFP_KERNEL);
	if (!dg)
		return VMCI_ERROR_NO_MEM;
	put_header(dg, dst, src, size);
	if (copy_from_iter_full(dg + VMCI_DG_HEADER_SIZE, size, from))
		result = vmci_device_send(dg, total);
	else
		result = VMCI_ERROR_INVALID_ARGS;
	if (dg != small)
		kvfree(dg);
	/* What the hypervisor answers is its own affair; elsewhere success is the bytes that went (reference, 3.4). */
	if (result >= 0 && dst.context != VMCI_CID_HYPERVISOR)
		result = (int)total;
	return result;
}

int ovmci_datagram_send(struct ovmci_handle dst, struct ovmci_handle src, struct iov_iter *from, size_t size)
{
	u32 own = ovmci_context_id();

	if (own == VMCI_INVALID_ID)
		return VMCI_ERROR_DEVICE_NOT_FOUND;
	if (size > VMCI_DG_MAX_PAYLOAD)
		return VMCI_ERROR_PAYLOAD_TOO_LARGE;
	if (dst.context == VMCI_INVALID_ID || dst.resource == VMCI_INVALID_ID)
		return VMCI_ERROR_INVALID_ARGS;
	if (src.context == VMCI_INVALID_ID)
		src.context = own;
	else if (src.context != own)
		return VMCI_ERROR_NO_ACCESS;
	/* Hypercalls behind our back would make the device forget what we have there. */
	if (dst.context == VMCI_CID_HYPERVISOR && dst.resource <= VMCI_HC_QUEUEPAIR_DETACH)
		return VMCI_ERROR_NO_ACCESS;
	return dst.context == own ? send_local(dst, src, from, size) : send_remote(dst, src, from, size);
}
EXPORT_SYMBOL_GPL(ovmci_datagram_send);

int ovmci_datagram_send_buf(struct ovmci_handle dst, struct ovmci_handle src, const void *payload, size_t size)
{
	struct kvec vec = { .iov_base = (void *)payload, .iov_len = size };
	struct iov_iter from;

	iov_iter_kvec(&from, ITER_SOURCE, &vec, 1, size);
	return ovmci_datagram_send(dst, src, &from, size);
}
EXPORT_SYMBOL_GPL(ovmci_datagram_send_buf);
