/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * libvmci over the real vmcid: all groups between two contexts, a vmcid that is killed in the middle, and one that
 * the library starts. argv[1], or $VMCID: the program.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "vmci/vmci.h"

#define LIMIT_MS 20000

static char parent[64];
static char dir[80];
static const char *program;
static pid_t broker;
static struct vmci *host, *soft;

static void nap(void)
{
	struct timespec ms = { .tv_nsec = 5000000 };

	nanosleep(&ms, NULL);
}

#define EVENTUALLY(condition) \
	do { \
		unsigned waited = 0; \
		while (!(condition)) { \
			nap(); \
			waited += 5; \
			if (waited > LIMIT_MS) \
				fail_msg("never: %s", #condition); \
		} \
	} while (0)

#define OK(call) assert_ok((call), #call)

static void assert_ok(int r, const char *what)
{
	if (r)
		fail_msg("%s: %d: %s", what, r, vmci_errmsg());
}

/* --- vmcid -------------------------------------------------------------------------------------------------- */

static void start(void)
{
	char *const argv[] = { "vmcid", "--runtime-dir", dir, NULL };
	posix_spawn_file_actions_t actions;
	char log[120];

	snprintf(log, sizeof(log), "%s/log", parent);
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addopen(&actions, 2, log, O_WRONLY | O_CREAT | O_APPEND, 0600);
	assert_int_equal(posix_spawn(&broker, program, &actions, NULL, argv, environ), 0);
	posix_spawn_file_actions_destroy(&actions);
}

static void stop(void)
{
	if (broker <= 0)
		return;
	kill(broker, SIGKILL);
	waitpid(broker, NULL, 0);
	broker = 0;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

static int make_dir(void **state)
{
	(void)state;
	strcpy(parent, "/tmp/vmci-test-XXXXXX");
	if (!mkdtemp(parent))
		return -1;
	snprintf(dir, sizeof(dir), "%s/run", parent);
	return 0;
}

static int remove_dir(void **state)
{
	(void)state;
	return nftw(parent, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static int set_up(void **state)
{
	make_dir(state);
	start();
	EVENTUALLY(!vmci_open(dir, VMCI_CID_HOST, VMCI_OPEN_NO_START, &host));
	EVENTUALLY(!vmci_open(dir, VMCI_INVALID_ID, VMCI_OPEN_NO_START, &soft));
	return 0;
}

static int tear_down(void **state)
{
	soft = vmci_close(soft);
	host = vmci_close(host);
	stop();
	return remove_dir(state);
}

/*
 * A membership is back when it is answered: that it is in the public group. On a machine that stands still for
 * seconds a call gives up before.
 */
static void come_back(struct vmci *vmci)
{
	struct vmci_handle everybody = { VMCI_CID_HOST, 1023 }, self = { vmci_cid(vmci), 0 };
	int r;

	EVENTUALLY((r = vmci_group_is_member(vmci, everybody, self)) != VMCI_ERROR_UNAVAILABLE);
	assert_int_equal(r, 1);
}

static void restart(void)
{
	stop();
	start();
	come_back(host);
	come_back(soft);
}

/* --- Groups ------------------------------------------------------------------------------------------------- */

static void contexts(void **state)
{
	struct vmci *joined, *own;

	(void)state;
	assert_int_equal(vmci_cid(host), VMCI_CID_HOST);
	assert_true(vmci_cid(soft) >= VMCI_CID_FIRST_VM);
	OK(vmci_open(dir, vmci_cid(soft), 0, &joined));
	assert_int_equal(vmci_cid(joined), vmci_cid(soft));
	OK(vmci_open(dir, 4711, 0, &own));
	assert_int_equal(vmci_cid(own), 4711);
	vmci_close(own);
	vmci_close(joined);
}

static void datagrams(void **state)
{
	static uint8_t data[VMCI_DG_MAX_PAYLOAD], got[VMCI_DG_MAX_PAYLOAD];
	struct vmci_handle src, nowhere = { 999999, 5 };
	struct vmci_dgram *a, *b;
	int n = 0;

	(void)state;
	OK(vmci_dgram_open(host, VMCI_INVALID_ID, &a));
	OK(vmci_dgram_open(soft, 7000, &b));
	assert_true(vmci_dgram_handle(a).resource >= VMCI_RID_FIRST_DYNAMIC);
	assert_int_equal(vmci_dgram_open(soft, 7000, &(struct vmci_dgram *){ 0 }), VMCI_ERROR_ALREADY_EXISTS);
	assert_int_equal(vmci_dgram_send(a, vmci_dgram_handle(b), "hello", 5), 5);
	assert_int_equal(vmci_dgram_recv(b, got, sizeof(got), LIMIT_MS, &src), 5);
	assert_memory_equal(got, "hello", 5);
	assert_int_equal(src.context, VMCI_CID_HOST);
	assert_int_equal(src.resource, vmci_dgram_handle(a).resource);
	memset(data, 0x5a, sizeof(data));
	assert_int_equal(vmci_dgram_send(b, src, data, sizeof(data)), sizeof(data));
	assert_int_equal(vmci_dgram_recv(a, got, sizeof(got), LIMIT_MS, NULL), sizeof(data));
	assert_memory_equal(got, data, sizeof(data));
	assert_int_equal(vmci_dgram_send(a, nowhere, "x", 1), VMCI_ERROR_DST_UNREACHABLE);
	nowhere = vmci_dgram_handle(b);
	nowhere.resource++;
	assert_int_equal(vmci_dgram_send(a, nowhere, "x", 1), VMCI_ERROR_INVALID_RESOURCE);
	/* The queue has 139264 bytes, headers included, less one. */
	while (n < 1000 && vmci_dgram_send(a, vmci_dgram_handle(b), data, 1000) == 1000)
		n++;
	assert_int_equal(n, (139264 - 1) / 1024);
	assert_int_equal(vmci_dgram_send(a, vmci_dgram_handle(b), data, 1000), VMCI_ERROR_NO_RESOURCES);
	while (n--)
		assert_int_equal(vmci_dgram_recv(b, got, sizeof(got), LIMIT_MS, NULL), 1000);
	assert_int_equal(vmci_dgram_recv(b, got, sizeof(got), 0, NULL), VMCI_ERROR_WOULD_BLOCK);
	vmci_dgram_close(b);
	assert_int_equal(vmci_dgram_send(a, vmci_dgram_handle(a), "self", 4), 4);
	assert_int_equal(vmci_dgram_recv(a, got, sizeof(got), LIMIT_MS, NULL), 4);
	vmci_dgram_close(a);
}

static void doorbells(void **state)
{
	struct vmci_doorbell *doorbell;
	struct vmci_ringer *ringer;
	struct vmci_handle handle;

	(void)state;
	OK(vmci_doorbell_open(soft, VMCI_INVALID_ID, &doorbell));
	handle = vmci_doorbell_handle(doorbell);
	OK(vmci_ringer_open(host, handle, &ringer));
	OK(vmci_ringer_ring(ringer));
	OK(vmci_ringer_ring(ringer));
	assert_int_equal(vmci_doorbell_wait(doorbell, LIMIT_MS), 2);
	stop();
	OK(vmci_ringer_ring(ringer));
	assert_int_equal(vmci_doorbell_wait(doorbell, LIMIT_MS), 1);
	vmci_ringer_close(ringer);
	restart();
	OK(vmci_ringer_open(host, handle, &ringer));
	OK(vmci_ringer_ring(ringer));
	assert_int_equal(vmci_doorbell_wait(doorbell, LIMIT_MS), 1);
	vmci_ringer_close(ringer);
	vmci_doorbell_close(doorbell);
	assert_int_equal(vmci_ringer_open(host, handle, &ringer), VMCI_ERROR_NOT_FOUND);
}

static void events(void **state)
{
	struct vmci_qpair *creator, *attacher;
	struct vmci_events *news;
	struct vmci_event event;
	struct vmci *other;
	uint32_t cid;

	(void)state;
	OK(vmci_events_open(host, &news));
	OK(vmci_open(dir, VMCI_INVALID_ID, 0, &other));
	cid = vmci_cid(other);
	OK(vmci_events_watch(news, cid));
	assert_int_equal(vmci_events_watch(news, cid), VMCI_ERROR_ALREADY_EXISTS);
	vmci_close(other);
	OK(vmci_events_wait(news, LIMIT_MS, &event));
	assert_int_equal(event.id, VMCI_EVENT_CTX_REMOVED);
	assert_int_equal(event.context, cid);

	OK(vmci_qpair_create(host, VMCI_INVALID_ID, VMCI_INVALID_ID, 8192, 8192, 0, &creator));
	OK(vmci_qpair_attach(soft, vmci_qpair_handle(creator), 8192, 8192, 0, &attacher));
	OK(vmci_events_wait(news, LIMIT_MS, &event));
	assert_int_equal(event.id, VMCI_EVENT_QP_PEER_ATTACH);
	assert_int_equal(event.context, vmci_cid(soft));
	assert_int_equal(event.handle.resource, vmci_qpair_handle(creator).resource);
	vmci_qpair_close(attacher);
	OK(vmci_events_wait(news, LIMIT_MS, &event));
	assert_int_equal(event.id, VMCI_EVENT_QP_PEER_DETACH);
	vmci_qpair_close(creator);

	/* After a restart, too. */
	OK(vmci_open(dir, cid, 0, &other));
	restart();
	come_back(other);
	OK(vmci_events_unwatch(news, cid));
	OK(vmci_events_watch(news, cid));
	vmci_close(other);
	OK(vmci_events_wait(news, LIMIT_MS, &event));
	assert_int_equal(event.id, VMCI_EVENT_CTX_REMOVED);
	assert_int_equal(event.context, cid);
	vmci_events_close(news);
	OK(vmci_events_open(host, &news));
	vmci_events_close(news);
}

static void shared_memory(void **state)
{
	struct vmci_shm *mine, *theirs;
	struct vmci_handle handle;
	uint64_t size;

	(void)state;
	OK(vmci_shm_create(host, VMCI_INVALID_ID, 5000, &mine));
	handle = vmci_shm_handle(mine);
	OK(vmci_shm_query(soft, handle, &size));
	assert_int_equal(size, 5000);
	OK(vmci_shm_attach(soft, handle, &theirs));
	assert_int_equal(vmci_shm_attach(soft, handle, &(struct vmci_shm *){ 0 }), VMCI_ERROR_ALREADY_EXISTS);
	strcpy(vmci_shm_address(mine), "shared");
	assert_string_equal(vmci_shm_address(theirs), "shared");
	restart();
	/* Both ends are known again: the first leaves, the second is the last. */
	OK(vmci_shm_query(soft, handle, &size));
	OK(vmci_shm_query(host, handle, &size));
	assert_int_equal(vmci_shm_detach(mine), VMCI_SUCCESS);
	assert_string_equal(vmci_shm_address(theirs), "shared");
	OK(vmci_shm_query(host, handle, &size));
	assert_int_equal(vmci_shm_detach(theirs), VMCI_SUCCESS_LAST_DETACH);
	assert_int_equal(vmci_shm_query(host, handle, &size), VMCI_ERROR_NOT_FOUND);
}

static void names(void **state)
{
	struct vmci_handle handle = { 0, 4444 }, found;

	(void)state;
	handle.context = vmci_cid(soft);
	OK(vmci_name_register(soft, "a name", handle));
	assert_int_equal(vmci_name_register(host, "a name", handle), VMCI_ERROR_ALREADY_EXISTS);
	assert_int_equal(vmci_name_register(host, "vmci something", handle), VMCI_ERROR_NO_ACCESS);
	assert_int_equal(vmci_name_lookup(host, "another", 0, &found), VMCI_ERROR_NOT_FOUND);
	OK(vmci_name_lookup(host, "a name", 0, &found));
	assert_int_equal(found.context, handle.context);
	assert_int_equal(found.resource, 4444);
	restart();
	OK(vmci_name_lookup(host, "a name", 0, &found));
	assert_int_equal(found.resource, 4444);
	OK(vmci_name_unregister(soft, "a name"));
	assert_int_equal(vmci_name_unregister(soft, "a name"), VMCI_ERROR_NOT_FOUND);
	OK(vmci_name_lookup(soft, "vmci public group", 0, &found));
	assert_int_equal(found.context, VMCI_CID_HOST);
}

/* Nobody gets in where nobody was let in, before and after a restart. */
static void rights(void **state)
{
	struct vmci_handle client = { 0, 0 }, other = { 4711, 0 }, group;
	struct vmci_dgram *closed, *sender;
	struct vmci *third;

	(void)state;
	client.context = vmci_cid(soft);
	OK(vmci_open(dir, 4711, 0, &third));
	OK(vmci_dgram_open(third, VMCI_INVALID_ID, &closed));
	OK(vmci_dgram_open(soft, VMCI_INVALID_ID, &sender));
	assert_int_equal(vmci_dgram_send(sender, vmci_dgram_handle(closed), "x", 1), 1);
	OK(vmci_grant(third, vmci_dgram_handle(closed), other, 1u << VMCI_PRIV_DG_SEND, 0));
	assert_int_equal(vmci_dgram_send(sender, vmci_dgram_handle(closed), "x", 1), VMCI_ERROR_NO_ACCESS);
	OK(vmci_group_create(host, &group));
	OK(vmci_group_add(host, group, client, 1));
	assert_int_equal(vmci_group_is_member(host, group, client), 1);
	assert_int_equal(vmci_group_is_member(host, group, other), 0);
	OK(vmci_grant(third, vmci_dgram_handle(closed), group, 1u << VMCI_PRIV_DG_SEND, 0));
	assert_int_equal(vmci_dgram_send(sender, vmci_dgram_handle(closed), "x", 1), 1);
	assert_int_equal(vmci_check(host, vmci_dgram_handle(closed), client, VMCI_PRIV_DG_SEND),
			 VMCI_SUCCESS_ACCESS_GRANTED);
	assert_int_equal(vmci_check(host, vmci_dgram_handle(closed), client, VMCI_PRIV_SM_ATTACH),
			 VMCI_ERROR_INVALID_PRIV);
	OK(vmci_revoke(third, vmci_dgram_handle(closed), group, 1u << VMCI_PRIV_DG_SEND));
	OK(vmci_revoke_all(third, vmci_dgram_handle(closed), other));
	assert_int_equal(vmci_dgram_send(sender, vmci_dgram_handle(closed), "x", 1), VMCI_ERROR_NO_ACCESS);
	restart();
	come_back(third);
	assert_int_equal(vmci_check(third, vmci_dgram_handle(closed), client, VMCI_PRIV_DG_SEND),
			 VMCI_ERROR_NO_ACCESS);
	assert_int_equal(vmci_dgram_send(sender, vmci_dgram_handle(closed), "x", 1), VMCI_ERROR_NO_ACCESS);
	OK(vmci_group_remove(host, group, client));
	OK(vmci_group_destroy(host, group));
	vmci_dgram_close(sender);
	vmci_dgram_close(closed);
	vmci_close(third);
}

/* --- A vmcid that is killed --------------------------------------------------------------------------------- */

/* Send; of a datagram that failed nobody knows whether it arrives. */
static void send_surely(struct vmci_dgram *dgram, struct vmci_handle dst, uint32_t tag)
{
	int r;

	EVENTUALLY((r = vmci_dgram_send(dgram, dst, &tag, sizeof(tag))) != VMCI_ERROR_DATAGRAM_FAILED &&
		   r != VMCI_ERROR_UNAVAILABLE);
	assert_int_equal(r, sizeof(tag));
}

/* Receive @tag; what failed before it may have arrived, too. */
static void receive_surely(struct vmci_dgram *dgram, uint32_t tag)
{
	uint32_t got;

	do
		assert_int_equal(vmci_dgram_recv(dgram, &got, sizeof(got), LIMIT_MS, NULL), sizeof(got));
	while (got < tag);
	assert_int_equal(got, tag);
}

static void datagrams_over_restarts(void **state)
{
	struct vmci_dgram *a, *b;

	(void)state;
	OK(vmci_dgram_open(host, VMCI_INVALID_ID, &a));
	OK(vmci_dgram_open(soft, VMCI_INVALID_ID, &b));
	for (uint32_t i = 0; i < 10; i += 2) {
		/* What has been sent is there, whatever becomes of vmcid; and calls wait for the next one. */
		send_surely(a, vmci_dgram_handle(b), i);
		stop();
		start();
		receive_surely(b, i);
		send_surely(a, vmci_dgram_handle(b), i + 1);
		receive_surely(b, i + 1);
	}
	vmci_dgram_close(a);
	vmci_dgram_close(b);
}

#define TRANSFER (32u << 20)

static uint64_t hash(uint64_t h, const uint8_t *data, size_t size)
{
	while (size--)
		h = (h ^ *data++) * 0x100000001b3ull;
	return h;
}

static void *produce(void *arg)
{
	static uint64_t sum;
	uint64_t done = 0, x = 88172645463325252ull;
	uint8_t buf[5000];

	sum = 14695981039346656037ull;
	while (done < TRANSFER) {
		size_t size = TRANSFER - done < sizeof(buf) ? (size_t)(TRANSFER - done) : sizeof(buf), at = 0;

		for (size_t i = 0; i < size; i++) {
			x ^= x << 13;
			x ^= x >> 7;
			x ^= x << 17;
			buf[i] = (uint8_t)x;
		}
		sum = hash(sum, buf, size);
		while (at < size) {
			int64_t n = vmci_qpair_write(arg, buf + at, size - at, LIMIT_MS);

			if (n < 0)
				return NULL;
			at += (size_t)n;
		}
		done += size;
	}
	return &sum;
}

/* No byte is lost or changed while vmcid is killed and comes back, again and again. */
static void queue_pair_over_restarts(void **state)
{
	uint64_t done = 0, sum = 14695981039346656037ull, next = TRANSFER / 6;
	struct vmci_qpair *creator, *attacher;
	static uint8_t buf[60000];
	pthread_t producer;
	uint32_t peer;
	void *result;

	(void)state;
	OK(vmci_qpair_create(host, VMCI_INVALID_ID, VMCI_INVALID_ID, 65536, 65536, 0, &creator));
	OK(vmci_qpair_attach(soft, vmci_qpair_handle(creator), 65536, 65536, 0, &attacher));
	assert_int_equal(pthread_create(&producer, NULL, produce, creator), 0);
	while (done < TRANSFER) {
		int64_t n = vmci_qpair_read(attacher, buf, sizeof(buf), LIMIT_MS);

		if (n <= 0)
			fail_msg("%lld: %s", (long long)n, vmci_errmsg());
		sum = hash(sum, buf, (size_t)n);
		done += (uint64_t)n;
		if (done >= next) {
			restart();
			next += TRANSFER / 6;
		}
	}
	pthread_join(producer, &result);
	assert_non_null(result);
	assert_true(sum == *(uint64_t *)result);
	assert_int_equal(vmci_qpair_state(creator, &peer), VMCI_QPAIR_ATTACHED);
	assert_int_equal(peer, vmci_cid(soft));
	vmci_qpair_close(attacher);
	EVENTUALLY(vmci_qpair_state(creator, NULL) == VMCI_QPAIR_LEFT);
	vmci_qpair_close(creator);
}

/* A pair to which nobody has attached can be attached to after a restart. */
static void attach_after_restart(void **state)
{
	struct vmci_qpair *creator, *attacher;
	char buf[8];

	(void)state;
	OK(vmci_qpair_create(host, VMCI_INVALID_ID, vmci_cid(soft), 4096, 8192, 0, &creator));
	assert_int_equal(vmci_qpair_write(creator, "early", 5, 0), 5);
	restart();
	assert_int_equal(vmci_qpair_attach(soft, vmci_qpair_handle(creator), 4096, 8192, 0, &attacher),
			 VMCI_ERROR_QUEUEPAIR_MISMATCH);
	OK(vmci_qpair_attach(soft, vmci_qpair_handle(creator), 8192, 4096, 0, &attacher));
	assert_int_equal(vmci_qpair_read(attacher, buf, sizeof(buf), LIMIT_MS), 5);
	vmci_qpair_close(creator);
	assert_int_equal(vmci_qpair_read(attacher, buf, sizeof(buf), LIMIT_MS), VMCI_ERROR_QUEUEPAIR_NOTATTACHED);
	vmci_qpair_close(attacher);
}

/* One that stands still for longer than a call waits is given up; it goes on, and everything is there again. */
static void stands_still(void **state)
{
	struct vmci_dgram *before, *other;
	struct vmci_shm *shm;
	uint64_t size;
	char buf[8];

	(void)state;
	OK(vmci_dgram_open(soft, 7000, &before));
	OK(vmci_shm_create(soft, 7001, 4096, &shm));
	OK(vmci_name_register(soft, "still", vmci_dgram_handle(before)));
	kill(broker, SIGSTOP);
	assert_int_equal(vmci_dgram_open(soft, 7002, &other), VMCI_ERROR_UNAVAILABLE);
	kill(broker, SIGCONT);
	/* What nobody knew whether it was there is not. */
	come_back(soft);
	OK(vmci_dgram_open(soft, 7002, &other));
	assert_int_equal(vmci_dgram_send(other, vmci_dgram_handle(before), "x", 1), 1);
	assert_int_equal(vmci_dgram_recv(before, buf, sizeof(buf), LIMIT_MS, NULL), 1);
	OK(vmci_shm_query(host, vmci_shm_handle(shm), &size));
	OK(vmci_name_unregister(soft, "still"));
	assert_int_equal(vmci_shm_detach(shm), VMCI_SUCCESS_LAST_DETACH);
	vmci_dgram_close(other);
	vmci_dgram_close(before);
}

/* --- A vmcid that the library starts ------------------------------------------------------------------------- */

static void embedded(void **state)
{
	struct vmci_dgram *dgram;
	char path[120], buf[8];
	struct vmci *a, *b;

	(void)state;
	setenv("VMCI_VMCID", program, 1);
	setenv("VMCI_RUNTIME_DIR", dir, 1);
	OK(vmci_open(NULL, VMCI_CID_HOST, 0, &a));
	OK(vmci_open(NULL, VMCI_INVALID_ID, 0, &b));
	OK(vmci_dgram_open(b, VMCI_INVALID_ID, &dgram));
	assert_int_equal(vmci_dgram_send(dgram, vmci_dgram_handle(dgram), "hello", 5), 5);
	assert_int_equal(vmci_dgram_recv(dgram, buf, sizeof(buf), LIMIT_MS, NULL), 5);
	vmci_dgram_close(dgram);
	vmci_close(b);
	vmci_close(a);
	/* It leaves by itself, and can be started again. */
	snprintf(path, sizeof(path), "%s/control.sock", dir);
	EVENTUALLY(vmci_open(NULL, VMCI_CID_HOST, VMCI_OPEN_NO_START, &a) || (vmci_close(a), sleep(2), false));
	OK(vmci_open(NULL, VMCI_CID_HOST, 0, &a));
	vmci_close(a);
	EVENTUALLY(vmci_open(NULL, VMCI_CID_HOST, VMCI_OPEN_NO_START, &a) || (vmci_close(a), sleep(2), false));
	unsetenv("VMCI_VMCID");
	unsetenv("VMCI_RUNTIME_DIR");
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(contexts, set_up, tear_down),
		cmocka_unit_test_setup_teardown(datagrams, set_up, tear_down),
		cmocka_unit_test_setup_teardown(doorbells, set_up, tear_down),
		cmocka_unit_test_setup_teardown(events, set_up, tear_down),
		cmocka_unit_test_setup_teardown(shared_memory, set_up, tear_down),
		cmocka_unit_test_setup_teardown(names, set_up, tear_down),
		cmocka_unit_test_setup_teardown(rights, set_up, tear_down),
		cmocka_unit_test_setup_teardown(datagrams_over_restarts, set_up, tear_down),
		cmocka_unit_test_setup_teardown(queue_pair_over_restarts, set_up, tear_down),
		cmocka_unit_test_setup_teardown(attach_after_restart, set_up, tear_down),
		cmocka_unit_test_setup_teardown(stands_still, set_up, tear_down),
		cmocka_unit_test_setup_teardown(embedded, make_dir, remove_dir),
	};

	program = argc > 1 ? argv[1] : getenv("VMCID");
	if (!program) {
		printf("$VMCID is not set\n");
		return 2;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
