/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * DOC: Theory of operation
 *
 * The process maps the memory of a VM, and handles what the VM and its VMM send. Should one of them take
 * it over, it finds a process that can do little more than it has to:
 *
 *	no new privileges	exec of a set-uid program gives nothing
 *	Landlock		no file can be opened or made; only our own socket files can be removed
 *	seccomp			no exec, no ptrace, no network, no new namespaces; AF_UNIX sockets only
 *
 * Programs' sockets are still reached by path (the hybrid convention needs it): Landlock does not cover
 * connect(2) to a UNIX socket, so socket files that the process's user may write to stay within reach.
 */
#include "sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <linux/landlock.h>
#include <seccomp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"

/* Rights of the first Landlock ABI: what any kernel that has it knows. */
#define ALL_FILE_RIGHTS ((LANDLOCK_ACCESS_FS_MAKE_SYM << 1) - 1)

static int allow_removal(int ruleset, const char *path)
{
	struct landlock_path_beneath_attr rule = { .allowed_access = LANDLOCK_ACCESS_FS_REMOVE_FILE };
	char *copy = strdup(path);
	int r = 0;

	if (!copy)
		return -ENOMEM;
	rule.parent_fd = open(dirname(copy), O_PATH | O_CLOEXEC);
	free(copy);
	if (rule.parent_fd < 0)
		return -errno;
	if (syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0))
		r = -errno;
	close(rule.parent_fd);
	return r;
}

static int restrict_files(const char *const paths[])
{
	struct landlock_ruleset_attr attr = { .handled_access_fs = ALL_FILE_RIGHTS };
	int r = 0, ruleset = (int)syscall(SYS_landlock_create_ruleset, &attr, sizeof(attr), 0);

	if (ruleset < 0) {
		log_info("no Landlock here: %s", strerror(errno));
		return 0;
	}
	for (int i = 0; paths[i] && !r; i++)
		r = allow_removal(ruleset, paths[i]);
	if (!r && syscall(SYS_landlock_restrict_self, ruleset, 0))
		r = -errno;
	fd_close(&ruleset);
	return r;
}

/* Each line: who needs it. */
static const int allowed_device[] = {
	/* event loop, timers, signals */
	SCMP_SYS(epoll_wait), SCMP_SYS(epoll_pwait), SCMP_SYS(epoll_pwait2), SCMP_SYS(epoll_ctl),
	SCMP_SYS(epoll_create1), SCMP_SYS(timerfd_create), SCMP_SYS(timerfd_settime), SCMP_SYS(eventfd2),
	SCMP_SYS(signalfd4), SCMP_SYS(clock_gettime), SCMP_SYS(rt_sigprocmask), SCMP_SYS(rt_sigaction),
	SCMP_SYS(rt_sigreturn), SCMP_SYS(poll), SCMP_SYS(ppoll), SCMP_SYS(sched_yield),
	/* sockets; socket() and socketpair() themselves are below */
	SCMP_SYS(accept4), SCMP_SYS(connect), SCMP_SYS(shutdown), SCMP_SYS(sendmsg), SCMP_SYS(recvmsg),
	SCMP_SYS(sendto), SCMP_SYS(recvfrom), SCMP_SYS(getsockopt), SCMP_SYS(setsockopt), SCMP_SYS(getsockname),
	/* descriptors: eventfds, guest memory */
	SCMP_SYS(read), SCMP_SYS(write), SCMP_SYS(readv), SCMP_SYS(writev), SCMP_SYS(pread64), SCMP_SYS(close),
	SCMP_SYS(dup),
	SCMP_SYS(fstat), SCMP_SYS(fstatfs), SCMP_SYS(newfstatat), SCMP_SYS(fcntl), SCMP_SYS(lseek), SCMP_SYS(unlink),
	SCMP_SYS(unlinkat),
	/* the fabric: memory of queue pairs, doorbells */
	SCMP_SYS(memfd_create), SCMP_SYS(ftruncate), SCMP_SYS(preadv2), SCMP_SYS(setitimer),
	/* memory */
	SCMP_SYS(mmap), SCMP_SYS(munmap), SCMP_SYS(mremap), SCMP_SYS(madvise), SCMP_SYS(mprotect), SCMP_SYS(brk),
	SCMP_SYS(mincore),
	/* the C library, and the end */
	SCMP_SYS(futex), SCMP_SYS(getpid), SCMP_SYS(gettid), SCMP_SYS(tgkill), SCMP_SYS(getrandom),
	SCMP_SYS(restart_syscall), SCMP_SYS(exit), SCMP_SYS(exit_group),
};

/* The keeper. */
static const int allowed_keeper[] = {
	/* waiting, and the two sockets */
	SCMP_SYS(poll), SCMP_SYS(ppoll), SCMP_SYS(clock_gettime), SCMP_SYS(sendmsg), SCMP_SYS(recvmsg), SCMP_SYS(sendto),
	SCMP_SYS(epoll_wait), SCMP_SYS(epoll_pwait), SCMP_SYS(epoll_ctl), SCMP_SYS(epoll_create1),
	/* descriptors: eventfds, guest memory, standard error */
	SCMP_SYS(read), SCMP_SYS(write), SCMP_SYS(writev), SCMP_SYS(pread64), SCMP_SYS(close), SCMP_SYS(fstat),
	SCMP_SYS(fstatfs), SCMP_SYS(newfstatat), SCMP_SYS(fcntl), SCMP_SYS(dup2), SCMP_SYS(dup3),
	/* memory, and SIGBUS */
	SCMP_SYS(mmap), SCMP_SYS(munmap), SCMP_SYS(mremap), SCMP_SYS(madvise), SCMP_SYS(mprotect), SCMP_SYS(brk),
	SCMP_SYS(rt_sigaction), SCMP_SYS(rt_sigreturn), SCMP_SYS(rt_sigprocmask),
	/* the C library, and the end */
	SCMP_SYS(futex), SCMP_SYS(getpid), SCMP_SYS(gettid), SCMP_SYS(tgkill), SCMP_SYS(getrandom),
	SCMP_SYS(restart_syscall), SCMP_SYS(exit), SCMP_SYS(exit_group),
};

static int restrict_calls(const int *allowed, size_t n, bool sockets)
{
	const struct scmp_arg_cmp unix_only = { .arg = 0, .op = SCMP_CMP_EQ, .datum_a = AF_UNIX };
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ERRNO(ENOSYS));
	int r = 0;

	if (!filter)
		return -ENOMEM;
	for (size_t i = 0; i < n && !r; i++)
		r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, allowed[i], 0);
	if (!r && sockets)
		r = seccomp_rule_add_array(filter, SCMP_ACT_ALLOW, SCMP_SYS(socket), 1, &unix_only);
	if (!r && sockets)
		r = seccomp_rule_add_array(filter, SCMP_ACT_ALLOW, SCMP_SYS(socketpair), 1, &unix_only);
	if (!r)
		r = seccomp_load(filter);
	seccomp_release(filter);
	return r;
}

int sandbox_enter(const char *const paths[])
{
	int r;

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		return -errno;
	r = restrict_files(paths);
	return r ? r : restrict_calls(allowed_device, sizeof(allowed_device) / sizeof(allowed_device[0]), true);
}

int sandbox_enter_keeper(void)
{
	int r;

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		return -errno;
	r = restrict_files((const char *const[]){ NULL });
	return r ? r : restrict_calls(allowed_keeper, sizeof(allowed_keeper) / sizeof(allowed_keeper[0]), false);
}
