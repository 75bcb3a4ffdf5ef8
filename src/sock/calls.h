/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The calls, each as the C library has it, for AF_VSOCK and everything else. Who includes this says under what names
 * they are to be found, CALL(name), and how the C library's own are called, REAL(name): src/preload has them under
 * the C library's names, calls.c under ours.
 *
 * What decides is, in this order, what costs nothing (the family, the address, the request), and then the descriptor:
 * sock_look(), a system call or two. Calls that move bytes of streams are not looked at, unless they name an address;
 * they are when the process has a datagram socket of ours, which must be received from in another way.
 *
 * It fails closed: neither socket() nor an address with AF_VSOCK reaches the kernel, but in a guest, whose driver is
 * what we would want to reach.
 */
#ifndef SOCK_CALLS_H
#define SOCK_CALLS_H

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "sock/sock.h"

/* As system calls do it in C. */
static ssize_t result(ssize_t r)
{
	if (r >= 0)
		return r;
	errno = (int)-r;
	return -1;
}

static bool is_debugging(void)
{
	return secure_getenv("VMCI_DEBUG") != NULL;
}

static void debug(const char *what, int error)
{
	char line[160];
	int n, saved = errno;

	if (!is_debugging())
		return;
	n = snprintf(line, sizeof(line), "vmci: %s: %s%s\n", what, strerror(error),
		     error == ENODEV ? " (no vmcid)" : "");
	if (n > 0 && REAL(write)(STDERR_FILENO, line, (size_t)n < sizeof(line) ? (size_t)n : sizeof(line) - 1) < 0) {
		/* Nobody hears it. */
	}
	errno = saved;
}

/* Is this an address that the kernel's AF_VSOCK must not see? */
static bool is_vsock(const struct sockaddr *address, socklen_t len)
{
	return address && len >= sizeof(address->sa_family) && address->sa_family == SOCK_FAMILY;
}

/* And one that says that it cannot be meant for us? */
static bool is_inet(const struct sockaddr *address, socklen_t len)
{
	return address && len >= sizeof(address->sa_family) &&
	       (address->sa_family == AF_INET || address->sa_family == AF_INET6);
}

/*
 * An address of AF_VSOCK on a descriptor that is not ours: what would the kernel say if it had no AF_VSOCK? In a
 * guest it has, and is asked.
 * Return: -ENOENT: ask it; another negative errno
 */
static int refuse(int fd)
{
	int domain = -1, error;
	socklen_t len = sizeof(domain);

	if (REAL(getsockopt)(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len))
		return -errno;
	if (domain != SOCK_FAMILY)
		return -EINVAL;
	return sock_who(&error) == SOCK_WHO_KERNEL ? -ENOENT : -EAFNOSUPPORT;
}

/* --- Making --------------------------------------------------------------------------------------------------- */

EXPORT int CALL(socket)(int domain, int type, int protocol)
{
	int error = ENODEV;

	if (domain != SOCK_FAMILY)
		return REAL(socket)(domain, type, protocol);
	switch (sock_who(&error)) {
	case SOCK_WHO_FABRIC:
		return (int)result(sock_socket(type, protocol));
	case SOCK_WHO_KERNEL:
		return REAL(socket)(domain, type, protocol);
	case SOCK_WHO_NOBODY:
		break;
	}
	debug("socket(AF_VSOCK)", -error);
	return (int)result(error);
}

EXPORT int CALL(socketpair)(int domain, int type, int protocol, int ret_fds[2])
{
	/* Linux has none either. */
	if (domain == SOCK_FAMILY)
		return (int)result(-EOPNOTSUPP);
	return REAL(socketpair)(domain, type, protocol, ret_fds);
}

EXPORT int CALL(bind)(int fd, const struct sockaddr *address, socklen_t len)
{
	int r;

	if (is_inet(address, len))
		return REAL(bind)(fd, address, len);
	r = sock_bind(fd, address, len);
	if (r == -ENOENT && is_vsock(address, len))
		r = refuse(fd);
	return r == -ENOENT ? REAL(bind)(fd, address, len) : (int)result(r);
}

EXPORT int CALL(connect)(int fd, const struct sockaddr *address, socklen_t len)
{
	int r;

	if (is_inet(address, len))
		return REAL(connect)(fd, address, len);
	r = sock_connect(fd, address, len);
	if (r == -ENOENT && is_vsock(address, len))
		r = refuse(fd);
	return r == -ENOENT ? REAL(connect)(fd, address, len) : (int)result(r);
}

EXPORT int CALL(accept4)(int fd, struct sockaddr *ret_address, socklen_t *len, int flags)
{
	int r = sock_accept(fd, ret_address, len, flags, REAL(accept4));

	return r == -ENOENT ? REAL(accept4)(fd, ret_address, len, flags) : (int)result(r);
}

EXPORT int CALL(accept)(int fd, struct sockaddr *ret_address, socklen_t *len)
{
	int r = sock_accept(fd, ret_address, len, 0, REAL(accept4));

	return r == -ENOENT ? REAL(accept)(fd, ret_address, len) : (int)result(r);
}

EXPORT int CALL(shutdown)(int fd, int how)
{
	int r = sock_shutdown(fd, how);

	return r == -ENOENT ? REAL(shutdown)(fd, how) : (int)result(r);
}

EXPORT int CALL(getsockname)(int fd, struct sockaddr *ret_address, socklen_t *len)
{
	int r = sock_getsockname(fd, ret_address, len);

	return r == -ENOENT ? REAL(getsockname)(fd, ret_address, len) : (int)result(r);
}

EXPORT int CALL(getpeername)(int fd, struct sockaddr *ret_address, socklen_t *len)
{
	int r = sock_getpeername(fd, ret_address, len);

	return r == -ENOENT ? REAL(getpeername)(fd, ret_address, len) : (int)result(r);
}

EXPORT int CALL(getsockopt)(int fd, int level, int name, void *ret_value, socklen_t *len)
{
	int r = sock_getsockopt(fd, level, name, ret_value, len);

	return r == -ENOENT ? REAL(getsockopt)(fd, level, name, ret_value, len) : (int)result(r);
}

EXPORT int CALL(setsockopt)(int fd, int level, int name, const void *value, socklen_t len)
{
	int r = sock_setsockopt(fd, level, name, value, len);

	return r == -ENOENT ? REAL(setsockopt)(fd, level, name, value, len) : (int)result(r);
}

/* --- Sending -------------------------------------------------------------------------------------------------- */

/* Must we look at it? */
static bool is_of_interest(const void *address, int flags)
{
	return address || flags & MSG_OOB || sock_has_datagrams();
}

static ssize_t send_iov(int fd, const struct iovec *iov, size_t n, int flags, const struct sockaddr *address,
			socklen_t len)
{
	/* Nothing here changes what they point to. */
	const struct msghdr msg = {
		.msg_name = (void *)(uintptr_t)address,
		.msg_namelen = len,
		.msg_iov = (struct iovec *)(uintptr_t)iov,
		.msg_iovlen = n,
	};
	ssize_t r;

	if (is_inet(address, len) || !is_of_interest(address, flags))
		return -ENOENT;
	r = sock_sendmsg(fd, &msg, flags);
	if (r == -ENOENT && is_vsock(address, len))
		r = refuse(fd);
	return r;
}

EXPORT ssize_t CALL(sendto)(int fd, const void *buf, size_t size, int flags, const struct sockaddr *address,
			    socklen_t len)
{
	const struct iovec iov = { .iov_base = (void *)(uintptr_t)buf, .iov_len = size };
	ssize_t r = send_iov(fd, &iov, 1, flags, address, len);

	return r == -ENOENT ? REAL(sendto)(fd, buf, size, flags, address, len) : result(r);
}

EXPORT ssize_t CALL(send)(int fd, const void *buf, size_t size, int flags)
{
	const struct iovec iov = { .iov_base = (void *)(uintptr_t)buf, .iov_len = size };
	ssize_t r = send_iov(fd, &iov, 1, flags, NULL, 0);

	return r == -ENOENT ? REAL(send)(fd, buf, size, flags) : result(r);
}

EXPORT ssize_t CALL(write)(int fd, const void *buf, size_t size)
{
	const struct iovec iov = { .iov_base = (void *)(uintptr_t)buf, .iov_len = size };
	ssize_t r = send_iov(fd, &iov, 1, 0, NULL, 0);

	return r == -ENOENT ? REAL(write)(fd, buf, size) : result(r);
}

EXPORT ssize_t CALL(writev)(int fd, const struct iovec *iov, int n)
{
	ssize_t r = n < 0 ? -ENOENT : send_iov(fd, iov, (size_t)n, 0, NULL, 0);

	return r == -ENOENT ? REAL(writev)(fd, iov, n) : result(r);
}

static ssize_t send_msg(int fd, const struct msghdr *msg, int flags)
{
	if (!msg)
		return -ENOENT;
	return send_iov(fd, msg->msg_iov, msg->msg_iovlen, flags, msg->msg_namelen ? msg->msg_name : NULL,
			msg->msg_namelen);
}

EXPORT ssize_t CALL(sendmsg)(int fd, const struct msghdr *msg, int flags)
{
	ssize_t r = send_msg(fd, msg, flags);

	return r == -ENOENT ? REAL(sendmsg)(fd, msg, flags) : result(r);
}

/* --- Receiving ------------------------------------------------------------------------------------------------ */

/*
 * What is received from a stream is looked at only for its address, which it has not; that of others is not known
 * before.
 * Return: -ENOENT: ask the kernel
 */
static ssize_t recv_iov(int fd, const struct iovec *iov, size_t n, int flags, struct sockaddr *ret_address,
			socklen_t *len)
{
	struct msghdr msg = {
		.msg_name = ret_address,
		.msg_namelen = ret_address && len ? *len : 0,
		.msg_iov = (struct iovec *)(uintptr_t)iov,
		.msg_iovlen = n,
	};
	ssize_t r;

	if (!is_of_interest(ret_address, flags))
		return -ENOENT;
	r = sock_recvmsg(fd, &msg, flags, REAL(recvmsg));
	if (r >= 0 && ret_address && len)
		*len = msg.msg_namelen;
	return r;
}

EXPORT ssize_t CALL(recvfrom)(int fd, void *buf, size_t size, int flags, struct sockaddr *ret_address, socklen_t *len)
{
	const struct iovec iov = { .iov_base = buf, .iov_len = size };
	ssize_t r = recv_iov(fd, &iov, 1, flags, ret_address, len);

	return r == -ENOENT ? REAL(recvfrom)(fd, buf, size, flags, ret_address, len) : result(r);
}

EXPORT ssize_t CALL(recv)(int fd, void *buf, size_t size, int flags)
{
	const struct iovec iov = { .iov_base = buf, .iov_len = size };
	ssize_t r = recv_iov(fd, &iov, 1, flags, NULL, NULL);

	return r == -ENOENT ? REAL(recv)(fd, buf, size, flags) : result(r);
}

EXPORT ssize_t CALL(read)(int fd, void *buf, size_t size)
{
	const struct iovec iov = { .iov_base = buf, .iov_len = size };
	ssize_t r = recv_iov(fd, &iov, 1, 0, NULL, NULL);

	return r == -ENOENT ? REAL(read)(fd, buf, size) : result(r);
}

EXPORT ssize_t CALL(readv)(int fd, const struct iovec *iov, int n)
{
	ssize_t r = n < 0 ? -ENOENT : recv_iov(fd, iov, (size_t)n, 0, NULL, NULL);

	return r == -ENOENT ? REAL(readv)(fd, iov, n) : result(r);
}

EXPORT ssize_t CALL(recvmsg)(int fd, struct msghdr *msg, int flags)
{
	ssize_t r = -ENOENT;

	if (msg && is_of_interest(msg->msg_name, flags))
		r = sock_recvmsg(fd, msg, flags, REAL(recvmsg));
	if (r != -ENOENT)
		return result(r);
	r = REAL(recvmsg)(fd, msg, flags);
	if (r >= 0 && msg->msg_controllen)
		sock_received(msg);
	return r;
}

/* --- The device ----------------------------------------------------------------------------------------------- */

EXPORT int CALL(ioctl)(int fd, unsigned long request, ...)
{
	va_list ap;
	void *arg;
	int r;

	va_start(ap, request);
	arg = va_arg(ap, void *);
	va_end(ap);
	r = sock_ioctl(fd, request, arg);
	return r == -ENOENT ? REAL(ioctl)(fd, request, arg) : (int)result(r);
}

#endif /* SOCK_CALLS_H */
