/* SPDX-License-Identifier: BSD-2-Clause */
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
#include <sys/stat.h>
#include <unistd.h>

#include "base/dict.h"
#include "vmcid/conf.h"

static struct conf good(const char *text)
{
	struct conf conf = conf_default();
	char reason[CONF_REASON_SIZE] = "";

	if (conf_parse(text, strlen(text), &conf, reason))
		fail_msg("%s", reason);
	return conf;
}

static void bad(const char *text, const char *expected)
{
	struct conf conf = conf_default();
	char reason[CONF_REASON_SIZE] = "";

	assert_int_equal(conf_parse(text, strlen(text), &conf, reason), -EBADMSG);
	if (!strstr(reason, expected))
		fail_msg("\"%s\" does not say \"%s\"", reason, expected);
}

static void test_default(void **state)
{
	struct conf conf = good("# nothing\n");

	(void)state;
	assert_int_equal(conf.socket_mode, 0660);
	assert_int_equal(conf.vm_mode, 0660);
	assert_int_equal(conf.socket_group, (gid_t)-1);
	assert_int_equal(conf.vm_group, (gid_t)-1);
	assert_int_equal(conf.n_trusted, 0);
	assert_string_equal(conf.program, "");
	assert_string_equal(conf.window_host, "");
	assert_false(conf.limits.trusted_names);
	assert_int_equal(conf.limits.names, LIMIT_BRK_NAMES);
}

static void test_all(void **state)
{
	struct conf conf = good("socket.mode = \"0666\"\nsocket.group = \"root\"\nvm.mode = \"600\"\n"
				"VM.Group = \"77\"\n"
				"trusted.users = \"root, 1000\t1001,,root\"\ndevice.program = \"/opt/vmci-device\"\n"
				"discovery.trustedOnly = \"TRUE\"\nopenvmci.window.host = \"inner\"\n");

	(void)state;
	assert_int_equal(conf.socket_mode, 0666);
	assert_int_equal(conf.socket_group, 0);
	assert_int_equal(conf.vm_mode, 0600);
	assert_int_equal(conf.vm_group, 77);
	assert_int_equal(conf.n_trusted, 4);
	assert_int_equal(conf.trusted[0], 0);
	assert_int_equal(conf.trusted[1], 1000);
	assert_int_equal(conf.trusted[2], 1001);
	assert_int_equal(conf.trusted[3], 0);
	assert_string_equal(conf.program, "/opt/vmci-device");
	assert_string_equal(conf.window_host, "inner");
	assert_true(conf.limits.trusted_names);
	assert_int_equal(good("trusted.users = \"\"").n_trusted, 0);
}

static void test_quotas(void **state)
{
	struct conf conf = good("quota.connections = 1\nquota.contexts = 2\nquota.objects = 3\nquota.endpoints = 4\n"
				"quota.doorbells = 5\nquota.queuePairs = 6\nquota.regions = 7\nquota.groups = 8\n"
				"quota.names = 9\nquota.regionBytes = 10M\n");

	(void)state;
	assert_int_equal(conf.limits.clients, 1);
	assert_int_equal(conf.limits.contexts, 2);
	assert_int_equal(conf.limits.resources, 3);
	assert_int_equal(conf.limits.endpoints, 4);
	assert_int_equal(conf.limits.doorbells, 5);
	assert_int_equal(conf.limits.pairs, 6);
	assert_int_equal(conf.limits.regions, 7);
	assert_int_equal(conf.limits.groups, 8);
	assert_int_equal(conf.limits.names, 9);
	assert_int_equal(conf.limits.region_bytes, 10 << 20);
	assert_int_equal(good("quota.names = 64").limits.names, 64);
	assert_int_equal(good("quota.names = 0").limits.names, 0);
	assert_int_equal(good("quota.regionBytes = 4G").limits.region_bytes, 4ull << 30);
	/* They may be lowered only. */
	bad("quota.names = 65", "line 1: quota.names: not a number, or more");
	bad("quota.regionBytes = 5G", "not a size, or more");
	bad("quota.names = many", "not a number");
	bad("quota.events = 1", "not known here");
}

static void test_bad(void **state)
{
	char text[4096];
	size_t n;

	(void)state;
	bad("socket.mode = \"0777\"", "line 1: socket.mode: neither");
	bad("\nsocket.mode = \"rw\"", "line 2");
	bad("socket.group = \"no-such-group-here\"", "no such group");
	bad("socket.group = \"-1\"", "no such group");
	bad("socket.group = \"4294967295\"", "no such group");
	bad("trusted.users = \"root,no-such-user-here\"", "no such user");
	bad("trusted.users = \"4294967296\"", "no such user");
	bad("device.program = \"vmci-device\"", "not an absolute path");
	bad("discovery.trustedOnly = \"sometimes\"", "neither TRUE nor FALSE");
	bad("openvmci.window.host = \"0123456789012345678901234567890123456789012345678901234567890123x\"",
	    "longer than");
	/* What is not known might have been meant to protect something. */
	bad("trusted.user = \"root\"", "line 1: trusted.user: not known here");
	bad("socket.mode 0600", "line 1: = is missing");
	n = (size_t)snprintf(text, sizeof(text), "trusted.users = \"");
	for (unsigned i = 0; i < LIMIT_VMCID_TRUSTED; i++)
		n += (size_t)snprintf(text + n, sizeof(text) - n, "%u ", i);
	snprintf(text + n, sizeof(text) - n, "\"");
	assert_int_equal(good(text).n_trusted, LIMIT_VMCID_TRUSTED);
	snprintf(text + n, sizeof(text) - n, "1\"");
	bad(text, "too many users");
	memset(text, 'a', sizeof(text));
	memcpy(text, "device.program = \"/", 19);
	memcpy(text + 2000, "\"", 2);
	bad(text, "path is too long");
	memset(text, 'a', sizeof(text));
	memcpy(text, "trusted.users = \"", 17);
	memcpy(text + 1000, "\"", 2);
	bad(text, "name is too long");
}

static void test_file(void **state)
{
	char dir[] = "/tmp/test-conf-XXXXXX", path[64], *text;
	size_t len;
	int fd;

	(void)state;
	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/f", dir);
	assert_int_equal(conf_read_file(AT_FDCWD, path, &text, &len), -ENOENT);
	assert_int_equal(conf_read_file(AT_FDCWD, dir, &text, &len), -EISDIR);
	/* Something that would make us wait. */
	assert_int_equal(mkfifo(path, 0600), 0);
	assert_int_equal(conf_read_file(AT_FDCWD, path, &text, &len), -EINVAL);
	unlink(path);
	fd = open(path, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(conf_read_file(AT_FDCWD, path, &text, &len), 0);
	assert_int_equal(len, 0);
	free(text);
	assert_int_equal(write(fd, "a = 1\n", 6), 6);
	assert_int_equal(conf_read_file(AT_FDCWD, path, &text, &len), 0);
	assert_int_equal(len, 6);
	assert_memory_equal(text, "a = 1\n", 6);
	free(text);
	assert_int_equal(ftruncate(fd, DICT_TEXT_MAX), 0);
	assert_int_equal(conf_read_file(AT_FDCWD, path, &text, &len), 0);
	assert_int_equal(len, DICT_TEXT_MAX);
	free(text);
	assert_int_equal(ftruncate(fd, DICT_TEXT_MAX + 1), 0);
	assert_int_equal(conf_read_file(AT_FDCWD, path, &text, &len), -EFBIG);
	close(fd);
	unlink(path);
	rmdir(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_default),
		cmocka_unit_test(test_all),
		cmocka_unit_test(test_quotas),
		cmocka_unit_test(test_bad),
		cmocka_unit_test(test_file),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
