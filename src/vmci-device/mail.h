/* SPDX-License-Identifier: BSD-2-Clause */
/* A way into the guest for datagrams of others: what vmcid writes into a sink comes out here. */
#ifndef VMCI_DEVICE_MAIL_H
#define VMCI_DEVICE_MAIL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmci/defs.h"

/**
 * struct mail - a socket pair, and the datagram that the guest had no room for
 * @fd:   our end: poll it for POLLIN while !@held
 * @sink: the other end. A copy goes to each vmcid; while we keep this one, ours sees no end
 * @held: bytes of @dg; 0: none is held
 */
struct mail {
	int fd;
	int sink;
	size_t held;
	uint8_t dg[VMCI_DG_MAX_SIZE];
};

/* mail_open() - make the pair. Return: 0 or a negative errno */
int mail_open(struct mail *mail);

/* mail_close() - close both ends; nothing if they are -1 */
void mail_close(struct mail *mail);

/**
 * mail_peek() - the oldest datagram; it stays there until mail_drop()
 *
 * Return: its bytes, at @mail->dg, its header agreeing with its size; 0: nothing there
 */
size_t mail_peek(struct mail *mail);

/* mail_drop() - the oldest datagram is done with */
void mail_drop(struct mail *mail);

/* mail_drain() - drop all that is there */
void mail_drain(struct mail *mail);

#endif /* VMCI_DEVICE_MAIL_H */
