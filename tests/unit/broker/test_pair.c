/* SPDX-License-Identifier: BSD-2-Clause */
/* Queue pairs. VMCI, 7.3 and 7.4. */
#include "rig.h"

#define MIB (1024u * 1024u)

static int32_t create(struct rig *rig, struct brk_client *client, const struct brk_qp *qp, struct thing **ret_pair,
		      struct vmci_handle *ret_handle)
{
	struct thing *pair = rig_thing(rig);
	int32_t result = brk_qp_create(client, qp, NULL, pair, ret_handle, NULL);

	if (result < 0)
		thing_unused(pair);
	else if (ret_pair)
		*ret_pair = pair;
	return result;
}

/* Attach to @handle, whose creator has rings of 8192 and 4096 bytes. What is handed out is ours to drop. */
static int32_t attach(struct brk_client *client, struct vmci_handle handle)
{
	const struct brk_qp qp = { .handle = handle, .peer = ANY, .produce = 4096, .consume = 8192 };
	struct brk_client *device;
	uint32_t creator;
	void *found;
	int32_t result = brk_qp_attach(client, &qp, &found, &creator, NULL, &device);

	if (result >= 0) {
		assert_int_equal(creator, handle.context);
		thing_unused(found);
	}
	return result;
}

static const struct brk_qp usual = { .handle = { ANY, ANY }, .peer = ANY, .produce = 8192, .consume = 4096 };

static void test_memory(void **state)
{
	(void)state;
	assert_int_equal(brk_qp_memory(8192, 4096), 5 * 4096);
	assert_int_equal(brk_qp_memory(1, 0), 3 * 4096);
	assert_int_equal(brk_qp_memory(0, 4097), 4 * 4096);
	assert_int_equal(brk_qp_memory(0, 0), 0);
	assert_int_equal(brk_qp_memory(64 * MIB, 64 * MIB), 128 * MIB + 2 * 4096);
	assert_int_equal(brk_qp_memory(64 * MIB, 64 * MIB + 1), 0);
	assert_int_equal(brk_qp_memory(UINT64_MAX, 1), 0);
	assert_int_equal(brk_qp_memory(UINT64_MAX, UINT64_MAX), 0);
}

static void test_life(void **state)
{
	struct rig *rig = *state;
	struct brk_client *a = rig_join(rig, 5, 2), *b = rig_join(rig, 6, 100);
	struct thing *to_a = rig_events(rig, a), *to_b = rig_events(rig, b), *pair;
	struct vmci_handle h;
	struct event event;

	assert_int_equal(create(rig, a, &usual, &pair, &h), VMCI_SUCCESS_QUEUEPAIR_CREATE);
	assert_int_equal(h.context, 2);
	assert_true(h.resource >= 1024);
	assert_int_equal(brk_qp_detach(b, h), VMCI_ERROR_QUEUEPAIR_NOTATTACHED);
	assert_int_equal(attach(b, h), VMCI_SUCCESS_QUEUEPAIR_ATTACH);
	/* VMCI, 7.4, 7: the creator is told who came. */
	event = rig_event(to_a, 0);
	assert_int_equal(event.id, VMCI_EVENT_QP_PEER_ATTACH);
	assert_int_equal(event.context, 100);
	assert_true(handle_is_equal(event.handle, h));
	assert_int_equal(to_b->n, 0);
	assert_int_equal(brk_qp_detach(a, h), 0);
	event = rig_event(to_b, 0);
	assert_int_equal(event.id, VMCI_EVENT_QP_PEER_DETACH);
	assert_int_equal(event.context, 2);
	assert_true(handle_is_equal(event.handle, h));
	/* Left: nobody can attach, nor make another one of this handle. */
	assert_int_equal(attach(rig_join(rig, 5, 2), h), VMCI_ERROR_UNAVAILABLE);
	assert_int_equal(brk_qp_detach(a, h), VMCI_ERROR_QUEUEPAIR_NOTATTACHED);
	assert_int_equal(brk_qp_detach(b, h), VMCI_SUCCESS_LAST_DETACH);
	assert_int_equal(brk_qp_detach(b, h), VMCI_ERROR_NOT_FOUND);
	assert_int_equal(to_a->n + to_b->n, 2);
}

static void test_attacher_leaves_first(void **state)
{
	struct rig *rig = *state;
	struct brk_client *a = rig_join(rig, 5, 2), *b = rig_join(rig, 6, 100);
	struct thing *to_a = rig_events(rig, a);
	struct vmci_handle h;

	assert_int_equal(create(rig, a, &usual, NULL, &h), 4);
	assert_int_equal(attach(b, h), 5);
	rig_leave(rig, b);
	assert_int_equal(to_a->n, 2);
	assert_int_equal(rig_event(to_a, 1).id, VMCI_EVENT_QP_PEER_DETACH);
	assert_int_equal(rig_event(to_a, 1).context, 100);
	assert_int_equal(attach(rig_join(rig, 6, 100), h), VMCI_ERROR_UNAVAILABLE);
	assert_int_equal(brk_qp_detach(a, h), 3);
}

static void test_nobody_came(void **state)
{
	struct rig *rig = *state;
	struct brk_client *a = rig_join(rig, 5, 2);
	struct thing *pair = NULL;
	struct vmci_handle h;

	assert_int_equal(create(rig, a, &usual, &pair, &h), 4);
	assert_int_equal(brk_qp_detach(a, h), VMCI_SUCCESS_LAST_DETACH);
	assert_int_equal(pair->dropped, 1);
	assert_int_equal(attach(a, h), VMCI_ERROR_NOT_FOUND);
}

static void test_v74_create_errors_in_order(void **state)
{
	struct rig *rig = *state;
	struct brk_client *a = rig_join(rig, 5, 2), *vm = rig_vm(rig, &(struct brk_vm){ .cid = 40 }, NULL);
	struct vmci_handle taken = rig_endpoint(rig, a, NULL), h;
	struct brk_qp qp = { .handle = { 3, 7 }, .peer = 3, .produce = UINT64_MAX, .consume = 2 };

	rig_vm(rig, &(struct brk_vm){ .cid = 41 }, NULL);
	/* 1: sizes too large, whatever else is wrong. */
	assert_int_equal(create(rig, a, &qp, NULL, &h), VMCI_ERROR_NO_RESOURCES);
	qp.produce = 128 * MIB - 1;
	assert_int_equal(create(rig, a, &qp, NULL, &h), VMCI_ERROR_NO_RESOURCES);
	/* 2: no size, impossible peer. */
	qp.produce = qp.consume = 0;
	assert_int_equal(create(rig, a, &qp, NULL, &h), VMCI_ERROR_INVALID_ARGS);
	qp.produce = 4096;
	assert_int_equal(create(rig, a, &qp, NULL, &h), VMCI_ERROR_INVALID_ARGS);
	/* 4: the handle is neither the creator's nor the peer's. */
	qp.peer = 40;
	assert_int_equal(create(rig, a, &qp, NULL, &h), VMCI_ERROR_NO_ACCESS);
	/* 3: exists. */
	qp.handle = taken;
	assert_int_equal(create(rig, a, &qp, NULL, &h), VMCI_ERROR_ALREADY_EXISTS);
	qp.handle = handle_make(2, 1000);
	assert_int_equal(create(rig, a, &qp, NULL, &h), VMCI_ERROR_NO_ACCESS);
	/* No such peer; for a VM, another one is no peer. */
	qp = usual;
	qp.peer = 77;
	assert_int_equal(create(rig, a, &qp, NULL, &h), VMCI_ERROR_DST_UNREACHABLE);
	qp.peer = 41;
	assert_int_equal(create(rig, vm, &qp, NULL, &h), VMCI_ERROR_DST_UNREACHABLE);
	/* Handles of both kinds; but a guest's are its own, whether it is there or not. */
	qp.peer = 40;
	qp.handle = handle_make(40, 2000);
	assert_int_equal(create(rig, a, &qp, NULL, &h), VMCI_ERROR_NO_ACCESS);
	assert_int_equal(brk_reserve(rig->brk, 50), 0);
	qp.peer = 50;
	qp.handle = handle_make(50, 2000);
	assert_int_equal(create(rig, a, &qp, NULL, &h), VMCI_ERROR_NO_ACCESS);
	brk_unreserve(rig->brk, 50);
	rig_join(rig, 6, 100);
	qp.peer = 100;
	qp.handle = handle_make(100, 2000);
	assert_int_equal(create(rig, a, &qp, NULL, &h), 4);
	assert_handle(h, 100, 2000);
	qp.peer = 2;
	qp.handle = handle_make(2, ANY);
	assert_int_equal(create(rig, vm, &qp, NULL, &h), 4);
	assert_int_equal(h.context, 2);
}

static void test_v74_attach_errors_in_order(void **state)
{
	struct rig *rig = *state;
	struct brk_client *a = rig_join(rig, 5, 2), *b = rig_join(rig, 6, 100), *root = rig_join(rig, 0, 2), *device;
	struct brk_client *vm = rig_vm(rig, &(struct brk_vm){ .cid = 40 }, NULL);
	struct brk_client *other = rig_vm(rig, &(struct brk_vm){ .cid = 41, .restricted = true }, NULL);
	struct brk_qp qp = usual;
	struct vmci_handle h, for_b, of_vm, trusted;
	uint32_t creator;
	void *found;

	assert_int_equal(create(rig, a, &usual, NULL, &h), 4);
	qp.peer = 100;
	assert_int_equal(create(rig, a, &qp, NULL, &for_b), 4);
	qp.peer = 2;
	qp.handle.context = 2;
	assert_int_equal(create(rig, vm, &qp, NULL, &of_vm), 4);
	qp = usual;
	qp.trusted = true;
	assert_int_equal(create(rig, a, &qp, NULL, &trusted), 4);

	qp = (struct brk_qp){ .handle = { ANY, 5 }, .peer = ANY, .produce = 128 * MIB, .consume = 1 };
	assert_int_equal(brk_qp_attach(a, &qp, &found, &creator, NULL, &device), VMCI_ERROR_NO_RESOURCES);
	qp.produce = 0;
	assert_int_equal(brk_qp_attach(a, &qp, &found, &creator, NULL, &device), VMCI_ERROR_INVALID_ARGS);
	assert_int_equal(attach(a, h), VMCI_ERROR_ALREADY_EXISTS);
	assert_int_equal(attach(b, handle_make(2, h.resource + 100)), VMCI_ERROR_NOT_FOUND);
	assert_int_equal(attach(b, handle_make(77, 2000)), VMCI_ERROR_DST_UNREACHABLE);
	assert_int_equal(attach(b, handle_make(0, 2000)), VMCI_ERROR_DST_UNREACHABLE);
	assert_int_equal(attach(b, rig_endpoint(rig, a, NULL)), VMCI_ERROR_NOT_FOUND);
	/* Both VMs, of no common domain. */
	assert_int_equal(attach(other, of_vm), VMCI_ERROR_DST_UNREACHABLE);
	/* Restricted attacher, creator not trusted. */
	assert_int_equal(attach(other, h), VMCI_ERROR_NO_ACCESS);
	/* Named another peer; wants another peer. */
	assert_int_equal(attach(vm, for_b), VMCI_ERROR_NO_ACCESS);
	qp = (struct brk_qp){ .handle = h, .peer = 100, .produce = 4096, .consume = 8192 };
	assert_int_equal(brk_qp_attach(b, &qp, &found, &creator, NULL, &device), VMCI_ERROR_NO_ACCESS);
	/* Trusted peers only, for either. */
	assert_int_equal(attach(b, trusted), VMCI_ERROR_NO_ACCESS);
	qp.peer = ANY;
	qp.trusted = true;
	assert_int_equal(brk_qp_attach(root, &qp, &found, &creator, NULL, &device), VMCI_ERROR_NO_ACCESS);
	/* Sizes, as the attacher sees them. */
	qp = (struct brk_qp){ .handle = h, .peer = ANY, .produce = 8192, .consume = 4096 };
	assert_int_equal(brk_qp_attach(b, &qp, &found, &creator, NULL, &device), VMCI_ERROR_QUEUEPAIR_MISMATCH);
	qp.consume = 8192;
	assert_int_equal(brk_qp_attach(b, &qp, &found, &creator, NULL, &device), VMCI_ERROR_QUEUEPAIR_MISMATCH);
	/* None of this took it. */
	assert_int_equal(attach(b, h), 5);
	assert_int_equal(attach(vm, h), VMCI_ERROR_UNAVAILABLE);
	assert_int_equal(attach(b, for_b), 5);
	assert_int_equal(attach(root, trusted), 5);
}

static void test_a_guests_pair_is_asked_for(void **state)
{
	struct rig *rig = *state;
	struct brk_client *a = rig_join(rig, 5, 2), *root = rig_join(rig, 0, 2), *device = NULL;
	struct thing *sinks[2], *to_a = rig_events(rig, a);
	struct brk_client *vm = rig_vm(rig, &(struct brk_vm){ .cid = 40 }, sinks);
	struct brk_client *stranger = rig_vm(rig, &(struct brk_vm){ .cid = 41 }, NULL);
	struct brk_qp qp = { .handle = { 40, 2000 }, .peer = ANY, .produce = 4096, .consume = 8192 };
	uint32_t creator;
	void *found;

	assert_int_equal(brk_qp_attach(a, &qp, &found, &creator, NULL, &device), BRK_ASK);
	assert_ptr_equal(device, vm);
	assert_int_equal(attach(stranger, qp.handle), VMCI_ERROR_DST_UNREACHABLE);
	assert_int_equal(attach(vm, qp.handle), VMCI_ERROR_NOT_FOUND);
	qp.peer = 41;
	assert_int_equal(brk_qp_attach(a, &qp, &found, &creator, NULL, &device), VMCI_ERROR_NO_ACCESS);
	qp.peer = 40;
	qp.trusted = true;
	assert_int_equal(brk_qp_attach(a, &qp, &found, &creator, NULL, &device), VMCI_ERROR_NO_ACCESS);
	assert_int_equal(brk_qp_attach(root, &qp, &found, &creator, NULL, &device), BRK_ASK);
	qp.trusted = false;
	/* The answer. */
	assert_int_equal(brk_qp_attached(a, stranger, &qp, NULL), VMCI_ERROR_INVALID_ARGS);
	assert_int_equal(brk_qp_attached(a, root, &qp, NULL), VMCI_ERROR_INVALID_ARGS);
	assert_int_equal(brk_qp_attached(a, vm, &qp, NULL), 5);
	assert_int_equal(sinks[1]->n, 0);
	assert_int_equal(brk_qp_attached(root, vm, &qp, NULL), VMCI_ERROR_ALREADY_EXISTS);
	assert_int_equal(attach(root, qp.handle), VMCI_ERROR_UNAVAILABLE);
	/* The program dies: the device is told, and leaves in its turn. */
	rig_leave(rig, a);
	assert_int_equal(sinks[1]->n, 1);
	assert_int_equal(rig_event(sinks[1], 0).id, VMCI_EVENT_QP_PEER_DETACH);
	assert_int_equal(rig_event(sinks[1], 0).context, 2);
	assert_int_equal(brk_qp_detach(vm, qp.handle), 3);
	/* The device dies. */
	assert_int_equal(brk_qp_attached(root, vm, &qp, NULL), 5);
	to_a = rig_events(rig, root);
	rig_leave(rig, vm);
	assert_int_equal(rig_event(to_a, 0).id, VMCI_EVENT_QP_PEER_DETACH);
	assert_int_equal(rig_event(to_a, 0).context, 40);
	assert_int_equal(brk_qp_detach(root, qp.handle), 3);
}

/* A guest's own pages: for trusted ones, and only guests have any. */
static void test_direct(void **state)
{
	struct rig *rig = *state;
	struct brk_client *a = rig_join(rig, 5, 2), *root = rig_join(rig, 0, 2), *soft = rig_join(rig, 0, 100), *device;
	struct brk_client *vm = rig_vm(rig, &(struct brk_vm){ .cid = 40 }, NULL);
	struct brk_qp qp = { .handle = { 40, 2000 }, .peer = ANY, .produce = 4096, .consume = 8192, .direct = true };
	uint32_t creator;
	struct vmci_handle h;
	void *found;

	/* The guest's pair. */
	assert_int_equal(brk_qp_attach(a, &qp, &found, &creator, NULL, &device), VMCI_ERROR_NO_ACCESS);
	assert_int_equal(brk_qp_attach(root, &qp, &found, &creator, NULL, &device), BRK_ASK);
	assert_ptr_equal(device, vm);
	assert_int_equal(brk_qp_attached(root, vm, &qp, NULL), 5);
	/* One's own. */
	qp.handle = handle_make(ANY, ANY);
	assert_int_equal(create(rig, root, &qp, NULL, &h), VMCI_ERROR_INVALID_ARGS);
	qp.peer = 100;
	assert_int_equal(create(rig, root, &qp, NULL, &h), VMCI_ERROR_INVALID_ARGS);
	qp.peer = 41;
	assert_int_equal(create(rig, root, &qp, NULL, &h), VMCI_ERROR_INVALID_ARGS);
	qp.peer = 40;
	assert_int_equal(create(rig, a, &qp, NULL, &h), VMCI_ERROR_NO_ACCESS);
	assert_int_equal(create(rig, vm, &qp, NULL, &h), VMCI_ERROR_NO_ACCESS);
	assert_int_equal(create(rig, root, &qp, NULL, &h), 4);
	/* Between programs it means nothing; but it is not for everybody to say. */
	assert_int_equal(create(rig, root, &usual, NULL, &h), 4);
	qp = (struct brk_qp){ .handle = h, .peer = ANY, .produce = 4096, .consume = 8192, .direct = true };
	assert_int_equal(brk_qp_attach(rig_join(rig, 6, 101), &qp, &found, &creator, NULL, &device), VMCI_ERROR_NO_ACCESS);
	assert_int_equal(brk_qp_attach(soft, &qp, &found, &creator, NULL, &device), 5);
	thing_unused(found);
}

/* Who stays in a pair that the guest has left does not keep others from the guest's next one. */
static void test_a_guests_next_pair(void **state)
{
	struct rig *rig = *state;
	struct brk_client *a = rig_join(rig, 5, 2), *b = rig_join(rig, 6, 2), *device = NULL;
	struct brk_client *vm = rig_vm(rig, &(struct brk_vm){ .cid = 40 }, NULL);
	const struct brk_qp qp = { .handle = { 40, 3000 }, .peer = ANY, .produce = 4096 };
	uint32_t creator;
	void *found;

	assert_int_equal(brk_qp_attached(a, vm, &qp, NULL), 5);
	assert_int_equal(brk_qp_attach(b, &qp, &found, &creator, NULL, &device), VMCI_ERROR_UNAVAILABLE);
	assert_int_equal(brk_qp_detach(vm, qp.handle), 0);
	assert_int_equal(brk_qp_attach(a, &qp, &found, &creator, NULL, &device), VMCI_ERROR_ALREADY_EXISTS);
	assert_int_equal(brk_qp_attached(a, vm, &qp, NULL), VMCI_ERROR_ALREADY_EXISTS);
	assert_int_equal(brk_qp_attach(b, &qp, &found, &creator, NULL, &device), BRK_ASK);
	assert_ptr_equal(device, vm);
	assert_int_equal(brk_qp_attached(b, vm, &qp, NULL), 5);
	assert_int_equal(brk_qp_detach(a, qp.handle), VMCI_ERROR_QUEUEPAIR_NOTATTACHED);
	assert_int_equal(brk_qp_detach(b, qp.handle), 0);
	assert_int_equal(brk_qp_detach(vm, qp.handle), 3);
}

static void test_v76_quota_of_bytes(void **state)
{
	struct rig *rig = *state;
	struct brk_client *a = rig_join(rig, 5, 2), *b = rig_join(rig, 5, 2), *c = rig_join(rig, 6, 100), *device;
	struct brk_qp large = { .handle = { ANY, ANY }, .peer = ANY, .produce = 64 * MIB, .consume = 60 * MIB };
	struct brk_qp small = { .handle = { ANY, ANY }, .peer = ANY, .produce = 4 * MIB };
	struct brk_qp one = { .handle = { ANY, ANY }, .peer = ANY, .produce = 1 }, other;
	struct thing *thing = rig_thing(rig);
	struct vmci_handle h, h2, h3;
	uint32_t creator;
	void *found;

	assert_int_equal(create(rig, a, &large, NULL, &h), 4);
	assert_int_equal(create(rig, b, &small, NULL, &h2), 4);
	assert_int_equal(create(rig, a, &one, NULL, &h3), VMCI_ERROR_NO_RESOURCES);
	/* Both ends in one account count once. */
	other = (struct brk_qp){ .handle = h, .peer = ANY, .produce = large.consume, .consume = large.produce };
	assert_int_equal(brk_qp_attach(b, &other, &found, &creator, NULL, &device), 5);
	thing_unused(found);
	/* The creator's share goes when both have left. */
	assert_int_equal(brk_qp_detach(a, h), 0);
	assert_int_equal(create(rig, a, &one, NULL, &h3), VMCI_ERROR_NO_RESOURCES);
	assert_int_equal(brk_qp_detach(b, h), 3);
	assert_int_equal(create(rig, a, &large, NULL, &h), 4);
	/* The attacher's own account counts, too. */
	one.produce = 5 * MIB;
	assert_int_equal(create(rig, c, &one, NULL, &h3), 4);
	other.handle = h;
	assert_int_equal(brk_qp_attach(c, &other, &found, &creator, NULL, &device), VMCI_ERROR_NO_RESOURCES);
	assert_int_equal(brk_qp_detach(c, h3), 3);
	assert_int_equal(brk_qp_attach(c, &other, &found, &creator, NULL, &device), 5);
	thing_unused(found);
	assert_int_equal(create(rig, c, &one, NULL, &h3), VMCI_ERROR_NO_RESOURCES);
	/* And what the creator leaves behind is the attacher's alone. */
	assert_int_equal(brk_qp_detach(a, h), 0);
	assert_int_equal(create(rig, a, &large, NULL, &h2), 4);
	assert_int_equal(create(rig, c, &one, NULL, &h3), VMCI_ERROR_NO_RESOURCES);
	assert_int_equal(brk_qp_detach(c, h), 3);
	assert_int_equal(create(rig, c, &one, NULL, &h3), 4);
	thing_unused(thing);
}

static void test_v76_quota_of_pairs(void **state)
{
	struct rig *rig = *state;
	struct brk_client *a = rig_join(rig, 5, 2), *b = rig_join(rig, 6, 100);
	struct thing *to_b = rig_events(rig, b);
	struct vmci_handle h, first;

	assert_int_equal(create(rig, a, &(struct brk_qp){ .handle = { ANY, ANY }, .peer = ANY, .produce = 8192,
							  .consume = 4096 }, NULL, &first), 4);
	assert_int_equal(attach(b, first), 5);
	for (unsigned i = 1; i < LIMIT_QUEUE_PAIRS; i++) {
		const struct brk_qp qp = { .handle = { ANY, ANY }, .peer = ANY, .produce = 1 };

		assert_int_equal(create(rig, a, &qp, NULL, &h), 4);
	}
	assert_int_equal(create(rig, a, &usual, NULL, &h), VMCI_ERROR_NO_RESOURCES);
	/* Death with thousands of them. */
	rig_leave(rig, a);
	assert_int_equal(to_b->n, 1);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_memory),
		cmocka_unit_test_setup_teardown(test_life, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_attacher_leaves_first, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_nobody_came, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_v74_create_errors_in_order, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_v74_attach_errors_in_order, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_a_guests_pair_is_asked_for, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_direct, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_a_guests_next_pair, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_v76_quota_of_bytes, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_v76_quota_of_pairs, rig_setup, rig_teardown),
	};

	return cmocka_run_group_tests_name("broker queue pairs", tests, NULL, NULL);
}
