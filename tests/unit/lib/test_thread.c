/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Threads that use all groups at once, of one membership, while brokers come and go. For the thread sanitizer above
 * all.
 */
#include "fake.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ROUNDS 40
#define LIVES 8

static struct fake *fake;
static struct vmci *vmci;
static struct vmci_dgram *dgram;
static struct vmci_doorbell *doorbell;
static struct vmci_ringer *ringer;
static struct vmci_events *events;
static atomic_bool stops;

/* What may come of a call while brokers come and go. */
static void check(int r, const char *what)
{
	if (r < 0 && r != VMCI_ERROR_DATAGRAM_FAILED && r != VMCI_ERROR_NOT_FOUND && r != VMCI_ERROR_ALREADY_EXISTS)
		fail_msg("%s: %d: %s", what, r, vmci_errmsg());
}

static void *opens(void *arg)
{
	(void)arg;
	for (int i = 0; i < ROUNDS; i++) {
		struct vmci_dgram *mine;
		int r = vmci_dgram_open(vmci, VMCI_INVALID_ID, &mine);

		check(r, "open");
		if (!r)
			vmci_dgram_close(mine);
	}
	return NULL;
}

static void *sends(void *arg)
{
	(void)arg;
	for (int i = 0; i < ROUNDS; i++)
		check(vmci_dgram_send(dgram, vmci_dgram_handle(dgram), "x", 1), "send");
	return NULL;
}

static void *receives(void *arg)
{
	char buf[8];

	(void)arg;
	while (!atomic_load(&stops)) {
		int r = vmci_dgram_recv(dgram, buf, sizeof(buf), 5, NULL);

		if (r != VMCI_ERROR_TIMEOUT)
			check(r, "recv");
	}
	return NULL;
}

static void *shares(void *arg)
{
	(void)arg;
	for (int i = 0; i < ROUNDS; i++) {
		struct vmci_shm *shm;
		int r = vmci_shm_create(vmci, VMCI_INVALID_ID, 4096, &shm);

		check(r, "shm");
		if (!r)
			vmci_shm_detach(shm);
	}
	return NULL;
}

static void *names(void *arg)
{
	const char *name = arg;

	for (int i = 0; i < ROUNDS; i++) {
		struct vmci_handle handle;

		check(vmci_name_register(vmci, name, vmci_dgram_handle(dgram)), "register");
		check(vmci_name_lookup(vmci, name, 0, &handle), "lookup");
		check(vmci_name_unregister(vmci, name), "unregister");
	}
	return NULL;
}

static void *grants(void *arg)
{
	(void)arg;
	for (int i = 0; i < ROUNDS; i++) {
		struct vmci_handle group, member = { 40u + (unsigned)i, 0 };

		check(vmci_grant(vmci, vmci_dgram_handle(dgram), member, 0x10, 0), "grant");
		check(vmci_revoke(vmci, vmci_dgram_handle(dgram), member, 0x10), "revoke");
		check(vmci_group_create(vmci, &group), "group");
		check(vmci_group_add(vmci, group, member, 0), "add");
		check(vmci_group_destroy(vmci, group), "destroy");
	}
	return NULL;
}

static void *watches(void *arg)
{
	(void)arg;
	for (int i = 0; i < ROUNDS; i++) {
		struct vmci_event event;

		check(vmci_events_watch(events, 100u + (unsigned)i), "watch");
		check(vmci_events_unwatch(events, 100u + (unsigned)i), "unwatch");
		if (vmci_events_wait(events, 0, &event) != VMCI_ERROR_WOULD_BLOCK)
			fail_msg("an event?");
	}
	return NULL;
}

static void *listens(void *arg)
{
	(void)arg;
	while (!atomic_load(&stops)) {
		int64_t n = vmci_doorbell_wait(doorbell, 5);

		if (n != VMCI_ERROR_TIMEOUT)
			check((int)n, "wait");
	}
	return NULL;
}

static void *ringers(void *arg)
{
	(void)arg;
	for (int i = 0; i < ROUNDS * 10; i++)
		check(vmci_ringer_ring(ringer), "ring");
	return NULL;
}

static void *kills(void *arg)
{
	(void)arg;
	for (int i = 0; i < LIVES; i++) {
		usleep(10000);
		fake_die(fake);
		usleep(5000);
		fake_rise(fake);
	}
	return NULL;
}

static void all_at_once(void **state)
{
	static void *(*const workers[])(void *) = { opens, opens,  sends,   sends,  shares, names,
						    names, grants, watches, ringers, kills };
	static void *(*const waiters[])(void *) = { receives, receives, listens };
	static char name[2][8] = { "one", "two" };
	pthread_t worker[sizeof(workers) / sizeof(workers[0])], waiter[3];
	unsigned n = 0;

	(void)state;
	fake = fake_new();
	atomic_store(&stops, false);
	assert_int_equal(vmci_open(fake_dir(fake), VMCI_CID_HOST, VMCI_OPEN_NO_START, &vmci), 0);
	assert_int_equal(vmci_dgram_open(vmci, 1024, &dgram), 0);
	assert_int_equal(vmci_doorbell_open(vmci, 1025, &doorbell), 0);
	assert_int_equal(vmci_ringer_open(vmci, vmci_doorbell_handle(doorbell), &ringer), 0);
	assert_int_equal(vmci_events_open(vmci, &events), 0);
	for (size_t i = 0; i < 3; i++)
		assert_int_equal(pthread_create(&waiter[i], NULL, waiters[i], NULL), 0);
	for (size_t i = 0; i < sizeof(workers) / sizeof(workers[0]); i++)
		assert_int_equal(pthread_create(&worker[i], NULL, workers[i],
						workers[i] == names ? name[n++ % 2] : NULL), 0);
	for (size_t i = 0; i < sizeof(workers) / sizeof(workers[0]); i++)
		pthread_join(worker[i], NULL);
	atomic_store(&stops, true);
	for (size_t i = 0; i < 3; i++)
		pthread_join(waiter[i], NULL);
	vmci_events_close(events);
	vmci_ringer_close(ringer);
	vmci_doorbell_close(doorbell);
	vmci_dgram_close(dgram);
	vmci_close(vmci);
	fake_free(fake);
}

/* Memberships open and close in several threads, also while their broker dies. */
static void *comes_and_goes(void *arg)
{
	(void)arg;
	for (int i = 0; i < 10; i++) {
		struct vmci_dgram *mine;
		struct vmci *own;
		int r = vmci_open(fake_dir(fake), VMCI_INVALID_ID, 0, &own);

		/* Nobody may listen just then. */
		if (r == VMCI_ERROR_DEVICE_NOT_FOUND)
			continue;
		check(r, "vmci_open");
		check(vmci_dgram_open(own, VMCI_INVALID_ID, &mine), "open");
		vmci_dgram_close(mine);
		vmci_close(own);
	}
	return NULL;
}

static void memberships(void **state)
{
	pthread_t thread[4], killer;
	unsigned before;

	(void)state;
	setenv("VMCI_VMCID", "/nowhere/vmcid", 1);
	before = fds_open();
	fake = fake_new();
	for (int i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&thread[i], NULL, comes_and_goes, NULL), 0);
	assert_int_equal(pthread_create(&killer, NULL, kills, NULL), 0);
	for (int i = 0; i < 4; i++)
		pthread_join(thread[i], NULL);
	pthread_join(killer, NULL);
	fake_free(fake);
	assert_int_equal(fds_open(), before);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(all_at_once),
		cmocka_unit_test(memberships),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
