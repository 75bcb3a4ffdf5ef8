/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * DOC: Theory of operation
 *
 * Requests have serial numbers that count up. Those that were sent and not answered yet are the serials [first,
 * next): FAB_PIPELINE at most, their types in a ring. vmcid replies in their order, so a reply with a serial of that
 * range says, too, that none comes for the serials before it. Only the newest one has somebody who waits; the others
 * were given up when their time was over, and their replies are dropped, with the descriptors.
 *
 * Questions may come at any time. They carry no data, so a few words of each are kept in a ring, with their descriptors,
 * until fab_client_next() fetches them; while a call waits, they may be given to somebody at once (fab_client_on_ask()).
 *
 * Everything else that vmcid could say breaks the protocol, and ends the connection: a reply to nothing, one of
 * another type, a request, an answer, more questions than there is room for. The socket is then shut down, so that
 * vmcid notices, and stays readable, so that an event loop notices. Its number is ours until fab_client_free().
 *
 *	ALIVE ---- end of file, broken protocol ----> ENDED	(is_alive)
 *
 * The data of a reply stay where they were received until the next call. As fab_client_next() receives, too, there
 * are two buffers: one that has the last reply, and one to receive into.
 */
#include "fabric/client.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>

#include "base/fd.h"

/**
 * struct fab_client - see above
 * @first, @next:  serials that wait for a reply; they wrap around
 * @types:         of these, at their serial modulo FAB_PIPELINE
 * @asks:          questions that nobody has fetched, @n_asks from @first_ask on, around the end
 * @on_ask:        who is given those that arrive while @is_calling, with @ask_ctx; or NULL
 * @current:       which buffer is received into; the other one has the last reply
 */
struct fab_client {
	int fd;
	_Bool is_alive;
	uint32_t first;
	uint32_t next;
	enum fab_type types[FAB_PIPELINE];
	struct fab_msg asks[FAB_PIPELINE];
	unsigned first_ask;
	unsigned n_asks;
	void (*on_ask)(void *ctx, struct fab_msg *ask);
	void *ask_ctx;
	_Bool is_calling;
	unsigned current;
	uint8_t buf[2][FAB_MSG_MAX];
};

int fab_client_new(int fd, struct fab_client **ret_client)
{
	struct fab_client *client = malloc(sizeof(*client));

	if (!client) {
		fd_close(&fd);
		return -ENOMEM;
	}
	client->fd = fd;
	client->is_alive = fd >= 0;
	client->first = client->next = 1;
	client->first_ask = client->n_asks = 0;
	client->on_ask = NULL;
	client->ask_ctx = NULL;
	client->is_calling = 0;
	client->current = 0;
	*ret_client = client;
	return 0;
}

static void drop_asks(struct fab_client *client)
{
	for (; client->n_asks; client->n_asks--)
		fab_drop(&client->asks[(client->first_ask + client->n_asks - 1) % FAB_PIPELINE]);
}

struct fab_client *fab_client_free(struct fab_client *client)
{
	if (!client)
		return NULL;
	drop_asks(client);
	fd_close(&client->fd);
	free(client);
	return NULL;
}

int fab_client_fd(const struct fab_client *client)
{
	return client->fd;
}

_Bool fab_client_is_alive(const struct fab_client *client)
{
	return client->is_alive;
}

void fab_client_on_ask(struct fab_client *client, void (*ask)(void *ctx, struct fab_msg *ask), void *ctx)
{
	client->on_ask = ask;
	client->ask_ctx = ctx;
}

/**
 * end() - the connection is over; nothing more is sent or received
 *
 * Return: -ECONNRESET
 */
static int end(struct fab_client *client)
{
	client->is_alive = 0;
	drop_asks(client);
	if (client->fd >= 0)
		shutdown(client->fd, SHUT_RDWR);
	return -ECONNRESET;
}

/* --- Time -------------------------------------------------------------------------------------------------- */

/**
 * struct deadline - until when to wait
 * @at: milliseconds of the monotonic clock; negative: for ever
 */
struct deadline {
	int64_t at;
};

static int64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static struct deadline deadline_in(int timeout_ms)
{
	return (struct deadline){ .at = timeout_ms < 0 ? -1 : now_ms() + timeout_ms };
}

/**
 * wait_for() - wait until something of @events is possible, or the connection has ended
 *
 * Return: 0; -ETIMEDOUT; -ECONNRESET: the descriptor is not one that can be waited for
 */
static int wait_for(struct fab_client *client, short events, struct deadline deadline)
{
	for (;;) {
		struct pollfd pollfd = { .fd = client->fd, .events = events };
		int64_t left = deadline.at < 0 ? -1 : deadline.at - now_ms();
		int n;

		if (deadline.at >= 0 && left < 0)
			left = 0;
		/* One millisecond more, as now_ms() has been rounded down. */
		n = poll(&pollfd, 1, left <= 0 ? (int)left : (int)left + (left < INT32_MAX));
		if (n > 0)
			return pollfd.revents & POLLNVAL ? end(client) : 0;
		if (!n && left == 0)
			return -ETIMEDOUT;
		if (n < 0 && errno != EINTR)
			return end(client);
	}
}

/* --- Receiving --------------------------------------------------------------------------------------------- */

static unsigned waiting(const struct fab_client *client)
{
	return client->next - client->first;
}

/**
 * take_ask() - keep a question, and its descriptors
 *
 * Return: 0; -ECONNRESET
 */
static int take_ask(struct fab_client *client, struct fab_msg *ask)
{
	if (client->is_calling && client->on_ask) {
		client->on_ask(client->ask_ctx, ask);
		return client->is_alive ? 0 : -ECONNRESET;
	}
	if (client->n_asks == FAB_PIPELINE)
		return end(client);
	client->asks[(client->first_ask + client->n_asks++) % FAB_PIPELINE] = *ask;
	ask->n_fds = 0;
	return 0;
}

/**
 * take_reply() - a reply: to one of our requests? Those before it will not be answered any more.
 *
 * Return: 0; -ECONNRESET
 */
static int take_reply(struct fab_client *client, const struct fab_msg *reply)
{
	if (reply->serial - client->first >= waiting(client) ||
	    client->types[reply->serial % FAB_PIPELINE] != reply->type)
		return end(client);
	client->first = reply->serial + 1;
	return 0;
}

/**
 * receive() - take one message, if there is one
 *
 * Return: 0: it was a question, which is kept; 1: a reply, and @ret_reply with its descriptors is the caller's;
 * -EAGAIN: nothing there; -ECONNRESET
 */
static int receive(struct fab_client *client, struct fab_msg *ret_reply)
{
	struct fab_msg msg;
	int r = fab_recv(client->fd, client->buf[client->current], &msg);

	if (r == -EAGAIN)
		return r;
	if (r)
		return end(client);
	if (msg.kind == FAB_ASK)
		r = take_ask(client, &msg);
	else if (msg.kind == FAB_REPLY)
		r = take_reply(client, &msg);
	else
		r = end(client);
	if (r || msg.kind == FAB_ASK) {
		fab_drop(&msg);
		return r;
	}
	*ret_reply = msg;
	return 1;
}

/**
 * receive_late() - like receive(), when nobody waits for a reply
 *
 * Return: 0: something was received; -EAGAIN; -ECONNRESET
 */
static int receive_late(struct fab_client *client)
{
	struct fab_msg late;
	int r = receive(client, &late);

	if (r > 0)
		fab_drop(&late);
	return r < 0 ? r : 0;
}

/* --- Calls ------------------------------------------------------------------------------------------------- */

/**
 * send_request() - send when there is room in the pipeline and in the socket
 *
 * Return: 0; -ETIMEDOUT; -ECONNRESET; another negative errno
 */
static int send_request(struct fab_client *client, const struct fab_msg *request, struct deadline deadline)
{
	_Bool is_full = 0;
	int r;

	for (;;) {
		_Bool is_crowded = waiting(client) == FAB_PIPELINE;

		if (is_crowded || is_full) {
			r = wait_for(client, is_crowded ? POLLIN : POLLIN | POLLOUT, deadline);
			if (r)
				return r;
			r = receive_late(client);
			if (r && r != -EAGAIN)
				return r;
			is_full = 0;
			continue;
		}
		r = fab_send(client->fd, request);
		if (r == -EBADF && fcntl(client->fd, F_GETFD) < 0)
			return end(client);
		if (r == -EPIPE || r == -ECONNRESET || r == -ENOTCONN || r == -ENOTSOCK)
			return end(client);
		if (r != -EAGAIN)
			return r;
		is_full = 1;
	}
}

static int call(struct fab_client *client, struct fab_msg *request, int timeout_ms, struct fab_msg *ret_reply)
{
	struct deadline deadline = deadline_in(timeout_ms);
	struct fab_msg reply;
	int r;

	if (!client->is_alive)
		return -ECONNRESET;
	request->kind = FAB_REQUEST;
	request->serial = client->next;
	r = send_request(client, request, deadline);
	if (r)
		return r;
	client->types[client->next++ % FAB_PIPELINE] = request->type;

	for (;;) {
		r = receive(client, &reply);
		if (r > 0 && reply.serial == request->serial)
			break;
		if (r > 0)
			fab_drop(&reply);
		if (r == -EAGAIN)
			r = wait_for(client, POLLIN, deadline);
		if (r == -ETIMEDOUT)
			return r;
		if (r < 0)
			return -EPIPE;
	}
	client->current ^= 1;
	*ret_reply = reply;
	return 0;
}

int fab_client_call(struct fab_client *client, struct fab_msg *request, int timeout_ms, struct fab_msg *ret_reply)
{
	int r;

	client->is_calling = 1;
	r = call(client, request, timeout_ms, ret_reply);
	client->is_calling = 0;
	return r;
}

/* --- Questions --------------------------------------------------------------------------------------------- */

int fab_client_next(struct fab_client *client, struct fab_msg *ret_ask)
{
	int r;

	if (!client->is_alive)
		return -ECONNRESET;
	while (!client->n_asks) {
		r = receive_late(client);
		if (r)
			return r;
	}
	*ret_ask = client->asks[client->first_ask];
	client->first_ask = (client->first_ask + 1) % FAB_PIPELINE;
	client->n_asks--;
	return 0;
}

int fab_client_answer(struct fab_client *client, struct fab_msg *answer)
{
	struct deadline deadline = deadline_in(FAB_ANSWER_MS);
	struct fab_msg plain;
	int r;

	if (!client->is_alive)
		return -ECONNRESET;
	answer->kind = FAB_ANSWER;
	for (;;) {
		r = fab_send(client->fd, answer);
		if (!r)
			return 0;
		if (r == -EAGAIN) {
			if (wait_for(client, POLLOUT, deadline))
				return end(client);
		} else if (answer->n_fds) {
			/* Descriptors that cannot be passed, now or ever, are no reason to end everything. */
			plain = (struct fab_msg){
				.type = answer->type,
				.kind = FAB_ANSWER,
				.serial = answer->serial,
				.status = VMCI_ERROR_NO_RESOURCES,
			};
			answer = &plain;
		} else {
			return end(client);
		}
	}
}
