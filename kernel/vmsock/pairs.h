/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* pairs.h - the queue pairs of our streams */
#ifndef VMSOCK_PAIRS_H
#define VMSOCK_PAIRS_H

#include "stream.h"

/*
 * vmsock_pair_create(), vmsock_pair_attach() - make the stream's queue pair, or attach to the one that @peer made
 *
 * The caller holds the socket's lock. From now on the socket gets MAIL_DETACH or MAIL_LOST, once.
 * Return: 0, or a negative errno
 */
int vmsock_pair_create(struct vmsock *t, u32 peer, u64 size);
int vmsock_pair_attach(struct vmsock *t, u32 peer, u64 size, struct ovmci_handle handle);

/* vmsock_pair_drop() - detach, if there is a queue pair; the caller holds the socket's lock, or is its last user */
void vmsock_pair_drop(struct vmsock *t);

/* vmsock_pairs_lost() - the device is gone */
void vmsock_pairs_lost(void);

int vmsock_pairs_init(void);
void vmsock_pairs_exit(void);

#endif /* VMSOCK_PAIRS_H */
