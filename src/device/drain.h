/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The byte stream of DATA_IN: what the guest reads when it empties its queue through the ports.
 * VMCI reference, 3.5.
 */
#ifndef DEVICE_DRAIN_H
#define DEVICE_DRAIN_H

#include "device/inbox.h"

#define DRAIN_SMALL 4096u
#define DRAIN_LARGE VMCI_DG_MAX_SIZE

/**
 * struct dev_drain - where the guest is in its drain
 * @burst:  the datagrams of the current burst; what follows them reads as 0xff
 * @data:   bytes of them
 * @length: bytes of the current burst: DRAIN_SMALL or DRAIN_LARGE
 * @size:   what the guest reads in a burst, for all it knows before it has seen the first datagram
 * @pos:    bytes of the current burst that the guest has read
 * @begun:  1: there is a current burst: @burst, @data and @length mean something
 */
struct dev_drain {
	uint8_t burst[DRAIN_LARGE];
	size_t data;
	size_t length;
	size_t size;
	size_t pos;
	unsigned begun;
};

/* dev_drain_clear() - the next byte begins a drain */
void dev_drain_clear(struct dev_drain *drain);

/**
 * dev_drain_next() - the next byte of the stream; takes datagrams out of @inbox as bursts begin
 * @ret_ended: was this the last byte of a drain? If datagrams wait, the guest needs an interrupt
 */
uint8_t dev_drain_next(struct dev_drain *drain, struct dev_inbox *inbox, bool *ret_ended);

/* dev_drain_is_empty() - has the guest read all datagrams that were taken out of the queue? */
bool dev_drain_is_empty(const struct dev_drain *drain);

/**
 * dev_drain_adopt() - go on where another process stopped, at whatever instruction that was
 * @left: what it left behind; need not make sense
 */
void dev_drain_adopt(struct dev_drain *drain, const struct dev_drain *left);

#endif /* DEVICE_DRAIN_H */
