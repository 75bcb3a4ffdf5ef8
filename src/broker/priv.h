/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the files of the broker share.
 *
 * DOC: Theory of operation
 *
 * Things that exist are objects: contexts, clients, resources (endpoints, doorbells, queue pairs, regions, groups),
 * names. Every resource belongs to a client, every client to a context, and what belongs to something dies with it.
 * An object has no pointer to another that could outlive it: whatever refers to an object is in a list of that
 * object, and goes when it goes. So identity needs no numbers, with one exception: a region outlives the context in
 * its handle, and so remembers the generation of that context's presence.
 *
 * A context is looked up by its id. Where others refer to a context that is not there (watched, member of a group,
 * granted something, reserved), an absent one stands in its place: it becomes present when somebody joins, and the
 * references hold. They are dropped when the context dies, all but watches and the reservation, so that its successor
 * under the same id inherits nothing.
 *
 * Who is related with whom (watches, members, grants, attachments) are relations: one structure, found by its two
 * sides, and in a list of each.
 */
#ifndef BROKER_PRIV_H
#define BROKER_PRIV_H

#include "broker/broker.h"
#include "broker/list.h"
#include "broker/table.h"
#include "proto/event.h"
#include "proto/limits.h"

struct brk_region;

enum brk_kind {
	BRK_KIND_CONTEXT,
	BRK_KIND_CLIENT,
	BRK_KIND_RESOURCE,
	BRK_KIND_NAME,
	BRK_KIND_NUM,
};

/* struct brk_object - what brk_list() finds: the head of everything that has a line */
struct brk_object {
	enum brk_kind kind;
	uint32_t slot;
};

struct brk_slot {
	struct brk_object *object;	/* NULL: free */
	uint32_t next;			/* free: the next free one */
};

#define BRK_NO_SLOT UINT32_MAX

/**
 * struct brk - the broker
 * @slot:    all objects, @n_slots places of which @used were ever used; @free: the first free one. Freed places are
 *	     used again in the order in which they became free
 * @next_rid, @next_cid: where the search for the next id begins; never goes back
 * @notes_period: how often brk_notes_renew() was called
 * @gen:     counts what has an order: presences of contexts, memberships
 * @stamp:   the newest that was given, or shown
 * @due:     resumed watches of contexts that are not back
 * @handles, @contexts, @users, @names, @named, @relations: tables by handle, id, uid, name, named handle, sides
 * @windows: all of them; there are as many as trust groups of VMs
 */
struct brk {
	struct brk_ports ports;
	uint64_t seed[2];
	struct brk_limits limits;
	bool is_grace;
	unsigned notes_period;
	struct brk_slot *slot;
	uint32_t n_slots;
	uint32_t used;
	uint32_t free;
	uint32_t last_free;
	uint32_t next_rid;
	uint32_t next_cid;
	uint64_t gen;
	uint64_t stamp;
	struct brk_table handles;
	struct brk_table contexts;
	struct brk_table users;
	struct brk_table names;
	struct brk_table named;
	struct brk_table relations;
	struct brk_link due;
	struct brk_context *host;
	struct brk_group *public;
	struct brk_link windows;
};

/* brk_object_add() - give @object a place. Return: 0 or VMCI_ERROR_NO_MEM */
int32_t brk_object_add(struct brk *brk, struct brk_object *object, enum brk_kind kind);
void brk_object_del(struct brk *brk, struct brk_object *object);

/* brk_absent() - the result where something is not known: @code, or later in the time of grace */
static inline int32_t brk_absent(const struct brk *brk, int32_t code)
{
	return brk->is_grace ? BRK_LATER : code;
}

/* --- relation.c */

/* struct brk_side - one side's list of relations */
struct brk_side {
	struct brk_link list;
	unsigned count;
};

/**
 * struct brk_relation - two objects have to do with each other, as what their sides are called
 * @node:    in @relations, by the two sides
 * @side:    members of the two objects: brk_of() leads to them
 * @link:    in the lists of the two sides
 * @account: who pays for a grant; else NULL
 * @group:   of a grant: to whom, if it is a group
 * @allow, @deny: of a grant
 * @order:   of a membership: the later, the larger
 * @assign:  of a membership: privileges may come through it
 * @due:     of a watch: in @due, or in no list
 */
struct brk_relation {
	struct brk_node node;
	struct brk_side *side[2];
	struct brk_link link[2];
	struct brk_account *account;
	struct brk_group *group;
	uint32_t allow;
	uint32_t deny;
	uint64_t order;
	bool assign;
	struct brk_link due;
};

static inline void brk_side_init(struct brk_side *side)
{
	brk_link_init(&side->list);
	side->count = 0;
}

/* brk_relation_new() - Return: NULL if there is no memory */
struct brk_relation *brk_relation_new(struct brk *brk, struct brk_side *a, struct brk_side *b);
void brk_relation_free(struct brk *brk, struct brk_relation *relation);
/* brk_relation_find() - NULL if there is none */
struct brk_relation *brk_relation_find(const struct brk *brk, const struct brk_side *a, const struct brk_side *b);

/* brk_relation_of() - whose link this is, in the list of side @i */
static inline struct brk_relation *brk_relation_of(struct brk_link *link, unsigned i)
{
	return i ? brk_of(link, struct brk_relation, link[1]) : brk_of(link, struct brk_relation, link[0]);
}

/* brk_relation_first() - the oldest in the list of @side, which is side @i; NULL */
static inline struct brk_relation *brk_relation_first(const struct brk_side *side, unsigned i)
{
	return side->count ? brk_relation_of(side->list.next, i) : NULL;
}

/* --- account.c */

enum brk_type {
	BRK_DATAGRAM,
	BRK_BELL,
	BRK_PAIR,
	BRK_REGION,
	BRK_GROUP,
	BRK_TYPE_NUM,
};

/**
 * struct brk_user - what one user has altogether; a VM's device has one of its own
 * @node:  in @users, if @is_shared
 * @host:   the user's account in context 2, if there is one
 * @limits: the broker's
 */
struct brk_user {
	struct brk_node node;
	const struct brk_limits *limits;
	bool is_shared;
	uint32_t uid;
	unsigned refs;
	unsigned clients;
	unsigned contexts;
	unsigned resources;
	uint64_t region_bytes;
	struct brk_account *host;
};

/**
 * struct brk_account - what a context has; context 2 has one for each user
 * @refs: clients and resources that are counted here
 * @window_bytes: that its regions take in a window, in pages
 */
struct brk_account {
	struct brk_user *user;
	unsigned refs;
	unsigned count[BRK_TYPE_NUM];
	unsigned names;
	unsigned grants;
	uint64_t ring_bytes;
	uint64_t window_bytes;
};

/* brk_user_get() - the user @uid, one reference more; a new one if not @is_shared. NULL if there is no memory */
struct brk_user *brk_user_get(struct brk *brk, uint32_t uid, bool is_shared);
void brk_user_put(struct brk *brk, struct brk_user *user);

/* brk_account_get() - the account for a client of @user: in the host's context, or a new one. One reference more */
struct brk_account *brk_account_get(struct brk_user *user, bool is_host);
void brk_account_put(struct brk *brk, struct brk_account *account);

/* brk_account_has_room() - for one more of @type, with so many bytes (pairs, regions) */
bool brk_account_has_room(const struct brk_account *account, enum brk_type type, uint64_t bytes);

/* brk_account_add(), brk_account_del() - count one, which refers to the account as long as it is counted */
void brk_account_add(struct brk_account *account, enum brk_type type, uint64_t bytes);
void brk_account_del(struct brk *brk, struct brk_account *account, enum brk_type type, uint64_t bytes);

/* --- context.c */

/**
 * enum brk_presence - what a context is
 * @BRK_ABSENT:   nobody's; others refer to it.
 *	Operations: a program or a device says hello -> SOFTWARE, VM; the last reference goes -> freed
 * @BRK_HOST:     context 2.
 *	Caveat: there for ever, with or without clients
 * @BRK_VM:       a device's.
 *	Operations: the device goes -> ABSENT or freed
 * @BRK_SOFTWARE: of programs of one user.
 *	Operations: more join; the last one goes -> ABSENT or freed
 */
enum brk_presence {
	BRK_ABSENT,
	BRK_HOST,
	BRK_VM,
	BRK_SOFTWARE,
	BRK_PRESENCE_NUM,
};

/**
 * struct brk_context - a context
 * @gen:        of this presence
 * @stamp:      software: of its creation, also before a restart
 * @is_trusted: software: its user is
 * @is_reserved: belongs to a configured VM
 * @uid:        software: whose
 * @device:     VM
 * @clients:    those that have joined
 * @watches:    relations (client, this)
 * @members:    relations (group, this)
 * @grants:     relations (resource, this)
 * @names:      whose handle lies here
 */
struct brk_context {
	struct brk_object object;
	struct brk_node node;
	uint32_t cid;
	enum brk_presence presence;
	uint64_t gen;
	uint64_t stamp;
	bool is_restricted;
	bool is_unrestricted;
	bool is_trusted;
	bool is_reserved;
	uint32_t uid;
	char name[BRK_VM_NAME_MAX + 1];
	char domain[BRK_DOMAIN_MAX + 1];
	struct brk_filter_rule *rules;
	size_t n_rules;
	struct brk_client *device;
	struct brk_link clients;
	struct brk_side watches;
	struct brk_side members;
	struct brk_side grants;
	struct brk_link names;
};

/* brk_cid_is_possible() - can there be such a context: 2, or 16 and more */
static inline bool brk_cid_is_possible(uint32_t cid)
{
	return cid == VMCI_CID_HOST || (cid >= VMCI_CID_FIRST_VM && cid != VMCI_INVALID_ID);
}

/* brk_context_find() - present or absent; NULL */
struct brk_context *brk_context_find(const struct brk *brk, uint32_t cid);
/* brk_context_present() - NULL if it is not there */
struct brk_context *brk_context_present(const struct brk *brk, uint32_t cid);
/* brk_context_get() - an absent one is made if it is not known. NULL: no memory. After use: brk_context_put() */
struct brk_context *brk_context_get(struct brk *brk, uint32_t cid);
/* brk_context_put() - a reference has gone, perhaps: free it, if it is absent and nobody refers to it */
void brk_context_put(struct brk *brk, struct brk_context *context);
/* brk_context_leave() - @client leaves; the context dies with the last one */
void brk_context_leave(struct brk_client *client);

/* brk_watches_due() - the time of grace is over: contexts that are watched again, and have not come back, have gone */
void brk_watches_due(struct brk *brk);

/**
 * brk_meet() - may @client, and a party in @context that @is_trusted or not, have to do with each other at all?
 *
 * Domains first, then the coarse rule (VMCI, 5). Return: 0; VMCI_ERROR_DST_UNREACHABLE; VMCI_ERROR_NO_ACCESS
 */
int32_t brk_meet(const struct brk_client *client, const struct brk_context *context, bool is_trusted);

/* brk_pass() - do the firewalls of both sides let @from reach port @port of @to? */
bool brk_pass(const struct brk_context *from, const struct brk_context *to, enum brk_filter_protocol protocol,
	      uint32_t port);

/* --- client.c */

/**
 * struct brk_client - a client
 * @context:   NULL before the hello
 * @datagrams, @events: sinks; @datagrams only of devices
 * @in_context: in @context->clients
 * @resources: endpoints, doorbells and groups that it owns
 * @ends:      of queue pairs
 * @names:     registered by it
 * @watches:   relations (this, context)
 * @regions:   relations (region, this)
 * @window:    the one that it has shown, or NULL
 * @notes:     lines that may still go to the log in period @notes_period
 */
struct brk_client {
	struct brk_object object;
	struct brk *brk;
	struct brk_creds creds;
	void *owner;
	struct brk_user *user;
	struct brk_account *account;
	struct brk_context *context;
	char label[BRK_LABEL_MAX + 1];
	void *datagrams;
	void *events;
	struct brk_link in_context;
	struct brk_link resources;
	struct brk_link ends;
	struct brk_link names;
	struct brk_side watches;
	struct brk_side regions;
	struct brk_window *window;
	unsigned notes;
	unsigned notes_period;
};

/* brk_client_evict() - @client loses its context and all that it has there, and is as before its hello */
void brk_client_evict(struct brk_client *client);

/* brk_note() - a line for the log, which names the client. The line says what @client did, or what became of it. */
void brk_note(struct brk_client *client, enum log_level level, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* brk_denied() - log that @client has no right; returns VMCI_ERROR_NO_ACCESS */
int32_t brk_denied(struct brk_client *client, const char *what, struct vmci_handle handle, const char *why);

/* brk_event() - tell @client, if it wants events */
void brk_event(struct brk_client *client, const struct event *event);

/* brk_copy_text() - copy at most @max bytes of @text (NULL is fine) into @dst, with '?' for what is not printable */
void brk_copy_text(char *dst, size_t max, const char *text);

/* --- token.c */

enum brk_token {
	BRK_TOKEN_CONTEXT = 1,
	BRK_TOKEN_DATAGRAM,
	BRK_TOKEN_BELL,
	BRK_TOKEN_PAIR,
	BRK_TOKEN_REGION,
	BRK_TOKEN_GROUP,
	BRK_TOKEN_NAME,
	BRK_TOKEN_PLACE,
	BRK_TOKEN_WINDOW,
};

/*
 * A stamp says which creation of a handle, context or name a token is about: it is in the token, grows from creation to
 * creation, also over restarts, and is the same for all who have to do with one object. 0: not known, because a device
 * said so without a token; fits any.
 */
#define BRK_STAMP_MAX ((UINT64_C(1) << 56) - 1)

/* brk_stamp_new() - of something that is made now */
uint64_t brk_stamp_new(struct brk *brk);

static inline bool brk_stamp_fits(uint64_t a, uint64_t b)
{
	return !a || !b || a == b;
}

/* brk_stamp_displaces() - does who shows @stamp get what somebody has with the stamp @old? */
static inline bool brk_stamp_displaces(const struct brk *brk, uint64_t stamp, uint64_t old)
{
	return brk->is_grace && old && stamp > old;
}

/* brk_token_make() - say that @handle (or the name) was this client's user's; @ret_token may be NULL */
void brk_token_make(const struct brk_client *client, enum brk_token kind, struct vmci_handle handle, uint64_t stamp,
		    uint8_t *ret_token);
void brk_token_make_name(const struct brk_client *client, const char *name, size_t size, uint64_t stamp,
			 uint8_t *ret_token);

/* brk_token_is_good() - is @token what was made, and with which stamp? Devices need none. */
bool brk_token_is_good(const struct brk_client *client, enum brk_token kind, struct vmci_handle handle,
		       const uint8_t *token, uint64_t *ret_stamp);
bool brk_token_is_good_name(const struct brk_client *client, const char *name, size_t size, const uint8_t *token,
			    uint64_t *ret_stamp);

/* brk_token_make_place() - of a region that lies in a window: about its handle, its bytes, and where they lie */
void brk_token_make_place(const struct brk_client *client, const struct brk_region *region, uint8_t *ret_token);

/* brk_token_is_place() - is @token such a one? Also of a device: it must be right. */
bool brk_token_is_place(const struct brk_client *client, struct vmci_handle handle, uint64_t bytes, uint64_t offset,
			const uint8_t *id, const uint8_t *token, uint64_t *ret_stamp);

/* brk_token_make_window(), brk_token_is_window() - the memory @id is the window of @key; also of a device */
void brk_token_make_window(const struct brk_client *client, const uint8_t *id, const char *key, uint8_t *ret_token);
bool brk_token_is_window(const struct brk_client *client, const uint8_t *id, const char *key, const uint8_t *token);

/* --- resource.c */

/**
 * struct brk_resource - what has a handle
 * @node:      in @handles
 * @owner:     its client; NULL: has gone (pairs, regions), or the broker itself (public group)
 * @owned:     in @owner->resources (not pairs and regions)
 * @stamp:     of its creation, also before a restart; 0: unknown
 * @gen:       of the owner's context; 0: unknown
 * @uid, @is_trusted: of the owner, also when it has gone
 * @account:   where it counts; NULL: nowhere (public group)
 * @bytes:     that count there
 * @thing:     sink, eventfd, pair until somebody attaches, memory
 * @is_closed: something has been granted: who has no grant has no right
 * @is_shared: an endpoint as which all clients of its user and context may send
 * @grants:    relations (this, context or group)
 */
struct brk_resource {
	struct brk_object object;
	struct brk_node node;
	enum brk_type type;
	struct vmci_handle handle;
	struct brk_client *owner;
	struct brk_link owned;
	uint64_t stamp;
	uint64_t gen;
	uint32_t uid;
	bool is_trusted;
	struct brk_account *account;
	uint64_t bytes;
	void *thing;
	bool is_closed;
	bool is_shared;
	struct brk_side grants;
};

struct brk_resource *brk_resource_find(const struct brk *brk, struct vmci_handle handle);

/**
 * struct brk_wish - which handle a new resource gets
 * @stamp: of the creation
 * @known: after a restart: the same one, of which somebody else has told already
 */
struct brk_wish {
	struct vmci_handle handle;
	uint64_t stamp;
	struct brk_resource *known;
};

/**
 * brk_resource_wish() - may @client have the handle (@cid, @rid)?
 * @cid:    context of the handle
 * @resume: NULL, or the token
 * @is_shared: with @resume, a resource of the same handle and stamp is not refused, but returned
 *
 * Return: 0; VMCI_ERROR_*; BRK_LATER
 */
int32_t brk_resource_wish(struct brk_client *client, uint32_t cid, uint32_t rid, enum brk_token kind,
			  const uint8_t *resume, bool is_shared, struct brk_wish *ret_wish);

/**
 * brk_resource_contest() - @client resumes what has @wish->handle and @wish->stamp
 *
 * @wish->known is set if it is there; another one under the handle is taken away if it is older.
 * Return: 0; VMCI_ERROR_ALREADY_EXISTS: it stays
 */
int32_t brk_resource_contest(struct brk_client *client, struct brk_wish *wish);

/**
 * brk_resource_new() - a resource of @size bytes, of which struct brk_resource is the head; counted
 *
 * @client's, but in none of its lists. Return: 0; VMCI_ERROR_NO_RESOURCES; VMCI_ERROR_NO_MEM
 */
int32_t brk_resource_new(struct brk_client *client, size_t size, enum brk_type type, const struct brk_wish *wish,
			 uint64_t bytes, struct brk_resource **ret_resource);

/* brk_resource_displace() - as brk_resource_free(), but nobody is told, and its names stay for what comes instead */
void brk_resource_displace(struct brk *brk, struct brk_resource *resource);

/* brk_resource_free() - with its thing, grants, and names */
void brk_resource_free(struct brk *brk, struct brk_resource *resource);

/* brk_resource_own() - the resource @handle of @type, if it is @client's own. Return: 0; NOT_FOUND; NO_ACCESS */
int32_t brk_resource_own(struct brk_client *client, struct vmci_handle handle, enum brk_type type,
			 struct brk_resource **ret_resource);

/* --- right.c */

/* brk_right() - may a party in @context do @priv to @resource? */
bool brk_right(const struct brk *brk, const struct brk_resource *resource, const struct brk_context *context,
	       unsigned priv);

/* brk_right_may_change() - has @client itself the owner's right @priv (CH_PRIV, ASSIGN_CLIENT)? */
bool brk_right_may_change(const struct brk_client *client, const struct brk_resource *resource, unsigned priv);

/* brk_grant_free() - a grant ends */
void brk_grant_free(struct brk *brk, struct brk_relation *grant);

/* brk_grants_free() - side 0: of a resource; side 1: to a context or group */
void brk_grants_free(struct brk *brk, struct brk_side *side, unsigned i);

/* --- group.c */

/**
 * struct brk_group - a group
 * @members: relations (this, context); the public group has none, because everybody is in it
 * @granted: relations (resource, this)
 */
struct brk_group {
	struct brk_resource resource;
	struct brk_side members;
	struct brk_side granted;
};

/* brk_group_public() - make the public group. Return: 0 or VMCI_ERROR_NO_MEM */
int32_t brk_group_public(struct brk *brk);
struct brk_group *brk_group_find(const struct brk *brk, struct vmci_handle handle);

/* brk_group_done() - forget members, and what was granted to the group */
void brk_group_done(struct brk *brk, struct brk_group *group);

/* --- window.c */

/* brk_place_bytes() - what a region of @bytes takes in a window */
static inline uint64_t brk_place_bytes(uint64_t bytes)
{
	return (bytes + LIMIT_WINDOW_PAGE - 1) & ~(uint64_t)(LIMIT_WINDOW_PAGE - 1);
}

/* brk_window_learn() - the window with this memory, which is taken; one reference more. NULL: no memory, not taken */
struct brk_window *brk_window_learn(struct brk *brk, void *memory);

/* brk_window_with() - the window whose memory is @id; NULL */
struct brk_window *brk_window_with(const struct brk *brk, const uint8_t *id);

const uint8_t *brk_window_id(const struct brk_window *window);

/* brk_window_has_room() - may @account have @bytes more in it? Of a domain's window nobody gets more than half. */
bool brk_window_has_room(const struct brk_window *window, const struct brk_account *account, uint64_t bytes);

/* brk_window_allot() - where are @bytes free? */
bool brk_window_allot(const struct brk_window *window, uint64_t bytes, uint64_t *ret_offset);

/* brk_window_clash() - a region that lies where @bytes at @offset would lie, or NULL */
struct brk_region *brk_window_clash(const struct brk_window *window, uint64_t offset, uint64_t bytes);

/* brk_window_place() - @region lies in it now, at its @offset, where nothing else lies */
void brk_window_place(struct brk_window *window, struct brk_region *region);

/* brk_window_given() - it was given this place just now: the next search begins behind it */
void brk_window_given(struct brk_window *window, const struct brk_region *region);

/* brk_window_move() - @region is going to be counted by @account */
void brk_window_move(struct brk_region *region, struct brk_account *account);

/* brk_window_unplace() - the place is free, and cleared; nothing for a region with memory of its own */
void brk_window_unplace(struct brk *brk, struct brk_region *region);

/* brk_window_clear() - zero it. Return: false: not possible */
bool brk_window_clear(struct brk *brk, const struct brk_window *window, uint64_t offset, uint64_t bytes);

/* --- pair.c, region.c, name.c */

/**
 * enum brk_pair_state - what a queue pair is
 * @BRK_PAIR_CREATED:  @end[0] is there, and we have the thing.
 *	Operations: attach -> ATTACHED, the thing is handed out; leave -> freed
 * @BRK_PAIR_ATTACHED: both ends are there; after a restart, @end[1] may be missing still.
 *	Operations: leave -> SHUTDOWN, or freed if the other end is missing; hold -> ATTACHED
 * @BRK_PAIR_SHUTDOWN: one end has left.
 *	Operations: leave -> freed. Caveat: nobody can attach
 */
enum brk_pair_state {
	BRK_PAIR_CREATED,
	BRK_PAIR_ATTACHED,
	BRK_PAIR_SHUTDOWN,
	BRK_PAIR_STATE_NUM,
};

/**
 * struct brk_end - one end of a queue pair
 * @in_client:  in @client->ends
 * @client:     NULL: nobody's
 * @account:    where it counts, if not with the resource
 * @is_missing: context @cid has it, but has not said so since the restart
 */
struct brk_end {
	struct brk_link in_client;
	struct brk_pair *pair;
	struct brk_client *client;
	struct brk_account *account;
	uint32_t cid;
	bool is_missing;
};

/**
 * struct brk_pair - a queue pair
 * @peer:       context that may attach, or VMCI_INVALID_ID
 * @produce, @consume: as @end[0] sees them
 * @trusted:    the attacher must be
 * @is_resumed: it was there before a restart
 * @end:        the creator's (after a restart: of who came first), the attacher's
 */
struct brk_pair {
	struct brk_resource resource;
	enum brk_pair_state state;
	uint32_t peer;
	uint64_t produce;
	uint64_t consume;
	bool trusted;
	bool is_resumed;
	struct brk_end end[2];
};

/* brk_pair_state_to_string() - for humans */
const char *brk_pair_state_to_string(enum brk_pair_state state);

/* brk_pair_done() - forget the ends; nobody is told */
void brk_pair_done(struct brk *brk, struct brk_pair *pair);

/* brk_end_leave() - the end's client leaves the pair. Return: 0 or VMCI_SUCCESS_LAST_DETACH */
int32_t brk_end_leave(struct brk *brk, struct brk_end *end);

/**
 * struct brk_region - shared memory
 * @offset:    where it begins in the memory
 * @attached:  relations (this, client)
 * @window:    that has the memory; NULL: the region has memory of its own (@resource.thing)
 * @in_window: in the window's list, by @offset
 */
struct brk_region {
	struct brk_resource resource;
	uint64_t offset;
	struct brk_side attached;
	struct brk_window *window;
	struct brk_link in_window;
};

/* brk_region_done() - forget who is attached */
void brk_region_done(struct brk *brk, struct brk_region *region);

/* brk_region_leave() - @attachment ends. Return: 0 or VMCI_SUCCESS_LAST_DETACH */
int32_t brk_region_leave(struct brk *brk, struct brk_relation *attachment);

/**
 * struct brk_name - a name
 * @node, @by_handle: in @names, @named
 * @client:     who registered it; NULL: the broker
 * @stamp:      of the registration, also before a restart; 0: unknown
 * @in_client:  in @client->names
 * @in_context: in the list of the context that @handle lies in
 */
struct brk_name {
	struct brk_object object;
	struct brk_node node;
	struct brk_node by_handle;
	struct vmci_handle handle;
	struct brk_context *context;
	struct brk_client *client;
	uint64_t stamp;
	struct brk_link in_client;
	struct brk_link in_context;
	size_t size;
	char text[];
};

int32_t brk_name_new(struct brk *brk, struct brk_client *client, const char *text, size_t size,
		     struct vmci_handle handle, uint64_t stamp);
void brk_name_free(struct brk *brk, struct brk_name *name);

/* brk_names_free() - all names of @handle */
void brk_names_free(struct brk *brk, struct vmci_handle handle);

/**
 * brk_discovery() - carry out a request
 * @may_wait: may it be told BRK_LATER?
 *
 * As brk_name(), the payload of the reply in @ret_reply.
 */
int32_t brk_discovery(struct brk_client *client, const uint8_t *request, size_t size, const uint8_t *resume,
		      bool may_wait, uint8_t *ret_reply, size_t *ret_size, uint8_t *ret_token);

static inline void brk_drop(struct brk *brk, void *thing)
{
	if (thing)
		brk->ports.drop(brk->ports.ctx, thing);
}

#endif /* BROKER_PRIV_H */
