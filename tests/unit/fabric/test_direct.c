/* SPDX-License-Identifier: BSD-2-Clause */
/* Direct queue pairs from the program's side: what a device may send, and what one may try. */
#include "rig.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/fd.h"
#include "fabric/direct.h"
#include "fabric/ring.h"
#include "proto/limits.h"

#define PAGE 4096u
#define FILE_PAGES 64u
#define IN (3u * PAGE)		/* the program reads */
#define OUT 5000u		/* and writes: two pages */
#define PAGES (1u + 3u + 1u + 2u)

/**
 * struct set - a program that awaits pages, and a device that the test plays
 * @life: the device's
 * @ram, @map: guest memory
 */
struct set {
	struct ring *ring;
	int life;
	int ram;
	uint8_t *map;
	int fds;
};

static int make_file(const char *name, size_t size, int seals)
{
	int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)size), 0);
	if (seals)
		assert_int_equal(fcntl(fd, F_ADD_SEALS, seals), 0);
	return fd;
}

static int setup(void **state)
{
	struct set *s = calloc(1, sizeof(*s));
	int memory;

	assert_non_null(s);
	s->fds = rig_count_fds();
	assert_int_equal(ring_create(OUT, IN, &s->ring, &memory, &s->life), 0);
	close(memory);
	assert_int_equal(ring_await_pages(s->ring), 0);
	s->ram = make_file("guest", FILE_PAGES * PAGE, F_SEAL_SHRINK);
	s->map = mmap(NULL, FILE_PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, s->ram, 0);
	assert_true(s->map != MAP_FAILED);
	*state = s;
	return 0;
}

static int teardown(void **state)
{
	struct set *s = *state;

	ring_free(s->ring);
	fd_close(&s->life);
	fd_close(&s->ram);
	munmap(s->map, FILE_PAGES * PAGE);
	assert_int_equal(rig_count_fds(), s->fds);
	free(s);
	return 0;
}

static void say_hello(struct set *s)
{
	uint8_t hello[4] = { 77 };

	assert_int_equal(send(s->life, hello, sizeof(hello), 0), sizeof(hello));
}

/* A sheet with the pages from @first on in one piece, for the test to spoil. */
static int make_sheet(unsigned first)
{
	const struct direct_run run = { .file = 0, .pages = PAGES, .offset = (uint64_t)first * PAGE };
	struct direct_sheet sheet;
	int fd;

	assert_int_equal(direct_sheet_new(0, IN, OUT, &run, 1, 1, &sheet, &fd), 0);
	assert_true(direct_sheet_is(&sheet, &run, 1));
	direct_sheet_done(&sheet);
	return fd;
}

static void send_fds(struct set *s, int a, int b)
{
	const int fds[] = { a, b };

	assert_int_equal(direct_send(s->life, fds, b >= 0 ? 2 : 1), 0);
}

static void begin(struct set *s)
{
	int sheet = make_sheet(8);

	say_hello(s);
	send_fds(s, sheet, s->ram);
	close(sheet);
	assert_true(ring_hear(s->ring, false));
	assert_int_equal(ring_state(s->ring), RING_ATTACHED);
	assert_int_equal(ring_pages(s->ring), 1);
	assert_int_equal(ring_peer(s->ring), 77);
}

static void check_lost(struct set *s, int32_t code)
{
	while (ring_state(s->ring) != RING_LEFT)
		assert_true(ring_hear(s->ring, false));
	assert_int_equal(ring_pages(s->ring), code);
	assert_int_equal(ring_ready(s->ring, UINT64_MAX), 0);
	assert_int_equal(ring_room(s->ring, UINT64_MAX), 0);
	assert_int_equal(ring_write(s->ring, "x", 1), 0);
	assert_int_equal(ring_read(s->ring, (char[4]){ 0 }, 4), 0);
	ring_arm(s->ring, RING_IN | RING_OUT);
	ring_disarm(s->ring, RING_IN | RING_OUT);
}

/* --- As it should be -------------------------------------------------------------------------------------------- */

static void test_pages_take_the_memory_s_place(void **state)
{
	struct set *s = *state;
	uint8_t *in = s->map + 8 * PAGE, *out = in + 4 * PAGE, buf[8];

	assert_int_equal(ring_room(s->ring, UINT64_MAX), 0);
	assert_int_equal(ring_write(s->ring, "early", 5), 0);
	put_le64(in + VMCI_QUEUE_TAIL_OFFSET, 3);
	memcpy(in + PAGE, "abc", 3);
	begin(s);
	assert_int_equal(ring_read(s->ring, buf, sizeof(buf)), 3);
	assert_memory_equal(buf, "abc", 3);
	assert_int_equal(get_le64(out + VMCI_QUEUE_HEAD_OFFSET), 3);
	assert_int_equal(ring_room(s->ring, UINT64_MAX), OUT - 1);
	assert_int_equal(ring_write(s->ring, "hello", 5), 5);
	assert_memory_equal(out + PAGE, "hello", 5);
	assert_int_equal(get_le64(out + VMCI_QUEUE_TAIL_OFFSET), 5);
}

static void test_a_child_has_nothing_of_it(void **state)
{
	struct set *s = *state;
	unsigned char present;
	int status;
	pid_t child;

	begin(s);
	assert_int_equal(mincore(s->ring->map, PAGE, &present), 0);
	child = fork();
	assert_true(child >= 0);
	if (!child)
		_exit(mincore(s->ring->map, PAGE, &present) == 0 || errno != ENOMEM);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void test_a_reason(void **state)
{
	struct set *s = *state;
	struct direct_sheet sheet;
	int fd;

	say_hello(s);
	assert_int_equal(direct_sheet_new(VMCI_ERROR_CANNOT_SHARE_PAGE, 0, 0, NULL, 0, 0, &sheet, &fd), 0);
	direct_sheet_done(&sheet);
	send_fds(s, fd, -1);
	close(fd);
	check_lost(s, VMCI_ERROR_CANNOT_SHARE_PAGE);
}

static void test_a_device_that_dies(void **state)
{
	struct set *s = *state;

	put_le64(s->map + 8 * PAGE + VMCI_QUEUE_TAIL_OFFSET, 100);
	begin(s);
	assert_int_equal(ring_ready(s->ring, UINT64_MAX), 100);
	fd_close(&s->life);
	check_lost(s, VMCI_ERROR_UNAVAILABLE);
	memset(s->ring->map, 0x11, s->ring->map_size);
	for (unsigned i = 0; i < FILE_PAGES * PAGE; i++)
		assert_int_not_equal(s->map[i], 0x11);
}

static void test_a_device_that_dies_before(void **state)
{
	struct set *s = *state;

	say_hello(s);
	fd_close(&s->life);
	check_lost(s, VMCI_ERROR_UNAVAILABLE);
}

/* --- Sheets that lie -------------------------------------------------------------------------------------------- */

struct lie {
	const char *what;
	uint64_t size;		/* of the sheet; 0: as it should be */
	unsigned at, width;	/* what is written there */
	uint64_t value;
};

static const struct lie lies[] = {
	{ "not a sheet", 0, 0, 4, 0 },
	{ "shorter than a page", PAGE - 1, 0, 0, 0 },
	{ "without the runs", PAGE, 0, 0, 0 },
	{ "with more than the runs", PAGE + 32, 0, 0, 0 },
	{ "huge", 1u << 30, 0, 0, 0 },
	{ "success, but no error", 0, DIRECT_CODE, 4, 7 },
	{ "fewer files than came", 0, DIRECT_FILES, 4, 0 },
	{ "more files than came", 0, DIRECT_FILES, 4, 2 },
	{ "another ring to read", 0, DIRECT_IN, 8, IN + 1 },
	{ "another ring to write", 0, DIRECT_OUT, 8, UINT64_MAX },
	{ "no run", PAGE, DIRECT_RUNS, 4, 0 },
	{ "runs without end", 0, DIRECT_RUNS, 4, UINT32_MAX },
	{ "more runs than may be", PAGE + 16 * (LIMIT_DIRECT_RUNS + 1), DIRECT_RUNS, 4, LIMIT_DIRECT_RUNS + 1 },
	{ "a file that is not there", 0, PAGE, 4, 1 },
	{ "a file far away", 0, PAGE, 4, UINT32_MAX },
	{ "too few pages", 0, PAGE + 4, 4, PAGES - 1 },
	{ "too many pages", 0, PAGE + 4, 4, PAGES + 1 },
	{ "no pages", 0, PAGE + 4, 4, 0 },
	{ "pages without end", 0, PAGE + 4, 4, UINT32_MAX },
	{ "an odd offset", 0, PAGE + 8, 8, PAGE + 1 },
	{ "pages behind the end of the file", 0, PAGE + 8, 8, (FILE_PAGES - PAGES + 1) * PAGE },
	{ "pages far behind it", 0, PAGE + 8, 8, UINT64_MAX & ~(uint64_t)(PAGE - 1) },
};

static void test_sheets_that_lie(void **state)
{
	struct set *s = *state;

	for (unsigned i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
		const struct lie *lie = &lies[i];
		size_t size = lie->size ? lie->size : PAGE + 16;
		int fd = make_file("lie", size, 0), good = make_sheet(8);
		uint8_t buf[PAGE + 16], value[8];

		assert_int_equal(pread(good, buf, sizeof(buf), 0), sizeof(buf));
		assert_int_equal(pwrite(fd, buf, size < sizeof(buf) ? size : sizeof(buf), 0),
				 size < sizeof(buf) ? size : sizeof(buf));
		put_le64(value, lie->value);
		assert_int_equal(pwrite(fd, value, lie->width, lie->at), lie->width);
		assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW), 0);
		say_hello(s);
		send_fds(s, fd, s->ram);
		close(fd);
		close(good);
		check_lost(s, VMCI_ERROR_INVALID_ARGS);
		if (ring_pages(s->ring) != VMCI_ERROR_INVALID_ARGS)
			fail_msg("%s", lie->what);
		teardown((void **)&s);
		setup((void **)&s);
	}
	*state = s;
}

static void test_odd_descriptors(void **state)
{
	struct set *s = *state;

	for (unsigned i = 0; i < 7; i++) {
		int fds[3] = { make_sheet(8), dup(s->ram), -1 }, unsealed, n = 2;

		switch (i) {
		case 0:		/* memory that can shrink */
			close(fds[1]);
			fds[1] = make_file("shrinks", FILE_PAGES * PAGE, 0);
			break;
		case 1:		/* no memory at all */
			close(fds[1]);
			fds[1] = rig_eventfd(0);
			break;
		case 2:		/* an ordinary file */
			close(fds[1]);
			fds[1] = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
			break;
		case 3:		/* no file */
			fd_close(&fds[1]);
			n = 1;
			break;
		case 4:		/* one too many */
			fds[2] = dup(s->ram);
			n = 3;
			break;
		case 5:		/* a sheet that can shrink */
			unsealed = make_file("sheet", PAGE + 16, 0);
			for (unsigned at = 0; at < PAGE + 16; at += 16) {
				uint8_t part[16];

				assert_int_equal(pread(fds[0], part, 16, at), 16);
				assert_int_equal(pwrite(unsealed, part, 16, at), 16);
			}
			close(fds[0]);
			fds[0] = unsealed;
			break;
		case 6:		/* memory that nobody may write to */
			close(fds[1]);
			fds[1] = make_file("read-only", FILE_PAGES * PAGE, F_SEAL_SHRINK | F_SEAL_WRITE);
			break;
		}
		say_hello(s);
		assert_int_equal(direct_send(s->life, fds, (unsigned)n), 0);
		for (unsigned j = 0; j < 3; j++)
			fd_close(&fds[j]);
		check_lost(s, i == 6 ? VMCI_ERROR_NO_RESOURCES : VMCI_ERROR_INVALID_ARGS);
		teardown((void **)&s);
		setup((void **)&s);
	}
	*state = s;
}

/* Where a snapshot belongs, and what it must be. */
static void test_snapshots_that_lie(void **state)
{
	struct set *s = *state;

	for (unsigned i = 0; i < 4; i++) {
		int fd = i == 0 ? make_file("small", direct_snapshot_size(IN) - PAGE, F_SEAL_SHRINK | F_SEAL_GROW) :
			 i == 1 ? make_file("unsealed", direct_snapshot_size(IN), 0) :
			 i == 2 ? rig_eventfd(0) : make_sheet(8);

		begin(s);
		send_fds(s, fd, i == 3 ? s->ram : -1);
		close(fd);
		check_lost(s, VMCI_ERROR_INVALID_ARGS);
		teardown((void **)&s);
		setup((void **)&s);
	}
	*state = s;
}

/* A snapshot whose indices are nonsense is a peer that has broken its ring. */
static void test_a_snapshot_that_moves_backwards(void **state)
{
	struct set *s = *state;
	uint8_t *map;
	int fd;

	put_le64(s->map + 8 * PAGE + VMCI_QUEUE_TAIL_OFFSET, 100);
	begin(s);
	assert_int_equal(ring_ready(s->ring, UINT64_MAX), 100);
	assert_int_equal(direct_snapshot_new(IN, &map, &fd), 0);
	put_le64(map + VMCI_QUEUE_TAIL_OFFSET, 99);
	munmap(map, direct_snapshot_size(IN));
	send_fds(s, fd, -1);
	close(fd);
	assert_true(ring_hear(s->ring, false));
	assert_int_equal(ring_state(s->ring), RING_LEFT);
	assert_int_equal(ring_ready(s->ring, UINT64_MAX), -EBADMSG);
}

static void test_descriptors_after_the_end(void **state)
{
	struct set *s = *state;
	uint8_t *map;
	int fd;

	begin(s);
	assert_int_equal(direct_snapshot_new(IN, &map, &fd), 0);
	munmap(map, direct_snapshot_size(IN));
	for (unsigned i = 0; i < 3; i++)
		send_fds(s, fd, s->ram);
	close(fd);
	while (ring_hear(s->ring, false))
		;
	assert_int_equal(ring_state(s->ring), RING_LEFT);
}

/* So many pairs of so many pieces that a process cannot have them all. */
static void test_too_many_mappings(void **state)
{
	enum { N = 4, RUNS = LIMIT_DIRECT_RUNS };
	const uint64_t in = (uint64_t)(RUNS - 2) / 2 * PAGE, out = (uint64_t)(RUNS - 2) / 2 * PAGE;
	struct direct_run *runs = calloc(RUNS, sizeof(*runs));
	struct set *s = *state;
	struct ring *ring[N];
	unsigned lost = 0;

	for (unsigned i = 0; i < RUNS; i++)
		runs[i] = (struct direct_run){ .pages = 1, .offset = (i % 2 ? 40 : 9) * PAGE };
	for (unsigned i = 0; i < N; i++) {
		struct direct_sheet sheet;
		int memory, life, fds[2];

		assert_int_equal(ring_create(out, in, &ring[i], &memory, &life), 0);
		assert_int_equal(ring_await_pages(ring[i]), 0);
		assert_int_equal(direct_sheet_new(0, in, out, runs, RUNS, 1, &sheet, &fds[0]), 0);
		direct_sheet_done(&sheet);
		fds[1] = s->ram;
		assert_int_equal(direct_send(life, fds, 2), 0);
		close(fds[0]);
		close(memory);
		ring_hear(ring[i], false);
		lost += ring_state(ring[i]) == RING_LEFT;
		if (ring_state(ring[i]) == RING_LEFT)
			assert_int_equal(ring_pages(ring[i]), VMCI_ERROR_NO_RESOURCES);
		close(life);
	}
	assert_int_equal(lost, N - 1);
	/* What is given back can be had again. */
	for (unsigned i = 0; i < N; i++)
		ring_free(ring[i]);
	begin(s);
	free(runs);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(test_##name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(pages_take_the_memory_s_place),
		TEST(a_child_has_nothing_of_it),
		TEST(a_reason),
		TEST(a_device_that_dies),
		TEST(a_device_that_dies_before),
		TEST(sheets_that_lie),
		TEST(odd_descriptors),
		TEST(snapshots_that_lie),
		TEST(a_snapshot_that_moves_backwards),
		TEST(descriptors_after_the_end),
		TEST(too_many_mappings),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
