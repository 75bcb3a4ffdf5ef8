/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Windows: memory that VMs of a domain see as a BAR of their devices, and in which regions lie.
 *
 * DOC: Theory of operation
 *
 * A window is known by its memory, and belongs to a *key*: a domain, or a VM that has none. Who may use the key gets
 * the memory: it is for whoever is in that trust group, whole. Regions have places in it, pages that no other region
 * has.
 *
 * After a restart nobody knows of windows but those who have them. A region comes back with its token, which is about
 * the place, too, so nobody can come back to a place that he has not had; of two that overlap the newer one is right,
 * as with handles (token.c). A window comes back with the first of its regions or with who shows it. Whose it is says
 * a token about the key; a device without one is believed in the time of grace, but not against a token. Without a key,
 * the window stays for those who have it already, and nobody new gets it.
 *
 * New places are given out when everybody is back. The search goes on behind the last one that was given or shown, so
 * a place is used again as late as possible, and it is cleared when it becomes free and before it is given out: what
 * was written in between, by somebody who had it before, is gone, too.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "broker/priv.h"

#define VM_PREFIX "vm/"

struct brk_window {
	struct brk_link node;
	unsigned refs;
	char key[BRK_KEY_MAX + 1];
	bool is_proved;
	uint64_t bytes;
	uint64_t next;
	uint8_t id[BRK_ID_SIZE];
	void *memory;
	struct brk_link regions;
};

size_t brk_window_key(char *buf, size_t size, const char *domain, const char *name)
{
	int n = domain && *domain ? snprintf(buf, size, "domain/%s", domain)
				  : snprintf(buf, size, VM_PREFIX "%s", name ? name : "");

	return n < 0 ? 0 : (size_t)n;
}

struct brk_window *brk_window_ref(struct brk_window *window)
{
	if (window)
		window->refs++;
	return window;
}

void brk_window_unref(struct brk *brk, struct brk_window *window)
{
	if (!window || --window->refs)
		return;
	brk_list_del(&window->node);
	brk_drop(brk, window->memory);
	free(window);
}

uint64_t brk_window_bytes(const struct brk_window *window)
{
	return window->bytes;
}

void *brk_window_memory(const struct brk_window *window)
{
	return window->memory;
}

const char *brk_window_owner(const struct brk_window *window)
{
	return window->key;
}

struct brk_window *brk_window_find(const struct brk *brk, const char *key)
{
	for (struct brk_link *link = brk->windows.next; link != &brk->windows; link = link->next) {
		struct brk_window *window = brk_of(link, struct brk_window, node);

		if (*key && !strcmp(window->key, key))
			return window;
	}
	return NULL;
}

struct brk_window *brk_window_with(const struct brk *brk, const uint8_t *id)
{
	for (struct brk_link *link = brk->windows.next; link != &brk->windows; link = link->next) {
		struct brk_window *window = brk_of(link, struct brk_window, node);

		if (!memcmp(window->id, id, BRK_ID_SIZE))
			return window;
	}
	return NULL;
}

static void identify(const struct brk *brk, const void *memory, uint8_t *ret_id)
{
	brk->ports.identify(brk->ports.ctx, memory, ret_id);
}

/* One reference; takes @memory on success. NULL: no memory */
static struct brk_window *new_window(struct brk *brk, const char *key, uint64_t bytes, void *memory)
{
	struct brk_window *window = calloc(1, sizeof(*window));

	if (!window)
		return NULL;
	window->refs = 1;
	window->bytes = bytes;
	window->memory = memory;
	snprintf(window->key, sizeof(window->key), "%s", key);
	identify(brk, memory, window->id);
	brk_link_init(&window->regions);
	brk_list_add(&brk->windows, &window->node);
	return window;
}

int32_t brk_window_new(struct brk *brk, const char *key, uint64_t bytes, void *memory, struct brk_window **ret_window)
{
	struct brk_window *window;

	if (!*key || strlen(key) > BRK_KEY_MAX || bytes < LIMIT_WINDOW_PAGE || bytes % LIMIT_WINDOW_PAGE)
		return VMCI_ERROR_INVALID_ARGS;
	if (brk_window_find(brk, key))
		return VMCI_ERROR_ALREADY_EXISTS;
	window = new_window(brk, key, bytes, memory);
	if (!window)
		return VMCI_ERROR_NO_MEM;
	window->is_proved = true;
	*ret_window = window;
	return VMCI_SUCCESS;
}

struct brk_window *brk_window_learn(struct brk *brk, void *memory)
{
	uint8_t id[BRK_ID_SIZE];
	struct brk_window *window;

	identify(brk, memory, id);
	window = brk_window_with(brk, id);
	if (!window)
		return new_window(brk, "", 0, memory);
	brk_drop(brk, memory);
	return brk_window_ref(window);
}

/* --- Places ----------------------------------------------------------------------------------------------------- */

static uint64_t place_bytes(const struct brk_region *region)
{
	return brk_place_bytes(region->resource.bytes);
}

static struct brk_region *region_at(struct brk_link *link)
{
	return brk_of(link, struct brk_region, in_window);
}

/* Does the window belong to several contexts, of which none is to have all of it? */
static bool is_shared(const struct brk_window *window)
{
	return strncmp(window->key, VM_PREFIX, sizeof(VM_PREFIX) - 1) != 0;
}

bool brk_window_has_room(const struct brk_window *window, const struct brk_account *account, uint64_t bytes)
{
	uint64_t most = is_shared(window) ? window->bytes / 2 : window->bytes;

	return account->window_bytes <= most && brk_place_bytes(bytes) <= most - account->window_bytes;
}

/* A gap of @bytes at or behind @from that ends before @to. */
static bool find_gap(const struct brk_window *window, uint64_t from, uint64_t to, uint64_t bytes, uint64_t *ret_offset)
{
	const struct brk_link *link;
	uint64_t at = from;

	for (link = window->regions.next; link != &window->regions; link = link->next) {
		const struct brk_region *region = brk_of(link, const struct brk_region, in_window);

		if (region->offset + place_bytes(region) <= at)
			continue;
		if (region->offset >= at && region->offset - at >= bytes)
			break;
		at = region->offset + place_bytes(region);
	}
	if (at > to || bytes > to - at)
		return false;
	*ret_offset = at;
	return true;
}

bool brk_window_allot(const struct brk_window *window, uint64_t bytes, uint64_t *ret_offset)
{
	bytes = brk_place_bytes(bytes);
	return find_gap(window, window->next, window->bytes, bytes, ret_offset) ||
	       find_gap(window, 0, window->bytes, bytes, ret_offset);
}

struct brk_region *brk_window_clash(const struct brk_window *window, uint64_t offset, uint64_t bytes)
{
	uint64_t end = offset + brk_place_bytes(bytes);

	for (struct brk_link *link = window->regions.next; link != &window->regions; link = link->next) {
		struct brk_region *region = region_at(link);

		if (region->offset < end && offset < region->offset + place_bytes(region))
			return region;
	}
	return NULL;
}

void brk_window_place(struct brk_window *window, struct brk_region *region)
{
	struct brk_link *link = window->regions.next;

	while (link != &window->regions && region_at(link)->offset < region->offset)
		link = link->next;
	/* In front of it. */
	brk_list_add(link, &region->in_window);
	region->window = brk_window_ref(window);
	region->resource.account->window_bytes += place_bytes(region);
	if (window->next < region->offset + place_bytes(region))
		window->next = region->offset + place_bytes(region);
}

void brk_window_given(struct brk_window *window, const struct brk_region *region)
{
	window->next = region->offset + place_bytes(region);
	if (window->next >= window->bytes)
		window->next = 0;
}

void brk_window_move(struct brk_region *region, struct brk_account *account)
{
	if (!region->window)
		return;
	region->resource.account->window_bytes -= place_bytes(region);
	account->window_bytes += place_bytes(region);
}

bool brk_window_clear(struct brk *brk, const struct brk_window *window, uint64_t offset, uint64_t bytes)
{
	return brk->ports.clear(brk->ports.ctx, window->memory, offset, brk_place_bytes(bytes));
}

void brk_window_unplace(struct brk *brk, struct brk_region *region)
{
	struct brk_window *window = region->window;

	if (!window)
		return;
	region->window = NULL;
	brk_list_del(&region->in_window);
	region->resource.account->window_bytes -= place_bytes(region);
	/* Should that fail, it is tried again before the place is given out. */
	(void)brk_window_clear(brk, window, region->offset, region->resource.bytes);
	brk_window_unref(brk, window);
}

/* --- Whose it is ------------------------------------------------------------------------------------------------- */

/* @window is @key's, as far as nobody else has the better right. */
static void give_key(struct brk *brk, struct brk_window *window, const char *key, bool is_proved)
{
	struct brk_window *other = brk_window_find(brk, key);

	if (other == window) {
		window->is_proved |= is_proved;
		return;
	}
	if (*window->key || (other && (other->is_proved || !is_proved)))
		return;
	if (other)
		other->key[0] = '\0';
	snprintf(window->key, sizeof(window->key), "%s", key);
	window->is_proved = is_proved;
}

int32_t brk_window_show(struct brk_client *client, const char *key, uint64_t bytes, const uint8_t *resume, void *memory,
			uint8_t *ret_token)
{
	struct brk *brk = client->brk;
	char own[BRK_KEY_MAX + 1];
	uint8_t id[BRK_ID_SIZE];
	struct brk_window *window;
	bool is_proved;

	if (!client->context || bytes < LIMIT_WINDOW_PAGE || bytes % LIMIT_WINDOW_PAGE || strlen(key) > BRK_KEY_MAX)
		return VMCI_ERROR_INVALID_ARGS;
	/* A device has the window of its VM, whatever it says. */
	if (client->creds.device) {
		brk_window_key(own, sizeof(own), client->context->domain, client->context->name);
		key = own;
	}
	identify(brk, memory, id);
	is_proved = resume && brk_token_is_window(client, id, key, resume);
	if (!client->creds.device && !is_proved) {
		brk_note(client, LOG_LEVEL_INFO, "may not show a window: wrong token");
		return VMCI_ERROR_NO_ACCESS;
	}
	window = brk_window_with(brk, id);
	if (window && window->bytes && window->bytes != bytes)
		return VMCI_ERROR_INVALID_SIZE;
	if (window) {
		brk_window_ref(window);
		brk_drop(brk, memory);
	} else {
		window = new_window(brk, "", bytes, memory);
		if (!window)
			return VMCI_ERROR_NO_MEM;
	}
	window->bytes = bytes;
	if (is_proved || (client->creds.device && !resume && brk->is_grace))
		give_key(brk, window, key, is_proved);
	brk_window_unref(brk, client->window);
	client->window = window;
	if (!strcmp(window->key, key))
		brk_token_make_window(client, window->id, key, ret_token);
	else if (ret_token)
		memset(ret_token, 0, BRK_TOKEN_SIZE);
	return VMCI_SUCCESS;
}

void brk_window_token(const struct brk_client *client, const struct brk_window *window, uint8_t *ret_token)
{
	brk_token_make_window(client, window->id, window->key, ret_token);
}

const uint8_t *brk_window_id(const struct brk_window *window)
{
	return window->id;
}

struct brk_window *brk_client_window(const struct brk_client *client)
{
	return client->window;
}
