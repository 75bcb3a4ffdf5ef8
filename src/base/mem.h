/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Guest memory, seen through a port.
 *
 * Guest memory changes while it is looked at, and can be taken away. So nobody but the
 * implementation of this port holds a pointer into it:
 *
 *  - what is parsed is copied out once, with read();
 *  - pages shared for a longer time (a queue pair's) are taken as a struct mem_pages: a list of
 *    pages that the caller addresses as one linear range, page i being bytes
 *    [i << page_shift, (i + 1) << page_shift). Each access is checked against what the VMM maps
 *    at that moment: pages that the VMM has unmapped answer -EFAULT until they are mapped again;
 *  - opaque payload may be moved straight between guest pages and a descriptor or buffer, through
 *    spans. A span is good until control returns to the event loop, no longer.
 *
 * All functions return 0 or a negative errno: -EFAULT where an address is not backed by usable
 * guest memory with the rights needed, -ENOMEM.
 */
#ifndef BASE_MEM_H
#define BASE_MEM_H

#include <stddef.h>
#include <stdint.h>

struct mem_pages;	/* pages taken from the guest; private to the port's implementation */

struct mem_span {
	void *base;
	size_t len;
};

struct mem_ops {
	/* Copy @len bytes at guest address @addr into @buf, each byte once. All or nothing. */
	int (*read)(void *ctx, uint64_t addr, void *buf, size_t len);

	/* Copy @buf into guest memory. All or nothing. */
	int (*write)(void *ctx, uint64_t addr, const void *buf, size_t len);

	/* Store one naturally aligned little-endian word, after everything written before (release). */
	int (*store32)(void *ctx, uint64_t addr, uint32_t v);

	/*
	 * Take @n pages whose guest addresses are @addr[0..n), each a multiple of 1 << @page_shift,
	 * for reading and writing. The list is copied. -EFAULT if any is not usable now.
	 */
	int (*take)(void *ctx, const uint64_t *addr, size_t n, unsigned page_shift, struct mem_pages **ret_pages);

	/* Give pages back. NULL is fine. */
	void (*drop)(void *ctx, struct mem_pages *pages);

	/* Load (acquire) or store (release) the aligned little-endian u64 at linear offset @off. */
	int (*load64)(void *ctx, struct mem_pages *pages, size_t off, uint64_t *ret);
	int (*store64)(void *ctx, struct mem_pages *pages, size_t off, uint64_t v);

	/*
	 * Describe the linear range [@off, @off + @len) as at most @max spans, adjacent pages merged
	 * where their mappings are adjacent. The spans may cover less than @len when @max is reached.
	 * Return: number of spans (>= 1), or a negative errno
	 */
	int (*spans)(void *ctx, struct mem_pages *pages, size_t off, size_t len, struct mem_span *spans, int max);
};

/* A port bound to its implementation. */
struct mem {
	const struct mem_ops *ops;
	void *ctx;
};

#endif /* BASE_MEM_H */
