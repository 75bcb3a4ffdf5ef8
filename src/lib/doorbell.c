/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A doorbell is an eventfd that its owner makes. The broker hands copies to those who may ring it, and has no part in
 * the ringing: what is open goes on without it.
 *
 * In a guest with /dev/vmci it is the kernel that adds to the eventfd, and that rings.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/fd.h"
#include "lib/gate.h"
#include "lib/guest_dev.h"
#include "lib/lib.h"
#include "lib/nudge.h"

/**
 * struct vmci_doorbell - one's own
 * @is_known: a broker has granted it; under the membership's lock
 * @is_lost:  a new broker has refused it: nobody new can find it
 * @device:   /dev/vmci, or -1
 */
struct vmci_doorbell {
	struct lib_object object;
	struct vmci *vmci;
	struct lib_gate gate;
	int fd;
	struct vmci_handle handle;
	uint8_t token[FAB_TOKEN_SIZE];
	bool is_known;
	atomic_bool is_lost;
	int device;
};

/* @fd: of the doorbell; -1: @device rings */
struct vmci_ringer {
	struct vmci *vmci;
	int device;
	int fd;
	struct vmci_handle handle;
};

static struct vmci_doorbell *of_object(struct lib_object *object)
{
	return (struct vmci_doorbell *)((char *)object - offsetof(struct vmci_doorbell, object));
}

static int resume(struct lib_object *object, struct fab_client *client)
{
	struct vmci_doorbell *doorbell = of_object(object);
	struct fab_msg reply, request = {
		.type = FAB_BELL_CREATE,
		.flags = FAB_F_RESUME,
		.handle = { .resource = doorbell->handle.resource },
		.fd = { doorbell->fd },
		.n_fds = 1,
	};
	int r;

	if (!doorbell->is_known)
		return 0;
	memcpy(request.token, doorbell->token, sizeof(request.token));
	r = lib_resume_call(client, &request, &reply);
	if (r == -ECONNRESET)
		return r;
	if (r) {
		doorbell->is_known = false;
		atomic_store(&doorbell->is_lost, true);
		lib_gate_wake(&doorbell->gate);
		return r;
	}
	memcpy(doorbell->token, reply.token, sizeof(doorbell->token));
	fab_drop(&reply);
	return 0;
}

static const struct lib_object_ops doorbell_ops = { .resume = resume };

static int take_created(struct fab_msg *reply, void *arg)
{
	struct vmci_doorbell *doorbell = arg;

	doorbell->handle = reply->handle;
	memcpy(doorbell->token, reply->token, sizeof(doorbell->token));
	doorbell->is_known = true;
	return 0;
}

/* Make it at the broker, or in a guest, at the kernel. Return: 0; VMCI_ERROR_* */
static int create(struct vmci_doorbell *doorbell, uint32_t rid)
{
	struct fab_msg request = { .type = FAB_BELL_CREATE, .handle = { .resource = rid }, .n_fds = 1 };
	int r;

	if (doorbell->device >= 0)
		return guest_dev_bell_create(doorbell->device, rid, doorbell->fd, &doorbell->handle);
	request.fd[0] = doorbell->fd;
	lib_add(doorbell->vmci, &doorbell->object);
	r = lib_call(doorbell->vmci, &request, true, take_created, doorbell);
	if (r)
		lib_del(doorbell->vmci, &doorbell->object);
	return r;
}

int vmci_doorbell_open(struct vmci *vmci, uint32_t rid, struct vmci_doorbell **ret_doorbell)
{
	struct vmci_doorbell *doorbell;
	int r = lib_usable(vmci);

	if (r)
		return lib_where(r, "vmci_doorbell_open");
	doorbell = calloc(1, sizeof(*doorbell));
	if (!doorbell)
		return lib_fail(VMCI_ERROR_NO_MEM, "vmci_doorbell_open: out of memory");
	doorbell->vmci = vmci;
	doorbell->object.ops = &doorbell_ops;
	atomic_init(&doorbell->is_lost, false);
	doorbell->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (doorbell->fd < 0) {
		r = lib_fail(VMCI_ERROR_NO_RESOURCES, "vmci_doorbell_open: eventfd: %s", strerror(errno));
		free(doorbell);
		return r;
	}
	lib_gate_init(&doorbell->gate);
	doorbell->device = lib_device(vmci);
	r = create(doorbell, rid);
	if (r) {
		if (rid == VMCI_INVALID_ID)
			lib_where(r, "vmci_doorbell_open: context %u", vmci_cid(vmci));
		else
			lib_where(r, "vmci_doorbell_open: %u:%u", vmci_cid(vmci), rid);
		lib_gate_done(&doorbell->gate, false);
		fd_close(&doorbell->fd);
		free(doorbell);
		return r;
	}
	*ret_doorbell = doorbell;
	return 0;
}

struct vmci_doorbell *vmci_doorbell_close(struct vmci_doorbell *doorbell)
{
	struct fab_msg request = { .type = FAB_BELL_DESTROY };
	bool is_forked;

	if (!doorbell)
		return NULL;
	is_forked = lib_is_forked(doorbell->vmci);
	if (doorbell->device < 0)
		lib_del(doorbell->vmci, &doorbell->object);
	else if (!is_forked)
		guest_dev_bell_destroy(doorbell->device, doorbell->handle);
	lib_gate_shut(&doorbell->gate, is_forked);
	if (!is_forked && doorbell->is_known) {
		lib_forget(doorbell->vmci, doorbell->handle);
		request.handle = doorbell->handle;
		lib_tell(doorbell->vmci, &request);
	}
	fd_close(&doorbell->fd);
	lib_gate_done(&doorbell->gate, is_forked);
	free(doorbell);
	return NULL;
}

struct vmci_handle vmci_doorbell_handle(const struct vmci_doorbell *doorbell)
{
	return doorbell->handle;
}

int vmci_doorbell_fd(const struct vmci_doorbell *doorbell)
{
	return doorbell->fd;
}

/**
 * wait_inside() - wait for a ring, with the gate entered
 *
 * Return: as vmci_doorbell_wait()
 */
static int64_t wait_inside(struct vmci_doorbell *doorbell, struct lib_deadline deadline)
{
	uint64_t count;
	struct iovec iov = { .iov_base = &count, .iov_len = sizeof(count) };
	int r;

	for (;;) {
		/* Its flags are shared with whoever may ring it, so O_NONBLOCK says nothing. */
		if (preadv2(doorbell->fd, &iov, 1, -1, RWF_NOWAIT) == sizeof(count))
			return count > INT64_MAX ? INT64_MAX : (int64_t)count;
		if (errno == EINTR)
			continue;
		if (errno != EAGAIN)
			return lib_fail(VMCI_ERROR_NO_HANDLE, "read: %s", strerror(errno));
		if (atomic_load(&doorbell->is_lost))
			return lib_fail(VMCI_ERROR_NO_HANDLE, "a new broker has refused the doorbell");
		r = lib_gate_wait(&doorbell->gate, doorbell->fd, deadline);
		if (r)
			return r;
	}
}

int64_t vmci_doorbell_wait(struct vmci_doorbell *doorbell, int timeout_ms)
{
	int64_t n = lib_usable(doorbell->vmci);

	if (!n)
		n = lib_gate_enter(&doorbell->gate);
	if (!n) {
		n = wait_inside(doorbell, lib_deadline(timeout_ms));
		lib_gate_leave(&doorbell->gate);
	}
	if (n < 0)
		lib_where((int)n, "vmci_doorbell_wait");
	return n;
}

/* --- Ringing ------------------------------------------------------------------------------------------------ */

/**
 * is_eventfd() - is it one? What is none could make us wait, or raise a signal, whenever its owner likes.
 */
static bool is_eventfd(int fd)
{
	static const char kind[] = "anon_inode:[eventfd]";
	char path[32], target[sizeof(kind)] = "";

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	/* Without /proc we have to believe the broker, which looks, too. */
	if (readlink(path, target, sizeof(target) - 1) < 0)
		return true;
	return !strcmp(target, kind);
}

static int take_opened(struct fab_msg *reply, void *arg)
{
	struct vmci_ringer *ringer = arg;
	int flags = fcntl(reply->fd[0], F_GETFL);

	if (!is_eventfd(reply->fd[0]) || flags < 0 || fcntl(reply->fd[0], F_SETFL, flags | O_NONBLOCK))
		return lib_fail(VMCI_ERROR_UNAVAILABLE, "what its owner has put there is no doorbell");
	ringer->fd = fd_take(&reply->fd[0]);
	return 0;
}

int vmci_ringer_open(struct vmci *vmci, struct vmci_handle handle, struct vmci_ringer **ret_ringer)
{
	struct fab_msg request = { .type = FAB_BELL_OPEN, .handle = handle };
	struct vmci_ringer *ringer = calloc(1, sizeof(*ringer));
	int r;

	if (!ringer)
		return lib_fail(VMCI_ERROR_NO_MEM, "vmci_ringer_open: out of memory");
	ringer->vmci = vmci;
	ringer->fd = -1;
	ringer->handle = handle;
	ringer->device = lib_device(vmci);
	if (ringer->device >= 0) {
		/* Who is there shows when it is rung. */
		r = lib_usable(vmci);
		if (r) {
			free(ringer);
			return r;
		}
		*ret_ringer = ringer;
		return 0;
	}
	r = lib_call(vmci, &request, true, take_opened, ringer);
	if (r) {
		free(ringer);
		return lib_where(r, "vmci_ringer_open: %u:%u", handle.context, handle.resource);
	}
	*ret_ringer = ringer;
	return 0;
}

struct vmci_ringer *vmci_ringer_close(struct vmci_ringer *ringer)
{
	if (ringer)
		fd_close(&ringer->fd);
	free(ringer);
	return NULL;
}

int vmci_ringer_ring(struct vmci_ringer *ringer)
{
	const uint64_t one = 1;
	ssize_t n;

	if (lib_is_forked(ringer->vmci))
		return lib_where(lib_usable(ringer->vmci), "vmci_ringer_ring");
	/* What was written before is seen by who hears it, also on machines that reorder. */
	atomic_thread_fence(memory_order_seq_cst);
	if (ringer->device >= 0)
		return guest_dev_bell_ring(ringer->device, ringer->handle);
	if (!nudge(ringer->fd))
		return 0;
	/*
	 * Flags and count are shared with its owner, who could make this wait by both. What is full has been rung. (An owner
	 * that fills it between this and the write keeps a program waiting that wanted something of it, where nudge() is
	 * not possible.)
	 */
	if (poll(&(struct pollfd){ .fd = ringer->fd, .events = POLLOUT }, 1, 0) == 0)
		return 0;
	do
		n = write(ringer->fd, &one, sizeof(one));
	while (n < 0 && errno == EINTR);
	/* So often rung and never heard that the count is full: it is readable all the same. */
	if (n < 0 && errno != EAGAIN)
		return lib_fail(VMCI_ERROR_UNAVAILABLE, "vmci_ringer_ring: %u:%u: %s", ringer->handle.context,
				ringer->handle.resource, strerror(errno));
	return 0;
}
