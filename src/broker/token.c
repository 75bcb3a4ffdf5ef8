/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Tokens: a stamp, and a keyed hash over the stamp, what an object is, and whose. The broker remembers none of them:
 * what it has made once it can make again.
 *
 * DOC: Theory of operation
 *
 * A handle is given again and again, so a token must say which time it means. Stamps are real time, made to grow with
 * each creation; a stamp that is shown pushes the broker's own ahead, in case that the clock was set back. Everybody
 * who has to do with an object gets its stamp. So, of two who show tokens for one handle, those with equal stamps mean
 * the same object, and else the newer one is right: the object of the other must have gone before, or the newer one
 * could not have been made. That is decided in the time of grace, when all come back; later, who has it keeps it.
 */
#include <string.h>

#include "broker/priv.h"

/* Real time in microseconds needs 51 bits. 72 bits are far more than can be tried, for each try is a message. */
#define STAMP_SIZE 7u
#define MAC_SIZE (BRK_TOKEN_SIZE - STAMP_SIZE)

#define HEAD_SIZE 16u
#define MAX_SIZE (HEAD_SIZE + DISCOVERY_NAME_MAX)

uint64_t brk_stamp_new(struct brk *brk)
{
	uint64_t now = brk->ports.now(brk->ports.ctx);

	if (now > brk->stamp && now <= BRK_STAMP_MAX)
		brk->stamp = now;
	else if (brk->stamp < BRK_STAMP_MAX)
		brk->stamp++;
	return brk->stamp;
}

static void make(const struct brk_client *client, enum brk_token kind, const void *what, size_t size, uint64_t stamp,
		 uint8_t *ret_token)
{
	const struct brk_ports *ports = &client->brk->ports;
	uint8_t buf[MAX_SIZE], mac[BRK_TOKEN_SIZE];

	put_le32(buf, kind);
	put_le32(buf + 4, client->creds.uid);
	put_le64(buf + 8, stamp);
	memcpy(ret_token, buf + 8, STAMP_SIZE);
	memcpy(buf + HEAD_SIZE, what, size);
	ports->mac(ports->ctx, buf, HEAD_SIZE + size, mac);
	memcpy(ret_token + STAMP_SIZE, mac, MAC_SIZE);
}

/* Was it made by a broker with our key? */
static bool is_right(const struct brk_client *client, enum brk_token kind, const void *what, size_t size,
		     const uint8_t *token, uint64_t *ret_stamp)
{
	struct brk *brk = client->brk;
	uint8_t right[BRK_TOKEN_SIZE], stamp[8] = { 0 };
	uint8_t diff = 0;

	memcpy(stamp, token, STAMP_SIZE);
	make(client, kind, what, size, get_le64(stamp), right);
	/* No early end: how long it takes must not say how much was right. */
	for (size_t i = 0; i < BRK_TOKEN_SIZE; i++)
		diff |= (uint8_t)(right[i] ^ token[i]);
	if (diff)
		return false;
	*ret_stamp = get_le64(stamp);
	if (brk->stamp < *ret_stamp)
		brk->stamp = *ret_stamp;
	return true;
}

static bool is_good(const struct brk_client *client, enum brk_token kind, const void *what, size_t size,
		    const uint8_t *token, uint64_t *ret_stamp)
{
	*ret_stamp = 0;
	/* A device's word is good without one, but says nothing about when. */
	return (token && is_right(client, kind, what, size, token, ret_stamp)) || client->creds.device;
}

void brk_token_make(const struct brk_client *client, enum brk_token kind, struct vmci_handle handle, uint64_t stamp,
		    uint8_t *ret_token)
{
	uint8_t what[8];

	handle_put(what, handle);
	if (ret_token)
		make(client, kind, what, sizeof(what), stamp, ret_token);
}

void brk_token_make_name(const struct brk_client *client, const char *name, size_t size, uint64_t stamp,
			 uint8_t *ret_token)
{
	if (ret_token)
		make(client, BRK_TOKEN_NAME, name, size, stamp, ret_token);
}

bool brk_token_is_good(const struct brk_client *client, enum brk_token kind, struct vmci_handle handle,
		       const uint8_t *token, uint64_t *ret_stamp)
{
	uint8_t what[8];

	handle_put(what, handle);
	return is_good(client, kind, what, sizeof(what), token, ret_stamp);
}

bool brk_token_is_good_name(const struct brk_client *client, const char *name, size_t size, const uint8_t *token,
			    uint64_t *ret_stamp)
{
	return is_good(client, BRK_TOKEN_NAME, name, size, token, ret_stamp);
}

#define PLACE_SIZE (24u + BRK_ID_SIZE)

static void put_place(uint8_t *what, struct vmci_handle handle, uint64_t bytes, uint64_t offset, const uint8_t *id)
{
	handle_put(what, handle);
	put_le64(what + 8, bytes);
	put_le64(what + 16, offset);
	memcpy(what + 24, id, BRK_ID_SIZE);
}

void brk_token_make_place(const struct brk_client *client, const struct brk_region *region, uint8_t *ret_token)
{
	const struct brk_resource *resource = &region->resource;
	uint8_t what[PLACE_SIZE];

	put_place(what, resource->handle, resource->bytes, region->offset, brk_window_id(region->window));
	if (ret_token)
		make(client, BRK_TOKEN_PLACE, what, sizeof(what), resource->stamp, ret_token);
}

bool brk_token_is_place(const struct brk_client *client, struct vmci_handle handle, uint64_t bytes, uint64_t offset,
			const uint8_t *id, const uint8_t *token, uint64_t *ret_stamp)
{
	uint8_t what[PLACE_SIZE];

	put_place(what, handle, bytes, offset, id);
	return is_right(client, BRK_TOKEN_PLACE, what, sizeof(what), token, ret_stamp);
}

static size_t put_window(uint8_t *what, const uint8_t *id, const char *key)
{
	size_t n = strnlen(key, BRK_KEY_MAX);

	memcpy(what, id, BRK_ID_SIZE);
	memcpy(what + BRK_ID_SIZE, key, n);
	return BRK_ID_SIZE + n;
}

void brk_token_make_window(const struct brk_client *client, const uint8_t *id, const char *key, uint8_t *ret_token)
{
	uint8_t what[BRK_ID_SIZE + BRK_KEY_MAX];

	/* Memory is made once, so there is no other time to be told from. */
	if (ret_token)
		make(client, BRK_TOKEN_WINDOW, what, put_window(what, id, key), 0, ret_token);
}

bool brk_token_is_window(const struct brk_client *client, const uint8_t *id, const char *key, const uint8_t *token)
{
	uint8_t what[BRK_ID_SIZE + BRK_KEY_MAX];
	uint64_t stamp;

	return is_right(client, BRK_TOKEN_WINDOW, what, put_window(what, id, key), token, &stamp);
}
