/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The SDK of 2007 over libvmci and a vmcid of the test's own, which $VMCID names: what needs rules, other
 * contexts, a broker that goes away. Other processes are this program once more; each does one thing, and says in
 * its exit status what came of it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "vmci/vmcilib.h"

#define LIMIT_MS 20000
#define CONTEXT 4000u		/* of children */
#define CONTEXT_TEXT "4000"

static char dir[64];
static pid_t vmcid;

/* ----- vmcid and children */

static bool is_listening(void)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	bool is;

	snprintf(address.sun_path, sizeof(address.sun_path), "%s/run/control.sock", dir);
	is = fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0;
	fd_close(&fd);
	return is;
}

static int start_vmcid(void)
{
	char run[80], config[80];

	snprintf(run, sizeof(run), "%s/run", dir);
	snprintf(config, sizeof(config), "%s/vmcid.conf", dir);
	vmcid = fork();
	if (vmcid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		execl(getenv("VMCID"), "vmcid", "--runtime-dir", run, "--config", config, "--vms", dir, NULL);
		_exit(127);
	}
	for (int ms = 0; ms < LIMIT_MS; ms += 10) {
		if (is_listening())
			return 0;
		poll(NULL, 0, 10);
	}
	return -1;
}

static void kill_vmcid(void)
{
	kill(vmcid, SIGKILL);
	waitpid(vmcid, NULL, 0);
}

static int init(const char *context)
{
	char run[80];

	snprintf(run, sizeof(run), "%s/run", dir);
	setenv("VMCI_CONTEXT", context, 1);
	return VMCI_InitApp(run);
}

static int setup_all(void **state)
{
	char config[80];
	FILE *f;

	(void)state;
	strcpy(dir, "/tmp/test-sdk-XXXXXX");
	if (!getenv("VMCID") || !mkdtemp(dir))
		return -1;
	snprintf(config, sizeof(config), "%s/vmcid.conf", dir);
	f = fopen(config, "w");
	if (!f || fclose(f))
		return -1;
	return start_vmcid();
}

static int teardown_all(void **state)
{
	char command[96];

	(void)state;
	kill(vmcid, SIGTERM);
	waitpid(vmcid, NULL, 0);
	snprintf(command, sizeof(command), "rm -rf '%s'", dir);
	return system(command);
}

static int setup(void **state)
{
	(void)state;
	return init("host");
}

static int teardown(void **state)
{
	(void)state;
	VMCI_CleanupApp();
	return VMCI_GetContextID() != VMCI_INVALID_ID;
}

/* What others do, with one of our handles: by number, for the process that does it is this program anew. */
enum deed {
	SEND,
	GRANT,
	ATTACH,
	UNREGISTER,
	REGISTER,
	HOLD,
	DEED_NUM,
};

/* this program as a member of @context, doing @deed; in a child */
static void be_elsewhere(const char *context, enum deed deed, VMCIHandle handle)
{
	char text[3][16];

	snprintf(text[0], sizeof(text[0]), "%d", (int)deed);
	snprintf(text[1], sizeof(text[1]), "%u", handle.context);
	snprintf(text[2], sizeof(text[2]), "%u", handle.resource);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	execl("/proc/self/exe", "test-lib-sdk-vmcid", dir, context, text[0], text[1], text[2], NULL);
	_exit(255);
}

/*
 * What @deed returns, -100..100, in a process of its own, which is a member of @context. It dies if it takes
 * too long.
 */
static int elsewhere(const char *context, enum deed deed, VMCIHandle handle)
{
	pid_t pid = fork();
	int status;

	assert_true(pid >= 0);
	if (pid == 0)
		be_elsewhere(context, deed, handle);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status) - 100;
}

/*
 * What is granted to a context goes with it: a child that is CONTEXT until the test is over, as others come and
 * go in it.
 */
static pid_t holder;

static int setup_holder(void **state)
{
	int result = setup(state), ready[2];
	char c;

	if (result != VMCI_SUCCESS || pipe(ready) < 0)
		return -1;
	holder = fork();
	if (holder == 0) {
		dup2(ready[1], STDOUT_FILENO);
		be_elsewhere(CONTEXT_TEXT, HOLD, VMCI_INVALID_HANDLE);
	}
	close(ready[1]);
	result = read(ready[0], &c, 1) == 1 ? 0 : -1;
	close(ready[0]);
	return result;
}

static int teardown_holder(void **state)
{
	kill(holder, SIGKILL);
	waitpid(holder, NULL, 0);
	return teardown(state);
}

static int elsewhere_send(VMCIHandle dst)
{
	return VMCIDatagram_SendTo(dst, VMCIDatagram_CreateHnd(0), 5, "hello");
}

static VMCIHandle endpoint(void)
{
	VMCIHandle handle = VMCIDatagram_CreateHnd(0);

	assert_false(VMCI_HANDLE_INVALID(handle));
	return handle;
}

static int take_one(VMCIHandle handle, VMCIHandle *src)
{
	char buf[16];

	return VMCIDatagram_RecvFromTimeout(handle, src, buf, sizeof(buf), LIMIT_MS);
}

/* ----- datagrams */

static void test_contexts(void **state)
{
	VMCIHandle h = endpoint(), src;

	(void)state;
	assert_int_equal(VMCI_GetContextID(), VMCI_CID_HOST);
	assert_int_equal(h.context, VMCI_CID_HOST);
	assert_true(h.resource >= VMCI_RID_FIRST_DYNAMIC);
	assert_int_equal(elsewhere(CONTEXT_TEXT, SEND, h), 5);
	assert_int_equal(take_one(h, &src), 5);
	assert_int_equal(src.context, CONTEXT);
	assert_int_equal(elsewhere("new", SEND, h), 5);
	assert_int_equal(take_one(h, &src), 5);
	assert_true(src.context >= VMCI_CID_FIRST_VM && src.context != CONTEXT);
	/* the sender's context went with it */
	assert_int_equal(VMCIDatagram_SendTo(src, h, 1, "x"), VMCI_ERROR_DST_UNREACHABLE);
	assert_int_equal(VMCIDatagram_SendTo(VMCI_MAKE_HANDLE(VMCI_CID_HOST, 1025), h, 1, "x"),
			 VMCI_ERROR_INVALID_RESOURCE);
	assert_int_equal(VMCIDatagram_DestroyHnd(h), VMCI_SUCCESS);
	assert_int_equal(elsewhere("host", SEND, h), VMCI_ERROR_INVALID_RESOURCE);
}

static void test_wish(void **state)
{
	VMCIHandle h, other;

	(void)state;
	assert_int_equal(VMCIDatagram_CreateHndEx(5000, 0, &h), VMCI_SUCCESS);
	assert_int_equal(h.resource, 5000);
	assert_int_equal(VMCIDatagram_CreateHndEx(5000, 0, &other), VMCI_ERROR_ALREADY_EXISTS);
	assert_int_equal(VMCIDatagram_DestroyHnd(h), VMCI_SUCCESS);
	assert_int_equal(VMCIDatagram_CreateHndEx(5000, 0, &h), VMCI_SUCCESS);
}

/* SDK reference, 3.2: refused if queued + new >= 139264, nothing is lost, and the receiver's room comes back. */
static void test_queue(void **state)
{
	VMCIHandle a = endpoint(), b = endpoint();
	uint8_t *large = malloc(VMCI_DG_MAX_PAYLOAD), *got = malloc(VMCI_DG_MAX_PAYLOAD);
	int result;

	(void)state;
	for (size_t i = 0; i < VMCI_DG_MAX_PAYLOAD; i++)
		large[i] = (uint8_t)(i * 7);
	assert_int_equal(VMCIDatagram_SendTo(b, a, VMCI_DG_MAX_PAYLOAD, large), VMCI_DG_MAX_PAYLOAD);
	assert_int_equal(VMCIDatagram_SendTo(b, a, VMCI_DG_MAX_PAYLOAD, large), VMCI_ERROR_NO_RESOURCES);
	assert_int_equal(VMCIDatagram_SendTo(b, a, VMCI_DG_MAX_PAYLOAD - 1, large), VMCI_DG_MAX_PAYLOAD - 1);
	assert_int_equal(VMCIDatagram_SendTo(b, a, 0, NULL), VMCI_ERROR_NO_RESOURCES);
	/* others are not concerned */
	assert_int_equal(VMCIDatagram_SendTo(a, b, 1, "x"), 1);

	assert_int_equal(VMCIDatagram_RecvFrom(b, NULL, got, 16), VMCI_ERROR_NO_MEM);
	result = VMCIDatagram_RecvFrom(b, NULL, got, VMCI_DG_MAX_PAYLOAD);
	assert_int_equal(result, VMCI_DG_MAX_PAYLOAD);
	assert_memory_equal(got, large, VMCI_DG_MAX_PAYLOAD);
	assert_int_equal(VMCIDatagram_RecvFrom(b, NULL, got, VMCI_DG_MAX_PAYLOAD), VMCI_DG_MAX_PAYLOAD - 1);
	assert_int_equal(VMCIDatagram_RecvFromTimeout(b, NULL, got, 16, 0), VMCI_ERROR_TIMEOUT);
	assert_int_equal(VMCIDatagram_SendTo(b, a, VMCI_DG_MAX_PAYLOAD, large), VMCI_DG_MAX_PAYLOAD);
	free(large);
	free(got);
}

static void test_poll(void **state)
{
	VMCIHandle h = endpoint();
	struct pollfd pfd = { .fd = VMCIDatagram_GetFd(h), .events = POLLIN };

	(void)state;
	assert_int_equal(poll(&pfd, 1, 0), 0);
	assert_int_equal(elsewhere("new", SEND, h), 5);
	assert_int_equal(poll(&pfd, 1, LIMIT_MS), 1);
	assert_int_equal(take_one(h, NULL), 5);
	assert_int_equal(poll(&pfd, 1, 0), 0);
}

/* As many as there are descriptors for; then none is left over. */
static void test_many(void **state)
{
	struct rlimit old, low;
	VMCIHandle *all = calloc(2000, sizeof(*all));
	int n = 0, again = 0;

	(void)state;
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
	low = old;
	low.rlim_cur = old.rlim_max < 1024 ? old.rlim_max : 1024;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
	while (n < 2000 && !VMCI_HANDLE_INVALID(all[n] = VMCIDatagram_CreateHnd(0)))
		n++;
	assert_true(n > 100 && n < 2000);
	for (int i = 0; i < n; i++) {
		for (int j = i + 1; j < n; j++)
			assert_false(VMCI_HANDLE_EQUAL(all[i], all[j]));
		assert_int_equal(VMCIDatagram_DestroyHnd(all[i]), VMCI_SUCCESS);
	}
	while (again < n && !VMCI_HANDLE_INVALID(all[again] = VMCIDatagram_CreateHnd(0)))
		again++;
	assert_int_equal(again, n);
	/* the rest is for VMCI_CleanupApp() */
	VMCI_CleanupApp();
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
	free(all);
}

/* ----- rights: SDK reference, 5 and 10.2 */

static const VMCIResourcePrivilegeType send_right = VMCI_PRIV_DG_SEND;

static void test_rights(void **state)
{
	const VMCIHandle child = VMCI_MAKE_HANDLE(CONTEXT, 0), host = VMCI_MAKE_HANDLE(VMCI_CID_HOST, 0);
	const VMCIResourcePrivilegeType attach = VMCI_PRIV_SM_ATTACH;
	VMCIHandle h = endpoint();

	(void)state;
	assert_int_equal(elsewhere(CONTEXT_TEXT, SEND, h), 5);
	/* the first word about it closes it */
	assert_int_equal(VMCIResource_AddClientPrivileges(h, child, 1, &send_right, 0, NULL), VMCI_SUCCESS);
	assert_int_equal(elsewhere(CONTEXT_TEXT, SEND, h), 5);
	assert_int_equal(elsewhere("4001", SEND, h), VMCI_ERROR_NO_ACCESS);
	assert_int_equal(VMCIDatagram_SendTo(h, h, 1, "x"), 1);
	assert_int_equal(VMCIResource_CheckClientPrivilege(h, child, send_right), VMCI_SUCCESS_ACCESS_GRANTED);
	assert_int_equal(VMCIResource_CheckClientPrivilege(h, VMCI_MAKE_HANDLE(4001, 0), send_right),
			 VMCI_ERROR_NO_ACCESS);
	assert_int_equal(VMCIResource_CheckClientPrivilege(h, host, VMCI_PRIV_CH_PRIV), VMCI_SUCCESS_ACCESS_GRANTED);
	assert_int_equal(VMCIResource_AddClientPrivileges(h, child, 1, &attach, 0, NULL), VMCI_ERROR_INVALID_PRIV);
	assert_int_equal(VMCIResource_AddClientPrivileges(VMCI_MAKE_HANDLE(2, 1026), child, 1, &send_right, 0, NULL),
			 VMCI_ERROR_INVALID_ARGS);
	/* in both: denied */
	assert_int_equal(VMCIResource_AddClientPrivileges(h, child, 1, &send_right, 1, &send_right), VMCI_SUCCESS);
	assert_int_equal(elsewhere(CONTEXT_TEXT, SEND, h), VMCI_ERROR_NO_ACCESS);
	assert_int_equal(VMCIResource_RemoveAllClientPrivileges(h, child), VMCI_SUCCESS);
	assert_int_equal(elsewhere(CONTEXT_TEXT, SEND, h), VMCI_ERROR_NO_ACCESS);
	assert_int_equal(VMCIResource_AddClientPrivileges(h, child, 1, &send_right, 0, NULL), VMCI_SUCCESS);
	assert_int_equal(elsewhere(CONTEXT_TEXT, SEND, h), 5);
	assert_int_equal(VMCIResource_RemoveClientPrivileges(h, child, 1, &send_right), VMCI_SUCCESS);
	assert_int_equal(elsewhere(CONTEXT_TEXT, SEND, h), VMCI_ERROR_NO_ACCESS);
}

/* somebody who must not change rights */
static int elsewhere_grant(VMCIHandle handle)
{
	return VMCIResource_AddClientPrivileges(handle, VMCI_MAKE_HANDLE(VMCI_GetContextID(), 0), 1, &send_right, 0,
						NULL);
}

static void test_groups(void **state)
{
	const VMCIHandle child = VMCI_MAKE_HANDLE(CONTEXT, 0);
	VMCIHandle h = endpoint(), group, everybody;

	(void)state;
	assert_int_equal(VMCIDs_Lookup(VMCI_PUBLIC_GROUP_NAME, &everybody), VMCI_SUCCESS);
	assert_int_equal(VMCIGroup_Create(&group), VMCI_SUCCESS);
	assert_int_equal(group.context, VMCI_CID_HOST);
	assert_int_equal(VMCIGroup_IsMember(group, child), 0);
	assert_int_equal(VMCIGroup_AddMember(group, child, 1), VMCI_SUCCESS);
	assert_int_equal(VMCIGroup_IsMember(group, child), 1);
	assert_int_equal(VMCIGroup_IsMember(everybody, child), 1);

	assert_int_equal(VMCIResource_AddClientPrivileges(h, group, 1, &send_right, 0, NULL), VMCI_SUCCESS);
	assert_int_equal(elsewhere(CONTEXT_TEXT, SEND, h), 5);
	assert_int_equal(elsewhere("4001", SEND, h), VMCI_ERROR_NO_ACCESS);
	assert_int_equal(elsewhere("4001", GRANT, h), VMCI_ERROR_NO_ACCESS);
	/* as the first datagramApp did */
	assert_int_equal(VMCIResource_AddClientPrivileges(h, everybody, 1, &send_right, 0, NULL), VMCI_SUCCESS);
	assert_int_equal(elsewhere("4001", SEND, h), 5);
	/* one's own entry comes before the groups' */
	assert_int_equal(VMCIResource_AddClientPrivileges(h, child, 0, NULL, 1, &send_right), VMCI_SUCCESS);
	assert_int_equal(elsewhere(CONTEXT_TEXT, SEND, h), VMCI_ERROR_NO_ACCESS);

	assert_int_equal(VMCIGroup_RemoveMember(group, child), VMCI_SUCCESS);
	assert_int_equal(VMCIGroup_IsMember(group, child), 0);
	assert_int_equal(VMCIGroup_Destroy(group), VMCI_SUCCESS);
	assert_true(VMCIGroup_Destroy(group) < 0);
}

/* ----- shared memory */

/* what is at the front, plus one, goes to the end */
static int elsewhere_attach(VMCIHandle handle)
{
	uint32_t size, queried;
	uint8_t *memory;
	void *address;
	int result = VMCISharedMem_Query(handle, &queried);

	if (result >= 0)
		result = VMCISharedMem_Attach(handle, &address, &size);
	if (result < 0)
		return result;
	if (size != queried || size != 5000)
		return VMCI_ERROR_INVALID_SIZE;
	if (VMCISharedMem_Attach(handle, &address, &size) != VMCI_ERROR_ALREADY_EXISTS)
		return VMCI_ERROR_GENERIC;
	memory = address;
	memory[4999] = (uint8_t)(memory[0] + 1);
	return VMCISharedMem_Detach(handle);
}

static void test_shared_memory(void **state)
{
	const VMCIResourcePrivilegeType attach = VMCI_PRIV_SM_ATTACH;
	VMCIHandle h;
	uint8_t *memory;
	void *address;

	(void)state;
	h = VMCISharedMem_Create(5000, &address);
	assert_false(VMCI_HANDLE_INVALID(h));
	memory = address;
	for (int i = 0; i < 5000; i++)
		assert_int_equal(memory[i], 0);
	memory[0] = 41;
	assert_int_equal(elsewhere("host", ATTACH, h), VMCI_SUCCESS);
	assert_int_equal(memory[4999], 42);
	assert_int_equal(elsewhere(CONTEXT_TEXT, ATTACH, h), VMCI_SUCCESS);

	assert_int_equal(VMCIResource_AddClientPrivileges(h, VMCI_MAKE_HANDLE(CONTEXT, 0), 0, NULL, 1, &attach),
			 VMCI_SUCCESS);
	assert_int_equal(elsewhere(CONTEXT_TEXT, ATTACH, h), VMCI_ERROR_NO_ACCESS);
	assert_int_equal(VMCISharedMem_Detach(h), VMCI_SUCCESS_LAST_DETACH);
	assert_int_equal(elsewhere("host", ATTACH, h), VMCI_ERROR_NOT_FOUND);
	assert_true(VMCI_HANDLE_INVALID(VMCISharedMem_Create((1u << 30) + 1, &address)));
}

/* ----- names */

static int elsewhere_unregister(VMCIHandle handle)
{
	(void)handle;
	return VMCIDs_Unregister("a name");
}

static int elsewhere_register(VMCIHandle handle)
{
	return VMCIDs_Register("another name", handle);
}

static void test_names(void **state)
{
	VMCIHandle h = endpoint(), found;
	char name[257];

	(void)state;
	assert_int_equal(VMCIDs_Register("a name", h), VMCI_SUCCESS);
	assert_int_equal(VMCIDs_Register("a name", h), VMCI_ERROR_ALREADY_EXISTS);
	assert_int_equal(VMCIDs_Lookup("a name", &found), VMCI_SUCCESS);
	assert_true(VMCI_HANDLE_EQUAL(found, h));
	assert_int_equal(VMCIDs_Lookup("A name", &found), VMCI_ERROR_NOT_FOUND);
	assert_int_equal(elsewhere(CONTEXT_TEXT, UNREGISTER, h), VMCI_ERROR_NO_ACCESS);
	/* only the host may name what is not its own */
	assert_true(elsewhere(CONTEXT_TEXT, REGISTER, h) < 0);
	assert_int_equal(VMCIDs_Lookup("another name", &found), VMCI_ERROR_NOT_FOUND);
	assert_true(VMCIDs_Register("vmci something", h) < 0);
	assert_int_equal(VMCIDs_Register("", h), VMCI_ERROR_INVALID_ARGS);
	memset(name, 'n', sizeof(name));
	name[256] = '\0';
	assert_int_equal(VMCIDs_Register(name, h), VMCI_ERROR_INVALID_ARGS);
	name[255] = '\0';
	assert_int_equal(VMCIDs_Register(name, h), VMCI_SUCCESS);
	assert_int_equal(VMCIDs_Lookup(name, &found), VMCI_SUCCESS);

	/* gone with what they name, and with the membership */
	assert_int_equal(VMCIDatagram_DestroyHnd(h), VMCI_SUCCESS);
	assert_int_equal(VMCIDs_Lookup("a name", &found), VMCI_ERROR_NOT_FOUND);
	assert_int_equal(VMCIDs_Register("a name", VMCI_MAKE_HANDLE(CONTEXT, 7777)), VMCI_SUCCESS);
	VMCI_CleanupApp();
	assert_int_equal(init("host"), VMCI_SUCCESS);
	assert_int_equal(VMCIDs_Lookup("a name", &found), VMCI_ERROR_NOT_FOUND);
	assert_int_equal(VMCIDs_Lookup(name, &found), VMCI_ERROR_NOT_FOUND);
}

/* ----- threads, and the end of brokers */

struct receiver {
	VMCIHandle handle;
	int result;
};

static void *receive(void *arg)
{
	struct receiver *receiver = arg;
	char buf[16];

	receiver->result = VMCIDatagram_RecvFrom(receiver->handle, NULL, buf, sizeof(buf));
	return NULL;
}

static void join(pthread_t thread)
{
	struct timespec end;

	clock_gettime(CLOCK_REALTIME, &end);
	end.tv_sec += LIMIT_MS / 1000;
	assert_int_equal(pthread_timedjoin_np(thread, NULL, &end), 0);
}

static void test_destroy_wakes(void **state)
{
	struct receiver receivers[4];
	pthread_t threads[4];
	VMCIHandle a = endpoint(), b = endpoint();

	(void)state;
	for (int i = 0; i < 4; i++) {
		receivers[i].handle = i < 2 ? a : b;
		assert_int_equal(pthread_create(&threads[i], NULL, receive, &receivers[i]), 0);
	}
	poll(NULL, 0, 50);		/* they probably wait by now; if not, the result is the same */
	assert_int_equal(VMCIDatagram_DestroyHnd(a), VMCI_SUCCESS);
	join(threads[0]);
	join(threads[1]);
	VMCI_CleanupApp();
	join(threads[2]);
	join(threads[3]);
	assert_int_equal(receivers[0].result, VMCI_ERROR_NO_HANDLE);
	assert_int_equal(receivers[1].result, VMCI_ERROR_NO_HANDLE);
	for (int i = 2; i < 4; i++)
		assert_true(receivers[i].result == VMCI_ERROR_NO_HANDLE ||
			    receivers[i].result == VMCI_ERROR_NO_PROCESS);
}

static void test_new_broker(void **state)
{
	struct receiver receiver = { .handle = endpoint() };
	VMCIHandle found, region;
	pthread_t thread;
	void *memory;

	(void)state;
	region = VMCISharedMem_Create(5000, &memory);
	assert_int_equal(VMCIDs_Register("survivor", receiver.handle), VMCI_SUCCESS);
	assert_int_equal(VMCIResource_AddClientPrivileges(receiver.handle, VMCI_MAKE_HANDLE(CONTEXT, 0), 1, &send_right,
							  0, NULL), VMCI_SUCCESS);
	assert_int_equal(pthread_create(&thread, NULL, receive, &receiver), 0);
	kill_vmcid();
	assert_int_equal(start_vmcid(), 0);

	assert_int_equal(VMCIDs_LookupTimeout("survivor", &found, LIMIT_MS), VMCI_SUCCESS);
	assert_true(VMCI_HANDLE_EQUAL(found, receiver.handle));
	assert_int_equal(elsewhere("4001", SEND, found), VMCI_ERROR_NO_ACCESS);
	assert_int_equal(elsewhere(CONTEXT_TEXT, SEND, found), 5);
	join(thread);
	assert_int_equal(receiver.result, 5);
	((uint8_t *)memory)[0] = 1;
	assert_int_equal(elsewhere("new", ATTACH, region), VMCI_SUCCESS);
	assert_int_equal(((uint8_t *)memory)[4999], 2);
	assert_int_equal(VMCISharedMem_Detach(region), VMCI_SUCCESS_LAST_DETACH);
}

/* Without a broker calls wait for one, and then say so; what has arrived can be received. */
static void test_no_broker(void **state)
{
	VMCIHandle h = endpoint();
	int result;

	(void)state;
	assert_int_equal(VMCIDatagram_SendTo(h, h, 2, "ab"), 2);
	kill_vmcid();
	assert_int_equal(take_one(h, NULL), 2);
	result = VMCIDatagram_SendTo(h, h, 2, "ab");
	assert_true(result == VMCI_ERROR_UNAVAILABLE || result == VMCI_ERROR_DATAGRAM_FAILED);
	assert_int_equal(VMCIDatagram_DestroyHnd(h), VMCI_SUCCESS);
	VMCI_CleanupApp();
	assert_int_equal(start_vmcid(), 0);
}

/* A child that goes on as it is has no membership, makes its own, and leaves its parent's alone. */
static void test_fork(void **state)
{
	VMCIHandle h = endpoint(), src;
	int status, result;
	pid_t pid;

	(void)state;
#if defined(__SANITIZE_THREAD__)
	print_message("skipped: this sanitizer does not allow threads in a child of threads\n");
	skip();
#endif
	for (int i = 0; i < 3; i++) {
		pid = fork();
		assert_true(pid >= 0);
		if (pid == 0) {
			alarm(LIMIT_MS / 1000);
			result = VMCIDatagram_DestroyHnd(h);
			if (result == VMCI_ERROR_NO_PROCESS)
				result = init(i ? "host" : "new");
			if (result == VMCI_SUCCESS)
				result = VMCIDatagram_DestroyHnd(h);
			if (result == VMCI_ERROR_NO_HANDLE)
				result = elsewhere_send(h);
			VMCI_CleanupApp();
			_exit(result + 100);
		}
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(WIFEXITED(status));
		assert_int_equal(WEXITSTATUS(status) - 100, 5);
		assert_int_equal(take_one(h, &src), 5);
		assert_int_equal(src.context == VMCI_CID_HOST, i > 0);
	}
	assert_int_equal(VMCIDatagram_SendTo(h, h, 1, "x"), 1);
}

/* ----- the other processes */

static int elsewhere_hold(VMCIHandle handle)
{
	(void)handle;
	alarm(0);
	if (write(STDOUT_FILENO, "", 1) != 1)
		return VMCI_ERROR_GENERIC;
	for (;;)
		pause();
}

static int main_elsewhere(char **argv)
{
	static int (*const deeds[DEED_NUM])(VMCIHandle) = {
		[SEND] = elsewhere_send,
		[GRANT] = elsewhere_grant,
		[ATTACH] = elsewhere_attach,
		[UNREGISTER] = elsewhere_unregister,
		[REGISTER] = elsewhere_register,
		[HOLD] = elsewhere_hold,
	};
	VMCIHandle handle;
	int result;

	handle.context = (VMCIId)strtoul(argv[4], NULL, 10);
	handle.resource = (VMCIId)strtoul(argv[5], NULL, 10);
	alarm(LIMIT_MS / 1000);
	snprintf(dir, sizeof(dir), "%s", argv[1]);
	result = init(argv[2]);
	if (result == VMCI_SUCCESS) {
		result = deeds[atoi(argv[3])](handle);
		VMCI_CleanupApp();
	}
	return result + 100;
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_contexts, setup, teardown),
		cmocka_unit_test_setup_teardown(test_wish, setup, teardown),
		cmocka_unit_test_setup_teardown(test_queue, setup, teardown),
		cmocka_unit_test_setup_teardown(test_poll, setup, teardown),
		cmocka_unit_test_setup_teardown(test_many, setup, teardown),
		cmocka_unit_test_setup_teardown(test_rights, setup_holder, teardown_holder),
		cmocka_unit_test_setup_teardown(test_groups, setup_holder, teardown_holder),
		cmocka_unit_test_setup_teardown(test_shared_memory, setup, teardown),
		cmocka_unit_test_setup_teardown(test_names, setup, teardown),
		cmocka_unit_test_setup_teardown(test_destroy_wakes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_new_broker, setup_holder, teardown_holder),
		cmocka_unit_test_setup_teardown(test_no_broker, setup, teardown),
		cmocka_unit_test_setup_teardown(test_fork, setup, teardown),
	};

	if (argc == 6)
		return main_elsewhere(argv);
	return cmocka_run_group_tests(tests, setup_all, teardown_all);
}
