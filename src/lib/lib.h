/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the groups of libvmci share: the membership. Theory: vmci.c
 *
 * Objects (endpoints, queue pairs, ...) embed a struct lib_object and are in the membership's list, so that they can
 * be told to a new broker: resume() is called for each, in the order in which they were added, by the library's
 * thread.
 *
 * "Under the lock" means: while the connection belongs to the caller alone. No two of resume() and lib_call()'s
 * take() run at the same time for one membership.
 */
#ifndef LIB_LIB_H
#define LIB_LIB_H

#include <pthread.h>
#include <stdbool.h>

#include "fabric/client.h"
#include "vmci/vmci.h"

/* How long a call waits for the broker, a new one included. */
#define LIB_CALL_MS 5000

struct guest;
struct lib_object;
struct rights;

struct lib_object_ops {
	/*
	 * Tell the broker at @client about an object that it knew in an earlier life. The lock is held; no lib_call()
	 * from here, nor lib_add() and lib_del(). The object may not be known to any broker yet (see lib_add()):
	 * return 0 then.
	 * Return: 0; VMCI_ERROR_*: the object is lost; -ECONNRESET: the connection has ended again, later more
	 */
	int (*resume)(struct lib_object *object, struct fab_client *client);

	/*
	 * In the child after a fork(2), which has one thread and may call async-signal-safe functions only: give
	 * up descriptors by which others see that this program lives, with lib_void(). NULL: there are none.
	 */
	void (*forked)(struct lib_object *object);

	/* The membership ends, and the object with it: free it. NULL: somebody else does, before. */
	void (*drop)(struct lib_object *object);
};

struct lib_object {
	const struct lib_object_ops *ops;
	struct lib_object *next;
	struct lib_object *prev;
};

/**
 * lib_add(), lib_del() - an object is there, is no more; any thread, the lock not held
 *
 * Add an object *before* the lib_call() that creates it, and note in take() that the broker knows it: what take()
 * sees, no resume() misses, whereas a new broker may have come between a lib_call() and a later lib_add(). After
 * lib_del(), no resume() of the object runs any more.
 */
void lib_add(struct vmci *vmci, struct lib_object *object);
void lib_del(struct vmci *vmci, struct lib_object *object);

/**
 * lib_call() - ask the broker; waits for a new one if there is none (LIB_CALL_MS at most)
 * @again: may the request be sent again when it is not known whether it was carried out?
 * @take:  called with the reply, under the lock, if its status is >= 0 and @take is not NULL: copies data, takes
 *	   descriptors; returns the call's result
 *
 * Any thread, the lock not held. Return: status of the reply, or what @take says; VMCI_ERROR_DATAGRAM_FAILED (not
 * @again, and the connection ended); VMCI_ERROR_UNAVAILABLE (no broker in time; or after fork, or in a guest);
 * VMCI_ERROR_NO_RESOURCES: the request could not be sent. Sets vmci_errmsg() on failure.
 */
int lib_call(struct vmci *vmci, struct fab_msg *request, bool again, int (*take)(struct fab_msg *reply, void *arg),
	     void *arg);

/**
 * lib_tell() - tell the broker that an object is no more, after lib_del()
 *
 * Where there is no broker now, there is nothing to tell: a new one will not hear of the object. So closing does not
 * wait for a broker that is not there. Return: as lib_call(); keeps vmci_errmsg().
 */
int lib_tell(struct vmci *vmci, struct fab_msg *request);

/**
 * lib_resume_call() - fab_client_call() for a resume()
 *
 * Return: 0: @ret_reply has a status >= 0, fab_drop() it; VMCI_ERROR_*: its status; -ECONNRESET. So all but 0 can be
 * returned by the resume().
 */
int lib_resume_call(struct fab_client *client, struct fab_msg *request, struct fab_msg *ret_reply);

/* lib_is_forked() - are we in a child of the process that opened the membership? Async-signal-safe. */
bool lib_is_forked(const struct vmci *vmci);

/* lib_usable() - 0; VMCI_ERROR_UNAVAILABLE in a child after fork(2), with vmci_errmsg() */
int lib_usable(const struct vmci *vmci);

/* lib_guest() - not NULL: there is no broker, we are in a guest (lib/guest.h) */
struct guest *lib_guest(const struct vmci *vmci);

/* lib_device() - the descriptor of /dev/vmci in a guest that has it (lib/guest_dev.h), else -1 */
int lib_device(const struct vmci *vmci);

/* lib_has_window() - the broker says that regions of our context lie in a window of VMs */
bool lib_has_window(const struct vmci *vmci);

/* lib_rights() - what the membership has granted (lib/right.h) */
struct rights *lib_rights(struct vmci *vmci);

/* lib_claim_events(), lib_release_events() - a connection has one place for events. false: it is taken */
bool lib_claim_events(struct vmci *vmci);
void lib_release_events(struct vmci *vmci);

/* lib_forget() - the resource @handle is no more: nor are its name and what was granted on it (name.c, right.c) */
void lib_forget(struct vmci *vmci, struct vmci_handle handle);

/* lib_remove_if() - for those that have drop(): lib_del() and drop all objects of kind @ops for which @is says so */
void lib_remove_if(struct vmci *vmci, const struct lib_object_ops *ops,
		   bool (*is)(const struct lib_object *object, const void *arg), const void *arg);

/* lib_void() - put a descriptor of nothing in the place of @fd. Async-signal-safe. */
void lib_void(int fd);

/* lib_fail() - set this thread's vmci_errmsg(); returns @code */
int lib_fail(int code, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* lib_where() - put in front of this thread's vmci_errmsg() where it happened; returns @code */
int lib_where(int code, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif /* LIB_LIB_H */
