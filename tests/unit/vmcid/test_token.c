/* SPDX-License-Identifier: BSD-2-Clause */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "vmcid/token.h"

static const struct token_key key = { .byte = "0123456789abcdef0123456789abcde" };

/* The key in the runtime directory, and what it proves, outlive this version of vmcid: the values must stay. */
static void test_stable(void **state)
{
	/* Made with another implementation: BLAKE2b with key, of "oabc" and "d" + 42 + "vm1". */
	static const uint8_t object[FAB_TOKEN_SIZE] = {
		0xcf, 0x5b, 0x5c, 0xb6, 0x2e, 0x3e, 0x99, 0x15,
		0xb3, 0x55, 0x04, 0x2e, 0x6d, 0x3a, 0xda, 0x84,
	};
	static const uint8_t device[FAB_TOKEN_SIZE] = {
		0x6b, 0x78, 0x76, 0xd9, 0xe6, 0xce, 0xf4, 0xda,
		0x82, 0xad, 0xd1, 0x96, 0xf7, 0x10, 0x79, 0x38,
	};
	uint8_t token[FAB_TOKEN_SIZE];

	(void)state;
	token_of_object(&key, (const uint8_t *)"abc", 3, token);
	assert_memory_equal(token, object, sizeof(token));
	token_of_device(&key, 42, "vm1", token);
	assert_memory_equal(token, device, sizeof(token));
	assert_true(token_is_equal(token, device));
}

static void test_different(void **state)
{
	struct token_key other = key;
	uint8_t token[8][FAB_TOKEN_SIZE];

	(void)state;
	other.byte[0] ^= 1;
	token_of_object(&key, (const uint8_t *)"abc", 3, token[0]);
	token_of_object(&key, (const uint8_t *)"abd", 3, token[1]);
	token_of_object(&key, (const uint8_t *)"abc", 2, token[2]);
	token_of_object(&other, (const uint8_t *)"abc", 3, token[3]);
	token_of_device(&key, 42, "vm1", token[4]);
	token_of_device(&key, 43, "vm1", token[5]);
	token_of_device(&key, 42, "vm2", token[6]);
	/* A program cannot show as a device what the broker has given it. */
	token_of_object(&key, (const uint8_t *)"\x2a\0\0\0vm1", 7, token[7]);
	for (int i = 0; i < 8; i++)
		for (int k = i + 1; k < 8; k++)
			assert_false(token_is_equal(token[i], token[k]));
}

static void test_one_bit(void **state)
{
	uint8_t a[FAB_TOKEN_SIZE], b[FAB_TOKEN_SIZE];

	(void)state;
	token_of_device(&key, 16, "x", a);
	for (unsigned bit = 0; bit < 8 * FAB_TOKEN_SIZE; bit++) {
		memcpy(b, a, sizeof(b));
		b[bit / 8] ^= (uint8_t)(1u << bit % 8);
		assert_false(token_is_equal(a, b));
	}
}

static void test_keys(void **state)
{
	struct token_key a, b, zero = { 0 };

	(void)state;
	token_key_make(&a);
	token_key_make(&b);
	assert_memory_not_equal(&a, &b, sizeof(a));
	assert_memory_not_equal(&a, &zero, sizeof(a));
}

static int setup(void **state)
{
	(void)state;
	return token_init();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_stable),
		cmocka_unit_test(test_different),
		cmocka_unit_test(test_one_bit),
		cmocka_unit_test(test_keys),
	};

	return cmocka_run_group_tests(tests, setup, NULL);
}
