/* SPDX-License-Identifier: BSD-2-Clause */
/* What the files of the SDK share: the process's one membership, and what it owns through it. Theory: sdk.c. */
#ifndef LIB_SDK_PRIV_H
#define LIB_SDK_PRIV_H

#include <stdbool.h>

#include "vmci/vmci.h"
#include "vmci/vmcilib.h"

enum sdk_kind {
	SDK_DGRAM,
	SDK_SHM,
	SDK_GROUP,
	SDK_KIND_NUM,
};

/**
 * struct sdk_object - something that this process made or attached to
 * @kind:  says which of @dgram and @shm there is; a group is its handle alone
 * @dead:  it is in the table no more, and nobody enters any more
 * @users: threads that are inside
 * @wake:  an eventfd, readable for ever once the object is dead; -1 as long as nobody has waited
 *
 * What is under the lock of sdk.c: @dead, @users, @wake, @next. The rest does not change.
 */
struct sdk_object {
	struct vmci_handle handle;
	enum sdk_kind kind;
	union {
		struct vmci_dgram *dgram;
		struct vmci_shm *shm;
	};
	int wake;
	bool dead;
	unsigned users;
	struct sdk_object *next;
};

/**
 * sdk_enter() - begin a call; until sdk_leave() the membership stays
 *
 * Return: 0; VMCI_ERROR_NO_PROCESS
 */
int sdk_enter(struct vmci **ret_vmci);
void sdk_leave(void);

/* sdk_is_closing() - VMCI_CleanupApp() waits for us to leave. Between sdk_enter() and sdk_leave(). */
bool sdk_is_closing(void);

/* sdk_add() - put an object into the table; between sdk_enter() and sdk_leave(). 0 or VMCI_ERROR_NO_MEM */
int sdk_add(enum sdk_kind kind, struct vmci_handle handle, void *thing);

/**
 * sdk_get() - sdk_enter() and find an object; until sdk_put() it stays
 *
 * Return: 0; VMCI_ERROR_INVALID_ARGS: the invalid handle; VMCI_ERROR_NO_HANDLE: there is none; VMCI_ERROR_NO_PROCESS
 */
int sdk_get(enum sdk_kind kind, struct vmci_handle handle, struct sdk_object **ret_object);
void sdk_put(struct sdk_object *object);

/**
 * sdk_wake() - the descriptor that tells who waits that the object is dead; between sdk_get() and sdk_put()
 *
 * Return: the descriptor; VMCI_ERROR_NO_HANDLE: it is; VMCI_ERROR_NO_RESOURCES
 */
int sdk_wake(struct sdk_object *object);

/**
 * sdk_take() - take an object out of the table, wake those who wait for it, and wait until they have left
 *
 * Between sdk_enter() and sdk_leave(); the caller ends it with sdk_end(). Return: as sdk_get()
 */
int sdk_take(enum sdk_kind kind, struct vmci_handle handle, struct sdk_object **ret_object);

/* sdk_end() - close what nobody uses any more; what that yields: 0, SUCCESS_LAST_DETACH or an error */
int sdk_end(struct vmci *vmci, struct sdk_object *object);

/* sdk_forget_names() - take back the names that this process gave to @handle; to all if it is NULL */
void sdk_forget_names(struct vmci *vmci, const struct vmci_handle *handle);

/* sdk_drop_names() - in the child of a fork: the names are the parent's. The lock counts as held. */
void sdk_drop_names(void);

/* sdk_lock(), sdk_unlock() - the one lock, for what the files keep themselves; no call of libvmci while it is held */
void sdk_lock(void);
void sdk_unlock(void);

#endif /* LIB_SDK_PRIV_H */
