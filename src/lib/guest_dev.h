/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * /dev/vmci of our vmci.ko (kernel/uapi/vmci_dev.h): what a membership of a guest has there that goes beyond datagrams,
 * names and shared memory (lib/guest.h).
 *
 * All but the first take the membership's file, lib_device(). Any thread; none waits. They return 0 or more, or
 * VMCI_ERROR_* with vmci_errmsg(); VMCI_ERROR_UNAVAILABLE: the device has gone.
 */
#ifndef LIB_GUEST_DEV_H
#define LIB_GUEST_DEV_H

#include <stdbool.h>

#include "proto/handle.h"
#include "vmci/vmci.h"

/* guest_dev_open() - a file. -ENOTTY: /dev/vmci is somebody else's; another negative errno: there is none */
int guest_dev_open(void);

/**
 * guest_dev_qpair_create() - make a queue pair or attach to one
 * @handle: in and out
 * @flags:  VMCI_QP_*
 * @wake:   an eventfd that is signalled when the state changes
 * @ret_map, @ret_size: its memory, which a child does not inherit
 *
 * Return: 1: attached; 0: created
 */
int guest_dev_qpair_create(int device, struct vmci_handle *handle, uint64_t produce, uint64_t consume, uint32_t peer,
			   uint32_t flags, int wake, void **ret_map, size_t *ret_size);

/* guest_dev_qpair_state() - an enum vmci_qpair_state. A pair whose device has gone has been left */
int guest_dev_qpair_state(int device, struct vmci_handle handle, uint32_t *ret_peer);

/* guest_dev_qpair_destroy() - its memory stays mapped */
void guest_dev_qpair_destroy(int device, struct vmci_handle handle);

/* guest_dev_bell_create() - a doorbell that adds to @eventfd; @rid may be VMCI_INVALID_ID */
int guest_dev_bell_create(int device, uint32_t rid, int eventfd, struct vmci_handle *ret_handle);
void guest_dev_bell_destroy(int device, struct vmci_handle handle);

/* guest_dev_bell_ring() - VMCI_ERROR_NOT_FOUND: there is none */
int guest_dev_bell_ring(int device, struct vmci_handle handle);

/* guest_dev_subscribe() - to the events of vmci.h, or to none. @device is readable while one waits */
int guest_dev_subscribe(int device, bool on);

/* guest_dev_event() - VMCI_ERROR_WOULD_BLOCK: none waits */
int guest_dev_event(int device, struct vmci_event *ret_event);

#endif /* LIB_GUEST_DEV_H */
