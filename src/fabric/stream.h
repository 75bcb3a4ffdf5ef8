/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Streams, seen by a program that is a member of the fabric: every stream is a connected UNIX socket (SOCK_STREAM, or
 * SOCK_SEQPACKET between programs), and vmcid only introduces. Nothing here starts threads, keeps descriptors or
 * remembers anything; all that is needed is a connection to vmcid that has said HELLO.
 *
 * Sockets that are passed must be of AF_UNIX, made by the client's own user (fstat(2) says so), not listening and not
 * connected. The program goes on with its descriptor; poll, accept, shutdown, dup, fork and the end of vmcid are
 * the kernel's affair. The names of sockets are addresses: fabric/address.h.
 *
 * Codes, all negative, and what a socket call would say:
 *
 *	VMCI_ERROR_INVALID_ARGS		EINVAL		the socket is not what it should be; an address that is none
 *	VMCI_ERROR_NO_ACCESS		EACCES		bind, and a source port: below 1024, and not trusted
 *					EPERM		connect: restricted, or the firewall says no
 *	VMCI_ERROR_ALREADY_EXISTS	EADDRINUSE	the port is taken
 *	VMCI_ERROR_NO_RESOURCES		ENOBUFS		too many ports of this user, or too many descriptors
 *	VMCI_ERROR_NO_MEM		ENOMEM
 *	VMCI_ERROR_DST_UNREACHABLE	EHOSTUNREACH	no such context, or none that this client may know of; its VM
 *							has no driver
 *	VMCI_ERROR_NOT_FOUND		ECONNRESET	refused: nobody listens there
 *	VMCI_ERROR_WOULD_BLOCK		EAGAIN		the listener's queue is full, for the moment
 *	VMCI_ERROR_TIMEOUT		ETIMEDOUT	the guest did not answer
 *	VMCI_ERROR_GENERIC		EPROTO		the guest broke the handshake
 *	VMCI_ERROR_UNAVAILABLE		EHOSTUNREACH	vmcid, or the VM's device, is not there or does not answer.
 *							fab_client_is_alive() false: wait for the next vmcid
 */
#ifndef FABRIC_STREAM_H
#define FABRIC_STREAM_H

#include <stdint.h>
#include <sys/types.h>

#include "fabric/address.h"
#include "fabric/client.h"

/* What 0 milliseconds stand for, and the most that vmcid waits for a guest. */
#define FAB_CONNECT_DEFAULT_MS 2000u
#define FAB_CONNECT_MAX_MS 60000u

/**
 * fab_stream_hello() - HELLO of a program
 * @wish:  VMCI_CID_HOST; VMCI_INVALID_ID: a new software context; or a certain one
 * @label: for vmcid's log, or NULL
 *
 * Waits for vmcid, @timeout_ms at the most (negative: without end).
 * Return: 0, or a VMCI_ERROR_* of HELLO; VMCI_ERROR_UNAVAILABLE
 */
int32_t fab_stream_hello(struct fab_client *client, uint32_t wish, const char *label, int timeout_ms,
			 uint32_t *ret_context);

/**
 * fab_stream_bind() - STREAM_BIND: bind @fd, which is not bound, to a port of the client's context
 * @port: VMCI_INVALID_ID: one from 1024 up is chosen
 *
 * Afterwards the program may listen(2), as often as bind(2) would let it. The port is taken until the last copy of
 * the socket is closed. Such a socket cannot be connected any more: who wants to connect from a port that he has bound
 * makes a new socket, closes this one, and wishes its port.
 * Waits for vmcid, @timeout_ms at the most (negative: without end). Return: 0, or a code of the table
 */
int32_t fab_stream_bind(struct fab_client *client, int fd, uint32_t port, int timeout_ms, uint32_t *ret_port);

/**
 * fab_stream_connect() - STREAM_CONNECT: connect @fd to @to
 * @source:     port to come from; VMCI_INVALID_ID: one is chosen, or what @fd is bound to already by an earlier try
 * @timeout_ms: how long a guest has for its answer; 0: FAB_CONNECT_DEFAULT_MS. Programs are connected at once
 *
 * Waits for the reply. While it does, no other call can be made over this connection, which is of no use to others
 * then: who connects in several threads, or does not want to wait, makes a connection to vmcid for it, sends the
 * request, and waits for its descriptor (fab_client_fd()) to become readable; see fab_stream_request().
 * On failure the socket may be bound, or even connected to nobody: a further try needs a new one, but after
 * VMCI_ERROR_NOT_FOUND and VMCI_ERROR_WOULD_BLOCK of a context that is no VM, when the same one will do.
 * Return: 0, or a code of the table
 */
int32_t fab_stream_connect(struct fab_client *client, int fd, uint32_t source, struct vmci_handle to,
			   unsigned timeout_ms, uint32_t *ret_source);

/*
 * fab_stream_request() - the request of fab_stream_connect(), to be sent with fab_send(); @fd stays the caller's
 *
 * With FAB_F_PENDING in its flags nobody waits for a guest: if the reply has it, too, @fd can be written to when the
 * guest has accepted, or fails (fabric protocol, 13).
 */
struct fab_msg fab_stream_request(int fd, uint32_t source, struct vmci_handle to, unsigned timeout_ms);

/**
 * fab_stream_peer() - who is at the other end of @fd?
 * @broker: user of vmcid: whom SO_PEERCRED of the connection to it names
 *
 * For both ends of a stream. Asks nobody but the kernel, so it needs no vmcid. What can be believed of it: fabric
 * protocol, 13. Of a port (FAB_ADDRESS_PORT), uid, gid and pid are those of who called listen(2), as the kernel knows
 * them, or, where a guest was connected to, vmcid's.
 * Return: 0; -ENOTCONN; -EPERM: connected, but not by vmcid; -EINVAL: not a stream of the fabric; another one
 */
int fab_stream_peer(int fd, uid_t broker, struct fab_address *ret_peer);

/* fab_stream_self() - the address of @fd itself. Return: 0; -EINVAL: not bound, or not by vmcid; another errno */
int fab_stream_self(int fd, struct fab_address *ret_self);

#endif /* FABRIC_STREAM_H */
