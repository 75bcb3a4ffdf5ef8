/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* control.h - the control channel of streams: one datagram endpoint for all of them (transport reference, 3 and 4) */
#ifndef VMSOCK_CONTROL_H
#define VMSOCK_CONTROL_H

#include <net/af_vsock.h>

#include "packet.h"

/*
 * vmsock_control_send() - send the peer of @vsk a packet
 * vmsock_control_send2() - the same, with protocol bits, and both halves of the argument
 *
 * Return: a VMCI result code, negative if it was not sent
 */
int vmsock_control_send(const struct vsock_sock *vsk, enum vmsock_packet_type type, u64 arg);
int vmsock_control_send2(const struct vsock_sock *vsk, enum vmsock_packet_type type, u16 proto, u64 arg, u64 offset);

/* vmsock_control_answer() - send the sender of @p a packet without argument; an RST is never answered */
void vmsock_control_answer(const struct packet *p, enum vmsock_packet_type type);

int vmsock_control_init(void);
void vmsock_control_exit(void);

#endif /* VMSOCK_CONTROL_H */
