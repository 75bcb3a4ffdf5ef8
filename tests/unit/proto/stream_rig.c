/* SPDX-License-Identifier: BSD-2-Clause */
#include "stream_rig.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SHIFT 12
#define PAGE 4096u

uint8_t rig_byte(bool from_guest, uint64_t pos)
{
	uint64_t x = (pos + (from_guest ? 0x51ed270b : 0)) * 0x9e3779b97f4a7c15u;

	return (uint8_t)(x >> 56);
}

/* --- memory -------------------------------------------------------------------------------- */

/* Page @i of a list of @n lies at this place of the block: neighbours are apart. */
static size_t place(const struct mem_pages *pages, size_t i)
{
	size_t half = (pages->n + 1) / 2;

	return i % 2 ? half + i / 2 : i / 2;
}

static uint8_t *at(const struct mem_pages *pages, size_t off)
{
	assert_true(off >> SHIFT < pages->n);
	return pages->base + place(pages, off >> SHIFT) * PAGE + off % PAGE;
}

static int rig_load64(void *ctx, struct mem_pages *pages, size_t off, uint64_t *ret)
{
	struct rig *rig = ctx;

	assert_int_equal(off % 8, 0);
	rig->loads++;
	if (rig->hook)
		rig->hook(rig, RIG_BEFORE_LOAD);
	if (pages->unmapped[off >> SHIFT])
		return -EFAULT;
	*ret = get_le64(at(pages, off));
	return 0;
}

static int rig_store64(void *ctx, struct mem_pages *pages, size_t off, uint64_t v)
{
	struct rig *rig = ctx;

	assert_int_equal(off % 8, 0);
	rig->stores++;
	if (rig->hook)
		rig->hook(rig, RIG_BEFORE_STORE);
	if (pages->unmapped[off >> SHIFT])
		return -EFAULT;
	put_le64(at(pages, off), v);
	if (rig->hook)
		rig->hook(rig, RIG_AFTER_STORE);
	return 0;
}

static int rig_spans(void *ctx, struct mem_pages *pages, size_t off, size_t len, struct mem_span *spans,
		     int max)
{
	int n = 0;

	(void)ctx;
	assert_true(len > 0 && max > 0 && off + len <= pages->n * PAGE);
	while (len && n < max) {
		size_t here = PAGE - off % PAGE;

		if (here > len)
			here = len;
		if (pages->unmapped[off >> SHIFT])
			return n ? n : -EFAULT;
		spans[n++] = (struct mem_span){ at(pages, off), here };
		off += here;
		len -= here;
	}
	return n;
}

static const struct mem_ops rig_mem_ops = {
	.load64 = rig_load64,
	.store64 = rig_store64,
	.spans = rig_spans,
};

/* The guest's own accesses: its memory is always there for it. */
static int guest_load64(void *ctx, struct mem_pages *pages, size_t off, uint64_t *ret)
{
	(void)ctx;
	*ret = get_le64(at(pages, off));
	return 0;
}

static int guest_store64(void *ctx, struct mem_pages *pages, size_t off, uint64_t v)
{
	(void)ctx;
	put_le64(at(pages, off), v);
	return 0;
}

static int guest_spans(void *ctx, struct mem_pages *pages, size_t off, size_t len, struct mem_span *spans,
		       int max)
{
	struct mem_pages mapped = *pages;
	int r;

	mapped.unmapped = calloc(pages->n, sizeof(bool));
	assert_non_null(mapped.unmapped);
	r = rig_spans(ctx, &mapped, off, len, spans, max);
	free(mapped.unmapped);
	return r;
}

static const struct mem_ops guest_mem_ops = {
	.load64 = guest_load64,
	.store64 = guest_store64,
	.spans = guest_spans,
};

static void pages_init(struct mem_pages *pages, size_t n)
{
	pages->n = n;
	pages->base = calloc(n, PAGE);
	pages->unmapped = calloc(n, sizeof(bool));
	assert_non_null(pages->base);
	assert_non_null(pages->unmapped);
}

/* --- queue pairs --------------------------------------------------------------------------- */

struct rig_pair *rig_pair_find(struct rig *rig, struct vmci_handle handle)
{
	for (int i = 0; i < RIG_PAIRS; i++)
		if ((rig->pair[i].host || rig->pair[i].guest) && handle_is_equal(rig->pair[i].handle, handle))
			return &rig->pair[i];
	return NULL;
}

static struct rig_pair *pair_new(struct rig *rig, uint32_t context, uint64_t size)
{
	for (int i = 0; i < RIG_PAIRS; i++) {
		struct rig_pair *pair = &rig->pair[i];

		if (pair->host || pair->guest)
			continue;
		free(pair->pages.base);
		free(pair->pages.unmapped);
		*pair = (struct rig_pair){ .handle = handle_make(context, rig->next_resource++),
					   .size = size };
		return pair;
	}
	fail_msg("no queue pair left");
	return NULL;
}

/* The guest's pages become known: both headers are initialised by the device (6.7). */
static void pair_populate(struct rig_pair *pair)
{
	struct mem mem = { &guest_mem_ops, NULL };
	struct qp qp;

	pages_init(&pair->pages, (size_t)qp_page_count(pair->size, pair->size, SHIFT));
	qp_init(&qp, mem, &pair->pages, SHIFT, pair->size, pair->size, false);
	assert_int_equal(qp_format(&qp, pair->handle), 0);
	pair->guest = true;
}

struct rig_pair *rig_guest_create(struct rig *rig, uint64_t size)
{
	struct rig_pair *pair = pair_new(rig, RIG_GUEST, size);

	pair_populate(pair);
	return pair;
}

struct rig_pair *rig_guest_attach(struct rig *rig, struct vmci_handle handle, uint64_t size)
{
	struct rig_pair *pair = rig_pair_find(rig, handle);

	assert_non_null(pair);
	assert_true(pair->host);
	assert_false(pair->guest);
	assert_int_equal(pair->size, size);
	pair_populate(pair);
	return pair;
}

void rig_guest_detach(struct rig *rig, struct rig_pair *pair)
{
	(void)rig;
	assert_true(pair->guest);
	if (pair->host)
		stream_peer_gone(pair->owner);
	pair->host = false;
	pair->guest = false;
	/* The guest uses its pages for something else. */
	memset(pair->pages.base, 0xee, pair->pages.n * PAGE);
}

void rig_map(struct rig *rig, struct rig_pair *pair, bool mapped)
{
	for (size_t i = 0; i < pair->pages.n; i++)
		pair->pages.unmapped[i] = !mapped;
	streams_memory_changed(rig->t);
}

static uint64_t port_qp_room(void *ctx)
{
	struct rig *rig = ctx;

	return rig->qp_room;
}

static int32_t port_qp_create(void *ctx, uint32_t local_cid, uint64_t produce, uint64_t consume, void *owner,
			      struct vmci_handle *ret_handle)
{
	struct rig *rig = ctx;
	struct rig_pair *pair;

	if (rig->create_result < 0)
		return rig->create_result;
	assert_int_equal(produce, consume);
	rig->pair_cid = local_cid;
	pair = pair_new(rig, RIG_HOST, produce);
	pair->host = true;
	pair->owner = owner;
	*ret_handle = pair->handle;
	return VMCI_SUCCESS_QUEUEPAIR_CREATE;
}

static int32_t port_qp_attach(void *ctx, struct vmci_handle handle, uint32_t local_cid, uint64_t produce,
			      uint64_t consume, void *owner)
{
	struct rig *rig = ctx;
	struct rig_pair *pair = rig_pair_find(rig, handle);

	if (rig->attach_result < 0)
		return rig->attach_result;
	if (!pair)
		return VMCI_ERROR_NOT_FOUND;
	if (pair->host)
		return VMCI_ERROR_UNAVAILABLE;
	if (pair->size != produce || pair->size != consume)
		return VMCI_ERROR_QUEUEPAIR_MISMATCH;
	rig->pair_cid = local_cid;
	pair->host = true;
	pair->owner = owner;
	return VMCI_SUCCESS_QUEUEPAIR_ATTACH;
}

static int32_t port_qp_map(void *ctx, struct vmci_handle handle, struct qp *ret_qp)
{
	struct rig *rig = ctx;
	struct rig_pair *pair = rig_pair_find(rig, handle);
	struct mem mem = { &rig_mem_ops, rig };

	if (rig->map_result < 0)
		return rig->map_result;
	assert_non_null(pair);
	assert_true(pair->host);
	if (!pair->guest)
		return VMCI_ERROR_QUEUEPAIR_NOT_READY;
	qp_init(ret_qp, mem, &pair->pages, SHIFT, pair->size, pair->size, false);
	return VMCI_SUCCESS;
}

static void port_qp_detach(void *ctx, struct vmci_handle handle)
{
	struct rig *rig = ctx;
	struct rig_pair *pair = rig_pair_find(rig, handle);

	/* After a reset, the device does not know the handle any more. */
	if (rig->reset)
		return;
	assert_non_null(pair);
	assert_true(pair->host);
	pair->host = false;
	pair->owner = NULL;
	rig->detaches++;
}

/* --- packets ------------------------------------------------------------------------------- */

static uint64_t port_now(void *ctx)
{
	const struct rig *rig = ctx;

	return rig->now;
}

static int32_t port_send(void *ctx, const uint8_t *dg, size_t size)
{
	struct rig *rig = ctx;
	struct packet *p = &rig->sent[rig->sent_tail % RIG_SENT];
	uint8_t canonical[VMCI_STREAM_PACKET_SIZE];

	if (rig->refuse) {
		rig->refuse--;
		rig->refused++;
		return rig->refuse_with;
	}
	assert_int_equal(size, VMCI_STREAM_PACKET_SIZE);
	assert_true(rig->sent_tail - rig->sent_head < RIG_SENT);
	assert_int_equal(packet_parse(dg, size, p), 0);

	/* 3.3, 3.4: the endpoints, and everything else as a strict receiver wants it. */
	assert_int_equal(p->dst.context, RIG_GUEST);
	assert_int_equal(p->dst.resource, VMCI_RID_STREAM);
	assert_int_equal(p->src.context, rig->local_cid);
	assert_int_equal(p->src.resource, VMCI_RID_STREAM);
	assert_true(p->type < PACKET_NUM);
	if (p->type < PACKET_REQUEST2)
		assert_int_equal(p->proto, 0);
	if (p->type == PACKET_INVALID || p->type == PACKET_WROTE || p->type == PACKET_READ ||
	    p->type == PACKET_RST)
		assert_int_equal(p->arg, 0);
	if (p->type == PACKET_OFFER || p->type == PACKET_ATTACH)
		assert_true(handle_is_valid(packet_handle(p)));
	if (p->type != PACKET_WAITING_READ && p->type != PACKET_WAITING_WRITE)
		assert_int_equal(p->offset, 0);
	packet_build(p, canonical);
	assert_memory_equal(dg, canonical, sizeof(canonical));
	rig->sent_tail++;
	return (int32_t)size;
}

int32_t rig_packet(struct rig *rig, unsigned type, uint32_t src_port, uint32_t dst_port, uint64_t arg,
		   uint16_t proto)
{
	struct packet p = {
		.dst = handle_make(rig->local_cid, VMCI_RID_STREAM),
		.src = handle_make(RIG_GUEST, VMCI_RID_STREAM),
		.type = type,
		.proto = proto,
		.src_port = src_port,
		.dst_port = dst_port,
		.arg = arg,
	};
	uint8_t buf[VMCI_STREAM_PACKET_SIZE];

	packet_build(&p, buf);
	/* 3.1: guests leave what a packet does not use uninitialised. */
	if (type != PACKET_WAITING_READ && type != PACKET_WAITING_WRITE)
		memset(buf + 48, 0xa5, 8);
	return streams_packet(rig->t, buf, sizeof(buf));
}

const struct packet *rig_next(struct rig *rig)
{
	if (rig->sent_head == rig->sent_tail)
		return NULL;
	return &rig->sent[rig->sent_head++ % RIG_SENT];
}

const struct packet *rig_expect_at(struct rig *rig, unsigned type, uint32_t src_port, uint32_t dst_port,
				   const char *file, int line)
{
	const struct packet *p = rig_next(rig);

	if (!p) {
		print_error("%s:%d: no packet, expected %s\n", file, line, packet_type_to_string(type));
		_fail(file, line);
	} else if (p->type != type || p->src_port != src_port || p->dst_port != dst_port) {
		print_error("%s:%d: %s %u->%u, expected %s %u->%u\n", file, line,
			    packet_type_to_string(p->type), p->src_port, p->dst_port,
			    packet_type_to_string(type), src_port, dst_port);
		_fail(file, line);
	}
	return p;
}

void rig_expect_quiet_at(struct rig *rig, const char *file, int line)
{
	const struct packet *p = rig_next(rig);

	if (p) {
		print_error("%s:%d: %s, expected none\n", file, line, packet_type_to_string(p->type));
		_fail(file, line);
	}
}

unsigned rig_drain(struct rig *rig)
{
	const struct packet *p;
	unsigned types = 0;

	while ((p = rig_next(rig)))
		types |= 1u << p->type;
	return types;
}

/* --- ends ---------------------------------------------------------------------------------- */

static struct rig_end *live(void *end)
{
	struct rig_end *e = end;

	assert_non_null(e);
	assert_false(rig_end_is_over(e));
	return e;
}

static void end_connected(void *end)
{
	struct rig_end *e = live(end);

	assert_false(e->connected);
	e->connected = true;
}

static void end_failed(void *end, int error)
{
	struct rig_end *e = live(end);

	assert_true(error < 0);
	assert_false(e->connected);
	e->failed = true;
	e->error = error;
}

static void check_bytes(struct rig_end *e, const uint8_t *p, size_t n)
{
	for (size_t i = 0; i < n; i++, e->got++)
		if (p[i] != rig_byte(true, e->got))
			fail_msg("byte %llu from the guest is wrong", (unsigned long long)e->got);
}

static ssize_t end_send(void *end, const struct mem_span *spans, int n)
{
	struct rig_end *e = live(end);
	uint64_t limit = e->chunk && e->chunk < e->room ? e->chunk : e->room;
	ssize_t taken = 0;

	e->sends++;
	assert_true(n > 0);
	if (e->fault) {
		e->fault--;
		return -EFAULT;
	}
	if (!e->room)
		return e->send_error ? e->send_error : -EAGAIN;
	for (int i = 0; i < n && limit; i++) {
		size_t here = spans[i].len < limit ? spans[i].len : (size_t)limit;

		assert_true(spans[i].len > 0);
		check_bytes(e, spans[i].base, here);
		taken += (ssize_t)here;
		limit -= here;
	}
	if (e->room != RIG_FOREVER)
		e->room -= (uint64_t)taken;
	return taken;
}

static ssize_t end_recv(void *end, const struct mem_span *spans, int n)
{
	struct rig_end *e = live(end);
	uint64_t limit = e->chunk && e->chunk < e->avail ? e->chunk : e->avail;
	ssize_t given = 0;

	e->recvs++;
	if (n == 0)
		return e->recv_end < 0 ? e->recv_end : -EAGAIN;
	if (e->fault) {
		e->fault--;
		return -EFAULT;
	}
	if (!e->avail)
		return e->recv_end == RIG_EOF ? 0 : e->recv_end ? e->recv_end : -EAGAIN;
	for (int i = 0; i < n && limit; i++) {
		size_t here = spans[i].len < limit ? spans[i].len : (size_t)limit;
		uint8_t *p = spans[i].base;

		assert_true(here > 0);
		for (size_t k = 0; k < here; k++)
			p[k] = rig_byte(false, e->put++);
		given += (ssize_t)here;
		limit -= here;
	}
	if (e->avail != RIG_FOREVER)
		e->avail -= (uint64_t)given;
	return given;
}

static void end_shutdown(void *end, unsigned how)
{
	struct rig_end *e = live(end);

	assert_true(how == VMCI_SHUTDOWN_SEND || how == VMCI_SHUTDOWN_RECEIVE || how == VMCI_SHUTDOWN_BOTH);
	assert_int_equal(e->told & how, 0);
	e->told |= how;
	e->told_count++;
}

static void end_finish(void *end, void *data, size_t len)
{
	struct rig_end *e = live(end);

	assert_int_equal(data == NULL, len == 0);
	if (len)
		check_bytes(e, data, len);
	free(data);
	e->finished = true;
	e->finish_len = len;
}

static void end_close(void *end)
{
	live(end)->closed = true;
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

struct rig_end *rig_end_new(struct rig *rig, uint64_t room)
{
	struct rig_end *e = calloc(1, sizeof(*e));

	assert_non_null(e);
	e->room = room;
	e->next = rig->ends;
	rig->ends = e;
	return e;
}

/* --- the rest ------------------------------------------------------------------------------ */

static int port_open(void *ctx, struct stream *s, uint32_t local_cid, uint32_t local_port, uint32_t peer_port,
		     void **ret_end)
{
	struct rig *rig = ctx;

	rig->opens++;
	rig->opened = s;
	rig->open_cid = local_cid;
	rig->open_local = local_port;
	rig->open_peer = peer_port;
	if (rig->open_result && rig->open_result != -EINPROGRESS)
		return rig->open_result;
	assert_non_null(rig->next_end);
	*ret_end = rig->next_end;
	return rig->open_result;
}

static void port_log(void *ctx, enum log_level level, const char *line)
{
	struct rig *rig = ctx;

	assert_true(level <= LOG_LEVEL_TRACE);
	rig->lines++;
	snprintf(rig->line, sizeof(rig->line), "%s", line);
}

struct rig *rig_new(const struct rig_options *options)
{
	struct rig *rig = calloc(1, sizeof(*rig));
	struct stream_config config = {
		.peer_cid = RIG_GUEST,
		.legacy = options->legacy,
		.ring_size = options->ring_size ? options->ring_size : LIMIT_RING_DEFAULT,
		.spin_ns = options->spin_ns,
		.log_level = LOG_LEVEL_TRACE,
	};
	struct stream_ports ports = {
		.ctx = rig,
		.now = port_now,
		.send = port_send,
		.qp_room = options->qp_room ? port_qp_room : NULL,
		.qp_create = port_qp_create,
		.qp_attach = port_qp_attach,
		.qp_map = port_qp_map,
		.qp_detach = port_qp_detach,
		.open = port_open,
		.end = &end_ops,
		.log = port_log,
	};

	assert_non_null(rig);
	rig->now = 1000000000000u;
	rig->qp_room = options->qp_room;
	rig->next_resource = 2000;
	rig->host_port = RIG_PORT;
	rig->guest_port = RIG_PEER;
	rig->local_cid = RIG_HOST;
	rig->refuse_with = VMCI_ERROR_NO_RESOURCES;
	assert_int_equal(streams_new(&config, &ports, &rig->t), 0);
	return rig;
}

void rig_free(struct rig *rig)
{
	rig->reset = false;
	assert_null(streams_free(rig->t));
	for (int i = 0; i < RIG_PAIRS; i++) {
		/* Streams give back every queue pair. */
		assert_false(rig->pair[i].host);
		free(rig->pair[i].pages.base);
		free(rig->pair[i].pages.unmapped);
	}
	while (rig->ends) {
		struct rig_end *e = rig->ends;

		rig->ends = e->next;
		free(e);
	}
	free(rig);
}

int rig_setup(void **state)
{
	struct rig_options options = { 0 };

	*state = rig_new(&options);
	return 0;
}

int rig_teardown(void **state)
{
	rig_free(*state);
	return 0;
}

/* --- connections --------------------------------------------------------------------------- */

uint64_t rig_write(struct rig_conn *c, uint64_t n)
{
	struct mem_span span[QP_MAX_SPANS];
	uint64_t room, done = 0;
	int r;

	assert_int_equal(qp_free(&c->qp, &room), 0);
	if (n > room)
		n = room;
	while (done < n) {
		uint64_t now = 0;

		r = qp_write_spans(&c->qp, n - done, span, QP_MAX_SPANS);
		assert_true(r > 0);
		for (int i = 0; i < r; i++)
			for (size_t k = 0; k < span[i].len; k++, now++)
				((uint8_t *)span[i].base)[k] = rig_byte(true, c->written++);
		assert_int_equal(qp_produce(&c->qp, now), 0);
		done += now;
	}
	return n;
}

uint64_t rig_read(struct rig_conn *c, uint64_t n)
{
	struct mem_span span[QP_MAX_SPANS];
	uint64_t ready, done = 0;
	int r;

	assert_int_equal(qp_ready(&c->qp, &ready), 0);
	if (n > ready)
		n = ready;
	while (done < n) {
		uint64_t now = 0;

		r = qp_read_spans(&c->qp, n - done, span, QP_MAX_SPANS);
		assert_true(r > 0);
		for (int i = 0; i < r; i++)
			for (size_t k = 0; k < span[i].len; k++, now++)
				if (((uint8_t *)span[i].base)[k] != rig_byte(false, c->read++))
					fail_msg("byte %llu from the host is wrong",
						 (unsigned long long)c->read - 1);
		qp_consume(&c->qp, now);
		done += now;
	}
	assert_int_equal(qp_show(&c->qp, 0), 0);
	return n;
}

void rig_poke_tail(struct rig_conn *c, uint64_t v)
{
	put_le64(at(&c->pair->pages, c->qp.produce_hdr + VMCI_QUEUE_TAIL_OFFSET), v);
}

void rig_poke_head(struct rig_conn *c, uint64_t v)
{
	put_le64(at(&c->pair->pages, c->qp.produce_hdr + VMCI_QUEUE_HEAD_OFFSET), v);
}

uint64_t rig_peek_tail(struct rig_conn *c)
{
	return get_le64(at(&c->pair->pages, c->qp.consume_hdr + VMCI_QUEUE_TAIL_OFFSET));
}

uint64_t rig_peek_head(struct rig_conn *c)
{
	return get_le64(at(&c->pair->pages, c->qp.consume_hdr + VMCI_QUEUE_HEAD_OFFSET));
}

void rig_say(struct rig_conn *c, unsigned type, uint64_t arg)
{
	assert_int_equal(rig_packet(c->rig, type, c->guest_port, c->host_port, arg, 0),
			 VMCI_STREAM_PACKET_SIZE);
}

void rig_run(struct rig *rig)
{
	bool more = true;

	/* Far more turns than any test needs: an endless loop is a failure, not a hang. */
	for (unsigned i = 0; more; i++) {
		assert_true(i < 100000);
		more = streams_run(rig->t);
		if (!more)
			more = streams_poll(rig->t);
		if (more)
			rig->now += 100;
	}
}

void rig_conn_init(struct rig_conn *c, struct rig *rig, struct rig_pair *pair, struct rig_end *end,
		      uint32_t size)
{
	struct mem mem = { &guest_mem_ops, NULL };

	*c = (struct rig_conn){ .rig = rig, .pair = pair, .end = end };
	qp_init(&c->qp, mem, &pair->pages, SHIFT, size, size, true);
	c->stream = pair->owner;
	c->host_port = stream_local_port(c->stream);
	c->guest_port = stream_peer_port(c->stream);
}

void rig_accept(struct rig *rig, struct rig_end *end, bool qstate, uint32_t size, struct rig_conn *ret_conn)
{
	struct rig_pair *pair;
	const struct packet *p;

	rig->next_end = end;
	rig_packet(rig, qstate ? PACKET_REQUEST2 : PACKET_REQUEST, rig->guest_port, rig->host_port, size,
		   qstate);
	p = rig_expect(rig, qstate ? PACKET_NEGOTIATE2 : PACKET_NEGOTIATE);
	assert_int_equal(p->arg, size);
	assert_int_equal(p->proto, qstate);
	pair = rig_guest_create(rig, size);
	rig_packet(rig, PACKET_OFFER, rig->guest_port, rig->host_port, packet_arg(pair->handle), 0);
	p = rig_expect(rig, PACKET_ATTACH);
	assert_int_equal(p->arg, packet_arg(pair->handle));
	rig_conn_init(ret_conn, rig, pair, end, size);
	rig_run(rig);
	/* the moment that a client has to find itself connected */
	rig_expect_quiet(rig);
	rig->now += LIMIT_FRESH_MIN_NS;
	rig_run(rig);
	rig_drain(rig);
}

void rig_connect(struct rig *rig, struct rig_end *end, bool qstate, uint32_t size, struct rig_conn *ret_conn)
{
	struct rig_pair *pair;
	const struct packet *p;
	struct stream *s;

	assert_int_equal(streams_connect(rig->t, rig->guest_port, rig->local_cid, rig->host_port, 0, end, &s), 0);
	p = rig_next(rig);
	assert_non_null(p);
	assert_true(p->type == PACKET_REQUEST || p->type == PACKET_REQUEST2);
	rig_packet(rig, qstate ? PACKET_NEGOTIATE2 : PACKET_NEGOTIATE, rig->guest_port, rig->host_port, size,
		   qstate);
	p = rig_expect(rig, PACKET_OFFER);
	pair = rig_guest_attach(rig, packet_handle(p), size);
	rig_packet(rig, PACKET_ATTACH, rig->guest_port, rig->host_port, p->arg, 0);
	assert_true(end->connected);
	rig_conn_init(ret_conn, rig, pair, end, size);
	rig_run(rig);
	rig_drain(rig);
}

struct rig_end *rig_quiet(struct rig *rig, bool qstate, uint64_t room, struct rig_conn *ret_conn)
{
	struct rig_end *end = rig_end_new(rig, room);

	rig_accept(rig, end, qstate, RIG_SIZE, ret_conn);
	return end;
}
