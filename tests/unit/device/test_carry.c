/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A second device goes on for one whose process has ended, in the middle of what a driver does over the ports:
 * dev_adopt(). VMCI reference, 3.2 and 3.5; the driver's algorithm is the oracle.
 */
#include "device/carry.h"
#include "driver.h"

#define NEVER SIZE_MAX

/**
 * struct change - a driver that reads, and whose device is changed meanwhile
 * @first, @second: the devices
 * @at:             bytes read when the first one ends
 * @tell_at:        bytes read when the second one tells of the loss
 * @sizes:          what was delivered before, @n of them
 * @out:            how many of these were dispatched
 * @resumed:        QP_RESUMED events that were dispatched
 */
struct change {
	struct driver driver;
	struct rig *first, *second;
	size_t at, tell_at;
	size_t sizes[128];
	unsigned n, out, resumed;
};

static struct change c;

static void before(void *ctx)
{
	(void)ctx;
	if (c.driver.bytes == c.at) {
		dev_adopt(c.second->dev, c.first->dev->carry, false);
		c.driver.rig = c.second;
	}
	if (c.driver.bytes == c.tell_at)
		dev_void_pairs(c.second->dev);
}

static void dispatch(void *ctx, const uint8_t *dg, size_t size)
{
	struct event event;

	(void)ctx;

	if (get_le32(dg + 8) == VMCI_CID_HYPERVISOR) {
		assert_int_equal(event_parse(dg, size, &event), 0);
		assert_int_equal(event.id, VMCI_EVENT_QP_RESUMED);
		c.resumed++;
		return;
	}
	assert_true(c.out < c.n);
	assert_int_equal(size, c.sizes[c.out]);
	check_dg(dg, size, c.out);
	c.out++;
}

static int open_both(void **state)
{
	(void)state;
	c.first = rig_open_ports();
	c.second = rig_open_ports();
	return 0;
}

static int close_both(void **state)
{
	(void)state;
	rig_free(c.first);
	rig_free(c.second);
	return 0;
}

/* A driver that has just loaded, on both. */
static void begin(size_t at, size_t tell_at)
{
	rig_probe(c.first);
	rig_probe(c.second);
	c.second->irqs[0] = 0;
	memset(&c.driver, 0, offsetof(struct driver, buffer));
	c.driver.rig = c.first;
	c.driver.dispatch = dispatch;
	c.driver.before = before;
	c.at = at;
	c.tell_at = tell_at;
	c.n = c.out = c.resumed = 0;
}

/*
 * The driver drains: the first device ends after @at bytes, the second one tells of it after @tell_at bytes, or when
 * the drain is over. It must never see anything but whole datagrams, and must hear of the loss.
 */
static size_t drain(const size_t *sizes, unsigned n, size_t at, size_t tell_at)
{
	unsigned irqs;
	size_t bytes;

	begin(at, tell_at);
	for (c.n = 0; c.n < n; c.n++) {
		c.sizes[c.n] = sizes[c.n];
		assert_true(deliver(c.first, sizes[c.n], c.n) > 0);
	}
	driver_drain_ports(&c.driver);
	bytes = c.driver.bytes;
	if (at == NEVER) {
		assert_int_equal(c.out, n);
	} else if (c.driver.rig == c.second) {
		if (tell_at >= bytes)
			dev_void_pairs(c.second->dev);
		c.tell_at = NEVER;
		/* A driver drains for each interrupt. */
		for (irqs = 0; irqs != c.second->irqs[0];) {
			irqs = c.second->irqs[0];
			driver_drain_ports(&c.driver);
		}
		assert_int_equal(c.resumed, 1);
		assert_true(dev_is_drained(c.second->dev));
	}
	return bytes;
}

/* At each byte that matters: also between those of a header, where a half one would declare an absurd size */
static void at_each_byte(const size_t *sizes, unsigned n)
{
	size_t bytes = drain(sizes, n, NEVER, NEVER);

	for (size_t at = 0; at < bytes; at += at < 400 || (at > 4060 && at < 4140) || bytes - at < 60 ? 1 : 61) {
		drain(sizes, n, at, NEVER);
		if (at % 7 == 0) {
			drain(sizes, n, at, at);
			drain(sizes, n, at, at + 30);
			drain(sizes, n, at, at + 4000);
		}
	}
}

static void test_s3_5_burst_of_small_datagrams(void **state)
{
	size_t sizes[72];

	(void)state;
	for (unsigned i = 0; i < 72; i++)
		sizes[i] = 56;
	at_each_byte(sizes, 72);
}

static void test_s3_5_burst_that_is_nearly_empty(void **state)
{
	(void)state;
	at_each_byte((size_t[]){ 56, 56, 48 }, 3);
}

static void test_s3_5_burst_that_another_follows(void **state)
{
	(void)state;
	at_each_byte((size_t[]){ 4088, 56 }, 2);
}

static void test_s3_5_burst_that_grows(void **state)
{
	(void)state;
	at_each_byte((size_t[]){ 5000, 56 }, 2);
}

/* What was queued and had not been taken into a burst is lost, and nothing else is */
static void test_only_what_was_queued_is_lost(void **state)
{
	(void)state;
	begin(100, NEVER);
	for (c.n = 0; c.n < 80; c.n++) {
		c.sizes[c.n] = 56;
		assert_int_equal(deliver(c.first, 56, c.n), 56);
	}
	driver_drain_ports(&c.driver);
	assert_int_equal(c.out, 73);		/* 73 * 56 = 4088: the driver reads on at once, and finds nothing */
	assert_int_equal(c.driver.bytes, 2 * 4096);
}

/* The first process ended between two stores: see drain.c */
static void test_ends_between_two_stores(void **state)
{
	struct rig *rig = *state;
	struct dev_carry left = { .drain.size = DRAIN_SMALL, .drain.length = DRAIN_LARGE, .drain.data = 5000 };
	const struct dev_drain *drain = &rig->dev->carry->drain;

	/* A large burst that had not begun: the driver reads 4096 bytes, and knows nothing of a large datagram */
	dev_adopt(rig->dev, &left, false);
	for (int i = 0; i < 4096; i++)
		assert_int_equal(inb(rig, VMCI_REG_DATA_IN), 0xff);
	assert_int_equal(drain->pos, 0);

	/* The end of a burst: once, or twice */
	left.drain = (struct dev_drain){ .size = DRAIN_SMALL, .length = DRAIN_SMALL, .data = 56, .pos = 4096, .begun = 1 };
	dev_adopt(rig->dev, &left, false);
	assert_int_equal(drain->begun, 0);
	assert_int_equal(drain->pos, 0);
	assert_int_equal(drain->size, DRAIN_SMALL);
	left.drain = (struct dev_drain){ .size = DRAIN_SMALL, .length = DRAIN_LARGE, .data = DRAIN_LARGE - 8,
					 .pos = DRAIN_LARGE, .begun = 1 };
	dev_adopt(rig->dev, &left, false);
	assert_int_equal(drain->begun, 0);
	assert_int_equal(drain->size, DRAIN_LARGE);
	left.drain.begun = 0;
	dev_adopt(rig->dev, &left, false);
	assert_int_equal(drain->pos, 0);
}

/* What is left by a process that a guest has taken over may be anything */
static void test_what_is_left_is_nonsense(void **state)
{
	struct rig *rig = *state;
	static const struct dev_drain nonsense[] = {
		{ .size = 17 },
		{ .size = SIZE_MAX, .length = SIZE_MAX, .data = SIZE_MAX, .pos = SIZE_MAX - 1, .begun = 1 },
		{ .size = DRAIN_SMALL, .length = DRAIN_SMALL, .data = 4097, .begun = 1 },
		{ .size = DRAIN_SMALL, .length = DRAIN_LARGE, .pos = DRAIN_LARGE + 1, .begun = 2 },
		{ .size = DRAIN_LARGE, .length = 0, .begun = 1 },
	};
	struct dev_carry left = { 0 };
	uint8_t byte;

	for (size_t i = 0; i < sizeof(nonsense) / sizeof(nonsense[0]); i++) {
		left.drain = nonsense[i];
		dev_carry_taken(&left, SIZE_MAX - 2, &byte);
		dev_carry_taken(&left, DRAIN_LARGE, &byte);
		dev_adopt(rig->dev, &left, false);
		for (int j = 0; j < 4096; j++)
			assert_int_equal(inb(rig, VMCI_REG_DATA_IN), 0xff);
		assert_int_equal(rig->dev->carry->drain.pos, 0);
	}
}

static void test_was_a_byte_taken(void **state)
{
	struct rig *rig = *state;
	const struct dev_carry *left = rig->dev->carry;
	uint8_t byte = 0, read;
	size_t pos;

	assert_int_equal(deliver(rig, 4096, 3), 4096);
	for (int i = 0; i < 2 * 4096; i++) {
		pos = left->drain.pos;
		assert_false(dev_carry_taken(left, pos, &byte));
		read = inb(rig, VMCI_REG_DATA_IN);
		assert_true(dev_carry_taken(left, pos, &byte));
		assert_int_equal(byte, read);
	}
}

/* Reference, 3.2: the rest of a datagram is none, whatever it looks like; its result is a success */
static void test_s3_2_datagram_that_was_cut(void **state)
{
	struct rig *rig = *state;
	const struct vmci_handle dst = { VMCI_CID_HOST, 5 }, src = { CID, 1024 };
	uint8_t dg[96];

	for (size_t cut = 0; cut < sizeof(dg); cut++) {
		struct rig *first = rig_open_ports();
		unsigned datagrams = rig->datagrams;

		make_dg(dg, dst, src, sizeof(dg), 1);
		memset(dg + 24, 0, sizeof(dg) - 24);	/* looks like headers */
		for (size_t i = 0; i < cut; i++)
			outb(first, VMCI_REG_DATA_OUT, dg[i]);
		/* The write of the next byte was under way */
		dev_adopt(rig->dev, first->dev->carry, cut == 0);
		for (size_t i = cut; i < sizeof(dg); i++)
			outb(rig, VMCI_REG_DATA_OUT, dg[i]);
		assert_int_equal(in32(rig, VMCI_REG_RESULT_LOW), VMCI_SUCCESS);
		assert_int_equal(rig->datagrams, datagrams);
		/* The next one is whole */
		assert_int_equal(send_ports(rig, dg, sizeof(dg)), sizeof(dg));
		assert_int_equal(rig->datagrams, datagrams + 1);
		rig_free(first);
	}
}

static void test_no_driver_nothing_to_go_on_with(void **state)
{
	struct rig *rig = *state, *first = rig_open_ports();

	out32(rig, VMCI_REG_CONTROL, VMCI_CONTROL_RESET);
	assert_int_equal(deliver(first, 56, 1), 56);
	inb(first, VMCI_REG_DATA_IN);
	dev_adopt(rig->dev, first->dev->carry, true);
	assert_int_equal(rig->dev->carry->drain.pos, 0);
	rig_probe(rig);
	assert_int_equal(inb(rig, VMCI_REG_DATA_IN), 0xff);
	rig_free(first);
}

static void test_let_go(void **state)
{
	struct rig *rig = *state;
	static struct dev_carry carry;

	memset(&carry, 0, sizeof(carry));
	rig->dev->carry = &carry;
	dev_driver_reset(rig->dev);
	rig_probe(rig);
	assert_int_equal(deliver(rig, 56, 1), 56);
	inb(rig, VMCI_REG_DATA_IN);
	dev_let_go(rig->dev);
	dev_reset(rig->dev);
	assert_int_equal(carry.drain.begun, 1);
	assert_int_equal(carry.drain.pos, 1);
	assert_int_equal(carry.drain.data, 56);
}

#define TWO(f) cmocka_unit_test_setup_teardown(f, open_both, close_both)
#define T(f) cmocka_unit_test_setup_teardown(f, setup_ports, teardown)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		TWO(test_s3_5_burst_of_small_datagrams),
		TWO(test_s3_5_burst_that_is_nearly_empty),
		TWO(test_s3_5_burst_that_another_follows),
		TWO(test_s3_5_burst_that_grows),
		TWO(test_only_what_was_queued_is_lost),
		T(test_ends_between_two_stores),
		T(test_what_is_left_is_nonsense),
		T(test_was_a_byte_taken),
		T(test_s3_2_datagram_that_was_cut),
		T(test_no_driver_nothing_to_go_on_with),
		T(test_let_go),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
