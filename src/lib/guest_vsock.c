/* SPDX-License-Identifier: BSD-2-Clause */
/* Membership of a guest: AF_VSOCK. The one file of the library that opens such a socket, and guest.c lets it. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <linux/vm_sockets.h>

#include "base/fd.h"
#include "lib/guest.h"

static int vsock_cid(uint32_t *ret_cid)
{
	int fd = open("/dev/vsock", O_RDONLY | O_CLOEXEC);
	unsigned cid;
	int result = 0;

	if (fd < 0)
		return -errno;
	if (ioctl(fd, IOCTL_VM_SOCKETS_GET_LOCAL_CID, &cid) < 0)
		result = -errno;
	else
		*ret_cid = cid;
	fd_close(&fd);
	return result;
}

static int vsock_bind(uint32_t port, uint32_t *ret_port)
{
	struct sockaddr_vm address = { .svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_ANY, .svm_port = port };
	socklen_t len = sizeof(address);
	int fd = socket(AF_VSOCK, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return -errno;
	if (bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 ||
	    getsockname(fd, (struct sockaddr *)&address, &len) < 0) {
		int error = errno;

		fd_close(&fd);
		return -error;
	}
	*ret_port = address.svm_port;
	return fd;
}

static ssize_t vsock_send(int fd, struct vmci_handle dst, const void *data, size_t size)
{
	struct sockaddr_vm address = {
		.svm_family = AF_VSOCK,
		.svm_cid = dst.context,
		.svm_port = dst.resource,
	};
	ssize_t n = sendto(fd, data, size, MSG_DONTWAIT | MSG_NOSIGNAL, (struct sockaddr *)&address, sizeof(address));

	return n < 0 ? -errno : n;
}

static ssize_t vsock_recv(int fd, void *buf, size_t size, int flags, struct vmci_handle *ret_src, bool *ret_cut)
{
	struct sockaddr_vm address;
	struct iovec iov = { .iov_base = buf, .iov_len = size };
	struct msghdr msg = {
		.msg_name = &address,
		.msg_namelen = sizeof(address),
		.msg_iov = &iov,
		.msg_iovlen = 1,
	};
	ssize_t n;

	memset(&address, 0xff, sizeof(address));
	n = recvmsg(fd, &msg, flags);
	if (n < 0)
		return -errno;
	*ret_src = handle_make(address.svm_cid, address.svm_port);
	*ret_cut = msg.msg_flags & MSG_TRUNC;
	return n;
}

const struct guest_ports guest_vsock = {
	.name = "/dev/vsock",
	.pci_devices = GUEST_PCI_DEVICES,
	.cid = vsock_cid,
	.bind = vsock_bind,
	.send = vsock_send,
	.recv = vsock_recv,
};
