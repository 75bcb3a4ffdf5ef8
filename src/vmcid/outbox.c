/* SPDX-License-Identifier: BSD-2-Clause */
/* What is sent to a peer, and what waits for room in its socket. Theory: peer.c */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "fabric/link.h"
#include "peer_priv.h"
#include "proto/limits.h"

/* Like fab_send(); -ETOOMANYREFS also if the user has too many descriptors lying about. */
static int put(struct peer *peer, const struct fab_msg *msg)
{
	int r;

	if (msg->n_fds && !room_take(peer, msg->n_fds))
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

	if (msg->n_fds && !room_take(peer, msg->n_fds))
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

void outbox_send(struct peer *peer, const struct fab_msg *msg)
{
	unsigned most = peer->is_device ? LIMIT_VMCID_QUESTIONS : LIMIT_VMCID_REPLIES;
	int r = -EAGAIN;

	room_unreserve(peer, msg->n_fds);
	if (peer->is_ended)
		return;
	if (log_wants(LOG_LEVEL_TRACE))
		log_trace("%s: < %s %u status %d", peer->name, fab_type_to_string(msg->type), msg->serial, msg->status);
	if (!peer->out)
		r = put(peer, msg);
	if (!r)
		return;
	if (r == -EPIPE || r == -ECONNRESET) {
		peer_leave(peer);
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
		peer_update_io(peer);
}

void outbox_flush(struct peer *peer)
{
	while (peer->out && !peer->is_ended) {
		struct outgoing *out = peer->out;
		int r = put(peer, &out->msg);

		if (r && is_for_later(peer, r))
			break;
		if (r == -EPIPE || r == -ECONNRESET) {
			peer_leave(peer);
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
	peer_update_io(peer);
}

void peer_retry(struct server *server)
{
	for (struct peer *peer = server->peers; peer; peer = peer->next) {
		if (!peer->is_short)
			continue;
		peer->is_short = false;
		outbox_flush(peer);
	}
}

void outbox_reply(struct peer *peer, const struct fab_msg *request, int32_t status, struct fab_msg *answer)
{
	struct fab_msg none = { 0 };

	if (status < 0 || !answer)
		answer = &none;
	answer->type = request->type;
	answer->kind = FAB_REPLY;
	answer->serial = request->serial;
	answer->status = status;
	outbox_send(peer, answer);
	room_unreserve(peer, peer->reserved);
}

void outbox_clear(struct peer *peer)
{
	while (peer->out) {
		struct outgoing *out = peer->out;

		peer->out = out->next;
		outgoing_free(peer, out);
	}
}
