// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
#include "control.h"

#include <linux/module.h>
#include <linux/sched.h>

#include "inbox.h"
#include "stream.h"
#include "waits.h"

static struct ovmci_datagrams *endpoint;

static int send(u32 to, const struct packet *p)
{
	struct ovmci_handle dst = { .context = to, .resource = packet_rid(to) };
	struct ovmci_handle src = { .context = VMCI_INVALID_ID, .resource = VMCI_RID_STREAM };
	u8 buf[PACKET_SIZE];

	/*
	 * The core's recv() asks whether it may sleep when the task's state says already that it does. We may have to wait
	 * here, awake; then the core does not sleep, but looks at the ring once more, and asks again.
	 */
	__set_current_state(TASK_RUNNING);
	vmsock_packet_build(p, buf);
	return ovmci_datagram_send_buf(dst, src, buf, sizeof(buf));
}

int vmsock_control_send2(const struct vsock_sock *vsk, enum vmsock_packet_type type, u16 proto, u64 arg, u64 offset)
{
	struct packet p = {
		.type = type,
		.proto = proto,
		.src_port = vsk->local_addr.svm_port,
		.dst_port = vsk->remote_addr.svm_port,
		.arg = arg,
		.offset = offset,
	};

	return send(vsk->remote_addr.svm_cid, &p);
}

int vmsock_control_send(const struct vsock_sock *vsk, enum vmsock_packet_type type, u64 arg)
{
	return vmsock_control_send2(vsk, type, 0, arg, 0);
}

void vmsock_control_answer(const struct packet *p, enum vmsock_packet_type type)
{
	struct packet answer = { .type = type, .src_port = p->dst_port, .dst_port = p->src_port };

	if (p->type != PACKET_RST)
		send(p->src.context, &answer);
}

/* WROTE and READ say "look again", and nothing else: no lock of the socket is needed to pass that on. */
static bool wake(struct sock *sk, const struct packet *p)
{
	switch (p->type) {
	case PACKET_WROTE:
		vmsock_wait_answered(sk, WAIT_DATA);	/* first: who wakes up may wait again */
		sk->sk_data_ready(sk);
		return true;
	case PACKET_READ:
		vmsock_wait_answered(sk, WAIT_ROOM);
		sk->sk_write_space(sk);
		return true;
	default:
		return false;
	}
}

/* A datagram for the control endpoint: find out for which socket. */
static void receive(void *data, const struct ovmci_datagram *dg)
{
	struct mail mail = { .kind = MAIL_PACKET };
	struct packet *p = &mail.packet;
	struct sockaddr_vm src, dst;
	bool connected;
	struct sock *sk;

	if (!vmsock_packet_parse(dg, p))
		return;
	vsock_addr_init(&src, p->src.context, p->src_port);
	vsock_addr_init(&dst, p->dst.context, p->dst_port);
	sk = vsock_find_connected_socket(&src, &dst);
	connected = sk;
	if (!sk)
		sk = vsock_find_bound_socket(&dst);
	if (!sk) {
		vmsock_control_answer(p, PACKET_RST);
		return;
	}
	if (p->type >= PACKET_NUM)
		vmsock_control_answer(p, PACKET_INVALID);
	else if (!(connected && wake(sk, p)) && !vmsock_inbox_post(sk, &mail))
		vmsock_control_answer(p, PACKET_RST);
	sock_put(sk);
}

int vmsock_control_init(void)
{
	struct ovmci_handle handle;

	return ovmci_datagrams_create(VMCI_RID_STREAM, true, receive, NULL, &handle, &endpoint);
}

void vmsock_control_exit(void)
{
	ovmci_datagrams_destroy(endpoint);
}
