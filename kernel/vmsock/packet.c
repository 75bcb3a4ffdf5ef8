// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
#include "packet.h"

#include <linux/build_bug.h>
#include <linux/string.h>

/* The payload as it is on the wire. */
struct wire {
	u8 version;
	u8 type;
	__le16 proto;
	__le32 src_port;
	__le32 dst_port;
	__le32 reserved;
	__le64 arg;
	__le64 offset;
};
static_assert(sizeof(struct wire) == PACKET_SIZE);

bool vmsock_packet_parse(const struct ovmci_datagram *dg, struct packet *ret_packet)
{
	struct wire wire;

	if (dg->size < sizeof(wire))
		return false;
	if (dg->src.context == VMCI_CID_WELL_KNOWN || dg->src.context == VMCI_INVALID_ID ||
	    dg->src.resource != packet_rid(dg->src.context))
		return false;
	memcpy(&wire, dg->payload, sizeof(wire));
	*ret_packet = (struct packet){
		.src = dg->src,
		.dst = dg->dst,
		.type = wire.type,
		.proto = le16_to_cpu(wire.proto),
		.src_port = le32_to_cpu(wire.src_port),
		.dst_port = le32_to_cpu(wire.dst_port),
		.arg = le64_to_cpu(wire.arg),
		.offset = le64_to_cpu(wire.offset),
	};
	return true;
}

void vmsock_packet_build(const struct packet *packet, u8 buf[PACKET_SIZE])
{
	struct wire wire = {
		.version = VMCI_STREAM_VERSION,
		.type = packet->type,
		.proto = cpu_to_le16(packet->proto),
		.src_port = cpu_to_le32(packet->src_port),
		.dst_port = cpu_to_le32(packet->dst_port),
		.arg = cpu_to_le64(packet->arg),
		.offset = cpu_to_le64(packet->offset),
	};

	memcpy(buf, &wire, sizeof(wire));
}

#ifdef OVMCI_DEBUG
#include "selftest/vmsock_packet.c"
#endif
