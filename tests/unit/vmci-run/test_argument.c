/* SPDX-License-Identifier: BSD-2-Clause */
/* Arguments that ssh has made of a context id: src/vmci-run/argument.h */
#include "../../../src/vmci-run/argument.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

static void test_rewritten(void **state)
{
	static const char *const cases[][2] = {
		{ "VSOCK-CONNECT:0.0.0.42:22", "VSOCK-CONNECT:42:22" },
		{ "VSOCK-CONNECT:0.0.1.44:22", "VSOCK-CONNECT:300:22" },
		{ "vsock-connect:0.0.0.42:22", "vsock-connect:42:22" },
		{ "Vsock-Connect:0.1.0.0:22,connect-timeout=5", "Vsock-Connect:65536:22,connect-timeout=5" },
		{ "VSOCK-CONNECT:0.0.0.0:22", "VSOCK-CONNECT:0:22" },
		{ "VSOCK-CONNECT:255.255.255.255:22", "VSOCK-CONNECT:4294967295:22" },
		{ "VSOCK-CONNECT:0.0.0.42:", "VSOCK-CONNECT:42:" },
		{ "VSOCK-X:1.2.3.4:5:6:7.8.9.10:11", "VSOCK-X:16909060:5:6:7.8.9.10:11" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char *got = argument_rewrite(cases[i][0]);

		assert_non_null(got);
		assert_string_equal(got, cases[i][1]);
		free(got);
	}
}

static void test_left_alone(void **state)
{
	static const char *const cases[] = {
		"", "-", "VSOCK", "VSOCK-", "VSOCK-:0.0.0.42:22", "VSOCK-CONNECT", "VSOCK-CONNECT:", "VSOCK-CONNECT:42:22",
		"VSOCK-CONNECT:0.0.0.42", "VSOCK-CONNECT:0.0.0.42,x:22", "VSOCK-CONNECT:0.0.42:22", "VSOCK-CONNECT:.0.0.0.42:22",
		"VSOCK-CONNECT:0.0.0.42.:22", "VSOCK-CONNECT:0.0.0.0.42:22", "VSOCK-CONNECT:0.0.0.256:22",
		"VSOCK-CONNECT:0.0.0.042:22", "VSOCK-CONNECT:0x0.0.0.42:22", "VSOCK-CONNECT: 0.0.0.42:22",
		"VSOCK-CONNECT:0.0.0.-42:22", "VSOCK-CONNECT:000.000.000.0042:22", "VSOCK-CONNECT:::22", "VSOCK-CONNECT::22",
		"VSOCK-CONNECT 0.0.0.42:22", "VSOCK-LISTEN:22", "VSOCK-CONNECT:host.0.0.42:22", "VSOCK2-CONNECT:0.0.0.42:22",
		"-VSOCK-CONNECT:0.0.0.42:22", "TCP-CONNECT:0.0.0.42:22", "TCP:127.0.0.1:22", "VSOCK:0.0.0.42:22",
		"VSOCK-CON1NECT:0.0.0.42:22", "x VSOCK-CONNECT:0.0.0.42:22",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		assert_null(argument_rewrite(cases[i]));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rewritten),
		cmocka_unit_test(test_left_alone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
