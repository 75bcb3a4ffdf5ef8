/* SPDX-License-Identifier: BSD-2-Clause */
/* The queue pairs of a guest. VMCI reference, 7. */
#ifndef DEVICE_PAIR_H
#define DEVICE_PAIR_H

#include <stdbool.h>
#include <stdint.h>

#include "base/mem.h"
#include "proto/handle.h"
#include "proto/hypercall.h"
#include "proto/limits.h"

#define PAIR_BUCKETS 4096u

struct dev;

/**
 * enum dev_pair_state - who holds an end
 *
 * @DEV_PAIR_HOST:     the host made it; no memory yet.
 *	Operations: guest attaches -> BOTH; host leaves -> forgotten
 * @DEV_PAIR_GUEST:    the guest made it; has memory.
 *	Operations: host attaches -> BOTH; guest leaves -> forgotten
 * @DEV_PAIR_BOTH:     both are attached.
 *	Operations: host leaves -> SHUTDOWN; guest leaves -> GOING
 * @DEV_PAIR_SHUTDOWN: the host has left; the guest may drain its ring.
 *	Operations: guest leaves -> forgotten. Caveat: nobody can attach
 * @DEV_PAIR_GOING:    the guest leaves, and the host is being told; forgotten when it knows.
 *	Operations: the host may still look at the memory
 */
enum dev_pair_state {
	DEV_PAIR_HOST,
	DEV_PAIR_GUEST,
	DEV_PAIR_BOTH,
	DEV_PAIR_SHUTDOWN,
	DEV_PAIR_GOING,
	DEV_PAIR_NUM,
};

/* struct dev_pair - a queue pair; private to pair.c */
struct dev_pair;

/**
 * struct dev_pairs - all of a guest's; all zeroes but for @next_rid is empty
 * @count:    of them
 * @memory:   ring bytes of those that have memory, <= LIMIT_QUEUE_MEMORY
 * @next_rid: where the search for the id of the next host-made pair begins. Never goes back, not even
 *            when the device is reset, so that an id is used again as late as possible
 * @bucket:   hash table by handle
 * @owed:     those whose guest is to be told something that did not fit into its queue, oldest first
 */
struct dev_pairs {
	unsigned count;
	uint64_t memory;
	uint32_t next_rid;
	struct dev_pair *bucket[PAIR_BUCKETS];
	struct dev_pair *owed_first;
	struct dev_pair *owed_last;
};

/* dev_pair_state_to_string() - for messages */
const char *dev_pair_state_to_string(enum dev_pair_state state);

/* dev_pairs_reset() - the guest leaves all pairs, and what the host made for it is gone, too */
void dev_pairs_reset(struct dev *dev);

/**
 * dev_pairs_alloc() - hypercall QUEUEPAIR_ALLOC: the guest creates a pair, or attaches to one
 *
 * Checks are made in the order of reference 7.4. A pair that is refused leaves nothing behind.
 * Return: VMCI_SUCCESS_QUEUEPAIR_CREATE, VMCI_SUCCESS_QUEUEPAIR_ATTACH or VMCI_ERROR_*
 */
int32_t dev_pairs_alloc(struct dev *dev, const struct hc_qp_alloc *g_alloc);

/* dev_pairs_leave() - hypercall QUEUEPAIR_DETACH. Return: VMCI_SUCCESS; VMCI_ERROR_NOT_FOUND (not if adopted) */
int32_t dev_pairs_leave(struct dev *dev, struct vmci_handle g_handle);

/* dev_pairs_flush() - there is room in the inbox: tell the guest what it is owed */
void dev_pairs_flush(struct dev *dev);

#endif /* DEVICE_PAIR_H */
