/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * DOC: Theory of operation
 *
 *	guest -> others		the device's ports call us while the guest waits for the result of a register write.
 *				What takes vmcid is one call of bounded time (FAB_CALL). After a call that had no
 *				reply in time vmcid is out of order: there are no more calls, and the guest gets an
 *				error at once, until vmcid says something again.
 *	others -> guest		datagrams and events come by two socket pairs (mail.h) that vmcid writes into. What
 *				the guest's queue has no room for stays in the socket, so vmcid sees it fill, and
 *				refuses more.
 *	vmcid -> us		its questions are answered from the event loop, or while we wait in a call of our
 *				own: two devices whose guests want something of each other at the same moment would
 *				wait for each other otherwise.
 *	requests that can wait	(watches, queue pairs that were left, pairs and names that a new vmcid must know of) are
 *				made in fabric_run(), a few at a time.
 *
 * Membership, seen from here:
 *
 *	MEMBER		@client is there
 *	ALONE		vmcid has ended. Streams, queue pairs and doorbells go on, they need nobody; what needs
 *			vmcid is an error that says "later". The next vmcid connects to the rendezvous socket, and
 *			is told everything anew; the token that the first one gave us says that we are who we were.
 *	GONE		vmcid has ended, and there is no rendezvous socket, or we have been stopped
 *
 * Order: what the guest wrote into its queue pairs before it sent a datagram or rang a doorbell is there when that
 * arrives, and likewise for the others (bridge.h).
 *
 * vmcid is trusted, others are not: a datagram from them must neither look like an event nor like a control packet of
 * streams, both of which come from this device only.
 */
#include "fabric.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>

#include "base/fd.h"
#include "base/log.h"
#include "bell.h"
#include "bridge.h"
#include "fabric/client.h"
#include "listener.h"
#include "mail.h"
#include "name.h"
#include "outlet.h"
#include "proto/dg.h"
#include "proto/event.h"
#include "proto/limits.h"
#include "rendezvous.h"
#include "share.h"

/**
 * struct watch - a context that the guest has dealt with
 * @is_told: vmcid knows that we want to hear of its end
 * @was_told: an earlier one did
 */
struct watch {
	uint32_t context;
	bool is_told;
	bool was_told;
};

/**
 * struct fabric - the membership
 * @client:  NULL when not MEMBER
 * @stalled: vmcid has not replied in time
 * @must_show: vmcid does not know of the window
 * @window_token: from some vmcid that did, if @has_window
 * @roomy:   the guest has made room since mail did not fit
 * @stopped: GONE, and not to come back
 * @places:  of the guest's memory; NULL: it is not to be lent
 * @watches: @n_watches of them; @n_untold are not told
 */
struct fabric {
	sd_event *event;
	sd_event_source *control;
	sd_event_source *listen;
	struct fab_client *client;
	struct dev *dev;
	struct bells *bells;
	struct bridges *bridges;
	struct outlet *outlet;
	loan_places_fn places;
	void *places_ctx;
	char *rendezvous;
	char name[FAB_LABEL_MAX + 1];
	const struct window *window;
	int listener;
	uint32_t cid;
	bool must_show;
	uint8_t token[FAB_TOKEN_SIZE];
	bool has_token;
	bool has_window;
	uint8_t window_token[FAB_TOKEN_SIZE];
	struct shares *shares;
	bool stalled;
	bool roomy;
	bool stopped;
	unsigned n_watches;
	unsigned n_untold;
	struct watch watches[LIMIT_WATCHES];
	struct names names;
	sd_event_source *datagram_io;
	sd_event_source *event_io;
	struct mail datagrams;
	struct mail events;
};

static uint64_t port_now(void *ctx)
{
	struct timespec ts;

	(void)ctx;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* --- Calls ------------------------------------------------------------------------------------------------ */

/* The connection to vmcid has ended. */
static void lose(struct fabric *f)
{
	f->control = sd_event_source_disable_unref(f->control);
	f->client = fab_client_free(f->client);
	if (f->outlet)
		outlet_lost(f->outlet);
	if (f->listener >= 0)
		log_warn("cid %u: vmcid has gone; waiting for the next", f->cid);
	else
		log_warn("cid %u: vmcid has gone; other contexts are out of reach now", f->cid);
}

/**
 * ask() - one call of vmcid
 *
 * Return: 0, and a reply, whose status is to be looked at, and whose descriptors are the caller's; -EHOSTDOWN:
 * vmcid is not there, nothing was sent; -ETIMEDOUT: it may yet do it; -EPIPE: it may have done it
 */
static int ask(struct fabric *f, struct fab_msg *request, struct fab_msg *ret_reply)
{
	int r;

	if (!f->client || f->stalled || !fab_client_is_alive(f->client))
		return -EHOSTDOWN;
	r = fab_client_call(f->client, request, LIMIT_FABRIC_CALL_MS, ret_reply);
	if (r == -ETIMEDOUT) {
		f->stalled = true;
		log_warn("cid %u: vmcid does not answer (%s)", f->cid, fab_type_to_string(request->type));
	}
	return r == 0 || r == -ETIMEDOUT || r == -EPIPE ? r : -EHOSTDOWN;
}

/* What a guest reads when ask() returned @error: can it come right again? */
static int32_t code_of(const struct fabric *f, int error)
{
	if (error != -EHOSTDOWN)
		return VMCI_ERROR_DATAGRAM_FAILED;
	return f->client || f->listener >= 0 ? VMCI_ERROR_NO_RESOURCES : VMCI_ERROR_DST_UNREACHABLE;
}

/* --- Contexts that matter to the guest --------------------------------------------------------------------- */

static void watch_context(struct fabric *f, uint32_t context)
{
	if (context < VMCI_CID_FIRST_VM || context == f->cid)
		return;
	for (unsigned i = 0; i < f->n_watches; i++)
		if (f->watches[i].context == context)
			return;
	if (f->n_watches == LIMIT_WATCHES)
		return;
	f->watches[f->n_watches++] = (struct watch){ .context = context };
	f->n_untold++;
}

static void forget_context(struct fabric *f, uint32_t context)
{
	bells_forget(f->bells, context);
	for (unsigned i = 0; i < f->n_watches; i++)
		if (f->watches[i].context == context) {
			if (!f->watches[i].is_told)
				f->n_untold--;
			f->watches[i] = f->watches[--f->n_watches];
			return;
		}
}

static void tell_watches(struct fabric *f, unsigned *budget)
{
	for (unsigned i = 0; f->n_untold && i < f->n_watches && *budget; i++) {
		struct fab_msg request = {
			.type = FAB_WATCH, .flags = f->watches[i].was_told ? FAB_F_RESUME : 0,
			.handle.context = f->watches[i].context,
		}, reply;

		if (f->watches[i].is_told)
			continue;
		--*budget;
		if (ask(f, &request, &reply))
			return;
		/* Refused or not: it is not asked again. */
		f->watches[i].is_told = true;
		f->n_untold--;
	}
}

/* --- Others to the guest ---------------------------------------------------------------------------------- */

/* May others send this to the guest? Events and control packets of streams come from this device. */
static bool is_welcome(const struct dg_header *h)
{
	return h->src.context != VMCI_CID_HYPERVISOR && h->dst.resource != VMCI_RID_EVENT &&
	       h->dst.resource != VMCI_RID_STREAM;
}

/*
 * @size bytes at @dg are for the guest. Return: are they done with? Datagrams to a guest that has no driver are
 * lost, as are those that it would not take from anybody.
 */
static bool deliver(struct fabric *f, const uint8_t *dg, size_t size)
{
	struct dg_header h = dg_parse(dg);

	if (h.src.context == VMCI_CID_WELL_KNOWN && h.src.resource == VMCI_RID_DISCOVERY)
		names_answer(&f->names, h.dst.resource, dg + VMCI_DG_HEADER_SIZE, size - VMCI_DG_HEADER_SIZE);
	if (!f->dev || !is_welcome(&h))
		return true;
	bridges_cross(f->bridges, h.src.context);
	return dev_deliver(f->dev, dg, size) != VMCI_ERROR_NO_RESOURCES;
}

/* The same for an event: of those, vmcid tells of contexts; of queue pairs the guest hears from the device. */
static bool deliver_event(struct fabric *f, const uint8_t *dg, size_t size)
{
	struct event event;

	if (event_parse(dg, size, &event) || event.id != VMCI_EVENT_CTX_REMOVED)
		return true;
	forget_context(f, event.context);
	return !f->dev || dev_deliver(f->dev, dg, size) != VMCI_ERROR_NO_RESOURCES;
}

static void carry(struct fabric *f, struct mail *mail, sd_event_source *io,
		  bool (*give)(struct fabric *f, const uint8_t *dg, size_t size))
{
	size_t size;

	for (unsigned i = 0; i < LIMIT_MAIL_TURN && (size = mail_peek(mail)); i++) {
		if (!give(f, mail->dg, size)) {
			/* The device says when there is room: fabric_room(). */
			sd_event_source_set_enabled(io, SD_EVENT_OFF);
			return;
		}
		mail_drop(mail);
	}
}

static int on_datagram(sd_event_source *source, int fd, uint32_t events, void *ctx)
{
	struct fabric *f = ctx;

	(void)fd;
	(void)events;
	carry(f, &f->datagrams, source, deliver);
	return 0;
}

static int on_event(sd_event_source *source, int fd, uint32_t events, void *ctx)
{
	struct fabric *f = ctx;

	(void)fd;
	(void)events;
	carry(f, &f->events, source, deliver_event);
	return 0;
}

void fabric_room(struct fabric *f)
{
	f->roomy = true;
}

/* What was held goes first: the socket alone does not wake us for it. */
static void carry_on(struct fabric *f)
{
	f->roomy = false;
	sd_event_source_set_enabled(f->datagram_io, SD_EVENT_ON);
	sd_event_source_set_enabled(f->event_io, SD_EVENT_ON);
	carry(f, &f->events, f->event_io, deliver_event);
	carry(f, &f->datagrams, f->datagram_io, deliver);
}

/* --- Questions of vmcid ------------------------------------------------------------------------------------ */

static void answer_bell(struct fabric *f, const struct fab_msg *question)
{
	struct fab_msg answer = { .type = question->type, .serial = question->serial };

	if (!f->dev || question->handle.context != f->cid || !dev_has_bell(f->dev, question->handle))
		answer.status = VMCI_ERROR_NOT_FOUND;
	else
		answer.status = bells_give(f->bells, question->handle, &answer.fd[0]);
	answer.n_fds = answer.status == VMCI_SUCCESS;
	fab_client_answer(f->client, &answer);
}

static void answer_attach(struct fabric *f, const struct fab_msg *question)
{
	struct fab_msg answer = { .type = question->type, .serial = question->serial };

	if (!f->dev)
		answer.status = VMCI_ERROR_NOT_FOUND;
	else
		answer.status = bridge_offer(f->bridges, question->handle, question->other.context, question->size0,
					     question->size1, question->flags & FAB_F_DIRECT, &answer.fd[0],
					     &answer.fd[1]);
	answer.n_fds = answer.status == VMCI_SUCCESS_QUEUEPAIR_ATTACH ? 2 : 0;
	fab_client_answer(f->client, &answer);
	/* Should they not arrive, the life ends with them. */
	if (answer.n_fds) {
		fd_close(&answer.fd[0]);
		fd_close(&answer.fd[1]);
	}
}

static void answer(void *ctx, struct fab_msg *question)
{
	struct fabric *f = ctx;
	struct fab_msg no = {
		.type = question->type, .serial = question->serial, .status = VMCI_ERROR_UNAVAILABLE,
	};

	switch (question->type) {
	case FAB_BELL_OPEN:
		answer_bell(f, question);
		break;
	case FAB_QP_ATTACH:
		answer_attach(f, question);
		break;
	case FAB_STREAM_CONNECT:
		if (f->outlet)
			outlet_asked(f->outlet, question);
		else
			fab_client_answer(f->client, &no);
		break;
	default:
		fab_client_answer(f->client, &no);
		break;
	}
}

static void listen_to_vmcid(struct fabric *f)
{
	struct fab_msg question;
	int r = -EAGAIN;

	if (!f->client)
		return;
	for (unsigned i = 0; i < FAB_PIPELINE; i++) {
		r = fab_client_next(f->client, &question);
		if (r)
			break;
		answer(f, &question);
		fab_drop(&question);
	}
	if (!fab_client_is_alive(f->client))
		lose(f);
}

static int on_control(sd_event_source *source, int fd, uint32_t events, void *ctx)
{
	struct fabric *f = ctx;

	(void)source;
	(void)fd;
	(void)events;
	if (f->stalled) {
		log_info("cid %u: vmcid answers again", f->cid);
		if (f->outlet)
			outlet_joined(f->outlet);
	}
	f->stalled = false;
	listen_to_vmcid(f);
	return 0;
}

/* --- Joining ------------------------------------------------------------------------------------------------ */

/* Say who we are to the vmcid at @client. Return: 0; a negative errno, after a line in the log */
static int say_hello(struct fabric *f, struct fab_client *client)
{
	struct fab_msg request = {
		.type = FAB_HELLO,
		.flags = FAB_F_DEVICE | (f->has_token ? FAB_F_RESUME : 0),
		.handle.context = f->cid,
		.size0 = FAB_VERSION,
		.data = (const uint8_t *)f->name,
		.len = strlen(f->name),
		.fd = { f->datagrams.sink, f->events.sink },
		.n_fds = 2,
	}, reply;
	int r;

	memcpy(request.token, f->token, sizeof(f->token));
	r = fab_client_call(client, &request, LIMIT_FABRIC_HELLO_MS, &reply);
	if (r) {
		log_err("cid %u: vmcid does not answer: %s", f->cid, strerror(-r));
		return r;
	}
	if (reply.status < 0 || reply.size0 != FAB_VERSION || reply.handle.context != f->cid) {
		log_err("cid %u: vmcid refuses it: %d (protocol version %llu, context %u)", f->cid, reply.status,
			(unsigned long long)reply.size0, reply.handle.context);
		return -EPERM;
	}
	memcpy(f->token, reply.token, sizeof(f->token));
	f->has_token = true;
	return 0;
}

/* Become a member by the connection @fd: taken over. Return: 0; a negative errno, after a line in the log */
static int join(struct fabric *f, int fd)
{
	struct fab_client *client;
	int r = fab_client_new(fd, &client);

	if (!r) {
		fab_client_on_ask(client, answer, f);
		f->client = client;
		r = say_hello(f, client);
	}
	if (!r)
		r = sd_event_add_io(f->event, &f->control, fab_client_fd(client), EPOLLIN, on_control, f);
	if (r < 0) {
		f->client = fab_client_free(f->client);
		return r;
	}
	f->stalled = false;
	if (f->outlet)
		outlet_joined(f->outlet);
	/* A new vmcid knows nothing of these. */
	bridges_hold_all(f->bridges);
	f->must_show = f->window != NULL;
	shares_tell_all(f->shares);
	names_tell_all(&f->names);
	for (unsigned i = 0; i < f->n_watches; i++) {
		f->watches[i].was_told |= f->watches[i].is_told;
		f->watches[i].is_told = false;
	}
	f->n_untold = f->n_watches;
	return 0;
}

static int on_rendezvous(sd_event_source *source, int listener, uint32_t events, void *ctx)
{
	struct fabric *f = ctx;
	int fd = rendezvous_accept(listener);

	(void)source;
	(void)events;
	if (fd < 0)
		return 0;
	/* The end of the old one may not have come round yet. */
	listen_to_vmcid(f);
	if (f->client) {
		log_warn("cid %u: another vmcid came, while one is here", f->cid);
		fd_close(&fd);
		return 0;
	}
	if (!join(f, fd))
		log_info("cid %u: back with vmcid", f->cid);
	return 0;
}

/* --- The device's ports ------------------------------------------------------------------------------------- */

static void show_window(struct fabric *f, unsigned *budget);

/* The service for shared memory is here. It gives nothing new before vmcid knows what we have already. */
static int32_t ask_shares(struct fabric *f, uint32_t from, const uint8_t *payload, size_t size)
{
	unsigned budget = LIMIT_FABRIC_TURN;
	int32_t code;

	show_window(f, &budget);
	if (!f->must_show)
		shares_run(f->shares, &budget);
	code = shares_ask(f->shares, !f->must_show && shares_is_told(f->shares), from, payload, size);
	return code < 0 ? code : (int32_t)(VMCI_DG_HEADER_SIZE + size);
}

int32_t fabric_datagram(struct fabric *f, const uint8_t *dg, size_t size)
{
	struct fab_msg request = { .type = FAB_DG_SEND, .data = dg, .len = size }, reply;
	struct dg_header h = dg_parse(dg);
	int r;

	/* Streams between guests do not pass as datagrams. */
	if (h.dst.resource == VMCI_RID_STREAM && h.dst.context >= VMCI_CID_FIRST_VM)
		return VMCI_ERROR_DST_UNREACHABLE;
	if (h.dst.context == VMCI_CID_WELL_KNOWN && h.dst.resource == VMCI_RID_SHM)
		return ask_shares(f, h.src.resource, dg + VMCI_DG_HEADER_SIZE, size - VMCI_DG_HEADER_SIZE);
	bridges_cross(f->bridges, h.dst.context);
	r = ask(f, &request, &reply);
	if (r)
		return code_of(f, r);
	if (reply.status < 0)
		return reply.status;
	if (h.dst.context == VMCI_CID_WELL_KNOWN && h.dst.resource == VMCI_RID_DISCOVERY)
		names_ask(&f->names, h.src.resource, dg + VMCI_DG_HEADER_SIZE, size - VMCI_DG_HEADER_SIZE);
	watch_context(f, h.dst.context);
	return (int32_t)size;
}

int32_t fabric_doorbell(struct fabric *f, struct vmci_handle handle)
{
	bridges_cross(f->bridges, handle.context);
	return bells_ring(f->bells, handle);
}

void fabric_bell_gone(struct fabric *f, struct vmci_handle handle)
{
	bells_unlink(f->bells, handle);
}

void fabric_driver_gone(struct fabric *f)
{
	bridges_driver_gone(f->bridges);
	shares_driver_gone(f->shares);
	mail_drain(&f->datagrams);
	mail_drain(&f->events);
	f->roomy = true;
}

/* vmcid must not believe that we still have what we have left: it may be wanted again. */
static bool tell_left(struct fabric *f, unsigned *budget)
{
	struct vmci_handle handle;
	struct fab_msg reply;

	while (*budget && f->client && !f->stalled && bridges_next_left(f->bridges, &handle)) {
		struct fab_msg request = { .type = FAB_QP_DETACH, .handle = handle };

		--*budget;
		if (ask(f, &request, &reply))
			return false;
	}
	return true;
}

int32_t fabric_far_find(struct fabric *f, const struct dev_far *far, void **ret_owner, uint32_t *ret_context)
{
	struct fab_msg request = {
		.type = FAB_QP_ATTACH,
		.handle = far->handle,
		.other.context = far->peer,
		.size0 = far->produce,
		.size1 = far->consume,
	}, reply;
	struct bridge_hold hold = { .handle = far->handle, .produce = far->produce, .consume = far->consume };
	unsigned budget = LIMIT_BRIDGES;
	struct bridge *bridge;
	int32_t code;
	int r;

	tell_left(f, &budget);
	r = ask(f, &request, &reply);
	if (r == -ETIMEDOUT)
		bridges_leave(f->bridges, far->handle);
	if (r)
		return VMCI_ERROR_UNAVAILABLE;
	if (reply.status < 0)
		return reply.status;
	hold.context = reply.other.context;
	code = bridge_take(f->bridges, &hold, reply.flags & FAB_F_DIRECT, reply.fd[0], reply.fd[1], &bridge);
	if (code < 0)
		return code;
	*ret_owner = bridge;
	*ret_context = hold.context;
	return code;
}

void fabric_far_attached(struct fabric *f, void *owner)
{
	(void)f;
	bridge_attached(owner);
}

void fabric_far_gone(struct fabric *f, void *owner)
{
	(void)f;
	bridge_gone(owner);
}

/* --- Streams ----------------------------------------------------------------------------------------------------- */

void fabric_set_streams(struct fabric *f, struct streams *streams)
{
	if (f->outlet)
		outlet_set_streams(f->outlet, streams);
}

int fabric_open(struct fabric *f, struct stream *s, uint32_t local_cid, uint32_t local_port, uint32_t peer_port,
		void **ret_end)
{
	if (!f->outlet)
		return -EHOSTDOWN;
	return outlet_open(f->outlet, s, local_cid, local_port, peer_port, ret_end);
}

int fabric_postpone(struct fabric *f, struct stream *s, void **ret_end)
{
	return f->outlet && f->listener >= 0 ? outlet_postpone(f->outlet, s, ret_end) : -EHOSTDOWN;
}

static int port_ask(void *ctx, struct fab_msg *request, struct fab_msg *ret_reply)
{
	return ask(ctx, request, ret_reply);
}

static void port_answer(void *ctx, uint32_t serial, int32_t status)
{
	struct fabric *f = ctx;
	struct fab_msg answer = { .type = FAB_STREAM_CONNECT, .serial = serial, .status = status };

	if (f->client)
		fab_client_answer(f->client, &answer);
}

/* --- Ports of doorbells and bridges --------------------------------------------------------------------------- */

static int32_t port_open(void *ctx, struct vmci_handle handle, int *ret_fd)
{
	struct fabric *f = ctx;
	struct fab_msg request = { .type = FAB_BELL_OPEN, .handle = handle }, reply;

	if (ask(f, &request, &reply))
		return 1;
	if (reply.status < 0)
		return reply.status;
	watch_context(f, handle.context);
	*ret_fd = reply.fd[0];
	return 0;
}

static void port_rung(void *ctx, struct vmci_handle handle)
{
	struct fabric *f = ctx;

	/* Whoever rang it: the bell does not say. */
	bridges_cross(f->bridges, VMCI_INVALID_ID);
	if (f->dev)
		dev_ring(f->dev, handle);
}

static int32_t port_check(void *ctx, struct vmci_handle handle, uint32_t context, uint64_t produce, uint64_t consume)
{
	struct fabric *f = ctx;

	return f->dev ? dev_far_check(f->dev, handle, context, produce, consume) : VMCI_ERROR_NOT_FOUND;
}

static int32_t port_look(void *ctx, struct vmci_handle handle, struct qp *ret_qp)
{
	struct fabric *f = ctx;

	return f->dev ? dev_far_look(f->dev, handle, ret_qp) : VMCI_ERROR_NOT_FOUND;
}

static int port_places(void *ctx, const struct mem_pages *pages, size_t off, size_t len, struct vus_places *places)
{
	struct fabric *f = ctx;

	return f->places ? f->places(f->places_ctx, pages, off, len, places) : -ENOTSUP;
}

static int32_t port_attach(void *ctx, struct vmci_handle handle, uint32_t context, uint64_t produce, uint64_t consume,
			   void *owner)
{
	struct fabric *f = ctx;

	return f->dev ? dev_far_attach(f->dev, handle, context, produce, consume, owner) : VMCI_ERROR_NOT_FOUND;
}

static int32_t port_map(void *ctx, struct vmci_handle handle, struct qp *ret_qp)
{
	struct fabric *f = ctx;

	return f->dev ? dev_qp_map(f->dev, handle, ret_qp) : VMCI_ERROR_NOT_FOUND;
}

static void port_detach(void *ctx, struct vmci_handle handle)
{
	struct fabric *f = ctx;

	if (f->dev)
		dev_qp_detach(f->dev, handle);
}

static void port_region_gone(void *ctx, struct vmci_handle handle)
{
	struct fabric *f = ctx;

	names_forget(&f->names, handle);
}

static void port_met(void *ctx, uint32_t context)
{
	watch_context(ctx, context);
}

/* --- All of it ------------------------------------------------------------------------------------------------ */

void fabric_set_dev(struct fabric *f, struct dev *dev)
{
	f->dev = dev;
	f->roomy = true;
}

static bool has_token(const struct fab_msg *msg)
{
	static const uint8_t none[FAB_TOKEN_SIZE];

	return memcmp(msg->token, none, sizeof(none)) != 0;
}

static void tell_holds(struct fabric *f, unsigned *budget)
{
	struct bridge_hold hold;
	struct fab_msg reply;

	while (*budget && f->client && !f->stalled && bridges_next_hold(f->bridges, &hold)) {
		struct fab_msg request = {
			.type = FAB_QP_HOLD,
			.handle = hold.handle,
			.other.context = hold.context,
			.size0 = hold.produce,
			.size1 = hold.consume,
		};

		--*budget;
		if (!ask(f, &request, &reply) && reply.status < 0)
			log_warn("cid %u: vmcid does not know queue pair %u:%u any more: %d", f->cid,
				 hold.handle.context, hold.handle.resource, reply.status);
	}
}

/* What is in the window is told afterwards. */
static void show_window(struct fabric *f, unsigned *budget)
{
	struct fab_msg request = { .type = FAB_WINDOW, .flags = f->has_window ? FAB_F_RESUME : 0, .n_fds = 1 }, reply;

	if (!f->must_show || !f->client || f->stalled)
		return;
	--*budget;
	request.size0 = f->window->size;
	request.fd[0] = f->window->fd;
	if (f->has_window)
		memcpy(request.token, f->window_token, sizeof(request.token));
	if (ask(f, &request, &reply))
		return;
	f->must_show = false;
	/* A token that was good once may be so again: it is kept as long as there is no other. */
	if (reply.status >= 0 && has_token(&reply)) {
		f->has_window = true;
		memcpy(f->window_token, reply.token, sizeof(f->window_token));
	}
	if (reply.status < 0)
		log_warn("cid %u: vmcid does not take the window: %d", f->cid, reply.status);
}

static void tell_names(struct fabric *f, unsigned *budget)
{
	struct fab_msg request = { .type = FAB_NAME, .flags = FAB_F_RESUME }, reply;
	struct discovery_reply answer;
	uint8_t buf[DISCOVERY_PAYLOAD_MAX];
	int32_t code;

	while (*budget && f->client && !f->stalled && (request.len = names_next(&f->names, buf))) {
		--*budget;
		request.data = buf;
		if (ask(f, &request, &reply))
			return;
		code = reply.status;
		if (code >= 0)
			code = discovery_reply_parse(reply.data, reply.len, &answer) ? VMCI_ERROR_GENERIC : answer.code;
		if (code < 0)
			log_warn("cid %u: vmcid does not take a name of the guest any more: %d", f->cid, code);
		names_told(&f->names, code);
	}
}

/* What the guest's queue has no room for waits for the next turn. */
static void deliver_shares(struct fabric *f)
{
	const uint8_t *dg;
	size_t size;

	while ((dg = shares_next_reply(f->shares, &size))) {
		if (f->dev && dev_deliver(f->dev, dg, size) == VMCI_ERROR_NO_RESOURCES)
			return;
		shares_drop_reply(f->shares);
	}
}

bool fabric_run(struct fabric *f)
{
	unsigned budget = LIMIT_FABRIC_TURN;
	bool is_hot;

	if (f->client && !fab_client_is_alive(f->client))
		listen_to_vmcid(f);
	if (f->roomy)
		carry_on(f);
	/* First, so that vmcid is told what ends by it. */
	is_hot = bridges_run(f->bridges);
	if (f->outlet)
		outlet_run(f->outlet);
	show_window(f, &budget);
	if (f->client && !f->stalled && !f->must_show)
		shares_run(f->shares, &budget);
	deliver_shares(f);
	tell_holds(f, &budget);
	tell_names(f, &budget);
	tell_left(f, &budget);
	tell_watches(f, &budget);
	return is_hot || !budget;
}

uint64_t fabric_deadline(const struct fabric *f)
{
	return bridges_deadline(f->bridges);
}

void fabric_memory_changed(struct fabric *f)
{
	bridges_memory_changed(f->bridges);
}

void fabric_memory_gone(struct fabric *f)
{
	bridges_memory_gone(f->bridges);
}

void fabric_set_places(struct fabric *f, loan_places_fn places, void *ctx)
{
	f->places = places;
	f->places_ctx = ctx;
}

size_t fabric_lingering(const struct fabric *f)
{
	return bridges_lingering(f->bridges);
}

/* No member any more, and never again. */
static void leave(struct fabric *f)
{
	f->stopped = true;
	f->control = sd_event_source_disable_unref(f->control);
	f->client = fab_client_free(f->client);
	f->listen = sd_event_source_disable_unref(f->listen);
	if (f->rendezvous)
		listener_close(&f->listener, f->rendezvous);
	f->datagram_io = sd_event_source_disable_unref(f->datagram_io);
	f->event_io = sd_event_source_disable_unref(f->event_io);
	mail_close(&f->datagrams);
	mail_close(&f->events);
	f->bells = bells_free(f->bells);
	f->outlet = outlet_free(f->outlet);
}

bool fabric_stop(struct fabric *f, void (*idle)(void *ctx), void *ctx)
{
	leave(f);
	return bridges_on_idle(f->bridges, idle, ctx);
}

struct fabric *fabric_free(struct fabric *f)
{
	if (!f)
		return NULL;
	leave(f);
	f->bridges = bridges_free(f->bridges);
	f->shares = shares_free(f->shares);
	sd_event_unref(f->event);
	free(f->rendezvous);
	free(f);
	return NULL;
}

static int make_parts(struct fabric *f, const struct fabric_config *config)
{
	const struct bells_ports bells_ports = { .ctx = f, .open = port_open, .rung = port_rung, .now = port_now };
	const struct bridges_ports bridges_ports = {
		.ctx = f,
		.check = port_check,
		.look = port_look,
		.places = port_places,
		.attach = port_attach,
		.map = port_map,
		.detach = port_detach,
		.met = port_met,
		.now = port_now,
	};
	const struct outlet_ports outlet_ports = { .ctx = f, .ask = port_ask, .answer = port_answer };
	const struct shares_ports shares_ports = { .ctx = f, .ask = port_ask, .gone = port_region_gone };
	int r = bells_new(f->event, &bells_ports, &f->bells);

	if (!r && config->ends)
		r = outlet_new(f->cid, config->ends, &outlet_ports, &f->outlet);
	if (!r)
		r = shares_new(f->cid, f->window, &shares_ports, &f->shares);
	if (!r)
		r = bridges_new(f->event, f->cid, config->spin_ns, &bridges_ports, &f->bridges);
	if (!r)
		r = mail_open(&f->datagrams);
	if (!r)
		r = mail_open(&f->events);
	if (!r)
		r = sd_event_add_io(f->event, &f->datagram_io, f->datagrams.fd, EPOLLIN, on_datagram, f);
	if (r >= 0)
		r = sd_event_add_io(f->event, &f->event_io, f->events.fd, EPOLLIN, on_event, f);
	/* What became of a context comes before what it sent. */
	if (r >= 0)
		r = sd_event_source_set_priority(f->event_io, SD_EVENT_PRIORITY_NORMAL - 1);
	if (r < 0)
		log_err("cid %u: cannot join the fabric: %s", f->cid, strerror(-r));
	return r < 0 ? r : 0;
}

static int open_rendezvous(struct fabric *f, const char *path)
{
	int r;

	f->rendezvous = strdup(path);
	if (!f->rendezvous)
		return -ENOMEM;
	f->listener = rendezvous_open(path);
	if (f->listener < 0) {
		r = f->listener;
		log_err("%s: %s", path, r == -EADDRINUSE ? "in use by another process, or not a socket" : strerror(-r));
		f->listener = -1;
		return r;
	}
	r = sd_event_add_io(f->event, &f->listen, f->listener, EPOLLIN, on_rendezvous, f);
	return r < 0 ? r : 0;
}

int fabric_new(sd_event *event, const struct fabric_config *config, struct fabric **ret_fabric)
{
	struct fabric *f = calloc(1, sizeof(*f));
	int fd = config->fd, r;

	if (!f) {
		fd_close(&fd);
		return -ENOMEM;
	}
	f->event = sd_event_ref(event);
	f->cid = config->cid;
	f->window = config->window;
	f->listener = -1;
	f->datagrams.fd = f->datagrams.sink = f->events.fd = f->events.sink = -1;
	strncpy(f->name, config->name, FAB_LABEL_MAX);
	r = make_parts(f, config);
	if (!r && config->rendezvous)
		r = open_rendezvous(f, config->rendezvous);
	if (!r && fd >= 0)
		r = join(f, fd_take(&fd));
	if (r) {
		fd_close(&fd);
		fabric_free(f);
		return r;
	}
	*ret_fabric = f;
	return 0;
}
