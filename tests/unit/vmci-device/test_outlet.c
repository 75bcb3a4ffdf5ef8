/* SPDX-License-Identifier: BSD-2-Clause */
/* Streams through the fabric, on the device's side: with streams and a vmcid that the test plays. */
#include "../../../src/vmci-device/outlet.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fd.h"
#include "fabric/stream.h"

#define CID 40u
#define ANSWERS 8u

/* One stream, as the streams' side sees it. */
struct stream {
	void *end;
	uint32_t local_cid, local_port, peer_port;
	uint64_t timeout_ns;
	unsigned accepted, refused, aborted;
};

/**
 * struct bench
 * @refuse:    what streams_connect() is to return
 * @ask_says:  what the call of vmcid returns; @reply is its reply
 * @answers:   to vmcid's questions: serial and status
 */
static struct bench {
	sd_event *event;
	struct ends *ends;
	struct outlet *outlet;
	struct stream stream;
	unsigned connects;
	int refuse;
	int ask_says;
	struct fab_msg asked, reply;
	unsigned asks;
	uint32_t serials[ANSWERS];
	int32_t answers[ANSWERS];
	unsigned n_answers;
	int idle_fds;
} b;

/* --- The streams ------------------------------------------------------------------------------------------------ */

int streams_connect(struct streams *t, uint32_t peer_port, uint32_t local_cid, uint32_t local_port,
		    uint64_t timeout_ns, void *end, struct stream **ret_stream)
{
	assert_non_null(t);
	b.connects++;
	if (b.refuse)
		return b.refuse;
	b.stream = (struct stream){ end, local_cid, local_port, peer_port, timeout_ns, 0, 0, 0 };
	*ret_stream = &b.stream;
	return 0;
}

void stream_accept(struct stream *s)
{
	s->accepted++;
}

void stream_refuse(struct stream *s)
{
	s->refused++;
}

void stream_abort(struct stream *s)
{
	s->aborted++;
}

void stream_readable(struct stream *s)
{
	(void)s;
}

void stream_writable(struct stream *s)
{
	(void)s;
}

uint32_t stream_local_cid(const struct stream *s)
{
	return s->local_cid;
}

uint32_t stream_local_port(const struct stream *s)
{
	return s->local_port;
}

uint32_t stream_peer_port(const struct stream *s)
{
	return s->peer_port;
}

/* --- vmcid ------------------------------------------------------------------------------------------------------- */

static int port_ask(void *ctx, struct fab_msg *request, struct fab_msg *ret_reply)
{
	assert_ptr_equal(ctx, &b);
	b.asks++;
	b.asked = *request;
	request->kind = FAB_REQUEST;
	assert_null(fab_check(request));
	*ret_reply = b.reply;
	return b.ask_says;
}

static void port_answer(void *ctx, uint32_t serial, int32_t status)
{
	assert_ptr_equal(ctx, &b);
	assert_true(b.n_answers < ANSWERS);
	b.serials[b.n_answers] = serial;
	b.answers[b.n_answers++] = status;
}

static int count_fds(void)
{
	int n = 0;

	for (int fd = 0; fd < 256; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

static int setup(void **state)
{
	const struct outlet_ports ports = { .ctx = &b, .ask = port_ask, .answer = port_answer };

	(void)state;
	memset(&b, 0, sizeof(b));
	assert_true(sd_event_new(&b.event) >= 0);
	assert_int_equal(ends_new(b.event, &b.ends), 0);
	assert_int_equal(outlet_new(CID, b.ends, &ports, &b.outlet), 0);
	outlet_set_streams(b.outlet, (struct streams *)&b);
	b.idle_fds = count_fds();
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	b.outlet = outlet_free(b.outlet);
	b.ends = ends_free(b.ends);
	assert_int_equal(count_fds(), b.idle_fds);
	b.event = sd_event_unref(b.event);
	return 0;
}

static void turn(void)
{
	while (sd_event_run(b.event, 0) > 0)
		;
}

static void pair(int fd[2])
{
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fd), 0);
}

/* A question of vmcid; the end of who connects. */
static int visit(uint32_t serial, uint32_t flags, uint64_t ms)
{
	struct fab_msg question = {
		.type = FAB_STREAM_CONNECT,
		.kind = FAB_ASK,
		.serial = serial,
		.flags = flags,
		.handle = { 2, 1500 },
		.other = { CID, 22 },
		.size0 = ms,
		.n_fds = 1,
	};
	int fd[2];

	pair(fd);
	question.fd[0] = fd[0];
	assert_null(fab_check(&question));
	outlet_asked(b.outlet, &question);
	fd_close(&question.fd[0]);
	return fd[1];
}

static void answered(uint32_t serial, int32_t status)
{
	assert_int_equal(b.n_answers, 1);
	assert_int_equal(b.serials[0], serial);
	assert_int_equal(b.answers[0], status);
	b.n_answers = 0;
}

static ssize_t take(int fd, uint8_t *byte)
{
	ssize_t n = recv(fd, byte, 1, MSG_DONTWAIT);

	return n < 0 ? -errno : n;
}

/* --- Others to the guest ----------------------------------------------------------------------------------------- */

static void test_a_program_is_let_in(void **state)
{
	int program = visit(7, 0, 1234);
	uint8_t byte;

	(void)state;
	/* Not from within whatever was going on. */
	assert_int_equal(b.connects, 0);
	outlet_run(b.outlet);
	assert_int_equal(b.connects, 1);
	assert_int_equal(b.stream.local_cid, 2);
	assert_int_equal(b.stream.local_port, 1500);
	assert_int_equal(b.stream.peer_port, 22);
	assert_int_equal(b.stream.timeout_ns, 1234000000u);
	turn();
	assert_int_equal(b.n_answers, 0);
	end_ops.connected(b.stream.end);
	answered(7, 0);
	/* Nothing is said to a program over the stream. */
	assert_int_equal(take(program, &byte), -EAGAIN);
	end_ops.close(b.stream.end);
	assert_int_equal(take(program, &byte), 0);
	assert_int_equal(b.n_answers, 0);
	fd_close(&program);
}

static void test_the_guest_refuses(void **state)
{
	static const struct { int error; int32_t status; } cases[] = {
		{ -ECONNRESET, VMCI_ERROR_NOT_FOUND },
		{ -ETIMEDOUT, VMCI_ERROR_TIMEOUT },
		{ -EPROTO, VMCI_ERROR_GENERIC },
		{ -EINVAL, VMCI_ERROR_GENERIC },
		{ -ENOBUFS, VMCI_ERROR_NO_RESOURCES },
		{ -ENOMEM, VMCI_ERROR_NO_MEM },
	};
	uint8_t byte;

	(void)state;
	for (uint32_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		int program = visit(i, 0, 0);

		outlet_run(b.outlet);
		assert_int_equal(b.stream.timeout_ns, 2000000000u);
		end_ops.failed(b.stream.end, cases[i].error);
		answered(i, cases[i].status);
		assert_int_equal(take(program, &byte), 0);
		fd_close(&program);
	}
}

static void test_streams_refuse(void **state)
{
	int program;
	uint8_t byte;

	(void)state;
	for (uint32_t flags = 0; flags <= FAB_F_PENDING; flags += FAB_F_PENDING) {
		b.refuse = -EHOSTUNREACH;
		program = visit(1, flags, 0);
		outlet_run(b.outlet);
		answered(1, VMCI_ERROR_DST_UNREACHABLE);
		assert_int_equal(take(program, &byte), 0);
		fd_close(&program);
		b.refuse = -EADDRINUSE;
		program = visit(2, flags, 0);
		outlet_run(b.outlet);
		answered(2, VMCI_ERROR_ALREADY_EXISTS);
		fd_close(&program);
	}
}

static void test_a_device_is_let_in(void **state)
{
	int device = visit(9, FAB_F_PENDING, 0);
	uint8_t byte;

	(void)state;
	outlet_run(b.outlet);
	/* vmcid is through with it. */
	answered(9, 0);
	assert_int_equal(take(device, &byte), -EAGAIN);
	end_ops.connected(b.stream.end);
	assert_int_equal(b.n_answers, 0);
	assert_int_equal(take(device, &byte), 1);
	assert_int_equal(take(device, &byte), -EAGAIN);
	end_ops.close(b.stream.end);
	fd_close(&device);

	device = visit(10, FAB_F_PENDING, 0);
	outlet_run(b.outlet);
	answered(10, 0);
	end_ops.failed(b.stream.end, -ECONNRESET);
	assert_int_equal(b.n_answers, 0);
	assert_int_equal(take(device, &byte), 0);
	fd_close(&device);
}

/* A program that does not wait: as visit(), with so many bytes in the way, and behind them what it has written */
static int visit_stopped(uint32_t serial, uint32_t stopper)
{
	static const uint8_t bytes[10000];
	struct fab_msg question = {
		.type = FAB_STREAM_CONNECT,
		.kind = FAB_ASK,
		.serial = serial,
		.flags = FAB_F_PENDING,
		.handle = { 2, 1500 },
		.other = { CID, 22 },
		.size1 = stopper,
		.n_fds = 1,
	};
	int fd[2];

	assert_true(stopper <= sizeof(bytes));
	pair(fd);
	assert_int_equal(send(fd[1], bytes, stopper, 0), stopper);
	assert_int_equal(send(fd[1], "early", 5, 0), 5);
	question.fd[0] = fd[0];
	assert_null(fab_check(&question));
	outlet_asked(b.outlet, &question);
	fd_close(&question.fd[0]);
	return fd[1];
}

static int unread(int fd)
{
	int n = -1;

	assert_int_equal(ioctl(fd, SIOCOUTQ, &n), 0);
	return n;
}

/* Its socket has failed, and says why. */
static void failed(int fd, int32_t status)
{
	struct pollfd pollfd = { .fd = fd, .events = POLLOUT };
	socklen_t len = sizeof(int);
	uint8_t byte = 0;
	int error;

	assert_int_equal(poll(&pollfd, 1, 0), 1);
	assert_int_equal(pollfd.revents, POLLOUT | POLLERR | POLLHUP);
	assert_int_equal(recv(fd, &byte, 1, MSG_OOB | MSG_DONTWAIT), status ? 1 : -1);
	assert_int_equal(-byte, status);
	assert_int_equal(getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len), 0);
	assert_int_equal(error, ECONNRESET);
}

static void test_a_program_that_does_not_wait(void **state)
{
	char data[8];
	struct mem_span span = { data, sizeof(data) };
	int program = visit_stopped(9, 10000);
	uint8_t byte;

	(void)state;
	outlet_run(b.outlet);
	turn();
	assert_true(unread(program) > 10000);
	assert_int_equal(b.n_answers, 0);
	assert_int_equal(take(program, &byte), -EAGAIN);
	/* That vmcid goes is nothing to it; the next one has not asked. */
	outlet_lost(b.outlet);
	turn();
	assert_int_equal(b.stream.aborted, 0);
	end_ops.connected(b.stream.end);
	assert_int_equal(b.n_answers, 0);
	assert_int_equal(take(program, &byte), -EAGAIN);
	assert_int_equal(end_ops.recv(b.stream.end, &span, 1), 5);
	assert_memory_equal(data, "early", 5);
	assert_int_equal(unread(program), 0);
	/* And what it leaves unread later is nobody's fault. */
	assert_int_equal(send(program, "late", 4, 0), 4);
	end_ops.close(b.stream.end);
	assert_int_equal(take(program, &byte), 0);
	fd_close(&program);

	/* And with the same one */
	program = visit_stopped(10, 1);
	outlet_run(b.outlet);
	end_ops.connected(b.stream.end);
	answered(10, 0);
	end_ops.close(b.stream.end);
	assert_int_equal(b.n_answers, 0);
	fd_close(&program);
}

static void test_who_does_not_wait_is_refused(void **state)
{
	int program = visit_stopped(1, 1);

	(void)state;
	outlet_run(b.outlet);
	assert_int_equal(b.n_answers, 0);
	end_ops.failed(b.stream.end, -ETIMEDOUT);
	answered(1, VMCI_ERROR_TIMEOUT);
	failed(program, VMCI_ERROR_TIMEOUT);
	fd_close(&program);

	b.refuse = -EHOSTUNREACH;
	program = visit_stopped(2, 5000);
	outlet_run(b.outlet);
	answered(2, VMCI_ERROR_DST_UNREACHABLE);
	failed(program, VMCI_ERROR_DST_UNREACHABLE);
	fd_close(&program);

	/* In the queue still. */
	program = visit_stopped(3, 5000);
	outlet_set_streams(b.outlet, NULL);
	answered(3, VMCI_ERROR_DST_UNREACHABLE);
	failed(program, VMCI_ERROR_DST_UNREACHABLE);
	fd_close(&program);
}

/* The device goes while the guest is being asked: no reason can be given. */
static void test_who_does_not_wait_is_left(void **state)
{
	int program = visit_stopped(1, 5000);

	(void)state;
	outlet_run(b.outlet);
	end_ops.close(b.stream.end);
	answered(1, VMCI_ERROR_NOT_FOUND);
	failed(program, 0);
	fd_close(&program);
}

/* Fewer bytes than vmcid has promised: whoever has seen to that does not get a connection. */
static void test_a_stopper_that_is_too_short(void **state)
{
	struct fab_msg question = {
		.type = FAB_STREAM_CONNECT,
		.kind = FAB_ASK,
		.flags = FAB_F_PENDING,
		.handle = { 2, 1500 },
		.other = { CID, 22 },
		.size1 = UINT64_MAX,
		.n_fds = 1,
	};
	struct pollfd pollfd = { .events = POLLOUT };
	int fd[2];

	(void)state;
	pair(fd);
	assert_int_equal(send(fd[1], "too short", 9, 0), 9);
	question.fd[0] = fd[0];
	outlet_asked(b.outlet, &question);
	outlet_run(b.outlet);
	end_ops.connected(b.stream.end);
	answered(0, 0);
	pollfd.fd = fd[1];
	assert_int_equal(poll(&pollfd, 1, 0), 1);
	assert_true(pollfd.revents & POLLHUP);
	end_ops.close(b.stream.end);
	fd_close(&fd[1]);
}

/* It gives up. */
static void test_who_does_not_wait_leaves(void **state)
{
	int program = visit_stopped(1, 5000);

	(void)state;
	outlet_run(b.outlet);
	fd_close(&program);
	turn();
	assert_int_equal(b.stream.aborted, 1);
	answered(1, VMCI_ERROR_NOT_FOUND);
}

static void test_who_connects_leaves(void **state)
{
	int program = visit(3, 0, 0);

	(void)state;
	outlet_run(b.outlet);
	fd_close(&program);
	turn();
	assert_int_equal(b.stream.aborted, 1);
	answered(3, VMCI_ERROR_NOT_FOUND);
}

static void test_no_guest(void **state)
{
	int first = visit(4, 0, 0), second;
	uint8_t byte;

	(void)state;
	outlet_set_streams(b.outlet, NULL);
	answered(4, VMCI_ERROR_DST_UNREACHABLE);
	second = visit(5, 0, 0);
	answered(5, VMCI_ERROR_DST_UNREACHABLE);
	assert_int_equal(take(first, &byte), 0);
	assert_int_equal(take(second, &byte), 0);
	fd_close(&first);
	fd_close(&second);
	outlet_run(b.outlet);
	assert_int_equal(b.connects, 0);
}

/* Who has not been told that he is connected is not; who has been goes on. */
static void test_vmcid_goes(void **state)
{
	int told = visit(1, 0, 0), waiting, device, queued;
	struct stream old[2];
	uint8_t byte;

	(void)state;
	outlet_run(b.outlet);
	end_ops.connected(b.stream.end);
	answered(1, 0);
	old[0] = b.stream;
	device = visit(2, FAB_F_PENDING, 0);
	outlet_run(b.outlet);
	answered(2, 0);
	old[1] = b.stream;
	waiting = visit(3, 0, 0);
	outlet_run(b.outlet);
	queued = visit(4, 0, 0);
	outlet_lost(b.outlet);
	assert_int_equal(take(told, &byte), -EAGAIN);
	assert_int_equal(take(device, &byte), -EAGAIN);
	assert_int_equal(take(waiting, &byte), 0);
	assert_int_equal(take(queued, &byte), 0);
	turn();
	assert_int_equal(b.stream.aborted, 1);
	/* The next vmcid is not answered what it has not asked. */
	assert_int_equal(b.n_answers, 0);
	end_ops.connected(old[1].end);
	assert_int_equal(take(device, &byte), 1);
	end_ops.close(old[0].end);
	end_ops.close(old[1].end);
	fd_close(&told);
	fd_close(&waiting);
	fd_close(&device);
	fd_close(&queued);
}

/* --- The guest to others ----------------------------------------------------------------------------------------- */

static int open_stream(void **ret_end)
{
	b.stream = (struct stream){ .local_cid = 2, .local_port = 5000, .peer_port = 1024 };
	return outlet_open(b.outlet, &b.stream, 2, 5000, 1024, ret_end);
}

static void test_to_a_program(void **state)
{
	void *end;
	int fd[2];

	(void)state;
	pair(fd);
	b.reply = (struct fab_msg){ .fd = { fd[0] }, .n_fds = 1 };
	assert_int_equal(open_stream(&end), 0);
	assert_int_equal(b.asked.type, FAB_STREAM_OPEN);
	assert_int_equal(b.asked.handle.context, CID);
	assert_int_equal(b.asked.handle.resource, 1024);
	assert_int_equal(b.asked.other.context, 2);
	assert_int_equal(b.asked.other.resource, 5000);
	end_ops.close(end);
	fd_close(&fd[1]);
}

static void test_vmcid_refuses(void **state)
{
	static const struct { int32_t status; int error; } cases[] = {
		{ VMCI_ERROR_NOT_FOUND, -ENOENT },
		{ VMCI_ERROR_DST_UNREACHABLE, -EHOSTUNREACH },
		{ VMCI_ERROR_NO_ACCESS, -EPERM },
		{ VMCI_ERROR_WOULD_BLOCK, -ECONNREFUSED },
		{ VMCI_ERROR_NO_RESOURCES, -ECONNREFUSED },
	};
	void *end;

	(void)state;
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		b.reply = (struct fab_msg){ .status = cases[i].status };
		assert_int_equal(open_stream(&end), cases[i].error);
	}
	b.ask_says = -ETIMEDOUT;
	assert_int_equal(open_stream(&end), -EHOSTDOWN);
}

static void test_to_a_guest(void **state)
{
	void *end;
	int fd[2];

	(void)state;
	for (int accepts = 0; accepts < 2; accepts++) {
		pair(fd);
		b.reply = (struct fab_msg){ .flags = FAB_F_PENDING, .fd = { fd[0] }, .n_fds = 1 };
		assert_int_equal(open_stream(&end), -EINPROGRESS);
		turn();
		assert_int_equal(b.stream.accepted + b.stream.refused, 0);
		if (accepts)
			assert_int_equal(send(fd[1], "\1", 1, 0), 1);
		else
			shutdown(fd[1], SHUT_RDWR);
		turn();
		assert_int_equal(b.stream.accepted, accepts);
		assert_int_equal(b.stream.refused, !accepts);
		if (accepts)
			end_ops.close(end);
		fd_close(&fd[1]);
	}
	/* The guest has given up first. */
	pair(fd);
	b.reply.fd[0] = fd[0];
	assert_int_equal(open_stream(&end), -EINPROGRESS);
	end_ops.close(end);
	turn();
	assert_int_equal(b.stream.accepted + b.stream.refused, 0);
	fd_close(&fd[1]);
}

static void test_postponed(void **state)
{
	void *end;
	int fd[2];

	(void)state;
	b.stream = (struct stream){ .local_cid = 77, .local_port = 5000, .peer_port = 1024 };
	b.ask_says = -EHOSTDOWN;
	assert_int_equal(outlet_postpone(b.outlet, &b.stream, &end), -EINPROGRESS);
	outlet_run(b.outlet);
	assert_int_equal(b.asks, 0);
	/* The next one goes at once, too. */
	outlet_joined(b.outlet);
	outlet_run(b.outlet);
	assert_int_equal(b.asks, 1);
	outlet_run(b.outlet);
	assert_int_equal(b.asks, 1);
	assert_int_equal(b.stream.accepted + b.stream.refused, 0);
	b.ask_says = 0;
	pair(fd);
	b.reply = (struct fab_msg){ .fd = { fd[0] }, .n_fds = 1 };
	outlet_joined(b.outlet);
	outlet_run(b.outlet);
	assert_int_equal(b.asked.other.context, 77);
	assert_int_equal(b.stream.accepted, 1);
	end_ops.close(end);
	fd_close(&fd[1]);

	/* Refused, or given up. */
	b.stream.accepted = 0;
	assert_int_equal(outlet_postpone(b.outlet, &b.stream, &end), -EINPROGRESS);
	b.reply = (struct fab_msg){ .status = VMCI_ERROR_NOT_FOUND };
	outlet_joined(b.outlet);
	outlet_run(b.outlet);
	assert_int_equal(b.stream.refused, 1);
	assert_int_equal(outlet_postpone(b.outlet, &b.stream, &end), -EINPROGRESS);
	end_ops.close(end);
	outlet_joined(b.outlet);
	outlet_run(b.outlet);
	assert_int_equal(b.asks, 3);
	/* To a guest: then its byte is waited for. */
	assert_int_equal(outlet_postpone(b.outlet, &b.stream, &end), -EINPROGRESS);
	pair(fd);
	b.reply = (struct fab_msg){ .flags = FAB_F_PENDING, .fd = { fd[0] }, .n_fds = 1 };
	outlet_joined(b.outlet);
	outlet_run(b.outlet);
	assert_int_equal(b.stream.accepted, 0);
	assert_int_equal(send(fd[1], "\1", 1, 0), 1);
	turn();
	assert_int_equal(b.stream.accepted, 1);
	end_ops.close(end);
	fd_close(&fd[1]);
	/* One that is left at the end. */
	assert_int_equal(outlet_postpone(b.outlet, &b.stream, &end), -EINPROGRESS);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(test_a_program_is_let_in),
		CASE(test_the_guest_refuses),
		CASE(test_streams_refuse),
		CASE(test_a_device_is_let_in),
		CASE(test_a_program_that_does_not_wait),
		CASE(test_who_does_not_wait_is_refused),
		CASE(test_who_does_not_wait_is_left),
		CASE(test_a_stopper_that_is_too_short),
		CASE(test_who_does_not_wait_leaves),
		CASE(test_who_connects_leaves),
		CASE(test_no_guest),
		CASE(test_vmcid_goes),
		CASE(test_to_a_program),
		CASE(test_vmcid_refuses),
		CASE(test_to_a_guest),
		CASE(test_postponed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
