/* SPDX-License-Identifier: BSD-2-Clause */
/* Ports of streams: the sockets in the runtime directory, and connecting to them. Theory: port.c */
#ifndef VMCID_PORT_H
#define VMCID_PORT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "broker/broker.h"
#include "fabric/address.h"
#include "rundir.h"

struct ports;


/**
 * ports_new() - the ports of the runtime directory @rundir, which stays the caller's
 *
 * Those whose sockets are there go on. Return: 0 or a negative errno
 */
int ports_new(const struct rundir *rundir, struct ports **ret_ports);

/* ports_free() - the files stay, for the next vmcid; NULL is fine. Returns NULL. */
struct ports *ports_free(struct ports *ports);

/**
 * ports_bind() - bind @fd to port *@port of context @cid; VMCI_PORT_ANY: to one that is chosen
 * @uid, @is_trusted: whose it is, and whether restricted ones may connect to it
 *
 * Return: 0; VMCI_ERROR_ALREADY_EXISTS; VMCI_ERROR_NO_RESOURCES: too many of this user, or no port is free;
 * VMCI_ERROR_INVALID_ARGS: the socket is bound, or the path is too long; VMCI_ERROR_NO_MEM; VMCI_ERROR_UNAVAILABLE
 */
int32_t ports_bind(struct ports *ports, int fd, uid_t uid, bool is_trusted, uint32_t cid, uint32_t *port);

/* ports_look() - who listens at port @port of context @cid? A path whose socket has gone is nobody. */
enum brk_listener ports_look(const struct ports *ports, uint32_t cid, uint32_t port);

/*
 * ports_glance() - the same for less: what the books say. A path whose socket has gone counts: connecting will tell. For
 * those to whom it makes no difference whether the listener is trusted
 */
enum brk_listener ports_glance(const struct ports *ports, uint32_t cid, uint32_t port);

/**
 * ports_source() - from which port does @fd come?
 * @self: who connects; its port is a wish, or VMCI_PORT_ANY, and is set on success
 *
 * Return: 0; VMCI_ERROR_ALREADY_EXISTS: somebody listens there; VMCI_ERROR_INVALID_ARGS: the socket is bound to
 * something else than what it would get
 */
int32_t ports_source(struct ports *ports, int fd, struct fab_address *self);

/**
 * ports_connect() - connect @fd, of @self, to port @port of context @cid
 *
 * Return: 0; VMCI_ERROR_NOT_FOUND: nobody listens there, or at another kind of socket; VMCI_ERROR_WOULD_BLOCK: its
 * queue is full; VMCI_ERROR_INVALID_ARGS: the socket is in use, or has another name than @self; VMCI_ERROR_NO_MEM;
 * VMCI_ERROR_UNAVAILABLE.
 * -EINTR: whoever else has the socket made us wait
 */
int32_t ports_connect(struct ports *ports, int fd, const struct fab_address *self, uint32_t cid, uint32_t port);

/**
 * ports_join() - connect @fd, of @self, to nobody yet, with port @port of context @cid as its peer's address
 * @ret_end: the other end, the caller's
 *
 * Return: as ports_connect()
 */
int32_t ports_join(struct ports *ports, int fd, const struct fab_address *self, uint32_t cid, uint32_t port,
		   int *ret_end);

/**
 * ports_stop() - make the connected socket @fd one that cannot be written to, until its peer has read what we write now
 *
 * Return: bytes that the peer has to read and drop; 0: it would take too many, or the socket takes none
 */
uint32_t ports_stop(int fd);

/* ports_socket() - a socket of our own, for the end of a guest; the descriptor, or a negative errno */
int ports_socket(void);

/* ports_forget() - context @cid has gone, and its ports with it, whoever still listens there */
void ports_forget(struct ports *ports, uint32_t cid);

/*
 * ports_claim() - context @cid, not the host's, is user @uid's now: what other users have bound there goes. What is
 * from before a restart is left to ports_settle().
 */
void ports_claim(struct ports *ports, uint32_t cid, uid_t uid);

/* ports_settle() - who has not come back does not: forget the contexts that are not there, or are another user's now */
void ports_settle(struct ports *ports, const struct brk *brk);

#endif /* VMCID_PORT_H */
