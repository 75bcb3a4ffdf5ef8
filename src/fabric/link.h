/* SPDX-License-Identifier: BSD-2-Clause */
/* One message at a time over a SOCK_SEQPACKET UNIX socket, descriptors beside it. Never waits, never raises SIGPIPE. */
#ifndef FABRIC_LINK_H
#define FABRIC_LINK_H

#include "fabric/msg.h"

/**
 * fab_send() - send @msg with its data and descriptors; the descriptors stay the caller's
 *
 * Return: 0; -EAGAIN: no room now; -EPIPE or -ECONNRESET: the other end has gone; -EBADF: one of the descriptors is
 * none; another negative errno. Nothing was sent unless it is 0.
 */
int fab_send(int fd, const struct fab_msg *msg);

/**
 * fab_recv() - receive a message
 * @buf: FAB_MSG_MAX bytes; @ret_msg->data points into it
 *
 * The descriptors in @ret_msg are the caller's (close-on-exec): take them with fd_take(), then fab_drop(). On failure
 * there are none left open.
 * Return: 0; -EAGAIN: nothing there; -ECONNRESET: end of file; -EBADMSG: the peer broke the protocol, also by
 * descriptors that could not be received; another negative errno
 */
int fab_recv(int fd, uint8_t *buf, struct fab_msg *ret_msg);

/* fab_recv_why() - like fab_recv(); @ret_why is written on -EBADMSG: what is wrong, in a few words for the log */
int fab_recv_why(int fd, uint8_t *buf, struct fab_msg *ret_msg, const char **ret_why);

/* fab_drop() - close the descriptors that nobody took out of @msg */
void fab_drop(struct fab_msg *msg);

#endif /* FABRIC_LINK_H */
