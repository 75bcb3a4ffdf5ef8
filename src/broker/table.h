/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Hash tables of nodes inside objects. The hash is keyed with a random seed, so that a peer, who chooses many of the
 * keys, cannot choose where they end up.
 */
#ifndef BROKER_TABLE_H
#define BROKER_TABLE_H

#include <stddef.h>
#include <stdint.h>

struct brk_node {
	struct brk_node *next;
	struct brk_node **link;	/* what points to us */
	uint64_t hash;
};

/**
 * struct brk_table - a table; all zeroes but for @bucket is empty
 * @mask:  number of buckets (a power of two) - 1
 * @count: nodes in it
 */
struct brk_table {
	struct brk_node **bucket;
	size_t mask;
	size_t count;
};

/* brk_hash() - of two words, or of bytes, keyed by @seed */
uint64_t brk_hash(const uint64_t seed[2], uint64_t a, uint64_t b);
uint64_t brk_hash_bytes(const uint64_t seed[2], const void *data, size_t size);

/* brk_table_init() - Return: 0 or -ENOMEM */
int brk_table_init(struct brk_table *table);

/* brk_table_done() - free the table, which is empty or whose nodes nobody will touch again */
void brk_table_done(struct brk_table *table);

/* brk_table_add() - add a node; there may be others of this hash. Without memory to grow it gets slow, no more. */
void brk_table_add(struct brk_table *table, struct brk_node *node, uint64_t hash);

void brk_table_del(struct brk_table *table, struct brk_node *node);

/* brk_table_first(), brk_table_next() - the nodes of one hash; NULL is the end. The caller compares keys. */
struct brk_node *brk_table_first(const struct brk_table *table, uint64_t hash);
struct brk_node *brk_table_next(const struct brk_node *node);

#endif /* BROKER_TABLE_H */
