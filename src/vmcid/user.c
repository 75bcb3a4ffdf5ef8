/* SPDX-License-Identifier: BSD-2-Clause */
#include "user.h"

#include <assert.h>
#include <stdlib.h>

struct user {
	struct users *users;
	struct user *next;
	uid_t uid;
	bool is_trusted;
	unsigned refs;
	unsigned fds;
};

struct users {
	struct user *first;
	unsigned max_fds;
	unsigned max_fds_each;
	unsigned fds;
};

struct users *users_new(unsigned max_fds, unsigned max_fds_each)
{
	struct users *users = calloc(1, sizeof(*users));

	if (users) {
		users->max_fds = max_fds;
		users->max_fds_each = max_fds_each;
	}
	return users;
}

struct users *users_free(struct users *users)
{
	if (users) {
		assert(!users->first && !users->fds);
		free(users);
	}
	return NULL;
}

struct user *user_ref(struct users *users, uid_t uid, bool is_trusted)
{
	struct user *user;

	for (user = users->first; user; user = user->next)
		if (user->uid == uid && user->is_trusted == is_trusted)
			break;
	if (!user) {
		user = calloc(1, sizeof(*user));
		if (!user)
			return NULL;
		*user = (struct user){ .users = users, .next = users->first, .uid = uid, .is_trusted = is_trusted };
		users->first = user;
	}
	user->refs++;
	return user;
}

struct user *user_again(struct user *user)
{
	user->refs++;
	return user;
}

struct user *user_unref(struct user *user)
{
	struct user **at;

	if (!user || --user->refs)
		return NULL;
	assert(!user->fds);
	for (at = &user->users->first; *at != user; at = &(*at)->next)
		;
	*at = user->next;
	free(user);
	return NULL;
}

bool user_take(struct user *user, unsigned n)
{
	struct users *users = user->users;

	if (n > users->max_fds - users->fds)
		return false;
	if (!user->is_trusted && (user->fds > users->max_fds_each || n > users->max_fds_each - user->fds))
		return false;
	user->fds += n;
	users->fds += n;
	return true;
}

void user_drop(struct user *user, unsigned n)
{
	assert(n <= user->fds);
	user->fds -= n;
	user->users->fds -= n;
}
