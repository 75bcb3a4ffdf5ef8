/* SPDX-License-Identifier: BSD-2-Clause */
/* Adding to an eventfd that somebody else holds, too. */
#ifndef LIB_NUDGE_H
#define LIB_NUDGE_H

/**
 * nudge() - add 1 to the eventfd @fd
 *
 * Never waits, whatever others do to the eventfd: its flags and its counter are shared. Any thread.
 * Return: 0, also if the counter is full; -EAGAIN, -ENOSYS or another negative errno: it cannot be done in this way here
 */
int nudge(int fd);

#endif /* LIB_NUDGE_H */
