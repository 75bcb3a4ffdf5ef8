/* SPDX-License-Identifier: BSD-2-Clause */
#include "patient.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/time.h>

#include "proto/limits.h"

static void set_alarm(unsigned usec)
{
	const struct timeval every = { .tv_usec = usec };
	const struct itimerval timer = { .it_value = every, .it_interval = every };

	setitimer(ITIMER_REAL, &timer, NULL);
}

int patient_bind(int fd, const struct sockaddr_un *sun, socklen_t len)
{
	int r;

	set_alarm(LIMIT_PORTS_WAIT_USEC);
	r = bind(fd, (const struct sockaddr *)sun, len) ? -errno : 0;
	set_alarm(0);
	return r;
}

int patient_connect(int fd, const struct sockaddr_un *sun, socklen_t len)
{
	int flags = fcntl(fd, F_GETFL), r;

	if (flags < 0 || (!(flags & O_NONBLOCK) && fcntl(fd, F_SETFL, flags | O_NONBLOCK)))
		return -errno;
	set_alarm(LIMIT_PORTS_WAIT_USEC);
	r = connect(fd, (const struct sockaddr *)sun, len) ? -errno : 0;
	set_alarm(0);
	if (!(flags & O_NONBLOCK))
		(void)fcntl(fd, F_SETFL, flags);
	return r;
}
