/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Shared memory of a guest: a window that is a file, sockets of our own (no AF_VSOCK socket is opened here), and a
 * service that is called from inside send.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "lib/guest.h"
#include "lib/lib.h"
#include "proto/share.h"

#define CID 42u
#define SOCKETS_MAX 64u
#define WINDOW 65536u
#define HELD_MAX 8u

static const struct vmci_handle service = { VMCI_CID_WELL_KNOWN, VMCI_RID_SHM };

static struct rig {
	char dir[64];
	char device[96];
	struct guest *guest;
	struct {
		int here, there;
		uint32_t port;
	} sockets[SOCKETS_MAX];
	unsigned n_sockets;
	uint32_t next_port;
	unsigned lost;			/* questions that do not arrive */
	int send_error;
	/* What the service has given, and to which port. */
	struct {
		uint32_t port;
		uint64_t id;
		struct vmci_handle handle;
	} held[HELD_MAX];
	unsigned n_held;
	uint64_t offset;		/* of the next region */
	uint64_t bytes;
	int32_t code;			/* what else is answered, once */
	unsigned asked[SHARE_ACTION_NUM];
	uint32_t next_rid;
} rig;

static int fake_cid(uint32_t *ret_cid)
{
	*ret_cid = CID;
	return 0;
}

static bool is_open(uint32_t port)
{
	char c;

	/* The end that the endpoint has is closed when it is gone. */
	for (unsigned i = 0; i < rig.n_sockets; i++)
		if (rig.sockets[i].port == port && !(recv(rig.sockets[i].there, &c, 1, MSG_PEEK | MSG_DONTWAIT) < 0 &&
						      errno == ECONNRESET) &&
		    send(rig.sockets[i].there, "", 0, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0)
			return true;
	return false;
}

static int fake_bind(uint32_t port, uint32_t *ret_port)
{
	int pair[2];

	if (port != VMCI_PORT_ANY && is_open(port))
		return -EADDRINUSE;
	assert_true(rig.n_sockets < SOCKETS_MAX);
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair), 0);
	rig.sockets[rig.n_sockets].here = pair[0];
	rig.sockets[rig.n_sockets].there = pair[1];
	rig.sockets[rig.n_sockets].port = port == VMCI_PORT_ANY ? rig.next_port++ : port;
	*ret_port = rig.sockets[rig.n_sockets++].port;
	return pair[0];
}

static void arrive(unsigned i, struct vmci_handle src, const void *data, size_t size)
{
	uint8_t packet[8 + SHARE_REPLY_MAX];

	handle_put(packet, src);
	memcpy(packet + 8, data, size);
	assert_int_equal(send(rig.sockets[i].there, packet, 8 + size, MSG_DONTWAIT), 8 + size);
}

static void drop(unsigned i)
{
	rig.held[i] = rig.held[--rig.n_held];
}

static void serve(unsigned i, const struct share_request *request)
{
	static struct share_reply reply;
	uint8_t buf[SHARE_REPLY_MAX];
	uint32_t port = rig.sockets[i].port;

	assert_int_equal(request->version, SHARE_VERSION);
	assert_true(request->action < SHARE_ACTION_NUM);
	rig.asked[request->action]++;
	memset(&reply, 0, sizeof(reply));
	reply.action = request->action;
	reply.id = request->id;
	reply.handle = request->handle;
	reply.offset = rig.offset;
	reply.bytes = request->action == SHARE_CREATE ? request->bytes : rig.bytes;
	if (rig.code && request->action <= SHARE_ATTACH) {
		reply.code = rig.code;
		rig.code = 0;
	} else if (request->action == SHARE_CREATE || request->action == SHARE_ATTACH) {
		if (request->action == SHARE_CREATE && request->handle.resource == VMCI_INVALID_ID)
			reply.handle.resource = rig.next_rid++;
		if (rig.n_held == HELD_MAX) {
			reply.code = VMCI_ERROR_NO_RESOURCES;
		} else {
			rig.held[rig.n_held].port = port;
			rig.held[rig.n_held].id = request->id;
			rig.held[rig.n_held++].handle = reply.handle;
		}
	} else if (request->action == SHARE_DETACH) {
		reply.code = VMCI_ERROR_NOT_FOUND;
		for (unsigned k = 0; k < rig.n_held; k++)
			if (rig.held[k].port == port && (!handle_is_valid(request->handle) ||
							  handle_is_equal(rig.held[k].handle, request->handle))) {
				drop(k);
				reply.code = VMCI_SUCCESS_LAST_DETACH;
				break;
			}
	} else if (request->action == SHARE_OWNERS) {
		reply.bytes = 0;
		for (unsigned k = 0; k < rig.n_held; k++)
			reply.port[reply.n_ports++] = rig.held[k].port;
	}
	/* Answers to others, and of others. */
	reply.id++;
	arrive(i, service, buf, share_reply_build(buf, &reply));
	reply.id--;
	arrive(i, handle_make(CID, 3), buf, share_reply_build(buf, &reply));
	arrive(i, service, "short", 5);
	arrive(i, service, buf, share_reply_build(buf, &reply));
}

static ssize_t fake_send(int fd, struct vmci_handle dst, const void *data, size_t size)
{
	struct share_request request;

	if (rig.send_error)
		return -rig.send_error;
	assert_true(handle_is_equal(dst, service));
	if (rig.lost) {
		rig.lost--;
		return (ssize_t)size;
	}
	for (unsigned n = rig.n_sockets; n > 0; n--)
		if (rig.sockets[n - 1].here == fd) {
			assert_int_equal(share_request_parse(data, size, &request), 0);
			serve(n - 1, &request);
			return (ssize_t)size;
		}
	fail();
	return 0;
}

static ssize_t fake_recv(int fd, void *buf, size_t size, int flags, struct vmci_handle *ret_src, bool *ret_cut)
{
	uint8_t src[8];
	struct iovec iov[] = { { src, sizeof(src) }, { buf, size } };
	struct msghdr msg = { .msg_iov = iov, .msg_iovlen = 2 };
	ssize_t n;

	/* The looks of is_open() are nothing. */
	do
		n = recvmsg(fd, &msg, flags);
	while (n == 0);
	if (n < 0)
		return -errno;
	*ret_src = handle_get(src);
	*ret_cut = msg.msg_flags & MSG_TRUNC;
	return n - 8;
}

static struct guest_ports ports = {
	.name = "fake",
	.pci_devices = rig.dir,
	.cid = fake_cid,
	.bind = fake_bind,
	.send = fake_send,
	.recv = fake_recv,
};

static void put_file(const char *name, const char *text)
{
	char path[128];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", rig.device, name);
	f = fopen(path, "w");
	assert_non_null(f);
	fputs(text, f);
	fclose(f);
}

static void window(off_t size, mode_t mode)
{
	char path[128];

	put_file("resource3", "");
	snprintf(path, sizeof(path), "%s/resource3", rig.device);
	assert_int_equal(truncate(path, size), 0);
	assert_int_equal(chmod(path, mode), 0);
}

static int set_up(void **state)
{
	char link[128];

	(void)state;
	memset(&rig, 0, sizeof(rig));
	strcpy(rig.dir, "/tmp/test-guest-shm-XXXXXX");
	assert_non_null(mkdtemp(rig.dir));
	snprintf(rig.device, sizeof(rig.device), "%s/0000:00:07.0", rig.dir);
	assert_int_equal(mkdir(rig.device, 0755), 0);
	put_file("vendor", "0x15ad\n");
	put_file("device", "0x0740\n");
	snprintf(link, sizeof(link), "%s/driver", rig.device);
	assert_int_equal(symlink("../../drivers/vmw_vmci", link), 0);
	window(WINDOW, 0600);
	rig.next_port = 1024;
	rig.next_rid = 5000;
	rig.bytes = 128;
	return guest_open(&ports, &rig.guest);
}

static int tear_down(void **state)
{
	char command[96];

	(void)state;
	rig.guest = guest_close(rig.guest);
	for (unsigned i = 0; i < rig.n_sockets; i++)
		fd_close(&rig.sockets[i].there);
	snprintf(command, sizeof(command), "rm -rf '%s'", rig.dir);
	return system(command);
}

static char *file_at(uint64_t offset)
{
	static char text[64];
	char path[128];
	int fd;

	snprintf(path, sizeof(path), "%s/resource3", rig.device);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	assert_true(pread(fd, text, sizeof(text) - 1, (off_t)offset) > 0);
	close(fd);
	return text;
}

static void test_create_and_detach(void **state)
{
	struct guest_shm shm = { .fd = -1 }, other = { .fd = -1 };
	uint64_t size;

	(void)state;
	rig.offset = 8192;
	assert_int_equal(guest_shm_create(rig.guest, VMCI_INVALID_ID, 5000, &shm), 0);
	assert_int_equal(shm.handle.context, CID);
	assert_int_equal(shm.handle.resource, 5000);
	assert_int_equal(shm.size, 5000);
	strcpy(shm.map, "hello");
	assert_string_equal(file_at(8192), "hello");
	assert_int_equal(guest_shm_attach(rig.guest, shm.handle, &other), VMCI_ERROR_ALREADY_EXISTS);
	rig.bytes = 77;
	assert_int_equal(guest_shm_query(rig.guest, shm.handle, &size), 0);
	assert_int_equal(size, 77);
	assert_int_equal(rig.n_held, 1);
	assert_int_equal(guest_shm_detach(rig.guest, &shm, false), VMCI_SUCCESS_LAST_DETACH);
	assert_int_equal(rig.n_held, 0);
	assert_int_equal(shm.fd, -1);
	assert_int_equal(guest_shm_attach(rig.guest, shm.handle, &other), 0);
	assert_int_equal(other.size, 77);
	/* A child unmaps, and says nothing. */
	assert_int_equal(guest_shm_detach(rig.guest, &other, true), VMCI_SUCCESS);
	assert_int_equal(rig.n_held, 1);
}

static void test_a_wished_id(void **state)
{
	struct guest_shm shm;

	(void)state;
	assert_int_equal(guest_shm_create(rig.guest, 1234, 1, &shm), 0);
	assert_int_equal(shm.handle.resource, 1234);
	guest_shm_detach(rig.guest, &shm, false);
}

/* What the service says must lie in the window. */
static void test_places_that_are_none(void **state)
{
	static const struct {
		uint64_t offset, bytes;
	} wrong[] = {
		{ 0, 0 }, { 0, WINDOW + 1 }, { WINDOW, 1 }, { WINDOW - 4096, 4097 }, { 1, 1 }, { 0, UINT64_MAX },
		{ 4096, UINT64_MAX - 4096 }, { UINT64_MAX - 4095, 4096 }, { 1ull << 63, 1 },
	};
	struct guest_shm shm;

	(void)state;
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		rig.offset = wrong[i].offset;
		rig.bytes = wrong[i].bytes;
		assert_int_equal(guest_shm_attach(rig.guest, handle_make(2, 7), &shm), VMCI_ERROR_UNAVAILABLE);
		assert_int_equal(rig.n_held, 0);
	}
	rig.offset = WINDOW - 4096;
	rig.bytes = 4096;
	assert_int_equal(guest_shm_attach(rig.guest, handle_make(2, 7), &shm), 0);
	guest_shm_detach(rig.guest, &shm, false);
}

static void test_no_window(void **state)
{
	struct guest_shm shm;
	char path[128];

	(void)state;
	snprintf(path, sizeof(path), "%s/resource3", rig.device);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(guest_shm_create(rig.guest, VMCI_INVALID_ID, 1, &shm), VMCI_ERROR_UNAVAILABLE);
	assert_non_null(strstr(vmci_errmsg(), "openvmci.window"));
	assert_int_equal(rig.asked[SHARE_CREATE], 0);
	window(0, 0600);
	assert_int_equal(guest_shm_attach(rig.guest, handle_make(2, 7), &shm), VMCI_ERROR_UNAVAILABLE);
	/* Its size is not a matter of the window. */
	assert_int_equal(guest_shm_query(rig.guest, handle_make(2, 7), &(uint64_t){ 0 }), 0);
	unlink(path);
	snprintf(path, sizeof(path), "%s/driver", rig.device);
	unlink(path);
	assert_int_equal(guest_shm_create(rig.guest, VMCI_INVALID_ID, 1, &shm), VMCI_ERROR_UNAVAILABLE);
}

static void test_a_window_that_is_not_ours(void **state)
{
	struct guest_shm shm;

	(void)state;
	if (geteuid()) {
		window(WINDOW, 0000);
		assert_int_equal(guest_shm_create(rig.guest, VMCI_INVALID_ID, 1, &shm), VMCI_ERROR_NO_ACCESS);
		return;
	}
	window(WINDOW, 0600);
	assert_int_equal(chmod(rig.dir, 0755), 0);
	assert_int_equal(seteuid(65534), 0);
	assert_int_equal(guest_shm_create(rig.guest, VMCI_INVALID_ID, 1, &shm), VMCI_ERROR_NO_ACCESS);
	assert_int_equal(seteuid(0), 0);
	assert_non_null(strstr(vmci_errmsg(), "root"));
}

static void test_errors_of_the_service(void **state)
{
	static const int32_t codes[] = { VMCI_ERROR_NO_ACCESS, VMCI_ERROR_NOT_FOUND, VMCI_ERROR_UNAVAILABLE,
					 VMCI_ERROR_DST_UNREACHABLE, VMCI_ERROR_INVALID_SIZE };
	struct guest_shm shm;
	uint64_t size = 5;

	(void)state;
	for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++) {
		rig.code = codes[i];
		assert_int_equal(guest_shm_attach(rig.guest, handle_make(2, 7), &shm), codes[i]);
		rig.code = codes[i];
		assert_int_equal(guest_shm_create(rig.guest, VMCI_INVALID_ID, 1, &shm), codes[i]);
		rig.code = codes[i];
		assert_int_equal(guest_shm_query(rig.guest, handle_make(2, 7), &size), codes[i]);
	}
	assert_int_equal(size, 5);
	/* A host that has no such service. */
	rig.send_error = EHOSTUNREACH;
	assert_int_equal(guest_shm_query(rig.guest, handle_make(2, 7), &size), VMCI_ERROR_UNAVAILABLE);
	rig.send_error = EINVAL;
	assert_int_equal(guest_shm_query(rig.guest, handle_make(2, 7), &size), VMCI_ERROR_UNAVAILABLE);
}

static void test_lost_questions(void **state)
{
	struct guest_shm shm;

	(void)state;
	rig.lost = 1;
	assert_int_equal(guest_shm_attach(rig.guest, handle_make(2, 7), &shm), 0);
	assert_int_equal(rig.n_held, 1);
	rig.lost = 2;
	assert_int_equal(guest_shm_detach(rig.guest, &shm, false), VMCI_SUCCESS_LAST_DETACH);
}

static void test_what_the_dead_have_left(void **state)
{
	struct guest_shm shm[HELD_MAX], more;
	uint32_t port;
	int alive;

	(void)state;
	/* One that has gone, one that lives: in another process, but that is all the same. */
	alive = fake_bind(VMCI_PORT_ANY, &port);
	rig.held[rig.n_held].handle = handle_make(2, 100);
	rig.held[rig.n_held++].port = port;
	rig.held[rig.n_held].handle = handle_make(2, 101);
	rig.held[rig.n_held++].port = 7777;
	/* Ports that the service should not have. */
	rig.held[rig.n_held++].port = 0;
	rig.held[rig.n_held++].port = VMCI_INVALID_ID;
	assert_int_equal(guest_shm_attach(rig.guest, handle_make(2, 7), &shm[0]), 0);
	assert_int_equal(rig.n_held, 4);
	for (unsigned i = 0; i < rig.n_held; i++)
		assert_int_not_equal(rig.held[i].port, 7777);
	/* Not each time. */
	rig.n_held -= 3;
	rig.held[0].port = port;
	assert_int_equal(rig.asked[SHARE_OWNERS], 1);
	for (unsigned i = 1; i < HELD_MAX - 1; i++)
		assert_int_equal(guest_shm_attach(rig.guest, handle_make(2, 7 + i), &shm[i]), 0);
	assert_int_equal(rig.asked[SHARE_OWNERS], 1);
	/* But when there is no room. */
	assert_int_equal(rig.n_held, HELD_MAX - 1);
	rig.held[rig.n_held++].port = 7778;
	assert_int_equal(guest_shm_attach(rig.guest, handle_make(2, 99), &more), 0);
	assert_int_equal(rig.asked[SHARE_OWNERS], 2);
	guest_shm_detach(rig.guest, &more, false);
	rig.held[0].port = port;
	close(alive);
	for (unsigned i = 1; i < HELD_MAX - 1; i++)
		guest_shm_detach(rig.guest, &shm[i], false);
	guest_shm_detach(rig.guest, &shm[0], false);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		T(test_create_and_detach),
		T(test_a_wished_id),
		T(test_places_that_are_none),
		T(test_no_window),
		T(test_a_window_that_is_not_ours),
		T(test_errors_of_the_service),
		T(test_lost_questions),
		T(test_what_the_dead_have_left),
	};

	return cmocka_run_group_tests_name("shared memory in a guest", tests, NULL, NULL);
}
