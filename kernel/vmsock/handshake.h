/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* handshake.h - how streams become connected (transport reference, 6) */
#ifndef VMSOCK_HANDSHAKE_H
#define VMSOCK_HANDSHAKE_H

#include "stream.h"

/* vmsock_handshake_connect() - vsock_transport.connect: send the request. Return: 0, or a negative errno */
int vmsock_handshake_connect(struct vsock_sock *vsk);

/* vmsock_handshake_client() - a packet of the peer to which the socket connects */
void vmsock_handshake_client(struct sock *sk, const struct packet *p);

/* vmsock_handshake_server() - a packet for a listening socket: for one of its pending children, or a new one */
void vmsock_handshake_server(struct sock *listener, const struct packet *p);

#endif /* VMSOCK_HANDSHAKE_H */
