/* SPDX-License-Identifier: BSD-2-Clause */
/* The register file: VMCI reference, 2 and 2.1; odd accesses as regs.c defines them. */
#include "rig.h"

static void read_at(struct rig *rig, uint32_t reg, void *buf, size_t len)
{
	dev_bar_read(rig->dev, 1, MMIO(reg), buf, len);
}

static void write_at(struct rig *rig, uint32_t reg, const void *buf, size_t len)
{
	dev_bar_write(rig->dev, 1, MMIO(reg), buf, len);
}

static void test_s2_1_capabilities_offered(void **state)
{
	const struct dev_config classic = { .cid = CID, .classic = true };
	struct rig *rig = *state;
	struct rig *old = rig_new(&classic);

	assert_int_equal(in32(rig, VMCI_REG_CAPS), 0x2c);
	assert_int_equal(in32(old, VMCI_REG_CAPS), 0x0c);
	rig_free(old);
}

static void test_s2_1_capabilities_read_the_same_after_writing(void **state)
{
	struct rig *rig = *state;

	out32(rig, VMCI_REG_CAPS, 0x4);
	assert_int_equal(in32(rig, VMCI_REG_CAPS), 0x2c);
}

static void test_s2_1_unoffered_capabilities_are_not_acknowledged(void **state)
{
	struct rig *rig = *state;

	out32(rig, VMCI_REG_CAPS, 0xffffffff);
	assert_int_equal(rig->dev->acked, 0x2c);
}

static bool usable(void *ctx)
{
	return ((struct rig *)ctx)->unmapped == 0;
}

static void test_s2_2_no_capability_is_shown_for_memory_that_cannot_be_reached(void **state)
{
	struct rig *rig = *state;

	rig->dev->ports.mem_is_usable = usable;
	assert_int_equal(in32(rig, VMCI_REG_CAPS), 0x2c);
	rig->unmapped = 1;
	assert_int_equal(in32(rig, VMCI_REG_CAPS), 0);
	rig->unmapped = 0;
	assert_int_equal(in32(rig, VMCI_REG_CAPS), 0x2c);
}

static void test_s2_same_registers_over_ports_and_mmio(void **state)
{
	struct rig *rig = *state;

	out32(rig, VMCI_REG_IMR, 0x3);
	rig->mmio = false;
	assert_int_equal(in32(rig, VMCI_REG_IMR), 0x3);
	out32(rig, VMCI_REG_IMR, 0x1);
	rig->mmio = true;
	assert_int_equal(in32(rig, VMCI_REG_IMR), 0x1);
}

static void test_s2_status_shows_interrupts_on(void **state)
{
	struct rig *rig = *state;

	assert_int_equal(in32(rig, VMCI_REG_STATUS), 0);
	out32(rig, VMCI_REG_CONTROL, VMCI_CONTROL_INT_ENABLE);
	assert_int_equal(in32(rig, VMCI_REG_STATUS), VMCI_STATUS_INT_ON);
	out32(rig, VMCI_REG_CONTROL, VMCI_CONTROL_INT_DISABLE);
	assert_int_equal(in32(rig, VMCI_REG_STATUS), 0);
}

static void test_s2_result_low_is_not_destructive(void **state)
{
	struct rig *rig = *state;
	uint8_t buf[HC_WORD_SIZE];

	rig_probe(rig);
	send_dma(rig, buf, hc_empty_build(buf, VMCI_HC_GET_CONTEXT_ID));
	for (int i = 0; i < 3; i++)
		assert_int_equal(in32(rig, VMCI_REG_RESULT_LOW), CID);
	assert_int_equal(in32(rig, VMCI_REG_RESULT_HIGH), 0);
}

static void test_s2_result_high_is_the_sign_extension(void **state)
{
	struct rig *rig = *state;
	uint8_t buf[HC_WORD_SIZE];

	rig_probe(rig);
	send_dma(rig, buf, hc_empty_build(buf, VMCI_HC_STREAM));
	assert_int_equal((int32_t)in32(rig, VMCI_REG_RESULT_LOW), VMCI_ERROR_INVALID_RESOURCE);
	assert_int_equal(in32(rig, VMCI_REG_RESULT_HIGH), 0xffffffff);
}

static void test_s2_page_shift_is_validated(void **state)
{
	static const struct {
		uint32_t write, read;
	} shift[] = { { 14, 14 }, { 16, 16 }, { 13, 12 }, { 12, 12 },	     { 16, 16 },
		      { 0, 12 },  { 16, 16 }, { 64, 12 }, { 0xffffffff, 12 } };
	struct rig *rig = *state;

	assert_int_equal(in32(rig, VMCI_REG_PAGE_SHIFT), 12);
	for (size_t i = 0; i < sizeof(shift) / sizeof(shift[0]); i++) {
		out32(rig, VMCI_REG_PAGE_SHIFT, shift[i].write);
		assert_int_equal(in32(rig, VMCI_REG_PAGE_SHIFT), shift[i].read);
	}
	assert_int_equal(rig->lines, 1);
}

static void test_s2_classic_device_has_no_dma_registers(void **state)
{
	const struct dev_config classic = { .cid = CID, .classic = true };
	struct rig *rig = rig_new(&classic);

	(void)state;
	out32(rig, VMCI_REG_CAPS, 0x0c);
	out32(rig, VMCI_REG_DATA_OUT_HIGH, 1);
	out32(rig, VMCI_REG_PAGE_SHIFT, 16);
	out32(rig, VMCI_REG_DATA_OUT_LOW, TX);
	out32(rig, VMCI_REG_DATA_IN_LOW, RX);
	for (uint32_t reg = VMCI_REG_DATA_OUT_LOW; reg < 0x40; reg += 4)
		assert_int_equal(in32(rig, reg), 0);
	assert_int_equal(rig->reads + rig->writes, 0);
	assert_int_equal(rig->dev->page_shift, 12);
	rig_free(rig);
}

static void test_bar1_of_classic_device_has_no_registers(void **state)
{
	const struct dev_config classic = { .cid = CID, .classic = true };
	struct rig *rig = rig_new(&classic);
	uint8_t buf[64];

	(void)state;
	memset(buf, 0xff, sizeof(buf));
	dev_bar_write(rig->dev, 1, 0, buf, sizeof(buf));
	dev_bar_read(rig->dev, 1, 0, buf, sizeof(buf));
	for (size_t i = 0; i < sizeof(buf); i++)
		assert_int_equal(buf[i], 0);
	assert_int_equal(rig->dev->acked, 0);
	rig_free(rig);
}

static void test_unknown_registers_read_zero_and_swallow(void **state)
{
	struct rig *rig = *state;
	uint8_t before[64], after[64], ones[8];

	memset(ones, 0xff, sizeof(ones));
	read_at(rig, 0, before, 0x10);
	for (uint64_t off = MMIO(0x38); off < 0x40000; off += off < MMIO(0x100) ? 4 : 4096) {
		uint8_t buf[4] = { 1, 1, 1, 1 };

		dev_bar_write(rig->dev, 1, off, ones, 4);
		dev_bar_read(rig->dev, 1, off, buf, 4);
		assert_int_equal(get_le32(buf), 0);
	}
	for (unsigned bar = 2; bar < 8; bar++) {
		dev_bar_write(rig->dev, bar, 0, ones, 8);
		dev_bar_read(rig->dev, bar, 0, after, 8);
		assert_int_equal(get_le64(after), 0);
	}
	read_at(rig, 0, after, 0x10);
	assert_memory_equal(before, after, 0x10);
}

static void test_s1_2_registers_do_not_show_in_front_of_or_behind_their_window(void **state)
{
	struct rig *rig = *state;
	uint8_t buf[4];

	dev_bar_read(rig->dev, 1, VMCI_REG_CAPS, buf, 4);
	assert_int_equal(get_le32(buf), 0);
	dev_bar_read(rig->dev, 1, VMCI_MMIO_REGS_OFFSET + VMCI_MMIO_REGS_SIZE + VMCI_REG_CAPS, buf, 4);
	assert_int_equal(get_le32(buf), 0);
	dev_bar_write(rig->dev, 1, VMCI_REG_CAPS, "\x04\0\0\0", 4);
	assert_int_equal(rig->dev->acked, 0);
}

static void test_access_that_reaches_into_the_window(void **state)
{
	struct rig *rig = *state;
	uint8_t buf[8 + 0x40];

	memset(buf, 0, sizeof(buf));
	buf[8 + VMCI_REG_IMR] = 5;
	dev_bar_write(rig->dev, 1, VMCI_MMIO_REGS_OFFSET - 8, buf, 8 + VMCI_REG_IMR + 4);
	assert_int_equal(in32(rig, VMCI_REG_IMR), 5);
	dev_bar_read(rig->dev, 1, VMCI_MMIO_REGS_OFFSET - 8, buf, sizeof(buf));
	assert_int_equal(get_le64(buf), 0);
	assert_int_equal(get_le32(buf + 8 + VMCI_REG_IMR), 5);
	assert_int_equal(get_le32(buf + 8 + VMCI_REG_CAPS), 0x2c);
}

static void test_narrow_reads_return_their_bytes(void **state)
{
	struct rig *rig = *state;
	uint8_t buf[4];

	out32(rig, VMCI_REG_DATA_IN_HIGH, 0x44332211);
	for (unsigned sub = 0; sub < 4; sub++)
		for (size_t len = 1; len <= 4 - sub; len++) {
			read_at(rig, VMCI_REG_DATA_IN_HIGH + sub, buf, len);
			for (size_t i = 0; i < len; i++)
				assert_int_equal(buf[i], 0x11 * (sub + i + 1));
		}
}

static void test_wide_and_unaligned_reads_are_cut_at_registers(void **state)
{
	struct rig *rig = *state;
	uint8_t buf[8];

	out32(rig, VMCI_REG_DATA_OUT_HIGH, 0x44332211);
	out32(rig, VMCI_REG_DATA_IN_HIGH, 0x88776655);
	read_at(rig, VMCI_REG_DATA_OUT_HIGH, buf, 8);
	assert_int_equal(get_le64(buf), 0x44332211);
	read_at(rig, VMCI_REG_DATA_IN_HIGH - 2, buf, 4);
	assert_int_equal(get_le32(buf), 0x66550000);
	read_at(rig, VMCI_REG_DATA_IN_HIGH, buf, 8);
	assert_int_equal(get_le64(buf), 0x0000000c88776655u);
}

static void test_narrow_write_counts_missing_bytes_as_zero(void **state)
{
	struct rig *rig = *state;

	out32(rig, VMCI_REG_DATA_IN_HIGH, 0xffffffff);
	write_at(rig, VMCI_REG_DATA_IN_HIGH, "\x11", 1);
	assert_int_equal(in32(rig, VMCI_REG_DATA_IN_HIGH), 0x11);
	write_at(rig, VMCI_REG_DATA_IN_HIGH, "\x11\x22\x33", 3);
	assert_int_equal(in32(rig, VMCI_REG_DATA_IN_HIGH), 0x332211);
}

static void test_write_without_lowest_byte_is_swallowed(void **state)
{
	struct rig *rig = *state;

	out32(rig, VMCI_REG_DATA_IN_HIGH, 0x12345678);
	write_at(rig, VMCI_REG_DATA_IN_HIGH + 1, "\xff\xff\xff", 3);
	assert_int_equal(in32(rig, VMCI_REG_DATA_IN_HIGH), 0x12345678);
	write_at(rig, VMCI_REG_CONTROL + 2, "\0\0\0\0", 4);
	write_at(rig, VMCI_REG_CONTROL + 1, "\x02", 1);
	assert_int_equal(in32(rig, VMCI_REG_STATUS), 0);
}

static void test_64_bit_write_spans_two_registers(void **state)
{
	struct rig *rig = *state;
	uint8_t buf[8];

	put_le64(buf, 0x8877665544332211u);
	write_at(rig, VMCI_REG_DATA_IN_HIGH, buf, 8);	/* and the page shift, an impossible one */
	assert_int_equal(in32(rig, VMCI_REG_DATA_IN_HIGH), 0x44332211);
	assert_int_equal(in32(rig, VMCI_REG_PAGE_SHIFT), 12);
}

static void test_64_bit_write_of_dma_address_latches_upper_half_first(void **state)
{
	struct rig *rig = *state;
	uint8_t buf[8];

	rig_probe(rig);
	put_le64(buf, 0x700000000u + TX);
	write_at(rig, VMCI_REG_DATA_OUT_LOW, buf, 8);
	assert_int_equal(rig->last_read, 0x700000000u + TX);
	put_le64(buf, 0x900000000u + RX);
	write_at(rig, VMCI_REG_DATA_IN_LOW, buf, 8);
	assert_int_equal(rig->last_read, 0x900000000u + RX);
}

static void test_icr_is_acknowledged_only_with_its_lowest_byte(void **state)
{
	struct rig *rig = *state;
	uint8_t buf[4];

	rig_probe(rig);
	assert_true(deliver(rig, 56, 1) > 0);
	read_at(rig, VMCI_REG_ICR + 1, buf, 3);
	assert_int_equal(buf[0] | buf[1] | buf[2], 0);
	read_at(rig, VMCI_REG_ICR, buf, 1);
	assert_int_equal(buf[0], 0x1);
	assert_int_equal(in32(rig, VMCI_REG_ICR), 0);
}

static void test_streams_take_and_give_as_many_bytes_as_the_access_has(void **state)
{
	struct rig *rig = *state;
	uint8_t dg[56], buf[16];

	rig_probe(rig);
	make_dg(dg, handle_make(2, 1), handle_make(CID, 1), 56, 3);
	for (size_t i = 0, n = 1; i < 56; i += n, n = n == 4 ? 1 : n * 2) {
		if (n > 56 - i)
			n = 56 - i;
		write_at(rig, VMCI_REG_DATA_OUT, dg + i, n);
	}
	assert_int_equal(in32(rig, VMCI_REG_RESULT_LOW), 56);
	assert_memory_equal(rig->dg, dg, 56);

	assert_int_equal(deliver(rig, 32, 9), 32);
	for (size_t i = 0, n = 1; i < 14; i += n, n *= 2)
		read_at(rig, VMCI_REG_DATA_IN, buf + i, i == 7 ? 4 : n);
	/* 1, 2, 4 and 4 bytes: the first 11 of the datagram */
	make_dg(dg, handle_make(CID, 5000), handle_make(2, 9), 32, 9);
	assert_memory_equal(buf, dg, 11);
}

static void test_stream_bytes_beside_the_register_are_swallowed(void **state)
{
	struct rig *rig = *state;
	uint8_t buf[3];

	rig_probe(rig);
	write_at(rig, VMCI_REG_DATA_OUT + 1, "abc", 3);
	assert_int_equal(rig->dev->outbox.len, 0);
	read_at(rig, VMCI_REG_DATA_IN + 1, buf, 3);
	assert_int_equal(buf[0] | buf[1] | buf[2], 0);
	assert_int_equal(rig->dev->carry->drain.pos, 0);
}

static void test_huge_access_is_cut_to_the_registers(void **state)
{
	static uint8_t buf[0x40000];
	struct rig *rig = *state;

	dev_bar_read(rig->dev, 1, 0, buf, sizeof(buf));
	assert_int_equal(get_le32(buf + MMIO(VMCI_REG_CAPS)), 0x2c);
	memset(buf, 0, sizeof(buf));
	buf[MMIO(VMCI_REG_IMR)] = 7;
	dev_bar_write(rig->dev, 1, 0, buf, sizeof(buf));
	assert_int_equal(in32(rig, VMCI_REG_IMR), 7);
	dev_bar_read(rig->dev, 0, 0, buf, 64);
	dev_bar_write(rig->dev, 0, 0, buf, 64);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup_blank, teardown)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		T(test_s2_1_capabilities_offered),
		T(test_s2_1_capabilities_read_the_same_after_writing),
		T(test_s2_1_unoffered_capabilities_are_not_acknowledged),
		T(test_s2_2_no_capability_is_shown_for_memory_that_cannot_be_reached),
		T(test_s2_same_registers_over_ports_and_mmio),
		T(test_s2_status_shows_interrupts_on),
		T(test_s2_result_low_is_not_destructive),
		T(test_s2_result_high_is_the_sign_extension),
		T(test_s2_page_shift_is_validated),
		T(test_s2_classic_device_has_no_dma_registers),
		T(test_bar1_of_classic_device_has_no_registers),
		T(test_unknown_registers_read_zero_and_swallow),
		T(test_s1_2_registers_do_not_show_in_front_of_or_behind_their_window),
		T(test_access_that_reaches_into_the_window),
		T(test_narrow_reads_return_their_bytes),
		T(test_wide_and_unaligned_reads_are_cut_at_registers),
		T(test_narrow_write_counts_missing_bytes_as_zero),
		T(test_write_without_lowest_byte_is_swallowed),
		T(test_64_bit_write_spans_two_registers),
		T(test_64_bit_write_of_dma_address_latches_upper_half_first),
		T(test_icr_is_acknowledged_only_with_its_lowest_byte),
		T(test_streams_take_and_give_as_many_bytes_as_the_access_has),
		T(test_stream_bytes_beside_the_register_are_swallowed),
		T(test_huge_access_is_cut_to_the_registers),
	};

	return cmocka_run_group_tests_name("device registers", tests, NULL, NULL);
}
