/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * One VMM connection: the vfio-user session, guest memory, the device and its streams, wired together.
 * Nothing of it outlives the connection.
 */
#ifndef VMCI_DEVICE_VM_H
#define VMCI_DEVICE_VM_H

#include <systemd/sd-event.h>

#include "device/device.h"
#include "fabric.h"
#include "hybrid.h"
#include "keeper.h"
#include "window.h"

struct vm;

/**
 * struct vm_config - what every VM at our socket gets
 * @device:  the device
 * @hybrid:  where its streams lead to, or NULL: guests find no program, and no program finds guests
 * @fabric:  where other contexts are, or NULL: there are none
 * @window:  memory behind the device's window, or NULL; its size is that in @device
 * @keeper:  who takes over a VM that is still there at the end, or NULL
 * @spin_ns: how long to look at a stream's ring after it ran empty, before going to sleep
 * @legacy:  streams with the legacy handshake only
 */
struct vm_config {
	struct dev_config device;
	struct hybrid *hybrid;
	struct fabric *fabric;
	const struct window *window;
	struct keeper *keeper;
	uint64_t spin_ns;
	bool legacy;
};

/**
 * vm_new() - serve a VMM
 * @fd:    its connection; taken over, also on failure
 * @ended: called once, from the event loop, when the VMM has gone or was ended; it may call vm_free()
 *
 * Return: 0 or a negative errno
 */
int vm_new(sd_event *event, int fd, const struct vm_config *config, void (*ended)(void *ctx), void *ctx,
	   struct vm **ret_vm);

/**
 * vm_stop() - end it, but let the guest know first
 *
 * All streams end: programs get what the guest had written, and the guest is told that its peers have gone. When it
 * has fetched that, or after LIMIT_FAREWELL_NS, @ended is called.
 */
void vm_stop(struct vm *vm);

/*
 * vm_free() - end it: peers get what the guest had written, then the end of their streams. A VMM that is still there
 * is left to the keeper. NULL is fine. Returns NULL.
 */
struct vm *vm_free(struct vm *vm);

#endif /* VMCI_DEVICE_VM_H */
