// SPDX-License-Identifier: BSD-2-Clause
/*
 * Queue pairs of libvmci between two processes, and what else there is for two processes.
 *
 *	qpair-bench WAY KIND MILLISECONDS SIZE DIRECTORY
 *
 * Ways: vmci, bare, unix, tcp, zmq, nng; each has two ends, this process and a child. DIRECTORY is for sockets with a
 * name. vmci uses the broker of $VMCI_RUNTIME_DIR.
 *
 * Kinds:
 *	stream	writes of SIZE for so long, read into a buffer of 64 KiB. The receiver counts, from its first read to
 *		its last, without the bytes of the first
 *	spin	round trips of SIZE bytes; both ends look until there is something
 *	sleep	... both ends sleep until there is something
 *	dgram	datagrams of SIZE bytes, as stream
 *
 * "bare" is what the machine yields: for stream a ring of one producer and one consumer in shared memory, which
 * memcpy()s in and out and does nothing else; for spin a cache line, for sleep two eventfds, going back and forth.
 * The ring trusts its peer, never sleeps, has positions that only grow, and a size that is a power of two.
 *
 * Each end stays on a CPU of its own, the first and the last that there are: placed by the scheduler they would
 * move about, or share one.
 *
 * A byte 'd' at the end of a message or write is the last. The result is one line of "key value" pairs; times are
 * in ns.
 */
#include <arpa/inet.h>
#include <err.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <nng/nng.h>
#include <nng/protocol/pair0/pair.h>
#include <nng/protocol/pipeline0/pull.h>
#include <nng/protocol/pipeline0/push.h>
#include <vmci/vmci.h>
#include <zmq.h>

#define BUFFER 65536
#define RING 262144	/* of vmci and bare; a power of two */
#define SAMPLES (1 << 20)
#define BATCH 64	/* round trips between two looks at the clock, where they are shorter than a few of these */

enum kind { STREAM, SPIN, SLEEP, DGRAM, KINDS };

static const char *const kind_names[KINDS] = { "stream", "spin", "sleep", "dgram" };

/* What to do, and this end of it. @is_far: the child, which receives or answers. */
static struct {
	enum kind kind;
	uint64_t ns;
	size_t size;
	char address[200];
	bool is_far;
	int line[2];	/* a pipe to the child and one from it, for what has to be said before */
} task;

static char buffer[BUFFER];

static uint64_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void relax(void)
{
#ifdef __x86_64__
	__builtin_ia32_pause();
#endif
}

/* Tells the other end, or is told. */
static void tell(const void *what, size_t size)
{
	if (write(task.line[1], what, size) != (ssize_t)size)
		err(1, "tell");
}

static void be_told(void *what, size_t size)
{
	if (read(task.line[0], what, size) != (ssize_t)size)
		errx(1, "the other end has gone");
}

/* --- vmci -------------------------------------------------------------------------------- */

static struct vmci *vmci;
static struct vmci_qpair *qpair;
static struct vmci_dgram *dgram;
static struct vmci_handle far_end;

static void vmci_check_call(int64_t result)
{
	if (result < 0)
		errx(1, "%s: %s", vmci_strerrorname((int)result), vmci_errmsg());
}

static void vmci_join(void)
{
	struct vmci_handle handle;

	vmci_check_call(vmci_open(NULL, VMCI_CID_HOST, 0, &vmci));
	if (task.kind == DGRAM) {
		vmci_check_call(vmci_dgram_open(vmci, VMCI_INVALID_ID, &dgram));
		handle = vmci_dgram_handle(dgram);
		tell(&handle, sizeof(handle));
		be_told(&far_end, sizeof(far_end));
		return;
	}
	if (task.is_far) {
		be_told(&handle, sizeof(handle));
		vmci_check_call(vmci_qpair_attach(vmci, handle, RING, RING, 0, &qpair));
	} else {
		vmci_check_call(vmci_qpair_create(vmci, VMCI_INVALID_ID, VMCI_INVALID_ID, RING, RING, 0, &qpair));
		handle = vmci_qpair_handle(qpair);
		tell(&handle, sizeof(handle));
	}
	if (task.kind != STREAM)
		vmci_qpair_set_spin(qpair, task.kind == SPIN ? 1000000 : 0);
}

static void vmci_put(const char *data, size_t size)
{
	while (size) {
		int64_t n = vmci_qpair_write(qpair, data, size, -1);

		vmci_check_call(n);
		data += n;
		size -= (size_t)n;
	}
}

static size_t vmci_get(char *data, size_t size)
{
	int64_t n = vmci_qpair_read(qpair, data, size, -1);

	vmci_check_call(n);
	return (size_t)n;
}

/* Datagrams are unreliable, and the sender is told when there is no room. */
static void vmci_put_dgram(const char *data, size_t size)
{
	int n;

	while ((n = vmci_dgram_send(dgram, far_end, data, size)) == VMCI_ERROR_NO_RESOURCES)
		sched_yield();
	vmci_check_call(n);
}

static size_t vmci_get_dgram(char *data, size_t size)
{
	int n = vmci_dgram_recv(dgram, data, size, -1, NULL);

	vmci_check_call(n);
	return (size_t)n;
}

/* --- bare -------------------------------------------------------------------------------- */

struct ring {
	_Alignas(128) _Atomic uint64_t tail;
	_Alignas(128) _Atomic uint64_t head;
	_Alignas(4096) char data[RING];
};

static struct shared {
	struct ring ring;
	_Alignas(128) _Atomic uint64_t line;
} *shared;

static int bells[2];	/* eventfds: the near end's, the far end's */
static uint64_t own, peer;	/* our position, the peer's as last seen */

static void bare_prepare(void)
{
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED)
		err(1, "mmap");
	for (int i = 0; i < 2; i++)
		bells[i] = eventfd(0, EFD_CLOEXEC);
}

static void bare_put(const char *data, size_t size)
{
	while (size) {
		size_t room = RING - (own - peer), at = own % RING, n, first;

		if (room < size) {
			peer = atomic_load_explicit(&shared->ring.head, memory_order_acquire);
			room = RING - (own - peer);
			if (!room) {
				relax();
				continue;
			}
		}
		n = size < room ? size : room;
		first = n < RING - at ? n : RING - at;
		memcpy(shared->ring.data + at, data, first);
		if (first < n)
			memcpy(shared->ring.data, data + first, n - first);
		own += n;
		atomic_store_explicit(&shared->ring.tail, own, memory_order_release);
		data += n;
		size -= n;
	}
}

static size_t bare_get(char *data, size_t size)
{
	size_t at = own % RING, n, first;

	while (peer - own < size) {
		peer = atomic_load_explicit(&shared->ring.tail, memory_order_acquire);
		if (peer != own)
			break;
		relax();
	}
	n = peer - own < size ? peer - own : size;
	first = n < RING - at ? n : RING - at;
	memcpy(data, shared->ring.data + at, first);
	if (first < n)
		memcpy(data + first, shared->ring.data, n - first);
	own += n;
	atomic_store_explicit(&shared->ring.head, own, memory_order_release);
	return n;
}

/* The word counts up: the near end makes it odd, the far end even. Its top bit is the end. */
#define LAST (1ull << 63)

static void line_put(const char *data, size_t size)
{
	atomic_store_explicit(&shared->line, ++own | (data[size - 1] == 'd' ? LAST : 0), memory_order_release);
}

static size_t line_get(char *data, size_t size)
{
	uint64_t word;

	while (((word = atomic_load_explicit(&shared->line, memory_order_acquire)) & ~LAST) == own)
		;
	own = word & ~LAST;
	data[size - 1] = word & LAST ? 'd' : 0;
	return size;
}

static void bell_put(const char *data, size_t size)
{
	uint64_t count = data[size - 1] == 'd' ? 2 : 1;

	if (write(bells[!task.is_far], &count, sizeof(count)) != sizeof(count))
		err(1, "eventfd");
}

static size_t bell_get(char *data, size_t size)
{
	uint64_t count;

	if (read(bells[task.is_far], &count, sizeof(count)) != sizeof(count))
		err(1, "eventfd");
	data[size - 1] = count == 2 ? 'd' : 0;
	return size;
}

/* --- Sockets ------------------------------------------------------------------------------ */

static int sockets[2];
static int sock;

static void unix_prepare(void)
{
	if (socketpair(AF_UNIX, task.kind == DGRAM ? SOCK_DGRAM : SOCK_STREAM, 0, sockets))
		err(1, "socketpair");
}

static void tcp_prepare(void)
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int listener = socket(AF_INET, SOCK_STREAM, 0), one = 1;
	socklen_t len = sizeof(at);

	if (listener < 0 || bind(listener, (void *)&at, sizeof(at)) || listen(listener, 1) ||
	    getsockname(listener, (void *)&at, &len))
		err(1, "tcp");
	sockets[0] = socket(AF_INET, SOCK_STREAM, 0);
	if (sockets[0] < 0 || connect(sockets[0], (void *)&at, sizeof(at)))
		err(1, "connect");
	sockets[1] = accept(listener, NULL, NULL);
	if (sockets[1] < 0)
		err(1, "accept");
	for (int i = 0; i < 2 && task.kind != STREAM; i++)
		setsockopt(sockets[i], IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	close(listener);
}

static void socket_join(void)
{
	sock = sockets[task.is_far];
	close(sockets[!task.is_far]);
}

static void socket_put(const char *data, size_t size)
{
	while (size) {
		ssize_t n = write(sock, data, size);

		if (n < 0)
			err(1, "write");
		data += n;
		size -= (size_t)n;
	}
}

static size_t socket_get(char *data, size_t size)
{
	ssize_t n = read(sock, data, size);

	if (n <= 0)
		err(1, "read");
	return (size_t)n;
}

/* --- Libraries of messages ---------------------------------------------------------------- */

static void *zmq;

static void zmq_join(void)
{
	void *context = zmq_ctx_new();

	zmq = zmq_socket(context, task.kind != STREAM ? ZMQ_PAIR : task.is_far ? ZMQ_PULL : ZMQ_PUSH);
	if (!zmq || (task.is_far ? zmq_connect : zmq_bind)(zmq, task.address))
		errx(1, "zmq: %s", zmq_strerror(zmq_errno()));
}

static void zmq_put(const char *data, size_t size)
{
	if (zmq_send(zmq, data, size, 0) < 0)
		errx(1, "zmq_send: %s", zmq_strerror(zmq_errno()));
}

static size_t zmq_get(char *data, size_t size)
{
	int n = zmq_recv(zmq, data, size, 0);

	if (n < 0 || (size_t)n > size)
		errx(1, "zmq_recv: %s", zmq_strerror(zmq_errno()));
	return (size_t)n;
}

static nng_socket nng;

static void nng_check(int error)
{
	if (error)
		errx(1, "nng: %s", nng_strerror(error));
}

static void nng_join(void)
{
	nng_check(task.kind != STREAM ? nng_pair0_open(&nng) :
		  task.is_far ? nng_pull0_open(&nng) : nng_push0_open(&nng));
	if (!task.is_far) {
		nng_check(nng_listen(nng, task.address, NULL, 0));
		tell("l", 1);
	} else {
		be_told(buffer, 1);
		nng_check(nng_dial(nng, task.address, NULL, 0));
	}
}

static void nng_put(const char *data, size_t size)
{
	nng_check(nng_send(nng, (void *)data, size, 0));
}

static size_t nng_get(char *data, size_t size)
{
	nng_check(nng_recv(nng, data, &size, 0));
	return size;
}

/* --- Ways --------------------------------------------------------------------------------- */

struct way {
	const char *name;
	unsigned kinds;		/* bits */
	bool is_whole;		/* does a get bring a whole message? Else it brings what there is. */
	void (*prepare)(void);	/* in the parent, before there is a child; or NULL */
	void (*join)(void);	/* at each end; or NULL */
	void (*put)(const char *data, size_t size);
	size_t (*get)(char *data, size_t size);
};

#define ON(kind) (1u << (kind))
#define TRIPS (ON(SPIN) | ON(SLEEP))

static const struct way ways[] = {
	{ "vmci", ON(STREAM) | TRIPS, false, NULL, vmci_join, vmci_put, vmci_get },
	{ "vmci", ON(DGRAM), true, NULL, vmci_join, vmci_put_dgram, vmci_get_dgram },
	{ "bare", ON(STREAM), false, bare_prepare, NULL, bare_put, bare_get },
	{ "bare", ON(SPIN), true, bare_prepare, NULL, line_put, line_get },
	{ "bare", ON(SLEEP), true, bare_prepare, NULL, bell_put, bell_get },
	{ "unix", ON(STREAM) | ON(SLEEP), false, unix_prepare, socket_join, socket_put, socket_get },
	{ "unix", ON(DGRAM), true, unix_prepare, socket_join, socket_put, socket_get },
	{ "tcp", ON(STREAM) | ON(SLEEP), false, tcp_prepare, socket_join, socket_put, socket_get },
	{ "zmq", ON(STREAM) | ON(SLEEP), true, NULL, zmq_join, zmq_put, zmq_get },
	{ "nng", ON(STREAM) | ON(SLEEP), true, NULL, nng_join, nng_put, nng_get },
};

static const struct way *way;

/* --- What is measured --------------------------------------------------------------------- */

/* The clock is not looked at more often than each 64 KiB. */
static void send_all(void)
{
	uint64_t deadline = now() + task.ns;
	size_t sent = 0, due;

	do {
		for (due = sent + BUFFER; sent < due; sent += task.size)
			way->put(buffer, task.size);
	} while (now() < deadline);
	way->put("d", 1);
}

static void receive_all(void)
{
	size_t n = way->get(buffer, BUFFER), bytes = 0, count = 0;
	uint64_t first = now(), last;

	while (buffer[n - 1] != 'd') {
		n = way->get(buffer, BUFFER);
		bytes += n;
		count++;
	}
	last = now();
	if (!count || last == first)
		errx(1, "too short a time");
	printf("bytes %zu count %zu ns %llu", bytes, way->is_whole ? count : bytes / task.size,
	       (unsigned long long)(last - first));
}

static void get_whole(void)
{
	size_t have = 0;

	do
		have += way->get(buffer + have, task.size - have);
	while (have < task.size);
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static void ask(void)
{
	size_t batch = task.kind == SPIN ? BATCH : 1, count = 0;
	double *times = calloc(SAMPLES, sizeof(*times));
	uint64_t start = now(), last = start, next;

	if (!times)
		err(1, "memory");
	while (last < start + task.ns && count < SAMPLES) {
		for (size_t i = 0; i < batch; i++) {
			buffer[task.size - 1] = 0;
			way->put(buffer, task.size);
			get_whole();
		}
		next = now();
		times[count++] = (double)(next - last) / (double)batch;
		last = next;
	}
	buffer[task.size - 1] = 'd';
	way->put(buffer, task.size);
	get_whole();
	qsort(times, count, sizeof(*times), compare);
	printf("median %.1f min %.1f p99 %.1f count %zu ns %llu", times[count / 2], times[0], times[count * 99 / 100],
	       count * batch, (unsigned long long)(last - start));
}

static void answer(void)
{
	do {
		get_whole();
		way->put(buffer, task.size);
	} while (buffer[task.size - 1] != 'd');
}

/* Two CPUs, if there are; one for each end. */
static void pin(void)
{
	int cpus[CPU_SETSIZE], n = 0;
	cpu_set_t set;

	if (sched_getaffinity(0, sizeof(set), &set))
		return;
	for (int i = 0; i < CPU_SETSIZE; i++)
		if (CPU_ISSET(i, &set))
			cpus[n++] = i;
	CPU_ZERO(&set);
	CPU_SET(cpus[task.is_far ? n - 1 : 0], &set);
	sched_setaffinity(0, sizeof(set), &set);
}

static double seconds(struct timeval t)
{
	return (double)t.tv_sec + (double)t.tv_usec / 1e6;
}

/* One end. The receiver, or who asked, says how it was. */
static void run(void)
{
	bool trips = task.kind == SPIN || task.kind == SLEEP;
	struct rusage used;
	char ready;

	if (way->join)
		way->join();
	pin();		/* after threads have been started: they go where they like */
	tell("r", 1);
	be_told(&ready, 1);
	if (trips)
		(task.is_far ? answer : ask)();
	else
		(task.is_far ? receive_all : send_all)();
	if (task.is_far != trips) {
		getrusage(RUSAGE_SELF, &used);
		printf(" user %.3f sys %.3f\n", seconds(used.ru_utime), seconds(used.ru_stime));
		fflush(stdout);
	}
	/* Nobody leaves while the other may still need him. */
	tell("e", 1);
	be_told(&ready, 1);
}

int main(int argc, char **argv)
{
	int there[2], back[2], status;
	pid_t pid;

	for (task.kind = 0; argc == 6 && task.kind < KINDS; task.kind++)
		if (!strcmp(argv[2], kind_names[task.kind]))
			break;
	if (argc != 6 || task.kind == KINDS)
		errx(2, "usage: qpair-bench WAY KIND MILLISECONDS SIZE DIRECTORY");
	for (size_t i = 0; i < sizeof(ways) / sizeof(*ways); i++)
		if (!strcmp(ways[i].name, argv[1]) && ways[i].kinds & ON(task.kind))
			way = &ways[i];
	task.ns = strtoull(argv[3], NULL, 0) * 1000000u;
	task.size = strtoull(argv[4], NULL, 0);
	snprintf(task.address, sizeof(task.address), "ipc://%s/%s", argv[5], argv[1]);
	if (!way || !task.size || task.size > BUFFER)
		errx(2, "no such measurement");
	if (pipe(there) || pipe(back))
		err(1, "pipe");
	if (way->prepare)
		way->prepare();
	pid = fork();
	if (pid < 0)
		err(1, "fork");
	task.is_far = !pid;
	task.line[0] = pid ? back[0] : there[0];
	task.line[1] = pid ? there[1] : back[1];
	close(pid ? back[1] : there[1]);
	close(pid ? there[0] : back[0]);
	signal(SIGPIPE, SIG_IGN);
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		run();
		_exit(0);
	}
	run();
	if (waitpid(pid, &status, 0) != pid || status)
		errx(1, "the other end failed");
	_exit(0);	/* without waiting for the threads of the libraries */
}
