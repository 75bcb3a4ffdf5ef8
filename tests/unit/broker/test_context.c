/* SPDX-License-Identifier: BSD-2-Clause */
/* Contexts: joining, who may meet whom, watching. SDK, 9; VMCI, 4.1 and 5. */
#include "rig.h"

static void test_hello_comes_first_and_once(void **state)
{
	struct rig *rig = *state;
	struct brk_client *client = rig_connect(rig, 5);
	struct thing *sink = rig_thing(rig);
	struct vmci_handle handle;
	uint64_t next;
	char buf[LIMIT_BRK_LINE];

	assert_int_equal(brk_client_cid(client), VMCI_INVALID_ID);
	assert_int_equal(brk_dg_create(client, ANY, NULL, sink, &handle, NULL), VMCI_ERROR_INVALID_ARGS);
	assert_int_equal(brk_events(client, sink), VMCI_ERROR_INVALID_ARGS);
	assert_int_equal(brk_watch(client, 77, true), VMCI_ERROR_INVALID_ARGS);
	assert_int_equal(brk_list(client, 0, buf, sizeof(buf), &next), VMCI_ERROR_INVALID_ARGS);
	assert_int_equal(rig_lookup(client, "x", NULL), VMCI_ERROR_INVALID_ARGS);
	assert_int_equal(brk_hello(client, 2, false, NULL, NULL, NULL), 0);
	assert_int_equal(brk_hello(client, 2, false, NULL, NULL, NULL), VMCI_ERROR_INVALID_ARGS);
	assert_int_equal(brk_client_cid(client), 2);
	thing_unused(sink);
}

static void test_host_is_everybodys(void **state)
{
	struct rig *rig = *state;

	rig_join(rig, 5, 2);
	rig_join(rig, 6, 2);
	assert_true(brk_client_is_trusted(rig_join(rig, 0, 2)));
	assert_int_equal(brk_hello(rig_connect(rig, 5), 2, true, NULL, NULL, NULL), VMCI_ERROR_INVALID_ARGS);
}

static void test_reserved_ids_are_nobodys(void **state)
{
	struct rig *rig = *state;
	struct brk_client *client = rig_connect(rig, 0);

	for (uint32_t cid = 0; cid < 16; cid++)
		if (cid != 2)
			assert_int_equal(brk_hello(client, cid, false, NULL, NULL, NULL), VMCI_ERROR_INVALID_ARGS);
}

static void test_software_context_is_one_users(void **state)
{
	struct rig *rig = *state;
	struct brk_client *a = rig_join(rig, 5, 100);
	struct brk_client *b = rig_join(rig, 5, 100);
	struct brk_client *c = rig_connect(rig, 6);

	assert_int_equal(brk_hello(c, 100, false, NULL, NULL, NULL), VMCI_ERROR_NO_ACCESS);
	rig_leave(rig, a);
	assert_int_equal(brk_hello(c, 100, false, NULL, NULL, NULL), VMCI_ERROR_NO_ACCESS);
	rig_leave(rig, b);
	assert_int_equal(brk_hello(c, 100, false, NULL, NULL, NULL), 0);
}

static void test_chosen_ids_are_used_again_late(void **state)
{
	struct rig *rig = *state;
	uint32_t seen[10];

	for (unsigned i = 0; i < 10; i++) {
		struct brk_client *client = rig_join(rig, 5, ANY);

		seen[i] = brk_client_cid(client);
		assert_in_range(seen[i], BRK_CID_FIRST, BRK_CID_LAST);
		for (unsigned k = 0; k < i; k++)
			assert_int_not_equal(seen[i], seen[k]);
		rig_leave(rig, client);
	}
}

static void test_reserved_for_a_vm(void **state)
{
	struct rig *rig = *state;
	struct brk_client *client = rig_connect(rig, 0);
	struct brk_client *vm;

	assert_true(brk_cid_is_free(rig->brk, 42));
	assert_int_equal(brk_reserve(rig->brk, 42), 0);
	assert_int_equal(brk_reserve(rig->brk, 42), VMCI_ERROR_ALREADY_EXISTS);
	assert_int_equal(brk_reserve(rig->brk, 15), VMCI_ERROR_INVALID_ARGS);
	assert_false(brk_cid_is_free(rig->brk, 42));
	assert_false(brk_cid_is_free(rig->brk, 15));
	assert_int_equal(brk_hello(client, 42, false, NULL, NULL, NULL), VMCI_ERROR_NO_ACCESS);
	vm = rig_vm(rig, &(struct brk_vm){ .cid = 42 }, NULL);
	assert_int_equal(brk_hello(client, 42, false, NULL, NULL, NULL), VMCI_ERROR_NO_ACCESS);
	rig_leave(rig, vm);
	assert_int_equal(brk_hello(client, 42, false, NULL, NULL, NULL), VMCI_ERROR_NO_ACCESS);
	brk_unreserve(rig->brk, 42);
	assert_int_equal(brk_hello(client, 42, false, NULL, NULL, NULL), 0);
	assert_int_equal(brk_reserve(rig->brk, 42), VMCI_ERROR_ALREADY_EXISTS);
}

static void test_device_hello(void **state)
{
	struct rig *rig = *state;
	const struct brk_creds creds = { .device = true };
	struct thing *a = rig_thing(rig), *b = rig_thing(rig);
	struct brk_client *device, *program = rig_connect(rig, 0);
	static const struct brk_filter_rule rules[LIMIT_BRK_FILTER_RULES + 1];

	assert_int_equal(brk_client_new(rig->brk, &creds, NULL, &device), 0);
	assert_int_equal(brk_hello(device, 2, false, NULL, NULL, NULL), VMCI_ERROR_INVALID_ARGS);
	assert_int_equal(brk_hello_device(program, &(struct brk_vm){ .cid = 42 }, NULL, a, b), VMCI_ERROR_INVALID_ARGS);
	assert_int_equal(brk_hello_device(device, &(struct brk_vm){ .cid = 15 }, NULL, a, b), VMCI_ERROR_INVALID_ARGS);
	assert_int_equal(brk_hello_device(device, &(struct brk_vm){ .cid = ANY }, NULL, a, b), VMCI_ERROR_INVALID_ARGS);
	assert_int_equal(brk_hello_device(device, &(struct brk_vm){ .cid = 42, .rules = rules,
								     .n_rules = LIMIT_BRK_FILTER_RULES + 1 }, NULL, a,
									     b), VMCI_ERROR_INVALID_ARGS);
	rig_join(rig, 5, 42);
	assert_int_equal(brk_hello_device(device, &(struct brk_vm){ .cid = 42 }, NULL, a, b),
			 VMCI_ERROR_ALREADY_EXISTS);
	assert_int_equal(a->dropped + b->dropped, 0);
	assert_int_equal(brk_hello_device(device, &(struct brk_vm){ .cid = 43 }, NULL, a, b), 0);
	assert_true(brk_client_is_device(device));
	/* vmcid's user is trusted; the guest behind the device is not. */
	assert_false(brk_client_is_trusted(device));
	brk_client_free(device);
	assert_int_equal(a->dropped + b->dropped, 2);
}

/* Sends from @from, which may be a device, to the VM @cid. */
static int32_t reach(struct brk_client *from, uint32_t cid)
{
	return rig_send(from, handle_make(brk_client_cid(from), 2000), handle_make(cid, 2000), "hi");
}

static void test_s9_vms_of_one_domain(void **state)
{
	struct rig *rig = *state;
	struct brk_client *a = rig_vm(rig, &(struct brk_vm){ .cid = 40, .domain = "blue" }, NULL);
	struct brk_client *b = rig_vm(rig, &(struct brk_vm){ .cid = 41, .domain = "blue" }, NULL);

	rig_vm(rig, &(struct brk_vm){ .cid = 42, .domain = "red" }, NULL);
	rig_vm(rig, &(struct brk_vm){ .cid = 43 }, NULL);
	rig_vm(rig, &(struct brk_vm){ .cid = 44, .domain = "" }, NULL);
	assert_int_equal(reach(a, 41), 26);
	assert_int_equal(reach(b, 40), 26);
	assert_int_equal(reach(a, 42), VMCI_ERROR_DST_UNREACHABLE);
	assert_int_equal(reach(a, 43), VMCI_ERROR_DST_UNREACHABLE);
	/* As if it did not exist. */
	assert_int_equal(reach(a, 4711), VMCI_ERROR_DST_UNREACHABLE);
}

static void test_s9_no_domain_is_no_common_domain(void **state)
{
	struct rig *rig = *state;
	struct brk_client *a = rig_vm(rig, &(struct brk_vm){ .cid = 40, .domain = "" }, NULL);

	rig_vm(rig, &(struct brk_vm){ .cid = 41, .domain = "" }, NULL);
	rig_vm(rig, &(struct brk_vm){ .cid = 42, .unrestricted = true }, NULL);
	assert_int_equal(reach(a, 41), VMCI_ERROR_DST_UNREACHABLE);
	assert_int_equal(reach(a, 42), VMCI_ERROR_DST_UNREACHABLE);
}

static void test_s9_unrestricted_vms(void **state)
{
	struct rig *rig = *state;
	struct brk_client *a = rig_vm(rig, &(struct brk_vm){ .cid = 40, .unrestricted = true }, NULL);

	rig_vm(rig, &(struct brk_vm){ .cid = 41, .unrestricted = true, .domain = "x" }, NULL);
	assert_int_equal(reach(a, 41), 26);
}

/* VMCI, 5: (A restricted and B not trusted) or the reverse. */
static void test_v5_restricted(void **state)
{
	struct rig *rig = *state;
	struct brk_client *vm = rig_vm(rig, &(struct brk_vm){ .cid = 40, .restricted = true }, NULL);
	struct brk_client *root = rig_join(rig, 0, 2), *user = rig_join(rig, 5, 2);
	struct vmci_handle from_root = rig_endpoint(rig, root, NULL), from_user = rig_endpoint(rig, user, NULL);

	assert_true(brk_client_is_restricted(vm));
	assert_int_equal(rig_send(root, from_root, handle_make(40, 2000), ""), 24);
	assert_int_equal(rig_send(user, from_user, handle_make(40, 2000), ""), VMCI_ERROR_NO_ACCESS);
	assert_int_equal(rig->level, LOG_LEVEL_INFO);
	assert_non_null(strstr(rig->line, "may not send to 40:2000: restricted"));
	assert_int_equal(rig_send(vm, handle_make(40, 2000), from_root, ""), 24);
	assert_int_equal(rig_send(vm, handle_make(40, 2000), from_user, ""), VMCI_ERROR_NO_ACCESS);
}

static void test_v5_restricted_software(void **state)
{
	struct rig *rig = *state;
	struct brk_client *a = rig_connect(rig, 5), *other = rig_connect(rig, 5);
	struct vmci_handle from, to;

	assert_int_equal(brk_hello(a, ANY, true, NULL, NULL, NULL), 0);
	assert_int_equal(brk_hello(other, brk_client_cid(a), false, NULL, NULL, NULL), 0);
	assert_true(brk_client_is_restricted(a) && brk_client_is_restricted(other));
	from = rig_endpoint(rig, a, NULL);
	/* Within a context there is nobody to be protected from. */
	assert_int_equal(rig_send(a, from, rig_endpoint(rig, other, NULL), ""), 24);
	to = rig_endpoint(rig, rig_join(rig, 5, 2), NULL);
	assert_int_equal(rig_send(a, from, to, ""), VMCI_ERROR_NO_ACCESS);
	to = rig_endpoint(rig, rig_join(rig, 0, 2), NULL);
	assert_int_equal(rig_send(a, from, to, ""), 24);
}

static void test_watch(void **state)
{
	struct rig *rig = *state;
	struct brk_client *watcher = rig_join(rig, 5, 2);
	struct thing *events = rig_events(rig, watcher);
	struct brk_client *a;

	assert_int_equal(brk_watch(watcher, 2, true), VMCI_ERROR_INVALID_ARGS);
	assert_int_equal(brk_watch(watcher, ANY, true), VMCI_ERROR_INVALID_ARGS);
	/* It need not be there. */
	assert_int_equal(brk_watch(watcher, 100, true), 0);
	assert_int_equal(brk_watch(watcher, 100, true), VMCI_ERROR_ALREADY_EXISTS);
	a = rig_join(rig, 6, 100);
	rig_join(rig, 6, 101);
	assert_int_equal(events->n, 0);
	rig_leave(rig, a);
	assert_int_equal(events->n, 1);
	assert_int_equal(rig_event(events, 0).id, VMCI_EVENT_CTX_REMOVED);
	assert_int_equal(rig_event(events, 0).context, 100);
	assert_int_equal(dg_parse(events->got[0]).dst.context, 2);
	/* Each time. */
	rig_leave(rig, rig_join(rig, 6, 100));
	assert_int_equal(events->n, 2);
	assert_int_equal(brk_watch(watcher, 100, false), 0);
	assert_int_equal(brk_watch(watcher, 100, false), VMCI_ERROR_NOT_FOUND);
	rig_leave(rig, rig_join(rig, 6, 100));
	assert_int_equal(events->n, 2);
}

static void test_watch_of_strangers(void **state)
{
	struct rig *rig = *state;
	struct thing *sinks[2];
	struct brk_client *vm = rig_vm(rig, &(struct brk_vm){ .cid = 40, .domain = "x" }, sinks);
	struct brk_client *friend = rig_vm(rig, &(struct brk_vm){ .cid = 41, .domain = "x" }, NULL);
	struct brk_client *stranger = rig_vm(rig, &(struct brk_vm){ .cid = 42 }, NULL);
	struct brk_client *user = rig_join(rig, 5, 2);

	/* As one that does not exist. */
	assert_int_equal(brk_watch(vm, 42, true), 0);
	assert_int_equal(brk_watch(vm, 43, true), 0);
	assert_int_equal(brk_watch(vm, 41, true), 0);
	rig_leave(rig, stranger);
	rig_leave(rig, rig_vm(rig, &(struct brk_vm){ .cid = 43 }, NULL));
	assert_int_equal(sinks[1]->n, 0);
	rig_leave(rig, friend);
	assert_int_equal(sinks[1]->n, 1);
	assert_int_equal(dg_parse(sinks[1]->got[0]).dst.context, 40);
	rig_vm(rig, &(struct brk_vm){ .cid = 44, .restricted = true }, NULL);
	assert_int_equal(brk_watch(user, 44, true), VMCI_ERROR_NO_ACCESS);
}

static void test_watch_quota(void **state)
{
	struct rig *rig = *state;
	struct brk_client *watcher = rig_join(rig, 5, 2);

	for (uint32_t i = 0; i < LIMIT_BRK_WATCHES; i++)
		assert_int_equal(brk_watch(watcher, 16 + i, true), 0);
	assert_int_equal(brk_watch(watcher, 10000, true), VMCI_ERROR_NO_RESOURCES);
	assert_int_equal(brk_watch(watcher, 16, false), 0);
	assert_int_equal(brk_watch(watcher, 10000, true), 0);
}

static void test_context_quota(void **state)
{
	static struct brk_client *client[LIMIT_BRK_CLIENTS_USER + 1];
	const struct brk_creds creds = { .uid = 5 }, other = { .uid = 6 };
	struct rig *rig = *state;

	for (unsigned i = 0; i < LIMIT_BRK_CLIENTS_USER; i++) {
		assert_int_equal(brk_client_new(rig->brk, &creds, NULL, &client[i]), 0);
		assert_int_equal(brk_hello(client[i], ANY, false, NULL, NULL, NULL), 0);
	}
	assert_int_equal(brk_client_new(rig->brk, &creds, NULL, &client[LIMIT_BRK_CLIENTS_USER]),
			 VMCI_ERROR_NO_RESOURCES);
	assert_int_equal(brk_client_new(rig->brk, &other, NULL, &client[LIMIT_BRK_CLIENTS_USER]), 0);
	for (unsigned i = 0; i <= LIMIT_BRK_CLIENTS_USER; i++)
		brk_client_free(client[i]);
	assert_int_equal(brk_client_new(rig->brk, &creds, NULL, &client[0]), 0);
	brk_client_free(client[0]);
}

/* Whose context may a client be told? */
static void test_may_know(void **state)
{
	struct rig *rig = *state;
	struct brk_client *root = rig_join(rig, 0, 2), *user = rig_join(rig, 5, 2), *soft = rig_join(rig, 5, 77);
	struct brk_client *vm = rig_vm(rig, &(struct brk_vm){ .cid = 40, .domain = "x" }, NULL);
	struct brk_client *friend = rig_vm(rig, &(struct brk_vm){ .cid = 41, .domain = "x" }, NULL);
	struct brk_client *secret = rig_vm(rig, &(struct brk_vm){ .cid = 42, .restricted = true }, NULL);

	assert_int_equal(brk_vm_may_know(rig_connect(rig, 5), 40), VMCI_ERROR_INVALID_ARGS);
	assert_int_equal(brk_vm_may_know(user, 40), 0);
	assert_int_equal(brk_vm_may_know(soft, 40), 0);
	assert_int_equal(brk_vm_may_know(vm, 40), 0);
	assert_int_equal(brk_vm_may_know(friend, 40), 0);
	assert_int_equal(brk_vm_may_know(secret, 40), VMCI_ERROR_DST_UNREACHABLE);
	assert_int_equal(brk_vm_may_know(vm, 42), VMCI_ERROR_DST_UNREACHABLE);
	assert_int_equal(brk_vm_may_know(user, 42), VMCI_ERROR_NO_ACCESS);
	assert_int_equal(brk_vm_may_know(root, 42), 0);
	/* No VMs */
	assert_int_equal(brk_vm_may_know(root, 2), VMCI_ERROR_DST_UNREACHABLE);
	assert_int_equal(brk_vm_may_know(root, 77), VMCI_ERROR_DST_UNREACHABLE);
	assert_int_equal(brk_vm_may_know(root, 4711), VMCI_ERROR_DST_UNREACHABLE);
	rig_leave(rig, vm);
	assert_int_equal(brk_vm_may_know(user, 40), VMCI_ERROR_DST_UNREACHABLE);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_hello_comes_first_and_once, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_host_is_everybodys, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_reserved_ids_are_nobodys, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_software_context_is_one_users, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_chosen_ids_are_used_again_late, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_reserved_for_a_vm, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_device_hello, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_s9_vms_of_one_domain, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_s9_no_domain_is_no_common_domain, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_s9_unrestricted_vms, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_v5_restricted, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_v5_restricted_software, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_watch, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_watch_of_strangers, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_watch_quota, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_context_quota, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_may_know, rig_setup, rig_teardown),
	};

	return cmocka_run_group_tests_name("broker contexts", tests, NULL, NULL);
}
