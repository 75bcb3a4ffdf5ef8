/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * DOC: Theory of operation
 *
 * The table is an array of ranges, sorted by guest address, without overlaps. A range lies in a file
 * (file.c), or in nothing we can reach: firmware comes without a descriptor, and that is no error
 * (reference, 6.1). Ranges and file offsets are multiples of GRANULE, so a granule never straddles two
 * ranges; that is the unit of translation.
 *
 * Nobody outside of this file keeps an address of ours:
 *
 *  - read(), write() and store32() look addresses up each time;
 *  - struct mem_pages keeps *guest* addresses, and beside them a cache of ours, one per granule, filled on
 *    demand. The cache is good for one generation of the table, and the generation changes with every map,
 *    every unmap, and every move of a mapping. So a range that the VMM takes away is out of reach when
 *    vus_dma_unmap() returns, and a range that comes back, perhaps elsewhere in another file, is found again
 *    at the next access;
 *  - spans are good until control returns to the event loop, where alone the table can change.
 *
 * Two things make a range useless although it is in the table: no file, and too few rights (a queue pair's
 * pages need both reading and writing).
 *
 * share=off. The VMM's mapping is private then: what the guest writes does not reach the file, and we read
 * zeroes. The file's blocks do not tell (a private mapping allocates them, too); its contents do. When guest
 * memory is used for the first time, firmware and kernel have long filled the lowest megabytes; if all of
 * them are zero, nothing of it reaches us. We look with pread(2), which does not allocate pages where there
 * are holes.
 */
#include "vfio/dma.h"

#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/checked.h"
#include "base/fd.h"
#include "base/log.h"
#include "proto/limits.h"
#include "vfio/file.h"

#define GRANULE_SHIFT 12
#define GRANULE ((size_t)1 << GRANULE_SHIFT)

/**
 * struct range - guest memory that the VMM mapped
 * @addr, @size: guest-physical
 * @offset: of @addr in @file
 * @file:   NULL if out of reach
 * @rights: VUS_DMA_READ, VUS_DMA_WRITE
 */
struct range {
	uint64_t addr;
	uint64_t size;
	uint64_t offset;
	struct vus_file *file;
	uint32_t rights;
};

struct vus_dma {
	const char *name;
	struct vus_epoch epoch;

	struct range *range;	/* sorted by address */
	size_t n_ranges;
	size_t room;
	size_t max;

	struct vus_file *files;
	size_t n_files;

	size_t n_taken;		/* struct mem_pages that exist */
	bool is_probed;
	bool is_share_off;
};

/**
 * struct mem_pages - pages taken by the device
 * @generation: of the table for which @cache is good
 * @shift:      log2 of the page size
 * @size:       bytes of the linear range
 * @cache:      where granule i is; NULL = not looked up, or not there
 * @addr:       guest address of each page
 */
struct mem_pages {
	uint64_t generation;
	unsigned shift;
	size_t size;
	uint8_t **cache;
	uint64_t addr[];
};

int vus_dma_new(const char *name, size_t max_maps, struct vus_dma **ret_dma)
{
	struct vus_dma *dma;
	int r;

	if (!max_maps || max_maps > LIMIT_VFIO_MAPS)
		return -EINVAL;
	r = vus_file_init();
	if (r < 0)
		return r;
	dma = calloc(1, sizeof(*dma));
	if (!dma)
		return -ENOMEM;
	dma->name = name;
	dma->max = max_maps;
	*ret_dma = dma;
	return 0;
}

struct vus_dma *vus_dma_free(struct vus_dma *dma)
{
	if (!dma)
		return NULL;
	assert(!dma->n_taken);
	vus_dma_clear(dma);
	free(dma->range);
	free(dma);
	return NULL;
}

size_t vus_dma_count(const struct vus_dma *dma)
{
	return dma->n_ranges;
}

size_t vus_dma_max(const struct vus_dma *dma)
{
	return dma->max;
}

size_t vus_dma_files(const struct vus_dma *dma)
{
	return dma->n_files;
}

uint64_t vus_dma_generation(const struct vus_dma *dma)
{
	return atomic_load_explicit(&dma->epoch.generation, memory_order_relaxed);
}

bool vus_dma_is_lost(const struct vus_dma *dma)
{
	return atomic_load_explicit(&dma->epoch.lost, memory_order_relaxed);
}

/**
 * changed() - the table is another one now
 */
static void changed(struct vus_dma *dma)
{
	atomic_fetch_add(&dma->epoch.generation, 1);
}

/**
 * above() - index of the first range that starts above @addr
 */
static size_t above(const struct vus_dma *dma, uint64_t addr)
{
	size_t lo = 0, hi = dma->n_ranges;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (dma->range[mid].addr <= addr)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

/* --- The table -------------------------------------------------------------------------- */

/**
 * get_file() - have the memory of @map mapped
 * @fd: taken over
 *
 * Return: 0, with *@ret_file NULL if @fd is of no use; a negative errno
 */
static int get_file(struct vus_dma *dma, const struct vus_dma_map *map, int fd, struct vus_file **ret_file)
{
	int prot = PROT_READ | (map->flags & VUS_DMA_WRITE ? PROT_WRITE : 0);
	uint64_t end = map->offset + map->size;
	struct vus_file *file;
	struct stat st;
	int r, seals;

	if (fstat(fd, &st) < 0) {
		r = -errno;
		goto close_fd;
	}
	if (!S_ISREG(st.st_mode)) {
		log_warn("%s: memory at 0x%llx is no memfd or file: the device cannot reach it", dma->name,
			 (unsigned long long)map->addr);
		*ret_file = NULL;
		close(fd);
		return 0;
	}
	for (file = dma->files; file; file = file->next)
		if (vus_file_is(file, st.st_dev, st.st_ino))
			break;
	if (file) {
		r = vus_file_grow(file, fd, end, prot);
		if (r < 0)
			goto close_fd;
		*ret_file = file;
		return 0;
	}
	if (dma->n_files >= LIMIT_VFIO_FILES) {
		r = -ENOSPC;
		goto close_fd;
	}
	r = vus_file_new(&dma->epoch, fd, end, prot, &file);
	if (r < 0)
		goto close_fd;
	file->next = dma->files;
	dma->files = file;
	dma->n_files++;
	dma->is_probed = false;
	seals = fcntl(fd, F_GET_SEALS);
	if (seals < 0 || !(seals & F_SEAL_SHRINK))
		log_info("%s: memory at 0x%llx is not sealed against truncation", dma->name,
			 (unsigned long long)map->addr);
	*ret_file = file;
	return 0;

close_fd:
	close(fd);
	return r;
}

/**
 * put_file() - the range [.., @end) of @file has left the table
 */
static void put_file(struct vus_dma *dma, struct vus_file *file, uint64_t end)
{
	struct vus_file **link = &dma->files;
	uint64_t need = 0;

	if (--file->refs) {
		if (end < file->end)
			return;
		for (size_t i = 0; i < dma->n_ranges; i++) {
			const struct range *range = &dma->range[i];

			if (range->file == file && range->offset + range->size > need)
				need = range->offset + range->size;
		}
		vus_file_shrink(file, need);
		return;
	}
	while (*link != file)
		link = &(*link)->next;
	*link = file->next;
	dma->n_files--;
	dma->is_probed = false;
	vus_file_free(file);
}

/**
 * reserve() - have room for one more range
 */
static int reserve(struct vus_dma *dma)
{
	size_t room = dma->room ? dma->room * 2 : 16;
	struct range *range;

	if (dma->n_ranges >= dma->max)
		return -ENOSPC;
	if (dma->n_ranges < dma->room)
		return 0;
	if (room > dma->max)
		room = dma->max;
	range = realloc(dma->range, room * sizeof(*range));
	if (!range)
		return -ENOMEM;
	dma->range = range;
	dma->room = room;
	return 0;
}

int vus_dma_map(struct vus_dma *dma, const struct vus_dma_map *map, int fd)
{
	struct vus_file *file = NULL;
	uint64_t end;
	size_t at;
	int r;

	r = -EINVAL;
	if ((map->addr | map->size | map->offset) & (GRANULE - 1) || !map->size ||
	    !add64(map->addr, map->size, &end) || !add64(map->offset, map->size, &end))
		goto close_fd;
	at = above(dma, map->addr);
	r = -EEXIST;
	if (at > 0 && map->addr - dma->range[at - 1].addr < dma->range[at - 1].size)
		goto close_fd;
	if (at < dma->n_ranges && dma->range[at].addr - map->addr < map->size)
		goto close_fd;
	r = reserve(dma);
	if (r < 0)
		goto close_fd;
	if (fd >= 0) {
		r = get_file(dma, map, fd_take(&fd), &file);
		if (r < 0)
			return r;
	}
	if (file)
		file->refs++;
	memmove(&dma->range[at + 1], &dma->range[at], (dma->n_ranges - at) * sizeof(*dma->range));
	dma->range[at] = (struct range){
		.addr = map->addr,
		.size = map->size,
		.offset = map->offset,
		.file = file,
		.rights = map->flags & (VUS_DMA_READ | VUS_DMA_WRITE),
	};
	dma->n_ranges++;
	changed(dma);
	return 0;

close_fd:
	fd_close(&fd);
	return r;
}

int vus_dma_unmap(struct vus_dma *dma, uint64_t addr, uint64_t size)
{
	size_t at = above(dma, addr);
	struct range range;

	if (!at)
		return -ENOENT;
	range = dma->range[--at];
	if (range.addr != addr || range.size != size)
		return -ENOENT;
	dma->n_ranges--;
	memmove(&dma->range[at], &dma->range[at + 1], (dma->n_ranges - at) * sizeof(*dma->range));
	changed(dma);
	if (range.file)
		put_file(dma, range.file, range.offset + range.size);
	return 0;
}

void vus_dma_clear(struct vus_dma *dma)
{
	struct vus_file *file;

	dma->n_ranges = 0;
	changed(dma);
	while ((file = dma->files)) {
		dma->files = file->next;
		vus_file_free(file);
	}
	dma->n_files = 0;
	dma->is_probed = false;
}

/* --- share=off --------------------------------------------------------------------------- */

/**
 * is_zero() - is there nothing but zeroes?
 */
static bool is_zero(const uint8_t *buf, size_t len)
{
	return !len || (!buf[0] && !memcmp(buf, buf + 1, len - 1));
}

/**
 * probe() - find out whether guest memory is all zeroes
 */
static void probe(struct vus_dma *dma)
{
	const struct range *ram = NULL;
	uint64_t off, end;
	uint8_t buf[16384];
	ssize_t n;

	for (size_t i = 0; i < dma->n_ranges && !ram; i++)
		if (dma->range[i].file && dma->range[i].rights & VUS_DMA_WRITE)
			ram = &dma->range[i];
	if (!ram)
		return;
	dma->is_probed = true;
	dma->is_share_off = false;
	end = ram->file->end < LIMIT_VFIO_PROBE ? ram->file->end : LIMIT_VFIO_PROBE;
	for (off = 0; off < end; off += (uint64_t)n) {
		n = pread(ram->file->fd, buf, sizeof(buf) < end - off ? sizeof(buf) : end - off, (off_t)off);
		if (n <= 0 || !is_zero(buf, (size_t)n))
			return;
	}
	dma->is_share_off = true;
	log_warn("%s: guest memory is all zeroes: the VMM seems to keep it private; "
		 "use -object memory-backend-memfd,share=on", dma->name);
}

bool vus_dma_is_share_off_suspected(struct vus_dma *dma)
{
	if (!dma->is_probed)
		probe(dma);
	return dma->is_probed && dma->is_share_off;
}

/* --- The port --------------------------------------------------------------------------- */

/**
 * translate() - where is guest address @addr?
 * @rights:  needed
 * @ret_len: bytes from there to the end of the range, > 0
 *
 * Return: an address good until the table changes; NULL if it cannot be used
 */
static uint8_t *translate(struct vus_dma *dma, uint64_t addr, uint32_t rights, uint64_t *ret_len)
{
	const struct range *range;
	size_t at;

	if (vus_dma_is_lost(dma))
		return NULL;
	at = above(dma, addr);
	if (!at)
		return NULL;
	range = &dma->range[at - 1];
	if (addr - range->addr >= range->size || !range->file || rights & ~range->rights)
		return NULL;
	*ret_len = range->size - (addr - range->addr);
	return range->file->base + range->offset + (addr - range->addr);
}

/**
 * is_usable() - can all of [@p_addr, @p_addr + @len) be used with @rights?
 */
static bool is_usable(struct vus_dma *dma, uint64_t p_addr, size_t len, uint32_t rights)
{
	uint64_t end, part;

	if (!add64(p_addr, len, &end))
		return false;
	for (uint64_t addr = p_addr; addr < end; addr += part)
		if (!translate(dma, addr, rights, &part))
			return false;
	return true;
}

static int port_read(void *ctx, uint64_t p_addr, void *buf, size_t len)
{
	struct vus_dma *dma = ctx;
	uint8_t *to = buf;
	uint64_t part;

	if (!dma->is_probed)
		probe(dma);
	if (!is_usable(dma, p_addr, len, VUS_DMA_READ))
		return -EFAULT;
	for (; len; len -= part, p_addr += part, to += part) {
		const uint8_t *from = translate(dma, p_addr, VUS_DMA_READ, &part);

		if (!from)
			return -EFAULT;
		if (part > len)
			part = len;
		memcpy(to, from, part);
	}
	return vus_dma_is_lost(dma) ? -EFAULT : 0;
}

static int port_write(void *ctx, uint64_t p_addr, const void *buf, size_t len)
{
	struct vus_dma *dma = ctx;
	const uint8_t *from = buf;
	uint64_t part;

	if (!dma->is_probed)
		probe(dma);
	if (!is_usable(dma, p_addr, len, VUS_DMA_WRITE))
		return -EFAULT;
	for (; len; len -= part, p_addr += part, from += part) {
		uint8_t *to = translate(dma, p_addr, VUS_DMA_WRITE, &part);

		if (!to)
			return -EFAULT;
		if (part > len)
			part = len;
		memcpy(to, from, part);
	}
	return vus_dma_is_lost(dma) ? -EFAULT : 0;
}

static int port_store32(void *ctx, uint64_t p_addr, uint32_t v)
{
	struct vus_dma *dma = ctx;
	uint64_t part;
	uint8_t *p;

	if (!dma->is_probed)
		probe(dma);
	p = p_addr & 3 ? NULL : translate(dma, p_addr, VUS_DMA_WRITE, &part);
	if (!p)
		return -EFAULT;
	__atomic_store_n((uint32_t *)(void *)p, htole32(v), __ATOMIC_RELEASE);
	return vus_dma_is_lost(dma) ? -EFAULT : 0;
}

/**
 * granule() - where is granule @i of the linear range?
 *
 * Return: an address good until the table changes; NULL if it is not mapped now
 */
static uint8_t *granule(struct vus_dma *dma, struct mem_pages *pages, size_t i)
{
	uint64_t generation = vus_dma_generation(dma);
	unsigned shift = pages->shift - GRANULE_SHIFT;
	uint64_t addr, part;

	if (pages->generation != generation) {
		memset(pages->cache, 0, (pages->size >> GRANULE_SHIFT) * sizeof(*pages->cache));
		pages->generation = generation;
	}
	if (!pages->cache[i]) {
		addr = pages->addr[i >> shift] + ((i & (((size_t)1 << shift) - 1)) << GRANULE_SHIFT);
		pages->cache[i] = translate(dma, addr, VUS_DMA_READ | VUS_DMA_WRITE, &part);
	}
	return pages->cache[i];
}

/**
 * word() - where is the word of 8 bytes at @off of the linear range? The hot path of queue pairs.
 */
static inline uint64_t *word(struct vus_dma *dma, struct mem_pages *pages, size_t off)
{
	uint8_t *p;

	assert(!(off & 7));
	if (off >= pages->size)
		return NULL;
	p = pages->cache[off >> GRANULE_SHIFT];
	if (!p || pages->generation != vus_dma_generation(dma)) {
		p = granule(dma, pages, off >> GRANULE_SHIFT);
		if (!p)
			return NULL;
	}
	return (uint64_t *)(void *)(p + (off & (GRANULE - 1)));
}

static int port_take(void *ctx, const uint64_t *p_addr, size_t n, unsigned page_shift,
		     struct mem_pages **ret_pages)
{
	uint64_t page = (uint64_t)1 << page_shift, granules = 0, size, bytes, cache;
	struct vus_dma *dma = ctx;
	struct mem_pages *pages;

	assert(page_shift >= GRANULE_SHIFT && page_shift <= 16);
	if (!dma->is_probed)
		probe(dma);
	if (!n || !mul64(n, page, &size) || size > SIZE_MAX / 2)
		return -EFAULT;
	for (size_t i = 0; i < n; i++)
		if (p_addr[i] & (page - 1) || !is_usable(dma, p_addr[i], page, VUS_DMA_READ | VUS_DMA_WRITE))
			return -EFAULT;

	granules = size >> GRANULE_SHIFT;
	if (!mul64(n, sizeof(pages->addr[0]), &bytes) || !mul64(granules, sizeof(*pages->cache), &cache) ||
	    !add64(bytes, cache, &bytes) || !add64(bytes, sizeof(*pages), &bytes))
		return -ENOMEM;
	pages = calloc(1, bytes);
	if (!pages)
		return -ENOMEM;
	memcpy(pages->addr, p_addr, n * sizeof(pages->addr[0]));
	pages->generation = vus_dma_generation(dma);
	pages->shift = page_shift;
	pages->size = size;
	pages->cache = (uint8_t **)(void *)(pages->addr + n);
	dma->n_taken++;
	*ret_pages = pages;
	return 0;
}

static void port_drop(void *ctx, struct mem_pages *pages)
{
	struct vus_dma *dma = ctx;

	if (!pages)
		return;
	dma->n_taken--;
	free(pages);
}

static int port_load64(void *ctx, struct mem_pages *pages, size_t off, uint64_t *ret)
{
	const uint64_t *p = word(ctx, pages, off);

	if (!p)
		return -EFAULT;
	*ret = le64toh(__atomic_load_n(p, __ATOMIC_ACQUIRE));
	return 0;
}

static int port_store64(void *ctx, struct mem_pages *pages, size_t off, uint64_t v)
{
	uint64_t *p = word(ctx, pages, off);

	if (!p)
		return -EFAULT;
	__atomic_store_n(p, htole64(v), __ATOMIC_RELEASE);
	return 0;
}

static int port_spans(void *ctx, struct mem_pages *pages, size_t off, size_t len, struct mem_span *spans,
		      int max)
{
	struct vus_dma *dma = ctx;
	int n = 0;

	assert(len && max > 0);
	if (!range_fits(off, len, pages->size))
		return -EFAULT;
	while (len) {
		uint8_t *p = granule(dma, pages, off >> GRANULE_SHIFT);
		size_t part = GRANULE - (off & (GRANULE - 1));

		if (!p)
			return -EFAULT;
		p += off & (GRANULE - 1);
		if (part > len)
			part = len;
		if (n && (uint8_t *)spans[n - 1].base + spans[n - 1].len == p) {
			spans[n - 1].len += part;
		} else {
			if (n == max)
				break;
			spans[n++] = (struct mem_span){ .base = p, .len = part };
		}
		off += part;
		len -= part;
	}
	return n;
}

static const struct mem_ops port_ops = {
	.read = port_read,
	.write = port_write,
	.store32 = port_store32,
	.take = port_take,
	.drop = port_drop,
	.load64 = port_load64,
	.store64 = port_store64,
	.spans = port_spans,
};

struct mem vus_dma_mem(struct vus_dma *dma)
{
	return (struct mem){ .ops = &port_ops, .ctx = dma };
}

/* --- Lending ----------------------------------------------------------------------------- */

/**
 * can_lend() - is a page of this file there whenever it is touched?
 */
static bool can_lend(const struct vus_file *file)
{
	int seals = fcntl(file->fd, F_GET_SEALS);
	struct statfs fs;

	return seals >= 0 && seals & F_SEAL_SHRINK && !fstatfs(file->fd, &fs) && fs.f_type == TMPFS_MAGIC;
}

/**
 * add_place() - @len bytes at @offset of @file come next
 */
static int add_place(struct vus_places *places, const struct vus_file *file, uint64_t offset, uint64_t len)
{
	struct vus_place *last = places->n ? &places->place[places->n - 1] : NULL;
	unsigned i;

	for (i = 0; i < places->n_fds && places->fd[i] != file->fd; i++)
		;
	if (i == places->n_fds) {
		if (!can_lend(file))
			return -ENOTSUP;
		if (i == VUS_PLACES_FILES)
			return -E2BIG;
		places->fd[places->n_fds++] = file->fd;
	}
	if (last && last->file == i && last->offset + last->len == offset) {
		last->len += len;
		return 0;
	}
	if (places->n == places->max)
		return -E2BIG;
	places->place[places->n++] = (struct vus_place){ .file = i, .offset = offset, .len = len };
	return 0;
}

int vus_dma_places(struct vus_dma *dma, const struct mem_pages *pages, size_t off, size_t len,
		   struct vus_places *places)
{
	int r = 0;

	assert(!((off | len) & (GRANULE - 1)));
	if (!range_fits(off, len, pages->size))
		return -EFAULT;
	for (; !r && len; off += GRANULE, len -= GRANULE) {
		uint64_t addr = pages->addr[off >> pages->shift] + (off & (((size_t)1 << pages->shift) - 1)), part;
		const struct range *range;

		if (!translate(dma, addr, VUS_DMA_READ | VUS_DMA_WRITE, &part))
			return -EFAULT;
		range = &dma->range[above(dma, addr) - 1];
		r = add_place(places, range->file, range->offset + (addr - range->addr), GRANULE);
	}
	return r;
}
