/* SPDX-License-Identifier: BSD-2-Clause */
/* Names: the discovery service. SDK, 6 and 10.2. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "broker/priv.h"

#define RESERVED "vmci "

static struct brk_name *find(const struct brk *brk, const char *text, size_t size)
{
	struct brk_node *node = brk_table_first(&brk->names, brk_hash_bytes(brk->seed, text, size));

	for (; node; node = brk_table_next(node)) {
		struct brk_name *name = brk_of(node, struct brk_name, node);

		if (name->size == size && !memcmp(name->text, text, size))
			return name;
	}
	return NULL;
}

int32_t brk_name_new(struct brk *brk, struct brk_client *client, const char *text, size_t size,
		     struct vmci_handle handle, uint64_t stamp)
{
	struct brk_name *name = calloc(1, sizeof(*name) + size);
	struct brk_context *context = name ? brk_context_get(brk, handle.context) : NULL;

	if (!context) {
		free(name);
		return VMCI_ERROR_NO_MEM;
	}
	if (brk_object_add(brk, &name->object, BRK_KIND_NAME) < 0) {
		brk_context_put(brk, context);
		free(name);
		return VMCI_ERROR_NO_MEM;
	}
	name->handle = handle;
	name->context = context;
	name->client = client;
	name->stamp = stamp;
	name->size = size;
	memcpy(name->text, text, size);
	brk_link_init(&name->in_client);
	brk_link_init(&name->in_context);
	if (client) {
		brk_list_add(&client->names, &name->in_client);
		client->account->names++;
	}
	brk_list_add(&context->names, &name->in_context);
	brk_table_add(&brk->names, &name->node, brk_hash_bytes(brk->seed, text, size));
	brk_table_add(&brk->named, &name->by_handle, brk_hash(brk->seed, handle.context, handle.resource));
	return VMCI_SUCCESS;
}

void brk_name_free(struct brk *brk, struct brk_name *name)
{
	if (name->client)
		name->client->account->names--;
	brk_list_del(&name->in_client);
	brk_list_del(&name->in_context);
	brk_table_del(&brk->names, &name->node);
	brk_table_del(&brk->named, &name->by_handle);
	brk_object_del(brk, &name->object);
	brk_context_put(brk, name->context);
	free(name);
}

void brk_names_free(struct brk *brk, struct vmci_handle handle)
{
	struct brk_node *node = brk_table_first(&brk->named, brk_hash(brk->seed, handle.context, handle.resource));

	while (node) {
		struct brk_name *name = brk_of(node, struct brk_name, by_handle);

		node = brk_table_next(node);
		if (handle_is_equal(name->handle, handle))
			brk_name_free(brk, name);
	}
}

static bool is_possible(const char *text, size_t size)
{
	return size >= 1 && size <= DISCOVERY_NAME_MAX && !memchr(text, '\0', size);
}

static bool is_reserved(const char *text, size_t size)
{
	return size >= sizeof(RESERVED) - 1 && !memcmp(text, RESERVED, sizeof(RESERVED) - 1);
}

/* What came of a request: a code, and a few words for humans if it was refused. */
struct outcome {
	int32_t code;
	const char *why;
	struct vmci_handle handle;
};

static struct outcome refuse(int32_t code, const char *why)
{
	return (struct outcome){ .code = code, .why = why, .handle = handle_make(VMCI_INVALID_ID, VMCI_INVALID_ID) };
}

static struct outcome look_up(struct brk_client *client, const struct discovery_request *request)
{
	const struct brk_name *name = find(client->brk, request->name, request->name_size);
	struct outcome outcome = refuse(VMCI_ERROR_NOT_FOUND, "");

	/* What belongs to a stranger is not there. */
	if (!name || brk_meet(client, name->context, true) == VMCI_ERROR_DST_UNREACHABLE)
		return outcome;
	outcome.code = VMCI_SUCCESS;
	outcome.handle = name->handle;
	return outcome;
}

static struct outcome add(struct brk_client *client, const struct discovery_request *request, const uint8_t *resume)
{
	struct vmci_handle handle = request->handle;
	struct brk *brk = client->brk;
	struct brk_name *known;
	uint64_t stamp = 0;

	if (!brk_cid_is_possible(handle.context) || handle.resource == VMCI_INVALID_ID)
		return refuse(VMCI_ERROR_INVALID_ARGS, "invalid handle");
	if (brk->limits.trusted_names && !brk_client_is_trusted(client))
		return refuse(VMCI_ERROR_NO_ACCESS, "only trusted ones may register names");
	if (is_reserved(request->name, request->name_size))
		return refuse(VMCI_ERROR_NO_ACCESS, "reserved name");
	if (client->context->presence != BRK_HOST && handle.context != client->context->cid)
		return refuse(VMCI_ERROR_NO_ACCESS, "another context's handle");
	if (resume && !brk_token_is_good_name(client, request->name, request->name_size, resume, &stamp))
		return refuse(VMCI_ERROR_NO_ACCESS, "wrong token");
	known = find(brk, request->name, request->name_size);
	if (known && !brk_stamp_displaces(brk, stamp, known->stamp))
		return refuse(VMCI_ERROR_ALREADY_EXISTS, "");
	/* Somebody else may have had it before the restart. */
	if (brk->is_grace && !resume)
		return refuse(BRK_LATER, "the broker is starting");
	if (client->account->names >= brk->limits.names)
		return refuse(VMCI_ERROR_NO_RESOURCES, "too many names");
	if (known) {
		brk_note(client, LOG_LEVEL_INFO, "has a name back from another, who showed an older token");
		brk_name_free(brk, known);
	}
	if (!resume)
		stamp = brk_stamp_new(brk);
	return refuse(brk_name_new(brk, client, request->name, request->name_size, handle, stamp), "");
}

static struct outcome take_away(struct brk_client *client, const struct discovery_request *request)
{
	struct brk_name *name = find(client->brk, request->name, request->name_size);
	const struct brk_client *owner = name ? name->client : NULL;

	if (!name)
		return refuse(VMCI_ERROR_NOT_FOUND, "");
	if (!owner)
		return refuse(VMCI_ERROR_NO_ACCESS, "reserved name");
	/* SDK, 6.3: the registrant's context, and the host's; there, several users are to leave each other alone. */
	if (owner->context != client->context && client->context->presence != BRK_HOST)
		return refuse(VMCI_ERROR_NO_ACCESS, "registered by another context");
	if (owner->context->presence == BRK_HOST && owner->creds.uid != client->creds.uid &&
	    !brk_client_is_trusted(client))
		return refuse(VMCI_ERROR_NO_ACCESS, "registered by another user");
	brk_name_free(client->brk, name);
	return refuse(VMCI_SUCCESS, "");
}

static struct outcome carry_out(struct brk_client *client, const struct discovery_request *request,
				const uint8_t *resume)
{
	if (request->action != DISCOVERY_LOOKUP && request->action != DISCOVERY_REGISTER &&
	    request->action != DISCOVERY_UNREGISTER)
		return refuse(VMCI_ERROR_GENERIC, "unknown action");
	if (!is_possible(request->name, request->name_size))
		return refuse(VMCI_ERROR_INVALID_ARGS, "invalid name");
	if (request->action == DISCOVERY_LOOKUP)
		return look_up(client, request);
	return request->action == DISCOVERY_REGISTER ? add(client, request, resume) : take_away(client, request);
}

int32_t brk_discovery(struct brk_client *client, const uint8_t *request, size_t size, const uint8_t *resume,
		      bool may_wait, uint8_t *ret_reply, size_t *ret_size, uint8_t *ret_token)
{
	struct discovery_request parsed;
	struct discovery_reply reply;
	struct outcome outcome;
	bool is_lookup;
	int r = discovery_request_parse(request, size, &parsed);

	if (r)
		return r == -EMSGSIZE ? VMCI_ERROR_PAYLOAD_TOO_LARGE : VMCI_ERROR_INVALID_ARGS;
	outcome = carry_out(client, &parsed, resume);
	is_lookup = parsed.action == DISCOVERY_LOOKUP;
	if (may_wait && is_lookup && outcome.code == VMCI_ERROR_NOT_FOUND)
		outcome.code = brk_absent(client->brk, outcome.code);
	if (outcome.code == BRK_LATER && may_wait)
		return BRK_LATER;
	if (outcome.code == BRK_LATER)
		outcome.code = VMCI_ERROR_UNAVAILABLE;
	if (outcome.code == VMCI_ERROR_NO_ACCESS)
		brk_note(client, LOG_LEVEL_INFO, "may not %s a name: %s",
			 parsed.action == DISCOVERY_REGISTER ? "register" : "unregister", outcome.why);
	reply = (struct discovery_reply){
		.id = parsed.id,
		.code = outcome.code,
		.handle = outcome.handle,
		.text = outcome.why,
		.text_size = strlen(outcome.why),
	};
	*ret_size = discovery_reply_build(ret_reply, &reply);
	if (ret_token)
		memset(ret_token, 0, BRK_TOKEN_SIZE);
	if (parsed.action == DISCOVERY_REGISTER && outcome.code == VMCI_SUCCESS)
		brk_token_make_name(client, parsed.name, parsed.name_size,
				    find(client->brk, parsed.name, parsed.name_size)->stamp, ret_token);
	return VMCI_SUCCESS;
}

int32_t brk_name(struct brk_client *client, const uint8_t *request, size_t size, const uint8_t *resume,
		 uint8_t *ret_reply, size_t *ret_size, uint8_t *ret_token)
{
	if (!client->context)
		return VMCI_ERROR_INVALID_ARGS;
	return brk_discovery(client, request, size, resume, true, ret_reply, ret_size, ret_token);
}
