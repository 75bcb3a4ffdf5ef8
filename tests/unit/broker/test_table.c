/* SPDX-License-Identifier: BSD-2-Clause */
/* Hash tables and lists. */
#include <stdlib.h>

#include "broker/list.h"
#include "broker/table.h"
#include "rig.h"

struct item {
	struct brk_node node;
	uint64_t key;
};

static const uint64_t seed[2] = { 1, 2 };

static struct item *find(const struct brk_table *table, uint64_t key)
{
	struct brk_node *node = brk_table_first(table, brk_hash(seed, key, 0));

	while (node && brk_of(node, struct item, node)->key != key)
		node = brk_table_next(node);
	return node ? brk_of(node, struct item, node) : NULL;
}

static void test_table_grows(void **state)
{
	enum { N = 5000 };
	struct item *items = calloc(N, sizeof(items[0]));
	struct brk_table table;

	(void)state;
	assert_non_null(items);
	assert_int_equal(brk_table_init(&table), 0);
	for (unsigned i = 0; i < N; i++) {
		items[i].key = i;
		brk_table_add(&table, &items[i].node, brk_hash(seed, i, 0));
	}
	assert_int_equal(table.count, N);
	assert_true(table.mask + 1 >= N);
	for (unsigned i = 0; i < N; i += 3)
		brk_table_del(&table, &items[i].node);
	for (unsigned i = 0; i < N; i++)
		assert_ptr_equal(find(&table, i), i % 3 ? &items[i] : NULL);
	brk_table_done(&table);
	free(items);
}

static void test_table_keeps_equal_hashes_apart(void **state)
{
	struct item items[3] = { { .key = 1 }, { .key = 2 }, { .key = 3 } };
	struct brk_table table;
	unsigned n = 0;

	(void)state;
	assert_int_equal(brk_table_init(&table), 0);
	for (unsigned i = 0; i < 3; i++)
		brk_table_add(&table, &items[i].node, 64);
	brk_table_del(&table, &items[1].node);
	for (struct brk_node *node = brk_table_first(&table, 64); node; node = brk_table_next(node))
		n++;
	assert_int_equal(n, 2);
	assert_null(brk_table_first(&table, 0));
	brk_table_done(&table);
}

static void test_hash_is_keyed(void **state)
{
	static const uint64_t other[2] = { 1, 3 };
	unsigned same = 0;

	(void)state;
	for (uint64_t i = 0; i < 1000; i++)
		same += (brk_hash(seed, i, 7) & 0xff) == (brk_hash(other, i, 7) & 0xff);
	assert_in_range(same, 0, 50);
	assert_int_not_equal(brk_hash(seed, 1, 2), brk_hash(seed, 2, 1));
	assert_int_not_equal(brk_hash_bytes(seed, "a\0", 2), brk_hash_bytes(seed, "a", 1));
	assert_int_not_equal(brk_hash_bytes(seed, "12345678a", 9), brk_hash_bytes(seed, "12345678b", 9));
}

static void test_list(void **state)
{
	struct brk_link head, a, b;

	(void)state;
	brk_link_init(&head);
	brk_link_init(&a);
	brk_link_init(&b);
	brk_list_add(&head, &a);
	brk_list_add(&head, &b);
	assert_ptr_equal(head.next, &a);
	brk_list_del(&a);
	brk_list_del(&a);
	assert_ptr_equal(head.next, &b);
	brk_list_del(&b);
	assert_true(brk_list_is_empty(&head));
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_table_grows),
		cmocka_unit_test(test_table_keeps_equal_hashes_apart),
		cmocka_unit_test(test_hash_is_keyed),
		cmocka_unit_test(test_list),
	};

	return cmocka_run_group_tests_name("broker tables", tests, NULL, NULL);
}
