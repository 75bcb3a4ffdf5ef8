/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * DOC: Theory of operation
 *
 *	guest's rings (pages in its memory, struct qp)  <--- bridge --->  struct ring (a memfd that the peer maps, too)
 *
 * Each direction is a ring at either side, of the same size, and bytes are copied from the one to the other as far as
 * there is room. What the two ends see is what they would see in one shared ring, but for two things: a direction holds
 * up to twice its size, and bytes arrive a little later than they were written.
 *
 *	OFFERED		the guest made the pair, a peer was given the memory; it says hello when it has mapped it
 *	OPEN		both ends are there
 *	PEER_LEFT	what the peer had written is copied to the guest as it makes room; then the guest is told
 *	GUEST_LEFT	what the guest had written and the ring had no room for (@rest) is copied to the peer as it
 *			makes room; then the peer sees the end. The guest's memory is gone: it is never touched
 *	DONE		both ends are gone; vmcid is to be told
 *
 * How it learns of moves. The peer's are easy: it asks to be woken and wakes us, by its life socket (fabric/ring.h). A
 * guest tells nobody when it moves an index (VMCI reference, 7.1); what it does tell of is a doorbell or a
 * datagram, and before one of these passes, in either direction, everything written before it is copied
 * (bridges_cross()). So a pair whose ends use those never waits. For the others the guest's indices are looked at:
 * without sleeping for the time that streams are polled after the last byte (hot), then at intervals that double
 * (warm), and when nothing has happened for a long time (idle) rarely. What that costs: limits.h.
 *
 * A bridge stands in one of five lists, which say when it has its next turn: these three, one for those that wait for
 * somebody else to call (OFFERED, GUEST_LEFT, and those whose guest memory is not mapped at present), and one for DONE.
 * For a peer that does not come, or does not read what the guest wrote last, nobody waits for ever.
 *
 * Direct pairs (@loan): a trusted peer has the guest's pages themselves, so there is nothing to copy, and the ring is there
 * for its life socket only. When the peer goes to sleep it says so by that, and as long as it sleeps the guest's indices
 * are looked at for it, in the same lists and at the same intervals; else the bridge is in WAITING. When the peer has
 * left, the guest is told at once: all is with it. When the guest leaves, the peer gets what it has not read in one piece.
 * When the VMM unmaps a page of it, both are told that the other has left.
 *
 * Fairness: the hot ones take turns, each with a bounded number of bytes for either direction, and all of them
 * together have a bound for one round, so that other event sources have their turn.
 */
#include "bridge.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/queue.h>

#include "base/closer.h"
#include "base/fd.h"
#include "base/log.h"
#include "fabric/ring.h"
#include "proto/limits.h"

enum state {
	OFFERED,
	OPEN,
	PEER_LEFT,
	GUEST_LEFT,
	DONE,
};

/* The lists. */
enum place {
	HOT,
	WARM,
	IDLE,
	WAITING,
	LEFT,
	PLACES,
};

TAILQ_HEAD(bridge_list, bridge);

/**
 * struct bridge - a pair
 * @hold:      who and how large, as the guest sees it
 * @must_hold: vmcid has not been told, see bridges_next_hold()
 * @active_at: when bytes were moved last; of PEER_LEFT, or when it began
 * @look_at, @interval: WARM and IDLE: when to look next, and how long after the last time that is; OFFERED and GUEST_LEFT:
 *             when the peer has had its time
 * @full:      the last turn found bytes of the guest, and no room for them at the peer's side
 * @stuck:     the other way round
 * @parked:    the guest's memory is not there now
 * @unpublished: bytes were put into the guest's ring, and the index could not be
 * @rest:      what the guest wrote last
 * @is_direct: the peer wants the guest's pages
 * @loan:      it has them
 */
struct bridge {
	TAILQ_ENTRY(bridge) link;
	struct bridges *bridges;
	struct bridge_hold hold;
	struct ring *ring;
	sd_event_source *io;
	struct qp qp;
	enum state state;
	enum place place;
	bool must_hold;
	bool full;
	bool stuck;
	bool parked;
	bool unpublished;
	uint64_t active_at;
	uint64_t look_at;
	uint64_t interval;
	uint8_t *rest;
	size_t rest_len;
	size_t rest_off;
	bool is_direct;
	struct loan *loan;
};

/**
 * struct bridges - all of a guest's
 * @lists:     every bridge is in one
 * @next:      of WARM, IDLE and WAITING: when the first of them is to be looked at, or earlier
 * @count:     bridges in all lists
 * @lingering: bytes of all @rest that are not written yet
 * @holding:   bridges_next_hold() may find something
 * @loans:     bridges that have one
 */
struct bridges {
	sd_event *event;
	struct bridges_ports ports;
	uint32_t cid;
	uint64_t spin_ns;
	struct bridge_list lists[PLACES];
	uint64_t next[PLACES];
	unsigned count;
	size_t lingering;
	bool holding;
	unsigned loans;
	void (*idle)(void *ctx);
	void *idle_ctx;
};

static uint64_t now(const struct bridges *bs)
{
	return bs->ports.now(bs->ports.ctx);
}

static void say(const struct bridge *b, const char *what)
{
	log_debug("cid %u: queue pair %u:%u with context %u: %s", b->bridges->cid, b->hold.handle.context,
		  b->hold.handle.resource, b->hold.context, what);
}

/* --- Lists ------------------------------------------------------------------------------------------------ */

static void move(struct bridge *b, enum place place)
{
	TAILQ_REMOVE(&b->bridges->lists[b->place], b, link);
	TAILQ_INSERT_TAIL(&b->bridges->lists[place], b, link);
	b->place = place;
}

/* Look again after @interval. */
static void schedule(struct bridge *b, enum place place, uint64_t interval, uint64_t t)
{
	move(b, place);
	b->interval = interval;
	b->look_at = t + interval;
	if (b->look_at < b->bridges->next[place])
		b->bridges->next[place] = b->look_at;
}

static void heat(struct bridge *b)
{
	if (b->place == HOT)
		return;
	ring_disarm(b->ring, RING_IN | RING_OUT);
	move(b, HOT);
}

static struct bridge *add(struct bridges *bs, const struct bridge_hold *hold, enum state state)
{
	struct bridge *b = calloc(1, sizeof(*b));

	if (!b)
		return NULL;
	b->bridges = bs;
	b->hold = *hold;
	b->state = state;
	b->place = WAITING;
	TAILQ_INSERT_TAIL(&bs->lists[WAITING], b, link);
	bs->count++;
	return b;
}

static void drop_rest(struct bridge *b)
{
	b->bridges->lingering -= b->rest_len - b->rest_off;
	free(b->rest);
	b->rest = NULL;
	b->rest_len = b->rest_off = 0;
}

/* The peer sees the end, and nothing of ours is left. */
static void done(struct bridge *b)
{
	b->io = sd_event_source_disable_unref(b->io);
	if (b->loan)
		b->bridges->loans--;
	b->loan = loan_free(b->loan);
	if (b->ring)
		ring_leave(b->ring);
	b->ring = ring_free(b->ring);
	drop_rest(b);
	b->state = DONE;
	b->must_hold = false;
	move(b, LEFT);
}

static void forget(struct bridge *b)
{
	if (b->state != DONE)
		done(b);
	TAILQ_REMOVE(&b->bridges->lists[b->place], b, link);
	b->bridges->count--;
	free(b);
}

/* Our end leaves both sides: the guest is told, the peer sees it. */
static void end(struct bridge *b)
{
	struct bridges *bs = b->bridges;

	bs->ports.detach(bs->ports.ctx, b->hold.handle);
	done(b);
}

/* --- Copying ---------------------------------------------------------------------------------------------- */

static uint64_t least(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* Publish that we have read, if there is anything to publish. */
static int show(struct bridge *b)
{
	return qp_unshown(&b->qp) ? qp_show(&b->qp, 0) : 0;
}

/* Copy what the guest wrote next, @len bytes at most, to @to. Return: bytes, or -EFAULT */
static int64_t take(struct bridge *b, uint8_t *to, uint64_t len)
{
	struct mem_span span[QP_MAX_SPANS];
	int n = qp_read_spans(&b->qp, len, span, QP_MAX_SPANS);
	uint64_t copied = 0;

	if (n < 0)
		return n;
	for (int i = 0; i < n; i++) {
		memcpy(to + copied, span[i].base, span[i].len);
		copied += span[i].len;
	}
	qp_consume(&b->qp, copied);
	return (int64_t)copied;
}

/* Copy @from, @len bytes at most, for which there is room, behind what the guest has not read. Return: as take() */
static int64_t give(struct bridge *b, const uint8_t *from, uint64_t len)
{
	struct mem_span span[QP_MAX_SPANS];
	int n = qp_write_spans(&b->qp, len, span, QP_MAX_SPANS);
	uint64_t copied = 0;

	if (n < 0)
		return n;
	for (int i = 0; i < n; i++) {
		memcpy(span[i].base, from + copied, span[i].len);
		copied += span[i].len;
	}
	if (qp_produce(&b->qp, copied))
		b->unpublished = true;
	return (int64_t)copied;
}

/*
 * From the guest to the peer, @budget bytes at most. Adds to *@moved.
 * Return: 0; -EFAULT: guest memory is not there; -EBADMSG, -EPROTO: the guest, the peer has broken its ring
 */
static int pump_out(struct bridge *b, uint64_t budget, uint64_t *moved)
{
	int r = show(b);

	b->full = false;
	while (!r && budget) {
		uint64_t ready;
		uint8_t *place;
		int64_t n;

		r = qp_ready(&b->qp, &ready);
		if (r || !ready)
			break;
		n = ring_reserve(b->ring, &place);
		if (n < 0)
			return -EPROTO;
		b->full = n == 0;
		if (b->full)
			break;
		n = take(b, place, least(least(ready, (uint64_t)n), budget));
		if (n < 0)
			return (int)n;
		ring_commit(b->ring, (uint64_t)n);
		r = show(b);
		*moved += (uint64_t)n;
		budget -= (uint64_t)n;
	}
	return r;
}

/* From the peer to the guest; as pump_out(). */
static int pump_in(struct bridge *b, uint64_t budget, uint64_t *moved)
{
	int r = b->unpublished ? qp_produce(&b->qp, 0) : 0;

	if (r)
		return r;
	b->unpublished = false;
	b->stuck = false;
	while (budget) {
		const uint8_t *place;
		uint64_t room;
		int64_t n = ring_acquire(b->ring, &place);

		if (n < 0)
			return -EPROTO;
		if (!n)
			break;
		r = qp_free(&b->qp, &room);
		if (r)
			return r;
		b->stuck = room == 0;
		if (b->stuck)
			break;
		n = give(b, place, least(least((uint64_t)n, room), budget));
		if (n < 0)
			return (int)n;
		ring_release(b->ring, (uint64_t)n);
		*moved += (uint64_t)n;
		budget -= (uint64_t)n;
		if (b->unpublished)
			return -EFAULT;
	}
	return 0;
}

/* The peer has gone: no more comes, and there is nothing to be heard. */
static void peer_left(struct bridge *b)
{
	say(b, "the peer has left");
	b->io = sd_event_source_disable_unref(b->io);
	b->state = PEER_LEFT;
	b->active_at = now(b->bridges);
}

/* Is all that a peer wrote with the guest, or will it never be? */
static bool is_over(const struct bridge *b, uint64_t t)
{
	if (ring_ready(b->ring, UINT64_MAX) <= 0)
		return true;
	if (t - b->active_at < LIMIT_BRIDGE_STALL_NS)
		return false;
	log_info("cid %u: queue pair %u:%u: the guest does not read; the last %lld bytes of context %u are lost",
		 b->bridges->cid, b->hold.handle.context, b->hold.handle.resource,
		 (long long)ring_ready(b->ring, UINT64_MAX), b->hold.context);
	return true;
}

/* The ring or its memory is not usable. */
static void give_up(struct bridge *b, int error)
{
	if (error == -EFAULT) {
		say(b, "guest memory is not mapped: waiting for it");
		b->parked = true;
		ring_disarm(b->ring, RING_IN | RING_OUT);
		move(b, WAITING);
		return;
	}
	say(b, error == -EPROTO ? "the peer has broken the ring" : "the guest has broken the ring");
	end(b);
}

/* The same for a direct pair, where nothing is moved: does the peer have to be woken? */
static uint64_t turn_direct(struct bridge *b)
{
	int r = 0;

	if (ring_state(b->ring) != RING_LEFT)
		r = loan_look(b->loan);
	if (r < 0 || ring_state(b->ring) == RING_LEFT) {
		say(b, r < 0 ? "guest memory is not mapped" : "the peer has left");
		end(b);
	} else if (r == 0 && b->place != WAITING) {
		move(b, WAITING);
	}
	return 0;
}

/* Move bytes, in each direction @budget at most. Return: bytes moved. @b may be DONE afterwards. */
static uint64_t turn(struct bridge *b, uint64_t budget)
{
	uint64_t moved = 0, t;
	int r = 0;

	if (b->loan)
		return turn_direct(b);
	/* First the state: what the peer wrote before it left is there once this is seen. */
	if (b->state == OPEN && ring_state(b->ring) == RING_LEFT)
		peer_left(b);
	if (b->state == OPEN)
		r = pump_out(b, budget, &moved);
	if (!r)
		r = pump_in(b, budget, &moved);
	t = now(b->bridges);
	if (moved)
		b->active_at = t;
	if (r)
		give_up(b, r);
	else if (b->state == PEER_LEFT && is_over(b, t))
		end(b);
	return moved;
}

/* --- When ------------------------------------------------------------------------------------------------- */

/* A hot bridge had nothing to do for a while: let the peer wake us, and look at the guest now and then. */
static void cool(struct bridge *b, uint64_t t)
{
	unsigned ways = (b->stuck ? 0 : RING_IN) | (b->full ? RING_OUT : 0);
	int r = b->state == OPEN && !b->loan ? ring_arm(b->ring, ways) : 0;

	if (r < 0)
		give_up(b, -EPROTO);
	else if (r == 0)
		schedule(b, WARM, LIMIT_BRIDGE_FIRST_NS, t);
}

static void run_hot(struct bridges *bs)
{
	struct bridge *b, *last = TAILQ_LAST(&bs->lists[HOT], bridge_list);
	uint64_t budget = 8 * LIMIT_TURN_BYTES;

	while ((b = TAILQ_FIRST(&bs->lists[HOT]))) {
		uint64_t moved;

		move(b, HOT);
		moved = turn(b, LIMIT_TURN_BYTES);
		if (b->place == HOT && !moved) {
			uint64_t t = now(bs);

			if (t - b->active_at >= bs->spin_ns)
				cool(b, t);
		}
		budget -= least(moved, budget);
		if (b == last || !budget)
			break;
	}
}

/* Look at those of @place whose time has come. */
static void run_slow(struct bridges *bs, enum place place)
{
	/* Who had its turn goes behind this one, and has no other in this round. */
	struct bridge *b, *next, *last = TAILQ_LAST(&bs->lists[place], bridge_list);
	uint64_t t;

	if (bs->next[place] == UINT64_MAX)
		return;
	t = now(bs);
	if (t < bs->next[place])
		return;
	bs->next[place] = UINT64_MAX;
	for (b = TAILQ_FIRST(&bs->lists[place]); b; b = next) {
		next = b == last ? NULL : TAILQ_NEXT(b, link);
		if (b->look_at > t) {
			if (b->look_at < bs->next[place])
				bs->next[place] = b->look_at;
			continue;
		}
		if (turn(b, LIMIT_TURN_BYTES) && b->place == place)
			heat(b);
		if (b->place != place)
			continue;
		t = now(bs);
		if (t - b->active_at >= LIMIT_BRIDGE_QUIET_NS && !b->full && !b->stuck)
			/* In step with each other, so that they do not wake us one by one. */
			schedule(b, IDLE, LIMIT_BRIDGE_IDLE_NS - t % LIMIT_BRIDGE_IDLE_NS, t);
		else
			schedule(b, WARM, least(2 * b->interval, LIMIT_BRIDGE_LAST_NS), t);
	}
}

static void tell_idle(struct bridges *bs)
{
	if (bs->idle && !bs->lingering)
		bs->idle(bs->idle_ctx);
}

/* Peers that had time enough to come, or to read. */
static void run_waiting(struct bridges *bs)
{
	struct bridge *b, *next;
	uint64_t t;

	if (bs->next[WAITING] == UINT64_MAX)
		return;
	t = now(bs);
	if (t < bs->next[WAITING])
		return;
	bs->next[WAITING] = UINT64_MAX;
	for (b = TAILQ_FIRST(&bs->lists[WAITING]); b; b = next) {
		next = TAILQ_NEXT(b, link);
		if (b->state != OFFERED && b->state != GUEST_LEFT)
			continue;
		if (b->look_at > t) {
			bs->next[WAITING] = least(bs->next[WAITING], b->look_at);
			continue;
		}
		log_info("cid %u: queue pair %u:%u: context %u %s", bs->cid, b->hold.handle.context, b->hold.handle.resource,
			 b->hold.context,
			 b->state == OFFERED ? "was given it, and did not come"
					     : "does not read; what the guest wrote last is lost");
		done(b);
	}
	tell_idle(bs);
}

bool bridges_run(struct bridges *bs)
{
	run_waiting(bs);
	run_slow(bs, IDLE);
	run_slow(bs, WARM);
	run_hot(bs);
	return !TAILQ_EMPTY(&bs->lists[HOT]);
}

uint64_t bridges_deadline(const struct bridges *bs)
{
	return least(least(bs->next[WARM], bs->next[IDLE]), bs->next[WAITING]);
}

/* --- Beginning and ending --------------------------------------------------------------------------------- */

/* The peer of an offered pair has mapped its memory: only now the guest is told. */
static void open_bridge(struct bridge *b)
{
	struct bridges *bs = b->bridges;
	const struct bridge_hold *hold = &b->hold;
	int32_t r = bs->ports.attach(bs->ports.ctx, hold->handle, hold->context, hold->consume, hold->produce, b);

	if (r < 0) {
		say(b, "the guest has left before the peer was there");
		done(b);
		return;
	}
	bridge_attached(b);
}

static void cannot_lend(const struct bridges *bs, struct vmci_handle handle, int error)
{
	log_info("cid %u: queue pair %u:%u: nobody can have its pages: %s", bs->cid, handle.context, handle.resource,
		 loan_reason(error));
}

/* Lend the peer the guest's pages. It says itself when it needs us. */
static void lend(struct bridge *b)
{
	struct bridges *bs = b->bridges;
	int r = loan_begin(ring_fd(b->ring), &b->qp, bs->ports.places, bs->ports.ctx, &b->loan);

	if (r) {
		cannot_lend(bs, b->hold.handle, r);
		loan_refuse(ring_fd(b->ring), loan_code(r));
		end(b);
		return;
	}
	say(b, "attached, direct");
	bs->loans++;
	bs->ports.met(bs->ports.ctx, b->hold.context);
}

void bridge_attached(struct bridge *b)
{
	struct bridges *bs = b->bridges;

	b->state = OPEN;
	b->active_at = now(bs);
	if (bs->ports.map(bs->ports.ctx, b->hold.handle, &b->qp) < 0) {
		/* Attached pairs have memory: cannot happen. */
		end(b);
		return;
	}
	if (b->is_direct) {
		lend(b);
		return;
	}
	say(b, "attached");
	bs->ports.met(bs->ports.ctx, b->hold.context);
	heat(b);
}

/* Give the peer more of what the guest wrote last. */
static void feed(struct bridge *b)
{
	struct bridges *bs = b->bridges;

	while (b->rest_off < b->rest_len) {
		int64_t n = ring_write(b->ring, b->rest + b->rest_off, b->rest_len - b->rest_off);

		if (n < 0 || ring_state(b->ring) == RING_LEFT)
			break;
		b->rest_off += (size_t)n;
		bs->lingering -= (size_t)n;
		if (n)
			schedule(b, WAITING, LIMIT_BRIDGE_REST_NS, now(bs));
		if (b->rest_off < b->rest_len && !ring_arm(b->ring, RING_OUT))
			return;
	}
	done(b);
}

/* Keep what the guest wrote and the ring has no room for. */
static void keep_rest(struct bridge *b)
{
	struct bridges *bs = b->bridges;
	uint64_t ready;

	if (qp_ready(&b->qp, &ready) || !ready)
		return;
	if (ready > LIMIT_QUEUE_MEMORY - bs->lingering || !(b->rest = malloc((size_t)ready))) {
		log_warn("cid %u: queue pair %u:%u: no room for the last %llu bytes of the guest, which are lost",
			 bs->cid, b->hold.handle.context, b->hold.handle.resource, (unsigned long long)ready);
		return;
	}
	while (b->rest_len < ready) {
		int64_t n = take(b, b->rest + b->rest_len, ready - b->rest_len);

		if (n < 0)
			break;
		b->rest_len += (size_t)n;
	}
	bs->lingering += b->rest_len;
}

void bridge_gone(struct bridge *b)
{
	uint64_t moved = 0;
	int r;

	if (b->loan) {
		say(b, "the guest has left");
		r = loan_return(b->loan);
		/* Else the program was faster. */
		if (r && r != -EPIPE)
			log_info("cid %u: queue pair %u:%u: what the guest wrote last is lost: %s", b->bridges->cid,
				 b->hold.handle.context, b->hold.handle.resource, strerror(-r));
		done(b);
		return;
	}
	if (b->state == OPEN) {
		say(b, "the guest has left");
		if (!pump_out(b, b->hold.produce, &moved))
			keep_rest(b);
	}
	if (!b->rest_len) {
		done(b);
		return;
	}
	b->state = GUEST_LEFT;
	b->must_hold = false;
	b->parked = false;
	schedule(b, WAITING, LIMIT_BRIDGE_REST_NS, now(b->bridges));
	feed(b);
}

/* The peer has attached, has woken us, or has gone. */
static int on_life(sd_event_source *source, int fd, uint32_t events, void *ctx)
{
	struct bridge *b = ctx;
	struct bridges *bs = b->bridges;

	(void)source;
	(void)fd;
	(void)events;
	ring_hear(b->ring, false);
	switch (b->state) {
	case OFFERED:
		if (ring_state(b->ring) == RING_ATTACHED)
			open_bridge(b);
		else if (ring_state(b->ring) == RING_LEFT)
			done(b);
		break;
	case OPEN:
		if (b->loan) {
			b->active_at = now(bs);
			turn_direct(b);
			if (b->state == OPEN && b->place == WAITING && loan_look(b->loan) > 0)
				move(b, HOT);
			break;
		}
		if (ring_state(b->ring) == RING_LEFT)
			peer_left(b);
		if (!b->parked)
			heat(b);
		break;
	case GUEST_LEFT:
		feed(b);
		tell_idle(bs);
		break;
	case PEER_LEFT:
	case DONE:
		break;
	}
	return 0;
}

static int watch(struct bridge *b)
{
	int r = sd_event_add_io(b->bridges->event, &b->io, ring_fd(b->ring), EPOLLIN, on_life, b);

	return r < 0 ? r : 0;
}

/* Could the guest's pages of this pair be lent? Return: 0 or VMCI_ERROR_* */
static int32_t can_lend(struct bridges *bs, struct vmci_handle handle)
{
	struct qp qp;
	int32_t code = bs->ports.look(bs->ports.ctx, handle, &qp);
	int r;

	if (code < 0)
		return code;
	r = loan_check(&qp, bs->ports.places, bs->ports.ctx);
	if (!r)
		return 0;
	cannot_lend(bs, handle, r);
	return loan_code(r);
}

int32_t bridge_offer(struct bridges *bs, struct vmci_handle handle, uint32_t context, uint64_t produce,
		     uint64_t consume, bool direct, int *ret_memory, int *ret_life)
{
	const struct bridge_hold hold = {
		.handle = handle, .context = context, .produce = consume, .consume = produce,
	};
	int32_t code = bs->ports.check(bs->ports.ctx, handle, context, produce, consume);
	struct bridge *b;
	int r;

	if (code < 0)
		return code;
	TAILQ_FOREACH(b, &bs->lists[WAITING], link)
		if (b->state == OFFERED && handle_is_equal(b->hold.handle, handle))
			return VMCI_ERROR_UNAVAILABLE;
	if (bs->count >= LIMIT_BRIDGES)
		return VMCI_ERROR_NO_RESOURCES;
	if (direct) {
		code = can_lend(bs, handle);
		if (code < 0)
			return code;
	}
	b = add(bs, &hold, OFFERED);
	if (!b)
		return VMCI_ERROR_NO_MEM;
	b->is_direct = direct;
	r = ring_create(hold.produce, hold.consume, &b->ring, ret_memory, ret_life);
	if (!r) {
		ring_set_handle(b->ring, handle);
		r = watch(b);
		if (r) {
			fd_close(ret_memory);
			fd_close(ret_life);
		}
	}
	if (r) {
		log_warn("cid %u: no memory for queue pair %u:%u: %s", bs->cid, handle.context, handle.resource,
			 strerror(-r));
		forget(b);
		return VMCI_ERROR_NO_RESOURCES;
	}
	schedule(b, WAITING, LIMIT_BRIDGE_OFFER_NS, now(bs));
	return VMCI_SUCCESS_QUEUEPAIR_ATTACH;
}

int32_t bridge_take(struct bridges *bs, const struct bridge_hold *hold, bool direct, int memory, int life,
		    struct bridge **ret_bridge)
{
	int32_t code = direct ? can_lend(bs, hold->handle) : 0;
	struct bridge *b = !code && bs->count < LIMIT_BRIDGES ? add(bs, hold, OPEN) : NULL;
	int r;

	if (code < 0)
		loan_refuse(life, code);
	if (!b) {
		fd_close(&memory);
		closer_close(&life);
		/* vmcid believes that we are attached. */
		bridges_leave(bs, hold->handle);
		return VMCI_ERROR_NO_RESOURCES;
	}
	b->is_direct = direct;
	r = ring_map(memory, life, bs->cid, hold->produce, hold->consume, &b->ring);
	fd_close(&memory);
	if (r)
		closer_close(&life);
	else
		r = watch(b);
	if (r) {
		log_info("cid %u: queue pair %u:%u of context %u: %s", bs->cid, hold->handle.context,
			 hold->handle.resource, hold->context,
			 r == -EBADMSG ? "its memory is not what it must be" : strerror(-r));
		/* vmcid believes that we are attached. */
		done(b);
		return VMCI_ERROR_UNAVAILABLE;
	}
	*ret_bridge = b;
	return VMCI_SUCCESS_QUEUEPAIR_ATTACH;
}

/* --- All of them ------------------------------------------------------------------------------------------ */

int bridges_new(sd_event *event, uint32_t cid, uint64_t spin_ns, const struct bridges_ports *ports,
		struct bridges **ret_bridges)
{
	struct bridges *bs = calloc(1, sizeof(*bs));

	if (!bs)
		return -ENOMEM;
	bs->event = sd_event_ref(event);
	bs->ports = *ports;
	bs->cid = cid;
	bs->spin_ns = spin_ns;
	for (unsigned i = 0; i < PLACES; i++) {
		TAILQ_INIT(&bs->lists[i]);
		bs->next[i] = UINT64_MAX;
	}
	*ret_bridges = bs;
	return 0;
}

struct bridges *bridges_free(struct bridges *bs)
{
	struct bridge *b;

	if (!bs)
		return NULL;
	for (unsigned i = 0; i < PLACES; i++)
		while ((b = TAILQ_FIRST(&bs->lists[i])))
			forget(b);
	sd_event_unref(bs->event);
	free(bs);
	return NULL;
}

static void cross(struct bridge *b)
{
	uint64_t most = b->hold.produce > b->hold.consume ? b->hold.produce : b->hold.consume;

	if (b->state == OFFERED) {
		ring_hear(b->ring, false);
		if (ring_state(b->ring) == RING_ATTACHED)
			open_bridge(b);
	}
	if ((b->state != OPEN && b->state != PEER_LEFT) || b->parked)
		return;
	if (turn(b, most) && b->place != LEFT && b->place != WAITING)
		heat(b);
}

void bridges_cross(struct bridges *bs, uint32_t context)
{
	struct bridge *b, *next;

	for (unsigned i = HOT; i <= WAITING; i++) {
		/* Those that get hot go into a list that is done with, or to its end. */
		struct bridge *last = TAILQ_LAST(&bs->lists[i], bridge_list);

		for (b = TAILQ_FIRST(&bs->lists[i]); b; b = next) {
			next = b == last ? NULL : TAILQ_NEXT(b, link);
			if (context == VMCI_INVALID_ID || b->hold.context == context)
				cross(b);
		}
	}
}

void bridges_memory_changed(struct bridges *bs)
{
	struct bridge *b, *next;

	for (b = TAILQ_FIRST(&bs->lists[WAITING]); b; b = next) {
		next = TAILQ_NEXT(b, link);
		if (b->parked) {
			b->parked = false;
			heat(b);
		}
	}
}

void bridges_memory_gone(struct bridges *bs)
{
	struct bridge *b, *next;

	for (unsigned i = HOT; bs->loans && i <= WAITING; i++)
		for (b = TAILQ_FIRST(&bs->lists[i]); b; b = next) {
			next = TAILQ_NEXT(b, link);
			if (!b->loan || loan_is_good(b->loan))
				continue;
			log_info("cid %u: queue pair %u:%u: the VMM has unmapped pages that context %u has: it is over",
				 bs->cid, b->hold.handle.context, b->hold.handle.resource, b->hold.context);
			end(b);
		}
}

void bridges_driver_gone(struct bridges *bs)
{
	struct bridge *b, *next;

	for (b = TAILQ_FIRST(&bs->lists[WAITING]); b; b = next) {
		next = TAILQ_NEXT(b, link);
		if (b->state == OFFERED)
			done(b);
	}
}

size_t bridges_lingering(const struct bridges *bs)
{
	return bs->lingering;
}

bool bridges_on_idle(struct bridges *bs, void (*idle)(void *ctx), void *ctx)
{
	bs->idle = idle;
	bs->idle_ctx = ctx;
	return bs->lingering > 0;
}

bool bridges_next_left(struct bridges *bs, struct vmci_handle *ret_handle)
{
	struct bridge *b = TAILQ_FIRST(&bs->lists[LEFT]);

	if (!b)
		return false;
	*ret_handle = b->hold.handle;
	forget(b);
	return true;
}

void bridges_leave(struct bridges *bs, struct vmci_handle handle)
{
	const struct bridge_hold hold = { .handle = handle };
	struct bridge *b = add(bs, &hold, OPEN);

	if (b)
		done(b);
}

void bridges_hold_all(struct bridges *bs)
{
	struct vmci_handle handle;
	struct bridge *b;

	while (bridges_next_left(bs, &handle))
		;
	for (unsigned i = HOT; i <= WAITING; i++)
		TAILQ_FOREACH(b, &bs->lists[i], link)
			b->must_hold = b->state == OPEN || b->state == OFFERED;
	bs->holding = true;
}

bool bridges_next_hold(struct bridges *bs, struct bridge_hold *ret_hold)
{
	struct bridge *b;

	for (unsigned i = HOT; bs->holding && i <= WAITING; i++)
		TAILQ_FOREACH(b, &bs->lists[i], link)
			if (b->must_hold) {
				b->must_hold = false;
				*ret_hold = b->hold;
				return true;
			}
	bs->holding = false;
	return false;
}
