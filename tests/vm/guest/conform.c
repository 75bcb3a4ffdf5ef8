/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * conform [CID PORT]: asks AF_VSOCK over VMCI what it says to all sorts of calls, and prints "CASE RESULT" for each:
 * an errno's name, a number, or words. It is the same program for the kernel of a guest and for a host under
 * vmci-run; the two tables are compared, so nothing in them depends on who runs it. CID:PORT is a datagram endpoint
 * on the other side that sends back what comes.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>
#include <linux/vm_sockets.h>

#define MAX 69608
#define PATIENCE_MS 5000

static char data[2 * MAX];

static struct sockaddr_vm at(unsigned cid, unsigned port)
{
	return (struct sockaddr_vm){ .svm_family = AF_VSOCK, .svm_cid = cid, .svm_port = port };
}

static void print(const char *what, long result)
{
	if (result < 0)
		printf("%s %s\n", what, errno == EOPNOTSUPP ? "EOPNOTSUPP" : strerrorname_np(errno));
	else
		printf("%s %ld\n", what, result);
}

static int dgram(void)
{
	int fd = socket(AF_VSOCK, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct timeval limit = { .tv_sec = 5 };

	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit))) {
		printf("no datagram sockets: %s\n", strerrorname_np(errno));
		exit(1);
	}
	return fd;
}

static int do_bind(int fd, unsigned cid, unsigned port)
{
	struct sockaddr_vm a = at(cid, port);

	return bind(fd, (struct sockaddr *)&a, sizeof(a));
}

static int do_connect(int fd, unsigned cid, unsigned port)
{
	struct sockaddr_vm a = at(cid, port);

	return connect(fd, (struct sockaddr *)&a, sizeof(a));
}

static long do_send(int fd, size_t size, int flags, unsigned cid, unsigned port)
{
	struct sockaddr_vm a = at(cid, port);

	return sendto(fd, data, size, flags, (struct sockaddr *)&a, sizeof(a));
}

static struct sockaddr_vm name_of(int fd)
{
	struct sockaddr_vm a = { 0 };
	socklen_t len = sizeof(a);

	if (getsockname(fd, (struct sockaddr *)&a, &len))
		a.svm_family = 0;
	return a;
}

static const char *cid_of(unsigned cid)
{
	return cid == VMADDR_CID_ANY ? "any" : "own";
}

/* --- Datagrams ------------------------------------------------------------------------------------------------ */

static void names(void)
{
	int fd = dgram(), other = dgram();
	struct sockaddr_vm a = name_of(fd), short_one;
	socklen_t len = sizeof(a);
	char small[8];

	printf("dgram-new-name %s %s\n", cid_of(a.svm_cid), a.svm_port == VMADDR_PORT_ANY ? "any" : "?");
	print("dgram-new-peer", getpeername(fd, (struct sockaddr *)&a, &len));
	print("dgram-bind-any", do_bind(fd, VMADDR_CID_ANY, VMADDR_PORT_ANY));
	a = name_of(fd);
	printf("dgram-bound-name %s %s\n", cid_of(a.svm_cid),
	       a.svm_port >= 1024 && a.svm_port != VMADDR_PORT_ANY ? "high" : "?");
	print("dgram-bind-twice", do_bind(fd, VMADDR_CID_ANY, VMADDR_PORT_ANY));
	print("dgram-bind-taken", do_bind(other, VMADDR_CID_ANY, a.svm_port));
	print("dgram-bind-foreign", do_bind(other, 77777, 5000));
	short_one = at(VMADDR_CID_ANY, 5000);
	print("dgram-bind-short", bind(other, (struct sockaddr *)&short_one, sizeof(short_one) - 1));
	short_one.svm_family = AF_INET;
	print("dgram-bind-family", bind(other, (struct sockaddr *)&short_one, sizeof(short_one)));
	print("dgram-bind-0", do_bind(other, VMADDR_CID_ANY, 0));
	print("dgram-bind-1", do_bind(other, VMADDR_CID_ANY, 1));
	len = sizeof(small);
	print("dgram-name-small", getsockname(fd, (struct sockaddr *)small, &len));
	print("dgram-listen", listen(fd, 1));
	print("dgram-accept", accept(fd, NULL, NULL));
	close(other);
	close(fd);
	fd = dgram();
	print("dgram-bind-again", do_bind(fd, VMADDR_CID_ANY, a.svm_port));
	close(fd);
	print("socket-raw", socket(AF_VSOCK, SOCK_RAW, 0));
	print("socket-protocol", socket(AF_VSOCK, SOCK_DGRAM, 7));
}

static void sending(void)
{
	int fd = dgram();
	struct sockaddr_vm a, dissolve = { .svm_family = AF_UNSPEC };
	socklen_t len;

	print("dgram-send-nowhere", send(fd, data, 1, 0));
	print("dgram-send-hypervisor", do_send(fd, 1, 0, VMADDR_CID_HYPERVISOR, 20));
	print("dgram-send-oob", do_send(fd, 1, MSG_OOB, VMADDR_CID_ANY, 5000));
	print("dgram-send-large", do_send(fd, MAX + 1, 0, VMADDR_CID_HOST, 5000));
	a = name_of(fd);
	printf("dgram-auto-bound %s\n", a.svm_port >= 1024 && a.svm_port != VMADDR_PORT_ANY ? "yes" : "no");
	print("dgram-connect-hypervisor", do_connect(fd, VMADDR_CID_HYPERVISOR, 20));
	print("dgram-connect", do_connect(fd, VMADDR_CID_HOST, 6000));
	len = sizeof(a);
	print("dgram-peer", getpeername(fd, (struct sockaddr *)&a, &len));
	printf("dgram-peer-is %u %u\n", a.svm_cid, a.svm_port);
	print("dgram-connect-again", do_connect(fd, VMADDR_CID_HOST, 6001));
	print("dgram-dissolve", connect(fd, (struct sockaddr *)&dissolve, sizeof(dissolve)));
	len = sizeof(a);
	print("dgram-dissolved-peer", getpeername(fd, (struct sockaddr *)&a, &len));
	print("dgram-send-dissolved", send(fd, data, 1, 0));
	close(fd);
}

static void options(void)
{
	unsigned long long value = 0;
	socklen_t len = sizeof(value);
	int fd = dgram(), type = 0;

	print("dgram-get-size", getsockopt(fd, AF_VSOCK, SO_VM_SOCKETS_BUFFER_SIZE, &value, &len));
	print("dgram-set-size", setsockopt(fd, AF_VSOCK, SO_VM_SOCKETS_BUFFER_SIZE, &value, sizeof(value)));
	len = sizeof(type);
	getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len);
	print("dgram-type", type);
	len = sizeof(type);
	getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &type, &len);
	print("dgram-domain", type);
	print("dgram-shutdown", shutdown(fd, SHUT_RDWR));
	print("dgram-shutdown-bad", shutdown(fd, 9));
	close(fd);
	fd = dgram();
	print("dgram-recv-oob", recv(fd, data, 1, MSG_OOB));
	print("dgram-recv-errqueue", recv(fd, data, 1, MSG_ERRQUEUE));
	do_bind(fd, VMADDR_CID_ANY, VMADDR_PORT_ANY);
	print("dgram-recv-empty", recv(fd, data, 1, MSG_DONTWAIT));
	close(fd);
}

/* With somebody who answers. */
static void echo(unsigned cid, unsigned port)
{
	static const size_t sizes[] = { 0, 1, 1000, MAX };
	struct iovec iov = { .iov_base = data, .iov_len = 4 };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	struct sockaddr_vm from = { 0 };
	socklen_t len = sizeof(from);
	struct pollfd pollfd = { .events = POLLIN | POLLOUT };
	int fd = dgram();
	char what[32];

	pollfd.fd = fd;
	print("dgram-poll-unbound", poll(&pollfd, 1, 0) ? pollfd.revents : 0);
	do_bind(fd, VMADDR_CID_ANY, VMADDR_PORT_ANY);
	print("dgram-poll-idle", poll(&pollfd, 1, 0) ? pollfd.revents : 0);
	for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		snprintf(what, sizeof(what), "dgram-echo-%zu", sizes[i]);
		memset(data, 'a' + (int)i, sizeof(data));
		if (do_send(fd, sizes[i], 0, cid, port) < 0) {
			print(what, -1);
			continue;
		}
		memset(data, 0, sizeof(data));
		len = sizeof(from);
		print(what, recvfrom(fd, data, sizeof(data), 0, (struct sockaddr *)&from, &len));
		printf("%s-from %s %u\n", what, from.svm_cid == cid && from.svm_port == port ? "peer" : "?", len);
		if (sizes[i] && (data[0] != 'a' + (int)i || data[sizes[i] - 1] != 'a' + (int)i))
			printf("%s-data wrong\n", what);
	}
	do_connect(fd, cid, port);
	memcpy(data, "0123456789", 10);
	print("dgram-send-connected", send(fd, data, 10, 0));
	pollfd.events = POLLIN;
	poll(&pollfd, 1, PATIENCE_MS);
	print("dgram-poll-readable", pollfd.revents);
	msg.msg_name = &from;
	msg.msg_namelen = sizeof(from);
	print("dgram-peek", recvmsg(fd, &msg, MSG_PEEK));
	print("dgram-peek-flags", msg.msg_flags & MSG_TRUNC);
	print("dgram-truncated", recvmsg(fd, &msg, 0));
	print("dgram-truncated-flags", msg.msg_flags & MSG_TRUNC);
	print("dgram-rest", recv(fd, data, 10, MSG_DONTWAIT));
	memcpy(data, "0123456789", 10);
	print("dgram-write", write(fd, data, 10));
	print("dgram-read", read(fd, data, sizeof(data)));
	print("dgram-nobody", do_send(fd, 1, 0, cid, 64999));
	close(fd);
}

/* --- Streams -------------------------------------------------------------------------------------------------- */

static int stream(void)
{
	return socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0);
}

static void streams(void)
{
	struct sockaddr_vm a;
	socklen_t len;
	int fd = stream(), other = stream();
	unsigned long long value, values[] = { 1, 4096, 1 << 20 };
	struct timeval time;

	a = name_of(fd);
	printf("stream-new-name %s %s\n", cid_of(a.svm_cid), a.svm_port == VMADDR_PORT_ANY ? "any" : "?");
	print("stream-listen-unbound", listen(fd, 1));
	print("stream-accept-unbound", accept(fd, NULL, NULL));
	print("stream-send-unconnected",
	      send(fd, data, 1, MSG_NOSIGNAL) < 0 && errno == EPIPE ? -(errno = ENOTCONN) : -1);
	print("stream-shutdown-unconnected", shutdown(fd, SHUT_RDWR));
	len = sizeof(a);
	print("stream-peer-unconnected", getpeername(fd, (struct sockaddr *)&a, &len));
	print("stream-bind-foreign", do_bind(fd, 77777, 5000));
	print("stream-bind", do_bind(fd, VMADDR_CID_ANY, VMADDR_PORT_ANY));
	a = name_of(fd);
	printf("stream-bound-name %s %s\n", cid_of(a.svm_cid),
	       a.svm_port >= 1024 && a.svm_port != VMADDR_PORT_ANY ? "high" : "?");
	print("stream-bind-twice", do_bind(fd, VMADDR_CID_ANY, VMADDR_PORT_ANY));
	print("stream-bind-taken", do_bind(other, VMADDR_CID_ANY, a.svm_port));
	print("stream-listen", listen(fd, 1));
	print("stream-connect-listening", do_connect(fd, VMADDR_CID_HOST, 1));
	fcntl(fd, F_SETFL, O_NONBLOCK);
	print("stream-accept-empty", accept(fd, NULL, NULL));
	for (int option = 0; option < 3; option++) {
		len = sizeof(value);
		getsockopt(other, AF_VSOCK, option, &value, &len);
		printf("stream-option-%d %llu %u\n", option, value, len);
		print("stream-option-short", setsockopt(other, AF_VSOCK, option, &value, 4));
		len = 4;
		print("stream-option-get-short", getsockopt(other, AF_VSOCK, option, &value, &len));
	}
	for (int option = 0; option < 3; option++)
		for (unsigned i = 0; i < 3; i++) {
			print("stream-option-set", setsockopt(other, AF_VSOCK, option, &values[i], sizeof(value)));
			for (int get = 0; get < 3; get++) {
				len = sizeof(value);
				getsockopt(other, AF_VSOCK, get, &value, &len);
				printf("stream-option-%d-%u-%d %llu\n", option, i, get, value);
			}
		}
	len = sizeof(time);
	print("stream-timeout-get", getsockopt(other, AF_VSOCK, SO_VM_SOCKETS_CONNECT_TIMEOUT, &time, &len));
	printf("stream-timeout %ld %ld\n", (long)time.tv_sec, (long)time.tv_usec);
	time.tv_usec = 1000000;
	print("stream-timeout-range", setsockopt(other, AF_VSOCK, SO_VM_SOCKETS_CONNECT_TIMEOUT, &time, sizeof(time)));
	print("stream-option-unknown", setsockopt(other, AF_VSOCK, 99, &value, sizeof(value)));
	print("stream-option-level", setsockopt(other, 99, 0, &value, sizeof(value)));
	close(other);
	close(fd);
}

/* Refused by a host, whose port 64998 nobody has. */
static void refused(void)
{
	int fd = stream();
	struct pollfd pollfd = { .fd = fd, .events = POLLIN | POLLOUT };

	print("stream-refused", do_connect(fd, VMADDR_CID_HOST, 64998));
	print("stream-refused-again", do_connect(fd, VMADDR_CID_HOST, 64998));
	(void)pollfd;
	close(fd);
}

static void device(void)
{
	int fd = open("/dev/vsock", O_RDONLY);
	unsigned cid = 0;

	print("device-cid", ioctl(fd, IOCTL_VM_SOCKETS_GET_LOCAL_CID, &cid));
	printf("device-cid-is %s\n", cid >= 2 && cid != VMADDR_CID_ANY ? "one" : "none");
	print("device-unknown", ioctl(fd, 1999, &cid) < 0 ? -1 : 0);
	close(fd);
}

int main(int argc, char **argv)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	names();
	sending();
	options();
	streams();
	refused();
	device();
	if (argc == 3)
		echo((unsigned)strtoul(argv[1], NULL, 0), (unsigned)strtoul(argv[2], NULL, 0));
	return 0;
}
