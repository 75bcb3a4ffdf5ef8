/* SPDX-License-Identifier: BSD-2-Clause */
/* Listening AF_UNIX sockets at a path. */
#ifndef VMCI_DEVICE_LISTENER_H
#define VMCI_DEVICE_LISTENER_H

/**
 * listener_open() - listen at @path
 *
 * A socket file that nobody listens at any more is replaced. The file gets mode 0660.
 *
 * Return: the descriptor (non-blocking, close-on-exec); -EADDRINUSE (somebody listens there, or it is no socket);
 * -ENAMETOOLONG; what socket(2), bind(2) or listen(2) said
 */
int listener_open(const char *path);

/* listener_open_packets() - the same, for SOCK_SEQPACKET; the file gets mode 0600 */
int listener_open_packets(const char *path);

/* listener_close() - close *@fd and remove @path; nothing if *@fd is -1. */
void listener_close(int *fd, const char *path);

/**
 * unix_connect() - connect a non-blocking stream socket to @path
 *
 * Never waits. Return: the descriptor; -ENOENT, -ECONNREFUSED (nobody listens), -EAGAIN (backlog full), -ENAMETOOLONG ...
 */
int unix_connect(const char *path);

#endif /* VMCI_DEVICE_LISTENER_H */
