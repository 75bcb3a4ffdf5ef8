/* SPDX-License-Identifier: BSD-2-Clause */
/* How streams end, half and wholly: transport reference, 7 (broken rings), 9.4, 10. */
#include <errno.h>
#include <string.h>

#include "stream_rig.h"

static struct rig_end *connected(struct rig *rig, uint64_t room, struct rig_conn *ret_conn)
{
	struct rig_end *end = rig_end_new(rig, room);

	rig_accept(rig, end, true, RIG_SIZE, ret_conn);
	return end;
}

static void stir(struct rig_conn *c)
{
	stream_readable(c->stream);
	stream_writable(c->stream);
	rig_run(c->rig);
}

static void expect_freed(struct rig *rig)
{
	assert_int_equal(streams_count(rig->t), 0);
	assert_int_equal(streams_deadline(rig->t), UINT64_MAX);
	assert_false(streams_run(rig->t));
	assert_false(streams_poll(rig->t));
}

/* --- 10.1: SHUTDOWN from the guest --------------------------------------------------------- */

static void test_s10_1_peer_stops_sending(void **state)
{
	struct rig *rig = *state;
	struct rig_conn c;
	struct rig_end *end = connected(rig, 10, &c);

	rig_write(&c, 100);
	rig_say(&c, PACKET_WROTE, 0);
	rig_say(&c, PACKET_SHUTDOWN, VMCI_SHUTDOWN_SEND);
	rig_run(rig);
	/* not before everything was passed on */
	assert_int_equal(end->got, 10);
	assert_int_equal(end->told, 0);
	end->room = 90;
	stir(&c);
	assert_int_equal(end->got, 100);
	assert_int_equal(end->told, VMCI_SHUTDOWN_SEND);
	/* the other direction knows nothing of it */
	end->avail = 50;
	stir(&c);
	assert_int_equal(rig_read(&c, 100), 50);
	assert_int_equal(streams_count(rig->t), 1);
	rig_expect(rig, PACKET_WROTE);
	rig_expect_quiet(rig);
}

static void test_s10_1_peer_stops_sending_with_nothing_left(void **state)
{
	struct rig *rig = *state;
	struct rig_conn c;
	struct rig_end *end = connected(rig, RIG_FOREVER, &c);

	rig_say(&c, PACKET_SHUTDOWN, VMCI_SHUTDOWN_SEND);
	rig_run(rig);
	assert_int_equal(end->told, VMCI_SHUTDOWN_SEND);
	rig_expect_quiet(rig);
}

static void test_s10_1_peer_stops_receiving(void **state)
{
	struct rig *rig = *state;
	struct rig_conn c;
	struct rig_end *end = connected(rig, RIG_FOREVER, &c);

	rig_say(&c, PACKET_SHUTDOWN, VMCI_SHUTDOWN_RECEIVE);
	rig_run(rig);
	assert_int_equal(end->told, VMCI_SHUTDOWN_RECEIVE);
	/* what the program still writes is not taken */
	end->avail = 100;
	stir(&c);
	assert_int_equal(end->put, 0);
	rig_expect_quiet(rig);
	/* the other direction goes on */
	rig_write(&c, 100);
	rig_say(&c, PACKET_WROTE, 0);
	rig_run(rig);
	assert_int_equal(end->got, 100);
	assert_int_equal(end->told, VMCI_SHUTDOWN_RECEIVE);
}

static void test_s10_1_peer_stops_both(void **state)
{
	struct rig *rig = *state;
	struct rig_conn c;
	struct rig_end *end = connected(rig, 0, &c);

	rig_write(&c, 100);
	rig_say(&c, PACKET_WROTE, 0);
	rig_say(&c, PACKET_SHUTDOWN, VMCI_SHUTDOWN_BOTH);
	rig_run(rig);
	assert_int_equal(end->told, VMCI_SHUTDOWN_RECEIVE);
	end->room = RIG_FOREVER;
	stir(&c);
	assert_int_equal(end->got, 100);
	assert_int_equal(end->told, VMCI_SHUTDOWN_BOTH);
	/* the stream stays until somebody closes */
	assert_int_equal(streams_count(rig->t), 1);
	rig_guest_detach(rig, c.pair);
	assert_true(end->finished);
	assert_int_equal(end->finish_len, 0);
}

static void test_s10_1_modes_that_mean_nothing(void **state)
{
	static const uint64_t modes[] = { 0, 4, 0xfffffffc, 1ull << 32 };
	struct rig *rig = *state;
	struct rig_conn c;
	struct rig_end *end = connected(rig, RIG_FOREVER, &c);

	for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
		rig_say(&c, PACKET_SHUTDOWN, modes[i]);
		rig_run(rig);
	}
	assert_int_equal(end->told, 0);
	/* bits add up; what was said is said */
	rig_say(&c, PACKET_SHUTDOWN, VMCI_SHUTDOWN_SEND | 0xf0);
	rig_run(rig);
	rig_say(&c, PACKET_SHUTDOWN, VMCI_SHUTDOWN_RECEIVE);
	rig_run(rig);
	assert_int_equal(end->told, VMCI_SHUTDOWN_BOTH);
	rig_say(&c, PACKET_SHUTDOWN, VMCI_SHUTDOWN_BOTH);
	rig_run(rig);
	assert_int_equal(end->told_count, 2);
	rig_expect_quiet(rig);
}

/* --- 10.1: our program shuts down ---------------------------------------------------------- */

static void test_s10_1_we_stop_sending(void **state)
{
	struct rig *rig = *state;
	struct rig_conn c;
	struct rig_end *end = connected(rig, RIG_FOREVER, &c);
	const struct packet *p;

	end->avail = 100;
	end->recv_end = RIG_EOF;
	stir(&c);
	/* after the last byte was published */
	rig_expect(rig, PACKET_WROTE);
	p = rig_expect(rig, PACKET_SHUTDOWN);
	assert_int_equal(p->arg, VMCI_SHUTDOWN_SEND);
	rig_expect_quiet(rig);
	assert_int_equal(rig_read(&c, 1000), 100);
	/* once */
	stir(&c);
	rig_expect_quiet(rig);
	/* the other direction goes on */
	rig_write(&c, 100);
	rig_say(&c, PACKET_WROTE, 0);
	rig_run(rig);
	assert_int_equal(end->got, 100);
	assert_int_equal(streams_count(rig->t), 1);
}

/* The end of the stream waits behind a full ring. */
static void test_s10_1_we_stop_sending_when_all_is_in_the_ring(void **state)
{
	struct rig *rig = *state;
	struct rig_conn c;
	struct rig_end *end = connected(rig, RIG_FOREVER, &c);

	end->avail = RIG_SIZE + 10;
	end->recv_end = RIG_EOF;
	stir(&c);
	rig_expect_only(rig, PACKET_WROTE);
	assert_int_equal(rig_read(&c, 5), 5);
	rig_say(&c, PACKET_READ, 0);
	rig_run(rig);
	rig_expect_quiet(rig);
	assert_int_equal(rig_read(&c, RIG_SIZE), RIG_SIZE - 1);
	rig_say(&c, PACKET_READ, 0);
	rig_run(rig);
	rig_expect(rig, PACKET_WROTE);
	rig_expect(rig, PACKET_SHUTDOWN);
	rig_expect_quiet(rig);
	assert_int_equal(rig_read(&c, RIG_SIZE), 6);
}

static void test_s10_1_we_stop_receiving(void **state)
{
	struct rig *rig = *state;
	struct rig_conn c;
	struct rig_end *end = connected(rig, 10, &c);
	const struct packet *p;

	end->send_error = -EPIPE;
	rig_write(&c, RIG_SIZE - 1);
	rig_say(&c, PACKET_WROTE, 0);
	rig_run(rig);
	assert_int_equal(end->got, 10);
	rig_expect(rig, PACKET_READ);
	p = rig_expect(rig, PACKET_SHUTDOWN);
	assert_int_equal(p->arg, VMCI_SHUTDOWN_RECEIVE);
	rig_expect_quiet(rig);
	/* what the guest wrote before it knew is dropped, and never offered to the end again */
	assert_int_equal(rig_peek_head(&c), RIG_SIZE - 1);
	rig_write(&c, 1000);
	rig_say(&c, PACKET_WROTE, 0);
	rig_run(rig);
	assert_int_equal(end->got, 10);
	assert_int_equal(end->sends, 2);
	/* the other direction goes on */
	end->avail = 20;
	stir(&c);
	assert_int_equal(rig_read(&c, 100), 20);
	assert_int_equal(streams_count(rig->t), 1);
}

static void test_s10_1_we_stop_both_one_after_the_other(void **state)
{
	struct rig *rig = *state;
	struct rig_conn c;
	struct rig_end *end = connected(rig, 0, &c);
	const struct packet *p;

	end->recv_end = RIG_EOF;
	stir(&c);
	p = rig_expect(rig, PACKET_SHUTDOWN);
	assert_int_equal(p->arg, VMCI_SHUTDOWN_SEND);
	end->send_error = -EPIPE;
	rig_write(&c, 1);
	rig_say(&c, PACKET_WROTE, 0);
	rig_run(rig);
	p = rig_expect(rig, PACKET_SHUTDOWN);
	assert_int_equal(p->arg, VMCI_SHUTDOWN_BOTH);
	rig_expect_quiet(rig);
}

/* Half-closed first, closed later. */
static void test_s10_2_we_close_after_a_half_close(void **state)
{
	struct rig *rig = *state;
	struct rig_conn c;
	struct rig_end *end = connected(rig, RIG_FOREVER, &c);

	end->recv_end = RIG_EOF;
	stir(&c);
	rig_expect_only(rig, PACKET_SHUTDOWN);
	stir(&c);
	assert_false(end->closed);
	end->recv_end = -ESHUTDOWN;
	stir(&c);
	assert_true(end->closed);
	rig_expect_quiet(rig);
	assert_false(c.pair->host);
	expect_freed(rig);
}

/* The peer does not receive, and then our program goes. */
static void test_s10_2_we_close_after_the_peer_stopped_receiving(void **state)
{
	struct rig *rig = *state;
	struct rig_conn c;
	struct rig_end *end = connected(rig, RIG_FOREVER, &c);

	rig_say(&c, PACKET_SHUTDOWN, VMCI_SHUTDOWN_RECEIVE);
	rig_run(rig);
	end->avail = 100;	/* nobody wants that */
	end->recv_end = -ESHUTDOWN;
	stir(&c);
	assert_true(end->closed);
	assert_int_equal(end->put, 0);
	expect_freed(rig);
}

/* --- 10.2: close --------------------------------------------------------------------------- */

static void test_s10_2_we_close_without_a_packet(void **state)
{
	struct rig *rig = *state;
	struct rig_conn c;
	struct rig_end *end = connected(rig, RIG_FOREVER, &c);

	end->avail = 100;
	stir(&c);
	assert_int_equal(end->put, 100);
	assert_int_equal(rig_read(&c, 1000), 100);
	end->recv_end = -ESHUTDOWN;
	stir(&c);
	assert_true(end->closed);
	assert_int_equal(rig->detaches, 1);
	assert_false(c.pair->host);
	/* no SHUTDOWN, no RST: the peer learns it from the detach */
	assert_int_equal(rig_drain(rig) & ~(1u << PACKET_WROTE), 0);
	expect_freed(rig);
	/* Packets that come later meet nobody. */
	rig_say(&c, PACKET_READ, 0);
	rig_expect_only(rig, PACKET_RST);
}

/* What the guest has not read yet it must not miss: SHUTDOWN first, the detach when it has read. */
static struct rig_end *close_before_read(struct rig *rig, struct rig_conn *c)
{
	struct rig_end *end = connected(rig, RIG_FOREVER, c);

	end->avail = 100;
	end->recv_end = -ESHUTDOWN;
	stir(c);
	assert_true(end->closed);
	assert_int_equal(end->put, 100);
	assert_int_equal(rig->detaches, 0);
	assert_int_equal(rig_drain(rig), 1u << PACKET_WROTE | 1u << PACKET_SHUTDOWN);
	return end;
}

static void test_we_close_and_the_peer_reads_on(void **state)
{
	struct rig *rig = *state;
	struct rig_conn c;

	close_before_read(rig, &c);
	rig->now = streams_deadline(rig->t);
	streams_run(rig->t);
	assert_int_equal(rig->detaches, 0);
	assert_int_equal(rig_read(&c, 1000), 100);
	rig->now = streams_deadline(rig->t);
	streams_run(rig->t);
	assert_int_equal(rig->detaches, 1);
	expect_freed(rig);
	rig_expect_quiet(rig);
}

static void test_we_close_and_the_peer_never_reads(void **state)
{
	struct rig *rig = *state;
	struct rig_conn c;
	uint64_t start;
	unsigned looks = 0;

	close_before_read(rig, &c);
	start = rig->now;
	while (!rig->detaches) {
		assert_true(looks++ < 20);
		rig->now = streams_deadline(rig->t);
		streams_run(rig->t);
	}
	assert_true(rig->now - start >= 1000000000u && rig->now - start < 2000000000u);
	assert_int_equal(rig_read(&c, 1000), 100);
	expect_freed(rig);
}

static void test_we_close_and_the_peer_answers(void **state)
{
	struct rig *rig = *state;
	struct rig_conn c;

	/* with a SHUTDOWN: it will not read */
	close_before_read(rig, &c);
	rig_say(&c, PACKET_SHUTDOWN, VMCI_SHUTDOWN_SEND);
	assert_int_equal(rig->detaches, 0);
	rig_say(&c, PACKET_SHUTDOWN, VMCI_SHUTDOWN_RECEIVE);
	assert_int_equal(rig->detaches, 1);
	expect_freed(rig);

	/* with a RST */
	rig->detaches = 0;
	close_before_read(rig, &c);
	rig_say(&c, PACKET_RST, 0);
	assert_int_equal(rig->detaches, 1);
	expect_freed(rig);

	/* by going: nothing is left to detach */
	rig->detaches = 0;
	close_before_read(rig, &c);
	rig_guest_detach(rig, c.pair);
	expect_freed(rig);
	rig_expect_quiet(rig);
}

static void test_we_close_and_all_is_reset(void **state)
{
	struct rig *rig = *state;
	struct rig_conn c;

	close_before_read(rig, &c);
	streams_reset(rig->t);
	assert_int_equal(rig->detaches, 1);
	expect_freed(rig);
}

static void test_s10_2_we_close_behind_a_full_ring(void **state)
{
	struct rig *rig = *state;
	struct rig_conn c;
	struct rig_end *end = connected(rig, RIG_FOREVER, &c);

	end->avail = RIG_SIZE + 10;
	end->recv_end = -ESHUTDOWN;
	stir(&c);
	assert_false(end->closed);
	assert_int_equal(rig_read(&c, RIG_SIZE), RIG_SIZE - 1);
	rig_say(&c, PACKET_READ, 0);
	rig_run(rig);
	assert_true(end->closed);
	assert_int_equal(rig_read(&c, RIG_SIZE), 11);
	rig_say(&c, PACKET_READ, 0);
	rig_drain(rig);
	expect_freed(rig);
}

static void test_s10_2_guest_closes_with_nothing_left(void **state)
{
	struct rig *rig = *state;
	struct rig_conn c;
	struct rig_end *end = connected(rig, RIG_FOREVER, &c);

	rig_guest_detach(rig, c.pair);
	assert_true(end->finished);
	assert_int_equal(end->finish_len, 0);
	assert_int_equal(rig->detaches, 0);
	rig_expect_quiet(rig);
	expect_freed(rig);
}

/* The guest writes and closes at once: its pages are gone when the detach is done. */
static void test_s10_2_what_the_guest_wrote_last_is_kept(void **state)
{
	struct rig *rig = *state;
	struct rig_conn c;
	struct rig_end *end = connected(rig, RIG_FOREVER, &c);

	rig_write(&c, 3000);
	rig_guest_detach(rig, c.pair);
	assert_true(end->finished);
	assert_int_equal(end->finish_len, 3000);
	assert_int_equal(end->got, 3000);
	expect_freed(rig);
}

/* A slow end, a ring that went round, more spans than are asked for at once. */
static void test_s10_2_leftovers_of_a_large_ring(void **state)
{
	struct rig *rig = *state;
	struct rig_end *end = rig_end_new(rig, 200000);
	struct rig_conn c;

	rig_accept(rig, end, true, 262144, &c);
	rig_write(&c, 200000);
	rig_say(&c, PACKET_WROTE, 0);
	rig_run(rig);
	assert_int_equal(end->got, 200000);
	assert_int_equal(rig_write(&c, 262144), 262143);
	rig_say(&c, PACKET_WROTE, 0);
	rig_run(rig);
	rig_drain(rig);
	rig_guest_detach(rig, c.pair);
	assert_int_equal(end->finish_len, 262143);
	assert_int_equal(end->got, c.written);
}

/* What the program will never read is not kept for it. */
static void test_s10_2_leftovers_for_nobody(void **state)
{
	struct rig *rig = *state;
	struct rig_conn c;
	struct rig_end *end = connected(rig, 0, &c);

	end->send_error = -EPIPE;
	rig_write(&c, 100);
	rig_say(&c, PACKET_WROTE, 0);
	rig_run(rig);
	rig_drain(rig);
	rig_write(&c, 100);
	rig_guest_detach(rig, c.pair);
	assert_true(end->finished);
	assert_int_equal(end->finish_len, 0);
}

/* The VMM unmapped the guest's memory before the guest's end went. */
static void test_s10_2_leftovers_that_are_not_mapped(void **state)
{
	struct rig *rig = *state;

	for (int i = 0; i < 2; i++) {
		struct rig_conn c;
		struct rig_end *end = connected(rig, RIG_FOREVER, &c);

		rig_write(&c, 100);
		/* all of it, or just the data */
		for (size_t page = i ? 1 : 0; page < c.pair->pages.n; page += 1 + (size_t)i)
			c.pair->pages.unmapped[page] = true;
		rig_guest_detach(rig, c.pair);
		assert_true(end->finished);
		assert_int_equal(end->finish_len, 0);
		memset(c.pair->pages.unmapped, 0, c.pair->pages.n * sizeof(bool));
	}
}

static void test_s10_2_leftovers_behind_a_broken_position(void **state)
{
	struct rig *rig = *state;
	struct rig_conn c;
	struct rig_end *end = connected(rig, RIG_FOREVER, &c);

	rig_poke_tail(&c, RIG_SIZE);
	rig_guest_detach(rig, c.pair);
	assert_true(end->finished);
	assert_int_equal(end->finish_len, 0);
}

/* SHUTDOWN, then close: the end hears of the rest only once. */
static void test_s10_2_guest_shuts_down_and_closes(void **state)
{
	struct rig *rig = *state;
	struct rig_conn c;
	struct rig_end *end = connected(rig, 10, &c);

	rig_write(&c, 100);
	rig_say(&c, PACKET_WROTE, 0);
	rig_say(&c, PACKET_SHUTDOWN, VMCI_SHUTDOWN_SEND);
	rig_run(rig);
	rig_guest_detach(rig, c.pair);
	assert_int_equal(end->finish_len, 90);
	assert_int_equal(end->got, 100);
	assert_int_equal(end->told, 0);
}

static void test_s10_2_abort_of_a_connected_stream(void **state)
{
	struct rig *rig = *state;
	struct rig_conn c;
	struct rig_end *end = connected(rig, RIG_FOREVER, &c);

	rig_write(&c, 10);
	rig_say(&c, PACKET_WROTE, 0);	/* it has work */
	stream_abort(c.stream);
	assert_false(rig_end_is_over(end));
	assert_int_equal(end->sends, 0);
	assert_false(c.pair->host);
	assert_int_equal(rig->detaches, 1);
	rig_expect_quiet(rig);
	expect_freed(rig);
}

/* --- 10.4: RST ----------------------------------------------------------------------------- */

static void test_s10_4_rst_leaves_the_rest_readable(void **state)
{
	struct rig *rig = *state;
	struct rig_conn c;
	struct rig_end *end = connected(rig, 10, &c);

	rig_write(&c, 100);
	rig_say(&c, PACKET_WROTE, 0);
	rig_run(rig);
	rig_say(&c, PACKET_RST, 0);
	rig_run(rig);
	assert_int_equal(end->told, VMCI_SHUTDOWN_RECEIVE);
	end->room = RIG_FOREVER;
	end->avail = 50;
	stir(&c);
	assert_int_equal(end->got, 100);
	assert_int_equal(end->told, VMCI_SHUTDOWN_BOTH);
	assert_int_equal(end->put, 0);
	/* not answered, and not the end: that is a detach */
	rig_expect_quiet(rig);
	assert_int_equal(streams_count(rig->t), 1);
	end->recv_end = -ESHUTDOWN;
	stir(&c);
	assert_true(end->closed);
	rig_expect_quiet(rig);
	expect_freed(rig);
}

static void test_s10_4_rst_on_an_empty_ring(void **state)
{
	struct rig *rig = *state;

	for (unsigned qstate = 0; qstate < 2; qstate++) {
		struct rig_end *end = rig_end_new(rig, RIG_FOREVER);
		struct rig_conn c;

		rig_accept(rig, end, qstate, RIG_SIZE, &c);
		for (int i = 0; i < 3; i++) {
			rig_say(&c, PACKET_RST, 0);
			rig_run(rig);
			assert_int_equal(end->told, VMCI_SHUTDOWN_BOTH);
			rig_expect_quiet(rig);
		}
		rig_guest_detach(rig, c.pair);
		assert_true(end->finished);
	}
}

/* --- 10.5: the machine goes ---------------------------------------------------------------- */

static void test_s10_5_reset(void **state)
{
	struct rig *rig = *state;
	struct rig_end *pending = rig_end_new(rig, 0), *opening = rig_end_new(rig, 0);
	struct rig_end *requested = rig_end_new(rig, 0), *offered = rig_end_new(rig, 0), *end;
	struct rig_conn c;
	struct stream *s;

	end = connected(rig, 0, &c);
	rig_write(&c, 100);
	rig->next_end = pending;
	rig_packet(rig, PACKET_REQUEST2, 1, RIG_PORT, RIG_SIZE, 1);
	rig->open_result = -EINPROGRESS;
	rig->next_end = opening;
	rig_packet(rig, PACKET_REQUEST2, 2, RIG_PORT, RIG_SIZE, 1);
	assert_int_equal(streams_connect(rig->t, 80, RIG_HOST, VMCI_PORT_ANY, 0, requested, &s), 0);
	assert_int_equal(streams_connect(rig->t, 81, RIG_HOST, 9999, 0, offered, &s), 0);
	rig_packet(rig, PACKET_NEGOTIATE2, 81, 9999, RIG_SIZE, 1);
	assert_int_equal(streams_count(rig->t), 5);
	rig_drain(rig);

	streams_reset(rig->t);
	assert_true(end->finished);
	assert_int_equal(end->finish_len, 100);
	assert_true(pending->closed);
	assert_true(opening->closed);
	assert_true(requested->failed);
	assert_int_equal(requested->error, -ECONNRESET);
	assert_true(offered->failed);
	assert_int_equal(offered->error, -ECONNRESET);
	rig_expect_quiet(rig);
	expect_freed(rig);
	assert_int_equal(rig->detaches, 2);

	/* and everything begins anew */
	rig->open_result = 0;
	connected(rig, RIG_FOREVER, &c);
	assert_int_equal(streams_count(rig->t), 1);
}

/* The device was reset first: it has told of each pair that the guest had, and knows no handle any more. */
static void test_s10_5_reset_after_the_devices(void **state)
{
	struct rig *rig = *state;
	struct rig_end *offered = rig_end_new(rig, 0), *end;
	struct rig_conn c;
	struct stream *s;

	end = connected(rig, RIG_FOREVER, &c);
	assert_int_equal(streams_connect(rig->t, 81, RIG_HOST, 9999, 0, offered, &s), 0);
	rig_packet(rig, PACKET_NEGOTIATE2, 81, 9999, RIG_SIZE, 1);
	rig_drain(rig);
	rig_guest_detach(rig, c.pair);
	assert_true(end->finished);
	rig->reset = true;
	for (int i = 0; i < RIG_PAIRS; i++)
		rig->pair[i].host = false;
	streams_reset(rig->t);
	assert_int_equal(offered->error, -ECONNRESET);
	expect_freed(rig);
}

static void test_free_of_nothing(void **state)
{
	(void)state;
	assert_null(streams_free(NULL));
}

/* --- 7: a guest that breaks its ring ------------------------------------------------------- */

static void expect_reset(struct rig *rig, struct rig_conn *c)
{
	rig_expect_only(rig, PACKET_RST);
	assert_true(c->end->closed);
	assert_false(c->pair->host);
	expect_freed(rig);
}

static void test_s7_broken_tail_resets(void **state)
{
	static const uint64_t bad[] = { RIG_SIZE, RIG_SIZE + 1, 1ull << 32, UINT64_MAX };
	struct rig *rig = *state;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct rig_conn c;
		struct rig_end *end = connected(rig, RIG_FOREVER, &c);

		rig_poke_tail(&c, bad[i]);
		rig_say(&c, PACKET_WROTE, 0);
		rig_run(rig);
		expect_reset(rig, &c);
		assert_int_equal(end->got, 0);
	}
}

static void test_s7_broken_head_resets(void **state)
{
	static const uint64_t bad[] = { RIG_SIZE, RIG_SIZE + 1, 1ull << 32, UINT64_MAX };
	struct rig *rig = *state;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct rig_conn c;
		struct rig_end *end = connected(rig, RIG_FOREVER, &c);

		rig_poke_head(&c, bad[i]);
		end->avail = 100;
		stream_readable(c.stream);
		rig_run(rig);
		expect_reset(rig, &c);
		assert_int_equal(end->put, 0);
	}
}

/* The RST may be lost, the reset not. */
static void test_s7_broken_ring_while_the_queue_is_full(void **state)
{
	struct rig *rig = *state;
	struct rig_conn c;

	connected(rig, RIG_FOREVER, &c);
	rig_poke_tail(&c, UINT64_MAX);
	rig_say(&c, PACKET_WROTE, 0);
	rig->refuse = 1;
	rig_run(rig);
	assert_true(c.end->closed);
	rig_expect_quiet(rig);
	expect_freed(rig);
}

static void break_after_store(struct rig *rig, enum rig_when when)
{
	struct rig_conn *c = rig->hook_ctx;

	if (when == RIG_AFTER_STORE) {
		rig_poke_tail(c, UINT64_MAX);
		rig_poke_head(c, UINT64_MAX);
	}
}

/* The position breaks in the middle: between publishing ours and looking whether the guest is to be told. */
static void test_s7_ring_that_breaks_meanwhile(void **state)
{
	struct rig *rig = *state;

	for (unsigned v = 0; v < 4; v++) {
		struct rig_end *end = rig_end_new(rig, RIG_FOREVER);
		struct rig_conn c;

		rig_accept(rig, end, v & 1, RIG_SIZE, &c);
		rig->hook_ctx = &c;
		rig->hook = break_after_store;
		if (v & 2)
			end->avail = 100;
		else
			rig_write(&c, 100);
		rig_say(&c, PACKET_WROTE, 0);
		stir(&c);
		rig->hook = NULL;
		assert_true(end->closed);
		assert_int_equal(rig_drain(rig) & 1u << PACKET_RST, 1u << PACKET_RST);
		expect_freed(rig);
	}
}

static void test_s7_ring_that_breaks_while_hot(void **state)
{
	struct rig_options options = { .spin_ns = 100000 };
	struct rig *rig = rig_new(&options);
	struct rig_conn c;

	(void)state;
	connected(rig, RIG_FOREVER, &c);
	rig_write(&c, 10);
	rig_say(&c, PACKET_WROTE, 0);
	streams_run(rig->t);
	assert_true(streams_poll(rig->t));
	rig_poke_tail(&c, UINT64_MAX);
	rig_run(rig);
	expect_reset(rig, &c);
	rig_free(rig);
}

/* --- The same ports again ------------------------------------------------------------------ */

static void test_s6_8_ports_can_be_used_again_at_once(void **state)
{
	struct rig *rig = *state;
	struct rig_conn c;

	for (int i = 0; i < 5; i++) {
		struct rig_end *end = connected(rig, RIG_FOREVER, &c);

		rig_write(&c, 100);
		if (i % 2) {
			rig_guest_detach(rig, c.pair);
			assert_int_equal(end->finish_len, 100);
		} else {
			end->recv_end = -ESHUTDOWN;
			rig_say(&c, PACKET_WROTE, 0);
			stir(&c);
			assert_true(end->closed);
			c.pair->guest = false;
		}
		rig_drain(rig);
	}
	expect_freed(rig);
}

/* 9.4: a REQUEST from the ports of a stream that we still hold is not answered. */
static void test_s9_4_request_for_a_stream_that_lives(void **state)
{
	struct rig *rig = *state;
	struct rig_conn c;
	struct rig_end *end = connected(rig, RIG_FOREVER, &c);

	rig_packet(rig, PACKET_REQUEST2, RIG_PEER, RIG_PORT, RIG_SIZE, 1);
	rig_run(rig);
	rig_expect_quiet(rig);
	assert_int_equal(rig->opens, 1);
	assert_false(rig_end_is_over(end));
	rig_guest_detach(rig, c.pair);
	rig->next_end = rig_end_new(rig, 0);
	rig_packet(rig, PACKET_REQUEST2, RIG_PEER, RIG_PORT, RIG_SIZE, 1);
	assert_int_equal(rig->opens, 2);
	rig_expect_only(rig, PACKET_NEGOTIATE2);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_s6_8_ports_can_be_used_again_at_once),
		TEST(test_s7_broken_tail_resets),
		TEST(test_s7_broken_head_resets),
		TEST(test_s7_broken_ring_while_the_queue_is_full),
		TEST(test_s7_ring_that_breaks_meanwhile),
		cmocka_unit_test(test_s7_ring_that_breaks_while_hot),
		TEST(test_s9_4_request_for_a_stream_that_lives),
		TEST(test_s10_1_peer_stops_sending),
		TEST(test_s10_1_peer_stops_sending_with_nothing_left),
		TEST(test_s10_1_peer_stops_receiving),
		TEST(test_s10_1_peer_stops_both),
		TEST(test_s10_1_modes_that_mean_nothing),
		TEST(test_s10_1_we_stop_sending),
		TEST(test_s10_1_we_stop_sending_when_all_is_in_the_ring),
		TEST(test_s10_1_we_stop_receiving),
		TEST(test_s10_1_we_stop_both_one_after_the_other),
		TEST(test_s10_2_we_close_after_a_half_close),
		TEST(test_s10_2_we_close_after_the_peer_stopped_receiving),
		TEST(test_s10_2_we_close_without_a_packet),
		TEST(test_we_close_and_the_peer_reads_on),
		TEST(test_we_close_and_the_peer_never_reads),
		TEST(test_we_close_and_the_peer_answers),
		TEST(test_we_close_and_all_is_reset),
		TEST(test_s10_2_we_close_behind_a_full_ring),
		TEST(test_s10_2_guest_closes_with_nothing_left),
		TEST(test_s10_2_what_the_guest_wrote_last_is_kept),
		TEST(test_s10_2_leftovers_of_a_large_ring),
		TEST(test_s10_2_leftovers_for_nobody),
		TEST(test_s10_2_leftovers_that_are_not_mapped),
		TEST(test_s10_2_leftovers_behind_a_broken_position),
		TEST(test_s10_2_guest_shuts_down_and_closes),
		TEST(test_s10_2_abort_of_a_connected_stream),
		TEST(test_s10_4_rst_leaves_the_rest_readable),
		TEST(test_s10_4_rst_on_an_empty_ring),
		TEST(test_s10_5_reset),
		TEST(test_s10_5_reset_after_the_devices),
		cmocka_unit_test(test_free_of_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
