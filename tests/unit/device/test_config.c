/* SPDX-License-Identifier: BSD-2-Clause */
/* Configuration space: VMCI reference, 1.1 and 1.2; vfio-user reference, 8 and 10. */
#include "rig.h"

#include <errno.h>

static struct rig *make(bool classic, enum dev_irq irq, bool intx)
{
	const struct dev_config config = { .cid = CID, .classic = classic, .irq = irq, .intx = intx };

	return rig_new(&config);
}

static void test_s1_1_identity(void **state)
{
	struct rig *rig = *state;

	assert_int_equal(config32(rig, 0x00), 0x074015ad);
	assert_int_equal(config32(rig, 0x08), 0x08800010);
	assert_int_equal(config32(rig, 0x2c), 0x074015ad);
	assert_int_equal(config32(rig, 0x0c), 0x00004000);	/* header type 0, latency timer 64 */
	assert_int_equal(config16(rig, 0x3e), 0xff06);		/* min-gnt 6, max-lat 255 */
}

static void test_s1_1_status_has_capability_list_fast_back_and_medium_devsel(void **state)
{
	struct rig *rig = *state;

	assert_int_equal(config16(rig, 0x06), 0x0290);
}

static void test_s1_2_bar_kinds_and_sizes(void **state)
{
	struct rig *rig = *state;

	assert_int_equal(dev_bar_size(rig->dev, 0), 64);
	assert_true(dev_bar_is_io(rig->dev, 0));
	assert_int_equal(dev_bar_size(rig->dev, 1), 0x40000);
	assert_false(dev_bar_is_io(rig->dev, 1));
	for (unsigned bar = 2; bar < 8; bar++)
		assert_int_equal(dev_bar_size(rig->dev, bar), 0);
	assert_int_equal(config32(rig, 0x10), 0x1);	/* I/O */
	assert_int_equal(config32(rig, 0x14), 0x4);	/* 64-bit, not prefetchable */
}

static void test_s1_2_bar1_of_classic_device_is_8_kib(void **state)
{
	struct rig *rig = make(true, DEV_IRQ_MSIX, false);

	(void)state;
	assert_int_equal(dev_bar_size(rig->dev, 1), 8192);
	config_put32(rig, 0x14, 0xffffffff);
	assert_int_equal(config32(rig, 0x14), 0xffffe004);
	assert_int_equal(dev_pba_offset(rig->dev), 0x1000);
	assert_int_equal(dev_msix_count(rig->dev), 2);
	rig_free(rig);
}

static void test_vu10_bars_are_sized_by_all_ones(void **state)
{
	static const struct {
		unsigned off;
		uint32_t size;
	} bar[] = { { 0x10, 0xffffffc1 }, { 0x14, 0xfffc0004 }, { 0x18, 0xffffffff },
		    { 0x1c, 0 },	  { 0x20, 0 },		{ 0x24, 0 } };
	struct rig *rig = *state;

	for (size_t i = 0; i < sizeof(bar) / sizeof(bar[0]); i++) {
		config_put32(rig, bar[i].off, 0xffffffff);
		assert_int_equal(config32(rig, bar[i].off), bar[i].size);
	}
	config_put32(rig, 0x14, 0xfebc1234);
	config_put32(rig, 0x18, 0x38);
	assert_int_equal(config32(rig, 0x14), 0xfebc0004);
	assert_int_equal(config32(rig, 0x18), 0x38);
}

static void test_vu8_rom_register_reads_zero_whatever_is_written(void **state)
{
	struct rig *rig = *state;

	config_put32(rig, 0x30, 0xfffff800);
	assert_int_equal(config32(rig, 0x30), 0);
	config_put32(rig, 0x30, 0xffffffff);
	assert_int_equal(config32(rig, 0x30), 0);
}

static void test_vu8_command_is_stored_and_masked(void **state)
{
	struct rig *rig = *state;

	set_command(rig, 0xffff);
	assert_int_equal(config16(rig, 4), 0x0547);
	set_command(rig, 0x0007);
	assert_int_equal(config16(rig, 4), 0x0007);
	/* One byte at a time, too. */
	dev_config_write(rig->dev, 5, "\x04", 1);
	assert_int_equal(config16(rig, 4), 0x0407);
}

static void test_vu8_read_only_fields_stay(void **state)
{
	struct rig *rig = *state;
	uint8_t before[256], ones[256], after[256];
	static const uint8_t writable[][2] = {
		{ 0x04, 2 }, { 0x0c, 2 }, { 0x10, 12 }, { 0x3c, 1 }, { 0x5a, 2 }
	};

	memset(ones, 0xff, sizeof(ones));
	dev_config_read(rig->dev, 0, before, sizeof(before));
	dev_config_write(rig->dev, 0, ones, sizeof(ones));
	dev_config_read(rig->dev, 0, after, sizeof(after));
	for (unsigned i = 0; i < sizeof(writable) / sizeof(writable[0]); i++) {
		memset(before + writable[i][0], 0, writable[i][1]);
		memset(after + writable[i][0], 0, writable[i][1]);
	}
	assert_memory_equal(before, after, sizeof(before));
}

static void test_s1_1_msix_capability(void **state)
{
	struct rig *rig = *state;

	assert_int_equal(config32(rig, 0x34), 0x58);
	assert_int_equal(config32(rig, 0x58), 0x00020011);	/* last capability, 3 vectors */
	assert_int_equal(config32(rig, 0x5c), 0x00000001);	/* table at BAR1 + 0 */
	assert_int_equal(config32(rig, 0x60), 0x00010001);	/* PBA at BAR1 + 0x10000 */
	assert_int_equal(dev_msix_count(rig->dev), 3);
	assert_int_equal(dev_msi_count(rig->dev), 0);
	assert_int_equal(dev_pba_offset(rig->dev), 0x10000);
	config_put32(rig, 0x58, 0xffffffff);
	assert_int_equal(config32(rig, 0x58), 0xc0020011);
}

static void test_s1_1_msix_capability_of_classic_device(void **state)
{
	struct rig *rig = make(true, DEV_IRQ_MSIX, false);

	(void)state;
	assert_int_equal(config32(rig, 0x58), 0x00010011);
	assert_int_equal(config32(rig, 0x60), 0x00001001);
	rig_free(rig);
}

static void test_s1_1_msi_capability(void **state)
{
	struct rig *rig = make(false, DEV_IRQ_MSI, false);

	(void)state;
	assert_int_equal(config32(rig, 0x34), 0x40);
	assert_int_equal(config32(rig, 0x40), 0x00800005);	/* 64-bit, 1 message, no mask */
	assert_int_equal(config32(rig, 0x58), 0);
	assert_int_equal(dev_msi_count(rig->dev), 1);
	assert_int_equal(dev_msix_count(rig->dev), 0);
	config_put32(rig, 0x40, 0xffffffff);
	assert_int_equal(config32(rig, 0x40), 0x00810005);
	config_put32(rig, 0x44, 0xfee00fff);
	assert_int_equal(config32(rig, 0x44), 0xfee00ffc);
	rig_free(rig);
}

static void test_s1_1_interrupt_pin_only_with_intx(void **state)
{
	struct rig *rig = make(false, DEV_IRQ_MSIX, true);

	assert_int_equal(config16(*state, 0x3c), 0);
	assert_int_equal(config16(rig, 0x3c), 0x0100);
	dev_config_write(rig->dev, 0x3c, "\x0b\x02", 2);	/* the line is stored, the pin stays */
	assert_int_equal(config16(rig, 0x3c), 0x010b);
	rig_free(rig);
}

static void test_vu8_access_outside_reads_zero(void **state)
{
	struct rig *rig = *state;
	uint8_t buf[32], zero[32] = { 0 };

	memset(buf, 0xaa, sizeof(buf));
	dev_config_read(rig->dev, 256, buf, sizeof(buf));
	assert_memory_equal(buf, zero, sizeof(buf));
	memset(buf, 0xaa, sizeof(buf));
	dev_config_read(rig->dev, UINT64_MAX - 3, buf, sizeof(buf));
	assert_memory_equal(buf, zero, sizeof(buf));
	memset(buf, 0xff, sizeof(buf));
	dev_config_write(rig->dev, UINT64_MAX - 3, buf, sizeof(buf));
	dev_config_write(rig->dev, 240, buf, sizeof(buf));
	dev_config_write(rig->dev, 0x1000, buf, sizeof(buf));
	assert_int_equal(config32(rig, 0), 0x074015ad);
	assert_int_equal(config32(rig, 252), 0);
}

static void test_function_reset_restores_config_space(void **state)
{
	struct rig *rig = *state;

	config_put32(rig, 0x10, 0xc001);
	config_put32(rig, 0x58, 0x80000000);
	dev_reset(rig->dev);
	assert_int_equal(config16(rig, 4), 0);
	assert_int_equal(config32(rig, 0x10), 1);
	assert_int_equal(config32(rig, 0x58), 0x00020011);
}

/* A 64-bit prefetchable BAR of the window's size, and nothing else changes. */
static void test_window(void **state)
{
	const struct dev_config config = { .cid = CID, .window = 64 << 20 }, large = { .cid = CID, .window = 1 << 30 };
	struct rig *rig = rig_new(&config);
	uint8_t buf[8] = { 1, 2, 3, 4, 5, 6, 7, 8 };

	(void)state;
	assert_int_equal(dev_bar_size(rig->dev, 1), 0x40000);
	assert_int_equal(dev_bar_size(rig->dev, 2), 0);
	assert_int_equal(dev_bar_size(rig->dev, VMCI_WINDOW_BAR), 64 << 20);
	assert_int_equal(dev_bar_size(rig->dev, 4), 0);
	assert_false(dev_bar_is_io(rig->dev, VMCI_WINDOW_BAR));
	assert_int_equal(config32(rig, 0x1c), 0x0000000c);
	config_put32(rig, 0x1c, 0xffffffff);
	config_put32(rig, 0x20, 0xffffffff);
	config_put32(rig, 0x24, 0xffffffff);
	assert_int_equal(config32(rig, 0x1c), 0xfc00000c);
	assert_int_equal(config32(rig, 0x20), 0xffffffff);
	assert_int_equal(config32(rig, 0x24), 0);
	config_put32(rig, 0x10, 0xffffffff);
	assert_int_equal(config32(rig, 0x10), 0xffffffc1);

	/* What is in it is not the device's. */
	dev_bar_write(rig->dev, VMCI_WINDOW_BAR, MMIO(VMCI_REG_CONTROL), buf, sizeof(buf));
	dev_bar_read(rig->dev, VMCI_WINDOW_BAR, 0, buf, sizeof(buf));
	assert_int_equal(get_le64(buf), 0);
	dev_reset(rig->dev);
	assert_int_equal(config32(rig, 0x1c), 0x0000000c);
	rig_free(rig);

	rig = rig_new(&large);
	config_put32(rig, 0x1c, 0xffffffff);
	assert_int_equal(config32(rig, 0x1c), 0xc000000c);
	rig_free(rig);
}

static void test_bad_configurations_are_refused(void **state)
{
	static const struct dev_config bad[] = {
		{ .cid = 0 },
		{ .cid = 2 },
		{ .cid = 15 },
		{ .cid = VMCI_INVALID_ID },
		{ .cid = 16, .irq = (enum dev_irq)7 },
		{ .cid = 16, .window = 2048 },
		{ .cid = 16, .window = 4097 },
		{ .cid = 16, .window = 3 << 20 },
		{ .cid = 16, .window = UINT64_C(1) << 31 },
	};
	const struct dev_ports ports = { 0 };
	struct dev *dev = (struct dev *)&ports;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(dev_new(&bad[i], &ports, &dev), -EINVAL);
	assert_ptr_equal(dev, &ports);
	assert_null(dev_free(NULL));
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup_blank, teardown)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		T(test_s1_1_identity),
		T(test_s1_1_status_has_capability_list_fast_back_and_medium_devsel),
		T(test_s1_2_bar_kinds_and_sizes),
		T(test_s1_2_bar1_of_classic_device_is_8_kib),
		T(test_vu10_bars_are_sized_by_all_ones),
		T(test_vu8_rom_register_reads_zero_whatever_is_written),
		T(test_vu8_command_is_stored_and_masked),
		T(test_vu8_read_only_fields_stay),
		T(test_s1_1_msix_capability),
		T(test_s1_1_msix_capability_of_classic_device),
		T(test_s1_1_msi_capability),
		T(test_s1_1_interrupt_pin_only_with_intx),
		T(test_vu8_access_outside_reads_zero),
		T(test_function_reset_restores_config_space),
		cmocka_unit_test(test_window),
		cmocka_unit_test(test_bad_configurations_are_refused),
	};

	return cmocka_run_group_tests_name("device config", tests, NULL, NULL);
}
