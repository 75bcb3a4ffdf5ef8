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

/* --- Old tokens ------------------------------------------------------------------------------------------------- */

/*
 * Each of these: user 5 had something under a handle, and gave it up; then it was user 6's; the broker is started anew,
 * and 5 is the first to come back.
 */
static void test_old_endpoints_and_bells(void **state)
{
	struct rig *rig = *state;
	struct brk_client *a = rig_join(rig, 5, 2), *b = rig_join(rig, 6, 2), *c, *device;
	struct thing *sinks[2], *bell;
	token_t old_dg, old_bell, new_dg, new_bell, again;
	struct vmci_handle h, from;
	void *found;

	rig->now = 1000;
	assert_int_equal(brk_dg_create(a, 5000, NULL, rig_thing(rig), &h, old_dg), 0);
	assert_int_equal(brk_dg_destroy(a, h), 0);
	assert_int_equal(brk_bell_create(a, 5001, NULL, rig_thing(rig), &h, old_bell), 0);
	assert_int_equal(brk_bell_destroy(a, h), 0);
	/* The clock stands still, and is set back: stamps grow. */
	rig->now = 3;
	assert_int_equal(brk_dg_create(b, 5000, NULL, rig_thing(rig), &h, new_dg), 0);
	assert_int_equal(brk_bell_create(b, 5001, NULL, rig_thing(rig), &h, new_bell), 0);
	rig_restart(rig);
	a = rig_join(rig, 5, 2);
	b = rig_join(rig, 6, 2);
	c = rig_join(rig, 7, 2);
	sinks[0] = rig_thing(rig);
	assert_int_equal(brk_dg_create(a, 5000, old_dg, sinks[0], &h, NULL), 0);
	assert_int_equal(brk_bell_create(a, 5001, old_bell, rig_thing(rig), &h, NULL), 0);
	assert_int_equal(rig_register(a, "x", h), BRK_LATER);
	sinks[1] = rig_thing(rig);
	assert_int_equal(brk_dg_create(b, 5000, new_dg, sinks[1], &h, again), 0);
	assert_memory_equal(again, new_dg, sizeof(again));
	assert_int_equal(sinks[0]->dropped, 1);
	bell = rig_thing(rig);
	assert_int_equal(brk_bell_create(b, 5001, new_bell, bell, &h, NULL), 0);
	from = rig_endpoint(rig, c, NULL);
	assert_int_equal(rig_send(c, from, handle_make(2, 5000), "for b"), 29);
	assert_int_equal(sinks[0]->n, 0);
	assert_int_equal(sinks[1]->n, 1);
	assert_int_equal(brk_bell_open(c, handle_make(2, 5001), &found, &device), 0);
	assert_ptr_equal(found, bell);
	/* The loser has nothing, and does not get it by trying again. */
	assert_int_equal(brk_dg_destroy(a, handle_make(2, 5000)), VMCI_ERROR_NO_ACCESS);
	assert_int_equal(rig_send(a, handle_make(2, 5000), from, ""), VMCI_ERROR_NO_ACCESS);
	bell = rig_thing(rig);
	assert_int_equal(brk_dg_create(a, 5000, old_dg, bell, &h, NULL), VMCI_ERROR_ALREADY_EXISTS);
	thing_unused(bell);
	/* A stamp that somebody writes into his token is not believed. */
	bell = rig_thing(rig);
	old_dg[6]++;
	assert_int_equal(brk_dg_create(a, 5000, old_dg, bell, &h, NULL), VMCI_ERROR_NO_ACCESS);
	thing_unused(bell);
}

static void test_old_tokens_after_the_time_of_grace(void **state)
{
	struct rig *rig = *state;
	struct brk_client *a = rig_join(rig, 5, 2), *b = rig_join(rig, 6, 2);
	token_t older, newer;
	struct vmci_handle h;
	struct thing *sink;

	assert_int_equal(brk_dg_create(a, 5000, NULL, rig_thing(rig), &h, older), 0);
	assert_int_equal(brk_dg_destroy(a, h), 0);
	assert_int_equal(brk_dg_create(b, 5000, NULL, rig_thing(rig), &h, newer), 0);
	rig_restart(rig);
	brk_grace(rig->brk, false);
	a = rig_join(rig, 5, 2);
	b = rig_join(rig, 6, 2);
	assert_int_equal(brk_dg_create(a, 5000, older, rig_thing(rig), &h, NULL), 0);
	sink = rig_thing(rig);
	assert_int_equal(brk_dg_create(b, 5000, newer, sink, &h, NULL), VMCI_ERROR_ALREADY_EXISTS);
	thing_unused(sink);
}

/* What is made in a broker whose clock is behind is newer than what was shown to it. */
static void test_a_clock_that_was_set_back(void **state)
{
	struct rig *rig = *state;
	struct brk_client *a = rig_join(rig, 5, 2), *b;
	token_t older, newer;
	struct vmci_handle h;

	rig->now = 1000000;
	assert_int_equal(brk_dg_create(a, 5000, NULL, rig_thing(rig), &h, older), 0);
	rig->now = 1;
	rig_restart(rig);
	a = rig_join(rig, 5, 2);
	assert_int_equal(brk_dg_create(a, 5000, older, rig_thing(rig), &h, NULL), 0);
	brk_grace(rig->brk, false);
	assert_int_equal(brk_dg_destroy(a, h), 0);
	b = rig_join(rig, 6, 2);
	assert_int_equal(brk_dg_create(b, 5000, NULL, rig_thing(rig), &h, newer), 0);
	rig_restart(rig);
	a = rig_join(rig, 5, 2);
	b = rig_join(rig, 6, 2);
	assert_int_equal(brk_dg_create(a, 5000, older, rig_thing(rig), &h, NULL), 0);
	assert_int_equal(brk_dg_create(b, 5000, newer, rig_thing(rig), &h, NULL), 0);
	assert_int_equal(brk_dg_destroy(a, h), VMCI_ERROR_NO_ACCESS);
}

/* One has an old pair, another's region is there now; and the other way round. The honest two find each other. */
static void test_old_pairs_and_regions(void **state)
{
	struct rig *rig = *state;
	struct brk_client *a = rig_join(rig, 5, 2), *b = rig_join(rig, 6, 2), *c = rig_connect(rig, 7), *device;
	struct brk_qp of_b = creators, of_c = attachers;
	token_t old_pair, old_region, b_token, c_token, b_region, c_region, context;
	struct thing *pair, *memory, *to_c;
	struct vmci_handle h, r;
	uint64_t bytes, offset;
	uint32_t cid;
	void *found;

	assert_int_equal(brk_hello(c, 100, false, NULL, NULL, context), 0);
	assert_int_equal(brk_qp_create(a, &creators, NULL, rig_thing(rig), &h, old_pair), 4);
	assert_int_equal(brk_qp_detach(a, h), 3);
	assert_int_equal(brk_shm_create(a, 4000, 128, 0, NULL, rig_memory(rig, 1), &r, old_region), 0);
	assert_int_equal(brk_shm_detach(a, r), 3);
	assert_int_equal(brk_qp_create(b, &creators, NULL, rig_thing(rig), &h, b_token), 4);
	assert_int_equal(brk_qp_attach(c, &attachers, &found, &cid, c_token, &device), 5);
	thing_unused(found);
	assert_int_equal(brk_shm_create(b, 4000, 128, 0, NULL, rig_memory(rig, 2), &r, b_region), 0);
	assert_int_equal(brk_shm_attach(c, r, &bytes, &offset, &found, c_region), 0);
	of_b.peer = 100;
	of_c.peer = 2;
	for (unsigned first = 0; first < 2; first++) {
		rig_restart(rig);
		a = rig_join(rig, 5, 2);
		b = rig_join(rig, 6, 2);
		c = come_back(rig, 7, 100, context);
		to_c = rig_events(rig, c);
		pair = rig_thing(rig);
		memory = rig_memory(rig, 1);
		if (first)
			assert_int_equal(brk_qp_hold(a, &of_b, old_pair), 0);
		else
			assert_int_equal(brk_qp_create(a, &creators, old_pair, pair, &h, NULL), 4);
		if (first)
			thing_unused(pair);
		assert_int_equal(brk_shm_create(a, 4000, 128, 0, old_region, memory, &r, NULL), 0);
		assert_int_equal(brk_qp_hold(c, &of_c, c_token), 0);
		assert_int_equal(pair->dropped, 1);
		assert_int_equal(brk_shm_hold(c, r, 128, 0, c_region, rig_memory(rig, 2)), 0);
		assert_int_equal(memory->dropped, 1);
		/* What is one's own creation's is not displaced by it. */
		assert_int_equal(brk_qp_hold(b, &of_b, b_token), 0);
		assert_int_equal(brk_shm_create(b, 4000, 128, 0, b_region, rig_memory(rig, 2), &r, NULL), 0);
		assert_int_equal(brk_qp_hold(a, &of_b, old_pair), VMCI_ERROR_UNAVAILABLE);
		assert_int_equal(brk_qp_detach(a, h), VMCI_ERROR_QUEUEPAIR_NOTATTACHED);
		assert_int_equal(brk_shm_detach(a, r), VMCI_ERROR_NOT_FOUND);
		rig_leave(rig, a);
		assert_int_equal(to_c->n, 0);
		assert_int_equal(brk_qp_detach(b, h), 0);
		assert_int_equal(to_c->n, 1);
		assert_int_equal(brk_qp_detach(c, h), 3);
		assert_int_equal(brk_shm_detach(b, r), 0);
		assert_int_equal(brk_shm_detach(c, r), 3);
	}
}

static int32_t resume_name(struct brk_client *client, const uint8_t *resume, uint8_t *ret_token)
{
	const struct discovery_request request = { DISCOVERY_REGISTER, 1, { 2, 2000 }, "name", 4 };
	uint8_t buf[DISCOVERY_PAYLOAD_MAX], answer[DISCOVERY_REPLY_MAX];
	struct discovery_reply reply;
	size_t size = discovery_request_build(buf, &request), n;

	assert_int_equal(brk_name(client, buf, size, resume, answer, &n, ret_token), 0);
	assert_int_equal(discovery_reply_parse(answer, n, &reply), 0);
	return reply.code;
}

static void test_old_names(void **state)
{
	struct rig *rig = *state;
	struct brk_client *a = rig_join(rig, 5, 2), *b = rig_join(rig, 6, 2);
	token_t older, newer;

	assert_int_equal(resume_name(a, NULL, older), 0);
	assert_int_equal(rig_unregister(a, "name"), 0);
	assert_int_equal(resume_name(b, NULL, newer), 0);
	rig_restart(rig);
	a = rig_join(rig, 5, 2);
	b = rig_join(rig, 6, 2);
	assert_int_equal(resume_name(a, older, NULL), 0);
	assert_int_equal(resume_name(b, newer, NULL), 0);
	assert_int_equal(resume_name(a, older, NULL), VMCI_ERROR_ALREADY_EXISTS);
	assert_int_equal(rig_unregister(a, "name"), VMCI_ERROR_NO_ACCESS);
	assert_int_equal(rig_unregister(b, "name"), 0);
}

/* With all that is in them; but what third parties refer to stays for the winner. */
static void test_old_contexts(void **state)
{
	struct rig *rig = *state;
	struct brk_client *a = rig_connect(rig, 5), *b = rig_connect(rig, 6), *c = rig_join(rig, 7, 2), *b2;
	token_t older, newer, second;
	struct vmci_handle h, guarded;
	struct thing *sink, *events;
	token_t guarded_token;

	assert_int_equal(brk_hello(a, 100, false, NULL, NULL, older), 0);
	rig_leave(rig, a);
	assert_int_equal(brk_hello(b, 100, false, NULL, NULL, newer), 0);
	b2 = rig_connect(rig, 6);
	assert_int_equal(brk_hello(b2, 100, false, NULL, NULL, second), 0);
	assert_memory_equal(newer, second, sizeof(newer));
	assert_int_equal(brk_dg_create(c, 5000, NULL, rig_thing(rig), &guarded, guarded_token), 0);
	rig_restart(rig);
	c = rig_join(rig, 7, 2);
	events = rig_events(rig, c);
	assert_int_equal(brk_watch(c, 100, true), 0);
	assert_int_equal(brk_dg_create(c, 5000, guarded_token, rig_thing(rig), &guarded, NULL), 0);
	assert_int_equal(brk_priv_add(c, guarded, handle_make(100, 0), 1u << VMCI_PRIV_DG_SEND, 0), 0);
	a = come_back(rig, 5, 100, older);
	h = rig_endpoint(rig, a, &sink);
	b = come_back(rig, 6, 100, newer);
	b2 = come_back(rig, 6, 100, second);
	assert_int_equal(brk_client_cid(a), ANY);
	assert_int_equal(sink->dropped, 1);
	assert_int_equal(rig_send(a, h, guarded, ""), VMCI_ERROR_INVALID_ARGS);
	assert_int_equal(brk_dg_destroy(a, h), VMCI_ERROR_INVALID_ARGS);
	assert_int_equal(brk_hello(a, 100, false, NULL, older, NULL), VMCI_ERROR_NO_ACCESS);
	assert_int_equal(rig_send(b2, rig_endpoint(rig, b2, NULL), guarded, "granted"), 31);
	assert_int_equal(rig_send(c, guarded, rig_endpoint(rig, b, &sink), ""), 24);
	assert_int_equal(sink->n, 1);
	assert_int_equal(events->n, 0);
	rig_leave(rig, b);
	rig_leave(rig, b2);
	assert_int_equal(events->n, 1);
	/* The loser may begin anew. */
	assert_int_equal(brk_hello(a, 2, false, NULL, NULL, NULL), 0);
}

/* Who has not come back when all should be, has gone. */
static void test_watches(void **state)
{
	struct rig *rig = *state;
	struct brk_client *a, *b, *late;
	struct thing *to_a, *to_b, *to_late;
	token_t token, brief;

	a = rig_connect(rig, 6);
	assert_int_equal(brk_hello(a, 100, false, NULL, NULL, token), 0);
	b = rig_connect(rig, 6);
	assert_int_equal(brk_hello(b, 103, false, NULL, NULL, brief), 0);
	rig_restart(rig);
	a = rig_join(rig, 5, 2);
	to_a = rig_events(rig, a);
	b = rig_join(rig, 5, 2);
	to_b = rig_events(rig, b);
	assert_int_equal(brk_watch_again(a, 2), VMCI_ERROR_INVALID_ARGS);
	for (uint32_t cid = 100; cid < 104; cid++)
		assert_int_equal(brk_watch_again(a, cid), 0);
	assert_int_equal(brk_watch_again(a, 101), VMCI_ERROR_ALREADY_EXISTS);
	/* One that is new, and one that is taken back. */
	assert_int_equal(brk_watch(b, 101, true), 0);
	assert_int_equal(brk_watch_again(b, 102), 0);
	assert_int_equal(brk_watch(b, 102, false), 0);
	come_back(rig, 6, 100, token);
	/* This one comes, and goes again: told once. */
	rig_leave(rig, come_back(rig, 6, 103, brief));
	assert_int_equal(to_a->n, 1);
	assert_int_equal(rig_event(to_a, 0).context, 103);
	brk_grace(rig->brk, false);
	assert_int_equal(to_a->n, 3);
	assert_int_equal(rig_event(to_a, 1).id, VMCI_EVENT_CTX_REMOVED);
	assert_int_equal(rig_event(to_a, 1).context, 101);
	assert_int_equal(rig_event(to_a, 2).context, 102);
	assert_int_equal(to_b->n, 0);
	brk_grace(rig->brk, false);
	assert_int_equal(to_a->n, 3);
	/* Who asks later is told at once; and it goes on being watched. */
	late = rig_join(rig, 5, 2);
	to_late = rig_events(rig, late);
	assert_int_equal(brk_watch_again(late, 101), 0);
	assert_int_equal(to_late->n, 1);
	assert_int_equal(brk_watch_again(late, 100), 0);
	assert_int_equal(to_late->n, 1);
	rig_leave(rig, rig_join(rig, 6, 101));
	assert_int_equal(to_late->n, 2);
	/* Who dies in the time of grace is told nothing. */
	brk_grace(rig->brk, true);
	assert_int_equal(brk_watch_again(late, 105), 0);
	rig_leave(rig, late);
	brk_grace(rig->brk, false);
}

/* A device shows no token, but its context is its own. */
static void test_old_region_of_a_device(void **state)
{
	struct rig *rig = *state;
	struct brk_client *vm = rig_vm(rig, &(struct brk_vm){ .cid = 40 }, NULL), *a = rig_join(rig, 5, 2);
	struct vmci_handle h;
	uint64_t bytes, offset;
	struct thing *memory;
	token_t token;
	void *found;

	assert_int_equal(brk_shm_create(vm, 50, 128, 0, NULL, rig_memory(rig, 1), &h, NULL), 0);
	assert_int_equal(brk_shm_attach(a, h, &bytes, &offset, &found, token), 0);
	rig_restart(rig);
	a = rig_join(rig, 5, 2);
	memory = rig_memory(rig, 1);
	assert_int_equal(brk_shm_hold(a, h, 128, 0, token, memory), 0);
	vm = rig_vm(rig, &(struct brk_vm){ .cid = 40 }, NULL);
	assert_int_equal(brk_shm_create(vm, 50, 128, 0, token, rig_memory(rig, 2), &h, NULL), 0);
	assert_int_equal(memory->dropped, 1);
	assert_int_equal(brk_shm_detach(a, h), VMCI_ERROR_NOT_FOUND);
	/* Whoever attaches to what has no stamp may come back to it, too. */
	assert_int_equal(brk_shm_attach(a, h, &bytes, &offset, &found, token), 0);
	rig_restart(rig);
	a = rig_join(rig, 5, 2);
	vm = rig_vm(rig, &(struct brk_vm){ .cid = 40 }, NULL);
	assert_int_equal(brk_shm_create(vm, 50, 128, 0, token, rig_memory(rig, 2), &h, NULL), 0);
	assert_int_equal(brk_shm_hold(a, h, 128, 0, token, rig_memory(rig, 2)), 0);
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
		cmocka_unit_test_setup_teardown(test_old_endpoints_and_bells, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_old_tokens_after_the_time_of_grace, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_a_clock_that_was_set_back, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_old_pairs_and_regions, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_old_names, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_old_contexts, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_watches, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_old_region_of_a_device, rig_setup, rig_teardown),
	};

	return cmocka_run_group_tests_name("broker resumption", tests, NULL, NULL);
}
