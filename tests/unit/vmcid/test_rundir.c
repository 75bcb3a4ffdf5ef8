/* SPDX-License-Identifier: BSD-2-Clause */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vmcid/rundir.h"

static char base[64];
static char path[96];
static char reason[RUNDIR_REASON_SIZE];

static void run(const char *fmt)
{
	char command[512];
	size_t n = 0;

	/* Each %s is the folder. */
	for (; *fmt; fmt++)
		if (fmt[0] == '%' && fmt[1] == 's') {
			n += (size_t)snprintf(command + n, sizeof(command) - n, "%s", base);
			fmt++;
		} else {
			command[n++] = *fmt;
		}
	command[n] = '\0';
	assert_int_equal(system(command), 0);
}

static int setup(void **state)
{
	(void)state;
	strcpy(base, "/tmp/test-rundir-XXXXXX");
	assert_non_null(mkdtemp(base));
	snprintf(path, sizeof(path), "%s/r", base);
	reason[0] = '\0';
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	run("rm -rf %s");
	return 0;
}

static mode_t mode_of(const char *name)
{
	char file[256];
	struct stat st;

	snprintf(file, sizeof(file), "%s/%s", path, name);
	return lstat(file, &st) ? 0 : st.st_mode & 07777;
}

static void refuse(int error, const char *expected)
{
	struct rundir dir;

	assert_int_equal(rundir_open(path, 0700, false, &dir, reason), error);
	if (!strstr(reason, expected) || !strstr(reason, path))
		fail_msg("\"%s\" does not say \"%s\" and the path", reason, expected);
}

static void test_modes(void **state)
{
	struct rundir dir;
	mode_t mask = umask(0077);

	(void)state;
	assert_int_equal(rundir_open(path, 0755, false, &dir, reason), 0);
	assert_false(dir.resumed);
	assert_int_equal(mode_of(""), 0755);
	assert_int_equal(mode_of("vm"), 0755);
	assert_int_equal(mode_of("hybrid"), 0755);
	assert_int_equal(mode_of("device"), 0700);
	assert_int_equal(mode_of("key"), 0600);
	assert_int_equal(mode_of("lock"), 0600);
	rundir_close(&dir, true);
	assert_int_equal(mode_of("key"), 0);
	assert_int_equal(rundir_open(path, 0700, false, &dir, reason), 0);
	assert_int_equal(mode_of("vm"), 0700);
	rundir_close(&dir, true);
	umask(mask);
}

static void test_key(void **state)
{
	struct token_key key;
	struct rundir dir;

	(void)state;
	assert_int_equal(rundir_open(path, 0700, false, &dir, reason), 0);
	key = dir.key;
	rundir_close(&dir, false);
	assert_int_equal(rundir_open(path, 0700, false, &dir, reason), 0);
	assert_true(dir.resumed);
	assert_memory_equal(&dir.key, &key, sizeof(key));
	rundir_close(&dir, false);
	/* Readable for others, too short, too long, a link, a pipe: not what we made. */
	static const char *const damage[] = {
		"chmod 0640 %s/r/key", "truncate -s 31 %s/r/key", "truncate -s 33 %s/r/key",
		"cd %s/r && mv key key2 && ln -s key2 key", "cd %s/r && rm key && mkfifo -m 0600 key",
	};

	for (size_t i = 0; i < sizeof(damage) / sizeof(damage[0]); i++) {
		run(damage[i]);
		assert_int_equal(rundir_open(path, 0700, false, &dir, reason), 0);
		assert_false(dir.resumed);
		assert_memory_not_equal(&dir.key, &key, sizeof(key));
		key = dir.key;
		rundir_close(&dir, false);
		assert_int_equal(mode_of("key"), 0600);
	}
}

static void test_refused(void **state)
{
	(void)state;
	run("mkdir %s/r && chmod 0770 %s/r");
	refuse(-EPERM, "others may write there (mode 0770)");
	run("chmod 0707 %s/r");
	refuse(-EPERM, "others may write");
	run("rmdir %s/r && touch %s/r");
	refuse(-ENOTDIR, "Not a directory");
	run("rm %s/r && mkdir %s/x && ln -s x %s/r");
	refuse(-ENOTDIR, "Not a directory");
	run("rm %s/r");
	snprintf(path, sizeof(path), "%s/no/r", base);
	refuse(-ENOENT, "cannot make it: No such file or directory");
	snprintf(path, sizeof(path), "%s/r", base);
	if (geteuid())
		return;
	run("mkdir %s/r && chown 12345 %s/r");
	refuse(-EPERM, "belongs to user 12345, not to us (0)");
}

/* A process that holds the directory until it gets SIGTERM, then leaves. */
static pid_t hold(bool embedded)
{
	int fds[2];
	char byte;
	pid_t pid;

	assert_int_equal(pipe(fds), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (!pid) {
		struct rundir dir;

		if (rundir_open(path, 0700, embedded, &dir, reason))
			_exit(1);
		if (write(fds[1], "x", 1) != 1)
			_exit(1);
		alarm(30);
		pause();
		_exit(1);
	}
	close(fds[1]);
	assert_int_equal(read(fds[0], &byte, 1), 1);
	close(fds[0]);
	return pid;
}

static void test_locked(void **state)
{
	pid_t pid = hold(false);
	struct rundir dir;
	int status;

	(void)state;
	refuse(-EBUSY, "another vmcid is running there");
	assert_int_equal(rundir_open(path, 0700, true, &dir, reason), -EBUSY);
	assert_int_equal(waitpid(pid, &status, WNOHANG), 0);
	kill(pid, SIGKILL);
	waitpid(pid, &status, 0);
	assert_int_equal(rundir_open(path, 0700, false, &dir, reason), 0);
	assert_true(dir.resumed);
	rundir_close(&dir, false);
}

/* One that was started by hand takes the place of an embedded one; another embedded one does not. */
static void test_take_over(void **state)
{
	pid_t pid = hold(true);
	struct rundir dir;
	int status;

	(void)state;
	assert_int_equal(rundir_open(path, 0700, true, &dir, reason), -EBUSY);
	assert_int_equal(waitpid(pid, &status, WNOHANG), 0);
	assert_int_equal(rundir_open(path, 0700, false, &dir, reason), 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM);
	rundir_close(&dir, false);
}

static void test_sockets(void **state)
{
	struct rundir dir;
	int fd, other;

	(void)state;
	assert_int_equal(rundir_open(path, 0700, false, &dir, reason), 0);
	fd = rundir_listen(&dir, "control.sock", SOCK_SEQPACKET, 0666, (gid_t)-1);
	assert_true(fd >= 0);
	assert_int_equal(mode_of("control.sock"), 0666);
	other = rundir_connect(&dir, "control.sock", SOCK_SEQPACKET);
	assert_true(other >= 0);
	close(other);
	assert_int_equal(rundir_connect(&dir, "control.sock", SOCK_STREAM), -EPROTOTYPE);
	assert_int_equal(rundir_connect(&dir, "vm/a.sock", SOCK_STREAM), -ENOENT);
	close(fd);
	assert_int_equal(rundir_connect(&dir, "control.sock", SOCK_SEQPACKET), -ECONNREFUSED);
	/* What an earlier one has left is in nobody's way. */
	fd = rundir_listen(&dir, "control.sock", SOCK_SEQPACKET, 0660, getgid());
	assert_true(fd >= 0);
	assert_int_equal(mode_of("control.sock"), 0660);
	close(fd);
	rundir_unlink(&dir, "control.sock");
	rundir_unlink(&dir, "control.sock");
	assert_int_equal(mode_of("control.sock"), 0);
	assert_int_equal(rundir_listen(&dir,
				       "vm/0123456789012345678901234567890123456789012345678901234567890123456789"
				       "0123456789012345678901234567890123456789.sock",
				       SOCK_STREAM, 0660, (gid_t)-1),
			 -ENAMETOOLONG);
	rundir_close(&dir, true);
}

/* Looks at the file as long as it is let live. */
static void look_on(void)
{
	struct stat st;
	char file[256];

	snprintf(file, sizeof(file), "%s/control.sock", path);
	for (;;)
		if (!lstat(file, &st) && (st.st_mode & 07777) != 0640)
			_exit(1);
}

/* A client that comes while the broker starts is not told that it may not. */
static void test_sockets_have_their_mode_at_once(void **state)
{
	struct rundir dir;
	int fd, status;
	pid_t pid;

	(void)state;
	assert_int_equal(rundir_open(path, 0700, false, &dir, reason), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (!pid)
		look_on();
	for (unsigned i = 0; i < 2000; i++) {
		fd = rundir_listen(&dir, "control.sock", SOCK_SEQPACKET, 0640, (gid_t)-1);
		assert_true(fd >= 0);
		close(fd);
	}
	assert_int_equal(waitpid(pid, &status, WNOHANG), 0);
	kill(pid, SIGKILL);
	waitpid(pid, &status, 0);
	rundir_close(&dir, true);
}

static bool begins_with_k(void *ctx, const char *name)
{
	(*(unsigned *)ctx)++;
	return name[0] == 'k';
}

static void touch(const struct rundir *dir, const char *name)
{
	int fd = openat(dir->fd, name, O_WRONLY | O_CREAT | O_EXCL, 0600);

	assert_true(fd >= 0);
	close(fd);
}

static void test_sweep(void **state)
{
	struct rundir dir;
	unsigned seen = 0;

	(void)state;
	assert_int_equal(rundir_open(path, 0700, false, &dir, reason), 0);
	touch(&dir, "held/keep");
	touch(&dir, "held/lose");
	touch(&dir, "held/.hidden");
	assert_int_equal(rundir_sweep(&dir, "held", begins_with_k, &seen), 0);
	assert_int_equal(seen, 2);
	assert_int_equal(mode_of("held/keep"), 0600);
	assert_int_equal(mode_of("held/lose"), 0);
	assert_int_equal(mode_of("held/.hidden"), 0600);
	/* Not through a link, by which somebody could have others' files removed. */
	rundir_unlink(&dir, "held/keep");
	rundir_unlink(&dir, "held/.hidden");
	assert_int_equal(symlinkat("held", dir.fd, "link"), 0);
	assert_int_equal(rundir_sweep(&dir, "link", begins_with_k, &seen), -ENOTDIR);
	assert_int_equal(rundir_sweep(&dir, "none", begins_with_k, &seen), -ENOENT);
	assert_int_equal(seen, 2);
	rundir_unlink(&dir, "link");
	rundir_close(&dir, true);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_sweep, setup, teardown),
		cmocka_unit_test_setup_teardown(test_modes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_key, setup, teardown),
		cmocka_unit_test_setup_teardown(test_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(test_locked, setup, teardown),
		cmocka_unit_test_setup_teardown(test_take_over, setup, teardown),
		cmocka_unit_test_setup_teardown(test_sockets, setup, teardown),
		cmocka_unit_test_setup_teardown(test_sockets_have_their_mode_at_once, setup, teardown),
	};

	return token_init() ? 1 : cmocka_run_group_tests(tests, NULL, NULL);
}
