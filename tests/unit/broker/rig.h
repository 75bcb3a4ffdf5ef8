/* SPDX-License-Identifier: BSD-2-Clause */
/* A broker whose ports keep book: which thing was given, dropped, handed out; what was delivered; what was logged. */
#ifndef TEST_BROKER_RIG_H
#define TEST_BROKER_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "broker/broker.h"
#include "proto/dg.h"
#include "proto/event.h"
#include "proto/limits.h"

#define ANY VMCI_INVALID_ID
#define MAX_KEPT 8u	/* datagrams that a sink remembers */

/**
 * struct thing - a sink, a bell, a pair's or a region's descriptors
 * @memory: which memory it is: is_same() compares this
 * @page:   of a window's memory: who has written there, see rig_window(); clear() makes it 0
 * @uncleared: clear() fails
 * @refuse: what deliver() is to return instead
 * @got:    the first datagrams that came, of @n; events included
 */
struct thing {
	struct thing *next;
	unsigned dropped;
	unsigned memory;
	unsigned *page;
	bool uncleared;
	int32_t refuse;
	unsigned n;
	unsigned n_events;
	size_t size[MAX_KEPT];
	uint8_t got[MAX_KEPT][512];
};

struct rig {
	struct brk *brk;
	uint64_t key;
	uint64_t now;	/* the clock, which stands still */
	struct thing *things;
	bool is_stopping;
	struct brk_client *clients[64];
	unsigned n_clients;
	unsigned lines;
	enum log_level level;
	char line[LIMIT_BRK_LINE];
};

/* rig_setup(), rig_teardown() - for cmocka; the latter frees everything, and each thing must have been dropped once */
int rig_setup(void **state);
int rig_teardown(void **state);

/* rig_restart() - all clients and the broker are gone; a new broker with the same key, in its time of grace */
void rig_restart(struct rig *rig);

/* rig_thing() - a thing to give. If the broker does not take it: thing_unused() */
struct thing *rig_thing(struct rig *rig);
struct thing *rig_memory(struct rig *rig, unsigned memory);
void thing_unused(struct thing *thing);

/* rig_window() - one more descriptor of the same memory as @page, which a test has for a window */
struct thing *rig_window(struct rig *rig, unsigned memory, unsigned *page);

/* rig_connect() - a client before its hello; uid 0 is trusted */
struct brk_client *rig_connect(struct rig *rig, uint32_t uid);

/* rig_join() - a program of user @uid in context @cid */
struct brk_client *rig_join(struct rig *rig, uint32_t uid, uint32_t cid);

/* rig_vm() - a device; @ret_sinks: datagrams and events, or NULL */
struct brk_client *rig_vm(struct rig *rig, const struct brk_vm *vm, struct thing *ret_sinks[2]);

/* rig_leave() - the client dies */
void rig_leave(struct rig *rig, struct brk_client *client);

/* rig_events() - let events of @client go to the sink that is returned */
struct thing *rig_events(struct rig *rig, struct brk_client *client);

/* rig_endpoint() - an endpoint with a chosen id; @ret_sink may be NULL */
struct vmci_handle rig_endpoint(struct rig *rig, struct brk_client *client, struct thing **ret_sink);

/* rig_send() - a datagram with @text as its payload */
int32_t rig_send(struct brk_client *client, struct vmci_handle src, struct vmci_handle dst, const char *text);

/* rig_event() - the @i-th thing that came to a sink, as an event */
struct event rig_event(const struct thing *sink, unsigned i);

/* rig_name() - register, look up or unregister; returns the reply's code (or what brk_name() says) */
int32_t rig_register(struct brk_client *client, const char *name, struct vmci_handle handle);
int32_t rig_lookup(struct brk_client *client, const char *name, struct vmci_handle *ret_handle);
int32_t rig_unregister(struct brk_client *client, const char *name);

#define assert_handle(h, c, r) assert_true(handle_is_equal(h, handle_make(c, r)))

#endif /* TEST_BROKER_RIG_H */
