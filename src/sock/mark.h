/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The mark of a socket: what we must know of it besides what the kernel knows, kept in the socket itself, where it
 * survives fork, exec, dup and being passed to somebody else, and where nobody has to look after it. Theory: mark.c
 */
#ifndef SOCK_MARK_H
#define SOCK_MARK_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/handle.h"

enum mark_kind {
	MARK_STREAM = 1,
	MARK_SEQPACKET,
	MARK_DGRAM,
	MARK_DEVICE,	/* stands for /dev/vsock */
	MARK_KIND_NUM,
};

#define MARK_WILD 0x1u	/* bound to any context */
#define MARK_DST 0x2u	/* a datagram socket with a default destination */
#define MARK_CONNECTING 0x4u	/* connect() has said EINPROGRESS, and nobody has been told yet what came of it */
#define MARK_FAILED 0x8u	/* it has failed, and somebody has been told */

/**
 * struct mark - see above
 * @cid:  context of who made it
 * @dst:  with MARK_DST
 * @size, @min, @max: buffer options
 * @timeout_us: of connect()
 */
struct mark {
	enum mark_kind kind;
	uint32_t flags;
	uint32_t cid;
	struct vmci_handle dst;
	uint64_t size;
	uint64_t min;
	uint64_t max;
	uint64_t timeout_us;
};

/* mark_init() - a new socket's, options at their defaults */
void mark_init(struct mark *mark, enum mark_kind kind, uint32_t cid);

/* mark_has_defaults() - are the options as mark_init() sets them? */
bool mark_has_defaults(const struct mark *mark);

/* mark_write() - 0 or a negative errno. Of two threads that write at the same time the last one wins. */
int mark_write(int fd, const struct mark *mark);

/* mark_read() - 0; -ENOENT: a socket without a mark; -EBADF, -ENOTSOCK. Errno is left alone. */
int mark_read(int fd, struct mark *ret_mark);

#endif /* SOCK_MARK_H */
