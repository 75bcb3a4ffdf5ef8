/* SPDX-License-Identifier: BSD-2-Clause */
/* Ports and streams. VMCI sockets, 5.6 and 5.8; transport reference, 13. */
#include "rig.h"

#define NONE BRK_LISTENER_NONE
#define SOME BRK_LISTENER_UNTRUSTED
#define TRUSTED BRK_LISTENER_TRUSTED

static int32_t to(struct brk_client *client, uint32_t cid, enum brk_listener listener)
{
	struct brk_client *device;

	return brk_stream_connect(client, handle_make(cid, 5000), listener, &device);
}

static void test_own(void **state)
{
	struct rig *rig = *state;
	struct brk_client *user = rig_join(rig, 5, 2), *root = rig_join(rig, 0, 2), *soft = rig_join(rig, 5, 77);
	struct brk_client *vm = rig_vm(rig, &(struct brk_vm){ .cid = 40 }, NULL), *new = rig_connect(rig, 5);
	struct vmci_handle address;

	assert_int_equal(brk_stream_own(user, handle_make(ANY, 1024), &address), 0);
	assert_handle(address, 2, 1024);
	assert_int_equal(brk_stream_own(soft, handle_make(77, ANY), &address), 0);
	assert_handle(address, 77, ANY);
	assert_int_equal(brk_stream_own(user, handle_make(ANY, 1023), &address), VMCI_ERROR_NO_ACCESS);
	assert_int_equal(brk_stream_own(user, handle_make(2, 0), &address), VMCI_ERROR_NO_ACCESS);
	assert_int_equal(brk_stream_own(root, handle_make(2, 0), &address), 0);
	assert_int_equal(brk_stream_own(root, handle_make(2, 1023), &address), 0);
	assert_int_equal(brk_stream_own(vm, handle_make(40, 22), &address), 0);
	assert_int_equal(brk_stream_own(vm, handle_make(2, 2000), &address), VMCI_ERROR_NO_ACCESS);
	assert_int_equal(brk_stream_own(root, handle_make(77, 2000), &address), VMCI_ERROR_NO_ACCESS);
	assert_int_equal(brk_stream_own(soft, handle_make(2, 2000), &address), VMCI_ERROR_NO_ACCESS);
	assert_int_equal(brk_stream_own(new, handle_make(ANY, 2000), &address), VMCI_ERROR_INVALID_ARGS);
}

static void test_programs(void **state)
{
	struct rig *rig = *state;
	struct brk_client *a = rig_join(rig, 5, 2), *b = rig_join(rig, 6, 77), *new = rig_connect(rig, 5), *device;

	assert_int_equal(to(a, 2, SOME), 0);
	assert_int_equal(to(a, 77, SOME), 0);
	assert_int_equal(to(b, 2, SOME), 0);
	assert_int_equal(to(b, 77, TRUSTED), 0);
	assert_int_equal(to(a, 77, NONE), VMCI_ERROR_NOT_FOUND);
	assert_int_equal(to(a, 2, NONE), VMCI_ERROR_NOT_FOUND);
	assert_int_equal(to(a, 78, SOME), VMCI_ERROR_DST_UNREACHABLE);
	assert_int_equal(to(a, 0, SOME), VMCI_ERROR_DST_UNREACHABLE);
	assert_int_equal(to(a, ANY, SOME), VMCI_ERROR_DST_UNREACHABLE);
	assert_int_equal(brk_stream_connect(a, handle_make(2, ANY), SOME, &device), VMCI_ERROR_INVALID_ARGS);
	assert_int_equal(to(new, 2, SOME), VMCI_ERROR_INVALID_ARGS);
	rig_leave(rig, b);
	assert_int_equal(to(a, 77, SOME), VMCI_ERROR_DST_UNREACHABLE);
	assert_false(brk_cid_is_there(rig->brk, 77));
	assert_true(brk_cid_is_there(rig->brk, 2));
}

static void test_guests(void **state)
{
	struct rig *rig = *state;
	struct brk_client *a = rig_join(rig, 5, 2), *soft = rig_join(rig, 6, 77), *device = NULL;
	struct brk_client *vm = rig_vm(rig, &(struct brk_vm){ .cid = 40, .domain = "x" }, NULL);
	struct brk_client *stranger = rig_vm(rig, &(struct brk_vm){ .cid = 41 }, NULL);
	struct brk_client *friend = rig_vm(rig, &(struct brk_vm){ .cid = 42, .domain = "x" }, NULL);
	struct brk_client *open[2] = {
		rig_vm(rig, &(struct brk_vm){ .cid = 43, .unrestricted = true }, NULL),
		rig_vm(rig, &(struct brk_vm){ .cid = 44, .unrestricted = true }, NULL),
	};

	assert_int_equal(brk_stream_connect(a, handle_make(40, 22), NONE, &device), BRK_ASK);
	assert_ptr_equal(device, vm);
	assert_int_equal(brk_stream_connect(friend, handle_make(40, 22), NONE, &device), BRK_ASK);
	assert_ptr_equal(device, vm);
	assert_int_equal(to(soft, 41, NONE), BRK_ASK);
	/* The host, not the neighbours. */
	assert_int_equal(to(stranger, 2, SOME), 0);
	assert_int_equal(to(stranger, 2, NONE), VMCI_ERROR_NOT_FOUND);
	assert_int_equal(to(stranger, 77, SOME), 0);
	assert_int_equal(to(stranger, 40, NONE), VMCI_ERROR_DST_UNREACHABLE);
	assert_int_equal(to(vm, 41, NONE), VMCI_ERROR_DST_UNREACHABLE);
	assert_int_equal(to(open[0], 44, NONE), BRK_ASK);
	assert_int_equal(to(open[1], 40, NONE), VMCI_ERROR_DST_UNREACHABLE);
	/* Nobody asks itself. */
	assert_int_equal(to(vm, 40, NONE), VMCI_ERROR_NOT_FOUND);
	rig_leave(rig, friend);
	assert_int_equal(to(vm, 42, NONE), VMCI_ERROR_DST_UNREACHABLE);
}

static void test_restricted(void **state)
{
	struct rig *rig = *state;
	struct brk_client *user = rig_join(rig, 5, 2), *root = rig_join(rig, 0, 2);
	struct brk_client *vm = rig_vm(rig, &(struct brk_vm){ .cid = 40, .restricted = true, .domain = "x" }, NULL);
	struct brk_client *friend = rig_vm(rig, &(struct brk_vm){ .cid = 41, .domain = "x" }, NULL);

	rig_join(rig, 5, 77);
	rig_join(rig, 0, 78);
	assert_int_equal(to(user, 40, NONE), VMCI_ERROR_NO_ACCESS);
	assert_int_equal(to(root, 40, NONE), BRK_ASK);
	assert_int_equal(to(vm, 2, SOME), VMCI_ERROR_NO_ACCESS);
	assert_int_equal(to(vm, 2, TRUSTED), 0);
	/* Nothing is told about where nobody is. */
	assert_int_equal(to(vm, 2, NONE), VMCI_ERROR_NOT_FOUND);
	/* In a software context, its user counts, whatever is said of the listener. */
	assert_int_equal(to(vm, 77, TRUSTED), VMCI_ERROR_NO_ACCESS);
	assert_int_equal(to(vm, 78, SOME), 0);
	assert_int_equal(to(vm, 41, NONE), VMCI_ERROR_NO_ACCESS);
	assert_int_equal(to(friend, 40, NONE), VMCI_ERROR_NO_ACCESS);
}

static const struct brk_filter_rule rules[] = {
	{ BRK_FILTER_DENY, BRK_FILTER_STREAM, BRK_FILTER_TO_HOST, 5000, 5000 },
	{ BRK_FILTER_DENY, BRK_FILTER_STREAM, BRK_FILTER_TO_GUEST, 22, 23 },
	{ BRK_FILTER_DENY, BRK_FILTER_DATAGRAM, BRK_FILTER_ANY_DIRECTION, 0, UINT32_MAX },
};

static void test_filter(void **state)
{
	struct rig *rig = *state;
	const struct brk_vm config = { .cid = 40, .domain = "x", .rules = rules, .n_rules = 3 };
	struct brk_client *vm = rig_vm(rig, &config, NULL), *a = rig_join(rig, 0, 2), *device;
	struct brk_client *friend = rig_vm(rig, &(struct brk_vm){ .cid = 41, .domain = "x" }, NULL);

	assert_int_equal(to(vm, 2, TRUSTED), VMCI_ERROR_NO_ACCESS);
	assert_non_null(strstr(rig->line, "may not connect to 2:5000: filter"));
	/* Also where nobody listens: nobody else may be tried in its place. */
	assert_int_equal(to(vm, 2, NONE), VMCI_ERROR_NO_ACCESS);
	assert_int_equal(to(vm, 41, NONE), VMCI_ERROR_NO_ACCESS);
	assert_int_equal(brk_stream_connect(vm, handle_make(2, 5001), SOME, &device), 0);
	assert_int_equal(brk_stream_connect(a, handle_make(40, 22), NONE, &device), VMCI_ERROR_NO_ACCESS);
	assert_int_equal(brk_stream_connect(friend, handle_make(40, 23), NONE, &device), VMCI_ERROR_NO_ACCESS);
	assert_int_equal(brk_stream_connect(friend, handle_make(40, 24), NONE, &device), BRK_ASK);
	assert_int_equal(to(a, 40, NONE), BRK_ASK);
}

static void test_grace(void **state)
{
	struct rig *rig = *state;
	struct brk_client *a, *vm;

	rig_restart(rig);
	a = rig_join(rig, 5, 2);
	vm = rig_vm(rig, &(struct brk_vm){ .cid = 40 }, NULL);
	/* Who is there may be back in a moment; a guest does not wait for that. */
	assert_int_equal(to(a, 77, SOME), BRK_LATER);
	assert_int_equal(to(vm, 77, SOME), VMCI_ERROR_DST_UNREACHABLE);
	/* Ports are the kernel's, and need nobody to come back. */
	assert_int_equal(to(a, 2, NONE), VMCI_ERROR_NOT_FOUND);
	assert_int_equal(to(a, 2, SOME), 0);
	assert_int_equal(to(a, 40, NONE), BRK_ASK);
	brk_grace(rig->brk, false);
	assert_int_equal(to(a, 77, SOME), VMCI_ERROR_DST_UNREACHABLE);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_own, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_programs, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_guests, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_restricted, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_filter, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_grace, rig_setup, rig_teardown),
	};

	return cmocka_run_group_tests_name("broker streams", tests, NULL, NULL);
}
