// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * DOC: Theory of operation
 *
 * A reader sleeps on an empty ring only, and a writer on a full one only. Both look at the ring once more after they
 * have made known that they will sleep: in queue state by what is in the ring, else by a packet.
 *
 * Queue state: if all that the peer has not read is what we have just written, then the ring was empty, and the peer
 * may sleep: WROTE. If all the room is what we have just made, then the ring was full, and the peer may sleep: READ,
 * now or later, but before we sleep ourselves. Each publication of a position is judged by itself. Were several taken
 * together, then a peer that took the first and fell asleep before the second would not be woken.
 *
 * Packets: WAITING_READ and WAITING_WRITE say that the peer sleeps.
 */
#include "notify.h"

struct notify_wait vmsock_notify_wait_read(const struct notify *n, u64 size, u64 head, u64 bytes)
{
	u64 left = size - head;

	if (bytes >= left)
		return (struct notify_wait){ .generation = n->consumed + 1, .offset = bytes - left };
	return (struct notify_wait){ .generation = n->consumed, .offset = head + bytes };
}

struct notify_wait vmsock_notify_wait_write(const struct notify *n, u64 size, u64 tail, u64 bytes)
{
	u64 left = size - tail;

	if (bytes + 1 >= left)
		return (struct notify_wait){ .generation = n->produced, .offset = bytes + 1 - left };
	return (struct notify_wait){ .generation = n->produced - 1, .offset = tail + bytes + 1 };
}

#ifdef OVMCI_DEBUG
#include "selftest/vmsock_notify.c"
#endif
