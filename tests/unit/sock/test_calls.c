/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * vmci_sockets.h without any preloading, over a vmcid of the test's own: $VMCID. Threads, forks, and other families,
 * too.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <ftw.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "vmci/vmci_sockets.h"

#define LIMIT_MS 20000

static char dir[64];
static pid_t broker;

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

static bool is_listening(const char *path)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_SEQPACKET, 0), r;

	strcpy(sun.sun_path, path);
	r = connect(fd, (struct sockaddr *)&sun, sizeof(sun));
	close(fd);
	return !r;
}

static int setup(void **state)
{
	char *const argv[] = { "vmcid", "--runtime-dir", dir, "--log", "err", NULL };
	char control[80];

	(void)state;
	strcpy(dir, "/tmp/vmci-sock-XXXXXX");
	assert_non_null(mkdtemp(dir));
	snprintf(control, sizeof(control), "%s/control.sock", dir);
	setenv("VMCI_RUNTIME_DIR", dir, 1);
	unsetenv("VMCI_CID");
	assert_int_equal(posix_spawn(&broker, getenv("VMCID"), NULL, NULL, argv, environ), 0);
	for (unsigned ms = 0; !is_listening(control); ms += 5) {
		assert_true(ms < LIMIT_MS);
		poll(NULL, 0, 5);
	}
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	kill(broker, SIGTERM);
	waitpid(broker, NULL, 0);
	nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
	return 0;
}

static struct sockaddr_vm address(unsigned cid, unsigned port)
{
	return (struct sockaddr_vm){ .svm_family = AF_VSOCK, .svm_cid = cid, .svm_port = port };
}

static int bound(int type, unsigned port)
{
	struct sockaddr_vm own = address(VMADDR_CID_ANY, port);
	int fd = vmci_socket(AF_VSOCK, type, 0);

	assert_true(fd >= 0);
	assert_int_equal(vmci_bind(fd, (struct sockaddr *)&own, sizeof(own)), 0);
	return fd;
}

static unsigned port_of(int fd)
{
	struct sockaddr_vm own;
	socklen_t len = sizeof(own);

	assert_int_equal(vmci_getsockname(fd, (struct sockaddr *)&own, &len), 0);
	assert_int_equal(own.svm_family, AF_VSOCK);
	return own.svm_port;
}

static int connected(unsigned port)
{
	struct sockaddr_vm to = address(VMADDR_CID_HOST, port);
	int fd = vmci_socket(AF_VSOCK, SOCK_STREAM, 0);

	assert_int_equal(vmci_connect(fd, (struct sockaddr *)&to, sizeof(to)), 0);
	return fd;
}

static void test_streams(void **state)
{
	int listener = bound(SOCK_STREAM, VMADDR_PORT_ANY), one, two;
	struct sockaddr_vm peer;
	socklen_t len = sizeof(peer);
	struct vmci_peer_id who;
	char buf[16] = "";

	(void)state;
	assert_int_equal(listen(listener, 4), 0);
	one = connected(port_of(listener));
	two = vmci_accept4(listener, (struct sockaddr *)&peer, &len, SOCK_CLOEXEC);
	assert_true(two >= 0);
	assert_int_equal(peer.svm_port, port_of(one));
	assert_int_equal(write(one, "hello", 6), 6);
	assert_int_equal(vmci_recv(two, buf, sizeof(buf), 0), 6);
	assert_string_equal(buf, "hello");
	assert_int_equal(vmci_peer(two, &who), 0);
	assert_true(who.cid == 2 && who.pid == getpid() && who.uid == getuid());
	assert_int_equal(vmci_shutdown(one, SHUT_RDWR), 0);
	assert_int_equal(vmci_read(two, buf, sizeof(buf)), 0);
	close(one);
	close(two);
	close(listener);
}

static void test_datagrams(void **state)
{
	int a = bound(SOCK_DGRAM, 5000), b = vmci_socket(AF_VSOCK, SOCK_DGRAM, 0);
	struct sockaddr_vm to = address(VMADDR_CID_HOST, 5000), from;
	socklen_t len = sizeof(from);
	char buf[16] = "";

	(void)state;
	assert_int_equal(vmci_sendto(b, "hello", 6, 0, (struct sockaddr *)&to, sizeof(to)), 6);
	assert_int_equal(vmci_recvfrom(a, buf, sizeof(buf), 0, (struct sockaddr *)&from, &len), 6);
	assert_string_equal(buf, "hello");
	assert_int_equal(len, sizeof(from));
	assert_int_equal(from.svm_port, port_of(b));
	assert_int_equal(vmci_connect(a, (struct sockaddr *)&from, sizeof(from)), 0);
	assert_int_equal(vmci_write(a, "again", 6), 6);
	assert_int_equal(vmci_read(b, buf, sizeof(buf)), 6);
	assert_string_equal(buf, "again");
	close(a);
	close(b);
}

/* What is not ours is the C library's. */
static void test_other_families(void **state)
{
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct sockaddr_vm vm = address(VMADDR_CID_ANY, VMADDR_PORT_ANY);
	int fd = vmci_socket(AF_INET, SOCK_STREAM, 0), pair[2];
	socklen_t len = sizeof(in);
	char buf[8];

	(void)state;
	assert_int_equal(vmci_bind(fd, (struct sockaddr *)&in, sizeof(in)), 0);
	assert_int_equal(vmci_getsockname(fd, (struct sockaddr *)&in, &len), 0);
	assert_true(in.sin_port);
	errno = 0;
	assert_int_equal(vmci_bind(fd, (struct sockaddr *)&vm, sizeof(vm)), -1);
	assert_int_equal(errno, EINVAL);
	close(fd);
	assert_int_equal(vmci_socketpair(AF_UNIX, SOCK_DGRAM, 0, pair), 0);
	assert_int_equal(vmci_send(pair[0], "x", 1, 0), 1);
	assert_int_equal(vmci_recv(pair[1], buf, sizeof(buf), 0), 1);
	close(pair[0]);
	close(pair[1]);
	assert_int_equal(vmci_getsockname(-1, (struct sockaddr *)&in, &len), -1);
	assert_int_equal(errno, EBADF);
	assert_int_equal(vmci_socketpair(AF_VSOCK, SOCK_STREAM, 0, pair), -1);
	assert_int_equal(errno, EOPNOTSUPP);
}

static void *talk(void *arg)
{
	unsigned port = *(unsigned *)arg;
	char buf[8];

	for (unsigned i = 0; i < 50; i++) {
		int fd = connected(port);

		assert_int_equal(write(fd, "x", 1), 1);
		assert_int_equal(read(fd, buf, 1), 1);
		close(fd);
	}
	return NULL;
}

/* All of them share the one spare connection to vmcid, or make their own. */
static void test_threads_and_forks(void **state)
{
	int listener = bound(SOCK_STREAM, VMADDR_PORT_ANY);
	unsigned port = port_of(listener);
	pthread_t threads[4];
	pid_t children[4];
	int status;

	(void)state;
	assert_int_equal(listen(listener, 64), 0);
	for (unsigned i = 0; i < 4; i++) {
		pthread_create(&threads[i], NULL, talk, &port);
		children[i] = fork();
		if (!children[i]) {
			talk(&port);
			_exit(0);
		}
	}
	for (unsigned i = 0; i < 8 * 50; i++) {
		int fd = vmci_accept(listener, NULL, NULL);
		char c;

		assert_true(fd >= 0);
		assert_int_equal(read(fd, &c, 1), 1);
		assert_int_equal(write(fd, &c, 1), 1);
		close(fd);
	}
	for (unsigned i = 0; i < 4; i++) {
		pthread_join(threads[i], NULL);
		assert_int_equal(waitpid(children[i], &status, 0), children[i]);
		assert_int_equal(status, 0);
	}
	close(listener);
}

/* Signals arrive amid everything, and their handler does the same. */
static unsigned busy_port;
static volatile sig_atomic_t handled;

static void on_alarm(int sig)
{
	struct sockaddr_vm to = address(VMADDR_CID_HOST, busy_port);
	int saved = errno, fd = vmci_socket(AF_VSOCK, SOCK_STREAM, 0);

	(void)sig;
	if (fd >= 0) {
		vmci_connect(fd, (struct sockaddr *)&to, sizeof(to));
		close(fd);
		handled++;
	}
	errno = saved;
}

static void test_signal_handlers(void **state)
{
	int listener = bound(SOCK_STREAM, VMADDR_PORT_ANY);
	struct itimerval often = { { 0, 1000 }, { 0, 1000 } }, never = { { 0, 0 }, { 0, 0 } };
	struct sigaction action = { .sa_handler = on_alarm }, before;

	(void)state;
	busy_port = 4999; /* refused */
	assert_int_equal(listen(listener, 64), 0);
	sigaction(SIGALRM, &action, &before);
	setitimer(ITIMER_REAL, &often, NULL);
	for (unsigned i = 0; i < 20000 && handled < 100; i++) {
		int fd = connected(port_of(listener)), two;

		do
			two = vmci_accept(listener, NULL, NULL);
		while (two < 0 && errno == EINTR);
		assert_true(two >= 0);
		close(fd);
		close(two);
	}
	setitimer(ITIMER_REAL, &never, NULL);
	sigaction(SIGALRM, &before, NULL);
	assert_true(handled >= 100);
	close(listener);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_streams),		cmocka_unit_test(test_datagrams),
		cmocka_unit_test(test_other_families),	cmocka_unit_test(test_threads_and_forks),
		cmocka_unit_test(test_signal_handlers),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
