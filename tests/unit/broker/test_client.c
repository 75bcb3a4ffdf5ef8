/* SPDX-License-Identifier: BSD-2-Clause */
/* Clients: what goes with them, and what they may say in the log. */
#include <stdlib.h>

#include "rig.h"

static void test_death_frees_everything(void **state)
{
	struct rig *rig = *state;
	struct brk_client *a = rig_join(rig, 5, 100), *b = rig_join(rig, 6, 2), *device;
	struct thing *old = rig_events(rig, a), *events = rig_events(rig, a), *sink, *to_b = rig_events(rig, b);
	struct thing *bell = rig_thing(rig), *pair = rig_thing(rig), *memory = rig_thing(rig);
	struct vmci_handle dg = rig_endpoint(rig, a, &sink), from = rig_endpoint(rig, b, NULL), h, group;
	struct brk_qp qp = { .handle = { ANY, ANY }, .peer = ANY, .produce = 1 };
	uint64_t bytes;
	void *found;

	assert_int_equal(old->dropped, 1);
	assert_int_equal(brk_bell_create(a, 5000, NULL, bell, &h, NULL), 0);
	assert_int_equal(brk_qp_create(a, &qp, NULL, pair, &h, NULL), 4);
	assert_int_equal(brk_shm_create(a, 5001, 1, 0, NULL, memory, &h, NULL), 0);
	assert_int_equal(brk_group_create(a, 0, NULL, &group, NULL), 0);
	assert_int_equal(brk_group_add(a, group, handle_make(2, 0), true), 0);
	assert_int_equal(brk_priv_add(a, dg, group, 1u << VMCI_PRIV_DG_SEND, 0), 0);
	assert_int_equal(rig_register(a, "name", dg), 0);
	assert_int_equal(brk_watch(a, 77, true), 0);
	assert_int_equal(brk_watch(b, 100, true), 0);
	assert_int_equal(rig_send(b, from, dg, ""), 24);
	rig_leave(rig, a);
	assert_int_equal(events->dropped + sink->dropped + bell->dropped + pair->dropped + memory->dropped, 5);
	assert_int_equal(to_b->n, 1);
	assert_int_equal(rig_send(b, from, dg, ""), VMCI_ERROR_DST_UNREACHABLE);
	assert_int_equal(brk_bell_open(b, handle_make(100, 5000), &found, &device), VMCI_ERROR_DST_UNREACHABLE);
	assert_int_equal(brk_shm_query(b, handle_make(100, 5001), &bytes), VMCI_ERROR_DST_UNREACHABLE);
	assert_int_equal(brk_group_is_member(b, group, handle_make(2, 0)), VMCI_ERROR_NOT_FOUND);
	assert_int_equal(rig_lookup(b, "name", NULL), VMCI_ERROR_NOT_FOUND);
}

static void test_order_of_the_news(void **state)
{
	struct rig *rig = *state;
	struct brk_client *a = rig_join(rig, 5, 100), *b = rig_join(rig, 6, 2), *device;
	struct thing *events = rig_events(rig, b);
	struct brk_qp qp = { .handle = { ANY, ANY }, .peer = ANY, .produce = 1 };
	struct vmci_handle h;
	uint32_t creator;
	void *found;

	assert_int_equal(brk_watch(b, 100, true), 0);
	assert_int_equal(brk_qp_create(a, &qp, NULL, rig_thing(rig), &h, NULL), 4);
	qp = (struct brk_qp){ .handle = h, .peer = ANY, .consume = 1 };
	assert_int_equal(brk_qp_attach(b, &qp, &found, &creator, NULL, &device), 5);
	thing_unused(found);
	rig_leave(rig, a);
	/* First the peer, then its context. */
	assert_int_equal(events->n, 2);
	assert_int_equal(rig_event(events, 0).id, VMCI_EVENT_QP_PEER_DETACH);
	assert_int_equal(rig_event(events, 1).id, VMCI_EVENT_CTX_REMOVED);
}

static void test_events_that_are_lost_are_logged(void **state)
{
	struct rig *rig = *state;
	struct brk_client *b = rig_join(rig, 6, 2);
	struct thing *events = rig_events(rig, b);

	events->refuse = VMCI_ERROR_NO_RESOURCES;
	for (uint32_t i = 0; i < 40; i++) {
		assert_int_equal(brk_watch(b, 200 + i, true), 0);
		rig_leave(rig, rig_join(rig, 5, 200 + i));
	}
	assert_int_equal(rig->level, LOG_LEVEL_WARN);
	/* No client can flood the log. */
	assert_int_equal(rig->lines, LIMIT_BRK_NOTES);
	assert_non_null(strstr(rig->line, "no more lines"));
	brk_notes_renew(rig->brk);
	rig_leave(rig, rig_join(rig, 5, 200));
	assert_int_equal(rig->lines, LIMIT_BRK_NOTES + 1);
}

static void test_labels_are_printable(void **state)
{
	struct rig *rig = *state;
	struct brk_client *a = rig_connect(rig, 5);
	char label[100];

	memset(label, 'x', sizeof(label) - 1);
	label[99] = '\0';
	label[0] = '\n';
	label[1] = '\x1b';
	label[2] = '%';
	label[3] = '\xff';
	assert_int_equal(brk_hello(a, 2, false, label, NULL, NULL), 0);
	assert_int_equal(rig_send(a, handle_make(3, 3), handle_make(2, 3), ""), VMCI_ERROR_NO_ACCESS);
	assert_non_null(strstr(rig->line, "cid 2: client 100 (uid 5, ??%?xxxx"));
	assert_null(strchr(rig->line, '\n'));
}

static void test_thousands_of_handles(void **state)
{
	enum { N = 4000 };
	struct rig *rig = *state;
	struct brk_client *a = rig_join(rig, 5, 100), *b = rig_join(rig, 6, 2), *device;
	struct thing *events = rig_events(rig, b);
	struct vmci_handle *h = calloc(N, sizeof(*h));
	uint32_t creator;
	void *found;

	assert_non_null(h);
	for (unsigned i = 0; i < N; i++) {
		struct brk_qp qp = { .handle = { ANY, ANY }, .peer = ANY, .produce = 1 };

		rig_endpoint(rig, a, NULL);
		assert_int_equal(brk_bell_create(a, ANY, NULL, rig_thing(rig), &h[i], NULL), 0);
		assert_int_equal(brk_qp_create(a, &qp, NULL, rig_thing(rig), &h[i], NULL), 4);
		qp = (struct brk_qp){ .handle = h[i], .peer = ANY, .consume = 1 };
		assert_int_equal(brk_qp_attach(b, &qp, &found, &creator, NULL, &device), 5);
		thing_unused(found);
	}
	rig_leave(rig, a);
	assert_int_equal(events->n, N);
	for (unsigned i = 0; i < N; i++)
		assert_int_equal(brk_qp_detach(b, h[i]), 3);
	free(h);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_death_frees_everything, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_order_of_the_news, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_events_that_are_lost_are_logged, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_labels_are_printable, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_thousands_of_handles, rig_setup, rig_teardown),
	};

	return cmocka_run_group_tests_name("broker clients", tests, NULL, NULL);
}
