/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The guest connects to us: transport reference, 6.4, and what of 6.1, 6.2, 6.5 and 6.7 concerns the server.
 */
#include <errno.h>
#include <stdlib.h>

#include "stream_rig.h"

static void request(struct rig *rig, struct rig_end *end, bool qstate)
{
	rig->next_end = end;
	rig_packet(rig, qstate ? PACKET_REQUEST2 : PACKET_REQUEST, RIG_PEER, RIG_PORT, RIG_SIZE, qstate);
}

/* A pending child: REQUEST2 answered, OFFER awaited. */
static void pending(struct rig *rig, struct rig_end *end)
{
	request(rig, end, true);
	rig_expect_only(rig, PACKET_NEGOTIATE2);
}

static void expect_gone(struct rig *rig, const struct rig_end *end)
{
	assert_true(end->closed);
	assert_int_equal(streams_count(rig->t), 0);
	assert_int_equal(streams_deadline(rig->t), UINT64_MAX);
}

static void test_s6_4_request2_gets_negotiate2(void **state)
{
	struct rig *rig = *state;
	struct rig_end *end = rig_end_new(rig, 0);
	const struct packet *p;

	request(rig, end, true);
	p = rig_expect(rig, PACKET_NEGOTIATE2);
	assert_int_equal(p->arg, RIG_SIZE);
	assert_int_equal(p->proto, VMCI_STREAM_PROTO_QSTATE);
	rig_expect_quiet(rig);
	assert_int_equal(rig->opens, 1);
	assert_int_equal(rig->open_local, RIG_PORT);
	assert_int_equal(rig->open_peer, RIG_PEER);
}

static void test_s6_2_request_gets_negotiate(void **state)
{
	struct rig *rig = *state;
	struct rig_end *end = rig_end_new(rig, 0);
	const struct packet *p;

	request(rig, end, false);
	p = rig_expect(rig, PACKET_NEGOTIATE);
	assert_int_equal(p->arg, RIG_SIZE);
	assert_int_equal(p->proto, 0);
	rig_expect_quiet(rig);
}

static void test_s6_4_zero_size_is_rst(void **state)
{
	struct rig *rig = *state;

	rig_packet(rig, PACKET_REQUEST2, RIG_PEER, RIG_PORT, 0, 1);
	rig_expect_only(rig, PACKET_RST);
	rig_packet(rig, PACKET_REQUEST, RIG_PEER, RIG_PORT, 0, 0);
	rig_expect_only(rig, PACKET_RST);
	assert_int_equal(rig->opens, 0);
	assert_int_equal(streams_count(rig->t), 0);
}

static void test_s6_4_nobody_listens_is_rst(void **state)
{
	static const int errors[] = { -ECONNREFUSED, -ENOBUFS, -EACCES };
	struct rig *rig = *state;

	for (int i = 0; i < 3; i++) {
		rig->open_result = errors[i];
		request(rig, NULL, i % 2);
		rig_expect_only(rig, PACKET_RST);
	}
	assert_int_equal(rig->opens, 3);
	assert_int_equal(streams_count(rig->t), 0);
	assert_int_equal(streams_deadline(rig->t), UINT64_MAX);
}

static void test_s6_5_size_within_limits_is_taken(void **state)
{
	static const uint32_t sizes[] = { 128, 129, 4095, 4097, 65536, 262143, 262144 };
	struct rig *rig = *state;

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct rig_end *end = rig_end_new(rig, 0);
		const struct packet *p;

		rig->next_end = end;
		rig_packet(rig, PACKET_REQUEST2, RIG_PEER, RIG_PORT, sizes[i], 1);
		p = rig_expect(rig, PACKET_NEGOTIATE2);
		assert_int_equal(p->arg, sizes[i]);
		rig_packet(rig, PACKET_RST, RIG_PEER, RIG_PORT, 0, 0);
		assert_true(end->closed);
	}
}

static void test_s6_5_size_out_of_limits_gets_ours(void **state)
{
	static const uint64_t sizes[] = { 1, 127, 262145, 1ull << 32, (1ull << 32) + 4096, UINT64_MAX };

	(void)state;
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct rig_options options = { .ring_size = 8192 };
		struct rig *rig = rig_new(&options);
		struct rig_end *end = rig_end_new(rig, 0);
		const struct packet *p;

		rig->next_end = end;
		rig_packet(rig, i % 2 ? PACKET_REQUEST2 : PACKET_REQUEST, RIG_PEER, RIG_PORT, sizes[i],
			   i % 2);
		p = rig_expect(rig, i % 2 ? PACKET_NEGOTIATE2 : PACKET_NEGOTIATE);
		assert_int_equal(p->arg, 8192);
		rig_free(rig);
	}
}

/* As queue memory fills, rings get smaller: with us as server, and with us as client. */
static void test_rings_shrink_with_the_room_for_them(void **state)
{
	static const struct {
		uint64_t room;
		uint32_t size;
	} cases[] = {
		{ UINT64_MAX, 262144 },
		{ 64 * 2 * 262144, 262144 },
		{ 64 * 2 * 262144 - 1, 131072 },
		{ 64 * 2 * 65536, 65536 },
		{ 64 * 2 * 8192, 8192 },
		{ 1, 8192 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct rig_options options = { .qp_room = cases[i].room };
		struct rig *rig = rig_new(&options);
		struct rig_end *end = rig_end_new(rig, 0);
		const struct packet *p;
		struct stream *s;

		rig->next_end = end;
		rig_packet(rig, PACKET_REQUEST2, RIG_PEER, RIG_PORT, 262144, 1);
		assert_int_equal(rig_expect(rig, PACKET_NEGOTIATE2)->arg, cases[i].size);
		rig->next_end = rig_end_new(rig, 0);
		/* a peer that asks for less gets that */
		rig_packet(rig, PACKET_REQUEST2, RIG_PEER + 1, RIG_PORT, 4096, 1);
		p = rig_next(rig);
		assert_non_null(p);
		assert_int_equal(p->type, PACKET_NEGOTIATE2);
		assert_int_equal(p->arg, 4096);
		assert_int_equal(streams_connect(rig->t, 5, RIG_HOST, VMCI_PORT_ANY, 0, rig_end_new(rig, 0), &s), 0);
		p = rig_next(rig);
		assert_non_null(p);
		assert_int_equal(p->type, PACKET_REQUEST2);
		assert_int_equal(p->arg, cases[i].size);
		rig_free(rig);
	}
}

static void test_s6_4_protocols_are_intersected(void **state)
{
	static const struct {
		uint16_t offered;
		bool good;
	} cases[] = {
		{ 0, false }, { 1, true }, { 2, false }, { 3, true }, { 0xfffe, false }, { 0xffff, true },
	};
	struct rig *rig = *state;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct rig_end *end = rig_end_new(rig, 0);
		const struct packet *p;

		rig->next_end = end;
		rig_packet(rig, PACKET_REQUEST2, RIG_PEER, RIG_PORT, RIG_SIZE, cases[i].offered);
		if (!cases[i].good) {
			rig_expect_only(rig, PACKET_RST);
			continue;
		}
		p = rig_expect(rig, PACKET_NEGOTIATE2);
		assert_int_equal(p->proto, 1);
		rig_packet(rig, PACKET_RST, RIG_PEER, RIG_PORT, 0, 0);
	}
	assert_int_equal(streams_count(rig->t), 0);
}

static void test_s6_6_legacy_table_does_not_know_request2(void **state)
{
	struct rig_options options = { .legacy = true };
	struct rig *rig = rig_new(&options);
	struct rig_end *end = rig_end_new(rig, 0);

	(void)state;
	request(rig, end, true);
	rig_expect_only(rig, PACKET_INVALID);
	assert_int_equal(streams_count(rig->t), 0);
	request(rig, end, false);
	rig_expect_only(rig, PACKET_NEGOTIATE);
	rig_free(rig);
}

static void test_s6_4_offer_attaches_and_connects(void **state)
{
	struct rig *rig = *state;
	struct rig_end *end = rig_end_new(rig, 0);
	struct rig_pair *pair;
	const struct packet *p;

	pending(rig, end);
	pair = rig_guest_create(rig, RIG_SIZE);
	rig_packet(rig, PACKET_OFFER, RIG_PEER, RIG_PORT, packet_arg(pair->handle), 0);
	p = rig_expect(rig, PACKET_ATTACH);
	assert_int_equal(p->arg, packet_arg(pair->handle));
	rig_expect_quiet(rig);
	assert_true(pair->host);
	assert_ptr_equal(pair->owner, rig->opened);
	assert_int_equal(end->sends + end->recvs, 0);
	/* The pending timer has nothing to say any more, only that of a client that may not know that it is connected. */
	assert_int_equal(streams_deadline(rig->t), rig->now + LIMIT_FRESH_MIN_NS);
	rig->now += 2 * LIMIT_PENDING_NS;
	rig_run(rig);
	assert_int_equal(streams_deadline(rig->t), UINT64_MAX);
	assert_false(rig_end_is_over(end));
	assert_true(end->recvs > 0);
}

/* The client may say WROTE as soon as it sees ATTACH. */
static void test_s6_1_wrote_right_behind_the_offer(void **state)
{
	struct rig *rig = *state;
	struct rig_end *end = rig_end_new(rig, RIG_FOREVER);
	struct rig_conn c;

	rig_accept(rig, end, true, RIG_SIZE, &c);
	rig_say(&c, PACKET_WROTE, 0);
	rig_run(rig);
	rig_expect_quiet(rig);
	assert_false(rig_end_is_over(end));
}

/*
 * What Linux handles before ATTACH it takes for an error, and it may handle it first: nothing follows ATTACH until the
 * client shows that it is connected, or had the time to find out.
 */
struct fresh {
	struct rig_end *end;
	struct rig_conn c;
};

/* Connected just now, @took after NEGOTIATE; the program has said 10 bytes, which are in the ring. */
static void fresh_start(struct rig *rig, bool qstate, uint64_t took, struct fresh *f)
{
	struct rig_pair *pair;

	f->end = rig_end_new(rig, RIG_FOREVER);
	request(rig, f->end, qstate);
	rig_expect_only(rig, qstate ? PACKET_NEGOTIATE2 : PACKET_NEGOTIATE);
	rig->now += took;
	pair = rig_guest_create(rig, RIG_SIZE);
	rig_packet(rig, PACKET_OFFER, RIG_PEER, RIG_PORT, packet_arg(pair->handle), 0);
	rig_expect_only(rig, PACKET_ATTACH);
	rig_conn_init(&f->c, rig, pair, f->end, RIG_SIZE);
	f->end->avail = 10;
	stream_readable(rig->opened);
	rig_run(rig);
	rig_expect_quiet(rig);
	assert_int_equal(rig_peek_tail(&f->c), 10);
}

static void test_fresh_client_is_left_alone(void **state)
{
	for (int qstate = 0; qstate < 2; qstate++) {
		struct rig_options options = { 0 };
		struct rig *rig = rig_new(&options);
		struct fresh f;

		(void)state;
		fresh_start(rig, qstate, 0, &f);
		rig->now += LIMIT_FRESH_MIN_NS - 1;
		rig_run(rig);
		rig_expect_quiet(rig);
		rig->now++;
		rig_run(rig);
		rig_expect(rig, PACKET_WROTE);
		rig_free(rig);
	}
}

static void test_fresh_slow_client_gets_more_time(void **state)
{
	static const struct {
		uint64_t took, wait;
	} cases[] = {
		{ LIMIT_FRESH_MIN_NS / 4 + 1, LIMIT_FRESH_MIN_NS + 4 },
		{ 100000000, 400000000 },
		{ LIMIT_PENDING_NS - 1, LIMIT_FRESH_MAX_NS },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct rig_options options = { 0 };
		struct rig *rig = rig_new(&options);
		struct fresh f;

		fresh_start(rig, true, cases[i].took, &f);
		assert_int_equal(streams_deadline(rig->t), rig->now + cases[i].wait);
		rig->now += cases[i].wait - 1;
		rig_run(rig);
		rig_expect_quiet(rig);
		rig->now++;
		rig_run(rig);
		rig_expect_only(rig, PACKET_WROTE);
		rig_free(rig);
	}
}

/* Whatever a connected client does ends it: it says something, reads, or writes. */
static void test_fresh_is_over_when_the_client_moves(void **state)
{
	for (int how = 0; how < 3; how++) {
		struct rig_options options = { 0 };
		struct rig *rig = rig_new(&options);
		struct fresh f;

		(void)state;
		fresh_start(rig, true, 0, &f);
		if (how == 0)
			rig_say(&f.c, PACKET_READ, 0);
		else if (how == 1)
			assert_int_equal(rig_read(&f.c, 3), 3);
		else
			assert_int_equal(rig_write(&f.c, 3), 3);
		f.end->avail = 1;
		stream_readable(rig->opened);
		rig_run(rig);
		rig_expect_only(rig, PACKET_WROTE);
		assert_int_equal(streams_deadline(rig->t), UINT64_MAX);
		rig_free(rig);
	}
}

/* A program that says its word and leaves at once: the client is told when it can hear it, and loses nothing. */
static void test_fresh_client_of_a_program_that_leaves(void **state)
{
	struct rig *rig = *state;
	struct fresh f;

	fresh_start(rig, true, 0, &f);
	f.end->recv_end = -ESHUTDOWN;
	stream_readable(rig->opened);
	rig_run(rig);
	assert_true(rig_end_is_over(f.end));
	rig_expect_quiet(rig);
	assert_true(f.c.pair->host);
	rig->now += LIMIT_FRESH_MIN_NS;
	rig_run(rig);
	rig_expect(rig, PACKET_WROTE);
	rig_expect_only(rig, PACKET_SHUTDOWN);
	assert_true(f.c.pair->host);
	assert_int_equal(rig_read(&f.c, 100), 10);
	rig->now += LIMIT_FRESH_MAX_NS;
	rig_run(rig);
	assert_int_equal(streams_count(rig->t), 0);
}

/* The same without a word: a detach would fail the client's connect(). */
static void test_fresh_client_of_a_program_that_leaves_silently(void **state)
{
	struct rig *rig = *state;
	struct rig_end *end = rig_end_new(rig, RIG_FOREVER);
	struct rig_pair *pair;

	pending(rig, end);
	pair = rig_guest_create(rig, RIG_SIZE);
	rig_packet(rig, PACKET_OFFER, RIG_PEER, RIG_PORT, packet_arg(pair->handle), 0);
	rig_expect_only(rig, PACKET_ATTACH);
	end->recv_end = -ESHUTDOWN;
	stream_readable(rig->opened);
	rig_run(rig);
	assert_true(rig_end_is_over(end));
	assert_true(pair->host);
	rig->now += LIMIT_FRESH_MIN_NS;
	rig_run(rig);
	rig->now += LIMIT_FRESH_MAX_NS;
	rig_run(rig);
	assert_int_equal(streams_count(rig->t), 0);
}

static void test_s6_4_offer_of_an_invalid_handle_is_rst(void **state)
{
	struct rig *rig = *state;
	struct rig_end *end = rig_end_new(rig, 0);

	pending(rig, end);
	rig_packet(rig, PACKET_OFFER, RIG_PEER, RIG_PORT, UINT64_MAX, 0);
	rig_expect_only(rig, PACKET_RST);
	expect_gone(rig, end);
}

static void test_s6_4_attach_that_fails_is_rst(void **state)
{
	struct rig *rig = *state;
	struct rig_end *end[3] = { rig_end_new(rig, 0), rig_end_new(rig, 0), rig_end_new(rig, 0) };
	struct rig_pair *pair;

	/* a handle that is none */
	pending(rig, end[0]);
	rig_packet(rig, PACKET_OFFER, RIG_PEER, RIG_PORT, packet_arg(handle_make(RIG_GUEST, 9)), 0);
	rig_expect_only(rig, PACKET_RST);
	expect_gone(rig, end[0]);

	/* other sizes than were agreed */
	pending(rig, end[1]);
	pair = rig_guest_create(rig, RIG_SIZE * 2);
	rig_packet(rig, PACKET_OFFER, RIG_PEER, RIG_PORT, packet_arg(pair->handle), 0);
	rig_expect_only(rig, PACKET_RST);
	expect_gone(rig, end[1]);
	assert_false(pair->host);

	/* no access */
	pending(rig, end[2]);
	pair = rig_guest_create(rig, RIG_SIZE);
	rig->attach_result = VMCI_ERROR_NO_ACCESS;
	rig_packet(rig, PACKET_OFFER, RIG_PEER, RIG_PORT, packet_arg(pair->handle), 0);
	rig_expect_only(rig, PACKET_RST);
	expect_gone(rig, end[2]);
	assert_int_equal(rig->detaches, 0);
}

static void test_s6_7_offer_of_a_pair_without_memory_is_rst(void **state)
{
	struct rig *rig = *state;
	struct rig_end *end = rig_end_new(rig, 0);
	struct rig_pair *pair;

	pending(rig, end);
	pair = rig_guest_create(rig, RIG_SIZE);
	rig->map_result = VMCI_ERROR_QUEUEPAIR_NOT_READY;
	rig_packet(rig, PACKET_OFFER, RIG_PEER, RIG_PORT, packet_arg(pair->handle), 0);
	rig_expect_only(rig, PACKET_RST);
	expect_gone(rig, end);
	assert_int_equal(rig->detaches, 1);
}

static void test_s6_4_attach_that_cannot_be_sent_is_rst(void **state)
{
	struct rig *rig = *state;
	struct rig_end *end = rig_end_new(rig, 0);
	struct rig_pair *pair;

	pending(rig, end);
	pair = rig_guest_create(rig, RIG_SIZE);
	rig->refuse = 1;
	rig_packet(rig, PACKET_OFFER, RIG_PEER, RIG_PORT, packet_arg(pair->handle), 0);
	rig_expect_only(rig, PACKET_RST);
	expect_gone(rig, end);
	assert_false(pair->host);
	assert_int_equal(rig->detaches, 1);
}

static void test_s6_4_negotiate_that_cannot_be_sent(void **state)
{
	struct rig *rig = *state;
	struct rig_end *end = rig_end_new(rig, 0);

	rig->refuse = 1;
	request(rig, end, true);
	rig_expect_only(rig, PACKET_RST);
	expect_gone(rig, end);
}

static void test_s6_4_rst_while_pending_is_not_answered(void **state)
{
	struct rig *rig = *state;
	struct rig_end *end = rig_end_new(rig, 0);

	pending(rig, end);
	rig_packet(rig, PACKET_RST, RIG_PEER, RIG_PORT, 0, 0);
	rig_expect_quiet(rig);
	expect_gone(rig, end);
}

static void test_s6_4_anything_else_while_pending_is_rst(void **state)
{
	struct rig *rig = *state;

	for (unsigned type = 0; type < PACKET_NUM; type++) {
		struct rig_end *end = rig_end_new(rig, 0);

		if (type == PACKET_OFFER || type == PACKET_RST)
			continue;
		pending(rig, end);
		rig_packet(rig, type, RIG_PEER, RIG_PORT, RIG_SIZE, 1);
		rig_expect_only(rig, PACKET_RST);
		expect_gone(rig, end);
	}
}

static void test_s6_4_repeated_request_is_rst(void **state)
{
	struct rig *rig = *state;
	struct rig_end *end = rig_end_new(rig, 0);

	pending(rig, end);
	request(rig, end, true);
	rig_expect_only(rig, PACKET_RST);
	expect_gone(rig, end);
	assert_int_equal(rig->opens, 1);
}

static void test_s6_4_pending_ends_silently(void **state)
{
	struct rig *rig = *state;
	struct rig_end *end = rig_end_new(rig, 0);
	struct rig_pair *pair;
	uint64_t start = rig->now;

	pending(rig, end);
	assert_int_equal(streams_deadline(rig->t), start + LIMIT_PENDING_NS);
	rig->now = start + LIMIT_PENDING_NS - 1;
	rig_run(rig);
	assert_false(end->closed);
	rig->now = start + LIMIT_PENDING_NS;
	rig_run(rig);
	rig_expect_quiet(rig);
	expect_gone(rig, end);

	/* A late OFFER meets nobody. */
	pair = rig_guest_create(rig, RIG_SIZE);
	rig_packet(rig, PACKET_OFFER, RIG_PEER, RIG_PORT, packet_arg(pair->handle), 0);
	rig_expect_only(rig, PACKET_RST);
	assert_false(pair->host);
}

static void test_s6_4_backlog_of_a_port(void **state)
{
	struct rig *rig = *state;
	struct rig_end *client = rig_end_new(rig, 0);
	struct stream *s;
	unsigned i;

	/* Connects of ours from that port do not count. */
	assert_int_equal(streams_connect(rig->t, 80, RIG_HOST, RIG_PORT, 2 * LIMIT_PENDING_NS, client, &s), 0);
	rig_expect_ports(rig, PACKET_REQUEST2, RIG_PORT, 80);
	for (i = 0; i < LIMIT_BACKLOG; i++) {
		rig->next_end = rig_end_new(rig, 0);
		rig_packet(rig, PACKET_REQUEST2, 2000 + i, RIG_PORT, RIG_SIZE, 1);
		rig_expect_ports(rig, PACKET_NEGOTIATE2, RIG_PORT, 2000 + i);
	}
	rig->next_end = rig_end_new(rig, 0);
	rig_packet(rig, PACKET_REQUEST2, 2000 + i, RIG_PORT, RIG_SIZE, 1);
	rig_expect_ports(rig, PACKET_RST, RIG_PORT, 2000 + i);
	assert_int_equal(rig->opens, LIMIT_BACKLOG);

	/* Another port has a backlog of its own. */
	rig_packet(rig, PACKET_REQUEST2, 2000, RIG_PORT + 1, RIG_SIZE, 1);
	rig_expect_ports(rig, PACKET_NEGOTIATE2, RIG_PORT + 1, 2000);

	/* One that leaves makes room for another. */
	rig_packet(rig, PACKET_RST, 2005, RIG_PORT, 0, 0);
	i++;
	rig->next_end = rig_end_new(rig, 0);
	rig_packet(rig, PACKET_REQUEST2, 2000 + i, RIG_PORT, RIG_SIZE, 1);
	rig_expect_ports(rig, PACKET_NEGOTIATE2, RIG_PORT, 2000 + i);

	/* All of them time out together. */
	rig->now += LIMIT_PENDING_NS;
	rig_run(rig);
	assert_int_equal(streams_count(rig->t), 1);
	stream_abort(s);
}

/* A connected child is not in the backlog any more. */
static void test_s6_4_connected_children_leave_the_backlog(void **state)
{
	struct rig *rig = *state;
	struct rig_end *connected = rig_end_new(rig, 0);
	struct rig_conn c;

	rig_accept(rig, connected, true, RIG_SIZE, &c);
	for (unsigned i = 0; i < LIMIT_BACKLOG; i++) {
		rig->next_end = rig_end_new(rig, 0);
		rig_packet(rig, PACKET_REQUEST2, 2000 + i, RIG_PORT, RIG_SIZE, 1);
		rig_expect_ports(rig, PACKET_NEGOTIATE2, RIG_PORT, 2000 + i);
	}
	rig->now += LIMIT_PENDING_NS;
	rig_run(rig);
}

static void test_limit_of_streams(void **state)
{
	struct rig *rig = *state;
	struct rig_end *one_more = rig_end_new(rig, 0);
	struct stream *s;

	for (unsigned i = 0; i < LIMIT_STREAMS; i++) {
		rig->next_end = rig_end_new(rig, 0);
		rig_packet(rig, PACKET_REQUEST2, 2000, i, RIG_SIZE, 1);
		rig_expect_ports(rig, PACKET_NEGOTIATE2, i, 2000);
	}
	assert_int_equal(streams_count(rig->t), LIMIT_STREAMS);
	rig->next_end = one_more;
	rig_packet(rig, PACKET_REQUEST2, 2000, LIMIT_STREAMS, RIG_SIZE, 1);
	rig_expect_ports(rig, PACKET_RST, LIMIT_STREAMS, 2000);
	assert_int_equal(rig->opens, LIMIT_STREAMS);
	assert_int_equal(streams_connect(rig->t, 80, RIG_HOST, VMCI_PORT_ANY, 0, one_more, &s), -ENOBUFS);
	rig_expect_quiet(rig);

	streams_reset(rig->t);
	assert_int_equal(streams_count(rig->t), 0);
	for (const struct rig_end *e = rig->ends; e; e = e->next)
		assert_true(e->closed || e == one_more);
}

/* --- An end that takes its time: -EINPROGRESS ---------------------------------------------- */

static void opening(struct rig *rig, struct rig_end *end)
{
	rig->open_result = -EINPROGRESS;
	request(rig, end, true);
	rig_expect_quiet(rig);
	assert_int_equal(streams_count(rig->t), 1);
}

static void test_opening_accepted(void **state)
{
	struct rig *rig = *state;
	struct rig_end *end = rig_end_new(rig, 0);
	struct rig_pair *pair;

	opening(rig, end);
	stream_accept(rig->opened);
	rig_expect_only(rig, PACKET_NEGOTIATE2);
	pair = rig_guest_create(rig, RIG_SIZE);
	rig_packet(rig, PACKET_OFFER, RIG_PEER, RIG_PORT, packet_arg(pair->handle), 0);
	rig_expect_only(rig, PACKET_ATTACH);
}

static void test_opening_refused(void **state)
{
	struct rig *rig = *state;
	struct rig_end *end = rig_end_new(rig, 0);

	opening(rig, end);
	stream_refuse(rig->opened);
	rig_expect_only(rig, PACKET_RST);
	assert_int_equal(streams_count(rig->t), 0);
	assert_int_equal(streams_deadline(rig->t), UINT64_MAX);
	assert_false(rig_end_is_over(end));	/* it refused by itself: no call */
}

/* The second counts from the REQUEST, whatever happens in it. */
static void test_opening_times_out(void **state)
{
	struct rig *rig = *state;
	struct rig_end *end[2] = { rig_end_new(rig, 0), rig_end_new(rig, 0) };

	opening(rig, end[0]);
	rig->now += LIMIT_PENDING_NS;
	rig_run(rig);
	rig_expect_quiet(rig);
	expect_gone(rig, end[0]);

	opening(rig, end[1]);
	rig->now += LIMIT_PENDING_NS - 1;
	stream_accept(rig->opened);
	rig_expect_only(rig, PACKET_NEGOTIATE2);
	rig->now += 1;
	rig_run(rig);
	expect_gone(rig, end[1]);
}

static void test_opening_and_the_client_leaves(void **state)
{
	struct rig *rig = *state;
	struct rig_end *end = rig_end_new(rig, 0);

	opening(rig, end);
	rig_packet(rig, PACKET_RST, RIG_PEER, RIG_PORT, 0, 0);
	rig_expect_quiet(rig);
	expect_gone(rig, end);
}

static void test_opening_and_the_client_goes_ahead(void **state)
{
	struct rig *rig = *state;
	struct rig_end *end = rig_end_new(rig, 0);
	struct rig_pair *pair;

	opening(rig, end);
	pair = rig_guest_create(rig, RIG_SIZE);
	rig_packet(rig, PACKET_OFFER, RIG_PEER, RIG_PORT, packet_arg(pair->handle), 0);
	rig_expect_only(rig, PACKET_RST);
	expect_gone(rig, end);
	assert_false(pair->host);
}

static void test_opening_accepted_while_the_queue_is_full(void **state)
{
	struct rig *rig = *state;
	struct rig_end *end = rig_end_new(rig, 0);

	opening(rig, end);
	rig->refuse = 2;
	stream_accept(rig->opened);
	expect_gone(rig, end);
}

static void test_opening_counts_in_the_backlog(void **state)
{
	struct rig *rig = *state;

	rig->open_result = -EINPROGRESS;
	for (unsigned i = 0; i < LIMIT_BACKLOG; i++) {
		rig->next_end = rig_end_new(rig, 0);
		rig_packet(rig, PACKET_REQUEST2, 2000 + i, RIG_PORT, RIG_SIZE, 1);
	}
	rig_expect_quiet(rig);
	rig_packet(rig, PACKET_REQUEST2, 1999, RIG_PORT, RIG_SIZE, 1);
	rig_expect_ports(rig, PACKET_RST, RIG_PORT, 1999);
	rig->now += LIMIT_PENDING_NS;
	rig_run(rig);
	assert_int_equal(streams_count(rig->t), 0);
}

/* stream_readable() and stream_writable() are harmless before the stream is connected. */
static void test_ends_may_stir_early(void **state)
{
	struct rig *rig = *state;
	struct rig_end *end = rig_end_new(rig, RIG_FOREVER);

	opening(rig, end);
	stream_readable(rig->opened);
	stream_writable(rig->opened);
	rig_run(rig);
	stream_accept(rig->opened);
	rig_expect_only(rig, PACKET_NEGOTIATE2);
	stream_readable(rig->opened);
	stream_writable(rig->opened);
	rig_run(rig);
	rig_expect_quiet(rig);
	assert_int_equal(end->recvs + end->sends, 0);
}

/* 10.2: the program leaves before it was connected. */
static void test_abort_while_pending_is_rst(void **state)
{
	struct rig *rig = *state;
	struct rig_end *end = rig_end_new(rig, 0);

	pending(rig, end);
	stream_abort(rig->opened);
	rig_expect_only(rig, PACKET_RST);
	assert_false(rig_end_is_over(end));
	assert_int_equal(streams_count(rig->t), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_s6_1_wrote_right_behind_the_offer),
		TEST(test_fresh_client_is_left_alone),
		TEST(test_fresh_slow_client_gets_more_time),
		TEST(test_fresh_is_over_when_the_client_moves),
		TEST(test_fresh_client_of_a_program_that_leaves),
		TEST(test_fresh_client_of_a_program_that_leaves_silently),
		TEST(test_s6_2_request_gets_negotiate),
		TEST(test_s6_4_request2_gets_negotiate2),
		TEST(test_s6_4_zero_size_is_rst),
		TEST(test_s6_4_nobody_listens_is_rst),
		TEST(test_s6_4_protocols_are_intersected),
		TEST(test_s6_4_offer_attaches_and_connects),
		TEST(test_s6_4_offer_of_an_invalid_handle_is_rst),
		TEST(test_s6_4_attach_that_fails_is_rst),
		TEST(test_s6_4_attach_that_cannot_be_sent_is_rst),
		TEST(test_s6_4_negotiate_that_cannot_be_sent),
		TEST(test_s6_4_rst_while_pending_is_not_answered),
		TEST(test_s6_4_anything_else_while_pending_is_rst),
		TEST(test_s6_4_repeated_request_is_rst),
		TEST(test_s6_4_pending_ends_silently),
		TEST(test_s6_4_backlog_of_a_port),
		TEST(test_s6_4_connected_children_leave_the_backlog),
		TEST(test_s6_5_size_within_limits_is_taken),
		TEST(test_s6_5_size_out_of_limits_gets_ours),
		TEST(test_rings_shrink_with_the_room_for_them),
		TEST(test_s6_6_legacy_table_does_not_know_request2),
		TEST(test_s6_7_offer_of_a_pair_without_memory_is_rst),
		TEST(test_limit_of_streams),
		TEST(test_opening_accepted),
		TEST(test_opening_refused),
		TEST(test_opening_times_out),
		TEST(test_opening_and_the_client_leaves),
		TEST(test_opening_and_the_client_goes_ahead),
		TEST(test_opening_accepted_while_the_queue_is_full),
		TEST(test_opening_counts_in_the_backlog),
		TEST(test_ends_may_stir_early),
		TEST(test_abort_while_pending_is_rst),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
