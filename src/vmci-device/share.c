/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * DOC: Theory of operation
 *
 * vmcid knows regions that the guest is attached to, once each. Here is known who in the guest has them: a *share* is
 * a port of the guest, a datagram socket of a program, that has made a region or attached to it. When the last port of
 * a region leaves, the guest detaches.
 *
 * Datagrams get lost, answers too, so questions are asked again, with the same id: a port that has got something by a
 * question gets the same answer again. Another question for something new, from a port that has something, comes from
 * somebody else: the socket of who had the port before must have gone, and so his share goes.
 *
 * A program that dies tells nobody. Its share stays until its port is used again, or its guest's driver goes. OWNERS is
 * how those who live clear up: who can take the port of a share for himself knows that its owner is dead, and detaches
 * in his name. So can anybody who can take ports in the guest, but not as long as the owner lives.
 *
 *	region		refs	is_told		vmcid
 *	shared		> 0	yes		knows it
 *	untold		> 0	no		is new, and will be told (shares_run())
 *	lost		> 0	is_lost		would not take it: who has it keeps its memory, nobody new finds it
 *	leaving		0	-		believes that we are attached, or may do so; will be told
 */
#include "share.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/log.h"
#include "fabric/link.h"
#include "proto/dg.h"
#include "proto/limits.h"
#include "proto/share.h"

/* Regions whose resource id nobody wishes: away from those that the guest's driver gives to sockets. */
#define RID_FIRST 0x40000000u
#define RID_LAST 0x7fffffffu
/* Ids that are in use already: by regions of an earlier driver that others have kept. */
#define RID_TRIES 16u

/**
 * struct region - see above
 * @is_in_doubt: vmcid was told, and has not answered in time
 */
struct region {
	struct vmci_handle handle;
	uint64_t bytes;
	uint64_t offset;
	uint8_t token[FAB_TOKEN_SIZE];
	unsigned refs;
	bool is_told;
	bool is_lost;
	bool is_in_doubt;
};

struct share {
	uint32_t port;
	uint16_t action;
	uint64_t id;
	struct region *region;
};

struct reply {
	size_t size;
	uint8_t dg[VMCI_DG_HEADER_SIZE + SHARE_REPLY_MAX];
};

/* struct shares - @is_held: vmcid is not asked for new things now */
struct shares {
	uint32_t cid;
	bool is_held;
	const struct window *window;
	struct shares_ports ports;
	uint32_t next_rid;
	unsigned n_regions;
	unsigned n_shares;
	unsigned first_reply;
	unsigned n_replies;
	struct region *region[LIMIT_SHARES];
	struct share share[LIMIT_SHARES];
	struct reply reply[LIMIT_SHARE_REPLIES];
};

/* What else a question can come to than a code: it is to be asked again. */
#define AGAIN 1000

int shares_new(uint32_t cid, const struct window *window, const struct shares_ports *ports, struct shares **ret_shares)
{
	struct shares *shares = calloc(1, sizeof(*shares));

	if (!shares)
		return -ENOMEM;
	shares->cid = cid;
	shares->window = window;
	shares->ports = *ports;
	shares->next_rid = RID_FIRST;
	*ret_shares = shares;
	return 0;
}

struct shares *shares_free(struct shares *shares)
{
	if (shares) {
		for (unsigned i = 0; i < shares->n_regions; i++)
			free(shares->region[i]);
		free(shares);
	}
	return NULL;
}

/* --- Regions ---------------------------------------------------------------------------------------------------- */

static struct region *find_region(const struct shares *shares, struct vmci_handle handle)
{
	for (unsigned i = 0; i < shares->n_regions; i++)
		if (handle_is_equal(shares->region[i]->handle, handle))
			return shares->region[i];
	return NULL;
}

/* One that vmcid knows of, and nobody has. NULL: too many, or no memory */
static struct region *add_region(struct shares *shares, struct vmci_handle handle)
{
	struct region *region = shares->n_regions < LIMIT_SHARES ? calloc(1, sizeof(*region)) : NULL;

	if (region) {
		region->handle = handle;
		region->is_told = true;
		shares->region[shares->n_regions++] = region;
	}
	return region;
}

static void drop_region(struct shares *shares, struct region *region)
{
	unsigned i = 0;

	while (shares->region[i] != region)
		i++;
	shares->region[i] = shares->region[--shares->n_regions];
	free(region);
}

/**
 * ask() - one call of vmcid, whose descriptors are not needed
 *
 * Return: status of the reply; AGAIN: no reply, or "later". @ret_in_doubt: it may have been done
 */
static int32_t ask(struct shares *shares, struct fab_msg *request, struct fab_msg *ret_reply, bool *ret_in_doubt)
{
	int r = shares->is_held ? -EHOSTDOWN : shares->ports.ask(shares->ports.ctx, request, ret_reply);

	*ret_in_doubt = r == -ETIMEDOUT;
	if (r)
		return AGAIN;
	fab_drop(ret_reply);
	return ret_reply->status == VMCI_ERROR_WOULD_BLOCK ? AGAIN : ret_reply->status;
}

/* Tell vmcid that we are attached no longer. Return: its status, and the region is forgotten; AGAIN */
static int32_t leave(struct shares *shares, struct region *region)
{
	struct fab_msg request = { .type = FAB_SHM_DETACH, .handle = region->handle }, reply;
	bool in_doubt;
	int32_t code = VMCI_SUCCESS;

	if (!region->is_lost)
		code = ask(shares, &request, &reply, &in_doubt);
	if (code == VMCI_SUCCESS_LAST_DETACH)
		shares->ports.gone(shares->ports.ctx, region->handle);
	if (code != AGAIN)
		drop_region(shares, region);
	return code;
}

/* What vmcid says of a place is checked like anything else. */
static bool is_place(const struct shares *shares, uint64_t bytes, uint64_t offset)
{
	return bytes && !(offset % LIMIT_WINDOW_PAGE) && range_fits(offset, bytes, shares->window->size);
}

/* vmcid has given us @region. Return: 0, or VMCI_ERROR_*, and it is left */
static int32_t take_place(struct shares *shares, struct region *region, const struct fab_msg *reply, uint64_t bytes,
			  uint64_t offset)
{
	region->bytes = bytes;
	region->offset = offset;
	memcpy(region->token, reply->token, sizeof(region->token));
	if (is_place(shares, bytes, offset))
		return VMCI_SUCCESS;
	log_err("cid %u: vmcid says that region %u:%u lies outside of the window", shares->cid, region->handle.context,
		region->handle.resource);
	return VMCI_ERROR_UNAVAILABLE;
}

/* --- Shares ----------------------------------------------------------------------------------------------------- */

static struct share *find_share(struct shares *shares, uint32_t port)
{
	for (unsigned i = 0; i < shares->n_shares; i++)
		if (shares->share[i].port == port)
			return &shares->share[i];
	return NULL;
}

static void add_share(struct shares *shares, uint32_t port, const struct share_request *request, struct region *region)
{
	region->refs++;
	shares->share[shares->n_shares++] = (struct share){
		.port = port, .action = request->action, .id = request->id, .region = region,
	};
}

/* Return: what the port is told. A region that nobody has any more is left now, or later. */
static int32_t drop_share(struct shares *shares, struct share *share)
{
	struct region *region = share->region;
	int32_t code;

	*share = shares->share[--shares->n_shares];
	if (--region->refs)
		return VMCI_SUCCESS;
	code = leave(shares, region);
	return code == VMCI_SUCCESS_LAST_DETACH ? code : VMCI_SUCCESS;
}

/* --- Questions -------------------------------------------------------------------------------------------------- */

/* @from asks for something new. Return: true: it has the answer already, and only asks again */
static bool make_way(struct shares *shares, uint32_t from, const struct share_request *request,
		     struct share_reply *reply)
{
	struct share *share = find_share(shares, from);

	if (!share)
		return false;
	if (share->id != request->id || share->action != request->action) {
		drop_share(shares, share);
		return false;
	}
	reply->handle = share->region->handle;
	reply->bytes = share->region->bytes;
	reply->offset = share->region->offset;
	return true;
}

static uint32_t choose_rid(struct shares *shares)
{
	uint32_t rid;

	do {
		rid = shares->next_rid;
		shares->next_rid = rid == RID_LAST ? RID_FIRST : rid + 1;
	} while (find_region(shares, handle_make(shares->cid, rid)));
	return rid;
}

static void fill(struct share_reply *reply, const struct region *region)
{
	reply->handle = region->handle;
	reply->bytes = region->bytes;
	reply->offset = region->offset;
}

/* The id is chosen here, so that we know what to take back if vmcid does not answer. */
static int32_t create_with(struct shares *shares, uint32_t from, const struct share_request *request, uint32_t rid,
			   struct share_reply *ret)
{
	struct fab_msg msg = { .type = FAB_SHM_ALLOC, .handle.resource = rid, .size0 = request->bytes }, reply;
	struct vmci_handle handle = handle_make(shares->cid, rid);
	struct region *region;
	bool in_doubt;
	int32_t code;

	if (find_region(shares, handle))
		return VMCI_ERROR_ALREADY_EXISTS;
	region = add_region(shares, handle);
	if (!region)
		return VMCI_ERROR_NO_RESOURCES;
	code = ask(shares, &msg, &reply, &in_doubt);
	if (code >= 0 && code != AGAIN) {
		code = handle_is_equal(reply.handle, handle) ?
			take_place(shares, region, &reply, request->bytes, reply.size1) : VMCI_ERROR_UNAVAILABLE;
		if (code >= 0) {
			add_share(shares, from, request, region);
			fill(ret, region);
		}
		return code;
	}
	/* In doubt it stays, as one that we leave. */
	if (!in_doubt)
		drop_region(shares, region);
	return code;
}

static int32_t create(struct shares *shares, uint32_t from, const struct share_request *request,
		      struct share_reply *ret)
{
	bool is_wished = request->handle.resource != VMCI_INVALID_ID;
	int32_t code = VMCI_ERROR_ALREADY_EXISTS;

	if (make_way(shares, from, request, ret))
		return VMCI_SUCCESS;
	if (shares->n_shares == LIMIT_SHARES)
		return VMCI_ERROR_NO_RESOURCES;
	if (is_wished)
		return create_with(shares, from, request, request->handle.resource, ret);
	for (unsigned i = 0; i < RID_TRIES && code == VMCI_ERROR_ALREADY_EXISTS; i++)
		code = create_with(shares, from, request, choose_rid(shares), ret);
	return code == VMCI_ERROR_ALREADY_EXISTS ? VMCI_ERROR_NO_RESOURCES : code;
}

static int32_t query(struct shares *shares, const struct share_request *request, struct share_reply *ret)
{
	struct fab_msg msg = { .type = FAB_SHM_QUERY, .handle = request->handle }, reply;
	bool in_doubt;
	int32_t code = ask(shares, &msg, &reply, &in_doubt);

	ret->handle = request->handle;
	if (code >= 0 && code != AGAIN)
		ret->bytes = reply.size0;
	return code;
}

static int32_t attach_new(struct shares *shares, uint32_t from, const struct share_request *request,
			  struct share_reply *ret)
{
	struct fab_msg msg = { .type = FAB_SHM_ATTACH, .handle = request->handle }, reply;
	struct region *region = add_region(shares, request->handle);
	bool in_doubt;
	int32_t code;

	if (!region)
		return VMCI_ERROR_NO_RESOURCES;
	code = ask(shares, &msg, &reply, &in_doubt);
	if (code >= 0 && code != AGAIN) {
		code = take_place(shares, region, &reply, reply.size0, reply.size1);
		if (code >= 0) {
			add_share(shares, from, request, region);
			fill(ret, region);
		}
		return code;
	}
	if (!in_doubt)
		drop_region(shares, region);
	return code;
}

static int32_t attach(struct shares *shares, uint32_t from, const struct share_request *request,
		      struct share_reply *ret)
{
	struct region *region;
	int32_t code;

	if (make_way(shares, from, request, ret))
		return VMCI_SUCCESS;
	if (shares->n_shares == LIMIT_SHARES)
		return VMCI_ERROR_NO_RESOURCES;
	if (!handle_is_valid(request->handle))
		return VMCI_ERROR_INVALID_ARGS;
	region = find_region(shares, request->handle);
	if (region && !region->refs) {
		if (leave(shares, region) == AGAIN)
			return AGAIN;
		region = NULL;
	}
	if (!region)
		return attach_new(shares, from, request, ret);
	if (region->is_lost)
		return VMCI_ERROR_NOT_FOUND;
	/* The guest has it; may it still get it? */
	code = query(shares, request, ret);
	if (code >= 0 && code != AGAIN) {
		add_share(shares, from, request, region);
		fill(ret, region);
	}
	return code;
}

static int32_t detach(struct shares *shares, uint32_t from, const struct share_request *request)
{
	struct share *share = find_share(shares, from);

	if (!share || (handle_is_valid(request->handle) && !handle_is_equal(share->region->handle, request->handle)))
		return VMCI_ERROR_NOT_FOUND;
	return drop_share(shares, share);
}

static int32_t owners(const struct shares *shares, const struct share_request *request, struct share_reply *ret)
{
	uint64_t i = request->bytes;

	for (; i < shares->n_shares && ret->n_ports < SHARE_PORTS_MAX; i++)
		ret->port[ret->n_ports++] = shares->share[i].port;
	ret->bytes = i < shares->n_shares ? i : 0;
	return VMCI_SUCCESS;
}

static int32_t carry_out(struct shares *shares, uint32_t from, const struct share_request *request,
			 struct share_reply *ret)
{
	if (request->version != SHARE_VERSION)
		return VMCI_ERROR_OBSOLETE;
	if (!shares->window)
		return VMCI_ERROR_UNAVAILABLE;
	switch (request->action) {
	case SHARE_CREATE:
		return create(shares, from, request, ret);
	case SHARE_QUERY:
		return query(shares, request, ret);
	case SHARE_ATTACH:
		return attach(shares, from, request, ret);
	case SHARE_DETACH:
		return detach(shares, from, request);
	case SHARE_OWNERS:
		return owners(shares, request, ret);
	default:
		return VMCI_ERROR_INVALID_ARGS;
	}
}

int32_t shares_ask(struct shares *shares, bool is_ready, uint32_t from, const uint8_t *payload, size_t size)
{
	const struct vmci_handle service = { VMCI_CID_WELL_KNOWN, VMCI_RID_SHM };
	struct share_request request;
	struct share_reply reply = { 0 };
	struct reply *place;
	size_t len;
	int32_t code;

	/* Where no reply can go: VMCI, 3.1; nor do control of streams and events ask. */
	if (share_request_parse(payload, size, &request) || from == VMCI_INVALID_ID || from <= VMCI_RID_STREAM)
		return VMCI_ERROR_INVALID_ARGS;
	if (shares->n_replies == LIMIT_SHARE_REPLIES)
		return VMCI_ERROR_NO_RESOURCES;
	shares->is_held = !is_ready;
	code = carry_out(shares, from, &request, &reply);
	shares->is_held = false;
	if (code == AGAIN)
		return VMCI_ERROR_NO_RESOURCES;
	reply.action = request.action;
	reply.code = code;
	reply.id = request.id;
	place = &shares->reply[(shares->first_reply + shares->n_replies++) % LIMIT_SHARE_REPLIES];
	len = share_reply_build(place->dg + VMCI_DG_HEADER_SIZE, &reply);
	dg_build(place->dg, handle_make(shares->cid, from), service, len);
	place->size = VMCI_DG_HEADER_SIZE + len;
	return VMCI_SUCCESS;
}

const uint8_t *shares_next_reply(const struct shares *shares, size_t *ret_size)
{
	const struct reply *reply = &shares->reply[shares->first_reply];

	if (!shares->n_replies)
		return NULL;
	*ret_size = reply->size;
	return reply->dg;
}

void shares_drop_reply(struct shares *shares)
{
	shares->first_reply = (shares->first_reply + 1) % LIMIT_SHARE_REPLIES;
	shares->n_replies--;
}

/* --- What vmcid is told ------------------------------------------------------------------------------------------ */

void shares_driver_gone(struct shares *shares)
{
	for (unsigned i = 0; i < shares->n_regions; i++)
		shares->region[i]->refs = 0;
	shares->n_shares = 0;
	shares->n_replies = 0;
}

void shares_tell_all(struct shares *shares)
{
	for (unsigned i = 0; i < shares->n_regions;) {
		struct region *region = shares->region[i];

		if (!region->refs) {
			drop_region(shares, region);
			continue;
		}
		/* What an earlier one would not take, this one may. */
		region->is_told = region->is_lost = region->is_in_doubt = false;
		i++;
	}
}

static bool is_to_tell(const struct region *region)
{
	return !region->refs || !region->is_told;
}

bool shares_is_told(const struct shares *shares)
{
	for (unsigned i = 0; i < shares->n_regions; i++)
		if (is_to_tell(shares->region[i]))
			return false;
	return true;
}

/* Return: false: later more */
static bool tell(struct shares *shares, struct region *region)
{
	struct fab_msg reply, request = {
		.type = FAB_SHM_HOLD,
		.handle = region->handle,
		.size0 = region->bytes,
		.size1 = region->offset,
		.fd = { shares->window->fd },
		.n_fds = 1,
	};
	bool in_doubt;
	int32_t code;

	if (region->handle.context == shares->cid) {
		request.type = FAB_SHM_CREATE;
		request.flags = FAB_F_RESUME;
		request.handle.context = 0;
	}
	memcpy(request.token, region->token, sizeof(request.token));
	code = ask(shares, &request, &reply, &in_doubt);
	region->is_in_doubt |= in_doubt;
	if (code == AGAIN)
		return false;
	region->is_told = true;
	if (code >= 0 && request.type == FAB_SHM_CREATE)
		memcpy(region->token, reply.token, sizeof(region->token));
	/* Told already, perhaps. */
	if (code >= 0 || (code == VMCI_ERROR_ALREADY_EXISTS && region->is_in_doubt))
		return true;
	region->is_lost = true;
	log_warn("cid %u: vmcid does not know region %u:%u any more: %d", shares->cid, region->handle.context,
		 region->handle.resource, code);
	return true;
}

void shares_run(struct shares *shares, unsigned *budget)
{
	/* From the end: those that are left make room for the last ones. */
	for (unsigned i = shares->n_regions; i > 0 && *budget; i--) {
		struct region *region = shares->region[i - 1];

		if (!is_to_tell(region))
			continue;
		--*budget;
		if (region->refs ? !tell(shares, region) : leave(shares, region) == AGAIN)
			return;
	}
}
