/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* owed.h - packets that a stream owes its peer, because they could not be sent */
#ifndef VMSOCK_OWED_H
#define VMSOCK_OWED_H

#include "stream.h"

enum owed {
	OWED_WROTE = 1,
	OWED_READ = 2,
	OWED_SHUTDOWN = 4,
};

/*
 * vmsock_owe() - have the socket reminded of @what, after a while, by MAIL_OWED
 * vmsock_owe_no_more() - @what was sent, or is not needed any more
 * vmsock_owe_again() - MAIL_OWED has been dealt with: if anything is still owed, another one comes after a while
 * vmsock_owe_nothing() - the stream is over
 *
 * The caller holds the socket's lock; for the last, or is its last user.
 */
void vmsock_owe(struct vmsock *t, enum owed what);
void vmsock_owe_no_more(struct vmsock *t, enum owed what);
void vmsock_owe_again(struct vmsock *t);
void vmsock_owe_nothing(struct vmsock *t);

/* vmsock_owed_exit() - when there are no sockets of ours any more */
void vmsock_owed_exit(void);

#endif /* VMSOCK_OWED_H */
