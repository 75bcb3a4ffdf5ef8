// SPDX-License-Identifier: BSD-2-Clause
/*
 * DOC: Theory of operation
 *
 * A queue pair is a ring view (fabric/ring.h), which knows indices, requests to be woken, and the life socket,
 * and what is here: how the broker is told, and how threads wait.
 *
 * The broker introduces the two ends and then is needed no more. The creator hands it the memory and the
 * attacher's end of the life socket, and keeps copies, with which it introduces itself to the next broker
 * (QP_CREATE with RESUME). When the attacher has said hello the copies are closed, otherwise its death would go
 * unnoticed; from then on both ends tell a new broker that they hold an end (QP_HOLD). An object is in the
 * membership's list before the broker is asked, and known from the reply on, so no broker is missed.
 *
 * Waiting: look for a while, then ask the peer to wake us, look again, sleep. Looking is given up when it was
 * in vain: after n times in vain in a row, the next 2^n - 1 waits sleep at once. So a peer that shares our CPU,
 * or one that is slow, costs little.
 *
 * Sleeping: two threads of one end may sleep at once, one for each direction, but there is one life socket, and
 * a byte in it may be meant for either. So one thread, the listener, receives, and the other waits for it;
 * whatever the listener hears, both look. @heard counts what was heard: who finds it changed since before he
 * asked the peer does not go to sleep. Who polls the descriptor of vmci_qpair_fd() sees the socket itself, and
 * an eventfd that is raised when somebody else took bytes out of it.
 *
 * Direct pairs (fabric/ring_direct.c) can lose the guest's pages at any time, and learn it from the life socket, which
 * nobody needs to look at who finds bytes each time. So here somebody does, at each call that touches the rings, if the
 * last look was a while ago. And who attaches waits until the pages have come.
 *
 * In a guest with /dev/vmci the kernel maps the guest's own pages, and tells by an eventfd, @wake, what has become of
 * the peer. Nobody tells when the peer moves an index: at the other side is a device that copies (the host's bridge),
 * or a program of this guest. So who waits looks again and again, at intervals that double from NAP_FIRST_NS on, and
 * that begin anew whenever something has moved; long ones after a while. @wake is in the place of the life socket, and
 * in vmci_qpair_fd() a timer stands beside it.
 *
 * Locks: the membership's, then ours. No lib_*() function is called with ours held.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "base/closer.h"
#include "base/fd.h"
#include "fabric/ring.h"
#include "lib/gate.h"
#include "lib/guest_dev.h"
#include "lib/lib.h"

_Static_assert(RING_IN == VMCI_QPAIR_IN && RING_OUT == VMCI_QPAIR_OUT, "the same bits");
_Static_assert((int)RING_WAITING == VMCI_QPAIR_WAITING && (int)RING_ATTACHED == VMCI_QPAIR_ATTACHED &&
	       (int)RING_LEFT == VMCI_QPAIR_LEFT, "the same states");

#define WAYS (RING_IN | RING_OUT)

#define SPIN_USEC 50u		/* a sleeping wake-up costs some 10 us, and more on busy machines */
#define SPIN_MISSES_MAX 6u	/* look in vain in 1 of 64 waits, at most */
#define SPIN_EAGER 64u		/* looks without a pause */
#define SPIN_CLOCK 32u		/* looks between two looks at the clock */

/*
 * In a guest: the first pause between two looks, the longest one of a pair that was used lately, and of one that was
 * not. They are those of the device's bridges, which look at us in the same way.
 */
#define NAP_FIRST_NS 50000u
#define NAP_LAST_NS 1000000u
#define NAP_IDLE_NS 20000000u
#define NAP_QUIET 10000u	/* looks in vain, one after the other, until it counts as not used: some 10 s */

/* A creator whose pair the next broker refuses gives an attacher that long to say hello: it may be just doing so. */
#define HELLO_MS 100

/* Until a guest's device has sent the pages of a direct pair: it does so when it comes round. */
#define PAGES_MS 5000

/* How often the life socket of a direct pair is looked at, at least: a system call in a thousand of the smallest reads. */
#define ATTEND_NS 500000u

/* How the looking went, for each direction. */
struct spin {
	unsigned misses;	/* in vain in a row */
	unsigned skip;		/* waits that do without */
};

/**
 * struct vmci_qpair - an end of a queue pair
 * @object:    in the membership's list
 * @ring:      NULL as long as an attacher has none
 * @handle:    of the pair
 * @peer:      the context that may attach; attacher: the creator's
 * @fab_flags: FAB_F_TRUSTED, FAB_F_DIRECT
 * @direct:    a guest's pages are, or are to be, what @ring has mapped
 * @attended:  when the life socket of a direct pair was looked at
 * @token:     for the next broker
 * @is_known:  does a broker know the pair? Under the membership's lock
 * @creator:   or attacher
 * @device:    /dev/vmci, or -1: there is a broker
 * @wake:      eventfd of the kernel, or -1
 * @timer:     in @epoll, or -1
 * @naps:      looks in vain, one after the other
 * @memory, @life: the creator's copies, until somebody has attached; -1 then
 * @lock:      for all that follows
 * @listening: a thread receives from the life socket
 * @listener_gone: signalled when it has heard something, or stopped
 * @waiters:   threads that wait for this
 * @heard:     how often something was heard
 * @seen:      the state that the program has seen
 * @epoll:     vmci_qpair_fd(), or -1
 * @kick:      in @epoll: others took bytes out of the socket
 * @polled:    vmci_qpair_arm() returned 0
 * @spin_usec: how long to look
 */
struct vmci_qpair {
	struct lib_object object;
	struct vmci *vmci;
	struct ring *ring;
	struct vmci_handle handle;
	uint32_t peer;
	uint32_t fab_flags;
	bool direct;
	_Atomic uint64_t attended;
	uint64_t produce;
	uint64_t consume;
	uint8_t token[FAB_TOKEN_SIZE];
	bool is_known;
	bool creator;
	int device;
	int wake;
	int timer;
	_Atomic unsigned naps;
	int memory;
	int life;
	pthread_mutex_t lock;
	pthread_cond_t listener_gone;
	bool listening;
	unsigned waiters;
	uint64_t heard;
	enum ring_state seen;
	int epoll;
	int kick;
	bool polled;
	_Atomic unsigned spin_usec;
	struct spin spins[2];
};

static int corrupt(const struct vmci_qpair *qpair)
{
	return lib_fail(VMCI_ERROR_INVALID_SIZE, "queue pair %u:%u: the peer has corrupted the ring",
			qpair->handle.context, qpair->handle.resource);
}

/* lost() - a direct pair without the guest's pages */
static int lost(const struct vmci_qpair *qpair)
{
	return lib_fail(ring_pages(qpair->ring), "queue pair %u:%u: the guest's pages cannot be mapped",
			qpair->handle.context, qpair->handle.resource);
}

static int gone(const struct vmci_qpair *qpair)
{
	return lib_fail(VMCI_ERROR_QUEUEPAIR_NOTATTACHED, "queue pair %u:%u: the peer has left", qpair->handle.context,
			qpair->handle.resource);
}

/*
 * --- Making and ending -------------------------------------------------------------------------------------------
 */

static int resume(struct lib_object *object, struct fab_client *client);

static struct vmci_qpair *of(struct lib_object *object)
{
	return (struct vmci_qpair *)((char *)object - offsetof(struct vmci_qpair, object));
}

/* after_fork() - in the child: our copies of the sockets would keep this end alive in the peer's eyes */
static void after_fork(struct lib_object *object)
{
	struct vmci_qpair *qpair = of(object);

	if (qpair->ring && ring_fd(qpair->ring) >= 0)
		lib_void(ring_fd(qpair->ring));
	if (qpair->life >= 0)
		lib_void(qpair->life);
}

static const struct lib_object_ops ops = { .resume = resume, .forked = after_fork };

static struct vmci_qpair *new_qpair(struct vmci *vmci, uint64_t produce, uint64_t consume, uint32_t flags)
{
	struct vmci_qpair *qpair = calloc(1, sizeof(*qpair));

	if (!qpair)
		return NULL;
	qpair->object.ops = &ops;
	qpair->vmci = vmci;
	qpair->produce = produce;
	qpair->consume = consume;
	qpair->fab_flags = (flags & VMCI_QPAIR_TRUSTED ? FAB_F_TRUSTED : 0) |
			   (flags & VMCI_QPAIR_DIRECT ? FAB_F_DIRECT : 0);
	qpair->memory = qpair->life = qpair->epoll = qpair->kick = -1;
	qpair->device = lib_device(vmci);
	qpair->wake = qpair->timer = -1;
	pthread_mutex_init(&qpair->lock, NULL);
	lib_cond_init(&qpair->listener_gone);
	atomic_init(&qpair->spin_usec, sysconf(_SC_NPROCESSORS_ONLN) > 1 ? SPIN_USEC : 0);
	return qpair;
}

static struct vmci_qpair *free_qpair(struct vmci_qpair *qpair)
{
	if (qpair->ring && qpair->device >= 0 && lib_is_forked(qpair->vmci))
		ring_disown(qpair->ring);
	ring_free(qpair->ring);
	fd_close(&qpair->memory);
	closer_close(&qpair->life);
	fd_close(&qpair->epoll);
	fd_close(&qpair->kick);
	fd_close(&qpair->wake);
	fd_close(&qpair->timer);
	if (!lib_is_forked(qpair->vmci)) {	/* a copy of a condition looks as if somebody waited */
		pthread_cond_destroy(&qpair->listener_gone);
		pthread_mutex_destroy(&qpair->lock);
	}
	free(qpair);
	return NULL;
}

static int check_args(uint64_t produce, uint64_t consume, uint32_t flags, uint32_t allowed)
{
	if (flags & ~allowed)
		return lib_fail(VMCI_ERROR_INVALID_ARGS, "queue pair: flags %#x", flags & ~allowed);
	if (!produce && !consume)
		return lib_fail(VMCI_ERROR_INVALID_ARGS, "queue pair: both rings have 0 bytes");
	if (!ring_memory_size(produce, consume))
		return lib_fail(VMCI_ERROR_NO_RESOURCES, "queue pair: more than %u bytes", VMCI_QP_GUEST_MEMORY_MAX);
	return 0;
}

static int fail_errno(int error, const char *what)
{
	int code = error == -ENOMEM ? VMCI_ERROR_NO_MEM :
		   error == -EBADMSG || error == -ECONNRESET ? VMCI_ERROR_UNAVAILABLE : VMCI_ERROR_NO_RESOURCES;

	return lib_fail(code, "queue pair: %s: %s", what,
			error == -EBADMSG ? "not what a creator must pass" :
			error == -ECONNRESET ? "the creator has left" : strerror(-error));
}

/*
 * get_from_device() - make a pair, or attach to one, where there is a kernel instead of a broker
 *
 * Return: 0 and *@ret_qpair; VMCI_ERROR_*, and @qpair is freed
 */
static int get_from_device(struct vmci_qpair *qpair, uint32_t flags, struct vmci_qpair **ret_qpair)
{
	bool is_local = qpair->handle.context == vmci_cid(qpair->vmci) || qpair->peer == vmci_cid(qpair->vmci);
	size_t size = 0;
	void *map = NULL;
	int r = lib_usable(qpair->vmci);

	if (!r && qpair->fab_flags)
		r = lib_fail(VMCI_ERROR_NO_ACCESS, "queue pair: a guest trusts nobody, and nobody can have its pages");
	/* What we make is for others, unless it is said that it is not. */
	if (qpair->creator && qpair->peer != vmci_cid(qpair->vmci))
		is_local = false;
	if (is_local)
		flags |= VMCI_QP_LOCAL;
	if (!r) {
		qpair->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		r = qpair->wake < 0 ? fail_errno(-errno, "eventfd") :
		    guest_dev_qpair_create(qpair->device, &qpair->handle, qpair->produce, qpair->consume, qpair->peer,
					   flags, qpair->wake, &map, &size);
	}
	if (r >= 0) {
		int error = ring_map_device(map, size, qpair->produce, qpair->consume, r == 1, &qpair->ring);

		if (error) {
			munmap(map, size);
			guest_dev_qpair_destroy(qpair->device, qpair->handle);
			r = fail_errno(error, "map");
		}
	}
	if (r < 0) {
		free_qpair(qpair);
		return r;
	}
	*ret_qpair = qpair;
	return 0;
}

static struct fab_msg create_request(const struct vmci_qpair *qpair)
{
	return (struct fab_msg){ .type = FAB_QP_CREATE, .handle = qpair->handle, .other = { .context = qpair->peer },
				 .flags = qpair->fab_flags, .size0 = qpair->produce, .size1 = qpair->consume,
				 .fd = { qpair->memory, qpair->life }, .n_fds = 2 };
}

static int take_created(struct fab_msg *reply, void *arg)
{
	struct vmci_qpair *qpair = arg;

	qpair->handle = reply->handle;
	memcpy(qpair->token, reply->token, sizeof(qpair->token));
	qpair->is_known = true;
	return 0;
}

int vmci_qpair_create(struct vmci *vmci, uint32_t rid, uint32_t peer, uint64_t produce, uint64_t consume,
		      uint32_t flags, struct vmci_qpair **ret_qpair)
{
	int error = check_args(produce, consume, flags, VMCI_QPAIR_TRUSTED | VMCI_QPAIR_DIRECT);
	struct vmci_qpair *qpair;
	struct fab_msg request;

	if (error)
		return error;
	qpair = new_qpair(vmci, produce, consume, flags);
	if (!qpair)
		return fail_errno(-ENOMEM, "create");
	qpair->creator = true;
	qpair->peer = peer;
	qpair->handle = handle_make(vmci_cid(vmci), rid);
	qpair->direct = flags & VMCI_QPAIR_DIRECT;
	if (qpair->device >= 0)
		return get_from_device(qpair, 0, ret_qpair);
	error = ring_create(produce, consume, &qpair->ring, &qpair->memory, &qpair->life);
	if (!error && qpair->direct)
		error = ring_await_pages(qpair->ring);
	if (error) {
		free_qpair(qpair);
		return fail_errno(error, "create");
	}
	request = create_request(qpair);
	lib_add(vmci, &qpair->object);
	error = lib_call(vmci, &request, true, take_created, qpair);
	if (error < 0) {
		lib_del(vmci, &qpair->object);
		free_qpair(qpair);
		return error;
	}
	ring_set_handle(qpair->ring, qpair->handle);
	*ret_qpair = qpair;
	return 0;
}

static int take_attached(struct fab_msg *reply, void *arg)
{
	struct vmci_qpair *qpair = arg;

	qpair->peer = reply->other.context;
	qpair->direct = reply->flags & FAB_F_DIRECT;
	memcpy(qpair->token, reply->token, sizeof(qpair->token));
	qpair->memory = fd_take(&reply->fd[0]);
	qpair->life = fd_take(&reply->fd[1]);
	qpair->is_known = true;
	return 0;
}

static void detach(struct vmci_qpair *qpair)
{
	struct fab_msg request = { .type = FAB_QP_DETACH, .handle = qpair->handle };

	lib_tell(qpair->vmci, &request);
}

/* await_pages() - until a guest's device has sent them. Nobody else knows the pair yet. */
static int await_pages(struct vmci_qpair *qpair)
{
	struct pollfd fd = { .fd = ring_fd(qpair->ring), .events = POLLIN };
	uint64_t deadline = lib_now() + PAGES_MS * 1000000ull, now;
	int code;

	while (!(code = ring_pages(qpair->ring))) {
		now = lib_now();
		if (now >= deadline)
			return lib_fail(VMCI_ERROR_TIMEOUT, "queue pair %u:%u: the guest's pages do not come",
					qpair->handle.context, qpair->handle.resource);
		if (poll(&fd, 1, (int)((deadline - now) / 1000000u) + 1) > 0)
			ring_hear(qpair->ring, false);
	}
	return code < 0 ? lost(qpair) : 0;
}

int vmci_qpair_attach(struct vmci *vmci, struct vmci_handle handle, uint64_t produce, uint64_t consume, uint32_t flags,
		      struct vmci_qpair **ret_qpair)
{
	int error = check_args(produce, consume, flags, VMCI_QPAIR_TRUSTED | VMCI_QPAIR_DIRECT | VMCI_QP_ATTACH_ONLY);
	struct fab_msg request = { .type = FAB_QP_ATTACH, .handle = handle, .other = { .context = VMCI_INVALID_ID },
				   .size0 = produce, .size1 = consume };
	struct vmci_qpair *qpair;

	if (error)
		return error;
	qpair = new_qpair(vmci, produce, consume, flags);
	if (!qpair)
		return fail_errno(-ENOMEM, "attach");
	qpair->handle = handle;
	qpair->seen = RING_ATTACHED;
	if (qpair->device >= 0) {
		qpair->peer = handle.context;
		return get_from_device(qpair, VMCI_QP_ATTACH_ONLY, ret_qpair);
	}
	request.flags = qpair->fab_flags;
	lib_add(vmci, &qpair->object);
	error = lib_call(vmci, &request, true, take_attached, qpair);
	if (error < 0) {
		lib_del(vmci, &qpair->object);
		free_qpair(qpair);
		return error;
	}
	error = (qpair->direct ? ring_map_direct : ring_map)(qpair->memory, qpair->life, vmci_cid(vmci), produce, consume,
							     &qpair->ring);
	if (error) {
		lib_del(vmci, &qpair->object);
		detach(qpair);
		free_qpair(qpair);
		return fail_errno(error, "attach");
	}
	qpair->life = -1;	/* the ring's */
	fd_close(&qpair->memory);
	if (qpair->direct) {
		error = await_pages(qpair);
		if (error) {
			vmci_qpair_close(qpair);
			return error;
		}
	}
	*ret_qpair = qpair;
	return 0;
}

struct vmci_qpair *vmci_qpair_close(struct vmci_qpair *qpair)
{
	if (!qpair)
		return NULL;
	if (qpair->device >= 0) {
		if (!lib_is_forked(qpair->vmci))
			guest_dev_qpair_destroy(qpair->device, qpair->handle);
		return free_qpair(qpair);
	}
	lib_del(qpair->vmci, &qpair->object);
	if (!lib_is_forked(qpair->vmci)) {
		ring_leave(qpair->ring);
		detach(qpair);
	}
	return free_qpair(qpair);
}

struct vmci_handle vmci_qpair_handle(const struct vmci_qpair *qpair)
{
	return qpair->handle;
}

/*
 * --- The life socket ---------------------------------------------------------------------------------------------
 */

/* moved() - bytes were written or read: it is worth looking often */
static void moved(struct vmci_qpair *qpair)
{
	if (qpair->device >= 0)
		atomic_store_explicit(&qpair->naps, 0, memory_order_relaxed);
}

/* note() - something was heard: others may have waited for it. Lock held. */
static void note(struct vmci_qpair *qpair)
{
	qpair->heard++;
	moved(qpair);
	if (ring_state(qpair->ring) != RING_WAITING) {
		fd_close(&qpair->memory);
		fd_close(&qpair->life);
	}
	if (qpair->polled && qpair->kick >= 0) {
		qpair->polled = false;
		eventfd_write(qpair->kick, 1);
	}
}

/* wait_fd() - what is readable when there is something to be heard */
static int wait_fd(const struct vmci_qpair *qpair)
{
	return qpair->device >= 0 ? qpair->wake : ring_fd(qpair->ring);
}

/* hear_device() - has the kernel something to say? */
static bool hear_device(struct vmci_qpair *qpair)
{
	uint32_t peer = VMCI_INVALID_ID;
	eventfd_t count;
	int state;

	if (eventfd_read(qpair->wake, &count))
		return false;
	state = guest_dev_qpair_state(qpair->device, qpair->handle, &peer);
	ring_set_state(qpair->ring, (enum ring_state)state, peer);
	return true;
}

static bool hear_any(struct vmci_qpair *qpair, bool wait)
{
	return qpair->device >= 0 ? hear_device(qpair) : ring_hear(qpair->ring, wait);
}

/* hear() - take what is in the socket, unless a listener does it anyway. Lock held. */
static void hear(struct vmci_qpair *qpair)
{
	if (!qpair->listening && hear_any(qpair, false))
		note(qpair);
}

/* nap() - in a guest: how long to sleep until the next look, in nanoseconds */
static uint64_t nap(struct vmci_qpair *qpair)
{
	unsigned naps = atomic_fetch_add_explicit(&qpair->naps, 1, memory_order_relaxed);
	uint64_t ns = naps < 16 ? (uint64_t)NAP_FIRST_NS << naps : NAP_LAST_NS;

	if (naps >= NAP_QUIET) {
		atomic_store_explicit(&qpair->naps, NAP_QUIET, memory_order_relaxed);
		return NAP_IDLE_NS;
	}
	return ns < NAP_LAST_NS ? ns : NAP_LAST_NS;
}

/* listen_for() - sleep until something is heard, or until @deadline. Return: was it? */
static bool listen_for(struct vmci_qpair *qpair, uint64_t deadline)
{
	struct pollfd fd = { .fd = wait_fd(qpair), .events = POLLIN };
	struct timespec left;
	uint64_t now;

	if (qpair->device >= 0) {
		uint64_t next = lib_now() + nap(qpair);

		if (next < deadline)
			deadline = next;
	}
	if (deadline == UINT64_MAX) {
		if (ring_hear(qpair->ring, true))
			return true;
		/* A signal; or the peer, who made this end of the socket, has a copy, and made it non-blocking. */
		poll(&fd, 1, -1);
		return ring_hear(qpair->ring, false);
	}
	now = lib_now();
	if (now >= deadline)
		return false;
	left = (struct timespec){ .tv_sec = (time_t)((deadline - now) / 1000000000u),
				  .tv_nsec = (long)((deadline - now) % 1000000000u) };
	return ppoll(&fd, 1, &left, NULL) > 0 && hear_any(qpair, false);
}

/* attend() - to be called before the rings of a pair are touched */
static void attend(struct vmci_qpair *qpair)
{
	uint64_t now;

	if (!qpair->direct)
		return;
	now = lib_now();
	if (now - atomic_load_explicit(&qpair->attended, memory_order_relaxed) < ATTEND_NS)
		return;
	atomic_store_explicit(&qpair->attended, now, memory_order_relaxed);
	pthread_mutex_lock(&qpair->lock);
	hear(qpair);
	pthread_mutex_unlock(&qpair->lock);
}

static uint64_t heard(struct vmci_qpair *qpair)
{
	uint64_t count;

	pthread_mutex_lock(&qpair->lock);
	count = qpair->heard;
	pthread_mutex_unlock(&qpair->lock);
	return count;
}

/*
 * sleep_until() - until something is heard that was not when @heard_before was taken; or @deadline; or earlier, for
 * no reason
 *
 * Return: did this thread hear something? Then it was an answer to its request, most likely
 */
static bool sleep_until(struct vmci_qpair *qpair, uint64_t heard_before, uint64_t deadline)
{
	bool news = false;

	pthread_mutex_lock(&qpair->lock);
	if (qpair->heard != heard_before || ring_state(qpair->ring) == RING_LEFT) {
		/* look again */
	} else if (qpair->listening) {
		qpair->waiters++;
		lib_cond_wait(&qpair->listener_gone, &qpair->lock, (struct lib_deadline){ .at = deadline });
		qpair->waiters--;
	} else {
		qpair->listening = true;
		pthread_mutex_unlock(&qpair->lock);
		news = listen_for(qpair, deadline);
		pthread_mutex_lock(&qpair->lock);
		qpair->listening = false;
		if (news)
			note(qpair);
		if (qpair->waiters)
			pthread_cond_broadcast(&qpair->listener_gone);
	}
	pthread_mutex_unlock(&qpair->lock);
	return news;
}

static uint32_t peer_of(const struct vmci_qpair *qpair)
{
	return qpair->peer != VMCI_INVALID_ID ? qpair->peer : ring_peer(qpair->ring);
}

enum vmci_qpair_state vmci_qpair_state(struct vmci_qpair *qpair, uint32_t *ret_peer)
{
	enum ring_state state;

	if (lib_is_forked(qpair->vmci))
		return VMCI_QPAIR_LEFT;
	pthread_mutex_lock(&qpair->lock);
	hear(qpair);
	qpair->seen = state = ring_state(qpair->ring);
	pthread_mutex_unlock(&qpair->lock);
	if (ret_peer)
		*ret_peer = peer_of(qpair);
	return (enum vmci_qpair_state)state;
}

static int tell(struct fab_client *client, struct fab_msg *request)
{
	struct fab_msg reply;
	int error = lib_resume_call(client, request, &reply);

	if (!error)
		fab_drop(&reply);
	return error;
}

/*
 * tell_waiting() - nobody has attached, as far as we know; @fds are copies of what an attacher needs
 *
 * Return: as resume(); 1: somebody has attached meanwhile
 */
static int tell_waiting(struct vmci_qpair *qpair, struct fab_client *client, const int fds[2])
{
	struct pollfd fd = { .fd = ring_fd(qpair->ring), .events = POLLIN };
	struct fab_msg request = create_request(qpair);
	int error;
	bool late;

	if (fds[0] < 0 || fds[1] < 0)
		return VMCI_ERROR_NO_RESOURCES;
	request.fd[0] = fds[0];
	request.fd[1] = fds[1];
	request.flags |= FAB_F_RESUME;
	memcpy(request.token, qpair->token, sizeof(request.token));
	error = tell(client, &request);
	if (!error || error == -ECONNRESET)
		return error;
	poll(&fd, 1, HELLO_MS);
	pthread_mutex_lock(&qpair->lock);
	hear(qpair);
	late = ring_state(qpair->ring) != RING_WAITING;
	if (!late)
		ring_leave(qpair->ring);	/* nobody will ever come: whoever waits for it learns it by this */
	pthread_mutex_unlock(&qpair->lock);
	return late ? 1 : error;
}

static int tell_held(struct vmci_qpair *qpair, struct fab_client *client)
{
	struct fab_msg request = { .type = FAB_QP_HOLD, .handle = qpair->handle,
				   .flags = qpair->fab_flags & FAB_F_TRUSTED,
				   .other = { .context = peer_of(qpair) }, .size0 = qpair->produce,
				   .size1 = qpair->consume };

	memcpy(request.token, qpair->token, sizeof(request.token));
	return tell(client, &request);
}

/* is_held() - has somebody attached? If not, @ret_fds are copies of what an attacher needs */
static bool is_held(struct vmci_qpair *qpair, int ret_fds[2])
{
	bool held;

	if (!qpair->creator)
		return true;
	pthread_mutex_lock(&qpair->lock);
	hear(qpair);
	held = ring_state(qpair->ring) != RING_WAITING;
	if (!held) {
		ret_fds[0] = fcntl(qpair->memory, F_DUPFD_CLOEXEC, 0);
		ret_fds[1] = fcntl(qpair->life, F_DUPFD_CLOEXEC, 0);
	}
	pthread_mutex_unlock(&qpair->lock);
	return held;
}

/* resume() - membership's lock held. A pair with two ends goes on whatever the broker says. */
static int resume(struct lib_object *object, struct fab_client *client)
{
	struct vmci_qpair *qpair = of(object);
	int fds[2] = { -1, -1 }, error;

	if (!qpair->is_known)
		return 0;
	if (!is_held(qpair, fds)) {
		error = tell_waiting(qpair, client, fds);
		fd_close(&fds[0]);
		fd_close(&fds[1]);
		if (error <= 0)
			return error;
	}
	return tell_held(qpair, client);
}

/*
 * --- Waiting -----------------------------------------------------------------------------------------------------
 */

/**
 * struct wait - a call's patience
 * @timeout_ms: as the program gave it
 * @deadline:   UINT64_MAX: none; 0: not known yet, as nothing had to be waited for
 * @asked:      was the socket looked at, if there is no waiting?
 */
struct wait {
	int timeout_ms;
	uint64_t deadline;
	bool asked;
};

/* is_there() - would any of @ways go on? Also if the ring is corrupt. */
static bool is_there(struct ring *ring, unsigned ways)
{
	return (ways & RING_IN && ring_ready(ring, 1)) || (ways & RING_OUT && ring_room(ring, 1));
}

/* spin() - look until @until */
static bool spin(struct ring *ring, unsigned ways, uint64_t until)
{
	for (unsigned i = 1;; i++) {
		if (is_there(ring, ways))
			return true;
		if (i > SPIN_EAGER)
			ring_relax();
		if (i % SPIN_CLOCK == 0 && lib_now() >= until)
			return false;
	}
}

/* spin_well() - look, if that is promising */
static bool spin_well(struct vmci_qpair *qpair, unsigned ways, uint64_t now, uint64_t deadline)
{
	unsigned usec = atomic_load_explicit(&qpair->spin_usec, memory_order_relaxed);
	struct spin *spins = &qpair->spins[ways & RING_IN ? 0 : 1];
	uint64_t until = now + usec * 1000ull;

	if (!usec || !ways)
		return false;
	if (spins->skip) {
		spins->skip--;
		return false;
	}
	if (spin(qpair->ring, ways, until < deadline ? until : deadline)) {
		spins->misses = 0;
		return true;
	}
	if (spins->misses < SPIN_MISSES_MAX)
		spins->misses++;
	spins->skip = (1u << spins->misses) - 1;
	return false;
}

/*
 * await() - @ways cannot go on: wait until they might. Return: 0: look again; VMCI_ERROR_TIMEOUT,
 * VMCI_ERROR_WOULD_BLOCK
 */
static int await(struct vmci_qpair *qpair, unsigned ways, struct wait *wait)
{
	uint64_t now, before;

	if (!wait->timeout_ms) {
		if (wait->asked)
			return lib_fail(VMCI_ERROR_WOULD_BLOCK, "queue pair %u:%u: nothing yet",
					qpair->handle.context, qpair->handle.resource);
		wait->asked = true;
		pthread_mutex_lock(&qpair->lock);
		hear(qpair);
		pthread_mutex_unlock(&qpair->lock);
		return 0;
	}
	now = lib_now();
	if (!wait->deadline) {
		wait->deadline = wait->timeout_ms < 0 ? UINT64_MAX : now + (uint64_t)wait->timeout_ms * 1000000u;
		if (spin_well(qpair, ways, now, wait->deadline))
			return 0;
	} else if (now >= wait->deadline) {
		return lib_fail(VMCI_ERROR_TIMEOUT, "queue pair %u:%u: nothing within %d ms", qpair->handle.context,
				qpair->handle.resource, wait->timeout_ms);
	}
	before = heard(qpair);
	if (ring_arm(qpair->ring, ways))
		return 0;
	if (!sleep_until(qpair, before, wait->deadline))
		ring_disarm(qpair->ring, ways);
	return 0;
}

/* there() - those of @events that are there; or VMCI_ERROR_INVALID_SIZE */
static int there(struct vmci_qpair *qpair, unsigned events)
{
	enum ring_state state = ring_state(qpair->ring);
	int64_t ready = events & VMCI_QPAIR_IN ? ring_ready(qpair->ring, 1) : 0;
	int64_t room = events & VMCI_QPAIR_OUT && state != RING_LEFT ? ring_room(qpair->ring, 1) : 0;
	unsigned ret = 0;

	if (ready < 0 || room < 0)
		return corrupt(qpair);
	if (ready)
		ret |= VMCI_QPAIR_IN;
	if (room)
		ret |= VMCI_QPAIR_OUT;
	if (state == RING_LEFT) {
		ret |= VMCI_QPAIR_PEER;
	} else if (events & VMCI_QPAIR_PEER) {
		pthread_mutex_lock(&qpair->lock);
		hear(qpair);
		if (ring_state(qpair->ring) != qpair->seen)
			ret |= VMCI_QPAIR_PEER;
		pthread_mutex_unlock(&qpair->lock);
	}
	return (int)ret;
}

static int check_events(unsigned events)
{
	if (!events || events & ~(WAYS | VMCI_QPAIR_PEER))
		return lib_fail(VMCI_ERROR_INVALID_ARGS, "queue pair: events %#x", events);
	return 0;
}

int vmci_qpair_wait(struct vmci_qpair *qpair, unsigned events, int timeout_ms)
{
	struct wait wait = { .timeout_ms = timeout_ms };
	int ret = check_events(events);

	if (ret)
		return ret;
	if (lib_usable(qpair->vmci))
		return VMCI_ERROR_UNAVAILABLE;
	for (;;) {
		attend(qpair);
		ret = there(qpair, events);
		if (ret)
			return ret;
		ret = await(qpair, events & WAYS, &wait);
		if (ret)
			return ret;
	}
}

int vmci_qpair_fd(struct vmci_qpair *qpair)
{
	struct epoll_event event = { .events = EPOLLIN };

	if (lib_usable(qpair->vmci))
		return VMCI_ERROR_UNAVAILABLE;
	pthread_mutex_lock(&qpair->lock);
	if (qpair->device >= 0 && qpair->timer < 0)
		qpair->timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (qpair->epoll < 0) {
		/* The eventfd is raised: somebody may have taken bytes out since an earlier vmci_qpair_arm(). */
		qpair->epoll = epoll_create1(EPOLL_CLOEXEC);
		qpair->kick = eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK);
		if (qpair->epoll < 0 || qpair->kick < 0 ||
		    epoll_ctl(qpair->epoll, EPOLL_CTL_ADD, qpair->kick, &event) ||
		    epoll_ctl(qpair->epoll, EPOLL_CTL_ADD, wait_fd(qpair), &event) ||
		    (qpair->device >= 0 && epoll_ctl(qpair->epoll, EPOLL_CTL_ADD, qpair->timer, &event))) {
			fd_close(&qpair->epoll);
			fd_close(&qpair->kick);
		}
	}
	pthread_mutex_unlock(&qpair->lock);
	if (qpair->epoll < 0)
		return lib_fail(VMCI_ERROR_NO_RESOURCES, "queue pair: no descriptor: %s", strerror(errno));
	return qpair->epoll;
}

/* set_timer() - whoever polls looks again after a while */
static void set_timer(struct vmci_qpair *qpair)
{
	struct itimerspec in = { .it_value.tv_nsec = 1 };

	if (qpair->timer < 0)
		return;
	in.it_value.tv_nsec = (long)nap(qpair);
	timerfd_settime(qpair->timer, 0, &in, NULL);
}

int vmci_qpair_arm(struct vmci_qpair *qpair, unsigned events)
{
	eventfd_t count;
	int ret = check_events(events);

	if (ret)
		return ret;
	if (lib_usable(qpair->vmci))
		return VMCI_ERROR_UNAVAILABLE;
	pthread_mutex_lock(&qpair->lock);
	hear(qpair);
	if (qpair->kick >= 0)
		eventfd_read(qpair->kick, &count);
	qpair->polled = true;
	pthread_mutex_unlock(&qpair->lock);
	set_timer(qpair);
	ret = ring_arm(qpair->ring, events & WAYS);
	return ret < 0 ? corrupt(qpair) : there(qpair, events);
}

void vmci_qpair_set_spin(struct vmci_qpair *qpair, unsigned usec)
{
	atomic_store_explicit(&qpair->spin_usec, usec, memory_order_relaxed);
}

/*
 * --- Bytes -------------------------------------------------------------------------------------------------------
 */

int64_t vmci_qpair_write(struct vmci_qpair *qpair, const void *buf, size_t size, int timeout_ms)
{
	struct wait wait = { .timeout_ms = timeout_ms };
	int64_t n;
	int error;

	if (lib_usable(qpair->vmci))
		return VMCI_ERROR_UNAVAILABLE;
	if (!size || !qpair->produce)
		return lib_fail(VMCI_ERROR_INVALID_ARGS, "queue pair: write of %zu bytes", size);
	for (;;) {
		attend(qpair);
		if (ring_state(qpair->ring) == RING_LEFT)
			return gone(qpair);
		n = ring_write(qpair->ring, buf, size);
		if (n > 0) {
			moved(qpair);
			return n;
		}
		error = n < 0 ? corrupt(qpair) : await(qpair, RING_OUT, &wait);
		if (error)
			return error;
	}
}

static int64_t get(struct vmci_qpair *qpair, void *buf, size_t size, int timeout_ms,
		   int64_t (*take)(struct ring *ring, void *buf, size_t size))
{
	struct wait wait = { .timeout_ms = timeout_ms };
	bool left;
	int64_t n;
	int error;

	if (lib_usable(qpair->vmci))
		return VMCI_ERROR_UNAVAILABLE;
	if (!size || !qpair->consume)
		return lib_fail(VMCI_ERROR_INVALID_ARGS, "queue pair: read of %zu bytes", size);
	for (;;) {
		attend(qpair);
		left = ring_state(qpair->ring) == RING_LEFT;
		n = take(qpair->ring, buf, size);
		if (n > 0) {
			moved(qpair);
			return n;
		}
		error = n < 0 ? corrupt(qpair) : left ? gone(qpair) : await(qpair, RING_IN, &wait);
		if (error)
			return error;
	}
}

int64_t vmci_qpair_read(struct vmci_qpair *qpair, void *buf, size_t size, int timeout_ms)
{
	return get(qpair, buf, size, timeout_ms, ring_read);
}

int64_t vmci_qpair_peek(struct vmci_qpair *qpair, void *buf, size_t size, int timeout_ms)
{
	return get(qpair, buf, size, timeout_ms, ring_peek);
}

void *vmci_qpair_reserve(struct vmci_qpair *qpair, size_t *ret_room)
{
	uint8_t *place;
	int64_t n;

	if (lib_is_forked(qpair->vmci))
		return NULL;
	attend(qpair);
	if (ring_state(qpair->ring) == RING_LEFT)
		return NULL;
	n = ring_reserve(qpair->ring, &place);
	if (n <= 0)
		return NULL;
	*ret_room = (size_t)n;
	return place;
}

int vmci_qpair_commit(struct vmci_qpair *qpair, size_t size)
{
	int error;

	if (lib_usable(qpair->vmci))
		return VMCI_ERROR_UNAVAILABLE;
	if (ring_state(qpair->ring) == RING_LEFT)
		return gone(qpair);
	moved(qpair);
	error = ring_commit(qpair->ring, size);
	if (error == -ESTALE)
		return gone(qpair);
	if (error)
		return lib_fail(VMCI_ERROR_INVALID_ARGS, "queue pair: commit of %zu bytes, more than reserved", size);
	return 0;
}

const void *vmci_qpair_acquire(struct vmci_qpair *qpair, size_t *ret_size)
{
	const uint8_t *place;
	int64_t n;

	if (lib_is_forked(qpair->vmci))
		return NULL;
	attend(qpair);
	n = ring_acquire(qpair->ring, &place);
	if (n <= 0)
		return NULL;
	*ret_size = (size_t)n;
	return place;
}

int vmci_qpair_release(struct vmci_qpair *qpair, size_t size)
{
	int error;

	if (lib_usable(qpair->vmci))
		return VMCI_ERROR_UNAVAILABLE;
	moved(qpair);
	error = ring_release(qpair->ring, size);
	if (error == -ESTALE)
		return gone(qpair);
	if (error)
		return lib_fail(VMCI_ERROR_INVALID_ARGS, "queue pair: release of %zu bytes, more than acquired", size);
	return 0;
}

int64_t vmci_qpair_ready(struct vmci_qpair *qpair)
{
	int64_t n;

	if (lib_usable(qpair->vmci))
		return VMCI_ERROR_UNAVAILABLE;
	attend(qpair);
	n = ring_ready(qpair->ring, UINT64_MAX);
	return n < 0 ? corrupt(qpair) : n;
}

int64_t vmci_qpair_room(struct vmci_qpair *qpair)
{
	int64_t n;

	if (lib_usable(qpair->vmci))
		return VMCI_ERROR_UNAVAILABLE;
	attend(qpair);
	n = ring_room(qpair->ring, UINT64_MAX);
	return n < 0 ? corrupt(qpair) : n;
}
