/* SPDX-License-Identifier: BSD-2-Clause */
#include "fabric/link.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "base/closer.h"
#include "base/fd.h"

int fab_send(int fd, const struct fab_msg *msg)
{
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(FAB_FDS_MAX * sizeof(int))];
	} control;
	uint8_t head[FAB_HEADER_SIZE];
	struct iovec iov[2] = {
		{ .iov_base = head, .iov_len = sizeof(head) },
		/* sendmsg(2) only reads it */
		{ .iov_base = (void *)(uintptr_t)msg->data, .iov_len = msg->len },
	};
	struct msghdr hdr = { .msg_iov = iov, .msg_iovlen = msg->len ? 2 : 1 };
	ssize_t n;

	fab_build(msg, head);
	for (unsigned i = 0; i < msg->n_fds; i++)
		if (msg->fd[i] < 0)
			return -EBADF;
	if (msg->n_fds) {
		struct cmsghdr *cmsg = &control.align;
		size_t bytes = msg->n_fds * sizeof(int);

		memset(&control, 0, sizeof(control));
		cmsg->cmsg_level = SOL_SOCKET;
		cmsg->cmsg_type = SCM_RIGHTS;
		cmsg->cmsg_len = CMSG_LEN(bytes);
		memcpy(CMSG_DATA(cmsg), msg->fd, bytes);
		hdr.msg_control = control.buf;
		hdr.msg_controllen = CMSG_SPACE(bytes);
	}
	do
		n = sendmsg(fd, &hdr, MSG_DONTWAIT | MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	/* A packet goes whole or not at all. */
	assert((size_t)n == sizeof(head) + msg->len);
	return 0;
}

/**
 * is_end() - a receive of 0 bytes: is it the end of file, not an empty packet?
 */
static _Bool is_end(int fd)
{
	uint8_t byte;

	return !recv(fd, &byte, sizeof(byte), MSG_DONTWAIT | MSG_PEEK);
}

/**
 * take_fds() - put what came with a packet into @fds; if it is too much, everything is closed
 *
 * Return: number of descriptors that came
 */
static unsigned take_fds(struct msghdr *hdr, int *fds)
{
	int all[CLOSER_FDS_MAX];
	unsigned n = 0;

	for (struct cmsghdr *cmsg = CMSG_FIRSTHDR(hdr); cmsg; cmsg = CMSG_NXTHDR(hdr, cmsg)) {
		size_t bytes = cmsg->cmsg_len - CMSG_LEN(0);

		if (cmsg->cmsg_level != SOL_SOCKET || cmsg->cmsg_type != SCM_RIGHTS)
			continue;
		for (size_t at = 0; at + sizeof(int) <= bytes && n < CLOSER_FDS_MAX; at += sizeof(int))
			memcpy(&all[n++], CMSG_DATA(cmsg) + at, sizeof(int));
	}
	if (n > FAB_FDS_MAX)
		closer_close_all(all, n);
	else
		memcpy(fds, all, n * sizeof(int));
	return n;
}

/**
 * receive() - one packet
 *
 * Return: its length; a negative errno
 */
static ssize_t receive(int fd, struct msghdr *hdr)
{
	size_t room = hdr->msg_controllen;
	_Bool is_reset = 0;
	ssize_t n;

	for (;;) {
		hdr->msg_controllen = room;
		n = recvmsg(fd, hdr, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
		if (n >= 0)
			return n;
		if (errno == EINTR)
			continue;
		/*
		 * A peer that ended without having read everything makes this, once, and what it had said before is
		 * still there behind it.
		 */
		if (errno != ECONNRESET || is_reset)
			return -errno;
		is_reset = 1;
	}
}

int fab_recv_why(int fd, uint8_t *buf, struct fab_msg *ret_msg, const char **ret_why)
{
	union {
		struct cmsghdr align;
		/*
		 * More than the protocol has: all that can come, also beside credentials. What there is no room for is
		 * closed by the kernel, and we would wait.
		 */
		char buf[CMSG_SPACE(CLOSER_FDS_MAX * sizeof(int)) + CMSG_SPACE(sizeof(struct ucred))];
	} control;
	struct iovec iov = { .iov_base = buf, .iov_len = FAB_MSG_MAX };
	struct msghdr hdr = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.buf,
		.msg_controllen = sizeof(control.buf),
	};
	struct fab_msg msg = { 0 };
	const char *why;
	ssize_t n = receive(fd, &hdr);

	if (n < 0)
		return (int)n;
	for (unsigned i = 0; i < FAB_FDS_MAX; i++)
		msg.fd[i] = -1;
	msg.n_fds = take_fds(&hdr, msg.fd);
	if (!n && !msg.n_fds && is_end(fd))
		return -ECONNRESET;
	if (msg.n_fds > FAB_FDS_MAX || hdr.msg_flags & MSG_CTRUNC)
		why = "more descriptors than any message has, or than this process may have open";
	else if (hdr.msg_flags & MSG_TRUNC)
		why = "longer than any message";
	else
		why = fab_parse_why(buf, (size_t)n, msg.n_fds, &msg);
	if (why) {
		closer_close_all(msg.fd, FAB_FDS_MAX);
		*ret_why = why;
		return -EBADMSG;
	}
	*ret_msg = msg;
	return 0;
}

int fab_recv(int fd, uint8_t *buf, struct fab_msg *ret_msg)
{
	const char *why;

	return fab_recv_why(fd, buf, ret_msg, &why);
}

void fab_drop(struct fab_msg *msg)
{
	_Bool is_there = 0;

	for (unsigned i = 0; i < msg->n_fds && i < FAB_FDS_MAX; i++)
		is_there |= msg->fd[i] >= 0;
	if (is_there)
		closer_close_all(msg->fd, msg->n_fds < FAB_FDS_MAX ? msg->n_fds : FAB_FDS_MAX);
	msg->n_fds = 0;
}
