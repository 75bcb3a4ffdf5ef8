// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * DOC: Theory of operation
 *
 * Two handshakes, told apart by their first packet. The client always makes the queue pair.
 *
 *	client				server
 *	REQUEST2 size, protocols  ->		or REQUEST size
 *			  <- NEGOTIATE2 size, protocol	or NEGOTIATE size
 *	OFFER handle		  ->
 *			  <- ATTACH handle
 *
 * A client is in the table of bound sockets, state TCP_SYN_SENT, with or without a queue pair. It starts with
 * REQUEST2; a peer that answers INVALID knows REQUEST only, and may send one RST along with it that means nothing. The
 * core ends the attempt after a time.
 *
 * A server's child is on its listener's list of pending children, state TCP_SYN_SENT, and its packets come to the
 * listener. The child has a reference of its own (that of a socket that nobody has accepted), one of the list, and one
 * of the core's work that ends it after a second if it is still pending. With ATTACH it moves to the accept queue.
 *
 * The core counts pending children, and those not accepted yet, in sk_ack_backlog.
 *
 * Locks: the listener's, then the child's.
 */
#include "handshake.h"

#include "compat/vsock.h"
#include "control.h"
#include "pairs.h"

/* How long a child may be pending (6.4). */
#define PENDING_TIMEOUT HZ

/* --- Client ------------------------------------------------------------------------------------------------------- */

static int request(struct vsock_sock *vsk, bool legacy)
{
	struct ring_limits limits = vmsock_limits(vsk);
	u64 size = vmsock_negotiate_request(&limits);
	int r;

	if (!size)
		return -EINVAL;
	if (legacy)
		r = vmsock_control_send(vsk, PACKET_REQUEST, size);
	else
		r = vmsock_control_send2(vsk, PACKET_REQUEST2, VMCI_STREAM_PROTO_QSTATE, size, 0);
	return r < 0 ? ovmci_errno(r) : 0;
}

int vmsock_handshake_connect(struct vsock_sock *vsk)
{
	struct vmsock *t = vmsock_trans(vsk);
	int r;

	vmsock_pair_drop(t);	/* of an attempt that failed */
	t->notify = (struct notify){};
	vsk->peer_shutdown = 0;
	sock_reset_flag(sk_vsock(vsk), SOCK_DONE);
	vsk->ignore_connecting_rst = false;
	vsk->sent_request = !vmsock_legacy;
	r = request(vsk, vmsock_legacy);
	if (r)
		sk_vsock(vsk)->sk_state = TCP_CLOSE;
	return r;
}

static void client_reset(struct sock *sk, int error)
{
	vmsock_control_send(vsock_sk(sk), PACKET_RST, 0);
	vmsock_stream_fail(sk, error);
}

static void client_negotiate(struct sock *sk, const struct packet *p)
{
	struct vsock_sock *vsk = vsock_sk(sk);
	struct vmsock *t = vmsock_trans(vsk);
	struct ring_limits limits = vmsock_limits(vsk);
	bool negotiate2 = p->type == PACKET_NEGOTIATE2;
	int r;

	if (t->qp || p->arg == 0) {
		client_reset(sk, EPROTO);
		return;
	}
	if (!vmsock_negotiate_is_acceptable(&limits, p->arg) || (negotiate2 && p->proto != VMCI_STREAM_PROTO_QSTATE)) {
		client_reset(sk, EINVAL);
		return;
	}
	vsk->sent_request = false;
	vsk->ignore_connecting_rst = false;
	vsk->local_addr.svm_cid = p->dst.context;
	t->notify.qstate = negotiate2;
	r = vmsock_pair_create(t, p->src.context, p->arg);
	if (r) {
		client_reset(sk, -r);
		return;
	}
	r = vmsock_control_send(vsk, PACKET_OFFER, packet_arg(t->handle));
	if (r < 0)
		client_reset(sk, -ovmci_errno(r));
}

static void client_attach(struct sock *sk, const struct packet *p)
{
	struct vsock_sock *vsk = vsock_sk(sk);
	struct vmsock *t = vmsock_trans(vsk);

	if (!t->qp || p->arg != packet_arg(t->handle)) {
		client_reset(sk, EPROTO);
		return;
	}
	sk->sk_state = TCP_ESTABLISHED;
	sk->sk_socket->state = SS_CONNECTED;
	vsock_insert_connected(vsk);
	if (t->left)
		vmsock_stream_peer_left(sk);
	else
		sk->sk_state_change(sk);
}

/* The peer is old: once more, with REQUEST. */
static void client_fall_back(struct sock *sk)
{
	struct vsock_sock *vsk = vsock_sk(sk);
	int r;

	vsk->sent_request = false;
	vsk->ignore_connecting_rst = true;
	r = request(vsk, true);
	if (r)
		vmsock_stream_fail(sk, -r);
}

void vmsock_handshake_client(struct sock *sk, const struct packet *p)
{
	struct vsock_sock *vsk = vsock_sk(sk);

	switch (p->type) {
	case PACKET_NEGOTIATE:
	case PACKET_NEGOTIATE2:
		client_negotiate(sk, p);
		break;
	case PACKET_ATTACH:
		client_attach(sk, p);
		break;
	case PACKET_INVALID:
		if (vsk->sent_request)
			client_fall_back(sk);
		break;
	case PACKET_RST:
		if (vsk->ignore_connecting_rst)
			vsk->ignore_connecting_rst = false;
		else
			vmsock_stream_fail(sk, ECONNRESET);
		break;
	default:
		client_reset(sk, EPROTO);
		break;
	}
}

/* --- Server ------------------------------------------------------------------------------------------------------- */

/* The pending child for which a packet is, with a reference. */
static struct sock *find_pending(struct sock *listener, const struct packet *p)
{
	struct vsock_sock *child;

	list_for_each_entry(child, &vsock_sk(listener)->pending_links, pending_links) {
		if (child->remote_addr.svm_cid == p->src.context && child->remote_addr.svm_port == p->src_port &&
		    child->local_addr.svm_port == p->dst_port) {
			sock_hold(sk_vsock(child));
			return sk_vsock(child);
		}
	}
	return NULL;
}

/* A child that is of no use. Drops the reference that it was made with. */
static void drop_child(struct sock *child)
{
	if (vmsock_is_ours(vsock_sk(child)))
		vmsock_pair_drop(vmsock_trans(vsock_sk(child)));
	child->sk_state = TCP_CLOSE;
	sock_put(child);
}

/* Return: 0, or the child can not be */
static int server_negotiate(struct vsock_sock *vchild, const struct ring_limits *limits, const struct packet *p)
{
	struct vmsock *t = vmsock_trans(vchild);
	u16 proto = negotiate_proto(p->proto);

	t->size = vmsock_negotiate_answer(limits, p->arg);
	t->notify.qstate = p->type == PACKET_REQUEST2;
	if (!t->size || (t->notify.qstate && !proto))
		return -EINVAL;
	vchild->buffer_size = t->size;
	if (t->notify.qstate)
		return vmsock_control_send2(vchild, PACKET_NEGOTIATE2, proto, t->size, 0);
	return vmsock_control_send(vchild, PACKET_NEGOTIATE, t->size);
}

static void server_request(struct sock *listener, const struct packet *p)
{
	struct ring_limits limits = vmsock_limits(vsock_sk(listener));
	struct vsock_sock *vchild;
	struct sock *child;

	if (p->src_port == VMADDR_PORT_ANY || p->dst_port == VMADDR_PORT_ANY ||
	    READ_ONCE(listener->sk_ack_backlog) >= READ_ONCE(listener->sk_max_ack_backlog))
		goto refuse;
	child = vsock_create_connected(listener);
	if (!child)
		goto refuse;
	vchild = vsock_sk(child);
	vsock_addr_init(&vchild->local_addr, p->dst.context, p->dst_port);
	vsock_addr_init(&vchild->remote_addr, p->src.context, p->src_port);

	/* The core finds the transport by the address of the peer: it must come out where the request came in. */
	if (vsock_assign_transport(vchild, vsock_sk(listener)) || !vmsock_is_ours(vchild) ||
	    server_negotiate(vchild, &limits, p) < 0) {
		drop_child(child);
		goto refuse;
	}
	child->sk_state = TCP_SYN_SENT;
	vsock_add_pending(listener, child);

	vchild->listener = listener;
	sock_hold(listener);
	sock_hold(child);
	schedule_delayed_work(&vchild->pending_work, PENDING_TIMEOUT);
	return;

refuse:
	vmsock_control_answer(p, PACKET_RST);
}

/* Return: 0, or a negative errno: the child can not be */
static int child_offer(struct sock *listener, struct sock *child, const struct packet *p)
{
	struct vsock_sock *vchild = vsock_sk(child);
	struct vmsock *t = vmsock_trans(vchild);
	struct ovmci_handle handle = packet_handle(p);
	int r;

	if (handle.context == VMCI_INVALID_ID || handle.resource == VMCI_INVALID_ID)
		return -EPROTO;
	r = vmsock_pair_attach(t, p->src.context, t->size, handle);
	if (r)
		return r;
	/* The client may speak as soon as it has got ATTACH: it must find the child then. */
	child->sk_state = TCP_ESTABLISHED;
	vsock_insert_connected(vchild);
	r = vmsock_control_send(vchild, PACKET_ATTACH, p->arg);
	if (r < 0) {
		vsock_remove_connected(vchild);
		return ovmci_errno(r);
	}
	vsock_pending_to_accept(listener, child);
	listener->sk_data_ready(listener);
	return 0;
}

static void child_packet(struct sock *listener, struct sock *child, const struct packet *p)
{
	int r = -EPROTO;

	lock_sock_nested(child, SINGLE_DEPTH_NESTING);
	if (p->type == PACKET_OFFER && child->sk_state == TCP_SYN_SENT && vmsock_is_ours(vsock_sk(child))) {
		vsock_sk(child)->local_addr.svm_cid = p->dst.context;
		r = child_offer(listener, child, p);
	}
	if (r) {
		vmsock_control_answer(p, PACKET_RST);
		vsock_remove_pending(listener, child);
		drop_child(child);
	}
	release_sock(child);
}

void vmsock_handshake_server(struct sock *listener, const struct packet *p)
{
	struct sock *child = find_pending(listener, p);

	if (child) {
		child_packet(listener, child, p);
		sock_put(child);
	} else if (p->type == PACKET_REQUEST2 && vmsock_legacy) {
		vmsock_control_answer(p, PACKET_INVALID);
	} else if (p->type == PACKET_REQUEST || p->type == PACKET_REQUEST2) {
		server_request(listener, p);
	} else {
		vmsock_control_answer(p, PACKET_RST);
	}
}
