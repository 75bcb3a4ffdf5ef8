/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* stream.h - a socket of ours: what the transport keeps for it */
#ifndef VMSOCK_STREAM_H
#define VMSOCK_STREAM_H

#include <net/af_vsock.h>

#include "inbox.h"
#include "negotiate.h"
#include "notify.h"

/**
 * struct vmsock - vsock_sock.trans, of streams and of datagram sockets; the socket's lock guards it
 * @vsk:    whose it is
 * @qp:     the queue pair of a stream; NULL: none (yet, or any more)
 * @handle: its handle
 * @size:   bytes of each of its rings
 * @local:  both ends are in this machine
 * @left:   the local peer left before its ATTACH came
 * @notify: who waits for what
 * @node:   in the table of queue pairs (pairs.c guards it, and @told)
 * @told:   a letter says that the peer, or the device, is gone
 * @waiting: what the peer knows of: enum wait_for; @wait_node: in the table of those who wait (waits.c guards both)
 * @owed:   packets that could not be sent: enum owed; @owed_mode: the argument of SHUTDOWN
 * @debtor: in the list of those who owe something (owed.c guards it, and @is_reminded)
 * @is_reminded: a letter says that something is owed
 * @dgs:    the endpoint of a datagram socket that is bound
 */
struct vmsock {
	struct vsock_sock *vsk;
	struct ovmci_qpair *qp;
	struct ovmci_handle handle;
	u64 size;
	bool local;
	bool left;
	struct notify notify;
	struct hlist_node node;
	bool told;
	unsigned int waiting;
	struct hlist_node wait_node;
	unsigned int owed;
	int owed_mode;
	struct list_head debtor;
	bool is_reminded;
	struct ovmci_datagrams *dgs;
};

extern bool vmsock_legacy;	/* module option: speak the handshake of before 2009 only */

/* vmsock_is_ours() - does our transport serve the socket? Its lock is held, or nobody else has it. */
bool vmsock_is_ours(const struct vsock_sock *vsk);

/* vmsock_trans() - of a socket that is ours */
static inline struct vmsock *vmsock_trans(const struct vsock_sock *vsk)
{
	return vsk->trans;
}

static inline struct ring_limits vmsock_limits(const struct vsock_sock *vsk)
{
	return (struct ring_limits){ vsk->buffer_size, vsk->buffer_min_size, vsk->buffer_max_size };
}

/* vmsock_receive() - take what was in the socket's inbox; takes its lock */
void vmsock_receive(struct sock *sk, const struct mail *mail);

/* vmsock_stream_peer_left() - the peer will neither send nor receive any more: what it has sent can still be read */
void vmsock_stream_peer_left(struct sock *sk);

/* vmsock_stream_fail() - end an attempt to connect, or a connection, with an error (positive errno) */
void vmsock_stream_fail(struct sock *sk, int error);

/* The vsock core's operations for streams: see struct vsock_transport. The core holds the socket's lock. */
void vmsock_stream_release(struct vsock_sock *vsk);
bool vmsock_stream_allow(struct vsock_sock *vsk, u32 cid, u32 port);
ssize_t vmsock_stream_dequeue(struct vsock_sock *vsk, struct msghdr *msg, size_t len, int flags);
ssize_t vmsock_stream_enqueue(struct vsock_sock *vsk, struct msghdr *msg, size_t len);
s64 vmsock_stream_has_data(struct vsock_sock *vsk);
s64 vmsock_stream_has_space(struct vsock_sock *vsk);
u64 vmsock_stream_rcvhiwat(struct vsock_sock *vsk);
bool vmsock_stream_is_active(struct vsock_sock *vsk);
int vmsock_stream_shutdown(struct vsock_sock *vsk, int mode);
int vmsock_stream_poll_in(struct vsock_sock *vsk, size_t target, bool *ret_ready);
int vmsock_stream_poll_out(struct vsock_sock *vsk, size_t target, bool *ret_ready);
int vmsock_stream_recv_block(struct vsock_sock *vsk, size_t target, struct vsock_transport_recv_notify_data *data);
int vmsock_stream_send_block(struct vsock_sock *vsk, struct vsock_transport_send_notify_data *data);

#endif /* VMSOCK_STREAM_H */
