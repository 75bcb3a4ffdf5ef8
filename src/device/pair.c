/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * DOC: Theory of operation
 *
 * A pair is made by one side and attached by the other; the guest always brings the memory, whether
 * it makes or attaches. We take its pages, write both ring headers, and only then let either side
 * know. The host's end is whoever called dev_qp_create() or dev_qp_attach(), named by an owner
 * pointer that means nothing to us.
 *
 * When the guest leaves, or is reset, the host is told by the qp_gone port while the pages are still
 * there; the pages are dropped when the port returns and before the guest's register write does,
 * because the guest frees them next. The entry stays in its table during the call, so the port may use any
 * function of the host's side.
 *
 * The host's end may be *far*: it belongs to another context, and whoever takes it is a go-between (dev_far_attach()
 * for pairs that the guest made, the far_find port for those that the guest wants to attach to). For the device that
 * is the same, but for the ports that tell of the guest's moves, and for the context in the guest's events.
 *
 * When the host leaves, the guest is told by an event and keeps the entry until it leaves, too. An
 * event that does not fit into the guest's queue is remembered in the entry and sent when there is
 * room: streams depend on it.
 */
#include "device/pair.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "base/checked.h"
#include "device/priv.h"
#include "proto/event.h"

/* Flags that take part in the comparison of an attacher's with the creator's: reference, 7.3. */
#define COMPARED_OF_ATTACHER (VMCI_QP_ALL_FLAGS & ~(VMCI_QP_ATTACH_ONLY | VMCI_QP_NONBLOCK | VMCI_QP_PINNED))

#define OWED_ATTACH 0x1u
#define OWED_DETACH 0x2u

/**
 * struct dev_pair - a queue pair
 * @next:    in its bucket
 * @state:   who holds an end
 * @peer:    context that may attach to a pair of the guest, or VMCI_INVALID_ID
 * @produce, @consume: ring sizes as the guest sees them
 * @page_shift: of @pages
 * @pages:   the memory, NULL in state HOST
 * @owner:   the host's end, in states HOST, BOTH and GOING
 * @far:     that end belongs to another context
 * @other:   context of that end
 * @owed:    events that the guest has not got yet: OWED_*
 * @owed_next, @owed_prev: in the list of those
 */
struct dev_pair {
	struct dev_pair *next;
	struct vmci_handle handle;
	enum dev_pair_state state;
	uint32_t peer;
	uint64_t produce;
	uint64_t consume;
	unsigned page_shift;
	struct mem_pages *pages;
	void *owner;
	bool far;
	uint32_t other;
	unsigned owed;
	struct dev_pair *owed_next;
	struct dev_pair *owed_prev;
};

static const char *const state_names[] = {
	[DEV_PAIR_HOST] = "host",
	[DEV_PAIR_GUEST] = "guest",
	[DEV_PAIR_BOTH] = "both",
	[DEV_PAIR_SHUTDOWN] = "shutdown",
	[DEV_PAIR_GOING] = "going",
};
static_assert(sizeof(state_names) / sizeof(state_names[0]) == DEV_PAIR_NUM, "a name for each state");

const char *dev_pair_state_to_string(enum dev_pair_state state)
{
	return state_names[state];
}

/* --- The table ----------------------------------------------------------------------- */

static struct dev_pair **bucket_of(struct dev *dev, struct vmci_handle handle)
{
	uint32_t hash = (handle.resource ^ handle.context * 31) * UINT32_C(0x9e3779b1);

	return &dev->pairs.bucket[hash >> 16 & (PAIR_BUCKETS - 1)];
}

static struct dev_pair *find(struct dev *dev, struct vmci_handle handle)
{
	struct dev_pair *pair = *bucket_of(dev, handle);

	while (pair && !handle_is_equal(pair->handle, handle))
		pair = pair->next;
	return pair;
}

/* Make a pair without memory. NULL: out of memory */
static struct dev_pair *add(struct dev *dev, struct vmci_handle handle, enum dev_pair_state state)
{
	struct dev_pair **bucket = bucket_of(dev, handle);
	struct dev_pair *pair = calloc(1, sizeof(*pair));

	if (!pair)
		return NULL;
	pair->handle = handle;
	pair->state = state;
	pair->other = VMCI_CID_HOST;
	pair->next = *bucket;
	*bucket = pair;
	dev->pairs.count++;
	return pair;
}

/* Take @pair out of the list of those that are owed something, if it is there. */
static void owe_nothing(struct dev *dev, struct dev_pair *pair)
{
	struct dev_pairs *pairs = &dev->pairs;

	if (!pair->owed_prev && pairs->owed_first != pair)
		return;
	pair->owed = 0;
	if (pair->owed_prev)
		pair->owed_prev->owed_next = pair->owed_next;
	else
		pairs->owed_first = pair->owed_next;
	if (pair->owed_next)
		pair->owed_next->owed_prev = pair->owed_prev;
	else
		pairs->owed_last = pair->owed_prev;
	pair->owed_next = pair->owed_prev = NULL;
}

/* Forget a pair, and give its pages back. */
static void del(struct dev *dev, struct dev_pair *pair)
{
	struct dev_pair **link = bucket_of(dev, pair->handle);

	owe_nothing(dev, pair);
	if (pair->pages) {
		dev->ports.mem.ops->drop(dev->ports.mem.ctx, pair->pages);
		dev->pairs.memory -= pair->produce + pair->consume;
	}
	while (*link != pair)
		link = &(*link)->next;
	*link = pair->next;
	dev->pairs.count--;
	free(pair);
}

/* --- Events for the guest ------------------------------------------------------------- */

static bool tell(struct dev *dev, const struct dev_pair *pair, uint32_t event)
{
	const struct event e = { .id = event, .context = pair->other, .handle = pair->handle };
	uint8_t buf[EVENT_MAX_SIZE];
	size_t size = event_build(buf, dev->config.cid, &e);

	return dev_queue(dev, buf, size) != VMCI_ERROR_NO_RESOURCES;
}

/* Send what @pair's guest is owed. Return: is all of it sent? */
static bool pay(struct dev *dev, struct dev_pair *pair)
{
	if (pair->owed & OWED_ATTACH && !tell(dev, pair, VMCI_EVENT_QP_PEER_ATTACH))
		return false;
	pair->owed &= ~OWED_ATTACH;
	return !(pair->owed & OWED_DETACH) || tell(dev, pair, VMCI_EVENT_QP_PEER_DETACH);
}

/* Tell the guest that the peer of @pair came (OWED_ATTACH) or left (OWED_DETACH), now or later. */
static void owe(struct dev *dev, struct dev_pair *pair, unsigned what)
{
	struct dev_pairs *pairs = &dev->pairs;

	if (!pair->owed) {
		if (tell(dev, pair,
			 what == OWED_ATTACH ? VMCI_EVENT_QP_PEER_ATTACH : VMCI_EVENT_QP_PEER_DETACH))
			return;
		pair->owed_prev = pairs->owed_last;
		if (pairs->owed_last)
			pairs->owed_last->owed_next = pair;
		else
			pairs->owed_first = pair;
		pairs->owed_last = pair;
	}
	pair->owed |= what;
}

void dev_pairs_flush(struct dev *dev)
{
	struct dev_pair *pair;

	while ((pair = dev->pairs.owed_first) && pay(dev, pair))
		owe_nothing(dev, pair);
}

/* --- The guest's side ------------------------------------------------------------------- */

/* Is the guest attached? */
static bool has_guest(const struct dev_pair *pair)
{
	return pair->state != DEV_PAIR_HOST && pair->state != DEV_PAIR_GOING;
}

/* Reference 7.4, check 1: sizes, and the guest's total. */
static bool is_within_quota(const struct dev *dev, const struct hc_qp_alloc *g_alloc)
{
	uint64_t sum;

	if (!add64(g_alloc->produce, g_alloc->consume, &sum))
		return false;
	if (sum > LIMIT_QUEUE_MEMORY - dev->pairs.memory)
		return false;
	return !(g_alloc->flags & VMCI_QP_PINNED) || sum <= LIMIT_PINNED_QUEUE_PAIR;
}

/* Check 2: a name, known flags, two ends, some data, a page list of the right length. */
static bool is_wellformed(const struct dev *dev, const struct hc_qp_alloc *g_alloc)
{
	uint64_t pages = qp_page_count(g_alloc->produce, g_alloc->consume, dev->page_shift);

	if (g_alloc->handle.context == VMCI_INVALID_ID || g_alloc->handle.resource == VMCI_INVALID_ID)
		return false;
	if (g_alloc->flags & ~VMCI_QP_ALL_FLAGS || g_alloc->flags & VMCI_QP_LOCAL)
		return false;
	return (g_alloc->produce || g_alloc->consume) && g_alloc->page_count == pages &&
	       g_alloc->list_size == 4 * pages;
}

/* Take the pages of the list. Return: 0 or negative errno */
static int take(struct dev *dev, const struct hc_qp_alloc *alloc, struct mem_pages **ret_pages)
{
	size_t n = (size_t)alloc->page_count;
	uint64_t *addr = malloc(n * sizeof(*addr));
	int r;

	if (!addr)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++)
		addr[i] = (uint64_t)hc_qp_alloc_page(alloc, i) << dev->page_shift;
	r = dev->ports.mem.ops->take(dev->ports.mem.ctx, addr, n, dev->page_shift, ret_pages);
	free(addr);
	return r;
}

/* Give @pair the memory that the guest brings, with both ring headers written: reference, 7.2. */
static int32_t give_memory(struct dev *dev, struct dev_pair *pair, const struct hc_qp_alloc *alloc)
{
	struct mem_pages *pages;
	struct qp qp;
	int r = take(dev, alloc, &pages);

	if (!r) {
		qp_init(&qp, dev->ports.mem, pages, dev->page_shift, alloc->produce, alloc->consume, false);
		r = qp_format(&qp, alloc->handle);
		if (r)
			dev->ports.mem.ops->drop(dev->ports.mem.ctx, pages);
	}
	if (r)
		return r == -ENOMEM ? VMCI_ERROR_NO_MEM : VMCI_ERROR_INVALID_ARGS;
	pair->pages = pages;
	pair->page_shift = dev->page_shift;
	pair->produce = alloc->produce;
	pair->consume = alloc->consume;
	dev->pairs.memory += alloc->produce + alloc->consume;
	return VMCI_SUCCESS;
}

/* Check 4, and 6. */
static int32_t create(struct dev *dev, const struct hc_qp_alloc *alloc)
{
	struct dev_pair *pair;
	int32_t r;

	if (alloc->flags & VMCI_QP_ATTACH_ONLY)
		return VMCI_ERROR_NOT_FOUND;
	if (alloc->handle.context != dev->config.cid && alloc->handle.context != alloc->peer)
		return VMCI_ERROR_NO_ACCESS;
	if (alloc->peer > VMCI_CID_HOST && alloc->peer != VMCI_INVALID_ID && !dev->ports.far_find)
		return VMCI_ERROR_DST_UNREACHABLE;
	if (dev->pairs.count >= LIMIT_QUEUE_PAIRS)
		return VMCI_ERROR_NO_RESOURCES;
	pair = add(dev, alloc->handle, DEV_PAIR_GUEST);
	if (!pair)
		return VMCI_ERROR_NO_MEM;
	pair->peer = alloc->peer;
	r = give_memory(dev, pair, alloc);
	if (r) {
		del(dev, pair);
		return r;
	}
	return VMCI_SUCCESS_QUEUEPAIR_CREATE;
}

/* Check 5, and 6 and 7. The host makes its pairs for this guest, without flags. */
static int32_t attach(struct dev *dev, struct dev_pair *pair, const struct hc_qp_alloc *alloc)
{
	int32_t r;

	if (pair->state != DEV_PAIR_HOST)
		return VMCI_ERROR_UNAVAILABLE;
	if (alloc->flags & COMPARED_OF_ATTACHER || alloc->produce != pair->produce ||
	    alloc->consume != pair->consume)
		return VMCI_ERROR_QUEUEPAIR_MISMATCH;
	r = give_memory(dev, pair, alloc);
	if (r)
		return r;
	pair->state = DEV_PAIR_BOTH;
	dev->ports.qp_attached(dev->ports.ctx, pair->owner);
	return VMCI_SUCCESS_QUEUEPAIR_ATTACH;
}

/*
 * Attach to a pair that another context may have made. Memory comes first, although reference 7.4 has it last: who has
 * attached elsewhere can only leave again, and then the pair is lost for everybody.
 */
static int32_t attach_far(struct dev *dev, const struct hc_qp_alloc *alloc)
{
	const struct dev_far far = {
		.handle = alloc->handle,
		.peer = alloc->peer,
		.produce = alloc->produce,
		.consume = alloc->consume,
	};
	struct dev_pair *pair;
	uint32_t context;
	void *owner;
	int32_t r;

	if (dev->pairs.count >= LIMIT_QUEUE_PAIRS)
		return VMCI_ERROR_NO_RESOURCES;
	pair = add(dev, alloc->handle, DEV_PAIR_HOST);
	if (!pair)
		return VMCI_ERROR_NO_MEM;
	r = give_memory(dev, pair, alloc);
	if (!r)
		r = dev->ports.far_find(dev->ports.ctx, &far, &owner, &context);
	if (r < 0) {
		del(dev, pair);
		return r;
	}
	pair->owner = owner;
	pair->far = true;
	pair->other = context;
	pair->state = DEV_PAIR_BOTH;
	dev->ports.far_attached(dev->ports.ctx, owner);
	return VMCI_SUCCESS_QUEUEPAIR_ATTACH;
}

int32_t dev_pairs_alloc(struct dev *dev, const struct hc_qp_alloc *g_alloc)
{
	struct dev_pair *pair;
	int32_t r;

	if (!dev_can_dma(dev))
		return VMCI_ERROR_UNAVAILABLE;
	if (!is_within_quota(dev, g_alloc))
		return VMCI_ERROR_NO_RESOURCES;
	if (!is_wellformed(dev, g_alloc))
		return VMCI_ERROR_INVALID_ARGS;
	pair = find(dev, g_alloc->handle);
	if (!pair && dev->ports.far_find && g_alloc->handle.context != dev->config.cid) {
		r = attach_far(dev, g_alloc);
		return r == VMCI_ERROR_NOT_FOUND ? create(dev, g_alloc) : r;
	}
	if (!pair)
		return create(dev, g_alloc);
	if (has_guest(pair))
		return VMCI_ERROR_ALREADY_EXISTS;
	return attach(dev, pair, g_alloc);
}

/* The guest's end goes: the host's end, if there is one, learns it while the memory is there. */
static void leave(struct dev *dev, struct dev_pair *pair)
{
	if (pair->state == DEV_PAIR_HOST || pair->state == DEV_PAIR_BOTH) {
		pair->state = DEV_PAIR_GOING;
		if (pair->far)
			dev->ports.far_gone(dev->ports.ctx, pair->owner);
		else
			dev->ports.qp_gone(dev->ports.ctx, pair->owner);
	}
	del(dev, pair);
}

int32_t dev_pairs_leave(struct dev *dev, struct vmci_handle g_handle)
{
	struct dev_pair *pair = find(dev, g_handle);

	if (!pair && dev->adopted)
		return VMCI_SUCCESS;
	if (!pair || !has_guest(pair))
		return VMCI_ERROR_NOT_FOUND;
	leave(dev, pair);
	return VMCI_SUCCESS;
}

void dev_pairs_reset(struct dev *dev)
{
	for (unsigned i = 0; i < PAIR_BUCKETS && dev->pairs.count; i++)
		while (dev->pairs.bucket[i])
			leave(dev, dev->pairs.bucket[i]);
}

/* --- The host's side -------------------------------------------------------------------- */

/* An unused (2, id): reference, 7.3. The table is not full, so the search ends. */
static struct vmci_handle choose_handle(struct dev *dev)
{
	struct vmci_handle handle;

	do {
		if (dev->pairs.next_rid < VMCI_RID_FIRST_DYNAMIC || dev->pairs.next_rid == VMCI_INVALID_ID)
			dev->pairs.next_rid = VMCI_RID_FIRST_DYNAMIC;
		handle = handle_make(VMCI_CID_HOST, dev->pairs.next_rid++);
	} while (find(dev, handle));
	return handle;
}

uint64_t dev_qp_room(const struct dev *dev)
{
	return LIMIT_QUEUE_MEMORY - dev->pairs.memory;
}

int32_t dev_qp_create_as(struct dev *dev, uint32_t context, uint64_t produce, uint64_t consume, void *owner,
			 struct vmci_handle *ret_handle)
{
	struct dev_pair *pair;
	uint64_t sum;

	if (!owner || (!produce && !consume))
		return VMCI_ERROR_INVALID_ARGS;
	if (!add64(produce, consume, &sum) || sum > LIMIT_QUEUE_MEMORY)
		return VMCI_ERROR_NO_RESOURCES;
	if (dev->resetting || dev->pairs.count >= LIMIT_QUEUE_PAIRS)
		return VMCI_ERROR_NO_RESOURCES;
	pair = add(dev, choose_handle(dev), DEV_PAIR_HOST);
	if (!pair)
		return VMCI_ERROR_NO_MEM;
	pair->peer = dev->config.cid;
	pair->produce = consume;
	pair->consume = produce;
	pair->owner = owner;
	pair->other = context;
	*ret_handle = pair->handle;
	return VMCI_SUCCESS_QUEUEPAIR_CREATE;
}

int32_t dev_qp_create(struct dev *dev, uint64_t produce, uint64_t consume, void *owner,
		      struct vmci_handle *ret_handle)
{
	return dev_qp_create_as(dev, VMCI_CID_HOST, produce, consume, owner, ret_handle);
}

/* May context @context attach to @pair, which may be NULL? */
static int32_t check_attach(struct dev *dev, const struct dev_pair *pair, uint32_t context, uint64_t produce,
			    uint64_t consume)
{
	if (!pair)
		return VMCI_ERROR_NOT_FOUND;
	if (pair->state != DEV_PAIR_GUEST || dev->resetting) {
		dev_note(dev, DEV_NOTE_PAIR, LOG_LEVEL_DEBUG, "queue pair %u:%u is not free for the host: %s",
			 pair->handle.context, pair->handle.resource, dev_pair_state_to_string(pair->state));
		return VMCI_ERROR_UNAVAILABLE;
	}
	if (pair->peer != context && pair->peer != VMCI_INVALID_ID)
		return VMCI_ERROR_NO_ACCESS;
	if (produce != pair->consume || consume != pair->produce)
		return VMCI_ERROR_QUEUEPAIR_MISMATCH;
	return VMCI_SUCCESS_QUEUEPAIR_ATTACH;
}

static int32_t attach_end(struct dev *dev, struct vmci_handle handle, uint32_t context, uint64_t produce,
			  uint64_t consume, bool far, void *owner)
{
	struct dev_pair *pair = find(dev, handle);
	int32_t r = check_attach(dev, pair, context, produce, consume);

	if (r < 0)
		return r;
	pair->owner = owner;
	pair->far = far;
	pair->other = context;
	pair->state = DEV_PAIR_BOTH;
	owe(dev, pair, OWED_ATTACH);
	return r;
}

int32_t dev_qp_attach(struct dev *dev, struct vmci_handle handle, uint64_t produce, uint64_t consume,
		      void *owner)
{
	return dev_qp_attach_as(dev, handle, VMCI_CID_HOST, produce, consume, owner);
}

int32_t dev_qp_attach_as(struct dev *dev, struct vmci_handle handle, uint32_t context, uint64_t produce,
			 uint64_t consume, void *owner)
{
	return attach_end(dev, handle, context, produce, consume, false, owner);
}

int32_t dev_far_check(struct dev *dev, struct vmci_handle handle, uint32_t context, uint64_t produce,
		      uint64_t consume)
{
	return check_attach(dev, find(dev, handle), context, produce, consume);
}

int32_t dev_far_attach(struct dev *dev, struct vmci_handle handle, uint32_t context, uint64_t produce,
		       uint64_t consume, void *owner)
{
	return attach_end(dev, handle, context, produce, consume, true, owner);
}

static int32_t view(struct dev *dev, const struct dev_pair *pair, struct qp *ret_qp)
{
	if (!pair->pages)
		return VMCI_ERROR_QUEUEPAIR_NOT_READY;
	qp_init(ret_qp, dev->ports.mem, pair->pages, pair->page_shift, pair->produce, pair->consume, false);
	return VMCI_SUCCESS;
}

int32_t dev_qp_map(struct dev *dev, struct vmci_handle handle, struct qp *ret_qp)
{
	const struct dev_pair *pair = find(dev, handle);

	return pair && pair->owner ? view(dev, pair, ret_qp) : VMCI_ERROR_NOT_FOUND;
}

int32_t dev_far_look(struct dev *dev, struct vmci_handle handle, struct qp *ret_qp)
{
	const struct dev_pair *pair = find(dev, handle);

	return pair ? view(dev, pair, ret_qp) : VMCI_ERROR_NOT_FOUND;
}

void dev_qp_detach(struct dev *dev, struct vmci_handle handle)
{
	struct dev_pair *pair = find(dev, handle);

	/* Without an owner it is the guest's alone, or being looked for by far_find. */
	if (!pair || !pair->owner)
		return;
	if (pair->state == DEV_PAIR_HOST) {
		del(dev, pair);
	} else if (pair->state == DEV_PAIR_BOTH) {
		pair->state = DEV_PAIR_SHUTDOWN;
		pair->owner = NULL;
		owe(dev, pair, OWED_DETACH);
	}
}
