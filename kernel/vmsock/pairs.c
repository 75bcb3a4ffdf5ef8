// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * DOC: Theory of operation
 *
 * Events name a queue pair, so there is a table of those that streams have, by handle; a local pair is in it twice,
 * once for each end. It is taken out before it is destroyed: events that come later find nothing. A stream that
 * attaches is in the table beforehand, because the peer can leave as soon as we have attached.
 *
 * After a suspend the pairs of before are dead, and vmci.ko says so when new ones may be in the table already: those
 * are not meant. One that is being made meanwhile may be of either kind, so its maker looks when its qp is in the
 * table: either he sees that it is dead, or the event, which comes later, finds it.
 */
#include "pairs.h"

#include <linux/hashtable.h>
#include <linux/spinlock.h>

#include "owed.h"
#include "waits.h"

static DEFINE_HASHTABLE(pairs, 8);
static DEFINE_SPINLOCK(pairs_lock);	/* guards the table, and node, told and the value of qp of those in it */
static struct ovmci_subscription *detached, *resumed;

static bool is_equal(struct ovmci_handle a, struct ovmci_handle b)
{
	return a.context == b.context && a.resource == b.resource;
}

/* @qp: NULL: it is about to be attached to */
static void add(struct vmsock *t, struct ovmci_handle handle, struct ovmci_qpair *qp)
{
	spin_lock(&pairs_lock);
	t->handle = handle;
	t->qp = qp;
	t->told = false;
	hash_add(pairs, &t->node, handle.resource);
	spin_unlock(&pairs_lock);
}

static void set_qp(struct vmsock *t, struct ovmci_qpair *qp)
{
	spin_lock(&pairs_lock);
	t->qp = qp;
	spin_unlock(&pairs_lock);
}

static void del(struct vmsock *t)
{
	spin_lock(&pairs_lock);
	hash_del(&t->node);
	spin_unlock(&pairs_lock);
}

/* --- Making and dropping ------------------------------------------------------------------------------------------ */

static u32 prepare(struct vmsock *t, u32 peer, u64 size)
{
	t->size = size;
	t->left = false;
	t->local = peer == ovmci_context_id();
	return t->local ? VMCI_QP_LOCAL : 0;
}

/* The pair is in the table. Return: 0, -ENODEV: it died before, and nobody may have said so */
static int check(struct vmsock *t)
{
	if (!ovmci_qpair_is_dead(t->qp))
		return 0;
	vmsock_pair_drop(t);
	return -ENODEV;
}

int vmsock_pair_create(struct vmsock *t, u32 peer, u64 size)
{
	struct ovmci_handle handle = OVMCI_INVALID_HANDLE;
	u32 flags = prepare(t, peer, size);
	struct ovmci_qpair *qp;
	int r;

	r = ovmci_qpair_create(&handle, size, size, peer, flags, &qp);
	if (r < 0)
		return ovmci_errno(r);
	add(t, handle, qp);
	return check(t);
}

int vmsock_pair_attach(struct vmsock *t, u32 peer, u64 size, struct ovmci_handle handle)
{
	u32 flags = prepare(t, peer, size);
	struct ovmci_qpair *qp;
	int r;

	/* What is ours, we do not attach to because somebody else says so. */
	if (!t->local && handle.context == ovmci_context_id())
		return -EPERM;
	add(t, handle, NULL);
	r = ovmci_qpair_create(&handle, size, size, peer, flags | VMCI_QP_ATTACH_ONLY, &qp);
	if (r < 0) {
		del(t);
		return ovmci_errno(r);
	}
	set_qp(t, qp);
	return check(t);
}

void vmsock_pair_drop(struct vmsock *t)
{
	if (!t->qp)
		return;
	vmsock_owe_nothing(t);
	vmsock_wait_drop(t);
	del(t);
	ovmci_qpair_destroy(t->qp);
	t->qp = NULL;
}

/* --- Events ------------------------------------------------------------------------------------------------------- */

/* Who is told: those who have the pair; without @handle all, or all but the local ones, or those with a dead pair. */
struct whom {
	const struct ovmci_handle *handle;
	bool not_local;
	bool dead;
};

static bool is_meant(const struct vmsock *t, const struct whom *whom)
{
	if (whom->handle)
		return is_equal(t->handle, *whom->handle);
	if (whom->dead)
		return t->qp && ovmci_qpair_is_dead(t->qp);
	return !(whom->not_local && t->local);
}

/* The next one that has to be told, told from now on; with a reference to its socket. */
static struct sock *next(const struct whom *whom, struct ovmci_handle *ret_handle)
{
	struct sock *sk = NULL;
	struct vmsock *t;
	int bucket;

	spin_lock(&pairs_lock);
	hash_for_each(pairs, bucket, t, node) {
		if (t->told || !is_meant(t, whom))
			continue;
		/* The last one may have gone, and the stream be about to leave the table. */
		if (!refcount_inc_not_zero(&sk_vsock(t->vsk)->sk_refcnt))
			continue;
		t->told = true;
		*ret_handle = t->handle;
		sk = sk_vsock(t->vsk);
		break;
	}
	spin_unlock(&pairs_lock);
	return sk;
}

static void tell(const struct whom whom, enum mail_kind kind)
{
	struct mail mail = { .kind = kind };
	struct sock *sk;

	while ((sk = next(&whom, &mail.handle))) {
		vmsock_inbox_post(sk, &mail);
		sock_put(sk);
	}
}

static void on_detached(void *data, const struct ovmci_event *event)
{
	tell((struct whom){ .handle = &event->handle }, MAIL_DETACH);
}

static void on_resumed(void *data, const struct ovmci_event *event)
{
	tell((struct whom){ .not_local = true, .dead = event->is_of_old }, MAIL_DETACH);
}

/* Local ones, too: their packets go nowhere any more, so that a reader would not hear of what he has been sent. */
void vmsock_pairs_lost(void)
{
	tell((struct whom){}, MAIL_LOST);
}

int vmsock_pairs_init(void)
{
	int r = ovmci_subscribe(VMCI_EVENT_QP_PEER_DETACH, on_detached, NULL, &detached);

	if (r)
		return r;
	r = ovmci_subscribe(VMCI_EVENT_QP_RESUMED, on_resumed, NULL, &resumed);
	if (r)
		ovmci_unsubscribe(detached);
	return r;
}

void vmsock_pairs_exit(void)
{
	ovmci_unsubscribe(resumed);
	ovmci_unsubscribe(detached);
}
