/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Ends of streams on the side of programs: connected UNIX sockets. Who makes an end (hybrid.c, outlet.c) says what it
 * is about until bytes flow; then the stream drives it. Theory: end.c
 */
#ifndef VMCI_DEVICE_END_H
#define VMCI_DEVICE_END_H

#include <sys/uio.h>
#include <systemd/sd-event.h>

#include "proto/stream.h"

struct ends;	/* all of the process */
struct end;

/* The operations to be put into stream_ports.end. */
extern const struct stream_end_ops end_ops;

/**
 * struct end_maker - what an end asks of who has made it; each may be NULL, if it cannot come
 *
 * @ctx is what end_new() was given. end_free() may be called from here, but for connected().
 */
struct end_maker {
	/* There is something to read, or the other side has gone, while the end waits: before end_connect(). */
	void (*ready)(struct end *end, void *ctx);

	/* The time that end_wait() set is over; the end still waits. */
	void (*expired)(struct end *end, void *ctx);

	/* The guest has accepted. The stream runs when this returns. */
	void (*connected)(struct end *end, void *ctx);

	/* The guest has not, for the reason of stream_end_ops.failed. The end is freed when this returns. */
	void (*failed)(struct end *end, void *ctx, int error);

	/* The end goes, whatever became of it: @ctx is not used any more. */
	void (*gone)(struct end *end, void *ctx);
};

/* ends_new() - none yet. Return: 0 or -ENOMEM */
int ends_new(sd_event *event, struct ends **ret_ends);

/* ends_free() - drop all; no stream may be left. NULL is fine. Returns NULL. */
struct ends *ends_free(struct ends *ends);

/**
 * ends_stop() - drop those that have not reached a guest
 * @idle: called from the event loop (not from here) when the last one has gone; it may call ends_free()
 *
 * Return: are there any left, so that @idle will be called?
 */
bool ends_stop(struct ends *ends, void (*idle)(void *ctx), void *ctx);

/* ends_lingering() - bytes that guests wrote last and that programs have not read yet */
size_t ends_lingering(const struct ends *ends);

/* ends_are_full() - programs leave so much unread that there are to be no more ends */
bool ends_are_full(const struct ends *ends);

/**
 * end_new() - an end, which waits
 * @fd:    connected, taken over, also on failure; -1: it will come, see end_join()
 * @maker: stays the caller's; NULL: nobody wants to hear of it
 *
 * Return: 0; -ENOBUFS: too many; -ENOMEM; another negative errno
 */
int end_new(struct ends *ends, int fd, const struct end_maker *maker, void *ctx, struct end **ret_end);

/* end_join() - @fd, taken over, also on failure, is that of an end that had none. Return: 0 or a negative errno */
int end_join(struct end *end, int fd);

/* end_wait() - call maker->expired() after @usec. Return: 0 or a negative errno */
int end_wait(struct end *end, uint64_t usec);

/* end_free() - at once; its stream, if there is one, must have been told, or told us */
void end_free(struct end *end);

/* end_forget() - its maker does not want to hear of it any more */
void end_forget(struct end *end);

/*
 * end_leave_unread() - will what was not received be left unread when the end goes? The other side learns that then
 * (ECONNRESET, POLLERR). It is read first otherwise.
 */
void end_leave_unread(struct end *end, bool yes);

/* end_fd() - stays the end's. end_stream() - NULL: none */
int end_fd(const struct end *end);
struct stream *end_stream(const struct end *end);

/* end_receive() - like recvmsg(2), without waiting; -EPROTO: descriptors came, too, where none belong */
ssize_t end_receive(const struct end *end, struct iovec *iov, int n);

/* end_is_gone() - does the other side neither read nor write any more? */
bool end_is_gone(const struct end *end);

/**
 * end_connect() - ask the guest; see streams_connect()
 *
 * Return: 0: connected() or failed() of the maker will be called; or what streams_connect() says: the end still waits
 */
int end_connect(struct end *end, struct streams *streams, uint32_t peer_port, uint32_t local_cid, uint32_t local_port,
		uint64_t timeout_ns);

/* end_attach() - the end belongs to @s, for which stream_ports.open returns it, with -EINPROGRESS: it waits */
void end_attach(struct end *end, struct stream *s);

/* end_run() - bytes flow between the end and its stream from now on */
void end_run(struct end *end);

#endif /* VMCI_DEVICE_END_H */
