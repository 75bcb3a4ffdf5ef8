/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Descriptors of others, closed without waiting: the last close(2) of a socket sleeps as long as its maker likes
 * (SO_LINGER), and it may lie in the queue of another one that was passed. Theory: closer.c
 */
#ifndef BASE_CLOSER_H
#define BASE_CLOSER_H

#include <stdbool.h>
#include <sys/socket.h>
#include <sys/types.h>

/* Descriptors of one message: the kernel's limit (SCM_RIGHTS in unix(7)). */
#define CLOSER_FDS_MAX 253

/**
 * closer_start() - from now on, closing waits for @usec microseconds at most
 *
 * For programs with one thread: takes SIGALRM and the alarm clock (setitimer(2)), which the program may use, too, but not
 * while one of the functions below runs. Not inherited by what is forked: a child that wants it calls it, too.
 *
 * Without it, what is passed is closed with SO_LINGER switched off; what lies in queues of what is passed may make it wait.
 * Return: 0 or a negative errno
 */
int closer_start(unsigned usec);

/* closer_stop() - undo closer_start() */
void closer_stop(void);

/* closer_close() - like fd_close(), for one that somebody else has made, or can send descriptors to */
void closer_close(int *fd);

/* closer_close_all() - the same for @n <= CLOSER_FDS_MAX of them, in the time that one takes */
void closer_close_all(int *fds, unsigned n);

/**
 * closer_refuse() - let nobody send descriptors to the UNIX socket @fd, where the kernel can see to that (Linux 6.16)
 *
 * What is there already stays. A listener's is inherited by what is connected afterwards.
 */
void closer_refuse(int fd);

/* closer_permit() - undo closer_refuse() */
void closer_permit(int fd);

/* closer_is_refusing() - can no descriptor come from @fd any more? Not asked what came before closer_refuse(). */
bool closer_is_refusing(int fd);

/**
 * closer_recv() - like recvmsg(2), from where no descriptors belong: those that come are closed
 * @msg: without a control buffer; MSG_CTRUNC in its flags says that some came
 */
ssize_t closer_recv(int fd, struct msghdr *msg, int flags);

#endif /* BASE_CLOSER_H */
