/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The broker's rules: who is who (contexts, handles, names), who may talk to whom, and who is told what. One function
 * for each request of the fabric; vmcid carries descriptors and replies.
 *
 * Pure: no I/O, no clock; descriptors are opaque *things*, and what is to happen goes through ports.
 *
 *	Results	 int32_t: 0 or more is success, else VMCI_ERROR_*; two more values tell vmcid to go on by itself:
 *		 BRK_ASK and BRK_LATER, both negative. Outputs (ret_*) are written on success only, but for
 *		 @ret_device, which goes with BRK_ASK.
 *	Things	 a thing that is given (sink, bell, pair, memory) is the broker's when the call succeeds, which means
 *		 0 or more, and is given back by drop() exactly once, or handed out where that is said
 *		 (brk_qp_attach()). When the call fails, also by BRK_ASK or BRK_LATER, it stays the caller's. NULL is
 *		 no thing.
 *	Tokens	 BRK_TOKEN_SIZE bytes; say that an object was its bearer's before vmcid was started anew. @resume: the
 *		 token that the client shows, or NULL when it does not resume anything. @ret_token: where to write the
 *		 token of the new object; NULL is fine. A device needs none: it is vmcid's own. @resume of a device is
 *		 good when it is no token, too: by not being NULL it says that the device resumes.
 *		 In the time of grace, who resumes something takes it away from whom got it by an older token: the
 *		 loser's calls about it say VMCI_ERROR_NOT_FOUND or VMCI_ERROR_NO_ACCESS from then on, and who loses
 *		 its context is as before its hello.
 *	Order	 brk_hello() or brk_hello_device() comes first, and once: everything else before it, and a second one,
 *		 is VMCI_ERROR_INVALID_ARGS.
 *	Threads	 one. Ports must not call back.
 *
 * Sections cited: "SDK" is the VMCI SDK reference, "VMCI" the VMCI reference.
 */
#ifndef BROKER_BROKER_H
#define BROKER_BROKER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/log.h"
#include "proto/discovery.h"
#include "proto/handle.h"

#define BRK_TOKEN_SIZE 16u
#define BRK_LABEL_MAX 64u	/* a program's name; the rest is cut */
#define BRK_VM_NAME_MAX 64u	/* likewise */
#define BRK_DOMAIN_MAX 31u	/* SDK, 9: longer ones are cut */

/* The public group, of which every context is a member (SDK, 5.4). Fixed, so that grants survive a restart. */
#define BRK_PUBLIC_GROUP_RID 1023u
#define BRK_PUBLIC_GROUP_NAME "vmci public group"

/* Software contexts get their ids from here; VMs' are smaller, or wished (brk_reserve()). */
#define BRK_CID_FIRST 0x10000u
#define BRK_CID_LAST 0xffffffu

/*
 * BRK_ASK: the object is a VM's. Ask the client *@ret_device, and complete by what it answers (see the function).
 * BRK_LATER: vmcid has been started anew, and who owns this may not be back yet. Ask again when brk_grace() is over.
 */
#define BRK_ASK (-10000)
#define BRK_LATER (-10001)

/* What is_same() compares, for tokens and windows. */
#define BRK_ID_SIZE 16u
/* Whose a window is: see brk_window_key(). */
#define BRK_KEY_MAX (8u + BRK_VM_NAME_MAX)

struct brk;
struct brk_client;	/* a connection to vmcid */
struct brk_window;	/* memory that VMs share, and in which regions lie */

/**
 * struct brk_config - what a broker is made of
 * @seed: random: where ids begin, and the key of the hash tables
 */
struct brk_config {
	uint64_t seed[2];
};

/**
 * struct brk_ports - what a broker asks of its surroundings; all must be there
 */
struct brk_ports {
	void *ctx;

	/*
	 * Put a whole datagram into @sink's queue. Never waits. @event: it is one, and has the events' allowance
	 * (VMCI_EVENT_QUEUE_MAX instead of VMCI_DG_QUEUE_MAX).
	 * Return: @size; VMCI_ERROR_NO_RESOURCES: full; VMCI_ERROR_NO_HANDLE: the other end has gone; or another
	 * VMCI_ERROR_*
	 */
	int32_t (*deliver)(void *ctx, void *sink, const uint8_t *dg, size_t size, bool event);

	/* The broker needs @thing no more: close and free it. */
	void (*drop)(void *ctx, void *thing);

	/* Are the memories @a and @b the same (st_dev, st_ino)? */
	bool (*is_same)(void *ctx, const void *a, const void *b);

	/* Which memory it is: the same for all things that are the same memory, and for no other. */
	void (*identify)(void *ctx, const void *memory, uint8_t ret_id[BRK_ID_SIZE]);

	/* Zero @bytes of @memory from @offset on, and give the pages back. Return: false: not possible */
	bool (*clear)(void *ctx, void *memory, uint64_t offset, uint64_t bytes);

	/* A keyed hash of @data. The key survives a restart of vmcid. */
	void (*mac)(void *ctx, const uint8_t *data, size_t size, uint8_t ret_token[BRK_TOKEN_SIZE]);

	/*
	 * Real time in microseconds, for the stamps in tokens. It may stand still or go back: the broker's stamps do
	 * not. It should not be much behind that of an earlier broker with the same key.
	 */
	uint64_t (*now)(void *ctx);

	/* A line for the log. Each client causes LIMIT_BRK_NOTES of them at most, see brk_notes_renew(). */
	void (*log)(void *ctx, enum log_level level, const char *line);
};

/* brk_new() - make a broker: context 2, the public group and its name are there. Return: 0 or -ENOMEM */
int brk_new(const struct brk_config *config, const struct brk_ports *ports, struct brk **ret_brk);

/* brk_free() - free it; NULL is fine, clients must have been freed before. Returns NULL. */
struct brk *brk_free(struct brk *brk);

/**
 * struct brk_limits - bounds that an administrator may lower
 * @clients, @contexts, @resources, @region_bytes: of a user: connections, software contexts, objects with a handle,
 *		memory
 * @endpoints, @doorbells, @pairs, @regions, @groups, @names: of a context (in context 2: of a user there)
 * @trusted_names: only trusted clients may register names (SDK, 6.3)
 */
struct brk_limits {
	unsigned clients;
	unsigned contexts;
	unsigned resources;
	uint64_t region_bytes;
	unsigned endpoints;
	unsigned doorbells;
	unsigned pairs;
	unsigned regions;
	unsigned groups;
	unsigned names;
	bool trusted_names;
};

/* brk_limits_default() - those of proto/limits.h; anybody may register names */
struct brk_limits brk_limits_default(void);

/* brk_limit() - from now on; what is larger than the default is as the default. Before the first client comes. */
void brk_limit(struct brk *brk, const struct brk_limits *limits);

/**
 * brk_grace() - a time during which the owners of everything come back, after a restart
 *
 * As long as it is on, whoever resumes nothing and wishes an id or a name, or looks for something that is not known,
 * gets BRK_LATER. (Not brk_dg_send() of devices: a guest's CPU waits for that.)
 */
void brk_grace(struct brk *brk, bool on);

/* brk_notes_renew() - each client may cause LIMIT_BRK_NOTES lines again: for vmcid to call now and then */
void brk_notes_renew(struct brk *brk);

/**
 * brk_reserve() - context id @cid belongs to a configured VM: programs cannot have it, whether the VM is there or not
 *
 * Return: 0; VMCI_ERROR_ALREADY_EXISTS: it is reserved already, or a program has it now (and keeps it);
 * VMCI_ERROR_INVALID_ARGS: below 16 or VMCI_INVALID_ID; VMCI_ERROR_NO_MEM
 */
int32_t brk_reserve(struct brk *brk, uint32_t cid);

/* brk_unreserve() - no longer; nothing happens to a VM that is there */
void brk_unreserve(struct brk *brk, uint32_t cid);

/* brk_cid_is_there() - is there such a context: the host's, or one that somebody has joined? */
bool brk_cid_is_there(const struct brk *brk, uint32_t cid);

/* brk_cid_is_of() - is it a context of programs of user @uid? Not the host's, nor a VM's. */
bool brk_cid_is_of(const struct brk *brk, uint32_t cid, uint32_t uid);

/* brk_cid_is_free() - could a VM have it: 16 or more, no context's, not reserved? */
bool brk_cid_is_free(const struct brk *brk, uint32_t cid);

/* --- Clients ---------------------------------------------------------------------------------------------------- */

/**
 * struct brk_creds - who is at the other end of a connection
 * @trusted: restricted ones may talk to it, and it may wish ids below 1024: root, and vmcid's own user
 * @device:  vmcid started it as a VM's device: only such a client may say brk_hello_device(), and nothing else
 */
struct brk_creds {
	uint32_t uid;
	int32_t pid;
	bool trusted;
	bool device;
};

/**
 * brk_client_new() - somebody has connected
 * @owner: the caller's object, see brk_client_owner()
 *
 * Return: 0; VMCI_ERROR_NO_RESOURCES: too many connections of this user; VMCI_ERROR_NO_MEM
 */
int32_t brk_client_new(struct brk *brk, const struct brk_creds *creds, void *owner, struct brk_client **ret_client);

/**
 * brk_client_free() - the client has gone: all that it owned is freed, and peers are told
 *
 * NULL is fine. A context goes with its last client (never context 2). The caller ends the asks that the client has
 * under way, or that went to it (VMCI_ERROR_DST_UNREACHABLE). Returns NULL.
 */
struct brk_client *brk_client_free(struct brk_client *client);

void *brk_client_owner(const struct brk_client *client);
uint32_t brk_client_cid(const struct brk_client *client);	/* VMCI_INVALID_ID before the hello */
bool brk_client_is_device(const struct brk_client *client);
bool brk_client_is_trusted(const struct brk_client *client);	/* devices never are */
bool brk_client_is_restricted(const struct brk_client *client);	/* its context is */

/**
 * brk_hello() - HELLO of a program: join a context
 * @wish:       VMCI_CID_HOST; VMCI_INVALID_ID: a new software context; N >= 16: software context N, made, or joined
 *		if the same user has made it
 * @restricted: a context that is made talks to trusted clients only; must be false for context 2, and is ignored when
 *		joining
 * @label:      the program's name for the log and brk_list(), or NULL; need not be printable
 *
 * Return: 0, see brk_client_cid(), brk_client_is_trusted(), brk_client_is_restricted() for what was granted;
 * VMCI_ERROR_INVALID_ARGS; VMCI_ERROR_NO_ACCESS: the context is another user's, a VM's or reserved, or the token is
 * wrong; VMCI_ERROR_NO_RESOURCES: too many contexts; VMCI_ERROR_NO_MEM; BRK_LATER
 */
int32_t brk_hello(struct brk_client *client, uint32_t wish, bool restricted, const char *label, const uint8_t *resume,
		  uint8_t *ret_token);

/* Device firewall (SDK, 9). The numbers are VMware's. */
enum brk_filter_action {
	BRK_FILTER_ALLOW,
	BRK_FILTER_DENY,
};

enum brk_filter_protocol {
	BRK_FILTER_HYPERVISOR,
	BRK_FILTER_PAIR,
	BRK_FILTER_BELL,
	BRK_FILTER_DATAGRAM,
	BRK_FILTER_STREAM,
	BRK_FILTER_ANY_PROTOCOL,
};

enum brk_filter_direction {
	BRK_FILTER_TO_GUEST,
	BRK_FILTER_TO_HOST,	/* from the guest, to whomever */
	BRK_FILTER_ANY_DIRECTION,
};

/**
 * struct brk_filter_rule - vmci.filter<N>.*
 * @first, @last: ports (resource ids) of the destination: the endpoint, the doorbell, the queue pair; both included
 */
struct brk_filter_rule {
	enum brk_filter_action action;
	enum brk_filter_protocol protocol;
	enum brk_filter_direction direction;
	uint32_t first;
	uint32_t last;
};

/**
 * brk_filter_allows() - what the first of @n_rules rules that fits says; true if none does
 *
 * The direction does not matter for BRK_FILTER_HYPERVISOR and BRK_FILTER_PAIR.
 */
bool brk_filter_allows(const struct brk_filter_rule *rules, size_t n_rules, enum brk_filter_protocol protocol,
		       enum brk_filter_direction direction, uint32_t port);

/**
 * struct brk_vm - a virtual machine, as configured; copied
 * @name:         for the log
 * @cid:          its context id, >= 16
 * @domain:       vmci0.domain; NULL or "" is none
 * @unrestricted: vmci0.unrestricted: may talk to other unrestricted VMs
 * @restricted:   openvmci.restricted: talks to trusted clients only
 * @rules:        by rank; none if vmci.filter.enable is not set. At most LIMIT_BRK_FILTER_RULES
 */
struct brk_vm {
	const char *name;
	uint32_t cid;
	const char *domain;
	bool unrestricted;
	bool restricted;
	const struct brk_filter_rule *rules;
	size_t n_rules;
};

/**
 * brk_hello_device() - HELLO of a device: the context @vm->cid is there, and is its
 * @datagrams: sink of all datagrams to the context
 * @events:    sink of the events to it
 *
 * Return: 0 (both sinks are the broker's); VMCI_ERROR_ALREADY_EXISTS: the context is there already;
 * VMCI_ERROR_INVALID_ARGS: the client is no device, or the id or the number of rules is impossible; VMCI_ERROR_NO_MEM
 */
int32_t brk_hello_device(struct brk_client *client, const struct brk_vm *vm, const char *label, void *datagrams,
			 void *events);

/* --- Datagrams (SDK, 3) ----------------------------------------------------------------------------------------- */

/**
 * brk_dg_create() - DG_CREATE: an endpoint
 * @rid: VMCI_INVALID_ID to have one chosen; below 1024 for trusted clients, 0 and 1 for nobody
 *
 * Return: 0; VMCI_ERROR_ALREADY_EXISTS: the handle is taken, whatever it is; VMCI_ERROR_NO_ACCESS;
 * VMCI_ERROR_NO_RESOURCES: quota; VMCI_ERROR_INVALID_ARGS: the client is a device, whose sink gets all;
 * VMCI_ERROR_NO_MEM; BRK_LATER
 */
int32_t brk_dg_create(struct brk_client *client, uint32_t rid, const uint8_t *resume, void *sink,
		      struct vmci_handle *ret_handle, uint8_t *ret_token);

/**
 * brk_dg_share() - let all clients of the same user and context send as the endpoint @handle, which is @client's
 *
 * Return: 0; VMCI_ERROR_NOT_FOUND; VMCI_ERROR_NO_ACCESS: another client's
 */
int32_t brk_dg_share(struct brk_client *client, struct vmci_handle handle);

/* brk_dg_destroy() - Return: 0; VMCI_ERROR_NOT_FOUND: no such endpoint; VMCI_ERROR_NO_ACCESS: another client's */
int32_t brk_dg_destroy(struct brk_client *client, struct vmci_handle handle);

/**
 * brk_dg_send() - DG_SEND: deliver the datagram @dg of @size bytes, header included
 *
 * Return: @size; VMCI_ERROR_INVALID_ARGS: size, source that does not exist, or a resource id that no endpoint can
 * have; VMCI_ERROR_NO_ACCESS: a source that is not the client's; rights; VMCI_ERROR_DST_UNREACHABLE: no such context
 * (for this client); VMCI_ERROR_INVALID_RESOURCE: no such endpoint in it; VMCI_ERROR_NO_RESOURCES: its queue is full;
 * BRK_LATER. To {1, 1} it is a request of discovery, and the reply is in the queue of the source when this returns.
 */
int32_t brk_dg_send(struct brk_client *client, const uint8_t *dg, size_t size);

/* --- Events (VMCI, 6) ------------------------------------------------------------------------------------------- */

/* brk_events() - EVENTS: this client's events go to @sink from now on; an older sink is dropped. Return: 0 */
int32_t brk_events(struct brk_client *client, void *sink);

/**
 * brk_watch() - WATCH: tell (CTX_REMOVED) when context @cid goes away, each time; it need not exist
 *
 * Nothing is told of a context that the client could not talk to.
 * Return: 0; on: VMCI_ERROR_ALREADY_EXISTS, VMCI_ERROR_NO_RESOURCES, VMCI_ERROR_NO_ACCESS, VMCI_ERROR_INVALID_ARGS: 2
 * does not go, and other reserved ids are not there; off: VMCI_ERROR_NOT_FOUND
 */
int32_t brk_watch(struct brk_client *client, uint32_t cid, bool on);

/*
 * brk_watch_again() - WATCH with RESUME: it was watched before the restart; on. If it is not there when the time of grace
 * is over, it is told that it has gone, whether it ever was there or not. Return: as brk_watch()
 */
int32_t brk_watch_again(struct brk_client *client, uint32_t cid);

/* --- Doorbells (VMCI, 5) ---------------------------------------------------------------------------------------- */

/* brk_bell_create(), brk_bell_destroy() - as brk_dg_create(), brk_dg_destroy(); also of devices */
int32_t brk_bell_create(struct brk_client *client, uint32_t rid, const uint8_t *resume, void *bell,
			struct vmci_handle *ret_handle, uint8_t *ret_token);
int32_t brk_bell_destroy(struct brk_client *client, struct vmci_handle handle);

/**
 * brk_bell_open() - BELL_OPEN: what rings the doorbell @handle
 * @ret_bell: still the broker's: to be duplicated at once
 *
 * Return: 0; BRK_ASK: the bell is a guest's; pass on what *@ret_device answers. VMCI_ERROR_NOT_FOUND;
 * VMCI_ERROR_DST_UNREACHABLE; VMCI_ERROR_NO_ACCESS; BRK_LATER
 */
int32_t brk_bell_open(struct brk_client *client, struct vmci_handle handle, void **ret_bell,
		      struct brk_client **ret_device);

/* --- Queue pairs (VMCI, 7.3 and 7.4) ---------------------------------------------------------------------------- */

/**
 * struct brk_qp - a queue pair, as its caller sees it
 * @handle:  create: the wish; context VMCI_INVALID_ID is the caller's own, resource VMCI_INVALID_ID is one to be chosen
 * @peer:    context of the other end; VMCI_INVALID_ID for any (not with brk_qp_hold())
 * @produce, @consume: bytes of the rings that the caller writes, and reads
 * @trusted: only with a peer that is a trusted client
 * @direct:  the caller wants the guest's own pages, all of whose memory it can reach then: create, attach; only for
 *           trusted clients
 */
struct brk_qp {
	struct vmci_handle handle;
	uint32_t peer;
	uint64_t produce;
	uint64_t consume;
	bool trusted;
	bool direct;
};

/**
 * brk_qp_memory() - bytes of the memory of a queue pair: header pages and rings, each rounded up to pages of 4096 bytes
 *
 * For the check of what a creator passes. Return: 0 if the sizes are impossible (both 0, or more than 128 MiB together)
 */
uint64_t brk_qp_memory(uint64_t produce, uint64_t consume);

/**
 * brk_qp_create() - QP_CREATE
 * @pair:   memory and life as one thing, kept until somebody attaches
 * @resume: nobody had attached before the restart
 *
 * A direct one is for one peer, a VM: only that has pages of its own.
 * Return: VMCI_SUCCESS_QUEUEPAIR_CREATE; in this order VMCI_ERROR_NO_RESOURCES (more than 128 MiB),
 * VMCI_ERROR_INVALID_ARGS, VMCI_ERROR_ALREADY_EXISTS, VMCI_ERROR_NO_ACCESS (the handle is neither the creator's nor
 * the peer's, or another VM's; id below 1024; token), VMCI_ERROR_DST_UNREACHABLE (no such peer),
 * VMCI_ERROR_NO_RESOURCES (quota); VMCI_ERROR_NO_MEM; BRK_LATER
 */
int32_t brk_qp_create(struct brk_client *client, const struct brk_qp *qp, const uint8_t *resume, void *pair,
		      struct vmci_handle *ret_handle, uint8_t *ret_token);

/**
 * brk_qp_attach() - QP_ATTACH
 * @ret_pair:    what the creator gave; the caller's from now on
 * @ret_creator: its context
 *
 * The creator gets QP_PEER_ATTACH.
 * Return: VMCI_SUCCESS_QUEUEPAIR_ATTACH; BRK_ASK: the pair may be a guest's; when *@ret_device has answered 5,
 * brk_qp_attached(). Else in this order VMCI_ERROR_NO_RESOURCES (more than 128 MiB), VMCI_ERROR_INVALID_ARGS,
 * VMCI_ERROR_ALREADY_EXISTS (the client has an end of it), VMCI_ERROR_NOT_FOUND or _DST_UNREACHABLE (no such
 * context), VMCI_ERROR_UNAVAILABLE (taken, or left), VMCI_ERROR_DST_UNREACHABLE, VMCI_ERROR_NO_ACCESS,
 * VMCI_ERROR_QUEUEPAIR_MISMATCH, VMCI_ERROR_NO_RESOURCES (quota); BRK_LATER
 */
int32_t brk_qp_attach(struct brk_client *client, const struct brk_qp *qp, void **ret_pair, uint32_t *ret_creator,
		      uint8_t *ret_token, struct brk_client **ret_device);

/**
 * brk_qp_attached() - the @device that was asked has given its pair: @client is attached to it
 * @qp: as it was given to brk_qp_attach()
 *
 * No event: the device knows. Return: VMCI_SUCCESS_QUEUEPAIR_ATTACH; VMCI_ERROR_*: what the device gave is to be
 * closed, so that it sees its life end
 */
int32_t brk_qp_attached(struct brk_client *client, struct brk_client *device, const struct brk_qp *qp,
			uint8_t *ret_token);

/**
 * brk_qp_hold() - QP_HOLD: after a restart, the client has an end of this pair, and somebody in context @qp->peer
 * has, or had, the other
 * @token: from brk_qp_create(), brk_qp_attach() or brk_qp_attached()
 *
 * Return: 0; VMCI_ERROR_NO_ACCESS: token; VMCI_ERROR_ALREADY_EXISTS: this client holds it already;
 * VMCI_ERROR_UNAVAILABLE: both ends are held, or it is another pair now; VMCI_ERROR_QUEUEPAIR_MISMATCH: the other end
 * said something else; VMCI_ERROR_NO_RESOURCES; VMCI_ERROR_INVALID_ARGS
 */
int32_t brk_qp_hold(struct brk_client *client, const struct brk_qp *qp, const uint8_t *token);

/**
 * brk_qp_detach() - QP_DETACH; the other end, if there, gets QP_PEER_DETACH, and nobody can attach any more
 *
 * Return: 0; VMCI_SUCCESS_LAST_DETACH; VMCI_ERROR_NOT_FOUND; VMCI_ERROR_QUEUEPAIR_NOTATTACHED: there is such a pair,
 * but the client has no end of it
 */
int32_t brk_qp_detach(struct brk_client *client, struct vmci_handle handle);

/* --- Shared memory (SDK, 4 and 10.1) ---------------------------------------------------------------------------- */

/**
 * brk_shm_create() - SHM_CREATE; the creator is attached
 * @bytes:  1..LIMIT_BRK_REGION
 * @offset: where the region begins in @memory (the caller has checked that it lies in it)
 *
 * With @resume the region may be known already, by brk_shm_hold() of somebody else; @memory must be the same then
 * (VMCI_ERROR_NO_ACCESS). With the token of brk_shm_alloc() it lies in a window again, in its old place; if somebody
 * has that now, VMCI_ERROR_ALREADY_EXISTS. Return: as brk_dg_create(); VMCI_ERROR_INVALID_SIZE
 */
int32_t brk_shm_create(struct brk_client *client, uint32_t rid, uint64_t bytes, uint64_t offset, const uint8_t *resume,
		       void *memory, struct vmci_handle *ret_handle, uint8_t *ret_token);

/**
 * brk_shm_query() - SHM_QUERY
 *
 * Return: 0; VMCI_ERROR_NOT_FOUND; VMCI_ERROR_NO_ACCESS; VMCI_ERROR_DST_UNREACHABLE: no such context (for this
 * client); VMCI_ERROR_UNAVAILABLE: the client is a device, and the region is not in its window; BRK_LATER, or to a
 * device VMCI_ERROR_WOULD_BLOCK
 */
int32_t brk_shm_query(struct brk_client *client, struct vmci_handle handle, uint64_t *ret_bytes);

/**
 * brk_shm_attach() - SHM_ATTACH
 * @ret_memory: still the broker's: to be duplicated at once
 *
 * Return: 0; as brk_shm_query(); VMCI_ERROR_ALREADY_EXISTS: the client is attached; VMCI_ERROR_NO_RESOURCES: quota;
 * VMCI_ERROR_NO_MEM
 */
int32_t brk_shm_attach(struct brk_client *client, struct vmci_handle handle, uint64_t *ret_bytes, uint64_t *ret_offset,
		       void **ret_memory, uint8_t *ret_token);

/**
 * brk_shm_hold() - SHM_HOLD: after a restart, the client is attached to this region
 * @memory: the broker's on success, and dropped at once if the region is known; must be the same then
 * (VMCI_ERROR_NO_ACCESS)
 *
 * Until its creator resumes it (brk_shm_create()), a region can be attached by trusted clients and by users who hold
 * it: nobody else knows who may. Return: 0; VMCI_ERROR_NO_ACCESS: token; VMCI_ERROR_ALREADY_EXISTS;
 * VMCI_ERROR_QUEUEPAIR_MISMATCH: sizes differ; VMCI_ERROR_INVALID_SIZE; VMCI_ERROR_NO_RESOURCES; VMCI_ERROR_NO_MEM
 */
int32_t brk_shm_hold(struct brk_client *client, struct vmci_handle handle, uint64_t bytes, uint64_t offset,
		     const uint8_t *token, void *memory);

/**
 * brk_shm_detach() - SHM_DETACH. A region whose creator has left lives on while somebody is attached
 *
 * Return: 0; VMCI_SUCCESS_LAST_DETACH: the region is gone; VMCI_ERROR_NOT_FOUND: no such region, or not attached
 */
int32_t brk_shm_detach(struct brk_client *client, struct vmci_handle handle);

/* --- Windows (SDK, 10.3, option 3) -------------------------------------------------------------------------------- */

/*
 * A window is memory that VMs of one domain, or one VM without a domain, see as a BAR of their devices. Who is handed a
 * region in it is handed all of it.
 */

/**
 * brk_window_key() - what a window is found by: "domain/@domain", or "vm/@name" where there is no domain
 *
 * Return: as snprintf(3); BRK_KEY_MAX is enough
 */
size_t brk_window_key(char *buf, size_t size, const char *domain, const char *name);

/* brk_window_find() - NULL: nobody has it now */
struct brk_window *brk_window_find(const struct brk *brk, const char *key);

/**
 * brk_window_new() - @memory of @bytes, all zeroes, is the window of @key
 *
 * Return: 0, and a reference; VMCI_ERROR_ALREADY_EXISTS; VMCI_ERROR_INVALID_ARGS: not pages; VMCI_ERROR_NO_MEM
 */
int32_t brk_window_new(struct brk *brk, const char *key, uint64_t bytes, void *memory, struct brk_window **ret_window);

/* brk_window_ref(), brk_window_unref() - it goes with the last reference, of callers, of clients, of regions in it */
struct brk_window *brk_window_ref(struct brk_window *window);
void brk_window_unref(struct brk *brk, struct brk_window *window);

uint64_t brk_window_bytes(const struct brk_window *window);
void *brk_window_memory(const struct brk_window *window);		/* still the broker's */
const char *brk_window_owner(const struct brk_window *window);		/* its key; "": nobody can prove it */

/**
 * brk_window_show() - WINDOW: the client has this memory for its window
 * @key:    of a program: which window it says it is. A device has its VM's, and says nothing
 * @resume: a program must; a device that was told by an earlier vmcid
 * @memory: the broker's on success
 *
 * A device can use its window from now on, even if nobody else shares it (any more).
 * Return: 0; VMCI_ERROR_NO_ACCESS: token; VMCI_ERROR_INVALID_SIZE: the window is known, and of another size;
 * VMCI_ERROR_INVALID_ARGS; VMCI_ERROR_NO_MEM
 */
int32_t brk_window_show(struct brk_client *client, const char *key, uint64_t bytes, const uint8_t *resume, void *memory,
			uint8_t *ret_token);

/* brk_client_window() - the one that the client has shown; NULL */
struct brk_window *brk_client_window(const struct brk_client *client);

/* brk_window_token() - what @client, which got a region in it, shows with it to a new vmcid */
void brk_window_token(const struct brk_client *client, const struct brk_window *window, uint8_t *ret_token);

/**
 * brk_shm_alloc() - SHM_ALLOC: like brk_shm_create(), but the region lies in a window
 * @window: of a program: NULL: there is none. Devices have the one that they have shown
 *
 * The region is all zeroes. In the time of grace a program waits; a device gets VMCI_ERROR_WOULD_BLOCK, for its guest
 * waits.
 * Return: as brk_shm_create(); VMCI_ERROR_UNAVAILABLE: no window; VMCI_ERROR_INVALID_SIZE: also if the window is
 * smaller; VMCI_ERROR_NO_RESOURCES: also if there is no room in the window, or the context has half of it, and it is a
 * domain's; VMCI_ERROR_NO_ACCESS: also by the VM's firewall
 */
int32_t brk_shm_alloc(struct brk_client *client, struct brk_window *window, uint32_t rid, uint64_t bytes,
		      struct vmci_handle *ret_handle, uint64_t *ret_offset, uint8_t *ret_token);

/* --- Names (SDK, 6 and 10.2) ------------------------------------------------------------------------------------ */

/**
 * brk_name() - NAME: a request of discovery, in the wire format of datagrams to {1, 1} (proto/discovery.h)
 * @resume:    with a register request
 * @ret_reply: DISCOVERY_REPLY_MAX bytes; @ret_size of them are written. Its code says what came of the request
 * @ret_token: written if a name was registered, else zeroed
 *
 * Return: 0: there is a reply; VMCI_ERROR_INVALID_ARGS: @request is none; VMCI_ERROR_PAYLOAD_TOO_LARGE; BRK_LATER
 */
int32_t brk_name(struct brk_client *client, const uint8_t *request, size_t size, const uint8_t *resume,
		 uint8_t *ret_reply, size_t *ret_size, uint8_t *ret_token);

/* --- Rights (SDK, 5 and 10.2) ----------------------------------------------------------------------------------- */

/*
 * @subject is a context, {cid, 0}, which need not exist yet, or a group. Masks: bit n is privilege n (VMCI_PRIV_*).
 * The caller must be of the resource's owner's context and user (or trusted there), or have been given
 * VMCI_PRIV_CH_PRIV.
 *
 * Return: 0; VMCI_ERROR_INVALID_ARGS: handles, no privilege at all, unknown resource; VMCI_ERROR_INVALID_PRIV: not
 * for such a resource; VMCI_ERROR_NO_ACCESS; VMCI_ERROR_NOT_FOUND: no such group, or nothing to remove;
 * VMCI_ERROR_NO_RESOURCES; VMCI_ERROR_NO_MEM
 */

/* brk_priv_add() - PRIV with ADD; what is in both masks is denied */
int32_t brk_priv_add(struct brk_client *client, struct vmci_handle resource, struct vmci_handle subject, uint64_t allow,
		     uint64_t deny);
/* brk_priv_remove() - PRIV with REMOVE: back to "not set" */
int32_t brk_priv_remove(struct brk_client *client, struct vmci_handle resource, struct vmci_handle subject,
			uint64_t privs);
/* brk_priv_remove_all() - PRIV with REMOVE_ALL. The resource does not become open by this. */
int32_t brk_priv_remove_all(struct brk_client *client, struct vmci_handle resource, struct vmci_handle subject);
/**
 * brk_priv_check() - PRIV with CHECK: has the context @subject all of @privs? Anybody may ask who may talk to the
 * resource.
 *
 * Return: VMCI_SUCCESS_ACCESS_GRANTED; VMCI_ERROR_NO_ACCESS; VMCI_ERROR_INVALID_PRIV; VMCI_ERROR_INVALID_ARGS
 */
int32_t brk_priv_check(struct brk_client *client, struct vmci_handle resource, struct vmci_handle subject,
		       uint64_t privs);

/* --- Groups (SDK, 5.4) ------------------------------------------------------------------------------------------ */

/**
 * brk_group_create() - GROUP_CREATE: {2, @rid}; @rid is looked at only with @resume, else one is chosen
 *
 * Return: as brk_dg_create()
 */
int32_t brk_group_create(struct brk_client *client, uint32_t rid, const uint8_t *resume, struct vmci_handle *ret_handle,
			 uint8_t *ret_token);

/* brk_group_destroy() - and what was granted to it. Return: as brk_dg_destroy() */
int32_t brk_group_destroy(struct brk_client *client, struct vmci_handle group);

/**
 * brk_group_add(), brk_group_remove() - GROUP_MEMBER with ADD, REMOVE; callers as for brk_priv_add() of the group, or
 * with VMCI_PRIV_ASSIGN_CLIENT
 * @member: a context, {cid, 0}, which need not exist yet
 * @assign: the member may be given privileges through the group
 *
 * Return: 0; VMCI_ERROR_NOT_FOUND: no such group, or no member; VMCI_ERROR_ALREADY_EXISTS; VMCI_ERROR_NO_ACCESS;
 * VMCI_ERROR_INVALID_ARGS; VMCI_ERROR_NO_RESOURCES; VMCI_ERROR_NO_MEM
 */
int32_t brk_group_add(struct brk_client *client, struct vmci_handle group, struct vmci_handle member, bool assign);
int32_t brk_group_remove(struct brk_client *client, struct vmci_handle group, struct vmci_handle member);

/* brk_group_is_member() - GROUP_MEMBER with CHECK. Return: 1, 0; VMCI_ERROR_NOT_FOUND: no such group; _INVALID_ARGS */
int32_t brk_group_is_member(struct brk_client *client, struct vmci_handle group, struct vmci_handle member);

/* --- Streams (VMCI sockets, 5.6 and 5.8) -------------------------------------------------------------------------- */

/**
 * brk_stream_own() - may @client have this address: bind it, or connect from it?
 * @wish: context: the client's own, or VMCI_INVALID_ID, which stands for that; port: below 1024 for trusted clients and
 *	  devices; VMCI_PORT_ANY: one will be chosen
 *
 * Whether the port is taken is not known here. Return: 0; VMCI_ERROR_NO_ACCESS; VMCI_ERROR_INVALID_ARGS: no hello yet
 */
int32_t brk_stream_own(struct brk_client *client, struct vmci_handle wish, struct vmci_handle *ret_address);

/* Who listens at a port, as far as vmcid knows. */
enum brk_listener {
	BRK_LISTENER_NONE,
	BRK_LISTENER_UNTRUSTED,
	BRK_LISTENER_TRUSTED,	/* who bound the port was trusted then */
};

/**
 * brk_stream_connect() - may @client connect to @to?
 * @listener: there; does not matter for VMs
 *
 * Return: 0: it may, to whoever listens there; BRK_ASK: likewise, and there is a guest: *@ret_device is asked.
 * VMCI_ERROR_INVALID_ARGS: no port; VMCI_ERROR_DST_UNREACHABLE: no such context (for this client);
 * VMCI_ERROR_NOT_FOUND: nobody listens; VMCI_ERROR_NO_ACCESS: restricted, or the firewall; BRK_LATER
 */
int32_t brk_stream_connect(struct brk_client *client, struct vmci_handle to, enum brk_listener listener,
			   struct brk_client **ret_device);

/* --- VMs -------------------------------------------------------------------------------------------------------- */

/**
 * brk_vm_may_know() - may @client know that the VM @cid is there?
 *
 * Return: 0; VMCI_ERROR_INVALID_ARGS: no hello yet; VMCI_ERROR_DST_UNREACHABLE: there is none, or none for this client;
 * VMCI_ERROR_NO_ACCESS: restricted
 */
int32_t brk_vm_may_know(const struct brk_client *client, uint32_t cid);

/* --- For humans ------------------------------------------------------------------------------------------------- */

/**
 * brk_list() - LIST: a line for each object, from the @first on
 * @first:    0, or what the last call returned by @ret_next
 * @buf:      @size bytes, at least LIMIT_BRK_LINE; whole lines, each ending in a newline; not a string
 * @ret_next: 0: there is no more
 *
 * Contexts and names are shown to everybody, other objects to their user and to trusted clients.
 * Return: bytes written; VMCI_ERROR_INVALID_ARGS
 */
int32_t brk_list(struct brk_client *client, uint64_t first, char *buf, size_t size, uint64_t *ret_next);

#endif /* BROKER_BROKER_H */
