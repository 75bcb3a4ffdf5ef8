/* SPDX-License-Identifier: BSD-2-Clause */
/* The mark of a socket: sock/mark.h */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "sock/mark.h"

static struct mark odd_mark(void)
{
	return (struct mark){
		.kind = MARK_DGRAM,
		.flags = MARK_WILD | MARK_DST,
		.cid = 0xfffffff0u,
		.dst = { .context = 0x80000001u, .resource = 0x7ffffffeu },
		.size = UINT64_C(0x123456789abcdef0),
		.min = UINT64_MAX,
		.max = UINT64_C(1) << 63,
		.timeout_us = UINT64_C(0xfedcba9876543210),
	};
}

static void assert_same(const struct mark *a, const struct mark *b)
{
	assert_int_equal(a->kind, b->kind);
	assert_int_equal(a->flags, b->flags);
	assert_int_equal(a->cid, b->cid);
	assert_int_equal(a->dst.context, b->dst.context);
	assert_int_equal(a->dst.resource, b->dst.resource);
	assert_true(a->size == b->size && a->min == b->min && a->max == b->max && a->timeout_us == b->timeout_us);
}

static void test_it_comes_back(void **state)
{
	static const int types[] = { SOCK_STREAM, SOCK_SEQPACKET, SOCK_DGRAM };
	struct mark mark = odd_mark(), got;

	(void)state;
	for (unsigned i = 0; i < 3; i++) {
		int fd = socket(AF_UNIX, types[i], 0), copy;

		errno = EXDEV;
		assert_int_equal(mark_read(fd, &got), -ENOENT);
		assert_int_equal(mark_write(fd, &mark), 0);
		copy = fcntl(fd, F_DUPFD, 100);
		assert_true(copy >= 100);
		assert_int_equal(mark_read(copy, &got), 0);
		assert_same(&got, &mark);
		/* Again and again */
		for (unsigned n = 0; n < 1000; n++) {
			mark.size = n;
			assert_int_equal(mark_write(copy, &mark), 0);
		}
		assert_int_equal(mark_read(fd, &got), 0);
		assert_int_equal(got.size, 999);
		assert_int_equal(errno, EXDEV);
		close(fd);
		close(copy);
	}
}

static bool has_filter(int fd)
{
	struct sock_filter code[40];
	socklen_t len = 40;

	assert_int_equal(getsockopt(fd, SOL_SOCKET, SO_GET_FILTER, code, &len), 0);
	return len > 0;
}

/* Attaching a filter costs more than making the socket: only who has something in it does. */
static void test_most_have_no_filter(void **state)
{
	static const enum mark_kind kinds[] = { MARK_STREAM, MARK_SEQPACKET, MARK_DGRAM, MARK_DEVICE };
	struct mark mark, got;

	(void)state;
	for (unsigned i = 0; i < 4; i++) {
		for (uint32_t flags = 0; flags <= MARK_WILD; flags++) {
			int fd = socket(AF_UNIX, SOCK_DGRAM, 0);

			mark_init(&mark, kinds[i], 0xfffffffeu - i);
			mark.flags = flags;
			assert_int_equal(mark_write(fd, &mark), 0);
			assert_false(has_filter(fd));
			assert_int_equal(mark_read(fd, &got), 0);
			assert_same(&got, &mark);
			/* More to remember, and then no more */
			mark.timeout_us++;
			assert_int_equal(mark_write(fd, &mark), 0);
			assert_true(has_filter(fd));
			assert_int_equal(mark_read(fd, &got), 0);
			assert_same(&got, &mark);
			mark_init(&mark, kinds[i], 3 + i);
			assert_int_equal(mark_write(fd, &mark), 0);
			assert_int_equal(mark_read(fd, &got), 0);
			assert_same(&got, &mark);
			/* A destination alone */
			mark.flags = MARK_DST;
			mark.dst = handle_make(17, 18);
			assert_int_equal(mark_write(fd, &mark), 0);
			assert_int_equal(mark_read(fd, &got), 0);
			assert_same(&got, &mark);
			close(fd);
		}
	}
}

/* Rates that programs set themselves, on sockets that are not ours */
static void test_rates(void **state)
{
	static const uint64_t rates[] = { 0, 1, 125000000, UINT32_MAX, UINT64_MAX, UINT64_C(0x564d00) << 40,
					  UINT64_C(0x564d02) << 40 | UINT64_C(1) << 32, UINT64_C(0x564d01) << 40 };
	struct mark got;

	(void)state;
	for (unsigned i = 0; i < sizeof(rates) / sizeof(rates[0]); i++) {
		int fd = socket(AF_UNIX, SOCK_STREAM, 0);

		assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_MAX_PACING_RATE, &rates[i], sizeof(rates[i])), 0);
		assert_int_equal(mark_read(fd, &got), -ENOENT);
		close(fd);
	}
	/* The word says that there is more, and there is not, or something else */
	for (unsigned i = 0; i < 2; i++) {
		struct sock_filter code = BPF_STMT(BPF_RET | BPF_K, UINT32_MAX);
		struct sock_fprog program = { .len = 1, .filter = &code };
		const uint64_t word = UINT64_C(0x564d01) << 40 | UINT64_C(1) << 39 | UINT64_C(1) << 32 | 2;
		int fd = socket(AF_UNIX, SOCK_STREAM, 0);

		if (i)
			assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program)), 0);
		assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_MAX_PACING_RATE, &word, sizeof(word)), 0);
		assert_int_equal(mark_read(fd, &got), -ENOENT);
		close(fd);
	}
}

/* It may be a filter, and must let everything pass. */
static void test_datagrams_pass(void **state)
{
	struct mark mark = odd_mark();
	static char data[60000];
	int pair[2];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_DGRAM, 0, pair), 0);
	assert_int_equal(mark_write(pair[1], &mark), 0);
	for (size_t size = 0; size <= sizeof(data); size += 20000) {
		assert_int_equal(send(pair[0], data, size, MSG_DONTWAIT), size);
		assert_int_equal(recv(pair[1], data, sizeof(data), MSG_DONTWAIT), size);
	}
	close(pair[0]);
	close(pair[1]);
}

static int attach(int fd, struct sock_filter *code, unsigned short n)
{
	struct sock_fprog program = { .len = n, .filter = code };

	return setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program));
}

static void test_what_is_not_ours(void **state)
{
	struct sock_filter code[40];
	struct mark mark = odd_mark(), got;
	int fd, pipes[2];

	(void)state;
	for (unsigned i = 0; i < 40; i++)
		code[i] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, UINT32_MAX);
	assert_int_equal(mark_read(-1, &got), -EBADF);
	assert_int_equal(mark_read(1000, &got), -EBADF);
	assert_int_equal(pipe(pipes), 0);
	assert_int_equal(mark_read(pipes[0], &got), -ENOTSOCK);
	close(pipes[0]);
	close(pipes[1]);
	fd = socket(AF_INET, SOCK_DGRAM, 0);
	assert_int_equal(mark_read(fd, &got), -ENOENT);
	close(fd);
	/* Other filters: shorter, as long, longer */
	for (unsigned short n = 1; n <= 40; n++) {
		fd = socket(AF_UNIX, SOCK_STREAM, 0);
		assert_int_equal(attach(fd, code, n), 0);
		assert_int_equal(mark_read(fd, &got), -ENOENT);
		close(fd);
	}
	/* One that looks like ours but has an impossible kind */
	fd = socket(AF_UNIX, SOCK_STREAM, 0);
	mark.kind = MARK_KIND_NUM;
	assert_int_equal(mark_write(fd, &mark), 0);
	assert_int_equal(mark_read(fd, &got), -ENOENT);
	mark.kind = 0;
	assert_int_equal(mark_write(fd, &mark), 0);
	assert_int_equal(mark_read(fd, &got), -ENOENT);
	close(fd);
}

static void test_defaults(void **state)
{
	struct mark mark;

	(void)state;
	mark_init(&mark, MARK_STREAM, 2);
	assert_true(mark_has_defaults(&mark));
	assert_true(mark.size == 262144 && mark.min == 128 && mark.max == 262144 && mark.timeout_us == 2000000);
	mark.flags = MARK_WILD;
	assert_true(mark_has_defaults(&mark));
	mark.timeout_us++;
	assert_false(mark_has_defaults(&mark));
}

/* Each flag, of a socket with options as they are from the start, too */
static void test_flags(void **state)
{
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	struct mark mark, back;

	(void)state;
	for (uint32_t flags = 0; flags <= (MARK_WILD | MARK_CONNECTING | MARK_FAILED); flags++) {
		if (flags & MARK_DST)
			continue;
		mark_init(&mark, MARK_STREAM, 0xfffffffeu);
		mark.flags = flags;
		assert_int_equal(mark_write(fd, &mark), 0);
		memset(&back, 0xee, sizeof(back));
		assert_int_equal(mark_read(fd, &back), 0);
		assert_same(&mark, &back);
	}
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_it_comes_back),
		cmocka_unit_test(test_flags),
		cmocka_unit_test(test_most_have_no_filter),
		cmocka_unit_test(test_rates),
		cmocka_unit_test(test_datagrams_pass),
		cmocka_unit_test(test_what_is_not_ours),
		cmocka_unit_test(test_defaults),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
