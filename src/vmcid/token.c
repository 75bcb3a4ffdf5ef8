/* SPDX-License-Identifier: BSD-2-Clause */
#include "token.h"

#include <assert.h>
#include <errno.h>
#include <sodium.h>
#include <string.h>

#include "base/bytes.h"
#include "broker/broker.h"

static_assert(TOKEN_KEY_SIZE == crypto_generichash_KEYBYTES, "the size that libsodium recommends");
static_assert(FAB_TOKEN_SIZE >= crypto_generichash_BYTES_MIN, "the smallest that libsodium makes");
static_assert(FAB_TOKEN_SIZE == BRK_TOKEN_SIZE, "tokens of the protocol are those of the broker");

/* The first byte of what is hashed: one kind of token cannot be shown as another. */
#define KIND_OBJECT 'o'
#define KIND_DEVICE 'd'

int token_init(void)
{
	return sodium_init() < 0 ? -EIO : 0;
}

void token_key_make(struct token_key *ret_key)
{
	randombytes_buf(ret_key->byte, sizeof(ret_key->byte));
}

static void make(const struct token_key *key, uint8_t kind, const void *data, size_t size, uint8_t *ret_token)
{
	crypto_generichash_state state;

	crypto_generichash_init(&state, key->byte, sizeof(key->byte), FAB_TOKEN_SIZE);
	crypto_generichash_update(&state, &kind, sizeof(kind));
	crypto_generichash_update(&state, data, size);
	crypto_generichash_final(&state, ret_token, FAB_TOKEN_SIZE);
}

void token_of_object(const struct token_key *key, const uint8_t *data, size_t size,
		     uint8_t ret_token[static FAB_TOKEN_SIZE])
{
	make(key, KIND_OBJECT, data, size, ret_token);
}

void token_of_device(const struct token_key *key, uint32_t cid, const char *name,
		     uint8_t ret_token[static FAB_TOKEN_SIZE])
{
	uint8_t data[4 + FAB_LABEL_MAX] = { 0 };
	size_t len = strnlen(name, FAB_LABEL_MAX);

	put_le32(data, cid);
	memcpy(data + 4, name, len);
	make(key, KIND_DEVICE, data, 4 + len, ret_token);
}

bool token_is_equal(const uint8_t a[static FAB_TOKEN_SIZE], const uint8_t b[static FAB_TOKEN_SIZE])
{
	return !sodium_memcmp(a, b, FAB_TOKEN_SIZE);
}
