/* SPDX-License-Identifier: BSD-2-Clause */
/* Interrupts: VMCI reference, 1.3, 2 and 3.7. */
#include "rig.h"

static void test_s1_3_message_for_each_event_whatever_is_pending(void **state)
{
	struct rig *rig = *state;

	/* Exclusive mode: the guest never reads ICR. */
	for (unsigned i = 1; i <= 50; i++) {
		assert_int_equal(deliver(rig, 56, i), 56);
		assert_int_equal(rig->irqs[0], i);
		receive_dma(rig);
		assert_int_equal(rig->irqs[2], i);
	}
	assert_int_equal(in32(rig, VMCI_REG_ICR), 0x5);
}

static void test_s2_icr_read_acknowledges(void **state)
{
	struct rig *rig = *state;

	assert_int_equal(deliver(rig, 56, 1), 56);
	assert_int_equal(in32(rig, VMCI_REG_ICR), 0x1);
	assert_int_equal(in32(rig, VMCI_REG_ICR), 0x0);
	receive_dma(rig);
	assert_int_equal(in32(rig, VMCI_REG_ICR), 0x4);
}

static void test_s2_icr_is_not_written(void **state)
{
	struct rig *rig = *state;

	assert_int_equal(deliver(rig, 56, 1), 56);
	out32(rig, VMCI_REG_ICR, 0xffffffff);
	assert_int_equal(in32(rig, VMCI_REG_ICR), 0x1);
}

static void test_s2_mask(void **state)
{
	struct rig *rig = *state;

	out32(rig, VMCI_REG_IMR, 0x4);
	assert_int_equal(deliver(rig, 56, 1), 56);
	assert_int_equal(rig->irqs[0], 0);
	receive_dma(rig);
	assert_int_equal(rig->irqs[2], 1);
	assert_int_equal(in32(rig, VMCI_REG_ICR), 0x5);
}

static void test_s2_unmasking_fires_what_is_pending(void **state)
{
	struct rig *rig = *state;

	out32(rig, VMCI_REG_IMR, 0);
	assert_int_equal(deliver(rig, 56, 1), 56);
	out32(rig, VMCI_REG_IMR, 0x7);
	assert_int_equal(rig->irqs[0], 1);
	assert_int_equal(rig->irqs[1] + rig->irqs[2], 0);
	out32(rig, VMCI_REG_IMR, 0x7);
	assert_int_equal(rig->irqs[0], 1);
}

static void test_s3_7_datagram_before_int_enable_fires_at_enable(void **state)
{
	struct rig *rig = *state;

	out32(rig, VMCI_REG_CAPS, 0x2c);
	assert_int_equal(deliver(rig, 56, 1), 56);
	out32(rig, VMCI_REG_IMR, 0x7);
	assert_int_equal(rig->irqs[0], 0);
	out32(rig, VMCI_REG_CONTROL, VMCI_CONTROL_INT_ENABLE);
	assert_int_equal(rig->irqs[0], 1);
}

static void test_s3_7_also_if_icr_was_read_before(void **state)
{
	struct rig *rig = *state;

	out32(rig, VMCI_REG_CAPS, 0x2c);
	assert_int_equal(deliver(rig, 56, 1), 56);
	in32(rig, VMCI_REG_ICR);
	out32(rig, VMCI_REG_IMR, 0x7);
	out32(rig, VMCI_REG_CONTROL, VMCI_CONTROL_INT_ENABLE);
	assert_int_equal(rig->irqs[0], 1);
}

static void test_s2_disable_stops_messages(void **state)
{
	struct rig *rig = *state;

	out32(rig, VMCI_REG_CONTROL, VMCI_CONTROL_INT_DISABLE);
	assert_int_equal(deliver(rig, 56, 1), 56);
	assert_int_equal(rig->irqs[0], 0);
	out32(rig, VMCI_REG_CONTROL, VMCI_CONTROL_INT_ENABLE);
	assert_int_equal(rig->irqs[0], 1);
}

static void test_s2_unknown_mask_bits_do_nothing(void **state)
{
	struct rig *rig = *state;

	out32(rig, VMCI_REG_IMR, 0xfffffff8);
	assert_int_equal(deliver(rig, 56, 1), 56);
	assert_int_equal(rig->irqs[0] + rig->irqs[1] + rig->irqs[2], 0);
}

/* --- INTx --------------------------------------------------------------------------------- */

static struct rig *open_intx(void)
{
	const struct dev_config config = { .cid = CID, .intx = true };
	struct rig *rig = rig_new(&config);

	rig->mmio = true;
	rig_probe(rig);
	return rig;
}

static void test_s1_3_intx_is_the_level_of_what_is_pending(void **state)
{
	struct rig *rig = open_intx();

	(void)state;
	assert_false(rig->intx);
	assert_int_equal(deliver(rig, 56, 1), 56);
	assert_true(rig->intx);
	assert_int_equal(config16(rig, 6) & 0x8, 0x8);
	assert_int_equal(deliver(rig, 56, 1), 56);
	assert_int_equal(rig->intx_changes, 1);
	assert_int_equal(in32(rig, VMCI_REG_ICR), 0x1);
	assert_false(rig->intx);
	assert_int_equal(config16(rig, 6) & 0x8, 0);
	rig_free(rig);
}

static void test_s1_3_intx_obeys_mask_and_enable(void **state)
{
	struct rig *rig = open_intx();

	(void)state;
	out32(rig, VMCI_REG_IMR, 0);
	assert_int_equal(deliver(rig, 56, 1), 56);
	assert_false(rig->intx);
	out32(rig, VMCI_REG_IMR, 0x1);
	assert_true(rig->intx);
	out32(rig, VMCI_REG_CONTROL, VMCI_CONTROL_INT_DISABLE);
	assert_false(rig->intx);
	out32(rig, VMCI_REG_CONTROL, VMCI_CONTROL_INT_ENABLE);
	assert_true(rig->intx);
	out32(rig, VMCI_REG_CONTROL, VMCI_CONTROL_RESET);
	assert_false(rig->intx);
	rig_free(rig);
}

static void test_intx_obeys_interrupt_disable_of_command(void **state)
{
	struct rig *rig = open_intx();

	(void)state;
	assert_int_equal(deliver(rig, 56, 1), 56);
	set_command(rig, COMMAND_ON | 0x400);
	assert_false(rig->intx);
	assert_int_equal(config16(rig, 6) & 0x8, 0x8);	/* pending all the same */
	set_command(rig, COMMAND_ON);
	assert_true(rig->intx);
	dev_reset(rig->dev);
	assert_false(rig->intx);
	assert_int_equal(config16(rig, 6) & 0x8, 0);
	rig_free(rig);
}

static void test_intx_is_never_driven_without_a_pin(void **state)
{
	struct rig *rig = *state;

	assert_int_equal(deliver(rig, 56, 1), 56);
	receive_dma(rig);
	assert_int_equal(rig->intx_changes, 0);
	assert_int_equal(config16(rig, 6) & 0x8, 0);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup_mmio, teardown)
#define B(f) cmocka_unit_test_setup_teardown(f, setup_blank, teardown)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		T(test_s1_3_message_for_each_event_whatever_is_pending),
		T(test_s2_icr_read_acknowledges),
		T(test_s2_icr_is_not_written),
		T(test_s2_mask),
		T(test_s2_unmasking_fires_what_is_pending),
		B(test_s3_7_datagram_before_int_enable_fires_at_enable),
		B(test_s3_7_also_if_icr_was_read_before),
		T(test_s2_disable_stops_messages),
		T(test_s2_unknown_mask_bits_do_nothing),
		cmocka_unit_test(test_s1_3_intx_is_the_level_of_what_is_pending),
		cmocka_unit_test(test_s1_3_intx_obeys_mask_and_enable),
		cmocka_unit_test(test_intx_obeys_interrupt_disable_of_command),
		T(test_intx_is_never_driven_without_a_pin),
	};

	return cmocka_run_group_tests_name("device interrupts", tests, NULL, NULL);
}
