// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * /dev/vmci: events. A file subscribes to all of them when it first has to know of any: for its queue pairs, or because
 * its program asks. What the program has asked for goes into a ring; what has no room is counted.
 */
#include "dev.h"

void dev_event_push(struct dev_client *client, const struct ovmci_event *event)
{
	bool is_wanted = client->wanted & BIT(event->event);

	lockdep_assert_held(&client->queue_lock);
	if (is_wanted && client->n_events == DEV_EVENTS_MAX)
		client->events_lost++;
	else if (is_wanted)
		client->events[(client->event_head + client->n_events++) % DEV_EVENTS_MAX] = *event;
	if (is_wanted)
		wake_up_interruptible_poll(&client->wait, EPOLLIN | EPOLLRDNORM | EPOLLPRI);
}

static void on_event(void *data, const struct ovmci_event *event)
{
	struct dev_client *client = data;
	bool is_ours = dev_qpair_event(client, event);

	/* Pairs of others are none of this program's business. */
	if (!is_ours && (event->event == VMCI_EVENT_QP_PEER_ATTACH || event->event == VMCI_EVENT_QP_PEER_DETACH))
		return;
	if (event->event == VMCI_EVENT_QP_RESUMED)
		dev_shm_reset(client);
	if (event->event < ARRAY_SIZE(client->subs)) {
		spin_lock(&client->queue_lock);
		dev_event_push(client, event);
		spin_unlock(&client->queue_lock);
	}
}

static void unlisten(struct dev_client *client)
{
	for (unsigned int i = 0; i < ARRAY_SIZE(client->subs); i++) {
		if (client->subs[i])
			ovmci_unsubscribe(client->subs[i]);
		client->subs[i] = NULL;
	}
}

int dev_listen(struct dev_client *client)
{
	int r = 0;

	mutex_lock(&client->listen_lock);
	for (u32 i = 0; !client->is_listening && !r && i < ARRAY_SIZE(client->subs); i++)
		r = ovmci_subscribe(i, on_event, client, &client->subs[i]);
	if (r) {
		unlisten(client);
	} else {
		client->is_listening = true;
	}
	mutex_unlock(&client->listen_lock);
	return r;
}

int dev_event_subscribe(struct dev_client *client, struct vmci_dev_subscribe *arg)
{
	int r;

	if (arg->flags || arg->events >= BIT(ARRAY_SIZE(client->subs)))
		return -EINVAL;
	r = arg->events ? dev_listen(client) : 0;
	if (r)
		return r;
	spin_lock(&client->queue_lock);
	client->wanted = arg->events;
	spin_unlock(&client->queue_lock);
	return 0;
}

int dev_event_read(struct dev_client *client, struct vmci_dev_event *arg)
{
	struct ovmci_event event;
	bool is_there;
	u32 lost = 0;

	spin_lock(&client->queue_lock);
	is_there = client->n_events;
	if (is_there) {
		event = client->events[client->event_head];
		client->event_head = (client->event_head + 1) % DEV_EVENTS_MAX;
		client->n_events--;
		lost = client->events_lost;
		client->events_lost = 0;
	}
	spin_unlock(&client->queue_lock);
	if (!is_there)
		return -EAGAIN;
	*arg = (struct vmci_dev_event){
		.event = event.event,
		.context = event.context,
		.handle = { event.handle.context, event.handle.resource },
		.lost = lost,
	};
	return 0;
}

void dev_event_release(struct dev_client *client)
{
	unlisten(client);
}
