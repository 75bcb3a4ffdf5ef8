/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * ovmci.h - the kernel's VMCI API, exported by our vmci.ko
 *
 * The prefix differs from that of the in-box vmw_vmci, so that both modules can be in one kernel; the PCI device is
 * bound by one of them. What is on the wire (handles, headers, result codes) is in vmci/defs.h.
 *
 * Contexts: unless a function says otherwise it may sleep, and is called without spinlocks. Callbacks run in process
 * context, may sleep, and may use this API, but for the call that destroys the very object whose callback is running.
 * Every destroying call waits until the object's callback has returned and does not run again.
 *
 * Results: functions return 0 or a negative errno, but for those that return what the device says: a VMCI result code
 * (VMCI_SUCCESS and above, or VMCI_ERROR_*, vmci/defs.h), turned into an errno by ovmci_errno().
 *
 * A device can go at any time (unbind, surprise removal), and come again. Objects outlive it: they are dead then,
 * every use of them yields VMCI_ERROR_DEVICE_NOT_FOUND or -ENODEV, and their owners destroy them as always.
 *
 * When the machine was suspended, or the device was reset, queue pairs are dead, too, and VMCI_EVENT_QP_RESUMED says so
 * when the device is there again, and others may have been made already; datagram endpoints, doorbells and
 * subscriptions go on.
 */
#ifndef OVMCI_H
#define OVMCI_H

#include <linux/notifier.h>
#include <linux/types.h>
#include <linux/uio.h>

#include <vmci/defs.h>

struct vm_area_struct;
struct ovmci_bell;
struct ovmci_datagrams;
struct ovmci_qpair;
struct ovmci_subscription;

/* A handle in host byte order. */
struct ovmci_handle {
	u32 context;
	u32 resource;
};

#define OVMCI_INVALID_HANDLE ((struct ovmci_handle){ VMCI_INVALID_ID, VMCI_INVALID_ID })

/* A datagram in host byte order. */
struct ovmci_datagram {
	struct ovmci_handle dst;
	struct ovmci_handle src;
	size_t size;		/* of the payload */
	const void *payload;
};

/**
 * ovmci_errno() - the errno for a VMCI result code: 0 for success codes (device reference, 4.2, as AF_VSOCK has it, and
 * ENODEV for VMCI_ERROR_DEVICE_NOT_FOUND)
 */
int ovmci_errno(int result);

/* --- The device ----------------------------------------------------------------------------------------------- */

/**
 * ovmci_context_id() - this machine's context, VMCI_INVALID_ID while there is no device
 *
 * Any context. It changes with VMCI_EVENT_CTX_ID_UPDATE only; the handles of endpoints and bells are then those with the
 * new id.
 */
u32 ovmci_context_id(void);

/* What the notifiers are told. OVMCI_DEVICE_GONE: no call reaches the device from now on. */
#define OVMCI_DEVICE_READY 1
#define OVMCI_DEVICE_GONE 2

/**
 * ovmci_register_notifier() - be told when the device comes and goes
 *
 * If a device is there already, OVMCI_DEVICE_READY is told before this returns. Return: 0 or a negative errno
 */
int ovmci_register_notifier(struct notifier_block *nb);
void ovmci_unregister_notifier(struct notifier_block *nb);

/**
 * struct ovmci_window - the memory that the device shows in BAR3 (ours; VMCI_WINDOW_BAR)
 * @base: physical address; 0 where the device has no window
 * @size: bytes
 */
struct ovmci_window {
	phys_addr_t base;
	size_t size;
};

/* ovmci_window() - where the device's window lies. Return: 0, or -ENODEV: no device, or it has none */
int ovmci_window(struct ovmci_window *ret_window);

/* --- Datagrams ------------------------------------------------------------------------------------------------ */

/**
 * typedef ovmci_datagram_fn - takes a datagram; @dg and its payload are valid until it returns
 *
 * One call at a time for each endpoint; datagrams of one sender come in order. A slow callback delays those of others.
 */
typedef void (*ovmci_datagram_fn)(void *data, const struct ovmci_datagram *dg);

/**
 * ovmci_datagrams_create() - register a datagram endpoint
 * @resource:   its id; VMCI_INVALID_ID: one is chosen, 1024 or above
 * @any:        take datagrams for whatever context (as the stream control endpoint does), not only for our own
 * @fn, @data:  called for each datagram
 * @ret_handle: its handle; context is our own
 *
 * Return: 0, -EADDRINUSE, -ENOMEM, -EINVAL
 */
int ovmci_datagrams_create(u32 resource, bool any, ovmci_datagram_fn fn, void *data, struct ovmci_handle *ret_handle,
			   struct ovmci_datagrams **ret);
void ovmci_datagrams_destroy(struct ovmci_datagrams *dgs);

/**
 * ovmci_datagram_send() - send one; handles: @src.context VMCI_INVALID_ID is replaced by our own
 *
 * @payload is read from @from (kernel or user memory, @size bytes). To our own context it is delivered within the
 * machine, from a worker. The hypercalls that this module makes itself are refused (VMCI_ERROR_NO_ACCESS).
 * Return: the bytes sent, header included (by the hypervisor: what it answers), or VMCI_ERROR_*
 */
int ovmci_datagram_send(struct ovmci_handle dst, struct ovmci_handle src, struct iov_iter *from, size_t size);

/* ovmci_datagram_send_buf() - the same from kernel memory. */
int ovmci_datagram_send_buf(struct ovmci_handle dst, struct ovmci_handle src, const void *payload, size_t size);

/* --- Doorbells ------------------------------------------------------------------------------------------------ */

typedef void (*ovmci_bell_fn)(void *data);

/**
 * ovmci_bell_create() - a doorbell that others can ring
 * @handle: in: the resource that is wanted, or VMCI_INVALID_ID; out: the handle
 *
 * Return: 0, -ENODEV, -EADDRINUSE, -ENOSPC: the page of bells is full, -EOPNOTSUPP: the device has no notifications,
 * or what the device said
 */
int ovmci_bell_create(struct ovmci_handle *handle, ovmci_bell_fn fn, void *data, struct ovmci_bell **ret);
void ovmci_bell_destroy(struct ovmci_bell *bell);

/* ovmci_bell_ring() - ring anybody's, our own too. Return: a VMCI result code */
int ovmci_bell_ring(struct ovmci_handle handle);

/* --- Events --------------------------------------------------------------------------------------------------- */

/**
 * struct ovmci_event - what happened; fields are 0 where the event has none
 * @event:     VMCI_EVENT_*
 * @context:   the new id (CTX_ID_UPDATE), who was removed, or the queue pair's peer
 * @handle:    the queue pair (QP_PEER_ATTACH, QP_PEER_DETACH)
 * @is_of_old: QP_RESUMED comes from this module, which has reset the device: it is about the pairs of before, those
 *	       that are dead (ovmci_qpair_is_dead()). Else the device says it, of all that there are
 */
struct ovmci_event {
	u32 event;
	u32 context;
	struct ovmci_handle handle;
	bool is_of_old;
};

typedef void (*ovmci_event_fn)(void *data, const struct ovmci_event *event);

/* ovmci_subscribe() - have @fn called for each @event. Return: 0, -EINVAL, -ENOMEM */
int ovmci_subscribe(u32 event, ovmci_event_fn fn, void *data, struct ovmci_subscription **ret);
void ovmci_unsubscribe(struct ovmci_subscription *sub);

/* --- Queue pairs ---------------------------------------------------------------------------------------------- */

/**
 * ovmci_qpair_create() - allocate a queue pair's memory, and create it or attach to it
 * @handle:  in: the handle, or OVMCI_INVALID_HANDLE: one of ours is chosen; out: the handle
 * @produce, @consume: bytes of the rings, header pages excluded; not both 0
 * @peer:    who may attach; VMCI_INVALID_ID: anybody
 * @flags:   VMCI_QP_ATTACH_ONLY, VMCI_QP_LOCAL (both ends in this kernel), VMCI_QP_NONBLOCK, VMCI_QP_PINNED
 *
 * Return: VMCI_SUCCESS_QUEUEPAIR_CREATE, VMCI_SUCCESS_QUEUEPAIR_ATTACH, VMCI_SUCCESS, or VMCI_ERROR_*
 */
int ovmci_qpair_create(struct ovmci_handle *handle, u64 produce, u64 consume, u32 peer, u32 flags,
		       struct ovmci_qpair **ret);

/**
 * ovmci_qpair_destroy() - detach and free; memory that is still mapped into programs is freed with the last mapping
 *
 * Where the device refuses to let go of the pages they are kept until the device is reset.
 */
void ovmci_qpair_destroy(struct ovmci_qpair *qp);

/* ovmci_qpair_is_dead() - has the device been reset, or is it gone, since the pair was made? Any context */
bool ovmci_qpair_is_dead(const struct ovmci_qpair *qp);

/*
 * Bytes that can be written, that wait to be read by us, that the peer has not read yet, and how much the peer could
 * write. Any context; one producer and one consumer at a time, serialised by their owner. Negative: -EBADMSG: the
 * peer's index is out of range, so that the pair is of no use any more.
 */
s64 ovmci_qpair_free(const struct ovmci_qpair *qp);
s64 ovmci_qpair_ready(const struct ovmci_qpair *qp);
s64 ovmci_qpair_unread(const struct ovmci_qpair *qp);
s64 ovmci_qpair_peer_free(const struct ovmci_qpair *qp);

/* Our positions (the produce ring's tail, the consume ring's head), for notifications that carry offsets. */
u64 ovmci_qpair_tail(const struct ovmci_qpair *qp);
u64 ovmci_qpair_head(const struct ovmci_qpair *qp);

/**
 * struct ovmci_moved - what one needs to know to tell the peer, if it may sleep
 * @from: our position before
 * @left: what the peer has not read (enqueue), what it could write (dequeue), as ovmci_qpair_unread() and
 *	  ovmci_qpair_peer_free() say, looked at after our position was published and a full barrier: so either this is
 *	  what the peer saw when it last looked before it slept, or it has seen what we did
 */
struct ovmci_moved {
	u64 from;
	s64 left;
};

/**
 * ovmci_qpair_enqueue() - copy from @from into the ring what fits, and publish it
 * @ret_moved: filled if bytes were moved; its @left is negative where the pair has become of no use since. Or NULL
 *
 * Return: bytes; -EAGAIN: the ring is full; -EFAULT; -EBADMSG, -ENODEV: the pair is of no use any more
 */
ssize_t ovmci_qpair_enqueue(struct ovmci_qpair *qp, struct iov_iter *from, size_t len, struct ovmci_moved *ret_moved);

/* ovmci_qpair_dequeue() - copy out at most @len, and give the room back. Return: as enqueue */
ssize_t ovmci_qpair_dequeue(struct ovmci_qpair *qp, struct iov_iter *to, size_t len, struct ovmci_moved *ret_moved);

/* ovmci_qpair_peek() - copy out at most @len, and leave it there. Return: as enqueue */
ssize_t ovmci_qpair_peek(const struct ovmci_qpair *qp, struct iov_iter *to, size_t len);

/**
 * ovmci_qpair_mmap() - map the pair into a program: produce header page, produce data, consume header page, consume
 * data, from offset 0 of @vma. The pages live as long as the mapping.
 */
int ovmci_qpair_mmap(struct ovmci_qpair *qp, struct vm_area_struct *vma);

#endif /* OVMCI_H */
