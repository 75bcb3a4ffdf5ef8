/* SPDX-License-Identifier: BSD-2-Clause */
/* The discovery service's datagrams. VMCI SDK reference, 6.2. */
#include "proto/discovery.h"

#include <errno.h>
#include <string.h>

/* The fixed part of the structures, whose last member is one byte of name or text, and padding. */
#define FIXED_SIZE 24u

size_t discovery_request_build(uint8_t *buf, const struct discovery_request *request)
{
	size_t size = FIXED_SIZE + request->name_size;

	if (request->name_size > DISCOVERY_NAME_MAX)
		return 0;
	memset(buf, 0, size);
	put_le32(buf, (uint32_t)request->action);
	put_le32(buf + 4, (uint32_t)request->id);
	handle_put(buf + 8, request->handle);
	put_le32(buf + 16, (uint32_t)request->name_size);
	memcpy(buf + DISCOVERY_HEAD_SIZE, request->name, request->name_size);
	return size;
}

/* Name or text of a payload: its length is at 16, its bytes at 20, a NUL behind them. */
static int get_text(const uint8_t *buf, size_t size, const char **ret_text, size_t *ret_size)
{
	uint32_t p_size;

	if (size > DISCOVERY_PAYLOAD_MAX)
		return -EMSGSIZE;
	if (size < DISCOVERY_HEAD_SIZE + 1)
		return -EBADMSG;
	p_size = get_le32(buf + 16);
	if (p_size > size - DISCOVERY_HEAD_SIZE - 1 || buf[DISCOVERY_HEAD_SIZE + p_size])
		return -EBADMSG;
	*ret_text = (const char *)buf + DISCOVERY_HEAD_SIZE;
	*ret_size = p_size;
	return 0;
}

int discovery_request_parse(const uint8_t *buf, size_t size, struct discovery_request *ret_request)
{
	const char *name;
	size_t name_size;
	int r = get_text(buf, size, &name, &name_size);

	if (r)
		return r;
	*ret_request = (struct discovery_request){
		.action = (int32_t)get_le32(buf),
		.id = (int32_t)get_le32(buf + 4),
		.handle = handle_get(buf + 8),
		.name = name,
		.name_size = name_size,
	};
	return 0;
}

size_t discovery_reply_build(uint8_t *buf, const struct discovery_reply *reply)
{
	size_t n = reply->text_size > DISCOVERY_TEXT_MAX ? DISCOVERY_TEXT_MAX : reply->text_size;
	size_t size = FIXED_SIZE + n + 1;

	memset(buf, 0, size);
	put_le32(buf, (uint32_t)reply->id);
	put_le32(buf + 4, (uint32_t)reply->code);
	handle_put(buf + 8, reply->handle);
	put_le32(buf + 16, (uint32_t)n);
	if (n)
		memcpy(buf + DISCOVERY_HEAD_SIZE, reply->text, n);
	return size;
}

int discovery_reply_parse(const uint8_t *buf, size_t size, struct discovery_reply *ret_reply)
{
	const char *text;
	size_t text_size;
	int r = get_text(buf, size, &text, &text_size);

	if (r)
		return r;
	*ret_reply = (struct discovery_reply){
		.id = (int32_t)get_le32(buf),
		.code = (int32_t)get_le32(buf + 4),
		.handle = handle_get(buf + 8),
		.text = text,
		.text_size = text_size,
	};
	return 0;
}
