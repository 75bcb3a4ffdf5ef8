/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Membership of a guest, over sockets of our own: no AF_VSOCK socket is opened here. The discovery service is a
 * function that is called from inside send.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "lib/guest.h"
#include "lib/lib.h"

#define CID 42u
#define SOCKETS_MAX 16

static const struct vmci_handle service_handle = { VMCI_CID_WELL_KNOWN, VMCI_RID_DISCOVERY };

/* ----- a kernel */

static struct kernel {
	char dir[64];			/* of PCI devices */
	uint32_t cid;
	int cid_error, bind_error, send_error;
	unsigned cid_calls, bind_calls, sends;
	uint32_t next_port;
	struct {
		int here, there;	/* the endpoint's end, and the one that datagrams come from */
		uint32_t port;
	} sockets[SOCKETS_MAX];
	unsigned n_sockets;
	struct vmci_handle last_dst;
	size_t last_size;
} kernel;

/* what the discovery service does: called for each question, at the socket of that number */
static void (*service)(unsigned socket, const struct discovery_request *request, unsigned nth);
static unsigned asked;
static int32_t first_id, last_id;

static int fake_cid(uint32_t *ret_cid)
{
	kernel.cid_calls++;
	if (kernel.cid_error)
		return -kernel.cid_error;
	*ret_cid = kernel.cid;
	return 0;
}

static int fake_bind(uint32_t port, uint32_t *ret_port)
{
	int pair[2];

	kernel.bind_calls++;
	if (kernel.bind_error)
		return -kernel.bind_error;
	assert_true(kernel.n_sockets < SOCKETS_MAX);
	assert_int_equal(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair), 0);
	kernel.sockets[kernel.n_sockets].here = pair[0];
	kernel.sockets[kernel.n_sockets].there = pair[1];
	kernel.sockets[kernel.n_sockets].port = port == VMCI_PORT_ANY ? kernel.next_port++ : port;
	*ret_port = kernel.sockets[kernel.n_sockets++].port;
	return pair[0];
}

/* a datagram arrives at socket number @i */
static void arrive(unsigned i, struct vmci_handle src, const void *data, size_t size)
{
	uint8_t packet[8 + 512];

	assert_true(size <= sizeof(packet) - 8);
	handle_put(packet, src);
	memcpy(packet + 8, data, size);
	assert_int_equal(send(kernel.sockets[i].there, packet, 8 + size, MSG_DONTWAIT), 8 + size);
}

static ssize_t fake_send(int fd, struct vmci_handle dst, const void *data, size_t size)
{
	struct discovery_request request;

	kernel.sends++;
	kernel.last_dst = dst;
	kernel.last_size = size;
	if (kernel.send_error)
		return -kernel.send_error;
	if (handle_is_equal(dst, service_handle) && service) {
		unsigned i = 0;

		/* numbers are used again: the newest is it */
		for (unsigned n = 0; n < kernel.n_sockets; n++) {
			if (kernel.sockets[n].here == fd)
				i = n;
		}
		assert_int_equal(discovery_request_parse(data, size, &request), 0);
		assert_int_equal(size, 24 + request.name_size);
		if (!asked++)
			first_id = request.id;
		last_id = request.id;
		service(i, &request, asked);
	}
	return (ssize_t)size;
}

static ssize_t fake_recv(int fd, void *buf, size_t size, int flags, struct vmci_handle *ret_src, bool *ret_cut)
{
	uint8_t src[8];
	struct iovec iov[] = { { src, sizeof(src) }, { buf, size } };
	struct msghdr msg = { .msg_iov = iov, .msg_iovlen = 2 };
	ssize_t n = recvmsg(fd, &msg, flags);

	if (n < 0)
		return -errno;
	assert_true(n >= 8);
	*ret_src = handle_get(src);
	*ret_cut = msg.msg_flags & MSG_TRUNC;
	return n - 8;
}

static struct guest_ports ports = {
	.name = "fake",
	.pci_devices = kernel.dir,
	.cid = fake_cid,
	.bind = fake_bind,
	.send = fake_send,
	.recv = fake_recv,
};

static void put_file(const char *dir, const char *name, const char *text)
{
	char path[128];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	f = fopen(path, "w");
	assert_non_null(f);
	fputs(text, f);
	fclose(f);
}

static void add_device(const char *address, const char *vendor, const char *device, const char *driver)
{
	char dir[96], link[128], target[128];

	snprintf(dir, sizeof(dir), "%s/%s", kernel.dir, address);
	assert_int_equal(mkdir(dir, 0700), 0);
	if (vendor)
		put_file(dir, "vendor", vendor);
	if (device)
		put_file(dir, "device", device);
	if (driver) {
		snprintf(link, sizeof(link), "%s/driver", dir);
		snprintf(target, sizeof(target), "../../../../bus/pci/drivers/%s", driver);
		assert_int_equal(symlink(target, link), 0);
	}
}

static void remove_devices(void)
{
	char command[96];

	snprintf(command, sizeof(command), "rm -rf '%s'/*", kernel.dir);
	assert_int_equal(system(command), 0);
}

static void add_vmci(void)
{
	add_device("0000:00:07.0", "0x15ad\n", "0x0740\n", "vmw_vmci");
}

static int setup(void **state)
{
	(void)state;
	memset(&kernel, 0, sizeof(kernel));
	kernel.cid = CID;
	kernel.next_port = 1024;
	service = NULL;
	asked = 0;
	strcpy(kernel.dir, "/tmp/test-guest-XXXXXX");
	assert_non_null(mkdtemp(kernel.dir));
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	remove_devices();
	for (unsigned i = 0; i < kernel.n_sockets; i++)
		fd_close(&kernel.sockets[i].there);
	return rmdir(kernel.dir);
}

static struct guest *open_guest(void)
{
	struct guest *guest;

	add_vmci();
	assert_int_equal(guest_open(&ports, &guest), VMCI_SUCCESS);
	return guest;
}

/* has the other end of socket number @i been closed? */
static bool is_closed(unsigned i)
{
	return send(kernel.sockets[i].there, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 && errno == ECONNREFUSED;
}

static unsigned open_sockets(void)
{
	unsigned n = 0;

	for (unsigned i = 0; i < kernel.n_sockets; i++)
		n += !is_closed(i);
	return n;
}

/* ----- is it one? */

static void test_here(void **state)
{
	(void)state;
	assert_false(guest_is_here("/nonexistent"));
	assert_false(guest_is_here(kernel.dir));
	/* everything that is nearly one */
	add_device("0000:00:01.0", "0x15ad\n", "0x0740\n", NULL);
	add_device("0000:00:02.0", "0x15ad\n", "0x0740\n", "vfio-pci");
	add_device("0000:00:03.0", "0x15ad\n", "0x0790\n", "vmw_vmci");
	add_device("0000:00:04.0", "0x1af4\n", "0x0740\n", "vmw_vmci");
	add_device("0000:00:05.0", NULL, "0x0740\n", "vmw_vmci");
	add_device("0000:00:06.0", "0x15ad\n", NULL, "vmw_vmci");
	add_device("0000:00:08.0", "0x15ad1\n", "0x0740\n", "vmw_vmci");
	add_device("0000:00:09.0", "", "0x0740\n", "vmw_vmci");
	add_device("0000:00:0a.0", "0x15ad junk\n", "0x0740\n", "vmw_vmci");
	add_device("0000:00:0b.0", "0x15ad\n", "0x0740\n", "vmw_vmci2");
	assert_false(guest_is_here(kernel.dir));
	add_vmci();
	assert_true(guest_is_here(kernel.dir));
}

/* The driver may be ours. */
static void test_our_driver(void **state)
{
	(void)state;
	add_device("0000:00:02.0", "0x15ad\n", "0x0740\n", "vmci");
	assert_true(guest_is_here(kernel.dir));
}

static void test_open_fails_closed(void **state)
{
	struct guest *guest = NULL;

	(void)state;
	add_device("0000:00:02.0", "0x15ad\n", "0x0740\n", NULL);
	assert_int_equal(guest_open(&ports, &guest), VMCI_ERROR_DEVICE_NOT_FOUND);
	assert_non_null(strstr(vmci_errmsg(), kernel.dir));
	/* nobody has been asked for anything */
	assert_int_equal(kernel.cid_calls + kernel.bind_calls, 0);
	assert_null(guest);
}

static void test_open_without_sockets(void **state)
{
	static const uint32_t wrong[] = { 0, 1, 2, 15, VMCI_INVALID_ID };
	struct guest *guest = NULL;

	(void)state;
	add_vmci();
	kernel.cid_error = ENOENT;
	assert_int_equal(guest_open(&ports, &guest), VMCI_ERROR_DEVICE_NOT_FOUND);
	kernel.cid_error = 0;
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		kernel.cid = wrong[i];
		assert_int_equal(guest_open(&ports, &guest), VMCI_ERROR_DEVICE_NOT_FOUND);
	}
	assert_int_equal(kernel.bind_calls, 0);
	kernel.cid = CID;
	kernel.bind_error = EAFNOSUPPORT;
	assert_int_equal(guest_open(&ports, &guest), VMCI_ERROR_DEVICE_NOT_FOUND);
	assert_null(guest);
}

static void test_open(void **state)
{
	struct guest *guest;

	(void)state;
	guest = open_guest();
	assert_int_equal(guest_cid(guest), CID);
	assert_int_equal(open_sockets(), 0);
	assert_null(guest_close(guest));
	assert_null(guest_close(NULL));
}

/* ----- sockets */

static void test_socket(void **state)
{
	static const struct {
		int error, code;
	} map[] = {
		{ EADDRINUSE, VMCI_ERROR_ALREADY_EXISTS },
		{ EACCES, VMCI_ERROR_NO_ACCESS },
		{ EMFILE, VMCI_ERROR_NO_RESOURCES },
		{ ENOBUFS, VMCI_ERROR_NO_RESOURCES },
		{ ENODEV, VMCI_ERROR_UNAVAILABLE },
	};
	struct guest *guest;
	uint32_t rid = 7;
	int fd;

	(void)state;
	guest = open_guest();
	fd = guest_socket(guest, VMCI_INVALID_ID, &rid);
	assert_true(fd >= 0);
	assert_true(rid >= VMCI_RID_FIRST_DYNAMIC);
	fd_close(&fd);
	fd = guest_socket(guest, 5000, &rid);
	assert_true(fd >= 0);
	assert_int_equal(rid, 5000);
	fd_close(&fd);

	/* events and stream control: socket reference, 11 */
	assert_int_equal(guest_socket(guest, 0, &rid), VMCI_ERROR_INVALID_ARGS);
	assert_int_equal(guest_socket(guest, 1, &rid), VMCI_ERROR_INVALID_ARGS);
	for (size_t i = 0; i < sizeof(map) / sizeof(map[0]); i++) {
		kernel.bind_error = map[i].error;
		assert_int_equal(guest_socket(guest, 5001, &rid), map[i].code);
	}
	assert_int_equal(rid, 5000);
	guest_close(guest);
}

/* The device may go while we are members: from then on AF_VSOCK may be somebody else's. */
static void test_socket_without_device(void **state)
{
	struct guest *guest;
	unsigned calls;
	uint32_t rid;

	(void)state;
	guest = open_guest();
	remove_devices();
	calls = kernel.bind_calls;
	assert_int_equal(guest_socket(guest, VMCI_INVALID_ID, &rid), VMCI_ERROR_UNAVAILABLE);
	assert_int_equal(guest_name(guest, DISCOVERY_UNREGISTER, "x", NULL), VMCI_ERROR_UNAVAILABLE);
	assert_int_equal(kernel.bind_calls, calls);
	guest_close(guest);
}

static void test_send(void **state)
{
	static const struct {
		int error, code;
	} map[] = {
		{ EHOSTUNREACH, VMCI_ERROR_INVALID_RESOURCE },
		{ EPERM, VMCI_ERROR_NO_ACCESS },
		{ ENOBUFS, VMCI_ERROR_NO_RESOURCES },
		{ EAGAIN, VMCI_ERROR_NO_RESOURCES },
		{ ENOMEM, VMCI_ERROR_NO_MEM },
		{ EMSGSIZE, VMCI_ERROR_INVALID_ARGS },
		{ ENODEV, VMCI_ERROR_UNAVAILABLE },
		{ EINVAL, VMCI_ERROR_DST_UNREACHABLE },
	};
	static uint8_t data[VMCI_DG_MAX_PAYLOAD + 1];
	const struct vmci_handle dst = { 2, 1234 }, any = { VMCI_INVALID_ID, 1234 };
	struct guest *guest;
	uint32_t rid;
	int fd;

	(void)state;
	guest = open_guest();
	fd = guest_socket(guest, VMCI_INVALID_ID, &rid);
	assert_int_equal(guest_send(guest, fd, dst, data, 5), 5);
	assert_true(handle_is_equal(kernel.last_dst, dst));
	assert_int_equal(guest_send(guest, fd, dst, data, 0), 0);
	assert_int_equal(guest_send(guest, fd, dst, data, VMCI_DG_MAX_PAYLOAD), VMCI_DG_MAX_PAYLOAD);
	assert_int_equal(kernel.last_size, VMCI_DG_MAX_PAYLOAD);
	assert_int_equal(kernel.sends, 3);
	assert_int_equal(guest_send(guest, fd, dst, data, sizeof(data)), VMCI_ERROR_INVALID_ARGS);
	assert_int_equal(guest_send(guest, fd, any, data, 1), VMCI_ERROR_DST_UNREACHABLE);
	assert_int_equal(kernel.sends, 3);
	for (size_t i = 0; i < sizeof(map) / sizeof(map[0]); i++) {
		kernel.send_error = map[i].error;
		assert_int_equal(guest_send(guest, fd, dst, data, 1), map[i].code);
	}
	fd_close(&fd);
	guest_close(guest);
}

static void test_recv(void **state)
{
	const struct vmci_handle a = { 2, 1234 }, b = { 7, 99 };
	struct vmci_handle src = { 3, 3 };
	struct guest *guest;
	char buf[16] = "";
	uint32_t rid;
	int fd;

	(void)state;
	guest = open_guest();
	fd = guest_socket(guest, VMCI_INVALID_ID, &rid);
	assert_int_equal(guest_recv(guest, fd, buf, sizeof(buf), &src), VMCI_ERROR_WOULD_BLOCK);
	arrive(kernel.n_sockets - 1, a, "four", 4);
	arrive(kernel.n_sockets - 1, b, "", 0);
	arrive(kernel.n_sockets - 1, b, "12345", 5);

	/* too small: it stays, and stays the first */
	assert_int_equal(guest_recv(guest, fd, buf, 3, &src), VMCI_ERROR_NO_MEM);
	assert_int_equal(guest_recv(guest, fd, NULL, 0, &src), VMCI_ERROR_NO_MEM);
	assert_int_equal(src.context, 3);
	assert_int_equal(guest_recv(guest, fd, buf, 4, &src), 4);
	assert_memory_equal(buf, "four", 4);
	assert_true(handle_is_equal(src, a));
	assert_int_equal(guest_recv(guest, fd, NULL, 0, &src), 0);
	assert_true(handle_is_equal(src, b));
	assert_int_equal(guest_recv(guest, fd, buf, sizeof(buf), NULL), 5);
	assert_int_equal(guest_recv(guest, fd, buf, sizeof(buf), &src), VMCI_ERROR_WOULD_BLOCK);
	fd_close(&fd);
	guest_close(guest);
}

/* ----- names */

static const struct vmci_handle found_handle = { 2, 4711 };

static void answer(unsigned socket, struct vmci_handle src, int32_t id, int32_t code, struct vmci_handle handle)
{
	const struct discovery_reply reply = { .id = id, .code = code, .handle = handle, .text = "", .text_size = 0 };
	uint8_t buf[DISCOVERY_REPLY_MAX];

	arrive(socket, src, buf, discovery_reply_build(buf, &reply));
}

static void serve_well(unsigned socket, const struct discovery_request *request, unsigned nth)
{
	(void)nth;
	if (request->name_size != 5 || memcmp(request->name, "known", 5))
		answer(socket, service_handle, request->id, VMCI_ERROR_NOT_FOUND, found_handle);
	else
		answer(socket, service_handle, request->id, VMCI_SUCCESS, found_handle);
}

static void test_name(void **state)
{
	struct vmci_handle handle = { 1, 2 };
	struct guest *guest;
	char name[257];
	int32_t before;

	(void)state;
	guest = open_guest();
	service = serve_well;
	assert_int_equal(guest_name(guest, DISCOVERY_LOOKUP, "unknown", &handle), VMCI_ERROR_NOT_FOUND);
	assert_int_equal(handle.resource, 2);
	assert_int_equal(guest_name(guest, DISCOVERY_LOOKUP, "known", &handle), VMCI_SUCCESS);
	assert_true(handle_is_equal(handle, found_handle));
	before = last_id;
	assert_int_equal(guest_name(guest, DISCOVERY_REGISTER, "known", &handle), VMCI_SUCCESS);
	assert_int_not_equal(last_id, before);
	assert_int_equal(guest_name(guest, DISCOVERY_UNREGISTER, "known", NULL), VMCI_SUCCESS);
	assert_int_equal(asked, 4);

	memset(name, 'x', sizeof(name));
	name[256] = '\0';
	assert_int_equal(guest_name(guest, DISCOVERY_LOOKUP, name, &handle), VMCI_ERROR_INVALID_ARGS);
	assert_int_equal(guest_name(guest, DISCOVERY_LOOKUP, "", &handle), VMCI_ERROR_INVALID_ARGS);
	assert_int_equal(asked, 4);
	name[255] = '\0';
	assert_int_equal(guest_name(guest, DISCOVERY_LOOKUP, name, &handle), VMCI_ERROR_NOT_FOUND);
	assert_int_equal(open_sockets(), 0);
	guest_close(guest);
}

/* Everything that is no answer to the question comes before the answer. */
static void serve_badly(unsigned socket, const struct discovery_request *request, unsigned nth)
{
	static const struct vmci_handle stranger = { 2, 1 }, neighbour = { 1, 2 }, wrong = { 6, 6 };
	uint8_t junk[400] = { 0 };

	(void)nth;
	answer(socket, stranger, request->id, VMCI_SUCCESS, wrong);
	answer(socket, neighbour, request->id, VMCI_SUCCESS, wrong);
	answer(socket, service_handle, request->id + 1, VMCI_SUCCESS, wrong);
	put_le32(junk, (uint32_t)request->id);
	arrive(socket, service_handle, junk, 0);
	arrive(socket, service_handle, junk, 8);
	arrive(socket, service_handle, junk, sizeof(junk));
	put_le32(junk + 16, 0x7fffffff);
	arrive(socket, service_handle, junk, 100);
	answer(socket, service_handle, request->id, VMCI_SUCCESS, found_handle);
}

static void test_name_among_nonsense(void **state)
{
	struct vmci_handle handle;
	struct guest *guest;

	(void)state;
	guest = open_guest();
	service = serve_badly;
	assert_int_equal(guest_name(guest, DISCOVERY_LOOKUP, "known", &handle), VMCI_SUCCESS);
	assert_true(handle_is_equal(handle, found_handle));
	assert_int_equal(asked, 1);
	guest_close(guest);
}

static void lose_first(unsigned socket, const struct discovery_request *request, unsigned nth)
{
	if (nth > 1)
		answer(socket, service_handle, request->id, VMCI_SUCCESS, found_handle);
}

static void test_name_again(void **state)
{
	struct vmci_handle handle;
	struct guest *guest;

	(void)state;
	guest = open_guest();
	service = lose_first;
	assert_int_equal(guest_name(guest, DISCOVERY_LOOKUP, "known", &handle), VMCI_SUCCESS);
	assert_int_equal(asked, 2);
	assert_int_equal(first_id, last_id);
	guest_close(guest);
}

/* The first question is carried out, and its answer lost. */
static void lose_first_answer(unsigned socket, const struct discovery_request *request, unsigned nth)
{
	if (nth == 1)
		return;
	switch (request->action) {
	case DISCOVERY_REGISTER:
		answer(socket, service_handle, request->id, VMCI_ERROR_ALREADY_EXISTS, found_handle);
		break;
	case DISCOVERY_UNREGISTER:
		answer(socket, service_handle, request->id, VMCI_ERROR_NOT_FOUND, found_handle);
		break;
	default:
		answer(socket, service_handle, request->id, VMCI_SUCCESS, found_handle);
	}
}

static void refuse(unsigned socket, const struct discovery_request *request, unsigned nth)
{
	lose_first_answer(socket, request, nth + 1);
}

static void test_name_done_but_not_answered(void **state)
{
	struct vmci_handle handle = found_handle, other = { 2, 4712 };
	struct guest *guest;

	(void)state;
	guest = open_guest();
	service = lose_first_answer;
	assert_int_equal(guest_name(guest, DISCOVERY_REGISTER, "n", &handle), VMCI_SUCCESS);
	asked = 0;
	/* it is somebody else's */
	assert_int_equal(guest_name(guest, DISCOVERY_REGISTER, "n", &other), VMCI_ERROR_ALREADY_EXISTS);
	asked = 0;
	assert_int_equal(guest_name(guest, DISCOVERY_UNREGISTER, "n", NULL), VMCI_SUCCESS);

	/* asked once, there is no doubt */
	service = refuse;
	assert_int_equal(guest_name(guest, DISCOVERY_REGISTER, "n", &handle), VMCI_ERROR_ALREADY_EXISTS);
	assert_int_equal(guest_name(guest, DISCOVERY_UNREGISTER, "n", NULL), VMCI_ERROR_NOT_FOUND);
	assert_int_equal(open_sockets(), 0);
	guest_close(guest);
}

static void test_name_without_service(void **state)
{
	struct vmci_handle handle;
	struct guest *guest;

	(void)state;
	guest = open_guest();
	/* a host that has none says so */
	kernel.send_error = EINVAL;
	assert_int_equal(guest_name(guest, DISCOVERY_LOOKUP, "n", &handle), VMCI_ERROR_DST_UNREACHABLE);
	assert_int_equal(kernel.sends, 1);
	/* and one that says nothing has its time, 5 s */
	kernel.send_error = 0;
	assert_int_equal(guest_name(guest, DISCOVERY_LOOKUP, "n", &handle), VMCI_ERROR_UNAVAILABLE);
	assert_true(kernel.sends >= 4);
	assert_int_equal(open_sockets(), 0);
	guest_close(guest);
}

static void make_room(unsigned socket, const struct discovery_request *request, unsigned nth)
{
	answer(socket, service_handle, request->id, VMCI_SUCCESS, found_handle);
	(void)nth;
}

/* no room at first */
static ssize_t crowded_send(int fd, struct vmci_handle dst, const void *data, size_t size)
{
	if (kernel.sends++ == 0)
		return -ENOBUFS;
	return fake_send(fd, dst, data, size);
}

static void test_name_no_room(void **state)
{
	struct guest_ports crowded = ports;
	struct vmci_handle handle;
	struct guest *guest;

	(void)state;
	crowded.send = crowded_send;
	add_vmci();
	assert_int_equal(guest_open(&crowded, &guest), VMCI_SUCCESS);
	service = make_room;
	assert_int_equal(guest_name(guest, DISCOVERY_LOOKUP, "n", &handle), VMCI_SUCCESS);
	guest_close(guest);
}

/* ----- this machine */

/* From now on, socket(AF_VSOCK) kills. */
static void forbid_vsock(void)
{
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_socket, 0, 3),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[0])),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AF_VSOCK, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	const struct sock_fprog program = { sizeof(filter) / sizeof(filter[0]), filter };

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0)
		_exit(3);
}

/* runs @what in a child that must not open such a socket; what wait() says of it */
static int without_vsock(int (*what)(void))
{
	pid_t pid = fork();
	int status;

	assert_true(pid >= 0);
	if (pid == 0) {
		forbid_vsock();
		_exit(what());
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

/* never comes as far as the kernel's AF_VSOCK */
static int open_vsock(void)
{
	return socket(AF_VSOCK, SOCK_DGRAM, 0) < 0;
}

static int open_real_guest(void)
{
	struct guest *guest;

	return guest_open(&guest_vsock, &guest) == VMCI_ERROR_DEVICE_NOT_FOUND ? 0 : 1;
}

static void test_no_vsock_on_this_machine(void **state)
{
	int status;

	(void)state;
	if (guest_is_here(GUEST_PCI_DEVICES)) {
		print_message("skipped: this machine has a VMCI device, and may use it\n");
		skip();
	}
	status = without_vsock(open_vsock);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 3) {
		print_message("skipped: no seccomp filter here\n");
		skip();
	}
	/* the trap works */
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS);
	/* and is not stepped into */
	status = without_vsock(open_real_guest);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_here, setup, teardown),
		cmocka_unit_test_setup_teardown(test_our_driver, setup, teardown),
		cmocka_unit_test_setup_teardown(test_open_fails_closed, setup, teardown),
		cmocka_unit_test_setup_teardown(test_open_without_sockets, setup, teardown),
		cmocka_unit_test_setup_teardown(test_open, setup, teardown),
		cmocka_unit_test_setup_teardown(test_socket, setup, teardown),
		cmocka_unit_test_setup_teardown(test_socket_without_device, setup, teardown),
		cmocka_unit_test_setup_teardown(test_send, setup, teardown),
		cmocka_unit_test_setup_teardown(test_recv, setup, teardown),
		cmocka_unit_test_setup_teardown(test_name, setup, teardown),
		cmocka_unit_test_setup_teardown(test_name_among_nonsense, setup, teardown),
		cmocka_unit_test_setup_teardown(test_name_again, setup, teardown),
		cmocka_unit_test_setup_teardown(test_name_done_but_not_answered, setup, teardown),
		cmocka_unit_test_setup_teardown(test_name_without_service, setup, teardown),
		cmocka_unit_test_setup_teardown(test_name_no_room, setup, teardown),
		cmocka_unit_test(test_no_vsock_on_this_machine),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
