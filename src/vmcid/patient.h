/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Calls on sockets of others, which wait for whoever else has the socket, for LIMIT_PORTS_WAIT_USEC at most. Nobody
 * makes us wait but on purpose. Needs the alarm of closer_start().
 */
#ifndef VMCID_PATIENT_H
#define VMCID_PATIENT_H

#include <sys/socket.h>
#include <sys/un.h>

/*
 * patient_begin(), patient_end() - several calls with one alarm between them, instead of one for each; may be nested
 *
 * The alarm is repeated, so each of them ends in time. Nothing else that waits on purpose belongs between the two.
 */
void patient_begin(void);
void patient_end(void);

/* patient_bind() - bind(2). Return: 0 or a negative errno; -EINTR: somebody made us wait */
int patient_bind(int fd, const struct sockaddr_un *sun, socklen_t len);

/*
 * patient_connect() - connect(2), of a stream socket, without waiting for the listener; the socket's flags are set back
 *
 * Return: 0 or a negative errno; -EAGAIN: the listener's queue is full; -EINTR: somebody made us wait
 */
int patient_connect(int fd, const struct sockaddr_un *sun, socklen_t len);

#endif /* VMCID_PATIENT_H */
