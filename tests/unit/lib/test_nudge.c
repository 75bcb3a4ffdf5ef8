/* SPDX-License-Identifier: BSD-2-Clause */
/* Ringing whatever the owner does: src/lib/nudge.c. Where the kernel does not let us, it has to say so. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/eventfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/nudge.h"

#define LIMIT_S 60	/* for anything that must not wait */

static int fd;

static int setup(void **state)
{
	(void)state;
	alarm(LIMIT_S);
	fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	assert_true(fd >= 0);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	close(fd);
	alarm(0);
	return 0;
}

static uint64_t count(void)
{
	uint64_t value = 0;

	(void)!read(fd, &value, sizeof(value));
	return value;
}

/* A kernel without it, or a filter. */
static void need(void)
{
	int r = nudge(fd);

	if (r == -ENOSYS || r == -EPERM || r == -EAGAIN) {
		print_message("skipped: no asynchronous I/O: %d\n", r);
		skip();
	}
	assert_int_equal(r, 0);
	assert_int_equal(count(), 1);
}

static void test_each_counts(void **state)
{
	(void)state;
	need();
	for (unsigned i = 0; i < 1000; i++)
		assert_int_equal(nudge(fd), 0);
	assert_int_equal(count(), 1000);
	assert_int_equal(count(), 0);
}

/* The worst that an owner can do: a full counter, and no O_NONBLOCK. */
static void test_a_full_one_that_would_block(void **state)
{
	const uint64_t full = UINT64_MAX - 1;
	struct pollfd p = { .fd = fd, .events = POLLIN | POLLOUT };

	(void)state;
	need();
	assert_int_equal(write(fd, &full, sizeof(full)), sizeof(full));
	assert_int_equal(fcntl(fd, F_SETFL, 0), 0);
	for (unsigned i = 0; i < 200; i++)
		assert_int_equal(nudge(fd), 0);
	assert_int_equal(poll(&p, 1, 0), 1);
	assert_true(p.revents & POLLIN);
	assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
	assert_true(count() >= full);
	assert_int_equal(nudge(fd), 0);
	assert_int_equal(count(), 1);
}

static atomic_bool stop;

static void *torment(void *ctx)
{
	const uint64_t full = UINT64_MAX - 1;

	(void)ctx;
	while (!stop) {
		fcntl(fd, F_SETFL, O_NONBLOCK);
		count();
		(void)!write(fd, &full, sizeof(full));
		fcntl(fd, F_SETFL, 0);
	}
	fcntl(fd, F_SETFL, O_NONBLOCK);
	return NULL;
}

static void *many(void *ctx)
{
	(void)ctx;
	for (unsigned i = 0; i < 20000; i++)
		if (nudge(fd))
			return &fd;
	return NULL;
}

static void test_threads_and_a_tormentor(void **state)
{
	pthread_t thread[3], owner;
	void *failed;

	(void)state;
	need();
	stop = false;
	assert_int_equal(pthread_create(&owner, NULL, torment, NULL), 0);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(pthread_create(&thread[i], NULL, many, NULL), 0);
	for (unsigned i = 0; i < 3; i++) {
		pthread_join(thread[i], &failed);
		assert_null(failed);
	}
	stop = true;
	pthread_join(owner, NULL);
}

static void test_a_child(void **state)
{
	int status;
	pid_t child;

	(void)state;
	need();
	child = fork();
	assert_true(child >= 0);
	if (!child)
		_exit(nudge(fd) || nudge(fd));
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status) && !WEXITSTATUS(status));
	assert_int_equal(nudge(fd), 0);
	assert_int_equal(count(), 3);
}

static void test_no_eventfd(void **state)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	(void)state;
	need();
	assert_true(nudge(-1) < 0);
	assert_true(nudge(null) < 0);
	close(null);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(test_##name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(each_counts),
		TEST(a_full_one_that_would_block),
		TEST(threads_and_a_tormentor),
		TEST(a_child),
		TEST(no_eventfd),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
