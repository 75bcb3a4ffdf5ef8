/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * VMCI Sockets over the fabric: the calls of Linux's AF_VSOCK, for descriptors that are AF_UNIX sockets with a mark
 * or a name of the fabric's. Theory: sock.c. What each call does is what vmci_sockets(7) says; here is only what its
 * C has of its own.
 *
 * Results are as system calls have them: 0 or more, or a negative errno. Any thread. Every call that has a descriptor
 * returns -ENOENT, and has done nothing, when the descriptor is not a socket of ours, or none at all: it is the
 * kernel's then. Addresses are struct sockaddr_vm.
 */
#ifndef SOCK_SOCK_H
#define SOCK_SOCK_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include "sock/mark.h"

/* What socket(2) and others say of us. */
#define SOCK_FAMILY 40

/* Who serves AF_VSOCK here: sock_who(). */
enum sock_who {
	SOCK_WHO_NOBODY,
	SOCK_WHO_FABRIC,	/* vmcid, and so this library */
	/*
	 * This is a guest with a VMCI device and its driver, no runtime directory is named, and no vmcid has ever
	 * answered: let the kernel do it.
	 */
	SOCK_WHO_KERNEL,
};

/* sock_who() - @ret_error: why nobody does: -ENODEV, or another negative errno */
enum sock_who sock_who(int *ret_error);

/**
 * struct sock - a socket of ours
 * @mark: defaults, if it has none
 */
struct sock {
	int fd;
	struct mark mark;
	bool is_marked;
};

/* sock_look() - is it ours? 0; -ENOENT */
int sock_look(int fd, struct sock *ret_sock);

/* sock_has_datagrams() - may this process have a datagram socket of ours? Those are what read(2) needs us for. Fast. */
bool sock_has_datagrams(void);

/* sock_find_datagrams() - look through all descriptors for them: what we have inherited */
void sock_find_datagrams(void);

/* sock_received() - descriptors came with @msg: are datagram sockets among them? */
void sock_received(const struct msghdr *msg);

int sock_socket(int type, int protocol);
int sock_bind(int fd, const struct sockaddr *address, socklen_t len);
/* -EINPROGRESS, -EALREADY: of a guest. -EINTR: likewise; it goes on */
int sock_connect(int fd, const struct sockaddr *address, socklen_t len);
int sock_getsockname(int fd, struct sockaddr *ret_address, socklen_t *len);
int sock_getpeername(int fd, struct sockaddr *ret_address, socklen_t *len);
int sock_shutdown(int fd, int how);

/*
 * sock_accept() - @accept4 is the kernel's, which may wait, and be cancelled.
 */
int sock_accept(int fd, struct sockaddr *ret_address, socklen_t *len, int flags,
		int (*accept4)(int, struct sockaddr *, socklen_t *, int));

/* sock_getsockopt(), sock_setsockopt() - -ENOENT also: an option that the kernel knows better */
int sock_getsockopt(int fd, int level, int name, void *ret_value, socklen_t *len);
int sock_setsockopt(int fd, int level, int name, const void *value, socklen_t len);

/*
 * sock_sendmsg(), sock_recvmsg() - of datagram sockets; of streams, -ENOENT where the kernel does the right thing.
 * @recvmsg as in sock_accept()
 */
ssize_t sock_sendmsg(int fd, const struct msghdr *msg, int flags);
ssize_t sock_recvmsg(int fd, struct msghdr *msg, int flags, ssize_t (*recvmsg)(int, struct msghdr *, int));

/* sock_open_device() - a descriptor that stands for /dev/vsock, for sock_ioctl() */
int sock_open_device(int flags);

/* sock_ioctl() - 0; -ENOENT also: a request that is none of AF_VSOCK's */
int sock_ioctl(int fd, unsigned long request, void *arg);

/**
 * struct sock_peer - who is at the other end
 * @uid, @gid, @pid: of a program; of a VM: of vmcid
 * @vm: name of the VM; "": a program
 */
struct sock_peer {
	uint32_t cid;
	uint32_t port;
	uid_t uid;
	gid_t gid;
	pid_t pid;
	char vm[65];
};

/* sock_peer() - of a connected stream. 0; -ENOTCONN; -EPERM: it was not vmcid that connected it; -EOPNOTSUPP */
int sock_peer(int fd, struct sock_peer *ret_peer);

/* What the files of this folder share. */

/* sock_bind_error() - what bind(2) says for a negative @status of STREAM_BIND and DG_BIND: a negative errno */
int sock_bind_error(int32_t status);

/*
 * sock_connecting() - is the stream with MARK_CONNECTING or MARK_FAILED connected by now? For others: 0
 *
 * Return: 0: it is; -EINPROGRESS: not yet; another negative errno: it has failed, and what was not told before is told
 * now, so next time it is -ENOTCONN
 */
int sock_connecting(struct sock *sock);

/* sock_own() - a socket that is neither bound nor connected, and another user's, is replaced by our own. 0; -errno */
int sock_own(const struct sock *sock);

/* sock_address() - check and read a struct sockaddr_vm. 0; -EINVAL, -EFAULT */
int sock_address(const struct sockaddr *address, socklen_t len, struct vmci_handle *ret_handle);

/* sock_put_address() - write one, as much as fits. 0; -EFAULT, -EINVAL */
int sock_put_address(struct vmci_handle handle, struct sockaddr *ret_address, socklen_t *len);

/* sock_note_datagrams() - there is one */
void sock_note_datagrams(void);

/* dgram.c */
int sock_dgram_bind(const struct sock *sock, struct vmci_handle wish);
int sock_dgram_connect(const struct sock *sock, const struct sockaddr *address, socklen_t len);
/* Its own address; port VMCI_INVALID_ID: not bound. 0 or a negative errno */
int sock_dgram_self(const struct sock *sock, struct vmci_handle *ret_self);

#endif /* SOCK_SOCK_H */
