/* SPDX-License-Identifier: BSD-2-Clause */
#include "definition.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/dict.h"

#define SUFFIX ".vmx"

/* The hardware version from which on VMs have the device unless they say otherwise (SDK reference, 9). */
#define HARDWARE_VERSION_PRESENT 7

struct parser {
	const struct dict *dict;
	struct definition *def;
	definition_warn_fn *warn;
	void *ctx;
	char *reason;
};

static bool is_name_char(char c, bool first)
{
	if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9'))
		return true;
	return !first && c && strchr("._-+@ ", c);
}

int definition_name(const char *file, char ret_name[static DEFINITION_NAME_MAX + 1])
{
	size_t len = strlen(file), suffix = strlen(SUFFIX);

	if (*file == '.' || len <= suffix || strcasecmp(file + len - suffix, SUFFIX))
		return -ENOENT;
	len -= suffix;
	if (len > DEFINITION_NAME_MAX)
		return -EINVAL;
	for (size_t i = 0; i < len; i++)
		if (!is_name_char(file[i], i == 0))
			return -EINVAL;
	memcpy(ret_name, file, len);
	ret_name[len] = '\0';
	return 0;
}

__attribute__((format(printf, 3, 4))) static int bad(struct parser *p, const char *key, const char *fmt, ...)
{
	int n = snprintf(p->reason, DEFINITION_REASON_SIZE, "line %u: %.80s: ", dict_line_of(p->dict, key), key);
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(p->reason + n, DEFINITION_REASON_SIZE - (size_t)n, fmt, ap);
	va_end(ap);
	return -EBADMSG;
}

__attribute__((format(printf, 3, 4))) static void odd(struct parser *p, const char *key, const char *fmt, ...)
{
	char line[DEFINITION_REASON_SIZE];
	int n = snprintf(line, sizeof(line), "line %u: %.80s: ", dict_line_of(p->dict, key), key);
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(line + n, sizeof(line) - (size_t)n, fmt, ap);
	va_end(ap);
	p->warn(p->ctx, line);
}

static int parse_bool(struct parser *p, const char *key, bool fallback, bool *ret)
{
	int r = dict_get_bool(p->dict, key, ret);

	if (r == -ENOENT)
		*ret = fallback;
	return r == -EINVAL ? bad(p, key, "neither TRUE nor FALSE") : 0;
}

/* A wish: taken as it is from 16 on, otherwise bumped, as VMware did. */
static int parse_id(struct parser *p)
{
	static const char key[] = "vmci0.id";
	uint32_t id;
	int r = dict_get_u32_any_sign(p->dict, key, &id);

	if (r == -ENOENT)
		return 0;
	if (r)
		return bad(p, key, "not a 32-bit number");
	if (id == VMCI_INVALID_ID) {
		odd(p, key, "this is no context id; another is taken");
		return 0;
	}
	if (id < VMCI_CID_FIRST_VM) {
		odd(p, key, "context ids below %u are reserved; one above is taken", VMCI_CID_FIRST_VM);
		id = VMCI_CID_FIRST_VM;
		p->def->bumped = true;
	}
	p->def->id = id;
	return 0;
}

static int parse_domain(struct parser *p)
{
	static const char key[] = "vmci0.domain";
	const char *value = dict_get(p->dict, key);

	if (!value)
		return 0;
	if (strlen(value) > DEFINITION_DOMAIN_MAX)
		return bad(p, key, "longer than %u bytes", DEFINITION_DOMAIN_MAX);
	memcpy(p->def->domain, value, strlen(value) + 1);
	return 0;
}

static int parse_present(struct parser *p)
{
	uint64_t version = HARDWARE_VERSION_PRESENT;

	/* Not ours: what cannot be read does not matter. */
	(void)dict_get_u64(p->dict, "virtualHW.version", UINT32_MAX, &version);
	return parse_bool(p, "vmci0.present", version >= HARDWARE_VERSION_PRESENT, &p->def->present);
}

static int parse_window(struct parser *p)
{
	static const char key[] = "openvmci.window";
	uint64_t size = 0;
	int r = dict_get_size(p->dict, key, DEFINITION_WINDOW_MAX, &size);

	if (r == -ENOENT)
		return 0;
	if (r || (size && (size < DEFINITION_WINDOW_MIN || (size & (size - 1)))))
		return bad(p, key, "neither 0 nor a power of two from 64K to 256M");
	p->def->window = size;
	return 0;
}

/* VMware's own keys: what cannot be read does not keep the VM from running. */
static void parse_uuids(struct parser *p)
{
	static const char *const key[DEFINITION_UUIDS] = { "uuid.bios", "uuid.location" };

	for (unsigned i = 0; i < DEFINITION_UUIDS; i++) {
		const char *value = dict_get(p->dict, key[i]);
		uint8_t uuid[UUID_SIZE];

		if (!value || !*value)
			continue;
		if (uuid_parse(value, uuid))
			memcpy(p->def->uuid[p->def->n_uuids++], uuid, UUID_SIZE);
		else
			odd(p, key[i], "not a UUID, 16 bytes of two hexadecimal digits each");
	}
}

/* Words, or the numbers of the reference. */
static int parse_word(struct parser *p, const char *key, const char *const words[], unsigned n, int fallback)
{
	const char *value = dict_get(p->dict, key);

	if (!value)
		return fallback >= 0 ? fallback : bad(p, key, "is missing");
	for (unsigned i = 0; i < n; i++)
		if (!strcasecmp(value, words[i]) || (value[0] == (char)('0' + i) && !value[1]))
			return (int)i;
	return bad(p, key, "\"%.20s\" is not known here", value);
}

static int parse_port(struct parser *p, const char *key, uint32_t fallback, uint32_t *ret)
{
	uint64_t port = fallback;
	int r = dict_get_u64(p->dict, key, UINT32_MAX, &port);

	if (r && r != -ENOENT)
		return bad(p, key, "not a 32-bit number");
	*ret = (uint32_t)port;
	return 0;
}

static int parse_rule(struct parser *p, uint32_t rank, struct brk_filter_rule *ret_rule)
{
	static const char *const action[] = { "allow", "deny" };
	static const char *const protocol[] = { "hypervisor", "queuepair", "doorbell", "datagram", "stream", "any" };
	static const char *const direction[] = { "guest", "host", "any" };
	struct brk_filter_rule rule = { 0 };
	char base[32], key[64];
	int r;

	snprintf(base, sizeof(base), "vmci.filter%u", rank);
	snprintf(key, sizeof(key), "%s.action", base);
	r = parse_word(p, key, action, 2, -1);
	if (r < 0)
		return r;
	rule.action = (enum brk_filter_action)r;
	snprintf(key, sizeof(key), "%s.protocol", base);
	r = parse_word(p, key, protocol, 6, BRK_FILTER_ANY_PROTOCOL);
	if (r < 0)
		return r;
	rule.protocol = (enum brk_filter_protocol)r;
	snprintf(key, sizeof(key), "%s.direction", base);
	r = parse_word(p, key, direction, 3, BRK_FILTER_ANY_DIRECTION);
	if (r < 0)
		return r;
	rule.direction = (enum brk_filter_direction)r;
	snprintf(key, sizeof(key), "%s.portLow", base);
	r = parse_port(p, key, 0, &rule.first);
	if (r)
		return r;
	snprintf(key, sizeof(key), "%s.portHigh", base);
	r = parse_port(p, key, UINT32_MAX, &rule.last);
	if (r)
		return r;
	if (rule.first > rule.last)
		return bad(p, key, "less than portLow");
	*ret_rule = rule;
	return 0;
}

/*
 * Rank and field of a key "vmci.filter<N>.<field>". Return: 0; -ENOENT: no such key; -EINVAL: begins like one, but
 * is none
 */
static int filter_key(const char *key, uint32_t *ret_rank)
{
	static const char prefix[] = "vmci.filter";
	static const char *const field[] = { "action", "protocol", "direction", "portLow", "portHigh" };
	unsigned long rank;
	char *end;

	if (strncasecmp(key, prefix, sizeof(prefix) - 1))
		return -ENOENT;
	key += sizeof(prefix) - 1;
	if (!strcasecmp(key, ".enable"))
		return -ENOENT;
	/* One way to write a number: filter01 would be another filter1. */
	if (*key < '0' || *key > '9' || (*key == '0' && key[1] != '.'))
		return -EINVAL;
	rank = strtoul(key, &end, 10);
	if (rank > DEFINITION_RANK_MAX || *end != '.')
		return -EINVAL;
	for (size_t i = 0; i < sizeof(field) / sizeof(field[0]); i++)
		if (!strcasecmp(end + 1, field[i])) {
			*ret_rank = (uint32_t)rank;
			return 0;
		}
	return -EINVAL;
}

static int compare_rank(const void *a, const void *b)
{
	const uint32_t *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

/* The ranks of all rules, in order. */
static int find_ranks(struct parser *p, uint32_t *ranks, size_t *ret_n)
{
	size_t n = 0;

	for (size_t i = 0; i < dict_count(p->dict); i++) {
		const char *key = dict_key(p->dict, i);
		uint32_t rank;
		bool known = false;
		int r = filter_key(key, &rank);

		if (r == -EINVAL)
			return bad(p, key, "not known; there are .action, .protocol, .direction, .portLow, .portHigh");
		if (r)
			continue;
		for (size_t k = 0; k < n; k++)
			known |= ranks[k] == rank;
		if (known)
			continue;
		if (n == DEFINITION_RULES_MAX)
			return bad(p, key, "more than %u rules", DEFINITION_RULES_MAX);
		ranks[n++] = rank;
	}
	qsort(ranks, n, sizeof(*ranks), compare_rank);
	*ret_n = n;
	return 0;
}

static int parse_filter(struct parser *p)
{
	uint32_t ranks[DEFINITION_RULES_MAX];
	bool enable;
	size_t n = 0;
	int r;

	r = parse_bool(p, "vmci.filter.enable", false, &enable);
	if (!r)
		r = find_ranks(p, ranks, &n);
	for (size_t i = 0; !r && i < n; i++)
		r = parse_rule(p, ranks[i], &p->def->rules[i]);
	/* Rules that are off are checked all the same, so that switching them on is no surprise. */
	if (!r && enable)
		p->def->n_rules = n;
	return r;
}

static void look_for_typos(struct parser *p)
{
	static const char *const known[] = { "classic", "msi", "window", "restricted", "hybrid" };
	static const char prefix[] = "openvmci.";

	for (size_t i = 0; i < dict_count(p->dict); i++) {
		const char *key = dict_key(p->dict, i);
		bool found = false;

		if (strncasecmp(key, prefix, sizeof(prefix) - 1))
			continue;
		for (size_t k = 0; k < sizeof(known) / sizeof(known[0]); k++)
			found |= !strcasecmp(key + sizeof(prefix) - 1, known[k]);
		if (!found)
			odd(p, key, "not known here");
	}
}

static int parse_all(struct parser *p)
{
	struct definition *def = p->def;
	int r;

	r = parse_present(p);
	if (!r)
		r = parse_id(p);
	if (!r)
		r = parse_domain(p);
	if (!r)
		r = parse_bool(p, "vmci0.unrestricted", false, &def->unrestricted);
	if (!r)
		r = parse_bool(p, "openvmci.restricted", false, &def->restricted);
	if (!r)
		r = parse_bool(p, "openvmci.classic", false, &def->classic);
	if (!r)
		r = parse_bool(p, "openvmci.msi", false, &def->msi);
	if (!r)
		r = parse_bool(p, "openvmci.hybrid", true, &def->hybrid);
	if (!r)
		r = parse_window(p);
	if (!r)
		parse_uuids(p);
	if (!r)
		r = parse_filter(p);
	if (!r)
		look_for_typos(p);
	return r;
}

int definition_parse(const char *name, const char *text, size_t len, definition_warn_fn *warn, void *ctx,
		     struct definition *ret_definition, char ret_reason[static DEFINITION_REASON_SIZE])
{
	struct definition def;
	struct parser p = { .def = &def, .warn = warn, .ctx = ctx, .reason = ret_reason };
	struct dict_error error;
	struct dict *dict;
	int r;

	r = dict_parse(text, len, &dict, &error);
	if (r == -EBADMSG)
		snprintf(ret_reason, DEFINITION_REASON_SIZE, "line %u: %s", error.line, error.reason);
	if (r)
		return r;
	/* Definitions are compared with memcmp(3). */
	memset(&def, 0, sizeof(def));
	def.id = VMCI_INVALID_ID;
	snprintf(def.name, sizeof(def.name), "%s", name);
	p.dict = dict;
	r = parse_all(&p);
	dict_free(dict);
	if (!r)
		memcpy(ret_definition, &def, sizeof(def));
	return r;
}
