/* SPDX-License-Identifier: BSD-2-Clause */
/* The control packet: transport reference, 3. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "proto/packet.h"

/* {2,1} <- {20,1}, NEGOTIATE2, ports 0x01020304 -> 0x0a0b0c0d, size 0x40000, protocol 1 */
static const uint8_t example[VMCI_STREAM_PACKET_SIZE] = {
	2,    0,    0,	  0,	1, 0, 0, 0, /* destination */
	20,   0,    0,	  0,	1, 0, 0, 0, /* source */
	32,   0,    0,	  0,	0, 0, 0, 0, /* payload size */
	1,    12,   1,	  0,		    /* version, type, protocol */
	0x04, 0x03, 0x02, 0x01,		    /* source port */
	0x0d, 0x0c, 0x0b, 0x0a,		    /* destination port */
	0,    0,    0,	  0,		    /* reserved */
	0,    0,    4,	  0,	0, 0, 0, 0, /* size */
	0,    0,    0,	  0,	0, 0, 0, 0,
};

static const struct packet example_packet = {
	.dst = { 2, 1 },
	.src = { 20, 1 },
	.type = PACKET_NEGOTIATE2,
	.proto = 1,
	.src_port = 0x01020304,
	.dst_port = 0x0a0b0c0d,
	.arg = 0x40000,
};

static void test_s3_1_layout_when_built(void **state)
{
	uint8_t buf[VMCI_STREAM_PACKET_SIZE];

	(void)state;
	packet_build(&example_packet, buf);
	assert_memory_equal(buf, example, sizeof(buf));
}

static void test_s3_1_layout_when_parsed(void **state)
{
	struct packet p;

	(void)state;
	assert_int_equal(packet_parse(example, sizeof(example), &p), 0);
	assert_true(handle_is_equal(p.dst, example_packet.dst));
	assert_true(handle_is_equal(p.src, example_packet.src));
	assert_int_equal(p.type, PACKET_NEGOTIATE2);
	assert_int_equal(p.proto, 1);
	assert_int_equal(p.src_port, 0x01020304);
	assert_int_equal(p.dst_port, 0x0a0b0c0d);
	assert_int_equal(p.arg, 0x40000);
	assert_int_equal(p.offset, 0);
}

static void test_s3_1_wait_info(void **state)
{
	struct packet p = { .type = PACKET_WAITING_READ,
			    .arg = 0x1122334455667788,
			    .offset = 0x99aabbccddeeff00 };
	uint8_t buf[VMCI_STREAM_PACKET_SIZE];
	struct packet q;

	(void)state;
	packet_build(&p, buf);
	assert_int_equal(get_le64(buf + 40), 0x1122334455667788);
	assert_int_equal(get_le64(buf + 48), 0x99aabbccddeeff00);
	assert_int_equal(packet_parse(buf, sizeof(buf), &q), 0);
	assert_int_equal(q.arg, p.arg);
	assert_int_equal(q.offset, p.offset);
}

static void test_s3_1_handle_argument(void **state)
{
	struct packet p = { .type = PACKET_OFFER, .arg = packet_arg(handle_make(20, 0x12345)) };
	uint8_t buf[VMCI_STREAM_PACKET_SIZE];

	(void)state;
	packet_build(&p, buf);
	assert_int_equal(get_le32(buf + 40), 20);
	assert_int_equal(get_le32(buf + 44), 0x12345);
	assert_true(handle_is_equal(packet_handle(&p), handle_make(20, 0x12345)));
}

static void test_s3_2_type_numbers(void **state)
{
	static const struct {
		unsigned type;
		const char *name;
	} types[] = {
		{ 0, "INVALID" }, { 1, "REQUEST" }, { 2, "NEGOTIATE" }, { 3, "OFFER" }, { 4, "ATTACH" },
		{ 5, "WROTE" }, { 6, "READ" }, { 7, "RST" }, { 8, "SHUTDOWN" }, { 9, "WAITING_WRITE" },
		{ 10, "WAITING_READ" }, { 11, "REQUEST2" }, { 12, "NEGOTIATE2" }, { 13, "unknown" },
		{ 255, "unknown" }, { UINT32_MAX, "unknown" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++)
		assert_string_equal(packet_type_to_string(types[i].type), types[i].name);
	assert_int_equal(PACKET_NUM, 13);
}

static void test_s3_3_short_packets_are_dropped(void **state)
{
	struct packet p = { .type = 77 };

	(void)state;
	for (size_t size = 0; size < VMCI_STREAM_PACKET_SIZE; size++)
		assert_int_equal(packet_parse(example, size, &p), -EMSGSIZE);
	assert_int_equal(p.type, 77);
}

static void test_s3_3_longer_packets_are_accepted(void **state)
{
	uint8_t buf[VMCI_STREAM_PACKET_SIZE + 8] = { 0 };
	struct packet p;

	(void)state;
	memcpy(buf, example, sizeof(example));
	assert_int_equal(packet_parse(buf, sizeof(buf), &p), 0);
	assert_int_equal(p.type, PACKET_NEGOTIATE2);
}

static void test_s3_4_built_packets_are_canonical(void **state)
{
	(void)state;
	for (unsigned type = 0; type < PACKET_NUM; type++) {
		struct packet p = { .type = type, .src_port = 1, .dst_port = 2 };
		uint8_t buf[VMCI_STREAM_PACKET_SIZE];

		memset(buf, 0xff, sizeof(buf));
		packet_build(&p, buf);
		assert_int_equal(get_le64(buf + 16), VMCI_STREAM_PACKET_SIZE - VMCI_DG_HEADER_SIZE);
		assert_int_equal(buf[24], 1);
		assert_int_equal(buf[25], type);
		assert_int_equal(get_le16(buf + 26), 0);
		assert_int_equal(get_le32(buf + 36), 0);
		assert_int_equal(get_le64(buf + 40), 0);
		assert_int_equal(get_le64(buf + 48), 0);
	}
}

static void test_s3_4_parser_is_lenient(void **state)
{
	uint8_t buf[VMCI_STREAM_PACKET_SIZE];
	struct packet p;

	(void)state;
	memcpy(buf, example, sizeof(buf));
	buf[24] = 9;			/* version */
	put_le32(buf + 36, UINT32_MAX);	/* reserved */
	put_le64(buf + 16, 12345);	/* payload size: the carrier's business */
	buf[25] = 200;			/* type */
	assert_int_equal(packet_parse(buf, sizeof(buf), &p), 0);
	assert_int_equal(p.type, 200);
	assert_int_equal(p.arg, 0x40000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_s3_1_layout_when_built),
		cmocka_unit_test(test_s3_1_layout_when_parsed),
		cmocka_unit_test(test_s3_1_wait_info),
		cmocka_unit_test(test_s3_1_handle_argument),
		cmocka_unit_test(test_s3_2_type_numbers),
		cmocka_unit_test(test_s3_3_short_packets_are_dropped),
		cmocka_unit_test(test_s3_3_longer_packets_are_accepted),
		cmocka_unit_test(test_s3_4_built_packets_are_canonical),
		cmocka_unit_test(test_s3_4_parser_is_lenient),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
