/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * DOC: Theory of operation
 *
 * A connected stream has two directions that know nothing of each other:
 *
 *	out:	the ring that the peer produces into  ->  send() of the end
 *	in:	recv() of the end  ->  the ring that we produce into
 *
 * Payload is moved straight between ring pages and the end. The rings carry no notification; there
 * are two ways to learn of the peer's moves and to tell it of ours (transport reference, 8 and 9):
 *
 *	queue state	each side judges from the ring whether the other may sleep: WROTE after the ring was
 *			empty, READ after the ring was full.
 *	packet		each side says before it sleeps: WAITING_READ asks for a WROTE, WAITING_WRITE for a READ.
 *
 * The lost wake-up, in one place. A side that publishes a position and then decides on a notification
 * does: store, full barrier, load the other's position. A side that is about to sleep does: store what
 * it has not published yet, full barrier, load the other's position again, and sleeps only if there is
 * still nothing. One of the two loads then sees the other's store. In this file publishing is followed
 * by the barrier at once (show(), produce()), so every later load of a position comes after it.
 *
 * Polling. A stream whose ring ran empty stays *hot* for a short time: its owner looks at the ring
 * again and again instead of sleeping. While it is hot, the position that we show to the peer lags one
 * byte behind, so to the peer the ring is not empty, and it sends no WROTE: that saves it the
 * exits that a datagram costs. Before we stop polling we show the true position, and look once more.
 *
 * Likewise in the other direction: while we poll, one byte of our ring stays free, so to the peer it was never full,
 * and it sends no READ when it takes something out. Before we stop polling we fill the ring to its last byte.
 *
 * Rest. Who polls has a processor, which on a busy machine is the one that the peer needs to go on. As long as bytes go
 * in one direction only, nobody waits for an answer: such a stream is not looked at all the time, but rests between two
 * looks, and its owner may sleep. Each look counts as ten microseconds of polling at most, so it stays hot for longer.
 */
#include "proto/stream_priv.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"

/* A quiet stream is polled for this part of the full time. */
#define SPIN_SHRINK_MAX 16

/*
 * A peer, or a program, that writes few bytes at a time, again and again and without an answer, rests after each turn:
 * each look at a ring takes a cache line away from the peer, each write to a sleeper costs a wake-up, and each
 * turn wakes the reader. Once it is known to trickle, more may have gathered between two looks.
 */
#define TRICKLE_BYTES 2048u
#define TRICKLE_BYTES_MORE 16384u

/* Turns in one direction that make a flow, or a trickle. */
#define FLOW_TURNS 8u

/*
 * A flow is looked at as often as we can for a moment after bytes moved, since a fast peer goes on at once. Then it is
 * given time: much less than it needs to fill its ring; and where our ring is full, as little as there is, since it may
 * run dry.
 */
#define FLOW_SPIN_NS 10000u
#define FLOW_REST_NS 50000u
#define FLOW_ROOM_REST_NS 1000u

/* A hot stream whose ring was full goes on when this part of it is free. */
#define ROOM_PART 8

/* Time between two looks at a hot stream beyond which we were not looking, but not running. */
#define LOOK_MAX_NS 10000u

/*
 * Is the stream polled at all? Not with packet notification: each side asks for each notification there, so there is
 * nothing to be saved, and Linux guests were seen to forget to ask when they were answered too fast.
 */
static bool can_poll(const struct stream *s)
{
	return s->t->config.spin_ns && s->qstate;
}

static void full_barrier(void)
{
	atomic_thread_fence(memory_order_seq_cst);
}

/* --- Packets that we owe ------------------------------------------------------------- */

static const struct {
	unsigned owe;
	unsigned type;
} owed_packet[] = {
	{ OWE_WROTE, PACKET_WROTE },
	{ OWE_READ, PACKET_READ },
	{ OWE_WAITING_READ, PACKET_WAITING_READ },
	{ OWE_WAITING_WRITE, PACKET_WAITING_WRITE },
	{ OWE_SHUTDOWN, PACKET_SHUTDOWN },
};

/* Where, and in which generation of the ring, we wait (8.4). Receivers store it and look no further. */
static void wait_info(const struct stream *s, unsigned type, uint64_t *ret_gen, uint64_t *ret_offset)
{
	uint64_t left;

	if (type == PACKET_WAITING_READ) {
		left = s->qp.consume_size - s->qp.head;
		*ret_offset = left <= 1 ? 1 - left : s->qp.head + 1;
		*ret_gen = left <= 1 ? s->gen_c + 1 : s->gen_c;
	} else {
		left = s->qp.produce_size - s->qp.tail;
		*ret_offset = left <= 2 ? 2 - left : s->qp.tail + 2;
		*ret_gen = left <= 2 ? s->gen_p : s->gen_p - 1;
	}
}

/* Send what is owed, as far as the peer takes it. */
void pump_flush(struct stream *s)
{
	struct streams *t = s->t;

	if (s->fresh)
		return;		/* again when it is not */
	for (size_t i = 0; i < sizeof(owed_packet) / sizeof(owed_packet[0]); i++) {
		unsigned type = owed_packet[i].type;
		uint64_t arg = 0, offset = 0;

		if (!(s->owed & owed_packet[i].owe))
			continue;
		if (type == PACKET_WAITING_READ || type == PACKET_WAITING_WRITE)
			wait_info(s, type, &arg, &offset);
		else if (type == PACKET_SHUTDOWN)
			arg = s->own_down;
		if (stream_send(s, type, arg, offset, 0) <= 0)
			break;
		s->owed &= ~owed_packet[i].owe;
	}

	if (s->owed && !(s->on & ON_OWING)) {
		if (TAILQ_EMPTY(&t->owing))
			t->retry_at = t->ports.now(t->ports.ctx);
		TAILQ_INSERT_TAIL(&t->owing, s, owing);
		s->on |= ON_OWING;
	} else if (!s->owed && s->on & ON_OWING) {
		TAILQ_REMOVE(&t->owing, s, owing);
		s->on &= ~ON_OWING;
	}
}

/* Our directions @how end: the peer is told in the next pump_flush(). */
void pump_announce(struct stream *s, unsigned how)
{
	if ((s->own_down & how) == how)
		return;
	s->own_down |= how;
	s->owed |= OWE_SHUTDOWN;
}

/* --- Out: from the peer's ring to the end --------------------------------------------- */

/* Publish our read position but for @lag bytes, and note whether the peer may wait for that room. */
static int show(struct stream *s, uint64_t lag)
{
	uint64_t n = qp_unshown(&s->qp), room;
	int r;

	if (n > lag) {
		n -= lag;
		r = qp_show(&s->qp, lag);
		if (r)
			return r;
		full_barrier();
		if (s->qstate) {
			/* Where we cannot see whether the peer waits, it is told: that does no harm. */
			r = qp_shown_free(&s->qp, &room);
			if (r || room == n)
				s->owed |= OWE_READ;
			if (r)
				return r;
		}
	}
	return 0;
}

/* Packet notification: answer WAITING_WRITE and WAITING_READ as soon as there is room, or data (8.1). */
static int answer_waiting(struct stream *s)
{
	uint64_t n;
	int r;

	if (s->wants_room) {
		r = qp_shown_free(&s->qp, &n);
		if (r)
			return r;
		if (n) {
			s->wants_room = false;
			s->owed |= OWE_READ;
		}
	}
	if (s->wants_data) {
		r = qp_unread(&s->qp, &n);
		if (r)
			return r;
		if (n) {
			s->wants_data = false;
			s->owed |= OWE_WROTE;
		}
	}
	return 0;
}

/* Pass on that the peer will not send, once everything that it sent has been passed on. */
static void pass_end(struct stream *s)
{
	if (!(s->peer_down & VMCI_SHUTDOWN_SEND) || s->passed_down & VMCI_SHUTDOWN_SEND)
		return;
	s->passed_down |= VMCI_SHUTDOWN_SEND;
	s->t->ports.end->shutdown(s->end, VMCI_SHUTDOWN_SEND);
}

static void consume(struct stream *s, uint64_t n)
{
	if (n >= s->qp.consume_size - s->qp.head)
		s->gen_c++;
	qp_consume(&s->qp, n);
}

/*
 * One turn of the out direction. Returns 1: more to do; 0: nothing to do before an event;
 * negative errno: -EFAULT, -EBADMSG (the ring).
 */
static int pump_out(struct stream *s, uint64_t *ret_moved)
{
	const struct stream_end_ops *end = s->t->ports.end;
	struct mem_span span[QP_MAX_SPANS];
	uint64_t budget = LIMIT_TURN_BYTES, ready;
	ssize_t n;
	int r;

	while (s->writable || s->deaf) {
		r = qp_ready(&s->qp, &ready);
		if (r)
			return r;
		if (!ready) {
			pass_end(s);
			return 0;
		}
		if (!budget)
			return 1;
		if (s->deaf) {
			/* A hostile peer moves its position as fast as we look at it. */
			consume(s, ready);
			*ret_moved += ready;
			budget -= ready < budget ? ready : budget;
			continue;
		}
		r = qp_read_spans(&s->qp, ready < budget ? ready : budget, span, QP_MAX_SPANS);
		if (r < 0)
			return r;
		n = end->send(s->end, span, r);
		if (n > 0) {
			consume(s, (uint64_t)n);
			*ret_moved += (uint64_t)n;
			budget -= (uint64_t)n;
		} else if (n == -EAGAIN) {
			s->writable = false;
		} else if (n == -EFAULT) {
			return -EFAULT;
		} else {
			/* Nobody reads any more: the peer's writes must fail from now on. */
			s->deaf = true;
			pump_announce(s, VMCI_SHUTDOWN_RECEIVE);
		}
	}
	return 0;
}

/* --- In: from the end to our ring ------------------------------------------------------- */

/* Pass on that the peer will not receive: what our program still writes has nowhere to go. */
static void pass_deaf(struct stream *s)
{
	if (!(s->peer_down & VMCI_SHUTDOWN_RECEIVE) || s->passed_down & VMCI_SHUTDOWN_RECEIVE)
		return;
	s->passed_down |= VMCI_SHUTDOWN_RECEIVE;
	s->eof = true;
	s->t->ports.end->shutdown(s->end, VMCI_SHUTDOWN_RECEIVE);
}

/* Bytes of room that we leave as long as we poll: see "Polling" above. */
static uint64_t reserve(const struct stream *s)
{
	return can_poll(s) && !s->fill ? 1 : 0;
}

static int produce(struct stream *s, uint64_t n)
{
	uint64_t unread;
	int r;

	if (n >= s->qp.produce_size - s->qp.tail)
		s->gen_p++;
	r = qp_produce(&s->qp, n);
	if (r) {
		s->unpublished = true;
		return r;
	}
	full_barrier();
	/*
	 * With packet notification, too: a Linux guest that has read what a WROTE announces before it handles that WROTE goes
	 * to sleep without asking again.
	 */
	r = qp_unread(&s->qp, &unread);
	if (r || unread == n)
		s->owed |= OWE_WROTE;
	return r;
}

/* Show the peer what was taken from the end when the header's page was not mapped. */
static int publish(struct stream *s)
{
	int r;

	if (!s->unpublished)
		return 0;
	r = qp_produce(&s->qp, 0);
	if (r)
		return r;
	s->unpublished = false;
	s->owed |= OWE_WROTE;
	full_barrier();
	return 0;
}

/* One turn of the in direction; returns as pump_out(), and -ESHUTDOWN: the end is gone and drained. */
static int pump_in(struct stream *s, uint64_t *ret_moved)
{
	const struct stream_end_ops *end = s->t->ports.end;
	struct mem_span span[QP_MAX_SPANS];
	uint64_t budget = LIMIT_TURN_BYTES, room;
	ssize_t n;
	int r = publish(s);

	if (r)
		return r;
	while (s->readable && !s->eof) {
		r = qp_free(&s->qp, &room);
		if (r)
			return r;
		if (room <= reserve(s)) {
			if (!room && !s->qstate && !s->sent_ww) {
				s->sent_ww = true;
				s->owed |= OWE_WAITING_WRITE;
			}
			return 0;
		}
		room -= reserve(s);
		if (!budget)
			return 1;
		r = qp_write_spans(&s->qp, room < budget ? room : budget, span, QP_MAX_SPANS);
		if (r < 0)
			return r;
		n = end->recv(s->end, span, r);
		if (n > 0) {
			r = produce(s, (uint64_t)n);
			if (r)
				return r;
			budget -= (uint64_t)n;
			*ret_moved += (uint64_t)n;
		} else if (n == -EAGAIN) {
			s->readable = false;
		} else if (n == 0) {
			s->eof = true;
			pump_announce(s, VMCI_SHUTDOWN_SEND);
		} else if (n == -EFAULT) {
			return -EFAULT;
		} else {
			return -ESHUTDOWN;
		}
	}
	if (s->eof && s->readable) {
		/* Half-closed before: has the other half gone, too? */
		s->readable = false;
		n = end->recv(s->end, span, 0);
		if (n < 0 && n != -EAGAIN)
			return -ESHUTDOWN;
	}
	return 0;
}

/* --- Both --------------------------------------------------------------------------------- */

/* The rings are quiet, and we stop looking. Returns 1 if there is something after all. */
static int cool_down(struct stream *s)
{
	uint64_t ready;
	int r = show(s, 0);

	if (!r)
		r = qp_ready(&s->qp, &ready);
	if (r)
		return r;
	if (ready && (s->writable || s->deaf))
		return 1;
	if (reserve(s) && s->readable && !s->eof) {
		/* Fill the ring to its last byte: only then the peer tells us of room. */
		s->fill = true;
		return 1;
	}
	if (!s->qstate && !ready && !s->sent_wr && !s->fresh) {
		s->sent_wr = true;
		s->owed |= OWE_WAITING_READ;
	}
	return 0;
}

/* The ring or its memory is not usable. */
static void give_up(struct stream *s, int error)
{
	if (error == -EFAULT) {
		stream_log(s, LOG_LEVEL_DEBUG, "memory not mapped: waiting for it");
		s->parked = true;
		return;
	}
	stream_reset(s, "ring index out of range");
}

/* Another guest has to be woken, and may have to be let run, before it answers. Programs in contexts of theirs are few. */
static uint64_t full_wait(const struct stream *s)
{
	return s->local_cid == VMCI_CID_HOST ? s->t->config.spin_ns : 2 * s->t->config.spin_ns;
}

/*
 * Bytes moved: poll for a while. A stream whose last wait was worth it is waited for in full; for one that
 * came later than that, the wait is halved each time, so that a quiet stream costs next to nothing. A flow, which rests
 * between two looks, is always waited for in full.
 */
static void stay_hot(struct stream *s, uint64_t now)
{
	uint64_t full = full_wait(s);

	if (s->on & ON_HOT || s->flow >= FLOW_TURNS || now - s->active_at <= full) {
		s->spin_ns = full;
	} else {
		s->trickle = 0;
		if (s->spin_ns / 2 >= full / SPIN_SHRINK_MAX)
			s->spin_ns /= 2;
	}
	s->fill = false;
	s->active_at = now;
	s->looked_at = now;
	s->hot_left = s->spin_ns;
}

/* Count the turns in which bytes moved in the same direction, and in which they were few. */
static void count_flow(struct stream *s, uint64_t moved_out, uint64_t moved_in)
{
	uint64_t most = s->trickle < FLOW_TURNS ? TRICKLE_BYTES : TRICKLE_BYTES_MORE;

	if (!moved_out && !moved_in)
		return;
	if ((moved_out && moved_in) || s->flow_in != !!moved_in)
		s->flow = s->trickle = 0;
	if (!moved_out || !moved_in)
		s->flow++;
	s->trickle = s->flow && moved_out + moved_in < most ? s->trickle + 1 : 0;
	s->flow_in = moved_in;
}

/*
 * Count the time since the last look, and say whether the wait is over. On a busy machine we may not run for
 * milliseconds; that was no waiting, and asking the peer for notifications then would make it wait for us as long.
 */
static bool is_wait_over(struct stream *s, uint64_t now)
{
	uint64_t looked = now - s->looked_at < LOOK_MAX_NS ? now - s->looked_at : LOOK_MAX_NS;

	s->looked_at = now;
	if (s->hot_left <= looked)
		return true;
	s->hot_left -= looked;
	return false;
}

/*
 * A Linux client handles ATTACH in a work item, as it does the packets behind it while it is not connected. Where that
 * item waits for the socket's lock, which the one that sent OFFER still holds, the next one overtakes it, and the client
 * takes what comes before ATTACH for an error. So whatever we have to say waits a moment: bytes are in the ring meanwhile,
 * where a program that is not asleep yet finds them.
 */
static void start_fresh(struct stream *s)
{
	uint64_t now = s->t->ports.now(s->t->ports.ctx), wait;

	if (!mul64(now - s->fresh_at, LIMIT_FRESH_TIMES, &wait) || wait > LIMIT_FRESH_MAX_NS)
		wait = LIMIT_FRESH_MAX_NS;
	if (wait < LIMIT_FRESH_MIN_NS)
		wait = LIMIT_FRESH_MIN_NS;
	s->fresh = true;
	s->fresh_at = now + wait;
	stream_arm(s, wait);
}

/* Has the peer used its rings? Then it is connected. */
static bool has_moved(struct stream *s)
{
	uint64_t ready, unread;

	return (!qp_ready(&s->qp, &ready) && ready) || (!qp_unread(&s->qp, &unread) && unread != s->qp.tail);
}

void pump_refresh(struct stream *s)
{
	if (!s->fresh)
		return;
	s->fresh = false;
	s->active_at = s->t->ports.now(s->t->ports.ctx);
	stream_disarm(s);
	stream_queue(s);
}

void pump_run(struct stream *s)
{
	struct streams *t = s->t;
	uint64_t moved_out = 0, moved_in = 0;
	bool hot = can_poll(s);
	bool moved;
	int out, in;

	if (s->parked)
		return;
	if (s->fresh && has_moved(s))
		pump_refresh(s);
	out = pump_out(s, &moved_out);
	if (out < 0) {
		give_up(s, out);
		return;
	}
	in = pump_in(s, &moved_in);
	if (in == -ESHUTDOWN) {
		stream_close(s);
		return;
	}
	if (in < 0) {
		give_up(s, in);
		return;
	}
	/* Bytes that our program wrote, and that found room, are no reason to poll: the next ones wake us. Not too often. */
	count_flow(s, moved_out, moved_in);
	moved = moved_out || (moved_in && (s->readable || s->trickle >= FLOW_TURNS));
	if (out == 0) {
		if (hot && moved)
			stay_hot(s, t->ports.now(t->ports.ctx));
		if (hot && (moved || s->on & ON_HOT) && s->writable) {
			out = show(s, 1);
			if (!out && !(s->on & ON_HOT)) {
				TAILQ_INSERT_TAIL(&t->hot, s, hot);
				s->on |= ON_HOT;
			}
		} else {
			out = cool_down(s);
		}
	} else {
		int r = show(s, 0);

		out = r ? r : out;
	}
	if (out >= 0) {
		int r = answer_waiting(s);

		out = r ? r : out;
	}
	if (out < 0) {
		give_up(s, out);
		return;
	}
	if (s->owed)
		pump_flush(s);
	if (out || in)
		stream_queue(s);
}

/* How long a hot stream rests between two looks: a part of the time for which it is polled at most. */
static uint64_t rest_ns(const struct stream *s, uint64_t now)
{
	bool trickles = s->trickle >= FLOW_TURNS;

	if (s->flow < FLOW_TURNS || (!trickles && now - s->active_at < FLOW_SPIN_NS))
		return 0;
	if (!trickles && s->flow_in)
		return s->readable ? FLOW_ROOM_REST_NS : 0;
	return s->t->config.spin_ns / 4 < FLOW_REST_NS ? s->t->config.spin_ns / 4 : FLOW_REST_NS;
}

uint64_t pump_rest(const struct stream *s, uint64_t now)
{
	uint64_t until = s->looked_at + rest_ns(s, now);

	return now < until ? until - now : 0;
}

/* Look at a hot stream. Returns false when it has cooled down. */
bool pump_poll(struct stream *s, uint64_t now)
{
	uint64_t n = 0;
	int r = 0;

	if (s->on & ON_RUN || s->parked)
		return !s->parked;
	if (pump_rest(s, now))
		return true;
	/* What nobody takes at present is no reason to go on. */
	if (s->writable || s->deaf)
		r = qp_ready(&s->qp, &n);
	if (!r && !n && s->readable && !s->eof) {
		/* Our ring was full. There is no hurry as long as most of it still waits to be read. */
		r = qp_free(&s->qp, &n);
		if (!r && n < s->qp.produce_size / ROOM_PART)
			n = 0;
	}
	if (r || n) {
		stream_queue(s);
		return true;
	}
	if (!is_wait_over(s, now))
		return true;
	r = cool_down(s);
	if (r)
		stream_queue(s);
	if (s->owed)
		pump_flush(s);
	return false;
}

void pump_start(struct stream *s, bool as_server)
{
	if (as_server)
		start_fresh(s);
	s->spin_ns = full_wait(s);
	s->active_at = s->t->ports.now(s->t->ports.ctx);
	stream_log(s, LOG_LEVEL_DEBUG, "connected, %s notification, rings of %u bytes", s->qstate ? "queue-state" : "packet",
		   s->size);
	stream_queue(s);
}

void pump_packet(struct stream *s, const struct packet *p)
{
	pump_refresh(s);
	switch (p->type) {
	case PACKET_WROTE:
		s->sent_wr = false;
		break;
	case PACKET_READ:
		s->sent_ww = false;
		break;
	case PACKET_WAITING_READ:
		if (s->qstate)
			return;
		s->wants_data = true;
		break;
	case PACKET_WAITING_WRITE:
		if (s->qstate)
			return;
		s->wants_room = true;
		break;
	case PACKET_SHUTDOWN:
		s->peer_down |= p->arg & VMCI_SHUTDOWN_BOTH;
		pass_deaf(s);
		break;
	case PACKET_RST:
		/* As if the peer had shut down both ways: what it wrote stays readable (10.4). */
		s->peer_down = VMCI_SHUTDOWN_BOTH;
		pass_deaf(s);
		break;
	default:
		return;	/* ignored silently (9.4) */
	}
	stream_queue(s);
}

void pump_peer_gone(struct stream *s)
{
	struct mem_span span[QP_MAX_SPANS];
	uint64_t ready = 0;
	uint8_t *data = NULL;
	size_t len = 0;

	if (!s->deaf && !qp_ready(&s->qp, &ready) && ready)
		data = malloc((size_t)ready);
	while (data && len < ready) {
		int n = qp_read_spans(&s->qp, ready - len, span, QP_MAX_SPANS);
		size_t start = len;

		for (int i = 0; i < n; i++) {
			memcpy(data + len, span[i].base, span[i].len);
			len += span[i].len;
		}
		if (len == start)
			break;
		qp_consume(&s->qp, len - start);
	}
	if (!len) {
		free(data);
		data = NULL;
	}
	if (len < ready)
		stream_log(s, LOG_LEVEL_WARN, "%llu bytes that the peer wrote last are lost",
			   (unsigned long long)(ready - len));
	s->t->ports.end->finish(s->end, data, len);
}
