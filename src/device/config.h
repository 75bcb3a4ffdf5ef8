/* SPDX-License-Identifier: BSD-2-Clause */
/* PCI configuration space. VMCI reference, 1.1 and 1.2; vfio-user reference, 8 and 10. */
#ifndef DEVICE_CONFIG_H
#define DEVICE_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "device/device.h"

#define CONFIG_SIZE 256u

/**
 * struct dev_space - the 256 bytes, and which of their bits the guest may change
 */
struct dev_space {
	uint8_t bytes[CONFIG_SIZE];
	uint8_t writable[CONFIG_SIZE];
};

/* dev_space_init() - power-on contents for a device of @config */
void dev_space_init(struct dev_space *space, const struct dev_config *config);

/* dev_space_read() - outside of the 256 bytes there are zeroes */
void dev_space_read(const struct dev_space *space, uint64_t off, uint8_t *buf, size_t len);

/* dev_space_write() - change the writable bits */
void dev_space_write(struct dev_space *space, uint64_t off, const uint8_t *buf, size_t len);

/* dev_space_is_master() - may the device access guest memory (Bus Master Enable)? */
bool dev_space_is_master(const struct dev_space *space);

/* dev_space_has_intx() - may the device drive the interrupt line (pin there, not disabled in COMMAND)? */
bool dev_space_has_intx(const struct dev_space *space);

/* dev_space_set_pending() - the Interrupt Status bit of STATUS */
void dev_space_set_pending(struct dev_space *space, bool pending);

#endif /* DEVICE_CONFIG_H */
