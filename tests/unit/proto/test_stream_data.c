/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The connected stream: bytes both ways, in either role and with either notification scheme; ends that are
 * slow; memory that goes away; turns.
 */
#include <errno.h>

#include "stream_rig.h"

static void connect_any(struct rig *rig, struct rig_end *end, bool client, bool qstate, uint32_t size,
			struct rig_conn *ret_conn)
{
	if (client)
		rig_connect(rig, end, qstate, size, ret_conn);
	else
		rig_accept(rig, end, qstate, size, ret_conn);
}

static void stir(struct rig_conn *c)
{
	stream_readable(c->stream);
	stream_writable(c->stream);
	rig_run(c->rig);
}

/* A few times round each ring. */
static void test_s7_bytes_both_ways(void **state)
{
	(void)state;
	for (unsigned v = 0; v < 16; v++) {
		bool client = v & 1, qstate = v & 2;
		struct rig_options options = { .spin_ns = v & 4 ? 5000 : 0 };
		uint32_t size = v & 8 ? 5000 : RIG_SIZE;
		struct rig *rig = rig_new(&options);
		struct rig_end *end = rig_end_new(rig, RIG_FOREVER);
		struct rig_conn c;

		connect_any(rig, end, client, qstate, size, &c);
		for (unsigned i = 0; i < 50; i++) {
			assert_int_equal(rig_write(&c, 777), 777);
			rig_say(&c, PACKET_WROTE, 0);
			end->avail = 999;
			stream_readable(c.stream);
			rig_run(rig);
			assert_int_equal(end->got, c.written);
			assert_int_equal(rig_read(&c, 5000), 999);
			rig_drain(rig);
		}
		assert_int_equal(streams_count(rig->t), 1);
		rig_guest_detach(rig, c.pair);
		assert_true(end->finished);
		rig_free(rig);
	}
}

/* 6.5: any size in the limits; the ring ends after its size, and holds one byte less. */
static void test_s6_5_rings_of_all_kinds_of_sizes(void **state)
{
	static const uint32_t sizes[] = { 128, 129, 255, 4095, 4096, 4097, 8191, 65536, 262143, 262144 };
	struct rig *rig = *state;

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct rig_end *end = rig_end_new(rig, RIG_FOREVER);
		struct rig_conn c;

		rig_accept(rig, end, true, sizes[i], &c);
		for (int k = 0; k < 5; k++) {
			assert_int_equal(rig_write(&c, RIG_FOREVER), sizes[i] - 1);
			rig_say(&c, PACKET_WROTE, 0);
			end->avail = RIG_FOREVER;
			stream_readable(c.stream);
			rig_run(rig);
			assert_int_equal(end->got, c.written);
			assert_int_equal(rig_read(&c, RIG_FOREVER), sizes[i] - 1);
			rig_drain(rig);
		}
		rig_guest_detach(rig, c.pair);
	}
}

static void test_ends_that_move_one_byte_at_once(void **state)
{
	struct rig *rig = *state;
	struct rig_end *end = rig_end_new(rig, RIG_FOREVER);
	struct rig_conn c;

	end->chunk = 1;
	rig_accept(rig, end, true, RIG_SIZE, &c);
	rig_write(&c, 1000);
	rig_say(&c, PACKET_WROTE, 0);
	end->avail = 1000;
	stream_readable(c.stream);
	rig_run(rig);
	assert_int_equal(end->got, 1000);
	assert_int_equal(rig_read(&c, 2000), 1000);
}

/* An end that takes some now and some later: every byte arrives, and none is offered unasked. */
static void test_slow_ends_lose_nothing(void **state)
{
	struct rig *rig = *state;
	struct rig_end *end = rig_end_new(rig, 0);
	struct rig_conn c;
	unsigned sends;

	rig_accept(rig, end, true, RIG_SIZE, &c);
	for (unsigned i = 0; i < 100; i++) {
		rig_write(&c, RIG_FOREVER);
		rig_say(&c, PACKET_WROTE, 0);
		rig_run(rig);
		sends = end->sends;
		/* It said -EAGAIN: nothing but stream_writable() makes the stream ask again. */
		rig_say(&c, PACKET_WROTE, 0);
		stream_readable(c.stream);
		rig_run(rig);
		assert_int_equal(end->sends, sends);
		end->room = 37 * i;
		stream_writable(c.stream);
		rig_run(rig);
		assert_int_equal(end->room, 0);
		rig_drain(rig);
	}
	end->room = RIG_FOREVER;
	stream_writable(c.stream);
	rig_run(rig);
	assert_int_equal(end->got, c.written);
}

static void test_empty_ends_are_not_asked_again(void **state)
{
	struct rig *rig = *state;
	struct rig_end *end = rig_end_new(rig, RIG_FOREVER);
	struct rig_conn c;
	unsigned recvs;

	rig_accept(rig, end, true, RIG_SIZE, &c);
	recvs = end->recvs;
	rig_write(&c, 10);
	rig_say(&c, PACKET_WROTE, 0);
	rig_say(&c, PACKET_READ, 0);
	stream_writable(c.stream);
	rig_run(rig);
	assert_int_equal(end->recvs, recvs);
	end->avail = 10;
	stream_readable(c.stream);
	rig_run(rig);
	assert_int_equal(rig_read(&c, 100), 10);
}

/* --- Memory that goes away ----------------------------------------------------------------- */

static void test_unmapped_memory_is_waited_for(void **state)
{
	struct rig *rig = *state;

	for (unsigned qstate = 0; qstate < 2; qstate++) {
		struct rig_end *end = rig_end_new(rig, RIG_FOREVER);
		struct rig_conn c;

		rig_accept(rig, end, qstate, RIG_SIZE, &c);
		rig_map(rig, c.pair, false);
		rig_write(&c, 100);
		rig_say(&c, PACKET_WROTE, 0);
		end->avail = 200;
		stir(&c);
		stir(&c);
		rig_say(&c, PACKET_WROTE, 0);
		rig_run(rig);
		assert_int_equal(end->got + end->put, 0);
		assert_false(rig_end_is_over(end));
		rig_expect_quiet(rig);

		rig_map(rig, c.pair, true);
		rig_run(rig);
		assert_int_equal(end->got, 100);
		assert_int_equal(rig_read(&c, 1000), 200);
		rig_drain(rig);
		rig_guest_detach(rig, c.pair);
	}
}

/* Any page may be the one that is missing. Nothing is lost, and nobody is left asleep. */
static void test_any_page_may_be_unmapped(void **state)
{
	struct rig *rig = *state;

	for (unsigned v = 0; v < 2 * 6; v++) {
		struct rig_end *end = rig_end_new(rig, RIG_FOREVER);
		struct rig_conn c;
		size_t page = v / 2;

		/* header, two pages of data, header, two pages of data */
		rig_accept(rig, end, v % 2, 8192, &c);
		assert_int_equal(c.pair->pages.n, 6);
		c.pair->pages.unmapped[page] = true;
		rig_write(&c, 8000);
		rig_say(&c, PACKET_WROTE, 0);
		rig_say(&c, PACKET_WAITING_READ, 0);
		end->avail = 8000;
		stir(&c);
		assert_false(rig_end_is_over(end));
		rig_map(rig, c.pair, true);
		rig_run(rig);
		assert_int_equal(end->got, 8000);
		assert_int_equal(end->put, 8000);
		assert_int_equal(rig_read(&c, 8000), 8000);
		/* The guest slept on its empty ring. */
		assert_true(rig_drain(rig) & 1u << PACKET_WROTE);
		rig_guest_detach(rig, c.pair);
	}
}

/* The page with our positions goes while the end's bytes are already in the ring. */
static void unmap_own_header(struct rig *rig, enum rig_when when)
{
	struct rig_conn *c = rig->hook_ctx;

	if (when == RIG_BEFORE_STORE)
		c->pair->pages.unmapped[c->qp.consume_hdr / 4096] = true;
}

static void test_bytes_taken_from_the_end_are_published_later(void **state)
{
	struct rig *rig = *state;
	struct rig_end *end = rig_end_new(rig, RIG_FOREVER);
	struct rig_conn c;

	rig_accept(rig, end, true, RIG_SIZE, &c);
	rig->hook_ctx = &c;
	rig->hook = unmap_own_header;
	end->avail = 100;
	stir(&c);
	rig->hook = NULL;
	assert_int_equal(end->put, 100);
	assert_int_equal(rig_read(&c, 1000), 0);
	rig_expect_quiet(rig);
	rig_map(rig, c.pair, true);
	rig_run(rig);
	assert_int_equal(rig_read(&c, 1000), 100);
	rig_expect_only(rig, PACKET_WROTE);
	end->avail = 100;
	stir(&c);
	assert_int_equal(rig_read(&c, 1000), 100);
}

/* A close waits, too, until the peer can see the last byte. */
static void test_close_waits_for_the_last_byte(void **state)
{
	struct rig *rig = *state;
	struct rig_end *end = rig_end_new(rig, RIG_FOREVER);
	struct rig_conn c;

	rig_accept(rig, end, true, RIG_SIZE, &c);
	rig->hook_ctx = &c;
	rig->hook = unmap_own_header;
	end->avail = 100;
	end->recv_end = -ESHUTDOWN;
	stir(&c);
	rig->hook = NULL;
	assert_false(end->closed);
	rig_map(rig, c.pair, true);
	rig_run(rig);
	assert_true(end->closed);
	assert_int_equal(rig_read(&c, 1000), 100);
}

/*
 * The page with the peer's positions goes after ours was published: we cannot see whether it sleeps, so we
 * tell it.
 */
static void unmap_peers_header(struct rig *rig, enum rig_when when)
{
	struct rig_conn *c = rig->hook_ctx;

	if (when == RIG_AFTER_STORE)
		c->pair->pages.unmapped[c->qp.produce_hdr / 4096] = true;
}

static void test_notifications_survive_unmapping(void **state)
{
	struct rig *rig = *state;

	for (int v = 0; v < 2; v++) {
		struct rig_end *end = rig_end_new(rig, 0);
		struct rig_conn c;

		rig_accept(rig, end, true, RIG_SIZE, &c);
		rig_write(&c, RIG_SIZE - 1);
		rig_say(&c, PACKET_WROTE, 0);
		rig_run(rig);
		rig->hook_ctx = &c;
		rig->hook = unmap_peers_header;
		if (v)
			end->avail = 100;
		else
			end->room = 100;
		stir(&c);
		rig->hook = NULL;
		rig_map(rig, c.pair, true);
		rig_run(rig);
		rig_expect_only(rig, v ? PACKET_WROTE : PACKET_READ);
		rig_guest_detach(rig, c.pair);
	}
}

/* The memory was there for the positions, but not for the end's system call. */
static void test_ends_that_find_no_memory(void **state)
{
	struct rig *rig = *state;
	struct rig_end *end = rig_end_new(rig, RIG_FOREVER);
	struct rig_conn c;

	rig_accept(rig, end, true, RIG_SIZE, &c);
	rig_write(&c, 100);
	end->fault = 1;
	stir(&c);
	assert_int_equal(end->got, 0);
	stir(&c);	/* not tried again before memory changes */
	assert_int_equal(end->got, 0);
	streams_memory_changed(rig->t);
	rig_run(rig);
	assert_int_equal(end->got, 100);

	end->avail = 100;
	end->fault = 1;
	stir(&c);
	assert_int_equal(end->put, 0);
	streams_memory_changed(rig->t);
	rig_run(rig);
	assert_int_equal(rig_read(&c, 1000), 100);
	assert_false(rig_end_is_over(end));
}

static void test_parked_streams_may_end(void **state)
{
	struct rig_options options = { .spin_ns = 5000 };
	struct rig *rig = rig_new(&options);

	(void)state;
	for (int v = 0; v < 3; v++) {
		struct rig_end *end = rig_end_new(rig, RIG_FOREVER);
		struct rig_conn c;

		rig_accept(rig, end, true, RIG_SIZE, &c);
		/* hot, and then gone */
		rig_write(&c, 10);
		rig_say(&c, PACKET_WROTE, 0);
		streams_run(rig->t);
		assert_true(streams_poll(rig->t));
		rig_map(rig, c.pair, false);
		rig_run(rig);
		assert_false(rig_end_is_over(end));
		if (v == 0) {
			rig_guest_detach(rig, c.pair);
			assert_true(end->finished);
		} else if (v == 1) {
			stream_abort(c.stream);
			c.pair->guest = false;
		} else {
			streams_reset(rig->t);
			assert_true(end->finished);
		}
		rig_drain(rig);
		assert_int_equal(streams_count(rig->t), 0);
		assert_false(streams_run(rig->t));
		assert_false(streams_poll(rig->t));
	}
	rig_free(rig);
}

/* --- Turns --------------------------------------------------------------------------------- */

static void test_one_turn_moves_a_bounded_number_of_bytes(void **state)
{
	struct rig *rig = *state;
	struct rig_end *end = rig_end_new(rig, RIG_FOREVER);
	struct rig_conn c;

	rig_accept(rig, end, true, 262144, &c);
	rig_write(&c, RIG_FOREVER);
	rig_say(&c, PACKET_WROTE, 0);
	end->avail = RIG_FOREVER;
	stream_readable(c.stream);
	assert_true(streams_run(rig->t));
	assert_int_equal(end->got, LIMIT_TURN_BYTES);
	assert_int_equal(end->put, LIMIT_TURN_BYTES);
	/* and the guest sees it at once */
	assert_int_equal(rig_peek_head(&c), LIMIT_TURN_BYTES);
	assert_int_equal(rig_peek_tail(&c), LIMIT_TURN_BYTES);
	assert_false(streams_run(rig->t));
	assert_int_equal(end->got, 262143);
	assert_int_equal(end->put, 262143);

	/* either direction alone */
	rig_read(&c, RIG_FOREVER);
	rig_say(&c, PACKET_READ, 0);
	assert_true(streams_run(rig->t));
	assert_false(streams_run(rig->t));
	assert_int_equal(end->put, 2 * 262143);
	end->avail = 0;
	rig_write(&c, RIG_FOREVER);
	rig_say(&c, PACKET_WROTE, 0);
	assert_true(streams_run(rig->t));
	assert_false(streams_run(rig->t));
	assert_int_equal(end->got, 2 * 262143);
}

/* However many streams there are, one that has always something to do gets one turn. */
static void test_one_turn_for_each(void **state)
{
	struct rig *rig = *state;
	struct rig_end *busy = rig_end_new(rig, RIG_FOREVER), *other = rig_end_new(rig, RIG_FOREVER);
	struct rig_conn c[2];

	rig_accept(rig, busy, true, 262144, &c[0]);
	rig->guest_port++;
	rig_accept(rig, other, true, RIG_SIZE, &c[1]);
	for (unsigned i = 0; i < 100; i++) {
		rig->next_end = rig_end_new(rig, 0);
		rig_packet(rig, PACKET_REQUEST2, 9000 + i, RIG_PORT, RIG_SIZE, 1);
	}
	rig_drain(rig);
	for (unsigned i = 1; i <= 20; i++) {
		/* As much as it wants, both ways, before each round. */
		rig_write(&c[0], RIG_FOREVER);
		rig_say(&c[0], PACKET_WROTE, 0);
		busy->avail = RIG_FOREVER;
		stream_readable(c[0].stream);
		rig_read(&c[0], RIG_FOREVER);
		rig_write(&c[1], 10);
		rig_say(&c[1], PACKET_WROTE, 0);
		assert_true(streams_run(rig->t));
		assert_true(busy->got <= (uint64_t)i * LIMIT_TURN_BYTES);
		assert_true(busy->put <= (uint64_t)i * LIMIT_TURN_BYTES);
		assert_int_equal(other->got, 10 * i);
		rig_drain(rig);
	}
}

/* A guest that fills its ring as fast as it is emptied, or says so. */
static void refill(struct rig *rig, enum rig_when when)
{
	if (when == RIG_BEFORE_LOAD)
		rig_write(rig->hook_ctx, RIG_FOREVER);
}

static void move_tail(struct rig *rig, enum rig_when when)
{
	if (when == RIG_BEFORE_LOAD)
		rig_poke_tail(rig->hook_ctx, rig->loads * 2654435761u % RIG_SIZE);
}

static void test_endless_data_does_not_hold_us_up(void **state)
{
	struct rig *rig = *state;
	struct rig_end *end = rig_end_new(rig, RIG_FOREVER);
	struct rig_conn c;

	rig_accept(rig, end, true, 262144, &c);
	rig->hook_ctx = &c;
	rig->hook = refill;
	for (unsigned i = 1; i < 50; i++) {
		rig_say(&c, PACKET_WROTE, 0);
		assert_true(streams_run(rig->t));
		assert_true(end->got <= (uint64_t)i * LIMIT_TURN_BYTES);
		rig_drain(rig);
	}
	rig->hook = NULL;
	rig_run(rig);
	assert_int_equal(end->got, c.written);
}

/* Nobody reads, and the guest moves its position all the time. */
static void test_endless_data_for_nobody_does_not_hold_us_up(void **state)
{
	struct rig *rig = *state;
	struct rig_end *end = rig_end_new(rig, 0);
	struct rig_conn c;

	rig_accept(rig, end, true, RIG_SIZE, &c);
	end->send_error = -EPIPE;
	rig_write(&c, 1);
	rig_say(&c, PACKET_WROTE, 0);
	rig_run(rig);
	rig_drain(rig);
	rig->hook_ctx = &c;
	rig->hook = move_tail;
	rig->loads = 0;
	for (int i = 0; i < 10 && streams_count(rig->t); i++) {
		rig_say(&c, PACKET_WROTE, 0);
		streams_run(rig->t);
		rig_drain(rig);
	}
	/*
	 * Each turn drops LIMIT_TURN_BYTES and one ring at most; with random positions that is about 64
	 * looks.
	 */
	assert_in_range(rig->loads, 1, 10 * 1000);
	rig->hook = NULL;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_s7_bytes_both_ways),
		TEST(test_s6_5_rings_of_all_kinds_of_sizes),
		TEST(test_ends_that_move_one_byte_at_once),
		TEST(test_slow_ends_lose_nothing),
		TEST(test_empty_ends_are_not_asked_again),
		TEST(test_unmapped_memory_is_waited_for),
		TEST(test_any_page_may_be_unmapped),
		TEST(test_bytes_taken_from_the_end_are_published_later),
		TEST(test_close_waits_for_the_last_byte),
		TEST(test_notifications_survive_unmapping),
		TEST(test_ends_that_find_no_memory),
		cmocka_unit_test(test_parked_streams_may_end),
		TEST(test_one_turn_moves_a_bounded_number_of_bytes),
		TEST(test_one_turn_for_each),
		TEST(test_endless_data_does_not_hold_us_up),
		TEST(test_endless_data_for_nobody_does_not_hold_us_up),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
