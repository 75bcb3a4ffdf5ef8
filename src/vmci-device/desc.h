/* SPDX-License-Identifier: BSD-2-Clause */
/* What a VMM is told about the device. */
#ifndef VMCI_DEVICE_DESC_H
#define VMCI_DEVICE_DESC_H

#include "device/device.h"
#include "vfio/session.h"

/**
 * desc_make() - describe @dev to the session that serves it
 * @name: names the VM in log lines; must outlive the session
 * @intx: does the device have an interrupt pin?
 */
void desc_make(const struct dev *dev, const char *name, bool intx, struct vus_desc *ret_desc);

#endif /* VMCI_DEVICE_DESC_H */
