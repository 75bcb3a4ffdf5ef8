/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * DOC: Model test of the broker
 *
 * Some clients of several users, in the host's context, in software contexts and as devices of VMs, do what they like
 * with a few handles, names and groups, so that they get into each other's way; and die. The model is the rules once
 * more, written for a handful of objects without any thought of speed: arrays, and loops over them. Checked at every
 * step:
 *
 *  - the result is the one that the model predicts, to the code: so everybody sees what he may, and nothing else;
 *  - the datagrams and events of the step are the predicted ones, at the predicted sinks;
 *  - each thing is in the broker's hands as long as in the model's. So nothing leaks, and nothing is dropped twice.
 *
 * MODEL_SEED and MODEL_STEPS choose the first seed and the length of a world; MODEL_WORLDS how many. A failure prints
 * what is needed to repeat it.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "broker/broker.h"
#include "broker/table.h"
#include "proto/dg.h"
#include "proto/event.h"
#include "proto/limits.h"

#define ANY VMCI_INVALID_ID
#define CLIENTS 10
#define OBJECTS 200
#define NAMES 6
#define GRANTS 12
#define MEMBERS 12
#define NEWS 512

enum kind { HOST, SOFTWARE, VM };

/* All contexts that there can be. */
static const struct place {
	uint32_t cid;
	enum kind kind;
	const char *domain;
	bool unrestricted;
	bool restricted;
} places[] = {
	{ 2, HOST, "", false, false },
	{ 100, SOFTWARE, "", false, false },
	{ 101, SOFTWARE, "", false, true },
	{ 102, SOFTWARE, "", false, false },
	{ 40, VM, "x", false, false },
	{ 41, VM, "x", false, true },
	{ 42, VM, "", true, false },
	{ 43, VM, "y", true, false },
};
#define PLACES (sizeof(places) / sizeof(places[0]))

enum type { DATAGRAM, BELL, PAIR, REGION, GROUP };

struct thing {
	struct thing *next;
	bool is_real;	/* in the broker's hands */
	bool is_model;	/* should be */
};

struct grant {
	struct vmci_handle subject;
	uint32_t allow;
	uint32_t deny;
};

struct member {
	uint32_t cid;
	unsigned order;
	bool assign;
};

struct object {
	bool used;
	enum type type;
	struct vmci_handle handle;
	int owner;
	uint32_t uid;
	bool trusted;
	unsigned gen;
	struct thing *thing;
	bool closed;
	struct grant grant[GRANTS];
	unsigned n_grants;
	bool is_whole;		/* pairs: both ends were there */
	int end[2];
	uint32_t end_cid[2];
	uint32_t peer;
	uint64_t produce;
	uint64_t consume;
	bool want_trusted;
	bool attached[CLIENTS];
	struct member member[MEMBERS];
	unsigned n_members;
};

struct client {
	struct brk_client *real;
	unsigned place;
	uint32_t uid;
	bool trusted;
	struct thing *datagrams;
	struct thing *events;
	bool watches[PLACES];
};

struct presence {
	unsigned gen;	/* 0: absent */
	uint32_t uid;
	bool trusted;
	bool restricted;
};

struct name {
	bool used;
	struct vmci_handle handle;
	int client;	/* -1: the broker's */
};

/* A delivery. */
struct news {
	struct thing *sink;
	uint32_t id;	/* an event's, or ANY: a datagram */
	uint32_t context;
	struct vmci_handle handle;
};

static struct world {
	uint64_t state;
	uint64_t seed;
	unsigned step;
	const char *what;
	unsigned *tally;
	struct brk *brk;
	struct client client[CLIENTS];
	struct presence presence[PLACES];
	struct object object[OBJECTS];
	struct name name[NAMES];
	struct thing *things;
	unsigned gen;
	unsigned order;
	struct news expected[NEWS];
	unsigned n_expected;
	struct news got[NEWS];
	unsigned n_got;
} w;

static void __attribute__((format(printf, 1, 2), noreturn)) fail(const char *fmt, ...)
{
	va_list ap;

	fprintf(stderr, "seed %llu step %u (%s): ", (unsigned long long)w.seed, w.step, w.what);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fprintf(stderr, "\nrepeat with MODEL_SEED=%llu MODEL_WORLDS=1\n", (unsigned long long)w.seed);
	abort();
}

static uint32_t dice(uint32_t sides)
{
	w.state = w.state * 6364136223846793005ull + 1442695040888963407ull;
	return (uint32_t)(w.state >> 33) % sides;
}

/* --- Ports */

static void tell(struct news *list, unsigned *n, struct thing *sink, uint32_t id, uint32_t context,
		 struct vmci_handle handle)
{
	if (*n == NEWS)
		fail("too much news");
	list[(*n)++] = (struct news){ sink, id, context, handle };
}

static int32_t deliver(void *ctx, void *sink, const uint8_t *dg, size_t size, bool is_event)
{
	struct event event;

	(void)ctx;
	if (!((struct thing *)sink)->is_real)
		fail("delivered into a dropped sink");
	if (is_event != event_is_source(dg_parse(dg).src))
		fail("a datagram passed as an event");
	if (!is_event)
		tell(w.got, &w.n_got, sink, ANY, dg_parse(dg).src.context, dg_parse(dg).dst);
	else if (event_parse(dg, size, &event))
		fail("bad event");
	else
		tell(w.got, &w.n_got, sink, event.id, event.context, event.handle);
	return (int32_t)size;
}

static void drop(void *ctx, void *thing)
{
	struct thing *t = thing;

	(void)ctx;
	if (!t->is_real)
		fail("dropped twice");
	t->is_real = false;
}

static bool is_same(void *ctx, const void *a, const void *b)
{
	(void)ctx;
	return a == b;
}

static void identify(void *ctx, const void *memory, uint8_t ret_id[BRK_ID_SIZE])
{
	(void)ctx;
	memset(ret_id, 0, BRK_ID_SIZE);
	put_le64(ret_id, (uintptr_t)memory);
}

static bool clear(void *ctx, void *memory, uint64_t offset, uint64_t bytes)
{
	(void)ctx;
	(void)memory;
	(void)offset;
	(void)bytes;
	return true;
}

static void mac(void *ctx, const uint8_t *data, size_t size, uint8_t ret_token[BRK_TOKEN_SIZE])
{
	static const uint64_t key[2] = { 3, 4 };

	(void)ctx;
	memset(ret_token, 0, BRK_TOKEN_SIZE);
	put_le64(ret_token, brk_hash_bytes(key, data, size));
}

static uint64_t now(void *ctx)
{
	(void)ctx;
	/* Within a step it stands still. */
	return w.step * 1000u;
}

static void on_log(void *ctx, enum log_level level, const char *line)
{
	(void)ctx;
	(void)level;
	(void)line;
}

static struct thing *give(void)
{
	struct thing *thing = calloc(1, sizeof(*thing));

	if (!thing)
		abort();
	thing->is_real = true;
	thing->next = w.things;
	w.things = thing;
	return thing;
}

/* --- The rules once more */

static int place_of(uint32_t cid)
{
	for (unsigned i = 0; i < PLACES; i++)
		if (places[i].cid == cid)
			return (int)i;
	return -1;
}

/* Index of a context that is there, or -1. */
static int present(uint32_t cid)
{
	int i = place_of(cid);

	return i >= 0 && w.presence[i].gen ? i : -1;
}

static bool are_strangers(unsigned a, unsigned b)
{
	if (a == b || places[a].kind != VM || places[b].kind != VM)
		return false;
	if (places[a].unrestricted && places[b].unrestricted)
		return false;
	return !places[a].domain[0] || strcmp(places[a].domain, places[b].domain);
}

static int32_t meet(const struct client *c, unsigned place, bool trusted)
{
	if (are_strangers(c->place, place))
		return VMCI_ERROR_DST_UNREACHABLE;
	if (c->place == place)
		return 0;
	if ((w.presence[c->place].restricted && !trusted) || (w.presence[place].restricted && !c->trusted))
		return VMCI_ERROR_NO_ACCESS;
	return 0;
}

static struct object *find(struct vmci_handle handle)
{
	for (unsigned i = 0; i < OBJECTS; i++)
		if (w.object[i].used && handle_is_equal(w.object[i].handle, handle))
			return &w.object[i];
	return NULL;
}

static struct object *find_type(struct vmci_handle handle, enum type type)
{
	struct object *object = find(handle);

	return object && object->type == type ? object : NULL;
}

static bool is_public(struct vmci_handle handle)
{
	return handle_is_equal(handle, handle_make(2, BRK_PUBLIC_GROUP_RID));
}

static const struct member *member_of(const struct object *group, uint32_t cid)
{
	for (unsigned i = 0; i < group->n_members; i++)
		if (group->member[i].cid == cid)
			return &group->member[i];
	return NULL;
}

static bool right(const struct object *object, uint32_t cid, unsigned priv, bool as_owner)
{
	const struct grant *best = NULL;
	unsigned best_order = ~0u;
	uint32_t bit = 1u << priv;
	int place = present(cid);

	if (as_owner && place >= 0 && w.presence[place].gen == object->gen)
		return true;
	for (unsigned i = 0; i < object->n_grants; i++) {
		const struct grant *grant = &object->grant[i];
		const struct member *member;

		if (!((grant->allow | grant->deny) & bit))
			continue;
		if (handle_is_equal(grant->subject, handle_make(cid, 0)))
			return grant->allow & bit;
		if (!grant->subject.resource)
			continue;
		if (is_public(grant->subject)) {
			best = grant;
			best_order = 0;
			continue;
		}
		member = member_of(find(grant->subject), cid);
		if (member && member->assign && member->order < best_order) {
			best = grant;
			best_order = member->order;
		}
	}
	if (best)
		return best->allow & bit;
	return as_owner && !object->closed && (priv == VMCI_PRIV_DG_SEND || priv == VMCI_PRIV_SM_ATTACH);
}

static bool may_change(const struct client *c, const struct object *object, unsigned priv)
{
	if (w.presence[c->place].gen == object->gen && (c->uid == object->uid || c->trusted))
		return true;
	return right(object, places[c->place].cid, priv, false);
}

static void forget(struct object *object)
{
	if (object->thing)
		object->thing->is_model = false;
	for (unsigned i = 0; i < NAMES; i++)
		if (handle_is_equal(w.name[i].handle, object->handle))
			w.name[i].used = false;
	if (object->type == GROUP)
		for (unsigned i = 0; i < OBJECTS; i++)
			for (unsigned k = 0; k < w.object[i].n_grants; k++)
				if (handle_is_equal(w.object[i].grant[k].subject, object->handle))
					w.object[i].grant[k--] = w.object[i].grant[--w.object[i].n_grants];
	object->used = false;
}

static void expect_event(int client, uint32_t id, uint32_t context, struct vmci_handle handle)
{
	if (client >= 0 && w.client[client].events)
		tell(w.expected, &w.n_expected, w.client[client].events, id, context, handle);
}

static int32_t leave_pair(struct object *pair, unsigned i)
{
	int other = pair->end[!i];

	if (pair->owner == pair->end[i])
		pair->owner = -1;
	pair->end[i] = -1;
	if (other < 0) {
		forget(pair);
		return VMCI_SUCCESS_LAST_DETACH;
	}
	expect_event(other, VMCI_EVENT_QP_PEER_DETACH, pair->end_cid[i], pair->handle);
	return 0;
}

static int32_t leave_region(struct object *region, int client)
{
	region->attached[client] = false;
	if (region->owner == client)
		region->owner = -1;
	for (unsigned i = 0; i < CLIENTS; i++)
		if (region->attached[i])
			return 0;
	forget(region);
	return VMCI_SUCCESS_LAST_DETACH;
}

static void context_dies(unsigned place)
{
	uint32_t cid = places[place].cid;

	for (int i = 0; i < CLIENTS; i++)
		if (w.client[i].real && w.client[i].watches[place] && !meet(&w.client[i], place,
									    w.presence[place].trusted))
			expect_event(i, VMCI_EVENT_CTX_REMOVED, cid, handle_make(0, 0));
	for (unsigned i = 0; i < NAMES; i++)
		if (w.name[i].handle.context == cid)
			w.name[i].used = false;
	for (unsigned i = 0; i < OBJECTS; i++) {
		struct object *object = &w.object[i];

		for (unsigned k = 0; k < object->n_grants; k++)
			if (handle_is_equal(object->grant[k].subject, handle_make(cid, 0)))
				object->grant[k--] = object->grant[--object->n_grants];
		for (unsigned k = 0; k < object->n_members; k++)
			if (object->member[k].cid == cid)
				object->member[k--] = object->member[--object->n_members];
	}
	w.presence[place] = (struct presence){ 0 };
}

static void client_dies(int index)
{
	struct client *c = &w.client[index];
	unsigned place = c->place;
	bool is_last = true;

	for (unsigned i = 0; i < NAMES; i++)
		if (w.name[i].client == index)
			w.name[i].used = false;
	for (unsigned i = 0; i < OBJECTS; i++) {
		struct object *object = &w.object[i];

		if (!object->used)
			continue;
		if (object->type == PAIR) {
			for (unsigned k = 0; k < 2; k++)
				if (object->end[k] == index) {
					leave_pair(object, k);
					break;
				}
		} else if (object->type == REGION) {
			if (object->attached[index])
				leave_region(object, index);
		} else if (object->owner == index) {
			forget(object);
		}
	}
	if (c->events)
		c->events->is_model = false;
	if (c->datagrams)
		c->datagrams->is_model = false;
	*c = (struct client){ 0 };
	for (unsigned i = 0; i < CLIENTS; i++)
		is_last &= !(w.client[i].real && w.client[i].place == place);
	if (is_last && places[place].kind != HOST)
		context_dies(place);
}

/* --- Steps */

static int some_client(void)
{
	for (unsigned tries = 0; tries < 20; tries++) {
		unsigned i = dice(CLIENTS);

		if (w.client[i].real)
			return (int)i;
	}
	return -1;
}

static uint32_t some_cid(void)
{
	static const uint32_t odd[] = { 0, 1, 7, 99, ANY };

	return dice(20) ? places[dice(PLACES)].cid : odd[dice(5)];
}

/* A handle that may exist; mostly one that does. */
static struct vmci_handle some_handle(int type)
{
	for (unsigned tries = 0; tries < 30 && dice(30); tries++) {
		const struct object *object = &w.object[dice(OBJECTS)];

		if (object->used && (type < 0 || object->type == (enum type)type))
			return object->handle;
	}
	return handle_make(some_cid(), 2000 + dice(8));
}

static void check(int32_t result, int32_t expected)
{
	if (result != expected)
		fail("result %d, expected %d", result, expected);
	if (w.tally)
		w.tally[result >= 0]++;
}

/* What id does a new resource get? Returns the expected error, or 0. */
static int32_t wish(const struct client *c, uint32_t cid, uint32_t rid)
{
	if (rid == ANY)
		return 0;
	if (rid <= 1)
		return VMCI_ERROR_NO_ACCESS;
	if (find(handle_make(cid, rid)) || is_public(handle_make(cid, rid)))
		return VMCI_ERROR_ALREADY_EXISTS;
	if (rid < 1024 && !c->trusted && !(places[c->place].kind == VM && places[c->place].cid == cid))
		return VMCI_ERROR_NO_ACCESS;
	return 0;
}

static uint32_t some_wish(void)
{
	static const uint32_t low[] = { 0, 1, 1000, 1023 };

	return dice(3) ? ANY : dice(8) ? 2000 + dice(8) : low[dice(4)];
}

static struct object *new_object(int client, enum type type, struct vmci_handle handle, struct thing *thing)
{
	const struct client *c = &w.client[client];
	unsigned i = 0;

	while (i < OBJECTS && w.object[i].used)
		i++;
	if (i == OBJECTS)
		fail("too many objects");
	if (find(handle) || is_public(handle) || (handle.resource < 1024 && !c->trusted && places[c->place].kind != VM))
		fail("got a handle that it must not have");
	w.object[i] = (struct object){
		.used = true,
		.type = type,
		.handle = handle,
		.owner = client,
		.uid = c->uid,
		.trusted = c->trusted,
		.gen = w.presence[c->place].gen,
		.thing = thing,
		.end = { -1, -1 },
	};
	if (thing)
		thing->is_model = true;
	return &w.object[i];
}

/* Room for one more object, or one has to go: then its client dies. */
static bool is_full(void)
{
	unsigned n = 0;

	for (unsigned i = 0; i < OBJECTS; i++)
		n += w.object[i].used;
	return n > OBJECTS - 20;
}

static void not_taken(struct thing *thing)
{
	if (!thing->is_real)
		fail("the broker dropped what it did not take");
	thing->is_real = false;
}

static void step_join(void)
{
	unsigned place = dice(PLACES), i = 0;
	const struct place *p = &places[place];
	struct brk_creds creds = { .uid = dice(3), .pid = 1, .device = p->kind == VM };
	struct thing *sinks[2] = { NULL, NULL };
	struct brk_client *real;
	int32_t expected = 0, result;

	while (i < CLIENTS && w.client[i].real)
		i++;
	if (i == CLIENTS)
		return;
	creds.trusted = !creds.uid;
	check(brk_client_new(w.brk, &creds, &w.client[i], &real), 0);
	if (p->kind == VM) {
		const struct brk_vm vm = { .name = "vm", .cid = p->cid, .domain = p->domain,
					   .unrestricted = p->unrestricted, .restricted = p->restricted };

		sinks[0] = give();
		sinks[1] = give();
		expected = w.presence[place].gen ? VMCI_ERROR_ALREADY_EXISTS : 0;
		result = brk_hello_device(real, &vm, NULL, sinks[0], sinks[1]);
	} else {
		if (p->kind == SOFTWARE && w.presence[place].gen && w.presence[place].uid != creds.uid)
			expected = VMCI_ERROR_NO_ACCESS;
		result = brk_hello(real, p->cid, p->restricted, NULL, NULL, NULL);
	}
	check(result, expected);
	if (expected) {
		if (p->kind == VM) {
			not_taken(sinks[0]);
			not_taken(sinks[1]);
		}
		brk_client_free(real);
		return;
	}
	if (!w.presence[place].gen)
		w.presence[place] = (struct presence){ ++w.gen, creds.uid, creds.trusted && p->kind != VM,
			p->restricted };
	w.client[i] = (struct client){ .real = real, .place = place, .uid = creds.uid,
				       .trusted = creds.trusted && p->kind != VM };
	if (p->kind == VM) {
		w.client[i].datagrams = sinks[0];
		w.client[i].events = sinks[1];
		sinks[0]->is_model = sinks[1]->is_model = true;
	}
}

static void step_die(void)
{
	int i = some_client();

	if (i < 0 || (dice(3) && !is_full()))
		return;
	/* The model first: the events are delivered to peers as the broker goes through it. */
	struct brk_client *real = w.client[i].real;

	client_dies(i);
	brk_client_free(real);
}

static void step_events(int i)
{
	struct client *c = &w.client[i];
	struct thing *sink = give();

	check(brk_events(c->real, sink), 0);
	if (c->events)
		c->events->is_model = false;
	c->events = sink;
	sink->is_model = true;
}

static void step_watch(int i)
{
	struct client *c = &w.client[i];
	uint32_t cid = some_cid();
	int place = place_of(cid);
	bool on = dice(3);
	int32_t expected = 0;

	if (cid < 16 || cid == ANY)
		expected = VMCI_ERROR_INVALID_ARGS;
	else if (place < 0)
		return;
	else if (!on)
		expected = c->watches[place] ? 0 : VMCI_ERROR_NOT_FOUND;
	else if (c->watches[place])
		expected = VMCI_ERROR_ALREADY_EXISTS;
	else if (w.presence[place].gen && meet(c, (unsigned)place, w.presence[place].trusted) == VMCI_ERROR_NO_ACCESS)
		expected = VMCI_ERROR_NO_ACCESS;
	check(brk_watch(c->real, cid, on), expected);
	if (!expected)
		c->watches[place] = on;
}

static void step_dg_create(int i)
{
	struct client *c = &w.client[i];
	uint32_t rid = some_wish(), cid = places[c->place].cid;
	int32_t expected = places[c->place].kind == VM ? VMCI_ERROR_INVALID_ARGS : wish(c, cid, rid);
	struct thing *thing = give();
	struct vmci_handle handle;

	check(brk_dg_create(c->real, rid, NULL, thing, &handle, NULL), expected);
	if (expected)
		not_taken(thing);
	else
		new_object(i, DATAGRAM, handle, thing);
}

static void step_bell_create(int i)
{
	struct client *c = &w.client[i];
	uint32_t rid = some_wish();
	int32_t expected = wish(c, places[c->place].cid, rid);
	struct thing *thing = give();
	struct vmci_handle handle;

	check(brk_bell_create(c->real, rid, NULL, thing, &handle, NULL), expected);
	if (expected)
		not_taken(thing);
	else
		new_object(i, BELL, handle, thing);
}

static void step_destroy(int i)
{
	enum type type = dice(5) ? (dice(2) ? DATAGRAM : BELL) : GROUP;
	struct vmci_handle handle = some_handle((int)type);
	struct object *object = find_type(handle, type);
	int32_t expected = !object ? VMCI_ERROR_NOT_FOUND : object->owner != i ? VMCI_ERROR_NO_ACCESS : 0, result;

	if (is_public(handle))
		expected = type == GROUP ? VMCI_ERROR_NO_ACCESS : VMCI_ERROR_NOT_FOUND;
	if (type == DATAGRAM)
		result = brk_dg_destroy(w.client[i].real, handle);
	else if (type == BELL)
		result = brk_bell_destroy(w.client[i].real, handle);
	else
		result = brk_group_destroy(w.client[i].real, handle);
	check(result, expected);
	if (!expected)
		forget(object);
}

/* Where does the datagram go? Returns the expected error, or 0. */
static int32_t route(int i, struct vmci_handle src, struct vmci_handle dst, struct thing **ret_sink)
{
	const struct client *c = &w.client[i];
	struct object *from = find_type(src, DATAGRAM), *to = find_type(dst, DATAGRAM);
	int place = present(dst.context);
	int32_t result;

	if (dst.resource == ANY)
		return VMCI_ERROR_INVALID_ARGS;
	if (src.context != places[c->place].cid)
		return VMCI_ERROR_NO_ACCESS;
	if (places[c->place].kind != VM && !from)
		return VMCI_ERROR_INVALID_ARGS;
	if (places[c->place].kind != VM && from->owner != i)
		return VMCI_ERROR_NO_ACCESS;
	if (place < 0)
		return VMCI_ERROR_DST_UNREACHABLE;
	if (places[place].kind == VM) {
		result = meet(c, (unsigned)place, false);
		if (result)
			return result;
		if (dst.resource <= 1)
			return VMCI_ERROR_INVALID_RESOURCE;
		for (unsigned k = 0; k < CLIENTS; k++)
			if (w.client[k].real && w.client[k].place == (unsigned)place)
				*ret_sink = w.client[k].datagrams;
		return 0;
	}
	if (!to)
		return VMCI_ERROR_INVALID_RESOURCE;
	result = meet(c, (unsigned)place, to->trusted);
	if (result)
		return result;
	*ret_sink = to->thing;
	return right(to, places[c->place].cid, VMCI_PRIV_DG_SEND, true) ? 0 : VMCI_ERROR_NO_ACCESS;
}

static void step_send(int i)
{
	struct vmci_handle src = some_handle(DATAGRAM), dst = some_handle(dice(10) ? DATAGRAM : -1);
	struct thing *sink = NULL;
	uint8_t dg[VMCI_DG_HEADER_SIZE];
	int32_t expected;

	for (unsigned tries = 0; tries < 10 && dice(10) && (!find(src) || find(src)->owner != i); tries++)
		src = some_handle(DATAGRAM);
	if (places[w.client[i].place].kind == VM && dice(10))
		src = handle_make(places[w.client[i].place].cid, dice(3000));
	if (!dice(10))
		dst.resource = dice(2) ? dice(3) : ANY;
	if (dst.context == 1)
		return;
	expected = route(i, src, dst, &sink);
	if (!expected)
		tell(w.expected, &w.n_expected, sink, ANY, src.context, dst);
	dg_build(dg, dst, src, 0);
	check(brk_dg_send(w.client[i].real, dg, sizeof(dg)), expected ? expected : (int32_t)VMCI_DG_HEADER_SIZE);
}

static void step_bell_open(int i)
{
	const struct client *c = &w.client[i];
	struct vmci_handle handle = some_handle(BELL);
	struct object *bell = find(handle);
	int place = present(handle.context);
	struct brk_client *device = NULL;
	void *found = NULL;
	int32_t expected, result;
	bool is_guests = place >= 0 && places[place].kind == VM && c->place != (unsigned)place &&
			 !(bell && bell->type == BELL);

	if (is_public(handle))
		return;
	if (place < 0)
		expected = VMCI_ERROR_DST_UNREACHABLE;
	else if (is_guests)
		expected = meet(c, (unsigned)place, false);
	else if (!bell || bell->type != BELL)
		expected = are_strangers(c->place, (unsigned)place) ? VMCI_ERROR_DST_UNREACHABLE : VMCI_ERROR_NOT_FOUND;
	else
		expected = meet(c, (unsigned)place, bell->trusted);
	if (!expected && is_guests)
		expected = BRK_ASK;
	if (!handle_is_valid(handle))
		expected = VMCI_ERROR_INVALID_ARGS;
	result = brk_bell_open(c->real, handle, &found, &device);
	check(result, expected);
	if (!expected && found != bell->thing)
		fail("another bell");
	if (expected == BRK_ASK && brk_client_cid(device) != handle.context)
		fail("another device");
}

static void step_stream_own(int i)
{
	const struct client *c = &w.client[i];
	uint32_t cid = dice(3) ? places[c->place].cid : dice(2) ? ANY : some_cid();
	struct vmci_handle wish = handle_make(cid, dice(2) ? ANY : dice(2000));
	struct vmci_handle address = { 0 };
	int32_t expected = 0;

	if (wish.context != ANY && wish.context != places[c->place].cid)
		expected = VMCI_ERROR_NO_ACCESS;
	else if (wish.resource < 1024 && !c->trusted && places[c->place].kind != VM)
		expected = VMCI_ERROR_NO_ACCESS;
	check(brk_stream_own(c->real, wish, &address), expected);
	if (!expected && !handle_is_equal(address, handle_make(places[c->place].cid, wish.resource)))
		fail("another address");
}

static void step_stream_connect(int i)
{
	const struct client *c = &w.client[i];
	struct vmci_handle to = handle_make(some_cid(), dice(20) ? dice(70000) : ANY);
	enum brk_listener listener = (enum brk_listener)dice(3);
	int place = present(to.context);
	struct brk_client *device = NULL;
	bool is_vm = place >= 0 && places[place].kind == VM;
	int32_t expected;

	if (place < 0) {
		expected = VMCI_ERROR_DST_UNREACHABLE;
	} else {
		bool is_trusted = w.presence[place].trusted;

		if (places[place].kind == HOST)
			is_trusted = listener == BRK_LISTENER_TRUSTED;
		expected = meet(c, (unsigned)place, is_trusted);
		if (expected != VMCI_ERROR_DST_UNREACHABLE && !is_vm && listener == BRK_LISTENER_NONE)
			expected = VMCI_ERROR_NOT_FOUND;
		else if (!expected && is_vm)
			expected = c->place == (unsigned)place ? VMCI_ERROR_NOT_FOUND : BRK_ASK;
	}
	if (to.resource == ANY)
		expected = VMCI_ERROR_INVALID_ARGS;
	check(brk_stream_connect(c->real, to, listener, &device), expected);
	if (expected == BRK_ASK && brk_client_cid(device) != to.context)
		fail("another device");
}

static struct brk_qp some_qp(struct vmci_handle handle)
{
	static const uint64_t sizes[] = { 4096, 8192, 1, 0, 128u << 20, UINT64_MAX };

	return (struct brk_qp){
		.handle = handle,
		.peer = dice(3) ? ANY : some_cid(),
		.produce = sizes[dice(20) ? dice(2) : dice(6)],
		.consume = sizes[dice(20) ? dice(2) : dice(6)],
		.trusted = !dice(8),
		.direct = !dice(8),
	};
}

static int32_t check_sizes(const struct brk_qp *qp)
{
	uint64_t sum = qp->produce + qp->consume;

	if (sum < qp->produce || sum > 128u << 20)
		return VMCI_ERROR_NO_RESOURCES;
	return sum ? 0 : VMCI_ERROR_INVALID_ARGS;
}

static bool is_possible(uint32_t cid)
{
	return cid == 2 || (cid >= 16 && cid != ANY);
}

/* A VM that is there, and not the client's own. */
static bool is_other_vm(const struct client *c, uint32_t cid)
{
	int place = present(cid);

	return place >= 0 && places[place].kind == VM && c->place != (unsigned)place;
}

static void step_qp_create(int i)
{
	struct client *c = &w.client[i];
	uint32_t own = places[c->place].cid;
	struct brk_qp qp = some_qp(handle_make(dice(3) ? own : some_cid(), some_wish()));
	struct thing *thing = give();
	struct object *pair;
	int place = qp.peer == ANY ? -1 : present(qp.peer);
	struct vmci_handle handle, asked = qp.handle;
	int32_t expected = check_sizes(&qp);

	/* Some bytes of the quota of a context: keep away from it. */
	if (qp.produce + qp.consume == 128u << 20)
		qp.produce = UINT64_MAX, qp.consume = 2, expected = VMCI_ERROR_NO_RESOURCES;
	if (asked.context == ANY)
		asked.context = own;
	if (!expected && qp.peer != ANY && !is_possible(qp.peer))
		expected = VMCI_ERROR_INVALID_ARGS;
	if (!expected && asked.context != own && asked.context != qp.peer)
		expected = VMCI_ERROR_NO_ACCESS;
	if (!expected && asked.context != own && present(asked.context) >= 0 &&
	    places[present(asked.context)].kind == VM)
		expected = VMCI_ERROR_NO_ACCESS;
	if (!expected && qp.direct && !c->trusted)
		expected = VMCI_ERROR_NO_ACCESS;
	if (!expected && qp.direct && !is_other_vm(c, qp.peer))
		expected = VMCI_ERROR_INVALID_ARGS;
	if (!expected)
		expected = wish(c, asked.context, asked.resource);
	if (!expected && qp.peer != ANY)
		expected = place < 0 ? VMCI_ERROR_DST_UNREACHABLE : meet(c, (unsigned)place, true);
	check(brk_qp_create(c->real, &qp, NULL, thing, &handle, NULL), expected ? expected : 4);
	if (expected) {
		not_taken(thing);
		return;
	}
	pair = new_object(i, PAIR, handle, thing);
	pair->end[0] = i;
	pair->end_cid[0] = own;
	pair->peer = qp.peer;
	pair->produce = qp.produce;
	pair->consume = qp.consume;
	pair->want_trusted = qp.trusted;
}

static int32_t may_attach(const struct client *c, const struct object *pair, const struct brk_qp *qp)
{
	const struct client *creator = pair->end[0] >= 0 ? &w.client[pair->end[0]] : NULL;
	int32_t result;

	if (pair->is_whole)
		return VMCI_ERROR_UNAVAILABLE;
	result = meet(c, creator->place, creator->trusted);
	if (result)
		return result;
	if ((qp->trusted && !creator->trusted) || ((pair->want_trusted || qp->direct) && !c->trusted))
		return VMCI_ERROR_NO_ACCESS;
	if ((pair->peer != ANY && pair->peer != places[c->place].cid) || (qp->peer != ANY &&
									  qp->peer != pair->end_cid[0]))
		return VMCI_ERROR_NO_ACCESS;
	return pair->produce == qp->consume && pair->consume == qp->produce ? 0 : VMCI_ERROR_QUEUEPAIR_MISMATCH;
}

/* Attach to what nobody has registered: it may be a guest's. */
static int32_t ask_guest(const struct client *c, const struct brk_qp *qp)
{
	int place = present(qp->handle.context);
	int32_t result;

	if (place < 0)
		return VMCI_ERROR_DST_UNREACHABLE;
	if (places[place].kind != VM || c->place == (unsigned)place)
		return VMCI_ERROR_NOT_FOUND;
	result = meet(c, (unsigned)place, false);
	if (result)
		return result;
	if (((qp->trusted || qp->direct) && !c->trusted) || (qp->peer != ANY && qp->peer != qp->handle.context))
		return VMCI_ERROR_NO_ACCESS;
	return BRK_ASK;
}

/* In a guest's context, but not the guest's: it has left, or never been there. */
static bool is_stale(const struct client *c, const struct object *pair)
{
	int place = present(pair->handle.context);

	if (place < 0 || places[place].kind != VM || c->place == (unsigned)place)
		return false;
	for (unsigned i = 0; i < 2; i++)
		if (pair->end[i] >= 0 && w.client[pair->end[i]].place == (unsigned)place)
			return false;
	return true;
}

/* Something else takes the place of @object: names of the handle stay. */
static void forget_silently(struct object *object)
{
	if (object->thing)
		object->thing->is_model = false;
	object->used = false;
}

static void attach_end(struct object *pair, int i)
{
	pair->end[1] = i;
	pair->end_cid[1] = places[w.client[i].place].cid;
	pair->is_whole = true;
}

static void step_qp_attach(int i)
{
	struct client *c = &w.client[i];
	struct brk_qp qp = some_qp(some_handle(PAIR));
	struct object *known = find(qp.handle), *pair;
	struct brk_client *device = NULL;
	uint32_t creator = 0;
	void *found = NULL;
	int32_t expected;

	if (known && known->type == PAIR && dice(8)) {
		qp.produce = known->consume;
		qp.consume = known->produce;
	}
	if (is_public(qp.handle))
		return;
	expected = check_sizes(&qp);
	if (!expected && (qp.handle.context == ANY || qp.handle.resource == ANY))
		expected = VMCI_ERROR_INVALID_ARGS;
	else if (!expected && !known)
		expected = ask_guest(c, &qp);
	else if (!expected && known->type != PAIR)
		expected = VMCI_ERROR_NOT_FOUND;
	else if (!expected && (known->end[0] == i || known->end[1] == i))
		expected = VMCI_ERROR_ALREADY_EXISTS;
	else if (!expected && is_stale(c, known))
		expected = ask_guest(c, &qp);
	else if (!expected)
		expected = may_attach(c, known, &qp);
	if (!expected) {
		expect_event(known->end[0], VMCI_EVENT_QP_PEER_ATTACH, places[c->place].cid, known->handle);
		attach_end(known, i);
	}
	check(brk_qp_attach(c->real, &qp, &found, &creator, NULL, &device), expected ? expected : 5);
	if (!expected) {
		if (found != known->thing || creator != known->end_cid[0])
			fail("another pair");
		/* Handed out. */
		known->thing->is_real = known->thing->is_model = false;
		known->thing = NULL;
	} else if (expected == BRK_ASK && dice(4) && !is_full() && qp.produce + qp.consume <= 16384) {
		struct client *owner = brk_client_owner(device);

		if (brk_client_cid(device) != qp.handle.context)
			fail("another device");
		/* The device answers. */
		check(brk_qp_attached(c->real, device, &qp, NULL), 5);
		if (known)
			forget_silently(known);
		pair = new_object((int)(owner - w.client), PAIR, qp.handle, NULL);
		pair->end[0] = (int)(owner - w.client);
		pair->end_cid[0] = qp.handle.context;
		pair->produce = qp.consume;
		pair->consume = qp.produce;
		attach_end(pair, i);
	}
}

static void step_qp_detach(int i)
{
	struct vmci_handle handle = some_handle(PAIR);
	struct object *pair = find_type(handle, PAIR);
	int32_t expected;

	for (unsigned tries = 0; tries < 10 && (!pair || (pair->end[0] != i && pair->end[1] != i)); tries++) {
		handle = some_handle(PAIR);
		pair = find_type(handle, PAIR);
	}
	if (!pair)
		expected = VMCI_ERROR_NOT_FOUND;
	else if (pair->end[0] == i || pair->end[1] == i)
		expected = leave_pair(pair, pair->end[1] == i);
	else
		expected = VMCI_ERROR_QUEUEPAIR_NOTATTACHED;
	check(brk_qp_detach(w.client[i].real, handle), expected);
}

static void step_shm_create(int i)
{
	struct client *c = &w.client[i];
	uint32_t rid = some_wish();
	uint64_t bytes = dice(10) ? 1 + dice(100000) : dice(2) ? 0 : LIMIT_BRK_REGION + 1;
	int32_t expected = bytes && bytes <= LIMIT_BRK_REGION ? wish(c, places[c->place].cid, rid) :
		VMCI_ERROR_INVALID_SIZE;
	struct thing *thing = give();
	struct vmci_handle handle;
	struct object *region;

	check(brk_shm_create(c->real, rid, bytes, 7, NULL, thing, &handle, NULL), expected);
	if (expected) {
		not_taken(thing);
		return;
	}
	region = new_object(i, REGION, handle, thing);
	region->produce = bytes;
	region->attached[i] = true;
}

static int32_t may_map(const struct client *c, struct vmci_handle handle, const struct object *region)
{
	int place = present(handle.context);
	int32_t result;

	if (!handle_is_valid(handle))
		return VMCI_ERROR_INVALID_ARGS;
	if (place < 0)
		return VMCI_ERROR_DST_UNREACHABLE;
	if (are_strangers(c->place, (unsigned)place))
		return VMCI_ERROR_DST_UNREACHABLE;
	if (!region || region->gen != w.presence[place].gen)
		return VMCI_ERROR_NOT_FOUND;
	result = meet(c, (unsigned)place, region->trusted);
	if (result)
		return result;
	return right(region, places[c->place].cid, VMCI_PRIV_SM_ATTACH, true) ? 0 : VMCI_ERROR_NO_ACCESS;
}

static void step_shm_attach(int i)
{
	struct client *c = &w.client[i];
	struct vmci_handle handle = some_handle(REGION);
	struct object *region = find_type(handle, REGION);
	int32_t expected = may_map(c, handle, region);
	uint64_t bytes = 0, offset = 0;
	void *found = NULL;

	check(brk_shm_query(c->real, handle, &bytes), expected);
	if (!expected && bytes != region->produce)
		fail("another size");
	if (!expected && region->attached[i])
		expected = VMCI_ERROR_ALREADY_EXISTS;
	check(brk_shm_attach(c->real, handle, &bytes, &offset, &found, NULL), expected);
	if (expected)
		return;
	if (found != region->thing || bytes != region->produce || offset != 7)
		fail("another region");
	region->attached[i] = true;
}

static void step_shm_detach(int i)
{
	struct vmci_handle handle = some_handle(REGION);
	struct object *region = find_type(handle, REGION);

	check(brk_shm_detach(w.client[i].real, handle),
	      region && region->attached[i] ? leave_region(region, i) : VMCI_ERROR_NOT_FOUND);
}

static int32_t ask_name(struct client *c, enum discovery_action action, unsigned which, struct vmci_handle handle,
			struct vmci_handle *ret_handle)
{
	char text[8];
	struct discovery_request request = { (int32_t)action, 5, handle, text, 5 };
	uint8_t buf[DISCOVERY_PAYLOAD_MAX], answer[DISCOVERY_REPLY_MAX];
	struct discovery_reply reply;
	size_t size;

	snprintf(text, sizeof(text), "name%u", which);
	size = discovery_request_build(buf, &request);
	check(brk_name(c->real, buf, size, NULL, answer, &size, NULL), 0);
	if (discovery_reply_parse(answer, size, &reply))
		fail("bad reply");
	*ret_handle = reply.handle;
	return reply.code;
}

static void step_name(int i)
{
	struct client *c = &w.client[i];
	unsigned which = dice(NAMES);
	struct name *name = &w.name[which];
	struct vmci_handle handle = dice(3) ? some_handle(-1) : handle_make(places[c->place].cid, 2000), found;
	bool is_host = places[c->place].kind == HOST;
	int32_t expected = 0;

	switch (dice(3)) {
	case 0:
		if (!is_possible(handle.context) || handle.resource == ANY)
			expected = VMCI_ERROR_INVALID_ARGS;
		else if (!is_host && handle.context != places[c->place].cid)
			expected = VMCI_ERROR_NO_ACCESS;
		else if (name->used)
			expected = VMCI_ERROR_ALREADY_EXISTS;
		check(ask_name(c, DISCOVERY_REGISTER, which, handle, &found), expected);
		if (!expected)
			*name = (struct name){ true, handle, i };
		break;
	case 1:
		if (!name->used || (place_of(name->handle.context) >= 0 && present(name->handle.context) >= 0 &&
				    are_strangers(c->place, (unsigned)place_of(name->handle.context))))
			expected = VMCI_ERROR_NOT_FOUND;
		check(ask_name(c, DISCOVERY_LOOKUP, which, handle, &found), expected);
		if (!expected && !handle_is_equal(found, name->handle))
			fail("another name");
		break;
	default:
		if (!name->used)
			expected = VMCI_ERROR_NOT_FOUND;
		else if (w.client[name->client].place != c->place && !is_host)
			expected = VMCI_ERROR_NO_ACCESS;
		else if (places[w.client[name->client].place].kind == HOST && w.client[name->client].uid != c->uid &&
			 !c->trusted)
			expected = VMCI_ERROR_NO_ACCESS;
		check(ask_name(c, DISCOVERY_UNREGISTER, which, handle, &found), expected);
		if (!expected)
			name->used = false;
	}
}

static struct grant *find_grant(struct object *object, struct vmci_handle subject)
{
	for (unsigned i = 0; i < object->n_grants; i++)
		if (handle_is_equal(object->grant[i].subject, subject))
			return &object->grant[i];
	return NULL;
}

static void step_priv(int i)
{
	static const uint32_t valid[] = { 1u << VMCI_PRIV_DG_SEND, 0, 0, 1u << VMCI_PRIV_SM_ATTACH,
					  1u << VMCI_PRIV_ASSIGN_CLIENT };
	struct client *c = &w.client[i];
	struct vmci_handle handle = some_handle(-1), subject = handle_make(some_cid(), 0);
	struct object *object = find(handle);
	struct grant *grant;
	uint32_t allow = dice(4) ? 1u << dice(7) : dice(128), deny = dice(3) ? 0 : 1u << dice(7), both;
	unsigned what = dice(6);
	int place = present(handle.context);
	int32_t expected = 0;

	if (is_public(handle))
		return;
	if (!dice(3))
		subject = dice(3) ? some_handle(GROUP) : handle_make(2, BRK_PUBLIC_GROUP_RID);
	if (object && dice(4))
		allow &= valid[object->type] | 3, deny &= valid[object->type] | 3;
	if (what == 0 || what == 5)
		deny = 0;
	both = what == 1 ? 3 : allow | deny;
	if (!both || (!subject.resource && !is_possible(subject.context)) || !handle_is_valid(subject))
		expected = VMCI_ERROR_INVALID_ARGS;
	else if (what == 5 && subject.resource)
		expected = VMCI_ERROR_INVALID_ARGS;
	else if (!object || place < 0 || meet(c, (unsigned)place, object->trusted))
		expected = VMCI_ERROR_INVALID_ARGS;
	else if (both & ~(valid[object->type] | 3))
		expected = VMCI_ERROR_INVALID_PRIV;
	if (what == 5) {
		for (unsigned priv = 0; !expected && priv < VMCI_PRIV_NUM; priv++)
			if (allow & 1u << priv && !right(object, subject.context, priv, true))
				expected = VMCI_ERROR_NO_ACCESS;
		check(brk_priv_check(c->real, handle, subject, allow), expected ? expected : 2);
		return;
	}
	if (!expected && !may_change(c, object, VMCI_PRIV_CH_PRIV))
		expected = VMCI_ERROR_NO_ACCESS;
	else if (!expected && subject.resource && !is_public(subject) && !find_type(subject, GROUP))
		expected = VMCI_ERROR_NOT_FOUND;
	grant = expected ? NULL : find_grant(object, subject);
	if (what > 1) {
		if (!expected && !grant && object->n_grants == GRANTS)
			return;
		check(brk_priv_add(c->real, handle, subject, allow, deny), expected);
		if (expected)
			return;
		if (!grant) {
			grant = &object->grant[object->n_grants++];
			*grant = (struct grant){ .subject = subject };
		}
		object->closed = true;
		grant->deny = (grant->deny & ~allow) | deny;
		grant->allow = (grant->allow | allow) & ~grant->deny;
		return;
	}
	if (!expected && !grant)
		expected = VMCI_ERROR_NOT_FOUND;
	if (what == 1) {
		check(brk_priv_remove_all(c->real, handle, subject), expected);
		if (!expected)
			*grant = object->grant[--object->n_grants];
		return;
	}
	check(brk_priv_remove(c->real, handle, subject, allow), expected);
	if (expected)
		return;
	grant->allow &= ~allow;
	grant->deny &= ~allow;
	if (!grant->allow && !grant->deny)
		*grant = object->grant[--object->n_grants];
}

static void step_group(int i)
{
	struct client *c = &w.client[i];
	struct vmci_handle handle = some_handle(GROUP), member = handle_make(some_cid(), 0);
	struct object *group = find_type(handle, GROUP);
	const struct member *known = group ? member_of(group, member.context) : NULL;
	bool assign = dice(4);
	unsigned what = dice(6);
	int32_t expected = 0;

	if (is_public(handle))
		return;
	if (what == 0) {
		check(brk_group_create(c->real, 0, NULL, &handle, NULL), 0);
		new_object(i, GROUP, handle, NULL);
		return;
	}
	if (!dice(10))
		member.resource = 5;
	if (member.resource || !is_possible(member.context))
		expected = VMCI_ERROR_INVALID_ARGS;
	else if (!group)
		expected = VMCI_ERROR_NOT_FOUND;
	if (what == 1) {
		check(brk_group_is_member(c->real, handle, member), expected ? expected : known != NULL);
		return;
	}
	if (!expected && !may_change(c, group, VMCI_PRIV_CH_PRIV) && !may_change(c, group, VMCI_PRIV_ASSIGN_CLIENT))
		expected = VMCI_ERROR_NO_ACCESS;
	if (what == 2) {
		if (!expected && !known)
			expected = VMCI_ERROR_NOT_FOUND;
		check(brk_group_remove(c->real, handle, member), expected);
		if (!expected)
			group->member[known - group->member] = group->member[--group->n_members];
		return;
	}
	if (!expected && known)
		expected = VMCI_ERROR_ALREADY_EXISTS;
	if (!expected && group->n_members == MEMBERS)
		return;
	check(brk_group_add(c->real, handle, member, assign), expected);
	if (!expected)
		group->member[group->n_members++] = (struct member){ member.context, ++w.order, assign };
}

/* Everything that the client may see has a line; what that says is for humans. */
static void step_list(int i)
{
	char buf[LIMIT_BRK_LINE];
	uint64_t next = 0;

	do {
		int32_t result = brk_list(w.client[i].real, next, buf, sizeof(buf), &next);

		if (result < 0 || (result && buf[result - 1] != '\n'))
			fail("bad list");
	} while (next);
	check(0, 0);
}

/* --- The world */

static void compare(void)
{
	struct thing **link = &w.things;

	if (w.n_got != w.n_expected)
		fail("%u deliveries, expected %u", w.n_got, w.n_expected);
	for (unsigned i = 0; i < w.n_got; i++) {
		unsigned k = 0;

		while (k < w.n_expected && (w.expected[k].sink != w.got[i].sink || w.expected[k].id != w.got[i].id ||
					    w.expected[k].context != w.got[i].context ||
					    !handle_is_equal(w.expected[k].handle, w.got[i].handle)))
			k++;
		if (k == w.n_expected)
			fail("delivery of %u about %u %u:%u was not expected", w.got[i].id, w.got[i].context,
			     w.got[i].handle.context, w.got[i].handle.resource);
		w.expected[k] = w.expected[--w.n_expected];
	}
	w.n_got = 0;
	while (*link) {
		struct thing *thing = *link;

		if (thing->is_real != thing->is_model)
			fail(thing->is_real ? "a thing has leaked" : "a thing was dropped too early");
		if (thing->is_real) {
			link = &thing->next;
		} else {
			*link = thing->next;
			free(thing);
		}
	}
}

static const struct {
	const char *name;
	unsigned weight;
	void (*run)(int client);
	bool adds;
} steps[] = {
	{ "events", 4, step_events, false },
	{ "watch", 4, step_watch, false },
	{ "dg create", 6, step_dg_create, true },
	{ "bell create", 4, step_bell_create, true },
	{ "destroy", 6, step_destroy, false },
	{ "send", 15, step_send, false },
	{ "bell open", 6, step_bell_open, false },
	{ "stream own", 3, step_stream_own, false },
	{ "stream connect", 6, step_stream_connect, false },
	{ "qp create", 8, step_qp_create, true },
	{ "qp attach", 14, step_qp_attach, false },
	{ "qp detach", 8, step_qp_detach, false },
	{ "shm create", 4, step_shm_create, true },
	{ "shm attach", 8, step_shm_attach, false },
	{ "shm detach", 5, step_shm_detach, false },
	{ "name", 10, step_name, false },
	{ "priv", 14, step_priv, false },
	{ "group", 10, step_group, true },
	{ "list", 1, step_list, false },
};
#define STEPS (sizeof(steps) / sizeof(steps[0]))

/* How often each step failed, and succeeded. */
static unsigned tally[STEPS][2];

static void play_step(void)
{
	unsigned at = 0, sum = 0;
	int client;
	uint32_t roll;

	if (!dice(12)) {
		w.what = "join";
		step_join();
	} else if (!dice(15)) {
		w.what = "die";
		step_die();
	} else {
		for (unsigned i = 0; i < STEPS; i++)
			sum += steps[i].weight;
		roll = dice(sum);
		while (roll >= steps[at].weight)
			roll -= steps[at++].weight;
		client = some_client();
		w.what = steps[at].name;
		w.tally = tally[at];
		if (client >= 0 && !(steps[at].adds && is_full()))
			steps[at].run(client);
	}
	w.tally = NULL;
	compare();
}

static void play_world(uint64_t seed, unsigned length)
{
	const struct brk_config config = { { seed, seed + 1 } };
	const struct brk_ports ports = { NULL, deliver, drop, is_same, identify, clear, mac, now, on_log };

	memset(&w, 0, sizeof(w));
	w.seed = seed;
	w.state = seed * 2654435761u + 1;
	w.what = "start";
	w.presence[0].gen = ++w.gen;
	if (brk_new(&config, &ports, &w.brk))
		abort();
	for (w.step = 0; w.step < length; w.step++)
		play_step();
	w.what = "end";
	for (int i = 0; i < CLIENTS; i++) {
		struct brk_client *real = w.client[i].real;

		if (!real)
			continue;
		client_dies(i);
		brk_client_free(real);
		compare();
	}
	brk_free(w.brk);
	compare();
	if (w.things)
		fail("things are left");
	for (unsigned i = 0; i < OBJECTS; i++)
		if (w.object[i].used)
			fail("an object is left in the model");
}

/* --- Restarts
 *
 * Some users have endpoints, doorbells, regions and names of few ids one after another, and forget no token. After a
 * restart they show whatever they have, in any order; the last one who had it must have it then, if he came at all.
 */
#define IDS 4
#define USERS 4

enum what { AN_ENDPOINT, A_BELL, A_REGION, A_NAME, WHATS };

struct proof {
	uint8_t token[BRK_TOKEN_SIZE];
	unsigned order;	/* 0: none */
};

static int32_t have(struct brk_client *client, enum what what, unsigned id, const uint8_t *resume, uint8_t *ret_token)
{
	const struct discovery_request request = { DISCOVERY_REGISTER, 5, { 2, 7 }, &"abcd"[id], 1 };
	uint8_t buf[DISCOVERY_PAYLOAD_MAX], answer[DISCOVERY_REPLY_MAX];
	struct thing *thing = what == A_NAME ? NULL : give();
	struct discovery_reply reply;
	uint32_t rid = 3000 + id;	/* One name space */
	struct vmci_handle handle;
	int32_t result;
	size_t size;

	if (what == AN_ENDPOINT) {
		result = brk_dg_create(client, rid, resume, thing, &handle, ret_token);
	} else if (what == A_BELL) {
		result = brk_bell_create(client, rid, resume, thing, &handle, ret_token);
	} else if (what == A_REGION) {
		result = brk_shm_create(client, rid, 4096, 0, resume, thing, &handle, ret_token);
	} else {
		size = discovery_request_build(buf, &request);
		result = brk_name(client, buf, size, resume, answer, &size, ret_token);
		if (!result && discovery_reply_parse(answer, size, &reply))
			fail("bad reply");
		return result ? result : reply.code;
	}
	if (result < 0)
		not_taken(thing);
	return result;
}

/* True if @client has it, which it has no more then. */
static bool give_up(struct brk_client *client, enum what what, unsigned id)
{
	const struct discovery_request request = { DISCOVERY_UNREGISTER, 5, { ANY, ANY }, &"abcd"[id], 1 };
	uint8_t buf[DISCOVERY_PAYLOAD_MAX], answer[DISCOVERY_REPLY_MAX];
	struct vmci_handle handle = handle_make(2, 3000 + id);
	struct discovery_reply reply;
	size_t size;

	if (what == AN_ENDPOINT)
		return !brk_dg_destroy(client, handle);
	if (what == A_BELL)
		return !brk_bell_destroy(client, handle);
	if (what == A_REGION)
		return brk_shm_detach(client, handle) == VMCI_SUCCESS_LAST_DETACH;
	size = discovery_request_build(buf, &request);
	if (brk_name(client, buf, size, NULL, answer, &size, NULL) || discovery_reply_parse(answer, size, &reply))
		fail("bad reply");
	return !reply.code;
}

static void play_restarts(uint64_t seed)
{
	const struct brk_config config = { { seed, seed + 1 } };
	const struct brk_ports ports = { NULL, deliver, drop, is_same, identify, clear, mac, now, on_log };
	struct proof proof[USERS][WHATS][IDS] = { 0 };
	struct brk_client *client[USERS];
	unsigned order = 0;

	memset(&w, 0, sizeof(w));
	w.seed = seed;
	w.state = seed * 2654435761u + 1;
	w.what = "restarts";
	for (w.step = 0; w.step < 20; w.step++) {
		struct {
			unsigned order;
			unsigned user;
		} best[2][IDS] = { 0 };

		if (brk_new(&config, &ports, &w.brk))
			abort();
		for (unsigned i = 0; i < USERS; i++) {
			const struct brk_creds creds = { .uid = 100 + i, .pid = 1 };

			check(brk_client_new(w.brk, &creds, NULL, &client[i]), 0);
			check(brk_hello(client[i], 2, false, NULL, NULL, NULL), 0);
		}
		brk_grace(w.brk, true);
		for (unsigned n = 0; n < 60; n++) {
			unsigned user = dice(USERS), id = dice(IDS);
			enum what what = dice(WHATS);
			const struct proof *p = &proof[user][what][id];
			unsigned *newest = &best[what == A_NAME][id].order;
			int32_t result;

			if (!p->order)
				continue;
			result = have(client[user], what, id, p->token, NULL);
			check(result, p->order > *newest ? 0 : VMCI_ERROR_ALREADY_EXISTS);
			if (result)
				continue;
			*newest = p->order;
			best[what == A_NAME][id].user = user;
		}
		brk_grace(w.brk, false);
		for (unsigned n = 0; n < 60; n++) {
			unsigned user = dice(USERS), id = dice(IDS);
			enum what what = dice(WHATS);
			struct proof *p = &proof[user][what][id];
			bool is_mine = best[what == A_NAME][id].order && best[what == A_NAME][id].user == user &&
				       best[what == A_NAME][id].order == p->order;

			if (dice(2)) {
				if (give_up(client[user], what, id) != is_mine)
					fail(is_mine ? "lost" : "another's");
				if (is_mine)
					best[what == A_NAME][id].order = 0;
			} else if (!best[what == A_NAME][id].order) {
				check(have(client[user], what, id, NULL, p->token), 0);
				p->order = ++order;
				best[what == A_NAME][id].order = order;
				best[what == A_NAME][id].user = user;
			} else {
				uint8_t token[BRK_TOKEN_SIZE];

				check(have(client[user], what, id, NULL, token), VMCI_ERROR_ALREADY_EXISTS);
			}
		}
		for (unsigned i = 0; i < USERS; i++)
			brk_client_free(client[i]);
		brk_free(w.brk);
		compare();
	}
}

static unsigned number(const char *name, unsigned otherwise)
{
	const char *text = getenv(name);

	return text ? (unsigned)strtoul(text, NULL, 0) : otherwise;
}

int main(void)
{
	unsigned seed = number("MODEL_SEED", 1), worlds = number("MODEL_WORLDS", 100), n = number("MODEL_STEPS", 5000);

	for (unsigned i = 0; i < worlds; i++) {
		play_world(seed + i, n);
		play_restarts(seed + i);
	}
	printf("%u worlds of %u steps\n", worlds, n);
	for (unsigned i = 0; i < STEPS; i++) {
		printf("%-12s %8u failed %8u succeeded\n", steps[i].name, tally[i][0], tally[i][1]);
		/* A test that never gets anywhere tests nothing. */
		if (worlds * n >= 100000 && (tally[i][1] < 100 || (!tally[i][0] && steps[i].run != step_events &&
								   steps[i].run != step_list)))
			fail("%s is not tested", steps[i].name);
	}
	return 0;
}
