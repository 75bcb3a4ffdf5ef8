// SPDX-License-Identifier: BSD-2-Clause
/*
 * AF_VSOCK datagrams for the test guest; payloads in hexadecimal digits, - for none.
 *
 *	vdg recv PORT COUNT			prints "from CID:PORT HEX" for each; then "done"
 *	vdg echo PORT				sends back what comes, until killed
 *	vdg send CID PORT HEX			"sent N", or the error's name and status 1
 *	vdg fill CID PORT SIZE COUNT		the same with SIZE bytes, COUNT times; ends at the first error
 *	vdg ask CID PORT HEX			sends, and prints the first that comes back
 */
#define _GNU_SOURCE
#include <err.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>
#include <linux/vm_sockets.h>

#define SIZE_MAX_DG 69632
#define PATIENCE 30	/* seconds that a receive may take */

static unsigned char data[2 * SIZE_MAX_DG];

static struct sockaddr_vm address(unsigned cid, const char *port)
{
	return (struct sockaddr_vm){ .svm_family = AF_VSOCK, .svm_cid = cid,
		.svm_port = port ? (unsigned)strtoul(port, NULL, 0) : VMADDR_PORT_ANY };
}

/* Unbound sockets have nowhere to receive, so all are bound. */
static int bound(const char *port)
{
	struct sockaddr_vm at = address(VMADDR_CID_ANY, port);
	struct timeval limit = { .tv_sec = PATIENCE };
	int fd = socket(AF_VSOCK, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)) ||
	    bind(fd, (struct sockaddr *)&at, sizeof(at))) {
		puts(strerrorname_np(errno));
		exit(1);
	}
	return fd;
}

static size_t from_hex(const char *hex)
{
	size_t n;

	for (n = 0; n < sizeof(data) && sscanf(hex + 2 * n, "%2hhx", &data[n]) == 1; n++)
		if (!hex[2 * n + 1])
			errx(2, "odd number of digits");
	return n;
}

static size_t receive(int fd, struct sockaddr_vm *from)
{
	socklen_t len = sizeof(*from);
	ssize_t n = recvfrom(fd, data, sizeof(data), 0, (struct sockaddr *)from, &len);

	if (n < 0) {
		puts(strerrorname_np(errno));
		exit(1);
	}
	return (size_t)n;
}

static void print(size_t size, const struct sockaddr_vm *from)
{
	size_t i;

	printf("from %u:%u ", from->svm_cid, from->svm_port);
	for (i = 0; i < size; i++)
		printf("%02x", data[i]);
	puts(size ? "" : "-");
}

static void transmit(int fd, const struct sockaddr_vm *to, size_t size)
{
	ssize_t n = sendto(fd, data, size, 0, (const struct sockaddr *)to, sizeof(*to));

	if (n != (ssize_t)size) {
		puts(n < 0 ? strerrorname_np(errno) : "SHORT");
		exit(1);
	}
}

static void cmd_recv(char **arg)
{
	int fd = bound(arg[0]), left = atoi(arg[1]);
	struct sockaddr_vm from;

	puts("ready");
	while (left--) {
		size_t n = receive(fd, &from);

		print(n, &from);
	}
	puts("done");
}

static void cmd_echo(char **arg)
{
	int fd = bound(arg[0]);
	struct sockaddr_vm from;
	socklen_t len;
	ssize_t n;

	puts("ready");
	for (;;) {
		len = sizeof(from);
		n = recvfrom(fd, data, sizeof(data), 0, (struct sockaddr *)&from, &len);
		if (n >= 0)
			sendto(fd, data, (size_t)n, 0, (struct sockaddr *)&from, sizeof(from));
	}
}

static void cmd_send(char **arg)
{
	struct sockaddr_vm to = address((unsigned)strtoul(arg[0], NULL, 0), arg[1]);
	size_t size = from_hex(arg[2]);

	transmit(bound(NULL), &to, size);
	printf("sent %zu\n", size);
}

static void cmd_fill(char **arg)
{
	struct sockaddr_vm to = address((unsigned)strtoul(arg[0], NULL, 0), arg[1]);
	size_t size = strtoul(arg[2], NULL, 0), i;
	int count = atoi(arg[3]), fd = bound(NULL), sent;

	for (i = 0; i < size && i < sizeof(data); i++)
		data[i] = (unsigned char)i;
	for (sent = 0; sent < count; sent++) {
		if (sendto(fd, data, size, 0, (struct sockaddr *)&to, sizeof(to)) != (ssize_t)size) {
			printf("%s after %d\n", strerrorname_np(errno), sent);
			exit(1);
		}
	}
	printf("sent %d\n", sent);
}

static void cmd_ask(char **arg)
{
	struct sockaddr_vm to = address((unsigned)strtoul(arg[0], NULL, 0), arg[1]), from;
	int fd = bound(NULL);
	size_t n;

	transmit(fd, &to, from_hex(arg[2]));
	n = receive(fd, &from);
	print(n, &from);
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		int args;
		void (*run)(char **arg);
	} verbs[] = {
		{ "recv", 2, cmd_recv }, { "echo", 1, cmd_echo }, { "send", 3, cmd_send }, { "fill", 4, cmd_fill },
		{ "ask", 3, cmd_ask },
	};
	size_t i;

	setvbuf(stdout, NULL, _IOLBF, 0);
	for (i = 0; i < sizeof(verbs) / sizeof(*verbs); i++)
		if (argc == verbs[i].args + 2 && !strcmp(argv[1], verbs[i].name)) {
			verbs[i].run(argv + 2);
			return 0;
		}
	errx(2, "usage: vdg recv PORT COUNT | echo PORT | send CID PORT HEX | fill CID PORT SIZE COUNT |"
	     " ask CID PORT HEX");
}
