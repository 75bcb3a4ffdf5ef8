// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * A socket that is bound has an endpoint. What comes in is copied into an skb, into the socket's receive queue, without
 * the socket's lock: the endpoint is destroyed with the lock held, and that waits for its callback.
 */
#include "dgram.h"

#include <linux/capability.h>
#include <linux/skbuff.h>

#include "stream.h"

/* The sender, in skb->cb. */
static struct ovmci_handle *sender(struct sk_buff *skb)
{
	return (struct ovmci_handle *)skb->cb;
}

static struct sk_buff *make_skb(const struct ovmci_datagram *dg)
{
	struct sk_buff *skb;
	int r;

	skb = alloc_skb_with_frags(0, dg->size, PAGE_ALLOC_COSTLY_ORDER, &r, GFP_KERNEL);
	if (!skb)
		return NULL;
	skb->len = dg->size;
	skb->data_len = dg->size;
	if (skb_store_bits(skb, 0, dg->payload, dg->size)) {
		kfree_skb(skb);
		return NULL;
	}
	*sender(skb) = dg->src;
	return skb;
}

/* What does not fit into the receive queue is lost, as datagrams may be. */
static void receive(void *data, const struct ovmci_datagram *dg)
{
	struct sock *sk = sk_vsock((struct vsock_sock *)data);
	struct sk_buff *skb;

	if (dg->size > VMCI_DG_MAX_PAYLOAD || atomic_read(&sk->sk_rmem_alloc) >= READ_ONCE(sk->sk_rcvbuf))
		return;
	skb = make_skb(dg);
	if (skb && sock_queue_rcv_skb(sk, skb))
		kfree_skb(skb);
}

int vmsock_dgram_bind(struct vsock_sock *vsk, struct sockaddr_vm *addr)
{
	struct vmsock *t = vmsock_trans(vsk);
	struct ovmci_handle handle;
	int r;

	if (!vsock_net_mode_global(vsk))
		return -EADDRNOTAVAIL;
	if (t->dgs)
		return -EINVAL;
	/* The core checks this for streams only. */
	if (addr->svm_port <= LAST_RESERVED_PORT && !capable(CAP_NET_BIND_SERVICE))
		return -EACCES;
	if (addr->svm_port == VMCI_RID_EVENT)
		return -EADDRINUSE;
	r = ovmci_datagrams_create(addr->svm_port, addr->svm_cid == VMADDR_CID_ANY, receive, vsk, &handle, &t->dgs);
	if (r) {
		t->dgs = NULL;
		return r;
	}
	vsock_addr_init(&vsk->local_addr, addr->svm_cid, handle.resource);
	return 0;
}

void vmsock_dgram_release(struct vsock_sock *vsk)
{
	struct vmsock *t = vmsock_trans(vsk);

	if (t->dgs)
		ovmci_datagrams_destroy(t->dgs);
	t->dgs = NULL;
}

bool vmsock_dgram_allow(struct vsock_sock *vsk, u32 cid, u32 port)
{
	if (!vsock_net_mode_global(vsk))
		return false;
	/* The hypervisor's other resources are its calls. */
	if (cid == VMCI_CID_HYPERVISOR)
		return port == VMCI_HC_UNITY_PBRPC;
	/* Nobody here but the device sends us events or stream control. */
	return cid != ovmci_context_id() || (port != VMCI_RID_EVENT && port != VMCI_RID_STREAM);
}

int vmsock_dgram_enqueue(struct vsock_sock *vsk, struct sockaddr_vm *to, struct msghdr *msg, size_t len)
{
	struct ovmci_handle dst = { .context = to->svm_cid, .resource = to->svm_port };
	struct ovmci_handle src = { .context = VMCI_INVALID_ID, .resource = vsk->local_addr.svm_port };
	int r;

	if (len > VMCI_DG_MAX_PAYLOAD)
		return -EMSGSIZE;
	if (!vmsock_dgram_allow(vsk, to->svm_cid, to->svm_port))
		return -EPERM;
	r = ovmci_datagram_send(dst, src, &msg->msg_iter, len);
	return r < 0 ? ovmci_errno(r) : (int)len;
}

int vmsock_dgram_dequeue(struct vsock_sock *vsk, struct msghdr *msg, size_t len, int flags)
{
	struct sk_buff *skb;
	size_t size;
	int r;

	if (flags & (MSG_OOB | MSG_ERRQUEUE))
		return -EOPNOTSUPP;
	skb = skb_recv_datagram(sk_vsock(vsk), flags, &r);
	if (!skb)
		return r;
	size = skb->len;
	if (size > len)
		msg->msg_flags |= MSG_TRUNC;
	r = skb_copy_datagram_msg(skb, 0, msg, min(size, len));
	if (!r) {
		r = flags & MSG_TRUNC ? size : min(size, len);
		if (msg->msg_name) {
			vsock_addr_init(msg->msg_name, sender(skb)->context, sender(skb)->resource);
			msg->msg_namelen = sizeof(struct sockaddr_vm);
		}
	}
	skb_free_datagram(sk_vsock(vsk), skb);
	return r;
}
