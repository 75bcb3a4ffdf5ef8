// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * DOC: Theory of operation
 *
 * A packet does not go if the peer's queue is full, or memory is short. WROTE, READ and SHUTDOWN must not be lost: the
 * peer may sleep until it gets them. So the stream owes them (vmsock.owed), and is in the list of debtors. After a
 * while one work takes all out of the list and puts MAIL_OWED into their inboxes: sending takes the socket's lock, and
 * the work must not wait for one of many. Whoever can still not send comes into the list again. A stream has one such
 * letter at most (vmsock.is_reminded).
 *
 * All other packets belong to handshakes, which end after a time, or say what leaving the queue pair says as well.
 *
 * A stream leaves the list when it drops its queue pair, so before it is freed.
 */
#include "owed.h"

#include <linux/list.h>
#include <linux/spinlock.h>
#include <linux/workqueue.h>

/* For the peer to make room in its queue, which it does as soon as it runs. */
#define AFTER (HZ / 20)

static LIST_HEAD(debtors);
static DEFINE_SPINLOCK(debtors_lock);	/* guards the list, and debtor and is_reminded of all */

/* The next one of @list, which has a letter from now on; with a reference to its socket. */
static struct sock *next(struct list_head *list)
{
	struct sock *sk = NULL;
	struct vmsock *t;

	spin_lock(&debtors_lock);
	while (!sk && (t = list_first_entry_or_null(list, struct vmsock, debtor))) {
		list_del_init(&t->debtor);
		/* The last one may have gone, and the stream be about to leave the list. */
		if (refcount_inc_not_zero(&sk_vsock(t->vsk)->sk_refcnt)) {
			t->is_reminded = true;
			sk = sk_vsock(t->vsk);
		}
	}
	spin_unlock(&debtors_lock);
	return sk;
}

static void remind(struct work_struct *work)
{
	const struct mail mail = { .kind = MAIL_OWED };
	struct sock *sk;
	LIST_HEAD(due);

	spin_lock(&debtors_lock);
	list_splice_init(&debtors, &due);
	spin_unlock(&debtors_lock);
	while ((sk = next(&due))) {
		vmsock_inbox_post(sk, &mail);
		sock_put(sk);
	}
}

static DECLARE_DELAYED_WORK(remind_work, remind);

static void enlist(struct vmsock *t)
{
	spin_lock(&debtors_lock);
	if (!t->is_reminded && list_empty(&t->debtor)) {
		list_add_tail(&t->debtor, &debtors);
		schedule_delayed_work(&remind_work, AFTER);
	}
	spin_unlock(&debtors_lock);
}

void vmsock_owe(struct vmsock *t, enum owed what)
{
	t->owed |= what;
	enlist(t);
}

void vmsock_owe_no_more(struct vmsock *t, enum owed what)
{
	t->owed &= ~what;
}

void vmsock_owe_again(struct vmsock *t)
{
	spin_lock(&debtors_lock);
	t->is_reminded = false;
	spin_unlock(&debtors_lock);
	if (t->owed)
		enlist(t);
}

void vmsock_owe_nothing(struct vmsock *t)
{
	t->owed = 0;
	spin_lock(&debtors_lock);
	list_del_init(&t->debtor);
	spin_unlock(&debtors_lock);
}

void vmsock_owed_exit(void)
{
	cancel_delayed_work_sync(&remind_work);
}
