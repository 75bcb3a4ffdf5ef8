/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* waits.h - which streams have told their peers by a packet that they wait (transport reference, 8.2) */
#ifndef VMSOCK_WAITS_H
#define VMSOCK_WAITS_H

#include "stream.h"

enum wait_for {
	WAIT_DATA = 1,	/* WAITING_READ */
	WAIT_ROOM = 2,	/* WAITING_WRITE */
};

/*
 * vmsock_wait_begin() - we are about to wait, on a ring that is empty or full; the caller holds the socket's lock
 *
 * Return: is the peer to be told? Not if it was, and has not answered. It counts as told from now on, since it may
 * answer before sending has returned: vmsock_wait_end() if it could not be told.
 */
bool vmsock_wait_begin(struct vmsock *t, enum wait_for what);

/* vmsock_wait_end() - the peer could not be told, or bytes were moved, so that another wait would be a new one */
void vmsock_wait_end(struct vmsock *t, enum wait_for what);

/* vmsock_wait_answered() - the peer says WROTE or READ: it knows no more that we wait. Takes no socket's lock. */
void vmsock_wait_answered(const struct sock *sk, enum wait_for what);

/* vmsock_wait_drop() - the stream is over; the caller holds the socket's lock, or is its last user */
void vmsock_wait_drop(struct vmsock *t);

#endif /* VMSOCK_WAITS_H */
