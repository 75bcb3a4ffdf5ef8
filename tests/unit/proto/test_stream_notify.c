/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Who wakes whom, and when: transport reference, 8 (packet notification) and 9 (queue state); polling
 * instead.
 */
#include <errno.h>

#include "stream_rig.h"

#define SPIN 5000u

/* A connection that is quiet: the host has asked for what it asks for when there is nothing to do. */
static struct rig_end *quiet(struct rig *rig, bool qstate, uint64_t room, struct rig_conn *ret_conn)
{
	struct rig_end *end = rig_end_new(rig, room);

	rig_accept(rig, end, qstate, RIG_SIZE, ret_conn);
	return end;
}

static void host_writes(struct rig_conn *c, uint64_t n)
{
	c->end->avail = n;
	stream_readable(c->stream);
	rig_run(c->rig);
}

static void guest_writes(struct rig_conn *c, uint64_t n)
{
	assert_int_equal(rig_write(c, n), n);
	rig_say(c, PACKET_WROTE, 0);
	rig_run(c->rig);
}

/* --- 8: packet notification ---------------------------------------------------------------- */

static void test_s8_1_waiting_read_with_bytes_in_the_ring(void **state)
{
	struct rig *rig = *state;
	struct rig_conn c;

	quiet(rig, false, RIG_FOREVER, &c);
	host_writes(&c, 10);
	/* nobody asked, but the ring was empty: Linux guests need it */
	rig_expect_only(rig, PACKET_WROTE);
	rig_say(&c, PACKET_WAITING_READ, 0);
	rig_run(rig);
	rig_expect_only(rig, PACKET_WROTE);
	/* answered, and forgotten */
	host_writes(&c, 10);
	rig_expect_quiet(rig);
}

static void test_s8_1_waiting_read_on_an_empty_ring(void **state)
{
	struct rig *rig = *state;
	struct rig_conn c;

	quiet(rig, false, RIG_FOREVER, &c);
	rig_say(&c, PACKET_WAITING_READ, 0);
	rig_run(rig);
	rig_expect_quiet(rig);
	host_writes(&c, 1);
	rig_expect_only(rig, PACKET_WROTE);
	host_writes(&c, 1);
	rig_expect_quiet(rig);
	/* The guest drained the ring, and asks again. */
	assert_int_equal(rig_read(&c, 100), 2);
	rig_say(&c, PACKET_WAITING_READ, 0);
	rig_run(rig);
	rig_expect_quiet(rig);
	host_writes(&c, 1);
	rig_expect_only(rig, PACKET_WROTE);
}

static void test_s8_1_waiting_write_with_room(void **state)
{
	struct rig *rig = *state;
	struct rig_conn c;

	quiet(rig, false, RIG_FOREVER, &c);
	rig_say(&c, PACKET_WAITING_WRITE, 0);
	rig_run(rig);
	rig_expect_only(rig, PACKET_READ);
}

static void test_s8_1_waiting_write_on_a_full_ring(void **state)
{
	struct rig *rig = *state;
	struct rig_conn c;
	struct rig_end *end = quiet(rig, false, 0, &c);

	guest_writes(&c, RIG_SIZE - 1);
	rig_say(&c, PACKET_WAITING_WRITE, 0);
	rig_run(rig);
	rig_expect_quiet(rig);
	end->room = 1;
	stream_writable(c.stream);
	rig_run(rig);
	rig_expect_only(rig, PACKET_READ);
	assert_int_equal(rig_peek_head(&c), 1);
	/* answered, and forgotten */
	end->room = 100;
	stream_writable(c.stream);
	rig_run(rig);
	rig_expect_quiet(rig);
}

static void test_s8_2_waiting_read_when_the_ring_is_empty(void **state)
{
	struct rig *rig = *state;
	struct rig_end *end = rig_end_new(rig, RIG_FOREVER);
	struct rig_pair *pair;
	struct rig_conn c;

	/* By hand: rig_accept() throws the first ones away. */
	rig->next_end = end;
	rig_packet(rig, PACKET_REQUEST, RIG_PEER, RIG_PORT, RIG_SIZE, 0);
	rig_expect(rig, PACKET_NEGOTIATE);
	pair = rig_guest_create(rig, RIG_SIZE);
	rig_packet(rig, PACKET_OFFER, RIG_PEER, RIG_PORT, packet_arg(pair->handle), 0);
	rig_expect(rig, PACKET_ATTACH);
	rig_run(rig);
	/* Not in the moment in which the client may not have seen ATTACH yet. */
	rig_expect_quiet(rig);
	rig->now += LIMIT_FRESH_MIN_NS - 1;
	rig_run(rig);
	rig_expect_quiet(rig);
	rig->now++;
	rig_run(rig);
	rig_expect_only(rig, PACKET_WAITING_READ);

	/* Not repeated while unanswered, whatever happens. */
	rig_packet(rig, PACKET_READ, RIG_PEER, RIG_PORT, 0, 0);
	rig_run(rig);
	end->avail = 10;
	stream_readable(rig->opened);
	rig_run(rig);
	rig_expect_only(rig, PACKET_WROTE);

	/* WROTE answers it; the ring is empty, so it is asked again. */
	rig_packet(rig, PACKET_WROTE, RIG_PEER, RIG_PORT, 0, 0);
	rig_run(rig);
	rig_expect_only(rig, PACKET_WAITING_READ);
	c.pair = pair;
	rig_guest_detach(rig, c.pair);
}

static void test_s8_2_no_waiting_read_while_bytes_wait(void **state)
{
	struct rig *rig = *state;
	struct rig_conn c;
	struct rig_end *end = quiet(rig, false, 10, &c);

	guest_writes(&c, 100);
	assert_int_equal(end->got, 10);
	rig_expect_quiet(rig);
	end->room = 1000;
	stream_writable(c.stream);
	rig_run(rig);
	rig_expect_only(rig, PACKET_WAITING_READ);
}

static void test_s8_2_waiting_write_when_the_ring_is_full(void **state)
{
	struct rig *rig = *state;
	struct rig_conn c;
	struct rig_end *end = quiet(rig, false, RIG_FOREVER, &c);

	host_writes(&c, RIG_SIZE - 1);
	rig_expect(rig, PACKET_WROTE);
	rig_expect_only(rig, PACKET_WAITING_WRITE);
	assert_int_equal(end->put, RIG_SIZE - 1);
	/* Not repeated while unanswered. */
	host_writes(&c, 500);
	rig_expect_quiet(rig);

	/* A READ without room: asked again. */
	rig_say(&c, PACKET_READ, 0);
	rig_run(rig);
	rig_expect_only(rig, PACKET_WAITING_WRITE);

	/* One byte is room. */
	rig_read(&c, 1);
	rig_say(&c, PACKET_READ, 0);
	rig_run(rig);
	assert_int_equal(end->put, RIG_SIZE);
	rig_expect_only(rig, PACKET_WAITING_WRITE);
	rig_read(&c, 1000);
	rig_say(&c, PACKET_READ, 0);
	rig_run(rig);
	assert_int_equal(end->put, RIG_SIZE + 499);
	rig_expect_quiet(rig);
}

/* 8.4: generation and offset of WAITING_READ for one byte, at each place of the ring. */
static void test_s8_4_where_we_wait_to_read(void **state)
{
	struct rig_options options = { 0 };
	static const struct {
		uint64_t step;	/* bytes that the guest writes */
		uint64_t generation, offset;
	} cases[] = {
		{ 1, 0, 2 },	/* head 1 */
		{ 4093, 0, 4095 },	/* head 4094: 2 left */
		{ 1, 1, 0 },	/* head 4095: one left, so it is in the next round */
		{ 1, 1, 1 },	/* head 0 */
		{ 4095, 2, 0 },	/* head 4095 */
		{ 11, 2, 11 },	/* head 10 */
	};
	struct rig *rig = rig_new(&options);
	struct rig_conn c;

	(void)state;
	quiet(rig, false, RIG_FOREVER, &c);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const struct packet *p;

		guest_writes(&c, cases[i].step);
		p = rig_expect(rig, PACKET_WAITING_READ);
		assert_int_equal(p->arg, cases[i].generation);
		assert_int_equal(p->offset, cases[i].offset);
	}
	rig_free(rig);
}

static void test_s8_4_where_we_wait_to_write(void **state)
{
	static const struct {
		uint64_t drained;	/* bytes that the guest reads from the full ring */
		uint64_t generation, offset;
	} cases[] = {
		{ 0, 0, 1 },		/* tail 4095: one left; n + 1 = 2 >= 1 */
		{ 1, 0, 2 },		/* tail 0, once round: 4096 left; generation 1 - 1 */
		{ 100, 0, 102 },	/* tail 100 */
		{ 3993, 0, 4095 },	/* tail 4093: 3 left */
		{ 1, 1, 0 },		/* tail 4094: 2 left */
		{ 1, 1, 1 },		/* tail 4095 */
		{ 2, 1, 3 },		/* tail 1, twice round */
	};
	struct rig *rig = *state;
	struct rig_conn c;

	quiet(rig, false, RIG_FOREVER, &c);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const struct packet *p;

		assert_int_equal(rig_read(&c, cases[i].drained), cases[i].drained);
		rig_say(&c, PACKET_READ, 0);
		host_writes(&c, 5000);
		if (i == 0)
			rig_expect(rig, PACKET_WROTE);
		p = rig_expect(rig, PACKET_WAITING_WRITE);
		assert_int_equal(p->arg, cases[i].generation);
		assert_int_equal(p->offset, cases[i].offset);
		rig_expect_quiet(rig);
	}
}

/* 8.4: with the ring not yet round once, the generation is "-1". */
static void test_s8_4_generation_before_the_first(void **state)
{
	struct rig *rig = *state;
	const struct packet *p;
	struct rig_conn c;

	quiet(rig, false, RIG_FOREVER, &c);
	/* A full ring whose tail is not near its end: the guest claims to have read up to position 11. */
	rig_poke_head(&c, 11);
	host_writes(&c, 10);
	p = rig_expect(rig, PACKET_WAITING_WRITE);
	assert_int_equal(p->arg, UINT64_MAX);
	assert_int_equal(p->offset, 12);
}

/* --- 9: queue state ------------------------------------------------------------------------ */

static void test_s9_no_waiting_packets(void **state)
{
	struct rig *rig = *state;
	struct rig_conn c;
	struct rig_end *end = quiet(rig, true, RIG_FOREVER, &c);

	host_writes(&c, 2 * RIG_SIZE);
	rig_expect_only(rig, PACKET_WROTE);
	guest_writes(&c, 10);
	rig_expect_quiet(rig);
	/* and those of a confused peer are ignored */
	rig_say(&c, PACKET_WAITING_READ, 0);
	rig_say(&c, PACKET_WAITING_WRITE, 0);
	rig_run(rig);
	rig_expect_quiet(rig);
	assert_false(rig_end_is_over(end));
}

static void test_s9_1_wrote_after_the_ring_was_empty(void **state)
{
	struct rig *rig = *state;
	struct rig_conn c;

	quiet(rig, true, RIG_FOREVER, &c);
	host_writes(&c, 10);
	rig_expect_only(rig, PACKET_WROTE);
	host_writes(&c, 10);
	rig_expect_quiet(rig);
	rig_read(&c, 19);
	host_writes(&c, 10);
	rig_expect_quiet(rig);
	rig_read(&c, 11);
	host_writes(&c, 1);
	rig_expect_only(rig, PACKET_WROTE);
}

/* The guest reads everything just before we publish: then it may sleep, and must be told. */
static void drain_before_store(struct rig *rig, enum rig_when when)
{
	struct rig_conn *c = rig->hook_ctx;

	if (when == RIG_BEFORE_STORE && c->read < c->end->put)
		rig_read(c, 10);
}

static void test_s9_1_the_peer_reads_meanwhile(void **state)
{
	struct rig *rig = *state;
	struct rig_conn c;

	quiet(rig, true, RIG_FOREVER, &c);
	host_writes(&c, 10);
	rig_expect_only(rig, PACKET_WROTE);
	rig->hook_ctx = &c;
	rig->hook = drain_before_store;
	host_writes(&c, 10);
	rig->hook = NULL;
	assert_int_equal(c.read, 10);
	rig_expect_only(rig, PACKET_WROTE);
}

static void test_s9_2_read_after_the_ring_was_full(void **state)
{
	struct rig *rig = *state;
	struct rig_conn c;
	struct rig_end *end = quiet(rig, true, 0, &c);

	guest_writes(&c, RIG_SIZE - 1);
	rig_expect_quiet(rig);
	end->room = 1;
	stream_writable(c.stream);
	rig_run(rig);
	rig_expect_only(rig, PACKET_READ);
	end->room = 1;
	stream_writable(c.stream);
	rig_run(rig);
	rig_expect_quiet(rig);
	/* full again */
	rig_write(&c, 2);
	end->room = 100;
	stream_writable(c.stream);
	rig_run(rig);
	rig_expect_only(rig, PACKET_READ);
}

static void test_s9_2_no_read_for_a_ring_that_was_not_full(void **state)
{
	struct rig *rig = *state;
	struct rig_conn c;
	struct rig_end *end = quiet(rig, true, RIG_FOREVER, &c);

	guest_writes(&c, RIG_SIZE - 2);
	assert_int_equal(end->got, RIG_SIZE - 2);
	rig_expect_quiet(rig);
}

/* 9.3: spurious notifications are harmless. */
static void test_s9_3_notifications_without_reason(void **state)
{
	struct rig *rig = *state;
	struct rig_conn c;
	struct rig_end *end = quiet(rig, true, RIG_FOREVER, &c);

	for (int i = 0; i < 10; i++) {
		rig_say(&c, PACKET_WROTE, 0);
		rig_say(&c, PACKET_READ, 0);
		rig_run(rig);
	}
	rig_expect_quiet(rig);
	assert_false(rig_end_is_over(end));
}

static void test_s9_4_handshake_packets_are_ignored(void **state)
{
	static const unsigned types[] = {
		PACKET_REQUEST, PACKET_NEGOTIATE, PACKET_OFFER, PACKET_ATTACH, PACKET_INVALID,
		PACKET_REQUEST2, PACKET_NEGOTIATE2,
	};
	struct rig *rig = *state;

	for (unsigned qstate = 0; qstate < 2; qstate++) {
		struct rig_conn c;
		struct rig_end *end;

		rig->guest_port++;
		end = quiet(rig, qstate, RIG_FOREVER, &c);
		for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
			rig_packet(rig, types[i], c.guest_port, c.host_port, RIG_SIZE, 1);
			rig_run(rig);
			rig_expect_quiet(rig);
		}
		assert_false(rig_end_is_over(end));
		assert_int_equal(end->told, 0);
	}
	assert_int_equal(rig->opens, 2);
}

/* --- Packets that the guest's queue has no room for ---------------------------------------- */

/* The queue is full for a while, and the packet comes through nevertheless, once. */
static void expect_owed(struct rig *rig, unsigned type)
{
	rig_expect_quiet(rig);
	for (int i = 0; i < 3; i++) {
		uint64_t deadline = streams_deadline(rig->t);

		/* soon, but not at once for ever */
		assert_in_range(deadline, 1, rig->now + 100000000);
		if (deadline > rig->now)
			rig->now = deadline;
		rig->refuse = i < 2;
		streams_run(rig->t);
	}
	rig_expect_only(rig, type);
	assert_int_equal(streams_deadline(rig->t), UINT64_MAX);
	rig->now += 1000000000;
	rig_run(rig);
	rig_expect_quiet(rig);
}

static void test_s9_1_wrote_is_owed(void **state)
{
	struct rig *rig = *state;
	struct rig_conn c;

	quiet(rig, true, RIG_FOREVER, &c);
	rig->refuse = 1;
	host_writes(&c, 10);
	expect_owed(rig, PACKET_WROTE);
}

static void test_s9_2_read_is_owed(void **state)
{
	struct rig *rig = *state;
	struct rig_conn c;
	struct rig_end *end = quiet(rig, true, 0, &c);

	guest_writes(&c, RIG_SIZE - 1);
	rig->refuse = 1;
	end->room = RIG_FOREVER;
	stream_writable(c.stream);
	rig_run(rig);
	expect_owed(rig, PACKET_READ);
}

static void test_s8_2_waiting_read_is_owed(void **state)
{
	struct rig *rig = *state;
	struct rig_conn c;

	quiet(rig, false, RIG_FOREVER, &c);
	rig->refuse = 1;
	guest_writes(&c, 10);
	expect_owed(rig, PACKET_WAITING_READ);
}

static void test_s8_2_waiting_write_is_owed(void **state)
{
	struct rig *rig = *state;
	struct rig_conn c;

	quiet(rig, false, RIG_FOREVER, &c);
	host_writes(&c, 1);
	rig_expect_only(rig, PACKET_WROTE);
	rig->refuse = 1;
	host_writes(&c, RIG_SIZE);
	expect_owed(rig, PACKET_WAITING_WRITE);
}

static void test_s10_1_shutdown_is_owed(void **state)
{
	struct rig *rig = *state;
	struct rig_conn c;
	struct rig_end *end = quiet(rig, true, RIG_FOREVER, &c);

	rig->refuse = 1;
	end->recv_end = RIG_EOF;
	stream_readable(c.stream);
	rig_run(rig);
	expect_owed(rig, PACKET_SHUTDOWN);
}

/* Who knows that there is room says so, and it is not waited for. */
static void test_owed_packets_go_when_there_is_room(void **state)
{
	struct rig *rig = *state;
	struct rig_conn c;

	quiet(rig, true, RIG_FOREVER, &c);
	rig->refuse = RIG_SENT;
	host_writes(&c, 10);
	streams_run(rig->t);
	rig->refuse = 0;
	streams_run(rig->t);
	rig_expect_quiet(rig);
	streams_room(rig->t);
	assert_true(streams_deadline(rig->t) <= rig->now);
	streams_run(rig->t);
	rig_expect_only(rig, PACKET_WROTE);
	streams_room(rig->t);
	assert_int_equal(streams_deadline(rig->t), UINT64_MAX);
}

/* Everything that is owed goes in one go, and the streams have their turns meanwhile. */
static void test_owed_packets_do_not_hold_up_the_stream(void **state)
{
	struct rig *rig = *state;
	struct rig_conn c;
	struct rig_end *end = quiet(rig, true, RIG_FOREVER, &c);

	rig->refuse = RIG_SENT;
	host_writes(&c, 10);
	guest_writes(&c, 10);
	assert_int_equal(end->got, 10);
	assert_int_equal(rig_read(&c, 10), 10);
	end->recv_end = RIG_EOF;
	host_writes(&c, 10);
	rig_expect_quiet(rig);
	rig->refuse = 0;
	rig->now = streams_deadline(rig->t);
	streams_run(rig->t);
	rig_expect(rig, PACKET_WROTE);
	rig_expect(rig, PACKET_SHUTDOWN);
	rig_expect_quiet(rig);
}

static void test_owing_streams_may_end(void **state)
{
	struct rig *rig = *state;
	struct rig_end *end;
	struct rig_conn c;

	/* the guest goes */
	end = quiet(rig, true, RIG_FOREVER, &c);
	rig->refuse = 1;
	host_writes(&c, 10);
	rig_guest_detach(rig, c.pair);
	assert_true(end->finished);
	assert_int_equal(streams_deadline(rig->t), UINT64_MAX);

	/* the program goes */
	quiet(rig, true, RIG_FOREVER, &c);
	rig->refuse = 1;
	host_writes(&c, 10);
	stream_abort(c.stream);
	rig->now = streams_deadline(rig->t);
	streams_run(rig->t);
	rig_expect(rig, PACKET_WROTE);
	rig_expect(rig, PACKET_SHUTDOWN);
	rig_expect_quiet(rig);
	assert_int_equal(rig_read(&c, 100), 10);
	rig->now = streams_deadline(rig->t);
	streams_run(rig->t);
	assert_int_equal(streams_deadline(rig->t), UINT64_MAX);
	rig_expect_quiet(rig);
}

/* --- Polling instead of sleeping ----------------------------------------------------------- */

static struct rig *hot_rig(void)
{
	struct rig_options options = { .spin_ns = SPIN };

	return rig_new(&options);
}

/* As an event loop goes round: run, then poll. */
static bool round_of(struct rig *rig)
{
	bool more = streams_run(rig->t);

	return streams_poll(rig->t) || more;
}

static void test_hot_stream_shows_one_byte_less(void **state)
{
	struct rig *rig = hot_rig();
	struct rig_conn c;
	struct rig_end *end = quiet(rig, true, RIG_FOREVER, &c);
	uint64_t ready;

	(void)state;
	rig_write(&c, 100);
	rig_say(&c, PACKET_WROTE, 0);
	assert_true(round_of(rig));
	assert_int_equal(end->got, 100);
	assert_int_equal(rig_peek_head(&c), 99);
	/* so the guest finds its ring not empty, and sends no WROTE */
	assert_int_equal(qp_unread(&c.qp, &ready), 0);
	assert_int_equal(ready, 1);
	rig_write(&c, 50);
	assert_true(round_of(rig));	/* seen */
	assert_true(round_of(rig));	/* taken */
	assert_int_equal(end->got, 150);
	assert_int_equal(rig_peek_head(&c), 149);
	rig_expect_quiet(rig);
	rig_free(rig);
}

static void test_hot_stream_cools_down(void **state)
{
	struct rig *rig = hot_rig();
	struct rig_conn c;
	uint64_t start;

	(void)state;
	quiet(rig, true, RIG_FOREVER, &c);
	rig_write(&c, 100);
	rig_say(&c, PACKET_WROTE, 0);
	start = rig->now;
	assert_true(round_of(rig));
	rig->now = start + SPIN - 1;
	assert_true(round_of(rig));
	assert_int_equal(rig_peek_head(&c), 99);
	rig->now = start + SPIN;
	assert_false(round_of(rig));
	assert_int_equal(rig_peek_head(&c), 100);
	assert_false(round_of(rig));
	rig_free(rig);
}

/* Another guest has to be woken before it answers: it gets twice as long, at first and after each byte. */
static void test_hot_stream_of_a_neighbour(void **state)
{
	struct rig *rig = hot_rig();
	struct rig_conn c;
	uint64_t start;

	(void)state;
	rig->local_cid = 42;
	quiet(rig, true, RIG_FOREVER, &c);
	for (int i = 0; i < 3; i++) {
		rig_write(&c, 100);
		rig_say(&c, PACKET_WROTE, 0);
		start = rig->now;
		assert_true(round_of(rig));
		rig->now = start + SPIN;
		assert_true(round_of(rig));
		rig->now = start + 2 * SPIN - 1;
		assert_true(round_of(rig));
		rig->now = start + 2 * SPIN;
		assert_false(round_of(rig));
	}
	rig_free(rig);
}

/* Bytes start the time anew. */
static void test_hot_stream_stays_hot_while_bytes_come(void **state)
{
	struct rig *rig = hot_rig();
	struct rig_conn c;
	struct rig_end *end;

	(void)state;
	end = quiet(rig, true, RIG_FOREVER, &c);
	rig_write(&c, 1);
	rig_say(&c, PACKET_WROTE, 0);
	round_of(rig);
	for (unsigned i = 2; i < 50; i++) {
		rig->now += SPIN - 1;
		rig_write(&c, 1);
		assert_true(round_of(rig));
		assert_true(round_of(rig));
		assert_int_equal(end->got, i);
	}
	rig_free(rig);
}

/* Between the last look and the moment when the true position is shown, the guest writes without a word. */
static void write_before_store(struct rig *rig, enum rig_when when)
{
	struct rig_conn *c = rig->hook_ctx;

	if (when == RIG_BEFORE_STORE) {
		rig->hook = NULL;
		rig_write(c, 7);
	}
}

static void test_hot_stream_looks_once_more_before_it_sleeps(void **state)
{
	struct rig *rig = hot_rig();
	struct rig_conn c;
	struct rig_end *end;

	(void)state;
	end = quiet(rig, true, RIG_FOREVER, &c);
	rig_write(&c, 100);
	rig_say(&c, PACKET_WROTE, 0);
	round_of(rig);
	rig->now += SPIN;
	rig->hook_ctx = &c;
	rig->hook = write_before_store;
	assert_true(round_of(rig));
	assert_null(rig->hook);
	rig_run(rig);
	assert_int_equal(end->got, 107);
	rig_free(rig);
}

/* 8: while it polls it does not ask, and before it sleeps it does. */
/* Packet notification is not polled: we ask at once. */
static void test_s8_2_packet_notification_is_not_polled(void **state)
{
	struct rig *rig = hot_rig();
	struct rig_conn c;

	(void)state;
	quiet(rig, false, RIG_FOREVER, &c);
	rig_write(&c, 100);
	rig_say(&c, PACKET_WROTE, 0);
	assert_false(round_of(rig));
	assert_int_equal(rig_peek_head(&c), 100);
	rig_expect_only(rig, PACKET_WAITING_READ);
	rig_free(rig);
}

/* A full ring is polled, too, until there is room. */
static void test_hot_stream_finds_room(void **state)
{
	struct rig *rig = hot_rig();
	struct rig_conn c;
	struct rig_end *end = quiet(rig, true, RIG_FOREVER, &c);

	(void)state;
	end->avail = RIG_SIZE + 500;
	stream_readable(c.stream);
	assert_true(round_of(rig));
	assert_int_equal(end->put, RIG_SIZE - 2);
	/* There is no hurry as long as most of the ring is full. */
	rig_read(&c, 100);
	assert_true(round_of(rig));
	assert_true(round_of(rig));
	assert_int_equal(end->put, RIG_SIZE - 2);
	rig_read(&c, RIG_SIZE / 8);
	assert_true(round_of(rig));
	assert_true(round_of(rig));
	assert_int_equal(end->put, RIG_SIZE + 500);
	rig_free(rig);
}

/* One byte stays free while the ring is polled, so to the guest it was never full, and it sends no READ (9.2). */
static void test_s9_2_hot_stream_fills_the_ring_when_it_cools_down(void **state)
{
	struct rig *rig = hot_rig();
	struct rig_conn c;
	struct rig_end *end = quiet(rig, true, RIG_FOREVER, &c);
	uint64_t ready;

	(void)state;
	end->avail = 2 * RIG_SIZE;
	stream_readable(c.stream);
	assert_true(round_of(rig));
	assert_int_equal(end->put, RIG_SIZE - 2);
	for (unsigned i = 0; i < 100 && round_of(rig); i++)
		rig->now += SPIN / 4;
	assert_false(round_of(rig));
	/* Now it is full, and the guest that takes something out has to tell. */
	assert_int_equal(end->put, RIG_SIZE - 1);
	assert_int_equal(qp_ready(&c.qp, &ready), 0);
	assert_int_equal(ready, RIG_SIZE - 1);
	rig_read(&c, 10);
	assert_false(round_of(rig));
	assert_int_equal(end->put, RIG_SIZE - 1);
	rig_say(&c, PACKET_READ, 0);
	assert_true(round_of(rig));
	assert_int_equal(end->put, RIG_SIZE + 9);
	rig_free(rig);
}

/* A slow program does not keep us busy. */
static void test_hot_stream_cools_down_when_nobody_takes_its_bytes(void **state)
{
	struct rig *rig = hot_rig();
	struct rig_conn c;
	struct rig_end *end = quiet(rig, true, 10, &c);

	(void)state;
	rig_write(&c, 10);
	rig_say(&c, PACKET_WROTE, 0);
	assert_true(round_of(rig));
	rig_write(&c, 1000);
	rig_say(&c, PACKET_WROTE, 0);
	round_of(rig);
	assert_int_equal(end->got, 10);
	rig->now += SPIN;
	round_of(rig);
	assert_false(round_of(rig));
	/* and wakes up when it does */
	end->room = RIG_FOREVER;
	stream_writable(c.stream);
	rig_run(rig);
	assert_int_equal(end->got, 1010);
	rig_free(rig);
}

/*
 * Where waiting was in vain the last times, the wait is shorter: half as long each time, down to a sixteenth.
 */
static void test_quiet_streams_are_polled_for_a_shorter_time(void **state)
{
	static const uint64_t waits[] = { SPIN / 2, SPIN / 4, SPIN / 8, SPIN / 16, SPIN / 16 };
	struct rig *rig = hot_rig();
	struct rig_conn c;
	uint64_t start;

	(void)state;
	quiet(rig, true, RIG_FOREVER, &c);
	for (size_t i = 0; i < sizeof(waits) / sizeof(waits[0]); i++) {
		rig->now += 1000000;
		rig_write(&c, 1);
		rig_say(&c, PACKET_WROTE, 0);
		start = rig->now;
		round_of(rig);
		rig->now = start + waits[i] - 1;
		assert_true(round_of(rig));
		rig->now = start + waits[i];
		assert_false(round_of(rig));
	}
	/* The next bytes come soon: the whole time again. */
	rig_write(&c, 1);
	rig_say(&c, PACKET_WROTE, 0);
	start = rig->now;
	round_of(rig);
	rig->now = start + SPIN - 1;
	assert_true(round_of(rig));
	rig->now = start + SPIN;
	assert_false(round_of(rig));
	rig_free(rig);
}

/* Time in which we did not get to look is no waiting: a gap of any length counts as ten microseconds. */
static void test_time_away_is_not_waiting(void **state)
{
	struct rig_options options = { .spin_ns = 50000 };
	struct rig *rig = rig_new(&options);
	struct rig_conn c;

	(void)state;
	quiet(rig, true, RIG_FOREVER, &c);
	rig_write(&c, 1);
	rig_say(&c, PACKET_WROTE, 0);
	assert_true(round_of(rig));
	for (int i = 0; i < 4; i++) {
		rig->now += 1000000;
		assert_true(round_of(rig));
	}
	rig->now += 1000000;
	assert_false(round_of(rig));
	rig_free(rig);
}

/* A guest that writes a few bytes again and again, without an answer, is not looked at all the time. */
static void test_trickles_are_collected(void **state)
{
	struct rig *rig = hot_rig();
	struct rig_conn c;
	struct rig_end *end = quiet(rig, true, RIG_FOREVER, &c);
	uint64_t got;

	(void)state;
	rig_write(&c, 1);
	rig_say(&c, PACKET_WROTE, 0);
	round_of(rig);
	for (unsigned i = 2; i <= 8; i++) {
		rig_write(&c, 1);
		assert_true(round_of(rig));
		assert_true(round_of(rig));
		assert_int_equal(end->got, i);
	}
	got = end->got;
	for (unsigned i = 0; i < 10; i++) {
		rig->now += SPIN / 4 / 10 - 1;
		rig_write(&c, 1);
		assert_true(round_of(rig));
		assert_int_equal(end->got, got);
	}
	rig->now += 10;
	assert_true(round_of(rig));
	assert_true(round_of(rig));
	assert_int_equal(end->got, c.written);

	/* With an answer it is a conversation. */
	end->avail = 1;
	stream_readable(c.stream);
	round_of(rig);
	rig_write(&c, 1);
	assert_true(round_of(rig));
	assert_true(round_of(rig));
	assert_int_equal(end->got, c.written);
	rig_free(rig);
}

/* Nor is a program that writes so; its owner may sleep between two looks. */
static void test_trickles_of_programs_are_collected(void **state)
{
	struct rig *rig = hot_rig();
	struct rig_conn c;
	struct rig_end *end = quiet(rig, true, RIG_FOREVER, &c);

	(void)state;
	rig_write(&c, 1);
	rig_say(&c, PACKET_WROTE, 0);
	round_of(rig);
	for (unsigned i = 0; i < 8; i++) {
		assert_int_equal(streams_rest(rig->t), 0);
		end->avail = 1;
		stream_readable(c.stream);
		round_of(rig);
		assert_int_equal(end->avail, 0);
	}
	for (unsigned i = 1; i < 10; i++) {
		end->avail = i;
		stream_readable(c.stream);
		assert_true(round_of(rig));
		assert_int_equal(end->avail, i);
		assert_int_equal(streams_rest(rig->t), SPIN / 4 - (i - 1) * (SPIN / 40));
		rig->now += SPIN / 40;
	}
	rig->now += SPIN / 4;
	assert_int_equal(streams_rest(rig->t), 0);
	assert_true(round_of(rig));
	assert_true(round_of(rig));
	assert_int_equal(end->avail, 0);
	assert_int_not_equal(streams_rest(rig->t), 0);

	/* With an answer it is a conversation: the next word is heard at once. */
	rig_write(&c, 1);
	rig->now += SPIN / 4;
	round_of(rig);
	round_of(rig);
	assert_int_equal(streams_rest(rig->t), 0);
	end->avail = 1;
	stream_readable(c.stream);
	round_of(rig);
	assert_int_equal(end->avail, 0);

	/* And when nothing comes any more, it is quiet. */
	for (unsigned i = 0; i < 10; i++) {
		end->avail = 1;
		stream_readable(c.stream);
		round_of(rig);
	}
	rig->now += SPIN;
	round_of(rig);
	round_of(rig);
	assert_int_equal(end->avail, 0);
	for (unsigned i = 0; i < 10; i++) {
		rig->now += SPIN;
		round_of(rig);
	}
	assert_false(round_of(rig));
	assert_int_equal(streams_rest(rig->t), 0);
	rig_free(rig);
}

/* Time for a rest. */
static struct rig *flow_rig(void)
{
	struct rig_options options = { .spin_ns = 200000 };

	return rig_new(&options);
}

/* Bytes that go one way: after a moment there is time between two looks, in which their owner may sleep. */
static void test_flows_rest(void **state)
{
	struct rig *rig = flow_rig();
	struct rig_conn c;
	struct rig_end *end = quiet(rig, true, RIG_FOREVER, &c);
	unsigned looks = 0;

	(void)state;
	for (unsigned i = 1; i <= 8; i++) {
		rig->now += 10000;
		assert_int_equal(streams_rest(rig->t), 0);
		rig_write(&c, 3000);
		if (i == 1)
			rig_say(&c, PACKET_WROTE, 0);
		round_of(rig);
		round_of(rig);
		assert_int_equal(end->got, 3000 * i);
	}
	/* One that goes on at once is heard at once. */
	rig->now += 9999;
	assert_int_equal(streams_rest(rig->t), 0);
	rig_write(&c, 3000);
	round_of(rig);
	round_of(rig);
	assert_int_equal(end->got, 27000);

	rig->now += 10000;
	assert_int_equal(streams_rest(rig->t), 40000);
	rig_write(&c, 3000);
	assert_true(round_of(rig));
	assert_int_equal(end->got, 27000);
	rig->now += 40000;
	assert_true(round_of(rig));
	assert_true(round_of(rig));
	assert_int_equal(end->got, 30000);

	/* It stays hot for many looks, each of which is short, and then it is told to notify. */
	while (round_of(rig)) {
		assert_true(looks++ < 30);
		rig->now += 50000;
	}
	assert_true(looks > 15);
	assert_int_equal(rig_peek_head(&c), 30000 % RIG_SIZE);
	assert_int_equal(streams_rest(rig->t), 0);
	rig_free(rig);
}

/* An answer makes it a conversation, in which nobody is kept waiting. */
static void test_flow_with_an_answer(void **state)
{
	struct rig *rig = flow_rig();
	struct rig_conn c;
	struct rig_end *end = quiet(rig, true, RIG_FOREVER, &c);

	(void)state;
	for (unsigned i = 1; i <= 9; i++) {
		rig_write(&c, 3000);
		if (i == 1)
			rig_say(&c, PACKET_WROTE, 0);
		round_of(rig);
		round_of(rig);
	}
	rig->now += 10000;
	assert_int_not_equal(streams_rest(rig->t), 0);
	end->avail = 1;
	stream_readable(c.stream);
	round_of(rig);
	assert_int_equal(end->avail, 0);
	assert_int_equal(streams_rest(rig->t), 0);
	rig->now += 10000;
	assert_int_equal(streams_rest(rig->t), 0);
	rig_write(&c, 1);
	round_of(rig);
	round_of(rig);
	assert_int_equal(end->got, 27001);
	rig_free(rig);
}

/* A program that writes more than the guest reads: there is a short rest for the guest to make room. */
static void test_flow_into_a_full_ring(void **state)
{
	struct rig *rig = flow_rig();
	struct rig_conn c;
	struct rig_end *end = quiet(rig, true, RIG_FOREVER, &c);

	(void)state;
	end->avail = 1 << 20;
	stream_readable(c.stream);
	round_of(rig);
	for (unsigned i = 1; i < 9; i++) {
		assert_int_equal(rig_read(&c, 3000), 3000);
		round_of(rig);
		round_of(rig);
		assert_int_equal(streams_rest(rig->t), 0);
	}
	rig->now += 10000;
	assert_true(round_of(rig));
	assert_int_equal(streams_rest(rig->t), 1000);
	rig->now += 1000;
	assert_int_equal(streams_rest(rig->t), 0);
	/* A program that has nothing more to write wakes us when it has. */
	end->avail = 100;
	assert_int_equal(rig_read(&c, 3000), 3000);
	round_of(rig);
	round_of(rig);
	assert_int_equal(end->avail, 0);
	rig->now += 10000;
	assert_int_equal(streams_rest(rig->t), 0);
	rig_free(rig);
}

/* Without spinning there is no poll, and the true position is shown at once. */
static void test_cold_streams_are_not_polled(void **state)
{
	struct rig *rig = *state;
	struct rig_conn c;

	quiet(rig, true, RIG_FOREVER, &c);
	rig_write(&c, 100);
	rig_say(&c, PACKET_WROTE, 0);
	assert_false(round_of(rig));
	assert_int_equal(rig_peek_head(&c), 100);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_s8_1_waiting_read_with_bytes_in_the_ring),
		TEST(test_s8_1_waiting_read_on_an_empty_ring),
		TEST(test_s8_1_waiting_write_with_room),
		TEST(test_s8_1_waiting_write_on_a_full_ring),
		TEST(test_s8_2_waiting_read_when_the_ring_is_empty),
		TEST(test_s8_2_no_waiting_read_while_bytes_wait),
		TEST(test_s8_2_waiting_write_when_the_ring_is_full),
		TEST(test_s8_2_waiting_read_is_owed),
		TEST(test_s8_2_waiting_write_is_owed),
		cmocka_unit_test(test_s8_2_packet_notification_is_not_polled),
		cmocka_unit_test(test_s8_4_where_we_wait_to_read),
		TEST(test_s8_4_where_we_wait_to_write),
		TEST(test_s8_4_generation_before_the_first),
		TEST(test_s9_no_waiting_packets),
		TEST(test_s9_1_wrote_after_the_ring_was_empty),
		TEST(test_s9_1_the_peer_reads_meanwhile),
		TEST(test_s9_1_wrote_is_owed),
		TEST(test_s9_2_read_after_the_ring_was_full),
		TEST(test_s9_2_no_read_for_a_ring_that_was_not_full),
		TEST(test_s9_2_read_is_owed),
		TEST(test_s9_3_notifications_without_reason),
		TEST(test_s9_4_handshake_packets_are_ignored),
		TEST(test_s10_1_shutdown_is_owed),
		TEST(test_owed_packets_do_not_hold_up_the_stream),
		TEST(test_owed_packets_go_when_there_is_room),
		TEST(test_owing_streams_may_end),
		cmocka_unit_test(test_hot_stream_shows_one_byte_less),
		cmocka_unit_test(test_hot_stream_cools_down),
		cmocka_unit_test(test_hot_stream_of_a_neighbour),
		cmocka_unit_test(test_hot_stream_stays_hot_while_bytes_come),
		cmocka_unit_test(test_hot_stream_looks_once_more_before_it_sleeps),
		cmocka_unit_test(test_hot_stream_finds_room),
		cmocka_unit_test(test_s9_2_hot_stream_fills_the_ring_when_it_cools_down),
		cmocka_unit_test(test_hot_stream_cools_down_when_nobody_takes_its_bytes),
		cmocka_unit_test(test_quiet_streams_are_polled_for_a_shorter_time),
		cmocka_unit_test(test_time_away_is_not_waiting),
		cmocka_unit_test(test_trickles_are_collected),
		cmocka_unit_test(test_trickles_of_programs_are_collected),
		cmocka_unit_test(test_flows_rest),
		cmocka_unit_test(test_flow_with_an_answer),
		cmocka_unit_test(test_flow_into_a_full_ring),
		TEST(test_cold_streams_are_not_polled),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
