/* SPDX-License-Identifier: BSD-2-Clause */
/* Descriptors have one owner: an int that is -1 when it owns nothing. */
#ifndef BASE_FD_H
#define BASE_FD_H

#include <errno.h>
#include <unistd.h>

/* fd_close() - close what *@fd owns, if anything, and set it to -1. Keeps errno. */
static inline void fd_close(int *fd)
{
	int saved = errno;

	if (*fd >= 0)
		close(*fd);
	*fd = -1;
	errno = saved;
}

/* fd_take() - hand the descriptor over to the caller; *@fd owns nothing afterwards. */
static inline int fd_take(int *fd)
{
	int taken = *fd;

	*fd = -1;
	return taken;
}

#endif /* BASE_FD_H */
