/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * DOC: Theory of operation
 *
 * The last close(2) of a TCP socket with unsent bytes and SO_LINGER sleeps, for as long as its maker has said, and so does
 * whatever call drops it inside the kernel: a recv(2) without room for descriptors, or the close of a UNIX socket with it
 * in its queue, however deep. O_NONBLOCK and MSG_DONTWAIT do not matter. But a signal ends that sleep, and as long as it
 * is not handled, which is when the call returns, no other begins. So an alarm is set before, and closing takes no longer
 * than that. It is repeated, in case the first one comes before the call.
 *
 * Several descriptors would take that long each. So they are sent into a socket pair of ours first, and our copies are
 * closed, which are not the last then. Receiving them from there without room for them drops all of them in one call.
 *
 * No lock of a foreign socket is taken for this: it might be held by somebody who sleeps (setsockopt(2) would wait for it
 * where no signal helps). Only where there is no alarm is SO_LINGER switched off.
 *
 * What this does not help against: close(2) of a file asks its file system first (flush), and FUSE lets its
 * process answer when it likes. No signal ends that.
 */
#include "closer.h"

#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/time.h>
#include <sys/uio.h>

#include "fd.h"

#ifndef SO_PASSRIGHTS
#define SO_PASSRIGHTS 83
#endif

union control {
	struct cmsghdr align;
	/* Descriptors, and what a socket may say of the sender besides. */
	char buf[CMSG_SPACE(CLOSER_FDS_MAX * sizeof(int)) + CMSG_SPACE(sizeof(struct ucred))];
};

/**
 * @usec: of the alarm; 0: there is none
 * @pair: what is put into the one is dropped from the other
 */
static struct {
	unsigned usec;
	int pair[2];
} closer = { .pair = { -1, -1 } };

static void on_alarm(int signal)
{
	(void)signal;
}

int closer_start(unsigned usec)
{
	/* Without SA_RESTART, so that it ends system calls. */
	const struct sigaction action = { .sa_handler = on_alarm };
	sigset_t mask;
	int pair[2];

	closer_stop();
	sigemptyset(&mask);
	sigaddset(&mask, SIGALRM);
	if (sigaction(SIGALRM, &action, NULL) || sigprocmask(SIG_UNBLOCK, &mask, NULL) ||
	    socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair))
		return -errno;
	closer.pair[0] = pair[0];
	closer.pair[1] = pair[1];
	closer.usec = usec;
	return 0;
}

void closer_stop(void)
{
	fd_close(&closer.pair[0]);
	fd_close(&closer.pair[1]);
	closer.usec = 0;
}

static void set_alarm(unsigned usec)
{
	const struct timeval every = { .tv_sec = usec / 1000000, .tv_usec = usec % 1000000 };
	const struct itimerval timer = { .it_value = every, .it_interval = every };

	setitimer(ITIMER_REAL, &timer, NULL);
}

/* What is not a socket, or has nothing set, is not touched. */
static void unlinger(int fd)
{
	const struct linger never = { 0 };
	struct linger linger = { 0 };
	socklen_t len = sizeof(linger);

	if (!getsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, &len) && linger.l_onoff)
		(void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &never, sizeof(never));
}

static void close_each(int *fds, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		if (!closer.usec && fds[i] >= 0)
			unlinger(fds[i]);
		fd_close(&fds[i]);
	}
}

/* put() - into the pair, in one message. Return: is it there? */
static bool put(const int *fds, unsigned n)
{
	union control control;
	char byte = 0;
	struct iovec iov = { .iov_base = &byte, .iov_len = 1 };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.buf };
	unsigned valid = 0;
	size_t bytes;

	memset(&control, 0, sizeof(control));
	for (unsigned i = 0; i < n; i++)
		if (fds[i] >= 0)
			memcpy(CMSG_DATA(&control.align) + valid++ * sizeof(int), &fds[i], sizeof(int));
	if (valid < 2)
		return false;
	bytes = valid * sizeof(int);
	control.align.cmsg_level = SOL_SOCKET;
	control.align.cmsg_type = SCM_RIGHTS;
	control.align.cmsg_len = CMSG_LEN(bytes);
	msg.msg_controllen = CMSG_SPACE(bytes);
	return sendmsg(closer.pair[0], &msg, MSG_DONTWAIT | MSG_NOSIGNAL) == 1;
}

void closer_close_all(int *fds, unsigned n)
{
	int saved = errno;
	char byte;

	if (!closer.usec) {
		close_each(fds, n);
	} else if (n > 1 && n <= CLOSER_FDS_MAX && put(fds, n)) {
		close_each(fds, n);
		set_alarm(closer.usec);
		while (recv(closer.pair[1], &byte, 1, MSG_DONTWAIT) < 0 && errno == EINTR)
			;
		set_alarm(0);
	} else {
		/* One, or the user has as many under way as he may. */
		set_alarm(closer.usec);
		close_each(fds, n);
		set_alarm(0);
	}
	errno = saved;
}

void closer_close(int *fd)
{
	if (*fd >= 0)
		closer_close_all(fd, 1);
}

void closer_refuse(int fd)
{
	const int no = 0;

	(void)setsockopt(fd, SOL_SOCKET, SO_PASSRIGHTS, &no, sizeof(no));
}

void closer_permit(int fd)
{
	const int yes = 1;

	(void)setsockopt(fd, SOL_SOCKET, SO_PASSRIGHTS, &yes, sizeof(yes));
}

bool closer_is_refusing(int fd)
{
	int value = 1;
	socklen_t len = sizeof(value);

	return !getsockopt(fd, SOL_SOCKET, SO_PASSRIGHTS, &value, &len) && !value;
}

ssize_t closer_recv(int fd, struct msghdr *msg, int flags)
{
	union control control;
	ssize_t n;

	msg->msg_control = control.buf;
	msg->msg_controllen = sizeof(control);
	n = recvmsg(fd, msg, flags | MSG_CMSG_CLOEXEC);
	for (struct cmsghdr *cmsg = n < 0 ? NULL : CMSG_FIRSTHDR(msg); cmsg; cmsg = CMSG_NXTHDR(msg, cmsg)) {
		int fds[CLOSER_FDS_MAX];
		size_t bytes = cmsg->cmsg_len - CMSG_LEN(0);

		if (cmsg->cmsg_level != SOL_SOCKET || cmsg->cmsg_type != SCM_RIGHTS || bytes > sizeof(fds))
			continue;
		memcpy(fds, CMSG_DATA(cmsg), bytes);
		closer_close_all(fds, (unsigned)(bytes / sizeof(int)));
		msg->msg_flags |= MSG_CTRUNC;
	}
	msg->msg_control = NULL;
	msg->msg_controllen = 0;
	return n;
}
