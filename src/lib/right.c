/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * DOC: Theory of operation
 *
 * The broker keeps rights and groups in memory. What this membership has said of them is kept here, in three
 * tables, and is said again to a new broker: groups, their members, grants.
 *
 * A resource on which something was granted once stays closed to all others, even when everything is revoked. So a
 * grant stays in its table with nothing in it until the resource has gone, and a new broker is made to know that
 * something was granted.
 *
 * The tables change in take() of a lib_call(), under the membership's lock, and by right_forget(). Their own lock
 * guards them.
 */
#include "lib/right.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/lib.h"

/**
 * struct group - one that this membership has made
 */
struct group {
	struct vmci_handle handle;
	uint8_t token[FAB_TOKEN_SIZE];
};

/**
 * struct member - of a group, put there by this membership
 */
struct member {
	struct vmci_handle group;
	struct vmci_handle member;
	bool may_assign;
};

/**
 * struct grant - what this membership has set for a client of a resource; may be nothing
 */
struct grant {
	struct vmci_handle resource;
	struct vmci_handle client;
	uint32_t allow;
	uint32_t deny;
};

struct rights {
	pthread_mutex_t lock;
	struct group *groups;
	struct member *members;
	struct grant *grants;
	size_t n_groups;
	size_t n_members;
	size_t n_grants;
};

/**
 * struct change - a call, and what it changes when the broker has agreed
 */
struct change {
	struct rights *rights;
	struct vmci_handle object;
	struct vmci_handle subject;
	uint32_t allow;
	uint32_t deny;
	bool may_assign;
};

int right_new(struct rights **ret_rights)
{
	struct rights *rights = calloc(1, sizeof(*rights));

	if (!rights)
		return lib_fail(VMCI_ERROR_NO_MEM, "out of memory");
	pthread_mutex_init(&rights->lock, NULL);
	*ret_rights = rights;
	return 0;
}

void right_free(struct rights *rights)
{
	if (!rights)
		return;
	free(rights->groups);
	free(rights->members);
	free(rights->grants);
	free(rights);
}

/* --- Tables ------------------------------------------------------------------------------------------------- */

/**
 * grow() - a table with room for one more
 *
 * Return: it, or NULL: it stays as it is
 */
static void *grow(void *table, size_t n, size_t size)
{
	return realloc(table, (n + 1) * size);
}

/**
 * find_grant() - the grant of @client on @resource; the lock is held
 *
 * Return: it, or NULL
 */
static struct grant *find_grant(struct rights *rights, struct vmci_handle resource, struct vmci_handle client)
{
	for (size_t i = 0; i < rights->n_grants; i++)
		if (handle_is_equal(rights->grants[i].resource, resource) &&
		    handle_is_equal(rights->grants[i].client, client))
			return &rights->grants[i];
	return NULL;
}

/**
 * add_grant() - a grant with nothing in it; the lock is held
 *
 * Return: it, or NULL: out of memory
 */
static struct grant *add_grant(struct rights *rights, struct vmci_handle resource, struct vmci_handle client)
{
	struct grant *grants = grow(rights->grants, rights->n_grants, sizeof(*grants));

	if (!grants)
		return NULL;
	rights->grants = grants;
	grants[rights->n_grants] = (struct grant){ .resource = resource, .client = client };
	return &grants[rights->n_grants++];
}

void right_forget(struct rights *rights, struct vmci_handle handle)
{
	size_t n = 0;

	pthread_mutex_lock(&rights->lock);
	for (size_t i = 0; i < rights->n_groups; i++)
		if (!handle_is_equal(rights->groups[i].handle, handle))
			rights->groups[n++] = rights->groups[i];
	rights->n_groups = n;
	n = 0;
	for (size_t i = 0; i < rights->n_members; i++)
		if (!handle_is_equal(rights->members[i].group, handle))
			rights->members[n++] = rights->members[i];
	rights->n_members = n;
	n = 0;
	for (size_t i = 0; i < rights->n_grants; i++)
		if (!handle_is_equal(rights->grants[i].resource, handle) &&
		    !handle_is_equal(rights->grants[i].client, handle))
			rights->grants[n++] = rights->grants[i];
	rights->n_grants = n;
	pthread_mutex_unlock(&rights->lock);
}

/* --- A new broker ------------------------------------------------------------------------------------------- */

static int say(struct fab_client *client, struct fab_msg *request)
{
	struct fab_msg reply;
	int r = lib_resume_call(client, request, &reply);

	if (!r)
		fab_drop(&reply);
	return r;
}

static int resume_group(struct fab_client *client, const struct group *group)
{
	struct fab_msg request = {
		.type = FAB_GROUP_CREATE,
		.flags = FAB_F_RESUME,
		.handle = { .resource = group->handle.resource },
	};

	memcpy(request.token, group->token, sizeof(request.token));
	return say(client, &request);
}

static int resume_member(struct fab_client *client, const struct member *member)
{
	struct fab_msg request = {
		.type = FAB_GROUP_MEMBER,
		.flags = FAB_F_ADD | (member->may_assign ? FAB_F_ASSIGN : 0),
		.handle = member->group,
		.other = member->member,
	};

	return say(client, &request);
}

static int resume_grant(struct fab_client *client, const struct grant *grant)
{
	struct fab_msg request = {
		.type = FAB_PRIV,
		.flags = FAB_F_ADD,
		.handle = grant->resource,
		.other = grant->client,
		.size0 = grant->allow,
		.size1 = grant->deny,
	};
	int r;

	if (grant->allow | grant->deny)
		return say(client, &request);
	/* Nothing is left of it, but that there was something. */
	request.size1 = 1u << VMCI_PRIV_CH_PRIV;
	r = say(client, &request);
	if (r)
		return r;
	request.flags = FAB_F_REMOVE_ALL;
	request.size1 = 0;
	return say(client, &request);
}

int right_resume(struct rights *rights, struct fab_client *client)
{
	int r = 0;

	/* Who closes an object meanwhile waits in right_forget(). */
	pthread_mutex_lock(&rights->lock);
	for (size_t i = 0; i < rights->n_groups && r != -ECONNRESET; i++)
		r = resume_group(client, &rights->groups[i]);
	for (size_t i = 0; i < rights->n_members && r != -ECONNRESET; i++)
		r = resume_member(client, &rights->members[i]);
	for (size_t i = 0; i < rights->n_grants && r != -ECONNRESET; i++)
		r = resume_grant(client, &rights->grants[i]);
	pthread_mutex_unlock(&rights->lock);
	return r == -ECONNRESET ? r : 0;
}

/* --- Grants ------------------------------------------------------------------------------------------------- */

static int take_granted(struct fab_msg *reply, void *arg)
{
	struct change *change = arg;
	struct rights *rights = change->rights;
	struct grant *grant;

	(void)reply;
	pthread_mutex_lock(&rights->lock);
	grant = find_grant(rights, change->object, change->subject);
	if (!grant)
		grant = add_grant(rights, change->object, change->subject);
	if (grant) {
		grant->allow = (grant->allow | change->allow) & ~change->deny;
		grant->deny = (grant->deny & ~change->allow) | change->deny;
	}
	pthread_mutex_unlock(&rights->lock);
	return grant ? 0 : lib_fail(VMCI_ERROR_NO_MEM, "out of memory: granted, but a new broker will not know");
}

static int take_revoked(struct fab_msg *reply, void *arg)
{
	struct change *change = arg;
	struct rights *rights = change->rights;
	struct grant *grant;

	(void)reply;
	pthread_mutex_lock(&rights->lock);
	grant = find_grant(rights, change->object, change->subject);
	if (grant) {
		grant->allow &= ~change->allow;
		grant->deny &= ~change->allow;
	}
	pthread_mutex_unlock(&rights->lock);
	return 0;
}

int vmci_grant(struct vmci *vmci, struct vmci_handle resource, struct vmci_handle client, uint32_t allow, uint32_t deny)
{
	struct fab_msg request = {
		.type = FAB_PRIV,
		.flags = FAB_F_ADD,
		.handle = resource,
		.other = client,
		.size0 = allow,
		.size1 = deny,
	};
	struct change change = {
		.rights = lib_rights(vmci),
		.object = resource,
		.subject = client,
		.allow = allow,
		.deny = deny,
	};
	int r = lib_call(vmci, &request, true, take_granted, &change);

	return r ? lib_where(r, "vmci_grant: on %u:%u to %u:%u", resource.context, resource.resource, client.context,
			     client.resource) : 0;
}

int vmci_revoke(struct vmci *vmci, struct vmci_handle resource, struct vmci_handle client, uint32_t privileges)
{
	struct fab_msg request = {
		.type = FAB_PRIV,
		.flags = FAB_F_REMOVE,
		.handle = resource,
		.other = client,
		.size0 = privileges,
	};
	struct change change = {
		.rights = lib_rights(vmci),
		.object = resource,
		.subject = client,
		.allow = privileges,
	};
	int r = lib_call(vmci, &request, true, take_revoked, &change);

	return r ? lib_where(r, "vmci_revoke: on %u:%u from %u:%u", resource.context, resource.resource,
			     client.context, client.resource) : 0;
}

int vmci_revoke_all(struct vmci *vmci, struct vmci_handle resource, struct vmci_handle client)
{
	struct fab_msg request = {
		.type = FAB_PRIV,
		.flags = FAB_F_REMOVE_ALL,
		.handle = resource,
		.other = client,
	};
	struct change change = {
		.rights = lib_rights(vmci),
		.object = resource,
		.subject = client,
		.allow = UINT32_MAX,
	};
	int r = lib_call(vmci, &request, true, take_revoked, &change);

	return r ? lib_where(r, "vmci_revoke_all: on %u:%u from %u:%u", resource.context, resource.resource,
			     client.context, client.resource) : 0;
}

int vmci_check(struct vmci *vmci, struct vmci_handle resource, struct vmci_handle client, uint32_t privilege)
{
	struct fab_msg request = {
		.type = FAB_PRIV,
		.flags = FAB_F_CHECK,
		.handle = resource,
		.other = client,
	};
	int r = lib_usable(vmci);

	if (!r && privilege >= VMCI_PRIV_NUM)
		r = lib_fail(VMCI_ERROR_INVALID_PRIV, "there is no privilege %u", privilege);
	if (!r) {
		request.size0 = 1u << privilege;
		r = lib_call(vmci, &request, true, NULL, NULL);
	}
	return r < 0 ? lib_where(r, "vmci_check: privilege %u on %u:%u of %u:%u", privilege, resource.context,
				 resource.resource, client.context, client.resource)
		     : VMCI_SUCCESS_ACCESS_GRANTED;
}

/* --- Groups ------------------------------------------------------------------------------------------------- */

static int take_group(struct fab_msg *reply, void *arg)
{
	struct change *change = arg;
	struct rights *rights = change->rights;
	struct group *groups;

	change->object = reply->handle;
	pthread_mutex_lock(&rights->lock);
	groups = grow(rights->groups, rights->n_groups, sizeof(*groups));
	if (groups) {
		rights->groups = groups;
		groups[rights->n_groups].handle = reply->handle;
		memcpy(groups[rights->n_groups].token, reply->token, sizeof(groups->token));
		rights->n_groups++;
	}
	pthread_mutex_unlock(&rights->lock);
	return groups ? 0 : lib_fail(VMCI_ERROR_NO_MEM, "out of memory");
}

int vmci_group_create(struct vmci *vmci, struct vmci_handle *ret_group)
{
	struct fab_msg request = { .type = FAB_GROUP_CREATE };
	struct change change = { .rights = lib_rights(vmci) };
	int r = lib_call(vmci, &request, true, take_group, &change);

	if (r)
		return lib_where(r, "vmci_group_create");
	*ret_group = change.object;
	return 0;
}

int vmci_group_destroy(struct vmci *vmci, struct vmci_handle group)
{
	struct fab_msg request = { .type = FAB_GROUP_DESTROY, .handle = group };
	int r = lib_call(vmci, &request, true, NULL, NULL);

	if (r)
		return lib_where(r, "vmci_group_destroy: %u:%u", group.context, group.resource);
	lib_forget(vmci, group);
	return 0;
}

static int take_member(struct fab_msg *reply, void *arg)
{
	struct change *change = arg;
	struct rights *rights = change->rights;
	struct member *members;

	(void)reply;
	pthread_mutex_lock(&rights->lock);
	members = grow(rights->members, rights->n_members, sizeof(*members));
	if (members) {
		rights->members = members;
		members[rights->n_members++] = (struct member){
			.group = change->object,
			.member = change->subject,
			.may_assign = change->may_assign,
		};
	}
	pthread_mutex_unlock(&rights->lock);
	return members ? 0 : lib_fail(VMCI_ERROR_NO_MEM, "out of memory: added, but a new broker will not know");
}

static int take_no_member(struct fab_msg *reply, void *arg)
{
	struct change *change = arg;
	struct rights *rights = change->rights;

	(void)reply;
	pthread_mutex_lock(&rights->lock);
	for (size_t i = 0; i < rights->n_members; i++)
		if (handle_is_equal(rights->members[i].group, change->object) &&
		    handle_is_equal(rights->members[i].member, change->subject)) {
			rights->n_members--;
			/* Their order is the order of joining, which decides (SDK reference, 5.3). */
			memmove(&rights->members[i], &rights->members[i + 1],
				(rights->n_members - i) * sizeof(*rights->members));
			break;
		}
	pthread_mutex_unlock(&rights->lock);
	return 0;
}

int vmci_group_add(struct vmci *vmci, struct vmci_handle group, struct vmci_handle member, int may_assign)
{
	struct fab_msg request = {
		.type = FAB_GROUP_MEMBER,
		.flags = FAB_F_ADD | (may_assign ? FAB_F_ASSIGN : 0),
		.handle = group,
		.other = member,
	};
	struct change change = {
		.rights = lib_rights(vmci),
		.object = group,
		.subject = member,
		.may_assign = may_assign,
	};
	int r = lib_call(vmci, &request, true, take_member, &change);

	return r ? lib_where(r, "vmci_group_add: %u:%u to %u:%u", member.context, member.resource, group.context,
			     group.resource) : 0;
}

int vmci_group_remove(struct vmci *vmci, struct vmci_handle group, struct vmci_handle member)
{
	struct fab_msg request = {
		.type = FAB_GROUP_MEMBER,
		.flags = FAB_F_REMOVE,
		.handle = group,
		.other = member,
	};
	struct change change = { .rights = lib_rights(vmci), .object = group, .subject = member };
	int r = lib_call(vmci, &request, true, take_no_member, &change);

	return r ? lib_where(r, "vmci_group_remove: %u:%u from %u:%u", member.context, member.resource, group.context,
			     group.resource) : 0;
}

int vmci_group_is_member(struct vmci *vmci, struct vmci_handle group, struct vmci_handle member)
{
	struct fab_msg request = {
		.type = FAB_GROUP_MEMBER,
		.flags = FAB_F_CHECK,
		.handle = group,
		.other = member,
	};
	int r = lib_call(vmci, &request, true, NULL, NULL);

	return r < 0 ? lib_where(r, "vmci_group_is_member: %u:%u in %u:%u", member.context, member.resource,
				 group.context, group.resource) : r;
}
