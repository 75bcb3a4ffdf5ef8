/* SPDX-License-Identifier: BSD-2-Clause */
/* The control packet of AF_VSOCK streams: parse and build. Transport reference, 3. */
#ifndef PROTO_PACKET_H
#define PROTO_PACKET_H

#include "proto/dg.h"

enum packet_type {
	PACKET_INVALID,		/* the peer did not understand a type */
	PACKET_REQUEST,		/* connect, legacy handshake: size */
	PACKET_NEGOTIATE,	/* answer to REQUEST: size */
	PACKET_OFFER,		/* the client made the queue pair: handle */
	PACKET_ATTACH,		/* the server attached: handle */
	PACKET_WROTE,		/* there are bytes to read */
	PACKET_READ,		/* there is room to write */
	PACKET_RST,		/* refused, or gone */
	PACKET_SHUTDOWN,	/* mode: VMCI_SHUTDOWN_* of the sender's own directions */
	PACKET_WAITING_WRITE,	/* legacy: blocked on a full ring: generation, offset */
	PACKET_WAITING_READ,	/* legacy: blocked on an empty ring: generation, offset */
	PACKET_REQUEST2,	/* connect: size, bit set of protocols */
	PACKET_NEGOTIATE2,	/* answer to REQUEST2: size, one protocol */
	PACKET_NUM,
};

/**
 * struct packet - a control packet in host byte order
 * @type:     PACKET_*; a parsed packet may carry any number up to 255
 * @proto:    protocol bits, of REQUEST2 and NEGOTIATE2 only
 * @arg:      size, mode, handle (as get_handle/put_handle lay it out) or generation
 * @offset:   second word of the wait information
 */
struct packet {
	struct vmci_handle dst;
	struct vmci_handle src;
	unsigned type;
	uint16_t proto;
	uint32_t src_port;
	uint32_t dst_port;
	uint64_t arg;
	uint64_t offset;
};

/* packet_type_to_string() - name of a type; "unknown" for numbers that are none */
const char *packet_type_to_string(unsigned type);

/**
 * packet_parse() - read a control packet
 * @dg, @size: a datagram, header included
 *
 * Lenient, as receivers are (3.4): version, reserved fields and unused arguments are not looked at.
 * Return: 0, or -EMSGSIZE if it is shorter than 56 bytes
 */
int packet_parse(const uint8_t *dg, size_t size, struct packet *ret_packet);

/* packet_build() - write the 56 bytes of @packet in canonical form (3.4), everything unused zero. */
void packet_build(const struct packet *packet, uint8_t buf[VMCI_STREAM_PACKET_SIZE]);

/* packet_handle() / packet_arg() - the argument as a handle, and a handle as the argument */
static inline struct vmci_handle packet_handle(const struct packet *packet)
{
	return handle_make((uint32_t)packet->arg, (uint32_t)(packet->arg >> 32));
}

static inline uint64_t packet_arg(struct vmci_handle handle)
{
	return (uint64_t)handle.resource << 32 | handle.context;
}

#endif /* PROTO_PACKET_H */
