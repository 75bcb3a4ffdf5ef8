/* SPDX-License-Identifier: BSD-2-Clause */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "proto/limits.h"
#include "vmcid/sink.h"

#define BOUND VMCI_DG_QUEUE_MAX

static sd_event *event;
static struct sink *sink;
static int reader;
static int copy;	/* the client's own, of the sink */
static uint8_t dg[VMCI_DG_MAX_SIZE];
static uint8_t got[VMCI_DG_MAX_SIZE];

static int setup(void **state)
{
	int fds[2];

	(void)state;
	assert_int_equal(sd_event_new(&event), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds), 0);
	copy = dup(fds[1]);
	assert_int_equal(sink_new(event, fds[1], &sink), 0);
	reader = fds[0];
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	assert_null(sink_free(sink));
	close(reader);
	if (copy >= 0)
		close(copy);
	sd_event_unref(event);
	return 0;
}

/* Datagrams are numbered in their first bytes. */
static int32_t put(size_t size, uint32_t number)
{
	memset(dg, (int)(number & 0xff), size);
	memcpy(dg, &number, sizeof(number));
	return sink_deliver(sink, dg, size, BOUND);
}

static void run_loop(void)
{
	int r;

	do
		r = sd_event_run(event, 0);
	while (r > 0);
	assert_int_equal(r, 0);
}

/* Return: the size; 0: nothing there */
static size_t take(uint32_t number)
{
	ssize_t n = recv(reader, got, sizeof(got), MSG_DONTWAIT);
	uint32_t found;

	if (n < 0) {
		assert_int_equal(errno, EAGAIN);
		return 0;
	}
	memcpy(&found, got, sizeof(found));
	assert_int_equal(found, number);
	if (n > 4)
		assert_int_equal(got[n - 1], (uint8_t)number);
	return (size_t)n;
}

static void fill(size_t size, uint32_t *number)
{
	size_t room = (BOUND - 1) / size;

	for (size_t i = 0; i < room; i++)
		assert_int_equal(put(size, (*number)++), size);
	assert_int_equal(put(size, *number), VMCI_ERROR_NO_RESOURCES);
}

/* VMCI SDK reference, 3.2: refused if queued bytes + new size >= 139264, for small and large ones */
static void test_bound(void **state)
{
	static const size_t sizes[] = {
		VMCI_DG_HEADER_SIZE, 25, 100, 1000, 4096, 4097, 10000, 33000, 65536, VMCI_DG_MAX_SIZE,
	};

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		uint32_t written = 0, taken = 0;

		fill(sizes[i], &written);
		/* Nothing changes as long as nobody reads. */
		run_loop();
		assert_int_equal(put(sizes[i], written), VMCI_ERROR_NO_RESOURCES);
		while (taken < written) {
			if (take(taken))
				taken++;
			else
				run_loop();
		}
		assert_int_equal(take(taken), 0);
		assert_int_equal(sink_pending(sink), 0);
		teardown(state);
		setup(state);
	}
}

/* To the byte: two of the largest are 139264, which is one too much. */
static void test_edge(void **state)
{
	(void)state;
	assert_int_equal(put(VMCI_DG_MAX_SIZE, 0), VMCI_DG_MAX_SIZE);
	assert_int_equal(put(VMCI_DG_MAX_SIZE, 1), VMCI_ERROR_NO_RESOURCES);
	assert_int_equal(put(VMCI_DG_MAX_SIZE - 1, 1), VMCI_DG_MAX_SIZE - 1);
	assert_int_equal(put(24, 2), VMCI_ERROR_NO_RESOURCES);
	assert_int_equal(take(0), VMCI_DG_MAX_SIZE);
	assert_int_equal(put(VMCI_DG_MAX_SIZE, 2), VMCI_DG_MAX_SIZE);
	assert_int_equal(take(1), VMCI_DG_MAX_SIZE - 1);
	assert_int_equal(take(2), VMCI_DG_MAX_SIZE);
}

/* What was read makes room, datagram by datagram, also when the rest is in our own list. */
static void test_one_by_one(void **state)
{
	static const size_t sizes[] = { 64, 700, 5000, 20000 };

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		uint32_t written = 0, taken = 0;
		size_t most = (BOUND - 1) / sizes[i];

		fill(sizes[i], &written);
		for (int k = 0; k < 200; k++) {
			assert_int_equal(take(taken++), sizes[i]);
			run_loop();
			/* What is counted is what the client has not read, to one datagram. */
			assert_int_equal(put(sizes[i], written), sizes[i]);
			written++;
			assert_int_equal(put(sizes[i], written), VMCI_ERROR_NO_RESOURCES);
			assert_int_equal(written - taken, most);
		}
		teardown(state);
		setup(state);
	}
}

static uint32_t seed;

static uint32_t next_random(void)
{
	seed = seed * 1664525u + 1013904223u;
	return seed >> 8;
}

/* Compared with a plain count: random sizes, random reading. */
static void test_model(void **state)
{
	static size_t sizes[20000];
	uint32_t written = 0, taken = 0;
	size_t queued = 0;

	(void)state;
	seed = 7;
	for (int step = 0; step < 20000; step++) {
		if (next_random() % 100 < 55) {
			uint32_t kind = next_random() % 8;
			uint32_t most = kind == 0 ? VMCI_DG_MAX_SIZE - 24 + 1 : kind < 3 ? 5000 : 200;
			size_t size = 24 + next_random() % most;
			int32_t r = put(size, written);

			if (queued + size < BOUND) {
				assert_int_equal(r, size);
				sizes[written++] = size;
				queued += size;
			} else {
				assert_int_equal(r, VMCI_ERROR_NO_RESOURCES);
			}
		} else {
			size_t n = take(taken);

			if (!n && taken < written) {
				run_loop();
				n = take(taken);
			}
			if (!n) {
				assert_int_equal(taken, written);
				continue;
			}
			assert_int_equal(n, sizes[taken]);
			queued -= sizes[taken++];
		}
	}
	assert_true(taken > 5000);
}

/* More than the kernel takes: in order, and flushed when there is room. */
static void test_overflow(void **state)
{
	uint32_t written = 0, taken = 0;

	(void)state;
	fill(24, &written);
	assert_true(sink_pending(sink) > 0);
	while (taken < written) {
		size_t n = take(taken);

		if (n) {
			assert_int_equal(n, 24);
			taken++;
			continue;
		}
		run_loop();
		assert_true(taken == written || take(taken));
		taken++;
	}
	assert_int_equal(sink_pending(sink), 0);
	/* The loop has nothing to do any more. */
	assert_int_equal(sd_event_run(event, 0), 0);
}

/* Nobody can read it: whoever sends is told, and what waited is forgotten. */
static void test_gone(void **state)
{
	uint32_t written = 0;

	(void)state;
	fill(24, &written);
	assert_true(sink_pending(sink) > 0);
	close(reader);
	run_loop();
	assert_int_equal(sink_pending(sink), 0);
	assert_int_equal(put(24, 0), VMCI_ERROR_NO_HANDLE);
	assert_int_equal(put(24, 0), VMCI_ERROR_NO_HANDLE);
	reader = dup(STDIN_FILENO);
}

static void test_gone_empty(void **state)
{
	(void)state;
	close(reader);
	assert_int_equal(put(24, 0), VMCI_ERROR_NO_HANDLE);
	reader = dup(STDIN_FILENO);
}

/* The client plays with its copy of our end: it harms itself alone. */
static void test_meddling(void **state)
{
	int small = 1;
	char byte = 0;

	(void)state;
	/* Packets of its own in its queue. */
	for (int i = 0; i < 1000; i++)
		(void)!send(copy, &byte, 1, MSG_DONTWAIT);
	assert_int_equal(put(100, 1), 100);
	while (recv(reader, got, sizeof(got), MSG_DONTWAIT) > 0)
		run_loop();
	assert_int_equal(sink_pending(sink), 0);
	/* A buffer that is too small for a datagram. */
	assert_int_equal(setsockopt(copy, SOL_SOCKET, SO_SNDBUF, &small, sizeof(small)), 0);
	assert_int_equal(put(VMCI_DG_MAX_SIZE, 2), VMCI_ERROR_NO_RESOURCES);
	assert_int_equal(put(100, 3), 100);
	assert_int_equal(take(3), 100);
	assert_int_equal(shutdown(copy, SHUT_RDWR), 0);
	assert_int_equal(put(100, 4), VMCI_ERROR_NO_HANDLE);
}

/* A sink that an earlier vmcid has filled: no more than the bound, and all of it again when it has been read. */
static void test_handed_over(void **state)
{
	struct sink *second;
	uint32_t written = 0;

	(void)state;
	for (; written < 20; written++)
		assert_int_equal(put(5000, written), 5000);
	assert_int_equal(sink_new(event, dup(copy), &second), 0);
	sink_free(sink);
	sink = second;
	while (put(5000, written) > 0)
		written++;
	assert_true(written * 5000 < BOUND);
	for (uint32_t i = 0; i < written; i++) {
		assert_int_equal(take(i), 5000);
		run_loop();
	}
	fill(5000, &written);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_bound, setup, teardown),
		cmocka_unit_test_setup_teardown(test_edge, setup, teardown),
		cmocka_unit_test_setup_teardown(test_one_by_one, setup, teardown),
		cmocka_unit_test_setup_teardown(test_model, setup, teardown),
		cmocka_unit_test_setup_teardown(test_overflow, setup, teardown),
		cmocka_unit_test_setup_teardown(test_gone, setup, teardown),
		cmocka_unit_test_setup_teardown(test_gone_empty, setup, teardown),
		cmocka_unit_test_setup_teardown(test_meddling, setup, teardown),
		cmocka_unit_test_setup_teardown(test_handed_over, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
