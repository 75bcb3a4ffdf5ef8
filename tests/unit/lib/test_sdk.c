/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The SDK of 2007 over a libvmci of our own, which has no broker, uses ids again at once, and aborts when
 * anything is used after its end. What the SDK does over the real one: tests/behaviour/test_samples.py.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/fd.h"
#include "vmci/vmci.h"
#include "vmci/vmcilib.h"

/* Anything that has to happen happens within this time; only failures wait so long. */
#define LIMIT_MS 20000

/* also in threads, where cmocka's assertions do not work */
#define CHECK(what)                                                                     \
	do {                                                                            \
		if (!(what)) {                                                          \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #what);      \
			abort();                                                        \
		}                                                                       \
	} while (0)

/* ----- a libvmci */

#define ENDPOINTS_MAX 64
#define REGIONS_MAX 8
#define NAMES_MAX 8
#define FIRST_RID 1024u

struct vmci {
	bool is_open;
};

struct vmci_dgram {
	bool is_open;
	struct vmci_handle handle;
	int fd, sink;
	bool is_lost;
};

struct vmci_shm {
	bool is_attached;
	struct vmci_handle handle;
};

static struct fake {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	struct vmci vmci;
	char path[64];
	bool has_path;
	uint32_t cid;
	int open_result;
	unsigned opens, closes;
	bool hold_open;		/* vmci_open() waits */
	bool hold_send;		/* vmci_dgram_send() waits */
	unsigned in_open, in_send, in_recv, in_lookup;
	struct vmci_dgram endpoints[ENDPOINTS_MAX];
	struct {
		uint64_t size;
		unsigned users;
		uint8_t memory[256];
	} regions[REGIONS_MAX];
	struct vmci_shm attachment[REGIONS_MAX];
	struct {
		char text[256];
		struct vmci_handle handle;
	} names[NAMES_MAX];
	unsigned unregistered;
	bool no_broker;		/* names: nobody is there */
	unsigned groups, groups_destroyed;
	struct vmci_handle resource, client;
	uint32_t allow, deny;
	int right_result;
} fake;

static struct timespec in_ms(int64_t ms)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	t.tv_sec += ms / 1000;
	t.tv_nsec += ms % 1000 * 1000000;
	if (t.tv_nsec >= 1000000000) {
		t.tv_nsec -= 1000000000;
		t.tv_sec++;
	}
	return t;
}

/* with the lock */
static void wait_change(void)
{
	const struct timespec end = in_ms(LIMIT_MS);

	CHECK(pthread_cond_timedwait(&fake.changed, &fake.lock, &end) == 0);
}

static void set(bool *flag, bool value)
{
	pthread_mutex_lock(&fake.lock);
	*flag = value;
	pthread_cond_broadcast(&fake.changed);
	pthread_mutex_unlock(&fake.lock);
}

/* wait until so many threads are in a function of libvmci */
static void until_inside(const unsigned *inside, unsigned n)
{
	pthread_mutex_lock(&fake.lock);
	while (*inside < n)
		wait_change();
	pthread_mutex_unlock(&fake.lock);
}

static void count(unsigned *counter, int by)
{
	*counter += (unsigned)by;
	pthread_cond_broadcast(&fake.changed);
}

int vmci_open(const char *path, uint32_t cid, uint32_t flags, struct vmci **ret_vmci)
{
	int result;

	CHECK(flags == 0);
	pthread_mutex_lock(&fake.lock);
	fake.opens++;
	fake.has_path = path;
	snprintf(fake.path, sizeof(fake.path), "%s", path ? path : "");
	fake.cid = cid == VMCI_INVALID_ID ? 77 : cid;
	count(&fake.in_open, 1);
	while (fake.hold_open)
		wait_change();
	result = fake.open_result;
	if (result >= 0) {
		CHECK(!fake.vmci.is_open);
		fake.vmci.is_open = true;
		*ret_vmci = &fake.vmci;
	}
	count(&fake.in_open, -1);
	pthread_mutex_unlock(&fake.lock);
	return result;
}

struct vmci *vmci_close(struct vmci *vmci)
{
	if (!vmci)
		return NULL;
	pthread_mutex_lock(&fake.lock);
	CHECK(vmci->is_open);
	for (unsigned i = 0; i < ENDPOINTS_MAX; i++)
		CHECK(!fake.endpoints[i].is_open);
	for (unsigned i = 0; i < REGIONS_MAX; i++)
		CHECK(!fake.attachment[i].is_attached);
	vmci->is_open = false;
	fake.closes++;
	pthread_mutex_unlock(&fake.lock);
	return NULL;
}

uint32_t vmci_cid(const struct vmci *vmci)
{
	CHECK(vmci->is_open);
	return fake.cid;
}

uint32_t vmci_version(void)
{
	return 0x10203;
}

const char *vmci_strerror(int code)
{
	return code == VMCI_ERROR_NO_ACCESS ? "no access" : "other";
}

int vmci_dgram_open(struct vmci *vmci, uint32_t rid, struct vmci_dgram **ret_dgram)
{
	int pair[2], result = VMCI_ERROR_NO_RESOURCES;

	pthread_mutex_lock(&fake.lock);
	CHECK(vmci->is_open);
	for (unsigned i = 0; i < ENDPOINTS_MAX; i++) {
		struct vmci_dgram *d = &fake.endpoints[i];

		if (d->is_open && rid == FIRST_RID + i)
			result = VMCI_ERROR_ALREADY_EXISTS;
		if (d->is_open || (rid != VMCI_INVALID_ID && rid != FIRST_RID + i))
			continue;
		CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) == 0);
		*d = (struct vmci_dgram){ true, { fake.cid, FIRST_RID + i }, pair[0], pair[1], false };
		*ret_dgram = d;
		result = VMCI_SUCCESS;
		break;
	}
	pthread_mutex_unlock(&fake.lock);
	return result;
}

struct vmci_dgram *vmci_dgram_close(struct vmci_dgram *dgram)
{
	pthread_mutex_lock(&fake.lock);
	CHECK(dgram->is_open);
	dgram->is_open = false;
	fd_close(&dgram->fd);
	fd_close(&dgram->sink);
	pthread_mutex_unlock(&fake.lock);
	return NULL;
}

struct vmci_handle vmci_dgram_handle(const struct vmci_dgram *dgram)
{
	CHECK(dgram->is_open);
	return dgram->handle;
}

int vmci_dgram_fd(const struct vmci_dgram *dgram)
{
	CHECK(dgram->is_open);
	return dgram->fd;
}

int vmci_dgram_send(struct vmci_dgram *dgram, struct vmci_handle dst, const void *data, size_t size)
{
	uint8_t packet[8 + 256];
	int result = VMCI_ERROR_DST_UNREACHABLE;

	pthread_mutex_lock(&fake.lock);
	CHECK(dgram->is_open);
	count(&fake.in_send, 1);
	while (fake.hold_send)
		wait_change();
	/* still, after all this time */
	CHECK(dgram->is_open);
	if (dst.context == fake.cid) {
		struct vmci_dgram *to = dst.resource - FIRST_RID < ENDPOINTS_MAX
						? &fake.endpoints[dst.resource - FIRST_RID] : NULL;

		result = VMCI_ERROR_INVALID_RESOURCE;
		if (to && to->is_open && size <= 256) {
			memcpy(packet, &dgram->handle, 8);
			memcpy(packet + 8, data, size);
			result = (int)size;
			if (send(to->sink, packet, 8 + size, MSG_DONTWAIT) < 0)
				result = VMCI_ERROR_NO_RESOURCES;
		} else if (to && to->is_open) {
			result = (int)size;
		}
	}
	count(&fake.in_send, -1);
	pthread_mutex_unlock(&fake.lock);
	return result;
}

int vmci_dgram_recv(struct vmci_dgram *dgram, void *buf, size_t size, int timeout_ms, struct vmci_handle *ret_src)
{
	uint8_t packet[8 + 256];
	ssize_t n;
	int result;

	CHECK(timeout_ms == 0);
	pthread_mutex_lock(&fake.lock);
	CHECK(dgram->is_open);
	fake.in_recv++;
	pthread_cond_broadcast(&fake.changed);
	n = recv(dgram->fd, packet, sizeof(packet), MSG_PEEK | MSG_DONTWAIT);
	if (n < 0) {
		result = dgram->is_lost ? VMCI_ERROR_NO_HANDLE : VMCI_ERROR_WOULD_BLOCK;
	} else if ((size_t)n - 8 > size) {
		result = VMCI_ERROR_NO_MEM;
	} else {
		CHECK(recv(dgram->fd, packet, sizeof(packet), MSG_DONTWAIT) == n);
		if (ret_src)
			memcpy(ret_src, packet, 8);
		if (n > 8)
			memcpy(buf, packet + 8, (size_t)n - 8);
		result = (int)n - 8;
	}
	pthread_mutex_unlock(&fake.lock);
	return result;
}

/* the region {cid, i}; the lock is held */
static int region_of(struct vmci_handle handle)
{
	if (handle.context != fake.cid || handle.resource >= REGIONS_MAX || !fake.regions[handle.resource].users)
		return -1;
	return (int)handle.resource;
}

int vmci_shm_create(struct vmci *vmci, uint32_t rid, uint64_t size, struct vmci_shm **ret_shm)
{
	int result = VMCI_ERROR_NO_RESOURCES;

	CHECK(vmci->is_open && rid == VMCI_INVALID_ID && size > 0);
	pthread_mutex_lock(&fake.lock);
	for (unsigned i = 0; i < REGIONS_MAX && size <= 1u << 30; i++) {
		if (fake.regions[i].users)
			continue;
		memset(&fake.regions[i], 0, sizeof(fake.regions[i]));
		fake.regions[i].users = 1;
		fake.regions[i].size = size;
		fake.attachment[i] = (struct vmci_shm){ true, { fake.cid, i } };
		*ret_shm = &fake.attachment[i];
		result = VMCI_SUCCESS;
		break;
	}
	pthread_mutex_unlock(&fake.lock);
	return result;
}

int vmci_shm_query(struct vmci *vmci, struct vmci_handle handle, uint64_t *ret_size)
{
	int i;

	CHECK(vmci->is_open);
	pthread_mutex_lock(&fake.lock);
	i = region_of(handle);
	if (i >= 0)
		*ret_size = fake.regions[i].size;
	pthread_mutex_unlock(&fake.lock);
	return i < 0 ? VMCI_ERROR_NOT_FOUND : VMCI_SUCCESS;
}

int vmci_shm_attach(struct vmci *vmci, struct vmci_handle handle, struct vmci_shm **ret_shm)
{
	int i, result = VMCI_ERROR_NOT_FOUND;

	CHECK(vmci->is_open);
	pthread_mutex_lock(&fake.lock);
	i = region_of(handle);
	if (i >= 0) {
		result = VMCI_ERROR_ALREADY_EXISTS;
		if (!fake.attachment[i].is_attached) {
			fake.regions[i].users++;
			fake.attachment[i] = (struct vmci_shm){ true, handle };
			*ret_shm = &fake.attachment[i];
			result = VMCI_SUCCESS;
		}
	}
	pthread_mutex_unlock(&fake.lock);
	return result;
}

int vmci_shm_detach(struct vmci_shm *shm)
{
	int result;

	pthread_mutex_lock(&fake.lock);
	CHECK(shm->is_attached);
	shm->is_attached = false;
	result = --fake.regions[shm->handle.resource].users ? VMCI_SUCCESS : VMCI_SUCCESS_LAST_DETACH;
	pthread_mutex_unlock(&fake.lock);
	return result;
}

struct vmci_handle vmci_shm_handle(const struct vmci_shm *shm)
{
	CHECK(shm->is_attached);
	return shm->handle;
}

void *vmci_shm_address(const struct vmci_shm *shm)
{
	CHECK(shm->is_attached);
	return fake.regions[shm->handle.resource].memory;
}

uint64_t vmci_shm_size(const struct vmci_shm *shm)
{
	CHECK(shm->is_attached);
	return fake.regions[shm->handle.resource].size;
}

static int name_of(const char *name)
{
	for (int i = 0; i < NAMES_MAX; i++) {
		if (!strcmp(fake.names[i].text, name))
			return i;
	}
	return -1;
}

int vmci_name_register(struct vmci *vmci, const char *name, struct vmci_handle handle)
{
	int i, result = VMCI_ERROR_ALREADY_EXISTS;

	CHECK(vmci->is_open);
	if (!*name)
		return VMCI_ERROR_INVALID_ARGS;
	pthread_mutex_lock(&fake.lock);
	if (name_of(name) < 0) {
		i = name_of("");
		CHECK(i >= 0);
		snprintf(fake.names[i].text, sizeof(fake.names[i].text), "%s", name);
		fake.names[i].handle = handle;
		result = VMCI_SUCCESS;
	}
	pthread_mutex_unlock(&fake.lock);
	return result;
}

int vmci_name_unregister(struct vmci *vmci, const char *name)
{
	int i;

	CHECK(vmci->is_open);
	pthread_mutex_lock(&fake.lock);
	i = name_of(name);
	if (i >= 0) {
		fake.names[i].text[0] = '\0';
		fake.unregistered++;
	}
	pthread_mutex_unlock(&fake.lock);
	return i < 0 ? VMCI_ERROR_NOT_FOUND : VMCI_SUCCESS;
}

int vmci_name_lookup(struct vmci *vmci, const char *name, int timeout_ms, struct vmci_handle *ret_handle)
{
	int i;

	CHECK(vmci->is_open);
	pthread_mutex_lock(&fake.lock);
	fake.in_lookup++;
	pthread_cond_broadcast(&fake.changed);
	if (fake.no_broker) {
		pthread_mutex_unlock(&fake.lock);
		return VMCI_ERROR_UNAVAILABLE;
	}
	i = name_of(name);
	if (i >= 0)
		*ret_handle = fake.names[i].handle;
	pthread_mutex_unlock(&fake.lock);
	if (i < 0 && timeout_ms > 0)
		poll(NULL, 0, timeout_ms);
	return i < 0 ? VMCI_ERROR_NOT_FOUND : VMCI_SUCCESS;
}

static int right(struct vmci *vmci, struct vmci_handle resource, struct vmci_handle client, uint32_t allow,
		 uint32_t deny)
{
	CHECK(vmci->is_open);
	fake.resource = resource;
	fake.client = client;
	fake.allow = allow;
	fake.deny = deny;
	return fake.right_result;
}

int vmci_grant(struct vmci *vmci, struct vmci_handle resource, struct vmci_handle client, uint32_t allow, uint32_t deny)
{
	return right(vmci, resource, client, allow, deny);
}

int vmci_revoke(struct vmci *vmci, struct vmci_handle resource, struct vmci_handle client, uint32_t privileges)
{
	return right(vmci, resource, client, privileges, 0);
}

int vmci_revoke_all(struct vmci *vmci, struct vmci_handle resource, struct vmci_handle client)
{
	return right(vmci, resource, client, 0, 0);
}

int vmci_check(struct vmci *vmci, struct vmci_handle resource, struct vmci_handle client, uint32_t privilege)
{
	return right(vmci, resource, client, privilege, 0);
}

int vmci_group_create(struct vmci *vmci, struct vmci_handle *ret_group)
{
	CHECK(vmci->is_open);
	*ret_group = VMCI_MAKE_HANDLE(2, 3000 + fake.groups++);
	return VMCI_SUCCESS;
}

int vmci_group_destroy(struct vmci *vmci, struct vmci_handle group)
{
	CHECK(vmci->is_open);
	fake.groups_destroyed++;
	return group.resource >= 3000 ? VMCI_SUCCESS : VMCI_ERROR_NOT_FOUND;
}

int vmci_group_add(struct vmci *vmci, struct vmci_handle group, struct vmci_handle member, int may_assign)
{
	return right(vmci, group, member, (uint32_t)may_assign, 0);
}

int vmci_group_remove(struct vmci *vmci, struct vmci_handle group, struct vmci_handle member)
{
	return right(vmci, group, member, 0, 0);
}

int vmci_group_is_member(struct vmci *vmci, struct vmci_handle group, struct vmci_handle member)
{
	return right(vmci, group, member, 0, 0);
}

/* ----- helpers */

static int setup(void **state)
{
	(void)state;
	memset(&fake, 0, sizeof(fake));
	pthread_mutex_init(&fake.lock, NULL);
	pthread_cond_init(&fake.changed, NULL);
	unsetenv("VMCI_CONTEXT");
	return 0;
}

static int setup_member(void **state)
{
	setup(state);
	return VMCI_InitApp(NULL);
}

/* The last thing of each test: nothing is left. */
static int teardown(void **state)
{
	(void)state;
	VMCI_CleanupApp();
	return fake.vmci.is_open || fake.opens != fake.closes || VMCI_GetContextID() != VMCI_INVALID_ID;
}

static VMCIHandle endpoint(void)
{
	VMCIHandle handle = VMCIDatagram_CreateHnd(0);

	CHECK(!VMCI_HANDLE_INVALID(handle));
	return handle;
}

static pthread_t start(void *(*what)(void *), void *arg)
{
	pthread_t thread;

	CHECK(pthread_create(&thread, NULL, what, arg) == 0);
	return thread;
}

static void join(pthread_t thread)
{
	const struct timespec end = in_ms(LIMIT_MS);

	CHECK(pthread_timedjoin_np(thread, NULL, &end) == 0);
}

/* ----- the membership */

static void test_header(void **state)
{
	const VMCIHandle a = VMCI_MAKE_HANDLE(1, 2), b = VMCI_MAKE_HANDLE(1, VMCI_INVALID_ID);

	(void)state;
	assert_int_equal(sizeof(VMCIHandle), 8);
	assert_int_equal(sizeof(VMCIId), 4);
	assert_int_equal(VMCI_HANDLE_TO_CONTEXT_ID(a), 1);
	assert_int_equal(VMCI_HANDLE_TO_RESOURCE_ID(a), 2);
	assert_true(VMCI_HANDLE_EQUAL(a, a));
	assert_false(VMCI_HANDLE_EQUAL(a, b));
	assert_false(VMCI_HANDLE_INVALID(b));
	assert_true(VMCI_HANDLE_INVALID(VMCI_INVALID_HANDLE));
	assert_string_equal(VMCI_PUBLIC_GROUP_NAME, "vmci public group");
}

static void test_not_a_member(void **state)
{
	const VMCIResourcePrivilegeType privilege = VMCI_PRIV_DG_SEND;
	VMCIHandle h = { 2, 1024 }, out = { 5, 6 };
	uint32_t size = 7;
	void *addr = NULL;
	char c = 0;

	(void)state;
	VMCI_CleanupApp();
	assert_int_equal(VMCI_GetContextID(), VMCI_INVALID_ID);
	assert_int_equal(VMCI_Version(), 0x10203);
	assert_string_equal(VMCI_ErrorString(VMCI_ERROR_NO_ACCESS), "no access");
	assert_true(VMCI_HANDLE_INVALID(VMCIDatagram_CreateHnd(0)));
	assert_int_equal(VMCIDatagram_CreateHndEx(VMCI_INVALID_ID, 0, &out), VMCI_ERROR_NO_PROCESS);
	assert_int_equal(VMCIDatagram_DestroyHnd(h), VMCI_ERROR_NO_PROCESS);
	assert_int_equal(VMCIDatagram_SendTo(h, h, 1, &c), VMCI_ERROR_NO_PROCESS);
	assert_int_equal(VMCIDatagram_RecvFrom(h, &out, &c, 1), VMCI_ERROR_NO_PROCESS);
	assert_int_equal(VMCIDatagram_GetFd(h), VMCI_ERROR_NO_PROCESS);
	assert_true(VMCI_HANDLE_INVALID(VMCISharedMem_Create(1, &addr)));
	assert_int_equal(VMCISharedMem_Query(h, &size), VMCI_ERROR_NO_PROCESS);
	assert_int_equal(VMCISharedMem_Attach(h, &addr, &size), VMCI_ERROR_NO_PROCESS);
	assert_int_equal(VMCISharedMem_Detach(h), VMCI_ERROR_NO_PROCESS);
	assert_int_equal(VMCIResource_AddClientPrivileges(h, h, 1, &privilege, 0, NULL), VMCI_ERROR_NO_PROCESS);
	assert_int_equal(VMCIResource_RemoveClientPrivileges(h, h, 1, &privilege), VMCI_ERROR_NO_PROCESS);
	assert_int_equal(VMCIResource_RemoveAllClientPrivileges(h, h), VMCI_ERROR_NO_PROCESS);
	assert_int_equal(VMCIResource_CheckClientPrivilege(h, h, privilege), VMCI_ERROR_NO_PROCESS);
	assert_int_equal(VMCIGroup_Create(&out), VMCI_ERROR_NO_PROCESS);
	assert_int_equal(VMCIGroup_Destroy(h), VMCI_ERROR_NO_PROCESS);
	assert_int_equal(VMCIGroup_AddMember(h, h, 0), VMCI_ERROR_NO_PROCESS);
	assert_int_equal(VMCIGroup_RemoveMember(h, h), VMCI_ERROR_NO_PROCESS);
	assert_int_equal(VMCIGroup_IsMember(h, h), VMCI_ERROR_NO_PROCESS);
	assert_int_equal(VMCIDs_Register("n", h), VMCI_ERROR_NO_PROCESS);
	assert_int_equal(VMCIDs_Lookup("n", &out), VMCI_ERROR_NO_PROCESS);
	assert_int_equal(VMCIDs_Unregister("n"), VMCI_ERROR_NO_PROCESS);
	/* no output has been written */
	assert_true(out.context == 5 && out.resource == 6 && size == 7 && !addr);
}

static void test_devices(void **state)
{
	static const struct {
		const char *device, *path;
	} good[] = {
		{ NULL, NULL },
		{ "/dev/vmci", NULL },
		{ "/dev/x", NULL },
		{ "/run/vmci", "/run/vmci" },
		{ "/run/vmci//", "/run/vmci" },
		{ "/run/vmci/control.sock", "/run/vmci" },
		{ "/control.sock", "/control.sock" },
		{ "/dev/shm/vmci", "/dev/shm/vmci" },
		{ "/", "/" },
	};
	static const char *const bad[] = { "", "vmci", "./x", "control.sock", "\\\\.\\VMCI" };

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		assert_int_equal(VMCI_InitApp(good[i].device), VMCI_SUCCESS);
		assert_int_equal(fake.has_path, good[i].path != NULL);
		assert_string_equal(fake.path, good[i].path ? good[i].path : "");
		assert_int_equal(VMCI_GetContextID(), VMCI_CID_HOST);
		VMCI_CleanupApp();
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(VMCI_InitApp(bad[i]), VMCI_ERROR_INVALID_ARGS);
	assert_int_equal(fake.opens, sizeof(good) / sizeof(good[0]));
}

static void test_contexts(void **state)
{
	static const struct {
		const char *wish;
		uint32_t cid;
	} good[] = {
		{ "", 2 }, { "host", 2 }, { "2", 2 }, { "new", 77 }, { "16", 16 }, { "4294967294", 4294967294u },
	};
	static const char *const bad[] = { "0", "1", "3", "15", "-16", "+16", " 16", "16 ", "0x10", "4294967295", "x",
		"99999999999999999999", "NEW" };

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		setenv("VMCI_CONTEXT", good[i].wish, 1);
		assert_int_equal(VMCI_InitApp(NULL), VMCI_SUCCESS);
		assert_int_equal(VMCI_GetContextID(), good[i].cid);
		VMCI_CleanupApp();
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		setenv("VMCI_CONTEXT", bad[i], 1);
		assert_int_equal(VMCI_InitApp(NULL), VMCI_ERROR_INVALID_ARGS);
	}
	assert_int_equal(fake.opens, sizeof(good) / sizeof(good[0]));
}

static void test_counted(void **state)
{
	(void)state;
	fake.open_result = VMCI_ERROR_DEVICE_NOT_FOUND;
	assert_int_equal(VMCI_InitApp(NULL), VMCI_ERROR_DEVICE_NOT_FOUND);
	VMCI_CleanupApp();
	assert_int_equal(fake.closes, 0);
	fake.open_result = 0;
	fake.opens = 0;

	assert_int_equal(VMCI_InitApp("/a"), VMCI_SUCCESS);
	assert_int_equal(VMCI_InitApp(NULL), VMCI_SUCCESS);
	assert_int_equal(VMCI_InitApp("/a/control.sock"), VMCI_SUCCESS);
	assert_int_equal(VMCI_InitApp("/dev/vmci"), VMCI_SUCCESS);
	assert_int_equal(VMCI_InitApp("/b"), VMCI_ERROR_INVALID_ARGS);
	assert_int_equal(fake.opens, 1);
	for (int i = 0; i < 3; i++)
		VMCI_CleanupApp();
	assert_int_equal(fake.closes, 0);
	assert_int_equal(VMCI_GetContextID(), VMCI_CID_HOST);
	VMCI_CleanupApp();
	assert_int_equal(fake.closes, 1);
	VMCI_CleanupApp();

	/* a path cannot be told from a default one */
	assert_int_equal(VMCI_InitApp(NULL), VMCI_SUCCESS);
	assert_int_equal(VMCI_InitApp("/a"), VMCI_ERROR_INVALID_ARGS);
}

static void *init_app(void *arg)
{
	*(int *)arg = VMCI_InitApp(NULL);
	return NULL;
}

static void test_init_at_once(void **state)
{
	pthread_t threads[8];
	int results[8];

	(void)state;
	fake.hold_open = true;
	for (int i = 0; i < 8; i++)
		threads[i] = start(init_app, &results[i]);
	until_inside(&fake.in_open, 1);
	/* meanwhile nobody is a member */
	assert_int_equal(VMCI_GetContextID(), VMCI_INVALID_ID);
	VMCI_CleanupApp();
	set(&fake.hold_open, false);
	for (int i = 0; i < 8; i++) {
		join(threads[i]);
		assert_int_equal(results[i], VMCI_SUCCESS);
	}
	assert_int_equal(fake.opens, 1);
	for (int i = 0; i < 7; i++)
		VMCI_CleanupApp();
	assert_int_equal(fake.closes, 0);
}

/* ----- datagrams */

static void test_datagrams(void **state)
{
	VMCIHandle a = endpoint(), b = endpoint(), c, src = { 9, 9 };
	char buf[8] = "";

	(void)state;
	assert_int_equal(VMCIDatagram_SendTo(b, a, 5, "hello"), 5);
	assert_int_equal(VMCIDatagram_SendTo(b, a, 0, NULL), 0);
	assert_int_equal(VMCIDatagram_RecvFrom(b, &src, buf, 4), VMCI_ERROR_NO_MEM);
	assert_int_equal(src.context, 9);
	assert_int_equal(VMCIDatagram_RecvFrom(b, &src, buf, sizeof(buf)), 5);
	assert_memory_equal(buf, "hello", 5);
	assert_true(VMCI_HANDLE_EQUAL(src, a));
	assert_int_equal(VMCIDatagram_RecvFrom(b, NULL, NULL, 0), 0);
	assert_int_equal(VMCIDatagram_RecvFromTimeout(b, &src, buf, sizeof(buf), 0), VMCI_ERROR_TIMEOUT);
	assert_int_equal(VMCIDatagram_RecvFromTimeout(b, &src, buf, sizeof(buf), 20), VMCI_ERROR_TIMEOUT);
	assert_true(VMCIDatagram_GetFd(a) >= 0);

	assert_int_equal(VMCIDatagram_CreateHndEx(1030, 0, &c), VMCI_SUCCESS);
	assert_int_equal(c.resource, 1030);
	assert_int_equal(VMCIDatagram_CreateHndEx(1030, 0, &c), VMCI_ERROR_ALREADY_EXISTS);
	assert_int_equal(VMCIDatagram_DestroyHnd(a), VMCI_SUCCESS);
	assert_int_equal(VMCIDatagram_SendTo(a, b, 1, "x"), VMCI_ERROR_INVALID_RESOURCE);
}

static void test_datagram_arguments(void **state)
{
	VMCIHandle a = endpoint(), gone = endpoint(), foreign = { 2, 9999 }, invalid = VMCI_INVALID_HANDLE;
	void *large = calloc(1, VMCI_DG_MAX_PAYLOAD + 1);
	char buf[4];

	(void)state;
	assert_int_equal(VMCIDatagram_DestroyHnd(gone), VMCI_SUCCESS);
	assert_true(VMCI_HANDLE_INVALID(VMCIDatagram_CreateHnd(1)));
	assert_int_equal(VMCIDatagram_CreateHndEx(VMCI_INVALID_ID, 1, &gone), VMCI_ERROR_INVALID_ARGS);
	assert_int_equal(VMCIDatagram_CreateHndEx(VMCI_INVALID_ID, 0, NULL), VMCI_ERROR_INVALID_ARGS);
	assert_int_equal(VMCIDatagram_DestroyHnd(gone), VMCI_ERROR_NO_HANDLE);
	assert_int_equal(VMCIDatagram_DestroyHnd(foreign), VMCI_ERROR_NO_HANDLE);
	assert_int_equal(VMCIDatagram_DestroyHnd(invalid), VMCI_ERROR_INVALID_ARGS);
	assert_int_equal(VMCIDatagram_SendTo(a, gone, 1, "x"), VMCI_ERROR_NO_HANDLE);
	assert_int_equal(VMCIDatagram_SendTo(a, a, 1, NULL), VMCI_ERROR_INVALID_ARGS);
	assert_int_equal(VMCIDatagram_SendTo(a, a, VMCI_DG_MAX_PAYLOAD + 1, large), VMCI_ERROR_INVALID_ARGS);
	assert_int_equal(VMCIDatagram_SendTo(a, a, VMCI_DG_MAX_PAYLOAD, large), VMCI_DG_MAX_PAYLOAD);
	assert_int_equal(VMCIDatagram_RecvFrom(gone, NULL, buf, sizeof(buf)), VMCI_ERROR_NO_HANDLE);
	assert_int_equal(VMCIDatagram_RecvFrom(invalid, NULL, buf, sizeof(buf)), VMCI_ERROR_INVALID_ARGS);
	assert_int_equal(VMCIDatagram_RecvFrom(a, NULL, NULL, 4), VMCI_ERROR_INVALID_ARGS);
	assert_int_equal(VMCIDatagram_GetFd(gone), VMCI_ERROR_NO_HANDLE);
	/* the handle of something else */
	assert_int_equal(VMCISharedMem_Detach(a), VMCI_ERROR_NO_HANDLE);
	free(large);
}

struct call {
	VMCIHandle handle;
	int result;
	char buf[16];
};

static void *receive(void *arg)
{
	struct call *call = arg;

	call->result = VMCIDatagram_RecvFrom(call->handle, NULL, call->buf, sizeof(call->buf));
	return NULL;
}

static void *send_one(void *arg)
{
	struct call *call = arg;

	call->result = VMCIDatagram_SendTo(call->handle, call->handle, 1, "x");
	return NULL;
}

static void *destroy(void *arg)
{
	struct call *call = arg;

	call->result = VMCIDatagram_DestroyHnd(call->handle);
	return NULL;
}

static void test_receive_blocks(void **state)
{
	struct call call = { .handle = endpoint() };
	pthread_t thread = start(receive, &call);

	(void)state;
	until_inside(&fake.in_recv, 1);
	assert_int_equal(VMCIDatagram_SendTo(call.handle, call.handle, 3, "abc"), 3);
	join(thread);
	assert_int_equal(call.result, 3);
	assert_memory_equal(call.buf, "abc", 3);
}

static void test_destroy_wakes(void **state)
{
	struct call calls[6];
	pthread_t threads[6];
	VMCIHandle h = endpoint(), again;

	(void)state;
	for (int i = 0; i < 6; i++) {
		calls[i].handle = h;
		threads[i] = start(receive, &calls[i]);
	}
	until_inside(&fake.in_recv, 6);
	assert_int_equal(VMCIDatagram_DestroyHnd(h), VMCI_SUCCESS);
	/* the same number is another endpoint: nobody of the old ones is in it */
	again = endpoint();
	assert_true(VMCI_HANDLE_EQUAL(again, h));
	assert_int_equal(VMCIDatagram_SendTo(again, again, 1, "x"), 1);
	for (int i = 0; i < 6; i++) {
		join(threads[i]);
		assert_int_equal(calls[i].result, VMCI_ERROR_NO_HANDLE);
	}
	assert_int_equal(VMCIDatagram_RecvFrom(again, NULL, calls[0].buf, 16), 1);
}

/* Who is inside keeps the endpoint until it leaves; a second destroyer finds nothing. */
static void test_destroy_waits(void **state)
{
	struct call sending = { .handle = endpoint() }, destroying = { .handle = sending.handle };
	pthread_t sender, destroyer;
	int result;

	(void)state;
	fake.hold_send = true;
	sender = start(send_one, &sending);
	until_inside(&fake.in_send, 1);
	destroyer = start(destroy, &destroying);
	do
		result = VMCIDatagram_GetFd(sending.handle);
	while (result >= 0);
	assert_int_equal(result, VMCI_ERROR_NO_HANDLE);
	assert_int_equal(VMCIDatagram_DestroyHnd(sending.handle), VMCI_ERROR_NO_HANDLE);
	assert_true(fake.endpoints[0].is_open);
	set(&fake.hold_send, false);
	join(sender);
	join(destroyer);
	assert_int_equal(sending.result, 1);
	assert_int_equal(destroying.result, VMCI_SUCCESS);
	assert_false(fake.endpoints[0].is_open);
}

/*
 * Who waits is woken, and does not find out by himself, when he looks again after a second. A machine that stands still
 * for a second is no reason to fail, five times in a row are.
 */
static void test_destroy_wakes_at_once(void **state)
{
	struct call call;
	pthread_t thread;
	bool looked = true;

	(void)state;
	for (int i = 0; i < 5 && looked; i++) {
		call.handle = endpoint();
		fake.in_recv = 0;
		thread = start(receive, &call);
		until_inside(&fake.in_recv, 1);
		poll(NULL, 0, 100);	/* it most likely sleeps by now */
		assert_int_equal(VMCIDatagram_DestroyHnd(call.handle), VMCI_SUCCESS);
		join(thread);
		assert_int_equal(call.result, VMCI_ERROR_NO_HANDLE);
		looked = fake.in_recv > 1;
	}
	assert_false(looked);
}

static void test_lost_endpoint(void **state)
{
	struct call call = { .handle = endpoint() };
	pthread_t thread = start(receive, &call);

	(void)state;
	until_inside(&fake.in_recv, 1);
	set(&fake.endpoints[0].is_lost, true);
	join(thread);
	assert_int_equal(call.result, VMCI_ERROR_NO_HANDLE);
}

/* ----- all at once */

#define STRESS_THREADS 4
#define STRESS_ROUNDS 4000
#define STRESS_HANDLES 4

static _Atomic uint64_t stress_handles[STRESS_HANDLES];

static VMCIHandle unpack(uint64_t packed)
{
	return VMCI_MAKE_HANDLE((VMCIId)(packed >> 32), (VMCIId)packed);
}

static void *stress(void *arg)
{
	unsigned seed = (unsigned)(uintptr_t)arg;
	char buf[16];

	for (int i = 0; i < STRESS_ROUNDS; i++) {
		unsigned slot = (unsigned)rand_r(&seed) % STRESS_HANDLES;
		VMCIHandle h = unpack(atomic_load(&stress_handles[slot])), new;
		int result = 0;

		switch (rand_r(&seed) % 8) {
		case 0:
			new = VMCIDatagram_CreateHnd(0);
			if (!VMCI_HANDLE_INVALID(new))
				atomic_store(&stress_handles[slot], (uint64_t)new.context << 32 | new.resource);
			break;
		case 1:
			result = VMCIDatagram_DestroyHnd(h);
			CHECK(result == VMCI_SUCCESS || result == VMCI_ERROR_NO_HANDLE ||
			      result == VMCI_ERROR_NO_PROCESS);
			break;
		case 2:
		case 3:
			result = VMCIDatagram_SendTo(h, h, 3, "abc");
			break;
		case 4:
			result = VMCIDatagram_RecvFromTimeout(h, NULL, buf, sizeof(buf), 1);
			break;
		case 5:
			VMCIDatagram_GetFd(h);
			break;
		case 6:
			if (VMCI_InitApp(NULL) == VMCI_SUCCESS)
				VMCI_CleanupApp();
			break;
		default:
			result = VMCIDatagram_RecvFromTimeout(h, NULL, buf, sizeof(buf), 0);
		}
	}
	return NULL;
}

/* The fake aborts when anything is used after its end. */
static void test_stress(void **state)
{
	pthread_t threads[STRESS_THREADS];

	for (int i = 0; i < STRESS_HANDLES; i++)
		atomic_store(&stress_handles[i], (uint64_t)VMCI_CID_HOST << 32 | FIRST_RID);
	for (uintptr_t i = 0; i < STRESS_THREADS; i++)
		threads[i] = start(stress, (void *)(i + 1));
	for (int i = 0; i < STRESS_THREADS; i++)
		join(threads[i]);
	(void)state;
}

/* ----- the end */

struct lookup {
	int ms, result;
};

static void *look_up(void *arg)
{
	struct lookup *lookup = arg;
	VMCIHandle handle;

	lookup->result = VMCIDs_LookupTimeout("never", &handle, lookup->ms);
	return NULL;
}

static void test_cleanup_ends_all(void **state)
{
	struct call receiving = { .handle = endpoint() };
	struct lookup looking = { .ms = -1 };
	VMCIHandle foreign = { 2, 5000 }, region, group;
	pthread_t receiver, looker;
	void *addr;

	(void)state;
	region = VMCISharedMem_Create(100, &addr);
	assert_false(VMCI_HANDLE_INVALID(region));
	assert_int_equal(VMCIGroup_Create(&group), VMCI_SUCCESS);
	assert_int_equal(VMCIDs_Register("mine", receiving.handle), VMCI_SUCCESS);
	assert_int_equal(VMCIDs_Register("its", foreign), VMCI_SUCCESS);
	assert_int_equal(VMCIDs_Register("was mine", foreign), VMCI_SUCCESS);
	fake.names[name_of("was mine")].handle.resource++;
	receiver = start(receive, &receiving);
	looker = start(look_up, &looking);
	until_inside(&fake.in_recv, 1);
	until_inside(&fake.in_lookup, 1);

	/* the fake checks that nothing is left when the membership ends */
	VMCI_CleanupApp();
	assert_int_equal(fake.closes, 1);
	assert_int_equal(fake.groups_destroyed, 1);
	assert_int_equal(fake.regions[region.resource].users, 0);
	assert_int_equal(name_of("mine"), -1);
	assert_int_equal(name_of("its"), -1);
	assert_int_not_equal(name_of("was mine"), -1);
	join(receiver);
	join(looker);
	assert_int_equal(receiving.result, VMCI_ERROR_NO_HANDLE);
	assert_int_equal(looking.result, VMCI_ERROR_NO_PROCESS);

	/* and from the beginning */
	assert_int_equal(VMCI_InitApp(NULL), VMCI_SUCCESS);
	assert_int_equal(VMCIDatagram_GetFd(receiving.handle), VMCI_ERROR_NO_HANDLE);
	assert_true(VMCI_HANDLE_EQUAL(endpoint(), receiving.handle));
}

/* ----- shared memory */

static void test_shared_memory(void **state)
{
	VMCIHandle h, other = { 2, 5 };
	uint32_t size = 0;
	void *a, *b = NULL;

	(void)state;
	h = VMCISharedMem_Create(100, &a);
	assert_false(VMCI_HANDLE_INVALID(h));
	assert_int_equal(VMCISharedMem_Query(h, &size), VMCI_SUCCESS);
	assert_int_equal(size, 100);
	assert_int_equal(VMCISharedMem_Attach(h, &b, &size), VMCI_ERROR_ALREADY_EXISTS);
	assert_null(b);
	/* somebody else holds it, too */
	fake.regions[h.resource].users++;
	assert_int_equal(VMCISharedMem_Detach(h), VMCI_SUCCESS);
	assert_int_equal(VMCISharedMem_Detach(h), VMCI_ERROR_NO_HANDLE);
	size = 0;
	assert_int_equal(VMCISharedMem_Attach(h, &b, &size), VMCI_SUCCESS);
	assert_int_equal(size, 100);
	assert_ptr_equal(a, b);
	fake.regions[h.resource].users--;
	assert_int_equal(VMCISharedMem_Detach(h), VMCI_SUCCESS_LAST_DETACH);
	assert_int_equal(VMCISharedMem_Query(h, &size), VMCI_ERROR_NOT_FOUND);
	assert_int_equal(VMCISharedMem_Attach(h, &b, &size), VMCI_ERROR_NOT_FOUND);

	assert_true(VMCI_HANDLE_INVALID(VMCISharedMem_Create(0, &a)));
	assert_true(VMCI_HANDLE_INVALID(VMCISharedMem_Create((1u << 30) + 1, &a)));
	assert_true(VMCI_HANDLE_INVALID(VMCISharedMem_Create(1, NULL)));
	assert_int_equal(VMCISharedMem_Query(VMCI_INVALID_HANDLE, &size), VMCI_ERROR_INVALID_ARGS);
	assert_int_equal(VMCISharedMem_Query(other, NULL), VMCI_ERROR_INVALID_ARGS);
	assert_int_equal(VMCISharedMem_Attach(other, NULL, &size), VMCI_ERROR_INVALID_ARGS);
	assert_int_equal(VMCISharedMem_Attach(other, &a, NULL), VMCI_ERROR_INVALID_ARGS);
	assert_int_equal(VMCISharedMem_Detach(VMCI_INVALID_HANDLE), VMCI_ERROR_INVALID_ARGS);

	/* larger than a size can say here */
	fake.regions[5].users = 1;
	fake.regions[5].size = 1ull << 32 | 64;
	assert_int_equal(VMCISharedMem_Query(other, &size), VMCI_ERROR_INVALID_SIZE);
	assert_int_equal(VMCISharedMem_Attach(other, &a, &size), VMCI_ERROR_INVALID_SIZE);
	assert_int_equal(fake.regions[5].users, 1);
	assert_false(fake.attachment[5].is_attached);
}

/* ----- rights */

static void test_rights(void **state)
{
	static const VMCIResourcePrivilegeType some[] = { VMCI_PRIV_DG_SEND, VMCI_PRIV_SM_ATTACH, VMCI_PRIV_DG_SEND };
	static const VMCIResourcePrivilegeType wrong[] = { VMCI_PRIV_DG_SEND, VMCI_PRIV_NUM };
	static const VMCIResourcePrivilegeType wrong_too[] = { 0xffffffffu };
	const uint32_t mask = 1u << VMCI_PRIV_DG_SEND | 1u << VMCI_PRIV_SM_ATTACH;
	const VMCIHandle r = { 2, 1024 }, c = { 42, 0 }, invalid = VMCI_INVALID_HANDLE;

	(void)state;
	assert_int_equal(VMCIResource_AddClientPrivileges(r, c, 3, some, 0, NULL), VMCI_SUCCESS);
	assert_int_equal(fake.allow, mask);
	assert_int_equal(fake.deny, 0);
	assert_true(VMCI_HANDLE_EQUAL(fake.resource, r) && VMCI_HANDLE_EQUAL(fake.client, c));
	/* what is in both is denied: SDK reference, 5.2 */
	assert_int_equal(VMCIResource_AddClientPrivileges(r, c, 2, some, 1, some), VMCI_SUCCESS);
	assert_int_equal(fake.allow, 1u << VMCI_PRIV_SM_ATTACH);
	assert_int_equal(fake.deny, 1u << VMCI_PRIV_DG_SEND);
	assert_int_equal(VMCIResource_AddClientPrivileges(r, c, 0, NULL, 0, NULL), VMCI_ERROR_INVALID_ARGS);
	assert_int_equal(VMCIResource_AddClientPrivileges(r, c, -1, some, 1, some), VMCI_ERROR_INVALID_ARGS);
	assert_int_equal(VMCIResource_AddClientPrivileges(r, c, 1, NULL, 1, some), VMCI_ERROR_INVALID_ARGS);
	assert_int_equal(VMCIResource_AddClientPrivileges(r, invalid, 1, some, 0, NULL), VMCI_ERROR_INVALID_ARGS);
	assert_int_equal(VMCIResource_AddClientPrivileges(invalid, c, 1, some, 0, NULL), VMCI_ERROR_INVALID_ARGS);
	assert_int_equal(VMCIResource_AddClientPrivileges(r, c, 1, some, 2, wrong), VMCI_ERROR_INVALID_PRIV);
	assert_int_equal(VMCIResource_AddClientPrivileges(r, c, 1, wrong_too, 0, NULL), VMCI_ERROR_INVALID_PRIV);

	assert_int_equal(VMCIResource_RemoveClientPrivileges(r, c, 2, some), VMCI_SUCCESS);
	assert_int_equal(fake.allow, mask);
	assert_int_equal(VMCIResource_RemoveClientPrivileges(r, c, 0, some), VMCI_ERROR_INVALID_ARGS);
	assert_int_equal(VMCIResource_RemoveAllClientPrivileges(r, c), VMCI_SUCCESS);
	assert_int_equal(fake.allow, 0);
	fake.right_result = VMCI_SUCCESS_ACCESS_GRANTED;
	assert_int_equal(VMCIResource_CheckClientPrivilege(r, c, VMCI_PRIV_DG_SEND), VMCI_SUCCESS_ACCESS_GRANTED);
	assert_int_equal(fake.allow, VMCI_PRIV_DG_SEND);
	assert_int_equal(VMCIResource_CheckClientPrivilege(r, c, VMCI_PRIV_NUM), VMCI_ERROR_INVALID_PRIV);
	fake.right_result = VMCI_ERROR_NO_ACCESS;
	assert_int_equal(VMCIResource_AddClientPrivileges(r, c, 1, some, 0, NULL), VMCI_ERROR_NO_ACCESS);
}

static void test_groups(void **state)
{
	VMCIHandle group, other = { 2, 3999 }, member = { 42, 0 };

	(void)state;
	assert_int_equal(VMCIGroup_Create(NULL), VMCI_ERROR_INVALID_ARGS);
	assert_int_equal(VMCIGroup_Create(&group), VMCI_SUCCESS);
	assert_int_equal(VMCIGroup_AddMember(group, member, 5), VMCI_SUCCESS);
	assert_int_equal(fake.allow, 1);
	assert_int_equal(VMCIGroup_RemoveMember(group, member), VMCI_SUCCESS);
	fake.right_result = 1;
	assert_int_equal(VMCIGroup_IsMember(group, member), 1);
	assert_int_equal(VMCIGroup_IsMember(group, VMCI_INVALID_HANDLE), VMCI_ERROR_INVALID_ARGS);
	assert_int_equal(VMCIGroup_Destroy(group), VMCI_SUCCESS);
	assert_int_equal(VMCIGroup_Destroy(other), VMCI_SUCCESS);
	assert_int_equal(VMCIGroup_Destroy(member), VMCI_ERROR_NOT_FOUND);
	assert_int_equal(VMCIGroup_Destroy(VMCI_INVALID_HANDLE), VMCI_ERROR_INVALID_ARGS);
	assert_int_equal(fake.groups_destroyed, 3);
}

/* ----- names */

static void *register_later(void *arg)
{
	until_inside(&fake.in_lookup, 2);
	CHECK(VMCIDs_Register("late", *(VMCIHandle *)arg) == VMCI_SUCCESS);
	return NULL;
}

static void test_names(void **state)
{
	VMCIHandle h = endpoint(), found = { 9, 9 };
	pthread_t thread;

	(void)state;
	assert_int_equal(VMCIDs_Lookup("n", &found), VMCI_ERROR_NOT_FOUND);
	assert_int_equal(VMCIDs_LookupTimeout("n", &found, 120), VMCI_ERROR_NOT_FOUND);
	assert_int_equal(found.context, 9);
	assert_int_equal(VMCIDs_Register("n", h), VMCI_SUCCESS);
	assert_int_equal(VMCIDs_Register("n", h), VMCI_ERROR_ALREADY_EXISTS);
	assert_int_equal(VMCIDs_Lookup("n", &found), VMCI_SUCCESS);
	assert_true(VMCI_HANDLE_EQUAL(found, h));
	assert_int_equal(VMCIDs_Unregister("n"), VMCI_SUCCESS);
	assert_int_equal(VMCIDs_Unregister("n"), VMCI_ERROR_NOT_FOUND);

	assert_int_equal(VMCIDs_Register(NULL, h), VMCI_ERROR_INVALID_ARGS);
	assert_int_equal(VMCIDs_Register("", h), VMCI_ERROR_INVALID_ARGS);
	assert_int_equal(VMCIDs_Register("n", VMCI_INVALID_HANDLE), VMCI_ERROR_INVALID_ARGS);
	assert_int_equal(VMCIDs_Lookup(NULL, &found), VMCI_ERROR_INVALID_ARGS);
	assert_int_equal(VMCIDs_Lookup("n", NULL), VMCI_ERROR_INVALID_ARGS);
	assert_int_equal(VMCIDs_Unregister(NULL), VMCI_ERROR_INVALID_ARGS);

	fake.in_lookup = 0;
	thread = start(register_later, &h);
	assert_int_equal(VMCIDs_LookupTimeout("late", &found, -1), VMCI_SUCCESS);
	join(thread);

	/* an endpoint's names go with it, others stay */
	assert_int_equal(VMCIDs_Register("other", VMCI_MAKE_HANDLE(2, 5000)), VMCI_SUCCESS);
	assert_int_equal(VMCIDatagram_DestroyHnd(h), VMCI_SUCCESS);
	assert_int_equal(VMCIDs_Lookup("late", &found), VMCI_ERROR_NOT_FOUND);
	assert_int_equal(VMCIDs_Lookup("other", &found), VMCI_SUCCESS);
}

/* Each call that needs a broker waits for one: one is enough. */
static void test_names_without_broker(void **state)
{
	VMCIHandle h = endpoint();

	(void)state;
	assert_int_equal(VMCIDs_Register("a", h), VMCI_SUCCESS);
	assert_int_equal(VMCIDs_Register("b", h), VMCI_SUCCESS);
	assert_int_equal(VMCIDs_Register("c", h), VMCI_SUCCESS);
	fake.no_broker = true;
	assert_int_equal(VMCIDatagram_DestroyHnd(h), VMCI_SUCCESS);
	assert_int_equal(fake.in_lookup, 1);
	assert_int_equal(fake.unregistered, 0);
}

/* ----- fork */

/* What a child does while other threads of its parent are inside. Return: an exit status */
static int child(VMCIHandle theirs, uint8_t *region)
{
	unsigned unregistered = fake.unregistered;

	CHECK(VMCI_GetContextID() == VMCI_INVALID_ID);
	CHECK(VMCIDatagram_DestroyHnd(theirs) == VMCI_ERROR_NO_PROCESS);
	VMCI_CleanupApp();
	CHECK(region[0] == 123);
	/* a membership of its own; the fake allows one, which has to be closed first */
	CHECK(VMCI_InitApp(NULL) == VMCI_SUCCESS);
	CHECK(fake.unregistered == unregistered);
	CHECK(VMCIDatagram_GetFd(theirs) == VMCI_ERROR_NO_HANDLE);
	CHECK(!VMCI_HANDLE_INVALID(VMCIDatagram_CreateHnd(0)));
	VMCI_CleanupApp();
	CHECK(fake.unregistered == unregistered);
	return 0;
}

static void test_fork(void **state)
{
	struct call call = { .handle = endpoint() };
	pthread_t thread;
	void *region;
	int status;
	pid_t pid;

	(void)state;
	assert_false(VMCI_HANDLE_INVALID(VMCISharedMem_Create(16, &region)));
	*(uint8_t *)region = 123;
	assert_int_equal(VMCIDs_Register("parent's", call.handle), VMCI_SUCCESS);
	thread = start(receive, &call);
	until_inside(&fake.in_recv, 1);
	pthread_mutex_lock(&fake.lock);
	pid = fork();
	pthread_mutex_unlock(&fake.lock);
	assert_true(pid >= 0);
	if (pid == 0)
		_exit(child(call.handle, region));
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);

	/* the parent has not noticed */
	assert_int_equal(VMCIDatagram_SendTo(call.handle, call.handle, 2, "ab"), 2);
	join(thread);
	assert_int_equal(call.result, 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_header),
		cmocka_unit_test_setup_teardown(test_not_a_member, setup, teardown),
		cmocka_unit_test_setup_teardown(test_devices, setup, teardown),
		cmocka_unit_test_setup_teardown(test_contexts, setup, teardown),
		cmocka_unit_test_setup_teardown(test_counted, setup, teardown),
		cmocka_unit_test_setup_teardown(test_init_at_once, setup, teardown),
		cmocka_unit_test_setup_teardown(test_datagrams, setup_member, teardown),
		cmocka_unit_test_setup_teardown(test_datagram_arguments, setup_member, teardown),
		cmocka_unit_test_setup_teardown(test_receive_blocks, setup_member, teardown),
		cmocka_unit_test_setup_teardown(test_destroy_wakes, setup_member, teardown),
		cmocka_unit_test_setup_teardown(test_destroy_wakes_at_once, setup_member, teardown),
		cmocka_unit_test_setup_teardown(test_destroy_waits, setup_member, teardown),
		cmocka_unit_test_setup_teardown(test_lost_endpoint, setup_member, teardown),
		cmocka_unit_test_setup_teardown(test_stress, setup, teardown),
		cmocka_unit_test_setup_teardown(test_cleanup_ends_all, setup_member, teardown),
		cmocka_unit_test_setup_teardown(test_shared_memory, setup_member, teardown),
		cmocka_unit_test_setup_teardown(test_rights, setup_member, teardown),
		cmocka_unit_test_setup_teardown(test_groups, setup_member, teardown),
		cmocka_unit_test_setup_teardown(test_names, setup_member, teardown),
		cmocka_unit_test_setup_teardown(test_names_without_broker, setup_member, teardown),
		cmocka_unit_test_setup_teardown(test_fork, setup_member, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
