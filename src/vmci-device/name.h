/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The names that a guest has registered with the discovery service. vmcid forgets them when it ends, and the guest,
 * which has sent a datagram and got another, knows nothing of vmcid: so they are remembered here.
 */
#ifndef VMCI_DEVICE_NAME_H
#define VMCI_DEVICE_NAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/discovery.h"
#include "proto/limits.h"

/**
 * struct name - a name, or a request about one
 * @from:   resource that asked, and @id of its request
 * @action: DISCOVERY_REGISTER or _UNREGISTER
 * @told:   vmcid knows it
 */
struct name {
	uint32_t from;
	int32_t id;
	int32_t action;
	bool told;
	struct vmci_handle handle;
	size_t size;
	char text[DISCOVERY_NAME_MAX];
};

/**
 * struct names - all of a guest's; all zeroes is none
 * @asked:    requests without an answer; the oldest makes room
 * @n_asked:  ever
 * @known:    registered, @n_known of them
 * @n_untold: of these not told to vmcid
 */
struct names {
	struct name asked[LIMIT_NAMES_ASKED];
	unsigned n_asked;
	struct name known[LIMIT_BRK_NAMES];
	unsigned n_known;
	unsigned n_untold;
};

/* names_ask() - the guest's resource @from has sent this payload to {1, 1}, and vmcid has taken it */
void names_ask(struct names *names, uint32_t from, const uint8_t *payload, size_t size);

/* names_answer() - this payload goes from {1, 1} to the guest's resource @to */
void names_answer(struct names *names, uint32_t to, const uint8_t *payload, size_t size);

/* names_tell_all() - a new vmcid knows none: all come out of names_next() */
void names_tell_all(struct names *names);

/**
 * names_next() - one that vmcid has not been told
 * @buf: DISCOVERY_PAYLOAD_MAX bytes: the request that registers it
 *
 * Return: bytes of the request; 0: there is none
 */
size_t names_next(struct names *names, uint8_t *buf);

/* names_forget() - what had @handle is no more, and so vmcid has no name for it any more */
void names_forget(struct names *names, struct vmci_handle handle);

/* names_told() - what came of the last names_next(): it is forgotten unless @code is success */
void names_told(struct names *names, int32_t code);

#endif /* VMCI_DEVICE_NAME_H */
