/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * DOC: Theory of operation
 *
 * A socket of ours is an AF_UNIX socket, and has to be told from those that are really the program's, by a process
 * that may have inherited it over fork and exec, or received it. So what we know must be in the socket. What a socket
 * is given and gives back unchanged is its filter, a program of the classic BPF (SO_ATTACH_FILTER, SO_GET_FILTER):
 * one that loads a few numbers and lets everything pass. The numbers are ours. The kernel runs filters of SOCK_DGRAM
 * only, some nanoseconds for each datagram; it holds one, some kilobytes, with each socket.
 *
 *	word	0, 1	magic numbers; the second has the version
 *		2	kind | flags << 8
 *		3	cid
 *		4, 5	dst
 *		6..13	size, min, max, timeout_us, low half first
 *
 * Sockets that accept(2) makes have no mark. They are known by their name (fabric/address.h), and get one only when
 * there is something to be remembered.
 */
#include "sock/mark.h"

#include <errno.h>
#include <linux/filter.h>
#include <string.h>

#include "proto/limits.h"
#include "sock/sys.h"

#define MAGIC0 0x564d4349u
#define MAGIC1 0x534b0001u
#define WORDS 14u

void mark_init(struct mark *mark, enum mark_kind kind, uint32_t cid)
{
	*mark = (struct mark){
		.kind = kind,
		.cid = cid,
		.size = LIMIT_RING_DEFAULT,
		.min = LIMIT_RING_MIN,
		.max = LIMIT_RING_MAX,
		.timeout_us = LIMIT_CONNECT_NS / 1000,
	};
}

bool mark_has_defaults(const struct mark *mark)
{
	struct mark defaults;

	mark_init(&defaults, mark->kind, mark->cid);
	return mark->size == defaults.size && mark->min == defaults.min && mark->max == defaults.max &&
	       mark->timeout_us == defaults.timeout_us;
}

int mark_write(int fd, const struct mark *mark)
{
	const uint32_t words[WORDS] = {
		MAGIC0,
		MAGIC1,
		(uint32_t)mark->kind | mark->flags << 8,
		mark->cid,
		mark->dst.context,
		mark->dst.resource,
		(uint32_t)mark->size,
		(uint32_t)(mark->size >> 32),
		(uint32_t)mark->min,
		(uint32_t)(mark->min >> 32),
		(uint32_t)mark->max,
		(uint32_t)(mark->max >> 32),
		(uint32_t)mark->timeout_us,
		(uint32_t)(mark->timeout_us >> 32),
	};
	struct sock_filter code[WORDS + 1];
	struct sock_fprog program = { .len = WORDS + 1, .filter = code };
	int error = errno, r = 0;

	for (unsigned i = 0; i < WORDS; i++)
		code[i] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_IMM, words[i]);
	code[WORDS] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, UINT32_MAX);
	if (sys_setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program)))
		r = -errno;
	errno = error;
	return r;
}

static uint64_t join(const struct sock_filter *code)
{
	return code[0].k | (uint64_t)code[1].k << 32;
}

int mark_read(int fd, struct mark *ret_mark)
{
	struct sock_filter code[WORDS + 1];
	socklen_t len = WORDS + 1; /* in instructions */
	uint32_t kind;
	int error = errno, r = 0;

	memset(code, 0, sizeof(code));
	if (sys_getsockopt(fd, SOL_SOCKET, SO_GET_FILTER, code, &len))
		r = errno == EBADF || errno == ENOTSOCK ? -errno : -ENOENT;
	errno = error;
	if (r)
		return r;
	if (len != WORDS + 1 || code[0].k != MAGIC0 || code[1].k != MAGIC1)
		return -ENOENT;
	kind = code[2].k & 0xffu;
	if (kind < MARK_STREAM || kind >= MARK_KIND_NUM)
		return -ENOENT;
	*ret_mark = (struct mark){
		.kind = (enum mark_kind)kind,
		.flags = code[2].k >> 8,
		.cid = code[3].k,
		.dst = handle_make(code[4].k, code[5].k),
		.size = join(code + 6),
		.min = join(code + 8),
		.max = join(code + 10),
		.timeout_us = join(code + 12),
	};
	return 0;
}
