/* SPDX-License-Identifier: BSD-2-Clause */
/* The list for humans. */
#include <stdlib.h>

#include "rig.h"

static char *list_all(struct brk_client *client, size_t size, unsigned *ret_calls)
{
	char *all = calloc(1, 1 << 20), *buf = malloc(size);
	size_t used = 0;
	uint64_t next = 0;

	assert_true(all && buf);
	*ret_calls = 0;
	do {
		int32_t n = brk_list(client, next, buf, size, &next);

		assert_in_range(n, 0, size);
		assert_true(!n || buf[n - 1] == '\n');
		assert_true(used + (size_t)n < 1 << 20);
		memcpy(all + used, buf, (size_t)n);
		used += (size_t)n;
		assert_true(++*ret_calls < 10000);
	} while (next);
	free(buf);
	return all;
}

static void test_lines(void **state)
{
	struct rig *rig = *state;
	struct brk_client *a = rig_join(rig, 5, 2), *b = rig_join(rig, 6, 100), *root = rig_join(rig, 0, 2);
	struct brk_client *vm = rig_vm(rig, &(struct brk_vm){ .cid = 40, .name = "we\nb", .domain = "blue",
							      .restricted = true }, NULL);
	struct brk_client *stranger = rig_vm(rig, &(struct brk_vm){ .cid = 41 }, NULL);
	struct brk_qp qp = { .handle = { 2, 3000 }, .peer = ANY, .produce = 1, .consume = 2 };
	struct vmci_handle h = rig_endpoint(rig, a, NULL);
	unsigned calls;
	char *all;

	assert_int_equal(brk_qp_create(a, &qp, NULL, rig_thing(rig), &h, NULL), 4);
	assert_int_equal(brk_shm_create(a, 3001, 128, 0, NULL, rig_thing(rig), &h, NULL), 0);
	assert_int_equal(brk_watch(b, 999, true), 0);
	assert_int_equal(rig_register(a, "HOST\tINFO", h), 0);
	all = list_all(root, 4096, &calls);
	assert_int_equal(calls, 1);
	assert_non_null(strstr(all, "context 2 host\n"));
	assert_non_null(strstr(all, "context 100 software\n"));
	assert_non_null(strstr(all, "context 40 vm name we?b restricted domain blue\n"));
	assert_non_null(strstr(all, "client 100 uid 5 context 2 test\n"));
	assert_non_null(strstr(all, "client 100 uid 0 context 2 trusted test\n"));
	assert_non_null(strstr(all, "pair 2:3000 uid 5 client 100 created ends 2 -1 bytes 1 2\n"));
	assert_non_null(strstr(all, "region 2:3001 uid 5 client 100 bytes 128 attached 1\n"));
	assert_non_null(strstr(all, "name 2:3001 \"HOST?INFO\"\n"));
	assert_non_null(strstr(all, "name 2:1023 \"vmci public group\"\n"));
	assert_non_null(strstr(all, "group 2:1023 uid 0\n"));
	assert_null(strstr(all, "999"));
	free(all);
	/* Another user sees contexts and names. */
	all = list_all(b, 4096, &calls);
	assert_non_null(strstr(all, "context 40"));
	assert_non_null(strstr(all, "HOST?INFO"));
	assert_non_null(strstr(all, "client 100 uid 6"));
	assert_null(strstr(all, "uid 5"));
	assert_null(strstr(all, "region"));
	free(all);
	/* Strangers do not see each other. */
	all = list_all(stranger, 4096, &calls);
	assert_null(strstr(all, "context 40"));
	assert_non_null(strstr(all, "context 41"));
	free(all);
	(void)vm;
}

static void test_pieces(void **state)
{
	struct rig *rig = *state;
	struct brk_client *root = rig_join(rig, 0, 2);
	unsigned calls, lines = 0;
	char buf[LIMIT_BRK_LINE];
	uint64_t next;
	char *all;

	for (unsigned i = 0; i < 500; i++)
		rig_endpoint(rig, root, NULL);
	all = list_all(root, LIMIT_BRK_LINE, &calls);
	for (char *p = all; *p; p++)
		lines += *p == '\n';
	/* Host, public group and its name, the client, the endpoints. */
	assert_int_equal(lines, 504);
	assert_true(calls > 10);
	free(all);
	assert_int_equal(brk_list(root, 0, buf, LIMIT_BRK_LINE - 1, &next), VMCI_ERROR_INVALID_ARGS);
	assert_int_equal(brk_list(root, UINT64_MAX, buf, sizeof(buf), &next), 0);
	assert_int_equal(next, 0);
}

static void test_one_call_looks_at_so_many(void **state)
{
	struct rig *rig = *state;
	struct brk_client *user = rig_join(rig, 6, 2), *a = rig_join(rig, 5, 2), *b = rig_join(rig, 5, 100);
	struct brk_client *c = rig_join(rig, 5, 101);
	unsigned calls;

	for (unsigned i = 0; i < LIMIT_BRK_ENDPOINTS; i++) {
		rig_endpoint(rig, a, NULL);
		rig_endpoint(rig, b, NULL);
		rig_endpoint(rig, c, NULL);
	}
	free(list_all(user, 4096, &calls));
	assert_int_equal(calls, 2);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_lines, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_pieces, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_one_call_looks_at_so_many, rig_setup, rig_teardown),
	};

	return cmocka_run_group_tests_name("broker list", tests, NULL, NULL);
}
