/* SPDX-License-Identifier: BSD-2-Clause */
/* Guests that do what no driver does. At worst they harm themselves: design, rules 3, 4 and 8. */
#include "rig.h"

static int owner;
static unsigned seed;

static unsigned any(void)
{
	seed = seed * 1103515245u + 12345u;
	return seed >> 7;
}

static void check_alive(struct rig *rig)
{
	rig->after_read = NULL;
	rig->before_write = NULL;
	set_command(rig, COMMAND_ON);
	rig->mmio = true;
	rig_probe(rig);
	assert_int_equal(deliver(rig, 56, 4), 56);
	check_dg(receive_dma(rig), 56, 4);
	assert_int_equal(rig->taken, 0);
}

static void test_every_register_with_every_width(void **state)
{
	struct rig *rig = *state;
	uint8_t buf[16];

	for (uint32_t reg = 0; reg < 0x44; reg++)
		for (size_t len = 1; len <= 16; len++)
			for (unsigned pattern = 0; pattern < 4; pattern++) {
				static const uint8_t fill[] = { 0x00, 0xff, 0x01, 0x7c };

				memset(buf, fill[pattern], sizeof(buf));
				dev_bar_write(rig->dev, 1, MMIO(reg), buf, len);
				dev_bar_read(rig->dev, 1, MMIO(reg), buf, len);
				if (reg + len <= 64) {
					memset(buf, fill[pattern], sizeof(buf));
					dev_bar_write(rig->dev, 0, reg, buf, len);
					dev_bar_read(rig->dev, 0, reg, buf, len);
				}
				check_books(rig);
			}
	check_alive(rig);
}

static void test_every_single_bit_of_every_register(void **state)
{
	struct rig *rig = *state;

	for (uint32_t reg = 0; reg < 0x40; reg += 4)
		for (unsigned bit = 0; bit < 32; bit++) {
			out32(rig, reg, 1u << bit);
			in32(rig, reg);
			check_books(rig);
		}
	check_alive(rig);
}

static void test_every_config_byte_with_every_width(void **state)
{
	struct rig *rig = *state;
	uint8_t buf[8];

	for (unsigned off = 0; off < 264; off++)
		for (size_t len = 1; len <= 8; len++)
			for (unsigned pattern = 0; pattern < 256; pattern += 51) {
				memset(buf, (int)pattern, sizeof(buf));
				dev_config_write(rig->dev, off, buf, len);
				dev_config_read(rig->dev, off, buf, len);
			}
	assert_int_equal(config32(rig, 0), 0x074015ad);
	check_alive(rig);
}

/* --- Memory that changes ------------------------------------------------------------------------ */

/* After each read, what was read becomes something else. */
static void mutate(struct rig *rig, uint64_t addr, size_t len)
{
	for (size_t i = 0; i < len; i++)
		rig->ram[addr + i] = (uint8_t)any();
}

static void test_datagram_is_parsed_from_the_copy(void **state)
{
	struct rig *rig = *state;
	uint8_t dg[56];

	make_dg(dg, handle_make(2, 1), handle_make(CID, 1), 56, 8);
	rig->after_read = mutate;
	for (int i = 0; i < 100; i++) {
		rig->dg_size = 0;
		assert_int_equal(send_dma(rig, dg, 56), 56);
		assert_memory_equal(rig->dg, dg, 56);
	}
}

static uint64_t changed_at;

/* The header is exchanged as soon as it has been read. */
static void grow_header(struct rig *rig, uint64_t addr, size_t len)
{
	if (addr != TX || len != 24)
		return;
	changed_at++;
	put_dma(rig, TX, 1, VMCI_DMA_SG, 0xffffffff);
}

static void test_header_is_read_once(void **state)
{
	struct rig *rig = *state;
	uint8_t dg[56];

	make_dg(dg, handle_make(2, 1), handle_make(CID, 1), 56, 8);
	changed_at = 0;
	rig->after_read = grow_header;
	assert_int_equal(send_dma(rig, dg, 56), 56);
	assert_int_equal(changed_at, 1);
	assert_int_equal(rig->datagrams, 1);
}

static void test_elements_are_read_once(void **state)
{
	struct rig *rig = *state;

	rig->after_read = mutate;
	for (int i = 0; i < 200; i++) {
		assert_int_equal(deliver(rig, 56, 4), 56);
		put_dma(rig, RX, 0, VMCI_DMA_SG, 2);
		put_element(rig, RX, 0, AREA, 40);
		put_element(rig, RX, 1, AREA + 40, 400);
		out32(rig, VMCI_REG_DATA_IN_LOW, RX);
		check_dg(rig->ram + AREA, 56, 4);
		assert_int_equal(get_le32(rig->ram + RX), 1);
	}
}

static void test_allocation_is_parsed_from_the_copy(void **state)
{
	struct rig *rig = *state;

	rig->after_read = mutate;
	for (uint32_t i = 0; i < 50; i++)
		assert_int_equal(call_alloc(rig, handle_make(CID, i), 2, 0, 8192, 4096),
				 VMCI_SUCCESS_QUEUEPAIR_CREATE);
	assert_int_equal(rig->pages_taken, 50 * 5);
}

/* --- Noise ----------------------------------------------------------------------------------------- */

static void test_random_sends(void **state)
{
	struct rig *rig = *state;

	seed = 11;
	for (int i = 0; i < 20000; i++) {
		static const uint32_t context[] = { 0, 0, 0, 1, 2, CID, CID + 1, VMCI_INVALID_ID };
		uint8_t dg[256];
		size_t size = 24 + any() % 200;

		for (size_t j = 24; j < size; j++)
			dg[j] = any() % 3 ? 0 : (uint8_t)any();
		dg_build(dg, handle_make(context[any() % 8], any() % 18),
			 handle_make(context[any() % 8], any() % 4), any() % 10 ? size - 24 : any());
		if (any() % 2)
			put_le64(dg + 56, any() % 8);
		send_dma(rig, dg, size);
		if (any() % 2)
			receive_dma(rig);
		check_books(rig);
	}
	out32(rig, VMCI_REG_CONTROL, VMCI_CONTROL_RESET);
	check_alive(rig);
}

static void test_random_bytes_to_the_port(void **state)
{
	struct rig *rig = *state;

	seed = 12;
	for (int i = 0; i < 300000; i++) {
		outb(rig, VMCI_REG_DATA_OUT, any() % 4 ? 0 : (uint8_t)any());
		if (any() % 200 == 0) {
			rig->mmio = false;
			in32(rig, VMCI_REG_RESULT_LOW);
		}
	}
	check_alive(rig);
}

static void test_random_bars_and_config(void **state)
{
	struct rig *rig = *state;
	uint8_t buf[8];

	seed = 13;
	for (int i = 0; i < 200000; i++) {
		uint32_t reg = any() % 0x38;
		size_t len = (size_t)1 << any() % 4;

		for (size_t j = 0; j < len; j++)
			buf[j] = any() % 2 ? 0 : (uint8_t)any();
		switch (any() % 8) {
		case 0:
			dev_config_write(rig->dev, any() % 256, buf, len);
			break;
		case 1:
			dev_bar_read(rig->dev, 0, reg, buf, 1);
			break;
		case 2:
			dev_bar_read(rig->dev, 1, MMIO(reg), buf, len);
			break;
		case 3:
			deliver(rig, 24 + any() % 6000, 1);
			break;
		case 4:
			set_command(rig, COMMAND_ON);
			break;
		default:
			dev_bar_write(rig->dev, 1, MMIO(reg), buf, len);
			break;
		}
		check_books(rig);
	}
	check_alive(rig);
}

/* --- Floods ------------------------------------------------------------------------------------------ */

static void test_doorbell_flood(void **state)
{
	struct rig *rig = *state;

	for (uint32_t i = 0; i < 3 * LIMIT_DOORBELLS; i++)
		call_link(rig, handle_make(CID, i), i % PAGE);
	for (uint32_t i = 0; i < 20000; i++)
		call_handle(rig, VMCI_HC_DOORBELL_NOTIFY, handle_make(CID, i % LIMIT_DOORBELLS));
	assert_int_equal(rig->dev->bells.count, LIMIT_DOORBELLS);
	assert_int_equal(rig->irqs[1], 20000);
	assert_int_equal(rig->lines, 1);
	out32(rig, VMCI_REG_CONTROL, VMCI_CONTROL_RESET);
	check_alive(rig);
}

static void test_flood_of_datagrams_to_oneself(void **state)
{
	struct rig *rig = *state;
	static uint8_t dg[VMCI_DG_MAX_SIZE];

	make_dg(dg, handle_make(CID, 1), handle_make(CID, 1), 1000, 1);
	for (int i = 0; i < 5000; i++) {
		int32_t r = send_dma(rig, dg, 1000);

		assert_true(r == 1000 || r == VMCI_ERROR_NO_RESOURCES);
	}
	assert_true(rig->dev->inbox.bytes < VMCI_DG_QUEUE_MAX);
	assert_true(rig->lines <= 2);
}

static void test_queue_pair_churn(void **state)
{
	struct rig *rig = *state;

	seed = 14;
	for (int i = 0; i < 30000; i++) {
		struct vmci_handle handle = { CID, any() % 64 }, made;

		switch (any() % 6) {
		case 0:
		case 1:
			call_alloc(rig, handle, 2, any() % 4 ? 0 : any() % 16, any() % 20000, any() % 20000);
			break;
		case 2:
			call_handle(rig, VMCI_HC_QUEUEPAIR_DETACH, handle);
			break;
		case 3:
			if (rig->dev->pairs.count < 500)
				dev_qp_create(rig->dev, 4096, 4096, &owner, &made);
			break;
		case 4:
			dev_qp_attach(rig->dev, handle, any() % 20000, any() % 20000, &owner);
			break;
		default:
			dev_qp_detach(rig->dev, any() % 2 ? handle : handle_make(2, 1024 + any() % 8000));
			break;
		}
		check_books(rig);
	}
	out32(rig, VMCI_REG_CONTROL, VMCI_CONTROL_RESET);
	check_alive(rig);
}

static void test_handles_that_share_a_bucket(void **state)
{
	struct rig *rig = *state;

	/* The hash takes bits 16 and up of a product: multiples of 2^28 collide. */
	for (uint32_t i = 0; i < 15; i++)
		assert_int_equal(call_alloc(rig, handle_make(CID, i << 28), 2, 0, 1, 1),
				 VMCI_SUCCESS_QUEUEPAIR_CREATE);
	for (uint32_t i = 0; i < 15; i++)
		assert_int_equal(call_link(rig, handle_make(CID, i << 28), i), 0);
	for (uint32_t i = 1; i < 15; i += 2) {
		assert_int_equal(call_handle(rig, VMCI_HC_QUEUEPAIR_DETACH, handle_make(CID, i << 28)), 0);
		assert_int_equal(call_handle(rig, VMCI_HC_DOORBELL_UNLINK, handle_make(CID, i << 28)), 0);
	}
	for (uint32_t i = 0; i < 15; i++) {
		assert_int_equal(dev_ring(rig->dev, handle_make(CID, i << 28)),
				 i % 2 ? VMCI_ERROR_NOT_FOUND : VMCI_SUCCESS);
		assert_int_equal(call_handle(rig, VMCI_HC_QUEUEPAIR_DETACH, handle_make(CID, i << 28)),
				 i % 2 ? VMCI_ERROR_NOT_FOUND : VMCI_SUCCESS);
	}
}

static void test_work_of_one_register_write_is_bounded(void **state)
{
	struct rig *rig = *state;

	/* The most elements, the fullest queue: accesses to guest memory stay in proportion to the limits. */
	while (deliver(rig, 24, 1) > 0)
		;
	put_dma(rig, RX, 0, VMCI_DMA_SG, 254);
	for (unsigned i = 0; i < 254; i++)
		put_element(rig, RX, i, 0x100000 + 1024 * i, 1024);
	rig->reads = rig->writes = 0;
	out32(rig, VMCI_REG_DATA_IN_LOW, RX);
	assert_int_equal(rig->reads, 2);
	assert_true(rig->writes <= 254 + 2 + 4);
	assert_int_equal(rig->dev->inbox.count, 0);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup_mmio, teardown)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		T(test_every_register_with_every_width),
		T(test_every_single_bit_of_every_register),
		T(test_every_config_byte_with_every_width),
		T(test_datagram_is_parsed_from_the_copy),
		T(test_header_is_read_once),
		T(test_elements_are_read_once),
		T(test_allocation_is_parsed_from_the_copy),
		T(test_random_sends),
		T(test_random_bytes_to_the_port),
		T(test_random_bars_and_config),
		T(test_doorbell_flood),
		T(test_flood_of_datagrams_to_oneself),
		T(test_queue_pair_churn),
		T(test_handles_that_share_a_bucket),
		T(test_work_of_one_register_write_is_bounded),
	};

	return cmocka_run_group_tests_name("device hostile guests", tests, NULL, NULL);
}
