/* SPDX-License-Identifier: BSD-2-Clause */
/* Shared memory of a guest: the service, with a vmcid that the test plays. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "proto/dg.h"
#include "proto/limits.h"
#include "proto/share.h"
#include "../../../src/vmci-device/share.h"

#define CID 42u
#define SIZE (1u << 20)
#define ANY VMCI_INVALID_ID

/* What vmcid knows: a region, or that we are attached to it. */
struct known {
	struct vmci_handle handle;
	uint64_t bytes;
	uint64_t offset;
};

static struct rig {
	struct shares *shares;
	struct window window;
	struct known known[2 * LIMIT_SHARES];
	unsigned n_known;
	uint64_t next;
	bool is_held;
	int error;		/* instead of the next answer; @is_done: but it is carried out */
	bool is_done;
	bool stays;		/* and for all that follow */
	int32_t status;		/* instead of doing it */
	uint64_t offset;	/* != 0: a lie about the place */
	unsigned calls[FAB_TYPE_NUM];
	struct fab_msg last;
	struct vmci_handle gone;
	unsigned n_gone;
	int detached;		/* status of SHM_DETACH */
} rig;

static struct known *find(struct vmci_handle handle)
{
	for (unsigned i = 0; i < rig.n_known; i++)
		if (handle_is_equal(rig.known[i].handle, handle))
			return &rig.known[i];
	return NULL;
}

static struct known *know(struct vmci_handle handle, uint64_t bytes)
{
	struct known *known = &rig.known[rig.n_known++];

	assert_true(rig.n_known < 2 * LIMIT_SHARES);
	*known = (struct known){ handle, bytes, rig.next };
	rig.next = (rig.next + ((bytes + 4095) & ~4095ull)) % SIZE;
	return known;
}

static int32_t serve(const struct fab_msg *request, struct fab_msg *reply)
{
	struct vmci_handle own = handle_make(CID, request->handle.resource);
	struct known *known = find(request->handle);

	switch (request->type) {
	case FAB_SHM_ALLOC:
		assert_int_equal(request->handle.context, 0);
		if (find(own))
			return VMCI_ERROR_ALREADY_EXISTS;
		known = know(own, request->size0);
		reply->handle = own;
		reply->size1 = rig.offset ? rig.offset : known->offset;
		break;
	case FAB_SHM_QUERY:
		if (request->handle.context != 2 && !known)
			return VMCI_ERROR_NOT_FOUND;
		reply->size0 = 5000;
		break;
	case FAB_SHM_ATTACH:
		if (request->handle.context != 2)
			return known ? VMCI_ERROR_ALREADY_EXISTS : VMCI_ERROR_NOT_FOUND;
		if (known)
			return VMCI_ERROR_ALREADY_EXISTS;
		known = know(request->handle, 5000);
		reply->size0 = 5000;
		reply->size1 = rig.offset ? rig.offset : known->offset;
		break;
	case FAB_SHM_DETACH:
		if (!known)
			return VMCI_ERROR_NOT_FOUND;
		*known = rig.known[--rig.n_known];
		return rig.detached;
	case FAB_SHM_CREATE:
	case FAB_SHM_HOLD:
		assert_int_equal(request->n_fds, 1);
		assert_int_equal(request->fd[0], rig.window.fd);
		assert_int_equal(request->token[0], 0x77);
		known = find(request->type == FAB_SHM_CREATE ? own : request->handle);
		if (known)
			return VMCI_ERROR_ALREADY_EXISTS;
		know(request->type == FAB_SHM_CREATE ? own : request->handle, request->size0);
		break;
	default:
		fail();
	}
	reply->token[0] = 0x77;
	return 0;
}

static int port_ask(void *ctx, struct fab_msg *request, struct fab_msg *ret_reply)
{
	int error = rig.error;

	assert_ptr_equal(ctx, &rig);
	rig.calls[request->type]++;
	rig.last = *request;
	if (!rig.stays)
		rig.error = 0;
	*ret_reply = (struct fab_msg){ .type = request->type, .kind = FAB_REPLY };
	if (error && !rig.is_done)
		return error;
	ret_reply->status = rig.status ? rig.status : serve(request, ret_reply);
	rig.status = 0;
	return error;
}

static void port_gone(void *ctx, struct vmci_handle handle)
{
	(void)ctx;
	rig.gone = handle;
	rig.n_gone++;
}

static int set_up(void **state)
{
	const struct shares_ports ports = { &rig, port_ask, port_gone };

	(void)state;
	memset(&rig, 0, sizeof(rig));
	rig.window = (struct window){ .fd = 1000, .size = SIZE };
	rig.detached = VMCI_SUCCESS_LAST_DETACH;
	return shares_new(CID, &rig.window, &ports, &rig.shares);
}

static int tear_down(void **state)
{
	(void)state;
	rig.shares = shares_free(rig.shares);
	return 0;
}

static void run(void)
{
	unsigned budget = 10 * LIMIT_SHARES;

	shares_run(rig.shares, &budget);
}

static int32_t post(uint32_t port, enum share_action action, uint64_t id, struct vmci_handle handle, uint64_t bytes)
{
	const struct share_request request = {
		.version = SHARE_VERSION, .action = (uint16_t)action, .id = id, .handle = handle, .bytes = bytes,
	};
	uint8_t buf[SHARE_REQUEST_SIZE];

	share_request_build(buf, &request);
	return shares_ask(rig.shares, !rig.is_held, port, buf, sizeof(buf));
}

static struct share_reply take(uint32_t port, uint64_t id)
{
	static struct share_reply reply;
	struct dg_header h;
	const uint8_t *dg;
	size_t size;

	dg = shares_next_reply(rig.shares, &size);
	assert_non_null(dg);
	h = dg_parse(dg);
	assert_int_equal(h.payload_size, size - VMCI_DG_HEADER_SIZE);
	assert_true(handle_is_equal(h.dst, handle_make(CID, port)));
	assert_true(handle_is_equal(h.src, handle_make(VMCI_CID_WELL_KNOWN, VMCI_RID_SHM)));
	assert_int_equal(share_reply_parse(dg + VMCI_DG_HEADER_SIZE, size - VMCI_DG_HEADER_SIZE, &reply), 0);
	assert_int_equal(reply.id, id);
	shares_drop_reply(rig.shares);
	return reply;
}

static struct share_reply ask(uint32_t port, enum share_action action, uint64_t id, struct vmci_handle handle,
			      uint64_t bytes)
{
	assert_int_equal(post(port, action, id, handle, bytes), 0);
	return take(port, id);
}

static const struct vmci_handle hosts = { 2, 5000 };

static struct share_reply create(uint32_t port, uint64_t id)
{
	return ask(port, SHARE_CREATE, id, handle_make(CID, ANY), 5000);
}

/* --- Cases ------------------------------------------------------------------------------------------------------ */

static void test_life(void **state)
{
	struct share_reply made, reply;

	(void)state;
	made = create(2000, 1);
	assert_int_equal(made.code, 0);
	assert_int_equal(made.handle.context, CID);
	assert_int_equal(made.bytes, 5000);
	assert_int_equal(made.offset, 0);
	/* Another program of the guest: vmcid is asked whether it may, and told nothing. */
	reply = ask(2001, SHARE_ATTACH, 2, made.handle, 0);
	assert_int_equal(reply.code, 0);
	assert_int_equal(reply.offset, made.offset);
	assert_int_equal(reply.bytes, 5000);
	assert_int_equal(rig.calls[FAB_SHM_QUERY], 1);
	assert_int_equal(rig.calls[FAB_SHM_ATTACH], 0);
	assert_int_equal(ask(2000, SHARE_DETACH, 3, made.handle, 0).code, VMCI_SUCCESS);
	assert_int_equal(rig.calls[FAB_SHM_DETACH], 0);
	assert_int_equal(ask(2001, SHARE_DETACH, 4, made.handle, 0).code, VMCI_SUCCESS_LAST_DETACH);
	assert_int_equal(rig.calls[FAB_SHM_DETACH], 1);
	assert_true(handle_is_equal(rig.gone, made.handle));
	assert_int_equal(ask(2001, SHARE_DETACH, 5, made.handle, 0).code, VMCI_ERROR_NOT_FOUND);
	assert_int_equal(rig.n_known, 0);
	/* Others have it still. */
	rig.detached = VMCI_SUCCESS;
	assert_int_equal(ask(2001, SHARE_ATTACH, 6, hosts, 0).code, 0);
	assert_int_equal(ask(2001, SHARE_DETACH, 7, hosts, 0).code, VMCI_SUCCESS);
	assert_int_equal(rig.n_gone, 1);
}

static void test_rights_are_looked_at_again(void **state)
{
	(void)state;
	assert_int_equal(ask(2000, SHARE_ATTACH, 1, hosts, 0).code, 0);
	rig.status = VMCI_ERROR_NO_ACCESS;
	assert_int_equal(ask(2001, SHARE_ATTACH, 2, hosts, 0).code, VMCI_ERROR_NO_ACCESS);
	assert_int_equal(ask(2001, SHARE_DETACH, 3, hosts, 0).code, VMCI_ERROR_NOT_FOUND);
}

static void test_questions_that_are_asked_again(void **state)
{
	struct share_reply made, again;

	(void)state;
	made = create(2000, 1);
	again = create(2000, 1);
	assert_true(handle_is_equal(again.handle, made.handle));
	assert_int_equal(again.code, 0);
	assert_int_equal(again.offset, made.offset);
	assert_int_equal(rig.calls[FAB_SHM_ALLOC], 1);
	assert_int_equal(ask(2001, SHARE_ATTACH, 1, hosts, 0).code, 0);
	assert_int_equal(ask(2001, SHARE_ATTACH, 1, hosts, 0).code, 0);
	assert_int_equal(rig.calls[FAB_SHM_ATTACH], 1);
	assert_int_equal(rig.n_known, 2);
	/* As often as it was asked, one detach is enough. */
	assert_int_equal(ask(2001, SHARE_DETACH, 2, hosts, 0).code, VMCI_SUCCESS_LAST_DETACH);
	assert_int_equal(ask(2000, SHARE_DETACH, 2, made.handle, 0).code, VMCI_SUCCESS_LAST_DETACH);
}

static void test_a_port_that_is_used_again(void **state)
{
	struct share_reply made;

	(void)state;
	made = create(2000, 1);
	assert_int_equal(ask(2000, SHARE_ATTACH, 2, hosts, 0).code, 0);
	assert_null(find(made.handle));
	assert_int_equal(ask(2000, SHARE_ATTACH, 3, hosts, 0).code, 0);
	assert_int_equal(rig.n_known, 1);
	assert_int_equal(rig.calls[FAB_SHM_ATTACH], 2);
	/* The id alone says nothing. */
	made = create(2000, 3);
	assert_int_equal(made.code, 0);
	assert_null(find(hosts));
}

static void test_who_can_leave_what(void **state)
{
	struct share_reply made;

	(void)state;
	made = create(2000, 1);
	assert_int_equal(ask(2001, SHARE_DETACH, 2, made.handle, 0).code, VMCI_ERROR_NOT_FOUND);
	assert_int_equal(ask(2000, SHARE_DETACH, 3, hosts, 0).code, VMCI_ERROR_NOT_FOUND);
	assert_int_equal(ask(2001, SHARE_DETACH, 4, handle_make(ANY, ANY), 0).code, VMCI_ERROR_NOT_FOUND);
	assert_non_null(find(made.handle));
	/* Whatever it is: who has the port after its owner's death knows no handle. */
	assert_int_equal(ask(2000, SHARE_DETACH, 5, handle_make(ANY, ANY), 0).code, VMCI_SUCCESS_LAST_DETACH);
}

static void test_owners(void **state)
{
	struct share_reply reply;
	unsigned seen = 0;

	(void)state;
	reply = ask(5, SHARE_OWNERS, 1, handle_make(ANY, ANY), 0);
	assert_int_equal(reply.n_ports, 0);
	for (uint32_t i = 0; i < SHARE_PORTS_MAX + 10; i++)
		assert_int_equal(create(2000 + i, i).code, 0);
	reply = ask(5, SHARE_OWNERS, 2, handle_make(ANY, ANY), 0);
	assert_int_equal(reply.n_ports, SHARE_PORTS_MAX);
	assert_int_equal(reply.bytes, SHARE_PORTS_MAX);
	for (unsigned i = 0; i < reply.n_ports; i++)
		seen += reply.port[i] == 2000 + i;
	assert_int_equal(seen, SHARE_PORTS_MAX);
	reply = ask(5, SHARE_OWNERS, 3, handle_make(ANY, ANY), reply.bytes);
	assert_int_equal(reply.n_ports, 10);
	assert_int_equal(reply.bytes, 0);
	reply = ask(5, SHARE_OWNERS, 4, handle_make(ANY, ANY), UINT64_MAX);
	assert_int_equal(reply.n_ports, 0);
	assert_int_equal(reply.bytes, 0);
}

static void test_limit(void **state)
{
	struct vmci_handle last;

	(void)state;
	for (uint32_t i = 0; i < LIMIT_SHARES; i++)
		assert_int_equal(create(2000 + i, i).code, 0);
	assert_int_equal(create(1999, 1).code, VMCI_ERROR_NO_RESOURCES);
	assert_int_equal(ask(1999, SHARE_ATTACH, 2, hosts, 0).code, VMCI_ERROR_NO_RESOURCES);
	assert_int_equal(rig.n_known, LIMIT_SHARES);
	last = rig.known[0].handle;
	assert_int_equal(ask(2000, SHARE_DETACH, 3, last, 0).code, VMCI_SUCCESS_LAST_DETACH);
	assert_int_equal(ask(1999, SHARE_ATTACH, 4, hosts, 0).code, 0);
}

static void test_nonsense(void **state)
{
	uint8_t buf[SHARE_REQUEST_SIZE + 100] = { 0 };
	struct share_request request = { .version = SHARE_VERSION };

	(void)state;
	for (size_t size = 0; size < SHARE_REQUEST_SIZE; size++)
		assert_int_equal(shares_ask(rig.shares, !rig.is_held, 2000, buf, size), VMCI_ERROR_INVALID_ARGS);
	share_request_build(buf, &request);
	/* Where no answer may go. */
	for (uint32_t port = 0; port < 2; port++)
		assert_int_equal(shares_ask(rig.shares, true, port, buf, SHARE_REQUEST_SIZE), VMCI_ERROR_INVALID_ARGS);
	assert_int_equal(shares_ask(rig.shares, !rig.is_held, ANY, buf, SHARE_REQUEST_SIZE), VMCI_ERROR_INVALID_ARGS);
	request.version = 2;
	share_request_build(buf, &request);
	assert_int_equal(shares_ask(rig.shares, !rig.is_held, 2000, buf, sizeof(buf)), 0);
	assert_int_equal(take(2000, 0).code, VMCI_ERROR_OBSOLETE);
	for (unsigned action = SHARE_ACTION_NUM; action < 65536; action += 1111)
		assert_int_equal(ask(2000, (enum share_action)action, 1, hosts, 1).code, VMCI_ERROR_INVALID_ARGS);
	assert_int_equal(ask(2000, SHARE_ATTACH, 1, handle_make(ANY, ANY), 0).code, VMCI_ERROR_INVALID_ARGS);
	assert_int_equal(rig.n_known, 0);
}

/* A guest that does not fetch its answers gets no more, and nothing is done for it. */
static void test_a_guest_that_does_not_read(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < LIMIT_SHARE_REPLIES; i++)
		assert_int_equal(post(2000 + i, SHARE_CREATE, i, handle_make(CID, ANY), 1), 0);
	assert_int_equal(post(1999, SHARE_CREATE, 1, handle_make(CID, ANY), 1), VMCI_ERROR_NO_RESOURCES);
	assert_int_equal(rig.n_known, LIMIT_SHARE_REPLIES);
	for (uint32_t i = 0; i < LIMIT_SHARE_REPLIES; i++)
		take(2000 + i, i);
	assert_int_equal(post(1999, SHARE_CREATE, 1, handle_make(CID, ANY), 1), 0);
}

static void test_no_window(void **state)
{
	const struct shares_ports ports = { &rig, port_ask, port_gone };

	(void)state;
	shares_free(rig.shares);
	assert_int_equal(shares_new(CID, NULL, &ports, &rig.shares), 0);
	for (unsigned action = 0; action < SHARE_ACTION_NUM; action++)
		assert_int_equal(ask(2000, (enum share_action)action, 1, hosts, 1).code, VMCI_ERROR_UNAVAILABLE);
	assert_true(shares_is_told(rig.shares));
}

/* vmcid is trusted, but what it says is looked at. */
static void test_a_place_that_is_none(void **state)
{
	static const uint64_t wrong[] = { SIZE, SIZE - 4096, 1, 4095, UINT64_MAX, UINT64_MAX - 4095, 1ull << 63 };

	(void)state;
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		rig.offset = wrong[i];
		assert_int_equal(create(2000, i).code, VMCI_ERROR_UNAVAILABLE);
		assert_int_equal(ask(2000, SHARE_ATTACH, i + 100, hosts, 0).code, VMCI_ERROR_UNAVAILABLE);
		/* And is given back. */
		run();
		assert_int_equal(rig.n_known, 0);
	}
}

static void test_vmcid_is_away(void **state)
{
	struct share_reply made;

	(void)state;
	made = create(2000, 1);
	rig.error = -EHOSTDOWN;
	rig.stays = true;
	for (unsigned action = SHARE_CREATE; action <= SHARE_ATTACH; action++)
		assert_int_equal(post(2001, (enum share_action)action, 2, hosts, 1), VMCI_ERROR_NO_RESOURCES);
	/* What needs nobody is answered. */
	assert_int_equal(create(2000, 1).code, 0);
	assert_int_equal(ask(2000, SHARE_DETACH, 3, made.handle, 0).code, VMCI_SUCCESS);
	assert_false(shares_is_told(rig.shares));
	run();
	assert_non_null(find(made.handle));
	rig.error = 0;
	rig.stays = false;
	run();
	assert_null(find(made.handle));
	assert_true(shares_is_told(rig.shares));
}

/* A new vmcid has not heard of everything: what takes it has to wait, the rest does not. */
static void test_not_ready(void **state)
{
	struct share_reply made;
	unsigned calls;

	(void)state;
	made = create(2000, 1);
	rig.is_held = true;
	calls = rig.calls[FAB_SHM_ALLOC];
	for (unsigned action = SHARE_CREATE; action <= SHARE_ATTACH; action++)
		assert_int_equal(post(2001, (enum share_action)action, 2, hosts, 1), VMCI_ERROR_NO_RESOURCES);
	assert_int_equal(rig.calls[FAB_SHM_ALLOC] + rig.calls[FAB_SHM_QUERY] + rig.calls[FAB_SHM_ATTACH], calls);
	assert_int_equal(create(2000, 1).code, 0);
	assert_int_equal(ask(5, SHARE_OWNERS, 1, hosts, 0).n_ports, 1);
	assert_int_equal(ask(2000, SHARE_DETACH, 3, made.handle, 0).code, VMCI_SUCCESS);
	assert_int_equal(rig.calls[FAB_SHM_DETACH], 0);
	run();
	assert_int_equal(rig.n_known, 0);
}

static void test_later(void **state)
{
	(void)state;
	rig.status = VMCI_ERROR_WOULD_BLOCK;
	assert_int_equal(post(2000, SHARE_CREATE, 1, handle_make(CID, ANY), 1), VMCI_ERROR_NO_RESOURCES);
	assert_int_equal(create(2000, 1).code, 0);
}

/* vmcid was too slow: what it may have done is taken back, and asked for anew. */
static void test_time_outs(void **state)
{
	struct share_reply made;

	(void)state;
	for (unsigned done = 0; done < 2; done++) {
		rig.is_done = done;
		rig.error = -ETIMEDOUT;
		assert_int_equal(post(2000, SHARE_CREATE, 1, handle_make(CID, ANY), 5000), VMCI_ERROR_NO_RESOURCES);
		assert_int_equal(rig.n_known, done);
		made = create(2000, 1);
		assert_int_equal(made.code, 0);
		run();
		assert_int_equal(rig.n_known, 1);
		assert_non_null(find(made.handle));

		rig.error = -ETIMEDOUT;
		assert_int_equal(post(2001, SHARE_ATTACH, 1, hosts, 0), VMCI_ERROR_NO_RESOURCES);
		assert_int_equal(ask(2001, SHARE_ATTACH, 1, hosts, 0).code, 0);
		assert_int_equal(rig.n_known, 2);
		run();
		assert_int_equal(rig.n_known, 2);

		rig.error = -ETIMEDOUT;
		assert_int_equal(ask(2001, SHARE_DETACH, 2, hosts, 0).code, 0);
		rig.error = -ETIMEDOUT;
		assert_int_equal(ask(2000, SHARE_DETACH, 2, made.handle, 0).code, 0);
		run();
		assert_int_equal(rig.n_known, 0);
		assert_true(shares_is_told(rig.shares));
	}
}

static void test_driver_goes(void **state)
{
	(void)state;
	create(2000, 1);
	assert_int_equal(ask(2001, SHARE_ATTACH, 1, hosts, 0).code, 0);
	assert_int_equal(post(2002, SHARE_QUERY, 1, hosts, 0), 0);
	shares_driver_gone(rig.shares);
	/* The answer was for another. */
	assert_null(shares_next_reply(rig.shares, &(size_t){ 0 }));
	run();
	assert_int_equal(rig.n_known, 0);
	assert_int_equal(ask(5, SHARE_OWNERS, 1, hosts, 0).n_ports, 0);
}

static void test_a_budget(void **state)
{
	unsigned budget = 3;

	(void)state;
	for (uint32_t i = 0; i < 10; i++)
		create(2000 + i, i);
	shares_driver_gone(rig.shares);
	shares_run(rig.shares, &budget);
	assert_int_equal(budget, 0);
	assert_int_equal(rig.n_known, 7);
	run();
	assert_int_equal(rig.n_known, 0);
}

static void test_a_new_vmcid(void **state)
{
	struct share_reply made, left;

	(void)state;
	made = create(2000, 1);
	left = create(2001, 1);
	assert_int_equal(ask(2002, SHARE_ATTACH, 1, hosts, 0).code, 0);
	rig.error = -EHOSTDOWN;
	assert_int_equal(ask(2001, SHARE_DETACH, 2, left.handle, 0).code, 0);
	rig.error = 0;
	/* It knows nothing, and is told what is there. */
	rig.n_known = 0;
	shares_tell_all(rig.shares);
	assert_false(shares_is_told(rig.shares));
	run();
	assert_true(shares_is_told(rig.shares));
	assert_int_equal(rig.calls[FAB_SHM_CREATE], 1);
	assert_int_equal(rig.calls[FAB_SHM_HOLD], 1);
	assert_non_null(find(made.handle));
	assert_non_null(find(hosts));
	assert_int_equal(rig.n_known, 2);
	/* Told, and not answered in time: it is told again, and knows already. */
	rig.n_known = 0;
	shares_tell_all(rig.shares);
	rig.is_done = true;
	rig.error = -ETIMEDOUT;
	run();
	assert_false(shares_is_told(rig.shares));
	run();
	assert_true(shares_is_told(rig.shares));
	assert_int_equal(ask(2000, SHARE_DETACH, 3, made.handle, 0).code, VMCI_SUCCESS_LAST_DETACH);
}

/* It does not know of a region: who has it keeps the memory, nobody new gets it; and it is not told of the end. */
static void test_a_region_that_is_lost(void **state)
{
	struct share_reply made;

	(void)state;
	made = create(2000, 1);
	rig.n_known = 0;
	shares_tell_all(rig.shares);
	rig.status = VMCI_ERROR_NO_ACCESS;
	run();
	assert_int_equal(ask(2001, SHARE_ATTACH, 1, made.handle, 0).code, VMCI_ERROR_NOT_FOUND);
	assert_int_equal(create(2000, 1).code, 0);
	assert_int_equal(ask(2000, SHARE_DETACH, 2, made.handle, 0).code, VMCI_SUCCESS);
	assert_int_equal(rig.calls[FAB_SHM_DETACH], 0);
	assert_true(shares_is_told(rig.shares));
}

static void test_ids(void **state)
{
	struct share_reply one;

	(void)state;
	assert_int_equal(ask(2000, SHARE_CREATE, 1, handle_make(CID, 5000), 1).handle.resource, 5000);
	assert_int_equal(ask(2001, SHARE_CREATE, 1, handle_make(CID, 5000), 1).code, VMCI_ERROR_ALREADY_EXISTS);
	/* Ids that others have taken, of an earlier driver, are passed over. */
	one = create(2002, 1);
	for (uint32_t i = 1; i < 5; i++)
		know(handle_make(CID, one.handle.resource + i), 1);
	one = create(2003, 1);
	assert_int_equal(one.code, 0);
	for (uint32_t i = 1; i < 100; i++)
		know(handle_make(CID, one.handle.resource + i), 1);
	assert_int_equal(create(2004, 1).code, VMCI_ERROR_NO_RESOURCES);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		T(test_life),
		T(test_rights_are_looked_at_again),
		T(test_questions_that_are_asked_again),
		T(test_a_port_that_is_used_again),
		T(test_who_can_leave_what),
		T(test_owners),
		T(test_limit),
		T(test_nonsense),
		T(test_a_guest_that_does_not_read),
		T(test_no_window),
		T(test_a_place_that_is_none),
		T(test_vmcid_is_away),
		T(test_not_ready),
		T(test_later),
		T(test_time_outs),
		T(test_driver_goes),
		T(test_a_budget),
		T(test_a_new_vmcid),
		T(test_a_region_that_is_lost),
		T(test_ids),
	};

	return cmocka_run_group_tests_name("shares of a guest", tests, NULL, NULL);
}
