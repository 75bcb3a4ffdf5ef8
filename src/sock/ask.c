/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * DOC: Theory of operation
 *
 * Each request has a connection for itself while it is under way, so any number of threads, and signal handlers, can
 * ask at the same time, and nobody waits for somebody else. Afterwards one connection is kept, the *spare*, so that
 * who sends datagrams need not say hello for each.
 *
 * The spare is a descriptor that the program does not know of. It may close it, by closing all it can, and have
 * another file under its number then: before it is used, it is compared with what it was (device and inode of the
 * socket). It has a high number, where it is in nobody's way, and is closed by exec. It belongs to the process that
 * made it: a child forgets it. And it belongs to the user and the group that this process was when it was made, for
 * they are what vmcid goes by, as long as it is open: who has given up his rights since (setuid(2)), or has got others,
 * gets a new one.
 *
 *	NONE -> BUSY -> KEPT -> BUSY -> NONE	(BUSY: somebody is about to put or to take it, and has it for himself)
 *
 * A program that never asks has none of this. What is known for certain is only that vmcid was there before: then it
 * is waited for (ASK_PATIENCE_MS), as it may be restarting.
 */
#include "sock/ask.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <time.h>

#include "lib/start.h"
#include "sock/sys.h"

/* One call that receives waits for this long at most (SO_RCVTIMEO). */
#define RECEIVE_MS 1000

/* Microseconds for which a reply is looked for before it is waited for, and how many are not after a look in vain. */
#define LOOK_US 60
#define LOOK_SKIP 32

/* Between two attempts to connect. */
#define RETRY_MS 20

/* The spare has this number or a higher one; where there are not so many, half of it, and so on. */
#define SPARE_NUMBER 960
#define SPARE_NUMBER_MIN 30

enum { NONE, BUSY, KEPT };

static atomic_int state = NONE;

/* What SO_PEERCRED tells vmcid of a connection. */
struct who {
	pid_t pid;
	uid_t uid;
	gid_t gid;
};

/* @who: whose it is; @dev, @ino: of the socket */
struct connection {
	int fd;
	struct who who;
	dev_t dev;
	ino_t ino;
};

static struct connection spare;

static atomic_bool was_there;

static uint64_t now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

static uint64_t now_ms(void)
{
	return now_us() / 1000;
}

uint32_t ask_cid(void)
{
	static atomic_uint known;
	uint32_t cid = atomic_load(&known);
	const char *text;

	if (cid)
		return cid;
	text = secure_getenv("VMCI_CID");
	cid = text ? (uint32_t)strtoul(text, NULL, 10) : VMCI_CID_HOST;
	if (cid != VMCI_CID_HOST && (cid < VMCI_CID_FIRST_VM || cid == VMCI_INVALID_ID))
		cid = VMCI_CID_HOST;
	atomic_store(&known, cid);
	return cid;
}

/* --- The spare ------------------------------------------------------------------------------------------------ */

/* In the child, which has one thread: whoever was BUSY is not here. */
static void forget(void)
{
	struct stat st;

	if (atomic_load(&state) == KEPT && !fstat(spare.fd, &st) && st.st_dev == spare.dev && st.st_ino == spare.ino)
		close(spare.fd);
	atomic_store(&state, NONE);
}

__attribute__((constructor)) static void watch_forks(void)
{
	pthread_atfork(NULL, NULL, forget);
}

static struct who who_am_i(void)
{
	return (struct who){ .pid = getpid(), .uid = geteuid(), .gid = getegid() };
}

static bool is_same(const struct who *a, const struct who *b)
{
	return a->pid == b->pid && a->uid == b->uid && a->gid == b->gid;
}

/* Return: are we BUSY with a spare of @who now? If not, there is none any more, or somebody else is. */
static bool hold_spare(const struct who *who)
{
	int expected = KEPT;
	struct stat st;

	if (!atomic_compare_exchange_strong(&state, &expected, BUSY))
		return false;
	if (!fstat(spare.fd, &st) && st.st_dev == spare.dev && st.st_ino == spare.ino) {
		if (is_same(&spare.who, who))
			return true;
		/* Of before setuid(2), or the parent's: a child that was made past the C library. */
		close(spare.fd);
	}
	atomic_store(&state, NONE);
	return false;
}

/* Return: a connection of @who that has said hello, or one without a descriptor */
static struct connection take_spare(const struct who *who)
{
	struct connection taken = { .fd = -1 };

	if (hold_spare(who)) {
		taken = spare;
		atomic_store(&state, NONE);
	}
	return taken;
}

/* After take_spare(): it is what it was, and is looked at when it is taken again. */
static void put_back(const struct connection *taken)
{
	int expected = NONE;

	if (!atomic_compare_exchange_strong(&state, &expected, BUSY)) {
		close(taken->fd);
		return;
	}
	spare = *taken;
	atomic_store(&state, KEPT);
}

/* A new one. @who: what we were before @fd was connected. Who is another by now does not keep it. */
static void put_spare(int fd, const struct who *who)
{
	int expected = NONE, high;
	struct who now = who_am_i();
	struct stat st;

	if (!is_same(&now, who) || !atomic_compare_exchange_strong(&state, &expected, BUSY)) {
		close(fd);
		return;
	}
	for (int number = SPARE_NUMBER; fd < number && number >= SPARE_NUMBER_MIN; number /= 2) {
		high = fcntl(fd, F_DUPFD_CLOEXEC, number);
		if (high >= 0) {
			close(fd);
			fd = high;
		}
	}
	if (fstat(fd, &st)) {
		close(fd);
		atomic_store(&state, NONE);
		return;
	}
	spare.fd = fd;
	spare.who = *who;
	spare.dev = st.st_dev;
	spare.ino = st.st_ino;
	atomic_store(&state, KEPT);
}

/* --- Talking -------------------------------------------------------------------------------------------------- */

static int wait_for(int fd, short events, uint64_t until)
{
	for (;;) {
		struct pollfd pollfd = { .fd = fd, .events = events };
		uint64_t now = now_ms();
		int n = sys_poll(&pollfd, 1, now >= until ? 0 : (int)(until - now));

		if (n > 0)
			return 0;
		if (!n && now >= until)
			return -ETIMEDOUT;
		if (n < 0 && errno != EINTR)
			return -errno;
	}
}

/* Return: 0; -EPIPE: vmcid has gone; another negative errno */
static int tell(int fd, const struct fab_msg *msg, const struct iovec *data, unsigned n_data, uint64_t until)
{
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(FAB_FDS_MAX * sizeof(int))];
	} control = { 0 };
	uint8_t head[FAB_HEADER_SIZE];
	struct iovec small[8], *iov = small;
	struct msghdr hdr = { 0 };
	int r = 0;

	fab_build(msg, head);
	if (n_data + 1 > sizeof(small) / sizeof(small[0])) {
		iov = malloc((n_data + 1) * sizeof(*iov));
		if (!iov)
			return -ENOMEM;
	}
	iov[0] = (struct iovec){ .iov_base = head, .iov_len = sizeof(head) };
	for (unsigned i = 0; i < n_data; i++)
		iov[i + 1] = data[i];
	hdr.msg_iov = iov;
	hdr.msg_iovlen = n_data + 1;
	if (msg->n_fds) {
		size_t bytes = msg->n_fds * sizeof(int);

		control.align.cmsg_level = SOL_SOCKET;
		control.align.cmsg_type = SCM_RIGHTS;
		control.align.cmsg_len = CMSG_LEN(bytes);
		memcpy(CMSG_DATA(&control.align), msg->fd, bytes);
		hdr.msg_control = control.buf;
		hdr.msg_controllen = CMSG_SPACE(bytes);
	}
	while (sys_sendmsg(fd, &hdr, MSG_DONTWAIT | MSG_NOSIGNAL) < 0) {
		if (errno == EINTR)
			continue;
		r = errno == ECONNRESET || errno == ENOTCONN ? -EPIPE : -errno;
		if (r != -EAGAIN)
			break;
		r = wait_for(fd, POLLOUT, until);
		if (r)
			break;
	}
	if (iov != small)
		free(iov);
	return r;
}

/*
 * Look for the reply for a moment before it is waited for: vmcid needs less time for it than a CPU needs to fall asleep
 * and to wake up again. Where it is in vain (vmcid has no other CPU, or much to do, or asks a guest) it is not tried
 * again for a while.
 *
 * Return: bytes received, or -1: it is not there
 */
static ssize_t look(int fd, struct msghdr *hdr)
{
	static atomic_uint skip;
	unsigned left = atomic_load_explicit(&skip, memory_order_relaxed);
	uint64_t end;
	ssize_t n;

	if (left) {
		atomic_store_explicit(&skip, left - 1, memory_order_relaxed);
		return -1;
	}
	end = now_us() + LOOK_US;
	do {
		n = sys_recvmsg(fd, hdr, MSG_DONTWAIT);
		if (n >= 0)
			return n;
	} while (errno == EAGAIN && now_us() < end);
	atomic_store_explicit(&skip, LOOK_SKIP, memory_order_relaxed);
	return -1;
}

/* Return: 0; -EPIPE: vmcid has gone; -ETIMEDOUT; -EPROTO */
static int hear(int fd, const struct fab_msg *request, uint64_t until, struct fab_msg *ret_reply)
{
	uint8_t buf[FAB_HEADER_SIZE];
	struct iovec iov = { .iov_base = buf, .iov_len = sizeof(buf) };
	struct msghdr hdr = { .msg_iov = &iov, .msg_iovlen = 1 };
	struct fab_msg reply;
	bool is_reset = false, may_block = now_ms() + RECEIVE_MS <= until;
	ssize_t n = look(fd, &hdr);
	int r;

	for (; n < 0; may_block = false) {
		/* Nearly always what we wait for comes, and poll(2) is for those cases in which it does not. */
		r = may_block ? 0 : wait_for(fd, POLLIN, until);
		if (r)
			return r;
		n = sys_recvmsg(fd, &hdr, may_block ? 0 : MSG_DONTWAIT);
		if (n >= 0)
			break;
		if (errno == EAGAIN || errno == EINTR)
			continue;
		/* What was said before is still there behind it: fabric protocol, 2. */
		if (errno != ECONNRESET || is_reset)
			return -EPIPE;
		is_reset = true;
	}
	if (!n)
		return -EPIPE;
	/* No reply that we wait for has data or descriptors, for which there would be no room. */
	if (hdr.msg_flags & (MSG_TRUNC | MSG_CTRUNC) || fab_parse(buf, (size_t)n, 0, &reply) ||
	    reply.kind != FAB_REPLY || reply.type != request->type || reply.serial != request->serial)
		return -EPROTO;
	*ret_reply = reply;
	return 0;
}

static struct fab_msg hello(void)
{
	struct fab_msg msg = {
		.type = FAB_HELLO,
		.kind = FAB_REQUEST,
		.serial = 1,
		.handle = { .context = ask_cid() },
		.size0 = FAB_VERSION,
		.data = (const uint8_t *)program_invocation_short_name,
	};

	msg.len = strnlen(program_invocation_short_name, FAB_LABEL_MAX);
	return msg;
}

static int errno_of_hello(int32_t status)
{
	switch (status) {
	case VMCI_ERROR_NO_ACCESS:
		return -EPERM;
	case VMCI_ERROR_NO_RESOURCES:
		return -ENOBUFS;
	case VMCI_ERROR_NO_MEM:
		return -ENOMEM;
	default:
		return -ENETUNREACH;
	}
}

/* Return: 0; -EPIPE; another negative errno */
static int hear_hello(int fd, uint64_t until, uint32_t *ret_flags)
{
	struct fab_msg msg = hello(), reply;
	int r = hear(fd, &msg, until, &reply);

	if (r)
		return r;
	atomic_store(&was_there, true);
	if (reply.status < 0)
		return errno_of_hello(reply.status);
	if (reply.size0 != FAB_VERSION || reply.handle.context != msg.handle.context)
		return -ENETUNREACH;
	if (ret_flags)
		*ret_flags = reply.flags;
	return 0;
}

/* Connect and say hello, without waiting for what vmcid says to it. Return: a descriptor, or a negative errno */
static int come(uint64_t until)
{
	struct fab_msg msg = hello();
	struct iovec label = { .iov_base = (void *)(uintptr_t)msg.data, .iov_len = msg.len };
	const struct timeval patience = { .tv_sec = RECEIVE_MS / 1000 };
	struct home home;
	int fd = -1, r;

	r = home_find(NULL, true, &home, &fd);
	if (r)
		return r == VMCI_ERROR_NO_ACCESS ? -EACCES : -ENETUNREACH;
	if (fd < 0)
		return -ENETUNREACH;
	if (sys_setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience))) {
		r = -errno;
		close(fd);
		return r;
	}
	r = tell(fd, &msg, &label, msg.len ? 1 : 0, until);
	if (r) {
		close(fd);
		return r == -EPIPE ? -ENETUNREACH : r;
	}
	return fd;
}

static void nap(void)
{
	sys_poll(NULL, 0, RETRY_MS);
}

static int is_there(uint32_t *ret_flags)
{
	uint64_t patience = now_ms() + ASK_PATIENCE_MS;
	struct who who = who_am_i();
	int fd, r;

	if (!ret_flags && hold_spare(&who)) {
		struct pollfd pollfd = { .fd = spare.fd, .events = POLLIN };

		/* Nothing is expected from vmcid but its end. */
		if (!sys_poll(&pollfd, 1, 0)) {
			atomic_store(&state, KEPT);
			return 0;
		}
		close(spare.fd);
		atomic_store(&state, NONE);
	}
	for (;;) {
		uint64_t until = now_ms() + ASK_REPLY_MS;

		who = who_am_i();
		r = fd = come(until);
		if (fd >= 0) {
			r = hear_hello(fd, until, ret_flags);
			if (!r) {
				put_spare(fd, &who);
				return 0;
			}
			close(fd);
		}
		if (r != -ENETUNREACH && r != -EPIPE)
			return r;
		if (!atomic_load(&was_there) || now_ms() >= patience)
			return -ENODEV;
		nap();
	}
}

bool ask_was_there(void)
{
	return atomic_load(&was_there);
}

int ask_is_there(uint32_t *ret_flags)
{
	int error = errno, r = is_there(ret_flags);

	errno = error;
	return r;
}

static int do_ask(struct fab_msg *request, const struct iovec *data, unsigned n_data, bool again, int timeout_ms,
		  struct fab_msg *ret_reply)
{
	uint64_t patience = now_ms() + ASK_PATIENCE_MS;

	request->kind = FAB_REQUEST;
	request->serial = 2;
	for (;;) {
		uint64_t until = now_ms() + (uint64_t)timeout_ms;
		struct who who = who_am_i();
		struct connection taken = take_spare(&who);
		bool is_new = taken.fd < 0, is_told = false;
		int fd = taken.fd, r = 0;

		if (is_new)
			r = fd = come(until);
		if (fd >= 0) {
			r = tell(fd, request, data, n_data, until);
			is_told = !r;
			if (!r && is_new)
				r = hear_hello(fd, until, NULL);
			if (!r)
				r = hear(fd, request, until, ret_reply);
			if (!r && is_new)
				put_spare(fd, &who);
			else if (!r)
				put_back(&taken);
			if (!r)
				return 0;
			close(fd);
		}
		if (r == -EPIPE && is_told && !again)
			return r;
		if (r == -ETIMEDOUT || r == -EPROTO)
			return -ENETUNREACH;
		if (r != -EPIPE && r != -ENETUNREACH)
			return r;
		/* A spare one may have been of an earlier vmcid: that costs no time. */
		if (is_new && now_ms() >= patience)
			return -ENETUNREACH;
		if (is_new)
			nap();
	}
}

int ask(struct fab_msg *request, const struct iovec *data, unsigned n_data, bool again, int timeout_ms,
	struct fab_msg *ret_reply)
{
	int error = errno, r = do_ask(request, data, n_data, again, timeout_ms, ret_reply);

	errno = error;
	return r;
}
