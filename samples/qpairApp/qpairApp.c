/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * qpairApp - bytes go through a queue pair to another program and come back, with <vmci/vmci.h>. See README.md.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <vmci/vmci.h>

#define EXIT_USAGE 2

#define SERVER_NAME "QUEUE PAIR ECHO"
#define RING_SIZE 65536		/* bytes, in each direction */
#define BLOCK_SIZE 16384
#define PATIENCE_MS 10000
#define MEGABYTES 64		/* unless -m says otherwise */
#define MEGABYTES_MAX 65536ul

static void usage(const char *program)
{
	fprintf(stderr,
		"usage: %s [-d DIRECTORY] [-o] [-m MIB] -s | -c\n"
		"  -s            be the server: send back what one client writes\n"
		"  -c            be the client: write, read, compare\n"
		"  -m MIB        client: so much (%d)\n"
		"  -o            in a context of one's own instead of the host's\n"
		"  -d DIRECTORY  the runtime directory of the broker\n"
		"  -h            this text\n",
		program, MEGABYTES);
}

static int failed(const char *what, int64_t code)
{
	fprintf(stderr, "%s: %s (%s)\n", what, vmci_errmsg(), vmci_strerror((int)code));
	return EXIT_FAILURE;
}

/* Send back what comes, straight from one ring into the other, until the client has left. */
static int echo(struct vmci_qpair *qpair)
{
	uint64_t total = 0;
	const void *bytes;
	size_t size;
	int64_t n;

	for (;;) {
		bytes = vmci_qpair_acquire(qpair, &size);
		if (bytes) {
			n = vmci_qpair_write(qpair, bytes, size, -1);
			if (n < 0)
				break;
			vmci_qpair_release(qpair, (size_t)n);
			total += (uint64_t)n;
			continue;
		}
		/* whoever has left may have written before */
		n = vmci_qpair_wait(qpair, VMCI_QPAIR_IN, -1);
		if (n < 0 || !(n & VMCI_QPAIR_IN))
			break;
	}
	printf("%llu bytes sent back\n", (unsigned long long)total);
	return n >= 0 || n == VMCI_ERROR_QUEUEPAIR_NOTATTACHED ? EXIT_SUCCESS : failed("queue pair", n);
}

static int wait_for_client(struct vmci_qpair *qpair)
{
	uint32_t peer = VMCI_INVALID_ID;
	int result;

	while (vmci_qpair_state(qpair, NULL) == VMCI_QPAIR_WAITING) {
		result = vmci_qpair_wait(qpair, VMCI_QPAIR_PEER, -1);
		if (result < 0)
			return result;
	}
	vmci_qpair_state(qpair, &peer);
	printf("context %u has attached\n", peer);
	return VMCI_SUCCESS;
}

static int run_server(struct vmci *vmci)
{
	struct vmci_qpair *qpair;
	struct vmci_handle handle;
	int status, result;

	result = vmci_qpair_create(vmci, VMCI_INVALID_ID, VMCI_INVALID_ID, RING_SIZE, RING_SIZE, 0, &qpair);
	if (result < 0)
		return failed("create", result);
	handle = vmci_qpair_handle(qpair);
	result = vmci_name_register(vmci, SERVER_NAME, handle);
	if (result < 0) {
		status = failed("register", result);
	} else {
		printf("\"%s\" is %u:%u\n", SERVER_NAME, handle.context, handle.resource);
		fflush(stdout);
		result = wait_for_client(qpair);
		/* one pair serves one client: the name is of no more use */
		vmci_name_unregister(vmci, SERVER_NAME);
		status = result < 0 ? failed("wait", result) : echo(qpair);
	}
	vmci_qpair_close(qpair);
	return status;
}

/* What is written at @position: different everywhere for long enough, and easy to know again. */
static void fill(uint8_t *buf, size_t size, uint64_t position)
{
	for (size_t i = 0; i < size; i++) {
		uint64_t x = (position + i) * 0x9e3779b97f4a7c15ull;

		buf[i] = (uint8_t)(x >> 56);
	}
}

/* Write as much as there is room for, but no more than up to @total. Return: bytes, or a VMCI_ERROR_* */
static int64_t write_some(struct vmci_qpair *qpair, uint64_t done, uint64_t total)
{
	uint8_t block[BLOCK_SIZE];
	size_t size = total - done < sizeof(block) ? (size_t)(total - done) : sizeof(block);
	int64_t room = vmci_qpair_room(qpair);

	if (room < 0 || size == 0)
		return room < 0 ? room : 0;
	if ((uint64_t)room < size)
		size = (size_t)room;
	if (size == 0)
		return 0;
	fill(block, size, done);
	return vmci_qpair_write(qpair, block, size, 0);
}

/* Read and compare. Return: bytes, or a VMCI_ERROR_*; VMCI_ERROR_GENERIC: not what was written */
static int64_t read_some(struct vmci_qpair *qpair, uint64_t done)
{
	uint8_t block[BLOCK_SIZE], expected[BLOCK_SIZE];
	int64_t n = vmci_qpair_read(qpair, block, sizeof(block), 0);

	if (n <= 0)
		return n == VMCI_ERROR_WOULD_BLOCK ? 0 : n;
	fill(expected, (size_t)n, done);
	return memcmp(block, expected, (size_t)n) ? VMCI_ERROR_GENERIC : n;
}

/* Neither direction waits for the other, else both ends might stand before full rings. */
static int64_t exchange(struct vmci_qpair *qpair, uint64_t total)
{
	uint64_t out = 0, in = 0;
	int64_t n;

	while (in < total) {
		int64_t written = write_some(qpair, out, total);

		if (written < 0)
			return written;
		out += (uint64_t)written;
		n = read_some(qpair, in);
		if (n < 0)
			return n;
		in += (uint64_t)n;
		if (written == 0 && n == 0) {
			n = vmci_qpair_wait(qpair, VMCI_QPAIR_IN | (out < total ? VMCI_QPAIR_OUT : 0), -1);
			if (n < 0)
				return n;
			/* with neither of them, it is the server that has left */
			if (!(n & (VMCI_QPAIR_IN | VMCI_QPAIR_OUT)))
				return VMCI_ERROR_QUEUEPAIR_NOTATTACHED;
		}
	}
	return VMCI_SUCCESS;
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static int run_client(struct vmci *vmci, unsigned long megabytes)
{
	uint64_t total = (uint64_t)megabytes << 20;
	struct vmci_qpair *qpair;
	struct vmci_handle handle;
	double begin, seconds;
	int64_t result;

	result = vmci_name_lookup(vmci, SERVER_NAME, PATIENCE_MS, &handle);
	if (result < 0)
		return failed("look up", result);
	result = vmci_qpair_attach(vmci, handle, RING_SIZE, RING_SIZE, 0, &qpair);
	if (result < 0)
		return failed("attach", result);
	begin = now();
	result = exchange(qpair, total);
	seconds = now() - begin;
	vmci_qpair_close(qpair);
	if (result < 0) {
		fprintf(stderr, "queue pair: %s\n", result == VMCI_ERROR_GENERIC ? "what came back is not what was sent"
			: vmci_strerror((int)result));
		return EXIT_FAILURE;
	}
	printf("%lu MiB there and back: %.0f MB/s each way\n", megabytes, (double)total / seconds / 1e6);
	return EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
	int server = 0, client = 0, option, result, status;
	unsigned long megabytes = MEGABYTES;
	const char *directory = NULL;
	uint32_t cid = VMCI_CID_HOST;
	struct vmci *vmci;
	char *end;

	while ((option = getopt(argc, argv, "d:hm:osc")) != -1) {
		switch (option) {
		case 'd':
			directory = optarg;
			break;
		case 'm':
			megabytes = strtoul(optarg, &end, 10);
			if (*end || megabytes < 1 || megabytes > MEGABYTES_MAX) {
				usage(argv[0]);
				return EXIT_USAGE;
			}
			break;
		case 'o':
			cid = VMCI_INVALID_ID;
			break;
		case 's':
			server = 1;
			break;
		case 'c':
			client = 1;
			break;
		default:
			usage(argv[0]);
			return option == 'h' ? EXIT_SUCCESS : EXIT_USAGE;
		}
	}
	if (server == client || optind != argc) {
		usage(argv[0]);
		return EXIT_USAGE;
	}

	result = vmci_open(directory, cid, 0, &vmci);
	if (result < 0)
		return failed("no membership", result);
	status = server ? run_server(vmci) : run_client(vmci, megabytes);
	vmci_close(vmci);
	return status;
}
