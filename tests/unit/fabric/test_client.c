/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The client's end, against a vmcid that is played by the test. Serials count from 1, so a reply can be in the socket
 * before its request: what waits then, waits for nothing. Where something has to happen during a call, a thread does
 * it.
 */
#include "rig.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "base/fd.h"
#include "fabric/client.h"

#define LONG_MS 20000	/* only failures wait so long */
#define SHORT_MS 30

struct bench {
	struct fab_client *client;
	int vmcid;
	int before;
	uint8_t buf[FAB_MSG_MAX];
};

static int setup(void **state)
{
	struct bench *b = calloc(1, sizeof(*b));
	int fd[2];

	b->before = rig_count_fds();
	rig_pair(0, fd);
	assert_int_equal(fab_client_new(fd[0], &b->client), 0);
	b->vmcid = fd[1];
	*state = b;
	return 0;
}

static int teardown(void **state)
{
	struct bench *b = *state;
	int after;

	b->client = fab_client_free(b->client);
	fd_close(&b->vmcid);
	after = rig_count_fds();
	if (after != b->before)
		print_error("%d descriptors before, %d after\n", b->before, after);
	after -= b->before;
	free(b);
	return after;
}

/* What vmcid says. */
static void reply(struct bench *b, enum fab_type type, uint32_t serial, uint64_t size0)
{
	struct fab_msg msg = { .type = type, .kind = FAB_REPLY, .serial = serial, .size0 = size0 };

	assert_int_equal(fab_send(b->vmcid, &msg), 0);
}

/* A reply with a descriptor, which holds @value. */
static void reply_bell(struct bench *b, uint32_t serial, unsigned value)
{
	struct fab_msg msg = {
		.type = FAB_BELL_OPEN, .kind = FAB_REPLY, .serial = serial, .n_fds = 1, .fd = { rig_eventfd(value) },
	};

	assert_int_equal(fab_send(b->vmcid, &msg), 0);
	fab_drop(&msg);
}

static void ask(struct bench *b, uint32_t serial)
{
	struct fab_msg msg = {
		.type = FAB_BELL_OPEN, .kind = FAB_ASK, .serial = serial, .handle = handle_make(20, 1000 + serial),
	};

	assert_int_equal(fab_send(b->vmcid, &msg), 0);
}

/* What vmcid hears. */
static struct fab_msg heard(struct bench *b)
{
	struct fab_msg msg;

	assert_int_equal(fab_recv(b->vmcid, b->buf, &msg), 0);
	return msg;
}

static void hears_the_end(struct bench *b)
{
	struct fab_msg msg;

	assert_int_equal(fab_recv(b->vmcid, b->buf, &msg), -ECONNRESET);
}

static int call(struct bench *b, enum fab_type type, int timeout_ms, struct fab_msg *ret_reply)
{
	/* kind and serial are set by the call */
	struct fab_msg request = { .type = type, .kind = FAB_ANSWER, .serial = 99 };

	return fab_client_call(b->client, &request, timeout_ms, ret_reply);
}

static int64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static void is_dead(struct bench *b)
{
	struct pollfd pollfd = { .fd = fab_client_fd(b->client), .events = POLLIN };
	struct fab_msg msg;

	assert_false(fab_client_is_alive(b->client));
	assert_int_equal(poll(&pollfd, 1, 0), 1);	/* an event loop notices */
	assert_int_equal(call(b, FAB_LIST, LONG_MS, &msg), -ECONNRESET);
	assert_int_equal(fab_client_next(b->client, &msg), -ECONNRESET);
	msg = (struct fab_msg){ .type = FAB_BELL_OPEN, .status = VMCI_ERROR_NOT_FOUND };
	assert_int_equal(fab_client_answer(b->client, &msg), -ECONNRESET);
}

static void test_call_and_reply(void **state)
{
	struct bench *b = *state;
	struct fab_msg msg;

	for (uint32_t serial = 1; serial <= 200; serial++) {
		reply(b, FAB_SHM_QUERY, serial, serial * 3);
		assert_int_equal(call(b, FAB_SHM_QUERY, LONG_MS, &msg), 0);
		assert_int_equal(msg.kind, FAB_REPLY);
		assert_int_equal(msg.size0, serial * 3);
		msg = heard(b);
		assert_int_equal(msg.kind, FAB_REQUEST);
		assert_int_equal(msg.serial, serial);
	}
	assert_true(fab_client_is_alive(b->client));
}

static void test_data_both_ways_stay_until_the_next_call(void **state)
{
	struct bench *b = *state;
	uint8_t data[FAB_DATA_MAX], junk[FAB_MSG_MAX];
	struct fab_msg request = { .type = FAB_DG_SEND, .data = data, .len = sizeof(data) }, msg, question;
	struct fab_msg list = { .type = FAB_LIST, .kind = FAB_REPLY, .serial = 2, .data = data, .len = sizeof(data) };

	memset(data, 0x5a, sizeof(data));
	reply(b, FAB_DG_SEND, 1, 0);
	assert_int_equal(fab_client_call(b->client, &request, LONG_MS, &msg), 0);
	msg = heard(b);
	assert_int_equal(msg.len, sizeof(data));
	assert_memory_equal(msg.data, data, sizeof(data));

	assert_int_equal(fab_send(b->vmcid, &list), 0);
	assert_int_equal(call(b, FAB_LIST, LONG_MS, &msg), 0);
	assert_int_equal(msg.len, sizeof(data));
	/* a question is received meanwhile */
	ask(b, 1);
	assert_int_equal(fab_client_next(b->client, &question), 0);
	assert_int_equal(fab_client_next(b->client, &question), -EAGAIN);
	assert_memory_equal(msg.data, data, sizeof(data));
	/* and nonsense, which ends the connection */
	memset(junk, 0xa5, sizeof(junk));
	rig_send_raw(b->vmcid, junk, sizeof(junk), -1, 0);
	assert_int_equal(fab_client_next(b->client, &question), -ECONNRESET);
	assert_memory_equal(msg.data, data, sizeof(data));
}

static void test_descriptors_both_ways(void **state)
{
	struct bench *b = *state;
	struct fab_msg request = { .type = FAB_BELL_CREATE, .n_fds = 1, .fd = { rig_eventfd(5) } }, msg;

	reply(b, FAB_BELL_CREATE, 1, 0);
	assert_int_equal(fab_client_call(b->client, &request, LONG_MS, &msg), 0);
	assert_int_equal(rig_eventfd_value(request.fd[0]), 5);		/* it stayed ours */
	fab_drop(&request);
	msg = heard(b);
	assert_int_equal(msg.n_fds, 1);
	fab_drop(&msg);

	reply_bell(b, 2, 6);
	assert_int_equal(call(b, FAB_BELL_OPEN, LONG_MS, &msg), 0);
	assert_int_equal(msg.n_fds, 1);
	assert_int_equal(rig_eventfd_value(msg.fd[0]), 6);
	fab_drop(&msg);
}

static void test_an_error_is_a_reply(void **state)
{
	struct bench *b = *state;
	struct fab_msg msg = { .type = FAB_LIST, .kind = FAB_REPLY, .serial = 1, .status = VMCI_ERROR_NO_ACCESS };

	assert_int_equal(fab_send(b->vmcid, &msg), 0);
	assert_int_equal(call(b, FAB_LIST, LONG_MS, &msg), 0);
	assert_int_equal(msg.status, VMCI_ERROR_NO_ACCESS);
}

/* --- Time -------------------------------------------------------------------------------------------------- */

static void test_no_reply(void **state)
{
	struct bench *b = *state;
	struct fab_msg msg;
	int64_t began = now_ms();

	assert_int_equal(call(b, FAB_LIST, SHORT_MS, &msg), -ETIMEDOUT);
	assert_true(now_ms() - began >= SHORT_MS - 1);
	assert_int_equal(call(b, FAB_LIST, 0, &msg), -ETIMEDOUT);
	assert_true(fab_client_is_alive(b->client));
	assert_int_equal(heard(b).serial, 1);
	assert_int_equal(heard(b).serial, 2);
}

static void test_late_replies_are_thrown_away(void **state)
{
	struct bench *b = *state;
	struct fab_msg msg;

	assert_int_equal(call(b, FAB_BELL_OPEN, 0, &msg), -ETIMEDOUT);
	assert_int_equal(call(b, FAB_LIST, 0, &msg), -ETIMEDOUT);
	assert_int_equal(call(b, FAB_BELL_OPEN, 0, &msg), -ETIMEDOUT);
	reply_bell(b, 1, 1);
	reply(b, FAB_LIST, 2, 0);
	reply_bell(b, 3, 3);
	reply_bell(b, 4, 4);
	assert_int_equal(call(b, FAB_BELL_OPEN, LONG_MS, &msg), 0);
	assert_int_equal(rig_eventfd_value(msg.fd[0]), 4);
	fab_drop(&msg);
	/* and when nobody calls */
	assert_int_equal(call(b, FAB_BELL_OPEN, 0, &msg), -ETIMEDOUT);
	reply_bell(b, 5, 5);
	assert_int_equal(fab_client_next(b->client, &msg), -EAGAIN);
	/* now none is expected any more */
	reply_bell(b, 5, 5);
	assert_int_equal(fab_client_next(b->client, &msg), -ECONNRESET);
	is_dead(b);
}

/* vmcid replies in order, so the reply to a younger request says that the older one gets none. */
static void test_lost_replies(void **state)
{
	struct bench *b = *state;
	struct fab_msg msg;

	assert_int_equal(call(b, FAB_LIST, 0, &msg), -ETIMEDOUT);
	reply(b, FAB_LIST, 2, 0);
	assert_int_equal(call(b, FAB_LIST, LONG_MS, &msg), 0);
	reply(b, FAB_LIST, 1, 0);
	reply(b, FAB_LIST, 3, 0);
	assert_int_equal(call(b, FAB_LIST, LONG_MS, &msg), -EPIPE);
	is_dead(b);
}

static void test_the_pipeline_is_bounded(void **state)
{
	struct bench *b = *state;
	struct fab_msg msg;

	for (unsigned i = 0; i < FAB_PIPELINE; i++)
		assert_int_equal(call(b, FAB_LIST, 0, &msg), -ETIMEDOUT);
	assert_int_equal(call(b, FAB_LIST, SHORT_MS, &msg), -ETIMEDOUT);
	for (uint32_t i = 1; i <= FAB_PIPELINE; i++)
		assert_int_equal(heard(b).serial, i);
	/* that one was not sent */
	assert_int_equal(fab_recv(b->vmcid, b->buf, &msg), -EAGAIN);
	reply(b, FAB_LIST, 1, 0);
	assert_int_equal(call(b, FAB_LIST, SHORT_MS, &msg), -ETIMEDOUT);
	assert_int_equal(heard(b).serial, FAB_PIPELINE + 1);
	reply(b, FAB_LIST, FAB_PIPELINE + 1, 0);
	reply(b, FAB_LIST, FAB_PIPELINE + 2, 77);
	assert_int_equal(call(b, FAB_LIST, LONG_MS, &msg), 0);
	assert_int_equal(msg.size0, 77);
}

/* --- A vmcid that lies -------------------------------------------------------------------------------------- */

static void test_replies_to_nothing(void **state)
{
	static const uint32_t serials[] = { 0, 2, 3, 64, 65, 66, 0x80000001, UINT32_MAX };

	for (unsigned i = 0; i < sizeof(serials) / sizeof(serials[0]); i++) {
		struct bench *b;
		struct fab_msg msg;

		if (i) {
			assert_int_equal(teardown(state), 0);
			setup(state);
		}
		b = *state;
		reply_bell(b, serials[i], 1);
		assert_int_equal(call(b, FAB_BELL_OPEN, LONG_MS, &msg), -EPIPE);
		is_dead(b);
	}
}

static void test_a_reply_twice(void **state)
{
	struct bench *b = *state;
	struct fab_msg msg;

	reply_bell(b, 1, 1);
	reply_bell(b, 1, 1);
	assert_int_equal(call(b, FAB_BELL_OPEN, LONG_MS, &msg), 0);
	fab_drop(&msg);
	assert_int_equal(call(b, FAB_BELL_OPEN, LONG_MS, &msg), -EPIPE);
	is_dead(b);
}

static void test_a_reply_before_any_request(void **state)
{
	struct bench *b = *state;
	struct fab_msg msg;

	reply(b, FAB_LIST, 1, 0);
	assert_int_equal(fab_client_next(b->client, &msg), -ECONNRESET);
	is_dead(b);
}

static void test_a_reply_of_another_type(void **state)
{
	struct bench *b = *state;
	struct fab_msg msg;

	reply_bell(b, 1, 1);
	assert_int_equal(call(b, FAB_LIST, LONG_MS, &msg), -EPIPE);
	is_dead(b);
}

static void test_kinds_that_only_clients_say(void **state)
{
	struct bench *b = *state;
	struct fab_msg msg = { .type = FAB_LIST, .kind = FAB_REQUEST, .serial = 1 };

	assert_int_equal(fab_send(b->vmcid, &msg), 0);
	assert_int_equal(call(b, FAB_LIST, LONG_MS, &msg), -EPIPE);
	is_dead(b);

	assert_int_equal(teardown(state), 0);
	setup(state);
	b = *state;
	msg = (struct fab_msg){ .type = FAB_BELL_OPEN, .kind = FAB_ANSWER, .n_fds = 1, .fd = { b->vmcid } };
	assert_int_equal(fab_send(b->vmcid, &msg), 0);
	assert_int_equal(fab_client_next(b->client, &msg), -ECONNRESET);
	is_dead(b);
}

static void test_nonsense(void **state)
{
	struct bench *b = *state;
	uint8_t junk[FAB_MSG_MAX + 100];
	struct fab_msg msg;

	memset(junk, 0xff, sizeof(junk));
	for (unsigned i = 0; i < 4; i++) {
		static const size_t lens[] = { 0, 10, 64, sizeof(junk) };

		if (i) {
			assert_int_equal(teardown(state), 0);
			setup(state);
			b = *state;
		}
		rig_send_raw(b->vmcid, junk, lens[i], b->vmcid, i);
		assert_int_equal(call(b, FAB_LIST, LONG_MS, &msg), -EPIPE);
		is_dead(b);
		while (!fab_recv(b->vmcid, b->buf, &msg))
			;
		hears_the_end(b);
	}
}

static void test_descriptors_where_none_belong(void **state)
{
	struct bench *b = *state;
	struct fab_msg msg = { .type = FAB_LIST, .kind = FAB_REPLY, .serial = 1 };
	uint8_t head[FAB_HEADER_SIZE];

	fab_build(&msg, head);
	rig_send_raw(b->vmcid, head, sizeof(head), b->vmcid, 1);
	assert_int_equal(call(b, FAB_LIST, LONG_MS, &msg), -EPIPE);
	is_dead(b);
}

/* --- The end ------------------------------------------------------------------------------------------------ */

static void test_no_vmcid_any_more(void **state)
{
	struct bench *b = *state;
	struct fab_msg msg;

	assert_true(fab_client_is_alive(b->client));
	fd_close(&b->vmcid);
	assert_int_equal(call(b, FAB_LIST, LONG_MS, &msg), -ECONNRESET);
	is_dead(b);
}

static void test_the_end_is_noticed_without_a_call(void **state)
{
	struct bench *b = *state;
	struct fab_msg msg;

	fd_close(&b->vmcid);
	assert_int_equal(fab_client_next(b->client, &msg), -ECONNRESET);
	is_dead(b);
}

static void test_the_end_after_sending(void **state)
{
	struct bench *b = *state;
	struct fab_msg msg;

	/* it can still send, nothing will come */
	assert_int_equal(shutdown(b->vmcid, SHUT_WR), 0);
	assert_int_equal(call(b, FAB_LIST, LONG_MS, &msg), -EPIPE);
	is_dead(b);
}

static void test_a_reply_before_the_end_counts(void **state)
{
	struct bench *b = *state;
	struct fab_msg msg;

	assert_int_equal(call(b, FAB_WATCH, 0, &msg), -ETIMEDOUT);	/* vmcid does not read this one */
	reply(b, FAB_WATCH, 1, 0);
	reply(b, FAB_LIST, 2, 5);
	assert_int_equal(shutdown(b->vmcid, SHUT_WR), 0);
	assert_int_equal(call(b, FAB_LIST, LONG_MS, &msg), 0);
	assert_int_equal(msg.size0, 5);
	assert_int_equal(call(b, FAB_LIST, LONG_MS, &msg), -EPIPE);
}

static void test_no_connection(void **state)
{
	struct fab_client *client;
	struct fab_msg msg = { .type = FAB_LIST };
	struct bench *b = *state;
	int number;

	assert_int_equal(fab_client_new(-1, &client), 0);
	assert_false(fab_client_is_alive(client));
	assert_int_equal(fab_client_fd(client), -1);
	assert_int_equal(fab_client_call(client, &msg, -1, &msg), -ECONNRESET);
	assert_int_equal(fab_client_next(client, &msg), -ECONNRESET);
	assert_null(fab_client_free(client));
	assert_null(fab_client_free(NULL));

	/* somebody closed our descriptor: a bug of theirs, but no reason to wait for ever */
	number = fab_client_fd(b->client);
	close(number);
	assert_int_equal(call(b, FAB_LIST, -1, &msg), -ECONNRESET);
	is_dead(b);
	fd_close(&b->vmcid);
	b->client = fab_client_free(b->client);
	assert_int_equal(fab_client_new(-1, &b->client), 0);
}

/* --- Questions ---------------------------------------------------------------------------------------------- */

static void test_questions_during_a_call(void **state)
{
	struct bench *b = *state;
	struct fab_msg msg, question;

	ask(b, 1);
	ask(b, 2);
	reply(b, FAB_LIST, 1, 0);
	ask(b, 3);
	assert_int_equal(call(b, FAB_LIST, LONG_MS, &msg), 0);
	for (uint32_t i = 1; i <= 3; i++) {
		assert_int_equal(fab_client_next(b->client, &question), 0);
		assert_int_equal(question.kind, FAB_ASK);
		assert_int_equal(question.type, FAB_BELL_OPEN);
		assert_int_equal(question.serial, i);
		assert_int_equal(question.handle.resource, 1000 + i);
	}
	assert_int_equal(fab_client_next(b->client, &question), -EAGAIN);
}

/* Answers what it is asked; the vmcid of the test hears it before the reply that is waited for. */
static void answer_at_once(void *ctx, struct fab_msg *question)
{
	struct bench *b = ctx;
	struct fab_msg answer = { .type = question->type, .serial = question->serial, .status = VMCI_ERROR_NOT_FOUND };

	assert_int_equal(fab_client_answer(b->client, &answer), 0);
}

static void test_questions_during_a_call_can_be_answered_at_once(void **state)
{
	struct bench *b = *state;
	struct fab_msg msg;

	fab_client_on_ask(b->client, answer_at_once, b);
	ask(b, 7);
	ask(b, 8);
	reply(b, FAB_LIST, 1, 0);
	ask(b, 9);
	assert_int_equal(call(b, FAB_LIST, LONG_MS, &msg), 0);
	assert_int_equal(heard(b).kind, FAB_REQUEST);
	assert_int_equal(heard(b).serial, 7);
	msg = heard(b);
	assert_int_equal(msg.kind, FAB_ANSWER);
	assert_int_equal(msg.serial, 8);

	/* Outside of calls nothing is answered by itself. */
	assert_int_equal(fab_client_next(b->client, &msg), 0);
	assert_int_equal(msg.serial, 9);
	assert_int_equal(fab_client_next(b->client, &msg), -EAGAIN);
	assert_int_equal(fab_recv(b->vmcid, b->buf, &msg), -EAGAIN);
}

static void ask_stream(struct bench *b, uint32_t serial, unsigned value)
{
	struct fab_msg msg = { .type = FAB_STREAM_CONNECT, .kind = FAB_ASK, .serial = serial, .n_fds = 1 };

	msg.fd[0] = rig_eventfd(value);
	assert_int_equal(fab_send(b->vmcid, &msg), 0);
	fab_drop(&msg);
}

static int taken = -1;

static void take_it(void *ctx, struct fab_msg *question)
{
	(void)ctx;
	if (question->serial == 4)
		taken = fd_take(&question->fd[0]);
}

/* Whoever fetches a question has its descriptors; nobody has those of one that is not fetched. */
static void test_descriptors_of_questions(void **state)
{
	struct bench *b = *state;
	int before = rig_count_fds();
	struct fab_msg msg;

	ask_stream(b, 1, 11);
	ask_stream(b, 2, 12);
	reply(b, FAB_LIST, 1, 0);
	assert_int_equal(call(b, FAB_LIST, LONG_MS, &msg), 0);
	assert_int_equal(fab_client_next(b->client, &msg), 0);
	assert_int_equal(msg.n_fds, 1);
	assert_int_equal(rig_eventfd_value(msg.fd[0]), 11);
	fab_drop(&msg);
	assert_int_equal(rig_count_fds(), before + 1);

	/* At once: taken, or dropped. */
	fab_client_on_ask(b->client, take_it, b);
	ask_stream(b, 3, 13);
	ask_stream(b, 4, 14);
	reply(b, FAB_LIST, 2, 0);
	assert_int_equal(call(b, FAB_LIST, LONG_MS, &msg), 0);
	assert_int_equal(rig_eventfd_value(taken), 14);
	fd_close(&taken);
	assert_int_equal(rig_count_fds(), before + 1);

	/* The end drops what is left. */
	fd_close(&b->vmcid);
	assert_int_not_equal(call(b, FAB_LIST, LONG_MS, &msg), 0);
	is_dead(b);
	assert_int_equal(rig_count_fds(), before - 1);
}

static void test_so_many_questions(void **state)
{
	struct bench *b = *state;
	struct fab_msg msg;

	/* several times around the ring */
	for (uint32_t round = 0; round < 5; round++) {
		for (uint32_t i = 0; i < FAB_PIPELINE - 1; i++)
			ask(b, round * 100 + i);
		reply(b, FAB_LIST, round + 1, 0);
		assert_int_equal(call(b, FAB_LIST, LONG_MS, &msg), 0);
		for (uint32_t i = 0; i < FAB_PIPELINE - 1; i++) {
			assert_int_equal(fab_client_next(b->client, &msg), 0);
			assert_int_equal(msg.serial, round * 100 + i);
		}
	}
}

static void test_too_many_questions(void **state)
{
	struct bench *b = *state;
	struct fab_msg msg;

	for (uint32_t i = 0; i < FAB_PIPELINE; i++)
		ask(b, i);
	reply(b, FAB_LIST, 1, 0);
	assert_int_equal(call(b, FAB_LIST, LONG_MS, &msg), 0);
	ask(b, 1000);
	reply(b, FAB_LIST, 2, 0);
	assert_int_equal(call(b, FAB_LIST, LONG_MS, &msg), -EPIPE);
	is_dead(b);
}

static void test_answers(void **state)
{
	struct bench *b = *state;
	struct fab_msg answer = { .type = FAB_BELL_OPEN, .serial = 9, .n_fds = 1, .fd = { rig_eventfd(3) } }, msg;

	assert_int_equal(fab_client_answer(b->client, &answer), 0);
	msg = heard(b);
	assert_int_equal(msg.kind, FAB_ANSWER);
	assert_int_equal(msg.serial, 9);
	assert_int_equal(rig_eventfd_value(msg.fd[0]), 3);
	fab_drop(&msg);
	fab_drop(&answer);

	/* what cannot be passed is an error for who asked, no end */
	answer = (struct fab_msg){ .type = FAB_BELL_OPEN, .serial = 10, .n_fds = 1, .fd = { -1 } };
	assert_int_equal(fab_client_answer(b->client, &answer), 0);
	msg = heard(b);
	assert_int_equal(msg.type, FAB_BELL_OPEN);
	assert_int_equal(msg.serial, 10);
	assert_int_equal(msg.status, VMCI_ERROR_NO_RESOURCES);
	assert_true(fab_client_is_alive(b->client));

	fd_close(&b->vmcid);
	answer = (struct fab_msg){ .type = FAB_BELL_OPEN, .serial = 11, .status = VMCI_ERROR_NOT_FOUND };
	assert_int_equal(fab_client_answer(b->client, &answer), -ECONNRESET);
	is_dead(b);
}

static void test_an_answer_into_a_full_socket_ends_it(void **state)
{
	struct bench *b = *state;
	struct fab_msg answer = { .type = FAB_BELL_OPEN, .serial = 9, .status = VMCI_ERROR_NOT_FOUND };

	rig_fill(fab_client_fd(b->client));
	assert_int_equal(fab_client_answer(b->client, &answer), -ECONNRESET);
	is_dead(b);
}

static void test_a_request_that_cannot_be_sent(void **state)
{
	struct bench *b = *state;
	struct fab_msg request = { .type = FAB_EVENTS, .n_fds = 1, .fd = { -1 } }, msg;

	assert_int_equal(fab_client_call(b->client, &request, LONG_MS, &msg), -EBADF);
	assert_true(fab_client_is_alive(b->client));
	/* and has no serial */
	reply(b, FAB_LIST, 1, 0);
	assert_int_equal(call(b, FAB_LIST, LONG_MS, &msg), 0);
	assert_int_equal(heard(b).serial, 1);
}

/* --- Somebody else, at the same time -------------------------------------------------------------------------- */

static void pause_ms(long ms)
{
	struct timespec ts = { .tv_nsec = ms * 1000000 };

	nanosleep(&ts, NULL);
}

static void start(pthread_t *thread, void *(*run)(void *), struct bench *b)
{
	assert_int_equal(pthread_create(thread, NULL, run, b), 0);
}

static void *slow_vmcid(void *arg)
{
	struct bench *b = arg;

	pause_ms(20);
	reply(b, FAB_LIST, 1, 42);
	return NULL;
}

static void test_waits_for_a_reply(void **state)
{
	struct bench *b = *state;
	pthread_t thread;
	struct fab_msg msg;

	start(&thread, slow_vmcid, b);
	assert_int_equal(call(b, FAB_LIST, -1, &msg), 0);
	assert_int_equal(msg.size0, 42);
	pthread_join(thread, NULL);
}

static void *dying_vmcid(void *arg)
{
	struct bench *b = arg;

	pause_ms(20);
	fd_close(&b->vmcid);
	return NULL;
}

static void test_the_end_while_waiting(void **state)
{
	struct bench *b = *state;
	pthread_t thread;
	struct fab_msg msg;

	start(&thread, dying_vmcid, b);
	assert_int_equal(call(b, FAB_LIST, -1, &msg), -EPIPE);
	pthread_join(thread, NULL);
	is_dead(b);
}

static void test_the_end_while_waiting_for_room(void **state)
{
	struct bench *b = *state;
	pthread_t thread;
	struct fab_msg msg;

	rig_fill(fab_client_fd(b->client));
	start(&thread, dying_vmcid, b);
	assert_int_equal(call(b, FAB_LIST, -1, &msg), -ECONNRESET);
	pthread_join(thread, NULL);
	is_dead(b);
}

static void test_a_full_socket(void **state)
{
	struct bench *b = *state;
	struct fab_msg msg;
	unsigned n = rig_fill(fab_client_fd(b->client));

	assert_int_equal(call(b, FAB_LIST, SHORT_MS, &msg), -ETIMEDOUT);
	assert_true(fab_client_is_alive(b->client));
	while (n--)
		assert_int_equal(recv(b->vmcid, b->buf, sizeof(b->buf), MSG_DONTWAIT), FAB_HEADER_SIZE);
	/* nothing was sent: the serial is still free */
	reply(b, FAB_LIST, 1, 0);
	assert_int_equal(call(b, FAB_LIST, LONG_MS, &msg), 0);
	assert_int_equal(heard(b).serial, 1);
}

static void *awakening_vmcid(void *arg)
{
	struct bench *b = arg;

	pause_ms(20);
	ask(b, 5);		/* a client that waits for room listens */
	pause_ms(20);
	while (recv(b->vmcid, b->buf, sizeof(b->buf), 0) == FAB_HEADER_SIZE && get_le16(b->buf) != FAB_LIST)
		;
	reply(b, FAB_LIST, get_le32(b->buf + 4), 43);
	return NULL;
}

static void test_waits_for_room(void **state)
{
	struct bench *b = *state;
	pthread_t thread;
	struct fab_msg msg;

	rig_fill(fab_client_fd(b->client));
	start(&thread, awakening_vmcid, b);
	assert_int_equal(call(b, FAB_LIST, LONG_MS, &msg), 0);
	assert_int_equal(msg.size0, 43);
	pthread_join(thread, NULL);
	assert_int_equal(fab_client_next(b->client, &msg), 0);
	assert_int_equal(msg.serial, 5);
}

static volatile sig_atomic_t signals;

static void on_alarm(int number)
{
	(void)number;
	signals = signals + 1;
}

static void test_signals_end_no_call(void **state)
{
	struct bench *b = *state;
	struct sigaction action = { .sa_handler = on_alarm };	/* no SA_RESTART */
	struct itimerval often = { { 0, 3000 }, { 0, 3000 } }, never = { 0 };
	struct fab_msg msg;
	int64_t began = now_ms();
	int r;

	assert_int_equal(sigaction(SIGALRM, &action, NULL), 0);
	assert_int_equal(setitimer(ITIMER_REAL, &often, NULL), 0);
	r = call(b, FAB_LIST, 100, &msg);
	assert_int_equal(setitimer(ITIMER_REAL, &never, NULL), 0);
	assert_int_equal(r, -ETIMEDOUT);
	assert_true(signals > 0);
	assert_true(now_ms() - began >= 99);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(test_call_and_reply),
		CASE(test_data_both_ways_stay_until_the_next_call),
		CASE(test_descriptors_both_ways),
		CASE(test_an_error_is_a_reply),
		CASE(test_no_reply),
		CASE(test_late_replies_are_thrown_away),
		CASE(test_lost_replies),
		CASE(test_the_pipeline_is_bounded),
		CASE(test_replies_to_nothing),
		CASE(test_a_reply_twice),
		CASE(test_a_reply_before_any_request),
		CASE(test_a_reply_of_another_type),
		CASE(test_kinds_that_only_clients_say),
		CASE(test_nonsense),
		CASE(test_descriptors_where_none_belong),
		CASE(test_no_vmcid_any_more),
		CASE(test_the_end_is_noticed_without_a_call),
		CASE(test_the_end_after_sending),
		CASE(test_a_reply_before_the_end_counts),
		CASE(test_no_connection),
		CASE(test_questions_during_a_call),
		CASE(test_questions_during_a_call_can_be_answered_at_once),
		CASE(test_descriptors_of_questions),
		CASE(test_so_many_questions),
		CASE(test_too_many_questions),
		CASE(test_answers),
		CASE(test_an_answer_into_a_full_socket_ends_it),
		CASE(test_a_request_that_cannot_be_sent),
		CASE(test_waits_for_a_reply),
		CASE(test_the_end_while_waiting),
		CASE(test_the_end_while_waiting_for_room),
		CASE(test_a_full_socket),
		CASE(test_waits_for_room),
		CASE(test_signals_end_no_call),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
