/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* pci.h - the PCI driver */
#ifndef OVMCI_PCI_H
#define OVMCI_PCI_H

struct pci_driver;

extern struct pci_driver vmci_pci_driver;

#endif /* OVMCI_PCI_H */
