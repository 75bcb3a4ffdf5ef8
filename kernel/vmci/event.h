/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* event.h - events and who wants to hear of them, inwards */
#ifndef OVMCI_EVENT_H
#define OVMCI_EVENT_H

#include <ovmci.h>

/* vmci_event_parse() - an event from the payload of its datagram; pure. Return: is it one that we know? */
bool vmci_event_parse(const void *payload, size_t size, struct ovmci_event *ret_event);

/* vmci_event_dispatch() - take an event from the device: note a new context id, then tell the subscribers; may sleep */
void vmci_event_dispatch(const void *payload, size_t size);

/* vmci_event_tell() - tell the subscribers, in the caller's context; may sleep */
void vmci_event_tell(const struct ovmci_event *event);

#endif /* OVMCI_EVENT_H */
