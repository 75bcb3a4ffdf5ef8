/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Who has how much: quotas. A context has an account; in context 2, where everybody may join, each user has one.
 * Totals of a user are in struct brk_user. A VM's device runs as vmcid's user, but counts for itself.
 */
#include <stdlib.h>

#include "broker/priv.h"

/* How many of a type an account may have. */
static unsigned most(const struct brk_limits *limits, enum brk_type type)
{
	switch (type) {
	case BRK_DATAGRAM:
		return limits->endpoints;
	case BRK_BELL:
		return limits->doorbells;
	case BRK_PAIR:
		return limits->pairs;
	case BRK_REGION:
		return limits->regions;
	case BRK_GROUP:
		return limits->groups;
	case BRK_TYPE_NUM:
		break;
	}
	return 0;
}

struct brk_user *brk_user_get(struct brk *brk, uint32_t uid, bool is_shared)
{
	uint64_t hash = brk_hash(brk->seed, uid, 0);
	struct brk_node *node = is_shared ? brk_table_first(&brk->users, hash) : NULL;
	struct brk_user *user;

	for (; node; node = brk_table_next(node)) {
		user = brk_of(node, struct brk_user, node);
		if (user->uid == uid) {
			user->refs++;
			return user;
		}
	}
	user = calloc(1, sizeof(*user));
	if (!user)
		return NULL;
	user->limits = &brk->limits;
	user->uid = uid;
	user->refs = 1;
	user->is_shared = is_shared;
	if (is_shared)
		brk_table_add(&brk->users, &user->node, hash);
	return user;
}

void brk_user_put(struct brk *brk, struct brk_user *user)
{
	if (--user->refs)
		return;
	if (user->is_shared)
		brk_table_del(&brk->users, &user->node);
	free(user);
}

struct brk_account *brk_account_get(struct brk_user *user, bool is_host)
{
	struct brk_account *account = is_host ? user->host : NULL;

	if (!account) {
		account = calloc(1, sizeof(*account));
		if (!account)
			return NULL;
		account->user = user;
		user->refs++;
		if (is_host)
			user->host = account;
	}
	account->refs++;
	return account;
}

void brk_account_put(struct brk *brk, struct brk_account *account)
{
	struct brk_user *user = account->user;

	if (--account->refs)
		return;
	if (user->host == account)
		user->host = NULL;
	free(account);
	brk_user_put(brk, user);
}

bool brk_account_has_room(const struct brk_account *account, enum brk_type type, uint64_t bytes)
{
	const struct brk_limits *limits = account->user->limits;

	if (account->count[type] >= most(limits, type) || account->user->resources >= limits->resources)
		return false;
	if (type == BRK_PAIR)
		return bytes <= LIMIT_QUEUE_MEMORY - account->ring_bytes;
	return type != BRK_REGION || bytes <= limits->region_bytes - account->user->region_bytes;
}

void brk_account_add(struct brk_account *account, enum brk_type type, uint64_t bytes)
{
	account->refs++;
	account->count[type]++;
	account->user->resources++;
	if (type == BRK_PAIR)
		account->ring_bytes += bytes;
	else
		account->user->region_bytes += bytes;
}

void brk_account_del(struct brk *brk, struct brk_account *account, enum brk_type type, uint64_t bytes)
{
	account->count[type]--;
	account->user->resources--;
	if (type == BRK_PAIR)
		account->ring_bytes -= bytes;
	else
		account->user->region_bytes -= bytes;
	brk_account_put(brk, account);
}
