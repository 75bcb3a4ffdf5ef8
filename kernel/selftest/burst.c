// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
#include <linux/mm.h>
#include <linux/prandom.h>

#include "selftest/selftest.h"

#define TEST_PAGE 4096u
#define STREAM_SIZE (8u * BURST_SIZE)

/* What a device hands out: 0xff behind its end. */
static u8 *stream __initdata;
static size_t stream_at __initdata, stream_end __initdata;

static void __init stream_clear(void)
{
	memset(stream, 0xff, STREAM_SIZE);
	stream_at = 0;
	stream_end = 0;
}

/* A datagram to resource @n, at @at of the stream. Returns what is behind it. */
static size_t __init put_dg(size_t at, u32 n, u64 size)
{
	u8 *p = stream + at;

	put_header(p, (struct ovmci_handle){ 7, n }, (struct ovmci_handle){ 2, 9 }, size);
	memset(p + VMCI_DG_HEADER_SIZE, (int)n, size > BURST_SKIP_MAX ? 0 : size);
	return at + VMCI_DG_HEADER_SIZE + round_up(size, 8);
}

/* The next datagram's resource, ~0 for the end, ~1 for garbage, ~2 for a loop; *reads counts the bytes read. */
static u32 __init next(struct burst *b, size_t *reads, u64 *ret_size)
{
	struct ovmci_datagram dg;
	unsigned int steps;

	for (steps = 0; steps < 1000; steps++) {
		switch (burst_next(b, &dg)) {
		case BURST_READ:
			if (b->want > BURST_SIZE || b->at > BURST_SIZE - b->want || !b->want)
				return ~3u;
			if (stream_at + b->want <= STREAM_SIZE)
				memcpy(b->buffer + b->at, stream + stream_at, b->want);
			else
				memset(b->buffer + b->at, 0xff, b->want);
			stream_at += b->want;
			*reads += b->want;
			break;
		case BURST_DATAGRAM:
			*ret_size = dg.size;
			if (dg.payload != b->buffer + b->pos - round_up(dg.size, 8) ||
			    dg.size > VMCI_DG_MAX_PAYLOAD || b->pos > BURST_SIZE)
				return ~3u;
			if (dg.size && (((const u8 *)dg.payload)[0] != (u8)dg.dst.resource ||
					((const u8 *)dg.payload)[dg.size - 1] != (u8)dg.dst.resource))
				return ~3u;
			return dg.dst.resource;
		case BURST_END:
			return ~0u;
		case BURST_BAD:
			return ~1u;
		}
	}
	return ~2u;
}

/* Streams of whatever bytes: no step leaves the buffer, and each drain ends with its stream. */
static bool __init burst_garbage(u8 *buffer, u32 page)
{
	struct rnd_state rnd;
	struct burst b;
	bool ok = true;
	u32 round;

	prandom_seed_state(&rnd, 40);
	for (round = 0; round < 60; round++) {
		size_t at, reads = 0;
		u64 size;
		u32 n, count = 0;

		stream_clear();
		for (at = 0; at + 32 < STREAM_SIZE; at += 8 * (1 + prandom_u32_state(&rnd) % 4000)) {
			u32 kind = prandom_u32_state(&rnd) % 8;

			size = kind == 0 ? VMCI_DG_MAX_PAYLOAD + prandom_u32_state(&rnd) % 9 : kind == 1 ?
			       prandom_u32_state(&rnd) % (2 * BURST_SIZE) : prandom_u32_state(&rnd) % 9000;
			put_header(stream + at, (struct ovmci_handle){ 7, kind == 2 ? ~0u : round },
				   (struct ovmci_handle){ 2, 9 }, kind == 3 ? ~0ull - kind : size);
		}
		burst_start(&b, buffer, page);
		do {
			struct ovmci_datagram dg;
			enum burst_step step = burst_next(&b, &dg);

			n = step == BURST_END || step == BURST_BAD ? ~0u : 0;
			if (step == BURST_DATAGRAM)
				T((const u8 *)dg.payload >= buffer && dg.size <= BURST_SIZE &&
				  (const u8 *)dg.payload + dg.size <= buffer + BURST_SIZE);
			if (step == BURST_READ) {
				T(b.want && b.want <= BURST_SIZE && b.at <= BURST_SIZE - b.want);
				if (reads + b.want <= STREAM_SIZE)
					memcpy(buffer + b.at, stream + reads, b.want);
				else
					memset(buffer + b.at, 0xff, b.want);
				reads += b.want;
			}
		} while (n != ~0u && ok && ++count < 100000);
		T(count < 100000);
	}
	return ok;
}

static bool __init burst_cases(u8 *buffer)
{
	size_t reads = 0, at;
	struct burst b;
	bool ok = true;
	u64 size;
	u32 i;

	/* Nothing: one page is read, and no byte more. */
	stream_clear();
	burst_start(&b, buffer, TEST_PAGE);
	T(next(&b, &reads, &size) == ~0u && reads == 4096);
	/* By DMA the whole buffer. */
	stream_clear();
	reads = 0;
	burst_start(&b, buffer, 0);
	T(next(&b, &reads, &size) == ~0u && reads == BURST_SIZE);

	/* Two in a page, one of them padded. */
	stream_clear();
	put_dg(put_dg(0, 5, 13), 6, 0);
	reads = 0;
	burst_start(&b, buffer, TEST_PAGE);
	T(next(&b, &reads, &size) == 5 && size == 13);
	T(next(&b, &reads, &size) == 6 && size == 0);
	T(next(&b, &reads, &size) == ~0u && reads == 4096);

	/* A page filled to its end but for 16 bytes: another page is read. With 24 left it is not. */
	stream_clear();
	put_dg(0, 5, 4096 - 24 - 16);
	reads = 0;
	burst_start(&b, buffer, TEST_PAGE);
	T(next(&b, &reads, &size) == 5);
	T(next(&b, &reads, &size) == ~0u && reads == 8192);
	stream_clear();
	put_dg(0, 5, 4096 - 24 - 24);
	reads = 0;
	burst_start(&b, buffer, TEST_PAGE);
	T(next(&b, &reads, &size) == 5);
	T(next(&b, &reads, &size) == ~0u && reads == 4096);

	/* One of 5000 bytes: the rest of a whole buffer is read, no more; what follows in that is found. */
	stream_clear();
	put_dg(put_dg(0, 5, 5000), 6, 100);
	reads = 0;
	burst_start(&b, buffer, TEST_PAGE);
	T(next(&b, &reads, &size) == 5 && size == 5000);
	T(next(&b, &reads, &size) == 6 && size == 100);
	T(next(&b, &reads, &size) == ~0u && reads == BURST_SIZE);

	/* After filler the next may begin at a page boundary of a large burst only. */
	stream_clear();
	at = put_dg(0, 5, 5000);
	put_dg(at + 64, 6, 8);
	put_dg(3 * 4096, 7, 8);
	reads = 0;
	burst_start(&b, buffer, TEST_PAGE);
	T(next(&b, &reads, &size) == 5);
	T(next(&b, &reads, &size) == 7);
	T(next(&b, &reads, &size) == ~0u && reads == BURST_SIZE);
	/* Not by DMA: there the first filler is the end. */
	stream_at = 0;
	burst_start(&b, buffer, 0);
	T(next(&b, &reads, &size) == 5);
	T(next(&b, &reads, &size) == ~0u);

	/* One that the burst cuts moves to the front. */
	stream_clear();
	at = put_dg(0, 5, 4000);
	T(at == 4024);
	put_dg(at, 6, 200);
	reads = 0;
	burst_start(&b, buffer, TEST_PAGE);
	T(next(&b, &reads, &size) == 5);
	T(next(&b, &reads, &size) == 6 && size == 200);
	T(b.pos == 224 && reads == 4096 + BURST_SIZE - 72);
	T(next(&b, &reads, &size) == ~0u);

	/* The largest; then a full burst follows. One byte more: skipped, whatever way it ends. */
	stream_clear();
	put_dg(0, 5, VMCI_DG_MAX_PAYLOAD);
	put_dg(BURST_SIZE, 6, 8);
	reads = 0;
	burst_start(&b, buffer, TEST_PAGE);
	T(next(&b, &reads, &size) == 5 && size == VMCI_DG_MAX_PAYLOAD);
	T(next(&b, &reads, &size) == 6);
	T(next(&b, &reads, &size) == ~0u && reads == 2 * BURST_SIZE);
	for (i = 0; i < 5; i++) {
		/* Bytes behind the first page: up to a burst's end, beyond it, exactly two bursts. */
		static const u32 rest[] = { BURST_SIZE - 4096 + 8, BURST_SIZE - 24, BURST_SIZE, BURST_SIZE + 8,
					    2 * BURST_SIZE };

		stream_clear();
		at = put_dg(0, 5, 4096 + rest[i] - 24);
		if (at % BURST_SIZE < 4096 + BURST_SIZE - 24)
			put_dg(at, 6, 0);
		reads = 0;
		burst_start(&b, buffer, TEST_PAGE);
		T(next(&b, &reads, &size) == 6);
		T(next(&b, &reads, &size) == ~0u);
	}

	/* Sizes from hell. */
	for (i = 0; i < 4; i++) {
		static const u64 bad[] = { ~0ull, ~0ull - 23, BURST_SKIP_MAX + 1ull, 1ull << 32 };

		stream_clear();
		put_dg(0, 5, bad[i]);
		burst_start(&b, buffer, TEST_PAGE);
		T(next(&b, &reads, &size) == ~1u);
		stream_at = 0;
		burst_start(&b, buffer, 0);
		T(next(&b, &reads, &size) == ~1u);
	}
	return ok;
}

bool __init burst_selftest(void)
{
	u8 *buffer = kvmalloc(BURST_SIZE, GFP_KERNEL);
	bool ok = false;

	stream = kvmalloc(STREAM_SIZE, GFP_KERNEL);
	if (buffer && stream)
		ok = burst_cases(buffer) & burst_garbage(buffer, TEST_PAGE) & burst_garbage(buffer, 0);
	kvfree(stream);
	kvfree(buffer);
	return ok;
}
