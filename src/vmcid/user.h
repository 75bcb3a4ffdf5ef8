/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a user of this machine takes from vmcid: connections and descriptors. The broker counts objects; descriptors are
 * vmcid's own scarce good, and who takes them all would harm everybody.
 */
#ifndef VMCID_USER_H
#define VMCID_USER_H

#include <stdbool.h>
#include <sys/types.h>

struct users;
struct user;

/*
 * users_new() - @max_fds: descriptors that all users together may take, and @max_fds_each one that is not trusted.
 * NULL: no memory
 */
struct users *users_new(unsigned max_fds, unsigned max_fds_each);

/* users_free() - all users must have been given back; NULL is fine. Returns NULL. */
struct users *users_free(struct users *users);

/* user_ref() - the user @uid; NULL: no memory. @is_trusted: no bound but the common one */
struct user *user_ref(struct users *users, uid_t uid, bool is_trusted);

/* user_again() - one more reference to @user, which is returned */
struct user *user_again(struct user *user);

/* user_unref() - give it back. Returns NULL. */
struct user *user_unref(struct user *user);

/* user_take() - @n descriptors more; false: too many. user_drop() - @n less */
bool user_take(struct user *user, unsigned n);
void user_drop(struct user *user, unsigned n);

#endif /* VMCID_USER_H */
