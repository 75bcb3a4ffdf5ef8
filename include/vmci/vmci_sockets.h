/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * vmci/vmci_sockets.h - VMCI Sockets: datagrams and streams between virtual machines, their host, and programs
 *
 * Source compatible with the header of the same name of VMware's products: the functions VMCISock_*(), which are all
 * inline, the names of options, and struct sockaddr_vm. A program that includes nothing else of ours needs no
 * library. It runs
 *	in a guest	over the family of the guest's own kernel
 *	on a host	under vmci-run(1), or linked with libvmci-preload
 * and VMCISock_GetAFValue() is -1 where it would be neither.
 *
 * A program that wants none of the C library's functions replaced is linked with libvmci, and calls vmci_socket() and
 * so on. Semantics: vmci_sockets(7), vmci_socket(3).
 */
#ifndef VMCI_VMCI_SOCKETS_H
#define VMCI_VMCI_SOCKETS_H

#include <fcntl.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#if defined(__has_include)
#if __has_include(<linux/vm_sockets.h>)
#include <linux/vm_sockets.h>
#define VMCI_SOCKETS_HAS_LINUX 1
#endif
#endif

#ifdef __cplusplus
extern "C" {
#endif

#ifndef VMCI_API
#define VMCI_API __attribute__((visibility("default")))
#endif

/* --- Addresses and options ------------------------------------------------------------------------------------ */

#ifndef VMCI_SOCKETS_HAS_LINUX
struct sockaddr_vm {
	sa_family_t svm_family;
	unsigned short svm_reserved1;
	unsigned int svm_port;
	unsigned int svm_cid;
	uint8_t svm_flags;
	unsigned char svm_zero[3];
};
#endif

#ifndef VMADDR_CID_ANY
#define VMADDR_CID_ANY -1U
#endif
#ifndef VMADDR_PORT_ANY
#define VMADDR_PORT_ANY -1U
#endif
#ifndef VMADDR_CID_HYPERVISOR
#define VMADDR_CID_HYPERVISOR 0
#endif
#ifndef VMADDR_CID_LOCAL
#define VMADDR_CID_LOCAL 1
#endif
#ifndef VMADDR_CID_HOST
#define VMADDR_CID_HOST 2
#endif

/* Options at the level of the family; 64-bit values. Those that are not listed in vmci_sockets(7) are ENOPROTOOPT. */
#define SO_VMCI_BUFFER_SIZE 0
#define SO_VMCI_BUFFER_MIN_SIZE 1
#define SO_VMCI_BUFFER_MAX_SIZE 2
#define SO_VMCI_PEER_HOST_VM_ID 3
#define SO_VMCI_SERVICE_LABEL 4
#define SO_VMCI_TRUSTED 5
#define SO_VMCI_CONNECT_TIMEOUT 6
#define SO_VMCI_NONBLOCK_TXRX 7
/* Linux has SO_VM_SOCKETS_CONNECT_TIMEOUT_NEW under the same number; so have we. */
#define SO_VMCI_DISCONNECT_CAUSE 8
#define SO_VMCI_PEER_LIMIT_RATE 9
#define SO_VMCI_PEER_PRIV_LIMIT 10
#define SO_VMCI_PEER_BURST_LEVEL 11

#define VMCI_SOCKETS_DISCONNECT_REGULAR 0
#define VMCI_SOCKETS_DISCONNECT_VMOTION 1

/* --- Version -------------------------------------------------------------------------------------------------- */

#define VMCI_SOCKETS_INVALID_VERSION -1U
#define VMCI_SOCKETS_VERSION_EPOCH(_v) (((_v) & 0xff000000u) >> 24)
#define VMCI_SOCKETS_VERSION_MAJOR(_v) (((_v) & 0x00ff0000u) >> 16)
#define VMCI_SOCKETS_VERSION_MINOR(_v) ((_v) & 0x0000ffffu)

/* --- The device ----------------------------------------------------------------------------------------------- */

#define VMCI_SOCKETS_DEVICE "/dev/vsock"
#define IOCTL_VMCI_SOCKETS_VERSION 1972
#define IOCTL_VMCI_SOCKETS_GET_AF_VALUE 1976
#define IOCTL_VMCI_SOCKETS_GET_LOCAL_CID 1977
#define IOCTL_VMCI_SOCKETS_UUID_2_CID 1991

struct uuid_2_cid {
	unsigned int u_context_id;
	unsigned int u_pad;
	char u_string[128];
};

/* Programs in strict C have no O_CLOEXEC. */
#ifdef O_CLOEXEC
#define VMCI_SOCKETS_O_CLOEXEC O_CLOEXEC
#else
#define VMCI_SOCKETS_O_CLOEXEC 0
#endif

#define VMCI_SOCKETS_INLINE static inline __attribute__((unused))

/* A question to the device. 0, or -1 and errno */
VMCI_SOCKETS_INLINE int VMCISock_Ask_(unsigned long request, void *arg)
{
	int fd = open(VMCI_SOCKETS_DEVICE, O_RDONLY | VMCI_SOCKETS_O_CLOEXEC);
	int r;

	if (fd < 0)
		return -1;
	r = ioctl(fd, request, arg);
	close(fd);
	return r < 0 ? -1 : 0;
}

/*
 * VMCISock_Version() - epoch, major and minor in one word, or VMCI_SOCKETS_INVALID_VERSION. Linux's own driver says
 * none.
 */
VMCI_SOCKETS_INLINE unsigned int VMCISock_Version(void)
{
	unsigned int version;

	return VMCISock_Ask_(IOCTL_VMCI_SOCKETS_VERSION, &version) ? VMCI_SOCKETS_INVALID_VERSION : version;
}

/**
 * VMCISock_GetAFValueFd() - the address family for socket(2)
 * @fd: written on success: -1, or a descriptor that VMCISock_ReleaseAFValueFd() takes; NULL is fine
 *
 * No socket is made to find out, unless VMware's driver is there to make it.
 * Return: the family, valid until then; -1: there are no VMCI Sockets here
 */
VMCI_SOCKETS_INLINE int VMCISock_GetAFValueFd(int *fd)
{
	int family = -1, probe;

	if (VMCISock_Ask_(IOCTL_VMCI_SOCKETS_GET_AF_VALUE, &family)) {
		family = -1;
		if (!access("/sys/bus/pci/drivers/vmw_vmci", F_OK)) {
			probe = socket(40, SOCK_DGRAM | SOCK_CLOEXEC, 0);
			if (probe >= 0) {
				close(probe);
				family = 40;
			}
		}
	}
	if (family >= 0 && fd)
		*fd = -1;
	return family;
}

/* VMCISock_GetAFValue() - the same, for as long as the process lives */
VMCI_SOCKETS_INLINE int VMCISock_GetAFValue(void)
{
	return VMCISock_GetAFValueFd(NULL);
}

VMCI_SOCKETS_INLINE void VMCISock_ReleaseAFValueFd(int fd)
{
	if (fd >= 0)
		close(fd);
}

/* VMCISock_GetLocalCID() - the context id: 2 on a host; VMADDR_CID_ANY: there is none */
VMCI_SOCKETS_INLINE unsigned int VMCISock_GetLocalCID(void)
{
	unsigned int cid;

	return VMCISock_Ask_(IOCTL_VMCI_SOCKETS_GET_LOCAL_CID, &cid) ? VMADDR_CID_ANY : cid;
}

/**
 * VMCISock_Uuid2ContextId() - of the running VM whose definition has this uuid.bios or uuid.location
 * @uuid: as in a VM's .vmx file, "56 4d 07 d8 cc d5 c4 0d-98 44 dc 1e 8f e0 da f3", or as in RFC 4122
 *
 * VMADDR_CID_ANY: not known: no such VM, more than one, or none that the caller may have to do with. Guests know none.
 */
VMCI_SOCKETS_INLINE unsigned int VMCISock_Uuid2ContextId(const char *uuid)
{
	struct uuid_2_cid question = { VMADDR_CID_ANY, 0, { 0 } };

	for (unsigned int i = 0; i < sizeof(question.u_string) - 1 && uuid[i]; i++)
		question.u_string[i] = uuid[i];
	return VMCISock_Ask_(IOCTL_VMCI_SOCKETS_UUID_2_CID, &question) ? VMADDR_CID_ANY : question.u_context_id;
}

/* --- Calls of libvmci ----------------------------------------------------------------------------------------- */

/*
 * Each is the call of the same name without vmci_, for every family: AF_VSOCK is VMCI Sockets, the rest the C
 * library's. The descriptors are ordinary ones: poll(2), listen(2), close(2), fcntl(2) and dup(2) are as ever. Any
 * thread.
 */
VMCI_API int vmci_socket(int domain, int type, int protocol);
VMCI_API int vmci_socketpair(int domain, int type, int protocol, int ret_fds[2]);
VMCI_API int vmci_bind(int fd, const struct sockaddr *address, socklen_t len);
VMCI_API int vmci_connect(int fd, const struct sockaddr *address, socklen_t len);
VMCI_API int vmci_accept(int fd, struct sockaddr *ret_address, socklen_t *len);
VMCI_API int vmci_accept4(int fd, struct sockaddr *ret_address, socklen_t *len, int flags);
VMCI_API int vmci_shutdown(int fd, int how);
VMCI_API int vmci_getsockname(int fd, struct sockaddr *ret_address, socklen_t *len);
VMCI_API int vmci_getpeername(int fd, struct sockaddr *ret_address, socklen_t *len);
VMCI_API int vmci_getsockopt(int fd, int level, int name, void *ret_value, socklen_t *len);
VMCI_API int vmci_setsockopt(int fd, int level, int name, const void *value, socklen_t len);
VMCI_API ssize_t vmci_send(int fd, const void *buf, size_t size, int flags);
VMCI_API ssize_t vmci_sendto(int fd, const void *buf, size_t size, int flags, const struct sockaddr *address,
			     socklen_t len);
VMCI_API ssize_t vmci_sendmsg(int fd, const struct msghdr *msg, int flags);
VMCI_API ssize_t vmci_write(int fd, const void *buf, size_t size);
VMCI_API ssize_t vmci_writev(int fd, const struct iovec *iov, int n);
VMCI_API ssize_t vmci_recv(int fd, void *buf, size_t size, int flags);
VMCI_API ssize_t vmci_recvfrom(int fd, void *buf, size_t size, int flags, struct sockaddr *ret_address, socklen_t *len);
VMCI_API ssize_t vmci_recvmsg(int fd, struct msghdr *msg, int flags);
VMCI_API ssize_t vmci_read(int fd, void *buf, size_t size);
VMCI_API ssize_t vmci_readv(int fd, const struct iovec *iov, int n);
VMCI_API int vmci_ioctl(int fd, unsigned long request, ...);

/**
 * struct vmci_peer_id - who is at the other end of a stream
 * @uid, @gid, @pid: of a program: of who connected, or called listen(2), as vmcid and the kernel saw it; of a VM:
 * vmcid's
 * @vm: name of the VM as it is configured; "" if it is a program, or a VM that was connected to
 */
struct vmci_peer_id {
	uint32_t cid;
	uint32_t port;
	uid_t uid;
	gid_t gid;
	pid_t pid;
	char vm[65];
};

/**
 * vmci_peer() - ask who is at the other end of the connected stream @fd
 *
 * The kernel is asked, not the peer, and not vmcid. Return: 0, or -1 and errno: ENOTCONN; ENOTSOCK: not one of ours;
 * EOPNOTSUPP: a datagram socket; EPERM: connected, but not by vmcid
 */
VMCI_API int vmci_peer(int fd, struct vmci_peer_id *ret_peer);

#ifdef __cplusplus
}
#endif

#endif /* VMCI_VMCI_SOCKETS_H */
