/* SPDX-License-Identifier: BSD-2-Clause */
/* The runtime directory: made, checked, locked; its key; the sockets in it. */
#ifndef VMCID_RUNDIR_H
#define VMCID_RUNDIR_H

#include <stdbool.h>
#include <sys/stat.h>

#include "token.h"

/**
 * struct rundir - the directory while it is ours
 * @path:    absolute or as given; not owned
 * @fd:      the directory
 * @lock:    "lock" in it, locked
 * @resumed: the key was there: clients of an earlier vmcid may come
 */
struct rundir {
	const char *path;
	int fd;
	int lock;
	bool resumed;
	struct token_key key;
};

#define RUNDIR_REASON_SIZE 256u

/**
 * rundir_open() - take the directory at @path, which is made if it is not there (its parent must be)
 * @mode:     0755 or 0700
 * @embedded: a program that was started by hand takes the place of an embedded one, which leaves when it is asked to
 * @ret_reason: on failure, one line with the path
 *
 * Return: 0; -EBUSY: another vmcid has it; another negative errno
 */
int rundir_open(const char *path, mode_t mode, bool embedded, struct rundir *ret_rundir,
		char ret_reason[static RUNDIR_REASON_SIZE]);

/* rundir_close() - give it back; @forget: remove the key: nobody is left who could come back */
void rundir_close(struct rundir *rundir, bool forget);

/**
 * rundir_listen() - bind a socket of @type at @name ("control.sock", "vm/a.sock") and listen
 * @mode, @group: of its file; -1 leaves the group
 *
 * What lies there is removed: we have the lock. Return: the descriptor, not blocking, or a negative errno
 */
int rundir_listen(const struct rundir *rundir, const char *name, int type, mode_t mode, gid_t group);

/* rundir_connect() - connect to the socket at @name; the descriptor, not blocking, or a negative errno */
int rundir_connect(const struct rundir *rundir, const char *name, int type);

/* rundir_unlink() - remove the file @name, if it is there */
void rundir_unlink(const struct rundir *rundir, const char *name);

/**
 * rundir_sweep() - look through @folder, and remove what is of no use
 * @keep: is the entry @name? Called for all but hidden ones; may make and remove others
 *
 * Return: 0 or a negative errno: it cannot be read
 */
int rundir_sweep(const struct rundir *rundir, const char *folder, bool (*keep)(void *ctx, const char *name),
		 void *ctx);

/* rundir_path() - "PATH/NAME" in @buf; -ENAMETOOLONG if that is no path for a socket */
int rundir_path(const struct rundir *rundir, const char *name, char *buf, size_t size);

#endif /* VMCID_RUNDIR_H */
