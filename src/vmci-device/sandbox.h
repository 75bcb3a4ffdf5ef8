/* SPDX-License-Identifier: BSD-2-Clause */
/* What the process may do once it serves VMs. */
#ifndef VMCI_DEVICE_SANDBOX_H
#define VMCI_DEVICE_SANDBOX_H

/**
 * sandbox_enter() - give up everything that serving VMs does not need; for the rest of the process's life
 * @paths: sockets that we made, and remove at the end; ends with NULL
 *
 * No new privileges; of the file system (Landlock, where the kernel has it) only the removal of files in the folders of
 * @paths; of the system calls (seccomp) only those on the list in the source, and sockets of AF_UNIX only. A call that is
 * not on the list fails with ENOSYS.
 *
 * Return: 0 or a negative errno
 */
int sandbox_enter(const char *const paths[]);

/**
 * sandbox_enter_keeper() - the same for the keeper, which has everything that it will ever have, or is sent it
 *
 * No files and no new sockets at all.
 *
 * Return: 0 or a negative errno
 */
int sandbox_enter_keeper(void);

#endif /* VMCI_DEVICE_SANDBOX_H */
