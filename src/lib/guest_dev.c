/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Membership of a guest: /dev/vmci of our vmci.ko. An endpoint is a file of its own, so that it can be polled, and so
 * is an attachment to shared memory, so that it ends by itself; all else belongs to the membership's file.
 *
 * The host personality of the in-box driver has a /dev/vmci, too. It does not know the first call, and is left alone.
 */
#include "lib/guest_dev.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.h"
#include "lib/guest.h"
#include "lib/lib.h"
#include "uapi/vmci_dev.h"

/* The layout of rings that the library knows; the kernel's pages are as large on all machines that it runs on today. */
#define DEV_PAGE 4096

#define CREATE_TRIES 10

#define EVENTS (1u << VMCI_EVENT_CTX_REMOVED | 1u << VMCI_EVENT_QP_PEER_ATTACH | 1u << VMCI_EVENT_QP_PEER_DETACH)

static struct vmci_dev_handle to_dev(struct vmci_handle handle)
{
	return (struct vmci_dev_handle){ handle.context, handle.resource };
}

static struct vmci_handle from_dev(struct vmci_dev_handle handle)
{
	return handle_make(handle.context, handle.resource);
}

static int version(int fd, struct vmci_dev_version *ret_version)
{
	struct vmci_dev_version v = { 0 };

	if (ioctl(fd, VMCI_DEV_VERSION, &v) < 0)
		return -errno;
	if (v.magic != VMCI_DEV_MAGIC || v.version >> 16 != VMCI_DEV_VERSION_1 >> 16)
		return -ENOTTY;
	*ret_version = v;
	return 0;
}

int guest_dev_open(void)
{
	int fd = open(VMCI_DEV_PATH, O_RDWR | O_CLOEXEC), error;
	struct vmci_dev_version v;

	if (fd < 0)
		return -errno;
	error = version(fd, &v);
	if (!error)
		return fd;
	fd_close(&fd);
	return error;
}

/* What the kernel says in general; @what is tried. */
static int fail(int error, const char *what)
{
	int code;

	switch (error) {
	case EACCES:
	case EPERM:
		code = VMCI_ERROR_NO_ACCESS;
		break;
	case EADDRINUSE:
	case EEXIST:
		code = VMCI_ERROR_ALREADY_EXISTS;
		break;
	case ENOSPC:
	case EMFILE:
	case ENFILE:
		code = VMCI_ERROR_NO_RESOURCES;
		break;
	case ENOMEM:
		code = VMCI_ERROR_NO_MEM;
		break;
	case EINVAL:
		code = VMCI_ERROR_INVALID_ARGS;
		break;
	case ENOENT:
		code = VMCI_ERROR_NOT_FOUND;
		break;
	default:
		code = VMCI_ERROR_UNAVAILABLE;
	}
	return lib_fail(code, VMCI_DEV_PATH ": %s: %s", what, strerror(error));
}

/* What the device says. */
static int refused(int result, const char *what)
{
	return lib_fail(result, "the device says: %s: %s", what, vmci_strerror(result));
}

/* ----- membership and datagrams: struct guest_ports */

static int dev_cid(uint32_t *ret_cid)
{
	int fd = guest_dev_open(), error;
	struct vmci_dev_version v;

	if (fd < 0)
		return fd;
	error = version(fd, &v);
	fd_close(&fd);
	if (!error)
		*ret_cid = v.context;
	return error;
}

static int dev_bind(uint32_t port, uint32_t *ret_port)
{
	struct vmci_dev_endpoint endpoint = { .handle = { VMCI_INVALID_ID, port } };
	int fd = guest_dev_open(), error;

	if (fd < 0)
		return fd;
	if (ioctl(fd, VMCI_DEV_DATAGRAM_CREATE, &endpoint) < 0) {
		error = errno;
		fd_close(&fd);
		return -error;
	}
	*ret_port = endpoint.handle.resource;
	return fd;
}

/* As sendto() of AF_VSOCK has it, which is what guest.c understands. */
static int errno_of(int result)
{
	switch (result) {
	case VMCI_ERROR_INVALID_RESOURCE:
	case VMCI_ERROR_NOT_FOUND:
		return EHOSTUNREACH;
	case VMCI_ERROR_NO_ACCESS:
		return EPERM;
	case VMCI_ERROR_NO_RESOURCES:
		return ENOBUFS;
	case VMCI_ERROR_NO_MEM:
		return ENOMEM;
	case VMCI_ERROR_INVALID_ARGS:
	case VMCI_ERROR_PAYLOAD_TOO_LARGE:
		return EMSGSIZE;
	case VMCI_ERROR_UNAVAILABLE:
	case VMCI_ERROR_DEVICE_NOT_FOUND:
		return ENODEV;
	default:
		return EINVAL;
	}
}

static ssize_t dev_send(int fd, struct vmci_handle dst, const void *data, size_t size)
{
	struct vmci_dev_send send = {
		.dst = to_dev(dst),
		.src = { VMCI_INVALID_ID, VMCI_INVALID_ID },
		.payload = (uintptr_t)data,
		.size = (uint32_t)size,
	};

	if (size > VMCI_DG_MAX_PAYLOAD)
		return -EMSGSIZE;
	if (ioctl(fd, VMCI_DEV_DATAGRAM_SEND, &send) < 0)
		return -errno;
	return send.result < 0 ? -errno_of(send.result) : (ssize_t)size;
}

static ssize_t dev_recv(int fd, void *buf, size_t size, int flags, struct vmci_handle *ret_src, bool *ret_cut)
{
	struct vmci_dev_receive receive = {
		.payload = (uintptr_t)buf,
		.size = size > VMCI_DG_MAX_PAYLOAD ? VMCI_DG_MAX_PAYLOAD : (uint32_t)size,
		.flags = flags & MSG_PEEK ? VMCI_DEV_PEEK : 0,
	};

	*ret_cut = false;
	if (ioctl(fd, VMCI_DEV_DATAGRAM_RECEIVE, &receive) < 0) {
		*ret_cut = errno == EMSGSIZE;
		return *ret_cut ? (ssize_t)size : -errno;
	}
	*ret_src = from_dev(receive.src);
	return (ssize_t)receive.size;
}

/* ----- shared memory: struct guest_ports */

static int shm_failed(int error)
{
	if (error == EOPNOTSUPP)
		return lib_fail(VMCI_ERROR_UNAVAILABLE,
				"this VM has no window for shared memory (openvmci.window in its definition)");
	if (error == ETIMEDOUT)
		return lib_fail(VMCI_ERROR_TIMEOUT, "shared memory: the host does not answer");
	return fail(error, "shared memory");
}

/* A signal ends the kernel's waiting, but no call of the library. */
static int shm_call(int fd, unsigned long call, struct vmci_dev_region *region)
{
	while (ioctl(fd, call, region) < 0)
		if (errno != EINTR)
			return shm_failed(errno);
	return region->result < 0 ? refused(region->result, "shared memory") : region->result;
}

static int dev_shm_get(bool is_new, struct vmci_handle handle, uint64_t size, struct guest_shm *shm)
{
	struct vmci_dev_region region = { .handle = to_dev(handle), .bytes = is_new ? size : 0 };
	int fd = guest_dev_open(), result;
	void *map;

	if (fd < 0)
		return fail(-fd, "open");
	result = shm_call(fd, is_new ? VMCI_DEV_SHM_CREATE : VMCI_DEV_SHM_ATTACH, &region);
	if (result >= 0) {
		map = mmap(NULL, region.bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, (off_t)region.offset);
		if (map == MAP_FAILED)
			result = lib_fail(VMCI_ERROR_NO_MEM, "mmap of %llu bytes of the window: %s",
					  (unsigned long long)region.bytes, strerror(errno));
	}
	if (result < 0) {
		/* With it, the region. */
		fd_close(&fd);
		return result;
	}
	shm->fd = fd;
	shm->handle = from_dev(region.handle);
	shm->size = region.bytes;
	shm->map = map;
	shm->map_size = region.bytes;
	return VMCI_SUCCESS;
}

static int dev_shm_query(struct vmci_handle handle, uint64_t *ret_size)
{
	struct vmci_dev_region region = { .handle = to_dev(handle) };
	int fd = guest_dev_open(), result;

	if (fd < 0)
		return fail(-fd, "open");
	result = shm_call(fd, VMCI_DEV_SHM_QUERY, &region);
	fd_close(&fd);
	if (result >= 0)
		*ret_size = region.bytes;
	return result;
}

static int dev_shm_detach(struct guest_shm *shm)
{
	struct vmci_dev_region region = { .handle = to_dev(shm->handle) };

	return shm_call(shm->fd, VMCI_DEV_SHM_DETACH, &region) == VMCI_SUCCESS_LAST_DETACH ?
		VMCI_SUCCESS_LAST_DETACH : VMCI_SUCCESS;
}

const struct guest_ports guest_dev = {
	.name = VMCI_DEV_PATH,
	.open = guest_dev_open,
	.cid = dev_cid,
	.bind = dev_bind,
	.send = dev_send,
	.recv = dev_recv,
	.shm_get = dev_shm_get,
	.shm_query = dev_shm_query,
	.shm_detach = dev_shm_detach,
};

/* ----- queue pairs */

int guest_dev_qpair_create(int device, struct vmci_handle *handle, uint64_t produce, uint64_t consume, uint32_t peer,
			   uint32_t flags, int wake, void **ret_map, size_t *ret_size)
{
	struct vmci_dev_qpair qpair = {
		.handle = to_dev(*handle),
		.produce = produce,
		.consume = consume,
		.peer = peer,
		.flags = flags,
		.wake = wake,
	};
	void *map;

	if (sysconf(_SC_PAGESIZE) != DEV_PAGE)
		return lib_fail(VMCI_ERROR_UNAVAILABLE, "queue pairs of guests have pages of %d bytes", DEV_PAGE);
	/* Too many pairs came and went while this one was made. */
	for (int tries = 0; ioctl(device, VMCI_DEV_QPAIR_CREATE, &qpair) < 0; tries++)
		if (errno != EAGAIN || tries == CREATE_TRIES)
			return fail(errno, "queue pair");
	if (qpair.result < 0)
		return refused(qpair.result, "queue pair");
	*handle = from_dev(qpair.handle);
	map = mmap(NULL, qpair.size, PROT_READ | PROT_WRITE, MAP_SHARED, device, (off_t)qpair.offset);
	if (map == MAP_FAILED || madvise(map, qpair.size, MADV_DONTFORK)) {
		int error = errno;

		if (map != MAP_FAILED)
			munmap(map, qpair.size);
		guest_dev_qpair_destroy(device, *handle);
		return lib_fail(VMCI_ERROR_NO_MEM, "mmap of a queue pair: %s", strerror(error));
	}
	*ret_map = map;
	*ret_size = qpair.size;
	return qpair.result == VMCI_SUCCESS_QUEUEPAIR_ATTACH || flags & VMCI_QP_ATTACH_ONLY;
}

int guest_dev_qpair_state(int device, struct vmci_handle handle, uint32_t *ret_peer)
{
	struct vmci_dev_qpair_state state = { .handle = to_dev(handle) };

	if (ioctl(device, VMCI_DEV_QPAIR_STATE, &state) < 0)
		return VMCI_QPAIR_LEFT;
	*ret_peer = state.peer;
	return state.state == VMCI_DEV_QPAIR_WAITING ? VMCI_QPAIR_WAITING :
	       state.state == VMCI_DEV_QPAIR_ATTACHED ? VMCI_QPAIR_ATTACHED : VMCI_QPAIR_LEFT;
}

void guest_dev_qpair_destroy(int device, struct vmci_handle handle)
{
	struct vmci_dev_qpair_state state = { .handle = to_dev(handle) };

	ioctl(device, VMCI_DEV_QPAIR_DESTROY, &state);
}

/* ----- doorbells */

int guest_dev_bell_create(int device, uint32_t rid, int eventfd, struct vmci_handle *ret_handle)
{
	struct vmci_dev_bell bell = { .handle = { VMCI_INVALID_ID, rid }, .fd = eventfd };

	if (ioctl(device, VMCI_DEV_BELL_CREATE, &bell) < 0)
		return fail(errno, "doorbell");
	*ret_handle = from_dev(bell.handle);
	return VMCI_SUCCESS;
}

void guest_dev_bell_destroy(int device, struct vmci_handle handle)
{
	struct vmci_dev_bell bell = { .handle = to_dev(handle) };

	ioctl(device, VMCI_DEV_BELL_DESTROY, &bell);
}

int guest_dev_bell_ring(int device, struct vmci_handle handle)
{
	struct vmci_dev_bell bell = { .handle = to_dev(handle) };

	if (ioctl(device, VMCI_DEV_BELL_RING, &bell) < 0)
		return fail(errno, "ring");
	return bell.result < 0 ? refused(bell.result, "ring") : VMCI_SUCCESS;
}

/* ----- events */

int guest_dev_subscribe(int device, bool on)
{
	struct vmci_dev_subscribe subscribe = { .events = on ? EVENTS : 0 };
	struct vmci_event event;

	/* What was not read is of no interest any more. */
	while (guest_dev_event(device, &event) >= 0)
		;
	return ioctl(device, VMCI_DEV_EVENT_SUBSCRIBE, &subscribe) < 0 ? fail(errno, "events") : VMCI_SUCCESS;
}

int guest_dev_event(int device, struct vmci_event *ret_event)
{
	struct vmci_dev_event event = { 0 };

	if (ioctl(device, VMCI_DEV_EVENT_READ, &event) < 0)
		return errno == EAGAIN ? VMCI_ERROR_WOULD_BLOCK : fail(errno, "events");
	*ret_event = (struct vmci_event){
		.id = event.event,
		.context = event.context,
		.handle = from_dev(event.handle),
	};
	return VMCI_SUCCESS;
}
