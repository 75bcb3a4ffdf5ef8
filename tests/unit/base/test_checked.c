/* SPDX-License-Identifier: BSD-2-Clause */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/checked.h"

static void test_add64(void **state)
{
	uint64_t r = 4711;

	(void)state;
	assert_true(add64(1, 2, &r));
	assert_int_equal(r, 3);
	assert_true(add64(UINT64_MAX - 5, 5, &r));
	assert_int_equal(r, UINT64_MAX);
	r = 4711;
	assert_false(add64(UINT64_MAX - 5, 6, &r));
	assert_false(add64(UINT64_MAX, UINT64_MAX, &r));
	assert_false(add64(1ull << 63, 1ull << 63, &r));
	assert_int_equal(r, 4711);
}

static void test_mul64(void **state)
{
	uint64_t r = 4711;

	(void)state;
	assert_true(mul64(UINT64_MAX, 0, &r));
	assert_int_equal(r, 0);
	assert_true(mul64(1ull << 32, UINT32_MAX, &r));
	assert_int_equal(r, 0xffffffff00000000);
	assert_true(mul64(UINT64_MAX, 1, &r));
	assert_int_equal(r, UINT64_MAX);
	r = 4711;
	assert_false(mul64(1ull << 32, 1ull << 32, &r));
	assert_false(mul64(UINT64_MAX, 2, &r));
	assert_false(mul64(UINT64_MAX, UINT64_MAX, &r));
	assert_int_equal(r, 4711);
}

static void test_range_fits(void **state)
{
	(void)state;
	assert_true(range_fits(0, 10, 10));
	assert_true(range_fits(9, 1, 10));
	assert_true(range_fits(10, 0, 10));
	assert_true(range_fits(0, 0, 0));
	assert_false(range_fits(9, 2, 10));
	assert_false(range_fits(10, 1, 10));
	assert_false(range_fits(11, 0, 10));
	assert_false(range_fits(0, 11, 10));
	/* sums that wrap */
	assert_false(range_fits(UINT64_MAX, 1, 10));
	assert_false(range_fits(1, UINT64_MAX, 10));
	assert_false(range_fits(5, UINT64_MAX - 3, 10));
	assert_true(range_fits(0, UINT64_MAX, UINT64_MAX));
	assert_false(range_fits(1, UINT64_MAX, UINT64_MAX));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_add64),
		cmocka_unit_test(test_mul64),
		cmocka_unit_test(test_range_fits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
