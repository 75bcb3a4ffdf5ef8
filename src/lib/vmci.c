/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * DOC: Theory of operation
 *
 * A membership is a connection to the broker, a list of objects that the broker knows, and a thread that looks
 * after both. The thread sleeps until the connection ends; then it looks for a broker (and starts one where that is
 * the mode), says hello with the token of the old life, tells of all objects, and sleeps again.
 *
 *	LOST ---- connected, hello ----> RESUMING ---- all objects told ----> CONNECTED
 *	  ^				     |					  |
 *	  +----------------------------------+------- connection ended ---------+
 *
 * The mutex guards the state and the list, and is held for moments only. What takes time, a request and its reply,
 * is made by whoever has the *turn*: is_busy. Waiting for the turn ends at the deadline of the call, however slow the
 * broker is. The thread has the turn from the end of one connection until the next one is ready; nobody else replaces
 * or frees the client, so its descriptor stays what it is while the thread polls it without the turn.
 *
 * A broker that does not answer in time is treated like one that has gone: a request whose reply nobody takes may
 * have made an object that nobody knows. It goes with the connection.
 *
 * After fork(2) the child has all descriptors and none of the threads. It must not use the connection, and, as long
 * as it had it open, the broker would not notice the parent's end: a handler of pthread_atfork(3) puts something dead
 * in its place. The mutexes are held across the fork, so the child finds everything in order but what the one who had
 * the turn was working at: that is leaked.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/fd.h"
#include "lib/gate.h"
#include "lib/guest.h"
#include "lib/lib.h"
#include "lib/name.h"
#include "lib/right.h"
#include "lib/start.h"

/* Between two attempts to reach a broker, and between two attempts to start one. */
#define RETRY_MS 50
#define RESTART_MS 1000

/**
 * enum state - of a membership; guarded by its lock
 * @STATE_LOST:      there is no connection. The thread has the turn. Calls wait.
 * @STATE_RESUMING:  there is a connection, on which the thread tells of the objects. It has the turn. Calls wait.
 * @STATE_CONNECTED: calls have the turn, one after the other. is_broken: it is over, and the thread knows.
 */
enum state {
	STATE_LOST,
	STATE_RESUMING,
	STATE_CONNECTED,
};

/**
 * struct vmci - a membership
 * @changed:   any of what follows has
 * @is_busy:   somebody has the turn
 * @is_broken: the connection is no longer used
 * @is_closed: vmci_close() has begun
 * @has_window: see lib_has_window()
 * @is_forked: this is a child's copy
 * @resuming:  the object that the thread is telling of, with the lock released
 * @first, @last: the objects, in the order of their making
 * @why:       why there is no connection
 * @client:    changed by the thread only, with the lock and the turn
 * @wish, @cid, @token: asked for, granted, and the proof
 * @wake:      wakes the thread
 * @next, @prev: all memberships of the process; guarded by members_lock
 */
struct vmci {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	enum state state;
	bool is_busy;
	bool is_broken;
	bool is_closed;
	atomic_bool is_forked;
	bool has_events;
	atomic_bool has_window;
	struct lib_object *resuming;
	struct lib_object *first;
	struct lib_object *last;
	char why[256];

	struct fab_client *client;
	struct home home;
	uint32_t cid;
	uint8_t token[FAB_TOKEN_SIZE];
	struct guest *guest;
	struct rights *rights;

	pthread_t thread;
	bool has_thread;
	int wake;

	struct vmci *next;
	struct vmci *prev;
};

uint32_t vmci_version(void)
{
	unsigned major = 0, minor = 0, patch = 0;

	sscanf(OPENVMCI_VERSION, "%u.%u.%u", &major, &minor, &patch);
	return major << 16 | minor << 8 | patch;
}

uint32_t vmci_cid(const struct vmci *vmci)
{
	return vmci->cid;
}

bool lib_has_window(const struct vmci *vmci)
{
	return atomic_load(&vmci->has_window);
}

struct guest *lib_guest(const struct vmci *vmci)
{
	return vmci->guest;
}

int lib_device(const struct vmci *vmci)
{
	return vmci->guest ? guest_device(vmci->guest) : -1;
}

/* --- fork ------------------------------------------------------------------------------------------------------ */

static pthread_mutex_t members_lock = PTHREAD_MUTEX_INITIALIZER;
static struct vmci *members;
static pthread_once_t members_once = PTHREAD_ONCE_INIT;

void lib_void(int fd)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	if (null < 0)
		close(fd);
	else
		dup3(null, fd, O_CLOEXEC);
	fd_close(&null);
}

static void before_fork(void)
{
	pthread_mutex_lock(&members_lock);
	for (struct vmci *vmci = members; vmci; vmci = vmci->next)
		pthread_mutex_lock(&vmci->lock);
}

static void after_fork(void)
{
	for (struct vmci *vmci = members; vmci; vmci = vmci->next)
		pthread_mutex_unlock(&vmci->lock);
	pthread_mutex_unlock(&members_lock);
}

static void after_fork_child(void)
{
	for (struct vmci *vmci = members; vmci; vmci = vmci->next) {
		atomic_store(&vmci->is_forked, true);
		if (vmci->client && fab_client_fd(vmci->client) >= 0)
			lib_void(fab_client_fd(vmci->client));
		if (lib_device(vmci) >= 0)
			lib_void(lib_device(vmci));
		for (struct lib_object *object = vmci->first; object; object = object->next)
			if (object->ops->forked)
				object->ops->forked(object);
	}
	after_fork();
}

static void members_init(void)
{
	pthread_atfork(before_fork, after_fork, after_fork_child);
}

static void members_add(struct vmci *vmci)
{
	pthread_once(&members_once, members_init);
	pthread_mutex_lock(&members_lock);
	vmci->next = members;
	if (members)
		members->prev = vmci;
	members = vmci;
	pthread_mutex_unlock(&members_lock);
}

static void members_del(struct vmci *vmci)
{
	pthread_mutex_lock(&members_lock);
	if (vmci->next)
		vmci->next->prev = vmci->prev;
	if (vmci->prev)
		vmci->prev->next = vmci->next;
	else
		members = vmci->next;
	pthread_mutex_unlock(&members_lock);
}

bool lib_is_forked(const struct vmci *vmci)
{
	return atomic_load_explicit(&vmci->is_forked, memory_order_relaxed);
}

int lib_usable(const struct vmci *vmci)
{
	if (!lib_is_forked(vmci))
		return 0;
	return lib_fail(VMCI_ERROR_UNAVAILABLE, "a child does not inherit the membership; it may open its own");
}

/* --- Objects --------------------------------------------------------------------------------------------------- */

void lib_add(struct vmci *vmci, struct lib_object *object)
{
	pthread_mutex_lock(&vmci->lock);
	object->next = NULL;
	object->prev = vmci->last;
	if (vmci->last)
		vmci->last->next = object;
	else
		vmci->first = object;
	vmci->last = object;
	pthread_mutex_unlock(&vmci->lock);
}

/**
 * unlink_object() - take @object out of the list; the lock is held
 */
static void unlink_object(struct vmci *vmci, struct lib_object *object)
{
	while (vmci->resuming == object && !lib_is_forked(vmci))
		pthread_cond_wait(&vmci->changed, &vmci->lock);
	if (object->next)
		object->next->prev = object->prev;
	else
		vmci->last = object->prev;
	if (object->prev)
		object->prev->next = object->next;
	else
		vmci->first = object->next;
}

void lib_del(struct vmci *vmci, struct lib_object *object)
{
	pthread_mutex_lock(&vmci->lock);
	unlink_object(vmci, object);
	pthread_mutex_unlock(&vmci->lock);
}

/**
 * take_if() - take the first object of kind @ops for which @is says so out of the list
 *
 * Return: it, or NULL
 */
static struct lib_object *take_if(struct vmci *vmci, const struct lib_object_ops *ops,
				  bool (*is)(const struct lib_object *object, const void *arg), const void *arg)
{
	struct lib_object *object;

	pthread_mutex_lock(&vmci->lock);
	for (object = vmci->first; object; object = object->next)
		if (object->ops == ops && is(object, arg))
			break;
	if (object)
		unlink_object(vmci, object);
	pthread_mutex_unlock(&vmci->lock);
	return object;
}

void lib_remove_if(struct vmci *vmci, const struct lib_object_ops *ops,
		   bool (*is)(const struct lib_object *object, const void *arg), const void *arg)
{
	struct lib_object *object;

	while ((object = take_if(vmci, ops, is, arg)))
		object->ops->drop(object);
}

void lib_forget(struct vmci *vmci, struct vmci_handle handle)
{
	name_forget(vmci, handle);
	right_forget(vmci->rights, handle);
}

struct rights *lib_rights(struct vmci *vmci)
{
	return vmci->rights;
}

bool lib_claim_events(struct vmci *vmci)
{
	bool is_free;

	pthread_mutex_lock(&vmci->lock);
	is_free = !vmci->has_events;
	vmci->has_events = true;
	pthread_mutex_unlock(&vmci->lock);
	return is_free;
}

void lib_release_events(struct vmci *vmci)
{
	pthread_mutex_lock(&vmci->lock);
	vmci->has_events = false;
	pthread_mutex_unlock(&vmci->lock);
}

/* --- Joining --------------------------------------------------------------------------------------------------- */

/**
 * hello() - say hello on a new connection
 * @wish:    context
 * @resume:  the membership's token is shown
 *
 * Return: 0; VMCI_ERROR_*, with vmci_errmsg(); -ECONNRESET: the connection has ended
 */
static int hello(struct vmci *vmci, struct fab_client *client, uint32_t wish, bool resume, int timeout_ms)
{
	const char *label = program_invocation_short_name;
	struct fab_msg reply, request = {
		.type = FAB_HELLO,
		.handle = { .context = wish },
		.size0 = FAB_VERSION,
		.data = (const uint8_t *)label,
		.len = strnlen(label, FAB_LABEL_MAX),
	};
	int r;

	if (resume) {
		request.flags = FAB_F_RESUME;
		memcpy(request.token, vmci->token, sizeof(request.token));
	}
	r = fab_client_call(client, &request, timeout_ms, &reply);
	if (r)
		return r == -ETIMEDOUT ? lib_fail(VMCI_ERROR_UNAVAILABLE, "the broker at %s does not answer",
						  vmci->home.socket)
				       : -ECONNRESET;
	fab_drop(&reply);
	if (reply.status < 0)
		return lib_fail(reply.status, "the broker at %s does not let us join context %u: %s",
				vmci->home.socket, wish, vmci_strerror(reply.status));
	if (reply.size0 != FAB_VERSION)
		return lib_fail(VMCI_ERROR_UNAVAILABLE, "the broker at %s speaks version %llu of the protocol, we %u",
				vmci->home.socket, (unsigned long long)reply.size0, FAB_VERSION);
	if (wish == VMCI_INVALID_ID)
		vmci->cid = reply.handle.context;
	else if (reply.handle.context != wish)
		return lib_fail(VMCI_ERROR_UNAVAILABLE, "the broker at %s gave us context %u instead of %u",
				vmci->home.socket, reply.handle.context, wish);
	memcpy(vmci->token, reply.token, sizeof(vmci->token));
	atomic_store(&vmci->has_window, (reply.flags & FAB_F_WINDOW) != 0);
	return 0;
}

/**
 * set_client() - put @client in its place; fork(2) looks for it there
 */
static void set_client(struct vmci *vmci, struct fab_client *client)
{
	pthread_mutex_lock(&vmci->lock);
	vmci->client = client;
	pthread_mutex_unlock(&vmci->lock);
}

/**
 * nap() - sleep between two attempts
 *
 * Return: true: woken, because the membership is being closed
 */
static bool nap(struct vmci *vmci, int ms)
{
	struct pollfd pollfd = { .fd = vmci->wake, .events = POLLIN };

	return poll(&pollfd, 1, ms) > 0;
}

/**
 * join() - the first connection of the membership
 * @wish: context
 *
 * Return: 0; VMCI_ERROR_*
 */
static int join(struct vmci *vmci, const char *path, uint32_t wish, bool no_start)
{
	struct lib_deadline deadline = lib_deadline(LIB_CALL_MS);
	bool is_tried = false, is_refused;
	int fd, r;

	for (;;) {
		/* Anew each time: a system's broker may have come meanwhile. */
		struct fab_client *client;
		struct home home;

		r = home_find(path, no_start, &home, &fd);
		if (r)
			return r;
		home.is_started = is_tried;
		vmci->home = home;
		is_refused = fd >= 0;
		if (is_refused) {
			if (fab_client_new(fd, &client))
				return lib_fail(VMCI_ERROR_NO_MEM, "out of memory");
			set_client(vmci, client);
			r = hello(vmci, client, wish, false, lib_left_ms(deadline));
			if (!r)
				return 0;
			set_client(vmci, NULL);
			fab_client_free(client);
			if (r != -ECONNRESET)
				return r;
			lib_fail(0, "the broker at %s ends the connection", vmci->home.socket);
		} else if (!is_tried) {
			if (!vmci->home.is_chosen && (wish == VMCI_CID_HOST || wish == VMCI_INVALID_ID)) {
				char why[512];

				snprintf(why, sizeof(why), "%s", vmci_errmsg());
				if (!guest_open(&guest_dev, &vmci->guest) ||
				    !guest_open(&guest_vsock, &vmci->guest))
					return 0;
				lib_fail(0, "%s", why);
			}
			if (!vmci->home.may_start)
				return VMCI_ERROR_DEVICE_NOT_FOUND;
			r = home_start(&vmci->home);
			if (r)
				return r;
			is_tried = true;
		}
		if (!lib_left_ms(deadline))
			break;
		nap(vmci, RETRY_MS);
	}
	if (is_refused)
		return VMCI_ERROR_UNAVAILABLE;
	return lib_where(VMCI_ERROR_DEVICE_NOT_FOUND, "a broker was started and does not listen; see %s/%s",
			 vmci->home.dir, HOME_LOG);
}

/* --- The thread ------------------------------------------------------------------------------------------------ */

/**
 * set_why() - note for those who wait why there is no connection; the lock is held
 */
static void set_why(struct vmci *vmci, const char *why)
{
	snprintf(vmci->why, sizeof(vmci->why), "%s", why);
}

int lib_resume_call(struct fab_client *client, struct fab_msg *request, struct fab_msg *ret_reply)
{
	struct fab_msg reply;
	int r = fab_client_call(client, request, LIB_CALL_MS, &reply);

	if (r == -ECONNRESET || r == -EPIPE || r == -ETIMEDOUT)
		return -ECONNRESET;
	if (r)
		return VMCI_ERROR_NO_RESOURCES;
	if (reply.status < 0) {
		fab_drop(&reply);
		return reply.status;
	}
	*ret_reply = reply;
	return 0;
}

/**
 * resume_all() - tell the new broker of all objects; the lock is held, and is released meanwhile
 *
 * An object that is taken out of the list waits for its resume() to end; one that is added gets its turn, and has
 * nothing to say yet.
 * Return: 0; -ECONNRESET
 */
static int resume_all(struct vmci *vmci, struct fab_client *client)
{
	struct lib_object *object = vmci->first;
	int r = 0;

	while (object && !r && !vmci->is_closed) {
		vmci->resuming = object;
		pthread_mutex_unlock(&vmci->lock);
		r = object->ops->resume ? object->ops->resume(object, client) : 0;
		pthread_mutex_lock(&vmci->lock);
		/* Those who delete it or its neighbours wait for the lock, so next is good. */
		object = object->next;
		vmci->resuming = NULL;
		pthread_cond_broadcast(&vmci->changed);
		/* A lost object is its own business. */
		if (r != -ECONNRESET)
			r = 0;
	}
	if (!r && !vmci->is_closed) {
		pthread_mutex_unlock(&vmci->lock);
		r = right_resume(vmci->rights, client);
		pthread_mutex_lock(&vmci->lock);
	}
	return r;
}

/**
 * reconnect() - one attempt; the thread has the turn
 *
 * Return: 0: connected; -1: later more
 */
static int reconnect(struct vmci *vmci)
{
	struct fab_client *client;
	int fd = home_connect(&vmci->home);
	int r;

	if (fd < 0) {
		pthread_mutex_lock(&vmci->lock);
		set_why(vmci, strerror(-fd));
		pthread_mutex_unlock(&vmci->lock);
		return -1;
	}
	if (fab_client_new(fd, &client))
		return -1;
	set_client(vmci, client);
	r = hello(vmci, client, vmci->cid, true, LIB_CALL_MS);
	pthread_mutex_lock(&vmci->lock);
	if (r) {
		set_why(vmci, r == -ECONNRESET ? "it ends the connection" : vmci_errmsg());
	} else {
		vmci->state = STATE_RESUMING;
		r = resume_all(vmci, client);
		if (r) {
			vmci->state = STATE_LOST;
			set_why(vmci, "it ended the connection while objects were told to it");
		} else {
			vmci->state = STATE_CONNECTED;
			vmci->is_broken = false;
			vmci->is_busy = false;
		}
		pthread_cond_broadcast(&vmci->changed);
	}
	if (r)
		vmci->client = NULL;
	pthread_mutex_unlock(&vmci->lock);
	if (r)
		fab_client_free(client);
	return r ? -1 : 0;
}

/**
 * search() - reconnect until it succeeds
 *
 * Return: true: connected; false: the membership is being closed
 */
static bool search(struct vmci *vmci)
{
	int patience = home_patience_ms(&vmci->home);
	struct lib_deadline start = { .at = patience < 0 ? UINT64_MAX : lib_now() + (uint64_t)patience * 1000000u };

	while (reconnect(vmci)) {
		if (start.at != UINT64_MAX && !lib_left_ms(start)) {
			int fd = home_connect(&vmci->home);

			/* Nobody listens; another reason for the failure would be none to start one. */
			if (fd == -ENOENT || fd == -ECONNREFUSED)
				home_start(&vmci->home);
			fd_close(&fd);
			start.at = lib_now() + RESTART_MS * 1000000ull;
		}
		if (nap(vmci, RETRY_MS))
			return false;
	}
	return true;
}

/**
 * lose() - the connection has ended: take the turn, and free the client
 *
 * Return: false: the membership is being closed
 */
static bool lose(struct vmci *vmci)
{
	struct fab_client *client;
	uint64_t n;

	pthread_mutex_lock(&vmci->lock);
	vmci->is_broken = true;
	while (vmci->is_busy)
		pthread_cond_wait(&vmci->changed, &vmci->lock);
	if (vmci->is_closed) {
		pthread_mutex_unlock(&vmci->lock);
		return false;
	}
	/* What has woken us is dealt with; vmci_close() writes with is_closed set, under the lock. */
	if (read(vmci->wake, &n, sizeof(n)) < 0)
		n = 0;
	vmci->is_busy = true;
	vmci->state = STATE_LOST;
	set_why(vmci, "the connection has ended");
	client = vmci->client;
	vmci->client = NULL;
	pthread_cond_broadcast(&vmci->changed);
	pthread_mutex_unlock(&vmci->lock);
	fab_client_free(client);
	return true;
}

static void *look_after(void *arg)
{
	struct vmci *vmci = arg;

	do {
		/* Replies are others' business: only the end of the connection wakes us. */
		struct pollfd pollfd[] = {
			{ .fd = fab_client_fd(vmci->client), .events = POLLRDHUP },
			{ .fd = vmci->wake, .events = POLLIN },
		};

		while (poll(pollfd, 2, -1) < 0)
			;
	} while (lose(vmci) && search(vmci));

	return NULL;
}

static int thread_start(struct vmci *vmci)
{
	sigset_t all, before;
	int r;

	vmci->state = STATE_CONNECTED;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	r = pthread_create(&vmci->thread, NULL, look_after, vmci);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (r)
		return lib_fail(VMCI_ERROR_NO_RESOURCES, "cannot make a thread: %s", strerror(r));
	vmci->has_thread = true;
	return 0;
}

/* --- Calls ----------------------------------------------------------------------------------------------------- */

static bool is_ready(const struct vmci *vmci)
{
	return vmci->state == STATE_CONNECTED && !vmci->is_busy && !vmci->is_broken;
}

/**
 * begin() - wait for the turn; the lock is held
 *
 * Return: 0; VMCI_ERROR_UNAVAILABLE
 */
static int begin(struct vmci *vmci, enum fab_type type, struct lib_deadline deadline)
{
	while (!is_ready(vmci))
		if (!lib_cond_wait(&vmci->changed, &vmci->lock, deadline) && !is_ready(vmci))
			return vmci->state == STATE_CONNECTED ?
				       lib_fail(VMCI_ERROR_UNAVAILABLE, "%s: the broker at %s is too slow",
						fab_type_to_string(type), vmci->home.socket) :
				       lib_fail(VMCI_ERROR_UNAVAILABLE, "%s: no broker at %s: %s",
						fab_type_to_string(type), vmci->home.socket, vmci->why);
	vmci->is_busy = true;
	return 0;
}

/**
 * end() - give the turn back; the lock is held
 */
static void end(struct vmci *vmci, bool is_broken)
{
	vmci->is_busy = false;
	if (is_broken) {
		vmci->is_broken = true;
		eventfd_write(vmci->wake, 1);
	}
	pthread_cond_broadcast(&vmci->changed);
}

/**
 * exchange() - send the request and take the reply; we have the turn, and not the lock
 * @ret_result: of lib_call()
 *
 * Return: 0; -EAGAIN: with another broker; -EIO: @ret_result, and the connection is over
 */
static int exchange(struct vmci *vmci, struct fab_msg *request, bool again, struct lib_deadline deadline,
		    int (*take)(struct fab_msg *reply, void *arg), void *arg, int *ret_result)
{
	const char *type = fab_type_to_string(request->type);
	struct fab_msg reply;
	int r = fab_client_call(vmci->client, request, lib_left_ms(deadline), &reply);

	if (r == -ECONNRESET || (r == -EPIPE && again))
		return -EAGAIN;
	if (r == -EPIPE) {
		*ret_result = lib_fail(VMCI_ERROR_DATAGRAM_FAILED,
				       "%s: the broker at %s went away before it answered", type, vmci->home.socket);
		return -EIO;
	}
	if (r == -ETIMEDOUT) {
		*ret_result = lib_fail(again ? VMCI_ERROR_UNAVAILABLE : VMCI_ERROR_DATAGRAM_FAILED,
				       "%s: the broker at %s does not answer", type, vmci->home.socket);
		return -EIO;
	}
	if (r) {
		*ret_result = lib_fail(r == -ENOMEM ? VMCI_ERROR_NO_MEM : VMCI_ERROR_NO_RESOURCES, "%s: %s", type,
				       strerror(-r));
		return 0;
	}
	if (reply.status < 0)
		*ret_result = lib_fail(reply.status, "%s: the broker says: %s", type, vmci_strerror(reply.status));
	else
		*ret_result = take ? take(&reply, arg) : reply.status;
	fab_drop(&reply);
	return 0;
}

int lib_call(struct vmci *vmci, struct fab_msg *request, bool again, int (*take)(struct fab_msg *reply, void *arg),
	     void *arg)
{
	struct lib_deadline deadline = lib_deadline(LIB_CALL_MS);
	int result = lib_usable(vmci);
	int r;

	if (result)
		return result;
	if (vmci->guest)
		return lib_fail(VMCI_ERROR_UNAVAILABLE, "%s: there is no broker in a guest",
				fab_type_to_string(request->type));
	pthread_mutex_lock(&vmci->lock);
	do {
		result = begin(vmci, request->type, deadline);
		if (result)
			break;
		pthread_mutex_unlock(&vmci->lock);
		r = exchange(vmci, request, again, deadline, take, arg, &result);
		pthread_mutex_lock(&vmci->lock);
		end(vmci, r != 0);
	} while (r == -EAGAIN);
	pthread_mutex_unlock(&vmci->lock);
	return result;
}

int lib_tell(struct vmci *vmci, struct fab_msg *request)
{
	struct lib_deadline deadline = lib_deadline(LIB_CALL_MS);
	int result = VMCI_ERROR_UNAVAILABLE;
	char before[512];
	int r;

	if (lib_is_forked(vmci) || vmci->guest)
		return VMCI_ERROR_UNAVAILABLE;
	snprintf(before, sizeof(before), "%s", vmci_errmsg());
	pthread_mutex_lock(&vmci->lock);
	/* Not for a new broker. But one that is being told of the objects may have heard of ours already. */
	while (!is_ready(vmci) &&
	       (vmci->state == STATE_RESUMING || (vmci->state == STATE_CONNECTED && !vmci->is_broken)))
		if (!lib_cond_wait(&vmci->changed, &vmci->lock, deadline))
			break;
	if (is_ready(vmci)) {
		vmci->is_busy = true;
		pthread_mutex_unlock(&vmci->lock);
		r = exchange(vmci, request, true, deadline, NULL, NULL, &result);
		if (r)
			result = VMCI_ERROR_UNAVAILABLE;
		pthread_mutex_lock(&vmci->lock);
		end(vmci, r != 0);
	}
	pthread_mutex_unlock(&vmci->lock);
	lib_fail(0, "%s", before);
	return result;
}

/* --- Opening and closing --------------------------------------------------------------------------------------- */

int vmci_open(const char *path, uint32_t cid, uint32_t flags, struct vmci **ret_vmci)
{
	struct vmci *vmci;
	int r;

	if (!ret_vmci || flags & ~VMCI_OPEN_NO_START)
		return lib_fail(VMCI_ERROR_INVALID_ARGS, "vmci_open: flags 0x%x", flags);
	if (cid != VMCI_CID_HOST && cid < VMCI_CID_FIRST_VM)
		return lib_fail(VMCI_ERROR_INVALID_ARGS, "vmci_open: context %u is reserved", cid);
	vmci = calloc(1, sizeof(*vmci));
	if (!vmci)
		return lib_fail(VMCI_ERROR_NO_MEM, "vmci_open: out of memory");
	vmci->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (vmci->wake < 0) {
		r = lib_fail(VMCI_ERROR_NO_RESOURCES, "vmci_open: %s", strerror(errno));
		free(vmci);
		return r;
	}
	pthread_mutex_init(&vmci->lock, NULL);
	lib_cond_init(&vmci->changed);
	atomic_init(&vmci->is_forked, false);
	atomic_init(&vmci->has_window, false);
	vmci->cid = cid;
	members_add(vmci);
	r = right_new(&vmci->rights);
	if (!r)
		r = join(vmci, path, cid, flags & VMCI_OPEN_NO_START);
	if (!r && vmci->guest)
		vmci->cid = guest_cid(vmci->guest);
	else if (!r)
		r = thread_start(vmci);
	if (r) {
		lib_where(r, "vmci_open");
		vmci_close(vmci);
		return r;
	}
	*ret_vmci = vmci;
	return 0;
}

/**
 * drop_objects() - free what belongs to the membership itself
 */
static void drop_objects(struct vmci *vmci)
{
	struct lib_object *object = vmci->first;

	while (object) {
		struct lib_object *next = object->next;

		if (object->ops->drop)
			object->ops->drop(object);
		object = next;
	}
	vmci->first = vmci->last = NULL;
}

struct vmci *vmci_close(struct vmci *vmci)
{
	bool is_forked;

	if (!vmci)
		return NULL;
	is_forked = lib_is_forked(vmci);
	members_del(vmci);
	if (!is_forked) {
		pthread_mutex_lock(&vmci->lock);
		vmci->is_closed = true;
		eventfd_write(vmci->wake, 1);
		pthread_mutex_unlock(&vmci->lock);
		if (vmci->has_thread)
			pthread_join(vmci->thread, NULL);
	}
	drop_objects(vmci);
	right_free(vmci->rights);
	guest_close(vmci->guest);
	/* Somebody may have been in the middle of a call when we were forked: its memory is not in order then. */
	if (!is_forked || !vmci->is_busy)
		fab_client_free(vmci->client);
	fd_close(&vmci->wake);
	if (!is_forked) {
		pthread_cond_destroy(&vmci->changed);
		pthread_mutex_destroy(&vmci->lock);
	}
	free(vmci);
	return NULL;
}
