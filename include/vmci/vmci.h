/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * vmci/vmci.h - libvmci: contexts, datagrams, queue pairs, doorbells, events, shared memory, names and rights
 *
 * A program joins a context (the host's, context 2, or one of its own), and from there reaches every other context
 * of this machine: virtual machines, the host, other programs. A VM's guest and a program look the same from here.
 *
 * Conventions
 *	Results	0 or more is success; negative is a VMCI_ERROR_* of <vmci/defs.h>, in words by vmci_strerror().
 *		Outputs (ret_*, last) are written only on success.
 *	Time	timeout_ms: -1 waits for ever, 0 does not wait, else milliseconds. A call that had to wait longer
 *		returns VMCI_ERROR_TIMEOUT; one that must not wait, VMCI_ERROR_WOULD_BLOCK.
 *	Wait	every object that can be waited for has a descriptor for poll(2); it belongs to the object.
 *	Close	every *_close() accepts NULL, frees the object, and returns NULL. What an object was made from must
 *		be closed after it. Closing does not wait for a broker that is not there.
 *	Threads	calls on different objects may be made from different threads at any time, also when the objects
 *		belong to the same struct vmci. What holds for one object is said at each group. Where any number of
 *		threads may use it, a call that waits may be under way when another thread closes it: it returns
 *		VMCI_ERROR_NO_HANDLE, and the closer waits until it has. A call that begins after the close uses freed
 *		memory, as ever.
 *	Signals	no call is ended by a signal. The library makes no signal and never raises SIGPIPE; a broker that it
 *		starts is nobody's child, without SIGCHLD. It has one thread of its own for each struct vmci, with all
 *		signals blocked.
 *	fork	a child does not inherit the membership: all calls but *_close() return VMCI_ERROR_UNAVAILABLE there.
 *		It may open its own. Others see the parent end when the parent ends, whatever becomes of the child.
 *	Broker	memberships survive the end of the broker (vmcid) and find the next one by themselves. What needs the
 *		broker waits for it, 5 s at most, and returns VMCI_ERROR_UNAVAILABLE then; queue pairs, shared memory,
 *		doorbells that are open and datagrams that have arrived need none.
 *
 * The wire and the meaning of contexts, handles and codes: <vmci/defs.h>.
 */
#ifndef VMCI_VMCI_H
#define VMCI_VMCI_H

#include <stddef.h>
#include <stdint.h>

#include <vmci/defs.h>

#ifdef __cplusplus
extern "C" {
#endif

#ifndef VMCI_API
#define VMCI_API __attribute__((visibility("default")))
#endif

/* --- Contexts ----------------------------------------------------------------------------------------------- */

struct vmci;

/* vmci_open(): no broker is started where none runs. */
#define VMCI_OPEN_NO_START 0x1u

/**
 * vmci_open() - join a context
 * @path:  the broker's runtime directory, or NULL: $VMCI_RUNTIME_DIR, else /run/vmci if a broker listens there, else
 *	   the user's own ($XDG_RUNTIME_DIR/vmci, /run/user/UID/vmci or /tmp/vmci-UID), where a broker is started when
 *	   none runs ($VMCI_VMCID names its program)
 * @cid:   VMCI_CID_HOST; VMCI_INVALID_ID for a new context of the program's own; or the number, 16 or more, of such a
 *	   context: it is made, or joined if the same user has made it
 * @flags: VMCI_OPEN_*
 *
 * In a guest with a VMCI device, and without a broker, the membership is that of the guest's own context (@cid must be
 * VMCI_CID_HOST or VMCI_INVALID_ID). With our driver (/dev/vmci, vmci(4)) it has all but rights and
 * vmci_events_watch(); with the in-box one datagrams, names and shared memory. The rest returns VMCI_ERROR_UNAVAILABLE.
 *
 * Blocks for some 5 s at most. Return: 0; VMCI_ERROR_DEVICE_NOT_FOUND: no broker, and none could be started
 * (vmci_errmsg() names the paths tried); VMCI_ERROR_NO_ACCESS: not this user, or the context is somebody else's, or
 * others can write to the user's own directory; VMCI_ERROR_NO_RESOURCES: quota; VMCI_ERROR_UNAVAILABLE: the broker
 * does not answer, or speaks another version of the protocol; VMCI_ERROR_INVALID_ARGS; VMCI_ERROR_NO_MEM
 */
VMCI_API int vmci_open(const char *path, uint32_t cid, uint32_t flags, struct vmci **ret_vmci);

/* vmci_close() - leave the context. Objects made from it must be closed before, and no call may be under way. */
VMCI_API struct vmci *vmci_close(struct vmci *vmci);

/* vmci_cid() - the context's id. Any thread. */
VMCI_API uint32_t vmci_cid(const struct vmci *vmci);

/* vmci_strerror() - a code in words: "no resources". Never NULL, static. */
VMCI_API const char *vmci_strerror(int code);

/* vmci_strerrorname() - a code by its name: "VMCI_ERROR_NO_RESOURCES"; NULL if there is none. Static. */
VMCI_API const char *vmci_strerrorname(int code);

/* vmci_errmsg() - one line about this thread's last failed call: what and where. Valid until its next one. */
VMCI_API const char *vmci_errmsg(void);

/* vmci_version() - version of the library: major << 16 | minor << 8 | patch */
VMCI_API uint32_t vmci_version(void);

/* --- Datagrams ------------------------------------------------------------------------------------------------ */

/*
 * Datagrams are delivered whole or not at all, in order from each sender, unreliably: VMCI SDK reference, 3.
 * Any number of threads may send and receive at the same endpoint.
 */
struct vmci_dgram;

/**
 * vmci_dgram_open() - make an endpoint
 * @rid: VMCI_INVALID_ID to have one chosen (>= 1024), or the wished resource id; below 1024 only for trusted users
 *
 * Return: 0; VMCI_ERROR_ALREADY_EXISTS: the id is taken; VMCI_ERROR_NO_ACCESS; VMCI_ERROR_NO_RESOURCES: quota
 */
VMCI_API int vmci_dgram_open(struct vmci *vmci, uint32_t rid, struct vmci_dgram **ret_dgram);

/*
 * vmci_dgram_close() - destroy the endpoint and what is queued; blocked receivers return VMCI_ERROR_NO_HANDLE first.
 */
VMCI_API struct vmci_dgram *vmci_dgram_close(struct vmci_dgram *dgram);

/* vmci_dgram_handle() - its address */
VMCI_API struct vmci_handle vmci_dgram_handle(const struct vmci_dgram *dgram);

/* vmci_dgram_fd() - readable while datagrams wait */
VMCI_API int vmci_dgram_fd(const struct vmci_dgram *dgram);

/**
 * vmci_dgram_send() - send @size bytes, 0..VMCI_DG_MAX_PAYLOAD, to @dst
 *
 * Waits for the broker's word only, never for the receiver.
 * Return: @size; VMCI_ERROR_NO_RESOURCES: the receiver's queue (139264 bytes) is full; VMCI_ERROR_DST_UNREACHABLE: no
 * such context; VMCI_ERROR_INVALID_RESOURCE: no such endpoint in it (a guest is silent about that);
 * VMCI_ERROR_NO_ACCESS; VMCI_ERROR_INVALID_ARGS: too large; VMCI_ERROR_DATAGRAM_FAILED: the broker went away, it may
 * have been delivered or not
 */
VMCI_API int vmci_dgram_send(struct vmci_dgram *dgram, struct vmci_handle dst, const void *data, size_t size);

/**
 * vmci_dgram_recv() - take the oldest datagram
 * @ret_src: its sender, or NULL
 *
 * Return: bytes of payload, 0 or more; VMCI_ERROR_NO_MEM: @size is too small, and the datagram stays (first) in the
 * queue; VMCI_ERROR_TIMEOUT, VMCI_ERROR_WOULD_BLOCK; VMCI_ERROR_NO_HANDLE: closed meanwhile, or refused by a new
 * broker
 */
VMCI_API int vmci_dgram_recv(struct vmci_dgram *dgram, void *buf, size_t size, int timeout_ms,
			     struct vmci_handle *ret_src);

/* --- Queue pairs ------------------------------------------------------------------------------------------------ */

/*
 * Two byte rings in memory that both ends share, one for each direction. One end creates, the other attaches; when
 * either leaves or dies, the other can still read what was written, and then gets VMCI_ERROR_QUEUEPAIR_NOTATTACHED.
 * For each end: one thread at a time may use the functions of the produce direction, and one those of the consume
 * direction; these two may run at the same time.
 */
struct vmci_qpair;

/* Only with a trusted peer: VMCI reference, 5. Otherwise VMCI_QP_* of <vmci/defs.h>. */
#define VMCI_QPAIR_TRUSTED 0x100u

/*
 * With a guest: its own pages, mapped, instead of memory that its device copies from and to. Only for trusted programs,
 * which can reach all of that guest's memory by this: VMCI_ERROR_NO_ACCESS. It is done or it fails, never a copy
 * instead; what it takes, and what is different at the end: vmci_qpair_create(3). Between programs nothing is copied
 * anyway: allowed when attaching, and without effect.
 */
#define VMCI_QPAIR_DIRECT 0x200u

/**
 * vmci_qpair_create() - make a queue pair
 * @rid:     VMCI_INVALID_ID to have a resource id chosen
 * @peer:    context that may attach, VMCI_INVALID_ID for any
 * @produce, @consume: bytes of the ring that this end writes, and that it reads; a ring holds one byte less. One may
 *                     be 0
 *
 * With VMCI_QPAIR_DIRECT, @peer is that of a VM, and the ring takes nothing before the guest has attached. If its pages
 * cannot be mapped then, the guest's attaching fails, and the state is VMCI_QPAIR_LEFT.
 * Return: 0; VMCI_ERROR_NO_RESOURCES: more than 128 MiB, or quota; VMCI_ERROR_ALREADY_EXISTS;
 * VMCI_ERROR_INVALID_ARGS; VMCI_ERROR_NO_ACCESS; VMCI_ERROR_DST_UNREACHABLE; VMCI_ERROR_NO_MEM
 */
VMCI_API int vmci_qpair_create(struct vmci *vmci, uint32_t rid, uint32_t peer, uint64_t produce, uint64_t consume,
			       uint32_t flags, struct vmci_qpair **ret_qpair);

/**
 * vmci_qpair_attach() - take the other end of a queue pair
 * @produce, @consume: as this end sees them, so the creator's the other way round
 *
 * Return: 0; VMCI_ERROR_NOT_FOUND; VMCI_ERROR_UNAVAILABLE: taken, or left; VMCI_ERROR_QUEUEPAIR_MISMATCH: sizes or
 * flags; VMCI_ERROR_NO_ACCESS; with VMCI_QPAIR_DIRECT also VMCI_ERROR_CANNOT_SHARE_PAGE: this guest's memory cannot be
 * mapped (it is not sealed, or in huge pages, or in too many pieces); VMCI_ERROR_NO_RESOURCES: this process has too
 * many pieces mapped; VMCI_ERROR_TIMEOUT
 */
VMCI_API int vmci_qpair_attach(struct vmci *vmci, struct vmci_handle handle, uint64_t produce, uint64_t consume,
			       uint32_t flags, struct vmci_qpair **ret_qpair);

/* vmci_qpair_close() - leave; the peer is told */
VMCI_API struct vmci_qpair *vmci_qpair_close(struct vmci_qpair *qpair);

VMCI_API struct vmci_handle vmci_qpair_handle(const struct vmci_qpair *qpair);

enum vmci_qpair_state {
	VMCI_QPAIR_WAITING,	/* created; nobody has attached yet */
	VMCI_QPAIR_ATTACHED,
	VMCI_QPAIR_LEFT,	/* the peer has left or died */
};

/**
 * vmci_qpair_state() - who is there now; looks without waiting
 * @ret_peer: the peer's context, or NULL. Where any may attach it is what the peer says of itself;
 *	      VMCI_EVENT_QP_PEER_ATTACH has the broker's word. VMCI_INVALID_ID: any, and nobody has attached
 */
VMCI_API enum vmci_qpair_state vmci_qpair_state(struct vmci_qpair *qpair, uint32_t *ret_peer);

/* What vmci_qpair_wait() and vmci_qpair_arm() wait for. */
#define VMCI_QPAIR_IN 0x1u	/* something to read */
#define VMCI_QPAIR_OUT 0x2u	/* room to write */
#define VMCI_QPAIR_PEER 0x4u	/* a change of vmci_qpair_state(): also reported unasked when the peer has left */

/**
 * vmci_qpair_wait() - wait until one of @events is there
 *
 * Looks for a while (vmci_qpair_set_spin()), then sleeps. Return: the events that are there (> 0);
 * VMCI_ERROR_TIMEOUT, VMCI_ERROR_WOULD_BLOCK; VMCI_ERROR_INVALID_SIZE: the peer has corrupted the ring
 */
VMCI_API int vmci_qpair_wait(struct vmci_qpair *qpair, unsigned events, int timeout_ms);

/**
 * vmci_qpair_fd(), vmci_qpair_arm() - to wait in a loop of one's own
 *
 * Poll the descriptor for POLLIN, after vmci_qpair_arm() has returned 0: it asks the peer to wake us for @events, and
 * returns those that are there already instead of 0. To be called again before each poll(2).
 */
VMCI_API int vmci_qpair_fd(struct vmci_qpair *qpair);
VMCI_API int vmci_qpair_arm(struct vmci_qpair *qpair, unsigned events);

/* vmci_qpair_set_spin() - look that long (microseconds) before sleeping; default 50, 0: sleep at once */
VMCI_API void vmci_qpair_set_spin(struct vmci_qpair *qpair, unsigned usec);

/**
 * vmci_qpair_write() - write between 1 and @size bytes, as many as there is room for
 *
 * Return: bytes written; VMCI_ERROR_TIMEOUT, VMCI_ERROR_WOULD_BLOCK: no room; VMCI_ERROR_QUEUEPAIR_NOTATTACHED: the
 * peer has left; VMCI_ERROR_INVALID_SIZE: the peer has corrupted the ring. Before somebody has attached, the ring
 * takes what fits.
 */
VMCI_API int64_t vmci_qpair_write(struct vmci_qpair *qpair, const void *buf, size_t size, int timeout_ms);

/**
 * vmci_qpair_read() - read between 1 and @size bytes, as many as are there
 *
 * Return: bytes read; VMCI_ERROR_TIMEOUT, VMCI_ERROR_WOULD_BLOCK: nothing there; VMCI_ERROR_QUEUEPAIR_NOTATTACHED:
 * the peer has left, and everything is read; VMCI_ERROR_INVALID_SIZE
 */
VMCI_API int64_t vmci_qpair_read(struct vmci_qpair *qpair, void *buf, size_t size, int timeout_ms);

/* vmci_qpair_peek() - like vmci_qpair_read(), but the bytes stay */
VMCI_API int64_t vmci_qpair_peek(struct vmci_qpair *qpair, void *buf, size_t size, int timeout_ms);

/**
 * vmci_qpair_reserve(), vmci_qpair_commit() - write without a copy
 * @ret_room: contiguous bytes at the returned place, 1 or more
 *
 * Return: where to write, or NULL when there is no room now. Then commit as many bytes as were written, 0..*ret_room;
 * the peer sees them from then on.
 */
VMCI_API void *vmci_qpair_reserve(struct vmci_qpair *qpair, size_t *ret_room);
VMCI_API int vmci_qpair_commit(struct vmci_qpair *qpair, size_t size);

/**
 * vmci_qpair_acquire(), vmci_qpair_release() - read without a copy
 * @ret_size: contiguous bytes at the returned place, 1 or more
 *
 * The peer can change them while they are looked at: copy what decides anything. Of a direct pair they are the guest's
 * only if the release is no error; after VMCI_ERROR_QUEUEPAIR_NOTATTACHED acquire what is left once more. Return: the oldest bytes, or NULL
 * when there are none now. Then release those that were used, 0..*ret_size.
 */
VMCI_API const void *vmci_qpair_acquire(struct vmci_qpair *qpair, size_t *ret_size);
VMCI_API int vmci_qpair_release(struct vmci_qpair *qpair, size_t size);

/*
 * vmci_qpair_ready(), vmci_qpair_room() - bytes that can be read, written now; or VMCI_ERROR_INVALID_SIZE. Never
 * wait.
 */
VMCI_API int64_t vmci_qpair_ready(struct vmci_qpair *qpair);
VMCI_API int64_t vmci_qpair_room(struct vmci_qpair *qpair);

/* --- Doorbells ------------------------------------------------------------------------------------------------ */

/* Any number of threads. */
struct vmci_doorbell;	/* one's own */
struct vmci_ringer;	/* somebody's doorbell, to be rung */

/* vmci_doorbell_open() - make a doorbell; @rid as in vmci_dgram_open() */
VMCI_API int vmci_doorbell_open(struct vmci *vmci, uint32_t rid, struct vmci_doorbell **ret_doorbell);
VMCI_API struct vmci_doorbell *vmci_doorbell_close(struct vmci_doorbell *doorbell);
VMCI_API struct vmci_handle vmci_doorbell_handle(const struct vmci_doorbell *doorbell);

/* vmci_doorbell_fd() - readable when it was rung (an eventfd) */
VMCI_API int vmci_doorbell_fd(const struct vmci_doorbell *doorbell);

/*
 * vmci_doorbell_wait() - Return: how often it was rung since the last call, 1 or more; VMCI_ERROR_TIMEOUT,
 * _WOULD_BLOCK. In a guest, rings that come together count as one
 */
VMCI_API int64_t vmci_doorbell_wait(struct vmci_doorbell *doorbell, int timeout_ms);

/**
 * vmci_ringer_open() - get ready to ring the doorbell @handle
 *
 * Return: 0; VMCI_ERROR_NOT_FOUND; VMCI_ERROR_DST_UNREACHABLE; VMCI_ERROR_NO_ACCESS. In a guest it is
 * vmci_ringer_ring() that says so
 */
VMCI_API int vmci_ringer_open(struct vmci *vmci, struct vmci_handle handle, struct vmci_ringer **ret_ringer);
VMCI_API struct vmci_ringer *vmci_ringer_close(struct vmci_ringer *ringer);

/*
 * vmci_ringer_ring() - ring it: no broker, no waiting. Everything written before is seen by who hears it. Return: 0
 */
VMCI_API int vmci_ringer_ring(struct vmci_ringer *ringer);

/* --- Events ----------------------------------------------------------------------------------------------------- */

/**
 * struct vmci_event - what became of a context or a queue pair
 * @id:      VMCI_EVENT_CTX_REMOVED, VMCI_EVENT_QP_PEER_ATTACH, VMCI_EVENT_QP_PEER_DETACH
 * @context: the context that has gone; the peer that came or left
 * @handle:  of the queue pair
 */
struct vmci_event {
	uint32_t id;
	uint32_t context;
	struct vmci_handle handle;
};

/* Any number of threads. */
struct vmci_events;

/*
 * vmci_events_open() - from now on, queue: what concerns the queue pairs of @vmci, and contexts that are watched
 *
 * One for each membership: VMCI_ERROR_ALREADY_EXISTS.
 */
VMCI_API int vmci_events_open(struct vmci *vmci, struct vmci_events **ret_events);
VMCI_API struct vmci_events *vmci_events_close(struct vmci_events *events);
VMCI_API int vmci_events_fd(const struct vmci_events *events);

/* vmci_events_wait() - Return: 0; VMCI_ERROR_TIMEOUT, VMCI_ERROR_WOULD_BLOCK */
VMCI_API int vmci_events_wait(struct vmci_events *events, int timeout_ms, struct vmci_event *ret_event);

/*
 * vmci_events_watch(), vmci_events_unwatch() - tell when context @cid goes away, each time; it need not exist yet
 *
 * What goes while there is no broker is told a second after the next one has come, and so is what is watched and has never
 * been there. Return: 0; VMCI_ERROR_ALREADY_EXISTS, VMCI_ERROR_NOT_FOUND: it
 * is, is not watched; VMCI_ERROR_INVALID_ARGS: a reserved id; VMCI_ERROR_NO_ACCESS; VMCI_ERROR_NO_RESOURCES
 */
VMCI_API int vmci_events_watch(struct vmci_events *events, uint32_t cid);
VMCI_API int vmci_events_unwatch(struct vmci_events *events, uint32_t cid);

/* --- Shared memory -------------------------------------------------------------------------------------------- */

/*
 * Any number of threads; what is in it is the program's business.
 *
 * Guests reach regions that lie in the window of their VM, and make them there; a VM may have none
 * (VMCI_ERROR_UNAVAILABLE), and with the in-box driver it takes root to map it (VMCI_ERROR_NO_ACCESS). Whoever reaches one region in a window sees
 * all of it. Regions of programs lie in one if vmcid.conf(5) says so. What a guest's program that dies does not
 * detach is kept, with the in-box driver, until the guest starts anew, or another program there needs the room.
 */
struct vmci_shm;

/*
 * vmci_shm_create() - make a region of @size bytes (1..1 GiB, else VMCI_ERROR_INVALID_SIZE), all zero, mapped here
 *
 * In a window: at most its size (VMCI_ERROR_INVALID_SIZE), or half of it, with the others of this context, if several
 * VMs have it (VMCI_ERROR_NO_RESOURCES).
 */
VMCI_API int vmci_shm_create(struct vmci *vmci, uint32_t rid, uint64_t size, struct vmci_shm **ret_shm);

/* vmci_shm_query() - the size of a region; needs no attachment. VMCI_ERROR_NOT_FOUND, VMCI_ERROR_NO_ACCESS */
VMCI_API int vmci_shm_query(struct vmci *vmci, struct vmci_handle handle, uint64_t *ret_size);

/*
 * vmci_shm_attach() - map a region. VMCI_ERROR_ALREADY_EXISTS: this membership is attached already;
 * VMCI_ERROR_NOT_FOUND, VMCI_ERROR_NO_ACCESS; VMCI_ERROR_UNAVAILABLE: its memory is not what it should be, or in a
 * guest, it is not in its window
 */
VMCI_API int vmci_shm_attach(struct vmci *vmci, struct vmci_handle handle, struct vmci_shm **ret_shm);

/*
 * vmci_shm_detach() - unmap. Return: VMCI_SUCCESS; VMCI_SUCCESS_LAST_DETACH: nobody was left, and the region is gone
 */
VMCI_API int vmci_shm_detach(struct vmci_shm *shm);

VMCI_API struct vmci_handle vmci_shm_handle(const struct vmci_shm *shm);
VMCI_API void *vmci_shm_address(const struct vmci_shm *shm);
VMCI_API uint64_t vmci_shm_size(const struct vmci_shm *shm);

/* --- Names: the discovery service ------------------------------------------------------------------------------- */

/* Any number of threads. Names are 1..255 bytes, compared exactly; those that begin with "vmci " are reserved. */

/*
 * vmci_name_register() - VMCI_ERROR_ALREADY_EXISTS, VMCI_ERROR_INVALID_ARGS, VMCI_ERROR_NO_ACCESS,
 * VMCI_ERROR_NO_RESOURCES
 */
VMCI_API int vmci_name_register(struct vmci *vmci, const char *name, struct vmci_handle handle);

/* vmci_name_unregister() - VMCI_ERROR_NOT_FOUND; VMCI_ERROR_NO_ACCESS: another context's */
VMCI_API int vmci_name_unregister(struct vmci *vmci, const char *name);

/* vmci_name_lookup() - VMCI_ERROR_NOT_FOUND when @timeout_ms is over and nobody has registered it */
VMCI_API int vmci_name_lookup(struct vmci *vmci, const char *name, int timeout_ms, struct vmci_handle *ret_handle);

/* --- Rights --------------------------------------------------------------------------------------------------- */

/*
 * A resource whose owner never granted anything is open to all whom the domain rules let near it. From the first
 * vmci_grant() on, a client (the context {cid, 0}, or a group) needs the privilege: VMCI SDK reference, 5 and 10.2.
 * Masks: bit n is privilege n of VMCI_PRIV_*. Any number of threads.
 */
VMCI_API int vmci_grant(struct vmci *vmci, struct vmci_handle resource, struct vmci_handle client, uint32_t allow,
			uint32_t deny);
VMCI_API int vmci_revoke(struct vmci *vmci, struct vmci_handle resource, struct vmci_handle client,
			 uint32_t privileges);
VMCI_API int vmci_revoke_all(struct vmci *vmci, struct vmci_handle resource, struct vmci_handle client);

/* vmci_check() - Return: VMCI_SUCCESS_ACCESS_GRANTED, or VMCI_ERROR_NO_ACCESS, VMCI_ERROR_INVALID_PRIV */
VMCI_API int vmci_check(struct vmci *vmci, struct vmci_handle resource, struct vmci_handle client, uint32_t privilege);

VMCI_API int vmci_group_create(struct vmci *vmci, struct vmci_handle *ret_group);
VMCI_API int vmci_group_destroy(struct vmci *vmci, struct vmci_handle group);
VMCI_API int vmci_group_add(struct vmci *vmci, struct vmci_handle group, struct vmci_handle member, int may_assign);
VMCI_API int vmci_group_remove(struct vmci *vmci, struct vmci_handle group, struct vmci_handle member);

/* vmci_group_is_member() - Return: 1, 0, or an error */
VMCI_API int vmci_group_is_member(struct vmci *vmci, struct vmci_handle group, struct vmci_handle member);

#ifdef __cplusplus
}
#endif

#endif /* VMCI_VMCI_H */
