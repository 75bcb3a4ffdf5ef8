/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A client's end of the connection to vmcid: calls that wait for their reply, and the questions that vmcid asks
 * meanwhile. libvmci has one under a lock; vmci-device has one in its event loop. One thread at a time.
 */
#ifndef FABRIC_CLIENT_H
#define FABRIC_CLIENT_H

#include "fabric/link.h"

struct fab_client;

/*
 * An answer waits that long for room in the socket, then the connection ends: vmcid has forgotten the question by
 * then, and it always reads.
 */
#define FAB_ANSWER_MS 1000

/*
 * fab_client_new() - take over the connected socket @fd; 0 or -ENOMEM (@fd is closed)
 *
 * With -1 it is a client whose connection has ended.
 */
int fab_client_new(int fd, struct fab_client **ret_client);

/* fab_client_free() - close; NULL is fine. Returns NULL. */
struct fab_client *fab_client_free(struct fab_client *client);

/*
 * fab_client_fd() - for poll(2): readable when there is a question, or the connection has ended
 *
 * Questions that arrived during a fab_client_call() have been read already: look with fab_client_next() after each
 * call.
 */
int fab_client_fd(const struct fab_client *client);

/* fab_client_is_alive() - false once the connection has ended, for whatever reason */
_Bool fab_client_is_alive(const struct fab_client *client);

/**
 * fab_client_on_ask() - let questions that arrive during a fab_client_call() be answered at once, instead of kept
 * @ask: may call fab_client_answer(), and nothing else of this file; may take the question's descriptors (fd_take())
 *
 * Two devices whose guests ask for each other's doorbell at the same moment would wait for each other otherwise.
 */
void fab_client_on_ask(struct fab_client *client, void (*ask)(void *ctx, struct fab_msg *ask), void *ctx);

/**
 * fab_client_call() - send @request, and wait for its reply
 * @request:    its serial is set here, its kind is FAB_REQUEST; its descriptors stay the caller's
 * @timeout_ms: bound for sending and waiting together; negative: none
 * @ret_reply:  @data lies in @client until the next call; descriptors are the caller's (fab_drop() for what is left)
 *
 * Questions that arrive meanwhile are kept (FAB_PIPELINE of them; more end the connection), or see fab_client_on_ask().
 * Not ended by a signal.
 * Return: 0: there is a reply, look at its status; -ETIMEDOUT: its reply will be thrown away when it comes;
 * -ECONNRESET: the connection has ended before the request was sent; -EPIPE: after it was sent, so that it may have
 * been carried out; another negative errno: it could not be sent, for want of memory or because of its descriptors;
 * the connection goes on
 */
int fab_client_call(struct fab_client *client, struct fab_msg *request, int timeout_ms, struct fab_msg *ret_reply);

/**
 * fab_client_next() - the oldest question that vmcid has asked
 *
 * Never waits. Return: 0: @ret_ask, to be answered, and its descriptors are the caller's; -EAGAIN; -ECONNRESET: the connection has ended
 */
int fab_client_next(struct fab_client *client, struct fab_msg *ret_ask);

/*
 * fab_client_answer() - answer a question: type and serial are those of the ask; descriptors stay the caller's. 0,
 * -ECONNRESET
 *
 * Descriptors that cannot be passed become the answer VMCI_ERROR_NO_RESOURCES.
 */
int fab_client_answer(struct fab_client *client, struct fab_msg *answer);

#endif /* FABRIC_CLIENT_H */
