/* SPDX-License-Identifier: BSD-2-Clause */
/* Which messages of a VMM the keeper has to hear of. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "vfio/msg.h"
#include "vmci-device/standin.h"

/* Is this message wanted? */
static bool wants(struct standin_filter *filter, unsigned cmd, const void *body, size_t len)
{
	uint8_t msg[256] = { 0 };

	assert_true(VUS_HEADER_SIZE + len <= sizeof(msg));
	put_le16(msg + 2, (uint16_t)cmd);
	put_le32(msg + 4, (uint32_t)(VUS_HEADER_SIZE + len));
	if (len)
		memcpy(msg + VUS_HEADER_SIZE, body, len);
	return standin_wants(filter, msg, VUS_HEADER_SIZE + len);
}

static bool wants_write(struct standin_filter *filter, unsigned region, uint64_t off, uint64_t value, uint32_t len)
{
	uint8_t body[VUS_ACCESS_SIZE + 8];

	put_le64(body, off);
	put_le32(body + 8, region);
	put_le32(body + 12, len);
	put_le64(body + 16, value);
	return wants(filter, VUS_CMD_REGION_WRITE, body, VUS_ACCESS_SIZE + len);
}

static bool wants_reg(struct standin_filter *filter, uint32_t reg, uint32_t value)
{
	return wants_write(filter, 1, VMCI_MMIO_REGS_OFFSET + reg, value, 4);
}

static bool wants_irqs(uint32_t flags, uint32_t count)
{
	struct standin_filter filter = { 0 };
	uint8_t body[VUS_SET_IRQS_SIZE] = { 0 };

	put_le32(body, sizeof(body));
	put_le32(body + 4, flags);
	put_le32(body + 8, VUS_IRQ_MSIX);
	put_le32(body + 16, count);
	return wants(&filter, VUS_CMD_SET_IRQS, body, sizeof(body));
}

static void test_commands(void **state)
{
	struct standin_filter filter = { 0 };

	(void)state;
	assert_true(wants(&filter, VUS_CMD_VERSION, NULL, 0));
	assert_true(wants(&filter, VUS_CMD_DMA_MAP, NULL, 0));
	assert_true(wants(&filter, VUS_CMD_DMA_UNMAP, NULL, 0));
	assert_true(wants(&filter, VUS_CMD_RESET, NULL, 0));
	assert_false(wants(&filter, VUS_CMD_GET_INFO, NULL, 0));
	assert_false(wants(&filter, VUS_CMD_REGION_READ, NULL, 0));
	assert_false(wants(&filter, VUS_CMD_SET_IRQS, NULL, 0));
	assert_false(wants(&filter, VUS_CMD_REGION_WRITE, NULL, 0));
	assert_false(wants(&filter, 999, NULL, 0));
}

/* vfio-user reference, 7: what sets interrupts up, not what raises them */
static void test_interrupts(void **state)
{
	(void)state;
	assert_true(wants_irqs(0x24, 1));
	assert_true(wants_irqs(0x21, 0));
	assert_true(wants_irqs(0x09, 1));
	assert_true(wants_irqs(0x11, 1));
	assert_false(wants_irqs(0x21, 1));
}

static void test_registers(void **state)
{
	struct standin_filter filter = { 0 };

	(void)state;
	assert_true(wants_write(&filter, VUS_REGION_CONFIG, 4, 7, 2));
	assert_true(wants_reg(&filter, VMCI_REG_CAPS, 0x2c));
	assert_true(wants_reg(&filter, VMCI_REG_CONTROL, 1));
	assert_true(wants_reg(&filter, VMCI_REG_IMR, 7));
	assert_true(wants_reg(&filter, VMCI_REG_DATA_OUT_HIGH, 1));
	assert_true(wants_write(&filter, 0, VMCI_REG_CAPS, 0xc, 4));
	/* Not the device's registers. */
	assert_false(wants_write(&filter, 1, 0, 0, 4));
	assert_false(wants_write(&filter, 1, VMCI_MMIO_REGS_OFFSET + 0x38, 0, 4));
	assert_false(wants_write(&filter, 2, VMCI_REG_CAPS, 0, 4));
	/* Nothing that a driver does. */
	assert_false(wants_write(&filter, 0, VMCI_REG_CAPS + 1, 0, 4));
	assert_false(wants_write(&filter, 0, VMCI_REG_CAPS, 0, 2));
}

/* What a busy guest writes costs nothing: addresses only when they change */
static void test_transfers(void **state)
{
	struct standin_filter filter = { 0 };

	(void)state;
	assert_false(wants_write(&filter, 0, VMCI_REG_DATA_OUT, 0, 1));
	assert_false(wants_write(&filter, 0, VMCI_REG_DATA_OUT, 0, 4));
	assert_true(wants_reg(&filter, VMCI_REG_DATA_OUT_LOW, 0x1000));
	assert_false(wants_reg(&filter, VMCI_REG_DATA_OUT_LOW, 0x1000));
	assert_true(wants_reg(&filter, VMCI_REG_DATA_IN_LOW, 0x1000));
	assert_false(wants_reg(&filter, VMCI_REG_DATA_IN_LOW, 0x1000));
	assert_true(wants_reg(&filter, VMCI_REG_DATA_OUT_LOW, 0x2000));
	assert_false(wants_reg(&filter, VMCI_REG_DATA_IN_LOW, 0x1000));
}

/* The stand-in forgets addresses when a driver leaves, and the next one may use the same */
static void test_next_driver(void **state)
{
	struct standin_filter filter = { 0 };

	(void)state;
	assert_true(wants_reg(&filter, VMCI_REG_DATA_OUT_LOW, 0x1000));
	assert_true(wants_reg(&filter, VMCI_REG_CAPS, 0x2c));
	assert_true(wants_reg(&filter, VMCI_REG_DATA_OUT_LOW, 0x1000));
	assert_true(wants(&filter, VUS_CMD_RESET, NULL, 0));
	assert_true(wants_reg(&filter, VMCI_REG_DATA_OUT_LOW, 0x1000));
	assert_true(wants_write(&filter, VUS_REGION_CONFIG, 4, 3, 2));
	assert_true(wants_reg(&filter, VMCI_REG_DATA_OUT_LOW, 0x1000));
	assert_false(wants_reg(&filter, VMCI_REG_DATA_OUT_LOW, 0x1000));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_commands),
		cmocka_unit_test(test_interrupts),
		cmocka_unit_test(test_registers),
		cmocka_unit_test(test_transfers),
		cmocka_unit_test(test_next_driver),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
