// SPDX-License-Identifier: BSD-2-Clause
/*
 * One end of a measurement over a byte stream, whatever carries it. The same program
 * runs at both ends: built with -DGUEST (and static) in a guest, without on the host.
 *
 *	stream-bench VERB ENDPOINT MILLISECONDS SIZE [MOST]
 *
 * Verbs come in pairs, one for each end; the first of a pair ends the measurement when
 * its time is up, or after MOST times:
 *	source - sink	writes of SIZE, read into a buffer of 64 KiB
 *	echoed - echo	writes of SIZE, which all come back
 *	ping - pong	round trips of SIZE bytes
 *	knock - answer	connections, one after the other, a byte each way on each
 *
 * On a stream the end that connects says 'r' when it is ready and the other answers 'g', so
 * waiting for the other to start is no part of a measurement. A listener says "listening".
 * All payload is zero. A byte 'd' is the last that a sender sends, and it goes on when the other
 * end has said that it got it: so nothing is lost by closing, and nothing left over in a channel
 * without connections.
 *
 * The result is one line of "key value" pairs; ns is the monotonic clock of this end. A
 * receiver counts from its first read to its last (and not the bytes of the first); a
 * sender from its first write until it knows that the other end has everything.
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
#define MOST	(1 << 20)	/* round trips or connections of one measurement */

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

/*
 * In a guest, or under vmci-run: on the host the kernel's AF_VSOCK would be another hypervisor's.
 * Newer guests want to be told that contexts above the host's are reached by way of it.
 */
static int open_vsock(const char *cid, const char *port, int listening)
{
	struct sockaddr_vm vm = { .svm_family = AF_VSOCK,
		.svm_cid = cid ? (unsigned)atoi(cid) : VMADDR_CID_ANY,
		.svm_port = (unsigned)atoi(port) };
	const char *preloaded = getenv("LD_PRELOAD");

	if (!IN_GUEST && (!preloaded || !strstr(preloaded, "libvmci-preload")))
		errx(2, "AF_VSOCK is for guests, and for programs under vmci-run");
	if (IN_GUEST && cid && vm.svm_cid > VMADDR_CID_HOST)
		vm.svm_flags = VMADDR_FLAG_TO_HOST;
	return connect_or_listen(AF_VSOCK, &vm, sizeof(vm), listening);
}

static int open_unix(const char *path, int listening)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };

	if (strlen(path) >= sizeof(un.sun_path))
		errx(2, "too long: %s", path);
	strcpy(un.sun_path, path);
	if (listening)
		unlink(path);
	return connect_or_listen(AF_UNIX, &un, sizeof(un), listening);
}

/* The Firecracker convention, at the host. */
static int open_hybrid(const char *path, const char *port)
{
	size_t have = 0;
	char line[64];
	int fd = open_unix(path, 0);

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

/*
 * fd:N port:NAME tcp:ADDRESS:PORT tcp-listen:PORT vsock:CID:PORT vsock-listen:PORT
 * unix:PATH unix-listen:PATH hybrid:PATH:PORT
 */
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
	if (first && !strcmp(kind, "unix"))
		return open_unix(first, 0);
	if (first && !strcmp(kind, "unix-listen"))
		return open_unix(first, 1);
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

static int accept_one(int listener)
{
	int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);

	if (fd < 0)
		err(1, "accept");
	return fd;
}

/* The end that connects asks; who listens, or was given a connection that was accepted, answers. */
static int begin(const char *endpoint)
{
	int fd = open_endpoint(endpoint), listener;

	if (strncmp(endpoint, "fd:", 3) && !strstr(endpoint, "-listen:")) {
		say(fd, 'r');
		hear(fd, 'g');
		return fd;
	}
	if (strncmp(endpoint, "fd:", 3)) {
		puts("listening");
		listener = fd;
		fd = accept_one(listener);
		close(listener);
	}
	hear(fd, 'r');
	say(fd, 'g');
	return fd;
}

/* --- Verbs ------------------------------------------------------------------------- */

/*
 * struct task - what to do
 * @deadline: when the time is up, by now(); set when it begins
 */
struct task {
	const char *endpoint;
	uint64_t ns;
	uint64_t deadline;
	size_t size;
	size_t most;
};

static uint64_t start_clock(struct task *t)
{
	uint64_t start = now();

	t->deadline = start + t->ns;
	return start;
}

/* Sends zeros until the time is up; the clock is not looked at more often than each 64 KiB. */
static size_t send_all(int fd, const struct task *t)
{
	size_t sent = 0, due;

	do {
		for (due = sent + BUFFER; sent < due; sent += t->size)
			put(fd, buffer, t->size);
	} while (now() < t->deadline);
	say(fd, 'd');
	return sent;
}

/* Returns the bytes up to 'd' without those of the first read; and when these two were there. */
static size_t receive_all(int fd, uint64_t *ret_first, uint64_t *ret_last)
{
	size_t n = get_some(fd, buffer, BUFFER), bytes = 0;

	*ret_first = now();
	while (buffer[n - 1] != 'd') {
		n = get_some(fd, buffer, BUFFER);
		bytes += n;
	}
	*ret_last = now();
	buffer[n - 1] = 0;
	return bytes;
}

static void print_rate(const char *what, size_t count, uint64_t ns)
{
	printf("%s %zu ns %llu", what, count, (unsigned long long)ns);
}

static void do_source(struct task *t)
{
	int fd = begin(t->endpoint);
	uint64_t start = start_clock(t);
	size_t sent = send_all(fd, t);

	hear(fd, 'e');
	print_rate("bytes", sent, now() - start);
}

static void do_sink(struct task *t)
{
	int fd = begin(t->endpoint);
	uint64_t start, stop;
	size_t bytes = receive_all(fd, &start, &stop);

	say(fd, 'e');
	print_rate("bytes", bytes, stop - start);
}

static void do_echoed(struct task *t)
{
	int fd = begin(t->endpoint), status;
	uint64_t first, stop;
	size_t bytes;
	pid_t pid;

	start_clock(t);
	pid = fork();
	if (pid < 0)
		err(1, "fork");
	if (!pid) {
		send_all(fd, t);
		_exit(0);
	}
	bytes = receive_all(fd, &first, &stop);
	if (wait(&status) != pid || status)
		errx(1, "the sender failed");
	say(fd, 'e');
	print_rate("bytes", bytes, stop - first);
}

static void do_echo(struct task *t)
{
	int fd = begin(t->endpoint);
	size_t n = get_some(fd, buffer, BUFFER), bytes = n;
	uint64_t start = now();
	char last;

	(void)t;
	for (;;) {
		last = buffer[n - 1];
		put(fd, buffer, n);
		if (last == 'd')
			break;
		n = get_some(fd, buffer, BUFFER);
		bytes += n;
	}
	hear(fd, 'e');
	print_rate("bytes", bytes, now() - start);
}

/* Durations of single events. */
struct times {
	uint64_t *ns;
	size_t count;
};

static struct times times_new(struct task *t)
{
	struct times times = { 0 };

	if (!t->most || t->most > MOST)
		t->most = MOST;
	times.ns = calloc(t->most, sizeof(*times.ns));
	if (!times.ns)
		err(1, "memory");
	return times;
}

static int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

static void times_print(struct times *times, uint64_t ns)
{
	qsort(times->ns, times->count, sizeof(*times->ns), compare);
	printf("median %llu min %llu p99 %llu ", (unsigned long long)times->ns[times->count / 2],
	       (unsigned long long)times->ns[0],
	       (unsigned long long)times->ns[times->count * 99 / 100]);
	print_rate("count", times->count, ns);
}

static void do_ping(struct task *t)
{
	struct times times = times_new(t);
	int fd = begin(t->endpoint);
	uint64_t start, last, next;
	int over = 0;

	no_delay(fd);
	start = last = start_clock(t);
	while (!over) {
		over = last >= t->deadline || times.count == t->most - 1;
		buffer[t->size - 1] = over ? 'd' : 0;
		put(fd, buffer, t->size);
		get(fd, buffer, t->size);
		next = now();
		times.ns[times.count++] = next - last;
		last = next;
	}
	times_print(&times, last - start);
}

/* The time runs from the first question to the last: a round trip less than there are. */
static void do_pong(struct task *t)
{
	uint64_t start = 0, last = 0;
	int fd = begin(t->endpoint);
	size_t count = 0;
	int over;

	no_delay(fd);
	do {
		get(fd, buffer, t->size);
		last = now();
		if (!count++)
			start = last;
		over = buffer[t->size - 1] == 'd';
		put(fd, buffer, t->size);
	} while (!over);
	print_rate("count", count - 1, last - start);
}

static void do_knock(struct task *t)
{
	struct times times = times_new(t);
	uint64_t start = start_clock(t), before, stop = start;
	char byte = 0;

	while (byte != 'd') {
		int fd;

		byte = stop >= t->deadline || times.count == t->most - 1 ? 'd' : 'k';
		before = now();
		fd = open_endpoint(t->endpoint);
		times.ns[times.count++] = now() - before;
		put(fd, &byte, 1);
		get(fd, &byte, 1);
		close(fd);
		stop = now();
	}
	times_print(&times, stop - start);
}

/* The time runs from the first connection to the last: one less than there are. */
static void do_answer(struct task *t)
{
	uint64_t start = 0, last = 0;
	int listener = open_endpoint(t->endpoint);
	size_t count = 0;
	char byte = 0;

	if (strncmp(t->endpoint, "fd:", 3))
		puts("listening");
	while (byte != 'd') {
		int fd = accept_one(listener);

		last = now();
		if (!count++)
			start = last;
		get(fd, &byte, 1);
		put(fd, &byte, 1);
		close(fd);
	}
	print_rate("count", count - 1, last - start);
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
		void (*run)(struct task *t);
	} verbs[] = {
		{ "source", do_source }, { "sink", do_sink }, { "echoed", do_echoed },
		{ "echo", do_echo }, { "ping", do_ping }, { "pong", do_pong },
		{ "knock", do_knock }, { "answer", do_answer },
	};
	struct task task = { 0 };
	size_t i;
	struct cpu before = cpu_now(), after;
	struct rusage self, children;

	setvbuf(stdout, NULL, _IOLBF, 0);
	signal(SIGPIPE, SIG_IGN);
	for (i = 0; i < sizeof(verbs) / sizeof(*verbs); i++)
		if (argc > 4 && !strcmp(argv[1], verbs[i].name))
			break;
	if (i < sizeof(verbs) / sizeof(*verbs)) {
		task.endpoint = argv[2];
		task.ns = strtoull(argv[3], NULL, 0) * 1000000u;
		task.size = strtoull(argv[4], NULL, 0);
		task.most = argc > 5 ? strtoull(argv[5], NULL, 0) : 0;
	}
	if (!task.size || task.size > BUFFER)
		errx(2, "usage: stream-bench VERB ENDPOINT MILLISECONDS SIZE [MOST]");
	verbs[i].run(&task);
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
