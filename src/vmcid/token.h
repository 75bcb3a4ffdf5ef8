/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Tokens: what a client got from vmcid, proved to a later vmcid, which has forgotten it. Keyed BLAKE2b; the key
 * lies in the runtime directory, readable for vmcid alone. What is hashed for programs is the broker's business.
 */
#ifndef VMCID_TOKEN_H
#define VMCID_TOKEN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fabric/msg.h"

#define TOKEN_KEY_SIZE 32u

struct token_key {
	uint8_t byte[TOKEN_KEY_SIZE];
};

/* token_init() - once, before the others. 0 or -EIO */
int token_init(void);

/* token_key_make() - a new key, from the kernel's random numbers */
void token_key_make(struct token_key *ret_key);

/* token_of_object() - for the broker: the token of what @data says */
void token_of_object(const struct token_key *key, const uint8_t *data, size_t size,
		     uint8_t ret_token[static FAB_TOKEN_SIZE]);

/* token_of_device() - for the device of the VM @name: it has context @cid. Never equal to a token of an object. */
void token_of_device(const struct token_key *key, uint32_t cid, const char *name,
		     uint8_t ret_token[static FAB_TOKEN_SIZE]);

/* token_is_equal() - takes the same time for any wrong one */
bool token_is_equal(const uint8_t a[static FAB_TOKEN_SIZE], const uint8_t b[static FAB_TOKEN_SIZE]);

#endif /* VMCID_TOKEN_H */
