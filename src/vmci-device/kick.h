/* SPDX-License-Identifier: BSD-2-Clause */
/* Writing to an eventfd that somebody else holds, too. */
#ifndef VMCI_DEVICE_KICK_H
#define VMCI_DEVICE_KICK_H

/**
 * kick() - add 1 to the eventfd @fd
 *
 * Never waits for long, whatever others do to the eventfd: its flags and its counter are shared, so O_NONBLOCK can be
 * taken away, and the counter be filled, between any check and the write(2).
 *
 * Return: 0, also if the counter is full: whoever reads it has not read it since; -EINTR: somebody made us wait, on
 * purpose; another negative errno
 */
int kick(int fd);

/* kick_clear() - set the eventfd's counter to 0, without waiting (where the kernel can do that; else nothing) */
void kick_clear(int fd);

#endif /* VMCI_DEVICE_KICK_H */
