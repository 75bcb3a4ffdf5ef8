/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A region is a memfd that its creator makes, sealed so that nobody can make it smaller under those who have mapped
 * it. Everybody who is attached keeps the descriptor, to show it to a new broker.
 *
 * Where the broker says so, it makes the region instead, in a window that VMs can see: a part of another memfd, of
 * which a creator shows the new broker whose it is. In a guest it is a part of that window, too (guest_shm.c).
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/checked.h"
#include "base/fd.h"
#include "lib/guest.h"
#include "lib/lib.h"

#define REGION_MAX (1ull << 30)
#define REGION_PAGE 4096u

/**
 * struct vmci_shm - an attachment
 * @memory:     the memfd
 * @offset:     where the region begins in it
 * @map:        what is mapped, of @map_size bytes; @address lies in it
 * @is_creator: we have made it, and tell a new broker so
 * @is_known:   a broker has granted it; under the membership's lock
 * @key:        @key_size bytes: which window it lies in, if we have made it in one; @window_token proves it
 * @guest:      in a guest: all there is
 */
struct vmci_shm {
	struct lib_object object;
	struct vmci *vmci;
	int memory;
	uint64_t size;
	uint64_t offset;
	void *map;
	size_t map_size;
	void *address;
	struct vmci_handle handle;
	uint8_t token[FAB_TOKEN_SIZE];
	bool is_creator;
	bool is_known;
	uint8_t window_token[FAB_TOKEN_SIZE];
	uint8_t key[FAB_KEY_MAX];
	size_t key_size;
	uint64_t window_size;
	struct guest_shm guest;
};

static struct vmci_shm *of_object(struct lib_object *object)
{
	return (struct vmci_shm *)((char *)object - offsetof(struct vmci_shm, object));
}

/* The window comes first: a new broker may hear of it from us only. What it says does not matter to us. */
static int resume_window(const struct vmci_shm *shm, struct fab_client *client)
{
	struct fab_msg reply, request = {
		.type = FAB_WINDOW,
		.flags = FAB_F_RESUME,
		.size0 = shm->window_size,
		.data = shm->key,
		.len = shm->key_size,
		.fd = { shm->memory },
		.n_fds = 1,
	};
	int r;

	memcpy(request.token, shm->window_token, sizeof(request.token));
	r = lib_resume_call(client, &request, &reply);
	if (!r)
		fab_drop(&reply);
	return r == -ECONNRESET ? r : 0;
}

static int resume(struct lib_object *object, struct fab_client *client)
{
	struct vmci_shm *shm = of_object(object);
	struct fab_msg reply, request = {
		.type = FAB_SHM_HOLD,
		.handle = shm->handle,
		.size0 = shm->size,
		.size1 = shm->offset,
		.fd = { shm->memory },
		.n_fds = 1,
	};
	int r;

	if (!shm->is_known)
		return 0;
	if (shm->key_size && resume_window(shm, client))
		return -ECONNRESET;
	if (shm->is_creator) {
		request.type = FAB_SHM_CREATE;
		request.flags = FAB_F_RESUME;
		request.handle.context = 0;
	}
	memcpy(request.token, shm->token, sizeof(request.token));
	r = lib_resume_call(client, &request, &reply);
	if (r == -ECONNRESET)
		return r;
	if (r) {
		/* The memory stays; nobody new finds it. */
		shm->is_known = false;
		return r;
	}
	if (shm->is_creator)
		memcpy(shm->token, reply.token, sizeof(shm->token));
	fab_drop(&reply);
	return 0;
}

/* In a guest the region is the parent's as long as its socket is open. */
static void forked(struct lib_object *object)
{
	struct vmci_shm *shm = of_object(object);

	if (shm->guest.fd >= 0)
		lib_void(shm->guest.fd);
}

static const struct lib_object_ops shm_ops = { .resume = resume, .forked = forked };

/**
 * map() - map the region out of @shm->memory
 *
 * Return: 0; VMCI_ERROR_NO_MEM
 */
static int map(struct vmci_shm *shm)
{
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
	uint64_t lead = shm->offset % page;
	uint64_t size = lead + shm->size;
	void *address;

	if (size > SIZE_MAX || shm->offset > INT64_MAX)
		return lib_fail(VMCI_ERROR_NO_MEM, "%llu bytes are too many to map", (unsigned long long)size);
	address = mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, shm->memory,
		       (off_t)(shm->offset - lead));
	if (address == MAP_FAILED)
		return lib_fail(VMCI_ERROR_NO_MEM, "mmap of %llu bytes: %s", (unsigned long long)size, strerror(errno));
	shm->map = address;
	shm->map_size = (size_t)size;
	shm->address = (char *)address + lead;
	return 0;
}

/**
 * make_memory() - the memory of a new region
 *
 * Return: 0; VMCI_ERROR_*
 */
static int make_memory(struct vmci_shm *shm)
{
	off_t size = (off_t)((shm->size + REGION_PAGE - 1) & ~(uint64_t)(REGION_PAGE - 1));

	shm->memory = memfd_create("vmci-shm", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (shm->memory < 0)
		return lib_fail(VMCI_ERROR_NO_RESOURCES, "memfd_create: %s", strerror(errno));
	if (ftruncate(shm->memory, size))
		return lib_fail(VMCI_ERROR_NO_MEM, "%lld bytes of memory: %s", (long long)size, strerror(errno));
	/* SEAL, too: an attacher could forbid writing to all who come later. */
	if (fcntl(shm->memory, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL))
		return lib_fail(VMCI_ERROR_NO_RESOURCES, "seals: %s", strerror(errno));
	return map(shm);
}

/**
 * check_memory() - is what the broker gave us as it says? Otherwise an access could end the program by SIGBUS.
 *
 * Return: 0; VMCI_ERROR_UNAVAILABLE
 */
static int check_memory(const struct vmci_shm *shm)
{
	int seals = fcntl(shm->memory, F_GET_SEALS);
	struct stat st;

	if (seals < 0 || !(seals & F_SEAL_SHRINK))
		return lib_fail(VMCI_ERROR_UNAVAILABLE, "its memory could be taken away");
	if (!shm->size || shm->size > REGION_MAX || fstat(shm->memory, &st) ||
	    !range_fits(shm->offset, shm->size, (uint64_t)st.st_size))
		return lib_fail(VMCI_ERROR_UNAVAILABLE, "its memory is smaller than it is said to be");
	return 0;
}

static struct vmci_shm *new_shm(struct vmci *vmci)
{
	struct vmci_shm *shm = calloc(1, sizeof(*shm));

	if (!shm)
		return NULL;
	shm->vmci = vmci;
	shm->object.ops = &shm_ops;
	shm->memory = -1;
	shm->guest.fd = -1;
	return shm;
}

static void free_shm(struct vmci_shm *shm)
{
	if (shm->map)
		munmap(shm->map, shm->map_size);
	fd_close(&shm->memory);
	free(shm);
}

/* A region in a window: all that is ours is where it lies. */
static int take_allocated(struct fab_msg *reply, void *arg)
{
	struct vmci_shm *shm = arg;
	struct stat st;

	shm->handle = reply->handle;
	shm->offset = reply->size1;
	shm->memory = fd_take(&reply->fd[0]);
	memcpy(shm->token, reply->token, sizeof(shm->token));
	memcpy(shm->window_token, reply->data, FAB_TOKEN_SIZE);
	shm->key_size = reply->len - FAB_TOKEN_SIZE;
	memcpy(shm->key, reply->data + FAB_TOKEN_SIZE, shm->key_size);
	shm->window_size = fstat(shm->memory, &st) || st.st_size < 0 ? 0 : (uint64_t)st.st_size;
	shm->is_known = true;
	return 0;
}

static int take_created(struct fab_msg *reply, void *arg)
{
	struct vmci_shm *shm = arg;

	shm->handle = reply->handle;
	memcpy(shm->token, reply->token, sizeof(shm->token));
	shm->is_known = true;
	return 0;
}

static int create(struct vmci_shm *shm, uint32_t rid)
{
	struct fab_msg request = {
		.type = FAB_SHM_CREATE, .handle.resource = rid, .size0 = shm->size, .n_fds = 1,
	};
	int r = make_memory(shm);

	if (r)
		return r;
	request.fd[0] = shm->memory;
	lib_add(shm->vmci, &shm->object);
	r = lib_call(shm->vmci, &request, true, take_created, shm);
	if (r)
		lib_del(shm->vmci, &shm->object);
	return r;
}

/* Nobody is attached to it yet but us. */
static void give_back(struct vmci_shm *shm)
{
	struct fab_msg detach = { .type = FAB_SHM_DETACH, .handle = shm->handle };

	lib_del(shm->vmci, &shm->object);
	lib_tell(shm->vmci, &detach);
}

static int allocate(struct vmci_shm *shm, uint32_t rid)
{
	struct fab_msg request = { .type = FAB_SHM_ALLOC, .handle.resource = rid, .size0 = shm->size };
	int r;

	lib_add(shm->vmci, &shm->object);
	r = lib_call(shm->vmci, &request, true, take_allocated, shm);
	if (r) {
		lib_del(shm->vmci, &shm->object);
		return r;
	}
	r = check_memory(shm);
	if (!r)
		r = map(shm);
	if (r)
		give_back(shm);
	return r;
}

/* What guest_shm.c has filled. */
static void take_guests(struct vmci_shm *shm)
{
	shm->handle = shm->guest.handle;
	shm->size = shm->guest.size;
	shm->address = shm->guest.map;
	lib_add(shm->vmci, &shm->object);
}

static int create_in_guest(struct vmci_shm *shm, uint32_t rid)
{
	int r = guest_shm_create(lib_guest(shm->vmci), rid, shm->size, &shm->guest);

	if (!r)
		take_guests(shm);
	return r;
}

int vmci_shm_create(struct vmci *vmci, uint32_t rid, uint64_t size, struct vmci_shm **ret_shm)
{
	struct vmci_shm *shm;
	int r = lib_usable(vmci);

	if (!r && (!size || size > REGION_MAX))
		r = lib_fail(VMCI_ERROR_INVALID_SIZE, "a region has 1 to %llu bytes", REGION_MAX);
	if (r)
		return lib_where(r, "vmci_shm_create: %llu bytes", (unsigned long long)size);
	shm = new_shm(vmci);
	if (!shm)
		return lib_fail(VMCI_ERROR_NO_MEM, "vmci_shm_create: out of memory");
	shm->size = size;
	shm->is_creator = true;
	r = lib_guest(vmci) ? create_in_guest(shm, rid) : lib_has_window(vmci) ? allocate(shm, rid) : create(shm, rid);
	if (r) {
		free_shm(shm);
		return lib_where(r, "vmci_shm_create: %llu bytes in context %u", (unsigned long long)size,
				 vmci_cid(vmci));
	}
	*ret_shm = shm;
	return 0;
}

static int take_size(struct fab_msg *reply, void *arg)
{
	*(uint64_t *)arg = reply->size0;
	return 0;
}

int vmci_shm_query(struct vmci *vmci, struct vmci_handle handle, uint64_t *ret_size)
{
	struct fab_msg request = { .type = FAB_SHM_QUERY, .handle = handle };
	uint64_t size;
	int r = lib_usable(vmci);

	if (!r)
		r = lib_guest(vmci) ? guest_shm_query(lib_guest(vmci), handle, &size) :
			lib_call(vmci, &request, true, take_size, &size);

	if (r)
		return lib_where(r, "vmci_shm_query: %u:%u", handle.context, handle.resource);
	*ret_size = size;
	return 0;
}

static int take_attached(struct fab_msg *reply, void *arg)
{
	struct vmci_shm *shm = arg;

	shm->size = reply->size0;
	shm->offset = reply->size1;
	shm->memory = fd_take(&reply->fd[0]);
	memcpy(shm->token, reply->token, sizeof(shm->token));
	shm->is_known = true;
	return 0;
}

static int attach(struct vmci_shm *shm)
{
	struct fab_msg request = { .type = FAB_SHM_ATTACH, .handle = shm->handle };
	int r;

	lib_add(shm->vmci, &shm->object);
	r = lib_call(shm->vmci, &request, true, take_attached, shm);
	if (r) {
		lib_del(shm->vmci, &shm->object);
		return r;
	}
	r = check_memory(shm);
	if (!r)
		r = map(shm);
	if (r)
		give_back(shm);
	return r;
}

static int attach_in_guest(struct vmci_shm *shm)
{
	int r = guest_shm_attach(lib_guest(shm->vmci), shm->handle, &shm->guest);

	if (!r)
		take_guests(shm);
	return r;
}

int vmci_shm_attach(struct vmci *vmci, struct vmci_handle handle, struct vmci_shm **ret_shm)
{
	struct vmci_shm *shm;
	int r = lib_usable(vmci);

	if (r)
		return lib_where(r, "vmci_shm_attach");
	shm = new_shm(vmci);
	if (!shm)
		return lib_fail(VMCI_ERROR_NO_MEM, "vmci_shm_attach: out of memory");
	shm->handle = handle;
	r = lib_guest(vmci) ? attach_in_guest(shm) : attach(shm);
	if (r) {
		free_shm(shm);
		return lib_where(r, "vmci_shm_attach: %u:%u", handle.context, handle.resource);
	}
	*ret_shm = shm;
	return 0;
}

int vmci_shm_detach(struct vmci_shm *shm)
{
	struct fab_msg request = { .type = FAB_SHM_DETACH };
	int r = VMCI_SUCCESS;

	if (!shm)
		return lib_fail(VMCI_ERROR_INVALID_ARGS, "vmci_shm_detach: no region");
	lib_del(shm->vmci, &shm->object);
	if (lib_guest(shm->vmci)) {
		/* Its names are the host's, which forgets them with it. */
		r = guest_shm_detach(lib_guest(shm->vmci), &shm->guest, lib_is_forked(shm->vmci));
	} else if (!lib_is_forked(shm->vmci) && shm->is_known) {
		request.handle = shm->handle;
		r = lib_tell(shm->vmci, &request);
		if (r == VMCI_SUCCESS_LAST_DETACH)
			lib_forget(shm->vmci, shm->handle);
		else
			r = VMCI_SUCCESS;
	}
	free_shm(shm);
	return r;
}

struct vmci_handle vmci_shm_handle(const struct vmci_shm *shm)
{
	return shm->handle;
}

void *vmci_shm_address(const struct vmci_shm *shm)
{
	return shm->address;
}

uint64_t vmci_shm_size(const struct vmci_shm *shm)
{
	return shm->size;
}
