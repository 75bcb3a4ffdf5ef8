/* SPDX-License-Identifier: BSD-2-Clause */
/* Options, and what /dev/vsock knows. Sockets reference, 2.2, 3.2 and 4.12. */
#include <assert.h>
#include <errno.h>
#include <linux/filter.h>
#include <string.h>
#include <sys/time.h>

#include "base/uuid.h"
#include "proto/limits.h"
#include "sock/ask.h"
#include "sock/sock.h"
#include "sock/sys.h"

/* Numbers of options at the level of the family. */
#define BUFFER_SIZE 0
#define BUFFER_MIN_SIZE 1
#define BUFFER_MAX_SIZE 2
#define PEER_HOST_VM_ID 3
#define TRUSTED 5
#define CONNECT_TIMEOUT 6
#define CONNECT_TIMEOUT_NEW 8

#define IOCTL_VERSION 1972
#define IOCTL_GET_AF_VALUE 1976
#define IOCTL_GET_LOCAL_CID 1977
#define IOCTL_UUID_TO_CID 1991

/* Both the same on 64-bit machines; the second one everywhere. */
struct timeval64 {
	int64_t tv_sec;
	int64_t tv_usec;
};

static int put(const void *from, size_t size, void *ret_value, socklen_t *len)
{
	if (*len < size)
		return -EINVAL;
	memcpy(ret_value, from, size);
	*len = (socklen_t)size;
	return 0;
}

static int put_int(int value, void *ret_value, socklen_t *len)
{
	socklen_t size = *len < sizeof(value) ? *len : sizeof(value);

	memcpy(ret_value, &value, size);
	*len = size;
	return 0;
}

static int get_error(struct sock *sock, void *ret_value, socklen_t *len)
{
	bool is_told = sock->mark.flags & MARK_FAILED;
	socklen_t own_len = sizeof(int);
	int r, own;

	if (!(sock->mark.flags & (MARK_CONNECTING | MARK_FAILED)))
		return -ENOENT;
	r = sock_connecting(sock);
	if (!r)
		return -ENOENT;
	if (is_told)
		(void)sys_getsockopt(sock->fd, SOL_SOCKET, SO_ERROR, &own, &own_len);
	return put_int(is_told || r == -EINPROGRESS ? 0 : -r, ret_value, len);
}

static int get_socket_level(struct sock *sock, int name, void *ret_value, socklen_t *len)
{
	const uint64_t no_rate = UINT64_MAX;

	switch (name) {
	case SO_DOMAIN:
		return put_int(SOCK_FAMILY, ret_value, len);
	case SO_GET_FILTER:
		/* Ours is none of the program's. */
		*len = 0;
		return 0;
	case SO_ERROR:
		return get_error(sock, ret_value, len);
	case SO_MAX_PACING_RATE:
		/* Nor is this. */
		return *len < sizeof(no_rate) ? put_int(-1, ret_value, len) :
						put(&no_rate, sizeof(no_rate), ret_value, len);
	default:
		return -ENOENT;
	}
}

static int get_peer_vm(const struct sock *sock, void *ret_value, socklen_t *len)
{
	struct sock_peer peer;
	int r = sock_peer(sock->fd, &peer);

	if (r)
		return r == -ENOENT ? -ENOTCONN : r;
	return put_int(peer.vm[0] ? (int)peer.cid : -1, ret_value, len);
}

static int get_trusted(void *ret_value, socklen_t *len)
{
	uint32_t flags;
	int r = ask_is_there(&flags);

	return r ? r : put_int(!!(flags & FAB_F_TRUSTED), ret_value, len);
}

static int get_family_level(const struct sock *sock, int name, void *ret_value, socklen_t *len)
{
	struct timeval64 time = {
		.tv_sec = (int64_t)(sock->mark.timeout_us / 1000000),
		.tv_usec = (int64_t)(sock->mark.timeout_us % 1000000),
	};
	struct timeval native = { .tv_sec = (time_t)time.tv_sec, .tv_usec = (suseconds_t)time.tv_usec };

	switch (name) {
	case BUFFER_SIZE:
		return put(&sock->mark.size, sizeof(sock->mark.size), ret_value, len);
	case BUFFER_MIN_SIZE:
		return put(&sock->mark.min, sizeof(sock->mark.min), ret_value, len);
	case BUFFER_MAX_SIZE:
		return put(&sock->mark.max, sizeof(sock->mark.max), ret_value, len);
	case CONNECT_TIMEOUT:
		return put(&native, sizeof(native), ret_value, len);
	case CONNECT_TIMEOUT_NEW:
		return put(&time, sizeof(time), ret_value, len);
	case PEER_HOST_VM_ID:
		return get_peer_vm(sock, ret_value, len);
	case TRUSTED:
		return get_trusted(ret_value, len);
	default:
		return -ENOPROTOOPT;
	}
}

int sock_getsockopt(int fd, int level, int name, void *ret_value, socklen_t *len)
{
	struct sock sock;
	int r;

	if (level == SOL_SOCKET && name != SO_DOMAIN && name != SO_GET_FILTER && name != SO_ERROR &&
	    name != SO_MAX_PACING_RATE)
		return -ENOENT;
	r = sock_look(fd, &sock);
	if (r)
		return r;
	if (sock.mark.kind == MARK_DEVICE)
		return -ENOTSOCK;
	if (level != SOL_SOCKET && level != SOCK_FAMILY && sock.mark.kind != MARK_DGRAM)
		return -ENOPROTOOPT;
	if (!ret_value || !len)
		return -EFAULT;
	if (level == SOL_SOCKET)
		return get_socket_level(&sock, name, ret_value, len);
	if (sock.mark.kind == MARK_DGRAM)
		return -EOPNOTSUPP;
	return get_family_level(&sock, name, ret_value, len);
}

/* Linux since 5.5: bounds are stored, and the size is put between them. */
static void clamp(struct mark *mark)
{
	if (mark->size < mark->min)
		mark->size = mark->min;
	if (mark->size > mark->max)
		mark->size = mark->max;
}

static int set_size(struct mark *mark, int name, const void *value, socklen_t len)
{
	uint64_t size;

	if (len < sizeof(size))
		return -EINVAL;
	memcpy(&size, value, sizeof(size));
	if (name == BUFFER_SIZE)
		mark->size = size;
	else if (name == BUFFER_MIN_SIZE)
		mark->min = size;
	else
		mark->max = size;
	clamp(mark);
	return 0;
}

static int set_timeout(struct mark *mark, int name, const void *value, socklen_t len)
{
	struct timeval64 time;
	struct timeval native;

	if (len < (name == CONNECT_TIMEOUT ? sizeof(native) : sizeof(time)))
		return -EINVAL;
	if (name == CONNECT_TIMEOUT) {
		memcpy(&native, value, sizeof(native));
		time = (struct timeval64){ .tv_sec = native.tv_sec, .tv_usec = native.tv_usec };
	} else {
		memcpy(&time, value, sizeof(time));
	}
	/* Beyond that even microseconds do not fit. */
	if (time.tv_sec < 0 || time.tv_usec < 0 || time.tv_usec >= 1000000 || time.tv_sec > INT32_MAX)
		return -ERANGE;
	mark->timeout_us = (uint64_t)time.tv_sec * 1000000 + (uint64_t)time.tv_usec;
	if (!mark->timeout_us)
		mark->timeout_us = LIMIT_CONNECT_NS / 1000;
	return 0;
}

int sock_setsockopt(int fd, int level, int name, const void *value, socklen_t len)
{
	struct sock sock;
	int r;

	if (level == SOL_SOCKET && name != SO_ATTACH_FILTER && name != SO_DETACH_FILTER && name != SO_ATTACH_BPF &&
	    name != SO_LOCK_FILTER && name != SO_MAX_PACING_RATE)
		return -ENOENT;
	r = sock_look(fd, &sock);
	if (r)
		return r;
	if (sock.mark.kind == MARK_DEVICE)
		return -ENOTSOCK;
	/* The place is taken. */
	if (level == SOL_SOCKET)
		return -ENOPROTOOPT;
	if (sock.mark.kind == MARK_DGRAM)
		return -EOPNOTSUPP;
	if (level != SOCK_FAMILY)
		return -ENOPROTOOPT;
	if (!value)
		return -EFAULT;
	switch (name) {
	case BUFFER_SIZE:
	case BUFFER_MIN_SIZE:
	case BUFFER_MAX_SIZE:
		r = set_size(&sock.mark, name, value, len);
		break;
	case CONNECT_TIMEOUT:
	case CONNECT_TIMEOUT_NEW:
		r = set_timeout(&sock.mark, name, value, len);
		break;
	default:
		return -ENOPROTOOPT;
	}
	return r ? r : mark_write(fd, &sock.mark);
}

int sock_open_device(int flags)
{
	struct mark mark;
	int fd, r;

	mark_init(&mark, MARK_DEVICE, ask_cid());
	fd = sys_socket(AF_UNIX, SOCK_DGRAM | flags, 0);
	if (fd < 0)
		return -errno;
	r = mark_write(fd, &mark);
	if (!r)
		return fd;
	close(fd);
	return r;
}

/* What VMCISock_Uuid2ContextId() asks */
struct uuid_question {
	uint32_t cid;
	uint32_t pad;
	char text[128];
};

static int find_vm(struct uuid_question *question)
{
	struct fab_msg request = { .type = FAB_VM_FIND, .len = FAB_UUID_SIZE }, reply;
	uint8_t uuid[FAB_UUID_SIZE];
	struct iovec data = { .iov_base = uuid, .iov_len = sizeof(uuid) };
	int r;

	static_assert(FAB_UUID_SIZE == UUID_SIZE, "the same on the wire");
	if (!memchr(question->text, '\0', sizeof(question->text)) || !uuid_parse(question->text, uuid))
		return -EINVAL;
	request.data = uuid;
	r = ask(&request, &data, 1, true, ASK_REPLY_MS, &reply);
	if (r)
		return r;
	if (reply.status < 0)
		return reply.status == VMCI_ERROR_NOT_FOUND ? -ENODEV : -ENETUNREACH;
	question->cid = reply.handle.context;
	return 0;
}

/* epoch, major, minor: sockets reference, 2.3 */
static unsigned version(void)
{
	return 1u << 24 | 0u << 16 | 1u;
}

int sock_ioctl(int fd, unsigned long request, void *arg)
{
	struct sock sock;
	unsigned value;
	int r;

	if (request != IOCTL_VERSION && request != IOCTL_GET_AF_VALUE && request != IOCTL_GET_LOCAL_CID &&
	    request != IOCTL_UUID_TO_CID)
		return -ENOENT;
	r = sock_look(fd, &sock);
	if (r)
		return r;
	if (!arg)
		return -EFAULT;
	if (request == IOCTL_UUID_TO_CID)
		return find_vm(arg);
	value = request == IOCTL_VERSION ? version() : request == IOCTL_GET_AF_VALUE ? SOCK_FAMILY : sock.mark.cid;
	memcpy(arg, &value, sizeof(value));
	return 0;
}
