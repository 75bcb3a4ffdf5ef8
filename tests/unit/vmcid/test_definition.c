/* SPDX-License-Identifier: BSD-2-Clause */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "vmcid/definition.h"

static char warnings[2048];
static char reason[DEFINITION_REASON_SIZE];

static void warn(void *ctx, const char *line)
{
	size_t len = strlen(warnings);

	assert_ptr_equal(ctx, warnings);
	snprintf(warnings + len, sizeof(warnings) - len, "%s\n", line);
}

static struct definition good(const char *text)
{
	struct definition def;

	warnings[0] = reason[0] = '\0';
	if (definition_parse("vm1", text, strlen(text), warn, warnings, &def, reason))
		fail_msg("%s", reason);
	assert_string_equal(def.name, "vm1");
	return def;
}

static void bad(const char *text, const char *expected)
{
	struct definition def = { .id = 4711 };

	warnings[0] = reason[0] = '\0';
	assert_int_equal(definition_parse("vm1", text, strlen(text), warn, warnings, &def, reason), -EBADMSG);
	assert_int_equal(def.id, 4711);
	if (!strstr(reason, expected))
		fail_msg("\"%s\" does not say \"%s\"", reason, expected);
}

static void test_names(void **state)
{
	char name[DEFINITION_NAME_MAX + 1], file[128];

	(void)state;
	assert_int_equal(definition_name("web.vmx", name), 0);
	assert_string_equal(name, "web");
	assert_int_equal(definition_name("Debian 12 64-bit.VMX", name), 0);
	assert_string_equal(name, "Debian 12 64-bit");
	assert_int_equal(definition_name("a.b_c+d@e.vmx", name), 0);
	assert_int_equal(definition_name("0.vmx", name), 0);
	/* Not a definition's file. */
	assert_int_equal(definition_name("web.conf", name), -ENOENT);
	assert_int_equal(definition_name(".web.vmx", name), -ENOENT);
	assert_int_equal(definition_name(".vmx", name), -ENOENT);
	assert_int_equal(definition_name("vmx", name), -ENOENT);
	assert_int_equal(definition_name("", name), -ENOENT);
	assert_int_equal(definition_name("web.vmx.swp", name), -ENOENT);
	/* One, but no name. */
	assert_int_equal(definition_name("-a.vmx", name), -EINVAL);
	assert_int_equal(definition_name("..vmx.vmx", name), -ENOENT);
	assert_int_equal(definition_name("a/b.vmx", name), -EINVAL);
	assert_int_equal(definition_name("a\nb.vmx", name), -EINVAL);
	assert_int_equal(definition_name("\xc3\xa4.vmx", name), -EINVAL);
	memset(file, 'n', sizeof(file));
	strcpy(file + DEFINITION_NAME_MAX, ".vmx");
	assert_int_equal(definition_name(file, name), 0);
	assert_int_equal(strlen(name), DEFINITION_NAME_MAX);
	memset(file, 'n', sizeof(file));
	strcpy(file + DEFINITION_NAME_MAX + 1, ".vmx");
	assert_int_equal(definition_name(file, name), -EINVAL);
}

static void test_defaults(void **state)
{
	struct definition def = good("");

	(void)state;
	assert_true(def.present);
	assert_int_equal(def.id, VMCI_INVALID_ID);
	assert_false(def.bumped);
	assert_string_equal(def.domain, "");
	assert_false(def.unrestricted);
	assert_false(def.restricted);
	assert_false(def.classic);
	assert_false(def.msi);
	assert_true(def.hybrid);
	assert_int_equal(def.window, 0);
	assert_int_equal(def.n_rules, 0);
	assert_string_equal(warnings, "");
}

static void test_all(void **state)
{
	struct definition def = good("vmci0.present = \"TRUE\"\n"
				     "vmci0.id = \"1066538581\"\n"
				     "vmci0.domain = \"blue\"\n"
				     "vmci0.unrestricted = \"TRUE\"\n"
				     "vmci0.pciSlotNumber = \"35\"\n"
				     "openvmci.restricted = \"TRUE\"\n"
				     "openvmci.classic = \"TRUE\"\n"
				     "openvmci.msi = \"TRUE\"\n"
				     "openvmci.hybrid = \"FALSE\"\n"
				     "openvmci.window = \"64M\"\n");

	(void)state;
	assert_int_equal(def.id, 1066538581);
	assert_string_equal(def.domain, "blue");
	assert_true(def.unrestricted);
	assert_true(def.restricted);
	assert_true(def.classic);
	assert_true(def.msi);
	assert_false(def.hybrid);
	assert_int_equal(def.window, 64 << 20);
	assert_string_equal(warnings, "");
}

/* SDK reference, 9: explicit on hardware version 6; always there from 7 */
static void test_present(void **state)
{
	(void)state;
	assert_false(good("virtualHW.version = \"6\"").present);
	assert_true(good("virtualHW.version = \"7\"").present);
	assert_true(good("virtualHW.version = \"6\"\nvmci0.present = \"TRUE\"").present);
	assert_false(good("virtualHW.version = \"19\"\nvmci0.present = \"FALSE\"").present);
	assert_true(good("virtualHW.version = \"?\"").present);
	bad("vmci0.present = \"maybe\"", "line 1: vmci0.present: neither TRUE nor FALSE");
}

/* SDK reference, 9: a u32 that may be written as a negative number; below 16 is bumped, with a warning */
static void test_id(void **state)
{
	struct definition def;

	(void)state;
	assert_int_equal(good("vmci0.id = \"16\"").id, 16);
	assert_int_equal(good("vmci0.id = \"-2\"").id, 4294967294u);
	assert_string_equal(warnings, "");
	for (unsigned id = 0; id < 16; id++) {
		char text[64];

		snprintf(text, sizeof(text), "\nvmci0.id = \"%u\"", id);
		def = good(text);
		assert_int_equal(def.id, 16);
		assert_true(def.bumped);
		assert_non_null(strstr(warnings, "line 2: vmci0.id: context ids below 16"));
	}
	def = good("vmci0.id = \"-1\"");
	assert_int_equal(def.id, VMCI_INVALID_ID);
	assert_false(def.bumped);
	assert_non_null(strstr(warnings, "no context id"));
	bad("vmci0.id = \"4294967296\"", "not a 32-bit number");
	bad("vmci0.id = \"sixteen\"", "not a 32-bit number");
	bad("vmci0.id = \"\"", "not a 32-bit number");
}

static void test_domain(void **state)
{
	(void)state;
	assert_string_equal(good("vmci0.domain = \"1234567890123456789012345678901\"").domain,
			    "1234567890123456789012345678901");
	bad("vmci0.domain = \"12345678901234567890123456789012\"", "longer than 31 bytes");
}

static void test_window(void **state)
{
	(void)state;
	assert_int_equal(good("openvmci.window = \"0\"").window, 0);
	assert_int_equal(good("openvmci.window = \"64K\"").window, 65536);
	assert_int_equal(good("openvmci.window = \"256M\"").window, 256 << 20);
	bad("openvmci.window = \"32K\"", "power of two");
	bad("openvmci.window = \"512M\"", "power of two");
	bad("openvmci.window = \"65M\"", "power of two");
	bad("openvmci.window = \"-1\"", "power of two");
	bad("openvmci.window = \"yes\"", "power of two");
}

static void test_rules(void **state)
{
	struct definition def = good("vmci.filter.enable = \"TRUE\"\n"
				     "vmci.filter10.action = \"allow\"\n"
				     "vmci.filter2.action = \"DENY\"\n"
				     "vmci.filter2.protocol = \"datagram\"\n"
				     "vmci.filter2.direction = \"host\"\n"
				     "vmci.filter2.portLow = \"5\"\n"
				     "vmci.filter2.portHigh = \"0x10\"\n"
				     "vmci.filter0.action = \"1\"\n"
				     "vmci.filter0.protocol = \"4\"\n"
				     "VMCI.Filter0.Direction = \"0\"\n"
				     "vmci.filter0.portLow = \"976\"\n");
	const struct brk_filter_rule *rule = def.rules;

	(void)state;
	assert_int_equal(def.n_rules, 3);
	assert_int_equal(rule[0].action, BRK_FILTER_DENY);
	assert_int_equal(rule[0].protocol, BRK_FILTER_STREAM);
	assert_int_equal(rule[0].direction, BRK_FILTER_TO_GUEST);
	assert_int_equal(rule[0].first, 976);
	assert_int_equal(rule[0].last, UINT32_MAX);
	assert_int_equal(rule[1].action, BRK_FILTER_DENY);
	assert_int_equal(rule[1].protocol, BRK_FILTER_DATAGRAM);
	assert_int_equal(rule[1].direction, BRK_FILTER_TO_HOST);
	assert_int_equal(rule[1].first, 5);
	assert_int_equal(rule[1].last, 16);
	assert_int_equal(rule[2].action, BRK_FILTER_ALLOW);
	assert_int_equal(rule[2].protocol, BRK_FILTER_ANY_PROTOCOL);
	assert_int_equal(rule[2].direction, BRK_FILTER_ANY_DIRECTION);
	assert_int_equal(rule[2].first, 0);
	assert_int_equal(rule[2].last, UINT32_MAX);
	/* Without the switch they do nothing. */
	assert_int_equal(good("vmci.filter0.action = \"deny\"").n_rules, 0);
	assert_int_equal(good("vmci.filter.enable = \"FALSE\"\nvmci.filter0.action = \"deny\"").n_rules, 0);
	assert_int_equal(good("vmci.filter.enable = \"TRUE\"").n_rules, 0);
}

/* A mistake must not be a rule less. */
static void test_bad_rules(void **state)
{
	static char text[65536];
	size_t n = 0;

	(void)state;
	bad("vmci.filter.enable = \"perhaps\"", "neither TRUE nor FALSE");
	bad("vmci.filter0.protocol = \"any\"", "vmci.filter0.action: is missing");
	bad("vmci.filter0.action = \"drop\"", "\"drop\" is not known");
	bad("vmci.filter0.action = \"2\"", "not known");
	bad("vmci.filter0.action = \"deny\"\nvmci.filter0.protocol = \"tcp\"", "\"tcp\"");
	bad("vmci.filter0.action = \"deny\"\nvmci.filter0.direction = \"both\"", "\"both\"");
	bad("vmci.filter0.action = \"deny\"\nvmci.filter0.portLow = \"x\"", "32-bit");
	bad("vmci.filter0.action = \"deny\"\nvmci.filter0.portHigh = \"-1\"", "32-bit");
	bad("vmci.filter0.action = \"deny\"\nvmci.filter0.portLow = \"2\"\nvmci.filter0.portHigh = \"1\"", "less than");
	bad("vmci.filter0.action = \"deny\"\nvmci.filter0.port = \"2\"", "line 2: vmci.filter0.port: not known");
	bad("vmci.filter01.action = \"deny\"", "not known");
	bad("vmci.filter.action = \"deny\"", "not known");
	bad("vmci.filter65536.action = \"deny\"", "not known");
	bad("vmci.filter99999999999999999999.action = \"deny\"", "not known");
	bad("vmci.filter1 = \"deny\"", "not known");
	bad("vmci.filters = \"on\"", "not known");
	/* Also if they are off: they would be a surprise later. */
	bad("vmci.filter.enable = \"FALSE\"\nvmci.filter0.action = \"drop\"", "\"drop\"");

	n = (size_t)snprintf(text, sizeof(text), "vmci.filter.enable = TRUE\n");
	for (unsigned i = 0; i < DEFINITION_RULES_MAX; i++)
		n += (size_t)snprintf(text + n, sizeof(text) - n, "vmci.filter%u.action = deny\n", 1000 - i);
	assert_int_equal(good(text).n_rules, DEFINITION_RULES_MAX);
	snprintf(text + n, sizeof(text) - n, "vmci.filter7.action = deny\n");
	bad(text, "more than 64 rules");
}

static void test_uuids(void **state)
{
	static const uint8_t first[UUID_SIZE] = {
		0x56, 0x4d, 0x07, 0xd8, 0xcc, 0xd5, 0xc4, 0x0d, 0x98, 0x44, 0xdc, 0x1e, 0x8f, 0xe0, 0xda, 0xf3,
	};
	struct definition def = good("uuid.location = \"56 4d 07 d8 cc d5 c4 0d-98 44 dc 1e 8f e0 da f3\"\n"
				     "uuid.bios = \"00000000-0000-0000-0000-0000000000ff\"\n");

	(void)state;
	assert_int_equal(def.n_uuids, 2);
	assert_int_equal(def.uuid[0][15], 0xff);
	assert_memory_equal(def.uuid[1], first, UUID_SIZE);
	assert_string_equal(warnings, "");
	def = good("uuid.bios = \"\"\nUUID.Location = \"564d07d8ccd5c40d9844dc1e8fe0daf3\"\nuuid.action = \"create\"\n");
	assert_int_equal(def.n_uuids, 1);
	assert_memory_equal(def.uuid[0], first, UUID_SIZE);
	assert_string_equal(warnings, "");
	/* Nobody's VM is kept from running by that. */
	def = good("uuid.bios = \"56 4d\"\n");
	assert_int_equal(def.n_uuids, 0);
	assert_non_null(strstr(warnings, "line 1: uuid.bios: not a UUID"));
}

static void test_odd(void **state)
{
	(void)state;
	(void)good("openvmci.clasic = \"TRUE\"\nOpenVMCI.MSI = \"FALSE\"\n");
	assert_string_equal(warnings, "line 1: openvmci.clasic: not known here\n");
	bad("a b", "line 1: = is missing");
	bad("vmci0.unrestricted = \"\"", "neither");
}

/* Equal text, equal bytes: that is how a change is noticed. */
static void test_compare(void **state)
{
	static const char text[] = "vmci0.domain = \"x\"\nvmci.filter.enable = TRUE\nvmci.filter1.action = deny\n";
	struct definition a, b;

	(void)state;
	memset(&a, 0xaa, sizeof(a));
	memset(&b, 0x55, sizeof(b));
	assert_int_equal(definition_parse("vm1", text, strlen(text), warn, warnings, &a, reason), 0);
	assert_int_equal(definition_parse("vm1", text, strlen(text), warn, warnings, &b, reason), 0);
	assert_memory_equal(&a, &b, sizeof(a));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_names),  cmocka_unit_test(test_defaults),	 cmocka_unit_test(test_all),
		cmocka_unit_test(test_present), cmocka_unit_test(test_id),	 cmocka_unit_test(test_domain),
		cmocka_unit_test(test_window), cmocka_unit_test(test_rules),	 cmocka_unit_test(test_bad_rules),
		cmocka_unit_test(test_odd),    cmocka_unit_test(test_compare),  cmocka_unit_test(test_uuids),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
