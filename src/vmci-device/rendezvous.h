/* SPDX-License-Identifier: BSD-2-Clause */
/* Where a new vmcid finds a device that has survived the old one. */
#ifndef VMCI_DEVICE_RENDEZVOUS_H
#define VMCI_DEVICE_RENDEZVOUS_H

/* rendezvous_open() - listen at @path; as listener_open(), but with packets, and for this user only (mode 0600) */
int rendezvous_open(const char *path);

/**
 * rendezvous_accept() - take who connects at @listener, if it may be vmcid: this user, or root
 *
 * Return: the descriptor (non-blocking, close-on-exec); -EPERM: somebody else, who is turned away; -EAGAIN ...
 */
int rendezvous_accept(int listener);

#endif /* VMCI_DEVICE_RENDEZVOUS_H */
