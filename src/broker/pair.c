/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Queue pairs. VMCI, 7.3 and 7.4; their states: enum brk_pair_state.
 *
 * DOC: Theory of operation
 *
 * The creator's descriptors wait here until somebody attaches, and are handed on then: we have no part in a pair that
 * is attached, but for knowing who has its ends, and telling one of them when the other leaves.
 *
 * After a restart each end tells that it holds the pair, and who has the other end; the pair is whole when both have
 * said the same. An end that never comes has left meanwhile, and its peer has seen that by itself (life,
 * fabric/msg.h).
 *
 * Each end counts in its own account; two ends of one account count once.
 *
 * A direct pair is between a guest and a trusted program that gets the guest's memory from the guest's device, past us.
 * What is decided here is who may ask for it. Between programs there is nothing to be copied in the first place, so the
 * wish of one who attaches is granted, and means nothing.
 */
#include <assert.h>

#include "base/checked.h"
#include "broker/priv.h"
#include "proto/qp.h"

static const char *const state_names[] = { "created", "attached", "left" };
static_assert(sizeof(state_names) / sizeof(state_names[0]) == BRK_PAIR_STATE_NUM, "a name for each state");

const char *brk_pair_state_to_string(enum brk_pair_state state)
{
	return state_names[state];
}

/* VMCI, 7.4, 1 and 2. */
static int32_t check_sizes(const struct brk_qp *qp, uint64_t *ret_bytes)
{
	uint64_t bytes;

	if (!add64(qp->produce, qp->consume, &bytes) || bytes > LIMIT_QUEUE_MEMORY)
		return VMCI_ERROR_NO_RESOURCES;
	if (!bytes)
		return VMCI_ERROR_INVALID_ARGS;
	*ret_bytes = bytes;
	return VMCI_SUCCESS;
}

uint64_t brk_qp_memory(uint64_t produce, uint64_t consume)
{
	const struct brk_qp qp = { .produce = produce, .consume = consume };
	uint64_t bytes;

	return check_sizes(&qp, &bytes) < 0 ? 0 : qp_page_count(produce, consume, 12) << 12;
}

static void charge(struct brk_pair *pair, struct brk_end *end)
{
	struct brk_account *account = end->client->account;

	if (account == pair->resource.account)
		return;
	end->account = account;
	brk_account_add(account, BRK_PAIR, pair->resource.bytes);
}

static bool has_room(const struct brk_client *client, const struct brk_pair *pair)
{
	return client->account == pair->resource.account ||
	       brk_account_has_room(client->account, BRK_PAIR, pair->resource.bytes);
}

/* @end has left, and the pair stays. */
static void discharge(struct brk *brk, struct brk_pair *pair, struct brk_end *end)
{
	struct brk_resource *resource = &pair->resource;

	if (end->account) {
		brk_account_del(brk, end->account, BRK_PAIR, resource->bytes);
		end->account = NULL;
	} else if (end == &pair->end[0] && pair->end[1].account) {
		brk_account_del(brk, resource->account, BRK_PAIR, resource->bytes);
		resource->account = NULL;
	}
}

static void take(struct brk_pair *pair, unsigned i, struct brk_client *client)
{
	struct brk_end *end = &pair->end[i];

	end->client = client;
	end->cid = client->context->cid;
	end->is_missing = false;
	brk_list_add(&client->ends, &end->in_client);
}

/* The second end is there. */
static void complete(struct brk_pair *pair, struct brk_client *client)
{
	take(pair, 1, client);
	charge(pair, &pair->end[1]);
	pair->state = BRK_PAIR_ATTACHED;
}

static int32_t new_pair(struct brk_client *client, const struct brk_qp *qp, const struct brk_wish *wish,
			struct brk_pair **ret_pair)
{
	struct brk_resource *resource;
	struct brk_pair *pair;
	int32_t result = brk_resource_new(client, sizeof(*pair), BRK_PAIR, wish, qp->produce + qp->consume,
					  &resource);

	if (result < 0)
		return result;
	pair = brk_of(resource, struct brk_pair, resource);
	for (unsigned i = 0; i < 2; i++) {
		brk_link_init(&pair->end[i].in_client);
		pair->end[i].pair = pair;
		pair->end[i].cid = VMCI_INVALID_ID;
	}
	pair->peer = qp->peer;
	pair->produce = qp->produce;
	pair->consume = qp->consume;
	pair->trusted = qp->trusted;
	take(pair, 0, client);
	*ret_pair = pair;
	return VMCI_SUCCESS;
}

static struct brk_end *end_of(struct brk_pair *pair, const struct brk_client *client)
{
	for (unsigned i = 0; i < 2; i++)
		if (pair->end[i].client == client)
			return &pair->end[i];
	return NULL;
}

static bool is_mirrored(const struct brk_pair *pair, const struct brk_qp *qp)
{
	return pair->produce == qp->consume && pair->consume == qp->produce;
}

/* After a restart: is it the second end of @pair that @client has? */
static int32_t claim(struct brk_client *client, struct brk_pair *pair, const struct brk_qp *qp, uint64_t stamp)
{
	const struct brk_end *first = &pair->end[0], *second = &pair->end[1];
	bool is_missing = pair->state == BRK_PAIR_ATTACHED && second->is_missing;
	uint32_t cid = client->context->cid;

	if (end_of(pair, client))
		return VMCI_ERROR_ALREADY_EXISTS;
	if (!is_missing && !(pair->state == BRK_PAIR_CREATED && pair->is_resumed))
		return VMCI_ERROR_UNAVAILABLE;
	if (!is_mirrored(pair, qp) || (qp->peer != VMCI_INVALID_ID && qp->peer != first->cid) ||
	    (is_missing ? second->cid != cid : pair->peer != VMCI_INVALID_ID && pair->peer != cid))
		return VMCI_ERROR_QUEUEPAIR_MISMATCH;
	if (!has_room(client, pair))
		return VMCI_ERROR_NO_RESOURCES;
	brk_drop(client->brk, pair->resource.thing);
	pair->resource.thing = NULL;
	if (!pair->resource.stamp)
		pair->resource.stamp = stamp;
	complete(pair, client);
	return VMCI_SUCCESS;
}

static struct brk_pair *pair_of(struct brk_resource *resource)
{
	return resource && resource->type == BRK_PAIR ? brk_of(resource, struct brk_pair, resource) : NULL;
}

/* Is context @cid that of a VM, whether it is there or not, and @client not its device? */
static bool is_another_vm(const struct brk_client *client, uint32_t cid)
{
	const struct brk_context *context = brk_context_find(client->brk, cid);

	return context && context->device != client && (context->presence == BRK_VM || context->is_reserved);
}

/* May @client make a pair for @qp->peer? VMCI, 7.4, 4. */
static int32_t check_peer(struct brk_client *client, const struct brk_qp *qp, struct vmci_handle handle, bool resumes)
{
	struct brk_context *context = NULL;
	int32_t result = VMCI_SUCCESS;

	if (qp->peer != VMCI_INVALID_ID) {
		context = brk_context_present(client->brk, qp->peer);
		/* It may not be back yet. */
		if (!context && !resumes)
			return brk_absent(client->brk, VMCI_ERROR_DST_UNREACHABLE);
	}
	if (context)
		result = brk_meet(client, context, true);
	if (result == VMCI_ERROR_NO_ACCESS)
		return brk_denied(client, "create queue pair", handle, "restricted");
	if (!result && !brk_pass(client->context, context, BRK_FILTER_PAIR, handle.resource))
		return brk_denied(client, "create queue pair", handle, "filter");
	return result;
}

int32_t brk_qp_create(struct brk_client *client, const struct brk_qp *qp, const uint8_t *resume, void *thing,
		      struct vmci_handle *ret_handle, uint8_t *ret_token)
{
	struct vmci_handle handle = qp->handle;
	struct brk_pair *pair;
	struct brk_wish wish;
	uint64_t bytes;
	int32_t result = check_sizes(qp, &bytes);
	uint32_t own = brk_client_cid(client);

	if (result < 0)
		return result;
	if (handle.context == VMCI_INVALID_ID)
		handle.context = own;
	if (!client->context || (qp->peer != VMCI_INVALID_ID && !brk_cid_is_possible(qp->peer)))
		return VMCI_ERROR_INVALID_ARGS;
	if (handle.context != own && (qp->peer == VMCI_INVALID_ID || handle.context != qp->peer))
		return brk_denied(client, "create queue pair", handle, "neither its own nor the peer's");
	if (is_another_vm(client, handle.context))
		return brk_denied(client, "create queue pair", handle, "a guest's");
	if (qp->direct && !brk_client_is_trusted(client))
		return brk_denied(client, "create queue pair", handle, "not trusted with a guest's memory");
	if (qp->direct && !is_another_vm(client, qp->peer))
		return VMCI_ERROR_INVALID_ARGS;
	result = brk_resource_wish(client, handle.context, handle.resource, BRK_TOKEN_PAIR, resume, true, &wish);
	if (result < 0)
		return result;
	handle = wish.handle;
	if (wish.known) {
		pair = pair_of(wish.known);
		result = pair ? claim(client, pair, qp, wish.stamp) : VMCI_ERROR_ALREADY_EXISTS;
		if (result < 0)
			return result;
		/* Somebody has attached already: nobody needs it any more. */
		brk_drop(client->brk, thing);
	} else {
		result = check_peer(client, qp, handle, resume);
		if (result >= 0)
			result = new_pair(client, qp, &wish, &pair);
		if (result < 0)
			return result;
		pair->resource.thing = thing;
		pair->is_resumed = resume;
	}
	brk_token_make(client, BRK_TOKEN_PAIR, handle, pair->resource.stamp, ret_token);
	*ret_handle = handle;
	return VMCI_SUCCESS_QUEUEPAIR_CREATE;
}

/* A pair that we do not know: perhaps a guest does. */
static int32_t attach_unknown(struct brk_client *client, const struct brk_qp *qp, struct brk_client **ret_device)
{
	struct brk *brk = client->brk;
	struct brk_context *context = brk_context_present(brk, qp->handle.context);
	int32_t result;

	if (!context)
		return brk_cid_is_possible(qp->handle.context) ? brk_absent(brk, VMCI_ERROR_DST_UNREACHABLE) :
								 VMCI_ERROR_DST_UNREACHABLE;
	if (context->presence != BRK_VM || context->device == client)
		return brk_absent(brk, VMCI_ERROR_NOT_FOUND);
	result = brk_meet(client, context, false);
	if (result == VMCI_ERROR_NO_ACCESS)
		return brk_denied(client, "attach to", qp->handle, "restricted");
	if (result)
		return result;
	if ((qp->trusted || qp->direct) && !brk_client_is_trusted(client))
		return brk_denied(client, "attach to", qp->handle, "not trusted");
	if (qp->peer != VMCI_INVALID_ID && qp->peer != context->cid)
		return brk_denied(client, "attach to", qp->handle, "not the peer that it wants");
	if (!brk_pass(client->context, context, BRK_FILTER_PAIR, qp->handle.resource))
		return brk_denied(client, "attach to", qp->handle, "filter");
	*ret_device = context->device;
	return BRK_ASK;
}

/* VMCI, 7.4, 5. */
static int32_t may_attach(struct brk_client *client, const struct brk_pair *pair, const struct brk_qp *qp)
{
	const struct brk_client *creator = pair->end[0].client;
	int32_t result;

	if (pair->state != BRK_PAIR_CREATED)
		return VMCI_ERROR_UNAVAILABLE;
	result = brk_meet(client, creator->context, brk_client_is_trusted(creator));
	if (result == VMCI_ERROR_DST_UNREACHABLE)
		return result;
	if (result)
		return brk_denied(client, "attach to", qp->handle, "restricted");
	if ((qp->trusted && !brk_client_is_trusted(creator)) ||
	    ((pair->trusted || qp->direct) && !brk_client_is_trusted(client)))
		return brk_denied(client, "attach to", qp->handle, "not trusted");
	if ((pair->peer != VMCI_INVALID_ID && pair->peer != client->context->cid) ||
	    (qp->peer != VMCI_INVALID_ID && qp->peer != pair->end[0].cid))
		return brk_denied(client, "attach to", qp->handle, "made for another peer");
	if (!brk_pass(client->context, creator->context, BRK_FILTER_PAIR, qp->handle.resource))
		return brk_denied(client, "attach to", qp->handle, "filter");
	if (!is_mirrored(pair, qp))
		return VMCI_ERROR_QUEUEPAIR_MISMATCH;
	return has_room(client, pair) ? VMCI_SUCCESS : VMCI_ERROR_NO_RESOURCES;
}

static void tell_peer(const struct brk_pair *pair, const struct brk_end *from, uint32_t id)
{
	const struct brk_end *to = from == &pair->end[0] ? &pair->end[1] : &pair->end[0];
	const struct event event = { .id = id, .context = from->cid, .handle = pair->resource.handle };

	brk_event(to->client, &event);
}

/*
 * Is @pair in the context of a VM whose device has no end of it? Then it is not the one that the guest may have now:
 * somebody holds it, whose guest has left it.
 */
static bool is_stale(const struct brk_client *client, struct brk_pair *pair)
{
	const struct brk_context *context = brk_context_present(client->brk, pair->resource.handle.context);

	return context && context->presence == BRK_VM && context->device != client && !end_of(pair, context->device);
}

int32_t brk_qp_attach(struct brk_client *client, const struct brk_qp *qp, void **ret_pair, uint32_t *ret_creator,
		      uint8_t *ret_token, struct brk_client **ret_device)
{
	struct brk_pair *pair;
	uint64_t bytes;
	int32_t result = check_sizes(qp, &bytes);

	if (result < 0)
		return result;
	if (!client->context || qp->handle.context == VMCI_INVALID_ID || qp->handle.resource == VMCI_INVALID_ID)
		return VMCI_ERROR_INVALID_ARGS;
	if (!brk_resource_find(client->brk, qp->handle))
		return attach_unknown(client, qp, ret_device);
	pair = pair_of(brk_resource_find(client->brk, qp->handle));
	if (!pair)
		return VMCI_ERROR_NOT_FOUND;
	if (end_of(pair, client))
		return VMCI_ERROR_ALREADY_EXISTS;
	if (is_stale(client, pair))
		return attach_unknown(client, qp, ret_device);
	result = may_attach(client, pair, qp);
	if (result < 0)
		return result;
	*ret_pair = pair->resource.thing;
	*ret_creator = pair->end[0].cid;
	pair->resource.thing = NULL;
	complete(pair, client);
	brk_token_make(client, BRK_TOKEN_PAIR, qp->handle, pair->resource.stamp, ret_token);
	tell_peer(pair, &pair->end[1], VMCI_EVENT_QP_PEER_ATTACH);
	return VMCI_SUCCESS_QUEUEPAIR_ATTACH;
}

int32_t brk_qp_attached(struct brk_client *client, struct brk_client *device, const struct brk_qp *qp,
			uint8_t *ret_token)
{
	const struct brk_qp theirs = {
		.handle = qp->handle,
		.peer = brk_client_cid(client),
		.produce = qp->consume,
		.consume = qp->produce,
	};
	struct brk_wish wish = { .handle = qp->handle };
	struct brk_resource *known;
	struct brk_pair *pair;
	uint64_t bytes;
	int32_t result = check_sizes(qp, &bytes);

	if (result < 0)
		return result;
	if (!client->context || !device->context || !device->creds.device || client == device ||
	    device->context->cid != qp->handle.context || qp->handle.resource == VMCI_INVALID_ID)
		return VMCI_ERROR_INVALID_ARGS;
	known = brk_resource_find(client->brk, qp->handle);
	if (known && (known->type != BRK_PAIR || end_of(pair_of(known), client) || !is_stale(client, pair_of(known))))
		return VMCI_ERROR_ALREADY_EXISTS;
	if (!brk_account_has_room(client->account, BRK_PAIR, bytes))
		return VMCI_ERROR_NO_RESOURCES;
	if (known)
		brk_resource_displace(client->brk, known);
	wish.stamp = brk_stamp_new(client->brk);
	result = new_pair(device, &theirs, &wish, &pair);
	if (result < 0)
		return result;
	complete(pair, client);
	brk_token_make(client, BRK_TOKEN_PAIR, qp->handle, wish.stamp, ret_token);
	return VMCI_SUCCESS_QUEUEPAIR_ATTACH;
}

int32_t brk_qp_hold(struct brk_client *client, const struct brk_qp *qp, const uint8_t *token)
{
	struct brk_wish wish = { .handle = qp->handle };
	struct brk_pair *pair;
	uint64_t bytes;
	int32_t result = check_sizes(qp, &bytes);
	uint32_t own = brk_client_cid(client);

	if (result < 0)
		return result;
	if (!client->context || !brk_cid_is_possible(qp->peer) || qp->handle.resource <= VMCI_RID_STREAM ||
	    qp->handle.resource == VMCI_INVALID_ID || (qp->handle.context != own && qp->handle.context != qp->peer))
		return VMCI_ERROR_INVALID_ARGS;
	if (!brk_token_is_good(client, BRK_TOKEN_PAIR, qp->handle, token, &wish.stamp))
		return brk_denied(client, "hold", qp->handle, "wrong token");
	if (brk_resource_contest(client, &wish) < 0)
		return pair_of(brk_resource_find(client->brk, qp->handle)) ? VMCI_ERROR_UNAVAILABLE :
									     VMCI_ERROR_ALREADY_EXISTS;
	if (wish.known && wish.known->type != BRK_PAIR)
		return VMCI_ERROR_ALREADY_EXISTS;
	if (wish.known)
		return claim(client, pair_of(wish.known), qp, wish.stamp);
	result = new_pair(client, qp, &wish, &pair);
	if (result < 0)
		return result;
	pair->state = BRK_PAIR_ATTACHED;
	pair->is_resumed = true;
	pair->end[1].cid = qp->peer;
	pair->end[1].is_missing = true;
	return VMCI_SUCCESS;
}

void brk_pair_done(struct brk *brk, struct brk_pair *pair)
{
	for (unsigned i = 0; i < 2; i++) {
		struct brk_end *end = &pair->end[i];

		brk_list_del(&end->in_client);
		end->client = NULL;
		if (end->account)
			brk_account_del(brk, end->account, BRK_PAIR, pair->resource.bytes);
		end->account = NULL;
	}
	pair->resource.owner = NULL;
}

int32_t brk_end_leave(struct brk *brk, struct brk_end *end)
{
	struct brk_pair *pair = end->pair;
	struct brk_end *other = end == &pair->end[0] ? &pair->end[1] : &pair->end[0];

	brk_list_del(&end->in_client);
	if (pair->resource.owner == end->client)
		pair->resource.owner = NULL;
	end->client = NULL;
	if (other->client) {
		discharge(brk, pair, end);
		pair->state = BRK_PAIR_SHUTDOWN;
		tell_peer(pair, end, VMCI_EVENT_QP_PEER_DETACH);
		return VMCI_SUCCESS;
	}
	if (end->account)
		brk_account_del(brk, end->account, BRK_PAIR, pair->resource.bytes);
	brk_resource_free(brk, &pair->resource);
	return VMCI_SUCCESS_LAST_DETACH;
}

int32_t brk_qp_detach(struct brk_client *client, struct vmci_handle handle)
{
	struct brk_pair *pair;
	struct brk_end *end;

	if (!client->context)
		return VMCI_ERROR_INVALID_ARGS;
	pair = pair_of(brk_resource_find(client->brk, handle));
	if (!pair)
		return VMCI_ERROR_NOT_FOUND;
	end = end_of(pair, client);
	return end ? brk_end_leave(client->brk, end) : VMCI_ERROR_QUEUEPAIR_NOTATTACHED;
}
