/* SPDX-License-Identifier: BSD-2-Clause */
/* Rights. SDK, 5.1 to 5.3, and 10.2. */
#include "rig.h"

#define SEND (1u << VMCI_PRIV_DG_SEND)
#define CHANGE (1u << VMCI_PRIV_CH_PRIV)
#define DESTROY (1u << VMCI_PRIV_DESTROY_RESOURCE)
#define ATTACH (1u << VMCI_PRIV_SM_ATTACH)

static struct vmci_handle context(uint32_t cid)
{
	return handle_make(cid, 0);
}

static const struct vmci_handle everybody = { 2, BRK_PUBLIC_GROUP_RID };

static void test_s102_open_until_the_first_grant(void **state)
{
	struct rig *rig = *state;
	struct brk_client *a = rig_join(rig, 5, 100), *b = rig_join(rig, 6, 101), *c = rig_join(rig, 7, 102);
	struct vmci_handle h = rig_endpoint(rig, a, NULL), from_b = rig_endpoint(rig, b, NULL);
	struct vmci_handle from_c = rig_endpoint(rig, c, NULL), own;

	assert_int_equal(rig_send(b, from_b, h, ""), 24);
	assert_int_equal(brk_priv_check(c, h, context(101), SEND), VMCI_SUCCESS_ACCESS_GRANTED);
	assert_int_equal(brk_priv_add(a, h, context(102), SEND, 0), 0);
	assert_int_equal(rig_send(b, from_b, h, ""), VMCI_ERROR_NO_ACCESS);
	assert_int_equal(rig->level, LOG_LEVEL_INFO);
	assert_non_null(strstr(rig->line, "no grant"));
	assert_int_equal(brk_priv_check(c, h, context(101), SEND), VMCI_ERROR_NO_ACCESS);
	assert_int_equal(rig_send(c, from_c, h, ""), 24);
	own = rig_endpoint(rig, rig_join(rig, 5, 100), NULL);
	assert_int_equal(rig_send(rig->clients[3], own, h, ""), 24);
	/* Taking it back does not open it again. */
	assert_int_equal(brk_priv_remove(a, h, context(102), SEND), 0);
	assert_int_equal(rig_send(c, from_c, h, ""), VMCI_ERROR_NO_ACCESS);
	assert_int_equal(brk_priv_remove(a, h, context(102), SEND), VMCI_ERROR_NOT_FOUND);
}

static void test_s52_arguments(void **state)
{
	struct rig *rig = *state;
	struct brk_client *a = rig_join(rig, 5, 100), *b = rig_join(rig, 6, 101);
	struct vmci_handle h = rig_endpoint(rig, a, NULL), region, bell;

	assert_int_equal(brk_shm_create(a, ANY, 1, 0, NULL, rig_thing(rig), &region, NULL), 0);
	assert_int_equal(brk_bell_create(a, ANY, NULL, rig_thing(rig), &bell, NULL), 0);
	assert_int_equal(brk_priv_add(a, h, context(101), 0, 0), VMCI_ERROR_INVALID_ARGS);
	assert_int_equal(brk_priv_remove(a, h, context(101), 0), VMCI_ERROR_INVALID_ARGS);
	assert_int_equal(brk_priv_check(a, h, context(101), 0), VMCI_ERROR_INVALID_ARGS);
	assert_int_equal(brk_priv_add(a, handle_make(100, 5), context(101), SEND, 0), VMCI_ERROR_INVALID_ARGS);
	assert_int_equal(brk_priv_add(a, handle_make(77, 5), context(101), SEND, 0), VMCI_ERROR_INVALID_ARGS);
	assert_int_equal(brk_priv_add(a, h, handle_make(ANY, ANY), SEND, 0), VMCI_ERROR_INVALID_ARGS);
	assert_int_equal(brk_priv_add(a, h, context(ANY), SEND, 0), VMCI_ERROR_INVALID_ARGS);
	assert_int_equal(brk_priv_add(a, h, context(7), SEND, 0), VMCI_ERROR_INVALID_ARGS);
	assert_int_equal(brk_priv_add(a, h, handle_make(2, 4000), SEND, 0), VMCI_ERROR_NOT_FOUND);
	assert_int_equal(brk_priv_add(a, h, h, SEND, 0), VMCI_ERROR_NOT_FOUND);
	assert_int_equal(brk_priv_check(a, h, everybody, SEND), VMCI_ERROR_INVALID_ARGS);
	/* Not valid for such a resource. */
	assert_int_equal(brk_priv_add(a, h, context(101), ATTACH, 0), VMCI_ERROR_INVALID_PRIV);
	assert_int_equal(brk_priv_add(a, h, context(101), SEND, 1u << VMCI_PRIV_DG_CREATE), VMCI_ERROR_INVALID_PRIV);
	assert_int_equal(brk_priv_add(a, h, context(101), SEND | UINT64_C(1) << 40, 0), VMCI_ERROR_INVALID_PRIV);
	assert_int_equal(brk_priv_check(a, h, context(101), 1u << VMCI_PRIV_NUM), VMCI_ERROR_INVALID_PRIV);
	assert_int_equal(brk_priv_add(a, region, context(101), SEND, 0), VMCI_ERROR_INVALID_PRIV);
	assert_int_equal(brk_priv_add(a, bell, context(101), SEND, 0), VMCI_ERROR_INVALID_PRIV);
	assert_int_equal(brk_priv_add(a, bell, context(101), CHANGE, 0), 0);
	assert_int_equal(brk_priv_add(a, region, context(101), ATTACH, 0), 0);
	/* None of the failures has closed it. */
	assert_int_equal(brk_priv_check(a, h, context(101), SEND), VMCI_SUCCESS_ACCESS_GRANTED);
	/* What is in both masks is denied. */
	assert_int_equal(brk_priv_add(a, h, context(101), SEND | CHANGE, SEND), 0);
	assert_int_equal(brk_priv_check(b, h, context(101), SEND), VMCI_ERROR_NO_ACCESS);
	assert_int_equal(brk_priv_check(b, h, context(101), CHANGE), VMCI_SUCCESS_ACCESS_GRANTED);
	assert_int_equal(brk_priv_check(b, h, context(101), SEND | CHANGE), VMCI_ERROR_NO_ACCESS);
	/* An entry is updated. */
	assert_int_equal(brk_priv_add(a, h, context(101), SEND, 0), 0);
	assert_int_equal(brk_priv_check(b, h, context(101), SEND | CHANGE), VMCI_SUCCESS_ACCESS_GRANTED);
}

static void test_who_may_change(void **state)
{
	struct rig *rig = *state;
	struct brk_client *a = rig_join(rig, 5, 2), *same = rig_join(rig, 5, 2), *other = rig_join(rig, 6, 2);
	struct brk_client *root = rig_join(rig, 0, 2), *far = rig_join(rig, 5, 100);
	struct vmci_handle h = rig_endpoint(rig, a, NULL);

	assert_int_equal(brk_priv_add(other, h, context(101), SEND, 0), VMCI_ERROR_NO_ACCESS);
	assert_int_equal(brk_priv_add(far, h, context(101), SEND, 0), VMCI_ERROR_NO_ACCESS);
	assert_int_equal(brk_priv_add(same, h, context(101), SEND, 0), 0);
	assert_int_equal(brk_priv_add(root, h, context(102), SEND, 0), 0);
	assert_int_equal(brk_priv_check(far, h, context(2), CHANGE | DESTROY), VMCI_SUCCESS_ACCESS_GRANTED);
	assert_int_equal(brk_priv_check(far, h, context(100), CHANGE), VMCI_ERROR_NO_ACCESS);
	/* CH_PRIV can be given. */
	assert_int_equal(brk_priv_add(a, h, context(100), CHANGE, 0), 0);
	assert_int_equal(brk_priv_remove_all(far, h, context(101)), 0);
	assert_int_equal(brk_priv_remove_all(far, h, context(101)), VMCI_ERROR_NOT_FOUND);
	assert_int_equal(brk_priv_remove(far, h, context(100), CHANGE), 0);
	assert_int_equal(brk_priv_add(far, h, context(101), SEND, 0), VMCI_ERROR_NO_ACCESS);
}

static void test_s53_groups(void **state)
{
	struct rig *rig = *state;
	struct brk_client *a = rig_join(rig, 5, 100), *b = rig_join(rig, 6, 101);
	struct vmci_handle h = rig_endpoint(rig, a, NULL), first, second;

	rig_join(rig, 7, 102);
	assert_int_equal(brk_group_create(a, 0, NULL, &first, NULL), 0);
	assert_int_equal(brk_group_create(a, 0, NULL, &second, NULL), 0);
	assert_int_equal(brk_group_add(a, second, context(101), true), 0);
	assert_int_equal(brk_group_add(a, first, context(101), true), 0);
	assert_int_equal(brk_group_add(a, first, context(102), false), 0);
	assert_int_equal(brk_priv_add(a, h, first, SEND, 0), 0);
	assert_int_equal(brk_priv_check(b, h, context(101), SEND), VMCI_SUCCESS_ACCESS_GRANTED);
	/* May not be given privileges through the group. */
	assert_int_equal(brk_priv_check(b, h, context(102), SEND), VMCI_ERROR_NO_ACCESS);
	/* The group joined first decides, whichever was granted first. */
	assert_int_equal(brk_priv_add(a, h, second, 0, SEND), 0);
	assert_int_equal(brk_priv_check(b, h, context(101), SEND), VMCI_ERROR_NO_ACCESS);
	/* If it says something about it. */
	assert_int_equal(brk_priv_remove(a, h, second, SEND), 0);
	assert_int_equal(brk_priv_add(a, h, second, CHANGE, 0), 0);
	assert_int_equal(brk_priv_check(b, h, context(101), SEND | CHANGE), VMCI_SUCCESS_ACCESS_GRANTED);
	/* Everybody has joined the public group first of all; the own entry goes before. */
	assert_int_equal(brk_priv_add(a, h, everybody, 0, SEND), 0);
	assert_int_equal(brk_priv_check(b, h, context(101), SEND), VMCI_ERROR_NO_ACCESS);
	assert_int_equal(brk_priv_add(a, h, context(101), SEND, 0), 0);
	assert_int_equal(brk_priv_check(b, h, context(101), SEND), VMCI_SUCCESS_ACCESS_GRANTED);
	assert_int_equal(brk_priv_remove_all(a, h, everybody), 0);
	assert_int_equal(brk_priv_remove_all(a, h, context(101)), 0);
	/* A group that is gone gives nothing, and its successor neither. */
	assert_int_equal(brk_group_destroy(a, first), 0);
	assert_int_equal(brk_priv_check(b, h, context(101), SEND), VMCI_ERROR_NO_ACCESS);
	assert_int_equal(brk_priv_check(b, h, context(101), CHANGE), VMCI_SUCCESS_ACCESS_GRANTED);
	assert_int_equal(brk_priv_add(a, h, everybody, SEND, 0), 0);
	assert_int_equal(brk_priv_check(b, h, context(4711), SEND), VMCI_SUCCESS_ACCESS_GRANTED);
}

static void test_a_grant_waits_for_its_context_and_dies_with_it(void **state)
{
	struct rig *rig = *state;
	struct brk_client *a = rig_join(rig, 5, 2);
	struct vmci_handle h = rig_endpoint(rig, a, NULL);
	struct brk_client *vm;

	assert_int_equal(brk_priv_add(a, h, context(40), SEND, 0), 0);
	vm = rig_vm(rig, &(struct brk_vm){ .cid = 40 }, NULL);
	assert_int_equal(rig_send(vm, handle_make(40, 9), h, ""), 24);
	rig_leave(rig, vm);
	/* Another VM under the same number. */
	vm = rig_vm(rig, &(struct brk_vm){ .cid = 40 }, NULL);
	assert_int_equal(rig_send(vm, handle_make(40, 9), h, ""), VMCI_ERROR_NO_ACCESS);
	assert_int_equal(brk_priv_remove_all(a, h, context(40)), VMCI_ERROR_NOT_FOUND);
}

static void test_quota(void **state)
{
	struct rig *rig = *state;
	struct brk_client *a = rig_join(rig, 5, 100);
	struct vmci_handle h = rig_endpoint(rig, a, NULL), first = h;

	for (unsigned n = 0; n < LIMIT_BRK_GRANTS; n++) {
		if (n && n % LIMIT_BRK_GRANTS_RESOURCE == 0) {
			assert_int_equal(brk_priv_add(a, h, context(9999), SEND, 0), VMCI_ERROR_NO_RESOURCES);
			h = rig_endpoint(rig, a, NULL);
		}
		assert_int_equal(brk_priv_add(a, h, context(200 + n), SEND, 0), 0);
	}
	h = rig_endpoint(rig, a, NULL);
	assert_int_equal(brk_priv_add(a, h, context(9999), SEND, 0), VMCI_ERROR_NO_RESOURCES);
	/* A grant that failed has not closed it. */
	assert_int_equal(brk_priv_check(a, h, context(9999), SEND), VMCI_SUCCESS_ACCESS_GRANTED);
	assert_int_equal(brk_dg_destroy(a, first), 0);
	assert_int_equal(brk_priv_add(a, h, context(9999), SEND, 0), 0);
}

static void test_strangers_resources_are_unknown(void **state)
{
	struct rig *rig = *state;
	struct brk_client *a = rig_vm(rig, &(struct brk_vm){ .cid = 40 }, NULL);
	struct brk_client *b = rig_vm(rig, &(struct brk_vm){ .cid = 41 }, NULL);
	struct vmci_handle bell;

	assert_int_equal(brk_bell_create(a, ANY, NULL, rig_thing(rig), &bell, NULL), 0);
	assert_int_equal(brk_priv_check(b, bell, context(41), CHANGE), VMCI_ERROR_INVALID_ARGS);
	assert_int_equal(brk_priv_check(a, bell, context(41), CHANGE), VMCI_ERROR_NO_ACCESS);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_s102_open_until_the_first_grant, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_s52_arguments, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_who_may_change, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_s53_groups, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_a_grant_waits_for_its_context_and_dies_with_it, rig_setup,
						rig_teardown),
		cmocka_unit_test_setup_teardown(test_quota, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_strangers_resources_are_unknown, rig_setup, rig_teardown),
	};

	return cmocka_run_group_tests_name("broker rights", tests, NULL, NULL);
}
