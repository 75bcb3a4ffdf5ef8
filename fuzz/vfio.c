/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A vfio-user session under a hostile client, guest memory included.
 *
 * The input is a list of records, each a sendmsg() of the client: one byte of control, two of length, data.
 *
 *   bits 0-2  number of descriptors that go with it (7 means 17)
 *   bits 3-4  what they are: sealed memfd, eventfd, memfd that is truncated once it has been received, pipe
 *   bit 5     more records follow before the session gets its turn
 *   bit 6     cooked: the first byte is the command, the second one the header's flags, the rest the body;
 *             the header is made of that. Else the bytes go out as they are
 *   bit 7     the client reads its replies
 *
 * VERSION is agreed first, unless the first byte of the input is 0xff. Writes to BAR1 let the device use
 * guest memory and interrupts: the bits of the offset choose what, the data choose where.
 *
 * Checked: what the sanitizers see; replies are well-formed; a read of guest memory that succeeds shows the
 * bytes that the client put there; no descriptor is leaked.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>
#include <fcntl.h>

#include "base/bytes.h"
#include "base/log.h"
#include "proto/limits.h"
#include "vfio/session.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define PAGES 16u
#define MOST_FDS 17u
#define MOST_TAKEN 4u
#define MARK 0xa5

enum kind { KIND_SEALED, KIND_EVENT, KIND_TRUNCATED, KIND_PIPE };

struct world {
	int client;
	struct vus_dma *dma;
	struct mem mem;
	struct vus_session *session;
	struct mem_pages *taken[MOST_TAKEN];
	bool is_written;	/* the device wrote somewhere: memory has other bytes than MARK */
	bool is_truncated;
	uint8_t bar[4096];
};

static void check(bool is_so)
{
	if (!is_so)
		abort();
}

static void use_pages(struct world *w, unsigned what, unsigned slot, uint64_t v)
{
	struct mem_span spans[3];
	uint64_t addr[2] = { v & ~4095ull, (v + 4096) & ~4095ull }, word;
	size_t off = (size_t)(v >> 3 & 0x7ff8);
	int n;

	if (what == 0) {
		w->mem.ops->drop(w->mem.ctx, w->taken[slot]);
		w->taken[slot] = NULL;
		if (v & 8)
			addr[0] &= ~0xffffull;
		w->mem.ops->take(w->mem.ctx, addr, v & 8 ? 1 : 2, v & 8 ? 16 : 12, &w->taken[slot]);
	}
	if (!w->taken[slot])
		return;
	if (what == 1 && !w->mem.ops->load64(w->mem.ctx, w->taken[slot], off, &word)) {
		check(word == 0xa5a5a5a5a5a5a5a5 || w->is_written || w->is_truncated);
	} else if (what == 2) {
		w->is_written = true;
		w->mem.ops->store64(w->mem.ctx, w->taken[slot], off, v);
	} else if (what == 3) {
		n = w->mem.ops->spans(w->mem.ctx, w->taken[slot], off, 1 + (v & 0x1fff), spans, 3);
		check(n == -EFAULT || (n >= 1 && n <= 3));
		for (int i = 0; i < n; i++)
			for (size_t at = 0; at < spans[i].len; at++) {
				uint8_t byte = ((volatile uint8_t *)spans[i].base)[at];

				check(byte == MARK || w->is_written || w->is_truncated);
			}
	}
}

static void on_read(void *ctx, unsigned region, uint64_t off, void *buf, size_t len)
{
	struct world *w = ctx;

	check(region == 0 || region == 1 || region == 7);
	check(off + len <= sizeof(w->bar));
	memcpy(buf, w->bar + off, len);
}

static void on_write(void *ctx, unsigned region, uint64_t off, const void *buf, size_t len)
{
	struct world *w = ctx;
	uint8_t word[8] = { 0 }, bytes[64];
	uint64_t v;

	check(off + len <= sizeof(w->bar));
	memcpy(w->bar + off, buf, len);
	if (region != 1)
		return;
	memcpy(word, buf, len < 8 ? len : 8);
	v = get_le64(word);
	switch (off & 7) {
	case 0:
		if (!w->mem.ops->read(w->mem.ctx, v, bytes, sizeof(bytes)))
			for (size_t i = 0; i < sizeof(bytes); i++)
				check(bytes[i] == MARK || w->is_written || w->is_truncated);
		break;
	case 1:
		w->is_written = true;
		memset(bytes, 1, sizeof(bytes));
		w->mem.ops->write(w->mem.ctx, v, bytes, sizeof(bytes));
		break;
	case 2:
		w->is_written = true;
		w->mem.ops->store32(w->mem.ctx, v, 7);
		break;
	case 3:
		vus_irq_cause(vus_session_irqs(w->session), (unsigned)v);
		break;
	case 4:
		vus_irq_intx(vus_session_irqs(w->session), v & 1);
		break;
	case 5:
		vus_irqs_handle(vus_session_irqs(w->session));
		vus_dma_is_share_off_suspected(w->dma);
		break;
	default:
		use_pages(w, (unsigned)(off >> 4 & 3), (unsigned)(off >> 6) % MOST_TAKEN, v);
	}
}

static void on_reset(void *ctx)
{
	struct world *w = ctx;

	for (unsigned i = 0; i < MOST_TAKEN; i++) {
		w->mem.ops->drop(w->mem.ctx, w->taken[i]);
		w->taken[i] = NULL;
	}
}

static void on_dma(void *ctx, uint64_t addr, uint64_t size, bool is_mapped)
{
	(void)ctx;
	check(size && addr + size > addr);
	(void)is_mapped;
}

static const struct vus_ops ops = {
	.region_read = on_read,
	.region_write = on_write,
	.reset = on_reset,
	.dma_changed = on_dma,
};

static int make_fd(enum kind kind)
{
	static uint8_t pages[PAGES * 4096];
	int fd, pair[2];

	switch (kind) {
	case KIND_EVENT:
		return eventfd(0, EFD_CLOEXEC);
	case KIND_PIPE:
		check(!pipe2(pair, O_CLOEXEC));
		close(pair[0]);
		return pair[1];
	default:
		memset(pages, MARK, sizeof(pages));
		fd = memfd_create("fuzz", MFD_CLOEXEC | MFD_ALLOW_SEALING);
		check(write(fd, pages, sizeof(pages)) == sizeof(pages));
		if (kind == KIND_SEALED)
			fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
		return fd;
	}
}

/* The client sends; what does not fit into the socket is lost. */
static void send_record(struct world *w, const uint8_t *bytes, size_t len, const int *fds, size_t n)
{
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(MOST_FDS * sizeof(int))];
	} control;
	struct iovec iov = { .iov_base = (void *)(uintptr_t)bytes, .iov_len = len };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	ssize_t sent;

	if (n) {
		memset(&control, 0, sizeof(control));
		msg.msg_control = control.buf;
		msg.msg_controllen = CMSG_SPACE(n * sizeof(int));
		control.align.cmsg_level = SOL_SOCKET;
		control.align.cmsg_type = SCM_RIGHTS;
		control.align.cmsg_len = CMSG_LEN(n * sizeof(int));
		memcpy(CMSG_DATA(&control.align), fds, n * sizeof(int));
	}
	sent = sendmsg(w->client, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
	(void)sent;
}

/* The client reads what there is: whole replies, nothing else. */
static void read_replies(struct world *w)
{
	static uint8_t buf[1 << 20];
	struct vus_header header;
	ssize_t n = recv(w->client, buf, sizeof(buf), MSG_DONTWAIT);

	/* A reply that waits for room may be cut: the session says so. */
	for (ssize_t at = 0; at < n; at += header.size) {
		if (vus_session_events(w->session) == 4 && n - at < 16)
			break;
		check(n - at >= 16);
		vus_header_parse(buf + at, &header);
		check(header.size >= 16 && header.size <= LIMIT_VFIO_MESSAGE);
		check(header.flags == VUS_TYPE_REPLY || header.flags == (VUS_TYPE_REPLY | VUS_ERROR));
		check(header.flags == VUS_TYPE_REPLY ? !header.error : header.error && header.size == 16);
	}
}

static void handle(struct world *w)
{
	uint64_t before;

	do {
		before = vus_session_messages(w->session);
		if (vus_session_handle(w->session))
			return;
	} while (vus_session_messages(w->session) != before);
}

static void send_version(struct world *w)
{
	static const char json[] = "{\"capabilities\":{\"max_msg_fds\":16}}";
	uint8_t buf[16 + 4 + sizeof(json)] = { 0 };

	put_le16(buf + 2, VUS_CMD_VERSION);
	put_le32(buf + 4, sizeof(buf));
	memcpy(buf + 20, json, sizeof(json));
	send_record(w, buf, sizeof(buf), NULL, 0);
	handle(w);
	read_replies(w);
	check(!vus_session_handle(w->session));
}

static void play(struct world *w, const uint8_t *data, size_t size)
{
	static uint8_t cooked[16 + 65536];

	if (size && data[0] == 0xff) {
		data++;
		size--;
	} else {
		send_version(w);
	}
	while (size >= 3) {
		unsigned control = data[0];
		enum kind kind = (enum kind)(control >> 3 & 3);
		size_t len = get_le16(data + 1), n = control & 7;
		const uint8_t *bytes = data + 3;
		int fds[MOST_FDS];

		if (len > size - 3)
			len = size - 3;
		data += 3 + len;
		size -= 3 + len;
		if (control & 0x40 && len >= 2) {
			memset(cooked, 0, 16);
			put_le16(cooked + 2, bytes[0]);
			put_le32(cooked + 4, (uint32_t)(16 + len - 2));
			put_le32(cooked + 8, bytes[1]);
			memcpy(cooked + 16, bytes + 2, len - 2);
			bytes = cooked;
			len += 14;
		}
		if (n == 7)
			n = MOST_FDS;
		for (size_t i = 0; i < n; i++)
			fds[i] = make_fd(kind);
		send_record(w, bytes, len, fds, n);
		if (!(control & 0x20)) {
			handle(w);
			if (kind == KIND_TRUNCATED && n) {
				check(!ftruncate(fds[0], 4096));
				w->is_truncated = true;
			}
		}
		for (size_t i = 0; i < n; i++)
			close(fds[i]);
		if (control & 0x80)
			read_replies(w);
	}
	handle(w);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct vus_desc desc = {
		.name = "fuzz",
		.region = {
			[0] = { .size = 64, .flags = VUS_REGION_READ | VUS_REGION_WRITE },
			[1] = { .size = 4096, .flags = VUS_REGION_READ | VUS_REGION_WRITE },
			[VUS_REGION_CONFIG] = { .size = 256, .flags = VUS_REGION_READ | VUS_REGION_WRITE },
		},
		.irq_count = { 1, 1, 3, 1, 1 },
		.pba_region = 1,
		.pba_offset = 2048,
	};
	struct world w = { 0 };
	int first, last, pair[2];

	/* The next descriptor number to be given is the same before and after, if none is leaked. */
	first = dup(0);
	close(first);
	log_open("fuzz", LOG_LEVEL_ERR);
	check(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair));
	w.client = pair[0];
	check(!vus_dma_new("fuzz", 24, &w.dma));
	w.mem = vus_dma_mem(w.dma);
	check(!vus_session_new(pair[1], &desc, w.dma, &ops, &w, &w.session));
	play(&w, data, size);
	close(w.client);
	/* Each call reads once; pieces with descriptors come one by one. */
	for (size_t i = 0; i < size && !vus_session_handle(w.session); i++)
		;
	check(vus_session_handle(w.session));
	on_reset(&w);
	vus_session_free(w.session);
	vus_dma_free(w.dma);
	last = dup(0);
	close(last);
	check(first == last);
	return 0;
}
