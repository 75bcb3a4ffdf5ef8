/* SPDX-License-Identifier: BSD-2-Clause */
/* What a listener sees of who connects, and what others who have the socket can do about it between two steps. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmcid/port.h"

#define LISTENER 5000u
#define TAKEN 9000u

static char base[64];
static struct rundir rundir;
static struct ports *ports;
static int listener;

static const struct fab_address me = {
	.kind = FAB_ADDRESS_PROGRAM,
	.context = 2,
	.port = VMCI_PORT_ANY,
	.uid = 4711,
	.gid = 4712,
	.pid = 4713,
};

static void on_alarm(int sig)
{
	(void)sig;
}

static int bound(uint32_t port)
{
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	assert_int_equal(ports_bind(ports, fd, 0, true, 2, &port), 0);
	assert_int_equal(listen(fd, 8), 0);
	return fd;
}

static int setup(void **state)
{
	struct sigaction action = { .sa_handler = on_alarm };
	char name[96];

	(void)state;
	sigaction(SIGALRM, &action, NULL);
	strcpy(base, "/tmp/test-port-XXXXXX");
	assert_non_null(mkdtemp(base));
	snprintf(name, sizeof(name), "%s/" FAB_PORT_FOLDER, base);
	assert_int_equal(mkdir(name, 0700), 0);
	rundir = (struct rundir){ .path = base, .fd = open(base, O_RDONLY | O_DIRECTORY | O_CLOEXEC), .lock = -1 };
	assert_true(rundir.fd >= 0);
	assert_int_equal(ports_new(&rundir, &ports), 0);
	listener = bound(LISTENER);
	assert_int_equal(fcntl(listener, F_SETFL, O_NONBLOCK), 0);
	return 0;
}

static int teardown(void **state)
{
	char command[128];

	(void)state;
	close(listener);
	ports_free(ports);
	close(rundir.fd);
	snprintf(command, sizeof(command), "rm -rf %s", base);
	return system(command) ? -1 : 0;
}

static void bind_as(int fd, const struct fab_address *who)
{
	struct sockaddr_un sun;
	socklen_t len = fab_address_build(who, 7, &sun);

	assert_int_equal(bind(fd, (const struct sockaddr *)&sun, len), 0);
}

static void assert_nobody_came(void)
{
	assert_int_equal(accept(listener, NULL, NULL), -1);
}

static struct fab_address who_came(void)
{
	struct sockaddr_un sun;
	socklen_t len = sizeof(sun);
	struct fab_address who;
	int fd = accept(listener, (struct sockaddr *)&sun, &len);

	assert_true(fd >= 0);
	assert_int_equal(fab_address_parse(&sun, len, &who), 0);
	close(fd);
	return who;
}

static void assert_is(const struct fab_address *who, const struct fab_address *expected)
{
	assert_int_equal(who->kind, expected->kind);
	assert_int_equal(who->context, expected->context);
	assert_int_equal(who->port, expected->port);
	assert_int_equal(who->uid, expected->uid);
	assert_int_equal(who->gid, expected->gid);
	assert_int_equal(who->pid, expected->pid);
}

static void test_named(void **state)
{
	struct fab_address self = me, who;
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	(void)state;
	assert_int_equal(ports_source(ports, fd, &self), 0);
	assert_int_not_equal(self.port, VMCI_PORT_ANY);
	assert_int_equal(ports_connect(ports, fd, &self, 2, LISTENER), 0);
	who = who_came();
	assert_is(&who, &self);
	close(fd);
}

/* Bound to a lie after ports_source() has found it without a name: each part of it is looked at again. */
static void test_bound_in_between(void **state)
{
	static const struct fab_address lies[] = {
		{ .kind = FAB_ADDRESS_PROGRAM, .context = 2, .port = 22, .pid = 1 },
		{ .kind = FAB_ADDRESS_PROGRAM, .context = 3, .port = 2000, .uid = 4711, .gid = 4712, .pid = 4713 },
		{ .kind = FAB_ADDRESS_PROGRAM, .context = 2, .port = 2000, .uid = 0, .gid = 4712, .pid = 4713 },
		{ .kind = FAB_ADDRESS_PROGRAM, .context = 2, .port = 2000, .uid = 4711, .gid = 0, .pid = 4713 },
		{ .kind = FAB_ADDRESS_PROGRAM, .context = 2, .port = 2000, .uid = 4711, .gid = 4712, .pid = 1 },
		{ .kind = FAB_ADDRESS_PROGRAM, .context = 2, .port = 22, .uid = 4711, .gid = 4712, .pid = 4713 },
		{ .kind = FAB_ADDRESS_VM, .context = 2, .port = 2000, .vm = "guest" },
	};
	struct fab_address self;
	int end = -1, fd;

	(void)state;
	for (unsigned i = 0; i < 2 * sizeof(lies) / sizeof(*lies); i++) {
		fd = socket(AF_UNIX, SOCK_STREAM, 0);
		self = me;
		self.port = 2000;
		assert_int_equal(ports_source(ports, fd, &self), 0);
		bind_as(fd, &lies[i / 2]);
		if (i % 2)
			assert_int_equal(ports_join(ports, fd, &self, 42, 80, &end), VMCI_ERROR_INVALID_ARGS);
		else
			assert_int_equal(ports_connect(ports, fd, &self, 2, LISTENER), VMCI_ERROR_INVALID_ARGS);
		close(fd);
	}
	assert_int_equal(end, -1);
	assert_nobody_came();
}

/* The truth is no harm, whoever says it. */
static void test_bound_to_the_truth(void **state)
{
	struct fab_address self = me, who;
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	(void)state;
	assert_int_equal(ports_source(ports, fd, &self), 0);
	bind_as(fd, &self);
	assert_int_equal(ports_connect(ports, fd, &self, 2, LISTENER), 0);
	who = who_came();
	assert_is(&who, &self);
	close(fd);
}

/* A source port at which somebody listens is taken, for him who has bound his socket himself, too. */
static void test_source_that_is_taken(void **state)
{
	struct fab_address self = me, named = me;
	int taken = bound(TAKEN), fd = socket(AF_UNIX, SOCK_STREAM, 0);

	(void)state;
	self.port = TAKEN;
	assert_int_equal(ports_source(ports, fd, &self), VMCI_ERROR_ALREADY_EXISTS);
	named.port = TAKEN;
	bind_as(fd, &named);
	self = me;
	assert_int_equal(ports_source(ports, fd, &self), VMCI_ERROR_ALREADY_EXISTS);
	close(taken);
	self = me;
	assert_int_equal(ports_source(ports, fd, &self), 0);
	assert_int_equal(self.port, TAKEN);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_named, setup, teardown),
		cmocka_unit_test_setup_teardown(test_bound_in_between, setup, teardown),
		cmocka_unit_test_setup_teardown(test_bound_to_the_truth, setup, teardown),
		cmocka_unit_test_setup_teardown(test_source_that_is_taken, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
