/* SPDX-License-Identifier: BSD-2-Clause */
/* Queue pairs whose pages a program has mapped itself: how they begin, go and end, and who lies. */
#include "bench.h"

#include <errno.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

static const struct vmci_handle mine = { CID, 2000 };
static const struct vmci_handle theirs = { OTHER, 3000 };

#define PPN 0x100u
#define BIG 200000u

/* The program's eye on its end. */
static enum ring_state look(struct ring *ring)
{
	ring_hear(ring, false);
	return ring_state(ring);
}

static struct fab_msg ask_for(struct bench *b, const struct pair *p)
{
	return asks(b, (struct fab_msg){
		.type = FAB_QP_ATTACH, .handle = p->handle, .other.context = OTHER, .flags = FAB_F_DIRECT,
		.size0 = p->consume, .size1 = p->produce,
	});
}

/* OTHER takes the guest's @p, and has its pages. */
static struct ring *attach(struct bench *b, struct pair *p)
{
	struct fab_msg answer = ask_for(b, p);
	struct event event;
	struct ring *ring;

	assert_int_equal(answer.status, VMCI_SUCCESS_QUEUEPAIR_ATTACH);
	assert_int_equal(ring_map_direct(answer.fd[0], answer.fd[1], OTHER, p->consume, p->produce, &ring), 0);
	close(answer.fd[0]);
	assert_int_equal(ring_pages(ring), 0);
	assert_int_equal(ring_room(ring, UINT64_MAX), 0);
	assert_int_equal(ring_ready(ring, UINT64_MAX), 0);
	until(b, look(ring) == RING_ATTACHED && ring_pages(ring));
	assert_int_equal(ring_pages(ring), 1);
	event = next_event(b->rig);
	assert_int_equal(event.id, VMCI_EVENT_QP_PEER_ATTACH);
	assert_int_equal(event.context, OTHER);
	return ring;
}

static struct ring *open_pair(struct bench *b, struct pair *p, uint64_t produce, uint64_t consume)
{
	assert_int_equal(guest_alloc(b, p, PPN, mine, VMCI_INVALID_ID, 0, produce, consume),
			 VMCI_SUCCESS_QUEUEPAIR_CREATE);
	return attach(b, p);
}

/* OTHER makes @theirs; vmcid will pass it on. */
static struct ring *peer_creates(struct bench *b, uint64_t produce, uint64_t consume)
{
	struct fab_msg reply = {
		.type = FAB_QP_ATTACH, .status = VMCI_SUCCESS_QUEUEPAIR_ATTACH, .other.context = OTHER, .n_fds = 2,
		.flags = FAB_F_DIRECT, .token = { 1 },
	};
	struct ring *ring;

	assert_int_equal(ring_create(produce, consume, &ring, &reply.fd[0], &reply.fd[1]), 0);
	assert_int_equal(ring_await_pages(ring), 0);
	will_reply(b, reply);
	return ring;
}

/* Move @n bytes, in both directions at once, in pieces, with nobody but the two ends. */
static void exchange(struct pair *p, struct ring *ring, size_t n)
{
	size_t sent = 0, got = 0, back = 0, returned = 0;
	uint8_t buf[1000];

	for (unsigned idle = 0; got < n || returned < n; idle++) {
		size_t len = 1 + (sent * 13 + got) % sizeof(buf);
		int64_t r;

		assert_true(idle < 100000);
		for (size_t i = 0; i < len; i++)
			buf[i] = pattern(1, sent + i);
		sent += guest_write(p, buf, len < n - sent ? len : n - sent);
		for (size_t i = 0; i < len; i++)
			buf[i] = pattern(2, back + i);
		r = ring_write(ring, buf, len < n - back ? len : n - back);
		assert_true(r >= 0);
		back += (size_t)r;
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

static void write_pattern(struct pair *p, unsigned seed, size_t from, size_t n)
{
	uint8_t byte;

	for (size_t i = 0; i < n; i++) {
		byte = pattern(seed, from + i);
		assert_int_equal(guest_write(p, &byte, 1), 1);
	}
}

static void read_pattern(struct ring *ring, unsigned seed, size_t from, size_t n)
{
	uint8_t byte;

	for (size_t i = 0; i < n; i++) {
		assert_int_equal(ring_read(ring, &byte, 1), 1);
		assert_int_equal(byte, pattern(seed, from + i));
	}
}

/* What the guest does with pages that it has got back. */
static void scribble(struct pair *p)
{
	uint64_t n = qp_page_count(p->produce, p->consume, 12);

	for (uint64_t i = 0; i < n; i++)
		memset(p->b->rig->ram + p->ppn[i] * PAGE, 0xee, PAGE);
}

/* Did nobody else write there since? */
static void check_scribble(struct pair *p)
{
	uint64_t n = qp_page_count(p->produce, p->consume, 12);

	for (uint64_t i = 0; i < n * PAGE; i++)
		assert_int_equal(p->b->rig->ram[p->ppn[i / PAGE] * PAGE + i % PAGE], 0xee);
}

/* --- While it lasts ----------------------------------------------------------------------------------------- */

static void test_bytes_both_ways(void **state)
{
	struct bench *b = *state;
	struct pair p;
	struct ring *ring = open_pair(b, &p, 8192, 4096);

	exchange(&p, ring, BIG);
	assert_int_equal(heard(b, FAB_WATCH).handle.context, OTHER);
	ring_free(ring);
}

static void test_odd_sizes(void **state)
{
	static const uint64_t sizes[][2] = { { 5000, 7 }, { 2, 2 }, { 4095, 4097 }, { 65536, 65536 } };
	struct bench *b = *state;

	for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct pair p;
		struct ring *ring = open_pair(b, &p, sizes[i][0], sizes[i][1]);

		exchange(&p, ring, 3000);
		assert_int_equal(guest_detach(&p), VMCI_SUCCESS);
		ring_free(ring);
		turn(b);
	}
}

static void test_one_direction_only(void **state)
{
	struct bench *b = *state;
	struct pair p;
	struct ring *ring = open_pair(b, &p, 4096, 0);
	char buf[8];

	assert_int_equal(guest_write(&p, "hello", 5), 5);
	assert_int_equal(ring_read(ring, buf, sizeof(buf)), 5);
	assert_memory_equal(buf, "hello", 5);
	assert_int_equal(ring_write(ring, "x", 1), 0);
	assert_int_equal(guest_write(&p, "bye", 3), 3);
	assert_int_equal(guest_detach(&p), VMCI_SUCCESS);
	assert_int_equal(look(ring), RING_LEFT);
	assert_int_equal(ring_read(ring, buf, sizeof(buf)), 3);
	ring_free(ring);
}

/* Each page for itself, in an order of its own. */
static void test_scattered_pages(void **state)
{
	struct bench *b = *state;
	uint32_t ppn[4096];
	struct ring *ring;
	struct pair p;

	for (uint32_t i = 0; i < 4096; i++)
		ppn[i] = PPN + (i * 37 + 11) % 256;
	assert_int_equal(guest_alloc_pages(b, &p, ppn, mine, OTHER, 0, 40 * PAGE, 30 * PAGE + 1),
			 VMCI_SUCCESS_QUEUEPAIR_CREATE);
	ring = attach(b, &p);
	exchange(&p, ring, BIG);
	write_pattern(&p, 5, 0, 100000);
	assert_int_equal(guest_detach(&p), VMCI_SUCCESS);
	scribble(&p);
	assert_int_equal(look(ring), RING_LEFT);
	read_pattern(ring, 5, 0, 100000);
	ring_free(ring);
}

static void test_guest_attaches(void **state)
{
	struct bench *b = *state;
	struct ring *ring = peer_creates(b, 4096, 8192);
	struct pair p;

	/* Where should it go? */
	assert_int_equal(ring_write(ring, "early", 5), 0);
	assert_int_equal(ring_arm(ring, RING_IN | RING_OUT), 0);
	assert_int_equal(look(ring), RING_WAITING);
	assert_int_equal(guest_alloc(b, &p, PPN, theirs, OTHER, VMCI_QP_ATTACH_ONLY, 8192, 4096),
			 VMCI_SUCCESS_QUEUEPAIR_ATTACH);
	until(b, look(ring) == RING_ATTACHED);
	assert_int_equal(ring_pages(ring), 1);
	assert_int_equal(ring_peer(ring), CID);
	assert_int_equal(ring_room(ring, UINT64_MAX), 4095);
	exchange(&p, ring, BIG);
	ring_free(ring);
	until(b, b->rig->dev->inbox.count == 1);
	assert_int_equal(next_event(b->rig).context, OTHER);
	turn(b);
	heard(b, FAB_QP_DETACH);
}

/* Does the loop come round for this? */
static bool is_looking(struct bench *b)
{
	return fabric_deadline(b->f) < (uint64_t)(now_ms() + 1000) * 1000000u;
}

/* Who sleeps is woken, although the guest tells nobody that it writes. Who does not, costs nothing. */
static void test_a_sleeping_program_is_woken(void **state)
{
	struct bench *b = *state;
	struct pair p;
	struct ring *ring = open_pair(b, &p, 4096, 4096);
	struct pollfd fd = { .fd = ring_fd(ring), .events = POLLIN };

	turn(b);
	assert_false(is_looking(b));
	assert_int_equal(ring_arm(ring, RING_IN), 0);
	turn(b);
	assert_int_equal(poll(&fd, 1, 0), 0);
	assert_true(is_looking(b));
	assert_int_equal(guest_write(&p, "x", 1), 1);
	until(b, poll(&fd, 1, 0) == 1);
	assert_int_equal(ring_ready(ring, 1), 1);
	until(b, !is_looking(b));

	/* It fills its ring and sleeps until there is room. */
	while (ring_write(ring, "0123456789", 10) > 0)
		;
	ring_hear(ring, false);
	assert_int_equal(ring_arm(ring, RING_OUT), 0);
	turn(b);
	assert_int_equal(poll(&fd, 1, 0), 0);
	assert_int_equal(guest_read(&p, (char[100]){ 0 }, 100), 100);
	until(b, poll(&fd, 1, 0) == 1);
	assert_true(ring_room(ring, 1) > 0);

	/* It gives up waiting: so do we, at the next look. */
	ring_hear(ring, false);
	assert_int_equal(ring_read(ring, (char[8]){ 0 }, 8), 1);
	assert_int_equal(ring_arm(ring, RING_IN), 0);
	turn(b);
	ring_disarm(ring, RING_IN);
	until(b, !is_looking(b));
	ring_free(ring);
}

/* Long asleep: the looks get rare, and a doorbell or a datagram of the guest makes up for it. */
static void test_a_long_sleep(void **state)
{
	struct bench *b = *state;
	struct pair p;
	struct ring *ring = open_pair(b, &p, 4096, 4096);
	struct pollfd fd = { .fd = ring_fd(ring), .events = POLLIN };

	assert_int_equal(ring_arm(ring, RING_IN), 0);
	turn(b);
	pass(LIMIT_BRIDGE_QUIET_NS);
	turn(b);
	assert_int_equal(poll(&fd, 1, 0), 0);
	assert_int_equal(guest_write(&p, "x", 1), 1);
	send_to(b, handle_make(OTHER, 9), 0);
	assert_int_equal(poll(&fd, 1, 0), 1);
	ring_free(ring);
}

/* --- The guest leaves --------------------------------------------------------------------------------------- */

static void leave_by_detach(struct bench *b, struct pair *p)
{
	(void)b;
	assert_int_equal(guest_detach(p), VMCI_SUCCESS);
}

static void leave_by_reset(struct bench *b, struct pair *p)
{
	(void)p;
	out32(b->rig, VMCI_REG_CONTROL, VMCI_CONTROL_RESET);
}

static void leave_by_machine_reset(struct bench *b, struct pair *p)
{
	(void)p;
	dev_reset(b->rig->dev);
}

/* Its last words are read, wherever in the ring they are; and nothing of its memory is touched any more. */
static void check_leaving(struct bench *b, void (*leave)(struct bench *b, struct pair *p))
{
	struct pair p;
	struct ring *ring = open_pair(b, &p, 8192, 4096);
	uint8_t buf[8192];

	write_pattern(&p, 1, 0, 6000);
	read_pattern(ring, 1, 0, 6000);
	write_pattern(&p, 1, 6000, 5000);
	assert_int_equal(ring_write(ring, "unread", 6), 6);
	leave(b, &p);
	scribble(&p);
	/* Before it has heard of it: nothing, rather than what is there now. */
	assert_int_equal(ring_read(ring, buf, sizeof(buf)), 0);
	assert_int_equal(ring_write(ring, "late", 4), 0);
	assert_int_equal(ring_state(ring), RING_ATTACHED);
	assert_int_equal(ring_arm(ring, RING_IN), 0);
	ring_disarm(ring, RING_IN | RING_OUT);
	ring_hear(ring, false);
	assert_int_equal(ring_state(ring), RING_LEFT);
	assert_int_equal(ring_ready(ring, UINT64_MAX), 5000);
	read_pattern(ring, 1, 6000, 5000);
	assert_int_equal(ring_ready(ring, UINT64_MAX), 0);
	/* The memory is still there for who looks at it, but it is not the guest's. */
	memset(ring->map, 0x11, ring->map_size);
	check_scribble(&p);
	ring_free(ring);
	turn(b);
	heard(b, FAB_QP_DETACH);
}

static void test_guest_detaches(void **state)
{
	check_leaving(*state, leave_by_detach);
}

static void test_driver_resets(void **state)
{
	check_leaving(*state, leave_by_reset);
}

static void test_machine_resets(void **state)
{
	check_leaving(*state, leave_by_machine_reset);
}

/* What is being looked at when the guest leaves is not to be believed; it comes again. */
static void test_acquired_while_the_guest_leaves(void **state)
{
	struct bench *b = *state;
	struct pair p;
	struct ring *ring = open_pair(b, &p, 8192, 4096);
	const uint8_t *place;
	uint8_t *room;

	write_pattern(&p, 1, 0, 300);
	assert_int_equal(ring_acquire(ring, &place), 300);
	assert_true(ring_reserve(ring, &room) > 0);
	assert_int_equal(guest_detach(&p), VMCI_SUCCESS);
	scribble(&p);
	assert_int_equal(place[0], 0xee);
	assert_int_equal(ring_release(ring, 300), -ESTALE);
	assert_int_equal(ring_commit(ring, 1), -ESTALE);
	assert_int_equal(ring_acquire(ring, &place), 0);
	assert_int_equal(look(ring), RING_LEFT);
	/* Also if it has been heard of in between. */
	assert_int_equal(ring_acquire(ring, &place), 300);
	assert_int_equal(place[299], pattern(1, 299));
	assert_int_equal(ring_release(ring, 300), 0);
	check_scribble(&p);
	ring_free(ring);
}

static void test_acquired_before_the_snapshot(void **state)
{
	struct bench *b = *state;
	struct pair p;
	struct ring *ring = open_pair(b, &p, 8192, 4096);
	const uint8_t *place;

	write_pattern(&p, 1, 0, 300);
	assert_int_equal(ring_acquire(ring, &place), 300);
	assert_int_equal(guest_detach(&p), VMCI_SUCCESS);
	assert_int_equal(look(ring), RING_LEFT);
	assert_int_equal(ring_release(ring, 300), -ESTALE);
	assert_int_equal(ring_acquire(ring, &place), 300);
	assert_int_equal(ring_release(ring, 300), 0);
	ring_free(ring);
}

static void test_guest_leaves_before_the_program_maps(void **state)
{
	struct bench *b = *state;
	struct fab_msg answer;
	struct ring *ring;
	struct pair p;

	guest_alloc(b, &p, PPN, mine, VMCI_INVALID_ID, 0, 4096, 4096);
	answer = ask_for(b, &p);
	assert_int_equal(guest_detach(&p), VMCI_SUCCESS);
	assert_int_equal(ring_map_direct(answer.fd[0], answer.fd[1], OTHER, 4096, 4096, &ring), 0);
	close(answer.fd[0]);
	until(b, look(ring) == RING_LEFT);
	assert_int_equal(ring_pages(ring), VMCI_ERROR_UNAVAILABLE);
	heard(b, FAB_QP_DETACH);
	ring_free(ring);
}

static void test_program_leaves(void **state)
{
	struct bench *b = *state;
	struct pair p;
	struct ring *ring = open_pair(b, &p, 4096, 4096);

	assert_int_equal(ring_write(ring, "last words", 10), 10);
	ring_free(ring);
	until(b, b->rig->dev->inbox.count == 1);
	assert_int_equal(next_event(b->rig).id, VMCI_EVENT_QP_PEER_DETACH);
	assert_int_equal(guest_read(&p, (char[20]){ 0 }, 20), 10);
	turn(b);
	heard(b, FAB_QP_DETACH);
	assert_int_equal(guest_detach(&p), VMCI_SUCCESS);
}

/* A program that does not hear cannot keep the guest: what it would have read stays in its socket. */
static void test_program_that_sleeps_through_it(void **state)
{
	struct bench *b = *state;
	struct pair p;
	struct ring *ring = open_pair(b, &p, 65536, 4096);

	write_pattern(&p, 3, 0, 65535);
	assert_int_equal(guest_detach(&p), VMCI_SUCCESS);
	assert_int_equal(fabric_lingering(b->f), 0);
	turn(b);
	assert_int_equal(guest_alloc(b, &p, PPN, mine, VMCI_INVALID_ID, 0, 65536, 4096), VMCI_SUCCESS_QUEUEPAIR_CREATE);
	assert_int_equal(look(ring), RING_LEFT);
	read_pattern(ring, 3, 0, 65535);
	ring_free(ring);
}

/*
 * The guest writes, leaves at once and uses its pages for something else, again and again, while the program reads in
 * another thread: all bytes, and no others.
 */
struct reader {
	struct ring *ring;
	size_t got;
	bool bad;
};

static void *read_all(void *ctx)
{
	struct reader *reader = ctx;
	int64_t end = now_ms() + LONG_MS;
	uint8_t buf[3000];

	while (now_ms() < end) {
		bool left = ring_state(reader->ring) == RING_LEFT;
		int64_t n = ring_read(reader->ring, buf, sizeof(buf));

		if (n < 0 || (!n && left))
			break;
		for (int64_t i = 0; i < n; i++)
			reader->bad |= buf[i] != pattern(1, reader->got + (size_t)i);
		reader->got += (size_t)n;
		if (!n)
			ring_hear(reader->ring, false);
	}
	return NULL;
}

static void test_race_with_a_reader(void **state)
{
	struct bench *b = *state;

	for (unsigned round = 0; round < 300; round++) {
		struct reader reader = { 0 };
		struct pair p;
		pthread_t thread;
		size_t sent = 0;

		reader.ring = open_pair(b, &p, 16384, 64);
		assert_int_equal(pthread_create(&thread, NULL, read_all, &reader), 0);
		while (sent < 20000 + round * 50) {
			uint8_t buf[500];

			for (size_t i = 0; i < sizeof(buf); i++)
				buf[i] = pattern(1, sent + i);
			sent += guest_write(&p, buf, sizeof(buf));
		}
		assert_int_equal(guest_detach(&p), VMCI_SUCCESS);
		scribble(&p);
		pthread_join(thread, NULL);
		assert_false(reader.bad);
		assert_int_equal(reader.got, sent);
		ring_free(reader.ring);
		turn(b);
		heard(b, FAB_QP_DETACH);
		b->n_notes = 0;
		memset(b->taken, 0, sizeof(b->taken));
	}
}

/* --- Memory ------------------------------------------------------------------------------------------------- */

static void test_memory_is_unmapped(void **state)
{
	struct bench *b = *state;
	struct pair p;
	struct ring *ring = open_pair(b, &p, 8192, 4096);

	write_pattern(&p, 1, 0, 100);
	/* Something else was. */
	fabric_memory_gone(b->f);
	assert_int_equal(look(ring), RING_ATTACHED);
	read_pattern(ring, 1, 0, 50);
	b->lend_error = -EFAULT;
	fabric_memory_gone(b->f);
	scribble(&p);
	assert_int_equal(ring_read(ring, (char[8]){ 0 }, 8), 0);
	assert_int_equal(ring_write(ring, "late", 4), 0);
	assert_int_equal(look(ring), RING_LEFT);
	assert_int_equal(ring_ready(ring, UINT64_MAX), 0);
	assert_int_equal(ring_room(ring, UINT64_MAX), 0);
	assert_int_equal(ring_read(ring, (char[8]){ 0 }, 8), 0);
	memset(ring->map, 0x11, ring->map_size);
	check_scribble(&p);
	assert_int_equal(next_event(b->rig).id, VMCI_EVENT_QP_PEER_DETACH);
	turn(b);
	heard(b, FAB_QP_DETACH);
	ring_free(ring);
}

static void test_memory_that_cannot_be_lent(void **state)
{
	static const int errors[] = { -ENOTSUP, -E2BIG, -EFAULT };
	struct bench *b = *state;
	struct pair p;

	assert_int_equal(guest_alloc(b, &p, PPN, mine, OTHER, 0, 4096, 4096), VMCI_SUCCESS_QUEUEPAIR_CREATE);
	for (unsigned i = 0; i < 3; i++) {
		struct ring *ring;
		struct pair q;

		b->lend_error = errors[i];
		assert_int_equal(ask_for(b, &p).status, VMCI_ERROR_CANNOT_SHARE_PAGE);
		ring = peer_creates(b, 4096, 4096);
		assert_int_equal(guest_alloc(b, &q, PPN + 16, theirs, OTHER, 0, 4096, 4096), VMCI_ERROR_NO_RESOURCES);
		assert_int_equal(look(ring), RING_LEFT);
		assert_int_equal(ring_pages(ring), VMCI_ERROR_CANNOT_SHARE_PAGE);
		assert_int_equal(ring_read(ring, (char[8]){ 0 }, 8), 0);
		turn(b);
		assert_true(handle_is_equal(heard(b, FAB_QP_DETACH).handle, theirs));
		ring_free(ring);
	}
	b->lend_error = 0;
	/* Meanwhile the pair is free for who is content with a copy. */
	ring_free(attach_peer(b, &p));
}

/* It was possible when the program asked, and is not when it comes. */
static void test_memory_that_cannot_be_lent_any_more(void **state)
{
	struct bench *b = *state;
	struct fab_msg answer;
	struct ring *ring;
	struct pair p;

	guest_alloc(b, &p, PPN, mine, VMCI_INVALID_ID, 0, 4096, 4096);
	answer = ask_for(b, &p);
	b->lend_error = -E2BIG;
	assert_int_equal(ring_map_direct(answer.fd[0], answer.fd[1], OTHER, 4096, 4096, &ring), 0);
	close(answer.fd[0]);
	until(b, look(ring) == RING_LEFT);
	assert_int_equal(ring_pages(ring), VMCI_ERROR_CANNOT_SHARE_PAGE);
	until(b, b->rig->dev->inbox.count == 2);
	heard(b, FAB_QP_DETACH);
	ring_free(ring);
}

/* Nearly as many as a pair may have. */
static void test_many_pieces(void **state)
{
	struct bench *b = *state;
	uint32_t ppn[4096];
	struct pair p;

	for (uint32_t i = 0; i < 4096; i++)
		ppn[i] = PPN + 2 * (i % 256);
	assert_int_equal(guest_alloc_pages(b, &p, ppn, mine, OTHER, 0, 2046 * PAGE, 2047 * PAGE),
			 VMCI_SUCCESS_QUEUEPAIR_CREATE);
	ring_free(attach(b, &p));
}

/* The program looks for itself, too. */
static void test_a_device_that_lends_what_can_vanish(void **state)
{
	struct bench *b = *state;
	struct fab_msg answer;
	struct ring *ring;
	struct pair p;

	b->lend_fd = memfd_create("unsealed", MFD_CLOEXEC);
	assert_int_equal(ftruncate(b->lend_fd, RAM_SIZE), 0);
	guest_alloc(b, &p, PPN, mine, VMCI_INVALID_ID, 0, 4096, 4096);
	answer = ask_for(b, &p);
	assert_int_equal(ring_map_direct(answer.fd[0], answer.fd[1], OTHER, 4096, 4096, &ring), 0);
	close(answer.fd[0]);
	until(b, look(ring) == RING_LEFT);
	assert_int_equal(ring_pages(ring), VMCI_ERROR_INVALID_ARGS);
	ring_free(ring);
	close(b->lend_fd);
}

/* --- Hostile guests ----------------------------------------------------------------------------------------- */

/* Our header page is in the guest's memory. What it writes there changes nothing for us. */
static void test_guest_forges_our_header(void **state)
{
	struct bench *b = *state;
	struct pair p;
	struct ring *ring = open_pair(b, &p, 8192, 4096);
	uint64_t forged[] = { 0, 1, 4095, 8191, 8192, UINT64_MAX };

	for (unsigned i = 0; i < sizeof(forged) / sizeof(forged[0]); i++) {
		memset(p.in, 0xff, 512);
		put_le64(p.in + VMCI_QUEUE_TAIL_OFFSET, forged[i]);
		put_le64(p.in + VMCI_QUEUE_HEAD_OFFSET, forged[i]);
		assert_int_equal(ring_ready(ring, UINT64_MAX), 0);
		assert_int_equal(ring_room(ring, UINT64_MAX), 4095);
		assert_int_equal(ring_arm(ring, RING_IN), 0);
		memset(p.in + 128, (int)forged[i], 256);
		turn(b);
		ring_hear(ring, false);
		ring_disarm(ring, RING_IN);
	}
	put_le64(p.in + VMCI_QUEUE_HEAD_OFFSET, 0);
	write_pattern(&p, 1, 0, 10);
	put_le64(p.in + VMCI_QUEUE_HEAD_OFFSET, 9000);
	assert_int_equal(guest_detach(&p), VMCI_SUCCESS);
	/* A head that is none: the last words are lost, and no more. */
	assert_int_equal(look(ring), RING_LEFT);
	assert_int_equal(ring_ready(ring, UINT64_MAX), 0);
	ring_free(ring);
}

static void test_guest_forges_its_own_header(void **state)
{
	struct bench *b = *state;
	struct pair p;
	struct ring *ring = open_pair(b, &p, 8192, 4096);

	put_le64(p.out + VMCI_QUEUE_TAIL_OFFSET, 8192);
	assert_int_equal(ring_ready(ring, UINT64_MAX), -EBADMSG);
	assert_int_equal(ring_arm(ring, RING_IN), -EBADMSG);
	put_le64(p.out + VMCI_QUEUE_HEAD_OFFSET, UINT64_MAX);
	assert_int_equal(ring_room(ring, UINT64_MAX), -EBADMSG);
	turn(b);
	assert_int_equal(guest_detach(&p), VMCI_SUCCESS);
	assert_int_equal(look(ring), RING_LEFT);
	ring_free(ring);
}

/* --- vmcid -------------------------------------------------------------------------------------------------- */

static void test_vmcid_dies(void **state)
{
	struct bench *b = *state;
	struct pair p;
	struct ring *ring = open_pair(b, &p, 8192, 4096);

	write_pattern(&p, 4, 0, 1000);
	vmcid_stop(b);
	turn(b);
	read_pattern(ring, 4, 0, 1000);
	write_pattern(&p, 4, 0, 1000);
	assert_int_equal(guest_detach(&p), VMCI_SUCCESS);
	assert_int_equal(look(ring), RING_LEFT);
	read_pattern(ring, 4, 0, 1000);
	ring_free(ring);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(test_##name, bench_setup, bench_teardown)
	const struct CMUnitTest tests[] = {
		TEST(bytes_both_ways),
		TEST(odd_sizes),
		TEST(one_direction_only),
		TEST(scattered_pages),
		TEST(guest_attaches),
		TEST(a_sleeping_program_is_woken),
		TEST(a_long_sleep),
		TEST(guest_detaches),
		TEST(driver_resets),
		TEST(machine_resets),
		TEST(acquired_while_the_guest_leaves),
		TEST(acquired_before_the_snapshot),
		TEST(guest_leaves_before_the_program_maps),
		TEST(program_leaves),
		TEST(program_that_sleeps_through_it),
		TEST(race_with_a_reader),
		TEST(memory_is_unmapped),
		TEST(memory_that_cannot_be_lent),
		TEST(memory_that_cannot_be_lent_any_more),
		TEST(many_pieces),
		TEST(a_device_that_lends_what_can_vanish),
		TEST(guest_forges_our_header),
		TEST(guest_forges_its_own_header),
		TEST(vmcid_dies),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
