/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The guest's membership of the fabric: what it sends to other contexts than the streams of the host goes out here,
 * and what they send comes in. One for the process, whatever VMM is connected; it lives on when vmcid has gone, and
 * joins the next.
 */
#ifndef VMCI_DEVICE_FABRIC_H
#define VMCI_DEVICE_FABRIC_H

#include <systemd/sd-event.h>

#include "device/device.h"
#include "end.h"
#include "loan.h"
#include "window.h"

struct fabric;

/**
 * struct fabric_config - how to join
 * @cid:        the guest's context
 * @name:       of the VM, for vmcid's log
 * @fd:         connected to vmcid; taken over, also on failure. -1: it will come to @rendezvous
 * @rendezvous: where a new vmcid connects when the old one has gone, or NULL: that ends the membership
 * @window:     where shared memory of the guest lies; NULL: there is none
 * @ends:       of streams; stays the caller's, and lives longer. NULL: there are no streams
 * @spin_ns:    how long to look at a queue pair after it ran empty, before going to sleep
 */
struct fabric_config {
	uint32_t cid;
	const char *name;
	int fd;
	const char *rendezvous;
	const struct window *window;
	struct ends *ends;
	uint64_t spin_ns;
};

/**
 * fabric_new() - join
 *
 * Waits for vmcid, LIMIT_FABRIC_HELLO_MS at most. Says itself what went wrong.
 * Return: 0 or a negative errno
 */
int fabric_new(sd_event *event, const struct fabric_config *config, struct fabric **ret_fabric);

/* fabric_free() - leave, and drop everything; there must be no device any more. NULL is fine. Returns NULL. */
struct fabric *fabric_free(struct fabric *f);

/**
 * fabric_stop() - leave, but let peers read what the guest wrote last
 * @idle: called from the event loop (not from here) when they have; it may call fabric_free()
 *
 * Return: is there something to be read, so that @idle will be called?
 */
bool fabric_stop(struct fabric *f, void (*idle)(void *ctx), void *ctx);

/* fabric_lingering() - bytes that guests wrote last and that peers have not read yet */
size_t fabric_lingering(const struct fabric *f);

/* fabric_set_dev() - the device of the VM that is there from now on; NULL: there is none */
void fabric_set_dev(struct fabric *f, struct dev *dev);

/* fabric_run() - do what is to do, a bounded part of it. Return: is it to be called again without sleeping? */
bool fabric_run(struct fabric *f);

/* fabric_deadline() - when fabric_run() must be called at the latest; UINT64_MAX: never */
uint64_t fabric_deadline(const struct fabric *f);

/* fabric_memory_changed() - the VMM mapped memory */
void fabric_memory_changed(struct fabric *f);

/* fabric_set_streams() - the streams of the VM, as fabric_set_dev() */
void fabric_set_streams(struct fabric *f, struct streams *streams);

/* fabric_open() - stream_ports.open, for any context: see outlet_open() */
int fabric_open(struct fabric *f, struct stream *s, uint32_t local_cid, uint32_t local_port, uint32_t peer_port,
		void **ret_end);

/* fabric_postpone() - the same when there is a vmcid: see outlet_postpone(); -EHOSTDOWN: none will come */
int fabric_postpone(struct fabric *f, struct stream *s, void **ret_end);

/* fabric_memory_gone() - the VMM unmapped memory */
void fabric_memory_gone(struct fabric *f);

/* fabric_set_places() - the guest memory of the device that is there; NULL: it is not to be lent to anybody */
void fabric_set_places(struct fabric *f, loan_places_fn places, void *ctx);

/* Ports of the device: see struct dev_ports. None of them waits for more than LIMIT_FABRIC_CALL_MS. */
int32_t fabric_datagram(struct fabric *f, const uint8_t *dg, size_t size);
int32_t fabric_doorbell(struct fabric *f, struct vmci_handle handle);
void fabric_room(struct fabric *f);
void fabric_bell_gone(struct fabric *f, struct vmci_handle handle);
void fabric_driver_gone(struct fabric *f);
int32_t fabric_far_find(struct fabric *f, const struct dev_far *far, void **ret_owner, uint32_t *ret_context);
void fabric_far_attached(struct fabric *f, void *owner);
void fabric_far_gone(struct fabric *f, void *owner);

#endif /* VMCI_DEVICE_FABRIC_H */
