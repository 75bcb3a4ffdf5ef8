/* SPDX-License-Identifier: BSD-2-Clause */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "base/bytes.h"

static const uint8_t bytes[] = { 0xaa, 0x01, 0x82, 0x03, 0x84, 0x05, 0x86, 0x07, 0x88, 0xbb };

static void test_get_is_little_endian_at_any_alignment(void **state)
{
	(void)state;
	assert_int_equal(get_le16(bytes + 1), 0x8201);
	assert_int_equal(get_le32(bytes + 1), 0x84038201);
	assert_int_equal(get_le64(bytes + 1), 0x8807860584038201);
	assert_int_equal(get_le16(bytes + 8), 0xbb88);
}

static void test_put_writes_its_bytes_and_no_others(void **state)
{
	uint8_t buf[10];

	(void)state;
	memset(buf, 0xee, sizeof(buf));
	put_le16(buf + 1, 0x8201);
	assert_memory_equal(buf + 1, bytes + 1, 2);
	assert_int_equal(buf[0], 0xee);
	assert_int_equal(buf[3], 0xee);
	put_le32(buf + 1, 0x84038201);
	assert_memory_equal(buf + 1, bytes + 1, 4);
	assert_int_equal(buf[5], 0xee);
	put_le64(buf + 1, 0x8807860584038201);
	assert_memory_equal(buf + 1, bytes + 1, 8);
	assert_int_equal(buf[0], 0xee);
	assert_int_equal(buf[9], 0xee);
}

static void test_all_ones(void **state)
{
	uint8_t buf[8];

	(void)state;
	put_le64(buf, UINT64_MAX);
	assert_int_equal(get_le64(buf), UINT64_MAX);
	assert_int_equal(get_le32(buf), UINT32_MAX);
	assert_int_equal(get_le16(buf), UINT16_MAX);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_get_is_little_endian_at_any_alignment),
		cmocka_unit_test(test_put_writes_its_bytes_and_no_others),
		cmocka_unit_test(test_all_ones),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
