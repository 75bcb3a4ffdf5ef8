/* SPDX-License-Identifier: BSD-2-Clause */
/* Doorbells, events, shared memory, names, rights and codes: each group's own behaviour. */
#include "fake.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "lib/lib.h"
#include "proto/dg.h"
#include "proto/discovery.h"
#include "proto/event.h"

static struct fake *fake;
static struct vmci *vmci;

static int set_up(void **state)
{
	(void)state;
	fake = fake_new();
	return vmci_open(fake_dir(fake), VMCI_CID_HOST, VMCI_OPEN_NO_START, &vmci);
}

static int tear_down(void **state)
{
	(void)state;
	vmci_close(vmci);
	fake_free(fake);
	return 0;
}

static bool is_readable(int fd)
{
	struct pollfd pollfd = { .fd = fd, .events = POLLIN };

	return poll(&pollfd, 1, 0) == 1 && pollfd.revents & POLLIN;
}

/* --- Doorbells ---------------------------------------------------------------------------------------------- */

static void rings(void **state)
{
	struct vmci_doorbell *doorbell;
	struct vmci_ringer *ringer;

	(void)state;
	assert_int_equal(vmci_doorbell_open(vmci, 2000, &doorbell), 0);
	assert_int_equal(vmci_doorbell_handle(doorbell).context, VMCI_CID_HOST);
	assert_int_equal(vmci_doorbell_handle(doorbell).resource, 2000);
	assert_int_equal(vmci_doorbell_wait(doorbell, 0), VMCI_ERROR_WOULD_BLOCK);
	assert_int_equal(vmci_doorbell_wait(doorbell, 10), VMCI_ERROR_TIMEOUT);
	assert_int_equal(vmci_ringer_open(vmci, vmci_doorbell_handle(doorbell), &ringer), 0);
	assert_false(is_readable(vmci_doorbell_fd(doorbell)));
	for (int i = 0; i < 3; i++)
		assert_int_equal(vmci_ringer_ring(ringer), 0);
	assert_true(is_readable(vmci_doorbell_fd(doorbell)));
	assert_int_equal(vmci_doorbell_wait(doorbell, -1), 3);
	assert_int_equal(vmci_doorbell_wait(doorbell, 0), VMCI_ERROR_WOULD_BLOCK);
	/* Ringing needs no broker, and what nobody hears is no error. */
	fake_die(fake);
	assert_int_equal(vmci_ringer_ring(ringer), 0);
	assert_int_equal(vmci_doorbell_wait(doorbell, -1), 1);
	fake_rise(fake);
	assert_null(vmci_doorbell_close(doorbell));
	assert_int_equal(vmci_ringer_ring(ringer), 0);
	assert_null(vmci_ringer_close(ringer));
	assert_null(vmci_doorbell_close(NULL));
	assert_null(vmci_ringer_close(NULL));
}

/* A count that is full does not stop who rings, whatever the owner has done to the eventfd's flags before. */
static void full(void **state)
{
	struct vmci_doorbell *doorbell;
	struct vmci_ringer *ringer;
	int fd;

	(void)state;
	assert_int_equal(vmci_doorbell_open(vmci, 2000, &doorbell), 0);
	fd = fake_bell(fake);
	assert_int_equal(fcntl(fd, F_SETFL, 0), 0);
	assert_int_equal(eventfd_write(fd, UINT64_MAX - 1), 0);
	assert_int_equal(vmci_ringer_open(vmci, vmci_doorbell_handle(doorbell), &ringer), 0);
	assert_int_equal(vmci_ringer_ring(ringer), 0);
	assert_int_equal(vmci_ringer_ring(ringer), 0);
	assert_true(vmci_doorbell_wait(doorbell, 0) == INT64_MAX);
	close(fd);
	vmci_ringer_close(ringer);
	vmci_doorbell_close(doorbell);
}

/* What is no eventfd could block who rings, or kill it by SIGPIPE. */
static void no_bell(void **state)
{
	struct vmci_handle handle = { 42, 1 };
	struct vmci_ringer *ringer;
	int fds[2];

	(void)state;
	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	close(fds[0]);
	fake_give(fake, fds[1], 0, 0);
	assert_int_equal(vmci_ringer_open(vmci, handle, &ringer), VMCI_ERROR_UNAVAILABLE);
	assert_non_null(strstr(vmci_errmsg(), "42:1"));
	fake_fault(fake, FAB_BELL_OPEN, 1, FAULT_REFUSE, VMCI_ERROR_NOT_FOUND);
	assert_int_equal(vmci_ringer_open(vmci, handle, &ringer), VMCI_ERROR_NOT_FOUND);
}

static void *hear(void *arg)
{
	static int result[2];
	static int n;
	int *mine = &result[__atomic_fetch_add(&n, 1, __ATOMIC_RELAXED)];

	*mine = (int)vmci_doorbell_wait(arg, -1);
	return mine;
}

static void bell_closes(void **state)
{
	struct vmci_doorbell *doorbell;
	pthread_t thread[2];
	void *result;

	(void)state;
	assert_int_equal(vmci_doorbell_open(vmci, 2000, &doorbell), 0);
	for (int i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&thread[i], NULL, hear, doorbell), 0);
	/* Who has not come so far hears the bell of a doorbell that is still there. */
	usleep(50000);
	vmci_doorbell_close(doorbell);
	for (int i = 0; i < 2; i++) {
		pthread_join(thread[i], &result);
		assert_int_equal(*(int *)result, VMCI_ERROR_NO_HANDLE);
	}
}

/* --- Events ------------------------------------------------------------------------------------------------- */

static void send_event(uint32_t id, uint32_t context, struct vmci_handle handle)
{
	struct event event = { .id = id, .context = context, .handle = handle };
	uint8_t dg[EVENT_MAX_SIZE];
	size_t size = event_build(dg, VMCI_CID_HOST, &event);

	assert_int_not_equal(size, 0);
	fake_event(fake, dg, size);
}

static void hears_events(void **state)
{
	struct vmci_handle none = { 0, 0 }, pair = { 2, 5555 };
	struct vmci_events *events, *second;
	struct vmci_event event;
	uint8_t junk[64] = { 0 };

	(void)state;
	assert_int_equal(vmci_events_open(vmci, &events), 0);
	assert_int_equal(vmci_events_open(vmci, &second), VMCI_ERROR_ALREADY_EXISTS);
	assert_int_equal(vmci_events_wait(events, 0, &event), VMCI_ERROR_WOULD_BLOCK);
	assert_int_equal(vmci_events_wait(events, 10, &event), VMCI_ERROR_TIMEOUT);

	/* What programs are told of; all else is passed over. */
	send_event(VMCI_EVENT_QP_RESUMED, 0, none);
	send_event(VMCI_EVENT_CTX_ID_UPDATE, 9, none);
	fake_event(fake, junk, sizeof(junk));
	fake_event(fake, junk, 5);
	send_event(VMCI_EVENT_CTX_REMOVED, 42, none);
	send_event(VMCI_EVENT_QP_PEER_ATTACH, 43, pair);
	send_event(VMCI_EVENT_QP_PEER_DETACH, 44, pair);
	assert_true(is_readable(vmci_events_fd(events)));
	assert_int_equal(vmci_events_wait(events, -1, &event), 0);
	assert_int_equal(event.id, VMCI_EVENT_CTX_REMOVED);
	assert_int_equal(event.context, 42);
	assert_int_equal(vmci_events_wait(events, -1, &event), 0);
	assert_int_equal(event.id, VMCI_EVENT_QP_PEER_ATTACH);
	assert_int_equal(event.context, 43);
	assert_int_equal(event.handle.context, 2);
	assert_int_equal(event.handle.resource, 5555);
	assert_int_equal(vmci_events_wait(events, 0, &event), 0);
	assert_int_equal(event.id, VMCI_EVENT_QP_PEER_DETACH);
	assert_int_equal(vmci_events_wait(events, 0, &event), VMCI_ERROR_WOULD_BLOCK);

	assert_null(vmci_events_close(events));
	assert_null(vmci_events_close(NULL));
	assert_int_equal(vmci_events_open(vmci, &events), 0);
	vmci_events_close(events);
}

static void watches(void **state)
{
	struct vmci_events *events;

	(void)state;
	assert_int_equal(vmci_events_open(vmci, &events), 0);
	for (uint32_t cid = 100; cid < 110; cid++)
		assert_int_equal(vmci_events_watch(events, cid), 0);
	fake_fault(fake, FAB_WATCH, 1, FAULT_REFUSE, VMCI_ERROR_ALREADY_EXISTS);
	assert_int_equal(vmci_events_watch(events, 100), VMCI_ERROR_ALREADY_EXISTS);
	assert_int_equal(vmci_events_unwatch(events, 104), 0);
	assert_int_equal(fake_seen(fake, FAB_WATCH, 11).msg.flags, FAB_F_OFF);
	fake_die(fake);
	fake_clear(fake);
	fake_rise(fake);
	assert_int_equal(vmci_events_watch(events, 111), 0);
	/* Nine were told, and this one. */
	assert_int_equal(fake_count(fake, FAB_WATCH), 10);
	for (unsigned i = 0; i < 10; i++)
		assert_int_not_equal(fake_seen(fake, FAB_WATCH, i).msg.handle.context, 104);
	fake_clear(fake);
	vmci_events_close(events);
	assert_int_equal(fake_count(fake, FAB_WATCH), 10);
}

/* --- Shared memory ------------------------------------------------------------------------------------------ */

static void shares(void **state)
{
	struct vmci_shm *shm, *other;
	uint64_t size = 0;
	char *mine, *theirs;

	(void)state;
	assert_int_equal(vmci_shm_create(vmci, 3000, 5000, &shm), 0);
	assert_int_equal(vmci_shm_size(shm), 5000);
	assert_int_equal(vmci_shm_handle(shm).resource, 3000);
	mine = vmci_shm_address(shm);
	for (int i = 0; i < 5000; i++)
		assert_int_equal(mine[i], 0);
	assert_int_equal(vmci_shm_query(vmci, vmci_shm_handle(shm), &size), 0);
	assert_int_equal(size, 5000);
	assert_int_equal(vmci_shm_attach(vmci, vmci_shm_handle(shm), &other), 0);
	assert_int_equal(vmci_shm_size(other), 5000);
	theirs = vmci_shm_address(other);
	assert_ptr_not_equal(mine, theirs);
	strcpy(mine + 4000, "hello");
	assert_string_equal(theirs + 4000, "hello");

	/* The attached one is told to a new broker as what it is. */
	fake_die(fake);
	fake_clear(fake);
	fake_rise(fake);
	assert_int_equal(vmci_shm_query(vmci, vmci_shm_handle(shm), &size), 0);
	assert_int_equal(fake_count(fake, FAB_SHM_CREATE), 1);
	assert_int_equal(fake_count(fake, FAB_SHM_HOLD), 1);
	assert_int_equal(fake_seen(fake, FAB_SHM_HOLD, 0).msg.size0, 5000);
	assert_int_equal(fake_seen(fake, FAB_SHM_HOLD, 0).msg.token[3], 0x55);
	assert_int_equal(fake_seen(fake, FAB_SHM_HOLD, 0).ino, fake_seen(fake, FAB_SHM_CREATE, 0).ino);
	assert_string_equal(theirs + 4000, "hello");

	assert_int_equal(vmci_shm_detach(other), VMCI_SUCCESS_LAST_DETACH);
	assert_int_equal(vmci_shm_detach(shm), VMCI_SUCCESS_LAST_DETACH);
	assert_int_equal(vmci_shm_detach(NULL), VMCI_ERROR_INVALID_ARGS);
}

static void sizes(void **state)
{
	struct vmci_shm *shm;

	(void)state;
	assert_int_equal(vmci_shm_create(vmci, VMCI_INVALID_ID, 0, &shm), VMCI_ERROR_INVALID_SIZE);
	assert_int_equal(vmci_shm_create(vmci, VMCI_INVALID_ID, (1ull << 30) + 1, &shm), VMCI_ERROR_INVALID_SIZE);
	assert_int_equal(vmci_shm_create(vmci, VMCI_INVALID_ID, UINT64_MAX, &shm), VMCI_ERROR_INVALID_SIZE);
	assert_int_equal(fake_count(fake, FAB_SHM_CREATE), 0);
	assert_int_equal(vmci_shm_create(vmci, VMCI_INVALID_ID, 1, &shm), 0);
	vmci_shm_detach(shm);
	assert_int_equal(vmci_shm_create(vmci, VMCI_INVALID_ID, 1ull << 30, &shm), 0);
	vmci_shm_detach(shm);
}

static int memory(uint64_t size, int seals)
{
	int fd = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	assert_int_equal(ftruncate(fd, (off_t)size), 0);
	assert_int_equal(fcntl(fd, F_ADD_SEALS, seals), 0);
	return fd;
}

/* Memory that is not what it is said to be would end us by SIGBUS: it is refused, and the attachment given back. */
static void false_memory(void **state)
{
	static const struct {
		uint64_t real, size, offset;
		int seals;
		int result;
	} cases[] = {
		{ 8192, 8192, 0, F_SEAL_SHRINK, 0 },
		{ 8192, 4096, 4096, F_SEAL_SHRINK, 0 },
		{ 8192, 100, 8092, F_SEAL_SHRINK, 0 },
		{ 8192, 8192, 0, F_SEAL_GROW, VMCI_ERROR_UNAVAILABLE },
		{ 8192, 8193, 0, F_SEAL_SHRINK, VMCI_ERROR_UNAVAILABLE },
		{ 8192, 8192, 1, F_SEAL_SHRINK, VMCI_ERROR_UNAVAILABLE },
		{ 8192, 1, 8192, F_SEAL_SHRINK, VMCI_ERROR_UNAVAILABLE },
		{ 8192, 4096, UINT64_MAX - 4095, F_SEAL_SHRINK, VMCI_ERROR_UNAVAILABLE },
		{ 8192, 0, 0, F_SEAL_SHRINK, VMCI_ERROR_UNAVAILABLE },
		{ 8192, UINT64_MAX, 0, F_SEAL_SHRINK, VMCI_ERROR_UNAVAILABLE },
		{ (1ull << 30) + 4096, (1ull << 30) + 1, 0, F_SEAL_SHRINK, VMCI_ERROR_UNAVAILABLE },
	};
	struct vmci_handle handle = { 42, 1 };
	struct vmci_shm *shm;
	int null;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		int fd = memory(cases[i].real, cases[i].seals), r;

		fake_clear(fake);
		fake_give(fake, fd, cases[i].size, cases[i].offset);
		r = vmci_shm_attach(vmci, handle, &shm);
		if (r != cases[i].result)
			fail_msg("case %zu: %d: %s", i, r, vmci_errmsg());
		if (!r) {
			/* Its first and last byte are those of the file. */
			char *at = vmci_shm_address(shm);
			char got[2];

			at[0] = 'a';
			at[cases[i].size - 1] = 'z';
			assert_int_equal(pread(fd, got, 1, (off_t)cases[i].offset), 1);
			assert_int_equal(pread(fd, got + 1, 1, (off_t)(cases[i].offset + cases[i].size - 1)), 1);
			assert_memory_equal(got, "az", 2);
			vmci_shm_detach(shm);
		}
		assert_int_equal(fake_count(fake, FAB_SHM_DETACH), 1);
	}
	null = open("/dev/null", O_RDWR | O_CLOEXEC);
	fake_give(fake, null, 1, 0);
	assert_int_equal(vmci_shm_attach(vmci, handle, &shm), VMCI_ERROR_UNAVAILABLE);
}

/* --- Names -------------------------------------------------------------------------------------------------- */

static void names(void **state)
{
	struct vmci_handle handle = { 2, 777 }, found = { 0, 0 };
	char longest[257];

	(void)state;
	memset(longest, 'n', sizeof(longest));
	longest[256] = '\0';
	assert_int_equal(vmci_name_register(vmci, longest, handle), VMCI_ERROR_INVALID_ARGS);
	assert_int_equal(vmci_name_register(vmci, "", handle), VMCI_ERROR_INVALID_ARGS);
	assert_int_equal(vmci_name_register(vmci, NULL, handle), VMCI_ERROR_INVALID_ARGS);
	assert_int_equal(vmci_name_lookup(vmci, longest, -1, &found), VMCI_ERROR_INVALID_ARGS);
	assert_int_equal(vmci_name_unregister(vmci, ""), VMCI_ERROR_INVALID_ARGS);
	assert_int_equal(fake_count(fake, FAB_NAME), 0);
	longest[255] = '\0';
	assert_int_equal(vmci_name_register(vmci, longest, handle), 0);
	assert_int_equal(vmci_name_register(vmci, longest, handle), VMCI_ERROR_ALREADY_EXISTS);
	assert_int_equal(vmci_name_lookup(vmci, longest, 0, &found), 0);
	assert_int_equal(found.context, 2);
	assert_int_equal(found.resource, 777);
	assert_int_equal(vmci_name_lookup(vmci, "other", 0, &found), VMCI_ERROR_NOT_FOUND);
	assert_int_equal(vmci_name_lookup(vmci, "other", 20, &found), VMCI_ERROR_NOT_FOUND);
	assert_non_null(strstr(vmci_errmsg(), "other"));
	assert_int_equal(vmci_name_unregister(vmci, "other"), VMCI_ERROR_NOT_FOUND);
	assert_int_equal(vmci_name_unregister(vmci, longest), 0);
	/* What was unregistered is not told to a new broker, what is there is told once. */
	assert_int_equal(vmci_name_register(vmci, "stays", handle), 0);
	fake_die(fake);
	fake_clear(fake);
	fake_rise(fake);
	assert_int_equal(vmci_name_lookup(vmci, "stays", 0, &found), 0);
	assert_int_equal(fake_count(fake, FAB_NAME), 2);
}

static void *register_later(void *arg)
{
	usleep(50000);
	vmci_name_register(vmci, arg, (struct vmci_handle){ 2, 888 });
	return NULL;
}

static void lookup_waits(void **state)
{
	static char name[] = "late";
	struct vmci_handle found;
	pthread_t thread;

	(void)state;
	assert_int_equal(pthread_create(&thread, NULL, register_later, name), 0);
	assert_int_equal(vmci_name_lookup(vmci, name, -1, &found), 0);
	assert_int_equal(found.resource, 888);
	pthread_join(thread, NULL);
}

/* --- Rights ------------------------------------------------------------------------------------------------- */

static void rights(void **state)
{
	struct vmci_handle client = { 42, 0 }, other = { 43, 0 }, resource;
	struct vmci_dgram *dgram;

	(void)state;
	assert_int_equal(vmci_dgram_open(vmci, 5000, &dgram), 0);
	resource = vmci_dgram_handle(dgram);
	assert_int_equal(vmci_grant(vmci, resource, client, 0x11, 0x02), 0);
	assert_int_equal(vmci_grant(vmci, resource, client, 0x02, 0x10), 0);
	assert_int_equal(vmci_grant(vmci, resource, other, 0x01, 0), 0);
	assert_int_equal(vmci_revoke(vmci, resource, client, 0x01), 0);
	assert_int_equal(vmci_revoke_all(vmci, resource, other), 0);
	assert_int_equal(fake_seen(fake, FAB_PRIV, 0).msg.size0, 0x11);
	assert_int_equal(fake_seen(fake, FAB_PRIV, 0).msg.size1, 0x02);
	assert_int_equal(fake_seen(fake, FAB_PRIV, 3).msg.flags, FAB_F_REMOVE);
	assert_int_equal(fake_seen(fake, FAB_PRIV, 3).msg.size0, 0x01);
	assert_int_equal(fake_seen(fake, FAB_PRIV, 4).msg.flags, FAB_F_REMOVE_ALL);
	assert_int_equal(vmci_check(vmci, resource, client, VMCI_PRIV_DG_SEND), VMCI_SUCCESS_ACCESS_GRANTED);
	assert_int_equal(fake_seen(fake, FAB_PRIV, 5).msg.size0, 1u << VMCI_PRIV_DG_SEND);
	assert_int_equal(vmci_check(vmci, resource, client, VMCI_PRIV_NUM), VMCI_ERROR_INVALID_PRIV);
	assert_int_equal(vmci_check(vmci, resource, client, UINT32_MAX), VMCI_ERROR_INVALID_PRIV);

	/*
	 * A new broker hears what is left, and that the resource is closed even to whom everything was revoked
	 * from.
	 */
	fake_die(fake);
	fake_clear(fake);
	fake_rise(fake);
	assert_int_equal(vmci_group_is_member(vmci, resource, client), 1);
	assert_int_equal(fake_count(fake, FAB_PRIV), 3);
	assert_int_equal(fake_seen(fake, FAB_PRIV, 0).msg.size0, 0x02);
	assert_int_equal(fake_seen(fake, FAB_PRIV, 0).msg.size1, 0x10);
	assert_int_equal(fake_seen(fake, FAB_PRIV, 1).msg.other.context, 43);
	assert_int_equal(fake_seen(fake, FAB_PRIV, 1).msg.flags, FAB_F_ADD);
	assert_int_equal(fake_seen(fake, FAB_PRIV, 2).msg.flags, FAB_F_REMOVE_ALL);

	/* It goes with the resource. */
	vmci_dgram_close(dgram);
	fake_die(fake);
	fake_clear(fake);
	fake_rise(fake);
	assert_int_equal(vmci_group_is_member(vmci, resource, client), 1);
	assert_int_equal(fake_count(fake, FAB_PRIV), 0);
}

static void groups(void **state)
{
	struct vmci_handle group, other, member = { 42, 0 }, second = { 43, 0 };

	(void)state;
	assert_int_equal(vmci_group_create(vmci, &group), 0);
	assert_int_equal(vmci_group_create(vmci, &other), 0);
	assert_int_equal(vmci_group_add(vmci, group, member, 0), 0);
	assert_int_equal(vmci_group_add(vmci, group, second, 1), 0);
	assert_int_equal(vmci_group_add(vmci, other, second, 1), 0);
	assert_int_equal(vmci_group_remove(vmci, group, member), 0);
	assert_int_equal(vmci_group_is_member(vmci, group, second), 1);
	fake_fault(fake, FAB_GROUP_MEMBER, 1, FAULT_REFUSE, VMCI_ERROR_NOT_FOUND);
	assert_int_equal(vmci_group_is_member(vmci, group, second), VMCI_ERROR_NOT_FOUND);
	assert_int_equal(vmci_group_destroy(vmci, other), 0);
	fake_die(fake);
	fake_clear(fake);
	fake_rise(fake);
	assert_int_equal(vmci_group_create(vmci, &other), 0);
	assert_int_equal(fake_count(fake, FAB_GROUP_CREATE), 2);
	assert_int_equal(fake_count(fake, FAB_GROUP_MEMBER), 1);
	assert_int_equal(fake_seen(fake, FAB_GROUP_MEMBER, 0).msg.other.context, 43);
}

/* --- Codes -------------------------------------------------------------------------------------------------- */

static void *other_message(void *arg)
{
	struct vmci *none;

	(void)arg;
	assert_string_equal(vmci_errmsg(), "");
	assert_int_equal(vmci_open(NULL, 3, 0, &none), VMCI_ERROR_INVALID_ARGS);
	assert_non_null(strstr(vmci_errmsg(), "context 3"));
	return NULL;
}

static void codes(void **state)
{
	pthread_t thread;
	struct vmci *none;

	(void)state;
	for (int code = VMCI_ERROR_WOULD_BLOCK; code <= VMCI_SUCCESS_QUEUEPAIR_ATTACH; code++) {
		assert_non_null(vmci_strerrorname(code));
		assert_true(strlen(vmci_strerror(code)) > 0);
		assert_int_equal(strncmp(vmci_strerrorname(code), code < 0 ? "VMCI_ERROR_" : "VMCI_SUCCESS",
					 code < 0 ? 11 : 12), 0);
	}
	assert_string_equal(vmci_strerrorname(VMCI_ERROR_NO_RESOURCES), "VMCI_ERROR_NO_RESOURCES");
	assert_string_equal(vmci_strerror(VMCI_ERROR_NO_RESOURCES), "no resources");
	assert_string_equal(vmci_strerrorname(VMCI_ERROR_WOULD_BLOCK), "VMCI_ERROR_WOULD_BLOCK");
	assert_null(vmci_strerrorname(VMCI_ERROR_WOULD_BLOCK - 1));
	assert_null(vmci_strerrorname(6));
	assert_null(vmci_strerrorname(INT_MIN));
	assert_null(vmci_strerrorname(INT_MAX));
	assert_non_null(vmci_strerror(INT_MIN));
	assert_non_null(vmci_strerror(INT_MAX));
	assert_int_equal(vmci_version(), 0 << 16 | 1 << 8 | 0);

	assert_int_equal(vmci_open(NULL, 5, 0, &none), VMCI_ERROR_INVALID_ARGS);
	assert_int_equal(pthread_create(&thread, NULL, other_message, NULL), 0);
	pthread_join(thread, NULL);
	assert_non_null(strstr(vmci_errmsg(), "context 5"));
	/* Messages that are too long are cut, at either end. */
	for (int i = 0; i < 100; i++)
		lib_where(0, "%s", "a place of some thirty characters");
	assert_true(strlen(vmci_errmsg()) > 900);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(rings, set_up, tear_down),
		cmocka_unit_test_setup_teardown(full, set_up, tear_down),
		cmocka_unit_test_setup_teardown(no_bell, set_up, tear_down),
		cmocka_unit_test_setup_teardown(bell_closes, set_up, tear_down),
		cmocka_unit_test_setup_teardown(hears_events, set_up, tear_down),
		cmocka_unit_test_setup_teardown(watches, set_up, tear_down),
		cmocka_unit_test_setup_teardown(shares, set_up, tear_down),
		cmocka_unit_test_setup_teardown(sizes, set_up, tear_down),
		cmocka_unit_test_setup_teardown(false_memory, set_up, tear_down),
		cmocka_unit_test_setup_teardown(names, set_up, tear_down),
		cmocka_unit_test_setup_teardown(lookup_waits, set_up, tear_down),
		cmocka_unit_test_setup_teardown(rights, set_up, tear_down),
		cmocka_unit_test_setup_teardown(groups, set_up, tear_down),
		cmocka_unit_test(codes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
