/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * kill-vsock PROGRAM [ARG...]: runs the program so that socket(AF_VSOCK) would kill it, whatever filter it loads
 * itself. That is how tests see that nothing of ours makes such a socket.
 */
#include <seccomp.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	const struct scmp_arg_cmp vsock = { .arg = 0, .op = SCMP_CMP_EQ, .datum_a = AF_VSOCK };
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);

	if (argc < 2 || !filter || seccomp_rule_add_array(filter, SCMP_ACT_KILL_PROCESS, SCMP_SYS(socket), 1, &vsock) ||
	    seccomp_rule_add_array(filter, SCMP_ACT_KILL_PROCESS, SCMP_SYS(socketpair), 1, &vsock) ||
	    seccomp_load(filter)) {
		fprintf(stderr, "kill-vsock: cannot\n");
		return 125;
	}
	execvp(argv[1], argv + 1);
	perror(argv[1]);
	return 127;
}
