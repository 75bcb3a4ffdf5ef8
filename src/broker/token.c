/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Tokens: a keyed hash over what an object is, and whose. The broker remembers none of them: what it has made once it
 * can make again.
 */
#include <string.h>

#include "broker/priv.h"

#define HEAD_SIZE 8u
#define MAX_SIZE (HEAD_SIZE + DISCOVERY_NAME_MAX)

static void make(const struct brk_client *client, enum brk_token kind, const void *what, size_t size,
		 uint8_t *ret_token)
{
	const struct brk_ports *ports = &client->brk->ports;
	uint8_t buf[MAX_SIZE];

	put_le32(buf, kind);
	put_le32(buf + 4, client->creds.uid);
	memcpy(buf + HEAD_SIZE, what, size);
	ports->mac(ports->ctx, buf, HEAD_SIZE + size, ret_token);
}

static bool is_good(const struct brk_client *client, enum brk_token kind, const void *what, size_t size,
		    const uint8_t *token)
{
	uint8_t right[BRK_TOKEN_SIZE];
	uint8_t diff = 0;

	if (client->creds.device)
		return true;
	if (!token)
		return false;
	make(client, kind, what, size, right);
	/* No early end: how long it takes must not say how much was right. */
	for (size_t i = 0; i < BRK_TOKEN_SIZE; i++)
		diff |= (uint8_t)(right[i] ^ token[i]);
	return !diff;
}

void brk_token_make(const struct brk_client *client, enum brk_token kind, struct vmci_handle handle, uint8_t *ret_token)
{
	uint8_t what[8];

	handle_put(what, handle);
	if (ret_token)
		make(client, kind, what, sizeof(what), ret_token);
}

void brk_token_make_name(const struct brk_client *client, const char *name, size_t size, uint8_t *ret_token)
{
	if (ret_token)
		make(client, BRK_TOKEN_NAME, name, size, ret_token);
}

bool brk_token_is_good(const struct brk_client *client, enum brk_token kind, struct vmci_handle handle,
		       const uint8_t *token)
{
	uint8_t what[8];

	handle_put(what, handle);
	return is_good(client, kind, what, sizeof(what), token);
}

bool brk_token_is_good_name(const struct brk_client *client, const char *name, size_t size, const uint8_t *token)
{
	return is_good(client, BRK_TOKEN_NAME, name, size, token);
}
