/* SPDX-License-Identifier: BSD-2-Clause */
/* Queue pairs with two ends: attaching, leaving, events. VMCI reference, 6 and 7. */
#include "rig.h"

#include <errno.h>

static const struct vmci_handle mine = { CID, 2000 };
static int owner_a, owner_b;

/* The guest makes the pair that the tests are about: 2 + 1 data pages. */
static void guest_makes(struct rig *rig)
{
	assert_int_equal(call_alloc(rig, mine, 2, 0, 8192, 4096), VMCI_SUCCESS_QUEUEPAIR_CREATE);
}

/* --- Host attaches to what the guest made -------------------------------------------------------- */

static void test_s7_4_host_attaches_with_sizes_swapped(void **state)
{
	struct rig *rig = *state;
	struct event event;

	guest_makes(rig);
	assert_int_equal(dev_qp_attach(rig->dev, mine, 8192, 4096, &owner_a), VMCI_ERROR_QUEUEPAIR_MISMATCH);
	assert_int_equal(dev_qp_attach(rig->dev, mine, 4096, 8192, &owner_a), VMCI_SUCCESS_QUEUEPAIR_ATTACH);
	event = next_event(rig);
	assert_int_equal(event.id, VMCI_EVENT_QP_PEER_ATTACH);
	assert_int_equal(event.context, VMCI_CID_HOST);
	assert_true(handle_is_equal(event.handle, mine));
}

static void test_s7_4_host_attach_refusals(void **state)
{
	struct rig *rig = *state;
	const struct vmci_handle other = { CID, 2001 };

	assert_int_equal(dev_qp_attach(rig->dev, mine, 4096, 8192, &owner_a), VMCI_ERROR_NOT_FOUND);
	guest_makes(rig);
	assert_int_equal(dev_qp_attach(rig->dev, mine, 4096, 8192, &owner_a), VMCI_SUCCESS_QUEUEPAIR_ATTACH);
	assert_int_equal(dev_qp_attach(rig->dev, mine, 4096, 8192, &owner_b), VMCI_ERROR_UNAVAILABLE);
	dev_qp_detach(rig->dev, mine);
	assert_int_equal(dev_qp_attach(rig->dev, mine, 4096, 8192, &owner_b), VMCI_ERROR_UNAVAILABLE);

	/* Made for the hypervisor, not for the host. */
	assert_int_equal(call_alloc(rig, other, 0, 0, 4096, 4096), VMCI_SUCCESS_QUEUEPAIR_CREATE);
	assert_int_equal(dev_qp_attach(rig->dev, other, 4096, 4096, &owner_a), VMCI_ERROR_NO_ACCESS);
}

static void test_s7_3_host_may_attach_to_a_pair_for_anybody(void **state)
{
	assert_int_equal(call_alloc(*state, mine, VMCI_INVALID_ID, 0, 4096, 4096),
			 VMCI_SUCCESS_QUEUEPAIR_CREATE);
	assert_int_equal(dev_qp_attach(((struct rig *)*state)->dev, mine, 4096, 4096, &owner_a),
			 VMCI_SUCCESS_QUEUEPAIR_ATTACH);
}

static void test_s7_1_views_of_both_ends_match(void **state)
{
	struct rig *rig = *state;
	uint8_t *produce = rig->ram + PAGES_PPN * PAGE, *consume = produce + 3 * PAGE;
	uint64_t n;
	struct qp qp;

	guest_makes(rig);
	assert_int_equal(dev_qp_map(rig->dev, mine, &qp), VMCI_ERROR_NOT_FOUND);
	assert_int_equal(dev_qp_attach(rig->dev, mine, 4096, 8192, &owner_a), VMCI_SUCCESS_QUEUEPAIR_ATTACH);
	assert_int_equal(dev_qp_map(rig->dev, mine, &qp), VMCI_SUCCESS);
	assert_int_equal(qp.produce_size, 4096);
	assert_int_equal(qp.consume_size, 8192);
	assert_int_equal(qp_ready(&qp, &n), 0);
	assert_int_equal(n, 0);
	assert_int_equal(qp_free(&qp, &n), 0);
	assert_int_equal(n, 4095);
	put_le64(produce + 8, 100);		/* the guest writes 100 bytes */
	assert_int_equal(qp_ready(&qp, &n), 0);
	assert_int_equal(n, 100);
	assert_int_equal(qp_produce(&qp, 7), 0);
	assert_int_equal(get_le64(consume + 8), 7);
}

/* --- Guest attaches to what the host made ----------------------------------------------------------- */

static struct vmci_handle host_makes(struct rig *rig, uint64_t produce, uint64_t consume)
{
	struct vmci_handle handle;

	assert_int_equal(dev_qp_create(rig->dev, produce, consume, &owner_a, &handle),
			 VMCI_SUCCESS_QUEUEPAIR_CREATE);
	return handle;
}

static void test_s7_3_host_made_pair(void **state)
{
	struct rig *rig = *state;
	struct vmci_handle handle = host_makes(rig, 4096, 8192);
	struct qp qp;

	assert_int_equal(handle.context, 2);
	assert_true(handle.resource >= VMCI_RID_FIRST_DYNAMIC);
	assert_int_equal(dev_qp_map(rig->dev, handle, &qp), VMCI_ERROR_QUEUEPAIR_NOT_READY);
	assert_int_equal(call_alloc(rig, handle, 2, VMCI_QP_ATTACH_ONLY, 8192, 4096),
			 VMCI_SUCCESS_QUEUEPAIR_ATTACH);
	assert_int_equal(rig->attached, 1);
	assert_ptr_equal(rig->owner, &owner_a);
	assert_int_equal(rig->dev->inbox.count, 0);	/* the host made it: no event for the guest */
	assert_true(handle_is_equal(handle_get(rig->ram + PAGES_PPN * PAGE), handle));
	assert_int_equal(dev_qp_map(rig->dev, handle, &qp), VMCI_SUCCESS);
	assert_int_equal(qp.produce_size, 4096);
	assert_int_equal(qp.consume_size, 8192);
}

static void test_s7_3_guest_may_attach_without_attach_only(void **state)
{
	struct rig *rig = *state;
	struct vmci_handle handle = host_makes(rig, 4096, 4096);

	assert_int_equal(call_alloc(rig, handle, 2, VMCI_QP_NONBLOCK, 4096, 4096),
			 VMCI_SUCCESS_QUEUEPAIR_ATTACH);
}

static void test_s7_4_guest_attach_mismatch(void **state)
{
	struct rig *rig = *state;
	struct vmci_handle handle = host_makes(rig, 4096, 8192);

	assert_int_equal(call_alloc(rig, handle, 2, 1, 4096, 8192), VMCI_ERROR_QUEUEPAIR_MISMATCH);
	assert_int_equal(call_alloc(rig, handle, 2, 1, 8192, 4097), VMCI_ERROR_QUEUEPAIR_MISMATCH);
	rig->take_error = -EFAULT;
	assert_int_equal(call_alloc(rig, handle, 2, 1, 8192, 4096), VMCI_ERROR_INVALID_ARGS);
	rig->take_error = 0;
	assert_int_equal(rig->attached, 0);
	assert_int_equal(call_alloc(rig, handle, 2, 1, 8192, 4096), VMCI_SUCCESS_QUEUEPAIR_ATTACH);
	assert_int_equal(call_alloc(rig, handle, 2, 1, 8192, 4096), VMCI_ERROR_ALREADY_EXISTS);
}

static void test_s7_3_host_does_not_attach_to_its_own(void **state)
{
	struct rig *rig = *state;
	struct vmci_handle handle = host_makes(rig, 4096, 8192);

	assert_int_equal(dev_qp_attach(rig->dev, handle, 4096, 8192, &owner_b), VMCI_ERROR_UNAVAILABLE);
}

static void test_host_leaves_before_the_guest_attaches(void **state)
{
	struct rig *rig = *state;
	struct vmci_handle handle = host_makes(rig, 4096, 8192);

	dev_qp_detach(rig->dev, handle);
	assert_int_equal(rig->dev->pairs.count, 0);
	assert_int_equal(rig->gone, 0);
	assert_int_equal(call_alloc(rig, handle, 2, VMCI_QP_ATTACH_ONLY, 8192, 4096), VMCI_ERROR_NOT_FOUND);
}

static void test_host_made_ids_are_not_used_again_soon(void **state)
{
	struct rig *rig = *state;
	struct vmci_handle first = host_makes(rig, 4096, 4096), handle;

	dev_qp_detach(rig->dev, first);
	for (int i = 0; i < 1000; i++) {
		handle = host_makes(rig, 4096, 4096);
		assert_false(handle_is_equal(handle, first));
		dev_qp_detach(rig->dev, handle);
		if (i % 100 == 0)
			rig_probe(rig);		/* not even by a new driver session */
	}
	/* At the end of the range it wraps past the invalid id and the reserved ones, over what is in use. */
	rig->dev->pairs.next_rid = 0xfffffffe;
	handle = host_makes(rig, 4096, 4096);
	assert_int_equal(handle.resource, 0xfffffffe);
	assert_int_equal(call_alloc(rig, handle_make(2, VMCI_RID_FIRST_DYNAMIC), 2, 0, 1, 1),
			 VMCI_SUCCESS_QUEUEPAIR_CREATE);
	handle = host_makes(rig, 4096, 4096);
	assert_int_equal(handle.resource, VMCI_RID_FIRST_DYNAMIC + 1);
}

static void test_host_create_checks_its_arguments(void **state)
{
	struct rig *rig = *state;
	struct vmci_handle h = { 7, 7 };

	assert_int_equal(dev_qp_create(rig->dev, 0, 0, &owner_a, &h), VMCI_ERROR_INVALID_ARGS);
	assert_int_equal(dev_qp_create(rig->dev, 1, 0, NULL, &h), VMCI_ERROR_INVALID_ARGS);
	assert_int_equal(dev_qp_create(rig->dev, UINT64_MAX, 1, &owner_a, &h), VMCI_ERROR_NO_RESOURCES);
	assert_int_equal(dev_qp_create(rig->dev, LIMIT_QUEUE_MEMORY, 1, &owner_a, &h),
			 VMCI_ERROR_NO_RESOURCES);
	assert_true(handle_is_equal(h, handle_make(7, 7)));
}

/* --- Leaving ----------------------------------------------------------------------------------------- */

static void test_s7_4_detach_of_the_unknown(void **state)
{
	struct rig *rig = *state;
	struct vmci_handle handle = host_makes(rig, 4096, 4096);

	assert_int_equal(call_handle(rig, VMCI_HC_QUEUEPAIR_DETACH, mine), VMCI_ERROR_NOT_FOUND);
	assert_int_equal(call_handle(rig, VMCI_HC_QUEUEPAIR_DETACH, handle), VMCI_ERROR_NOT_FOUND);
	assert_int_equal(rig->dev->pairs.count, 1);
	guest_makes(rig);
	assert_int_equal(call_handle(rig, VMCI_HC_QUEUEPAIR_DETACH, mine), 0);
	assert_int_equal(call_handle(rig, VMCI_HC_QUEUEPAIR_DETACH, mine), VMCI_ERROR_NOT_FOUND);
}

static void test_s7_4_guest_leaves_alone(void **state)
{
	struct rig *rig = *state;

	guest_makes(rig);
	assert_int_equal(call_handle(rig, VMCI_HC_QUEUEPAIR_DETACH, mine), 0);
	assert_int_equal(rig->taken, 0);
	assert_int_equal(rig->gone, 0);
	assert_int_equal(rig->dev->pairs.count, 0);
	guest_makes(rig);
}

static struct qp view_at_gone;
static uint64_t ready_at_gone;

static void read_last_bytes(struct rig *rig, void *owner)
{
	uint64_t n;

	assert_ptr_equal(owner, &owner_a);
	assert_int_equal(qp_ready(&view_at_gone, &ready_at_gone), 0);
	/* All of the host's side may be used here, and changes nothing. */
	assert_int_equal(dev_qp_map(rig->dev, mine, &view_at_gone), VMCI_SUCCESS);
	assert_int_equal(qp_free(&view_at_gone, &n), 0);
	assert_int_equal(dev_qp_attach(rig->dev, mine, 4096, 8192, &owner_b), VMCI_ERROR_UNAVAILABLE);
	dev_qp_detach(rig->dev, mine);
	dev_qp_detach(rig->dev, mine);
}

static void test_s7_4_guest_leaves_first(void **state)
{
	struct rig *rig = *state;

	guest_makes(rig);
	assert_int_equal(dev_qp_attach(rig->dev, mine, 4096, 8192, &owner_a), VMCI_SUCCESS_QUEUEPAIR_ATTACH);
	assert_int_equal(dev_qp_map(rig->dev, mine, &view_at_gone), VMCI_SUCCESS);
	put_le64(rig->ram + PAGES_PPN * PAGE + 8, 1234);
	rig->on_gone = read_last_bytes;
	assert_int_equal(call_handle(rig, VMCI_HC_QUEUEPAIR_DETACH, mine), 0);
	assert_int_equal(rig->gone, 1);
	assert_int_equal(rig->pages_at_gone, 5);	/* still there in the port, not after the call */
	assert_int_equal(rig->taken, 0);
	assert_int_equal(ready_at_gone, 1234);
	assert_int_equal(rig->dev->pairs.count, 0);
	dev_qp_detach(rig->dev, mine);			/* nothing is left to detach */
	assert_int_equal(dev_qp_map(rig->dev, mine, &view_at_gone), VMCI_ERROR_NOT_FOUND);
}

static void test_s7_4_host_leaves_first(void **state)
{
	struct rig *rig = *state;
	struct event event;
	struct qp qp;

	guest_makes(rig);
	assert_int_equal(dev_qp_attach(rig->dev, mine, 4096, 8192, &owner_a), VMCI_SUCCESS_QUEUEPAIR_ATTACH);
	next_event(rig);
	dev_qp_detach(rig->dev, mine);
	event = next_event(rig);
	assert_int_equal(event.id, VMCI_EVENT_QP_PEER_DETACH);
	assert_int_equal(event.context, VMCI_CID_HOST);
	assert_true(handle_is_equal(event.handle, mine));
	assert_int_equal(rig->taken, 1);	/* the guest may still drain its ring */
	assert_int_equal(dev_qp_map(rig->dev, mine, &qp), VMCI_ERROR_NOT_FOUND);
	dev_qp_detach(rig->dev, mine);		/* no second event */
	assert_int_equal(rig->dev->inbox.count, 0);
	assert_int_equal(call_alloc(rig, mine, 2, 0, 8192, 4096), VMCI_ERROR_ALREADY_EXISTS);
	assert_int_equal(call_handle(rig, VMCI_HC_QUEUEPAIR_DETACH, mine), 0);
	assert_int_equal(rig->gone, 0);
	assert_int_equal(rig->taken, 0);
}

static void test_s7_4_both_leave_a_host_made_pair(void **state)
{
	struct rig *rig = *state;
	struct vmci_handle a = host_makes(rig, 4096, 4096), b = host_makes(rig, 4096, 4096);

	assert_int_equal(call_alloc(rig, a, 2, 1, 4096, 4096), VMCI_SUCCESS_QUEUEPAIR_ATTACH);
	assert_int_equal(call_alloc(rig, b, 2, 1, 4096, 4096), VMCI_SUCCESS_QUEUEPAIR_ATTACH);
	assert_int_equal(call_handle(rig, VMCI_HC_QUEUEPAIR_DETACH, a), 0);
	assert_int_equal(rig->gone, 1);
	dev_qp_detach(rig->dev, b);
	assert_int_equal(next_event(rig).id, VMCI_EVENT_QP_PEER_DETACH);
	assert_int_equal(call_handle(rig, VMCI_HC_QUEUEPAIR_DETACH, b), 0);
	assert_int_equal(rig->gone, 1);
	assert_int_equal(rig->dev->pairs.count, 0);
}

static void test_s6_events_have_zero_padding(void **state)
{
	struct rig *rig = *state;
	const uint8_t *p;

	guest_makes(rig);
	assert_int_equal(dev_qp_attach(rig->dev, mine, 4096, 8192, &owner_a), VMCI_SUCCESS_QUEUEPAIR_ATTACH);
	p = receive_dma(rig);
	assert_int_equal(get_le64(p + 16), 24);
	assert_int_equal(get_le32(p + 28), 0);
	assert_int_equal(get_le32(p + 44), 0);
}

/* --- Events that do not fit -------------------------------------------------------------------------- */

#define MANY 1500u

/* Receive until the queue is empty, and call @see for each event on the way. */
static void receive_events(struct rig *rig, void (*see)(const struct event *event))
{
	while (rig->dev->inbox.count) {
		const uint8_t *p = receive_dma(rig), *end = p + AREA_SIZE;

		while (end - p >= VMCI_DG_HEADER_SIZE && get_le32(p + 4) != VMCI_INVALID_ID) {
			size_t size = VMCI_DG_HEADER_SIZE + (size_t)dg_parse(p).payload_size;
			struct event event;

			if (!event_parse(p, size, &event))
				see(&event);
			p += dg_padded(size);
		}
	}
}

static bool told[MANY];
static unsigned told_count;

static void see_detach(const struct event *event)
{
	assert_int_equal(event->id, VMCI_EVENT_QP_PEER_DETACH);
	assert_true(event->handle.resource < MANY);
	assert_false(told[event->handle.resource]);
	told[event->handle.resource] = true;
	told_count++;
}

static void test_s9_2_detach_events_beyond_the_queue_follow_when_there_is_room(void **state)
{
	struct rig *rig = *state;

	memset(told, 0, sizeof(told));
	told_count = 0;
	for (uint32_t i = 0; i < MANY; i++) {
		assert_int_equal(call_alloc(rig, handle_make(CID, i), 2, 0, 1, 1),
				 VMCI_SUCCESS_QUEUEPAIR_CREATE);
		assert_int_equal(dev_qp_attach(rig->dev, handle_make(CID, i), 1, 1, &owner_a),
				 VMCI_SUCCESS_QUEUEPAIR_ATTACH);
		receive_dma(rig);
	}
	while (deliver(rig, 4096, 0) > 0)
		;
	for (uint32_t i = 0; i < MANY; i++)
		dev_qp_detach(rig->dev, handle_make(CID, i));
	assert_non_null(rig->dev->pairs.owed_first);
	/* What the guest leaves itself need not be told. */
	assert_int_equal(call_handle(rig, VMCI_HC_QUEUEPAIR_DETACH, handle_make(CID, MANY - 1)), 0);
	assert_int_equal(call_handle(rig, VMCI_HC_QUEUEPAIR_DETACH, handle_make(CID, MANY - 5)), 0);
	receive_events(rig, see_detach);
	assert_int_equal(told_count, MANY - 2);
	assert_null(rig->dev->pairs.owed_first);
	assert_null(rig->dev->pairs.owed_last);
}

static void see_attach_then_detach(const struct event *event)
{
	if (event->id == VMCI_EVENT_CTX_REMOVED)
		return;
	assert_int_equal(event->id, told_count++ ? VMCI_EVENT_QP_PEER_DETACH : VMCI_EVENT_QP_PEER_ATTACH);
}

static void test_s9_2_attach_and_detach_both_owed_come_in_order(void **state)
{
	struct rig *rig = *state;
	const struct event filler = { .id = VMCI_EVENT_CTX_REMOVED, .context = 5 };
	uint8_t buf[EVENT_MAX_SIZE];
	size_t size = event_build(buf, CID, &filler);

	guest_makes(rig);
	while (dev_deliver(rig->dev, buf, size) > 0)
		;
	assert_int_equal(dev_qp_attach(rig->dev, mine, 4096, 8192, &owner_a), VMCI_SUCCESS_QUEUEPAIR_ATTACH);
	dev_qp_detach(rig->dev, mine);
	told_count = 0;
	receive_events(rig, see_attach_then_detach);
	assert_int_equal(told_count, 2);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup_mmio, teardown)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		T(test_s7_4_host_attaches_with_sizes_swapped),
		T(test_s7_4_host_attach_refusals),
		T(test_s7_3_host_may_attach_to_a_pair_for_anybody),
		T(test_s7_1_views_of_both_ends_match),
		T(test_s7_3_host_made_pair),
		T(test_s7_3_guest_may_attach_without_attach_only),
		T(test_s7_4_guest_attach_mismatch),
		T(test_s7_3_host_does_not_attach_to_its_own),
		T(test_host_leaves_before_the_guest_attaches),
		T(test_host_made_ids_are_not_used_again_soon),
		T(test_host_create_checks_its_arguments),
		T(test_s7_4_detach_of_the_unknown),
		T(test_s7_4_guest_leaves_alone),
		T(test_s7_4_guest_leaves_first),
		T(test_s7_4_host_leaves_first),
		T(test_s7_4_both_leave_a_host_made_pair),
		T(test_s6_events_have_zero_padding),
		T(test_s9_2_detach_events_beyond_the_queue_follow_when_there_is_room),
		T(test_s9_2_attach_and_detach_both_owed_come_in_order),
	};

	return cmocka_run_group_tests_name("device ends of queue pairs", tests, NULL, NULL);
}
