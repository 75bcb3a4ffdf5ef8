/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0 */
/* Checked arithmetic for every number that a peer supplied (design, rule 4). */
#ifndef BASE_CHECKED_H
#define BASE_CHECKED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* add64() - *ret = a + b; false (and *ret untouched) if that does not fit. */
static inline bool add64(uint64_t a, uint64_t b, uint64_t *ret)
{
	uint64_t sum;

	if (__builtin_add_overflow(a, b, &sum))
		return false;
	*ret = sum;
	return true;
}

/* mul64() - *ret = a * b; false (and *ret untouched) if that does not fit. */
static inline bool mul64(uint64_t a, uint64_t b, uint64_t *ret)
{
	uint64_t product;

	if (__builtin_mul_overflow(a, b, &product))
		return false;
	*ret = product;
	return true;
}

/* range_fits() - does [off, off + len) lie inside [0, size)? An empty range at the end does. */
static inline bool range_fits(uint64_t off, uint64_t len, uint64_t size)
{
	return off <= size && len <= size - off;
}

#endif /* BASE_CHECKED_H */
