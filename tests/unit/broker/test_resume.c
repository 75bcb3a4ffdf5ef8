/* SPDX-License-Identifier: BSD-2-Clause */
/* Soft state: a new broker learns from its clients what the old one knew. */
#include "rig.h"

typedef uint8_t token_t[BRK_TOKEN_SIZE];

static struct brk_client *come_back(struct rig *rig, uint32_t uid, uint32_t cid, const uint8_t *token)
{
	struct brk_client *client = rig_connect(rig, uid);

	assert_int_equal(brk_hello(client, cid, false, NULL, token, NULL), 0);
	return client;
}

static void test_contexts(void **state)
{
	struct rig *rig = *state;
	struct brk_client *a = rig_connect(rig, 5), *b;
	uint32_t cid;
	token_t token, wrong;

	assert_int_equal(brk_hello(a, ANY, false, NULL, NULL, token), 0);
	cid = brk_client_cid(a);
	rig_restart(rig);
	b = rig_connect(rig, 6);
	memcpy(wrong, token, sizeof(token));
	wrong[15] ^= 1;
	/* Who wishes waits; who shows a token of another's, or a wrong one, is refused. */
	assert_int_equal(brk_hello(b, cid, false, NULL, NULL, NULL), BRK_LATER);
	assert_int_equal(brk_hello(b, cid, false, NULL, token, NULL), VMCI_ERROR_NO_ACCESS);
	assert_int_equal(brk_hello(b, ANY, false, NULL, token, NULL), VMCI_ERROR_INVALID_ARGS);
	a = rig_connect(rig, 5);
	assert_int_equal(brk_hello(a, cid, false, NULL, wrong, NULL), VMCI_ERROR_NO_ACCESS);
	assert_int_equal(brk_hello(a, cid + 1, false, NULL, token, NULL), VMCI_ERROR_NO_ACCESS);
	assert_int_equal(brk_hello(a, cid, false, NULL, token, wrong), 0);
	assert_memory_equal(token, wrong, sizeof(token));
	assert_int_equal(brk_hello(b, cid, false, NULL, NULL, NULL), VMCI_ERROR_NO_ACCESS);
	assert_int_equal(brk_hello(b, 50, false, NULL, NULL, NULL), BRK_LATER);
	brk_grace(rig->brk, false);
	assert_int_equal(brk_hello(b, 50, false, NULL, NULL, NULL), 0);
}

static void test_endpoints_and_bells(void **state)
{
	struct rig *rig = *state;
	struct brk_client *a = rig_join(rig, 0, 2), *b;
	struct thing *sink = rig_thing(rig), *bell = rig_thing(rig), *other = rig_thing(rig);
	struct vmci_handle dg, h, got;
	struct brk_client *device;
	token_t dg_token, bell_token;
	void *found;

	assert_int_equal(brk_dg_create(a, 1000, NULL, sink, &dg, dg_token), 0);
	assert_int_equal(brk_bell_create(a, ANY, NULL, bell, &h, bell_token), 0);
	rig_restart(rig);
	b = rig_join(rig, 5, 2);
	/* Others wait, whatever they want with it. */
	assert_int_equal(brk_dg_create(b, 2000, NULL, other, &got, NULL), BRK_LATER);
	assert_int_equal(brk_bell_open(b, h, &found, &device), BRK_LATER);
	assert_int_equal(brk_bell_open(b, handle_make(77, 1), &found, &device), BRK_LATER);
	got = rig_endpoint(rig, b, NULL);
	assert_int_equal(rig_send(b, got, dg, ""), BRK_LATER);
	assert_int_equal(rig_send(b, got, handle_make(77, 2000), ""), BRK_LATER);
	assert_int_equal(rig_send(b, got, handle_make(7, 2000), ""), VMCI_ERROR_DST_UNREACHABLE);
	/* Tokens are for one kind, one handle, one user. */
	a = rig_join(rig, 0, 2);
	assert_int_equal(brk_dg_create(b, 1000, dg_token, other, &got, NULL), VMCI_ERROR_NO_ACCESS);
	assert_int_equal(brk_dg_create(a, 1001, dg_token, other, &got, NULL), VMCI_ERROR_NO_ACCESS);
	assert_int_equal(brk_bell_create(a, 1000, dg_token, other, &got, NULL), VMCI_ERROR_NO_ACCESS);
	assert_int_equal(brk_dg_create(a, ANY, dg_token, other, &got, NULL), VMCI_ERROR_INVALID_ARGS);
	thing_unused(other);
	sink = rig_thing(rig);
	assert_int_equal(brk_dg_create(a, 1000, dg_token, sink, &got, NULL), 0);
	assert_true(handle_is_equal(got, dg));
	bell = rig_thing(rig);
	assert_int_equal(brk_bell_create(a, h.resource, bell_token, bell, &got, NULL), 0);
	assert_int_equal(brk_bell_open(b, h, &found, &device), 0);
	assert_ptr_equal(found, bell);
}

/* A guest's CPU waits for its datagrams: they are not held back. */
static void test_devices_are_not_held_back(void **state)
{
	struct rig *rig = *state;
	const struct discovery_request lookup = { DISCOVERY_LOOKUP, 1, { ANY, ANY }, "x", 1 };
	const struct discovery_request add = { DISCOVERY_REGISTER, 1, { 40, 2000 }, "x", 1 };
	struct discovery_reply reply;
	struct thing *sinks[2];
	struct brk_client *vm, *a;
	struct vmci_handle h;
	uint8_t dg[VMCI_DG_HEADER_SIZE + DISCOVERY_PAYLOAD_MAX];
	size_t size;

	rig_restart(rig);
	vm = rig_vm(rig, &(struct brk_vm){ .cid = 40 }, sinks);
	assert_int_equal(rig_send(vm, handle_make(40, 9), handle_make(2, 2000), ""), VMCI_ERROR_INVALID_RESOURCE);
	assert_int_equal(rig_send(vm, handle_make(40, 9), handle_make(77, 2000), ""), VMCI_ERROR_DST_UNREACHABLE);
	size = discovery_request_build(dg + 24, &lookup);
	dg_build(dg, handle_make(1, 1), handle_make(40, 9), size);
	assert_int_equal(brk_dg_send(vm, dg, 24 + size), 24 + size);
	assert_int_equal(discovery_reply_parse(sinks[0]->got[0] + 24, sinks[0]->size[0] - 24, &reply), 0);
	assert_int_equal(reply.code, VMCI_ERROR_NOT_FOUND);
	/* But it cannot take a name that may be somebody else's. */
	size = discovery_request_build(dg + 24, &add);
	dg_build(dg, handle_make(1, 1), handle_make(40, 9), size);
	assert_int_equal(brk_dg_send(vm, dg, 24 + size), 24 + size);
	assert_int_equal(discovery_reply_parse(sinks[0]->got[1] + 24, sinks[0]->size[1] - 24, &reply), 0);
	assert_int_equal(reply.code, VMCI_ERROR_UNAVAILABLE);
	/* Its own handles are its own, without a token. */
	assert_int_equal(brk_bell_create(vm, 2000, NULL, rig_thing(rig), &h, NULL), 0);
	/* Programs are held back. */
	a = rig_join(rig, 5, 2);
	assert_int_equal(rig_lookup(a, "x", NULL), BRK_LATER);
	assert_int_equal(rig_register(a, "x", handle_make(2, 2000)), BRK_LATER);
	brk_grace(rig->brk, false);
	assert_int_equal(rig_lookup(a, "x", NULL), VMCI_ERROR_NOT_FOUND);
}

static void test_names(void **state)
{
	struct rig *rig = *state;
	struct brk_client *a = rig_join(rig, 5, 2), *b = rig_join(rig, 6, 2);
	const struct discovery_request request = { DISCOVERY_REGISTER, 1, { 2, 2000 }, "HOST INFO", 9 };
	uint8_t buf[DISCOVERY_PAYLOAD_MAX], answer[DISCOVERY_REPLY_MAX];
	struct discovery_reply reply;
	size_t size = discovery_request_build(buf, &request), n;
	token_t token;

	assert_int_equal(brk_name(a, buf, size, NULL, answer, &n, token), 0);
	rig_restart(rig);
	b = rig_join(rig, 6, 2);
	assert_int_equal(brk_name(b, buf, size, NULL, answer, &n, NULL), BRK_LATER);
	assert_int_equal(brk_name(b, buf, size, token, answer, &n, NULL), 0);
	assert_int_equal(discovery_reply_parse(answer, n, &reply), 0);
	assert_int_equal(reply.code, VMCI_ERROR_NO_ACCESS);
	a = rig_join(rig, 5, 2);
	assert_int_equal(brk_name(a, buf, size, token, answer, &n, token), 0);
	assert_int_equal(discovery_reply_parse(answer, n, &reply), 0);
	assert_int_equal(reply.code, 0);
	assert_int_equal(rig_lookup(b, "HOST INFO", NULL), 0);
}

static const struct brk_qp creators = { .handle = { 2, 3000 }, .peer = ANY, .produce = 8192, .consume = 4096 };
static const struct brk_qp attachers = { .handle = { 2, 3000 }, .peer = ANY, .produce = 4096, .consume = 8192 };

/* A pair of user 5 in context 2, attached by user 6 in context 100. */
static void make_pair(struct rig *rig, token_t ret_creator, token_t ret_attacher)
{
	struct brk_client *a = rig_join(rig, 5, 2), *b = rig_join(rig, 6, 100), *device;
	struct vmci_handle h;
	uint32_t cid;
	void *found;

	assert_int_equal(brk_qp_create(a, &creators, NULL, rig_thing(rig), &h, ret_creator), 4);
	assert_int_equal(brk_qp_attach(b, &attachers, &found, &cid, ret_attacher, &device), 5);
	thing_unused(found);
}

static void test_pair_held_by_both(void **state)
{
	struct rig *rig = *state;
	struct brk_qp of_a = creators, of_b = attachers;
	struct brk_client *a, *b, *c;
	token_t a_token, b_token;
	struct thing *to_a, *to_b;

	make_pair(rig, a_token, b_token);
	for (unsigned first = 0; first < 2; first++) {
		rig_restart(rig);
		brk_grace(rig->brk, false);
		a = rig_join(rig, 5, 2);
		b = rig_join(rig, 6, 100);
		c = rig_join(rig, 7, 2);
		to_a = rig_events(rig, a);
		to_b = rig_events(rig, b);
		of_a.peer = 100;
		of_b.peer = 2;
		assert_int_equal(brk_qp_hold(b, &of_b, a_token), VMCI_ERROR_NO_ACCESS);
		assert_int_equal(brk_qp_hold(first ? a : b, first ? &of_a : &of_b, first ? a_token : b_token), 0);
		assert_int_equal(brk_qp_hold(first ? a : b, first ? &of_a : &of_b, first ? a_token : b_token),
				 VMCI_ERROR_ALREADY_EXISTS);
		/* Nobody else can take the missing end. */
		assert_int_equal(brk_qp_hold(c, &of_a, b_token), VMCI_ERROR_NO_ACCESS);
		assert_int_equal(brk_qp_hold(first ? b : a, first ? &of_b : &of_a, first ? b_token : a_token), 0);
		assert_int_equal(to_a->n + to_b->n, 0);
		assert_int_equal(brk_qp_detach(a, of_a.handle), 0);
		assert_int_equal(to_b->n, 1);
		assert_int_equal(rig_event(to_b, 0).context, 2);
		assert_int_equal(brk_qp_hold(a, &of_a, a_token), VMCI_ERROR_UNAVAILABLE);
		assert_int_equal(brk_qp_detach(b, of_b.handle), 3);
	}
}

static void test_pair_that_is_told_differently(void **state)
{
	struct rig *rig = *state;
	struct brk_qp of_a = creators, of_b = attachers;
	struct brk_client *a, *b;
	token_t a_token, b_token;

	make_pair(rig, a_token, b_token);
	rig_restart(rig);
	a = rig_join(rig, 5, 2);
	b = come_back(rig, 6, ANY, NULL);
	of_a.peer = 100;
	of_b.peer = 2;
	of_a.produce = 0;
	of_a.consume = 0;
	assert_int_equal(brk_qp_hold(a, &of_a, a_token), VMCI_ERROR_INVALID_ARGS);
	of_a.produce = UINT64_MAX;
	of_a.consume = 2;
	assert_int_equal(brk_qp_hold(a, &of_a, a_token), VMCI_ERROR_NO_RESOURCES);
	of_a = creators;
	assert_int_equal(brk_qp_hold(a, &of_a, a_token), VMCI_ERROR_INVALID_ARGS);
	of_a.peer = 100;
	of_a.handle.context = 50;
	assert_int_equal(brk_qp_hold(a, &of_a, a_token), VMCI_ERROR_INVALID_ARGS);
	of_a.handle.context = 2;
	assert_int_equal(brk_qp_hold(a, &of_a, a_token), 0);
	/* From another context than the first end says. */
	assert_int_equal(brk_qp_hold(b, &of_b, b_token), VMCI_ERROR_QUEUEPAIR_MISMATCH);
	rig_leave(rig, b);
	brk_grace(rig->brk, false);
	b = rig_join(rig, 6, 100);
	of_b.produce++;
	assert_int_equal(brk_qp_hold(b, &of_b, b_token), VMCI_ERROR_QUEUEPAIR_MISMATCH);
	of_b.produce--;
	assert_int_equal(brk_qp_hold(b, &of_b, b_token), 0);
}

static void test_pair_whose_other_end_never_comes(void **state)
{
	struct rig *rig = *state;
	struct brk_qp of_a = creators;
	struct brk_client *a, *device;
	token_t a_token, b_token;
	uint32_t cid;
	void *found;

	make_pair(rig, a_token, b_token);
	rig_restart(rig);
	a = rig_join(rig, 5, 2);
	of_a.peer = 100;
	assert_int_equal(brk_qp_hold(a, &of_a, a_token), 0);
	brk_grace(rig->brk, false);
	assert_int_equal(brk_qp_attach(rig_join(rig, 7, 100), &attachers, &found, &cid, NULL, &device),
			 VMCI_ERROR_UNAVAILABLE);
	assert_int_equal(brk_qp_detach(a, of_a.handle), 3);
}

/* Attached, but the creator has not seen that before the restart: it offers the pair again. */
static void test_pair_attached_at_the_last_moment(void **state)
{
	struct rig *rig = *state;
	struct brk_qp of_b = attachers;
	struct brk_client *a, *b;
	token_t a_token, b_token;
	struct thing *pair;
	struct vmci_handle h;

	make_pair(rig, a_token, b_token);
	of_b.peer = 2;
	for (unsigned first = 0; first < 2; first++) {
		rig_restart(rig);
		brk_grace(rig->brk, false);
		a = rig_join(rig, 5, 2);
		b = rig_join(rig, 6, 100);
		pair = rig_thing(rig);
		if (first)
			assert_int_equal(brk_qp_hold(b, &of_b, b_token), 0);
		assert_int_equal(brk_qp_create(a, &creators, a_token, pair, &h, NULL), 4);
		if (!first)
			assert_int_equal(brk_qp_hold(b, &of_b, b_token), 0);
		assert_int_equal(pair->dropped, 1);
		assert_int_equal(brk_qp_detach(b, h), 0);
		assert_int_equal(brk_qp_detach(a, h), 3);
	}
	/* Without a restart, nobody gets in like this. */
	pair = rig_thing(rig);
	assert_int_equal(brk_qp_create(a, &creators, NULL, pair, &h, NULL), 4);
	assert_int_equal(brk_qp_hold(b, &of_b, b_token), VMCI_ERROR_UNAVAILABLE);
	assert_int_equal(pair->dropped, 0);
}

static void test_unattached_pair(void **state)
{
	struct rig *rig = *state;
	struct brk_client *a = rig_join(rig, 5, 2), *b, *device;
	struct brk_qp for_100 = creators;
	struct vmci_handle h;
	uint32_t cid;
	void *found;
	token_t token;

	rig_join(rig, 6, 100);
	for_100.peer = 100;
	assert_int_equal(brk_qp_create(a, &for_100, NULL, rig_thing(rig), &h, token), 4);
	rig_restart(rig);
	a = rig_join(rig, 5, 2);
	b = rig_join(rig, 6, 2);
	assert_int_equal(brk_qp_attach(b, &attachers, &found, &cid, NULL, &device), BRK_LATER);
	/* The peer is not back yet: no reason to refuse. */
	assert_int_equal(brk_qp_create(a, &for_100, token, rig_thing(rig), &h, NULL), 4);
	assert_handle(h, 2, 3000);
	brk_grace(rig->brk, false);
	assert_int_equal(brk_qp_attach(b, &attachers, &found, &cid, NULL, &device), VMCI_ERROR_NO_ACCESS);
	assert_int_equal(brk_qp_attach(rig_join(rig, 6, 100), &attachers, &found, &cid, NULL, &device), 5);
	thing_unused(found);
}

static void test_region(void **state)
{
	struct rig *rig = *state;
	struct brk_client *a = rig_join(rig, 5, 2), *b = rig_join(rig, 6, 2), *c;
	struct vmci_handle h, got;
	uint64_t bytes, offset;
	token_t a_token, b_token;
	struct thing *other;
	void *found;

	assert_int_equal(brk_shm_create(a, 3000, 128, 64, NULL, rig_memory(rig, 1), &h, a_token), 0);
	assert_int_equal(brk_shm_attach(b, h, &bytes, &offset, &found, b_token), 0);
	rig_restart(rig);
	b = rig_join(rig, 6, 2);
	c = rig_join(rig, 7, 2);
	assert_int_equal(brk_shm_query(c, h, &bytes), BRK_LATER);
	other = rig_memory(rig, 1);
	assert_int_equal(brk_shm_hold(b, h, 128, 64, a_token, other), VMCI_ERROR_NO_ACCESS);
	assert_int_equal(brk_shm_hold(b, h, 0, 64, b_token, other), VMCI_ERROR_INVALID_SIZE);
	assert_int_equal(brk_shm_hold(b, handle_make(2, 1), 128, 64, b_token, other), VMCI_ERROR_INVALID_ARGS);
	assert_int_equal(brk_shm_hold(b, h, 128, 64, b_token, other), 0);
	assert_int_equal(brk_shm_hold(b, h, 128, 64, b_token, other), VMCI_ERROR_ALREADY_EXISTS);
	/* Who may attach is known when the owner is back. */
	assert_int_equal(brk_shm_attach(c, h, &bytes, &offset, &found, NULL), BRK_LATER);
	brk_grace(rig->brk, false);
	assert_int_equal(brk_shm_attach(c, h, &bytes, &offset, &found, NULL), VMCI_ERROR_NO_ACCESS);
	assert_int_equal(brk_shm_attach(rig_join(rig, 6, 2), h, &bytes, &offset, &found, NULL), 0);
	assert_int_equal(brk_shm_attach(rig_join(rig, 0, 2), h, &bytes, &offset, &found, NULL), 0);
	/* It must be the same memory. */
	a = rig_join(rig, 5, 2);
	other = rig_memory(rig, 2);
	assert_int_equal(brk_shm_create(a, 3000, 128, 64, a_token, other, &got, NULL), VMCI_ERROR_NO_ACCESS);
	other->memory = 1;
	assert_int_equal(brk_shm_create(a, 3000, 129, 64, a_token, other, &got, NULL), VMCI_ERROR_QUEUEPAIR_MISMATCH);
	assert_int_equal(brk_shm_create(a, 3000, 128, 64, a_token, other, &got, NULL), 0);
	assert_int_equal(other->dropped, 1);
	assert_true(handle_is_equal(got, h));
	assert_int_equal(brk_shm_attach(c, h, &bytes, &offset, &found, NULL), 0);
	other = rig_memory(rig, 1);
	assert_int_equal(brk_shm_create(a, 3000, 128, 64, a_token, other, &got, NULL), VMCI_ERROR_ALREADY_EXISTS);
	thing_unused(other);
	/* The owner's account has it now. */
	assert_int_equal(brk_priv_add(a, h, handle_make(77, 0), 1u << VMCI_PRIV_SM_ATTACH, 0), 0);
}

static void test_region_owner_first(void **state)
{
	struct rig *rig = *state;
	struct brk_client *a = rig_join(rig, 5, 2), *b = rig_join(rig, 6, 2);
	struct vmci_handle h, got;
	uint64_t bytes, offset;
	token_t a_token, b_token;
	struct thing *late;
	void *found;

	assert_int_equal(brk_shm_create(a, 3000, 128, 64, NULL, rig_memory(rig, 1), &h, a_token), 0);
	assert_int_equal(brk_shm_attach(b, h, &bytes, &offset, &found, b_token), 0);
	rig_restart(rig);
	a = rig_join(rig, 5, 2);
	b = rig_join(rig, 6, 2);
	assert_int_equal(brk_shm_create(a, 3000, 128, 64, a_token, rig_memory(rig, 1), &got, NULL), 0);
	late = rig_memory(rig, 2);
	assert_int_equal(brk_shm_hold(b, h, 128, 64, b_token, late), VMCI_ERROR_NO_ACCESS);
	late->memory = 1;
	assert_int_equal(brk_shm_hold(b, h, 128, 0, b_token, late), VMCI_ERROR_QUEUEPAIR_MISMATCH);
	assert_int_equal(brk_shm_hold(b, h, 128, 64, b_token, late), 0);
	assert_int_equal(late->dropped, 1);
	assert_int_equal(brk_shm_detach(a, h), 0);
	assert_int_equal(brk_shm_detach(b, h), 3);
}

static void test_groups(void **state)
{
	struct rig *rig = *state;
	struct brk_client *a = rig_join(rig, 5, 2);
	struct vmci_handle g, got;
	token_t token;

	assert_int_equal(brk_group_create(a, 0, NULL, &g, token), 0);
	rig_restart(rig);
	a = rig_join(rig, 5, 2);
	assert_int_equal(brk_group_create(rig_join(rig, 6, 2), g.resource, token, &got, NULL), VMCI_ERROR_NO_ACCESS);
	assert_int_equal(brk_group_create(a, g.resource, token, &got, NULL), 0);
	assert_true(handle_is_equal(got, g));
	/* Its members come back later. */
	assert_int_equal(brk_group_add(a, g, handle_make(0x10000, 0), true), 0);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_contexts, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_endpoints_and_bells, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_devices_are_not_held_back, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_names, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_pair_held_by_both, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_pair_that_is_told_differently, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_pair_whose_other_end_never_comes, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_pair_attached_at_the_last_moment, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_unattached_pair, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_region, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_region_owner_first, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_groups, rig_setup, rig_teardown),
	};

	return cmocka_run_group_tests_name("broker resumption", tests, NULL, NULL);
}
