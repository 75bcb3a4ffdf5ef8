// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * DOC: Theory of operation
 *
 * vmsock is the transport of AF_VSOCK over VMCI. The kernel's vsock core has the sockets, their addresses, tables and
 * system calls; it calls us through struct vsock_transport. We have the queue pairs, the control packets and the
 * handshakes.
 *
 * At the core we are the transport for datagrams from the beginning, and that for streams to the host and to whatever
 * the host reaches since a device was seen: on a machine without one, another transport may be that.
 *
 * Locks, outer first: a listener's, its child's; then those of inboxes, of the tables of pairs and of
 * those who wait, of the list of debtors, and vmci.ko's.
 * Callbacks of vmci.ko take no socket's lock (inbox.c, dgram.c), so that its destroying calls can be made with one
 * held.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/module.h>
#include <linux/slab.h>
#include <net/af_vsock.h>

#include "control.h"
#include "dgram.h"
#include "handshake.h"
#include "inbox.h"
#include "owed.h"
#include "pairs.h"
#include "stream.h"

bool vmsock_legacy;
module_param_named(legacy, vmsock_legacy, bool, 0444);
MODULE_PARM_DESC(legacy, "Speak the handshake and notifications of before 2009 only (for tests)");

/* --- Sockets ------------------------------------------------------------------------------------------------------ */

static int init(struct vsock_sock *vsk, struct vsock_sock *psk)
{
	struct vmsock *t = kzalloc(sizeof(*t), GFP_KERNEL);

	if (!t)
		return -ENOMEM;
	t->vsk = vsk;
	INIT_LIST_HEAD(&t->debtor);
	vsk->trans = t;
	return 0;
}

static void destruct(struct vsock_sock *vsk)
{
	struct vmsock *t = vsk->trans;

	if (!t)
		return;
	vmsock_pair_drop(t);
	vmsock_dgram_release(vsk);
	vsk->trans = NULL;
	kfree(t);
}

static void release(struct vsock_sock *vsk)
{
	if (sk_vsock(vsk)->sk_type == SOCK_DGRAM) {
		vsock_remove_sock(vsk);		/* the core's table of unbound sockets has all */
		vmsock_dgram_release(vsk);
	} else {
		vmsock_stream_release(vsk);
	}
}

/* Older cores do not ask. */
static bool __maybe_unused has_remote_cid(struct vsock_sock *vsk, u32 cid)
{
	return cid >= VMCI_CID_FIRST_VM && cid != VMADDR_CID_ANY && ovmci_context_id() != VMCI_INVALID_ID;
}

/* The core asks at these points too; all that is to do is done with the bytes themselves. */

static int recv_point(struct vsock_sock *vsk, size_t target, struct vsock_transport_recv_notify_data *data)
{
	return 0;
}

static int recv_done(struct vsock_sock *vsk, size_t target, ssize_t copied, bool data_read,
		     struct vsock_transport_recv_notify_data *data)
{
	return 0;
}

static int send_point(struct vsock_sock *vsk, struct vsock_transport_send_notify_data *data)
{
	return 0;
}

static int send_done(struct vsock_sock *vsk, ssize_t written, struct vsock_transport_send_notify_data *data)
{
	return 0;
}

static const struct vsock_transport transport = {
	.module = THIS_MODULE,
	.init = init,
	.destruct = destruct,
	.release = release,
	.connect = vmsock_handshake_connect,
	.dgram_bind = vmsock_dgram_bind,
	.dgram_dequeue = vmsock_dgram_dequeue,
	.dgram_enqueue = vmsock_dgram_enqueue,
	.dgram_allow = vmsock_dgram_allow,
	.stream_dequeue = vmsock_stream_dequeue,
	.stream_enqueue = vmsock_stream_enqueue,
	.stream_has_data = vmsock_stream_has_data,
	.stream_has_space = vmsock_stream_has_space,
	.stream_rcvhiwat = vmsock_stream_rcvhiwat,
	.stream_is_active = vmsock_stream_is_active,
	.stream_allow = vmsock_stream_allow,
	.notify_poll_in = vmsock_stream_poll_in,
	.notify_poll_out = vmsock_stream_poll_out,
	.notify_recv_init = recv_point,
	.notify_recv_pre_block = vmsock_stream_recv_block,
	.notify_recv_pre_dequeue = recv_point,
	.notify_recv_post_dequeue = recv_done,
	.notify_send_init = send_point,
	.notify_send_pre_block = vmsock_stream_send_block,
	.notify_send_pre_enqueue = send_point,
	.notify_send_post_enqueue = send_done,
	.shutdown = vmsock_stream_shutdown,
	.get_local_cid = ovmci_context_id,
	COMPAT_HAS_REMOTE_CID(has_remote_cid)
};

bool vmsock_is_ours(const struct vsock_sock *vsk)
{
	return vsk->transport == &transport;
}

/* --- Module ------------------------------------------------------------------------------------------------------- */

static bool is_registered;	/* for streams */

/* Not within the notifier: vmci.ko may hold locks there that it needs for what the core calls us with. */
static void register_streams(struct work_struct *work)
{
	int r;

	if (is_registered)
		return;
	r = vsock_core_register(&transport, VSOCK_TRANSPORT_F_G2H);
	if (r)
		pr_err("no streams: the kernel has a transport to a host already (%d)\n", r);
	else
		is_registered = true;
}

static DECLARE_WORK(register_work, register_streams);

static int notice(struct notifier_block *nb, unsigned long what, void *data)
{
	if (what == OVMCI_DEVICE_READY)
		schedule_work(&register_work);
	else if (what == OVMCI_DEVICE_GONE)
		vmsock_pairs_lost();
	return NOTIFY_OK;
}

static struct notifier_block notifier = { .notifier_call = notice };

#ifdef OVMCI_DEBUG
static bool __init selftest(void)
{
	bool ok = vmsock_packet_selftest() & vmsock_negotiate_selftest() & vmsock_notify_selftest();

	pr_info("self-tests: %s\n", ok ? "pass" : "FAIL");
	return ok;
}
#else
static bool __init selftest(void)
{
	return true;
}
#endif

static int __init vmsock_init(void)
{
	int r;

	if (!selftest())
		return -ENOTRECOVERABLE;
	r = vmsock_inbox_init();
	if (r)
		return r;
	r = vmsock_pairs_init();
	if (r)
		goto no_pairs;
	r = vmsock_control_init();
	if (r)
		goto no_control;
	r = vsock_core_register(&transport, VSOCK_TRANSPORT_F_DGRAM);
	if (r) {
		pr_err("the kernel has a datagram transport already; is vmw_vsock_vmci_transport loaded? (%d)\n", r);
		goto no_transport;
	}
	r = ovmci_register_notifier(&notifier);
	if (r)
		goto no_notifier;
	flush_work(&register_work);	/* who loads us can open streams from now on */
	return 0;

no_notifier:
	vsock_core_unregister(&transport);
no_transport:
	vmsock_control_exit();
no_control:
	vmsock_pairs_exit();
no_pairs:
	vmsock_inbox_exit();
	return r;
}

static void __exit vmsock_exit(void)
{
	ovmci_unregister_notifier(&notifier);
	cancel_work_sync(&register_work);
	vsock_core_unregister(&transport);
	vmsock_control_exit();
	vmsock_pairs_exit();
	vmsock_owed_exit();
	vmsock_inbox_exit();
}

module_init(vmsock_init);
module_exit(vmsock_exit);

MODULE_AUTHOR("The OpenVMCI developers");
MODULE_DESCRIPTION("AF_VSOCK over VMCI");
MODULE_LICENSE("Dual BSD/GPL");
MODULE_VERSION(OVMCI_VERSION);
MODULE_ALIAS("vmware_vsock");
MODULE_ALIAS_NETPROTO(PF_VSOCK);
