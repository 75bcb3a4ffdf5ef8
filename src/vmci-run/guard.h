/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef VMCI_RUN_GUARD_H
#define VMCI_RUN_GUARD_H

/**
 * guard_enter() - from now on the kernel's own AF_VSOCK is out of reach for this process and all that it starts
 *
 * Also for programs that do not use the C library, or are linked with it statically. What needs more rights than the
 * process has (sudo, say) does not get them any more. Return: 0 or a negative errno
 */
int guard_enter(void);

#endif /* VMCI_RUN_GUARD_H */
