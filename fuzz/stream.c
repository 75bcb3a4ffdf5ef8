/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A hostile guest against the streams of one table.
 *
 * The input is a list of operations, one byte each (modulo OP_NUM) with operand bytes behind it; operands
 * that are missing are 0. Bytes that the guest may change at any time, the positions in the headers of its
 * queue pairs, come from the input at each load where the pair is "wild", and from memory otherwise.
 *
 * Checked, beside what the sanitizers check: packets are canonical and carry the stream's own address;
 * nothing outside a ring is given to an end; ends get nothing after their last call, and get that call; queue
 * pairs are given back; a stream for each end, and none is left; time-outs are on time.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/limits.h"
#include "proto/packet.h"
#include "proto/stream.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define HOST 2u
#define GUEST 20u
#define SHIFT 12
#define PAGE 4096u
#define PAIRS 8u
#define ENDS 16u

enum op {
	OP_PACKET,	/* type, address, argument (see argument()), protocol */
	OP_DATAGRAM,	/* length, bytes: anything on the control channel */
	OP_CONNECT,	/* address, patience */
	OP_RUN,
	OP_POLL,
	OP_LOOP,	/* run and poll until there is nothing to do, but for a while at most */
	OP_TIME,	/* how much: 1 << n ns */
	OP_END,		/* which, room, avail, what recv() says, what send() says */
	OP_STIR,	/* which, what */
	OP_LEAVE,	/* which, accept, refuse or abort */
	OP_CREATE,	/* size: a queue pair of the guest's */
	OP_ATTACH,	/* which: the guest attaches to one of ours */
	OP_DETACH,	/* which: the guest's end goes */
	OP_POSITION,	/* which, header, value */
	OP_WILD,	/* which: positions come from the input from now on, or not any more */
	OP_MAP,		/* which, pages: unmapped; 0: everything is mapped */
	OP_REFUSE,	/* number of packets that find the guest's queue full */
	OP_RESET,
	OP_NUM,
};

struct mem_pages {
	uint8_t *base;
	uint64_t size;		/* of each ring */
	unsigned unmapped;	/* bit 0: first header, 1: second, 2: data */
	bool wild;
};

struct pair {
	struct vmci_handle handle;
	bool host, guest;
	void *owner;
	struct mem_pages pages;
};

struct end {
	bool used, opening;
	struct stream *s;
	uint64_t room, avail;
	int recv_says, send_says;
	bool deaf, eof, gone;
	unsigned told;
};

static struct {
	const uint8_t *p, *stop;
	struct streams *t;
	uint64_t now;
	struct pair pair[PAIRS];
	struct end end[ENDS];
	unsigned refuse;
	uint32_t next_resource;
	unsigned loads;
	unsigned sum;	/* of bytes read */
} f;

static void check(bool ok, const char *what)
{
	if (ok)
		return;
	fprintf(stderr, "invariant broken: %s\n", what);
	abort();
}

/* --- The input ----------------------------------------------------------------------------- */

static uint8_t byte(void)
{
	return f.p < f.stop ? *f.p++ : 0;
}

static uint64_t number(unsigned bytes)
{
	uint64_t v = 0;

	for (unsigned i = 0; i < bytes; i++)
		v |= (uint64_t)byte() << 8 * i;
	return v;
}

/* Numbers of all magnitudes: a byte that chooses how many follow. */
static uint64_t magnitude(void)
{
	uint8_t b = byte();

	return b < 0xf0 ? b : number(1 + b % 8);
}

/* --- Guest memory -------------------------------------------------------------------------- */

static uint64_t data_size(const struct mem_pages *pages)
{
	return (pages->size + PAGE - 1) / PAGE * PAGE;
}

static unsigned part_of(const struct mem_pages *pages, size_t off)
{
	if (off < PAGE)
		return 1;
	return off >= PAGE + data_size(pages) && off < 2 * PAGE + data_size(pages) ? 2 : 4;
}

static int load64(void *ctx, struct mem_pages *pages, size_t off, uint64_t *ret)
{
	(void)ctx;
	f.loads++;
	check(off % 8 == 0 && part_of(pages, off) != 4 && off % PAGE < 24,
	      "a position is loaded from somewhere else");
	if (pages->unmapped & part_of(pages, off))
		return -EFAULT;
	if (pages->wild) {
		uint8_t b = byte();

		/* mostly something that may be */
		put_le64(pages->base + off, b < 0xf8 ? (uint64_t)b * pages->size / 0xf8 : number(b % 8 + 1));
	}
	*ret = get_le64(pages->base + off);
	return 0;
}

static int store64(void *ctx, struct mem_pages *pages, size_t off, uint64_t v)
{
	(void)ctx;
	check(off % 8 == 0 && part_of(pages, off) != 4 && off % PAGE < 24,
	      "a position is stored somewhere else");
	if (off % PAGE)
		check(v < pages->size, "a position out of range is published");
	if (pages->unmapped & part_of(pages, off))
		return -EFAULT;
	put_le64(pages->base + off, v);
	return 0;
}

static int spans_of(void *ctx, struct mem_pages *pages, size_t off, size_t len, struct mem_span *spans,
		    int max)
{
	uint64_t total = 2 * (PAGE + data_size(pages));
	int n = 0;

	(void)ctx;
	check(len > 0 && max > 0 && off <= total && len <= total - off, "spans outside of the pages");
	check(part_of(pages, off) == 4 && part_of(pages, off + len - 1) == 4, "spans of a header");
	if (pages->unmapped & 4)
		return -EFAULT;
	while (len && n < max) {
		size_t here = PAGE - off % PAGE;

		if (here > len)
			here = len;
		spans[n++] = (struct mem_span){ pages->base + off, here };
		off += here;
		len -= here;
	}
	return n;
}

static const struct mem_ops mem_ops = { .load64 = load64, .store64 = store64, .spans = spans_of };

static struct pair *pair_find(struct vmci_handle handle)
{
	for (unsigned i = 0; i < PAIRS; i++)
		if ((f.pair[i].host || f.pair[i].guest) && handle_is_equal(f.pair[i].handle, handle))
			return &f.pair[i];
	return NULL;
}

static struct pair *pair_new(uint32_t context, uint64_t size)
{
	for (unsigned i = 0; i < PAIRS; i++) {
		struct pair *pair = &f.pair[i];

		if (pair->host || pair->guest)
			continue;
		free(pair->pages.base);
		*pair = (struct pair){ .handle = handle_make(context, f.next_resource++),
				       .pages.size = size };
		return pair;
	}
	return NULL;
}

static void pair_populate(struct pair *pair)
{
	struct mem mem = { &mem_ops, NULL };
	struct qp qp;

	pair->pages.unmapped = 0;
	pair->pages.base = calloc(2, PAGE + data_size(&pair->pages));
	if (!pair->pages.base)
		abort();
	qp_init(&qp, mem, &pair->pages, SHIFT, pair->pages.size, pair->pages.size, false);
	check(!qp_format(&qp, pair->handle), "a new pair cannot be formatted");
	pair->guest = true;
}

static void pair_leave(struct pair *pair)
{
	if (!pair->guest)
		return;
	if (pair->host)
		stream_peer_gone(pair->owner);
	pair->host = false;
	pair->guest = false;
	free(pair->pages.base);
	pair->pages.base = NULL;
}

static int32_t qp_create(void *ctx, uint32_t local_cid, uint64_t produce, uint64_t consume, void *owner,
			 struct vmci_handle *ret_handle)
{
	struct pair *pair = pair_new(HOST, produce);

	(void)ctx;
	(void)local_cid;
	check(produce == consume && produce >= LIMIT_RING_MIN && produce <= LIMIT_RING_MAX,
	      "a ring out of limits");
	if (!pair)
		return VMCI_ERROR_NO_RESOURCES;
	pair->host = true;
	pair->owner = owner;
	*ret_handle = pair->handle;
	return VMCI_SUCCESS_QUEUEPAIR_CREATE;
}

static int32_t qp_attach(void *ctx, struct vmci_handle handle, uint32_t local_cid, uint64_t produce,
			 uint64_t consume, void *owner)
{
	struct pair *pair = pair_find(handle);

	(void)ctx;
	(void)local_cid;
	check(produce == consume && produce >= LIMIT_RING_MIN && produce <= LIMIT_RING_MAX,
	      "a ring out of limits");
	if (!pair || pair->host)
		return pair ? VMCI_ERROR_UNAVAILABLE : VMCI_ERROR_NOT_FOUND;
	if (pair->pages.size != produce)
		return VMCI_ERROR_QUEUEPAIR_MISMATCH;
	pair->host = true;
	pair->owner = owner;
	return VMCI_SUCCESS_QUEUEPAIR_ATTACH;
}

static int32_t qp_map(void *ctx, struct vmci_handle handle, struct qp *ret_qp)
{
	struct pair *pair = pair_find(handle);
	struct mem mem = { &mem_ops, NULL };

	(void)ctx;
	check(pair && pair->host, "a pair is mapped that we are not attached to");
	if (!pair->guest)
		return VMCI_ERROR_QUEUEPAIR_NOT_READY;
	qp_init(ret_qp, mem, &pair->pages, SHIFT, pair->pages.size, pair->pages.size, false);
	return VMCI_SUCCESS;
}

static void qp_detach(void *ctx, struct vmci_handle handle)
{
	struct pair *pair = pair_find(handle);

	(void)ctx;
	check(pair && pair->host, "a pair is detached that we are not attached to");
	pair->host = false;
}

/* --- Packets ------------------------------------------------------------------------------- */

static int32_t send_packet(void *ctx, const uint8_t *dg, size_t size)
{
	uint8_t canonical[VMCI_STREAM_PACKET_SIZE];
	struct packet p;

	(void)ctx;
	check(size == VMCI_STREAM_PACKET_SIZE && !packet_parse(dg, size, &p), "a packet of another size");
	packet_build(&p, canonical);
	check(!memcmp(dg, canonical, size), "a packet that is not canonical");
	check(p.type < PACKET_NUM, "a packet of unknown type");
	check(p.dst.context == GUEST && p.dst.resource == VMCI_RID_STREAM, "a packet for somebody else");
	check(p.type >= PACKET_REQUEST2 || !p.proto, "protocol bits where there are none");
	check(p.type != PACKET_REQUEST || p.arg, "REQUEST of no size");
	check(p.type != PACKET_REQUEST2 || (p.arg && p.proto == 1), "REQUEST2 of no size or protocol");
	check(p.type != PACKET_NEGOTIATE || p.arg, "NEGOTIATE of no size");
	check(p.type != PACKET_NEGOTIATE2 || (p.arg && p.proto == 1), "NEGOTIATE2 of no size or protocol");
	check((p.type != PACKET_OFFER && p.type != PACKET_ATTACH) || handle_is_valid(packet_handle(&p)),
	      "an invalid handle");
	check(p.type != PACKET_SHUTDOWN || (p.arg && p.arg <= VMCI_SHUTDOWN_BOTH), "SHUTDOWN of nothing");
	if (f.refuse) {
		f.refuse--;
		return VMCI_ERROR_NO_RESOURCES;
	}
	return (int32_t)size;
}

static const uint32_t guest_ports[] = { 1024, 1025, 0, VMCI_PORT_ANY };
static const uint32_t host_ports[] = { 5000, 5001, 0, VMCI_PORT_ANY };

/* An address: one of a few ports on either side, or those of a stream. */
static void address(uint32_t *ret_guest, uint32_t *ret_host)
{
	uint8_t b = byte();
	const struct end *e = &f.end[b % ENDS];

	if (b & 0x80 && e->used) {
		*ret_guest = stream_peer_port(e->s);
		*ret_host = stream_local_port(e->s);
		return;
	}
	*ret_guest = guest_ports[b & 3];
	*ret_host = host_ports[b >> 2 & 3];
}

/* An argument: a size, a mode, the handle of one of the pairs, or anything. */
static uint64_t argument(void)
{
	uint8_t b = byte();

	switch (b & 0xf0) {
	case 0x00:
		return packet_arg(f.pair[b % PAIRS].handle);
	case 0x10:
		return b & 0xf;
	case 0x20:
		return 128u << (b & 0xf);
	case 0x30:
		return number(4);
	default:
		return number(8);
	}
}

static void op_packet(void)
{
	struct packet p = {
		.dst = handle_make(HOST, VMCI_RID_STREAM),
		.src = handle_make(GUEST, VMCI_RID_STREAM),
	};
	uint8_t buf[VMCI_STREAM_PACKET_SIZE];

	p.type = byte();
	address(&p.src_port, &p.dst_port);
	p.arg = argument();
	p.proto = byte();
	packet_build(&p, buf);
	check(streams_packet(f.t, buf, sizeof(buf)) == sizeof(buf), "a packet is refused");
}

static void op_datagram(void)
{
	uint8_t buf[VMCI_STREAM_PACKET_SIZE + 8];
	size_t size = byte() % (sizeof(buf) + 1);
	int32_t r;

	for (size_t i = 0; i < size; i++)
		buf[i] = byte();
	/* The destination is the carrier's business. */
	if (size >= VMCI_DG_HEADER_SIZE)
		put_le64(buf, packet_arg(handle_make(HOST + (buf[0] & 3), VMCI_RID_STREAM)));
	r = streams_packet(f.t, buf, size);
	check(r == (int32_t)size || r == VMCI_ERROR_INVALID_ARGS || r == VMCI_ERROR_NO_ACCESS ||
		      r == VMCI_ERROR_DST_UNREACHABLE,
	      "a strange result");
}

/* --- Ends ---------------------------------------------------------------------------------- */

static struct end *end_new(void)
{
	for (unsigned i = 0; i < ENDS; i++) {
		if (f.end[i].used)
			continue;
		f.end[i] = (struct end){ .used = true, .room = 100, .avail = 100 };
		return &f.end[i];
	}
	return NULL;
}

static struct end *called(void *end)
{
	struct end *e = end;

	check(e->used, "an end is called after its last call");
	return e;
}

static void end_connected(void *end)
{
	called(end);
}

static void end_failed(void *end, int error)
{
	check(error < 0, "failed() without an error");
	called(end)->used = false;
}

/* Touch all of the spans, which lie in the data of one pair. Returns the bytes. */
static uint64_t touch(const struct mem_span *spans, int n, bool write)
{
	uint64_t total = 0;

	for (int i = 0; i < n; i++) {
		uint8_t *p = spans[i].base;

		check(spans[i].len > 0, "an empty span");
		if (write)
			memset(p, 0x5a, spans[i].len);
		else
			f.sum += p[0] ^ p[spans[i].len - 1];
		total += spans[i].len;
	}
	check(total < LIMIT_RING_MAX, "more than a ring holds");
	return total;
}

static ssize_t end_send(void *end, const struct mem_span *spans, int n)
{
	struct end *e = called(end);
	uint64_t total = touch(spans, n, false);

	check(n > 0 && !e->deaf, "send() after nobody reads");
	if (total > e->room)
		total = e->room;
	if (total) {
		e->room -= total;
		return (ssize_t)total;
	}
	if (e->send_says != -EAGAIN && e->send_says != -EFAULT)
		e->deaf = true;
	return e->send_says;
}

static ssize_t end_recv(void *end, const struct mem_span *spans, int n)
{
	struct end *e = called(end);
	uint64_t total = touch(spans, n, true);

	check(!e->gone, "recv() after the end was gone");
	if (n == 0)
		return e->recv_says < 0 && e->recv_says != -EFAULT ? e->recv_says : -EAGAIN;
	check(!e->eof, "recv() after the end of the stream");
	if (total > e->avail)
		total = e->avail;
	if (total) {
		e->avail -= total;
		return (ssize_t)total;
	}
	if (e->recv_says == 0)
		e->eof = true;
	else if (e->recv_says != -EAGAIN && e->recv_says != -EFAULT)
		e->gone = true;
	return e->recv_says;
}

static void end_shutdown(void *end, unsigned how)
{
	struct end *e = called(end);

	check(how && how <= VMCI_SHUTDOWN_BOTH && !(e->told & how), "told twice, or nothing");
	e->told |= how;
	/* Nothing that it has is wanted any more. */
	if (how & VMCI_SHUTDOWN_RECEIVE)
		e->eof = true;
}

static void end_finish(void *end, void *data, size_t len)
{
	check(!data == !len && len < LIMIT_RING_MAX, "finish() with a strange length");
	free(data);
	called(end)->used = false;
}

static void end_close(void *end)
{
	called(end)->used = false;
}

static const struct stream_end_ops end_ops = {
	.connected = end_connected,
	.failed = end_failed,
	.send = end_send,
	.recv = end_recv,
	.shutdown = end_shutdown,
	.finish = end_finish,
	.close = end_close,
};

static int open_end(void *ctx, struct stream *s, uint32_t local_cid, uint32_t local_port, uint32_t peer_port,
		    void **ret_end)
{
	struct end *e;

	(void)ctx;
	check(local_port != VMCI_PORT_ANY && peer_port != VMCI_PORT_ANY, "a port that is none");
	if (local_port == 0)
		return local_cid == HOST ? -ECONNREFUSED : local_cid & 1 ? -EHOSTUNREACH : -EPERM;
	e = end_new();
	if (!e)
		return -ENOBUFS;
	e->s = s;
	e->opening = local_port == 5001;
	e->recv_says = -EAGAIN;
	e->send_says = -EAGAIN;
	*ret_end = e;
	return e->opening ? -EINPROGRESS : 0;
}

static void op_connect(void)
{
	uint32_t guest_port, host_port;
	struct end *e;
	int r;

	address(&guest_port, &host_port);
	e = end_new();
	if (!e)
		return;
	e->recv_says = -EAGAIN;
	e->send_says = -EAGAIN;
	r = streams_connect(f.t, guest_port, HOST, host_port, magnitude(), e, &e->s);
	if (r)
		e->used = false;
}

static void op_end(void)
{
	static const int says[] = { -EAGAIN, 0, -ESHUTDOWN, -EFAULT, -ECONNRESET, -EAGAIN, -EAGAIN, -EAGAIN };
	struct end *e = &f.end[byte() % ENDS];
	uint8_t how;

	e->room = magnitude();
	e->avail = magnitude();
	how = byte();
	e->recv_says = says[how & 7];
	e->send_says = says[how >> 4 & 7];
	if (e->send_says == 0)
		e->send_says = -EPIPE;
}

static void op_stir(void)
{
	const struct end *e = &f.end[byte() % ENDS];
	uint8_t what = byte();

	if (!e->used)
		return;
	if (what & 1)
		stream_readable(e->s);
	if (what & 2)
		stream_writable(e->s);
}

static void op_leave(void)
{
	struct end *e = &f.end[byte() % ENDS];
	uint8_t what = byte();

	if (!e->used)
		return;
	if (e->opening && what % 3 == 0) {
		e->opening = false;
		stream_accept(e->s);
	} else if (e->opening && what % 3 == 1) {
		e->used = false;
		stream_refuse(e->s);
	} else {
		e->used = false;
		stream_abort(e->s);
	}
}

/* --- Guest, and the rest ------------------------------------------------------------------- */

static void op_position(void)
{
	struct pair *pair = &f.pair[byte() % PAIRS];
	uint8_t which = byte();
	uint64_t v = magnitude();

	/* The guest owns the list: its header is the first; but it can write into either. */
	if (pair->guest)
		put_le64(pair->pages.base + (which & 2 ? PAGE + data_size(&pair->pages) : 0) +
				 (which & 1 ? 16 : 8),
			 v);
}

static void op_map(void)
{
	struct pair *pair = &f.pair[byte() % PAIRS];

	pair->pages.unmapped = byte() & 7;
	streams_memory_changed(f.t);
}

static void op_run(void)
{
	f.loads = 0;
	streams_run(f.t);
	/* Each step of a turn moves a byte at least, and looks a few times. */
	check(f.loads <= ENDS * 8u * LIMIT_TURN_BYTES, "a turn without end");
	check(streams_deadline(f.t) >= f.now, "a deadline has passed, and nothing happened");
}

static void op_loop(void)
{
	bool more = true;

	for (unsigned i = 0; more && i < 64; i++) {
		op_run();
		more = streams_poll(f.t);
		f.now += 700;
	}
}

static uint64_t now(void *ctx)
{
	(void)ctx;
	return f.now;
}

static void log_line(void *ctx, enum log_level level, const char *line)
{
	(void)ctx;
	check(level <= LOG_LEVEL_TRACE && strlen(line) < 256, "a strange line for the log");
}

static void operation(enum op op)
{
	struct pair *pair;

	switch (op) {
	case OP_PACKET:
		op_packet();
		break;
	case OP_DATAGRAM:
		op_datagram();
		break;
	case OP_CONNECT:
		op_connect();
		break;
	case OP_RUN:
		op_run();
		break;
	case OP_POLL:
		streams_poll(f.t);
		break;
	case OP_LOOP:
		op_loop();
		break;
	case OP_TIME:
		f.now += 1ull << byte() % 34;
		break;
	case OP_END:
		op_end();
		break;
	case OP_STIR:
		op_stir();
		break;
	case OP_LEAVE:
		op_leave();
		break;
	case OP_CREATE:
		pair = pair_new(GUEST, 128u << byte() % 12);
		if (pair)
			pair_populate(pair);
		break;
	case OP_ATTACH:
		pair = &f.pair[byte() % PAIRS];
		if (pair->host && !pair->guest)
			pair_populate(pair);
		break;
	case OP_DETACH:
		pair_leave(&f.pair[byte() % PAIRS]);
		break;
	case OP_POSITION:
		op_position();
		break;
	case OP_WILD:
		pair = &f.pair[byte() % PAIRS];
		pair->pages.wild = !pair->pages.wild;
		break;
	case OP_MAP:
		op_map();
		break;
	case OP_REFUSE:
		f.refuse = byte();
		break;
	case OP_RESET:
		streams_reset(f.t);
		check(!streams_count(f.t), "streams survive a reset");
		break;
	case OP_NUM:
		break;
	}
}

static size_t used_ends(void)
{
	size_t n = 0;

	for (unsigned i = 0; i < ENDS; i++)
		n += f.end[i].used;
	return n;
}

/* Queue pairs that our side is attached to. */
static size_t host_pairs(void)
{
	size_t n = 0;

	for (unsigned i = 0; i < PAIRS; i++)
		n += f.pair[i].host;
	return n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct stream_config config = {
		.peer_cid = GUEST,
		.log_level = LOG_LEVEL_TRACE,
	};
	struct stream_ports ports = {
		.now = now,
		.send = send_packet,
		.qp_create = qp_create,
		.qp_attach = qp_attach,
		.qp_map = qp_map,
		.qp_detach = qp_detach,
		.open = open_end,
		.end = &end_ops,
		.log = log_line,
	};
	uint8_t flags;

	memset(&f, 0, sizeof(f));
	f.p = data;
	f.stop = data + size;
	f.now = 1000000;
	f.next_resource = VMCI_RID_FIRST_DYNAMIC;
	flags = byte();
	config.legacy = flags & 1;
	config.spin_ns = flags & 2 ? 5000 : 0;
	config.ring_size = 128u << (flags >> 4) % 12;
	if (streams_new(&config, &ports, &f.t))
		return 0;
	while (f.p < f.stop) {
		operation(byte() % OP_NUM);
		/* A stream that closes has no end any more, but still its queue pair. */
		check(streams_count(f.t) >= used_ends(), "an end without a stream");
		check(streams_count(f.t) - used_ends() <= host_pairs(), "a stream with neither end nor queue pair");
	}
	check(!streams_free(f.t), "streams_free() returns something");
	check(!used_ends(), "an end never got its last call");
	for (unsigned i = 0; i < PAIRS; i++) {
		check(!f.pair[i].host, "a queue pair is not given back");
		free(f.pair[i].pages.base);
	}
	return 0;
}
