/* SPDX-License-Identifier: BSD-2-Clause */
#include "rig.h"

#include <dirent.h>
#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#define MOST_FDS 64u

void rig_pair(int flags, int ret_fd[2])
{
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | flags, 0, ret_fd), 0);
}

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

int rig_eventfd(unsigned value)
{
	int fd = eventfd(value, EFD_CLOEXEC | EFD_NONBLOCK);

	assert_true(fd >= 0);
	return fd;
}

unsigned rig_eventfd_value(int fd)
{
	uint64_t value;

	assert_int_equal(read(fd, &value, sizeof(value)), sizeof(value));
	return (unsigned)value;
}

unsigned rig_fill(int fd)
{
	uint8_t packet[FAB_HEADER_SIZE] = { 0 };
	unsigned n = 0;

	while (send(fd, packet, sizeof(packet), MSG_DONTWAIT | MSG_NOSIGNAL) == sizeof(packet))
		n++;
	assert_int_equal(errno, EAGAIN);
	return n;
}

void rig_send_raw(int fd, const void *buf, size_t len, int with, unsigned n_fds)
{
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(MOST_FDS * sizeof(int))];
	} control;
	struct iovec iov = { .iov_base = (void *)(uintptr_t)buf, .iov_len = len };
	struct msghdr hdr = { .msg_iov = &iov, .msg_iovlen = 1 };

	memset(&control, 0, sizeof(control));
	assert_true(n_fds <= MOST_FDS);
	if (n_fds) {
		hdr.msg_control = control.buf;
		hdr.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
		control.align.cmsg_level = SOL_SOCKET;
		control.align.cmsg_type = SCM_RIGHTS;
		control.align.cmsg_len = CMSG_LEN(n_fds * sizeof(int));
		for (unsigned i = 0; i < n_fds; i++)
			memcpy(CMSG_DATA(&control.align) + i * sizeof(int), &with, sizeof(int));
	}
	assert_int_equal(sendmsg(fd, &hdr, MSG_NOSIGNAL), len);
}

bool rig_is_equal(const struct fab_msg *a, const struct fab_msg *b)
{
	return a->type == b->type && a->kind == b->kind && a->serial == b->serial && a->status == b->status &&
	       a->flags == b->flags && handle_is_equal(a->handle, b->handle) && handle_is_equal(a->other, b->other) &&
	       a->size0 == b->size0 && a->size1 == b->size1 && !memcmp(a->token, b->token, FAB_TOKEN_SIZE) &&
	       a->len == b->len && (!a->len || !memcmp(a->data, b->data, a->len)) && a->n_fds == b->n_fds;
}
