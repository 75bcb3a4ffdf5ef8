/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * vsock.h - functions of the vsock core that differ between kernels; compat.h cannot have them, since they need
 * net/af_vsock.h, which few sources want
 */
#ifndef OVMCI_COMPAT_VSOCK_H
#define OVMCI_COMPAT_VSOCK_H

#include <linux/version.h>
#include <net/af_vsock.h>

/*
 * 7.3: the core counts the backlog, and has a call for the move from the one list to the other. Before, the transport
 * counted. The caller has references to both.
 */
#if LINUX_VERSION_CODE < KERNEL_VERSION(7, 3, 0)
static inline void compat_pending_to_accept(struct sock *listener, struct sock *child)
{
	vsock_remove_pending(listener, child);
	vsock_enqueue_accept(listener, child);
}

static inline void compat_add_pending(struct sock *listener, struct sock *child)
{
	vsock_add_pending(listener, child);
	sk_acceptq_added(listener);
}

static inline void compat_remove_pending(struct sock *listener, struct sock *child)
{
	vsock_remove_pending(listener, child);
	sk_acceptq_removed(listener);
}

#define vsock_pending_to_accept compat_pending_to_accept
#define vsock_add_pending compat_add_pending
#define vsock_remove_pending compat_remove_pending
#endif

#endif /* OVMCI_COMPAT_VSOCK_H */
