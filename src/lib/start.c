/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * DOC: Theory of operation
 *
 * The broker listens at control.sock of its runtime directory. Which directory that is was said by the program or by
 * $VMCI_RUNTIME_DIR; else it is /run/vmci, if a broker listens there, else the user's own. The last is made by us, so
 * it is checked: in /tmp somebody else may have made it to play the broker.
 *
 * Where nobody listens, "vmcid --embedded --runtime-dir DIR" is started; whoever starts second finds the lock taken,
 * and leaves. The program must not notice that it has had a child: it may have a handler for SIGCHLD, or wait for any
 * child. So the child is made by clone(2) without a signal for its end, which wait(2) does not see, and makes
 * the broker as its own child in a session of its own; the broker is init's when the first has gone. Between clone
 * and execve only system calls are made, because other threads may hold any lock.
 */
#include "lib/start.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "lib/lib.h"

#ifndef VMCID_PROGRAM
#define VMCID_PROGRAM "/usr/local/sbin/vmcid"
#endif

extern char **environ;

/* --- Finding ------------------------------------------------------------------------------------------------ */

/**
 * home_set() - name the directory @dir
 *
 * Return: 0; VMCI_ERROR_INVALID_ARGS
 */
static int home_set(struct home *home, const char *dir)
{
	char cwd[PATH_MAX] = "";
	int n;

	if (dir[0] != '/' && !getcwd(cwd, sizeof(cwd)))
		return lib_fail(VMCI_ERROR_INVALID_ARGS, "runtime directory %s: %s", dir, strerror(errno));
	n = snprintf(home->socket, sizeof(home->socket), "%s%s%s/" HOME_SOCKET, cwd, cwd[0] ? "/" : "", dir);
	if (n < 0 || (size_t)n >= sizeof(home->socket))
		return lib_fail(VMCI_ERROR_INVALID_ARGS,
				"runtime directory %s%s%s: the path of a socket in it is too long", cwd,
				cwd[0] ? "/" : "", dir);
	memcpy(home->dir, home->socket, sizeof(home->dir));
	home->dir[(size_t)n - strlen("/" HOME_SOCKET)] = '\0';
	return 0;
}

int home_connect(const struct home *home)
{
	struct timeval patience = { .tv_sec = HOME_CONNECT_S };
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	int r;

	if (fd < 0)
		return -errno;
	memcpy(address.sun_path, home->socket, sizeof(address.sun_path));
	/* A broker that accepts slowly is waited for, with a bound. Messages never wait: fabric/link.h. */
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
	do
		r = connect(fd, (const struct sockaddr *)&address, sizeof(address));
	while (r < 0 && errno == EINTR);
	if (!r)
		return fd;
	r = -errno;
	fd_close(&fd);
	return r;
}

/**
 * own_dir() - the user's own runtime directory: $XDG_RUNTIME_DIR/vmci, /run/user/UID/vmci, /tmp/vmci-UID
 */
static void own_dir(char *dir, size_t size)
{
	const char *xdg = secure_getenv("XDG_RUNTIME_DIR");
	uid_t uid = geteuid();
	char run[64];

	snprintf(run, sizeof(run), "/run/user/%u", (unsigned)uid);
	if (xdg && xdg[0] == '/')
		snprintf(dir, size, "%s/vmci", xdg);
	else if (!access(run, W_OK | X_OK))
		snprintf(dir, size, "%s/vmci", run);
	else
		snprintf(dir, size, "/tmp/vmci-%u", (unsigned)uid);
}

/**
 * check_own() - is the user's own directory really that? One that is not there is fine.
 *
 * Return: 0; VMCI_ERROR_NO_ACCESS
 */
static int check_own(const struct home *home)
{
	struct stat st;

	if (lstat(home->dir, &st))
		return 0;
	if (!S_ISDIR(st.st_mode))
		return lib_fail(VMCI_ERROR_NO_ACCESS, "%s is not a directory", home->dir);
	if (st.st_uid != geteuid() || st.st_mode & (S_IWGRP | S_IWOTH))
		return lib_fail(VMCI_ERROR_NO_ACCESS, "%s: others than its user can write to it", home->dir);
	return 0;
}

/**
 * is_absent() - does this error of home_connect() say that nobody listens?
 */
static bool is_absent(int error)
{
	return error == -ENOENT || error == -ECONNREFUSED || error == -ENOTDIR || error == -EAGAIN;
}

/**
 * reach() - connect to the broker in a directory that was chosen
 *
 * Return: 0, and *@ret_fd may be -1; VMCI_ERROR_NO_ACCESS
 */
static int reach(const struct home *home, int *ret_fd)
{
	int fd = home_connect(home);

	if (fd < 0 && !is_absent(fd))
		return lib_fail(fd == -EACCES || fd == -EPERM ? VMCI_ERROR_NO_ACCESS : VMCI_ERROR_UNAVAILABLE, "%s: %s",
				home->socket, strerror(-fd));
	if (fd < 0)
		lib_fail(VMCI_ERROR_DEVICE_NOT_FOUND, "no broker at %s: %s", home->socket, strerror(-fd));
	*ret_fd = fd < 0 ? -1 : fd;
	return 0;
}

int home_find(const char *path, bool no_start, struct home *ret_home, int *ret_fd)
{
	struct home home = { .may_start = !no_start };
	char dir[PATH_MAX];
	int fd, system, r;

	if (!path)
		path = secure_getenv("VMCI_RUNTIME_DIR");
	home.is_chosen = path != NULL;
	r = home_set(&home, path ? path : HOME_SYSTEM);
	if (r)
		return r;
	if (!strcmp(home.dir, HOME_SYSTEM))
		home.may_start = false;
	if (path) {
		r = reach(&home, &fd);
		if (r)
			return r;
		goto found;
	}

	system = fd = home_connect(&home);
	if (fd >= 0)
		goto found;
	own_dir(dir, sizeof(dir));
	r = home_set(&home, dir);
	if (!r)
		r = check_own(&home);
	if (!r)
		r = reach(&home, &fd);
	if (r)
		return r;
	if (fd < 0)
		lib_where(0, "no broker at " HOME_SYSTEM "/" HOME_SOCKET ": %s", strerror(-system));
	home.may_start = !no_start;
found:
	*ret_home = home;
	*ret_fd = fd;
	return 0;
}

int home_patience_ms(const struct home *home)
{
	if (!home->may_start)
		return -1;
	return home->is_started || !home->is_chosen ? 0 : HOME_PATIENCE_MS;
}

/* --- Starting ----------------------------------------------------------------------------------------------- */

/**
 * add_tried() - append @path, or as much as there is room for
 */
static void add_tried(char *tried, size_t size, const char *path)
{
	size_t len = strlen(tried);
	size_t more = strnlen(path, size);

	if (len + 2 + more >= size)
		return;
	memcpy(tried + len, ", ", 2);
	memcpy(tried + len + 2, path, more);
	tried[len + 2 + more] = '\0';
}

/**
 * find_program() - where vmcid is
 * @ret_tried: the places that were looked at, for a message
 *
 * A set-user-id program is not told by its caller, nor by where it was linked to, what to run.
 * Return: 0; -ENOENT
 */
static int find_program(char *path, size_t size, char *ret_tried, size_t tried_size)
{
	const char *named = secure_getenv("VMCI_VMCID");
	char beside[PATH_MAX];
	ssize_t n = -1;

	snprintf(ret_tried, tried_size, "$VMCI_VMCID (%s)", named ? named : "not set");
	if (named) {
		snprintf(path, size, "%s", named);
		return access(path, X_OK) ? -ENOENT : 0;
	}
	if (!getauxval(AT_SECURE))
		n = readlink("/proc/self/exe", beside, sizeof(beside) - sizeof("vmcid"));
	if (n > 0) {
		beside[n] = '\0';
		strcpy(strrchr(beside, '/') + 1, "vmcid");
		snprintf(path, size, "%s", beside);
		if (!access(path, X_OK))
			return 0;
		add_tried(ret_tried, tried_size, beside);
	}
	snprintf(path, size, "%s", VMCID_PROGRAM);
	if (!access(path, X_OK))
		return 0;
	add_tried(ret_tried, tried_size, path);
	return -ENOENT;
}

/**
 * struct launch - all that the child needs, prepared before it is made
 * @report: where the child writes an errno if it fails
 */
struct launch {
	const char *program;
	char *const *argv;
	int null;
	int log;
	int report;
};

/**
 * restore_signals() - as a new program expects them; what the program has set up is not the broker's
 */
static void restore_signals(void)
{
	struct sigaction action = { .sa_handler = SIG_DFL };
	sigset_t none;

	for (int sig = 1; sig < NSIG; sig++)
		sigaction(sig, &action, NULL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

/**
 * close_others() - close all descriptors from @from on
 */
static void close_others(int from)
{
	if (!syscall(SYS_close_range, from, ~0u, 0))
		return;
	for (int fd = from; fd < 65536; fd++)
		close(fd);
}

/**
 * become_broker() - in the child of the child. Does not return.
 */
static void __attribute__((noreturn)) become_broker(const struct launch *launch)
{
	/* All are 5 or above: prepare() saw to that. */
	int report = 3;
	int error;

	if (dup2(launch->null, 0) >= 0 && dup2(launch->log, 1) >= 0 && dup2(launch->log, 2) >= 0 &&
	    dup3(launch->report, report, O_CLOEXEC) >= 0 && !chdir("/")) {
		close_others(report + 1);
		restore_signals();
		execve(launch->program, launch->argv, environ);
	} else {
		report = launch->report;
	}
	error = errno;
	if (write(report, &error, sizeof(error)) < 0)
		_exit(126);
	_exit(127);
}

/**
 * spawn() - make a child that makes the broker, and wait for the child
 *
 * Return: 0; a negative errno
 */
static int spawn(const struct launch *launch)
{
	sigset_t all, before;
	long pid;
	int status;

	/* No handler of the program runs in its child. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	pid = syscall(SYS_clone, 0, NULL, NULL, NULL, NULL);
	if (!pid) {
		setsid();
		pid = syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL);
		if (!pid)
			become_broker(launch);
		_exit(pid < 0);
	}
	if (pid < 0)
		status = -errno;
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (pid < 0)
		return status;
	while (waitpid((pid_t)pid, &status, __WCLONE) < 0)
		if (errno != EINTR)
			return 0;
	return WIFEXITED(status) && !WEXITSTATUS(status) ? 0 : -EAGAIN;
}

/**
 * above() - *@fd is to be 5 or above, so that the child can put all into place without overwriting any
 *
 * Return: 0; a negative errno
 */
static int above(int *fd)
{
	int moved;

	if (*fd < 0)
		return -errno;
	if (*fd >= 5)
		return 0;
	moved = fcntl(*fd, F_DUPFD_CLOEXEC, 5);
	if (moved < 0)
		return -errno;
	fd_close(fd);
	*fd = moved;
	return 0;
}

/**
 * open_log() - the embedded broker's log in @dir
 *
 * Return: a descriptor; a negative errno
 */
static int open_log(const char *dir)
{
	char path[HOME_SIZE + sizeof(HOME_LOG)];
	struct stat st;
	int fd;

	snprintf(path, sizeof(path), "%s/" HOME_LOG, dir);
	fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) || !S_ISREG(st.st_mode)) {
		fd_close(&fd);
		return -EINVAL;
	}
	if (st.st_size > HOME_LOG_MAX && ftruncate(fd, 0)) {
		/* Then it grows on. */
	}
	return fd;
}

/**
 * launch() - run the program in the directory
 *
 * Return: 0; a negative errno
 */
static int launch(const struct home *home, const char *program)
{
	const char *argv[] = { "vmcid", "--embedded", "--runtime-dir", home->dir, NULL };
	struct launch what = { .program = program, .argv = (char *const *)argv, .report = -1 };
	int report[2], error, r;
	ssize_t n;

	what.null = open("/dev/null", O_RDWR | O_CLOEXEC);
	what.log = open_log(home->dir);
	if (what.log < 0)
		what.log = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (pipe2(report, O_CLOEXEC)) {
		r = -errno;
		fd_close(&what.null);
		fd_close(&what.log);
		return r;
	}
	what.report = report[1];
	r = above(&what.null);
	if (!r)
		r = above(&what.log);
	if (!r)
		r = above(&what.report);
	if (!r)
		r = spawn(&what);
	fd_close(&what.null);
	fd_close(&what.log);
	fd_close(&what.report);
	if (!r) {
		/* Ends when execve has closed the other end, or with the reason why it has not. */
		do
			n = read(report[0], &error, sizeof(error));
		while (n < 0 && errno == EINTR);
		if (n == sizeof(error))
			r = -error;
	}
	fd_close(&report[0]);
	return r;
}

int home_start(struct home *home)
{
	char program[PATH_MAX], tried[512];
	int r;

	if (mkdir(home->dir, 0700) && errno != EEXIST)
		return lib_fail(VMCI_ERROR_DEVICE_NOT_FOUND, "no broker at %s, and none can be started: %s: %s",
				home->socket, home->dir, strerror(errno));
	if (!home->is_chosen) {
		r = check_own(home);
		if (r)
			return r;
	}
	if (find_program(program, sizeof(program), tried, sizeof(tried)))
		return lib_fail(VMCI_ERROR_DEVICE_NOT_FOUND, "no broker at %s, and no program to start; tried %s",
				home->socket, tried);
	r = launch(home, program);
	if (r)
		return lib_fail(VMCI_ERROR_DEVICE_NOT_FOUND, "no broker at %s, and %s cannot be started: %s",
				home->socket, program, strerror(-r));
	home->is_started = true;
	return 0;
}
