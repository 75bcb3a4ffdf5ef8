/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * vus-echo SOCKET: a vfio-user server over src/vfio with a device of its own, so that the wire tests do not
 * depend on VMCI. It serves one client after another, and answers from:
 *
 *   BAR0    64 bytes of I/O ports: memory
 *   BAR1    256 KiB: MSI-X table at 0 and pending bits at 0x10000; at 0x20000 the registers below; a buffer
 *           of 4 KiB at 0x21000; the rest is memory
 *   BAR2    64 KiB, of which a client may map 0x1000..0xffff (a memfd)
 *   config  256 bytes; BARs are sized, there is no ROM
 *
 * Registers, 32 bits each. A write to GO acts; RESULT is then 0 or a negative errno.
 *
 *   0x00 ADDR low  0x04 ADDR high  0x08 LEN  0x0c GO  0x10 RESULT
 *   0x20 resets  0x24 maps  0x28 unmaps  0x2c open descriptors of the process  0x30 ranges mapped
 *   0x34 files mapped  0x38 share=off suspected  0x3c size of the last unmap, in pages (0xffffffff: all)
 */
#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/log.h"
#include "proto/limits.h"
#include "vfio/session.h"

#define BAR1_SIZE 0x40000u
#define BAR2_SIZE 0x10000u
#define REGISTERS 0x20000u
#define BUFFER 0x21000u
#define BUFFER_SIZE 0x1000u

enum reg {
	REG_ADDR = 0x00,
	REG_LEN = 0x08,
	REG_GO = 0x0c,
	REG_RESULT = 0x10,
	REG_RESETS = 0x20,
	REG_MAPS = 0x24,
	REG_UNMAPS = 0x28,
	REG_FDS = 0x2c,
	REG_RANGES = 0x30,
	REG_FILES = 0x34,
	REG_SHARE_OFF = 0x38,
	REG_LAST_UNMAP = 0x3c,
	REG_END = 0x40,
};

enum go {
	GO_READ = 1,	/* LEN bytes from guest address ADDR into the buffer */
	GO_WRITE,	/* ... and the other way */
	GO_CAUSE,	/* interrupt cause LEN */
	GO_INTX,	/* INTx line to LEN */
	GO_TAKE,	/* take the page at ADDR, for later */
	GO_LOAD,	/* first 8 bytes of the page taken into the buffer */
	GO_DROP,	/* give the page back */
	GO_STORE32,	/* LEN to ADDR */
};

struct echo {
	struct vus_dma *dma;
	struct vus_session *session;
	struct mem_pages *pages;
	uint32_t resets, maps, unmaps, last_unmap;
	int memfd;
	uint8_t *bar2;
	uint8_t bar0[64];
	uint8_t bar1[BAR1_SIZE];
	uint8_t config[256];
};

static uint32_t count_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	uint32_t n = 0;

	if (!dir)
		return 0;
	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}

static uint8_t *registers(struct echo *echo)
{
	return echo->bar1 + REGISTERS;
}

static void refresh(struct echo *echo)
{
	uint8_t *r = registers(echo);

	put_le32(r + REG_RESETS, echo->resets);
	put_le32(r + REG_MAPS, echo->maps);
	put_le32(r + REG_UNMAPS, echo->unmaps);
	put_le32(r + REG_FDS, count_fds());
	put_le32(r + REG_RANGES, (uint32_t)vus_dma_count(echo->dma));
	put_le32(r + REG_FILES, (uint32_t)vus_dma_files(echo->dma));
	put_le32(r + REG_SHARE_OFF, vus_dma_is_share_off_suspected(echo->dma));
	put_le32(r + REG_LAST_UNMAP, echo->last_unmap);
}

static void drop(struct echo *echo)
{
	struct mem mem = vus_dma_mem(echo->dma);

	mem.ops->drop(mem.ctx, echo->pages);
	echo->pages = NULL;
}

static int act(struct echo *echo, uint32_t go)
{
	struct mem mem = vus_dma_mem(echo->dma);
	uint8_t *r = registers(echo), *buffer = echo->bar1 + BUFFER;
	uint64_t addr = get_le64(r + REG_ADDR), v;
	uint32_t len = get_le32(r + REG_LEN);
	int result;

	switch (go) {
	case GO_READ:
		return len > BUFFER_SIZE ? -EINVAL : mem.ops->read(mem.ctx, addr, buffer, len);
	case GO_WRITE:
		return len > BUFFER_SIZE ? -EINVAL : mem.ops->write(mem.ctx, addr, buffer, len);
	case GO_CAUSE:
		vus_irq_cause(vus_session_irqs(echo->session), len);
		return 0;
	case GO_INTX:
		vus_irq_intx(vus_session_irqs(echo->session), len != 0);
		return 0;
	case GO_TAKE:
		drop(echo);
		return mem.ops->take(mem.ctx, &addr, 1, 12, &echo->pages);
	case GO_LOAD:
		if (!echo->pages)
			return -EINVAL;
		result = mem.ops->load64(mem.ctx, echo->pages, 0, &v);
		if (result == 0)
			put_le64(buffer, v);
		return result;
	case GO_DROP:
		drop(echo);
		return 0;
	case GO_STORE32:
		return mem.ops->store32(mem.ctx, addr, len);
	default:
		return -EINVAL;
	}
}

static uint8_t *memory(struct echo *echo, unsigned region)
{
	switch (region) {
	case 0:
		return echo->bar0;
	case 1:
		return echo->bar1;
	case 2:
		return echo->bar2;
	default:
		return echo->config;
	}
}

static void region_read(void *ctx, unsigned region, uint64_t off, void *buf, size_t len)
{
	struct echo *echo = ctx;

	if (region == 1 && off < REGISTERS + REG_END && off + len > REGISTERS + REG_RESETS)
		refresh(echo);
	memcpy(buf, memory(echo, region) + off, len);
}

/* fix_config() - what a write to config space must not change */
static void fix_config(struct echo *echo)
{
	static const uint32_t size[6] = { 64, BAR1_SIZE, BAR2_SIZE }, type[6] = { 1, 0, 0 };
	uint8_t *c = echo->config;

	put_le32(c, 0x0de11234);
	put_le32(c + 8, 0x08800001);
	put_le16(c + 6, 0x10);
	for (unsigned bar = 0; bar < 6; bar++)
		put_le32(c + 0x10 + 4 * bar,
			 size[bar] ? (get_le32(c + 0x10 + 4 * bar) & ~(size[bar] - 1)) | type[bar] : 0);
	put_le32(c + 0x30, 0);
	put_le32(c + 0x34, 0x40);
	c[0x3d] = 1;
	/* MSI-X: 3 vectors, table and pending bits in BAR1. */
	put_le16(c + 0x40, 0x11);
	put_le16(c + 0x42, (uint16_t)((get_le16(c + 0x42) & 0xc000) | 2));
	put_le32(c + 0x44, 1);
	put_le32(c + 0x48, 0x10001);
}

static void region_write(void *ctx, unsigned region, uint64_t off, const void *buf, size_t len)
{
	struct echo *echo = ctx;
	uint8_t *r = registers(echo);

	memcpy(memory(echo, region) + off, buf, len);
	if (region == VUS_REGION_CONFIG)
		fix_config(echo);
	if (region == 1 && off == REGISTERS + REG_GO && len == 4)
		put_le32(r + REG_RESULT, (uint32_t)act(echo, get_le32(r + REG_GO)));
}

static void reset(void *ctx)
{
	struct echo *echo = ctx;

	echo->resets++;
	drop(echo);
}

static void dma_changed(void *ctx, uint64_t addr, uint64_t size, bool is_mapped)
{
	struct echo *echo = ctx;

	(void)addr;
	if (is_mapped) {
		echo->maps++;
	} else {
		echo->unmaps++;
		echo->last_unmap = size == UINT64_MAX ? UINT32_MAX : (uint32_t)(size >> 12);
	}
}

static const struct vus_ops ops = {
	.region_read = region_read,
	.region_write = region_write,
	.reset = reset,
	.dma_changed = dma_changed,
};

/* timeout() - milliseconds that poll() may sleep */
static int timeout(const struct vus_session *session)
{
	uint64_t deadline = vus_session_deadline(session), now;
	struct timespec ts;

	if (vus_session_is_pending(session))
		return 0;
	if (!deadline)
		return -1;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	now = (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
	return deadline <= now ? 0 : (int)((deadline - now) / 1000000) + 1;
}

static int serve(struct echo *echo, int fd)
{
	static const struct vus_area area = { 0x1000, BAR2_SIZE - 0x1000 };
	struct vus_desc desc = {
		.name = "echo",
		.region = {
			[0] = { .size = 64, .flags = VUS_REGION_READ | VUS_REGION_WRITE },
			[1] = { .size = BAR1_SIZE, .flags = VUS_REGION_READ | VUS_REGION_WRITE },
			[2] = {
				.size = BAR2_SIZE,
				.flags = VUS_REGION_READ | VUS_REGION_WRITE | VUS_REGION_MMAP,
				.fd = echo->memfd,
				.areas = &area,
				.n_areas = 1,
			},
			[VUS_REGION_CONFIG] = { .size = 256, .flags = VUS_REGION_READ | VUS_REGION_WRITE },
		},
		.irq_count = { 1, 1, 3, 1, 1 },
		.pba_region = 1,
		.pba_offset = 0x10000,
	};
	int r;

	fix_config(echo);
	r = vus_dma_new("echo", LIMIT_VFIO_MAPS, &echo->dma);
	if (r < 0)
		return r;
	r = vus_session_new(fd, &desc, echo->dma, &ops, echo, &echo->session);
	while (!r) {
		struct pollfd fds[2] = {
			{ .fd = vus_session_fd(echo->session) },
			{ .fd = vus_irqs_fd(vus_session_irqs(echo->session)), .events = POLLIN },
		};

		fds[0].events = vus_session_events(echo->session) == EPOLLIN ? POLLIN : POLLOUT;
		if (poll(fds, 2, timeout(echo->session)) < 0 && errno != EINTR)
			return -errno;
		if (fds[1].revents)
			vus_irqs_handle(vus_session_irqs(echo->session));
		r = vus_session_handle(echo->session);
	}
	log_info("client ended: %s", echo->session ? vus_session_reason(echo->session) : strerror(-r));
	echo->session = vus_session_free(echo->session);
	drop(echo);
	echo->dma = vus_dma_free(echo->dma);
	return 0;
}

int main(int argc, char **argv)
{
	struct sockaddr_un name = { .sun_family = AF_UNIX };
	struct echo *echo = calloc(1, sizeof(*echo));
	int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	log_open("vus-echo", LOG_LEVEL_DEBUG);
	if (argc != 2 || !echo || listener < 0 || strlen(argv[1]) >= sizeof(name.sun_path)) {
		fprintf(stderr, "usage: vus-echo SOCKET\n");
		return 2;
	}
	strcpy(name.sun_path, argv[1]);
	echo->memfd = memfd_create("bar2", MFD_CLOEXEC);
	if (ftruncate(echo->memfd, BAR2_SIZE) < 0)
		return 1;
	echo->bar2 = mmap(NULL, BAR2_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, echo->memfd, 0);
	if (echo->bar2 == MAP_FAILED || bind(listener, (struct sockaddr *)&name, sizeof(name)) < 0 ||
	    listen(listener, 8) < 0) {
		perror(argv[1]);
		return 1;
	}
	for (;;) {
		int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);

		if (fd < 0 || serve(echo, fd) < 0)
			return 1;
	}
}
