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

/* How often patient_begin() was called without patient_end(). */
static unsigned depth;

void patient_begin(void)
{
	if (!depth++)
		set_alarm(LIMIT_PORTS_WAIT_USEC);
}

void patient_end(void)
{
	if (!--depth)
		set_alarm(0);
}

int patient_bind(int fd, const struct sockaddr_un *sun, socklen_t len)
{
	int r;

	patient_begin();
	r = bind(fd, (const struct sockaddr *)sun, len) ? -errno : 0;
	patient_end();
	return r;
}

int patient_connect(int fd, const struct sockaddr_un *sun, socklen_t len)
{
	int flags = fcntl(fd, F_GETFL), r;

	if (flags < 0 || (!(flags & O_NONBLOCK) && fcntl(fd, F_SETFL, flags | O_NONBLOCK)))
		return -errno;
	patient_begin();
	r = connect(fd, (const struct sockaddr *)sun, len) ? -errno : 0;
	patient_end();
	if (!(flags & O_NONBLOCK))
		(void)fcntl(fd, F_SETFL, flags);
	return r;
}
