/* SPDX-License-Identifier: BSD-2-Clause */
#include "proto/packet.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

/* Offsets in a control packet (3.1). */
#define OFF_VERSION 24
#define OFF_TYPE 25
#define OFF_PROTO 26
#define OFF_SRC_PORT 28
#define OFF_DST_PORT 32
#define OFF_ARG 40
#define OFF_OFFSET 48

static_assert(sizeof(struct vmci_stream_packet_wire) == VMCI_STREAM_PACKET_SIZE, "packet size");
static_assert(offsetof(struct vmci_stream_packet_wire, version) == OFF_VERSION, "version");
static_assert(offsetof(struct vmci_stream_packet_wire, type) == OFF_TYPE, "type");
static_assert(offsetof(struct vmci_stream_packet_wire, proto) == OFF_PROTO, "proto");
static_assert(offsetof(struct vmci_stream_packet_wire, src_port) == OFF_SRC_PORT, "source port");
static_assert(offsetof(struct vmci_stream_packet_wire, dst_port) == OFF_DST_PORT, "destination port");
static_assert(offsetof(struct vmci_stream_packet_wire, arg0) == OFF_ARG, "argument");
static_assert(offsetof(struct vmci_stream_packet_wire, arg1) == OFF_OFFSET, "offset");

static const char *const type_name[] = {
	[PACKET_INVALID] = "INVALID",
	[PACKET_REQUEST] = "REQUEST",
	[PACKET_NEGOTIATE] = "NEGOTIATE",
	[PACKET_OFFER] = "OFFER",
	[PACKET_ATTACH] = "ATTACH",
	[PACKET_WROTE] = "WROTE",
	[PACKET_READ] = "READ",
	[PACKET_RST] = "RST",
	[PACKET_SHUTDOWN] = "SHUTDOWN",
	[PACKET_WAITING_WRITE] = "WAITING_WRITE",
	[PACKET_WAITING_READ] = "WAITING_READ",
	[PACKET_REQUEST2] = "REQUEST2",
	[PACKET_NEGOTIATE2] = "NEGOTIATE2",
};
static_assert(sizeof(type_name) / sizeof(type_name[0]) == PACKET_NUM, "a name for each type");

const char *packet_type_to_string(unsigned type)
{
	return type < PACKET_NUM ? type_name[type] : "unknown";
}

int packet_parse(const uint8_t *dg, size_t size, struct packet *ret_packet)
{
	struct dg_header h;

	if (size < VMCI_STREAM_PACKET_SIZE)
		return -EMSGSIZE;
	h = dg_parse(dg);
	*ret_packet = (struct packet){
		.dst = h.dst,
		.src = h.src,
		.type = dg[OFF_TYPE],
		.proto = get_le16(dg + OFF_PROTO),
		.src_port = get_le32(dg + OFF_SRC_PORT),
		.dst_port = get_le32(dg + OFF_DST_PORT),
		.arg = get_le64(dg + OFF_ARG),
		.offset = get_le64(dg + OFF_OFFSET),
	};
	return 0;
}

void packet_build(const struct packet *packet, uint8_t buf[VMCI_STREAM_PACKET_SIZE])
{
	memset(buf, 0, VMCI_STREAM_PACKET_SIZE);
	dg_build(buf, packet->dst, packet->src, VMCI_STREAM_PACKET_SIZE - VMCI_DG_HEADER_SIZE);
	buf[OFF_VERSION] = VMCI_STREAM_VERSION;
	buf[OFF_TYPE] = (uint8_t)packet->type;
	put_le16(buf + OFF_PROTO, packet->proto);
	put_le32(buf + OFF_SRC_PORT, packet->src_port);
	put_le32(buf + OFF_DST_PORT, packet->dst_port);
	put_le64(buf + OFF_ARG, packet->arg);
	put_le64(buf + OFF_OFFSET, packet->offset);
}
