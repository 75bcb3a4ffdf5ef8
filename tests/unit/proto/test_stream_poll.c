/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Polling instead of sleeping: for how long a stream is looked at, and when its owner may rest
 */
#include "stream_rig.h"

#define SPIN 5000u

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
	struct rig_end *end = rig_quiet(rig, true, RIG_FOREVER, &c);
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
	rig_quiet(rig, true, RIG_FOREVER, &c);
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
	rig_quiet(rig, true, RIG_FOREVER, &c);
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
	end = rig_quiet(rig, true, RIG_FOREVER, &c);
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
	end = rig_quiet(rig, true, RIG_FOREVER, &c);
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
	rig_quiet(rig, false, RIG_FOREVER, &c);
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
	struct rig_end *end = rig_quiet(rig, true, RIG_FOREVER, &c);

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
	struct rig_end *end = rig_quiet(rig, true, RIG_FOREVER, &c);
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
	struct rig_end *end = rig_quiet(rig, true, 10, &c);

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
	rig_quiet(rig, true, RIG_FOREVER, &c);
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
	rig_quiet(rig, true, RIG_FOREVER, &c);
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
	struct rig_end *end = rig_quiet(rig, true, RIG_FOREVER, &c);
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
	struct rig_end *end = rig_quiet(rig, true, RIG_FOREVER, &c);

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
	struct rig_end *end = rig_quiet(rig, true, RIG_FOREVER, &c);
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
	struct rig_end *end = rig_quiet(rig, true, RIG_FOREVER, &c);

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
	struct rig_end *end = rig_quiet(rig, true, RIG_FOREVER, &c);

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

	rig_quiet(rig, true, RIG_FOREVER, &c);
	rig_write(&c, 100);
	rig_say(&c, PACKET_WROTE, 0);
	assert_false(round_of(rig));
	assert_int_equal(rig_peek_head(&c), 100);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_s8_2_packet_notification_is_not_polled),
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
