/* SPDX-License-Identifier: BSD-2-Clause */
/* The wire format of discovery. VMCI SDK reference, 6.2. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>

#include "proto/discovery.h"

/* The example of the reference: lookup of "HOST INFO", id 7; its three bytes of no meaning are 0 here. */
static void test_s62_example(void **state)
{
	static const uint8_t wire[] = {
		0, 0, 0, 0, 7, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 9, 0, 0, 0,
		'H', 'O', 'S', 'T', ' ', 'I', 'N', 'F', 'O', 0, 0, 0, 0,
	};
	const struct discovery_request request = {
		.action = DISCOVERY_LOOKUP,
		.id = 7,
		.handle = { VMCI_INVALID_ID, VMCI_INVALID_ID },
		.name = "HOST INFO",
		.name_size = 9,
	};
	struct discovery_request parsed;
	uint8_t buf[DISCOVERY_PAYLOAD_MAX];

	(void)state;
	memset(buf, 0xee, sizeof(buf));
	assert_int_equal(discovery_request_build(buf, &request), 24 + 9);
	assert_int_equal(sizeof(wire), 24 + 9);
	assert_memory_equal(buf, wire, sizeof(wire));
	assert_int_equal(discovery_request_parse(wire, sizeof(wire), &parsed), 0);
	assert_int_equal(parsed.action, 0);
	assert_int_equal(parsed.id, 7);
	assert_false(handle_is_valid(parsed.handle));
	assert_int_equal(parsed.name_size, 9);
	assert_memory_equal(parsed.name, "HOST INFO", 9);
}

static void test_s62_shortest(void **state)
{
	struct discovery_request parsed = { .id = 5 };
	uint8_t buf[DISCOVERY_PAYLOAD_MAX];
	const struct discovery_request request = { DISCOVERY_REGISTER, -3, { 2, 1024 }, "abc", 3 };
	size_t size = discovery_request_build(buf, &request);

	(void)state;
	/* Anything from 20 + length + 1 on is accepted. */
	for (size_t n = 0; n <= size; n++) {
		int r = discovery_request_parse(buf, n, &parsed);

		assert_int_equal(r, n >= 24 ? 0 : -EBADMSG);
	}
	assert_int_equal(parsed.id, -3);
	assert_true(handle_is_equal(parsed.handle, request.handle));
}

static void test_hostile_lengths(void **state)
{
	struct discovery_request request = { .id = 5 };
	struct discovery_reply reply = { .id = 5 };
	uint8_t buf[DISCOVERY_PAYLOAD_MAX + 1] = { 0 };
	static const uint32_t lengths[] = { 280, 281, 0x7fffffff, 0x80000000, 0xffffffff, 0xffffffea };

	(void)state;
	for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
		put_le32(buf + 16, lengths[i]);
		assert_int_equal(discovery_request_parse(buf, DISCOVERY_PAYLOAD_MAX, &request), -EBADMSG);
		assert_int_equal(discovery_reply_parse(buf, DISCOVERY_PAYLOAD_MAX, &reply), -EBADMSG);
	}
	put_le32(buf + 16, 279);
	assert_int_equal(discovery_request_parse(buf, DISCOVERY_PAYLOAD_MAX + 1, &request), -EMSGSIZE);
	assert_int_equal(discovery_reply_parse(buf, DISCOVERY_PAYLOAD_MAX + 1, &reply), -EMSGSIZE);
	/* The NUL must be there. */
	buf[299] = 'x';
	assert_int_equal(discovery_request_parse(buf, DISCOVERY_PAYLOAD_MAX, &request), -EBADMSG);
	assert_int_equal(request.id, 5);
	assert_int_equal(reply.id, 5);
	buf[299] = 0;
	assert_int_equal(discovery_request_parse(buf, DISCOVERY_PAYLOAD_MAX, &request), 0);
	assert_int_equal(request.name_size, 279);
}

static void test_names_that_are_too_long(void **state)
{
	char name[DISCOVERY_NAME_MAX + 1];
	struct discovery_request request = { .name = name, .name_size = sizeof(name) };
	uint8_t buf[DISCOVERY_PAYLOAD_MAX];

	(void)state;
	memset(name, 'x', sizeof(name));
	assert_int_equal(discovery_request_build(buf, &request), 0);
	request.name_size--;
	assert_int_equal(discovery_request_build(buf, &request), 24 + DISCOVERY_NAME_MAX);
}

static void test_s62_reply(void **state)
{
	char text[DISCOVERY_PAYLOAD_MAX];
	struct discovery_reply reply = { 9, VMCI_ERROR_NOT_FOUND, { 2, 1025 }, "no", 2 }, parsed;
	uint8_t buf[DISCOVERY_REPLY_MAX];

	(void)state;
	memset(buf, 0xee, sizeof(buf));
	assert_int_equal(discovery_reply_build(buf, &reply), 24 + 2 + 1);
	assert_int_equal(get_le32(buf), 9);
	assert_int_equal((int32_t)get_le32(buf + 4), -21);
	assert_int_equal(get_le32(buf + 8), 2);
	assert_int_equal(get_le32(buf + 12), 1025);
	assert_int_equal(get_le32(buf + 16), 2);
	assert_memory_equal(buf + 20, "no\0\0\0\0", 7);
	assert_int_equal(discovery_reply_parse(buf, 27, &parsed), 0);
	assert_int_equal(parsed.code, -21);
	assert_memory_equal(parsed.text, "no", 3);
	/* No text, and too much of it. */
	reply.text = NULL;
	reply.text_size = 0;
	assert_int_equal(discovery_reply_build(buf, &reply), 25);
	assert_int_equal(discovery_reply_parse(buf, 25, &parsed), 0);
	assert_int_equal(parsed.text_size, 0);
	memset(text, 't', sizeof(text));
	reply.text = text;
	reply.text_size = sizeof(text);
	assert_int_equal(discovery_reply_build(buf, &reply), DISCOVERY_REPLY_MAX);
	assert_int_equal(discovery_reply_parse(buf, DISCOVERY_REPLY_MAX, &parsed), 0);
	assert_int_equal(parsed.text_size, DISCOVERY_TEXT_MAX);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_s62_example),
		cmocka_unit_test(test_s62_shortest),
		cmocka_unit_test(test_hostile_lengths),
		cmocka_unit_test(test_names_that_are_too_long),
		cmocka_unit_test(test_s62_reply),
	};

	return cmocka_run_group_tests_name("discovery", tests, NULL, NULL);
}
