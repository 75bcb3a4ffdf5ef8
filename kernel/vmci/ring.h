/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * ring.h - the arithmetic of a queue pair's rings (reference, 7.1); pure
 *
 * Positions are in [0, size). One byte stays free, so that a full ring is not an empty one. A ring of size 0 is there
 * only as a pair of positions, which are 0.
 */
#ifndef OVMCI_RING_H
#define OVMCI_RING_H

#include <linux/errno.h>
#include <linux/types.h>

static inline bool ring_is_position(u64 size, u64 pos)
{
	return pos < size || (!size && !pos);
}

/* ring_ready() - bytes from @head to @tail. Return: or -EBADMSG: one of them is no position */
static inline s64 ring_ready(u64 size, u64 tail, u64 head)
{
	if (!ring_is_position(size, tail) || !ring_is_position(size, head))
		return -EBADMSG;
	return (s64)(tail >= head ? tail - head : size - (head - tail));
}

/* ring_free() - bytes that can be written. Return: or -EBADMSG */
static inline s64 ring_free(u64 size, u64 tail, u64 head)
{
	s64 ready = ring_ready(size, tail, head);

	return ready < 0 || !size ? ready : (s64)size - 1 - ready;
}

/* ring_run() - how many of @n bytes at @pos lie in one piece */
static inline u64 ring_run(u64 size, u64 pos, u64 n)
{
	return n < size - pos ? n : size - pos;
}

/* ring_advance() - the position @n bytes behind @pos; @n <= @size */
static inline u64 ring_advance(u64 size, u64 pos, u64 n)
{
	return n < size - pos ? pos + n : n - (size - pos);
}

#endif /* OVMCI_RING_H */
