/* SPDX-License-Identifier: BSD-2-Clause */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/dict.h"

static struct dict *parse(const char *text)
{
	struct dict_error error = { 0 };
	struct dict *dict = NULL;
	size_t len = strlen(text);
	char *copy = malloc(len ? len : 1);	/* exactly as long: sanitizers see a step beyond it */
	int r;

	assert_non_null(copy);
	memcpy(copy, text, len);
	r = dict_parse(copy, len, &dict, &error);
	free(copy);
	if (r)
		print_error("line %u: %s\n", error.line, error.reason);
	assert_int_equal(r, 0);
	return dict;
}

static void assert_bad(const char *text, size_t len, unsigned line, const char *word)
{
	struct dict_error error = { 0 };
	struct dict *dict = (void *)1;
	char *copy = malloc(len ? len : 1);

	assert_non_null(copy);
	memcpy(copy, text, len);
	assert_int_equal(dict_parse(copy, len, &dict, &error), -EBADMSG);
	assert_ptr_equal(dict, (void *)1);
	assert_int_equal(error.line, line);
	if (!strstr(error.reason, word))
		fail_msg("\"%s\" does not say \"%s\"", error.reason, word);
	free(copy);
}

static void bad(const char *text, unsigned line, const char *word)
{
	assert_bad(text, strlen(text), line, word);
}

/* What VMware writes. */
static void test_vmx(void **state)
{
	struct dict *dict = parse("#!/usr/bin/vmware\n"
				  ".encoding = \"UTF-8\"\n"
				  "config.version = \"8\"\n"
				  "\n"
				  "vmci0.present = \"TRUE\"\r\n"
				  "vmci0.id = \"-1066538581\"\n"
				  "   displayName\t=\t\"a \\ b = # c\"   # a comment\n"
				  "annotation = \"one|0Atwo |22quoted|22 |7c\"\n"
				  "bare = value#comment\n"
				  "empty = \"\"");
	uint32_t id = 0;
	bool present = false;

	(void)state;
	assert_int_equal(dict_count(dict), 8);
	assert_string_equal(dict_get(dict, ".encoding"), "UTF-8");
	assert_string_equal(dict_get(dict, "displayname"), "a \\ b = # c");
	assert_string_equal(dict_get(dict, "annotation"), "one\ntwo \"quoted\" |");
	assert_string_equal(dict_get(dict, "bare"), "value");
	assert_string_equal(dict_get(dict, "empty"), "");
	assert_null(dict_get(dict, "nothing"));
	assert_null(dict_get(dict, "vmci0"));
	assert_null(dict_get(dict, "vmci0.present.x"));
	assert_int_equal(dict_get_bool(dict, "VMCI0.Present", &present), 0);
	assert_true(present);
	assert_int_equal(dict_get_u32_any_sign(dict, "vmci0.id", &id), 0);
	assert_int_equal(id, 3228428715u);
	assert_string_equal(dict_key(dict, 3), "vmci0.id");
	assert_string_equal(dict_value(dict, 3), "-1066538581");
	assert_int_equal(dict_line(dict, 3), 6);
	assert_int_equal(dict_line_of(dict, "EMPTY"), 10);
	assert_int_equal(dict_line_of(dict, "nothing"), 0);
	assert_null(dict_free(dict));
}

static void test_nothing(void **state)
{
	(void)state;
	static const char *const text[] = { "", "\n", "\r\n", "# no more", "\n\n  \t\n#\n", "\xef\xbb\xbf" };

	for (size_t i = 0; i < sizeof(text) / sizeof(text[0]); i++) {
		struct dict *dict = parse(text[i]);

		assert_int_equal(dict_count(dict), 0);
		dict_free(dict);
	}
	assert_null(dict_free(NULL));
}

static void test_mark(void **state)
{
	struct dict *dict = parse("\xef\xbb\xbf"
				  "a = \"\xc3\xa4\"");

	(void)state;
	assert_string_equal(dict_get(dict, "a"), "\xc3\xa4");
	dict_free(dict);
}

static void test_bad(void **state)
{
	(void)state;
	bad("a", 1, "=");
	bad("a = \"1\"\nb c", 2, "=");
	bad("= \"x\"", 1, "key");
	bad("\"a\" = \"x\"", 1, "key");
	bad("a =", 1, "value is missing");
	bad("a =   # x", 1, "value is missing");
	bad("a = \"x", 1, "closing quote");
	bad("a = \"x\ny\"", 1, "closing quote");
	bad("a = \"x\" y", 1, "follows");
	bad("a = x y", 1, "follows");
	bad("a = x\"y", 1, "quote");
	bad("a = \"|\"", 1, "bar");
	bad("a = \"|2\"", 1, "bar");
	bad("a = \"|2", 1, "bar");
	bad("a = \"|", 1, "bar");
	bad("a = \"|gg\"", 1, "bar");
	bad("a = \"|2g\"", 1, "bar");
	bad("a = \"|00\"", 1, "NUL");
	assert_bad("a = 1\nb = \"x\0y\"", 15, 2, "NUL");
	assert_bad("# \0", 3, 1, "NUL");
	/* Case makes no other key. */
	bad("a.b = \"1\"\n\nA.B = \"2\"", 3, "before");
}

/* Bounds, one below and at each. */
static void test_bounds(void **state)
{
	size_t size = DICT_TEXT_MAX + 64;
	struct dict_error error;
	char *text = malloc(size);
	struct dict *dict;
	size_t n;

	(void)state;
	assert_non_null(text);
	memset(text, 'k', size);
	memcpy(text + DICT_KEY_MAX, "=1", 3);
	dict = parse(text);
	assert_int_equal(strlen(dict_key(dict, 0)), DICT_KEY_MAX);
	dict_free(dict);
	memcpy(text + DICT_KEY_MAX, "k=1", 4);
	bad(text, 1, "key is too long");

	memset(text, 'v', size);
	memcpy(text, "a=", 2);
	text[2 + DICT_VALUE_MAX] = '\0';
	dict = parse(text);
	assert_int_equal(strlen(dict_value(dict, 0)), DICT_VALUE_MAX);
	dict_free(dict);
	memcpy(text + 2 + DICT_VALUE_MAX, "v", 2);
	bad(text, 1, "value is too long");

	n = 0;
	for (unsigned i = 0; i < DICT_ENTRIES_MAX; i++)
		n += (size_t)snprintf(text + n, size - n, "k%u=1\n", i);
	dict = parse(text);
	assert_int_equal(dict_count(dict), DICT_ENTRIES_MAX);
	dict_free(dict);
	snprintf(text + n, size - n, "more=1\n");
	bad(text, DICT_ENTRIES_MAX + 1, "too many");

	memset(text, '#', size);
	assert_int_equal(dict_parse(text, DICT_TEXT_MAX, &dict, &error), 0);
	dict_free(dict);
	assert_bad(text, DICT_TEXT_MAX + 1, 1, "text is too long");
	free(text);
}

static void test_bool(void **state)
{
	struct dict *dict = parse("a=TRUE\nb=Yes\nc=on\nd=1\ne=false\nf=NO\ng=Off\nh=0\ni=2\nj=\"\"\nk=\"true \"");
	bool v;

	(void)state;
	for (size_t i = 0; i < 8; i++) {
		v = i >= 4;
		assert_int_equal(dict_get_bool(dict, dict_key(dict, i), &v), 0);
		assert_int_equal(v, i < 4);
	}
	for (size_t i = 8; i < 11; i++)
		assert_int_equal(dict_get_bool(dict, dict_key(dict, i), &v), -EINVAL);
	assert_int_equal(dict_get_bool(dict, "x", &v), -ENOENT);
	assert_false(v);
	dict_free(dict);
}

static void test_numbers(void **state)
{
	struct dict *dict = parse("a=10\nb=0x10\nc=010\nd=\"\"\ne=\" 1\"\nf=-1\ng=+1\nh=1x\ni=18446744073709551615\n"
				  "j=18446744073709551616\nk=99999999999999999999999\nl=0x");
	uint64_t v = 77;

	(void)state;
	assert_int_equal(dict_get_u64(dict, "a", 10, &v), 0);
	assert_int_equal(v, 10);
	assert_int_equal(dict_get_u64(dict, "a", 9, &v), -ERANGE);
	assert_int_equal(dict_get_u64(dict, "b", 99, &v), 0);
	assert_int_equal(v, 16);
	assert_int_equal(dict_get_u64(dict, "c", 99, &v), 0);
	assert_int_equal(v, 8);
	assert_int_equal(dict_get_u64(dict, "i", UINT64_MAX, &v), 0);
	assert_true(v == UINT64_MAX);
	for (const char *key = "defghl"; *key; key++)
		assert_int_equal(dict_get_u64(dict, (char[]){ *key, 0 }, UINT64_MAX, &v), -EINVAL);
	assert_int_equal(dict_get_u64(dict, "j", UINT64_MAX, &v), -ERANGE);
	assert_int_equal(dict_get_u64(dict, "k", UINT64_MAX, &v), -ERANGE);
	assert_int_equal(dict_get_u64(dict, "z", UINT64_MAX, &v), -ENOENT);
	assert_true(v == UINT64_MAX);
	dict_free(dict);
}

/* VMCI SDK reference, 9: "a u32 that may be written as a negative number; both forms are legal" */
static void test_any_sign(void **state)
{
	struct dict *dict = parse("a=4294967295\nb=-1\nc=-2147483648\nd=-2147483649\ne=4294967296\nf=-\ng=--1\nh=0x10\n"
				  "i=1066538581\nj=-0");
	uint32_t v = 77;

	(void)state;
	assert_int_equal(dict_get_u32_any_sign(dict, "a", &v), 0);
	assert_int_equal(v, UINT32_MAX);
	v = 0;
	assert_int_equal(dict_get_u32_any_sign(dict, "b", &v), 0);
	assert_int_equal(v, UINT32_MAX);
	assert_int_equal(dict_get_u32_any_sign(dict, "c", &v), 0);
	assert_int_equal(v, 1u << 31);
	assert_int_equal(dict_get_u32_any_sign(dict, "d", &v), -ERANGE);
	assert_int_equal(dict_get_u32_any_sign(dict, "e", &v), -ERANGE);
	assert_int_equal(dict_get_u32_any_sign(dict, "f", &v), -EINVAL);
	assert_int_equal(dict_get_u32_any_sign(dict, "g", &v), -EINVAL);
	assert_int_equal(dict_get_u32_any_sign(dict, "h", &v), -EINVAL);
	assert_int_equal(dict_get_u32_any_sign(dict, "i", &v), 0);
	assert_int_equal(v, 1066538581u);
	assert_int_equal(dict_get_u32_any_sign(dict, "j", &v), 0);
	assert_int_equal(v, 0);
	assert_int_equal(dict_get_u32_any_sign(dict, "x", &v), -ENOENT);
	dict_free(dict);
}

static void test_size(void **state)
{
	struct dict *dict = parse("a=64M\nb=1g\nc=4k\nd=5\ne=1T\nf=M\ng=1MB\nh=17179869184G\ni=4096\nj=0");
	uint64_t v = 77;

	(void)state;
	assert_int_equal(dict_get_size(dict, "a", UINT64_MAX, &v), 0);
	assert_int_equal(v, 64 << 20);
	assert_int_equal(dict_get_size(dict, "b", 1 << 30, &v), 0);
	assert_int_equal(v, 1 << 30);
	assert_int_equal(dict_get_size(dict, "b", (1 << 30) - 1, &v), -ERANGE);
	assert_int_equal(dict_get_size(dict, "c", 4096, &v), 0);
	assert_int_equal(v, 4096);
	assert_int_equal(dict_get_size(dict, "c", 4095, &v), -ERANGE);
	assert_int_equal(dict_get_size(dict, "d", UINT64_MAX, &v), 0);
	assert_int_equal(v, 5);
	for (const char *key = "efg"; *key; key++)
		assert_int_equal(dict_get_size(dict, (char[]){ *key, 0 }, UINT64_MAX, &v), -EINVAL);
	assert_int_equal(dict_get_size(dict, "h", UINT64_MAX, &v), -ERANGE);
	assert_int_equal(dict_get_size(dict, "x", UINT64_MAX, &v), -ENOENT);
	assert_int_equal(v, 5);
	assert_int_equal(dict_get_size(dict, "j", UINT64_MAX, &v), 0);
	assert_int_equal(v, 0);
	dict_free(dict);
}

/* Whatever stands there: no crash, and what is accepted can be read. */
static void test_noise(void **state)
{
	static const char alphabet[] = "ab=\"|2c# \t\n\r\\0.\xff";
	uint32_t seed = 1;

	(void)state;
	for (int round = 0; round < 20000; round++) {
		struct dict *dict = NULL;
		struct dict_error error;
		size_t len = (size_t)(round % 40);
		char *text = malloc(len ? len : 1);

		assert_non_null(text);
		for (size_t i = 0; i < len; i++) {
			seed = seed * 1664525u + 1013904223u;
			text[i] = alphabet[(seed >> 16) % (sizeof(alphabet) - 1)];
		}
		if (!dict_parse(text, len, &dict, &error))
			for (size_t i = 0; i < dict_count(dict); i++)
				assert_string_equal(dict_get(dict, dict_key(dict, i)), dict_value(dict, i));
		dict_free(dict);
		free(text);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_vmx),	  cmocka_unit_test(test_nothing), cmocka_unit_test(test_mark),
		cmocka_unit_test(test_bad),	  cmocka_unit_test(test_bounds),  cmocka_unit_test(test_bool),
		cmocka_unit_test(test_numbers),	  cmocka_unit_test(test_any_sign), cmocka_unit_test(test_size),
		cmocka_unit_test(test_noise),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
