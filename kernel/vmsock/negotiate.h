/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* negotiate.h - what two ends agree on before they are connected (transport reference, 6.4 and 6.5); pure */
#ifndef VMSOCK_NEGOTIATE_H
#define VMSOCK_NEGOTIATE_H

#include <linux/init.h>
#include <linux/limits.h>
#include <linux/types.h>

#include <vmci/defs.h>

/* A ring keeps one byte free. And a pair must fit into what a device takes, whatever a program thinks its limits are. */
#define RING_MIN 2u
#define RING_MAX (VMCI_QP_GUEST_MEMORY_MAX / 2)

/**
 * struct ring_limits - a socket's SO_VM_SOCKETS_BUFFER_* options
 */
struct ring_limits {
	u64 size;
	u64 min;
	u64 max;
};

/* vmsock_negotiate_request() - what a client asks for. Return: bytes; 0: the options make no ring */
u64 vmsock_negotiate_request(const struct ring_limits *limits);

/**
 * vmsock_negotiate_answer() - what a server answers to a client that asks for @asked bytes
 *
 * Return: bytes; 0: refuse
 */
u64 vmsock_negotiate_answer(const struct ring_limits *limits, u64 asked);

/* vmsock_negotiate_is_acceptable() - may a server's answer stand? */
bool vmsock_negotiate_is_acceptable(const struct ring_limits *limits, u64 answer);

/* negotiate_proto() - the protocol that a server picks of those offered. Return: its bit; 0: refuse */
static inline u16 negotiate_proto(u16 offered)
{
	return offered & VMCI_STREAM_PROTO_QSTATE;
}

#ifdef OVMCI_DEBUG
bool __init vmsock_negotiate_selftest(void);
#endif

#endif /* VMSOCK_NEGOTIATE_H */
