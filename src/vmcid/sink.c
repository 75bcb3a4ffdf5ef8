/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * DOC: Theory of operation
 *
 * A sink is one end of a socket pair; the client reads from the other one. Datagrams wait in two places: in the
 * kernel's buffer of the pair, and, when that is full, in the overflow list here, which is written out when the
 * pair becomes writable. As long as there is an overflow, new datagrams go behind it.
 *
 * VMCI bounds a queue by the bytes of its datagrams (SDK reference, 3.2), so those in the kernel must be counted,
 * too. The kernel tells the writing end only what they cost in memory (SIOCOUTQ), not their bytes. But datagrams
 * are taken in order, and what one of a given size costs is always the same. So we keep a list of what we have
 * written, with sizes and costs; the datagrams that are still there are those at its end whose costs add up to what
 * the kernel says. It is asked only when the queue would be full otherwise. Costs are measured, once for each size,
 * on a socket pair of our own.
 *
 * Where the kernel deviates (it may allocate differently when memory is short), the count is wrong by a datagram
 * until the client has read everything. Neither order nor memory depends on it.
 */
#include "sink.h"

#include <assert.h>
#include <errno.h>
#include <linux/sockios.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "base/closer.h"
#include "base/fd.h"
#include "proto/limits.h"

struct packet {
	struct packet *next;
	size_t size;
	uint8_t data[];
};

struct sent {
	uint32_t size;
	uint32_t cost;
};

/**
 * struct sink - a queue
 * @source:     waits for room in the kernel; on while there is an overflow
 * @sent:       ring of @room entries: what may still be in the kernel, @n_sent from @head on
 * @sent_size:  their bytes
 * @sent_cost:  what they cost
 * @first:      overflow, oldest first
 * @queued:     its bytes
 * @is_dead:    nobody has the other end
 */
struct sink {
	int fd;
	sd_event *event;
	sd_event_source *source;
	struct sent *sent;
	size_t room;
	size_t head;
	size_t n_sent;
	uint64_t sent_size;
	uint64_t sent_cost;
	struct packet *first;
	struct packet **last;
	size_t queued;
	bool is_dead;
};

static uint32_t outq(int fd)
{
	int n = 0;

	return ioctl(fd, SIOCOUTQ, &n) || n < 0 ? 0 : (uint32_t)n;
}

/* What a datagram of @size bytes costs in the kernel. */
static uint32_t cost_of(size_t size)
{
	static uint32_t known[VMCI_DG_MAX_SIZE + 1];
	static uint8_t bytes[VMCI_DG_MAX_SIZE];
	static int pair[2] = { -1, -1 };
	uint8_t byte;

	assert(size <= VMCI_DG_MAX_SIZE);
	if (known[size])
		return known[size];
	if (pair[0] < 0 && socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair)) {
		pair[0] = -1;
		return (uint32_t)size;
	}
	if (send(pair[0], bytes, size, MSG_DONTWAIT | MSG_NOSIGNAL) != (ssize_t)size)
		return (uint32_t)size;
	known[size] = outq(pair[0]);
	/* The rest of the packet goes with its first byte. */
	while (recv(pair[1], &byte, sizeof(byte), MSG_DONTWAIT) > 0)
		;
	return known[size] ? known[size] : (uint32_t)size;
}

static int note_sent(struct sink *sink, uint32_t size, uint32_t cost)
{
	if (sink->n_sent == sink->room) {
		size_t room = sink->room ? 2 * sink->room : 8;
		struct sent *bigger = calloc(room, sizeof(*bigger));

		if (!bigger)
			return -ENOMEM;
		for (size_t i = 0; i < sink->n_sent; i++)
			bigger[i] = sink->sent[(sink->head + i) % sink->room];
		free(sink->sent);
		sink->sent = bigger;
		sink->room = room;
		sink->head = 0;
	}
	sink->sent[(sink->head + sink->n_sent) % sink->room] = (struct sent){ .size = size, .cost = cost };
	sink->n_sent++;
	sink->sent_size += size;
	sink->sent_cost += cost;
	return 0;
}

/* Forget what the client has taken. */
static void settle(struct sink *sink)
{
	uint32_t cost = outq(sink->fd);

	while (sink->n_sent && (!cost || sink->sent_cost - sink->sent[sink->head].cost >= cost)) {
		sink->sent_size -= sink->sent[sink->head].size;
		sink->sent_cost -= sink->sent[sink->head].cost;
		sink->head = (sink->head + 1) % sink->room;
		sink->n_sent--;
	}
}

static void drop_overflow(struct sink *sink)
{
	while (sink->first) {
		struct packet *packet = sink->first;

		sink->first = packet->next;
		free(packet);
	}
	sink->last = &sink->first;
	sink->queued = 0;
}

static void die(struct sink *sink)
{
	sink->is_dead = true;
	drop_overflow(sink);
	sink->source = sd_event_source_disable_unref(sink->source);
}

/*
 * Return: 0; -EAGAIN: no room; -ENOMEM; another negative errno: nobody reads it any more, or it cannot be sent at all
 */
static int put(struct sink *sink, const uint8_t *dg, size_t size)
{
	ssize_t n;
	int r;

	/* First, because it cannot be undone afterwards. */
	r = note_sent(sink, (uint32_t)size, cost_of(size));
	if (r)
		return r;
	do
		n = send(sink->fd, dg, size, MSG_DONTWAIT | MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	if (n >= 0)
		return 0;
	r = errno == ENOBUFS ? -EAGAIN : -errno;
	sink->n_sent--;
	sink->sent_size -= size;
	sink->sent_cost -= sink->sent[(sink->head + sink->n_sent) % sink->room].cost;
	return r;
}

static bool is_gone(int error)
{
	return error == -EPIPE || error == -ECONNRESET || error == -ENOTCONN || error == -ECONNREFUSED;
}

static int on_writable(sd_event_source *source, int fd, uint32_t events, void *ctx)
{
	struct sink *sink = ctx;
	int r = 0;

	(void)source;
	(void)fd;
	(void)events;
	/* The kernel says "writable" when most of it has been read: now we know what was. */
	settle(sink);
	while (sink->first) {
		struct packet *packet = sink->first;

		r = put(sink, packet->data, packet->size);
		if (r == -EAGAIN || r == -ENOMEM)
			return 0;
		if (r && is_gone(r)) {
			die(sink);
			return 0;
		}
		/* Too large for a buffer that the client has made smaller meanwhile: unreliable by contract. */
		sink->first = packet->next;
		if (!sink->first)
			sink->last = &sink->first;
		sink->queued -= packet->size;
		free(packet);
	}
	sink->source = sd_event_source_disable_unref(sink->source);
	return 0;
}

static int32_t overflow(struct sink *sink, const uint8_t *dg, size_t size)
{
	struct packet *packet = malloc(sizeof(*packet) + size);

	if (!packet)
		return VMCI_ERROR_NO_MEM;
	if (!sink->source && sd_event_add_io(sink->event, &sink->source, sink->fd, EPOLLOUT, on_writable, sink) < 0) {
		free(packet);
		return VMCI_ERROR_NO_MEM;
	}
	packet->next = NULL;
	packet->size = size;
	memcpy(packet->data, dg, size);
	*sink->last = packet;
	sink->last = &packet->next;
	sink->queued += size;
	return (int32_t)size;
}

int32_t sink_deliver(struct sink *sink, const uint8_t *dg, size_t size, size_t bound)
{
	int r;

	assert(size <= VMCI_DG_MAX_SIZE);
	if (sink->is_dead)
		return VMCI_ERROR_NO_HANDLE;
	if (sink->sent_size + sink->queued + size >= bound)
		settle(sink);
	if (sink->sent_size + sink->queued + size >= bound)
		return VMCI_ERROR_NO_RESOURCES;
	if (sink->first)
		return overflow(sink, dg, size);
	r = put(sink, dg, size);
	if (!r)
		return (int32_t)size;
	if (r == -EAGAIN)
		return overflow(sink, dg, size);
	if (is_gone(r)) {
		die(sink);
		return VMCI_ERROR_NO_HANDLE;
	}
	return r == -ENOMEM ? VMCI_ERROR_NO_MEM : VMCI_ERROR_NO_RESOURCES;
}

size_t sink_pending(const struct sink *sink)
{
	return sink->queued;
}

int sink_new(sd_event *event, int fd, struct sink **ret_sink)
{
	struct sink *sink = calloc(1, sizeof(*sink));
	uint32_t left;

	if (!sink)
		return -ENOMEM;
	sink->fd = fd;
	sink->event = event;
	sink->last = &sink->first;
	/* From an earlier vmcid, and not read yet: nobody knows how many bytes; they cost more than they are. */
	left = outq(fd);
	if (left && note_sent(sink, left, left)) {
		free(sink);
		return -ENOMEM;
	}
	sd_event_ref(event);
	*ret_sink = sink;
	return 0;
}

struct sink *sink_free(struct sink *sink)
{
	if (sink) {
		sd_event_source_disable_unref(sink->source);
		drop_overflow(sink);
		closer_close(&sink->fd);
		free(sink->sent);
		sd_event_unref(sink->event);
		free(sink);
	}
	return NULL;
}
