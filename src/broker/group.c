/* SPDX-License-Identifier: BSD-2-Clause */
/* Groups of contexts, for rights. SDK, 5.4. */
#include <stdlib.h>

#include "broker/priv.h"

int32_t brk_group_public(struct brk *brk)
{
	struct brk_group *group = calloc(1, sizeof(*group));
	struct brk_resource *resource;

	if (!group)
		return VMCI_ERROR_NO_MEM;
	resource = &group->resource;
	if (brk_object_add(brk, &resource->object, BRK_KIND_RESOURCE) < 0) {
		free(group);
		return VMCI_ERROR_NO_MEM;
	}
	resource->type = BRK_GROUP;
	resource->handle = handle_make(VMCI_CID_HOST, BRK_PUBLIC_GROUP_RID);
	resource->is_trusted = true;
	brk_link_init(&resource->owned);
	brk_side_init(&resource->grants);
	brk_side_init(&group->members);
	brk_side_init(&group->granted);
	brk_table_add(&brk->handles, &resource->node,
		      brk_hash(brk->seed, resource->handle.context, resource->handle.resource));
	brk->public = group;
	if (brk_name_new(brk, NULL, BRK_PUBLIC_GROUP_NAME, sizeof(BRK_PUBLIC_GROUP_NAME) - 1, resource->handle, 0) <
	    0) {
		brk_resource_free(brk, resource);
		return VMCI_ERROR_NO_MEM;
	}
	return VMCI_SUCCESS;
}

struct brk_group *brk_group_find(const struct brk *brk, struct vmci_handle handle)
{
	struct brk_resource *resource = brk_resource_find(brk, handle);

	return resource && resource->type == BRK_GROUP ? brk_of(resource, struct brk_group, resource) : NULL;
}

static void remove_member(struct brk *brk, struct brk_relation *member)
{
	struct brk_context *context = brk_of(member->side[1], struct brk_context, members);

	brk_relation_free(brk, member);
	brk_context_put(brk, context);
}

void brk_group_done(struct brk *brk, struct brk_group *group)
{
	while (group->members.count)
		remove_member(brk, brk_relation_first(&group->members, 0));
	brk_grants_free(brk, &group->granted, 1);
}

int32_t brk_group_create(struct brk_client *client, uint32_t rid, const uint8_t *resume, struct vmci_handle *ret_handle,
			 uint8_t *ret_token)
{
	struct brk_resource *resource;
	struct brk_group *group;
	struct brk_wish wish;
	int32_t result;

	if (!client->context)
		return VMCI_ERROR_INVALID_ARGS;
	result = brk_resource_wish(client, VMCI_CID_HOST, resume ? rid : VMCI_INVALID_ID, BRK_TOKEN_GROUP, resume,
				   false, &wish);
	if (result >= 0)
		result = brk_resource_new(client, sizeof(*group), BRK_GROUP, &wish, 0, &resource);
	if (result < 0)
		return result;
	group = brk_of(resource, struct brk_group, resource);
	brk_side_init(&group->members);
	brk_side_init(&group->granted);
	brk_list_add(&client->resources, &resource->owned);
	brk_token_make(client, BRK_TOKEN_GROUP, wish.handle, wish.stamp, ret_token);
	*ret_handle = wish.handle;
	return VMCI_SUCCESS;
}

int32_t brk_group_destroy(struct brk_client *client, struct vmci_handle group)
{
	struct brk_resource *resource;
	int32_t result = brk_resource_own(client, group, BRK_GROUP, &resource);

	if (result >= 0)
		brk_resource_free(client->brk, resource);
	return result;
}

static int32_t find(struct brk_client *client, struct vmci_handle handle, struct vmci_handle member,
		    struct brk_group **ret_group)
{
	if (!client->context || member.resource || !brk_cid_is_possible(member.context))
		return VMCI_ERROR_INVALID_ARGS;
	*ret_group = brk_group_find(client->brk, handle);
	return *ret_group ? VMCI_SUCCESS : VMCI_ERROR_NOT_FOUND;
}

/* The same, for who wants to change it. */
static int32_t find_to_change(struct brk_client *client, struct vmci_handle handle, struct vmci_handle member,
			      struct brk_group **ret_group, struct brk_relation **ret_member)
{
	int32_t result = find(client, handle, member, ret_group);
	struct brk_context *context;

	if (result < 0)
		return result;
	if (!brk_right_may_change(client, &(*ret_group)->resource, VMCI_PRIV_CH_PRIV) &&
	    !brk_right_may_change(client, &(*ret_group)->resource, VMCI_PRIV_ASSIGN_CLIENT))
		return brk_denied(client, "change group", handle, "not the owner");
	context = brk_context_find(client->brk, member.context);
	*ret_member = context ? brk_relation_find(client->brk, &(*ret_group)->members, &context->members) : NULL;
	return VMCI_SUCCESS;
}

int32_t brk_group_add(struct brk_client *client, struct vmci_handle group, struct vmci_handle member, bool assign)
{
	struct brk_context *context;
	struct brk_relation *known;
	struct brk_group *object;
	int32_t result = find_to_change(client, group, member, &object, &known);

	if (result < 0)
		return result;
	if (known)
		return VMCI_ERROR_ALREADY_EXISTS;
	if (object->members.count >= LIMIT_BRK_MEMBERS)
		return VMCI_ERROR_NO_RESOURCES;
	context = brk_context_get(client->brk, member.context);
	if (!context)
		return VMCI_ERROR_NO_MEM;
	known = brk_relation_new(client->brk, &object->members, &context->members);
	if (!known) {
		brk_context_put(client->brk, context);
		return VMCI_ERROR_NO_MEM;
	}
	known->assign = assign;
	return VMCI_SUCCESS;
}

int32_t brk_group_remove(struct brk_client *client, struct vmci_handle group, struct vmci_handle member)
{
	struct brk_relation *known;
	struct brk_group *object;
	int32_t result = find_to_change(client, group, member, &object, &known);

	if (result < 0)
		return result;
	if (!known)
		return VMCI_ERROR_NOT_FOUND;
	remove_member(client->brk, known);
	return VMCI_SUCCESS;
}

int32_t brk_group_is_member(struct brk_client *client, struct vmci_handle group, struct vmci_handle member)
{
	struct brk_context *context;
	struct brk_group *object;
	int32_t result = find(client, group, member, &object);

	if (result < 0)
		return result;
	context = brk_context_find(client->brk, member.context);
	if (object == client->brk->public)
		return context && context->presence != BRK_ABSENT;
	return context && brk_relation_find(client->brk, &object->members, &context->members);
}
