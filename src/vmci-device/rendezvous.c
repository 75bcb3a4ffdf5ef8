/* SPDX-License-Identifier: BSD-2-Clause */
#include "rendezvous.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"
#include "listener.h"

int rendezvous_open(const char *path)
{
	return listener_open_packets(path);
}

int rendezvous_accept(int listener)
{
	int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	struct ucred peer;
	socklen_t len = sizeof(peer);

	if (fd < 0)
		return -errno;
	if (!getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) && (peer.uid == 0 || peer.uid == geteuid()))
		return fd;
	log_warn("fabric: somebody who is not vmcid was turned away");
	fd_close(&fd);
	return -EPERM;
}
