/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The broker under clients that say anything: every request with hostile values, in any order, in and out of the time
 * of grace, with right and wrong tokens, with sinks that refuse, and with a restart in the middle.
 *
 * Input: records of one byte "what", one byte "who", and arguments, each of which is one byte that says what comes:
 * something that the broker gave before, something small, or raw bytes. Input that ends early reads as zeroes.
 *
 * Checked besides what the sanitizers see: every thing is dropped exactly once or handed out, none is used
 * afterwards, results are success or known errors, and what is given out was never somebody else's.
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "broker/broker.h"
#include "broker/table.h"
#include "proto/dg.h"
#include "proto/event.h"
#include "proto/limits.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CLIENTS 16u
#define THINGS 4096u
#define HANDLES 64u
#define TOKENS 64u
#define STEPS 4096u

static void check(bool is_right)
{
	if (!is_right)
		abort();
}

enum state { UNUSED, HELD, GONE };

struct thing {
	enum state state;
	uint8_t memory;
	bool refuses;
};

struct client {
	struct brk_client *real;
	bool device;
};

static struct world {
	const uint8_t *data;
	size_t size;
	struct brk *brk;
	struct client client[CLIENTS];
	struct thing thing[THINGS];
	unsigned n_things;
	struct vmci_handle handle[HANDLES];
	unsigned n_handles;
	uint8_t token[TOKENS][BRK_TOKEN_SIZE];
	unsigned n_tokens;
	unsigned lines;
	unsigned connections;
} w;

/* --- Ports */

static int32_t deliver(void *ctx, void *sink, const uint8_t *dg, size_t size, bool event)
{
	const struct thing *thing = sink;
	struct event parsed;
	volatile uint8_t last;

	(void)ctx;
	check(thing->state == HELD);
	check(size >= VMCI_DG_HEADER_SIZE && size <= VMCI_DG_MAX_SIZE);
	check(dg_parse(dg).payload_size == size - VMCI_DG_HEADER_SIZE);
	check(event == event_is_source(dg_parse(dg).src));
	check(!event || !event_parse(dg, size, &parsed));
	check(dg_parse(dg).dst.resource != VMCI_INVALID_ID);
	last = dg[size - 1];
	(void)last;
	return thing->refuses ? VMCI_ERROR_NO_RESOURCES : (int32_t)size;
}

static void drop(void *ctx, void *what)
{
	struct thing *thing = what;

	(void)ctx;
	check(thing->state == HELD);
	thing->state = GONE;
}

static bool is_same(void *ctx, const void *a, const void *b)
{
	(void)ctx;
	check(((const struct thing *)a)->state == HELD);
	return ((const struct thing *)a)->memory == ((const struct thing *)b)->memory;
}

static void identify(void *ctx, const void *memory, uint8_t ret_id[BRK_ID_SIZE])
{
	(void)ctx;
	memset(ret_id, 0, BRK_ID_SIZE);
	put_le32(ret_id, (uint32_t)((const struct thing *)memory)->memory);
}

static bool clear(void *ctx, void *memory, uint64_t offset, uint64_t bytes)
{
	(void)ctx;
	check(((const struct thing *)memory)->state == HELD);
	check(!(offset % LIMIT_WINDOW_PAGE) && bytes && !(bytes % LIMIT_WINDOW_PAGE));
	return offset % 7 != 6;
}

static void mac(void *ctx, const uint8_t *data, size_t size, uint8_t ret_token[BRK_TOKEN_SIZE])
{
	static const uint64_t key[2] = { 1, 2 };

	(void)ctx;
	memset(ret_token, 0, BRK_TOKEN_SIZE);
	put_le64(ret_token, brk_hash_bytes(key, data, size));
}

/* It goes back at times. */
static uint64_t now(void *ctx)
{
	(void)ctx;
	return 1000 - w.size % 100;
}

static void on_log(void *ctx, enum log_level level, const char *line)
{
	(void)ctx;
	check(level < LOG_LEVEL_NUM);
	check(strlen(line) < LIMIT_BRK_LINE);
	for (; *line; line++)
		check(*line >= ' ' && *line <= '~');
	check(++w.lines <= LIMIT_BRK_NOTES * w.connections);
}

static const struct brk_ports ports = { NULL, deliver, drop, is_same, identify, clear, mac, now, on_log };

/* --- Arguments */

static uint8_t take8(void)
{
	if (!w.size)
		return 0;
	w.size--;
	return *w.data++;
}

static uint64_t take_raw(unsigned bytes)
{
	uint64_t v = 0;

	for (unsigned i = 0; i < bytes; i++)
		v |= (uint64_t)take8() << 8 * i;
	return v;
}

static struct vmci_handle known(unsigned i)
{
	return w.n_handles ? w.handle[i % w.n_handles] : handle_make(2, BRK_PUBLIC_GROUP_RID);
}

static uint32_t take_id(void)
{
	static const uint32_t odd[] = { VMCI_INVALID_ID, 0, 1, 2, 15, 16, 1023, 1024, 0x7fffffff, 0x80000000 };
	uint8_t how = take8();

	if (how < 10)
		return odd[how];
	if (how < 64)
		return how;
	if (how < 128)
		return known(how).context;
	if (how < 192)
		return known(how).resource;
	return (uint32_t)take_raw(4);
}

static struct vmci_handle take_handle(void)
{
	uint8_t how = take8();
	uint32_t context;

	if (how < 192)
		return known(how);
	context = take_id();
	return handle_make(context, how & 1 ? 0 : take_id());
}

static uint64_t take_size(void)
{
	static const uint64_t odd[] = { 0, 1, 4095, 4096, 8192, 1u << 20, 128u << 20, (128u << 20) + 1, 1u << 30,
					(1u << 30) + 1, UINT64_MAX, UINT64_MAX - 4095, UINT64_C(1) << 63 };
	uint8_t how = take8();

	return how < 13 ? odd[how] : how < 128 ? how : take_raw(8);
}

/* NULL, one that was given, or anything. */
static const uint8_t *take_token(void)
{
	static uint8_t wrong[BRK_TOKEN_SIZE];
	uint8_t how = take8();

	if (how < 100 || !w.n_tokens)
		return NULL;
	if (how < 240)
		return w.token[how % w.n_tokens];
	memset(wrong, how, sizeof(wrong));
	return wrong;
}

static struct thing *take_thing(void)
{
	uint8_t how = take8();
	struct thing *thing;

	check(w.n_things < THINGS);
	thing = &w.thing[w.n_things];
	*thing = (struct thing){ .state = HELD, .memory = how & 3, .refuses = how & 0x40 };
	return thing;
}

/* The call has taken the thing, or not. */
static void given(const struct thing *thing, int32_t result)
{
	check(thing->state == HELD || result >= 0);
	if (result >= 0)
		w.n_things++;
}

static void learn(struct vmci_handle handle, const uint8_t *token)
{
	check(handle.context != VMCI_INVALID_ID && handle.resource != VMCI_INVALID_ID && handle.resource > 1);
	w.handle[w.n_handles < HANDLES ? w.n_handles++ : take8() % HANDLES] = handle;
	memcpy(w.token[w.n_tokens < TOKENS ? w.n_tokens++ : take8() % TOKENS], token, BRK_TOKEN_SIZE);
}

static void is_code(int32_t result)
{
	check((result <= 5 && result >= VMCI_ERROR_WOULD_BLOCK) || result == BRK_LATER);
}

/* --- Steps */

static void connect_client(struct client *c)
{
	uint8_t how = take8();
	const struct brk_creds creds = { .uid = how & 3, .pid = how, .trusted = !(how & 3), .device = how & 0x80 };

	if (c->real)
		return;
	c->device = creds.device;
	w.connections++;
	check(!brk_client_new(w.brk, &creds, c, &c->real));
	check(brk_client_owner(c->real) == c);
}

static void leave(struct client *c)
{
	c->real = brk_client_free(c->real);
}

static void hello(struct client *c)
{
	static const char *const labels[] = { NULL, "", "program", "\x1b[31m%s%n\n\xff" };
	uint8_t token[BRK_TOKEN_SIZE];
	uint8_t how = take8();
	uint32_t wish = take_id();
	int32_t result = brk_hello(c->real, wish, how & 0x80, labels[how & 3], take_token(), token);

	is_code(result);
	if (!result)
		learn(handle_make(brk_client_cid(c->real), 5000), token);
}

static void hello_device(struct client *c)
{
	static const char *const domains[] = { NULL, "", "x", "a domain whose name is longer than thirty-one bytes" };
	struct brk_filter_rule rules[3];
	uint8_t how = take8();
	struct brk_vm vm = {
		.name = how & 1 ? "vm" : NULL,
		.cid = take_id(),
		.domain = domains[how >> 1 & 3],
		.unrestricted = how & 8,
		.restricted = how & 16,
		.rules = rules,
		.n_rules = (how >> 5) % 4,
	};
	struct thing *sinks[2];
	int32_t result;

	for (unsigned i = 0; i < vm.n_rules; i++)
		rules[i] = (struct brk_filter_rule){ take8() & 1, take8() % 6, take8() % 3, take_id(), take_id() };
	check(w.n_things + 1 < THINGS);
	sinks[0] = take_thing();
	w.n_things++;
	sinks[1] = take_thing();
	result = brk_hello_device(c->real, &vm, "device", sinks[0], sinks[1]);
	is_code(result);
	if (!result) {
		w.n_things++;
		w.handle[take8() % HANDLES] = handle_make(vm.cid, 2000);
	} else {
		check(sinks[0]->state == HELD && sinks[1]->state == HELD);
		w.n_things--;
	}
}

static void create(struct client *c, unsigned what)
{
	struct thing *thing = take_thing();
	uint32_t rid = take_id();
	const uint8_t *resume = take_token();
	uint8_t token[BRK_TOKEN_SIZE];
	struct vmci_handle handle;
	struct brk_qp qp;
	int32_t result;
	uint64_t bytes;

	switch (what) {
	case 0:
		result = brk_dg_create(c->real, rid, resume, thing, &handle, token);
		/* Some are shared. */
		if (result >= 0 && handle.resource & 1)
			check(!brk_dg_share(c->real, handle));
		break;
	case 1:
		result = brk_bell_create(c->real, rid, resume, thing, &handle, token);
		break;
	case 2:
		bytes = take_size();
		result = brk_shm_create(c->real, rid, bytes, take_size(), resume, thing, &handle, token);
		break;
	case 3:
		qp.handle = take_handle();
		qp.handle.resource = rid;
		qp.peer = take_id();
		qp.produce = take_size();
		qp.consume = take_size();
		what = take8();
		qp.trusted = what & 1;
		qp.direct = what >> 1 & 1;
		result = brk_qp_create(c->real, &qp, resume, thing, &handle, token);
		check(result < 0 || (result == 4 && brk_qp_memory(qp.produce, qp.consume)));
		break;
	default:
		result = brk_group_create(c->real, rid, resume, &handle, token);
		is_code(result);
		if (result >= 0)
			learn(handle, token);
		return;
	}
	is_code(result);
	given(thing, result);
	if (result >= 0)
		learn(handle, token);
}

static void destroy(struct client *c, unsigned what)
{
	struct vmci_handle handle = take_handle();

	switch (what) {
	case 0:
		is_code(brk_dg_destroy(c->real, handle));
		break;
	case 1:
		is_code(brk_bell_destroy(c->real, handle));
		break;
	case 2:
		is_code(brk_shm_detach(c->real, handle));
		break;
	case 3:
		is_code(brk_qp_detach(c->real, handle));
		break;
	default:
		is_code(brk_group_destroy(c->real, handle));
	}
}

static void send_datagram(struct client *c)
{
	/* In a block of its own, so that reading beyond the end is seen. */
	uint8_t how = take8();
	size_t size = how < 30 ? how : VMCI_DG_HEADER_SIZE + take8();
	uint8_t *dg = malloc(size ? size : 1), head[VMCI_DG_HEADER_SIZE];
	int32_t result;

	check(dg);
	dg_build(head, how & 1 ? take_handle() : handle_make(1, 1), take_handle(),
		 how & 2 ? size - VMCI_DG_HEADER_SIZE : take_size());
	for (size_t i = 0; i < size; i++)
		dg[i] = i < sizeof(head) ? head[i] : take8();
	result = brk_dg_send(c->real, dg, size);
	check(result == (int32_t)size || result < 0);
	if (result < 0)
		is_code(result);
	free(dg);
}

static void name(struct client *c)
{
	static const char *const texts[] = { "a", "b", "vmci public group", "vmci x", "a\0b", "" };
	uint8_t how = take8(), answer[DISCOVERY_REPLY_MAX], token[BRK_TOKEN_SIZE], *buf;
	struct discovery_request request = { .action = how & 3, .id = how, .name = texts[(how >> 2) % 6] };
	uint8_t built[DISCOVERY_PAYLOAD_MAX];
	struct discovery_reply reply;
	const uint8_t *resume;
	size_t size;
	int32_t result;

	request.name_size = (how >> 2) % 6 == 4 ? 3 : strlen(request.name);
	request.handle = take_handle();
	size = discovery_request_build(built, &request);
	if (how & 0x80)
		size = take8();
	buf = malloc(size ? size : 1);
	check(buf);
	for (size_t i = 0; i < size; i++)
		buf[i] = how & 0x80 ? take8() : built[i];
	resume = take_token();
	result = brk_name(c->real, buf, size, resume, answer, &size, token);
	is_code(result);
	if (!result) {
		check(!discovery_reply_parse(answer, size, &reply));
		is_code(reply.code);
		check(reply.code != BRK_LATER);
		memcpy(w.token[take8() % TOKENS], token, sizeof(token));
		if (!w.n_tokens)
			w.n_tokens = 1;
	}
	free(buf);
}

static struct brk_qp take_qp(void)
{
	struct brk_qp qp;
	unsigned flags;

	qp.handle = take_handle();
	qp.peer = take_id();
	qp.produce = take_size();
	qp.consume = take_size();
	flags = take8();
	qp.trusted = flags & 1;
	qp.direct = flags >> 1 & 1;
	return qp;
}

static void streams(struct client *c)
{
	struct vmci_handle to = take_handle(), own;
	unsigned listener = take8() % 3;
	struct brk_client *device = NULL;
	int32_t result = brk_stream_own(c->real, to, &own);

	is_code(result);
	check(result < 0 || own.context == brk_client_cid(c->real));
	result = brk_stream_connect(c->real, to, (enum brk_listener)listener, &device);
	check(result <= 0 && (result != BRK_ASK || brk_client_is_device(device)));
}

static void attach(struct client *c, unsigned what)
{
	struct brk_client *device = NULL;
	uint8_t token[BRK_TOKEN_SIZE];
	struct vmci_handle handle;
	uint64_t bytes, offset;
	struct thing *thing;
	struct brk_qp qp;
	void *found;
	uint32_t cid;
	int32_t result;

	switch (what) {
	case 0:
		handle = take_handle();
		result = brk_bell_open(c->real, handle, &found, &device);
		check(result < 0 || ((struct thing *)found)->state == HELD);
		break;
	case 1:
		handle = take_handle();
		result = brk_shm_query(c->real, handle, &bytes);
		check(result < 0 || (bytes && bytes <= LIMIT_BRK_REGION));
		result = brk_shm_attach(c->real, handle, &bytes, &offset, &found, token);
		check(result < 0 || ((struct thing *)found)->state == HELD);
		if (result >= 0)
			learn(handle, token);
		break;
	case 2:
		handle = take_handle();
		thing = take_thing();
		bytes = take_size();
		offset = take_size();
		result = brk_shm_hold(c->real, handle, bytes, offset, take_token(), thing);
		given(thing, result);
		break;
	case 3:
		qp = take_qp();
		result = brk_qp_hold(c->real, &qp, take_token());
		break;
	default:
		qp = take_qp();
		result = brk_qp_attach(c->real, &qp, &found, &cid, token, &device);
		if (result >= 0) {
			check(((struct thing *)found)->state == HELD);
			((struct thing *)found)->state = GONE;
			learn(qp.handle, token);
		} else if (result == BRK_ASK && take8() & 1) {
			is_code(brk_qp_attached(c->real, device, &qp, token));
		}
	}
	if (result == BRK_ASK)
		check(brk_client_is_device(device) && device != c->real);
	else
		is_code(result);
}

/* A window that is made, shown, or used for a region. */
static void window(struct client *c)
{
	static const char *const keys[] = { "domain/x", "vm/vm", "", "domain/y" };
	uint8_t token[BRK_TOKEN_SIZE], how = take8();
	const char *key = keys[how >> 1 & 3];
	struct brk_window *window = NULL;
	struct vmci_handle handle;
	uint64_t bytes, offset;
	struct thing *thing;
	int32_t result;

	if (how & 1) {
		thing = take_thing();
		bytes = take_size();
		result = brk_window_show(c->real, key, bytes, take_token(), thing, token);
		is_code(result);
		given(thing, result);
		if (result >= 0)
			memcpy(w.token[take8() % TOKENS], token, sizeof(token));
		return;
	}
	window = brk_window_ref(brk_window_find(w.brk, key));
	if (!window) {
		thing = take_thing();
		result = brk_window_new(w.brk, key, take_size(), thing, &window);
		is_code(result);
		given(thing, result);
	}
	bytes = take_size();
	result = brk_shm_alloc(c->real, how & 8 ? NULL : window, take_id(), bytes, &handle, &offset, token);
	is_code(result);
	if (result >= 0) {
		check(!(offset % LIMIT_WINDOW_PAGE));
		check(!window || c->device || bytes <= brk_window_bytes(window) - offset);
		learn(handle, token);
	}
	if (window && how & 16) {
		brk_window_token(c->real, window, token);
		memcpy(w.token[take8() % TOKENS], token, sizeof(token));
	}
	brk_window_unref(w.brk, window);
}

static void rights(struct client *c, unsigned what)
{
	struct vmci_handle handle = take_handle(), other = take_handle();
	uint64_t allow = take8() & 0x80 ? take_size() : take8(), deny = take8() & 0x80 ? take8() : 0;

	switch (what) {
	case 0:
		is_code(brk_priv_add(c->real, handle, other, allow, deny));
		break;
	case 1:
		is_code(brk_priv_remove(c->real, handle, other, allow));
		break;
	case 2:
		is_code(brk_priv_remove_all(c->real, handle, other));
		break;
	case 3:
		is_code(brk_priv_check(c->real, handle, other, allow));
		break;
	case 4:
		is_code(brk_group_add(c->real, handle, other, allow & 1));
		break;
	case 5:
		is_code(brk_group_remove(c->real, handle, other));
		break;
	default:
		is_code(brk_group_is_member(c->real, handle, other));
	}
}

static void list(struct client *c)
{
	char buf[LIMIT_BRK_LINE];
	uint64_t next = take8() & 1 ? take_size() : 0;
	int32_t result;

	for (unsigned i = 0; i < 3; i++) {
		result = brk_list(c->real, next, buf, sizeof(buf), &next);
		check(result <= (int32_t)sizeof(buf));
		if (result < 0)
			return;
		for (int32_t k = 0; k < result; k++)
			check(buf[k] == '\n' || (buf[k] >= ' ' && buf[k] <= '~'));
		if (!next)
			break;
	}
}

static void start(void)
{
	const struct brk_config config = { { w.size, 5 } };

	check(!brk_new(&config, &ports, &w.brk));
}

static void stop(void)
{
	for (unsigned i = 0; i < CLIENTS; i++)
		leave(&w.client[i]);
	w.brk = brk_free(w.brk);
	for (unsigned i = 0; i < w.n_things; i++)
		check(w.thing[i].state == GONE);
	w.n_things = 0;
}

static void step(void)
{
	uint8_t what = take8() % 41;
	struct client *c = &w.client[take8() % CLIENTS];
	struct thing *sink;
	uint32_t id;
	unsigned switches;

	if (!c->real) {
		connect_client(c);
		/* Most records say hello at once. */
		if (what & 1)
			return;
		if (c->device)
			hello_device(c);
		else
			hello(c);
		return;
	}
	if (what < 10) {
		create(c, what % 5);
	} else if (what < 15) {
		destroy(c, what - 10);
	} else if (what < 18) {
		send_datagram(c);
	} else if (what < 20) {
		name(c);
	} else if (what < 26) {
		attach(c, what - 20);
	} else if (what < 33) {
		rights(c, what - 26);
	} else {
		switch (what) {
		case 33:
			list(c);
			break;
		case 34:
			leave(c);
			break;
		case 35:
			sink = take_thing();
			given(sink, brk_events(c->real, sink));
			break;
		case 36:
			id = take_id();
			switches = take8();
			is_code(switches & 4 ? brk_watch_again(c->real, id) : brk_watch(c->real, id, switches & 3));
			break;
		case 37:
			brk_grace(w.brk, take8() & 1);
			break;
		case 38:
			id = take_id();
			if (take8() & 1)
				is_code(brk_reserve(w.brk, id));
			else
				brk_unreserve(w.brk, id);
			brk_cid_is_free(w.brk, id);
			break;
		case 40:
			streams(c);
			break;
		default:
			if (take8() & 1) {
				hello(c);
				hello_device(c);
			} else if (take8() & 1) {
				stop();
				start();
				brk_grace(w.brk, true);
			} else {
				window(c);
			}
		}
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	memset(&w, 0, sizeof(w));
	w.data = data;
	w.size = size;
	start();
	for (unsigned i = 0; i < STEPS && w.size && w.n_things + 4 < THINGS; i++)
		step();
	stop();
	return 0;
}
