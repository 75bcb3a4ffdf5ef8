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

#include "end.h"

struct hybrid;

/**
 * hybrid_new() - listen at @path
 * @event: loop to watch with
 * @path:  must leave room for "_" and ten digits in a socket address
 * @ends:  where connections become ends; stays the caller's
 *
 * Return: 0; errors as of listener_open(); -ENOMEM
 */
int hybrid_new(sd_event *event, const char *path, struct ends *ends, struct hybrid **ret_hybrid);

/* hybrid_free() - remove the socket; NULL is fine. Its ends must have gone. Returns NULL. */
struct hybrid *hybrid_free(struct hybrid *h);

/* hybrid_stop() - take no new connections */
void hybrid_stop(struct hybrid *h);

/* hybrid_set_streams() - the guest that connections lead to from now on; NULL: there is none */
void hybrid_set_streams(struct hybrid *h, struct streams *streams);

/* hybrid_open() - stream_ports.open: connect to PATH_<local port> */
int hybrid_open(struct hybrid *h, struct stream *s, uint32_t local_port, void **ret_end);

#endif /* VMCI_DEVICE_HYBRID_H */
