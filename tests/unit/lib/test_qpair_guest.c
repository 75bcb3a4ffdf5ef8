/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Queue pairs of a guest that has /dev/vmci: over a kernel of our own, which has one pair at a time. Both ends are
 * here; nobody tells an end that the other one has moved an index.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "lib/guest_dev.h"
#include "lib/lib.h"

#define CID 42u
#define DEVICE 1000
#define PAGE 4096u

/* --- The library's other half ----------------------------------------------------------------------------------- */

struct vmci {
	bool is_forked;
};

static struct vmci member;

int lib_device(const struct vmci *vmci)
{
	assert_ptr_equal(vmci, &member);
	return DEVICE;
}

bool lib_is_forked(const struct vmci *vmci)
{
	return vmci->is_forked;
}

int lib_usable(const struct vmci *vmci)
{
	return vmci->is_forked ? VMCI_ERROR_UNAVAILABLE : 0;
}

uint32_t vmci_cid(const struct vmci *vmci)
{
	(void)vmci;
	return CID;
}

/* There is no broker. */
void lib_add(struct vmci *vmci, struct lib_object *object)
{
	(void)vmci;
	(void)object;
	fail();
}

void lib_del(struct vmci *vmci, struct lib_object *object)
{
	lib_add(vmci, object);
}

int lib_call(struct vmci *vmci, struct fab_msg *request, bool again, int (*take)(struct fab_msg *reply, void *arg),
	     void *arg)
{
	(void)vmci;
	(void)request;
	(void)again;
	(void)take;
	(void)arg;
	fail();
	return -1;
}

int lib_tell(struct vmci *vmci, struct fab_msg *request)
{
	return lib_call(vmci, request, false, NULL, NULL);
}

int lib_resume_call(struct fab_client *client, struct fab_msg *request, struct fab_msg *ret_reply)
{
	(void)client;
	(void)ret_reply;
	return lib_call(NULL, request, false, NULL, NULL);
}

void lib_void(int fd)
{
	(void)fd;
	fail();
}

/* --- The kernel ------------------------------------------------------------------------------------------------- */

static struct kernel {
	int memory;
	size_t first, second;	/* of its rings, with their header pages */
	int wake[2];		/* creator's, attacher's */
	int state[2];
	uint32_t flags[2];
} kernel = { .memory = -1 };

static size_t with_header(uint64_t size)
{
	return PAGE + (size + PAGE - 1) / PAGE * PAGE;
}

/* The ring of @own first. */
static void *map_pair(bool is_creator)
{
	size_t size = kernel.first + kernel.second;
	uint8_t *at = mmap(NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), *second;

	assert_ptr_not_equal(at, MAP_FAILED);
	second = at + (is_creator ? kernel.first : kernel.second);
	assert_ptr_equal(mmap(is_creator ? at : second, kernel.first, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
			      kernel.memory, 0), is_creator ? at : second);
	assert_ptr_equal(mmap(is_creator ? second : at, kernel.second, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
			      kernel.memory, (off_t)kernel.first), is_creator ? second : at);
	return at;
}

int guest_dev_qpair_create(int device, struct vmci_handle *handle, uint64_t produce, uint64_t consume, uint32_t peer,
			   uint32_t flags, int wake, void **ret_map, size_t *ret_size)
{
	bool is_creator = !(flags & VMCI_QP_ATTACH_ONLY);

	(void)peer;
	assert_int_equal(device, DEVICE);
	if (is_creator) {
		assert_int_equal(kernel.memory, -1);
		kernel.memory = memfd_create("pair", MFD_CLOEXEC);
		kernel.first = with_header(produce);
		kernel.second = with_header(consume);
		assert_int_equal(ftruncate(kernel.memory, (off_t)(kernel.first + kernel.second)), 0);
		*handle = handle_make(CID, handle->resource == VMCI_INVALID_ID ? 1024 : handle->resource);
		kernel.state[0] = VMCI_QPAIR_WAITING;
	} else {
		if (kernel.memory < 0)
			return lib_fail(VMCI_ERROR_NOT_FOUND, "no pair");
		kernel.state[0] = kernel.state[1] = VMCI_QPAIR_ATTACHED;
		eventfd_write(kernel.wake[0], 1);
	}
	kernel.wake[!is_creator] = wake;
	kernel.flags[!is_creator] = flags;
	*ret_map = map_pair(is_creator);
	*ret_size = kernel.first + kernel.second;
	return !is_creator;
}

/* The creator is asked for first, everywhere in here; both have the same handle. */
static int asking;

int guest_dev_qpair_state(int device, struct vmci_handle handle, uint32_t *ret_peer)
{
	assert_int_equal(device, DEVICE);
	assert_int_equal(handle.context, CID);
	*ret_peer = 7;
	return kernel.state[asking];
}

void guest_dev_qpair_destroy(int device, struct vmci_handle handle)
{
	assert_int_equal(device, DEVICE);
	assert_int_equal(handle.context, CID);
	kernel.state[0] = kernel.state[1] = VMCI_QPAIR_LEFT;
	if (kernel.memory >= 0) {
		eventfd_write(kernel.wake[0], 1);
		eventfd_write(kernel.wake[1], 1);
	}
	fd_close(&kernel.memory);
}

/* --- Tests ------------------------------------------------------------------------------------------------------ */

static struct vmci_qpair *one, *two;

static void open_both(uint64_t produce, uint64_t consume)
{
	assert_int_equal(vmci_qpair_create(&member, VMCI_INVALID_ID, VMCI_INVALID_ID, produce, consume, 0, &one), 0);
	assert_int_equal(kernel.flags[0], 0);
	assert_int_equal(vmci_qpair_state(one, NULL), VMCI_QPAIR_WAITING);
	assert_int_equal(vmci_qpair_attach(&member, vmci_qpair_handle(one), consume, produce, 0, &two), 0);
	/* It is one of this guest's. */
	assert_int_equal(kernel.flags[1], VMCI_QP_ATTACH_ONLY | VMCI_QP_LOCAL);
}

static void close_both(void)
{
	one = vmci_qpair_close(one);
	two = vmci_qpair_close(two);
	assert_int_equal(kernel.memory, -1);
}

static void states(void **state)
{
	uint32_t peer = 0;
	char byte;

	(void)state;
	open_both(100, 5000);
	assert_int_equal(vmci_qpair_wait(one, VMCI_QPAIR_PEER, 0), VMCI_QPAIR_PEER);
	assert_int_equal(vmci_qpair_state(one, &peer), VMCI_QPAIR_ATTACHED);
	assert_int_equal(peer, 7);
	assert_int_equal(vmci_qpair_state(two, &peer), VMCI_QPAIR_ATTACHED);
	assert_int_equal(peer, CID);
	assert_int_equal(vmci_qpair_write(two, "last", 4, 0), 4);
	two = vmci_qpair_close(two);
	assert_int_equal(vmci_qpair_wait(one, VMCI_QPAIR_PEER | VMCI_QPAIR_IN, -1), VMCI_QPAIR_PEER | VMCI_QPAIR_IN);
	for (int i = 0; i < 4; i++)
		assert_int_equal(vmci_qpair_read(one, &byte, 1, 0), 1);
	assert_int_equal(byte, 't');
	assert_int_equal(vmci_qpair_read(one, &byte, 1, -1), VMCI_ERROR_QUEUEPAIR_NOTATTACHED);
	assert_int_equal(vmci_qpair_write(one, &byte, 1, -1), VMCI_ERROR_QUEUEPAIR_NOTATTACHED);
	close_both();
}

static uint8_t at(uint64_t i)
{
	return (uint8_t)(i * 0x9e3779b97f4a7c15ull >> 56);
}

#define TOTAL 300000u

static void *writer(void *arg)
{
	uint8_t block[777];

	(void)arg;
	for (uint64_t i = 0; i < TOTAL;) {
		size_t len = TOTAL - i < sizeof(block) ? TOTAL - i : sizeof(block);
		int64_t n;

		for (size_t j = 0; j < len; j++)
			block[j] = at(i + j);
		n = vmci_qpair_write(two, block, len, -1);
		if (n <= 0)
			return (void *)1;
		i += (uint64_t)n;
	}
	return NULL;
}

/* Rings of odd sizes, that fill up and wrap: who waits finds out by itself. */
static void bytes(void **state)
{
	static const uint64_t sizes[] = { 2, 100, 4096, 5000, 65536 };
	uint8_t block[1000];

	(void)state;
	for (size_t s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++) {
		uint64_t total = s ? TOTAL : 1000;
		pthread_t thread;
		void *result;

		open_both(50, sizes[s]);
		assert_int_equal(pthread_create(&thread, NULL, writer, NULL), 0);
		for (uint64_t i = 0; i < total;) {
			int64_t n = vmci_qpair_read(one, block, sizeof(block), -1);

			assert_true(n > 0);
			for (int64_t j = 0; j < n; j++)
				assert_int_equal(block[j], at(i + (uint64_t)j));
			i += (uint64_t)n;
		}
		if (!s)
			one = vmci_qpair_close(one);	/* which ends the writer */
		pthread_join(thread, &result);
		assert_int_equal(result != NULL, !s);
		close_both();
	}
}

static void *write_late(void *arg)
{
	usleep(30000);
	vmci_qpair_write(two, "x", 1, 0);
	return arg;
}

static void polling(void **state)
{
	struct pollfd pfd = { .events = POLLIN };
	pthread_t thread;
	char byte;
	int ready;

	(void)state;
	open_both(50, 50);
	pfd.fd = vmci_qpair_fd(one);
	assert_true(pfd.fd >= 0);
	assert_int_equal(pthread_create(&thread, NULL, write_late, NULL), 0);
	while (!(ready = vmci_qpair_arm(one, VMCI_QPAIR_IN)))
		assert_int_equal(poll(&pfd, 1, 10000), 1);
	assert_int_equal(ready, VMCI_QPAIR_IN);
	assert_int_equal(vmci_qpair_read(one, &byte, 1, 0), 1);
	pthread_join(thread, NULL);
	close_both();
}

static void timeouts(void **state)
{
	char byte;

	(void)state;
	open_both(2, 50);
	assert_int_equal(vmci_qpair_read(one, &byte, 1, 0), VMCI_ERROR_WOULD_BLOCK);
	assert_int_equal(vmci_qpair_read(one, &byte, 1, 20), VMCI_ERROR_TIMEOUT);
	assert_int_equal(vmci_qpair_write(one, "ab", 2, 0), 1);
	assert_int_equal(vmci_qpair_write(one, "b", 1, 20), VMCI_ERROR_TIMEOUT);
	close_both();
}

static void nobody_is_trusted(void **state)
{
	(void)state;
	assert_int_equal(vmci_qpair_create(&member, 5000, 2, 50, 50, VMCI_QPAIR_DIRECT, &one), VMCI_ERROR_NO_ACCESS);
	assert_int_equal(vmci_qpair_create(&member, 5000, 2, 50, 50, VMCI_QPAIR_TRUSTED, &one), VMCI_ERROR_NO_ACCESS);
	assert_int_equal(vmci_qpair_attach(&member, handle_make(2, 5000), 50, 50, 0, &one), VMCI_ERROR_NOT_FOUND);
	/* The other end is said to be in this guest. */
	assert_int_equal(vmci_qpair_create(&member, 5000, CID, 50, 50, 0, &one), 0);
	assert_int_equal(kernel.flags[0], VMCI_QP_LOCAL);
	assert_int_equal(vmci_qpair_handle(one).resource, 5000);
	one = vmci_qpair_close(one);
}

/* What a child closes is not the parent's, nor is it mapped there. */
static void a_child(void **state)
{
	int status;
	pid_t pid;

	(void)state;
	open_both(50, 50);
	pid = fork();
	assert_true(pid >= 0);
	if (!pid) {
		member.is_forked = true;
		if (vmci_qpair_state(one, NULL) != VMCI_QPAIR_LEFT)
			_exit(1);
		vmci_qpair_close(one);
		_exit(kernel.memory < 0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_int_equal(vmci_qpair_write(one, "ab", 2, 0), 2);
	close_both();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(states),
		cmocka_unit_test(bytes),
		cmocka_unit_test(polling),
		cmocka_unit_test(timeouts),
		cmocka_unit_test(nobody_is_trusted),
		cmocka_unit_test(a_child),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
