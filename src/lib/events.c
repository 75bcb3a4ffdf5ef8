/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Events come like datagrams: the broker writes them into a sink of ours (dgram.c). A connection has one place for
 * them. A new broker is given the sink, and the contexts that are watched.
 *
 * In a guest with /dev/vmci the kernel keeps them, for the file of the membership.
 */
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/closer.h"
#include "base/fd.h"
#include "lib/gate.h"
#include "lib/guest_dev.h"
#include "lib/lib.h"
#include "proto/event.h"

/**
 * struct vmci_events - a queue of events
 * @sink:      our copy of what the broker writes into
 * @is_known:  a broker has granted it; under the membership's lock
 * @is_broken: the broker has made an end of it
 * @device:    /dev/vmci, which is what @fd is then, or -1
 * @lock:      guards @watched, of which there are @n_watched, in @n_room places
 */
struct vmci_events {
	struct lib_object object;
	struct vmci *vmci;
	struct lib_gate gate;
	int fd;
	int sink;
	int device;
	bool is_known;
	atomic_bool is_broken;
	pthread_mutex_t lock;
	uint32_t *watched;
	size_t n_watched;
	size_t n_room;
};

static struct vmci_events *of_object(struct lib_object *object)
{
	return (struct vmci_events *)((char *)object - offsetof(struct vmci_events, object));
}

static int resume(struct lib_object *object, struct fab_client *client)
{
	struct vmci_events *events = of_object(object);
	struct fab_msg reply, request = { .type = FAB_EVENTS, .fd = { events->sink }, .n_fds = 1 };
	int r;

	if (!events->is_known)
		return 0;
	r = lib_resume_call(client, &request, &reply);
	if (r == -ECONNRESET)
		return r;
	/* What is watched changes under the membership's lock only, which we have; where it lies does not. */
	for (size_t i = 0; i < events->n_watched; i++) {
		struct fab_msg watch = { .type = FAB_WATCH, .flags = FAB_F_RESUME };

		pthread_mutex_lock(&events->lock);
		watch.handle.context = events->watched[i];
		pthread_mutex_unlock(&events->lock);
		if (lib_resume_call(client, &watch, &reply) == -ECONNRESET)
			return -ECONNRESET;
	}
	return r;
}

static const struct lib_object_ops events_ops = { .resume = resume };

static int take_opened(struct fab_msg *reply, void *arg)
{
	struct vmci_events *events = arg;

	(void)reply;
	events->is_known = true;
	return 0;
}

/**
 * done() - free what the queue has
 */
static void done(struct vmci_events *events, bool is_forked)
{
	if (events->device < 0)
		fd_close(&events->fd);
	fd_close(&events->sink);
	if (!is_forked)
		pthread_mutex_destroy(&events->lock);
	lib_gate_done(&events->gate, is_forked);
	free(events->watched);
	free(events);
}

/**
 * subscribe() - make the pair of sockets, and give the broker its end
 *
 * Return: 0; VMCI_ERROR_*
 */
static int subscribe(struct vmci_events *events)
{
	struct fab_msg request = { .type = FAB_EVENTS, .n_fds = 1 };
	int pair[2];
	int r;

	if (events->device >= 0) {
		events->fd = events->device;
		return guest_dev_subscribe(events->device, true);
	}
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair))
		return lib_fail(VMCI_ERROR_NO_RESOURCES, "socketpair: %s", strerror(errno));
	closer_refuse(pair[0]);
	closer_refuse(pair[1]);
	events->fd = pair[0];
	events->sink = request.fd[0] = pair[1];
	lib_add(events->vmci, &events->object);
	r = lib_call(events->vmci, &request, true, take_opened, events);
	if (r)
		lib_del(events->vmci, &events->object);
	return r;
}

int vmci_events_open(struct vmci *vmci, struct vmci_events **ret_events)
{
	struct vmci_events *events;
	int r = lib_usable(vmci);

	if (r)
		return lib_where(r, "vmci_events_open");
	if (!lib_claim_events(vmci))
		return lib_fail(VMCI_ERROR_ALREADY_EXISTS, "vmci_events_open: the membership has a queue of events");
	events = calloc(1, sizeof(*events));
	if (!events) {
		lib_release_events(vmci);
		return lib_fail(VMCI_ERROR_NO_MEM, "vmci_events_open: out of memory");
	}
	events->vmci = vmci;
	events->object.ops = &events_ops;
	events->fd = events->sink = -1;
	events->device = lib_device(vmci);
	atomic_init(&events->is_broken, false);
	lib_gate_init(&events->gate);
	pthread_mutex_init(&events->lock, NULL);
	r = subscribe(events);
	if (r) {
		done(events, false);
		lib_release_events(vmci);
		return lib_where(r, "vmci_events_open");
	}
	*ret_events = events;
	return 0;
}

struct vmci_events *vmci_events_close(struct vmci_events *events)
{
	bool is_forked;

	if (!events)
		return NULL;
	is_forked = lib_is_forked(events->vmci);
	if (events->device < 0)
		lib_del(events->vmci, &events->object);
	lib_gate_shut(&events->gate, is_forked);
	for (size_t i = 0; i < events->n_watched && !is_forked; i++) {
		struct fab_msg off = {
			.type = FAB_WATCH,
			.flags = FAB_F_OFF,
			.handle = { .context = events->watched[i] },
		};

		lib_tell(events->vmci, &off);
	}
	if (!is_forked && events->device >= 0)
		guest_dev_subscribe(events->device, false);
	if (!is_forked)
		lib_release_events(events->vmci);
	/* The broker notices by the next event that nobody is there. */
	done(events, is_forked);
	return NULL;
}

int vmci_events_fd(const struct vmci_events *events)
{
	return events->fd;
}

/* --- Waiting ------------------------------------------------------------------------------------------------ */

/**
 * take_event() - the oldest event that programs are told of
 *
 * Return: 0; VMCI_ERROR_WOULD_BLOCK; VMCI_ERROR_NO_HANDLE
 */
static int take_event(struct vmci_events *events, struct vmci_event *ret_event)
{
	uint8_t dg[EVENT_MAX_SIZE + 1];
	struct event event;
	ssize_t n;

	if (events->device >= 0) {
		int r = guest_dev_event(events->device, ret_event);

		if (r < 0 && r != VMCI_ERROR_WOULD_BLOCK)
			atomic_store(&events->is_broken, true);
		return r < 0 && r != VMCI_ERROR_WOULD_BLOCK ? VMCI_ERROR_NO_HANDLE : r;
	}
	for (;;) {
		n = recv(events->fd, dg, sizeof(dg), MSG_DONTWAIT);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return VMCI_ERROR_WOULD_BLOCK;
		if (n <= 0) {
			atomic_store(&events->is_broken, true);
			return lib_fail(VMCI_ERROR_NO_HANDLE, "the broker has broken the queue: %s",
					n ? strerror(errno) : "end of file");
		}
		if ((size_t)n < sizeof(dg) && !event_parse(dg, (size_t)n, &event) &&
		    (event.id == VMCI_EVENT_CTX_REMOVED || event.id == VMCI_EVENT_QP_PEER_ATTACH ||
		     event.id == VMCI_EVENT_QP_PEER_DETACH))
			break;
	}
	*ret_event = (struct vmci_event){ .id = event.id, .context = event.context, .handle = event.handle };
	return 0;
}

int vmci_events_wait(struct vmci_events *events, int timeout_ms, struct vmci_event *ret_event)
{
	struct lib_deadline deadline = lib_deadline(timeout_ms);
	int r = lib_usable(events->vmci);

	if (!r)
		r = lib_gate_enter(&events->gate);
	if (r)
		return lib_where(r, "vmci_events_wait");
	do {
		r = take_event(events, ret_event);
		if (r != VMCI_ERROR_WOULD_BLOCK)
			break;
		if (atomic_load(&events->is_broken))
			r = lib_fail(VMCI_ERROR_NO_HANDLE, "the broker has broken the queue");
		else
			r = lib_gate_wait(&events->gate, events->fd, deadline);
	} while (!r);
	lib_gate_leave(&events->gate);
	return r ? lib_where(r, "vmci_events_wait") : 0;
}

/* --- Watching ----------------------------------------------------------------------------------------------- */

/**
 * struct watch - of a call: which context, and where to note it
 */
struct watch {
	struct vmci_events *events;
	uint32_t cid;
};

static int take_watched(struct fab_msg *reply, void *arg)
{
	struct watch *watch = arg;
	struct vmci_events *events = watch->events;

	(void)reply;
	pthread_mutex_lock(&events->lock);
	/* watch() made room. */
	events->watched[events->n_watched++] = watch->cid;
	pthread_mutex_unlock(&events->lock);
	return 0;
}

static int take_unwatched(struct fab_msg *reply, void *arg)
{
	struct watch *watch = arg;
	struct vmci_events *events = watch->events;

	(void)reply;
	pthread_mutex_lock(&events->lock);
	for (size_t i = 0; i < events->n_watched; i++)
		if (events->watched[i] == watch->cid) {
			events->watched[i] = events->watched[--events->n_watched];
			events->n_room--;
			break;
		}
	pthread_mutex_unlock(&events->lock);
	return 0;
}

/**
 * reserve() - make room for one more context; gives it back with n_room
 *
 * Return: 0; VMCI_ERROR_NO_MEM
 */
static int reserve(struct vmci_events *events)
{
	uint32_t *watched;

	pthread_mutex_lock(&events->lock);
	watched = realloc(events->watched, (events->n_room + 1) * sizeof(*watched));
	if (watched) {
		events->watched = watched;
		events->n_room++;
	}
	pthread_mutex_unlock(&events->lock);
	return watched ? 0 : lib_fail(VMCI_ERROR_NO_MEM, "out of memory");
}

static void unreserve(struct vmci_events *events)
{
	pthread_mutex_lock(&events->lock);
	events->n_room--;
	pthread_mutex_unlock(&events->lock);
}

static int watch_inside(struct vmci_events *events, uint32_t cid, bool on)
{
	struct fab_msg request = { .type = FAB_WATCH, .handle = { .context = cid }, .flags = on ? 0 : FAB_F_OFF };
	struct watch watch = { .events = events, .cid = cid };
	int r = on ? reserve(events) : 0;

	if (r)
		return r;
	r = lib_call(events->vmci, &request, true, on ? take_watched : take_unwatched, &watch);
	if (r && on)
		unreserve(events);
	return r;
}

static int set_watch(struct vmci_events *events, uint32_t cid, bool on)
{
	int r = lib_usable(events->vmci);

	if (!r)
		r = lib_gate_enter(&events->gate);
	if (!r) {
		r = watch_inside(events, cid, on);
		lib_gate_leave(&events->gate);
	}
	return r ? lib_where(r, "vmci_events_%s: context %u", on ? "watch" : "unwatch", cid) : 0;
}

int vmci_events_watch(struct vmci_events *events, uint32_t cid)
{
	return set_watch(events, cid, true);
}

int vmci_events_unwatch(struct vmci_events *events, uint32_t cid)
{
	return set_watch(events, cid, false);
}
