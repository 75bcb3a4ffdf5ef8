/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * libvmci-preload.so: the C library's socket calls, with AF_VSOCK as VMCI Sockets of the fabric (src/sock). LD_PRELOAD puts it
 * before the C library; vmci-run(1) does that.
 *
 * DOC: Theory of operation
 *
 * Each function here has the name of one of the C library's, looks whether AF_VSOCK is meant, and calls the C library's
 * own otherwise (dlsym(3), RTLD_NEXT). What decides is, in this order, what costs nothing (the family, the address, the request),
 * and then the descriptor: sock_look(), a system call or two. Calls that move bytes of streams are not looked at, unless they name an
 * address; they are when the process has a datagram socket of ours, which must be received from in another way.
 *
 * It fails closed: neither socket() nor an address with AF_VSOCK reaches the kernel, and /dev/vsock is not opened, but in a
 * guest, whose driver is what we would want to reach.
 *
 * Whatever happens, errno is as the C library would leave it; nothing is allocated but for messages of many pieces, no
 * signal is raised or handled, there is no thread, and nothing is locked.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "sock/sock.h"

#define EXPORT __attribute__((visibility("default")))

/*
 * REAL() - the C library's function of that name. It is looked up once; two threads that do so at once find the same.
 */
#define REAL(name)                                                                                                     \
	__extension__ ({                                                                                                             \
		static _Atomic(void *) found_;                                                                         \
		void *real_ = atomic_load_explicit(&found_, memory_order_acquire);                                     \
		if (!real_) {                                                                                          \
			real_ = look_up(#name);                                                                        \
			atomic_store_explicit(&found_, real_, memory_order_release);                                   \
		}                                                                                                      \
		(__typeof__(&name))real_;                                                                              \
	})

static void *look_up(const char *name)
{
	int error = errno;
	void *found = dlsym(RTLD_NEXT, name);

	errno = error;
	if (!found)
		abort();
	return found;
}

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
	n = snprintf(line, sizeof(line), "libvmci-preload: %s: %s%s\n", what, strerror(error),
		     error == ENODEV ? " (no vmcid)" : "");
	if (n > 0 && REAL(write)(STDERR_FILENO, line, (size_t)n < sizeof(line) ? (size_t)n : sizeof(line) - 1) < 0) {
		/* Nobody hears it. */
	}
	errno = saved;
}

__attribute__((constructor)) static void start(void)
{
	int error = errno;

	sock_find_datagrams();
	errno = error;
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
 * An address of AF_VSOCK on a descriptor that is not ours: what would the kernel say if it had no AF_VSOCK? In a guest it has,
 * and is asked.
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

/* --- Making ----------------------------------------------------------------------------------------------------------- */

EXPORT int socket(int domain, int type, int protocol)
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

EXPORT int socketpair(int domain, int type, int protocol, int ret_fds[2])
{
	/* Linux has none either. */
	if (domain == SOCK_FAMILY)
		return (int)result(-EOPNOTSUPP);
	return REAL(socketpair)(domain, type, protocol, ret_fds);
}

EXPORT int bind(int fd, const struct sockaddr *address, socklen_t len)
{
	int r;

	if (is_inet(address, len))
		return REAL(bind)(fd, address, len);
	r = sock_bind(fd, address, len);
	if (r == -ENOENT && is_vsock(address, len))
		r = refuse(fd);
	return r == -ENOENT ? REAL(bind)(fd, address, len) : (int)result(r);
}

EXPORT int connect(int fd, const struct sockaddr *address, socklen_t len)
{
	int r;

	if (is_inet(address, len))
		return REAL(connect)(fd, address, len);
	r = sock_connect(fd, address, len);
	if (r == -ENOENT && is_vsock(address, len))
		r = refuse(fd);
	return r == -ENOENT ? REAL(connect)(fd, address, len) : (int)result(r);
}

EXPORT int accept4(int fd, struct sockaddr *ret_address, socklen_t *len, int flags)
{
	int r = sock_accept(fd, ret_address, len, flags, REAL(accept4));

	return r == -ENOENT ? REAL(accept4)(fd, ret_address, len, flags) : (int)result(r);
}

EXPORT int accept(int fd, struct sockaddr *ret_address, socklen_t *len)
{
	int r = sock_accept(fd, ret_address, len, 0, REAL(accept4));

	return r == -ENOENT ? REAL(accept)(fd, ret_address, len) : (int)result(r);
}

EXPORT int shutdown(int fd, int how)
{
	int r = sock_shutdown(fd, how);

	return r == -ENOENT ? REAL(shutdown)(fd, how) : (int)result(r);
}

EXPORT int getsockname(int fd, struct sockaddr *ret_address, socklen_t *len)
{
	int r = sock_getsockname(fd, ret_address, len);

	return r == -ENOENT ? REAL(getsockname)(fd, ret_address, len) : (int)result(r);
}

EXPORT int getpeername(int fd, struct sockaddr *ret_address, socklen_t *len)
{
	int r = sock_getpeername(fd, ret_address, len);

	return r == -ENOENT ? REAL(getpeername)(fd, ret_address, len) : (int)result(r);
}

EXPORT int getsockopt(int fd, int level, int name, void *ret_value, socklen_t *len)
{
	int r = sock_getsockopt(fd, level, name, ret_value, len);

	return r == -ENOENT ? REAL(getsockopt)(fd, level, name, ret_value, len) : (int)result(r);
}

EXPORT int setsockopt(int fd, int level, int name, const void *value, socklen_t len)
{
	int r = sock_setsockopt(fd, level, name, value, len);

	return r == -ENOENT ? REAL(setsockopt)(fd, level, name, value, len) : (int)result(r);
}

/* --- Sending ---------------------------------------------------------------------------------------------------------- */

/* Must we look at it? */
static bool is_of_interest(const void *address, int flags)
{
	return address || flags & MSG_OOB || sock_has_datagrams();
}

static ssize_t send_iov(int fd, const struct iovec *iov, size_t n, int flags, const struct sockaddr *address, socklen_t len)
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

EXPORT ssize_t sendto(int fd, const void *buf, size_t size, int flags, const struct sockaddr *address, socklen_t len)
{
	const struct iovec iov = { .iov_base = (void *)(uintptr_t)buf, .iov_len = size };
	ssize_t r = send_iov(fd, &iov, 1, flags, address, len);

	return r == -ENOENT ? REAL(sendto)(fd, buf, size, flags, address, len) : result(r);
}

EXPORT ssize_t send(int fd, const void *buf, size_t size, int flags)
{
	const struct iovec iov = { .iov_base = (void *)(uintptr_t)buf, .iov_len = size };
	ssize_t r = send_iov(fd, &iov, 1, flags, NULL, 0);

	return r == -ENOENT ? REAL(send)(fd, buf, size, flags) : result(r);
}

EXPORT ssize_t write(int fd, const void *buf, size_t size)
{
	const struct iovec iov = { .iov_base = (void *)(uintptr_t)buf, .iov_len = size };
	ssize_t r = send_iov(fd, &iov, 1, 0, NULL, 0);

	return r == -ENOENT ? REAL(write)(fd, buf, size) : result(r);
}

EXPORT ssize_t writev(int fd, const struct iovec *iov, int n)
{
	ssize_t r = n < 0 ? -ENOENT : send_iov(fd, iov, (size_t)n, 0, NULL, 0);

	return r == -ENOENT ? REAL(writev)(fd, iov, n) : result(r);
}

static ssize_t send_msg(int fd, const struct msghdr *msg, int flags)
{
	if (!msg)
		return -ENOENT;
	return send_iov(fd, msg->msg_iov, msg->msg_iovlen, flags, msg->msg_namelen ? msg->msg_name : NULL, msg->msg_namelen);
}

EXPORT ssize_t sendmsg(int fd, const struct msghdr *msg, int flags)
{
	ssize_t r = send_msg(fd, msg, flags);

	return r == -ENOENT ? REAL(sendmsg)(fd, msg, flags) : result(r);
}

EXPORT int sendmmsg(int fd, struct mmsghdr *msgs, unsigned n, int flags)
{
	bool is_vsock_named = n && msgs && is_vsock(msgs[0].msg_hdr.msg_name, msgs[0].msg_hdr.msg_namelen);
	struct sock sock;
	unsigned done = 0;

	if ((!sock_has_datagrams() && !is_vsock_named) || sock_look(fd, &sock)) {
		int r = is_vsock_named ? refuse(fd) : -ENOENT;

		return r != -ENOENT ? (int)result(r) : REAL(sendmmsg)(fd, msgs, n, flags);
	}
	for (; done < n; done++) {
		ssize_t r = sendmsg(fd, &msgs[done].msg_hdr, flags);

		if (r < 0)
			return done ? (int)done : -1;
		msgs[done].msg_len = (unsigned)r;
	}
	return (int)done;
}

/* --- Receiving -------------------------------------------------------------------------------------------------------- */

/*
 * What is received from a stream is looked at only for its address, which it has not; that of others is not known before.
 * Return: -ENOENT: ask the kernel
 */
static ssize_t recv_iov(int fd, const struct iovec *iov, size_t n, int flags, struct sockaddr *ret_address, socklen_t *len)
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

EXPORT ssize_t recvfrom(int fd, void *buf, size_t size, int flags, struct sockaddr *ret_address, socklen_t *len)
{
	const struct iovec iov = { .iov_base = buf, .iov_len = size };
	ssize_t r = recv_iov(fd, &iov, 1, flags, ret_address, len);

	return r == -ENOENT ? REAL(recvfrom)(fd, buf, size, flags, ret_address, len) : result(r);
}

EXPORT ssize_t recv(int fd, void *buf, size_t size, int flags)
{
	const struct iovec iov = { .iov_base = buf, .iov_len = size };
	ssize_t r = recv_iov(fd, &iov, 1, flags, NULL, NULL);

	return r == -ENOENT ? REAL(recv)(fd, buf, size, flags) : result(r);
}

EXPORT ssize_t read(int fd, void *buf, size_t size)
{
	const struct iovec iov = { .iov_base = buf, .iov_len = size };
	ssize_t r = recv_iov(fd, &iov, 1, 0, NULL, NULL);

	return r == -ENOENT ? REAL(read)(fd, buf, size) : result(r);
}

EXPORT ssize_t readv(int fd, const struct iovec *iov, int n)
{
	ssize_t r = n < 0 ? -ENOENT : recv_iov(fd, iov, (size_t)n, 0, NULL, NULL);

	return r == -ENOENT ? REAL(readv)(fd, iov, n) : result(r);
}

EXPORT ssize_t recvmsg(int fd, struct msghdr *msg, int flags)
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

EXPORT int recvmmsg(int fd, struct mmsghdr *msgs, unsigned n, int flags, struct timespec *timeout)
{
	struct sock sock;
	unsigned done = 0;

	if (!sock_has_datagrams() || sock_look(fd, &sock))
		return REAL(recvmmsg)(fd, msgs, n, flags, timeout);
	/* The kernel looks at the time-out between datagrams only; so do we, for the last one that may wait. */
	for (; done < n; done++) {
		ssize_t r = recvmsg(fd, &msgs[done].msg_hdr, flags & ~MSG_WAITFORONE);

		if (r < 0)
			return done ? (int)done : -1;
		msgs[done].msg_len = (unsigned)r;
		if (flags & MSG_WAITFORONE)
			flags |= MSG_DONTWAIT;
	}
	return (int)done;
}

/* Those that the C library's headers call when they know the size of the buffer (_FORTIFY_SOURCE). */

ssize_t __read_chk(int fd, void *buf, size_t size, size_t room);
ssize_t __recv_chk(int fd, void *buf, size_t size, size_t room, int flags);
ssize_t __recvfrom_chk(int fd, void *buf, size_t size, size_t room, int flags, struct sockaddr *ret_address, socklen_t *len);

EXPORT ssize_t __read_chk(int fd, void *buf, size_t size, size_t room)
{
	return size > room ? REAL(__read_chk)(fd, buf, size, room) : read(fd, buf, size);
}

EXPORT ssize_t __recv_chk(int fd, void *buf, size_t size, size_t room, int flags)
{
	return size > room ? REAL(__recv_chk)(fd, buf, size, room, flags) : recv(fd, buf, size, flags);
}

EXPORT ssize_t __recvfrom_chk(int fd, void *buf, size_t size, size_t room, int flags, struct sockaddr *ret_address,
			      socklen_t *len)
{
	return size > room ? REAL(__recvfrom_chk)(fd, buf, size, room, flags, ret_address, len)
			   : recvfrom(fd, buf, size, flags, ret_address, len);
}

/* --- The device ------------------------------------------------------------------------------------------------------- */

EXPORT int ioctl(int fd, unsigned long request, ...)
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

/* Return: -ENOENT: not the device, or the real one is meant; else a descriptor or a negative errno */
static int open_device(const char *path, int flags)
{
	int error = ENODEV;

	if (!path || strcmp(path, "/dev/vsock"))
		return -ENOENT;
	switch (sock_who(&error)) {
	case SOCK_WHO_FABRIC:
		return sock_open_device((flags & O_CLOEXEC ? SOCK_CLOEXEC : 0) | (flags & O_NONBLOCK ? SOCK_NONBLOCK : 0));
	case SOCK_WHO_KERNEL:
		return -ENOENT;
	case SOCK_WHO_NOBODY:
		break;
	}
	debug("open(/dev/vsock)", -error);
	return -ENODEV;
}

static mode_t mode_of(int flags, va_list ap)
{
	return flags & (O_CREAT | __O_TMPFILE) ? va_arg(ap, mode_t) : 0;
}

#define OPEN(name)                                                                                                     \
	EXPORT int name(const char *path, int flags, ...)                                                              \
	{                                                                                                              \
		va_list ap;                                                                                            \
		mode_t mode;                                                                                           \
		int r;                                                                                                 \
		va_start(ap, flags);                                                                                   \
		mode = mode_of(flags, ap);                                                                             \
		va_end(ap);                                                                                            \
		r = open_device(path, flags);                                                                          \
		return r == -ENOENT ? REAL(name)(path, flags, mode) : (int)result(r);                                  \
	}

#define OPENAT(name)                                                                                                   \
	EXPORT int name(int dir, const char *path, int flags, ...)                                                     \
	{                                                                                                              \
		va_list ap;                                                                                            \
		mode_t mode;                                                                                           \
		int r;                                                                                                 \
		va_start(ap, flags);                                                                                   \
		mode = mode_of(flags, ap);                                                                             \
		va_end(ap);                                                                                            \
		r = open_device(path, flags);                                                                          \
		return r == -ENOENT ? REAL(name)(dir, path, flags, mode) : (int)result(r);                             \
	}

#define OPEN_2(name)                                                                                                   \
	int name(const char *path, int flags);                                                                         \
	EXPORT int name(const char *path, int flags)                                                                   \
	{                                                                                                              \
		int r = open_device(path, flags);                                                                      \
		return r == -ENOENT ? REAL(name)(path, flags) : (int)result(r);                                        \
	}

#define OPENAT_2(name)                                                                                                 \
	int name(int dir, const char *path, int flags);                                                                \
	EXPORT int name(int dir, const char *path, int flags)                                                          \
	{                                                                                                              \
		int r = open_device(path, flags);                                                                      \
		return r == -ENOENT ? REAL(name)(dir, path, flags) : (int)result(r);                                   \
	}

OPEN(open)
OPEN(open64)
OPENAT(openat)
OPENAT(openat64)
OPEN_2(__open_2)
OPEN_2(__open64_2)
OPENAT_2(__openat_2)
OPENAT_2(__openat64_2)
