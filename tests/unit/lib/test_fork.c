/* SPDX-License-Identifier: BSD-2-Clause */
/* A child after fork(2): it is told that it is none, it can clean up, and it does not keep its parent alive. */
#include "fake.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* A thread in the child would have the id of one that the thread sanitizer remembers from the parent. */
#if defined(__SANITIZE_THREAD__)
#define HAS_THREAD_SANITIZER 1
#elif defined(__has_feature)
#define HAS_THREAD_SANITIZER __has_feature(thread_sanitizer)
#else
#define HAS_THREAD_SANITIZER 0
#endif

static struct fake *fake;
static struct vmci *vmci;
static struct vmci_dgram *dgram;
static struct vmci_doorbell *doorbell;
static struct vmci_ringer *ringer;
static struct vmci_events *events;
static struct vmci_qpair *qpair;
static struct vmci_shm *shm;

static int set_up(void **state)
{
	(void)state;
	fake = fake_new();
	return vmci_open(fake_dir(fake), VMCI_CID_HOST, VMCI_OPEN_NO_START, &vmci) ||
	       vmci_dgram_open(vmci, 1024, &dgram) || vmci_doorbell_open(vmci, 1025, &doorbell) ||
	       vmci_ringer_open(vmci, vmci_doorbell_handle(doorbell), &ringer) || vmci_events_open(vmci, &events) ||
	       vmci_qpair_create(vmci, 1026, VMCI_INVALID_ID, 4096, 4096, 0, &qpair) ||
	       vmci_shm_create(vmci, 1027, 4096, &shm);
}

static void close_all(void)
{
	qpair = vmci_qpair_close(qpair);
	events = vmci_events_close(events);
	ringer = vmci_ringer_close(ringer);
	doorbell = vmci_doorbell_close(doorbell);
	dgram = vmci_dgram_close(dgram);
	if (shm)
		vmci_shm_detach(shm);
	shm = NULL;
	vmci = vmci_close(vmci);
}

static int tear_down(void **state)
{
	(void)state;
	close_all();
	fake_free(fake);
	return 0;
}

/* The child says with its exit status which check failed; 0: none. A child that hangs is ended. */
static void run_child(int (*child)(void))
{
	unsigned waited = 0;
	int status;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (!pid)
		_exit(child());
	while (!waitpid(pid, &status, WNOHANG))
		if (!in_time(&waited)) {
			kill(pid, SIGKILL);
			fail_msg("the child hangs");
		}
	if (!WIFEXITED(status) || WEXITSTATUS(status))
		fail_msg("child: status 0x%x", status);
}

#define CHECK(n, call) \
	do { \
		if ((call) != VMCI_ERROR_UNAVAILABLE) \
			return n; \
	} while (0)

static int all_unavailable(void)
{
	struct vmci_handle handle = { 2, 1024 };
	struct vmci_doorbell *new_doorbell;
	struct vmci_ringer *new_ringer;
	struct vmci_events *new_events;
	struct vmci_qpair *new_qpair;
	struct vmci_dgram *new_dgram;
	struct vmci_event event;
	struct vmci_shm *new_shm;
	uint64_t size;
	char buf[8];

	CHECK(1, vmci_dgram_open(vmci, VMCI_INVALID_ID, &new_dgram));
	CHECK(2, vmci_dgram_send(dgram, handle, "x", 1));
	CHECK(3, vmci_dgram_recv(dgram, buf, sizeof(buf), -1, NULL));
	CHECK(4, vmci_doorbell_open(vmci, VMCI_INVALID_ID, &new_doorbell));
	CHECK(5, (int)vmci_doorbell_wait(doorbell, -1));
	CHECK(6, vmci_ringer_open(vmci, handle, &new_ringer));
	CHECK(7, vmci_ringer_ring(ringer));
	CHECK(8, vmci_events_open(vmci, &new_events));
	CHECK(9, vmci_events_wait(events, -1, &event));
	CHECK(10, vmci_events_watch(events, 99));
	CHECK(11, vmci_qpair_create(vmci, VMCI_INVALID_ID, VMCI_INVALID_ID, 4096, 4096, 0, &new_qpair));
	CHECK(12, vmci_shm_create(vmci, VMCI_INVALID_ID, 4096, &new_shm));
	CHECK(13, vmci_shm_query(vmci, handle, &size));
	CHECK(14, vmci_shm_attach(vmci, handle, &new_shm));
	CHECK(15, vmci_name_register(vmci, "x", handle));
	CHECK(16, vmci_name_lookup(vmci, "x", -1, &handle));
	CHECK(17, vmci_name_unregister(vmci, "x"));
	CHECK(18, vmci_grant(vmci, handle, handle, 1, 0));
	CHECK(19, vmci_revoke(vmci, handle, handle, 1));
	CHECK(20, vmci_revoke_all(vmci, handle, handle));
	CHECK(21, vmci_check(vmci, handle, handle, 1));
	CHECK(22, vmci_group_create(vmci, &handle));
	CHECK(23, vmci_group_destroy(vmci, handle));
	CHECK(24, vmci_group_add(vmci, handle, handle, 0));
	CHECK(25, vmci_group_remove(vmci, handle, handle));
	CHECK(26, vmci_group_is_member(vmci, handle, handle));
	if (!strstr(vmci_errmsg(), "child"))
		return 27;
	close_all();
	return 0;
}

static void child_is_none(void **state)
{
	(void)state;
	run_child(all_unavailable);
	/* And the parent goes on: nothing was closed, nothing was said. */
	assert_int_equal(fake_count(fake, FAB_DG_DESTROY), 0);
	assert_int_equal(fake_count(fake, FAB_SHM_DETACH), 0);
	assert_int_equal(vmci_dgram_send(dgram, vmci_dgram_handle(dgram), "x", 1), 1);
	assert_int_equal(fake_hellos(fake), 1);
}

static int own_membership(void)
{
	struct vmci_dgram *mine;
	struct vmci *own;

	if (vmci_open(fake_dir(fake), VMCI_CID_HOST, VMCI_OPEN_NO_START, &own))
		return 1;
	if (vmci_dgram_open(own, VMCI_INVALID_ID, &mine))
		return 2;
	if (vmci_dgram_send(mine, vmci_dgram_handle(mine), "x", 1) != 1)
		return 3;
	vmci_dgram_close(mine);
	vmci_close(own);
	close_all();
	return 0;
}

static void child_opens_its_own(void **state)
{
	(void)state;
	if (HAS_THREAD_SANITIZER) {
		print_message("left out: the thread sanitizer knows no threads after fork\n");
		return;
	}
	run_child(own_membership);
	assert_int_equal(vmci_dgram_send(dgram, vmci_dgram_handle(dgram), "x", 1), 1);
}

/* While the child lives, the broker sees the parent go. */
static void child_keeps_nobody_alive(void **state)
{
	unsigned waited = 0;
	int gate[2], status;
	pid_t pid;

	(void)state;
	assert_int_equal(pipe(gate), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (!pid) {
		char byte;

		close(gate[1]);
		_exit(read(gate[0], &byte, 1) ? 1 : 0);
	}
	close(gate[0]);
	assert_int_equal(fake_connections(fake), 1);
	close_all();
	while (fake_connections(fake))
		assert_true(in_time(&waited));
	assert_int_equal(waitpid(pid, &status, WNOHANG), 0);
	close(gate[1]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

static void *call(void *arg)
{
	struct vmci_dgram *other;

	(void)arg;
	if (!vmci_dgram_open(vmci, VMCI_INVALID_ID, &other))
		vmci_dgram_close(other);
	return NULL;
}

static void *receive(void *arg)
{
	char buf[8];

	(void)arg;
	vmci_dgram_recv(dgram, buf, sizeof(buf), -1, NULL);
	return NULL;
}

static int just_close(void)
{
	close_all();
	return 0;
}

/*
 * Other threads are in the middle of a call, and blocked in another, when we fork. The child cleans up all the same.
 */
static void in_the_middle(void **state)
{
	pthread_t caller, receiver;

	(void)state;
	fake_clear(fake);
	fake_fault(fake, FAB_DG_CREATE, 1, FAULT_SILENT, 0);
	assert_int_equal(pthread_create(&receiver, NULL, receive, NULL), 0);
	assert_int_equal(pthread_create(&caller, NULL, call, NULL), 0);
	fake_seen(fake, FAB_DG_CREATE, 0);
	run_child(just_close);
	/* The broker that says nothing is left after 5 s; or it ends before. */
	fake_die(fake);
	fake_rise(fake);
	pthread_join(caller, NULL);
	dgram = vmci_dgram_close(dgram);
	pthread_join(receiver, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(child_is_none, set_up, tear_down),
		cmocka_unit_test_setup_teardown(child_opens_its_own, set_up, tear_down),
		cmocka_unit_test_setup_teardown(child_keeps_nobody_alive, set_up, tear_down),
		cmocka_unit_test_setup_teardown(in_the_middle, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
