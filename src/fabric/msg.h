/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The fabric's protocol: what vmcid and its clients say to each other at control.sock. One page, self-contained.
 *
 * Transport: a SOCK_SEQPACKET UNIX socket; one message is one packet. Descriptors travel beside it (SCM_RIGHTS). The
 * peer is who SO_PEERCRED says. Little-endian, fixed layout:
 *
 *	off  size  field
 *	  0     2  type	FAB_*
 *	  2     2  kind	FAB_REQUEST, FAB_REPLY or FAB_ASK, FAB_ANSWER
 *	  4     4  serial	chosen by who asks, copied into the reply
 *	  8     4  status	replies and answers: >= 0 or VMCI_ERROR_*; else 0
 *	 12     4  flags	FAB_F_*
 *	 16     8  handle
 *	 24     8  other	a second handle or context; its meaning is the type's
 *	 32     8  size0
 *	 40     8  size1
 *	 48    16  token
 *	 64     n  data
 *
 * Fields that a type does not use are 0, and a message that breaks this, or has more or fewer descriptors or data than
 * its type allows, ends the connection. A negative status has neither data nor descriptors behind it; a status that is
 * not negative is 0 where the table does not say more. A request's token is 0 without RESUME, and RESUME is the only
 * flag of a row that says "flags" and no more. A handle's resource is a wish; VMCI_INVALID_ID: vmcid chooses.
 *
 * Clients ask (REQUEST), vmcid replies (REPLY) in the order of the requests; a client may have FAB_PIPELINE requests
 * under way. The clients that own a whole context, devices, are also asked by vmcid (ASK) and answer (ANSWER).
 *
 *	type		request: fields [data] {descriptors}		reply: fields [data] {descriptors}
 *	----		--------------------------------------		------------------------------------
 *	HELLO		size0 version, handle.context wish, flags,	size0 version, handle.context granted,
 *			token (with RESUME) [label]			flags granted, token
 *			{DEVICE: datagrams, events; HOLD: socket, or
 *			none; else none}
 *	DG_CREATE	handle.resource wish, flags, token {sink}	handle, token
 *	DG_BIND		handle wish {socket}				handle; the socket is bound
 *	DG_DESTROY	handle
 *	DG_SEND		[datagram, header included]			status: bytes sent
 *	EVENTS		{sink}						(events of this client go there)
 *	WATCH		handle.context, flags (0, OFF, or RESUME)	(CTX_REMOVED of that context)
 *	BELL_CREATE	handle.resource wish, flags, token {eventfd}	handle, token
 *	BELL_DESTROY	handle
 *	BELL_OPEN	handle						{eventfd}
 *	QP_CREATE	handle wish, other.context peer, flags (also	status: 4, handle, token
 *			TRUSTED, DIRECT),
 *			size0 produce, size1 consume, token
 *			{memory, attacher's life}
 *	QP_ATTACH	handle, other.context peer, flags (TRUSTED,	status: 5, other.context creator, flags
 *			DIRECT), size0 produce, size1 consume		(DIRECT), token {memory, life}
 *	QP_HOLD		handle, other.context peer, flags (TRUSTED),	(after a restart: I hold an end of this attached
 *			token, size0, size1				pair)
 *	QP_DETACH	handle						status: 0, or 3 when nobody is left
 *	SHM_CREATE	size0 bytes, size1 offset, handle.resource	handle, token
 *			wish, flags, token {memory}
 *	SHM_QUERY	handle						size0 bytes
 *	SHM_ATTACH	handle						size0 bytes, size1 offset, token {memory}
 *	SHM_HOLD	handle, size0, size1, token {memory}		(after a restart: I am attached to this region)
 *	SHM_DETACH	handle						status: 0, or 3
 *	NAME		flags, token [discovery request]		token [discovery reply] (VMCI SDK reference, 6.2;
 *									FAB_NAME_MAX)
 *	PRIV		handle resource, other client, flags: one of	status: CHECK: 2 or an error
 *			ADD, REMOVE, REMOVE_ALL, CHECK; size0 allowed,
 *			size1 denied (bit n: privilege n)
 *	GROUP_CREATE	flags, token, handle.resource (RESUME; else 0)	handle, token
 *	GROUP_DESTROY	handle
 *	GROUP_MEMBER	handle group, other member, flags: one of	status: ADD, REMOVE: 0; CHECK: 1 or 0
 *			ADD (and ASSIGN), REMOVE, CHECK
 *	LIST		size0 first						size0 next (0: end) [text, a line per object]
 *	STREAM_BIND	handle wish {socket}				handle; the socket is bound
 *	STREAM_CONNECT	handle source, other destination,		handle source, flags (PENDING); the socket is
 *			size0 milliseconds, flags (PENDING) {socket}	connected
 *	STREAM_OPEN	handle source, other destination (devices	flags (PENDING) {socket}
 *			only)
 *	SHM_ALLOC	size0 bytes, handle.resource wish		handle, size1 offset, token [16 bytes: token of
 *			(a region in a window)				the window; its key] {memory}
 *	WINDOW		size0 bytes, flags, token [key] {memory}	token (0: nobody else gets this window)
 *	VM_FIND		[UUID, 16 bytes]				handle.context: of the VM that has it, and runs
 *
 *	type		ask: fields					answer: fields {descriptors}
 *	BELL_OPEN	handle						{eventfd}
 *	QP_ATTACH	handle, other.context attacher, flags		status: 5
 *			(TRUSTED, DIRECT), size0 produce, size1		{memory, life}
 *			consume (attacher's)
 *	STREAM_CONNECT	handle source, other destination, size0		status: 0: the guest has accepted; with PENDING
 *			milliseconds, flags (PENDING), size1 bytes	and without a stopper: it has been asked
 *			of a stopper (with PENDING) {socket}
 *
 * A *stream* is a connected UNIX socket. In STREAM_*, handles are addresses: context and port; a context that is
 * VMCI_INVALID_ID is the client's own, a port that is VMCI_INVALID_ID one to be chosen. Sockets of STREAM_BIND and
 * STREAM_CONNECT are the program's own, which go on being what it uses: fabric/stream.h, with what each status means.
 * PENDING: who is connected to is a guest that has not been heard; FAB_STREAM_HELLO bytes over the stream say that it
 * accepts, before anything else; end of file without them that it does not. A program that says PENDING gets a socket
 * that cannot be written to until the guest accepts: a *stopper*, so many bytes, lies before the guest's device, which
 * takes it away then. If the guest does not accept, the stopper stays, the socket is ended, and an urgent byte (MSG_OOB)
 * before that is the reason: a VMCI_ERROR_*, negated. Fabric protocol, 13.
 *
 * HOLD: the connection keeps its context alive, and is good for nothing else. Whoever has it may have fewer rights than
 * who made it; so whatever is said over it after HELLO ends it. With a socket (SOCK_SEQPACKET, the program's own), the
 * context is there as long as anybody has that, too, and after a restart of vmcid; it is good for nothing else either.
 *
 * A *sink* is one end of a SOCK_SEQPACKET socket pair that the client made; vmcid writes datagrams into it, each with
 * its header, and the client reads them from the other end. The client keeps a copy of the sink, so that the pair
 * outlives vmcid, and hands it over again (RESUME) when there is a new vmcid.
 *
 * DG_BIND is for endpoints that outlive the connection: the socket, of SOCK_DGRAM, is the program's own, and the endpoint
 * lives as long as it, whoever has it. Datagrams, header included, are received from it; any client of the same user and
 * context may send as the endpoint. In the handle, VMCI_INVALID_ID is the client's own context, or a port to be chosen.
 *
 * A *life* is one end of a SOCK_STREAM UNIX socket pair whose other end the creator of a queue pair holds: the attacher
 * writes FAB_LIFE_HELLO bytes (its context id) when it has mapped the memory; every later byte, in either direction, is
 * a wake-up, whatever its value (fabric/ring.h); end of file means that the peer has gone. A socket and no eventfd, because
 * both ends share an eventfd's flags and its counter: write(2) to it could be made to wait, send(2) with MSG_DONTWAIT not.
 *
 * A *token* says that vmcid gave its bearer the object before: who resumes after a restart of vmcid shows it. It is a
 * stamp and a keyed hash; vmcid remembers none of them. Of two who show tokens for one handle, the newer one is right.
 *
 * Memory of queue pairs is a memfd, sealed against shrinking and growing: produce header page (of the creator), produce
 * data, consume header page, consume data, as VMCI has it (VMCI reference, 7.1), data rounded up to pages of 4096 bytes.
 * How the ends wake each other: fabric/ring.h. DIRECT: once both ends are there, the guest's device sends the guest's
 * pages over the life, and they take this memory's place (fabric/direct.h).
 *
 * A *window* is memory that VMs share, and in which regions lie. A device says with WINDOW which one it has; vmcid has
 * started it with that. A program that has made a region in one says so to a new vmcid (RESUME, the token and the key
 * of SHM_ALLOC), before it resumes the region. Regions in a window are resumed as others are, with the window's memory.
 */
#ifndef FABRIC_MSG_H
#define FABRIC_MSG_H

#include <stddef.h>
#include <stdint.h>

#include "proto/handle.h"

#define FAB_VERSION 1u
#define FAB_HEADER_SIZE 64u
#define FAB_DATA_MAX VMCI_DG_MAX_SIZE
#define FAB_MSG_MAX (FAB_HEADER_SIZE + FAB_DATA_MAX)
#define FAB_FDS_MAX 4u
#define FAB_TOKEN_SIZE 16u
#define FAB_LABEL_MAX 64u	/* HELLO: the program's name, for the log; any bytes */
#define FAB_KEY_MAX 72u		/* WINDOW, SHM_ALLOC: what a window is known by; any bytes but 0 */
#define FAB_NAME_MAX 300u	/* NAME: request and reply (VMCI SDK reference, 6.2) */
#define FAB_UUID_SIZE 16u	/* VM_FIND: in the order in which the bytes are written */
#define FAB_PIPELINE 64u	/* requests of one client under way */
#define FAB_LIFE_HELLO 4u
#define FAB_STREAM_HELLO 1u	/* whatever its value */

enum fab_type {
	FAB_HELLO = 1,
	FAB_DG_CREATE,
	FAB_DG_DESTROY,
	FAB_DG_SEND,
	FAB_EVENTS,
	FAB_WATCH,
	FAB_BELL_CREATE,
	FAB_BELL_DESTROY,
	FAB_BELL_OPEN,
	FAB_QP_CREATE,
	FAB_QP_ATTACH,
	FAB_QP_HOLD,
	FAB_QP_DETACH,
	FAB_SHM_CREATE,
	FAB_SHM_QUERY,
	FAB_SHM_ATTACH,
	FAB_SHM_HOLD,
	FAB_SHM_DETACH,
	FAB_NAME,
	FAB_PRIV,
	FAB_GROUP_CREATE,
	FAB_GROUP_DESTROY,
	FAB_GROUP_MEMBER,
	FAB_LIST,
	FAB_STREAM_BIND,
	FAB_STREAM_CONNECT,
	FAB_STREAM_OPEN,
	FAB_SHM_ALLOC,
	FAB_WINDOW,
	FAB_DG_BIND,
	FAB_VM_FIND,
	FAB_TYPE_NUM,
};

enum fab_kind {
	FAB_REQUEST,
	FAB_REPLY,
	FAB_ASK,
	FAB_ANSWER,
	FAB_KIND_NUM,
};

#define FAB_F_RESUME 0x1u	/* the object was the client's before vmcid was started anew; the token proves it (WATCH: none) */
#define FAB_F_DEVICE 0x2u	/* HELLO: the client owns a VM's whole context; only for those that vmcid started */
#define FAB_F_RESTRICTED 0x4u	/* HELLO: the context, if it is made, is to talk to trusted ones only; reply: it does */
#define FAB_F_TRUSTED 0x8u	/* HELLO, reply: restricted ones may talk to it; QP_*: only with a trusted peer */
#define FAB_F_OFF 0x10u		/* WATCH: no longer */
#define FAB_F_ADD 0x20u
#define FAB_F_REMOVE 0x40u
#define FAB_F_REMOVE_ALL 0x80u
#define FAB_F_CHECK 0x100u
#define FAB_F_ASSIGN 0x200u	/* GROUP_MEMBER: the member may be given privileges through the group */
#define FAB_F_DIRECT 0x400u	/* QP_*: the guest's own pages (fabric/direct.h); reply: they will come over the life */
#define FAB_F_PENDING 0x800u	/* STREAM_*: the socket says later whether the guest accepts */
#define FAB_F_WINDOW 0x1000u	/* reply to HELLO: regions of this context lie in a window, see SHM_ALLOC */
#define FAB_F_HOLD 0x2000u	/* HELLO: nothing will be asked over this connection {or a socket}; not of a device */
#define FAB_F_ALL 0x3fffu

/**
 * struct fab_msg - a message, decoded
 * @data: of a received message: inside the buffer that was parsed; not owned
 * @fd:   descriptors beside the message; who owns them is said by each function
 */
struct fab_msg {
	enum fab_type type;
	enum fab_kind kind;
	uint32_t serial;
	int32_t status;
	uint32_t flags;
	struct vmci_handle handle;
	struct vmci_handle other;
	uint64_t size0;
	uint64_t size1;
	uint8_t token[FAB_TOKEN_SIZE];
	const uint8_t *data;
	size_t len;
	int fd[FAB_FDS_MAX];
	unsigned n_fds;
};

/* fab_type_to_string() - "DG_SEND"; "?" for a number that is none */
const char *fab_type_to_string(enum fab_type type);

/**
 * fab_parse_why() - like fab_parse(), but says what is wrong
 *
 * Return: NULL, or a few words for the log
 */
const char *fab_parse_why(const uint8_t *buf, size_t len, unsigned n_fds, struct fab_msg *ret_msg);

/**
 * fab_build() - encode the head of @msg: FAB_HEADER_SIZE bytes, which are followed by @msg->data
 *
 * @msg must be one that fab_check() accepts (asserted).
 */
void fab_build(const struct fab_msg *msg, uint8_t *buf);

/**
 * fab_parse() - decode a packet of @len bytes that came with @n_fds descriptors
 *
 * @ret_msg->fd is not written: the caller puts the descriptors there.
 * Return: 0; -EBADMSG: the packet is not of the protocol, see fab_check()
 */
int fab_parse(const uint8_t *buf, size_t len, unsigned n_fds, struct fab_msg *ret_msg);

/**
 * fab_check() - does the message keep to the table above? Fields, flags, data, number of descriptors
 *
 * Return: NULL, or what is wrong, in a few words for the log
 */
const char *fab_check(const struct fab_msg *msg);

#endif /* FABRIC_MSG_H */
