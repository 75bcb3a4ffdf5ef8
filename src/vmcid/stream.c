/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Streams: the sockets of programs, and of guests, that are bound to ports and connected. Who may is the broker's
 * business, how it is done that of port.c. Fabric protocol, 13.
 */
#include <stdio.h>

#include "base/fd.h"
#include "fabric/stream.h"
#include "peer_priv.h"
#include "port.h"
#include "vm.h"

int32_t stream_bind(struct call *call)
{
	struct peer *peer = call->peer;
	struct vmci_handle own;
	int32_t r;

	if (peer->is_device)
		return VMCI_ERROR_INVALID_ARGS;
	r = brk_stream_own(call->client, call->msg->handle, &own);
	if (r < 0)
		return r;
	r = ports_bind(peer->server->ports, call->thing->fd[0], peer->uid, brk_client_is_trusted(call->client),
		       own.context, &own.resource);
	if (r < 0)
		return peer_no_waiting(peer, r);
	call->reply.handle = own;
	return 0;
}

/* How the name of what @peer connects begins. */
static struct fab_address address_of(const struct peer *peer, struct vmci_handle own)
{
	struct fab_address self = { .context = own.context, .port = own.resource };

	if (peer->is_device) {
		self.kind = FAB_ADDRESS_VM;
		snprintf(self.vm, sizeof(self.vm), "%s", vm_name(peer->vm));
	} else {
		self.kind = FAB_ADDRESS_PROGRAM;
		self.uid = peer->uid;
		self.gid = peer->gid;
		self.pid = peer->pid;
	}
	return self;
}

/*
 * A guest is asked to accept what is connected to @end, which is closed in any case. @peer is NULL: the socket says
 * whether it does; @stopper: bytes of ports_stop(), of a program's. As ask_put()
 */
static int32_t ask_stream(struct peer *peer, struct brk_client *device, struct vmci_handle source,
			  struct vmci_handle to, uint64_t ms, int end, uint32_t stopper)
{
	struct fab_msg msg = { .type = FAB_STREAM_CONNECT, .handle = source, .other = to, .fd = { end }, .n_fds = 1 };
	struct ask *new;
	int32_t r;

	msg.size0 = ms;
	msg.size1 = stopper;
	if (!peer)
		msg.flags = FAB_F_PENDING;
	r = ask_put(peer, device, &msg, ms * 1000, &new);
	if (r == WAITS)
		new->source = source;
	fd_close(&end);
	return r;
}

static uint64_t patience(uint64_t wish)
{
	if (!wish)
		return FAB_CONNECT_DEFAULT_MS;
	return wish < FAB_CONNECT_MAX_MS ? wish : FAB_CONNECT_MAX_MS;
}

/*
 * Who listens there? To whom it may make a difference besides whether he is connected: the restricted, and who wants
 * to get to the context of others, is told nothing of a path whose socket has gone.
 */
static enum brk_listener look(const struct peer *peer, struct vmci_handle to)
{
	const struct ports *ports = peer->server->ports;

	if (!brk_client_is_restricted(peer->client) &&
	    (brk_client_is_trusted(peer->client) || to.context == VMCI_CID_HOST))
		return ports_glance(ports, to.context, to.resource);
	return ports_look(ports, to.context, to.resource);
}

/*
 * connect_stream() - connect @fd, of @self, to @to, if @peer may
 *
 * Return: as brk_stream_connect() and ports_connect(); BRK_ASK: @ret_end goes to @ret_device
 */
static int32_t connect_stream(struct peer *peer, int fd, const struct fab_address *self, struct vmci_handle to,
			      struct brk_client **ret_device, int *ret_end)
{
	struct ports *ports = peer->server->ports;
	int32_t r = brk_stream_connect(peer->client, to, look(peer, to), ret_device);

	if (!r)
		return peer_no_waiting(peer, ports_connect(ports, fd, self, to.context, to.resource));
	if (r != BRK_ASK)
		return r;
	r = peer_no_waiting(peer, ports_join(ports, fd, self, to.context, to.resource, ret_end));
	return r ? r : BRK_ASK;
}

int32_t stream_connect(struct call *call)
{
	struct peer *peer = call->peer;
	struct vmci_handle own, to = call->msg->other;
	struct brk_client *device;
	struct fab_address self;
	int fd = call->thing->fd[0], end;
	uint32_t stopper = 0;
	int32_t r;

	if (peer->is_device)
		return VMCI_ERROR_INVALID_ARGS;
	r = brk_stream_own(call->client, call->msg->handle, &own);
	if (r < 0)
		return r;
	self = address_of(peer, own);
	r = ports_source(peer->server->ports, fd, &self);
	own.resource = self.port;
	/* Once more, for the port that it has. */
	if (!r)
		r = brk_stream_own(call->client, own, &own);
	if (!r)
		r = connect_stream(peer, fd, &self, to, &device, &end);
	if (r == BRK_ASK) {
		if (call->msg->flags & FAB_F_PENDING)
			stopper = ports_stop(fd);
		r = ask_stream(stopper ? NULL : peer, device, own, to, patience(call->msg->size0), end, stopper);
		if (stopper)
			call->reply.flags = FAB_F_PENDING;
	}
	/*
	 * The guest's device sees the program's end only if there is no copy of it here. Else it can wait: who
	 * listens is awake by now, and finds the first bytes the sooner, the sooner who connects has his reply.
	 */
	if (r == WAITS || stopper)
		call->thing = thing_free(call->thing);
	call->reply.handle = own;
	return r;
}

int32_t stream_open(struct call *call)
{
	struct peer *peer = call->peer;
	struct vmci_handle own, to = call->msg->other;
	struct brk_client *device;
	struct fab_address self;
	int fd, end;
	int32_t r;

	if (!peer->is_device)
		return VMCI_ERROR_INVALID_ARGS;
	r = brk_stream_own(call->client, call->msg->handle, &own);
	if (r < 0)
		return r;
	self = address_of(peer, own);
	fd = ports_socket();
	if (fd < 0)
		return VMCI_ERROR_NO_RESOURCES;
	r = connect_stream(peer, fd, &self, to, &device, &end);
	if (r == BRK_ASK) {
		call->reply.flags = FAB_F_PENDING;
		r = ask_stream(NULL, device, own, to, FAB_CONNECT_DEFAULT_MS, end, 0);
	}
	if (r >= 0) {
		call->reply.fd[0] = fd;
		call->reply.n_fds = 1;
		outbox_reply(peer, call->msg, 0, &call->reply);
		r = REPLIED;
	}
	fd_close(&fd);
	return r;
}
