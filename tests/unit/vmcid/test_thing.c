/* SPDX-License-Identifier: BSD-2-Clause */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "proto/limits.h"
#include "vmcid/thing.h"

#define FDS 10u
#define FDS_EACH 6u
#define PAGE 4096u

static sd_event *event;
static struct users *users;
static struct user *user;
static const char *odd;

static int setup(void **state)
{
	(void)state;
	assert_int_equal(sd_event_new(&event), 0);
	users = users_new(FDS, FDS_EACH);
	assert_non_null(users);
	user = user_ref(users, 1000, false);
	assert_non_null(user);
	odd = NULL;
	return 0;
}

/* users_free() asserts that everything was given back. */
static int teardown(void **state)
{
	(void)state;
	assert_null(user_unref(user));
	assert_null(users_free(users));
	sd_event_unref(event);
	return 0;
}

static int32_t make(enum thing_kind kind, int *fds, uint64_t bytes, struct thing **ret)
{
	return thing_new(event, kind, fds, getuid(), user, bytes, ret, &odd);
}

/* Refused, for this reason; the descriptor stays ours. */
static void refuse(enum thing_kind kind, int fd, uint64_t bytes, const char *reason)
{
	struct thing *thing = (void *)1;
	int fds[THING_FDS_MAX] = { fd, -1 };

	assert_int_equal(make(kind, fds, bytes, &thing), VMCI_ERROR_INVALID_ARGS);
	assert_string_equal(odd, reason);
	assert_ptr_equal(thing, (void *)1);
	assert_int_equal(fds[0], fd);
	assert_true(fcntl(fd, F_GETFD) >= 0);
	close(fd);
}

static void accept_it(enum thing_kind kind, int fd, uint64_t bytes)
{
	int fds[THING_FDS_MAX] = { fd, -1 };
	struct thing *thing;

	assert_int_equal(make(kind, fds, bytes, &thing), 0);
	assert_int_equal(fds[0], -1);
	assert_true(fcntl(fd, F_GETFD) >= 0);
	assert_null(thing_free(thing));
	assert_int_equal(fcntl(fd, F_GETFD), -1);
}

static int memory(size_t size, int seals)
{
	int fd = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)size), 0);
	assert_int_equal(fcntl(fd, F_ADD_SEALS, seals), 0);
	return fd;
}

static int one_end(int type)
{
	int fds[2];

	assert_int_equal(socketpair(AF_UNIX, type, 0, fds), 0);
	close(fds[1]);
	return fds[0];
}

static void test_sink(void **state)
{
	struct sockaddr_un abstract = { .sun_family = AF_UNIX };
	int fd;

	(void)state;
	accept_it(THING_SINK, one_end(SOCK_SEQPACKET), 0);
	refuse(THING_SINK, one_end(SOCK_STREAM), 0, "not an end of a SOCK_SEQPACKET pair");
	refuse(THING_SINK, one_end(SOCK_DGRAM), 0, "not an end of a SOCK_SEQPACKET pair");
	refuse(THING_SINK, eventfd(0, 0), 0, "not an end of a SOCK_SEQPACKET pair");
	refuse(THING_SINK, open("/dev/null", O_RDWR), 0, "not an end of a SOCK_SEQPACKET pair");
	refuse(THING_SINK, socket(AF_UNIX, SOCK_SEQPACKET, 0), 0, "a socket that is not connected");
	refuse(THING_SINK, socket(AF_INET, SOCK_STREAM, 0), 0, "not an end of a SOCK_SEQPACKET pair");
	fd = socket(AF_UNIX, SOCK_SEQPACKET, 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&abstract, sizeof(sa_family_t)), 0);
	assert_int_equal(listen(fd, 1), 0);
	refuse(THING_SINK, fd, 0, "not an end of a SOCK_SEQPACKET pair");
}

/* What has a name somewhere: the client's connection to vmcid, from either end. */
static void test_connection(void **state)
{
	struct sockaddr_un abstract = { .sun_family = AF_UNIX };
	socklen_t len = sizeof(abstract);
	int fd = socket(AF_UNIX, SOCK_SEQPACKET, 0), client = socket(AF_UNIX, SOCK_SEQPACKET, 0);

	(void)state;
	assert_int_equal(bind(fd, (struct sockaddr *)&abstract, sizeof(sa_family_t)), 0);
	assert_int_equal(listen(fd, 1), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&abstract, &len), 0);
	assert_int_equal(connect(client, (struct sockaddr *)&abstract, len), 0);
	refuse(THING_SINK, accept(fd, NULL, NULL), 0, "a socket that is no end of a pair");
	refuse(THING_SINK, client, 0, "a socket that is no end of a pair");
	close(fd);
}

/* What belongs to somebody else is not written to in his place. */
static void test_other_user(void **state)
{
	int fds[THING_FDS_MAX] = { one_end(SOCK_SEQPACKET), -1 };
	struct thing *thing;

	(void)state;
	assert_int_equal(thing_new(event, THING_SINK, fds, getuid() + 1, user, 0, &thing, &odd),
			 VMCI_ERROR_INVALID_ARGS);
	assert_string_equal(odd, "a socket of another user");
	close(fds[0]);
}

static void test_bell(void **state)
{
	int fds[THING_FDS_MAX] = { eventfd(0, 0), -1 }, pipe_fds[2];
	struct thing *thing;

	(void)state;
	accept_it(THING_BELL, eventfd(0, EFD_NONBLOCK), 0);
	/* Who rings must not be made to wait. */
	assert_false(fcntl(fds[0], F_GETFL) & O_NONBLOCK);
	assert_int_equal(make(THING_BELL, fds, 0, &thing), 0);
	assert_true(fcntl(thing->fd[0], F_GETFL) & O_NONBLOCK);
	thing_free(thing);
	assert_int_equal(pipe(pipe_fds), 0);
	refuse(THING_BELL, pipe_fds[0], 0, "not an eventfd");
	refuse(THING_BELL, pipe_fds[1], 0, "not an eventfd");
	refuse(THING_BELL, one_end(SOCK_STREAM), 0, "not an eventfd");
	refuse(THING_BELL, open("/dev/null", O_RDWR), 0, "not an eventfd");
	refuse(THING_BELL, memory(0, 0), 0, "not an eventfd");
}

static void refuse_pair(int mem, int life, uint64_t bytes, const char *reason)
{
	int fds[THING_FDS_MAX] = { mem, life };
	struct thing *thing;

	assert_int_equal(make(THING_PAIR, fds, bytes, &thing), VMCI_ERROR_INVALID_ARGS);
	assert_string_equal(odd, reason);
	close(mem);
	close(life);
}

static void test_pair(void **state)
{
	int sealed = F_SEAL_SHRINK | F_SEAL_GROW, fds[THING_FDS_MAX], copies[THING_FDS_MAX];
	struct thing *thing;

	(void)state;
	fds[0] = copies[0] = memory(4 * PAGE, sealed);
	fds[1] = copies[1] = one_end(SOCK_STREAM);
	assert_int_equal(make(THING_PAIR, fds, 4 * PAGE, &thing), 0);
	assert_int_equal(thing->n_fds, 2);
	assert_int_equal(thing->fd[0], copies[0]);
	assert_int_equal(thing->fd[1], copies[1]);
	assert_int_equal(fds[0], -1);
	assert_int_equal(fds[1], -1);
	thing_free(thing);
	assert_int_equal(fcntl(copies[1], F_GETFD), -1);
	refuse_pair(memory(4 * PAGE, sealed), one_end(SOCK_STREAM), 5 * PAGE, "memory of the wrong size");
	refuse_pair(memory(4 * PAGE, sealed), one_end(SOCK_STREAM), 3 * PAGE, "memory of the wrong size");
	refuse_pair(memory(4 * PAGE, F_SEAL_SHRINK), one_end(SOCK_STREAM), 4 * PAGE, "memory that is not sealed");
	refuse_pair(memory(4 * PAGE, F_SEAL_GROW), one_end(SOCK_STREAM), 4 * PAGE, "memory that is not sealed");
	refuse_pair(memory(4 * PAGE, 0), one_end(SOCK_STREAM), 4 * PAGE, "memory that is not sealed");
	refuse_pair(memory(4 * PAGE, sealed | F_SEAL_WRITE), one_end(SOCK_STREAM), 4 * PAGE,
		    "memory that cannot be written");
	refuse_pair(eventfd(0, 0), one_end(SOCK_STREAM), 4 * PAGE, "not a memfd");
	refuse_pair(open("/dev/zero", O_RDWR), one_end(SOCK_STREAM), 4 * PAGE, "not a memfd");
	refuse_pair(memory(4 * PAGE, sealed), one_end(SOCK_SEQPACKET), 4 * PAGE, "not an end of a SOCK_STREAM pair");
	refuse_pair(memory(4 * PAGE, sealed), eventfd(0, 0), 4 * PAGE, "not an end of a SOCK_STREAM pair");
}

static void test_read_only(void **state)
{
	int fd = memory(PAGE, F_SEAL_SHRINK);
	char path[64];

	(void)state;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	refuse(THING_MEMORY, open(path, O_RDONLY), PAGE, "memory that cannot be written");
	close(fd);
}

static void test_memory(void **state)
{
	(void)state;
	accept_it(THING_MEMORY, memory(PAGE, F_SEAL_SHRINK), PAGE);
	accept_it(THING_MEMORY, memory(PAGE, F_SEAL_SHRINK | F_SEAL_GROW), 1);
	refuse(THING_MEMORY, memory(PAGE, F_SEAL_SHRINK), PAGE + 1, "memory of the wrong size");
	refuse(THING_MEMORY, memory(PAGE, F_SEAL_SHRINK), UINT64_MAX, "memory of the wrong size");
	refuse(THING_MEMORY, memory(PAGE, F_SEAL_GROW), PAGE, "memory that is not sealed");
}

static void test_same(void **state)
{
	int a[THING_FDS_MAX] = { memory(PAGE, F_SEAL_SHRINK) }, b[THING_FDS_MAX] = { dup(a[0]) };
	int c[THING_FDS_MAX] = { memory(PAGE, F_SEAL_SHRINK) };
	uint8_t id[3][BRK_ID_SIZE];
	struct thing *x, *y, *z;

	(void)state;
	assert_int_equal(make(THING_MEMORY, a, PAGE, &x), 0);
	assert_int_equal(make(THING_MEMORY, b, PAGE, &y), 0);
	assert_int_equal(make(THING_MEMORY, c, PAGE, &z), 0);
	assert_true(thing_is_same(x, y));
	assert_false(thing_is_same(x, z));
	thing_identify(x, id[0]);
	thing_identify(y, id[1]);
	thing_identify(z, id[2]);
	assert_memory_equal(id[0], id[1], BRK_ID_SIZE);
	assert_memory_not_equal(id[0], id[2], BRK_ID_SIZE);
	thing_free(x);
	thing_free(y);
	thing_free(z);
}

/* Zeroes, and pages that are given back; nothing around them. */
static void test_clear(void **state)
{
	int fds[THING_FDS_MAX] = { memory(4 * PAGE, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) };
	uint8_t bytes[4 * PAGE];
	struct thing *thing;
	struct stat st;

	(void)state;
	memset(bytes, 0x55, sizeof(bytes));
	assert_int_equal(pwrite(fds[0], bytes, sizeof(bytes), 0), sizeof(bytes));
	assert_int_equal(make(THING_MEMORY, fds, 4 * PAGE, &thing), 0);
	assert_true(thing_clear(thing, PAGE, 2 * PAGE));
	assert_int_equal(pread(thing->fd[0], bytes, sizeof(bytes), 0), sizeof(bytes));
	for (unsigned i = 0; i < sizeof(bytes); i++)
		assert_int_equal(bytes[i], i >= PAGE && i < 3 * PAGE ? 0 : 0x55);
	assert_int_equal(fstat(thing->fd[0], &st), 0);
	assert_int_equal(st.st_size, 4 * PAGE);
	assert_int_equal(pwrite(thing->fd[0], bytes, sizeof(bytes), 0), sizeof(bytes));
	assert_true(thing_clear(thing, 0, 4 * PAGE));
	assert_int_equal(fstat(thing->fd[0], &st), 0);
	assert_int_equal(st.st_blocks, 0);
	assert_false(thing_clear(thing, UINT64_MAX - PAGE + 1, PAGE));
	assert_false(thing_clear(thing, 0, UINT64_MAX));
	thing_free(thing);
}

/* One user's bound, and everybody's. */
static void test_bounds(void **state)
{
	struct user *other = user_ref(users, 1001, false), *trusted = user_ref(users, 0, true);
	struct thing *things[FDS];
	unsigned n = 0;

	(void)state;
	for (; n < FDS_EACH; n++) {
		int fds[THING_FDS_MAX] = { eventfd(0, 0) };

		assert_int_equal(make(THING_BELL, fds, 0, &things[n]), 0);
	}
	{
		int fds[THING_FDS_MAX] = { eventfd(0, 0) };

		assert_int_equal(make(THING_BELL, fds, 0, &things[n]), VMCI_ERROR_NO_RESOURCES);
		assert_int_equal(thing_new(event, THING_BELL, fds, 0, other, 0, &things[n], &odd), 0);
		n++;
	}
	assert_true(user_take(trusted, FDS - n));
	assert_false(user_take(trusted, 1));
	assert_false(user_take(other, 1));
	user_drop(trusted, FDS - n);
	/* A thing keeps its user. */
	user_unref(other);
	while (n)
		thing_free(things[--n]);
	assert_ptr_equal(user_ref(users, 0, true), trusted);
	user_unref(trusted);
	user_unref(trusted);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_sink, setup, teardown),
		cmocka_unit_test_setup_teardown(test_connection, setup, teardown),
		cmocka_unit_test_setup_teardown(test_other_user, setup, teardown),
		cmocka_unit_test_setup_teardown(test_bell, setup, teardown),
		cmocka_unit_test_setup_teardown(test_pair, setup, teardown),
		cmocka_unit_test_setup_teardown(test_read_only, setup, teardown),
		cmocka_unit_test_setup_teardown(test_memory, setup, teardown),
		cmocka_unit_test_setup_teardown(test_same, setup, teardown),
		cmocka_unit_test_setup_teardown(test_clear, setup, teardown),
		cmocka_unit_test_setup_teardown(test_bounds, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
