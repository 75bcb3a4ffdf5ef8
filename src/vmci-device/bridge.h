/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Queue pairs between a guest and other contexts: bytes are copied between the guest's rings, in its memory, and
 * those in a memory that we share with the peer (fabric/ring.h). Neither ever sees the other's memory; but a trusted
 * peer may have wished for just that, then nothing is copied (loan.h).
 */
#ifndef VMCI_DEVICE_BRIDGE_H
#define VMCI_DEVICE_BRIDGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "loan.h"
#include "proto/handle.h"
#include "proto/qp.h"

struct bridge;		/* one of them; the device's owner of the far end */
struct bridges;

/**
 * struct bridges_ports - what they ask of their surroundings
 */
struct bridges_ports {
	void *ctx;

	/* dev_far_check(), dev_far_look(), dev_far_attach(), dev_qp_map(), dev_qp_detach() of the guest's device */
	int32_t (*check)(void *ctx, struct vmci_handle handle, uint32_t context, uint64_t produce, uint64_t consume);
	int32_t (*look)(void *ctx, struct vmci_handle handle, struct qp *ret_qp);
	int32_t (*attach)(void *ctx, struct vmci_handle handle, uint32_t context, uint64_t produce, uint64_t consume,
			  void *owner);
	int32_t (*map)(void *ctx, struct vmci_handle handle, struct qp *ret_qp);
	void (*detach)(void *ctx, struct vmci_handle handle);

	/* Of the guest's memory. */
	loan_places_fn places;

	/* There is a pair with @context now. */
	void (*met)(void *ctx, uint32_t context);

	/* Monotonic time in nanoseconds. */
	uint64_t (*now)(void *ctx);
};

/**
 * struct bridge_hold - what vmcid has to know of a pair
 * @produce, @consume: as the guest sees them
 */
struct bridge_hold {
	struct vmci_handle handle;
	uint32_t context;
	uint64_t produce;
	uint64_t consume;
};

/**
 * bridges_new() - none yet
 * @cid:     the guest's context
 * @spin_ns: how long a bridge is looked at without sleeping after bytes were moved
 *
 * Return: 0 or -ENOMEM
 */
int bridges_new(sd_event *event, uint32_t cid, uint64_t spin_ns, const struct bridges_ports *ports,
		struct bridges **ret_bridges);

/* bridges_free() - end all, whatever is in them; the device must not know any any more. NULL is fine. Returns NULL. */
struct bridges *bridges_free(struct bridges *bridges);

/* --- Beginning -------------------------------------------------------------------------------------------- */

/**
 * bridge_offer() - @context wants to attach to a pair that the guest made
 * @produce, @consume: that context's view of the sizes
 * @direct: it is trusted, and wants the guest's pages
 * @ret_memory, @ret_life: for it; the caller's, to be closed once they are on their way
 *
 * The guest learns of it when the peer has mapped the memory. If it never does, the pair can be attached again.
 * Return: VMCI_SUCCESS_QUEUEPAIR_ATTACH, or VMCI_ERROR_*
 */
int32_t bridge_offer(struct bridges *bridges, struct vmci_handle handle, uint32_t context, uint64_t produce,
		     uint64_t consume, bool direct, int *ret_memory, int *ret_life);

/**
 * bridge_take() - the guest attaches to a pair that @hold->context made
 * @direct: it is trusted, and wants the guest's pages
 * @memory, @life: from it; taken over, also on failure
 * @ret_bridge:    to be the owner of the far end; bridge_attached() or bridge_gone() follows, before anything else
 *
 * Return: VMCI_SUCCESS_QUEUEPAIR_ATTACH, or VMCI_ERROR_*
 */
int32_t bridge_take(struct bridges *bridges, const struct bridge_hold *hold, bool direct, int memory, int life,
		    struct bridge **ret_bridge);

/*
 * bridge_attached(), bridge_gone() - as dev_ports.far_attached, far_gone. What the guest wrote last reaches the
 * peer.
 */
void bridge_attached(struct bridge *bridge);
void bridge_gone(struct bridge *bridge);

/* --- Running ---------------------------------------------------------------------------------------------- */

/* bridges_run() - move bytes, each pair a bounded number. Return: is it to be called again without sleeping? */
bool bridges_run(struct bridges *bridges);

/* bridges_deadline() - when bridges_run() must be called at the latest; UINT64_MAX: never */
uint64_t bridges_deadline(const struct bridges *bridges);

/*
 * bridges_cross() - something is about to pass between the guest and @context (VMCI_INVALID_ID: anybody): what was
 * written before it, comes before it, as far as the rings have room
 */
void bridges_cross(struct bridges *bridges, uint32_t context);

/* bridges_memory_changed() - the VMM mapped memory: try what was not there */
void bridges_memory_changed(struct bridges *bridges);

/* bridges_memory_gone() - the VMM unmapped memory: what was lent of it is not any more */
void bridges_memory_gone(struct bridges *bridges);

/* bridges_driver_gone() - the guest's driver has gone; the device has called bridge_gone() for what was attached */
void bridges_driver_gone(struct bridges *bridges);

/* bridges_lingering() - bytes that the guest wrote last, and that peers have not read yet */
size_t bridges_lingering(const struct bridges *bridges);

/* bridges_on_idle() - call @idle from the event loop when nothing lingers any more. Return: does anything now? */
bool bridges_on_idle(struct bridges *bridges, void (*idle)(void *ctx), void *ctx);

/* --- What vmcid is told ------------------------------------------------------------------------------------- */

/*
 * bridges_next_left() - a pair whose end here has been left, and which vmcid has not been told of. Return: is there
 * one?
 */
bool bridges_next_left(struct bridges *bridges, struct vmci_handle *ret_handle);

/*
 * bridges_leave() - vmcid may believe that we are attached to @handle, but we are not: comes out of
 * bridges_next_left()
 */
void bridges_leave(struct bridges *bridges, struct vmci_handle handle);

/* bridges_hold_all() - a new vmcid knows nothing: all that are attached come out of bridges_next_hold(), once */
void bridges_hold_all(struct bridges *bridges);
bool bridges_next_hold(struct bridges *bridges, struct bridge_hold *ret_hold);

#endif /* VMCI_DEVICE_BRIDGE_H */
