/* SPDX-License-Identifier: BSD-2-Clause */
#include "fabric/stream.h"

#include <errno.h>
#include <string.h>

#include "base/fd.h"

/* vmcid's own time for a guest's answer may begin a little later than ours. */
#define MARGIN_MS 1000

static int32_t call(struct fab_client *client, struct fab_msg *request, int timeout_ms, struct fab_msg *ret_reply)
{
	int r = fab_client_call(client, request, timeout_ms, ret_reply);

	if (!r)
		return ret_reply->status;
	return r == -ENOMEM ? VMCI_ERROR_NO_MEM : r == -EBADF ? VMCI_ERROR_INVALID_ARGS : VMCI_ERROR_UNAVAILABLE;
}

int32_t fab_stream_hello(struct fab_client *client, uint32_t wish, const char *label, int timeout_ms,
			 uint32_t *ret_context)
{
	struct fab_msg request = { .type = FAB_HELLO, .handle.context = wish, .size0 = FAB_VERSION }, reply;
	int32_t r;

	if (label) {
		request.data = (const uint8_t *)label;
		request.len = strnlen(label, FAB_LABEL_MAX);
	}
	r = call(client, &request, timeout_ms, &reply);
	if (r >= 0)
		*ret_context = reply.handle.context;
	return r;
}

int32_t fab_stream_bind(struct fab_client *client, int fd, uint32_t port, int timeout_ms, uint32_t *ret_port)
{
	struct fab_msg request = {
		.type = FAB_STREAM_BIND,
		.handle = handle_make(VMCI_INVALID_ID, port),
		.fd = { fd },
		.n_fds = 1,
	}, reply;
	int32_t r = call(client, &request, timeout_ms, &reply);

	if (r >= 0)
		*ret_port = reply.handle.resource;
	return r;
}

struct fab_msg fab_stream_request(int fd, uint32_t source, struct vmci_handle to, unsigned timeout_ms)
{
	return (struct fab_msg){
		.type = FAB_STREAM_CONNECT,
		.handle = handle_make(VMCI_INVALID_ID, source),
		.other = to,
		.size0 = timeout_ms,
		.fd = { fd },
		.n_fds = 1,
	};
}

int32_t fab_stream_connect(struct fab_client *client, int fd, uint32_t source, struct vmci_handle to,
			   unsigned timeout_ms, uint32_t *ret_source)
{
	struct fab_msg request = fab_stream_request(fd, source, to, timeout_ms), reply;
	unsigned most = timeout_ms ? timeout_ms : FAB_CONNECT_DEFAULT_MS;
	int32_t r;

	if (most > FAB_CONNECT_MAX_MS)
		most = FAB_CONNECT_MAX_MS;
	/* After a restart, vmcid makes everybody wait for a second besides. */
	r = call(client, &request, (int)most + 2 * MARGIN_MS, &reply);
	if (r >= 0)
		*ret_source = reply.handle.resource;
	return r;
}

int fab_stream_peer(int fd, uid_t broker, struct fab_address *ret_peer)
{
	struct sockaddr_un sun = { 0 };
	socklen_t len = sizeof(sun), own_len = sizeof(sun);
	struct fab_address peer, self;
	struct ucred cred;
	int r;

	if (getpeername(fd, (struct sockaddr *)&sun, &len))
		return -errno;
	r = fab_address_parse(&sun, len, &peer);
	if (r)
		return r;
	memset(&sun, 0, sizeof(sun));
	if (getsockname(fd, (struct sockaddr *)&sun, &own_len))
		return -errno;
	/* One end has the name of a port, the other one that of who connects. */
	r = fab_address_parse(&sun, own_len, &self);
	if (r || (self.kind == FAB_ADDRESS_PORT) == (peer.kind == FAB_ADDRESS_PORT))
		return -EINVAL;
	len = sizeof(cred);
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len))
		return -errno;
	if (peer.kind == FAB_ADDRESS_PORT) {
		peer.uid = cred.uid;
		peer.gid = cred.gid;
		peer.pid = cred.pid;
	} else if (cred.uid != broker) {
		return -EPERM;
	}
	*ret_peer = peer;
	return 0;
}

int fab_stream_self(int fd, struct fab_address *ret_self)
{
	struct sockaddr_un sun = { 0 };
	socklen_t len = sizeof(sun);

	if (getsockname(fd, (struct sockaddr *)&sun, &len))
		return -errno;
	return fab_address_parse(&sun, len, ret_self);
}
