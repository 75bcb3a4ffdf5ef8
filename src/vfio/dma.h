/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Guest memory: the table of what the VMM maps, and the port struct mem on top of it (base/mem.h).
 *
 * One table per VM. Made before, and freed after, the device model that uses its port and the session
 * that fills it. One thread.
 */
#ifndef VFIO_DMA_H
#define VFIO_DMA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/mem.h"
#include "vfio/msg.h"

struct vus_dma;

/**
 * vus_dma_new() - make an empty table
 * @name:     names the VM in log lines ("vm3"); must outlive the table
 * @max_maps: ranges mapped at the same time, 1..LIMIT_VFIO_MAPS
 *
 * The first call in a process installs a handler for SIGBUS (see vus_dma_is_lost()).
 *
 * Return: 0; -EINVAL; -ENOMEM; what sigaction(2) said
 */
int vus_dma_new(const char *name, size_t max_maps, struct vus_dma **ret_dma);

/*
 * vus_dma_free() - drop all maps and free the table; NULL is fine. Returns NULL.
 * Everything taken through the port must have been dropped.
 */
struct vus_dma *vus_dma_free(struct vus_dma *dma);

/**
 * vus_dma_mem() - the guest memory port over this table
 *
 * Good for as long as the table lives, also while nothing is mapped (everything answers -EFAULT then).
 */
struct mem vus_dma_mem(struct vus_dma *dma);

/**
 * vus_dma_map() - add a range of guest memory (reference, 6.1, 6.4)
 * @map: as vus_dma_map_parse() accepted it; page multiples and overlaps are checked here
 * @fd:  the memory, or -1: the range is accepted, but cannot be reached. Taken over, also on failure
 *
 * An fd that is no regular file (memfds are) is treated like none, with a warning: only RAM is of use to us.
 *
 * Return: 0; -EINVAL (not page multiples; beyond the end of the file); -EEXIST (overlap); -ENOSPC (too many
 * maps or files); -ENOMEM; what mmap(2) said
 */
int vus_dma_map(struct vus_dma *dma, const struct vus_dma_map *map, int fd);

/**
 * vus_dma_unmap() - remove a range that was added with exactly these numbers (reference, 6.2)
 *
 * From here on nothing in this process touches the range, taken pages included.
 *
 * Return: 0; -ENOENT
 */
int vus_dma_unmap(struct vus_dma *dma, uint64_t addr, uint64_t size);

/* vus_dma_clear() - remove all ranges */
void vus_dma_clear(struct vus_dma *dma);

/* vus_dma_count() - number of ranges mapped */
size_t vus_dma_count(const struct vus_dma *dma);

/* vus_dma_max() - the most ranges that may be mapped, as given to vus_dma_new() */
size_t vus_dma_max(const struct vus_dma *dma);

/* vus_dma_files() - number of files mapped into this process */
size_t vus_dma_files(const struct vus_dma *dma);

/* vus_dma_generation() - changes with every map and unmap; never repeats */
uint64_t vus_dma_generation(const struct vus_dma *dma);

/**
 * vus_dma_is_lost() - did guest memory vanish under us?
 *
 * A file that its owner truncates raises SIGBUS at the next touch. The handler puts a page of zeroes in its
 * place and notes it here; from then on the port answers -EFAULT to everything. The session ends when
 * it sees that.
 */
bool vus_dma_is_lost(const struct vus_dma *dma);

/**
 * vus_dma_is_share_off_suspected() - is the VM's memory probably private to the VMM (share=off)?
 *
 * Then everything looks right, but we read zeroes (reference, 6.3). The answer is found at the first use of
 * guest memory through the port (a driver runs then, so RAM cannot be all zeroes), logged once, and kept
 * until the mapped RAM changes; before that, calling this asks now. Reads at most LIMIT_VFIO_PROBE bytes.
 */
bool vus_dma_is_share_off_suspected(struct vus_dma *dma);

/**
 * struct vus_place - a part of a file of guest memory
 * @file: index into struct vus_places.fd
 */
struct vus_place {
	unsigned file;
	uint64_t offset;
	uint64_t len;
};

/* Files that taken pages may lie in, to be told of. */
#define VUS_PLACES_FILES 2u

/**
 * struct vus_places - where taken pages lie
 * @place: room for @max, of which @n are used; what is adjacent is one
 * @fd:    @n_fds of them, borrowed from the table: good until it changes
 */
struct vus_places {
	struct vus_place *place;
	unsigned n;
	unsigned max;
	int fd[VUS_PLACES_FILES];
	unsigned n_fds;
};

/**
 * vus_dma_places() - add where [@off, @off + @len) of taken pages lies, for somebody who is to map it himself
 * @off, @len: multiples of 4096
 *
 * Return: 0; -EFAULT: not all of it is mapped now; -E2BIG: more places, or files, than there is room for; -ENOTSUP: a
 * file that is not to be lent: not sealed against shrinking, or huge pages, where a touch can be SIGBUS
 */
int vus_dma_places(struct vus_dma *dma, const struct mem_pages *pages, size_t off, size_t len,
		   struct vus_places *places);

#endif /* VFIO_DMA_H */
