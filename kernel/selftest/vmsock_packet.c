// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* Included by vmsock/packet.c. */
#include "selftest.h"

static bool __init parses(u32 context, u32 resource, const u8 *payload, size_t size, struct packet *p)
{
	struct ovmci_datagram dg = {
		.dst = { 5, VMCI_RID_STREAM },
		.src = { context, resource },
		.size = size,
		.payload = payload,
	};

	return vmsock_packet_parse(&dg, p);
}

bool __init vmsock_packet_selftest(void)
{
	static const u8 offer[PACKET_SIZE] = {
		1, PACKET_OFFER, 0, 0, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x08, 0, 0, 0, 0,
		2, 0, 0, 0, 1, 4, 0, 0, 8, 7, 6, 5, 4, 3, 2, 1,
	};
	struct packet p = {}, again = {};
	u8 buf[PACKET_SIZE];
	bool ok = true;
	unsigned int i;

	T(parses(2, 1, offer, PACKET_SIZE, &p));
	T(p.type == PACKET_OFFER && p.proto == 0);
	T(p.src_port == 0x44332211 && p.dst_port == 0x08776655);
	T(p.src.context == 2 && p.dst.context == 5);
	T(packet_handle(&p).context == 2 && packet_handle(&p).resource == 0x401);
	T(packet_arg(packet_handle(&p)) == p.arg);
	T(p.offset == 0x0102030405060708ull);
	vmsock_packet_build(&p, buf);
	T(!memcmp(buf, offer, sizeof(buf)));

	T(parses(2, 1, offer, PACKET_SIZE + 1000, &again));
	for (i = 0; i < PACKET_SIZE; i++)
		T(!parses(2, 1, offer, i, &again));

	/* Only stream control endpoints send control packets. */
	T(parses(0, 15, offer, PACKET_SIZE, &again));
	T(!parses(0, 1, offer, PACKET_SIZE, &again));
	T(!parses(0, 0, offer, PACKET_SIZE, &again));
	T(!parses(1, 1, offer, PACKET_SIZE, &again));
	T(!parses(2, 15, offer, PACKET_SIZE, &again));
	T(!parses(77, 1024, offer, PACKET_SIZE, &again));
	T(!parses(VMCI_INVALID_ID, 1, offer, PACKET_SIZE, &again));
	T(parses(77, 1, offer, PACKET_SIZE, &again));
	return ok;
}
