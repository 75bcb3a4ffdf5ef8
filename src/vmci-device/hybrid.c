/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * DOC: Theory of operation
 *
 * A program that connects is an end that waits: "CONNECT <port>\n" is awaited, for LIMIT_HELLO_USEC at most. Then the
 * guest is asked, and "OK <our port>\n" is the first that the program reads.
 */
#include "hybrid.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/closer.h"
#include "base/fd.h"
#include "base/log.h"
#include "listener.h"
#include "proto/limits.h"

/* Bytes of the longest "CONNECT <port>\n". */
#define HELLO_MAX 32

struct hybrid {
	sd_event_source *io;
	struct ends *ends;
	struct streams *streams;
	char path[sizeof(((struct sockaddr_un *)NULL)->sun_path)];
	int fd;
};

static void on_connected(struct end *end, void *ctx)
{
	char line[32];
	int len = snprintf(line, sizeof(line), "OK %u\n", stream_local_port(end_stream(end)));

	(void)ctx;
	/* The socket's buffer is empty; if this fails the program is gone, and the stream will notice. */
	if (send(end_fd(end), line, (size_t)len, MSG_DONTWAIT | MSG_NOSIGNAL) != len)
		log_debug("hybrid: a program left before its connection was made");
}

static void on_failed(struct end *end, void *ctx, int error)
{
	(void)end;
	(void)ctx;
	log_debug("hybrid: connect to a guest: %s", strerror(-error));
}

/* Read "CONNECT <port>\n", and not a byte more. Returns 1 and the port; 0: not yet; negative: that is not it. */
static int read_hello(const struct end *end, uint32_t *ret_port)
{
	char line[HELLO_MAX + 1], *newline, *stop;
	/* Descriptors beside them stay where they are. */
	ssize_t n = recv(end_fd(end), line, HELLO_MAX, MSG_PEEK | MSG_DONTWAIT);
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
	if (end_receive(end, &iov, 1) != newline - line + 1)
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

static void on_ready(struct end *end, void *ctx)
{
	struct hybrid *h = ctx;
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
	r = h->streams ? end_connect(end, h->streams, port, VMCI_CID_HOST, VMCI_PORT_ANY, 0) : -EHOSTDOWN;
	if (r < 0) {
		log_debug("hybrid: connect to guest port %u: %s", port,
			  r == -EHOSTDOWN      ? "no VM is attached"
			  : r == -EHOSTUNREACH ? "the guest's driver is not there"
					       : strerror(-r));
		end_free(end);
	}
}

static void on_expired(struct end *end, void *ctx)
{
	(void)ctx;
	log_info("hybrid: a program connected and did not say where to");
	end_free(end);
}

static const struct end_maker maker = {
	.ready = on_ready,
	.expired = on_expired,
	.connected = on_connected,
	.failed = on_failed,
};

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
	r = end_new(h->ends, fd, &maker, h, &end);
	if (r < 0) {
		log_warn("hybrid: a program was turned away: %s", strerror(-r));
		return 0;
	}
	if (end_wait(end, LIMIT_HELLO_USEC) < 0)
		end_free(end);
	return 0;
}

int hybrid_open(struct hybrid *h, struct stream *s, uint32_t local_port, void **ret_end)
{
	char path[sizeof(h->path) + 16];
	struct end *end;
	int fd, r;

	if (ends_are_full(h->ends))
		return -ENOBUFS;
	snprintf(path, sizeof(path), "%s_%u", h->path, local_port);
	fd = unix_connect(path);
	if (fd < 0)
		return fd;
	r = end_new(h->ends, fd, NULL, NULL, &end);
	if (r < 0)
		return r;
	end_attach(end, s);
	end_run(end);
	*ret_end = end;
	return 0;
}

int hybrid_new(sd_event *event, const char *path, struct ends *ends, struct hybrid **ret_hybrid)
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
	h->ends = ends;
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
	*ret_hybrid = h;
	return 0;

fail:
	listener_close(&h->fd, h->path);
	free(h);
	return r;
}

struct hybrid *hybrid_free(struct hybrid *h)
{
	if (!h)
		return NULL;
	hybrid_stop(h);
	free(h);
	return NULL;
}

void hybrid_stop(struct hybrid *h)
{
	h->io = sd_event_source_disable_unref(h->io);
	listener_close(&h->fd, h->path);
}

void hybrid_set_streams(struct hybrid *h, struct streams *streams)
{
	h->streams = streams;
}
