/* SPDX-License-Identifier: BSD-2-Clause */
/* Datagrams from the guest: VMCI reference, 3.1 to 3.4 and 4.5; transport reference, 2.2 and 2.3. */
#include "rig.h"

static uint8_t dg[LIMIT_HYPERCALL_SIZE + 64];

static const struct vmci_handle host = { VMCI_CID_HOST, 1 };
static const struct vmci_handle self = { CID, 1 };
static const struct vmci_handle anonymous = { VMCI_INVALID_ID, VMCI_INVALID_ID };

/* --- Both paths -------------------------------------------------------------------------- */

static int32_t send_to(struct rig *rig, struct vmci_handle dst, struct vmci_handle src, size_t size)
{
	return send_dg(rig, dg, make_dg(dg, dst, src, size, 5));
}

static void test_s3_4_success_is_the_total_size(void **state)
{
	struct rig *rig = *state;
	static const size_t size[] = { 24, 25, 56, 4096, 4097, VMCI_DG_MAX_SIZE };

	for (size_t i = 0; i < sizeof(size) / sizeof(size[0]); i++) {
		assert_int_equal(send_to(rig, host, self, size[i]), size[i]);
		assert_int_equal(rig->dg_size, size[i]);
		assert_memory_equal(rig->dg, dg, size[i]);
	}
}

static void test_s3_4_result_of_the_port_is_returned(void **state)
{
	struct rig *rig = *state;

	rig->dg_result = VMCI_ERROR_NO_RESOURCES;
	assert_int_equal(send_to(rig, host, self, 56), VMCI_ERROR_NO_RESOURCES);
}

static void test_t2_2_source_context_any_is_replaced_by_the_guests(void **state)
{
	struct rig *rig = *state;

	assert_int_equal(send_to(rig, host, handle_make(VMCI_INVALID_ID, 1), 56), 56);
	assert_int_equal(dg_parse(rig->dg).src.context, CID);
	assert_int_equal(dg_parse(rig->dg).src.resource, 1);
}

static void test_t2_2_source_is_replaced_towards_the_hypervisor_too(void **state)
{
	struct rig *rig = *state;

	assert_int_equal(
		send_to(rig, handle_make(0, VMCI_HC_GET_CONTEXT_ID), handle_make(VMCI_INVALID_ID, 1), 24),
		CID);
	assert_int_equal(send_to(rig, handle_make(0, VMCI_HC_GET_CONTEXT_ID), self, 24), CID);
}

static void test_s4_5_forged_source_is_refused(void **state)
{
	struct rig *rig = *state;
	static const uint32_t forged[] = { 0, 1, 2, 3, CID - 1, CID + 1, 0xfffffffe };

	for (size_t i = 0; i < sizeof(forged) / sizeof(forged[0]); i++) {
		assert_int_equal(send_to(rig, host, handle_make(forged[i], 0), 56), VMCI_ERROR_NO_ACCESS);
		assert_int_equal(send_to(rig, handle_make(0, 1), handle_make(forged[i], 0), 24),
				 VMCI_ERROR_NO_ACCESS);
		assert_int_equal(send_to(rig, self, handle_make(forged[i], 0), 48), VMCI_ERROR_NO_ACCESS);
	}
	assert_int_equal(rig->datagrams, 0);
	assert_int_equal(rig->dev->inbox.count, 0);
}

static void test_s4_5_anonymous_source_only_to_the_hypervisor(void **state)
{
	struct rig *rig = *state;

	assert_int_equal(send_to(rig, handle_make(0, VMCI_HC_GET_CONTEXT_ID), anonymous, 24), CID);
	assert_int_equal(send_to(rig, host, anonymous, 56), VMCI_ERROR_NO_ACCESS);
	assert_int_equal(send_to(rig, self, anonymous, 56), VMCI_ERROR_NO_ACCESS);
	assert_int_equal(rig->datagrams, 0);
}

static void test_t2_2_routes(void **state)
{
	struct rig *rig = *state;

	assert_int_equal(send_to(rig, handle_make(VMCI_INVALID_ID, 1), self, 56), VMCI_ERROR_INVALID_ARGS);
	assert_int_equal(rig->datagrams, 0);
	assert_int_equal(send_to(rig, handle_make(VMCI_CID_WELL_KNOWN, 1), self, 56), 56);
	assert_int_equal(send_to(rig, handle_make(CID + 1, 1), self, 56), 56);
	assert_int_equal(send_to(rig, handle_make(3, 1), self, 56), 56);
	assert_int_equal(rig->datagrams, 3);
}

static void test_t2_2_own_context_loops_back(void **state)
{
	struct rig *rig = *state;
	unsigned before = rig->irqs[0];

	assert_int_equal(send_to(rig, handle_make(CID, 1234), handle_make(VMCI_INVALID_ID, 5), 60), 60);
	assert_int_equal(rig->irqs[0], before + 1);
	assert_int_equal(rig->datagrams, 0);
	assert_int_equal(rig->dev->inbox.count, 1);
	put_le32(dg + 8, CID);
	assert_memory_equal(rig->dev->inbox.ring, dg, 60);
}

static void test_s3_1_end_marker_cannot_be_sent_to_oneself(void **state)
{
	struct rig *rig = *state;

	assert_int_equal(send_to(rig, handle_make(CID, VMCI_INVALID_ID), self, 56), VMCI_ERROR_INVALID_ARGS);
	assert_int_equal(rig->dev->inbox.count, 0);
}

static void test_s9_2_loop_back_obeys_the_queue_limit(void **state)
{
	struct rig *rig = *state;

	assert_int_equal(send_to(rig, self, self, VMCI_DG_MAX_SIZE), VMCI_DG_MAX_SIZE);
	assert_int_equal(send_to(rig, self, self, VMCI_DG_MAX_SIZE), VMCI_ERROR_NO_RESOURCES);
	assert_int_equal(send_to(rig, self, self, VMCI_DG_MAX_SIZE - 1), VMCI_DG_MAX_SIZE - 1);
}

static void deliver_five(struct rig *rig)
{
	for (unsigned i = 0; i < 5; i++)
		assert_int_equal(deliver(rig, 40, i), 40);
}

static void test_port_may_deliver_while_a_datagram_is_sent(void **state)
{
	struct rig *rig = *state;

	rig->on_datagram = deliver_five;
	assert_int_equal(send_to(rig, host, self, 56), 56);
	assert_int_equal(rig->dev->inbox.count, 5);
	assert_int_equal(rig->irqs[0], 5);
}

/* --- Ports -------------------------------------------------------------------------------- */

static void out_bytes(struct rig *rig, size_t from, size_t to)
{
	for (size_t i = from; i < to; i++)
		outb(rig, VMCI_REG_DATA_OUT, dg[i]);
}

static void test_s3_2_executes_on_the_last_byte(void **state)
{
	struct rig *rig = *state;

	make_dg(dg, host, self, 56, 1);
	out_bytes(rig, 0, 55);
	assert_int_equal(rig->datagrams, 0);
	out_bytes(rig, 55, 56);
	assert_int_equal(rig->datagrams, 1);
	assert_int_equal(in32(rig, VMCI_REG_RESULT_LOW), 56);
	assert_int_equal(in32(rig, VMCI_REG_RESULT_LOW), 56);
}

static void test_s3_2_result_read_resynchronises(void **state)
{
	struct rig *rig = *state;

	for (size_t n = 1; n < 56; n++) {
		make_dg(dg, host, self, 56, 1);
		out_bytes(rig, 0, n);
		assert_int_equal((int32_t)in32(rig, VMCI_REG_RESULT_LOW), VMCI_ERROR_INVALID_ARGS);
		assert_int_equal(send_ports(rig, dg, 56), 56);
	}
	assert_int_equal(rig->datagrams, 55);
	assert_int_equal(rig->lines, 2);	/* the session, and one complaint */
}

static void test_s3_2_too_large_is_swallowed_up_to_the_result(void **state)
{
	struct rig *rig = *state;

	make_dg(dg, host, self, VMCI_DG_MAX_SIZE + 1, 1);
	out_bytes(rig, 0, VMCI_DG_MAX_SIZE + 1);
	assert_int_equal(rig->datagrams, 0);
	assert_int_equal((int32_t)in32(rig, VMCI_REG_RESULT_LOW), VMCI_ERROR_INVALID_ARGS);

	/* However many bytes follow, and whatever they are. */
	put_le64(dg + 16, UINT64_MAX);
	out_bytes(rig, 0, 24);
	make_dg(dg, host, self, 56, 1);
	for (int i = 0; i < 100; i++)
		out_bytes(rig, 0, 56);
	assert_int_equal((int32_t)in32(rig, VMCI_REG_RESULT_LOW), VMCI_ERROR_INVALID_ARGS);
	assert_int_equal(rig->datagrams, 0);
	assert_int_equal(send_ports(rig, dg, 56), 56);
}

static void test_s3_1_hypercalls_may_be_larger_on_the_ports(void **state)
{
	struct rig *rig = *state;

	/* The largest that a driver builds is taken; it is only answered by its handler. */
	make_dg(dg, handle_make(0, VMCI_HC_GET_CONTEXT_ID), anonymous, LIMIT_HYPERCALL_SIZE, 1);
	assert_int_equal(send_ports(rig, dg, LIMIT_HYPERCALL_SIZE), CID);
	make_dg(dg, handle_make(0, VMCI_HC_GET_CONTEXT_ID), anonymous, LIMIT_HYPERCALL_SIZE + 1, 1);
	assert_int_equal(send_ports(rig, dg, LIMIT_HYPERCALL_SIZE + 1), VMCI_ERROR_INVALID_ARGS);
}

static void test_s11_result_stays_until_the_next_send(void **state)
{
	struct rig *rig = *state;

	make_dg(dg, host, self, 56, 1);
	assert_int_equal(send_ports(rig, dg, 56), 56);
	out32(rig, VMCI_REG_IMR, 1);
	in32(rig, VMCI_REG_ICR);
	inb(rig, VMCI_REG_DATA_IN);
	assert_int_equal(in32(rig, VMCI_REG_RESULT_LOW), 56);
}

static void test_two_sends_without_reading_a_result(void **state)
{
	struct rig *rig = *state;

	make_dg(dg, host, self, 56, 1);
	out_bytes(rig, 0, 56);
	make_dg(dg, host, self, 40, 1);
	out_bytes(rig, 0, 40);
	assert_int_equal(rig->datagrams, 2);
	assert_int_equal(in32(rig, VMCI_REG_RESULT_LOW), 40);
}

/* --- DMA ----------------------------------------------------------------------------------- */

static int32_t kick(struct rig *rig, uint64_t addr)
{
	out32(rig, VMCI_REG_DATA_OUT_HIGH, (uint32_t)(addr >> 32));
	out32(rig, VMCI_REG_DATA_OUT_LOW, (uint32_t)addr);
	return (int32_t)in32(rig, VMCI_REG_RESULT_LOW);
}

static uint8_t busy_when_result_written;
static int64_t result_when_written;

static void look_at_completion(struct rig *rig, uint64_t addr, size_t len)
{
	if (addr == TX + 16 && len == 8) {
		busy_when_result_written = rig->ram[TX];
		result_when_written = rig->dev->result;
	}
	if (addr == TX && len == 4)
		assert_int_equal(get_le64(rig->ram + TX + 16), (uint64_t)rig->dev->result);
}

static void test_s3_3_result_register_then_header_then_busy(void **state)
{
	struct rig *rig = *state;

	rig->before_write = look_at_completion;
	assert_int_equal(send_to(rig, host, self, 56), 56);
	assert_int_equal(busy_when_result_written, 1);
	assert_int_equal(result_when_written, 56);
	assert_int_equal(get_le32(rig->ram + TX), 0);
}

static void test_s3_3_costs_two_reads_and_two_writes(void **state)
{
	struct rig *rig = *state;

	rig->reads = rig->writes = 0;
	assert_int_equal(send_to(rig, host, self, 56), 56);
	assert_int_equal(rig->reads, 2);
	assert_int_equal(rig->writes, 2);
	assert_int_equal(rig->datagrams, 1);
}

static void test_s3_3_needs_no_interrupts(void **state)
{
	struct rig *rig = *state;
	uint8_t buf[HC_WORD_SIZE];

	out32(rig, VMCI_REG_CONTROL, VMCI_CONTROL_INT_DISABLE);
	assert_int_equal(send_dma(rig, buf, hc_empty_build(buf, VMCI_HC_GET_CONTEXT_ID)), CID);
	assert_int_equal(rig->irqs[2], 0);
}

static void test_s3_3_scatter_gather_send(void **state)
{
	struct rig *rig = *state;

	make_dg(dg, host, self, 100, 3);
	memcpy(rig->ram + 0x50000, dg, 10);
	memcpy(rig->ram + 0x60000, dg + 10, 50);
	memcpy(rig->ram + 0x70ff0, dg + 60, 40);
	put_dma(rig, TX, 1, VMCI_DMA_SG, 4);
	put_element(rig, TX, 0, 0x50000, 10);
	put_element(rig, TX, 1, UINT64_MAX, 0);		/* nothing, nowhere */
	put_element(rig, TX, 2, 0x60000, 50);
	put_element(rig, TX, 3, 0x70ff0, 40);
	assert_int_equal(kick(rig, TX), 100);
	assert_memory_equal(rig->dg, dg, 100);
}

static void test_s3_3_list_must_lie_in_the_page_of_its_header(void **state)
{
	struct rig *rig = *state;
	uint64_t addr = TX + PAGE - 24 - 16;

	make_dg(dg, host, self, 56, 3);
	memcpy(rig->ram + 0x50000, dg, 56);
	put_dma(rig, addr, 1, VMCI_DMA_SG, 1);
	put_element(rig, addr, 0, 0x50000, 56);
	assert_int_equal(kick(rig, addr), 56);

	addr += 8;
	put_dma(rig, addr, 1, VMCI_DMA_SG, 1);
	put_element(rig, addr, 0, 0x50000, 56);
	assert_int_equal(kick(rig, addr), VMCI_ERROR_INVALID_ARGS);
	assert_int_equal(get_le32(rig->ram + addr), 0);
}

static void test_s3_3_page_of_the_list_has_the_guests_size(void **state)
{
	struct rig *rig = *state;
	uint64_t addr = TX + PAGE - 24;

	out32(rig, VMCI_REG_PAGE_SHIFT, 16);
	make_dg(dg, host, self, 56, 3);
	memcpy(rig->ram + 0x50000, dg, 56);
	put_dma(rig, addr, 1, VMCI_DMA_SG, 1);
	put_element(rig, addr, 0, 0x50000, 56);
	assert_int_equal(kick(rig, addr), 56);
}

static void test_s3_3_list_of_a_large_page_is_bounded_too(void **state)
{
	struct rig *rig = *state;

	out32(rig, VMCI_REG_PAGE_SHIFT, 16);
	make_dg(dg, host, self, 254, 3);
	memcpy(rig->ram + 0x50000, dg, 254);
	put_dma(rig, TX, 1, VMCI_DMA_SG, LIMIT_DMA_ELEMENTS);
	for (unsigned i = 0; i < LIMIT_DMA_ELEMENTS; i++)
		put_element(rig, TX, i, 0x50000 + i, 1);
	assert_int_equal(kick(rig, TX), 254);
	assert_memory_equal(rig->dg, dg, 254);
	put_dma(rig, TX, 1, VMCI_DMA_SG, LIMIT_DMA_ELEMENTS + 1);
	put_element(rig, TX, LIMIT_DMA_ELEMENTS, 0x50000, 0);
	assert_int_equal(kick(rig, TX), VMCI_ERROR_INVALID_ARGS);
	assert_int_equal(get_le32(rig->ram + TX), 0);
}

/* Each of these buffers is bad; each must be completed, with an error, and harm nothing. */
static void test_s3_3_bad_buffers_are_completed(void **state)
{
	static const struct {
		uint32_t opcode, size;
		uint64_t element[4];	/* address, length; address, length */
	} bad[] = {
		{ VMCI_DMA_INLINE, 0, { 0 } },
		{ VMCI_DMA_INLINE, 23, { 0 } },
		{ VMCI_DMA_INLINE, 55, { 0 } },
		{ VMCI_DMA_INLINE, 57, { 0 } },
		{ VMCI_DMA_INLINE, VMCI_DG_MAX_SIZE + 1, { 0 } },
		{ VMCI_DMA_INLINE, 0xffffffff, { 0 } },
		{ 2, 56, { 0 } },
		{ 0xffffffff, 0xffffffff, { 0 } },
		{ VMCI_DMA_SG, 0, { 0 } },
		{ VMCI_DMA_SG, 255, { 0 } },
		{ VMCI_DMA_SG, 0x10000001, { 0 } },
		{ VMCI_DMA_SG, 0xffffffff, { 0 } },
		{ VMCI_DMA_SG, 1, { RAM_SIZE, 56 } },
		{ VMCI_DMA_SG, 1, { RAM_SIZE - 55, 56 } },
		{ VMCI_DMA_SG, 1, { UINT64_MAX - 8, 56 } },
		{ VMCI_DMA_SG, 1, { 0, UINT64_MAX } },
		{ VMCI_DMA_SG, 2, { 0x50000, UINT64_MAX / 2 + 1, 0x50000, UINT64_MAX / 2 + 1 } },
		{ VMCI_DMA_SG, 2, { 0x50000, UINT64_MAX / 2 + 1, 0x50000, UINT64_MAX / 2 + 57 } },
		{ VMCI_DMA_SG, 2, { 0x50000, 28, 0x5001c, 29 } },
	};
	struct rig *rig = *state;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		make_dg(rig->ram + TX + 24, host, self, 56, 3);
		make_dg(rig->ram + 0x50000, host, self, 56, 3);
		put_dma(rig, TX, 1, bad[i].opcode, bad[i].size);
		if (bad[i].opcode == VMCI_DMA_SG) {
			put_element(rig, TX, 0, bad[i].element[0], bad[i].element[1]);
			put_element(rig, TX, 1, bad[i].element[2], bad[i].element[3]);
		}
		assert_int_equal(kick(rig, TX), VMCI_ERROR_INVALID_ARGS);
		assert_int_equal(get_le32(rig->ram + TX), 0);
		assert_int_equal((int64_t)get_le64(rig->ram + TX + 16), VMCI_ERROR_INVALID_ARGS);
	}
	assert_int_equal(rig->datagrams, 0);
}

static void test_s3_3_bad_addresses(void **state)
{
	static const uint64_t bad[] = { RAM_SIZE, RAM_SIZE - 8, RAM_SIZE + 1, UINT64_MAX, UINT64_MAX - 3,
					UINT64_MAX - 23, UINT64_MAX - 24, 0x100000000u };
	struct rig *rig = *state;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(kick(rig, bad[i]), VMCI_ERROR_INVALID_ARGS);
	assert_int_equal(rig->datagrams, 0);
}

static void test_s3_3_header_at_the_end_of_memory_is_released_as_far_as_it_is_there(void **state)
{
	struct rig *rig = *state;
	uint64_t addr = RAM_SIZE - 8;

	put_le32(rig->ram + addr, 1);
	assert_int_equal(kick(rig, addr), VMCI_ERROR_INVALID_ARGS);
	assert_int_equal(get_le32(rig->ram + addr), 0);
}

static void test_s3_3_unaligned_header_is_completed(void **state)
{
	struct rig *rig = *state;

	for (uint64_t addr = TX + 1; addr < TX + 4; addr++) {
		put_dma(rig, addr, 1, VMCI_DMA_INLINE, 56);
		make_dg(rig->ram + addr + 24, host, self, 56, 3);
		assert_int_equal(kick(rig, addr), 56);
		assert_int_equal(get_le32(rig->ram + addr), 0);
		assert_int_equal(get_le64(rig->ram + addr + 16), 56);
	}
}

static void test_s3_3_data_beyond_memory_is_refused(void **state)
{
	struct rig *rig = *state;
	uint64_t addr = RAM_SIZE - 64;

	put_dma(rig, addr, 1, VMCI_DMA_INLINE, 56);
	make_dg(rig->ram + addr + 24, host, self, 40, 3);
	assert_int_equal(kick(rig, addr), VMCI_ERROR_INVALID_ARGS);
	assert_int_equal(get_le32(rig->ram + addr), 0);
}

static void test_s9_2_dma_datagrams_are_limited_to_69632(void **state)
{
	struct rig *rig = *state;

	assert_int_equal(send_to(rig, host, self, VMCI_DG_MAX_SIZE), VMCI_DG_MAX_SIZE);
	put_dma(rig, TX, 1, VMCI_DMA_INLINE, VMCI_DG_MAX_SIZE + 8);
	make_dg(rig->ram + TX + 24, host, self, VMCI_DG_MAX_SIZE + 8, 1);
	assert_int_equal(kick(rig, TX), VMCI_ERROR_INVALID_ARGS);
}

/* The list of a queue pair's pages does not always fit into a datagram: an element has room for it. */
static void test_s3_1_hypercalls_by_dma_are_as_long_as_by_ports(void **state)
{
	static const size_t size[] = { VMCI_DG_MAX_SIZE + 8, LIMIT_HYPERCALL_SIZE, LIMIT_HYPERCALL_SIZE + 1 };
	struct vmci_handle unknown = { VMCI_CID_HYPERVISOR, 13 };
	struct rig *rig = *state;

	for (unsigned i = 0; i < sizeof(size) / sizeof(*size); i++) {
		put_dma(rig, TX, 1, VMCI_DMA_SG, 1);
		put_element(rig, TX, 0, 0x200000, size[i]);
		make_dg(rig->ram + 0x200000, unknown, self, size[i], 1);
		assert_int_equal(kick(rig, TX), size[i] <= LIMIT_HYPERCALL_SIZE ? VMCI_ERROR_INVALID_RESOURCE :
									VMCI_ERROR_INVALID_ARGS);
		put_dma(rig, TX, 1, VMCI_DMA_SG, 1);
		make_dg(rig->ram + 0x200000, host, self, size[i], 1);
		assert_int_equal(kick(rig, TX), VMCI_ERROR_INVALID_ARGS);
	}
	assert_int_equal(rig->datagrams, 0);
}

static void test_sB10_no_dma_without_bus_master(void **state)
{
	struct rig *rig = *state;

	set_command(rig, COMMAND_NO_MASTER);
	rig->reads = rig->writes = 0;
	put_dma(rig, TX, 1, VMCI_DMA_INLINE, 56);
	make_dg(rig->ram + TX + 24, host, self, 56, 3);
	assert_int_equal(kick(rig, TX), VMCI_ERROR_UNAVAILABLE);
	assert_int_equal(get_le32(rig->ram + TX), 1);
	assert_int_equal(rig->reads + rig->writes, 0);
	assert_int_equal(rig->datagrams, 0);
}

static void test_share_off_is_named_once(void **state)
{
	struct rig *rig = *state;
	const char *hint;

	out32(rig, VMCI_REG_CAPS, 0x2c);
	for (int i = 0; i < 2; i++) {
		memset(rig->ram + TX, 0, 64);
		assert_int_equal(kick(rig, TX), VMCI_ERROR_INVALID_ARGS);
		assert_int_equal(get_le64(rig->ram + TX + 16), (uint64_t)(int64_t)VMCI_ERROR_INVALID_ARGS);
	}
	hint = strstr(rig->text, "share=on");
	assert_non_null(hint);
	assert_null(strstr(hint + 1, "share=on"));
}

static void test_share_off_is_not_suspected_later(void **state)
{
	struct rig *rig = *state;

	assert_int_equal(send_to(rig, host, self, 56), 56);
	memset(rig->ram + TX, 0, 64);
	kick(rig, TX);
	assert_null(strstr(rig->text, "share=on"));
}

#define M(f) cmocka_unit_test_setup_teardown(f, setup_mmio, teardown)
#define P(f) cmocka_unit_test_setup_teardown(f, setup_ports, teardown)
#define ON(path, f) { #f " (" #path ")", f, setup_##path, teardown, NULL }
#define BOTH(f) ON(mmio, f), ON(ports, f)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		BOTH(test_s3_4_success_is_the_total_size),
		BOTH(test_s3_4_result_of_the_port_is_returned),
		BOTH(test_t2_2_source_context_any_is_replaced_by_the_guests),
		BOTH(test_t2_2_source_is_replaced_towards_the_hypervisor_too),
		BOTH(test_s4_5_forged_source_is_refused),
		BOTH(test_s4_5_anonymous_source_only_to_the_hypervisor),
		BOTH(test_t2_2_routes),
		BOTH(test_t2_2_own_context_loops_back),
		BOTH(test_s3_1_end_marker_cannot_be_sent_to_oneself),
		BOTH(test_s9_2_loop_back_obeys_the_queue_limit),
		BOTH(test_port_may_deliver_while_a_datagram_is_sent),
		P(test_s3_2_executes_on_the_last_byte),
		P(test_s3_2_result_read_resynchronises),
		P(test_s3_2_too_large_is_swallowed_up_to_the_result),
		P(test_s3_1_hypercalls_may_be_larger_on_the_ports),
		P(test_s11_result_stays_until_the_next_send),
		P(test_two_sends_without_reading_a_result),
		M(test_s3_3_result_register_then_header_then_busy),
		M(test_s3_3_costs_two_reads_and_two_writes),
		M(test_s3_3_needs_no_interrupts),
		M(test_s3_3_scatter_gather_send),
		M(test_s3_3_list_must_lie_in_the_page_of_its_header),
		M(test_s3_3_page_of_the_list_has_the_guests_size),
		M(test_s3_3_list_of_a_large_page_is_bounded_too),
		M(test_s3_3_bad_buffers_are_completed),
		M(test_s3_3_bad_addresses),
		M(test_s3_3_header_at_the_end_of_memory_is_released_as_far_as_it_is_there),
		M(test_s3_3_unaligned_header_is_completed),
		M(test_s3_3_data_beyond_memory_is_refused),
		M(test_s9_2_dma_datagrams_are_limited_to_69632),
		M(test_s3_1_hypercalls_by_dma_are_as_long_as_by_ports),
		M(test_sB10_no_dma_without_bus_master),
		M(test_share_off_is_named_once),
		M(test_share_off_is_not_suspected_later),
	};

	return cmocka_run_group_tests_name("device send", tests, NULL, NULL);
}
