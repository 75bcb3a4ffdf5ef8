/* SPDX-License-Identifier: BSD-2-Clause */
/* Resources: whatever has a handle. One name space for all kinds of them in each context. */
#include <stdlib.h>

#include "broker/priv.h"

static uint64_t hash_of(const struct brk *brk, struct vmci_handle handle)
{
	return brk_hash(brk->seed, handle.context, handle.resource);
}

struct brk_resource *brk_resource_find(const struct brk *brk, struct vmci_handle handle)
{
	struct brk_node *node = brk_table_first(&brk->handles, hash_of(brk, handle));

	for (; node; node = brk_table_next(node)) {
		struct brk_resource *resource = brk_of(node, struct brk_resource, node);

		if (handle_is_equal(resource->handle, handle))
			return resource;
	}
	return NULL;
}

/* Ids are used again as late as possible: the search goes on where it stopped. */
static struct vmci_handle choose(struct brk *brk, uint32_t cid)
{
	struct vmci_handle handle;

	do {
		handle = handle_make(cid, brk->next_rid++);
		if (brk->next_rid == VMCI_INVALID_ID)
			brk->next_rid = VMCI_RID_FIRST_DYNAMIC;
	} while (brk_resource_find(brk, handle));
	return handle;
}

int32_t brk_resource_wish(struct brk_client *client, uint32_t cid, uint32_t rid, enum brk_token kind,
			  const uint8_t *resume, bool is_shared, struct brk_wish *ret_wish)
{
	struct brk *brk = client->brk;
	struct vmci_handle handle = handle_make(cid, rid);
	struct brk_wish wish = { .handle = handle };
	int32_t result;
	bool is_own_vm = client->creds.device && client->context->cid == cid;

	if (rid == VMCI_INVALID_ID && resume)
		return VMCI_ERROR_INVALID_ARGS;
	if (rid == VMCI_INVALID_ID) {
		*ret_wish = (struct brk_wish){ .handle = choose(brk, cid), .stamp = brk_stamp_new(brk) };
		return VMCI_SUCCESS;
	}
	/* The context itself, and the control of streams. */
	if (rid <= VMCI_RID_STREAM)
		return brk_denied(client, "have", handle, "reserved");
	if (resume) {
		if (!brk_token_is_good(client, kind, handle, resume, &wish.stamp))
			return brk_denied(client, "have", handle, "wrong token");
		result = brk_resource_contest(client, &wish);
		if (result < 0)
			return result;
		*ret_wish = wish;
		return wish.known && !is_shared ? VMCI_ERROR_ALREADY_EXISTS : VMCI_SUCCESS;
	}
	if (brk_resource_find(brk, handle))
		return VMCI_ERROR_ALREADY_EXISTS;
	if (!is_own_vm) {
		if (rid < VMCI_RID_FIRST_DYNAMIC && !brk_client_is_trusted(client))
			return brk_denied(client, "have", handle, "id below 1024");
		if (brk->is_grace)
			return BRK_LATER;
	}
	wish.stamp = brk_stamp_new(brk);
	*ret_wish = wish;
	return VMCI_SUCCESS;
}

int32_t brk_resource_contest(struct brk_client *client, struct brk_wish *wish)
{
	struct brk_resource *known = brk_resource_find(client->brk, wish->handle);

	if (known && brk_stamp_fits(wish->stamp, known->stamp)) {
		wish->known = known;
		return VMCI_SUCCESS;
	}
	if (!known)
		return VMCI_SUCCESS;
	if (!brk_stamp_displaces(client->brk, wish->stamp, known->stamp))
		return VMCI_ERROR_ALREADY_EXISTS;
	brk_note(client, LOG_LEVEL_INFO, "has %u:%u back from user %u, who showed an older token",
		 wish->handle.context, wish->handle.resource, known->uid);
	brk_resource_displace(client->brk, known);
	return VMCI_SUCCESS;
}

int32_t brk_resource_new(struct brk_client *client, size_t size, enum brk_type type, const struct brk_wish *wish,
			 uint64_t bytes, struct brk_resource **ret_resource)
{
	struct brk *brk = client->brk;
	struct brk_resource *resource;

	if (!brk_account_has_room(client->account, type, bytes))
		return VMCI_ERROR_NO_RESOURCES;
	resource = calloc(1, size);
	if (!resource || brk_object_add(brk, &resource->object, BRK_KIND_RESOURCE) < 0) {
		free(resource);
		return VMCI_ERROR_NO_MEM;
	}
	resource->type = type;
	resource->handle = wish->handle;
	resource->stamp = wish->stamp;
	resource->owner = client;
	resource->gen = client->context->gen;
	resource->uid = client->creds.uid;
	resource->is_trusted = brk_client_is_trusted(client);
	resource->account = client->account;
	resource->bytes = bytes;
	brk_link_init(&resource->owned);
	brk_side_init(&resource->grants);
	brk_account_add(client->account, type, bytes);
	brk_table_add(&brk->handles, &resource->node, hash_of(brk, wish->handle));
	*ret_resource = resource;
	return VMCI_SUCCESS;
}

static void destroy(struct brk *brk, struct brk_resource *resource)
{
	if (resource->type == BRK_GROUP)
		brk_group_done(brk, brk_of(resource, struct brk_group, resource));
	if (resource->type == BRK_REGION)
		brk_window_unplace(brk, brk_of(resource, struct brk_region, resource));
	brk_grants_free(brk, &resource->grants, 0);
	brk_list_del(&resource->owned);
	brk_table_del(&brk->handles, &resource->node);
	brk_object_del(brk, &resource->object);
	brk_drop(brk, resource->thing);
	if (resource->account)
		brk_account_del(brk, resource->account, resource->type, resource->bytes);
	free(resource);
}

void brk_resource_free(struct brk *brk, struct brk_resource *resource)
{
	brk_names_free(brk, resource->handle);
	destroy(brk, resource);
}

void brk_resource_displace(struct brk *brk, struct brk_resource *resource)
{
	if (resource->type == BRK_PAIR)
		brk_pair_done(brk, brk_of(resource, struct brk_pair, resource));
	if (resource->type == BRK_REGION)
		brk_region_done(brk, brk_of(resource, struct brk_region, resource));
	destroy(brk, resource);
}

int32_t brk_resource_own(struct brk_client *client, struct vmci_handle handle, enum brk_type type,
			 struct brk_resource **ret_resource)
{
	struct brk_resource *resource;

	if (!client->context)
		return VMCI_ERROR_INVALID_ARGS;
	resource = brk_resource_find(client->brk, handle);
	if (!resource || resource->type != type)
		return VMCI_ERROR_NOT_FOUND;
	if (resource->owner != client)
		return VMCI_ERROR_NO_ACCESS;
	*ret_resource = resource;
	return VMCI_SUCCESS;
}
