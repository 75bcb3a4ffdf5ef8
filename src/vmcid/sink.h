/* SPDX-License-Identifier: BSD-2-Clause */
/* A client's queue of datagrams: the end of it into which vmcid writes. Theory: sink.c */
#ifndef VMCID_SINK_H
#define VMCID_SINK_H

#include <stddef.h>
#include <stdint.h>
#include <systemd/sd-event.h>

struct sink;

/* sink_new() - a queue of which @fd is one end. Takes @fd on success. Return: 0; -ENOMEM; another negative errno */
int sink_new(sd_event *event, int fd, struct sink **ret_sink);

/* sink_free() - what has not reached the kernel is lost; NULL is fine. Returns NULL. */
struct sink *sink_free(struct sink *sink);

/**
 * sink_deliver() - put the datagram @dg of @size bytes at the end of the queue
 * @bound: bytes that the queue may have, this datagram included, plus one
 *
 * Never waits. Return: @size; VMCI_ERROR_NO_RESOURCES: the queue is full; VMCI_ERROR_NO_HANDLE: nobody can read it
 * any more; VMCI_ERROR_NO_MEM
 */
int32_t sink_deliver(struct sink *sink, const uint8_t *dg, size_t size, size_t bound);

/* sink_pending() - bytes that wait here because the kernel has no room for them. For tests and the log */
size_t sink_pending(const struct sink *sink);

#endif /* VMCID_SINK_H */
