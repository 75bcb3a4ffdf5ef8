// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * DOC: Theory of operation
 *
 * /dev/vmci: shared memory, which is a part of the window of the device. Where a region lies says the service at {1, 3}
 * (window protocol). Programs do not ask it themselves: they get what it grants mapped, and nothing else of the window.
 *
 * A region has a port, an endpoint of datagrams from which it was asked for, and by which the service knows whose it
 * is. When the region is no more, for whatever reason, the service is told from this port; questions are asked again
 * until they are answered, by a worker if the program has gone. When the device is reset it forgets everything by
 * itself, and so do we.
 *
 *	ASKING ---- granted ----> HELD ---- DETACH, close ----> LEAVING ---- answered, or given up ----> freed
 *	   +------- refused, interrupted, no answer ---------------^
 *
 * Pages are mapped when they are touched, so that there is one place where a program gets them, and that looks first
 * whether the region is held and the device is there.
 */
#include "dev.h"
#include "device.h"

#include <linux/completion.h>
#include <linux/mm.h>
#include <linux/random.h>
#include <linux/slab.h>
#include <linux/workqueue.h>

/* Window protocol, 2 */
#define SERVICE ((struct ovmci_handle){ VMCI_CID_WELL_KNOWN, VMCI_RID_SHM })
#define SHARE_VERSION 1

enum { SHARE_CREATE, SHARE_QUERY, SHARE_ATTACH, SHARE_DETACH };

struct share_request {
	__le16 version;
	__le16 action;
	__le32 reserved;
	__le64 id;
	__le32 context;
	__le32 resource;
	__le64 bytes;
};
static_assert(sizeof(struct share_request) == 32);

struct share_reply {
	__le16 version;
	__le16 action;
	__le32 code;
	__le64 id;
	__le32 context;
	__le32 resource;
	__le64 bytes;
	__le64 offset;
};
static_assert(sizeof(struct share_reply) == 40);

#define REGION_MAX DEV_SLOT_SIZE

/* Between two questions: far longer than an answer takes. Later ones are further apart. */
#define ASK_FIRST_MS 200
#define ASK_LATER_MS 1000

/* The worker asks once a second, as long as a broker that is started anew by hand may take. */
#define LEAVE_TRIES 60

struct answer {
	int result;
	struct ovmci_handle handle;
	u64 bytes;
	u64 offset;
};

/*
 * struct region - what a port has
 * @port:   of @port_handle
 * @lock:   guards @id, @action, @answer: what is asked now, if @is_asking
 * @slot:   its place in the file; another region has it next
 * @serial: of this one alone: what is mapped is told apart by it
 * @session: of the device, in which it was asked for
 * @handle, @bytes, @offset: as granted; @offset in the window
 * @work:   tells the service that it is no more, @tries times at most
 */
struct region {
	struct list_head link;
	struct ovmci_datagrams *port;
	struct ovmci_handle port_handle;

	spinlock_t lock;
	bool is_asking;
	u64 id;
	u16 action;
	struct answer answer;
	struct completion answered;

	int slot;
	unsigned long serial;
	u32 session;
	struct ovmci_handle handle;
	u64 bytes;
	u64 offset;

	struct delayed_work work;
	unsigned int tries;
};

static atomic_long_t serials = ATOMIC_LONG_INIT(0);
static atomic_t regions_all = ATOMIC_INIT(0);
static struct workqueue_struct *leaving;
static LIST_HEAD(leavers);
static DEFINE_MUTEX(leavers_lock);
static bool is_exiting;		/* leavers_lock: dev_shm_exit() has what was in leavers */

/* --- Asking ----------------------------------------------------------------------------------------------------- */

static void on_answer(void *data, const struct ovmci_datagram *dg)
{
	struct region *region = data;
	struct share_reply reply;
	int code;

	if (dg->src.context != SERVICE.context || dg->src.resource != SERVICE.resource || dg->size < sizeof(reply))
		return;
	memcpy(&reply, dg->payload, sizeof(reply));
	code = (int)le32_to_cpu(reply.code);
	if (le16_to_cpu(reply.version) != SHARE_VERSION || code < VMCI_ERROR_WOULD_BLOCK ||
	    code > VMCI_SUCCESS_LAST_DETACH)
		return;
	spin_lock(&region->lock);
	if (region->is_asking && le16_to_cpu(reply.action) == region->action && le64_to_cpu(reply.id) == region->id) {
		region->is_asking = false;
		region->answer = (struct answer){
			.result = code,
			.handle = { le32_to_cpu(reply.context), le32_to_cpu(reply.resource) },
			.bytes = le64_to_cpu(reply.bytes),
			.offset = le64_to_cpu(reply.offset),
		};
		complete(&region->answered);
	}
	spin_unlock(&region->lock);
}

static struct share_request build(const struct region *region, u16 action, struct ovmci_handle handle, u64 bytes)
{
	return (struct share_request){
		.version = cpu_to_le16(SHARE_VERSION),
		.action = cpu_to_le16(action),
		.id = cpu_to_le64(region->id),
		.context = cpu_to_le32(handle.context),
		.resource = cpu_to_le32(handle.resource),
		.bytes = cpu_to_le64(bytes),
	};
}

/* A new question, under an id that nobody who had the port before has used. */
static void begin(struct region *region, u16 action)
{
	u64 id = get_random_u64();

	spin_lock(&region->lock);
	region->id = id;
	region->action = action;
	region->is_asking = true;
	reinit_completion(&region->answered);
	spin_unlock(&region->lock);
}

static int send(struct region *region, const struct share_request *request)
{
	const struct ovmci_handle src = { VMCI_INVALID_ID, region->port_handle.resource };	/* whatever our id is now */
	int result = ovmci_datagram_send_buf(SERVICE, src, request, sizeof(*request));

	/* No room, or no broker: a matter of time. */
	return result == VMCI_ERROR_NO_RESOURCES || result == VMCI_ERROR_NO_MEM ? VMCI_SUCCESS : result;
}

/* Return: 0, and @region->answer; -ETIMEDOUT, -EINTR, -ENODEV; -EOPNOTSUPP: there is no such service */
static int ask(struct region *region, u16 action, struct ovmci_handle handle, u64 bytes)
{
	unsigned long end = jiffies + msecs_to_jiffies(VMCI_DEV_ANSWER_MS);
	unsigned int pause = ASK_FIRST_MS;
	struct share_request request;

	begin(region, action);
	request = build(region, action, handle, bytes);
	do {
		int result = send(region, &request);
		long left;

		if (result == VMCI_ERROR_DEVICE_NOT_FOUND)
			return -ENODEV;
		if (result < 0)
			return -EOPNOTSUPP;
		left = wait_for_completion_interruptible_timeout(&region->answered, msecs_to_jiffies(pause));
		if (left > 0)
			return 0;
		if (left < 0)
			return -EINTR;
		pause = min(2 * pause, ASK_LATER_MS);
	} while (time_before(jiffies, end));
	return -ETIMEDOUT;
}

/* --- Regions ---------------------------------------------------------------------------------------------------- */

static void region_free(struct region *region)
{
	if (region->port)
		ovmci_datagrams_destroy(region->port);
	if (region->slot >= 0)
		dev_slot_put(region->slot);
	kfree(region);
	atomic_dec(&regions_all);
}

/* The service is asked once in each turn, and has until the next one to answer. */
static void leave_work(struct work_struct *work)
{
	struct region *region = container_of(to_delayed_work(work), struct region, work);
	bool is_over = try_wait_for_completion(&region->answered) || region->tries++ >= LEAVE_TRIES;

	if (!is_over) {
		struct share_request request = build(region, SHARE_DETACH, OVMCI_INVALID_HANDLE, 0);

		is_over = send(region, &request) < 0;
	}
	if (!is_over) {
		queue_delayed_work(leaving, &region->work,
				   msecs_to_jiffies(region->tries == 1 ? ASK_FIRST_MS : ASK_LATER_MS));
		return;
	}
	mutex_lock(&leavers_lock);
	is_over = !is_exiting;
	if (is_over)
		list_del(&region->link);
	mutex_unlock(&leavers_lock);
	if (is_over)
		region_free(region);
}

/* Nobody has @region any more: tell the service, however long that takes. */
static void leave(struct region *region)
{
	begin(region, SHARE_DETACH);
	mutex_lock(&leavers_lock);
	list_add_tail(&region->link, &leavers);
	mutex_unlock(&leavers_lock);
	queue_delayed_work(leaving, &region->work, 0);
}

static struct region *region_new(void)
{
	struct region *region;
	int r;

	if (atomic_inc_return(&regions_all) > DEV_REGIONS_ALL_MAX) {
		atomic_dec(&regions_all);
		return ERR_PTR(-ENOSPC);
	}
	region = kzalloc(sizeof(*region), GFP_KERNEL_ACCOUNT);
	if (!region) {
		atomic_dec(&regions_all);
		return ERR_PTR(-ENOMEM);
	}
	spin_lock_init(&region->lock);
	init_completion(&region->answered);
	INIT_DELAYED_WORK(&region->work, leave_work);
	region->serial = atomic_long_inc_return(&serials);
	region->session = vmci_session();
	region->slot = dev_slot_get();
	r = min(region->slot, 0);
	if (!r)
		r = ovmci_datagrams_create(VMCI_INVALID_ID, false, on_answer, region, &region->port_handle,
					   &region->port);
	if (r) {
		region->port = NULL;
		region_free(region);
		return ERR_PTR(r);
	}
	return region;
}

/* Is what the service grants in the window, and can it be mapped? */
static int check_grant(const struct answer *answer)
{
	struct ovmci_window window;

	if (ovmci_window(&window))
		return -EOPNOTSUPP;
	if (!answer->bytes || answer->bytes > REGION_MAX || !PAGE_ALIGNED(answer->offset) ||
	    answer->offset > window.size || PAGE_ALIGN(answer->bytes) > window.size - answer->offset)
		return -EPROTO;
	return 0;
}

/* The lock is held. */
static struct region *find(struct dev_client *client, struct ovmci_handle handle)
{
	struct region *region;

	list_for_each_entry(region, &client->regions, link)
		if (region->handle.context == handle.context && region->handle.resource == handle.resource)
			return region;
	return NULL;
}

/* What was granted becomes the file's. */
static int hold(struct dev_client *client, struct region *region, struct vmci_dev_region *arg)
{
	int r = 0;

	region->handle = region->answer.handle;
	region->bytes = region->answer.bytes;
	region->offset = region->answer.offset;
	mutex_lock(&client->lock);
	if (!dev_is_alive(client)) {
		r = -ENODEV;
	} else if (region->session != vmci_session()) {
		r = -ETIMEDOUT;		/* the device was reset: what it granted before is void */
	} else if (find(client, region->handle)) {
		r = -EEXIST;
	} else {
		list_add_tail(&region->link, &client->regions);
		arg->handle = (struct vmci_dev_handle){ region->handle.context, region->handle.resource };
		arg->bytes = region->bytes;
		arg->offset = (u64)region->slot << DEV_SLOT_SHIFT;
	}
	mutex_unlock(&client->lock);
	return r;
}

static int reserve(struct dev_client *client)
{
	int r;

	mutex_lock(&client->lock);
	r = !dev_is_alive(client) ? -ENODEV : client->n_regions >= DEV_REGIONS_MAX ? -ENOSPC : 0;
	if (!r)
		client->n_regions++;
	mutex_unlock(&client->lock);
	return r;
}

static void unreserve(struct dev_client *client)
{
	mutex_lock(&client->lock);
	client->n_regions--;
	mutex_unlock(&client->lock);
}

/* Return: 0, and @arg is filled; a negative errno */
static int get(struct dev_client *client, u16 action, struct ovmci_handle handle, struct vmci_dev_region *arg)
{
	struct region *region = region_new();
	int r;

	if (IS_ERR(region))
		return PTR_ERR(region);
	/* What programs have left is free before more is asked for, as far as the host listens. */
	flush_workqueue(leaving);
	r = ask(region, action, handle, action == SHARE_CREATE ? arg->bytes : 0);
	if (!r && region->answer.result < 0) {
		arg->result = region->answer.result;
		region_free(region);
		return 0;
	}
	if (!r)
		r = check_grant(&region->answer);
	if (!r)
		r = hold(client, region, arg);
	/* It may have been granted, or will be. */
	if (r)
		leave(region);
	return r;
}

static int get_within_quota(struct dev_client *client, u16 action, struct ovmci_handle handle,
			    struct vmci_dev_region *arg)
{
	struct ovmci_window window;
	int r;

	if (ovmci_window(&window))
		return -EOPNOTSUPP;
	r = dev_listen(client);
	if (!r)
		r = reserve(client);
	if (r)
		return r;
	r = get(client, action, handle, arg);
	if (r || arg->result < 0)
		unreserve(client);
	return r;
}

int dev_shm_create(struct dev_client *client, struct vmci_dev_region *arg)
{
	const u32 cid = ovmci_context_id();
	int r;

	if (arg->flags || !arg->bytes || arg->bytes > REGION_MAX ||
	    (arg->handle.context != VMCI_INVALID_ID && arg->handle.context != cid))
		return -EINVAL;
	r = dev_check_resource(arg->handle.resource);
	if (r)
		return r;
	return get_within_quota(client, SHARE_CREATE, (struct ovmci_handle){ cid, arg->handle.resource }, arg);
}

int dev_shm_attach(struct dev_client *client, struct vmci_dev_region *arg)
{
	const struct ovmci_handle handle = { arg->handle.context, arg->handle.resource };
	bool is_ours;

	if (arg->flags || handle.context == VMCI_INVALID_ID ||
	    handle.resource == VMCI_INVALID_ID)
		return -EINVAL;
	mutex_lock(&client->lock);
	is_ours = find(client, handle);
	mutex_unlock(&client->lock);
	if (is_ours)
		return -EEXIST;
	return get_within_quota(client, SHARE_ATTACH, handle, arg);
}

int dev_shm_query(struct dev_client *client, struct vmci_dev_region *arg)
{
	const struct ovmci_handle handle = { arg->handle.context, arg->handle.resource };
	struct region *region;
	int r;

	if (arg->flags)
		return -EINVAL;
	region = region_new();
	if (IS_ERR(region))
		return PTR_ERR(region);
	r = ask(region, SHARE_QUERY, handle, 0);
	if (!r) {
		arg->result = region->answer.result;
		arg->bytes = arg->result < 0 ? 0 : region->answer.bytes;
	}
	region_free(region);
	return r;
}

static void unmap(struct dev_client *client, const struct region *region)
{
	unmap_mapping_range(client->mapping, (loff_t)region->slot << DEV_SLOT_SHIFT, DEV_SLOT_SIZE, 1);
}

int dev_shm_detach(struct dev_client *client, struct vmci_dev_region *arg)
{
	const struct ovmci_handle handle = { arg->handle.context, arg->handle.resource };
	struct region *region;

	if (arg->flags)
		return -EINVAL;
	mutex_lock(&client->lock);
	region = find(client, handle);
	if (region) {
		list_del(&region->link);
		client->n_regions--;
	}
	mutex_unlock(&client->lock);
	if (!region)
		return -ENOENT;
	unmap(client, region);
	if (ask(region, SHARE_DETACH, handle, 0)) {
		leave(region);
		return 0;
	}
	/* An earlier question may have been carried out, and its answer been lost. */
	if (region->answer.result == VMCI_SUCCESS_LAST_DETACH)
		arg->result = VMCI_SUCCESS_LAST_DETACH;
	region_free(region);
	return 0;
}

void dev_shm_gone(struct dev_client *client)
{
	struct region *region;

	/* is_dead keeps pages from coming back. Only the list's neighbours can change, so hold it. */
	mutex_lock(&client->lock);
	list_for_each_entry(region, &client->regions, link)
		unmap(client, region);
	mutex_unlock(&client->lock);
}

void dev_shm_reset(struct dev_client *client)
{
	struct region *region, *next;
	LIST_HEAD(lost);

	mutex_lock(&client->lock);
	list_for_each_entry_safe(region, next, &client->regions, link) {
		/* What was granted since is good. */
		if (region->session == vmci_session())
			continue;
		list_move_tail(&region->link, &lost);
		client->n_regions--;
	}
	mutex_unlock(&client->lock);
	list_for_each_entry_safe(region, next, &lost, link) {
		unmap(client, region);
		region_free(region);
	}
}

void dev_shm_release(struct dev_client *client)
{
	struct region *region, *next;

	list_for_each_entry_safe(region, next, &client->regions, link) {
		list_del(&region->link);
		leave(region);
	}
}

/* --- Mapping ---------------------------------------------------------------------------------------------------- */

/* Find by @slot; the lock is held. */
static struct region *find_slot(struct dev_client *client, int slot)
{
	struct region *region;

	list_for_each_entry(region, &client->regions, link)
		if (region->slot == slot)
			return region;
	return NULL;
}

static vm_fault_t vm_fault(struct vm_fault *vmf)
{
	struct vm_area_struct *vma = vmf->vma;
	struct dev_client *client = vma->vm_file->private_data;
	const struct region *region;
	struct ovmci_window window;
	vm_fault_t r = VM_FAULT_SIGBUS;
	u64 at = (u64)(vmf->pgoff % DEV_SLOT_PAGES) << PAGE_SHIFT;

	mutex_lock(&client->lock);
	region = dev_is_alive(client) ? find_slot(client, vmf->pgoff / DEV_SLOT_PAGES) : NULL;
	if (region && region->serial == (unsigned long)vma->vm_private_data && at < region->bytes &&
	    !ovmci_window(&window) &&
	    region->offset <= window.size && at + PAGE_SIZE <= window.size - region->offset)
		r = vmf_insert_pfn(vma, vmf->address, PHYS_PFN(window.base + region->offset + at));
	mutex_unlock(&client->lock);
	return r;
}

static const struct vm_operations_struct vm_ops = { .fault = vm_fault };

int dev_shm_mmap(struct dev_client *client, int slot, struct vm_area_struct *vma)
{
	const struct region *region = find_slot(client, slot);
	unsigned long first = vma->vm_pgoff % DEV_SLOT_PAGES;
	unsigned long pages;

	if (!region)
		return -ENXIO;
	pages = PAGE_ALIGN(region->bytes) >> PAGE_SHIFT;
	if (first >= pages || vma_pages(vma) > pages - first)
		return -EINVAL;
	/* Not write-combining: two programs rely on the order of their writes. Window protocol, 1 */
	vma->vm_page_prot = pgprot_noncached(vma->vm_page_prot);
	vm_flags_set(vma, VM_IO | VM_PFNMAP | VM_DONTEXPAND | VM_DONTDUMP);
	vma->vm_private_data = (void *)region->serial;
	vma->vm_ops = &vm_ops;
	return 0;
}

int dev_shm_init(void)
{
	leaving = alloc_workqueue("vmci-leave", WQ_UNBOUND, 0);
	return leaving ? 0 : -ENOMEM;
}

void dev_shm_exit(void)
{
	struct region *region, *next;
	LIST_HEAD(lost);

	/* No file is open, so nobody else comes; the device is reset next, and forgets what these had. */
	mutex_lock(&leavers_lock);
	is_exiting = true;
	list_splice_init(&leavers, &lost);
	mutex_unlock(&leavers_lock);
	list_for_each_entry_safe(region, next, &lost, link) {
		cancel_delayed_work_sync(&region->work);
		region_free(region);
	}
	destroy_workqueue(leaving);
}
