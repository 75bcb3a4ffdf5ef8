/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Direct queue pairs: a trusted program maps the very pages that a guest brought, instead of memory that a device copies
 * from and to. What the device sends for this, over the life socket, and the device's side of it. The program's side:
 * ring_direct.c.
 */
#ifndef FABRIC_DIRECT_H
#define FABRIC_DIRECT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/handle.h"

/*
 * A *sheet* says where the pages lie. It is a memfd, sealed against shrinking, growing, and writing but by who has made
 * it, and comes with any one byte: {sheet, file of guest memory, perhaps a second one}. Little-endian:
 *
 *	off  size  field
 *	  0     4  DIRECT_MAGIC
 *	  4     4  gone: 0 as long as the pages are the queue pair's. The device changes it before they are not
 *	  8     4  code: VMCI_ERROR_*: it cannot be done, there is nothing behind this, and no file; else 0
 *	 12     4  files
 *	 16     8  bytes of the ring that the program reads
 *	 24     8  of the one that it writes
 *	 32     4  runs
 *	4096  16*  runs, LIMIT_DIRECT_RUNS at most: file (0 or 1), pages, offset in the file (8 bytes)
 *
 * Pages have 4096 bytes, whatever the guest's have. In the order of the runs they are: the header page of the ring that
 * the program reads, this ring; the header page of the ring that it writes, that ring.
 *
 * When the guest has left, there comes one byte more, with {snapshot}: a memfd, sealed against shrinking and growing: the
 * header page of the ring that the program reads, and the ring, with what was unread. Then the end of file.
 */
#define DIRECT_MAGIC 0x53444d56u	/* "VMDS" */
#define DIRECT_GONE 4u
#define DIRECT_CODE 8u
#define DIRECT_FILES 12u
#define DIRECT_IN 16u
#define DIRECT_OUT 24u
#define DIRECT_RUNS 32u
#define DIRECT_HEADER 36u
#define DIRECT_PAGE 4096u
#define DIRECT_RUN 16u

/* Files of guest memory: what a message holds beside the sheet is bounded, and VMs have one, or one for each node. */
#define DIRECT_FILES_MAX 2u

/* A run of pages, in the order of the queue, that are one behind the other in a file. */
struct direct_run {
	unsigned file;
	uint32_t pages;
	uint64_t offset;
};

/**
 * struct direct_sheet - the device's copy
 * @map: of @size bytes
 */
struct direct_sheet {
	uint8_t *map;
	size_t size;
};

/**
 * direct_sheet_new() - write a sheet
 * @code: negative: it cannot be done; nothing else is looked at
 * @in, @out: the program's
 * @ret_fd: for it; the caller's
 *
 * Uses memfd_create, ftruncate, mmap, fcntl. Return: 0 or a negative errno
 */
int direct_sheet_new(int32_t code, uint64_t in, uint64_t out, const struct direct_run *runs, unsigned n_runs,
		     unsigned n_files, struct direct_sheet *ret_sheet, int *ret_fd);

/* direct_sheet_is() - does it say just this? */
bool direct_sheet_is(const struct direct_sheet *sheet, const struct direct_run *runs, unsigned n_runs);

/* direct_sheet_end() - from now on the pages are somebody else's */
void direct_sheet_end(struct direct_sheet *sheet);

/* direct_sheet_done() - unmap it; one of zeros is fine */
void direct_sheet_done(struct direct_sheet *sheet);

/**
 * direct_send() - send descriptors over a life socket, with one byte; they stay the caller's
 *
 * Return: 0; -EAGAIN: the program does not read; another negative errno
 */
int direct_send(int life, const int *fds, unsigned n);

/**
 * direct_snapshot_new() - memory for what was unread
 * @in: bytes of the ring that the program reads
 * @ret_map: of direct_snapshot_size(@in) bytes: header page, ring
 *
 * Return: 0 or a negative errno
 */
int direct_snapshot_new(uint64_t in, uint8_t **ret_map, int *ret_fd);
size_t direct_snapshot_size(uint64_t in);

#endif /* FABRIC_DIRECT_H */
