/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * DOC: Theory of operation
 *
 * A table holds all streams between our context and one peer context. A stream is named by the
 * pair (peer's port, our port): the contexts are the table's. Each stream has an *end* on the
 * program's side, which it drives through stream_end_ops.
 *
 *	stream_handshake.c	REQUEST ... ATTACH, as server and as client
 *	stream_pump.c		the connected stream: bytes, notifications, half-close
 *	stream.c		the table: names, lists, timers, turns, and how streams end
 *
 * Nothing here waits. Whatever happens (a packet, an end that became readable or writable, memory
 * that came back) marks its stream as having work and puts it on the run list; streams_run() gives
 * each stream on that list one bounded turn, and those that did not finish go to the tail. So
 * streams are fair to each other, and a slow one only fills its own ring.
 *
 * A packet that the peer's queue has no room for is not lost: the stream owes it (OWE_*), stands on
 * the owing list, and tries again when there is room (streams_room()), or a little later.
 *
 * How a stream ends:
 *
 *	the peer closes		its queue pair goes away: stream_peer_gone(). What it had written is copied out and
 *				handed to the end (finish), which outlives the stream.
 *	our program closes	recv() says -ESHUTDOWN after its last byte: stream_close(). If the peer has read
 *				everything we detach, which is all that it sees (10.2). If not, it gets a SHUTDOWN
 *				of both directions, and we detach when it has read, or answers in kind, or after a
 *				second. The reason: a detach that comes while a guest looks at its ring makes it
 *				miss what is in there, as nothing keeps Linux from handling the one in the middle of
 *				the other.
 *	RST, broken rings	stream_reset(): RST to the peer where it helps, close() to the end.
 */
#include "proto/stream_priv.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/checked.h"

/*
 * Wait this long before trying again to send what the peer's queue had no room for, unless streams_room() says that it
 * has some.
 */
#define RETRY_NS 100000000ull

/*
 * Times between looks whether the peer of a stream that we closed has read everything, doubled each time. After the
 * last we detach anyway: what has been in the ring for a second is not missed.
 */
#define CLOSING_MIN_NS 5000000ull
#define CLOSING_MAX_NS 640000000ull

/* Local ports of our connects: away from those that programs listen on. */
#define FIRST_EPHEMERAL_PORT (1u << 30)

static const char *const state_name[] = {
	[STREAM_OPENING] = "opening",	[STREAM_PENDING] = "pending",	  [STREAM_REQUESTED] = "requested",
	[STREAM_OFFERED] = "offered",	[STREAM_CONNECTED] = "connected", [STREAM_CLOSING] = "closing",
};
static_assert(sizeof(state_name) / sizeof(state_name[0]) == STREAM_NUM, "a name for each state");

static unsigned bucket_of(uint32_t peer_port, uint32_t local_cid, uint32_t local_port)
{
	uint32_t h = peer_port * 0x9e3779b1u ^ local_port * 0x85ebca6bu ^ local_cid * 0xc2b2ae35u;

	return (h ^ h >> 16) % STREAM_BUCKETS;
}

int streams_new(const struct stream_config *config, const struct stream_ports *ports, struct streams **ret_streams)
{
	struct streams *t = calloc(1, sizeof(*t));

	if (!t)
		return -ENOMEM;
	t->config = *config;
	t->ports = *ports;
	t->next_port = FIRST_EPHEMERAL_PORT;
	TAILQ_INIT(&t->run);
	TAILQ_INIT(&t->hot);
	TAILQ_INIT(&t->owing);
	TAILQ_INIT(&t->timers);
	*ret_streams = t;
	return 0;
}

struct streams *streams_free(struct streams *t)
{
	if (!t)
		return NULL;
	streams_reset(t);
	free(t);
	return NULL;
}

size_t streams_count(const struct streams *t)
{
	return t->count;
}

struct stream *stream_find(const struct streams *t, uint32_t peer_port, uint32_t local_cid, uint32_t local_port)
{
	struct stream *s;

	LIST_FOREACH(s, &t->bucket[bucket_of(peer_port, local_cid, local_port)], hash)
		if (s->peer_port == peer_port && s->local_cid == local_cid && s->local_port == local_port)
			return s;
	return NULL;
}

/* A stream in state STREAM_OPENING, in the table, on no list. 0, -ENOBUFS or -ENOMEM. */
int stream_new(struct streams *t, uint32_t peer_port, uint32_t local_cid, uint32_t local_port,
	       struct stream **ret_stream)
{
	struct stream *s;

	if (t->count >= LIMIT_STREAMS)
		return -ENOBUFS;
	s = calloc(1, sizeof(*s));
	if (!s)
		return -ENOMEM;
	s->t = t;
	s->state = STREAM_OPENING;
	s->peer_port = peer_port;
	s->local_cid = local_cid;
	s->local_port = local_port;
	s->readable = true;
	s->writable = true;
	LIST_INSERT_HEAD(&t->bucket[bucket_of(peer_port, local_cid, local_port)], s, hash);
	t->count++;
	*ret_stream = s;
	return 0;
}

/* Give a stream a turn in the next streams_run(). */
void stream_queue(struct stream *s)
{
	if (s->on & ON_RUN)
		return;
	TAILQ_INSERT_TAIL(&s->t->run, s, run);
	s->t->run_count++;
	s->on |= ON_RUN;
}

static void stream_unqueue(struct stream *s)
{
	if (!(s->on & ON_RUN))
		return;
	TAILQ_REMOVE(&s->t->run, s, run);
	s->t->run_count--;
	s->on &= ~ON_RUN;
}

/* Take a stream off everything and free it. Its queue pair is detached, its end has had its last call. */
void stream_free(struct stream *s)
{
	struct streams *t = s->t;

	stream_unqueue(s);
	if (s->on & ON_HOT)
		TAILQ_REMOVE(&t->hot, s, hot);
	if (s->on & ON_OWING)
		TAILQ_REMOVE(&t->owing, s, owing);
	stream_disarm(s);
	LIST_REMOVE(s, hash);
	t->count--;
	free(s);
}

void stream_arm(struct stream *s, uint64_t timeout_ns)
{
	struct streams *t = s->t;
	struct stream *after;

	stream_disarm(s);
	if (!add64(t->ports.now(t->ports.ctx), timeout_ns, &s->deadline))
		s->deadline = UINT64_MAX;
	TAILQ_FOREACH_REVERSE(after, &t->timers, stream_list, timer)
		if (after->deadline <= s->deadline)
			break;
	if (after)
		TAILQ_INSERT_AFTER(&t->timers, after, s, timer);
	else
		TAILQ_INSERT_HEAD(&t->timers, s, timer);
	s->on |= ON_TIMER;
}

void stream_disarm(struct stream *s)
{
	if (s->on & ON_TIMER)
		TAILQ_REMOVE(&s->t->timers, s, timer);
	s->on &= ~ON_TIMER;
}

void stream_log(const struct stream *s, enum log_level level, const char *fmt, ...)
{
	char text[160], line[256];
	va_list ap;

	if (level > s->t->config.log_level)
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	snprintf(line, sizeof(line), "stream %u:%u-%u:%u %s: %s", s->local_cid, s->local_port,
		 s->t->config.peer_cid, s->peer_port, state_name[s->state], text);
	s->t->ports.log(s->t->ports.ctx, level, line);
}

static int32_t send_packet(const struct streams *t, const struct packet *p)
{
	uint8_t buf[VMCI_STREAM_PACKET_SIZE];

	packet_build(p, buf);
	return t->ports.send(t->ports.ctx, buf, sizeof(buf));
}

/* Send one packet of a stream. Returns > 0, or VMCI_ERROR_*. */
int32_t stream_send(const struct stream *s, unsigned type, uint64_t arg, uint64_t offset, uint16_t proto)
{
	struct packet p = {
		.dst = handle_make(s->t->config.peer_cid, VMCI_RID_STREAM),
		.src = handle_make(s->local_cid, VMCI_RID_STREAM),
		.type = type,
		.proto = proto,
		.src_port = s->local_port,
		.dst_port = s->peer_port,
		.arg = arg,
		.offset = offset,
	};
	int32_t r = send_packet(s->t, &p);

	stream_log(s, LOG_LEVEL_TRACE, "-> %s %#llx: %d", packet_type_to_string(type), (unsigned long long)arg, r);
	return r;
}

/* Answer a packet that belongs to no stream (4, rule 3). If the peer's queue is full it is lost, as ever. */
void streams_send_answer(const struct streams *t, const struct packet *to, unsigned type)
{
	struct packet p = {
		.dst = to->src,
		.src = to->dst,
		.type = type,
		.src_port = to->dst_port,
		.dst_port = to->src_port,
	};

	send_packet(t, &p);
}

int32_t streams_packet(struct streams *t, const uint8_t *dg, size_t size)
{
	struct packet p;
	struct stream *s;

	if (packet_parse(dg, size, &p))
		return VMCI_ERROR_INVALID_ARGS;
	if (p.src.resource != VMCI_RID_STREAM || p.src.context != t->config.peer_cid)
		return VMCI_ERROR_NO_ACCESS;

	s = stream_find(t, p.src_port, p.dst.context, p.dst_port);
	if (!s) {
		int32_t r = handshake_new(t, &p);

		return r < 0 ? r : (int32_t)size;
	}
	stream_log(s, LOG_LEVEL_TRACE, "<- %s %#llx", packet_type_to_string(p.type), (unsigned long long)p.arg);
	if (p.type >= PACKET_NUM)
		stream_send(s, PACKET_INVALID, 0, 0, 0);
	else if (s->state == STREAM_CONNECTED)
		pump_packet(s, &p);
	else if (s->state == STREAM_CLOSING)
		stream_closing_packet(s, &p);
	else
		handshake_packet(s, &p);
	return (int32_t)size;
}

/* The ring size to propose: less and less as the peer's queue memory fills, so that many streams find room. */
uint32_t streams_ring_size(const struct streams *t)
{
	uint64_t room = t->ports.qp_room ? t->ports.qp_room(t->ports.ctx) : UINT64_MAX;
	uint32_t size = t->config.ring_size;

	while (size / 2 >= LIMIT_RING_PRESSED && room / (2u * size) < LIMIT_RING_SPARE)
		size /= 2;
	return size;
}

static bool find_local_port(struct streams *t, uint32_t peer_port, uint32_t local_cid, uint32_t *ret_port)
{
	/* More ports than there can be streams: one is free. */
	for (unsigned i = 0; i <= LIMIT_STREAMS; i++) {
		uint32_t port = t->next_port++;

		if (t->next_port == VMCI_PORT_ANY)
			t->next_port = FIRST_EPHEMERAL_PORT;
		if (!stream_find(t, peer_port, local_cid, port)) {
			*ret_port = port;
			return true;
		}
	}
	return false;
}

int streams_connect(struct streams *t, uint32_t peer_port, uint32_t local_cid, uint32_t local_port,
		    uint64_t timeout_ns, void *end, struct stream **ret_stream)
{
	struct stream *s;
	int32_t sent;
	int r;

	if (peer_port == VMCI_PORT_ANY)
		return -EINVAL;
	if (local_port == VMCI_PORT_ANY ? !find_local_port(t, peer_port, local_cid, &local_port)
					: stream_find(t, peer_port, local_cid, local_port) != NULL)
		return -EADDRINUSE;
	r = stream_new(t, peer_port, local_cid, local_port, &s);
	if (r)
		return r;
	s->state = STREAM_REQUESTED;
	s->end = end;
	s->sent_request2 = !t->config.legacy;
	if (s->sent_request2)
		sent = stream_send(s, PACKET_REQUEST2, streams_ring_size(t), 0, VMCI_STREAM_PROTO_QSTATE);
	else
		sent = stream_send(s, PACKET_REQUEST, streams_ring_size(t), 0, 0);
	if (sent <= 0) {
		stream_free(s);
		return sent == VMCI_ERROR_NO_RESOURCES ? -ENOBUFS : -EHOSTUNREACH;
	}
	stream_arm(s, timeout_ns ? timeout_ns : LIMIT_CONNECT_NS);
	*ret_stream = s;
	return 0;
}

/* Our side closes: no packet, the peer learns it from the detach (10.2). The end has had its last call. */
static void detach_and_free(struct stream *s)
{
	if (s->state == STREAM_OFFERED || s->state == STREAM_CONNECTED || s->state == STREAM_CLOSING)
		s->t->ports.qp_detach(s->t->ports.ctx, s->handle);
	stream_free(s);
}

/* Is there something that the peer can still read? */
static bool has_unread(struct stream *s)
{
	uint64_t unread;

	if (s->peer_down & VMCI_SHUTDOWN_RECEIVE || s->unpublished)
		return false;
	return !qp_unread(&s->qp, &unread) && unread;
}

/* Look whether the peer has read everything, and if not, look again later. */
static void check_closing(struct stream *s)
{
	uint64_t now = s->t->ports.now(s->t->ports.ctx);

	if (s->fresh && now < s->fresh_at) {
		stream_arm(s, s->fresh_at - now);
		return;
	}
	if (s->fresh) {
		s->fresh = false;
		pump_flush(s);
	}
	s->closing_ns *= 2;
	if (!has_unread(s) || s->closing_ns > CLOSING_MAX_NS)
		detach_and_free(s);
	else
		stream_arm(s, s->closing_ns);
}

static void run_timers(struct streams *t, uint64_t now)
{
	struct stream *s;

	while ((s = TAILQ_FIRST(&t->timers)) && s->deadline <= now) {
		if (s->state == STREAM_CLOSING)
			check_closing(s);
		else if (s->state == STREAM_CONNECTED)
			pump_refresh(s);
		else
			handshake_timeout(s);
	}
}

static void run_owing(struct streams *t, uint64_t now)
{
	struct stream *s, *next;

	if (TAILQ_EMPTY(&t->owing) || now < t->retry_at)
		return;
	for (s = TAILQ_FIRST(&t->owing); s; s = next) {
		next = TAILQ_NEXT(s, owing);
		pump_flush(s);
	}
	t->retry_at = now + RETRY_NS;
}

void streams_room(struct streams *t)
{
	t->retry_at = 0;
}

bool streams_run(struct streams *t)
{
	uint64_t now = t->ports.now(t->ports.ctx);
	struct stream *s;

	run_timers(t, now);
	run_owing(t, now);

	/* One turn for each that is waiting now; what they queue during it waits for the next. */
	for (size_t n = t->run_count; n && (s = TAILQ_FIRST(&t->run)); n--) {
		stream_unqueue(s);
		if (s->state == STREAM_CONNECTED)
			pump_run(s);
	}
	return !TAILQ_EMPTY(&t->run);
}

bool streams_poll(struct streams *t)
{
	struct stream *s, *next;
	uint64_t now;

	if (TAILQ_EMPTY(&t->hot))
		return !TAILQ_EMPTY(&t->run);
	now = t->ports.now(t->ports.ctx);
	for (s = TAILQ_FIRST(&t->hot); s; s = next) {
		next = TAILQ_NEXT(s, hot);
		if (!pump_poll(s, now)) {
			TAILQ_REMOVE(&t->hot, s, hot);
			s->on &= ~ON_HOT;
		}
	}
	return !TAILQ_EMPTY(&t->hot) || !TAILQ_EMPTY(&t->run);
}

uint64_t streams_rest(const struct streams *t)
{
	const struct stream *s;
	uint64_t now, rest = UINT64_MAX;

	if (!TAILQ_EMPTY(&t->run) || TAILQ_EMPTY(&t->hot))
		return 0;
	now = t->ports.now(t->ports.ctx);
	TAILQ_FOREACH(s, &t->hot, hot) {
		if (pump_rest(s, now) < rest)
			rest = pump_rest(s, now);
		if (!rest)
			break;
	}
	return rest;
}

uint64_t streams_deadline(const struct streams *t)
{
	const struct stream *first = TAILQ_FIRST(&t->timers);
	uint64_t deadline = first ? first->deadline : UINT64_MAX;

	if (!TAILQ_EMPTY(&t->owing) && t->retry_at < deadline)
		deadline = t->retry_at;
	return deadline;
}

/* Call @fn for every stream; @fn may free it. */
static void for_each(struct streams *t, void (*fn)(struct stream *s))
{
	for (unsigned i = 0; i < STREAM_BUCKETS; i++) {
		struct stream *s = LIST_FIRST(&t->bucket[i]), *next;

		for (; s; s = next) {
			next = LIST_NEXT(s, hash);
			fn(s);
		}
	}
}

static void unpark(struct stream *s)
{
	if (s->parked) {
		s->parked = false;
		stream_queue(s);
	}
}

void streams_memory_changed(struct streams *t)
{
	for_each(t, unpark);
}

/* As when the peer goes, but nobody else has taken our end of the queue pair away, or will. */
static void end_stream(struct stream *s)
{
	struct streams *t = s->t;
	struct vmci_handle handle = s->handle;

	if (s->state == STREAM_OFFERED) {
		handshake_fail(s, -ECONNRESET);
	} else if (s->state == STREAM_CONNECTED || s->state == STREAM_CLOSING) {
		stream_peer_gone(s);
		t->ports.qp_detach(t->ports.ctx, handle);
	} else {
		stream_peer_gone(s);
	}
}

void streams_reset(struct streams *t)
{
	for_each(t, end_stream);
}

uint32_t stream_local_cid(const struct stream *s)
{
	return s->local_cid;
}

uint32_t stream_local_port(const struct stream *s)
{
	return s->local_port;
}

uint32_t stream_peer_port(const struct stream *s)
{
	return s->peer_port;
}

void stream_readable(struct stream *s)
{
	s->readable = true;
	if (s->state != STREAM_CONNECTED)
		return;
	/* What is at rest is looked at when it is time (pump_poll()). */
	if (s->on & ON_HOT && s->flow_in && !s->eof && pump_rest(s, s->t->ports.now(s->t->ports.ctx)))
		return;
	stream_queue(s);
}

void stream_writable(struct stream *s)
{
	s->writable = true;
	if (s->state == STREAM_CONNECTED)
		stream_queue(s);
}

/* Our program has gone from a connected stream. The end has had its last call. */
static void close_connected(struct stream *s)
{
	struct streams *t = s->t;

	s->end = NULL;
	if (!has_unread(s) && !s->fresh) {
		detach_and_free(s);
		return;
	}
	stream_unqueue(s);
	if (s->on & ON_HOT)
		TAILQ_REMOVE(&t->hot, s, hot);
	s->on &= ~ON_HOT;
	s->state = STREAM_CLOSING;
	pump_announce(s, VMCI_SHUTDOWN_BOTH);
	pump_flush(s);
	s->closing_ns = CLOSING_MIN_NS;
	stream_arm(s, s->closing_ns);
}

void stream_closing_packet(struct stream *s, const struct packet *p)
{
	s->fresh = false;
	if (p->type == PACKET_SHUTDOWN)
		s->peer_down |= p->arg & VMCI_SHUTDOWN_BOTH;
	pump_flush(s);
	if (p->type == PACKET_RST || !has_unread(s))
		detach_and_free(s);
}

void stream_abort(struct stream *s)
{
	stream_log(s, LOG_LEVEL_DEBUG, "aborted by its end");
	if (s->state == STREAM_CONNECTED) {
		close_connected(s);
		return;
	}
	/* A peer that awaits our OFFER or ATTACH has no queue pair whose detach it could see. */
	stream_send(s, PACKET_RST, 0, 0, 0);
	detach_and_free(s);
}

void stream_close(struct stream *s)
{
	stream_log(s, LOG_LEVEL_DEBUG, "closed");
	s->t->ports.end->close(s->end);
	close_connected(s);
}

/* Something is wrong with the stream or its peer: RST, and away with it. */
void stream_reset(struct stream *s, const char *why)
{
	stream_log(s, LOG_LEVEL_INFO, "reset: %s", why);
	stream_send(s, PACKET_RST, 0, 0, 0);
	s->t->ports.end->close(s->end);
	detach_and_free(s);
}

void stream_peer_gone(struct stream *s)
{
	switch (s->state) {
	case STREAM_CONNECTED:
		stream_log(s, LOG_LEVEL_DEBUG, "peer gone");
		pump_peer_gone(s);
		stream_free(s);
		break;
	case STREAM_CLOSING:
		stream_free(s);
		break;
	case STREAM_OFFERED:
		/* The host's end of the queue pair went with the peer's: nothing is left to detach. */
		s->state = STREAM_REQUESTED;
		/* fall through */
	case STREAM_REQUESTED:
		handshake_fail(s, -ECONNRESET);
		break;
	default:
		s->t->ports.end->close(s->end);
		stream_free(s);
		break;
	}
}
