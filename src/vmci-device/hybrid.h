/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The program's side of streams as the Firecracker convention has it:
 *
 *	host -> guest	a program connects to PATH and sends "CONNECT <port>\n"; it reads "OK <our port>\n" and goes on
 *			with the stream. A refusal closes the connection.
 *	guest -> host	a guest's connect to port P of context 2 arrives at the socket PATH_P, where a program listens.
 */
#ifndef VMCI_DEVICE_HYBRID_H
#define VMCI_DEVICE_HYBRID_H

#include <systemd/sd-event.h>

#include "proto/stream.h"

struct hybrid;

/* The operations to be put into stream_ports.end. */
extern const struct stream_end_ops hybrid_end_ops;

/**
 * hybrid_new() - listen at @path
 * @event: loop to watch with; a reference is taken
 * @path:  must leave room for "_" and ten digits in a socket address
 *
 * Return: 0; errors as of listener_open(); -ENOMEM
 */
int hybrid_new(sd_event *event, const char *path, struct hybrid **ret_hybrid);

/* hybrid_free() - drop all connections and remove the socket; NULL is fine. No stream may be left. Returns NULL. */
struct hybrid *hybrid_free(struct hybrid *h);

/**
 * hybrid_stop() - take no new connections, and drop those that have not reached a guest
 * @idle: called from the event loop (not from here) when the last connection has gone; it may call hybrid_free()
 *
 * Return: are there connections left, so that @idle will be called?
 */
bool hybrid_stop(struct hybrid *h, void (*idle)(void *ctx), void *ctx);

/* hybrid_lingering() - bytes that guests wrote last and that programs have not read yet */
size_t hybrid_lingering(const struct hybrid *h);

/* hybrid_set_streams() - the guest that connections lead to from now on; NULL: there is none */
void hybrid_set_streams(struct hybrid *h, struct streams *streams);

/* hybrid_open() - stream_ports.open: connect to PATH_<local port> */
int hybrid_open(struct hybrid *h, struct stream *s, uint32_t local_port, void **ret_end);

#endif /* VMCI_DEVICE_HYBRID_H */
