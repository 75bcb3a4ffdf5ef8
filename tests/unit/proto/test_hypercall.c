/* SPDX-License-Identifier: BSD-2-Clause */
/* Codecs of hypercalls: VMCI reference, 4.3 and 12; sizes and offsets as its tables have them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>

#include "proto/dg.h"
#include "proto/hypercall.h"

static void check_header(const uint8_t *dg, uint32_t rid, size_t size)
{
	struct dg_header h = dg_parse(dg);

	assert_true(handle_is_equal(h.dst, handle_make(0, rid)));
	assert_false(handle_is_valid(h.src));
	assert_int_equal(h.payload_size, size - VMCI_DG_HEADER_SIZE);
}

static void test_s4_3_resources_query(void **state)
{
	const struct hc_query query = { .count = 2, .rid = { 1, 10 } };
	uint8_t buf[HC_QUERY_MAX_SIZE];
	struct hc_query parsed;
	size_t size;

	(void)state;
	memset(buf, 0xee, sizeof(buf));
	size = hc_query_build(buf, &query);
	assert_int_equal(size, 40);
	check_header(buf, 0, size);
	assert_int_equal(get_le32(buf + 24), 2);
	assert_int_equal(get_le32(buf + 28), 0);
	assert_int_equal(get_le32(buf + 32), 1);
	assert_int_equal(get_le32(buf + 36), 10);
	assert_int_equal(hc_query_parse(buf, size, &parsed), 0);
	assert_int_equal(parsed.count, 2);
	assert_int_equal(parsed.rid[1], 10);
	for (size_t n = 24; n < size; n++)
		assert_int_equal(hc_query_parse(buf, n, &parsed), -EBADMSG);
}

static void test_s4_3_resources_query_has_at_most_31(void **state)
{
	struct hc_query query = { .count = 31 }, parsed = { .count = 99 };
	uint8_t buf[HC_QUERY_MAX_SIZE + 8];

	(void)state;
	assert_int_equal(hc_query_build(buf, &query), 156);
	assert_int_equal(hc_query_parse(buf, 156, &parsed), 0);
	put_le32(buf + 24, 32);
	parsed.count = 99;
	assert_int_equal(hc_query_parse(buf, sizeof(buf), &parsed), -EBADMSG);
	assert_int_equal(parsed.count, 99);
	put_le32(buf + 24, 0x40000000);		/* times 4 is 0 */
	assert_int_equal(hc_query_parse(buf, sizeof(buf), &parsed), -EBADMSG);
}

static void test_s4_3_words(void **state)
{
	uint8_t buf[HC_WORD_SIZE];
	uint32_t word;

	(void)state;
	assert_int_equal(hc_word_build(buf, VMCI_HC_SET_NOTIFY_BITMAP, 0x12345), 32);
	check_header(buf, 2, 32);
	put_le32(buf + 28, 0xffffffff);		/* garbage of old drivers is ignored */
	assert_int_equal(hc_word_parse(buf, 32, &word), 0);
	assert_int_equal(word, 0x12345);
	for (size_t n = 24; n < 32; n++)
		assert_int_equal(hc_word_parse(buf, n, &word), -EBADMSG);
}

static void test_s4_3_handles(void **state)
{
	uint8_t buf[HC_HANDLE_SIZE];
	struct vmci_handle handle = { 9, 9 };

	(void)state;
	assert_int_equal(hc_handle_build(buf, VMCI_HC_QUEUEPAIR_DETACH, handle_make(77, 2000)), 32);
	check_header(buf, 11, 32);
	assert_int_equal(get_le32(buf + 24), 77);
	assert_int_equal(get_le32(buf + 28), 2000);
	for (size_t n = 24; n < 32; n++)
		assert_int_equal(hc_handle_parse(buf, n, &handle), -EBADMSG);
	assert_true(handle_is_equal(handle, handle_make(9, 9)));
	assert_int_equal(hc_handle_parse(buf, 32, &handle), 0);
	assert_true(handle_is_equal(handle, handle_make(77, 2000)));
}

static void test_s4_3_doorbell_link(void **state)
{
	const struct hc_link link = { .handle = { 77, 2000 }, .index = 0x123456789a };
	uint8_t buf[HC_LINK_SIZE];
	struct hc_link parsed;

	(void)state;
	assert_int_equal(hc_link_build(buf, &link), 40);
	check_header(buf, 3, 40);
	assert_int_equal(get_le64(buf + 32), 0x123456789a);
	for (size_t n = 24; n < 40; n++)
		assert_int_equal(hc_link_parse(buf, n, &parsed), -EBADMSG);
	assert_int_equal(hc_link_parse(buf, 40, &parsed), 0);
	assert_true(handle_is_equal(parsed.handle, link.handle));
	assert_int_equal(parsed.index, link.index);
}

static void test_s4_3_queuepair_alloc(void **state)
{
	uint8_t list[16], buf[VMCI_QPALLOC_LIST_OFFSET + sizeof(list)];
	const struct hc_qp_alloc alloc = { .handle = { 77, 2000 }, .peer = 2, .flags = 1, .produce = 4096,
					   .consume = 1, .page_count = 4, .list = list, .list_size = 16 };
	struct hc_qp_alloc parsed;

	(void)state;
	for (uint32_t i = 0; i < 4; i++)
		put_le32(list + 4 * i, 0x80000000 + i);
	assert_int_equal(hc_qp_alloc_build(buf, &alloc), 80);
	check_header(buf, 10, 80);
	assert_int_equal(get_le32(buf + 24), 77);
	assert_int_equal(get_le32(buf + 28), 2000);
	assert_int_equal(get_le32(buf + 32), 2);
	assert_int_equal(get_le32(buf + 36), 1);
	assert_int_equal(get_le64(buf + 40), 4096);
	assert_int_equal(get_le64(buf + 48), 1);
	assert_int_equal(get_le64(buf + 56), 4);
	assert_int_equal(hc_qp_alloc_parse(buf, 80, &parsed), 0);
	assert_int_equal(parsed.peer, 2);
	assert_int_equal(parsed.flags, 1);
	assert_int_equal(parsed.produce, 4096);
	assert_int_equal(parsed.consume, 1);
	assert_int_equal(parsed.page_count, 4);
	assert_int_equal(parsed.list_size, 16);
	for (uint32_t i = 0; i < 4; i++)
		assert_int_equal(hc_qp_alloc_page(&parsed, i), 0x80000000 + i);
	for (size_t n = 24; n < 64; n++)
		assert_int_equal(hc_qp_alloc_parse(buf, n, &parsed), -EBADMSG);
	assert_int_equal(hc_qp_alloc_parse(buf, 64, &parsed), 0);
	assert_int_equal(parsed.list_size, 0);
}

static void test_s4_3_get_context_id_has_no_payload(void **state)
{
	uint8_t buf[VMCI_DG_HEADER_SIZE];

	(void)state;
	assert_int_equal(hc_empty_build(buf, VMCI_HC_GET_CONTEXT_ID), 24);
	check_header(buf, 1, 24);
}

static void test_names(void **state)
{
	(void)state;
	assert_string_equal(hc_name(VMCI_HC_QUEUEPAIR_ALLOC), "QUEUEPAIR_ALLOC");
	for (uint32_t rid = 0; rid < 40; rid++)
		assert_non_null(hc_name(rid));
	assert_string_equal(hc_name(12), "?");
	assert_string_equal(hc_name(17), "?");
	assert_string_equal(hc_name(0xffffffff), "?");
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_s4_3_resources_query),
		cmocka_unit_test(test_s4_3_resources_query_has_at_most_31),
		cmocka_unit_test(test_s4_3_words),
		cmocka_unit_test(test_s4_3_handles),
		cmocka_unit_test(test_s4_3_doorbell_link),
		cmocka_unit_test(test_s4_3_queuepair_alloc),
		cmocka_unit_test(test_s4_3_get_context_id_has_no_payload),
		cmocka_unit_test(test_names),
	};

	return cmocka_run_group_tests_name("proto hypercalls", tests, NULL, NULL);
}
