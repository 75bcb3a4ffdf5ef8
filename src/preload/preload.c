/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * libvmci-preload.so: the C library's socket calls, with AF_VSOCK as VMCI Sockets of the fabric (src/sock).
 * LD_PRELOAD puts it before the C library; vmci-run(1) does that.
 *
 * DOC: Theory of operation
 *
 * Each function here has the name of one of the C library's, looks whether AF_VSOCK is meant, and calls the C library's
 * own otherwise (dlsym(3), RTLD_NEXT): sock/calls.h. /dev/vsock is not opened either, but in a guest.
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

#define EXPORT __attribute__((visibility("default")))

/* Those that the C library's headers call when they know the size of the buffer (_FORTIFY_SOURCE), and that they hide. */
ssize_t __read_chk(int fd, void *buf, size_t size, size_t room);
ssize_t __recv_chk(int fd, void *buf, size_t size, size_t room, int flags);
ssize_t __recvfrom_chk(int fd, void *buf, size_t size, size_t room, int flags, struct sockaddr *ret_address,
		       socklen_t *len);
int __open_2(const char *path, int flags);
int __open64_2(const char *path, int flags);
int __openat_2(int dir, const char *path, int flags);
int __openat64_2(int dir, const char *path, int flags);

static void *look_up(const char *name)
{
	int error = errno;
	void *found = dlsym(RTLD_NEXT, name);

	errno = error;
	if (!found)
		abort();
	return found;
}

/*
 * REAL(name) - the C library's function of that name, looked up once: when the library is loaded, or before, if somebody
 * who is loaded earlier calls it. Two threads that do so at once find the same.
 */
#define DEFINE_REAL(name)                                                                                              \
	static _Atomic(void *) found_##name;                                                                           \
	static __typeof__(&name) real_##name(void)                                                                     \
	{                                                                                                              \
		void *real = atomic_load_explicit(&found_##name, memory_order_acquire);                                \
		if (!real) {                                                                                           \
			real = look_up(#name);                                                                         \
			atomic_store_explicit(&found_##name, real, memory_order_release);                              \
		}                                                                                                      \
		return (__typeof__(&name))real;                                                                        \
	}
#define LOOK_UP(name) (void)real_##name();
#define ALL(do_it)                                                                                                     \
	do_it(socket) do_it(socketpair) do_it(bind) do_it(connect) do_it(accept) do_it(accept4) do_it(shutdown)        \
	do_it(getsockname) do_it(getpeername) do_it(getsockopt) do_it(setsockopt) do_it(send) do_it(sendto)            \
	do_it(sendmsg) do_it(sendmmsg) do_it(write) do_it(writev) do_it(recv) do_it(recvfrom) do_it(recvmsg)           \
	do_it(recvmmsg) do_it(read) do_it(readv) do_it(__read_chk) do_it(__recv_chk) do_it(__recvfrom_chk)             \
	do_it(ioctl) do_it(open) do_it(open64) do_it(openat) do_it(openat64) do_it(__open_2) do_it(__open64_2)         \
	do_it(__openat_2) do_it(__openat64_2)

ALL(DEFINE_REAL)

/* sock/calls.h is in terms of these two. */
#define REAL(name) real_##name()
#define CALL(name) name

#include "sock/calls.h"

__attribute__((constructor)) static void start(void)
{
	int error = errno;

	ALL(LOOK_UP)
	sock_find_datagrams();
	errno = error;
}

/* --- Several at once ------------------------------------------------------------------------------------------ */

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

/* --- The device ----------------------------------------------------------------------------------------------- */

/* Return: -ENOENT: not the device, or the real one is meant; else a descriptor or a negative errno */
static int open_device(const char *path, int flags)
{
	int error = ENODEV;

	if (!path || strcmp(path, "/dev/vsock"))
		return -ENOENT;
	switch (sock_who(&error)) {
	case SOCK_WHO_FABRIC:
		return sock_open_device((flags & O_CLOEXEC ? SOCK_CLOEXEC : 0) |
					(flags & O_NONBLOCK ? SOCK_NONBLOCK : 0));
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
	EXPORT int name(const char *path, int flags)                                                                   \
	{                                                                                                              \
		int r = open_device(path, flags);                                                                      \
		return r == -ENOENT ? REAL(name)(path, flags) : (int)result(r);                                        \
	}

#define OPENAT_2(name)                                                                                                 \
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
