/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * DOC: Theory of operation
 *
 * Input. Bytes are received into one fixed buffer, as many as there are, so one recvmsg(2) may fetch many
 * messages, or a part of one. Complete messages are served in order; only when none is left is more received.
 *
 * Descriptors ride with the first byte of their message (reference, 1), and recvmsg(2) on a stream stops
 * after the piece that carries some: it may return pieces without descriptors before that one, never bytes
 * behind it. So what a recvmsg() brings belongs to the *last* message that starts in the buffer afterwards.
 * Clients send each message with one sendmsg(2), or in pieces, with the descriptors at the front; both are
 * served. At any time at most two messages of the buffer own descriptors: the one that was incomplete before
 * the last recvmsg(), and the last one.
 *
 * The buffer may lie in memory that outlives the process (struct vus_input), and the process may end at any instruction.
 * Somebody else finds the messages there that were not served, the last ones received included: all behind them is
 * zero before anything is received, and a header of zeroes is none.
 *
 * Output. A reply is built in one fixed buffer and sent at once, with one call, header first (reference, 0).
 * If the socket has no room for all of it, the rest stays in the buffer, and nothing is served or received
 * until it is gone: that is the bound. A client that does not make room in time is ended.
 *
 * End. A session goes on until "ended" is set: the client has gone (1), or broke what cannot be mended (a
 * negative errno). What can be mended, a bad body or number, is answered with an error reply and a line in
 * the log. Before VERSION has succeeded nothing can be mended.
 *
 *	NEW ---- VERSION accepted ----> NEGOTIATED		(is_negotiated)
 *	 |                                  |
 *	 +-- anything else, once answered --+-- EOF, bad header, lost memory, stalled reader --> ENDED
 */
#include "vfio/session.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/checked.h"
#include "base/fd.h"
#include "base/log.h"

#define VERSION_MAJOR 0u
#define VERSION_MINOR 1u

/* The message that QEMU proposes; our reply must not be longer (reference, 3.1). */
#define QEMU_VERSION_SIZE 214u
#define VERSION_JSON_MAX (QEMU_VERSION_SIZE - VUS_HEADER_SIZE - 4)

/* Bytes of the pending bit array: one word, as there are at most 64 vectors. */
#define PBA_SIZE 8u
static_assert(LIMIT_VFIO_VECTORS <= 8 * PBA_SIZE, "the pending bits fit into a word");

/* A descriptor received, and where in the buffer the message starts that owns it. */
struct owned_fd {
	int fd;
	size_t at;
};

/**
 * struct vus_session - a client
 * @ended:     0; 1 the client has gone; a negative errno
 * @why:       detail of the error that a handler returns
 * @input:     [start, @in_end) has been received and not been served; zeroes behind that
 * @fds:       received with that; @n_fds of them, in order
 * @out:       [@out_start, @out_end) has to be sent
 * @out_fd:    goes with the first byte of it; borrowed from @desc
 * @deadline:  for sending, 0 = nothing to send
 */
struct vus_session {
	int fd;
	int ended;
	bool is_negotiated;
	bool is_handling;
	uint32_t client_fds;
	unsigned complaints;
	uint64_t messages;
	const struct vus_ops *ops;
	void *ctx;
	struct vus_dma *dma;
	struct vus_irqs *irqs;
	const char *why;
	uint64_t deadline;
	int out_fd;
	size_t in_end;
	struct vus_input *input;
	size_t out_start, out_end;
	size_t n_fds;
	struct owned_fd fds[2 * LIMIT_VFIO_FDS];
	struct vus_desc desc;
	char reason[200];
	struct vus_input own;
	uint8_t out[LIMIT_VFIO_MESSAGE];
};

/* A command being served. Handlers set those @fds that they keep to -1. */
struct request {
	struct vus_header header;
	const uint8_t *body;
	size_t len;
	int fds[LIMIT_VFIO_FDS];
	size_t n_fds;
};

/**
 * end() - the session is over
 * @code: 1, or a negative errno
 */
static void __attribute__((format(printf, 3, 4))) end(struct vus_session *s, int code, const char *fmt, ...)
{
	va_list ap;

	if (s->ended)
		return;
	va_start(ap, fmt);
	vsnprintf(s->reason, sizeof(s->reason), fmt, ap);
	va_end(ap);
	s->ended = code;
	s->out_start = s->out_end = 0;
	s->deadline = 0;
	if (code < 0)
		log_warn("%s: vfio-user connection ended: %s", s->desc.name, s->reason);
	else
		log_debug("%s: %s", s->desc.name, s->reason);
}

/**
 * complain() - log that a message was refused; a client cannot fill the log with that
 */
static void complain(struct vus_session *s, const struct request *req, int error)
{
	enum log_level level = LOG_LEVEL_DEBUG;

	if (s->complaints < LIMIT_VFIO_COMPLAINTS) {
		s->complaints++;
		level = LOG_LEVEL_WARN;
	}
	log_msg(level, "%s: %s (command %u, id %u, %zu bytes, %zu fds) refused: %s: %s", s->desc.name,
		vus_cmd_to_string(req->header.cmd), req->header.cmd, req->header.id, req->len, req->n_fds,
		s->why ? s->why : "malformed", strerror(-error));
	if (level == LOG_LEVEL_WARN && s->complaints == LIMIT_VFIO_COMPLAINTS)
		log_warn("%s: more complaints about this client are on level debug", s->desc.name);
}

/**
 * refuse() - for handlers: return @error (negative), because of @why
 */
static int refuse(struct vus_session *s, int error, const char *why)
{
	s->why = why;
	return error;
}

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* --- Commands. They build a reply's body at body_of(), and return its length or a negative errno. --- */

static uint8_t *body_of(struct vus_session *s)
{
	return s->out + VUS_HEADER_SIZE;
}

#define BODY_ROOM (LIMIT_VFIO_MESSAGE - VUS_HEADER_SIZE)

static int handle_version(struct vus_session *s, struct request *req)
{
	char json[VERSION_JSON_MAX];
	struct vus_version version;
	struct vus_caps caps;
	uint16_t minor;

	if (s->is_negotiated)
		return refuse(s, -EINVAL, "a second time");
	if (vus_version_parse(req->body, req->len, &version) < 0)
		return -EINVAL;
	if (version.major != VERSION_MAJOR)
		return refuse(s, -EINVAL, "unknown major version");
	if (vus_caps_parse(version.json, version.json_len, &caps) < 0)
		return refuse(s, -EINVAL, "capabilities are no JSON object");
	minor = version.minor < VERSION_MINOR ? version.minor : VERSION_MINOR;
	snprintf(json, sizeof(json),
		 "{\"capabilities\":{\"max_msg_fds\":%u,\"max_data_xfer_size\":%u,\"max_dma_maps\":%zu,"
		 "\"pgsizes\":4096}}", LIMIT_VFIO_FDS, LIMIT_VFIO_XFER, vus_dma_max(s->dma));
	s->client_fds = caps.max_msg_fds;
	s->is_negotiated = true;
	log_debug("%s: client speaks vfio-user %u.%u", s->desc.name, version.major, version.minor);
	return (int)vus_version_build(body_of(s), BODY_ROOM, VERSION_MAJOR, minor, json);
}

static int handle_dma_map(struct vus_session *s, struct request *req)
{
	struct vus_dma_map map;
	int r;

	if (vus_dma_map_parse(req->body, req->len, &map) < 0)
		return -EINVAL;
	if (req->n_fds > 1)
		return refuse(s, -EINVAL, "more than one fd");
	r = vus_dma_map(s->dma, &map, req->n_fds ? fd_take(&req->fds[0]) : -1);
	if (r < 0)
		return refuse(s, r, "the range cannot be mapped");
	s->ops->dma_changed(s->ctx, map.addr, map.size, true);
	return 0;
}

static int handle_dma_unmap(struct vus_session *s, struct request *req)
{
	struct vus_dma_unmap unmap;
	int r;

	if (vus_dma_unmap_parse(req->body, req->len, &unmap) < 0)
		return -EINVAL;
	if (unmap.all) {
		vus_dma_clear(s->dma);
		s->ops->dma_changed(s->ctx, 0, UINT64_MAX, false);
	} else {
		r = vus_dma_unmap(s->dma, unmap.addr, unmap.size);
		if (r < 0)
			return refuse(s, r, "the range was not mapped");
		s->ops->dma_changed(s->ctx, unmap.addr, unmap.size, false);
	}
	memcpy(body_of(s), req->body, VUS_DMA_UNMAP_SIZE);
	return VUS_DMA_UNMAP_SIZE;
}

static int handle_get_info(struct vus_session *s, struct request *req)
{
	if (vus_info_parse(req->body, req->len) < 0)
		return -EINVAL;
	return (int)vus_info_build(body_of(s), BODY_ROOM, VUS_INFO_RESET | VUS_INFO_PCI, VUS_REGION_NUM,
				   VUS_IRQ_NUM);
}

static int handle_get_region_info(struct vus_session *s, struct request *req)
{
	const struct vus_region *region;
	struct vus_region_info info;
	bool is_mappable, is_full;
	uint32_t flags;
	int len;

	if (vus_region_info_parse(req->body, req->len, &info) < 0)
		return -EINVAL;
	if (info.index >= VUS_REGION_NUM)
		return refuse(s, -EINVAL, "no such region");
	region = &s->desc.region[info.index];
	/* A client that takes no fd cannot map. */
	is_mappable = region->flags & VUS_REGION_MMAP && s->client_fds;
	flags = region->flags & (VUS_REGION_READ | VUS_REGION_WRITE);
	if (is_mappable)
		flags |= VUS_REGION_MMAP;
	len = (int)vus_region_info_build(body_of(s), BODY_ROOM, &info, region->size ? flags : 0, region->size,
					 is_mappable ? region->offset : 0, region->areas,
					 is_mappable ? region->n_areas : 0, &is_full);
	if (is_mappable && is_full)
		s->out_fd = region->fd;
	return len;
}

static int handle_get_region_io_fds(struct vus_session *s, struct request *req)
{
	uint32_t index;

	if (vus_region_io_fds_parse(req->body, req->len, &index) < 0)
		return -EINVAL;
	if (index >= VUS_REGION_NUM)
		return refuse(s, -EINVAL, "no such region");
	return (int)vus_region_io_fds_build(body_of(s), BODY_ROOM, index);
}

static int handle_get_irq_info(struct vus_session *s, struct request *req)
{
	/* MSI-X without NORESIZE, so that QEMU adds vectors singly (reference, 4.4). */
	static const uint32_t irq_flags[] = {
		[VUS_IRQ_INTX] = VUS_IRQ_EVENTFD | VUS_IRQ_MASKABLE | VUS_IRQ_AUTOMASKED,
		[VUS_IRQ_MSI] = VUS_IRQ_EVENTFD | VUS_IRQ_NORESIZE,
		[VUS_IRQ_MSIX] = VUS_IRQ_EVENTFD,
		[VUS_IRQ_ERR] = VUS_IRQ_EVENTFD,
		[VUS_IRQ_REQ] = VUS_IRQ_EVENTFD,
	};
	uint32_t index, count;

	static_assert(sizeof(irq_flags) / sizeof(irq_flags[0]) == VUS_IRQ_NUM, "flags for each index");
	if (vus_irq_info_parse(req->body, req->len, &index) < 0)
		return -EINVAL;
	if (index >= VUS_IRQ_NUM)
		return refuse(s, -EINVAL, "no such interrupt index");
	count = s->desc.irq_count[index];
	return (int)vus_irq_info_build(body_of(s), BODY_ROOM, count ? irq_flags[index] : 0, index, count);
}

static int handle_set_irqs(struct vus_session *s, struct request *req)
{
	struct vus_set_irqs set;
	int r;

	if (vus_set_irqs_parse(req->body, req->len, &set) < 0)
		return -EINVAL;
	r = vus_irqs_set(s->irqs, &set, req->fds, req->n_fds);
	if (r < 0)
		return refuse(s, r, "range, fds or action do not fit the index");
	return 0;
}

/**
 * check_access() - is this access possible?
 * @right: VUS_REGION_READ or VUS_REGION_WRITE
 */
static int check_access(struct vus_session *s, const struct vus_access *access, uint32_t right)
{
	if (access->region >= VUS_REGION_NUM)
		return refuse(s, -EINVAL, "no such region");
	if (access->count > LIMIT_VFIO_XFER)
		return refuse(s, -EINVAL, "too much data");
	if (!range_fits(access->offset, access->count, s->desc.region[access->region].size))
		return refuse(s, -EINVAL, "outside of the region");
	if (!(s->desc.region[access->region].flags & right))
		return refuse(s, -EINVAL, "no right to access the region so");
	return 0;
}

/**
 * overlay_pba() - put the pending bits into what was read from the region
 */
static void overlay_pba(struct vus_session *s, const struct vus_access *access, uint8_t *data)
{
	uint64_t pba_offset = s->desc.pba_offset, from, to;
	uint8_t pba[PBA_SIZE];

	if (access->region != s->desc.pba_region || !s->desc.irq_count[VUS_IRQ_MSIX])
		return;
	from = access->offset > pba_offset ? access->offset : pba_offset;
	to = access->offset + access->count;
	if (to > pba_offset + PBA_SIZE)
		to = pba_offset + PBA_SIZE;
	if (from >= to)
		return;
	put_le64(pba, vus_irqs_pba(s->irqs));
	memcpy(data + (from - access->offset), pba + (from - pba_offset), to - from);
}

static int handle_region_read(struct vus_session *s, struct request *req)
{
	struct vus_access access;
	uint8_t *data;
	int r;

	if (vus_region_read_parse(req->body, req->len, &access) < 0)
		return -EINVAL;
	r = check_access(s, &access, VUS_REGION_READ);
	if (r < 0)
		return r;
	data = body_of(s) + vus_access_build(body_of(s), BODY_ROOM, &access);
	if (access.count) {
		memset(data, 0, access.count);
		s->ops->region_read(s->ctx, access.region, access.offset, data, access.count);
		overlay_pba(s, &access, data);
	}
	return (int)(VUS_ACCESS_SIZE + access.count);
}

static int handle_region_write(struct vus_session *s, struct request *req)
{
	struct vus_access access;
	int r;

	if (vus_region_write_parse(req->body, req->len, &access) < 0)
		return -EINVAL;
	r = check_access(s, &access, VUS_REGION_WRITE);
	if (r < 0)
		return r;
	if (access.count)
		s->ops->region_write(s->ctx, access.region, access.offset, access.data, access.count);
	return (int)vus_access_build(body_of(s), BODY_ROOM, &access);
}

static int handle_region_write_multi(struct vus_session *s, struct request *req)
{
	struct vus_access access;
	uint64_t n;
	int r;

	if (vus_multi_parse(req->body, req->len, &n) < 0)
		return -EINVAL;
	/* All are checked before the first is done. */
	for (uint64_t i = 0; i < n; i++) {
		if (vus_multi_entry_parse(req->body, i, &access) < 0)
			return refuse(s, -EINVAL, "a write of no or too many bytes");
		r = check_access(s, &access, VUS_REGION_WRITE);
		if (r < 0)
			return r;
	}
	for (uint64_t i = 0; i < n; i++) {
		vus_multi_entry_parse(req->body, i, &access);
		s->ops->region_write(s->ctx, access.region, access.offset, access.data, access.count);
	}
	return (int)vus_multi_build(body_of(s), BODY_ROOM, n);
}

static int handle_reset(struct vus_session *s, struct request *req)
{
	if (req->len)
		return -EINVAL;
	s->ops->reset(s->ctx);
	vus_irqs_reset(s->irqs);
	return 0;
}

static int handle_feature(struct vus_session *s, struct request *req)
{
	struct vus_feature feature;

	if (vus_feature_parse(req->body, req->len, &feature) < 0)
		return -EINVAL;
	return refuse(s, -EINVAL, "the device has no such feature, and cannot be migrated");
}

static int handle_mig_data_read(struct vus_session *s, struct request *req)
{
	struct vus_mig_data data;

	if (vus_mig_read_parse(req->body, req->len, &data) < 0)
		return -EINVAL;
	return refuse(s, -EINVAL, "the device cannot be migrated");
}

static int handle_mig_data_write(struct vus_session *s, struct request *req)
{
	struct vus_mig_data data;

	if (vus_mig_write_parse(req->body, req->len, &data) < 0)
		return -EINVAL;
	return refuse(s, -EINVAL, "the device cannot be migrated");
}

/**
 * struct command - how a command is served
 * @handle: NULL: not a command for a server
 * @fds:    may descriptors come with it?
 */
struct command {
	int (*handle)(struct vus_session *s, struct request *req);
	bool fds;
};

static const struct command commands[] = {
	[VUS_CMD_VERSION] = { handle_version, false },
	[VUS_CMD_DMA_MAP] = { handle_dma_map, true },
	[VUS_CMD_DMA_UNMAP] = { handle_dma_unmap, false },
	[VUS_CMD_GET_INFO] = { handle_get_info, false },
	[VUS_CMD_GET_REGION_INFO] = { handle_get_region_info, false },
	[VUS_CMD_GET_REGION_IO_FDS] = { handle_get_region_io_fds, false },
	[VUS_CMD_GET_IRQ_INFO] = { handle_get_irq_info, false },
	[VUS_CMD_SET_IRQS] = { handle_set_irqs, true },
	[VUS_CMD_REGION_READ] = { handle_region_read, false },
	[VUS_CMD_REGION_WRITE] = { handle_region_write, false },
	[VUS_CMD_DMA_READ] = { NULL, false },
	[VUS_CMD_DMA_WRITE] = { NULL, false },
	[VUS_CMD_RESET] = { handle_reset, false },
	[VUS_CMD_DIRTY_PAGES] = { NULL, false },
	[VUS_CMD_REGION_WRITE_MULTI] = { handle_region_write_multi, false },
	[VUS_CMD_FEATURE] = { handle_feature, false },
	[VUS_CMD_MIG_DATA_READ] = { handle_mig_data_read, false },
	[VUS_CMD_MIG_DATA_WRITE] = { handle_mig_data_write, false },
};
static_assert(sizeof(commands) / sizeof(commands[0]) == VUS_CMD_NUM, "an entry for each command");

/**
 * dispatch() - check what is common to all commands, and serve one
 *
 * Return: length of the reply's body, or a negative errno
 */
static int dispatch(struct vus_session *s, struct request *req)
{
	const struct command *command;

	if (req->header.flags & ~(VUS_TYPE_MASK | VUS_NO_REPLY))
		return refuse(s, -EINVAL, "flags that no command has");
	if (!s->is_negotiated && req->header.cmd != VUS_CMD_VERSION)
		return refuse(s, -EINVAL, "VERSION must be the first command");
	if (req->header.cmd >= VUS_CMD_NUM || !commands[req->header.cmd].handle)
		return refuse(s, -EINVAL, "not a command for a device");
	command = &commands[req->header.cmd];
	if (req->n_fds && !command->fds)
		return refuse(s, -EINVAL, "there are fds with it");
	return command->handle(s, req);
}

/* --- Output ------------------------------------------------------------------------------ */

static bool is_blocked(const struct vus_session *s)
{
	return s->out_start < s->out_end;
}

/**
 * flush() - send what is to be sent, as far as the socket takes it
 */
static void flush(struct vus_session *s)
{
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(sizeof(int))];
	} control;
	struct iovec iov = { .iov_base = s->out + s->out_start, .iov_len = s->out_end - s->out_start };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	ssize_t n;

	if (s->out_fd >= 0) {
		struct cmsghdr *cmsg = &control.align;

		memset(&control, 0, sizeof(control));
		msg.msg_control = control.buf;
		msg.msg_controllen = sizeof(control.buf);
		cmsg->cmsg_level = SOL_SOCKET;
		cmsg->cmsg_type = SCM_RIGHTS;
		cmsg->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(cmsg), &s->out_fd, sizeof(int));
	}
	n = sendmsg(s->fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (n < 0) {
		if (errno == EPIPE || errno == ECONNRESET)
			end(s, 1, "the client has gone");
		else if (errno != EAGAIN && errno != EINTR)
			end(s, -errno, "sending a reply: %s", strerror(errno));
		else if (!s->deadline)
			s->deadline = now_ns() + LIMIT_VFIO_STALL_NS;
		return;
	}
	s->out_fd = -1;
	s->out_start += (size_t)n;
	s->deadline = is_blocked(s) ? now_ns() + LIMIT_VFIO_STALL_NS : 0;
}

/* --- Input ------------------------------------------------------------------------------ */

/**
 * has_message() - is the first message of the buffer complete, or its header a bad one?
 */
static bool has_message(const struct vus_session *s)
{
	size_t have = s->in_end - s->input->start;
	struct vus_header header;

	if (have < VUS_HEADER_SIZE)
		return false;
	vus_header_parse(s->input->bytes + s->input->start, &header);
	return header.size <= have || vus_header_check(&header, LIMIT_VFIO_MESSAGE);
}

/**
 * last_start() - where in the buffer does the last message start?
 */
static size_t last_start(const struct vus_session *s)
{
	size_t at = s->input->start;
	struct vus_header header;

	while (s->in_end - at >= VUS_HEADER_SIZE) {
		vus_header_parse(s->input->bytes + at, &header);
		if (vus_header_check(&header, LIMIT_VFIO_MESSAGE) || header.size >= s->in_end - at)
			break;
		at += header.size;
	}
	return at;
}

/**
 * keep_fds() - the recvmsg() that filled the buffer up to in_end brought these descriptors
 */
static void keep_fds(struct vus_session *s, const int *fds, size_t n)
{
	size_t at = last_start(s), owned = 0;

	for (size_t i = 0; i < s->n_fds; i++)
		owned += s->fds[i].at == at;
	for (size_t i = 0; i < n; i++) {
		if (owned == LIMIT_VFIO_FDS || s->n_fds == 2 * LIMIT_VFIO_FDS) {
			close(fds[i]);
			end(s, -EPROTO, "more than %u fds with one message", LIMIT_VFIO_FDS);
			continue;
		}
		s->fds[s->n_fds++] = (struct owned_fd){ .fd = fds[i], .at = at };
		owned++;
	}
}

/**
 * make_room() - move what is left of the input to the buffer's start
 *
 * Where nothing is left, the buffer makes sense at each step. A piece of a message is moved only when its rest might
 * not fit: clients send messages whole, so it is hardly ever.
 */
static void make_room(struct vus_session *s)
{
	struct vus_input *input = s->input;
	size_t left = s->in_end - input->start;

	if (!input->start || (left && sizeof(input->bytes) - s->in_end >= sizeof(input->bytes) / 2))
		return;
	memmove(input->bytes, input->bytes + input->start, left);
	memset(input->bytes + left, 0, s->in_end - left);
	atomic_signal_fence(memory_order_seq_cst);
	for (size_t i = 0; i < s->n_fds; i++)
		s->fds[i].at -= input->start;
	s->in_end = left;
	input->start = 0;
}

/**
 * receive() - read once from the socket
 */
static void receive(struct vus_session *s)
{
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(LIMIT_VFIO_FDS * sizeof(int))];
	} control;
	struct iovec iov;
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.buf,
		.msg_controllen = sizeof(control.buf),
	};
	int fds[LIMIT_VFIO_FDS];
	ssize_t n;

	make_room(s);
	iov = (struct iovec){
		.iov_base = s->input->bytes + s->in_end, .iov_len = sizeof(s->input->bytes) - s->in_end,
	};
	n = recvmsg(s->fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	if (n < 0) {
		if (errno == ECONNRESET)
			end(s, 1, "the client has gone");
		else if (errno != EAGAIN && errno != EINTR)
			end(s, -errno, "receiving: %s", strerror(errno));
		return;
	}
	s->in_end += (size_t)n;
	for (struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg); cmsg; cmsg = CMSG_NXTHDR(&msg, cmsg)) {
		size_t bytes = cmsg->cmsg_len - CMSG_LEN(0);

		if (cmsg->cmsg_level != SOL_SOCKET || cmsg->cmsg_type != SCM_RIGHTS)
			continue;
		memcpy(fds, CMSG_DATA(cmsg), bytes);
		keep_fds(s, fds, bytes / sizeof(int));
	}
	/* The kernel drops, too, what would be more than RLIMIT_NOFILE. */
	if (msg.msg_flags & MSG_CTRUNC)
		end(s, -EPROTO, "more than %u fds with one message, or than this process may have",
		    LIMIT_VFIO_FDS);
	else if (!n)
		end(s, 1,
		    s->in_end ? "the client has gone in the middle of a message" : "the client has gone");
}

/**
 * take_fds() - hand the descriptors of the message at the start of the buffer over to @req
 */
static void take_fds(struct vus_session *s, struct request *req)
{
	size_t n = 0;

	while (n < s->n_fds && s->fds[n].at == s->input->start) {
		req->fds[n] = s->fds[n].fd;
		n++;
	}
	req->n_fds = n;
	s->n_fds -= n;
	memmove(s->fds, s->fds + n, s->n_fds * sizeof(s->fds[0]));
}

/**
 * serve() - serve the first message of the buffer, which has_message() saw
 */
static void serve(struct vus_session *s)
{
	struct request req;
	const char *bad;
	size_t len = 0;
	int r;

	vus_header_parse(s->input->bytes + s->input->start, &req.header);
	bad = vus_header_check(&req.header, LIMIT_VFIO_MESSAGE);
	if (bad) {
		end(s, -EPROTO, "%s (command %u, %u bytes, flags 0x%x)", bad, req.header.cmd, req.header.size,
		    req.header.flags);
		return;
	}
	req.body = s->input->bytes + s->input->start + VUS_HEADER_SIZE;
	req.len = req.header.size - VUS_HEADER_SIZE;
	req.n_fds = 0;
	if (s->n_fds)
		take_fds(s, &req);
	if (log_wants(LOG_LEVEL_TRACE))
		log_trace("%s: %s id %u, %zu bytes, %zu fds", s->desc.name, vus_cmd_to_string(req.header.cmd),
			  req.header.id, req.len, req.n_fds);

	s->messages++;
	s->why = NULL;
	if (s->ops->tap)
		s->ops->tap(s->ctx, s->input->bytes + s->input->start, req.header.size, req.fds, req.n_fds);
	r = dispatch(s, &req);
	s->input->start += req.header.size;
	for (size_t i = 0; i < req.n_fds; i++)
		fd_close(&req.fds[i]);
	if (r < 0)
		complain(s, &req, r);
	else
		len = (size_t)r;

	if (req.header.flags & VUS_NO_REPLY) {
		s->out_fd = -1;
	} else {
		vus_reply_build(s->out, &req.header, (uint32_t)len, r < 0 ? (uint32_t)-r : 0);
		s->out_start = 0;
		s->out_end = VUS_HEADER_SIZE + len;
		flush(s);
	}
	if (!s->is_negotiated)
		end(s, -EPROTO, "no version agreed: %s", s->why ? s->why : "malformed");
}

/* --- Life -------------------------------------------------------------------------------- */

/**
 * is_possible() - could there be such a device?
 */
static bool is_possible(const struct vus_desc *desc)
{
	if (!desc->name)
		return false;
	for (unsigned i = 0; i < VUS_REGION_NUM; i++) {
		const struct vus_region *region = &desc->region[i];

		if (i < 6 && region->size & (region->size - 1))
			return false;
		if (region->flags & ~(VUS_REGION_READ | VUS_REGION_WRITE | VUS_REGION_MMAP))
			return false;
		if (!(region->flags & VUS_REGION_MMAP))
			continue;
		if (region->fd < 0 || !region->size || region->n_areas > LIMIT_VFIO_AREAS)
			return false;
		for (uint32_t a = 0; a < region->n_areas; a++)
			if (!range_fits(region->areas[a].offset, region->areas[a].size, region->size))
				return false;
	}
	if (!desc->irq_count[VUS_IRQ_MSIX])
		return true;
	return desc->pba_region < 6 &&
	       range_fits(desc->pba_offset, PBA_SIZE, desc->region[desc->pba_region].size);
}

int vus_session_new(int fd, const struct vus_desc *desc, struct vus_dma *dma, const struct vus_ops *ops,
		    void *ctx, struct vus_session **ret_session)
{
	struct vus_session *s;
	int r;

	s = is_possible(desc) ? calloc(1, sizeof(*s)) : NULL;
	if (!s) {
		close(fd);
		return is_possible(desc) ? -ENOMEM : -EINVAL;
	}
	s->input = &s->own;
	s->fd = fd;
	s->ops = ops;
	s->ctx = ctx;
	s->dma = dma;
	s->desc = *desc;
	s->out_fd = -1;
	r = vus_irqs_new(desc->irq_count, &s->irqs);
	if (r < 0) {
		close(fd);
		free(s);
		return r;
	}
	*ret_session = s;
	return 0;
}

static void drop_fds(struct vus_session *s)
{
	for (size_t i = 0; i < s->n_fds; i++)
		fd_close(&s->fds[i].fd);
	s->n_fds = 0;
}

/**
 * drop_input() - forget what has been received and not been served
 */
static void drop_input(struct vus_session *s)
{
	drop_fds(s);
	memset(s->input->bytes, 0, s->in_end);
	s->input->start = s->in_end = 0;
}

void vus_session_set_input(struct vus_session *session, struct vus_input *input)
{
	assert(!session->in_end && !session->messages);
	memset(input, 0, sizeof(*input));
	session->input = input;
}

/* Take over the complete messages of @left, but for the first @skip bytes. */
static void take_input(struct vus_session *s, const struct vus_input *left, size_t skip)
{
	size_t start = left->start, end;
	struct vus_header header;

	if (start > sizeof(left->bytes) || skip > sizeof(left->bytes) - start)
		return;
	start += skip;
	for (end = start; sizeof(left->bytes) - end >= VUS_HEADER_SIZE; end += header.size) {
		vus_header_parse(left->bytes + end, &header);
		if (vus_header_check(&header, LIMIT_VFIO_MESSAGE) || header.size > sizeof(left->bytes) - end)
			break;
	}
	memcpy(s->input->bytes, left->bytes + start, end - start);
	s->in_end = end - start;
}

struct vus_session *vus_session_free(struct vus_session *session)
{
	if (!session)
		return NULL;
	assert(!session->is_handling);
	drop_fds(session);
	fd_close(&session->fd);
	vus_irqs_free(session->irqs);
	vus_dma_clear(session->dma);
	free(session);
	return NULL;
}

int vus_session_fd(const struct vus_session *session)
{
	return session->fd;
}

uint32_t vus_session_events(const struct vus_session *session)
{
	return is_blocked(session) ? EPOLLOUT : EPOLLIN;
}

bool vus_session_is_pending(const struct vus_session *session)
{
	return !session->ended && !is_blocked(session) && has_message(session);
}

uint64_t vus_session_deadline(const struct vus_session *session)
{
	return session->deadline;
}

int vus_session_handle(struct vus_session *session)
{
	struct vus_session *s = session;

	if (s->ended)
		return s->ended;
	assert(!s->is_handling);
	s->is_handling = true;
	if (is_blocked(s)) {
		flush(s);
		if (is_blocked(s) && now_ns() >= s->deadline)
			end(s, -ETIMEDOUT, "the client does not read its replies");
	}
	if (!s->ended && !is_blocked(s) && !has_message(s))
		receive(s);
	for (unsigned i = 0; i < LIMIT_VFIO_TURN; i++) {
		if (s->ended || is_blocked(s) || !has_message(s))
			break;
		serve(s);
	}
	if (vus_dma_is_lost(s->dma))
		end(s, -EFAULT, "guest memory was truncated");
	s->is_handling = false;
	return s->ended;
}

void vus_session_move(struct vus_session *session, int fd, const struct vus_input *left, size_t skip)
{
	assert(!session->is_handling);
	drop_input(session);
	session->out_start = session->out_end = 0;
	session->out_fd = -1;
	session->deadline = 0;
	if (session->ended == 1) {
		session->ended = 0;
		session->reason[0] = 0;
	}
	fd_close(&session->fd);
	session->fd = fd;
	if (left)
		take_input(session, left, skip);
}

const char *vus_session_reason(const struct vus_session *session)
{
	return session->reason;
}

uint64_t vus_session_messages(const struct vus_session *session)
{
	return session->messages;
}

struct vus_irqs *vus_session_irqs(struct vus_session *session)
{
	return session->irqs;
}
