// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * /dev/vmci: datagrams. What comes for the endpoints of a file waits in one queue, in the order in which it came. What
 * has no room there is lost: datagrams are unreliable, and nobody waits for a program.
 */
#include "dev.h"

#include <linux/slab.h>
#include <linux/uaccess.h>

struct endpoint {
	struct list_head link;
	struct dev_client *client;
	struct ovmci_datagrams *datagrams;
	struct ovmci_handle handle;
};

struct datagram {
	struct list_head link;
	struct ovmci_handle dst;
	struct ovmci_handle src;
	size_t size;
	u8 payload[];
};

/* What a datagram counts: its record, too, or empty ones would cost nothing. */
static size_t cost_of(size_t size)
{
	return sizeof(struct datagram) + size;
}

/* A datagram for @data, an endpoint. */
static void on_datagram(void *data, const struct ovmci_datagram *dg)
{
	struct endpoint *endpoint = data;
	struct dev_client *client = endpoint->client;
	size_t cost;
	struct datagram *copy;
	bool has_room;

	if (dg->size > VMCI_DG_MAX_PAYLOAD)
		return;
	cost = cost_of(dg->size);
	spin_lock(&client->queue_lock);
	has_room = cost <= DEV_QUEUED_MAX - client->queued;
	if (has_room)
		client->queued += cost;
	spin_unlock(&client->queue_lock);
	if (!has_room)
		return;
	copy = kvmalloc(cost, GFP_KERNEL);
	if (copy) {
		copy->dst = dg->dst;
		copy->src = dg->src;
		copy->size = dg->size;
		memcpy(copy->payload, dg->payload, dg->size);
	}
	spin_lock(&client->queue_lock);
	if (copy)
		list_add_tail(&copy->link, &client->datagrams);
	else
		client->queued -= cost;
	spin_unlock(&client->queue_lock);
	if (copy)
		wake_up_interruptible_poll(&client->wait, EPOLLIN | EPOLLRDNORM);
}

static void endpoint_free(struct endpoint *endpoint)
{
	ovmci_datagrams_destroy(endpoint->datagrams);
	kfree(endpoint);
}

/*
 * By the handle that the program was given, or the one that it has now: our context's id can change. The lock is held.
 */
static struct endpoint *find(struct dev_client *client, struct vmci_dev_handle handle)
{
	struct endpoint *endpoint;

	list_for_each_entry(endpoint, &client->endpoints, link)
		if (endpoint->handle.resource == handle.resource &&
		    (endpoint->handle.context == handle.context || handle.context == VMCI_INVALID_ID ||
		     handle.context == ovmci_context_id()))
			return endpoint;
	return NULL;
}

int dev_datagram_create(struct dev_client *client, struct vmci_dev_endpoint *arg)
{
	struct endpoint *endpoint;
	int r = dev_check_resource(arg->handle.resource);

	if (arg->flags || arg->reserved)
		return -EINVAL;
	if (r)
		return r;
	endpoint = kzalloc(sizeof(*endpoint), GFP_KERNEL_ACCOUNT);
	if (!endpoint)
		return -ENOMEM;
	endpoint->client = client;
	mutex_lock(&client->lock);
	r = !dev_is_alive(client) ? -ENODEV : client->n_endpoints >= DEV_ENDPOINTS_MAX ? -ENOSPC : 0;
	if (!r)
		client->n_endpoints++;
	mutex_unlock(&client->lock);
	if (r) {
		kfree(endpoint);
		return r;
	}
	r = ovmci_datagrams_create(arg->handle.resource, false, on_datagram, endpoint, &endpoint->handle,
				   &endpoint->datagrams);
	mutex_lock(&client->lock);
	if (r) {
		client->n_endpoints--;
	} else {
		list_add_tail(&endpoint->link, &client->endpoints);
		arg->handle = (struct vmci_dev_handle){ endpoint->handle.context, endpoint->handle.resource };
	}
	mutex_unlock(&client->lock);
	if (r) {
		kfree(endpoint);
		return r;
	}
	return 0;
}

int dev_datagram_destroy(struct dev_client *client, struct vmci_dev_endpoint *arg)
{
	struct endpoint *endpoint;

	if (arg->flags || arg->reserved)
		return -EINVAL;
	mutex_lock(&client->lock);
	endpoint = find(client, arg->handle);
	if (endpoint) {
		list_del(&endpoint->link);
		client->n_endpoints--;
	}
	mutex_unlock(&client->lock);
	if (!endpoint)
		return -ENOENT;
	endpoint_free(endpoint);
	return 0;
}

/* @ret_src: without the context, which is ours as it is when it is sent. Return: 0; -ENOENT */
static int find_source(struct dev_client *client, struct vmci_dev_handle wish, struct ovmci_handle *ret_src)
{
	struct endpoint *endpoint;

	mutex_lock(&client->lock);
	if (wish.resource == VMCI_INVALID_ID)
		endpoint = list_first_entry_or_null(&client->endpoints, struct endpoint, link);
	else
		endpoint = find(client, wish);
	if (endpoint)
		*ret_src = (struct ovmci_handle){ VMCI_INVALID_ID, endpoint->handle.resource };
	mutex_unlock(&client->lock);
	return endpoint ? 0 : -ENOENT;
}

/*
 * Programs make no hypercalls, by which they could have the device do anything to the kernel's memory; and they do not
 * pretend to be a driver: what goes to those of others is of the drivers' own making.
 */
static int check_destination(struct vmci_dev_handle dst)
{
	if (dst.context == VMCI_CID_HYPERVISOR || dst.context == VMCI_INVALID_ID)
		return -EACCES;
	if (dst.context != VMCI_CID_WELL_KNOWN && (dst.resource == VMCI_RID_EVENT || dst.resource == VMCI_RID_STREAM))
		return -EACCES;
	return 0;
}

int dev_datagram_send(struct dev_client *client, struct vmci_dev_send *arg)
{
	const struct ovmci_handle dst = { arg->dst.context, arg->dst.resource };
	struct ovmci_handle src;
	void *payload;
	int r;

	if (arg->flags || arg->reserved)
		return -EINVAL;
	if (arg->size > VMCI_DG_MAX_PAYLOAD)
		return -EMSGSIZE;
	r = check_destination(arg->dst);
	if (!r)
		r = find_source(client, arg->src, &src);
	if (r)
		return r;
	payload = vmemdup_user(u64_to_user_ptr(arg->payload), arg->size);
	if (IS_ERR(payload))
		return PTR_ERR(payload);
	arg->result = ovmci_datagram_send_buf(dst, src, payload, arg->size);
	kvfree(payload);
	return 0;
}

/* The oldest one, with receive_lock held; so it stays the oldest. */
static struct datagram *first(struct dev_client *client)
{
	struct datagram *dg;

	spin_lock(&client->queue_lock);
	dg = list_first_entry_or_null(&client->datagrams, struct datagram, link);
	spin_unlock(&client->queue_lock);
	return dg;
}

static void take(struct dev_client *client, struct datagram *dg)
{
	spin_lock(&client->queue_lock);
	list_del(&dg->link);
	client->queued -= cost_of(dg->size);
	spin_unlock(&client->queue_lock);
	kvfree(dg);
}

static int receive(struct dev_client *client, struct vmci_dev_receive *arg)
{
	struct datagram *dg = first(client);

	if (!dg)
		return -EAGAIN;
	if (dg->size > arg->size)
		return -EMSGSIZE;
	if (copy_to_user(u64_to_user_ptr(arg->payload), dg->payload, dg->size))
		return -EFAULT;
	arg->dst = (struct vmci_dev_handle){ dg->dst.context, dg->dst.resource };
	arg->src = (struct vmci_dev_handle){ dg->src.context, dg->src.resource };
	arg->size = dg->size;
	if (!(arg->flags & VMCI_DEV_PEEK))
		take(client, dg);
	return 0;
}

int dev_datagram_receive(struct dev_client *client, struct vmci_dev_receive *arg)
{
	int r;

	if (arg->flags & ~VMCI_DEV_PEEK)
		return -EINVAL;
	/* Another receiver may wait for its memory, which a program can make long. */
	if (mutex_lock_interruptible(&client->receive_lock))
		return -EINTR;
	r = receive(client, arg);
	mutex_unlock(&client->receive_lock);
	return r;
}

void dev_datagram_release(struct dev_client *client)
{
	struct endpoint *endpoint, *next_endpoint;
	struct datagram *dg, *next_dg;

	list_for_each_entry_safe(endpoint, next_endpoint, &client->endpoints, link)
		endpoint_free(endpoint);
	list_for_each_entry_safe(dg, next_dg, &client->datagrams, link)
		kvfree(dg);
}
