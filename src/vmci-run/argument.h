/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef VMCI_RUN_ARGUMENT_H
#define VMCI_RUN_ARGUMENT_H

/**
 * argument_rewrite() - what a program should get in place of the argument @text
 *
 * ssh(1) takes a number in the place of a host for an IPv4 address: "ssh 42" runs its ProxyCommand with 0.0.0.42 for
 * %h. So one of socat's addresses, "VSOCK-CONNECT:0.0.0.42:22", is rewritten with the number: "VSOCK-CONNECT:42:22".
 * Nothing else is: only what begins with VSOCK- (in any case), a word and a colon, and has a whole dotted quad, as ssh
 * writes it, between that and the next colon.
 *
 * Return: a string of malloc(3); NULL: @text is right as it is, or there is no memory
 */
char *argument_rewrite(const char *text);

#endif /* VMCI_RUN_ARGUMENT_H */
