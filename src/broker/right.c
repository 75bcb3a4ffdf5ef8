/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Rights to single resources. SDK, 5 and 10.2.
 *
 * DOC: Theory of operation
 *
 * A resource is open until its owner grants something for the first time; from then on, DG_SEND and SM_ATTACH are for
 * those who have them. A party's own entry decides, else that of the group that it has joined first among those that
 * say something (everybody has joined the public group first of all). The owner's context always may.
 *
 * What is checked is proportional to the grants of one resource, which are few, never to the groups of a party.
 */
#include "broker/priv.h"

static const uint32_t valid[BRK_TYPE_NUM] = {
	[BRK_DATAGRAM] = 1u << VMCI_PRIV_DG_SEND,
	[BRK_REGION] = 1u << VMCI_PRIV_SM_ATTACH,
	[BRK_GROUP] = 1u << VMCI_PRIV_ASSIGN_CLIENT,
};

#define VALID_ALWAYS (1u << VMCI_PRIV_CH_PRIV | 1u << VMCI_PRIV_DESTROY_RESOURCE)
#define OPEN_TO_ALL (1u << VMCI_PRIV_DG_SEND | 1u << VMCI_PRIV_SM_ATTACH)

/* When did @context join the group, as far as privileges go? False: it has not. NULL: a context that nobody knows. */
static bool joined(const struct brk *brk, const struct brk_group *group, const struct brk_context *context,
		   uint64_t *ret_order)
{
	const struct brk_relation *member;

	if (group == brk->public) {
		*ret_order = 0;
		return true;
	}
	member = context ? brk_relation_find(brk, &group->members, &context->members) : NULL;
	if (!member || !member->assign)
		return false;
	*ret_order = member->order;
	return true;
}

/* The entry that decides about @bit, or NULL. SDK, 5.3. */
static const struct brk_relation *deciding(const struct brk *brk, const struct brk_resource *resource,
					   const struct brk_context *context, uint32_t bit)
{
	const struct brk_side *grants = &resource->grants;
	const struct brk_relation *found = context ? brk_relation_find(brk, grants, &context->grants) : NULL;
	uint64_t best = UINT64_MAX, order;

	if (found && (found->allow | found->deny) & bit)
		return found;
	found = NULL;
	for (struct brk_link *link = grants->list.next; link != &grants->list; link = link->next) {
		const struct brk_relation *grant = brk_relation_of(link, 0);

		if (grant->group && (grant->allow | grant->deny) & bit && joined(brk, grant->group, context, &order) &&
		    order < best) {
			best = order;
			found = grant;
		}
	}
	return found;
}

bool brk_right(const struct brk *brk, const struct brk_resource *resource, const struct brk_context *context,
	       unsigned priv)
{
	const struct brk_relation *grant;
	uint32_t bit = 1u << priv;

	if (context && context->gen && context->gen == resource->gen)
		return true;
	grant = deciding(brk, resource, context, bit);
	if (grant)
		return grant->allow & bit;
	return !resource->is_closed && bit & OPEN_TO_ALL;
}

bool brk_right_may_change(const struct brk_client *client, const struct brk_resource *resource, unsigned priv)
{
	const struct brk_relation *grant;

	/* In the host's context there are several users. */
	if (client->context->gen == resource->gen &&
	    (client->creds.uid == resource->uid || brk_client_is_trusted(client)))
		return true;
	grant = deciding(client->brk, resource, client->context, 1u << priv);
	return grant && grant->allow & 1u << priv;
}

void brk_grant_free(struct brk *brk, struct brk_relation *grant)
{
	struct brk_context *context = grant->group ? NULL : brk_of(grant->side[1], struct brk_context, grants);

	grant->account->grants--;
	brk_account_put(brk, grant->account);
	brk_relation_free(brk, grant);
	if (context)
		brk_context_put(brk, context);
}

void brk_grants_free(struct brk *brk, struct brk_side *side, unsigned i)
{
	while (side->count)
		brk_grant_free(brk, brk_relation_first(side, i));
}

static bool is_context(struct vmci_handle handle)
{
	return handle.resource == 0 && brk_cid_is_possible(handle.context);
}

/* The resource whose grants are to be looked at, if @client can know of it. SDK, 5.2. */
static int32_t subject_of(struct brk_client *client, struct vmci_handle handle, struct vmci_handle subject,
			  uint64_t privs, struct brk_resource **ret_resource)
{
	struct brk_resource *resource;
	struct brk_context *context;

	if (!client->context || !privs || (!is_context(subject) && !subject.resource) || !handle_is_valid(subject))
		return VMCI_ERROR_INVALID_ARGS;
	resource = brk_resource_find(client->brk, handle);
	context = resource ? brk_context_present(client->brk, handle.context) : NULL;
	if (!context || brk_meet(client, context, resource->is_trusted))
		return VMCI_ERROR_INVALID_ARGS;
	if (privs & ~(uint64_t)(VALID_ALWAYS | valid[resource->type]))
		return VMCI_ERROR_INVALID_PRIV;
	*ret_resource = resource;
	return VMCI_SUCCESS;
}

/* The entry of @subject, if there is one. */
static int32_t find_grant(struct brk_client *client, struct brk_resource *resource, struct vmci_handle subject,
			  struct brk_relation **ret_grant)
{
	struct brk *brk = client->brk;
	struct brk_context *context;
	struct brk_group *group;

	if (!brk_right_may_change(client, resource, VMCI_PRIV_CH_PRIV))
		return brk_denied(client, "change rights of", resource->handle, "not the owner");
	if (is_context(subject)) {
		context = brk_context_find(brk, subject.context);
		*ret_grant = context ? brk_relation_find(brk, &resource->grants, &context->grants) : NULL;
		return VMCI_SUCCESS;
	}
	group = brk_group_find(brk, subject);
	if (!group)
		return VMCI_ERROR_NOT_FOUND;
	*ret_grant = brk_relation_find(brk, &resource->grants, &group->granted);
	return VMCI_SUCCESS;
}

static int32_t new_grant(struct brk_client *client, struct brk_resource *resource, struct vmci_handle subject,
			 struct brk_relation **ret_grant)
{
	struct brk *brk = client->brk;
	struct brk_account *account = client->account;
	struct brk_context *context = NULL;
	struct brk_group *group = NULL;
	struct brk_relation *grant;

	if (resource->grants.count >= LIMIT_BRK_GRANTS_RESOURCE || account->grants >= LIMIT_BRK_GRANTS)
		return VMCI_ERROR_NO_RESOURCES;
	if (is_context(subject)) {
		context = brk_context_get(brk, subject.context);
		if (!context)
			return VMCI_ERROR_NO_MEM;
	} else {
		group = brk_group_find(brk, subject);
	}
	grant = brk_relation_new(brk, &resource->grants, group ? &group->granted : &context->grants);
	if (!grant) {
		if (context)
			brk_context_put(brk, context);
		return VMCI_ERROR_NO_MEM;
	}
	grant->group = group;
	grant->account = account;
	account->refs++;
	account->grants++;
	*ret_grant = grant;
	return VMCI_SUCCESS;
}

int32_t brk_priv_add(struct brk_client *client, struct vmci_handle resource, struct vmci_handle subject, uint64_t allow,
		     uint64_t deny)
{
	struct brk_relation *grant;
	struct brk_resource *object;
	int32_t result = subject_of(client, resource, subject, allow | deny, &object);

	if (result < 0)
		return result;
	result = find_grant(client, object, subject, &grant);
	if (result >= 0 && !grant)
		result = new_grant(client, object, subject, &grant);
	if (result < 0)
		return result;
	object->is_closed = true;
	grant->allow = (grant->allow | (uint32_t)allow) & ~(uint32_t)deny;
	grant->deny = (grant->deny & ~(uint32_t)allow) | (uint32_t)deny;
	return VMCI_SUCCESS;
}

int32_t brk_priv_remove(struct brk_client *client, struct vmci_handle resource, struct vmci_handle subject,
			uint64_t privs)
{
	struct brk_relation *grant;
	struct brk_resource *object;
	int32_t result = subject_of(client, resource, subject, privs, &object);

	if (result >= 0)
		result = find_grant(client, object, subject, &grant);
	if (result < 0)
		return result;
	if (!grant)
		return VMCI_ERROR_NOT_FOUND;
	grant->allow &= ~(uint32_t)privs;
	grant->deny &= ~(uint32_t)privs;
	if (!grant->allow && !grant->deny)
		brk_grant_free(client->brk, grant);
	return VMCI_SUCCESS;
}

int32_t brk_priv_remove_all(struct brk_client *client, struct vmci_handle resource, struct vmci_handle subject)
{
	struct brk_relation *grant;
	struct brk_resource *object;
	int32_t result = subject_of(client, resource, subject, VALID_ALWAYS, &object);

	if (result >= 0)
		result = find_grant(client, object, subject, &grant);
	if (result < 0)
		return result;
	if (!grant)
		return VMCI_ERROR_NOT_FOUND;
	brk_grant_free(client->brk, grant);
	return VMCI_SUCCESS;
}

int32_t brk_priv_check(struct brk_client *client, struct vmci_handle resource, struct vmci_handle subject,
		       uint64_t privs)
{
	const struct brk_context *context;
	struct brk_resource *object;
	int32_t result;

	if (!is_context(subject))
		return VMCI_ERROR_INVALID_ARGS;
	result = subject_of(client, resource, subject, privs, &object);
	if (result < 0)
		return result;
	context = brk_context_find(client->brk, subject.context);
	for (unsigned priv = 0; priv < VMCI_PRIV_NUM; priv++)
		if (privs & 1u << priv && !brk_right(client->brk, object, context, priv))
			return VMCI_ERROR_NO_ACCESS;
	return VMCI_SUCCESS_ACCESS_GRANTED;
}
