/* SPDX-License-Identifier: BSD-2-Clause */
/* Datagram endpoints: what arrives, what does not, and who waits for it. */
#include "fake.h"

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "proto/dg.h"

struct rig {
	struct fake *fake;
	struct vmci *vmci;
	struct vmci_dgram *dgram;
};

static struct rig rig;
static const struct vmci_handle SENDER = { 42, 7000 };

static int set_up(void **state)
{
	(void)state;
	rig.fake = fake_new();
	if (vmci_open(fake_dir(rig.fake), VMCI_CID_HOST, VMCI_OPEN_NO_START, &rig.vmci))
		return -1;
	return vmci_dgram_open(rig.vmci, VMCI_INVALID_ID, &rig.dgram);
}

static int tear_down(void **state)
{
	(void)state;
	vmci_dgram_close(rig.dgram);
	vmci_close(rig.vmci);
	fake_free(rig.fake);
	return 0;
}

static bool is_readable(int fd)
{
	struct pollfd pollfd = { .fd = fd, .events = POLLIN };

	return poll(&pollfd, 1, 0) == 1 && pollfd.revents & POLLIN;
}

static void deliver(const char *text)
{
	fake_deliver(rig.fake, SENDER, strlen(text), text, strlen(text));
}

static void has_a_handle(void **state)
{
	struct seen seen = fake_seen(rig.fake, FAB_DG_CREATE, 0);
	struct vmci_dgram *wished;

	(void)state;
	assert_int_equal(vmci_dgram_handle(rig.dgram).context, VMCI_CID_HOST);
	assert_int_equal(vmci_dgram_handle(rig.dgram).resource, FAKE_FIRST_RID);
	assert_int_equal(seen.msg.handle.resource, VMCI_INVALID_ID);
	assert_int_equal(seen.msg.n_fds, 1);
	assert_int_equal(vmci_dgram_open(rig.vmci, 5000, &wished), 0);
	assert_int_equal(vmci_dgram_handle(wished).resource, 5000);
	assert_int_equal(fake_seen(rig.fake, FAB_DG_CREATE, 1).msg.handle.resource, 5000);
	assert_null(vmci_dgram_close(wished));
	assert_int_equal(fake_seen(rig.fake, FAB_DG_DESTROY, 0).msg.handle.resource, 5000);
	assert_null(vmci_dgram_close(NULL));
}

static void refused(void **state)
{
	struct vmci_dgram *dgram = (struct vmci_dgram *)1;
	unsigned before = fds_open();

	(void)state;
	fake_fault(rig.fake, FAB_DG_CREATE, 1, FAULT_REFUSE, VMCI_ERROR_ALREADY_EXISTS);
	assert_int_equal(vmci_dgram_open(rig.vmci, 5000, &dgram), VMCI_ERROR_ALREADY_EXISTS);
	assert_ptr_equal(dgram, (struct vmci_dgram *)1);
	assert_non_null(strstr(vmci_errmsg(), "2:5000"));
	assert_non_null(strstr(vmci_errmsg(), "already exists"));
	for (unsigned waited = 0; fds_open() != before;)
		assert_true(in_time(&waited));
}

static void sends(void **state)
{
	static uint8_t data[VMCI_DG_MAX_PAYLOAD + 1];
	struct vmci_handle dst = { 99, 1234 };
	struct dg_header header;
	struct seen seen;

	(void)state;
	assert_int_equal(vmci_dgram_send(rig.dgram, dst, "hello", 5), 5);
	seen = fake_seen(rig.fake, FAB_DG_SEND, 0);
	header = dg_parse(seen.data);
	assert_int_equal(header.dst.context, 99);
	assert_int_equal(header.dst.resource, 1234);
	assert_int_equal(header.src.context, VMCI_CID_HOST);
	assert_int_equal(header.src.resource, FAKE_FIRST_RID);
	assert_int_equal(header.payload_size, 5);
	assert_memory_equal(seen.data + VMCI_DG_HEADER_SIZE, "hello", 5);
	assert_int_equal(vmci_dgram_send(rig.dgram, dst, NULL, 0), 0);
	assert_int_equal(fake_seen(rig.fake, FAB_DG_SEND, 1).msg.len, VMCI_DG_HEADER_SIZE);
	assert_int_equal(vmci_dgram_send(rig.dgram, dst, data, VMCI_DG_MAX_PAYLOAD), VMCI_DG_MAX_PAYLOAD);
	assert_int_equal(vmci_dgram_send(rig.dgram, dst, data, sizeof(data)), VMCI_ERROR_INVALID_ARGS);
	assert_int_equal(fake_count(rig.fake, FAB_DG_SEND), 3);
}

static void send_is_refused(void **state)
{
	static const int codes[] = { VMCI_ERROR_NO_RESOURCES, VMCI_ERROR_DST_UNREACHABLE, VMCI_ERROR_INVALID_RESOURCE,
				     VMCI_ERROR_NO_ACCESS };
	struct vmci_handle dst = { 99, 1234 };

	(void)state;
	for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++) {
		fake_fault(rig.fake, FAB_DG_SEND, 1, FAULT_REFUSE, codes[i]);
		assert_int_equal(vmci_dgram_send(rig.dgram, dst, "x", 1), codes[i]);
		assert_non_null(strstr(vmci_errmsg(), "99:1234"));
		assert_non_null(strstr(vmci_errmsg(), vmci_strerror(codes[i])));
	}
}

static void receives(void **state)
{
	struct vmci_handle src = { 0, 0 };
	char buf[16];

	(void)state;
	assert_int_equal(vmci_dgram_recv(rig.dgram, buf, sizeof(buf), 0, &src), VMCI_ERROR_WOULD_BLOCK);
	assert_false(is_readable(vmci_dgram_fd(rig.dgram)));
	deliver("first");
	deliver("");
	deliver("second");
	assert_true(is_readable(vmci_dgram_fd(rig.dgram)));
	assert_int_equal(vmci_dgram_recv(rig.dgram, buf, sizeof(buf), -1, &src), 5);
	assert_memory_equal(buf, "first", 5);
	assert_int_equal(src.context, SENDER.context);
	assert_int_equal(src.resource, SENDER.resource);
	assert_int_equal(vmci_dgram_recv(rig.dgram, buf, sizeof(buf), 100, NULL), 0);
	assert_int_equal(vmci_dgram_recv(rig.dgram, buf, sizeof(buf), 0, NULL), 6);
	assert_memory_equal(buf, "second", 6);
	assert_int_equal(vmci_dgram_recv(rig.dgram, buf, sizeof(buf), 20, NULL), VMCI_ERROR_TIMEOUT);
	assert_false(is_readable(vmci_dgram_fd(rig.dgram)));
}

/* VMCI SDK reference, 3.2: NO_MEM, and the datagram stays first in the queue. */
static void buffer_too_small(void **state)
{
	char buf[16] = "untouched";

	(void)state;
	deliver("0123456789");
	deliver("next");
	for (size_t size = 0; size < 10; size++) {
		assert_int_equal(vmci_dgram_recv(rig.dgram, buf, size, -1, NULL), VMCI_ERROR_NO_MEM);
		assert_non_null(strstr(vmci_errmsg(), "10 bytes"));
	}
	assert_string_equal(buf, "untouched");
	assert_int_equal(vmci_dgram_recv(rig.dgram, buf, 10, 0, NULL), 10);
	assert_memory_equal(buf, "0123456789", 10);
	assert_int_equal(vmci_dgram_recv(rig.dgram, buf, sizeof(buf), 0, NULL), 4);
}

/* What is no datagram is dropped, and what comes behind it arrives. */
static void unsound(void **state)
{
	static uint8_t large[VMCI_DG_MAX_SIZE + 8];
	uint8_t shorter[VMCI_DG_HEADER_SIZE - 1] = { 0 };
	char buf[16];

	(void)state;
	fake_deliver(rig.fake, SENDER, 3, "four", 4);
	fake_deliver(rig.fake, SENDER, 5, "four", 4);
	fake_deliver(rig.fake, SENDER, UINT64_MAX, "four", 4);
	fake_deliver_raw(rig.fake, shorter, sizeof(shorter));
	fake_deliver_raw(rig.fake, shorter, 1);
	deliver("good");
	assert_int_equal(vmci_dgram_recv(rig.dgram, buf, sizeof(buf), 0, NULL), 4);
	assert_memory_equal(buf, "good", 4);
	dg_build(large, vmci_dgram_handle(rig.dgram), SENDER, sizeof(large) - VMCI_DG_HEADER_SIZE);
	fake_deliver_raw(rig.fake, large, sizeof(large));
	deliver("good");
	assert_int_equal(vmci_dgram_recv(rig.dgram, buf, sizeof(buf), 0, NULL), 4);
	assert_int_equal(vmci_dgram_recv(rig.dgram, buf, sizeof(buf), 0, NULL), VMCI_ERROR_WOULD_BLOCK);
}

/* A broker that makes an end of the sink ends the endpoint, but does not make us run in circles. */
static void sink_is_shut(void **state)
{
	char buf[16];

	(void)state;
	fake_shutdown_sink(rig.fake);
	assert_int_equal(vmci_dgram_recv(rig.dgram, buf, sizeof(buf), -1, NULL), VMCI_ERROR_NO_HANDLE);
	assert_int_equal(vmci_dgram_recv(rig.dgram, buf, sizeof(buf), -1, NULL), VMCI_ERROR_NO_HANDLE);
}

static void largest(void **state)
{
	static uint8_t data[VMCI_DG_MAX_PAYLOAD], got[VMCI_DG_MAX_PAYLOAD];

	(void)state;
	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)(i * 7 + i / 251);
	fake_deliver(rig.fake, SENDER, sizeof(data), data, sizeof(data));
	assert_int_equal(vmci_dgram_recv(rig.dgram, got, sizeof(got), 0, NULL), sizeof(data));
	assert_memory_equal(data, got, sizeof(data));
}

/* --- Threads ------------------------------------------------------------------------------------------------ */

struct receiver {
	pthread_t thread;
	struct vmci_dgram *dgram;
	atomic_uint got;
	atomic_bool is_in;
	int last;
};

static void *receive(void *arg)
{
	struct receiver *receiver = arg;
	char buf[64];

	for (;;) {
		atomic_store(&receiver->is_in, true);
		receiver->last = vmci_dgram_recv(receiver->dgram, buf, sizeof(buf), -1, NULL);
		if (receiver->last < 0)
			return NULL;
		atomic_fetch_add(&receiver->got, 1);
	}
}

/* A thread that has been told to begin is blocked soon, and is one that begins late otherwise: both must end well. */
static void nap(void)
{
	struct timespec ms = { .tv_nsec = 20000000 };

	nanosleep(&ms, NULL);
}

static void close_wakes_receivers(void **state)
{
	struct receiver receivers[4] = { 0 };
	struct vmci_dgram *dgram;
	unsigned waited = 0;

	(void)state;
	assert_int_equal(vmci_dgram_open(rig.vmci, VMCI_INVALID_ID, &dgram), 0);
	for (int i = 0; i < 4; i++) {
		receivers[i].dgram = dgram;
		assert_int_equal(pthread_create(&receivers[i].thread, NULL, receive, &receivers[i]), 0);
		while (!atomic_load(&receivers[i].is_in))
			assert_true(in_time(&waited));
	}
	nap();
	vmci_dgram_close(dgram);
	for (int i = 0; i < 4; i++) {
		pthread_join(receivers[i].thread, NULL);
		assert_int_equal(receivers[i].last, VMCI_ERROR_NO_HANDLE);
	}
}

static void each_to_one_receiver(void **state)
{
	struct receiver receivers[3] = { 0 };
	unsigned got, waited = 0;
	struct vmci_dgram *dgram;

	(void)state;
	assert_int_equal(vmci_dgram_open(rig.vmci, VMCI_INVALID_ID, &dgram), 0);
	for (int i = 0; i < 3; i++) {
		receivers[i].dgram = dgram;
		assert_int_equal(pthread_create(&receivers[i].thread, NULL, receive, &receivers[i]), 0);
	}
	for (int i = 0; i < 100; i++)
		deliver("x");
	do {
		got = 0;
		for (int i = 0; i < 3; i++)
			got += atomic_load(&receivers[i].got);
	} while (got < 100 && in_time(&waited));
	assert_int_equal(got, 100);
	nap();
	for (int i = 0; i < 3; i++)
		while (!atomic_load(&receivers[i].is_in))
			assert_true(in_time(&waited));
	vmci_dgram_close(dgram);
	got = 0;
	for (int i = 0; i < 3; i++) {
		pthread_join(receivers[i].thread, NULL);
		got += atomic_load(&receivers[i].got);
	}
	assert_int_equal(got, 100);
}

/* --- Signals ------------------------------------------------------------------------------------------------ */

static atomic_uint signals;

static void on_signal(int sig)
{
	(void)sig;
	atomic_fetch_add(&signals, 1);
}

/* Without SA_RESTART, so that every wait is interrupted. */
static void signals_end_no_call(void **state)
{
	struct sigaction action = { .sa_handler = on_signal }, before;
	struct receiver receiver = { .dgram = rig.dgram };
	unsigned waited = 0;

	(void)state;
	sigaction(SIGUSR1, &action, &before);
	assert_int_equal(pthread_create(&receiver.thread, NULL, receive, &receiver), 0);
	while (!atomic_load(&receiver.is_in))
		assert_true(in_time(&waited));
	for (int i = 0; i < 50; i++) {
		pthread_kill(receiver.thread, SIGUSR1);
		if (i % 10 == 9)
			deliver("x");
		assert_true(in_time(&waited));
	}
	while (atomic_load(&receiver.got) < 5)
		assert_true(in_time(&waited));
	assert_true(atomic_load(&signals) > 0);
	nap();
	rig.dgram = vmci_dgram_close(rig.dgram);
	pthread_join(receiver.thread, NULL);
	assert_int_equal(receiver.last, VMCI_ERROR_NO_HANDLE);
	sigaction(SIGUSR1, &before, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(has_a_handle, set_up, tear_down),
		cmocka_unit_test_setup_teardown(refused, set_up, tear_down),
		cmocka_unit_test_setup_teardown(sends, set_up, tear_down),
		cmocka_unit_test_setup_teardown(send_is_refused, set_up, tear_down),
		cmocka_unit_test_setup_teardown(receives, set_up, tear_down),
		cmocka_unit_test_setup_teardown(buffer_too_small, set_up, tear_down),
		cmocka_unit_test_setup_teardown(unsound, set_up, tear_down),
		cmocka_unit_test_setup_teardown(sink_is_shut, set_up, tear_down),
		cmocka_unit_test_setup_teardown(largest, set_up, tear_down),
		cmocka_unit_test_setup_teardown(close_wakes_receivers, set_up, tear_down),
		cmocka_unit_test_setup_teardown(each_to_one_receiver, set_up, tear_down),
		cmocka_unit_test_setup_teardown(signals_end_no_call, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
