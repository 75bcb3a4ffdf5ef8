/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Every limit of OpenVMCI, with its reason (design, rule 4). Sizes are ours; a peer may only
 * shrink them. Limits that are part of VMCI itself stand in vmci/defs.h.
 */
#ifndef PROTO_LIMITS_H
#define PROTO_LIMITS_H

#include "vmci/defs.h"

/*
 * Largest hypercall datagram taken over the ports: the largest that any driver builds, a
 * QUEUEPAIR_ALLOC for 128 MiB with 64-bit PPNs (VMCI reference, 3.1).
 */
#define LIMIT_HYPERCALL_SIZE 262232u

/* Queue pairs of one guest: what 128 MiB of 4 KiB pages hold (reference, 7.6). */
#define LIMIT_QUEUE_PAIRS 16384u

/* Doorbells of one guest; also the largest bitmap index + 1 with 4 KiB pages (reference, 5). */
#define LIMIT_DOORBELLS 4096u

/* Bytes of guest queue memory that one guest may have attached, and that may linger unread. */
#define LIMIT_QUEUE_MEMORY VMCI_QP_GUEST_MEMORY_MAX

/*
 * Streams of one guest. 128 MiB hold 256 with the default ring of 256 KiB each way; a guest with
 * smaller rings can have more, and each costs us a descriptor and about 500 bytes.
 */
#define LIMIT_STREAMS 4096u

/* Pending and unaccepted connections of one port: the usual SOMAXCONN. */
#define LIMIT_BACKLOG 128u

/* Ring sizes that a stream accepts and proposes (transport reference, 1.1 and 6.5). */
#define LIMIT_RING_MIN 128u
#define LIMIT_RING_MAX 262144u
#define LIMIT_RING_DEFAULT 262144u
#define LIMIT_RING_LEGACY 65536u	/* proposed after a fallback to the legacy handshake */

/* A server's child that saw a REQUEST and no OFFER is dropped after this (reference, 6.4). */
#define LIMIT_PENDING_NS 1000000000ull

/* A connect from the host fails with a time-out after this (reference, 5). */
#define LIMIT_CONNECT_NS 2000000000ull

/* Immediate tries for a notification that found the guest's queue full (reference, 9.1). */
#define LIMIT_NOTIFY_TRIES 10u

/* Bytes that one stream may move in one turn before the next stream has its turn. */
#define LIMIT_TURN_BYTES 131072u

/* Scatter-gather elements of a DMA datagram buffer: what fits into its header page. */
#define LIMIT_DMA_ELEMENTS 254u

#endif /* PROTO_LIMITS_H */
