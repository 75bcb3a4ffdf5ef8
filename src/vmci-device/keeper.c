/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * DOC: Theory of operation
 *
 *	vmci-device                                  vmci-keeper
 *	     |---- control (SOCK_SEQPACKET) -------------->|	orders, with descriptors
 *	     |---- feed (SOCK_STREAM, one per VMM) ------->|	messages of the VMM, with theirs
 *	     |---- page (shared memory) ------------------>|	what must be right at any instruction
 *	     |                                             |
 *	     +-------------- the VMM's socket -------------+	both hold it, one reads
 *
 * The keeper sleeps until there is an order, something to follow, or the end of the control socket: then the other
 * process has gone, by whatever death, since it never closes its end before. What was fed is followed to the end, and
 * the VMM's socket is read from there on.
 *
 * Two processes that read one socket would be the end of the VM. So the keeper reads it never before one of
 * these two: the order HAND_OVER, and the end of the control socket.
 *
 * What the VMM sent and the dead process has received lies in the page, too, and the keeper serves it first, but for
 * descriptors that came with it. They are whole messages, but for the case that more than LIMIT_VFIO_MESSAGE bytes were
 * waiting; then the next header is a bad one, and the connection ends as it does without a keeper.
 *
 * The page names the message that was being carried out. If the stand-in should have followed it and was never fed with
 * it, it was not begun, and is served now. If it was a posted write that moves datagrams, the stand-in makes up for it.
 * Of accesses with an answer a VMM has one at a time, and would wait seconds for it with the VM standing still: it gets
 * an error. Should it have been answered already, in the last microseconds, the VMM ignores the second answer.
 *
 * One kind of access must not get an error where the guest can tell: a byte of the ports' stream, for an error reads as
 * 0xff, and one such byte in the middle of a header can keep a guest's driver reading for ever. The page says how far the
 * guest has read. A byte that was not taken cannot have been answered, so it is answered now; of one that was taken
 * nobody knows, and a second answer with data would be the end of the connection. But a VMM that has it goes on at
 * once, in the middle of a burst. So it is sent only if the VMM says nothing for a while.
 */
#include "keeper.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/fd.h"
#include "proto/limits.h"
#include "sandbox.h"
#include "standin.h"
#include "vfio/msg.h"

#define NAME "vmci-keeper"

/* Descriptors of the keeper beside the standard ones. */
#define FD_CONTROL 3
#define FD_NULL 4

enum order {
	ORDER_ATTACH = 1,	/* with the VMM's socket and the feed */
	ORDER_DROP,
	ORDER_HAND_OVER,
};

/**
 * struct page - written by vmci-device
 * @broken:  the keeper was not told everything, and must not take over
 * @pending: message being carried out: PENDING_* | its command << 16 | its id; 0: none
 * @pos:     with PENDING_READ: how much of a burst the guest had read before
 * @region, @offset: of PENDING_READ
 * @carry:   state of the ports' streams
 * @input:   what was received and not carried out
 */
struct page {
	atomic_bool broken;
	_Atomic uint64_t pending;
	_Atomic uint64_t pos;
	_Atomic uint32_t region;
	_Atomic uint64_t offset;
	struct dev_carry carry;
	struct vus_input input;
};

#define PENDING (1ull << 32)
#define PENDING_POSTED (1ull << 35)	/* wants no reply */
#define PENDING_READ (1ull << 33)	/* of a byte of DATA_IN */
#define PENDING_WRITE (1ull << 34)	/* to DATA_OUT */
#define PENDING_FED (1ull << 36)	/* the stand-in is fed with it, before it is carried out */

/* --- In vmci-device ------------------------------------------------------------------------- */

/**
 * struct keeper - the other process
 * @control: orders
 * @feed:    messages; -1: no VMM is followed
 * @filter:  of the feed
 */
struct keeper {
	int control;
	int feed;
	struct page *page;
	struct standin_filter filter;
};

static bool is_usable(const struct keeper *k)
{
	return k && !atomic_load_explicit(&k->page->broken, memory_order_relaxed);
}

static void fail(struct keeper *k, int error)
{
	atomic_store(&k->page->broken, true);
	log_warn("the keeper is of no use any more: %s; should this process end, its VM hangs", strerror(error));
}

/*
 * Send to the keeper. It is our own process, and does nothing but read; if it has not got round to that for some
 * hundred messages it is waited for, but not for long.
 */
static void send_all(struct keeper *k, int fd, struct iovec *iov, size_t n_iov, const int *fds, size_t n_fds)
{
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(LIMIT_VFIO_FDS * sizeof(int))];
	} control;
	struct msghdr msg = { .msg_iov = iov, .msg_iovlen = n_iov };
	struct pollfd room = { .fd = fd, .events = POLLOUT };
	size_t len = 0;
	ssize_t n;

	for (size_t i = 0; i < n_iov; i++)
		len += iov[i].iov_len;
	if (n_fds) {
		memset(&control, 0, sizeof(control));
		control.align.cmsg_level = SOL_SOCKET;
		control.align.cmsg_type = SCM_RIGHTS;
		control.align.cmsg_len = CMSG_LEN(n_fds * sizeof(int));
		memcpy(CMSG_DATA(&control.align), fds, n_fds * sizeof(int));
		msg.msg_control = control.buf;
		msg.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
	}
	n = sendmsg(fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
	if (n < 0 && errno == EAGAIN && poll(&room, 1, LIMIT_KEEPER_WAIT_MS) == 1)
		n = sendmsg(fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
	if (n != (ssize_t)len)
		fail(k, n < 0 ? errno : EMSGSIZE);
}

static void order(struct keeper *k, enum order what, const int *fds, size_t n_fds)
{
	uint8_t byte = (uint8_t)what;
	struct iovec iov = { .iov_base = &byte, .iov_len = 1 };

	send_all(k, k->control, &iov, 1, fds, n_fds);
}

void keeper_attach(struct keeper *k, int fd)
{
	int pair[2];

	if (!is_usable(k))
		return;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair)) {
		fail(k, errno);
		return;
	}
	k->filter = (struct standin_filter){ 0 };
	k->feed = pair[0];
	order(k, ORDER_ATTACH, (int[]){ fd, pair[1] }, 2);
	fd_close(&pair[1]);
}

struct dev_carry *keeper_carry(struct keeper *k)
{
	return k ? &k->page->carry : NULL;
}

struct vus_input *keeper_input(struct keeper *k)
{
	return &k->page->input;
}

/* Note down what is about to be carried out, for answer_pending(). */
static void note_pending(struct page *page, const struct vus_header *header, const uint8_t *msg, size_t len,
			 bool is_fed)
{
	uint64_t pending = PENDING | (uint64_t)header->cmd << 16 | header->id;
	struct vus_access access;

	if (header->flags & VUS_NO_REPLY)
		pending |= PENDING_POSTED;
	if (is_fed)
		pending |= PENDING_FED;

	if (standin_stream_read(msg, len, &access)) {
		atomic_store_explicit(&page->pending, 0, memory_order_relaxed);
		atomic_signal_fence(memory_order_seq_cst);
		atomic_store_explicit(&page->pos, page->carry.drain.pos, memory_order_relaxed);
		atomic_store_explicit(&page->region, access.region, memory_order_relaxed);
		atomic_store_explicit(&page->offset, access.offset, memory_order_relaxed);
		pending |= PENDING_READ;
	} else if (standin_stream_write(msg, len)) {
		pending |= PENDING_WRITE;
	}
	atomic_signal_fence(memory_order_seq_cst);
	atomic_store_explicit(&page->pending, pending, memory_order_relaxed);
	atomic_signal_fence(memory_order_seq_cst);
}

void keeper_tell(struct keeper *k, const uint8_t *msg, size_t len, const int *fds, size_t n_fds)
{
	struct vus_header header;
	bool is_fed;
	uint8_t head[VUS_HEADER_SIZE];
	struct iovec iov[] = {
		{ .iov_base = head, .iov_len = sizeof(head) },
		{ .iov_base = (uint8_t *)msg + sizeof(head), .iov_len = len - sizeof(head) },
	};

	if (!is_usable(k) || k->feed < 0)
		return;
	vus_header_parse(msg, &header);
	is_fed = standin_wants(&k->filter, msg, len);
	note_pending(k->page, &header, msg, len, is_fed);
	if (!is_fed)
		return;
	memcpy(head, msg, sizeof(head));
	put_le32(head + 8, header.flags | VUS_NO_REPLY);
	send_all(k, k->feed, iov, 2, fds, n_fds);
}

void keeper_told(struct keeper *k)
{
	if (k && atomic_load_explicit(&k->page->pending, memory_order_relaxed))
		atomic_store_explicit(&k->page->pending, 0, memory_order_relaxed);
}

static void finish(struct keeper *k, enum order what)
{
	if (!k)
		return;
	fd_close(&k->feed);
	keeper_told(k);
	if (is_usable(k))
		order(k, what, NULL, 0);
}

void keeper_drop(struct keeper *k)
{
	finish(k, ORDER_DROP);
}

void keeper_hand_over(struct keeper *k)
{
	finish(k, ORDER_HAND_OVER);
}

struct keeper *keeper_free(struct keeper *k)
{
	if (!k)
		return NULL;
	fd_close(&k->feed);
	fd_close(&k->control);
	munmap(k->page, sizeof(*k->page));
	free(k);
	return NULL;
}

/* --- In vmci-keeper -------------------------------------------------------------------------- */

/**
 * struct watch - the process
 * @vmm:     its connection, while it is followed; -1
 * @standin: NULL: no VMM
 * @eof:     all that was fed has been followed
 */
struct watch {
	const struct keeper_config *config;
	struct page *page;
	int vmm;
	struct standin *standin;
	bool eof;
};

static void forget(struct watch *w)
{
	fd_close(&w->vmm);
	w->standin = standin_free(w->standin);
	w->eof = false;
}

static void attach(struct watch *w, int fds[2])
{
	forget(w);
	w->vmm = fd_take(&fds[0]);
	if (standin_new(fd_take(&fds[1]), &w->config->device, &w->standin) < 0)
		_exit(EXIT_FAILURE);
}

static void answer(int fd, const uint8_t *reply, size_t size)
{
	if (send(fd, reply, size, MSG_NOSIGNAL | MSG_DONTWAIT) != (ssize_t)size)
		_exit(EXIT_FAILURE);
}

/* Answer what the dead process left unanswered. The theory is at the top. */
static void answer_pending(struct watch *w, uint64_t pending)
{
	const struct page *page = w->page;
	struct vus_header header = { .id = (uint16_t)pending, .cmd = (uint16_t)(pending >> 16) };
	struct vus_access access = {
		.region = atomic_load(&page->region), .offset = atomic_load(&page->offset), .count = 1,
	};
	uint8_t reply[VUS_HEADER_SIZE + VUS_ACCESS_SIZE + 1], byte = 0xff;
	bool was_taken = true;

	if (!pending || pending & PENDING_POSTED)
		return;
	if (pending & PENDING_READ) {
		was_taken = dev_carry_taken(&page->carry, atomic_load(&page->pos), &byte);
		if (!was_taken)
			byte = standin_next_byte(w->standin);
	}
	if (byte == 0xff) {
		/* Only a header: nothing gets out of step if it was answered. */
		vus_reply_build(reply, &header, 0, EIO);
		answer(standin_fd(w->standin), reply, VUS_HEADER_SIZE);
		return;
	}
	vus_reply_build(reply, &header, VUS_ACCESS_SIZE + 1, 0);
	vus_access_build(reply + VUS_HEADER_SIZE, VUS_ACCESS_SIZE, &access);
	reply[sizeof(reply) - 1] = byte;
	if (was_taken)
		standin_owe(w->standin, reply, sizeof(reply));
	else
		answer(standin_fd(w->standin), reply, sizeof(reply));
}

/* How many bytes of the input are the message that was begun? */
static size_t begun(const struct page *page, uint64_t pending)
{
	struct vus_header header;

	if (!pending || page->input.start > sizeof(page->input.bytes) - VUS_HEADER_SIZE)
		return 0;
	vus_header_parse(page->input.bytes + page->input.start, &header);
	return header.id == (uint16_t)pending && header.cmd == (uint16_t)(pending >> 16) ? header.size : 0;
}

/* What was being carried out, once the stand-in has followed all that it was fed with. As page.pending */
static uint64_t find_pending(const struct watch *w)
{
	uint64_t pending = atomic_load(&w->page->pending);

	if (pending & PENDING_FED && !standin_has_followed(w->standin, (uint16_t)(pending >> 16), (uint16_t)pending))
		return 0;
	return pending;
}

/* Serve the VMM until it ends. Never returns. */
static void __attribute__((noreturn)) serve(struct watch *w)
{
	struct standin_left left = { .carry = &w->page->carry, .input = &w->page->input };
	uint64_t pending;
	int r = 0;

	close(FD_CONTROL);
	if (!w->standin || atomic_load(&w->page->broken))
		_exit(EXIT_SUCCESS);
	while (!w->eof)
		w->eof = standin_handle(w->standin) != 0;
	log_open(NAME, w->config->level);
	log_warn("cid %u: vmci-device has gone before its VM; the guest's streams end, and all its connects fail",
		 w->config->device.cid);
	pending = find_pending(w);
	left.skip = begun(w->page, pending);
	left.sending = pending & PENDING_WRITE;
	standin_take_over(w->standin, fd_take(&w->vmm), &left);
	answer_pending(w, pending);
	/* Who reads our messages may wait for the end of vmci-device. */
	if (w->config->level < LOG_LEVEL_DEBUG)
		dup2(FD_NULL, STDERR_FILENO);
	while (!r) {
		struct pollfd fds[] = {
			{ .fd = standin_fd(w->standin), .events = standin_events(w->standin) },
			{ .fd = standin_irq_fd(w->standin), .events = POLLIN },
		};

		if (poll(fds, 2, standin_timeout(w->standin)) < 0 && errno != EINTR)
			break;
		r = standin_handle(w->standin);
	}
	standin_free(w->standin);
	_exit(r == 1 ? EXIT_SUCCESS : EXIT_FAILURE);
}

/* Read one order, and carry it out. */
static void obey(struct watch *w)
{
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(2 * sizeof(int))];
	} control;
	uint8_t what = 0;
	struct iovec iov = { .iov_base = &what, .iov_len = 1 };
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.buf,
		.msg_controllen = sizeof(control.buf),
	};
	int fds[2] = { -1, -1 };
	ssize_t n = recvmsg(FD_CONTROL, &msg, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
	struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0)
		serve(w);
	if (cmsg && cmsg->cmsg_type == SCM_RIGHTS && cmsg->cmsg_len == CMSG_LEN(sizeof(fds)))
		memcpy(fds, CMSG_DATA(cmsg), sizeof(fds));
	if (what == ORDER_ATTACH && fds[1] >= 0)
		attach(w, fds);
	else if (what == ORDER_DROP)
		forget(w);
	else if (what == ORDER_HAND_OVER)
		serve(w);
	else
		_exit(EXIT_FAILURE);
}

/* What people see of the process is its name. */
static void set_name(char **argv)
{
	size_t room = 0;

	prctl(PR_SET_NAME, NAME);
	for (int i = 0; argv[i] && argv[i] == argv[0] + room; i++)
		room += strlen(argv[i]) + 1;
	memset(argv[0], 0, room);
	strncpy(argv[0], NAME, room ? room - 1 : 0);
}

static void __attribute__((noreturn)) keep(const struct keeper_config *config, struct page *page, int control)
{
	struct watch w = { .config = config, .page = page, .vmm = -1 };
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	set_name(config->argv);
	/* Out of the terminal's reach: its Ctrl-C is for vmci-device. */
	setsid();
	signal(SIGPIPE, SIG_IGN);
	/* Until it takes over, all there is to say is said by vmci-device. */
	log_open(NAME, LOG_LEVEL_ERR);
	if (null < 0 || dup2(null, STDIN_FILENO) < 0 || dup2(null, STDOUT_FILENO) < 0)
		_exit(EXIT_FAILURE);
	control = fcntl(control, F_DUPFD, FD_NULL + 1);
	null = fcntl(null, F_DUPFD, FD_NULL + 1);
	if (dup2(control, FD_CONTROL) < 0 || dup2(null, FD_NULL) < 0 || close_range(FD_NULL + 1, ~0u, 0))
		_exit(EXIT_FAILURE);
	if (config->confine && sandbox_enter_keeper() < 0) {
		log_err("cannot enter the sandbox");
		_exit(EXIT_FAILURE);
	}
	for (;;) {
		struct pollfd fds[] = {
			{ .fd = FD_CONTROL, .events = POLLIN },
			{ .fd = w.standin && !w.eof ? standin_fd(w.standin) : -1, .events = POLLIN },
		};

		if (poll(fds, 2, -1) < 0 && errno != EINTR)
			_exit(EXIT_FAILURE);
		if (w.standin && !w.eof && fds[1].revents)
			w.eof = standin_handle(w.standin) != 0;
		if (fds[0].revents)
			obey(&w);
	}
}

int keeper_start(const struct keeper_config *config, struct keeper **ret_keeper)
{
	struct keeper *k = malloc(sizeof(*k));
	void *page = mmap(NULL, sizeof(*k->page), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int pair[2] = { -1, -1 }, r = 0;
	pid_t pid;

	if (!k || page == MAP_FAILED || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair)) {
		r = -errno;
		goto fail;
	}
	pid = fork();
	if (pid < 0) {
		r = -errno;
		goto fail;
	}
	if (!pid)
		keep(config, page, pair[1]);
	fd_close(&pair[1]);
	*k = (struct keeper){ .control = pair[0], .feed = -1, .page = page };
	*ret_keeper = k;
	return 0;

fail:
	fd_close(&pair[0]);
	fd_close(&pair[1]);
	if (page != MAP_FAILED)
		munmap(page, sizeof(*k->page));
	free(k);
	return r;
}
