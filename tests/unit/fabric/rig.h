/* SPDX-License-Identifier: BSD-2-Clause */
/* What the tests of the fabric share: socket pairs, descriptors that can be recognised, and their number. */
#ifndef RIG_H
#define RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdbool.h>

#include "fabric/link.h"

/* rig_pair() - a connected pair of SOCK_SEQPACKET sockets; @flags: SOCK_NONBLOCK or 0 */
void rig_pair(int flags, int ret_fd[2]);

/* rig_count_fds() - descriptors that this process has open */
int rig_count_fds(void);

/* rig_eventfd() - an eventfd that holds @value */
int rig_eventfd(unsigned value);

/* rig_eventfd_value() - read it */
unsigned rig_eventfd_value(int fd);

/* rig_fill() - send packets of 64 zero bytes until there is no room; returns their number */
unsigned rig_fill(int fd);

/* rig_send_raw() - send @len bytes with @n_fds copies of @with as one packet, whatever the protocol says */
void rig_send_raw(int fd, const void *buf, size_t len, int with, unsigned n_fds);

/* rig_is_equal() - are all fields, the data, and the number of descriptors of two messages the same? */
bool rig_is_equal(const struct fab_msg *a, const struct fab_msg *b);

#endif /* RIG_H */
