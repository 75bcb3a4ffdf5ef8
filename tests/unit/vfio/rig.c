/* SPDX-License-Identifier: BSD-2-Clause */
#include "rig.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/fd.h"
#include "proto/limits.h"

const char rig_qemu_json[] =
	"{\"capabilities\": {\"pgsizes\": 4096, \"max_msg_fds\": 16, \"max_dma_maps\": 65535, "
	"\"max_data_xfer_size\": 1048576, \"migration\": {\"max_bitmap_size\": 268435456, \"pgsize\": 4096}, "
	"\"write_multiple\": true}}";

const char rig_ch_json[] = "{\"capabilities\":{\"max_msg_fds\":1,\"max_data_xfer_size\":1048576,"
			   "\"migration\":{\"pgsize\":4096}}}";

int rig_count_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	int n = 0;

	assert_non_null(dir);
	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}

int rig_memfd(unsigned pages, uint8_t tag, bool is_sealed)
{
	int fd = memfd_create("guest-ram", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	uint8_t page[PAGE];

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)pages * PAGE), 0);
	for (unsigned i = 0; i < pages; i++) {
		memset(page, tag + i, sizeof(page));
		assert_int_equal(pwrite(fd, page, sizeof(page), (off_t)i * PAGE), sizeof(page));
	}
	if (is_sealed)
		assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL), 0);
	return fd;
}

size_t rig_mapped(const char *name)
{
	FILE *f = fopen("/proc/self/maps", "r");
	unsigned long from, to;
	size_t total = 0;
	char line[512];

	assert_non_null(f);
	while (fgets(line, sizeof(line), f))
		if (strstr(line, name) && sscanf(line, "%lx-%lx", &from, &to) == 2)
			total += to - from;
	fclose(f);
	return total;
}

int rig_map(struct vus_dma *dma, uint64_t addr, uint64_t size, uint64_t offset, uint32_t flags, int fd)
{
	struct vus_dma_map map = { .flags = flags, .offset = offset, .addr = addr, .size = size };

	return vus_dma_map(dma, &map, fd < 0 ? -1 : dup(fd));
}

int rig_eventfd(void)
{
	int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

	assert_true(fd >= 0);
	return fd;
}

uint64_t rig_fired(int fd)
{
	uint64_t n;

	return read(fd, &n, sizeof(n)) == sizeof(n) ? n : 0;
}

static void on_read(void *ctx, unsigned region, uint64_t off, void *buf, size_t len)
{
	struct rig *rig = ctx;

	rig->reads++;
	rig->last_region = region;
	rig->last_off = off;
	rig->last_len = len;
	if (!rig->is_lazy)
		memcpy(buf, rig->bar + off, len);
}

static void on_write(void *ctx, unsigned region, uint64_t off, const void *buf, size_t len)
{
	struct rig *rig = ctx;

	rig->writes++;
	rig->last_region = region;
	rig->last_off = off;
	rig->last_len = len;
	memcpy(rig->bar + off, buf, len);
}

static void on_reset(void *ctx)
{
	struct rig *rig = ctx;

	rig->resets++;
}

static void on_dma(void *ctx, uint64_t addr, uint64_t size, bool is_mapped)
{
	struct rig *rig = ctx;

	rig->maps += is_mapped;
	rig->unmaps += !is_mapped;
	rig->last_addr = addr;
	rig->last_size = size;
}

static void on_tap(void *ctx, const uint8_t *msg, size_t len, const int *fds, size_t n_fds)
{
	struct rig *rig = ctx;

	rig->taps++;
	vus_header_parse(msg, &rig->tapped);
	assert_int_equal(rig->tapped.size, len);
	rig->tapped_fds = n_fds;
	/* Borrowed, and still open. */
	for (size_t i = 0; i < n_fds; i++)
		assert_true(fcntl(fds[i], F_GETFD) >= 0);
	rig->tapped_before = rig->reads + rig->writes + rig->resets + rig->maps + rig->unmaps;
}

static const struct vus_ops rig_ops = {
	.tap = on_tap,
	.region_read = on_read,
	.region_write = on_write,
	.reset = on_reset,
	.dma_changed = on_dma,
};

void rig_desc(struct vus_desc *desc)
{
	*desc = (struct vus_desc){
		.name = "rig",
		.region = {
			[0] = { .size = 64, .flags = VUS_REGION_READ | VUS_REGION_WRITE },
			[1] = { .size = RIG_BAR1_SIZE, .flags = VUS_REGION_READ | VUS_REGION_WRITE },
			[VUS_REGION_CONFIG] = { .size = 256, .flags = VUS_REGION_READ | VUS_REGION_WRITE },
		},
		.irq_count = { 1, 1, 3, 1, 1 },
		.pba_region = 1,
		.pba_offset = RIG_PBA,
	};
}

struct rig *rig_new(const struct vus_desc *desc)
{
	struct rig *rig = calloc(1, sizeof(*rig));
	int pair[2];

	assert_non_null(rig);
	rig->fds = rig_count_fds();
	rig->desc = *desc;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair), 0);
	rig->client = pair[0];
	assert_int_equal(vus_dma_new("rig", LIMIT_VFIO_MAPS, &rig->dma), 0);
	assert_int_equal(vus_session_new(pair[1], desc, rig->dma, &rig_ops, rig, &rig->session), 0);
	assert_int_equal(vus_session_fd(rig->session), pair[1]);
	return rig;
}

struct rig *rig_open(const struct vus_desc *desc)
{
	struct rig *rig = rig_new(desc);
	uint8_t body[512], reply[LIMIT_VFIO_MESSAGE];
	size_t len;

	assert_int_equal(rig_call(rig, VUS_CMD_VERSION, body, rig_body_version(body, 0, 0, rig_qemu_json),
				  NULL, 0, reply, &len),
			 0);
	return rig;
}

void rig_free(struct rig *rig)
{
	int fds = rig->fds;

	rig->session = vus_session_free(rig->session);
	rig->dma = vus_dma_free(rig->dma);
	fd_close(&rig->client);
	free(rig);
	assert_int_equal(rig_count_fds(), fds);
	assert_int_equal(rig_mapped("guest-ram"), 0);
}

int rig_setup(void **state)
{
	struct vus_desc desc;

	rig_desc(&desc);
	*state = rig_open(&desc);
	return 0;
}

int rig_setup_new(void **state)
{
	struct vus_desc desc;

	rig_desc(&desc);
	*state = rig_new(&desc);
	return 0;
}

int rig_teardown(void **state)
{
	rig_free(*state);
	return 0;
}

size_t rig_header(struct rig *rig, uint8_t *buf, unsigned cmd, uint32_t flags, size_t body)
{
	memset(buf, 0, VUS_HEADER_SIZE);
	put_le16(buf, rig->id++);
	put_le16(buf + 2, (uint16_t)cmd);
	put_le32(buf + 4, (uint32_t)(VUS_HEADER_SIZE + body));
	put_le32(buf + 8, flags);
	return VUS_HEADER_SIZE;
}

void rig_send(struct rig *rig, const void *buf, size_t len, const int *fds, size_t n_fds)
{
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(64 * sizeof(int))];
	} control;
	struct iovec iov = { .iov_base = (void *)(uintptr_t)buf, .iov_len = len };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };

	assert(n_fds <= 64);
	if (n_fds) {
		struct cmsghdr *cmsg = &control.align;

		memset(&control, 0, sizeof(control));
		msg.msg_control = control.buf;
		msg.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
		cmsg->cmsg_level = SOL_SOCKET;
		cmsg->cmsg_type = SCM_RIGHTS;
		cmsg->cmsg_len = CMSG_LEN(n_fds * sizeof(int));
		memcpy(CMSG_DATA(cmsg), fds, n_fds * sizeof(int));
	}
	assert_int_equal(sendmsg(rig->client, &msg, MSG_NOSIGNAL), len);
}

void rig_command(struct rig *rig, unsigned cmd, uint32_t flags, const void *body, size_t len, const int *fds,
		 size_t n_fds)
{
	uint8_t buf[LIMIT_VFIO_MESSAGE + PAGE];

	assert(len <= sizeof(buf) - VUS_HEADER_SIZE);
	rig_header(rig, buf, cmd, flags, len);
	if (len)
		memcpy(buf + VUS_HEADER_SIZE, body, len);
	rig_send(rig, buf, VUS_HEADER_SIZE + len, fds, n_fds);
}

int rig_handle(struct rig *rig)
{
	uint64_t before;
	int r, idle = 0;

	while (idle < 2) {
		before = vus_session_messages(rig->session);
		r = vus_session_handle(rig->session);
		if (r)
			return r;
		idle = vus_session_messages(rig->session) == before ? idle + 1 : 0;
	}
	return 0;
}

size_t rig_recv(struct rig *rig, void *buf, size_t room, int *ret_fd)
{
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(16 * sizeof(int))];
	} control;
	struct iovec iov = { .iov_base = buf, .iov_len = room };
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.buf,
		.msg_controllen = sizeof(control.buf),
	};
	struct cmsghdr *cmsg;
	ssize_t n;

	*ret_fd = -1;
	n = recvmsg(rig->client, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	if (n < 0)
		return 0;
	cmsg = CMSG_FIRSTHDR(&msg);
	if (cmsg) {
		assert_int_equal(cmsg->cmsg_len, CMSG_LEN(sizeof(int)));
		memcpy(ret_fd, CMSG_DATA(cmsg), sizeof(int));
	}
	return (size_t)n;
}

int rig_call(struct rig *rig, unsigned cmd, const void *body, size_t len, const int *fds, size_t n_fds,
	     void *ret_body, size_t *ret_len)
{
	static uint8_t reply[LIMIT_VFIO_MESSAGE];
	uint16_t id = rig->id;
	struct vus_header header;
	size_t n;
	int fd;

	rig_command(rig, cmd, 0, body, len, fds, n_fds);
	rig_handle(rig);
	n = rig_recv(rig, reply, sizeof(reply), &fd);
	assert_int_equal(fd, -1);
	if (!n)
		return 1;
	assert_true(n >= VUS_HEADER_SIZE);
	vus_header_parse(reply, &header);
	assert_int_equal(header.id, id);
	assert_int_equal(header.cmd, cmd);
	assert_int_equal(header.size, n);
	*ret_len = n - VUS_HEADER_SIZE;
	if (header.flags == (VUS_TYPE_REPLY | VUS_ERROR)) {
		/* 1.1: no payload, and an errno. */
		assert_int_equal(n, VUS_HEADER_SIZE);
		assert_true(header.error > 0);
		return -(int)header.error;
	}
	assert_int_equal(header.flags, VUS_TYPE_REPLY);
	assert_int_equal(header.error, 0);
	memcpy(ret_body, reply + VUS_HEADER_SIZE, *ret_len);
	return 0;
}

size_t rig_body_version(uint8_t *buf, unsigned major, unsigned minor, const char *json)
{
	put_le16(buf, (uint16_t)major);
	put_le16(buf + 2, (uint16_t)minor);
	if (!json)
		return 4;
	memcpy(buf + 4, json, strlen(json) + 1);
	return 4 + strlen(json) + 1;
}

size_t rig_body_map(uint8_t *buf, uint32_t argsz, uint32_t flags, uint64_t offset, uint64_t addr,
		    uint64_t size)
{
	put_le32(buf, argsz);
	put_le32(buf + 4, flags);
	put_le64(buf + 8, offset);
	put_le64(buf + 16, addr);
	put_le64(buf + 24, size);
	return 32;
}

size_t rig_body_unmap(uint8_t *buf, uint32_t argsz, uint32_t flags, uint64_t addr, uint64_t size)
{
	put_le32(buf, argsz);
	put_le32(buf + 4, flags);
	put_le64(buf + 8, addr);
	put_le64(buf + 16, size);
	return 24;
}

size_t rig_body_info(uint8_t *buf, uint32_t argsz)
{
	memset(buf, 0, 16);
	put_le32(buf, argsz);
	return 16;
}

size_t rig_body_region_info(uint8_t *buf, uint32_t argsz, uint32_t index)
{
	memset(buf, 0, 32);
	put_le32(buf, argsz);
	put_le32(buf + 8, index);
	return 32;
}

size_t rig_body_irq_info(uint8_t *buf, uint32_t argsz, uint32_t index)
{
	memset(buf, 0, 16);
	put_le32(buf, argsz);
	put_le32(buf + 8, index);
	return 16;
}

size_t rig_body_irqs(uint8_t *buf, uint32_t argsz, uint32_t flags, uint32_t index, uint32_t start,
		     uint32_t count)
{
	put_le32(buf, argsz);
	put_le32(buf + 4, flags);
	put_le32(buf + 8, index);
	put_le32(buf + 12, start);
	put_le32(buf + 16, count);
	return 20;
}

size_t rig_body_access(uint8_t *buf, uint64_t off, uint32_t region, uint32_t count)
{
	put_le64(buf, off);
	put_le32(buf + 8, region);
	put_le32(buf + 12, count);
	return 16;
}

size_t rig_body_write(uint8_t *buf, uint64_t off, uint32_t region, uint32_t count, const void *data)
{
	rig_body_access(buf, off, region, count);
	memcpy(buf + 16, data, count);
	return 16 + count;
}
