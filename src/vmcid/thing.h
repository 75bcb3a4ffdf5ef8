/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What clients pass to vmcid by descriptors, checked: sinks, bells, queue pairs, memory, sockets of streams. The broker
 * holds them as "things", but for the last.
 */
#ifndef VMCID_THING_H
#define VMCID_THING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "broker/broker.h"
#include "sink.h"
#include "user.h"

enum thing_kind {
	THING_SINK,
	THING_BELL,	/* an eventfd */
	THING_PAIR,	/* memory, the attacher's life */
	THING_MEMORY,	/* of a shared region */
	THING_STREAM,	/* a socket to be bound or connected: not held any longer than that takes */
	THING_KIND_NUM,
};

#define THING_FDS_MAX 2u

/**
 * struct thing - descriptors of a client
 * @user: who pays for them
 * @fd:   @n_fds of them, owned; of a sink none: they are in @sink
 * @direct: of a pair: its creator wants the guest's own pages
 */
struct thing {
	enum thing_kind kind;
	struct user *user;
	struct sink *sink;
	int fd[THING_FDS_MAX];
	unsigned n_fds;
	bool direct;
};

/* thing_fds() - descriptors of a thing of @kind */
unsigned thing_fds(enum thing_kind kind);

/**
 * thing_new() - check and take descriptors
 * @fds:   thing_fds(@kind) of them; taken (and set to -1) on success
 * @uid:   whose they must be, as far as the kernel knows
 * @bytes: size of the memory: exactly (pair), at least (region)
 * @ret_reason: on failure, for the log: a static string
 *
 * Return: 0; VMCI_ERROR_INVALID_ARGS: they are not what they should be; VMCI_ERROR_NO_RESOURCES: too many;
 * VMCI_ERROR_NO_MEM
 */
int32_t thing_new(sd_event *event, enum thing_kind kind, int *fds, uid_t uid, struct user *user, uint64_t bytes,
		  struct thing **ret_thing, const char **ret_reason);

/**
 * thing_new_sink() - a sink of vmcid's own socket @fd, which it writes to; counts as a descriptor of @user
 *
 * Takes @fd on success. Return: 0; VMCI_ERROR_NO_RESOURCES; VMCI_ERROR_NO_MEM
 */
int32_t thing_new_sink(sd_event *event, int fd, struct user *user, struct thing **ret_thing);

/* thing_free() - close it; NULL is fine. Returns NULL. */
struct thing *thing_free(struct thing *thing);

/* thing_is_same() - are both the same memory? */
bool thing_is_same(const struct thing *a, const struct thing *b);

/* thing_identify() - which memory it is, as long as somebody has it */
void thing_identify(const struct thing *thing, uint8_t ret_id[static BRK_ID_SIZE]);

/* thing_clear() - @bytes of the memory are zeroes, and take no pages. Return: false: not possible */
bool thing_clear(const struct thing *thing, uint64_t offset, uint64_t bytes);

#endif /* VMCID_THING_H */
