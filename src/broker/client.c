/* SPDX-License-Identifier: BSD-2-Clause */
/* Clients: connections, and what goes with them. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "broker/priv.h"

void brk_copy_text(char *dst, size_t max, const char *text)
{
	size_t n = text ? strnlen(text, max) : 0;

	for (size_t i = 0; i < n; i++)
		dst[i] = text[i] >= ' ' && text[i] <= '~' ? text[i] : '?';
	dst[n] = '\0';
}

int32_t brk_client_new(struct brk *brk, const struct brk_creds *creds, void *owner, struct brk_client **ret_client)
{
	struct brk_user *user = brk_user_get(brk, creds->uid, !creds->device);
	struct brk_client *client;

	if (!user)
		return VMCI_ERROR_NO_MEM;
	if (user->clients >= brk->limits.clients) {
		brk_user_put(brk, user);
		return VMCI_ERROR_NO_RESOURCES;
	}
	client = calloc(1, sizeof(*client));
	if (!client || brk_object_add(brk, &client->object, BRK_KIND_CLIENT) < 0) {
		free(client);
		brk_user_put(brk, user);
		return VMCI_ERROR_NO_MEM;
	}
	client->brk = brk;
	client->creds = *creds;
	client->owner = owner;
	client->user = user;
	client->notes = LIMIT_BRK_NOTES;
	client->notes_period = brk->notes_period;
	brk_link_init(&client->in_context);
	brk_link_init(&client->resources);
	brk_link_init(&client->ends);
	brk_link_init(&client->names);
	brk_side_init(&client->watches);
	brk_side_init(&client->regions);
	user->clients++;
	*ret_client = client;
	return VMCI_SUCCESS;
}

/* Nothing here depends on how much other clients have, but for the peers that are told. */
static void release(struct brk_client *client)
{
	struct brk *brk = client->brk;

	while (!brk_list_is_empty(&client->names))
		brk_name_free(brk, brk_of(client->names.next, struct brk_name, in_client));
	while (!brk_list_is_empty(&client->resources))
		brk_resource_free(brk, brk_of(client->resources.next, struct brk_resource, owned));
	while (!brk_list_is_empty(&client->ends))
		brk_end_leave(brk, brk_of(client->ends.next, struct brk_end, in_client));
	while (client->regions.count)
		brk_region_leave(brk, brk_relation_first(&client->regions, 1));
	while (client->watches.count) {
		struct brk_relation *watch = brk_relation_first(&client->watches, 0);
		struct brk_context *context = brk_of(watch->side[1], struct brk_context, watches);

		brk_relation_free(brk, watch);
		brk_context_put(brk, context);
	}
	brk_drop(brk, client->datagrams);
	brk_drop(brk, client->events);
	client->datagrams = NULL;
	client->events = NULL;
	brk_window_unref(brk, client->window);
	client->window = NULL;
	brk_context_leave(client);
	brk_account_put(brk, client->account);
	client->account = NULL;
}

void brk_client_evict(struct brk_client *client)
{
	brk_note(client, LOG_LEVEL_INFO, "loses its context: it showed an old token");
	release(client);
}

struct brk_client *brk_client_free(struct brk_client *client)
{
	if (!client)
		return NULL;
	if (client->context)
		release(client);
	client->user->clients--;
	brk_user_put(client->brk, client->user);
	brk_object_del(client->brk, &client->object);
	free(client);
	return NULL;
}

void *brk_client_owner(const struct brk_client *client)
{
	return client->owner;
}

uint32_t brk_client_cid(const struct brk_client *client)
{
	return client->context ? client->context->cid : VMCI_INVALID_ID;
}

bool brk_client_is_device(const struct brk_client *client)
{
	return client->creds.device;
}

bool brk_client_is_trusted(const struct brk_client *client)
{
	return client->creds.trusted && !client->creds.device;
}

bool brk_client_is_restricted(const struct brk_client *client)
{
	return client->context && client->context->is_restricted;
}

int32_t brk_events(struct brk_client *client, void *sink)
{
	if (!client->context)
		return VMCI_ERROR_INVALID_ARGS;
	brk_drop(client->brk, client->events);
	client->events = sink;
	return VMCI_SUCCESS;
}

void brk_event(struct brk_client *client, const struct event *event)
{
	const struct brk_ports *ports = &client->brk->ports;
	uint8_t buf[EVENT_MAX_SIZE];
	int32_t result;
	size_t size;

	if (!client->events)
		return;
	size = event_build(buf, client->context->cid, event);
	result = ports->deliver(ports->ctx, client->events, buf, size, true);
	if (result < 0)
		brk_note(client, LOG_LEVEL_WARN, "event %u about %u is lost: error %d", event->id, event->context,
			 result);
}

void brk_note(struct brk_client *client, enum log_level level, const char *fmt, ...)
{
	const struct brk_ports *ports = &client->brk->ports;
	char line[LIMIT_BRK_LINE];
	va_list ap;
	int n;

	if (client->notes_period != client->brk->notes_period) {
		client->notes_period = client->brk->notes_period;
		client->notes = LIMIT_BRK_NOTES;
	}
	if (!client->notes)
		return;
	client->notes--;
	n = snprintf(line, sizeof(line), "cid %d: client %d (uid %u%s%s): ", (int)brk_client_cid(client),
		     (int)client->creds.pid, client->creds.uid, client->label[0] ? ", " : "", client->label);
	va_start(ap, fmt);
	n += vsnprintf(line + n, sizeof(line) - (size_t)n, fmt, ap);
	va_end(ap);
	if (!client->notes && n > 0 && (size_t)n < sizeof(line))
		snprintf(line + n, sizeof(line) - (size_t)n, "; no more lines about this client for now");
	ports->log(ports->ctx, level, line);
}

int32_t brk_denied(struct brk_client *client, const char *what, struct vmci_handle handle, const char *why)
{
	brk_note(client, LOG_LEVEL_INFO, "may not %s %u:%u: %s", what, handle.context, handle.resource, why);
	return VMCI_ERROR_NO_ACCESS;
}
