/* SPDX-License-Identifier: BSD-2-Clause */
/* The codec: vfio-user reference, 1 to 7 and 9.5. */
#include "rig.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "proto/limits.h"

/*
 * Runs a parser over every shorter length of a good body: each must be refused. The bodies are exactly as
 * long as told (on the heap), so that the sanitizers see a byte too many.
 */
#define CHECK_TORN(call, good, good_len)                                   \
	do {                                                               \
		for (size_t len = 0; len < (good_len); len++) {            \
			uint8_t *body = malloc(len ? len : 1);             \
			memcpy(body, good, len);                           \
			assert_int_equal(call, -EINVAL);                   \
			free(body);                                        \
		}                                                          \
	} while (0)

static void test_s1_1_header(void **state)
{
	static const uint8_t buf[16] = { 0x34, 0x12, 9, 0, 32, 0, 0, 0, 0x10, 0, 0, 0, 5, 0, 0, 0 };
	struct vus_header header;

	(void)state;
	vus_header_parse(buf, &header);
	assert_int_equal(header.id, 0x1234);
	assert_int_equal(header.cmd, VUS_CMD_REGION_READ);
	assert_int_equal(header.size, 32);
	assert_int_equal(header.flags, VUS_NO_REPLY);
	assert_int_equal(header.error, 5);
	assert_null(vus_header_check(&header, 32));
}

static void test_s1_1_bad_headers(void **state)
{
	struct vus_header header = { .cmd = 1, .size = 15 };

	(void)state;
	assert_non_null(vus_header_check(&header, 1000));
	header.size = 0;
	assert_non_null(vus_header_check(&header, 1000));
	header.size = 16;
	assert_null(vus_header_check(&header, 1000));
	header.size = 1000;
	assert_null(vus_header_check(&header, 1000));
	header.size = 1001;
	assert_non_null(vus_header_check(&header, 1000));
	header.size = UINT32_MAX;
	assert_non_null(vus_header_check(&header, 1000));
	header.size = 16;
	for (uint32_t type = 1; type < 16; type++) {
		header.flags = type;
		assert_non_null(vus_header_check(&header, 1000));
	}
}

static void test_s1_1_reply_headers(void **state)
{
	static const uint8_t good[16] = { 7, 0, 13, 0, 20, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0 };
	static const uint8_t bad[16] = { 7, 0, 13, 0, 16, 0, 0, 0, 0x21, 0, 0, 0, 22, 0, 0, 0 };
	const struct vus_header header = {
		.id = 7, .cmd = 13, .size = 99, .flags = VUS_NO_REPLY, .error = 3
	};
	uint8_t buf[16];

	(void)state;
	memset(buf, 0xff, sizeof(buf));
	vus_reply_build(buf, &header, 4, 0);
	assert_memory_equal(buf, good, 16);
	vus_reply_build(buf, &header, 0, EINVAL);
	assert_memory_equal(buf, bad, 16);
}

static void test_names_of_commands(void **state)
{
	(void)state;
	assert_string_equal(vus_cmd_to_string(1), "VERSION");
	assert_string_equal(vus_cmd_to_string(8), "DEVICE_SET_IRQS");
	assert_string_equal(vus_cmd_to_string(13), "DEVICE_RESET");
	assert_string_equal(vus_cmd_to_string(15), "REGION_WRITE_MULTI");
	assert_string_equal(vus_cmd_to_string(18), "MIG_DATA_WRITE");
	assert_string_equal(vus_cmd_to_string(0), "?");
	assert_string_equal(vus_cmd_to_string(19), "?");
	assert_string_equal(vus_cmd_to_string(65535), "?");
}

static void test_s3_version(void **state)
{
	struct vus_version version;
	uint8_t buf[512];
	size_t len;

	(void)state;
	len = rig_body_version(buf, 0, 1, "{}");
	assert_int_equal(len, 7);
	assert_int_equal(vus_version_parse(buf, len, &version), 0);
	assert_int_equal(version.major, 0);
	assert_int_equal(version.minor, 1);
	assert_int_equal(version.json_len, 2);
	assert_memory_equal(version.json, "{}", 3);
	/* No text; too short for a version; text without NUL. */
	assert_int_equal(vus_version_parse(buf, 4, &version), 0);
	assert_null(version.json);
	assert_int_equal(vus_version_parse(buf, 3, &version), -EINVAL);
	assert_int_equal(vus_version_parse(buf, 0, &version), -EINVAL);
	assert_int_equal(vus_version_parse(buf, 6, &version), -EINVAL);
	assert_int_equal(vus_version_parse(buf, 5, &version), -EINVAL);

	memset(buf, 0xff, sizeof(buf));
	assert_int_equal(vus_version_build(buf, sizeof(buf), 0, 1, "{}"), 7);
	assert_memory_equal(buf, "\0\0\1\0{}\0\xff", 8);
}

static int parse_caps(const char *json, struct vus_caps *caps)
{
	/* A copy without the NUL: the length is what counts. */
	size_t len = strlen(json);
	char *copy = malloc(len ? len : 1);
	int r;

	memcpy(copy, json, len);
	r = vus_caps_parse(copy, len, caps);
	free(copy);
	return r;
}

static void test_s3_1_capabilities(void **state)
{
	struct vus_caps caps;

	(void)state;
	/* Defaults. */
	assert_int_equal(vus_caps_parse(NULL, 0, &caps), 0);
	assert_int_equal(caps.max_msg_fds, 1);
	assert_int_equal(caps.max_xfer, 1048576);
	assert_int_equal(parse_caps("{}", &caps), 0);
	assert_int_equal(caps.max_msg_fds, 1);
	/* Both clients. */
	assert_int_equal(parse_caps(rig_qemu_json, &caps), 0);
	assert_int_equal(caps.max_msg_fds, 16);
	assert_int_equal(caps.max_xfer, 1048576);
	assert_int_equal(parse_caps(rig_ch_json, &caps), 0);
	assert_int_equal(caps.max_msg_fds, 1);
	/* Lenient about keys and types ... */
	assert_int_equal(
		parse_caps(" {\"x\":[1,{}],\"capabilities\":{\"max_msg_fds\":0,\"y\":null}} ", &caps), 0);
	assert_int_equal(caps.max_msg_fds, 0);
	assert_int_equal(parse_caps("{\"capabilities\":{\"max_msg_fds\":\"16\",\"max_data_xfer_size\":1.5}}",
				    &caps), 0);
	assert_int_equal(caps.max_msg_fds, 1);
	assert_int_equal(caps.max_xfer, 1048576);
	assert_int_equal(parse_caps("{\"capabilities\":{\"max_msg_fds\":-1}}", &caps), 0);
	assert_int_equal(caps.max_msg_fds, 1);
	assert_int_equal(parse_caps("{\"capabilities\":{\"max_msg_fds\":9223372036854775807}}", &caps), 0);
	assert_true(caps.max_msg_fds == UINT32_MAX);
	assert_int_equal(parse_caps("{\"capabilities\":7}", &caps), 0);
	assert_int_equal(caps.max_msg_fds, 1);
	/* ... but not about JSON. */
	caps.max_msg_fds = 77;
	assert_int_equal(parse_caps("", &caps), -EINVAL);
	assert_int_equal(parse_caps("{", &caps), -EINVAL);
	assert_int_equal(parse_caps("[]", &caps), -EINVAL);
	assert_int_equal(parse_caps("{} x", &caps), -EINVAL);
	assert_int_equal(parse_caps("{\"capabilities\":{\"max_msg_fds\":16}", &caps), -EINVAL);
	assert_int_equal(parse_caps("{\"\xff\":1}", &caps), -EINVAL);
	assert_int_equal(parse_caps("{\"capabilities\":{\"max_msg_fds\":99999999999999999999999}}", &caps),
			 -EINVAL);
	assert_int_equal(caps.max_msg_fds, 77);
}

static void test_s3_1_deep_json_is_refused(void **state)
{
	struct vus_caps caps;
	char *deep = malloc(60001);

	(void)state;
	memset(deep, '[', 60000);
	deep[60000] = 0;
	assert_int_equal(vus_caps_parse(deep, 60000, &caps), -EINVAL);
	free(deep);
}

static void test_s6_1_dma_map(void **state)
{
	struct vus_dma_map map;
	uint8_t buf[64] = { 0 };

	(void)state;
	rig_body_map(buf, 32, 3, 0x1000, 0x2000, 0x3000);
	assert_int_equal(vus_dma_map_parse(buf, 32, &map), 0);
	assert_int_equal(map.flags, 3);
	assert_int_equal(map.offset, 0x1000);
	assert_int_equal(map.addr, 0x2000);
	assert_int_equal(map.size, 0x3000);
	CHECK_TORN(vus_dma_map_parse(body, len, &map), buf, 32);
	/* The Rust client counts the header; what follows is for versions to come. */
	rig_body_map(buf, 48, 3, 0, 0, 0x1000);
	assert_int_equal(vus_dma_map_parse(buf, 32, &map), 0);
	assert_int_equal(vus_dma_map_parse(buf, 48, &map), 0);
	rig_body_map(buf, 31, 3, 0, 0, 0x1000);
	assert_int_equal(vus_dma_map_parse(buf, 32, &map), -EINVAL);
	rig_body_map(buf, 0, 3, 0, 0, 0x1000);
	assert_int_equal(vus_dma_map_parse(buf, 32, &map), -EINVAL);
	rig_body_map(buf, UINT32_MAX, 3, 0, 0, 0x1000);
	assert_int_equal(vus_dma_map_parse(buf, 32, &map), 0);
	/* Flags: read, write, nothing else. */
	for (uint32_t flags = 0; flags < 16; flags++) {
		rig_body_map(buf, 32, flags, 0, 0, 0x1000);
		assert_int_equal(vus_dma_map_parse(buf, 32, &map), flags >= 1 && flags <= 3 ? 0 : -EINVAL);
	}
	/* Size 0; wrap-around of address and offset. */
	rig_body_map(buf, 32, 3, 0, 0, 0);
	assert_int_equal(vus_dma_map_parse(buf, 32, &map), -EINVAL);
	rig_body_map(buf, 32, 3, 0, UINT64_MAX, 1);
	assert_int_equal(vus_dma_map_parse(buf, 32, &map), -EINVAL);
	rig_body_map(buf, 32, 3, UINT64_MAX, 0, 1);
	assert_int_equal(vus_dma_map_parse(buf, 32, &map), -EINVAL);
	rig_body_map(buf, 32, 3, 0, UINT64_MAX - 1, 1);
	assert_int_equal(vus_dma_map_parse(buf, 32, &map), 0);
}

static void test_s6_2_dma_unmap(void **state)
{
	struct vus_dma_unmap unmap;
	uint8_t buf[64] = { 0 };

	(void)state;
	rig_body_unmap(buf, 24, 0, 0x2000, 0x3000);
	assert_int_equal(vus_dma_unmap_parse(buf, 24, &unmap), 0);
	assert_false(unmap.all);
	assert_int_equal(unmap.addr, 0x2000);
	assert_int_equal(unmap.size, 0x3000);
	CHECK_TORN(vus_dma_unmap_parse(body, len, &unmap), buf, 24);
	rig_body_unmap(buf, 23, 0, 0x2000, 0x3000);
	assert_int_equal(vus_dma_unmap_parse(buf, 24, &unmap), -EINVAL);
	rig_body_unmap(buf, 40, 0, 0x2000, 0x3000);
	assert_int_equal(vus_dma_unmap_parse(buf, 24, &unmap), 0);
	/* Dirty bitmaps are refused; "all" has no range. */
	rig_body_unmap(buf, 24, 1, 0x2000, 0x3000);
	assert_int_equal(vus_dma_unmap_parse(buf, 40, &unmap), -EINVAL);
	rig_body_unmap(buf, 24, 3, 0, 0);
	assert_int_equal(vus_dma_unmap_parse(buf, 24, &unmap), -EINVAL);
	rig_body_unmap(buf, 24, 4, 0x2000, 0x3000);
	assert_int_equal(vus_dma_unmap_parse(buf, 24, &unmap), -EINVAL);
	rig_body_unmap(buf, 24, 2, 0, 0);
	assert_int_equal(vus_dma_unmap_parse(buf, 24, &unmap), 0);
	assert_true(unmap.all);
	rig_body_unmap(buf, 24, 2, 0x1000, 0);
	assert_int_equal(vus_dma_unmap_parse(buf, 24, &unmap), -EINVAL);
	rig_body_unmap(buf, 24, 2, 0, 0x1000);
	assert_int_equal(vus_dma_unmap_parse(buf, 24, &unmap), -EINVAL);
	rig_body_unmap(buf, 24, 0, 0, 0);
	assert_int_equal(vus_dma_unmap_parse(buf, 24, &unmap), -EINVAL);
}

static void test_s4_1_info(void **state)
{
	static const uint8_t good[16] = { 16, 0, 0, 0, 3, 0, 0, 0, 9, 0, 0, 0, 5, 0, 0, 0 };
	uint8_t buf[32];

	(void)state;
	rig_body_info(buf, 16);
	assert_int_equal(vus_info_parse(buf, 16), 0);
	CHECK_TORN(vus_info_parse(body, len), buf, 16);
	rig_body_info(buf, 32);
	assert_int_equal(vus_info_parse(buf, 16), 0);
	rig_body_info(buf, 15);
	assert_int_equal(vus_info_parse(buf, 16), -EINVAL);
	memset(buf, 0xff, sizeof(buf));
	assert_int_equal(vus_info_build(buf, sizeof(buf), 3, 9, 5), 16);
	assert_memory_equal(buf, good, 16);
}

static void test_s4_2_region_info(void **state)
{
	static const struct vus_area area[2] = { { 0x2000, 0x1000 }, { 0x4000, 0x3c000 } };
	struct vus_region_info info;
	uint8_t buf[128];
	bool is_full;

	(void)state;
	rig_body_region_info(buf, 32, 5);
	assert_int_equal(vus_region_info_parse(buf, 32, &info), 0);
	assert_int_equal(info.index, 5);
	assert_int_equal(info.argsz, 32);
	CHECK_TORN(vus_region_info_parse(body, len, &info), buf, 32);
	rig_body_region_info(buf, 31, 5);
	assert_int_equal(vus_region_info_parse(buf, 32, &info), -EINVAL);

	memset(buf, 0xff, sizeof(buf));
	assert_int_equal(vus_region_info_build(buf, sizeof(buf), &info, 3, 0x40, 0, NULL, 0, &is_full), 32);
	assert_true(is_full);
	assert_int_equal(get_le32(buf), 32);
	assert_int_equal(get_le32(buf + 4), 3);
	assert_int_equal(get_le32(buf + 8), 5);
	assert_int_equal(get_le32(buf + 12), 0);
	assert_int_equal(get_le64(buf + 16), 0x40);
	assert_int_equal(get_le64(buf + 24), 0);

	/* Two steps: capabilities do not fit the first time. CAPS must not be set then. */
	info.argsz = 32 + 16 + 2 * 16 - 1;
	assert_int_equal(
		vus_region_info_build(buf, sizeof(buf), &info, 7, 0x40000, 0x1000, area, 2, &is_full), 32);
	assert_false(is_full);
	assert_int_equal(get_le32(buf), 80);
	assert_int_equal(get_le32(buf + 4), 7);
	assert_int_equal(get_le32(buf + 12), 0);
	info.argsz = 80;
	memset(buf, 0xff, sizeof(buf));
	assert_int_equal(
		vus_region_info_build(buf, sizeof(buf), &info, 7, 0x40000, 0x1000, area, 2, &is_full), 80);
	assert_true(is_full);
	assert_int_equal(get_le32(buf), 80);
	assert_int_equal(get_le32(buf + 4), 15);
	assert_int_equal(get_le32(buf + 12), 32);
	assert_int_equal(get_le64(buf + 24), 0x1000);
	assert_int_equal(get_le16(buf + 32), 1);
	assert_int_equal(get_le16(buf + 34), 1);
	assert_int_equal(get_le32(buf + 36), 0);
	assert_int_equal(get_le32(buf + 40), 2);
	assert_int_equal(get_le32(buf + 44), 0);
	assert_int_equal(get_le64(buf + 48), 0x2000);
	assert_int_equal(get_le64(buf + 56), 0x1000);
	assert_int_equal(get_le64(buf + 64), 0x4000);
	assert_int_equal(get_le64(buf + 72), 0x3c000);
}

static void test_s4_3_region_io_fds(void **state)
{
	static const uint8_t good[16] = { 16, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0 };
	uint8_t buf[32];
	uint32_t index;

	(void)state;
	rig_body_irqs(buf, 16, 0, 1, 0, 0);
	assert_int_equal(vus_region_io_fds_parse(buf, 16, &index), 0);
	assert_int_equal(index, 1);
	CHECK_TORN(vus_region_io_fds_parse(body, len, &index), buf, 16);
	put_le32(buf + 4, 1);
	assert_int_equal(vus_region_io_fds_parse(buf, 16, &index), -EINVAL);
	memset(buf, 0xff, sizeof(buf));
	assert_int_equal(vus_region_io_fds_build(buf, sizeof(buf), 1), 16);
	assert_memory_equal(buf, good, 16);
}

static void test_s4_4_irq_info(void **state)
{
	static const uint8_t good[16] = { 16, 0, 0, 0, 9, 0, 0, 0, 1, 0, 0, 0, 4, 0, 0, 0 };
	uint8_t buf[32];
	uint32_t index;

	(void)state;
	rig_body_irq_info(buf, 16, 3);
	assert_int_equal(vus_irq_info_parse(buf, 16, &index), 0);
	assert_int_equal(index, 3);
	CHECK_TORN(vus_irq_info_parse(body, len, &index), buf, 16);
	memset(buf, 0xff, sizeof(buf));
	assert_int_equal(vus_irq_info_build(buf, sizeof(buf), 9, 1, 4), 16);
	assert_memory_equal(buf, good, 16);
}

static void test_s7_set_irqs(void **state)
{
	static const struct {
		uint32_t flags;
		enum vus_irq_data data;
		enum vus_irq_action action;
	} good[] = {
		{ 0x09, VUS_IRQ_DATA_NONE, VUS_IRQ_ACTION_MASK },
		{ 0x11, VUS_IRQ_DATA_NONE, VUS_IRQ_ACTION_UNMASK },
		{ 0x21, VUS_IRQ_DATA_NONE, VUS_IRQ_ACTION_TRIGGER },
		{ 0x0c, VUS_IRQ_DATA_EVENTFD, VUS_IRQ_ACTION_MASK },
		{ 0x14, VUS_IRQ_DATA_EVENTFD, VUS_IRQ_ACTION_UNMASK },
		{ 0x24, VUS_IRQ_DATA_EVENTFD, VUS_IRQ_ACTION_TRIGGER },
	};
	struct vus_set_irqs set;
	uint8_t buf[64] = { 0 };
	unsigned n = 0;

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		rig_body_irqs(buf, 20, good[i].flags, 2, 1, 2);
		assert_int_equal(vus_set_irqs_parse(buf, 20, &set), 0);
		assert_int_equal(set.data, good[i].data);
		assert_int_equal(set.action, good[i].action);
		assert_int_equal(set.index, 2);
		assert_int_equal(set.start, 1);
		assert_int_equal(set.count, 2);
		assert_null(set.bools);
	}
	CHECK_TORN(vus_set_irqs_parse(body, len, &set), buf, 20);
	/* Exactly one data type, exactly one action: 9 of 256 (count 0, so that BOOL needs no bytes). */
	for (uint32_t flags = 0; flags < 256; flags++) {
		rig_body_irqs(buf, 20, flags, 0, 0, 0);
		n += vus_set_irqs_parse(buf, 20, &set) == 0;
	}
	assert_int_equal(n, 9);
	rig_body_irqs(buf, 20, 0x80000024, 0, 0, 0);
	assert_int_equal(vus_set_irqs_parse(buf, 20, &set), -EINVAL);
	/* argsz, index, wrap-around. */
	rig_body_irqs(buf, 19, 0x24, 0, 0, 0);
	assert_int_equal(vus_set_irqs_parse(buf, 20, &set), -EINVAL);
	rig_body_irqs(buf, 36, 0x24, 0, 0, 0);
	assert_int_equal(vus_set_irqs_parse(buf, 20, &set), 0);
	rig_body_irqs(buf, 20, 0x24, 5, 0, 0);
	assert_int_equal(vus_set_irqs_parse(buf, 20, &set), -EINVAL);
	rig_body_irqs(buf, 20, 0x24, 2, UINT32_MAX, 1);
	assert_int_equal(vus_set_irqs_parse(buf, 20, &set), -EINVAL);
	rig_body_irqs(buf, 20, 0x24, 2, 1, UINT32_MAX);
	assert_int_equal(vus_set_irqs_parse(buf, 20, &set), -EINVAL);
}

static void test_s7_set_irqs_bool(void **state)
{
	struct vus_set_irqs set;
	uint8_t buf[64] = { 0 };

	(void)state;
	rig_body_irqs(buf, 23, 0x22, 2, 0, 3);
	memcpy(buf + 20, "\1\0\1", 3);
	assert_int_equal(vus_set_irqs_parse(buf, 23, &set), 0);
	assert_int_equal(set.data, VUS_IRQ_DATA_BOOL);
	assert_memory_equal(set.bools, "\1\0\1", 3);
	CHECK_TORN(vus_set_irqs_parse(body, len, &set), buf, 23);
	/* As many bytes as the count says, and argsz covers them. */
	assert_int_equal(vus_set_irqs_parse(buf, 24, &set), -EINVAL);
	rig_body_irqs(buf, 22, 0x22, 2, 0, 3);
	assert_int_equal(vus_set_irqs_parse(buf, 23, &set), -EINVAL);
	rig_body_irqs(buf, 23, 0x22, 2, 0, 0xfffffff0);
	assert_int_equal(vus_set_irqs_parse(buf, 23, &set), -EINVAL);
	rig_body_irqs(buf, 20, 0x22, 2, 0, 0);
	assert_int_equal(vus_set_irqs_parse(buf, 20, &set), 0);
}

static void test_s5_1_region_access(void **state)
{
	static const uint8_t head[16] = { 8, 7, 6, 5, 4, 3, 2, 1, 1, 0, 0, 0, 4, 0, 0, 0 };
	struct vus_access access;
	uint8_t buf[32];

	(void)state;
	rig_body_access(buf, 0x0102030405060708, 1, 4);
	assert_int_equal(vus_region_read_parse(buf, 16, &access), 0);
	assert_true(access.offset == 0x0102030405060708);
	assert_int_equal(access.region, 1);
	assert_int_equal(access.count, 4);
	CHECK_TORN(vus_region_read_parse(body, len, &access), buf, 16);
	assert_int_equal(vus_region_read_parse(buf, 17, &access), -EINVAL);

	rig_body_write(buf, 0x0102030405060708, 1, 4, "abcd");
	assert_int_equal(vus_region_write_parse(buf, 20, &access), 0);
	assert_memory_equal(access.data, "abcd", 4);
	CHECK_TORN(vus_region_write_parse(body, len, &access), buf, 20);
	assert_int_equal(vus_region_write_parse(buf, 21, &access), -EINVAL);
	put_le32(buf + 12, UINT32_MAX);
	assert_int_equal(vus_region_write_parse(buf, 20, &access), -EINVAL);
	rig_body_access(buf, 0, 1, 0);
	assert_int_equal(vus_region_write_parse(buf, 16, &access), 0);

	access = (struct vus_access){ .offset = 0x0102030405060708, .region = 1, .count = 4 };
	assert_int_equal(vus_access_build(buf, 16, &access), 16);
	assert_memory_equal(buf, head, 16);
}

static void test_s5_3_write_multi(void **state)
{
	struct vus_access access;
	uint8_t buf[8 + 3 * 24];
	uint64_t n;

	(void)state;
	put_le64(buf, 3);
	for (unsigned i = 0; i < 3; i++) {
		rig_body_access(buf + 8 + i * 24, 0x100 + i, 1, i + 1);
		memset(buf + 24 + i * 24, 'a' + (int)i, 8);
	}
	assert_int_equal(vus_multi_parse(buf, sizeof(buf), &n), 0);
	assert_int_equal(n, 3);
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(vus_multi_entry_parse(buf, i, &access), 0);
		assert_int_equal(access.offset, 0x100 + i);
		assert_int_equal(access.count, i + 1);
		assert_int_equal(access.data[0], 'a' + (int)i);
	}
	CHECK_TORN(vus_multi_parse(body, len, &n), buf, sizeof(buf));
	/* 1 to 8 bytes each. */
	put_le32(buf + 8 + 12, 0);
	assert_int_equal(vus_multi_entry_parse(buf, 0, &access), -EINVAL);
	put_le32(buf + 8 + 12, 9);
	assert_int_equal(vus_multi_entry_parse(buf, 0, &access), -EINVAL);
	put_le32(buf + 8 + 12, 8);
	assert_int_equal(vus_multi_entry_parse(buf, 0, &access), 0);
	/* Counts that do not agree with the length, or wrap to it. */
	put_le64(buf, 2);
	assert_int_equal(vus_multi_parse(buf, sizeof(buf), &n), -EINVAL);
	put_le64(buf, UINT64_MAX);
	assert_int_equal(vus_multi_parse(buf, sizeof(buf), &n), -EINVAL);
	put_le64(buf, 3 + (1ull << 61));
	assert_int_equal(vus_multi_parse(buf, sizeof(buf), &n), -EINVAL);
	put_le64(buf, 0);
	assert_int_equal(vus_multi_parse(buf, 8, &n), 0);
	assert_int_equal(n, 0);
	assert_int_equal(vus_multi_build(buf, 8, 5), 8);
	assert_int_equal(get_le64(buf), 5);
}

static void test_s9_5_migration(void **state)
{
	struct vus_feature feature;
	struct vus_mig_data data;
	uint8_t buf[32] = { 0 };

	(void)state;
	put_le32(buf, 16);
	put_le32(buf + 4, 1 | VUS_FEATURE_GET | VUS_FEATURE_PROBE);
	assert_int_equal(vus_feature_parse(buf, 16, &feature), 0);
	assert_int_equal(feature.feature, 1);
	assert_int_equal(feature.ops, VUS_FEATURE_GET | VUS_FEATURE_PROBE);
	assert_int_equal(feature.len, 8);
	CHECK_TORN(vus_feature_parse(body, len, &feature), buf, 8);
	put_le32(buf + 4, 1 | 1 << 19);
	assert_int_equal(vus_feature_parse(buf, 16, &feature), -EINVAL);

	put_le32(buf, 8);
	put_le32(buf + 4, 4);
	assert_int_equal(vus_mig_read_parse(buf, 8, &data), 0);
	assert_int_equal(data.size, 4);
	CHECK_TORN(vus_mig_read_parse(body, len, &data), buf, 8);
	assert_int_equal(vus_mig_write_parse(buf, 12, &data), 0);
	assert_ptr_equal(data.data, buf + 8);
	CHECK_TORN(vus_mig_write_parse(body, len, &data), buf, 12);
	assert_int_equal(vus_mig_write_parse(buf, 13, &data), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_s1_1_header),
		cmocka_unit_test(test_s1_1_bad_headers),
		cmocka_unit_test(test_s1_1_reply_headers),
		cmocka_unit_test(test_names_of_commands),
		cmocka_unit_test(test_s3_version),
		cmocka_unit_test(test_s3_1_capabilities),
		cmocka_unit_test(test_s3_1_deep_json_is_refused),
		cmocka_unit_test(test_s6_1_dma_map),
		cmocka_unit_test(test_s6_2_dma_unmap),
		cmocka_unit_test(test_s4_1_info),
		cmocka_unit_test(test_s4_2_region_info),
		cmocka_unit_test(test_s4_3_region_io_fds),
		cmocka_unit_test(test_s4_4_irq_info),
		cmocka_unit_test(test_s7_set_irqs),
		cmocka_unit_test(test_s7_set_irqs_bool),
		cmocka_unit_test(test_s5_1_region_access),
		cmocka_unit_test(test_s5_3_write_multi),
		cmocka_unit_test(test_s9_5_migration),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
