/* SPDX-License-Identifier: BSD-2-Clause */
/* What hostile peers pass: a socket whose close takes TARPIT_SEC seconds. */
#ifndef TESTS_TARPIT_H
#define TESTS_TARPIT_H

#include <fcntl.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define TARPIT_SEC 20
/* Who is back within this did not wait for it. */
#define TARPIT_LIMIT_MS 10000

#define TARPIT_FDS_MAX 253	/* of one message */

/* tarpit() - a connection with unsent bytes that nobody reads; the other end stays open in this process */
static inline int tarpit(void)
{
	struct sockaddr_in sin = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	const struct linger linger = { 1, TARPIT_SEC };
	static int reader = -1;
	static char bytes[65536];
	socklen_t len = sizeof(sin);
	int small = 4096, fd;

	if (reader < 0) {
		reader = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
		setsockopt(reader, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
		if (reader < 0 || bind(reader, (struct sockaddr *)&sin, sizeof(sin)) || listen(reader, 4096)) {
			perror("a TCP socket");
			abort();
		}
	}
	fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
	if (fd < 0 || getsockname(reader, (struct sockaddr *)&sin, &len) ||
	    connect(fd, (struct sockaddr *)&sin, sizeof(sin)) || fcntl(fd, F_SETFL, O_NONBLOCK)) {
		perror("a TCP socket");
		abort();
	}
	while (send(fd, bytes, sizeof(bytes), MSG_NOSIGNAL) > 0)
		;
	fcntl(fd, F_SETFL, 0);
	setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
	return fd;
}

/* tarpit_send() - send @n descriptors, which are closed, with one byte. Return: 0 or -1, as sendmsg(2) */
static inline int tarpit_send(int to, int *fds, unsigned n)
{
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(TARPIT_FDS_MAX * sizeof(int))];
	} control;
	char byte = 'x';
	struct iovec iov = { .iov_base = &byte, .iov_len = 1 };
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.buf,
		.msg_controllen = CMSG_SPACE(n * sizeof(int)),
	};
	ssize_t sent;

	memset(&control, 0, sizeof(control));
	control.align.cmsg_level = SOL_SOCKET;
	control.align.cmsg_type = SCM_RIGHTS;
	control.align.cmsg_len = CMSG_LEN(n * sizeof(int));
	memcpy(CMSG_DATA(&control.align), fds, n * sizeof(int));
	sent = sendmsg(to, &msg, MSG_NOSIGNAL);
	for (unsigned i = 0; i < n && sent == 1; i++)
		close(fds[i]);
	return sent == 1 ? 0 : -1;
}

/* tarpit_nested() - a UNIX socket in whose queue one lies, or such a one, @depth times */
static inline int tarpit_nested(unsigned depth)
{
	int fd = tarpit();

	for (unsigned i = 0; i < depth; i++) {
		int pair[2];

		if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) || tarpit_send(pair[0], &fd, 1)) {
			perror("a UNIX socket");
			abort();
		}
		close(pair[0]);
		fd = pair[1];
	}
	return fd;
}

static inline int64_t tarpit_now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

#endif /* TESTS_TARPIT_H */
