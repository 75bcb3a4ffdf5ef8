// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * DOC: Theory of operation
 *
 * Whoever handles a packet needs the lock of its socket, and that can take long: a program that sends from memory of
 * which pages must be fetched holds the lock meanwhile, as long as it pleases. The thread that calls us with packets
 * serves all sockets, so it must not wait for one. Therefore each socket for which something came has an inbox, with a
 * work of its own. The work hands out one thing after the other, and the inbox goes when it is empty. Inboxes are
 * found by their socket's address.
 */
#include "inbox.h"

#include <linux/hashtable.h>
#include <linux/list.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/workqueue.h>
#include <net/sock.h>

#include "stream.h"

/* Packets that may wait for one socket: as many handshakes as a usual backlog has. */
#define INBOX_MAX 256

struct letter {
	struct list_head entry;
	struct mail mail;
};

struct inbox {
	struct hlist_node node;
	struct sock *sk;
	struct work_struct work;
	struct list_head letters;
	unsigned int count;
};

static DEFINE_HASHTABLE(inboxes, 8);
static DEFINE_SPINLOCK(inboxes_lock);	/* guards the table and all inboxes */
static struct workqueue_struct *workers;

static struct inbox *find(const struct sock *sk)
{
	struct inbox *inbox;

	lockdep_assert_held(&inboxes_lock);
	hash_for_each_possible(inboxes, inbox, node, (unsigned long)sk)
		if (inbox->sk == sk)
			return inbox;
	return NULL;
}

/* The next letter; if there is none, the inbox is out of the table, and the caller's. */
static struct letter *next_letter(struct inbox *inbox)
{
	struct letter *letter;

	spin_lock(&inboxes_lock);
	letter = list_first_entry_or_null(&inbox->letters, struct letter, entry);
	if (letter) {
		list_del(&letter->entry);
		inbox->count--;
	} else {
		hash_del(&inbox->node);
	}
	spin_unlock(&inboxes_lock);
	return letter;
}

static void hand_out(struct work_struct *work)
{
	struct inbox *inbox = container_of(work, struct inbox, work);
	struct letter *letter;

	while ((letter = next_letter(inbox))) {
		vmsock_receive(inbox->sk, &letter->mail);
		kfree(letter);
		cond_resched();
	}
	sock_put(inbox->sk);
	kfree(inbox);
}

/*
 * A peer of the legacy kind says again and again that it waits, and once is enough for us: its packet counts from when
 * it is handled.
 */
static bool is_there(const struct inbox *inbox, const struct packet *p)
{
	struct letter *letter;

	if (p->type != PACKET_WAITING_READ && p->type != PACKET_WAITING_WRITE)
		return false;
	list_for_each_entry(letter, &inbox->letters, entry)
		if (letter->mail.kind == MAIL_PACKET && letter->mail.packet.type == p->type &&
		    letter->mail.packet.src.context == p->src.context && letter->mail.packet.src_port == p->src_port)
			return true;
	return false;
}

bool vmsock_inbox_post(struct sock *sk, const struct mail *mail)
{
	gfp_t gfp = GFP_KERNEL | (mail->kind == MAIL_PACKET ? 0 : __GFP_NOFAIL);
	struct inbox *inbox, *fresh = kmalloc(sizeof(*fresh), gfp);
	struct letter *letter = kmalloc(sizeof(*letter), gfp);
	bool taken = false;

	if (!fresh || !letter)
		goto out;
	letter->mail = *mail;

	spin_lock(&inboxes_lock);
	inbox = find(sk);
	if (!inbox) {
		inbox = fresh;
		fresh = NULL;
		sock_hold(sk);
		inbox->sk = sk;
		INIT_WORK(&inbox->work, hand_out);
		INIT_LIST_HEAD(&inbox->letters);
		inbox->count = 0;
		hash_add(inboxes, &inbox->node, (unsigned long)sk);
		queue_work(workers, &inbox->work);
	}
	if (mail->kind == MAIL_PACKET && is_there(inbox, &mail->packet)) {
		taken = true;
	} else if (mail->kind != MAIL_PACKET || inbox->count < INBOX_MAX) {
		list_add_tail(&letter->entry, &inbox->letters);
		inbox->count++;
		letter = NULL;
		taken = true;
	}
	spin_unlock(&inboxes_lock);
out:
	kfree(letter);
	kfree(fresh);
	return taken;
}

int vmsock_inbox_init(void)
{
	workers = alloc_workqueue("vmsock", WQ_UNBOUND, 0);
	return workers ? 0 : -ENOMEM;
}

void vmsock_inbox_exit(void)
{
	destroy_workqueue(workers);
}
