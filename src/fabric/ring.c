// SPDX-License-Identifier: BSD-2-Clause
/*
 * DOC: Theory of operation
 *
 * Memory. Four areas in a memfd, each in whole pages: the header page of the ring that the creator produces, this
 * ring, the header page of the ring that the attacher produces, that ring. Each end writes only into its own header
 * page (the one before its ring): the tail of its ring, the head of the peer's, and its two want words. An honest
 * end reads the peer's header page, never its own: of what it wrote there it has private copies in struct ring_way.
 *
 * Indices. An index is in [0, size); equal ones mean empty, so a ring holds size - 1 bytes. The peer's index is
 * loaded once (acquire), checked, and kept: as long as what is known of suffices, the peer's cache line is not
 * touched. The check is that room and data only ever grow by what the peer does; so an index also must not move
 * backwards, nor past ours. What was reserved or acquired therefore stays so, whatever the peer does meanwhile.
 *
 * A reader that follows closely behind a writer of small pieces takes the cache line of the writer's index away for
 * each of them, and the writer waits for it in its barrier (B below). So after some looks in a row that brought a
 * little, but something, the reader waits a moment before each look, and gets more at once. A look that brings
 * nothing ends this: who is waited for is not made to wait.
 *
 * Spans. Where a ring is a multiple of the page size, it is mapped twice, one behind the other, and a span may run
 * over its end. Otherwise it breaks there.
 *
 * Sleeping and waking, for either direction:
 *
 *	who waits					who publishes
 *	---------					-------------
 *	1 want = a new number, not 0			A index = new value
 *	2 full barrier					B full barrier
 *	3 look at the index again			C look at want; if it is neither 0 nor the number that
 *	4 nothing there: sleep on the life socket	  was answered last: remember it, send a byte
 *
 * No wake-up is lost: if 3 does not see A, then A comes after 3 in the order that the barriers make, so C comes
 * after 1, and sees the number. No storm: one number is answered once, and a waiter sends a new one only when it
 * goes to sleep again. Both barriers are those of sequentially consistent stores and loads (which thread sanitizers
 * understand, unlike fences; and a store with its barrier is one instruction on x86).
 *
 * The byte goes over the life socket with MSG_DONTWAIT. If the socket is full, the peer has some hundred wake-ups
 * before it already, and this one is not needed. A peer that writes numbers into want without waiting makes us send
 * a byte for each index that we publish, at most: no more than if it really slept each time. One that sends bytes
 * without need wakes us, at the price of a system call each. One that never sends any behaves like one that has
 * nothing to say.
 *
 * Direct pairs are different in some places: ring_direct.c.
 *
 * Death. The life socket is a socket pair of which each end has one end: when a process dies, the kernel closes it,
 * after all that the process wrote into the rings. End of file comes behind the wake-ups, or as an error in their
 * place.
 */
#include "fabric/ring.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/closer.h"
#include "base/fd.h"
#include "ring_priv.h"

_Static_assert(sizeof(_Atomic uint64_t) == 8 && sizeof(_Atomic uint32_t) == 4, "atomics lie in shared memory");
_Static_assert(ATOMIC_LLONG_LOCK_FREE == 2 && ATOMIC_INT_LOCK_FREE == 2, "atomics lie in shared memory");
_Static_assert(RING_WANT_OUT_OFFSET + 4 <= RING_PAGE, "the header is a page");

#define SEALS (F_SEAL_SHRINK | F_SEAL_GROW)

#define TRICKLE_BYTES 8192u	/* "a little": its bytes cost less than the look */
#define TRICKLE_LOOKS 8u	/* "some looks": more than a lull in a stream of larger pieces */
#define TRICKLE_RELAX 8u	/* "a moment": measured; 16 bring no more */

/* --- Memory ------------------------------------------------------------------------------------------------------ */

uint64_t ring_memory_size(uint64_t produce, uint64_t consume)
{
	const uint64_t max = VMCI_QP_GUEST_MEMORY_MAX;

	if (produce > max || consume > max - produce || (!produce && !consume))
		return 0;
	return 2 * RING_PAGE + ring_pages_of(produce) + ring_pages_of(consume);
}

/* map_ring() - map header and ring, and the ring once more, at @at */
static bool map_ring(uint8_t *at, int memory, uint64_t offset, uint64_t size)
{
	uint64_t len = RING_PAGE + ring_pages_of(size);

	if (mmap(at, len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, memory, (off_t)offset) == MAP_FAILED)
		return false;
	return !ring_is_whole(size) || mmap(at + len, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, memory,
				       (off_t)(offset + RING_PAGE)) != MAP_FAILED;
}

/* map_both() - reserve address space, then map both rings into it; @first is the creator's */
static uint8_t *map_both(int memory, uint64_t first, uint64_t second)
{
	size_t size = ring_room_of(first) + ring_room_of(second);
	uint8_t *at = mmap(NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	int saved;

	if (at == MAP_FAILED)
		return NULL;
	if (map_ring(at, memory, 0, first) &&
	    map_ring(at + ring_room_of(first), memory, RING_PAGE + ring_pages_of(first), second))
		return at;
	saved = errno;
	munmap(at, size);
	errno = saved;
	return NULL;
}

/* way_init() - @own and @peer are the header pages of the two ends */
static void way_init(struct ring_way *way, uint8_t *data, uint64_t size, uint8_t *own, uint8_t *peer, bool out)
{
	way->data = data;
	way->size = size;
	way->twice = ring_is_whole(size);
	way->own_index = (void *)(own + (out ? VMCI_QUEUE_TAIL_OFFSET : VMCI_QUEUE_HEAD_OFFSET));
	way->peer_index = (void *)(peer + (out ? VMCI_QUEUE_HEAD_OFFSET : VMCI_QUEUE_TAIL_OFFSET));
	way->own_want = (void *)(own + (out ? RING_WANT_OUT_OFFSET : RING_WANT_IN_OFFSET));
	way->peer_want = (void *)(peer + (out ? RING_WANT_IN_OFFSET : RING_WANT_OUT_OFFSET));
}

/* view() - the view of one end; the memory has the right size */
static int view(int memory, uint64_t produce, uint64_t consume, bool creator, struct ring **ret_ring)
{
	uint64_t first = creator ? produce : consume, second = creator ? consume : produce;
	uint8_t *own, *peer;
	struct ring *ring;

	if (posix_memalign((void **)&ring, _Alignof(struct ring), sizeof(*ring)))
		return -ENOMEM;
	memset(ring, 0, sizeof(*ring));
	ring->map_size = ring_room_of(first) + ring_room_of(second);
	ring->map = map_both(memory, first, second);
	if (!ring->map) {
		int error = -errno;

		free(ring);
		return error;
	}
	own = ring->map + (creator ? 0 : ring_room_of(first));
	peer = ring->map + (creator ? ring_room_of(first) : 0);
	way_init(&ring->out, own + RING_PAGE, produce, own, peer, true);
	way_init(&ring->in, peer + RING_PAGE, consume, own, peer, false);
	atomic_init(&ring->state, creator ? RING_WAITING : RING_ATTACHED);
	atomic_init(&ring->cid, VMCI_INVALID_ID);
	ring->life = -1;
	*ret_ring = ring;
	return 0;
}

int ring_create(uint64_t produce, uint64_t consume, struct ring **ret_ring, int *ret_memory, int *ret_life)
{
	uint64_t size = ring_memory_size(produce, consume);
	int memory, error, life[2];
	struct ring *ring;

	if (!size)
		return -EINVAL;
	memory = memfd_create("vmci-queue-pair", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (memory < 0)
		return -errno;
	if (ftruncate(memory, (off_t)size) || fcntl(memory, F_ADD_SEALS, SEALS | F_SEAL_SEAL)) {
		error = -errno;
		goto fail;
	}
	error = view(memory, produce, consume, true, &ring);
	if (error)
		goto fail;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, life)) {
		error = -errno;
		ring_free(ring);
		goto fail;
	}
	ring->life = life[0];
	/* Before the attacher can have its end. */
	closer_refuse(life[0]);
	ring->is_refusing = closer_is_refusing(life[0]);
	*ret_ring = ring;
	*ret_memory = memory;
	*ret_life = life[1];
	return 0;
fail:
	fd_close(&memory);
	return error;
}

int ring_check_memory(int memory, uint64_t size)
{
	int seals = fcntl(memory, F_GET_SEALS);
	struct statfs fs;
	struct stat st;

	if (seals < 0 || (seals & SEALS) != SEALS)
		return -EBADMSG;
	if (fstat(memory, &st) || fstatfs(memory, &fs))
		return -errno;
	return st.st_size == (off_t)size && fs.f_type == TMPFS_MAGIC ? 0 : -EBADMSG;
}

static bool is_life(int fd)
{
	int domain = 0, type = 0;
	socklen_t len = sizeof(int);

	return !getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len) && domain == AF_UNIX &&
	       !getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) && type == SOCK_STREAM;
}

static int map_as_attacher(int memory, int life, uint32_t cid, uint64_t produce, uint64_t consume, bool direct,
			   struct ring **ret_ring)
{
	uint64_t size = ring_memory_size(produce, consume);
	uint8_t hello[FAB_LIFE_HELLO];
	struct ring *ring;
	int error;

	if (!size)
		return -EINVAL;
	if (!is_life(life))
		return -EBADMSG;
	error = ring_check_memory(memory, size);
	if (!error)
		error = view(memory, produce, consume, false, &ring);
	if (error)
		return error;
	if (direct) {
		error = ring_await_pages(ring);
		if (error) {
			ring_free(ring);
			return error;
		}
	}
	put_le32(hello, cid);
	if (send(life, hello, sizeof(hello), MSG_DONTWAIT | MSG_NOSIGNAL) != sizeof(hello)) {
		ring_free(ring);
		return -ECONNRESET;
	}
	ring->life = life;
	*ret_ring = ring;
	return 0;
}

int ring_map(int memory, int life, uint32_t cid, uint64_t produce, uint64_t consume, struct ring **ret_ring)
{
	return map_as_attacher(memory, life, cid, produce, consume, false, ret_ring);
}

int ring_map_direct(int memory, int life, uint32_t cid, uint64_t produce, uint64_t consume, struct ring **ret_ring)
{
	return map_as_attacher(memory, life, cid, produce, consume, true, ret_ring);
}

int ring_map_device(void *map, size_t size, uint64_t produce, uint64_t consume, bool is_attached,
		    struct ring **ret_ring)
{
	uint8_t *own = map, *peer = own + RING_PAGE + ring_pages_of(produce);
	struct ring *ring;

	if (ring_memory_size(produce, consume) != size)
		return -EINVAL;
	if (posix_memalign((void **)&ring, _Alignof(struct ring), sizeof(*ring)))
		return -ENOMEM;
	memset(ring, 0, sizeof(*ring));
	ring->map = map;
	ring->map_size = size;
	way_init(&ring->out, own + RING_PAGE, produce, own, peer, true);
	way_init(&ring->in, peer + RING_PAGE, consume, own, peer, false);
	ring->out.twice = ring->in.twice = false;
	atomic_init(&ring->state, is_attached ? RING_ATTACHED : RING_WAITING);
	atomic_init(&ring->cid, VMCI_INVALID_ID);
	ring->life = -1;
	*ret_ring = ring;
	return 0;
}

void ring_set_state(struct ring *ring, enum ring_state state, uint32_t cid)
{
	if (ring_state(ring) == RING_LEFT)
		return;
	atomic_store_explicit(&ring->cid, cid, memory_order_relaxed);
	atomic_store_explicit(&ring->state, state, memory_order_release);
}

void ring_disown(struct ring *ring)
{
	ring->map_size = 0;
}

struct ring *ring_free(struct ring *ring)
{
	if (ring) {
		if (ring->map_size)
			munmap(ring->map, ring->map_size);
		ring_direct_free(ring);
		closer_close(&ring->life);
		free(ring);
	}
	return NULL;
}

void ring_leave(struct ring *ring)
{
	if (ring->life >= 0)
		shutdown(ring->life, SHUT_RDWR);
}

void ring_set_handle(struct ring *ring, struct vmci_handle handle)
{
	handle_put(ring->out.data - RING_PAGE, handle);
	handle_put(ring->in.data - RING_PAGE, handle);
}

enum ring_state ring_state(const struct ring *ring)
{
	return (enum ring_state)atomic_load_explicit(&ring->state, memory_order_acquire);
}

uint32_t ring_peer(const struct ring *ring)
{
	return atomic_load_explicit(&ring->cid, memory_order_relaxed);
}

/* --- Indices ----------------------------------------------------------------------------------------------------- */

/* room_at(), ready_at() - bytes that can be written, read, if the peer's index is @peer */
static inline uint64_t room_at(const struct ring_way *way, uint64_t peer)
{
	if (!way->size)
		return 0;
	return way->own >= peer ? way->size - (way->own - peer) - 1 : peer - way->own - 1;
}

static inline uint64_t ready_at(const struct ring_way *way, uint64_t peer)
{
	return peer >= way->own ? peer - way->own : way->size - (way->own - peer);
}

static inline uint64_t avail_at(const struct ring_way *way, bool out, uint64_t peer)
{
	return out ? room_at(way, peer) : ready_at(way, peer);
}

static inline uint64_t avail(const struct ring_way *way, bool out)
{
	return avail_at(way, out, way->peer);
}

/* take() - check what the peer's index was, and keep it. Return: bytes there now, or -EBADMSG */
static inline int64_t take(struct ring_way *way, bool out, uint64_t p_index)
{
	uint64_t bytes;

	p_index = le64toh(p_index);
	if (!way->size)
		return p_index ? -EBADMSG : 0;
	if (p_index >= way->size)
		return -EBADMSG;
	bytes = avail_at(way, out, p_index);
	if (bytes < avail(way, out))
		return -EBADMSG;
	way->peer = p_index;
	return (int64_t)bytes;
}

/* look_direct() - as look(), for a pair whose pages can turn into somebody else's at any time */
static int64_t __attribute__((noinline)) look_direct(struct ring *ring, struct ring_way *way, bool out, uint64_t enough)
{
	enum ring_phase phase = ring_phase(ring);
	uint64_t bytes = avail(way, out), p_index;

	if (!ring_is_good(ring, phase))
		return 0;
	if (bytes >= enough)
		return (int64_t)bytes;
	p_index = atomic_load_explicit(way->peer_index, memory_order_acquire);
	return ring_is_good(ring, phase) ? take(way, out, p_index) : 0;
}

static inline int64_t look(struct ring *ring, bool out, uint64_t enough)
{
	struct ring_way *way = out ? &ring->out : &ring->in;
	uint64_t bytes = avail(way, out);

	if (ring->direct)
		return look_direct(ring, way, out, enough);
	if (bytes >= enough)
		return (int64_t)bytes;
	return take(way, out, atomic_load_explicit(way->peer_index, memory_order_acquire));
}

int64_t ring_ready(struct ring *ring, uint64_t enough)
{
	return look(ring, false, enough);
}

int64_t ring_room(struct ring *ring, uint64_t enough)
{
	return look(ring, true, enough);
}

/* wake() - the peer asked for it. Out of line: it is rare. */
static void __attribute__((noinline, cold)) wake(struct ring *ring)
{
	uint8_t byte = 0;

	if (ring->life < 0)
		return;
	while (send(ring->life, &byte, 1, MSG_DONTWAIT | MSG_NOSIGNAL) < 0) {
		if (errno == EINTR)
			continue;
		/* A guest's last words may still be in the socket. */
		if (errno != EAGAIN && !ring->direct)
			atomic_store_explicit(&ring->state, RING_LEFT, memory_order_release);
		break;
	}
}

/* advance() - publish our index @n further on; wake who waits for it */
static inline int advance(struct ring *ring, struct ring_way *way, bool out, uint64_t n)
{
	uint32_t p_want;

	if (n > avail(way, out))
		return -EINVAL;
	if (!n)
		return 0;
	way->own += n;
	if (way->own >= way->size)
		way->own -= way->size;
	if (ring->direct && !ring_is_ours(ring))
		return 0;
	atomic_store_explicit(way->own_index, htole64(way->own), memory_order_seq_cst);
	p_want = atomic_load_explicit(way->peer_want, memory_order_seq_cst);
	if (__builtin_expect(p_want && p_want != way->answered, 0)) {
		way->answered = p_want;
		wake(ring);
	}
	return 0;
}

int ring_commit(struct ring *ring, uint64_t n)
{
	if (ring->direct && !ring_is_ours(ring))
		return -ESTALE;
	return advance(ring, &ring->out, true, n);
}

int ring_release(struct ring *ring, uint64_t n)
{
	/* What was acquired before the snapshot came, was not of it. */
	if (ring->direct && (!ring_is_ours(ring) || ring->direct->acquired != ring_phase(ring)))
		return -ESTALE;
	return advance(ring, &ring->in, false, n);
}

/* --- Bytes ------------------------------------------------------------------------------------------------------- */

/* span() - the contiguous part of @bytes from our index on */
static inline uint64_t span(const struct ring_way *way, uint64_t bytes)
{
	uint64_t rest = way->size - way->own;

	return way->twice || bytes <= rest ? bytes : rest;
}

int64_t ring_reserve(struct ring *ring, uint8_t **ret_place)
{
	int64_t bytes = look(ring, true, UINT64_MAX);

	if (bytes <= 0)
		return bytes;
	*ret_place = ring->out.data + ring->out.own;
	return (int64_t)span(&ring->out, (uint64_t)bytes);
}

int64_t ring_acquire(struct ring *ring, const uint8_t **ret_place)
{
	int64_t bytes;

	if (ring->direct)
		ring->direct->acquired = ring_phase(ring);
	bytes = look(ring, false, UINT64_MAX);
	if (bytes <= 0)
		return bytes;
	*ret_place = ring->in.data + ring->in.own;
	return (int64_t)span(&ring->in, (uint64_t)bytes);
}

/* write_direct() - in pieces, so that little is under way when the guest leaves */
static int64_t write_direct(struct ring *ring, const uint8_t *buf, size_t n)
{
	struct ring_way *way = &ring->out;
	size_t done = 0;

	while (done < n) {
		uint64_t len = n - done < RING_DIRECT_PIECE ? n - done : RING_DIRECT_PIECE, first;
		int64_t bytes = look(ring, true, len);

		if (bytes <= 0)
			return done ? (int64_t)done : bytes;
		if ((uint64_t)bytes < len)
			len = (uint64_t)bytes;
		first = span(way, len);
		memcpy(way->data + way->own, buf + done, first);
		if (first < len)
			memcpy(way->data, buf + done + first, len - first);
		advance(ring, way, true, len);
		done += len;
	}
	return (int64_t)done;
}

int64_t ring_write(struct ring *ring, const void *buf, size_t n)
{
	struct ring_way *way = &ring->out;
	int64_t bytes;
	uint64_t len, first;

	if (ring->direct)
		return write_direct(ring, buf, n);
	bytes = look(ring, true, n);
	if (bytes <= 0)
		return bytes;
	len = (uint64_t)bytes < n ? (uint64_t)bytes : n;
	first = span(way, len);
	memcpy(way->data + way->own, buf, first);
	if (first < len)
		memcpy(way->data, (const uint8_t *)buf + first, len - first);
	advance(ring, way, true, len);
	return (int64_t)len;
}

int64_t ring_peek(struct ring *ring, void *buf, size_t n)
{
	enum ring_phase phase = ring->direct ? ring_phase(ring) : RING_PAGES_NONE;
	struct ring_way *way = &ring->in;
	int64_t bytes = look(ring, false, n);
	uint64_t len, first;

	if (bytes <= 0)
		return bytes;
	len = (uint64_t)bytes < n ? (uint64_t)bytes : n;
	first = span(way, len);
	memcpy(buf, way->data + way->own, first);
	if (first < len)
		memcpy((uint8_t *)buf + first, way->data, len - first);
	if (ring->direct) {
		ring_read_barrier();
		if (!ring_is_good(ring, phase))
			return 0;
	}
	return (int64_t)len;
}

int64_t ring_read(struct ring *ring, void *buf, size_t n)
{
	struct ring_way *way = &ring->in;
	bool looks = avail(way, false) < n;
	int64_t len;

	for (unsigned i = 0; looks && way->trickle >= TRICKLE_LOOKS && i < TRICKLE_RELAX; i++)
		ring_relax();
	len = ring_peek(ring, buf, n);
	if (len > 0) {
		if (looks)
			way->trickle = len <= (int64_t)TRICKLE_BYTES ? way->trickle + 1 : 0;
		advance(ring, way, false, (uint64_t)len);
	} else {
		way->trickle = 0;
	}
	return len;
}

/* --- Waiting ----------------------------------------------------------------------------------------------------- */

/* arm() - steps 1 to 3 of one direction. Return: bytes there, or -EBADMSG; the request is withdrawn unless it is 0 */
static int64_t arm(struct ring *ring, bool out)
{
	struct ring_way *way = out ? &ring->out : &ring->in;
	int64_t bytes;

	if (ring->direct && !ring_is_ours(ring))
		return 0;
	way->asked = way->asked == UINT32_MAX ? 1 : way->asked + 1;
	atomic_store_explicit(way->own_want, way->asked, memory_order_seq_cst);
	if (ring->direct)
		bytes = look_direct(ring, way, out, UINT64_MAX);
	else
		bytes = take(way, out, atomic_load_explicit(way->peer_index, memory_order_seq_cst));
	if (bytes)
		atomic_store_explicit(way->own_want, 0, memory_order_relaxed);
	return bytes;
}

int ring_arm(struct ring *ring, unsigned ways)
{
	int64_t in = ways & RING_IN ? arm(ring, false) : 0;
	int64_t out = ways & RING_OUT ? arm(ring, true) : 0;

	if (in < 0 || out < 0) {
		ring_disarm(ring, ways);
		return -EBADMSG;
	}
	/* The guest wakes nobody: its device looks for us. */
	if (ring->direct && ways && !in && !out && ring_phase(ring) == RING_PAGES_MAPPED)
		wake(ring);
	return (in ? (int)RING_IN : 0) | (out ? (int)RING_OUT : 0);
}

void ring_disarm(struct ring *ring, unsigned ways)
{
	if (ring->direct && !ring_is_ours(ring))
		return;
	if (ways & RING_IN)
		atomic_store_explicit(ring->in.own_want, 0, memory_order_relaxed);
	if (ways & RING_OUT)
		atomic_store_explicit(ring->out.own_want, 0, memory_order_relaxed);
}

int ring_fd(const struct ring *ring)
{
	return ring->life;
}

/* hello() - the creator's first bytes are the attacher's context */
static void hello(struct ring *ring, const uint8_t *bytes, size_t n)
{
	while (n && ring->hello_len < FAB_LIFE_HELLO) {
		ring->hello[ring->hello_len++] = *bytes++;
		n--;
	}
	if (ring->hello_len == FAB_LIFE_HELLO) {
		atomic_store_explicit(&ring->cid, get_le32(ring->hello), memory_order_relaxed);
		/* Who waits for pages is not there without them. */
		if (!ring->direct)
			atomic_store_explicit(&ring->state, RING_ATTACHED, memory_order_release);
	}
}

bool ring_hear(struct ring *ring, bool wait)
{
	uint8_t bytes[RING_HEAR_MAX];
	struct iovec iov = { .iov_base = bytes, .iov_len = sizeof(bytes) };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	int flags = wait ? 0 : MSG_DONTWAIT, fds[CLOSER_FDS_MAX];
	unsigned n_fds = 0;
	ssize_t n;

	if (ring->direct)
		n = ring_direct_recv(ring, &msg, flags, fds, &n_fds);
	else if (ring->is_refusing)
		n = recv(ring->life, bytes, sizeof(bytes), flags);
	else
		n = closer_recv(ring->life, &msg, flags);
	/* Who sends descriptors is no peer that keeps to anything. */
	if (n > 0 && msg.msg_flags & MSG_CTRUNC)
		n = 0;
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return false;
	if (n <= 0 && ring->direct)
		ring_direct_lost(ring, 0);
	if (n <= 0)
		atomic_store_explicit(&ring->state, RING_LEFT, memory_order_release);
	else if (ring_state(ring) == RING_WAITING)
		hello(ring, bytes, (size_t)n);
	if (n_fds && !ring_direct_take(ring, fds, n_fds))
		atomic_store_explicit(&ring->state, RING_LEFT, memory_order_release);
	/* The last words are there now. */
	if (ring->direct && ring_phase(ring) == RING_PAGES_ENDED)
		atomic_store_explicit(&ring->state, RING_LEFT, memory_order_release);
	return true;
}
