/* SPDX-License-Identifier: BSD-2-Clause */
/* Guest memory: vfio-user reference, 6, and the port of base/mem.h. */
#include "rig.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/memfd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "proto/limits.h"

#define R VUS_DMA_READ
#define W VUS_DMA_WRITE
#define RW (R | W)

struct table {
	struct vus_dma *dma;
	struct mem mem;
	int fds;
};

/* The handler of src/vfio. cmocka puts its own over it for each test; use_our_handler() takes that back. */
static struct sigaction our_handler;

static void use_our_handler(void)
{
	assert_int_equal(sigaction(SIGBUS, &our_handler, NULL), 0);
}

static int setup(void **state)
{
	struct table *t = calloc(1, sizeof(*t));

	t->fds = rig_count_fds();
	assert_int_equal(vus_dma_new("table", 100, &t->dma), 0);
	t->mem = vus_dma_mem(t->dma);
	*state = t;
	return 0;
}

static int teardown(void **state)
{
	struct table *t = *state;

	assert_null(vus_dma_free(t->dma));
	assert_int_equal(rig_count_fds(), t->fds);
	assert_int_equal(rig_mapped("guest-ram"), 0);
	free(t);
	return 0;
}

static int mem_read(struct table *t, uint64_t addr, void *buf, size_t len)
{
	return t->mem.ops->read(t->mem.ctx, addr, buf, len);
}

static int mem_write(struct table *t, uint64_t addr, const void *buf, size_t len)
{
	return t->mem.ops->write(t->mem.ctx, addr, buf, len);
}

static int take(struct table *t, const uint64_t *addr, size_t n, unsigned shift, struct mem_pages **ret_pages)
{
	return t->mem.ops->take(t->mem.ctx, addr, n, shift, ret_pages);
}

static void drop(struct table *t, struct mem_pages *pages)
{
	t->mem.ops->drop(t->mem.ctx, pages);
}

static int load(struct table *t, struct mem_pages *pages, size_t off, uint64_t *ret)
{
	return t->mem.ops->load64(t->mem.ctx, pages, off, ret);
}

static int store(struct table *t, struct mem_pages *pages, size_t off, uint64_t v)
{
	return t->mem.ops->store64(t->mem.ctx, pages, off, v);
}

/* byte_at() - the byte at @addr, or -errno */
static int byte_at(struct table *t, uint64_t addr)
{
	uint8_t byte;
	int r = mem_read(t, addr, &byte, 1);

	return r < 0 ? r : byte;
}

static void test_limits_of_new(void **state)
{
	struct vus_dma *dma;

	(void)state;
	assert_int_equal(vus_dma_new("x", 0, &dma), -EINVAL);
	assert_int_equal(vus_dma_new("x", LIMIT_VFIO_MAPS + 1, &dma), -EINVAL);
	assert_null(vus_dma_free(NULL));
}

static void test_s6_1_map_with_fd_is_readable_and_writable(void **state)
{
	struct table *t = *state;
	int fd = rig_memfd(4, 1, true);
	uint8_t byte = 0x55;

	assert_int_equal(rig_map(t->dma, 0x10000, 2 * PAGE, PAGE, RW, fd), 0);
	assert_int_equal(byte_at(t, 0x10000), 2);
	assert_int_equal(byte_at(t, 0x10000 + 2 * PAGE - 1), 3);
	assert_int_equal(byte_at(t, 0x10000 - 1), -EFAULT);
	assert_int_equal(byte_at(t, 0x10000 + 2 * PAGE), -EFAULT);
	assert_int_equal(mem_write(t, 0x10000 + PAGE, &byte, 1), 0);
	assert_int_equal(pread(fd, &byte, 1, 2 * PAGE), 1);
	assert_int_equal(byte, 0x55);
	close(fd);
}

static void test_s6_1_map_without_fd_is_accepted_and_unreachable(void **state)
{
	struct table *t = *state;
	struct mem_pages *pages;
	uint64_t addr = 0xfffc0000;

	assert_int_equal(rig_map(t->dma, 0xfffc0000, 0x40000, 0, R, -1), 0);
	assert_int_equal(vus_dma_count(t->dma), 1);
	assert_int_equal(vus_dma_files(t->dma), 0);
	assert_int_equal(byte_at(t, 0xfffc0000), -EFAULT);
	assert_int_equal(take(t, &addr, 1, 12, &pages), -EFAULT);
	assert_int_equal(vus_dma_unmap(t->dma, 0xfffc0000, 0x40000), 0);
}

static void test_s6_1_read_only_map_is_never_written(void **state)
{
	struct table *t = *state;
	struct mem_pages *pages;
	uint64_t addr = 0xc0000;
	int fd = rig_memfd(1, 7, true);

	assert_int_equal(rig_map(t->dma, 0xc0000, PAGE, 0, R, fd), 0);
	assert_int_equal(byte_at(t, 0xc0000), 7);
	assert_int_equal(mem_write(t, 0xc0000, "x", 1), -EFAULT);
	assert_int_equal(t->mem.ops->store32(t->mem.ctx, 0xc0000, 1), -EFAULT);
	assert_int_equal(take(t, &addr, 1, 12, &pages), -EFAULT);
	assert_int_equal(byte_at(t, 0xc0000), 7);
	close(fd);
}

static void test_s6_4_write_only_map_is_not_read(void **state)
{
	struct table *t = *state;
	int fd = rig_memfd(1, 7, true);

	assert_int_equal(rig_map(t->dma, 0, PAGE, 0, W, fd), 0);
	assert_int_equal(byte_at(t, 0), -EFAULT);
	assert_int_equal(mem_write(t, 0, "x", 1), 0);
	close(fd);
}

static void test_s6_1_one_mapping_for_each_file(void **state)
{
	struct table *t = *state;
	int a = rig_memfd(16, 0, true), b = rig_memfd(16, 100, true);

	for (unsigned i = 0; i < 16; i++) {
		assert_int_equal(rig_map(t->dma, i * PAGE, PAGE, (15 - i) * PAGE, RW, a), 0);
		assert_int_equal(rig_map(t->dma, (i + 32) * PAGE, PAGE, i * PAGE, RW, b), 0);
	}
	assert_int_equal(vus_dma_count(t->dma), 32);
	assert_int_equal(vus_dma_files(t->dma), 2);
	assert_int_equal(rig_mapped("guest-ram"), 32 * PAGE);
	/* One descriptor for each file, and the two of the test. */
	assert_int_equal(rig_count_fds(), t->fds + 4);
	for (unsigned i = 0; i < 16; i++) {
		assert_int_equal(byte_at(t, i * PAGE), 15 - i);
		assert_int_equal(byte_at(t, (i + 32) * PAGE), 100 + i);
	}
	close(a);
	close(b);
}

static void test_s6_1_mapping_grows_and_shrinks_with_need(void **state)
{
	struct table *t = *state;
	int fd = rig_memfd(8, 0, true);

	assert_int_equal(rig_map(t->dma, 0, 2 * PAGE, 0, RW, fd), 0);
	assert_int_equal(rig_mapped("guest-ram"), 2 * PAGE);
	assert_int_equal(rig_map(t->dma, 0x100000, 2 * PAGE, 6 * PAGE, RW, fd), 0);
	assert_int_equal(rig_mapped("guest-ram"), 8 * PAGE);
	assert_int_equal(byte_at(t, 0x100000 + PAGE), 7);
	assert_int_equal(byte_at(t, PAGE), 1);
	assert_int_equal(vus_dma_unmap(t->dma, 0x100000, 2 * PAGE), 0);
	assert_int_equal(rig_mapped("guest-ram"), 2 * PAGE);
	assert_int_equal(byte_at(t, PAGE), 1);
	/* Grows again after it shrank. */
	assert_int_equal(rig_map(t->dma, 0x100000, PAGE, 3 * PAGE, RW, fd), 0);
	assert_int_equal(rig_mapped("guest-ram"), 4 * PAGE);
	assert_int_equal(byte_at(t, 0x100000), 3);
	/* The lower one goes: the upper one still needs the mapping. */
	assert_int_equal(vus_dma_unmap(t->dma, 0, 2 * PAGE), 0);
	assert_int_equal(rig_mapped("guest-ram"), 4 * PAGE);
	assert_int_equal(vus_dma_unmap(t->dma, 0x100000, PAGE), 0);
	assert_int_equal(rig_mapped("guest-ram"), 0);
	assert_int_equal(vus_dma_files(t->dma), 0);
	close(fd);
}

static void test_s6_1_rights_of_a_mapping_grow(void **state)
{
	struct table *t = *state;
	int fd = rig_memfd(2, 0, true);

	assert_int_equal(rig_map(t->dma, 0, PAGE, 0, R, fd), 0);
	assert_int_equal(rig_map(t->dma, PAGE, PAGE, PAGE, RW, fd), 0);
	assert_int_equal(vus_dma_files(t->dma), 1);
	assert_int_equal(mem_write(t, PAGE, "x", 1), 0);
	/* The rights are those of the range, whatever the mapping could do. */
	assert_int_equal(mem_write(t, 0, "x", 1), -EFAULT);
	close(fd);
}

/* reopen() - the file of @fd again, with other rights */
static int reopen(int fd, int flags)
{
	char path[64];
	int again;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	again = open(path, flags | O_CLOEXEC);
	assert_true(again >= 0);
	return again;
}

static void test_s6_4_rights_of_the_descriptor_bound_those_of_the_map(void **state)
{
	struct table *t = *state;
	int fd = rig_memfd(4, 0, true), ro = reopen(fd, O_RDONLY);

	assert_int_equal(rig_map(t->dma, 0, PAGE, 0, RW, ro), -EACCES);
	assert_int_equal(vus_dma_count(t->dma), 0);
	assert_int_equal(vus_dma_files(t->dma), 0);
	assert_int_equal(rig_map(t->dma, 0, PAGE, 0, R, ro), 0);
	assert_int_equal(byte_at(t, 0), 0);
	/* More rights of another descriptor of the file are taken. */
	assert_int_equal(rig_map(t->dma, PAGE, PAGE, PAGE, RW, fd), 0);
	assert_int_equal(mem_write(t, PAGE, "x", 1), 0);
	/* And kept, when one with fewer makes the mapping grow. */
	assert_int_equal(rig_map(t->dma, 2 * PAGE, PAGE, 3 * PAGE, R, ro), 0);
	assert_int_equal(mem_write(t, PAGE, "y", 1), 0);
	assert_int_equal(byte_at(t, 2 * PAGE), 3);
	assert_int_equal(vus_dma_files(t->dma), 1);
	close(fd);
	close(ro);
}

static void test_s1_2_overlap_is_eexist(void **state)
{
	static const struct {
		uint64_t addr, size;
	} bad[] = {
		{ 4, 4 }, { 4, 1 }, { 7, 1 }, { 5, 2 }, { 3, 2 }, { 7, 2 }, { 0, 16 }, { 3, 6 }, { 0, 5 },
	};
	struct table *t = *state;
	int fd = rig_memfd(16, 0, true);

	assert_int_equal(rig_map(t->dma, 4 * PAGE, 4 * PAGE, 0, RW, fd), 0);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_int_equal(rig_map(t->dma, bad[i].addr * PAGE, bad[i].size * PAGE, 0, RW, fd), -EEXIST);
		assert_int_equal(rig_map(t->dma, bad[i].addr * PAGE, bad[i].size * PAGE, 0, R, -1), -EEXIST);
	}
	assert_int_equal(vus_dma_count(t->dma), 1);
	assert_int_equal(rig_map(t->dma, 3 * PAGE, PAGE, 0, RW, fd), 0);
	assert_int_equal(rig_map(t->dma, 8 * PAGE, PAGE, 0, RW, fd), 0);
	close(fd);
}

static void test_s1_2_unmap_of_unknown_is_enoent(void **state)
{
	struct table *t = *state;
	int fd = rig_memfd(16, 0, true);

	assert_int_equal(vus_dma_unmap(t->dma, 0, PAGE), -ENOENT);
	assert_int_equal(rig_map(t->dma, 4 * PAGE, 4 * PAGE, 0, RW, fd), 0);
	assert_int_equal(vus_dma_unmap(t->dma, 4 * PAGE, PAGE), -ENOENT);
	assert_int_equal(vus_dma_unmap(t->dma, 5 * PAGE, 3 * PAGE), -ENOENT);
	assert_int_equal(vus_dma_unmap(t->dma, 5 * PAGE, PAGE), -ENOENT);
	assert_int_equal(vus_dma_unmap(t->dma, 4 * PAGE, 5 * PAGE), -ENOENT);
	assert_int_equal(vus_dma_unmap(t->dma, 0, 4 * PAGE), -ENOENT);
	assert_int_equal(vus_dma_unmap(t->dma, 0, UINT64_MAX), -ENOENT);
	assert_int_equal(byte_at(t, 4 * PAGE), 0);
	assert_int_equal(vus_dma_unmap(t->dma, 4 * PAGE, 4 * PAGE), 0);
	assert_int_equal(vus_dma_unmap(t->dma, 4 * PAGE, 4 * PAGE), -ENOENT);
	close(fd);
}

static void test_s1_2_too_many_maps_is_enospc(void **state)
{
	struct table *t = *state;
	int fd = rig_memfd(1, 0, true);

	for (unsigned i = 0; i < 100; i++)
		assert_int_equal(rig_map(t->dma, (uint64_t)i * PAGE, PAGE, 0, RW, i & 1 ? fd : -1), 0);
	assert_int_equal(rig_map(t->dma, 100 * PAGE, PAGE, 0, RW, fd), -ENOSPC);
	assert_int_equal(rig_map(t->dma, 100 * PAGE, PAGE, 0, R, -1), -ENOSPC);
	assert_int_equal(vus_dma_max(t->dma), 100);
	assert_int_equal(vus_dma_unmap(t->dma, 0, PAGE), 0);
	assert_int_equal(rig_map(t->dma, 100 * PAGE, PAGE, 0, RW, fd), 0);
	close(fd);
}

static void test_s1_2_too_many_files_is_enospc(void **state)
{
	struct rlimit limit = { 2048, 2048 };
	struct vus_dma *dma;
	int fd;

	(void)state;
	if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
		skip();
	assert_int_equal(vus_dma_new("files", LIMIT_VFIO_MAPS, &dma), 0);
	for (unsigned i = 0; i < LIMIT_VFIO_FILES; i++) {
		fd = rig_memfd(1, 0, true);
		assert_int_equal(rig_map(dma, (uint64_t)i * PAGE, PAGE, 0, RW, fd), 0);
		close(fd);
	}
	fd = rig_memfd(1, 0, true);
	assert_int_equal(rig_map(dma, 0x10000000, PAGE, 0, RW, fd), -ENOSPC);
	/* Maps without a file are not bounded by that. */
	assert_int_equal(rig_map(dma, 0x10000000, PAGE, 0, RW, -1), 0);
	close(fd);
	vus_dma_free(dma);
}

static void test_s6_4_bad_numbers_are_einval(void **state)
{
	static const struct {
		uint64_t addr, size, offset;
	} bad[] = {
		{ 0, 0, 0 },				/* nothing */
		{ 1, PAGE, 0 },				/* not page multiples */
		{ 0, PAGE + 1, 0 },
		{ 0, PAGE, 512 },
		{ 0, PAGE, 4 * PAGE },			/* beyond the end of the file */
		{ 0, 5 * PAGE, 0 },
		{ 0, 2 * PAGE, 3 * PAGE },
		{ 0, PAGE, UINT64_MAX - PAGE + 1 },	/* offset + size wraps */
		{ 0, 1ull << 62, 1ull << 62 },
		{ 0, 1ull << 63, 0 },
		{ UINT64_MAX - PAGE + 1, PAGE, 0 },	/* address + size wraps */
		{ UINT64_MAX - PAGE + 1, 2 * PAGE, 0 },
	};
	struct table *t = *state;
	int fd = rig_memfd(4, 0, true);

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(rig_map(t->dma, bad[i].addr, bad[i].size, bad[i].offset, RW, fd), -EINVAL);
	assert_int_equal(vus_dma_count(t->dma), 0);
	assert_int_equal(vus_dma_files(t->dma), 0);
	/* An enormous file is no reason to fail otherwise than with an errno. */
	assert_true(rig_map(t->dma, 0, 1ull << 61, 0, R, fd) < 0);
	close(fd);
}

static void test_s6_1_what_is_no_file_is_accepted_and_unreachable(void **state)
{
	struct table *t = *state;
	int pipe_fd[2], null = open("/dev/null", O_RDWR | O_CLOEXEC), event = rig_eventfd();

	assert_int_equal(pipe2(pipe_fd, O_CLOEXEC), 0);
	assert_int_equal(rig_map(t->dma, 0, PAGE, 0, RW, pipe_fd[0]), 0);
	assert_int_equal(rig_map(t->dma, PAGE, PAGE, 0, RW, null), 0);
	assert_int_equal(rig_map(t->dma, 2 * PAGE, PAGE, 0, RW, event), 0);
	assert_int_equal(vus_dma_count(t->dma), 3);
	assert_int_equal(vus_dma_files(t->dma), 0);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(byte_at(t, i * PAGE), -EFAULT);
	close(pipe_fd[0]);
	close(pipe_fd[1]);
	close(null);
	close(event);
}

static void test_s6_4_access_straddles_contiguous_maps(void **state)
{
	struct table *t = *state;
	int a = rig_memfd(2, 10, true), b = rig_memfd(2, 20, true);
	uint8_t buf[3 * PAGE];

	assert_int_equal(rig_map(t->dma, 2 * PAGE, PAGE, 0, RW, b), 0);
	assert_int_equal(rig_map(t->dma, 0, PAGE, PAGE, RW, a), 0);
	assert_int_equal(rig_map(t->dma, PAGE, PAGE, 0, RW, a), 0);
	assert_int_equal(mem_read(t, 0, buf, sizeof(buf)), 0);
	assert_int_equal(buf[0], 11);
	assert_int_equal(buf[PAGE - 1], 11);
	assert_int_equal(buf[PAGE], 10);
	assert_int_equal(buf[2 * PAGE], 20);
	memset(buf, 0x77, sizeof(buf));
	assert_int_equal(mem_write(t, PAGE - 1, buf, PAGE + 2), 0);
	assert_int_equal(byte_at(t, PAGE - 2), 11);
	assert_int_equal(byte_at(t, PAGE - 1), 0x77);
	assert_int_equal(byte_at(t, 2 * PAGE), 0x77);
	assert_int_equal(byte_at(t, 2 * PAGE + 1), 20);
	close(a);
	close(b);
}

static void test_access_is_all_or_nothing(void **state)
{
	struct table *t = *state;
	int fd = rig_memfd(2, 1, true);
	uint8_t buf[3 * PAGE] = { 0 };

	/* A hole between two maps; then a read-only map behind a writable one. */
	assert_int_equal(rig_map(t->dma, 0, PAGE, 0, RW, fd), 0);
	assert_int_equal(rig_map(t->dma, 2 * PAGE, PAGE, PAGE, RW, fd), 0);
	assert_int_equal(mem_write(t, 0, buf, sizeof(buf)), -EFAULT);
	assert_int_equal(byte_at(t, 0), 1);
	assert_int_equal(mem_read(t, 0, buf, sizeof(buf)), -EFAULT);
	assert_int_equal(buf[0], 0);
	assert_int_equal(vus_dma_unmap(t->dma, 2 * PAGE, PAGE), 0);
	assert_int_equal(rig_map(t->dma, PAGE, PAGE, PAGE, R, fd), 0);
	assert_int_equal(mem_write(t, PAGE - 8, buf, 16), -EFAULT);
	assert_int_equal(byte_at(t, PAGE - 8), 1);
	/* Addresses that wrap; nothing at all. */
	assert_int_equal(mem_read(t, UINT64_MAX, buf, 2), -EFAULT);
	assert_int_equal(mem_read(t, UINT64_MAX - 1, buf, 1), -EFAULT);
	assert_int_equal(mem_read(t, 0x1234567, buf, 0), 0);
	close(fd);
}

static void test_store32(void **state)
{
	struct table *t = *state;
	int fd = rig_memfd(1, 1, true);
	uint8_t buf[4];

	assert_int_equal(rig_map(t->dma, 0, PAGE, 0, RW, fd), 0);
	assert_int_equal(t->mem.ops->store32(t->mem.ctx, PAGE - 4, 0x04030201), 0);
	assert_int_equal(mem_read(t, PAGE - 4, buf, 4), 0);
	assert_memory_equal(buf, "\1\2\3\4", 4);
	assert_int_equal(t->mem.ops->store32(t->mem.ctx, 2, 1), -EFAULT);
	assert_int_equal(t->mem.ops->store32(t->mem.ctx, PAGE, 1), -EFAULT);
	close(fd);
}

static void test_take_checks_every_page(void **state)
{
	struct table *t = *state;
	int fd = rig_memfd(16, 1, true);
	uint64_t addr[3] = { 0, PAGE, 2 * PAGE };
	struct mem_pages *pages = NULL;

	assert_int_equal(take(t, addr, 3, 12, &pages), -EFAULT);
	assert_int_equal(rig_map(t->dma, 0, 2 * PAGE, 0, RW, fd), 0);
	assert_int_equal(take(t, addr, 3, 12, &pages), -EFAULT);
	assert_int_equal(rig_map(t->dma, 2 * PAGE, PAGE, 2 * PAGE, R, fd), 0);
	assert_int_equal(take(t, addr, 3, 12, &pages), -EFAULT);
	assert_int_equal(take(t, addr, 0, 12, &pages), -EFAULT);
	addr[1] = PAGE + 8;
	assert_int_equal(take(t, addr, 2, 12, &pages), -EFAULT);
	addr[1] = UINT64_MAX - PAGE + 1;
	assert_int_equal(take(t, addr, 2, 12, &pages), -EFAULT);
	/* A page of 64 KiB of which the last 4 KiB are not there. */
	assert_int_equal(vus_dma_unmap(t->dma, 2 * PAGE, PAGE), 0);
	assert_int_equal(rig_map(t->dma, 2 * PAGE, 13 * PAGE, 0, RW, fd), 0);
	addr[0] = 0;
	assert_int_equal(take(t, addr, 1, 16, &pages), -EFAULT);
	addr[0] = PAGE;
	assert_int_equal(take(t, addr, 1, 16, &pages), -EFAULT);
	assert_null(pages);
	drop(t, NULL);
	close(fd);
}

static void test_words_and_spans_of_pages(void **state)
{
	struct table *t = *state;
	int fd = rig_memfd(8, 0, true);
	uint64_t addr[4] = { 3 * PAGE, PAGE, 2 * PAGE, 0 }, v;
	struct mem_pages *pages;
	struct mem_span spans[8];

	assert_int_equal(rig_map(t->dma, 0, 4 * PAGE, 0, RW, fd), 0);
	assert_int_equal(take(t, addr, 4, 12, &pages), 0);
	for (unsigned i = 0; i < 4; i++) {
		assert_int_equal(load(t, pages, i * PAGE, &v), 0);
		assert_true(v == addr[i] / PAGE * 0x0101010101010101ull);
	}
	assert_int_equal(store(t, pages, PAGE - 8, 0x1122334455667788ull), 0);
	assert_int_equal(byte_at(t, 4 * PAGE - 8), 0x88);
	assert_int_equal(load(t, pages, PAGE - 8, &v), 0);
	assert_true(v == 0x1122334455667788ull);
	assert_int_equal(load(t, pages, 4 * PAGE, &v), -EFAULT);
	assert_int_equal(store(t, pages, (size_t)0 - 8, v), -EFAULT);

	/* 3 | 1 2 | 0: pages 1 and 2 are adjacent. */
	assert_int_equal(t->mem.ops->spans(t->mem.ctx, pages, 100, 4 * PAGE - 200, spans, 8), 3);
	assert_int_equal(spans[0].len, PAGE - 100);
	assert_int_equal(spans[1].len, 2 * PAGE);
	assert_int_equal(spans[2].len, PAGE - 100);
	assert_int_equal(*(uint8_t *)spans[1].base, 1);
	assert_int_equal(*((uint8_t *)spans[1].base + PAGE), 2);
	assert_int_equal(*(uint8_t *)spans[2].base, 0);
	/* Each starts where it should. */
	assert_int_equal(mem_write(t, 3 * PAGE + 100, "s", 1), 0);
	assert_int_equal(*(uint8_t *)spans[0].base, 's');
	/* Fewer spans than needed. */
	assert_int_equal(t->mem.ops->spans(t->mem.ctx, pages, 0, 4 * PAGE, spans, 2), 2);
	assert_int_equal(spans[0].len + spans[1].len, 3 * PAGE);
	/* Outside. */
	assert_int_equal(t->mem.ops->spans(t->mem.ctx, pages, 0, 4 * PAGE + 1, spans, 8), -EFAULT);
	assert_int_equal(t->mem.ops->spans(t->mem.ctx, pages, 4 * PAGE, 1, spans, 8), -EFAULT);
	assert_int_equal(t->mem.ops->spans(t->mem.ctx, pages, SIZE_MAX, 2, spans, 8), -EFAULT);
	drop(t, pages);
	close(fd);
}

static void test_s6_4_large_page_straddles_maps(void **state)
{
	struct table *t = *state;
	int a = rig_memfd(10, 0, true), b = rig_memfd(22, 100, true);
	uint64_t addr[2] = { 0x10000, 0 }, v;
	struct mem_span spans[8];
	struct mem_pages *pages;

	/* Pages 0..9 are a, 10..31 are b. */
	assert_int_equal(rig_map(t->dma, 0, 10 * PAGE, 0, RW, a), 0);
	assert_int_equal(rig_map(t->dma, 10 * PAGE, 22 * PAGE, 0, RW, b), 0);
	assert_int_equal(take(t, addr, 2, 16, &pages), 0);
	assert_int_equal(load(t, pages, 0, &v), 0);
	assert_int_equal(v & 0xff, 106);
	assert_int_equal(load(t, pages, 16 * PAGE + 9 * PAGE, &v), 0);
	assert_int_equal(v & 0xff, 9);
	assert_int_equal(load(t, pages, 16 * PAGE + 10 * PAGE, &v), 0);
	assert_int_equal(v & 0xff, 100);
	assert_int_equal(t->mem.ops->spans(t->mem.ctx, pages, 16 * PAGE, 16 * PAGE, spans, 8), 2);
	assert_int_equal(spans[0].len, 10 * PAGE);
	assert_int_equal(spans[1].len, 6 * PAGE);
	drop(t, pages);
	close(a);
	close(b);
}

static void test_s6_2_unmap_revokes_taken_pages(void **state)
{
	struct table *t = *state;
	int a = rig_memfd(2, 1, true), b = rig_memfd(2, 50, true);
	uint64_t addr[2] = { 0, PAGE }, v, generation = vus_dma_generation(t->dma);
	struct mem_span spans[2];
	struct mem_pages *pages;

	assert_int_equal(rig_map(t->dma, 0, PAGE, 0, RW, a), 0);
	assert_true(vus_dma_generation(t->dma) > generation);
	assert_int_equal(rig_map(t->dma, PAGE, PAGE, PAGE, RW, a), 0);
	assert_int_equal(take(t, addr, 2, 12, &pages), 0);
	assert_int_equal(load(t, pages, PAGE, &v), 0);
	assert_int_equal(v & 0xff, 2);

	/* One page goes: the other one stays. */
	assert_int_equal(vus_dma_unmap(t->dma, PAGE, PAGE), 0);
	assert_int_equal(load(t, pages, PAGE, &v), -EFAULT);
	assert_int_equal(store(t, pages, PAGE, 0), -EFAULT);
	assert_int_equal(t->mem.ops->spans(t->mem.ctx, pages, 0, 2 * PAGE, spans, 2), -EFAULT);
	assert_int_equal(t->mem.ops->spans(t->mem.ctx, pages, 0, PAGE, spans, 2), 1);
	assert_int_equal(load(t, pages, 0, &v), 0);

	/* It comes back in another file: that is what is seen. */
	assert_int_equal(rig_map(t->dma, PAGE, PAGE, 0, RW, b), 0);
	assert_int_equal(load(t, pages, PAGE, &v), 0);
	assert_int_equal(v & 0xff, 50);
	/* Read-only, it is not usable. */
	assert_int_equal(vus_dma_unmap(t->dma, PAGE, PAGE), 0);
	assert_int_equal(rig_map(t->dma, PAGE, PAGE, 0, R, b), 0);
	assert_int_equal(load(t, pages, PAGE, &v), -EFAULT);

	/* Everything goes. */
	vus_dma_clear(t->dma);
	assert_int_equal(vus_dma_count(t->dma), 0);
	assert_int_equal(rig_mapped("guest-ram"), 0);
	assert_int_equal(load(t, pages, 0, &v), -EFAULT);
	assert_int_equal(rig_map(t->dma, 0, PAGE, 0, RW, b), 0);
	assert_int_equal(load(t, pages, 0, &v), 0);
	assert_int_equal(v & 0xff, 50);
	drop(t, pages);
	close(a);
	close(b);
}

static void test_pages_follow_a_mapping_that_moves(void **state)
{
	struct table *t = *state;
	int fd = rig_memfd(512, 0, true);
	struct mem_pages *pages;
	uint64_t addr = 0, v;

	assert_int_equal(rig_map(t->dma, 0, PAGE, 0, RW, fd), 0);
	assert_int_equal(take(t, &addr, 1, 12, &pages), 0);
	for (unsigned i = 1; i < 100; i++) {
		assert_int_equal(store(t, pages, 8, i), 0);
		assert_int_equal(rig_map(t->dma, i * PAGE, PAGE, i * 5 * PAGE, RW, fd), 0);
		assert_int_equal(load(t, pages, 8, &v), 0);
		assert_int_equal(v, i);
	}
	drop(t, pages);
	close(fd);
}

static void test_s6_4_truncated_memory_is_survived(void **state)
{
	struct table *t = *state;
	int fd = rig_memfd(8, 1, false), other = rig_memfd(1, 9, true);
	struct vus_dma *dma;
	struct mem mem;
	struct mem_pages *pages;
	uint64_t addr = 4 * PAGE, v;
	uint8_t byte;

	use_our_handler();
	assert_int_equal(vus_dma_new("other", 10, &dma), 0);
	assert_int_equal(rig_map(dma, 0, PAGE, 0, RW, other), 0);
	assert_int_equal(rig_map(t->dma, 0, 8 * PAGE, 0, RW, fd), 0);
	assert_int_equal(take(t, &addr, 1, 12, &pages), 0);
	assert_int_equal(load(t, pages, 0, &v), 0);
	assert_int_equal(ftruncate(fd, PAGE), 0);
	assert_false(vus_dma_is_lost(t->dma));
	/* What is still there stays readable ... */
	assert_int_equal(byte_at(t, 100), 1);
	assert_false(vus_dma_is_lost(t->dma));
	/* ... and the first touch of what is not shows it. */
	load(t, pages, 0, &v);
	assert_true(vus_dma_is_lost(t->dma));
	assert_int_equal(load(t, pages, 0, &v), -EFAULT);
	assert_int_equal(store(t, pages, 0, 1), -EFAULT);
	assert_int_equal(byte_at(t, 100), -EFAULT);
	drop(t, pages);
	/* Another table does not notice. */
	assert_false(vus_dma_is_lost(dma));
	mem = vus_dma_mem(dma);
	assert_int_equal(mem.ops->read(mem.ctx, 0, &byte, 1), 0);
	assert_int_equal(byte, 9);
	vus_dma_free(dma);
	close(fd);
	close(other);
}

static void test_s6_4_truncation_seen_by_read_and_write(void **state)
{
	(void)state;
	use_our_handler();
	for (int i = 0; i < 3; i++) {
		struct vus_dma *dma;
		struct mem mem;
		uint8_t buf[2 * PAGE];
		int fd = rig_memfd(4, 1, false);

		assert_int_equal(vus_dma_new("x", 10, &dma), 0);
		mem = vus_dma_mem(dma);
		assert_int_equal(rig_map(dma, 0, 4 * PAGE, 0, RW, fd), 0);
		assert_int_equal(ftruncate(fd, 0), 0);
		if (i == 0)
			assert_int_equal(mem.ops->read(mem.ctx, PAGE + 5, buf, sizeof(buf)), -EFAULT);
		else if (i == 1)
			assert_int_equal(mem.ops->write(mem.ctx, PAGE + 5, "x", 1), -EFAULT);
		else
			assert_int_equal(mem.ops->store32(mem.ctx, PAGE, 1), -EFAULT);
		assert_true(vus_dma_is_lost(dma));
		vus_dma_free(dma);
		close(fd);
	}
	assert_int_equal(rig_mapped("guest-ram"), 0);
}

/* dies_of() - the signal that ends a child which runs @f */
static int dies_of(void (*f)(void))
{
	int status;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (!pid) {
		f();
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

static void touch_foreign(void)
{
	int fd = memfd_create("foreign", MFD_CLOEXEC);
	volatile uint8_t *p;

	if (ftruncate(fd, PAGE) < 0)
		return;
	p = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, 0);
	if (ftruncate(fd, 0) == 0)
		(void)p[0];
}

static void send_sigbus(void)
{
	kill(getpid(), SIGBUS);
}

static void test_sigbus_of_others_has_its_default_effect(void **state)
{
	struct table *t = *state;
	int fd = rig_memfd(1, 1, true);

	use_our_handler();
	assert_int_equal(rig_map(t->dma, 0, PAGE, 0, RW, fd), 0);
	assert_int_equal(dies_of(touch_foreign), SIGBUS);
	assert_int_equal(dies_of(send_sigbus), SIGBUS);
	close(fd);
}

static void test_s6_4_huge_pages(void **state)
{
	const size_t huge = 2 << 20;
	struct table *t = *state;
	int fd = memfd_create("guest-huge", MFD_CLOEXEC | MFD_HUGETLB | MFD_HUGE_2MB);
	uint64_t addr = huge, v;
	struct mem_pages *pages;

	use_our_handler();
	if (fd < 0 || ftruncate(fd, (off_t)(2 * huge)) < 0 || fallocate(fd, 0, 0, (off_t)(2 * huge)) < 0) {
		print_message("skipped: no huge pages are reserved here\n");
		close(fd);
		skip();
	}
	/* Pieces of 4 KiB; the file is mapped in whole pages of its own. */
	assert_int_equal(rig_map(t->dma, 0, huge + PAGE, 0, RW, fd), 0);
	assert_int_equal(rig_mapped("guest-huge"), 2 * huge);
	assert_int_equal(rig_map(t->dma, 0x40000000, PAGE, 5 * PAGE, RW, fd), 0);
	assert_int_equal(mem_write(t, 5 * PAGE, "huge", 4), 0);
	assert_int_equal(byte_at(t, 0x40000000 + 3), 'e');
	assert_int_equal(take(t, &addr, 1, 12, &pages), 0);
	assert_int_equal(store(t, pages, 8, 77), 0);
	/* Back to the first page; then away with all of it. */
	assert_int_equal(vus_dma_unmap(t->dma, 0, huge + PAGE), 0);
	assert_int_equal(rig_mapped("guest-huge"), huge);
	assert_int_equal(byte_at(t, 0x40000000 + 3), 'e');
	assert_int_equal(rig_map(t->dma, 0, 2 * huge, 0, RW, fd), 0);
	assert_int_equal(load(t, pages, 8, &v), 0);
	assert_int_equal(v, 77);
	assert_int_equal(ftruncate(fd, 0), 0);
	load(t, pages, 8, &v);
	assert_true(vus_dma_is_lost(t->dma));
	assert_int_equal(load(t, pages, 8, &v), -EFAULT);
	drop(t, pages);
	close(fd);
}

static void test_s6_3_share_off_is_suspected_when_ram_is_zero(void **state)
{
	struct table *t = *state;
	int fd = rig_memfd(0, 0, false);
	uint8_t *priv;

	/* Nothing mapped, or firmware only: nothing to suspect. */
	assert_false(vus_dma_is_share_off_suspected(t->dma));
	assert_int_equal(rig_map(t->dma, 0xfffc0000, PAGE, 0, R, -1), 0);
	assert_false(vus_dma_is_share_off_suspected(t->dma));

	/* The VMM maps privately, and its guest writes: blocks appear in the file, contents do not. */
	assert_int_equal(ftruncate(fd, 64 * PAGE), 0);
	priv = mmap(NULL, 64 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	assert_true(priv != MAP_FAILED);
	memset(priv, 0xff, 32 * PAGE);
	assert_int_equal(rig_map(t->dma, 0, 64 * PAGE, 0, RW, fd), 0);
	assert_int_equal(byte_at(t, 0), 0);
	assert_true(vus_dma_is_share_off_suspected(t->dma));
	munmap(priv, 64 * PAGE);

	/* The same memory, shared: found when the file is new to us. */
	vus_dma_clear(t->dma);
	assert_false(vus_dma_is_share_off_suspected(t->dma));
	assert_int_equal(pwrite(fd, "x", 1, 63 * PAGE), 1);
	assert_int_equal(rig_map(t->dma, 0, 64 * PAGE, 0, RW, fd), 0);
	assert_false(vus_dma_is_share_off_suspected(t->dma));
	close(fd);
}

static void test_s6_3_share_off_is_decided_at_the_first_use(void **state)
{
	struct table *t = *state;
	struct mem_pages *pages;
	uint64_t addr = 0;

	for (int use = 0; use < 4; use++) {
		int fd = rig_memfd(0, 0, false);

		assert_int_equal(ftruncate(fd, 4 * PAGE), 0);
		assert_int_equal(rig_map(t->dma, 0, 4 * PAGE, 0, RW, fd), 0);
		if (use == 0) {
			assert_int_equal(byte_at(t, 0), 0);
		} else if (use == 1) {
			assert_int_equal(mem_write(t, 0, "x", 1), 0);
		} else if (use == 2) {
			assert_int_equal(t->mem.ops->store32(t->mem.ctx, 0, 1), 0);
		} else {
			assert_int_equal(take(t, &addr, 1, 12, &pages), 0);
			drop(t, pages);
		}
		/* What is written later, by us or by others, does not change the answer. */
		assert_int_equal(pwrite(fd, "x", 1, PAGE), 1);
		assert_true(vus_dma_is_share_off_suspected(t->dma));
		/* Other memory is looked at anew. */
		assert_int_equal(vus_dma_unmap(t->dma, 0, 4 * PAGE), 0);
		assert_false(vus_dma_is_share_off_suspected(t->dma));
		close(fd);
		fd = rig_memfd(1, 1, false);
		assert_int_equal(rig_map(t->dma, 0, PAGE, 0, RW, fd), 0);
		assert_int_equal(byte_at(t, 0), 1);
		assert_false(vus_dma_is_share_off_suspected(t->dma));
		assert_int_equal(vus_dma_unmap(t->dma, 0, PAGE), 0);
		close(fd);
	}
}

static void test_s6_3_share_off_is_asked_again_for_new_files(void **state)
{
	struct table *t = *state;
	int high = rig_memfd(1, 1, true), low = rig_memfd(0, 0, false);

	assert_int_equal(ftruncate(low, PAGE), 0);
	assert_int_equal(rig_map(t->dma, 0x100000, PAGE, 0, RW, high), 0);
	assert_int_equal(byte_at(t, 0x100000), 1);
	assert_false(vus_dma_is_share_off_suspected(t->dma));
	/* The lowest RAM is the one that counts. */
	assert_int_equal(rig_map(t->dma, 0, PAGE, 0, RW, low), 0);
	assert_true(vus_dma_is_share_off_suspected(t->dma));
	close(high);
	close(low);
}

#define STORM_PAGES 64u
#define STORM_FILES 3u
#define STORM_TAKEN 8u

/* What the model knows about a guest page: nothing, or file, page of the file, and rights. */
struct storm_page {
	uint32_t rights;
	unsigned file;
	unsigned page;
	unsigned first, n;	/* the range it belongs to */
};

static uint8_t storm_tag(unsigned file, unsigned page)
{
	return (uint8_t)(file * 80 + page + 1);
}

static int storm_expect(const struct storm_page *page, uint32_t rights)
{
	if (!page->n || page->file == STORM_FILES || rights & ~page->rights)
		return -EFAULT;
	return storm_tag(page->file, page->page);
}

static void test_s12_1_map_storm_against_a_model(void **state)
{
	struct table *t = *state;
	struct storm_page model[STORM_PAGES] = { 0 };
	struct mem_pages *taken[STORM_TAKEN] = { NULL };
	uint64_t taken_addr[STORM_TAKEN][3];
	int fd[STORM_FILES + 1];
	unsigned maps = 0, unmaps = 0;

	srand(4711);
	for (unsigned i = 0; i < STORM_FILES; i++)
		fd[i] = rig_memfd(STORM_PAGES, storm_tag(i, 0), true);
	fd[STORM_FILES] = -1;

	for (unsigned round = 0; round < 20000; round++) {
		unsigned first = (unsigned)rand() % STORM_PAGES, n = 1 + (unsigned)rand() % 6, file, page,
			 slot;
		uint32_t rights = rand() % 4 ? RW : R;
		bool is_free = true;

		if (n > STORM_PAGES - first)
			n = STORM_PAGES - first;
		file = (unsigned)rand() % (STORM_FILES + 1);
		page = (unsigned)rand() % (STORM_PAGES - n + 1);
		for (unsigned i = first; i < first + n; i++)
			is_free = is_free && !model[i].n;
		if (rand() % 500 == 0) {
			vus_dma_clear(t->dma);
			memset(model, 0, sizeof(model));
		} else if (rand() % 2) {
			int r = rig_map(t->dma, first * PAGE, n * PAGE, page * PAGE, rights, fd[file]);

			assert_int_equal(r, is_free ? 0 : -EEXIST);
			for (unsigned i = 0; i < n && is_free; i++)
				model[first + i] = (struct storm_page){ rights, file, page + i, first, n };
			maps += is_free;
		} else {
			/* Half of the time aim at a range that is there. */
			if (model[first].n && rand() % 2) {
				n = model[first].n;
				first = model[first].first;
			}
			if (model[first].n == n && model[first].first == first) {
				assert_int_equal(vus_dma_unmap(t->dma, first * PAGE, n * PAGE), 0);
				memset(&model[first], 0, n * sizeof(model[0]));
				unmaps++;
			} else {
				assert_int_equal(vus_dma_unmap(t->dma, first * PAGE, n * PAGE), -ENOENT);
			}
		}

		for (unsigned i = 0; i < 4; i++) {
			unsigned at = (unsigned)rand() % STORM_PAGES;
			uint64_t addr = at * PAGE + (uint64_t)rand() % PAGE;

			assert_int_equal(byte_at(t, addr), storm_expect(&model[at], R));
		}

		slot = (unsigned)rand() % STORM_TAKEN;
		if (rand() % 50 == 0) {
			drop(t, taken[slot]);
			taken[slot] = NULL;
		}
		if (!taken[slot]) {
			bool is_usable = true;
			int r;

			for (unsigned i = 0; i < 3; i++) {
				unsigned at = (unsigned)rand() % STORM_PAGES;

				taken_addr[slot][i] = at * PAGE;
				is_usable = is_usable && storm_expect(&model[at], RW) >= 0;
			}
			r = take(t, taken_addr[slot], 3, 12, &taken[slot]);
			assert_int_equal(r, is_usable ? 0 : -EFAULT);
		}
		for (unsigned i = 0; taken[slot] && i < 3; i++) {
			int expect = storm_expect(&model[taken_addr[slot][i] / PAGE], RW);
			struct mem_span span;
			uint64_t v;
			int r = load(t, taken[slot], i * PAGE + 8 * ((size_t)rand() % 512), &v);

			assert_int_equal(r < 0 ? r : (int)(v & 0xff), expect);
			r = t->mem.ops->spans(t->mem.ctx, taken[slot], i * PAGE + 7, 100, &span, 1);
			assert_int_equal(r < 0 ? r : *(uint8_t *)span.base, expect);
		}
	}
	/* It was a storm. */
	assert_true(maps > 1000 && unmaps > 1000);
	for (unsigned i = 0; i < STORM_TAKEN; i++)
		drop(t, taken[i]);
	for (unsigned i = 0; i < STORM_FILES; i++)
		close(fd[i]);
}

/* --- Lending ---------------------------------------------------------------------------------------------- */

static void map_file(struct table *t, uint64_t addr, uint64_t size, uint64_t offset, int fd)
{
	assert_int_equal(rig_map(t->dma, addr, size, offset, RW, fd), 0);
	close(fd);
}

static int places(struct table *t, struct mem_pages *pages, size_t off, size_t len, struct vus_places *to)
{
	return vus_dma_places(t->dma, pages, off, len, to);
}

static void test_places_of_pages(void **state)
{
	const uint64_t addr[] = { 0x10000, 0x11000, 0x30000, 0x12000, 0x31000 };
	struct table *t = *state;
	struct vus_place place[8];
	struct vus_places at = { .place = place, .max = 8 };
	struct mem_pages *pages;
	uint8_t byte;

	map_file(t, 0x10000, 4 * PAGE, 2 * PAGE, rig_memfd(8, 1, true));
	map_file(t, 0x30000, 4 * PAGE, 0, rig_memfd(4, 50, true));
	assert_int_equal(take(t, addr, 5, 12, &pages), 0);
	assert_int_equal(places(t, pages, 0, 5 * PAGE, &at), 0);
	assert_int_equal(at.n, 4);
	assert_int_equal(at.n_fds, 2);
	assert_int_equal(place[0].offset, 2 * PAGE);
	assert_int_equal(place[0].len, 2 * PAGE);
	assert_int_equal(place[1].offset, 0);
	assert_int_equal(place[2].offset, 4 * PAGE);
	assert_int_equal(place[3].offset, PAGE);
	assert_int_equal(place[0].file, place[2].file);
	assert_int_equal(place[1].file, place[3].file);
	/* That is where they lie. */
	assert_int_equal(pread(at.fd[place[3].file], &byte, 1, (off_t)place[3].offset), 1);
	assert_int_equal(byte, 51);

	/* A part, behind what is there already: adjacent, so one. */
	at = (struct vus_places){ .place = place, .max = 8 };
	assert_int_equal(places(t, pages, 0, PAGE, &at), 0);
	assert_int_equal(places(t, pages, PAGE, PAGE, &at), 0);
	assert_int_equal(at.n, 1);
	assert_int_equal(at.n_fds, 1);

	at = (struct vus_places){ .place = place, .max = 3 };
	assert_int_equal(places(t, pages, 0, 5 * PAGE, &at), -E2BIG);
	at = (struct vus_places){ .place = place, .max = 8 };
	assert_int_equal(places(t, pages, 5 * PAGE, PAGE, &at), -EFAULT);
	assert_int_equal(places(t, pages, 4 * PAGE, 2 * PAGE, &at), -EFAULT);
	assert_int_equal(places(t, pages, 0, SIZE_MAX & ~(size_t)(PAGE - 1), &at), -EFAULT);
	assert_int_equal(vus_dma_unmap(t->dma, 0x30000, 4 * PAGE), 0);
	assert_int_equal(places(t, pages, 0, 5 * PAGE, &at), -EFAULT);
	drop(t, pages);
}

/* What can vanish, or be lacking, is not lent; and two files are the most. */
static void test_places_that_are_not_lent(void **state)
{
	const uint64_t addr[] = { 0x10000, 0x20000, 0x30000, 0x40000 };
	struct table *t = *state;
	struct vus_place place[8];
	struct vus_places at = { .place = place, .max = 8 };
	struct mem_pages *pages;

	for (unsigned i = 0; i < 4; i++)
		map_file(t, addr[i], PAGE, 0, rig_memfd(1, 1, i != 0));
	assert_int_equal(take(t, addr, 4, 12, &pages), 0);
	assert_int_equal(places(t, pages, 0, PAGE, &at), -ENOTSUP);
	assert_int_equal(places(t, pages, PAGE, 2 * PAGE, &at), 0);
	assert_int_equal(places(t, pages, 3 * PAGE, PAGE, &at), -E2BIG);
	drop(t, pages);
}

static void test_places_of_larger_pages(void **state)
{
	const uint64_t addr[] = { 0x20000, 0x10000 };
	struct table *t = *state;
	struct vus_place place[8];
	struct vus_places at = { .place = place, .max = 8 };
	struct mem_pages *pages;

	map_file(t, 0x10000, 32 * PAGE, 0, rig_memfd(32, 1, true));
	assert_int_equal(take(t, addr, 2, 16, &pages), 0);
	assert_int_equal(places(t, pages, 15 * PAGE, 2 * PAGE, &at), 0);
	assert_int_equal(at.n, 2);
	assert_int_equal(place[0].offset, 31 * PAGE);
	assert_int_equal(place[1].offset, 0);
	drop(t, pages);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_limits_of_new),
		cmocka_unit_test_setup_teardown(test_places_of_pages, setup, teardown),
		cmocka_unit_test_setup_teardown(test_places_that_are_not_lent, setup, teardown),
		cmocka_unit_test_setup_teardown(test_places_of_larger_pages, setup, teardown),
		cmocka_unit_test_setup_teardown(test_s6_1_map_with_fd_is_readable_and_writable, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_s6_1_map_without_fd_is_accepted_and_unreachable, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_s6_1_read_only_map_is_never_written, setup, teardown),
		cmocka_unit_test_setup_teardown(test_s6_4_write_only_map_is_not_read, setup, teardown),
		cmocka_unit_test_setup_teardown(test_s6_1_one_mapping_for_each_file, setup, teardown),
		cmocka_unit_test_setup_teardown(test_s6_1_mapping_grows_and_shrinks_with_need, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_s6_1_rights_of_a_mapping_grow, setup, teardown),
		cmocka_unit_test_setup_teardown(test_s6_4_rights_of_the_descriptor_bound_those_of_the_map,
						setup, teardown),
		cmocka_unit_test_setup_teardown(test_s1_2_overlap_is_eexist, setup, teardown),
		cmocka_unit_test_setup_teardown(test_s1_2_unmap_of_unknown_is_enoent, setup, teardown),
		cmocka_unit_test_setup_teardown(test_s1_2_too_many_maps_is_enospc, setup, teardown),
		cmocka_unit_test_setup_teardown(test_s1_2_too_many_files_is_enospc, setup, teardown),
		cmocka_unit_test_setup_teardown(test_s6_4_bad_numbers_are_einval, setup, teardown),
		cmocka_unit_test_setup_teardown(test_s6_1_what_is_no_file_is_accepted_and_unreachable, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_s6_4_access_straddles_contiguous_maps, setup, teardown),
		cmocka_unit_test_setup_teardown(test_access_is_all_or_nothing, setup, teardown),
		cmocka_unit_test_setup_teardown(test_store32, setup, teardown),
		cmocka_unit_test_setup_teardown(test_take_checks_every_page, setup, teardown),
		cmocka_unit_test_setup_teardown(test_words_and_spans_of_pages, setup, teardown),
		cmocka_unit_test_setup_teardown(test_s6_4_large_page_straddles_maps, setup, teardown),
		cmocka_unit_test_setup_teardown(test_s6_2_unmap_revokes_taken_pages, setup, teardown),
		cmocka_unit_test_setup_teardown(test_pages_follow_a_mapping_that_moves, setup, teardown),
		cmocka_unit_test_setup_teardown(test_s6_4_truncated_memory_is_survived, setup, teardown),
		cmocka_unit_test_setup_teardown(test_s6_4_truncation_seen_by_read_and_write, setup, teardown),
		cmocka_unit_test_setup_teardown(test_s6_4_huge_pages, setup, teardown),
		cmocka_unit_test_setup_teardown(test_sigbus_of_others_has_its_default_effect, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_s6_3_share_off_is_suspected_when_ram_is_zero, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_s6_3_share_off_is_decided_at_the_first_use, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_s6_3_share_off_is_asked_again_for_new_files, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_s12_1_map_storm_against_a_model, setup, teardown),
	};
	struct vus_dma *dma;

	if (vus_dma_new("main", 1, &dma) < 0 || sigaction(SIGBUS, NULL, &our_handler) < 0)
		return 1;
	vus_dma_free(dma);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
