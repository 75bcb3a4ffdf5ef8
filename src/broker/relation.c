/* SPDX-License-Identifier: BSD-2-Clause */
/* Who is related with whom. */
#include <stdlib.h>

#include "broker/priv.h"

static uint64_t hash_of(const struct brk *brk, const struct brk_side *a, const struct brk_side *b)
{
	return brk_hash(brk->seed, (uintptr_t)a, (uintptr_t)b);
}

struct brk_relation *brk_relation_new(struct brk *brk, struct brk_side *a, struct brk_side *b)
{
	struct brk_relation *relation = calloc(1, sizeof(*relation));

	if (!relation)
		return NULL;
	relation->side[0] = a;
	relation->side[1] = b;
	relation->order = ++brk->gen;
	brk_link_init(&relation->due);
	for (unsigned i = 0; i < 2; i++) {
		brk_list_add(&relation->side[i]->list, &relation->link[i]);
		relation->side[i]->count++;
	}
	brk_table_add(&brk->relations, &relation->node, hash_of(brk, a, b));
	return relation;
}

void brk_relation_free(struct brk *brk, struct brk_relation *relation)
{
	for (unsigned i = 0; i < 2; i++) {
		brk_list_del(&relation->link[i]);
		relation->side[i]->count--;
	}
	brk_list_del(&relation->due);
	brk_table_del(&brk->relations, &relation->node);
	free(relation);
}

struct brk_relation *brk_relation_find(const struct brk *brk, const struct brk_side *a, const struct brk_side *b)
{
	struct brk_node *node = brk_table_first(&brk->relations, hash_of(brk, a, b));

	for (; node; node = brk_table_next(node)) {
		struct brk_relation *relation = brk_of(node, struct brk_relation, node);

		if (relation->side[0] == a && relation->side[1] == b)
			return relation;
	}
	return NULL;
}
