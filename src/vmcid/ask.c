/* SPDX-License-Identifier: BSD-2-Clause */
/* Questions to devices, and their answers. Theory: peer.c */
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "peer_priv.h"
#include "proto/limits.h"
#include "thing.h"

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

/* What the asker waited for is there, or does not come. The asker goes on. */
static void ask_end(struct ask *ask, int32_t status, struct fab_msg *answer)
{
	struct peer *asker = ask->asker;

	ask->asker = NULL;
	asker->ask = NULL;
	peer_go_on(asker, status, answer);
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

int32_t ask_put(struct peer *peer, struct brk_client *device, struct fab_msg *msg, uint64_t usec,
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
	if (msg->n_fds && !room_reserve(to, msg->n_fds))
		return VMCI_ERROR_NO_RESOURCES;
	new = calloc(1, sizeof(*new));
	if (!new) {
		room_unreserve(to, msg->n_fds);
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
		room_unreserve(to, msg->n_fds);
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
	outbox_send(to, msg);
	if (ret_ask)
		*ret_ask = new;
	return peer ? WAITS : 0;
}

int32_t ask_handle(struct peer *peer, const struct fab_msg *request, struct brk_client *device,
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
	r = ask_put(peer, device, &msg, LIMIT_VMCID_ASK_USEC, &new);
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
	if (room_reserve(ask->asker, 1))
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
	if (room_reserve(asker, msg.n_fds))
		r = brk_qp_attached(asker->client, device->client, &ask->qp, msg.token);
	memcpy(msg.fd, pair->fd, sizeof(pair->fd));
	msg.other.context = ask->qp.handle.context;
	msg.flags = ask->qp.direct ? FAB_F_DIRECT : 0;
	ask_end(ask, r, &msg);
	thing_free(pair);
}

void ask_answered(struct peer *device, struct fab_msg *answer)
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

void asks_end(struct peer *peer)
{
	if (peer->ask)
		peer->ask->asker = NULL;
	peer->ask = NULL;
	while (peer->asks) {
		struct ask *ask = peer->asks;

		if (ask->asker)
			ask_end(ask, VMCI_ERROR_DST_UNREACHABLE, NULL);
		ask_free(ask);
	}
}
