/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * What vmci_probe uses of the in-box VMCI API, over the API of our vmci.ko (kernel/include/ovmci.h)
 *
 * That has objects where this has handles, so they are kept in a list; and negative errnos where this has codes.
 */
#ifndef OURS_H
#define OURS_H

#include <ovmci.h>

#define HAVE_DOORBELL_NOTIFY
#define VMCI_MAX_DG_SIZE VMCI_DG_MAX_SIZE
#define VMCI_NO_PRIVILEGE_FLAGS 0
#define VMCI_FLAG_DG_NONE 0
#define VMCI_INVALID_HANDLE OVMCI_INVALID_HANDLE
#define VMCI_DG_SIZE(dg) (sizeof(struct vmci_datagram) + (size_t)(dg)->payload_size)
#define VMCI_DG_PAYLOAD(dg) ((void *)((dg) + 1))
#define vmci_handle ovmci_handle
#define vmci_qp ovmci_qpair

struct vmci_datagram {
	struct vmci_handle dst, src;
	u64 payload_size;
};

struct vmci_event_payld_ctx {
	u32 context_id;
};

struct vmci_event_payld_qp {
	struct vmci_handle handle;
	u32 peer_id;
};

struct vmci_event_data {
	u32 event;
	union {
		struct vmci_event_payld_ctx ctx;
		struct vmci_event_payld_qp qp;
	} payload;
};

typedef void (*vmci_callback)(void *data);
typedef int (*vmci_datagram_recv_cb)(void *data, struct vmci_datagram *dg);
typedef void (*vmci_event_cb)(u32 sub, const struct vmci_event_data *ed, void *data);

struct ours {
	struct list_head entry;
	struct vmci_handle handle;
	struct ovmci_bell *bell;
	struct ovmci_datagrams *datagrams;
	vmci_datagram_recv_cb on_datagram;
	void *data;
};

static LIST_HEAD(ours);
static DEFINE_MUTEX(ours_mutex);

static struct {
	struct ovmci_subscription *subscription;
	vmci_event_cb cb;
	void *data;
} ours_events[VMCI_EVENT_QP_PEER_DETACH + 1];

static inline const void *vmci_event_data_const_payload(const struct vmci_event_data *ed) { return &ed->payload; }

static inline bool vmci_handle_is_equal(struct vmci_handle a, struct vmci_handle b)
{
	return a.context == b.context && a.resource == b.resource;
}

static inline bool vmci_handle_is_invalid(struct vmci_handle h) { return vmci_handle_is_equal(h, VMCI_INVALID_HANDLE); }

static inline int ours_code(int r)
{
	switch (r) {
	case 0:
		return VMCI_SUCCESS;
	case -ENOMEM:
		return VMCI_ERROR_NO_MEM;
	case -EADDRINUSE:
		return VMCI_ERROR_DUPLICATE_ENTRY;
	case -EPERM:
		return VMCI_ERROR_NO_ACCESS;
	case -ENODEV:
		return VMCI_ERROR_DEVICE_NOT_FOUND;
	case -ENOSPC:
	case -ENOBUFS:
		return VMCI_ERROR_NO_RESOURCES;
	default:
		return r > 0 ? r : VMCI_ERROR_INVALID_ARGS;
	}
}

static inline u32 vmci_get_context_id(void) { return ovmci_context_id(); }

/* --- Datagrams and doorbells ------------------------------------------------------------------------------------ */

static inline struct ours *ours_new(void *data)
{
	struct ours *o = kzalloc(sizeof(*o), GFP_KERNEL);

	if (o) {
		INIT_LIST_HEAD(&o->entry);
		o->data = data;
	}
	return o;
}

/* Puts an object into the list, if it was made. */
static inline int ours_add(struct ours *o, int r)
{
	if (r) {
		kfree(o);
		return ours_code(r);
	}
	mutex_lock(&ours_mutex);
	list_add(&o->entry, &ours);
	mutex_unlock(&ours_mutex);
	return VMCI_SUCCESS;
}

static inline struct ours *ours_take(struct vmci_handle handle, bool is_bell)
{
	struct ours *o, *found = NULL;

	mutex_lock(&ours_mutex);
	list_for_each_entry(o, &ours, entry)
		if (vmci_handle_is_equal(o->handle, handle) && !!o->bell == is_bell)
			found = o;
	if (found)
		list_del(&found->entry);
	mutex_unlock(&ours_mutex);
	return found;
}

static inline void ours_on_datagram(void *data, const struct ovmci_datagram *from)
{
	struct ours *o = data;
	struct vmci_datagram *dg = kmalloc(sizeof(*dg) + from->size, GFP_KERNEL);

	if (!dg)
		return;
	dg->dst = from->dst;
	dg->src = from->src;
	dg->payload_size = from->size;
	memcpy(VMCI_DG_PAYLOAD(dg), from->payload, from->size);
	o->on_datagram(o->data, dg);
	kfree(dg);
}

static inline int vmci_datagram_create_handle(u32 rid, u32 flags, vmci_datagram_recv_cb cb, void *data,
					      struct vmci_handle *ret_handle)
{
	struct ours *o = ours_new(data);
	int code;

	if (!o)
		return VMCI_ERROR_NO_MEM;
	o->on_datagram = cb;
	code = ovmci_datagrams_create(rid, false, ours_on_datagram, o, &o->handle, &o->datagrams);
	*ret_handle = o->handle;
	return ours_add(o, code);
}

static inline int vmci_datagram_destroy_handle(struct vmci_handle handle)
{
	struct ours *o = ours_take(handle, false);

	if (!o)
		return VMCI_ERROR_NOT_FOUND;
	ovmci_datagrams_destroy(o->datagrams);
	kfree(o);
	return VMCI_SUCCESS;
}

static inline int vmci_datagram_send(struct vmci_datagram *dg)
{
	return ovmci_datagram_send_buf(dg->dst, dg->src, VMCI_DG_PAYLOAD(dg), dg->payload_size);
}

static inline int vmci_doorbell_create(struct vmci_handle *handle, u32 flags, u32 priv, vmci_callback cb, void *data)
{
	struct ours *o = ours_new(data);
	int r;

	if (!o)
		return VMCI_ERROR_NO_MEM;
	r = ovmci_bell_create(handle, cb, data, &o->bell);
	o->handle = *handle;
	return ours_add(o, r);
}

static inline int vmci_doorbell_destroy(struct vmci_handle handle)
{
	struct ours *o = ours_take(handle, true);

	if (!o)
		return VMCI_ERROR_NOT_FOUND;
	ovmci_bell_destroy(o->bell);
	kfree(o);
	return VMCI_SUCCESS;
}

static inline int vmci_doorbell_notify(struct vmci_handle handle, u32 priv) { return ovmci_bell_ring(handle); }

/* --- Events ----------------------------------------------------------------------------------------------------- */

static inline void ours_on_event(void *data, const struct ovmci_event *event)
{
	struct vmci_event_data ed = { .event = event->event };

	if (event->event == VMCI_EVENT_QP_PEER_ATTACH || event->event == VMCI_EVENT_QP_PEER_DETACH) {
		ed.payload.qp.handle = event->handle;
		ed.payload.qp.peer_id = event->context;
	} else {
		ed.payload.ctx.context_id = event->context;
	}
	ours_events[event->event].cb(event->event, &ed, ours_events[event->event].data);
}

static inline int vmci_event_subscribe(u32 event, vmci_event_cb cb, void *data, u32 *ret_sub)
{
	int r;

	ours_events[event].cb = cb;
	ours_events[event].data = data;
	r = ovmci_subscribe(event, ours_on_event, NULL, &ours_events[event].subscription);
	*ret_sub = event;
	return ours_code(r);
}

static inline int vmci_event_unsubscribe(u32 sub)
{
	ovmci_unsubscribe(ours_events[sub].subscription);
	return VMCI_SUCCESS;
}

/* --- Queue pairs ------------------------------------------------------------------------------------------------ */

static inline int vmci_qpair_alloc(struct vmci_qp **ret, struct vmci_handle *handle, u64 produce, u64 consume, u32 peer,
				   u32 flags, u32 priv)
{
	return ovmci_qpair_create(handle, produce, consume, peer, flags, ret);
}

static inline int vmci_qpair_detach(struct vmci_qp **qp)
{
	ovmci_qpair_destroy(*qp);
	*qp = NULL;
	return VMCI_SUCCESS;
}

static inline s64 ours_space(s64 bytes) { return bytes < 0 ? VMCI_ERROR_INVALID_SIZE : bytes; }
static inline s64 vmci_qpair_produce_free_space(struct vmci_qp *qp) { return ours_space(ovmci_qpair_free(qp)); }
static inline s64 vmci_qpair_produce_buf_ready(struct vmci_qp *qp) { return ours_space(ovmci_qpair_unread(qp)); }
static inline s64 vmci_qpair_consume_free_space(struct vmci_qp *qp) { return ours_space(ovmci_qpair_peer_free(qp)); }
static inline s64 vmci_qpair_consume_buf_ready(struct vmci_qp *qp) { return ours_space(ovmci_qpair_ready(qp)); }

static inline ssize_t vmci_qpair_enquev(struct vmci_qp *qp, struct msghdr *msg, size_t size, int mode)
{
	ssize_t n = ovmci_qpair_enqueue(qp, &msg->msg_iter, size, NULL);

	return n == -EAGAIN ? VMCI_ERROR_QUEUEPAIR_NOSPACE : n < 0 ? VMCI_ERROR_INVALID_SIZE : n;
}

static inline ssize_t vmci_qpair_dequev(struct vmci_qp *qp, struct msghdr *msg, size_t size, int mode)
{
	ssize_t n = ovmci_qpair_dequeue(qp, &msg->msg_iter, size, NULL);

	return n == -EAGAIN ? VMCI_ERROR_QUEUEPAIR_NODATA : n < 0 ? VMCI_ERROR_INVALID_SIZE : n;
}

#endif /* OURS_H */
