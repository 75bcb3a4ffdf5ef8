/* SPDX-License-Identifier: BSD-2-Clause */
/* The session, seen from a client: vfio-user reference, 0 to 7, 9, 10, 12. */
#include "rig.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/bytes.h"
#include "proto/limits.h"

/* What the session costs, and a clock that can be put forward: the linker sends its calls here. */
static unsigned n_recvmsg, n_sendmsg, n_malloc;
static uint64_t clock_ahead;

ssize_t __real_recvmsg(int fd, struct msghdr *msg, int flags);
ssize_t __wrap_recvmsg(int fd, struct msghdr *msg, int flags);
ssize_t __real_sendmsg(int fd, const struct msghdr *msg, int flags);
ssize_t __wrap_sendmsg(int fd, const struct msghdr *msg, int flags);
void *__real_malloc(size_t size);
void *__wrap_malloc(size_t size);
int __real_clock_gettime(clockid_t clock, struct timespec *ts);
int __wrap_clock_gettime(clockid_t clock, struct timespec *ts);

ssize_t __wrap_recvmsg(int fd, struct msghdr *msg, int flags)
{
	n_recvmsg++;
	return __real_recvmsg(fd, msg, flags);
}

ssize_t __wrap_sendmsg(int fd, const struct msghdr *msg, int flags)
{
	n_sendmsg++;
	return __real_sendmsg(fd, msg, flags);
}

void *__wrap_malloc(size_t size)
{
	n_malloc++;
	return __real_malloc(size);
}

int __wrap_clock_gettime(clockid_t clock, struct timespec *ts)
{
	int r = __real_clock_gettime(clock, ts);

	ts->tv_sec += (time_t)(clock_ahead / 1000000000u);
	return r;
}

static struct sigaction our_handler;	/* for SIGBUS */

static uint8_t body[LIMIT_VFIO_MESSAGE + 64], reply[LIMIT_VFIO_MESSAGE];
static size_t len;

static int call(struct rig *rig, unsigned cmd, size_t body_len)
{
	return rig_call(rig, cmd, body, body_len, NULL, 0, reply, &len);
}

/* is_silent() - has the session sent nothing? */
static bool is_silent(struct rig *rig)
{
	int fd;

	return !rig_recv(rig, reply, sizeof(reply), &fd);
}

/* is_alive() - does the session still answer? */
static bool is_alive(struct rig *rig)
{
	return call(rig, VUS_CMD_GET_INFO, rig_body_info(body, 16)) == 0;
}

/* --- VERSION --- */

static void test_s3_version_of_qemu(void **state)
{
	struct rig *rig = *state;
	size_t request = rig_body_version(body, 0, 0, rig_qemu_json);

	assert_int_equal(VUS_HEADER_SIZE + request, 214);
	assert_int_equal(call(rig, VUS_CMD_VERSION, request), 0);
	/* 0.2: version 0.0, NUL-terminated, not longer than the request. */
	assert_int_equal(get_le16(reply), 0);
	assert_int_equal(get_le16(reply + 2), 0);
	assert_true(len <= request);
	assert_int_equal(reply[len - 1], 0);
	assert_string_equal((char *)reply + 4,
			    "{\"capabilities\":{\"max_msg_fds\":16,\"max_data_xfer_size\":65536,"
			    "\"max_dma_maps\":65535,\"pgsizes\":4096}}");
	assert_int_equal(strlen((char *)reply + 4), len - 5);
	assert_true(is_alive(rig));
}

static void test_s10_version_of_cloud_hypervisor(void **state)
{
	struct rig *rig = *state;

	assert_int_equal(call(rig, VUS_CMD_VERSION, rig_body_version(body, 0, 1, rig_ch_json)), 0);
	assert_int_equal(get_le16(reply), 0);
	assert_int_equal(get_le16(reply + 2), 1);
	assert_int_equal(reply[len - 1], 0);
}

static void test_s3_minor_is_the_smaller_one(void **state)
{
	struct rig *rig = *state;

	assert_int_equal(call(rig, VUS_CMD_VERSION, rig_body_version(body, 0, 99, NULL)), 0);
	assert_int_equal(get_le16(reply + 2), 1);
}

/* fails_to_negotiate() - the message is answered with EINVAL, and the session ends with a reason */
static void fails_to_negotiate(struct rig *rig, unsigned cmd, size_t body_len)
{
	assert_int_equal(call(rig, cmd, body_len), -EINVAL);
	assert_int_equal(vus_session_handle(rig->session), -EPROTO);
	assert_string_not_equal(vus_session_reason(rig->session), "");
	/* It is over for good. */
	rig_command(rig, VUS_CMD_VERSION, 0, body, rig_body_version(body, 0, 0, "{}"), NULL, 0);
	assert_int_equal(vus_session_handle(rig->session), -EPROTO);
	assert_true(is_silent(rig));
	assert_false(vus_session_is_pending(rig->session));
}

static void test_s3_other_major_is_refused(void **state)
{
	fails_to_negotiate(*state, VUS_CMD_VERSION, rig_body_version(body, 1, 0, "{}"));
}

static void test_s3_broken_json_is_refused(void **state)
{
	fails_to_negotiate(*state, VUS_CMD_VERSION, rig_body_version(body, 0, 0, "{\"capabilities\":"));
}

static void test_s3_short_version_is_refused(void **state)
{
	fails_to_negotiate(*state, VUS_CMD_VERSION, 3);
}

static void test_s3_text_without_nul_is_refused(void **state)
{
	fails_to_negotiate(*state, VUS_CMD_VERSION, rig_body_version(body, 0, 0, "{}") - 1);
}

static void test_s3_version_comes_first(void **state)
{
	fails_to_negotiate(*state, VUS_CMD_GET_INFO, rig_body_info(body, 16));
}

static void test_s3_unknown_command_first(void **state)
{
	fails_to_negotiate(*state, 99, 0);
}

static void test_s3_second_version_is_refused(void **state)
{
	struct rig *rig = *state;

	assert_int_equal(call(rig, VUS_CMD_VERSION, rig_body_version(body, 0, 0, "{}")), -EINVAL);
	assert_true(is_alive(rig));
}

/* --- Headers and commands --- */

/* ends_with() - a header with these fields ends the session */
static void ends_with(struct rig *rig, unsigned cmd, uint32_t size, uint32_t flags)
{
	int fd = rig_memfd(1, 0, true);
	uint8_t buf[VUS_HEADER_SIZE];

	rig_header(rig, buf, cmd, flags, 0);
	put_le32(buf + 4, size);
	rig_send(rig, buf, sizeof(buf), &fd, 1);
	close(fd);
	assert_int_equal(rig_handle(rig), -EPROTO);
	assert_string_not_equal(vus_session_reason(rig->session), "");
	assert_true(is_silent(rig));
}

static void test_s1_1_size_below_header_ends(void **state)
{
	ends_with(*state, VUS_CMD_RESET, 15, 0);
}

static void test_s1_1_size_0_ends(void **state)
{
	ends_with(*state, VUS_CMD_RESET, 0, 0);
}

static void test_s1_1_size_over_maximum_ends(void **state)
{
	ends_with(*state, VUS_CMD_REGION_WRITE, LIMIT_VFIO_MESSAGE + 1, 0);
}

static void test_s1_1_huge_size_ends(void **state)
{
	ends_with(*state, VUS_CMD_REGION_WRITE, UINT32_MAX, VUS_NO_REPLY);
}

static void test_s1_1_reply_to_nothing_ends(void **state)
{
	ends_with(*state, VUS_CMD_DMA_READ, 16, VUS_TYPE_REPLY);
}

static void test_s1_1_unknown_type_ends(void **state)
{
	ends_with(*state, VUS_CMD_RESET, 16, 2);
}

static void test_s1_1_strange_flags_are_refused(void **state)
{
	struct rig *rig = *state;
	struct vus_header header;
	int fd;

	rig_command(rig, VUS_CMD_RESET, VUS_ERROR, NULL, 0, NULL, 0);
	rig_command(rig, VUS_CMD_RESET, 0x80000000, NULL, 0, NULL, 0);
	assert_int_equal(rig_handle(rig), 0);
	assert_int_equal(rig_recv(rig, reply, sizeof(reply), &fd), 32);
	vus_header_parse(reply, &header);
	assert_int_equal(header.error, EINVAL);
	assert_int_equal(rig->resets, 0);
	assert_true(is_alive(rig));
}

static void test_s1_2_unknown_commands_are_einval(void **state)
{
	static const unsigned bad[] = {
		0, VUS_CMD_DMA_READ, VUS_CMD_DMA_WRITE, VUS_CMD_DIRTY_PAGES, 19, 20, 255, 256, 65535,
	};
	struct rig *rig = *state;

	memset(body, 0, sizeof(body));
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_int_equal(call(rig, bad[i], 0), -EINVAL);
		assert_int_equal(call(rig, bad[i], 24), -EINVAL);
	}
	assert_true(is_alive(rig));
}

static void test_s9_5_no_migration_is_einval(void **state)
{
	struct rig *rig = *state;

	memset(body, 0, 32);
	put_le32(body, 16);
	put_le32(body + 4, 1 | VUS_FEATURE_GET | VUS_FEATURE_PROBE);
	assert_int_equal(call(rig, VUS_CMD_FEATURE, 16), -EINVAL);
	put_le32(body + 4, 0);
	assert_int_equal(call(rig, VUS_CMD_MIG_DATA_READ, 8), -EINVAL);
	assert_int_equal(call(rig, VUS_CMD_MIG_DATA_WRITE, 8), -EINVAL);
	assert_true(is_alive(rig));
}

static void test_s0_4_no_reply_is_never_answered(void **state)
{
	struct rig *rig = *state;
	int fd = rig_memfd(1, 0, true);

	rig_command(rig, VUS_CMD_RESET, VUS_NO_REPLY, NULL, 0, NULL, 0);
	rig_command(rig, VUS_CMD_REGION_WRITE, VUS_NO_REPLY, body, rig_body_write(body, 8, 0, 4, "abcd"),
		    NULL, 0);
	rig_command(rig, VUS_CMD_REGION_READ, VUS_NO_REPLY, body, rig_body_access(body, 8, 0, 4), NULL, 0);
	rig_command(rig, VUS_CMD_DMA_MAP, VUS_NO_REPLY, body, rig_body_map(body, 32, 3, 0, 0, PAGE), &fd, 1);
	/* Errors are not answered, either. */
	rig_command(rig, VUS_CMD_REGION_WRITE, VUS_NO_REPLY, body, rig_body_write(body, 64, 0, 4, "abcd"),
		    NULL, 0);
	rig_command(rig, VUS_CMD_DMA_MAP, VUS_NO_REPLY, body, rig_body_map(body, 32, 3, 0, 0, PAGE), &fd, 1);
	rig_command(rig, VUS_CMD_VERSION, VUS_NO_REPLY, body, 0, NULL, 0);
	rig_command(rig, 99, VUS_NO_REPLY, body, 0, NULL, 0);
	assert_int_equal(rig_handle(rig), 0);
	assert_true(is_silent(rig));
	assert_int_equal(rig->resets, 1);
	assert_int_equal(rig->writes, 1);
	assert_int_equal(rig->maps, 1);
	assert_true(is_alive(rig));
	close(fd);
}

static void test_s12_1_fds_where_none_belong_are_refused(void **state)
{
	static const unsigned cmds[] = {
		VUS_CMD_DMA_UNMAP, VUS_CMD_GET_INFO, VUS_CMD_GET_REGION_INFO, VUS_CMD_GET_REGION_IO_FDS,
		VUS_CMD_GET_IRQ_INFO, VUS_CMD_REGION_READ, VUS_CMD_REGION_WRITE, VUS_CMD_RESET,
		VUS_CMD_REGION_WRITE_MULTI, VUS_CMD_FEATURE, VUS_CMD_VERSION, 99,
	};
	struct rig *rig = *state;
	int fd = rig_memfd(1, 0, true), fds = rig_count_fds();

	memset(body, 0, sizeof(body));
	for (size_t i = 0; i < sizeof(cmds) / sizeof(cmds[0]); i++) {
		assert_int_equal(rig_call(rig, cmds[i], body, 0, &fd, 1, reply, &len), -EINVAL);
		assert_int_equal(rig_call(rig, cmds[i], body, 16, &fd, 1, reply, &len), -EINVAL);
		assert_int_equal(rig_count_fds(), fds);
	}
	assert_int_equal(rig->resets, 0);
	assert_true(is_alive(rig));
	close(fd);
}

static void test_s12_more_than_16_fds_end(void **state)
{
	struct rig *rig = *state;
	int fds[17];

	for (int i = 0; i < 17; i++)
		fds[i] = rig->client;
	rig_command(rig, VUS_CMD_SET_IRQS, 0, body, rig_body_irqs(body, 20, 0x24, 2, 0, 17), fds, 17);
	assert_int_equal(rig_handle(rig), -EPROTO);
	assert_non_null(strstr(vus_session_reason(rig->session), "16 fds"));
}

static void test_s12_more_than_16_fds_in_pieces_end(void **state)
{
	struct rig *rig = *state;
	uint8_t buf[64];
	int fds[9];

	for (int i = 0; i < 9; i++)
		fds[i] = rig->client;
	rig_header(rig, buf, VUS_CMD_SET_IRQS, 0, 20);
	rig_send(rig, buf, 8, fds, 9);
	assert_int_equal(rig_handle(rig), 0);
	rig_send(rig, buf + 8, 8, fds, 9);
	assert_int_equal(rig_handle(rig), -EPROTO);
}

/* --- Description --- */

static void test_s4_1_info(void **state)
{
	static const uint8_t good[16] = { 16, 0, 0, 0, 3, 0, 0, 0, 9, 0, 0, 0, 5, 0, 0, 0 };
	struct rig *rig = *state;

	assert_int_equal(call(rig, VUS_CMD_GET_INFO, rig_body_info(body, 16)), 0);
	assert_int_equal(len, 16);
	assert_memory_equal(reply, good, 16);
	/* 10: argsz 32, reply 16. */
	assert_int_equal(call(rig, VUS_CMD_GET_INFO, rig_body_info(body, 32)), 0);
	assert_int_equal(len, 16);
	assert_memory_equal(reply, good, 16);
	assert_int_equal(call(rig, VUS_CMD_GET_INFO, rig_body_info(body, 15)), -EINVAL);
	assert_int_equal(call(rig, VUS_CMD_GET_INFO, 12), -EINVAL);
}

static void test_s0_5_region_info_for_every_index(void **state)
{
	static const uint64_t size[VUS_REGION_NUM] = { [0] = 64, [1] = RIG_BAR1_SIZE, [7] = 256 };
	struct rig *rig = *state;

	for (uint32_t i = 0; i < VUS_REGION_NUM; i++) {
		assert_int_equal(call(rig, VUS_CMD_GET_REGION_INFO, rig_body_region_info(body, 32, i)), 0);
		assert_int_equal(len, 32);
		assert_int_equal(get_le32(reply), 32);
		assert_int_equal(get_le32(reply + 4), size[i] ? 3 : 0);
		assert_int_equal(get_le32(reply + 8), i);
		assert_int_equal(get_le32(reply + 12), 0);
		assert_int_equal(get_le64(reply + 16), size[i]);
		assert_int_equal(get_le64(reply + 24), 0);
	}
	assert_int_equal(call(rig, VUS_CMD_GET_REGION_INFO, rig_body_region_info(body, 32, 9)), -EINVAL);
	assert_int_equal(call(rig, VUS_CMD_GET_REGION_INFO, rig_body_region_info(body, 32, UINT32_MAX)),
			 -EINVAL);
	assert_int_equal(call(rig, VUS_CMD_GET_REGION_INFO, rig_body_region_info(body, 31, 0)), -EINVAL);
}

/* reply_fd() - like call(), for replies that carry a descriptor */
static int reply_fd(struct rig *rig, unsigned cmd, size_t body_len)
{
	static uint8_t buf[LIMIT_VFIO_MESSAGE];
	int fd;

	rig_command(rig, cmd, 0, body, body_len, NULL, 0);
	assert_int_equal(rig_handle(rig), 0);
	len = rig_recv(rig, buf, sizeof(buf), &fd) - VUS_HEADER_SIZE;
	memcpy(reply, buf + VUS_HEADER_SIZE, len);
	return fd;
}

static void test_s4_2_mappable_region_in_two_steps(void **state)
{
	static const struct vus_area area = { 0x2000, 0x3e000 };
	struct vus_desc desc;
	struct rig *rig;
	int fd = rig_memfd(64, 0, true), got;
	struct stat a, b;

	(void)state;
	rig_desc(&desc);
	desc.region[1].flags |= VUS_REGION_MMAP;
	desc.region[1].fd = fd;
	desc.region[1].offset = 0x5000;
	desc.region[1].areas = &area;
	desc.region[1].n_areas = 1;
	rig = rig_open(&desc);
	/* The first reply has neither CAPS nor an fd. */
	assert_int_equal(reply_fd(rig, VUS_CMD_GET_REGION_INFO, rig_body_region_info(body, 32, 1)), -1);
	assert_int_equal(len, 32);
	assert_int_equal(get_le32(reply), 64);
	assert_int_equal(get_le32(reply + 4), 7);
	/* The second one has both. */
	got = reply_fd(rig, VUS_CMD_GET_REGION_INFO, rig_body_region_info(body, 64, 1));
	assert_true(got >= 0);
	assert_int_equal(fstat(fd, &a), 0);
	assert_int_equal(fstat(got, &b), 0);
	assert_int_equal(a.st_ino, b.st_ino);
	close(got);
	assert_int_equal(len, 64);
	assert_int_equal(get_le32(reply + 4), 15);
	/* It goes with that reply only. */
	assert_int_equal(reply_fd(rig, VUS_CMD_GET_INFO, rig_body_info(body, 16)), -1);
	got = reply_fd(rig, VUS_CMD_GET_REGION_INFO, rig_body_region_info(body, 64, 1));
	close(got);
	assert_int_equal(get_le64(reply + 24), 0x5000);
	assert_int_equal(get_le64(reply + 48), 0x2000);
	/* Without a reply there is no fd, later neither. */
	rig_command(rig, VUS_CMD_GET_REGION_INFO, VUS_NO_REPLY, body, rig_body_region_info(body, 64, 1), NULL,
		    0);
	assert_int_equal(reply_fd(rig, VUS_CMD_GET_INFO, rig_body_info(body, 16)), -1);
	rig_free(rig);
	close(fd);
}

static void test_s3_1_client_that_takes_no_fds_cannot_map(void **state)
{
	struct vus_desc desc;
	struct rig *rig;
	int fd = rig_memfd(64, 0, true);

	(void)state;
	rig_desc(&desc);
	desc.region[1].flags |= VUS_REGION_MMAP;
	desc.region[1].fd = fd;
	rig = rig_new(&desc);
	assert_int_equal(call(rig, VUS_CMD_VERSION,
			      rig_body_version(body, 0, 0, "{\"capabilities\":{\"max_msg_fds\":0}}")), 0);
	assert_int_equal(reply_fd(rig, VUS_CMD_GET_REGION_INFO, rig_body_region_info(body, 32, 1)), -1);
	assert_int_equal(get_le32(reply + 4), 3);
	rig_free(rig);
	close(fd);
}

static void test_s4_3_no_io_fds(void **state)
{
	struct rig *rig = *state;

	rig_body_irqs(body, 16, 0, 1, 0, 0);
	assert_int_equal(call(rig, VUS_CMD_GET_REGION_IO_FDS, 16), 0);
	assert_int_equal(len, 16);
	assert_int_equal(get_le32(reply), 16);
	assert_int_equal(get_le32(reply + 8), 1);
	assert_int_equal(get_le32(reply + 12), 0);
	rig_body_irqs(body, 16, 0, 9, 0, 0);
	assert_int_equal(call(rig, VUS_CMD_GET_REGION_IO_FDS, 16), -EINVAL);
}

static void test_s4_4_irq_info_for_every_index(void **state)
{
	static const uint32_t flags[VUS_IRQ_NUM] = { 7, 9, 1, 1, 1 }, count[VUS_IRQ_NUM] = { 1, 1, 3, 1, 1 };
	struct rig *rig = *state;

	for (uint32_t i = 0; i < VUS_IRQ_NUM; i++) {
		assert_int_equal(call(rig, VUS_CMD_GET_IRQ_INFO, rig_body_irq_info(body, 16, i)), 0);
		assert_int_equal(len, 16);
		assert_int_equal(get_le32(reply), 16);
		assert_int_equal(get_le32(reply + 4), flags[i]);
		assert_int_equal(get_le32(reply + 8), i);
		assert_int_equal(get_le32(reply + 12), count[i]);
	}
	assert_int_equal(call(rig, VUS_CMD_GET_IRQ_INFO, rig_body_irq_info(body, 16, 5)), -EINVAL);
	assert_int_equal(call(rig, VUS_CMD_GET_IRQ_INFO, rig_body_irq_info(body, 0, 0)), -EINVAL);
}

static void test_s10_intx_count_0_without_pin(void **state)
{
	struct vus_desc desc;
	struct rig *rig;

	(void)state;
	rig_desc(&desc);
	desc.irq_count[VUS_IRQ_INTX] = 0;
	rig = rig_open(&desc);
	assert_int_equal(call(rig, VUS_CMD_GET_IRQ_INFO, rig_body_irq_info(body, 16, 0)), 0);
	assert_int_equal(get_le32(reply + 12), 0);
	assert_int_equal(vus_irqs_fd(vus_session_irqs(rig->session)), -1);
	rig_free(rig);
}

/* --- Regions --- */

static void test_s5_1_read_and_write(void **state)
{
	struct rig *rig = *state;

	assert_int_equal(call(rig, VUS_CMD_REGION_WRITE, rig_body_write(body, 0x20004, 1, 8, "abcdefgh")), 0);
	/* 10: the 16 bytes are wanted. */
	assert_int_equal(len, 16);
	assert_memory_equal(reply, body, 16);
	assert_int_equal(rig->writes, 1);
	assert_int_equal(rig->last_region, 1);
	assert_int_equal(rig->last_off, 0x20004);
	assert_int_equal(rig->last_len, 8);
	assert_int_equal(call(rig, VUS_CMD_REGION_READ, rig_body_access(body, 0x20004, 1, 4)), 0);
	assert_int_equal(len, 20);
	assert_memory_equal(reply, body, 16);
	assert_memory_equal(reply + 16, "abcd", 4);
	assert_int_equal(rig->last_len, 4);
	/* QEMU's look at config space. */
	assert_int_equal(call(rig, VUS_CMD_REGION_READ, rig_body_access(body, 0, 7, 256)), 0);
	assert_int_equal(len, 16 + 256);
	assert_int_equal(rig->last_region, 7);
	/* Nothing of an earlier message shows in what the device does not fill. */
	rig->is_lazy = true;
	assert_int_equal(call(rig, VUS_CMD_REGION_READ, rig_body_access(body, 0, 7, 256)), 0);
	memset(body, 0, 256);
	assert_memory_equal(reply + 16, body, 256);
}

static void test_s5_1_bounds(void **state)
{
	static const struct {
		uint64_t off;
		uint32_t region, count;
	} bad[] = {
		{ 64, 0, 1 },	      { 63, 0, 2 },
		{ 0, 0, 65 },	      { UINT64_MAX, 0, 1 },
		{ UINT64_MAX, 0, 2 }, { UINT64_MAX - 3, 0, 4 },
		{ 0, 2, 1 },	      { 0, 6, 4 },
		{ 0, 8, 4 },	      { 0, 9, 1 },
		{ 0, UINT32_MAX, 1 }, { 256, 7, 1 },
		{ 253, 7, 4 },	      { 1ull << 32, 1, 4 },
		{ 0, 0, UINT32_MAX }, { 0, 1, LIMIT_VFIO_XFER + 1 },
	};
	struct rig *rig = *state;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		rig_body_access(body, bad[i].off, bad[i].region, bad[i].count);
		assert_int_equal(call(rig, VUS_CMD_REGION_READ, 16), -EINVAL);
		if (bad[i].count <= LIMIT_VFIO_XFER)
			assert_int_equal(call(rig, VUS_CMD_REGION_WRITE, 16 + bad[i].count), -EINVAL);
	}
	assert_int_equal(rig->reads, 0);
	assert_int_equal(rig->writes, 0);
	/* A body of another length than the count says. */
	assert_int_equal(call(rig, VUS_CMD_REGION_WRITE, rig_body_write(body, 0, 0, 4, "abcd") - 1), -EINVAL);
	assert_int_equal(call(rig, VUS_CMD_REGION_WRITE, rig_body_write(body, 0, 0, 4, "abcd") + 1), -EINVAL);
	assert_int_equal(call(rig, VUS_CMD_REGION_READ, rig_body_access(body, 0, 0, 4) + 1), -EINVAL);
	assert_int_equal(call(rig, VUS_CMD_REGION_READ, rig_body_access(body, 0, 0, 4) - 1), -EINVAL);
	/* Nothing at all. */
	assert_int_equal(call(rig, VUS_CMD_REGION_READ, rig_body_access(body, 64, 0, 0)), 0);
	assert_int_equal(len, 16);
	assert_int_equal(call(rig, VUS_CMD_REGION_WRITE, rig_body_access(body, 64, 0, 0)), 0);
	assert_int_equal(rig->reads + rig->writes, 0);
}

static void test_s3_1_largest_access(void **state)
{
	struct rig *rig = *state;

	for (size_t i = 0; i < LIMIT_VFIO_XFER; i++)
		body[16 + i] = (uint8_t)(i * 7);
	rig_body_access(body, 0x20000, 1, LIMIT_VFIO_XFER);
	assert_int_equal(call(rig, VUS_CMD_REGION_WRITE, 16 + LIMIT_VFIO_XFER), 0);
	assert_int_equal(call(rig, VUS_CMD_REGION_READ, 16), 0);
	assert_int_equal(len, 16 + LIMIT_VFIO_XFER);
	assert_memory_equal(reply, body, len);
}

static void test_region_rights(void **state)
{
	struct vus_desc desc;
	struct rig *rig;

	(void)state;
	rig_desc(&desc);
	desc.region[0].flags = VUS_REGION_READ;
	rig = rig_open(&desc);
	assert_int_equal(call(rig, VUS_CMD_REGION_WRITE, rig_body_write(body, 0, 0, 4, "abcd")), -EINVAL);
	assert_int_equal(call(rig, VUS_CMD_REGION_READ, rig_body_access(body, 0, 0, 4)), 0);
	rig_free(rig);
}

static void test_s7_1_pba_reads_show_pending_vectors(void **state)
{
	struct rig *rig = *state;
	struct vus_irqs *irqs = vus_session_irqs(rig->session);

	memset(rig->bar, 0xee, sizeof(rig->bar));
	assert_int_equal(call(rig, VUS_CMD_SET_IRQS, rig_body_irqs(body, 20, 0x24, 2, 0, 1)), 0);
	vus_irq_cause(irqs, 0);
	vus_irq_cause(irqs, 2);
	assert_int_equal(call(rig, VUS_CMD_REGION_READ, rig_body_access(body, RIG_PBA, 1, 8)), 0);
	assert_int_equal(get_le64(reply + 16), 5);
	assert_int_equal(call(rig, VUS_CMD_REGION_READ, rig_body_access(body, RIG_PBA, 1, 4)), 0);
	assert_int_equal(get_le32(reply + 16), 5);
	assert_int_equal(call(rig, VUS_CMD_REGION_READ, rig_body_access(body, RIG_PBA + 1, 1, 1)), 0);
	assert_int_equal(reply[16], 0);
	assert_int_equal(call(rig, VUS_CMD_REGION_READ, rig_body_access(body, RIG_PBA - 4, 1, 16)), 0);
	assert_memory_equal(reply + 16, "\xee\xee\xee\xee\5\0\0\0\0\0\0\0\xee\xee\xee\xee", 16);
	assert_int_equal(call(rig, VUS_CMD_REGION_READ, rig_body_access(body, RIG_PBA + 8, 1, 4)), 0);
	assert_int_equal(get_le32(reply + 16), 0xeeeeeeee);
	/* The largest access that ends inside. */
	assert_int_equal(call(rig, VUS_CMD_REGION_READ,
			      rig_body_access(body, RIG_PBA + 4 - LIMIT_VFIO_XFER, 1, LIMIT_VFIO_XFER)),
			 0);
	assert_int_equal(get_le32(reply + 16 + LIMIT_VFIO_XFER - 4), 5);
	assert_int_equal(get_le32(reply + 16 + LIMIT_VFIO_XFER - 8), 0xeeeeeeee);
	/* The same place in another region is no PBA. */
	assert_int_equal(call(rig, VUS_CMD_REGION_READ, rig_body_access(body, 0, 0, 4)), 0);
	assert_int_equal(get_le32(reply + 16), 0xeeeeeeee);
}

static void test_s5_3_write_multi(void **state)
{
	struct rig *rig = *state;

	put_le64(body, 3);
	for (unsigned i = 0; i < 3; i++) {
		rig_body_access(body + 8 + i * 24, i * 8, 0, 8 - i);
		memset(body + 24 + i * 24, 'a' + (int)i, 8);
	}
	assert_int_equal(call(rig, VUS_CMD_REGION_WRITE_MULTI, 8 + 3 * 24), 0);
	assert_int_equal(len, 8);
	assert_int_equal(get_le64(reply), 3);
	assert_int_equal(rig->writes, 3);
	assert_memory_equal(rig->bar, "aaaaaaaabbbbbbb\0cccccc\0\0", 24);
	/* One bad write: none is done. */
	put_le64(body + 8 + 2 * 24, 60);
	memset(body + 24, 'x', 8);
	assert_int_equal(call(rig, VUS_CMD_REGION_WRITE_MULTI, 8 + 3 * 24), -EINVAL);
	assert_int_equal(rig->writes, 3);
	rig_body_access(body + 8 + 24, 0, 0, 9);
	assert_int_equal(call(rig, VUS_CMD_REGION_WRITE_MULTI, 8 + 3 * 24), -EINVAL);
	put_le64(body, UINT64_MAX / 24 + 2);
	assert_int_equal(call(rig, VUS_CMD_REGION_WRITE_MULTI, 8 + 3 * 24), -EINVAL);
	assert_int_equal(call(rig, VUS_CMD_REGION_WRITE_MULTI, 7), -EINVAL);
	assert_int_equal(rig->writes, 3);
	/* None. */
	put_le64(body, 0);
	assert_int_equal(call(rig, VUS_CMD_REGION_WRITE_MULTI, 8), 0);
	assert_int_equal(get_le64(reply), 0);
}

/* --- Reset, memory, interrupts --- */

static void test_s0_13_reset_keeps_maps_and_eventfds(void **state)
{
	struct rig *rig = *state;
	int fd = rig_memfd(1, 1, true), event = rig_eventfd();

	assert_int_equal(rig_call(rig, VUS_CMD_DMA_MAP, body, rig_body_map(body, 32, 3, 0, 0, PAGE), &fd, 1,
				  reply, &len),
			 0);
	assert_int_equal(rig_call(rig, VUS_CMD_SET_IRQS, body, rig_body_irqs(body, 20, 0x24, 2, 0, 1), &event,
				  1, reply, &len),
			 0);
	assert_int_equal(call(rig, VUS_CMD_RESET, 0), 0);
	assert_int_equal(len, 0);
	assert_int_equal(rig->resets, 1);
	assert_int_equal(vus_dma_count(rig->dma), 1);
	vus_irq_cause(vus_session_irqs(rig->session), 0);
	assert_int_equal(rig_fired(event), 1);
	assert_int_equal(call(rig, VUS_CMD_RESET, 4), -EINVAL);
	assert_int_equal(rig->resets, 1);
	close(fd);
	close(event);
}

static void test_s6_map_and_unmap(void **state)
{
	struct rig *rig = *state;
	struct mem mem = vus_dma_mem(rig->dma);
	int fds[2] = { rig_memfd(4, 10, true), rig_memfd(1, 0, true) };
	int n = rig_count_fds();
	uint8_t byte;

	rig_body_map(body, 32, 3, PAGE, 0x100000, 2 * PAGE);
	assert_int_equal(rig_call(rig, VUS_CMD_DMA_MAP, body, 32, fds, 1, reply, &len), 0);
	assert_int_equal(len, 0);
	assert_int_equal(rig->maps, 1);
	assert_int_equal(rig->last_addr, 0x100000);
	assert_int_equal(rig->last_size, 2 * PAGE);
	assert_int_equal(rig_count_fds(), n + 1);
	assert_int_equal(mem.ops->read(mem.ctx, 0x100000 + PAGE, &byte, 1), 0);
	assert_int_equal(byte, 12);
	/* Again, with its fd and without; two fds; not page multiples. No fd may stay. */
	assert_int_equal(rig_call(rig, VUS_CMD_DMA_MAP, body, 32, fds, 1, reply, &len), -EEXIST);
	assert_int_equal(call(rig, VUS_CMD_DMA_MAP, 32), -EEXIST);
	rig_body_map(body, 32, 3, 0, 0, PAGE);
	assert_int_equal(rig_call(rig, VUS_CMD_DMA_MAP, body, 32, fds, 2, reply, &len), -EINVAL);
	rig_body_map(body, 32, 3, 0, 1, PAGE);
	assert_int_equal(rig_call(rig, VUS_CMD_DMA_MAP, body, 32, fds, 1, reply, &len), -EINVAL);
	rig_body_map(body, 32, 7, 0, 0, PAGE);
	assert_int_equal(rig_call(rig, VUS_CMD_DMA_MAP, body, 32, fds, 1, reply, &len), -EINVAL);
	rig_body_map(body, 32, 3, 0, 0, PAGE);
	assert_int_equal(rig_call(rig, VUS_CMD_DMA_MAP, body, 31, fds, 1, reply, &len), -EINVAL);
	assert_int_equal(rig_count_fds(), n + 1);
	assert_int_equal(rig->maps, 1);

	/* The echo of the unmap. */
	assert_int_equal(call(rig, VUS_CMD_DMA_UNMAP, rig_body_unmap(body, 24, 0, 0x100000, PAGE)), -ENOENT);
	assert_int_equal(call(rig, VUS_CMD_DMA_UNMAP, rig_body_unmap(body, 40, 0, 0x100000, 2 * PAGE)), 0);
	assert_int_equal(len, 24);
	assert_memory_equal(reply, body, 24);
	assert_int_equal(rig->unmaps, 1);
	assert_int_equal(mem.ops->read(mem.ctx, 0x100000 + PAGE, &byte, 1), -EFAULT);
	assert_int_equal(rig_count_fds(), n);
	assert_int_equal(call(rig, VUS_CMD_DMA_UNMAP, rig_body_unmap(body, 24, 0, 0x100000, 2 * PAGE)),
			 -ENOENT);
	assert_true(is_alive(rig));
	close(fds[0]);
	close(fds[1]);
}

static void test_s6_2_unmap_all(void **state)
{
	struct rig *rig = *state;
	int fd = rig_memfd(4, 10, true);

	for (unsigned i = 0; i < 4; i++) {
		rig_body_map(body, 32, 3, i * PAGE, i * 2 * PAGE, PAGE);
		assert_int_equal(rig_call(rig, VUS_CMD_DMA_MAP, body, 32, &fd, 1, reply, &len), 0);
	}
	assert_int_equal(call(rig, VUS_CMD_DMA_UNMAP, rig_body_unmap(body, 24, 1, 0, PAGE)), -EINVAL);
	assert_int_equal(call(rig, VUS_CMD_DMA_UNMAP, rig_body_unmap(body, 24, 2, 0, PAGE)), -EINVAL);
	assert_int_equal(vus_dma_count(rig->dma), 4);
	assert_int_equal(call(rig, VUS_CMD_DMA_UNMAP, rig_body_unmap(body, 24, 2, 0, 0)), 0);
	assert_int_equal(len, 24);
	assert_int_equal(vus_dma_count(rig->dma), 0);
	assert_int_equal(rig->unmaps, 1);
	assert_int_equal(rig->last_addr, 0);
	assert_true(rig->last_size == UINT64_MAX);
	/* Of nothing: fine. */
	assert_int_equal(call(rig, VUS_CMD_DMA_UNMAP, rig_body_unmap(body, 24, 2, 0, 0)), 0);
	close(fd);
}

static void test_s7_set_irqs(void **state)
{
	struct rig *rig = *state;
	int event[16], n;

	for (int i = 0; i < 16; i++)
		event[i] = rig_eventfd();
	n = rig_count_fds();
	/* 0.10: a de-assign without fd. */
	assert_int_equal(call(rig, VUS_CMD_SET_IRQS, rig_body_irqs(body, 20, 0x24, 2, 0, 1)), 0);
	assert_int_equal(len, 0);
	rig_body_irqs(body, 20, 0x24, 2, 0, 3);
	assert_int_equal(rig_call(rig, VUS_CMD_SET_IRQS, body, 20, event, 3, reply, &len), 0);
	vus_irq_cause(vus_session_irqs(rig->session), 1);
	assert_int_equal(rig_fired(event[1]), 1);
	assert_int_equal(rig_count_fds(), n + 3);
	/* Refused: nothing of it may stay. */
	rig_body_irqs(body, 20, 0x24, 2, 0, 16);
	assert_int_equal(rig_call(rig, VUS_CMD_SET_IRQS, body, 20, event, 16, reply, &len), -EINVAL);
	rig_body_irqs(body, 20, 0x24, 2, 0, 2);
	assert_int_equal(rig_call(rig, VUS_CMD_SET_IRQS, body, 20, event, 3, reply, &len), -EINVAL);
	rig_body_irqs(body, 20, 0x25, 2, 0, 2);
	assert_int_equal(rig_call(rig, VUS_CMD_SET_IRQS, body, 20, event, 2, reply, &len), -EINVAL);
	rig_body_irqs(body, 20, 0x24, 5, 0, 2);
	assert_int_equal(rig_call(rig, VUS_CMD_SET_IRQS, body, 20, event, 2, reply, &len), -EINVAL);
	rig_body_irqs(body, 20, 0x24, 2, 0, 2);
	assert_int_equal(rig_call(rig, VUS_CMD_SET_IRQS, body, 19, event, 2, reply, &len), -EINVAL);
	assert_int_equal(rig_count_fds(), n + 3);
	/* Test aid, then off. */
	rig_body_irqs(body, 23, 0x22, 2, 0, 3);
	memcpy(body + 20, "\0\0\1", 3);
	assert_int_equal(call(rig, VUS_CMD_SET_IRQS, 23), 0);
	assert_int_equal(rig_fired(event[2]), 1);
	assert_int_equal(call(rig, VUS_CMD_SET_IRQS, rig_body_irqs(body, 20, 0x21, 2, 0, 0)), 0);
	assert_int_equal(rig_count_fds(), n);
	for (int i = 0; i < 16; i++)
		close(event[i]);
}

/* --- The stream of bytes --- */

/* A client's life in messages, for torture. */
struct piece {
	size_t off, len;
	bool has_fd;
};

static size_t make_life(struct rig *rig, uint8_t *buf, struct piece *pieces, size_t *ret_n)
{
	size_t n = 0, at = 0, l;
	uint8_t b[512];

#define PIECE(cmd, flags, make, fd)                                              \
	do {                                                                     \
		l = (make);                                                      \
		pieces[n++] = (struct piece){ at, VUS_HEADER_SIZE + l, (fd) };   \
		rig_header(rig, buf + at, (cmd), (flags), l);                    \
		memcpy(buf + at + VUS_HEADER_SIZE, b, l);                        \
		at += VUS_HEADER_SIZE + l;                                       \
	} while (0)
	PIECE(VUS_CMD_VERSION, 0, rig_body_version(b, 0, 0, rig_qemu_json), false);
	PIECE(VUS_CMD_DMA_MAP, 0, rig_body_map(b, 32, 3, 0, 0, 4 * PAGE), true);
	PIECE(VUS_CMD_DMA_MAP, 0, rig_body_map(b, 32, 1, 0, 0xfffc0000, 0x40000), false);
	PIECE(VUS_CMD_GET_INFO, 0, rig_body_info(b, 16), false);
	PIECE(VUS_CMD_REGION_WRITE, VUS_NO_REPLY, rig_body_write(b, 0x20000, 1, 4, "abcd"), false);
	PIECE(VUS_CMD_DMA_MAP, 0, rig_body_map(b, 32, 3, 4 * PAGE, 0x100000, 4 * PAGE), true);
	PIECE(VUS_CMD_REGION_READ, 0, rig_body_access(b, 0x20000, 1, 4), false);
	PIECE(VUS_CMD_DMA_UNMAP, 0, rig_body_unmap(b, 24, 0, 0, 4 * PAGE), false);
	PIECE(VUS_CMD_RESET, 0, 0, false);
#undef PIECE
	*ret_n = n;
	return at;
}

/* What must have happened after that life. */
static void check_life(struct rig *rig, size_t replies)
{
	assert_int_equal(rig->maps, 3);
	assert_int_equal(rig->unmaps, 1);
	assert_int_equal(rig->writes, 1);
	assert_int_equal(rig->reads, 1);
	assert_int_equal(rig->resets, 1);
	assert_memory_equal(rig->bar + 0x20000, "abcd", 4);
	assert_int_equal(vus_dma_count(rig->dma), 2);
	assert_int_equal(vus_dma_files(rig->dma), 1);
	/* The fd was with the right one of the maps. */
	assert_int_equal(rig_mapped("guest-ram"), 8 * PAGE);
	assert_int_equal(replies, 8);
}

/* count_replies() - read all replies: well-formed, none an error; how many? */
static size_t count_replies(struct rig *rig)
{
	static uint8_t buf[65536];
	struct vus_header header;
	size_t total = 0, n = 0, l;
	int fd;

	while ((l = rig_recv(rig, buf + total, sizeof(buf) - total, &fd)))
		total += l;
	for (size_t at = 0; at < total; at += header.size) {
		vus_header_parse(buf + at, &header);
		assert_int_equal(header.flags, VUS_TYPE_REPLY);
		assert_true(header.size >= VUS_HEADER_SIZE && header.size <= total - at);
		n++;
	}
	return n;
}

static void test_s12_1_one_byte_at_a_time(void **state)
{
	struct rig *rig = *state;
	struct piece pieces[16];
	uint8_t buf[2048];
	int fd = rig_memfd(8, 0, true);
	size_t n, replies = 0;

	make_life(rig, buf, pieces, &n);
	for (size_t i = 0; i < n; i++)
		for (size_t at = 0; at < pieces[i].len; at++) {
			rig_send(rig, buf + pieces[i].off + at, 1, &fd, pieces[i].has_fd && !at);
			assert_int_equal(rig_handle(rig), 0);
			if (at + 1 < pieces[i].len)
				assert_true(is_silent(rig));
			else
				replies += count_replies(rig);
		}
	check_life(rig, replies);
	close(fd);
}

static void test_s12_1_every_split_in_two(void **state)
{
	struct piece pieces[16];
	uint8_t buf[2048];
	size_t n, total, replies;

	(void)state;
	for (size_t split = 1;; split++) {
		int fd = rig_memfd(8, 0, true);
		struct vus_desc desc;
		struct rig *rig;

		rig_desc(&desc);
		rig = rig_new(&desc);
		total = make_life(rig, buf, pieces, &n);
		/* One sendmsg() for each message, two for the one with the split; handled there and last. */
		for (size_t i = 0; i < n; i++) {
			size_t first = pieces[i].len;

			if (split > pieces[i].off && split < pieces[i].off + pieces[i].len)
				first = split - pieces[i].off;
			rig_send(rig, buf + pieces[i].off, first, &fd, pieces[i].has_fd);
			if (first < pieces[i].len) {
				assert_int_equal(rig_handle(rig), 0);
				rig_send(rig, buf + pieces[i].off + first, pieces[i].len - first, NULL, 0);
			}
		}
		assert_int_equal(rig_handle(rig), 0);
		replies = count_replies(rig);
		check_life(rig, replies);
		rig_free(rig);
		close(fd);
		if (split == total - 1)
			break;
	}
}

static void test_s12_1_eof_at_every_byte(void **state)
{
	struct piece pieces[16];
	uint8_t buf[2048];
	size_t n, total = SIZE_MAX;

	(void)state;
	for (size_t end = 0; end <= total; end++) {
		int fd = rig_memfd(8, 0, true);
		struct vus_desc desc;
		struct rig *rig;

		rig_desc(&desc);
		rig = rig_new(&desc);
		total = make_life(rig, buf, pieces, &n);
		for (size_t i = 0; i < n && pieces[i].off < end; i++)
			rig_send(rig, buf + pieces[i].off,
				 end - pieces[i].off < pieces[i].len ? end - pieces[i].off : pieces[i].len,
				 &fd, pieces[i].has_fd);
		assert_int_equal(shutdown(rig->client, SHUT_WR), 0);
		while (!vus_session_handle(rig->session))
			;
		assert_int_equal(vus_session_handle(rig->session), 1);
		rig_free(rig);
		close(fd);
	}
}

static void test_s1_client_that_dies_before_its_replies(void **state)
{
	struct rig *rig = *state;

	for (int i = 0; i < 10; i++)
		rig_command(rig, VUS_CMD_GET_INFO, 0, body, rig_body_info(body, 16), NULL, 0);
	close(rig->client);
	rig->client = -1;
	assert_int_equal(rig_handle(rig), 1);
	assert_string_not_equal(vus_session_reason(rig->session), "");
}

static void test_fds_belong_to_their_message(void **state)
{
	struct rig *rig = *state;
	int a = rig_memfd(1, 1, true), b = rig_memfd(1, 2, true);
	struct mem mem = vus_dma_mem(rig->dma);
	uint8_t buf[3][48], byte;

	/* Header and fd of A; its body, a posted write and then B with its fd, fetched together. */
	rig_header(rig, buf[0], VUS_CMD_DMA_MAP, 0, 32);
	rig_body_map(buf[0] + 16, 32, 3, 0, 0, PAGE);
	rig_header(rig, buf[1], VUS_CMD_DMA_MAP, 0, 32);
	rig_body_map(buf[1] + 16, 32, 3, 0, PAGE, PAGE);
	rig_header(rig, buf[2], VUS_CMD_DMA_MAP, 0, 32);
	rig_body_map(buf[2] + 16, 32, 3, 0, 2 * PAGE, PAGE);
	rig_send(rig, buf[0], 16, &a, 1);
	assert_int_equal(rig_handle(rig), 0);
	rig_send(rig, buf[0] + 16, 32, NULL, 0);
	rig_send(rig, buf[1], 48, NULL, 0);
	rig_send(rig, buf[2], 48, &b, 1);
	assert_int_equal(rig_handle(rig), 0);
	assert_int_equal(mem.ops->read(mem.ctx, 0, &byte, 1), 0);
	assert_int_equal(byte, 1);
	assert_int_equal(mem.ops->read(mem.ctx, PAGE, &byte, 1), -EFAULT);
	assert_int_equal(mem.ops->read(mem.ctx, 2 * PAGE, &byte, 1), 0);
	assert_int_equal(byte, 2);
	assert_int_equal(vus_dma_count(rig->dma), 3);
	close(a);
	close(b);
}

static void test_fds_of_an_unfinished_message_are_closed(void **state)
{
	struct rig *rig = *state;
	int fd = rig_memfd(1, 1, true);
	uint8_t buf[48];

	rig_header(rig, buf, VUS_CMD_DMA_MAP, 0, 32);
	rig_body_map(buf + 16, 32, 3, 0, 0, PAGE);
	rig_send(rig, buf, 47, &fd, 1);
	assert_int_equal(rig_handle(rig), 0);
	close(fd);
	/* rig_free() counts. */
}

static void test_s12_1_more_than_the_buffer_holds_in_one_segment(void **state)
{
	struct rig *rig = *state;
	static uint8_t buf[3000 * 36];
	size_t at = 0;

	static_assert(sizeof(buf) > LIMIT_VFIO_MESSAGE, "the last message that fits is cut");
	for (uint32_t i = 0; i < 3000; i++) {
		at += rig_header(rig, buf + at, VUS_CMD_REGION_WRITE, VUS_NO_REPLY, 20);
		at += rig_body_write(buf + at, 0x20000 + 4 * i, 1, 4, &i);
	}
	rig_send(rig, buf, at, NULL, 0);
	assert_int_equal(rig_handle(rig), 0);
	assert_int_equal(rig->writes, 3000);
	for (uint32_t i = 0; i < 3000; i++)
		assert_int_equal(get_le32(rig->bar + 0x20000 + 4 * i), i);
	assert_true(is_alive(rig));
}

static void test_turn_is_bounded(void **state)
{
	struct rig *rig = *state;
	unsigned n = 3 * LIMIT_VFIO_TURN + 5;

	for (unsigned i = 0; i < n; i++)
		rig_command(rig, VUS_CMD_REGION_WRITE, VUS_NO_REPLY, body,
			    rig_body_write(body, 0x20000 + 4 * i, 1, 4, "abcd"), NULL, 0);
	n_recvmsg = 0;
	assert_false(vus_session_is_pending(rig->session));
	for (unsigned i = 1; i <= 3; i++) {
		assert_int_equal(vus_session_handle(rig->session), 0);
		assert_int_equal(rig->writes, i * LIMIT_VFIO_TURN);
		assert_true(vus_session_is_pending(rig->session));
	}
	assert_int_equal(vus_session_handle(rig->session), 0);
	assert_int_equal(rig->writes, n);
	assert_false(vus_session_is_pending(rig->session));
	/* 5.1: all of them came with one system call. */
	assert_int_equal(n_recvmsg, 1);
}

static void test_fast_path_costs_one_call_each_way(void **state)
{
	struct rig *rig = *state;

	for (int i = 0; i < 100; i++) {
		rig_command(rig, VUS_CMD_REGION_WRITE, VUS_NO_REPLY, body,
			    rig_body_write(body, 0x20000, 1, 4, "abcd"), NULL, 0);
		n_recvmsg = n_sendmsg = n_malloc = 0;
		assert_int_equal(vus_session_handle(rig->session), 0);
		assert_int_equal(n_recvmsg, 1);
		assert_int_equal(n_sendmsg, 0);
		assert_int_equal(n_malloc, 0);

		rig_command(rig, VUS_CMD_REGION_READ, 0, body, rig_body_access(body, 0x20000, 1, 4), NULL, 0);
		n_recvmsg = n_sendmsg = n_malloc = 0;
		assert_int_equal(vus_session_handle(rig->session), 0);
		assert_int_equal(n_recvmsg, 1);
		assert_int_equal(n_sendmsg, 1);
		assert_int_equal(n_malloc, 0);
		assert_int_equal(count_replies(rig), 1);
	}
	assert_int_equal(rig->writes, 100);
	assert_int_equal(rig->reads, 100);
}

/* block() - have the session stuck with a reply that the client does not fetch; how many reads were sent? */
static unsigned block(struct rig *rig)
{
	unsigned n = 0;

	while (vus_session_events(rig->session) == EPOLLIN) {
		rig_command(rig, VUS_CMD_REGION_READ, 0, body, rig_body_access(body, 0, 1, 32768 + n % 1000),
			    NULL, 0);
		n++;
		assert_int_equal(vus_session_handle(rig->session), 0);
		assert_true(n < 10000);
	}
	return n;
}

/* room_for_replies() - replies wait, and each arrives whole and in order when the client reads */
static void room_for_replies(struct rig *rig)
{
	static uint8_t all[4 << 20];
	struct vus_header header;
	size_t total = 0, at = 0, l;
	unsigned n, reads;
	uint16_t id = rig->id;
	struct timespec ts;
	uint64_t now;
	int fd;

	for (size_t i = 0; i < sizeof(rig->bar); i++)
		rig->bar[i] = (uint8_t)(i * 13);
	n = block(rig);
	assert_true(n > 0);
	assert_int_equal(clock_gettime(CLOCK_MONOTONIC, &ts), 0);
	now = (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
	assert_int_equal(vus_session_events(rig->session), EPOLLOUT);
	assert_true(vus_session_deadline(rig->session) > 0);
	assert_false(vus_session_is_pending(rig->session));
	/* Nothing is served meanwhile, whatever comes. */
	reads = rig->reads;
	for (int i = 0; i < 3; i++, n++)
		rig_command(rig, VUS_CMD_REGION_READ, 0, body, rig_body_access(body, 0, 1, 32768 + n % 1000),
			    NULL, 0);
	for (int i = 0; i < 10; i++)
		assert_int_equal(vus_session_handle(rig->session), 0);
	assert_int_equal(rig->reads, reads);
	/* The client reads, in odd pieces: every reply arrives, whole and in order. */
	while (at < n) {
		assert_int_equal(vus_session_handle(rig->session), 0);
		/* Whoever reads gets more time. */
		assert_true(vus_session_events(rig->session) == EPOLLIN ||
			    vus_session_deadline(rig->session) > now);
		while ((l = rig_recv(rig, all + total, 4097, &fd))) {
			total += l;
			if (total % 3 == 0)
				break;
		}
		for (size_t pos = at = 0; total - pos >= VUS_HEADER_SIZE; pos += header.size, at++) {
			vus_header_parse(all + pos, &header);
			if (header.size > total - pos)
				break;
			assert_int_equal(header.id, (uint16_t)(id + at));
			assert_int_equal(header.size, 32 + 32768 + at % 1000);
			assert_memory_equal(all + pos + 32, rig->bar, 32768 + at % 1000);
		}
	}
	assert_int_equal(vus_session_events(rig->session), EPOLLIN);
	assert_int_equal(vus_session_deadline(rig->session), 0);
	assert_true(is_alive(rig));
}

static void test_s12_replies_wait_when_the_socket_is_full(void **state)
{
	room_for_replies(*state);
}

static void test_s12_replies_go_out_in_pieces_when_they_must(void **state)
{
	struct rig *rig = *state;
	int few = 8192;

	assert_int_equal(setsockopt(vus_session_fd(rig->session), SOL_SOCKET, SO_SNDBUF, &few, sizeof(few)),
			 0);
	room_for_replies(rig);
}

static void test_s12_client_that_never_reads_is_ended(void **state)
{
	struct rig *rig = *state;

	clock_ahead = 0;
	block(rig);
	clock_ahead = LIMIT_VFIO_STALL_NS - 2000000000;
	assert_int_equal(vus_session_handle(rig->session), 0);
	clock_ahead = LIMIT_VFIO_STALL_NS + 2000000000;
	assert_int_equal(vus_session_handle(rig->session), -ETIMEDOUT);
	assert_string_not_equal(vus_session_reason(rig->session), "");
	assert_int_equal(vus_session_deadline(rig->session), 0);
	clock_ahead = 0;
}

static void test_s6_4_lost_memory_ends(void **state)
{
	struct rig *rig = *state;
	struct mem mem = vus_dma_mem(rig->dma);
	int fd = rig_memfd(1, 1, false);
	uint8_t byte;

	/* cmocka put its own handler over ours. */
	assert_int_equal(sigaction(SIGBUS, &our_handler, NULL), 0);
	rig_body_map(body, 32, 3, 0, 0, PAGE);
	assert_int_equal(rig_call(rig, VUS_CMD_DMA_MAP, body, 32, &fd, 1, reply, &len), 0);
	assert_int_equal(ftruncate(fd, 0), 0);
	assert_true(is_alive(rig));
	assert_int_equal(mem.ops->read(mem.ctx, 0, &byte, 1), -EFAULT);
	assert_int_equal(vus_session_handle(rig->session), -EFAULT);
	assert_non_null(strstr(vus_session_reason(rig->session), "truncated"));
	close(fd);
}

static void test_tap_sees_messages_before_they_are_carried_out(void **state)
{
	struct rig *rig = *state;
	int fd = rig_memfd(1, 1, true);

	assert_int_equal(rig->taps, 1);
	assert_int_equal(rig->tapped.cmd, VUS_CMD_VERSION);
	rig_body_map(body, 32, 3, 0, 0, PAGE);
	assert_int_equal(rig_call(rig, VUS_CMD_DMA_MAP, body, 32, &fd, 1, reply, &len), 0);
	assert_int_equal(rig->taps, 2);
	assert_int_equal(rig->tapped.cmd, VUS_CMD_DMA_MAP);
	assert_int_equal(rig->tapped_fds, 1);
	assert_int_equal(rig->tapped_before, 0);
	assert_int_equal(rig->maps, 1);
	/* Those that are refused, too; not those that end the session. */
	assert_int_equal(call(rig, 99, 0), -EINVAL);
	assert_int_equal(rig->taps, 3);
	ends_with(rig, VUS_CMD_RESET, 15, 0);
	assert_int_equal(rig->taps, 3);
	close(fd);
}

static void test_move_to_another_connection(void **state)
{
	struct rig *rig = *state;
	int fd = rig_memfd(1, 1, true), event = rig_eventfd(), pair[2];
	uint8_t buf[64];

	rig_body_map(body, 32, 3, 0, 0, PAGE);
	assert_int_equal(rig_call(rig, VUS_CMD_DMA_MAP, body, 32, &fd, 1, reply, &len), 0);
	rig_body_irqs(body, 20, 0x24, 2, 0, 1);
	assert_int_equal(rig_call(rig, VUS_CMD_SET_IRQS, body, 20, &event, 1, reply, &len), 0);
	/* A message that was cut off, with its fd; then the connection's end. */
	rig_header(rig, buf, VUS_CMD_DMA_MAP, 0, 32);
	rig_send(rig, buf, 20, &fd, 1);
	assert_int_equal(rig_handle(rig), 0);
	close(rig->client);
	assert_int_equal(rig_handle(rig), 1);

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair), 0);
	rig->client = pair[0];
	vus_session_move(rig->session, pair[1], NULL, 0);
	assert_int_equal(vus_session_fd(rig->session), pair[1]);
	assert_string_equal(vus_session_reason(rig->session), "");
	/* No VERSION again; maps and eventfds are still there. */
	assert_true(is_alive(rig));
	assert_int_equal(vus_dma_count(rig->dma), 1);
	vus_irq_cause(vus_session_irqs(rig->session), 0);
	assert_int_equal(rig_fired(event), 1);
	close(fd);
	close(event);
}

static void test_move_with_a_reply_waiting(void **state)
{
	struct rig *rig = *state;
	int old = rig->client, pair[2];

	block(rig);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair), 0);
	rig->client = pair[0];
	vus_session_move(rig->session, pair[1], NULL, 0);
	close(old);
	assert_int_equal(vus_session_events(rig->session), EPOLLIN);
	assert_int_equal(vus_session_deadline(rig->session), 0);
	assert_true(is_alive(rig));
}

static void test_move_does_not_mend_what_was_broken(void **state)
{
	struct rig *rig = *state;
	int pair[2];

	ends_with(rig, VUS_CMD_RESET, 15, 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair), 0);
	close(rig->client);
	rig->client = pair[0];
	vus_session_move(rig->session, pair[1], NULL, 0);
	assert_int_equal(vus_session_handle(rig->session), -EPROTO);
}

static void test_storm_of_complaints_is_survived(void **state)
{
	struct rig *rig = *state;

	for (unsigned i = 0; i < 3 * LIMIT_VFIO_COMPLAINTS; i++)
		assert_int_equal(call(rig, VUS_CMD_REGION_READ, rig_body_access(body, 0, 9, 4)), -EINVAL);
	assert_true(is_alive(rig));
}

static void test_impossible_devices(void **state)
{
	static const struct vus_area areas[LIMIT_VFIO_AREAS + 1] = { { PAGE, 4 * PAGE } };
	struct vus_desc good, desc;
	struct vus_session *session = NULL;
	struct vus_ops ops = { 0 };
	struct vus_dma *dma;
	int fds = rig_count_fds(), pair[2];

	(void)state;
	assert_int_equal(vus_dma_new("x", 1, &dma), 0);
	rig_desc(&good);
	for (int i = 0; i < 11; i++) {
		desc = good;
		switch (i) {
		case 0:
			desc.region[1].size = 0x3f000;	/* 0.6 */
			break;
		case 1:
			desc.pba_offset = RIG_BAR1_SIZE - 4;
			break;
		case 2:
			desc.pba_region = 2;
			break;
		case 3:
			desc.region[1].flags |= VUS_REGION_MMAP;
			desc.region[1].fd = -1;
			break;
		case 4:
			desc.irq_count[VUS_IRQ_MSI] = LIMIT_VFIO_VECTORS + 1;
			break;
		case 5:
			desc.name = NULL;
			break;
		case 6:
			desc.region[0].flags |= VUS_REGION_CAPS;
			break;
		case 7:
			desc.pba_region = 7;
			break;
		case 8:
		case 9:
		case 10:
			desc.region[2] = (struct vus_region){
				.size = i == 8 ? 0 : 4 * PAGE,
				.flags = VUS_REGION_MMAP,
				.areas = areas,
				.n_areas = i == 10 ? LIMIT_VFIO_AREAS + 1 : 1,
			};
			break;
		}
		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
		assert_int_equal(vus_session_new(pair[1], &desc, dma, &ops, NULL, &session), -EINVAL);
		assert_null(session);
		close(pair[0]);
		assert_int_equal(rig_count_fds(), fds);
	}
	/* No MSI-X, so nothing that has to be in a BAR. */
	desc = good;
	desc.irq_count[VUS_IRQ_MSIX] = 0;
	desc.pba_region = 77;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	assert_int_equal(vus_session_new(pair[1], &desc, dma, &ops, NULL, &session), 0);
	vus_session_free(session);
	close(pair[0]);
	assert_int_equal(rig_count_fds(), fds);
	assert_null(vus_session_free(NULL));
	vus_dma_free(dma);
}

#define WITH(test) cmocka_unit_test_setup_teardown(test, rig_setup, rig_teardown)
#define WITH_NEW(test) cmocka_unit_test_setup_teardown(test, rig_setup_new, rig_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_NEW(test_s3_version_of_qemu),
		WITH_NEW(test_s10_version_of_cloud_hypervisor),
		WITH_NEW(test_s3_minor_is_the_smaller_one),
		WITH_NEW(test_s3_other_major_is_refused),
		WITH_NEW(test_s3_broken_json_is_refused),
		WITH_NEW(test_s3_short_version_is_refused),
		WITH_NEW(test_s3_text_without_nul_is_refused),
		WITH_NEW(test_s3_version_comes_first),
		WITH_NEW(test_s3_unknown_command_first),
		WITH(test_s3_second_version_is_refused),
		WITH(test_s1_1_size_below_header_ends),
		WITH(test_s1_1_size_0_ends),
		WITH(test_s1_1_size_over_maximum_ends),
		WITH(test_s1_1_huge_size_ends),
		WITH(test_s1_1_reply_to_nothing_ends),
		WITH(test_s1_1_unknown_type_ends),
		WITH(test_s1_1_strange_flags_are_refused),
		WITH(test_s1_2_unknown_commands_are_einval),
		WITH(test_s9_5_no_migration_is_einval),
		WITH(test_s0_4_no_reply_is_never_answered),
		WITH(test_s12_1_fds_where_none_belong_are_refused),
		WITH(test_s12_more_than_16_fds_end),
		WITH(test_s12_more_than_16_fds_in_pieces_end),
		WITH(test_s4_1_info),
		WITH(test_s0_5_region_info_for_every_index),
		cmocka_unit_test(test_s4_2_mappable_region_in_two_steps),
		cmocka_unit_test(test_s3_1_client_that_takes_no_fds_cannot_map),
		WITH(test_s4_3_no_io_fds),
		WITH(test_s4_4_irq_info_for_every_index),
		cmocka_unit_test(test_s10_intx_count_0_without_pin),
		WITH(test_s5_1_read_and_write),
		WITH(test_s5_1_bounds),
		WITH(test_s3_1_largest_access),
		cmocka_unit_test(test_region_rights),
		WITH(test_s7_1_pba_reads_show_pending_vectors),
		WITH(test_s5_3_write_multi),
		WITH(test_s0_13_reset_keeps_maps_and_eventfds),
		WITH(test_s6_map_and_unmap),
		WITH(test_s6_2_unmap_all),
		WITH(test_s7_set_irqs),
		WITH_NEW(test_s12_1_one_byte_at_a_time),
		cmocka_unit_test(test_s12_1_every_split_in_two),
		cmocka_unit_test(test_s12_1_eof_at_every_byte),
		WITH(test_s1_client_that_dies_before_its_replies),
		WITH(test_fds_belong_to_their_message),
		WITH(test_fds_of_an_unfinished_message_are_closed),
		WITH(test_s12_1_more_than_the_buffer_holds_in_one_segment),
		WITH(test_turn_is_bounded),
		WITH(test_fast_path_costs_one_call_each_way),
		WITH(test_s12_replies_wait_when_the_socket_is_full),
		WITH(test_s12_replies_go_out_in_pieces_when_they_must),
		WITH(test_s12_client_that_never_reads_is_ended),
		WITH(test_s6_4_lost_memory_ends),
		WITH(test_tap_sees_messages_before_they_are_carried_out),
		WITH(test_move_to_another_connection),
		WITH(test_move_with_a_reply_waiting),
		WITH(test_move_does_not_mend_what_was_broken),
		WITH(test_storm_of_complaints_is_survived),
		cmocka_unit_test(test_impossible_devices),
	};
	struct vus_dma *dma;

	if (vus_dma_new("main", 1, &dma) < 0 || sigaction(SIGBUS, NULL, &our_handler) < 0)
		return 1;
	vus_dma_free(dma);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
