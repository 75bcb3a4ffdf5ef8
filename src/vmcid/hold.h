/* SPDX-License-Identifier: BSD-2-Clause */
/* Contexts that last as long as a program has a socket, for the next vmcid, too: HELLO with HOLD. Theory: hold.c */
#ifndef VMCID_HOLD_H
#define VMCID_HOLD_H

#include <sys/types.h>

#include "server.h"

struct hold;
struct holds;

/* holds_new() - 0 or -ENOMEM */
int holds_new(struct server *server, struct holds **ret_holds);

/* holds_free() - forget them; those that are in use are found again by the next vmcid. NULL is fine. Returns NULL. */
struct holds *holds_free(struct holds *holds);

/* holds_restore() - find those that an earlier vmcid has left; before anybody else is served */
void holds_restore(struct holds *holds);

/* holds_evict() - those go whose context somebody else has got, by a newer token */
void holds_evict(struct holds *holds);

/* holds_count() - how many are there; NULL has none */
unsigned holds_count(const struct holds *holds);

/**
 * struct hold_wish - who wants what
 * @user, @uid, @pid: whose it is
 * @name:  of who asks, for the log
 * @cid, @is_restricted, @label, @resume: as brk_hello() has them
 */
struct hold_wish {
	struct user *user;
	uid_t uid;
	pid_t pid;
	const char *name;
	uint32_t cid;
	bool is_restricted;
	const char *label;
	const uint8_t *resume;
};

/**
 * hold_new() - a context is there, made or joined, as long as somebody has the socket @fd, which stays the caller's
 *
 * Return: 0; VMCI_ERROR_INVALID_ARGS: it is no SOCK_SEQPACKET UNIX socket of that user without a name and a peer;
 * VMCI_ERROR_NO_RESOURCES, VMCI_ERROR_NO_MEM; as brk_hello(), BRK_LATER too. -EINTR: whoever else has the socket made
 * us wait
 */
int32_t hold_new(struct holds *holds, const struct hold_wish *wish, int fd, struct hold **ret_hold);

/* hold_cid() - its context */
uint32_t hold_cid(const struct hold *hold);

/* hold_free() - undo hold_new(). Returns NULL. */
struct hold *hold_free(struct hold *hold);

#endif /* VMCID_HOLD_H */
