// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * DOC: Theory of operation
 *
 * A queue pair is two rings, each with a header page. Each side writes only into the header of the ring that it
 * produces into: its tail, and how far it has read in the other ring (reference, 7.1). Our own positions are kept here,
 * what is in the header is a copy for the peer; the peer's are read once for each use, and checked.
 *
 * For a pair with another context we allocate the memory, whether we create or attach, and the device initialises the
 * headers. It is dead when the session is over (device.c), since the device has forgotten it then.
 *
 * A local pair is one memory with two ends in this kernel, of which the second sees the rings the other way round. The
 * device does not know of it; events are told by notes_work, in order.
 *
 * qpairs_mutex guards the table and the ends of local pairs, and is taken before the device's lock.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/err.h>
#include <linux/hashtable.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/workqueue.h>

#include "device.h"
#include "event.h"
#include "id.h"
#include "qmem.h"
#include "qpair.h"
#include "ring.h"
#include "wire.h"

#ifndef CONFIG_64BIT
#error "positions are read and written as one: that takes a machine of 64 bits"
#endif

/* What a host lets a guest have (reference, 7.6). */
#define QPAIRS_MAX (VMCI_QP_GUEST_MEMORY_MAX / PAGE_SIZE / 2)

/* Flags that are the affair of one side (reference, 7.3). */
#define CREATOR_FLAGS (VMCI_QP_NONBLOCK | VMCI_QP_PINNED)
#define ATTACHER_FLAGS (CREATOR_FLAGS | VMCI_QP_ATTACH_ONLY)

/* The parts of QUEUEPAIR_ALLOC (reference, 4.3). */
#define ALLOC_PEER 32
#define ALLOC_FLAGS 36
#define ALLOC_PRODUCE 40
#define ALLOC_CONSUME 48
#define ALLOC_PAGES 56

/* A local event that is to be told. */
struct note {
	struct list_head entry;
	struct ovmci_event event;
};

/*
 * struct ovmci_qpair - an end
 * @produce, @consume: rings of @qmem
 * @tail, @head: our positions
 * @session: for which it is good; 0: it is local
 * @other:   the other end of a local pair; @was_joined: there was one once
 * @attach, @detach: what the other end is told
 */
struct ovmci_qpair {
	struct hlist_node node;
	struct ovmci_handle handle;
	struct qmem *qmem;
	struct qring *produce, *consume;
	u64 tail, head;
	u32 session;
	u32 flags;
	struct ovmci_qpair *other;
	bool was_joined;
	struct note *attach, *detach;
};

static DEFINE_HASHTABLE(qpairs, 8);
static DEFINE_MUTEX(qpairs_mutex);
static unsigned int qpairs_count;
static u32 next_id;

static LIST_HEAD(notes);
static DEFINE_SPINLOCK(notes_lock);

/* --- Positions -------------------------------------------------------------------------------------------------- */

static u64 peer_tail(const struct ovmci_qpair *qp)
{
	return le64_to_cpu(virt_load_acquire((__le64 *)(qp->consume->header + VMCI_QUEUE_TAIL_OFFSET)));
}

static u64 peer_head(const struct ovmci_qpair *qp)
{
	return le64_to_cpu(virt_load_acquire((__le64 *)(qp->consume->header + VMCI_QUEUE_HEAD_OFFSET)));
}

static void set_tail(struct ovmci_qpair *qp, u64 tail)
{
	WRITE_ONCE(qp->tail, tail);
	virt_store_release((__le64 *)(qp->produce->header + VMCI_QUEUE_TAIL_OFFSET), cpu_to_le64(tail));
}

static void set_head(struct ovmci_qpair *qp, u64 head)
{
	WRITE_ONCE(qp->head, head);
	virt_store_release((__le64 *)(qp->produce->header + VMCI_QUEUE_HEAD_OFFSET), cpu_to_le64(head));
}

static __always_inline bool is_dead(const struct ovmci_qpair *qp)
{
	return qp->session && qp->session != vmci_session();
}

bool ovmci_qpair_is_dead(const struct ovmci_qpair *qp)
{
	return is_dead(qp);
}
EXPORT_SYMBOL_GPL(ovmci_qpair_is_dead);

/* What the functions below return, for those here that are called for each few bytes. */
static __always_inline s64 room(const struct ovmci_qpair *qp)
{
	return is_dead(qp) ? -ENODEV : ring_free(qp->produce->size, READ_ONCE(qp->tail), peer_head(qp));
}

static __always_inline s64 ready(const struct ovmci_qpair *qp)
{
	return is_dead(qp) ? -ENODEV : ring_ready(qp->consume->size, peer_tail(qp), READ_ONCE(qp->head));
}

static __always_inline s64 unread(const struct ovmci_qpair *qp)
{
	return is_dead(qp) ? -ENODEV : ring_ready(qp->produce->size, READ_ONCE(qp->tail), peer_head(qp));
}

static __always_inline s64 peer_room(const struct ovmci_qpair *qp)
{
	return is_dead(qp) ? -ENODEV : ring_free(qp->consume->size, peer_tail(qp), READ_ONCE(qp->head));
}

s64 ovmci_qpair_free(const struct ovmci_qpair *qp)
{
	return room(qp);
}
EXPORT_SYMBOL_GPL(ovmci_qpair_free);

s64 ovmci_qpair_ready(const struct ovmci_qpair *qp)
{
	return ready(qp);
}
EXPORT_SYMBOL_GPL(ovmci_qpair_ready);

s64 ovmci_qpair_unread(const struct ovmci_qpair *qp)
{
	return unread(qp);
}
EXPORT_SYMBOL_GPL(ovmci_qpair_unread);

s64 ovmci_qpair_peer_free(const struct ovmci_qpair *qp)
{
	return peer_room(qp);
}
EXPORT_SYMBOL_GPL(ovmci_qpair_peer_free);

u64 ovmci_qpair_tail(const struct ovmci_qpair *qp)
{
	return READ_ONCE(qp->tail);
}
EXPORT_SYMBOL_GPL(ovmci_qpair_tail);

u64 ovmci_qpair_head(const struct ovmci_qpair *qp)
{
	return READ_ONCE(qp->head);
}
EXPORT_SYMBOL_GPL(ovmci_qpair_head);

/* --- Data ------------------------------------------------------------------------------------------------------- */

ssize_t ovmci_qpair_enqueue(struct ovmci_qpair *qp, struct iov_iter *from, size_t len, struct ovmci_moved *ret_moved)
{
	const struct qring *ring = qp->produce;
	u64 run, done = 0, tail = qp->tail;
	s64 n = room(qp);

	if (n < 0)
		return (ssize_t)n;
	len = min_t(u64, len, iov_iter_count(from));
	if (!len)
		return 0;
	if (!n)
		return -EAGAIN;
	len = min_t(u64, len, (u64)n);
	if (ret_moved)
		ret_moved->from = tail;
	while (done < len) {
		size_t copied;

		run = ring_run(ring->size, tail, len - done);
		copied = copy_from_iter(ring->data + tail, run, from);
		done += copied;
		tail = ring_advance(ring->size, tail, copied);
		if (copied < run)
			break;
	}
	if (!done)
		return -EFAULT;
	set_tail(qp, tail);
	if (ret_moved) {
		virt_mb();
		ret_moved->left = unread(qp);
	}
	return (ssize_t)done;
}
EXPORT_SYMBOL_GPL(ovmci_qpair_enqueue);

/* Return: bytes, and where the next ones are; or as ovmci_qpair_dequeue() */
static ssize_t copy_out(const struct ovmci_qpair *qp, struct iov_iter *to, size_t len, u64 *ret_head)
{
	const struct qring *ring = qp->consume;
	u64 run, done = 0, head = qp->head;
	s64 n = ready(qp);

	if (n < 0)
		return (ssize_t)n;
	len = min_t(u64, len, iov_iter_count(to));
	if (!len)
		return 0;
	if (!n)
		return -EAGAIN;
	len = min_t(u64, len, (u64)n);
	while (done < len) {
		size_t copied;

		run = ring_run(ring->size, head, len - done);
		copied = copy_to_iter(ring->data + head, run, to);
		done += copied;
		head = ring_advance(ring->size, head, copied);
		if (copied < run)
			break;
	}
	*ret_head = head;
	return done ? (ssize_t)done : -EFAULT;
}

ssize_t ovmci_qpair_dequeue(struct ovmci_qpair *qp, struct iov_iter *to, size_t len, struct ovmci_moved *ret_moved)
{
	u64 head;
	ssize_t r = copy_out(qp, to, len, &head);

	if (r <= 0)
		return r;
	if (ret_moved)
		ret_moved->from = qp->head;
	set_head(qp, head);
	if (ret_moved) {
		virt_mb();
		ret_moved->left = peer_room(qp);
	}
	return r;
}
EXPORT_SYMBOL_GPL(ovmci_qpair_dequeue);

ssize_t ovmci_qpair_peek(const struct ovmci_qpair *qp, struct iov_iter *to, size_t len)
{
	u64 head;

	return copy_out(qp, to, len, &head);
}
EXPORT_SYMBOL_GPL(ovmci_qpair_peek);

int ovmci_qpair_mmap(struct ovmci_qpair *qp, struct vm_area_struct *vma)
{
	int r;

	if (is_dead(qp))
		return -ENODEV;
	if (vma_pages(vma) != qp->qmem->count || !(vma->vm_flags & VM_SHARED))
		return -EINVAL;
	vm_flags_set(vma, VM_DONTEXPAND | VM_DONTDUMP);
	r = qmem_mmap(qp->produce, vma, vma->vm_start);
	if (r)
		return r;
	return qmem_mmap(qp->consume, vma, vma->vm_start + qp->produce->count * PAGE_SIZE);
}
EXPORT_SYMBOL_GPL(ovmci_qpair_mmap);

/* --- Local events ----------------------------------------------------------------------------------------------- */

static void tell_notes(struct work_struct *work)
{
	struct note *note;

	for (;;) {
		spin_lock(&notes_lock);
		note = list_first_entry_or_null(&notes, struct note, entry);
		if (note)
			list_del(&note->entry);
		spin_unlock(&notes_lock);
		if (!note)
			return;
		vmci_event_tell(&note->event);
		kfree(note);
	}
}

static DECLARE_WORK(notes_work, tell_notes);

/* Takes the note. */
static void tell(struct note **note, u32 event, struct ovmci_handle handle)
{
	(*note)->event = (struct ovmci_event){ .event = event, .context = ovmci_context_id(), .handle = handle };
	spin_lock(&notes_lock);
	list_add_tail(&(*note)->entry, &notes);
	spin_unlock(&notes_lock);
	*note = NULL;
	queue_work(vmci_workers, &notes_work);
}

/* --- The table -------------------------------------------------------------------------------------------------- */

static struct ovmci_qpair *find(struct ovmci_handle handle)
{
	struct ovmci_qpair *qp;

	lockdep_assert_held(&qpairs_mutex);
	hash_for_each_possible(qpairs, qp, node, handle.resource)
		if (handle_is_equal(qp->handle, handle))
			return qp;
	return NULL;
}

static bool is_used(u32 resource, void *context)
{
	return find((struct ovmci_handle){ *(u32 *)context, resource });
}

/* Puts the new end into the table; chooses its handle if it has none. */
static int add(struct ovmci_qpair *qp)
{
	u32 own = ovmci_context_id();

	lockdep_assert_held(&qpairs_mutex);
	if (qpairs_count >= QPAIRS_MAX)
		return VMCI_ERROR_NO_RESOURCES;
	if (handle_is_invalid(qp->handle)) {
		qp->handle.context = own;
		qp->handle.resource = id_choose(&next_id, is_used, &own);
		if (qp->handle.resource == VMCI_INVALID_ID)
			return VMCI_ERROR_NO_RESOURCES;
	}
	hash_add(qpairs, &qp->node, qp->handle.resource);
	qpairs_count++;
	return VMCI_SUCCESS;
}

static void del(struct ovmci_qpair *qp)
{
	lockdep_assert_held(&qpairs_mutex);
	hash_del(&qp->node);
	qpairs_count--;
}

static void free_qpair(struct ovmci_qpair *qp)
{
	if (qp->qmem)
		qmem_put(qp->qmem);
	kfree(qp->attach);
	kfree(qp->detach);
	kfree(qp);
}

/* --- Local pairs ------------------------------------------------------------------------------------------------ */

static int create_local(struct ovmci_qpair *qp, u64 produce, u64 consume)
{
	if (qp->flags & VMCI_QP_ATTACH_ONLY)
		return VMCI_ERROR_NOT_FOUND;
	qp->qmem = qmem_new(produce, consume);
	if (IS_ERR(qp->qmem)) {
		int r = PTR_ERR(qp->qmem);

		qp->qmem = NULL;
		return r == -ENOBUFS ? VMCI_ERROR_NO_RESOURCES : VMCI_ERROR_NO_MEM;
	}
	qp->produce = &qp->qmem->ring[0];
	qp->consume = &qp->qmem->ring[1];
	put_handle(qp->produce->header, qp->handle);
	put_handle(qp->consume->header, qp->handle);
	return VMCI_SUCCESS_QUEUEPAIR_CREATE;
}

static int attach_local(struct ovmci_qpair *qp, struct ovmci_qpair *first, u64 produce, u64 consume)
{
	if (first->session)
		return VMCI_ERROR_ALREADY_EXISTS;
	if (first->was_joined)
		return VMCI_ERROR_UNAVAILABLE;
	if ((first->flags & ~CREATOR_FLAGS) != (qp->flags & ~ATTACHER_FLAGS) ||
	    produce != first->consume->size || consume != first->produce->size)
		return VMCI_ERROR_QUEUEPAIR_MISMATCH;
	kref_get(&first->qmem->ref);
	qp->qmem = first->qmem;
	qp->produce = first->consume;
	qp->consume = first->produce;
	qp->other = first;
	first->other = qp;
	qp->was_joined = true;
	first->was_joined = true;
	tell(&qp->attach, VMCI_EVENT_QP_PEER_ATTACH, qp->handle);
	return VMCI_SUCCESS_QUEUEPAIR_ATTACH;
}

static int join_local(struct ovmci_qpair *qp, u64 produce, u64 consume, u32 peer)
{
	struct ovmci_qpair *first;
	u32 own = ovmci_context_id();
	int result;

	if (own == VMCI_INVALID_ID)
		return VMCI_ERROR_DEVICE_NOT_FOUND;
	if ((peer != own && peer != VMCI_INVALID_ID) ||
	    (!handle_is_invalid(qp->handle) && qp->handle.context != own))
		return VMCI_ERROR_NO_ACCESS;
	qp->attach = kzalloc(sizeof(*qp->attach), GFP_KERNEL);
	qp->detach = kzalloc(sizeof(*qp->detach), GFP_KERNEL);
	if (!qp->attach || !qp->detach)
		return VMCI_ERROR_NO_MEM;

	mutex_lock(&qpairs_mutex);
	first = handle_is_invalid(qp->handle) ? NULL : find(qp->handle);
	result = add(qp);
	if (!result) {
		result = first ? attach_local(qp, first, produce, consume) : create_local(qp, produce, consume);
		if (result < 0)
			del(qp);
	}
	mutex_unlock(&qpairs_mutex);
	return result;
}

static void leave_local(struct ovmci_qpair *qp)
{
	mutex_lock(&qpairs_mutex);
	del(qp);
	if (qp->other) {
		qp->other->other = NULL;
		tell(&qp->detach, VMCI_EVENT_QP_PEER_DETACH, qp->handle);
	}
	mutex_unlock(&qpairs_mutex);
}

/* --- Pairs with others ------------------------------------------------------------------------------------------ */

static int alloc_message(struct ovmci_qpair *qp, struct vmci_device *vd, u8 *dg, size_t size, u32 peer)
{
	const struct qmem *qmem = qp->qmem;
	u8 *list = dg + VMCI_QPALLOC_LIST_OFFSET;
	unsigned long i;

	put_handle(dg + VMCI_DG_HEADER_SIZE, qp->handle);
	put_le32(dg + ALLOC_PEER, peer);
	put_le32(dg + ALLOC_FLAGS, qp->flags);
	put_le64(dg + ALLOC_PRODUCE, qp->produce->size);
	put_le64(dg + ALLOC_CONSUME, qp->consume->size);
	put_le64(dg + ALLOC_PAGES, qmem->count);
	for (i = 0; i < qmem->count; i++) {
		u64 page = qmem->addresses[i] >> PAGE_SHIFT;

		if (vd->caps & VMCI_CAP_PPN64)
			put_le64(list + 8 * i, page);
		else
			put_le32(list + 4 * i, (u32)page);
	}
	return vmci_hypercall(vd, VMCI_HC_QUEUEPAIR_ALLOC, dg, size);
}

/* Under the device's lock. @dg has room for the longer list. */
static int offer(struct ovmci_qpair *qp, struct vmci_device *vd, u8 *dg, u32 peer)
{
	size_t width = vd->caps & VMCI_CAP_PPN64 ? 8 : 4;
	int result;

	if (qmem_map(qp->qmem, vd))
		return VMCI_ERROR_NO_MEM;
	result = alloc_message(qp, vd, dg, VMCI_QPALLOC_LIST_OFFSET + width * qp->qmem->count, peer);
	if (result >= 0)
		qp->session = vmci_session();
	else if (vmci_is_dead(vd))
		qmem_abandon(qp->qmem);		/* who knows what it has done */
	else
		qmem_unmap(qp->qmem);
	return result > VMCI_SUCCESS_QUEUEPAIR_ATTACH ? VMCI_SUCCESS : result;
}

static int join(struct ovmci_qpair *qp, u64 produce, u64 consume, u32 peer)
{
	struct vmci_device *vd;
	int result;
	u8 *dg;

	if (!vmci_session())
		return VMCI_ERROR_DEVICE_NOT_FOUND;
	qp->qmem = qmem_new(produce, consume);
	if (IS_ERR(qp->qmem)) {
		result = PTR_ERR(qp->qmem) == -ENOBUFS ? VMCI_ERROR_NO_RESOURCES : VMCI_ERROR_NO_MEM;
		qp->qmem = NULL;
		return result;
	}
	qp->produce = &qp->qmem->ring[0];
	qp->consume = &qp->qmem->ring[1];
	dg = kvmalloc(VMCI_QPALLOC_LIST_OFFSET + 8 * qp->qmem->count, GFP_KERNEL);
	if (!dg)
		return VMCI_ERROR_NO_MEM;

	mutex_lock(&qpairs_mutex);
	if (!handle_is_invalid(qp->handle) && find(qp->handle))
		result = VMCI_ERROR_ALREADY_EXISTS;
	else
		result = add(qp);
	mutex_unlock(&qpairs_mutex);
	if (!result) {
		vd = vmci_device_lock();
		result = vd ? offer(qp, vd, dg, peer) : VMCI_ERROR_DEVICE_NOT_FOUND;
		vmci_device_unlock();
		if (result < 0) {
			mutex_lock(&qpairs_mutex);
			del(qp);
			mutex_unlock(&qpairs_mutex);
		}
	}
	kvfree(dg);
	return result;
}

static int detach(struct ovmci_qpair *qp, struct vmci_device *vd)
{
	u8 dg[VMCI_DG_HEADER_SIZE + 8];

	put_handle(dg + VMCI_DG_HEADER_SIZE, qp->handle);
	return vmci_hypercall(vd, VMCI_HC_QUEUEPAIR_DETACH, dg, sizeof(dg));
}

static void leave(struct ovmci_qpair *qp)
{
	struct vmci_device *vd = vmci_device_lock();

	if (qmem_is_mapped(qp->qmem)) {
		if (vd && detach(qp, vd) >= 0)
			qmem_unmap(qp->qmem);
		else
			qmem_abandon(qp->qmem);
	}
	vmci_device_unlock();
	mutex_lock(&qpairs_mutex);
	del(qp);
	mutex_unlock(&qpairs_mutex);
}

/* --- Both ------------------------------------------------------------------------------------------------------- */

int ovmci_qpair_create(struct ovmci_handle *handle, u64 produce, u64 consume, u32 peer, u32 flags,
		       struct ovmci_qpair **ret)
{
	struct ovmci_qpair *qp;
	int result;

	if ((!produce && !consume) || flags & ~VMCI_QP_ALL_FLAGS)
		return VMCI_ERROR_INVALID_ARGS;
	if (!handle_is_invalid(*handle) &&
	    (handle->context == VMCI_INVALID_ID || handle->resource == VMCI_INVALID_ID))
		return VMCI_ERROR_INVALID_ARGS;
	qp = kzalloc(sizeof(*qp), GFP_KERNEL);
	if (!qp)
		return VMCI_ERROR_NO_MEM;
	qp->handle = *handle;
	qp->flags = flags;
	if (flags & VMCI_QP_LOCAL)
		result = join_local(qp, produce, consume, peer);
	else
		result = join(qp, produce, consume, peer);
	if (result < 0) {
		free_qpair(qp);
		return result;
	}
	*handle = qp->handle;
	*ret = qp;
	return result;
}
EXPORT_SYMBOL_GPL(ovmci_qpair_create);

void ovmci_qpair_destroy(struct ovmci_qpair *qp)
{
	if (!qp)
		return;
	if (qp->session)
		leave(qp);
	else
		leave_local(qp);
	free_qpair(qp);
}
EXPORT_SYMBOL_GPL(ovmci_qpair_destroy);

#ifdef OVMCI_DEBUG
#include "selftest/ring.c"
#endif
