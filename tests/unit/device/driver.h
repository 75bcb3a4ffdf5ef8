/* SPDX-License-Identifier: BSD-2-Clause */
/* The receive side of a guest's driver, written from VMCI reference 3.5 and 3.6: an oracle for the device. */
#ifndef TEST_DEVICE_DRIVER_H
#define TEST_DEVICE_DRIVER_H

#include "rig.h"

/**
 * struct driver - a driver that dispatches what it receives to a callback
 * @dispatch: gets each datagram, with its padding
 * @before:   called before each byte is read from DATA_IN, or NULL; may change @rig
 * @ctx:      for both
 * @bytes:    bytes read from DATA_IN so far
 * @bursts:   bursts read so far
 * @receives: DMA receives so far
 */
struct driver {
	struct rig *rig;
	void (*dispatch)(void *ctx, const uint8_t *dg, size_t size);
	void (*before)(void *ctx);
	void *ctx;
	size_t bytes;
	unsigned bursts;
	unsigned receives;
	uint8_t buffer[VMCI_DG_MAX_SIZE];
};

/* driver_drain_ports() - one drain: what a driver does on the DATAGRAM interrupt */
void driver_drain_ports(struct driver *driver);

/* driver_drain_dma() - the same on the DMA path */
void driver_drain_dma(struct driver *driver);

#endif /* TEST_DEVICE_DRIVER_H */
