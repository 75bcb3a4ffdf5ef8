/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * DOC: Theory of operation
 *
 * An endpoint is a pair of sockets: the broker writes datagrams into one end, the *sink*, and we read them from the
 * other. We keep a copy of the sink, so that the pair outlives the broker: what has arrived is not lost, there is no
 * end of file, and the next broker is given the same sink.
 *
 * A receiver looks first how large the oldest datagram is, and takes it if it fits; the lock between the two makes
 * that one step. Waiting is done without the lock, by as many threads as there are.
 *
 * In a guest without a broker the descriptor is a socket of its own kind (lib/guest.h); there is no sink then.
 */
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "base/closer.h"
#include "base/fd.h"
#include "lib/gate.h"
#include "lib/guest.h"
#include "lib/lib.h"
#include "proto/dg.h"

/* Datagrams up to this are sent from the stack. */
#define SMALL_SIZE 2048u

/**
 * struct vmci_dgram - an endpoint
 * @sink:     our copy of what the broker writes into; -1 in a guest
 * @is_known: a broker has granted it; under the membership's lock
 * @is_lost:  a new broker has refused it
 */
struct vmci_dgram {
	struct lib_object object;
	struct vmci *vmci;
	struct lib_gate gate;
	pthread_mutex_t recv_lock;
	int fd;
	int sink;
	struct vmci_handle handle;
	uint8_t token[FAB_TOKEN_SIZE];
	bool is_known;
	atomic_bool is_lost;
};

static struct vmci_dgram *of_object(struct lib_object *object)
{
	return (struct vmci_dgram *)((char *)object - offsetof(struct vmci_dgram, object));
}

static int resume(struct lib_object *object, struct fab_client *client)
{
	struct vmci_dgram *dgram = of_object(object);
	struct fab_msg reply, request = {
		.type = FAB_DG_CREATE,
		.flags = FAB_F_RESUME,
		.handle = { .resource = dgram->handle.resource },
		.fd = { dgram->sink },
		.n_fds = 1,
	};
	int r;

	if (!dgram->is_known)
		return 0;
	memcpy(request.token, dgram->token, sizeof(request.token));
	r = lib_resume_call(client, &request, &reply);
	if (r == -ECONNRESET)
		return r;
	if (r) {
		dgram->is_known = false;
		atomic_store(&dgram->is_lost, true);
		lib_gate_wake(&dgram->gate);
		return r;
	}
	memcpy(dgram->token, reply.token, sizeof(dgram->token));
	fab_drop(&reply);
	return 0;
}

static const struct lib_object_ops dgram_ops = { .resume = resume };

static int take_created(struct fab_msg *reply, void *arg)
{
	struct vmci_dgram *dgram = arg;

	dgram->handle = reply->handle;
	memcpy(dgram->token, reply->token, sizeof(dgram->token));
	dgram->is_known = true;
	return 0;
}

/**
 * create() - make the endpoint at the broker
 *
 * Return: 0; VMCI_ERROR_*
 */
static int create(struct vmci_dgram *dgram, uint32_t rid)
{
	struct fab_msg request = { .type = FAB_DG_CREATE, .handle = { .resource = rid }, .n_fds = 1 };
	int pair[2];
	int r;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair))
		return lib_fail(VMCI_ERROR_NO_RESOURCES, "socketpair: %s", strerror(errno));
	closer_refuse(pair[0]);
	closer_refuse(pair[1]);
	dgram->fd = pair[0];
	dgram->sink = request.fd[0] = pair[1];
	lib_add(dgram->vmci, &dgram->object);
	r = lib_call(dgram->vmci, &request, true, take_created, dgram);
	if (r)
		lib_del(dgram->vmci, &dgram->object);
	return r;
}

/**
 * create_in_guest() - make the endpoint where there is no broker
 *
 * Return: 0; VMCI_ERROR_*
 */
static int create_in_guest(struct vmci_dgram *dgram, struct guest *guest, uint32_t rid)
{
	int fd = guest_socket(guest, rid, &dgram->handle.resource);

	if (fd < 0)
		return fd;
	dgram->fd = fd;
	dgram->handle.context = guest_cid(guest);
	return 0;
}

int vmci_dgram_open(struct vmci *vmci, uint32_t rid, struct vmci_dgram **ret_dgram)
{
	struct guest *guest = lib_guest(vmci);
	struct vmci_dgram *dgram;
	int r = lib_usable(vmci);

	if (r)
		return lib_where(r, "vmci_dgram_open");
	dgram = calloc(1, sizeof(*dgram));
	if (!dgram)
		return lib_fail(VMCI_ERROR_NO_MEM, "vmci_dgram_open: out of memory");
	dgram->vmci = vmci;
	dgram->object.ops = &dgram_ops;
	dgram->fd = dgram->sink = -1;
	atomic_init(&dgram->is_lost, false);
	lib_gate_init(&dgram->gate);
	pthread_mutex_init(&dgram->recv_lock, NULL);
	r = guest ? create_in_guest(dgram, guest, rid) : create(dgram, rid);
	if (r) {
		if (rid == VMCI_INVALID_ID)
			lib_where(r, "vmci_dgram_open: context %u", vmci_cid(vmci));
		else
			lib_where(r, "vmci_dgram_open: %u:%u", vmci_cid(vmci), rid);
		fd_close(&dgram->fd);
		fd_close(&dgram->sink);
		pthread_mutex_destroy(&dgram->recv_lock);
		lib_gate_done(&dgram->gate, false);
		free(dgram);
		return r;
	}
	*ret_dgram = dgram;
	return 0;
}

struct vmci_dgram *vmci_dgram_close(struct vmci_dgram *dgram)
{
	struct fab_msg request = { .type = FAB_DG_DESTROY };
	bool is_forked;

	if (!dgram)
		return NULL;
	is_forked = lib_is_forked(dgram->vmci);
	if (!lib_guest(dgram->vmci))
		lib_del(dgram->vmci, &dgram->object);
	lib_gate_shut(&dgram->gate, is_forked);
	if (!is_forked && dgram->is_known) {
		lib_forget(dgram->vmci, dgram->handle);
		request.handle = dgram->handle;
		lib_tell(dgram->vmci, &request);
	}
	fd_close(&dgram->fd);
	fd_close(&dgram->sink);
	if (!is_forked)
		pthread_mutex_destroy(&dgram->recv_lock);
	lib_gate_done(&dgram->gate, is_forked);
	free(dgram);
	return NULL;
}

struct vmci_handle vmci_dgram_handle(const struct vmci_dgram *dgram)
{
	return dgram->handle;
}

int vmci_dgram_fd(const struct vmci_dgram *dgram)
{
	return dgram->fd;
}

/* --- Sending ------------------------------------------------------------------------------------------------ */

/**
 * send_inside() - send, with the gate entered
 *
 * Return: as vmci_dgram_send()
 */
static int send_inside(struct vmci_dgram *dgram, struct vmci_handle dst, const void *data, size_t size)
{
	struct fab_msg request = { .type = FAB_DG_SEND, .len = VMCI_DG_HEADER_SIZE + size };
	uint8_t small[SMALL_SIZE];
	uint8_t *large = NULL;
	uint8_t *dg = small;
	int r;

	if (lib_guest(dgram->vmci))
		return guest_send(lib_guest(dgram->vmci), dgram->fd, dst, data, size);
	if (atomic_load(&dgram->is_lost))
		return lib_fail(VMCI_ERROR_NO_HANDLE, "a new broker has refused the endpoint");
	if (request.len > sizeof(small)) {
		dg = large = malloc(request.len);
		if (!large)
			return lib_fail(VMCI_ERROR_NO_MEM, "out of memory");
	}
	dg_build(dg, dst, dgram->handle, size);
	if (size)
		memcpy(dg + VMCI_DG_HEADER_SIZE, data, size);
	request.data = dg;
	r = lib_call(dgram->vmci, &request, false, NULL, NULL);
	free(large);
	return r < 0 ? r : (int)size;
}

int vmci_dgram_send(struct vmci_dgram *dgram, struct vmci_handle dst, const void *data, size_t size)
{
	int r = lib_usable(dgram->vmci);

	if (!r && size > VMCI_DG_MAX_PAYLOAD)
		r = lib_fail(VMCI_ERROR_INVALID_ARGS, "larger than %u", VMCI_DG_MAX_PAYLOAD);
	if (!r)
		r = lib_gate_enter(&dgram->gate);
	if (!r) {
		r = send_inside(dgram, dst, data, size);
		lib_gate_leave(&dgram->gate);
	}
	if (r < 0)
		lib_where(r, "vmci_dgram_send: %zu bytes from %u:%u to %u:%u", size, dgram->handle.context,
			  dgram->handle.resource, dst.context, dst.resource);
	return r;
}

/* --- Receiving ---------------------------------------------------------------------------------------------- */

/**
 * is_sound() - is this what the broker writes? It is trusted, but what is wrong is not passed on.
 */
static bool is_sound(const uint8_t *head, ssize_t n)
{
	return n >= (ssize_t)VMCI_DG_HEADER_SIZE && n <= (ssize_t)VMCI_DG_MAX_SIZE &&
	       dg_parse(head).payload_size == (uint64_t)n - VMCI_DG_HEADER_SIZE;
}

/**
 * take() - the oldest datagram, if it is there and fits; under the endpoint's lock
 *
 * Return: bytes of payload; VMCI_ERROR_WOULD_BLOCK; VMCI_ERROR_NO_MEM; VMCI_ERROR_NO_HANDLE
 */
static int take(struct vmci_dgram *dgram, void *buf, size_t size, struct vmci_handle *ret_src)
{
	uint8_t head[VMCI_DG_HEADER_SIZE];
	struct iovec iov[2] = { { head, sizeof(head) }, { buf, size } };
	struct msghdr hdr = { .msg_iov = iov, .msg_iovlen = 2 };
	ssize_t n;

	for (;;) {
		n = recv(dgram->fd, head, sizeof(head), MSG_PEEK | MSG_TRUNC | MSG_DONTWAIT);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return VMCI_ERROR_WOULD_BLOCK;
		if (n <= 0) {
			/* As we have the sink, there is no end of file, unless the broker made it by shutdown(2). */
			atomic_store(&dgram->is_lost, true);
			lib_gate_wake(&dgram->gate);
			return lib_fail(VMCI_ERROR_NO_HANDLE, "the broker has broken the endpoint: %s",
					n ? strerror(errno) : "end of file");
		}
		if (is_sound(head, n)) {
			size_t payload = (size_t)n - VMCI_DG_HEADER_SIZE;

			if (payload > size)
				return lib_fail(VMCI_ERROR_NO_MEM, "the datagram has %zu bytes, the buffer %zu",
						payload, size);
			iov[1].iov_len = payload;
		}
		do
			n = recvmsg(dgram->fd, &hdr, MSG_DONTWAIT);
		while (n < 0 && errno == EINTR);
		if (n >= 0 && !(hdr.msg_flags & MSG_TRUNC) && is_sound(head, n))
			break;
	}
	if (ret_src)
		*ret_src = dg_parse(head).src;
	return (int)(n - (ssize_t)VMCI_DG_HEADER_SIZE);
}

/**
 * recv_inside() - receive, with the gate entered
 *
 * Return: as vmci_dgram_recv()
 */
static int recv_inside(struct vmci_dgram *dgram, void *buf, size_t size, struct lib_deadline deadline,
		       struct vmci_handle *ret_src)
{
	struct guest *guest = lib_guest(dgram->vmci);
	int r;

	for (;;) {
		pthread_mutex_lock(&dgram->recv_lock);
		r = guest ? guest_recv(guest, dgram->fd, buf, size, ret_src) : take(dgram, buf, size, ret_src);
		pthread_mutex_unlock(&dgram->recv_lock);
		if (r != VMCI_ERROR_WOULD_BLOCK)
			return r;
		if (atomic_load(&dgram->is_lost))
			return lib_fail(VMCI_ERROR_NO_HANDLE, "a new broker has refused the endpoint");
		r = lib_gate_wait(&dgram->gate, dgram->fd, deadline);
		if (r)
			return r;
	}
}

int vmci_dgram_recv(struct vmci_dgram *dgram, void *buf, size_t size, int timeout_ms, struct vmci_handle *ret_src)
{
	int r = lib_usable(dgram->vmci);

	if (!r)
		r = lib_gate_enter(&dgram->gate);
	if (!r) {
		r = recv_inside(dgram, buf, size, lib_deadline(timeout_ms), ret_src);
		lib_gate_leave(&dgram->gate);
	}
	if (r < 0)
		lib_where(r, "vmci_dgram_recv");
	return r;
}
