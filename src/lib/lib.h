/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the groups of libvmci share: the membership.
 *
 * Objects (endpoints, queue pairs, ...) embed a struct lib_object and are in the membership's list, so that they can be told
 * to a new broker: resume() is called for each, under the membership's lock, by the library's thread.
 */
#ifndef LIB_LIB_H
#define LIB_LIB_H

#include <pthread.h>
#include <stdbool.h>

#include "fabric/client.h"
#include "vmci/vmci.h"

/* How long a call waits for the broker, a new one included. */
#define LIB_CALL_MS 5000

struct lib_object;

struct lib_object_ops {
	/*
	 * Tell the broker at @client about an object that it knew in an earlier life. The lock is held; no lib_call() from here.
	 * Return: 0; VMCI_ERROR_*: the object is lost; -ECONNRESET: the connection has ended again, later more
	 */
	int (*resume)(struct lib_object *object, struct fab_client *client);
};

struct lib_object {
	const struct lib_object_ops *ops;
	struct lib_object *next;
	struct lib_object *prev;
};

/* lib_add(), lib_del() - an object is there, is no more; any thread, the lock not held */
void lib_add(struct vmci *vmci, struct lib_object *object);
void lib_del(struct vmci *vmci, struct lib_object *object);

/**
 * lib_call() - ask the broker; waits for a new one if there is none (LIB_CALL_MS at most)
 * @again: may the request be sent again when it is not known whether it was carried out?
 * @take:  called with the reply, under the lock, if its status is >= 0 and @take is not NULL: copies data, takes descriptors;
 *	   returns the call's result
 *
 * Any thread, the lock not held. Return: status of the reply, or what @take says; VMCI_ERROR_DATAGRAM_FAILED (not @again, and the
 * connection ended), VMCI_ERROR_UNAVAILABLE (no broker in time; or after fork, or closed); sets vmci_errmsg() on failure
 */
int lib_call(struct vmci *vmci, struct fab_msg *request, bool again, int (*take)(struct fab_msg *reply, void *arg), void *arg);

/* lib_fail() - set this thread's vmci_errmsg(); returns @code */
int lib_fail(int code, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif /* LIB_LIB_H */
