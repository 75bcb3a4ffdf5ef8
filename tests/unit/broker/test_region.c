/* SPDX-License-Identifier: BSD-2-Clause */
/* Shared memory. SDK, 4 and 10. */
#include "rig.h"

static struct vmci_handle make(struct rig *rig, struct brk_client *client, uint64_t bytes, struct thing **ret_memory)
{
	struct thing *memory = rig_thing(rig);
	struct vmci_handle handle;

	assert_int_equal(brk_shm_create(client, ANY, bytes, 4096, NULL, memory, &handle, NULL), 0);
	if (ret_memory)
		*ret_memory = memory;
	return handle;
}

static int32_t attach(struct brk_client *client, struct vmci_handle handle)
{
	uint64_t bytes, offset;
	void *memory;

	return brk_shm_attach(client, handle, &bytes, &offset, &memory, NULL);
}

static void test_life(void **state)
{
	struct rig *rig = *state;
	struct brk_client *a = rig_join(rig, 5, 2), *b = rig_join(rig, 6, 100), *c = rig_join(rig, 7, 2);
	struct thing *memory;
	struct vmci_handle h = make(rig, a, 128, &memory);
	uint64_t bytes, offset;
	void *found;

	assert_int_equal(brk_shm_query(b, h, &bytes), 0);
	assert_int_equal(bytes, 128);
	assert_int_equal(brk_shm_detach(b, h), VMCI_ERROR_NOT_FOUND);
	assert_int_equal(brk_shm_attach(b, h, &bytes, &offset, &found, NULL), 0);
	assert_ptr_equal(found, memory);
	assert_int_equal(bytes, 128);
	assert_int_equal(offset, 4096);
	assert_int_equal(attach(b, h), VMCI_ERROR_ALREADY_EXISTS);
	/* The creator is attached, too. */
	assert_int_equal(attach(a, h), VMCI_ERROR_ALREADY_EXISTS);
	/* It survives its creator while somebody is attached. */
	rig_leave(rig, a);
	assert_int_equal(attach(c, h), 0);
	assert_int_equal(brk_shm_detach(b, h), 0);
	assert_int_equal(memory->dropped, 0);
	assert_int_equal(brk_shm_detach(c, h), VMCI_SUCCESS_LAST_DETACH);
	assert_int_equal(memory->dropped, 1);
	assert_int_equal(brk_shm_query(c, h, &bytes), VMCI_ERROR_NOT_FOUND);
	assert_int_equal(brk_shm_query(c, handle_make(77, 1), &bytes), VMCI_ERROR_DST_UNREACHABLE);
	assert_int_equal(brk_shm_query(c, handle_make(1, 1), &bytes), VMCI_ERROR_DST_UNREACHABLE);
}

static void test_a_dead_contexts_region_is_not_its_successors(void **state)
{
	struct rig *rig = *state;
	struct brk_client *a = rig_join(rig, 5, 100), *b = rig_join(rig, 6, 2), *c = rig_join(rig, 7, 2);
	struct vmci_handle h = make(rig, a, 128, NULL);
	struct thing *thing = rig_thing(rig);
	struct vmci_handle other;

	assert_int_equal(attach(b, h), 0);
	rig_leave(rig, a);
	assert_int_equal(attach(c, h), VMCI_ERROR_DST_UNREACHABLE);
	a = rig_join(rig, 7, 100);
	assert_int_equal(attach(c, h), VMCI_ERROR_NOT_FOUND);
	assert_int_equal(attach(a, h), VMCI_ERROR_NOT_FOUND);
	assert_int_equal(brk_priv_add(a, h, handle_make(100, 0), 1u << VMCI_PRIV_SM_ATTACH, 0), VMCI_ERROR_NO_ACCESS);
	/* The handle is taken as long as somebody uses it. */
	assert_int_equal(brk_dg_create(a, h.resource, NULL, thing, &other, NULL), VMCI_ERROR_ALREADY_EXISTS);
	assert_int_equal(brk_shm_detach(b, h), 3);
	assert_int_equal(brk_dg_create(a, h.resource, NULL, thing, &other, NULL), 0);
}

static void test_sizes(void **state)
{
	struct rig *rig = *state;
	struct brk_client *a = rig_join(rig, 5, 2), *b = rig_join(rig, 6, 2);
	struct thing *memory = rig_thing(rig);
	struct vmci_handle h;

	assert_int_equal(brk_shm_create(a, ANY, 0, 0, NULL, memory, &h, NULL), VMCI_ERROR_INVALID_SIZE);
	assert_int_equal(brk_shm_create(a, ANY, LIMIT_BRK_REGION + 1, 0, NULL, memory, &h, NULL),
			 VMCI_ERROR_INVALID_SIZE);
	assert_int_equal(brk_shm_create(a, ANY, UINT64_MAX, 0, NULL, memory, &h, NULL), VMCI_ERROR_INVALID_SIZE);
	for (unsigned i = 0; i < LIMIT_BRK_REGION_BYTES_USER / LIMIT_BRK_REGION; i++)
		h = make(rig, a, LIMIT_BRK_REGION, NULL);
	assert_int_equal(brk_shm_create(a, ANY, 1, 0, NULL, memory, &h, NULL), VMCI_ERROR_NO_RESOURCES);
	/* A user's total, in whatever context. Others have their own. */
	assert_int_equal(brk_shm_create(rig_join(rig, 5, ANY), ANY, 1, 0, NULL, memory, &h, NULL),
			 VMCI_ERROR_NO_RESOURCES);
	h = make(rig, b, LIMIT_BRK_REGION, NULL);
	assert_int_equal(attach(a, h), 0);
	rig_leave(rig, a);
	a = rig_join(rig, 5, 2);
	make(rig, a, LIMIT_BRK_REGION, NULL);
	thing_unused(memory);
}

static void test_creator_leaves_its_bytes(void **state)
{
	struct rig *rig = *state;
	struct brk_client *a = rig_join(rig, 5, 2), *b = rig_join(rig, 6, 2);
	struct thing *memory = rig_thing(rig);
	struct vmci_handle h, kept[4];

	for (unsigned i = 0; i < 4; i++) {
		kept[i] = make(rig, a, LIMIT_BRK_REGION, NULL);
		assert_int_equal(attach(b, kept[i]), 0);
	}
	rig_leave(rig, a);
	a = rig_join(rig, 5, 2);
	assert_int_equal(brk_shm_create(a, ANY, 1, 0, NULL, memory, &h, NULL), VMCI_ERROR_NO_RESOURCES);
	assert_int_equal(brk_shm_detach(b, kept[0]), 3);
	assert_int_equal(brk_shm_create(a, ANY, 1, 0, NULL, memory, &h, NULL), 0);
}

static void test_quota(void **state)
{
	struct rig *rig = *state;
	struct brk_client *a = rig_join(rig, 5, 2);
	struct thing *memory = rig_thing(rig);
	struct vmci_handle h;

	for (unsigned i = 0; i < LIMIT_BRK_REGIONS; i++)
		h = make(rig, a, 1, NULL);
	assert_int_equal(brk_shm_create(a, ANY, 1, 0, NULL, memory, &h, NULL), VMCI_ERROR_NO_RESOURCES);
	assert_int_equal(brk_shm_detach(a, h), 3);
	assert_int_equal(brk_shm_create(a, ANY, 1, 0, NULL, memory, &h, NULL), 0);
}

static void test_rights(void **state)
{
	struct rig *rig = *state;
	struct brk_client *a = rig_join(rig, 5, 2), *b = rig_join(rig, 6, 100), *c = rig_join(rig, 7, 101);
	struct brk_client *vm = rig_vm(rig, &(struct brk_vm){ .cid = 40, .restricted = true }, NULL);
	struct vmci_handle h = make(rig, a, 128, NULL);
	uint64_t bytes;

	assert_int_equal(attach(vm, h), VMCI_ERROR_NO_ACCESS);
	assert_int_equal(brk_shm_query(vm, h, &bytes), VMCI_ERROR_NO_ACCESS);
	assert_int_equal(brk_priv_add(a, h, handle_make(100, 0), 1u << VMCI_PRIV_SM_ATTACH, 0), 0);
	assert_int_equal(attach(b, h), 0);
	assert_int_equal(attach(c, h), VMCI_ERROR_NO_ACCESS);
	assert_int_equal(brk_shm_query(c, h, &bytes), VMCI_ERROR_NO_ACCESS);
	/* The owner's context always may. */
	assert_int_equal(attach(rig_join(rig, 7, 2), h), 0);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_life, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_a_dead_contexts_region_is_not_its_successors, rig_setup,
						rig_teardown),
		cmocka_unit_test_setup_teardown(test_sizes, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_creator_leaves_its_bytes, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_quota, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_rights, rig_setup, rig_teardown),
	};

	return cmocka_run_group_tests_name("broker shared memory", tests, NULL, NULL);
}
