/* SPDX-License-Identifier: BSD-2-Clause */
/* The broker itself: its tables, and the places of objects. */
#include "broker/broker.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "broker/priv.h"

#define FIRST_SLOTS 64u

static void close_tables(struct brk *brk)
{
	brk_table_done(&brk->handles);
	brk_table_done(&brk->contexts);
	brk_table_done(&brk->users);
	brk_table_done(&brk->names);
	brk_table_done(&brk->named);
	brk_table_done(&brk->relations);
}

static int open_tables(struct brk *brk)
{
	int r = 0;

	r |= brk_table_init(&brk->handles);
	r |= brk_table_init(&brk->contexts);
	r |= brk_table_init(&brk->users);
	r |= brk_table_init(&brk->names);
	r |= brk_table_init(&brk->named);
	r |= brk_table_init(&brk->relations);
	return r ? -ENOMEM : 0;
}

struct brk_limits brk_limits_default(void)
{
	return (struct brk_limits){
		.clients = LIMIT_BRK_CLIENTS_USER,
		.contexts = LIMIT_BRK_CONTEXTS_USER,
		.resources = LIMIT_BRK_RESOURCES_USER,
		.region_bytes = LIMIT_BRK_REGION_BYTES_USER,
		.endpoints = LIMIT_BRK_ENDPOINTS,
		.doorbells = LIMIT_DOORBELLS,
		.pairs = LIMIT_QUEUE_PAIRS,
		.regions = LIMIT_BRK_REGIONS,
		.groups = LIMIT_BRK_GROUPS,
		.names = LIMIT_BRK_NAMES,
	};
}

static unsigned lower(unsigned limit, unsigned wish)
{
	return wish < limit ? wish : limit;
}

void brk_limit(struct brk *brk, const struct brk_limits *limits)
{
	const struct brk_limits most = brk_limits_default();

	brk->limits = (struct brk_limits){
		.clients = lower(most.clients, limits->clients),
		.contexts = lower(most.contexts, limits->contexts),
		.resources = lower(most.resources, limits->resources),
		.region_bytes = limits->region_bytes < most.region_bytes ? limits->region_bytes : most.region_bytes,
		.endpoints = lower(most.endpoints, limits->endpoints),
		.doorbells = lower(most.doorbells, limits->doorbells),
		.pairs = lower(most.pairs, limits->pairs),
		.regions = lower(most.regions, limits->regions),
		.groups = lower(most.groups, limits->groups),
		.names = lower(most.names, limits->names),
		.trusted_names = limits->trusted_names,
	};
}

int brk_new(const struct brk_config *config, const struct brk_ports *ports, struct brk **ret_brk)
{
	struct brk *brk = calloc(1, sizeof(*brk));
	uint64_t start;

	if (!brk)
		return -ENOMEM;
	brk->ports = *ports;
	brk->limits = brk_limits_default();
	memcpy(brk->seed, config->seed, sizeof(brk->seed));
	brk->free = BRK_NO_SLOT;
	brk_link_init(&brk->due);
	brk->last_free = BRK_NO_SLOT;
	start = brk_hash(brk->seed, 1, 2);
	brk->next_rid = VMCI_RID_FIRST_DYNAMIC + (uint32_t)(start >> 32) % (VMCI_INVALID_ID - VMCI_RID_FIRST_DYNAMIC);
	brk->next_cid = BRK_CID_FIRST + (uint32_t)start % (BRK_CID_LAST - BRK_CID_FIRST + 1);
	brk_link_init(&brk->windows);
	if (open_tables(brk))
		goto fail;
	brk->host = brk_context_get(brk, VMCI_CID_HOST);
	if (!brk->host)
		goto fail;
	brk->host->presence = BRK_HOST;
	brk->host->gen = ++brk->gen;
	if (brk_group_public(brk))
		goto fail_host;
	*ret_brk = brk;
	return 0;
fail_host:
	brk->host->presence = BRK_ABSENT;
	brk_context_put(brk, brk->host);
fail:
	close_tables(brk);
	free(brk->slot);
	free(brk);
	return -ENOMEM;
}

struct brk *brk_free(struct brk *brk)
{
	if (!brk)
		return NULL;
	brk_resource_free(brk, &brk->public->resource);
	/* What is left are contexts: nobody has joined them, and only reservations and the host refer to them. */
	for (uint32_t i = 0; i < brk->used; i++) {
		struct brk_object *object = brk->slot[i].object;
		struct brk_context *context;

		if (!object)
			continue;
		assert(object->kind == BRK_KIND_CONTEXT);
		context = brk_of(object, struct brk_context, object);
		context->presence = BRK_ABSENT;
		context->is_reserved = false;
		brk_context_put(brk, context);
		assert(!brk->slot[i].object);
	}
	assert(!brk->handles.count && !brk->contexts.count && !brk->users.count && !brk->names.count &&
	       !brk->named.count && !brk->relations.count && brk_list_is_empty(&brk->windows));
	close_tables(brk);
	free(brk->slot);
	free(brk);
	return NULL;
}

void brk_grace(struct brk *brk, bool on)
{
	brk->is_grace = on;
	if (!on)
		brk_watches_due(brk);
}

void brk_notes_renew(struct brk *brk)
{
	brk->notes_period++;
}

int32_t brk_object_add(struct brk *brk, struct brk_object *object, enum brk_kind kind)
{
	uint32_t slot = brk->free;

	if (slot != BRK_NO_SLOT) {
		brk->free = brk->slot[slot].next;
		if (brk->free == BRK_NO_SLOT)
			brk->last_free = BRK_NO_SLOT;
	} else {
		if (brk->used == brk->n_slots) {
			uint32_t n = brk->n_slots ? 2 * brk->n_slots : FIRST_SLOTS;
			struct brk_slot *grown = n < BRK_NO_SLOT / 2 ?
				reallocarray(brk->slot, n, sizeof(grown[0])) : NULL;

			if (!grown)
				return VMCI_ERROR_NO_MEM;
			brk->slot = grown;
			brk->n_slots = n;
		}
		slot = brk->used++;
	}
	brk->slot[slot] = (struct brk_slot){ .object = object };
	object->kind = kind;
	object->slot = slot;
	return VMCI_SUCCESS;
}

void brk_object_del(struct brk *brk, struct brk_object *object)
{
	brk->slot[object->slot] = (struct brk_slot){ .next = BRK_NO_SLOT };
	if (brk->last_free == BRK_NO_SLOT)
		brk->free = object->slot;
	else
		brk->slot[brk->last_free].next = object->slot;
	brk->last_free = object->slot;
}
