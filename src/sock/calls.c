/* SPDX-License-Identifier: BSD-2-Clause */
/* The calls under names of our own, for programs that are linked with libvmci: <vmci/vmci_sockets.h> */
#include "vmci/vmci_sockets.h"

#define EXPORT VMCI_API
#define CALL(name) vmci_##name
#define REAL(name) name

#include "sock/calls.h"

int vmci_peer(int fd, struct vmci_peer_id *ret_peer)
{
	struct sock_peer peer;
	int r = sock_peer(fd, &peer);

	if (r)
		return (int)result(r == -ENOENT ? -ENOTSOCK : r);
	*ret_peer = (struct vmci_peer_id){
		.cid = peer.cid,
		.port = peer.port,
		.uid = peer.uid,
		.gid = peer.gid,
		.pid = peer.pid,
	};
	snprintf(ret_peer->vm, sizeof(ret_peer->vm), "%s", peer.vm);
	return 0;
}
