/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The pages of a queue pair of the guest, lent to a trusted program, which maps them itself: a direct pair, as far as it
 * is more than a life socket (bridge.h).
 */
#ifndef VMCI_DEVICE_LOAN_H
#define VMCI_DEVICE_LOAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/qp.h"
#include "vfio/dma.h"

struct loan;

/* loan_places_fn - vus_dma_places() of the guest's memory */
typedef int (*loan_places_fn)(void *ctx, const struct mem_pages *pages, size_t off, size_t len,
			      struct vus_places *places);

/**
 * loan_check() - can the pages of @qp be lent?
 * @qp: as the device sees it: it produces what the program writes
 *
 * Return: 0; -ENOTSUP, -E2BIG, -EFAULT: as vus_dma_places(); -ENOMEM
 */
int loan_check(const struct qp *qp, loan_places_fn places, void *ctx);

/**
 * loan_begin() - lend them
 * @life: to the program, which gets the sheet over it; borrowed
 * @qp:   copied
 *
 * Return: as loan_check(), or another negative errno: the program could not be told
 */
int loan_begin(int life, const struct qp *qp, loan_places_fn places, void *ctx, struct loan **ret_loan);

/* loan_code(), loan_reason() - what a negative errno of these is for programs, and for the log */
int32_t loan_code(int error);
const char *loan_reason(int error);

/* loan_refuse() - tell the program that there will be none, and why */
void loan_refuse(int life, int32_t code);

/* loan_is_good() - are the pages where they were? */
bool loan_is_good(const struct loan *loan);

/**
 * loan_look() - does the program wait for the guest, and need it no longer? Then wake it
 *
 * Return: 1: it waits; 0: it does not; -EFAULT: the memory is not there
 */
int loan_look(struct loan *loan);

/*
 * loan_return() - the guest wants them back: the program is told, and gets what it has not read. Return: 0; a negative
 * errno: that is lost
 */
int loan_return(struct loan *loan);

/* loan_free() - the program must not touch them any more; NULL is fine. Returns NULL. */
struct loan *loan_free(struct loan *loan);

#endif /* VMCI_DEVICE_LOAN_H */
