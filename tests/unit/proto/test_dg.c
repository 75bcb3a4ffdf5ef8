/* SPDX-License-Identifier: BSD-2-Clause */
/* Datagram headers: VMCI reference, 3.1. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "proto/dg.h"
#include "proto/limits.h"

static void test_s3_1_layout(void **state)
{
	static const uint8_t wire[24] = { 2,	0,    0, 0, 1,	  0, 0, 0, 77, 0, 0, 0,
					  0x10, 0x27, 0, 0, 0x20, 1, 0, 0, 0,  0, 0, 0 };
	uint8_t buf[26];
	struct dg_header h;

	(void)state;
	memset(buf, 0xee, sizeof(buf));
	dg_build(buf + 1, handle_make(2, 1), handle_make(77, 10000), 0x120);	/* any alignment */
	assert_memory_equal(buf + 1, wire, 24);
	assert_int_equal(buf[0], 0xee);
	assert_int_equal(buf[25], 0xee);
	h = dg_parse(buf + 1);
	assert_true(handle_is_equal(h.dst, handle_make(2, 1)));
	assert_true(handle_is_equal(h.src, handle_make(77, 10000)));
	assert_int_equal(h.payload_size, 0x120);
}

static void test_s3_1_offsets_of_the_wire_structures(void **state)
{
	(void)state;
	assert_int_equal(sizeof(struct vmci_datagram_wire), 24);
	assert_int_equal(offsetof(struct vmci_datagram_wire, src), 8);
	assert_int_equal(offsetof(struct vmci_datagram_wire, payload_size), 16);
	assert_int_equal(sizeof(struct vmci_dma_header_wire), VMCI_DMA_HEADER_SIZE);
	assert_int_equal(offsetof(struct vmci_dma_header_wire, opcode), 4);
	assert_int_equal(offsetof(struct vmci_dma_header_wire, size), 8);
	assert_int_equal(offsetof(struct vmci_dma_header_wire, result), 16);
	assert_int_equal(sizeof(struct vmci_dma_element_wire), VMCI_DMA_ELEMENT_SIZE);
	assert_int_equal(sizeof(struct vmci_queue_header_wire), VMCI_QUEUE_HEADER_SIZE);
	assert_int_equal(offsetof(struct vmci_queue_header_wire, producer_tail), VMCI_QUEUE_TAIL_OFFSET);
	assert_int_equal(offsetof(struct vmci_queue_header_wire, consumer_head), VMCI_QUEUE_HEAD_OFFSET);
}

static void test_s3_1_sizes(void **state)
{
	(void)state;
	assert_int_equal(VMCI_DG_MAX_SIZE, 17 * 4096);
	assert_int_equal(VMCI_DG_MAX_PAYLOAD, 69608);
	assert_int_equal(LIMIT_HYPERCALL_SIZE, 64 + 32771 * 8);
	assert_int_equal(VMCI_DG_QUEUE_MAX, 2 * 69632);
	assert_int_equal(VMCI_EVENT_QUEUE_MAX, 139264 + 1024 * 48);
	assert_true(LIMIT_DMA_ELEMENTS * VMCI_DMA_ELEMENT_SIZE + VMCI_DMA_HEADER_SIZE <= 4096);
}

static void test_s3_1_padding(void **state)
{
	(void)state;
	assert_int_equal(dg_padded(24), 24);
	for (size_t n = 25; n <= 32; n++)
		assert_int_equal(dg_padded(n), 32);
	assert_int_equal(dg_padded(VMCI_DG_MAX_SIZE), VMCI_DG_MAX_SIZE);
	assert_int_equal(dg_padded(VMCI_DG_MAX_SIZE - 7), VMCI_DG_MAX_SIZE);
}

static void test_s3_1_handles(void **state)
{
	(void)state;
	assert_false(handle_is_valid(handle_make(VMCI_INVALID_ID, VMCI_INVALID_ID)));
	assert_true(handle_is_valid(handle_make(VMCI_INVALID_ID, 1)));
	assert_true(handle_is_valid(handle_make(1, VMCI_INVALID_ID)));
	assert_false(handle_is_equal(handle_make(1, 2), handle_make(2, 1)));
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_s3_1_layout),
		cmocka_unit_test(test_s3_1_offsets_of_the_wire_structures),
		cmocka_unit_test(test_s3_1_sizes),
		cmocka_unit_test(test_s3_1_padding),
		cmocka_unit_test(test_s3_1_handles),
	};

	return cmocka_run_group_tests_name("proto datagrams", tests, NULL, NULL);
}
