/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * DOC: Theory of operation
 *
 * An *end* is one connected AF_UNIX socket of a program. It outlives its stream by what the guest wrote last:
 *
 *	HELLO		connected to PATH, "CONNECT <port>\n" is awaited, for LIMIT_HELLO_USEC at most
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
#include "hybrid.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/closer.h"
#include "base/fd.h"
#include "base/log.h"
#include "listener.h"
#include "proto/limits.h"

/* What an end is watched for, all its life. */
#define END_EVENTS (EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET)

/* Bytes of the longest "CONNECT <port>\n". */
#define HELLO_MAX 32

enum end_state {
	END_HELLO,
	END_CONNECTING,
	END_RUNNING,
	END_DRAINING,
};

struct end {
	struct hybrid *h;
	LIST_ENTRY(end) link;
	sd_event_source *io;
	sd_event_source *timer;
	struct stream *s;
	uint8_t *rest;
	size_t rest_len;
	size_t rest_off;
	int fd;
	bool is_refusing;
	enum end_state state;
};

struct hybrid {
	sd_event *event;
	sd_event_source *io;
	struct streams *streams;
	LIST_HEAD(, end) ends;
	void (*idle)(void *ctx);
	void *idle_ctx;
	char path[sizeof(((struct sockaddr_un *)NULL)->sun_path)];
	size_t lingering;
	unsigned count;
	int fd;
};

/* --- Ends ------------------------------------------------------------------------------- */

/* Like recvmsg(2); -EPROTO: descriptors came, too. */
static ssize_t receive(const struct end *end, struct iovec *iov, int n)
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

	shutdown(end->fd, SHUT_RDWR);
	for (int i = 0; i < 1024 && receive(end, &iov, 1) > 0; i++)
		;
	closer_close(&end->fd);
}

static void end_free(struct end *end)
{
	struct hybrid *h = end->h;

	sd_event_source_disable_unref(end->io);
	sd_event_source_disable_unref(end->timer);
	h->lingering -= end->rest_len - end->rest_off;
	free(end->rest);
	if (end->fd >= 0)
		close_gently(end);
	LIST_REMOVE(end, link);
	h->count--;
	free(end);
}

static void end_drain(struct end *end)
{
	while (end->rest_off < end->rest_len) {
		ssize_t n = send(end->fd, end->rest + end->rest_off, end->rest_len - end->rest_off,
				 MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n < 0 && errno == EAGAIN)
			return;
		if (n < 0)
			break;
		end->rest_off += (size_t)n;
		end->h->lingering -= (size_t)n;
	}
	end_free(end);
}

/* Does the socket's other end neither read nor write any more? */
static bool is_gone(int fd)
{
	struct pollfd p = { .fd = fd };

	return poll(&p, 1, 0) == 1 && p.revents & (POLLHUP | POLLERR | POLLNVAL);
}

static void end_connected(void *ctx)
{
	struct end *end = ctx;
	char line[32];
	int len = snprintf(line, sizeof(line), "OK %u\n", stream_local_port(end->s));

	/* The socket's buffer is empty; if this fails the program is gone, and the stream will notice. */
	if (send(end->fd, line, (size_t)len, MSG_DONTWAIT | MSG_NOSIGNAL) != len)
		log_debug("hybrid: a program left before its connection was made");
	end->state = END_RUNNING;
}

static void end_failed(void *ctx, int error)
{
	struct end *end = ctx;

	log_debug("hybrid: connect to guest port %u: %s", stream_peer_port(end->s), strerror(-error));
	end_free(end);
}

static ssize_t end_send(void *ctx, const struct mem_span *spans, int n)
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

static ssize_t end_recv(void *ctx, const struct mem_span *spans, int n)
{
	struct end *end = ctx;
	struct iovec iov[QP_MAX_SPANS];
	ssize_t r;

	if (n == 0)
		return is_gone(end->fd) ? -ESHUTDOWN : -EAGAIN;
	for (int i = 0; i < n; i++)
		iov[i] = (struct iovec){ .iov_base = spans[i].base, .iov_len = spans[i].len };
	r = receive(end, iov, n);
	if (r < 0)
		return r;
	if (r == 0 && is_gone(end->fd))
		return -ESHUTDOWN;
	return r;
}

static void end_shutdown(void *ctx, unsigned how)
{
	struct end *end = ctx;

	shutdown(end->fd, how == VMCI_SHUTDOWN_SEND ? SHUT_WR : SHUT_RD);
}

static void end_finish(void *ctx, void *data, size_t len)
{
	struct end *end = ctx;

	end->s = NULL;
	end->state = END_DRAINING;
	end->rest = data;
	end->rest_len = len;
	end->h->lingering += len;
	shutdown(end->fd, SHUT_RD);
	end_drain(end);
}

static void end_close(void *ctx)
{
	end_free(ctx);
}

const struct stream_end_ops hybrid_end_ops = {
	.connected = end_connected,
	.failed = end_failed,
	.send = end_send,
	.recv = end_recv,
	.shutdown = end_shutdown,
	.finish = end_finish,
	.close = end_close,
};

/* --- Events ------------------------------------------------------------------------------- */

/* Read "CONNECT <port>\n", and not a byte more. Returns 1 and the port; 0: not yet; negative: that is not it. */
static int read_hello(const struct end *end, uint32_t *ret_port)
{
	char line[HELLO_MAX + 1], *newline, *stop;
	/* Descriptors beside them stay where they are. */
	ssize_t n = recv(end->fd, line, HELLO_MAX, MSG_PEEK | MSG_DONTWAIT);
	struct iovec iov = { .iov_base = line };
	unsigned long long port;

	if (n < 0)
		return errno == EAGAIN ? 0 : -errno;
	if (n == 0)
		return -EPIPE;
	newline = memchr(line, '\n', (size_t)n);
	if (!newline)
		return n < HELLO_MAX && !memcmp(line, "CONNECT ", (size_t)(n < 8 ? n : 8)) ? 0 : -EPROTO;
	iov.iov_len = (size_t)(newline - line) + 1;
	if (receive(end, &iov, 1) != newline - line + 1)
		return -EPROTO;
	*newline = '\0';
	if (strncmp(line, "CONNECT ", 8) || line[8] < '0' || line[8] > '9')
		return -EPROTO;
	errno = 0;
	port = strtoull(line + 8, &stop, 10);
	if (errno || *stop || port >= VMCI_PORT_ANY)
		return -EPROTO;
	*ret_port = (uint32_t)port;
	return 1;
}

static void end_hello(struct end *end)
{
	struct hybrid *h = end->h;
	uint32_t port = 0;
	int r = read_hello(end, &port);

	if (r == 0)
		return;
	if (r < 0) {
		if (r == -EPROTO)
			log_info("hybrid: a program sent something else than \"CONNECT <port>\"");
		end_free(end);
		return;
	}
	end->timer = sd_event_source_disable_unref(end->timer);
	end->state = END_CONNECTING;
	r = h->streams ? streams_connect(h->streams, port, VMCI_CID_HOST, VMCI_PORT_ANY, 0, end, &end->s) : -EHOSTDOWN;
	if (r < 0) {
		log_debug("hybrid: connect to guest port %u: %s", port,
			  r == -EHOSTDOWN      ? "no VM is attached"
			  : r == -EHOSTUNREACH ? "the guest's driver is not there"
					       : strerror(-r));
		end_free(end);
	}
}

static int on_end_timeout(sd_event_source *source, uint64_t usec, void *ctx)
{
	(void)source;
	(void)usec;
	log_info("hybrid: a program connected and did not say where to");
	end_free(ctx);
	return 0;
}

static int on_end(sd_event_source *source, int fd, uint32_t events, void *ctx)
{
	struct end *end = ctx;
	struct hybrid *h = end->h;

	(void)source;
	switch (end->state) {
	case END_HELLO:
		end_hello(end);
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
		end_drain(end);
		break;
	}
	if (h->idle && LIST_EMPTY(&h->ends))
		h->idle(h->idle_ctx);
	return 0;
}

/* Takes @fd over, also on failure. */
static int end_new(struct hybrid *h, int fd, enum end_state state, struct end **ret_end)
{
	struct end *end = NULL;
	int r = -ENOBUFS;

	if (h->count >= LIMIT_HYBRID_ENDS)
		goto fail;
	r = -ENOMEM;
	end = calloc(1, sizeof(*end));
	if (!end)
		goto fail;
	r = sd_event_add_io(h->event, &end->io, fd, END_EVENTS, on_end, end);
	if (r < 0)
		goto fail;
	end->h = h;
	end->fd = fd;
	end->is_refusing = closer_is_refusing(fd);
	end->state = state;
	LIST_INSERT_HEAD(&h->ends, end, link);
	h->count++;
	*ret_end = end;
	return 0;

fail:
	free(end);
	closer_close(&fd);
	return r;
}

static int on_listener(sd_event_source *source, int listener, uint32_t events, void *ctx)
{
	struct hybrid *h = ctx;
	int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	struct end *end;
	int r;

	(void)source;
	(void)events;
	if (fd < 0) {
		if (errno != EAGAIN && errno != ECONNABORTED)
			log_warn("hybrid: accept: %s", strerror(errno));
		return 0;
	}
	r = end_new(h, fd, END_HELLO, &end);
	if (r < 0) {
		log_warn("hybrid: a program was turned away: %s", strerror(-r));
		return 0;
	}
	if (sd_event_add_time_relative(h->event, &end->timer, CLOCK_MONOTONIC, LIMIT_HELLO_USEC, 0, on_end_timeout,
				       end) < 0)
		end_free(end);
	return 0;
}

int hybrid_open(struct hybrid *h, struct stream *s, uint32_t local_port, void **ret_end)
{
	char path[sizeof(h->path) + 16];
	struct end *end;
	int fd, r;

	if (h->lingering > LIMIT_QUEUE_MEMORY)
		return -ENOBUFS;
	snprintf(path, sizeof(path), "%s_%u", h->path, local_port);
	fd = unix_connect(path);
	if (fd < 0)
		return fd;
	r = end_new(h, fd, END_RUNNING, &end);
	if (r < 0)
		return r;
	end->s = s;
	*ret_end = end;
	return 0;
}

/* --- All of it ------------------------------------------------------------------------------ */

int hybrid_new(sd_event *event, const char *path, struct hybrid **ret_hybrid)
{
	struct hybrid *h;
	int r;

	/* Room for "_4294967295". */
	if (strlen(path) + 11 >= sizeof(h->path))
		return -ENAMETOOLONG;
	h = calloc(1, sizeof(*h));
	if (!h)
		return -ENOMEM;
	strcpy(h->path, path);
	LIST_INIT(&h->ends);
	h->fd = listener_open(path);
	if (h->fd < 0) {
		r = h->fd;
		goto fail;
	}
	/* Who connected before this has a socket that does not, and is known by that. */
	closer_refuse(h->fd);
	r = sd_event_add_io(event, &h->io, h->fd, EPOLLIN, on_listener, h);
	if (r < 0)
		goto fail;
	h->event = sd_event_ref(event);
	*ret_hybrid = h;
	return 0;

fail:
	listener_close(&h->fd, h->path);
	free(h);
	return r;
}

struct hybrid *hybrid_free(struct hybrid *h)
{
	struct end *end;

	if (!h)
		return NULL;
	while ((end = LIST_FIRST(&h->ends)))
		end_free(end);
	sd_event_source_disable_unref(h->io);
	sd_event_unref(h->event);
	listener_close(&h->fd, h->path);
	free(h);
	return NULL;
}

bool hybrid_stop(struct hybrid *h, void (*idle)(void *ctx), void *ctx)
{
	struct end *end, *next;

	h->io = sd_event_source_disable_unref(h->io);
	listener_close(&h->fd, h->path);
	for (end = LIST_FIRST(&h->ends); end; end = next) {
		next = LIST_NEXT(end, link);
		if (end->state == END_HELLO)
			end_free(end);
	}
	h->idle = idle;
	h->idle_ctx = ctx;
	return !LIST_EMPTY(&h->ends);
}

size_t hybrid_lingering(const struct hybrid *h)
{
	return h->lingering;
}

void hybrid_set_streams(struct hybrid *h, struct streams *streams)
{
	h->streams = streams;
}
