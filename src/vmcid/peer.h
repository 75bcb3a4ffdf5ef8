/* SPDX-License-Identifier: BSD-2-Clause */
/* One connection of a client, program or device. Theory: peer.c */
#ifndef VMCID_PEER_H
#define VMCID_PEER_H

#include "fabric/msg.h"
#include "server.h"

struct vm;

/**
 * peer_new() - serve the connection @fd, which is taken in any case
 * @vm: whose device it is; NULL with @is_device: said by its HELLO
 *
 * Return: 0; a negative errno after a line in the log
 */
int peer_new(struct server *server, int fd, bool is_device, struct vm *vm, struct peer **ret_peer);

/**
 * peer_fail() - end the connection, with a reason for the log
 *
 * It is freed from the event loop later; until then nothing happens with it any more.
 */
void peer_fail(struct peer *peer, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* peer_retry() - some of them had no room for descriptors, see server_retry() */
void peer_retry(struct server *server);

/* peer_bury() - free the connections that have ended */
void peer_bury(struct server *server);

/* peer_free() - at once. Returns NULL. */
struct peer *peer_free(struct peer *peer);

/* peer_resume() - the grace period is over: requests that waited for that are carried out */
void peer_resume(struct server *server);

/* peer_hush() - nothing happens with any of them any more, but that they are freed */
void peer_hush(struct server *server);

/* peer_name() - "client 1234 (uid 1000)", "cid 42", for the log */
const char *peer_name(const struct peer *peer);

/* The list of the server. */
struct peer *peer_next(const struct peer *peer);
void peer_link(struct peer *peer, struct peer **list);
void peer_unlink(struct peer *peer, struct peer **list);

#endif /* VMCID_PEER_H */
