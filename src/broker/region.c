/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Shared memory. SDK, 4 and 10.
 *
 * DOC: Theory of operation
 *
 * A region lives as long as somebody is attached. Its creator is its owner until it detaches or dies. When the
 * context of its handle goes, the region stays for those who are attached, but nobody finds it any more, not even
 * when there is another context of the same id: the generations differ.
 *
 * After a restart, a region is known again as soon as one of those who were attached says so; who may attach anew is
 * known only when the owner comes back. Meanwhile the generation is 0, and only the user who holds it, and trusted
 * ones, may.
 *
 * A region has memory of its own, or a place in a window (window.c), which is where guests find it. Which of the two,
 * says after a restart the kind of token that is shown.
 */
#include "broker/priv.h"

static struct brk_region *region_of(struct brk_resource *resource)
{
	return resource && resource->type == BRK_REGION ? brk_of(resource, struct brk_region, resource) : NULL;
}

static int32_t check_size(uint64_t bytes)
{
	return bytes && bytes <= LIMIT_BRK_REGION ? VMCI_SUCCESS : VMCI_ERROR_INVALID_SIZE;
}

static int32_t attach(struct brk_client *client, struct brk_region *region)
{
	if (client->regions.count >= LIMIT_BRK_ATTACHMENTS)
		return VMCI_ERROR_NO_RESOURCES;
	return brk_relation_new(client->brk, &region->attached, &client->regions) ? VMCI_SUCCESS : VMCI_ERROR_NO_MEM;
}

static void *memory_of(const struct brk_region *region)
{
	return region->window ? brk_window_memory(region->window) : region->resource.thing;
}

/* Make a region, with @client attached. It has no memory yet. */
static int32_t new_region(struct brk_client *client, const struct brk_wish *wish, uint64_t bytes, uint64_t offset,
			  struct brk_region **ret_region)
{
	struct brk_resource *resource;
	struct brk_region *region;
	int32_t result = brk_resource_new(client, sizeof(*region), BRK_REGION, wish, bytes, &resource);

	if (result < 0)
		return result;
	region = brk_of(resource, struct brk_region, resource);
	region->offset = offset;
	brk_side_init(&region->attached);
	result = attach(client, region);
	if (result < 0) {
		brk_resource_free(client->brk, resource);
		return result;
	}
	*ret_region = region;
	return VMCI_SUCCESS;
}

static void token(const struct brk_client *client, const struct brk_region *region, uint8_t *ret_token)
{
	if (region->window)
		brk_token_make_place(client, region, ret_token);
	else
		brk_token_make(client, BRK_TOKEN_REGION, region->resource.handle, region->resource.stamp, ret_token);
}

/* The same, which somebody had before the restart; @is_placed: in a window. @memory is taken on success. */
static int32_t renew_region(struct brk_client *client, const struct brk_wish *wish, uint64_t bytes, uint64_t offset,
			    bool is_placed, void *memory, struct brk_region **ret_region)
{
	struct brk *brk = client->brk;
	struct brk_window *window = NULL;
	struct brk_region *other;
	uint8_t id[BRK_ID_SIZE];
	int32_t result;

	if (is_placed) {
		brk->ports.identify(brk->ports.ctx, memory, id);
		window = brk_window_with(brk, id);
	}
	/* Of two the newer one is right, see token.c. */
	while (window && (other = brk_window_clash(window, offset, bytes))) {
		if (!brk_stamp_displaces(brk, wish->stamp, other->resource.stamp))
			return VMCI_ERROR_ALREADY_EXISTS;
		brk_note(client, LOG_LEVEL_INFO, "has its place in a window back from %u:%u, which is older",
			 other->resource.handle.context, other->resource.handle.resource);
		/* The window may go with its last region, and is there again with the next. */
		brk_resource_displace(brk, &other->resource);
		window = brk_window_with(brk, id);
	}
	result = new_region(client, wish, bytes, offset, ret_region);
	if (result < 0)
		return result;
	if (!is_placed) {
		(*ret_region)->resource.thing = memory;
		return VMCI_SUCCESS;
	}
	window = brk_window_learn(brk, memory);
	if (!window) {
		brk_resource_displace(brk, &(*ret_region)->resource);
		return VMCI_ERROR_NO_MEM;
	}
	brk_window_place(window, *ret_region);
	brk_window_unref(brk, window);
	return VMCI_SUCCESS;
}

/* Does @client's memory prove that it means this region? */
static int32_t compare(struct brk_client *client, const struct brk_region *region, uint64_t bytes, uint64_t offset,
		       const void *memory)
{
	const struct brk_ports *ports = &client->brk->ports;

	if (!ports->is_same(ports->ctx, memory_of(region), memory))
		return brk_denied(client, "hold", region->resource.handle, "other memory");
	return region->resource.bytes == bytes && region->offset == offset ? VMCI_SUCCESS :
		VMCI_ERROR_QUEUEPAIR_MISMATCH;
}

/* The owner comes back to a region that others have kept. */
static int32_t adopt(struct brk_client *client, struct brk_region *region, uint64_t bytes, uint64_t offset,
		     uint64_t stamp, void *memory)
{
	struct brk_resource *resource = &region->resource;
	struct brk *brk = client->brk;
	int32_t result;

	if (resource->owner)
		return VMCI_ERROR_ALREADY_EXISTS;
	result = compare(client, region, bytes, offset, memory);
	if (result < 0)
		return result;
	if (client->account != resource->account && !brk_account_has_room(client->account, BRK_REGION, bytes))
		return VMCI_ERROR_NO_RESOURCES;
	if (!brk_relation_find(brk, &region->attached, &client->regions))
		result = attach(client, region);
	if (result < 0)
		return result;
	brk_window_move(region, client->account);
	brk_account_add(client->account, BRK_REGION, bytes);
	brk_account_del(brk, resource->account, BRK_REGION, bytes);
	resource->account = client->account;
	if (!resource->stamp)
		resource->stamp = stamp;
	resource->owner = client;
	resource->gen = client->context->gen;
	resource->uid = client->creds.uid;
	resource->is_trusted = brk_client_is_trusted(client);
	brk_drop(brk, memory);
	return VMCI_SUCCESS;
}

/* A device has no stamp to show, but its context is its own: of what is there, others have told wrong or old things. */
static bool is_usurped(const struct brk_client *client, const struct brk_region *region, const void *memory)
{
	const struct brk_ports *ports = &client->brk->ports;

	return client->creds.device && client->brk->is_grace && !region->resource.owner &&
	       !ports->is_same(ports->ctx, memory_of(region), memory);
}

/* Is @token about the region's place in a window? Then @ret_stamp. */
static bool is_place(const struct brk_client *client, struct vmci_handle handle, uint64_t bytes, uint64_t offset,
		     const uint8_t *token, const void *memory, uint64_t *ret_stamp)
{
	const struct brk_ports *ports = &client->brk->ports;
	uint8_t id[BRK_ID_SIZE];

	if (!token)
		return false;
	ports->identify(ports->ctx, memory, id);
	return brk_token_is_place(client, handle, bytes, offset, id, token, ret_stamp);
}

int32_t brk_shm_create(struct brk_client *client, uint32_t rid, uint64_t bytes, uint64_t offset, const uint8_t *resume,
		       void *memory, struct vmci_handle *ret_handle, uint8_t *ret_token)
{
	struct brk_region *region;
	struct brk_wish wish = { 0 };
	bool is_placed = false;
	int32_t result;

	if (!client->context)
		return VMCI_ERROR_INVALID_ARGS;
	result = check_size(bytes);
	if (result < 0)
		return result;
	wish.handle = handle_make(client->context->cid, rid);
	if (is_place(client, wish.handle, bytes, offset, resume, memory, &wish.stamp)) {
		is_placed = true;
		result = brk_resource_contest(client, &wish);
	} else {
		result = brk_resource_wish(client, client->context->cid, rid, BRK_TOKEN_REGION, resume, true, &wish);
	}
	if (result < 0)
		return result;
	region = region_of(wish.known);
	if (region && is_usurped(client, region, memory)) {
		brk_resource_displace(client->brk, wish.known);
		wish.known = NULL;
	}
	if (wish.known)
		result = region ? adopt(client, region, bytes, offset, wish.stamp, memory) : VMCI_ERROR_ALREADY_EXISTS;
	else
		result = renew_region(client, &wish, bytes, offset, is_placed, memory, &region);
	if (result < 0)
		return result;
	token(client, region, ret_token);
	*ret_handle = wish.handle;
	return VMCI_SUCCESS;
}

/* A guest's CPU waits for what its device asks: no later. */
static int32_t soon(const struct brk_client *client, int32_t code)
{
	return code == BRK_LATER && client->creds.device ? VMCI_ERROR_WOULD_BLOCK : code;
}

/* A guest asks its device by datagrams. */
static int32_t check_filter(struct brk_client *client)
{
	const struct vmci_handle service = handle_make(VMCI_CID_WELL_KNOWN, VMCI_RID_SHM);

	if (client->window && client->creds.device &&
	    !brk_pass(client->context, NULL, BRK_FILTER_DATAGRAM, service.resource))
		return brk_denied(client, "send to", service, "filter");
	return VMCI_SUCCESS;
}

int32_t brk_shm_alloc(struct brk_client *client, struct brk_window *window, uint32_t rid, uint64_t bytes,
		      struct vmci_handle *ret_handle, uint64_t *ret_offset, uint8_t *ret_token)
{
	struct brk *brk = client->brk;
	struct brk_region *region;
	struct brk_wish wish;
	uint64_t offset;
	int32_t result;

	if (!client->context)
		return VMCI_ERROR_INVALID_ARGS;
	if (client->creds.device)
		window = client->window;
	result = check_filter(client);
	if (result < 0)
		return result;
	/* Not before everybody has said where his regions are. */
	if (brk->is_grace)
		return soon(client, BRK_LATER);
	if (!window || !brk_window_bytes(window))
		return VMCI_ERROR_UNAVAILABLE;
	if (check_size(bytes) < 0 || bytes > brk_window_bytes(window))
		return VMCI_ERROR_INVALID_SIZE;
	result = brk_resource_wish(client, client->context->cid, rid, BRK_TOKEN_REGION, NULL, false, &wish);
	if (result < 0)
		return soon(client, result);
	if (!brk_window_has_room(window, client->account, bytes) || !brk_window_allot(window, bytes, &offset))
		return VMCI_ERROR_NO_RESOURCES;
	result = new_region(client, &wish, bytes, offset, &region);
	if (result < 0)
		return result;
	if (!brk_window_clear(brk, window, offset, bytes)) {
		brk_resource_displace(brk, &region->resource);
		return VMCI_ERROR_NO_MEM;
	}
	brk_window_place(window, region);
	brk_window_given(window, region);
	token(client, region, ret_token);
	*ret_handle = wish.handle;
	*ret_offset = offset;
	return VMCI_SUCCESS;
}

/* The region @handle, if @client may attach to it. */
static int32_t look_for(struct brk_client *client, struct vmci_handle handle, struct brk_region **ret_region)
{
	struct brk *brk = client->brk;
	struct brk_resource *resource;
	struct brk_context *context;
	struct brk_region *region;
	int32_t result;

	if (!client->context || !handle_is_valid(handle))
		return VMCI_ERROR_INVALID_ARGS;
	context = brk_context_present(brk, handle.context);
	if (!context)
		return brk_cid_is_possible(handle.context) ? brk_absent(brk, VMCI_ERROR_DST_UNREACHABLE) :
							     VMCI_ERROR_DST_UNREACHABLE;
	region = region_of(brk_resource_find(brk, handle));
	resource = region ? &region->resource : NULL;
	result = brk_meet(client, context, !resource || resource->is_trusted);
	if (result == VMCI_ERROR_DST_UNREACHABLE)
		return result;
	if (!resource || (resource->gen && resource->gen != context->gen))
		return brk_absent(brk, VMCI_ERROR_NOT_FOUND);
	if (result)
		return brk_denied(client, "attach to", handle, "restricted");
	if (!resource->gen && client->creds.uid != resource->uid && !brk_client_is_trusted(client))
		return brk->is_grace ? BRK_LATER : brk_denied(client, "attach to", handle, "its owner is not back");
	if (!brk_right(brk, resource, client->context, VMCI_PRIV_SM_ATTACH))
		return brk_denied(client, "attach to", handle, "no grant");
	/* What is not in its window a guest cannot see. */
	if (client->creds.device && region->window != client->window)
		return VMCI_ERROR_UNAVAILABLE;
	*ret_region = region;
	return VMCI_SUCCESS;
}

static int32_t find(struct brk_client *client, struct vmci_handle handle, struct brk_region **ret_region)
{
	int32_t result = client->context ? check_filter(client) : VMCI_ERROR_INVALID_ARGS;

	return result < 0 ? result : soon(client, look_for(client, handle, ret_region));
}

int32_t brk_shm_query(struct brk_client *client, struct vmci_handle handle, uint64_t *ret_bytes)
{
	struct brk_region *region;
	int32_t result = find(client, handle, &region);

	if (result >= 0)
		*ret_bytes = region->resource.bytes;
	return result;
}

int32_t brk_shm_attach(struct brk_client *client, struct vmci_handle handle, uint64_t *ret_bytes, uint64_t *ret_offset,
		       void **ret_memory, uint8_t *ret_token)
{
	struct brk_region *region;
	int32_t result = find(client, handle, &region);

	if (result < 0)
		return result;
	if (brk_relation_find(client->brk, &region->attached, &client->regions))
		return VMCI_ERROR_ALREADY_EXISTS;
	result = attach(client, region);
	if (result < 0)
		return result;
	*ret_bytes = region->resource.bytes;
	*ret_offset = region->offset;
	*ret_memory = memory_of(region);
	token(client, region, ret_token);
	return VMCI_SUCCESS;
}

int32_t brk_shm_hold(struct brk_client *client, struct vmci_handle handle, uint64_t bytes, uint64_t offset,
		     const uint8_t *shown, void *memory)
{
	struct brk_wish wish = { .handle = handle };
	struct brk_region *region;
	bool is_placed;
	int32_t result;

	if (!client->context || !brk_cid_is_possible(handle.context) || handle.resource <= VMCI_RID_STREAM ||
	    handle.resource == VMCI_INVALID_ID)
		return VMCI_ERROR_INVALID_ARGS;
	result = check_size(bytes);
	if (result < 0)
		return result;
	is_placed = is_place(client, handle, bytes, offset, shown, memory, &wish.stamp);
	if (!is_placed && !brk_token_is_good(client, BRK_TOKEN_REGION, handle, shown, &wish.stamp))
		return brk_denied(client, "hold", handle, "wrong token");
	result = brk_resource_contest(client, &wish);
	if (result < 0)
		return result;
	if (!wish.known) {
		result = renew_region(client, &wish, bytes, offset, is_placed, memory, &region);
		if (result < 0)
			return result;
		region->resource.owner = NULL;
		region->resource.gen = 0;
		return VMCI_SUCCESS;
	}
	region = region_of(wish.known);
	if (!region || brk_relation_find(client->brk, &region->attached, &client->regions))
		return VMCI_ERROR_ALREADY_EXISTS;
	result = compare(client, region, bytes, offset, memory);
	if (result >= 0)
		result = attach(client, region);
	if (result < 0)
		return result;
	if (!region->resource.stamp)
		region->resource.stamp = wish.stamp;
	brk_drop(client->brk, memory);
	return VMCI_SUCCESS;
}

void brk_region_done(struct brk *brk, struct brk_region *region)
{
	while (region->attached.count)
		brk_relation_free(brk, brk_relation_first(&region->attached, 0));
}

int32_t brk_region_leave(struct brk *brk, struct brk_relation *attachment)
{
	struct brk_region *region = brk_of(attachment->side[0], struct brk_region, attached);
	struct brk_client *client = brk_of(attachment->side[1], struct brk_client, regions);

	if (region->resource.owner == client)
		region->resource.owner = NULL;
	brk_relation_free(brk, attachment);
	if (region->attached.count)
		return VMCI_SUCCESS;
	brk_resource_free(brk, &region->resource);
	return VMCI_SUCCESS_LAST_DETACH;
}

int32_t brk_shm_detach(struct brk_client *client, struct vmci_handle handle)
{
	struct brk_relation *attachment;
	struct brk_region *region;

	if (!client->context)
		return VMCI_ERROR_INVALID_ARGS;
	region = region_of(brk_resource_find(client->brk, handle));
	attachment = region ? brk_relation_find(client->brk, &region->attached, &client->regions) : NULL;
	return attachment ? brk_region_leave(client->brk, attachment) : VMCI_ERROR_NOT_FOUND;
}
