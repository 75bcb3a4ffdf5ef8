/* SPDX-License-Identifier: BSD-2-Clause */
/* Contexts: who is there, and who may have to do with whom. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "broker/priv.h"

struct brk_context *brk_context_find(const struct brk *brk, uint32_t cid)
{
	struct brk_node *node = brk_table_first(&brk->contexts, brk_hash(brk->seed, cid, 0));

	for (; node; node = brk_table_next(node)) {
		struct brk_context *context = brk_of(node, struct brk_context, node);

		if (context->cid == cid)
			return context;
	}
	return NULL;
}

struct brk_context *brk_context_present(const struct brk *brk, uint32_t cid)
{
	struct brk_context *context = brk_context_find(brk, cid);

	return context && context->presence != BRK_ABSENT ? context : NULL;
}

struct brk_context *brk_context_get(struct brk *brk, uint32_t cid)
{
	struct brk_context *context = brk_context_find(brk, cid);

	if (context)
		return context;
	context = calloc(1, sizeof(*context));
	if (!context)
		return NULL;
	if (brk_object_add(brk, &context->object, BRK_KIND_CONTEXT) < 0) {
		free(context);
		return NULL;
	}
	context->cid = cid;
	brk_link_init(&context->clients);
	brk_link_init(&context->names);
	brk_side_init(&context->watches);
	brk_side_init(&context->members);
	brk_side_init(&context->grants);
	brk_table_add(&brk->contexts, &context->node, brk_hash(brk->seed, cid, 0));
	return context;
}

void brk_context_put(struct brk *brk, struct brk_context *context)
{
	if (context->presence != BRK_ABSENT || context->is_reserved || context->watches.count ||
	    context->members.count || context->grants.count || !brk_list_is_empty(&context->names))
		return;
	brk_object_del(brk, &context->object);
	brk_table_del(&brk->contexts, &context->node);
	free(context);
}

/* Tell those who watch, if they could have seen it. */
static void tell_one(struct brk_relation *watch)
{
	const struct brk_context *context = brk_of(watch->side[1], struct brk_context, watches);
	const struct event event = { .id = VMCI_EVENT_CTX_REMOVED, .context = context->cid };
	struct brk_client *client = brk_of(watch->side[0], struct brk_client, watches);

	brk_list_del(&watch->due);
	if (!brk_meet(client, context, context->is_trusted))
		brk_event(client, &event);
}

static void tell_removed(struct brk_context *context)
{
	for (struct brk_link *link = context->watches.list.next; link != &context->watches.list; link = link->next)
		tell_one(brk_relation_of(link, 1));
}

void brk_watches_due(struct brk *brk)
{
	while (!brk_list_is_empty(&brk->due)) {
		struct brk_relation *watch = brk_of(brk->due.next, struct brk_relation, due);

		if (brk_of(watch->side[1], struct brk_context, watches)->presence == BRK_ABSENT)
			tell_one(watch);
		else
			brk_list_del(&watch->due);
	}
}

static void die(struct brk *brk, struct brk_context *context)
{
	/* One reference more, so that it stays until we are through. */
	bool was_reserved = context->is_reserved;

	tell_removed(context);
	context->is_reserved = true;
	while (!brk_list_is_empty(&context->names))
		brk_name_free(brk, brk_of(context->names.next, struct brk_name, in_context));
	while (context->members.count)
		brk_relation_free(brk, brk_relation_first(&context->members, 1));
	brk_grants_free(brk, &context->grants, 1);
	free(context->rules);
	context->rules = NULL;
	context->n_rules = 0;
	context->device = NULL;
	context->is_restricted = false;
	context->is_unrestricted = false;
	context->is_trusted = false;
	context->name[0] = '\0';
	context->domain[0] = '\0';
	context->gen = 0;
	context->stamp = 0;
	context->presence = BRK_ABSENT;
	context->is_reserved = was_reserved;
	brk_context_put(brk, context);
}

void brk_context_leave(struct brk_client *client)
{
	struct brk_context *context = client->context;

	brk_list_del(&client->in_context);
	client->context = NULL;
	if (!brk_list_is_empty(&context->clients) || context->presence == BRK_HOST)
		return;
	if (context->presence == BRK_SOFTWARE)
		client->user->contexts--;
	die(client->brk, context);
}

static void join(struct brk_client *client, struct brk_context *context, struct brk_account *account)
{
	client->context = context;
	client->account = account;
	brk_list_add(&context->clients, &client->in_context);
}

/* An id for a new software context; 0 if none is free. */
static uint32_t choose_cid(struct brk *brk)
{
	for (uint32_t i = BRK_CID_FIRST; i <= BRK_CID_LAST; i++) {
		uint32_t cid = brk->next_cid++;

		if (brk->next_cid > BRK_CID_LAST)
			brk->next_cid = BRK_CID_FIRST;
		if (!brk_context_find(brk, cid))
			return cid;
	}
	return 0;
}

static int32_t make_software(struct brk_client *client, uint32_t cid, bool restricted, uint64_t stamp)
{
	struct brk *brk = client->brk;
	struct brk_context *context;
	struct brk_account *account;

	if (client->user->contexts >= brk->limits.contexts)
		return VMCI_ERROR_NO_RESOURCES;
	if (cid == VMCI_INVALID_ID)
		cid = choose_cid(brk);
	if (!cid)
		return VMCI_ERROR_NO_RESOURCES;
	account = brk_account_get(client->user, false);
	if (!account)
		return VMCI_ERROR_NO_MEM;
	context = brk_context_get(brk, cid);
	if (!context) {
		brk_account_put(brk, account);
		return VMCI_ERROR_NO_MEM;
	}
	context->presence = BRK_SOFTWARE;
	context->gen = ++brk->gen;
	context->stamp = stamp;
	context->is_restricted = restricted;
	context->is_trusted = client->creds.trusted;
	context->uid = client->creds.uid;
	client->user->contexts++;
	join(client, context, account);
	return VMCI_SUCCESS;
}

static int32_t join_host(struct brk_client *client, bool restricted)
{
	struct brk_account *account;

	if (restricted)
		return VMCI_ERROR_INVALID_ARGS;
	account = brk_account_get(client->user, true);
	if (!account)
		return VMCI_ERROR_NO_MEM;
	join(client, client->brk->host, account);
	return VMCI_SUCCESS;
}

/* Another user has come back to @context by an older token. What others refer to it by is meant for us, and stays. */
static int32_t win_software(struct brk_client *client, struct brk_context *context, bool restricted, uint64_t stamp)
{
	struct brk *brk = client->brk;
	struct brk_account *account;

	if (client->user->contexts >= brk->limits.contexts)
		return VMCI_ERROR_NO_RESOURCES;
	account = brk_account_get(client->user, false);
	if (!account)
		return VMCI_ERROR_NO_MEM;
	brk_of(context->clients.next, struct brk_client, in_context)->user->contexts--;
	client->user->contexts++;
	/* It is never empty, so it does not die. */
	join(client, context, account);
	while (context->clients.next != &client->in_context || client->in_context.next != &context->clients) {
		struct brk_link *link = context->clients.next;

		if (link == &client->in_context)
			link = link->next;
		brk_client_evict(brk_of(link, struct brk_client, in_context));
	}
	context->gen = ++brk->gen;
	context->stamp = stamp;
	context->is_restricted = restricted;
	context->is_trusted = client->creds.trusted;
	context->uid = client->creds.uid;
	return VMCI_SUCCESS;
}

static int32_t join_software(struct brk_client *client, struct brk_context *context, bool restricted, uint64_t stamp)
{
	struct brk_client *member;

	if (context->presence != BRK_SOFTWARE)
		return VMCI_ERROR_NO_ACCESS;
	if (context->uid != client->creds.uid && brk_stamp_displaces(client->brk, stamp, context->stamp))
		return win_software(client, context, restricted, stamp);
	if (context->uid != client->creds.uid)
		return VMCI_ERROR_NO_ACCESS;
	/* One user's: all his programs may, and what they show from now on is the newest. */
	if (brk_stamp_displaces(client->brk, stamp, context->stamp))
		context->stamp = stamp;
	member = brk_of(context->clients.next, struct brk_client, in_context);
	member->account->refs++;
	join(client, context, member->account);
	return VMCI_SUCCESS;
}

static int32_t hello(struct brk_client *client, uint32_t wish, bool restricted, const uint8_t *resume)
{
	struct brk *brk = client->brk;
	struct brk_context *context;
	uint64_t stamp = 0;

	if (wish == VMCI_CID_HOST)
		return join_host(client, restricted);
	if (wish < VMCI_CID_FIRST_VM || (wish == VMCI_INVALID_ID && resume))
		return VMCI_ERROR_INVALID_ARGS;
	if (resume && !brk_token_is_good(client, BRK_TOKEN_CONTEXT, handle_make(wish, 0), resume, &stamp))
		return VMCI_ERROR_NO_ACCESS;
	context = wish == VMCI_INVALID_ID ? NULL : brk_context_find(brk, wish);
	if (context && context->presence != BRK_ABSENT)
		return join_software(client, context, restricted, stamp);
	if (context && context->is_reserved)
		return VMCI_ERROR_NO_ACCESS;
	if (brk->is_grace && !resume && wish != VMCI_INVALID_ID)
		return BRK_LATER;
	return make_software(client, wish, restricted, resume ? stamp : brk_stamp_new(brk));
}

int32_t brk_hello(struct brk_client *client, uint32_t wish, bool restricted, const char *label, const uint8_t *resume,
		  uint8_t *ret_token)
{
	int32_t result;

	if (client->context || client->creds.device)
		return VMCI_ERROR_INVALID_ARGS;
	result = hello(client, wish, restricted, resume);
	if (result < 0)
		return result;
	brk_copy_text(client->label, BRK_LABEL_MAX, label);
	brk_token_make(client, BRK_TOKEN_CONTEXT, handle_make(client->context->cid, 0), client->context->stamp,
		       ret_token);
	return VMCI_SUCCESS;
}

int32_t brk_hello_device(struct brk_client *client, const struct brk_vm *vm, const char *label, void *datagrams,
			 void *events)
{
	struct brk *brk = client->brk;
	struct brk_filter_rule *rules = NULL;
	struct brk_account *account;
	struct brk_context *context;

	if (client->context || !client->creds.device || vm->cid < VMCI_CID_FIRST_VM || vm->cid == VMCI_INVALID_ID ||
	    vm->n_rules > LIMIT_BRK_FILTER_RULES)
		return VMCI_ERROR_INVALID_ARGS;
	if (brk_context_present(brk, vm->cid))
		return VMCI_ERROR_ALREADY_EXISTS;
	if (vm->n_rules) {
		rules = calloc(vm->n_rules, sizeof(rules[0]));
		if (!rules)
			return VMCI_ERROR_NO_MEM;
		memcpy(rules, vm->rules, vm->n_rules * sizeof(rules[0]));
	}
	account = brk_account_get(client->user, false);
	context = account ? brk_context_get(brk, vm->cid) : NULL;
	if (!context) {
		if (account)
			brk_account_put(brk, account);
		free(rules);
		return VMCI_ERROR_NO_MEM;
	}
	context->presence = BRK_VM;
	context->gen = ++brk->gen;
	context->is_restricted = vm->restricted;
	context->is_unrestricted = vm->unrestricted;
	context->uid = client->creds.uid;
	context->rules = rules;
	context->n_rules = vm->n_rules;
	context->device = client;
	brk_copy_text(context->name, BRK_VM_NAME_MAX, vm->name);
	snprintf(context->domain, sizeof(context->domain), "%s", vm->domain ? vm->domain : "");
	brk_copy_text(client->label, BRK_LABEL_MAX, label);
	client->datagrams = datagrams;
	client->events = events;
	join(client, context, account);
	return VMCI_SUCCESS;
}

int32_t brk_reserve(struct brk *brk, uint32_t cid)
{
	struct brk_context *context;

	if (cid < VMCI_CID_FIRST_VM || cid == VMCI_INVALID_ID)
		return VMCI_ERROR_INVALID_ARGS;
	context = brk_context_get(brk, cid);
	if (!context)
		return VMCI_ERROR_NO_MEM;
	if (context->is_reserved || context->presence == BRK_SOFTWARE)
		return VMCI_ERROR_ALREADY_EXISTS;
	context->is_reserved = true;
	return VMCI_SUCCESS;
}

void brk_unreserve(struct brk *brk, uint32_t cid)
{
	struct brk_context *context = brk_context_find(brk, cid);

	if (!context)
		return;
	context->is_reserved = false;
	brk_context_put(brk, context);
}

bool brk_cid_is_there(const struct brk *brk, uint32_t cid)
{
	return brk_context_present(brk, cid) != NULL;
}

bool brk_cid_is_of(const struct brk *brk, uint32_t cid, uint32_t uid)
{
	const struct brk_context *context = brk_context_present(brk, cid);

	return context && context->presence == BRK_SOFTWARE && context->uid == uid;
}

bool brk_cid_is_free(const struct brk *brk, uint32_t cid)
{
	const struct brk_context *context = brk_context_find(brk, cid);

	return cid >= VMCI_CID_FIRST_VM && cid != VMCI_INVALID_ID &&
	       (!context || (context->presence == BRK_ABSENT && !context->is_reserved));
}

/* SDK, 9: two VMs are strangers unless they share a domain, or are both unrestricted. */
static bool are_strangers(const struct brk_context *a, const struct brk_context *b)
{
	if (a == b || a->presence != BRK_VM || b->presence != BRK_VM)
		return false;
	if (a->is_unrestricted && b->is_unrestricted)
		return false;
	return !a->domain[0] || strcmp(a->domain, b->domain) != 0;
}

int32_t brk_meet(const struct brk_client *client, const struct brk_context *context, bool is_trusted)
{
	const struct brk_context *own = client->context;

	if (are_strangers(own, context))
		return VMCI_ERROR_DST_UNREACHABLE;
	if (own == context)
		return VMCI_SUCCESS;
	/* VMCI, 5: whoever is restricted needs a trusted partner. */
	if ((own->is_restricted && !is_trusted) || (context->is_restricted && !brk_client_is_trusted(client)))
		return VMCI_ERROR_NO_ACCESS;
	return VMCI_SUCCESS;
}

int32_t brk_vm_may_know(const struct brk_client *client, uint32_t cid)
{
	const struct brk_context *context;

	if (!client->context)
		return VMCI_ERROR_INVALID_ARGS;
	context = brk_context_present(client->brk, cid);
	if (!context || context->presence != BRK_VM)
		return VMCI_ERROR_DST_UNREACHABLE;
	return brk_meet(client, context, context->is_trusted);
}

int32_t brk_watch(struct brk_client *client, uint32_t cid, bool on)
{
	struct brk_context *context;
	struct brk_relation *watch;
	int32_t result;

	if (!client->context || cid < VMCI_CID_FIRST_VM || cid == VMCI_INVALID_ID)
		return VMCI_ERROR_INVALID_ARGS;
	context = brk_context_find(client->brk, cid);
	watch = context ? brk_relation_find(client->brk, &client->watches, &context->watches) : NULL;
	if (!on) {
		if (!watch)
			return VMCI_ERROR_NOT_FOUND;
		brk_relation_free(client->brk, watch);
		brk_context_put(client->brk, context);
		return VMCI_SUCCESS;
	}
	if (watch)
		return VMCI_ERROR_ALREADY_EXISTS;
	if (client->watches.count >= LIMIT_BRK_WATCHES)
		return VMCI_ERROR_NO_RESOURCES;
	/* A stranger is watched like one that is not there, and nothing will be told. */
	result = context && context->presence != BRK_ABSENT ? brk_meet(client, context, context->is_trusted) : 0;
	if (result == VMCI_ERROR_NO_ACCESS)
		return brk_denied(client, "watch", handle_make(cid, 0), "restricted");
	context = brk_context_get(client->brk, cid);
	if (!context)
		return VMCI_ERROR_NO_MEM;
	watch = brk_relation_new(client->brk, &client->watches, &context->watches);
	if (!watch) {
		brk_context_put(client->brk, context);
		return VMCI_ERROR_NO_MEM;
	}
	return VMCI_SUCCESS;
}

int32_t brk_watch_again(struct brk_client *client, uint32_t cid)
{
	int32_t result = brk_watch(client, cid, true);
	struct brk_context *context;
	struct brk_relation *watch;

	if (result)
		return result;
	context = brk_context_find(client->brk, cid);
	if (context->presence != BRK_ABSENT)
		return VMCI_SUCCESS;
	watch = brk_relation_find(client->brk, &client->watches, &context->watches);
	brk_list_add(&client->brk->due, &watch->due);
	if (!client->brk->is_grace)
		brk_watches_due(client->brk);
	return VMCI_SUCCESS;
}
