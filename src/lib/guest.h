/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Membership of a guest that has a driver and no broker: datagrams, names and shared memory. With our vmci.ko they are
 * /dev/vmci's, which has queue pairs, doorbells and events, too (guest_dev.h). With the in-box driver they go over
 * AF_VSOCK datagram sockets: VMCI SDK reference, 10.3; socket reference, 11; for shared memory proto/share.h.
 *
 * What the rest of libvmci does with it:
 *
 *	vmci_open()		no broker listens at the default places, and @cid is VMCI_CID_HOST or VMCI_INVALID_ID:
 *				guest_open(), before a broker of one's own is started. DEVICE_NOT_FOUND means: not in
 *				such a guest, go on.
 *	vmci_cid()		guest_cid()
 *	vmci_dgram_open()	the endpoint's descriptor is guest_socket()
 *	vmci_dgram_send()	guest_send() on it
 *	vmci_dgram_recv()	guest_recv() on it, under the endpoint's lock; waiting and closing as with any other
 *	vmci_name_*()		guest_name()
 *	vmci_shm_*()		guest_shm_*()
 *	vmci_qpair_*(), vmci_doorbell_*(), vmci_events_*()
 *				guest_dev.h, with lib_device(), if that is not -1
 *	all else		VMCI_ERROR_UNAVAILABLE: lib_call() says it for all
 *
 * Nothing here opens an AF_VSOCK socket unless a VMCI device is there with the driver bound to it: on a machine
 * without one, AF_VSOCK belongs to somebody else. That is looked up anew for each socket.
 */
#ifndef LIB_GUEST_H
#define LIB_GUEST_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "proto/discovery.h"

struct guest;
struct guest_shm;

/* Where the kernel lists its PCI devices. */
#define GUEST_PCI_DEVICES "/sys/bus/pci/devices"

/**
 * struct guest_ports - the kernel's side of it; tests have one of their own
 * @name: who it is, for messages
 * @pci_devices: the folder in which the device is looked for; NULL: the other functions find out themselves
 * @open: a descriptor that the membership keeps, guest_device(), or a negative errno; NULL: there is no such thing
 * @cid:  the machine's own context id. 0 or a negative errno
 * @bind: a datagram socket, non-blocking and close-on-exec, bound to @port or, with VMCI_PORT_ANY, to one that
 *	  the kernel chooses. A descriptor or a negative errno
 * @send: one datagram. Bytes, or a negative errno
 * @recv: one datagram, or what fits into @size; @flags are recvmsg()'s, and whether it was cut goes to
 *	  @ret_cut. Bytes, or a negative errno
 * @shm_get, @shm_query, @shm_detach: shared memory: fill @shm, but for its list; the size; detach, the memory is not
 *	  mapped any more, @shm->fd is closed by the caller. VMCI codes. NULL: the service is asked over datagrams, and
 *	  the window is found below @pci_devices
 */
struct guest_ports {
	const char *name;
	const char *pci_devices;
	int (*open)(void);
	int (*cid)(uint32_t *ret_cid);
	int (*bind)(uint32_t port, uint32_t *ret_port);
	ssize_t (*send)(int fd, struct vmci_handle dst, const void *data, size_t size);
	ssize_t (*recv)(int fd, void *buf, size_t size, int flags, struct vmci_handle *ret_src, bool *ret_cut);
	int (*shm_get)(bool is_new, struct vmci_handle handle, uint64_t size, struct guest_shm *shm);
	int (*shm_query)(struct vmci_handle handle, uint64_t *ret_size);
	int (*shm_detach)(struct guest_shm *shm);
};

/* guest_dev, guest_vsock - the real ones: /dev/vmci, and AF_VSOCK */
extern const struct guest_ports guest_dev;
extern const struct guest_ports guest_vsock;

/* guest_is_here() - is there a VMCI device among @pci_devices, with the driver vmw_vmci or vmci (ours) bound to it? */
bool guest_is_here(const char *pci_devices);

/* guest_find() - the folder of that device, or -1 */
int guest_find(const char *pci_devices);

/**
 * guest_open() - become a member of the guest's own context
 * @ports: &guest_dev or &guest_vsock
 *
 * Return: 0; VMCI_ERROR_DEVICE_NOT_FOUND: no such device, or no driver, or no sockets over it (lib_fail() says
 * which); VMCI_ERROR_NO_MEM
 */
int guest_open(const struct guest_ports *ports, struct guest **ret_guest);

/* guest_close() - nobody is in guest_name() any more. Sockets stay open: they are their callers'. NULL is fine. */
struct guest *guest_close(struct guest *guest);

uint32_t guest_cid(const struct guest *guest);

/* guest_device() - the membership's descriptor of /dev/vmci, or -1. Async-signal-safe */
int guest_device(const struct guest *guest);

/**
 * guest_socket() - make an endpoint; any thread
 * @rid: VMCI_INVALID_ID to have one chosen
 *
 * Return: a descriptor, the caller's, readable while datagrams wait; VMCI_ERROR_ALREADY_EXISTS;
 * VMCI_ERROR_NO_ACCESS: below 1024 without privilege; VMCI_ERROR_INVALID_ARGS: 0 and 1, which are the driver's;
 * VMCI_ERROR_NO_RESOURCES; VMCI_ERROR_UNAVAILABLE: the device has gone
 */
int guest_socket(struct guest *guest, uint32_t rid, uint32_t *ret_rid);

/* guest_send() - as vmci_dgram_send(); any thread, never waits. An unknown context is VMCI_ERROR_DST_UNREACHABLE. */
int guest_send(struct guest *guest, int fd, struct vmci_handle dst, const void *data, size_t size);

/**
 * guest_recv() - as vmci_dgram_recv(), but never waits; one thread at a time for each socket
 *
 * Return: bytes; VMCI_ERROR_WOULD_BLOCK; VMCI_ERROR_NO_MEM: the datagram stays in the queue; VMCI_ERROR_UNAVAILABLE
 */
int guest_recv(struct guest *guest, int fd, void *buf, size_t size, struct vmci_handle *ret_src);

/**
 * guest_name() - ask the discovery service at {1, 1}, again and again until it answers; any thread
 * @handle: register: what to name; lookup: where the answer goes; else NULL
 *
 * Datagrams get lost, answers too: a request that was carried out, but whose answer was lost, still succeeds.
 * Return: the service's code; VMCI_ERROR_UNAVAILABLE: no answer in 15 seconds; VMCI_ERROR_DST_UNREACHABLE: a host
 * without the service; VMCI_ERROR_INVALID_ARGS: the name is empty, or longer than 255 bytes
 */
int guest_name(struct guest *guest, enum discovery_action action, const char *name, struct vmci_handle *handle);

/* guest_ports() - what @guest was opened with */
const struct guest_ports *guest_ports_of(const struct guest *guest);

/**
 * guest_call() - ask @service by @payload from the socket @fd, again and again until it answers; any thread
 * @is_answer: looks at a datagram of @service; true: this is the answer, and it has been taken
 * @ret_sent: how often it was asked
 *
 * Return: 0; VMCI_ERROR_UNAVAILABLE: no answer in 15 seconds; what guest_send() says
 */
int guest_call(struct guest *guest, int fd, struct vmci_handle service, const void *payload, size_t size,
	       bool (*is_answer)(const uint8_t *buf, size_t size, void *arg), void *arg, unsigned *ret_sent);

/* guest_id() - for a question: nobody has seen it lately */
uint32_t guest_id(struct guest *guest);

/* guest_shms() - those who keep book of what is attached: guest_shm.c */
struct guest_shms *guest_shms(struct guest *guest);

/**
 * struct guest_shm - an attachment of a guest
 * @next: in the membership's list, under its lock
 * @fd:   the socket that has it: it goes with the socket
 * @map:  @map_size bytes, at which the region begins
 */
struct guest_shm {
	struct guest_shm *next;
	int fd;
	struct vmci_handle handle;
	uint64_t size;
	void *map;
	size_t map_size;
};

/* struct guest_shms - all of a membership. @is_swept: those that dead programs have left have been looked for */
struct guest_shms {
	pthread_mutex_t lock;
	struct guest_shm *first;
	bool is_swept;
};

/**
 * guest_shm_create(), guest_shm_attach(), guest_shm_query() - as in vmci.h; any thread
 *
 * @shm is filled, and is in the membership's list until guest_shm_detach(). Return: 0; as in vmci.h;
 * VMCI_ERROR_UNAVAILABLE: the VM has no window, or nobody answers; VMCI_ERROR_NO_ACCESS: also: the window is root's
 */
int guest_shm_create(struct guest *guest, uint32_t rid, uint64_t size, struct guest_shm *shm);
int guest_shm_attach(struct guest *guest, struct vmci_handle handle, struct guest_shm *shm);
int guest_shm_query(struct guest *guest, struct vmci_handle handle, uint64_t *ret_size);

/* guest_shm_detach() - unmap, and say so unless @is_forked. Return: VMCI_SUCCESS or VMCI_SUCCESS_LAST_DETACH */
int guest_shm_detach(struct guest *guest, struct guest_shm *shm, bool is_forked);

#endif /* LIB_GUEST_H */
