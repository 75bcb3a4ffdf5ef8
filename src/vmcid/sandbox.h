/* SPDX-License-Identifier: BSD-2-Clause */
/* What vmcid gives up before it listens to anybody. Theory: sandbox.c */
#ifndef VMCID_SANDBOX_H
#define VMCID_SANDBOX_H

/**
 * sandbox_enter() - from now on, files are changed below the directory @fd only
 *
 * Return: 0, or a negative errno: nothing is given up, or only a part
 */
int sandbox_enter(int fd);

#endif /* VMCID_SANDBOX_H */
