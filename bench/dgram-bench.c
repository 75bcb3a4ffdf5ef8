// SPDX-License-Identifier: BSD-2-Clause
/*
 * One end of a measurement of datagrams. The same program runs at both ends: built with -DGUEST (and static) in
 * the guest, without on the host, where AF_VSOCK is for programs under vmci-run.
 *
 *	dgram-bench count ENDPOINT MILLISECONDS SIZE	receives at vsock:PORT or udp:PORT, says "listening"
 *	dgram-bench shoot ENDPOINT MILLISECONDS SIZE	sends for so long to vsock:CID:PORT or udp:ADDRESS:PORT
 *
 * Who shoots does not wait for anybody: where the way says that a queue is full it tries again, where it says nothing
 * datagrams are lost. What counts is what came: the line of "count" has the number from the first to the last, that of
 * "shoot" how many went without an error ("sent"), and how often it had to try again ("full").
 *
 * The first byte of a datagram is 'k', and 'd' at the end: this is sent again until it is answered, by 'e'.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <err.h>
#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include <linux/vm_sockets.h>

#ifdef GUEST
enum { IN_GUEST = 1 };
#else
enum { IN_GUEST = 0 };
#endif

#define SIZE_MOST	32768
#define AGAIN		20	/* ms between two times of asking for the end */
#define LINGER		500	/* ms without such a question, and the other end has its answer */
#define PATIENCE	20000	/* ms for anything else */

static char buffer[SIZE_MOST];

union address {
	struct sockaddr any;
	struct sockaddr_in in;
	struct sockaddr_vm vm;
};

static uint64_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static socklen_t size_of(const union address *address)
{
	return address->any.sa_family == AF_VSOCK ? sizeof(address->vm) : sizeof(address->in);
}

/* vsock:[CID:]PORT or udp:[ADDRESS:]PORT */
static union address parse(const char *text)
{
	char copy[128], *kind, *first, *second;
	union address address = { 0 };

	snprintf(copy, sizeof(copy), "%s", text);
	kind = strtok(copy, ":");
	first = strtok(NULL, ":");
	second = strtok(NULL, ":");
	if (first && !strcmp(kind, "vsock")) {
		address.vm.svm_family = AF_VSOCK;
		address.vm.svm_cid = second ? (unsigned)atoi(first) : VMADDR_CID_ANY;
		address.vm.svm_port = (unsigned)atoi(second ? second : first);
	} else if (first && !strcmp(kind, "udp")) {
		address.in.sin_family = AF_INET;
		address.in.sin_port = htons((uint16_t)atoi(second ? second : first));
		if (second && inet_pton(AF_INET, first, &address.in.sin_addr) != 1)
			errx(2, "no IPv4 address: %s", first);
	} else {
		errx(2, "no endpoint: %s", text);
	}
	return address;
}

/* A socket that receives at an address, or anywhere: without a port of its own it would get no answer. */
static int open_socket(const union address *at, int anywhere)
{
	const char *preloaded = getenv("LD_PRELOAD");
	union address own = *at;
	int fd;

	if (own.any.sa_family == AF_VSOCK && !IN_GUEST && (!preloaded || !strstr(preloaded, "libvmci-preload")))
		errx(2, "AF_VSOCK is for guests, and for programs under vmci-run");
	if (anywhere && own.any.sa_family == AF_VSOCK) {
		own.vm.svm_cid = VMADDR_CID_ANY;
		own.vm.svm_port = VMADDR_PORT_ANY;
	} else if (anywhere) {
		own.in.sin_addr.s_addr = 0;
		own.in.sin_port = 0;
	}
	fd = socket(own.any.sa_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || bind(fd, &own.any, size_of(&own)))
		err(1, "socket");
	return fd;
}

/* Whether there is something to read within so many milliseconds. */
static int is_there(int fd, int ms)
{
	struct pollfd polled = { .fd = fd, .events = POLLIN };

	return poll(&polled, 1, ms) > 0;
}

/* 0, or -1 where a queue is full. */
static int transmit(int fd, const union address *to, char kind, size_t size)
{
	buffer[0] = kind;
	if (sendto(fd, buffer, size, 0, &to->any, size_of(to)) == (ssize_t)size)
		return 0;
	if (errno != ENOBUFS && errno != ENOMEM && errno != EAGAIN && errno != ECONNREFUSED)
		err(1, "sendto");
	return -1;
}

static void do_count(int fd, size_t size)
{
	uint64_t first = 0, last = 0;
	int limit = PATIENCE, over = 0;
	size_t count = 0;

	while (is_there(fd, limit)) {
		union address from;
		socklen_t length = sizeof(from);
		ssize_t n = recvfrom(fd, buffer, sizeof(buffer), 0, &from.any, &length);

		if (n != (ssize_t)size)
			err(1, "recvfrom: %zd bytes", n);
		if (buffer[0] == 'd') {
			over = 1;
			limit = LINGER;
			/* Who asked more than once may have heard, and gone. */
			buffer[0] = 'e';
			sendto(fd, buffer, size, 0, &from.any, length);
			continue;
		}
		last = now();
		if (!count++)
			first = last;
	}
	if (!over || count < 2)
		errx(1, "%zu datagrams, and %s end", count, over ? "an" : "no");
	printf("count %zu ns %llu", count - 1, (unsigned long long)(last - first));
}

static void do_shoot(int fd, const union address *to, uint64_t ns, size_t size)
{
	uint64_t start = now(), stop;
	size_t sent = 0, full = 0;
	int i, tries;

	do {
		for (i = 0; i < 16; i++) {
			if (!transmit(fd, to, 'k', size)) {
				sent++;
			} else {
				full++;
				sched_yield();
			}
		}
		stop = now();
	} while (stop - start < ns);
	for (tries = PATIENCE / AGAIN; tries; tries--) {
		transmit(fd, to, 'd', size);
		if (is_there(fd, AGAIN)) {
			if (recv(fd, buffer, sizeof(buffer), 0) == (ssize_t)size && buffer[0] == 'e')
				break;
		}
	}
	if (!tries)
		errx(1, "no answer");
	printf("sent %zu full %zu ns %llu", sent, full, (unsigned long long)(stop - start));
}

static double seconds(struct timeval t)
{
	return (double)t.tv_sec + (double)t.tv_usec / 1e6;
}

int main(int argc, char **argv)
{
	size_t size = argc == 5 ? strtoull(argv[4], NULL, 0) : 0;
	int counts = argc == 5 && !strcmp(argv[1], "count");
	struct rusage used;
	union address at;
	int fd;

	if (!size || size > SIZE_MOST || (!counts && strcmp(argv[1], "shoot")))
		errx(2, "usage: dgram-bench count|shoot ENDPOINT MILLISECONDS SIZE");
	setvbuf(stdout, NULL, _IOLBF, 0);
	at = parse(argv[2]);
	fd = open_socket(&at, !counts);
	if (counts) {
		puts("listening");
		do_count(fd, size);
	} else {
		do_shoot(fd, &at, strtoull(argv[3], NULL, 0) * 1000000u, size);
	}
	getrusage(RUSAGE_SELF, &used);
	printf(" user %.3f sys %.3f idle 0\n", seconds(used.ru_utime), seconds(used.ru_stime));
	return 0;
}
