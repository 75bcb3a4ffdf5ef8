/* SPDX-License-Identifier: BSD-2-Clause */
/* Endpoints and datagrams. SDK, 3; VMCI, 3.1 and 4.5. */
#include "rig.h"

static void test_ids(void **state)
{
	struct rig *rig = *state;
	struct brk_client *user = rig_join(rig, 5, 2), *root = rig_join(rig, 0, 2);
	struct thing *sink = rig_thing(rig);
	struct vmci_handle a = rig_endpoint(rig, user, NULL), b = rig_endpoint(rig, user, NULL), c;

	assert_int_equal(a.context, 2);
	assert_true(a.resource >= 1024 && b.resource >= 1024 && a.resource != b.resource);
	/* One name space for all kinds. */
	assert_int_equal(brk_dg_create(root, a.resource, NULL, sink, &c, NULL), VMCI_ERROR_ALREADY_EXISTS);
	assert_int_equal(brk_bell_create(root, a.resource, NULL, sink, &c, NULL), VMCI_ERROR_ALREADY_EXISTS);
	assert_int_equal(brk_shm_create(root, a.resource, 1, 0, NULL, sink, &c, NULL), VMCI_ERROR_ALREADY_EXISTS);
	/* Below 1024 for trusted ones; 0 and 1 are reserved. */
	assert_int_equal(brk_dg_create(user, 1022, NULL, sink, &c, NULL), VMCI_ERROR_NO_ACCESS);
	assert_int_equal(brk_dg_create(root, 0, NULL, sink, &c, NULL), VMCI_ERROR_NO_ACCESS);
	assert_int_equal(brk_dg_create(root, 1, NULL, sink, &c, NULL), VMCI_ERROR_NO_ACCESS);
	assert_int_equal(brk_dg_create(root, 1022, NULL, sink, &c, NULL), 0);
	assert_handle(c, 2, 1022);
}

static void test_ids_are_used_again_late(void **state)
{
	struct rig *rig = *state;
	struct brk_client *user = rig_join(rig, 5, 2);
	uint32_t last = 0;

	for (unsigned i = 0; i < 100; i++) {
		struct vmci_handle handle = rig_endpoint(rig, user, NULL);

		assert_int_not_equal(handle.resource, last);
		last = handle.resource;
		assert_int_equal(brk_dg_destroy(user, handle), 0);
	}
}

static void test_delivery(void **state)
{
	struct rig *rig = *state;
	struct brk_client *a = rig_join(rig, 5, 2), *b = rig_join(rig, 6, ANY);
	struct thing *sink;
	struct vmci_handle from = rig_endpoint(rig, a, NULL), to = rig_endpoint(rig, b, &sink);
	struct dg_header h;

	/* SDK, 3.2: the result is the total size. */
	assert_int_equal(rig_send(a, from, to, "hello"), 29);
	assert_int_equal(sink->n, 1);
	assert_int_equal(sink->size[0], 29);
	h = dg_parse(sink->got[0]);
	assert_true(handle_is_equal(h.src, from) && handle_is_equal(h.dst, to));
	assert_memory_equal(sink->got[0] + 24, "hello", 5);
	sink->refuse = VMCI_ERROR_NO_RESOURCES;
	assert_int_equal(rig_send(a, from, to, "hello"), VMCI_ERROR_NO_RESOURCES);
}

static void test_sizes(void **state)
{
	static uint8_t dg[VMCI_DG_MAX_SIZE + 8];
	struct rig *rig = *state;
	struct brk_client *a = rig_join(rig, 5, 2);
	struct thing *sink;
	struct vmci_handle h = rig_endpoint(rig, a, &sink);

	dg_build(dg, h, h, VMCI_DG_MAX_PAYLOAD);
	assert_int_equal(brk_dg_send(a, dg, VMCI_DG_MAX_SIZE), VMCI_DG_MAX_SIZE);
	assert_int_equal(brk_dg_send(a, dg, VMCI_DG_MAX_SIZE - 1), VMCI_ERROR_INVALID_ARGS);
	assert_int_equal(brk_dg_send(a, dg, 23), VMCI_ERROR_INVALID_ARGS);
	assert_int_equal(brk_dg_send(a, dg, 0), VMCI_ERROR_INVALID_ARGS);
	dg_build(dg, h, h, VMCI_DG_MAX_PAYLOAD + 1);
	assert_int_equal(brk_dg_send(a, dg, VMCI_DG_MAX_SIZE + 1), VMCI_ERROR_INVALID_ARGS);
	dg_build(dg, h, h, UINT64_MAX);
	assert_int_equal(brk_dg_send(a, dg, 23), VMCI_ERROR_INVALID_ARGS);
	dg_build(dg, h, h, UINT64_MAX - 23);
	assert_int_equal(brk_dg_send(a, dg, 24), VMCI_ERROR_INVALID_ARGS);
	dg_build(dg, h, h, 0);
	assert_int_equal(brk_dg_send(a, dg, 24), 24);
	assert_int_equal(sink->n, 2);
}

static void test_v45_source_is_authentic(void **state)
{
	struct rig *rig = *state;
	struct brk_client *a = rig_join(rig, 5, 2), *b = rig_join(rig, 5, 2), *c = rig_join(rig, 5, ANY);
	struct brk_client *vm = rig_vm(rig, &(struct brk_vm){ .cid = 40 }, NULL);
	struct vmci_handle mine = rig_endpoint(rig, a, NULL), theirs = rig_endpoint(rig, b, NULL);
	struct vmci_handle far = rig_endpoint(rig, c, NULL), bell;
	struct thing *thing = rig_thing(rig);

	assert_int_equal(rig_send(a, theirs, mine, ""), VMCI_ERROR_NO_ACCESS);
	assert_int_equal(rig_send(a, far, mine, ""), VMCI_ERROR_NO_ACCESS);
	assert_int_equal(rig_send(a, handle_make(0, 0), mine, ""), VMCI_ERROR_NO_ACCESS);
	assert_int_equal(rig_send(a, handle_make(ANY, ANY), mine, ""), VMCI_ERROR_NO_ACCESS);
	assert_int_equal(rig_send(a, handle_make(2, 5), mine, ""), VMCI_ERROR_INVALID_ARGS);
	assert_int_equal(brk_bell_create(a, ANY, NULL, thing, &bell, NULL), 0);
	assert_int_equal(rig_send(a, bell, mine, ""), VMCI_ERROR_INVALID_ARGS);
	/* A device speaks for its whole context, and for no other. */
	assert_int_equal(rig_send(vm, handle_make(40, 1), mine, ""), 24);
	assert_int_equal(rig_send(vm, handle_make(40, 99999), mine, ""), 24);
	assert_int_equal(rig_send(vm, handle_make(0, 0), mine, ""), VMCI_ERROR_NO_ACCESS);
	assert_int_equal(rig_send(vm, handle_make(2, mine.resource), mine, ""), VMCI_ERROR_NO_ACCESS);
}

static void test_nowhere(void **state)
{
	struct rig *rig = *state;
	struct brk_client *a = rig_join(rig, 5, 2);
	struct vmci_handle from = rig_endpoint(rig, a, NULL), bell;
	struct thing *thing = rig_thing(rig);

	assert_int_equal(brk_bell_create(a, ANY, NULL, thing, &bell, NULL), 0);
	assert_int_equal(rig_send(a, from, handle_make(0, 10), ""), VMCI_ERROR_DST_UNREACHABLE);
	assert_int_equal(rig_send(a, from, handle_make(1, 0), ""), VMCI_ERROR_DST_UNREACHABLE);
	assert_int_equal(rig_send(a, from, handle_make(1, 1024), ""), VMCI_ERROR_DST_UNREACHABLE);
	assert_int_equal(rig_send(a, from, handle_make(7, 1024), ""), VMCI_ERROR_DST_UNREACHABLE);
	assert_int_equal(rig_send(a, from, handle_make(77, 1024), ""), VMCI_ERROR_DST_UNREACHABLE);
	assert_int_equal(rig_send(a, from, handle_make(ANY, 1024), ""), VMCI_ERROR_DST_UNREACHABLE);
	assert_int_equal(rig_send(a, from, handle_make(2, 5), ""), VMCI_ERROR_INVALID_RESOURCE);
	assert_int_equal(rig_send(a, from, bell, ""), VMCI_ERROR_INVALID_RESOURCE);
	/* VMCI, 3.1: would end a guest's reading. */
	assert_int_equal(rig_send(a, from, handle_make(2, ANY), ""), VMCI_ERROR_INVALID_ARGS);
}

static void test_to_a_guest(void **state)
{
	struct rig *rig = *state;
	struct brk_client *a = rig_join(rig, 5, 2);
	struct thing *sinks[2];
	struct vmci_handle from = rig_endpoint(rig, a, NULL);

	rig_vm(rig, &(struct brk_vm){ .cid = 40 }, sinks);
	assert_int_equal(rig_send(a, from, handle_make(40, 2000), "abc"), 27);
	assert_int_equal(rig_send(a, from, handle_make(40, 2), ""), 24);
	assert_int_equal(sinks[0]->n, 2);
	/* Events and stream control are not for peers to send. */
	assert_int_equal(rig_send(a, from, handle_make(40, 0), "abc"), VMCI_ERROR_INVALID_RESOURCE);
	assert_int_equal(rig_send(a, from, handle_make(40, 1), "abc"), VMCI_ERROR_INVALID_RESOURCE);
	assert_int_equal(sinks[0]->n, 2);
	assert_int_equal(sinks[1]->n, 0);
}

static void test_devices_have_no_endpoints(void **state)
{
	struct rig *rig = *state;
	struct brk_client *vm = rig_vm(rig, &(struct brk_vm){ .cid = 40 }, NULL);
	struct thing *sink = rig_thing(rig);
	struct vmci_handle handle;

	assert_int_equal(brk_dg_create(vm, 2000, NULL, sink, &handle, NULL), VMCI_ERROR_INVALID_ARGS);
	thing_unused(sink);
}

static void test_destroy(void **state)
{
	struct rig *rig = *state;
	struct brk_client *a = rig_join(rig, 5, 2), *b = rig_join(rig, 5, 2);
	struct thing *sink;
	struct vmci_handle h = rig_endpoint(rig, a, &sink), from = rig_endpoint(rig, b, NULL);

	assert_int_equal(brk_dg_destroy(b, h), VMCI_ERROR_NO_ACCESS);
	assert_int_equal(brk_bell_destroy(a, h), VMCI_ERROR_NOT_FOUND);
	assert_int_equal(sink->dropped, 0);
	assert_int_equal(brk_dg_destroy(a, h), 0);
	assert_int_equal(sink->dropped, 1);
	assert_int_equal(brk_dg_destroy(a, h), VMCI_ERROR_NOT_FOUND);
	assert_int_equal(rig_send(b, from, h, ""), VMCI_ERROR_INVALID_RESOURCE);
	assert_int_equal(rig_send(a, h, from, ""), VMCI_ERROR_INVALID_ARGS);
}

static void test_quota(void **state)
{
	struct rig *rig = *state;
	struct brk_client *a = rig_join(rig, 5, 2), *b = rig_join(rig, 5, 2), *c = rig_join(rig, 6, 2);
	struct brk_client *d = rig_join(rig, 5, ANY);
	struct vmci_handle first = rig_endpoint(rig, a, NULL), h;
	struct thing *sink = rig_thing(rig);

	for (unsigned i = 1; i < LIMIT_BRK_ENDPOINTS; i++)
		rig_endpoint(rig, i & 1 ? a : b, NULL);
	/* One user's in the host's context; other users, and his other contexts, have their own. */
	assert_int_equal(brk_dg_create(a, ANY, NULL, sink, &h, NULL), VMCI_ERROR_NO_RESOURCES);
	assert_int_equal(brk_dg_create(b, ANY, NULL, sink, &h, NULL), VMCI_ERROR_NO_RESOURCES);
	rig_endpoint(rig, c, NULL);
	rig_endpoint(rig, d, NULL);
	assert_int_equal(brk_dg_destroy(a, first), 0);
	assert_int_equal(brk_dg_create(b, ANY, NULL, sink, &h, NULL), 0);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_ids, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_ids_are_used_again_late, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_delivery, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_sizes, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_v45_source_is_authentic, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_nowhere, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_to_a_guest, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_devices_have_no_endpoints, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_destroy, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_quota, rig_setup, rig_teardown),
	};

	return cmocka_run_group_tests_name("broker datagrams", tests, NULL, NULL);
}
