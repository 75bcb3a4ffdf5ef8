/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * DOC: Theory of operation
 *
 *	guest -> others		vmcid is asked while the guest's CPU waits (STREAM_OPEN). Its reply is a connected socket,
 *				and the stream runs; or the other side is a guest, too (PENDING), and the first byte over
 *				the socket says that it accepts: until then the end waits, and the stream is not accepted
 *	others -> guest		vmcid asks (STREAM_CONNECT), with a socket to whose other end somebody is connected. A
 *				*visitor* is who has not been answered yet:
 *
 *					a program	waits for vmcid's reply, as we do for the guest's: the answer
 *							is given when the guest has accepted, or not
 *					a device	sees what comes over the socket; vmcid is answered at once
 *					a program that	sees only what it may do with its socket: it cannot write to it
 *					does not wait	until we have read the *stopper* that vmcid has put there for it;
 *							and if we never read it, the socket fails. vmcid is answered then,
 *							for it counts those that are under way
 *
 *			Questions come at any time, also while the streams are at work, which must not be called
 *			then. So visitors queue up, and are let in by outlet_run().
 *
 * When there is no vmcid, a guest that connects is postponed: the next one is asked, if it comes before the guest, or
 * the stream (LIMIT_PENDING_NS), gives up.
 *
 * When vmcid ends before it was answered, a program that waits does not hear that it is connected: it is not, then.
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
 * @stopper:    of a program that does not wait: bytes to be read when the guest has accepted; else 0
 * @is_pending: a device, and vmcid has been answered; or a program that does not wait
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
	uint64_t stopper;
	bool is_pending;
	bool is_over;
};

/**
 * struct postponed - a connect of the guest that waits for vmcid
 * @outlet: NULL: it does so no longer
 */
struct postponed {
	TAILQ_ENTRY(postponed) link;
	struct outlet *outlet;
	struct end *end;
};

/* struct stream_address - of a stream: where to, and from which port of the guest */
struct stream_address {
	uint32_t local_cid;
	uint32_t local_port;
	uint32_t peer_port;
};

/**
 * struct outlet - see above
 * @queue:     not let in yet
 * @is_joined: there is a vmcid that @postponed have not been tried with
 */
struct outlet {
	struct ends *ends;
	struct streams *streams;
	struct outlet_ports ports;
	uint32_t cid;
	TAILQ_HEAD(, visitor) queue;
	TAILQ_HEAD(, visitor) visitors;
	TAILQ_HEAD(, postponed) postponed;
	bool is_joined;
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

/* A program that does not wait is turned away: say why, before its socket fails. It does so in any case. */
static void say_why(const struct visitor *visitor, int fd, int32_t status)
{
	const uint8_t code = (uint8_t)-status;

	if (visitor->stopper)
		(void)!send(fd, &code, sizeof(code), MSG_OOB | MSG_DONTWAIT | MSG_NOSIGNAL);
}

/* Read the stopper, which is there, and no more. Return: false: the other side has gone, or done what it must not do */
static bool unstop(struct end *end, uint64_t bytes)
{
	uint8_t sink[4096];

	while (bytes) {
		struct iovec iov = { .iov_base = sink, .iov_len = bytes < sizeof(sink) ? bytes : sizeof(sink) };
		ssize_t n = end_receive(end, &iov, 1);

		if (n <= 0)
			return false;
		bytes -= (uint64_t)n;
	}
	end_leave_unread(end, false);
	return true;
}

static void on_connected(struct end *end, void *ctx)
{
	static const uint8_t hello[FAB_STREAM_HELLO] = { 1 };
	struct visitor *visitor = ctx;

	if (visitor->stopper) {
		if (!unstop(end, visitor->stopper))
			shutdown(end_fd(end), SHUT_RDWR);
		answer(visitor, 0);
		return;
	}
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
	say_why(ctx, end_fd(end), code_of(error));
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
	end_leave_unread(end, visitor->stopper);
	r = end_connect(end, outlet->streams, visitor->port, visitor->from.context, visitor->from.resource,
			visitor->ms * 1000000);
	if (r) {
		say_why(visitor, end_fd(end), code_of(r));
		/* So that end_free() leaves it alone. */
		end_forget(end);
		end_free(end);
		return r;
	}
	visitor->end = end;
	TAILQ_INSERT_TAIL(&outlet->visitors, visitor, link);
	if (visitor->is_pending && !visitor->stopper)
		answer(visitor, 0);
	return 0;
}

static void turn_away(struct visitor *visitor, int error)
{
	if (visitor->fd >= 0)
		say_why(visitor, visitor->fd, code_of(error));
	answer(visitor, code_of(error));
	closer_close(&visitor->fd);
	free(visitor);
}

static void run_queue(struct outlet *outlet)
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
		.stopper = question->size1,
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
		if (visitor->stopper)
			continue;
		/* Seen by the end itself, when its turn comes. */
		shutdown(end_fd(visitor->end), SHUT_RDWR);
	}
}

/* --- The guest to others ----------------------------------------------------------------------------------------- */

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

/* Ask vmcid for a socket that is connected to where @s wants to go. Return: 0, or as outlet_open() */
static int ask(struct outlet *outlet, const struct stream_address *address, int *ret_fd, bool *ret_is_pending)
{
	struct fab_msg request = {
		.type = FAB_STREAM_OPEN,
		.handle = handle_make(outlet->cid, address->peer_port),
		.other = handle_make(address->local_cid, address->local_port),
	}, reply;

	if (outlet->ports.ask(outlet->ports.ctx, &request, &reply))
		return -EHOSTDOWN;
	if (reply.status < 0)
		return error_of(reply.status);
	*ret_fd = fd_take(&reply.fd[0]);
	*ret_is_pending = reply.flags & FAB_F_PENDING;
	return 0;
}

int outlet_open(struct outlet *outlet, struct stream *s, uint32_t local_cid, uint32_t local_port, uint32_t peer_port,
		void **ret_end)
{
	const struct stream_address address = { local_cid, local_port, peer_port };
	struct end *end;
	bool is_pending;
	int fd, r;

	if (ends_are_full(outlet->ends))
		return -ENOBUFS;
	r = ask(outlet, &address, &fd, &is_pending);
	if (!r)
		r = end_new(outlet->ends, fd, is_pending ? &pending_maker : NULL, NULL, &end);
	if (r)
		return r;
	end_attach(end, s);
	*ret_end = end;
	if (is_pending)
		return -EINPROGRESS;
	end_run(end);
	return 0;
}

static void on_postponed_gone(struct end *end, void *ctx)
{
	struct postponed *postponed = ctx;

	(void)end;
	if (postponed->outlet)
		TAILQ_REMOVE(&postponed->outlet->postponed, postponed, link);
	free(postponed);
}

/* Until its socket is there; then it is as one that outlet_open() has made. */
static const struct end_maker postponed_maker = {
	.ready = on_ready,
	.gone = on_postponed_gone,
};

int outlet_postpone(struct outlet *outlet, struct stream *s, void **ret_end)
{
	struct postponed *postponed = calloc(1, sizeof(*postponed));
	int r;

	if (!postponed)
		return -ENOMEM;
	r = end_new(outlet->ends, -1, &postponed_maker, postponed, &postponed->end);
	if (r) {
		free(postponed);
		return r;
	}
	postponed->outlet = outlet;
	TAILQ_INSERT_TAIL(&outlet->postponed, postponed, link);
	end_attach(postponed->end, s);
	*ret_end = postponed->end;
	return -EINPROGRESS;
}

/* Return: -EHOSTDOWN: it waits on; else it has got on, or it has gone */
static int get_on(struct outlet *outlet, struct postponed *postponed)
{
	struct end *end = postponed->end;
	struct stream *s = end_stream(end);
	const struct stream_address address = {
		stream_local_cid(s), stream_local_port(s), stream_peer_port(s),
	};
	bool is_pending;
	int fd, r = ask(outlet, &address, &fd, &is_pending);

	if (r == -EHOSTDOWN)
		return r;
	TAILQ_REMOVE(&outlet->postponed, postponed, link);
	postponed->outlet = NULL;
	if (!r)
		r = end_join(end, fd);
	if (r) {
		stream_refuse(s);
		end_free(end);
	} else if (!is_pending) {
		end_run(end);
		stream_accept(s);
	}
	return 0;
}

void outlet_joined(struct outlet *outlet)
{
	outlet->is_joined = true;
}

static void run_postponed(struct outlet *outlet)
{
	struct postponed *postponed;

	if (!outlet->is_joined)
		return;
	outlet->is_joined = false;
	while ((postponed = TAILQ_FIRST(&outlet->postponed)))
		if (get_on(outlet, postponed))
			return;
}

void outlet_run(struct outlet *outlet)
{
	run_postponed(outlet);
	run_queue(outlet);
}

/* --- All of it --------------------------------------------------------------------------------------------------- */

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
	TAILQ_INIT(&outlet->postponed);
	*ret_outlet = outlet;
	return 0;
}

struct outlet *outlet_free(struct outlet *outlet)
{
	struct postponed *postponed;
	struct visitor *visitor;

	if (!outlet)
		return NULL;
	empty_queue(outlet, true);
	while ((visitor = TAILQ_FIRST(&outlet->visitors))) {
		TAILQ_REMOVE(&outlet->visitors, visitor, link);
		visitor->outlet = NULL;
	}
	/* Their streams time out. */
	while ((postponed = TAILQ_FIRST(&outlet->postponed))) {
		TAILQ_REMOVE(&outlet->postponed, postponed, link);
		postponed->outlet = NULL;
	}
	free(outlet);
	return NULL;
}
