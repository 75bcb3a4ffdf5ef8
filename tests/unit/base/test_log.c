/* SPDX-License-Identifier: BSD-2-Clause */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"

static char text[4096];

/* Standard error goes into a file between capture() and captured(), which returns what was written. */
static FILE *file;
static int saved_stderr = -1;

static void capture(void)
{
	file = tmpfile();
	assert_non_null(file);
	fflush(stderr);
	saved_stderr = dup(STDERR_FILENO);
	assert_true(saved_stderr >= 0);
	assert_true(dup2(fileno(file), STDERR_FILENO) >= 0);
}

static const char *captured(void)
{
	ssize_t n;

	fflush(stderr);
	assert_true(dup2(saved_stderr, STDERR_FILENO) >= 0);
	close(saved_stderr);
	n = pread(fileno(file), text, sizeof(text) - 1, 0);
	fclose(file);
	assert_true(n >= 0);
	text[n] = '\0';
	return text;
}

static void test_level_names(void **state)
{
	(void)state;
	for (enum log_level level = LOG_LEVEL_ERR; level < LOG_LEVEL_NUM; level++)
		assert_int_equal(log_level_from_string(log_level_to_string(level)), level);
	assert_int_equal(log_level_from_string("warn"), LOG_LEVEL_WARN);
	assert_int_equal(log_level_from_string(""), -EINVAL);
	assert_int_equal(log_level_from_string("INFO"), -EINVAL);
	assert_int_equal(log_level_from_string("info "), -EINVAL);
	assert_int_equal(log_level_from_string("3"), -EINVAL);
}

static void test_one_line_with_name_and_level(void **state)
{
	(void)state;
	unsetenv("JOURNAL_STREAM");
	log_open("prog", LOG_LEVEL_INFO);
	capture();
	log_warn("no %s for %d", "room", 7);
	log_err("%s", "");
	assert_string_equal(captured(), "prog: warn: no room for 7\nprog: err: \n");
}

static void test_only_wanted_levels(void **state)
{
	(void)state;
	unsetenv("JOURNAL_STREAM");
	for (enum log_level max = LOG_LEVEL_ERR; max < LOG_LEVEL_NUM; max++) {
		unsigned lines = 0;

		log_open("prog", max);
		capture();
		for (enum log_level level = LOG_LEVEL_ERR; level < LOG_LEVEL_NUM; level++) {
			assert_int_equal(log_wants(level), level <= max);
			log_msg(level, "x");
		}
		for (const char *p = captured(); (p = strchr(p, '\n')); p++)
			lines++;
		assert_int_equal(lines, max + 1);
	}
}

static void test_journal_prefixes(void **state)
{
	(void)state;
	setenv("JOURNAL_STREAM", "8:12345", 1);
	log_open("prog", LOG_LEVEL_TRACE);
	capture();
	log_err("a");
	log_warn("b");
	log_info("c");
	log_debug("d");
	log_trace("e");
	assert_string_equal(captured(), "<3>a\n<4>b\n<6>c\n<7>d\n<7>e\n");
	unsetenv("JOURNAL_STREAM");
	log_open("prog", LOG_LEVEL_INFO);
}

static void test_errno_is_kept(void **state)
{
	(void)state;
	log_open("prog", LOG_LEVEL_INFO);
	capture();
	/* Nowhere to write to. */
	close(STDERR_FILENO);
	errno = ENOTTY;
	log_info("lost");
	assert_int_equal(errno, ENOTTY);
	clearerr(stderr);
	assert_string_equal(captured(), "");
}

static void test_long_lines_are_cut(void **state)
{
	char longer[3000];
	const char *line;

	(void)state;
	memset(longer, 'x', sizeof(longer) - 1);
	longer[sizeof(longer) - 1] = '\0';
	log_open("prog", LOG_LEVEL_INFO);
	capture();
	log_info("%s", longer);
	line = captured();
	assert_int_equal(strncmp(line, "prog: info: xxx", 15), 0);
	assert_in_range(strlen(line), 1000, 1100);
	assert_int_equal(line[strlen(line) - 1], '\n');
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_level_names),
		cmocka_unit_test(test_one_line_with_name_and_level),
		cmocka_unit_test(test_only_wanted_levels),
		cmocka_unit_test(test_journal_prefixes),
		cmocka_unit_test(test_errno_is_kept),
		cmocka_unit_test(test_long_lines_are_cut),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
