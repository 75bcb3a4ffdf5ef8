/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A connection, for the files that have to do with one: peer.c (requests, life; theory), outbox.c (what is sent),
 * room.c (descriptors that are sent), ask.c (questions to devices), stream.c (streams).
 */
#ifndef VMCID_PEER_PRIV_H
#define VMCID_PEER_PRIV_H

#include "peer.h"
#include "thing.h"

/* What a handler says besides a status, and besides BRK_LATER: a reply has been sent; there will be one. */
#define REPLIED (-20000)
#define WAITS (-20001)

/**
 * struct request - a request that cannot be carried out now
 * @msg:   its data, if any, are in @data; descriptors are owned
 * @thing: made of its descriptors, or NULL
 */
struct request {
	struct request *next;
	struct fab_msg msg;
	struct thing *thing;
	uint8_t data[];
};

/* A message that did not fit into the socket. */
struct outgoing {
	struct outgoing *next;
	struct fab_msg msg;
	uint8_t data[];
};

/**
 * struct ask - a question to a device
 * @next:   of the device's list
 * @asker:  waits for it; NULL: no longer, or (a stream of a device) never
 * @source: of a stream: where it comes from
 * @timer:  ends the waiting
 */
struct ask {
	struct ask *next;
	struct peer *device;
	struct peer *asker;
	enum fab_type type;
	uint32_t serial;
	struct brk_qp qp;
	struct vmci_handle source;
	sd_event_source *timer;
};

enum waiting {
	WAITING_NOT,
	WAITING_ASK,
	WAITING_LATER,
};

/**
 * struct peer - a connection
 * @is_holding: it has said HELLO with HOLD, and must not say anything else
 * @is_ended:   marked by peer_fail()
 * @hello:      ends a connection that does not say HELLO
 * @requests:   the first is waited for, if @waiting; the others came behind it
 * @ask:        what it waits for
 * @asks:       put to it, a device, and not answered; those that nobody waits for any more, too. @n_asks of them,
 *		@n_connects of these about streams
 * @in_flight:  descriptors sent that it may not have received; they are taken from @user
 * @reserved:   descriptors for which room is taken from @user, while a request is carried out
 * @is_short:   @out waits for room for descriptors, not for room in the socket
 */
struct peer {
	struct server *server;
	struct peer *prev;
	struct peer *next;
	struct brk_client *client;
	struct user *user;
	uid_t uid;
	gid_t gid;
	pid_t pid;
	char name[64];
	bool is_device;
	bool has_said_hello;
	bool is_holding;
	bool is_ended;
	struct vm *vm;

	int fd;
	sd_event_source *io;
	sd_event_source *hello;

	enum waiting waiting;
	struct request *requests;
	struct request **last_request;
	unsigned n_requests;
	struct ask *ask;

	struct outgoing *out;
	struct outgoing **last_out;
	unsigned n_out;
	size_t out_size;
	unsigned in_flight;
	unsigned reserved;
	bool is_short;

	struct ask *asks;
	unsigned n_asks;
	unsigned n_connects;
	uint32_t serial;
};

/**
 * struct call - a request being carried out
 * @msg:    the request
 * @thing:  of its descriptors; NULL when the broker has taken it
 * @resume: the token, if it resumes something
 * @reply:  fields of the reply
 */
struct call {
	struct peer *peer;
	struct brk_client *client;
	struct fab_msg *msg;
	struct thing *thing;
	const uint8_t *resume;
	struct fab_msg reply;
};

/* --- peer.c */

/* peer_leave() - it has gone by itself: as peer_fail(), with nothing to complain about */
void peer_leave(struct peer *peer);

/* peer_update_io() - what the event loop tells of it, by what it waits for and what waits for it */
void peer_update_io(struct peer *peer);

/* peer_go_on() - what it waited for is there: the reply to that request, and then its next ones */
void peer_go_on(struct peer *peer, int32_t status, struct fab_msg *answer);

/*
 * peer_no_waiting() - the result @r of a call on a socket of others; -EINTR: it made us wait, which it can only on
 * purpose, and ends the peer. Return: a status
 */
int32_t peer_no_waiting(struct peer *peer, int32_t r);

/* --- outbox.c */

/* outbox_send() - now or when there is room; descriptors stay the caller's, who has reserved room for them */
void outbox_send(struct peer *peer, const struct fab_msg *msg);

/* outbox_reply() - the reply to a request; what does not go with an error is left out. @answer: NULL: nothing */
void outbox_reply(struct peer *peer, const struct fab_msg *request, int32_t status, struct fab_msg *answer);

/* outbox_flush() - send what waits, as far as there is room */
void outbox_flush(struct peer *peer);

/* outbox_clear() - throw away what waits */
void outbox_clear(struct peer *peer);

/* --- room.c */

/* room_take() - for @n descriptors that are about to be with @peer, but not received. Return: false: there is none */
bool room_take(struct peer *peer, unsigned n);

/* room_reserve() - for @n more that will be sent before anything else is done. Return: false: there is none */
bool room_reserve(struct peer *peer, unsigned n);

/* room_unreserve() - give up @n of them, and no more than there are */
void room_unreserve(struct peer *peer, unsigned n);

/* --- ask.c */

/**
 * ask_put() - put the question @msg to @device
 * @peer:  waits for the answer; NULL: nobody does
 * @usec:  for so long
 *
 * Return: WAITS, and *@ret_ask, if @peer waits, or 0; VMCI_ERROR_*
 */
int32_t ask_put(struct peer *peer, struct brk_client *device, struct fab_msg *msg, uint64_t usec,
		struct ask **ret_ask);

/* ask_handle() - the two questions that are about a handle; @qp: NULL: BELL_OPEN. As ask_put() */
int32_t ask_handle(struct peer *peer, const struct fab_msg *request, struct brk_client *device,
		   const struct brk_qp *qp);

/* ask_answered() - an answer of @device; whoever waits for it goes on */
void ask_answered(struct peer *device, struct fab_msg *answer);

/* asks_end() - @peer goes: it waits for nothing any more, and who waits for it is told */
void asks_end(struct peer *peer);

/* --- stream.c: STREAM_BIND, STREAM_CONNECT, STREAM_OPEN; as struct handler has it in peer.c */

int32_t stream_bind(struct call *call);
int32_t stream_connect(struct call *call);
int32_t stream_open(struct call *call);

#endif /* VMCID_PEER_PRIV_H */
