/* SPDX-License-Identifier: BSD-2-Clause */
/* Receiving by DMA: VMCI reference, 3.6; the queue's limits: 9.2. */
#include "driver.h"

static void kick(struct rig *rig, uint64_t addr)
{
	out32(rig, VMCI_REG_DATA_IN_HIGH, (uint32_t)(addr >> 32));
	out32(rig, VMCI_REG_DATA_IN_LOW, (uint32_t)addr);
}

static void check_marker(const uint8_t *p)
{
	for (int i = 0; i < 24; i++)
		assert_int_equal(p[i], 0xff);
}

static void test_s3_6_empty_queue_gives_a_marker(void **state)
{
	struct rig *rig = *state;

	memset(rig->ram + AREA, 0, 64);
	check_marker(receive_dma(rig));
	assert_int_equal(rig->ram[AREA + 24], 0);
	assert_int_equal(rig->irqs[0], 0);
}

static void test_s3_6_datagrams_padded_and_a_marker_behind(void **state)
{
	struct rig *rig = *state;
	const uint8_t *p;

	assert_int_equal(deliver(rig, 56, 1), 56);
	assert_int_equal(deliver(rig, 61, 2), 61);
	assert_int_equal(deliver(rig, 24, 3), 24);
	memset(rig->ram + AREA, 0xee, 256);
	p = receive_dma(rig);
	check_dg(p, 56, 1);
	check_dg(p + 56, 61, 2);
	check_dg(p + 120, 24, 3);
	check_marker(p + 144);
	assert_int_equal(p[168], 0xee);
	assert_int_equal(rig->dev->inbox.count, 0);
	assert_int_equal(get_le64(rig->ram + RX + 16), 144);
}

static void see_completion(struct rig *rig, uint64_t addr, size_t len)
{
	if (addr == RX && len == 4) {
		/* Everything else is there, and no interrupt has been sent. */
		check_dg(rig->ram + AREA, 56, 1);
		check_marker(rig->ram + AREA + 56);
		assert_int_equal(get_le64(rig->ram + RX + 16), 56);
		assert_int_equal(rig->irqs[2], 0);
	}
}

static void test_s3_6_data_then_busy_then_interrupt(void **state)
{
	struct rig *rig = *state;

	assert_int_equal(deliver(rig, 56, 1), 56);
	rig->before_write = see_completion;
	receive_dma(rig);
	assert_int_equal(rig->irqs[2], 1);
}

static void test_s3_6_completed_inside_the_register_write_without_interrupts(void **state)
{
	struct rig *rig = *state;

	out32(rig, VMCI_REG_CONTROL, VMCI_CONTROL_INT_DISABLE);
	assert_int_equal(deliver(rig, 56, 1), 56);
	put_dma(rig, RX, 0, VMCI_DMA_SG, 1);
	put_element(rig, RX, 0, AREA, AREA_SIZE);
	kick(rig, RX);
	assert_int_equal(get_le32(rig->ram + RX), 1);
	check_dg(rig->ram + AREA, 56, 1);
	assert_int_equal(rig->irqs[2], 0);
	assert_int_equal(in32(rig, VMCI_REG_ICR), 0x5);
}

static void test_s3_6_no_marker_if_less_than_24_bytes_remain(void **state)
{
	struct rig *rig = *state;

	for (size_t left = 0; left <= 32; left += 8) {
		const uint8_t *end = rig->ram + AREA + AREA_SIZE;

		memset(rig->ram + AREA, 0x33, AREA_SIZE + 8);
		assert_true(deliver(rig, AREA_SIZE - left, 1) > 0);
		check_dg(receive_dma(rig), AREA_SIZE - left, 1);
		if (left >= 24)
			check_marker(end - left);
		else
			assert_int_equal(*(end - left), 0x33);
	}
}

static void test_s3_6_nothing_is_written_behind_the_area(void **state)
{
	struct rig *rig = *state;

	memset(rig->ram + AREA + AREA_SIZE, 0x77, 64);
	assert_true(deliver(rig, AREA_SIZE - 16, 1) > 0);
	assert_true(deliver(rig, 24, 2) > 0);
	receive_dma(rig);
	for (int i = 0; i < 64; i++)
		assert_int_equal(rig->ram[AREA + AREA_SIZE + i], 0x77);
	check_dg(receive_dma(rig), 24, 2);
}

static void test_s3_6_whole_datagrams_only(void **state)
{
	struct rig *rig = *state;

	assert_true(deliver(rig, 100, 1) > 0);
	assert_true(deliver(rig, 100, 2) > 0);
	memset(rig->ram + AREA, 0, 256);
	put_dma(rig, RX, 0, VMCI_DMA_SG, 1);
	put_element(rig, RX, 0, AREA, 150);
	kick(rig, RX);
	check_dg(rig->ram + AREA, 100, 1);
	check_marker(rig->ram + AREA + 104);
	assert_int_equal(rig->ram[AREA + 128], 0);
	assert_int_equal(rig->dev->inbox.count, 1);
}

static void test_s3_6_interrupt_again_if_datagrams_are_left(void **state)
{
	struct rig *rig = *state;
	unsigned before;

	assert_true(deliver(rig, 40000, 1) > 0);
	assert_true(deliver(rig, 40000, 2) > 0);
	before = rig->irqs[0];
	check_dg(receive_dma(rig), 40000, 1);
	assert_int_equal(rig->irqs[0], before + 1);
	check_dg(receive_dma(rig), 40000, 2);
	assert_int_equal(rig->irqs[0], before + 1);
}

static void test_s3_6_area_too_small_for_anything_leaves_the_queue(void **state)
{
	struct rig *rig = *state;
	unsigned before;

	assert_true(deliver(rig, 100, 1) > 0);
	before = rig->irqs[0];
	for (uint64_t len = 0; len < 104; len += 8) {
		memset(rig->ram + AREA, 0, 128);
		put_dma(rig, RX, 0, VMCI_DMA_SG, 1);
		put_element(rig, RX, 0, AREA, len);
		kick(rig, RX);
		assert_int_equal(get_le32(rig->ram + RX), 1);
		assert_int_equal(rig->ram[AREA], len < 24 ? 0 : 0xff);
	}
	assert_int_equal(rig->irqs[0], before);		/* no storm */
	check_dg(receive_dma(rig), 100, 1);
}

static void test_s3_6_several_elements(void **state)
{
	struct rig *rig = *state;
	uint8_t all[256];

	assert_true(deliver(rig, 100, 1) > 0);
	assert_true(deliver(rig, 50, 2) > 0);
	put_dma(rig, RX, 0, VMCI_DMA_SG, 4);
	put_element(rig, RX, 0, 0x80000, 30);
	put_element(rig, RX, 1, 0x80ffd, 0);
	put_element(rig, RX, 2, 0x90001, 79);
	put_element(rig, RX, 3, 0xa0000, 500);
	kick(rig, RX);
	memcpy(all, rig->ram + 0x80000, 30);
	memcpy(all + 30, rig->ram + 0x90001, 79);
	memcpy(all + 109, rig->ram + 0xa0000, 147);
	check_dg(all, 100, 1);
	check_dg(all + 104, 50, 2);
	check_marker(all + 160);
}

static void test_s3_6_inline_area(void **state)
{
	struct rig *rig = *state;

	assert_true(deliver(rig, 100, 1) > 0);
	put_dma(rig, RX, 0, VMCI_DMA_INLINE, 200);
	kick(rig, RX);
	assert_int_equal(get_le32(rig->ram + RX), 1);
	check_dg(rig->ram + RX + 24, 100, 1);
	check_marker(rig->ram + RX + 24 + 104);
}

static void test_s3_6_254_elements(void **state)
{
	struct rig *rig = *state;

	assert_true(deliver(rig, 100, 1) > 0);
	put_dma(rig, RX, 0, VMCI_DMA_SG, 254);
	for (unsigned i = 0; i < 254; i++)
		put_element(rig, RX, i, 0x80000 + i, 1);
	kick(rig, RX);
	check_dg(rig->ram + 0x80000, 100, 1);
	check_marker(rig->ram + 0x80000 + 104);
}

static void test_s3_6_bad_buffers_are_completed_and_lose_nothing(void **state)
{
	static const struct {
		uint32_t opcode, size;
		uint64_t element[4];
	} bad[] = {
		{ 2, 1, { 0 } },
		{ VMCI_DMA_SG, 0, { 0 } },
		{ VMCI_DMA_SG, 255, { 0 } },
		{ VMCI_DMA_SG, 0xffffffff, { 0 } },
		{ VMCI_DMA_SG, 1, { RAM_SIZE, AREA_SIZE } },
		{ VMCI_DMA_SG, 1, { RAM_SIZE - 50, AREA_SIZE } },
		{ VMCI_DMA_SG, 1, { UINT64_MAX - 50, AREA_SIZE } },
		{ VMCI_DMA_SG, 1, { 0, UINT64_MAX } },
		{ VMCI_DMA_SG, 2, { AREA, 40, RAM_SIZE + 5, 1000 } },
		{ VMCI_DMA_SG, 2, { 0x50000, UINT64_MAX / 2 + 1, 0x50000, UINT64_MAX / 2 + 1 } },
		{ VMCI_DMA_INLINE, 0xffffffff, { 0 } },
	};
	struct rig *rig = *state;
	unsigned before;

	rig->unmapped = RAM_SIZE;
	assert_true(deliver(rig, 56, 1) > 0);
	before = rig->irqs[0];
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		uint64_t at = bad[i].opcode == VMCI_DMA_INLINE ? RAM_SIZE - 64 : RX;

		put_dma(rig, at, 0, bad[i].opcode, bad[i].size);
		if (at == RX) {
			put_element(rig, RX, 0, bad[i].element[0], bad[i].element[1]);
			put_element(rig, RX, 1, bad[i].element[2], bad[i].element[3]);
		}
		kick(rig, at);
		if (bad[i].element[1] != UINT64_MAX) {
			assert_int_equal(get_le32(rig->ram + at), 1);
			assert_int_equal(get_le64(rig->ram + at + 16),
					 (uint64_t)(int64_t)VMCI_ERROR_INVALID_ARGS);
			assert_int_equal(rig->dev->inbox.count, 1);
		} else {
			/* All of the address space may be named, if what is used of it is memory. */
			check_dg(rig->ram, 56, 1);
			assert_true(deliver(rig, 56, 1) > 0);
			before = rig->irqs[0];
		}
	}
	assert_int_equal(rig->irqs[0], before);
	assert_int_equal(rig->irqs[2], sizeof(bad) / sizeof(bad[0]));
	out32(rig, VMCI_REG_DATA_IN_HIGH, 0);
	check_dg(receive_dma(rig), 56, 1);
}

static void test_s3_6_bad_header_addresses(void **state)
{
	static const uint64_t bad[] = { RAM_SIZE, RAM_SIZE - 8, UINT64_MAX, UINT64_MAX - 3, UINT64_MAX - 23,
					UINT64_MAX - 24, UINT64_MAX - 27 };
	struct rig *rig = *state;

	assert_true(deliver(rig, 56, 1) > 0);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		kick(rig, bad[i]);
	assert_int_equal(rig->irqs[2], sizeof(bad) / sizeof(bad[0]));
	assert_int_equal(rig->dev->inbox.count, 1);
}

static void test_sB10_no_dma_without_bus_master(void **state)
{
	struct rig *rig = *state;

	set_command(rig, COMMAND_NO_MASTER);
	rig->reads = rig->writes = 0;
	put_dma(rig, RX, 0, VMCI_DMA_SG, 1);
	kick(rig, RX);
	assert_int_equal(rig->reads + rig->writes, 0);
	assert_int_equal(rig->irqs[2], 0);
	assert_int_equal(get_le32(rig->ram + RX), 0);
}

static void test_s3_6_hot_path_costs_little(void **state)
{
	struct rig *rig = *state;

	assert_true(deliver(rig, 56, 1) > 0);
	rig->reads = rig->writes = 0;
	receive_dma(rig);
	assert_int_equal(rig->reads, 2);	/* header, list */
	assert_int_equal(rig->writes, 4);	/* datagrams, marker, result, busy */
}

static void dispatch(void *ctx, const uint8_t *dg, size_t size)
{
	unsigned *next = ctx;

	if (dg_parse(dg).src.context == VMCI_CID_HOST)
		check_dg(dg, size, (*next)++);
}

static void test_s3_6_ring_wraps(void **state)
{
	struct rig *rig = *state;
	unsigned in = 0, out = 0;
	struct driver driver = { .rig = rig, .dispatch = dispatch, .ctx = &out };

	for (int round = 0; round < 60; round++) {
		for (size_t size = 24 + round; size < 20000; size += 1999)
			if (deliver(rig, size, in) > 0)
				in++;
		while (out < in)
			driver_drain_dma(&driver);
	}
	assert_true(rig->dev->inbox.head > 2 * LIMIT_INBOX_RING);
}

/* --- Limits -------------------------------------------------------------------------------- */

static int32_t deliver_event(struct rig *rig)
{
	const struct event event = { .id = VMCI_EVENT_QP_PEER_DETACH, .context = 2 };
	uint8_t buf[EVENT_MAX_SIZE];

	return dev_deliver(rig->dev, buf, event_build(buf, CID, &event));
}

static void test_s9_2_queue_stays_below_139264(void **state)
{
	struct rig *rig = *state;

	assert_int_equal(deliver(rig, VMCI_DG_MAX_SIZE, 1), VMCI_DG_MAX_SIZE);
	assert_int_equal(deliver(rig, VMCI_DG_MAX_SIZE, 2), VMCI_ERROR_NO_RESOURCES);
	assert_int_equal(deliver(rig, VMCI_DG_MAX_SIZE - 1, 3), VMCI_DG_MAX_SIZE - 1);
	assert_int_equal(deliver(rig, 24, 4), VMCI_ERROR_NO_RESOURCES);
	assert_int_equal(rig->irqs[0], 2);
	assert_int_equal(rig->lines, 2);	/* the session, and that it is full: once */
}

static void test_s9_2_limit_counts_unpadded_bytes(void **state)
{
	struct rig *rig = *state;
	unsigned n = 0;

	while (deliver(rig, 25, n) > 0)
		n++;
	assert_int_equal(n, (VMCI_DG_QUEUE_MAX - 1) / 25);
}

static void test_s9_2_events_are_never_crowded_out(void **state)
{
	struct rig *rig = *state;
	unsigned n = 0;

	while (deliver(rig, 24, 0) > 0)
		;
	while (deliver_event(rig) > 0)
		n++;
	assert_true(n >= 1023);
	assert_int_equal(deliver_event(rig), VMCI_ERROR_NO_RESOURCES);
	assert_true(rig->dev->inbox.bytes < VMCI_EVENT_QUEUE_MAX);
}

static void test_s9_2_fullest_queue_of_worst_padding_fits(void **state)
{
	struct rig *rig = *state;
	uint8_t dg[32];
	unsigned n = 0, in = 0;
	struct driver driver = { .rig = rig, .dispatch = dispatch, .ctx = &n };

	while (deliver(rig, 25, in) > 0)
		in++;
	/* From (0, 0), but no event that anybody knows: it still has the events' allowance. */
	make_dg(dg, handle_make(CID, 0), handle_make(0, 0), 25, 0);
	while (dev_deliver(rig->dev, dg, 25) > 0)
		;
	assert_true(rig->dev->inbox.tail - rig->dev->inbox.head <= LIMIT_INBOX_RING);
	while (rig->dev->inbox.count)
		driver_drain_dma(&driver);
	assert_int_equal(n, in);
}

static void test_room_again_after_a_receive(void **state)
{
	struct rig *rig = *state;

	while (deliver(rig, 1000, 0) > 0)
		;
	receive_dma(rig);
	assert_int_equal(deliver(rig, 1000, 0), 1000);
}

static void test_deliver_checks_its_arguments(void **state)
{
	struct rig *rig = *state;
	static uint8_t dg[VMCI_DG_MAX_SIZE + 8];
	const struct vmci_handle to = { CID, 1 }, from = { 2, 1 };

	make_dg(dg, to, from, 56, 1);
	assert_int_equal(dev_deliver(rig->dev, dg, 23), VMCI_ERROR_INVALID_ARGS);
	assert_int_equal(dev_deliver(rig->dev, dg, 55), VMCI_ERROR_INVALID_ARGS);
	assert_int_equal(dev_deliver(rig->dev, dg, 57), VMCI_ERROR_INVALID_ARGS);
	make_dg(dg, to, from, VMCI_DG_MAX_SIZE + 1, 1);
	assert_int_equal(dev_deliver(rig->dev, dg, VMCI_DG_MAX_SIZE + 1), VMCI_ERROR_INVALID_ARGS);
	make_dg(dg, handle_make(CID + 1, 1), from, 56, 1);
	assert_int_equal(dev_deliver(rig->dev, dg, 56), VMCI_ERROR_INVALID_ARGS);
	make_dg(dg, handle_make(CID, VMCI_INVALID_ID), from, 56, 1);	/* 3.1: would be an end marker */
	assert_int_equal(dev_deliver(rig->dev, dg, 56), VMCI_ERROR_INVALID_ARGS);
	assert_int_equal(rig->dev->inbox.count, 0);
}

static void test_deliver_needs_a_driver(void **state)
{
	struct rig *rig = *state;

	out32(rig, VMCI_REG_CONTROL, VMCI_CONTROL_RESET);
	assert_int_equal(deliver(rig, 56, 1), VMCI_ERROR_DST_UNREACHABLE);
	out32(rig, VMCI_REG_CAPS, 0x2c);
	assert_int_equal(deliver(rig, 56, 1), 56);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup_mmio, teardown)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		T(test_s3_6_empty_queue_gives_a_marker),
		T(test_s3_6_datagrams_padded_and_a_marker_behind),
		T(test_s3_6_data_then_busy_then_interrupt),
		T(test_s3_6_completed_inside_the_register_write_without_interrupts),
		T(test_s3_6_no_marker_if_less_than_24_bytes_remain),
		T(test_s3_6_nothing_is_written_behind_the_area),
		T(test_s3_6_whole_datagrams_only),
		T(test_s3_6_interrupt_again_if_datagrams_are_left),
		T(test_s3_6_area_too_small_for_anything_leaves_the_queue),
		T(test_s3_6_several_elements),
		T(test_s3_6_inline_area),
		T(test_s3_6_254_elements),
		T(test_s3_6_bad_buffers_are_completed_and_lose_nothing),
		T(test_s3_6_bad_header_addresses),
		T(test_sB10_no_dma_without_bus_master),
		T(test_s3_6_hot_path_costs_little),
		T(test_s3_6_ring_wraps),
		T(test_s9_2_queue_stays_below_139264),
		T(test_s9_2_limit_counts_unpadded_bytes),
		T(test_s9_2_events_are_never_crowded_out),
		T(test_s9_2_fullest_queue_of_worst_padding_fits),
		T(test_room_again_after_a_receive),
		T(test_deliver_checks_its_arguments),
		T(test_deliver_needs_a_driver),
	};

	return cmocka_run_group_tests_name("device receive", tests, NULL, NULL);
}
