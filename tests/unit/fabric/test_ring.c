/* SPDX-License-Identifier: BSD-2-Clause */
/* Rings between two processes: layout and indices (VMCI reference, 7.1), waking, peers that lie, peers that die. */
#include "rig.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/memfd.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../base/tarpit.h"
#include "base/closer.h"
#include "fabric/ring.h"

#define CID 4711u
#define LIMIT_MS 20000	/* for anything that must happen */

/* Both ends in this process, and the memory as a third one sees it. */
struct bed {
	struct ring *creator;
	struct ring *attacher;
	uint8_t *raw;
	size_t raw_size;
};

static void bed_open(struct bed *bed, uint64_t produce, uint64_t consume)
{
	int memory, life;

	assert_int_equal(ring_create(produce, consume, &bed->creator, &memory, &life), 0);
	bed->raw_size = ring_memory_size(produce, consume);
	bed->raw = mmap(NULL, bed->raw_size, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0);
	assert_ptr_not_equal(bed->raw, MAP_FAILED);
	assert_int_equal(ring_map(memory, life, CID, consume, produce, &bed->attacher), 0);
	close(memory);
	assert_true(ring_hear(bed->creator, false));
	assert_int_equal(ring_state(bed->creator), RING_ATTACHED);
}

static void bed_close(struct bed *bed)
{
	munmap(bed->raw, bed->raw_size);
	ring_free(bed->creator);
	ring_free(bed->attacher);
}

/* The header pages, as they lie in the memory. */
static _Atomic uint64_t *raw64(struct bed *bed, uint64_t offset)
{
	return (void *)(bed->raw + offset);
}

static _Atomic uint32_t *raw32(struct bed *bed, uint64_t offset)
{
	return (void *)(bed->raw + offset);
}

/* Byte @at of an endless stream that does not repeat with any power of two. */
static uint8_t byte_at(uint64_t at)
{
	return (uint8_t)(at * 31 + at / 251 * 7);
}

static void fill(uint8_t *buf, uint64_t from, size_t n)
{
	for (size_t i = 0; i < n; i++)
		buf[i] = byte_at(from + i);
}

static void check_bytes(const uint8_t *buf, uint64_t from, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (buf[i] != byte_at(from + i))
			fail_msg("byte %zu of the stream is wrong", (size_t)from + i);
}

/* --- Layout, sizes ----------------------------------------------------------------------------------------------- */

static void test_s7_1_sizes(void **state)
{
	const uint64_t max = 128u << 20;

	(void)state;
	assert_int_equal(ring_memory_size(0, 0), 0);
	assert_int_equal(ring_memory_size(1, 0), 3 * 4096);
	assert_int_equal(ring_memory_size(0, 4096), 3 * 4096);
	assert_int_equal(ring_memory_size(4097, 1), 5 * 4096);
	assert_int_equal(ring_memory_size(max, 0), max + 8192);
	assert_int_equal(ring_memory_size(max / 2, max / 2), max + 8192);
	assert_int_equal(ring_memory_size(max, 1), 0);
	assert_int_equal(ring_memory_size(max + 1, 0), 0);
	assert_int_equal(ring_memory_size(UINT64_MAX, 1), 0);
	assert_int_equal(ring_memory_size(1, UINT64_MAX), 0);
	assert_int_equal(ring_memory_size(UINT64_MAX, UINT64_MAX), 0);
}

static void test_s7_1_layout(void **state)
{
	const uint64_t second = 4096 + 8192;	/* of 5000 bytes */
	struct bed bed;
	uint8_t buf[8];

	(void)state;
	bed_open(&bed, 5000, 4096);
	ring_set_handle(bed.creator, handle_make(2, 0x01020304));
	assert_true(handle_is_equal(handle_get(bed.raw), handle_make(2, 0x01020304)));
	assert_true(handle_is_equal(handle_get(bed.raw + second), handle_make(2, 0x01020304)));

	assert_int_equal(ring_write(bed.creator, "abc", 3), 3);
	assert_memory_equal(bed.raw + 4096, "abc", 3);
	assert_int_equal(get_le64(bed.raw + 8), 3);
	assert_int_equal(ring_read(bed.attacher, buf, 2), 2);
	assert_int_equal(get_le64(bed.raw + second + 16), 2);

	assert_int_equal(ring_write(bed.attacher, "defgh", 5), 5);
	assert_memory_equal(bed.raw + second + 4096, "defgh", 5);
	assert_int_equal(get_le64(bed.raw + second + 8), 5);
	assert_int_equal(ring_read(bed.creator, buf, 8), 5);
	assert_int_equal(get_le64(bed.raw + 16), 5);
	bed_close(&bed);
}

static void test_memory_is_sealed_and_exact(void **state)
{
	struct ring *ring;
	int memory, life;

	(void)state;
	assert_int_equal(ring_create(0, 0, &ring, &memory, &life), -EINVAL);
	assert_int_equal(ring_create(UINT64_MAX, 4096, &ring, &memory, &life), -EINVAL);
	assert_int_equal(ring_create(100, 0, &ring, &memory, &life), 0);
	assert_int_equal(lseek(memory, 0, SEEK_END), 3 * 4096);
	assert_int_equal(ftruncate(memory, 4096), -1);
	assert_int_equal(ftruncate(memory, 1 << 20), -1);
	assert_int_equal(fcntl(memory, F_GETFD), FD_CLOEXEC);
	assert_int_equal(fcntl(life, F_GETFD), FD_CLOEXEC);
	close(memory);
	close(life);
	ring_free(ring);
}

static int memfd(unsigned flags, off_t size, int seals)
{
	int fd = memfd_create("test", flags);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, size), 0);
	if (flags & MFD_ALLOW_SEALING)
		assert_int_equal(fcntl(fd, F_ADD_SEALS, seals), 0);
	return fd;
}

static void refuse(int memory, int expected)
{
	struct ring *ring = NULL;
	int life[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, life), 0);
	assert_int_equal(ring_map(memory, life[0], CID, 4096, 4096, &ring), expected);
	assert_null(ring);
	/* It is still ours, and nothing was said. */
	assert_int_equal(recv(life[1], &(char){ 0 }, 1, MSG_DONTWAIT), -1);
	assert_int_equal(errno, EAGAIN);
	close(life[0]);
	close(life[1]);
	close(memory);
}

static void test_foreign_memory_is_checked(void **state)
{
	const int shrink = F_SEAL_SHRINK, grow = F_SEAL_GROW;
	int fds = rig_count_fds(), sockets[2];

	(void)state;
	refuse(memfd(0, 16384, 0), -EBADMSG);	/* cannot be sealed */
	refuse(memfd(MFD_ALLOW_SEALING, 16384, 0), -EBADMSG);
	refuse(memfd(MFD_ALLOW_SEALING, 16384, grow), -EBADMSG);
	refuse(memfd(MFD_ALLOW_SEALING, 16384, shrink), -EBADMSG);
	refuse(memfd(MFD_ALLOW_SEALING, 16383, shrink | grow), -EBADMSG);
	refuse(memfd(MFD_ALLOW_SEALING, 12288, shrink | grow), -EBADMSG);
	refuse(memfd(MFD_ALLOW_SEALING, 20480, shrink | grow), -EBADMSG);
	refuse(memfd(MFD_ALLOW_SEALING, 16384, shrink | grow | F_SEAL_WRITE), -EPERM);
	refuse(open("/dev/zero", O_RDWR), -EBADMSG);
	rig_pair(0, sockets);
	refuse(sockets[0], -EBADMSG);
	close(sockets[1]);
	assert_int_equal(rig_count_fds(), fds);
}

/* Its size and seals can be right, but touching it is SIGBUS when the machine runs out of huge pages. */
static void test_huge_pages_are_refused(void **state)
{
	const off_t size = 2 << 20;
	struct ring *ring = NULL;
	int memory, life[2];

	(void)state;
	memory = memfd_create("huge", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_HUGETLB | MFD_HUGE_2MB);
	if (memory < 0 || ftruncate(memory, size) || fcntl(memory, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW)) {
		print_message("no huge pages of 2 MiB in this kernel: %s\n", strerror(errno));
		if (memory >= 0)
			close(memory);
		skip();
	}
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, life), 0);
	assert_int_equal(ring_map(memory, life[0], CID, (uint64_t)size - 12288, 4096, &ring), -EBADMSG);
	assert_null(ring);
	close(life[0]);
	close(life[1]);
	close(memory);
}

static void test_foreign_life_is_checked(void **state)
{
	int fds = rig_count_fds(), memory, life, sockets[2];
	struct ring *ring, *other = NULL;

	(void)state;
	assert_int_equal(ring_create(4096, 4096, &ring, &memory, &life), 0);
	rig_pair(0, sockets);	/* SOCK_SEQPACKET */
	assert_int_equal(ring_map(memory, sockets[0], CID, 4096, 4096, &other), -EBADMSG);
	close(sockets[0]);
	close(sockets[1]);
	sockets[0] = socket(AF_INET, SOCK_STREAM, 0);
	if (sockets[0] >= 0) {
		assert_int_equal(ring_map(memory, sockets[0], CID, 4096, 4096, &other), -EBADMSG);
		close(sockets[0]);
	}
	assert_int_equal(ring_map(memory, memory, CID, 4096, 4096, &other), -EBADMSG);
	assert_int_equal(ring_map(memory, life, CID, 0, 0, &other), -EINVAL);
	assert_int_equal(ring_map(memory, life, CID, 4096, 8192, &other), -EBADMSG);
	ring_free(ring);	/* the creator dies before we come */
	assert_int_equal(ring_map(memory, life, CID, 4096, 4096, &other), -ECONNRESET);
	assert_null(other);
	close(memory);
	close(life);
	assert_int_equal(rig_count_fds(), fds);
}

/* --- Bytes ------------------------------------------------------------------------------------------------------- */

static void test_a_ring_holds_one_byte_less(void **state)
{
	const uint64_t sizes[] = { 1, 2, 3, 100, 4095, 4096, 4097, 8192 };
	uint8_t buf[8192];

	(void)state;
	fill(buf, 0, sizeof(buf));
	for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
		int64_t most = (int64_t)sizes[i] - 1;
		struct bed bed;

		bed_open(&bed, sizes[i], 0);
		assert_int_equal(ring_room(bed.creator, UINT64_MAX), most);
		assert_int_equal(ring_write(bed.creator, buf, sizeof(buf)), most);
		assert_int_equal(ring_room(bed.creator, UINT64_MAX), 0);
		assert_int_equal(ring_write(bed.creator, buf, 1), 0);
		assert_int_equal(ring_ready(bed.attacher, UINT64_MAX), most);
		assert_int_equal(ring_read(bed.attacher, buf, sizeof(buf)), most);
		assert_int_equal(ring_ready(bed.attacher, UINT64_MAX), 0);
		assert_int_equal(ring_room(bed.creator, UINT64_MAX), most);
		/* The other direction has no bytes at all. */
		assert_int_equal(ring_write(bed.attacher, buf, 1), 0);
		assert_int_equal(ring_read(bed.creator, buf, 1), 0);
		assert_int_equal(ring_room(bed.attacher, UINT64_MAX), 0);
		bed_close(&bed);
	}
}

/* Moves bytes by one of the ways there are; returns how many. */
static size_t put_some(struct ring *ring, uint64_t from, size_t n, bool copy)
{
	uint8_t buf[256], *place;
	int64_t len;

	if (copy) {
		fill(buf, from, n);
		len = ring_write(ring, buf, n);
		assert_true(len >= 0);
		return (size_t)len;
	}
	len = ring_reserve(ring, &place);
	assert_true(len >= 0);
	if ((size_t)len > n)
		len = (int64_t)n;
	if (len)
		fill(place, from, (size_t)len);
	assert_int_equal(ring_commit(ring, (uint64_t)len), 0);
	return (size_t)len;
}

static size_t get_some(struct ring *ring, uint64_t from, size_t n, bool copy)
{
	uint8_t buf[256], again[256];
	const uint8_t *place;
	int64_t len;

	if (copy) {
		int64_t peeked = ring_peek(ring, again, n);

		len = ring_read(ring, buf, n);
		assert_true(peeked >= 0 && len >= peeked);	/* more may have come meanwhile */
		assert_memory_equal(buf, again, (size_t)peeked);
		check_bytes(buf, from, (size_t)len);
		return (size_t)len;
	}
	len = ring_acquire(ring, &place);
	assert_true(len >= 0);
	if ((size_t)len > n)
		len = (int64_t)n;
	if (len)
		check_bytes(place, from, (size_t)len);
	assert_int_equal(ring_release(ring, (uint64_t)len), 0);
	return (size_t)len;
}

static void test_bytes_come_in_order_round_the_end(void **state)
{
	const uint64_t sizes[] = { 2, 3, 7, 64, 100, 255, 256, 4095, 4096, 4097, 12288 };
	unsigned seed = 1;

	(void)state;
	for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
		uint64_t in = 0, out = 0, back_in = 0, back_out = 0;
		struct bed bed;

		bed_open(&bed, sizes[i], sizes[sizeof(sizes) / sizeof(*sizes) - 1 - i]);
		for (int step = 0; step < 20000; step++) {
			size_t n = (size_t)rand_r(&seed) % 256 + 1;
			bool copy = rand_r(&seed) & 1;

			switch (rand_r(&seed) % 4) {
			case 0:
				in += put_some(bed.creator, in, n, copy);
				break;
			case 1:
				out += get_some(bed.attacher, out, n, copy);
				break;
			case 2:
				back_in += put_some(bed.attacher, back_in, n, copy);
				break;
			default:
				back_out += get_some(bed.creator, back_out, n, copy);
			}
			assert_true(in - out < sizes[i]);
			assert_int_equal(ring_ready(bed.attacher, UINT64_MAX), in - out);
			assert_int_equal(ring_room(bed.creator, UINT64_MAX), sizes[i] - 1 - (in - out));
		}
		assert_true(in > 2 * sizes[i] || sizes[i] < 3);
		bed_close(&bed);
	}
}

static void test_spans_of_whole_pages_do_not_break(void **state)
{
	static uint8_t buf[8192];
	const uint8_t *there;
	uint8_t *place;
	struct bed bed;

	(void)state;
	bed_open(&bed, 8192, 8191);
	assert_int_equal(ring_write(bed.creator, buf, 8000), 8000);
	assert_int_equal(ring_read(bed.attacher, buf, 8000), 8000);
	assert_int_equal(ring_reserve(bed.creator, &place), 8191);
	fill(place, 0, 8191);
	assert_int_equal(ring_commit(bed.creator, 8191), 0);
	assert_int_equal(ring_acquire(bed.attacher, &there), 8191);
	check_bytes(there, 0, 8191);
	check_bytes(bed.raw + 4096, 192, 8191 - 192);	/* round the end in the memory itself */

	assert_int_equal(ring_write(bed.attacher, buf, 8000), 8000);
	assert_int_equal(ring_read(bed.creator, buf, 8000), 8000);
	assert_int_equal(ring_reserve(bed.attacher, &place), 191);
	bed_close(&bed);
}

static void test_more_than_there_is_is_refused(void **state)
{
	const uint8_t *there;
	uint8_t *place;
	struct bed bed;

	(void)state;
	bed_open(&bed, 100, 100);
	assert_int_equal(ring_reserve(bed.creator, &place), 99);
	assert_int_equal(ring_commit(bed.creator, 100), -EINVAL);
	assert_int_equal(ring_commit(bed.creator, UINT64_MAX), -EINVAL);
	assert_int_equal(ring_commit(bed.creator, 10), 0);
	assert_int_equal(ring_acquire(bed.attacher, &there), 10);
	assert_int_equal(ring_release(bed.attacher, 11), -EINVAL);
	assert_int_equal(ring_release(bed.attacher, UINT64_MAX), -EINVAL);
	assert_int_equal(ring_release(bed.attacher, 0), 0);
	assert_int_equal(ring_release(bed.attacher, 10), 0);
	bed_close(&bed);
}

static void test_the_index_of_the_peer_is_read_when_needed(void **state)
{
	struct bed bed;
	uint8_t byte;

	(void)state;
	bed_open(&bed, 100, 100);
	assert_int_equal(ring_write(bed.creator, "12345", 5), 5);
	assert_int_equal(ring_read(bed.attacher, &byte, 1), 1);
	/* Four bytes are known of: that the index has become nonsense is not seen yet. */
	atomic_store(raw64(&bed, 8), 12345);
	assert_int_equal(ring_read(bed.attacher, &byte, 1), 1);
	assert_int_equal(ring_ready(bed.attacher, 3), 3);
	assert_int_equal(ring_ready(bed.attacher, 4), -EBADMSG);
	bed_close(&bed);
}

/* --- Peers that lie ---------------------------------------------------------------------------------------------- */

static void test_s7_1_index_out_of_range(void **state)
{
	const uint64_t wrong[] = { 100, 101, 1u << 20, 1ull << 32, UINT64_MAX, UINT64_MAX - 99 };
	const uint64_t second = 8192;
	const uint8_t *there;
	uint8_t *place;
	struct bed bed;
	uint8_t buf[8];

	(void)state;
	bed_open(&bed, 100, 100);
	for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++) {
		atomic_store(raw64(&bed, second + 8), wrong[i]);
		assert_int_equal(ring_ready(bed.creator, UINT64_MAX), -EBADMSG);
		assert_int_equal(ring_read(bed.creator, buf, sizeof(buf)), -EBADMSG);
		assert_int_equal(ring_peek(bed.creator, buf, sizeof(buf)), -EBADMSG);
		assert_int_equal(ring_acquire(bed.creator, &there), -EBADMSG);
		assert_int_equal(ring_arm(bed.creator, RING_IN), -EBADMSG);
		assert_int_equal(ring_arm(bed.creator, RING_IN | RING_OUT), -EBADMSG);
		atomic_store(raw64(&bed, second + 8), 0);

		atomic_store(raw64(&bed, second + 16), wrong[i]);
		assert_int_equal(ring_room(bed.creator, UINT64_MAX), -EBADMSG);
		assert_int_equal(ring_write(bed.creator, buf, 100), -EBADMSG);
		assert_int_equal(ring_reserve(bed.creator, &place), -EBADMSG);
		assert_int_equal(ring_arm(bed.creator, RING_OUT), -EBADMSG);
		atomic_store(raw64(&bed, second + 16), 0);
	}
	/* No harm was done. */
	assert_int_equal(ring_write(bed.attacher, "ok", 2), 2);
	assert_int_equal(ring_read(bed.creator, buf, sizeof(buf)), 2);
	bed_close(&bed);
}

static void test_index_moves_backwards(void **state)
{
	const uint64_t second = 8192;
	const uint8_t *there;
	struct bed bed;
	uint8_t buf[100] = { 0 };

	(void)state;
	bed_open(&bed, 100, 100);
	assert_int_equal(ring_write(bed.attacher, buf, 50), 50);
	assert_int_equal(ring_acquire(bed.creator, &there), 50);
	atomic_store(raw64(&bed, second + 8), 20);
	assert_int_equal(ring_ready(bed.creator, UINT64_MAX), -EBADMSG);
	assert_int_equal(ring_release(bed.creator, 50), 0);	/* what was acquired stays so */
	atomic_store(raw64(&bed, second + 8), 50);
	assert_int_equal(ring_ready(bed.creator, UINT64_MAX), 0);

	assert_int_equal(ring_write(bed.creator, buf, 60), 60);
	atomic_store(raw64(&bed, second + 16), 40);
	assert_int_equal(ring_room(bed.creator, UINT64_MAX), 79);
	atomic_store(raw64(&bed, second + 16), 30);
	assert_int_equal(ring_room(bed.creator, UINT64_MAX), -EBADMSG);
	atomic_store(raw64(&bed, second + 16), 61);	/* has read what was never written */
	assert_int_equal(ring_room(bed.creator, UINT64_MAX), -EBADMSG);
	assert_int_equal(ring_write(bed.creator, buf, 79), 79);
	bed_close(&bed);
}

static void test_an_index_in_a_ring_of_no_bytes(void **state)
{
	struct bed bed;
	uint8_t buf[8];

	(void)state;
	bed_open(&bed, 100, 0);
	atomic_store(raw64(&bed, 8192 + 8), 1);
	assert_int_equal(ring_read(bed.creator, buf, sizeof(buf)), -EBADMSG);
	assert_int_equal(ring_write(bed.creator, buf, sizeof(buf)), 8);
	bed_close(&bed);
}

static void test_own_header_is_never_read(void **state)
{
	const uint64_t second = 8192;
	struct bed bed;
	uint8_t buf[100] = { 0 };

	(void)state;
	bed_open(&bed, 100, 100);
	assert_int_equal(ring_write(bed.creator, buf, 10), 10);
	assert_int_equal(ring_write(bed.attacher, buf, 10), 10);
	memset(bed.raw, 0xff, 4096);	/* the peer writes into ours */
	assert_int_equal(ring_room(bed.creator, UINT64_MAX), 89);
	assert_int_equal(ring_ready(bed.creator, UINT64_MAX), 10);
	assert_int_equal(ring_read(bed.creator, buf, 4), 4);
	assert_int_equal(get_le64(bed.raw + 16), 4);
	assert_int_equal(ring_write(bed.creator, buf, 1), 1);
	assert_int_equal(get_le64(bed.raw + 8), 11);
	assert_int_equal(ring_arm(bed.creator, RING_OUT), RING_OUT);
	assert_int_equal(get_le64(bed.raw + second + 8), 10);
	bed_close(&bed);
}

static unsigned wakeups(const struct ring *ring)
{
	uint8_t buf[65536];
	ssize_t n = recv(ring_fd(ring), buf, sizeof(buf), MSG_DONTWAIT);

	return n > 0 ? (unsigned)n : 0;
}

/* One number is answered once, however often it is looked at; another is another request. */
static void test_garbage_in_want(void **state)
{
	const uint64_t second = 4096 * 2;
	struct bed bed;
	uint8_t byte = 0;

	(void)state;
	bed_open(&bed, 4000, 4000);
	atomic_store(raw32(&bed, second + RING_WANT_IN_OFFSET), 0xdeadbeef);
	for (int i = 0; i < 100; i++)
		assert_int_equal(ring_write(bed.creator, &byte, 1), 1);
	assert_int_equal(wakeups(bed.attacher), 1);
	for (uint32_t i = 0; i < 100; i++) {
		atomic_store(raw32(&bed, second + RING_WANT_IN_OFFSET), i * 0x01010101u);
		assert_int_equal(ring_write(bed.creator, &byte, 1), 1);
	}
	assert_int_equal(wakeups(bed.attacher), 99);	/* 0 is none */
	/* Nobody reads them: it does not wait, and nobody leaves. */
	for (uint32_t i = 1; i < 3000; i++) {
		atomic_store(raw32(&bed, second + RING_WANT_IN_OFFSET), i);
		assert_int_equal(ring_write(bed.creator, &byte, 1), 1);
	}
	assert_int_equal(ring_state(bed.creator), RING_ATTACHED);
	assert_in_range(wakeups(bed.attacher), 1, 2999);
	bed_close(&bed);
}

static void test_bytes_without_need(void **state)
{
	uint8_t flood[1000] = { 0 };
	struct bed bed;

	(void)state;
	bed_open(&bed, 100, 100);
	assert_int_equal(send(ring_fd(bed.attacher), flood, sizeof(flood), MSG_NOSIGNAL), sizeof(flood));
	for (int i = 0; i < 4; i++)
		assert_true(ring_hear(bed.creator, false));
	assert_false(ring_hear(bed.creator, false));
	assert_int_equal(ring_state(bed.creator), RING_ATTACHED);
	assert_int_equal(ring_peer(bed.creator), CID);
	bed_close(&bed);
}

/* --- Waking ------------------------------------------------------------------------------------------------------ */

static bool is_readable(const struct ring *ring)
{
	struct pollfd fd = { .fd = ring_fd(ring), .events = POLLIN };

	return poll(&fd, 1, 0) > 0;
}

static void test_a_request_brings_one_wakeup(void **state)
{
	uint8_t buf[99] = { 0 };
	struct bed bed;

	(void)state;
	bed_open(&bed, 100, 100);
	assert_int_equal(ring_write(bed.creator, buf, 1), 1);
	assert_false(is_readable(bed.attacher));	/* not asked for */

	assert_int_equal(ring_arm(bed.attacher, RING_IN), RING_IN);	/* there already */
	assert_int_equal(ring_write(bed.creator, buf, 1), 1);
	assert_false(is_readable(bed.attacher));	/* withdrawn */

	assert_int_equal(ring_read(bed.attacher, buf, 99), 2);
	assert_int_equal(ring_arm(bed.attacher, RING_IN), 0);
	for (int i = 0; i < 50; i++)
		assert_int_equal(ring_write(bed.creator, buf, 1), 1);
	assert_int_equal(wakeups(bed.attacher), 1);

	assert_int_equal(ring_read(bed.attacher, buf, 99), 50);
	assert_int_equal(ring_arm(bed.attacher, RING_IN | RING_OUT), RING_OUT);
	ring_disarm(bed.attacher, RING_IN);
	assert_int_equal(ring_write(bed.creator, buf, 99), 99);
	assert_false(is_readable(bed.attacher));

	assert_int_equal(ring_arm(bed.creator, RING_OUT), 0);
	assert_int_equal(ring_read(bed.attacher, buf, 1), 1);
	assert_int_equal(ring_read(bed.attacher, buf, 1), 1);
	assert_int_equal(wakeups(bed.creator), 1);
	bed_close(&bed);
}

static void test_numbers_go_round(void **state)
{
	struct bed bed;
	uint8_t byte;

	(void)state;
	bed_open(&bed, 100, 100);
	bed.attacher->in.asked = UINT32_MAX - 1;
	for (int i = 0; i < 4; i++) {
		assert_int_equal(ring_arm(bed.attacher, RING_IN), 0);
		assert_int_not_equal(atomic_load(raw32(&bed, 8192 + RING_WANT_IN_OFFSET)), 0);
		assert_int_equal(ring_write(bed.creator, "x", 1), 1);
		assert_int_equal(wakeups(bed.attacher), 1);
		assert_int_equal(ring_read(bed.attacher, &byte, 1), 1);
	}
	bed_close(&bed);
}

/* --- Coming and leaving ------------------------------------------------------------------------------------------ */

static void test_the_hello(void **state)
{
	const uint8_t hello[6] = { 0x67, 0x12, 0, 0, 0, 0 };
	int memory, life;
	struct ring *ring;

	(void)state;
	assert_int_equal(ring_create(100, 100, &ring, &memory, &life), 0);
	assert_int_equal(ring_write(ring, "before", 6), 6);
	assert_false(ring_hear(ring, false));
	assert_int_equal(ring_state(ring), RING_WAITING);
	assert_int_equal(ring_peer(ring), VMCI_INVALID_ID);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(send(life, hello + i, 1, 0), 1);
		assert_true(ring_hear(ring, false));
		assert_int_equal(ring_state(ring), RING_WAITING);
	}
	assert_int_equal(send(life, hello + 3, 3, 0), 3);
	assert_true(ring_hear(ring, false));
	assert_int_equal(ring_state(ring), RING_ATTACHED);
	assert_int_equal(ring_peer(ring), 0x1267);
	close(life);
	assert_true(ring_hear(ring, false));
	assert_int_equal(ring_state(ring), RING_LEFT);
	close(memory);
	ring_free(ring);
}

static void test_what_was_written_before_the_end_can_be_read(void **state)
{
	struct bed bed;
	uint8_t buf[8];

	(void)state;
	bed_open(&bed, 100, 100);
	assert_int_equal(ring_arm(bed.creator, RING_IN), 0);
	assert_int_equal(ring_write(bed.attacher, "last", 4), 4);
	assert_int_equal(ring_write(bed.creator, "lost", 4), 4);
	bed.attacher = ring_free(bed.attacher);
	assert_true(ring_hear(bed.creator, true));
	assert_true(ring_hear(bed.creator, true));
	assert_int_equal(ring_state(bed.creator), RING_LEFT);
	assert_true(ring_hear(bed.creator, true));	/* and it never waits again */
	assert_int_equal(ring_read(bed.creator, buf, 8), 4);
	assert_memory_equal(buf, "last", 4);
	bed_close(&bed);
}

static void test_a_wakeup_finds_the_peer_gone(void **state)
{
	struct bed bed;

	(void)state;
	bed_open(&bed, 100, 100);
	assert_int_equal(ring_arm(bed.attacher, RING_IN), 0);
	bed.attacher = ring_free(bed.attacher);
	assert_int_equal(ring_write(bed.creator, "x", 1), 1);	/* no SIGPIPE */
	assert_int_equal(ring_state(bed.creator), RING_LEFT);
	bed_close(&bed);
}

static void test_leaving_is_seen_in_spite_of_copies(void **state)
{
	struct bed bed;
	int copy;

	(void)state;
	bed_open(&bed, 100, 100);
	copy = dup(ring_fd(bed.creator));
	ring_leave(bed.creator);
	assert_true(ring_hear(bed.attacher, false));
	assert_int_equal(ring_state(bed.attacher), RING_LEFT);
	close(copy);
	bed_close(&bed);
}

/* --- Two threads, two processes ---------------------------------------------------------------------------------- */

/* Sleeps until @way of @ring can go on. Return: false: the peer has gone; fails when it takes too long */
static bool sleep_for(struct ring *ring, unsigned way)
{
	struct pollfd fd = { .fd = ring_fd(ring), .events = POLLIN };
	int armed = ring_arm(ring, way);

	if (armed)
		return armed > 0;
	if (ring_state(ring) == RING_LEFT)
		return false;
	if (poll(&fd, 1, LIMIT_MS) != 1)
		fail_msg("a wake-up was lost");
	ring_hear(ring, false);
	return true;
}

struct job {
	struct ring *ring;
	uint64_t bytes;
	unsigned seed;
};

static void *produce(void *arg)
{
	struct job *job = arg;
	uint64_t done = 0;

	while (done < job->bytes) {
		size_t n = (size_t)rand_r(&job->seed) % 256 + 1, len;

		if (n > job->bytes - done)
			n = job->bytes - done;
		len = put_some(job->ring, done, n, n & 1);
		done += len;
		if (!len && !sleep_for(job->ring, RING_OUT))
			break;
	}
	return NULL;
}

static void *consume(void *arg)
{
	struct job *job = arg;
	uint64_t done = 0;

	while (done < job->bytes) {
		size_t len = get_some(job->ring, done, (size_t)rand_r(&job->seed) % 256 + 1, job->seed & 1);

		done += len;
		if (!len && !sleep_for(job->ring, RING_IN))
			break;
	}
	job->bytes = done;
	return NULL;
}

/*
 * The attacher's view without a mapping of its own: a thread sanitizer knows memory by its address, so only this way it
 * sees that the bytes are ordered by the indices.
 */
static void mirror(struct bed *bed)
{
	const struct ring_way *out = &bed->creator->out, *in = &bed->creator->in;
	struct ring *to = bed->attacher;

	to->in.data = out->data;
	to->in.peer_index = out->own_index;
	to->in.own_index = out->peer_index;
	to->in.peer_want = out->own_want;
	to->in.own_want = out->peer_want;
	to->out.data = in->data;
	to->out.peer_index = in->own_index;
	to->out.own_index = in->peer_index;
	to->out.peer_want = in->own_want;
	to->out.own_want = in->peer_want;
}

static void transfer(uint64_t size, bool mirrored, uint64_t bytes)
{
	struct job jobs[2];
	pthread_t threads[2];
	struct bed bed;

	bed_open(&bed, size, size);
	if (mirrored)
		mirror(&bed);
	jobs[0] = (struct job){ .ring = bed.creator, .bytes = bytes, .seed = 1 };
	jobs[1] = (struct job){ .ring = bed.attacher, .bytes = bytes, .seed = 2 };
	assert_int_equal(pthread_create(&threads[0], NULL, produce, &jobs[0]), 0);
	assert_int_equal(pthread_create(&threads[1], NULL, consume, &jobs[1]), 0);
	pthread_join(threads[0], NULL);
	pthread_join(threads[1], NULL);
	assert_int_equal(jobs[1].bytes, bytes);
	bed_close(&bed);
}

static void test_two_threads(void **state)
{
	(void)state;
	transfer(2, true, 3000);	/* sleeps for each byte */
	transfer(100, true, 300000);
	transfer(5000, true, 1000000);
	transfer(4096, false, 1000000);
}

/* Runs @child in a process of its own, which is killed with us. */
static pid_t process(void (*child)(int memory, int life), int memory, int life)
{
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		child(memory, life);
		_exit(0);
	}
	return pid;
}

#define ROUNDS 3000u

static void child_echoes(int memory, int life)
{
	struct ring *ring;
	uint8_t byte;

	if (ring_map(memory, life, CID, 100, 2, &ring))
		_exit(1);
	for (unsigned i = 0; i < ROUNDS; i++) {
		while (!ring_read(ring, &byte, 1))
			if (!sleep_for(ring, RING_IN))
				_exit(2);
		byte++;
		if (ring_write(ring, &byte, 1) != 1)
			_exit(3);
	}
}

static void test_two_processes_wake_each_other(void **state)
{
	int memory, life, status;
	struct ring *ring;
	uint8_t byte;
	pid_t pid;

	(void)state;
	assert_int_equal(ring_create(2, 100, &ring, &memory, &life), 0);
	pid = process(child_echoes, memory, life);
	close(life);
	close(memory);
	for (unsigned i = 0; i < ROUNDS; i++) {
		byte = (uint8_t)i;
		while (!ring_write(ring, &byte, 1))
			assert_true(sleep_for(ring, RING_OUT));
		while (!ring_read(ring, &byte, 1))
			assert_true(sleep_for(ring, RING_IN));
		assert_int_equal(byte, (uint8_t)(i + 1));
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	ring_free(ring);
}

static void child_produces(int memory, int life)
{
	struct job job = { .bytes = UINT64_MAX, .seed = 3 };

	if (!ring_map(memory, life, CID, 100, 0, &job.ring))
		produce(&job);
}

/* Whatever it did when it died: we read what it wrote, in order, then learn that it has gone. */
static void test_a_process_dies_at_any_time(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 30; i++) {
		struct job job = { .bytes = UINT64_MAX, .seed = i };
		int memory, life, status;
		pid_t pid;

		assert_int_equal(ring_create(0, 100, &job.ring, &memory, &life), 0);
		pid = process(child_produces, memory, life);
		close(life);
		close(memory);
		if (i % 3 == 0) {	/* else we may be asleep, or in the middle, when it happens */
			usleep(i * 300);
			kill(pid, SIGKILL);
			consume(&job);
		} else {
			pid_t killer = fork();

			assert_true(killer >= 0);
			if (!killer) {
				usleep(i * 200);
				kill(pid, SIGKILL);
				_exit(0);
			}
			consume(&job);
			assert_int_equal(waitpid(killer, &status, 0), killer);
		}
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_int_equal(ring_state(job.ring), RING_LEFT);
		assert_int_equal(ring_ready(job.ring, UINT64_MAX), 0);
		ring_free(job.ring);
	}
}

static void child_scribbles(int memory, int life)
{
	size_t size = ring_memory_size(100, 5000);
	uint8_t *raw = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0);
	unsigned seed = 5;

	if (raw == MAP_FAILED)
		_exit(1);
	for (unsigned i = 0;; i++) {
		size_t at = (size_t)rand_r(&seed) % 512 / 8 * 8;
		uint64_t value = (uint64_t)rand_r(&seed) % (rand_r(&seed) & 1 ? 128 : UINT64_MAX);

		memcpy(raw + (rand_r(&seed) & 1 ? at : 8192 + at), &value, sizeof(value));
		if (i % 64 == 0)
			send(life, &value, rand_r(&seed) % 8, MSG_DONTWAIT | MSG_NOSIGNAL);
	}
}

/* Nothing that it does makes us wait, or leave our memory (sanitizers look at that). */
static void test_a_peer_that_writes_anything_anywhere(void **state)
{
	uint8_t buf[6000], *place;
	const uint8_t *there;
	int memory, life;
	struct ring *ring;
	uint64_t bad = 0;
	pid_t pid;

	(void)state;
	assert_int_equal(ring_create(100, 5000, &ring, &memory, &life), 0);
	pid = process(child_scribbles, memory, life);
	for (unsigned i = 0; i < 100000; i++) {
		int64_t n = ring_write(ring, buf, i % 128);

		assert_true(n == -EBADMSG || (n >= 0 && n <= 99));
		bad += n < 0;
		n = ring_read(ring, buf, sizeof(buf));
		assert_true(n == -EBADMSG || (n >= 0 && n <= 4999));
		bad += n < 0;
		n = ring_reserve(ring, &place);
		assert_true(n == -EBADMSG || (n >= 0 && n <= 99));
		if (n > 0) {
			assert_true(place >= ring->out.data && place + n <= ring->out.data + 100);
			assert_int_equal(ring_commit(ring, (uint64_t)n), 0);
		}
		n = ring_acquire(ring, &there);
		assert_true(n == -EBADMSG || (n >= 0 && n <= 4999));
		if (n > 0) {
			assert_true(there >= ring->in.data && there + n <= ring->in.data + 5000);
			assert_int_equal(ring_release(ring, (uint64_t)n), 0);
		}
		ring_arm(ring, i % 4);
		ring_hear(ring, false);
	}
	assert_true(bad > 0);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	close(life);
	close(memory);
	ring_free(ring);
}

static void test_nothing_is_left_open(void **state)
{
	int fds = rig_count_fds();
	struct bed bed;

	(void)state;
	bed_open(&bed, 4096, 5000);
	bed_close(&bed);
	assert_null(ring_free(NULL));
	assert_int_equal(rig_count_fds(), fds);
}

/* The peer of @ring sends what we would wait for, if it can. */
static void send_tarpit(struct ring *from, unsigned depth)
{
	int fd = tarpit_nested(depth);

	if (tarpit_send(ring_fd(from), &fd, 1)) {
		assert_int_equal(errno, EPERM);		/* the kernel has seen to it */
		closer_close(&fd);
	}
}

/* Each end sends the other one something; it is heard of, or never, and nobody waits for it. */
static void test_descriptors_that_take_long_to_close(void **state)
{
	int before = rig_count_fds();

	(void)state;
	assert_int_equal(closer_start(100), 0);
	for (unsigned depth = 0; depth < 3; depth++) {
		int64_t began = tarpit_now_ms();
		struct bed bed;

		bed_open(&bed, 4096, 4096);
		send_tarpit(bed.attacher, depth);
		send_tarpit(bed.creator, depth);
		if (depth) {
			ring_hear(bed.creator, false);
			ring_hear(bed.attacher, false);
			/* The attacher's end was made by the creator: the kernel is not asked to guard it. */
			assert_int_equal(ring_state(bed.attacher), RING_LEFT);
		}
		bed_close(&bed);
		assert_true(tarpit_now_ms() - began < TARPIT_LIMIT_MS);
	}
	closer_stop();
	/* the reader of all */
	assert_int_equal(rig_count_fds(), before + 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_s7_1_sizes),
		cmocka_unit_test(test_s7_1_layout),
		cmocka_unit_test(test_memory_is_sealed_and_exact),
		cmocka_unit_test(test_foreign_memory_is_checked),
		cmocka_unit_test(test_huge_pages_are_refused),
		cmocka_unit_test(test_foreign_life_is_checked),
		cmocka_unit_test(test_a_ring_holds_one_byte_less),
		cmocka_unit_test(test_bytes_come_in_order_round_the_end),
		cmocka_unit_test(test_spans_of_whole_pages_do_not_break),
		cmocka_unit_test(test_more_than_there_is_is_refused),
		cmocka_unit_test(test_the_index_of_the_peer_is_read_when_needed),
		cmocka_unit_test(test_s7_1_index_out_of_range),
		cmocka_unit_test(test_index_moves_backwards),
		cmocka_unit_test(test_an_index_in_a_ring_of_no_bytes),
		cmocka_unit_test(test_own_header_is_never_read),
		cmocka_unit_test(test_garbage_in_want),
		cmocka_unit_test(test_bytes_without_need),
		cmocka_unit_test(test_a_request_brings_one_wakeup),
		cmocka_unit_test(test_numbers_go_round),
		cmocka_unit_test(test_the_hello),
		cmocka_unit_test(test_what_was_written_before_the_end_can_be_read),
		cmocka_unit_test(test_a_wakeup_finds_the_peer_gone),
		cmocka_unit_test(test_leaving_is_seen_in_spite_of_copies),
		cmocka_unit_test(test_two_threads),
		cmocka_unit_test(test_two_processes_wake_each_other),
		cmocka_unit_test(test_a_process_dies_at_any_time),
		cmocka_unit_test(test_a_peer_that_writes_anything_anywhere),
		cmocka_unit_test(test_descriptors_that_take_long_to_close),
		cmocka_unit_test(test_nothing_is_left_open),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
