/* SPDX-License-Identifier: BSD-2-Clause */
/* The calls of a program, with a vmcid that the test plays; and who is at the other end of a stream. */
#include "rig.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "fabric/stream.h"

static struct fab_client *client;
static int vmcid = -1;

static int setup(void **state)
{
	int fd[2];

	(void)state;
	rig_pair(0, fd);
	vmcid = fd[0];
	return fab_client_new(fd[1], &client);
}

static int teardown(void **state)
{
	(void)state;
	fd_close(&vmcid);
	client = fab_client_free(client);
	return 0;
}

static void reply(enum fab_type type, uint32_t serial, int32_t status, struct vmci_handle handle)
{
	struct fab_msg msg = { .type = type, .kind = FAB_REPLY, .serial = serial, .status = status };

	if (status >= 0)
		msg.handle = handle;
	assert_int_equal(fab_send(vmcid, &msg), 0);
}

static struct fab_msg heard(void)
{
	static uint8_t buf[FAB_MSG_MAX];
	struct fab_msg msg;

	assert_int_equal(fab_recv(vmcid, buf, &msg), 0);
	return msg;
}

static void test_calls(void **state)
{
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	uint32_t context = 0, port = 0;
	struct fab_msg msg;

	(void)state;
	reply(FAB_STREAM_BIND, 1, 0, handle_make(2, 4000));
	assert_int_equal(fab_stream_bind(client, fd, VMCI_INVALID_ID, 1000, &port), 0);
	assert_int_equal(port, 4000);
	msg = heard();
	assert_int_equal(msg.handle.context, VMCI_INVALID_ID);
	assert_int_equal(msg.handle.resource, VMCI_INVALID_ID);
	assert_int_equal(msg.n_fds, 1);
	fab_drop(&msg);

	reply(FAB_STREAM_CONNECT, 2, 0, handle_make(2, 4001));
	assert_int_equal(fab_stream_connect(client, fd, 7, handle_make(42, 22), 1500, &port), 0);
	assert_int_equal(port, 4001);
	msg = heard();
	assert_int_equal(msg.handle.resource, 7);
	assert_int_equal(msg.other.context, 42);
	assert_int_equal(msg.other.resource, 22);
	assert_int_equal(msg.size0, 1500);
	fab_drop(&msg);

	reply(FAB_STREAM_CONNECT, 3, VMCI_ERROR_WOULD_BLOCK, handle_make(0, 0));
	assert_int_equal(fab_stream_connect(client, fd, 7, handle_make(42, 22), 0, &port), VMCI_ERROR_WOULD_BLOCK);
	assert_int_equal(port, 4001);
	msg = heard();
	fab_drop(&msg);
	assert_int_equal(fab_stream_bind(client, -1, 1, 1000, &port), VMCI_ERROR_INVALID_ARGS);
	assert_true(fab_client_is_alive(client));

	reply(FAB_STREAM_BIND, 5, 0, handle_make(2, 1));	/* to nothing: broken */
	assert_int_equal(fab_stream_bind(client, fd, 1, 1000, &port), VMCI_ERROR_UNAVAILABLE);
	assert_false(fab_client_is_alive(client));
	assert_int_equal(fab_stream_hello(client, 2, "x", 1000, &context), VMCI_ERROR_UNAVAILABLE);
	close(fd);
}

static socklen_t path_of(struct sockaddr_un *sun, const char *dir, unsigned port)
{
	*sun = (struct sockaddr_un){ .sun_family = AF_UNIX };
	assert_true(snprintf(sun->sun_path, sizeof(sun->sun_path), "%s/port/2/%u", dir, port) > 0);
	return sizeof(*sun);
}

static void test_peer(void **state)
{
	char dir[] = "/tmp/test-streamXXXXXX", path[64];
	const struct fab_address self = {
		.kind = FAB_ADDRESS_PROGRAM, .context = 77, .port = 1500, .uid = 4711, .gid = 4712, .pid = 4713,
	};
	int listener = socket(AF_UNIX, SOCK_STREAM, 0), fd = socket(AF_UNIX, SOCK_STREAM, 0), accepted, pair[2];
	struct fab_address found = { 0 };
	struct sockaddr_un sun, name;
	socklen_t len;

	(void)state;
	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/port", dir);
	assert_int_equal(mkdir(path, 0700), 0);
	snprintf(path, sizeof(path), "%s/port/2", dir);
	assert_int_equal(mkdir(path, 0700), 0);
	len = path_of(&sun, dir, 5000);
	assert_int_equal(bind(listener, (struct sockaddr *)&sun, len), 0);
	assert_int_equal(listen(listener, 1), 0);
	len = fab_address_build(&self, 99, &name);
	assert_int_equal(bind(fd, (struct sockaddr *)&name, len), 0);
	assert_int_equal(fab_stream_peer(fd, getuid(), &found), -ENOTCONN);
	assert_int_equal(connect(fd, (struct sockaddr *)&sun, sizeof(sun)), 0);
	accepted = accept(listener, NULL, NULL);

	/* Who accepted: the name counts if vmcid's user connected. */
	assert_int_equal(fab_stream_peer(accepted, getuid(), &found), 0);
	assert_int_equal(found.context, 77);
	assert_int_equal(found.port, 1500);
	assert_int_equal(found.uid, 4711);
	assert_int_equal(found.gid, 4712);
	assert_int_equal(found.pid, 4713);
	assert_int_equal(fab_stream_peer(accepted, getuid() + 1, &found), -EPERM);
	/* Who connected: the kernel says who listens. */
	assert_int_equal(fab_stream_peer(fd, getuid() + 1, &found), 0);
	assert_int_equal(found.kind, FAB_ADDRESS_PORT);
	assert_int_equal(found.context, 2);
	assert_int_equal(found.port, 5000);
	assert_int_equal(found.uid, getuid());
	assert_int_equal(found.pid, getpid());

	assert_int_equal(fab_stream_self(accepted, &found), 0);
	assert_int_equal(found.port, 5000);
	assert_int_equal(fab_stream_self(fd, &found), 0);
	assert_int_equal(found.port, 1500);

	/* No streams of the fabric. */
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	assert_int_equal(fab_stream_peer(pair[0], getuid(), &found), -EINVAL);
	assert_int_equal(fab_stream_self(pair[0], &found), -EINVAL);
	assert_int_equal(fab_stream_peer(-1, getuid(), &found), -EBADF);
	close(pair[0]);
	close(pair[1]);
	close(accepted);
	close(fd);
	close(listener);
	unlink(sun.sun_path);
	rmdir(path);
	snprintf(path, sizeof(path), "%s/port", dir);
	rmdir(path);
	rmdir(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_calls, setup, teardown),
		cmocka_unit_test(test_peer),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
