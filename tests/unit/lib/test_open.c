/* SPDX-License-Identifier: BSD-2-Clause */
/* vmci_open() and vmci_close(): where the broker is found, what it may say, and how one is started. */
#include "fake.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"

static const char *self;	/* this program: as a broker when it is run with --embedded */

static void assert_says(const char *part)
{
	if (!strstr(vmci_errmsg(), part))
		fail_msg("\"%s\" does not say \"%s\"", vmci_errmsg(), part);
}

static int set_up(void **state)
{
	unsetenv("VMCI_RUNTIME_DIR");
	unsetenv("VMCI_VMCID");
	unsetenv("XDG_RUNTIME_DIR");
	*state = fake_new();
	return 0;
}

static int tear_down(void **state)
{
	fake_free(*state);
	return 0;
}

/* --- What the broker says ----------------------------------------------------------------------------------- */

static void opens_and_closes(void **state)
{
	unsigned before = fds_open();
	struct vmci *vmci;
	struct seen hello;

	assert_int_equal(vmci_open(fake_dir(*state), VMCI_CID_HOST, 0, &vmci), 0);
	assert_int_equal(vmci_cid(vmci), VMCI_CID_HOST);
	hello = fake_seen(*state, FAB_HELLO, 0);
	assert_int_equal(hello.msg.handle.context, VMCI_CID_HOST);
	assert_int_equal(hello.msg.size0, FAB_VERSION);
	assert_int_equal(hello.msg.flags, 0);
	assert_memory_equal(hello.data, program_invocation_short_name, hello.msg.len);
	assert_null(vmci_close(vmci));
	assert_null(vmci_close(NULL));
	/* What the server still has of the connection goes when it looks. */
	for (unsigned waited = 0; fds_open() != before;)
		assert_true(in_time(&waited));
}

static void own_context(void **state)
{
	struct vmci *vmci;

	assert_int_equal(vmci_open(fake_dir(*state), VMCI_INVALID_ID, 0, &vmci), 0);
	assert_int_equal(vmci_cid(vmci), 0x10000);
	vmci_close(vmci);
	assert_int_equal(vmci_open(fake_dir(*state), 77, 0, &vmci), 0);
	assert_int_equal(vmci_cid(vmci), 77);
	vmci_close(vmci);
}

static void wrong_arguments(void **state)
{
	struct vmci *vmci = (struct vmci *)1;
	char longest[200];

	assert_int_equal(vmci_open(fake_dir(*state), VMCI_CID_HOST, 2, &vmci), VMCI_ERROR_INVALID_ARGS);
	assert_int_equal(vmci_open(fake_dir(*state), VMCI_CID_HYPERVISOR, 0, &vmci), VMCI_ERROR_INVALID_ARGS);
	assert_int_equal(vmci_open(fake_dir(*state), VMCI_CID_WELL_KNOWN, 0, &vmci), VMCI_ERROR_INVALID_ARGS);
	assert_int_equal(vmci_open(fake_dir(*state), 15, 0, &vmci), VMCI_ERROR_INVALID_ARGS);
	memset(longest, 'x', sizeof(longest));
	longest[0] = '/';
	longest[sizeof(longest) - 1] = '\0';
	assert_int_equal(vmci_open(longest, VMCI_CID_HOST, 0, &vmci), VMCI_ERROR_INVALID_ARGS);
	assert_says("too long");
	assert_ptr_equal(vmci, (struct vmci *)1);
	assert_int_equal(fake_hellos(*state), 0);
}

static void refused(void **state)
{
	static const int codes[] = { VMCI_ERROR_NO_ACCESS, VMCI_ERROR_NO_RESOURCES, VMCI_ERROR_INVALID_ARGS };
	struct vmci *vmci = NULL;

	for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++) {
		fake_fault(*state, FAB_HELLO, 1, FAULT_REFUSE, codes[i]);
		assert_int_equal(vmci_open(fake_dir(*state), 77, 0, &vmci), codes[i]);
		assert_says(vmci_strerror(codes[i]));
		assert_says(fake_dir(*state));
		assert_null(vmci);
	}
}

/* A broker that leaves just then is tried again, as is one that talks nonsense. */
static void second_try(void **state)
{
	static const enum fault faults[] = { FAULT_DIE_BEFORE, FAULT_GARBAGE, FAULT_SHORT, FAULT_TYPE, FAULT_SERIAL,
					     FAULT_KIND, FAULT_FDS, FAULT_NO_FDS, FAULT_DATA };
	unsigned before = fds_open();
	struct vmci *vmci;

	for (size_t i = 0; i < sizeof(faults) / sizeof(faults[0]); i++) {
		fake_fault(*state, FAB_HELLO, 1, faults[i], 0);
		assert_int_equal(vmci_open(fake_dir(*state), VMCI_CID_HOST, 0, &vmci), 0);
		vmci_close(vmci);
	}
	assert_int_equal(fake_hellos(*state), 2 * sizeof(faults) / sizeof(faults[0]));
	for (unsigned waited = 0; fds_open() != before;)
		assert_true(in_time(&waited));
}

static void silent(void **state)
{
	struct vmci *vmci;

	fake_fault(*state, FAB_HELLO, 1, FAULT_SILENT, 0);
	assert_int_equal(vmci_open(fake_dir(*state), VMCI_CID_HOST, 0, &vmci), VMCI_ERROR_UNAVAILABLE);
	assert_says("does not answer");
}

/* --- Where it is -------------------------------------------------------------------------------------------- */

static void nobody_there(void **state)
{
	struct vmci *vmci;

	fake_die(*state);
	assert_int_equal(vmci_open(fake_dir(*state), VMCI_CID_HOST, VMCI_OPEN_NO_START, &vmci),
			 VMCI_ERROR_DEVICE_NOT_FOUND);
	assert_says(fake_dir(*state));
	assert_says("/control.sock");
	/* With a start: the programs that were tried are named. */
	setenv("VMCI_VMCID", "/nowhere/vmcid", 1);
	assert_int_equal(vmci_open(fake_dir(*state), VMCI_CID_HOST, 0, &vmci), VMCI_ERROR_DEVICE_NOT_FOUND);
	assert_says("/nowhere/vmcid");
	unsetenv("VMCI_VMCID");
	assert_int_equal(vmci_open("/nowhere/at/all", VMCI_CID_HOST, 0, &vmci), VMCI_ERROR_DEVICE_NOT_FOUND);
	assert_says("/nowhere/at/all");
	/* By default: all places. In a guest, the library would go on from here. */
	setenv("XDG_RUNTIME_DIR", fake_dir(*state), 1);
	if (vmci_open(NULL, 77, VMCI_OPEN_NO_START, &vmci) != VMCI_ERROR_DEVICE_NOT_FOUND)
		fail_msg("a broker runs at /run/vmci?");
	assert_says("/run/vmci/control.sock");
	assert_says(fake_dir(*state));
}

static void by_environment(void **state)
{
	struct vmci *vmci;

	setenv("VMCI_RUNTIME_DIR", fake_dir(*state), 1);
	assert_int_equal(vmci_open(NULL, VMCI_CID_HOST, VMCI_OPEN_NO_START, &vmci), 0);
	vmci_close(vmci);
	unsetenv("VMCI_RUNTIME_DIR");
}

/* The user's own directory, as $XDG_RUNTIME_DIR says. The fake's own is called "run", so a link leads there. */
static void own_directory(void **state)
{
	char xdg[] = "/tmp/vmci-test-XXXXXX", path[64];
	struct vmci *vmci;

	assert_non_null(mkdtemp(xdg));
	snprintf(path, sizeof(path), "%s/vmci", xdg);
	setenv("XDG_RUNTIME_DIR", xdg, 1);

	/* A link, which somebody else could have put there, is not followed. */
	assert_int_equal(symlink(fake_dir(*state), path), 0);
	assert_int_equal(vmci_open(NULL, VMCI_CID_HOST, VMCI_OPEN_NO_START, &vmci), VMCI_ERROR_NO_ACCESS);
	assert_says(path);
	unlink(path);

	/* Nor is a directory believed to be one's own to which others can write. */
	assert_int_equal(mkdir(path, 0700), 0);
	assert_int_equal(chmod(path, 0777), 0);
	assert_int_equal(vmci_open(NULL, VMCI_CID_HOST, VMCI_OPEN_NO_START, &vmci), VMCI_ERROR_NO_ACCESS);
	rmdir(path);

	unsetenv("XDG_RUNTIME_DIR");
	rmdir(xdg);
}

/* A relative path stays what it was, wherever the program goes. */
static void relative_path(void **state)
{
	char before[512], dir[256], *base;
	struct vmci *vmci;

	assert_non_null(getcwd(before, sizeof(before)));
	snprintf(dir, sizeof(dir), "%s", fake_dir(*state));
	base = strrchr(dir, '/');
	*base++ = '\0';
	assert_int_equal(chdir(dir), 0);
	assert_int_equal(vmci_open(base, VMCI_CID_HOST, VMCI_OPEN_NO_START, &vmci), 0);
	assert_int_equal(chdir(before), 0);
	fake_die(*state);
	fake_rise(*state);
	fake_wait_hellos(*state, 2);
	vmci_close(vmci);
}

/* --- Starting ----------------------------------------------------------------------------------------------- */

static volatile sig_atomic_t children;

static void on_child(int sig)
{
	(void)sig;
	children = children + 1;
}

/* A process that is not our child ends in its own time. */
static void wait_for_log(const char *dir, char *log, size_t size)
{
	char path[300];
	FILE *file;
	unsigned waited = 0;
	size_t n;

	snprintf(path, sizeof(path), "%s/left", dir);
	while (access(path, F_OK))
		assert_true(in_time(&waited));
	file = fopen(path, "r");
	assert_non_null(file);
	n = fread(log, 1, size - 1, file);
	log[n] = '\0';
	fclose(file);
}

static void remove_dir(const char *dir)
{
	static const char *const names[] = { "control.sock", "left", "vmcid.log" };
	char path[300];

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		snprintf(path, sizeof(path), "%s/%s", dir, names[i]);
		unlink(path);
	}
	rmdir(dir);
}

static void starts_one(void **state)
{
	struct sigaction action = { .sa_handler = on_child }, before;
	char parent[] = "/tmp/vmci-test-XXXXXX", dir[64], log[1024], session[16];
	struct vmci *vmci, *second;
	sigset_t blocked, was;
	int fd, inherited;

	(void)state;
	assert_non_null(mkdtemp(parent));
	snprintf(dir, sizeof(dir), "%s/run", parent);
	setenv("VMCI_VMCID", self, 1);
	snprintf(session, sizeof(session), "%d", getsid(0));
	setenv("TEST_SESSION", session, 1);
	sigaction(SIGCHLD, &action, &before);
	/* What the broker must not get from us: descriptors without CLOEXEC, blocked and ignored signals. */
	inherited = open("/dev/null", O_RDWR);
	signal(SIGUSR2, SIG_IGN);
	sigemptyset(&blocked);
	sigaddset(&blocked, SIGUSR1);
	sigprocmask(SIG_BLOCK, &blocked, &was);

	/* Also with descriptor 0 closed, so that it becomes one of ours, and is in the way then. */
	fd = dup(0);
	close(0);
	assert_int_equal(vmci_open(dir, VMCI_CID_HOST, 0, &vmci), 0);
	assert_int_equal(vmci_open(dir, VMCI_CID_HOST, 0, &second), 0);

	/* The program has no child, and was told of none. */
	assert_int_equal(children, 0);
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
	assert_int_equal(errno, ECHILD);
	vmci_close(vmci);
	vmci_close(second);
	dup2(fd, 0);
	close(fd);

	wait_for_log(dir, log, sizeof(log));
	if (strcmp(log, "argv --embedded --runtime-dir ok\nfds 3\ncwd /\nleader 1\nblocked 0\nignored 0\n"))
		fail_msg("%s", log);
	close(inherited);
	sigprocmask(SIG_SETMASK, &was, NULL);
	signal(SIGUSR2, SIG_DFL);
	sigaction(SIGCHLD, &before, NULL);
	unsetenv("VMCI_VMCID");
	remove_dir(dir);
	rmdir(parent);
}

/* The one that was started dies: another is started, and the membership goes on. */
static void starts_another(void **state)
{
	char parent[] = "/tmp/vmci-test-XXXXXX", dir[64], path[80];
	struct vmci_handle handle = { VMCI_CID_HOST, 5000 };
	struct vmci_dgram *dgram;
	struct vmci *vmci;
	unsigned waited = 0;

	(void)state;
	assert_non_null(mkdtemp(parent));
	snprintf(dir, sizeof(dir), "%s/run", parent);
	snprintf(path, sizeof(path), "%s/left", dir);
	setenv("VMCI_VMCID", self, 1);
	assert_int_equal(vmci_open(dir, VMCI_CID_HOST, 0, &vmci), 0);
	assert_int_equal(vmci_dgram_open(vmci, 4321, &dgram), 0);
	handle.resource = FAKE_MORTAL_PORT;
	assert_int_equal(vmci_dgram_send(dgram, handle, "x", 1), VMCI_ERROR_DATAGRAM_FAILED);
	assert_says("went away");
	handle.resource = 5000;
	assert_int_equal(vmci_dgram_send(dgram, handle, "x", 1), 1);
	vmci_dgram_close(dgram);
	vmci_close(vmci);
	while (access(path, F_OK))
		assert_true(in_time(&waited));
	unsetenv("VMCI_VMCID");
	remove_dir(dir);
	rmdir(parent);
}

/* A program that ends at once, and one that is none. */
static void starts_none(void **state)
{
	char dir[] = "/tmp/vmci-test-XXXXXX", path[64];
	struct vmci *vmci;

	(void)state;
	assert_non_null(mkdtemp(dir));
	setenv("VMCI_VMCID", "/bin/false", 1);
	assert_int_equal(vmci_open(dir, VMCI_CID_HOST, 0, &vmci), VMCI_ERROR_DEVICE_NOT_FOUND);
	assert_says("vmcid.log");
	assert_says(dir);
	snprintf(path, sizeof(path), "%s/text", dir);
	close(open(path, O_WRONLY | O_CREAT, 0700));
	setenv("VMCI_VMCID", path, 1);
	assert_int_equal(vmci_open(dir, VMCI_CID_HOST, 0, &vmci), VMCI_ERROR_DEVICE_NOT_FOUND);
	assert_says(strerror(ENOEXEC));
	unlink(path);
	unsetenv("VMCI_VMCID");
	remove_dir(dir);
}

/* --- The broker that libvmci starts -------------------------------------------------------------------------- */

static int be_broker(int argc, char **argv)
{
	const char *session = getenv("TEST_SESSION");
	char path[200], temporary[200], cwd[100] = "";
	sigset_t blocked;
	struct sigaction action;
	FILE *left;
	bool is_good;

	is_good = argc == 4 && !strcmp(argv[1], "--embedded") && !strcmp(argv[2], "--runtime-dir");
	if (!is_good || strlen(argv[3]) > 100)
		return 2;
	snprintf(path, sizeof(path), "%s/left", argv[3]);
	snprintf(temporary, sizeof(temporary), "%s/left~", argv[3]);
	left = fopen(temporary, "we");
	if (!left)
		return 3;
	sigprocmask(SIG_SETMASK, NULL, &blocked);
	sigaction(SIGUSR2, NULL, &action);
	fprintf(left, "argv --embedded --runtime-dir ok\nfds %u\ncwd %s\nleader %d\nblocked %d\nignored %d\n",
		fds_open() - 1, getcwd(cwd, sizeof(cwd)),
		session && getsid(0) != atoi(session) && getsid(0) != getpid(), sigismember(&blocked, SIGUSR1), action.sa_handler == SIG_IGN);
	fclose(left);
	/* A broker that was killed has not written what a good one does at its end. */
	if (fake_serve(argv[3]))
		return 4;
	rename(temporary, path);
	return 0;
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(opens_and_closes, set_up, tear_down),
		cmocka_unit_test_setup_teardown(own_context, set_up, tear_down),
		cmocka_unit_test_setup_teardown(wrong_arguments, set_up, tear_down),
		cmocka_unit_test_setup_teardown(refused, set_up, tear_down),
		cmocka_unit_test_setup_teardown(second_try, set_up, tear_down),
		cmocka_unit_test_setup_teardown(silent, set_up, tear_down),
		cmocka_unit_test_setup_teardown(nobody_there, set_up, tear_down),
		cmocka_unit_test_setup_teardown(by_environment, set_up, tear_down),
		cmocka_unit_test_setup_teardown(own_directory, set_up, tear_down),
		cmocka_unit_test_setup_teardown(relative_path, set_up, tear_down),
		cmocka_unit_test_setup_teardown(starts_one, set_up, tear_down),
		cmocka_unit_test_setup_teardown(starts_another, set_up, tear_down),
		cmocka_unit_test_setup_teardown(starts_none, set_up, tear_down),
	};
	static char path[4096];
	ssize_t n;

	if (argc > 1)
		return be_broker(argc, argv);
	n = readlink("/proc/self/exe", path, sizeof(path) - 1);
	path[n < 0 ? 0 : n] = '\0';
	self = path;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
