// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * /dev/vmci: queue pairs. The program maps the memory and does the rest; here is what it cannot know by that: whether
 * the peer is there.
 *
 * That is told in the interrupt's thread, which waits for no program: so it takes the queue's lock only, and the list
 * of pairs changes under both locks. Making a pair takes long, and is done under none; its peer may come before it is
 * in the list. So as long as one is being made, events about pairs that nobody here knows are kept for it.
 *
 * Memory that is mapped stays when its pair is destroyed, so it stays charged, too, until it is unmapped. So long its
 * place in the file is taken: who had it next, a region, would take the pages away from all that is mapped there.
 */
#include "dev.h"

#include <linux/eventfd.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/refcount.h>
#include <linux/slab.h>

/* What the device has for the guest is 128 MiB, and sockets have to have some of it. */
static unsigned long qpair_bytes = SZ_32M;
module_param(qpair_bytes, ulong, 0644);
MODULE_PARM_DESC(qpair_bytes, "bytes of queue pairs of one open /dev/vmci, at most (32 MiB)");

static unsigned long qpair_bytes_all = SZ_64M + SZ_32M;
module_param(qpair_bytes_all, ulong, 0644);
MODULE_PARM_DESC(qpair_bytes_all, "bytes of queue pairs of all open /dev/vmci together, at most (96 MiB)");

static atomic64_t used_all = ATOMIC64_INIT(0);

/*
 * struct charge - what a pair takes: bytes that a file is charged with, and a place in it
 * @users:  the pair, and each of its mappings
 * @client: lives as long as its mappings
 * @slot:   the place
 */
struct charge {
	refcount_t users;
	struct dev_client *client;
	u64 bytes;
	int slot;
};

/*
 * struct pair - a queue pair of a file
 * @charge: of its bytes, header pages included, and its place
 * @state: VMCI_DEV_QPAIR_*
 * @wake:  eventfd, or NULL
 */
struct pair {
	struct list_head link;
	struct ovmci_qpair *qpair;
	struct ovmci_handle handle;
	struct charge *charge;
	u32 state;
	u32 peer;
	bool is_local;
	struct eventfd_ctx *wake;
};

u64 dev_qpair_limit(void)
{
	return READ_ONCE(qpair_bytes);
}

/* The queue's lock is held. */
static void set_state(struct pair *pair, u32 state)
{
	if (pair->state == state || pair->state == VMCI_DEV_QPAIR_LEFT)
		return;
	pair->state = state;
	if (pair->wake)
		eventfd_signal(pair->wake);
}

/* One of the locks is held. */
static struct pair *find(struct dev_client *client, u32 context, u32 resource)
{
	struct pair *pair;

	list_for_each_entry(pair, &client->pairs, link)
		if (pair->handle.context == context && pair->handle.resource == resource)
			return pair;
	return NULL;
}

void dev_qpair_gone(struct dev_client *client)
{
	struct pair *pair;

	spin_lock(&client->queue_lock);
	list_for_each_entry(pair, &client->pairs, link)
		set_state(pair, VMCI_DEV_QPAIR_LEFT);
	spin_unlock(&client->queue_lock);
}

/*
 * What @event does to @pair; the queue's lock is held. QP_RESUMED of this module is about dead pairs only: others were
 * made after the reset.
 */
static void apply(struct pair *pair, const struct ovmci_event *event)
{
	if (event->event == VMCI_EVENT_QP_PEER_ATTACH) {
		pair->peer = event->context;
		set_state(pair, VMCI_DEV_QPAIR_ATTACHED);
	} else if (event->event == VMCI_EVENT_QP_PEER_DETACH ||
		   (!pair->is_local && (!event->is_of_old || ovmci_qpair_is_dead(pair->qpair)))) {
		set_state(pair, VMCI_DEV_QPAIR_LEFT);
	}
}

static void keep(struct dev_client *client, const struct ovmci_event *event)
{
	if (!client->n_making)
		return;
	if (client->n_kept < DEV_KEPT_MAX)
		client->kept[client->n_kept++] = *event;
	else
		client->is_kept_short = true;
}

bool dev_qpair_event(struct dev_client *client, const struct ovmci_event *event)
{
	struct pair *pair = NULL;

	spin_lock(&client->queue_lock);
	switch (event->event) {
	case VMCI_EVENT_QP_PEER_ATTACH:
	case VMCI_EVENT_QP_PEER_DETACH:
		pair = find(client, event->handle.context, event->handle.resource);
		if (pair)
			apply(pair, event);
		else
			keep(client, event);
		break;
	case VMCI_EVENT_QP_RESUMED:
		list_for_each_entry(pair, &client->pairs, link)
			apply(pair, event);
		keep(client, event);
		pair = NULL;
		break;
	}
	spin_unlock(&client->queue_lock);
	return pair != NULL;
}

/* Bytes of memory, or 0: too many, or none. */
static u64 bytes_of(u64 produce, u64 consume)
{
	if (produce > VMCI_QP_GUEST_MEMORY_MAX || consume > VMCI_QP_GUEST_MEMORY_MAX || !(produce | consume))
		return 0;
	return 2 * PAGE_SIZE + PAGE_ALIGN(produce) + PAGE_ALIGN(consume);
}

/* Return: 0 or -ENOSPC */
static int charge_bytes(struct dev_client *client, u64 bytes)
{
	if (atomic64_add_return(bytes, &client->pair_bytes) <= READ_ONCE(qpair_bytes)) {
		if (atomic64_add_return(bytes, &used_all) <= READ_ONCE(qpair_bytes_all))
			return 0;
		atomic64_sub(bytes, &used_all);
	}
	atomic64_sub(bytes, &client->pair_bytes);
	return -ENOSPC;
}

static void uncharge_bytes(struct dev_client *client, u64 bytes)
{
	atomic64_sub(bytes, &client->pair_bytes);
	atomic64_sub(bytes, &used_all);
}

static struct charge *charge_new(struct dev_client *client, u64 bytes)
{
	struct charge *charge = kmalloc(sizeof(*charge), GFP_KERNEL_ACCOUNT);
	int r;

	if (!charge)
		return ERR_PTR(-ENOMEM);
	r = charge_bytes(client, bytes);
	if (!r) {
		r = dev_slot_get();
		if (r < 0)
			uncharge_bytes(client, bytes);
	}
	if (r < 0) {
		kfree(charge);
		return ERR_PTR(r);
	}
	refcount_set(&charge->users, 1);
	charge->client = client;
	charge->bytes = bytes;
	charge->slot = r;
	return charge;
}

static void charge_put(struct charge *charge)
{
	if (!refcount_dec_and_test(&charge->users))
		return;
	uncharge_bytes(charge->client, charge->bytes);
	dev_slot_put(charge->slot);
	kfree(charge);
}

static void vm_open(struct vm_area_struct *vma)
{
	struct charge *charge = vma->vm_private_data;

	refcount_inc(&charge->users);
}

static void vm_close(struct vm_area_struct *vma)
{
	charge_put(vma->vm_private_data);
}

static const struct vm_operations_struct vm_ops = { .open = vm_open, .close = vm_close };

static void pair_free(struct pair *pair)
{
	if (pair->qpair)
		ovmci_qpair_destroy(pair->qpair);
	if (pair->wake)
		eventfd_ctx_put(pair->wake);
	if (pair->charge)
		charge_put(pair->charge);
	kfree(pair);
}

/* Return: 0 or a negative errno: pair_free() it nonetheless */
static int pair_init(struct pair *pair, struct dev_client *client, u64 bytes, int wake)
{
	struct charge *charge = charge_new(client, bytes);
	struct eventfd_ctx *eventfd = wake < 0 ? NULL : eventfd_ctx_fdget(wake);

	pair->charge = IS_ERR(charge) ? NULL : charge;
	pair->wake = IS_ERR(eventfd) ? NULL : eventfd;
	return PTR_ERR_OR_ZERO(charge) ?: PTR_ERR_OR_ZERO(eventfd);
}

/* Return: 0: a pair may be made; -ENODEV, -ENOSPC; -EEXIST */
static int begin(struct dev_client *client, const struct pair *pair)
{
	int r;

	mutex_lock(&client->lock);
	r = !dev_is_alive(client) ? -ENODEV : client->n_pairs >= DEV_PAIRS_MAX ? -ENOSPC :
	    find(client, pair->handle.context, pair->handle.resource) ? -EEXIST : 0;
	if (!r) {
		client->n_pairs++;
		spin_lock(&client->queue_lock);
		client->n_making++;
		spin_unlock(&client->queue_lock);
	}
	mutex_unlock(&client->lock);
	return r;
}

/* The queue's lock is held: what is about @pair and was told too early. */
static void catch_up(struct dev_client *client, struct pair *pair)
{
	for (unsigned int i = 0; i < client->n_kept; i++) {
		const struct ovmci_event *event = &client->kept[i];
		bool is_about = event->handle.context == pair->handle.context &&
				event->handle.resource == pair->handle.resource;

		if (is_about || event->event == VMCI_EVENT_QP_RESUMED)
			apply(pair, event);
		if (is_about)
			dev_event_push(client, event);
	}
}

/*
 * @pair was made, or (@is_made) was not. Fills @arg: from here on another thread may destroy it. Return: 0: it is in
 * the list, if it was made; -ENODEV; -EEXIST: both ends of a local pair cannot be told apart in one file; -EAGAIN: more
 * has happened meanwhile than could be kept
 */
static int end(struct dev_client *client, struct vmci_dev_qpair *arg, struct pair *pair, bool is_made)
{
	int r;

	mutex_lock(&client->lock);
	spin_lock(&client->queue_lock);
	r = !dev_is_alive(client) ? -ENODEV : client->is_kept_short ? -EAGAIN :
	    is_made && find(client, pair->handle.context, pair->handle.resource) ? -EEXIST : 0;
	if (is_made && !r) {
		catch_up(client, pair);
		list_add_tail(&pair->link, &client->pairs);
		arg->handle = (struct vmci_dev_handle){ pair->handle.context, pair->handle.resource };
		arg->offset = (u64)pair->charge->slot << DEV_SLOT_SHIFT;
	} else {
		client->n_pairs--;
	}
	if (!--client->n_making) {
		client->n_kept = 0;
		client->is_kept_short = false;
	}
	spin_unlock(&client->queue_lock);
	mutex_unlock(&client->lock);
	return r;
}

/* Return: 0, and what ovmci_qpair_create() says in @arg->result; or as begin() and end() */
static int make(struct dev_client *client, struct vmci_dev_qpair *arg, struct pair *pair)
{
	int r = begin(client, pair);

	if (r)
		return r;
	arg->result = ovmci_qpair_create(&pair->handle, arg->produce, arg->consume, arg->peer, arg->flags,
					 &pair->qpair);
	if (arg->result < 0) {
		pair->qpair = NULL;
		end(client, arg, pair, false);
		return 0;
	}
	pair->is_local = arg->flags & VMCI_QP_LOCAL;
	pair->peer = arg->peer;
	pair->state = VMCI_DEV_QPAIR_WAITING;
	if (arg->result == VMCI_SUCCESS_QUEUEPAIR_ATTACH ||
	    (arg->result == VMCI_SUCCESS && arg->flags & VMCI_QP_ATTACH_ONLY)) {
		pair->state = VMCI_DEV_QPAIR_ATTACHED;
		if (pair->peer == VMCI_INVALID_ID)
			pair->peer = pair->handle.context;
	}
	return end(client, arg, pair, true);
}

static int check(const struct vmci_dev_qpair *arg)
{
	bool is_chosen = arg->handle.resource != VMCI_INVALID_ID;

	if (arg->flags & ~(VMCI_QP_ATTACH_ONLY | VMCI_QP_LOCAL) || arg->wake < -1 || !(arg->produce | arg->consume))
		return -EINVAL;
	if (!is_chosen && arg->handle.context != VMCI_INVALID_ID && arg->handle.context != ovmci_context_id())
		return -EINVAL;
	/* Who attaches takes what somebody else has chosen. */
	return is_chosen && !(arg->flags & VMCI_QP_ATTACH_ONLY) ? dev_check_resource(arg->handle.resource) : 0;
}

int dev_qpair_create(struct dev_client *client, struct vmci_dev_qpair *arg)
{
	u64 bytes = bytes_of(arg->produce, arg->consume);
	struct pair *pair;
	int r = check(arg);

	if (r)
		return r;
	if (!bytes)
		return -ENOSPC;
	r = dev_listen(client);
	if (r)
		return r;
	pair = kzalloc(sizeof(*pair), GFP_KERNEL_ACCOUNT);
	if (!pair)
		return -ENOMEM;
	if (arg->handle.resource == VMCI_INVALID_ID)
		pair->handle = OVMCI_INVALID_HANDLE;
	else
		pair->handle = (struct ovmci_handle){ arg->handle.context, arg->handle.resource };
	r = pair_init(pair, client, bytes, arg->wake);
	if (!r)
		r = make(client, arg, pair);
	if (r || arg->result < 0) {
		pair_free(pair);
		return r;
	}
	arg->size = bytes;
	return 0;
}

int dev_qpair_state(struct dev_client *client, struct vmci_dev_qpair_state *arg)
{
	struct pair *pair;

	spin_lock(&client->queue_lock);
	pair = find(client, arg->handle.context, arg->handle.resource);
	if (pair) {
		arg->state = pair->state;
		arg->peer = pair->peer;
	}
	spin_unlock(&client->queue_lock);
	return pair ? 0 : -ENOENT;
}

int dev_qpair_destroy(struct dev_client *client, struct vmci_dev_qpair_state *arg)
{
	struct pair *pair;

	mutex_lock(&client->lock);
	spin_lock(&client->queue_lock);
	pair = find(client, arg->handle.context, arg->handle.resource);
	if (pair) {
		list_del(&pair->link);
		client->n_pairs--;
	}
	spin_unlock(&client->queue_lock);
	mutex_unlock(&client->lock);
	if (!pair)
		return -ENOENT;
	pair_free(pair);
	return 0;
}

int dev_qpair_mmap(struct dev_client *client, int slot, struct vm_area_struct *vma)
{
	struct pair *pair;
	int r;

	list_for_each_entry(pair, &client->pairs, link) {
		if (pair->charge->slot != slot)
			continue;
		if (vma->vm_pgoff != (unsigned long)slot * DEV_SLOT_PAGES ||
		    vma->vm_end - vma->vm_start != pair->charge->bytes)
			return -EINVAL;
		r = ovmci_qpair_mmap(pair->qpair, vma);
		if (r)
			return r;
		refcount_inc(&pair->charge->users);
		vma->vm_private_data = pair->charge;
		vma->vm_ops = &vm_ops;
		return 0;
	}
	return -ENXIO;
}

void dev_qpair_release(struct dev_client *client)
{
	struct pair *pair, *next;

	list_for_each_entry_safe(pair, next, &client->pairs, link)
		pair_free(pair);
}
