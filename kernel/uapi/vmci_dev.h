/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * vmci_dev.h - /dev/vmci of our vmci.ko: what programs of a guest say to it
 *
 * Files
 *	An open file is a client. What is made through it is its own, and goes with it: when the last descriptor is
 *	closed and the last mapping is gone, also by kill -9. Any number of threads may use one file at once.
 *	A file can be opened while there is a device (else ENODEV). When the device goes, or the driver is unbound, the
 *	file is dead: every call says ENODEV, poll(2) says POLLERR and POLLHUP. It stays so when a device comes again.
 *	Mapped queue pairs remain memory; a mapped part of the window is gone (SIGBUS). When the device has only been
 *	reset, as when the machine was asleep, the file lives on, but its peers have left its queue pairs, and its
 *	regions are gone.
 *
 *	poll(2) says POLLIN if a datagram or an event waits, POLLPRI if an event does, and always POLLOUT. No call waits
 *	but those of shared memory, which wait for the host, VMCI_DEV_ANSWER_MS at most, and can be interrupted.
 *
 * Calls
 *	ioctl(2) with a pointer to the structure that is named. All sizes are fixed, 32-bit programs have the same
 *	structures; numbers are in the machine's byte order, but for what is in queue headers (little-endian, VMCI).
 *	Fields marked "in" are read, "out" written, on success only. @flags without a meaning, and @reserved, must be 0.
 *	If the structure cannot be written back (EFAULT), what was made remains, until the file is closed.
 *
 *	Return: 0, or -1 and errno. For all of them: ENODEV: the file is dead; EFAULT; EINVAL: a field has no such
 *	value; ENOTTY: no such call, which is also what another /dev/vmci says; ENOMEM; EINTR. Calls that ask the device
 *	have a field @result, a code of VMCI (vmci/defs.h), which counts if 0 is returned: VMCI_ERROR_* there is a
 *	failure, and nothing was made.
 *
 * Handles
 *	A resource id below VMCI_DEV_FIRST_RESOURCE takes CAP_NET_BIND_SERVICE (EACCES), and 0 and 1 are the driver's
 *	(EINVAL). VMCI_INVALID_ID (0xffffffff) has one chosen.
 */
#ifndef VMCI_DEV_H
#define VMCI_DEV_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define VMCI_DEV_PATH "/dev/vmci"

/* major << 16 | minor. Another major number: nothing is sure; a larger minor one: there are more calls. */
#define VMCI_DEV_VERSION_1 0x10000u

/* Says that it is this interface. "OVMC" */
#define VMCI_DEV_MAGIC 0x434d564fu

#define VMCI_DEV_FIRST_RESOURCE 1024u

/* How long the calls of shared memory wait for the host. */
#define VMCI_DEV_ANSWER_MS 5000u

struct vmci_dev_handle {
	__u32 context;
	__u32 resource;
};

/* --- VERSION ---------------------------------------------------------------------------------------------------- */

#define VMCI_DEV_HAS_WINDOW 0x1u	/* shared memory */

/**
 * struct vmci_dev_version - VMCI_DEV_VERSION: who answers, and what there is
 * @magic:    out: VMCI_DEV_MAGIC
 * @version:  out: VMCI_DEV_VERSION_1
 * @features: out: VMCI_DEV_HAS_*; unknown bits are to be ignored
 * @context:  out: this machine's context id
 * @window_size: out: bytes of the window, 0: there is none
 * @qpair_bytes: out: of this file's queue pairs, header pages included, at most
 * @queued_bytes: out: of datagrams that wait, with some overhead for each, at most
 * @endpoints, @bells, @qpairs, @regions: out: of this file, at most
 */
struct vmci_dev_version {
	__u32 magic;
	__u32 version;
	__u32 features;
	__u32 context;
	__u64 window_size;
	__u64 qpair_bytes;
	__u32 queued_bytes;
	__u32 endpoints;
	__u32 bells;
	__u32 qpairs;
	__u32 regions;
	__u32 reserved;
};

/* --- Datagrams -------------------------------------------------------------------------------------------------- */

/**
 * struct vmci_dev_endpoint - VMCI_DEV_DATAGRAM_CREATE: an endpoint; VMCI_DEV_DATAGRAM_DESTROY: no more
 * @handle: CREATE: in: resource, out: both; DESTROY: in. What waits for it remains to be received
 *
 * CREATE: EADDRINUSE: the id is taken; ENOSPC: quota. DESTROY: ENOENT: it is not one of this file's
 */
struct vmci_dev_endpoint {
	struct vmci_dev_handle handle;
	__u32 flags;
	__u32 reserved;
};

/**
 * struct vmci_dev_send - VMCI_DEV_DATAGRAM_SEND
 * @dst:     in. Not context 0; nor resource 0 or 1 of any context but 1, which are drivers' (EACCES)
 * @src:     in: an endpoint of this file; resource VMCI_INVALID_ID: the one that it has made first. ENOENT: there is
 *	     none
 * @payload: in: address of @size bytes, VMCI_DG_MAX_PAYLOAD at most (EMSGSIZE)
 * @result:  out: VMCI_SUCCESS or above, or what the device says
 */
struct vmci_dev_send {
	struct vmci_dev_handle dst;
	struct vmci_dev_handle src;
	__u64 payload;
	__u32 size;
	__u32 flags;
	__s32 result;
	__u32 reserved;
};

#define VMCI_DEV_PEEK 0x1u	/* the datagram stays */

/**
 * struct vmci_dev_receive - VMCI_DEV_DATAGRAM_RECEIVE: take the oldest datagram
 * @dst:     out: the endpoint that it is for
 * @src:     out
 * @payload: in: address of @size bytes
 * @size:    in: room; out: of the payload
 * @flags:   in: VMCI_DEV_PEEK
 *
 * EAGAIN: none waits; EMSGSIZE: the room is too small, the datagram stays
 */
struct vmci_dev_receive {
	struct vmci_dev_handle dst;
	struct vmci_dev_handle src;
	__u64 payload;
	__u32 size;
	__u32 flags;
};

/* --- Queue pairs ------------------------------------------------------------------------------------------------ */

/**
 * struct vmci_dev_qpair - VMCI_DEV_QPAIR_CREATE: make a queue pair or attach to one
 * @handle:  in, out. {VMCI_INVALID_ID, VMCI_INVALID_ID}: one of ours is chosen
 * @produce, @consume: in: bytes of the rings, header pages excluded; not both 0
 * @peer:    in: the context that may attach, VMCI_INVALID_ID: anybody
 * @flags:   in: VMCI_QP_ATTACH_ONLY, VMCI_QP_LOCAL (both ends in this guest)
 * @wake:    in: an eventfd that is signalled when the state changes, or -1
 * @result:  out: VMCI_SUCCESS_QUEUEPAIR_CREATE, VMCI_SUCCESS_QUEUEPAIR_ATTACH
 * @offset, @size: out: for mmap(2), MAP_SHARED, the whole: header page of the ring that we produce, its data in whole
 *	     pages, header page of the ring that we consume, its data. Layout of a header: struct
 *	     vmci_queue_header_wire; pages are of the kernel's page size
 *
 * ENOSPC: quota; EBADF, EINVAL: @wake is none; EACCES: the id; EEXIST: this file has an end of that pair;
 * EAGAIN: too much happened meanwhile, try again
 */
struct vmci_dev_qpair {
	struct vmci_dev_handle handle;
	__u64 produce;
	__u64 consume;
	__u32 peer;
	__u32 flags;
	__s32 wake;
	__s32 result;
	__u64 offset;
	__u64 size;
};

#define VMCI_DEV_QPAIR_WAITING 0u	/* nobody has attached */
#define VMCI_DEV_QPAIR_ATTACHED 1u
#define VMCI_DEV_QPAIR_LEFT 2u		/* what the peer wrote can still be read */

/**
 * struct vmci_dev_qpair_state - VMCI_DEV_QPAIR_STATE: of a pair; VMCI_DEV_QPAIR_DESTROY: detach from it
 * @handle: in
 * @state:  out: VMCI_DEV_QPAIR_*
 * @peer:   out: who has attached, VMCI_INVALID_ID: not known
 *
 * After DESTROY what is mapped remains as memory of nobody else. ENOENT: not one of this file's
 */
struct vmci_dev_qpair_state {
	struct vmci_dev_handle handle;
	__u32 state;
	__u32 peer;
};

/* --- Doorbells -------------------------------------------------------------------------------------------------- */

/**
 * struct vmci_dev_bell - VMCI_DEV_BELL_CREATE, VMCI_DEV_BELL_DESTROY, VMCI_DEV_BELL_RING
 * @handle: CREATE: in: resource, out: both; else in
 * @fd:     CREATE: in: the eventfd to which 1 is added when it is rung (rings that come together may count once); else
 *	     0
 * @result: RING: out
 *
 * CREATE: EADDRINUSE, EBADF, EINVAL: no eventfd; ENOSPC: quota, or the device has no more; EOPNOTSUPP: it has none.
 * DESTROY: ENOENT. RING takes any handle.
 */
struct vmci_dev_bell {
	struct vmci_dev_handle handle;
	__s32 fd;
	__u32 flags;
	__s32 result;
	__u32 reserved;
};

/* --- Events ----------------------------------------------------------------------------------------------------- */

/**
 * struct vmci_dev_subscribe - VMCI_DEV_EVENT_SUBSCRIBE: from now on queue these events, and no others
 * @events: in: bit n for VMCI_EVENT_* n. Of queue pairs: those of this file only
 */
struct vmci_dev_subscribe {
	__u32 events;
	__u32 flags;
};

/**
 * struct vmci_dev_event - VMCI_DEV_EVENT_READ: take the oldest event
 * @event:   out: VMCI_EVENT_*
 * @context: out: the new context id, who was removed, or the queue pair's peer; 0 where the event has none
 * @handle:  out: the queue pair
 * @lost:    out: events for which there was no room, since the last call
 *
 * EAGAIN: none waits
 */
struct vmci_dev_event {
	__u32 event;
	__u32 context;
	struct vmci_dev_handle handle;
	__u32 lost;
	__u32 flags;
};

/* --- Shared memory: parts of the window -------------------------------------------------------------------------- */

/**
 * struct vmci_dev_region - VMCI_DEV_SHM_CREATE, _ATTACH, _QUERY, _DETACH
 * @handle: CREATE: in: resource, out: both; else in
 * @bytes:  CREATE: in; all but DETACH: out
 * @offset: CREATE, ATTACH: out: for mmap(2), MAP_SHARED: the region, of @bytes rounded up to whole pages, or parts of
 *	     it
 * @result: out: what the host says; DETACH: VMCI_SUCCESS, or VMCI_SUCCESS_LAST_DETACH: the region is gone
 *
 * With DETACH all mappings of it are gone (SIGBUS). One file has a region once (EEXIST).
 * EOPNOTSUPP: there is no window; ETIMEDOUT: the host does not answer; ENOSPC: quota; ENOENT: DETACH: not attached;
 * EPROTO: the host says nonsense
 */
struct vmci_dev_region {
	struct vmci_dev_handle handle;
	__u64 bytes;
	__u64 offset;
	__s32 result;
	__u32 flags;
};

/* --- Numbers ----------------------------------------------------------------------------------------------------- */

#define VMCI_DEV_TYPE 0xd6

#define VMCI_DEV_VERSION _IOR(VMCI_DEV_TYPE, 0, struct vmci_dev_version)
#define VMCI_DEV_DATAGRAM_CREATE _IOWR(VMCI_DEV_TYPE, 1, struct vmci_dev_endpoint)
#define VMCI_DEV_DATAGRAM_DESTROY _IOW(VMCI_DEV_TYPE, 2, struct vmci_dev_endpoint)
#define VMCI_DEV_DATAGRAM_SEND _IOWR(VMCI_DEV_TYPE, 3, struct vmci_dev_send)
#define VMCI_DEV_DATAGRAM_RECEIVE _IOWR(VMCI_DEV_TYPE, 4, struct vmci_dev_receive)
#define VMCI_DEV_QPAIR_CREATE _IOWR(VMCI_DEV_TYPE, 5, struct vmci_dev_qpair)
#define VMCI_DEV_QPAIR_STATE _IOWR(VMCI_DEV_TYPE, 6, struct vmci_dev_qpair_state)
#define VMCI_DEV_QPAIR_DESTROY _IOWR(VMCI_DEV_TYPE, 7, struct vmci_dev_qpair_state)
#define VMCI_DEV_BELL_CREATE _IOWR(VMCI_DEV_TYPE, 8, struct vmci_dev_bell)
#define VMCI_DEV_BELL_DESTROY _IOW(VMCI_DEV_TYPE, 9, struct vmci_dev_bell)
#define VMCI_DEV_BELL_RING _IOWR(VMCI_DEV_TYPE, 10, struct vmci_dev_bell)
#define VMCI_DEV_EVENT_SUBSCRIBE _IOW(VMCI_DEV_TYPE, 11, struct vmci_dev_subscribe)
#define VMCI_DEV_EVENT_READ _IOR(VMCI_DEV_TYPE, 12, struct vmci_dev_event)
#define VMCI_DEV_SHM_CREATE _IOWR(VMCI_DEV_TYPE, 13, struct vmci_dev_region)
#define VMCI_DEV_SHM_ATTACH _IOWR(VMCI_DEV_TYPE, 14, struct vmci_dev_region)
#define VMCI_DEV_SHM_QUERY _IOWR(VMCI_DEV_TYPE, 15, struct vmci_dev_region)
#define VMCI_DEV_SHM_DETACH _IOWR(VMCI_DEV_TYPE, 16, struct vmci_dev_region)
#define VMCI_DEV_CALLS 17

#endif /* VMCI_DEV_H */
