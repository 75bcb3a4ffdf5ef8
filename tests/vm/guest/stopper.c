// SPDX-License-Identifier: BSD-2-Clause
/*
 * What connect() without waiting builds on (doc/protocol-fabric.md, 13), of the UNIX sockets of the kernel that this
 * runs on: "stopper fine", or a line with what is different and status 1.
 */
#define _GNU_SOURCE
#include <err.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define CHECK(what) do { if (!(what)) errx(1, "line %d: %s", __LINE__, #what); } while (0)

static char bytes[1 << 20];

static int events_of(int fd, int events)
{
	struct pollfd pollfd = { .fd = fd, .events = (short)events };

	poll(&pollfd, 1, 0);
	return pollfd.revents;
}

static int is_selected(int fd)
{
	struct timeval none = { 0 };
	fd_set set;

	FD_ZERO(&set);
	FD_SET(fd, &set);
	return select(fd + 1, NULL, &set, NULL, &none);
}

/* Connected, as vmcid does it, and stopped; an edge-triggered epoll waits for it. */
static size_t start(int *fd, int *end, int *epoll)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	struct epoll_event event = { .events = EPOLLOUT | EPOLLET };
	int listener = socket(AF_UNIX, SOCK_STREAM, 0), room;
	socklen_t len = sizeof sun, size = sizeof room;
	ssize_t n;

	CHECK(!bind(listener, (struct sockaddr *)&sun, sizeof(sa_family_t)) && !listen(listener, 1));
	CHECK(!getsockname(listener, (struct sockaddr *)&sun, &len));
	*fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
	CHECK(!connect(*fd, (struct sockaddr *)&sun, len));
	*end = accept(listener, NULL, NULL);
	close(listener);
	CHECK(!getsockopt(*fd, SOL_SOCKET, SO_SNDBUF, &room, &size));
	CHECK(events_of(*fd, POLLOUT) == POLLOUT);
	n = send(*fd, bytes, (size_t)room / 4 + 1, MSG_DONTWAIT);
	CHECK(n == room / 4 + 1);
	*epoll = epoll_create1(0);
	CHECK(!epoll_ctl(*epoll, EPOLL_CTL_ADD, *fd, &event));
	CHECK(!epoll_wait(*epoll, &event, 1, 0) && !events_of(*fd, POLLOUT) && !is_selected(*fd));
	return (size_t)n;
}

int main(void)
{
	struct epoll_event event;
	int fd, end, epoll, error;
	socklen_t size = sizeof error;
	size_t n = start(&fd, &end, &epoll);
	char byte = 7;

	/* Accepted, the last byte being what counts */
	CHECK(recv(end, bytes, n, MSG_WAITALL) == (ssize_t)n);
	CHECK(epoll_wait(epoll, &event, 1, 0) == 1 && event.events == EPOLLOUT);
	CHECK(events_of(fd, POLLOUT) == POLLOUT && is_selected(fd));
	close(end);
	CHECK(events_of(fd, POLLOUT) == (POLLOUT | POLLHUP));
	CHECK(!getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) && !error);

	/* Not accepted, with a reason that only those read who ask for it */
	start(&fd, &end, &epoll);
	CHECK(send(end, &byte, 1, MSG_OOB | MSG_DONTWAIT) == 1);
	close(end);
	CHECK(epoll_wait(epoll, &event, 1, 0) == 1 && event.events == (EPOLLOUT | EPOLLERR | EPOLLHUP));
	CHECK(events_of(fd, POLLOUT) == (POLLOUT | POLLERR | POLLHUP) && is_selected(fd));
	byte = 0;
	CHECK(recv(fd, &byte, 1, MSG_OOB | MSG_DONTWAIT | MSG_PEEK) == 1 && byte == 7);
	CHECK(recv(fd, &byte, 1, MSG_OOB | MSG_DONTWAIT) == 1 && byte == 7);
	CHECK(recv(fd, &byte, 1, MSG_OOB | MSG_DONTWAIT) < 0);
	CHECK(!getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) && error == ECONNRESET);
	CHECK(!recv(fd, &byte, 1, 0));

	/* And nobody asks */
	start(&fd, &end, &epoll);
	CHECK(send(end, &byte, 1, MSG_OOB | MSG_DONTWAIT) == 1);
	close(end);
	for (int i = 0; i < 3; i++)
		CHECK(recv(fd, &byte, 1, 0) <= 0);

	/* Left without a word */
	start(&fd, &end, &epoll);
	close(end);
	CHECK(events_of(fd, POLLOUT) == (POLLOUT | POLLERR | POLLHUP));
	CHECK(recv(fd, &byte, 1, MSG_OOB | MSG_DONTWAIT) < 0);
	CHECK(!getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) && error == ECONNRESET);
	puts("stopper fine");
	return 0;
}
