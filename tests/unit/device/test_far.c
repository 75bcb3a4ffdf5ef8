/* SPDX-License-Identifier: BSD-2-Clause */
/* Other contexts than the host: far ends of queue pairs, and what the ports tell about doorbells, room and drivers. */
#include "rig.h"

#include <errno.h>

#define OTHER 99u	/* context of somebody else */

static const struct vmci_handle mine = { CID, 2000 };
static const struct vmci_handle theirs = { OTHER, 3000 };
static int owner_a;

/* --- The guest's pair, attached from afar ------------------------------------------------------------ */

static void test_far_end_attaches_and_the_guest_is_told_of_its_context(void **state)
{
	struct rig *rig = *state;
	struct event event;
	struct qp qp;

	assert_int_equal(call_alloc(rig, mine, OTHER, 0, 8192, 4096), VMCI_SUCCESS_QUEUEPAIR_CREATE);
	assert_int_equal(rig->finds, 0);
	assert_int_equal(dev_far_check(rig->dev, mine, OTHER, 4096, 8192), VMCI_SUCCESS_QUEUEPAIR_ATTACH);
	assert_int_equal(dev_far_attach(rig->dev, mine, OTHER, 4096, 8192, &owner_a), VMCI_SUCCESS_QUEUEPAIR_ATTACH);
	event = next_event(rig);
	assert_int_equal(event.id, VMCI_EVENT_QP_PEER_ATTACH);
	assert_int_equal(event.context, OTHER);
	assert_true(handle_is_equal(event.handle, mine));
	assert_int_equal(dev_qp_map(rig->dev, mine, &qp), VMCI_SUCCESS);
	assert_int_equal(qp.produce_size, 4096);

	dev_qp_detach(rig->dev, mine);
	event = next_event(rig);
	assert_int_equal(event.id, VMCI_EVENT_QP_PEER_DETACH);
	assert_int_equal(event.context, OTHER);
	assert_int_equal(dev_far_check(rig->dev, mine, OTHER, 4096, 8192), VMCI_ERROR_UNAVAILABLE);
	assert_int_equal(rig->far_gone, 0);
}

static void test_far_end_is_checked_as_the_hosts_is(void **state)
{
	struct rig *rig = *state;

	assert_int_equal(dev_far_check(rig->dev, mine, OTHER, 4096, 8192), VMCI_ERROR_NOT_FOUND);
	assert_int_equal(call_alloc(rig, mine, OTHER, 0, 8192, 4096), VMCI_SUCCESS_QUEUEPAIR_CREATE);
	assert_int_equal(dev_far_check(rig->dev, mine, OTHER, 8192, 4096), VMCI_ERROR_QUEUEPAIR_MISMATCH);
	assert_int_equal(dev_far_check(rig->dev, mine, OTHER + 1, 4096, 8192), VMCI_ERROR_NO_ACCESS);
	assert_int_equal(dev_far_check(rig->dev, mine, VMCI_CID_HOST, 4096, 8192), VMCI_ERROR_NO_ACCESS);
	/* The streams are the host, and nobody else. */
	assert_int_equal(dev_qp_attach(rig->dev, mine, 4096, 8192, &owner_a), VMCI_ERROR_NO_ACCESS);
	assert_int_equal(dev_far_attach(rig->dev, mine, OTHER, 4096, 8192, &owner_a), VMCI_SUCCESS_QUEUEPAIR_ATTACH);
	assert_int_equal(dev_far_attach(rig->dev, mine, OTHER, 4096, 8192, &owner_a), VMCI_ERROR_UNAVAILABLE);
}

static void test_any_peer_means_any_context(void **state)
{
	struct rig *rig = *state;

	assert_int_equal(call_alloc(rig, mine, VMCI_INVALID_ID, 0, 4096, 4096), VMCI_SUCCESS_QUEUEPAIR_CREATE);
	assert_int_equal(dev_far_attach(rig->dev, mine, OTHER, 4096, 4096, &owner_a), VMCI_SUCCESS_QUEUEPAIR_ATTACH);
}

static void test_guest_leaves_a_far_end(void **state)
{
	struct rig *rig = *state;

	assert_int_equal(call_alloc(rig, mine, OTHER, 0, 4096, 4096), VMCI_SUCCESS_QUEUEPAIR_CREATE);
	assert_int_equal(dev_far_attach(rig->dev, mine, OTHER, 4096, 4096, &owner_a), VMCI_SUCCESS_QUEUEPAIR_ATTACH);
	assert_int_equal(call_handle(rig, VMCI_HC_QUEUEPAIR_DETACH, mine), VMCI_SUCCESS);
	assert_int_equal(rig->far_gone, 1);
	assert_int_equal(rig->gone, 0);
	assert_ptr_equal(rig->owner, &owner_a);
	assert_int_equal(rig->pages_at_gone, 4);
	assert_int_equal(rig->pages_taken, 0);
}

static void test_without_far_contexts_vms_are_no_peers(void **state)
{
	struct rig *rig = *state;

	assert_int_equal(call_alloc(rig, mine, OTHER, 0, 4096, 4096), VMCI_ERROR_DST_UNREACHABLE);
	assert_int_equal(call_alloc(rig, theirs, OTHER, VMCI_QP_ATTACH_ONLY, 4096, 4096), VMCI_ERROR_NOT_FOUND);
}

/* --- Somebody else's pair, attached by the guest ----------------------------------------------------- */

static void test_guest_attaches_to_a_far_pair(void **state)
{
	struct rig *rig = *state;
	struct event event;

	rig->find_context = OTHER;
	assert_int_equal(call_alloc(rig, theirs, OTHER, VMCI_QP_ATTACH_ONLY, 8192, 4096),
			 VMCI_SUCCESS_QUEUEPAIR_ATTACH);
	assert_int_equal(rig->finds, 1);
	assert_true(handle_is_equal(rig->find.handle, theirs));
	assert_int_equal(rig->find.peer, OTHER);
	assert_int_equal(rig->find.produce, 8192);
	assert_int_equal(rig->find.consume, 4096);
	assert_int_equal(rig->pages_at_find, 5);
	assert_int_equal(rig->far_attached, 1);
	assert_int_equal(rig->dev->inbox.count, 0);	/* the attacher gets no event */
	assert_int_equal(call_alloc(rig, theirs, OTHER, VMCI_QP_ATTACH_ONLY, 8192, 4096), VMCI_ERROR_ALREADY_EXISTS);
	assert_int_equal(rig->finds, 1);

	dev_qp_detach(rig->dev, theirs);
	event = next_event(rig);
	assert_int_equal(event.id, VMCI_EVENT_QP_PEER_DETACH);
	assert_int_equal(event.context, OTHER);
}

/* Whoever has attached elsewhere and cannot stay has lost the pair for all. */
static void test_far_pair_is_asked_for_last(void **state)
{
	struct rig *rig = *state;

	rig->take_error = -EFAULT;
	assert_int_equal(call_alloc(rig, theirs, OTHER, VMCI_QP_ATTACH_ONLY, 4096, 4096), VMCI_ERROR_INVALID_ARGS);
	rig->take_error = 0;
	rig->format_error = -EFAULT;
	assert_int_equal(call_alloc(rig, theirs, OTHER, VMCI_QP_ATTACH_ONLY, 4096, 4096), VMCI_ERROR_INVALID_ARGS);
	rig->format_error = 0;
	assert_int_equal(call_alloc(rig, theirs, OTHER, VMCI_QP_LOCAL, 4096, 4096), VMCI_ERROR_INVALID_ARGS);
	assert_int_equal(call_alloc(rig, theirs, OTHER, 0, UINT64_C(1) << 40, 4096), VMCI_ERROR_NO_RESOURCES);
	assert_int_equal(rig->finds, 0);
	assert_int_equal(rig->dev->pairs.count, 0);
}

static void test_refusals_of_a_far_pair_leave_nothing(void **state)
{
	static const int32_t refusals[] = { VMCI_ERROR_QUEUEPAIR_MISMATCH, VMCI_ERROR_NO_ACCESS,
					    VMCI_ERROR_UNAVAILABLE, VMCI_ERROR_DST_UNREACHABLE };
	struct rig *rig = *state;

	for (size_t i = 0; i < sizeof(refusals) / sizeof(refusals[0]); i++) {
		rig->find_result = refusals[i];
		assert_int_equal(call_alloc(rig, theirs, OTHER, 0, 4096, 4096), refusals[i]);
		assert_int_equal(rig->finds, i + 1);
		check_books(rig);
	}
	assert_int_equal(rig->dev->pairs.count, 0);
	assert_int_equal(rig->pages_taken, 0);
	assert_int_equal(rig->far_attached, 0);
	assert_int_equal(rig->far_gone, 0);
}

static void test_what_is_not_found_afar_is_made_here(void **state)
{
	const struct vmci_handle hosts = { VMCI_CID_HOST, 4000 };
	struct rig *rig = *state;

	rig->find_result = VMCI_ERROR_NOT_FOUND;
	assert_int_equal(call_alloc(rig, hosts, VMCI_CID_HOST, VMCI_QP_ATTACH_ONLY, 4096, 4096), VMCI_ERROR_NOT_FOUND);
	assert_int_equal(call_alloc(rig, hosts, VMCI_CID_HOST, 0, 4096, 4096), VMCI_SUCCESS_QUEUEPAIR_CREATE);
	assert_int_equal(rig->finds, 2);
	/* The name of a context that is neither creator nor peer. */
	assert_int_equal(call_alloc(rig, theirs, VMCI_CID_HOST, 0, 4096, 4096), VMCI_ERROR_NO_ACCESS);
	assert_int_equal(rig->finds, 3);
	/* The guest's own names are nobody else's business. */
	assert_int_equal(call_alloc(rig, mine, OTHER, VMCI_QP_ATTACH_ONLY, 4096, 4096), VMCI_ERROR_NOT_FOUND);
	assert_int_equal(call_alloc(rig, mine, OTHER, 0, 4096, 4096), VMCI_SUCCESS_QUEUEPAIR_CREATE);
	assert_int_equal(rig->finds, 3);
}

static void test_pairs_of_streams_are_not_asked_for_afar(void **state)
{
	struct rig *rig = *state;
	struct vmci_handle handle;

	assert_int_equal(dev_qp_create(rig->dev, 4096, 4096, &owner_a, &handle), VMCI_SUCCESS_QUEUEPAIR_CREATE);
	assert_int_equal(call_alloc(rig, handle, VMCI_CID_HOST, VMCI_QP_ATTACH_ONLY, 4096, 4096),
			 VMCI_SUCCESS_QUEUEPAIR_ATTACH);
	assert_int_equal(rig->finds, 0);
	assert_int_equal(rig->attached, 1);
	assert_int_equal(rig->far_attached, 0);
}

static void test_reset_leaves_near_and_far_ends(void **state)
{
	struct rig *rig = *state;

	assert_int_equal(call_alloc(rig, theirs, OTHER, VMCI_QP_ATTACH_ONLY, 4096, 4096),
			 VMCI_SUCCESS_QUEUEPAIR_ATTACH);
	assert_int_equal(call_alloc(rig, mine, 2, 0, 4096, 4096), VMCI_SUCCESS_QUEUEPAIR_CREATE);
	assert_int_equal(dev_qp_attach(rig->dev, mine, 4096, 4096, &owner_a), VMCI_SUCCESS_QUEUEPAIR_ATTACH);
	out32(rig, VMCI_REG_CONTROL, VMCI_CONTROL_RESET);
	assert_int_equal(rig->far_gone, 1);
	assert_int_equal(rig->gone, 1);
	assert_int_equal(rig->drivers_gone, 1);
}

/* A far end that leaves while it is told that the guest leaves does no harm. */
static void detach_meanwhile(struct rig *rig, void *owner)
{
	(void)owner;
	dev_qp_detach(rig->dev, theirs);
	assert_int_equal(dev_far_check(rig->dev, theirs, OTHER, 4096, 4096), VMCI_ERROR_UNAVAILABLE);
}

static void test_far_end_may_leave_while_it_is_told(void **state)
{
	struct rig *rig = *state;

	rig->on_gone = detach_meanwhile;
	assert_int_equal(call_alloc(rig, theirs, OTHER, 0, 4096, 4096), VMCI_SUCCESS_QUEUEPAIR_ATTACH);
	assert_int_equal(call_handle(rig, VMCI_HC_QUEUEPAIR_DETACH, theirs), VMCI_SUCCESS);
	assert_int_equal(rig->far_gone, 1);
	assert_int_equal(rig->pages_taken, 0);
}

/* --- Doorbells ----------------------------------------------------------------------------------------- */

static void test_unlinked_doorbells_are_told_of(void **state)
{
	struct rig *rig = *state;

	assert_false(dev_has_bell(rig->dev, mine));
	assert_int_equal(call_link(rig, mine, 7), VMCI_SUCCESS);
	assert_true(dev_has_bell(rig->dev, mine));
	assert_int_equal(call_handle(rig, VMCI_HC_DOORBELL_UNLINK, theirs), VMCI_ERROR_NOT_FOUND);
	assert_int_equal(rig->bells_gone, 0);
	assert_int_equal(call_handle(rig, VMCI_HC_DOORBELL_UNLINK, mine), VMCI_SUCCESS);
	assert_int_equal(rig->bells_gone, 1);
	assert_true(handle_is_equal(rig->bell_gone, mine));
	assert_false(dev_has_bell(rig->dev, mine));
}

static void ring_it(struct rig *rig, struct vmci_handle handle)
{
	assert_int_equal(dev_ring(rig->dev, handle), VMCI_ERROR_NOT_FOUND);
}

static void test_all_doorbells_go_with_the_driver(void **state)
{
	struct rig *rig = *state;

	for (uint32_t i = 0; i < LIMIT_DOORBELLS; i++)
		assert_int_equal(call_link(rig, handle_make(CID, 1024 + i), i), VMCI_SUCCESS);
	assert_int_equal(call_handle(rig, VMCI_HC_DOORBELL_UNLINK, handle_make(CID, 1030)), VMCI_SUCCESS);
	rig->on_bell_gone = ring_it;
	out32(rig, VMCI_REG_CONTROL, VMCI_CONTROL_RESET);
	assert_int_equal(rig->bells_gone, LIMIT_DOORBELLS);
	assert_int_equal(rig->drivers_gone, 1);
	rig_probe(rig);
	assert_int_equal(call_link(rig, handle_make(CID, 1030), 7), VMCI_SUCCESS);
	assert_int_equal(rig->dev->bells.count, 1);
}

/* --- Room ------------------------------------------------------------------------------------------------ */

static void fill(struct rig *rig)
{
	while (deliver(rig, 4096, 1) > 0)
		;
}

static void test_room_is_told_once_for_many_refusals(void **state)
{
	struct rig *rig = *state;

	assert_int_equal(deliver(rig, 4096, 1), 4096);
	receive_dma(rig);
	assert_int_equal(rig->rooms, 0);
	fill(rig);
	fill(rig);
	assert_int_equal(rig->rooms, 0);
	receive_dma(rig);
	assert_int_equal(rig->rooms, 1);
	receive_dma(rig);
	receive_dma(rig);
	assert_int_equal(rig->rooms, 1);
	assert_int_equal(rig->dev->inbox.count, 0);
}

static void refill(struct rig *rig)
{
	assert_int_equal(deliver(rig, 4096, 2), 4096);
}

static void test_room_may_be_used_at_once(void **state)
{
	struct rig *rig = *state;
	unsigned irqs;

	rig->on_room = refill;
	fill(rig);
	irqs = rig->irqs[0];
	receive_dma(rig);
	assert_int_equal(rig->rooms, 1);
	assert_true(rig->irqs[0] > irqs);
}

static void test_room_of_a_drain_over_the_ports(void **state)
{
	struct rig *rig = *state;
	size_t n = 0;

	fill(rig);
	while (rig->rooms == 0 && n++ < 1000000)
		inb(rig, VMCI_REG_DATA_IN);
	assert_int_equal(rig->rooms, 1);
}

static void test_a_receive_that_takes_nothing_makes_no_room(void **state)
{
	struct rig *rig = *state;

	fill(rig);
	put_dma(rig, RX, 0, VMCI_DMA_SG, 1);
	put_element(rig, RX, 0, AREA, 4000);
	out32(rig, VMCI_REG_DATA_IN_LOW, RX);
	assert_int_equal(rig->rooms, 0);
}

/* --- Drivers that go --------------------------------------------------------------------------------- */

static void test_driver_gone_is_told_once_per_session(void **state)
{
	struct rig *rig = *state;

	fill(rig);
	out32(rig, VMCI_REG_CONTROL, VMCI_CONTROL_RESET);
	assert_int_equal(rig->drivers_gone, 1);
	out32(rig, VMCI_REG_CONTROL, VMCI_CONTROL_RESET);
	dev_reset(rig->dev);
	assert_int_equal(rig->drivers_gone, 1);
	set_command(rig, COMMAND_ON);
	rig_probe(rig);
	assert_int_equal(rig->drivers_gone, 1);
	rig_probe(rig);		/* kexec: the driver before was never unloaded */
	assert_int_equal(rig->drivers_gone, 2);
	set_command(rig, COMMAND_NO_MASTER);
	assert_int_equal(rig->drivers_gone, 3);
	assert_int_equal(rig->rooms, 0);
}

static void refuse_all(struct rig *rig)
{
	assert_int_equal(deliver(rig, 100, 1), VMCI_ERROR_DST_UNREACHABLE);
	assert_int_equal(dev_ring(rig->dev, mine), VMCI_ERROR_NOT_FOUND);
	assert_int_equal(dev_far_check(rig->dev, mine, OTHER, 1, 1), VMCI_ERROR_NOT_FOUND);
}

static void test_nothing_is_delivered_while_a_driver_goes(void **state)
{
	struct rig *rig = *state;

	rig->on_driver_gone = refuse_all;
	out32(rig, VMCI_REG_CONTROL, VMCI_CONTROL_RESET);
	assert_int_equal(rig->drivers_gone, 1);
	assert_int_equal(rig->dev->inbox.count, 0);
}

#define F(f) cmocka_unit_test_setup_teardown(f, setup_far, teardown)
#define M(f) cmocka_unit_test_setup_teardown(f, setup_mmio, teardown)
#define P(f) cmocka_unit_test_setup_teardown(f, setup_ports, teardown)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		F(test_far_end_attaches_and_the_guest_is_told_of_its_context),
		F(test_far_end_is_checked_as_the_hosts_is),
		F(test_any_peer_means_any_context),
		F(test_guest_leaves_a_far_end),
		M(test_without_far_contexts_vms_are_no_peers),
		F(test_guest_attaches_to_a_far_pair),
		F(test_far_pair_is_asked_for_last),
		F(test_refusals_of_a_far_pair_leave_nothing),
		F(test_what_is_not_found_afar_is_made_here),
		F(test_pairs_of_streams_are_not_asked_for_afar),
		F(test_reset_leaves_near_and_far_ends),
		F(test_far_end_may_leave_while_it_is_told),
		M(test_unlinked_doorbells_are_told_of),
		P(test_all_doorbells_go_with_the_driver),
		M(test_room_is_told_once_for_many_refusals),
		M(test_room_may_be_used_at_once),
		P(test_room_of_a_drain_over_the_ports),
		M(test_a_receive_that_takes_nothing_makes_no_room),
		M(test_driver_gone_is_told_once_per_session),
		F(test_nothing_is_delivered_while_a_driver_goes),
	};

	return cmocka_run_group_tests_name("device far ends", tests, NULL, NULL);
}
