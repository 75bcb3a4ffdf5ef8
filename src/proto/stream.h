/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * AF_VSOCK streams over VMCI: our end of the transport towards one peer context. It shakes hands,
 * moves bytes between queue pairs and stream ends, keeps the notification rules, and ends
 * connections. Transport reference, 3 to 10.
 *
 * We stand for all other contexts: for the peer, our end of a stream is in the context that it connected to, or was
 * connected from.
 *
 * Pure: the peer, the queue pairs, the clock and the program's side ("stream ends") are ports. It
 * allocates one record for each stream (when it is opened), and the left-over bytes given to finish().
 * One thread. A port must not call back into this module, except where its comment says so.
 */
#ifndef PROTO_STREAM_H
#define PROTO_STREAM_H

#include <stdbool.h>
#include <sys/types.h>

#include "base/log.h"
#include "proto/handle.h"
#include "proto/qp.h"

struct streams;		/* all streams of one peer context */
struct stream;		/* one of them */

/**
 * struct stream_end_ops - what a stream asks of its end on the program's side
 *
 * @end is what open() returned or streams_connect() was given. An end has a life of its own: the stream's
 * last call is one of failed(), finish() and close(), and the end makes no call on the stream after it.
 */
struct stream_end_ops {
	/* Our connect() went through. The stream runs from now on. */
	void (*connected)(void *end);

	/* Our connect() failed: -ECONNRESET, -ETIMEDOUT, -EPROTO, -EINVAL, -ENOBUFS, -ENOMEM. Last call. */
	void (*failed)(void *end, int error);

	/*
	 * Bytes from the peer. Take some: the number taken (> 0); -EAGAIN: none now, stream_writable() will be
	 * called; -EFAULT: the memory was not there; any other negative errno: nobody will ever read.
	 */
	ssize_t (*send)(void *end, const struct mem_span *spans, int n);

	/*
	 * Bytes for the peer. Fill some: the number (> 0); 0: no more will come, but the program may still read;
	 * -EAGAIN: none now, stream_readable() will be called; -EFAULT: the memory was not there; -ESHUTDOWN: no more
	 * will come, and nobody reads; any other negative errno likewise. With @n = 0 it only asks whether the end
	 * is gone (-ESHUTDOWN) or not (-EAGAIN).
	 */
	ssize_t (*recv)(void *end, const struct mem_span *spans, int n);

	/* The peer will not send (VMCI_SHUTDOWN_SEND) or not receive (VMCI_SHUTDOWN_RECEIVE) any more. */
	void (*shutdown)(void *end, unsigned how);

	/*
	 * The peer is gone. @data (malloc'ed, the end's from now on; NULL if @len is 0) is what it wrote last: pass it
	 * on, then end. Last call.
	 */
	void (*finish)(void *end, void *data, size_t len);

	/* The stream was reset or refused: end at once. Last call. */
	void (*close)(void *end);
};

/**
 * struct stream_ports - what the streams ask of their surroundings
 */
struct stream_ports {
	void *ctx;

	/* Monotonic time in nanoseconds. */
	uint64_t (*now)(void *ctx);

	/* Send a control packet to the peer. Return: > 0, or VMCI_ERROR_* */
	int32_t (*send)(void *ctx, const uint8_t *dg, size_t size);

	/*
	 * The queue pairs, of which our end is context @local_cid's: see dev_qp_create_as(), dev_qp_attach_as() and
	 * their sisters, which have these signatures.
	 */
	int32_t (*qp_create)(void *ctx, uint32_t local_cid, uint64_t produce, uint64_t consume, void *owner,
			     struct vmci_handle *ret_handle);
	int32_t (*qp_attach)(void *ctx, struct vmci_handle handle, uint32_t local_cid, uint64_t produce,
			     uint64_t consume, void *owner);
	int32_t (*qp_map)(void *ctx, struct vmci_handle handle, struct qp *ret_qp);
	void (*qp_detach)(void *ctx, struct vmci_handle handle);

	/* Bytes of queue memory that the peer can still bring. NULL: no matter. */
	uint64_t (*qp_room)(void *ctx);

	/*
	 * The peer connects to port @local_port of context @local_cid. Return: 0 and the end; -EINPROGRESS and the end:
	 * stream_accept() or stream_refuse() will be called; -EHOSTUNREACH: there is no such context, as the result
	 * of the peer's packet says (transport reference, 2.2); -EPERM: it has no right, likewise (13); another
	 * negative errno: refused.
	 */
	int (*open)(void *ctx, struct stream *s, uint32_t local_cid, uint32_t local_port, uint32_t peer_port,
		    void **ret_end);

	/* The operations of ends that open() returns, and that are given to streams_connect(). */
	const struct stream_end_ops *end;

	/* A line for the log. */
	void (*log)(void *ctx, enum log_level level, const char *line);
};

/**
 * struct stream_config - policy
 * @peer_cid:    the peer's
 * @legacy:      speak only the legacy handshake (tests, and peers known to be old)
 * @ring_size:   ring size to propose, and to answer to proposals out of our limits
 * @spin_ns:     how long the owner of the event loop goes on calling streams_poll() after a ring ran empty,
 *               before the peer is asked to notify us, at the most; 0: at once
 * @log_level:   lines above this level are not made
 */
struct stream_config {
	uint32_t peer_cid;
	bool legacy;
	uint32_t ring_size;
	uint64_t spin_ns;
	enum log_level log_level;
};

/* streams_new() - no stream yet. Return: 0, -ENOMEM */
int streams_new(const struct stream_config *config, const struct stream_ports *ports, struct streams **ret_streams);

/* streams_free() - close all streams and free; NULL is fine. Returns NULL. */
struct streams *streams_free(struct streams *t);

/* streams_count() - streams in any state */
size_t streams_count(const struct streams *t);

/**
 * streams_packet() - a datagram from the peer for the control channel
 * @dg, @size: header included; the source context is authentic
 *
 * Return: @size; VMCI_ERROR_INVALID_ARGS, VMCI_ERROR_NO_ACCESS: it is not a control packet;
 * VMCI_ERROR_DST_UNREACHABLE, VMCI_ERROR_NO_ACCESS: see open()
 */
int32_t streams_packet(struct streams *t, const uint8_t *dg, size_t size);

/**
 * streams_connect() - connect to a port of the peer
 * @peer_port:  where to
 * @local_cid:  from which context
 * @local_port: and port, or VMCI_PORT_ANY
 * @timeout_ns: 0 for the default (LIMIT_CONNECT_NS); UINT64_MAX: none
 * @end:        gets connected() or failed(), later
 *
 * Return: 0; -EINVAL (@peer_port is none); -EADDRINUSE; -ENOBUFS (too many streams, or the peer's queue is full);
 * -ENOMEM; other errnos of a refusal by the peer's device. On failure no port was called with @end.
 */
int streams_connect(struct streams *t, uint32_t peer_port, uint32_t local_cid, uint32_t local_port,
		    uint64_t timeout_ns, void *end, struct stream **ret_stream);

/**
 * streams_run() - do what is to do: move bytes, notify, time out
 *
 * Each stream in turn moves a bounded number of bytes.
 * Return: is there more to do at once?
 */
bool streams_run(struct streams *t);

/**
 * streams_poll() - look at the rings of streams that were active a moment ago
 *
 * Return: should the owner call streams_run() and streams_poll() again without sleeping?
 */
bool streams_poll(struct streams *t);

/**
 * streams_rest() - for how long is there nothing to look at for streams_poll()?
 *
 * Streams whose bytes go one way are looked at from time to time only. Return: nanoseconds for which its owner may sleep
 * where it would otherwise call it again and again; it need not
 */
uint64_t streams_rest(const struct streams *t);

/* streams_deadline() - when streams_run() must be called at the latest; UINT64_MAX: never */
uint64_t streams_deadline(const struct streams *t);

/* streams_room() - the peer's queue, which was full, has room: the next streams_run() sends what is owed */
void streams_room(struct streams *t);

/* streams_memory_changed() - the VMM mapped or unmapped memory: try parked streams again. */
void streams_memory_changed(struct streams *t);

/*
 * streams_reset() - the peer was reset: all streams end as if it had closed them. Their queue pairs are detached,
 * those too that the port may not know any more.
 */
void streams_reset(struct streams *t);

/* --- One stream ----------------------------------------------------------------------- */

/* stream_local_cid(), stream_local_port(), stream_peer_port() - its address */
uint32_t stream_local_cid(const struct stream *s);
uint32_t stream_local_port(const struct stream *s);
uint32_t stream_peer_port(const struct stream *s);

/* stream_accept(), stream_refuse() - the answer to an open() that returned -EINPROGRESS */
void stream_accept(struct stream *s);
void stream_refuse(struct stream *s);

/* stream_readable(), stream_writable() - recv() or send() of the end may get on. May be called from open(). */
void stream_readable(struct stream *s);
void stream_writable(struct stream *s);

/*
 * stream_abort() - the end is gone, and with it whatever it had not handed over. No port of the end is called. What it
 * had handed over reaches the peer, if that reads on.
 */
void stream_abort(struct stream *s);

/*
 * stream_peer_gone() - the peer's end of the queue pair goes away (dev_ports.qp_gone): what it wrote is copied out
 * now, before its memory is gone. The stream ends.
 */
void stream_peer_gone(struct stream *s);

#endif /* PROTO_STREAM_H */
