/* SPDX-License-Identifier: BSD-2-Clause */
/* Notification bitmap and doorbells: VMCI reference, 5 and 4.3. */
#include "rig.h"

#define BITMAP ((uint64_t)BITMAP_PPN * PAGE)

static struct vmci_handle bell(uint32_t rid)
{
	return handle_make(CID, rid);
}

static uint8_t byte_when_interrupted;

static void test_s5_ring_stores_the_byte_and_interrupts(void **state)
{
	struct rig *rig = *state;

	assert_int_equal(call_link(rig, bell(2000), 17), 0);
	rig->ram[BITMAP + 17] = 0;
	assert_int_equal(dev_ring(rig->dev, bell(2000)), VMCI_SUCCESS);
	assert_int_equal(rig->ram[BITMAP + 17], 1);
	assert_int_equal(rig->irqs[1], 1);
	assert_int_equal(in32(rig, VMCI_REG_ICR), VMCI_CAUSE_NOTIFICATION);
}

static void see_order(struct rig *rig, uint64_t addr, size_t len)
{
	(void)addr;
	(void)len;
	byte_when_interrupted = (uint8_t)rig->irqs[1];
}

static void test_s5_store_comes_before_the_interrupt(void **state)
{
	struct rig *rig = *state;

	assert_int_equal(call_link(rig, bell(2000), 0), 0);
	byte_when_interrupted = 0xff;
	rig->before_write = see_order;
	assert_int_equal(dev_ring(rig->dev, bell(2000)), VMCI_SUCCESS);
	assert_int_equal(byte_when_interrupted, 0);
	assert_int_equal(rig->irqs[1], 1);
}

static void test_s5_always_interrupts_and_never_reads_the_bitmap(void **state)
{
	struct rig *rig = *state;

	assert_int_equal(call_link(rig, bell(2000), 5), 0);
	rig->reads = 0;
	for (unsigned i = 1; i <= 1000; i++) {
		assert_int_equal(dev_ring(rig->dev, bell(2000)), VMCI_SUCCESS);
		assert_int_equal(rig->irqs[1], i);
	}
	assert_int_equal(rig->reads, 0);
}

static void test_s5_only_its_byte_is_written(void **state)
{
	struct rig *rig = *state;

	memset(rig->ram + BITMAP - 1, 0x40, PAGE + 2);
	assert_int_equal(call_link(rig, bell(2000), PAGE - 1), 0);
	assert_int_equal(dev_ring(rig->dev, bell(2000)), VMCI_SUCCESS);
	for (size_t i = 0; i < PAGE + 2; i++)
		assert_int_equal(rig->ram[BITMAP - 1 + i], i == PAGE ? 1 : 0x40);
}

static void test_s5_not_linked_is_not_found(void **state)
{
	struct rig *rig = *state;

	assert_int_equal(dev_ring(rig->dev, bell(2000)), VMCI_ERROR_NOT_FOUND);
	assert_int_equal(call_link(rig, bell(2000), 0), 0);
	assert_int_equal(dev_ring(rig->dev, bell(2001)), VMCI_ERROR_NOT_FOUND);
	assert_int_equal(dev_ring(rig->dev, handle_make(CID + 1, 2000)), VMCI_ERROR_NOT_FOUND);
	assert_int_equal(rig->irqs[1], 0);
}

static void test_s4_3_unlink(void **state)
{
	struct rig *rig = *state;

	assert_int_equal(call_handle(rig, VMCI_HC_DOORBELL_UNLINK, bell(2000)), VMCI_ERROR_NOT_FOUND);
	assert_int_equal(call_link(rig, bell(2000), 0), 0);
	assert_int_equal(call_handle(rig, VMCI_HC_DOORBELL_UNLINK, bell(2000)), 0);
	assert_int_equal(dev_ring(rig->dev, bell(2000)), VMCI_ERROR_NOT_FOUND);
	assert_int_equal(call_link(rig, bell(2000), 0), 0);
}

static void test_s4_3_several_handles_may_share_an_index(void **state)
{
	struct rig *rig = *state;

	assert_int_equal(call_link(rig, bell(2000), 9), 0);
	assert_int_equal(call_link(rig, bell(2001), 9), 0);
	assert_int_equal(call_handle(rig, VMCI_HC_DOORBELL_UNLINK, bell(2000)), 0);
	assert_int_equal(dev_ring(rig->dev, bell(2001)), VMCI_SUCCESS);
	assert_int_equal(rig->ram[BITMAP + 9], 1);
}

static void test_s4_3_link_of_a_linked_handle(void **state)
{
	struct rig *rig = *state;

	assert_int_equal(call_link(rig, bell(2000), 9), 0);
	assert_int_equal(call_link(rig, bell(2000), 10), VMCI_ERROR_DUPLICATE_ENTRY);
	assert_int_equal(dev_ring(rig->dev, bell(2000)), VMCI_SUCCESS);
	assert_int_equal(rig->ram[BITMAP + 9], 1);
}

static void test_s5_index_must_lie_in_the_page(void **state)
{
	struct rig *rig = *state;
	static const uint64_t bad[] = { PAGE, PAGE + 1, 0x100000000u, UINT64_MAX };

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(call_link(rig, bell(2000), bad[i]), VMCI_ERROR_INVALID_ARGS);
	assert_int_equal(call_link(rig, bell(2000), PAGE - 1), 0);
	out32(rig, VMCI_REG_PAGE_SHIFT, 16);
	assert_int_equal(call_link(rig, bell(2001), 65535), 0);
	assert_int_equal(call_link(rig, bell(2002), 65536), VMCI_ERROR_INVALID_ARGS);
}

static void test_s5_handle_names_the_guest_or_the_host(void **state)
{
	struct rig *rig = *state;

	assert_int_equal(call_link(rig, handle_make(2, 2000), 0), 0);
	assert_int_equal(call_link(rig, handle_make(0, 2000), 0), VMCI_ERROR_NO_ACCESS);
	assert_int_equal(call_link(rig, handle_make(CID + 1, 2000), 0), VMCI_ERROR_NO_ACCESS);
	assert_int_equal(call_link(rig, handle_make(VMCI_INVALID_ID, 2000), 0), VMCI_ERROR_NO_ACCESS);
	assert_int_equal(call_link(rig, handle_make(CID, VMCI_INVALID_ID), 0), VMCI_ERROR_INVALID_ARGS);
}

static void test_s9_2_at_most_4096_doorbells(void **state)
{
	struct rig *rig = *state;

	for (uint32_t i = 0; i < LIMIT_DOORBELLS; i++)
		assert_int_equal(call_link(rig, bell(1024 + i * 7), i), 0);
	assert_int_equal(call_link(rig, bell(5), 0), VMCI_ERROR_NO_RESOURCES);
	assert_int_equal(call_handle(rig, VMCI_HC_DOORBELL_UNLINK, bell(1024 + 7 * 100)), 0);
	assert_int_equal(call_link(rig, bell(5), 1), 0);
	assert_int_equal(call_link(rig, bell(6), 0), VMCI_ERROR_NO_RESOURCES);
	for (uint32_t i = 0; i < LIMIT_DOORBELLS; i++)
		if (i != 100)
			assert_int_equal(dev_ring(rig->dev, bell(1024 + i * 7)), VMCI_SUCCESS);
	for (uint32_t i = 0; i < LIMIT_DOORBELLS; i++)
		if (i != 100)
			assert_int_equal(call_handle(rig, VMCI_HC_DOORBELL_UNLINK, bell(1024 + i * 7)), 0);
	assert_int_equal(rig->dev->bells.count, 1);
}

static void test_s5_guest_rings_its_own_doorbell(void **state)
{
	struct rig *rig = *state;

	assert_int_equal(call_link(rig, bell(2000), 3), 0);
	assert_int_equal(call_handle(rig, VMCI_HC_DOORBELL_NOTIFY, bell(2000)), 0);
	assert_int_equal(rig->ram[BITMAP + 3], 1);
	assert_int_equal(rig->irqs[1], 1);
	assert_int_equal(rig->doorbells, 0);
}

static void test_s11_bitmap_uses_only_the_low_32_bits(void **state)
{
	struct rig *rig = *state;
	uint8_t buf[HC_WORD_SIZE];
	size_t size = hc_word_build(buf, VMCI_HC_SET_NOTIFY_BITMAP, 0x20);

	put_le32(buf + 28, 0xcafebabe);		/* garbage of old drivers */
	assert_int_equal(send_dg(rig, buf, size), 0);
	assert_int_equal(call_link(rig, bell(2000), 3), 0);
	assert_int_equal(dev_ring(rig->dev, bell(2000)), VMCI_SUCCESS);
	assert_int_equal(rig->ram[0x20 * PAGE + 3], 1);
}

static void test_s11_second_registration_replaces_the_first(void **state)
{
	struct rig *rig = *state;

	assert_int_equal(call_link(rig, bell(2000), 3), 0);
	assert_int_equal(call_word(rig, VMCI_HC_SET_NOTIFY_BITMAP, 0x30), 0);
	assert_int_equal(dev_ring(rig->dev, bell(2000)), VMCI_SUCCESS);
	assert_int_equal(rig->ram[0x30 * PAGE + 3], 1);
	assert_int_equal(rig->ram[BITMAP + 3], 0);
}

static void test_s2_page_shift_applies_to_the_bitmap(void **state)
{
	struct rig *rig = *state;

	out32(rig, VMCI_REG_PAGE_SHIFT, 16);
	assert_int_equal(call_word(rig, VMCI_HC_SET_NOTIFY_BITMAP, 3), 0);
	assert_int_equal(call_link(rig, bell(2000), 50000), 0);
	assert_int_equal(dev_ring(rig->dev, bell(2000)), VMCI_SUCCESS);
	assert_int_equal(rig->ram[3 * 65536 + 50000], 1);
}

static void test_bitmap_that_is_not_memory_is_refused(void **state)
{
	struct rig *rig = *state;

	assert_int_equal(call_word(rig, VMCI_HC_SET_NOTIFY_BITMAP, RAM_SIZE / PAGE), VMCI_ERROR_INVALID_ARGS);
	assert_int_equal(call_word(rig, VMCI_HC_SET_NOTIFY_BITMAP, 0xffffffff), VMCI_ERROR_INVALID_ARGS);
	assert_int_equal(call_link(rig, bell(2000), 3), 0);	/* the old one is still there */
	assert_int_equal(dev_ring(rig->dev, bell(2000)), VMCI_SUCCESS);
}

static void test_link_needs_a_bitmap(void **state)
{
	struct rig *rig = *state;

	out32(rig, VMCI_REG_CAPS, 0x2c);
	assert_int_equal(call_link(rig, bell(2000), 3), VMCI_ERROR_UNAVAILABLE);
}

static void test_bitmap_that_goes_away_is_survived(void **state)
{
	struct rig *rig = *state;

	assert_int_equal(call_link(rig, bell(2000), 3), 0);
	rig->unmapped = PAGE;
	for (int i = 0; i < 100; i++)
		assert_int_equal(dev_ring(rig->dev, bell(2000)), VMCI_ERROR_UNAVAILABLE);
	assert_int_equal(rig->irqs[1], 0);
	assert_int_equal(rig->lines, 2);	/* the session, and this once */
	rig->unmapped = 0;
	assert_int_equal(dev_ring(rig->dev, bell(2000)), VMCI_SUCCESS);
}

static void test_sB10_no_bitmap_without_bus_master(void **state)
{
	struct rig *rig = rig_open_ports();

	(void)state;
	assert_int_equal(call_link(rig, bell(2000), 3), 0);
	set_command(rig, COMMAND_NO_MASTER);
	rig->writes = rig->reads = 0;
	assert_int_equal(dev_ring(rig->dev, bell(2000)), VMCI_ERROR_NOT_FOUND);
	out32(rig, VMCI_REG_CAPS, 0xc);
	assert_int_equal(call_word(rig, VMCI_HC_SET_NOTIFY_BITMAP, BITMAP_PPN), VMCI_ERROR_UNAVAILABLE);
	assert_int_equal(rig->writes + rig->reads, 0);
	rig_free(rig);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup_mmio, teardown)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		T(test_s5_ring_stores_the_byte_and_interrupts),
		T(test_s5_store_comes_before_the_interrupt),
		T(test_s5_always_interrupts_and_never_reads_the_bitmap),
		T(test_s5_only_its_byte_is_written),
		T(test_s5_not_linked_is_not_found),
		T(test_s4_3_unlink),
		T(test_s4_3_several_handles_may_share_an_index),
		T(test_s4_3_link_of_a_linked_handle),
		T(test_s5_index_must_lie_in_the_page),
		T(test_s5_handle_names_the_guest_or_the_host),
		T(test_s9_2_at_most_4096_doorbells),
		T(test_s5_guest_rings_its_own_doorbell),
		T(test_s11_bitmap_uses_only_the_low_32_bits),
		T(test_s11_second_registration_replaces_the_first),
		T(test_s2_page_shift_applies_to_the_bitmap),
		T(test_bitmap_that_is_not_memory_is_refused),
		T(test_link_needs_a_bitmap),
		T(test_bitmap_that_goes_away_is_survived),
		cmocka_unit_test(test_sB10_no_bitmap_without_bus_master),
	};

	return cmocka_run_group_tests_name("device doorbells", tests, NULL, NULL);
}
