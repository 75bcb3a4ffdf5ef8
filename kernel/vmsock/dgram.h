/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* dgram.h - datagram sockets: VMCI datagrams, ports being resources (transport reference, 11) */
#ifndef VMSOCK_DGRAM_H
#define VMSOCK_DGRAM_H

#include <net/af_vsock.h>

/* The vsock core's operations for datagram sockets: see struct vsock_transport. */
void vmsock_dgram_release(struct vsock_sock *vsk);
int vmsock_dgram_bind(struct vsock_sock *vsk, struct sockaddr_vm *addr);
int vmsock_dgram_dequeue(struct vsock_sock *vsk, struct msghdr *msg, size_t len, int flags);
int vmsock_dgram_enqueue(struct vsock_sock *vsk, struct sockaddr_vm *to, struct msghdr *msg, size_t len);
bool vmsock_dgram_allow(struct vsock_sock *vsk, u32 cid, u32 port);

#endif /* VMSOCK_DGRAM_H */
