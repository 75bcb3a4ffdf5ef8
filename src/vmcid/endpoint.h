/* SPDX-License-Identifier: BSD-2-Clause */
/* Endpoints of datagrams that live as long as a program's socket, not as its connection: DG_BIND. Theory: endpoint.c */
#ifndef VMCID_ENDPOINT_H
#define VMCID_ENDPOINT_H

#include <sys/types.h>

#include "server.h"

struct endpoints;

/* endpoints_new() - 0 or a negative errno */
int endpoints_new(struct server *server, struct endpoints **ret_endpoints);

/*
 * endpoints_free() - forget them; those that are in use are found again by the next vmcid. NULL is fine. Returns
 * NULL.
 */
struct endpoints *endpoints_free(struct endpoints *endpoints);

/* endpoints_restore() - find those that an earlier vmcid has left; before anybody else is served */
void endpoints_restore(struct endpoints *endpoints);

/* endpoints_evict() - those go whose context somebody else has got, by a newer token */
void endpoints_evict(struct endpoints *endpoints);

/* endpoints_count() - how many are there; NULL has none */
unsigned endpoints_count(const struct endpoints *endpoints);

/**
 * struct endpoint_wish - who wants what
 * @client: who asks; has said HELLO, or not
 * @name:   of it, for the log
 * @handle: VMCI_INVALID_ID: the client's own context, any port
 */
struct endpoint_wish {
	struct brk_client *client;
	struct user *user;
	uid_t uid;
	pid_t pid;
	const char *name;
	struct vmci_handle handle;
};

/**
 * endpoint_bind() - DG_BIND: make the socket @fd, which stays the caller's, an endpoint
 *
 * Return: 0; VMCI_ERROR_INVALID_ARGS: it is no SOCK_DGRAM UNIX socket of that user without a name, or another context
 * is wished; as brk_dg_create(). -EINTR: whoever else has the socket made us wait
 */
int32_t endpoint_bind(struct endpoints *endpoints, const struct endpoint_wish *wish, int fd,
		      struct vmci_handle *ret_handle);

#endif /* VMCID_ENDPOINT_H */
