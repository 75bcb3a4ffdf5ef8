/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Datagrams that wait for the guest: a ring of bytes with the limits of VMCI reference, 9.2.
 */
#ifndef DEVICE_INBOX_H
#define DEVICE_INBOX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/limits.h"

/**
 * struct dev_inbox - the queue; all zeroes is an empty one
 * @ring:  datagrams back to back, each padded with zeroes to 8 bytes
 * @head:  bytes ever taken out; index modulo the ring's size
 * @tail:  bytes ever put in
 * @bytes: unpadded bytes queued: what the limits count
 * @count: datagrams queued
 */
struct dev_inbox {
	uint8_t ring[LIMIT_INBOX_RING];
	uint64_t head;
	uint64_t tail;
	size_t bytes;
	unsigned count;
};

/* dev_inbox_clear() - drop everything */
void dev_inbox_clear(struct dev_inbox *inbox);

/**
 * dev_inbox_push() - append a datagram
 * @dg:    complete datagram, whose header agrees with @size
 * @size:  VMCI_DG_HEADER_SIZE..VMCI_DG_MAX_SIZE
 * @event: it is an event, and may use the allowance that is kept for them
 *
 * Return: VMCI_SUCCESS; VMCI_ERROR_NO_RESOURCES (over the limit)
 */
int32_t dev_inbox_push(struct dev_inbox *inbox, const uint8_t *dg, size_t size, bool event);

/* dev_inbox_first() - padded size of the oldest datagram, 0 if there is none */
size_t dev_inbox_first(const struct dev_inbox *inbox);

/* dev_inbox_fit() - bytes of the oldest datagrams, whole and padded, that fit into @room */
size_t dev_inbox_fit(const struct dev_inbox *inbox, size_t room);

/**
 * dev_inbox_view() - where the queued bytes [@off, @off + @len) lie
 * @off, @len:  inside of what is queued; @len not 0
 * @ret_len:    bytes at the place returned: less than @len where the ring wraps
 */
const uint8_t *dev_inbox_view(const struct dev_inbox *inbox, size_t off, size_t len, size_t *ret_len);

/* dev_inbox_pop() - drop the oldest datagrams, @len padded bytes of them (a result of dev_inbox_fit()) */
void dev_inbox_pop(struct dev_inbox *inbox, size_t len);

#endif /* DEVICE_INBOX_H */
