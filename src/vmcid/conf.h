/* SPDX-License-Identifier: BSD-2-Clause */
/* vmcid.conf(5), read. */
#ifndef VMCID_CONF_H
#define VMCID_CONF_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "broker/broker.h"
#include "proto/limits.h"

#define CONF_PATH_MAX 1024u
#define CONF_REASON_SIZE 256u

/**
 * struct conf - the configuration
 * @socket_mode, @socket_group: of control.sock; (gid_t)-1: as it is made
 * @vm_mode, @vm_group: of vm/NAME.sock
 * @trusted: users besides root and our own
 * @program: of devices; "" if not set
 * @window_host: the domain, or VM, in whose window regions of the host's programs lie; "" if not set
 * @limits: for the broker
 */
struct conf {
	mode_t socket_mode;
	gid_t socket_group;
	mode_t vm_mode;
	gid_t vm_group;
	uid_t trusted[LIMIT_VMCID_TRUSTED];
	size_t n_trusted;
	char program[CONF_PATH_MAX];
	char window_host[BRK_VM_NAME_MAX + 1];
	struct brk_limits limits;
};

/* conf_default() - what holds without a file */
struct conf conf_default(void);

/**
 * conf_parse() - a file's text, over what is in @conf already
 * @ret_reason: on -EBADMSG: "line 3: socket.mode: ..."
 *
 * Names of users and groups are looked up. A key that is not known is an error: it might have been meant to protect
 * something. Return: 0; -EBADMSG; -ENOMEM
 */
int conf_parse(const char *text, size_t len, struct conf *conf, char ret_reason[static CONF_REASON_SIZE]);

/**
 * conf_read_file() - the contents of a dictionary's file
 * @dir: directory, or AT_FDCWD
 *
 * Return: 0, @ret_text is to be freed; -EFBIG: larger than a dictionary may be; another negative errno
 */
int conf_read_file(int dir, const char *path, char **ret_text, size_t *ret_len);

#endif /* VMCID_CONF_H */
