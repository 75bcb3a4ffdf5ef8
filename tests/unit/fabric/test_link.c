/* SPDX-License-Identifier: BSD-2-Clause */
/* One message at a time, over real sockets. All tests count descriptors before and after. */
#include "rig.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../base/tarpit.h"
#include "base/closer.h"
#include "base/fd.h"

/* The sockets of a test, and what was open before it. */
struct bench {
	int us;
	int peer;
	int before;
	uint8_t *buf;
};

static int setup(void **state, int flags)
{
	struct bench *b = calloc(1, sizeof(*b));
	int fd[2];

	b->buf = malloc(FAB_MSG_MAX);	/* exactly, so that a sanitizer sees what is written behind it */
	b->before = rig_count_fds();
	rig_pair(flags, fd);
	b->us = fd[0];
	b->peer = fd[1];
	*state = b;
	return 0;
}

static int setup_blocking(void **state)
{
	return setup(state, 0);
}

static int setup_nonblocking(void **state)
{
	return setup(state, SOCK_NONBLOCK);
}

static int teardown(void **state)
{
	struct bench *b = *state;
	int after;

	fd_close(&b->us);
	fd_close(&b->peer);
	after = rig_count_fds();
	if (after != b->before)
		print_error("%d descriptors before, %d after\n", b->before, after);
	after -= b->before;
	free(b->buf);
	free(b);
	return after;
}

static struct fab_msg datagram(const uint8_t *data, size_t len)
{
	return (struct fab_msg){ .type = FAB_DG_SEND, .kind = FAB_REQUEST, .serial = 7, .data = data, .len = len };
}

static struct fab_msg bell(int fd)
{
	return (struct fab_msg){ .type = FAB_BELL_CREATE, .kind = FAB_REQUEST, .serial = 9, .n_fds = 1, .fd = { fd } };
}

/* Is the next message there, and the one that is expected? */
static void expect(struct bench *b, const struct fab_msg *sent)
{
	struct fab_msg msg;

	assert_int_equal(fab_recv(b->peer, b->buf, &msg), 0);
	assert_true(rig_is_equal(sent, &msg));
	fab_drop(&msg);
}

static void expect_why(struct bench *b, int r, const char *words)
{
	struct fab_msg msg, untouched;
	const char *why = NULL;

	memset(&msg, 0xee, sizeof(msg));
	memset(&untouched, 0xee, sizeof(untouched));
	assert_int_equal(fab_recv_why(b->peer, b->buf, &msg, &why), r);
	assert_memory_equal(&msg, &untouched, sizeof(msg));
	if (words) {
		assert_non_null(why);
		assert_non_null(strstr(why, words));
	} else {
		assert_null(why);
	}
}

static void test_data_of_all_sizes(void **state)
{
	static const size_t sizes[] = { 24, 25, 4096, FAB_DATA_MAX - 1, FAB_DATA_MAX };
	struct bench *b = *state;
	uint8_t *data = malloc(FAB_DATA_MAX);

	for (size_t i = 0; i < FAB_DATA_MAX; i++)
		data[i] = (uint8_t)(i * 13);
	for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct fab_msg msg = datagram(data, sizes[i]);

		assert_int_equal(fab_send(b->us, &msg), 0);
		expect(b, &msg);
	}
	free(data);
}

static void test_several_in_order(void **state)
{
	struct bench *b = *state;

	for (uint32_t i = 0; i < 20; i++) {
		struct fab_msg msg = { .type = FAB_WATCH, .kind = FAB_REQUEST, .serial = i };

		assert_int_equal(fab_send(b->us, &msg), 0);
	}
	for (uint32_t i = 0; i < 20; i++) {
		struct fab_msg msg = { .type = FAB_WATCH, .kind = FAB_REQUEST, .serial = i };

		expect(b, &msg);
	}
}

static void test_descriptors_come_in_order_and_close_on_exec(void **state)
{
	struct bench *b = *state;
	struct fab_msg sent = { .type = FAB_QP_ATTACH, .kind = FAB_ANSWER, .status = 5, .n_fds = 2 }, msg;

	for (unsigned i = 0; i < 2; i++)
		sent.fd[i] = rig_eventfd(i + 1);
	assert_int_equal(fab_send(b->us, &sent), 0);
	assert_int_equal(sent.n_fds, 2);	/* they stay the caller's */
	assert_int_equal(fab_recv(b->peer, b->buf, &msg), 0);
	assert_int_equal(msg.n_fds, 2);
	for (unsigned i = 0; i < 2; i++) {
		assert_int_not_equal(msg.fd[i], sent.fd[i]);
		assert_int_equal(fcntl(msg.fd[i], F_GETFD), FD_CLOEXEC);
		assert_int_equal(rig_eventfd_value(msg.fd[i]), i + 1);
	}
	fab_drop(&sent);
	fab_drop(&msg);
}

static void test_unused_places_are_empty(void **state)
{
	struct bench *b = *state;
	struct fab_msg sent = bell(rig_eventfd(1)), msg;

	assert_int_equal(fab_send(b->us, &sent), 0);
	memset(&msg, 0, sizeof(msg));
	assert_int_equal(fab_recv(b->peer, b->buf, &msg), 0);
	for (unsigned i = 1; i < FAB_FDS_MAX; i++)
		assert_int_equal(msg.fd[i], -1);
	fab_drop(&sent);
	fab_drop(&msg);
}

static void test_drop_leaves_what_was_taken(void **state)
{
	struct bench *b = *state;
	struct fab_msg sent = { .type = FAB_QP_ATTACH, .kind = FAB_ANSWER, .status = 5, .n_fds = 2 }, msg;
	int taken, dropped;

	for (unsigned i = 0; i < 2; i++)
		sent.fd[i] = rig_eventfd(i + 1);
	assert_int_equal(fab_send(b->us, &sent), 0);
	fab_drop(&sent);
	assert_int_equal(fab_recv(b->peer, b->buf, &msg), 0);
	taken = fd_take(&msg.fd[1]);
	dropped = msg.fd[0];
	fab_drop(&msg);
	assert_int_equal(msg.n_fds, 0);
	assert_int_equal(fcntl(dropped, F_GETFD), -1);
	assert_int_equal(rig_eventfd_value(taken), 2);
	fab_drop(&msg);		/* once more: nothing to do */
	fd_close(&taken);
}

static void test_a_missing_descriptor_is_not_sent(void **state)
{
	struct bench *b = *state;
	struct fab_msg msg = bell(-1);

	assert_int_equal(fab_send(b->us, &msg), -EBADF);
	msg = (struct fab_msg){ .type = FAB_QP_CREATE, .kind = FAB_REQUEST, .n_fds = 2 };
	for (unsigned i = 0; i < 2; i++)
		msg.fd[i] = rig_eventfd(0);
	fd_close(&msg.fd[1]);
	assert_int_equal(fab_send(b->us, &msg), -EBADF);
	fab_drop(&msg);
	/* a number that is no descriptor */
	msg = bell(1000000);
	assert_int_equal(fab_send(b->us, &msg), -EBADF);
	expect_why(b, -EAGAIN, NULL);
}

static void test_never_waits(void **state)
{
	struct bench *b = *state;
	struct fab_msg msg = { .type = FAB_WATCH, .kind = FAB_REQUEST };

	expect_why(b, -EAGAIN, NULL);
	assert_true(rig_fill(b->us) > 10);
	assert_int_equal(fab_send(b->us, &msg), -EAGAIN);
	msg = bell(rig_eventfd(0));
	assert_int_equal(fab_send(b->us, &msg), -EAGAIN);
	fab_drop(&msg);
}

static void test_flags_of_the_socket_stay(void **state)
{
	struct bench *b = *state;
	int before = fcntl(b->us, F_GETFL);
	struct fab_msg msg = { .type = FAB_WATCH, .kind = FAB_REQUEST };

	assert_int_equal(fab_send(b->us, &msg), 0);
	expect(b, &msg);
	assert_int_equal(fcntl(b->us, F_GETFL), before);
}

static void test_the_end_of_the_peer(void **state)
{
	struct bench *b = *state;
	struct fab_msg msg = { .type = FAB_WATCH, .kind = FAB_REQUEST };

	assert_int_equal(fab_send(b->us, &msg), 0);
	fd_close(&b->us);
	/* what it said before is still there */
	expect(b, &msg);
	expect_why(b, -ECONNRESET, NULL);
	expect_why(b, -ECONNRESET, NULL);
	/* and there is no signal: it would end this program */
	assert_int_equal(fab_send(b->peer, &msg), -EPIPE);
	msg = bell(rig_eventfd(0));
	assert_int_equal(fab_send(b->peer, &msg), -EPIPE);
	fab_drop(&msg);
}

/* The kernel tells first that the peer did not read everything. */
static void test_last_words_of_a_peer_that_did_not_read(void **state)
{
	struct bench *b = *state;
	struct fab_msg msg = { .type = FAB_WATCH, .kind = FAB_REQUEST, .serial = 1 };

	assert_int_equal(fab_send(b->peer, &msg), 0);
	assert_int_equal(fab_send(b->us, &msg), 0);
	fd_close(&b->us);
	expect(b, &msg);
	expect_why(b, -ECONNRESET, NULL);
}

static void test_half_closed(void **state)
{
	struct bench *b = *state;

	assert_int_equal(shutdown(b->us, SHUT_WR), 0);
	expect_why(b, -ECONNRESET, NULL);
}

static void test_an_empty_packet_is_no_end(void **state)
{
	struct bench *b = *state;
	struct fab_msg msg = { .type = FAB_WATCH, .kind = FAB_REQUEST };

	rig_send_raw(b->us, "", 0, -1, 0);
	expect_why(b, -EBADMSG, "shorter");
	rig_send_raw(b->us, "", 0, -1, 0);
	assert_int_equal(fab_send(b->us, &msg), 0);
	expect_why(b, -EBADMSG, "shorter");
	expect(b, &msg);
	/* one with descriptors */
	rig_send_raw(b->us, "", 0, b->us, 3);
	expect_why(b, -EBADMSG, "shorter");
}

static void test_packets_that_are_too_long(void **state)
{
	struct bench *b = *state;
	uint8_t *big = calloc(1, FAB_MSG_MAX + 1);
	struct fab_msg msg = datagram(big, FAB_DATA_MAX);

	/* one byte more than the largest message, which is right but for that */
	fab_build(&msg, big);
	rig_send_raw(b->us, big, FAB_MSG_MAX + 1, -1, 0);
	expect_why(b, -EBADMSG, "longer");
	rig_send_raw(b->us, big, FAB_MSG_MAX + 1, b->us, 4);
	expect_why(b, -EBADMSG, "longer");
	rig_send_raw(b->us, big, FAB_MSG_MAX, -1, 0);
	assert_int_equal(fab_recv(b->peer, b->buf, &msg), 0);
	free(big);
}

static void test_descriptors_where_none_belong(void **state)
{
	struct bench *b = *state;
	struct fab_msg msg = { .type = FAB_WATCH, .kind = FAB_REQUEST };
	uint8_t head[FAB_HEADER_SIZE];

	fab_build(&msg, head);
	for (unsigned n = 1; n <= 40; n++) {
		rig_send_raw(b->us, head, sizeof(head), b->us, n);
		expect_why(b, -EBADMSG, "descriptors");
	}
	/* the next one is fine */
	assert_int_equal(fab_send(b->us, &msg), 0);
	expect(b, &msg);
}

static void test_too_many_and_too_few(void **state)
{
	struct bench *b = *state;
	struct fab_msg msg = { .type = FAB_QP_CREATE, .kind = FAB_REQUEST, .n_fds = 2 };
	uint8_t head[FAB_HEADER_SIZE];

	fab_build(&msg, head);
	for (unsigned n = 0; n <= 12; n++)
		if (n != 2) {
			rig_send_raw(b->us, head, sizeof(head), b->us, n);
			expect_why(b, -EBADMSG, "descriptors");
		}
	rig_send_raw(b->us, head, sizeof(head), b->us, 2);
	assert_int_equal(fab_recv(b->peer, b->buf, &msg), 0);
	assert_int_equal(msg.n_fds, 2);
	fab_drop(&msg);
}

static void test_garbage_with_descriptors(void **state)
{
	struct bench *b = *state;
	uint8_t junk[200];

	memset(junk, 0xff, sizeof(junk));
	for (unsigned n = 0; n <= 4; n++) {
		rig_send_raw(b->us, junk, sizeof(junk), b->us, n);
		expect_why(b, -EBADMSG, "type");
		rig_send_raw(b->us, junk, 63, b->us, n);
		expect_why(b, -EBADMSG, "shorter");
	}
}

/* As many as a message can have, each of which makes whoever closes it wait; and some in a message that is right. */
static void test_descriptors_that_take_long_to_close(void **state)
{
	struct bench *b = *state;
	struct fab_msg msg = { .type = FAB_QP_CREATE, .kind = FAB_REQUEST, .n_fds = 2 };
	int fds[TARPIT_FDS_MAX], open_before = rig_count_fds();
	int64_t began;

	fds[0] = tarpit();
	began = tarpit_now_ms();
	closer_close(&fds[0]);
	b->before += rig_count_fds() - open_before;	/* the reader of all */
	assert_int_equal(closer_start(100), 0);
	for (unsigned i = 0; i < TARPIT_FDS_MAX; i++)
		fds[i] = tarpit_nested(i % 4 == 3);
	assert_int_equal(tarpit_send(b->us, fds, TARPIT_FDS_MAX), 0);
	expect_why(b, -EBADMSG, "more descriptors");
	for (unsigned i = 0; i < 2; i++)
		msg.fd[i] = tarpit_nested(i);
	assert_int_equal(fab_send(b->us, &msg), 0);
	for (unsigned i = 0; i < 2; i++)
		closer_close(&msg.fd[i]);
	assert_int_equal(fab_recv(b->peer, b->buf, &msg), 0);
	fab_drop(&msg);
	assert_true(tarpit_now_ms() - began < TARPIT_LIMIT_MS);
	closer_stop();
}

/* This process may open no more: the kernel drops what does not fit. */
static void test_at_the_limit_of_descriptors(void **state)
{
	struct bench *b = *state;
	struct fab_msg msg = { .type = FAB_QP_CREATE, .kind = FAB_REQUEST, .n_fds = 2 };
	struct rlimit old, tight;
	int next = dup(b->us);

	close(next);
	for (unsigned i = 0; i < 2; i++)
		msg.fd[i] = b->us;
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
	for (unsigned room = 0; room < 2; room++) {
		const char *why;
		int r;

		assert_int_equal(fab_send(b->us, &msg), 0);
		tight = (struct rlimit){ .rlim_cur = (rlim_t)next + room, .rlim_max = old.rlim_max };
		assert_int_equal(setrlimit(RLIMIT_NOFILE, &tight), 0);
		r = fab_recv_why(b->peer, b->buf, &msg, &why);
		assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
		assert_int_equal(r, -EBADMSG);
		assert_non_null(strstr(why, "open"));
		assert_int_equal(msg.fd[0], b->us);	/* untouched */
	}
	assert_int_equal(fab_send(b->us, &msg), 0);
	expect(b, &msg);
}

/* Credentials that somebody asked for are no descriptors. */
static void test_credentials_beside_descriptors(void **state)
{
	struct bench *b = *state;
	struct fab_msg msg = { .type = FAB_QP_CREATE, .kind = FAB_REQUEST, .n_fds = 2 };
	int on = 1;

	for (unsigned i = 0; i < 2; i++)
		msg.fd[i] = b->us;
	assert_int_equal(setsockopt(b->peer, SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)), 0);
	assert_int_equal(fab_send(b->us, &msg), 0);
	expect(b, &msg);
}

static void test_no_socket_at_all(void **state)
{
	struct bench *b = *state;
	struct fab_msg msg = { .type = FAB_WATCH, .kind = FAB_REQUEST };

	assert_int_equal(fab_send(-1, &msg), -EBADF);
	assert_int_equal(fab_recv(-1, b->buf, &msg), -EBADF);
}

#define BOTH(f) \
	{ #f ", blocking", f, setup_blocking, teardown, NULL }, \
	{ #f ", non-blocking", f, setup_nonblocking, teardown, NULL }

int main(void)
{
	const struct CMUnitTest tests[] = {
		BOTH(test_data_of_all_sizes),
		BOTH(test_several_in_order),
		BOTH(test_descriptors_come_in_order_and_close_on_exec),
		BOTH(test_unused_places_are_empty),
		BOTH(test_drop_leaves_what_was_taken),
		BOTH(test_a_missing_descriptor_is_not_sent),
		BOTH(test_never_waits),
		BOTH(test_flags_of_the_socket_stay),
		BOTH(test_the_end_of_the_peer),
		BOTH(test_last_words_of_a_peer_that_did_not_read),
		BOTH(test_half_closed),
		BOTH(test_an_empty_packet_is_no_end),
		BOTH(test_packets_that_are_too_long),
		BOTH(test_descriptors_where_none_belong),
		BOTH(test_too_many_and_too_few),
		BOTH(test_garbage_with_descriptors),
		BOTH(test_descriptors_that_take_long_to_close),
		BOTH(test_at_the_limit_of_descriptors),
		BOTH(test_credentials_beside_descriptors),
		BOTH(test_no_socket_at_all),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
