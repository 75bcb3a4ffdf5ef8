/* SPDX-License-Identifier: BSD-2-Clause */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vmcid/sandbox.h"

/* A build with AddressSanitizer needs more system calls than the sandbox has. */
#if defined(__SANITIZE_ADDRESS__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SANITIZED 1
#endif
#endif

static char base[64];

/* Each of these runs in a process of its own inside the sandbox; its working directory is the runtime directory. */

static int is_in(int fd)
{
	return !sandbox_enter(fd);
}

static int bind_socket(const char *path)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_SEQPACKET, 0);

	snprintf(sun.sun_path, sizeof(sun.sun_path), "%s", path);
	return bind(fd, (struct sockaddr *)&sun, sizeof(sun)) ? -errno : 0;
}

static int no_processes(void)
{
	char *const argv[] = { (char[]){ "/bin/true" }, NULL };

	if (fork() >= 0 || errno != ENOSYS)
		return 1;
	execv(argv[0], argv);
	if (errno != ENOSYS)
		return 2;
	return ptrace(PTRACE_TRACEME, 0, NULL, NULL) < 0 && errno == ENOSYS ? 0 : 3;
}

static int no_network(void)
{
	static const int families[] = { AF_INET, AF_INET6, AF_NETLINK, AF_PACKET };

	/* Nor the hypervisor's AF_VSOCK: its number is not even tried here. */
	for (size_t i = 0; i < sizeof(families) / sizeof(families[0]); i++)
		if (socket(families[i], SOCK_DGRAM, 0) >= 0 || errno != ENOSYS)
			return 1;
	return 0;
}

static int own_files(void)
{
	int fd;

	/* What vmcid does: make sockets, remove them, read. */
	if (bind_socket("vm/a.sock") || fchmodat(AT_FDCWD, "vm/a.sock", 0660, 0) || unlink("vm/a.sock"))
		return 1;
	fd = open("../elsewhere/file", O_RDONLY);
	return fd < 0 ? 2 : 0;
}

static int other_files(void)
{
	if (open("../elsewhere/new", O_WRONLY | O_CREAT, 0600) >= 0 || errno != EACCES)
		return 1;
	if (open("../elsewhere/file", O_WRONLY) >= 0 || errno != EACCES)
		return 2;
	if (!unlink("../elsewhere/file") || errno != EACCES)
		return 3;
	if (bind_socket("../elsewhere/s") != -EACCES)
		return 4;
	/* Also here: nothing but sockets is made. */
	if (open("new", O_WRONLY | O_CREAT, 0600) >= 0 || errno != EACCES)
		return 5;
	return 0;
}

/* What the function says inside. */
static int inside(int (*function)(void))
{
	pid_t pid = fork();
	int status, fd;

	assert_true(pid >= 0);
	if (!pid) {
		if (chdir(base) || chdir("run"))
			_exit(101);
		fd = open(".", O_RDONLY | O_DIRECTORY);
		_exit(is_in(fd) ? function() : 102);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static void test_processes(void **state)
{
	(void)state;
	assert_int_equal(inside(no_processes), 0);
}

static void test_network(void **state)
{
	(void)state;
	assert_int_equal(inside(no_network), 0);
}

static void test_own_files(void **state)
{
	(void)state;
	assert_int_equal(inside(own_files), 0);
}

static void test_other_files(void **state)
{
	(void)state;
	if (syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION) < 1) {
		print_message("no Landlock in this kernel: skipped\n");
		skip();
	}
	assert_int_equal(inside(other_files), 0);
}

static int setup(void **state)
{
	char command[256];

	(void)state;
	strcpy(base, "/tmp/test-sandbox-XXXXXX");
	if (!mkdtemp(base))
		return -1;
	snprintf(command, sizeof(command), "cd %s && mkdir -p run/vm elsewhere && touch elsewhere/file", base);
	return system(command);
}

static int teardown(void **state)
{
	char command[256];

	(void)state;
	snprintf(command, sizeof(command), "rm -rf %s", base);
	return system(command);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_processes),
		cmocka_unit_test(test_network),
		cmocka_unit_test(test_own_files),
		cmocka_unit_test(test_other_files),
	};

#ifdef SANITIZED
	(void)tests;
	printf("built with a sanitizer: skipped\n");
	return 77;
#endif
	return cmocka_run_group_tests(tests, setup, teardown);
}
