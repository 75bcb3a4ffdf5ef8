/* SPDX-License-Identifier: BSD-2-Clause */
#include "fabric/address.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#define PREFIX "vmci/"
#define UNIQUE_DIGITS 13u
#define UNIQUE_MASK ((UINT64_C(1) << 4 * UNIQUE_DIGITS) - 1)
#define PATH_OFFSET offsetof(struct sockaddr_un, sun_path)
#define PATH_SIZE sizeof(((struct sockaddr_un *)NULL)->sun_path)

/* The longest name, of a VM, just fits. */
static_assert(1 + sizeof(PREFIX) - 1 + 10 + 1 + 10 + 1 + 2 + 1 + UNIQUE_DIGITS + 1 + FAB_VM_NAME_MAX <= PATH_SIZE + 1,
	      "a VM's name may be cut by one byte at the most");

socklen_t fab_address_build(const struct fab_address *address, uint64_t unique, struct sockaddr_un *ret_sun)
{
	char who[40] = "vm", name[PATH_SIZE];
	int n;

	assert(address->kind != FAB_ADDRESS_PORT);
	if (address->kind == FAB_ADDRESS_PROGRAM)
		snprintf(who, sizeof(who), "%" PRIu32 ".%" PRIu32 ".%" PRId32, address->uid, address->gid,
			 address->pid < 0 ? 0 : address->pid);
	/* What is too long is cut, and that is the end of a VM's name. */
	n = snprintf(name, sizeof(name), PREFIX "%" PRIu32 "/%" PRIu32 "/%s/%013" PRIx64 "%s%s", address->context,
		     address->port, who, unique & UNIQUE_MASK, address->kind == FAB_ADDRESS_VM ? "/" : "",
		     address->kind == FAB_ADDRESS_VM ? address->vm : "");
	if ((size_t)n >= sizeof(name))
		n = sizeof(name) - 1;
	memset(ret_sun, 0, sizeof(*ret_sun));
	ret_sun->sun_family = AF_UNIX;
	memcpy(ret_sun->sun_path + 1, name, (size_t)n);
	return (socklen_t)(PATH_OFFSET + 1 + (size_t)n);
}

/* struct text - what is left to read */
struct text {
	const char *at;
	const char *end;
};

static bool take(struct text *text, char c)
{
	if (text->at == text->end || *text->at != c)
		return false;
	text->at++;
	return true;
}

static bool take_number(struct text *text, uint32_t max, uint32_t *ret)
{
	const char *from = text->at;
	uint64_t value = 0;

	for (; text->at < text->end && *text->at >= '0' && *text->at <= '9' && value <= max; text->at++)
		value = 10 * value + (uint64_t)(*text->at - '0');
	*ret = (uint32_t)value;
	return text->at > from && value <= max && (*from != '0' || text->at == from + 1);
}

static bool take_unique(struct text *text)
{
	for (unsigned i = 0; i < UNIQUE_DIGITS; i++, text->at++)
		if (text->at == text->end || !memchr("0123456789abcdef", *text->at, 16))
			return false;
	return true;
}

static bool take_program(struct text *text, struct fab_address *address)
{
	uint32_t pid;

	address->kind = FAB_ADDRESS_PROGRAM;
	if (!take_number(text, UINT32_MAX, &address->uid) || !take(text, '.') ||
	    !take_number(text, UINT32_MAX, &address->gid) || !take(text, '.') || !take_number(text, INT32_MAX, &pid))
		return false;
	address->pid = (int32_t)pid;
	return true;
}

static bool parse_abstract(struct text text, struct fab_address *address)
{
	size_t left = (size_t)(text.end - text.at);

	if (left < sizeof(PREFIX) - 1 || memcmp(text.at, PREFIX, sizeof(PREFIX) - 1))
		return false;
	text.at += sizeof(PREFIX) - 1;
	if (!take_number(&text, UINT32_MAX, &address->context) || !take(&text, '/') ||
	    !take_number(&text, UINT32_MAX, &address->port) || !take(&text, '/'))
		return false;
	if (take(&text, 'v')) {
		address->kind = FAB_ADDRESS_VM;
		if (!take(&text, 'm'))
			return false;
	} else if (!take_program(&text, address)) {
		return false;
	}
	if (!take(&text, '/') || !take_unique(&text))
		return false;
	if (address->kind == FAB_ADDRESS_VM) {
		if (!take(&text, '/'))
			return false;
		left = (size_t)(text.end - text.at);
		if (left > FAB_VM_NAME_MAX || memchr(text.at, '\0', left))
			return false;
		memcpy(address->vm, text.at, left);
		text.at = text.end;
	}
	return text.at == text.end;
}

/* The last three parts of the path, from behind. */
static bool parse_path(struct text text, struct fab_address *address)
{
	static const char folder[] = "/" FAB_PORT_FOLDER "/";
	const char *end = memchr(text.at, '\0', (size_t)(text.end - text.at));
	const char *from;

	if (end)
		text.end = end;
	from = text.end;
	for (unsigned slashes = 0; slashes < 3; slashes++)
		do
			if (from-- == text.at)
				return false;
		while (*from != '/');
	if (from == text.at || (size_t)(text.end - from) < sizeof(folder) - 1 ||
	    memcmp(from, folder, sizeof(folder) - 1))
		return false;
	text.at = from + sizeof(folder) - 1;
	address->kind = FAB_ADDRESS_PORT;
	return take_number(&text, UINT32_MAX, &address->context) && take(&text, '/') &&
	       take_number(&text, UINT32_MAX, &address->port) && text.at == text.end;
}

int fab_address_parse(const struct sockaddr_un *sun, socklen_t len, struct fab_address *ret_address)
{
	struct fab_address address = { 0 };
	struct text text;
	bool is_fine;

	if (len <= PATH_OFFSET || len > sizeof(*sun) + 1 || sun->sun_family != AF_UNIX)
		return -EINVAL;
	text.at = sun->sun_path;
	text.end = sun->sun_path + (len - PATH_OFFSET < PATH_SIZE ? len - PATH_OFFSET : PATH_SIZE);
	is_fine = take(&text, '\0') ? parse_abstract(text, &address) : parse_path(text, &address);
	if (!is_fine)
		return -EINVAL;
	*ret_address = address;
	return 0;
}
