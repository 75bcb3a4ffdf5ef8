// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * DOC: Theory of operation
 *
 * One list of subscriptions for each event, changed under subscriptions_mutex, walked under SRCU (callee.h).
 * Subscribing is our own affair: the device sends every event that concerns us (reference, 6).
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/list.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/rculist.h>
#include <linux/slab.h>

#include "bell.h"
#include "callee.h"
#include "device.h"
#include "event.h"
#include "wire.h"

#define EVENTS (VMCI_EVENT_QP_PEER_DETACH + 1)

/* Offsets in the payload of the datagram, and what there must be of it (reference, 6). */
#define PAYLOAD_MIN 4u
#define PAYLOAD_MAX 24u
#define ARGS 8u
#define CONTEXT_SIZE (ARGS + 4u)
#define QP_SIZE (ARGS + 12u)

struct ovmci_subscription {
	struct callee callee;
	struct list_head entry;
	ovmci_event_fn fn;
	void *data;
	struct rcu_head rcu;
};

static struct list_head subscriptions[EVENTS] = {
	LIST_HEAD_INIT(subscriptions[0]), LIST_HEAD_INIT(subscriptions[1]), LIST_HEAD_INIT(subscriptions[2]),
	LIST_HEAD_INIT(subscriptions[3]), LIST_HEAD_INIT(subscriptions[4]),
};
static_assert(EVENTS == 5);
static DEFINE_MUTEX(subscriptions_mutex);

bool vmci_event_parse(const void *payload, size_t size, struct ovmci_event *ret_event)
{
	struct ovmci_event event = { .handle = { 0, 0 } };

	if (size < PAYLOAD_MIN || size > PAYLOAD_MAX)
		return false;
	event.event = get_le32(payload);
	switch (event.event) {
	case VMCI_EVENT_CTX_ID_UPDATE:
	case VMCI_EVENT_CTX_REMOVED:
		if (size < CONTEXT_SIZE)
			return false;
		event.context = get_le32(payload + ARGS);
		break;
	case VMCI_EVENT_QP_RESUMED:
		break;
	case VMCI_EVENT_QP_PEER_ATTACH:
	case VMCI_EVENT_QP_PEER_DETACH:
		if (size < QP_SIZE)
			return false;
		event.handle = get_handle(payload + ARGS);
		event.context = get_le32(payload + ARGS + 8);
		break;
	default:
		return false;
	}
	*ret_event = event;
	return true;
}

void vmci_event_tell(const struct ovmci_event *event)
{
	struct ovmci_subscription *sub;
	int index;

	index = srcu_read_lock(&vmci_callees);
	list_for_each_entry_srcu(sub, &subscriptions[event->event], entry, srcu_read_lock_held(&vmci_callees)) {
		if (callee_enter(&sub->callee)) {
			sub->fn(sub->data, event);
			callee_leave(&sub->callee);
		}
	}
	srcu_read_unlock(&vmci_callees, index);
}

void vmci_event_dispatch(const void *payload, size_t size)
{
	u32 before = ovmci_context_id();
	struct ovmci_event event;

	if (!vmci_event_parse(payload, size, &event)) {
		pr_debug("an event of %zu bytes that we do not know\n", size);
		return;
	}
	if (event.event == VMCI_EVENT_CTX_ID_UPDATE) {
		if (!vmci_device_set_context_id(event.context))
			return;
		vmci_bells_rename(before, event.context);
	}
	vmci_event_tell(&event);
}

int ovmci_subscribe(u32 event, ovmci_event_fn fn, void *data, struct ovmci_subscription **ret)
{
	struct ovmci_subscription *sub;

	if (event >= EVENTS || !fn)
		return -EINVAL;
	sub = kzalloc(sizeof(*sub), GFP_KERNEL);
	if (!sub)
		return -ENOMEM;
	callee_init(&sub->callee);
	sub->fn = fn;
	sub->data = data;
	*ret = sub;
	mutex_lock(&subscriptions_mutex);
	list_add_tail_rcu(&sub->entry, &subscriptions[event]);
	mutex_unlock(&subscriptions_mutex);
	return 0;
}
EXPORT_SYMBOL_GPL(ovmci_subscribe);

static void free_subscription(struct rcu_head *rcu)
{
	kfree(container_of(rcu, struct ovmci_subscription, rcu));
}

void ovmci_unsubscribe(struct ovmci_subscription *sub)
{
	if (!sub)
		return;
	mutex_lock(&subscriptions_mutex);
	list_del_rcu(&sub->entry);
	mutex_unlock(&subscriptions_mutex);
	callee_close(&sub->callee);
	call_srcu(&vmci_callees, &sub->rcu, free_subscription);
}
EXPORT_SYMBOL_GPL(ovmci_unsubscribe);

#ifdef OVMCI_DEBUG
#include "selftest/event.c"
#endif
