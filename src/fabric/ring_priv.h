/* SPDX-License-Identifier: BSD-2-Clause */
/* What ring.c and ring_direct.c share. */
#ifndef FABRIC_RING_PRIV_H
#define FABRIC_RING_PRIV_H

#include <sys/socket.h>

#include "base/closer.h"
#include "fabric/ring.h"

/* Bytes that are written at once: some microseconds, in which the guest may leave. */
#define RING_DIRECT_PIECE 65536u

/* What lies at ring->map; theory: ring_direct.c */
enum ring_phase {
	RING_PAGES_NONE,	/* no direct pair */
	RING_PAGES_AWAITED,	/* the memory of any other pair, formatted so that nothing goes */
	RING_PAGES_MAPPED,	/* the guest's pages */
	RING_PAGES_ENDED,	/* a snapshot of what was unread, and anonymous memory: nobody else's */
	RING_PAGES_LOST,	/* anonymous memory; or it could not be mapped, and is not to be touched */
};

/**
 * struct ring_direct - what a direct pair has besides
 * @phase:    enum ring_phase
 * @gone:     in the sheet, from MAPPED on
 * @code:     why there are no pages
 * @acquired: phase when ring_acquire() was called last
 * @nobody:   stands for the peer's want words: a guest sleeps elsewhere
 * @sheet:    its first page, read-only, or NULL
 * @mappings: that this pair is charged with
 */
struct ring_direct {
	_Atomic int phase;
	const _Atomic uint32_t *gone;
	int32_t code;
	enum ring_phase acquired;
	_Atomic uint32_t nobody;
	uint8_t *sheet;
	unsigned mappings;
};

static inline enum ring_phase ring_phase(const struct ring *ring)
{
	return (enum ring_phase)atomic_load_explicit(&ring->direct->phase, memory_order_acquire);
}

/* ring_is_gone() - have the pages become somebody else's? Phase MAPPED only */
static inline bool ring_is_gone(const struct ring *ring)
{
	return atomic_load_explicit(ring->direct->gone, memory_order_acquire) != 0;
}

/* ring_is_ours() - direct: may the memory be written to now? */
static inline bool ring_is_ours(const struct ring *ring)
{
	enum ring_phase phase = ring_phase(ring);

	return phase == RING_PAGES_MAPPED ? !ring_is_gone(ring) : phase != RING_PAGES_LOST;
}

/* ring_is_good() - direct: is what was read from the memory, since the phase was @before, what the peer wrote? */
static inline bool ring_is_good(const struct ring *ring, enum ring_phase before)
{
	enum ring_phase phase = ring_phase(ring);

	if (phase == RING_PAGES_MAPPED)
		return !ring_is_gone(ring);
	return phase == RING_PAGES_AWAITED || (phase == RING_PAGES_ENDED && before == phase);
}

/* ring_read_barrier() - all reads before it are done before those after it; no fence of C, which thread sanitizers do not know */
static inline void ring_read_barrier(void)
{
#if defined(__x86_64__) || defined(__i386__)
	__asm__ volatile("" ::: "memory");
#elif defined(__aarch64__)
	__asm__ volatile("dmb ishld" ::: "memory");
#else
	__sync_synchronize();
#endif
}

/* ring_pages_of() - @bytes rounded up to whole pages; bounded by the caller */
static inline uint64_t ring_pages_of(uint64_t bytes)
{
	return (bytes + RING_PAGE - 1) / RING_PAGE * RING_PAGE;
}

/* ring_is_whole() - can the ring be mapped twice in a row? */
static inline bool ring_is_whole(uint64_t size)
{
	return size && size % RING_PAGE == 0;
}

/* ring_room_of() - address space of a header page and its ring */
static inline uint64_t ring_room_of(uint64_t size)
{
	return RING_PAGE + ring_pages_of(size) + (ring_is_whole(size) ? size : 0);
}

/*
 * ring_check_memory() - may @memory be mapped without fear? Its size is right and for ever, and it is ordinary memory:
 * huge pages can be lacking when they are touched, which is SIGBUS, too. Return: 0; -EBADMSG; another negative errno
 */
int ring_check_memory(int memory, uint64_t size);

/**
 * ring_direct_recv() - like recvmsg(2), with the descriptors that come
 * @fds: room for CLOSER_FDS_MAX
 */
ssize_t ring_direct_recv(struct ring *ring, struct msghdr *msg, int flags, int *fds, unsigned *ret_n);

/* ring_direct_take() - descriptors have come: do what they are for, close them. Return: has the peer kept to the rules? */
bool ring_direct_take(struct ring *ring, int *fds, unsigned n);

/* ring_direct_lost() - nothing more comes from the peer: let go of its pages, if that has not been done */
void ring_direct_lost(struct ring *ring, int32_t code);

void ring_direct_free(struct ring *ring);

#endif /* FABRIC_RING_PRIV_H */
