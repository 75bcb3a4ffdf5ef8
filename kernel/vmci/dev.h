/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* /dev/vmci: what its files share. Theory: dev.c */
#ifndef OVMCI_DEV_H
#define OVMCI_DEV_H

#include <linux/fs.h>
#include <linux/list.h>
#include <linux/lockdep.h>
#include <linux/mutex.h>
#include <linux/poll.h>
#include <linux/sizes.h>
#include <linux/spinlock.h>
#include <linux/wait.h>

#include <ovmci.h>

#include "uapi/vmci_dev.h"

/*
 * Quotas of a file. Who may open the device is let in by the administrator, and has as many files as RLIMIT_NOFILE
 * allows; so these bound what one program does by mistake, and what the kernel keeps for each descriptor.
 */
#define DEV_ENDPOINTS_MAX 64u	/* a table of its own in no program that we know of */
#define DEV_BELLS_MAX 256u	/* of the page of the device, which has 4096 for all */
#define DEV_PAIRS_MAX 64u	/* at two header pages and a hypercall each */
#define DEV_REGIONS_MAX 64u	/* each has a port, of which the host keeps 1024 for all */
#define DEV_REGIONS_ALL_MAX 1024u /* these ports; what killed programs leave for a while counts */
#define DEV_QUEUED_MAX VMCI_DG_QUEUE_MAX /* as a context has it with the host: two of the largest */
#define DEV_KEPT_MAX 64u	/* while pairs are made, some milliseconds; each is somebody's hypercall */
#define DEV_EVENTS_MAX 64u	/* an attach and a detach for half of the pairs; more are counted as lost */

/*
 * Mapped objects have numbers, and their offset in the file is their number times 1 GiB, the largest region: so each
 * has offsets that nobody else has, and those of 32-bit programs (2^32 pages) suffice.
 */
#define DEV_SLOT_SHIFT 30
#define DEV_SLOT_SIZE (1ull << DEV_SLOT_SHIFT)
#define DEV_SLOT_PAGES (DEV_SLOT_SIZE >> PAGE_SHIFT)
#define DEV_SLOTS_MAX 16383u

/**
 * struct dev_client - an open file
 * @link:      in the list of all
 * @lock:      guards the lists of objects and @is_dead. Taken with mmap_lock held, so no user memory is touched under
 *	     it
 * @is_dead:   its device has gone
 * @is_listening: on_event() is subscribed
 * @mapping:   of the device node; where mappings of all files are
 * @wait:      pollers
 * @endpoints, @bells, @pairs, @regions: and how many they are
 * @pair_bytes: of all @pairs, and of what is mapped of others
 * @listen_lock: serialises the first subscription, which waits for callbacks when it fails
 * @subs:      to every event
 * @queue_lock: guards what comes from the device: @datagrams, of @queued bytes, @events from @event_head on,
 *	     @events_lost,
 *             @wanted, @kept; and, with @lock, @pairs
 * @receive_lock: one receiver at a time; user memory is touched under it
 * @wanted:    mask of events that the program reads
 * @kept:      events about pairs that are not known, while @n_making are being made (dev_qpair.c); @is_kept_short:
 *             there was no room for some
 */
struct dev_client {
	struct list_head link;
	struct mutex lock;
	bool is_dead;
	bool is_listening;
	struct address_space *mapping;
	wait_queue_head_t wait;

	struct list_head endpoints;
	struct list_head bells;
	struct list_head pairs;
	struct list_head regions;
	unsigned int n_endpoints;
	unsigned int n_bells;
	unsigned int n_pairs;
	unsigned int n_regions;
	atomic64_t pair_bytes;

	struct mutex listen_lock;
	struct ovmci_subscription *subs[VMCI_EVENT_QP_PEER_DETACH + 1];

	spinlock_t queue_lock;
	struct mutex receive_lock;
	struct list_head datagrams;
	size_t queued;
	u32 wanted;
	struct ovmci_event events[DEV_EVENTS_MAX];
	unsigned int event_head;
	unsigned int n_events;
	u32 events_lost;
	unsigned int n_making;
	unsigned int n_kept;
	bool is_kept_short;
	struct ovmci_event kept[DEV_KEPT_MAX];
};

/* dev_init(), dev_exit() - register /dev/vmci, and take it away. Return: 0; -EBUSY: somebody else has it; -ENOMEM */
int dev_init(void);
void dev_exit(void);

/* dev_is_alive() - may objects be made? The lock is held. */
static inline bool dev_is_alive(const struct dev_client *client)
{
	lockdep_assert_held(&client->lock);
	return !client->is_dead;
}

/**
 * dev_check_resource() - may the program have this id?
 *
 * Return: 0; -EINVAL: it is the driver's; -EACCES
 */
int dev_check_resource(u32 resource);

/* dev_slot_get(), dev_slot_put() - a number for what is mapped. Return: the number, or -ENOSPC, -ENOMEM */
int dev_slot_get(void);
void dev_slot_put(int slot);

/* Calls: @arg is the structure of vmci_dev.h, and is written back if 0 is returned. Flags and reserved are theirs. */
int dev_datagram_create(struct dev_client *client, struct vmci_dev_endpoint *arg);
int dev_datagram_destroy(struct dev_client *client, struct vmci_dev_endpoint *arg);
int dev_datagram_send(struct dev_client *client, struct vmci_dev_send *arg);
int dev_datagram_receive(struct dev_client *client, struct vmci_dev_receive *arg);
int dev_qpair_create(struct dev_client *client, struct vmci_dev_qpair *arg);
int dev_qpair_state(struct dev_client *client, struct vmci_dev_qpair_state *arg);
int dev_qpair_destroy(struct dev_client *client, struct vmci_dev_qpair_state *arg);
int dev_bell_create(struct dev_client *client, struct vmci_dev_bell *arg);
int dev_bell_destroy(struct dev_client *client, struct vmci_dev_bell *arg);
int dev_bell_ring(struct dev_client *client, struct vmci_dev_bell *arg);
int dev_event_subscribe(struct dev_client *client, struct vmci_dev_subscribe *arg);
int dev_event_read(struct dev_client *client, struct vmci_dev_event *arg);
int dev_shm_create(struct dev_client *client, struct vmci_dev_region *arg);
int dev_shm_attach(struct dev_client *client, struct vmci_dev_region *arg);
int dev_shm_query(struct dev_client *client, struct vmci_dev_region *arg);
int dev_shm_detach(struct dev_client *client, struct vmci_dev_region *arg);

/* dev_*_release() - the file is closed: nobody else uses it */
void dev_datagram_release(struct dev_client *client);
void dev_qpair_release(struct dev_client *client);
void dev_bell_release(struct dev_client *client);
void dev_event_release(struct dev_client *client);
void dev_shm_release(struct dev_client *client);

/* dev_listen() - have dev_qpair_event() and the queue of events hear what happens. May sleep; the lock is not held */
int dev_listen(struct dev_client *client);

/* dev_event_push() - for the program, if it wants it; queue_lock is held */
void dev_event_push(struct dev_client *client, const struct ovmci_event *event);

/* dev_qpair_event() - something has become of a queue pair. Return: is it one of @client's? */
bool dev_qpair_event(struct dev_client *client, const struct ovmci_event *event);

/* dev_shm_reset() - the device has been reset, and the host knows nothing of our regions. May sleep */
void dev_shm_reset(struct dev_client *client);

/* dev_qpair_gone(), dev_shm_gone() - the device has gone. The lock is held; is not held */
void dev_qpair_gone(struct dev_client *client);
void dev_shm_gone(struct dev_client *client);

/*
 * dev_qpair_mmap(), dev_shm_mmap() - map what has the number @slot. The lock is held. -ENXIO: it is nothing of the kind
 */
int dev_qpair_mmap(struct dev_client *client, int slot, struct vm_area_struct *vma);
int dev_shm_mmap(struct dev_client *client, int slot, struct vm_area_struct *vma);

/* dev_qpair_limit() - bytes of a file's queue pairs */
u64 dev_qpair_limit(void);

/* dev_shm_init(), dev_shm_exit() - of the worker that detaches */
int dev_shm_init(void);
void dev_shm_exit(void);

#endif /* OVMCI_DEV_H */
