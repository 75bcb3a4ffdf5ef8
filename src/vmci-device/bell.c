/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * DOC: Theory of operation
 *
 *	out	The guest rings a doorbell of another context: the eventfd is got from vmcid at the first time, and
 *		then kept, the last one rung first. Whoever destroys a doorbell does not tell those who ring it, and
 *		may make another one of the same name. So a kept eventfd is good for a second only; when nobody can
 *		be asked then, it goes on.
 *	in	Others ring a doorbell of the guest: each has one eventfd, for all who ask, because nobody tells
 *		when one of them has gone. It is watched edge-triggered: each write is an edge, whatever the counter
 *		is, so it need not be read before we sleep. It is cleared where that is possible without waiting, so
 *		that it does not stay full; between a full counter, where a write fails, and our clearing it there
 *		is an edge that we have not seen, so no ring is lost.
 *
 * The others can do to a shared eventfd what they like: ring without end, clear it, fill it. The first costs a turn of
 * the event loop each, and the guest an interrupt, as it does without us; the second can lose rings of others for
 * the same bell, all of whom vmcid has let near it; the third is kick()'s business.
 */
#include "bell.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/queue.h>

#include "base/fd.h"
#include "base/log.h"
#include "kick.h"
#include "proto/limits.h"

#define BUCKETS 256u

/* A doorbell of somebody else. */
struct out {
	TAILQ_ENTRY(out) link;
	struct vmci_handle handle;
	uint64_t opened_at;
	int fd;
};

/* A doorbell of the guest. */
struct in {
	LIST_ENTRY(in) link;
	struct bells *bells;
	sd_event_source *io;
	struct vmci_handle handle;
	int fd;
};

/**
 * struct bells - both kinds
 * @out: those that the guest rings, the last one rung first
 * @in:  those that others ring, by handle
 */
struct bells {
	sd_event *event;
	struct bells_ports ports;
	TAILQ_HEAD(out_list, out) out;
	unsigned out_count;
	LIST_HEAD(, in) in[BUCKETS];
	unsigned in_count;
};

int bells_new(sd_event *event, const struct bells_ports *ports, struct bells **ret_bells)
{
	struct bells *bells = calloc(1, sizeof(*bells));

	if (!bells)
		return -ENOMEM;
	bells->event = sd_event_ref(event);
	bells->ports = *ports;
	TAILQ_INIT(&bells->out);
	*ret_bells = bells;
	return 0;
}

/* --- Out ------------------------------------------------------------------------------------------------ */

static void out_free(struct bells *bells, struct out *out)
{
	TAILQ_REMOVE(&bells->out, out, link);
	bells->out_count--;
	fd_close(&out->fd);
	free(out);
}

static struct out *out_find(struct bells *bells, struct vmci_handle handle)
{
	struct out *out;

	TAILQ_FOREACH(out, &bells->out, link)
		if (handle_is_equal(out->handle, handle))
			return out;
	return NULL;
}

/* Make a place for @handle, whose eventfd is @fd: taken over. NULL: no memory */
static struct out *out_add(struct bells *bells, struct vmci_handle handle, int fd)
{
	struct out *out = malloc(sizeof(*out));

	if (!out) {
		fd_close(&fd);
		return NULL;
	}
	if (bells->out_count == LIMIT_BELLS_OUT)
		out_free(bells, TAILQ_LAST(&bells->out, out_list));
	*out = (struct out){ .handle = handle, .fd = fd, .opened_at = bells->ports.now(bells->ports.ctx) };
	TAILQ_INSERT_HEAD(&bells->out, out, link);
	bells->out_count++;
	return out;
}

int32_t bells_ring(struct bells *bells, struct vmci_handle handle)
{
	struct out *out = out_find(bells, handle);
	int32_t r = 0;
	int fd;

	if (!out || bells->ports.now(bells->ports.ctx) - out->opened_at >= LIMIT_BELL_AGE_NS) {
		r = bells->ports.open(bells->ports.ctx, handle, &fd);
		/* The port may have come back to us meanwhile. */
		out = out_find(bells, handle);
		if (r <= 0 && out)
			out_free(bells, out);
		if (r < 0)
			return r;
		if (r == 0)
			out = out_add(bells, handle, fd);
		else if (!out)
			return VMCI_ERROR_UNAVAILABLE;
		if (!out)
			return VMCI_ERROR_NO_MEM;
	}
	TAILQ_REMOVE(&bells->out, out, link);
	TAILQ_INSERT_HEAD(&bells->out, out, link);
	if (!kick(out->fd))
		return VMCI_SUCCESS;
	log_debug("fabric: doorbell %u:%u is jammed", handle.context, handle.resource);
	out_free(bells, out);
	return VMCI_ERROR_UNAVAILABLE;
}

void bells_forget(struct bells *bells, uint32_t context)
{
	struct out *out, *next;

	for (out = TAILQ_FIRST(&bells->out); out; out = next) {
		next = TAILQ_NEXT(out, link);
		if (out->handle.context == context)
			out_free(bells, out);
	}
}

/* --- In ------------------------------------------------------------------------------------------------- */

static unsigned bucket_of(struct vmci_handle handle)
{
	return (handle.resource ^ handle.context * 31) * UINT32_C(0x9e3779b1) >> 16 & (BUCKETS - 1);
}

static struct in *in_find(struct bells *bells, struct vmci_handle handle)
{
	struct in *in;

	LIST_FOREACH(in, &bells->in[bucket_of(handle)], link)
		if (handle_is_equal(in->handle, handle))
			return in;
	return NULL;
}

static void in_free(struct in *in)
{
	sd_event_source_disable_unref(in->io);
	LIST_REMOVE(in, link);
	in->bells->in_count--;
	fd_close(&in->fd);
	free(in);
}

static int on_rung(sd_event_source *source, int fd, uint32_t events, void *ctx)
{
	struct in *in = ctx;

	(void)source;
	(void)events;
	kick_clear(fd);
	in->bells->ports.rung(in->bells->ports.ctx, in->handle);
	return 0;
}

int32_t bells_give(struct bells *bells, struct vmci_handle handle, int *ret_fd)
{
	struct in *in = in_find(bells, handle);

	if (in) {
		*ret_fd = in->fd;
		return VMCI_SUCCESS;
	}
	if (bells->in_count == LIMIT_BELLS_IN)
		return VMCI_ERROR_NO_RESOURCES;
	in = calloc(1, sizeof(*in));
	if (!in)
		return VMCI_ERROR_NO_MEM;
	in->bells = bells;
	in->handle = handle;
	in->fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (in->fd < 0 || sd_event_add_io(bells->event, &in->io, in->fd, EPOLLIN | EPOLLET, on_rung, in) < 0) {
		fd_close(&in->fd);
		free(in);
		return VMCI_ERROR_NO_RESOURCES;
	}
	LIST_INSERT_HEAD(&bells->in[bucket_of(handle)], in, link);
	bells->in_count++;
	*ret_fd = in->fd;
	return VMCI_SUCCESS;
}

void bells_unlink(struct bells *bells, struct vmci_handle handle)
{
	struct in *in = in_find(bells, handle);

	if (in)
		in_free(in);
}

struct bells *bells_free(struct bells *bells)
{
	struct in *in;

	if (!bells)
		return NULL;
	while (!TAILQ_EMPTY(&bells->out))
		out_free(bells, TAILQ_FIRST(&bells->out));
	for (unsigned i = 0; i < BUCKETS; i++)
		while ((in = LIST_FIRST(&bells->in[i])))
			in_free(in);
	sd_event_unref(bells->event);
	free(bells);
	return NULL;
}
