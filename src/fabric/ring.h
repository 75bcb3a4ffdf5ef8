/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * One end's view of a queue pair between two processes: two byte rings in a memfd that both map, in VMCI's layout (VMCI
 * reference, 7.1), and how the ends wake each other.
 *
 * The memory belongs to the peer as much as to us: it can hold anything, at any time. All that decides is private:
 * sizes, our own positions, and the peer's as last read, checked once. A peer that breaks its rules gets -EBADMSG
 * out of our functions, and can make us neither leave our own memory nor wait.
 *
 * Two threads may use a view at once: one the functions of the produce direction (RING_OUT), one those of the consume
 * direction (RING_IN). ring_hear() is for one thread at a time; the rest of the life socket's functions, for any.
 */
#ifndef FABRIC_RING_H
#define FABRIC_RING_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fabric/msg.h"

/* Directions, as seen from this end; the same bits as VMCI_QPAIR_IN and VMCI_QPAIR_OUT. */
#define RING_IN 0x1u	/* what the peer writes and we read */
#define RING_OUT 0x2u	/* what we write */

/*
 * Where the waiter's words lie in the header page of the ring that it produces: away from the indices, each in a cache
 * line of its own, so that to look at them costs the peer nothing as long as nobody waits. 0: does not wait.
 */
#define RING_WANT_IN_OFFSET 128u	/* u32: waits for the peer's tail */
#define RING_WANT_OUT_OFFSET 256u	/* u32: waits for the peer's head */

#define RING_PAGE 4096u

enum ring_state {
	RING_WAITING,	/* creator: nobody has attached; the ring can be filled */
	RING_ATTACHED,
	RING_LEFT,	/* the peer has gone; what it wrote can still be read */
};

/**
 * struct ring_way - one direction of a view
 * @data:       the ring
 * @size:       its bytes; indices are below it; private: the peer does not choose it
 * @twice:      does the ring follow once more behind its end, so that no span breaks there?
 * @own:        our index: the tail of what we produce, the head of what we consume
 * @peer:       the peer's, as last read and checked
 * @own_index:  where the peer reads ours; write-only for us
 * @peer_index: where it writes its own
 * @own_want:   where we say that we wait
 * @peer_want:  where the peer does
 * @asked:      what we said last
 * @answered:   the peer's word for which it got its signal
 * @trickle:    looks in a row that brought a little; RING_IN only
 */
struct ring_way {
	uint8_t *data;
	uint64_t size;
	bool twice;
	uint64_t own;
	uint64_t peer;
	_Atomic uint64_t *own_index;
	_Atomic uint64_t *peer_index;
	_Atomic uint32_t *own_want;
	_Atomic uint32_t *peer_want;
	uint32_t asked;
	uint32_t answered;
	unsigned trickle;
} __attribute__((aligned(128)));

/* ring_relax() - pass a moment, some 10 to 100 ns, between two looks at memory that another CPU writes */
static inline void ring_relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("isb");
#endif
}

/**
 * struct ring - a view; made by ring_create() or ring_map()
 * @out, @in:   its directions
 * @life:       our end of the life socket; -1: ring_map_device()
 * @is_refusing: no descriptors can come from it
 * @state:      as ring_hear() left it
 * @cid:        the peer's context, as it says itself
 * @hello:      what of the peer's hello has arrived
 * @map:        the mapping, of @map_size bytes
 * @direct:     what is more about a direct pair (ring_direct.c); NULL: it is none
 */
struct ring {
	struct ring_way out;
	struct ring_way in;
	int life;
	bool is_refusing;
	_Atomic int state;
	_Atomic uint32_t cid;
	uint8_t hello[FAB_LIFE_HELLO];
	unsigned hello_len;
	uint8_t *map;
	size_t map_size;
	struct ring_direct *direct;
};

/**
 * ring_memory_size() - bytes of the memory of a queue pair with these rings
 *
 * Return: 0 if there is none: both are 0, or more than 128 MiB together
 */
uint64_t ring_memory_size(uint64_t produce, uint64_t consume);

/**
 * ring_create() - make a queue pair: memory, life, and the creator's view
 * @produce, @consume: bytes of the ring that the creator writes, and that it reads
 * @ret_memory: the memfd, sealed; the caller's
 * @ret_life:   the attacher's end of the life socket; the caller's. To be closed when the attacher has its own copy for
 *		certain (ring_hear() yields RING_ATTACHED), otherwise its death goes unnoticed.
 *
 * Uses memfd_create, ftruncate, fcntl, socketpair, mmap, munmap. Return: 0; -EINVAL: sizes; another negative errno
 */
int ring_create(uint64_t produce, uint64_t consume, struct ring **ret_ring, int *ret_memory, int *ret_life);

/**
 * ring_map() - the attacher's view of what a creator made
 * @memory:  foreign: checked for seals and size; stays the caller's
 * @life:    foreign: checked to be a stream socket of the UNIX family; the view's on success, else the caller's
 * @cid:     our context, for the creator to know
 * @produce, @consume: as this end sees them, so the creator's the other way round
 *
 * ring_map_direct(): the pages of a guest are to take the place of the memory, see ring_await_pages().
 * Tells the creator that we are there. Uses fcntl, fstat, fstatfs, getsockopt, mmap, munmap, sendto.
 * Return: 0; -EINVAL: sizes; -EBADMSG: not what a creator must pass; -ECONNRESET: the creator has gone; another
 * negative errno
 */
int ring_map(int memory, int life, uint32_t cid, uint64_t produce, uint64_t consume, struct ring **ret_ring);
int ring_map_direct(int memory, int life, uint32_t cid, uint64_t produce, uint64_t consume, struct ring **ret_ring);

/**
 * ring_map_device() - the view of an end whose memory a guest's kernel has mapped
 * @map:  @size bytes: header page and ring that this end produces, then those that it consumes; the view's on success
 * @is_attached: is the peer there?
 *
 * There is no life socket: ring_fd() is -1, ring_arm() makes nobody wake us, and who leaves is told to the view by
 * ring_set_state(). Return: 0; -EINVAL: sizes; -ENOMEM
 */
int ring_map_device(void *map, size_t size, uint64_t produce, uint64_t consume, bool is_attached,
		    struct ring **ret_ring);

/* ring_set_state() - of such a view: this has become of the peer, context @cid. RING_LEFT is for ever */
void ring_set_state(struct ring *ring, enum ring_state state, uint32_t cid);

/* ring_disown() - of such a view, in a child that has not inherited the memory: ring_free() does not unmap it */
void ring_disown(struct ring *ring);

/* --- Direct pairs: a program with a guest (ring_direct.c) --------------------------------------------------------- */

/**
 * ring_await_pages() - creator, before anybody can attach: the pages of a guest are to take the place of this memory
 *
 * Until they do the ring has no room. They come over the life socket, and ring_hear() maps them. Return: 0 or -ENOMEM
 */
int ring_await_pages(struct ring *ring);

/**
 * ring_pages() - have they come?
 *
 * Return: 1; 0: not yet; VMCI_ERROR_*: why they do not, the state is RING_LEFT then
 */
int ring_pages(const struct ring *ring);

/* ring_free() - give the view up without a word to the peer, which sees the end of the life socket; NULL is fine */
struct ring *ring_free(struct ring *ring);

/* ring_leave() - tell the peer that this end leaves, even if another process holds a copy of the socket */
void ring_leave(struct ring *ring);

/* ring_set_handle() - creator, before anybody can attach: write the pair's handle into both header pages */
void ring_set_handle(struct ring *ring, struct vmci_handle handle);

/* ring_state(), ring_peer() - as of the last ring_hear(), or failed wake-up; any thread. VMCI_INVALID_ID: not known */
enum ring_state ring_state(const struct ring *ring);
uint32_t ring_peer(const struct ring *ring);

/* --- Bytes ------------------------------------------------------------------------------------------------------- */

/**
 * ring_ready(), ring_room() - bytes that can be read, written now
 * @enough: the peer's index is looked at only if fewer than so many bytes are known of; UINT64_MAX: always
 *
 * Return: bytes; -EBADMSG: the peer's index is out of range, or moved backwards
 */
int64_t ring_ready(struct ring *ring, uint64_t enough);
int64_t ring_room(struct ring *ring, uint64_t enough);

/**
 * ring_reserve() - where to write next
 *
 * Return: contiguous bytes at *@ret_place, all that are free unless the ring ends there; 0: none, *@ret_place is
 * not written; -EBADMSG
 */
int64_t ring_reserve(struct ring *ring, uint8_t **ret_place);

/*
 * ring_commit() - @n bytes were written: publish them, wake the peer if it waits. 0; -EINVAL: more than ring_room();
 * -ESTALE: direct, and the guest has left
 */
int ring_commit(struct ring *ring, uint64_t n);

/* ring_acquire() - where to read next; like ring_reserve(). The peer may change the bytes while they are read. */
int64_t ring_acquire(struct ring *ring, const uint8_t **ret_place);

/*
 * ring_release() - @n bytes were read: like ring_commit(). 0; -EINVAL: more than ring_ready(); -ESTALE: direct, and what
 * was read need not be what the guest wrote, who has left: acquire it once more
 */
int ring_release(struct ring *ring, uint64_t n);

/* ring_write(), ring_read(), ring_peek() - copy as many bytes as fit or are there, 0..@n. Return: bytes; -EBADMSG */
int64_t ring_write(struct ring *ring, const void *buf, size_t n);
int64_t ring_read(struct ring *ring, void *buf, size_t n);
int64_t ring_peek(struct ring *ring, void *buf, size_t n);

/* --- Waiting ----------------------------------------------------------------------------------------------------- */

/**
 * ring_arm() - ask the peer to wake us, then look again
 * @ways: RING_IN: when there is something to read; RING_OUT: when there is room to write
 *
 * Return: 0: sleep now, until ring_fd() is readable; else the ways that need no waiting (their request is
 * withdrawn), or -EBADMSG. One request brings at most one wake-up for each way, so to be called before each sleep.
 */
int ring_arm(struct ring *ring, unsigned ways);

/* ring_disarm() - do not wake us any more: saves a wake-up for nothing; one may be under way nonetheless */
void ring_disarm(struct ring *ring, unsigned ways);

/* ring_fd() - the life socket: readable when the peer has woken us, has attached, or has gone. Belongs to the view. */
int ring_fd(const struct ring *ring);

/**
 * ring_hear() - take what is in the life socket
 * @wait: sleep until there is something; a signal or the peer may end it early
 *
 * A peer can fill the socket, which costs one call for each RING_HEAR_MAX bytes: nothing is to be done in a loop
 * until it is empty. After RING_LEFT has been seen, what the peer wrote before is there: look at the ring once
 * more.
 * Return: was anything there? ring_state() tells what has become of the peer
 */
bool ring_hear(struct ring *ring, bool wait);

#define RING_HEAR_MAX 256u

#endif /* FABRIC_RING_H */
