/* SPDX-License-Identifier: BSD-2-Clause */
/* Doorbells. VMCI, 5. */
#include "rig.h"

static void test_open(void **state)
{
	struct rig *rig = *state;
	struct brk_client *a = rig_join(rig, 5, 2), *b = rig_join(rig, 6, ANY), *device;
	struct thing *bell = rig_thing(rig);
	struct vmci_handle handle;
	void *found;

	assert_int_equal(brk_bell_create(a, ANY, NULL, bell, &handle, NULL), 0);
	assert_int_equal(brk_bell_open(b, handle, &found, &device), 0);
	assert_ptr_equal(found, bell);
	assert_int_equal(brk_bell_open(a, handle, &found, &device), 0);
	assert_int_equal(brk_bell_open(b, handle_make(2, handle.resource + 1), &found, &device), VMCI_ERROR_NOT_FOUND);
	assert_int_equal(brk_bell_open(b, handle_make(77, 2000), &found, &device), VMCI_ERROR_DST_UNREACHABLE);
	assert_int_equal(brk_bell_open(b, handle_make(0, 2000), &found, &device), VMCI_ERROR_DST_UNREACHABLE);
	assert_int_equal(brk_bell_open(b, handle_make(ANY, ANY), &found, &device), VMCI_ERROR_INVALID_ARGS);
	assert_int_equal(brk_bell_open(b, rig_endpoint(rig, a, NULL), &found, &device), VMCI_ERROR_NOT_FOUND);
	assert_int_equal(brk_bell_destroy(b, handle), VMCI_ERROR_NO_ACCESS);
	assert_int_equal(brk_bell_destroy(a, handle), 0);
	assert_int_equal(bell->dropped, 1);
	assert_int_equal(brk_bell_open(b, handle, &found, &device), VMCI_ERROR_NOT_FOUND);
}

static void test_a_guests_bell_is_asked_for(void **state)
{
	struct rig *rig = *state;
	struct brk_client *a = rig_join(rig, 5, 2), *device = NULL;
	struct brk_client *vm = rig_vm(rig, &(struct brk_vm){ .cid = 40, .domain = "x" }, NULL);
	struct brk_client *stranger = rig_vm(rig, &(struct brk_vm){ .cid = 41 }, NULL);
	struct brk_client *friend = rig_vm(rig, &(struct brk_vm){ .cid = 42, .domain = "x" }, NULL);
	struct thing *bell = rig_thing(rig);
	struct vmci_handle handle;
	void *found;

	assert_int_equal(brk_bell_open(a, handle_make(40, 2000), &found, &device), BRK_ASK);
	assert_ptr_equal(device, vm);
	assert_int_equal(brk_bell_open(friend, handle_make(40, 2000), &found, &device), BRK_ASK);
	assert_int_equal(brk_bell_open(stranger, handle_make(40, 2000), &found, &device), VMCI_ERROR_DST_UNREACHABLE);
	/* Nobody asks itself. */
	assert_int_equal(brk_bell_open(vm, handle_make(40, 2000), &found, &device), VMCI_ERROR_NOT_FOUND);
	/* A device may register one as well: also with a low id, for it is its context. */
	assert_int_equal(brk_bell_create(vm, 20, NULL, bell, &handle, NULL), 0);
	assert_handle(handle, 40, 20);
	assert_int_equal(brk_bell_open(a, handle, &found, &device), 0);
	assert_ptr_equal(found, bell);
	assert_int_equal(brk_bell_open(stranger, handle, &found, &device), VMCI_ERROR_DST_UNREACHABLE);
}

/* What somebody has under a guest's handle from a time when there was no guest does not hide the guest's bell. */
static void test_a_guests_bell_is_not_hidden(void **state)
{
	struct rig *rig = *state;
	struct brk_client *a = rig_join(rig, 5, 2), *b = rig_join(rig, 5, 40), *third = rig_join(rig, 6, 2), *vm;
	const struct brk_qp qp = { .handle = { 40, 2000 }, .peer = 40, .produce = 4096 };
	const struct brk_qp theirs = { .handle = { 40, 2000 }, .peer = ANY, .consume = 4096 };
	struct brk_client *device = NULL;
	struct vmci_handle handle;
	uint32_t creator;
	void *found;

	assert_int_equal(brk_qp_create(a, &qp, NULL, rig_thing(rig), &handle, NULL), 4);
	rig_leave(rig, b);
	vm = rig_vm(rig, &(struct brk_vm){ .cid = 40 }, NULL);
	assert_int_equal(brk_bell_open(third, qp.handle, &found, &device), BRK_ASK);
	assert_ptr_equal(device, vm);
	/* Nor its pairs. */
	device = NULL;
	assert_int_equal(brk_qp_attach(third, &theirs, &found, &creator, NULL, &device), BRK_ASK);
	assert_ptr_equal(device, vm);
	assert_int_equal(brk_qp_attached(third, vm, &theirs, NULL), 5);
}

static void test_v5_restricted(void **state)
{
	struct rig *rig = *state;
	struct brk_client *user = rig_join(rig, 5, 2), *root = rig_join(rig, 0, 2), *device;
	struct brk_client *vm = rig_vm(rig, &(struct brk_vm){ .cid = 40, .restricted = true }, NULL);
	struct vmci_handle users, roots;
	void *found;

	assert_int_equal(brk_bell_create(user, ANY, NULL, rig_thing(rig), &users, NULL), 0);
	assert_int_equal(brk_bell_create(root, ANY, NULL, rig_thing(rig), &roots, NULL), 0);
	assert_int_equal(brk_bell_open(user, handle_make(40, 2000), &found, &device), VMCI_ERROR_NO_ACCESS);
	assert_int_equal(brk_bell_open(root, handle_make(40, 2000), &found, &device), BRK_ASK);
	assert_int_equal(brk_bell_open(vm, users, &found, &device), VMCI_ERROR_NO_ACCESS);
	assert_int_equal(brk_bell_open(vm, roots, &found, &device), 0);
}

static void test_quota(void **state)
{
	struct rig *rig = *state;
	struct brk_client *a = rig_join(rig, 5, 2);
	struct thing *one_more = rig_thing(rig);
	struct vmci_handle handle;

	for (unsigned i = 0; i < LIMIT_DOORBELLS; i++)
		assert_int_equal(brk_bell_create(a, ANY, NULL, rig_thing(rig), &handle, NULL), 0);
	assert_int_equal(brk_bell_create(a, ANY, NULL, one_more, &handle, NULL), VMCI_ERROR_NO_RESOURCES);
	assert_int_equal(brk_bell_destroy(a, handle), 0);
	assert_int_equal(brk_bell_create(a, ANY, NULL, one_more, &handle, NULL), 0);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_open, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_a_guests_bell_is_asked_for, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_a_guests_bell_is_not_hidden, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_v5_restricted, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_quota, rig_setup, rig_teardown),
	};

	return cmocka_run_group_tests_name("broker doorbells", tests, NULL, NULL);
}
