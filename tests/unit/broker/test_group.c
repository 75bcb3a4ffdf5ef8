/* SPDX-License-Identifier: BSD-2-Clause */
/* Groups. SDK, 5.4. */
#include "rig.h"

static struct vmci_handle context(uint32_t cid)
{
	return handle_make(cid, 0);
}

static void test_members(void **state)
{
	struct rig *rig = *state;
	struct brk_client *a = rig_join(rig, 5, 100), *b = rig_join(rig, 6, 101);
	struct vmci_handle g, h = rig_endpoint(rig, a, NULL);

	assert_int_equal(brk_group_create(a, 0, NULL, &g, NULL), 0);
	assert_int_equal(g.context, 2);
	assert_true(g.resource >= 1024);
	assert_int_equal(brk_group_is_member(b, g, context(101)), 0);
	assert_int_equal(brk_group_add(b, g, context(101), true), VMCI_ERROR_NO_ACCESS);
	assert_int_equal(brk_group_add(a, g, context(101), true), 0);
	assert_int_equal(brk_group_add(a, g, context(101), true), VMCI_ERROR_ALREADY_EXISTS);
	assert_int_equal(brk_group_is_member(b, g, context(101)), 1);
	assert_int_equal(brk_group_add(a, g, g, true), VMCI_ERROR_INVALID_ARGS);
	assert_int_equal(brk_group_add(a, g, context(7), true), VMCI_ERROR_INVALID_ARGS);
	assert_int_equal(brk_group_add(a, h, context(101), true), VMCI_ERROR_NOT_FOUND);
	assert_int_equal(brk_group_is_member(a, handle_make(2, 5), context(101)), VMCI_ERROR_NOT_FOUND);
	assert_int_equal(brk_group_remove(b, g, context(101)), VMCI_ERROR_NO_ACCESS);
	assert_int_equal(brk_group_remove(a, g, context(101)), 0);
	assert_int_equal(brk_group_remove(a, g, context(101)), VMCI_ERROR_NOT_FOUND);
	/* ASSIGN_CLIENT lets others do it. */
	assert_int_equal(brk_priv_add(a, g, context(101), 1u << VMCI_PRIV_ASSIGN_CLIENT, 0), 0);
	assert_int_equal(brk_group_add(b, g, context(102), true), 0);
	/* One that was not there yet, and one that goes. */
	assert_int_equal(brk_group_is_member(a, g, context(102)), 1);
	rig_leave(rig, rig_join(rig, 7, 102));
	assert_int_equal(brk_group_is_member(a, g, context(102)), 0);
	assert_int_equal(brk_group_destroy(b, g), VMCI_ERROR_NO_ACCESS);
	assert_int_equal(brk_group_destroy(a, g), 0);
	assert_int_equal(brk_group_is_member(a, g, context(101)), VMCI_ERROR_NOT_FOUND);
}

static void test_public(void **state)
{
	struct rig *rig = *state;
	struct brk_client *root = rig_join(rig, 0, 2);
	const struct vmci_handle g = { 2, BRK_PUBLIC_GROUP_RID };

	rig_join(rig, 5, 100);
	assert_int_equal(brk_group_is_member(root, g, context(100)), 1);
	assert_int_equal(brk_group_is_member(root, g, context(2)), 1);
	assert_int_equal(brk_group_is_member(root, g, context(101)), 0);
	assert_int_equal(brk_group_add(root, g, context(101), true), VMCI_ERROR_NO_ACCESS);
	assert_int_equal(brk_group_remove(root, g, context(100)), VMCI_ERROR_NO_ACCESS);
	assert_int_equal(brk_group_destroy(root, g), VMCI_ERROR_NO_ACCESS);
	assert_int_equal(brk_priv_add(root, g, context(100), 1u << VMCI_PRIV_CH_PRIV, 0), VMCI_ERROR_NO_ACCESS);
}

static void test_quotas(void **state)
{
	struct rig *rig = *state;
	struct brk_client *a = rig_join(rig, 5, 100);
	struct vmci_handle g;

	for (unsigned i = 0; i < LIMIT_BRK_GROUPS; i++)
		assert_int_equal(brk_group_create(a, 0, NULL, &g, NULL), 0);
	assert_int_equal(brk_group_create(a, 0, NULL, &g, NULL), VMCI_ERROR_NO_RESOURCES);
	for (uint32_t i = 0; i < LIMIT_BRK_MEMBERS; i++)
		assert_int_equal(brk_group_add(a, g, context(200 + i), true), 0);
	assert_int_equal(brk_group_add(a, g, context(9999), true), VMCI_ERROR_NO_RESOURCES);
	assert_int_equal(brk_group_destroy(a, g), 0);
	assert_int_equal(brk_group_create(a, 0, NULL, &g, NULL), 0);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_members, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_public, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_quotas, rig_setup, rig_teardown),
	};

	return cmocka_run_group_tests_name("broker groups", tests, NULL, NULL);
}
