/* SPDX-License-Identifier: BSD-2-Clause */
/* Queue pairs that the guest makes, and the quota: VMCI reference, 7 and 4.3. */
#include "rig.h"

#include <errno.h>

static const struct vmci_handle mine = { CID, 2000 };
static int owner_a;

/* An allocation with everything to choose; the list is @entries times @width bytes of PAGES_PPN and up. */
struct request {
	struct vmci_handle handle;
	uint32_t peer, flags;
	uint64_t produce, consume, count;
	size_t entries;
	unsigned width;
};

static int32_t request(struct rig *rig, const struct request *r)
{
	static uint8_t list[64 * 8], buf[VMCI_QPALLOC_LIST_OFFSET + sizeof(list)];
	const struct hc_qp_alloc alloc = {
		.handle = r->handle,
		.peer = r->peer,
		.flags = r->flags,
		.produce = r->produce,
		.consume = r->consume,
		.page_count = r->count,
		.list = list,
		.list_size = r->entries * r->width,
	};

	memset(list, 0, sizeof(list));
	for (size_t i = 0; i < r->entries; i++)
		put_le32(list + i * r->width, (uint32_t)(PAGES_PPN + i));
	return send_dg(rig, buf, hc_qp_alloc_build(buf, &alloc));
}

/* What the checks start from: 2 + 1 data pages. */
static const struct request good = {
	.handle = { CID, 2000 },
	.peer = 2,
	.produce = 8192,
	.consume = 4096,
	.count = 5,
	.entries = 5,
	.width = 4,
};

/* --- Creating -------------------------------------------------------------------------------- */

static void test_s7_4_guest_creates(void **state)
{
	struct rig *rig = *state;

	assert_int_equal(request(rig, &good), VMCI_SUCCESS_QUEUEPAIR_CREATE);
	assert_int_equal(rig->taken, 1);
	assert_int_equal(rig->pages_taken, 5);
	assert_int_equal(rig->dev->pairs.memory, 8192 + 4096);
}

static void test_s7_2_headers_are_written_before_success(void **state)
{
	struct rig *rig = *state;
	uint8_t *produce = rig->ram + PAGES_PPN * PAGE, *consume = produce + 3 * PAGE;

	memset(produce, 0xdd, 5 * PAGE);
	assert_int_equal(request(rig, &good), VMCI_SUCCESS_QUEUEPAIR_CREATE);
	for (int i = 0; i < 2; i++) {
		const uint8_t *header = i ? consume : produce;

		assert_true(handle_is_equal(handle_get(header), mine));
		assert_int_equal(get_le64(header + 8), 0);
		assert_int_equal(get_le64(header + 16), 0);
		assert_int_equal(header[24], 0xdd);
		assert_int_equal(header[PAGE], 0xdd);	/* data is left alone */
	}
}

static void test_s7_4_refusals(void **state)
{
	static const uint64_t quota = LIMIT_QUEUE_MEMORY;
	struct rig *rig = *state;
	struct {
		const char *what;
		struct request r;
		int32_t result;
	} t[] = {
		/* 1: sizes come first, whatever else is wrong */
		{ "sum overflows", good, VMCI_ERROR_NO_RESOURCES },
		{ "more than 128 MiB", good, VMCI_ERROR_NO_RESOURCES },
		{ "a little more", good, VMCI_ERROR_NO_RESOURCES },
		{ "pinned, too large", good, VMCI_ERROR_NO_RESOURCES },
		/* 2 */
		{ "invalid handle", good, VMCI_ERROR_INVALID_ARGS },
		{ "invalid resource", good, VMCI_ERROR_INVALID_ARGS },
		{ "invalid context", good, VMCI_ERROR_INVALID_ARGS },
		{ "unknown flag", good, VMCI_ERROR_INVALID_ARGS },
		{ "local", good, VMCI_ERROR_INVALID_ARGS },
		{ "no data", good, VMCI_ERROR_INVALID_ARGS },
		{ "count too small", good, VMCI_ERROR_INVALID_ARGS },
		{ "count too large", good, VMCI_ERROR_INVALID_ARGS },
		{ "count huge", good, VMCI_ERROR_INVALID_ARGS },
		{ "list too short", good, VMCI_ERROR_INVALID_ARGS },
		{ "list too long", good, VMCI_ERROR_INVALID_ARGS },
		{ "64-bit list", good, VMCI_ERROR_INVALID_ARGS },
		{ "no list", good, VMCI_ERROR_INVALID_ARGS },
		/* 4 */
		{ "attach only", good, VMCI_ERROR_NOT_FOUND },
		{ "name of a third party", good, VMCI_ERROR_NO_ACCESS },
		{ "name of the hypervisor", good, VMCI_ERROR_NO_ACCESS },
		{ "host's name, but peer any", good, VMCI_ERROR_NO_ACCESS },
		{ "peer is a VM", good, VMCI_ERROR_DST_UNREACHABLE },
		{ "peer is the guest", good, VMCI_ERROR_DST_UNREACHABLE },
	};

	t[0].r.produce = UINT64_MAX;
	t[0].r.handle = handle_make(VMCI_INVALID_ID, VMCI_INVALID_ID);
	t[1].r.produce = t[1].r.consume = quota;
	t[2].r.produce = quota - t[2].r.consume + 1;
	t[3].r.flags = VMCI_QP_PINNED;
	t[3].r.produce = 32768;
	t[4].r.handle = handle_make(VMCI_INVALID_ID, VMCI_INVALID_ID);
	t[5].r.handle.resource = VMCI_INVALID_ID;
	t[6].r.handle.context = t[6].r.peer = VMCI_INVALID_ID;
	t[7].r.flags = 0x10;
	t[8].r.flags = VMCI_QP_LOCAL;
	t[9].r.produce = t[9].r.consume = 0;
	t[9].r.count = t[9].r.entries = 2;
	t[10].r.count = t[10].r.entries = 4;
	t[11].r.count = t[11].r.entries = 6;
	t[12].r.count = UINT64_MAX / 4 + 6;
	t[13].r.entries = 4;
	t[14].r.entries = 6;
	t[15].r.width = 8;
	t[16].r.entries = 0;
	t[17].r.flags = VMCI_QP_ATTACH_ONLY;
	t[18].r.handle.context = CID + 1;
	t[19].r.handle.context = 0;
	t[20].r.handle.context = 2;
	t[20].r.peer = VMCI_INVALID_ID;
	t[21].r.peer = CID + 1;
	t[22].r.peer = CID;
	for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
		int32_t r = request(rig, &t[i].r);

		if (r != t[i].result)
			fail_msg("%s: %d", t[i].what, r);
		assert_int_equal(rig->taken, 0);
		assert_int_equal(rig->dev->pairs.count, 0);
		assert_int_equal(rig->dev->pairs.memory, 0);
	}
}

static void test_s7_1_one_direction_may_be_empty(void **state)
{
	struct rig *rig = *state;

	assert_int_equal(call_alloc(rig, mine, 2, 0, 1, 0), VMCI_SUCCESS_QUEUEPAIR_CREATE);
	assert_int_equal(rig->pages_taken, 3);
	assert_int_equal(call_alloc(rig, handle_make(CID, 2001), 2, 0, 0, 4097),
			 VMCI_SUCCESS_QUEUEPAIR_CREATE);
	assert_int_equal(rig->pages_taken, 3 + 4);
}

static void test_s7_3_who_may_name_and_be_named(void **state)
{
	struct rig *rig = *state;

	assert_int_equal(call_alloc(rig, mine, VMCI_INVALID_ID, 0, 4096, 4096),
			 VMCI_SUCCESS_QUEUEPAIR_CREATE);
	assert_int_equal(call_alloc(rig, handle_make(2, 9000), 2, 0, 4096, 4096),
			 VMCI_SUCCESS_QUEUEPAIR_CREATE);
}

static void test_s7_3_esx_flags_are_taken(void **state)
{
	assert_int_equal(call_alloc(*state, mine, 2, VMCI_QP_NONBLOCK, 4096, 4096),
			 VMCI_SUCCESS_QUEUEPAIR_CREATE);
	assert_int_equal(call_alloc(*state, handle_make(CID, 2001), 2, VMCI_QP_PINNED, 16384, 16384),
			 VMCI_SUCCESS_QUEUEPAIR_CREATE);
}

static void test_s7_4_already_attached(void **state)
{
	assert_int_equal(request(*state, &good), VMCI_SUCCESS_QUEUEPAIR_CREATE);
	assert_int_equal(request(*state, &good), VMCI_ERROR_ALREADY_EXISTS);
	assert_int_equal(call_alloc(*state, mine, 2, VMCI_QP_ATTACH_ONLY, 8192, 4096),
			 VMCI_ERROR_ALREADY_EXISTS);
}

static void test_bad_pages_leave_nothing_behind(void **state)
{
	struct rig *rig = *state;
	struct request r = good;

	rig->unmapped = (PAGES_PPN + 4) * PAGE;		/* the last page of the list */
	assert_int_equal(request(rig, &r), VMCI_ERROR_INVALID_ARGS);
	rig->unmapped = 0;
	rig->take_error = -ENOMEM;
	assert_int_equal(request(rig, &r), VMCI_ERROR_NO_MEM);
	rig->take_error = 0;
	rig->format_error = -EFAULT;
	assert_int_equal(request(rig, &r), VMCI_ERROR_INVALID_ARGS);
	rig->format_error = 0;
	assert_int_equal(rig->taken, 0);
	assert_int_equal(rig->dev->pairs.count, 0);
	assert_int_equal(rig->dev->pairs.memory, 0);
	assert_int_equal(request(rig, &r), VMCI_SUCCESS_QUEUEPAIR_CREATE);
}

static void test_s2_page_shift_applies_to_the_list(void **state)
{
	struct rig *rig = *state;
	static uint8_t list[3 * 4], buf[VMCI_QPALLOC_LIST_OFFSET + sizeof(list)];
	const struct hc_qp_alloc alloc = { .handle = mine, .peer = 2, .produce = 65536, .page_count = 3,
					   .list = list, .list_size = 12 };

	out32(rig, VMCI_REG_PAGE_SHIFT, 16);
	for (uint32_t i = 0; i < 3; i++)
		put_le32(list + 4 * i, 5 + 2 * i);
	assert_int_equal(send_dg(rig, buf, hc_qp_alloc_build(buf, &alloc)), VMCI_SUCCESS_QUEUEPAIR_CREATE);
	assert_true(handle_is_equal(handle_get(rig->ram + 5 * 65536), mine));
	assert_true(handle_is_equal(handle_get(rig->ram + 9 * 65536), mine));
}

static void test_sB10_no_queue_pair_without_bus_master(void **state)
{
	struct rig *rig = *state;

	rig->mmio = false;	/* the ports work without */
	set_command(rig, COMMAND_NO_MASTER);
	out32(rig, VMCI_REG_CAPS, 0xc);
	assert_int_equal(request(rig, &good), VMCI_ERROR_UNAVAILABLE);
	assert_int_equal(rig->taken, 0);
}

/* --- Quota ------------------------------------------------------------------------------------ */

static void test_s7_6_quota_at_its_edge(void **state)
{
	struct rig *rig = *state;
	const uint64_t half = LIMIT_QUEUE_MEMORY / 2;

	rig->mmio = false;	/* lists of this size do not fit into a DMA datagram */
	assert_int_equal(call_alloc(rig, mine, 2, 0, half, half + 1), VMCI_ERROR_NO_RESOURCES);
	assert_int_equal(call_alloc(rig, mine, 2, 0, half, half), VMCI_SUCCESS_QUEUEPAIR_CREATE);
	assert_int_equal(rig->pages_taken, 32770);
	assert_int_equal(call_alloc(rig, handle_make(CID, 1), 2, 0, 1, 0), VMCI_ERROR_NO_RESOURCES);
	assert_int_equal(call_handle(rig, VMCI_HC_QUEUEPAIR_DETACH, mine), 0);
	assert_int_equal(call_alloc(rig, handle_make(CID, 1), 2, 0, half - 4095, half + 4095),
			 VMCI_SUCCESS_QUEUEPAIR_CREATE);
	assert_int_equal(rig->pages_taken, 32771);
}

static void test_s7_6_quota_counts_all_pairs(void **state)
{
	struct rig *rig = *state;
	const uint64_t mib = 1 << 20;

	for (uint32_t i = 0; i < 64; i++)
		assert_int_equal(call_alloc(rig, handle_make(CID, i), 2, 0, mib, mib),
				 VMCI_SUCCESS_QUEUEPAIR_CREATE);
	assert_int_equal(rig->dev->pairs.memory, LIMIT_QUEUE_MEMORY);
	assert_int_equal(call_alloc(rig, handle_make(CID, 64), 2, 0, 1, 0), VMCI_ERROR_NO_RESOURCES);
	assert_int_equal(call_handle(rig, VMCI_HC_QUEUEPAIR_DETACH, handle_make(CID, 7)), 0);
	assert_int_equal(call_alloc(rig, handle_make(CID, 64), 2, 0, mib, mib + 1), VMCI_ERROR_NO_RESOURCES);
	assert_int_equal(call_alloc(rig, handle_make(CID, 64), 2, 0, mib, mib),
			 VMCI_SUCCESS_QUEUEPAIR_CREATE);
}

static void test_s7_6_refused_pair_does_not_count(void **state)
{
	struct rig *rig = *state;

	rig->take_error = -EFAULT;
	for (int i = 0; i < 200; i++)
		assert_int_equal(call_alloc(rig, mine, 2, 0, 1 << 20, 1 << 20), VMCI_ERROR_INVALID_ARGS);
	assert_int_equal(rig->dev->pairs.memory, 0);
}

static void test_s7_6_number_of_pairs(void **state)
{
	struct rig *rig = *state;
	struct vmci_handle handle;

	for (uint32_t i = 0; i < LIMIT_QUEUE_PAIRS - 1; i++)
		assert_int_equal(call_alloc(rig, handle_make(CID, i), 2, 0, 1, 1),
				 VMCI_SUCCESS_QUEUEPAIR_CREATE);
	assert_int_equal(dev_qp_create(rig->dev, 1, 1, &owner_a, &handle), VMCI_SUCCESS_QUEUEPAIR_CREATE);
	assert_int_equal(dev_qp_create(rig->dev, 1, 1, &owner_a, &handle), VMCI_ERROR_NO_RESOURCES);
	assert_int_equal(call_alloc(rig, handle_make(CID, 99999), 2, 0, 1, 1), VMCI_ERROR_NO_RESOURCES);
	assert_int_equal(call_handle(rig, VMCI_HC_QUEUEPAIR_DETACH, handle_make(CID, 77)), 0);
	assert_int_equal(call_alloc(rig, handle_make(CID, 99999), 2, 0, 1, 1), VMCI_SUCCESS_QUEUEPAIR_CREATE);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup_mmio, teardown)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		T(test_s7_4_guest_creates),
		T(test_s7_2_headers_are_written_before_success),
		T(test_s7_4_refusals),
		T(test_s7_1_one_direction_may_be_empty),
		T(test_s7_3_who_may_name_and_be_named),
		T(test_s7_3_esx_flags_are_taken),
		T(test_s7_4_already_attached),
		T(test_bad_pages_leave_nothing_behind),
		T(test_s2_page_shift_applies_to_the_list),
		T(test_sB10_no_queue_pair_without_bus_master),
		T(test_s7_6_quota_at_its_edge),
		T(test_s7_6_quota_counts_all_pairs),
		T(test_s7_6_refused_pair_does_not_count),
		T(test_s7_6_number_of_pairs),
	};

	return cmocka_run_group_tests_name("device queue pairs", tests, NULL, NULL);
}
