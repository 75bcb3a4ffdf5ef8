/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* packet.h - control packets of streams, to and from bytes (transport reference, 3); pure */
#ifndef VMSOCK_PACKET_H
#define VMSOCK_PACKET_H

#include <linux/init.h>

#include <ovmci.h>

/* The payload of a control datagram. */
#define PACKET_SIZE (VMCI_STREAM_PACKET_SIZE - VMCI_DG_HEADER_SIZE)

enum vmsock_packet_type {
	PACKET_INVALID,
	PACKET_REQUEST,
	PACKET_NEGOTIATE,
	PACKET_OFFER,
	PACKET_ATTACH,
	PACKET_WROTE,
	PACKET_READ,
	PACKET_RST,
	PACKET_SHUTDOWN,
	PACKET_WAITING_WRITE,
	PACKET_WAITING_READ,
	PACKET_REQUEST2,
	PACKET_NEGOTIATE2,
	PACKET_NUM
};

/**
 * struct packet - a control packet in host byte order
 * @src:      the sender; its context is authentic
 * @dst:      us
 * @type:     an enum vmsock_packet_type, or more
 * @proto:    protocol bits (REQUEST2, NEGOTIATE2)
 * @src_port: port of the sender
 * @dst_port: port of the receiver
 * @arg:      size, mode, handle, or generation, by type
 * @offset:   the second half of the argument
 */
struct packet {
	struct ovmci_handle src;
	struct ovmci_handle dst;
	u8 type;
	u16 proto;
	u32 src_port;
	u32 dst_port;
	u64 arg;
	u64 offset;
};

/**
 * vmsock_packet_parse() - read a control packet out of a datagram
 *
 * The version and the reserved field are not looked at, as no receiver in Linux ever did.
 *
 * Return: is it one? It is not if it is too short, or if its sender is none of those who have stream control
 * endpoints (3.3).
 */
bool vmsock_packet_parse(const struct ovmci_datagram *dg, struct packet *ret_packet);

/* vmsock_packet_build() - the payload of a control datagram; addresses are not in there */
void vmsock_packet_build(const struct packet *packet, u8 buf[PACKET_SIZE]);

/* packet_rid() - which resource of a context takes control packets */
static inline u32 packet_rid(u32 context)
{
	return context == VMCI_CID_HYPERVISOR ? VMCI_HC_STREAM : VMCI_RID_STREAM;
}

/* packet_handle(), packet_arg() - the argument of OFFER and ATTACH */
static inline struct ovmci_handle packet_handle(const struct packet *packet)
{
	return (struct ovmci_handle){ .context = (u32)packet->arg, .resource = (u32)(packet->arg >> 32) };
}

static inline u64 packet_arg(struct ovmci_handle handle)
{
	return (u64)handle.resource << 32 | handle.context;
}

#ifdef OVMCI_DEBUG
bool __init vmsock_packet_selftest(void);
#endif

#endif /* VMSOCK_PACKET_H */
