/* SPDX-License-Identifier: BSD-2-Clause */
/* Endpoints, and the way of a datagram. SDK, 3; VMCI, 3. */
#include "proto/dg.h"

#include "broker/priv.h"

int32_t brk_dg_create(struct brk_client *client, uint32_t rid, const uint8_t *resume, void *sink,
		      struct vmci_handle *ret_handle, uint8_t *ret_token)
{
	struct brk_resource *resource;
	struct brk_wish wish;
	int32_t result;

	if (!client->context || client->creds.device)
		return VMCI_ERROR_INVALID_ARGS;
	result = brk_resource_wish(client, client->context->cid, rid, BRK_TOKEN_DATAGRAM, resume, false, &wish);
	if (result >= 0)
		result = brk_resource_new(client, sizeof(*resource), BRK_DATAGRAM, &wish, 0, &resource);
	if (result < 0)
		return result;
	resource->thing = sink;
	brk_list_add(&client->resources, &resource->owned);
	brk_token_make(client, BRK_TOKEN_DATAGRAM, wish.handle, wish.stamp, ret_token);
	*ret_handle = wish.handle;
	return VMCI_SUCCESS;
}

int32_t brk_dg_share(struct brk_client *client, struct vmci_handle handle)
{
	struct brk_resource *resource;
	int32_t result = brk_resource_own(client, handle, BRK_DATAGRAM, &resource);

	if (result >= 0)
		resource->is_shared = true;
	return result;
}

int32_t brk_dg_destroy(struct brk_client *client, struct vmci_handle handle)
{
	struct brk_resource *resource;
	int32_t result = brk_resource_own(client, handle, BRK_DATAGRAM, &resource);

	if (result >= 0)
		brk_resource_free(client->brk, resource);
	return result;
}

/* Is the source the client's own? VMCI, 4.5; SDK, 3.2. @ret_sink: where replies go */
static int32_t authenticate(struct brk_client *client, struct vmci_handle src, void **ret_sink)
{
	struct brk_resource *resource;

	if (src.context != client->context->cid)
		return brk_denied(client, "send as", src, "another context");
	if (client->creds.device) {
		*ret_sink = client->datagrams;
		return VMCI_SUCCESS;
	}
	resource = brk_resource_find(client->brk, src);
	if (!resource || resource->type != BRK_DATAGRAM)
		return VMCI_ERROR_INVALID_ARGS;
	if (resource->owner != client && !(resource->is_shared && resource->uid == client->creds.uid))
		return brk_denied(client, "send as", src, "another client's");
	*ret_sink = resource->thing;
	return VMCI_SUCCESS;
}

static int32_t ask_discovery(struct brk_client *client, struct vmci_handle src, void *sink, const uint8_t *dg,
			     size_t size)
{
	const struct brk_ports *ports = &client->brk->ports;
	uint8_t reply[VMCI_DG_HEADER_SIZE + DISCOVERY_REPLY_MAX];
	size_t reply_size;
	int32_t result;

	/* The reply must be one that anybody might send to it: see route(). VMCI, 3.1. */
	if (src.resource == VMCI_INVALID_ID || src.resource <= VMCI_RID_STREAM)
		return VMCI_ERROR_INVALID_ARGS;
	if (!brk_pass(client->context, NULL, BRK_FILTER_DATAGRAM, VMCI_RID_DISCOVERY))
		return brk_denied(client, "send to", handle_make(VMCI_CID_WELL_KNOWN, VMCI_RID_DISCOVERY), "filter");
	result = brk_discovery(client, dg + VMCI_DG_HEADER_SIZE, size - VMCI_DG_HEADER_SIZE, NULL,
			       !client->creds.device, reply + VMCI_DG_HEADER_SIZE, &reply_size, NULL);
	if (result < 0)
		return result;
	dg_build(reply, src, handle_make(VMCI_CID_WELL_KNOWN, VMCI_RID_DISCOVERY), reply_size);
	result = ports->deliver(ports->ctx, sink, reply, VMCI_DG_HEADER_SIZE + reply_size, false);
	return result < 0 ? result : (int32_t)size;
}

/* A guest's CPU waits for the result: no later. */
static int32_t absent(const struct brk_client *client, int32_t code)
{
	return client->creds.device ? code : brk_absent(client->brk, code);
}

/* Where a datagram to @dst goes, if it may. */
static int32_t route(struct brk_client *client, struct vmci_handle dst, void **ret_sink)
{
	struct brk *brk = client->brk;
	struct brk_context *context = brk_context_present(brk, dst.context);
	struct brk_resource *resource = NULL;
	int32_t result;

	if (!context)
		return brk_cid_is_possible(dst.context) ? absent(client, VMCI_ERROR_DST_UNREACHABLE) :
							  VMCI_ERROR_DST_UNREACHABLE;
	if (context->presence != BRK_VM)
		resource = brk_resource_find(brk, dst);
	if (resource && resource->type != BRK_DATAGRAM)
		resource = NULL;
	result = brk_meet(client, context, resource ? resource->is_trusted : context->is_trusted);
	if (result == VMCI_ERROR_DST_UNREACHABLE)
		return result;
	/* Restricted or not, there is nothing to tell about an endpoint that does not exist. */
	if (context->presence != BRK_VM && !resource)
		return absent(client, VMCI_ERROR_INVALID_RESOURCE);
	if (result)
		return brk_denied(client, "send to", dst, "restricted");
	if (!brk_pass(client->context, context, BRK_FILTER_DATAGRAM, dst.resource))
		return brk_denied(client, "send to", dst, "filter");
	if (!resource) {
		/* A guest's event handler and its control of streams are none of a peer's business. */
		if (dst.resource <= VMCI_RID_STREAM)
			return VMCI_ERROR_INVALID_RESOURCE;
		*ret_sink = context->device->datagrams;
		return VMCI_SUCCESS;
	}
	if (!brk_right(brk, resource, client->context, VMCI_PRIV_DG_SEND))
		return brk_denied(client, "send to", dst, "no grant");
	*ret_sink = resource->thing;
	return VMCI_SUCCESS;
}

int32_t brk_dg_send(struct brk_client *client, const uint8_t *dg, size_t size)
{
	const struct brk_ports *ports = &client->brk->ports;
	struct dg_header h;
	int32_t result;
	void *sink = NULL;

	if (!client->context || size < VMCI_DG_HEADER_SIZE || size > VMCI_DG_MAX_SIZE)
		return VMCI_ERROR_INVALID_ARGS;
	h = dg_parse(dg);
	/* VMCI, 3.1: the resource id that ends a guest's reading must never come to one. */
	if (h.payload_size != size - VMCI_DG_HEADER_SIZE || h.dst.resource == VMCI_INVALID_ID)
		return VMCI_ERROR_INVALID_ARGS;
	result = authenticate(client, h.src, &sink);
	if (result < 0)
		return result;
	if (h.dst.context == VMCI_CID_WELL_KNOWN && h.dst.resource == VMCI_RID_DISCOVERY)
		return ask_discovery(client, h.src, sink, dg, size);
	result = route(client, h.dst, &sink);
	if (result < 0)
		return result;
	return ports->deliver(ports->ctx, sink, dg, size, false);
}
