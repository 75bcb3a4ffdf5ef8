/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* id.h - choosing resource ids; pure */
#ifndef OVMCI_ID_H
#define OVMCI_ID_H

#include <linux/types.h>

#include <ovmci.h>

/* How many ids we look at before we give up: more than there can be objects of a kind. */
#define ID_TRIES (1u << 17)

/**
 * id_choose() - an id from 1024 up that is free, and not one that was free a moment ago
 * @cursor: where to look next; 0 at first. Its owner serialises
 * @is_used: is this id taken?
 *
 * Return: the id, or VMCI_INVALID_ID: none found
 */
u32 id_choose(u32 *cursor, bool (*is_used)(u32 id, void *data), void *data);

#endif /* OVMCI_ID_H */
