/* SPDX-License-Identifier: BSD-2-Clause */
/* The process that starts devices, so that vmcid itself need not be able to start anything. Theory: spawner.c */
#ifndef VMCID_SPAWNER_H
#define VMCID_SPAWNER_H

#include <stdint.h>
#include <sys/types.h>
#include <systemd/sd-event.h>

#define SPAWNER_ARGS_MAX 32u
#define SPAWNER_ARGS_SIZE 4096u
#define SPAWNER_FDS_MAX 4u

/* The first descriptor of what is passed to a program: they come one after another. */
#define SPAWNER_FIRST_FD 3

struct spawner;

struct spawner_ops {
	/* What was asked for by @id runs as @pid; or @error (a negative errno): it does not run. */
	void (*started)(void *ctx, uint32_t id, pid_t pid, int error);
	/* It has ended; @status is as wait(2) has it. */
	void (*exited)(void *ctx, uint32_t id, int status);
};

/**
 * spawner_start() - fork the process
 *
 * To be called early: it keeps what the caller has. Return: 0 or a negative errno
 */
int spawner_start(struct spawner **ret_spawner);

/* spawner_watch() - from now on call @ops */
int spawner_watch(struct spawner *spawner, sd_event *event, const struct spawner_ops *ops, void *ctx);

/**
 * spawner_run() - start a program
 * @id:   chosen by the caller, unique among those that run
 * @argv: NULL-terminated; argv[0] is the path
 * @fds:  become SPAWNER_FIRST_FD and so on; stay the caller's
 *
 * Return: 0, and started() is called later; a negative errno
 */
int spawner_run(struct spawner *spawner, uint32_t id, const char *const argv[], const int *fds, unsigned n_fds);

/* spawner_free() - the process ends, what it started does not; NULL is fine. Returns NULL. */
struct spawner *spawner_free(struct spawner *spawner);

#endif /* VMCID_SPAWNER_H */
