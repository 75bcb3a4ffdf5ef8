/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Shared memory of the guest: the service at {1, 3}, which its programs ask by datagrams (proto/share.h), and which
 * asks vmcid. What it gives lies in the window.
 */
#ifndef VMCI_DEVICE_SHARE_H
#define VMCI_DEVICE_SHARE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fabric/msg.h"
#include "window.h"

struct shares;

/**
 * struct shares_ports - how to reach vmcid
 * @ask: one call. Return: 0, and a reply, whose descriptors are the caller's; -EHOSTDOWN: nothing was sent; -ETIMEDOUT:
 *	 it may yet be done; -EPIPE: it may have been done, and the connection has ended
 */
struct shares_ports {
	void *ctx;
	int (*ask)(void *ctx, struct fab_msg *request, struct fab_msg *ret_reply);

	/* The region @handle is no more: vmcid has forgotten its names. */
	void (*gone)(void *ctx, struct vmci_handle handle);
};

/**
 * shares_new() - the service for the guest with context id @cid
 * @window: the caller's; NULL: the guest has none, and is told so
 *
 * Return: 0 or -ENOMEM
 */
int shares_new(uint32_t cid, const struct window *window, const struct shares_ports *ports, struct shares **ret_shares);

/* shares_free() - NULL is fine. vmcid is told nothing. Returns NULL. */
struct shares *shares_free(struct shares *shares);

/**
 * shares_ask() - the guest's port @from has sent this payload to {1, 3}
 * @is_ready: vmcid knows our window, and what we have in it (shares_is_told()); else it is not asked
 *
 * Return: 0: there will be a reply; VMCI_ERROR_INVALID_ARGS: it was no request; VMCI_ERROR_NO_RESOURCES: it can be sent
 * again later, nothing was done
 */
int32_t shares_ask(struct shares *shares, bool is_ready, uint32_t from, const uint8_t *payload, size_t size);

/**
 * shares_next_reply() - the oldest reply that the guest has not got
 * @ret_size: of the datagram
 *
 * Return: a datagram, which stays the service's; NULL: there is none
 */
const uint8_t *shares_next_reply(const struct shares *shares, size_t *ret_size);

/* shares_drop_reply() - it has got it */
void shares_drop_reply(struct shares *shares);

/* shares_driver_gone() - whoever had something in the guest is no more */
void shares_driver_gone(struct shares *shares);

/* shares_tell_all() - a new vmcid knows nothing of all that */
void shares_tell_all(struct shares *shares);

/* shares_run() - tell vmcid what it does not know: at most @budget calls, by which it is lowered */
void shares_run(struct shares *shares, unsigned *budget);

/* shares_is_told() - does vmcid know everything? */
bool shares_is_told(const struct shares *shares);

#endif /* VMCI_DEVICE_SHARE_H */
