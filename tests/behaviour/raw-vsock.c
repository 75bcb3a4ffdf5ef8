/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * raw-vsock: a program that no library can be put before: linked statically, and calling the kernel itself. Prints
 * what the kernel says to socket(AF_VSOCK) and its like. It does not try unless a seccomp filter is loaded.
 */
#include <errno.h>
#include <linux/io_uring.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

static int is_guarded(void)
{
	char line[128];
	FILE *status = fopen("/proc/self/status", "re");
	int mode = 0;

	while (status && fgets(line, sizeof(line), status))
		if (sscanf(line, "Seccomp: %d", &mode) == 1)
			break;
	if (status)
		fclose(status);
	return mode == 2;
}

static void print(const char *what, long result)
{
	printf("%s %s\n", what, result < 0 ? strerrorname_np(errno) : "success");
}

int main(void)
{
	struct io_uring_params params;
	int pair[2];

	if (!is_guarded()) {
		printf("not guarded\n");
		return 1;
	}
	memset(&params, 0, sizeof(params));
	print("stream", syscall(SYS_socket, AF_VSOCK, SOCK_STREAM, 0));
	print("dgram", syscall(SYS_socket, AF_VSOCK, SOCK_DGRAM | SOCK_CLOEXEC, 0));
	print("high", syscall(SYS_socket, 0x100000000l | AF_VSOCK, SOCK_STREAM, 0));
	print("pair", syscall(SYS_socketpair, AF_VSOCK, SOCK_STREAM, 0, pair));
	print("ring", syscall(SYS_io_uring_setup, 4, &params));
	print("unix", syscall(SYS_socket, AF_UNIX, SOCK_STREAM, 0));
	print("inet", syscall(SYS_socket, AF_INET, SOCK_STREAM, 0));
	return 0;
}
