/* SPDX-License-Identifier: BSD-2-Clause */
/* Doorbells: introduced here, rung directly. VMCI, 5. */
#include "broker/priv.h"

int32_t brk_bell_create(struct brk_client *client, uint32_t rid, const uint8_t *resume, void *bell,
			struct vmci_handle *ret_handle, uint8_t *ret_token)
{
	struct brk_resource *resource;
	struct brk_wish wish;
	int32_t result;

	if (!client->context)
		return VMCI_ERROR_INVALID_ARGS;
	result = brk_resource_wish(client, client->context->cid, rid, BRK_TOKEN_BELL, resume, false, &wish);
	if (result >= 0)
		result = brk_resource_new(client, sizeof(*resource), BRK_BELL, &wish, 0, &resource);
	if (result < 0)
		return result;
	resource->thing = bell;
	brk_list_add(&client->resources, &resource->owned);
	brk_token_make(client, BRK_TOKEN_BELL, wish.handle, wish.stamp, ret_token);
	*ret_handle = wish.handle;
	return VMCI_SUCCESS;
}

int32_t brk_bell_destroy(struct brk_client *client, struct vmci_handle handle)
{
	struct brk_resource *resource;
	int32_t result = brk_resource_own(client, handle, BRK_BELL, &resource);

	if (result >= 0)
		brk_resource_free(client->brk, resource);
	return result;
}

int32_t brk_bell_open(struct brk_client *client, struct vmci_handle handle, void **ret_bell,
		      struct brk_client **ret_device)
{
	struct brk *brk = client->brk;
	struct brk_resource *resource;
	struct brk_context *context;
	bool is_guests;
	int32_t result;

	if (!client->context || !handle_is_valid(handle))
		return VMCI_ERROR_INVALID_ARGS;
	context = brk_context_present(brk, handle.context);
	if (!context)
		return brk_cid_is_possible(handle.context) ? brk_absent(brk, VMCI_ERROR_DST_UNREACHABLE) :
							     VMCI_ERROR_DST_UNREACHABLE;
	resource = brk_resource_find(brk, handle);
	/* Whatever others have under such a handle, the guest knows its own bells. */
	is_guests = context->presence == BRK_VM && context->device != client &&
		    !(resource && resource->type == BRK_BELL && resource->owner == context->device);
	if (!is_guests && (!resource || resource->type != BRK_BELL)) {
		result = brk_meet(client, context, true);
		return result == VMCI_ERROR_DST_UNREACHABLE ? result : brk_absent(brk, VMCI_ERROR_NOT_FOUND);
	}
	result = brk_meet(client, context, !is_guests && resource->is_trusted);
	if (result == VMCI_ERROR_NO_ACCESS)
		return brk_denied(client, "ring", handle, "restricted");
	if (result)
		return result;
	if (!brk_pass(client->context, context, BRK_FILTER_BELL, handle.resource))
		return brk_denied(client, "ring", handle, "filter");
	if (is_guests) {
		*ret_device = context->device;
		return BRK_ASK;
	}
	*ret_bell = resource->thing;
	return VMCI_SUCCESS;
}
