// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
#include "selftest/selftest.h"

bool __init ring_selftest(void)
{
	u64 size, tail, head, n;
	bool ok = true;

	T(ring_ready(4096, 0, 0) == 0 && ring_free(4096, 0, 0) == 4095);
	T(ring_ready(4096, 10, 4000) == 106 && ring_free(4096, 10, 4000) == 3989);
	T(ring_ready(4096, 4095, 0) == 4095 && ring_free(4096, 4095, 0) == 0);
	T(ring_ready(4096, 0, 1) == 4095 && ring_free(4096, 0, 1) == 0);
	T(ring_ready(4096, 4096, 0) == -EBADMSG && ring_free(4096, 4096, 0) == -EBADMSG);
	T(ring_ready(4096, 0, 4096) == -EBADMSG && ring_free(4096, 0, 4096) == -EBADMSG);
	T(ring_ready(4096, ~0ull, 0) == -EBADMSG && ring_free(4096, 0, ~0ull) == -EBADMSG);
	T(ring_ready(4096, 1ull << 63, 0) == -EBADMSG && ring_ready(4096, 1ull << 32, 0) == -EBADMSG);
	/* No ring at all. */
	T(ring_ready(0, 0, 0) == 0 && ring_free(0, 0, 0) == 0);
	T(ring_ready(0, 1, 0) == -EBADMSG && ring_free(0, 0, 1) == -EBADMSG);
	/* One byte: never any room. */
	T(ring_ready(1, 0, 0) == 0 && ring_free(1, 0, 0) == 0);
	/* The largest that there is. */
	T(ring_free(VMCI_QP_GUEST_MEMORY_MAX, 0, 0) == VMCI_QP_GUEST_MEMORY_MAX - 1);

	T(ring_run(100, 90, 20) == 10 && ring_run(100, 90, 10) == 10 && ring_run(100, 90, 9) == 9);
	T(ring_run(100, 0, 200) == 100);
	T(ring_advance(100, 90, 20) == 10 && ring_advance(100, 90, 10) == 0 && ring_advance(100, 90, 9) == 99);
	T(ring_advance(100, 0, 100) == 0 && ring_advance(100, 99, 1) == 0);

	/* Small rings, all of them: what is free and what is ready make the ring, and moving on keeps it so. */
	for (size = 1; size < 9; size++)
		for (tail = 0; tail < size; tail++)
			for (head = 0; head < size; head++) {
				s64 ready = ring_ready(size, tail, head), free = ring_free(size, tail, head);

				T(ready >= 0 && free >= 0 && ready + free == (s64)size - 1);
				for (n = 0; n <= (u64)free; n++)
					T(ring_ready(size, ring_advance(size, tail, n), head) == ready + (s64)n);
				for (n = 0; n <= (u64)ready; n++)
					T(ring_ready(size, tail, ring_advance(size, head, n)) == ready - (s64)n);
			}
	return ok;
}
