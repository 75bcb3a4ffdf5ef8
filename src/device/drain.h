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
 * @burst: the datagrams of the current burst; what follows them reads as 0xff
 * @data:  bytes of them
 * @size:  bytes of the burst: DRAIN_SMALL or DRAIN_LARGE
 * @pos:   bytes of the burst that the guest has read
 */
struct dev_drain {
	uint8_t burst[DRAIN_LARGE];
	size_t data;
	size_t size;
	size_t pos;
};

/* dev_drain_clear() - the next byte begins a drain */
void dev_drain_clear(struct dev_drain *drain);

/**
 * dev_drain_next() - the next byte of the stream; takes datagrams out of @inbox as bursts begin
 * @ret_ended: was this the last byte of a drain? If datagrams wait, the guest needs an interrupt
 */
uint8_t dev_drain_next(struct dev_drain *drain, struct dev_inbox *inbox, bool *ret_ended);

#endif /* DEVICE_DRAIN_H */
