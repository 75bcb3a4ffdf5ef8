/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Files of guest memory, mapped into this process: one mapping per file, however many ranges of the guest's
 * address space lie in it. Private to dma.c.
 */
#ifndef VFIO_FILE_H
#define VFIO_FILE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/**
 * struct vus_epoch - which mappings are current; shared by a DMA table and its files
 * @generation: changes whenever an address that was handed out may have become wrong
 * @lost:       a page of one of the files vanished (set by the SIGBUS handler, with a new generation)
 */
struct vus_epoch {
	_Atomic uint64_t generation;
	atomic_bool lost;
};

/**
 * struct vus_file - a mapped file
 * @next:     in the list of its table
 * @next_all: in the list of all files of the process, which the SIGBUS handler reads
 * @epoch:    of its table
 * @dev, @ino: identity. The inode cannot be reused while we map it
 * @fd:       kept for growing, and for looking at the file without touching the mapping
 * @base, @len: the mapping; it starts at offset 0 of the file
 * @end:  how far it is needed; @len is that, rounded up to @page
 * @prot:     PROT_*
 * @page:     granularity at which the mapping may be replaced (huge pages)
 * @refs:     ranges that lie in it
 */
struct vus_file {
	struct vus_file *next;
	struct vus_file *next_all;
	struct vus_epoch *epoch;
	dev_t dev;
	ino_t ino;
	int fd;
	uint8_t *base;
	size_t len;
	uint64_t end;
	int prot;
	size_t page;
	size_t refs;
};

/**
 * vus_file_init() - install the SIGBUS handler of the process, once
 *
 * Return: 0; what sigaction(2) said
 */
int vus_file_init(void);

/**
 * vus_file_new() - map [0, @end) of @fd
 * @fd:   a regular file; taken over on success only
 * @prot: PROT_READ, PROT_WRITE
 *
 * Return: 0; -EINVAL (@end lies beyond the end of the file, or the file is larger than the address space);
 * -ENOMEM; what fstat(2) or mmap(2) said
 */
int vus_file_new(struct vus_epoch *epoch, int fd, uint64_t end, int prot, struct vus_file **ret_file);

/* vus_file_free() - unmap, close and free; NULL is fine. Returns NULL. */
struct vus_file *vus_file_free(struct vus_file *file);

/**
 * vus_file_grow() - have at least [0, @end) mapped with at least the rights @prot
 * @fd: another descriptor of the same file, perhaps with more rights. Taken over on success only
 *
 * The mapping may move; the generation changes then.
 *
 * Return: 0; as vus_file_new()
 */
int vus_file_grow(struct vus_file *file, int fd, uint64_t end, int prot);

/* vus_file_shrink() - nothing beyond @end is needed any more */
void vus_file_shrink(struct vus_file *file, uint64_t end);

/* vus_file_is() - is @file the one with this identity? */
static inline bool vus_file_is(const struct vus_file *file, dev_t dev, ino_t ino)
{
	return file->dev == dev && file->ino == ino;
}

#endif /* VFIO_FILE_H */
