/* SPDX-License-Identifier: BSD-2-Clause */
/* A datagram that the guest sends byte by byte to DATA_OUT. VMCI reference, 3.2. */
#ifndef DEVICE_OUTBOX_H
#define DEVICE_OUTBOX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/limits.h"

/**
 * struct dev_outbox - the datagram under assembly
 * @buf:     what has arrived
 * @len:     bytes of it
 * @size:    bytes of the whole datagram, 0 until the header is there
 * @swallow: the datagram is too large: bytes are dropped until dev_outbox_abort()
 */
struct dev_outbox {
	uint8_t buf[LIMIT_HYPERCALL_SIZE];
	size_t len;
	size_t size;
	bool swallow;
};

/* dev_outbox_clear() - the next byte begins a datagram */
void dev_outbox_clear(struct dev_outbox *outbox);

/**
 * dev_outbox_put() - one byte from the guest
 *
 * Return: does @buf hold a complete datagram of @size bytes now? Then it must be cleared before the next byte.
 */
bool dev_outbox_put(struct dev_outbox *outbox, uint8_t byte);

/**
 * dev_outbox_abort() - the guest asks for a result: drop what is incomplete
 *
 * Return: was there a fragment, or a datagram that is too large?
 */
bool dev_outbox_abort(struct dev_outbox *outbox);

#endif /* DEVICE_OUTBOX_H */
