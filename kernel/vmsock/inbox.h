/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* inbox.h - what has come for a socket and waits for its lock */
#ifndef VMSOCK_INBOX_H
#define VMSOCK_INBOX_H

#include "packet.h"

struct sock;

/**
 * enum mail_kind - what it is
 * @MAIL_PACKET: a control packet
 * @MAIL_DETACH: the peer has left the queue pair
 * @MAIL_LOST:   the device is gone, and the queue pair with it
 * @MAIL_OWED:   it is time to send what could not be sent
 */
enum mail_kind {
	MAIL_PACKET,
	MAIL_DETACH,
	MAIL_LOST,
	MAIL_OWED,
};

/**
 * struct mail - a packet, an event of a queue pair, or a reminder
 */
struct mail {
	enum mail_kind kind;
	union {
		struct packet packet;
		struct ovmci_handle handle;
	};
};

/**
 * vmsock_inbox_post() - have @mail given to vmsock_receive(), soon, in the order of posting for each socket
 * @sk: the inbox takes a reference of its own
 *
 * Takes no socket's lock. Return: false: a packet was not taken, because too many wait, or there is no memory. All
 * else is always taken; its poster sees to it that a socket gets no more than one of a kind for each queue pair.
 */
bool vmsock_inbox_post(struct sock *sk, const struct mail *mail);

int vmsock_inbox_init(void);

/* vmsock_inbox_exit() - when nobody posts any more: hands out what is there, and waits for its end */
void vmsock_inbox_exit(void);

#endif /* VMSOCK_INBOX_H */
