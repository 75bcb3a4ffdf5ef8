/* SPDX-License-Identifier: BSD-2-Clause */
/* Queue pairs of libvmci over a broker that is a table in this file. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "fabric/direct.h"
#include "fabric/ring.h"
#include "lib/lib.h"

#define LIMIT_MS 20000	/* for anything that must happen */
#define A 1000u		/* contexts of the two ends */
#define B 1001u

/* --- The broker, and the membership ------------------------------------------------------------------------------ */

struct vmci {
	uint32_t cid;
	_Atomic bool is_forked;
	struct lib_object *object;	/* the last one added */
	unsigned objects;
};

/* What the broker knows, and what was said to it. */
static struct broker {
	pthread_mutex_t lock;
	int memory;
	int life;
	uint32_t creator;
	uint32_t peer;
	uint32_t flags;
	uint64_t produce;
	uint64_t consume;
	uint32_t reply_flags;		/* of QP_ATTACH */
	unsigned asked[FAB_TYPE_NUM];	/* by lib_call() and lib_tell() */
	unsigned resumed[FAB_TYPE_NUM];
	struct fab_msg request;		/* the last one; descriptors are copies */
	int status;			/* of the next reply, if negative */
	int resume_status;		/* of the next reply to a resume(); -ECONNRESET: none comes */
	void (*before_resume_reply)(void);
} broker = { .lock = PTHREAD_MUTEX_INITIALIZER, .memory = -1, .life = -1 };

static const struct vmci_handle handle = { .context = A, .resource = 5000 };

uint32_t vmci_cid(const struct vmci *vmci)
{
	return vmci->cid;
}

/* No guest. */
int lib_device(const struct vmci *vmci)
{
	(void)vmci;
	return -1;
}

bool lib_is_forked(const struct vmci *vmci)
{
	return vmci->is_forked;
}

int lib_usable(const struct vmci *vmci)
{
	return vmci->is_forked ? lib_fail(VMCI_ERROR_UNAVAILABLE, "forked") : 0;
}

void lib_void(int fd)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	dup3(null, fd, O_CLOEXEC);
	close(null);
}

void lib_add(struct vmci *vmci, struct lib_object *object)
{
	vmci->object = object;
	vmci->objects++;
}

void lib_del(struct vmci *vmci, struct lib_object *object)
{
	(void)object;
	vmci->objects--;
}

static void keep_request(const struct fab_msg *request)
{
	fd_close(&broker.request.fd[0]);
	fd_close(&broker.request.fd[1]);
	broker.request = *request;
	for (unsigned i = 0; i < FAB_FDS_MAX; i++)
		broker.request.fd[i] = i < request->n_fds ? dup(request->fd[i]) : -1;
}

static void make_token(uint8_t *token, uint32_t cid)
{
	memset(token, (int)(cid & 0xff), FAB_TOKEN_SIZE);
}

static int ask(struct vmci *vmci, const struct fab_msg *request, struct fab_msg *reply)
{
	broker.asked[request->type]++;
	keep_request(request);
	if (broker.status) {
		reply->status = broker.status;
		broker.status = 0;
		return reply->status;
	}
	make_token(reply->token, vmci->cid);
	switch (request->type) {
	case FAB_QP_CREATE:
		broker.memory = dup(request->fd[0]);
		broker.life = dup(request->fd[1]);
		broker.creator = vmci->cid;
		broker.flags = request->flags;
		broker.produce = request->size0;
		broker.consume = request->size1;
		reply->handle = handle;
		return reply->status = VMCI_SUCCESS_QUEUEPAIR_CREATE;
	case FAB_QP_ATTACH:
		if (broker.memory < 0)
			return VMCI_ERROR_UNAVAILABLE;
		if (broker.produce != request->size1 || broker.consume != request->size0)
			return VMCI_ERROR_QUEUEPAIR_MISMATCH;
		reply->other.context = broker.creator;
		reply->fd[0] = fd_take(&broker.memory);
		reply->fd[1] = fd_take(&broker.life);
		reply->n_fds = 2;
		reply->flags = broker.reply_flags;
		return reply->status = VMCI_SUCCESS_QUEUEPAIR_ATTACH;
	default:
		return 0;
	}
}

int lib_call(struct vmci *vmci, struct fab_msg *request, bool again, int (*take)(struct fab_msg *reply, void *arg),
	     void *arg)
{
	struct fab_msg reply = { .fd = { -1, -1, -1, -1 } };
	int ret;

	(void)again;
	request->kind = FAB_REQUEST;
	if (fab_check(request))
		fail_msg("%s: %s", fab_type_to_string(request->type), fab_check(request));
	if (vmci->is_forked)
		return VMCI_ERROR_UNAVAILABLE;
	pthread_mutex_lock(&broker.lock);
	ret = ask(vmci, request, &reply);
	pthread_mutex_unlock(&broker.lock);
	if (ret < 0)
		return lib_fail(ret, "the broker says so");
	if (take)
		ret = take(&reply, arg);
	fab_drop(&reply);
	return ret;
}

int lib_tell(struct vmci *vmci, struct fab_msg *request)
{
	return lib_call(vmci, request, true, NULL, NULL);
}

int lib_resume_call(struct fab_client *client, struct fab_msg *request, struct fab_msg *ret_reply)
{
	(void)client;
	request->kind = FAB_REQUEST;
	if (fab_check(request))
		fail_msg("%s: %s", fab_type_to_string(request->type), fab_check(request));
	pthread_mutex_lock(&broker.lock);
	broker.resumed[request->type]++;
	keep_request(request);
	if (broker.before_resume_reply)
		broker.before_resume_reply();
	*ret_reply = (struct fab_msg){ .status = broker.resume_status };
	broker.resume_status = 0;
	pthread_mutex_unlock(&broker.lock);
	return ret_reply->status;
}

static int count_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	int n = 0;

	assert_non_null(dir);
	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}

/* --- A pair ------------------------------------------------------------------------------------------------------ */

struct bed {
	struct vmci a;
	struct vmci b;
	struct vmci_qpair *creator;
	struct vmci_qpair *attacher;
	uint8_t *raw;	/* the memory, as a third one sees it */
	size_t raw_size;
	int fds;
};

static int begin(void **state)
{
	struct bed *bed = calloc(1, sizeof(*bed));

	assert_non_null(bed);
	bed->a.cid = A;
	bed->b.cid = B;
	memset(broker.asked, 0, sizeof(broker.asked));
	memset(broker.resumed, 0, sizeof(broker.resumed));
	broker.request = (struct fab_msg){ .fd = { -1, -1, -1, -1 } };
	broker.status = broker.resume_status = 0;
	broker.before_resume_reply = NULL;
	broker.reply_flags = 0;
	bed->fds = count_fds();
	*state = bed;
	return 0;
}

static void create_open(struct bed *bed, uint32_t peer, uint64_t produce, uint64_t consume)
{
	assert_int_equal(vmci_qpair_create(&bed->a, VMCI_INVALID_ID, peer, produce, consume, 0, &bed->creator), 0);
	bed->raw_size = ring_memory_size(produce, consume);
	bed->raw = mmap(NULL, bed->raw_size, PROT_READ | PROT_WRITE, MAP_SHARED, broker.memory, 0);
	assert_ptr_not_equal(bed->raw, MAP_FAILED);
}

static void pair_open(struct bed *bed, uint64_t produce, uint64_t consume)
{
	create_open(bed, VMCI_INVALID_ID, produce, consume);
	assert_int_equal(vmci_qpair_attach(&bed->b, handle, consume, produce, 0, &bed->attacher), 0);
	assert_int_equal(vmci_qpair_state(bed->creator, NULL), VMCI_QPAIR_ATTACHED);
}

static int end(void **state)
{
	struct bed *bed = *state;

	assert_null(vmci_qpair_close(bed->creator));
	assert_null(vmci_qpair_close(bed->attacher));
	if (bed->raw)
		munmap(bed->raw, bed->raw_size);
	fd_close(&broker.memory);
	fd_close(&broker.life);
	fd_close(&broker.request.fd[0]);
	fd_close(&broker.request.fd[1]);
	assert_int_equal(bed->a.objects + bed->b.objects, 0);
	assert_int_equal(count_fds(), bed->fds);
	free(bed);
	return 0;
}

/* --- Making ------------------------------------------------------------------------------------------------------ */

static void test_create_attach_close(void **state)
{
	struct bed *bed = *state;
	uint32_t peer = 0;

	create_open(bed, B, 5000, 300);
	assert_int_equal(broker.request.handle.context, A);
	assert_int_equal(broker.request.handle.resource, VMCI_INVALID_ID);
	assert_int_equal(broker.request.other.context, B);
	assert_int_equal(broker.request.flags, 0);
	assert_true(handle_is_equal(vmci_qpair_handle(bed->creator), handle));
	assert_true(handle_is_equal(handle_get(bed->raw), handle));
	assert_int_equal(vmci_qpair_state(bed->creator, &peer), VMCI_QPAIR_WAITING);
	assert_int_equal(peer, B);

	assert_int_equal(vmci_qpair_attach(&bed->b, handle, 300, 5000, VMCI_QP_ATTACH_ONLY, &bed->attacher), 0);
	assert_true(handle_is_equal(vmci_qpair_handle(bed->attacher), handle));
	assert_int_equal(vmci_qpair_state(bed->attacher, &peer), VMCI_QPAIR_ATTACHED);
	assert_int_equal(peer, A);
	assert_int_equal(vmci_qpair_state(bed->creator, &peer), VMCI_QPAIR_ATTACHED);
	assert_int_equal(peer, B);

	bed->attacher = vmci_qpair_close(bed->attacher);
	assert_int_equal(broker.asked[FAB_QP_DETACH], 1);
	assert_true(handle_is_equal(broker.request.handle, handle));
	assert_int_equal(vmci_qpair_state(bed->creator, &peer), VMCI_QPAIR_LEFT);
}

static void test_peer_any_says_who_it_is(void **state)
{
	struct bed *bed = *state;
	uint32_t peer = 0;

	create_open(bed, VMCI_INVALID_ID, 100, 100);
	assert_int_equal(vmci_qpair_state(bed->creator, &peer), VMCI_QPAIR_WAITING);
	assert_int_equal(peer, VMCI_INVALID_ID);
	assert_int_equal(vmci_qpair_attach(&bed->b, handle, 100, 100, 0, &bed->attacher), 0);
	assert_int_equal(vmci_qpair_state(bed->creator, &peer), VMCI_QPAIR_ATTACHED);
	assert_int_equal(peer, B);
}

static void test_wrong_arguments_do_not_reach_the_broker(void **state)
{
	const uint64_t max = 128u << 20;
	struct bed *bed = *state;
	struct vmci_qpair *qpair = NULL;

	assert_int_equal(vmci_qpair_create(&bed->a, 5000, B, 0, 0, 0, &qpair), VMCI_ERROR_INVALID_ARGS);
	assert_int_equal(vmci_qpair_create(&bed->a, 5000, B, max, 1, 0, &qpair), VMCI_ERROR_NO_RESOURCES);
	assert_int_equal(vmci_qpair_create(&bed->a, 5000, B, UINT64_MAX, 1, 0, &qpair), VMCI_ERROR_NO_RESOURCES);
	assert_int_equal(vmci_qpair_create(&bed->a, 5000, B, 10, 10, VMCI_QP_LOCAL, &qpair), VMCI_ERROR_INVALID_ARGS);
	assert_int_equal(vmci_qpair_create(&bed->a, 5000, B, 10, 10, VMCI_QP_ATTACH_ONLY, &qpair),
			 VMCI_ERROR_INVALID_ARGS);
	assert_int_equal(vmci_qpair_attach(&bed->b, handle, 0, 0, 0, &qpair), VMCI_ERROR_INVALID_ARGS);
	assert_int_equal(vmci_qpair_attach(&bed->b, handle, 10, 10, VMCI_QP_PINNED, &qpair), VMCI_ERROR_INVALID_ARGS);
	assert_null(qpair);
	assert_int_equal(broker.asked[FAB_QP_CREATE] + broker.asked[FAB_QP_ATTACH], 0);
}

static void test_flags_reach_the_broker(void **state)
{
	struct bed *bed = *state;

	assert_int_equal(vmci_qpair_create(&bed->a, 5000, B, 10, 10, VMCI_QPAIR_TRUSTED, &bed->creator), 0);
	assert_int_equal(broker.request.flags, FAB_F_TRUSTED);
	assert_int_equal(broker.request.handle.resource, 5000);
	assert_int_equal(vmci_qpair_attach(&bed->b, handle, 10, 10, VMCI_QPAIR_TRUSTED, &bed->attacher), 0);
	assert_int_equal(broker.request.flags, FAB_F_TRUSTED);
}

static void test_the_brokers_word(void **state)
{
	struct bed *bed = *state;
	struct vmci_qpair *qpair = NULL;

	broker.status = VMCI_ERROR_NO_ACCESS;
	assert_int_equal(vmci_qpair_create(&bed->a, 5000, B, 10, 10, 0, &qpair), VMCI_ERROR_NO_ACCESS);
	broker.status = VMCI_ERROR_NOT_FOUND;
	assert_int_equal(vmci_qpair_attach(&bed->b, handle, 10, 10, 0, &qpair), VMCI_ERROR_NOT_FOUND);
	create_open(bed, B, 10, 20);
	assert_int_equal(vmci_qpair_attach(&bed->b, handle, 10, 20, 0, &qpair), VMCI_ERROR_QUEUEPAIR_MISMATCH);
	assert_null(qpair);
	assert_int_equal(vmci_qpair_state(bed->creator, NULL), VMCI_QPAIR_WAITING);
}

/* The broker checks what a creator passes; we do, too. */
static void test_a_creator_that_passes_anything(void **state)
{
	struct bed *bed = *state;
	struct vmci_qpair *qpair = NULL;

	create_open(bed, B, 4096, 4096);
	close(broker.memory);
	broker.memory = memfd_create("loose", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	assert_int_equal(ftruncate(broker.memory, 16384), 0);
	assert_int_equal(vmci_qpair_attach(&bed->b, handle, 4096, 4096, 0, &qpair), VMCI_ERROR_UNAVAILABLE);
	assert_null(qpair);
	assert_int_equal(broker.asked[FAB_QP_DETACH], 1);
	assert_int_equal(bed->b.objects, 0);
}

static void test_a_creator_that_has_died(void **state)
{
	struct bed *bed = *state;
	struct vmci_qpair *qpair = NULL;

	create_open(bed, B, 4096, 4096);
	bed->creator = vmci_qpair_close(bed->creator);
	assert_int_equal(vmci_qpair_attach(&bed->b, handle, 4096, 4096, 0, &qpair), VMCI_ERROR_UNAVAILABLE);
	assert_null(qpair);
}

/* --- Bytes ------------------------------------------------------------------------------------------------------- */

static void test_bytes(void **state)
{
	struct bed *bed = *state;
	char buf[16] = { 0 };

	pair_open(bed, 100, 10);
	assert_int_equal(vmci_qpair_write(bed->creator, "hello", 5, 0), 5);
	assert_int_equal(vmci_qpair_ready(bed->attacher), 5);
	assert_int_equal(vmci_qpair_room(bed->creator), 94);
	assert_int_equal(vmci_qpair_peek(bed->attacher, buf, 3, 0), 3);
	assert_int_equal(vmci_qpair_read(bed->attacher, buf, sizeof(buf), 0), 5);
	assert_string_equal(buf, "hello");
	assert_int_equal(vmci_qpair_write(bed->attacher, "0123456789", 10, 0), 9);	/* what there is room for */
	assert_int_equal(vmci_qpair_write(bed->attacher, "9", 1, 0), VMCI_ERROR_WOULD_BLOCK);
	assert_int_equal(vmci_qpair_read(bed->creator, buf, 16, 0), 9);
	assert_int_equal(vmci_qpair_read(bed->creator, buf, 16, 0), VMCI_ERROR_WOULD_BLOCK);
	assert_int_equal(vmci_qpair_peek(bed->creator, buf, 16, 0), VMCI_ERROR_WOULD_BLOCK);
	assert_int_equal(vmci_qpair_read(bed->creator, buf, 0, 0), VMCI_ERROR_INVALID_ARGS);
	assert_int_equal(vmci_qpair_write(bed->creator, buf, 0, 0), VMCI_ERROR_INVALID_ARGS);
}

static void test_zero_copy(void **state)
{
	struct bed *bed = *state;
	const char *from;
	size_t n;
	char *to;

	pair_open(bed, 4096, 100);
	to = vmci_qpair_reserve(bed->creator, &n);
	assert_non_null(to);
	assert_int_equal(n, 4095);
	memcpy(to, "zero", 4);
	assert_null(vmci_qpair_acquire(bed->attacher, &n));
	assert_int_equal(vmci_qpair_commit(bed->creator, 4096), VMCI_ERROR_INVALID_ARGS);
	assert_int_equal(vmci_qpair_commit(bed->creator, 4), 0);
	from = vmci_qpair_acquire(bed->attacher, &n);
	assert_non_null(from);
	assert_int_equal(n, 4);
	assert_memory_equal(from, "zero", 4);
	assert_int_equal(vmci_qpair_release(bed->attacher, 5), VMCI_ERROR_INVALID_ARGS);
	assert_int_equal(vmci_qpair_release(bed->attacher, 3), 0);
	assert_int_equal(vmci_qpair_ready(bed->attacher), 1);
	assert_int_equal(vmci_qpair_release(bed->attacher, 1), 0);
}

static void test_before_anybody_attaches(void **state)
{
	struct bed *bed = *state;
	char buf[100] = "early";

	create_open(bed, B, 10, 10);
	assert_int_equal(vmci_qpair_write(bed->creator, buf, 100, 0), 9);
	assert_int_equal(vmci_qpair_write(bed->creator, buf, 1, 0), VMCI_ERROR_WOULD_BLOCK);
	assert_int_equal(vmci_qpair_write(bed->creator, buf, 1, 20), VMCI_ERROR_TIMEOUT);
	assert_int_equal(vmci_qpair_attach(&bed->b, handle, 10, 10, 0, &bed->attacher), 0);
	memset(buf, 0, sizeof(buf));
	assert_int_equal(vmci_qpair_read(bed->attacher, buf, 100, 0), 9);
	assert_string_equal(buf, "early");
	assert_int_equal(vmci_qpair_write(bed->creator, buf, 1, LIMIT_MS), 1);
}

static void test_one_direction_only(void **state)
{
	struct bed *bed = *state;
	char buf[8];

	pair_open(bed, 10, 0);
	assert_int_equal(vmci_qpair_write(bed->attacher, "x", 1, -1), VMCI_ERROR_INVALID_ARGS);
	assert_int_equal(vmci_qpair_read(bed->creator, buf, 1, -1), VMCI_ERROR_INVALID_ARGS);
	assert_int_equal(vmci_qpair_write(bed->creator, "x", 1, -1), 1);
	assert_int_equal(vmci_qpair_read(bed->attacher, buf, 1, -1), 1);
	assert_int_equal(vmci_qpair_ready(bed->creator), 0);
	assert_int_equal(vmci_qpair_room(bed->attacher), 0);
}

static void test_a_corrupt_ring(void **state)
{
	struct bed *bed = *state;
	const uint64_t second = 8192;
	size_t n;
	char buf[8];

	pair_open(bed, 100, 100);
	put_le64(bed->raw + second + 8, 100);
	put_le64(bed->raw + second + 16, UINT64_MAX);
	assert_int_equal(vmci_qpair_read(bed->creator, buf, 8, -1), VMCI_ERROR_INVALID_SIZE);
	assert_int_equal(vmci_qpair_peek(bed->creator, buf, 8, -1), VMCI_ERROR_INVALID_SIZE);
	assert_int_equal(vmci_qpair_ready(bed->creator), VMCI_ERROR_INVALID_SIZE);
	assert_int_equal(vmci_qpair_room(bed->creator), VMCI_ERROR_INVALID_SIZE);
	assert_int_equal(vmci_qpair_wait(bed->creator, VMCI_QPAIR_IN, -1), VMCI_ERROR_INVALID_SIZE);
	assert_int_equal(vmci_qpair_arm(bed->creator, VMCI_QPAIR_IN), VMCI_ERROR_INVALID_SIZE);
	assert_null(vmci_qpair_acquire(bed->creator, &n));
	assert_null(vmci_qpair_reserve(bed->creator, &n));
	for (int i = 0; i < 99; i++)	/* this much room it knows of */
		if (vmci_qpair_write(bed->creator, "x", 1, -1) != 1)
			break;
	assert_int_equal(vmci_qpair_write(bed->creator, "x", 1, -1), VMCI_ERROR_INVALID_SIZE);
}

/* --- Leaving ----------------------------------------------------------------------------------------------------- */

static void test_after_the_peer_has_left(void **state)
{
	struct bed *bed = *state;
	size_t n;
	char buf[8];

	pair_open(bed, 100, 100);
	assert_int_equal(vmci_qpair_write(bed->attacher, "last", 4, 0), 4);
	bed->attacher = vmci_qpair_close(bed->attacher);
	assert_int_equal(vmci_qpair_wait(bed->creator, VMCI_QPAIR_PEER, LIMIT_MS), VMCI_QPAIR_PEER);
	assert_int_equal(vmci_qpair_wait(bed->creator, VMCI_QPAIR_OUT, LIMIT_MS), VMCI_QPAIR_PEER);
	assert_int_equal(vmci_qpair_wait(bed->creator, VMCI_QPAIR_IN, LIMIT_MS), VMCI_QPAIR_IN | VMCI_QPAIR_PEER);
	assert_int_equal(vmci_qpair_arm(bed->creator, VMCI_QPAIR_IN), VMCI_QPAIR_IN | VMCI_QPAIR_PEER);
	assert_int_equal(vmci_qpair_write(bed->creator, "x", 1, -1), VMCI_ERROR_QUEUEPAIR_NOTATTACHED);
	assert_null(vmci_qpair_reserve(bed->creator, &n));
	assert_int_equal(vmci_qpair_commit(bed->creator, 0), VMCI_ERROR_QUEUEPAIR_NOTATTACHED);
	assert_int_equal(vmci_qpair_read(bed->creator, buf, 3, -1), 3);
	assert_int_equal(vmci_qpair_read(bed->creator, buf, 3, -1), 1);
	assert_int_equal(vmci_qpair_read(bed->creator, buf, 3, -1), VMCI_ERROR_QUEUEPAIR_NOTATTACHED);
	assert_int_equal(vmci_qpair_read(bed->creator, buf, 3, 0), VMCI_ERROR_QUEUEPAIR_NOTATTACHED);
}

static void test_a_call_that_does_not_wait_sees_it_at_once(void **state)
{
	struct bed *bed = *state;
	char buf[100];

	pair_open(bed, 100, 100);
	assert_int_equal(vmci_qpair_write(bed->creator, buf, 99, 0), 99);
	bed->attacher = vmci_qpair_close(bed->attacher);
	assert_int_equal(vmci_qpair_write(bed->creator, buf, 1, 0), VMCI_ERROR_QUEUEPAIR_NOTATTACHED);
	assert_int_equal(vmci_qpair_read(bed->creator, buf, 1, 0), VMCI_ERROR_QUEUEPAIR_NOTATTACHED);
}

/* --- Waiting ----------------------------------------------------------------------------------------------------- */

static void test_timeouts(void **state)
{
	struct bed *bed = *state;
	char buf[100];

	pair_open(bed, 100, 100);
	for (unsigned usec = 0; usec <= 100000; usec += 50000) {
		vmci_qpair_set_spin(bed->creator, usec);
		assert_int_equal(vmci_qpair_read(bed->creator, buf, 1, 20), VMCI_ERROR_TIMEOUT);
		assert_int_equal(vmci_qpair_wait(bed->creator, VMCI_QPAIR_IN, 20), VMCI_ERROR_TIMEOUT);
		assert_int_equal(vmci_qpair_wait(bed->creator, VMCI_QPAIR_PEER, 20), VMCI_ERROR_TIMEOUT);
		assert_int_equal(vmci_qpair_wait(bed->creator, VMCI_QPAIR_IN, 0), VMCI_ERROR_WOULD_BLOCK);
	}
	assert_int_equal(vmci_qpair_write(bed->creator, buf, 100, 0), 99);
	assert_int_equal(vmci_qpair_write(bed->creator, buf, 1, 20), VMCI_ERROR_TIMEOUT);
	assert_int_equal(vmci_qpair_wait(bed->creator, 0, 0), VMCI_ERROR_INVALID_ARGS);
	assert_int_equal(vmci_qpair_wait(bed->creator, 0x8, 0), VMCI_ERROR_INVALID_ARGS);
	assert_int_equal(vmci_qpair_arm(bed->creator, 0), VMCI_ERROR_INVALID_ARGS);
}

static bool is_readable(int fd, int ms)
{
	struct pollfd poll_fd = { .fd = fd, .events = POLLIN };

	return poll(&poll_fd, 1, ms) > 0;
}

static void test_polling(void **state)
{
	struct bed *bed = *state;
	char buf[100];
	int fd;

	pair_open(bed, 100, 100);
	fd = vmci_qpair_fd(bed->creator);
	assert_true(fd >= 0);
	assert_int_equal(vmci_qpair_fd(bed->creator), fd);
	assert_int_equal(vmci_qpair_arm(bed->creator, VMCI_QPAIR_IN | VMCI_QPAIR_OUT), VMCI_QPAIR_OUT);
	assert_int_equal(vmci_qpair_arm(bed->creator, VMCI_QPAIR_IN), 0);
	assert_false(is_readable(fd, 0));
	assert_int_equal(vmci_qpair_write(bed->attacher, "x", 1, 0), 1);
	assert_true(is_readable(fd, LIMIT_MS));
	assert_int_equal(vmci_qpair_arm(bed->creator, VMCI_QPAIR_IN), VMCI_QPAIR_IN);
	assert_int_equal(vmci_qpair_read(bed->creator, buf, 100, 0), 1);
	assert_int_equal(vmci_qpair_arm(bed->creator, VMCI_QPAIR_IN), 0);
	assert_false(is_readable(fd, 0));

	assert_int_equal(vmci_qpair_write(bed->creator, buf, 100, 0), 99);
	assert_int_equal(vmci_qpair_arm(bed->creator, VMCI_QPAIR_OUT), 0);
	assert_false(is_readable(fd, 0));
	assert_int_equal(vmci_qpair_read(bed->attacher, buf, 1, 0), 1);
	assert_true(is_readable(fd, LIMIT_MS));
	assert_int_equal(vmci_qpair_arm(bed->creator, VMCI_QPAIR_OUT), VMCI_QPAIR_OUT);

	assert_int_equal(vmci_qpair_arm(bed->creator, VMCI_QPAIR_IN | VMCI_QPAIR_PEER), 0);
	bed->attacher = vmci_qpair_close(bed->attacher);
	assert_true(is_readable(fd, LIMIT_MS));
	assert_int_equal(vmci_qpair_arm(bed->creator, VMCI_QPAIR_IN), VMCI_QPAIR_PEER);
}

static void test_polling_for_the_attacher(void **state)
{
	struct bed *bed = *state;
	int fd;

	create_open(bed, B, 100, 100);
	fd = vmci_qpair_fd(bed->creator);
	assert_int_equal(vmci_qpair_arm(bed->creator, VMCI_QPAIR_PEER), 0);
	assert_false(is_readable(fd, 0));
	assert_int_equal(vmci_qpair_attach(&bed->b, handle, 100, 100, 0, &bed->attacher), 0);
	assert_true(is_readable(fd, LIMIT_MS));
	assert_int_equal(vmci_qpair_arm(bed->creator, VMCI_QPAIR_PEER), VMCI_QPAIR_PEER);
	assert_int_equal(vmci_qpair_wait(bed->creator, VMCI_QPAIR_PEER, -1), VMCI_QPAIR_PEER);
	assert_int_equal(vmci_qpair_state(bed->creator, NULL), VMCI_QPAIR_ATTACHED);	/* seen now */
	assert_int_equal(vmci_qpair_arm(bed->creator, VMCI_QPAIR_PEER), 0);
}

/* The reader sleeps in a thread; so it is who takes the bytes out of the socket that we poll. */
static void *read_one(void *arg)
{
	char byte;

	return (void *)(intptr_t)vmci_qpair_read(arg, &byte, 1, LIMIT_MS);
}

static void *write_one(void *arg)
{
	return (void *)(intptr_t)vmci_qpair_write(arg, "w", 1, LIMIT_MS);
}

static intptr_t joined(pthread_t thread)
{
	void *ret;

	assert_int_equal(pthread_join(thread, &ret), 0);
	return (intptr_t)ret;
}

static pthread_t started(void *(*run)(void *), void *arg)
{
	pthread_t thread;

	assert_int_equal(pthread_create(&thread, NULL, run, arg), 0);
	return thread;
}

/* Waits until the reader of @bed->creator has asked its peer for a wake-up. */
static void until_it_sleeps(struct bed *bed, uint64_t offset, unsigned then_usec)
{
	for (int i = 0; i < LIMIT_MS && !get_le32(bed->raw + offset); i++)
		usleep(1000);
	assert_int_not_equal(get_le32(bed->raw + offset), 0);
	usleep(then_usec);
}

static void test_polling_beside_a_thread_that_sleeps(void **state)
{
	struct bed *bed = *state;
	pthread_t reader;
	char buf[100];
	int fd;

	pair_open(bed, 100, 100);
	fd = vmci_qpair_fd(bed->creator);
	vmci_qpair_set_spin(bed->creator, 0);
	assert_int_equal(vmci_qpair_write(bed->creator, buf, 100, 0), 99);
	reader = started(read_one, bed->creator);
	until_it_sleeps(bed, RING_WANT_IN_OFFSET, 20000);
	assert_int_equal(vmci_qpair_arm(bed->creator, VMCI_QPAIR_OUT), 0);
	assert_int_equal(vmci_qpair_read(bed->attacher, buf, 1, 0), 1);
	usleep(50000);	/* the thread takes the wake-up, and sleeps again */
	assert_true(is_readable(fd, LIMIT_MS));
	assert_int_equal(vmci_qpair_arm(bed->creator, VMCI_QPAIR_OUT), VMCI_QPAIR_OUT);
	assert_int_equal(vmci_qpair_write(bed->attacher, "x", 1, 0), 1);
	assert_int_equal(joined(reader), 1);
}

static _Atomic unsigned reads;

static void *read_many(void *arg)
{
	char byte;

	while (vmci_qpair_read(arg, &byte, 1, -1) == 1)
		reads++;
	return NULL;
}

/* Who looks whether the peer is there must not take away what wakes a thread that sleeps without a limit. */
static void test_a_look_takes_no_wakeup_away(void **state)
{
	struct bed *bed = *state;
	pthread_t reader;

	pair_open(bed, 100, 100);
	vmci_qpair_set_spin(bed->creator, 0);
	reads = 0;
	reader = started(read_many, bed->creator);
	for (unsigned i = 1; i <= 300; i++) {
		until_it_sleeps(bed, RING_WANT_IN_OFFSET, 0);
		assert_int_equal(vmci_qpair_write(bed->attacher, "x", 1, 0), 1);
		for (int looks = 0; looks < 3; looks++)
			assert_int_equal(vmci_qpair_state(bed->creator, NULL), VMCI_QPAIR_ATTACHED);
		for (int ms = 0; ms < LIMIT_MS && reads < i; ms += reads < i)
			usleep(reads < i ? 100 : 0);
		assert_int_equal(reads, i);
	}
	bed->attacher = vmci_qpair_close(bed->attacher);
	assert_int_equal(joined(reader), 0);
}

static void test_two_sleepers_of_one_end(void **state)
{
	struct bed *bed = *state;
	pthread_t reader, writer;
	char buf[100];

	pair_open(bed, 100, 100);
	vmci_qpair_set_spin(bed->creator, 0);
	for (int i = 0; i < 4; i++) {
		bool reader_first = i & 1, read_first = i & 2;

		vmci_qpair_write(bed->creator, buf, 100, 0);
		reader = started(reader_first ? read_one : write_one, bed->creator);
		until_it_sleeps(bed, reader_first ? RING_WANT_IN_OFFSET : RING_WANT_OUT_OFFSET, 20000);
		writer = started(reader_first ? write_one : read_one, bed->creator);
		until_it_sleeps(bed, reader_first ? RING_WANT_OUT_OFFSET : RING_WANT_IN_OFFSET, 20000);
		if (read_first) {
			assert_int_equal(vmci_qpair_read(bed->attacher, buf, 1, 0), 1);
			assert_int_equal(joined(reader_first ? writer : reader), 1);
			assert_int_equal(vmci_qpair_write(bed->attacher, "x", 1, 0), 1);
			assert_int_equal(joined(reader_first ? reader : writer), 1);
		} else {
			assert_int_equal(vmci_qpair_write(bed->attacher, "x", 1, 0), 1);
			assert_int_equal(joined(reader_first ? reader : writer), 1);
			assert_int_equal(vmci_qpair_read(bed->attacher, buf, 1, 0), 1);
			assert_int_equal(joined(reader_first ? writer : reader), 1);
		}
	}
}

static void test_two_sleepers_hear_that_the_peer_has_left(void **state)
{
	struct bed *bed = *state;
	pthread_t reader, writer;
	char buf[100];

	pair_open(bed, 100, 100);
	vmci_qpair_set_spin(bed->creator, 0);
	vmci_qpair_write(bed->creator, buf, 100, 0);
	reader = started(read_one, bed->creator);
	until_it_sleeps(bed, RING_WANT_IN_OFFSET, 20000);
	writer = started(write_one, bed->creator);
	until_it_sleeps(bed, RING_WANT_OUT_OFFSET, 20000);
	assert_int_equal(vmci_qpair_state(bed->creator, NULL), VMCI_QPAIR_ATTACHED);	/* does not wait for them */
	bed->attacher = vmci_qpair_close(bed->attacher);
	assert_int_equal(joined(reader), VMCI_ERROR_QUEUEPAIR_NOTATTACHED);
	assert_int_equal(joined(writer), VMCI_ERROR_QUEUEPAIR_NOTATTACHED);
}

static void test_timeout_of_the_second_sleeper(void **state)
{
	struct bed *bed = *state;
	pthread_t reader;
	char buf[100];

	pair_open(bed, 100, 100);
	vmci_qpair_set_spin(bed->creator, 0);
	vmci_qpair_write(bed->creator, buf, 100, 0);
	reader = started(read_one, bed->creator);
	until_it_sleeps(bed, RING_WANT_IN_OFFSET, 20000);
	assert_int_equal(vmci_qpair_write(bed->creator, buf, 1, 20), VMCI_ERROR_TIMEOUT);
	assert_int_equal(vmci_qpair_write(bed->attacher, "x", 1, 0), 1);
	assert_int_equal(joined(reader), 1);
}

struct job {
	struct vmci_qpair *qpair;
	size_t bytes;
	unsigned seed;
	int timeout_ms;
};

static void *produce(void *arg)
{
	struct job *job = arg;
	uint8_t buf[300];
	size_t done = 0;

	while (done < job->bytes) {
		size_t n = (size_t)rand_r(&job->seed) % sizeof(buf) + 1;
		int64_t len;

		if (n > job->bytes - done)
			n = job->bytes - done;
		for (size_t i = 0; i < n; i++)
			buf[i] = (uint8_t)((done + i) * 7 + (done + i) / 251);
		len = vmci_qpair_write(job->qpair, buf, n, job->timeout_ms);
		if (len < 0)
			return (void *)(intptr_t)len;
		done += (size_t)len;
	}
	return NULL;
}

static void *consume(void *arg)
{
	struct job *job = arg;
	uint8_t buf[300];
	size_t done = 0;

	while (done < job->bytes) {
		int64_t len = vmci_qpair_read(job->qpair, buf, (size_t)rand_r(&job->seed) % sizeof(buf) + 1,
					      job->timeout_ms);

		if (len < 0)
			return (void *)(intptr_t)len;
		for (size_t i = 0; i < (size_t)len; i++)
			if (buf[i] != (uint8_t)((done + i) * 7 + (done + i) / 251))
				return (void *)1;
		done += (size_t)len;
	}
	return NULL;
}

/* Both directions at once, a thread for each at each end. */
static void exchange(struct bed *bed, uint64_t size, size_t bytes, unsigned spin, int timeout_ms)
{
	struct job jobs[4];
	pthread_t threads[4];

	pair_open(bed, size, size);
	vmci_qpair_set_spin(bed->creator, spin);
	vmci_qpair_set_spin(bed->attacher, spin);
	for (unsigned i = 0; i < 4; i++) {
		jobs[i] = (struct job){ .qpair = i & 1 ? bed->creator : bed->attacher, .bytes = bytes, .seed = i,
					.timeout_ms = timeout_ms };
		threads[i] = started(i & 2 ? produce : consume, &jobs[i]);
	}
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(joined(threads[i]), 0);
}

static void test_four_threads_that_sleep(void **state)
{
	exchange(*state, 100, 100000, 0, -1);
}

static void test_four_threads_that_sleep_with_a_limit(void **state)
{
	exchange(*state, 100, 100000, 0, LIMIT_MS);
}

static void test_four_threads_that_look_first(void **state)
{
	exchange(*state, 4096, 500000, 50, LIMIT_MS);
}

static void test_a_ring_of_one_byte(void **state)
{
	exchange(*state, 2, 2000, 0, LIMIT_MS);
}

/* --- Peers that lie, peers that die ------------------------------------------------------------------------------ */

/* The creator made both ends of the life socket, and may keep a copy of ours. */
static void test_a_creator_that_makes_our_socket_non_blocking(void **state)
{
	struct bed *bed = *state;
	pthread_t reader;
	int copy;

	create_open(bed, B, 100, 100);
	copy = dup(broker.life);
	assert_int_equal(vmci_qpair_attach(&bed->b, handle, 100, 100, 0, &bed->attacher), 0);
	assert_int_equal(fcntl(copy, F_SETFL, O_NONBLOCK), 0);
	vmci_qpair_set_spin(bed->attacher, 0);
	assert_int_equal(vmci_qpair_wait(bed->attacher, VMCI_QPAIR_IN, 20), VMCI_ERROR_TIMEOUT);
	reader = started(read_one, bed->attacher);
	until_it_sleeps(bed, 8192 + RING_WANT_IN_OFFSET, 20000);
	assert_int_equal(vmci_qpair_write(bed->creator, "x", 1, 0), 1);
	assert_int_equal(joined(reader), 1);
	close(copy);
}

static void test_a_flood_of_wakeups(void **state)
{
	struct bed *bed = *state;
	char flood[5000] = { 0 };
	int copy;

	create_open(bed, B, 100, 100);
	copy = dup(broker.life);
	assert_int_equal(vmci_qpair_attach(&bed->b, handle, 100, 100, 0, &bed->attacher), 0);
	assert_true(send(copy, flood, sizeof(flood), MSG_DONTWAIT) > 0);
	vmci_qpair_set_spin(bed->creator, 0);
	assert_int_equal(vmci_qpair_wait(bed->creator, VMCI_QPAIR_IN, 20), VMCI_ERROR_TIMEOUT);
	assert_int_equal(vmci_qpair_state(bed->creator, NULL), VMCI_QPAIR_ATTACHED);
	close(copy);
}

static void test_killed_peers(void **state)
{
	struct bed *bed = *state;

	for (unsigned i = 0; i < 12; i++) {
		bool writes = i & 1;
		struct job job;
		int status;
		pid_t pid;

		pair_open(bed, 100, 100);
		pid = fork();
		assert_true(pid >= 0);
		if (!pid) {	/* the attacher; each process closes its copy of what is the other's, without a word */
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			bed->a.is_forked = true;
			bed->creator = vmci_qpair_close(bed->creator);
			job = (struct job){ .qpair = bed->attacher, .bytes = SIZE_MAX, .timeout_ms = -1 };
			_exit(writes ? produce(&job) != NULL : consume(&job) != NULL);
		}
		bed->b.is_forked = true;
		bed->attacher = vmci_qpair_close(bed->attacher);
		bed->b.is_forked = false;
		usleep(i * 500);
		kill(pid, SIGKILL);
		job = (struct job){ .qpair = bed->creator, .bytes = SIZE_MAX, .timeout_ms = LIMIT_MS, .seed = i };
		assert_int_equal((intptr_t)(writes ? consume(&job) : produce(&job)), VMCI_ERROR_QUEUEPAIR_NOTATTACHED);
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_int_equal(vmci_qpair_state(bed->creator, NULL), VMCI_QPAIR_LEFT);
		bed->creator = vmci_qpair_close(bed->creator);
		munmap(bed->raw, bed->raw_size);
		bed->raw = NULL;
	}
}

/* --- fork(2) ----------------------------------------------------------------------------------------------------- */

static void test_a_child_has_no_part_in_it(void **state)
{
	struct bed *bed = *state;
	int status;
	pid_t pid;

	pair_open(bed, 100, 100);
	assert_int_equal(vmci_qpair_write(bed->creator, "x", 1, 0), 1);
	pid = fork();
	assert_true(pid >= 0);
	if (!pid) {
		size_t n;
		char byte;

		bed->a.is_forked = bed->b.is_forked = true;
		bed->a.object->ops->forked(bed->a.object);
		bed->b.object->ops->forked(bed->b.object);
		if (vmci_qpair_write(bed->creator, "x", 1, -1) != VMCI_ERROR_UNAVAILABLE ||
		    vmci_qpair_read(bed->attacher, &byte, 1, -1) != VMCI_ERROR_UNAVAILABLE ||
		    vmci_qpair_peek(bed->attacher, &byte, 1, -1) != VMCI_ERROR_UNAVAILABLE ||
		    vmci_qpair_wait(bed->attacher, VMCI_QPAIR_IN, -1) != VMCI_ERROR_UNAVAILABLE ||
		    vmci_qpair_arm(bed->attacher, VMCI_QPAIR_IN) != VMCI_ERROR_UNAVAILABLE ||
		    vmci_qpair_fd(bed->attacher) != VMCI_ERROR_UNAVAILABLE ||
		    vmci_qpair_ready(bed->attacher) != VMCI_ERROR_UNAVAILABLE ||
		    vmci_qpair_room(bed->attacher) != VMCI_ERROR_UNAVAILABLE ||
		    vmci_qpair_commit(bed->creator, 0) != VMCI_ERROR_UNAVAILABLE ||
		    vmci_qpair_release(bed->attacher, 0) != VMCI_ERROR_UNAVAILABLE ||
		    vmci_qpair_reserve(bed->creator, &n) || vmci_qpair_acquire(bed->attacher, &n))
			_exit(1);
		vmci_qpair_close(bed->creator);
		vmci_qpair_close(bed->attacher);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_int_equal(vmci_qpair_state(bed->creator, NULL), VMCI_QPAIR_ATTACHED);
	assert_int_equal(vmci_qpair_ready(bed->attacher), 1);
}

static void test_a_child_does_not_keep_its_parent_alive(void **state)
{
	struct bed *bed = *state;
	int status, stop[2];
	pid_t pid;

	pair_open(bed, 100, 100);
	assert_int_equal(pipe(stop), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		bed->a.object->ops->forked(bed->a.object);
		bed->b.object->ops->forked(bed->b.object);
		close(stop[1]);
		_exit(read(stop[0], &status, 1) != 0);
	}
	close(stop[0]);
	bed->b.is_forked = true;	/* dies without a word */
	bed->attacher = vmci_qpair_close(bed->attacher);
	bed->b.is_forked = false;
	assert_int_equal(vmci_qpair_wait(bed->creator, VMCI_QPAIR_PEER, LIMIT_MS), VMCI_QPAIR_PEER);
	assert_int_equal(vmci_qpair_state(bed->creator, NULL), VMCI_QPAIR_LEFT);
	close(stop[1]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

/* --- The next broker --------------------------------------------------------------------------------------------- */

static int resume(struct vmci *vmci)
{
	return vmci->object->ops->resume(vmci->object, NULL);
}

static ino_t inode(int fd)
{
	struct stat st;

	assert_int_equal(fstat(fd, &st), 0);
	return st.st_ino;
}

static void test_a_waiting_pair_is_made_known_anew(void **state)
{
	struct bed *bed = *state;
	ino_t memory, life;
	char buf[8];

	create_open(bed, B, 100, 200);
	memory = inode(broker.memory);
	life = inode(broker.life);
	fd_close(&broker.memory);	/* the broker dies */
	fd_close(&broker.life);
	assert_int_equal(vmci_qpair_state(bed->creator, NULL), VMCI_QPAIR_WAITING);
	assert_int_equal(resume(&bed->a), 0);
	assert_int_equal(broker.resumed[FAB_QP_CREATE], 1);
	assert_int_equal(broker.resumed[FAB_QP_HOLD], 0);
	assert_int_equal(broker.request.flags, FAB_F_RESUME);
	assert_true(handle_is_equal(broker.request.handle, handle));
	assert_int_equal(broker.request.other.context, B);
	assert_int_equal(broker.request.size0, 100);
	assert_int_equal(broker.request.size1, 200);
	assert_int_equal(broker.request.token[0], A & 0xff);
	assert_int_equal(inode(broker.request.fd[0]), memory);
	assert_int_equal(inode(broker.request.fd[1]), life);

	broker.memory = fd_take(&broker.request.fd[0]);
	broker.life = fd_take(&broker.request.fd[1]);
	assert_int_equal(vmci_qpair_write(bed->creator, "still", 5, 0), 5);
	assert_int_equal(vmci_qpair_attach(&bed->b, handle, 200, 100, 0, &bed->attacher), 0);
	assert_int_equal(vmci_qpair_read(bed->attacher, buf, 8, 0), 5);
}

static void test_both_ends_hold_an_attached_pair(void **state)
{
	struct bed *bed = *state;

	create_open(bed, VMCI_INVALID_ID, 100, 200);
	assert_int_equal(vmci_qpair_attach(&bed->b, handle, 200, 100, 0, &bed->attacher), 0);
	assert_int_equal(resume(&bed->a), 0);	/* it learns only now that somebody has come */
	assert_int_equal(broker.resumed[FAB_QP_HOLD], 1);
	assert_true(handle_is_equal(broker.request.handle, handle));
	assert_int_equal(broker.request.other.context, B);
	assert_int_equal(broker.request.size0, 100);
	assert_int_equal(broker.request.size1, 200);
	assert_int_equal(broker.request.token[0], A & 0xff);
	assert_int_equal(resume(&bed->b), 0);
	assert_int_equal(broker.resumed[FAB_QP_HOLD], 2);
	assert_int_equal(broker.request.other.context, A);
	assert_int_equal(broker.request.size0, 200);
	assert_int_equal(broker.request.size1, 100);
	assert_int_equal(broker.request.token[0], B & 0xff);
	assert_int_equal(broker.resumed[FAB_QP_CREATE], 0);
}

static void test_the_pair_goes_on_whatever_the_broker_says(void **state)
{
	struct bed *bed = *state;
	char buf[8];

	pair_open(bed, 100, 100);
	broker.resume_status = VMCI_ERROR_NO_ACCESS;
	assert_int_equal(resume(&bed->a), VMCI_ERROR_NO_ACCESS);
	broker.resume_status = -ECONNRESET;
	assert_int_equal(resume(&bed->b), -ECONNRESET);
	assert_int_equal(vmci_qpair_write(bed->creator, "on", 2, 0), 2);
	assert_int_equal(vmci_qpair_read(bed->attacher, buf, 8, LIMIT_MS), 2);
}

static void test_a_waiting_pair_that_the_broker_refuses(void **state)
{
	struct bed *bed = *state;
	char byte;

	create_open(bed, B, 100, 100);
	broker.resume_status = -ECONNRESET;
	assert_int_equal(resume(&bed->a), -ECONNRESET);
	assert_int_equal(vmci_qpair_state(bed->creator, NULL), VMCI_QPAIR_WAITING);
	broker.resume_status = VMCI_ERROR_NO_RESOURCES;
	assert_int_equal(resume(&bed->a), VMCI_ERROR_NO_RESOURCES);
	assert_int_equal(vmci_qpair_read(bed->creator, &byte, 1, LIMIT_MS), VMCI_ERROR_QUEUEPAIR_NOTATTACHED);
	assert_int_equal(vmci_qpair_state(bed->creator, NULL), VMCI_QPAIR_LEFT);
}

static struct ring *attached;

static void attach_behind_the_back(void)
{
	broker.before_resume_reply = NULL;
	broker.resume_status = VMCI_ERROR_ALREADY_EXISTS;
	assert_int_equal(ring_map(broker.memory, broker.life, B, 100, 100, &attached), 0);
	broker.life = -1;
}

/* The broker has introduced somebody, died, and he is the first to tell the next one. */
static void test_an_attacher_comes_while_we_resume(void **state)
{
	struct bed *bed = *state;

	create_open(bed, B, 100, 100);
	broker.before_resume_reply = attach_behind_the_back;
	assert_int_equal(resume(&bed->a), 0);
	assert_int_equal(broker.resumed[FAB_QP_CREATE], 1);
	assert_int_equal(broker.resumed[FAB_QP_HOLD], 1);
	assert_int_equal(vmci_qpair_state(bed->creator, NULL), VMCI_QPAIR_ATTACHED);
	assert_int_equal(vmci_qpair_write(bed->creator, "x", 1, 0), 1);
	assert_int_equal(ring_ready(attached, 1), 1);
	attached = ring_free(attached);
}

static void test_what_no_broker_knew_is_not_resumed(void **state)
{
	struct bed *bed = *state;
	struct vmci_qpair *qpair;

	/* The membership calls resume() for objects in its list, also before the first reply. */
	create_open(bed, B, 100, 100);
	assert_int_equal(bed->a.objects, 1);
	broker.status = VMCI_ERROR_NO_ACCESS;
	assert_int_equal(vmci_qpair_create(&bed->b, 5001, A, 10, 10, 0, &qpair), VMCI_ERROR_NO_ACCESS);
	assert_int_equal(bed->b.objects, 0);
}

/* --- With a guest's pages -------------------------------------------------------------------------------------- */

#define GUEST_OUT 8192u		/* the program reads */
#define GUEST_IN 4096u

/**
 * struct guest - a guest and its device, as far as a program sees them
 * @ring: for its life; the pages are in @map
 */
struct guest {
	struct ring *ring;
	struct direct_sheet sheet;
	uint8_t *map;
	int ram;
};

static void guest_begin(struct guest *g)
{
	g->ram = memfd_create("guest", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	assert_int_equal(ftruncate(g->ram, 16 * 4096), 0);
	assert_int_equal(fcntl(g->ram, F_ADD_SEALS, F_SEAL_SHRINK), 0);
	g->map = mmap(NULL, 16 * 4096, PROT_READ | PROT_WRITE, MAP_SHARED, g->ram, 0);
	assert_ptr_not_equal(g->map, MAP_FAILED);
}

/* A guest's pair that can be attached to; its pages are @code, if that is an error. They are on their way already. */
static void guest_offers(struct guest *g, int32_t code)
{
	const struct direct_run run = { .pages = 5 };
	int fds[2] = { -1, g->ram };

	broker.creator = 50;
	broker.produce = GUEST_OUT;
	broker.consume = GUEST_IN;
	broker.reply_flags = FAB_F_DIRECT;
	assert_int_equal(ring_create(GUEST_OUT, GUEST_IN, &g->ring, &broker.memory, &broker.life), 0);
	assert_int_equal(direct_sheet_new(code, GUEST_OUT, GUEST_IN, &run, 1, 1, &g->sheet, &fds[0]), 0);
	assert_int_equal(direct_send(ring_fd(g->ring), fds, code ? 1 : 2), 0);
	close(fds[0]);
}

static void guest_writes(struct guest *g, const char *text)
{
	size_t at = (size_t)get_le64(g->map + VMCI_QUEUE_TAIL_OFFSET);

	memcpy(g->map + 4096 + at, text, strlen(text));
	put_le64(g->map + VMCI_QUEUE_TAIL_OFFSET, at + strlen(text));
}

/* It leaves, with so many bytes unread. */
static void guest_leaves(struct guest *g)
{
	uint8_t *map;
	int fd;

	direct_sheet_end(&g->sheet);
	assert_int_equal(direct_snapshot_new(GUEST_OUT, &map, &fd), 0);
	memcpy(map, g->map, direct_snapshot_size(GUEST_OUT));
	munmap(map, direct_snapshot_size(GUEST_OUT));
	memset(g->map, 0xee, 16 * 4096);
	assert_int_equal(direct_send(ring_fd(g->ring), &fd, 1), 0);
	close(fd);
	ring_leave(g->ring);
}

static void guest_end(struct guest *g)
{
	for (unsigned i = 0; i < 16 * 4096; i++)
		if (g->map[0] == 0xee)
			assert_int_equal(g->map[i], 0xee);
	munmap(g->map, 16 * 4096);
	close(g->ram);
	direct_sheet_done(&g->sheet);
	ring_free(g->ring);
}

static void test_direct_attach(void **state)
{
	struct bed *bed = *state;
	const uint8_t *place;
	struct guest g = { 0 };
	uint8_t buf[100];
	size_t n;

	guest_begin(&g);
	guest_offers(&g, 0);
	assert_int_equal(vmci_qpair_attach(&bed->b, handle, GUEST_IN, GUEST_OUT, VMCI_QPAIR_DIRECT, &bed->attacher), 0);
	assert_int_equal(broker.request.flags, FAB_F_DIRECT);
	assert_int_equal(vmci_qpair_state(bed->attacher, NULL), VMCI_QPAIR_ATTACHED);
	guest_writes(&g, "from the guest");
	assert_int_equal(vmci_qpair_read(bed->attacher, buf, sizeof(buf), 0), 14);
	assert_memory_equal(buf, "from the guest", 14);
	assert_int_equal(vmci_qpair_write(bed->attacher, "to the guest", 12, 0), 12);
	assert_memory_equal(g.map + 4 * 4096, "to the guest", 12);

	/* A broker is told that the pair is held, as of any other. */
	assert_int_equal(bed->b.object->ops->resume(bed->b.object, NULL), 0);
	assert_int_equal(broker.resumed[FAB_QP_HOLD], 1);
	assert_int_equal(broker.request.flags, 0);

	guest_writes(&g, "last words");
	assert_non_null(vmci_qpair_acquire(bed->attacher, &n));
	guest_leaves(&g);
	assert_int_equal(vmci_qpair_release(bed->attacher, n), VMCI_ERROR_QUEUEPAIR_NOTATTACHED);
	assert_int_equal(vmci_qpair_wait(bed->attacher, VMCI_QPAIR_PEER | VMCI_QPAIR_IN, LIMIT_MS) & VMCI_QPAIR_PEER,
			 VMCI_QPAIR_PEER);
	assert_int_equal(vmci_qpair_write(bed->attacher, "x", 1, LIMIT_MS), VMCI_ERROR_QUEUEPAIR_NOTATTACHED);
	place = vmci_qpair_acquire(bed->attacher, &n);
	assert_non_null(place);
	assert_int_equal(n, 10);
	assert_memory_equal(place, "last words", 10);
	assert_int_equal(vmci_qpair_release(bed->attacher, 5), 0);
	assert_int_equal(vmci_qpair_read(bed->attacher, buf, sizeof(buf), LIMIT_MS), 5);
	assert_int_equal(vmci_qpair_read(bed->attacher, buf, sizeof(buf), LIMIT_MS), VMCI_ERROR_QUEUEPAIR_NOTATTACHED);
	guest_end(&g);
}

/* A sleeper asks the device to look for it, and is woken by the guest's end, too. */
static void test_direct_sleep(void **state)
{
	struct bed *bed = *state;
	struct guest g = { 0 };
	uint8_t buf[100];

	guest_begin(&g);
	guest_offers(&g, 0);
	assert_int_equal(vmci_qpair_attach(&bed->b, handle, GUEST_IN, GUEST_OUT, VMCI_QPAIR_DIRECT, &bed->attacher), 0);
	while (ring_hear(g.ring, false))
		;
	assert_int_equal(vmci_qpair_read(bed->attacher, buf, sizeof(buf), 20), VMCI_ERROR_TIMEOUT);
	assert_true(ring_hear(g.ring, false));
	assert_int_equal(vmci_qpair_arm(bed->attacher, VMCI_QPAIR_IN), 0);
	assert_true(ring_hear(g.ring, false));
	assert_true(get_le32(g.map + 3 * 4096 + RING_WANT_IN_OFFSET) != 0);
	guest_leaves(&g);
	assert_int_equal(vmci_qpair_read(bed->attacher, buf, sizeof(buf), -1), VMCI_ERROR_QUEUEPAIR_NOTATTACHED);
	guest_end(&g);
}

static void test_direct_refused(void **state)
{
	struct bed *bed = *state;
	struct vmci_qpair *qpair;
	struct guest g = { 0 };

	guest_begin(&g);
	guest_offers(&g, VMCI_ERROR_CANNOT_SHARE_PAGE);
	assert_int_equal(vmci_qpair_attach(&bed->b, handle, GUEST_IN, GUEST_OUT, VMCI_QPAIR_DIRECT, &qpair),
			 VMCI_ERROR_CANNOT_SHARE_PAGE);
	assert_int_equal(broker.asked[FAB_QP_DETACH], 1);
	guest_end(&g);
	/* A device that dies in the middle of it. */
	guest_begin(&g);
	broker.creator = 50;
	assert_int_equal(ring_create(GUEST_OUT, GUEST_IN, &g.ring, &broker.memory, &broker.life), 0);
	ring_leave(g.ring);
	assert_true(vmci_qpair_attach(&bed->b, handle, GUEST_IN, GUEST_OUT, VMCI_QPAIR_DIRECT, &qpair) < 0);
	g.sheet = (struct direct_sheet){ 0 };
	guest_end(&g);
}

/* Made by the program: nothing goes before the guest is there. */
static void test_direct_create(void **state)
{
	const struct direct_run run = { .pages = 5 };
	struct bed *bed = *state;
	struct guest g = { 0 };
	uint32_t peer;
	int fds[2];

	guest_begin(&g);
	assert_int_equal(vmci_qpair_create(&bed->a, 5000, 50, GUEST_IN, GUEST_OUT, VMCI_QPAIR_DIRECT, &bed->creator), 0);
	assert_int_equal(broker.request.flags, FAB_F_DIRECT);
	assert_int_equal(vmci_qpair_write(bed->creator, "early", 5, 0), VMCI_ERROR_WOULD_BLOCK);
	assert_int_equal(vmci_qpair_room(bed->creator), 0);
	/* A broker that comes meanwhile is told that it is a direct one. */
	assert_int_equal(bed->a.object->ops->resume(bed->a.object, NULL), 0);
	assert_int_equal(broker.resumed[FAB_QP_CREATE], 1);
	assert_int_equal(broker.request.flags, FAB_F_DIRECT | FAB_F_RESUME);

	assert_int_equal(ring_map(broker.memory, broker.life, 50, GUEST_OUT, GUEST_IN, &g.ring), 0);
	broker.life = -1;
	assert_int_equal(vmci_qpair_state(bed->creator, NULL), VMCI_QPAIR_WAITING);
	assert_int_equal(direct_sheet_new(0, GUEST_OUT, GUEST_IN, &run, 1, 1, &g.sheet, &fds[0]), 0);
	fds[1] = g.ram;
	assert_int_equal(direct_send(ring_fd(g.ring), fds, 2), 0);
	close(fds[0]);
	assert_int_equal(vmci_qpair_wait(bed->creator, VMCI_QPAIR_OUT, LIMIT_MS), VMCI_QPAIR_OUT);
	assert_int_equal(vmci_qpair_state(bed->creator, &peer), VMCI_QPAIR_ATTACHED);
	assert_int_equal(peer, 50);
	assert_int_equal(vmci_qpair_write(bed->creator, "now", 3, 0), 3);
	assert_memory_equal(g.map + 4 * 4096, "now", 3);
	guest_leaves(&g);
	assert_int_equal(vmci_qpair_write(bed->creator, "x", 1, LIMIT_MS), VMCI_ERROR_QUEUEPAIR_NOTATTACHED);
	guest_end(&g);
}

/* Between programs nothing is copied anyway. */
static void test_direct_between_programs(void **state)
{
	struct bed *bed = *state;

	create_open(bed, VMCI_INVALID_ID, 100, 100);
	assert_int_equal(vmci_qpair_attach(&bed->b, handle, 100, 100, VMCI_QPAIR_DIRECT, &bed->attacher), 0);
	assert_int_equal(vmci_qpair_write(bed->attacher, "x", 1, 0), 1);
	assert_int_equal(vmci_qpair_read(bed->creator, (char[2]){ 0 }, 2, 0), 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(test_##name, begin, end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(create_attach_close),
		TEST(peer_any_says_who_it_is),
		TEST(wrong_arguments_do_not_reach_the_broker),
		TEST(flags_reach_the_broker),
		TEST(the_brokers_word),
		TEST(a_creator_that_passes_anything),
		TEST(a_creator_that_has_died),
		TEST(bytes),
		TEST(zero_copy),
		TEST(before_anybody_attaches),
		TEST(one_direction_only),
		TEST(a_corrupt_ring),
		TEST(after_the_peer_has_left),
		TEST(a_call_that_does_not_wait_sees_it_at_once),
		TEST(timeouts),
		TEST(polling),
		TEST(polling_for_the_attacher),
		TEST(polling_beside_a_thread_that_sleeps),
		TEST(a_look_takes_no_wakeup_away),
		TEST(two_sleepers_of_one_end),
		TEST(two_sleepers_hear_that_the_peer_has_left),
		TEST(timeout_of_the_second_sleeper),
		TEST(four_threads_that_sleep),
		TEST(four_threads_that_sleep_with_a_limit),
		TEST(four_threads_that_look_first),
		TEST(a_ring_of_one_byte),
		TEST(a_creator_that_makes_our_socket_non_blocking),
		TEST(a_flood_of_wakeups),
		TEST(killed_peers),
		TEST(a_child_has_no_part_in_it),
		TEST(a_child_does_not_keep_its_parent_alive),
		TEST(a_waiting_pair_is_made_known_anew),
		TEST(both_ends_hold_an_attached_pair),
		TEST(the_pair_goes_on_whatever_the_broker_says),
		TEST(a_waiting_pair_that_the_broker_refuses),
		TEST(an_attacher_comes_while_we_resume),
		TEST(what_no_broker_knew_is_not_resumed),
		TEST(direct_attach),
		TEST(direct_sleep),
		TEST(direct_refused),
		TEST(direct_create),
		TEST(direct_between_programs),
	};

	alarm(100);	/* some wait for ever if something is wrong */
	return cmocka_run_group_tests(tests, NULL, NULL);
}
