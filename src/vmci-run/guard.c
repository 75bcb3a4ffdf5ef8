/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * DOC: Theory of operation
 *
 * libvmci-preload answers for AF_VSOCK where the C library is called. What calls the kernel past it would reach the
 * family that the kernel has, of another hypervisor perhaps. So the kernel is told that there is none:
 *
 *	socket(AF_VSOCK), socketpair(AF_VSOCK)	EAFNOSUPPORT
 *	io_uring_setup()			EPERM: a ring makes sockets, too, and seccomp does not see that
 *	calls of another architecture		end the program: 32-bit programs make sockets in ways that cannot be
 *						looked into, and cannot load the library anyway
 */
#include "guard.h"

#include <errno.h>
#include <seccomp.h>
#include <sys/socket.h>

int guard_enter(void)
{
	const struct scmp_arg_cmp vsock = {
		.arg = 0, .op = SCMP_CMP_MASKED_EQ, .datum_a = 0xffffffff, .datum_b = AF_VSOCK
	};
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
	int r;

	if (!filter)
		return -ENOMEM;
	r = seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
	if (!r)
		r = seccomp_rule_add_array(filter, SCMP_ACT_ERRNO(EAFNOSUPPORT), SCMP_SYS(socket), 1, &vsock);
	if (!r)
		r = seccomp_rule_add_array(filter, SCMP_ACT_ERRNO(EAFNOSUPPORT), SCMP_SYS(socketpair), 1, &vsock);
	if (!r)
		r = seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(io_uring_setup), 0);
	if (!r)
		r = seccomp_load(filter);
	seccomp_release(filter);
	return r;
}
