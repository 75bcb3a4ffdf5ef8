// SPDX-License-Identifier: BSD-2-Clause
/*
 * One end of a measurement over a byte stream, whatever carries it. The same program
 * runs at both ends: built with -DGUEST (and static) in the guest, without on the host.
 *
 *	stream-bench VERB ENDPOINT COUNT [SIZE]
 *
 * Verbs come in pairs, one for each end:
 *	source - sink	COUNT bytes in writes of SIZE; read into a buffer of 64 KiB
 *	echoed - echo	COUNT bytes in writes of SIZE, which all come back
 *	ping - pong	COUNT round trips of SIZE bytes
 *	knock - answer	COUNT connections, one after the other, a byte each way on each
 *
 * On a stream the guest says 'r' when it is ready and the host answers 'g', the bytes
 * follow, then the guest says 'd' when it has all that it expects and the host answers 'e':
 * so neither waiting for the other to start nor closing is part of a measurement, nothing
 * is left over in a channel that has no connections, and the host can take the time of
 * the last byte's arrival in the guest by its own clock.
 *
 * The result is one line of "key value" pairs; ns is the monotonic clock of this end. A
 * receiver counts from its first read to its last (and not the bytes of the first); a
 * sender from its first write until the other end has everything, if it is the host.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <linux/vm_sockets.h>

#ifdef GUEST
enum { IN_GUEST = 1 };
#else
enum { IN_GUEST = 0 };
#endif

#define BUFFER	65536

static char buffer[BUFFER];

static uint64_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* --- Endpoints --------------------------------------------------------------------- */

static void no_delay(int fd)
{
	int one = 1;

	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
}

static int connect_or_listen(int family, const void *address, socklen_t size, int listening)
{
	int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;

	if (fd < 0)
		err(1, "socket");
	if (!listening && connect(fd, address, size))
		err(1, "connect");
	if (listening) {
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
		if (bind(fd, address, size) || listen(fd, 128))
			err(1, "listen");
	}
	return fd;
}

static int open_tcp(const char *address, const char *port, int listening)
{
	struct sockaddr_in sin = { .sin_family = AF_INET,
		.sin_port = htons((uint16_t)atoi(port)) };

	if (address && inet_pton(AF_INET, address, &sin.sin_addr) != 1)
		errx(2, "no IPv4 address: %s", address);
	return connect_or_listen(AF_INET, &sin, sizeof(sin), listening);
}

/* AF_VSOCK exists in the guest only: on the host it would be another hypervisor's. */
static int open_vsock(const char *cid, const char *port, int listening)
{
	struct sockaddr_vm vm = { .svm_family = AF_VSOCK,
		.svm_cid = cid ? (unsigned)atoi(cid) : VMADDR_CID_ANY,
		.svm_port = (unsigned)atoi(port) };

	if (!IN_GUEST)
		errx(2, "AF_VSOCK is for the guest");
	return connect_or_listen(AF_VSOCK, &vm, sizeof(vm), listening);
}

/* The Firecracker convention, at the host. */
static int open_hybrid(const char *path, const char *port)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	size_t have = 0;
	char line[64];
	int fd;

	if (strlen(path) >= sizeof(un.sun_path))
		errx(2, "too long: %s", path);
	strcpy(un.sun_path, path);
	fd = connect_or_listen(AF_UNIX, &un, sizeof(un), 0);
	if (dprintf(fd, "CONNECT %s\n", port) < 0)
		err(1, "CONNECT");
	do {
		ssize_t n = read(fd, line + have, sizeof(line) - have);

		if (n <= 0)
			errx(1, "port %s of the guest refuses", port);
		have += (size_t)n;
	} while (line[have - 1] != '\n' && have < sizeof(line));
	if (strncmp(line, "OK ", 3))
		errx(1, "unexpected answer to CONNECT");
	return fd;
}

/* A virtio-serial port by its name: there is no udev to make links. */
static int open_port(const char *name)
{
	char path[80], text[64];
	size_t i;
	glob_t found;

	if (glob("/sys/class/virtio-ports/*/name", 0, NULL, &found))
		errx(1, "no virtio-serial ports");
	for (i = 0; i < found.gl_pathc; i++) {
		FILE *file = fopen(found.gl_pathv[i], "r");
		int match = file && fscanf(file, "%63s", text) == 1 && !strcmp(text, name);
		int fd;

		if (file)
			fclose(file);
		if (!match || sscanf(found.gl_pathv[i], "/sys/class/virtio-ports/%40[^/]", text) != 1)
			continue;
		snprintf(path, sizeof(path), "/dev/%s", text);
		fd = open(path, O_RDWR | O_CLOEXEC);
		if (fd < 0)
			err(1, "%s", path);
		return fd;
	}
	errx(1, "no virtio-serial port %s", name);
}

/* fd:N port:NAME tcp:ADDRESS:PORT tcp-listen:PORT vsock:CID:PORT vsock-listen:PORT hybrid:PATH:PORT */
static int open_endpoint(const char *text)
{
	char copy[256], *kind, *first, *second;

	snprintf(copy, sizeof(copy), "%s", text);
	kind = strtok(copy, ":");
	first = strtok(NULL, ":");
	second = strtok(NULL, ":");
	if (first && !strcmp(kind, "fd"))
		return atoi(first);
	if (first && !strcmp(kind, "port"))
		return open_port(first);
	if (first && !strcmp(kind, "tcp-listen"))
		return open_tcp(NULL, first, 1);
	if (first && !strcmp(kind, "vsock-listen"))
		return open_vsock(NULL, first, 1);
	if (second && !strcmp(kind, "tcp"))
		return open_tcp(first, second, 0);
	if (second && !strcmp(kind, "vsock"))
		return open_vsock(first, second, 0);
	if (second && !strcmp(kind, "hybrid"))
		return open_hybrid(first, second);
	errx(2, "no endpoint: %s", text);
}

/* --- Bytes ------------------------------------------------------------------------- */

static void put(int fd, const char *data, size_t size)
{
	while (size) {
		ssize_t n = write(fd, data, size);

		if (n < 0)
			err(1, "write");
		data += n;
		size -= (size_t)n;
	}
}

static size_t get_some(int fd, char *data, size_t size)
{
	ssize_t n = read(fd, data, size);

	if (n < 0)
		err(1, "read");
	if (!n)
		errx(1, "the other end has gone");
	return (size_t)n;
}

static void get(int fd, char *data, size_t size)
{
	while (size) {
		size_t n = get_some(fd, data, size);

		data += n;
		size -= n;
	}
}

static void say(int fd, char byte)
{
	put(fd, &byte, 1);
}

static void hear(int fd, char byte)
{
	char got;

	get(fd, &got, 1);
	if (got != byte)
		errx(1, "got '%c' where '%c' is due", got, byte);
}

static int begin(const char *endpoint)
{
	int fd = open_endpoint(endpoint);

	if (IN_GUEST) {
		say(fd, 'r');
		hear(fd, 'g');
	} else {
		hear(fd, 'r');
		say(fd, 'g');
	}
	return fd;
}

/* Returns when, at the host, it was clear that the guest has everything. */
static uint64_t end(int fd)
{
	uint64_t when;

	if (IN_GUEST) {
		say(fd, 'd');
		hear(fd, 'e');
		return now();
	}
	hear(fd, 'd');
	when = now();
	say(fd, 'e');
	return when;
}

/* --- Verbs ------------------------------------------------------------------------- */

static void send_all(int fd, size_t count, size_t size)
{
	for (size_t left = count; left;) {
		size_t n = left < size ? left : size;

		put(fd, buffer, n);
		left -= n;
	}
}

/* Returns the size of the first read, and the time after it and after the last. */
static size_t receive_all(int fd, size_t count, uint64_t *ret_first, uint64_t *ret_last)
{
	size_t first = get_some(fd, buffer, count < BUFFER ? count : BUFFER);
	size_t left = count - first;

	*ret_first = now();
	while (left)
		left -= get_some(fd, buffer, left < BUFFER ? left : BUFFER);
	*ret_last = now();
	return first;
}

static void print_bytes(size_t bytes, uint64_t ns)
{
	printf("bytes %zu ns %llu", bytes, (unsigned long long)ns);
}

static void do_source(const char *endpoint, size_t count, size_t size)
{
	int fd = begin(endpoint);
	uint64_t start = now(), stop;

	send_all(fd, count, size);
	stop = end(fd);
	print_bytes(count, stop - start);
}

static void do_sink(const char *endpoint, size_t count, size_t size)
{
	int fd = begin(endpoint);
	uint64_t start, stop;
	size_t first = receive_all(fd, count, &start, &stop);

	(void)size;
	end(fd);
	print_bytes(count - first, stop - start);
}

static void do_echoed(const char *endpoint, size_t count, size_t size)
{
	int fd = begin(endpoint), status;
	uint64_t start = now(), first, stop;
	pid_t pid = fork();

	if (pid < 0)
		err(1, "fork");
	if (!pid) {
		send_all(fd, count, size);
		_exit(0);
	}
	receive_all(fd, count, &first, &stop);
	if (wait(&status) != pid || status)
		errx(1, "the sender failed");
	end(fd);
	print_bytes(count, stop - start);
}

static void do_echo(const char *endpoint, size_t count, size_t size)
{
	int fd = begin(endpoint);
	size_t left = count;
	uint64_t start = 0, stop;

	(void)size;
	while (left) {
		size_t n = get_some(fd, buffer, left < BUFFER ? left : BUFFER);

		if (!start)
			start = now();
		put(fd, buffer, n);
		left -= n;
	}
	stop = end(fd);
	print_bytes(count, stop - start);
}

static int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

static void print_times(uint64_t *took, size_t count)
{
	qsort(took, count, sizeof(*took), compare);
	printf("median %llu min %llu p99 %llu", (unsigned long long)took[count / 2],
	       (unsigned long long)took[0], (unsigned long long)took[count * 99 / 100]);
}

static uint64_t *times(size_t count)
{
	uint64_t *took = calloc(count, sizeof(*took));

	if (!took)
		err(1, "memory");
	return took;
}

static void do_ping(const char *endpoint, size_t count, size_t size)
{
	uint64_t *took = times(count), start, last, next;
	int fd = begin(endpoint);
	size_t i;

	no_delay(fd);
	start = last = now();
	for (i = 0; i < count; i++) {
		put(fd, buffer, size);
		get(fd, buffer, size);
		next = now();
		took[i] = next - last;
		last = next;
	}
	end(fd);
	print_times(took, count);
	printf(" count %zu ns %llu", count, (unsigned long long)(last - start));
}

/* The time runs from the first question to the last: a round trip less than there are. */
static void do_pong(const char *endpoint, size_t count, size_t size)
{
	uint64_t start = 0, last = 0;
	int fd = begin(endpoint);
	size_t i;

	no_delay(fd);
	for (i = 0; i < count; i++) {
		get(fd, buffer, size);
		last = now();
		if (!start)
			start = last;
		put(fd, buffer, size);
	}
	end(fd);
	printf("count %zu ns %llu", count - 1, (unsigned long long)(last - start));
}

static void do_knock(const char *endpoint, size_t count, size_t size)
{
	uint64_t *took = times(count), start = now(), before;
	char byte = 'k';
	size_t i;

	(void)size;
	for (i = 0; i < count; i++) {
		int fd;

		before = now();
		fd = open_endpoint(endpoint);
		took[i] = now() - before;
		put(fd, &byte, 1);
		get(fd, &byte, 1);
		close(fd);
	}
	before = now();
	print_times(took, count);
	printf(" count %zu ns %llu", count, (unsigned long long)(before - start));
}

/* The time runs from the first connection to the last: one less than there are. */
static void do_answer(const char *endpoint, size_t count, size_t size)
{
	uint64_t start = 0, last = 0;
	int listener = open_endpoint(endpoint);
	size_t i;

	(void)size;
	if (IN_GUEST)
		puts("listening");
	for (i = 0; i < count; i++) {
		int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
		char byte;

		if (fd < 0)
			err(1, "accept");
		last = now();
		if (!start)
			start = last;
		get(fd, &byte, 1);
		put(fd, &byte, 1);
		close(fd);
	}
	printf("count %zu ns %llu", count - 1, (unsigned long long)(last - start));
}

/* --- Main -------------------------------------------------------------------------- */

struct cpu {
	unsigned long long idle, total;
};

/* What the whole system did since it booted, in ticks. */
static struct cpu cpu_now(void)
{
	FILE *file = fopen("/proc/stat", "r");
	unsigned long long field;
	struct cpu cpu = { 0 };
	int i;

	if (!file || fscanf(file, "cpu"))
		return cpu;
	for (i = 0; i < 8 && fscanf(file, "%llu", &field) == 1; i++) {
		cpu.total += field;
		if (i == 3 || i == 4)
			cpu.idle += field;
	}
	fclose(file);
	return cpu;
}

static double seconds(struct timeval t)
{
	return (double)t.tv_sec + (double)t.tv_usec / 1e6;
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		void (*run)(const char *endpoint, size_t count, size_t size);
	} verbs[] = {
		{ "source", do_source }, { "sink", do_sink }, { "echoed", do_echoed },
		{ "echo", do_echo }, { "ping", do_ping }, { "pong", do_pong },
		{ "knock", do_knock }, { "answer", do_answer },
	};
	size_t count = argc > 3 ? strtoull(argv[3], NULL, 0) : 0, i;
	size_t size = argc > 4 ? strtoull(argv[4], NULL, 0) : BUFFER;
	struct cpu before = cpu_now(), after;
	struct rusage self, children;

	setvbuf(stdout, NULL, _IOLBF, 0);
	signal(SIGPIPE, SIG_IGN);
	for (i = 0; i < sizeof(verbs) / sizeof(*verbs); i++)
		if (argc > 3 && !strcmp(argv[1], verbs[i].name))
			break;
	if (i == sizeof(verbs) / sizeof(*verbs) || !count || !size || size > BUFFER)
		errx(2, "usage: stream-bench VERB ENDPOINT COUNT [SIZE]");
	verbs[i].run(argv[2], count, size);
	after = cpu_now();
	getrusage(RUSAGE_SELF, &self);
	getrusage(RUSAGE_CHILDREN, &children);
	printf(" user %.3f sys %.3f idle %.3f\n",
	       seconds(self.ru_utime) + seconds(children.ru_utime),
	       seconds(self.ru_stime) + seconds(children.ru_stime),
	       after.total > before.total ?
	       (double)(after.idle - before.idle) / (double)(after.total - before.total) : 0);
	return 0;
}
