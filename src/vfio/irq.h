/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Interrupts: the eventfds that the VMM gave us, and raising them (reference, 7).
 */
#ifndef VFIO_IRQ_H
#define VFIO_IRQ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vfio/msg.h"

struct vus_irqs;

/**
 * vus_irqs_new() - make the interrupts of a device; none is set up
 * @count: per enum vus_irq: INTX, ERR and REQ at most 1, MSI and MSI-X at most LIMIT_VFIO_VECTORS
 *
 * Return: 0; -EINVAL; -ENOMEM; what epoll_create1(2) said
 */
int vus_irqs_new(const uint32_t count[VUS_IRQ_NUM], struct vus_irqs **ret_irqs);

/* vus_irqs_free() - close all eventfds and free; NULL is fine. Returns NULL. */
struct vus_irqs *vus_irqs_free(struct vus_irqs *irqs);

/* vus_irqs_count() - vectors of an index */
uint32_t vus_irqs_count(const struct vus_irqs *irqs, enum vus_irq index);

/**
 * vus_irqs_set() - carry out a SET_IRQS (reference, 7)
 * @fds: @n_fds descriptors that came with it; what is kept is replaced by -1, the caller closes the rest
 *
 * All or nothing. Eventfds are switched to O_NONBLOCK: a counter at its maximum must not block us.
 *
 * Return: 0; -EINVAL (range, number of fds, not an eventfd, an action that the index does not know)
 */
int vus_irqs_set(struct vus_irqs *irqs, const struct vus_set_irqs *set, int *fds, size_t n_fds);

/**
 * vus_irq_cause() - send the message of interrupt cause @cause (VMCI reference, 1.3)
 *
 * MSI-X: vector @cause if the guest set it up; vector 0 if that is the only one set up since MSI-X was
 * enabled (shared mode); else the vector's pending bit. MSI: message 0. Without either: nothing (INTx has a
 * level of its own). Never blocks.
 */
void vus_irq_cause(struct vus_irqs *irqs, unsigned cause);

/**
 * vus_irq_intx() - the level of the INTx line
 *
 * Fires when the line is asserted and not masked; after that it is masked until the VMM unmasks it, by
 * message or by the resample eventfd (reference, 7.3). Never blocks.
 */
void vus_irq_intx(struct vus_irqs *irqs, bool level);

/* vus_irqs_pba() - the pending bits of MSI-X, vector i being bit i (reference, 7.1) */
uint64_t vus_irqs_pba(const struct vus_irqs *irqs);

/* vus_irqs_reset() - forget what is pending, and the level of INTx; eventfds stay (reference, 9.2) */
void vus_irqs_reset(struct vus_irqs *irqs);

/**
 * vus_irqs_fd() - poll this for EPOLLIN and call vus_irqs_handle() then
 *
 * It is the resample eventfd's stand-in, the same for the whole life of @irqs.
 *
 * Return: a descriptor that @irqs owns; -1 if the device has no INTx
 */
int vus_irqs_fd(const struct vus_irqs *irqs);

/* vus_irqs_handle() - the resample eventfd fired: unmask INTx. Harmless if it did not. */
void vus_irqs_handle(struct vus_irqs *irqs);

#endif /* VFIO_IRQ_H */
