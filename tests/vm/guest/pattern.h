/* SPDX-License-Identifier: BSD-2-Clause */
/* Bytes that a seed makes, and a hash over any bytes: both ends of a transfer compute it for themselves. */
#ifndef PATTERN_H
#define PATTERN_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Words of a generator with 64 bits of state; sizes and offsets are multiples of 8 but at the end. */
static inline uint64_t pattern_word(uint64_t seed, uint64_t index)
{
	uint64_t x = (seed + index) * 0x9e3779b97f4a7c15u;

	x ^= x >> 32;
	x *= 0xd6e8feb86659fd93u;
	return x ^ x >> 32;
}

static inline void pattern_fill(uint8_t *data, size_t size, uint64_t seed, uint64_t offset)
{
	size_t i;

	for (i = 0; i < size; i += 8) {
		uint64_t word = pattern_word(seed, (offset + i) / 8);

		memcpy(data + i, &word, size - i < 8 ? size - i : 8);
	}
}

/*
 * A 64-bit hash whatever the sizes of the pieces: every word goes in by xor and multiplication, so that order,
 * place and value of each byte count.
 */
struct hash {
	uint64_t state, word;
	uint64_t size;
};

static inline void hash_init(struct hash *h)
{
	*h = (struct hash){ .state = 0xcbf29ce484222325u };
}

static inline void hash_word(struct hash *h, uint64_t word)
{
	h->state = (h->state ^ word) * 0x9fb21c651e98df25u;
	h->state ^= h->state >> 35;
}

static inline void hash_add(struct hash *h, const uint8_t *data, size_t size)
{
	while (size && h->size % 8) {
		h->word |= (uint64_t)*data++ << h->size++ % 8 * 8;
		size--;
		if (h->size % 8 == 0) {
			hash_word(h, h->word);
			h->word = 0;
		}
	}
	for (; size >= 8; size -= 8, data += 8) {
		uint64_t word;

		memcpy(&word, data, 8);
		hash_word(h, word);
		h->size += 8;
	}
	while (size--)
		h->word |= (uint64_t)*data++ << h->size++ % 8 * 8;
}

static inline uint64_t hash_end(const struct hash *h)
{
	struct hash end = *h;

	hash_word(&end, end.word);
	hash_word(&end, end.size);
	return end.state;
}

#endif /* PATTERN_H */
