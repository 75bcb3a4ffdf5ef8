/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A membership in a guest without a broker: what goes to guest.c, which is replaced here by a guest that talks to
 * itself, and what is not available.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/guest.h"
#include "lib/lib.h"

/* --- The guest ---------------------------------------------------------------------------------------------- */

struct guest {
	int other;
	enum discovery_action asked;
	char name[16];
	bool is_detached;
};

const struct guest_ports guest_vsock;
static struct guest guest;
static bool is_guest;
static int closed;

int guest_open(const struct guest_ports *ports, struct guest **ret_guest)
{
	/* First the one, then the other; ours is the other. */
	if (!is_guest || ports == &guest_dev)
		return lib_fail(VMCI_ERROR_DEVICE_NOT_FOUND, "no guest");
	*ret_guest = &guest;
	return 0;
}

struct guest *guest_close(struct guest *which)
{
	closed += which == &guest;
	return NULL;
}

int guest_device(const struct guest *which)
{
	assert_ptr_equal(which, &guest);
	return -1;
}

uint32_t guest_cid(const struct guest *which)
{
	(void)which;
	return 42;
}

int guest_socket(struct guest *which, uint32_t rid, uint32_t *ret_rid)
{
	int pair[2];

	if (rid == 1)
		return lib_fail(VMCI_ERROR_INVALID_ARGS, "the driver's");
	assert_int_equal(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair), 0);
	which->other = pair[1];
	*ret_rid = rid == VMCI_INVALID_ID ? 1111 : rid;
	return pair[0];
}

int guest_send(struct guest *which, int fd, struct vmci_handle dst, const void *data, size_t size)
{
	(void)fd;
	if (dst.context != 42)
		return lib_fail(VMCI_ERROR_DST_UNREACHABLE, "nobody but us");
	return (int)send(which->other, data, size, 0);
}

int guest_recv(struct guest *which, int fd, void *buf, size_t size, struct vmci_handle *ret_src)
{
	ssize_t n = recv(fd, buf, size, MSG_DONTWAIT);

	(void)which;
	if (n < 0)
		return VMCI_ERROR_WOULD_BLOCK;
	if (ret_src)
		*ret_src = handle_make(42, 1111);
	return (int)n;
}

int guest_name(struct guest *which, enum discovery_action action, const char *name, struct vmci_handle *handle)
{
	which->asked = action;
	strcpy(which->name, name);
	if (action == DISCOVERY_LOOKUP)
		*handle = handle_make(2, 3);
	else if (action == DISCOVERY_REGISTER)
		assert_int_equal(handle->resource, 1111);
	return 0;
}

static int get_shm(struct vmci_handle handle, uint64_t size, struct guest_shm *shm)
{
	shm->fd = dup(STDIN_FILENO);
	shm->handle = handle;
	shm->size = size;
	shm->map = &guest;
	return 0;
}

int guest_shm_create(struct guest *which, uint32_t rid, uint64_t size, struct guest_shm *shm)
{
	assert_ptr_equal(which, &guest);
	assert_int_equal(rid, VMCI_INVALID_ID);
	return get_shm(handle_make(42, 2222), size, shm);
}

int guest_shm_attach(struct guest *which, struct vmci_handle handle, struct guest_shm *shm)
{
	assert_ptr_equal(which, &guest);
	if (handle.context != 2)
		return lib_fail(VMCI_ERROR_NOT_FOUND, "only the host's");
	return get_shm(handle, 77, shm);
}

int guest_shm_query(struct guest *which, struct vmci_handle handle, uint64_t *ret_size)
{
	assert_ptr_equal(which, &guest);
	*ret_size = handle.resource;
	return 0;
}

int guest_shm_detach(struct guest *which, struct guest_shm *shm, bool is_forked)
{
	which->is_detached = true;
	assert_false(is_forked);
	close(shm->fd);
	return VMCI_SUCCESS_LAST_DETACH;
}

/* --- Tests -------------------------------------------------------------------------------------------------- */

static char folder[] = "/tmp/vmci-test-XXXXXX";

static int set_up(void **state)
{
	(void)state;
	unsetenv("VMCI_RUNTIME_DIR");
	unsetenv("VMCI_VMCID");
	is_guest = true;
	closed = 0;
	strcpy(folder + sizeof(folder) - 7, "XXXXXX");
	if (!mkdtemp(folder))
		return -1;
	return setenv("XDG_RUNTIME_DIR", folder, 1);
}

static int tear_down(void **state)
{
	(void)state;
	unsetenv("XDG_RUNTIME_DIR");
	/* Nobody has made anything in it. */
	return rmdir(folder);
}

static void *receive(void *arg)
{
	static int result;
	char buf[8];

	result = vmci_dgram_recv(arg, buf, sizeof(buf), -1, NULL);
	return &result;
}

static void member(void **state)
{
	struct vmci_handle handle, elsewhere = { 2, 5 };
	struct vmci_doorbell *doorbell;
	struct vmci_events *events;
	struct vmci_qpair *qpair;
	struct vmci_dgram *dgram;
	struct vmci_shm *shm;
	pthread_t thread;
	struct vmci *vmci;
	uint64_t size;
	char buf[8];
	void *result;

	(void)state;
	assert_int_equal(vmci_open(NULL, VMCI_INVALID_ID, 0, &vmci), 0);
	assert_int_equal(vmci_cid(vmci), 42);
	assert_int_equal(vmci_dgram_open(vmci, 1, &dgram), VMCI_ERROR_INVALID_ARGS);
	assert_int_equal(vmci_dgram_open(vmci, VMCI_INVALID_ID, &dgram), 0);
	handle = vmci_dgram_handle(dgram);
	assert_int_equal(handle.context, 42);
	assert_int_equal(handle.resource, 1111);
	assert_int_equal(vmci_dgram_send(dgram, handle, "hello", 5), 5);
	assert_int_equal(vmci_dgram_send(dgram, elsewhere, "hello", 5), VMCI_ERROR_DST_UNREACHABLE);
	assert_int_equal(vmci_dgram_recv(dgram, buf, sizeof(buf), -1, &elsewhere), 5);
	assert_int_equal(elsewhere.resource, 1111);
	assert_int_equal(vmci_dgram_recv(dgram, buf, sizeof(buf), 0, NULL), VMCI_ERROR_WOULD_BLOCK);
	assert_int_equal(vmci_dgram_recv(dgram, buf, sizeof(buf), 10, NULL), VMCI_ERROR_TIMEOUT);

	assert_int_equal(vmci_name_register(vmci, "name", handle), 0);
	assert_int_equal(guest.asked, DISCOVERY_REGISTER);
	assert_string_equal(guest.name, "name");
	assert_int_equal(vmci_name_lookup(vmci, "other", 0, &elsewhere), 0);
	assert_int_equal(elsewhere.resource, 3);
	assert_int_equal(vmci_name_unregister(vmci, "name"), 0);
	assert_int_equal(guest.asked, DISCOVERY_UNREGISTER);
	assert_int_equal(vmci_name_register(vmci, "", handle), VMCI_ERROR_INVALID_ARGS);

	assert_int_equal(vmci_shm_create(vmci, VMCI_INVALID_ID, 0, &shm), VMCI_ERROR_INVALID_SIZE);
	assert_int_equal(vmci_shm_create(vmci, VMCI_INVALID_ID, 5, &shm), 0);
	assert_int_equal(vmci_shm_handle(shm).resource, 2222);
	assert_int_equal(vmci_shm_size(shm), 5);
	assert_ptr_equal(vmci_shm_address(shm), &guest);
	assert_int_equal(vmci_shm_detach(shm), VMCI_SUCCESS_LAST_DETACH);
	assert_true(guest.is_detached);
	assert_int_equal(vmci_shm_query(vmci, elsewhere, &size), 0);
	assert_int_equal(size, 3);
	assert_int_equal(vmci_shm_attach(vmci, handle, &shm), VMCI_ERROR_NOT_FOUND);
	assert_int_equal(vmci_shm_attach(vmci, elsewhere, &shm), 0);
	assert_int_equal(vmci_shm_size(shm), 77);
	vmci_shm_detach(shm);

	assert_int_equal(vmci_doorbell_open(vmci, VMCI_INVALID_ID, &doorbell), VMCI_ERROR_UNAVAILABLE);
	assert_int_equal(vmci_events_open(vmci, &events), VMCI_ERROR_UNAVAILABLE);
	assert_int_equal(vmci_qpair_create(vmci, VMCI_INVALID_ID, 2, 1, 1, 0, &qpair), VMCI_ERROR_UNAVAILABLE);
	assert_int_equal(vmci_grant(vmci, handle, handle, 1, 0), VMCI_ERROR_UNAVAILABLE);
	assert_int_equal(vmci_group_create(vmci, &handle), VMCI_ERROR_UNAVAILABLE);
	assert_non_null(strstr(vmci_errmsg(), "guest"));

	assert_int_equal(pthread_create(&thread, NULL, receive, dgram), 0);
	usleep(50000);
	vmci_dgram_close(dgram);
	pthread_join(thread, &result);
	assert_int_equal(*(int *)result, VMCI_ERROR_NO_HANDLE);
	close(guest.other);
	vmci_close(vmci);
	assert_int_equal(closed, 1);
}

/* A guest's membership is for those who did not ask for something else. */
static void not_asked_for(void **state)
{
	struct vmci *vmci;

	(void)state;
	assert_int_equal(vmci_open(NULL, 77, VMCI_OPEN_NO_START, &vmci), VMCI_ERROR_DEVICE_NOT_FOUND);
	assert_int_equal(vmci_open(folder, VMCI_CID_HOST, VMCI_OPEN_NO_START, &vmci), VMCI_ERROR_DEVICE_NOT_FOUND);
	setenv("VMCI_RUNTIME_DIR", folder, 1);
	assert_int_equal(vmci_open(NULL, VMCI_CID_HOST, VMCI_OPEN_NO_START, &vmci), VMCI_ERROR_DEVICE_NOT_FOUND);
	unsetenv("VMCI_RUNTIME_DIR");
	/* Not in a guest: the message is about brokers. */
	is_guest = false;
	assert_int_equal(vmci_open(NULL, VMCI_CID_HOST, VMCI_OPEN_NO_START, &vmci), VMCI_ERROR_DEVICE_NOT_FOUND);
	assert_non_null(strstr(vmci_errmsg(), folder));
	assert_non_null(strstr(vmci_errmsg(), "/run/vmci"));
	assert_int_equal(closed, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(member, set_up, tear_down),
		cmocka_unit_test_setup_teardown(not_asked_for, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
