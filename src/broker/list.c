/* SPDX-License-Identifier: BSD-2-Clause */
/* What there is, a line for each object, for humans. */
#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "broker/priv.h"

static const char *const types[] = { "datagram", "doorbell", "pair", "region", "group" };
static_assert(sizeof(types) / sizeof(types[0]) == BRK_TYPE_NUM, "a name for each type");

static const char *const presences[] = { "absent", "host", "vm", "software" };
static_assert(sizeof(presences) / sizeof(presences[0]) == BRK_PRESENCE_NUM, "a name for each presence");

/* Is what user @uid has in context @cid @client's business? Devices are all the same user's, but not one another's. */
static bool is_own(const struct brk_client *client, uint32_t uid, uint32_t cid)
{
	if (client->creds.device)
		return client->context->cid == cid;
	return client->creds.uid == uid || brk_client_is_trusted(client);
}

static int context_line(const struct brk_client *client, const struct brk_context *context, char *line, size_t size)
{
	/* Nor would a stranger be there in any other way. */
	if (context->presence == BRK_ABSENT || brk_meet(client, context, true) == VMCI_ERROR_DST_UNREACHABLE)
		return 0;
	return snprintf(line, size, "context %u %s%s%s%s%s%s%s", context->cid, presences[context->presence],
			context->name[0] ? " name " : "", context->name, context->is_restricted ? " restricted" : "",
			context->is_unrestricted ? " unrestricted" : "", context->domain[0] ? " domain " : "",
			context->domain);
}

static int client_line(const struct brk_client *client, const struct brk_client *other, char *line, size_t size)
{
	if (!is_own(client, other->creds.uid, brk_client_cid(other)))
		return 0;
	return snprintf(line, size, "client %d uid %u context %d%s%s%s", (int)other->creds.pid, other->creds.uid,
			(int)brk_client_cid(other), brk_client_is_trusted(other) ? " trusted" : "",
			other->label[0] ? " " : "", other->label);
}

static int resource_line(const struct brk_client *client, struct brk_resource *resource, char *line, size_t size)
{
	const struct brk_region *region;
	const struct brk_pair *pair;
	int n;

	if (!is_own(client, resource->uid, resource->handle.context))
		return 0;
	n = snprintf(line, size, "%s %u:%u uid %u", types[resource->type], resource->handle.context,
		     resource->handle.resource, resource->uid);
	if (resource->owner)
		n += snprintf(line + n, size - (size_t)n, " client %d", (int)resource->owner->creds.pid);
	if (resource->type == BRK_PAIR) {
		pair = brk_of(resource, struct brk_pair, resource);
		n += snprintf(line + n, size - (size_t)n, " %s ends %d %d bytes %llu %llu",
			      brk_pair_state_to_string(pair->state), (int)pair->end[0].cid, (int)pair->end[1].cid,
			      (unsigned long long)pair->produce, (unsigned long long)pair->consume);
	} else if (resource->type == BRK_REGION) {
		region = brk_of(resource, struct brk_region, resource);
		n += snprintf(line + n, size - (size_t)n, " bytes %llu attached %u",
			      (unsigned long long)resource->bytes, region->attached.count);
		if (region->window)
			n += snprintf(line + n, size - (size_t)n, " window %s offset %llu",
				      *brk_window_owner(region->window) ? brk_window_owner(region->window) : "?",
				      (unsigned long long)region->offset);
	}
	if (resource->is_closed)
		n += snprintf(line + n, size - (size_t)n, " grants %u", resource->grants.count);
	return n;
}

static int name_line(const struct brk_client *client, const struct brk_name *name, char *line, size_t size)
{
	char text[DISCOVERY_NAME_MAX + 1];

	if (brk_meet(client, name->context, true) == VMCI_ERROR_DST_UNREACHABLE)
		return 0;
	/* The name is no string. */
	memcpy(text, name->text, name->size);
	text[name->size] = '\0';
	brk_copy_text(text, DISCOVERY_NAME_MAX, text);
	return snprintf(line, size, "name %u:%u \"%s\"", name->handle.context, name->handle.resource, text);
}

/* Bytes of the line of @object, without a newline; 0: none for @client. */
static int line_of(const struct brk_client *client, struct brk_object *object, char *line, size_t size)
{
	switch (object->kind) {
	case BRK_KIND_CONTEXT:
		return context_line(client, brk_of(object, struct brk_context, object), line, size);
	case BRK_KIND_CLIENT:
		return client_line(client, brk_of(object, struct brk_client, object), line, size);
	case BRK_KIND_RESOURCE:
		return resource_line(client, brk_of(object, struct brk_resource, object), line, size);
	default:
		return name_line(client, brk_of(object, struct brk_name, object), line, size);
	}
}

int32_t brk_list(struct brk_client *client, uint64_t first, char *buf, size_t size, uint64_t *ret_next)
{
	const struct brk *brk = client->brk;
	char line[LIMIT_BRK_LINE];
	size_t used = 0, looked = 0;
	uint64_t i;

	if (!client->context || size < LIMIT_BRK_LINE || size > INT32_MAX)
		return VMCI_ERROR_INVALID_ARGS;
	for (i = first; i < brk->used && looked < LIMIT_BRK_LIST; i++, looked++) {
		struct brk_object *object = brk->slot[i].object;
		int n = object ? line_of(client, object, line, sizeof(line)) : 0;

		if (!n)
			continue;
		assert(n > 0 && (size_t)n < sizeof(line));
		if ((size_t)n + 1 > size - used)
			break;
		memcpy(buf + used, line, (size_t)n);
		used += (size_t)n;
		buf[used++] = '\n';
	}
	*ret_next = i < brk->used ? i : 0;
	return (int32_t)used;
}
