/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * DOC: Theory of operation
 *
 * Two handshakes, told apart by their first packet; the client always makes the queue pair.
 *
 *	client				server
 *	REQUEST2 size, protocols  ->		or REQUEST size
 *			  <- NEGOTIATE2 size, protocol	or NEGOTIATE size
 *	OFFER handle		  ->
 *			  <- ATTACH handle
 *
 * As a server we open the end on the program's side when the request comes, so that a port where
 * nobody listens is refused at once. As a client we start with REQUEST2; a peer that answers INVALID
 * knows only REQUEST, and may send one RST along with it that means nothing.
 *
 * Nothing is sent twice. A server's handshake ends silently after three seconds, a client's with
 * -ETIMEDOUT. Transport reference, 6.
 */
#include "proto/stream_priv.h"

#include <errno.h>

/* Ends a client's attempt. The queue pair, if made, goes too. */
void handshake_fail(struct stream *s, int error)
{
	struct streams *t = s->t;

	stream_log(s, LOG_LEVEL_DEBUG, "connect failed: %d", error);
	if (s->state == STREAM_OFFERED)
		t->ports.qp_detach(t->ports.ctx, s->handle);
	t->ports.end->failed(s->end, error);
	stream_free(s);
}

/* --- Server ------------------------------------------------------------------------- */

static unsigned count_backlog(const struct streams *t, uint32_t local_cid, uint32_t local_port)
{
	const struct stream *s;
	unsigned n = 0;

	TAILQ_FOREACH(s, &t->timers, timer)
		if (s->local_cid == local_cid && s->local_port == local_port &&
		    (s->state == STREAM_OPENING || s->state == STREAM_PENDING))
			n++;
	return n;
}

static void server_negotiate(struct stream *s)
{
	int32_t r;

	s->state = STREAM_PENDING;
	s->fresh_at = s->t->ports.now(s->t->ports.ctx);
	if (s->qstate)
		r = stream_send(s, PACKET_NEGOTIATE2, s->size, 0, VMCI_STREAM_PROTO_QSTATE);
	else
		r = stream_send(s, PACKET_NEGOTIATE, s->size, 0, 0);
	if (r <= 0)
		stream_reset(s, "NEGOTIATE could not be sent");
}

/* A packet for which there is no stream. Return: 0, or a VMCI_ERROR_* for the sender */
int32_t handshake_new(struct streams *t, const struct packet *p)
{
	bool request2 = p->type == PACKET_REQUEST2;
	struct stream *s;
	void *end = NULL;
	int r;

	if (p->type == PACKET_RST)
		return 0;
	if (!request2 && p->type != PACKET_REQUEST)
		goto refuse;
	if (p->arg == 0 || p->src_port == VMCI_PORT_ANY || p->dst_port == VMCI_PORT_ANY)
		goto refuse;
	if (request2 && t->config.legacy) {
		streams_send_answer(t, p, PACKET_INVALID);
		return 0;
	}
	if (request2 && !(p->proto & VMCI_STREAM_PROTO_QSTATE))
		goto refuse;
	if (count_backlog(t, p->dst.context, p->dst_port) >= LIMIT_BACKLOG ||
	    stream_new(t, p->src_port, p->dst.context, p->dst_port, &s))
		goto refuse;

	s->qstate = request2;
	s->size = streams_ring_size(t);
	if (p->arg >= LIMIT_RING_MIN && p->arg <= LIMIT_RING_MAX && (s->size == t->config.ring_size || p->arg < s->size))
		s->size = (uint32_t)p->arg;
	r = t->ports.open(t->ports.ctx, s, p->dst.context, p->dst_port, p->src_port, &end);
	if (r && r != -EINPROGRESS) {
		stream_log(s, LOG_LEVEL_DEBUG, "refused: %d", r);
		stream_free(s);
		if (r == -EHOSTUNREACH)
			return VMCI_ERROR_DST_UNREACHABLE;
		if (r == -EPERM)
			return VMCI_ERROR_NO_ACCESS;
		goto refuse;
	}
	s->end = end;
	stream_arm(s, LIMIT_PENDING_NS);
	if (!r)
		server_negotiate(s);
	return 0;

refuse:
	streams_send_answer(t, p, PACKET_RST);
	return 0;
}

void stream_accept(struct stream *s)
{
	server_negotiate(s);
}

void stream_refuse(struct stream *s)
{
	stream_send(s, PACKET_RST, 0, 0, 0);
	stream_free(s);
}

static void server_offer(struct stream *s, const struct packet *p)
{
	struct streams *t = s->t;
	int32_t r;

	s->handle = packet_handle(p);
	if (!handle_is_valid(s->handle)) {
		stream_reset(s, "OFFER of an invalid handle");
		return;
	}
	r = t->ports.qp_attach(t->ports.ctx, s->handle, s->local_cid, s->size, s->size, s);
	if (r < 0) {
		stream_reset(s, "OFFER of a queue pair that we cannot attach to");
		return;
	}
	s->state = STREAM_CONNECTED;
	stream_disarm(s);
	r = t->ports.qp_map(t->ports.ctx, s->handle, &s->qp);
	if (r < 0) {
		stream_reset(s, "OFFER of a queue pair without memory");
		return;
	}
	/* The client may answer with WROTE at once: we are ready for it before ATTACH leaves (6.1). */
	if (stream_send(s, PACKET_ATTACH, p->arg, 0, 0) <= 0) {
		stream_reset(s, "ATTACH could not be sent");
		return;
	}
	pump_start(s, true);
}

static void server_packet(struct stream *s, const struct packet *p)
{
	switch (p->type) {
	case PACKET_OFFER:
		if (s->state == STREAM_PENDING) {
			server_offer(s, p);
			break;
		}
		stream_reset(s, "OFFER before NEGOTIATE");
		break;
	case PACKET_RST:
		s->t->ports.end->close(s->end);
		stream_free(s);
		break;
	default:
		stream_reset(s, "unexpected packet while pending");
		break;
	}
}

/* --- Client ------------------------------------------------------------------------- */

/* Tell the server, too. */
static void client_reset(struct stream *s, int error)
{
	stream_send(s, PACKET_RST, 0, 0, 0);
	handshake_fail(s, error);
}

static void client_negotiate(struct stream *s, const struct packet *p)
{
	struct streams *t = s->t;
	bool negotiate2 = p->type == PACKET_NEGOTIATE2;
	int32_t r;

	if (s->state != STREAM_REQUESTED || p->arg == 0) {
		client_reset(s, -EPROTO);
		return;
	}
	if (p->arg < LIMIT_RING_MIN || p->arg > LIMIT_RING_MAX ||
	    (negotiate2 && p->proto != VMCI_STREAM_PROTO_QSTATE)) {
		client_reset(s, -EINVAL);
		return;
	}
	s->sent_request2 = false;
	s->ignore_rst = false;
	s->qstate = negotiate2;
	s->size = (uint32_t)p->arg;
	r = t->ports.qp_create(t->ports.ctx, s->local_cid, s->size, s->size, s, &s->handle);
	if (r < 0) {
		client_reset(s, r == VMCI_ERROR_NO_RESOURCES ? -ENOBUFS : -ENOMEM);
		return;
	}
	s->state = STREAM_OFFERED;
	if (stream_send(s, PACKET_OFFER, packet_arg(s->handle), 0, 0) <= 0)
		handshake_fail(s, -ENOBUFS);
}

static void client_attach(struct stream *s, const struct packet *p)
{
	struct streams *t = s->t;

	if (s->state != STREAM_OFFERED || !handle_is_equal(packet_handle(p), s->handle)) {
		client_reset(s, -EPROTO);
		return;
	}
	if (t->ports.qp_map(t->ports.ctx, s->handle, &s->qp) < 0) {
		/* It claims to have attached, and did not. */
		client_reset(s, -EPROTO);
		return;
	}
	s->state = STREAM_CONNECTED;
	stream_disarm(s);
	t->ports.end->connected(s->end);
	pump_start(s, false);
}

/* The peer is old: once more, with REQUEST (6.6), and with a size that an old server attaches with (6.5). */
static void client_fall_back(struct stream *s)
{
	uint32_t size = streams_ring_size(s->t);

	s->sent_request2 = false;
	s->ignore_rst = true;
	if (size > LIMIT_RING_LEGACY)
		size = LIMIT_RING_LEGACY;
	if (stream_send(s, PACKET_REQUEST, size, 0, 0) <= 0)
		handshake_fail(s, -ENOBUFS);
}

static void client_packet(struct stream *s, const struct packet *p)
{
	switch (p->type) {
	case PACKET_NEGOTIATE:
	case PACKET_NEGOTIATE2:
		client_negotiate(s, p);
		break;
	case PACKET_ATTACH:
		client_attach(s, p);
		break;
	case PACKET_INVALID:
		if (s->sent_request2)
			client_fall_back(s);
		break;
	case PACKET_RST:
		if (s->ignore_rst)
			s->ignore_rst = false;
		else
			handshake_fail(s, -ECONNRESET);
		break;
	default:
		client_reset(s, -EPROTO);
		break;
	}
}

/* --- Both --------------------------------------------------------------------------- */

void handshake_packet(struct stream *s, const struct packet *p)
{
	if (s->state == STREAM_REQUESTED || s->state == STREAM_OFFERED)
		client_packet(s, p);
	else
		server_packet(s, p);
}

void handshake_timeout(struct stream *s)
{
	stream_disarm(s);
	if (s->state == STREAM_REQUESTED || s->state == STREAM_OFFERED) {
		handshake_fail(s, -ETIMEDOUT);
		return;
	}
	stream_log(s, LOG_LEVEL_DEBUG, "no OFFER in time");
	s->t->ports.end->close(s->end);
	stream_free(s);
}
