/* SPDX-License-Identifier: BSD-2-Clause */
/* Queue pairs between a guest and a program: who begins, who leaves or dies when, and who breaks what. */
#include "bench.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

static const struct vmci_handle mine = { CID, 2000 };
static const struct vmci_handle theirs = { OTHER, 3000 };

#define PPN 0x100u
#define BIG 200000u

/* The guest makes a pair for anybody, and OTHER attaches. */
static struct ring *open_pair(struct bench *b, struct pair *p, uint64_t produce, uint64_t consume)
{
	assert_int_equal(guest_alloc(b, p, PPN, mine, VMCI_INVALID_ID, 0, produce, consume),
			 VMCI_SUCCESS_QUEUEPAIR_CREATE);
	return attach_peer(b, p);
}

static struct fab_msg attach_question(const struct pair *p)
{
	return (struct fab_msg){
		.type = FAB_QP_ATTACH, .handle = p->handle, .other.context = OTHER,
		.size0 = p->consume, .size1 = p->produce,
	};
}

/* The program's eye on its end. */
static enum ring_state look(struct ring *ring)
{
	ring_hear(ring, false);
	return ring_state(ring);
}

/* Move @n bytes, in both directions at once, in pieces, through the rings. */
static void exchange(struct bench *b, struct pair *p, struct ring *ring, size_t n)
{
	size_t sent = 0, got = 0, back = 0, returned = 0;
	int64_t end = now_ms() + LONG_MS;
	uint8_t buf[1000];

	while (got < n || returned < n) {
		size_t len = 1 + (sent * 13 + got) % sizeof(buf);
		int64_t r;

		assert_true(now_ms() < end);
		for (size_t i = 0; i < len; i++)
			buf[i] = pattern(1, sent + i);
		sent += guest_write(p, buf, len < n - sent ? len : n - sent);
		for (size_t i = 0; i < len; i++)
			buf[i] = pattern(2, back + i);
		r = ring_write(ring, buf, len < n - back ? len : n - back);
		assert_true(r >= 0);
		back += (size_t)r;
		turn(b);
		r = ring_read(ring, buf, sizeof(buf));
		assert_true(r >= 0);
		for (int64_t i = 0; i < r; i++)
			assert_int_equal(buf[i], pattern(1, got + (size_t)i));
		got += (size_t)r;
		len = guest_read(p, buf, sizeof(buf));
		for (size_t i = 0; i < len; i++)
			assert_int_equal(buf[i], pattern(2, returned + i));
		returned += len;
	}
}

/* --- Made by the guest -------------------------------------------------------------------------------------- */

static void test_bytes_both_ways(void **state)
{
	struct bench *b = *state;
	struct pair p;
	struct ring *ring = open_pair(b, &p, 8192, 4096);

	exchange(b, &p, ring, BIG);
	assert_int_equal(heard(b, FAB_WATCH).handle.context, OTHER);
	ring_free(ring);
}

static void test_odd_sizes(void **state)
{
	struct bench *b = *state;
	struct pair p;
	struct ring *ring = open_pair(b, &p, 5000, 7);

	exchange(b, &p, ring, 3000);
	ring_free(ring);
}

static void test_one_direction_only(void **state)
{
	struct bench *b = *state;
	struct pair p;
	struct ring *ring = open_pair(b, &p, 4096, 0);
	char buf[8];

	assert_int_equal(guest_write(&p, "hello", 5), 5);
	until(b, ring_ready(ring, 5) == 5);
	assert_int_equal(ring_read(ring, buf, sizeof(buf)), 5);
	assert_memory_equal(buf, "hello", 5);
	assert_int_equal(ring_write(ring, "x", 1), 0);
	ring_free(ring);
}

/* A peer that sleeps is woken, although the guest tells nobody that it writes. */
static void test_a_sleeping_peer_is_woken(void **state)
{
	struct bench *b = *state;
	struct pair p;
	struct ring *ring = open_pair(b, &p, 4096, 4096);
	struct pollfd fd = { .fd = ring_fd(ring), .events = POLLIN };

	usleep(2000);
	turn(b);
	assert_int_equal(ring_arm(ring, RING_IN), 0);
	assert_int_equal(guest_write(&p, "x", 1), 1);
	until(b, poll(&fd, 1, 0) == 1);
	assert_int_equal(ring_ready(ring, 1), 1);

	/* It fills its ring and sleeps until there is room. */
	while (ring_write(ring, "0123456789", 10) > 0)
		turn(b);
	ring_hear(ring, false);
	assert_int_equal(ring_arm(ring, RING_OUT), 0);
	assert_int_equal(poll(&fd, 1, 0), 0);
	assert_int_equal(guest_read(&p, (char[100]){ 0 }, 100), 100);
	until(b, poll(&fd, 1, 0) == 1);
	assert_true(ring_room(ring, 1) > 0);
	ring_free(ring);
}

/* And wakes us: without this the loop would sleep until the guest is looked at again. */
static void test_a_peer_wakes_the_loop(void **state)
{
	struct bench *b = *state;
	struct pair p;
	struct ring *ring = open_pair(b, &p, 4096, 4096);
	int64_t end = now_ms() + LONG_MS;

	while (fabric_run(b->f)) {
		assert_true(now_ms() < end);
		sd_event_run(b->event, 0);
	}
	assert_int_equal(ring_write(ring, "x", 1), 1);
	assert_true(sd_event_run(b->event, LONG_MS * 1000) > 0);
	assert_true(fabric_run(b->f));
	assert_int_equal(guest_read(&p, (char[2]){ 0 }, 2), 1);
	ring_free(ring);
}

static void test_refused_attaches(void **state)
{
	struct bench *b = *state;
	struct pair p = { .handle = mine, .produce = 4096, .consume = 8192 };
	struct fab_msg question = attach_question(&p);

	assert_int_equal(asks(b, question).status, VMCI_ERROR_NOT_FOUND);
	assert_int_equal(guest_alloc(b, &p, PPN, mine, OTHER, 0, 4096, 8192), VMCI_SUCCESS_QUEUEPAIR_CREATE);
	question.size0 = 4096;
	assert_int_equal(asks(b, question).status, VMCI_ERROR_QUEUEPAIR_MISMATCH);
	question.size0 = UINT64_MAX;
	assert_int_equal(asks(b, question).status, VMCI_ERROR_QUEUEPAIR_MISMATCH);
	question = attach_question(&p);
	question.other.context = OTHER + 1;
	assert_int_equal(asks(b, question).status, VMCI_ERROR_NO_ACCESS);
	question.other.context = OTHER;
	question.handle.context = OTHER;
	assert_int_equal(asks(b, question).status, VMCI_ERROR_NOT_FOUND);
	assert_int_equal(b->rig->dev->inbox.count, 0);
	ring_free(attach_peer(b, &p));
}

static void test_only_one_attaches(void **state)
{
	struct bench *b = *state;
	struct pair p;
	struct fab_msg first;
	struct ring *ring;

	guest_alloc(b, &p, PPN, mine, VMCI_INVALID_ID, 0, 4096, 4096);
	first = asks(b, attach_question(&p));
	assert_int_equal(first.status, VMCI_SUCCESS_QUEUEPAIR_ATTACH);
	assert_int_equal(asks(b, attach_question(&p)).status, VMCI_ERROR_UNAVAILABLE);
	ring = peer_maps(first.fd, 4096, 4096);
	turn(b);
	assert_int_equal(asks(b, attach_question(&p)).status, VMCI_ERROR_UNAVAILABLE);
	ring_free(ring);
	until(b, b->rig->dev->inbox.count == 2);
	assert_int_equal(asks(b, attach_question(&p)).status, VMCI_ERROR_UNAVAILABLE);
}

/* Whoever gets the memory and never maps it has not attached: the guest hears nothing, and the next may. */
static void test_a_peer_that_dies_before_it_maps(void **state)
{
	struct bench *b = *state;
	struct fab_msg answer;
	struct pair p;

	guest_alloc(b, &p, PPN, mine, VMCI_INVALID_ID, 0, 4096, 4096);
	answer = asks(b, attach_question(&p));
	fab_drop(&answer);
	turn(b);
	assert_int_equal(b->rig->dev->inbox.count, 0);
	assert_true(handle_is_equal(heard(b, FAB_QP_DETACH).handle, mine));
	ring_free(attach_peer(b, &p));
}

static void test_a_peer_that_dies_right_after_its_hello(void **state)
{
	struct bench *b = *state;
	struct fab_msg answer;
	struct pair p;

	guest_alloc(b, &p, PPN, mine, VMCI_INVALID_ID, 0, 4096, 4096);
	answer = asks(b, attach_question(&p));
	ring_free(peer_maps(answer.fd, 4096, 4096));
	until(b, b->rig->dev->inbox.count == 2);
	turn(b);
	heard(b, FAB_QP_DETACH);
}

static void test_half_a_hello(void **state)
{
	struct bench *b = *state;
	struct fab_msg answer;
	struct pair p;

	guest_alloc(b, &p, PPN, mine, VMCI_INVALID_ID, 0, 4096, 4096);
	answer = asks(b, attach_question(&p));
	assert_int_equal(send(answer.fd[1], "ab", 2, 0), 2);
	turn(b);
	assert_int_equal(b->rig->dev->inbox.count, 0);
	fab_drop(&answer);
	turn(b);
	assert_int_equal(b->rig->dev->inbox.count, 0);
	heard(b, FAB_QP_DETACH);
}

static void test_guest_leaves_before_the_peer_maps(void **state)
{
	struct bench *b = *state;
	struct fab_msg answer;
	struct ring *ring;
	struct pair p;

	guest_alloc(b, &p, PPN, mine, VMCI_INVALID_ID, 0, 4096, 4096);
	answer = asks(b, attach_question(&p));
	assert_int_equal(guest_detach(&p), VMCI_SUCCESS);
	ring = peer_maps(answer.fd, 4096, 4096);
	until(b, look(ring) == RING_LEFT);
	heard(b, FAB_QP_DETACH);
	ring_free(ring);

	/* The same with a driver that resets. */
	guest_alloc(b, &p, PPN, mine, VMCI_INVALID_ID, 0, 4096, 4096);
	answer = asks(b, attach_question(&p));
	assert_int_equal(answer.status, VMCI_SUCCESS_QUEUEPAIR_ATTACH);
	out32(b->rig, VMCI_REG_CONTROL, VMCI_CONTROL_RESET);
	assert_int_equal(ring_map(answer.fd[0], answer.fd[1], OTHER, 4096, 4096, &ring), -ECONNRESET);
	fab_drop(&answer);
}

/* --- Made by a program -------------------------------------------------------------------------------------- */

/* OTHER makes @theirs; vmcid will pass it on. */
static struct ring *peer_creates(struct bench *b, uint64_t produce, uint64_t consume)
{
	struct fab_msg reply = {
		.type = FAB_QP_ATTACH, .status = VMCI_SUCCESS_QUEUEPAIR_ATTACH, .other.context = OTHER, .n_fds = 2,
		.token = { 1 },
	};
	struct ring *ring;

	assert_int_equal(ring_create(produce, consume, &ring, &reply.fd[0], &reply.fd[1]), 0);
	will_reply(b, reply);
	return ring;
}

static void test_guest_attaches(void **state)
{
	struct bench *b = *state;
	struct ring *ring = peer_creates(b, 4096, 8192);
	struct fab_msg request;
	struct pair p;

	assert_int_equal(ring_write(ring, "early", 5), 5);
	assert_int_equal(guest_alloc(b, &p, PPN, theirs, OTHER, VMCI_QP_ATTACH_ONLY, 8192, 4096),
			 VMCI_SUCCESS_QUEUEPAIR_ATTACH);
	request = heard(b, FAB_QP_ATTACH);
	assert_true(handle_is_equal(request.handle, theirs));
	assert_int_equal(request.other.context, OTHER);
	assert_int_equal(request.size0, 8192);
	assert_int_equal(request.size1, 4096);
	until(b, look(ring) == RING_ATTACHED);
	assert_int_equal(ring_peer(ring), CID);
	until(b, guest_read(&p, (char[8]){ 0 }, 8) == 5);
	exchange(b, &p, ring, BIG);
	ring_free(ring);
	until(b, b->rig->dev->inbox.count == 1);
	assert_int_equal(next_event(b->rig).context, OTHER);
	turn(b);
	heard(b, FAB_QP_DETACH);
}

static void test_guest_finds_nothing(void **state)
{
	struct bench *b = *state;
	struct pair p;

	assert_int_equal(guest_alloc(b, &p, PPN, theirs, OTHER, VMCI_QP_ATTACH_ONLY, 4096, 4096), VMCI_ERROR_NOT_FOUND);
	will_say(b, FAB_QP_ATTACH, VMCI_ERROR_QUEUEPAIR_MISMATCH);
	assert_int_equal(guest_alloc(b, &p, PPN, theirs, OTHER, 0, 4096, 4096), VMCI_ERROR_QUEUEPAIR_MISMATCH);
	will_say(b, FAB_QP_ATTACH, VMCI_ERROR_NO_ACCESS);
	assert_int_equal(guest_alloc(b, &p, PPN, theirs, OTHER, 0, 4096, 4096), VMCI_ERROR_NO_ACCESS);
	assert_int_equal(b->rig->taken, 0);
	/* Nothing was attached, so nothing is detached. */
	turn(b);
	assert_int_equal(heard_count(b, FAB_QP_DETACH), 0);
}

/* What a hostile creator may have passed to vmcid. */
static void attach_to_odd(struct bench *b, int memory, int life)
{
	struct fab_msg reply = {
		.type = FAB_QP_ATTACH, .status = VMCI_SUCCESS_QUEUEPAIR_ATTACH, .other.context = OTHER, .n_fds = 2,
		.token = { 1 }, .fd = { memory, life },
	};
	struct pair p;

	will_reply(b, reply);
	assert_int_equal(guest_alloc(b, &p, PPN, theirs, OTHER, VMCI_QP_ATTACH_ONLY, 4096, 4096),
			 VMCI_ERROR_UNAVAILABLE);
	assert_int_equal(b->rig->taken, 0);
	/* vmcid believes that we are attached. */
	turn(b);
	assert_true(handle_is_equal(heard(b, FAB_QP_DETACH).handle, theirs));
}

static void test_odd_memory(void **state)
{
	struct bench *b = *state;
	struct ring *ring;
	int memory, life[2];

	memory = memfd_create("unsealed", MFD_CLOEXEC);
	assert_int_equal(ftruncate(memory, 4 * 4096), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, life), 0);
	attach_to_odd(b, memory, life[0]);
	close(life[1]);

	/* Too small. */
	assert_int_equal(ring_create(4096, 0, &ring, &memory, &life[0]), 0);
	attach_to_odd(b, memory, life[0]);
	ring_free(ring);

	/* The creator has gone already. */
	assert_int_equal(ring_create(4096, 4096, &ring, &memory, &life[0]), 0);
	ring_free(ring);
	attach_to_odd(b, memory, life[0]);

	/* A life that is none. */
	assert_int_equal(ring_create(4096, 4096, &ring, &memory, &life[0]), 0);
	close(life[0]);
	assert_int_equal(pipe(life), 0);
	attach_to_odd(b, memory, life[0]);
	close(life[1]);
	ring_free(ring);
}

static void test_vmcid_does_not_answer_an_attach(void **state)
{
	struct bench *b = *state;
	int64_t start = now_ms();
	struct pair p;

	will(b, (struct script){ .type = FAB_QP_ATTACH, .mute = true });
	assert_int_equal(guest_alloc(b, &p, PPN, theirs, OTHER, VMCI_QP_ATTACH_ONLY, 4096, 4096),
			 VMCI_ERROR_UNAVAILABLE);
	assert_true(now_ms() - start >= LIMIT_FABRIC_CALL_MS - 1);
	assert_int_equal(b->rig->taken, 0);
	turn(b);
	assert_int_equal(heard_count(b, FAB_QP_DETACH), 0);
	/* When it is back, it is told that nobody is attached. */
	asks(b, (struct fab_msg){ .type = FAB_BELL_OPEN, .handle = mine });
	turn(b);
	heard(b, FAB_QP_DETACH);
}

static void test_vmcid_dies_in_an_attach(void **state)
{
	struct bench *b = *state;
	struct pair p;

	will(b, (struct script){ .type = FAB_QP_ATTACH, .die = true });
	assert_int_equal(guest_alloc(b, &p, PPN, theirs, OTHER, VMCI_QP_ATTACH_ONLY, 4096, 4096),
			 VMCI_ERROR_UNAVAILABLE);
	turn(b);
	assert_int_equal(guest_alloc(b, &p, PPN, theirs, OTHER, VMCI_QP_ATTACH_ONLY, 4096, 4096),
			 VMCI_ERROR_UNAVAILABLE);
	/* The guest's own are its own. */
	assert_int_equal(guest_alloc(b, &p, PPN, mine, OTHER, 0, 4096, 4096), VMCI_SUCCESS_QUEUEPAIR_CREATE);
}

/* What was left is told before the same pair is attached to again. */
static void test_detach_comes_before_the_next_attach(void **state)
{
	struct bench *b = *state;
	struct ring *ring = peer_creates(b, 4096, 4096);
	struct pair p;

	assert_int_equal(guest_alloc(b, &p, PPN, theirs, OTHER, VMCI_QP_ATTACH_ONLY, 4096, 4096),
			 VMCI_SUCCESS_QUEUEPAIR_ATTACH);
	assert_int_equal(guest_detach(&p), VMCI_SUCCESS);
	assert_int_equal(heard_count(b, FAB_QP_DETACH), 0);
	assert_int_equal(guest_alloc(b, &p, PPN, theirs, OTHER, VMCI_QP_ATTACH_ONLY, 4096, 4096), VMCI_ERROR_NOT_FOUND);
	assert_int_equal(heard_count(b, FAB_QP_DETACH), 1);
	ring_free(ring);
}

/* --- Leaving --------------------------------------------------------------------------------------------------- */

static void read_all(struct bench *b, struct ring *ring, unsigned seed, size_t n)
{
	int64_t end = now_ms() + LONG_MS;
	uint8_t buf[500];
	size_t got = 0;

	while (got < n) {
		int64_t r = ring_read(ring, buf, sizeof(buf));

		assert_true(r >= 0 && now_ms() < end);
		for (int64_t i = 0; i < r; i++)
			assert_int_equal(buf[i], pattern(seed, got + (size_t)i));
		got += (size_t)r;
		turn(b);
	}
	assert_int_equal(got, n);
	assert_int_equal(ring_ready(ring, UINT64_MAX), 0);
}

/* Fill both rings with what the guest writes. */
static size_t guest_fills(struct bench *b, struct pair *p, unsigned seed)
{
	uint8_t buf[300];
	size_t sent = 0;

	for (unsigned idle = 0; idle < 3;) {
		size_t n;

		for (size_t i = 0; i < sizeof(buf); i++)
			buf[i] = pattern(seed, sent + i);
		n = guest_write(p, buf, sizeof(buf));
		sent += n;
		idle = n ? 0 : idle + 1;
		turn(b);
	}
	return sent;
}

static void test_what_the_guest_wrote_last_arrives(void **state)
{
	struct bench *b = *state;
	struct pair p;
	struct ring *ring = open_pair(b, &p, 4096, 4096);
	size_t n;

	/* A ring full on either side, which the peer has not begun to read. */
	n = guest_fills(b, &p, 3);
	assert_int_equal(n, 2 * 4095);
	assert_int_equal(guest_detach(&p), VMCI_SUCCESS);
	assert_int_equal(b->rig->taken, 0);
	assert_int_equal(fabric_lingering(b->f), 4095);
	memset(b->rig->ram + PPN * PAGE, 0xee, 4 * PAGE);	/* the guest's again */
	assert_int_equal(look(ring), RING_ATTACHED);
	read_all(b, ring, 3, n);
	until(b, look(ring) == RING_LEFT);
	assert_int_equal(fabric_lingering(b->f), 0);
	turn(b);
	heard(b, FAB_QP_DETACH);
	ring_free(ring);
}

static void test_what_the_guest_wrote_last_and_nobody_polled(void **state)
{
	struct bench *b = *state;
	struct pair p;
	struct ring *ring = open_pair(b, &p, 4096, 4096);

	assert_int_equal(guest_write(&p, "last", 4), 4);
	out32(b->rig, VMCI_REG_CONTROL, VMCI_CONTROL_RESET);
	assert_int_equal(look(ring), RING_LEFT);
	assert_int_equal(ring_ready(ring, UINT64_MAX), 4);
	ring_free(ring);
}

static void test_a_peer_that_dies_frees_what_lingers(void **state)
{
	struct bench *b = *state;
	struct pair p;
	struct ring *ring = open_pair(b, &p, 4096, 4096);

	guest_fills(b, &p, 3);
	assert_int_equal(guest_detach(&p), VMCI_SUCCESS);
	assert_int_equal(fabric_lingering(b->f), 4095);
	ring_free(ring);
	until(b, fabric_lingering(b->f) == 0);
	heard(b, FAB_QP_DETACH);
}

/* Who reads as slowly as he likes, but reads, gets everything; who does not read at all has a minute. */
static void test_a_peer_that_does_not_read(void **state)
{
	struct bench *b = *state;
	struct pair p;
	struct ring *ring = open_pair(b, &p, 4096, 4096);
	uint8_t buf[1024];

	guest_fills(b, &p, 3);
	assert_int_equal(guest_detach(&p), VMCI_SUCCESS);
	for (unsigned i = 0; i < 3; i++) {
		size_t before = fabric_lingering(b->f);

		pass(LIMIT_BRIDGE_REST_NS / 2);
		turn(b);
		assert_int_equal(ring_read(ring, buf, sizeof(buf)), sizeof(buf));
		until(b, fabric_lingering(b->f) < before);
	}
	assert_int_equal(look(ring), RING_ATTACHED);
	pass(LIMIT_BRIDGE_REST_NS);
	turn(b);
	assert_int_equal(fabric_lingering(b->f), 0);
	assert_int_equal(look(ring), RING_LEFT);
	heard(b, FAB_QP_DETACH);
	ring_free(ring);
}

/* Who was given the guest's pair, and keeps it without a word, does not keep it from the others. */
static void test_a_peer_that_does_not_come(void **state)
{
	struct bench *b = *state;
	struct fab_msg first, second;
	struct ring *ring;
	struct pair p;

	guest_alloc(b, &p, PPN, mine, VMCI_INVALID_ID, 0, 4096, 4096);
	first = asks(b, attach_question(&p));
	assert_int_equal(first.status, VMCI_SUCCESS_QUEUEPAIR_ATTACH);
	pass(LIMIT_BRIDGE_OFFER_NS / 2);
	turn(b);
	assert_int_equal(asks(b, attach_question(&p)).status, VMCI_ERROR_UNAVAILABLE);
	pass(LIMIT_BRIDGE_OFFER_NS / 2);
	turn(b);
	second = asks(b, attach_question(&p));
	assert_int_equal(second.status, VMCI_SUCCESS_QUEUEPAIR_ATTACH);
	ring = peer_maps(second.fd, 4096, 4096);
	until(b, b->rig->dev->inbox.count == 1);
	exchange(b, &p, ring, 1000);
	ring_free(ring);
	close(first.fd[0]);
	close(first.fd[1]);
}

/* All of many that cannot go on are looked at once a round, however long that takes. */
static void test_stuck_pairs_have_one_turn_each(void **state)
{
	struct bench *b = *state;
	struct ring *ring[8];
	struct pair p[8];
	uint8_t buf[300] = { 0 };

	for (unsigned i = 0; i < 8; i++) {
		assert_int_equal(guest_alloc(b, &p[i], PPN + i * 8, handle_make(CID, 2000 + i), VMCI_INVALID_ID, 0, 4096, 4096),
				 VMCI_SUCCESS_QUEUEPAIR_CREATE);
		ring[i] = attach_peer(b, &p[i]);
		for (unsigned idle = 0; idle < 3; idle++)
			while (ring_write(ring[i], buf, sizeof(buf)) > 0)
				turn(b);
	}
	/* Would those that had their turn have another in the same round, it would never end. */
	tick(LIMIT_BRIDGE_LAST_NS);
	for (unsigned i = 0; i < 100; i++)
		fabric_run(b->f);
	tick(0);
	for (unsigned i = 0; i < 8; i++) {
		size_t n = 0, r;

		for (unsigned idle = 0; idle < 100; idle++) {
			while ((r = guest_read(&p[i], buf, sizeof(buf)))) {
				n += r;
				turn(b);
			}
			pass(LIMIT_BRIDGE_LAST_NS);
			turn(b);
		}
		assert_int_equal(n, 2 * 4095);
		ring_free(ring[i]);
	}
}

static unsigned idled;

static void on_idle(void *ctx)
{
	(void)ctx;
	idled++;
}

static void test_stopping_waits_for_readers(void **state)
{
	struct bench *b = *state;
	struct pair p;
	struct ring *ring = open_pair(b, &p, 4096, 4096);
	size_t n = guest_fills(b, &p, 3);
	int64_t end = now_ms() + LONG_MS;
	uint8_t buf[100];

	dev_reset(b->rig->dev);
	fabric_set_dev(b->f, NULL);
	b->rig->ports = NULL;
	idled = 0;
	assert_true(fabric_stop(b->f, on_idle, NULL));
	while (!idled) {
		int64_t r = ring_read(ring, buf, sizeof(buf));

		assert_true(r >= 0 && now_ms() < end);
		n -= (size_t)r;
		sd_event_run(b->event, 1000);
	}
	while (n)
		n -= (size_t)ring_read(ring, buf, sizeof(buf));
	assert_int_equal(look(ring), RING_LEFT);
	assert_int_equal(idled, 1);
	assert_int_equal(ring_ready(ring, UINT64_MAX), 0);
	ring_free(ring);
	b->f = fabric_free(b->f);
	rig_free(b->rig);
	b->rig = NULL;
}

static void test_what_the_peer_wrote_last_arrives(void **state)
{
	struct bench *b = *state;
	struct pair p;
	struct ring *ring = open_pair(b, &p, 4096, 4096);
	size_t sent = 0, got = 0;
	uint8_t buf[300];

	for (unsigned idle = 0; idle < 3;) {
		int64_t n;

		for (size_t i = 0; i < sizeof(buf); i++)
			buf[i] = pattern(4, sent + i);
		n = ring_write(ring, buf, sizeof(buf));
		sent += (size_t)n;
		idle = n ? 0 : idle + 1;
		turn(b);
	}
	assert_int_equal(sent, 2 * 4095);
	ring_free(ring);
	turn(b);
	/* The guest is not told before it can have everything. */
	assert_int_equal(b->rig->dev->inbox.count, 0);
	for (int64_t end = now_ms() + LONG_MS; got < sent;) {
		size_t n = guest_read(&p, buf, sizeof(buf));

		assert_true(now_ms() < end);
		for (size_t i = 0; i < n; i++)
			assert_int_equal(buf[i], pattern(4, got + i));
		got += n;
		turn(b);
	}
	until(b, b->rig->dev->inbox.count == 1);
	assert_int_equal(next_event(b->rig).id, VMCI_EVENT_QP_PEER_DETACH);
	assert_int_equal(guest_read(&p, buf, sizeof(buf)), 0);
	assert_int_equal(guest_detach(&p), VMCI_SUCCESS);
}

static void test_guest_leaves_what_the_peer_has_left(void **state)
{
	struct bench *b = *state;
	struct pair p;
	struct ring *ring = open_pair(b, &p, 4096, 4096);

	while (ring_write(ring, "0123456789", 10) > 0)
		turn(b);
	ring_free(ring);
	turn(b);
	assert_int_equal(guest_detach(&p), VMCI_SUCCESS);
	turn(b);
	heard(b, FAB_QP_DETACH);
	assert_int_equal(b->rig->taken, 0);
}

/* --- Those who break rules ----------------------------------------------------------------------------------- */

static void test_guest_breaks_its_ring(void **state)
{
	struct bench *b = *state;
	struct pair p;
	struct ring *ring = open_pair(b, &p, 4096, 4096);

	put_le64(p.out + VMCI_QUEUE_TAIL_OFFSET, 4096);
	until(b, look(ring) == RING_LEFT);
	assert_int_equal(next_event(b->rig).id, VMCI_EVENT_QP_PEER_DETACH);
	turn(b);
	heard(b, FAB_QP_DETACH);
	ring_free(ring);
}

static void test_guest_breaks_the_other_index(void **state)
{
	struct bench *b = *state;
	struct pair p;
	struct ring *ring = open_pair(b, &p, 4096, 4096);

	put_le64(p.out + VMCI_QUEUE_HEAD_OFFSET, UINT64_MAX);
	assert_int_equal(ring_write(ring, "x", 1), 1);
	until(b, look(ring) == RING_LEFT);
	ring_free(ring);
}

static void peer_breaks(struct bench *b, size_t offset, uint64_t index, bool guest_writes)
{
	struct pair p;
	struct ring *ring = open_pair(b, &p, 4096, 4096);

	/* The peer's own header page lies before the ring that it writes. */
	put_le64(ring->out.data - RING_PAGE + offset, index);
	if (guest_writes)
		guest_write(&p, "x", 1);
	until(b, b->rig->dev->inbox.count == 1);
	assert_int_equal(next_event(b->rig).id, VMCI_EVENT_QP_PEER_DETACH);
	assert_int_equal(look(ring), RING_LEFT);
	ring_free(ring);
	assert_int_equal(guest_detach(&p), VMCI_SUCCESS);
	turn(b);
	heard(b, FAB_QP_DETACH);
}

static void test_peer_breaks_its_ring(void **state)
{
	peer_breaks(*state, VMCI_QUEUE_TAIL_OFFSET, 4096, false);
	peer_breaks(*state, VMCI_QUEUE_TAIL_OFFSET, UINT64_MAX, false);
	peer_breaks(*state, VMCI_QUEUE_HEAD_OFFSET, 4096, true);
	peer_breaks(*state, VMCI_QUEUE_HEAD_OFFSET, 17, true);	/* more than we wrote */
}

/* One that wakes us all the time costs turns, and nothing else; one that fills the life socket, too. */
static void test_a_noisy_peer(void **state)
{
	struct bench *b = *state;
	struct pair p;
	struct ring *ring = open_pair(b, &p, 4096, 4096);
	char noise[4096] = { 0 };

	while (send(ring_fd(ring), noise, sizeof(noise), MSG_DONTWAIT) > 0)
		;
	exchange(b, &p, ring, 20000);
	ring_free(ring);
}

static void test_guest_memory_goes_and_comes(void **state)
{
	struct bench *b = *state;
	struct pair p;
	struct ring *ring = open_pair(b, &p, 4096, 4096);

	b->rig->pages_error = -EFAULT;
	assert_int_equal(ring_write(ring, "while away", 10), 10);
	for (int i = 0; i < 5; i++)
		turn(b);
	assert_int_equal(look(ring), RING_ATTACHED);
	b->rig->pages_error = 0;
	fabric_memory_changed(b->f);
	turn(b);
	assert_int_equal(guest_read(&p, (char[20]){ 0 }, 20), 10);
	exchange(b, &p, ring, 20000);

	/* The peer leaves meanwhile: nothing is lost. */
	b->rig->pages_error = -EFAULT;
	assert_int_equal(ring_write(ring, "last", 4), 4);
	ring_free(ring);
	for (int i = 0; i < 5; i++)
		turn(b);
	b->rig->pages_error = 0;
	assert_int_equal(b->rig->dev->inbox.count, 0);
	fabric_memory_changed(b->f);
	until(b, b->rig->dev->inbox.count == 1);
	assert_int_equal(guest_read(&p, (char[20]){ 0 }, 20), 4);
}

static void test_guest_leaves_without_its_memory(void **state)
{
	struct bench *b = *state;
	struct pair p;
	struct ring *ring = open_pair(b, &p, 4096, 4096);

	guest_write(&p, "x", 1);
	b->rig->pages_error = -EFAULT;
	assert_int_equal(guest_detach(&p), VMCI_SUCCESS);
	assert_int_equal(look(ring), RING_LEFT);
	b->rig->pages_error = 0;
	ring_free(ring);
}

/* --- Order, fairness, restart -------------------------------------------------------------------------------- */

static void test_bytes_come_before_what_is_sent_after_them(void **state)
{
	struct bench *b = *state;
	struct pair p;
	struct ring *ring = open_pair(b, &p, 4096, 4096);

	/* Out: with a datagram, and a doorbell. The bridge has not had a turn in between. */
	assert_int_equal(guest_write(&p, "one", 3), 3);
	assert_true(send_to(b, handle_make(OTHER, 9), 10) > 0);
	assert_int_equal(ring_ready(ring, UINT64_MAX), 3);
	assert_int_equal(guest_write(&p, "two", 3), 3);
	assert_int_equal(call_handle(b->rig, VMCI_HC_DOORBELL_NOTIFY, theirs), VMCI_ERROR_NOT_FOUND);
	assert_int_equal(ring_ready(ring, UINT64_MAX), 6);
	/* To somebody else it does not matter. */
	assert_int_equal(guest_write(&p, "three", 5), 5);
	assert_true(send_to(b, handle_make(OTHER + 1, 9), 10) > 0);
	assert_int_equal(ring_ready(ring, UINT64_MAX), 6);
	turn(b);

	/* In. */
	assert_int_equal(ring_write(ring, "four", 4), 4);
	assert_true(mail(b, handle_make(OTHER, 5), handle_make(CID, 5000), 10, 1));
	while (!b->rig->dev->inbox.count)
		assert_true(sd_event_run(b->event, LONG_MS * 1000) > 0);
	assert_int_equal(guest_read(&p, (char[20]){ 0 }, 20), 4);
	ring_free(ring);
}

/* The peer says hello, and sends a datagram: the guest hears of the one before the other. */
static void test_attach_comes_before_what_is_sent_after_it(void **state)
{
	struct bench *b = *state;
	struct fab_msg answer;
	struct ring *ring;
	unsigned n;
	struct pair p;

	guest_alloc(b, &p, PPN, mine, VMCI_INVALID_ID, 0, 4096, 4096);
	answer = asks(b, attach_question(&p));
	assert_true(mail(b, handle_make(OTHER, 5), handle_make(CID, 5000), 10, 1));
	ring = peer_maps(answer.fd, 4096, 4096);
	turn(b);
	assert_int_equal(dg_parse(next_dg(b, &n)).src.context, VMCI_CID_HYPERVISOR);
	assert_int_equal(n, 2);
	ring_free(ring);
}

static void test_many_pairs_take_turns(void **state)
{
	struct bench *b = *state;
	struct ring *ring[20];
	struct pair p[20];
	uint8_t byte;

	for (uint32_t i = 0; i < 20; i++) {
		assert_int_equal(guest_alloc(b, &p[i], PPN + 8 * i, handle_make(CID, 2000 + i), VMCI_INVALID_ID, 0,
					     8192, 4096), VMCI_SUCCESS_QUEUEPAIR_CREATE);
		ring[i] = attach_peer(b, &p[i]);
	}
	for (unsigned round = 0; round < 200; round++) {
		for (unsigned i = 0; i < 20; i++) {
			byte = pattern(i, round);
			assert_int_equal(guest_write(&p[i], &byte, 1), 1);
			assert_int_equal(ring_write(ring[i], &byte, 1), 1);
		}
		for (unsigned i = 0; i < 20; i++) {
			until(b, ring_ready(ring[i], 1) == 1);
			assert_int_equal(ring_read(ring[i], &byte, 1), 1);
			assert_int_equal(byte, pattern(i, round));
			until(b, guest_read(&p[i], &byte, 1) == 1);
			assert_int_equal(byte, pattern(i, round));
		}
	}
	for (unsigned i = 0; i < 20; i++)
		ring_free(ring[i]);
}

static void test_quiet_pairs_let_the_loop_sleep(void **state)
{
	struct bench *b = *state;
	struct pair p;
	struct ring *ring = open_pair(b, &p, 4096, 4096);
	int64_t end = now_ms() + LONG_MS;
	uint64_t interval = 0;

	/* From not sleeping at all to a millisecond. */
	while (interval < LIMIT_BRIDGE_LAST_NS / 2) {
		struct timespec ts;
		uint64_t deadline, now;

		assert_true(now_ms() < end);
		if (fabric_run(b->f))
			continue;
		clock_gettime(CLOCK_MONOTONIC, &ts);
		now = (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
		deadline = fabric_deadline(b->f);
		assert_true(deadline != UINT64_MAX);
		assert_true(deadline < now + 2 * LIMIT_BRIDGE_LAST_NS);
		interval = deadline > now ? deadline - now : 0;
	}
	guest_write(&p, "x", 1);
	until(b, ring_ready(ring, 1) == 1);
	ring_free(ring);
}

static void test_pairs_go_on_without_vmcid(void **state)
{
	struct bench *b = *state;
	struct pair p;
	struct ring *ring = open_pair(b, &p, 4096, 4096);

	vmcid_stop(b);
	exchange(b, &p, ring, BIG);
	assert_int_equal(guest_detach(&p), VMCI_SUCCESS);
	assert_int_equal(look(ring), RING_LEFT);
	turn(b);
	ring_free(ring);
}

#define T(f) cmocka_unit_test_setup_teardown(f, bench_setup, bench_teardown)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		T(test_bytes_both_ways),
		T(test_odd_sizes),
		T(test_one_direction_only),
		T(test_a_sleeping_peer_is_woken),
		T(test_a_peer_wakes_the_loop),
		T(test_refused_attaches),
		T(test_only_one_attaches),
		T(test_a_peer_that_dies_before_it_maps),
		T(test_a_peer_that_dies_right_after_its_hello),
		T(test_half_a_hello),
		T(test_guest_leaves_before_the_peer_maps),
		T(test_guest_attaches),
		T(test_guest_finds_nothing),
		T(test_odd_memory),
		T(test_vmcid_does_not_answer_an_attach),
		T(test_vmcid_dies_in_an_attach),
		T(test_detach_comes_before_the_next_attach),
		T(test_what_the_guest_wrote_last_arrives),
		T(test_what_the_guest_wrote_last_and_nobody_polled),
		T(test_a_peer_that_dies_frees_what_lingers),
		T(test_a_peer_that_does_not_read),
		T(test_a_peer_that_does_not_come),
		T(test_stuck_pairs_have_one_turn_each),
		T(test_stopping_waits_for_readers),
		T(test_what_the_peer_wrote_last_arrives),
		T(test_guest_leaves_what_the_peer_has_left),
		T(test_guest_breaks_its_ring),
		T(test_guest_breaks_the_other_index),
		T(test_peer_breaks_its_ring),
		T(test_a_noisy_peer),
		T(test_guest_memory_goes_and_comes),
		T(test_guest_leaves_without_its_memory),
		T(test_bytes_come_before_what_is_sent_after_them),
		T(test_attach_comes_before_what_is_sent_after_it),
		T(test_many_pairs_take_turns),
		T(test_quiet_pairs_let_the_loop_sleep),
		T(test_pairs_go_on_without_vmcid),
	};

	return cmocka_run_group_tests_name("vmci-device queue pairs", tests, NULL, NULL);
}
