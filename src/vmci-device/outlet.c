/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * DOC: Theory of operation
 *
 *	guest -> others		vmcid is asked while the guest's CPU waits (STREAM_OPEN). Its reply is a connected socket, and
 *				the stream runs; or the other side is a guest, too (PENDING), and the first byte over the
 *				socket says that it accepts: until then the end waits, and the stream is not accepted
 *	others -> guest		vmcid asks (STREAM_CONNECT), with a socket at whose other end somebody has been connected.
 *				A *visitor* is who has not been answered yet:
 *
 *					a program	waits for vmcid's reply, and so do we for the guest's: the answer is
 *							given when the guest has accepted, or not
 *					a device	sees what comes over the socket; vmcid is answered at once
 *
 *			Questions come at any time, also while the streams are at work, which must not be called then. So
 *			visitors queue up, and are let in by outlet_run().
 *
 * When vmcid ends before it was answered, a program does not hear that it is connected: it is not, then.
 */
#include "outlet.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>

#include "base/closer.h"
#include "base/fd.h"
#include "base/log.h"
#include "fabric/stream.h"

/**
 * struct visitor - who connects to the guest
 * @link:       in @queue or @visitors of the outlet
 * @outlet:     NULL: it has gone
 * @end:        NULL: it stands in the queue, with @fd
 * @from, @port, @ms, @serial: of the question
 * @is_pending: a device; it has been answered
 * @is_over:    answered, or not to be answered any more
 */
struct visitor {
	TAILQ_ENTRY(visitor) link;
	struct outlet *outlet;
	struct end *end;
	int fd;
	struct vmci_handle from;
	uint32_t port;
	uint64_t ms;
	uint32_t serial;
	bool is_pending;
	bool is_over;
};

struct outlet {
	struct ends *ends;
	struct streams *streams;
	struct outlet_ports ports;
	uint32_t cid;
	TAILQ_HEAD(, visitor) queue;
	TAILQ_HEAD(, visitor) visitors;
};

static void answer(struct visitor *visitor, int32_t status)
{
	if (!visitor->is_over && visitor->outlet)
		visitor->outlet->ports.answer(visitor->outlet->ports.ctx, visitor->serial, status);
	visitor->is_over = true;
}

static int32_t code_of(int error)
{
	switch (error) {
	case -ECONNRESET:
		return VMCI_ERROR_NOT_FOUND;
	case -ETIMEDOUT:
		return VMCI_ERROR_TIMEOUT;
	case -EHOSTUNREACH:
	case -EHOSTDOWN:
		return VMCI_ERROR_DST_UNREACHABLE;
	case -EADDRINUSE:
		return VMCI_ERROR_ALREADY_EXISTS;
	case -ENOBUFS:
		return VMCI_ERROR_NO_RESOURCES;
	case -ENOMEM:
		return VMCI_ERROR_NO_MEM;
	default:
		return VMCI_ERROR_GENERIC;
	}
}

/* --- Others to the guest ------------------------------------------------------------------------------------------ */

static void on_connected(struct end *end, void *ctx)
{
	static const uint8_t hello[FAB_STREAM_HELLO] = { 1 };
	struct visitor *visitor = ctx;

	/* The socket's buffer is empty; if this fails the other side is gone, and the stream will notice. */
	if (visitor->is_pending)
		(void)!send(end_fd(end), hello, sizeof(hello), MSG_DONTWAIT | MSG_NOSIGNAL);
	else if (visitor->is_over || !visitor->outlet)
		shutdown(end_fd(end), SHUT_RDWR);
	else
		answer(visitor, 0);
}

static void on_failed(struct end *end, void *ctx, int error)
{
	(void)end;
	answer(ctx, code_of(error));
}

static void on_gone(struct end *end, void *ctx)
{
	struct visitor *visitor = ctx;

	(void)end;
	/* It left before the guest had said anything. */
	answer(visitor, VMCI_ERROR_NOT_FOUND);
	if (visitor->outlet)
		TAILQ_REMOVE(&visitor->outlet->visitors, visitor, link);
	free(visitor);
}

static const struct end_maker visitor_maker = {
	.connected = on_connected,
	.failed = on_failed,
	.gone = on_gone,
};

/* Return: 0, and @visitor is an end's; or a negative errno, and it is nobody's */
static int let_in(struct outlet *outlet, struct visitor *visitor)
{
	struct end *end;
	int r;

	if (!outlet->streams)
		return -EHOSTDOWN;
	if (visitor->from.context == outlet->cid || ends_are_full(outlet->ends))
		return -ENOBUFS;
	r = end_new(outlet->ends, fd_take(&visitor->fd), &visitor_maker, visitor, &end);
	if (r)
		return r;
	r = end_connect(end, outlet->streams, visitor->port, visitor->from.context, visitor->from.resource,
			visitor->ms * 1000000);
	if (r) {
		/* So that end_free() leaves it alone. */
		end_forget(end);
		end_free(end);
		return r;
	}
	visitor->end = end;
	TAILQ_INSERT_TAIL(&outlet->visitors, visitor, link);
	if (visitor->is_pending) {
		answer(visitor, 0);
		visitor->is_over = true;
	}
	return 0;
}

static void turn_away(struct visitor *visitor, int error)
{
	answer(visitor, code_of(error));
	closer_close(&visitor->fd);
	free(visitor);
}

void outlet_run(struct outlet *outlet)
{
	struct visitor *visitor;
	int r;

	while ((visitor = TAILQ_FIRST(&outlet->queue))) {
		TAILQ_REMOVE(&outlet->queue, visitor, link);
		r = let_in(outlet, visitor);
		if (r)
			turn_away(visitor, r);
	}
}

void outlet_asked(struct outlet *outlet, struct fab_msg *question)
{
	struct visitor *visitor = outlet->streams ? calloc(1, sizeof(*visitor)) : NULL;

	if (!visitor) {
		outlet->ports.answer(outlet->ports.ctx, question->serial,
				     outlet->streams ? VMCI_ERROR_NO_MEM : VMCI_ERROR_DST_UNREACHABLE);
		return;
	}
	*visitor = (struct visitor){
		.outlet = outlet,
		.fd = fd_take(&question->fd[0]),
		.from = question->handle,
		.port = question->other.resource,
		.ms = question->size0,
		.serial = question->serial,
		.is_pending = question->flags & FAB_F_PENDING,
	};
	if (!visitor->ms || visitor->ms > FAB_CONNECT_MAX_MS)
		visitor->ms = FAB_CONNECT_DEFAULT_MS;
	TAILQ_INSERT_TAIL(&outlet->queue, visitor, link);
}

/* Nobody in the queue is let in any more. */
static void empty_queue(struct outlet *outlet, bool is_lost)
{
	struct visitor *visitor;

	while ((visitor = TAILQ_FIRST(&outlet->queue))) {
		TAILQ_REMOVE(&outlet->queue, visitor, link);
		visitor->is_over = is_lost;
		turn_away(visitor, -EHOSTDOWN);
	}
}

void outlet_lost(struct outlet *outlet)
{
	struct visitor *visitor;

	empty_queue(outlet, true);
	TAILQ_FOREACH(visitor, &outlet->visitors, link) {
		if (visitor->is_over)
			continue;
		visitor->is_over = true;
		/* Seen by the end itself, when its turn comes. */
		shutdown(end_fd(visitor->end), SHUT_RDWR);
	}
}

/* --- The guest to others --------------------------------------------------------------------------------------------- */

/* The other guest accepts, or it does not. */
static void on_ready(struct end *end, void *ctx)
{
	struct stream *s = end_stream(end);
	uint8_t hello[FAB_STREAM_HELLO];
	struct iovec iov = { .iov_base = hello, .iov_len = sizeof(hello) };
	ssize_t n = end_receive(end, &iov, 1);

	(void)ctx;
	if (n == -EAGAIN || n == -EINTR)
		return;
	if (n > 0) {
		end_run(end);
		stream_accept(s);
		return;
	}
	stream_refuse(s);
	end_free(end);
}

static const struct end_maker pending_maker = {
	.ready = on_ready,
};

static int error_of(int32_t status)
{
	switch (status) {
	case VMCI_ERROR_NOT_FOUND:
		return -ENOENT;
	case VMCI_ERROR_DST_UNREACHABLE:
		return -EHOSTUNREACH;
	case VMCI_ERROR_NO_ACCESS:
		return -EPERM;
	default:
		return -ECONNREFUSED;
	}
}

int outlet_open(struct outlet *outlet, struct stream *s, uint32_t local_cid, uint32_t local_port, uint32_t peer_port,
		void **ret_end)
{
	struct fab_msg request = {
		.type = FAB_STREAM_OPEN,
		.handle = handle_make(outlet->cid, peer_port),
		.other = handle_make(local_cid, local_port),
	}, reply;
	struct end *end;
	int r;

	if (ends_are_full(outlet->ends))
		return -ENOBUFS;
	r = outlet->ports.ask(outlet->ports.ctx, &request, &reply);
	if (r)
		return -EHOSTDOWN;
	if (reply.status < 0)
		return error_of(reply.status);
	r = end_new(outlet->ends, fd_take(&reply.fd[0]), reply.flags & FAB_F_PENDING ? &pending_maker : NULL, NULL, &end);
	if (r)
		return r;
	end_attach(end, s);
	*ret_end = end;
	if (reply.flags & FAB_F_PENDING)
		return -EINPROGRESS;
	end_run(end);
	return 0;
}

/* --- All of it ---------------------------------------------------------------------------------------------------------- */

void outlet_set_streams(struct outlet *outlet, struct streams *streams)
{
	outlet->streams = streams;
	if (!streams)
		empty_queue(outlet, false);
}

int outlet_new(uint32_t cid, struct ends *ends, const struct outlet_ports *ports, struct outlet **ret_outlet)
{
	struct outlet *outlet = calloc(1, sizeof(*outlet));

	if (!outlet)
		return -ENOMEM;
	*outlet = (struct outlet){ .cid = cid, .ends = ends, .ports = *ports };
	TAILQ_INIT(&outlet->queue);
	TAILQ_INIT(&outlet->visitors);
	*ret_outlet = outlet;
	return 0;
}

struct outlet *outlet_free(struct outlet *outlet)
{
	struct visitor *visitor;

	if (!outlet)
		return NULL;
	empty_queue(outlet, true);
	while ((visitor = TAILQ_FIRST(&outlet->visitors))) {
		TAILQ_REMOVE(&outlet->visitors, visitor, link);
		visitor->outlet = NULL;
	}
	free(outlet);
	return NULL;
}
