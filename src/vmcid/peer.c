/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * DOC: Theory of operation
 *
 * A peer is a connection. Its requests are carried out in order, and answered in order, at once in nearly all
 * cases: what the broker says becomes the reply. Two answers of the broker take longer, and make the peer wait:
 *
 *	BRK_ASK		the object is a guest's. An *ask* goes to the guest's device; the reply follows from the answer,
 *			or from the device's end, or from a second without an answer (a stream: from the time-out that
 *			its program gave)
 *	BRK_LATER	vmcid was started anew, and the owner may not be back; the request is tried again after the
 *			grace period
 *
 * A program that waits is not read from: what it goes on saying stays in the socket. A device is read from all the
 * time, because its answers are waited for, by another device perhaps that it waits for itself; its requests queue
 * up here, FAB_PIPELINE of them at most.
 *
 * What does not fit into the socket is kept in a list and written when there is room. The list is bounded; a client
 * that makes it overflow does not read, and is dropped.
 *
 * Descriptors that are sent are counted, and others may have used up what there is. That ends a request
 * (VMCI_ERROR_NO_RESOURCES), and nobody's connection: room for them is *reserved* before anything is done that could
 * not be undone, and given up in the moment in which they are sent, or kept.
 *
 * Ends are deferred: peer_fail() marks a peer, which gets no more turns, and frees it from the event loop. So
 * nobody finds a peer freed that he was about to answer.
 */
#include "peer.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/checked.h"
#include "base/closer.h"
#include "base/fd.h"
#include "base/log.h"
#include "endpoint.h"
#include "fabric/address.h"
#include "fabric/link.h"
#include "fabric/stream.h"
#include "port.h"
#include "proto/limits.h"
#include "thing.h"
#include "token.h"
#include "vm.h"

static_assert(FAB_KEY_MAX == BRK_KEY_MAX, "keys of the protocol are those of the broker");

/* What a handler says besides a status, and besides BRK_LATER: a reply has been sent; there will be one. */
#define REPLIED (-20000)
#define WAITS (-20001)

/**
 * struct request - a request that cannot be carried out now
 * @msg:   its data, if any, are in @data; descriptors are owned
 * @thing: made of its descriptors, or NULL
 */
struct request {
	struct request *next;
	struct fab_msg msg;
	struct thing *thing;
	uint8_t data[];
};

/* A message that did not fit into the socket. */
struct outgoing {
	struct outgoing *next;
	struct fab_msg msg;
	uint8_t data[];
};

/**
 * struct ask - a question to a device
 * @next:   of the device's list
 * @asker:  waits for it; NULL: no longer, or (a stream of a device) never
 * @source: of a stream: where it comes from
 * @timer:  ends the waiting
 */
struct ask {
	struct ask *next;
	struct peer *device;
	struct peer *asker;
	enum fab_type type;
	uint32_t serial;
	struct brk_qp qp;
	struct vmci_handle source;
	sd_event_source *timer;
};

enum waiting {
	WAITING_NOT,
	WAITING_ASK,
	WAITING_LATER,
};

/**
 * struct peer - a connection
 * @is_holding: it has said HELLO with HOLD, and must not say anything else
 * @is_ended:   marked by peer_fail()
 * @hello:      ends a connection that does not say HELLO
 * @requests:   the first is waited for, if @waiting; the others came behind it
 * @ask:        what it waits for
 * @asks:       put to it, a device, and not answered; those that nobody waits for any more, too. @n_asks of them,
 *		@n_connects of these about streams
 * @in_flight:  descriptors sent that it may not have received; they are taken from @user
 * @reserved:   descriptors for which room is taken from @user, while a request is carried out
 * @is_short:   @out waits for room for descriptors, not for room in the socket
 */
struct peer {
	struct server *server;
	struct peer *prev;
	struct peer *next;
	struct brk_client *client;
	struct user *user;
	uid_t uid;
	gid_t gid;
	pid_t pid;
	char name[64];
	bool is_device;
	bool has_said_hello;
	bool is_holding;
	bool is_ended;
	struct vm *vm;

	int fd;
	sd_event_source *io;
	sd_event_source *hello;

	enum waiting waiting;
	struct request *requests;
	struct request **last_request;
	unsigned n_requests;
	struct ask *ask;

	struct outgoing *out;
	struct outgoing **last_out;
	unsigned n_out;
	size_t out_size;
	unsigned in_flight;
	unsigned reserved;
	bool is_short;

	struct ask *asks;
	unsigned n_asks;
	unsigned n_connects;
	uint32_t serial;
};

const char *peer_name(const struct peer *peer)
{
	return peer->name;
}

struct peer *peer_next(const struct peer *peer)
{
	return peer->next;
}

void peer_link(struct peer *peer, struct peer **list)
{
	peer->prev = NULL;
	peer->next = *list;
	if (*list)
		(*list)->prev = peer;
	*list = peer;
}

void peer_unlink(struct peer *peer, struct peer **list)
{
	if (peer->prev)
		peer->prev->next = peer->next;
	else
		*list = peer->next;
	if (peer->next)
		peer->next->prev = peer->prev;
}

void peer_fail(struct peer *peer, const char *fmt, ...)
{
	char reason[256];
	va_list ap;

	if (peer->is_ended)
		return;
	va_start(ap, fmt);
	vsnprintf(reason, sizeof(reason), fmt, ap);
	va_end(ap);
	server_note(peer->server, LOG_LEVEL_WARN, "%s: dropped: %s", peer->name, reason);
	peer->is_ended = true;
	sd_event_source_set_enabled(peer->io, SD_EVENT_OFF);
	server_bury(peer->server);
}

/* It has gone by itself: nothing to complain about. */
static void leave(struct peer *peer)
{
	if (peer->is_ended)
		return;
	log_debug("%s: gone", peer->name);
	peer->is_ended = true;
	sd_event_source_set_enabled(peer->io, SD_EVENT_OFF);
	server_bury(peer->server);
}

/* --- Sending ------------------------------------------------------------------------------------------------ */

static void update_io(struct peer *peer)
{
	uint32_t events = 0;

	if (peer->is_ended)
		return;
	if (peer->waiting == WAITING_NOT || peer->is_device)
		events |= EPOLLIN;
	if (peer->out && !peer->is_short)
		events |= EPOLLOUT;
	/* Its end is told in any case (EPOLLHUP). */
	sd_event_source_set_io_events(peer->io, events);
}

/* When a peer has read everything, it has received all descriptors, too. */
static void settle(struct peer *peer)
{
	int n;

	if (!peer->in_flight || ioctl(peer->fd, SIOCOUTQ, &n) || n)
		return;
	user_drop(peer->user, peer->in_flight);
	peer->in_flight = 0;
}

/* Descriptors that are about to be with @peer, but not received */
static bool take_fds(struct peer *peer, unsigned n)
{
	settle(peer);
	if (user_take(peer->user, n))
		return true;
	for (struct peer *other = peer->server->peers; other; other = other->next)
		settle(other);
	return user_take(peer->user, n);
}

/* Room for @n descriptors more that @peer will be sent before anything else is done. Return: false: there is none */
static bool reserve(struct peer *peer, unsigned n)
{
	if (!take_fds(peer, n))
		return false;
	peer->reserved += n;
	return true;
}

/* No more of them than there are. */
static void unreserve(struct peer *peer, unsigned n)
{
	if (n > peer->reserved)
		n = peer->reserved;
	user_drop(peer->user, n);
	peer->reserved -= n;
}

/* Like fab_send(); -ETOOMANYREFS also if the user has too many descriptors lying about. */
static int put(struct peer *peer, const struct fab_msg *msg)
{
	int r;

	if (msg->n_fds && !take_fds(peer, msg->n_fds))
		return -ETOOMANYREFS;
	r = fab_send(peer->fd, msg);
	if (r)
		user_drop(peer->user, msg->n_fds);
	else
		peer->in_flight += msg->n_fds;
	return r;
}

/* Can it be tried again later? */
static bool is_for_later(struct peer *peer, int r)
{
	if (r == -ENOBUFS || r == -ETOOMANYREFS) {
		peer->is_short = true;
		server_retry(peer->server);
		return true;
	}
	return r == -EAGAIN;
}

static struct outgoing *outgoing_free(struct peer *peer, struct outgoing *out)
{
	user_drop(peer->user, out->msg.n_fds);
	fab_drop(&out->msg);
	free(out);
	return NULL;
}

/* Keep a copy, with descriptors of its own, which are its user's, too. */
static int keep(struct peer *peer, const struct fab_msg *msg)
{
	struct outgoing *out;

	if (msg->n_fds && !take_fds(peer, msg->n_fds))
		return -EMFILE;
	out = malloc(sizeof(*out) + msg->len);
	if (!out) {
		user_drop(peer->user, msg->n_fds);
		return -ENOMEM;
	}
	out->next = NULL;
	out->msg = *msg;
	out->msg.n_fds = 0;
	if (msg->len)
		memcpy(out->data, msg->data, msg->len);
	out->msg.data = out->data;
	for (; out->msg.n_fds < msg->n_fds; out->msg.n_fds++) {
		int fd = fcntl(msg->fd[out->msg.n_fds], F_DUPFD_CLOEXEC, 3);

		if (fd < 0) {
			int r = -errno;

			user_drop(peer->user, msg->n_fds - out->msg.n_fds);
			outgoing_free(peer, out);
			return r;
		}
		out->msg.fd[out->msg.n_fds] = fd;
	}
	*peer->last_out = out;
	peer->last_out = &out->next;
	peer->n_out++;
	peer->out_size += sizeof(*out) + msg->len;
	return 0;
}

/* Descriptors stay the caller's, who has reserved room for them. */
static void send_msg(struct peer *peer, const struct fab_msg *msg)
{
	unsigned most = peer->is_device ? LIMIT_VMCID_QUESTIONS : LIMIT_VMCID_REPLIES;
	int r = -EAGAIN;

	unreserve(peer, msg->n_fds);
	if (peer->is_ended)
		return;
	if (log_wants(LOG_LEVEL_TRACE))
		log_trace("%s: < %s %u status %d", peer->name, fab_type_to_string(msg->type), msg->serial, msg->status);
	if (!peer->out)
		r = put(peer, msg);
	if (!r)
		return;
	if (r == -EPIPE || r == -ECONNRESET) {
		leave(peer);
		return;
	}
	if (!is_for_later(peer, r)) {
		peer_fail(peer, "cannot answer it: %s", strerror(-r));
		return;
	}
	if (peer->n_out == most || peer->out_size + msg->len > LIMIT_VMCID_REPLY_BYTES) {
		peer_fail(peer, "it does not read: %u messages wait for it", peer->n_out);
		return;
	}
	r = keep(peer, msg);
	if (r)
		peer_fail(peer, "cannot keep a message for it: %s", strerror(-r));
	else
		update_io(peer);
}

static void flush(struct peer *peer)
{
	while (peer->out && !peer->is_ended) {
		struct outgoing *out = peer->out;
		int r = put(peer, &out->msg);

		if (r && is_for_later(peer, r))
			break;
		if (r == -EPIPE || r == -ECONNRESET) {
			leave(peer);
			return;
		}
		if (r) {
			peer_fail(peer, "cannot answer it: %s", strerror(-r));
			return;
		}
		peer->out = out->next;
		if (!peer->out)
			peer->last_out = &peer->out;
		peer->n_out--;
		peer->out_size -= sizeof(*out) + out->msg.len;
		outgoing_free(peer, out);
	}
	update_io(peer);
}

void peer_retry(struct server *server)
{
	for (struct peer *peer = server->peers; peer; peer = peer->next) {
		if (!peer->is_short)
			continue;
		peer->is_short = false;
		flush(peer);
	}
}

/* The reply to a request; what does not go with an error is left out. */
static void reply(struct peer *peer, const struct fab_msg *request, int32_t status, struct fab_msg *answer)
{
	struct fab_msg none = { 0 };

	if (status < 0 || !answer)
		answer = &none;
	answer->type = request->type;
	answer->kind = FAB_REPLY;
	answer->serial = request->serial;
	answer->status = status;
	send_msg(peer, answer);
	unreserve(peer, peer->reserved);
}

/* --- Asking devices ------------------------------------------------------------------------------------------ */

static void run_requests(struct peer *peer);

static void ask_free(struct ask *ask)
{
	struct ask **at;

	for (at = &ask->device->asks; *at != ask; at = &(*at)->next)
		;
	*at = ask->next;
	ask->device->n_asks--;
	if (ask->type == FAB_STREAM_CONNECT)
		ask->device->n_connects--;
	if (ask->asker)
		ask->asker->ask = NULL;
	sd_event_source_disable_unref(ask->timer);
	free(ask);
}

static struct request *request_free(struct request *request)
{
	thing_free(request->thing);
	fab_drop(&request->msg);
	free(request);
	return NULL;
}

static void pop_request(struct peer *peer)
{
	struct request *request = peer->requests;

	peer->requests = request->next;
	if (!peer->requests)
		peer->last_request = &peer->requests;
	peer->n_requests--;
	request_free(request);
}

/* What the asker waited for is there, or does not come. The asker goes on. */
static void ask_end(struct ask *ask, int32_t status, struct fab_msg *answer)
{
	struct peer *asker = ask->asker;

	ask->asker = NULL;
	asker->ask = NULL;
	asker->waiting = WAITING_NOT;
	reply(asker, &asker->requests->msg, status, answer);
	pop_request(asker);
	run_requests(asker);
	update_io(asker);
}

static int on_ask_timeout(sd_event_source *source, uint64_t usec, void *ctx)
{
	struct ask *ask = ctx;
	bool is_stream = ask->type == FAB_STREAM_CONNECT;

	(void)source;
	(void)usec;
	ask->timer = sd_event_source_disable_unref(ask->timer);
	/* That a guest does not answer to a stranger is its own affair. */
	if (!is_stream)
		server_note(ask->device->server, LOG_LEVEL_WARN, "%s: no answer to %s within a second",
			    ask->device->name, fab_type_to_string(ask->type));
	if (ask->asker)
		ask_end(ask, is_stream ? VMCI_ERROR_TIMEOUT : VMCI_ERROR_UNAVAILABLE, NULL);
	/* It stays in the list: the device may keep so many questions, answered or not. */
	return 0;
}

/**
 * ask() - put the question @msg to @device
 * @peer:  waits for the answer; NULL: nobody does
 * @usec:  for so long
 *
 * Return: WAITS, and *@ret_ask, if @peer waits, or 0; VMCI_ERROR_*
 */
static int32_t ask(struct peer *peer, struct brk_client *device, struct fab_msg *msg, uint64_t usec,
		   struct ask **ret_ask)
{
	struct peer *to = brk_client_owner(device);
	bool is_stream = msg->type == FAB_STREAM_CONNECT;
	struct ask *new;

	if (to->is_ended)
		return VMCI_ERROR_DST_UNREACHABLE;
	if (is_stream && to->n_connects == LIMIT_VMCID_CONNECTS)
		return VMCI_ERROR_WOULD_BLOCK;
	if (!is_stream && to->n_asks - to->n_connects == FAB_PIPELINE)
		return VMCI_ERROR_UNAVAILABLE;
	if (msg->n_fds && !reserve(to, msg->n_fds))
		return VMCI_ERROR_NO_RESOURCES;
	new = calloc(1, sizeof(*new));
	if (!new) {
		unreserve(to, msg->n_fds);
		return VMCI_ERROR_NO_MEM;
	}
	*new = (struct ask){
		.next = to->asks,
		.device = to,
		.asker = peer,
		.type = msg->type,
		.serial = ++to->serial,
	};
	if (sd_event_add_time_relative(to->server->event, &new->timer, CLOCK_MONOTONIC, usec, 0, on_ask_timeout, new) <
	    0) {
		unreserve(to, msg->n_fds);
		free(new);
		return VMCI_ERROR_NO_MEM;
	}
	to->asks = new;
	to->n_asks++;
	to->n_connects += is_stream;
	if (peer)
		peer->ask = new;
	msg->kind = FAB_ASK;
	msg->serial = new->serial;
	send_msg(to, msg);
	if (ret_ask)
		*ret_ask = new;
	return peer ? WAITS : 0;
}

/* The two questions that are about a handle. */
static int32_t ask_handle(struct peer *peer, const struct fab_msg *request, struct brk_client *device,
			  const struct brk_qp *qp)
{
	struct fab_msg msg = { .type = request->type, .handle = request->handle };
	struct ask *new;
	int32_t r;

	if (qp) {
		msg.other.context = brk_client_cid(peer->client);
		msg.flags = request->flags;
		msg.size0 = qp->produce;
		msg.size1 = qp->consume;
	}
	r = ask(peer, device, &msg, LIMIT_VMCID_ASK_USEC, &new);
	if (r == WAITS && qp)
		new->qp = *qp;
	return r;
}

static void answer_bell(struct ask *ask, struct fab_msg *answer)
{
	struct peer *device = ask->device;
	struct thing *bell;
	const char *odd;

	if (answer->status < 0) {
		ask_end(ask, answer->status, NULL);
		return;
	}
	/* Not kept: checked only, and passed on. */
	if (thing_new(device->server->event, THING_BELL, answer->fd, device->uid, device->user, 0, &bell, &odd) < 0) {
		server_note(device->server, LOG_LEVEL_WARN, "%s: its answer to BELL_OPEN: %s", device->name, odd);
		ask_end(ask, VMCI_ERROR_UNAVAILABLE, NULL);
		return;
	}
	if (reserve(ask->asker, 1))
		ask_end(ask, 0, &(struct fab_msg){ .fd = { bell->fd[0] }, .n_fds = 1 });
	else
		ask_end(ask, VMCI_ERROR_NO_RESOURCES, NULL);
	thing_free(bell);
}

static void answer_pair(struct ask *ask, struct fab_msg *answer)
{
	struct peer *device = ask->device, *asker = ask->asker;
	struct fab_msg msg = { .n_fds = 2 };
	struct thing *pair;
	const char *odd;
	int32_t r;

	if (answer->status < 0) {
		ask_end(ask, answer->status, NULL);
		return;
	}
	if (thing_new(device->server->event, THING_PAIR, answer->fd, device->uid, device->user,
		      brk_qp_memory(ask->qp.produce, ask->qp.consume), &pair, &odd) < 0) {
		server_note(device->server, LOG_LEVEL_WARN, "%s: its answer to QP_ATTACH: %s", device->name, odd);
		ask_end(ask, VMCI_ERROR_UNAVAILABLE, NULL);
		return;
	}
	r = VMCI_ERROR_NO_RESOURCES;
	if (reserve(asker, msg.n_fds))
		r = brk_qp_attached(asker->client, device->client, &ask->qp, msg.token);
	memcpy(msg.fd, pair->fd, sizeof(pair->fd));
	msg.other.context = ask->qp.handle.context;
	msg.flags = ask->qp.direct ? FAB_F_DIRECT : 0;
	ask_end(ask, r, &msg);
	thing_free(pair);
}

static void handle_answer(struct peer *device, struct fab_msg *answer)
{
	struct ask *a;

	for (a = device->asks; a; a = a->next)
		if (a->serial == answer->serial)
			break;
	if (!device->is_device || !a || a->type != answer->type) {
		peer_fail(device, "an answer (%s) to what was not asked", fab_type_to_string(answer->type));
		return;
	}
	/* Otherwise it comes too late. */
	if (a->asker) {
		if (a->type == FAB_BELL_OPEN)
			answer_bell(a, answer);
		else if (a->type == FAB_STREAM_CONNECT)
			ask_end(a, answer->status, &(struct fab_msg){ .handle = a->source });
		else
			answer_pair(a, answer);
	}
	ask_free(a);
}

/* --- Requests --------------------------------------------------------------------------------------------------- */

/**
 * struct call - a request being carried out
 * @msg:    the request
 * @thing:  of its descriptors; NULL when the broker has taken it
 * @resume: the token, if it resumes something
 * @reply:  fields of the reply
 */
struct call {
	struct peer *peer;
	struct brk_client *client;
	struct fab_msg *msg;
	struct thing *thing;
	const uint8_t *resume;
	struct fab_msg reply;
};

/* The result of a call that takes the thing when it succeeds. */
static int32_t taken(struct call *call, int32_t result)
{
	if (result >= 0)
		call->thing = NULL;
	return result;
}

static void name_peer(struct peer *peer)
{
	if (peer->is_device)
		snprintf(peer->name, sizeof(peer->name), "cid %u", brk_client_cid(peer->client));
	else
		snprintf(peer->name, sizeof(peer->name), "client %d (uid %u)", (int)peer->pid, (unsigned)peer->uid);
}

/* A device brings two sinks, which are one request's only second thing. */
static int32_t hello_device(struct call *call, const char *label)
{
	struct peer *peer = call->peer;
	struct fab_msg *msg = call->msg;
	struct thing *sink[2] = { NULL, NULL };
	struct vm *vm = peer->vm;
	const struct brk_vm *config;
	const char *odd;
	int32_t r = 0;

	if (!vm)
		vm = vms_find_resumed(peer->server->vms, msg->handle.context, label, msg->token);
	if (!vm)
		return VMCI_ERROR_NO_ACCESS;
	config = vm_config(vm);
	if (msg->handle.context != config->cid || msg->n_fds != 2)
		return VMCI_ERROR_INVALID_ARGS;
	for (unsigned i = 0; i < 2 && !r; i++)
		r = thing_new(peer->server->event, THING_SINK, &msg->fd[i], peer->uid, peer->user, 0, &sink[i], &odd);
	if (r < 0)
		server_note(peer->server, LOG_LEVEL_WARN, "%s: HELLO: %s", peer->name, odd);
	else
		r = brk_hello_device(call->client, config, label, sink[0], sink[1]);
	if (r < 0) {
		thing_free(sink[0]);
		thing_free(sink[1]);
		return r;
	}
	/* Not before: nobody else keeps a VM whose device has not been accepted. */
	peer->vm = vm;
	token_of_device(&peer->server->rundir->key, config->cid, config->name, call->reply.token);
	call->reply.flags = FAB_F_DEVICE;
	return 0;
}

static int32_t do_hello(struct call *call)
{
	struct peer *peer = call->peer;
	struct fab_msg *msg = call->msg;
	char label[FAB_LABEL_MAX + 1];
	int32_t r;

	if (msg->size0 < FAB_VERSION) {
		peer_fail(peer, "it speaks version %llu of the protocol", (unsigned long long)msg->size0);
		return VMCI_ERROR_INVALID_ARGS;
	}
	if (!(msg->flags & FAB_F_DEVICE) != !peer->is_device)
		return VMCI_ERROR_NO_ACCESS;
	if (msg->len)
		memcpy(label, msg->data, msg->len);
	label[msg->len] = '\0';
	if (peer->is_device)
		r = hello_device(call, label);
	else
		r = brk_hello(call->client, msg->handle.context, msg->flags & FAB_F_RESTRICTED, label, call->resume,
			      call->reply.token);
	if (r < 0)
		return r;
	peer->has_said_hello = true;
	peer->is_holding = msg->flags & FAB_F_HOLD;
	peer->hello = sd_event_source_disable_unref(peer->hello);
	name_peer(peer);
	call->reply.size0 = FAB_VERSION;
	call->reply.handle.context = brk_client_cid(call->client);
	if (peer->is_holding)
		call->reply.flags |= FAB_F_HOLD;
	if (brk_client_is_trusted(call->client))
		call->reply.flags |= FAB_F_TRUSTED;
	if (brk_client_is_restricted(call->client))
		call->reply.flags |= FAB_F_RESTRICTED;
	if (peer->is_device)
		vm_device_ready(peer->vm, peer);
	else if (call->reply.handle.context != VMCI_CID_HOST)
		ports_claim(peer->server->ports, call->reply.handle.context, peer->uid);
	else if (*peer->server->conf->window_host)
		call->reply.flags |= FAB_F_WINDOW;
	return 0;
}

static int32_t do_dg_create(struct call *call)
{
	return taken(call, brk_dg_create(call->client, call->msg->handle.resource, call->resume, call->thing,
					 &call->reply.handle, call->reply.token));
}

static int32_t do_dg_destroy(struct call *call)
{
	return brk_dg_destroy(call->client, call->msg->handle);
}

/* A socket of others made us wait, which it can only on purpose. */
static int32_t no_waiting(struct peer *peer, int32_t r)
{
	if (r != -EINTR)
		return r;
	peer_fail(peer, "it made us wait at its socket");
	return VMCI_ERROR_INVALID_ARGS;
}

static int32_t do_dg_bind(struct call *call)
{
	struct peer *peer = call->peer;
	const struct endpoint_wish wish = {
		.client = call->client,
		.user = peer->user,
		.uid = peer->uid,
		.pid = peer->pid,
		.name = peer->name,
		.handle = call->msg->handle,
	};

	return no_waiting(peer, endpoint_bind(peer->server->endpoints, &wish, call->msg->fd[0], &call->reply.handle));
}

static int32_t do_dg_send(struct call *call)
{
	return brk_dg_send(call->client, call->msg->data, call->msg->len);
}

static int32_t do_events(struct call *call)
{
	return taken(call, brk_events(call->client, call->thing));
}

static int32_t do_watch(struct call *call)
{
	if (call->msg->flags & FAB_F_RESUME)
		return brk_watch_again(call->client, call->msg->handle.context);
	return brk_watch(call->client, call->msg->handle.context, !(call->msg->flags & FAB_F_OFF));
}

static int32_t do_bell_create(struct call *call)
{
	return taken(call, brk_bell_create(call->client, call->msg->handle.resource, call->resume, call->thing,
					   &call->reply.handle, call->reply.token));
}

static int32_t do_bell_destroy(struct call *call)
{
	return brk_bell_destroy(call->client, call->msg->handle);
}

static int32_t do_bell_open(struct call *call)
{
	struct brk_client *device;
	struct thing *bell;
	void *found;
	int32_t r = brk_bell_open(call->client, call->msg->handle, &found, &device);

	if (r == BRK_ASK)
		return ask_handle(call->peer, call->msg, device, NULL);
	if (r >= 0) {
		bell = found;
		call->reply.fd[0] = bell->fd[0];
		call->reply.n_fds = 1;
	}
	return r;
}

static struct brk_qp qp_of(const struct fab_msg *msg)
{
	return (struct brk_qp){
		.handle = msg->handle,
		.peer = msg->other.context,
		.produce = msg->size0,
		.consume = msg->size1,
		.trusted = msg->flags & FAB_F_TRUSTED,
		.direct = msg->flags & FAB_F_DIRECT,
	};
}

static int32_t do_qp_create(struct call *call)
{
	struct brk_qp qp = qp_of(call->msg);

	if (call->thing)
		call->thing->direct = qp.direct;
	return taken(call, brk_qp_create(call->client, &qp, call->resume, call->thing, &call->reply.handle,
					 call->reply.token));
}

static int32_t do_qp_attach(struct call *call)
{
	struct brk_qp qp = qp_of(call->msg);
	struct brk_client *device;
	struct thing *pair;
	void *found;
	int32_t r = brk_qp_attach(call->client, &qp, &found, &call->reply.other.context, call->reply.token, &device);

	if (r == BRK_ASK)
		return ask_handle(call->peer, call->msg, device, &qp);
	if (r < 0)
		return r;
	pair = found;
	memcpy(call->reply.fd, pair->fd, sizeof(pair->fd));
	call->reply.n_fds = pair->n_fds;
	call->reply.flags = pair->direct ? FAB_F_DIRECT : 0;
	reply(call->peer, call->msg, r, &call->reply);
	/* Nobody needs it here any more: it is between the two. */
	thing_free(pair);
	return REPLIED;
}

static int32_t do_qp_hold(struct call *call)
{
	struct brk_qp qp = qp_of(call->msg);

	return brk_qp_hold(call->client, &qp, call->msg->token);
}

static int32_t do_qp_detach(struct call *call)
{
	return brk_qp_detach(call->client, call->msg->handle);
}

static int32_t do_shm_create(struct call *call)
{
	return taken(call, brk_shm_create(call->client, call->msg->handle.resource, call->msg->size0, call->msg->size1,
					  call->resume, call->thing, &call->reply.handle, call->reply.token));
}

static int32_t do_shm_query(struct call *call)
{
	return brk_shm_query(call->client, call->msg->handle, &call->reply.size0);
}

static int32_t do_shm_attach(struct call *call)
{
	struct thing *memory;
	void *found;
	int32_t r = brk_shm_attach(call->client, call->msg->handle, &call->reply.size0, &call->reply.size1, &found,
				   call->reply.token);

	if (r >= 0) {
		memory = found;
		call->reply.fd[0] = memory->fd[0];
		call->reply.n_fds = 1;
	}
	return r;
}

static int32_t do_shm_hold(struct call *call)
{
	return taken(call, brk_shm_hold(call->client, call->msg->handle, call->msg->size0, call->msg->size1,
					call->msg->token, call->thing));
}

static int32_t do_shm_detach(struct call *call)
{
	return brk_shm_detach(call->client, call->msg->handle);
}

static int32_t do_shm_alloc(struct call *call)
{
	struct server *server = call->peer->server;
	struct brk_window *window = NULL;
	uint8_t data[FAB_TOKEN_SIZE + BRK_KEY_MAX];
	struct thing *memory;
	const char *key;
	int32_t r;

	if (call->peer->is_device)
		window = brk_window_ref(brk_client_window(call->client));
	else if (brk_client_cid(call->client) == VMCI_CID_HOST && !server->in_grace)
		window = vms_host_window(server->vms);
	r = brk_shm_alloc(call->client, window, call->msg->handle.resource, call->msg->size0, &call->reply.handle,
			  &call->reply.size1, call->reply.token);
	if (r >= 0) {
		memory = brk_window_memory(window);
		key = brk_window_owner(window);
		brk_window_token(call->client, window, data);
		memcpy(data + FAB_TOKEN_SIZE, key, strlen(key));
		call->reply.data = data;
		call->reply.len = FAB_TOKEN_SIZE + strlen(key);
		call->reply.fd[0] = memory->fd[0];
		call->reply.n_fds = 1;
		reply(call->peer, call->msg, r, &call->reply);
	}
	brk_window_unref(server->brk, window);
	return r < 0 ? r : REPLIED;
}

static int32_t do_window(struct call *call)
{
	const struct fab_msg *msg = call->msg;
	char key[FAB_KEY_MAX + 1];
	int32_t r;

	if (msg->len)
		memcpy(key, msg->data, msg->len);
	key[msg->len] = '\0';
	r = taken(call, brk_window_show(call->client, key, msg->size0, call->resume, call->thing, call->reply.token));
	if (r >= 0 && call->peer->vm)
		vm_keep_window(call->peer->vm, brk_client_window(call->client));
	return r;
}

static int32_t do_name(struct call *call)
{
	uint8_t buf[DISCOVERY_REPLY_MAX];
	size_t size;
	int32_t r = brk_name(call->client, call->msg->data, call->msg->len, call->resume, buf, &size,
			     call->reply.token);

	if (r < 0)
		return r;
	call->reply.data = buf;
	call->reply.len = size;
	reply(call->peer, call->msg, r, &call->reply);
	return REPLIED;
}

static int32_t do_priv(struct call *call)
{
	const struct fab_msg *msg = call->msg;

	if (msg->flags & FAB_F_ADD)
		return brk_priv_add(call->client, msg->handle, msg->other, msg->size0, msg->size1);
	if (msg->flags & FAB_F_REMOVE)
		return brk_priv_remove(call->client, msg->handle, msg->other, msg->size0);
	if (msg->flags & FAB_F_REMOVE_ALL)
		return brk_priv_remove_all(call->client, msg->handle, msg->other);
	return brk_priv_check(call->client, msg->handle, msg->other, msg->size0);
}

static int32_t do_group_create(struct call *call)
{
	return brk_group_create(call->client, call->msg->handle.resource, call->resume, &call->reply.handle,
				call->reply.token);
}

static int32_t do_group_destroy(struct call *call)
{
	return brk_group_destroy(call->client, call->msg->handle);
}

static int32_t do_group_member(struct call *call)
{
	const struct fab_msg *msg = call->msg;

	if (msg->flags & FAB_F_ADD)
		return brk_group_add(call->client, msg->handle, msg->other, msg->flags & FAB_F_ASSIGN);
	if (msg->flags & FAB_F_REMOVE)
		return brk_group_remove(call->client, msg->handle, msg->other);
	return brk_group_is_member(call->client, msg->handle, msg->other);
}

static int32_t do_list(struct call *call)
{
	char buf[LIMIT_VMCID_LIST_BYTES];
	int32_t r = brk_list(call->client, call->msg->size0, buf, sizeof(buf), &call->reply.size0);

	if (r < 0)
		return r;
	call->reply.data = (const uint8_t *)buf;
	call->reply.len = (size_t)r;
	reply(call->peer, call->msg, 0, &call->reply);
	return REPLIED;
}

static int32_t do_vm_find(struct call *call)
{
	int32_t r;

	if (!call->peer->has_said_hello)
		return VMCI_ERROR_INVALID_ARGS;
	r = vms_find_uuid(call->peer->server->vms, call->client, call->msg->data, &call->reply.handle.context);
	/* Its device may be about to come back. */
	return r == VMCI_ERROR_NOT_FOUND && call->peer->server->in_grace ? BRK_LATER : r;
}

/* --- Streams */

static int32_t do_stream_bind(struct call *call)
{
	struct peer *peer = call->peer;
	struct vmci_handle own;
	int32_t r;

	if (peer->is_device)
		return VMCI_ERROR_INVALID_ARGS;
	r = brk_stream_own(call->client, call->msg->handle, &own);
	if (r < 0)
		return r;
	r = ports_bind(peer->server->ports, call->thing->fd[0], peer->uid, brk_client_is_trusted(call->client),
		       own.context, &own.resource);
	if (r < 0)
		return no_waiting(peer, r);
	call->reply.handle = own;
	return 0;
}

/* How the name of what @peer connects begins. */
static struct fab_address address_of(const struct peer *peer, struct vmci_handle own)
{
	struct fab_address self = { .context = own.context, .port = own.resource };

	if (peer->is_device) {
		self.kind = FAB_ADDRESS_VM;
		snprintf(self.vm, sizeof(self.vm), "%s", vm_name(peer->vm));
	} else {
		self.kind = FAB_ADDRESS_PROGRAM;
		self.uid = peer->uid;
		self.gid = peer->gid;
		self.pid = peer->pid;
	}
	return self;
}

/*
 * A guest is asked to accept what is connected to @end, which is closed in any case. @peer is NULL: the socket says
 * whether it does; @stopper: bytes of ports_stop(), of a program's. As ask()
 */
static int32_t ask_stream(struct peer *peer, struct brk_client *device, struct vmci_handle source,
			  struct vmci_handle to, uint64_t ms, int end, uint32_t stopper)
{
	struct fab_msg msg = { .type = FAB_STREAM_CONNECT, .handle = source, .other = to, .fd = { end }, .n_fds = 1 };
	struct ask *new;
	int32_t r;

	msg.size0 = ms;
	msg.size1 = stopper;
	if (!peer)
		msg.flags = FAB_F_PENDING;
	r = ask(peer, device, &msg, ms * 1000, &new);
	if (r == WAITS)
		new->source = source;
	fd_close(&end);
	return r;
}

static uint64_t patience(uint64_t wish)
{
	if (!wish)
		return FAB_CONNECT_DEFAULT_MS;
	return wish < FAB_CONNECT_MAX_MS ? wish : FAB_CONNECT_MAX_MS;
}

/*
 * connect_stream() - connect @fd, of @self, to @to, if @peer may
 *
 * Return: as brk_stream_connect() and ports_connect(); BRK_ASK: @ret_end goes to @ret_device
 */
static int32_t connect_stream(struct peer *peer, int fd, const struct fab_address *self, struct vmci_handle to,
			      struct brk_client **ret_device, int *ret_end)
{
	struct ports *ports = peer->server->ports;
	int32_t r = brk_stream_connect(peer->client, to, ports_look(ports, to.context, to.resource), ret_device);

	if (!r)
		return no_waiting(peer, ports_connect(ports, fd, self, to.context, to.resource));
	if (r != BRK_ASK)
		return r;
	r = no_waiting(peer, ports_join(ports, fd, self, to.context, to.resource, ret_end));
	return r ? r : BRK_ASK;
}

static int32_t do_stream_connect(struct call *call)
{
	struct peer *peer = call->peer;
	struct vmci_handle own, to = call->msg->other;
	struct brk_client *device;
	struct fab_address self;
	int fd = call->thing->fd[0], end;
	uint32_t stopper = 0;
	int32_t r;

	if (peer->is_device)
		return VMCI_ERROR_INVALID_ARGS;
	r = brk_stream_own(call->client, call->msg->handle, &own);
	if (r < 0)
		return r;
	self = address_of(peer, own);
	r = ports_source(peer->server->ports, fd, &self);
	own.resource = self.port;
	/* Once more, for the port that it has. */
	if (!r)
		r = brk_stream_own(call->client, own, &own);
	if (!r)
		r = connect_stream(peer, fd, &self, to, &device, &end);
	if (r == BRK_ASK) {
		if (call->msg->flags & FAB_F_PENDING)
			stopper = ports_stop(fd);
		r = ask_stream(stopper ? NULL : peer, device, own, to, patience(call->msg->size0), end, stopper);
		if (stopper)
			call->reply.flags = FAB_F_PENDING;
		/* The guest's device sees the program's end only if there is no copy of it here. */
		call->thing = thing_free(call->thing);
	}
	call->reply.handle = own;
	return r;
}

static int32_t do_stream_open(struct call *call)
{
	struct peer *peer = call->peer;
	struct vmci_handle own, to = call->msg->other;
	struct brk_client *device;
	struct fab_address self;
	int fd, end;
	int32_t r;

	if (!peer->is_device)
		return VMCI_ERROR_INVALID_ARGS;
	r = brk_stream_own(call->client, call->msg->handle, &own);
	if (r < 0)
		return r;
	self = address_of(peer, own);
	fd = ports_socket();
	if (fd < 0)
		return VMCI_ERROR_NO_RESOURCES;
	r = connect_stream(peer, fd, &self, to, &device, &end);
	if (r == BRK_ASK) {
		call->reply.flags = FAB_F_PENDING;
		r = ask_stream(NULL, device, own, to, FAB_CONNECT_DEFAULT_MS, end, 0);
	}
	if (r >= 0) {
		call->reply.fd[0] = fd;
		call->reply.n_fds = 1;
		reply(peer, call->msg, 0, &call->reply);
		r = REPLIED;
	}
	fd_close(&fd);
	return r;
}

/**
 * struct handler - how a request is carried out
 * @run:       returns a status, REPLIED, WAITS or BRK_LATER
 * @has_thing: its descriptors are a thing
 * @gives:     descriptors that may come with the reply
 */
struct handler {
	int32_t (*run)(struct call *call);
	bool has_thing;
	enum thing_kind thing;
	unsigned gives;
};

static const struct handler handlers[FAB_TYPE_NUM] = {
	[FAB_HELLO] = { .run = do_hello },
	[FAB_DG_CREATE] = { .run = do_dg_create, .has_thing = true, .thing = THING_SINK },
	[FAB_DG_DESTROY] = { .run = do_dg_destroy },
	[FAB_DG_SEND] = { .run = do_dg_send },
	[FAB_EVENTS] = { .run = do_events, .has_thing = true, .thing = THING_SINK },
	[FAB_WATCH] = { .run = do_watch },
	[FAB_BELL_CREATE] = { .run = do_bell_create, .has_thing = true, .thing = THING_BELL },
	[FAB_BELL_DESTROY] = { .run = do_bell_destroy },
	[FAB_BELL_OPEN] = { .run = do_bell_open, .gives = 1 },
	[FAB_QP_CREATE] = { .run = do_qp_create, .has_thing = true, .thing = THING_PAIR },
	[FAB_QP_ATTACH] = { .run = do_qp_attach, .gives = 2 },
	[FAB_QP_HOLD] = { .run = do_qp_hold },
	[FAB_QP_DETACH] = { .run = do_qp_detach },
	[FAB_SHM_CREATE] = { .run = do_shm_create, .has_thing = true, .thing = THING_MEMORY },
	[FAB_SHM_QUERY] = { .run = do_shm_query },
	[FAB_SHM_ATTACH] = { .run = do_shm_attach, .gives = 1 },
	[FAB_SHM_HOLD] = { .run = do_shm_hold, .has_thing = true, .thing = THING_MEMORY },
	[FAB_SHM_DETACH] = { .run = do_shm_detach },
	[FAB_NAME] = { .run = do_name },
	[FAB_PRIV] = { .run = do_priv },
	[FAB_GROUP_CREATE] = { .run = do_group_create },
	[FAB_GROUP_DESTROY] = { .run = do_group_destroy },
	[FAB_GROUP_MEMBER] = { .run = do_group_member },
	[FAB_LIST] = { .run = do_list },
	[FAB_STREAM_BIND] = { .run = do_stream_bind, .has_thing = true, .thing = THING_STREAM },
	[FAB_STREAM_CONNECT] = { .run = do_stream_connect, .has_thing = true, .thing = THING_STREAM },
	[FAB_STREAM_OPEN] = { .run = do_stream_open, .gives = 1 },
	[FAB_SHM_ALLOC] = { .run = do_shm_alloc, .gives = 1 },
	[FAB_WINDOW] = { .run = do_window, .has_thing = true, .thing = THING_MEMORY },
	[FAB_DG_BIND] = { .run = do_dg_bind },
	[FAB_VM_FIND] = { .run = do_vm_find },
};

/**
 * make_thing() - of the descriptors of a request
 *
 * A queue pair of impossible sizes has none: the broker knows what is wrong with it.
 */
static int32_t make_thing(struct peer *peer, struct fab_msg *msg, const struct handler *h, struct thing **ret_thing)
{
	uint64_t bytes = 0;
	const char *odd;
	int32_t r;

	if (h->thing == THING_PAIR) {
		bytes = brk_qp_memory(msg->size0, msg->size1);
		if (!bytes)
			return 0;
	}
	if (h->thing == THING_MEMORY && (!msg->size0 || !add64(msg->size0, msg->size1, &bytes)))
		return VMCI_ERROR_INVALID_SIZE;
	r = thing_new(peer->server->event, h->thing, msg->fd, peer->uid, peer->user, bytes, ret_thing, &odd);
	if (r < 0)
		server_note(peer->server, LOG_LEVEL_INFO, "%s: %s: %s", peer->name, fab_type_to_string(msg->type), odd);
	return r;
}

/**
 * carry_out() - a request
 * @thing: what was made of its descriptors before, if it had to wait; afterwards what the broker did not take
 *
 * Return: false: the peer waits now, and the request must be kept
 */
static bool carry_out(struct peer *peer, struct fab_msg *msg, struct thing **thing)
{
	const struct handler *h = &handlers[msg->type];
	struct call call = { .peer = peer, .client = peer->client, .msg = msg, .thing = *thing };
	int32_t r = 0;

	if (log_wants(LOG_LEVEL_TRACE))
		log_trace("%s: > %s %u (%u:%u)", peer->name, fab_type_to_string(msg->type), msg->serial,
			  msg->handle.context, msg->handle.resource);
	if (msg->flags & FAB_F_RESUME)
		call.resume = msg->token;
	if (h->has_thing && !call.thing)
		r = make_thing(peer, msg, h, &call.thing);
	if (!r && h->gives && !reserve(peer, h->gives))
		r = VMCI_ERROR_NO_RESOURCES;
	if (!r) {
		bool has_none = h->has_thing && !call.thing;

		r = h->run(&call);
		assert(!has_none || r < 0);
	}
	*thing = call.thing;
	/* A reply that has not been sent yet has none, or does not come now. */
	if (r < 0)
		unreserve(peer, peer->reserved);
	if (r == REPLIED)
		return true;
	if (r == WAITS || (r == BRK_LATER && peer->server->in_grace)) {
		peer->waiting = r == WAITS ? WAITING_ASK : WAITING_LATER;
		return false;
	}
	reply(peer, msg, r == BRK_LATER ? VMCI_ERROR_UNAVAILABLE : r, &call.reply);
	return true;
}

static void run_requests(struct peer *peer)
{
	while (peer->requests && peer->waiting == WAITING_NOT && !peer->is_ended)
		if (carry_out(peer, &peer->requests->msg, &peer->requests->thing))
			pop_request(peer);
}

/* Takes descriptors and thing. */
static void keep_request(struct peer *peer, struct fab_msg *msg, struct thing *thing)
{
	struct request *request = NULL;

	if (peer->n_requests < FAB_PIPELINE)
		request = malloc(sizeof(*request) + msg->len);
	if (!request) {
		thing_free(thing);
		peer_fail(peer, peer->n_requests < FAB_PIPELINE ? "out of memory" : "too many requests under way");
		return;
	}
	*request = (struct request){ .msg = *msg, .thing = thing };
	if (msg->len)
		memcpy(request->data, msg->data, msg->len);
	request->msg.data = request->data;
	msg->n_fds = 0;
	*peer->last_request = request;
	peer->last_request = &request->next;
	peer->n_requests++;
}

static void handle_request(struct peer *peer, struct fab_msg *msg)
{
	struct thing *thing = NULL;

	if (peer->waiting != WAITING_NOT) {
		keep_request(peer, msg, NULL);
		return;
	}
	if (carry_out(peer, msg, &thing)) {
		thing_free(thing);
		return;
	}
	keep_request(peer, msg, thing);
	update_io(peer);
}

/* One message. Return: false: no more for now */
static bool receive(struct peer *peer)
{
	static uint8_t buf[FAB_MSG_MAX];
	struct fab_msg msg;
	const char *why;
	int r = fab_recv_why(peer->fd, buf, &msg, &why);

	if (r == -EAGAIN)
		return false;
	if (r == -ECONNRESET) {
		leave(peer);
		return false;
	}
	if (r) {
		peer_fail(peer, "%s", r == -EBADMSG ? why : strerror(-r));
		return false;
	}
	if (peer->is_holding)
		peer_fail(peer, "it was to hold its context and no more, and said %s", fab_type_to_string(msg.type));
	else if (msg.kind == FAB_REQUEST)
		handle_request(peer, &msg);
	else if (msg.kind == FAB_ANSWER)
		handle_answer(peer, &msg);
	else
		peer_fail(peer, "it sent what only vmcid may say (%s)", fab_type_to_string(msg.type));
	fab_drop(&msg);
	return !peer->is_ended;
}

static int on_io(sd_event_source *source, int fd, uint32_t events, void *ctx)
{
	struct peer *peer = ctx;

	(void)source;
	(void)fd;
	if (events & EPOLLOUT)
		flush(peer);
	if (peer->is_ended || !(events & (EPOLLIN | EPOLLHUP | EPOLLERR)))
		return 0;
	/* It waits, and is not read from: so it has gone. */
	if (peer->waiting != WAITING_NOT && !peer->is_device) {
		leave(peer);
		return 0;
	}
	for (unsigned i = 0; i < LIMIT_VMCID_TURN; i++)
		if ((peer->waiting != WAITING_NOT && !peer->is_device) || !receive(peer))
			break;
	return 0;
}

void peer_resume(struct server *server)
{
	for (struct peer *peer = server->peers; peer; peer = peer->next) {
		if (peer->waiting != WAITING_LATER)
			continue;
		peer->waiting = WAITING_NOT;
		run_requests(peer);
		update_io(peer);
	}
}

/*
 * --- Life
 * ------------------------------------------------------------------------------------------------------------
 */

static int on_silence(sd_event_source *source, uint64_t usec, void *ctx)
{
	struct peer *peer = ctx;

	(void)source;
	(void)usec;
	if (peer->waiting == WAITING_NOT)
		peer_fail(peer, "it did not say HELLO");
	return 0;
}

struct peer *peer_free(struct peer *peer)
{
	struct server *server = peer->server;
	uint32_t cid = brk_client_cid(peer->client);

	peer->is_ended = true;
	peer->client = brk_client_free(peer->client);
	/* When we end, contexts do not: their programs come back. */
	if (!server->is_stopping && cid != VMCI_INVALID_ID && !brk_cid_is_there(server->brk, cid))
		ports_forget(server->ports, cid);
	if (peer->ask)
		peer->ask->asker = NULL;
	peer->ask = NULL;
	while (peer->asks) {
		struct ask *ask = peer->asks;

		if (ask->asker)
			ask_end(ask, VMCI_ERROR_DST_UNREACHABLE, NULL);
		ask_free(ask);
	}
	while (peer->requests)
		pop_request(peer);
	while (peer->out) {
		struct outgoing *out = peer->out;

		peer->out = out->next;
		outgoing_free(peer, out);
	}
	user_drop(peer->user, peer->in_flight);
	sd_event_source_disable_unref(peer->hello);
	sd_event_source_disable_unref(peer->io);
	closer_close(&peer->fd);
	if (peer->vm)
		vm_device_gone(peer->vm, peer);
	user_unref(peer->user);
	server_del_peer(server, peer);
	free(peer);
	return NULL;
}

void peer_bury(struct server *server)
{
	struct peer *next;

	for (struct peer *peer = server->peers; peer; peer = next) {
		next = peer->next;
		if (peer->is_ended)
			peer_free(peer);
	}
}

void peer_hush(struct server *server)
{
	for (struct peer *peer = server->peers; peer; peer = peer->next)
		peer->is_ended = true;
}

static int peer_watch(struct peer *peer)
{
	sd_event *event = peer->server->event;
	int r;

	r = sd_event_add_io(event, &peer->io, peer->fd, EPOLLIN, on_io, peer);
	if (r >= 0)
		r = sd_event_add_time_relative(event, &peer->hello, CLOCK_MONOTONIC, LIMIT_VMCID_HELLO_USEC, 0,
					       on_silence, peer);
	return r < 0 ? r : 0;
}

int peer_new(struct server *server, int fd, bool is_device, struct vm *vm, struct peer **ret_peer)
{
	struct peer *peer = calloc(1, sizeof(*peer));
	struct ucred cred;
	socklen_t len = sizeof(cred);
	struct brk_creds creds;
	int r = -ENOMEM;
	int32_t code;

	if (!peer || getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len)) {
		log_err("cannot serve a client: %s", strerror(peer ? errno : ENOMEM));
		free(peer);
		closer_close(&fd);
		return -ENOMEM;
	}
	*peer = (struct peer){
		.server = server,
		.uid = cred.uid,
		.gid = cred.gid,
		.pid = cred.pid,
		.is_device = is_device,
		.vm = vm,
		.fd = fd,
	};
	peer->last_request = &peer->requests;
	peer->last_out = &peer->out;
	if (vm)
		snprintf(peer->name, sizeof(peer->name), "vm %s", vm_name(vm));
	else
		snprintf(peer->name, sizeof(peer->name), "%s %d (uid %u)", is_device ? "device" : "client",
			 (int)cred.pid, (unsigned)cred.uid);
	creds = (struct brk_creds){
		.uid = cred.uid,
		.pid = cred.pid,
		.trusted = server_is_trusted(server, cred.uid),
		.device = is_device,
	};
	code = brk_client_new(server->brk, &creds, peer, &peer->client);
	if (code < 0) {
		server_note(server, LOG_LEVEL_WARN, "%s: turned away: %s", peer->name,
			    code == VMCI_ERROR_NO_RESOURCES ? "too many connections of this user" : "out of memory");
		closer_close(&peer->fd);
		free(peer);
		return -EBUSY;
	}
	peer->user = user_ref(server->users, cred.uid, creds.trusted);
	if (peer->user)
		r = peer_watch(peer);
	if (r) {
		log_err("%s: cannot serve it: %s", peer->name, strerror(-r));
		brk_client_free(peer->client);
		sd_event_source_disable_unref(peer->hello);
		sd_event_source_disable_unref(peer->io);
		user_unref(peer->user);
		closer_close(&peer->fd);
		free(peer);
		return r;
	}
	server_add_peer(server, peer);
	log_debug("%s: connected", peer->name);
	if (ret_peer)
		*ret_peer = peer;
	return 0;
}
