/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * DOC: Theory of operation
 *
 * A socket of ours is an AF_UNIX socket, and has to be told from those that are really the program's, by a process
 * that may have inherited it over fork and exec, or received it. So what we know must be in the socket.
 *
 * What any socket is given and gives back unchanged, and what costs next to nothing, is a rate at which the kernel may
 * send (SO_MAX_PACING_RATE): 64 bits, which mean something to TCP and to some queues of network cards, and nothing to
 * UNIX sockets. That is the *word*, and all that nearly every socket has:
 *
 *	bits	40..63	a magic number, with a version
 *		39	MORE: there is a filter with the rest
 *		35..38	flags
 *		32..34	kind
 *		0..31	cid
 *
 * A socket with a destination, or with options that somebody has set, has the rest in its filter, a program of the
 * classic BPF (SO_ATTACH_FILTER, SO_GET_FILTER): one that loads a few numbers and lets everything pass. The numbers
 * are ours. Attaching one takes twice as long as making the socket. The kernel runs filters of SOCK_DGRAM only, some
 * nanoseconds for each datagram; it holds one, some kilobytes, with each socket. It is attached before the word says
 * so, and has everything: so whoever reads gets what one writer has written.
 *
 *	number	0, 1	magic numbers; the second has the version
 *		2	kind | flags << 8
 *		3	cid
 *		4, 5	dst
 *		6..13	size, min, max, timeout_us, low half first
 *
 * Sockets that accept(2) makes have no mark. They are known by their name (fabric/address.h), and get one only when
 * there is something to be remembered.
 */
#include "sock/mark.h"

#include <assert.h>
#include <errno.h>
#include <linux/filter.h>
#include <string.h>

#include "proto/limits.h"
#include "sock/sys.h"

#define MAGIC0 0x564d4349u
#define MAGIC1 0x534b0001u
#define WORDS 14u

/* Of the word. */
#define MAGIC (UINT64_C(0x564d01) << 40)
#define MAGIC_MASK (UINT64_C(0xffffff) << 40)
#define MORE (UINT64_C(1) << 39)
#define FLAGS_SHIFT 35
#define KIND_SHIFT 32

/* The kernel keeps it in a long. Where that is too short, every mark is a filter. */
#define HAS_WORD (sizeof(long) == sizeof(uint64_t))

static_assert(MARK_KIND_NUM <= 8, "kinds have three bits");
static_assert((MARK_WILD | MARK_DST | MARK_CONNECTING | MARK_FAILED) <= 15, "flags have four bits");

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

static int write_filter(int fd, const struct mark *mark)
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

	for (unsigned i = 0; i < WORDS; i++)
		code[i] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_IMM, words[i]);
	code[WORDS] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, UINT32_MAX);
	return sys_setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program)) ? -errno : 0;
}

int mark_write(int fd, const struct mark *mark)
{
	uint64_t word = MAGIC | (uint64_t)mark->flags << FLAGS_SHIFT | (uint64_t)mark->kind << KIND_SHIFT | mark->cid;
	int error = errno, r = 0;

	if (!HAS_WORD || mark->flags & MARK_DST || !mark_has_defaults(mark)) {
		word |= MORE;
		r = write_filter(fd, mark);
	}
	if (!r && HAS_WORD && sys_setsockopt(fd, SOL_SOCKET, SO_MAX_PACING_RATE, &word, sizeof(word)))
		r = -errno;
	errno = error;
	return r;
}

static uint64_t join(const struct sock_filter *code)
{
	return code[0].k | (uint64_t)code[1].k << 32;
}

/* Return: 0; -EBADF, -ENOTSOCK; -ENOENT */
static int read_option(int fd, int name, void *value, socklen_t *len)
{
	if (!sys_getsockopt(fd, SOL_SOCKET, name, value, len))
		return 0;
	return errno == EBADF || errno == ENOTSOCK ? -errno : -ENOENT;
}

static bool is_kind(uint32_t kind)
{
	return kind >= MARK_STREAM && kind < MARK_KIND_NUM;
}

static int read_filter(int fd, struct mark *ret_mark)
{
	struct sock_filter code[WORDS + 1];
	socklen_t len = WORDS + 1; /* in instructions */
	int r;

	memset(code, 0, sizeof(code));
	r = read_option(fd, SO_GET_FILTER, code, &len);
	if (r)
		return r;
	if (len != WORDS + 1 || code[0].k != MAGIC0 || code[1].k != MAGIC1 || !is_kind(code[2].k & 0xffu))
		return -ENOENT;
	*ret_mark = (struct mark){
		.kind = (enum mark_kind)(code[2].k & 0xffu),
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

static int read_mark(int fd, struct mark *ret_mark)
{
	uint64_t word = 0;
	socklen_t len = sizeof(word);
	uint32_t kind;
	int r;

	if (!HAS_WORD)
		return read_filter(fd, ret_mark);
	r = read_option(fd, SO_MAX_PACING_RATE, &word, &len);
	if (r)
		return r;
	if (len != sizeof(word) || (word & MAGIC_MASK) != MAGIC)
		return -ENOENT;
	if (word & MORE)
		return read_filter(fd, ret_mark);
	kind = word >> KIND_SHIFT & 7u;
	if (!is_kind(kind))
		return -ENOENT;
	mark_init(ret_mark, (enum mark_kind)kind, (uint32_t)word);
	ret_mark->flags = word >> FLAGS_SHIFT & 15u;
	return 0;
}

int mark_read(int fd, struct mark *ret_mark)
{
	int error = errno, r = read_mark(fd, ret_mark);

	errno = error;
	return r;
}
