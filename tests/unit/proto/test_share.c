/* SPDX-License-Identifier: BSD-2-Clause */
/* The service for shared memory: its datagrams. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "proto/share.h"

static const struct share_request request = {
	.version = SHARE_VERSION, .action = SHARE_ATTACH, .id = 0x1122334455667788, .handle = { 42, 0x40000001 },
	.bytes = 0x99aabbccddeeff00,
};

static void test_request(void **state)
{
	static const uint8_t wire[] = {
		1, 0, 2, 0, 0, 0, 0, 0, 0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, 42, 0, 0, 0, 1, 0, 0, 0x40,
		0, 0xff, 0xee, 0xdd, 0xcc, 0xbb, 0xaa, 0x99,
	};
	uint8_t buf[SHARE_REQUEST_SIZE + 8] = { 0 };
	struct share_request back;

	(void)state;
	share_request_build(buf, &request);
	assert_int_equal(sizeof(wire), SHARE_REQUEST_SIZE);
	assert_memory_equal(buf, wire, sizeof(wire));
	assert_int_equal(share_request_parse(buf, SHARE_REQUEST_SIZE, &back), 0);
	assert_int_equal(back.version, request.version);
	assert_int_equal(back.action, request.action);
	assert_int_equal(back.id, request.id);
	assert_true(handle_is_equal(back.handle, request.handle));
	assert_int_equal(back.bytes, request.bytes);
	/* A later version may have more. */
	assert_int_equal(share_request_parse(buf, sizeof(buf), &back), 0);
}

static void test_requests_that_are_too_short(void **state)
{
	struct share_request back = { .version = 77 };

	(void)state;
	for (size_t size = 0; size < SHARE_REQUEST_SIZE; size++) {
		/* What is behind it is not there. */
		uint8_t *buf = malloc(size ? size : 1);

		assert_non_null(buf);
		memset(buf, 1, size);
		assert_int_equal(share_request_parse(buf, size, &back), -EBADMSG);
		assert_int_equal(back.version, 77);
		free(buf);
	}
}

static void test_reply(void **state)
{
	static struct share_reply reply = {
		.action = SHARE_OWNERS, .code = VMCI_ERROR_NO_ACCESS, .id = 7, .handle = { 1, 2 }, .bytes = 3,
		.offset = 4096,
	}, back;
	uint8_t buf[SHARE_REPLY_MAX + 4];
	size_t size;

	(void)state;
	for (unsigned n = 0; n <= SHARE_PORTS_MAX; n += 64) {
		reply.n_ports = n;
		for (unsigned i = 0; i < n; i++)
			reply.port[i] = 1024 + i;
		memset(buf, 0xff, sizeof(buf));
		size = share_reply_build(buf, &reply);
		assert_int_equal(size, SHARE_REPLY_SIZE + 4 * n);
		assert_int_equal(buf[size], 0xff);
		assert_int_equal(share_reply_parse(buf, size, &back), 0);
		assert_int_equal(back.action, SHARE_OWNERS);
		assert_int_equal(back.code, VMCI_ERROR_NO_ACCESS);
		assert_int_equal(back.id, 7);
		assert_int_equal(back.bytes, 3);
		assert_int_equal(back.offset, 4096);
		assert_int_equal(back.n_ports, n);
		assert_memory_equal(back.port, reply.port, 4 * n);
	}
}

static void test_replies_that_are_none(void **state)
{
	static struct share_reply reply, back;
	uint8_t buf[SHARE_REPLY_MAX + 4] = { 0 };

	(void)state;
	share_reply_build(buf, &reply);
	for (size_t size = 0; size < SHARE_REPLY_SIZE; size++) {
		uint8_t *copy = malloc(size ? size : 1);

		assert_non_null(copy);
		memcpy(copy, buf, size);
		assert_int_equal(share_reply_parse(copy, size, &back), -EBADMSG);
		free(copy);
	}
	for (size_t n = 1; n < 4; n++)
		assert_int_equal(share_reply_parse(buf, SHARE_REPLY_SIZE + n, &back), -EBADMSG);
	assert_int_equal(share_reply_parse(buf, SHARE_REPLY_MAX + 4, &back), -EBADMSG);
	for (int32_t code = -50; code < 10; code++) {
		put_le32(buf + 4, (uint32_t)code);
		assert_int_equal(share_reply_parse(buf, SHARE_REPLY_SIZE, &back),
				 code >= VMCI_ERROR_WOULD_BLOCK && code <= VMCI_SUCCESS_LAST_DETACH ? 0 : -EBADMSG);
	}
	put_le32(buf + 4, 0);
	put_le16(buf, SHARE_VERSION + 1);
	assert_int_equal(share_reply_parse(buf, SHARE_REPLY_SIZE, &back), -EBADMSG);
}

static void test_names(void **state)
{
	(void)state;
	assert_string_equal(share_action_to_string(SHARE_CREATE), "create");
	assert_string_equal(share_action_to_string(SHARE_OWNERS), "owners");
	assert_string_equal(share_action_to_string(SHARE_ACTION_NUM), "?");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_request),
		cmocka_unit_test(test_requests_that_are_too_short),
		cmocka_unit_test(test_reply),
		cmocka_unit_test(test_replies_that_are_none),
		cmocka_unit_test(test_names),
	};

	return cmocka_run_group_tests_name("shared memory service", tests, NULL, NULL);
}
