/* SPDX-License-Identifier: BSD-2-Clause */
/* Descriptors that take TARPIT_SEC to close: we do not wait for them, and nothing is left of them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <sys/time.h>
#include <sys/un.h>

#include "base/closer.h"
#include "base/fd.h"
#include "tarpit.h"

#define USEC 100u

static int fds_before;

static int count_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	int n = 0;

	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}

static int start(void **state)
{
	(void)state;
	return closer_start(USEC);
}

static int stop(void **state)
{
	(void)state;
	closer_stop();
	return 0;
}

/* The alarm is off, and the descriptors are as before. */
static void expect_clean(int64_t began)
{
	struct itimerval timer;

	assert_true(tarpit_now_ms() - began < TARPIT_LIMIT_MS);
	assert_int_equal(getitimer(ITIMER_REAL, &timer), 0);
	assert_true(!timerisset(&timer.it_value) && !timerisset(&timer.it_interval));
	assert_int_equal(count_fds(), fds_before);
}

static void make_pair(int type, int pair[2])
{
	assert_int_equal(socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, pair), 0);
}

/* Is the bait any good? Whoever simply closes it is still at it after a while. */
static void test_a_plain_close_waits(void **state)
{
	const struct timespec while_ = { .tv_nsec = 300000000 };
	int fd = tarpit_nested(1), status;
	pid_t pid;

	(void)state;
	pid = fork();
	assert_true(pid >= 0);
	if (!pid) {
		/* the parent's copy goes first */
		nanosleep(&while_, NULL);
		close(fd);
		_exit(0);
	}
	close(fd);
	nanosleep(&while_, NULL);
	nanosleep(&while_, NULL);
	nanosleep(&while_, NULL);
	assert_int_equal(waitpid(pid, &status, WNOHANG), 0);
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, &status, 0), pid);
}

static void test_one(void **state)
{
	int64_t began;
	int fd;

	(void)state;
	fds_before = count_fds();
	fd = tarpit();
	began = tarpit_now_ms();
	errno = ENOTTY;
	closer_close(&fd);
	assert_int_equal(errno, ENOTTY);
	assert_int_equal(fd, -1);
	closer_close(&fd);
	expect_clean(began);
}

static void test_nested(void **state)
{
	(void)state;
	fds_before = count_fds();
	for (unsigned depth = 1; depth <= 3; depth++) {
		int fd = tarpit_nested(depth);
		int64_t began = tarpit_now_ms();

		closer_close(&fd);
		expect_clean(began);
	}
}

/* All of one message, some of them nested, and with gaps. */
static void test_many(void **state)
{
	int fds[CLOSER_FDS_MAX];
	int64_t began;

	(void)state;
	fds_before = count_fds();
	for (unsigned i = 0; i < CLOSER_FDS_MAX; i++)
		fds[i] = i % 5 == 4 ? -1 : i % 5 == 3 ? tarpit_nested(1) : tarpit();
	began = tarpit_now_ms();
	closer_close_all(fds, CLOSER_FDS_MAX);
	for (unsigned i = 0; i < CLOSER_FDS_MAX; i++)
		assert_int_equal(fds[i], -1);
	expect_clean(began);
}

/* Many in the queue of one. */
static void test_full_queue(void **state)
{
	int pair[2], fds[50];
	int64_t began;

	(void)state;
	fds_before = count_fds();
	make_pair(SOCK_SEQPACKET, pair);
	for (unsigned i = 0; i < 4; i++) {
		for (unsigned k = 0; k < 50; k++)
			fds[k] = tarpit();
		assert_int_equal(tarpit_send(pair[0], fds, 50), 0);
	}
	close(pair[0]);
	began = tarpit_now_ms();
	closer_close(&pair[1]);
	expect_clean(began);
}

/* The kernel has no room for what it should pass on: one after the other, then. */
static void test_what_cannot_be_passed(void **state)
{
	int64_t began;
	int fds[3];

	(void)state;
	fds_before = count_fds();
	fds[0] = tarpit();
	fds[1] = 999999;	/* nobody's */
	fds[2] = tarpit_nested(1);
	began = tarpit_now_ms();
	closer_close_all(fds, 3);
	expect_clean(began);
}

static void test_nothing(void **state)
{
	int fds[] = { -1, -1 };

	(void)state;
	fds_before = count_fds();
	closer_close_all(fds, 0);
	closer_close_all(fds, 2);
	expect_clean(tarpit_now_ms());
}

static void receive(int type, unsigned n)
{
	char buf[4];
	struct iovec iov = { .iov_base = buf, .iov_len = sizeof(buf) };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	int pair[2], fds[CLOSER_FDS_MAX];
	int64_t began;

	fds_before = count_fds();
	make_pair(type, pair);
	for (unsigned i = 0; i < n; i++)
		fds[i] = tarpit();
	assert_int_equal(tarpit_send(pair[0], fds, n), 0);
	began = tarpit_now_ms();
	assert_int_equal(closer_recv(pair[1], &msg, MSG_DONTWAIT), 1);
	assert_int_equal(buf[0], 'x');
	assert_true(msg.msg_flags & MSG_CTRUNC);
	assert_int_equal(send(pair[0], "abc", 3, 0), 3);
	assert_int_equal(closer_recv(pair[1], &msg, MSG_DONTWAIT), 3);
	assert_false(msg.msg_flags & MSG_CTRUNC);
	assert_int_equal(closer_recv(pair[1], &msg, MSG_DONTWAIT), -1);
	assert_int_equal(errno, EAGAIN);
	close(pair[0]);
	assert_int_equal(closer_recv(pair[1], &msg, MSG_DONTWAIT), 0);
	close(pair[1]);
	expect_clean(began);
}

static void test_receive(void **state)
{
	(void)state;
	receive(SOCK_STREAM, 1);
	receive(SOCK_STREAM, CLOSER_FDS_MAX);
	receive(SOCK_SEQPACKET, CLOSER_FDS_MAX);
}

static void test_refuse(void **state)
{
	int pair[2], fd;

	(void)state;
	make_pair(SOCK_STREAM, pair);
	assert_false(closer_is_refusing(pair[1]));
	closer_refuse(pair[1]);
	if (!closer_is_refusing(pair[1])) {
		print_message("this kernel has no SO_PASSRIGHTS: ");
		close(pair[0]);
		close(pair[1]);
		skip();
	}
	fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	assert_int_equal(tarpit_send(pair[0], &fd, 1), -1);
	assert_int_equal(errno, EPERM);
	/* the other way is another matter */
	assert_int_equal(tarpit_send(pair[1], &fd, 1), 0);
	assert_false(closer_is_refusing(pair[0]));
	/* what is none does not refuse anything */
	fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	closer_refuse(fd);
	assert_false(closer_is_refusing(fd));
	close(fd);
	close(pair[0]);
	close(pair[1]);
}

/* Who connects to a listener that refuses cannot send any, also before it is accepted. */
static void test_refuse_at_listener(void **state)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), early, late, fd;
	socklen_t len = sizeof(sun);

	(void)state;
	/* The kernel chooses a name. */
	assert_int_equal(bind(listener, (struct sockaddr *)&sun, sizeof(sa_family_t)), 0);
	assert_int_equal(getsockname(listener, (struct sockaddr *)&sun, &len), 0);
	assert_int_equal(listen(listener, 2), 0);
	early = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	late = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(connect(early, (struct sockaddr *)&sun, len), 0);
	closer_refuse(listener);
	if (closer_is_refusing(listener)) {
		assert_int_equal(connect(late, (struct sockaddr *)&sun, len), 0);
		fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
		assert_int_equal(tarpit_send(late, &fd, 1), -1);
		assert_int_equal(tarpit_send(early, &fd, 1), 0);
		fd = accept(listener, NULL, NULL);
		assert_false(closer_is_refusing(fd));
		close(fd);
		fd = accept(listener, NULL, NULL);
		assert_true(closer_is_refusing(fd));
		close(fd);
	} else {
		print_message("this kernel has no SO_PASSRIGHTS\n");
	}
	close(early);
	close(late);
	close(listener);
}

/* A program that has blocked it gets its alarm, too. */
static void test_blocked_alarm(void **state)
{
	sigset_t mask;

	sigemptyset(&mask);
	sigaddset(&mask, SIGALRM);
	sigprocmask(SIG_BLOCK, &mask, NULL);
	assert_int_equal(closer_start(USEC), 0);
	test_one(state);
}

int main(void)
{
	const struct CMUnitTest without[] = {
		cmocka_unit_test(test_a_plain_close_waits),
		cmocka_unit_test(test_one),
		cmocka_unit_test(test_receive),
		cmocka_unit_test(test_nothing),
		cmocka_unit_test(test_refuse),
		cmocka_unit_test(test_refuse_at_listener),
	};
	const struct CMUnitTest with[] = {
		cmocka_unit_test(test_one),
		cmocka_unit_test(test_nested),
		cmocka_unit_test(test_many),
		cmocka_unit_test(test_full_queue),
		cmocka_unit_test(test_what_cannot_be_passed),
		cmocka_unit_test(test_nothing),
		cmocka_unit_test(test_receive),
		cmocka_unit_test(test_blocked_alarm),
	};

	return cmocka_run_group_tests(without, NULL, NULL) + cmocka_run_group_tests(with, start, stop);
}
