// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
#include "negotiate.h"

static bool is_ring(u64 size)
{
	return size >= RING_MIN && size <= RING_MAX;
}

u64 vmsock_negotiate_request(const struct ring_limits *limits)
{
	return is_ring(limits->size) ? limits->size : 0;
}

u64 vmsock_negotiate_answer(const struct ring_limits *limits, u64 asked)
{
	if (asked == 0)
		return 0;
	if (is_ring(asked) && asked >= limits->min && asked <= limits->max)
		return asked;
	return is_ring(limits->size) ? limits->size : 0;
}

bool vmsock_negotiate_is_acceptable(const struct ring_limits *limits, u64 answer)
{
	return is_ring(answer) && answer >= limits->min && answer <= limits->max;
}

#ifdef OVMCI_DEBUG
#include "selftest/vmsock_negotiate.c"
#endif
