/* SPDX-License-Identifier: BSD-2-Clause */
/* Which messages of a VMM the keeper has to hear of, and what it makes of them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

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

/* --- Following, and taking over ---------------------------------------------------------------------------------- */

#define COMMAND 4u	/* of config space; 7 and 6 are what a driver writes there */

/* One message into @buf; returns its size */
static size_t put_message(uint8_t *buf, unsigned cmd, uint32_t flags, uint16_t id, const void *body, size_t len)
{
	memset(buf, 0, VUS_HEADER_SIZE);
	put_le16(buf, id);
	put_le16(buf + 2, (uint16_t)cmd);
	put_le32(buf + 4, (uint32_t)(VUS_HEADER_SIZE + len));
	put_le32(buf + 8, flags);
	memcpy(buf + VUS_HEADER_SIZE, body, len);
	return VUS_HEADER_SIZE + len;
}

static size_t put_command(uint8_t *buf, uint16_t id, uint32_t flags, uint16_t value)
{
	uint8_t body[VUS_ACCESS_SIZE + 2];

	put_le64(body, COMMAND);
	put_le32(body + 8, VUS_REGION_CONFIG);
	put_le32(body + 12, 2);
	put_le16(body + 16, value);
	return put_message(buf, VUS_CMD_REGION_WRITE, flags, id, body, sizeof(body));
}

/* struct stage - a stand-in, what it is fed by, and its VMM */
struct stage {
	struct standin *standin;
	int feed;
	int vmm;
};

static void handle(struct stage *stage)
{
	for (int i = 0; i < 4; i++)
		assert_int_equal(standin_handle(stage->standin), 0);
}

static void feed(struct stage *stage, const uint8_t *msg, size_t size)
{
	assert_int_equal(send(stage->feed, msg, size, 0), size);
	handle(stage);
}

static void open_stage(struct stage *stage)
{
	static const struct dev_config config = { .cid = 42, .irq = DEV_IRQ_MSIX };
	static const uint8_t version[] = "\0\0\1\0{}";
	uint8_t msg[64];
	int pair[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair), 0);
	stage->feed = pair[0];
	assert_int_equal(standin_new(pair[1], &config, &stage->standin), 0);
	feed(stage, msg, put_message(msg, VUS_CMD_VERSION, VUS_NO_REPLY, 1, version, sizeof(version)));
}

static void take_over(struct stage *stage, const struct vus_input *input, size_t skip)
{
	static const struct dev_carry carry;
	const struct standin_left left = { .carry = &carry, .input = input, .skip = skip };
	int pair[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair), 0);
	stage->vmm = pair[0];
	standin_take_over(stage->standin, pair[1], &left);
	handle(stage);
}

/* What the VMM reads at COMMAND */
static unsigned command(struct stage *stage)
{
	uint8_t body[VUS_ACCESS_SIZE], msg[64];

	put_le64(body, COMMAND);
	put_le32(body + 8, VUS_REGION_CONFIG);
	put_le32(body + 12, 2);
	while (recv(stage->vmm, msg, sizeof(msg), 0) > 0)
		;
	assert_true(send(stage->vmm, msg, put_message(msg, VUS_CMD_REGION_READ, 0, 99, body, sizeof(body)), 0) > 0);
	handle(stage);
	assert_int_equal(recv(stage->vmm, msg, sizeof(msg), 0), VUS_HEADER_SIZE + VUS_ACCESS_SIZE + 2);
	return get_le16(msg + VUS_HEADER_SIZE + VUS_ACCESS_SIZE);
}

static void close_stage(struct stage *stage)
{
	standin_free(stage->standin);
	close(stage->feed);
	close(stage->vmm);
}

static void test_has_followed(void **state)
{
	struct stage stage;
	uint8_t msg[64];

	(void)state;
	open_stage(&stage);
	assert_true(standin_has_followed(stage.standin, VUS_CMD_VERSION, 1));
	feed(&stage, msg, put_command(msg, 7, VUS_NO_REPLY, 6));
	assert_true(standin_has_followed(stage.standin, VUS_CMD_REGION_WRITE, 7));
	assert_false(standin_has_followed(stage.standin, VUS_CMD_REGION_WRITE, 8));
	assert_false(standin_has_followed(stage.standin, VUS_CMD_VERSION, 7));
	take_over(&stage, NULL, 0);
	assert_int_equal(command(&stage), 6);
	/* It serves now: that is no following */
	assert_true(standin_has_followed(stage.standin, VUS_CMD_REGION_WRITE, 7));
	close_stage(&stage);
}

/* What the dead process had received is served, but for what it had begun */
static void test_serves_what_was_left(void **state)
{
	static struct vus_input input;
	struct stage stage;
	uint8_t reply[64];
	size_t first, second;

	(void)state;
	for (int skip = 0; skip < 2; skip++) {
		memset(&input, 0, sizeof(input));
		input.start = 100;
		first = put_command(input.bytes + 100, 7, 0, 7);
		second = put_command(input.bytes + 100 + first, 8, 0, 6);
		open_stage(&stage);
		take_over(&stage, &input, skip ? first + second : first);
		/* An answer, or none */
		if (!skip) {
			assert_true(recv(stage.vmm, reply, sizeof(reply), 0) >= (ssize_t)VUS_HEADER_SIZE);
			assert_int_equal(get_le16(reply), 8);
		} else {
			assert_int_equal(recv(stage.vmm, reply, sizeof(reply), 0), -1);
		}
		assert_int_equal(command(&stage), skip ? 0 : 6);
		close_stage(&stage);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_commands),
		cmocka_unit_test(test_interrupts),
		cmocka_unit_test(test_registers),
		cmocka_unit_test(test_transfers),
		cmocka_unit_test(test_next_driver),
		cmocka_unit_test(test_has_followed),
		cmocka_unit_test(test_serves_what_was_left),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
