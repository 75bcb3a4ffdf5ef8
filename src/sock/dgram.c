/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * DOC: Theory of operation
 *
 * A datagram socket is a SOCK_DGRAM UNIX socket that vmcid has bound to "RUNTIME-DIRECTORY/dgram/CONTEXT.PORT.UID",
 * and into which it writes what arrives, each with its VMCI header: DG_BIND (fabric/msg.h). So receiving is
 * receiving, with the header in front, which we take away and read the sender from; waiting, peeking and truncating
 * are the kernel's.
 *
 * Sending is asking vmcid (DG_SEND), which says at once what became of the datagram. Whoever is of the same user may
 * send as the endpoint, so the connection for it is any one, of whichever process has the socket now.
 *
 * The default destination of connect(2) is in the mark.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#include "base/bytes.h"
#include "proto/dg.h"
#include "sock/ask.h"
#include "sock/sock.h"
#include "sock/sys.h"

#define FOLDER "/dgram/"

/* More pieces than most programs have: the header is one more. */
#define FEW 16u

/* Of a message, in the kernel (UIO_MAXIOV). */
#define MANY 1024u

/* --- Names ---------------------------------------------------------------------------------------------------- */

static bool take_number(const char **text, char end, uint32_t *ret)
{
	char *after;
	unsigned long value;

	if (**text < '0' || **text > '9')
		return false;
	errno = 0;
	value = strtoul(*text, &after, 10);
	if (errno || value > UINT32_MAX || *after != end)
		return false;
	*text = after + 1;
	*ret = (uint32_t)value;
	return true;
}

int sock_dgram_self(const struct sock *sock, struct vmci_handle *ret_self)
{
	struct sockaddr_un sun = { 0 };
	socklen_t len = sizeof(sun) - 1;
	uint32_t cid, port;
	const char *name;
	int error;

	*ret_self = handle_make(VMCI_INVALID_ID, VMCI_INVALID_ID);
	if (sys_getsockname(sock->fd, &sun, &len))
		return -errno;
	if (len <= sizeof(sa_family_t))
		return 0;
	name = strrchr(sun.sun_path, '/');
	if (!name || name - sun.sun_path < (long)sizeof(FOLDER) - 2 ||
	    memcmp(name - (sizeof(FOLDER) - 2), FOLDER, sizeof(FOLDER) - 1))
		return -EINVAL;
	name++;
	error = errno;
	if (!take_number(&name, '.', &cid) || !take_number(&name, '.', &port)) {
		errno = error;
		return -EINVAL;
	}
	errno = error;
	*ret_self = handle_make(cid, port);
	return 0;
}

int sock_dgram_bind(const struct sock *sock, struct vmci_handle wish)
{
	struct fab_msg request = {
		.type = FAB_DG_BIND,
		.handle = handle_make(VMCI_INVALID_ID, wish.resource),
		.fd = { sock->fd },
		.n_fds = 1,
	}, reply;
	struct vmci_handle self;
	int r = sock_own(sock);

	if (r)
		return r;
	for (unsigned i = 0; i < 2; i++) {
		r = ask(&request, NULL, 0, false, ASK_REPLY_MS, &reply);
		if (r != -EPIPE)
			break;
		/* The name says whether it was carried out. */
		if (!sock_dgram_self(sock, &self) && self.resource != VMCI_INVALID_ID)
			return 0;
	}
	if (r)
		return r == -EPIPE ? -ENETUNREACH : r;
	return reply.status < 0 ? sock_bind_error(reply.status) : 0;
}

/* Bind it if it is not. Of two threads that do so at once, one finds it bound. */
static int auto_bind(struct sock *sock, struct vmci_handle *ret_self)
{
	int r = sock_dgram_self(sock, ret_self);

	if (r || ret_self->resource != VMCI_INVALID_ID)
		return r;
	r = sock_dgram_bind(sock, handle_make(VMCI_INVALID_ID, VMCI_INVALID_ID));
	if (!r) {
		sock->mark.flags |= MARK_WILD;
		mark_write(sock->fd, &sock->mark);
	}
	if (!r || r == -EINVAL)
		r = sock_dgram_self(sock, ret_self);
	if (!r && ret_self->resource == VMCI_INVALID_ID)
		r = -EINVAL;
	return r;
}

int sock_dgram_connect(const struct sock *sock, const struct sockaddr *address, socklen_t len)
{
	struct sock new = *sock;
	struct vmci_handle dst, self;
	int r;

	if (address && len >= sizeof(address->sa_family) && address->sa_family == AF_UNSPEC) {
		new.mark.flags &= ~MARK_DST;
		return mark_write(sock->fd, &new.mark);
	}
	r = sock_address(address, len, &dst);
	if (!r)
		r = auto_bind(&new, &self);
	if (r)
		return r;
	/* sockets reference, 4.5 */
	if (dst.context == VMCI_CID_HYPERVISOR && dst.resource != 14)
		return -EINVAL;
	new.mark.flags |= MARK_DST;
	new.mark.dst = dst;
	return mark_write(sock->fd, &new.mark);
}

/* --- Sending -------------------------------------------------------------------------------------------------- */

/* transport reference, 15; an unknown context has a word of its own here */
static int errno_of_send(int32_t status)
{
	switch (status) {
	case VMCI_ERROR_NO_MEM:
		return -ENOMEM;
	case VMCI_ERROR_NO_ACCESS:
		return -EPERM;
	case VMCI_ERROR_NO_RESOURCES:
		return -ENOBUFS;
	case VMCI_ERROR_INVALID_RESOURCE:
	case VMCI_ERROR_DST_UNREACHABLE:
	case VMCI_ERROR_NO_HANDLE:
	case VMCI_ERROR_UNAVAILABLE:
		return -EHOSTUNREACH;
	default:
		return -EINVAL;
	}
}

/* Return: bytes of payload; -EMSGSIZE, -EINVAL */
static ssize_t sum(const struct msghdr *msg)
{
	size_t total = 0;

	if (msg->msg_iovlen >= ASK_IOV_MAX)
		return -EMSGSIZE;
	for (size_t i = 0; i < msg->msg_iovlen; i++) {
		if (msg->msg_iov[i].iov_len > VMCI_DG_MAX_PAYLOAD)
			return -EMSGSIZE;
		total += msg->msg_iov[i].iov_len;
	}
	return total > VMCI_DG_MAX_PAYLOAD ? -EMSGSIZE : (ssize_t)total;
}

static ssize_t send_few(const struct iovec *iov, unsigned n, struct vmci_handle src, struct vmci_handle dst,
			size_t size)
{
	struct fab_msg request = { .type = FAB_DG_SEND, .len = VMCI_DG_HEADER_SIZE + size }, reply;
	uint8_t head[VMCI_DG_HEADER_SIZE];
	struct iovec small[FEW + 1], *all = small;
	int r;

	if (n > FEW) {
		all = malloc((n + 1) * sizeof(*all));
		if (!all)
			return -ENOMEM;
	}
	dg_build(head, dst, src, size);
	request.data = head;
	all[0] = (struct iovec){ .iov_base = head, .iov_len = sizeof(head) };
	memcpy(all + 1, iov, n * sizeof(*iov));
	r = ask(&request, all, n + 1, false, ASK_REPLY_MS, &reply);
	if (all != small)
		free(all);
	if (r)
		return r == -EPIPE ? -ENETUNREACH : r;
	return reply.status < 0 ? errno_of_send(reply.status) : (ssize_t)size;
}

static ssize_t send_datagram(struct sock *sock, const struct msghdr *msg, int flags)
{
	struct vmci_handle self, dst;
	ssize_t size;
	int r;

	if (flags & MSG_OOB)
		return -EOPNOTSUPP;
	r = auto_bind(sock, &self);
	if (r)
		return r;
	if (msg->msg_name) {
		r = sock_address(msg->msg_name, msg->msg_namelen, &dst);
		if (r)
			return r;
	} else if (sock->mark.flags & MARK_DST) {
		dst = sock->mark.dst;
	} else {
		return -EINVAL;
	}
	if (dst.context == VMCI_INVALID_ID)
		dst.context = sock->mark.cid;
	if (dst.context == VMCI_CID_HYPERVISOR && dst.resource != 14)
		return -EINVAL;
	size = sum(msg);
	if (size < 0)
		return size;
	return send_few(msg->msg_iov, (unsigned)msg->msg_iovlen, self, dst, (size_t)size);
}

ssize_t sock_sendmsg(int fd, const struct msghdr *msg, int flags)
{
	struct sock sock;
	int r = sock_look(fd, &sock);

	if (r)
		return r;
	if (sock.mark.kind == MARK_DGRAM)
		return send_datagram(&sock, msg, flags);
	if (sock.mark.kind == MARK_DEVICE)
		return -EINVAL;
	/* Streams. */
	if (flags & MSG_OOB)
		return -EOPNOTSUPP;
	if (msg->msg_name && msg->msg_namelen) {
		struct sockaddr_un sun;
		socklen_t len = sizeof(sun);

		return sys_getpeername(fd, &sun, &len) ? -EOPNOTSUPP : -EISCONN;
	}
	return -ENOENT;
}

/* --- Receiving ------------------------------------------------------------------------------------------------ */

typedef ssize_t recv_fn(int fd, struct msghdr *msg, int flags);

/* @iov: room for one more than @msg has */
static ssize_t recv_into(int fd, struct msghdr *msg, int flags, struct iovec *iov, recv_fn *recvmsg)
{
	uint8_t head[VMCI_DG_HEADER_SIZE];
	struct msghdr hdr = { .msg_iov = iov, .msg_iovlen = msg->msg_iovlen + 1 };
	struct dg_header header;
	ssize_t n;
	int r;

	iov[0] = (struct iovec){ .iov_base = head, .iov_len = sizeof(head) };
	memcpy(iov + 1, msg->msg_iov, msg->msg_iovlen * sizeof(*iov));
	for (;;) {
		hdr.msg_flags = 0;
		n = recvmsg(fd, &hdr, flags);
		if (n < 0)
			return -errno;
		/* After shutdown(2). */
		if (!n)
			break;
		if ((size_t)n >= sizeof(head))
			break;
		/* Nobody but vmcid can write here, and it writes whole ones. Peeking would find it again. */
		if (flags & MSG_PEEK)
			return -EPROTO;
	}
	msg->msg_flags = hdr.msg_flags & (MSG_TRUNC | MSG_CMSG_CLOEXEC);
	msg->msg_controllen = 0;
	if (!n) {
		msg->msg_namelen = 0;
		return 0;
	}
	header = dg_parse(head);
	if (msg->msg_name) {
		r = sock_put_address(header.src, msg->msg_name, &msg->msg_namelen);
		if (r)
			return r;
	}
	return n - (ssize_t)sizeof(head);
}

static ssize_t recv_many(int fd, struct msghdr *msg, int flags, recv_fn *recvmsg)
{
	struct iovec *iov = malloc((msg->msg_iovlen + 1) * sizeof(*iov));
	ssize_t n;

	if (!iov)
		return -ENOMEM;
	n = recv_into(fd, msg, flags, iov, recvmsg);
	free(iov);
	return n;
}

ssize_t sock_recvmsg(int fd, struct msghdr *msg, int flags, recv_fn *recvmsg)
{
	struct iovec few[FEW + 1];
	struct sock sock;
	int r = sock_look(fd, &sock);
	ssize_t n;

	if (r)
		return r;
	if (sock.mark.kind == MARK_DEVICE)
		return -EINVAL;
	if (sock.mark.kind == MARK_DGRAM) {
		if (flags & (MSG_OOB | MSG_ERRQUEUE))
			return -EOPNOTSUPP;
		if (msg->msg_iovlen >= MANY)
			return -EMSGSIZE;
		if (msg->msg_iovlen > FEW)
			return recv_many(fd, msg, flags, recvmsg);
		return recv_into(fd, msg, flags, few, recvmsg);
	}
	if (flags & MSG_OOB)
		return -EOPNOTSUPP;
	if (!msg->msg_name)
		return -ENOENT;
	/* A stream has no addresses. The kernel would tell that of a UNIX socket. */
	{
		struct msghdr hdr = *msg;

		hdr.msg_name = NULL;
		hdr.msg_namelen = 0;
		n = recvmsg(fd, &hdr, flags);
		if (n < 0)
			return -errno;
		msg->msg_namelen = 0;
		msg->msg_controllen = hdr.msg_controllen;
		msg->msg_flags = hdr.msg_flags;
		return n;
	}
}
