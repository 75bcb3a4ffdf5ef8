/* SPDX-License-Identifier: BSD-2-Clause */
/* Hypercalls: VMCI reference, 4.2 and 4.3. Queue pairs and doorbells have tests of their own. */
#include "rig.h"

static int32_t call(struct rig *rig, uint32_t rid, size_t payload)
{
	uint8_t buf[256];

	make_dg(buf, handle_make(0, rid), handle_make(VMCI_INVALID_ID, VMCI_INVALID_ID),
		VMCI_DG_HEADER_SIZE + payload, 0);
	memset(buf + VMCI_DG_HEADER_SIZE, 0, payload);
	return send_dg(rig, buf, VMCI_DG_HEADER_SIZE + payload);
}

static int32_t query(struct rig *rig, const uint32_t *rid, uint32_t count)
{
	struct hc_query q = { .count = count };
	uint8_t buf[HC_QUERY_MAX_SIZE];

	memcpy(q.rid, rid, count * sizeof(*rid));
	return send_dg(rig, buf, hc_query_build(buf, &q));
}

static void test_s2_2_query_for_get_context_id_returns_exactly_1(void **state)
{
	assert_int_equal(query(*state, (const uint32_t[]){ VMCI_HC_GET_CONTEXT_ID }, 1), 1);
}

static void test_s4_3_query_ignores_padding(void **state)
{
	const struct hc_query q = { .count = 1, .rid = { 1 } };
	uint8_t buf[HC_QUERY_MAX_SIZE];
	size_t size = hc_query_build(buf, &q);

	put_le32(buf + 28, 0xdeadbeef);
	assert_int_equal(size, 36);
	assert_int_equal(send_dg(*state, buf, size), 1);
}

static void test_s4_3_query_answers_a_bit_for_each(void **state)
{
	uint32_t rid[31];

	for (uint32_t i = 0; i < 31; i++)
		rid[i] = i;
	assert_int_equal(query(*state, rid, 31), 0xf3f);	/* 0-5, 8-11 */
	for (uint32_t i = 0; i < 31; i++)
		rid[i] = VMCI_HC_QUEUEPAIR_ALLOC;
	assert_int_equal(query(*state, rid, 31), 0x7fffffff);
	assert_int_equal(query(*state, rid, 0), 0);
	rid[0] = 0xffffffff;
	assert_int_equal(query(*state, rid, 2), 2);
}

static void test_s4_3_query_takes_at_most_31(void **state)
{
	struct rig *rig = *state;
	uint8_t buf[24 + 8 + 4 * 40] = { 0 };

	make_dg(buf, handle_make(0, 0), handle_make(VMCI_INVALID_ID, VMCI_INVALID_ID), sizeof(buf), 0);
	put_le32(buf + 24, 32);
	assert_int_equal(send_dg(rig, buf, sizeof(buf)), VMCI_ERROR_INVALID_ARGS);
	put_le32(buf + 24, 0xffffffff);
	assert_int_equal(send_dg(rig, buf, sizeof(buf)), VMCI_ERROR_INVALID_ARGS);
}

static void test_s4_3_query_whose_list_is_not_there(void **state)
{
	struct rig *rig = *state;
	uint8_t buf[36];

	make_dg(buf, handle_make(0, 0), handle_make(VMCI_INVALID_ID, VMCI_INVALID_ID), sizeof(buf), 0);
	put_le32(buf + 24, 2);
	assert_int_equal(send_dg(rig, buf, sizeof(buf)), VMCI_ERROR_INVALID_ARGS);
}

static void test_s4_3_get_context_id(void **state)
{
	assert_int_equal(call(*state, VMCI_HC_GET_CONTEXT_ID, 0), CID);
}

static void test_s4_3_large_context_id_is_no_error(void **state)
{
	const struct dev_config config = { .cid = 0xfffffff0 };
	struct rig *rig = rig_new(&config);

	(void)state;
	rig->mmio = true;
	assert_int_equal((uint32_t)call(rig, VMCI_HC_GET_CONTEXT_ID, 0), 0xfffffff0);
	assert_int_equal(in32(rig, VMCI_REG_RESULT_HIGH), 0);
	rig_free(rig);
}

static void test_s4_2_unknown_resources_answer_invalid_resource(void **state)
{
	static const uint32_t rid[] = { 12, 13, 14, 15, 16, 17, 18, 1000, 0x7fffffff, 0xfffffffe };

	for (size_t i = 0; i < sizeof(rid) / sizeof(rid[0]); i++)
		assert_int_equal(call(*state, rid[i], 32), VMCI_ERROR_INVALID_RESOURCE);
}

static void test_s4_2_stream_to_the_hypervisor_ends_at_once(void **state)
{
	struct rig *rig = *state;
	uint8_t buf[56];

	/* What open-vm-tools sends first: source completed by the driver, or not. */
	make_dg(buf, handle_make(0, VMCI_HC_STREAM), handle_make(CID, 1), 56, 0);
	assert_int_equal(send_dg(rig, buf, 56), VMCI_ERROR_INVALID_RESOURCE);
	make_dg(buf, handle_make(0, VMCI_HC_STREAM), handle_make(VMCI_INVALID_ID, 1), 56, 0);
	assert_int_equal(send_dg(rig, buf, 56), VMCI_ERROR_INVALID_RESOURCE);
	assert_int_equal(rig->datagrams, 0);
}

static void test_s4_3_well_known_maps_are_obsolete(void **state)
{
	assert_int_equal(call(*state, VMCI_HC_DATAGRAM_REQUEST_MAP, 8), VMCI_ERROR_OBSOLETE);
	assert_int_equal(call(*state, VMCI_HC_DATAGRAM_REMOVE_MAP, 8), VMCI_ERROR_OBSOLETE);
}

static void test_s4_3_event_subscriptions_answer_0(void **state)
{
	assert_int_equal(call_word(*state, VMCI_HC_EVENT_SUBSCRIBE, 4), 0);
	assert_int_equal(call_word(*state, VMCI_HC_EVENT_UNSUBSCRIBE, 4), 0);
}

static void test_s4_3_payloads_that_are_too_short(void **state)
{
	static const struct {
		uint32_t rid;
		size_t need;
	} call_of[] = {
		{ VMCI_HC_RESOURCES_QUERY, 8 },	  { VMCI_HC_SET_NOTIFY_BITMAP, 8 },
		{ VMCI_HC_DOORBELL_LINK, 16 },	  { VMCI_HC_DOORBELL_UNLINK, 8 },
		{ VMCI_HC_DOORBELL_NOTIFY, 8 },	  { VMCI_HC_EVENT_SUBSCRIBE, 8 },
		{ VMCI_HC_EVENT_UNSUBSCRIBE, 8 }, { VMCI_HC_QUEUEPAIR_ALLOC, 40 },
		{ VMCI_HC_QUEUEPAIR_DETACH, 8 },
	};

	for (size_t i = 0; i < sizeof(call_of) / sizeof(call_of[0]); i++)
		for (size_t n = 0; n < call_of[i].need; n++)
			assert_int_equal(call(*state, call_of[i].rid, n), VMCI_ERROR_INVALID_ARGS);
}

static void test_s11_payload_may_be_longer(void **state)
{
	struct rig *rig = *state;
	uint8_t buf[64] = { 0 };

	make_dg(buf, handle_make(0, VMCI_HC_SET_NOTIFY_BITMAP), handle_make(VMCI_INVALID_ID, VMCI_INVALID_ID),
		40, 1);
	put_le32(buf + 24, BITMAP_PPN);
	assert_int_equal(send_dg(rig, buf, 40), 0);
}

static void test_s4_2_guest_without_notifications_gets_errors_for_2_to_5(void **state)
{
	struct rig *rig = *state;

	out32(rig, VMCI_REG_CAPS, 0x4);
	for (uint32_t rid = 2; rid <= 5; rid++)
		assert_int_equal(call(rig, rid, 64), VMCI_ERROR_UNAVAILABLE);
	assert_int_equal(query(rig, (const uint32_t[]){ 1, 2, 3, 4, 5, 10 }, 6), 0x21);
}

static void test_s4_3_doorbell_notify_goes_to_its_context(void **state)
{
	struct rig *rig = *state;

	assert_int_equal(call_handle(rig, VMCI_HC_DOORBELL_NOTIFY, handle_make(2, 2000)), 0);
	assert_int_equal(rig->doorbells, 1);
	assert_true(handle_is_equal(rig->doorbell, handle_make(2, 2000)));
	assert_int_equal(call_handle(rig, VMCI_HC_DOORBELL_NOTIFY, handle_make(CID + 1, 2000)), 0);
	assert_int_equal(rig->doorbells, 2);
	assert_int_equal(call_handle(rig, VMCI_HC_DOORBELL_NOTIFY, handle_make(CID, 2000)),
			 VMCI_ERROR_NOT_FOUND);
	assert_int_equal(call_handle(rig, VMCI_HC_DOORBELL_NOTIFY, handle_make(0, 2000)),
			 VMCI_ERROR_NOT_FOUND);
	assert_int_equal(call_handle(rig, VMCI_HC_DOORBELL_NOTIFY, handle_make(1, 2000)),
			 VMCI_ERROR_NOT_FOUND);
	assert_int_equal(call_handle(rig, VMCI_HC_DOORBELL_NOTIFY, handle_make(VMCI_INVALID_ID, 1)),
			 VMCI_ERROR_INVALID_ARGS);
	assert_int_equal(call_handle(rig, VMCI_HC_DOORBELL_NOTIFY, handle_make(2, VMCI_INVALID_ID)),
			 VMCI_ERROR_INVALID_ARGS);
	assert_int_equal(rig->doorbells, 2);
}

#define ON(path, f) { #f " (" #path ")", f, setup_##path, teardown, NULL }
#define BOTH(f) ON(mmio, f), ON(ports, f)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		BOTH(test_s2_2_query_for_get_context_id_returns_exactly_1),
		BOTH(test_s4_3_query_ignores_padding),
		BOTH(test_s4_3_query_answers_a_bit_for_each),
		BOTH(test_s4_3_query_takes_at_most_31),
		BOTH(test_s4_3_query_whose_list_is_not_there),
		BOTH(test_s4_3_get_context_id),
		cmocka_unit_test(test_s4_3_large_context_id_is_no_error),
		BOTH(test_s4_2_unknown_resources_answer_invalid_resource),
		BOTH(test_s4_2_stream_to_the_hypervisor_ends_at_once),
		BOTH(test_s4_3_well_known_maps_are_obsolete),
		BOTH(test_s4_3_event_subscriptions_answer_0),
		BOTH(test_s4_3_payloads_that_are_too_short),
		BOTH(test_s11_payload_may_be_longer),
		BOTH(test_s4_2_guest_without_notifications_gets_errors_for_2_to_5),
		BOTH(test_s4_3_doorbell_notify_goes_to_its_context),
	};

	return cmocka_run_group_tests_name("device hypercalls", tests, NULL, NULL);
}
