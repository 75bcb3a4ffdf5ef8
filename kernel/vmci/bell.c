// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * DOC: Theory of operation
 *
 * The device rings by storing 1 into the byte of its page that the bell was linked to, and then interrupts (reference,
 * 5). Each bell has a byte of its own, its place. Rings that come before we look are one. A ring of our own bell does
 * not reach the device: the bell's work calls it. Nothing queues that work any more when @closed is set under @lock.
 *
 * bells_mutex guards the table and the places, and is taken before the device's lock. A bell whose device is gone has
 * no place any more: it is dead. After a reset of the device (suspend) all are linked again.
 */
#include <linux/bitmap.h>
#include <linux/hashtable.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/workqueue.h>

#include "bell.h"
#include "callee.h"
#include "device.h"
#include "id.h"
#include "wire.h"

/* The bytes of the page, but no more than hosts keep for a guest (reference, 9.2). */
#define BELLS_MAX 4096u

#define DEAD BELLS_MAX

struct ovmci_bell {
	struct callee callee;
	struct hlist_node node;
	struct ovmci_handle handle;
	ovmci_bell_fn fn;
	void *data;
	u32 place;
	spinlock_t lock;
	bool closed;
	struct work_struct work;
	struct rcu_head rcu;
};

static DEFINE_HASHTABLE(bells, 8);
static struct ovmci_bell __rcu *places[BELLS_MAX];
static DECLARE_BITMAP(taken, BELLS_MAX);
static u32 places_end;			/* behind the last that was ever taken */
static DEFINE_MUTEX(bells_mutex);
static u32 next_id;

static struct ovmci_bell *find(struct ovmci_handle handle)
{
	struct ovmci_bell *bell;

	hash_for_each_possible_rcu(bells, bell, node, handle.resource,
				   srcu_read_lock_held(&vmci_callees) || lockdep_is_held(&bells_mutex))
		if (handle_is_equal(bell->handle, handle) && READ_ONCE(bell->place) != DEAD)
			return bell;
	return NULL;
}

static bool is_used(u32 resource, void *context)
{
	return find((struct ovmci_handle){ *(u32 *)context, resource });
}

static void call(struct ovmci_bell *bell)
{
	if (callee_enter(&bell->callee)) {
		bell->fn(bell->data);
		callee_leave(&bell->callee);
	}
}

static void call_own(struct work_struct *work)
{
	call(container_of(work, struct ovmci_bell, work));
}

static void call_place(u32 place)
{
	struct ovmci_bell *bell;
	int index;

	index = srcu_read_lock(&vmci_callees);
	bell = srcu_dereference(places[place], &vmci_callees);
	if (bell)
		call(bell);
	srcu_read_unlock(&vmci_callees, index);
}

void vmci_bells_scan(u8 *page)
{
	u32 i, end = READ_ONCE(places_end);

	for (i = 0; i < end; i++) {
		if (i % 8 == 0 && !READ_ONCE(*(u64 *)(page + i))) {
			i += 7;
			continue;
		}
		if (READ_ONCE(page[i]) && xchg(&page[i], 0) & 1)
			call_place(i);
	}
}

static int link(struct vmci_device *vd, const struct ovmci_bell *bell)
{
	u8 dg[VMCI_DG_HEADER_SIZE + 16];

	/* A ring that was meant for who had the place before. */
	WRITE_ONCE(vd->bitmap[bell->place], 0);
	put_handle(dg + VMCI_DG_HEADER_SIZE, bell->handle);
	put_le64(dg + VMCI_DG_HEADER_SIZE + 8, bell->place);
	return vmci_hypercall(vd, VMCI_HC_DOORBELL_LINK, dg, sizeof(dg));
}

static void unlink(struct vmci_device *vd, const struct ovmci_bell *bell)
{
	u8 dg[VMCI_DG_HEADER_SIZE + 8];

	put_handle(dg + VMCI_DG_HEADER_SIZE, bell->handle);
	vmci_hypercall(vd, VMCI_HC_DOORBELL_UNLINK, dg, sizeof(dg));
}

/* Under bells_mutex. */
static void take_place(struct ovmci_bell *bell, u32 place)
{
	__set_bit(place, taken);
	if (place >= places_end)
		WRITE_ONCE(places_end, place + 1);
	WRITE_ONCE(bell->place, place);
	rcu_assign_pointer(places[place], bell);
}

static void leave_place(struct ovmci_bell *bell)
{
	RCU_INIT_POINTER(places[bell->place], NULL);
	__clear_bit(bell->place, taken);
	WRITE_ONCE(bell->place, DEAD);
}

/* Under bells_mutex and the device's lock. */
static int add(struct vmci_device *vd, struct ovmci_bell *bell)
{
	u32 place = find_first_zero_bit(taken, BELLS_MAX);
	u32 own = ovmci_context_id();
	int result;

	if (!vd)
		return -ENODEV;
	if (!vd->bitmap)
		return -EOPNOTSUPP;
	if (bell->handle.context == VMCI_INVALID_ID)
		bell->handle.context = own;
	if (bell->handle.resource == VMCI_INVALID_ID)
		bell->handle.resource = id_choose(&next_id, is_used, &own);
	if (bell->handle.resource == VMCI_INVALID_ID || find(bell->handle))
		return -EADDRINUSE;
	if (place == BELLS_MAX)
		return -ENOSPC;
	take_place(bell, place);
	result = link(vd, bell);
	if (!result) {
		hash_add_rcu(bells, &bell->node, bell->handle.resource);
		return 0;
	}
	leave_place(bell);
	return result < 0 ? ovmci_errno(result) : -EPROTO;
}

static void free_bell(struct rcu_head *rcu)
{
	kfree(container_of(rcu, struct ovmci_bell, rcu));
}

int ovmci_bell_create(struct ovmci_handle *handle, ovmci_bell_fn fn, void *data, struct ovmci_bell **ret)
{
	struct ovmci_bell *bell;
	int r;

	if (!fn)
		return -EINVAL;
	bell = kzalloc(sizeof(*bell), GFP_KERNEL);
	if (!bell)
		return -ENOMEM;
	callee_init(&bell->callee);
	bell->handle = *handle;
	bell->fn = fn;
	bell->data = data;
	bell->place = DEAD;
	spin_lock_init(&bell->lock);
	INIT_WORK(&bell->work, call_own);

	mutex_lock(&bells_mutex);
	r = add(vmci_device_lock(), bell);
	vmci_device_unlock();
	if (!r) {
		*handle = bell->handle;
		*ret = bell;
	}
	mutex_unlock(&bells_mutex);
	if (r) {
		/* Its place may have been rung meanwhile. */
		callee_close(&bell->callee);
		call_srcu(&vmci_callees, &bell->rcu, free_bell);
	}
	return r;
}
EXPORT_SYMBOL_GPL(ovmci_bell_create);

void ovmci_bell_destroy(struct ovmci_bell *bell)
{
	if (!bell)
		return;
	mutex_lock(&bells_mutex);
	hash_del_rcu(&bell->node);
	if (bell->place != DEAD) {
		struct vmci_device *vd = vmci_device_lock();

		if (vd)
			unlink(vd, bell);
		vmci_device_unlock();
		leave_place(bell);
	}
	mutex_unlock(&bells_mutex);
	spin_lock(&bell->lock);
	bell->closed = true;
	spin_unlock(&bell->lock);
	callee_close(&bell->callee);
	cancel_work_sync(&bell->work);
	call_srcu(&vmci_callees, &bell->rcu, free_bell);
}
EXPORT_SYMBOL_GPL(ovmci_bell_destroy);

static int ring_own(struct ovmci_handle handle)
{
	int index, result = VMCI_ERROR_NOT_FOUND;
	struct ovmci_bell *bell;

	index = srcu_read_lock(&vmci_callees);
	bell = find(handle);
	if (bell) {
		spin_lock(&bell->lock);
		if (!bell->closed) {
			queue_work(vmci_workers, &bell->work);
			result = VMCI_SUCCESS;
		}
		spin_unlock(&bell->lock);
	}
	srcu_read_unlock(&vmci_callees, index);
	return result;
}

static int ring_other(struct ovmci_handle handle)
{
	u8 dg[VMCI_DG_HEADER_SIZE + 8];
	struct vmci_device *vd;
	int result = VMCI_ERROR_DEVICE_NOT_FOUND;

	put_handle(dg + VMCI_DG_HEADER_SIZE, handle);
	vd = vmci_device_lock();
	if (vd)
		result = vmci_hypercall(vd, VMCI_HC_DOORBELL_NOTIFY, dg, sizeof(dg));
	vmci_device_unlock();
	return result;
}

int ovmci_bell_ring(struct ovmci_handle handle)
{
	if (!vmci_session())
		return VMCI_ERROR_DEVICE_NOT_FOUND;
	if (handle.context == VMCI_INVALID_ID || handle.resource == VMCI_INVALID_ID)
		return VMCI_ERROR_INVALID_ARGS;
	return handle.context == ovmci_context_id() ? ring_own(handle) : ring_other(handle);
}
EXPORT_SYMBOL_GPL(ovmci_bell_ring);

void vmci_bells_rename(u32 from, u32 to)
{
	struct ovmci_bell *bell;
	unsigned int bucket;

	mutex_lock(&bells_mutex);
	hash_for_each(bells, bucket, bell, node)
		if (bell->handle.context == from)
			WRITE_ONCE(bell->handle.context, to);
	mutex_unlock(&bells_mutex);
}

void vmci_bells_relink(void)
{
	struct vmci_device *vd;
	u32 i;

	mutex_lock(&bells_mutex);
	vd = vmci_device_lock();
	for_each_set_bit(i, taken, BELLS_MAX) {
		struct ovmci_bell *bell = rcu_dereference_protected(places[i], lockdep_is_held(&bells_mutex));

		if (!vd || !vd->bitmap || link(vd, bell))
			leave_place(bell);
	}
	vmci_device_unlock();
	mutex_unlock(&bells_mutex);
}

void vmci_bells_kill(void)
{
	u32 i;

	mutex_lock(&bells_mutex);
	for_each_set_bit(i, taken, BELLS_MAX)
		leave_place(rcu_dereference_protected(places[i], lockdep_is_held(&bells_mutex)));
	mutex_unlock(&bells_mutex);
}
