/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The stage on which the device is fuzzed: the input as a source of numbers, and guest memory that
 * changes and goes away. Part of device.c alone, so all of it is static.
 */
#ifndef FUZZ_DEVICE_STAGE_H
#define FUZZ_DEVICE_STAGE_H

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "device/priv.h"

#define CID 77u
#define RAM_SIZE 0x40000u
#define TX 0x8000u
#define RX 0x10000u
#define PAGE 4096u
#define OWNERS 64u
#define MMIO(reg) (VMCI_MMIO_REGS_OFFSET + (reg))

/* A register write must not cost more accesses to guest memory than this. */
#define MAX_ACCESSES (2 * LIMIT_DMA_ELEMENTS + 16)

/* Bytes read by whole drains in one run: two of the largest bursts; more only costs time. */
#define MAX_DRAINED 140000u

#define CHECK(x) ((x) ? (void)0 : fail(#x, __LINE__))

static void fail(const char *what, int line)
{
	fprintf(stderr, "invariant broken: %s (line %d)\n", what, line);
	abort();
}

struct mem_pages {
	size_t n;
	unsigned page_shift;
	uint64_t addr[];
};

/* A host end: alive from create or attach until it detaches or is told that the guest is gone. */
struct owner {
	bool alive;
	bool mapped;
	bool far;
	struct vmci_handle handle;
	struct qp qp;
};

static struct stage {
	struct dev *dev;
	const uint8_t *data;
	size_t size;
	uint8_t ram[RAM_SIZE];
	uint64_t limit;			/* RAM from here on is unmapped */
	unsigned mutations;		/* reads that change what they read */
	bool no_memory;			/* take() fails */
	unsigned drained;		/* bytes read from DATA_IN by whole drains */
	unsigned accesses;
	unsigned taken;
	size_t pages;
	uint64_t stored_at;		/* last store32 */
	uint32_t stored;
	bool intx;
	bool far;			/* there are other contexts */
	unsigned irqs[3];
	struct owner owner[OWNERS];
} s;

/* --- Input --------------------------------------------------------------------------------- */

static uint8_t take8(void)
{
	if (!s.size)
		return 0;
	s.size--;
	return *s.data++;
}

static uint16_t take16(void)
{
	uint16_t v = take8();

	return (uint16_t)(v | take8() << 8);
}

static uint32_t take32(void)
{
	uint32_t v = take16();

	return v | (uint32_t)take16() << 16;
}

static size_t take_bytes(uint8_t *to, size_t n)
{
	if (n > s.size)
		n = s.size;
	memcpy(to, s.data, n);
	s.data += n;
	s.size -= n;
	return n;
}

/* --- Guest memory ----------------------------------------------------------------------------- */

static bool is_ram(uint64_t addr, size_t len)
{
	return addr <= s.limit && len <= s.limit - addr;
}

static int ram_read(void *ctx, uint64_t addr, void *buf, size_t len)
{
	(void)ctx;
	s.accesses++;
	CHECK(dev_space_is_master(&s.dev->space));
	if (!is_ram(addr, len))
		return -EFAULT;
	memcpy(buf, s.ram + addr, len);
	if (s.mutations && len) {
		s.mutations--;
		s.ram[addr + take16() % len] = take8();
		s.ram[addr] ^= take8();
	}
	return 0;
}

static int ram_write(void *ctx, uint64_t addr, const void *buf, size_t len)
{
	(void)ctx;
	s.accesses++;
	CHECK(dev_space_is_master(&s.dev->space));
	if (!is_ram(addr, len))
		return -EFAULT;
	memcpy(s.ram + addr, buf, len);
	return 0;
}

static int ram_store32(void *ctx, uint64_t addr, uint32_t v)
{
	uint8_t word[4];

	CHECK(addr % 4 == 0);
	s.stored_at = addr;
	s.stored = v;
	put_le32(word, v);
	return ram_write(ctx, addr, word, sizeof(word));
}

static int ram_take(void *ctx, const uint64_t *addr, size_t n, unsigned page_shift,
		    struct mem_pages **ret_pages)
{
	struct mem_pages *pages;

	(void)ctx;
	CHECK(dev_space_is_master(&s.dev->space));
	CHECK(n >= 3 && n <= 32771);
	CHECK(page_shift == 12 || page_shift == 14 || page_shift == 16);
	if (s.no_memory)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		CHECK(addr[i] % (1u << page_shift) == 0);
		if (!is_ram(addr[i], (size_t)1 << page_shift))
			return -EFAULT;
	}
	pages = malloc(sizeof(*pages) + n * sizeof(pages->addr[0]));
	CHECK(pages);
	pages->n = n;
	pages->page_shift = page_shift;
	memcpy(pages->addr, addr, n * sizeof(pages->addr[0]));
	s.taken++;
	s.pages += n;
	*ret_pages = pages;
	return 0;
}

static void ram_drop(void *ctx, struct mem_pages *pages)
{
	(void)ctx;
	if (!pages)
		return;
	CHECK(s.taken);
	s.taken--;
	s.pages -= pages->n;
	free(pages);
}

static uint8_t *at(struct mem_pages *pages, size_t off)
{
	uint64_t addr;

	CHECK(off >> pages->page_shift < pages->n);
	addr = pages->addr[off >> pages->page_shift] + off % (1u << pages->page_shift);
	return is_ram(addr, 8) ? s.ram + addr : NULL;
}

static int ram_load64(void *ctx, struct mem_pages *pages, size_t off, uint64_t *ret)
{
	uint8_t *p = at(pages, off);

	(void)ctx;
	if (!p)
		return -EFAULT;
	*ret = get_le64(p);
	return 0;
}

static int ram_store64(void *ctx, struct mem_pages *pages, size_t off, uint64_t v)
{
	uint8_t *p = at(pages, off);

	(void)ctx;
	if (!p)
		return -EFAULT;
	put_le64(p, v);
	return 0;
}

static int ram_spans(void *ctx, struct mem_pages *pages, size_t off, size_t len, struct mem_span *spans,
		     int max)
{
	(void)ctx;
	(void)pages;
	(void)off;
	(void)len;
	(void)spans;
	(void)max;
	return -EFAULT;
}

static const struct mem_ops ram_ops = {
	.read = ram_read,
	.write = ram_write,
	.store32 = ram_store32,
	.take = ram_take,
	.drop = ram_drop,
	.load64 = ram_load64,
	.store64 = ram_store64,
	.spans = ram_spans,
};

#endif /* FUZZ_DEVICE_STAGE_H */
