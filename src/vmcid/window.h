/* SPDX-License-Identifier: BSD-2-Clause */
/* The memory of windows: made here, and given to the broker. */
#ifndef VMCID_WINDOW_H
#define VMCID_WINDOW_H

#include "broker/broker.h"
#include "server.h"

/**
 * window_open() - the window of @key, which is made if nobody has it
 * @bytes: of one that is made
 *
 * Return: 0, and a reference, for brk_window_unref(); a negative errno
 */
int window_open(struct server *server, const char *key, uint64_t bytes, struct brk_window **ret_window);

#endif /* VMCID_WINDOW_H */
