// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* Included by vmsock/notify.c. */
#include <linux/printk.h>

#define T(number, expected)									\
	do {											\
		if (!(expected)) {								\
			pr_err("vmsock: notification self-test %u: FAIL: %s\n", number, #expected);	\
			ok = false;								\
		}										\
	} while (0)

static bool wait_is(struct notify_wait wait, u64 generation, u64 offset)
{
	return wait.generation == generation && wait.offset == offset;
}

static bool qstate_selftest(void)
{
	struct notify n = { .qstate = true };
	bool ok = true;

	/* WROTE: only when the ring was empty. */
	T(1, vmsock_notify_wrote(&n, 1000, 0, 100, 100));
	T(2, !vmsock_notify_wrote(&n, 1000, 100, 100, 200));
	T(3, !vmsock_notify_wrote(&n, 1000, 200, 100, 50));
	T(4, !vmsock_notify_wrote(&n, 1000, 300, 0, 0));

	/* READ: only when the ring was full, and then with a quarter free, or before we sleep. */
	T(5, !vmsock_notify_took(&n, 1000, 0, 300, 301));
	T(6, !n.wants_room);
	T(7, vmsock_notify_took(&n, 1000, 0, 300, 300));
	T(8, n.wants_room);
	notify_read_sent(&n);
	T(9, !n.wants_room);
	T(10, !vmsock_notify_took(&n, 1000, 300, 10, 10));
	T(11, n.wants_room);
	T(12, !vmsock_notify_room(&n, 1000, 249, false));
	T(13, vmsock_notify_room(&n, 1000, 249, true));
	T(14, !vmsock_notify_room(&n, 1000, 0, true));
	T(15, vmsock_notify_took(&n, 1000, 310, 240, 250));

	/* An empty ring has enough room, however small it is. */
	T(16, vmsock_notify_room(&n, 2, 1, false));
	T(17, vmsock_notify_room(&n, 3, 2, false));
	T(18, vmsock_notify_room(&n, 5, 4, false));
	return ok;
}

static bool packet_notify_selftest(void)
{
	struct notify n = {};
	bool ok = true;

	T(20, !vmsock_notify_wrote(&n, 1000, 0, 100, 100));
	n.wants_data = true;
	T(21, vmsock_notify_wrote(&n, 1000, 100, 100, 200));
	T(22, !vmsock_notify_wrote(&n, 1000, 200, 100, 0));
	notify_wrote_sent(&n);
	T(23, !vmsock_notify_wrote(&n, 1000, 300, 100, 100));
	T(24, !vmsock_notify_took(&n, 1000, 0, 500, 500));
	n.wants_room = true;
	T(25, vmsock_notify_took(&n, 1000, 500, 100, 700));
	notify_read_sent(&n);
	T(26, !vmsock_notify_took(&n, 1000, 600, 100, 700));

	/* Generations: one for each time that the end of the ring is reached. */
	n = (struct notify){};
	vmsock_notify_wrote(&n, 1000, 900, 99, 99);
	T(27, n.produced == 0);
	vmsock_notify_wrote(&n, 1000, 900, 100, 100);
	T(28, n.produced == 1);
	vmsock_notify_took(&n, 1000, 999, 1, 1);
	T(29, n.consumed == 1 && n.produced == 1);
	T(30, wait_is(vmsock_notify_wait_read(&n, 1000, 900, 99), 1, 999));
	T(31, wait_is(vmsock_notify_wait_read(&n, 1000, 900, 100), 2, 0));
	T(32, wait_is(vmsock_notify_wait_read(&n, 1000, 900, 999), 2, 899));
	T(33, wait_is(vmsock_notify_wait_write(&n, 1000, 900, 1), 0, 902));
	T(34, wait_is(vmsock_notify_wait_write(&n, 1000, 998, 1), 1, 0));
	T(35, wait_is(vmsock_notify_wait_write(&n, 1000, 999, 1), 1, 1));
	return ok;
}

bool vmsock_notify_selftest(void)
{
	return qstate_selftest() & packet_notify_selftest();
}

#undef T
