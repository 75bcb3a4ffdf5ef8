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
#include "peer_priv.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/checked.h"
#include "base/closer.h"
#include "base/fd.h"
#include "base/log.h"
#include "endpoint.h"
#include "fabric/link.h"
#include "hold.h"
#include "port.h"
#include "proto/limits.h"
#include "thing.h"
#include "token.h"
#include "vm.h"

static_assert(FAB_KEY_MAX == BRK_KEY_MAX, "keys of the protocol are those of the broker");

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

void peer_leave(struct peer *peer)
{
	if (peer->is_ended)
		return;
	log_debug("%s: gone", peer->name);
	peer->is_ended = true;
	sd_event_source_set_enabled(peer->io, SD_EVENT_OFF);
	server_bury(peer->server);
}

void peer_update_io(struct peer *peer)
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

int32_t peer_no_waiting(struct peer *peer, int32_t r)
{
	if (r != -EINTR)
		return r;
	peer_fail(peer, "it made us wait at its socket");
	return VMCI_ERROR_INVALID_ARGS;
}

/* --- Requests --------------------------------------------------------------------------------------------------- */

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

static void run_requests(struct peer *peer);

void peer_go_on(struct peer *peer, int32_t status, struct fab_msg *answer)
{
	peer->waiting = WAITING_NOT;
	outbox_reply(peer, &peer->requests->msg, status, answer);
	pop_request(peer);
	run_requests(peer);
	peer_update_io(peer);
}

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

/* A socket that its context is held by is made a member of it first, and so there is somebody to be joined. */
static int32_t hello_program(struct call *call, const char *label)
{
	struct peer *peer = call->peer;
	struct fab_msg *msg = call->msg;
	struct hold_wish wish = {
		.user = peer->user,
		.uid = peer->uid,
		.pid = peer->pid,
		.name = peer->name,
		.cid = msg->handle.context,
		.is_restricted = msg->flags & FAB_F_RESTRICTED,
		.label = label,
		.resume = call->resume,
	};
	struct hold *hold;
	int32_t r;

	if (!msg->n_fds)
		return brk_hello(call->client, wish.cid, wish.is_restricted, label, wish.resume, call->reply.token);
	if (peer->has_said_hello)
		return VMCI_ERROR_INVALID_ARGS;
	r = peer_no_waiting(peer, hold_new(peer->server->holds, &wish, msg->fd[0], &hold));
	if (r < 0)
		return r;
	r = brk_hello(call->client, hold_cid(hold), wish.is_restricted, label, NULL, call->reply.token);
	if (r < 0)
		hold_free(hold);
	return r;
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
		r = hello_program(call, label);
	if (r < 0)
		return r;
	/* Whoever has been displaced by a token is not to be found there by the next vmcid. */
	if (call->resume && peer->server->in_grace) {
		holds_evict(peer->server->holds);
		endpoints_evict(peer->server->endpoints);
	}
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

	return peer_no_waiting(peer, endpoint_bind(peer->server->endpoints, &wish, call->msg->fd[0], &call->reply.handle));
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
	outbox_reply(call->peer, call->msg, r, &call->reply);
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
		outbox_reply(call->peer, call->msg, r, &call->reply);
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
	outbox_reply(call->peer, call->msg, r, &call->reply);
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
	outbox_reply(call->peer, call->msg, 0, &call->reply);
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
	[FAB_STREAM_BIND] = { .run = stream_bind, .has_thing = true, .thing = THING_STREAM },
	[FAB_STREAM_CONNECT] = { .run = stream_connect, .has_thing = true, .thing = THING_STREAM },
	[FAB_STREAM_OPEN] = { .run = stream_open, .gives = 1 },
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
	if (!r && h->gives && !room_reserve(peer, h->gives))
		r = VMCI_ERROR_NO_RESOURCES;
	if (!r) {
		bool has_none = h->has_thing && !call.thing;

		r = h->run(&call);
		assert(!has_none || r < 0);
	}
	*thing = call.thing;
	/* A reply that has not been sent yet has none, or does not come now. */
	if (r < 0)
		room_unreserve(peer, peer->reserved);
	if (r == REPLIED)
		return true;
	if (r == WAITS || (r == BRK_LATER && peer->server->in_grace)) {
		peer->waiting = r == WAITS ? WAITING_ASK : WAITING_LATER;
		return false;
	}
	outbox_reply(peer, msg, r == BRK_LATER ? VMCI_ERROR_UNAVAILABLE : r, &call.reply);
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
	peer_update_io(peer);
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
		peer_leave(peer);
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
		ask_answered(peer, &msg);
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
		outbox_flush(peer);
	if (peer->is_ended || !(events & (EPOLLIN | EPOLLHUP | EPOLLERR)))
		return 0;
	/* It waits, and is not read from: so it has gone. */
	if (peer->waiting != WAITING_NOT && !peer->is_device) {
		peer_leave(peer);
		return 0;
	}
	/*
	 * Programs say one thing and wait for the reply. To look whether one has said more costs a call that mostly
	 * finds nothing; the loop tells us anyway.
	 */
	for (unsigned i = 0; i < (peer->is_device ? LIMIT_VMCID_TURN : 1); i++)
		if (!receive(peer))
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
		peer_update_io(peer);
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
	asks_end(peer);
	while (peer->requests)
		pop_request(peer);
	outbox_clear(peer);
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
