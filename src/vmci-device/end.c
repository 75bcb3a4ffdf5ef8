/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * DOC: Theory of operation
 *
 * An *end* is one connected UNIX socket: a program's, or another device's. It outlives its stream by what the guest
 * wrote last:
 *
 *	WAITING		for something to be said over the socket, which is its maker's business
 *	CONNECTING	the guest was asked
 *	RUNNING		bytes flow; the stream drives the end
 *	DRAINING	the stream is over; @rest is written as fast as the program reads, then the end goes
 *
 * The socket is watched edge-triggered for both directions from the beginning, so a change of interest costs
 * no system call: the stream goes on until it sees -EAGAIN, and the next edge starts it again.
 *
 * How the kernel tells us of the program: recv() returns 0 for a half-close and for a close alike, POLLHUP is
 * there only for a close. send() fails with EPIPE for a close and for SHUT_RD.
 *
 * Programs may not send descriptors. Where the kernel does not refuse them, there must be room for them in each call
 * that takes bytes: the kernel would close them in there, and that may take long (closer.c). Who sends some is ended.
 */
#include "end.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>

#include "base/closer.h"
#include "base/log.h"
#include "proto/limits.h"

/* What an end is watched for, all its life. */
#define END_EVENTS (EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET)

enum end_state {
	END_WAITING,
	END_CONNECTING,
	END_RUNNING,
	END_DRAINING,
};

struct end {
	struct ends *ends;
	LIST_ENTRY(end) link;
	sd_event_source *io;
	sd_event_source *timer;
	const struct end_maker *maker;
	void *ctx;
	struct stream *s;
	uint8_t *rest;
	size_t rest_len;
	size_t rest_off;
	int fd;
	bool is_refusing;
	bool leaves_unread;
	enum end_state state;
};

struct ends {
	sd_event *event;
	LIST_HEAD(, end) list;
	void (*idle)(void *ctx);
	void *idle_ctx;
	size_t lingering;
	unsigned count;
};

static const struct end_maker nobody;

ssize_t end_receive(const struct end *end, struct iovec *iov, int n)
{
	struct msghdr msg = { .msg_iov = iov, .msg_iovlen = (size_t)n };
	ssize_t r = end->is_refusing ? recvmsg(end->fd, &msg, MSG_DONTWAIT) : closer_recv(end->fd, &msg, MSG_DONTWAIT);

	if (r < 0)
		return -errno;
	return !end->is_refusing && msg.msg_flags & MSG_CTRUNC ? -EPROTO : r;
}

/*
 * Close so that the program reads everything up to the end, and then the end: bytes of its own that nobody read would
 * turn that into ECONNRESET.
 */
static void close_gently(struct end *end)
{
	char sink[4096];
	struct iovec iov = { .iov_base = sink, .iov_len = sizeof(sink) };

	if (end->leaves_unread) {
		closer_close(&end->fd);
		return;
	}
	shutdown(end->fd, SHUT_RDWR);
	for (int i = 0; i < 1024 && end_receive(end, &iov, 1) > 0; i++)
		;
	closer_close(&end->fd);
}

void end_free(struct end *end)
{
	struct ends *ends = end->ends;

	if (end->maker->gone)
		end->maker->gone(end, end->ctx);
	sd_event_source_disable_unref(end->io);
	sd_event_source_disable_unref(end->timer);
	ends->lingering -= end->rest_len - end->rest_off;
	free(end->rest);
	if (end->fd >= 0)
		close_gently(end);
	LIST_REMOVE(end, link);
	ends->count--;
	free(end);
}

static void drain(struct end *end)
{
	while (end->rest_off < end->rest_len) {
		ssize_t n = send(end->fd, end->rest + end->rest_off, end->rest_len - end->rest_off,
				 MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n < 0 && errno == EAGAIN)
			return;
		if (n < 0)
			break;
		end->rest_off += (size_t)n;
		end->ends->lingering -= (size_t)n;
	}
	end_free(end);
}

static bool is_gone(int fd)
{
	struct pollfd p = { .fd = fd };

	return poll(&p, 1, 0) == 1 && p.revents & (POLLHUP | POLLERR | POLLNVAL);
}

bool end_is_gone(const struct end *end)
{
	return is_gone(end->fd);
}

void end_forget(struct end *end)
{
	end->maker = &nobody;
}

void end_leave_unread(struct end *end, bool yes)
{
	end->leaves_unread = yes;
}

int end_fd(const struct end *end)
{
	return end->fd;
}

struct stream *end_stream(const struct end *end)
{
	return end->s;
}

/* --- What the stream asks of it ------------------------------------------------------------------------------- */

static void op_connected(void *ctx)
{
	struct end *end = ctx;

	if (end->maker->connected)
		end->maker->connected(end, end->ctx);
	end->state = END_RUNNING;
}

static void op_failed(void *ctx, int error)
{
	struct end *end = ctx;

	end->s = NULL;
	if (end->maker->failed)
		end->maker->failed(end, end->ctx, error);
	end_free(end);
}

static ssize_t op_send(void *ctx, const struct mem_span *spans, int n)
{
	struct end *end = ctx;
	struct iovec iov[QP_MAX_SPANS];
	struct msghdr msg = { .msg_iov = iov, .msg_iovlen = (size_t)n };
	ssize_t r;

	for (int i = 0; i < n; i++)
		iov[i] = (struct iovec){ .iov_base = spans[i].base, .iov_len = spans[i].len };
	r = sendmsg(end->fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (r >= 0)
		return r;
	if (errno != ENOBUFS && errno != ENOMEM && errno != EINTR)
		return -errno;
	/* For the moment. Setting the events of an edge-triggered source again makes it report what is possible now. */
	sd_event_source_set_io_events(end->io, END_EVENTS);
	return -EAGAIN;
}

static ssize_t op_recv(void *ctx, const struct mem_span *spans, int n)
{
	struct end *end = ctx;
	struct iovec iov[QP_MAX_SPANS];
	ssize_t r;

	if (n == 0)
		return is_gone(end->fd) ? -ESHUTDOWN : -EAGAIN;
	for (int i = 0; i < n; i++)
		iov[i] = (struct iovec){ .iov_base = spans[i].base, .iov_len = spans[i].len };
	r = end_receive(end, iov, n);
	if (r < 0)
		return r;
	if (r == 0 && is_gone(end->fd))
		return -ESHUTDOWN;
	return r;
}

static void op_shutdown(void *ctx, unsigned how)
{
	struct end *end = ctx;

	shutdown(end->fd, how == VMCI_SHUTDOWN_SEND ? SHUT_WR : SHUT_RD);
}

static void op_finish(void *ctx, void *data, size_t len)
{
	struct end *end = ctx;

	end->s = NULL;
	end->state = END_DRAINING;
	end->rest = data;
	end->rest_len = len;
	end->ends->lingering += len;
	shutdown(end->fd, SHUT_RD);
	drain(end);
}

static void op_close(void *ctx)
{
	end_free(ctx);
}

const struct stream_end_ops end_ops = {
	.connected = op_connected,
	.failed = op_failed,
	.send = op_send,
	.recv = op_recv,
	.shutdown = op_shutdown,
	.finish = op_finish,
	.close = op_close,
};

/* --- What its maker asks of it ---------------------------------------------------------------------------------- */

int end_connect(struct end *end, struct streams *streams, uint32_t peer_port, uint32_t local_cid, uint32_t local_port,
		uint64_t timeout_ns)
{
	int r = streams_connect(streams, peer_port, local_cid, local_port, timeout_ns, end, &end->s);

	if (r < 0)
		return r;
	end->timer = sd_event_source_disable_unref(end->timer);
	end->state = END_CONNECTING;
	return 0;
}

void end_attach(struct end *end, struct stream *s)
{
	end->s = s;
}

void end_run(struct end *end)
{
	end->timer = sd_event_source_disable_unref(end->timer);
	end->state = END_RUNNING;
}

static int on_timeout(sd_event_source *source, uint64_t usec, void *ctx)
{
	struct end *end = ctx;

	(void)source;
	(void)usec;
	if (end->maker->expired)
		end->maker->expired(end, end->ctx);
	return 0;
}

int end_wait(struct end *end, uint64_t usec)
{
	int r = sd_event_add_time_relative(end->ends->event, &end->timer, CLOCK_MONOTONIC, usec, 0, on_timeout, end);

	return r < 0 ? r : 0;
}

static int on_end(sd_event_source *source, int fd, uint32_t events, void *ctx)
{
	struct end *end = ctx;
	struct ends *ends = end->ends;

	(void)source;
	switch (end->state) {
	case END_WAITING:
		if (end->maker->ready)
			end->maker->ready(end, end->ctx);
		break;
	case END_CONNECTING:
		if (is_gone(fd)) {
			stream_abort(end->s);
			end_free(end);
		}
		break;
	case END_RUNNING:
		if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR))
			stream_readable(end->s);
		if (events & (EPOLLOUT | EPOLLHUP | EPOLLERR))
			stream_writable(end->s);
		break;
	case END_DRAINING:
		drain(end);
		break;
	}
	if (ends->idle && LIST_EMPTY(&ends->list))
		ends->idle(ends->idle_ctx);
	return 0;
}

int end_join(struct end *end, int fd)
{
	int r = sd_event_add_io(end->ends->event, &end->io, fd, END_EVENTS, on_end, end);

	if (r < 0) {
		closer_close(&fd);
		return r;
	}
	end->fd = fd;
	end->is_refusing = closer_is_refusing(fd);
	return 0;
}

int end_new(struct ends *ends, int fd, const struct end_maker *maker, void *ctx, struct end **ret_end)
{
	struct end *end = NULL;
	int r = -ENOBUFS;

	if (ends->count >= LIMIT_ENDS)
		goto fail;
	r = -ENOMEM;
	end = calloc(1, sizeof(*end));
	if (!end)
		goto fail;
	end->ends = ends;
	end->fd = -1;
	r = fd < 0 ? 0 : end_join(end, fd);
	fd = -1;
	if (r < 0)
		goto fail;
	end->maker = maker ? maker : &nobody;
	end->ctx = ctx;
	LIST_INSERT_HEAD(&ends->list, end, link);
	ends->count++;
	*ret_end = end;
	return 0;

fail:
	free(end);
	if (fd >= 0)
		closer_close(&fd);
	return r;
}

/* --- All of them ------------------------------------------------------------------------------------------------- */

int ends_new(sd_event *event, struct ends **ret_ends)
{
	struct ends *ends = calloc(1, sizeof(*ends));

	if (!ends)
		return -ENOMEM;
	LIST_INIT(&ends->list);
	ends->event = sd_event_ref(event);
	*ret_ends = ends;
	return 0;
}

struct ends *ends_free(struct ends *ends)
{
	struct end *end;

	if (!ends)
		return NULL;
	while ((end = LIST_FIRST(&ends->list)))
		end_free(end);
	sd_event_unref(ends->event);
	free(ends);
	return NULL;
}

bool ends_stop(struct ends *ends, void (*idle)(void *ctx), void *ctx)
{
	struct end *end, *next;

	for (end = LIST_FIRST(&ends->list); end; end = next) {
		next = LIST_NEXT(end, link);
		if (end->state == END_WAITING && !end->s)
			end_free(end);
	}
	ends->idle = idle;
	ends->idle_ctx = ctx;
	return !LIST_EMPTY(&ends->list);
}

size_t ends_lingering(const struct ends *ends)
{
	return ends->lingering;
}

bool ends_are_full(const struct ends *ends)
{
	return ends->lingering > LIMIT_QUEUE_MEMORY;
}
