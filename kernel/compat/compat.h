/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * compat.h - all that differs between the kernels that we build for (6.1 to the newest)
 *
 * Kbuild puts it in front of every source (-include), so that those read as if only the newest kernel existed. An entry
 * gives an older kernel what the newest has, and says since when that has it.
 */
#ifndef OVMCI_COMPAT_H
#define OVMCI_COMPAT_H

#include <linux/version.h>

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 1, 0)
#error "the modules need Linux 6.1 or newer"
#endif

/* The name since 6.8. */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 8, 0)
#define PCI_IRQ_INTX PCI_IRQ_LEGACY
#endif

/* There since 6.3; the flags were written to directly before. */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 3, 0)
#define vm_flags_set(vma, flags) ((vma)->vm_flags |= (flags))
#endif

#endif /* OVMCI_COMPAT_H */
