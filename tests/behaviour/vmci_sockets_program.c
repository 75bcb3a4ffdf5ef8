/* SPDX-License-Identifier: BSD-2-Clause */
/* A program in the style of the programming guide of VMCI Sockets: nothing in it is of this project but the header. */
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include <vmci/vmci_sockets.h>

static int af;

static struct sockaddr_vm address(unsigned int cid, unsigned int port)
{
	struct sockaddr_vm addr;

	memset(&addr, 0, sizeof addr);
	addr.svm_family = (sa_family_t)af;
	addr.svm_cid = cid;
	addr.svm_port = port;
	return addr;
}

static void *serve(void *arg)
{
	int listener = *(int *)arg;
	struct sockaddr_vm peer;
	socklen_t len = sizeof peer;
	char buf[4096];
	int fd = accept(listener, (struct sockaddr *)&peer, &len);
	ssize_t n = recv(fd, buf, sizeof buf, 0);

	if (n > 0)
		n = send(fd, buf, (size_t)n, 0);
	close(fd);
	return NULL;
}

static int stream(char *buf, size_t size)
{
	struct sockaddr_vm own = address(VMADDR_CID_ANY, VMADDR_PORT_ANY);
	socklen_t len = sizeof own;
	unsigned long long buffer = 32768, is = 0;
	socklen_t buffer_len = sizeof is;
	pthread_t thread;
	int listener = socket(af, SOCK_STREAM, 0), fd = socket(af, SOCK_STREAM, 0);
	ssize_t n;

	if (setsockopt(listener, af, SO_VMCI_BUFFER_SIZE, &buffer, sizeof buffer) ||
	    getsockopt(listener, af, SO_VMCI_BUFFER_SIZE, &is, &buffer_len) || is != buffer)
		return -1;
	if (bind(listener, (struct sockaddr *)&own, sizeof own) ||
	    getsockname(listener, (struct sockaddr *)&own, &len) || listen(listener, 1))
		return -1;
	pthread_create(&thread, NULL, serve, &listener);
	own = address(VMCISock_GetLocalCID(), own.svm_port);
	if (connect(fd, (struct sockaddr *)&own, sizeof own) || send(fd, "hello", 6, 0) != 6)
		return -1;
	n = recv(fd, buf, size, 0);
	pthread_join(thread, NULL);
	close(fd);
	close(listener);
	return n == 6 ? 0 : -1;
}

static int datagram(char *buf, size_t size)
{
	struct sockaddr_vm own = address(VMADDR_CID_ANY, VMADDR_PORT_ANY), from;
	socklen_t len = sizeof own;
	int server = socket(af, SOCK_DGRAM, 0), client = socket(af, SOCK_DGRAM, 0);

	if (bind(server, (struct sockaddr *)&own, sizeof own) || getsockname(server, (struct sockaddr *)&own, &len))
		return -1;
	own = address(VMCISock_GetLocalCID(), own.svm_port);
	if (sendto(client, "hello", 6, 0, (struct sockaddr *)&own, sizeof own) != 6)
		return -1;
	len = sizeof from;
	if (recvfrom(server, buf, size, 0, (struct sockaddr *)&from, &len) != 6 ||
	    from.svm_cid != VMCISock_GetLocalCID())
		return -1;
	close(server);
	close(client);
	return 0;
}

int main(int argc, char **argv)
{
	char echo[64] = "", dgram[64] = "";
	unsigned int version = VMCISock_Version();
	int fd = 7;

	/* UUIDs: their contexts */
	if (argc > 1) {
		for (int i = 1; i < argc; i++)
			printf("%d\n", (int)VMCISock_Uuid2ContextId(argv[i]));
		return 0;
	}
	af = VMCISock_GetAFValueFd(&fd);
	if (af < 0) {
		printf("no VMCI Sockets\n");
		return 2;
	}
	if (stream(echo, sizeof echo) || datagram(dgram, sizeof dgram)) {
		perror("failed");
		return 1;
	}
	printf("cid %u, version %u.%u.%u, echo: %s, datagram: %s\n", VMCISock_GetLocalCID(),
	       VMCI_SOCKETS_VERSION_EPOCH(version), VMCI_SOCKETS_VERSION_MAJOR(version),
	       VMCI_SOCKETS_VERSION_MINOR(version), echo, dgram);
	VMCISock_ReleaseAFValueFd(fd);
	return VMCISock_Uuid2ContextId("56 4d 07 d8") == VMADDR_CID_ANY ? 0 : 3;
}
