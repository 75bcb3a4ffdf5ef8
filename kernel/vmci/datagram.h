/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* datagram.h - datagram endpoints, inwards */
#ifndef OVMCI_DATAGRAM_H
#define OVMCI_DATAGRAM_H

#include <ovmci.h>

/**
 * vmci_datagram_dispatch() - give a datagram from the device to whom it is for
 * @dg: private memory
 *
 * Calls endpoints or, for events, subscribers; may sleep. Nobody's datagrams are dropped.
 */
void vmci_datagram_dispatch(const struct ovmci_datagram *dg);

#endif /* OVMCI_DATAGRAM_H */
