/* SPDX-License-Identifier: BSD-2-Clause */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vmcid/spawner.h"

#define LIMIT_MS 20000

static sd_event *event;
static struct spawner *spawner;

static struct {
	uint32_t id;
	pid_t pid;
	int error;
	unsigned n_started;
	uint32_t exit_id;
	int status;
	unsigned n_exited;
} news;

static void started(void *ctx, uint32_t id, pid_t pid, int error)
{
	assert_ptr_equal(ctx, &news);
	news.id = id;
	news.pid = pid;
	news.error = error;
	news.n_started++;
}

static void exited(void *ctx, uint32_t id, int status)
{
	assert_ptr_equal(ctx, &news);
	news.exit_id = id;
	news.status = status;
	news.n_exited++;
}

static const struct spawner_ops ops = { .started = started, .exited = exited };

static int setup(void **state)
{
	(void)state;
	memset(&news, 0, sizeof(news));
	assert_int_equal(sd_event_new(&event), 0);
	assert_int_equal(spawner_start(&spawner), 0);
	assert_int_equal(spawner_watch(spawner, event, &ops, &news), 0);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	spawner = spawner_free(spawner);
	sd_event_unref(event);
	/* It ends with us. */
	assert_true(wait(NULL) > 0);
	return 0;
}

static void wait_for(const unsigned *count, unsigned n)
{
	for (int i = 0; i < 1000 && *count < n; i++)
		assert_true(sd_event_run(event, LIMIT_MS * 1000) >= 0);
	assert_int_equal(*count, n);
}

/* Run a shell script with an end of a pair as descriptor 3, and the same again as 4. Return: our end */
static int shell(uint32_t id, const char *script)
{
	const char *const argv[] = { "/bin/sh", "-c", script, "sh", "an argument", "", NULL };
	int fds[2], both[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	both[0] = both[1] = fds[1];
	assert_int_equal(spawner_run(spawner, id, argv, both, 2), 0);
	close(fds[1]);
	return fds[0];
}

static size_t read_all(int fd, char *buf, size_t size)
{
	struct pollfd poll_fd = { .fd = fd, .events = POLLIN };
	size_t len = 0;
	ssize_t n;

	do {
		assert_int_equal(poll(&poll_fd, 1, LIMIT_MS), 1);
		n = read(fd, buf + len, size - 1 - len);
		assert_true(n >= 0);
		len += (size_t)n;
	} while (n);
	buf[len] = '\0';
	return len;
}

static void test_run(void **state)
{
	char text[256];
	int fd;

	(void)state;
	fd = shell(7, "printf '%s|%s|%s' \"$1\" \"$2\" \"$#\" >&3; exit 3");
	wait_for(&news.n_started, 1);
	assert_int_equal(news.id, 7);
	assert_int_equal(news.error, 0);
	assert_true(news.pid > 0);
	read_all(fd, text, sizeof(text));
	assert_string_equal(text, "an argument||2");
	close(fd);
	wait_for(&news.n_exited, 1);
	assert_int_equal(news.exit_id, 7);
	assert_true(WIFEXITED(news.status));
	assert_int_equal(WEXITSTATUS(news.status), 3);
}

/*
 * The descriptors that it has: the standard ones and what was passed; its session: its own; no signal is blocked or
 * ignored (two of the C library's own, 32 and 33, are: by posix_spawn(3) itself).
 */
static void test_clean(void **state)
{
	char text[1024], expected[64];
	int fd;

	(void)state;
	/* Without a pipe or redirection of its own for ls: the shell would have more descriptors for a moment. */
	fd = shell(1, "exec >&3; ls /proc/$$/fd; cut -d' ' -f6 /proc/$$/stat; "
		      "grep -E '^Sig(Blk|Ign)' /proc/$$/status | grep -o '.......$' | uniq");
	wait_for(&news.n_started, 1);
	read_all(fd, text, sizeof(text));
	snprintf(expected, sizeof(expected), "0\n1\n2\n3\n4\n%d\n0000000\n", (int)news.pid);
	assert_string_equal(text, expected);
	close(fd);
	wait_for(&news.n_exited, 1);
}

static void test_failure(void **state)
{
	const char *const argv[] = { "/no/such/program", NULL };
	const int fds[] = { STDIN_FILENO };

	(void)state;
	assert_int_equal(spawner_run(spawner, 9, argv, fds, 1), 0);
	wait_for(&news.n_started, 1);
	assert_int_equal(news.id, 9);
	assert_int_equal(news.error, -ENOENT);
	/* The next one works. */
	close(shell(10, "kill -9 $$"));
	wait_for(&news.n_exited, 1);
	assert_int_equal(news.exit_id, 10);
	assert_true(WIFSIGNALED(news.status));
	assert_int_equal(WTERMSIG(news.status), SIGKILL);
}

static void test_too_much(void **state)
{
	static char big[SPAWNER_ARGS_SIZE];
	const char *argv[SPAWNER_ARGS_MAX + 2];
	const int fds[] = { STDIN_FILENO };

	(void)state;
	for (unsigned i = 0; i < SPAWNER_ARGS_MAX + 1; i++)
		argv[i] = "/bin/true";
	argv[SPAWNER_ARGS_MAX + 1] = NULL;
	assert_int_equal(spawner_run(spawner, 1, argv, fds, 1), -E2BIG);
	memset(big, 'x', sizeof(big) - 1);
	argv[1] = big;
	argv[2] = NULL;
	assert_int_equal(spawner_run(spawner, 1, argv, fds, 1), -E2BIG);
	argv[1] = NULL;
	assert_int_equal(spawner_run(spawner, 1, argv, fds, 1), 0);
	wait_for(&news.n_exited, 1);
	assert_int_equal(news.status, 0);
}

/* Design, rule 2: what was started goes on when we have gone. */
static void test_survives(void **state)
{
	char text[64];
	int fd;

	fd = shell(1, "read line <&3; echo \"got $line\" >&3");
	wait_for(&news.n_started, 1);
	teardown(state);
	assert_int_equal(write(fd, "it\n", 3), 3);
	read_all(fd, text, sizeof(text));
	assert_string_equal(text, "got it\n");
	close(fd);
	setup(state);
}

/* What is sent to the whole group does not end it. */
static void test_signals(void **state)
{
	pid_t group = getpgrp();

	(void)state;
	/* It is there, and has had time to prepare. */
	close(shell(1, "exit 0"));
	wait_for(&news.n_exited, 1);
	signal(SIGTERM, SIG_IGN);
	signal(SIGINT, SIG_IGN);
	/* Only if the group is ours alone. */
	if (group == getpid()) {
		kill(0, SIGTERM);
		kill(0, SIGINT);
	}
	close(shell(2, "exit 0"));
	wait_for(&news.n_exited, 2);
	assert_int_equal(news.status, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_run, setup, teardown),
		cmocka_unit_test_setup_teardown(test_clean, setup, teardown),
		cmocka_unit_test_setup_teardown(test_failure, setup, teardown),
		cmocka_unit_test_setup_teardown(test_too_much, setup, teardown),
		cmocka_unit_test_setup_teardown(test_survives, setup, teardown),
		cmocka_unit_test_setup_teardown(test_signals, setup, teardown),
	};

	alarm(60);
	setpgid(0, 0);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
