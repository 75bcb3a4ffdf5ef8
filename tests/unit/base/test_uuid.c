/* SPDX-License-Identifier: BSD-2-Clause */
/* UUIDs: base/uuid.h */
#include "base/uuid.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static const uint8_t expected[UUID_SIZE] = {
	0x56, 0x4d, 0x07, 0xd8, 0xcc, 0xd5, 0xc4, 0x0d, 0x98, 0x44, 0xdc, 0x1e, 0x8f, 0xe0, 0xda, 0xf3,
};

static void test_read(void **state)
{
	static const char *const texts[] = {
		"56 4d 07 d8 cc d5 c4 0d-98 44 dc 1e 8f e0 da f3",
		"564d07d8-ccd5-c40d-9844-dc1e8fe0daf3",
		"564D07D8CCD5C40D9844DC1E8FE0DAF3",
		"56-4D-07-D8-CC-D5-C4-0D-98-44-DC-1E-8F-E0-DA-F3",
	};
	uint8_t uuid[UUID_SIZE];

	(void)state;
	for (unsigned i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		memset(uuid, 0xff, sizeof(uuid));
		assert_true(uuid_parse(texts[i], uuid));
		assert_memory_equal(uuid, expected, sizeof(uuid));
	}
}

static void test_not_read(void **state)
{
	static const char *const texts[] = {
		"", " ", "5", "56", "56 4d 07 d8", "56 4d 07 d8 cc d5 c4 0d-98 44 dc 1e 8f e0 da f",
		"56 4d 07 d8 cc d5 c4 0d-98 44 dc 1e 8f e0 da f3 ", " 56 4d 07 d8 cc d5 c4 0d-98 44 dc 1e 8f e0 da f3",
		"56 4d 07 d8 cc d5 c4 0d-98 44 dc 1e 8f e0 da f3 00", "56  4d 07 d8 cc d5 c4 0d-98 44 dc 1e 8f e0 da f3",
		"{564d07d8-ccd5-c40d-9844-dc1e8fe0daf3}", "564d07d8-ccd5-c40d-9844-dc1e8fe0dag3",
		"564d07d8_ccd5-c40d-9844-dc1e8fe0daf3", "5 64d07d8-ccd5-c40d-9844-dc1e8fe0daf3",
		"56 4d 07 d8 cc d5 c4 0d-98 44 dc 1e 8f e0 da 0x",
	};
	uint8_t uuid[UUID_SIZE];

	(void)state;
	for (unsigned i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		assert_false(uuid_parse(texts[i], uuid));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_read),
		cmocka_unit_test(test_not_read),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
