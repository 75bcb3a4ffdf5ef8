// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * DOC: Theory of operation
 *
 * A connected stream is a queue pair: what one end writes into its ring, the other reads. The core calls us with the
 * socket's lock held, which makes us the one producer and the one consumer. Packets only say when to look at the rings
 * (notify.c), that an end will not send or not receive any more (SHUTDOWN), or that all is over (RST).
 *
 * Closing sends nothing. We leave the queue pair, and the peer learns that by an event, as we do of the peer. What it
 * has written stays in our memory until we close.
 *
 * A stream whose peer has left stays in state TCP_ESTABLISHED: what says that it is over is peer_shutdown, so that
 * connect() of a stream that was both accepted and closed in the meantime returns success, and recv() drains the ring.
 *
 * Positions in the ring come from the peer. When one is out of range, then the stream ends with an error at once.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include "stream.h"

#include <linux/module.h>

#include "control.h"
#include "handshake.h"
#include "owed.h"
#include "pairs.h"
#include "waits.h"

/*
 * Bytes that are copied before the peer gets to see them: much less than a ring, so that both ends copy at the same
 * time.
 */
#define PIECE 65536u

/* How often WROTE, READ and SHUTDOWN are sent at once if they do not go (8.2); then they are owed (owed.c). */
#define TRIES 10

/* --- Ends --------------------------------------------------------------------------------------------------------- */

void vmsock_stream_peer_left(struct sock *sk)
{
	sock_set_flag(sk, SOCK_DONE);
	vsock_sk(sk)->peer_shutdown = SHUTDOWN_MASK;
	sk->sk_state_change(sk);
}

void vmsock_stream_fail(struct sock *sk, int error)
{
	struct vsock_sock *vsk = vsock_sk(sk);

	vmsock_pair_drop(vmsock_trans(vsk));
	if (sk->sk_state == TCP_ESTABLISHED) {
		vsock_remove_connected(vsk);	/* a connect() that finds the error may be followed by another */
		sock_set_flag(sk, SOCK_DONE);
		vsk->peer_shutdown = SHUTDOWN_MASK;
	} else {
		sk->sk_state = TCP_CLOSE;
	}
	sk->sk_err = error;
	sk_error_report(sk);
	sk->sk_state_change(sk);
}

/*
 * The queue pair is of no use any more. -EBADMSG: the peer's positions make no sense; else the device has forgotten
 * the pair. Return: what the program is told
 */
static int broken(struct vsock_sock *vsk, int error)
{
	if (error == -EBADMSG)
		pr_info_ratelimited("stream %u with %u:%u is reset: its ring is corrupt\n",
				    vsk->local_addr.svm_port, vsk->remote_addr.svm_cid, vsk->remote_addr.svm_port);
	vmsock_control_send(vsk, PACKET_RST, 0);
	vmsock_stream_fail(sk_vsock(vsk), ECONNRESET);
	return -ECONNRESET;
}

void vmsock_stream_release(struct vsock_sock *vsk)
{
	vsock_remove_sock(vsk);
	vmsock_pair_drop(vmsock_trans(vsk));
}

/* --- Packets that must not be lost -------------------------------------------------------------------------------- */

/* Sends it, or remembers it; what was owed before is tried once. Return: was it sent? */
static bool send_or_owe(struct vsock_sock *vsk, enum vmsock_packet_type type, u64 arg, enum owed what)
{
	struct vmsock *t = vmsock_trans(vsk);
	int tries = t->owed & what ? 1 : TRIES;

	while (tries-- > 0) {
		if (vmsock_control_send(vsk, type, arg) >= 0) {
			vmsock_owe_no_more(t, what);
			return true;
		}
	}
	vmsock_owe(t, what);
	return false;
}

/* A peer that does not read needs no WROTE. */
static void send_wrote(struct vsock_sock *vsk)
{
	struct vmsock *t = vmsock_trans(vsk);

	if (vsk->peer_shutdown & RCV_SHUTDOWN)
		vmsock_owe_no_more(t, OWED_WROTE);
	else if (!send_or_owe(vsk, PACKET_WROTE, 0, OWED_WROTE))
		return;
	notify_wrote_sent(&t->notify);
}

/* And one that does not write no READ. */
static void send_read(struct vsock_sock *vsk)
{
	struct vmsock *t = vmsock_trans(vsk);

	if (vsk->peer_shutdown & SEND_SHUTDOWN)
		vmsock_owe_no_more(t, OWED_READ);
	else if (!send_or_owe(vsk, PACKET_READ, 0, OWED_READ))
		return;
	notify_read_sent(&t->notify);
}

static void send_shutdown(struct vsock_sock *vsk, int mode)
{
	struct vmsock *t = vmsock_trans(vsk);

	if (!(t->owed & OWED_SHUTDOWN))
		t->owed_mode = 0;
	t->owed_mode |= mode;
	send_or_owe(vsk, PACKET_SHUTDOWN, t->owed_mode, OWED_SHUTDOWN);
}

int vmsock_stream_shutdown(struct vsock_sock *vsk, int mode)
{
	if (vmsock_trans(vsk)->qp && sk_vsock(vsk)->sk_state == TCP_ESTABLISHED)
		send_shutdown(vsk, mode & VMCI_SHUTDOWN_BOTH);
	return 0;
}

/* --- Rings -------------------------------------------------------------------------------------------------------- */

/* @bytes in a ring; 0 if they are none, and the stream had to be reset. Each write asks twice: inline. */
static __always_inline u64 sane(struct vsock_sock *vsk, s64 bytes)
{
	if (bytes >= 0)
		return bytes;
	broken(vsk, bytes);
	return 0;
}

static __always_inline u64 count(struct vsock_sock *vsk, s64 (*of)(const struct ovmci_qpair *qp))
{
	struct vmsock *t = vmsock_trans(vsk);

	return t->qp ? sane(vsk, of(t->qp)) : 0;
}

s64 vmsock_stream_has_data(struct vsock_sock *vsk)
{
	return count(vsk, ovmci_qpair_ready);
}

s64 vmsock_stream_has_space(struct vsock_sock *vsk)
{
	return count(vsk, ovmci_qpair_free);
}

u64 vmsock_stream_rcvhiwat(struct vsock_sock *vsk)
{
	return vmsock_trans(vsk)->size;
}

bool vmsock_stream_is_active(struct vsock_sock *vsk)
{
	return vmsock_trans(vsk)->qp && sk_vsock(vsk)->sk_state != TCP_SYN_SENT;
}

bool vmsock_stream_allow(struct vsock_sock *vsk, u32 cid, u32 port)
{
	return vsock_net_mode_global(vsk) && cid != VMCI_CID_WELL_KNOWN && cid != VMADDR_CID_ANY &&
	       port != VMADDR_PORT_ANY;
}

/* If the peer waits for room, tell it of what there is; we are about to sleep. */
static void send_last_read(struct vsock_sock *vsk)
{
	struct vmsock *t = vmsock_trans(vsk);

	if (t->notify.wants_room && !(t->owed & OWED_READ) &&
	    notify_room(&t->notify, t->size, count(vsk, ovmci_qpair_peer_free), true))
		send_read(vsk);
}

/* What a copy has come to. Return: bytes, or what the program is told */
static ssize_t outcome(struct vsock_sock *vsk, size_t done, ssize_t r)
{
	if (r < 0 && r != -EFAULT && r != -EAGAIN && r != -EPIPE)
		r = broken(vsk, r);
	return done ?: r;
}

ssize_t vmsock_stream_enqueue(struct vsock_sock *vsk, struct msghdr *msg, size_t len)
{
	struct vmsock *t = vmsock_trans(vsk);
	ssize_t r = t->qp ? 0 : -EPIPE;
	struct ovmci_moved moved;
	size_t done = 0, piece;

	while (done < len && t->qp) {
		piece = min_t(size_t, len - done, PIECE);
		r = ovmci_qpair_enqueue(t->qp, &msg->msg_iter, piece, &moved);
		if (r <= 0)
			break;
		done += r;
		if (notify_wrote(&t->notify, t->size, moved.from, r, sane(vsk, moved.left)))
			send_wrote(vsk);
		if (r < piece)
			break;
	}
	if (done && !t->notify.qstate)
		vmsock_wait_end(t, WAIT_ROOM);
	return outcome(vsk, done, r);
}

static ssize_t peek(struct vsock_sock *vsk, struct msghdr *msg, size_t len)
{
	struct vmsock *t = vmsock_trans(vsk);

	return outcome(vsk, 0, t->qp ? ovmci_qpair_peek(t->qp, &msg->msg_iter, len) : 0);
}

ssize_t vmsock_stream_dequeue(struct vsock_sock *vsk, struct msghdr *msg, size_t len, int flags)
{
	struct vmsock *t = vmsock_trans(vsk);
	struct ovmci_moved moved;
	size_t done = 0, piece;
	ssize_t r = 0;

	if (flags & MSG_PEEK)
		return peek(vsk, msg, len);
	while (done < len && t->qp) {
		piece = min_t(size_t, len - done, PIECE);
		r = ovmci_qpair_dequeue(t->qp, &msg->msg_iter, piece, &moved);
		if (r <= 0)
			break;
		done += r;
		if (notify_took(&t->notify, t->size, moved.from, r, sane(vsk, moved.left)))
			send_read(vsk);
		if (r < piece)
			break;
	}
	if (done && !t->notify.qstate)
		vmsock_wait_end(t, WAIT_DATA);
	return outcome(vsk, done, r);
}

/* --- Waiting ------------------------------------------------------------------------------------------------------ */

/*
 * Tell a peer that does not look at the ring that we wait, once. Return: 0, -EHOSTUNREACH: it could not be told, as the
 * reference has it (8.2)
 */
static int tell_wait(struct vsock_sock *vsk, enum wait_for what, struct notify_wait wait)
{
	enum vmsock_packet_type type = what == WAIT_DATA ? PACKET_WAITING_READ : PACKET_WAITING_WRITE;
	struct vmsock *t = vmsock_trans(vsk);

	if (!vmsock_wait_begin(t, what) || vmsock_control_send2(vsk, type, 0, wait.generation, wait.offset) >= 0)
		return 0;
	vmsock_wait_end(t, what);
	return -EHOSTUNREACH;
}

static int wait_for_data(struct vsock_sock *vsk, size_t bytes)
{
	struct vmsock *t = vmsock_trans(vsk);
	struct notify_wait wait;

	send_last_read(vsk);
	if (!t->qp || t->notify.qstate)
		return 0;
	wait = vmsock_notify_wait_read(&t->notify, t->size, ovmci_qpair_head(t->qp), min_t(u64, bytes, t->size - 1));
	return tell_wait(vsk, WAIT_DATA, wait);
}

static int wait_for_room(struct vsock_sock *vsk)
{
	struct vmsock *t = vmsock_trans(vsk);
	struct notify_wait wait;

	if (!t->qp || t->notify.qstate)
		return 0;
	wait = vmsock_notify_wait_write(&t->notify, t->size, ovmci_qpair_tail(t->qp), 1);
	return tell_wait(vsk, WAIT_ROOM, wait);
}

/*
 * Any byte makes a stream readable, whatever SO_RCVLOWAT is: a peer tells us of the first byte in the ring only. Who
 * wants more, and does not take these, would not be woken again.
 */
int vmsock_stream_poll_in(struct vsock_sock *vsk, size_t target, bool *ret_ready)
{
	*ret_ready = vmsock_stream_has_data(vsk) > 0;
	if (*ret_ready || sk_vsock(vsk)->sk_state != TCP_ESTABLISHED || vsk->peer_shutdown & SEND_SHUTDOWN)
		return 0;
	return wait_for_data(vsk, 1);
}

int vmsock_stream_poll_out(struct vsock_sock *vsk, size_t target, bool *ret_ready)
{
	/* A peer that takes no more leaves nothing to wait for: send() says EPIPE at once. */
	*ret_ready = vmsock_stream_has_space(vsk) > 0 || vsk->peer_shutdown & RCV_SHUTDOWN;
	return *ret_ready ? 0 : wait_for_room(vsk);
}

int vmsock_stream_recv_block(struct vsock_sock *vsk, size_t target, struct vsock_transport_recv_notify_data *data)
{
	return wait_for_data(vsk, target);
}

int vmsock_stream_send_block(struct vsock_sock *vsk, struct vsock_transport_send_notify_data *data)
{
	return wait_for_room(vsk);
}

/* --- What comes --------------------------------------------------------------------------------------------------- */

static void connected_packet(struct sock *sk, const struct packet *p)
{
	struct vsock_sock *vsk = vsock_sk(sk);
	struct vmsock *t = vmsock_trans(vsk);

	switch (p->type) {
	case PACKET_SHUTDOWN:
		if (p->arg & VMCI_SHUTDOWN_BOTH) {
			vsk->peer_shutdown |= p->arg & VMCI_SHUTDOWN_BOTH;
			sk->sk_state_change(sk);
		}
		break;
	case PACKET_RST:
		vmsock_stream_peer_left(sk);
		break;
	case PACKET_WAITING_READ:
		if (t->notify.qstate)
			break;
		t->notify.wants_data = true;
		if (count(vsk, ovmci_qpair_unread))
			send_wrote(vsk);
		break;
	case PACKET_WAITING_WRITE:
		if (t->notify.qstate)
			break;
		t->notify.wants_room = true;
		if (notify_room(&t->notify, t->size, count(vsk, ovmci_qpair_peer_free), false))
			send_read(vsk);
		break;
	default:	/* has no meaning any more (9.4) */
		break;
	}
}

/* Is the packet from the peer of the socket? One of the same name may be another transport's. */
static bool is_from_peer(const struct vsock_sock *vsk, const struct packet *p)
{
	return vmsock_is_ours(vsk) && vsk->remote_addr.svm_cid == p->src.context &&
	       vsk->remote_addr.svm_port == p->src_port;
}

static void receive_packet(struct sock *sk, const struct packet *p)
{
	struct vsock_sock *vsk = vsock_sk(sk);
	int state = sk->sk_type == SOCK_STREAM ? sk->sk_state : TCP_CLOSE;

	if (state == TCP_LISTEN) {
		vmsock_handshake_server(sk, p);
	} else if (state == TCP_SYN_SENT && sk->sk_socket && is_from_peer(vsk, p)) {
		vmsock_handshake_client(sk, p);
	} else if (state == TCP_ESTABLISHED && is_from_peer(vsk, p)) {
		vsk->local_addr.svm_cid = p->dst.context;
		connected_packet(sk, p);
	} else {
		vmsock_control_answer(p, PACKET_RST);
	}
}

static void receive_event(struct sock *sk, const struct mail *mail)
{
	struct vsock_sock *vsk = vsock_sk(sk);
	struct vmsock *t = vmsock_trans(vsk);

	/* It may be about a pair that the socket has had before. */
	if (!vmsock_is_ours(vsk) || !t->qp || packet_arg(t->handle) != packet_arg(mail->handle))
		return;
	if (sk->sk_state != TCP_SYN_SENT && sk->sk_state != TCP_ESTABLISHED)
		vmsock_pair_drop(t);	/* of a connect() that gave up; the socket may listen by now */
	else if (mail->kind == MAIL_LOST)
		vmsock_stream_fail(sk, ECONNRESET);
	else if (sk->sk_state == TCP_ESTABLISHED)
		vmsock_stream_peer_left(sk);
	else if (t->local)
		t->left = true;		/* its ATTACH is on the way, and it may have sent something */
	else
		vmsock_stream_fail(sk, ECONNRESET);
}

/* Once more, what could not be sent, if the peer can still be waiting for it. */
static void receive_owed(struct sock *sk)
{
	struct vsock_sock *vsk = vsock_sk(sk);
	struct vmsock *t = vmsock_trans(vsk);

	if (!vmsock_is_ours(vsk))
		return;
	/* A dead pair's peer has seen the end of the stream. */
	if (t->owed && (vsk->peer_shutdown == SHUTDOWN_MASK || ovmci_qpair_is_dead(t->qp)))
		vmsock_owe_nothing(t);
	if (t->owed & OWED_SHUTDOWN)
		send_shutdown(vsk, 0);
	if (t->owed & OWED_READ)
		send_read(vsk);
	if (t->owed & OWED_WROTE)
		send_wrote(vsk);
	vmsock_owe_again(t);
}

void vmsock_receive(struct sock *sk, const struct mail *mail)
{
	lock_sock(sk);
	if (sock_flag(sk, SOCK_DEAD)) {
		/* Somebody found it, and then it was closed. */
		if (mail->kind == MAIL_PACKET)
			vmsock_control_answer(&mail->packet, PACKET_RST);
	} else if (mail->kind == MAIL_OWED) {
		receive_owed(sk);
	} else if (mail->kind == MAIL_PACKET) {
		receive_packet(sk, &mail->packet);
	} else {
		receive_event(sk, mail);
	}
	release_sock(sk);
}
