/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Which stream a packet belongs to, and what happens to those that belong to none: transport
 * reference, 2.3, 3.3, 4.
 */
#include <errno.h>
#include <string.h>

#include "stream_rig.h"

static void build(uint8_t *buf, struct vmci_handle dst, struct vmci_handle src, unsigned type)
{
	struct packet p = {
		.dst = dst,
		.src = src,
		.type = type,
		.proto = type == PACKET_REQUEST2,
		.src_port = RIG_PEER,
		.dst_port = RIG_PORT,
		.arg = RIG_SIZE,
	};

	packet_build(&p, buf);
}

static void test_s2_3_result_is_the_size(void **state)
{
	struct rig *rig = *state;
	uint8_t buf[VMCI_STREAM_PACKET_SIZE + 8] = { 0 };

	build(buf, handle_make(RIG_HOST, VMCI_RID_STREAM), handle_make(RIG_GUEST, VMCI_RID_STREAM),
	      PACKET_WROTE);
	assert_int_equal(streams_packet(rig->t, buf, VMCI_STREAM_PACKET_SIZE), VMCI_STREAM_PACKET_SIZE);
	/* 3.3: longer ones are accepted. */
	assert_int_equal(streams_packet(rig->t, buf, sizeof(buf)), sizeof(buf));
	rig_expect(rig, PACKET_RST);
	rig_expect(rig, PACKET_RST);
	rig_expect_quiet(rig);
}

static void test_s3_3_short_packets_are_dropped(void **state)
{
	struct rig *rig = *state;
	uint8_t buf[VMCI_STREAM_PACKET_SIZE];

	build(buf, handle_make(RIG_HOST, VMCI_RID_STREAM), handle_make(RIG_GUEST, VMCI_RID_STREAM),
	      PACKET_REQUEST2);
	for (size_t size = 0; size < sizeof(buf); size++)
		assert_int_equal(streams_packet(rig->t, buf, size), VMCI_ERROR_INVALID_ARGS);
	assert_int_equal(streams_count(rig->t), 0);
	rig_expect_quiet(rig);
}

static void test_s3_3_only_the_control_channel_may_send(void **state)
{
	static const struct vmci_handle src[] = {
		{ RIG_GUEST, 0 },
		{ RIG_GUEST, 2 },
		{ RIG_GUEST, 15 },
		{ RIG_GUEST, VMCI_INVALID_ID },
		{ RIG_GUEST + 1, VMCI_RID_STREAM },
		{ 0, 15 },
		{ 1, VMCI_RID_STREAM },
		{ VMCI_INVALID_ID, VMCI_RID_STREAM },
	};
	struct rig *rig = *state;
	uint8_t buf[VMCI_STREAM_PACKET_SIZE];

	for (size_t i = 0; i < sizeof(src) / sizeof(src[0]); i++) {
		build(buf, handle_make(RIG_HOST, VMCI_RID_STREAM), src[i], PACKET_REQUEST2);
		assert_int_equal(streams_packet(rig->t, buf, sizeof(buf)), VMCI_ERROR_NO_ACCESS);
	}
	assert_int_equal(rig->opens, 0);
	rig_expect_quiet(rig);
}

static void test_s4_no_stream_is_rst(void **state)
{
	struct rig *rig = *state;

	for (unsigned type = 0; type < 256; type++) {
		if (type == PACKET_REQUEST || type == PACKET_REQUEST2 || type == PACKET_RST)
			continue;
		assert_int_equal(rig_packet(rig, type, 77, 88, RIG_SIZE, 0), VMCI_STREAM_PACKET_SIZE);
		rig_expect_ports(rig, PACKET_RST, 88, 77);
		rig_expect_quiet(rig);
	}
	assert_int_equal(streams_count(rig->t), 0);
}

static void test_s4_rst_without_stream_is_dropped(void **state)
{
	struct rig *rig = *state;

	assert_int_equal(rig_packet(rig, PACKET_RST, 77, 88, 0, 0), VMCI_STREAM_PACKET_SIZE);
	rig_expect_quiet(rig);
}

/* If the guest's queue is full, the RST is lost, and that is all. */
static void test_s4_rst_that_cannot_be_sent(void **state)
{
	struct rig *rig = *state;

	rig->refuse = 1;
	assert_int_equal(rig_packet(rig, PACKET_WROTE, 77, 88, 0, 0), VMCI_STREAM_PACKET_SIZE);
	assert_int_equal(rig->refused, 1);
	assert_int_equal(streams_deadline(rig->t), UINT64_MAX);
}

/* Both ports name a stream: neither alone does. */
static void test_s4_streams_differ_by_either_port(void **state)
{
	static const uint32_t peer[] = { 1024, 1025, 1024 }, local[] = { 5000, 5000, 5001 };
	struct rig *rig = *state;
	struct rig_end *end[3];
	struct rig_conn c[3];

	for (int i = 0; i < 3; i++) {
		rig->guest_port = peer[i];
		rig->host_port = local[i];
		end[i] = rig_end_new(rig, RIG_FOREVER);
		rig_accept(rig, end[i], true, RIG_SIZE, &c[i]);
		assert_int_equal(stream_local_port(c[i].stream), local[i]);
		assert_int_equal(stream_peer_port(c[i].stream), peer[i]);
	}
	assert_int_equal(streams_count(rig->t), 3);
	for (unsigned i = 0; i < 3; i++) {
		rig_write(&c[i], 10 + i);
		rig_say(&c[i], PACKET_WROTE, 0);
		rig_run(rig);
		for (unsigned k = 0; k < 3; k++)
			assert_int_equal(end[k]->got, k <= i ? 10 + k : 0);
	}
	/* The fourth combination does not exist. */
	rig_packet(rig, PACKET_WROTE, 1025, 5001, 0, 0);
	rig_expect_ports(rig, PACKET_RST, 5001, 1025);
}

/* Nor do both: the peer says which context it means. */
static void test_s4_streams_differ_by_context(void **state)
{
	static const uint32_t cid[] = { RIG_HOST, 77, 78 };
	struct rig *rig = *state;
	struct rig_end *end[6];
	struct rig_conn c[6];

	for (unsigned i = 0; i < 6; i++) {
		end[i] = rig_end_new(rig, RIG_FOREVER);
		rig->local_cid = cid[i % 3];
		rig->host_port = i < 3 ? 5000 : 6000;
		rig->guest_port = 1024;
		if (i < 3)
			rig_accept(rig, end[i], true, RIG_SIZE, &c[i]);
		else
			rig_connect(rig, end[i], true, RIG_SIZE, &c[i]);
		assert_int_equal(rig->pair_cid, rig->local_cid);
		assert_int_equal(stream_local_cid(c[i].stream), rig->local_cid);
		if (i < 3)
			assert_int_equal(rig->open_cid, rig->local_cid);
	}
	assert_int_equal(streams_count(rig->t), 6);
	for (unsigned i = 0; i < 6; i++) {
		rig->local_cid = cid[i % 3];
		rig_write(&c[i], 10 + i);
		rig_say(&c[i], PACKET_WROTE, 0);
		rig_run(rig);
		for (unsigned k = 0; k < 6; k++)
			assert_int_equal(end[k]->got, k <= i ? 10 + k : 0);
		rig_drain(rig);
	}
	/* A fourth context has none of them. */
	rig->local_cid = 79;
	rig_packet(rig, PACKET_WROTE, 1024, 5000, 0, 0);
	rig_expect_ports(rig, PACKET_RST, 5000, 1024);
	for (unsigned i = 0; i < 6; i++) {
		rig->local_cid = cid[i % 3];
		rig_guest_detach(rig, c[i].pair);
	}
}

/* 2.2, 13: a context that is not there, and one that the peer has no right to, are the result of the packet. */
static void test_s2_2_unreachable_and_forbidden(void **state)
{
	struct rig *rig = *state;

	rig->local_cid = 77;
	rig->open_result = -EHOSTUNREACH;
	assert_int_equal(rig_packet(rig, PACKET_REQUEST2, RIG_PEER, RIG_PORT, RIG_SIZE, 1), VMCI_ERROR_DST_UNREACHABLE);
	rig->open_result = -EPERM;
	assert_int_equal(rig_packet(rig, PACKET_REQUEST, RIG_PEER, RIG_PORT, RIG_SIZE, 0), VMCI_ERROR_NO_ACCESS);
	rig_expect_quiet(rig);
	assert_int_equal(rig->opens, 2);
	assert_int_equal(streams_count(rig->t), 0);
}

static void test_s4_unknown_type_is_invalid(void **state)
{
	struct rig *rig = *state;
	struct rig_end *end = rig_end_new(rig, RIG_FOREVER);
	struct rig_conn c;

	rig_accept(rig, end, true, RIG_SIZE, &c);
	for (unsigned type = PACKET_NUM; type < 256; type++) {
		rig_say(&c, type, 3);
		rig_expect(rig, PACKET_INVALID);
		rig_expect_quiet(rig);
	}
	/* and the stream goes on */
	rig_write(&c, 5);
	rig_say(&c, PACKET_WROTE, 0);
	rig_run(rig);
	assert_int_equal(end->got, 5);
}

static void test_s4_unknown_type_in_a_handshake(void **state)
{
	struct rig *rig = *state;
	struct rig_end *server = rig_end_new(rig, 0), *client = rig_end_new(rig, 0);
	struct stream *s;

	rig->next_end = server;
	rig_packet(rig, PACKET_REQUEST2, RIG_PEER, RIG_PORT, RIG_SIZE, 1);
	rig_expect_only(rig, PACKET_NEGOTIATE2);
	rig_packet(rig, 13, RIG_PEER, RIG_PORT, 0, 0);
	rig_expect_only(rig, PACKET_INVALID);
	assert_int_equal(streams_connect(rig->t, 80, RIG_HOST, 9000, 0, client, &s), 0);
	rig_expect_ports(rig, PACKET_REQUEST2, 9000, 80);
	rig_packet(rig, 255, 80, 9000, 0, 0);
	rig_expect_ports(rig, PACKET_INVALID, 9000, 80);
	rig_expect_quiet(rig);
	assert_false(rig_end_is_over(server));
	assert_false(rig_end_is_over(client));
}

/* 3.4: no packet of ours may carry port 0xffffffff, so nobody can be connected there. */
static void test_s3_4_port_any_is_no_port(void **state)
{
	struct rig *rig = *state;
	struct rig_end *end = rig_end_new(rig, 0);
	struct stream *s;

	rig->next_end = end;
	rig_packet(rig, PACKET_REQUEST2, RIG_PEER, VMCI_PORT_ANY, RIG_SIZE, 1);
	rig_expect_ports(rig, PACKET_RST, VMCI_PORT_ANY, RIG_PEER);
	rig_packet(rig, PACKET_REQUEST, VMCI_PORT_ANY, RIG_PORT, RIG_SIZE, 0);
	rig_expect_ports(rig, PACKET_RST, RIG_PORT, VMCI_PORT_ANY);
	assert_int_equal(rig->opens, 0);
	assert_int_equal(streams_connect(rig->t, VMCI_PORT_ANY, RIG_HOST, VMCI_PORT_ANY, 0, end, &s), -EINVAL);
	assert_int_equal(streams_count(rig->t), 0);
	rig_expect_quiet(rig);
}

/* Stream ports are numbers like any other: 0 and the greatest. */
static void test_s12_first_and_last_port(void **state)
{
	static const uint32_t ports[] = { 0, VMCI_PORT_ANY - 1 };
	struct rig *rig = *state;

	for (int i = 0; i < 2; i++) {
		struct rig_end *end = rig_end_new(rig, RIG_FOREVER);
		struct rig_conn c;

		rig->host_port = ports[i];
		rig->guest_port = ports[!i];
		rig_accept(rig, end, true, RIG_SIZE, &c);
		assert_int_equal(rig->open_local, ports[i]);
		assert_int_equal(rig->open_peer, ports[!i]);
		rig_write(&c, 9);
		rig_say(&c, PACKET_WROTE, 0);
		rig_run(rig);
		assert_int_equal(end->got, 9);
		rig_guest_detach(rig, c.pair);
	}
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_s2_3_result_is_the_size),
		TEST(test_s3_3_short_packets_are_dropped),
		TEST(test_s3_3_only_the_control_channel_may_send),
		TEST(test_s3_4_port_any_is_no_port),
		TEST(test_s4_no_stream_is_rst),
		TEST(test_s4_rst_without_stream_is_dropped),
		TEST(test_s4_rst_that_cannot_be_sent),
		TEST(test_s4_streams_differ_by_either_port),
		TEST(test_s4_streams_differ_by_context),
		TEST(test_s2_2_unreachable_and_forbidden),
		TEST(test_s4_unknown_type_is_invalid),
		TEST(test_s4_unknown_type_in_a_handshake),
		TEST(test_s12_first_and_last_port),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
