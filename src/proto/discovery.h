/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The discovery service's datagrams, to and from {1, 1}: payloads only, without the header. VMCI SDK reference, 6.2.
 */
#ifndef PROTO_DISCOVERY_H
#define PROTO_DISCOVERY_H

#include <stddef.h>

#include "proto/handle.h"
#include "proto/limits.h"

/* What goes before name and text, and the largest payload. */
#define DISCOVERY_HEAD_SIZE 20u
#define DISCOVERY_PAYLOAD_MAX 300u
#define DISCOVERY_REPLY_MAX DISCOVERY_PAYLOAD_MAX
#define DISCOVERY_NAME_MAX 255u
#define DISCOVERY_TEXT_MAX (DISCOVERY_PAYLOAD_MAX - 24u - 1u)

enum discovery_action {
	DISCOVERY_LOOKUP,
	DISCOVERY_REGISTER,
	DISCOVERY_UNREGISTER,
};

/**
 * struct discovery_request - a question
 * @action: enum discovery_action, or something unknown
 * @id:     copied into the reply
 * @handle: register: what gets the name; else the invalid handle
 * @name:   @name_size bytes, without the NUL. Of a parsed request: inside the buffer that was parsed
 */
struct discovery_request {
	int32_t action;
	int32_t id;
	struct vmci_handle handle;
	const char *name;
	size_t name_size;
};

/**
 * discovery_request_build() - write the payload of @request
 * @buf: DISCOVERY_PAYLOAD_MAX bytes
 *
 * Return: its size, 24 + length of the name; 0: the name is longer than DISCOVERY_NAME_MAX
 */
size_t discovery_request_build(uint8_t *buf, const struct discovery_request *request);

/**
 * discovery_request_parse() - read a payload of @size bytes
 *
 * What is behind the name is ignored. The length of the name and its bytes are not judged beyond being there, with a
 * NUL behind them.
 * Return: 0; -EMSGSIZE: larger than DISCOVERY_PAYLOAD_MAX; -EBADMSG: too short for what it says
 */
int discovery_request_parse(const uint8_t *buf, size_t size, struct discovery_request *ret_request);

/**
 * struct discovery_reply - an answer
 * @code:   VMCI_SUCCESS or VMCI_ERROR_*
 * @handle: lookup: what was found; else the invalid handle
 * @text:   for humans, @text_size bytes without the NUL; empty if all went well
 */
struct discovery_reply {
	int32_t id;
	int32_t code;
	struct vmci_handle handle;
	const char *text;
	size_t text_size;
};

/**
 * discovery_reply_build() - write the payload of @reply; text beyond DISCOVERY_TEXT_MAX is cut
 * @buf: DISCOVERY_REPLY_MAX bytes
 *
 * Return: its size, 24 + length of the text + 1
 */
size_t discovery_reply_build(uint8_t *buf, const struct discovery_reply *reply);

/* discovery_reply_parse() - as discovery_request_parse() */
int discovery_reply_parse(const uint8_t *buf, size_t size, struct discovery_reply *ret_reply);

#endif /* PROTO_DISCOVERY_H */
