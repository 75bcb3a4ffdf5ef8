/* SPDX-License-Identifier: BSD-2-Clause */
/* Reset and re-probe: VMCI reference, 2.3 and 11. */
#include "rig.h"

static int owner;
static const struct vmci_handle bell = { CID, 3000 };
static const struct vmci_handle pair = { CID, 2000 };

/* Everything that a driver can set up, in the middle of everything it can do. */
static struct vmci_handle fill(struct rig *rig)
{
	struct vmci_handle handle;

	rig_probe(rig);
	out32(rig, VMCI_REG_DATA_OUT_HIGH, 0);
	assert_int_equal(call_link(rig, bell, 7), 0);
	assert_int_equal(call_alloc(rig, pair, 2, 0, 4096, 4096), VMCI_SUCCESS_QUEUEPAIR_CREATE);
	assert_int_equal(dev_qp_attach(rig->dev, pair, 4096, 4096, &owner), VMCI_SUCCESS_QUEUEPAIR_ATTACH);
	assert_int_equal(call_alloc(rig, handle_make(CID, 2001), 2, 0, 8192, 0),
			 VMCI_SUCCESS_QUEUEPAIR_CREATE);
	assert_int_equal(dev_qp_create(rig->dev, 4096, 4096, &owner, &handle), VMCI_SUCCESS_QUEUEPAIR_CREATE);
	assert_int_equal(call_alloc(rig, handle, 2, 1, 4096, 4096), VMCI_SUCCESS_QUEUEPAIR_ATTACH);
	assert_int_equal(dev_qp_create(rig->dev, 4096, 4096, &owner, &handle), VMCI_SUCCESS_QUEUEPAIR_CREATE);
	for (unsigned i = 0; i < 50; i++)
		assert_int_equal(deliver(rig, 100, i), 100);
	inb(rig, VMCI_REG_DATA_IN);
	for (int i = 0; i < 30; i++)
		outb(rig, VMCI_REG_DATA_OUT, 0);
	out32(rig, VMCI_REG_PAGE_SHIFT, 16);
	out32(rig, VMCI_REG_DATA_IN_HIGH, 3);
	out32(rig, VMCI_REG_DATA_OUT_HIGH, 4);
	assert_int_equal(rig->taken, 3);
	assert_true(dev_is_active(rig->dev));
	return handle;
}

static void check_empty(struct rig *rig, struct vmci_handle host_made)
{
	struct qp qp;

	/* No reference to guest memory is left, and who was attached has been told. */
	assert_int_equal(rig->taken, 0);
	assert_int_equal(rig->pages_taken, 0);
	assert_int_equal(rig->dev->pairs.count, 0);
	assert_int_equal(rig->dev->pairs.memory, 0);
	assert_int_equal(rig->gone, 3);
	assert_int_equal(dev_qp_map(rig->dev, host_made, &qp), VMCI_ERROR_NOT_FOUND);
	assert_int_equal(dev_ring(rig->dev, bell), VMCI_ERROR_NOT_FOUND);
	assert_false(rig->dev->bells.has_bitmap);
	assert_int_equal(rig->dev->inbox.count, 0);
	assert_int_equal(rig->dev->carry->drain.pos, 0);
	assert_int_equal(rig->dev->outbox.len, 0);
	assert_false(dev_is_active(rig->dev));
	assert_int_equal(in32(rig, VMCI_REG_ICR), 0);
	assert_int_equal(in32(rig, VMCI_REG_IMR), 0);
	assert_int_equal(in32(rig, VMCI_REG_STATUS), 0);
	assert_int_equal(in32(rig, VMCI_REG_DATA_OUT_HIGH), 0);
	assert_int_equal(in32(rig, VMCI_REG_DATA_IN_HIGH), 0);
	assert_int_equal(in32(rig, VMCI_REG_PAGE_SHIFT), 12);
	assert_int_equal(in32(rig, VMCI_REG_RESULT_LOW), 0);
	assert_int_equal(dev_cid(rig->dev), CID);
}

static void test_s2_3_control_reset(void **state)
{
	struct rig *rig = *state;
	struct vmci_handle h = fill(rig);
	uint16_t command = config16(rig, 4);

	out32(rig, VMCI_REG_CONTROL, VMCI_CONTROL_RESET);
	check_empty(rig, h);
	assert_int_equal(config16(rig, 4), command);	/* of the device, not of the function */
	assert_int_equal(deliver(rig, 56, 1), VMCI_ERROR_DST_UNREACHABLE);
}

static void test_s2_3_second_caps_write(void **state)
{
	struct rig *rig = *state;
	struct vmci_handle h = fill(rig);

	out32(rig, VMCI_REG_CAPS, 0x2c);
	check_empty(rig, h);
	assert_int_equal(deliver(rig, 56, 1), 56);	/* the new session has begun */
}

static void test_s2_3_bus_master_off(void **state)
{
	struct rig *rig = *state;
	struct vmci_handle h = fill(rig);

	config_put32(rig, 0x10, 0xc001);
	set_command(rig, COMMAND_NO_MASTER);
	check_empty(rig, h);
	assert_int_equal(config32(rig, 0x10), 0xc001);
	assert_int_equal(config16(rig, 4), COMMAND_NO_MASTER);
	set_command(rig, COMMAND_ON);
	rig_probe(rig);
	assert_true(dev_is_active(rig->dev));
}

static void test_s2_3_bus_master_on_again_is_no_reset(void **state)
{
	struct rig *rig = *state;

	rig_probe(rig);
	set_command(rig, COMMAND_ON);
	set_command(rig, COMMAND_ON | 0x400);
	assert_true(dev_is_active(rig->dev));
}

static void test_s2_3_only_taking_bus_master_away_is_a_reset(void **state)
{
	struct rig *rig = *state;

	set_command(rig, COMMAND_NO_MASTER);
	out32(rig, VMCI_REG_CAPS, 0x2c);
	out32(rig, VMCI_REG_CONTROL, VMCI_CONTROL_INT_ENABLE);
	dev_config_write(rig->dev, 0x3c, "\x0b", 1);
	set_command(rig, 0x0002);
	assert_true(dev_is_active(rig->dev));
}

static void test_s2_3_function_reset(void **state)
{
	struct rig *rig = *state;
	struct vmci_handle h = fill(rig);

	dev_reset(rig->dev);
	check_empty(rig, h);
	assert_int_equal(config16(rig, 4), 0);
}

static void test_s2_3_free_tells_the_host(void **state)
{
	const struct dev_config config = { .cid = CID };
	struct rig *rig = rig_new(&config);

	(void)state;
	rig->mmio = true;
	fill(rig);
	rig->dev = dev_free(rig->dev);
	assert_int_equal(rig->gone, 3);
	assert_int_equal(rig->taken, 0);
	free(rig);
}

static unsigned refused;

/* A host end that tries everything while it is told that the guest is gone. */
static void try_everything(struct rig *rig, void *o)
{
	struct vmci_handle handle;

	assert_ptr_equal(o, &owner);
	assert_int_equal(deliver(rig, 56, 1), VMCI_ERROR_DST_UNREACHABLE);
	assert_int_equal(dev_qp_create(rig->dev, 1, 1, &owner, &handle), VMCI_ERROR_NO_RESOURCES);
	assert_true(dev_qp_attach(rig->dev, handle_make(CID, 2001), 0, 8192, &owner) < 0);
	assert_int_equal(dev_ring(rig->dev, bell), VMCI_ERROR_NOT_FOUND);
	dev_qp_detach(rig->dev, pair);
	refused++;
}

static void test_s2_3_nothing_new_begins_during_a_reset(void **state)
{
	struct rig *rig = *state;

	fill(rig);
	refused = 0;
	rig->on_gone = try_everything;
	out32(rig, VMCI_REG_CONTROL, VMCI_CONTROL_RESET);
	assert_int_equal(refused, rig->gone);
	assert_int_equal(rig->irqs[1], 0);
	assert_int_equal(rig->taken, 0);
	assert_int_equal(rig->dev->pairs.count, 0);
}

static struct vmci_handle all[64];

static void detach_all(struct rig *rig, void *o)
{
	(void)o;
	for (size_t i = 0; i < 64; i++)
		dev_qp_detach(rig->dev, all[i]);
}

static void test_s2_3_port_detaches_other_pairs_during_a_reset(void **state)
{
	struct rig *rig = *state;

	rig_probe(rig);
	for (size_t i = 0; i < 64; i++)
		assert_int_equal(dev_qp_create(rig->dev, 1, 1, &owner, &all[i]),
				 VMCI_SUCCESS_QUEUEPAIR_CREATE);
	for (size_t i = 0; i < 64; i += 2)
		assert_int_equal(call_alloc(rig, all[i], 2, 1, 1, 1), VMCI_SUCCESS_QUEUEPAIR_ATTACH);
	rig->on_gone = detach_all;
	out32(rig, VMCI_REG_CAPS, 0x2c);
	assert_int_equal(rig->taken, 0);
	assert_int_equal(rig->dev->pairs.count, 0);
}

static void test_s11_old_handles_can_be_used_again_after_kexec(void **state)
{
	struct rig *rig = *state;

	for (int i = 0; i < 20; i++) {
		rig_probe(rig);
		assert_int_equal(call_link(rig, bell, 7), 0);
		assert_int_equal(call_alloc(rig, pair, 2, 0, 4096, 4096), VMCI_SUCCESS_QUEUEPAIR_CREATE);
		assert_int_equal(dev_qp_attach(rig->dev, pair, 4096, 4096, &owner),
				 VMCI_SUCCESS_QUEUEPAIR_ATTACH);
	}
	assert_int_equal(rig->taken, 1);
	assert_int_equal(rig->gone, 19);
}

static void test_s2_3_reset_wins_over_other_control_bits(void **state)
{
	struct rig *rig = *state;

	rig_probe(rig);
	out32(rig, VMCI_REG_CONTROL, VMCI_CONTROL_RESET | VMCI_CONTROL_INT_ENABLE);
	assert_int_equal(in32(rig, VMCI_REG_STATUS), 0);
}

static void test_s2_3_no_interrupt_after_a_reset(void **state)
{
	struct rig *rig = *state;
	unsigned before[3];

	fill(rig);
	memcpy(before, rig->irqs, sizeof(before));
	out32(rig, VMCI_REG_CONTROL, VMCI_CONTROL_RESET);
	out32(rig, VMCI_REG_IMR, 0x7);
	out32(rig, VMCI_REG_CONTROL, VMCI_CONTROL_INT_ENABLE);
	assert_memory_equal(before, rig->irqs, sizeof(before));
}

static void test_is_active(void **state)
{
	struct rig *rig = *state;

	assert_false(dev_is_active(rig->dev));
	out32(rig, VMCI_REG_CONTROL, VMCI_CONTROL_INT_ENABLE);
	assert_false(dev_is_active(rig->dev));
	out32(rig, VMCI_REG_CAPS, 0x2c);
	assert_false(dev_is_active(rig->dev));
	out32(rig, VMCI_REG_CONTROL, VMCI_CONTROL_INT_ENABLE);
	assert_true(dev_is_active(rig->dev));
	out32(rig, VMCI_REG_CAPS, 0);
	out32(rig, VMCI_REG_CONTROL, VMCI_CONTROL_INT_ENABLE);
	assert_false(dev_is_active(rig->dev));
}

/* One step of a driver's and its host's life. */
static void step(struct rig *rig, unsigned n, struct vmci_handle *handle)
{
	switch (n) {
	case 0:
		out32(rig, VMCI_REG_CAPS, 0x2c);
		break;
	case 1:
		call_word(rig, VMCI_HC_SET_NOTIFY_BITMAP, BITMAP_PPN);
		break;
	case 2:
		out32(rig, VMCI_REG_IMR, 7);
		break;
	case 3:
		out32(rig, VMCI_REG_CONTROL, VMCI_CONTROL_INT_ENABLE);
		break;
	case 4:
		call_link(rig, bell, 1);
		break;
	case 5:
		call_alloc(rig, pair, 2, 0, 4096, 4096);
		break;
	case 6:
		dev_qp_attach(rig->dev, pair, 4096, 4096, &owner);
		break;
	case 7:
		dev_qp_create(rig->dev, 4096, 4096, &owner, handle);
		break;
	case 8:
		call_alloc(rig, *handle, 2, 1, 4096, 4096);
		break;
	case 9:
		deliver(rig, 5000, 1);
		inb(rig, VMCI_REG_DATA_IN);
		break;
	case 10:
		outb(rig, VMCI_REG_DATA_OUT, 1);
		break;
	default:
		dev_qp_detach(rig->dev, pair);
		break;
	}
}

#define STEPS 12

static void reset_by(struct rig *rig, unsigned how)
{
	switch (how) {
	case 0:
		out32(rig, VMCI_REG_CONTROL, VMCI_CONTROL_RESET);
		break;
	case 1:
		out32(rig, VMCI_REG_CAPS, 0x2c);
		break;
	case 2:
		set_command(rig, COMMAND_NO_MASTER);
		break;
	default:
		dev_reset(rig->dev);
		break;
	}
}

/* A reset after each number of steps leaves nothing behind, and the next life works. */
static void test_s2_3_reset_at_every_step(void **state)
{
	struct rig *rig = *state;

	for (unsigned how = 0; how < 4; how++)
		for (unsigned last = 0; last <= STEPS; last++) {
			struct vmci_handle handle = { 0, 0 };

			for (unsigned n = 0; n < last; n++)
				step(rig, n, &handle);
			reset_by(rig, how);
			assert_int_equal(rig->taken, 0);
			assert_int_equal(rig->dev->pairs.count, 0);
			assert_int_equal(rig->dev->bells.count, 0);
			assert_int_equal(rig->dev->inbox.count, 0);
			check_books(rig);
			set_command(rig, COMMAND_ON);
			rig_probe(rig);
			assert_int_equal(deliver(rig, 56, 9), 56);
			check_dg(receive_dma(rig), 56, 9);
			out32(rig, VMCI_REG_CONTROL, VMCI_CONTROL_RESET);
		}
}

static void test_log_is_bounded_for_a_guest_that_resets_for_ever(void **state)
{
	struct rig *rig = *state;

	for (int i = 0; i < 10000; i++) {
		out32(rig, VMCI_REG_CAPS, 0x2c);
		out32(rig, VMCI_REG_DATA_OUT_HIGH, 0xff);
		out32(rig, VMCI_REG_DATA_OUT_LOW, 0);
		out32(rig, VMCI_REG_PAGE_SHIFT, 99);
		out32(rig, VMCI_REG_CONTROL, VMCI_CONTROL_RESET);
		set_command(rig, COMMAND_NO_MASTER);
		set_command(rig, COMMAND_ON);
	}
	assert_true(rig->lines <= LIMIT_NOTES * DEV_NOTE_NUM);
	/* The VM's own resets let it speak again. */
	rig->lines = 0;
	out32(rig, VMCI_REG_CAPS, 0x2c);
	assert_int_equal(rig->lines, 0);
	dev_reset(rig->dev);
	out32(rig, VMCI_REG_CAPS, 0x2c);
	assert_int_equal(rig->lines, 1);
}

#define B(f) cmocka_unit_test_setup_teardown(f, setup_blank, teardown)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		B(test_s2_3_control_reset),
		B(test_s2_3_second_caps_write),
		B(test_s2_3_bus_master_off),
		B(test_s2_3_bus_master_on_again_is_no_reset),
		B(test_s2_3_only_taking_bus_master_away_is_a_reset),
		B(test_s2_3_function_reset),
		cmocka_unit_test(test_s2_3_free_tells_the_host),
		B(test_s2_3_nothing_new_begins_during_a_reset),
		B(test_s2_3_port_detaches_other_pairs_during_a_reset),
		B(test_s11_old_handles_can_be_used_again_after_kexec),
		B(test_s2_3_reset_wins_over_other_control_bits),
		B(test_s2_3_no_interrupt_after_a_reset),
		B(test_is_active),
		B(test_s2_3_reset_at_every_step),
		B(test_log_is_bounded_for_a_guest_that_resets_for_ever),
	};

	return cmocka_run_group_tests_name("device reset", tests, NULL, NULL);
}
