// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* /dev/vmci: doorbells, which are eventfds of the program. */
#include "dev.h"

#include <linux/eventfd.h>
#include <linux/slab.h>

struct bell {
	struct list_head link;
	struct eventfd_ctx *eventfd;
	struct ovmci_bell *bell;
	struct ovmci_handle handle;
};

static void on_ring(void *data)
{
	struct bell *bell = data;

	eventfd_signal(bell->eventfd);
}

static void bell_free(struct bell *bell)
{
	if (bell->bell)
		ovmci_bell_destroy(bell->bell);
	eventfd_ctx_put(bell->eventfd);
	kfree(bell);
}

static int reserve(struct dev_client *client)
{
	int r;

	mutex_lock(&client->lock);
	r = !dev_is_alive(client) ? -ENODEV : client->n_bells >= DEV_BELLS_MAX ? -ENOSPC : 0;
	if (!r)
		client->n_bells++;
	mutex_unlock(&client->lock);
	return r;
}

int dev_bell_create(struct dev_client *client, struct vmci_dev_bell *arg)
{
	struct bell *bell;
	int r = dev_check_resource(arg->handle.resource);

	if (arg->flags || arg->reserved)
		return -EINVAL;
	if (r)
		return r;
	bell = kzalloc(sizeof(*bell), GFP_KERNEL_ACCOUNT);
	if (!bell)
		return -ENOMEM;
	bell->eventfd = eventfd_ctx_fdget(arg->fd);
	if (IS_ERR(bell->eventfd)) {
		r = PTR_ERR(bell->eventfd);
		kfree(bell);
		return r;
	}
	r = reserve(client);
	if (r) {
		bell_free(bell);
		return r;
	}
	bell->handle = (struct ovmci_handle){ ovmci_context_id(), arg->handle.resource };
	r = ovmci_bell_create(&bell->handle, on_ring, bell, &bell->bell);
	mutex_lock(&client->lock);
	if (r) {
		client->n_bells--;
	} else {
		list_add_tail(&bell->link, &client->bells);
		arg->handle = (struct vmci_dev_handle){ bell->handle.context, bell->handle.resource };
	}
	mutex_unlock(&client->lock);
	if (r) {
		bell->bell = NULL;
		bell_free(bell);
		return r;
	}
	return 0;
}

int dev_bell_destroy(struct dev_client *client, struct vmci_dev_bell *arg)
{
	struct bell *bell, *found = NULL;

	if (arg->flags || arg->reserved || arg->fd)
		return -EINVAL;
	mutex_lock(&client->lock);
	list_for_each_entry(bell, &client->bells, link)
		if (bell->handle.resource == arg->handle.resource && bell->handle.context == arg->handle.context)
			found = bell;
	if (found) {
		list_del(&found->link);
		client->n_bells--;
	}
	mutex_unlock(&client->lock);
	if (!found)
		return -ENOENT;
	bell_free(found);
	return 0;
}

int dev_bell_ring(struct dev_client *client, struct vmci_dev_bell *arg)
{
	if (arg->flags || arg->reserved || arg->fd)
		return -EINVAL;
	arg->result = ovmci_bell_ring((struct ovmci_handle){ arg->handle.context, arg->handle.resource });
	return 0;
}

void dev_bell_release(struct dev_client *client)
{
	struct bell *bell, *next;

	list_for_each_entry_safe(bell, next, &client->bells, link)
		bell_free(bell);
}
