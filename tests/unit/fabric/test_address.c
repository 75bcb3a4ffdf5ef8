/* SPDX-License-Identifier: BSD-2-Clause */
/* Names of sockets: there and back, and what is none. */
#include "fabric/address.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#define OFFSET offsetof(struct sockaddr_un, sun_path)

static int parse(const char *name, size_t len, struct fab_address *ret)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };

	assert_true(len <= sizeof(sun.sun_path));
	memcpy(sun.sun_path, name, len);
	return fab_address_parse(&sun, (socklen_t)(OFFSET + len), ret);
}

#define PARSE(name, ret) parse(name, sizeof(name) - 1, ret)

static void there_and_back(struct fab_address address)
{
	struct fab_address back;
	struct sockaddr_un sun;
	socklen_t len = fab_address_build(&address, UINT64_MAX, &sun);

	assert_int_equal(sun.sun_path[0], '\0');
	assert_true(len <= sizeof(sun));
	assert_int_equal(fab_address_parse(&sun, len, &back), 0);
	assert_int_equal(back.kind, address.kind);
	assert_int_equal(back.context, address.context);
	assert_int_equal(back.port, address.port);
	assert_int_equal(back.uid, address.uid);
	assert_int_equal(back.gid, address.gid);
	assert_int_equal(back.pid, address.pid);
	assert_string_equal(back.vm, address.vm);
}

static void test_program(void **state)
{
	struct fab_address address = { .kind = FAB_ADDRESS_PROGRAM, .context = 2, .port = 1024, .uid = 1000 };
	struct fab_address long_one = {
		.kind = FAB_ADDRESS_PROGRAM,
		.context = UINT32_MAX,
		.port = UINT32_MAX,
		.uid = UINT32_MAX,
		.gid = UINT32_MAX,
		.pid = INT32_MAX,
	};
	struct sockaddr_un sun;
	socklen_t len;
	static const char expected[] = "\0vmci/2/1024/1000.0.77/0000000000abc";

	(void)state;
	there_and_back(address);
	there_and_back(long_one);
	address.pid = 77;
	len = fab_address_build(&address, 0xabc, &sun);
	assert_int_equal(len, OFFSET + sizeof(expected) - 1);
	assert_memory_equal(sun.sun_path, expected, sizeof(expected) - 1);
}

static void test_vm(void **state)
{
	struct fab_address address = { .kind = FAB_ADDRESS_VM, .context = 42, .port = 7, .vm = "a vm/with odd\nname" };

	(void)state;
	there_and_back(address);
	address.vm[0] = '\0';
	there_and_back(address);
	/* The longest name there is. */
	address.context = UINT32_MAX;
	address.port = UINT32_MAX - 1;
	memset(address.vm, 'x', FAB_VM_NAME_MAX);
	address.vm[FAB_VM_NAME_MAX - 1] = '\0';
	there_and_back(address);
}

static void test_port(void **state)
{
	struct fab_address address;

	(void)state;
	assert_int_equal(PARSE("/run/vmci/port/2/5000", &address), 0);
	assert_int_equal(address.kind, FAB_ADDRESS_PORT);
	assert_int_equal(address.context, 2);
	assert_int_equal(address.port, 5000);
	/* The kernel counts the zero behind a path. */
	assert_int_equal(PARSE("x/port/4294967295/0\0", &address), 0);
	assert_int_equal(address.context, UINT32_MAX);
	assert_int_equal(address.port, 0);
	assert_int_equal(PARSE("/run/port/port/2/5000", &address), 0);
}

static void test_others(void **state)
{
	static const struct { const char *name; size_t len; } none[] = {
#define NAME(text) { text, sizeof(text) - 1 }
		NAME(""), NAME("\0"), NAME("/"), NAME("x"), NAME("port/2/5"), NAME("/port/2/5"), NAME("/run/port/2"),
		NAME("/run/port/2/"), NAME("/run/port//5"), NAME("/run/port/2/5/"), NAME("/run/port/02/5"),
		NAME("/run/port/2/05"), NAME("/run/port/2/+5"), NAME("/run/port/2/-5"), NAME("/run/port/2/ 5"),
		NAME("/run/port/4294967296/5"), NAME("/run/port/2/4294967296"), NAME("/run/ports/2/5"),
		NAME("/run/xport/2/5"), NAME("/run/port/2/99999999999999999999"),
		NAME("\0vmci/2/5"), NAME("\0vmci/2/5/"), NAME("\0vmci/2/5/vm"), NAME("\0vmci/2/5/vm/"),
		NAME("\0vmci/2/5/vm/0123456789abc"), NAME("\0vmci/2/5/vm/0123456789ab/x"),
		NAME("\0vmci/2/5/vm/0123456789ABC/x"), NAME("\0vmci/2/5/vm/0123456789abcd/x"),
		NAME("\0vmci/2/5/vm/0123456789abc/x\0y"), NAME("\0vmci/2/5/1.2/0123456789abc"),
		NAME("\0vmci/2/5/1.2.3/0123456789abc/"), NAME("\0vmci/2/5/1.2.3/0123456789abc\0"),
		NAME("\0vmci/2/5/1.2.2147483648/0123456789abc"), NAME("\0vmci/2/5/1.2.-3/0123456789abc"),
		NAME("\0vmci/02/5/1.2.3/0123456789abc"), NAME("\0vmci/2//1.2.3/0123456789abc"),
		NAME("\0VMCI/2/5/1.2.3/0123456789abc"), NAME("\0vmci/2/5/01.2.3/0123456789abc"),
		NAME("vmci/2/5/1.2.3/0123456789abc"), NAME("\0/run/port/2/5"),
	};
	struct fab_address address = { .port = 77 };
	struct sockaddr_un sun = { .sun_family = AF_INET, .sun_path = "/run/port/2/5" };

	(void)state;
	for (size_t i = 0; i < sizeof(none) / sizeof(none[0]); i++)
		assert_int_equal(parse(none[i].name, none[i].len, &address), -EINVAL);
	assert_int_equal(address.port, 77);
	assert_int_equal(fab_address_parse(&sun, sizeof(sun), &address), -EINVAL);
	sun.sun_family = AF_UNIX;
	assert_int_equal(fab_address_parse(&sun, 0, &address), -EINVAL);
	assert_int_equal(fab_address_parse(&sun, OFFSET, &address), -EINVAL);
	assert_int_equal(fab_address_parse(&sun, sizeof(sun), &address), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_program),
		cmocka_unit_test(test_vm),
		cmocka_unit_test(test_port),
		cmocka_unit_test(test_others),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
