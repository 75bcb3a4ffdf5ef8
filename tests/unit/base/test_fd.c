/* SPDX-License-Identifier: BSD-2-Clause */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>

#include "base/fd.h"

static int is_open(int fd)
{
	return fcntl(fd, F_GETFD) >= 0;
}

static void test_close_closes_and_forgets(void **state)
{
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC), old = fd;

	(void)state;
	assert_true(fd >= 0);
	fd_close(&fd);
	assert_int_equal(fd, -1);
	assert_false(is_open(old));
	/* once more: there is nothing to close */
	fd_close(&fd);
	assert_int_equal(fd, -1);
}

static void test_close_keeps_errno(void **state)
{
	int fd = 1000000;	/* close(2) fails */

	(void)state;
	errno = ENOTTY;
	fd_close(&fd);
	assert_int_equal(errno, ENOTTY);
	assert_int_equal(fd, -1);
}

static void test_take_hands_over(void **state)
{
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC), old = fd, taken = fd_take(&fd);

	(void)state;
	assert_int_equal(taken, old);
	assert_int_equal(fd, -1);
	assert_true(is_open(taken));
	fd_close(&taken);
	assert_int_equal(fd_take(&fd), -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_close_closes_and_forgets),
		cmocka_unit_test(test_close_keeps_errno),
		cmocka_unit_test(test_take_hands_over),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
