// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* Included by vmci/qmem.c. */
#include "selftest/selftest.h"

/* Is each page of @ring where @data and @header say it is, and zeroed? Leaves its number in it. */
static bool __init is_in_order(const struct qring *ring)
{
	bool ok = true;

	T(ring->header == page_address(ring->pages[0]));
	for (unsigned long i = 1; i < ring->count; i++) {
		unsigned long *here = ring->data + (i - 1) * PAGE_SIZE, *there = page_address(ring->pages[i]);

		T(page_count(ring->pages[i]) == 1);
		T(!memchr_inv(there, 0, PAGE_SIZE));
		here[0] = i;
		here[PAGE_SIZE / sizeof(*here) - 1] = i;
		T(there[0] == i && there[PAGE_SIZE / sizeof(*there) - 1] == i);
	}
	return ok;
}

static bool __init rings_selftest(u64 produce, u64 consume, bool is_mapped)
{
	s64 before = atomic64_read(&used);
	struct qmem *qmem = qmem_new(produce, consume);
	bool ok = true;

	T(!IS_ERR(qmem));
	if (!ok)
		return false;
	T(qmem->ring[0].count == 1 + DIV_ROUND_UP(produce, PAGE_SIZE));
	T(qmem->ring[1].count == 1 + DIV_ROUND_UP(consume, PAGE_SIZE));
	T(qmem->ring[1].pages == qmem->pages + qmem->ring[0].count);
	T(is_in_order(&qmem->ring[0]) && is_in_order(&qmem->ring[1]));
	T(!is_mapped || is_vmalloc_addr(qmem->ring[0].data));
	T(produce > PAGE_SIZE || !is_vmalloc_addr(qmem->ring[0].data));
	qmem_put(qmem);
	T(atomic64_read(&used) == before);
	return ok;
}

bool __init qmem_selftest(void)
{
	const u64 most = VMCI_QP_GUEST_MEMORY_MAX;
	bool ok = true;

	T(rings_selftest(1, 0, false));
	T(rings_selftest(0, PAGE_SIZE, false));
	T(rings_selftest(SZ_256K, SZ_256K + 1, false));
	T(rings_selftest(SIDE_BY_SIDE_MAX * PAGE_SIZE + 1, 3 * PAGE_SIZE - 1, true));
	T(qmem_new(most + 1, 1) == ERR_PTR(-ENOBUFS) && qmem_new(most, 1) == ERR_PTR(-ENOBUFS));
	T(!atomic64_read(&used));
	return ok;
}
