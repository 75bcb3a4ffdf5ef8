/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * DOC: Theory of operation
 *
 * A write(2) to an eventfd has no flag that keeps it from waiting, as send(2) has. So a timer stands behind it: its
 * signal, which does nothing, ends a write that waits. It comes again and again, for it may come before the wait
 * begins.
 */
#include "kick.h"

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <unistd.h>

#include "proto/limits.h"

static void on_alarm(int signal)
{
	(void)signal;
}

/* Without SA_RESTART, so that the signal ends system calls. */
static bool catch_alarm(void)
{
	static bool is_caught;
	struct sigaction action = { .sa_handler = on_alarm };

	if (!is_caught)
		is_caught = !sigaction(SIGALRM, &action, NULL);
	return is_caught;
}

int kick(int fd)
{
	const struct itimerval never = { 0 };
	const struct itimerval soon = {
		.it_value = { .tv_usec = LIMIT_KICK_USEC },
		.it_interval = { .tv_usec = LIMIT_KICK_USEC },
	};
	const uint64_t one = 1;
	ssize_t n;
	int r = 0;

	if (!catch_alarm() || setitimer(ITIMER_REAL, &soon, NULL))
		return -errno;
	n = write(fd, &one, sizeof(one));
	if (n < 0 && errno != EAGAIN)
		r = -errno;
	setitimer(ITIMER_REAL, &never, NULL);
	return r;
}

void kick_clear(int fd)
{
	uint64_t count;
	struct iovec iov = { .iov_base = &count, .iov_len = sizeof(count) };

	(void)!preadv2(fd, &iov, 1, -1, RWF_NOWAIT);
}
