/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Who wakes whom, and when: transport reference, 8 (packet notification) and 9 (queue state)
 */
#include "stream_rig.h"

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

	rig_quiet(rig, false, RIG_FOREVER, &c);
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

	rig_quiet(rig, false, RIG_FOREVER, &c);
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

	rig_quiet(rig, false, RIG_FOREVER, &c);
	rig_say(&c, PACKET_WAITING_WRITE, 0);
	rig_run(rig);
	rig_expect_only(rig, PACKET_READ);
}

static void test_s8_1_waiting_write_on_a_full_ring(void **state)
{
	struct rig *rig = *state;
	struct rig_conn c;
	struct rig_end *end = rig_quiet(rig, false, 0, &c);

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
	struct rig_end *end = rig_quiet(rig, false, 10, &c);

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
	struct rig_end *end = rig_quiet(rig, false, RIG_FOREVER, &c);

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
	rig_quiet(rig, false, RIG_FOREVER, &c);
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

	rig_quiet(rig, false, RIG_FOREVER, &c);
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

	rig_quiet(rig, false, RIG_FOREVER, &c);
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
	struct rig_end *end = rig_quiet(rig, true, RIG_FOREVER, &c);

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

	rig_quiet(rig, true, RIG_FOREVER, &c);
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

	rig_quiet(rig, true, RIG_FOREVER, &c);
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
	struct rig_end *end = rig_quiet(rig, true, 0, &c);

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
	struct rig_end *end = rig_quiet(rig, true, RIG_FOREVER, &c);

	guest_writes(&c, RIG_SIZE - 2);
	assert_int_equal(end->got, RIG_SIZE - 2);
	rig_expect_quiet(rig);
}

/* 9.3: spurious notifications are harmless. */
static void test_s9_3_notifications_without_reason(void **state)
{
	struct rig *rig = *state;
	struct rig_conn c;
	struct rig_end *end = rig_quiet(rig, true, RIG_FOREVER, &c);

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
		end = rig_quiet(rig, qstate, RIG_FOREVER, &c);
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

	rig_quiet(rig, true, RIG_FOREVER, &c);
	rig->refuse = 1;
	host_writes(&c, 10);
	expect_owed(rig, PACKET_WROTE);
}

static void test_s9_2_read_is_owed(void **state)
{
	struct rig *rig = *state;
	struct rig_conn c;
	struct rig_end *end = rig_quiet(rig, true, 0, &c);

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

	rig_quiet(rig, false, RIG_FOREVER, &c);
	rig->refuse = 1;
	guest_writes(&c, 10);
	expect_owed(rig, PACKET_WAITING_READ);
}

static void test_s8_2_waiting_write_is_owed(void **state)
{
	struct rig *rig = *state;
	struct rig_conn c;

	rig_quiet(rig, false, RIG_FOREVER, &c);
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
	struct rig_end *end = rig_quiet(rig, true, RIG_FOREVER, &c);

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

	rig_quiet(rig, true, RIG_FOREVER, &c);
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
	struct rig_end *end = rig_quiet(rig, true, RIG_FOREVER, &c);

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
	end = rig_quiet(rig, true, RIG_FOREVER, &c);
	rig->refuse = 1;
	host_writes(&c, 10);
	rig_guest_detach(rig, c.pair);
	assert_true(end->finished);
	assert_int_equal(streams_deadline(rig->t), UINT64_MAX);

	/* the program goes */
	rig_quiet(rig, true, RIG_FOREVER, &c);
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
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
