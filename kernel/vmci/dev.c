// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * DOC: Theory of operation
 *
 * /dev/vmci gives programs what ovmci.h gives modules: each call is one of that API, with the program's memory copied
 * in and out here, quotas, and an owner, the open file. Objects are in lists of their file; whoever takes one out of
 * its list, under the lock, destroys it, without the lock, because that waits for its callback.
 *
 *	ALIVE ---- the device goes ----> DEAD ---- closed ----> freed
 *	  +---------------------- closed -----------------------^
 *
 * Locks, in this order: mmap_lock, client->lock, client->queue_lock. User memory is touched with none of them held
 * (client->receive_lock comes before mmap_lock). Callbacks of the API take client->lock and queue_lock.
 * clients_lock is taken by the notifier and by open and release, before client->lock.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include "dev.h"

#include <linux/capability.h>
#include <linux/idr.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/nospec.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

static LIST_HEAD(clients);
static DEFINE_MUTEX(clients_lock);
static bool is_ready;		/* clients_lock: there is a device */
static DEFINE_IDA(slots);

int dev_check_resource(u32 resource)
{
	if (resource == VMCI_RID_EVENT || resource == VMCI_RID_STREAM)
		return -EINVAL;
	if (resource < VMCI_DEV_FIRST_RESOURCE && !capable(CAP_NET_BIND_SERVICE))
		return -EACCES;
	return 0;
}

int dev_slot_get(void)
{
	return ida_alloc_max(&slots, DEV_SLOTS_MAX, GFP_KERNEL);
}

void dev_slot_put(int slot)
{
	ida_free(&slots, slot);
}

/* --- Calls ------------------------------------------------------------------------------------------------------ */

static int dev_version(struct dev_client *client, struct vmci_dev_version *arg)
{
	struct ovmci_window window;

	*arg = (struct vmci_dev_version){
		.magic = VMCI_DEV_MAGIC,
		.version = VMCI_DEV_VERSION_1,
		.context = ovmci_context_id(),
		.qpair_bytes = dev_qpair_limit(),
		.queued_bytes = DEV_QUEUED_MAX,
		.endpoints = DEV_ENDPOINTS_MAX,
		.bells = DEV_BELLS_MAX,
		.qpairs = DEV_PAIRS_MAX,
		.regions = DEV_REGIONS_MAX,
	};
	if (!ovmci_window(&window)) {
		arg->features |= VMCI_DEV_HAS_WINDOW;
		arg->window_size = window.size;
	}
	return 0;
}

union call_arg {
	struct vmci_dev_version version;
	struct vmci_dev_endpoint endpoint;
	struct vmci_dev_send send;
	struct vmci_dev_receive receive;
	struct vmci_dev_qpair qpair;
	struct vmci_dev_qpair_state qpair_state;
	struct vmci_dev_bell bell;
	struct vmci_dev_subscribe subscribe;
	struct vmci_dev_event event;
	struct vmci_dev_region region;
};

/* A function for each call, with the arguments' type undone where it cannot go wrong. */
#define CALL(fn, type)									\
	static int call_##fn(struct dev_client *client, union call_arg *arg)		\
	{										\
		return fn(client, &arg->type);						\
	}
CALL(dev_version, version)
CALL(dev_datagram_create, endpoint)
CALL(dev_datagram_destroy, endpoint)
CALL(dev_datagram_send, send)
CALL(dev_datagram_receive, receive)
CALL(dev_qpair_create, qpair)
CALL(dev_qpair_state, qpair_state)
CALL(dev_qpair_destroy, qpair_state)
CALL(dev_bell_create, bell)
CALL(dev_bell_destroy, bell)
CALL(dev_bell_ring, bell)
CALL(dev_event_subscribe, subscribe)
CALL(dev_event_read, event)
CALL(dev_shm_create, region)
CALL(dev_shm_attach, region)
CALL(dev_shm_query, region)
CALL(dev_shm_detach, region)

static const struct call {
	unsigned int cmd;
	int (*fn)(struct dev_client *client, union call_arg *arg);
} calls[VMCI_DEV_CALLS] = {
	{ VMCI_DEV_VERSION, call_dev_version },
	{ VMCI_DEV_DATAGRAM_CREATE, call_dev_datagram_create },
	{ VMCI_DEV_DATAGRAM_DESTROY, call_dev_datagram_destroy },
	{ VMCI_DEV_DATAGRAM_SEND, call_dev_datagram_send },
	{ VMCI_DEV_DATAGRAM_RECEIVE, call_dev_datagram_receive },
	{ VMCI_DEV_QPAIR_CREATE, call_dev_qpair_create },
	{ VMCI_DEV_QPAIR_STATE, call_dev_qpair_state },
	{ VMCI_DEV_QPAIR_DESTROY, call_dev_qpair_destroy },
	{ VMCI_DEV_BELL_CREATE, call_dev_bell_create },
	{ VMCI_DEV_BELL_DESTROY, call_dev_bell_destroy },
	{ VMCI_DEV_BELL_RING, call_dev_bell_ring },
	{ VMCI_DEV_EVENT_SUBSCRIBE, call_dev_event_subscribe },
	{ VMCI_DEV_EVENT_READ, call_dev_event_read },
	{ VMCI_DEV_SHM_CREATE, call_dev_shm_create },
	{ VMCI_DEV_SHM_ATTACH, call_dev_shm_attach },
	{ VMCI_DEV_SHM_QUERY, call_dev_shm_query },
	{ VMCI_DEV_SHM_DETACH, call_dev_shm_detach },
};

static long dev_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	struct dev_client *client = file->private_data;
	void __user *user = (void __user *)arg;
	size_t size = _IOC_SIZE(cmd);
	const struct call *call;
	union call_arg copy;
	int r;

	if (_IOC_TYPE(cmd) != VMCI_DEV_TYPE || _IOC_NR(cmd) >= ARRAY_SIZE(calls))
		return -ENOTTY;
	call = &calls[array_index_nospec(_IOC_NR(cmd), ARRAY_SIZE(calls))];
	if (call->cmd != cmd)
		return -ENOTTY;
	if (READ_ONCE(client->is_dead))
		return -ENODEV;
	memset(&copy, 0, sizeof(copy));
	if (_IOC_DIR(cmd) & _IOC_WRITE && copy_from_user(&copy, user, size))
		return -EFAULT;
	r = call->fn(client, &copy);
	if (r)
		return r;
	if (_IOC_DIR(cmd) & _IOC_READ && copy_to_user(user, &copy, size))
		return -EFAULT;
	return 0;
}

static __poll_t dev_poll(struct file *file, poll_table *table)
{
	struct dev_client *client = file->private_data;
	__poll_t events = EPOLLOUT | EPOLLWRNORM;

	poll_wait(file, &client->wait, table);
	spin_lock(&client->queue_lock);
	if (!list_empty(&client->datagrams) || client->n_events)
		events |= EPOLLIN | EPOLLRDNORM;
	if (client->n_events)
		events |= EPOLLPRI;
	spin_unlock(&client->queue_lock);
	if (READ_ONCE(client->is_dead))
		events |= EPOLLERR | EPOLLHUP;
	return events;
}

static int dev_mmap(struct file *file, struct vm_area_struct *vma)
{
	struct dev_client *client = file->private_data;
	unsigned long slot = vma->vm_pgoff / DEV_SLOT_PAGES;
	int r = -ENODEV;

	if (!(vma->vm_flags & VM_SHARED) || slot > DEV_SLOTS_MAX)
		return -EINVAL;
	mutex_lock(&client->lock);
	if (dev_is_alive(client)) {
		r = dev_qpair_mmap(client, (int)slot, vma);
		if (r == -ENXIO)
			r = dev_shm_mmap(client, (int)slot, vma);
	}
	mutex_unlock(&client->lock);
	return r;
}

/* --- Files ------------------------------------------------------------------------------------------------------ */

static int dev_open(struct inode *inode, struct file *file)
{
	struct dev_client *client = kzalloc(sizeof(*client), GFP_KERNEL_ACCOUNT);
	int r = 0;

	if (!client)
		return -ENOMEM;
	mutex_init(&client->lock);
	mutex_init(&client->listen_lock);
	mutex_init(&client->receive_lock);
	spin_lock_init(&client->queue_lock);
	init_waitqueue_head(&client->wait);
	INIT_LIST_HEAD(&client->endpoints);
	INIT_LIST_HEAD(&client->bells);
	INIT_LIST_HEAD(&client->pairs);
	INIT_LIST_HEAD(&client->regions);
	INIT_LIST_HEAD(&client->datagrams);
	client->mapping = inode->i_mapping;
	mutex_lock(&clients_lock);
	if (is_ready)
		list_add_tail(&client->link, &clients);
	else
		r = -ENODEV;
	mutex_unlock(&clients_lock);
	if (r) {
		kfree(client);
		return r;
	}
	file->private_data = client;
	return nonseekable_open(inode, file);
}

static int dev_release(struct inode *inode, struct file *file)
{
	struct dev_client *client = file->private_data;

	mutex_lock(&clients_lock);
	list_del(&client->link);
	mutex_unlock(&clients_lock);
	dev_event_release(client);
	dev_qpair_release(client);
	dev_bell_release(client);
	dev_shm_release(client);
	dev_datagram_release(client);
	kfree(client);
	return 0;
}

static const struct file_operations dev_fops = {
	.owner = THIS_MODULE,
	.open = dev_open,
	.release = dev_release,
	.unlocked_ioctl = dev_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
	.poll = dev_poll,
	.mmap = dev_mmap,
	.llseek = noop_llseek,
};

static struct miscdevice dev_misc = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "vmci",
	.mode = 0600,
	.fops = &dev_fops,
};

/* --- The device comes and goes ---------------------------------------------------------------------------------- */

static void kill_all(void)
{
	struct dev_client *client;

	list_for_each_entry(client, &clients, link) {
		mutex_lock(&client->lock);
		WRITE_ONCE(client->is_dead, true);
		dev_qpair_gone(client);
		mutex_unlock(&client->lock);
		dev_shm_gone(client);
		wake_up_all(&client->wait);
	}
}

static int dev_notify(struct notifier_block *nb, unsigned long what, void *data)
{
	mutex_lock(&clients_lock);
	is_ready = what == OVMCI_DEVICE_READY;
	if (what == OVMCI_DEVICE_GONE)
		kill_all();
	mutex_unlock(&clients_lock);
	return NOTIFY_OK;
}

static struct notifier_block dev_notifier = { .notifier_call = dev_notify };

int dev_init(void)
{
	int r = dev_shm_init();

	if (r)
		return r;
	r = misc_register(&dev_misc);
	if (r) {
		pr_err("/dev/vmci cannot be made (error %d)%s\n", r, r == -EEXIST ? ": is vmw_vmci loaded?" : "");
		goto no_device;
	}
	r = ovmci_register_notifier(&dev_notifier);
	if (!r)
		return 0;
	misc_deregister(&dev_misc);
no_device:
	dev_shm_exit();
	return r;
}

void dev_exit(void)
{
	ovmci_unregister_notifier(&dev_notifier);
	misc_deregister(&dev_misc);
	dev_shm_exit();
	ida_destroy(&slots);
}
