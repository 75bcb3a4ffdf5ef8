/* SPDX-License-Identifier: BSD-2-Clause */
#include "thing.h"

#include <assert.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/closer.h"
#include "base/fd.h"
#include "proto/limits.h"

unsigned thing_fds(enum thing_kind kind)
{
	return kind == THING_PAIR ? 2 : 1;
}

static int option(int fd, int name)
{
	int value = -1;
	socklen_t len = sizeof(value);

	return getsockopt(fd, SOL_SOCKET, name, &value, &len) ? -1 : value;
}

/*
 * A socket of socketpair(2) has no name, and no more has its peer; one that was connected or accepted knows the
 * listener's.
 */
static bool is_of_pair(int fd)
{
	struct sockaddr_un sun;
	socklen_t len = sizeof(sun);

	if (getsockname(fd, (struct sockaddr *)&sun, &len) || len > sizeof(sa_family_t))
		return false;
	len = sizeof(sun);
	return !getpeername(fd, (struct sockaddr *)&sun, &len) && len <= sizeof(sa_family_t);
}

/*
 * Somebody's socket handed to us must be that one's own: what we write there, we write with our own rights.
 */
static const char *check_socket(int fd, int type, uid_t uid)
{
	struct ucred cred;
	socklen_t len = sizeof(cred);

	if (option(fd, SO_DOMAIN) != AF_UNIX || option(fd, SO_TYPE) != type || option(fd, SO_ACCEPTCONN) != 0)
		return type == SOCK_SEQPACKET ? "not an end of a SOCK_SEQPACKET pair"
					      : "not an end of a SOCK_STREAM pair";
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) || !cred.pid)
		return "a socket that is not connected";
	if (cred.uid != uid)
		return "a socket of another user";
	/* Its own connection to us, say: we would hold both ends, and never hear that it has gone. */
	if (!is_of_pair(fd))
		return "a socket that is no end of a pair";
	return NULL;
}

/* An eventfd, and not something that would block whoever rings it. */
static const char *check_bell(int fd)
{
	static const char expected[] = "anon_inode:[eventfd]";
	char path[64], target[64];
	int flags = fcntl(fd, F_GETFL);
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	n = readlink(path, target, sizeof(target));
	if (n != (ssize_t)sizeof(expected) - 1 || memcmp(target, expected, sizeof(expected) - 1))
		return "not an eventfd";
	if (flags < 0 || (!(flags & O_NONBLOCK) && fcntl(fd, F_SETFL, flags | O_NONBLOCK)))
		return "an eventfd that would block";
	return NULL;
}

/* Memory that cannot vanish under those who map it. */
static const char *check_memory(int fd, uint64_t bytes, bool exact)
{
	int seals = fcntl(fd, F_GET_SEALS);
	struct stat st;

	if (seals < 0)
		return "not a memfd";
	if (!(seals & F_SEAL_SHRINK) || (exact && !(seals & F_SEAL_GROW)))
		return "memory that is not sealed";
	if (seals & F_SEAL_WRITE || (fcntl(fd, F_GETFL) & O_ACCMODE) != O_RDWR)
		return "memory that cannot be written";
	if (fstat(fd, &st) || st.st_size < 0)
		return "memory without a size";
	if (exact ? (uint64_t)st.st_size != bytes : (uint64_t)st.st_size < bytes)
		return "memory of the wrong size";
	return NULL;
}

/* A socket that may be bound to a port, or connected, for a client of this user */
static const char *check_stream(int fd, uid_t uid)
{
	int type = option(fd, SO_TYPE);
	struct sockaddr_un sun;
	socklen_t len = sizeof(sun);
	struct stat st;

	/* First, for nothing is asked of other sockets: they may have locks that somebody holds for long. */
	if (option(fd, SO_DOMAIN) != AF_UNIX)
		return "not a UNIX socket";
	if (type != SOCK_STREAM && type != SOCK_SEQPACKET)
		return "neither a SOCK_STREAM nor a SOCK_SEQPACKET socket";
	if (option(fd, SO_ACCEPTCONN) != 0)
		return "a socket that listens";
	if (!getpeername(fd, (struct sockaddr *)&sun, &len))
		return "a socket that is connected";
	if (fstat(fd, &st) || st.st_uid != uid)
		return "a socket of another user";
	return NULL;
}

static const char *check(enum thing_kind kind, const int *fds, uid_t uid, uint64_t bytes)
{
	const char *odd;

	switch (kind) {
	case THING_SINK:
		return check_socket(fds[0], SOCK_SEQPACKET, uid);
	case THING_BELL:
		return check_bell(fds[0]);
	case THING_PAIR:
		odd = check_memory(fds[0], bytes, true);
		return odd ? odd : check_socket(fds[1], SOCK_STREAM, uid);
	case THING_MEMORY:
		return check_memory(fds[0], bytes, false);
	case THING_STREAM:
		return check_stream(fds[0], uid);
	case THING_KIND_NUM:
		break;
	}
	abort();
}

int32_t thing_new(sd_event *event, enum thing_kind kind, int *fds, uid_t uid, struct user *user, uint64_t bytes,
		  struct thing **ret_thing, const char **ret_reason)
{
	unsigned n = thing_fds(kind);
	const char *odd = check(kind, fds, uid, bytes);
	struct thing *thing;

	if (odd) {
		*ret_reason = odd;
		return VMCI_ERROR_INVALID_ARGS;
	}
	thing = calloc(1, sizeof(*thing));
	if (!thing) {
		*ret_reason = "out of memory";
		return VMCI_ERROR_NO_MEM;
	}
	if (!user_take(user, n)) {
		*ret_reason = "too many descriptors of this user";
		free(thing);
		return VMCI_ERROR_NO_RESOURCES;
	}
	*thing = (struct thing){ .kind = kind, .user = user };
	if (kind == THING_SINK) {
		if (sink_new(event, fds[0], &thing->sink) < 0) {
			*ret_reason = "out of memory";
			user_drop(user, n);
			free(thing);
			return VMCI_ERROR_NO_MEM;
		}
		fds[0] = -1;
	} else {
		for (; thing->n_fds < n; thing->n_fds++)
			thing->fd[thing->n_fds] = fd_take(&fds[thing->n_fds]);
	}
	/* Things may outlive the connection that brought them. */
	thing->user = user_again(user);
	*ret_thing = thing;
	return 0;
}

int32_t thing_new_sink(sd_event *event, int fd, struct user *user, struct thing **ret_thing)
{
	struct thing *thing;

	if (!user_take(user, 1))
		return VMCI_ERROR_NO_RESOURCES;
	thing = calloc(1, sizeof(*thing));
	if (!thing || sink_new(event, fd, &thing->sink) < 0) {
		user_drop(user, 1);
		free(thing);
		return VMCI_ERROR_NO_MEM;
	}
	thing->kind = THING_SINK;
	thing->user = user_again(user);
	*ret_thing = thing;
	return 0;
}

struct thing *thing_free(struct thing *thing)
{
	if (thing) {
		user_drop(thing->user, thing_fds(thing->kind));
		user_unref(thing->user);
		sink_free(thing->sink);
		closer_close_all(thing->fd, thing->n_fds);
		free(thing);
	}
	return NULL;
}

void thing_identify(const struct thing *thing, uint8_t ret_id[static BRK_ID_SIZE])
{
	struct stat st;

	assert(thing->kind == THING_MEMORY);
	memset(ret_id, 0, BRK_ID_SIZE);
	if (fstat(thing->fd[0], &st))
		return;
	put_le64(ret_id, st.st_dev);
	put_le64(ret_id + 8, st.st_ino);
}

bool thing_clear(const struct thing *thing, uint64_t offset, uint64_t bytes)
{
	assert(thing->kind == THING_MEMORY);
	return offset <= INT64_MAX && bytes <= INT64_MAX &&
	       !fallocate(thing->fd[0], FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)bytes);
}

bool thing_is_same(const struct thing *a, const struct thing *b)
{
	struct stat x, y;

	assert(a->kind == THING_MEMORY && b->kind == THING_MEMORY);
	return !fstat(a->fd[0], &x) && !fstat(b->fd[0], &y) && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}
