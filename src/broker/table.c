/* SPDX-License-Identifier: BSD-2-Clause */
/* Hash tables with chains, which double when there are as many nodes as buckets. */
#include "broker/table.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define FIRST_BUCKETS 64u

/* Every bit of the result depends on every bit of @v (the finaliser of a well-known 64-bit mixing function). */
static uint64_t mix(uint64_t v)
{
	v ^= v >> 30;
	v *= UINT64_C(0xbf58476d1ce4e5b9);
	v ^= v >> 27;
	v *= UINT64_C(0x94d049bb133111eb);
	return v ^ v >> 31;
}

uint64_t brk_hash(const uint64_t seed[2], uint64_t a, uint64_t b)
{
	return mix(mix(mix(a ^ seed[0]) + (b ^ seed[1])) ^ seed[0]);
}

uint64_t brk_hash_bytes(const uint64_t seed[2], const void *data, size_t size)
{
	const uint8_t *p = data;
	uint64_t hash = seed[0] ^ size;

	while (size) {
		size_t n = size < 8 ? size : 8;
		uint64_t word = 0;

		memcpy(&word, p, n);
		hash = mix(mix(hash + seed[1]) ^ word);
		p += n;
		size -= n;
	}
	return mix(hash ^ seed[1]);
}

int brk_table_init(struct brk_table *table)
{
	table->bucket = calloc(FIRST_BUCKETS, sizeof(table->bucket[0]));
	table->mask = FIRST_BUCKETS - 1;
	table->count = 0;
	return table->bucket ? 0 : -ENOMEM;
}

void brk_table_done(struct brk_table *table)
{
	free(table->bucket);
	table->bucket = NULL;
}

static void put(struct brk_table *table, struct brk_node *node)
{
	struct brk_node **link = &table->bucket[node->hash & table->mask];

	node->next = *link;
	node->link = link;
	if (node->next)
		node->next->link = &node->next;
	*link = node;
}

static void grow(struct brk_table *table)
{
	struct brk_table old = *table;
	struct brk_node **bucket = calloc(2 * (old.mask + 1), sizeof(bucket[0]));

	if (!bucket)
		return;
	table->bucket = bucket;
	table->mask = 2 * old.mask + 1;
	for (size_t i = 0; i <= old.mask; i++) {
		struct brk_node *node = old.bucket[i];

		while (node) {
			struct brk_node *next = node->next;

			put(table, node);
			node = next;
		}
	}
	free(old.bucket);
}

void brk_table_add(struct brk_table *table, struct brk_node *node, uint64_t hash)
{
	if (table->count > table->mask)
		grow(table);
	node->hash = hash;
	put(table, node);
	table->count++;
}

void brk_table_del(struct brk_table *table, struct brk_node *node)
{
	*node->link = node->next;
	if (node->next)
		node->next->link = node->link;
	table->count--;
}

static struct brk_node *same(struct brk_node *node, uint64_t hash)
{
	while (node && node->hash != hash)
		node = node->next;
	return node;
}

struct brk_node *brk_table_first(const struct brk_table *table, uint64_t hash)
{
	return same(table->bucket[hash & table->mask], hash);
}

struct brk_node *brk_table_next(const struct brk_node *node)
{
	return same(node->next, node->hash);
}
