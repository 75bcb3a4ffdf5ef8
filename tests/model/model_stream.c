/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * DOC: Model test of streams
 *
 * Two stream tables, back to back: side 0 is context 2, side 1 is context 20. Between them a channel that
 * loses nothing and keeps the order, but delivers late and holds only so many packets; queue pairs in plain
 * memory; a clock that moves when we say so. Programs on both sides do what they like: connect, accept,
 * refuse, write, read, shut down either half, close, abort; memory is taken away and given back; once in a
 * while the machine is reset.
 *
 * The model of a stream is two counters for each direction, bytes put in and bytes taken out, and a pattern
 * that depends on the queue pair, the direction and the position. Checked at every step: no byte is lost,
 * doubled, moved or strayed from another stream; an end of stream comes after the last byte and for a reason;
 * an end gets its last call once; connects that nothing hinders succeed.
 *
 * No stall: from time to time everybody stops. The tables run, packets arrive, timers fire, until nothing
 * moves any more. Nobody pokes a stream meanwhile. If then bytes wait in front of a willing reader, or a
 * willing writer in front of free room, a wake-up was lost. For the windows between looking at a ring and
 * sleeping, the port to memory lets the other side act before and after each load and store of a ring
 * position.
 *
 * MODEL_SEED and MODEL_STEPS choose the first seed and the length of a world; MODEL_WORLDS how many;
 * MODEL_TRACE prints every packet. A failure prints what is needed to repeat it.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/limits.h"
#include "proto/packet.h"
#include "proto/stream.h"

#define SIDES 2
#define MAX_ALIVE 12		/* ends of one side */
#define INBOX 4096		/* events included; far above every limit that we set */
#define LISTEN_PORTS 4
#define FIXED_PORT 100

struct end;

struct mem_pages {
	struct pair *pair;
	int side;
};

/**
 * struct pair - a queue pair, and the connection over it
 * @hidden: [side] bit 0: the page of its first header, bit 1: of the second, bit 2: data
 * @was_hidden: [side] some of it was, at some time
 */
struct pair {
	uint32_t id;
	struct vmci_handle handle;
	uint64_t size;
	unsigned shift;
	uint8_t *base;
	size_t second;		/* offset of the second header */
	int creator;
	bool attached[SIDES];
	unsigned hidden[SIDES];
	bool was_hidden[SIDES];
	struct stream *owner[SIDES];
	struct end *end[SIDES];
	struct mem_pages pages[SIDES];
};

/**
 * struct end - a program's end
 * @active:     bytes may flow
 * @dirty:      (client) there may be a reason why the connect fails
 * @room, @got: what the program will read, has read
 * @avail, @put: what it has written and the stream has not taken, has taken
 * @shut_rd, @shut_wr, @gone: what the program did
 * @eof_said, @deaf_said, @gone_said: what the stream was told by recv() and send()
 * @wait_r, @wait_w: recv(), send() said -EAGAIN last
 * @wake_r, @wake_w: it had no reason to: call again at that time; 0: not so
 * @told:       what the stream told the program
 */
struct end {
	int side;
	bool client, opening, active, dirty;
	unsigned refusals;
	struct stream *s;
	struct pair *pair;
	uint32_t local_port, peer_port;
	uint64_t room, got, avail, put;
	bool shut_rd, shut_wr, gone, aborted;
	bool eof_said, deaf_said, gone_said;
	bool wait_r, wait_w;
	uint64_t wake_r, wake_w;
	unsigned told;
	bool over, over_by_close;
};

struct message {
	uint64_t at;
	bool is_detach;
	struct vmci_handle handle;
	uint8_t dg[VMCI_STREAM_PACKET_SIZE];
};

struct side {
	int id;
	struct streams *t;
	bool busy;		/* inside a call */
	bool awake;		/* the event loop has a reason to go round */
	struct end *alive[MAX_ALIVE];
	unsigned alive_count;
	struct message inbox[INBOX];
	unsigned head, tail;
	unsigned queued;	/* packets in it; detaches are exempt, as events are */
	unsigned queue_max;
};

static struct world {
	uint64_t seed, rng;
	uint64_t now;
	unsigned step;
	bool settling;
	bool nested;
	bool trace;
	unsigned nest_chance;	/* in 256 */
	unsigned again_chance;
	unsigned slow_chance;
	unsigned shift;
	unsigned refusals;
	struct side side[SIDES];
	struct pair **pair;
	unsigned pair_count, pair_max;
	struct end **end;
	unsigned end_count, end_max;
} w;

static struct {
	unsigned long long worlds, steps, connects, connected, failed, accepted, bytes, finished, leftover,
		closed, nested;
	unsigned long long settled, resets, parked, refusals;
} stats;

static void fail(const char *fmt, ...) __attribute__((format(printf, 1, 2), noreturn));

static void fail(const char *fmt, ...)
{
	va_list ap;

	fprintf(stderr, "model_stream: MODEL_SEED=%llu, step %u%s, time %llu: ", (unsigned long long)w.seed,
		w.step, w.settling ? " (settling)" : "", (unsigned long long)w.now);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fprintf(stderr, "\n");
	abort();
}

#define check(cond, ...) \
	do { \
		if (!(cond)) \
			fail(__VA_ARGS__); \
	} while (0)

/* --- Chance -------------------------------------------------------------------------------- */

static uint64_t rnd(void)
{
	w.rng ^= w.rng << 13;
	w.rng ^= w.rng >> 7;
	w.rng ^= w.rng << 17;
	return w.rng * 0x2545f4914f6cdd1dull >> 16;
}

static uint64_t below(uint64_t n)
{
	return rnd() % n;
}

static bool chance(unsigned in256)
{
	return below(256) < in256;
}

/* Mostly small, sometimes up to @max. */
static uint64_t some(uint64_t max)
{
	uint64_t limit = max >> below(10);

	return 1 + below(limit ? limit : 1);
}

static uint8_t pattern(const struct pair *pair, int from, uint64_t pos)
{
	uint64_t x = pos * 0x9e3779b97f4a7c15ull + pair->id * 0xc2b2ae3d27d4eb4full +
		     (unsigned)from * 0x165667b19e3779f9ull;

	return (uint8_t)(x >> 56 ^ x >> 24);
}

/* --- Who is who ---------------------------------------------------------------------------- */

static struct side *other(const struct side *side)
{
	return &w.side[!side->id];
}

static void enter(struct side *side)
{
	check(!side->busy, "the model calls side %d while it is busy", side->id);
	side->busy = true;
}

static void leave(struct side *side)
{
	side->busy = false;
	side->awake = true;
}

static void *grow(void *array, unsigned count, unsigned *max, size_t item)
{
	if (count == *max) {
		*max = *max ? *max * 2 : 64;
		array = realloc(array, *max * item);
		check(array, "out of memory");
	}
	return array;
}

static struct end *end_new(struct side *side)
{
	struct end *e = calloc(1, sizeof(*e));

	check(e && side->alive_count < MAX_ALIVE, "no room for an end");
	e->side = side->id;
	side->alive[side->alive_count++] = e;
	w.end = grow(w.end, w.end_count, &w.end_max, sizeof(struct end *));
	w.end[w.end_count++] = e;
	return e;
}

static void end_over(struct end *e)
{
	struct side *side = &w.side[e->side];

	check(!e->over, "an end gets two last calls");
	e->over = true;
	e->s = NULL;
	for (unsigned i = 0; i < side->alive_count; i++) {
		if (side->alive[i] == e) {
			side->alive[i] = side->alive[--side->alive_count];
			return;
		}
	}
	fail("an end that is not alive ends");
}

/* The other end of a connection; NULL if there is no connection yet. */
static struct end *peer_of(const struct end *e)
{
	return e->pair ? e->pair->end[!e->side] : NULL;
}

static struct end *end_of_stream(const struct side *side, const struct stream *s)
{
	for (unsigned i = 0; i < side->alive_count; i++)
		if (side->alive[i]->s == s)
			return side->alive[i];
	fail("side %d: a stream without an end", side->id);
}

/* Something happens to the server's end that makes the client's connect fail. */
static void mark_dirty(const struct end *server)
{
	const struct side *side = &w.side[!server->side];

	for (unsigned i = 0; i < side->alive_count; i++)
		if (side->alive[i]->local_port == server->peer_port &&
		    side->alive[i]->peer_port == server->local_port)
			side->alive[i]->dirty = true;
}

/* --- Memory -------------------------------------------------------------------------------- */

static void interleave(const struct side *self);

static bool is_hidden(const struct mem_pages *pages, size_t off)
{
	const struct pair *pair = pages->pair;
	unsigned hidden = pair->hidden[pages->side];
	size_t page = (size_t)1 << pair->shift;

	if (off < page)
		return hidden & 1;
	if (off >= pair->second && off < pair->second + page)
		return hidden & 2;
	return hidden & 4;
}

static int port_load64(void *ctx, struct mem_pages *pages, size_t off, uint64_t *ret)
{
	check(pages->pair->attached[pages->side], "a ring is read after it was given back");
	interleave(ctx);
	if (is_hidden(pages, off))
		return -EFAULT;
	*ret = get_le64(pages->pair->base + off);
	interleave(ctx);
	return 0;
}

static int port_store64(void *ctx, struct mem_pages *pages, size_t off, uint64_t v)
{
	check(pages->pair->attached[pages->side], "a ring is written after it was given back");
	interleave(ctx);
	if (is_hidden(pages, off))
		return -EFAULT;
	put_le64(pages->pair->base + off, v);
	interleave(ctx);
	return 0;
}

static int port_spans(void *ctx, struct mem_pages *pages, size_t off, size_t len, struct mem_span *spans,
		      int max)
{
	size_t page = (size_t)1 << pages->pair->shift;
	int n = 0;

	(void)ctx;
	check(len && max > 0, "spans of nothing are asked for");
	while (len && n < max) {
		size_t here = page - off % page;

		if (here > len)
			here = len;
		if (is_hidden(pages, off))
			return n ? n : -EFAULT;
		spans[n++] = (struct mem_span){ pages->pair->base + off, here };
		off += here;
		len -= here;
	}
	return n;
}

static const struct mem_ops mem_ops = {
	.load64 = port_load64,
	.store64 = port_store64,
	.spans = port_spans,
};

/* --- The channel --------------------------------------------------------------------------- */

static void channel_put(struct side *to, const struct message *m)
{
	uint64_t delay = chance(w.slow_chance) ? some(3000000) : below(20000);
	uint64_t at = w.now + delay;

	check(to->tail - to->head < INBOX, "the channel overflows");
	if (to->tail != to->head && to->inbox[(to->tail - 1) % INBOX].at > at)
		at = to->inbox[(to->tail - 1) % INBOX].at;
	to->inbox[to->tail % INBOX] = *m;
	to->inbox[to->tail++ % INBOX].at = at;
}

static int32_t port_send(void *ctx, const uint8_t *dg, size_t size)
{
	struct side *to = other(ctx);
	struct message m = { .is_detach = false };

	check(size == sizeof(m.dg), "a packet of %zu bytes", size);
	if (to->queued >= to->queue_max) {
		w.refusals++;
		return VMCI_ERROR_NO_RESOURCES;
	}
	memcpy(m.dg, dg, size);
	channel_put(to, &m);
	to->queued++;
	return (int32_t)size;
}

static struct pair *pair_find(struct vmci_handle handle)
{
	uint32_t i = handle.resource - VMCI_RID_FIRST_DYNAMIC;

	return i < w.pair_count && w.pair[i]->handle.context == handle.context ? w.pair[i] : NULL;
}

static void pair_detach(struct pair *pair, int side)
{
	pair->attached[side] = false;
	pair->owner[side] = NULL;
	if (!pair->attached[!side]) {
		free(pair->base);
		pair->base = NULL;
	}
}

static bool is_due(const struct side *side)
{
	return side->head != side->tail && side->inbox[side->head % INBOX].at <= w.now;
}

/* Hand over the next message, if there is one and its time has come. */
static bool deliver(struct side *side)
{
	struct message m;
	struct pair *pair;

	if (side->busy || !is_due(side))
		return false;
	m = side->inbox[side->head++ % INBOX];
	enter(side);
	if (m.is_detach) {
		pair = pair_find(m.handle);
		if (pair && pair->attached[side->id]) {
			stream_peer_gone(pair->owner[side->id]);
			pair_detach(pair, side->id);
		}
	} else {
		side->queued--;
		check(streams_packet(side->t, m.dg, sizeof(m.dg)) == sizeof(m.dg), "a packet is refused");
	}
	leave(side);
	return true;
}

static uint32_t cid_of(int side)
{
	return side ? 20 : 2;
}

/* --- Queue pairs --------------------------------------------------------------------------- */

static int32_t port_qp_create(void *ctx, uint32_t local_cid, uint64_t produce, uint64_t consume, void *owner,
			      struct vmci_handle *ret_handle)
{
	struct side *side = ctx;
	struct mem mem = { &mem_ops, ctx };
	struct pair *pair = calloc(1, sizeof(*pair));
	struct qp qp;
	size_t bytes;

	check(local_cid == cid_of(side->id), "a queue pair of another context");
	check(pair && produce == consume, "sizes of a queue pair differ");
	w.pair = grow(w.pair, w.pair_count, &w.pair_max, sizeof(struct pair *));
	pair->id = w.pair_count;
	pair->handle = handle_make(cid_of(side->id), VMCI_RID_FIRST_DYNAMIC + w.pair_count);
	pair->size = produce;
	pair->shift = w.shift;
	bytes = (size_t)qp_page_count(produce, consume, pair->shift) << pair->shift;
	pair->second = bytes / 2;
	pair->base = malloc(bytes);
	check(pair->base, "out of memory");
	memset(pair->base, 0xee, bytes);
	pair->creator = side->id;
	pair->attached[side->id] = true;
	pair->owner[side->id] = owner;
	pair->end[side->id] = end_of_stream(side, owner);
	pair->end[side->id]->pair = pair;
	for (int i = 0; i < SIDES; i++)
		pair->pages[i] = (struct mem_pages){ .pair = pair, .side = i };
	w.pair[w.pair_count++] = pair;
	qp_init(&qp, mem, &pair->pages[side->id], pair->shift, produce, consume, true);
	check(!qp_format(&qp, pair->handle), "a new queue pair cannot be formatted");
	*ret_handle = pair->handle;
	return VMCI_SUCCESS_QUEUEPAIR_CREATE;
}

static int32_t port_qp_attach(void *ctx, struct vmci_handle handle, uint32_t local_cid, uint64_t produce,
			      uint64_t consume, void *owner)
{
	struct side *side = ctx;
	struct pair *pair = pair_find(handle);

	check(local_cid == cid_of(side->id), "a queue pair of another context");
	/* The creator may have gone in the meantime; everything else is agreed. */
	check(pair && pair->creator != side->id, "attach to a queue pair that never was");
	if (!pair->attached[pair->creator])
		return VMCI_ERROR_NOT_FOUND;
	check(!pair->attached[side->id] && !pair->end[side->id], "attach twice");
	if (produce != pair->size || consume != pair->size)
		return VMCI_ERROR_QUEUEPAIR_MISMATCH;
	pair->attached[side->id] = true;
	pair->owner[side->id] = owner;
	pair->end[side->id] = end_of_stream(side, owner);
	pair->end[side->id]->pair = pair;
	return VMCI_SUCCESS_QUEUEPAIR_ATTACH;
}

static int32_t port_qp_map(void *ctx, struct vmci_handle handle, struct qp *ret_qp)
{
	struct side *side = ctx;
	struct pair *pair = pair_find(handle);
	struct mem mem = { &mem_ops, ctx };

	check(pair && pair->attached[side->id], "a queue pair is mapped that is not attached");
	if (!pair->end[!side->id])
		return VMCI_ERROR_QUEUEPAIR_NOT_READY;
	qp_init(ret_qp, mem, &pair->pages[side->id], pair->shift, pair->size, pair->size,
		pair->creator == side->id);
	return VMCI_SUCCESS;
}

static void port_qp_detach(void *ctx, struct vmci_handle handle)
{
	struct side *side = ctx;
	struct pair *pair = pair_find(handle);
	struct message m = { .is_detach = true, .handle = handle };

	check(pair && pair->attached[side->id], "a queue pair is detached that is not attached");
	pair_detach(pair, side->id);
	channel_put(other(side), &m);
}

/* --- Ends ---------------------------------------------------------------------------------- */

static struct end *called(void *end)
{
	struct end *e = end;

	check(!e->over, "an end is called after its last call");
	check(w.side[e->side].busy, "an end is called from nowhere");
	return e;
}

static void op_connected(void *end)
{
	struct end *e = called(end);

	check(e->client && !e->active && e->pair, "connected() out of place");
	e->active = true;
	stats.connected++;
}

static void op_failed(void *end, int error)
{
	struct end *e = called(end);

	check(e->client && !e->active, "failed() out of place");
	check(e->dirty || e->refusals != w.refusals, "a connect without hindrance fails: %d", error);
	stats.failed++;
	end_over(e);
}

static void take(struct end *e, const uint8_t *p, size_t n)
{
	const struct end *peer = peer_of(e);

	check(peer && e->got + n <= peer->put, "more bytes come out than were put in");
	for (size_t i = 0; i < n; i++, e->got++)
		check(p[i] == pattern(e->pair, peer->side, e->got), "byte %llu of pair %u is wrong",
		      (unsigned long long)e->got, e->pair->id);
	stats.bytes += n;
}

static ssize_t op_send(void *end, const struct mem_span *spans, int n)
{
	struct end *e = called(end);
	uint64_t limit = e->room;
	ssize_t taken = 0;

	check(n > 0, "send() of nothing");
	check(!e->deaf_said, "send() after nobody reads");
	e->active = true;
	if (e->shut_rd) {
		e->deaf_said = true;
		return -EPIPE;
	}
	if (!limit || chance(w.again_chance)) {
		e->wait_w = true;
		if (limit)
			e->wake_w = w.now + some(100000);
		return -EAGAIN;
	}
	if (chance(64))
		limit = some(limit);
	for (int i = 0; i < n && limit; i++) {
		size_t here = spans[i].len < limit ? spans[i].len : (size_t)limit;

		take(e, spans[i].base, here);
		taken += (ssize_t)here;
		limit -= here;
	}
	e->room -= (uint64_t)taken;
	return taken;
}

static ssize_t op_recv(void *end, const struct mem_span *spans, int n)
{
	struct end *e = called(end);
	uint64_t limit = e->avail;
	ssize_t given = 0;

	check(!e->gone_said, "recv() after the end was gone");
	e->active = true;
	if (e->gone && (n == 0 || !e->avail)) {
		e->gone_said = true;
		return -ESHUTDOWN;
	}
	if (n == 0) {
		e->wait_r = true;
		return -EAGAIN;
	}
	check(!e->eof_said, "recv() after the end of the stream");
	if (limit ? chance(w.again_chance) : !e->shut_wr) {
		e->wait_r = true;
		if (limit)
			e->wake_r = w.now + some(100000);
		return -EAGAIN;
	}
	if (!limit) {
		e->eof_said = true;
		return 0;
	}
	if (chance(64))
		limit = some(limit);
	for (int i = 0; i < n && limit; i++) {
		size_t here = spans[i].len < limit ? spans[i].len : (size_t)limit;

		for (size_t k = 0; k < here; k++)
			((uint8_t *)spans[i].base)[k] = pattern(e->pair, e->side, e->put++);
		given += (ssize_t)here;
		limit -= here;
	}
	e->avail -= (uint64_t)given;
	return given;
}

static void op_shutdown(void *end, unsigned how)
{
	struct end *e = called(end);
	const struct end *peer = peer_of(e);

	check(how && !(e->told & how) && !(how & ~VMCI_SHUTDOWN_BOTH), "shutdown(%u) after %u", how, e->told);
	check(peer, "shutdown() without a peer");
	e->told |= how;
	if (how & VMCI_SHUTDOWN_SEND) {
		check(peer->eof_said || peer->over, "end of stream out of the blue");
		check(e->got == peer->put || e->deaf_said, "end of stream before the last byte: %llu of %llu",
		      (unsigned long long)e->got, (unsigned long long)peer->put);
	}
	if (how & VMCI_SHUTDOWN_RECEIVE)
		check(peer->deaf_said || peer->over, "nobody reads, out of the blue");
}

static void op_finish(void *end, void *data, size_t len)
{
	struct end *e = called(end);
	const struct end *peer = peer_of(e);

	check(!data == !len, "finish() with %zu bytes", len);
	check(peer, "finish() without a peer");
	if (len)
		take(e, data, len);
	free(data);
	/*
	 * What can be lost: what nobody reads; what is in memory that is not there; and what the other side
	 * could not put there before it was aborted or reset.
	 */
	if (!e->deaf_said && !e->pair->hidden[e->side] &&
	    !(peer->aborted && e->pair->was_hidden[peer->side]))
		check(e->got == peer->put, "the peer's last bytes are lost: %llu of %llu",
		      (unsigned long long)e->got, (unsigned long long)peer->put);
	if (peer->over_by_close && !(peer->told & VMCI_SHUTDOWN_RECEIVE))
		check(!peer->avail, "closed before its last %llu bytes", (unsigned long long)peer->avail);
	stats.finished++;
	stats.leftover += len;
	end_over(e);
}

static void op_close(void *end)
{
	struct end *e = called(end);

	check(!e->client, "close() of a connect");
	check(!e->active, "close() out of the blue");
	if (e->opening)
		mark_dirty(e);
	stats.closed++;
	end_over(e);
}

/* The last call to an end that said it was gone. */
static void op_close_any(void *end)
{
	struct end *e = called(end);

	if (!e->gone_said) {
		op_close(end);
		return;
	}
	e->over_by_close = true;
	stats.closed++;
	end_over(e);
}

static const struct stream_end_ops end_ops = {
	.connected = op_connected,
	.failed = op_failed,
	.send = op_send,
	.recv = op_recv,
	.shutdown = op_shutdown,
	.finish = op_finish,
	.close = op_close_any,
};

static int port_open(void *ctx, struct stream *s, uint32_t local_cid, uint32_t local_port, uint32_t peer_port,
		     void **ret_end)
{
	struct side *side = ctx;
	struct end probe = { .side = side->id, .local_port = local_port, .peer_port = peer_port };
	struct end *e;

	check(local_cid == cid_of(side->id), "a connection to another context");
	if (side->alive_count == MAX_ALIVE || local_port >= LISTEN_PORTS || chance(8)) {
		mark_dirty(&probe);
		return -ECONNREFUSED;
	}
	e = end_new(side);
	e->s = s;
	e->local_port = local_port;
	e->peer_port = peer_port;
	e->opening = chance(96);
	stats.accepted++;
	*ret_end = e;
	return e->opening ? -EINPROGRESS : 0;
}

static uint64_t port_now(void *ctx)
{
	(void)ctx;
	return w.now;
}

static void port_log(void *ctx, enum log_level level, const char *line)
{
	(void)level;
	if (w.trace)
		fprintf(stderr, "%12llu %d %s\n", (unsigned long long)w.now, ((struct side *)ctx)->id, line);
}

/* --- Programs ------------------------------------------------------------------------------ */

/* What the event loop does on an edge: only if the stream waits for it. */
static void poke_r(struct end *e)
{
	if (!e->wait_r)
		return;
	e->wait_r = false;
	e->wake_r = 0;
	stream_readable(e->s);
	w.side[e->side].awake = true;
}

static void poke_w(struct end *e)
{
	if (!e->wait_w)
		return;
	e->wait_w = false;
	e->wake_w = 0;
	stream_writable(e->s);
	w.side[e->side].awake = true;
}

static void program_write(struct end *e)
{
	if (e->shut_wr || e->avail > 4 * LIMIT_RING_MAX)
		return;
	e->avail += some(e->pair ? e->pair->size * 3 : 1000);
	poke_r(e);
}

static void program_read(struct end *e, uint64_t n)
{
	if (e->shut_rd)
		return;
	e->room += n;
	poke_w(e);
}

static void program_shut_wr(struct end *e)
{
	e->shut_wr = true;
	poke_r(e);
}

static void program_shut_rd(struct end *e)
{
	e->shut_rd = true;
	poke_w(e);
}

static void program_abort(struct side *side, struct end *e)
{
	if (!e->client)
		mark_dirty(e);
	e->aborted = true;
	enter(side);
	stream_abort(e->s);
	leave(side);
	end_over(e);
}

static void program_close(struct side *side, struct end *e)
{
	if (!e->active) {
		program_abort(side, e);
		return;
	}
	e->gone = true;
	e->shut_wr = true;
	e->shut_rd = true;
	poke_w(e);
	poke_r(e);
}

static void program_answer(struct side *side, struct end *e, bool accept)
{
	e->opening = false;
	enter(side);
	if (accept) {
		stream_accept(e->s);
	} else {
		mark_dirty(e);
		stream_refuse(e->s);
		end_over(e);
	}
	leave(side);
}

static void program_connect(struct side *side)
{
	bool fixed = chance(64), hasty = chance(24);
	struct end *e;
	int r;

	if (side->alive_count > MAX_ALIVE / 2)
		return;
	e = end_new(side);
	e->client = true;
	e->dirty = fixed || hasty;
	e->peer_port = (uint32_t)below(LISTEN_PORTS);
	e->local_port = fixed ? FIXED_PORT + (uint32_t)below(2) : VMCI_PORT_ANY;
	e->refusals = w.refusals;
	enter(side);
	stats.connects++;
	r = streams_connect(side->t, e->peer_port, cid_of(side->id), e->local_port, hasty ? some(100000) : 0, e, &e->s);
	leave(side);
	if (r) {
		check(r == -ENOBUFS || (r == -EADDRINUSE && fixed), "connect: %d", r);
		end_over(e);
		return;
	}
	if (!fixed)
		e->local_port = stream_local_port(e->s);
}

static void hide_memory(struct side *side, const struct end *e)
{
	if (!e->pair || !e->active)
		return;
	e->pair->hidden[side->id] = (unsigned)below(8);
	e->pair->was_hidden[side->id] = true;
	stats.parked++;
}

static void restore_memory(struct side *side)
{
	for (unsigned i = 0; i < side->alive_count; i++)
		if (side->alive[i]->pair)
			side->alive[i]->pair->hidden[side->id] = 0;
	enter(side);
	streams_memory_changed(side->t);
	leave(side);
}

/* Something that a program of this side does, or its machine. */
static void act(struct side *side)
{
	unsigned what = (unsigned)below(256);
	struct end *e;

	if (side->busy)
		return;
	if (what < 12 || !side->alive_count) {
		program_connect(side);
		return;
	}
	if (what < 16) {
		restore_memory(side);
		return;
	}
	e = side->alive[below(side->alive_count)];
	if (e->opening) {
		if (what < 200)
			program_answer(side, e, true);
		else if (what < 220)
			program_answer(side, e, false);
		else if (what < 224)
			program_abort(side, e);
		return;
	}
	if (what < 130)
		program_write(e);
	else if (what < 240)
		program_read(e, some(e->pair ? e->pair->size * 3 : 1000));
	else if (what < 243)
		program_shut_wr(e);
	else if (what < 245)
		program_shut_rd(e);
	else if (what < 249)
		program_close(side, e);
	else if (what < 250)
		program_abort(side, e);
	else if (what < 254)
		hide_memory(side, e);
}

/* --- The machine --------------------------------------------------------------------------- */

/* One round of the event loop. */
static void loop_round(struct side *side)
{
	bool more;

	if (side->busy)
		return;
	if (streams_deadline(side->t) <= w.now)
		side->awake = true;
	for (unsigned i = 0; i < side->alive_count; i++) {
		struct end *e = side->alive[i];

		if (e->wake_r && e->wake_r <= w.now)
			poke_r(e);
		if (e->wake_w && e->wake_w <= w.now)
			poke_w(e);
	}
	if (!side->awake)
		return;
	enter(side);
	more = streams_run(side->t);
	more = streams_poll(side->t) || more;
	leave(side);
	side->awake = more;
	w.now += 1 + below(300);
}

/* Something happens on one side. */
static void happen(struct side *side)
{
	switch (below(4)) {
	case 0:
		deliver(side);
		break;
	case 1:
		if (!w.settling && chance(128))
			act(side);
		break;
	default:
		loop_round(side);
		break;
	}
}

/* Between two instructions of one side, the other lives on. */
static void interleave(const struct side *self)
{
	if (w.nested || !self->busy || !chance(w.nest_chance))
		return;
	w.nested = true;
	for (uint64_t n = 1 + below(3); n; n--)
		happen(other(self));
	w.nested = false;
	stats.nested++;
}

/* When does the next thing happen by itself? */
static uint64_t next_time(void)
{
	uint64_t t = UINT64_MAX;

	for (int k = 0; k < SIDES; k++) {
		const struct side *side = &w.side[k];

		if (side->awake)
			return w.now;
		if (side->head != side->tail && side->inbox[side->head % INBOX].at < t)
			t = side->inbox[side->head % INBOX].at;
		if (streams_deadline(side->t) < t)
			t = streams_deadline(side->t);
		for (unsigned i = 0; i < side->alive_count; i++) {
			const struct end *e = side->alive[i];

			if (e->wake_r && e->wake_r < t)
				t = e->wake_r;
			if (e->wake_w && e->wake_w < t)
				t = e->wake_w;
		}
	}
	return t;
}

/* Nothing moves any more: is that right for this end as a writer? */
static void check_quiet(const struct end *e)
{
	const struct end *peer = peer_of(e);
	uint64_t in_ring;
	bool full;

	check(e->active && e->pair, "an end is still in its handshake");
	check(peer && e->pair->attached[0] && e->pair->attached[1] && !peer->over,
	      "the peer's end was not noticed");
	check(!e->wake_r && !e->wake_w, "the model forgot to wake an end");

	in_ring = e->put - peer->got;
	full = !peer->deaf_said && in_ring >= e->pair->size - 1;
	if (e->told & VMCI_SHUTDOWN_RECEIVE) {
		check(!e->gone, "stall: a closed end whose peer does not read is not noticed");
		return;
	}
	if (peer->deaf_said) {
		fail("stall: the writer is not told that nobody reads");
	} else if (in_ring) {
		check(!peer->shut_rd, "stall: bytes for nobody");
		check(!peer->room, "stall: pair %u: %llu bytes wait in front of a willing reader on side %d",
		      e->pair->id, (unsigned long long)in_ring, peer->side);
	} else if (e->eof_said) {
		check(peer->told & VMCI_SHUTDOWN_SEND, "stall: end of stream was not told");
	}
	if (!full) {
		check(!e->avail, "stall: pair %u: a writer on side %d waits in front of free room",
		      e->pair->id, e->side);
		check(!e->shut_wr || e->eof_said || e->gone, "stall: a half-close was not noticed");
		check(!e->gone, "stall: a close was not noticed");
	}
}

/*
 * Everybody stops; what is under way arrives. Then nothing may be stuck. With @thirsty all programs read on.
 */
static void settle(bool thirsty)
{
	w.settling = true;
	for (int k = 0; k < SIDES; k++) {
		struct side *side = &w.side[k];

		restore_memory(side);
		for (unsigned i = 0; i < side->alive_count; i++) {
			struct end *e = side->alive[i];

			if (thirsty)
				program_read(e, 1u << 24);
		}
		/* From the end, because an answer can take an end off the list. */
		for (unsigned i = side->alive_count; i--;)
			if (side->alive[i]->opening)
				program_answer(side, side->alive[i], true);
	}
	for (unsigned long turns = 0;; turns++) {
		uint64_t t = next_time();
		unsigned first = (unsigned)below(2);

		if (t == UINT64_MAX)
			break;
		check(turns < 10000000, "it never gets quiet");
		if (t > w.now)
			w.now = t;
		for (unsigned k = 0; k < SIDES; k++) {
			struct side *side = &w.side[(first + k) % SIDES];

			if (chance(128))
				deliver(side);
			loop_round(side);
		}
		/* A server's end that was opened meanwhile. */
		for (int k = 0; k < SIDES; k++)
			for (unsigned i = w.side[k].alive_count; i--;)
				if (w.side[k].alive[i]->opening)
					program_answer(&w.side[k], w.side[k].alive[i], true);
	}
	for (int k = 0; k < SIDES; k++)
		for (unsigned i = 0; i < w.side[k].alive_count; i++)
			check_quiet(w.side[k].alive[i]);
	for (int k = 0; k < SIDES; k++)
		check(streams_count(w.side[k].t) == w.side[k].alive_count, "side %d: %zu streams and %u ends",
		      k, streams_count(w.side[k].t), w.side[k].alive_count);
	w.settling = false;
	stats.settled++;
}

static void channel_clear(void)
{
	for (int k = 0; k < SIDES; k++) {
		w.side[k].head = w.side[k].tail;
		w.side[k].queued = 0;
	}
}

/* The machine is reset: nothing is left of any stream, and nothing of the channel. */
static void reset(void)
{
	w.nested = true;	/* nobody does anything meanwhile */
	channel_clear();
	for (int k = 0; k < SIDES; k++) {
		for (unsigned i = 0; i < w.side[k].alive_count; i++) {
			w.side[k].alive[i]->dirty = true;
			w.side[k].alive[i]->aborted = true;
		}
	}
	for (int k = 0; k < SIDES; k++) {
		enter(&w.side[k]);
		streams_reset(w.side[k].t);
		leave(&w.side[k]);
		check(!w.side[k].alive_count && !streams_count(w.side[k].t),
		      "side %d: streams survive a reset", k);
		channel_clear();
	}
	w.nested = false;
	stats.resets++;
}

static void world_new(uint64_t seed)
{
	static const uint32_t sizes[] = { 128, 129, 200, 1000, 4096, 5000, 65536, 262144 };
	static const uint64_t spins[] = { 0, 0, 500, 3000, 50000 };

	memset(&w.rng, 0, sizeof(w) - offsetof(struct world, rng));
	w.seed = seed;
	w.rng = seed * 0x9e3779b97f4a7c15ull ^ 0x106689d45497fdb5ull;
	if (!w.rng)
		w.rng = 1;
	for (int i = 0; i < 8; i++)
		rnd();
	w.trace = getenv("MODEL_TRACE") != NULL;
	w.now = 1000000;
	w.nest_chance = (unsigned)below(4) * 16;
	w.again_chance = (unsigned)below(4) * 12;
	w.slow_chance = (unsigned)below(3) * 4;
	w.shift = chance(128) ? 12 : 6;
	for (int k = 0; k < SIDES; k++) {
		struct side *side = &w.side[k];
		struct stream_config config = {
			.peer_cid = cid_of(1 - k),
			.legacy = chance(96),
			.ring_size = sizes[below(sizeof(sizes) / sizeof(sizes[0]))],
			.spin_ns = spins[below(sizeof(spins) / sizeof(spins[0]))],
			.log_level = w.trace ? LOG_LEVEL_TRACE : LOG_LEVEL_ERR,
		};
		struct stream_ports ports = {
			.ctx = side,
			.now = port_now,
			.send = port_send,
			.qp_create = port_qp_create,
			.qp_attach = port_qp_attach,
			.qp_map = port_qp_map,
			.qp_detach = port_qp_detach,
			.open = port_open,
			.end = &end_ops,
			.log = port_log,
		};

		side->id = k;
		side->queue_max = chance(128) ? 2 + (unsigned)below(6) : 64;
		check(!streams_new(&config, &ports, &side->t), "out of memory");
	}
}

/* Everything ends, by whatever way; then nothing may be left. */
static void world_end(void)
{
	for (int k = 0; k < SIDES; k++) {
		struct side *side = &w.side[k];

		for (unsigned i = side->alive_count; i--;) {
			if (side->alive[i]->opening)
				program_answer(side, side->alive[i], chance(128));
			else if (chance(192))
				program_close(side, side->alive[i]);
		}
	}
	settle(true);
	for (int k = 0; k < SIDES; k++)
		for (unsigned i = w.side[k].alive_count; i--;)
			program_close(&w.side[k], w.side[k].alive[i]);
	settle(true);
	for (int k = 0; k < SIDES; k++) {
		check(!w.side[k].alive_count, "side %d: ends are left", k);
		check(!streams_count(w.side[k].t), "side %d: streams are left", k);
		check(!streams_free(w.side[k].t), "streams_free() returns something");
	}
	for (unsigned i = 0; i < w.end_count; i++) {
		check(w.end[i]->over, "an end never got its last call");
		free(w.end[i]);
	}
	for (unsigned i = 0; i < w.pair_count; i++) {
		check(!w.pair[i]->attached[0] && !w.pair[i]->attached[1] && !w.pair[i]->base,
		      "a queue pair is left");
		free(w.pair[i]);
	}
	free(w.end);
	free(w.pair);
	stats.refusals += w.refusals;
}

static void run_world(uint64_t seed, unsigned steps)
{
	world_new(seed);
	for (w.step = 0; w.step < steps; w.step++) {
		struct side *side = &w.side[below(2)];

		w.now += below(2000);
		if (chance(96))
			act(side);
		else
			happen(side);
		if (below(200) == 0)
			settle(chance(128));
		if (below(4000) == 0)
			reset();
	}
	world_end();
	stats.worlds++;
	stats.steps += steps;
}

static unsigned long long from_environment(const char *name, unsigned long long otherwise)
{
	const char *value = getenv(name);

	return value && *value ? strtoull(value, NULL, 0) : otherwise;
}

int main(void)
{
	uint64_t seed = from_environment("MODEL_SEED", 1);
	unsigned long long worlds = from_environment("MODEL_WORLDS", getenv("MODEL_SEED") ? 1 : 400);
	unsigned steps = (unsigned)from_environment("MODEL_STEPS", 4000);

	for (unsigned long long i = 0; i < worlds; i++)
		run_world(seed + i, steps);
	printf("%llu worlds, %llu steps: %llu connects (%llu connected, %llu failed), %llu MiB, "
	       "%llu finished with %llu KiB left over, %llu closed, %llu interleaved, %llu times parked, "
	       "%llu packets refused, %llu resets, "
	       "%llu times settled\n",
	       stats.worlds, stats.steps, stats.connects, stats.connected, stats.failed, stats.bytes >> 20,
	       stats.finished, stats.leftover >> 10, stats.closed, stats.nested, stats.parked, stats.refusals,
	       stats.resets, stats.settled);
	return 0;
}
