/* SPDX-License-Identifier: BSD-2-Clause */
/* Events: VMCI reference, 6; transport reference, 2.4. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>

#include "proto/dg.h"
#include "proto/event.h"

static const struct {
	struct event event;
	size_t size;
} known[] = {
	{ { VMCI_EVENT_CTX_ID_UPDATE, 88, { 0, 0 } }, 40 },
	{ { VMCI_EVENT_CTX_REMOVED, 5, { 0, 0 } }, 40 },
	{ { VMCI_EVENT_QP_RESUMED, 0, { 0, 0 } }, 32 },
	{ { VMCI_EVENT_QP_PEER_ATTACH, 2, { 77, 2000 } }, 48 },
	{ { VMCI_EVENT_QP_PEER_DETACH, 2, { 77, 2000 } }, 48 },
};

static void test_s6_sizes_and_header(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
		uint8_t buf[EVENT_MAX_SIZE];
		struct dg_header h;

		memset(buf, 0xee, sizeof(buf));
		assert_int_equal(event_build(buf, 77, &known[i].event), known[i].size);
		h = dg_parse(buf);
		assert_true(handle_is_equal(h.dst, handle_make(77, 0)));
		assert_true(event_is_source(h.src));
		assert_int_equal(h.payload_size, known[i].size - 24);
		/* What drivers accept. */
		assert_true(h.payload_size >= 4 && h.payload_size <= 24);
		assert_int_equal(get_le32(buf + 24), i);
		assert_int_equal(get_le32(buf + 28), 0);
	}
}

static void test_s6_bodies(void **state)
{
	uint8_t buf[EVENT_MAX_SIZE];

	(void)state;
	memset(buf, 0xee, sizeof(buf));
	event_build(buf, 77, &known[0].event);
	assert_int_equal(get_le32(buf + 32), 88);
	assert_int_equal(get_le32(buf + 36), 0);
	memset(buf, 0xee, sizeof(buf));
	event_build(buf, 77, &known[4].event);
	assert_int_equal(get_le32(buf + 32), 77);
	assert_int_equal(get_le32(buf + 36), 2000);
	assert_int_equal(get_le32(buf + 40), 2);
	assert_int_equal(get_le32(buf + 44), 0);
}

static void test_parse_is_the_inverse(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
		uint8_t buf[EVENT_MAX_SIZE + 8] = { 0 };
		struct event parsed;
		size_t size = event_build(buf, 77, &known[i].event);

		assert_int_equal(event_parse(buf, size, &parsed), 0);
		assert_int_equal(parsed.id, known[i].event.id);
		assert_int_equal(parsed.context, known[i].event.context);
		assert_true(handle_is_equal(parsed.handle, known[i].event.handle));
		for (size_t n = 24; n < size; n++)
			assert_int_equal(event_parse(buf, n, &parsed), -EBADMSG);
		assert_int_equal(event_parse(buf, size + 8, &parsed), 0);
	}
}

static void test_parse_refuses_what_is_no_event(void **state)
{
	struct event parsed = { .id = 99 };
	uint8_t buf[EVENT_MAX_SIZE];
	size_t size;

	(void)state;
	size = event_build(buf, 77, &known[3].event);
	put_le32(buf + 24, 5);
	assert_int_equal(event_parse(buf, size, &parsed), -EBADMSG);
	put_le32(buf + 24, 0xffffffff);
	assert_int_equal(event_parse(buf, size, &parsed), -EBADMSG);
	put_le32(buf + 24, 3);
	put_le32(buf + 4, 1);
	assert_int_equal(event_parse(buf, size, &parsed), -EBADMSG);
	put_le32(buf + 4, 0);
	put_le32(buf + 8, 2);
	assert_int_equal(event_parse(buf, size, &parsed), -EBADMSG);
	assert_int_equal(parsed.id, 99);
}

static void test_unknown_kind_is_not_built(void **state)
{
	const struct event bad = { .id = 5 };
	uint8_t buf[EVENT_MAX_SIZE];

	(void)state;
	assert_int_equal(event_build(buf, 77, &bad), 0);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_s6_sizes_and_header),
		cmocka_unit_test(test_s6_bodies),
		cmocka_unit_test(test_parse_is_the_inverse),
		cmocka_unit_test(test_parse_refuses_what_is_no_event),
		cmocka_unit_test(test_unknown_kind_is_not_built),
	};

	return cmocka_run_group_tests_name("proto events", tests, NULL, NULL);
}
