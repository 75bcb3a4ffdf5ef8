/* SPDX-License-Identifier: BSD-2-Clause */
/* The device firewall. SDK, 9. */
#include "rig.h"

static void test_first_match_wins(void **state)
{
	static const struct brk_filter_rule rules[] = {
		{ BRK_FILTER_ALLOW, BRK_FILTER_DATAGRAM, BRK_FILTER_TO_HOST, 5, 5 },
		{ BRK_FILTER_DENY, BRK_FILTER_DATAGRAM, BRK_FILTER_ANY_DIRECTION, 0, 10 },
		{ BRK_FILTER_ALLOW, BRK_FILTER_ANY_PROTOCOL, BRK_FILTER_TO_GUEST, 7, 7 },
		{ BRK_FILTER_DENY, BRK_FILTER_ANY_PROTOCOL, BRK_FILTER_TO_GUEST, 7, UINT32_MAX },
	};

	(void)state;
#define ALLOWS(protocol, direction, port) \
	brk_filter_allows(rules, 4, BRK_FILTER_##protocol, BRK_FILTER_##direction, port)
	assert_true(ALLOWS(DATAGRAM, TO_HOST, 5));
	assert_false(ALLOWS(DATAGRAM, TO_GUEST, 5));
	assert_false(ALLOWS(DATAGRAM, TO_HOST, 0));
	assert_false(ALLOWS(DATAGRAM, TO_HOST, 10));
	assert_false(ALLOWS(DATAGRAM, TO_GUEST, 7));
	assert_true(ALLOWS(BELL, TO_GUEST, 7));
	assert_false(ALLOWS(BELL, TO_GUEST, 8));
	assert_false(ALLOWS(STREAM, TO_GUEST, UINT32_MAX));
	/* No match: allowed. */
	assert_true(ALLOWS(DATAGRAM, TO_HOST, 11));
	assert_true(ALLOWS(BELL, TO_HOST, 8));
	/* Pairs and the hypervisor have no direction. */
	assert_false(ALLOWS(PAIR, TO_HOST, 8));
	assert_false(ALLOWS(HYPERVISOR, TO_HOST, 8));
	assert_true(brk_filter_allows(NULL, 0, BRK_FILTER_PAIR, BRK_FILTER_TO_HOST, 1));
}

static const struct brk_filter_rule one_way[] = {
	{ BRK_FILTER_DENY, BRK_FILTER_DATAGRAM, BRK_FILTER_TO_GUEST, 2000, 2000 },
	{ BRK_FILTER_DENY, BRK_FILTER_DATAGRAM, BRK_FILTER_TO_HOST, 1, 1 },
	{ BRK_FILTER_DENY, BRK_FILTER_BELL, BRK_FILTER_TO_GUEST, 2000, 2000 },
	{ BRK_FILTER_DENY, BRK_FILTER_PAIR, BRK_FILTER_ANY_DIRECTION, 3000, 3000 },
};

static void test_rules_are_kept(void **state)
{
	struct rig *rig = *state;
	const struct brk_vm config = { .cid = 40, .name = "web", .rules = one_way, .n_rules = 4 };
	struct brk_client *vm = rig_vm(rig, &config, NULL), *a = rig_join(rig, 0, 2), *device;
	struct vmci_handle from = rig_endpoint(rig, a, NULL);
	struct brk_qp qp = { .handle = { 40, 3000 }, .peer = ANY, .produce = 4096 };
	struct thing *pair = rig_thing(rig);
	struct vmci_handle handle;
	uint32_t creator;
	void *found;

	assert_int_equal(rig_send(a, from, handle_make(40, 2000), ""), VMCI_ERROR_NO_ACCESS);
	assert_int_equal(rig->level, LOG_LEVEL_INFO);
	assert_non_null(strstr(rig->line, "may not send to 40:2000: filter"));
	assert_int_equal(rig_send(a, from, handle_make(40, 2001), ""), 24);
	assert_int_equal(rig_send(vm, handle_make(40, 2000), from, ""), 24);
	assert_int_equal(rig_send(vm, handle_make(40, 2000), handle_make(1, 1), ""), VMCI_ERROR_NO_ACCESS);
	assert_int_equal(brk_bell_open(a, handle_make(40, 2000), &found, &device), VMCI_ERROR_NO_ACCESS);
	assert_int_equal(brk_bell_open(a, handle_make(40, 2001), &found, &device), BRK_ASK);
	assert_int_equal(brk_qp_attach(a, &qp, &found, &creator, NULL, &device), VMCI_ERROR_NO_ACCESS);
	qp.peer = 2;
	assert_int_equal(brk_qp_create(vm, &qp, NULL, pair, &handle, NULL), VMCI_ERROR_NO_ACCESS);
	/* The host makes it, for the guest to attach. */
	qp = (struct brk_qp){ .handle = { 2, 3000 }, .peer = ANY, .produce = 4096 };
	assert_int_equal(brk_qp_create(a, &qp, NULL, pair, &handle, NULL), 4);
	qp = (struct brk_qp){ .handle = { 2, 3000 }, .peer = ANY, .consume = 4096 };
	assert_int_equal(brk_qp_attach(vm, &qp, &found, &creator, NULL, &device), VMCI_ERROR_NO_ACCESS);
	qp = (struct brk_qp){ .handle = { 40, 3001 }, .peer = ANY, .consume = 4096 };
	assert_int_equal(brk_qp_attach(a, &qp, &found, &creator, NULL, &device), BRK_ASK);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_first_match_wins),
		cmocka_unit_test_setup_teardown(test_rules_are_kept, rig_setup, rig_teardown),
	};

	return cmocka_run_group_tests_name("broker firewall", tests, NULL, NULL);
}
