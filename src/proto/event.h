/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Events: datagrams from (0, 0) to (a context, 0) that say what became of contexts and queue
 * pairs. VMCI reference, 6.
 */
#ifndef PROTO_EVENT_H
#define PROTO_EVENT_H

#include <stddef.h>

#include "proto/handle.h"

#define EVENT_PLAIN_SIZE 32u	/* QP_RESUMED: no body */
#define EVENT_CONTEXT_SIZE 40u	/* CTX_ID_UPDATE, CTX_REMOVED */
#define EVENT_QP_SIZE 48u	/* QP_PEER_ATTACH, QP_PEER_DETACH */
#define EVENT_MAX_SIZE EVENT_QP_SIZE

/**
 * struct event - an event; fields that its kind has not are 0
 * @id:      VMCI_EVENT_*
 * @context: the context's new id, the removed context, or the peer that came or left
 * @handle:  the queue pair
 */
struct event {
	uint32_t id;
	uint32_t context;
	struct vmci_handle handle;
};

/* event_is_source() - does a datagram from @src count as an event? */
static inline bool event_is_source(struct vmci_handle src)
{
	return src.context == VMCI_CID_HYPERVISOR && src.resource == 0;
}

/**
 * event_build() - write the datagram that tells context @cid of @event
 * @buf: EVENT_MAX_SIZE bytes; padding is zero, because receivers copy whole structures
 *
 * Return: size of the datagram; 0 if the kind is unknown
 */
size_t event_build(uint8_t *buf, uint32_t cid, const struct event *event);

/**
 * event_parse() - read an event
 *
 * Accepts what every driver accepts: source (0, 0), resource 0, and a payload long enough for the
 * body of its kind (reference, 6).
 * Return: 0, or -EBADMSG
 */
int event_parse(const uint8_t *dg, size_t size, struct event *ret_event);

#endif /* PROTO_EVENT_H */
