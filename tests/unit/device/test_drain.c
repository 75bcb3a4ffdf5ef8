/* SPDX-License-Identifier: BSD-2-Clause */
/* Reading through the ports: VMCI reference, 3.5. The driver's algorithm is the oracle: driver.c. */
#include "driver.h"

/* What was delivered and not yet dispatched: sizes and seeds, in order. */
struct expected {
	struct driver driver;
	size_t size[8192];
	unsigned seed[8192];
	unsigned in, out;
	bool during;		/* deliver more while draining */
	unsigned random;
};

static unsigned next_random(struct expected *e)
{
	e->random = e->random * 1103515245u + 12345u;
	return e->random >> 8;
}

static bool give(struct expected *e, size_t size)
{
	unsigned seed = e->in;

	if (deliver(e->driver.rig, size, seed) < 0)
		return false;
	assert_true(e->in < 8192);
	e->size[e->in] = size;
	e->seed[e->in++] = seed;
	return true;
}

static size_t random_size(struct expected *e)
{
	static const size_t edge[] = { 24,    25,    31,    32,	   48,	  56,	 4048, 4064,
				       4072,  4073,  4080,  4088,  4096,  4097,	 4104, 8192,
				       65536, 69600, 69608, 69609, 69624, 69625, 69632 };
	unsigned kind = next_random(e) % 8;

	if (kind == 0)
		return edge[next_random(e) % (sizeof(edge) / sizeof(edge[0]))];
	if (kind == 1)
		return 24 + next_random(e) % (VMCI_DG_MAX_SIZE - 23);
	if (kind < 4)
		return 24 + next_random(e) % 5000;
	return 24 + next_random(e) % 200;
}

static void dispatch(void *ctx, const uint8_t *dg, size_t size)
{
	struct expected *e = ctx;

	assert_true(e->out < e->in);
	assert_int_equal(size, e->size[e->out]);
	check_dg(dg, size, e->seed[e->out]);
	e->out++;
	if (e->during && next_random(e) % 3 == 0)
		give(e, random_size(e));
}

static struct expected *expect(struct rig *rig)
{
	static struct expected e;

	memset(&e, 0, sizeof(e));
	e.driver = (struct driver){ .rig = rig, .dispatch = dispatch, .ctx = &e };
	return &e;
}

/* Drain for as long as there are interrupts, as a guest does. Return: number of drains */
static unsigned drain_all(struct expected *e)
{
	struct rig *rig = e->driver.rig;
	unsigned drains = 0, handled = 0;

	while (rig->irqs[0] != handled) {
		handled = rig->irqs[0];
		driver_drain_ports(&e->driver);
		assert_int_equal(rig->dev->carry->drain.pos, 0);	/* we agree that it is over */
		assert_int_equal(rig->dev->carry->drain.size, DRAIN_SMALL);
		assert_true(drains++ < 1000);
	}
	assert_int_equal(e->out, e->in);
	assert_int_equal(rig->dev->inbox.count, 0);
	return drains;
}

static void test_s3_5_empty_queue_reads_one_burst_of_ff(void **state)
{
	struct rig *rig = *state;
	struct expected *e = expect(rig);

	for (int i = 0; i < 3; i++)
		driver_drain_ports(&e->driver);
	assert_int_equal(e->driver.bytes, 3 * 4096);
	for (size_t i = 0; i < 4096; i++)
		assert_int_equal(e->driver.buffer[i], 0xff);
	assert_int_equal(rig->irqs[0], 0);
}

static void test_s3_5_one_small_datagram_takes_4096_bytes(void **state)
{
	struct expected *e = expect(*state);

	assert_true(give(e, 56));
	assert_int_equal(drain_all(e), 1);
	assert_int_equal(e->driver.bytes, 4096);
	for (size_t i = 56; i < 4096; i++)
		assert_int_equal(e->driver.buffer[i], 0xff);
}

static void test_s3_5_datagrams_are_coalesced(void **state)
{
	struct expected *e = expect(*state);

	for (int i = 0; i < 72; i++)
		assert_true(give(e, 56));
	driver_drain_ports(&e->driver);
	assert_int_equal(e->driver.bytes, 4096);	/* 72 * 56 = 4032: 64 bytes of filler */
	assert_int_equal(e->out, 72);
}

static void test_s3_5_datagrams_are_padded_to_8_with_zeroes(void **state)
{
	struct expected *e = expect(*state);

	for (size_t size = 24; size < 80; size++)
		assert_true(give(e, size));
	drain_all(e);		/* dispatch() looks at the padding */
}

static void test_s3_5_fill_below_24_reads_another_burst(void **state)
{
	struct rig *rig = *state;

	for (size_t fill = 0; fill <= 40; fill += 8) {
		struct expected *e = expect(rig);

		assert_true(give(e, 4096 - fill));
		driver_drain_ports(&e->driver);
		assert_int_equal(e->driver.bytes, fill < 24 ? 8192 : 4096);
		assert_int_equal(rig->dev->carry->drain.pos, 0);
	}
}

static void test_s3_5_second_burst_of_a_drain_carries_what_came_meanwhile(void **state)
{
	struct expected *e = expect(*state);

	assert_true(give(e, 4088));
	assert_true(give(e, 4080));
	assert_true(give(e, 40));
	driver_drain_ports(&e->driver);
	assert_int_equal(e->out, 3);
	assert_int_equal(e->driver.bytes, 3 * 4096);
}

static void test_s3_5_datagram_of_one_page(void **state)
{
	struct expected *e = expect(*state);

	assert_true(give(e, 4096));
	assert_int_equal(drain_all(e), 1);
	assert_int_equal(e->driver.bytes, 8192);
}

static void test_s3_5_large_datagram_turns_the_burst_into_a_large_one(void **state)
{
	struct expected *e = expect(*state);

	assert_true(give(e, 4097));
	assert_int_equal(drain_all(e), 1);
	assert_int_equal(e->driver.bytes, 69632);
	assert_int_equal(e->driver.bursts, 2);	/* 4096, then 65536 more */
}

static void test_s3_5_largest_datagram_fills_a_large_burst(void **state)
{
	struct expected *e = expect(*state);

	assert_true(give(e, 69632));
	assert_int_equal(drain_all(e), 1);
	/* Nothing was left of the burst, so there was another of the same size. */
	assert_int_equal(e->driver.bytes, 2 * 69632);
}

static void test_s3_5_large_burst_carries_more_whole_datagrams(void **state)
{
	struct expected *e = expect(*state);

	assert_true(give(e, 60000));
	for (int i = 0; i < 20; i++)
		assert_true(give(e, 400));
	assert_int_equal(drain_all(e), 1);
	assert_int_equal(e->driver.bytes, 69632);
}

static void test_s3_5_large_datagram_is_only_the_first_of_a_burst(void **state)
{
	struct rig *rig = *state;
	struct expected *e = expect(rig);

	assert_true(give(e, 56));
	assert_true(give(e, 5000));
	assert_true(give(e, 56));
	driver_drain_ports(&e->driver);
	assert_int_equal(e->out, 1);
	assert_int_equal(e->driver.bytes, 4096);
	driver_drain_ports(&e->driver);
	assert_int_equal(e->out, 3);
}

static void test_s3_5_bursts_stay_large_for_the_rest_of_a_drain(void **state)
{
	struct expected *e = expect(*state);

	assert_true(give(e, 69624));	/* 8 bytes left: another burst, large */
	assert_true(give(e, 69000));
	assert_int_equal(drain_all(e), 1);
	assert_int_equal(e->driver.bytes, 2 * 69632);
	assert_true(give(e, 56));	/* the next drain begins small */
	e->driver.bytes = 0;
	driver_drain_ports(&e->driver);
	assert_int_equal(e->driver.bytes, 4096);
}

static void test_s3_5_interrupt_again_if_datagrams_are_left_after_a_drain(void **state)
{
	struct rig *rig = *state;
	struct expected *e = expect(rig);
	unsigned before;

	for (int i = 0; i < 100; i++)
		assert_true(give(e, 96));
	for (unsigned drained = 42; drained < 100; drained += 42) {
		before = rig->irqs[0];
		driver_drain_ports(&e->driver);
		assert_int_equal(e->out, drained);	/* 42 * 96 leaves 64 bytes */
		assert_int_equal(rig->irqs[0], before + 1);
	}
	before = rig->irqs[0];
	driver_drain_ports(&e->driver);
	assert_int_equal(e->out, 100);
	assert_int_equal(rig->irqs[0], before);
}

static void test_s3_5_interrupt_only_when_the_last_byte_of_the_drain_is_read(void **state)
{
	struct rig *rig = *state;
	struct expected *e = expect(rig);
	unsigned before;

	for (int i = 0; i < 50; i++)
		assert_true(give(e, 100));
	before = rig->irqs[0];
	for (int i = 0; i < 4095; i++)
		inb(rig, VMCI_REG_DATA_IN);
	assert_int_equal(rig->irqs[0], before);
	inb(rig, VMCI_REG_DATA_IN);
	assert_int_equal(rig->irqs[0], before + 1);
}

static void test_s3_5_arrival_after_filler_began_waits_for_the_next_burst(void **state)
{
	struct rig *rig = *state;
	struct expected *e = expect(rig);
	unsigned before;

	assert_true(give(e, 56));
	for (int i = 0; i < 100; i++)
		inb(rig, VMCI_REG_DATA_IN);
	assert_true(give(e, 56));
	before = rig->irqs[0];
	for (int i = 100; i < 4096; i++)
		assert_int_equal(inb(rig, VMCI_REG_DATA_IN), 0xff);
	assert_int_equal(rig->irqs[0], before + 1);
	e->out = 1;
	driver_drain_ports(&e->driver);
	assert_int_equal(e->out, 2);
}

static void test_s3_5_random_mixes(void **state)
{
	struct rig *rig = *state;
	struct expected *e = expect(rig);

	e->random = 1;
	for (int round = 0; round < 150; round++) {
		unsigned n = next_random(e) % 40;
		unsigned seed = e->random;

		e = expect(rig);
		e->random = seed;
		while (n-- && give(e, random_size(e)))
			;
		drain_all(e);
	}
}

static void test_s3_5_random_mixes_with_arrivals_during_the_drain(void **state)
{
	struct rig *rig = *state;
	struct expected *e = expect(rig);

	e->random = 2;
	for (int round = 0; round < 100; round++) {
		unsigned n = next_random(e) % 20;
		unsigned seed = e->random;

		e = expect(rig);
		e->random = seed;
		e->during = true;
		while (n-- && give(e, random_size(e)))
			;
		drain_all(e);
	}
}

static void test_s3_5_every_size_around_the_edges(void **state)
{
	struct rig *rig = *state;
	static const size_t around[] = { 4096, 8192, 69632 };

	for (size_t i = 0; i < 3; i++)
		for (size_t size = around[i] - 40; size <= around[i] + 40 && size <= VMCI_DG_MAX_SIZE;
		     size++) {
			struct expected *e = expect(rig);

			assert_true(give(e, 24 + size % 64));
			assert_true(give(e, size));
			assert_true(give(e, 56));
			drain_all(e);
		}
}

static void test_s2_3_reset_in_the_middle_of_a_burst(void **state)
{
	struct rig *rig = *state;
	struct expected *e = expect(rig);

	for (size_t n = 1; n < 4096; n = n * 3 + 1) {
		assert_true(deliver(rig, 3000, 1) > 0);
		for (size_t i = 0; i < n; i++)
			inb(rig, VMCI_REG_DATA_IN);
		out32(rig, VMCI_REG_CONTROL, VMCI_CONTROL_RESET);
		rig_probe(rig);
		e = expect(rig);
		assert_true(give(e, 56));
		driver_drain_ports(&e->driver);
		assert_int_equal(e->out, 1);
		assert_int_equal(e->driver.bytes, 4096);
	}
}

static void test_drained_means_read_to_the_last_byte(void **state)
{
	struct rig *rig = *state;

	assert_true(dev_is_drained(rig->dev));
	assert_int_equal(deliver(rig, 56, 1), 56);
	for (int i = 0; i < 56; i++) {
		assert_false(dev_is_drained(rig->dev));
		inb(rig, VMCI_REG_DATA_IN);
	}
	assert_true(dev_is_drained(rig->dev));
	inb(rig, VMCI_REG_DATA_IN);
	assert_true(dev_is_drained(rig->dev));
	assert_int_equal(deliver(rig, 56, 1), 56);
	out32(rig, VMCI_REG_CONTROL, VMCI_CONTROL_RESET);
	assert_true(dev_is_drained(rig->dev));
}

static void test_dma_receive_in_the_middle_of_a_burst_takes_only_what_is_queued(void **state)
{
	struct rig *rig = *state;
	struct expected *e = expect(rig);

	assert_true(give(e, 56));
	inb(rig, VMCI_REG_DATA_IN);
	assert_true(give(e, 64));
	out32(rig, VMCI_REG_IMR, 0x7);
	rig->mmio = true;
	check_dg(receive_dma(rig), 64, 1);
	rig->mmio = false;
	for (int i = 1; i < 4096; i++)
		inb(rig, VMCI_REG_DATA_IN);
	assert_int_equal(rig->dev->carry->drain.pos, 0);
	assert_int_equal(rig->dev->inbox.count, 0);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup_ports, teardown)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		T(test_s3_5_empty_queue_reads_one_burst_of_ff),
		T(test_s3_5_one_small_datagram_takes_4096_bytes),
		T(test_s3_5_datagrams_are_coalesced),
		T(test_s3_5_datagrams_are_padded_to_8_with_zeroes),
		T(test_s3_5_fill_below_24_reads_another_burst),
		T(test_s3_5_second_burst_of_a_drain_carries_what_came_meanwhile),
		T(test_s3_5_datagram_of_one_page),
		T(test_s3_5_large_datagram_turns_the_burst_into_a_large_one),
		T(test_s3_5_largest_datagram_fills_a_large_burst),
		T(test_s3_5_large_burst_carries_more_whole_datagrams),
		T(test_s3_5_large_datagram_is_only_the_first_of_a_burst),
		T(test_s3_5_bursts_stay_large_for_the_rest_of_a_drain),
		T(test_s3_5_interrupt_again_if_datagrams_are_left_after_a_drain),
		T(test_s3_5_interrupt_only_when_the_last_byte_of_the_drain_is_read),
		T(test_s3_5_arrival_after_filler_began_waits_for_the_next_burst),
		T(test_s3_5_random_mixes),
		T(test_s3_5_random_mixes_with_arrivals_during_the_drain),
		T(test_s3_5_every_size_around_the_edges),
		T(test_s2_3_reset_in_the_middle_of_a_burst),
		T(test_drained_means_read_to_the_last_byte),
		T(test_dma_receive_in_the_middle_of_a_burst_takes_only_what_is_queued),
	};

	return cmocka_run_group_tests_name("device drain", tests, NULL, NULL);
}
