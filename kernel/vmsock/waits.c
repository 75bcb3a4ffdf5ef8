// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * DOC: Theory of operation
 *
 * Programs look at an empty ring as often as they like, and the peer is told once. It is told again when it has
 * answered, whether the answer was about this wait or one before, and when bytes have been moved since: so an answer
 * that it could not send costs a wait at most.
 *
 * WROTE and READ come without the socket's lock, and without it a socket's transport may change: what it has of ours is
 * not to be touched. So there is a table of those who wait, by socket, which they leave before they are freed.
 */
#include "waits.h"

#include <linux/hashtable.h>
#include <linux/spinlock.h>

static DEFINE_HASHTABLE(waits, 8);
static DEFINE_SPINLOCK(waits_lock);	/* guards the table, and waiting and wait_node of all */

/* Under waits_lock. */
static void clear(struct vmsock *t, unsigned int what)
{
	t->waiting &= ~what;
	if (!t->waiting)
		hash_del(&t->wait_node);
}

bool vmsock_wait_begin(struct vmsock *t, enum wait_for what)
{
	bool is_new;

	spin_lock(&waits_lock);
	is_new = !(t->waiting & what);
	if (!t->waiting)
		hash_add(waits, &t->wait_node, (unsigned long)sk_vsock(t->vsk));
	t->waiting |= what;
	spin_unlock(&waits_lock);
	return is_new;
}

void vmsock_wait_end(struct vmsock *t, enum wait_for what)
{
	spin_lock(&waits_lock);
	clear(t, what);
	spin_unlock(&waits_lock);
}

void vmsock_wait_answered(const struct sock *sk, enum wait_for what)
{
	struct vmsock *t;

	spin_lock(&waits_lock);
	hash_for_each_possible(waits, t, wait_node, (unsigned long)sk) {
		if (sk_vsock(t->vsk) == sk) {
			clear(t, what);
			break;
		}
	}
	spin_unlock(&waits_lock);
}

void vmsock_wait_drop(struct vmsock *t)
{
	spin_lock(&waits_lock);
	clear(t, WAIT_DATA | WAIT_ROOM);
	spin_unlock(&waits_lock);
}
