// SPDX-License-Identifier: BSD-2-Clause
/*
 * AF_VSOCK test tool of the guest, for what socat cannot do or say: which error a
 * program sees, many streams in one process, round trips. Prints plain words.
 */
#define _GNU_SOURCE
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
#include <linux/vm_sockets.h>

#define STREAMS	512	/* poll takes no more than the limit of open files, 1024 */
#define CHUNK	65536
#define USUAL	2	/* the kernel's own limit on connect(), in seconds */
#define PATIENT	30	/* for machines with other things to do */

struct stream {
	int fd;
	size_t out, in;		/* bytes sent and received so far */
	size_t pending;		/* echo only: bytes of buffer to write */
	char *buffer;
	int eof;
};

static struct stream streams[STREAMS];
static struct pollfd polled[STREAMS + 1];

/* A byte of the stream's content: distinct streams have distinct content. */
static uint8_t pattern(unsigned stream, size_t offset)
{
	uint64_t x = ((uint64_t)stream << 40) + offset / 8 + 1;

	x *= 0x9e3779b97f4a7c15u;
	return (uint8_t)(x >> (8 * (offset % 8))) ^ (uint8_t)(x >> 59);
}

static _Noreturn void fail(const char *what, unsigned stream)
{
	printf("stream %u: %s: %s\n", stream, what, strerrorname_np(errno));
	exit(1);
}

/* A context followed by "h" is reached by way of the host, whatever the kernel thinks: newer ones want to be told. */
static struct sockaddr_vm address(const char *cid, const char *port)
{
	return (struct sockaddr_vm){ .svm_family = AF_VSOCK,
		.svm_cid = cid ? (unsigned)strtoul(cid, NULL, 10) : VMADDR_CID_ANY,
		.svm_port = (unsigned)strtoul(port, NULL, 0),
		.svm_flags = cid && strchr(cid, 'h') ? VMADDR_FLAG_TO_HOST : 0 };
}

static int connect_to(const char *cid, const char *port, time_t patience)
{
	struct timeval limit = { .tv_sec = patience };
	struct sockaddr_vm to = address(cid, port);
	int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || setsockopt(fd, AF_VSOCK, SO_VM_SOCKETS_CONNECT_TIMEOUT, &limit, sizeof(limit)) ||
	    connect(fd, (struct sockaddr *)&to, sizeof(to)))
		return -1;
	return fd;
}

/* connect CID PORT: "connected", or the error's name and status 1. */
static int cmd_connect(char **arg)
{
	if (connect_to(arg[0], arg[1], USUAL) < 0) {
		puts(strerrorname_np(errno));
		return 1;
	}
	puts("connected");
	return 0;
}

static int listen_on(const char *port)
{
	struct sockaddr_vm at = address(NULL, port);
	int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || bind(fd, (struct sockaddr *)&at, sizeof(at)) || listen(fd, 256))
		err(1, "listen");
	puts("listening");
	return fd;
}

static void accept_one(int listener)
{
	unsigned i = 0;
	int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

	if (fd < 0)
		return;
	while (i < STREAMS && streams[i].fd)
		i++;
	if (i == STREAMS) {
		close(fd);
		return;
	}
	if (!streams[i].buffer)
		streams[i].buffer = malloc(CHUNK);
	streams[i].fd = fd;
	streams[i].pending = streams[i].out = 0;
	streams[i].eof = 0;
}

/* One step of echoing; returns false when the stream is over. */
static int echo_step(struct stream *s)
{
	ssize_t n;

	if (!s->pending) {
		n = read(s->fd, s->buffer, CHUNK);
		if (n <= 0)
			return n < 0 && errno == EAGAIN;
		s->pending = (size_t)n;
		s->out = 0;
	}
	n = write(s->fd, s->buffer + s->out, s->pending);
	if (n < 0)
		return errno == EAGAIN;
	s->out += (size_t)n;
	s->pending -= (size_t)n;
	return 1;
}

/* echo PORT: sends back what arrives, on any number of streams, until killed. */
static int cmd_echo(char **arg)
{
	int listener = listen_on(arg[0]);
	unsigned i;

	for (;;) {
		polled[STREAMS] = (struct pollfd){ .fd = listener, .events = POLLIN };
		for (i = 0; i < STREAMS; i++)
			polled[i] = (struct pollfd){ .fd = streams[i].fd ? streams[i].fd : -1,
				.events = streams[i].pending ? POLLOUT : POLLIN };
		if (poll(polled, STREAMS + 1, -1) < 0)
			err(1, "poll");
		if (polled[STREAMS].revents)
			accept_one(listener);
		for (i = 0; i < STREAMS; i++)
			if (polled[i].revents && !echo_step(&streams[i])) {
				close(streams[i].fd);
				streams[i].fd = 0;
			}
	}
}

static void open_all(char **arg, unsigned count)
{
	unsigned i;

	if (count > STREAMS)
		errx(2, "at most %d streams", STREAMS);
	for (i = 0; i < count; i++) {
		streams[i].fd = connect_to(arg[0], arg[1], PATIENT);
		if (streams[i].fd < 0)
			fail("connect", i);
		fcntl(streams[i].fd, F_SETFL, O_NONBLOCK);
	}
}

static void push(unsigned i, size_t total)
{
	struct stream *s = &streams[i];
	size_t size = total - s->out < CHUNK ? total - s->out : CHUNK;
	uint8_t data[CHUNK];
	size_t k;
	ssize_t n;

	for (k = 0; k < size; k++)
		data[k] = pattern(i, s->out + k);
	n = write(s->fd, data, size);
	if (n < 0 && errno != EAGAIN)
		fail("write", i);
	if (n > 0)
		s->out += (size_t)n;
	if (s->out == total && shutdown(s->fd, SHUT_WR))
		fail("shutdown", i);
}

static void pull(unsigned i, size_t total)
{
	struct stream *s = &streams[i];
	uint8_t data[CHUNK];
	ssize_t n = read(s->fd, data, sizeof(data)), k;

	if (n < 0 && errno != EAGAIN)
		fail("read", i);
	if (!n) {
		s->eof = 1;
		if (s->in != total)
			errx(1, "stream %u: %zu bytes came back of %zu", i, s->in, total);
	}
	for (k = 0; k < n; k++)
		if (data[k] != pattern(i, s->in + (size_t)k))
			errx(1, "stream %u: wrong byte at %zu", i, s->in + (size_t)k);
	if (n > 0)
		s->in += (size_t)n;
}

/*
 * streams CID PORT COUNT BYTES: opens COUNT streams to an echo server, all before the
 * first byte moves, then exchanges BYTES on each, half-closes, checks every byte.
 */
static int cmd_streams(char **arg)
{
	unsigned count = (unsigned)atoi(arg[2]), i, left;
	size_t total = strtoul(arg[3], NULL, 0);

	open_all(arg, count);
	printf("open %u\n", count);
	for (left = count; left;) {
		for (i = 0; i < count; i++)
			polled[i] = (struct pollfd){ .fd = streams[i].eof ? -1 : streams[i].fd,
				.events = POLLIN | (streams[i].out < total ? POLLOUT : 0) };
		if (poll(polled, count, -1) < 0)
			err(1, "poll");
		for (i = 0, left = 0; i < count; i++) {
			if (polled[i].revents & POLLOUT && streams[i].out < total)
				push(i, total);
			if (polled[i].revents & ~POLLOUT)
				pull(i, total);
			left += !streams[i].eof;
		}
	}
	printf("ok %u streams, %zu bytes each\n", count, total);
	return 0;
}

/*
 * hold CID PORT COUNT read|write: opens COUNT streams and sits in read, or writes
 * without end; says how each of them ended.
 */
static int cmd_hold(char **arg)
{
	unsigned count = (unsigned)atoi(arg[2]), i, left;
	short events = strcmp(arg[3], "write") ? POLLIN : POLLOUT;
	static char data[CHUNK];

	open_all(arg, count);
	printf("holding %u\n", count);
	for (left = count; left;) {
		for (i = 0; i < count; i++)
			polled[i] = (struct pollfd){ .fd = streams[i].eof ? -1 : streams[i].fd,
				.events = events };
		if (poll(polled, count, -1) < 0)
			err(1, "poll");
		for (i = 0; i < count; i++) {
			ssize_t n;

			if (!polled[i].revents)
				continue;
			n = events == POLLIN ? read(polled[i].fd, data, sizeof(data)) :
				write(polled[i].fd, data, sizeof(data));
			if (n > 0 || (n < 0 && errno == EAGAIN))
				continue;
			printf("stream %u: %s\n", i, n ? strerrorname_np(errno) : "EOF");
			close(streams[i].fd);
			streams[i].eof = 1;
			left--;
		}
	}
	puts("all ended");
	return 0;
}

static double now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* rtt CID PORT COUNT SIZE: round trips through an echo server, in microseconds. */
static int cmd_rtt(char **arg)
{
	unsigned count = (unsigned)atoi(arg[2]), i;
	size_t size = strtoul(arg[3], NULL, 0), have;
	double *took = calloc(count, sizeof(*took));
	char *data = calloc(1, size);
	int fd = connect_to(arg[0], arg[1], PATIENT);

	if (fd < 0)
		fail("connect", 0);
	for (i = 0; i < count; i++) {
		took[i] = now_us();
		if (write(fd, data, size) != (ssize_t)size)
			fail("write", 0);
		for (have = 0; have < size;) {
			ssize_t n = read(fd, data, size - have);

			if (n <= 0)
				fail("read", 0);
			have += (size_t)n;
		}
		took[i] = now_us() - took[i];
	}
	qsort(took, count, sizeof(*took), compare);
	printf("median %.0f min %.0f p99 %.0f\n", took[count / 2], took[0], took[count * 99 / 100]);
	return 0;
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		int args;
		int (*run)(char **arg);
	} verbs[] = {
		{ "connect", 2, cmd_connect }, { "echo", 1, cmd_echo }, { "streams", 4, cmd_streams },
		{ "hold", 4, cmd_hold }, { "rtt", 4, cmd_rtt },
	};
	size_t i;

	setvbuf(stdout, NULL, _IOLBF, 0);
	signal(SIGPIPE, SIG_IGN);
	for (i = 0; i < sizeof(verbs) / sizeof(*verbs); i++)
		if (argc > 1 && !strcmp(argv[1], verbs[i].name) && argc == verbs[i].args + 2)
			return verbs[i].run(argv + 2);
	errx(2, "usage: vsx connect CID PORT | echo PORT | streams CID PORT COUNT BYTES |"
	     " hold CID PORT COUNT read|write | rtt CID PORT COUNT SIZE");
}
