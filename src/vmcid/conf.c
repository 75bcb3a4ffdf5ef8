/* SPDX-License-Identifier: BSD-2-Clause */
#include "conf.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/dict.h"
#include "base/fd.h"

struct conf conf_default(void)
{
	return (struct conf){
		.socket_mode = 0660,
		.socket_group = (gid_t)-1,
		.vm_mode = 0660,
		.vm_group = (gid_t)-1,
		.limits = brk_limits_default(),
	};
}

/* One value. Return: NULL, or what is wrong. */
static const char *parse_mode(const char *value, mode_t *ret)
{
	if (!strcmp(value, "0600") || !strcmp(value, "600"))
		*ret = 0600;
	else if (!strcmp(value, "0660") || !strcmp(value, "660"))
		*ret = 0660;
	else if (!strcmp(value, "0666") || !strcmp(value, "666"))
		*ret = 0666;
	else
		return "neither 0600, 0660 nor 0666";
	return NULL;
}

static bool parse_id(const char *value, unsigned *ret)
{
	unsigned long id;
	char *end;

	if (*value < '0' || *value > '9')
		return false;
	errno = 0;
	id = strtoul(value, &end, 10);
	if (errno || *end || id >= UINT32_MAX)
		return false;
	*ret = (unsigned)id;
	return true;
}

static const char *parse_group(const char *value, gid_t *ret)
{
	struct group *group;

	if (parse_id(value, ret))
		return NULL;
	group = getgrnam(value);
	if (!group)
		return "no such group";
	*ret = group->gr_gid;
	return NULL;
}

/* Names or numbers, with commas or white space between them. */
static const char *parse_users(const char *value, struct conf *conf)
{
	static const char gap[] = ", \t";
	char name[256];

	conf->n_trusted = 0;
	for (;;) {
		struct passwd *user;
		unsigned uid;
		size_t len;

		value += strspn(value, gap);
		len = strcspn(value, gap);
		if (!len)
			return NULL;
		if (len >= sizeof(name))
			return "a user's name is too long";
		if (conf->n_trusted == LIMIT_VMCID_TRUSTED)
			return "too many users";
		memcpy(name, value, len);
		name[len] = '\0';
		value += len;
		if (!parse_id(name, &uid)) {
			user = getpwnam(name);
			if (!user)
				return "no such user";
			uid = user->pw_uid;
		}
		conf->trusted[conf->n_trusted++] = uid;
	}
}

static const char *parse_path(const char *value, char *ret, size_t size)
{
	if (*value != '/')
		return "not an absolute path";
	if (strlen(value) >= size)
		return "the path is too long";
	strcpy(ret, value);
	return NULL;
}

static const char *parse_window_host(const char *value, struct conf *conf)
{
	if (strlen(value) >= sizeof(conf->window_host))
		return "longer than a domain or a VM's name can be";
	strcpy(conf->window_host, value);
	return NULL;
}

static const char *parse_bool(const struct dict *dict, const char *key, bool *ret)
{
	return dict_get_bool(dict, key, ret) ? "neither TRUE nor FALSE" : NULL;
}

/* Quotas may be lowered. */
static const char *parse_quota(const struct dict *dict, const char *key, struct brk_limits *limits)
{
	const struct brk_limits most = brk_limits_default();
	const struct {
		const char *key;
		unsigned *value;
		unsigned most;
	} table[] = {
		{ "quota.connections", &limits->clients, most.clients },
		{ "quota.contexts", &limits->contexts, most.contexts },
		{ "quota.objects", &limits->resources, most.resources },
		{ "quota.endpoints", &limits->endpoints, most.endpoints },
		{ "quota.doorbells", &limits->doorbells, most.doorbells },
		{ "quota.queuePairs", &limits->pairs, most.pairs },
		{ "quota.regions", &limits->regions, most.regions },
		{ "quota.groups", &limits->groups, most.groups },
		{ "quota.names", &limits->names, most.names },
	};
	uint64_t value;

	if (!strcasecmp(key, "quota.regionBytes"))
		return dict_get_size(dict, key, most.region_bytes, &limits->region_bytes)
			       ? "not a size, or more than there is without this key"
			       : NULL;
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		if (strcasecmp(key, table[i].key))
			continue;
		if (dict_get_u64(dict, key, table[i].most, &value))
			return "not a number, or more than there is without this key";
		*table[i].value = (unsigned)value;
		return NULL;
	}
	return "not known here";
}

static const char *parse_entry(const struct dict *dict, size_t i, struct conf *conf)
{
	const char *key = dict_key(dict, i), *value = dict_value(dict, i);

	if (!strcasecmp(key, "socket.mode"))
		return parse_mode(value, &conf->socket_mode);
	if (!strcasecmp(key, "socket.group"))
		return parse_group(value, &conf->socket_group);
	if (!strcasecmp(key, "vm.mode"))
		return parse_mode(value, &conf->vm_mode);
	if (!strcasecmp(key, "vm.group"))
		return parse_group(value, &conf->vm_group);
	if (!strcasecmp(key, "trusted.users"))
		return parse_users(value, conf);
	if (!strcasecmp(key, "device.program"))
		return parse_path(value, conf->program, sizeof(conf->program));
	if (!strcasecmp(key, "openvmci.window.host"))
		return parse_window_host(value, conf);
	if (!strcasecmp(key, "discovery.trustedOnly"))
		return parse_bool(dict, key, &conf->limits.trusted_names);
	return parse_quota(dict, key, &conf->limits);
}

int conf_parse(const char *text, size_t len, struct conf *conf, char ret_reason[static CONF_REASON_SIZE])
{
	struct dict_error error;
	const char *odd = NULL;
	struct dict *dict;
	int r;

	r = dict_parse(text, len, &dict, &error);
	if (r == -EBADMSG)
		snprintf(ret_reason, CONF_REASON_SIZE, "line %u: %s", error.line, error.reason);
	if (r)
		return r;
	for (size_t i = 0; i < dict_count(dict) && !odd; i++) {
		odd = parse_entry(dict, i, conf);
		if (odd)
			snprintf(ret_reason, CONF_REASON_SIZE, "line %u: %.80s: %s", dict_line(dict, i),
				 dict_key(dict, i), odd);
	}
	dict_free(dict);
	return odd ? -EBADMSG : 0;
}

int conf_read_file(int dir, const char *path, char **ret_text, size_t *ret_len)
{
	/* One more than there may be, so that more is noticed. */
	size_t room = DICT_TEXT_MAX + 1, len = 0;
	int fd = openat(dir, path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC), r = 0;
	struct stat st;
	char *text;
	ssize_t n;

	if (fd < 0)
		return -errno;
	text = malloc(room);
	if (!text)
		r = -ENOMEM;
	else if (fstat(fd, &st))
		r = -errno;
	else if (!S_ISREG(st.st_mode))
		r = S_ISDIR(st.st_mode) ? -EISDIR : -EINVAL;
	while (!r && len < room) {
		n = read(fd, text + len, room - len);
		if (n < 0 && errno != EINTR)
			r = -errno;
		if (n == 0)
			break;
		if (n > 0)
			len += (size_t)n;
	}
	if (!r && len == room)
		r = -EFBIG;
	fd_close(&fd);
	if (r) {
		free(text);
		return r;
	}
	*ret_text = text;
	*ret_len = len;
	return 0;
}
