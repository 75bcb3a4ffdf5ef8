/* SPDX-License-Identifier: BSD-2-Clause */
#include "rig.h"

#include <stdlib.h>

#include "broker/table.h"

static int32_t deliver(void *ctx, void *sink, const uint8_t *dg, size_t size, bool event)
{
	struct thing *thing = sink;

	(void)ctx;
	assert_int_equal(thing->dropped, 0);
	assert_true(size >= VMCI_DG_HEADER_SIZE && size <= VMCI_DG_MAX_SIZE);
	assert_int_equal(event, event_is_source(dg_parse(dg).src));
	if (thing->refuse)
		return thing->refuse;
	if (thing->n < MAX_KEPT) {
		thing->size[thing->n] = size;
		memcpy(thing->got[thing->n], dg, size < sizeof(thing->got[0]) ? size : sizeof(thing->got[0]));
	}
	thing->n++;
	thing->n_events += event;
	return (int32_t)size;
}

static void drop(void *ctx, void *what)
{
	struct thing *thing = what;

	(void)ctx;
	thing->dropped++;
	assert_int_equal(thing->dropped, 1);
}

static bool is_same(void *ctx, const void *a, const void *b)
{
	(void)ctx;
	return ((const struct thing *)a)->memory == ((const struct thing *)b)->memory;
}

static void identify(void *ctx, const void *memory, uint8_t ret_id[BRK_ID_SIZE])
{
	(void)ctx;
	memset(ret_id, 0, BRK_ID_SIZE);
	put_le32(ret_id, ((const struct thing *)memory)->memory);
}

static bool clear(void *ctx, void *memory, uint64_t offset, uint64_t bytes)
{
	const struct rig *rig = ctx;
	struct thing *thing = memory;

	assert_int_equal(thing->dropped, 0);
	/* Those who leave now go on, and come back. */
	if (rig->is_stopping)
		return true;
	assert_int_equal(offset % LIMIT_WINDOW_PAGE, 0);
	assert_int_equal(bytes % LIMIT_WINDOW_PAGE, 0);
	for (uint64_t i = 0; thing->page && i < bytes / LIMIT_WINDOW_PAGE; i++)
		thing->page[offset / LIMIT_WINDOW_PAGE + i] = 0;
	return !thing->uncleared;
}

static void mac(void *ctx, const uint8_t *data, size_t size, uint8_t ret_token[BRK_TOKEN_SIZE])
{
	const struct rig *rig = ctx;
	const uint64_t seed[2] = { rig->key, 99 };

	put_le64(ret_token, brk_hash_bytes(seed, data, size));
	put_le64(ret_token + 8, rig->key);
}

static uint64_t now(void *ctx)
{
	return ((struct rig *)ctx)->now;
}

static void on_log(void *ctx, enum log_level level, const char *line)
{
	struct rig *rig = ctx;

	rig->lines++;
	rig->level = level;
	assert_true(strlen(line) < LIMIT_BRK_LINE);
	strcpy(rig->line, line);
}

static void start(struct rig *rig, uint64_t seed)
{
	const struct brk_config config = { { seed, 17 } };
	const struct brk_ports ports = { rig, deliver, drop, is_same, identify, clear, mac, now, on_log };

	assert_int_equal(brk_new(&config, &ports, &rig->brk), 0);
}

int rig_setup(void **state)
{
	struct rig *rig = calloc(1, sizeof(*rig));

	assert_non_null(rig);
	rig->key = 4711;
	start(rig, 1);
	*state = rig;
	return 0;
}

static void stop(struct rig *rig)
{
	rig->is_stopping = true;
	for (unsigned i = 0; i < rig->n_clients; i++)
		brk_client_free(rig->clients[i]);
	rig->n_clients = 0;
	rig->brk = brk_free(rig->brk);
	rig->is_stopping = false;
}

int rig_teardown(void **state)
{
	struct rig *rig = *state;

	stop(rig);
	while (rig->things) {
		struct thing *thing = rig->things;

		rig->things = thing->next;
		assert_int_equal(thing->dropped, 1);
		free(thing);
	}
	free(rig);
	return 0;
}

void rig_restart(struct rig *rig)
{
	stop(rig);
	start(rig, 2);
	brk_grace(rig->brk, true);
}

struct thing *rig_thing(struct rig *rig)
{
	static unsigned memory = 1000;

	return rig_memory(rig, memory++);
}

struct thing *rig_memory(struct rig *rig, unsigned memory)
{
	struct thing *thing = calloc(1, sizeof(*thing));

	assert_non_null(thing);
	thing->memory = memory;
	thing->next = rig->things;
	rig->things = thing;
	return thing;
}

struct thing *rig_window(struct rig *rig, unsigned memory, unsigned *page)
{
	struct thing *thing = rig_memory(rig, memory);

	thing->page = page;
	return thing;
}

void thing_unused(struct thing *thing)
{
	assert_int_equal(thing->dropped, 0);
	thing->dropped = 1;
}

static struct brk_client *connect_as(struct rig *rig, uint32_t uid, bool device)
{
	const struct brk_creds creds = { .uid = uid, .pid = 100, .trusted = !uid, .device = device };
	struct brk_client *client;

	assert_int_equal(brk_client_new(rig->brk, &creds, rig, &client), 0);
	assert_true(rig->n_clients < 64);
	rig->clients[rig->n_clients++] = client;
	return client;
}

struct brk_client *rig_connect(struct rig *rig, uint32_t uid)
{
	return connect_as(rig, uid, false);
}

struct brk_client *rig_join(struct rig *rig, uint32_t uid, uint32_t cid)
{
	struct brk_client *client = rig_connect(rig, uid);

	assert_int_equal(brk_hello(client, cid, false, "test", NULL, NULL), 0);
	return client;
}

struct brk_client *rig_vm(struct rig *rig, const struct brk_vm *vm, struct thing *ret_sinks[2])
{
	struct brk_client *client = connect_as(rig, 0, true);
	struct thing *sinks[2] = { rig_thing(rig), rig_thing(rig) };

	assert_int_equal(brk_hello_device(client, vm, "device", sinks[0], sinks[1]), 0);
	if (ret_sinks)
		memcpy(ret_sinks, sinks, sizeof(sinks));
	return client;
}

void rig_leave(struct rig *rig, struct brk_client *client)
{
	unsigned i = 0;

	while (rig->clients[i] != client)
		i++;
	rig->clients[i] = rig->clients[--rig->n_clients];
	assert_null(brk_client_free(client));
}

struct thing *rig_events(struct rig *rig, struct brk_client *client)
{
	struct thing *sink = rig_thing(rig);

	assert_int_equal(brk_events(client, sink), 0);
	return sink;
}

struct vmci_handle rig_endpoint(struct rig *rig, struct brk_client *client, struct thing **ret_sink)
{
	struct thing *sink = rig_thing(rig);
	struct vmci_handle handle;

	assert_int_equal(brk_dg_create(client, ANY, NULL, sink, &handle, NULL), 0);
	if (ret_sink)
		*ret_sink = sink;
	return handle;
}

int32_t rig_send(struct brk_client *client, struct vmci_handle src, struct vmci_handle dst, const char *text)
{
	uint8_t dg[VMCI_DG_HEADER_SIZE + 256];

	assert_true(strlen(text) <= 256);
	dg_build(dg, dst, src, strlen(text));
	memcpy(dg + VMCI_DG_HEADER_SIZE, text, strlen(text));
	return brk_dg_send(client, dg, VMCI_DG_HEADER_SIZE + strlen(text));
}

struct event rig_event(const struct thing *sink, unsigned i)
{
	struct event event;

	assert_true(i < sink->n && i < MAX_KEPT);
	assert_int_equal(event_parse(sink->got[i], sink->size[i], &event), 0);
	return event;
}

static int32_t ask(struct brk_client *client, enum discovery_action action, const char *name, struct vmci_handle handle,
		   struct vmci_handle *ret_handle)
{
	const struct discovery_request request = {
		.action = (int32_t)action,
		.id = 77,
		.handle = handle,
		.name = name,
		.name_size = strlen(name),
	};
	uint8_t buf[DISCOVERY_PAYLOAD_MAX], answer[DISCOVERY_REPLY_MAX];
	struct discovery_reply reply;
	size_t size = discovery_request_build(buf, &request);
	int32_t result = brk_name(client, buf, size, NULL, answer, &size, NULL);

	if (result < 0)
		return result;
	assert_int_equal(discovery_reply_parse(answer, size, &reply), 0);
	assert_int_equal(reply.id, 77);
	if (ret_handle)
		*ret_handle = reply.handle;
	return reply.code;
}

int32_t rig_register(struct brk_client *client, const char *name, struct vmci_handle handle)
{
	return ask(client, DISCOVERY_REGISTER, name, handle, NULL);
}

int32_t rig_lookup(struct brk_client *client, const char *name, struct vmci_handle *ret_handle)
{
	return ask(client, DISCOVERY_LOOKUP, name, handle_make(ANY, ANY), ret_handle);
}

int32_t rig_unregister(struct brk_client *client, const char *name)
{
	return ask(client, DISCOVERY_UNREGISTER, name, handle_make(ANY, ANY), NULL);
}
