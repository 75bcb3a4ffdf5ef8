/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * DOC: Theory of operation
 *
 * write(2) to an eventfd waits while its counter is full, unless O_NONBLOCK is set; both can be changed by whoever else
 * has it, at any moment. There is no write that takes its own flag along: pwritev2(2) with RWF_NOWAIT is EOPNOTSUPP (Linux 6.18
 * and all before). But the kernel itself never waits when it signals an eventfd: a full counter stays full. And it does
 * that for everybody whose request of Linux's asynchronous I/O names an eventfd to be signalled at its end (IOCB_FLAG_RESFD).
 *
 * So the request is the cheapest that ends at once: to be told when the eventfd is readable or writable, and one of both it always
 * is. What the kernel then has to tell us about the request is not looked at, but has to be taken from it when it has no room
 * for more.
 *
 * One context for the process, made at the first ring: some systems allow few (fs.aio-max-nr), and filters may forbid it. A child
 * has none, and finds that out by EINVAL, which it then gets for everything.
 */
#include "lib/nudge.h"

#include <errno.h>
#include <linux/aio_abi.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define REQUESTS 64	/* whose ends the kernel keeps until they are taken; no limit of anything */
#define TRIES 1000	/* so often other threads of this process take the room away from us: never seen */

static _Atomic aio_context_t context;

/* set_up() - in place of @old, unless somebody else is faster. Return: 0 or a negative errno */
static int set_up(aio_context_t old)
{
	aio_context_t new = 0;

	if (syscall(SYS_io_setup, REQUESTS, &new))
		return -errno;
	if (!atomic_compare_exchange_strong(&context, &old, new))
		syscall(SYS_io_destroy, new);
	return 0;
}

/* make_room() - take what is there about requests. Return: is it this process's context? */
static bool make_room(aio_context_t in)
{
	struct timespec none = { 0 };
	struct io_event events[REQUESTS];

	return in && syscall(SYS_io_getevents, in, 0, REQUESTS, events, &none) >= 0;
}

int nudge(int fd)
{
	struct iocb request = {
		.aio_lio_opcode = IOCB_CMD_POLL,
		.aio_fildes = (uint32_t)fd,
		.aio_buf = POLLIN | POLLOUT,
		.aio_flags = IOCB_FLAG_RESFD,
		.aio_resfd = (uint32_t)fd,
	}, *requests[] = { &request };
	int r = -EAGAIN;

	for (unsigned i = 0; i < TRIES; i++) {
		aio_context_t now = atomic_load_explicit(&context, memory_order_acquire);

		r = now && syscall(SYS_io_submit, now, 1, requests) == 1 ? 0 : now ? -errno : -EINVAL;
		if (!r)
			return 0;
		if (r != -EAGAIN && r != -EINVAL)
			return r;
		if (make_room(now)) {
			if (r == -EINVAL)
				return r;
			continue;
		}
		r = set_up(now);
		if (r)
			return r;
	}
	return r;
}
