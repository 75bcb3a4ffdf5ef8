/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* notify.h - when the two ends of a stream must wake each other (transport reference, 8 and 9); pure */
#ifndef VMSOCK_NOTIFY_H
#define VMSOCK_NOTIFY_H

#include <linux/init.h>
#include <linux/types.h>

/**
 * struct notify - what one end knows of the other's needs; the socket's lock guards it
 * @qstate:     "queue state": the ring itself says whether the peer may sleep; else the peer says so in packets
 * @wants_data: the peer sleeps until it gets WROTE (never set with @qstate)
 * @wants_room: the peer sleeps until it gets READ
 * @produced:   generation of our write position, for WAITING_WRITE
 * @consumed:   generation of our read position, for WAITING_READ
 */
struct notify {
	bool qstate;
	bool wants_data;
	bool wants_room;
	u64 produced;
	u64 consumed;
};

/**
 * struct notify_wait - the argument of WAITING_READ and WAITING_WRITE
 */
struct notify_wait {
	u64 generation;
	u64 offset;
};

/**
 * notify_wrote() - account for bytes written
 * @size:   of the ring
 * @tail:   our position before
 * @bytes:  that were written
 * @unread: what the peer has not read yet, looked at after the bytes were published and a full barrier
 *
 * Return: is WROTE due? Then notify_wrote_sent() when it was sent.
 */
static inline bool notify_wrote(struct notify *n, u64 size, u64 tail, u64 bytes, u64 unread)
{
	if (bytes >= size - tail)
		n->produced++;
	return n->qstate ? bytes && unread == bytes : n->wants_data && unread;
}

static inline void notify_wrote_sent(struct notify *n)
{
	n->wants_data = false;
}

/**
 * notify_room() - is READ due for an end that wants room, of which there is @room?
 * @last: we are about to sleep, so that this is the last chance
 *
 * A peer that was woken for each byte would do nothing else. So it is woken when a quarter of the ring is free, which
 * is always true of an empty ring.
 */
static inline bool notify_room(const struct notify *n, u64 size, u64 room, bool last)
{
	return n->wants_room && room && (last || room >= size / 4);
}

/**
 * notify_took() - account for bytes taken out of the ring
 * @head: our position before
 * @room: what the peer could write, looked at after the bytes were given free and a full barrier
 *
 * Return: is READ due? Then notify_read_sent() when it was sent.
 */
static inline bool notify_took(struct notify *n, u64 size, u64 head, u64 bytes, u64 room)
{
	if (bytes >= size - head)
		n->consumed++;
	if (n->qstate && bytes && room == bytes)
		n->wants_room = true;
	return notify_room(n, size, room, false);
}

static inline void notify_read_sent(struct notify *n)
{
	n->wants_room = false;
}

/*
 * vmsock_notify_wait_read() - where we will be when @bytes have come (8.4)
 * vmsock_notify_wait_write() - and when they have found room
 */
struct notify_wait vmsock_notify_wait_read(const struct notify *n, u64 size, u64 head, u64 bytes);
struct notify_wait vmsock_notify_wait_write(const struct notify *n, u64 size, u64 tail, u64 bytes);

#ifdef OVMCI_DEBUG
bool __init vmsock_notify_selftest(void);
#endif

#endif /* VMSOCK_NOTIFY_H */
