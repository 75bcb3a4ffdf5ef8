/* SPDX-License-Identifier: BSD-2-Clause */
/* We connect to the guest: transport reference, 6.3, 6.5, 6.6, 6.7, 6.8. */
#include <errno.h>

#include "stream_rig.h"

/* A connect to RIG_PEER from RIG_PORT: REQUEST2 is out. */
static struct rig_end *requested(struct rig *rig, struct stream **ret_stream)
{
	struct rig_end *end = rig_end_new(rig, 0);
	struct stream *s;

	assert_int_equal(streams_connect(rig->t, RIG_PEER, RIG_HOST, RIG_PORT, 0, end, &s), 0);
	rig_expect_only(rig, PACKET_REQUEST2);
	if (ret_stream)
		*ret_stream = s;
	return end;
}

static void answer(struct rig *rig, unsigned type, uint64_t arg, uint16_t proto)
{
	rig_packet(rig, type, RIG_PEER, RIG_PORT, arg, proto);
}

/* ... and OFFER is out, too. */
static struct rig_end *offered(struct rig *rig, struct vmci_handle *ret_handle, struct stream **ret_stream)
{
	struct rig_end *end = requested(rig, ret_stream);
	const struct packet *p;

	answer(rig, PACKET_NEGOTIATE2, RIG_SIZE, 1);
	p = rig_expect(rig, PACKET_OFFER);
	*ret_handle = packet_handle(p);
	rig_expect_quiet(rig);
	return end;
}

static void expect_failed(struct rig *rig, const struct rig_end *end, int error)
{
	assert_true(end->failed);
	assert_int_equal(end->error, error);
	assert_int_equal(streams_count(rig->t), 0);
	assert_int_equal(streams_deadline(rig->t), UINT64_MAX);
	for (int i = 0; i < RIG_PAIRS; i++)
		assert_false(rig->pair[i].host);
}

static void test_s6_3_connect_sends_request2(void **state)
{
	struct rig_options options = { .ring_size = 12345 };
	struct rig *rig = rig_new(&options);
	struct rig_end *end = rig_end_new(rig, 0);
	const struct packet *p;
	struct stream *s;

	(void)state;
	assert_int_equal(streams_connect(rig->t, 77, RIG_HOST, VMCI_PORT_ANY, 0, end, &s), 0);
	p = rig_next(rig);
	assert_non_null(p);
	assert_int_equal(p->type, PACKET_REQUEST2);
	assert_int_equal(p->arg, 12345);
	assert_int_equal(p->proto, VMCI_STREAM_PROTO_QSTATE);
	assert_int_equal(p->dst_port, 77);
	assert_true(p->src_port > VMCI_PORT_LAST_RESERVED && p->src_port != VMCI_PORT_ANY);
	assert_int_equal(p->src_port, stream_local_port(s));
	assert_int_equal(stream_peer_port(s), 77);
	rig_free(rig);
}

static void test_s6_2_legacy_table_sends_request(void **state)
{
	struct rig_options options = { .legacy = true, .ring_size = 200 };
	struct rig *rig = rig_new(&options);
	struct rig_end *end = rig_end_new(rig, 0);
	const struct packet *p;
	struct stream *s;

	(void)state;
	assert_int_equal(streams_connect(rig->t, RIG_PEER, RIG_HOST, RIG_PORT, 0, end, &s), 0);
	p = rig_expect(rig, PACKET_REQUEST);
	assert_int_equal(p->arg, 200);
	/* There is nothing to fall back to. */
	answer(rig, PACKET_INVALID, 0, 0);
	rig_expect_quiet(rig);
	answer(rig, PACKET_RST, 0, 0);
	expect_failed(rig, end, -ECONNRESET);
	rig_free(rig);
}

static void test_s6_3_local_ports_differ(void **state)
{
	struct rig *rig = *state;
	uint32_t ports[100];
	struct stream *s;

	for (int i = 0; i < 100; i++) {
		assert_int_equal(streams_connect(rig->t, 80, RIG_HOST, VMCI_PORT_ANY, 0, rig_end_new(rig, 0), &s), 0);
		ports[i] = stream_local_port(s);
		for (int k = 0; k < i; k++)
			assert_int_not_equal(ports[i], ports[k]);
	}
}

static void test_s6_3_address_in_use(void **state)
{
	struct rig *rig = *state;
	struct rig_end *end = requested(rig, NULL), *second = rig_end_new(rig, 0);
	struct stream *s;

	assert_int_equal(streams_connect(rig->t, RIG_PEER, RIG_HOST, RIG_PORT, 0, second, &s), -EADDRINUSE);
	rig_expect_quiet(rig);
	assert_false(rig_end_is_over(second));
	/* Another port of the guest is another address. */
	assert_int_equal(streams_connect(rig->t, RIG_PEER + 1, RIG_HOST, RIG_PORT, 0, second, &s), 0);
	assert_false(rig_end_is_over(end));
}

static void test_s6_1_negotiate2_offer_attach(void **state)
{
	struct rig *rig = *state;
	struct vmci_handle handle;
	struct rig_end *end = offered(rig, &handle, NULL);

	assert_int_equal(handle.context, RIG_HOST);
	assert_true(handle.resource > 1023);
	assert_int_equal(rig_pair_find(rig, handle)->size, RIG_SIZE);
	rig_guest_attach(rig, handle, RIG_SIZE);
	answer(rig, PACKET_ATTACH, packet_arg(handle), 0);
	assert_true(end->connected);
	assert_int_equal(streams_deadline(rig->t), UINT64_MAX);
	rig_run(rig);
	assert_true(end->recvs > 0);
	rig_expect_quiet(rig);
}

/* 6.3: a plain NEGOTIATE answers REQUEST2, too; then it is packet notification. */
static void test_s6_3_negotiate_after_request2(void **state)
{
	struct rig *rig = *state;
	struct rig_end *end = requested(rig, NULL);
	const struct packet *p;

	answer(rig, PACKET_NEGOTIATE, RIG_SIZE, 0);
	p = rig_expect(rig, PACKET_OFFER);
	rig_guest_attach(rig, packet_handle(p), RIG_SIZE);
	answer(rig, PACKET_ATTACH, p->arg, 0);
	assert_true(end->connected);
	rig_run(rig);
	rig_expect_only(rig, PACKET_WAITING_READ);
}

static void test_s6_5_size_within_limits(void **state)
{
	static const uint32_t sizes[] = { 128, 129, 5000, 262143, 262144 };
	struct rig *rig = *state;

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct rig_end *end = requested(rig, NULL);
		const struct packet *p;

		answer(rig, PACKET_NEGOTIATE2, sizes[i], 1);
		p = rig_expect(rig, PACKET_OFFER);
		assert_int_equal(rig_pair_find(rig, packet_handle(p))->size, sizes[i]);
		answer(rig, PACKET_RST, 0, 0);
		expect_failed(rig, end, -ECONNRESET);
	}
}

static void test_s6_5_size_out_of_limits_is_rst(void **state)
{
	static const uint64_t sizes[] = { 1, 127, 262145, 1ull << 32, (1ull << 32) + 4096, UINT64_MAX };
	struct rig *rig = *state;

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct rig_end *end = requested(rig, NULL);

		answer(rig, i % 2 ? PACKET_NEGOTIATE2 : PACKET_NEGOTIATE, sizes[i], i % 2);
		rig_expect_only(rig, PACKET_RST);
		expect_failed(rig, end, -EINVAL);
	}
}

static void test_s6_3_zero_size_is_rst(void **state)
{
	struct rig *rig = *state;

	for (unsigned i = 0; i < 2; i++) {
		struct rig_end *end = requested(rig, NULL);

		answer(rig, i ? PACKET_NEGOTIATE2 : PACKET_NEGOTIATE, 0, (uint16_t)i);
		rig_expect_only(rig, PACKET_RST);
		expect_failed(rig, end, -EPROTO);
	}
}

static void test_s6_5_protocol_that_was_not_offered_is_rst(void **state)
{
	static const uint16_t protocols[] = { 0, 2, 3, 0x8000, 0xffff };
	struct rig *rig = *state;

	for (size_t i = 0; i < sizeof(protocols) / sizeof(protocols[0]); i++) {
		struct rig_end *end = requested(rig, NULL);

		answer(rig, PACKET_NEGOTIATE2, RIG_SIZE, protocols[i]);
		rig_expect_only(rig, PACKET_RST);
		expect_failed(rig, end, -EINVAL);
	}
}

static void test_s6_3_second_negotiate_is_rst(void **state)
{
	struct rig *rig = *state;
	struct vmci_handle handle;
	struct rig_end *end = offered(rig, &handle, NULL);

	answer(rig, PACKET_NEGOTIATE2, RIG_SIZE, 1);
	rig_expect_only(rig, PACKET_RST);
	expect_failed(rig, end, -EPROTO);
	assert_int_equal(rig->detaches, 1);
}

static void test_s6_3_attach_of_another_handle_is_rst(void **state)
{
	struct rig *rig = *state;

	for (int i = 0; i < 3; i++) {
		struct vmci_handle handle;
		struct rig_end *end = offered(rig, &handle, NULL);

		/* It did attach: only what it says is wrong. */
		rig_guest_attach(rig, handle, RIG_SIZE);
		if (i == 0)
			handle = handle_make(VMCI_INVALID_ID, VMCI_INVALID_ID);
		else if (i == 1)
			handle.resource++;
		else
			handle.context++;
		answer(rig, PACKET_ATTACH, packet_arg(handle), 0);
		rig_expect_only(rig, PACKET_RST);
		expect_failed(rig, end, -EPROTO);
		for (int k = 0; k < RIG_PAIRS; k++)
			rig->pair[k].guest = false;
	}
}

static void test_s6_3_attach_before_the_offer_is_rst(void **state)
{
	struct rig *rig = *state;
	struct rig_end *end = requested(rig, NULL);

	answer(rig, PACKET_ATTACH, 0, 0);
	rig_expect_only(rig, PACKET_RST);
	expect_failed(rig, end, -EPROTO);
}

/* 6.7: there is no memory before the guest attached, whatever it says. */
static void test_s6_7_attach_without_attaching_is_rst(void **state)
{
	struct rig *rig = *state;
	struct vmci_handle handle;
	struct rig_end *end = offered(rig, &handle, NULL);

	answer(rig, PACKET_ATTACH, packet_arg(handle), 0);
	rig_expect_only(rig, PACKET_RST);
	expect_failed(rig, end, -EPROTO);
}

/* 6.7: nothing is written before ATTACH, though the guest has attached and the program has data. */
static void test_s6_7_rings_are_not_touched_before_attach(void **state)
{
	struct rig *rig = *state;
	struct vmci_handle handle;
	struct stream *s;
	struct rig_end *end = offered(rig, &handle, &s);

	rig_guest_attach(rig, handle, RIG_SIZE);
	end->avail = 100;
	stream_readable(s);
	stream_writable(s);
	rig_run(rig);
	assert_int_equal(rig->loads + rig->stores, 0);
	answer(rig, PACKET_ATTACH, packet_arg(handle), 0);
	rig_run(rig);
	assert_int_equal(end->put, 100);
	rig_expect_only(rig, PACKET_WROTE);
}

static void test_s6_3_anything_else_is_rst(void **state)
{
	struct rig *rig = *state;

	for (unsigned type = 0; type < PACKET_NUM; type++) {
		struct vmci_handle handle;
		struct rig_end *end;

		if (type == PACKET_NEGOTIATE || type == PACKET_NEGOTIATE2 || type == PACKET_ATTACH ||
		    type == PACKET_INVALID || type == PACKET_RST)
			continue;
		end = requested(rig, NULL);
		answer(rig, type, RIG_SIZE, 0);
		rig_expect_only(rig, PACKET_RST);
		expect_failed(rig, end, -EPROTO);

		end = offered(rig, &handle, NULL);
		answer(rig, type, RIG_SIZE, 0);
		rig_expect_only(rig, PACKET_RST);
		expect_failed(rig, end, -EPROTO);
	}
}

static void test_s6_3_rst_is_connection_reset(void **state)
{
	struct rig *rig = *state;
	struct vmci_handle handle;
	struct rig_end *end = requested(rig, NULL);

	answer(rig, PACKET_RST, 0, 0);
	rig_expect_quiet(rig);
	expect_failed(rig, end, -ECONNRESET);

	end = offered(rig, &handle, NULL);
	answer(rig, PACKET_RST, 0, 0);
	rig_expect_quiet(rig);
	expect_failed(rig, end, -ECONNRESET);
	assert_int_equal(rig->detaches, 1);
}

static void test_s6_6_invalid_falls_back_to_request(void **state)
{
	struct rig *rig = *state;
	struct rig_end *end = requested(rig, NULL);
	const struct packet *p;

	answer(rig, PACKET_INVALID, 0, 0);
	p = rig_expect(rig, PACKET_REQUEST);
	assert_int_equal(p->arg, LIMIT_RING_LEGACY);
	rig_expect_quiet(rig);
	answer(rig, PACKET_NEGOTIATE, LIMIT_RING_LEGACY, 0);
	p = rig_expect(rig, PACKET_OFFER);
	rig_guest_attach(rig, packet_handle(p), LIMIT_RING_LEGACY);
	answer(rig, PACKET_ATTACH, p->arg, 0);
	assert_true(end->connected);
}

static void test_s6_6_fall_back_with_a_small_ring(void **state)
{
	struct rig_options options = { .ring_size = 1000 };
	struct rig *rig = rig_new(&options);
	const struct packet *p;

	(void)state;
	requested(rig, NULL);
	answer(rig, PACKET_INVALID, 0, 0);
	p = rig_expect(rig, PACKET_REQUEST);
	assert_int_equal(p->arg, 1000);
	rig_free(rig);
}

static void test_s6_3_second_invalid_is_ignored(void **state)
{
	struct rig *rig = *state;
	struct rig_end *end = requested(rig, NULL);

	answer(rig, PACKET_INVALID, 0, 0);
	rig_expect_only(rig, PACKET_REQUEST);
	answer(rig, PACKET_INVALID, 0, 0);
	rig_expect_quiet(rig);
	assert_false(rig_end_is_over(end));
}

static void test_s6_3_invalid_after_the_offer_is_ignored(void **state)
{
	struct rig *rig = *state;
	struct vmci_handle handle;
	struct rig_end *end = offered(rig, &handle, NULL);

	answer(rig, PACKET_INVALID, 0, 0);
	rig_expect_quiet(rig);
	assert_false(rig_end_is_over(end));
}

static void test_s6_6_one_rst_after_invalid_is_ignored(void **state)
{
	struct rig *rig = *state;
	struct rig_end *end = requested(rig, NULL);

	answer(rig, PACKET_INVALID, 0, 0);
	rig_expect_only(rig, PACKET_REQUEST);
	answer(rig, PACKET_RST, 0, 0);
	rig_expect_quiet(rig);
	assert_false(rig_end_is_over(end));
	answer(rig, PACKET_RST, 0, 0);
	rig_expect_quiet(rig);
	expect_failed(rig, end, -ECONNRESET);
}

static void test_s6_3_negotiate_ends_the_indulgence(void **state)
{
	struct rig *rig = *state;
	struct rig_end *end = requested(rig, NULL);

	answer(rig, PACKET_INVALID, 0, 0);
	rig_expect_only(rig, PACKET_REQUEST);
	answer(rig, PACKET_NEGOTIATE, LIMIT_RING_LEGACY, 0);
	rig_expect_only(rig, PACKET_OFFER);
	answer(rig, PACKET_RST, 0, 0);
	expect_failed(rig, end, -ECONNRESET);
}

static void test_s6_8_request_that_cannot_be_sent(void **state)
{
	struct rig *rig = *state;
	struct rig_end *end = rig_end_new(rig, 0);
	struct stream *s;

	rig->refuse = 1;
	assert_int_equal(streams_connect(rig->t, RIG_PEER, RIG_HOST, VMCI_PORT_ANY, 0, end, &s), -ENOBUFS);
	rig->refuse = 1;
	rig->refuse_with = VMCI_ERROR_DST_UNREACHABLE;
	assert_int_equal(streams_connect(rig->t, RIG_PEER, RIG_HOST, VMCI_PORT_ANY, 0, end, &s), -EHOSTUNREACH);
	assert_int_equal(streams_count(rig->t), 0);
	assert_int_equal(streams_deadline(rig->t), UINT64_MAX);
	assert_false(rig_end_is_over(end));
}

static void test_s6_8_offer_that_cannot_be_sent(void **state)
{
	struct rig *rig = *state;
	struct rig_end *end = requested(rig, NULL);

	rig->refuse = 1;
	answer(rig, PACKET_NEGOTIATE2, RIG_SIZE, 1);
	rig_expect_quiet(rig);
	expect_failed(rig, end, -ENOBUFS);
	assert_int_equal(rig->detaches, 1);
}

static void test_s6_8_fall_back_that_cannot_be_sent(void **state)
{
	struct rig *rig = *state;
	struct rig_end *end = requested(rig, NULL);

	rig->refuse = 1;
	answer(rig, PACKET_INVALID, 0, 0);
	expect_failed(rig, end, -ENOBUFS);
}

static void test_s6_7_no_queue_pair_to_be_had(void **state)
{
	static const struct {
		int32_t result;
		int error;
	} cases[] = {
		{ VMCI_ERROR_NO_RESOURCES, -ENOBUFS },
		{ VMCI_ERROR_NO_MEM, -ENOMEM },
	};
	struct rig *rig = *state;

	for (int i = 0; i < 2; i++) {
		struct rig_end *end = requested(rig, NULL);

		rig->create_result = cases[i].result;
		answer(rig, PACKET_NEGOTIATE2, RIG_SIZE, 1);
		rig_expect_only(rig, PACKET_RST);
		expect_failed(rig, end, cases[i].error);
	}
	assert_int_equal(rig->detaches, 0);
}

static void test_s6_3_two_seconds_of_patience(void **state)
{
	struct rig *rig = *state;
	struct vmci_handle handle;
	uint64_t start = rig->now;
	struct rig_end *end = requested(rig, NULL);

	assert_int_equal(streams_deadline(rig->t), start + 2000000000);
	rig->now = start + 1999999999;
	rig_run(rig);
	assert_false(end->failed);
	rig->now = start + 2000000000;
	rig_run(rig);
	expect_failed(rig, end, -ETIMEDOUT);
	rig_expect_quiet(rig);

	/* The whole handshake has that time, not each of its steps. */
	start = rig->now;
	end = requested(rig, NULL);
	rig->now = start + 1999999999;
	answer(rig, PACKET_NEGOTIATE2, RIG_SIZE, 1);
	rig_expect(rig, PACKET_OFFER);
	assert_int_equal(streams_deadline(rig->t), start + 2000000000);
	rig->now = start + 2000000000;
	rig_run(rig);
	expect_failed(rig, end, -ETIMEDOUT);
	rig_expect_quiet(rig);

	end = offered(rig, &handle, NULL);
	rig_guest_attach(rig, handle, RIG_SIZE);
	rig->now += 3000000000;
	rig_run(rig);
	expect_failed(rig, end, -ETIMEDOUT);
}

static void test_s6_8_time_limits_of_ones_own(void **state)
{
	struct rig *rig = *state;
	struct rig_end *end[4];
	static const uint64_t timeouts[] = { 5000, UINT64_MAX, 3000, 4000 };
	uint64_t start = rig->now;
	struct stream *s;

	for (int i = 0; i < 4; i++) {
		end[i] = rig_end_new(rig, 0);
		assert_int_equal(streams_connect(rig->t, RIG_PEER, RIG_HOST, VMCI_PORT_ANY, timeouts[i], end[i], &s),
				 0);
	}
	assert_int_equal(streams_deadline(rig->t), start + 3000);
	rig->now = start + 3000;
	rig_run(rig);
	assert_true(end[2]->failed);
	assert_int_equal(streams_deadline(rig->t), start + 4000);
	rig->now = start + 4999;
	rig_run(rig);
	assert_true(end[3]->failed);
	assert_false(end[0]->failed);
	rig->now = start + 5000;
	rig_run(rig);
	assert_true(end[0]->failed);
	/* none: it waits for ever */
	assert_int_equal(streams_deadline(rig->t), UINT64_MAX);
	rig->now += 1000 * LIMIT_CONNECT_NS;
	rig_run(rig);
	assert_false(end[1]->failed);
	rig_drain(rig);
}

/* The guest attached, and went away again before it said so. */
static void test_s6_3_peer_gone_while_connecting(void **state)
{
	struct rig *rig = *state;
	struct vmci_handle handle;
	struct rig_end *end = offered(rig, &handle, NULL);
	struct rig_pair *pair = rig_guest_attach(rig, handle, RIG_SIZE);

	rig_guest_detach(rig, pair);
	rig_expect_quiet(rig);
	expect_failed(rig, end, -ECONNRESET);
	/* Our end went with the guest's. */
	assert_int_equal(rig->detaches, 0);
}

static void test_s6_3_simultaneous_open_is_rst(void **state)
{
	struct rig *rig = *state;
	struct rig_end *end = requested(rig, NULL);

	answer(rig, PACKET_REQUEST2, RIG_SIZE, 1);
	rig_expect_only(rig, PACKET_RST);
	expect_failed(rig, end, -EPROTO);
	assert_int_equal(rig->opens, 0);
}

/* 6.3: replies must come from the address that we asked. */
static void test_s6_3_answers_from_elsewhere(void **state)
{
	struct rig *rig = *state;
	struct rig_end *end = requested(rig, NULL);

	rig_packet(rig, PACKET_NEGOTIATE2, RIG_PEER + 1, RIG_PORT, RIG_SIZE, 1);
	rig_expect_ports(rig, PACKET_RST, RIG_PORT, RIG_PEER + 1);
	rig_packet(rig, PACKET_NEGOTIATE2, RIG_PEER, RIG_PORT + 1, RIG_SIZE, 1);
	rig_expect_ports(rig, PACKET_RST, RIG_PORT + 1, RIG_PEER);
	assert_false(rig_end_is_over(end));
	answer(rig, PACKET_NEGOTIATE2, RIG_SIZE, 1);
	rig_expect_only(rig, PACKET_OFFER);
}

static void test_abort_while_connecting_is_rst(void **state)
{
	struct rig *rig = *state;
	struct vmci_handle handle;
	struct stream *s;
	struct rig_end *end = requested(rig, &s);

	stream_abort(s);
	rig_expect_only(rig, PACKET_RST);
	assert_false(rig_end_is_over(end));
	assert_int_equal(streams_count(rig->t), 0);

	end = offered(rig, &handle, &s);
	stream_abort(s);
	rig_expect_only(rig, PACKET_RST);
	assert_false(rig_end_is_over(end));
	assert_int_equal(streams_count(rig->t), 0);
	assert_int_equal(streams_deadline(rig->t), UINT64_MAX);
	assert_int_equal(rig->detaches, 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_s6_1_negotiate2_offer_attach),
		TEST(test_s6_2_legacy_table_sends_request),
		TEST(test_s6_3_connect_sends_request2),
		TEST(test_s6_3_local_ports_differ),
		TEST(test_s6_3_address_in_use),
		TEST(test_s6_3_negotiate_after_request2),
		TEST(test_s6_3_zero_size_is_rst),
		TEST(test_s6_3_second_negotiate_is_rst),
		TEST(test_s6_3_attach_of_another_handle_is_rst),
		TEST(test_s6_3_attach_before_the_offer_is_rst),
		TEST(test_s6_3_anything_else_is_rst),
		TEST(test_s6_3_rst_is_connection_reset),
		TEST(test_s6_3_second_invalid_is_ignored),
		TEST(test_s6_3_invalid_after_the_offer_is_ignored),
		TEST(test_s6_3_negotiate_ends_the_indulgence),
		TEST(test_s6_3_two_seconds_of_patience),
		TEST(test_s6_3_peer_gone_while_connecting),
		TEST(test_s6_3_simultaneous_open_is_rst),
		TEST(test_s6_3_answers_from_elsewhere),
		TEST(test_s6_5_size_within_limits),
		TEST(test_s6_5_size_out_of_limits_is_rst),
		TEST(test_s6_5_protocol_that_was_not_offered_is_rst),
		TEST(test_s6_6_invalid_falls_back_to_request),
		TEST(test_s6_6_fall_back_with_a_small_ring),
		TEST(test_s6_6_one_rst_after_invalid_is_ignored),
		TEST(test_s6_7_attach_without_attaching_is_rst),
		TEST(test_s6_7_rings_are_not_touched_before_attach),
		TEST(test_s6_7_no_queue_pair_to_be_had),
		TEST(test_s6_8_request_that_cannot_be_sent),
		TEST(test_s6_8_offer_that_cannot_be_sent),
		TEST(test_s6_8_fall_back_that_cannot_be_sent),
		TEST(test_s6_8_time_limits_of_ones_own),
		TEST(test_abort_while_connecting_is_rst),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
