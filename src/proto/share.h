/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The service for shared memory in guests: datagrams to and from {1, 3}, payloads only. Ours; doc/protocol-window.md.
 * Little-endian:
 *
 *	request			reply
 *	 0  2  version		 0  2  version
 *	 2  2  action		 2  2  action
 *	 4  4  0		 4  4  code: >= 0 or VMCI_ERROR_*
 *	 8  8  id		 8  8  id
 *	16  8  handle		16  8  handle
 *	24  8  bytes		24  8  bytes
 *				32  8  offset
 *				40  n  ports, 4 bytes each
 */
#ifndef PROTO_SHARE_H
#define PROTO_SHARE_H

#include <stddef.h>

#include "proto/handle.h"
#include "proto/limits.h"

#define SHARE_VERSION 1u
#define SHARE_REQUEST_SIZE 32u
#define SHARE_REPLY_SIZE 40u
#define SHARE_PORTS_MAX 256u
#define SHARE_REPLY_MAX (SHARE_REPLY_SIZE + 4u * SHARE_PORTS_MAX)

/**
 * enum share_action - what is asked for
 * @SHARE_CREATE: a region of @bytes, in the context of who asks; resource @handle.resource, or VMCI_INVALID_ID for any
 * @SHARE_QUERY:  how large is @handle?
 * @SHARE_ATTACH: @handle
 * @SHARE_DETACH: @handle, or with the invalid handle whatever it is; the port that asks must have it
 * @SHARE_OWNERS: which ports have something? From the one on that comes as number @bytes
 */
enum share_action {
	SHARE_CREATE,
	SHARE_QUERY,
	SHARE_ATTACH,
	SHARE_DETACH,
	SHARE_OWNERS,
	SHARE_ACTION_NUM,
};

/* share_action_to_string() - for humans; "?" for a number that is none */
const char *share_action_to_string(unsigned action);

/**
 * struct share_request - a question
 * @action: enum share_action, or something unknown
 * @id:     chosen by who asks: a question that is asked again has the same, another one has another
 */
struct share_request {
	uint16_t version;
	uint16_t action;
	uint64_t id;
	struct vmci_handle handle;
	uint64_t bytes;
};

/* share_request_build() - write SHARE_REQUEST_SIZE bytes */
void share_request_build(uint8_t *buf, const struct share_request *request);

/**
 * share_request_parse() - read a payload of @size bytes
 *
 * What is behind the request is ignored, for later versions.
 * Return: 0; -EBADMSG: too short
 */
int share_request_parse(const uint8_t *buf, size_t size, struct share_request *ret_request);

/**
 * struct share_reply - an answer
 * @code:   VMCI_SUCCESS, VMCI_SUCCESS_LAST_DETACH or VMCI_ERROR_*
 * @bytes:  of the region; OWNERS: where to go on asking, 0: that was all
 * @offset: where the region begins in the window (CREATE, ATTACH)
 * @port:   @n_ports of them (OWNERS)
 */
struct share_reply {
	uint16_t action;
	int32_t code;
	uint64_t id;
	struct vmci_handle handle;
	uint64_t bytes;
	uint64_t offset;
	unsigned n_ports;
	uint32_t port[SHARE_PORTS_MAX];
};

/**
 * share_reply_build() - write the payload of @reply
 * @buf: SHARE_REPLY_MAX bytes
 *
 * Return: its size
 */
size_t share_reply_build(uint8_t *buf, const struct share_reply *reply);

/**
 * share_reply_parse() - read a payload of @size bytes
 *
 * Return: 0; -EBADMSG: too short, too long, another version, a code that VMCI does not have
 */
int share_reply_parse(const uint8_t *buf, size_t size, struct share_reply *ret_reply);

#endif /* PROTO_SHARE_H */
