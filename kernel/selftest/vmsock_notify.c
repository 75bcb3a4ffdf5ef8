// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* Included by vmsock/notify.c. */
#include "selftest.h"

static bool __init wait_is(struct notify_wait wait, u64 generation, u64 offset)
{
	return wait.generation == generation && wait.offset == offset;
}

static bool __init qstate_selftest(void)
{
	struct notify n = { .qstate = true };
	bool ok = true;

	/* WROTE: only when the ring was empty. */
	T(notify_wrote(&n, 1000, 0, 100, 100));
	T(!notify_wrote(&n, 1000, 100, 100, 200));
	T(!notify_wrote(&n, 1000, 200, 100, 50));
	T(!notify_wrote(&n, 1000, 300, 0, 0));

	/* READ: only when the ring was full, and then with a quarter free, or before we sleep. */
	T(!notify_took(&n, 1000, 0, 300, 301));
	T(!n.wants_room);
	T(notify_took(&n, 1000, 0, 300, 300));
	T(n.wants_room);
	notify_read_sent(&n);
	T(!n.wants_room);
	T(!notify_took(&n, 1000, 300, 10, 10));
	T(n.wants_room);
	T(!notify_room(&n, 1000, 249, false));
	T(notify_room(&n, 1000, 249, true));
	T(!notify_room(&n, 1000, 0, true));
	T(notify_took(&n, 1000, 310, 240, 250));

	/* An empty ring has enough room, however small it is. */
	T(notify_room(&n, 2, 1, false));
	T(notify_room(&n, 3, 2, false));
	T(notify_room(&n, 5, 4, false));
	return ok;
}

static bool __init packet_notify_selftest(void)
{
	struct notify n = {};
	bool ok = true;

	T(!notify_wrote(&n, 1000, 0, 100, 100));
	n.wants_data = true;
	T(notify_wrote(&n, 1000, 100, 100, 200));
	T(!notify_wrote(&n, 1000, 200, 100, 0));
	notify_wrote_sent(&n);
	T(!notify_wrote(&n, 1000, 300, 100, 100));
	T(!notify_took(&n, 1000, 0, 500, 500));
	n.wants_room = true;
	T(notify_took(&n, 1000, 500, 100, 700));
	notify_read_sent(&n);
	T(!notify_took(&n, 1000, 600, 100, 700));

	/* Generations: one for each time that the end of the ring is reached. */
	n = (struct notify){};
	notify_wrote(&n, 1000, 900, 99, 99);
	T(n.produced == 0);
	notify_wrote(&n, 1000, 900, 100, 100);
	T(n.produced == 1);
	notify_took(&n, 1000, 999, 1, 1);
	T(n.consumed == 1 && n.produced == 1);
	T(wait_is(vmsock_notify_wait_read(&n, 1000, 900, 99), 1, 999));
	T(wait_is(vmsock_notify_wait_read(&n, 1000, 900, 100), 2, 0));
	T(wait_is(vmsock_notify_wait_read(&n, 1000, 900, 999), 2, 899));
	T(wait_is(vmsock_notify_wait_write(&n, 1000, 900, 1), 0, 902));
	T(wait_is(vmsock_notify_wait_write(&n, 1000, 998, 1), 1, 0));
	T(wait_is(vmsock_notify_wait_write(&n, 1000, 999, 1), 1, 1));
	return ok;
}

bool __init vmsock_notify_selftest(void)
{
	return qstate_selftest() & packet_notify_selftest();
}
