/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Every exchange, with a broker that ends or talks nonsense before, in and after it; and every step of coming back.
 */
#include "fake.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct rig {
	struct fake *fake;
	struct vmci *vmci;
	struct vmci_dgram *dgram;
	struct vmci_doorbell *doorbell;
	struct vmci_events *events;
	struct vmci_shm *shm;
	struct vmci_handle group;
};

static struct rig rig;
static const struct vmci_handle SOMEBODY = { 42, 0 };

static int set_up(void **state)
{
	(void)state;
	memset(&rig, 0, sizeof(rig));
	rig.fake = fake_new();
	if (vmci_open(fake_dir(rig.fake), VMCI_CID_HOST, VMCI_OPEN_NO_START, &rig.vmci))
		return -1;
	return vmci_dgram_open(rig.vmci, 1024, &rig.dgram);
}

static int tear_down(void **state)
{
	(void)state;
	vmci_events_close(rig.events);
	vmci_doorbell_close(rig.doorbell);
	vmci_dgram_close(rig.dgram);
	if (rig.shm)
		vmci_shm_detach(rig.shm);
	vmci_close(rig.vmci);
	fake_free(rig.fake);
	return 0;
}

/* --- Exchanges ---------------------------------------------------------------------------------------------- */

static int do_dgram(void)
{
	struct vmci_dgram *dgram;
	int r = vmci_dgram_open(rig.vmci, VMCI_INVALID_ID, &dgram);

	if (!r)
		vmci_dgram_close(dgram);
	return r;
}

static int do_send(void)
{
	return vmci_dgram_send(rig.dgram, vmci_dgram_handle(rig.dgram), "hello", 5);
}

static int do_doorbell(void)
{
	struct vmci_doorbell *doorbell;
	int r = vmci_doorbell_open(rig.vmci, VMCI_INVALID_ID, &doorbell);

	if (!r)
		vmci_doorbell_close(doorbell);
	return r;
}

static int do_ringer(void)
{
	struct vmci_doorbell *doorbell;
	struct vmci_ringer *ringer;
	int r = vmci_doorbell_open(rig.vmci, 4000, &doorbell);

	if (r)
		return r;
	r = vmci_ringer_open(rig.vmci, vmci_doorbell_handle(doorbell), &ringer);
	if (!r)
		vmci_ringer_close(ringer);
	vmci_doorbell_close(doorbell);
	return r;
}

static int do_events(void)
{
	struct vmci_events *events;
	int r = vmci_events_open(rig.vmci, &events);

	if (!r)
		vmci_events_close(events);
	return r;
}

static int do_watch(void)
{
	struct vmci_events *events;
	int r = vmci_events_open(rig.vmci, &events);

	if (r)
		return r;
	r = vmci_events_watch(events, 99);
	vmci_events_close(events);
	return r;
}

static int do_qpair(void)
{
	struct vmci_qpair *qpair;
	int r = vmci_qpair_create(rig.vmci, VMCI_INVALID_ID, VMCI_INVALID_ID, 4096, 4096, 0, &qpair);

	if (!r)
		vmci_qpair_close(qpair);
	return r;
}

static int do_shm_create(void)
{
	struct vmci_shm *shm;
	int r = vmci_shm_create(rig.vmci, VMCI_INVALID_ID, 10000, &shm);

	if (!r)
		vmci_shm_detach(shm);
	return r;
}

static int do_shm_query(void)
{
	struct vmci_shm *shm;
	uint64_t size;
	int r = vmci_shm_create(rig.vmci, VMCI_INVALID_ID, 10000, &shm);

	if (r)
		return r;
	r = vmci_shm_query(rig.vmci, vmci_shm_handle(shm), &size);
	if (!r)
		assert_int_equal(size, 10000);
	vmci_shm_detach(shm);
	return r;
}

static int do_shm_attach(void)
{
	struct vmci_shm *shm, *attached;
	int r = vmci_shm_create(rig.vmci, VMCI_INVALID_ID, 10000, &shm);

	if (r)
		return r;
	r = vmci_shm_attach(rig.vmci, vmci_shm_handle(shm), &attached);
	if (!r)
		vmci_shm_detach(attached);
	vmci_shm_detach(shm);
	return r;
}

static int do_name(void)
{
	struct vmci_handle handle;
	int r = vmci_name_register(rig.vmci, "a name", vmci_dgram_handle(rig.dgram));

	if (r)
		return r;
	r = vmci_name_lookup(rig.vmci, "a name", 0, &handle);
	if (!r)
		assert_int_equal(handle.resource, 1024);
	if (!r)
		r = vmci_name_unregister(rig.vmci, "a name");
	return r;
}

static int do_grant(void)
{
	return vmci_grant(rig.vmci, vmci_dgram_handle(rig.dgram), SOMEBODY, 1u << VMCI_PRIV_DG_SEND, 0);
}

static int do_check(void)
{
	int r = vmci_check(rig.vmci, vmci_dgram_handle(rig.dgram), SOMEBODY, VMCI_PRIV_DG_SEND);

	return r == VMCI_SUCCESS_ACCESS_GRANTED ? 0 : r;
}

static int do_group(void)
{
	struct vmci_handle group;
	int r = vmci_group_create(rig.vmci, &group);

	return r ? r : vmci_group_destroy(rig.vmci, group);
}

static int do_member(void)
{
	struct vmci_handle group;
	int r = vmci_group_create(rig.vmci, &group);

	if (!r)
		r = vmci_group_add(rig.vmci, group, SOMEBODY, 1);
	if (!r)
		r = vmci_group_is_member(rig.vmci, group, SOMEBODY) == 1 ? 0 : -1;
	if (!r)
		r = vmci_group_remove(rig.vmci, group, SOMEBODY);
	return r;
}

/* @nth: at how many requests of the type the trouble begins; they are the same exchange otherwise */
static const struct exchange {
	const char *name;
	int (*run)(void);
	enum fab_type type;
	unsigned steps;
} exchanges[] = {
	{ "dgram_open", do_dgram, FAB_DG_CREATE, 1 },
	{ "dgram_close", do_dgram, FAB_DG_DESTROY, 1 },
	{ "dgram_send", do_send, FAB_DG_SEND, 1 },
	{ "doorbell_open", do_doorbell, FAB_BELL_CREATE, 1 },
	{ "doorbell_close", do_doorbell, FAB_BELL_DESTROY, 1 },
	{ "ringer_open", do_ringer, FAB_BELL_OPEN, 1 },
	{ "events_open", do_events, FAB_EVENTS, 1 },
	{ "events_watch", do_watch, FAB_WATCH, 2 },
	{ "qpair_create", do_qpair, FAB_QP_CREATE, 1 },
	{ "qpair_close", do_qpair, FAB_QP_DETACH, 1 },
	{ "shm_create", do_shm_create, FAB_SHM_CREATE, 1 },
	{ "shm_query", do_shm_query, FAB_SHM_QUERY, 1 },
	{ "shm_attach", do_shm_attach, FAB_SHM_ATTACH, 1 },
	{ "shm_detach", do_shm_attach, FAB_SHM_DETACH, 2 },
	{ "name", do_name, FAB_NAME, 3 },
	{ "grant", do_grant, FAB_PRIV, 1 },
	{ "check", do_check, FAB_PRIV, 1 },
	{ "group_create", do_group, FAB_GROUP_CREATE, 1 },
	{ "group_destroy", do_group, FAB_GROUP_DESTROY, 1 },
	{ "member", do_member, FAB_GROUP_MEMBER, 3 },
};

#define EXCHANGES (sizeof(exchanges) / sizeof(exchanges[0]))

static bool is_destroy(enum fab_type type)
{
	return type == FAB_DG_DESTROY || type == FAB_BELL_DESTROY || type == FAB_QP_DETACH || type == FAB_SHM_DETACH;
}

/* All goes on as if nothing had happened, but for a datagram, of which nobody knows. */
static void exchange_breaks(const struct exchange *exchange, unsigned nth, enum fault fault)
{
	int r;

	fake_fault(rig.fake, exchange->type, nth, fault, 0);
	r = exchange->run();
	if (exchange->run == do_send && fault != FAULT_DIE_AFTER) {
		if (r != VMCI_ERROR_DATAGRAM_FAILED)
			fail_msg("%s, step %u, fault %d: %d", exchange->name, nth, fault, r);
		r = 0;
	}
	if (r != (exchange->run == do_send && fault == FAULT_DIE_AFTER ? 5 : 0))
		fail_msg("%s, step %u, fault %d: %d: %s", exchange->name, nth, fault, r, vmci_errmsg());
	r = do_send();
	/* The connection may have ended behind the last reply. */
	if (r == VMCI_ERROR_DATAGRAM_FAILED)
		r = do_send();
	if (r != 5)
		fail_msg("after %s, step %u, fault %d: %d: %s", exchange->name, nth, fault, r, vmci_errmsg());
}

static void breaks(void **state)
{
	unsigned before = fds_open(), waited = 0;

	(void)state;
	for (size_t i = 0; i < EXCHANGES; i++)
		for (enum fault fault = FAULT_DIE_BEFORE; fault < FAULT_REFUSE; fault++)
			for (unsigned nth = 1; nth <= exchanges[i].steps; nth++)
				exchange_breaks(&exchanges[i], nth, fault);
	fake_fault(rig.fake, FAB_HELLO, 0, FAULT_NONE, 0);
	/* The fake broker keeps the descriptors of the last endpoint, doorbell, queue and region: five at most. */
	while (fds_open() > before + 5)
		assert_true(in_time(&waited));
}

static void refusals(void **state)
{
	(void)state;
	for (size_t i = 0; i < EXCHANGES; i++)
		for (unsigned nth = 1; nth <= exchanges[i].steps; nth++) {
			int r;

			fake_fault(rig.fake, exchanges[i].type, nth, FAULT_REFUSE, VMCI_ERROR_NO_RESOURCES);
			r = exchanges[i].run();
			if (is_destroy(exchanges[i].type) || (exchanges[i].run == do_watch && nth == 2)) {
				assert_int_equal(r, 0);
				continue;
			}
			if (r != VMCI_ERROR_NO_RESOURCES && r != -1)
				fail_msg("%s, step %u: %d", exchanges[i].name, nth, r);
			if (!strstr(vmci_errmsg(), vmci_strerror(VMCI_ERROR_NO_RESOURCES)))
				fail_msg("%s, step %u: \"%s\"", exchanges[i].name, nth, vmci_errmsg());
			vmci_name_unregister(rig.vmci, "a name");
		}
	assert_int_equal(fake_hellos(rig.fake), 1);
}

/* A broker that says nothing is left, after 5 s. */
static void silence(void **state)
{
	(void)state;
	fake_fault(rig.fake, FAB_DG_CREATE, 1, FAULT_SILENT, 0);
	assert_int_equal(do_dgram(), VMCI_ERROR_UNAVAILABLE);
	assert_non_null(strstr(vmci_errmsg(), "does not answer"));
	assert_int_equal(do_dgram(), 0);
	assert_int_equal(fake_hellos(rig.fake), 2);
	fake_fault(rig.fake, FAB_DG_SEND, 1, FAULT_SILENT, 0);
	assert_int_equal(do_send(), VMCI_ERROR_DATAGRAM_FAILED);
	assert_int_equal(do_send(), 5);
	assert_int_equal(fake_hellos(rig.fake), 3);
}

/* --- Coming back -------------------------------------------------------------------------------------------- */

/* Everything that a membership can have. */
static void have_all(void)
{
	assert_int_equal(vmci_doorbell_open(rig.vmci, 2000, &rig.doorbell), 0);
	assert_int_equal(vmci_events_open(rig.vmci, &rig.events), 0);
	assert_int_equal(vmci_events_watch(rig.events, 50), 0);
	assert_int_equal(vmci_events_watch(rig.events, 51), 0);
	assert_int_equal(vmci_shm_create(rig.vmci, 3000, 12345, &rig.shm), 0);
	assert_int_equal(vmci_name_register(rig.vmci, "mine", vmci_dgram_handle(rig.dgram)), 0);
	assert_int_equal(vmci_group_create(rig.vmci, &rig.group), 0);
	assert_int_equal(vmci_group_add(rig.vmci, rig.group, SOMEBODY, 1), 0);
	assert_int_equal(vmci_grant(rig.vmci, vmci_dgram_handle(rig.dgram), rig.group, 1u << VMCI_PRIV_DG_SEND, 0),
			 0);
}

/* @all: nothing has been closed; otherwise a call may have come before the broker heard of all */
static void assert_all_told(bool all)
{
	static const struct {
		enum fab_type type;
		unsigned n;
	} told[] = { { FAB_HELLO, 1 }, { FAB_DG_CREATE, 1 }, { FAB_BELL_CREATE, 1 }, { FAB_EVENTS, 1 },
		     { FAB_WATCH, 2 }, { FAB_SHM_CREATE, 1 }, { FAB_NAME, 1 }, { FAB_GROUP_CREATE, 1 },
		     { FAB_GROUP_MEMBER, 1 }, { FAB_PRIV, 1 } };

	for (size_t i = 0; i < sizeof(told) / sizeof(told[0]); i++) {
		unsigned n = fake_count(rig.fake, told[i].type);

		if (all ? n != told[i].n : n < told[i].n)
			fail_msg("%s %u times", fab_type_to_string(told[i].type), n);
	}
}

static void comes_back(void **state)
{
	struct seen first_dgram = fake_seen(rig.fake, FAB_DG_CREATE, 0), seen;
	struct seen first_bell, first_shm, first_events;
	uint8_t token[FAB_TOKEN_SIZE];

	(void)state;
	have_all();
	first_bell = fake_seen(rig.fake, FAB_BELL_CREATE, 0);
	first_shm = fake_seen(rig.fake, FAB_SHM_CREATE, 0);
	first_events = fake_seen(rig.fake, FAB_EVENTS, 0);
	fake_die(rig.fake);
	fake_clear(rig.fake);
	fake_rise(rig.fake);
	assert_int_equal(do_send(), 5);
	assert_all_told(true);

	seen = fake_seen(rig.fake, FAB_HELLO, 0);
	assert_int_equal(seen.msg.flags, FAB_F_RESUME);
	memset(token, 0x11, sizeof(token));
	assert_memory_equal(seen.msg.token, token, sizeof(token));

	seen = fake_seen(rig.fake, FAB_DG_CREATE, 0);
	assert_int_equal(seen.msg.flags, FAB_F_RESUME);
	assert_int_equal(seen.msg.handle.resource, 1024);
	memset(token, (1024 & 0x7f) + 1, sizeof(token));
	assert_memory_equal(seen.msg.token, token, sizeof(token));
	assert_int_equal(seen.ino, first_dgram.ino);

	seen = fake_seen(rig.fake, FAB_BELL_CREATE, 0);
	assert_int_equal(seen.msg.flags, FAB_F_RESUME);
	assert_int_equal(seen.msg.handle.resource, 2000);
	assert_int_equal(seen.ino, first_bell.ino);
	assert_int_equal(fake_seen(rig.fake, FAB_EVENTS, 0).ino, first_events.ino);
	assert_int_equal(fake_seen(rig.fake, FAB_WATCH, 0).msg.handle.context, 50);
	assert_int_equal(fake_seen(rig.fake, FAB_WATCH, 1).msg.handle.context, 51);

	seen = fake_seen(rig.fake, FAB_SHM_CREATE, 0);
	assert_int_equal(seen.msg.flags, FAB_F_RESUME);
	assert_int_equal(seen.msg.size0, 12345);
	assert_int_equal(seen.msg.handle.resource, 3000);
	assert_int_equal(seen.ino, first_shm.ino);
	memset(token, (3000 & 0x7f) + 1, sizeof(token));
	assert_memory_equal(seen.msg.token, token, sizeof(token));

	seen = fake_seen(rig.fake, FAB_NAME, 0);
	assert_int_equal(seen.msg.flags, FAB_F_RESUME);
	memset(token, 0x77, sizeof(token));
	assert_memory_equal(seen.msg.token, token, sizeof(token));

	seen = fake_seen(rig.fake, FAB_GROUP_CREATE, 0);
	assert_int_equal(seen.msg.flags, FAB_F_RESUME);
	assert_int_equal(seen.msg.handle.resource, rig.group.resource);
	seen = fake_seen(rig.fake, FAB_GROUP_MEMBER, 0);
	assert_int_equal(seen.msg.flags, FAB_F_ADD | FAB_F_ASSIGN);
	assert_int_equal(seen.msg.other.context, SOMEBODY.context);
	seen = fake_seen(rig.fake, FAB_PRIV, 0);
	assert_int_equal(seen.msg.flags, FAB_F_ADD);
	assert_int_equal(seen.msg.handle.resource, 1024);
	assert_int_equal(seen.msg.other.resource, rig.group.resource);
	assert_int_equal(seen.msg.size0, 1u << VMCI_PRIV_DG_SEND);
}

/* The new broker ends in the middle of it; the next one is told of everything. */
static void ends_while_coming_back(void **state)
{
	static const struct {
		enum fab_type type;
		unsigned nth;
	} steps[] = { { FAB_HELLO, 1 }, { FAB_DG_CREATE, 1 }, { FAB_BELL_CREATE, 1 }, { FAB_EVENTS, 1 },
		      { FAB_WATCH, 1 }, { FAB_WATCH, 2 }, { FAB_SHM_CREATE, 1 }, { FAB_NAME, 1 },
		      { FAB_GROUP_CREATE, 1 }, { FAB_GROUP_MEMBER, 1 }, { FAB_PRIV, 1 } };
	static const enum fault faults[] = { FAULT_DIE_BEFORE, FAULT_DIE_AFTER, FAULT_GARBAGE, FAULT_TYPE,
					     FAULT_NO_FDS };

	(void)state;
	have_all();
	for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++)
		for (size_t j = 0; j < sizeof(faults) / sizeof(faults[0]); j++) {
			int r;

			fake_die(rig.fake);
			fake_clear(rig.fake);
			fake_fault(rig.fake, steps[i].type, steps[i].nth, faults[j], 0);
			fake_rise(rig.fake);
			r = do_send();
			if (r == VMCI_ERROR_DATAGRAM_FAILED)
				r = do_send();
			if (r != 5)
				fail_msg("step %zu, fault %d: %d: %s", i, faults[j], r, vmci_errmsg());
			assert_all_told(false);
		}
}

static void *wait_for_datagram(void *arg)
{
	static int result;
	char buf[8];

	(void)arg;
	result = vmci_dgram_recv(rig.dgram, buf, sizeof(buf), -1, NULL);
	return &result;
}

static void *wait_for_ring(void *arg)
{
	static int result;

	(void)arg;
	result = (int)vmci_doorbell_wait(rig.doorbell, -1);
	return &result;
}

/* What the new broker refuses is lost: who waits for it hears of it, and what had arrived can be taken. */
static void refused_when_coming_back(void **state)
{
	pthread_t receiver, listener;
	char buf[8];
	void *result;

	(void)state;
	have_all();
	assert_int_equal(pthread_create(&receiver, NULL, wait_for_datagram, NULL), 0);
	fake_die(rig.fake);
	fake_fault(rig.fake, FAB_DG_CREATE, 1, FAULT_REFUSE, VMCI_ERROR_NO_ACCESS);
	fake_rise(rig.fake);
	pthread_join(receiver, &result);
	assert_int_equal(*(int *)result, VMCI_ERROR_NO_HANDLE);
	assert_int_equal(do_send(), VMCI_ERROR_NO_HANDLE);
	assert_int_equal(vmci_dgram_recv(rig.dgram, buf, sizeof(buf), -1, NULL), VMCI_ERROR_NO_HANDLE);

	assert_int_equal(pthread_create(&listener, NULL, wait_for_ring, NULL), 0);
	fake_die(rig.fake);
	fake_fault(rig.fake, FAB_BELL_CREATE, 1, FAULT_REFUSE, VMCI_ERROR_NO_ACCESS);
	fake_rise(rig.fake);
	pthread_join(listener, &result);
	assert_int_equal(*(int *)result, VMCI_ERROR_NO_HANDLE);

	/* A lost endpoint is not told again, and is closed without a word. */
	fake_die(rig.fake);
	fake_clear(rig.fake);
	fake_rise(rig.fake);
	assert_int_equal(do_dgram(), 0);
	assert_int_equal(fake_count(rig.fake, FAB_DG_CREATE), 1);
	assert_int_equal(fake_count(rig.fake, FAB_BELL_CREATE), 0);
	rig.dgram = vmci_dgram_close(rig.dgram);
	assert_int_equal(fake_count(rig.fake, FAB_DG_DESTROY), 1);
}

static void what_has_arrived_stays(void **state)
{
	struct vmci_handle src = { 7, 8 };
	char buf[8];

	(void)state;
	fake_deliver(rig.fake, src, 3, "old", 3);
	fake_die(rig.fake);
	assert_int_equal(vmci_dgram_recv(rig.dgram, buf, sizeof(buf), 20, NULL), 3);
	assert_int_equal(vmci_dgram_recv(rig.dgram, buf, sizeof(buf), 20, NULL), VMCI_ERROR_TIMEOUT);
	fake_rise(rig.fake);
	fake_wait_hellos(rig.fake, 2);
	assert_int_equal(do_send(), 5);
	fake_deliver(rig.fake, src, 3, "new", 3);
	assert_int_equal(vmci_dgram_recv(rig.dgram, buf, sizeof(buf), -1, NULL), 3);
	assert_memory_equal(buf, "new", 3);
}

/* --- No broker ---------------------------------------------------------------------------------------------- */

static void no_broker(void **state)
{
	(void)state;
	have_all();
	fake_die(rig.fake);
	assert_int_equal(do_dgram(), VMCI_ERROR_UNAVAILABLE);
	assert_non_null(strstr(vmci_errmsg(), "no broker at"));
	assert_non_null(strstr(vmci_errmsg(), fake_dir(rig.fake)));
	assert_int_equal(do_send(), VMCI_ERROR_UNAVAILABLE);
	/* Closing does not wait for one; the next broker does not hear of what is closed, nor of its name. */
	rig.doorbell = vmci_doorbell_close(rig.doorbell);
	rig.dgram = vmci_dgram_close(rig.dgram);
	rig.events = vmci_events_close(rig.events);
	assert_int_equal(vmci_shm_detach(rig.shm), VMCI_SUCCESS);
	rig.shm = NULL;
	fake_clear(rig.fake);
	fake_rise(rig.fake);
	assert_int_equal(do_group(), 0);
	assert_int_equal(fake_count(rig.fake, FAB_HELLO), 1);
	assert_int_equal(fake_count(rig.fake, FAB_DG_CREATE), 0);
	assert_int_equal(fake_count(rig.fake, FAB_BELL_CREATE), 0);
	assert_int_equal(fake_count(rig.fake, FAB_EVENTS), 0);
	assert_int_equal(fake_count(rig.fake, FAB_SHM_CREATE), 0);
	assert_int_equal(fake_count(rig.fake, FAB_NAME), 0);
	assert_int_equal(fake_count(rig.fake, FAB_PRIV), 0);
	assert_int_equal(fake_count(rig.fake, FAB_GROUP_MEMBER), 1);
}

static void *open_one(void *arg)
{
	(void)arg;
	return do_dgram() ? (void *)vmci_errmsg() : NULL;
}

/* Calls wait for the next broker, which is quick. */
static void calls_wait(void **state)
{
	pthread_t thread[3];
	void *error;

	(void)state;
	fake_die(rig.fake);
	for (int i = 0; i < 3; i++)
		assert_int_equal(pthread_create(&thread[i], NULL, open_one, NULL), 0);
	usleep(20000);
	fake_rise(rig.fake);
	for (int i = 0; i < 3; i++) {
		pthread_join(thread[i], &error);
		assert_null(error);
	}
}

/* vmci_close() does not wait for a broker that is not there. */
static void closes_without_broker(void **state)
{
	unsigned before = fds_open();
	struct vmci *other;

	(void)state;
	assert_int_equal(vmci_open(fake_dir(rig.fake), VMCI_CID_HOST, VMCI_OPEN_NO_START, &other), 0);
	fake_die(rig.fake);
	assert_null(vmci_close(other));
	rig.dgram = vmci_dgram_close(rig.dgram);
	rig.vmci = vmci_close(rig.vmci);
	assert_true(fds_open() < before);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(breaks, set_up, tear_down),
		cmocka_unit_test_setup_teardown(refusals, set_up, tear_down),
		cmocka_unit_test_setup_teardown(silence, set_up, tear_down),
		cmocka_unit_test_setup_teardown(comes_back, set_up, tear_down),
		cmocka_unit_test_setup_teardown(ends_while_coming_back, set_up, tear_down),
		cmocka_unit_test_setup_teardown(refused_when_coming_back, set_up, tear_down),
		cmocka_unit_test_setup_teardown(what_has_arrived_stays, set_up, tear_down),
		cmocka_unit_test_setup_teardown(no_broker, set_up, tear_down),
		cmocka_unit_test_setup_teardown(calls_wait, set_up, tear_down),
		cmocka_unit_test_setup_teardown(closes_without_broker, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
