/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The SDK of 2007 over libvmci: the membership, and the table of what the process owns through it.
 *
 * DOC: Theory of operation
 *
 * Programs name everything by handles, also what another thread may be destroying just now. So a handle is
 * never more than a key: each call looks its object up and counts itself as a user, under the lock, and works
 * without the lock. Who destroys takes the object out of the table, which nobody can undo, wakes the waiting
 * ones through an eventfd that is never read, and closes the object when the last user has left. A handle that
 * is given out again meanwhile is another object, with users of its own.
 *
 * The membership is guarded in the same way: calls count themselves (sdk_enter()), and VMCI_CleanupApp() waits
 * until none is left. It goes through these states:
 *
 *	APP_NONE -> APP_OPENING -> APP_OPEN -> APP_CLOSING -> APP_NONE
 *
 * No call of libvmci is made with the lock held; the two states in between stand for it.
 *
 * A child of fork() has a copy of all this, but no membership (vmci/vmci.h), and threads that were inside when
 * it was made do not exist in it. It sets the copy aside (struct inheritance), starts from APP_NONE, and frees
 * the copy when it becomes a member itself. Until then its regions stay mapped.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/fd.h"
#include "lib/sdk_priv.h"

#define BUCKETS 1024u	/* of the table; quotas keep handles at thousands */

/* What calls do in each state, and what moves it on */
enum app_state {
	/*
	 * No membership.
	 * Operations: VMCI_InitApp() opens one; all others fail
	 */
	APP_NONE,

	/*
	 * One thread is in vmci_open().
	 * Operations: VMCI_InitApp() waits; all others fail
	 */
	APP_OPENING,

	/*
	 * Operations: all
	 * Caveats: @refs is 1 at least
	 */
	APP_OPEN,

	/*
	 * One thread ends everything.
	 * Operations: VMCI_InitApp() waits; calls under way leave; new ones fail
	 * Caveats: every object is dead, and still in the table
	 */
	APP_CLOSING,
};

/*
 * struct inheritance - the membership and the objects of a process that forked, all of no use any more, in its child
 */
struct inheritance {
	struct vmci *vmci;
	struct sdk_object *objects;
};

/**
 * struct app - the process's membership
 * @changed: @state, @callers or some @users changed
 * @refs:    VMCI_InitApp() minus VMCI_CleanupApp()
 * @callers: threads between sdk_enter() and sdk_leave()
 * @path:    runtime directory, NULL for the default one
 * @inherited: in a child of fork(): what was its parent's
 */
static struct app {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	enum app_state state;
	unsigned refs;
	unsigned callers;
	struct vmci *vmci;
	char *path;
	struct sdk_object *table[BUCKETS];
	struct inheritance inherited;
} app = {
	.lock = PTHREAD_MUTEX_INITIALIZER,
	.changed = PTHREAD_COND_INITIALIZER,
};

void sdk_lock(void)
{
	pthread_mutex_lock(&app.lock);
}

void sdk_unlock(void)
{
	pthread_mutex_unlock(&app.lock);
}

static void wait_for_change(void)
{
	pthread_cond_wait(&app.changed, &app.lock);
}

static void wake_all(void)
{
	pthread_cond_broadcast(&app.changed);
}

/* ----- the table */

static struct sdk_object **bucket_of(struct vmci_handle handle)
{
	return &app.table[(handle.resource ^ handle.context * 31u) % BUCKETS];
}

/* where the object hangs in the table, or NULL */
static struct sdk_object **find(enum sdk_kind kind, struct vmci_handle handle)
{
	for (struct sdk_object **at = bucket_of(handle); *at; at = &(*at)->next) {
		if ((*at)->kind == kind && VMCI_HANDLE_EQUAL((*at)->handle, handle))
			return at;
	}
	return NULL;
}

static void kill_object(struct sdk_object *object)
{
	uint64_t one = 1;

	object->dead = true;
	/* cannot fail: the counter is 0 */
	if (object->wake >= 0 && write(object->wake, &one, sizeof(one)) < 0)
		abort();
}

int sdk_add(enum sdk_kind kind, struct vmci_handle handle, void *thing)
{
	struct sdk_object *object = calloc(1, sizeof(*object));
	struct sdk_object **bucket = bucket_of(handle);

	if (!object)
		return VMCI_ERROR_NO_MEM;
	object->kind = kind;
	object->handle = handle;
	object->wake = -1;
	if (kind == SDK_DGRAM)
		object->dgram = thing;
	else
		object->shm = thing;
	sdk_lock();
	object->next = *bucket;
	*bucket = object;
	/* the membership is about to end: the object ends with it, and nobody enters it before */
	if (app.state == APP_CLOSING)
		kill_object(object);
	sdk_unlock();
	return VMCI_SUCCESS;
}

/* a caller is counted; the lock is held */
static int enter_locked(void)
{
	if (app.state != APP_OPEN)
		return VMCI_ERROR_NO_PROCESS;
	app.callers++;
	return VMCI_SUCCESS;
}

static void leave_locked(void)
{
	if (--app.callers == 0)
		wake_all();
}

int sdk_enter(struct vmci **ret_vmci)
{
	int result;

	sdk_lock();
	result = enter_locked();
	if (result == VMCI_SUCCESS)
		*ret_vmci = app.vmci;
	sdk_unlock();
	return result;
}

void sdk_leave(void)
{
	sdk_lock();
	leave_locked();
	sdk_unlock();
}

int sdk_wake(struct sdk_object *object)
{
	int result;

	sdk_lock();
	if (object->dead) {
		result = VMCI_ERROR_NO_HANDLE;
	} else {
		if (object->wake < 0)
			object->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		result = object->wake < 0 ? VMCI_ERROR_NO_RESOURCES : object->wake;
	}
	sdk_unlock();
	return result;
}

bool sdk_is_closing(void)
{
	bool closing;

	sdk_lock();
	closing = app.state == APP_CLOSING;
	sdk_unlock();
	return closing;
}

int sdk_get(enum sdk_kind kind, struct vmci_handle handle, struct sdk_object **ret_object)
{
	struct sdk_object **at;
	int result;

	sdk_lock();
	result = enter_locked();
	if (result == VMCI_SUCCESS) {
		at = find(kind, handle);
		if (at) {
			(*at)->users++;
			*ret_object = *at;
		} else {
			leave_locked();
			result = VMCI_HANDLE_INVALID(handle) ? VMCI_ERROR_INVALID_ARGS : VMCI_ERROR_NO_HANDLE;
		}
	}
	sdk_unlock();
	return result;
}

void sdk_put(struct sdk_object *object)
{
	sdk_lock();
	if (--object->users == 0)
		wake_all();
	leave_locked();
	sdk_unlock();
}

int sdk_take(enum sdk_kind kind, struct vmci_handle handle, struct sdk_object **ret_object)
{
	struct sdk_object **at, *object;

	sdk_lock();
	at = find(kind, handle);
	/* a dead one that is still there is for VMCI_CleanupApp() to end */
	if (!at || (*at)->dead) {
		sdk_unlock();
		return VMCI_HANDLE_INVALID(handle) ? VMCI_ERROR_INVALID_ARGS : VMCI_ERROR_NO_HANDLE;
	}
	object = *at;
	*at = object->next;
	kill_object(object);
	while (object->users > 0)
		wait_for_change();
	sdk_unlock();
	*ret_object = object;
	return VMCI_SUCCESS;
}

int sdk_end(struct vmci *vmci, struct sdk_object *object)
{
	int result = VMCI_SUCCESS;

	switch (object->kind) {
	case SDK_DGRAM:
		sdk_forget_names(vmci, &object->handle);
		vmci_dgram_close(object->dgram);
		break;
	case SDK_SHM:
		result = vmci_shm_detach(object->shm);
		break;
	case SDK_GROUP:
		result = vmci_group_destroy(vmci, object->handle);
		break;
	case SDK_KIND_NUM:
		break;
	}
	fd_close(&object->wake);
	free(object);
	return result;
}

/* Everything in the table leaves it; the lock is held, and nobody is inside. */
static struct sdk_object *empty_table(void)
{
	struct sdk_object *all = NULL, *object;

	for (unsigned i = 0; i < BUCKETS; i++) {
		while ((object = app.table[i])) {
			app.table[i] = object->next;
			object->next = all;
			all = object;
		}
	}
	return all;
}

/* ----- fork */

static void fork_child(void)
{
	struct inheritance inherited = app.inherited;

	/* what was inherited before was not freed, and stays for ever */
	if (app.vmci) {
		inherited.vmci = app.vmci;
		inherited.objects = empty_table();
	}
	free(app.path);
	sdk_drop_names();
	memset(&app, 0, sizeof(app));
	pthread_mutex_init(&app.lock, NULL);
	pthread_cond_init(&app.changed, NULL);
	app.inherited = inherited;
}

static void fork_watch(void)
{
	pthread_atfork(sdk_lock, sdk_unlock, fork_child);
}

/* What the parent had is closed, which tells nobody; the lock is not held. */
static void drop_inheritance(void)
{
	struct inheritance inherited;
	struct sdk_object *object;

	sdk_lock();
	inherited = app.inherited;
	memset(&app.inherited, 0, sizeof(app.inherited));
	sdk_unlock();
	while ((object = inherited.objects)) {
		inherited.objects = object->next;
		sdk_end(inherited.vmci, object);
	}
	vmci_close(inherited.vmci);
}

/* ----- the membership */

/*
 * The runtime directory that @device means: *@ret_path is NULL for the default one, else the caller's.
 * Return: 0, or a VMCI_ERROR_*
 */
static int path_of(const char *device, char **ret_path)
{
	static const char sock[] = "/control.sock";
	size_t len;
	char *path;

	if (!device || (!strncmp(device, "/dev/", 5) && device[5] && !strchr(device + 5, '/'))) {
		*ret_path = NULL;
		return VMCI_SUCCESS;
	}
	if (device[0] != '/')
		return VMCI_ERROR_INVALID_ARGS;
	path = strdup(device);
	if (!path)
		return VMCI_ERROR_NO_MEM;
	len = strlen(path);
	if (len >= sizeof(sock) && !strcmp(path + len - (sizeof(sock) - 1), sock))
		len -= sizeof(sock) - 1;
	while (len > 1 && path[len - 1] == '/')
		len--;
	path[len] = '\0';
	*ret_path = path;
	return VMCI_SUCCESS;
}

/* The context that the environment asks for. Return: 0, or VMCI_ERROR_INVALID_ARGS */
static int context_of(const char *wish, uint32_t *ret_cid)
{
	unsigned long long number;
	char *end;

	if (!wish || !*wish || !strcmp(wish, "host")) {
		*ret_cid = VMCI_CID_HOST;
		return VMCI_SUCCESS;
	}
	if (!strcmp(wish, "new")) {
		*ret_cid = VMCI_INVALID_ID;
		return VMCI_SUCCESS;
	}
	if (*wish < '0' || *wish > '9')
		return VMCI_ERROR_INVALID_ARGS;
	number = strtoull(wish, &end, 10);
	if (*end || (number != VMCI_CID_HOST && number < VMCI_CID_FIRST_VM) || number >= VMCI_INVALID_ID)
		return VMCI_ERROR_INVALID_ARGS;
	*ret_cid = (uint32_t)number;
	return VMCI_SUCCESS;
}

/* Open, with the lock held before and after, but not meanwhile. */
static int open_locked(char **path)
{
	struct vmci *vmci = NULL;
	uint32_t cid = VMCI_CID_HOST;
	int result;

	app.state = APP_OPENING;
	sdk_unlock();
	result = context_of(secure_getenv("VMCI_CONTEXT"), &cid);
	if (result == VMCI_SUCCESS)
		result = vmci_open(*path, cid, 0, &vmci);
	sdk_lock();
	app.state = APP_NONE;
	if (result >= 0) {
		app.state = APP_OPEN;
		app.vmci = vmci;
		app.path = *path;
		*path = NULL;
		app.refs = 1;
		result = VMCI_SUCCESS;
	}
	wake_all();
	return result;
}

int VMCI_InitApp(const char *device)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	char *path;
	int result = path_of(device, &path);

	if (result != VMCI_SUCCESS)
		return result;
	pthread_once(&once, fork_watch);
	drop_inheritance();
	sdk_lock();
	while (app.state == APP_OPENING || app.state == APP_CLOSING)
		wait_for_change();
	if (app.state == APP_NONE)
		result = open_locked(&path);
	else if (path && (!app.path || strcmp(path, app.path)))
		result = VMCI_ERROR_INVALID_ARGS;
	else
		app.refs++;
	sdk_unlock();
	free(path);
	return result;
}

static void kill_all(void)
{
	for (unsigned i = 0; i < BUCKETS; i++) {
		for (struct sdk_object *object = app.table[i]; object; object = object->next)
			kill_object(object);
	}
}

void VMCI_CleanupApp(void)
{
	struct sdk_object *all, *object;
	struct vmci *vmci;

	sdk_lock();
	if (app.state != APP_OPEN || --app.refs > 0) {
		sdk_unlock();
		return;
	}
	app.state = APP_CLOSING;
	kill_all();
	while (app.callers > 0)
		wait_for_change();
	all = empty_table();
	vmci = app.vmci;
	app.vmci = NULL;
	free(app.path);
	app.path = NULL;
	sdk_unlock();

	sdk_forget_names(vmci, NULL);
	while ((object = all)) {
		all = object->next;
		sdk_end(vmci, object);
	}
	vmci_close(vmci);

	sdk_lock();
	app.state = APP_NONE;
	wake_all();
	sdk_unlock();
}

VMCIId VMCI_GetContextID(void)
{
	struct vmci *vmci;
	VMCIId cid;

	if (sdk_enter(&vmci) != VMCI_SUCCESS)
		return VMCI_INVALID_ID;
	cid = vmci_cid(vmci);
	sdk_leave();
	return cid;
}

uint32_t VMCI_Version(void)
{
	return vmci_version();
}

const char *VMCI_ErrorString(int code)
{
	return vmci_strerror(code);
}
