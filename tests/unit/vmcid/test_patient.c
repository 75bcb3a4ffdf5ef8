/* SPDX-License-Identifier: BSD-2-Clause */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/time.h>
#include <unistd.h>

#include "base/closer.h"
#include "vmcid/patient.h"

/* These two wait as the kernel does when somebody else has the socket under lock; so long that the test fails. */
#define LONG_MS 20000

static bool is_locked;
static int calls;

static int wait_or(int done)
{
	calls++;
	if (!is_locked)
		return done;
	return poll(NULL, 0, LONG_MS) ? -1 : 0;
}

int bind(int fd, __CONST_SOCKADDR_ARG address, socklen_t len)
{
	(void)fd;
	(void)address;
	(void)len;
	return wait_or(0);
}

int connect(int fd, __CONST_SOCKADDR_ARG address, socklen_t len)
{
	(void)address;
	(void)len;
	assert_true(fcntl(fd, F_GETFL) & O_NONBLOCK);
	return wait_or(0);
}

static void assert_no_alarm(void)
{
	struct itimerval timer;

	assert_int_equal(getitimer(ITIMER_REAL, &timer), 0);
	assert_int_equal(timer.it_value.tv_sec, 0);
	assert_int_equal(timer.it_value.tv_usec, 0);
}

static void test_it(void **state)
{
	const struct sockaddr_un sun = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0), flags = fcntl(fd, F_GETFL);

	(void)state;
	assert_int_equal(closer_start(10000), 0);
	for (int i = 0; i < 2; i++) {
		is_locked = i;
		assert_int_equal(patient_bind(fd, &sun, sizeof(sun)), i ? -EINTR : 0);
		assert_no_alarm();
		assert_int_equal(patient_connect(fd, &sun, sizeof(sun)), i ? -EINTR : 0);
		assert_no_alarm();
		assert_int_equal(fcntl(fd, F_GETFL), flags);
	}
	assert_int_equal(calls, 4);
	close(fd);
	closer_stop();
}

static void assert_alarm(void)
{
	struct itimerval timer;

	assert_int_equal(getitimer(ITIMER_REAL, &timer), 0);
	assert_true(timer.it_value.tv_sec || timer.it_value.tv_usec);
	assert_true(timer.it_interval.tv_sec || timer.it_interval.tv_usec);
}

/* One alarm for several calls, each of which it ends. */
static void test_several(void **state)
{
	const struct sockaddr_un sun = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	(void)state;
	assert_int_equal(closer_start(10000), 0);
	for (int i = 0; i < 2; i++) {
		is_locked = i;
		patient_begin();
		assert_alarm();
		for (int n = 0; n < 3; n++) {
			assert_int_equal(patient_bind(fd, &sun, sizeof(sun)), i ? -EINTR : 0);
			assert_alarm();
			assert_int_equal(patient_connect(fd, &sun, sizeof(sun)), i ? -EINTR : 0);
			assert_alarm();
		}
		patient_begin();
		patient_end();
		assert_alarm();
		patient_end();
		assert_no_alarm();
	}
	close(fd);
	closer_stop();
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_it), cmocka_unit_test(test_several) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
