/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * DOC: Theory of operation
 *
 * vmcid listens to everybody, and so gives up fork and exec. Another process, forked before that, starts the
 * devices: it hears vmcid only, over a socket pair, and starts what it is told. A message to it is the id and the
 * arguments, each with its NUL, and descriptors; messages from it are a word: what, id, and a value.
 *
 * What it starts is in a session of its own, without a signal for the death of its parent: devices go on when
 * vmcid, and with it this process, has gone. As long as it is there, it reaps them.
 */
#include "spawner.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/fd.h"
#include "base/log.h"
#include "proto/limits.h"

#define NEWS_SIZE 12u

/* Where received descriptors are put first, out of the way of their final places. */
#define HIGH_FD 64

enum news {
	NEWS_STARTED = 1,
	NEWS_FAILED,
	NEWS_EXITED,
};

struct spawner {
	int fd;
	sd_event_source *source;
	const struct spawner_ops *ops;
	void *ctx;
};

/* --- The process -------------------------------------------------------------------------------------------- */

struct child {
	uint32_t id;
	pid_t pid;
};

static struct child children[LIMIT_VMCID_VMS];

static void tell(int fd, enum news what, uint32_t id, int32_t value)
{
	uint8_t buf[NEWS_SIZE];

	put_le32(buf, what);
	put_le32(buf + 4, id);
	put_le32(buf + 8, (uint32_t)value);
	/* vmcid always reads. If it has gone, so are we. */
	(void)!send(fd, buf, sizeof(buf), MSG_NOSIGNAL);
}

static void reap(int fd)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
		for (size_t i = 0; i < LIMIT_VMCID_VMS; i++)
			if (children[i].pid == pid) {
				children[i].pid = 0;
				tell(fd, NEWS_EXITED, children[i].id, status);
			}
}

static int spawn(char *const argv[], const int *fds, unsigned n_fds, pid_t *ret_pid)
{
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attr;
	sigset_t none, all;
	int r;

	sigemptyset(&none);
	sigfillset(&all);
	r = posix_spawn_file_actions_init(&actions);
	if (r)
		return -r;
	r = posix_spawnattr_init(&attr);
	if (r) {
		posix_spawn_file_actions_destroy(&actions);
		return -r;
	}
	for (unsigned i = 0; i < n_fds && !r; i++)
		r = posix_spawn_file_actions_adddup2(&actions, fds[i], SPAWNER_FIRST_FD + (int)i);
	if (!r)
		r = posix_spawnattr_setsigmask(&attr, &none);
	if (!r)
		r = posix_spawnattr_setsigdefault(&attr, &all);
	if (!r)
		r = posix_spawnattr_setflags(&attr,
					     POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
	if (!r)
		r = posix_spawn(ret_pid, argv[0], &actions, &attr, argv, environ);
	posix_spawnattr_destroy(&attr);
	posix_spawn_file_actions_destroy(&actions);
	return -r;
}

static int start(uint32_t id, char *text, size_t len, const int *fds, unsigned n_fds, pid_t *ret_pid)
{
	char *argv[SPAWNER_ARGS_MAX + 1];
	struct child *child = NULL;
	unsigned n = 0;
	int r;

	for (size_t at = 0; at < len; at += strlen(text + at) + 1) {
		if (n == SPAWNER_ARGS_MAX)
			return -E2BIG;
		argv[n++] = text + at;
	}
	argv[n] = NULL;
	for (size_t i = 0; i < LIMIT_VMCID_VMS && !child; i++)
		if (!children[i].pid)
			child = &children[i];
	if (!child)
		return -EAGAIN;
	r = spawn(argv, fds, n_fds, ret_pid);
	if (!r)
		*child = (struct child){ .id = id, .pid = *ret_pid };
	return r;
}

/* Return: false: vmcid has gone */
static bool obey(int fd)
{
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(SPAWNER_FDS_MAX * sizeof(int))];
	} control;
	uint8_t buf[4 + SPAWNER_ARGS_SIZE];
	struct iovec iov = { .iov_base = buf, .iov_len = sizeof(buf) };
	struct msghdr hdr = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.buf, .msg_controllen = sizeof(control.buf),
	};
	ssize_t n = recvmsg(fd, &hdr, MSG_CMSG_CLOEXEC);
	int fds[SPAWNER_FDS_MAX], r = 0;
	struct cmsghdr *cmsg;
	unsigned n_fds = 0;
	pid_t pid = 0;

	if (n < 0 && errno == EINTR)
		return true;
	if (n < 5)
		return false;
	cmsg = CMSG_FIRSTHDR(&hdr);
	if (cmsg && cmsg->cmsg_type == SCM_RIGHTS) {
		n_fds = (unsigned)((cmsg->cmsg_len - CMSG_LEN(0)) / sizeof(int));
		memcpy(fds, CMSG_DATA(cmsg), n_fds * sizeof(int));
	}
	for (unsigned i = 0; i < n_fds; i++) {
		int high = fcntl(fds[i], F_DUPFD_CLOEXEC, HIGH_FD);

		if (high < 0)
			r = -errno;
		fd_close(&fds[i]);
		fds[i] = high;
	}
	buf[n - 1] = '\0';
	if (!r)
		r = start(get_le32(buf), (char *)buf + 4, (size_t)n - 4, fds, n_fds, &pid);
	for (unsigned i = 0; i < n_fds; i++)
		fd_close(&fds[i]);
	tell(fd, r ? NEWS_FAILED : NEWS_STARTED, get_le32(buf), r ? r : (int32_t)pid);
	return true;
}

__attribute__((noreturn)) static void spawner_main(int fd)
{
	struct pollfd poll_fds[2] = { { .fd = fd, .events = POLLIN }, { .events = POLLIN } };
	struct signalfd_siginfo info;
	sigset_t mask;

	prctl(PR_SET_NAME, "vmcid-spawner");
	/* It ends with vmcid, not by what is sent to both of them. */
	signal(SIGINT, SIG_IGN);
	signal(SIGTERM, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	signal(SIGCHLD, SIG_DFL);
	sigemptyset(&mask);
	sigaddset(&mask, SIGCHLD);
	sigprocmask(SIG_SETMASK, &mask, NULL);
	unsetenv("NOTIFY_SOCKET");
	unsetenv("WATCHDOG_USEC");
	unsetenv("WATCHDOG_PID");
	/* Its only descriptors are the standard ones and the socket. */
	if (fd != STDERR_FILENO + 1 && dup3(fd, STDERR_FILENO + 1, O_CLOEXEC) < 0)
		_exit(EXIT_FAILURE);
	fd = STDERR_FILENO + 1;
	close_range(STDERR_FILENO + 2, ~0u, 0);
	poll_fds[0].fd = fd;
	poll_fds[1].fd = signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK);
	if (poll_fds[1].fd < 0)
		_exit(EXIT_FAILURE);
	for (;;) {
		if (poll(poll_fds, 2, -1) < 0 && errno != EINTR)
			_exit(EXIT_FAILURE);
		if (poll_fds[1].revents) {
			while (read(poll_fds[1].fd, &info, sizeof(info)) > 0)
				;
			reap(fd);
		}
		if (poll_fds[0].revents && !obey(fd))
			_exit(EXIT_SUCCESS);
	}
}

/* --- vmcid's side ---------------------------------------------------------------------------------------------- */

int spawner_start(struct spawner **ret_spawner)
{
	struct spawner *spawner = calloc(1, sizeof(*spawner));
	int fds[2], r;
	pid_t pid;

	if (!spawner)
		return -ENOMEM;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds)) {
		r = -errno;
		free(spawner);
		return r;
	}
	pid = fork();
	if (pid < 0) {
		r = -errno;
		fd_close(&fds[0]);
		fd_close(&fds[1]);
		free(spawner);
		return r;
	}
	if (!pid) {
		free(spawner);
		fd_close(&fds[0]);
		spawner_main(fds[1]);
	}
	fd_close(&fds[1]);
	spawner->fd = fds[0];
	*ret_spawner = spawner;
	return 0;
}

static int on_news(sd_event_source *source, int fd, uint32_t events, void *ctx)
{
	struct spawner *spawner = ctx;
	uint8_t buf[NEWS_SIZE];
	ssize_t n = recv(fd, buf, sizeof(buf), MSG_DONTWAIT);
	uint32_t id;
	int32_t value;

	(void)events;
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (n != NEWS_SIZE) {
		log_err("the process that starts devices has gone: no more VMs until vmcid is started anew");
		sd_event_source_set_enabled(source, SD_EVENT_OFF);
		return 0;
	}
	id = get_le32(buf + 4);
	value = (int32_t)get_le32(buf + 8);
	if (get_le32(buf) == NEWS_EXITED)
		spawner->ops->exited(spawner->ctx, id, value);
	else if (get_le32(buf) == NEWS_STARTED)
		spawner->ops->started(spawner->ctx, id, value, 0);
	else
		spawner->ops->started(spawner->ctx, id, 0, value);
	return 0;
}

int spawner_watch(struct spawner *spawner, sd_event *event, const struct spawner_ops *ops, void *ctx)
{
	int r = sd_event_add_io(event, &spawner->source, spawner->fd, EPOLLIN, on_news, spawner);

	spawner->ops = ops;
	spawner->ctx = ctx;
	return r < 0 ? r : 0;
}

int spawner_run(struct spawner *spawner, uint32_t id, const char *const argv[], const int *fds, unsigned n_fds)
{
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(SPAWNER_FDS_MAX * sizeof(int))];
	} control = { 0 };
	uint8_t buf[4 + SPAWNER_ARGS_SIZE];
	struct iovec iov = { .iov_base = buf };
	struct msghdr hdr = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.buf,
		.msg_controllen = CMSG_SPACE(n_fds * sizeof(int)),
	};
	size_t len = 4;

	assert(n_fds && n_fds <= SPAWNER_FDS_MAX);
	put_le32(buf, id);
	for (unsigned i = 0; argv[i]; i++) {
		size_t size = strlen(argv[i]) + 1;

		if (i == SPAWNER_ARGS_MAX || size > sizeof(buf) - len)
			return -E2BIG;
		memcpy(buf + len, argv[i], size);
		len += size;
	}
	iov.iov_len = len;
	control.align.cmsg_level = SOL_SOCKET;
	control.align.cmsg_type = SCM_RIGHTS;
	control.align.cmsg_len = CMSG_LEN(n_fds * sizeof(int));
	memcpy(CMSG_DATA(&control.align), fds, n_fds * sizeof(int));
	return sendmsg(spawner->fd, &hdr, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 ? -errno : 0;
}

struct spawner *spawner_free(struct spawner *spawner)
{
	if (spawner) {
		sd_event_source_disable_unref(spawner->source);
		fd_close(&spawner->fd);
		free(spawner);
	}
	return NULL;
}
