/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * DOC: Theory of operation
 *
 * Nothing about a socket is kept in this process. Each one is an AF_UNIX socket, and the kernel has its state:
 *
 *	what			is known from
 *	that it is ours		its mark (mark.h); a socket that was accepted: its name
 *	unbound			it has no name
 *	its address, its peer's	their names, which vmcid has given (fabric/address.h; of datagrams: dgram.c)
 *	listening		SO_ACCEPTCONN
 *	connected		it has a peer; datagrams: the mark has a destination
 *	being connected		the mark, and that it cannot be written to
 *	options			the mark
 *
 * So everything holds after fork, exec and dup, and for who is passed the descriptor; several processes may use one
 * socket; and vmcid may be killed meanwhile. Bytes of streams are moved by the kernel's own calls, which we have no
 * part in.
 *
 * vmcid is asked when a socket is bound or connected, and for each datagram that is sent. Among programs connect()
 * takes as long as any call of vmcid; a guest has the connect time-out of the socket to answer (fabric protocol, 13):
 *
 *	connect()	vmcid connects the socket to what will be the guest's end, and puts so many bytes before it that
 *			poll(2) and the like say that it cannot be written to: MARK_CONNECTING. A socket that must not
 *			block is left like that (EINPROGRESS), another one waited for here
 *	accepted	the guest's device reads these bytes, and the socket can be written to
 *	not accepted	the device sends an urgent byte, the reason, which no ordinary recv(2) returns, and leaves the bytes
 *			unread: the kernel makes that an error of the socket (POLLERR, POLLHUP)
 *
 * So nobody has to do anything in between, and everybody who has the socket sees the same. Who asks first what came of
 * it (SO_ERROR, connect()) is told, and the mark says so to the others.
 *
 * A socket that was bound, or where a connect to a guest has failed, cannot be connected any more. It is then
 * replaced by a new one under the same number. So is one that another user has made (we, before setuid(2)), before it
 * is bound or connected, because vmcid binds and connects a user's own sockets only. That is the one thing that other
 * copies of the descriptor do not see.
 */
#include "sock/sock.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>

#include "base/fd.h"
#include "fabric/stream.h"
#include "lib/guest.h"
#include "sock/ask.h"
#include "sock/sys.h"

/* A listener whose queue is full is tried again after this, if the caller may wait. */
#define CROWD_MS 5

/* A device whose guest has not answered in time gets this long more to say so. */
#define LATE_MS 2000u

#define ADDRESS_SIZE 16u
#define FLAG_TO_HOST 0x01u

static_assert(SOCK_FAMILY == AF_VSOCK, "Linux's number");

enum sock_who sock_who(int *ret_error)
{
	int r = ask_is_there(NULL);

	if (!r)
		return SOCK_WHO_FABRIC;
	/* A host of ours can be a guest of others. Who knows of a vmcid is not meant to reach them while it is away. */
	if (!secure_getenv("VMCI_RUNTIME_DIR") && !ask_was_there() && guest_is_here(GUEST_PCI_DEVICES))
		return SOCK_WHO_KERNEL;
	*ret_error = r == -EPERM || r == -EACCES || r == -ENOMEM || r == -EMFILE || r == -ENFILE || r == -ENOBUFS
			     ? r
			     : -ENODEV;
	return SOCK_WHO_NOBODY;
}

/* --- Looking -------------------------------------------------------------------------------------------------- */

static int option(int fd, int name)
{
	int value = -1;
	socklen_t len = sizeof(value);

	return sys_getsockopt(fd, SOL_SOCKET, name, &value, &len) ? -1 : value;
}

static int self_of(int fd, struct fab_address *ret_self)
{
	struct sockaddr_un sun = { 0 };
	socklen_t len = sizeof(sun);

	if (sys_getsockname(fd, &sun, &len))
		return -errno;
	return fab_address_parse(&sun, len, ret_self);
}

static int peer_of(int fd, struct fab_address *ret_peer)
{
	struct sockaddr_un sun = { 0 };
	socklen_t len = sizeof(sun);

	if (sys_getpeername(fd, &sun, &len))
		return -errno;
	return fab_address_parse(&sun, len, ret_peer);
}

static bool is_connected(int fd)
{
	struct sockaddr_un sun;
	socklen_t len = sizeof(sun);

	return !sys_getpeername(fd, &sun, &len);
}

int sock_look(int fd, struct sock *ret_sock)
{
	int error = errno, type, r = mark_read(fd, &ret_sock->mark);
	struct fab_address self;

	ret_sock->fd = fd;
	ret_sock->is_marked = !r;
	if (r == -ENOENT) {
		r = self_of(fd, &self);
		type = r ? -1 : option(fd, SO_TYPE);
		if (type == SOCK_STREAM || type == SOCK_SEQPACKET) {
			mark_init(&ret_sock->mark, type == SOCK_STREAM ? MARK_STREAM : MARK_SEQPACKET, self.context);
		} else {
			r = -ENOENT;
		}
	}
	errno = error;
	return r ? -ENOENT : 0;
}

static bool is_stream(const struct sock *sock)
{
	return sock->mark.kind == MARK_STREAM || sock->mark.kind == MARK_SEQPACKET;
}

static atomic_bool has_datagrams;

bool sock_has_datagrams(void)
{
	return atomic_load_explicit(&has_datagrams, memory_order_relaxed);
}

void sock_note_datagrams(void)
{
	atomic_store(&has_datagrams, true);
}

static void note_if_datagrams(int fd)
{
	struct mark mark;

	if (!mark_read(fd, &mark) && mark.kind == MARK_DGRAM)
		sock_note_datagrams();
}

void sock_find_datagrams(void)
{
	DIR *folder = opendir("/proc/self/fd");
	struct dirent *entry;

	if (!folder) {
		/* Who knows? */
		sock_note_datagrams();
		return;
	}
	while (!sock_has_datagrams() && (entry = readdir(folder)))
		if (entry->d_name[0] != '.')
			note_if_datagrams(atoi(entry->d_name));
	closedir(folder);
}

void sock_received(const struct msghdr *msg)
{
	struct msghdr copy = *msg;
	struct cmsghdr *cmsg;

	for (cmsg = CMSG_FIRSTHDR(&copy); cmsg; cmsg = CMSG_NXTHDR(&copy, cmsg)) {
		size_t bytes = cmsg->cmsg_len - CMSG_LEN(0);

		if (cmsg->cmsg_level != SOL_SOCKET || cmsg->cmsg_type != SCM_RIGHTS)
			continue;
		for (size_t at = 0; at + sizeof(int) <= bytes && !sock_has_datagrams(); at += sizeof(int)) {
			int fd;

			memcpy(&fd, CMSG_DATA(cmsg) + at, sizeof(fd));
			note_if_datagrams(fd);
		}
	}
}

/* --- Addresses ------------------------------------------------------------------------------------------------ */

int sock_address(const struct sockaddr *address, socklen_t len, struct vmci_handle *ret_handle)
{
	uint8_t bytes[ADDRESS_SIZE];
	uint16_t family;
	uint32_t port, cid;

	if (!address)
		return -EFAULT;
	if (len < ADDRESS_SIZE)
		return -EINVAL;
	memcpy(bytes, address, sizeof(bytes));
	memcpy(&family, bytes, sizeof(family));
	memcpy(&port, bytes + 4, sizeof(port));
	memcpy(&cid, bytes + 8, sizeof(cid));
	/* sockets reference, 3.3; the reserved field is nowhere looked at */
	if (family != SOCK_FAMILY || bytes[12] & ~FLAG_TO_HOST)
		return -EINVAL;
	*ret_handle = handle_make(cid, port);
	return 0;
}

int sock_put_address(struct vmci_handle handle, struct sockaddr *ret_address, socklen_t *len)
{
	uint8_t bytes[ADDRESS_SIZE] = { 0 };
	const uint16_t family = SOCK_FAMILY;

	if (!ret_address || !len)
		return -EFAULT;
	if ((int)*len < 0)
		return -EINVAL;
	memcpy(bytes, &family, sizeof(family));
	memcpy(bytes + 4, &handle.resource, sizeof(handle.resource));
	memcpy(bytes + 8, &handle.context, sizeof(handle.context));
	memcpy(ret_address, bytes, *len < sizeof(bytes) ? *len : sizeof(bytes));
	*len = sizeof(bytes);
	return 0;
}

/* Which context is meant? VMCI_CID_WELL_KNOWN is Linux's "local". */
static uint32_t own_if_local(const struct sock *sock, uint32_t cid)
{
	return cid == VMCI_CID_WELL_KNOWN ? sock->mark.cid : cid;
}

/* --- Making --------------------------------------------------------------------------------------------------- */

static int make(enum mark_kind kind, int flags, const struct mark *mark)
{
	static const int types[MARK_KIND_NUM] = {
		[MARK_STREAM] = SOCK_STREAM,
		[MARK_SEQPACKET] = SOCK_SEQPACKET,
		[MARK_DGRAM] = SOCK_DGRAM,
		[MARK_DEVICE] = SOCK_DGRAM,
	};
	int fd = sys_socket(AF_UNIX, types[kind] | flags, 0);
	int r;

	if (fd < 0)
		return -errno;
	r = mark_write(fd, mark);
	if (!r)
		return fd;
	close(fd);
	return r;
}

int sock_socket(int type, int protocol)
{
	int flags = type & (SOCK_CLOEXEC | SOCK_NONBLOCK);
	enum mark_kind kind;
	struct mark mark;
	int fd;

	if (protocol && protocol != SOCK_FAMILY)
		return -EPROTONOSUPPORT;
	switch (type & ~flags) {
	case SOCK_STREAM:
		kind = MARK_STREAM;
		break;
	case SOCK_SEQPACKET:
		kind = MARK_SEQPACKET;
		break;
	case SOCK_DGRAM:
		kind = MARK_DGRAM;
		break;
	default:
		return -ESOCKTNOSUPPORT;
	}
	mark_init(&mark, kind, ask_cid());
	fd = make(kind, flags, &mark);
	if (fd >= 0 && kind == MARK_DGRAM)
		sock_note_datagrams();
	return fd;
}

/* What has been set by others than us, and goes with the socket that the program knows. */
static void copy_options(int from, int to)
{
	static const int timeouts[] = { SO_RCVTIMEO, SO_SNDTIMEO };
	static const int numbers[] = { SO_RCVLOWAT, SO_PASSCRED };
	struct timeval time;
	int value;
	socklen_t len;

	for (unsigned i = 0; i < 2; i++) {
		len = sizeof(time);
		if (!sys_getsockopt(from, SOL_SOCKET, timeouts[i], &time, &len))
			sys_setsockopt(to, SOL_SOCKET, timeouts[i], &time, sizeof(time));
		value = option(from, numbers[i]);
		if (value > 0)
			sys_setsockopt(to, SOL_SOCKET, numbers[i], &value, sizeof(value));
	}
}

/* Put a new socket in the place of one that cannot be connected any more. Return: 0 or a negative errno */
static int renew(const struct sock *sock)
{
	int status = fcntl(sock->fd, F_GETFL), flags = fcntl(sock->fd, F_GETFD);
	struct mark mark = sock->mark;
	int fd, r = 0;

	if (status < 0 || flags < 0)
		return -errno;
	mark.flags &= ~(MARK_WILD | MARK_CONNECTING | MARK_FAILED);
	fd = make(mark.kind, SOCK_CLOEXEC | (status & O_NONBLOCK ? SOCK_NONBLOCK : 0), &mark);
	if (fd < 0)
		return fd;
	copy_options(sock->fd, fd);
	if (dup3(fd, sock->fd, flags & FD_CLOEXEC ? O_CLOEXEC : 0) < 0)
		r = -errno;
	close(fd);
	return r;
}

int sock_own(const struct sock *sock)
{
	struct stat st;

	return fstat(sock->fd, &st) || st.st_uid == geteuid() ? 0 : renew(sock);
}

/* --- Binding -------------------------------------------------------------------------------------------------- */

int sock_bind_error(int32_t status)
{
	switch (status) {
	case VMCI_ERROR_NO_ACCESS:
		return -EACCES;
	case VMCI_ERROR_ALREADY_EXISTS:
		return -EADDRINUSE;
	case VMCI_ERROR_NO_RESOURCES:
		return -ENOBUFS;
	case VMCI_ERROR_NO_MEM:
		return -ENOMEM;
	case VMCI_ERROR_UNAVAILABLE:
		return -ENETUNREACH;
	default:
		return -EINVAL;
	}
}

static int bind_stream(const struct sock *sock, struct vmci_handle wish)
{
	struct fab_msg request = {
		.type = FAB_STREAM_BIND,
		.handle = handle_make(VMCI_INVALID_ID, wish.resource),
		.fd = { sock->fd },
		.n_fds = 1,
	}, reply;
	struct fab_address self;
	int r = sock_own(sock);

	if (r)
		return r;
	r = ask(&request, NULL, 0, false, ASK_REPLY_MS, &reply);
	/* The name says whether it was carried out. */
	if (r == -EPIPE && !self_of(sock->fd, &self))
		return 0;
	if (r == -EPIPE)
		r = ask(&request, NULL, 0, false, ASK_REPLY_MS, &reply);
	if (r == -EPIPE)
		return -ENETUNREACH;
	if (r)
		return r;
	return reply.status < 0 ? sock_bind_error(reply.status) : 0;
}

static bool is_bound(const struct sock *sock)
{
	struct sockaddr_un sun;
	socklen_t len = sizeof(sun);

	return !sys_getsockname(sock->fd, &sun, &len) && len > sizeof(sa_family_t);
}

int sock_bind(int fd, const struct sockaddr *address, socklen_t len)
{
	struct vmci_handle wish;
	struct sock sock;
	int r = sock_look(fd, &sock);

	if (r)
		return r;
	if (sock.mark.kind == MARK_DEVICE)
		return -ENOTSOCK;
	r = sock_address(address, len, &wish);
	if (r)
		return r;
	if (is_bound(&sock))
		return -EINVAL;
	if (wish.context != VMCI_INVALID_ID && own_if_local(&sock, wish.context) != sock.mark.cid)
		return -EADDRNOTAVAIL;
	r = is_stream(&sock) ? bind_stream(&sock, wish) : sock_dgram_bind(&sock, wish);
	if (r)
		return r;
	if (wish.context == VMCI_INVALID_ID) {
		sock.mark.flags |= MARK_WILD;
		mark_write(fd, &sock.mark);
	}
	return 0;
}

/* --- Connecting ----------------------------------------------------------------------------------------------- */

static int errno_of_connect(int32_t status)
{
	switch (status) {
	case VMCI_ERROR_NO_ACCESS:
		return -EPERM;
	case VMCI_ERROR_ALREADY_EXISTS:
		return -EADDRINUSE;
	case VMCI_ERROR_NO_RESOURCES:
		return -ENOBUFS;
	case VMCI_ERROR_NO_MEM:
		return -ENOMEM;
	case VMCI_ERROR_DST_UNREACHABLE:
	case VMCI_ERROR_UNAVAILABLE:
		return -EHOSTUNREACH;
	case VMCI_ERROR_NOT_FOUND:
	case VMCI_ERROR_WOULD_BLOCK:
		return -ECONNRESET;
	case VMCI_ERROR_TIMEOUT:
		return -ETIMEDOUT;
	case VMCI_ERROR_GENERIC:
		return -EPROTO;
	default:
		return -EINVAL;
	}
}

/* The urgent byte, why a guest has not accepted. It stays, for whoever else asks at the same time. 0: there is none */
static int read_reason(int fd)
{
	uint8_t code;
	struct iovec iov = { .iov_base = &code, .iov_len = sizeof(code) };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };

	return sys_recvmsg(fd, &msg, MSG_OOB | MSG_DONTWAIT | MSG_PEEK) == 1 ? code : 0;
}

/*
 * What has come of a connect that has said EINPROGRESS? 0; -EINPROGRESS: nothing yet; another negative errno
 * @tell: it is said which one, and that only once
 */
static int outcome(int fd, bool tell)
{
	struct pollfd pollfd = { .fd = fd, .events = POLLOUT };
	int code, error = 0;

	if (sys_poll(&pollfd, 1, 0) > 0 && !(pollfd.revents & (POLLERR | POLLHUP)))
		return 0;
	/* It comes before the end, and wakes those who wait for something to read, too. */
	code = read_reason(fd);
	if (!code && !pollfd.revents)
		return -EINPROGRESS;
	if (tell)
		error = option(fd, SO_ERROR);
	if (code)
		return errno_of_connect(-code);
	if (error > 0)
		return -error;
	/* Either the guest has accepted, and then closed, or somebody has shut it down before. */
	return pollfd.revents & POLLOUT && !(pollfd.revents & POLLERR) ? 0 : -ECONNRESET;
}

static int connecting(struct sock *sock, bool tell)
{
	int error = errno, r = 0;

	if (sock->mark.flags & MARK_FAILED)
		return -ENOTCONN;
	if (!(sock->mark.flags & MARK_CONNECTING))
		return 0;
	r = outcome(sock->fd, tell);
	if (!r || (tell && r != -EINPROGRESS)) {
		sock->mark.flags &= ~MARK_CONNECTING;
		if (r)
			sock->mark.flags |= MARK_FAILED;
		mark_write(sock->fd, &sock->mark);
	}
	errno = error;
	return r;
}

int sock_connecting(struct sock *sock)
{
	return connecting(sock, true);
}

/* Like sock_connecting(), but tells nobody, so that SO_ERROR and connect() can */
static bool is_not_connected(struct sock *sock)
{
	return connecting(sock, false) != 0;
}

/* Return: what vmcid says, also that it has succeeded; a negative errno goes to @ret_error: -EINPROGRESS, too */
static int32_t ask_to_connect(const struct sock *sock, uint32_t source, struct vmci_handle to, unsigned timeout_ms,
			      int *ret_error)
{
	struct fab_msg request = fab_stream_request(sock->fd, source, to, timeout_ms), reply;
	int r;

	request.flags = FAB_F_PENDING;
	r = ask(&request, NULL, 0, false, (int)timeout_ms + 2000, &reply);
	/* To a program, or to a guest whose device goes on without vmcid: the socket says which. */
	if (r == -EPIPE && is_connected(sock->fd)) {
		*ret_error = outcome(sock->fd, true);
		return 0;
	}
	if (r == -EPIPE)
		r = ask(&request, NULL, 0, false, (int)timeout_ms + 2000, &reply);
	if (r) {
		*ret_error = r == -EPIPE ? -ENETUNREACH : r;
		return VMCI_ERROR_UNAVAILABLE;
	}
	if (reply.flags & FAB_F_PENDING)
		*ret_error = -EINPROGRESS;
	return reply.status;
}

static uint64_t now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

/* The guest has been asked. Return: 0; a negative errno, which ends it */
static int mark_connecting(struct sock *sock)
{
	/* Another thread may have closed it. */
	if (mark_read(sock->fd, &sock->mark))
		return -ECONNRESET;
	sock->mark.flags |= MARK_CONNECTING;
	return mark_write(sock->fd, &sock->mark);
}

/*
 * Wait for what comes of it. The guest's device ends it in time; if it does not, it hangs.
 *
 * Return: 0; -EINTR: a signal, and it goes on; another negative errno
 */
static int wait_for_guest(struct sock *sock)
{
	uint64_t until = now_us() + sock->mark.timeout_us + LATE_MS * 1000, now;
	struct pollfd pollfd = { .fd = sock->fd, .events = POLLOUT };
	int r;

	while ((r = sock_connecting(sock)) == -EINPROGRESS) {
		now = now_us();
		if (now >= until)
			return -ETIMEDOUT;
		if (sys_poll(&pollfd, 1, until - now > INT_MAX ? INT_MAX / 1000 : (int)((until - now) / 1000 + 1)) < 0)
			return -errno;
		/* Another thread may have been told, or have closed it. */
		if (mark_read(sock->fd, &sock->mark) || sock->mark.flags & MARK_FAILED)
			return -ECONNRESET;
	}
	return r;
}

static bool may_wait(const struct sock *sock)
{
	return !(fcntl(sock->fd, F_GETFL) & O_NONBLOCK);
}

/* @self: its own address, or NULL: it has none */
static int connect_stream(struct sock *sock, const struct fab_address *self, struct vmci_handle to)
{
	uint64_t timeout_us = sock->mark.timeout_us, until = now_us() + timeout_us;
	unsigned timeout_ms =
		timeout_us / 1000 >= FAB_CONNECT_MAX_MS ? FAB_CONNECT_MAX_MS : (unsigned)((timeout_us + 999) / 1000);
	uint32_t source = VMCI_INVALID_ID;
	int32_t status;
	int error = 0, r;

	if (self && self->kind == FAB_ADDRESS_PORT) {
		r = renew(sock);
		source = self->port;
	} else if (sock->mark.flags & MARK_FAILED) {
		r = renew(sock);
	} else {
		r = sock_own(sock);
	}
	if (r)
		return r;
	for (;;) {
		status = ask_to_connect(sock, source, to, timeout_ms, &error);
		if (status != VMCI_ERROR_WOULD_BLOCK || !may_wait(sock) || now_us() >= until)
			break;
		sys_poll(NULL, 0, CROWD_MS);
	}
	if (status >= 0 && error == -EINPROGRESS) {
		error = mark_connecting(sock);
		if (!error && !may_wait(sock))
			return -EINPROGRESS;
		if (!error)
			error = wait_for_guest(sock);
		if (error == -EINTR)
			return error;
	}
	if (status >= 0 && !error)
		return 0;
	/* For a second try; see fab_stream_connect(). */
	if ((status != VMCI_ERROR_NOT_FOUND && status != VMCI_ERROR_WOULD_BLOCK) || is_connected(sock->fd))
		renew(sock);
	return error ? error : errno_of_connect(status);
}

/* connect() of a socket that is being connected. Return: -EALREADY; -EISCONN; why it has failed */
static int connect_again(struct sock *sock)
{
	int r = sock_connecting(sock);

	if (r != -EINPROGRESS)
		return r ? r : -EISCONN;
	return may_wait(sock) ? wait_for_guest(sock) : -EALREADY;
}

int sock_connect(int fd, const struct sockaddr *address, socklen_t len)
{
	struct fab_address self;
	struct vmci_handle to;
	struct sock sock;
	int r = sock_look(fd, &sock);
	bool has_name;

	if (r)
		return r;
	if (sock.mark.kind == MARK_DEVICE)
		return -ENOTSOCK;
	if (sock.mark.kind == MARK_DGRAM)
		return sock_dgram_connect(&sock, address, len);
	if (sock.mark.flags & MARK_CONNECTING)
		return connect_again(&sock);
	/* What is connected, or listens, was given a name before. */
	has_name = !self_of(fd, &self);
	if (has_name && !(sock.mark.flags & MARK_FAILED) && is_connected(fd))
		return -EISCONN;
	if (has_name && option(fd, SO_ACCEPTCONN) > 0)
		return -EINVAL;
	r = sock_address(address, len, &to);
	if (r)
		return r;
	to.context = own_if_local(&sock, to.context);
	if (to.context == VMCI_INVALID_ID || to.resource == VMCI_INVALID_ID)
		return -EINVAL;
	return connect_stream(&sock, has_name ? &self : NULL, to);
}

int sock_accept(int fd, struct sockaddr *ret_address, socklen_t *len, int flags,
		int (*accept4)(int, struct sockaddr *, socklen_t *, int))
{
	struct fab_address peer;
	struct sock sock;
	int r = sock_look(fd, &sock);

	if (r)
		return r;
	if (!is_stream(&sock))
		return -EOPNOTSUPP;
	for (;;) {
		struct sockaddr_un sun = { 0 };
		socklen_t sun_len = sizeof(sun);
		int new = accept4(fd, (struct sockaddr *)&sun, &sun_len, flags);

		if (new < 0)
			return -errno;
		if (fab_address_parse(&sun, sun_len, &peer)) {
			/* Nobody that vmcid has introduced. */
			close(new);
			continue;
		}
		if (ret_address) {
			r = sock_put_address(handle_make(peer.context, peer.port), ret_address, len);
			if (r) {
				close(new);
				return r;
			}
		}
		if (!mark_has_defaults(&sock.mark)) {
			sock.mark.flags = 0;
			mark_write(new, &sock.mark);
		}
		return new;
	}
}

/* --- Names ---------------------------------------------------------------------------------------------------- */

int sock_getsockname(int fd, struct sockaddr *ret_address, socklen_t *len)
{
	struct vmci_handle self = handle_make(VMCI_INVALID_ID, VMCI_INVALID_ID);
	struct fab_address address;
	struct sock sock;
	int r = sock_look(fd, &sock);

	if (r)
		return r;
	if (is_stream(&sock)) {
		if (!self_of(fd, &address))
			self = handle_make(address.context, address.port);
	} else {
		r = sock_dgram_self(&sock, &self);
		if (r)
			return r;
	}
	if (sock.mark.flags & MARK_WILD)
		self.context = VMCI_INVALID_ID;
	return sock_put_address(self, ret_address, len);
}

int sock_getpeername(int fd, struct sockaddr *ret_address, socklen_t *len)
{
	struct fab_address peer;
	struct sock sock;
	int r = sock_look(fd, &sock);

	if (r)
		return r;
	if (sock.mark.kind == MARK_DGRAM) {
		if (!(sock.mark.flags & MARK_DST))
			return -ENOTCONN;
		return sock_put_address(sock.mark.dst, ret_address, len);
	}
	if (!is_stream(&sock) || is_not_connected(&sock))
		return -ENOTCONN;
	r = peer_of(fd, &peer);
	if (r)
		return -ENOTCONN;
	return sock_put_address(handle_make(peer.context, peer.port), ret_address, len);
}

/*
 * Who owns the runtime directory is vmcid's user. One of the two names is a path in it: folder, "port", context,
 * port.
 */
static int broker_of(int fd, uid_t *ret_uid)
{
	struct sockaddr_un sun = { 0 };
	socklen_t len = sizeof(sun) - 1;
	struct stat st;

	if (sys_getsockname(fd, &sun, &len) || sun.sun_path[0] != '/') {
		memset(&sun, 0, sizeof(sun));
		len = sizeof(sun) - 1;
		if (sys_getpeername(fd, &sun, &len) || sun.sun_path[0] != '/')
			return -EPERM;
	}
	for (unsigned i = 0; i < 2; i++) {
		char *slash = strrchr(sun.sun_path, '/');

		if (!slash)
			return -EPERM;
		*slash = '\0';
	}
	if (stat(sun.sun_path, &st))
		return -errno;
	*ret_uid = st.st_uid;
	return 0;
}

/* As fab_stream_peer(), which would call the C library. */
int sock_peer(int fd, struct sock_peer *ret_peer)
{
	struct fab_address peer, self;
	struct ucred cred = { 0 };
	socklen_t len = sizeof(cred);
	struct sock sock;
	uid_t broker = 0;
	int r = sock_look(fd, &sock);

	if (r)
		return r;
	if (!is_stream(&sock))
		return -EOPNOTSUPP;
	r = is_not_connected(&sock) ? -ENOTCONN : peer_of(fd, &peer);
	if (!r)
		r = self_of(fd, &self);
	/* One end has the name of a port, the other one that of who connects. */
	if (!r && (self.kind == FAB_ADDRESS_PORT) == (peer.kind == FAB_ADDRESS_PORT))
		r = -EPERM;
	if (!r && sys_getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len))
		r = -errno;
	if (!r)
		r = broker_of(fd, &broker);
	if (r)
		return r;
	if (peer.kind == FAB_ADDRESS_PORT) {
		peer.uid = cred.uid;
		peer.gid = cred.gid;
		peer.pid = cred.pid;
	} else if (cred.uid != broker) {
		return -EPERM;
	}
	*ret_peer = (struct sock_peer){
		.cid = peer.context,
		.port = peer.port,
		.uid = peer.uid,
		.gid = peer.gid,
		.pid = peer.pid,
	};
	/* Both have room for the longest name. */
	static_assert(sizeof(ret_peer->vm) == sizeof(peer.vm), "names of VMs");
	memcpy(ret_peer->vm, peer.vm, sizeof(ret_peer->vm));
	return 0;
}

int sock_shutdown(int fd, int how)
{
	struct sock sock;
	int r = sock_look(fd, &sock);

	if (r)
		return r;
	if (how != SHUT_RD && how != SHUT_WR && how != SHUT_RDWR)
		return -EINVAL;
	if (is_stream(&sock) && (sock.mark.flags & MARK_FAILED || !is_connected(fd)))
		return -ENOTCONN;
	if (sys_shutdown(fd, how))
		return -errno;
	return is_stream(&sock) || sock.mark.flags & MARK_DST ? 0 : -ENOTCONN;
}
