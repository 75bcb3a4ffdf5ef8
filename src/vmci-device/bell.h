/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Doorbells between a guest and other contexts, both ways. To open one takes vmcid; to ring one does not: it is an
 * eventfd.
 */
#ifndef VMCI_DEVICE_BELL_H
#define VMCI_DEVICE_BELL_H

#include <stdint.h>
#include <systemd/sd-event.h>

#include "proto/handle.h"

struct bells;

/**
 * struct bells_ports - what they ask of their surroundings
 */
struct bells_ports {
	void *ctx;

	/*
	 * Get the eventfd that rings @handle of another context, the caller's from then on. Return: 0; a
	 * VMCI_ERROR_*: there is none; 1: nobody can be asked now
	 */
	int32_t (*open)(void *ctx, struct vmci_handle handle, int *ret_fd);

	/* Somebody rang @handle of the guest. From the event loop; may call bells_unlink(). */
	void (*rung)(void *ctx, struct vmci_handle handle);

	/* Monotonic time in nanoseconds. */
	uint64_t (*now)(void *ctx);
};

/* bells_new() - none yet. Return: 0 or -ENOMEM */
int bells_new(sd_event *event, const struct bells_ports *ports, struct bells **ret_bells);

/* bells_free() - close all; NULL is fine. Returns NULL. */
struct bells *bells_free(struct bells *bells);

/**
 * bells_ring() - the guest rings @handle of another context
 *
 * Return: VMCI_SUCCESS; what the open port said; VMCI_ERROR_UNAVAILABLE: nobody could be asked, or the bell is jammed
 */
int32_t bells_ring(struct bells *bells, struct vmci_handle handle);

/* bells_forget() - @context has gone, and its doorbells with it */
void bells_forget(struct bells *bells, uint32_t context);

/**
 * bells_give() - somebody wants to ring @handle, which the guest has linked
 * @ret_fd: an eventfd; stays ours, to be passed on at once
 *
 * Everybody who asks for the same bell gets the same eventfd.
 * Return: VMCI_SUCCESS; VMCI_ERROR_NO_RESOURCES
 */
int32_t bells_give(struct bells *bells, struct vmci_handle handle, int *ret_fd);

/* bells_unlink() - @handle is no doorbell of the guest any more; nothing if nobody had asked for it */
void bells_unlink(struct bells *bells, struct vmci_handle handle);

#endif /* VMCI_DEVICE_BELL_H */
