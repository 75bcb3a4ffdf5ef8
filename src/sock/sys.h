/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * System calls, past the C library: where this code is part of libvmci-preload, the functions of the same names are
 * that library's own, and would ask us back. close(2) is not among them. None of them is a point where a thread can
 * be cancelled. -1 and errno, as ever.
 */
#ifndef SOCK_SYS_H
#define SOCK_SYS_H

#include <poll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

static inline int sys_socket(int domain, int type, int protocol)
{
	return (int)syscall(SYS_socket, domain, type, protocol);
}

static inline int sys_getsockopt(int fd, int level, int name, void *value, socklen_t *len)
{
	return (int)syscall(SYS_getsockopt, fd, level, name, value, len);
}

static inline int sys_setsockopt(int fd, int level, int name, const void *value, socklen_t len)
{
	return (int)syscall(SYS_setsockopt, fd, level, name, value, len);
}

static inline int sys_getsockname(int fd, void *address, socklen_t *len)
{
	return (int)syscall(SYS_getsockname, fd, address, len);
}

static inline int sys_getpeername(int fd, void *address, socklen_t *len)
{
	return (int)syscall(SYS_getpeername, fd, address, len);
}

static inline int sys_shutdown(int fd, int how)
{
	return (int)syscall(SYS_shutdown, fd, how);
}

static inline ssize_t sys_sendmsg(int fd, const struct msghdr *msg, int flags)
{
	return (ssize_t)syscall(SYS_sendmsg, fd, msg, flags);
}

static inline ssize_t sys_recvmsg(int fd, struct msghdr *msg, int flags)
{
	return (ssize_t)syscall(SYS_recvmsg, fd, msg, flags);
}

static inline int sys_poll(struct pollfd *fds, nfds_t n, int timeout_ms)
{
	struct timespec time = { .tv_sec = timeout_ms / 1000, .tv_nsec = timeout_ms % 1000 * 1000000l };

	return (int)syscall(SYS_ppoll, fds, n, timeout_ms < 0 ? NULL : &time, NULL, 0);
}

#endif /* SOCK_SYS_H */
