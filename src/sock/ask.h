/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Asking vmcid, from within somebody else's program: no thread, nothing to look after, and nothing that fork or exec
 * breaks.
 */
#ifndef SOCK_ASK_H
#define SOCK_ASK_H

#include <stdbool.h>
#include <sys/uio.h>

#include "fabric/msg.h"

/* A vmcid that has gone gets this long to come back. */
#define ASK_PATIENCE_MS 1000

/* vmcid answers at once, or a second later when it has just been started; see fabric protocol, 4. */
#define ASK_REPLY_MS 5000

/* ask_cid() - context of this process: $VMCI_CID, or the host's */
uint32_t ask_cid(void);

/**
 * ask_is_there() - is there a vmcid that lets us join our context?
 * @ret_flags: of its answer, or NULL
 *
 * Where none has ever been seen, it is not waited for. Return: 0; -ENODEV; another negative errno
 */
int ask_is_there(uint32_t *ret_flags);

/* ask_was_there() - has a vmcid ever answered this process, or the one that it was forked from? */
bool ask_was_there(void);

/**
 * ask() - send a request, and wait for its reply
 * @data, @n_data: bytes behind it, request->len in all; at most ASK_IOV_MAX pieces
 * @again:      it may be sent again when it is not known whether it was carried out
 * @timeout_ms: for the reply
 *
 * Descriptors in @request stay the caller's. Not ended by a signal; signal handlers and other threads may do the same
 * meanwhile.
 * Return: 0: see the reply's status; -ENETUNREACH: there is no vmcid, or it does not answer; -EPIPE: it went away
 * amid a request that is not to be repeated; another negative errno. Errno is left alone.
 */
int ask(struct fab_msg *request, const struct iovec *data, unsigned n_data, bool again, int timeout_ms,
	struct fab_msg *ret_reply);

#define ASK_IOV_MAX 1022u

#endif /* SOCK_ASK_H */
