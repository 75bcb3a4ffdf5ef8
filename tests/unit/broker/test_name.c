/* SPDX-License-Identifier: BSD-2-Clause */
/* Names. SDK, 6 and 10.2. */
#include "rig.h"

static void test_s63_rules(void **state)
{
	struct rig *rig = *state;
	struct brk_client *a = rig_join(rig, 5, 2), *b = rig_join(rig, 6, 100);
	struct vmci_handle h = rig_endpoint(rig, a, NULL), found;

	assert_int_equal(rig_lookup(b, "HOST INFO", &found), VMCI_ERROR_NOT_FOUND);
	assert_false(handle_is_valid(found));
	assert_int_equal(rig_register(a, "HOST INFO", h), 0);
	assert_int_equal(rig_lookup(b, "HOST INFO", &found), 0);
	assert_true(handle_is_equal(found, h));
	/* Exact comparison. */
	assert_int_equal(rig_lookup(b, "Host info", &found), VMCI_ERROR_NOT_FOUND);
	assert_int_equal(rig_lookup(b, "HOST INF", &found), VMCI_ERROR_NOT_FOUND);
	assert_int_equal(rig_lookup(b, "HOST INFO ", &found), VMCI_ERROR_NOT_FOUND);
	/* One flat name space. */
	assert_int_equal(rig_register(b, "HOST INFO", handle_make(100, 2000)), VMCI_ERROR_ALREADY_EXISTS);
	assert_int_equal(rig_unregister(b, "HOST INFO"), VMCI_ERROR_NO_ACCESS);
	assert_int_equal(rig_unregister(a, "HOST INFO"), 0);
	assert_int_equal(rig_unregister(a, "HOST INFO"), VMCI_ERROR_NOT_FOUND);
	/* The host may remove any; existence of the handle is not checked. */
	assert_int_equal(rig_register(b, "x", handle_make(100, 2000)), 0);
	assert_int_equal(rig_unregister(a, "x"), 0);
}

static void test_s102_rules(void **state)
{
	struct rig *rig = *state;
	struct brk_client *a = rig_join(rig, 5, 2), *b = rig_join(rig, 6, 100), *c = rig_join(rig, 6, 2);
	struct vmci_handle found;
	char name[DISCOVERY_NAME_MAX + 1];

	memset(name, 'n', sizeof(name));
	name[DISCOVERY_NAME_MAX] = '\0';
	assert_int_equal(rig_register(b, "", handle_make(100, 2000)), VMCI_ERROR_INVALID_ARGS);
	assert_int_equal(rig_register(b, name, handle_make(100, 2000)), 0);
	assert_int_equal(rig_lookup(a, name, &found), 0);
	/* Only handles of the caller's own context; the host's may register any. */
	assert_int_equal(rig_register(b, "x", handle_make(2, 2000)), VMCI_ERROR_NO_ACCESS);
	assert_int_equal(rig_register(b, "x", handle_make(101, 2000)), VMCI_ERROR_NO_ACCESS);
	assert_int_equal(rig_register(a, "x", handle_make(101, 2000)), 0);
	assert_int_equal(rig_register(a, "y", handle_make(100, ANY)), VMCI_ERROR_INVALID_ARGS);
	assert_int_equal(rig_register(a, "y", handle_make(ANY, ANY)), VMCI_ERROR_INVALID_ARGS);
	assert_int_equal(rig_register(a, "y", handle_make(0, 5)), VMCI_ERROR_INVALID_ARGS);
	assert_int_equal(rig_register(a, "y", handle_make(7, 5)), VMCI_ERROR_INVALID_ARGS);
	/* Users of the host leave each other alone. */
	assert_int_equal(rig_unregister(c, "x"), VMCI_ERROR_NO_ACCESS);
	assert_int_equal(rig_unregister(rig_join(rig, 0, 2), "x"), 0);
	/* Reserved. */
	assert_int_equal(rig_register(a, "vmci x", handle_make(2, 2000)), VMCI_ERROR_NO_ACCESS);
	assert_int_equal(rig_register(a, "vmci ", handle_make(2, 2000)), VMCI_ERROR_NO_ACCESS);
	assert_int_equal(rig_register(a, "vmci", handle_make(2, 2000)), 0);
	/* There from the start (SDK, 5.4). */
	assert_int_equal(rig_lookup(b, "vmci public group", &found), 0);
	assert_handle(found, 2, BRK_PUBLIC_GROUP_RID);
	assert_int_equal(rig_unregister(rig_join(rig, 0, 2), "vmci public group"), VMCI_ERROR_NO_ACCESS);
}

static void test_they_vanish(void **state)
{
	struct rig *rig = *state;
	struct brk_client *a = rig_join(rig, 5, 2), *b = rig_join(rig, 6, 100), *c = rig_join(rig, 6, 100);
	struct vmci_handle h = rig_endpoint(rig, a, NULL), of_b = rig_endpoint(rig, b, NULL);

	/* With the resource, also when two names, or another client's, point to it. */
	assert_int_equal(rig_register(a, "one", h), 0);
	assert_int_equal(rig_register(a, "two", h), 0);
	assert_int_equal(rig_register(a, "three", of_b), 0);
	assert_int_equal(brk_dg_destroy(a, h), 0);
	assert_int_equal(rig_lookup(b, "one", NULL), VMCI_ERROR_NOT_FOUND);
	assert_int_equal(rig_lookup(b, "two", NULL), VMCI_ERROR_NOT_FOUND);
	assert_int_equal(rig_lookup(b, "three", NULL), 0);
	/* With the context of the handle, not before. */
	assert_int_equal(rig_register(a, "four", handle_make(100, 5000)), 0);
	assert_int_equal(rig_register(c, "five", handle_make(100, 5000)), 0);
	rig_leave(rig, c);
	assert_int_equal(rig_lookup(a, "five", NULL), VMCI_ERROR_NOT_FOUND);
	assert_int_equal(rig_lookup(a, "four", NULL), 0);
	rig_leave(rig, b);
	assert_int_equal(rig_lookup(a, "three", NULL), VMCI_ERROR_NOT_FOUND);
	assert_int_equal(rig_lookup(a, "four", NULL), VMCI_ERROR_NOT_FOUND);
}

static void test_quota(void **state)
{
	struct rig *rig = *state;
	struct brk_client *a = rig_join(rig, 5, 100), *b = rig_join(rig, 5, 100), *c = rig_join(rig, 6, 2);
	char name[16];

	for (unsigned i = 0; i < LIMIT_BRK_NAMES; i++) {
		snprintf(name, sizeof(name), "n%u", i);
		assert_int_equal(rig_register(i & 1 ? a : b, name, handle_make(100, 2000)), 0);
	}
	assert_int_equal(rig_register(a, "more", handle_make(100, 2000)), VMCI_ERROR_NO_RESOURCES);
	assert_int_equal(rig_register(b, "more", handle_make(100, 2000)), VMCI_ERROR_NO_RESOURCES);
	assert_int_equal(rig_register(c, "other", handle_make(2, 2000)), 0);
	assert_int_equal(rig_unregister(c, "n0"), 0);
	assert_int_equal(rig_register(a, "more", handle_make(100, 2000)), 0);
}

static void test_strangers_names_are_not_there(void **state)
{
	struct rig *rig = *state;
	struct brk_client *vm = rig_vm(rig, &(struct brk_vm){ .cid = 40, .domain = "x" }, NULL);
	struct brk_client *friend = rig_vm(rig, &(struct brk_vm){ .cid = 41, .domain = "x" }, NULL);
	struct brk_client *stranger = rig_vm(rig, &(struct brk_vm){ .cid = 42, .restricted = true }, NULL);

	assert_int_equal(rig_register(vm, "name", handle_make(40, 2000)), 0);
	assert_int_equal(rig_lookup(friend, "name", NULL), 0);
	assert_int_equal(rig_lookup(stranger, "name", NULL), VMCI_ERROR_NOT_FOUND);
	assert_int_equal(rig_lookup(rig_join(rig, 5, 2), "name", NULL), 0);
}

/* SDK, 6.2: by datagram to {1, 1}, also of restricted VMs. */
static void test_s62_by_datagram(void **state)
{
	struct rig *rig = *state;
	struct thing *sinks[2];
	struct brk_client *vm = rig_vm(rig, &(struct brk_vm){ .cid = 40, .restricted = true }, sinks);
	struct brk_client *a = rig_join(rig, 5, 2);
	struct discovery_request request = { DISCOVERY_REGISTER, 9, { 40, 2000 }, "guest", 5 };
	struct discovery_reply reply;
	uint8_t dg[VMCI_DG_HEADER_SIZE + DISCOVERY_PAYLOAD_MAX + 1] = { 0 };
	struct thing *sink;
	struct vmci_handle h = rig_endpoint(rig, a, &sink);
	struct dg_header head;
	size_t size;

	size = discovery_request_build(dg + 24, &request);
	dg_build(dg, handle_make(1, 1), handle_make(40, 3000), size);
	assert_int_equal(brk_dg_send(vm, dg, 24 + size), 24 + size);
	assert_int_equal(sinks[0]->n, 1);
	head = dg_parse(sinks[0]->got[0]);
	assert_handle(head.src, 1, 1);
	assert_handle(head.dst, 40, 3000);
	assert_int_equal(discovery_reply_parse(sinks[0]->got[0] + 24, sinks[0]->size[0] - 24, &reply), 0);
	assert_int_equal(reply.id, 9);
	assert_int_equal(reply.code, 0);

	/* Replies would end the guest's reading (VMCI, 3.1), look like an event, or like stream control. */
	for (uint32_t rid = UINT32_MAX; rid + 1 < 3; rid++) {
		dg_build(dg, handle_make(1, 1), handle_make(40, rid), size);
		assert_int_equal(brk_dg_send(vm, dg, 24 + size), VMCI_ERROR_INVALID_ARGS);
	}
	assert_int_equal(sinks[0]->n, 1);

	request.action = DISCOVERY_LOOKUP;
	size = discovery_request_build(dg + 24, &request);
	dg_build(dg, handle_make(1, 1), h, size);
	assert_int_equal(brk_dg_send(a, dg, 24 + size), 24 + size);
	head = dg_parse(sink->got[0]);
	assert_true(handle_is_equal(head.dst, h));
	assert_int_equal(discovery_reply_parse(sink->got[0] + 24, sink->size[0] - 24, &reply), 0);
	assert_handle(reply.handle, 40, 2000);

	/* Nonsense. */
	request.action = 3;
	size = discovery_request_build(dg + 24, &request);
	assert_int_equal(brk_dg_send(a, dg, 24 + size), 24 + size);
	assert_int_equal(discovery_reply_parse(sink->got[1] + 24, sink->size[1] - 24, &reply), 0);
	assert_int_equal(reply.code, VMCI_ERROR_GENERIC);
	assert_true(reply.text_size > 0);
	dg_build(dg, handle_make(1, 1), h, 20);
	assert_int_equal(brk_dg_send(a, dg, 44), VMCI_ERROR_INVALID_ARGS);
	dg_build(dg, handle_make(1, 1), h, 301);
	assert_int_equal(brk_dg_send(a, dg, 325), VMCI_ERROR_PAYLOAD_TOO_LARGE);
	assert_int_equal(sink->n, 2);
	/* No room for the reply. */
	sink->refuse = VMCI_ERROR_NO_RESOURCES;
	dg_build(dg, handle_make(1, 1), h, size);
	assert_int_equal(brk_dg_send(a, dg, 24 + size), VMCI_ERROR_NO_RESOURCES);
}

static void test_names_with_a_nul(void **state)
{
	struct rig *rig = *state;
	struct brk_client *a = rig_join(rig, 5, 2);
	const struct discovery_request request = { DISCOVERY_REGISTER, 9, { 2, 2000 }, "a\0b", 3 };
	uint8_t buf[DISCOVERY_PAYLOAD_MAX], answer[DISCOVERY_REPLY_MAX], token[BRK_TOKEN_SIZE];
	static const uint8_t none[BRK_TOKEN_SIZE];
	struct discovery_reply reply;
	size_t size = discovery_request_build(buf, &request);

	assert_int_equal(brk_name(a, buf, size, NULL, answer, &size, token), 0);
	assert_int_equal(discovery_reply_parse(answer, size, &reply), 0);
	assert_int_equal(reply.code, VMCI_ERROR_INVALID_ARGS);
	assert_memory_equal(token, none, sizeof(none));
	assert_int_equal(brk_name(a, buf, 20, NULL, answer, &size, token), VMCI_ERROR_INVALID_ARGS);
	assert_int_equal(brk_name(a, buf, DISCOVERY_PAYLOAD_MAX + 1, NULL, answer, &size, token),
			 VMCI_ERROR_PAYLOAD_TOO_LARGE);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_s63_rules, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_s102_rules, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_they_vanish, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_quota, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_strangers_names_are_not_there, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_s62_by_datagram, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_names_with_a_nul, rig_setup, rig_teardown),
	};

	return cmocka_run_group_tests_name("broker names", tests, NULL, NULL);
}
