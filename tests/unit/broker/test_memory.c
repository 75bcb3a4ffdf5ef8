/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Without memory: a scenario with everything in it is played again and again, and each time the next allocation fails.
 * What fails must say so, leave the thing with its giver, and leave nothing behind (rig_teardown()).
 */
#include <stdbool.h>
#include <stdlib.h>

#include "rig.h"

static bool is_counting;
static unsigned until_failure;

void *__real_calloc(size_t n, size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__real_reallocarray(void *p, size_t n, size_t size);
void *__wrap_reallocarray(void *p, size_t n, size_t size);

static bool fails(void)
{
	return is_counting && !until_failure--;
}

void *__wrap_calloc(size_t n, size_t size)
{
	return fails() ? NULL : __real_calloc(n, size);
}

void *__wrap_reallocarray(void *p, size_t n, size_t size)
{
	return fails() ? NULL : __real_reallocarray(p, n, size);
}

static unsigned failures;

/* The result of a call that may have failed for want of memory; @thing: what was given with it. */
static bool done(int32_t result, struct thing *thing)
{
	is_counting = false;
	if (result >= 0)
		return true;
	/* Or because of something that has failed before: it is not there. */
	assert_true(result == VMCI_ERROR_NO_MEM || failures);
	failures += result == VMCI_ERROR_NO_MEM;
	if (thing)
		thing_unused(thing);
	return false;
}

/* Evaluate the call with allocations counted. */
#define CALL(call, thing) (is_counting = true, done(call, thing))

static struct brk_client *join(struct rig *rig, uint32_t uid, uint32_t cid)
{
	const struct brk_creds creds = { .uid = uid, .device = cid == 40 };
	const struct brk_filter_rule rule = { BRK_FILTER_DENY, BRK_FILTER_STREAM, BRK_FILTER_TO_HOST, 1, 1 };
	const struct brk_vm vm = { .cid = cid, .rules = &rule, .n_rules = 1 };
	struct thing *sinks[2];
	struct brk_client *client;
	bool is_in;

	if (!CALL(brk_client_new(rig->brk, &creds, NULL, &client), NULL))
		return NULL;
	rig->clients[rig->n_clients++] = client;
	if (cid == 40) {
		sinks[0] = rig_thing(rig);
		sinks[1] = rig_thing(rig);
		is_in = CALL(brk_hello_device(client, &vm, NULL, sinks[0], sinks[1]), sinks[0]);
		if (!is_in)
			thing_unused(sinks[1]);
	} else {
		is_in = CALL(brk_hello(client, cid, false, NULL, NULL, NULL), NULL);
	}
	return is_in ? client : NULL;
}

/* A window, a region in it, and one that comes back to a window that nobody knows any more. */
static void use_window(struct rig *rig, struct brk_client *vm, struct brk_client *a)
{
	uint8_t token[BRK_TOKEN_SIZE], shown[BRK_TOKEN_SIZE];
	struct brk_window *window = NULL;
	struct vmci_handle h, again;
	struct thing *thing = rig_window(rig, 7, NULL);
	uint64_t offset;
	bool is_made = false;

	if (CALL(brk_window_new(rig->brk, "vm/", 65536, thing, &window), thing)) {
		thing = rig_window(rig, 7, NULL);
		CALL(brk_window_show(vm, "", 65536, NULL, thing, NULL), thing);
		CALL(brk_shm_alloc(vm, NULL, ANY, 1, &h, &offset, NULL), NULL);
		is_made = CALL(brk_shm_alloc(a, window, ANY, 1, &h, &offset, token), NULL);
		brk_window_token(a, window, shown);
		brk_window_unref(rig->brk, window);
	}
	if (!is_made)
		return;
	brk_shm_detach(a, h);
	rig_leave(rig, vm);
	thing = rig_window(rig, 7, NULL);
	CALL(brk_window_show(a, "vm/", 65536, shown, thing, NULL), thing);
	thing = rig_window(rig, 7, NULL);
	CALL(brk_shm_create(a, h.resource, 1, offset, token, thing, &again, NULL), thing);
}

static void use_memory(struct rig *rig, struct brk_client *vm, struct brk_client *a, struct brk_client *b)
{
	struct vmci_handle dg = { 2, 3000 }, shm = { 2, 3001 }, group = { 2, 5 }, pair = { 2, 3002 }, got;
	struct brk_qp qp = { .handle = pair, .peer = ANY, .produce = 1 };
	struct thing *thing = rig_thing(rig);
	struct brk_client *device = NULL;
	uint64_t bytes, offset;
	uint32_t cid;
	void *found;

	CALL(brk_dg_create(a, dg.resource, NULL, thing, &got, NULL), thing);
	thing = rig_thing(rig);
	CALL(brk_bell_create(a, ANY, NULL, thing, &got, NULL), thing);
	thing = rig_thing(rig);
	CALL(brk_shm_create(a, shm.resource, 1, 0, NULL, thing, &got, NULL), thing);
	CALL(brk_shm_attach(b, shm, &bytes, &offset, &found, NULL), NULL);
	thing = rig_thing(rig);
	/* A device needs no token. */
	CALL(brk_shm_hold(vm, handle_make(40, 4000), 1, 0, NULL, thing), thing);
	thing = rig_thing(rig);
	CALL(brk_qp_create(a, &qp, NULL, thing, &got, NULL), thing);
	qp = (struct brk_qp){ .handle = pair, .peer = ANY, .consume = 1 };
	if (CALL(brk_qp_attach(b, &qp, &found, &cid, NULL, &device), NULL))
		thing_unused(found);
	qp.handle = handle_make(40, 2000);
	is_counting = true;
	if (brk_qp_attach(a, &qp, &found, &cid, NULL, &device) == BRK_ASK)
		CALL(brk_qp_attached(a, device, &qp, NULL), NULL);
	is_counting = false;
	CALL(brk_group_create(a, 0, NULL, &group, NULL), NULL);
	CALL(brk_group_add(a, group, handle_make(201, 0), true), NULL);
	CALL(brk_priv_add(a, dg, group, 1u << VMCI_PRIV_DG_SEND, 0), NULL);
	CALL(brk_priv_add(a, dg, handle_make(202, 0), 1u << VMCI_PRIV_DG_SEND, 0), NULL);
	CALL(brk_watch(b, 203, true), NULL);
	CALL(rig_register(a, "name", handle_make(204, 9)), NULL);
	CALL(brk_reserve(rig->brk, 205), NULL);
	for (unsigned i = 0; i < 100; i++) {
		thing = rig_thing(rig);
		CALL(brk_bell_create(b, ANY, NULL, thing, &got, NULL), thing);
	}
	use_window(rig, vm, a);
}

static void test_each_allocation_fails_once(void **state)
{
	static const struct brk_config config;
	static const struct brk_ports none;
	unsigned n = 0;
	void *broker;

	(void)state;
	/* The broker itself. */
	do {
		until_failure = n++;
		is_counting = true;
		broker = NULL;
		if (brk_new(&config, &none, (struct brk **)&broker))
			broker = NULL;
		is_counting = false;
	} while (!broker);
	brk_free(broker);
	assert_true(n > 8);
	/* What is in it. */
	for (n = 0; ; n++) {
		struct brk_client *vm, *a, *b;
		void *rig;

		rig_setup(&rig);
		failures = 0;
		until_failure = n;
		vm = join(rig, 0, 40);
		a = join(rig, 0, 2);
		b = join(rig, 5, 100);
		if (vm && a && b)
			use_memory(rig, vm, a, b);
		rig_teardown(&rig);
		/* Tables that cannot grow do without, so a failure need not be seen: go on until there was none. */
		if (until_failure < UINT32_MAX / 2)
			break;
	}
	assert_true(n > 100);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_each_allocation_fails_once),
	};

	return cmocka_run_group_tests_name("broker without memory", tests, NULL, NULL);
}
