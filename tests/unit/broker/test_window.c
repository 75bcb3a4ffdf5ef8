/* SPDX-License-Identifier: BSD-2-Clause */
/* Windows, and regions in them. SDK, 10.3 */
#include "rig.h"

#include <stdlib.h>

#define PAGE LIMIT_WINDOW_PAGE
#define PAGES 64u
#define WINDOW (PAGES * PAGE)

static const struct brk_vm one = { .name = "one", .cid = 40, .domain = "inner" };
static const struct brk_vm two = { .name = "two", .cid = 41, .domain = "inner" };
static const struct brk_vm other = { .name = "other", .cid = 42, .domain = "outer" };
static const struct brk_vm alone = { .name = "alone", .cid = 43 };

/* vmcid makes it, keeps a reference as long as the VM runs; the device shows it. */
static struct brk_window *make(struct rig *rig, const char *key, unsigned memory)
{
	struct brk_window *window;

	assert_int_equal(brk_window_new(rig->brk, key, WINDOW, rig_window(rig, memory, NULL), &window), 0);
	return window;
}

static int32_t show(struct rig *rig, struct brk_client *client, unsigned memory, const char *key, const uint8_t *resume,
		    uint8_t *ret_token)
{
	struct thing *thing = rig_memory(rig, memory);
	int32_t result = brk_window_show(client, key, WINDOW, resume, thing, ret_token);

	if (result < 0)
		thing_unused(thing);
	return result;
}

static struct brk_client *start(struct rig *rig, const struct brk_vm *vm, unsigned memory, const uint8_t *resume,
				uint8_t *ret_token)
{
	struct brk_client *client = rig_vm(rig, vm, NULL);

	assert_int_equal(show(rig, client, memory, "", resume, ret_token), 0);
	return client;
}

static int32_t alloc(struct brk_client *client, struct brk_window *window, uint64_t bytes,
		     struct vmci_handle *ret_handle, uint64_t *ret_offset)
{
	return brk_shm_alloc(client, window, ANY, bytes, ret_handle, ret_offset, NULL);
}

static int32_t attach(struct brk_client *client, struct vmci_handle handle, uint64_t *ret_offset)
{
	uint64_t bytes;
	void *memory;

	return brk_shm_attach(client, handle, &bytes, ret_offset, &memory, NULL);
}

static void test_keys(void **state)
{
	char key[BRK_KEY_MAX + 1];

	(void)state;
	assert_int_equal(brk_window_key(key, sizeof(key), "inner", "one"), 12);
	assert_string_equal(key, "domain/inner");
	brk_window_key(key, sizeof(key), "", "one");
	assert_string_equal(key, "vm/one");
	brk_window_key(key, sizeof(key), NULL, "one");
	assert_string_equal(key, "vm/one");
}

static void test_a_window_lasts_as_long_as_somebody_has_it(void **state)
{
	struct rig *rig = *state;
	struct thing *memory = rig_memory(rig, 7);
	struct brk_client *vm, *host = rig_join(rig, 5, 2);
	struct brk_window *window, *again;
	struct vmci_handle handle;
	uint64_t offset;

	assert_int_equal(brk_window_new(rig->brk, "domain/inner", WINDOW, memory, &window), 0);
	assert_ptr_equal(brk_window_find(rig->brk, "domain/inner"), window);
	assert_null(brk_window_find(rig->brk, "domain/outer"));
	assert_null(brk_window_find(rig->brk, ""));
	assert_int_equal(brk_window_new(rig->brk, "domain/inner", WINDOW, memory, &again), VMCI_ERROR_ALREADY_EXISTS);
	assert_int_equal(brk_window_new(rig->brk, "x", PAGE - 1, memory, &again), VMCI_ERROR_INVALID_ARGS);
	assert_int_equal(brk_window_new(rig->brk, "", PAGE, memory, &again), VMCI_ERROR_INVALID_ARGS);
	vm = start(rig, &one, 7, NULL, NULL);
	brk_window_unref(rig->brk, window);
	assert_int_equal(memory->dropped, 0);
	assert_int_equal(alloc(vm, NULL, 128, &handle, &offset), 0);
	assert_int_equal(attach(host, handle, &offset), 0);
	rig_leave(rig, vm);
	assert_int_equal(memory->dropped, 0);
	assert_int_equal(brk_shm_detach(host, handle), VMCI_SUCCESS_LAST_DETACH);
	assert_int_equal(memory->dropped, 1);
	assert_null(brk_window_find(rig->brk, "domain/inner"));
}

static void test_who_has_no_window_has_no_regions_in_it(void **state)
{
	struct rig *rig = *state;
	struct brk_client *vm = rig_vm(rig, &one, NULL), *host = rig_join(rig, 5, 2);
	struct vmci_handle handle;
	uint64_t offset;

	assert_int_equal(alloc(vm, NULL, 128, &handle, &offset), VMCI_ERROR_UNAVAILABLE);
	assert_int_equal(alloc(host, NULL, 128, &handle, &offset), VMCI_ERROR_UNAVAILABLE);
	assert_int_equal(alloc(rig_connect(rig, 5), NULL, 128, &handle, &offset), VMCI_ERROR_INVALID_ARGS);
}

static void test_sizes_and_places(void **state)
{
	struct rig *rig = *state;
	struct brk_window *window = make(rig, "vm/alone", 7);
	struct brk_client *vm = start(rig, &alone, 7, NULL, NULL);
	struct vmci_handle h[PAGES], more;
	uint64_t offset, bytes;

	assert_int_equal(alloc(vm, NULL, 0, &more, &offset), VMCI_ERROR_INVALID_SIZE);
	assert_int_equal(alloc(vm, NULL, WINDOW + 1, &more, &offset), VMCI_ERROR_INVALID_SIZE);
	assert_int_equal(alloc(vm, NULL, UINT64_MAX, &more, &offset), VMCI_ERROR_INVALID_SIZE);
	for (unsigned i = 0; i < PAGES; i++) {
		assert_int_equal(alloc(vm, NULL, i ? PAGE : 1, &h[i], &offset), 0);
		assert_int_equal(offset, i * PAGE);
	}
	assert_int_equal(brk_shm_query(vm, h[0], &bytes), 0);
	assert_int_equal(bytes, 1);
	assert_int_equal(alloc(vm, NULL, 1, &more, &offset), VMCI_ERROR_NO_RESOURCES);
	/* A gap is used whole, when it is large enough. */
	assert_int_equal(brk_shm_detach(vm, h[10]), VMCI_SUCCESS_LAST_DETACH);
	assert_int_equal(brk_shm_detach(vm, h[12]), VMCI_SUCCESS_LAST_DETACH);
	assert_int_equal(alloc(vm, NULL, PAGE + 1, &more, &offset), VMCI_ERROR_NO_RESOURCES);
	assert_int_equal(brk_shm_detach(vm, h[11]), VMCI_SUCCESS_LAST_DETACH);
	assert_int_equal(alloc(vm, NULL, 3 * PAGE, &more, &offset), 0);
	assert_int_equal(offset, 10 * PAGE);
	/* And not at once again: the search goes on behind. */
	assert_int_equal(brk_shm_detach(vm, more), VMCI_SUCCESS_LAST_DETACH);
	assert_int_equal(brk_shm_detach(vm, h[40]), VMCI_SUCCESS_LAST_DETACH);
	assert_int_equal(alloc(vm, NULL, PAGE, &more, &offset), 0);
	assert_int_equal(offset, 40 * PAGE);
	brk_window_unref(rig->brk, window);
}

static void test_places_are_cleared(void **state)
{
	struct rig *rig = *state;
	static unsigned page[PAGES];	/* it is cleared at the end, too */
	struct thing *memory = rig_window(rig, 7, page);
	struct brk_window *window;
	struct brk_client *vm;
	struct vmci_handle h;
	uint64_t offset;

	assert_int_equal(brk_window_new(rig->brk, "vm/alone", WINDOW, memory, &window), 0);
	vm = start(rig, &alone, 7, NULL, NULL);
	assert_int_equal(alloc(vm, NULL, 2 * PAGE, &h, &offset), 0);
	page[0] = page[1] = page[2] = 1;
	assert_int_equal(brk_shm_detach(vm, h), VMCI_SUCCESS_LAST_DETACH);
	assert_int_equal(page[0] + page[1], 0);
	assert_int_equal(page[2], 1);
	/* What was written where no region was. */
	assert_int_equal(alloc(vm, NULL, PAGE, &h, &offset), 0);
	assert_int_equal(offset, 2 * PAGE);
	assert_int_equal(page[2], 0);
	memory->uncleared = true;
	assert_int_equal(alloc(vm, NULL, PAGE, &h, &offset), VMCI_ERROR_NO_MEM);
	memory->uncleared = false;
	assert_int_equal(alloc(vm, NULL, PAGE, &h, &offset), 0);
	assert_int_equal(offset, 3 * PAGE);
	brk_window_unref(rig->brk, window);
}

static void test_nobody_gets_more_than_half_of_a_domains_window(void **state)
{
	struct rig *rig = *state;
	struct brk_window *window = make(rig, "domain/inner", 7);
	struct brk_client *a = start(rig, &one, 7, NULL, NULL), *b = start(rig, &two, 7, NULL, NULL);
	struct brk_client *host = rig_join(rig, 5, 2);
	struct vmci_handle h, last;
	uint64_t offset;

	assert_int_equal(alloc(a, NULL, WINDOW / 2 + 1, &h, &offset), VMCI_ERROR_NO_RESOURCES);
	for (unsigned i = 0; i < PAGES / 2; i++)
		assert_int_equal(alloc(a, NULL, 1, &last, &offset), 0);
	assert_int_equal(alloc(a, NULL, 1, &h, &offset), VMCI_ERROR_NO_RESOURCES);
	assert_int_equal(alloc(b, NULL, WINDOW / 2 - PAGE, &h, &offset), 0);
	assert_int_equal(alloc(host, window, 2 * PAGE, &h, &offset), VMCI_ERROR_NO_RESOURCES);
	assert_int_equal(alloc(host, window, PAGE, &h, &offset), 0);
	/* What it left to others counts as long as they have it. */
	assert_int_equal(attach(host, last, &offset), 0);
	assert_int_equal(brk_shm_detach(a, last), 0);
	assert_int_equal(alloc(a, NULL, 1, &h, &offset), VMCI_ERROR_NO_RESOURCES);
	assert_int_equal(brk_shm_detach(host, last), VMCI_SUCCESS_LAST_DETACH);
	assert_int_equal(alloc(a, NULL, 1, &h, &offset), 0);
	brk_window_unref(rig->brk, window);
}

static void test_who_can_attach(void **state)
{
	struct rig *rig = *state;
	struct brk_window *inner = make(rig, "domain/inner", 7), *outer = make(rig, "domain/outer", 8);
	struct brk_client *a = start(rig, &one, 7, NULL, NULL), *b = start(rig, &two, 7, NULL, NULL);
	struct brk_client *c = start(rig, &other, 8, NULL, NULL), *bare = rig_vm(rig, &alone, NULL);
	struct brk_client *host = rig_join(rig, 5, 2);
	struct vmci_handle guests, hosts, private;
	uint64_t offset, at, bytes;

	assert_int_equal(alloc(a, NULL, 128, &guests, &offset), 0);
	assert_int_equal(attach(b, guests, &at), 0);
	assert_int_equal(at, offset);
	assert_int_equal(attach(host, guests, &at), 0);
	assert_int_equal(attach(c, guests, &at), VMCI_ERROR_DST_UNREACHABLE);
	assert_int_equal(attach(bare, guests, &at), VMCI_ERROR_DST_UNREACHABLE);

	assert_int_equal(alloc(host, inner, 128, &hosts, &offset), 0);
	assert_int_equal(attach(a, hosts, &at), 0);
	assert_int_equal(at, offset);
	assert_int_equal(attach(c, hosts, &at), VMCI_ERROR_UNAVAILABLE);
	assert_int_equal(brk_shm_query(c, hosts, &bytes), VMCI_ERROR_UNAVAILABLE);
	assert_int_equal(attach(bare, hosts, &at), VMCI_ERROR_UNAVAILABLE);

	/* Memory that the host's programs have for themselves. */
	assert_int_equal(brk_shm_create(host, ANY, 128, 0, NULL, rig_thing(rig), &private, NULL), 0);
	assert_int_equal(attach(a, private, &at), VMCI_ERROR_UNAVAILABLE);

	/* A grant is asked for, too. */
	assert_int_equal(brk_priv_add(host, hosts, handle_make(one.cid, 0), 1u << VMCI_PRIV_SM_ATTACH, 0), 0);
	assert_int_equal(attach(b, hosts, &at), VMCI_ERROR_NO_ACCESS);
	brk_window_unref(rig->brk, inner);
	brk_window_unref(rig->brk, outer);
}

static void test_firewall(void **state)
{
	struct rig *rig = *state;
	const struct brk_filter_rule rule = { BRK_FILTER_DENY, BRK_FILTER_DATAGRAM, BRK_FILTER_TO_HOST, VMCI_RID_SHM,
					      VMCI_RID_SHM };
	const struct brk_vm vm = { .name = "alone", .cid = 43, .rules = &rule, .n_rules = 1 };
	struct brk_window *window = make(rig, "vm/alone", 7);
	struct brk_client *client = start(rig, &vm, 7, NULL, NULL);
	struct vmci_handle h;
	uint64_t offset;

	assert_int_equal(alloc(client, NULL, 128, &h, &offset), VMCI_ERROR_NO_ACCESS);
	assert_int_equal(alloc(rig_join(rig, 5, 2), window, 128, &h, &offset), 0);
	assert_int_equal(attach(client, h, &offset), VMCI_ERROR_NO_ACCESS);
	brk_window_unref(rig->brk, window);
}

/* Whoever comes back first after a restart, the window is the same, and everything lies where it lay. */
static void test_restart(void **state)
{
	struct rig *rig = *state;

	for (unsigned order = 0; order < 4; order++) {
		uint8_t mine[BRK_TOKEN_SIZE], his[BRK_TOKEN_SIZE], theirs[BRK_TOKEN_SIZE];
		uint8_t at_one[BRK_TOKEN_SIZE], at_host[BRK_TOKEN_SIZE];
		struct brk_window *window = make(rig, "domain/inner", 7);
		struct brk_client *a = start(rig, &one, 7, NULL, mine), *b = NULL, *host = rig_join(rig, 5, 2);
		struct vmci_handle guests, hosts, h;
		uint64_t offset, where[2], bytes;
		void *memory;

		start(rig, &two, 7, NULL, his);
		assert_int_equal(brk_shm_alloc(a, NULL, ANY, 5000, &guests, &where[0], at_one), 0);
		assert_int_equal(brk_shm_alloc(host, window, ANY, 128, &hosts, &where[1], at_host), 0);
		brk_window_token(host, window, theirs);
		assert_int_equal(where[1], 2 * PAGE);
		brk_window_unref(rig->brk, window);
		rig_restart(rig);

		for (unsigned i = 0; i < 3; i++) {
			unsigned who = (order + i) % 3;

			if (order == 3)
				who = 2 - i;
			if (who == 0) {
				a = start(rig, &one, 7, mine, NULL);
				assert_int_equal(brk_shm_create(a, guests.resource, 5000, where[0], at_one,
								rig_memory(rig, 7), &h, NULL), 0);
				assert_int_equal(alloc(a, NULL, 1, &h, &offset), VMCI_ERROR_WOULD_BLOCK);
			} else if (who == 1) {
				b = start(rig, &two, 7, his, NULL);
			} else {
				host = rig_join(rig, 5, 2);
				assert_int_equal(show(rig, host, 7, "domain/inner", theirs, NULL), 0);
				assert_int_equal(brk_shm_create(host, hosts.resource, 128, where[1], at_host,
								rig_memory(rig, 7), &h, NULL), 0);
				assert_int_equal(alloc(host, NULL, 1, &h, &offset), BRK_LATER);
			}
		}
		brk_grace(rig->brk, false);
		window = brk_window_find(rig->brk, "domain/inner");
		assert_non_null(window);
		assert_int_equal(brk_window_bytes(window), WINDOW);
		assert_int_equal(brk_shm_attach(b, guests, &bytes, &offset, &memory, NULL), 0);
		assert_int_equal(bytes, 5000);
		assert_int_equal(offset, where[0]);
		assert_int_equal(attach(b, hosts, &offset), 0);
		assert_int_equal(offset, where[1]);
		assert_int_equal(alloc(a, NULL, 1, &h, &offset), 0);
		assert_int_equal(offset, 3 * PAGE);
		/* For the next round, everybody goes. */
		while (rig->n_clients)
			rig_leave(rig, rig->clients[0]);
		assert_null(brk_window_find(rig->brk, "domain/inner"));
	}
}

/* A region is in the hands of those who are attached only: its window comes back, but is nobody's. */
static void test_a_window_that_only_attachers_know(void **state)
{
	struct rig *rig = *state;
	uint8_t token[BRK_TOKEN_SIZE];
	struct brk_window *window = make(rig, "domain/inner", 7);
	struct brk_client *a = start(rig, &one, 7, NULL, NULL), *host = rig_join(rig, 5, 2);
	uint64_t offset, bytes;
	struct vmci_handle h;
	void *memory;

	assert_int_equal(alloc(a, NULL, 128, &h, &offset), 0);
	assert_int_equal(brk_shm_attach(host, h, &bytes, &offset, &memory, token), 0);
	brk_window_unref(rig->brk, window);
	rig_restart(rig);
	host = rig_join(rig, 5, 2);
	assert_int_equal(brk_shm_hold(host, h, 128, offset, token, rig_memory(rig, 7)), 0);
	brk_grace(rig->brk, false);
	assert_null(brk_window_find(rig->brk, "domain/inner"));
	window = make(rig, "domain/inner", 8);
	a = start(rig, &one, 8, NULL, NULL);
	assert_int_equal(attach(a, h, &offset), VMCI_ERROR_NO_ACCESS);
	assert_int_equal(brk_shm_detach(host, h), VMCI_SUCCESS_LAST_DETACH);
	brk_window_unref(rig->brk, window);
}

/* Who was told of no place cannot claim it, and an old token does not take a place from who has it now. */
static void test_wrong_claims(void **state)
{
	struct rig *rig = *state;
	uint8_t old[BRK_TOKEN_SIZE], new[BRK_TOKEN_SIZE], mine[BRK_TOKEN_SIZE], of_window[BRK_TOKEN_SIZE];
	struct brk_window *window = make(rig, "vm/alone", 7);
	struct brk_client *vm = start(rig, &alone, 7, NULL, mine);
	struct brk_client *bad = rig_join(rig, 5, 2), *good = rig_join(rig, 6, 2);
	struct thing *memory = rig_memory(rig, 7), *else_where = rig_memory(rig, 9);
	struct vmci_handle was, is, h;
	uint64_t offset[2], bytes;

	assert_int_equal(brk_shm_alloc(bad, window, ANY, WINDOW, &was, &offset[0], old), 0);
	brk_window_token(bad, window, of_window);
	assert_int_equal(brk_shm_detach(bad, was), VMCI_SUCCESS_LAST_DETACH);
	assert_int_equal(brk_shm_alloc(good, window, ANY, 3 * PAGE, &is, &offset[1], new), 0);
	brk_window_unref(rig->brk, window);
	rig_restart(rig);

	bad = rig_join(rig, 5, 2);
	/* Another place, another size, other memory, another's token, the window's. */
	assert_int_equal(brk_shm_create(bad, was.resource, WINDOW, PAGE, old, memory, &h, NULL), VMCI_ERROR_NO_ACCESS);
	assert_int_equal(brk_shm_create(bad, was.resource, PAGE, offset[0], old, memory, &h, NULL),
			 VMCI_ERROR_NO_ACCESS);
	assert_int_equal(brk_shm_create(bad, was.resource, WINDOW, offset[0], old, else_where, &h, NULL),
			 VMCI_ERROR_NO_ACCESS);
	assert_int_equal(brk_shm_create(bad, is.resource, 3 * PAGE, offset[1], new, memory, &h, NULL),
			 VMCI_ERROR_NO_ACCESS);
	assert_int_equal(brk_shm_hold(bad, is, 3 * PAGE, offset[1], new, memory), VMCI_ERROR_NO_ACCESS);
	assert_int_equal(brk_shm_create(bad, was.resource, WINDOW, offset[0], of_window, memory, &h, NULL),
			 VMCI_ERROR_NO_ACCESS);
	assert_int_equal(brk_window_show(bad, "domain/inner", WINDOW, of_window, memory, NULL), VMCI_ERROR_NO_ACCESS);
	assert_int_equal(brk_window_show(bad, "vm/alone", WINDOW, of_window, else_where, NULL), VMCI_ERROR_NO_ACCESS);
	assert_int_equal(brk_window_show(bad, "vm/alone", WINDOW, NULL, memory, NULL), VMCI_ERROR_NO_ACCESS);
	assert_int_equal(brk_window_show(bad, "vm/alone", WINDOW + 1, of_window, memory, NULL),
			 VMCI_ERROR_INVALID_ARGS);
	/* First come, but of an older time. */
	assert_int_equal(brk_shm_create(bad, was.resource, WINDOW, offset[0], old, memory, &h, NULL), 0);
	good = rig_join(rig, 6, 2);
	memory = rig_memory(rig, 7);
	assert_int_equal(brk_shm_create(good, is.resource, 3 * PAGE, offset[1], new, memory, &h, NULL), 0);
	assert_int_equal(brk_shm_query(bad, was, &bytes), BRK_LATER);
	memory = rig_memory(rig, 7);
	assert_int_equal(brk_shm_create(bad, was.resource, WINDOW, offset[0], old, memory, &h, NULL),
			 VMCI_ERROR_ALREADY_EXISTS);
	brk_grace(rig->brk, false);
	assert_int_equal(brk_shm_create(bad, was.resource, WINDOW, offset[0], old, memory, &h, NULL),
			 VMCI_ERROR_ALREADY_EXISTS);
	assert_int_equal(brk_shm_query(bad, is, &bytes), 0);
	/* A device, too, must show where it was. */
	vm = start(rig, &alone, 7, mine, NULL);
	assert_int_equal(alloc(vm, NULL, 1, &h, &offset[0]), 0);
	thing_unused(memory);
	thing_unused(else_where);
}

/* After a restart a VM's definition says another domain: its memory does not become that domain's. */
static void test_a_window_does_not_change_its_owner(void **state)
{
	struct rig *rig = *state;
	uint8_t token[BRK_TOKEN_SIZE], none[BRK_TOKEN_SIZE] = { 0 }, now[BRK_TOKEN_SIZE];
	struct brk_vm moved = one;
	struct brk_window *window = make(rig, "domain/inner", 7);
	struct brk_client *a;
	struct vmci_handle h;
	uint64_t offset;

	start(rig, &one, 7, NULL, token);
	brk_window_unref(rig->brk, window);
	rig_restart(rig);
	moved.domain = "outer";
	a = start(rig, &moved, 7, token, now);
	assert_memory_equal(now, none, sizeof(none));
	assert_null(brk_window_find(rig->brk, "domain/outer"));
	assert_null(brk_window_find(rig->brk, "domain/inner"));
	brk_grace(rig->brk, false);
	/* It goes on with what it has. */
	assert_int_equal(alloc(a, NULL, 128, &h, &offset), 0);
	/* The others of its new domain have another one. */
	window = make(rig, "domain/outer", 8);
	assert_int_equal(attach(start(rig, &other, 8, NULL, NULL), h, &offset), VMCI_ERROR_UNAVAILABLE);
	brk_window_unref(rig->brk, window);
}

/* vmcid ended after it had started a device, and before that showed its window: it has no token. */
static void test_a_window_without_a_token(void **state)
{
	struct rig *rig = *state;
	uint8_t token[BRK_TOKEN_SIZE];
	struct brk_window *window = make(rig, "domain/inner", 7);

	start(rig, &one, 7, NULL, token);
	brk_window_unref(rig->brk, window);
	rig_restart(rig);
	start(rig, &two, 9, NULL, NULL);
	assert_non_null(brk_window_find(rig->brk, "domain/inner"));
	/* Who can prove it is believed more. */
	start(rig, &one, 7, token, NULL);
	window = brk_window_find(rig->brk, "domain/inner");
	assert_int_equal(((struct thing *)brk_window_memory(window))->memory, 7);
	/* Later nobody is believed. */
	brk_grace(rig->brk, false);
	start(rig, &alone, 10, NULL, NULL);
	assert_null(brk_window_find(rig->brk, "vm/alone"));
}

/* --- At random ---------------------------------------------------------------------------------------------------- */

#define USERS 4u
#define REGIONS 16u

/* A region as the test knows it; @has: who is attached. */
struct region {
	unsigned number;	/* 0: none */
	struct vmci_handle handle;
	uint64_t bytes;
	uint64_t offset;
	unsigned owner;
	bool has[USERS];
	uint8_t token[USERS][BRK_TOKEN_SIZE];
};

struct world {
	struct rig *rig;
	unsigned page[PAGES];	/* what is in the memory */
	struct brk_client *user[USERS];
	uint8_t shown[USERS][BRK_TOKEN_SIZE];
	struct region region[REGIONS];
	unsigned last;
};

/* Two devices, two programs of two users. */
static void join(struct world *w, unsigned i, bool resumed)
{
	const uint8_t *resume = resumed ? w->shown[i] : NULL;

	w->user[i] = i < 2 ? rig_vm(w->rig, i ? &two : &one, NULL) : rig_join(w->rig, 5 + i, 2);
	if (i < 2 || resumed)
		assert_int_equal(brk_window_show(w->user[i], "domain/inner", WINDOW, resume,
						 rig_window(w->rig, 7, w->page), w->shown[i]), 0);
}

static uint64_t pages_of(const struct region *r)
{
	return (r->bytes + PAGE - 1) / PAGE;
}

static void check_pages(const struct world *w)
{
	for (unsigned i = 0; i < REGIONS; i++)
		for (uint64_t k = 0; w->region[i].number && k < pages_of(&w->region[i]); k++)
			assert_int_equal(w->page[w->region[i].offset / PAGE + k], w->region[i].number);
}

static void make_random(struct world *w, struct region *r, unsigned i)
{
	struct brk_window *window = brk_window_find(w->rig->brk, "domain/inner");
	int32_t result;

	r->bytes = 1 + (uint64_t)rand() % (PAGES / 6 * PAGE);
	result = brk_shm_alloc(w->user[i], window, ANY, r->bytes, &r->handle, &r->offset, r->token[i]);
	if (result == VMCI_ERROR_NO_RESOURCES)
		return;
	assert_int_equal(result, 0);
	if (i >= 2)
		brk_window_token(w->user[i], window, w->shown[i]);
	r->number = ++w->last;
	r->owner = i;
	memset(r->has, 0, sizeof(r->has));
	r->has[i] = true;
	assert_true(r->offset % PAGE == 0 && r->offset + pages_of(r) * PAGE <= WINDOW);
	for (uint64_t k = 0; k < pages_of(r); k++) {
		assert_int_equal(w->page[r->offset / PAGE + k], 0);
		w->page[r->offset / PAGE + k] = r->number;
	}
}

static void use_random(struct world *w, struct region *r, unsigned i)
{
	uint64_t bytes, offset;
	void *memory;
	bool last = true;

	if (!r->has[i]) {
		assert_int_equal(brk_shm_attach(w->user[i], r->handle, &bytes, &offset, &memory, r->token[i]), 0);
		assert_true(bytes == r->bytes && offset == r->offset);
		assert_int_equal(((struct thing *)memory)->memory, 7);
		r->has[i] = true;
		return;
	}
	r->has[i] = false;
	for (unsigned k = 0; k < USERS; k++)
		last &= !r->has[k];
	assert_int_equal(brk_shm_detach(w->user[i], r->handle), last ? VMCI_SUCCESS_LAST_DETACH : 0);
	if (last)
		r->number = 0;
}

/* Everybody comes back, in any order. */
static void restart(struct world *w)
{
	unsigned first = (unsigned)rand() % USERS;

	rig_restart(w->rig);
	for (unsigned n = 0; n < USERS; n++) {
		unsigned i = (first + n) % USERS;
		struct vmci_handle h;

		/* A program that has made no region has no token of a window. */
		join(w, i, i < 2 || (w->shown[i][0] | w->shown[i][15]));
		for (unsigned k = 0; k < REGIONS; k++) {
			struct region *r = &w->region[k];
			struct thing *memory = rig_window(w->rig, 7, w->page);

			if (!r->number || !r->has[i])
				thing_unused(memory);
			else if (r->owner == i)
				assert_int_equal(brk_shm_create(w->user[i], r->handle.resource, r->bytes, r->offset,
								r->token[i], memory, &h, r->token[i]), 0);
			else
				assert_int_equal(brk_shm_hold(w->user[i], r->handle, r->bytes, r->offset,
							      r->token[i], memory), 0);
		}
	}
	/* Those whose owner has left can be found by nobody new. */
	for (unsigned k = 0; k < REGIONS; k++)
		if (w->region[k].number && !w->region[k].has[w->region[k].owner])
			for (unsigned i = 0; i < USERS; i++)
				if (w->region[k].has[i])
					use_random(w, &w->region[k], i);
	brk_grace(w->rig->brk, false);
}

static void test_at_random(void **state)
{
	static struct world world;
	struct world *w = &world;
	struct brk_window *window;

	w->rig = *state;
	srand(4711);
	assert_int_equal(brk_window_new(w->rig->brk, "domain/inner", WINDOW, rig_window(w->rig, 7, w->page), &window),
			 0);
	for (unsigned i = 0; i < USERS; i++)
		join(w, i, false);
	brk_window_unref(w->rig->brk, window);
	for (unsigned step = 0; step < 20000; step++) {
		struct region *r = &w->region[(unsigned)rand() % REGIONS];
		unsigned i = (unsigned)rand() % USERS;

		if (rand() % 1000 == 0)
			restart(w);
		else if (r->number)
			use_random(w, r, i);
		else
			make_random(w, r, i);
		/* Somebody writes where he has no region any more. */
		if (rand() % 50 == 0) {
			unsigned page = (unsigned)rand() % PAGES;
			bool is_free = true;

			for (unsigned k = 0; k < REGIONS; k++)
				is_free &= !w->region[k].number || page < w->region[k].offset / PAGE ||
					   page >= w->region[k].offset / PAGE + pages_of(&w->region[k]);
			if (is_free)
				w->page[page] = 9999999;
		}
		check_pages(w);
	}
	assert_true(w->last > 1000);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)
	static const struct CMUnitTest tests[] = {
		T(test_keys),
		T(test_a_window_lasts_as_long_as_somebody_has_it),
		T(test_who_has_no_window_has_no_regions_in_it),
		T(test_sizes_and_places),
		T(test_places_are_cleared),
		T(test_nobody_gets_more_than_half_of_a_domains_window),
		T(test_who_can_attach),
		T(test_firewall),
		T(test_restart),
		T(test_a_window_that_only_attachers_know),
		T(test_wrong_claims),
		T(test_a_window_does_not_change_its_owner),
		T(test_a_window_without_a_token),
		T(test_at_random),
	};

	return cmocka_run_group_tests_name("broker windows", tests, NULL, NULL);
}
