/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* qpair.h - queue pairs, inwards */
#ifndef OVMCI_QPAIR_H
#define OVMCI_QPAIR_H

/*
 * vmci_qpairs_end() - the device was reset, and uses no memory of ours any more: unmap all, free what nobody owns
 *
 * Under the device's lock.
 */
void vmci_qpairs_end(void);

#endif /* OVMCI_QPAIR_H */
