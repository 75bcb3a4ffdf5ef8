/* SPDX-License-Identifier: BSD-2-Clause */
#include "proto/share.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "base/bytes.h"

static const char *const actions[] = { "create", "query", "attach", "detach", "owners" };
static_assert(sizeof(actions) / sizeof(actions[0]) == SHARE_ACTION_NUM, "each action has a name");

const char *share_action_to_string(unsigned action)
{
	return action < SHARE_ACTION_NUM ? actions[action] : "?";
}

void share_request_build(uint8_t *buf, const struct share_request *request)
{
	memset(buf, 0, SHARE_REQUEST_SIZE);
	put_le16(buf, request->version);
	put_le16(buf + 2, request->action);
	put_le64(buf + 8, request->id);
	handle_put(buf + 16, request->handle);
	put_le64(buf + 24, request->bytes);
}

int share_request_parse(const uint8_t *buf, size_t size, struct share_request *ret_request)
{
	if (size < SHARE_REQUEST_SIZE)
		return -EBADMSG;
	*ret_request = (struct share_request){
		.version = get_le16(buf),
		.action = get_le16(buf + 2),
		.id = get_le64(buf + 8),
		.handle = handle_get(buf + 16),
		.bytes = get_le64(buf + 24),
	};
	return 0;
}

size_t share_reply_build(uint8_t *buf, const struct share_reply *reply)
{
	size_t size = SHARE_REPLY_SIZE + 4u * reply->n_ports;

	assert(reply->n_ports <= SHARE_PORTS_MAX);
	memset(buf, 0, size);
	put_le16(buf, SHARE_VERSION);
	put_le16(buf + 2, reply->action);
	put_le32(buf + 4, (uint32_t)reply->code);
	put_le64(buf + 8, reply->id);
	handle_put(buf + 16, reply->handle);
	put_le64(buf + 24, reply->bytes);
	put_le64(buf + 32, reply->offset);
	for (unsigned i = 0; i < reply->n_ports; i++)
		put_le32(buf + SHARE_REPLY_SIZE + 4u * i, reply->port[i]);
	return size;
}

int share_reply_parse(const uint8_t *buf, size_t size, struct share_reply *ret_reply)
{
	struct share_reply reply = { 0 };

	if (size < SHARE_REPLY_SIZE || size > SHARE_REPLY_MAX || (size - SHARE_REPLY_SIZE) % 4 ||
	    get_le16(buf) != SHARE_VERSION)
		return -EBADMSG;
	reply.action = get_le16(buf + 2);
	reply.code = (int32_t)get_le32(buf + 4);
	if (reply.code < VMCI_ERROR_WOULD_BLOCK || reply.code > VMCI_SUCCESS_LAST_DETACH)
		return -EBADMSG;
	reply.id = get_le64(buf + 8);
	reply.handle = handle_get(buf + 16);
	reply.bytes = get_le64(buf + 24);
	reply.offset = get_le64(buf + 32);
	reply.n_ports = (unsigned)((size - SHARE_REPLY_SIZE) / 4);
	for (unsigned i = 0; i < reply.n_ports; i++)
		reply.port[i] = get_le32(buf + SHARE_REPLY_SIZE + 4u * i);
	*ret_reply = reply;
	return 0;
}
