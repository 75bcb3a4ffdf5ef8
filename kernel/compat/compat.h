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

/* --- vmci --------------------------------------------------------------------------------------------------------- */

/* The name since 6.8. */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 8, 0)
#define PCI_IRQ_INTX PCI_IRQ_LEGACY
#endif

/* Since 6.8 without the number, which was always 1. */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 8, 0)
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt	/* as in all sources: the header would set another one */
#include <linux/eventfd.h>
#define eventfd_signal(ctx) ((void)eventfd_signal(ctx, 1))
#endif

/* There since 6.3; the flags were written to directly before. */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 3, 0)
#define vm_flags_set(vma, flags) ((vma)->vm_flags |= (flags))
#endif

/* --- vsock -------------------------------------------------------------------------------------------------------- */

/*
 * 7.0: the core knows of network namespaces, and its questions have the socket as their first argument. 7.3: it asks
 * whether a transport to the host reaches other contexts; older ones suppose so where there is no other way to them.
 */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(7, 3, 0)
#define COMPAT_HAS_REMOTE_CID(fn) .has_remote_cid = (fn),
#else
#define COMPAT_HAS_REMOTE_CID(fn)
#endif
#if LINUX_VERSION_CODE < KERNEL_VERSION(7, 0, 0)
#define vmsock_dgram_allow(vsk, cid, port) vmsock_dgram_allow(cid, port)
#define vmsock_stream_allow(vsk, cid, port) vmsock_stream_allow(cid, port)
#define vsock_net_mode_global(vsk) true
#endif

/* 7.3: one call. The caller has references to both. */
#if LINUX_VERSION_CODE < KERNEL_VERSION(7, 3, 0)
#define vsock_pending_to_accept(listener, child)		\
	do {							\
		vsock_remove_pending(listener, child);		\
		vsock_enqueue_accept(listener, child);		\
	} while (0)
#endif

#endif /* OVMCI_COMPAT_H */
