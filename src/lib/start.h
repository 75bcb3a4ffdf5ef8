/* SPDX-License-Identifier: BSD-2-Clause */
/* Where the broker is, and how one is started where none runs. The rules are those of vmci_open(). */
#ifndef LIB_START_H
#define LIB_START_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/un.h>

#define HOME_SYSTEM "/run/vmci"
#define HOME_SOCKET "control.sock"
#define HOME_LOG "vmcid.log"
#define HOME_SIZE (sizeof(((struct sockaddr_un *)0)->sun_path))

/* An embedded broker's log is begun anew beyond this. */
#define HOME_LOG_MAX (1u << 20)

/* How long a broker may take to accept a connection, in seconds. */
#define HOME_CONNECT_S 1

/* A broker that somebody else started gets this long to come back before we start one in its place. */
#define HOME_PATIENCE_MS 2000

/**
 * struct home - a runtime directory
 * @dir:        absolute
 * @is_chosen:  by the program or by $VMCI_RUNTIME_DIR, not by default
 * @may_start:  a broker may be started in it
 * @is_started: we have started one in it
 */
struct home {
	char dir[HOME_SIZE];
	char socket[HOME_SIZE];
	bool is_chosen;
	bool may_start;
	bool is_started;
};

/**
 * home_find() - find the runtime directory, and who listens there
 * @path:     as in vmci_open()
 * @no_start: VMCI_OPEN_NO_START
 * @ret_fd:   connected, or -1: nobody listens (vmci_errmsg() says where that was tried)
 *
 * Return: 0; VMCI_ERROR_NO_ACCESS; VMCI_ERROR_INVALID_ARGS: the path is too long
 */
int home_find(const char *path, bool no_start, struct home *ret_home, int *ret_fd);

/* home_connect() - a socket that is connected to the broker, or a negative errno */
int home_connect(const struct home *home);

/**
 * home_start() - start a broker in the directory
 *
 * It does not listen yet, or maybe another one does in its place: home_connect() in a while.
 * Return: 0; VMCI_ERROR_DEVICE_NOT_FOUND: there is no program, or no directory; vmci_errmsg() names what was tried
 */
int home_start(struct home *home);

/* home_patience_ms() - how long to wait for a broker to come back, before home_start(); negative: for ever */
int home_patience_ms(const struct home *home);

#endif /* LIB_START_H */
