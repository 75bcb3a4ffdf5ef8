/* SPDX-License-Identifier: BSD-2-Clause */
#include "base/dict.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Key and value of an entry stand behind each other in dict->text, each with its NUL. */
struct entry {
	size_t key;
	size_t value;
	unsigned line;
};

struct dict {
	struct entry *entries;
	size_t n;
	char *text;
	size_t used;
};

/* The C library's functions follow the locale; file formats do not. */
static char lower(char c)
{
	return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

static bool is_same(const char *a, const char *b)
{
	while (*a && lower(*a) == lower(*b)) {
		a++;
		b++;
	}
	return lower(*a) == lower(*b);
}

static bool is_space(char c)
{
	return c == ' ' || c == '\t';
}

static bool is_key_char(char c)
{
	return c > ' ' && c != 0x7f && c != '=' && c != '"' && c != '#';
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c = lower(c);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static const char *skip_space(const char *p, const char *end)
{
	while (p < end && is_space(*p))
		p++;
	return p;
}

/*
 * Each line becomes at most as many bytes as it has, and two NULs: dict->text, as long as all of that, never
 * overflows.
 */
static void put(struct dict *dict, char c)
{
	dict->text[dict->used++] = c;
}

/*
 * A quoted value, from behind the first quote on. Return: NULL, or what is wrong; *@p is behind the last quote.
 */
static const char *parse_quoted(struct dict *dict, const char **p, const char *end)
{
	for (const char *s = *p; s < end; s++) {
		int high, low;

		if (*s == '"') {
			*p = s + 1;
			return NULL;
		}
		if (*s != '|') {
			put(dict, *s);
			continue;
		}
		high = end - s > 2 ? hex_digit(s[1]) : -1;
		low = high >= 0 ? hex_digit(s[2]) : -1;
		if (low < 0)
			return "a bar is not followed by two hexadecimal digits";
		if (high == 0 && low == 0)
			return "a value cannot have a NUL byte";
		put(dict, (char)(high << 4 | low));
		s += 2;
	}
	return "the value's closing quote is missing";
}

/* One line without its end. Return: NULL, or what is wrong. */
static const char *parse_line(struct dict *dict, const char *p, const char *end, unsigned line)
{
	struct entry e = { .key = dict->used, .line = line };
	const char *reason, *value;

	p = skip_space(p, end);
	if (p == end || *p == '#')
		return NULL;
	for (; p < end && is_key_char(*p); p++)
		put(dict, *p);
	if (dict->used == e.key)
		return "a line begins with neither a key nor #";
	if (dict->used - e.key > DICT_KEY_MAX)
		return "the key is too long";
	put(dict, '\0');
	p = skip_space(p, end);
	if (p == end || *p != '=')
		return "= is missing behind the key";
	p = skip_space(p + 1, end);
	e.value = dict->used;
	if (p < end && *p == '"') {
		p++;
		reason = parse_quoted(dict, &p, end);
		if (reason)
			return reason;
	} else {
		for (value = p; p < end && !is_space(*p) && *p != '#'; p++) {
			if (*p == '"')
				return "a quote inside a value without quotes";
			put(dict, *p);
		}
		if (p == value)
			return "the value is missing";
	}
	if (dict->used - e.value > DICT_VALUE_MAX)
		return "the value is too long";
	put(dict, '\0');
	p = skip_space(p, end);
	if (p < end && *p != '#')
		return "something follows the value";
	for (size_t i = 0; i < dict->n; i++)
		if (is_same(dict->text + dict->entries[i].key, dict->text + e.key))
			return "the key was there before";
	if (dict->n == DICT_ENTRIES_MAX)
		return "there are too many entries";
	dict->entries[dict->n++] = e;
	return NULL;
}

static const char *parse_text(struct dict *dict, const char *text, size_t len, unsigned *ret_line)
{
	const char *end = text + len;
	unsigned line = 1;

	*ret_line = 1;
	if (len > DICT_TEXT_MAX)
		return "the text is too long";
	/* Editors of another system may have put it there. */
	if (len >= 3 && !memcmp(text, "\xef\xbb\xbf", 3))
		text += 3;
	for (; text < end; line++) {
		const char *next = memchr(text, '\n', (size_t)(end - text));
		size_t n = (size_t)((next ? next : end) - text);
		const char *reason;

		if (n && text[n - 1] == '\r')
			n--;
		*ret_line = line;
		if (memchr(text, '\0', n))
			return "there is a NUL byte";
		reason = parse_line(dict, text, text + n, line);
		if (reason)
			return reason;
		text = next ? next + 1 : end;
	}
	return NULL;
}

int dict_parse(const char *text, size_t len, struct dict **ret_dict, struct dict_error *ret_error)
{
	struct dict *dict = calloc(1, sizeof(*dict));
	size_t lines = 1, room = len < DICT_TEXT_MAX ? len : DICT_TEXT_MAX;
	const char *reason;
	unsigned line;

	if (!dict)
		return -ENOMEM;
	for (size_t i = 0; i < room; i++)
		lines += text[i] == '\n';
	dict->text = malloc(room + 2 * lines);
	dict->entries = calloc(lines < DICT_ENTRIES_MAX ? lines : DICT_ENTRIES_MAX, sizeof(*dict->entries));
	if (!dict->text || !dict->entries) {
		dict_free(dict);
		return -ENOMEM;
	}
	reason = parse_text(dict, text, len, &line);
	if (reason) {
		*ret_error = (struct dict_error){ .line = line, .reason = reason };
		dict_free(dict);
		return -EBADMSG;
	}
	*ret_dict = dict;
	return 0;
}

struct dict *dict_free(struct dict *dict)
{
	if (dict) {
		free(dict->entries);
		free(dict->text);
		free(dict);
	}
	return NULL;
}

static const struct entry *find(const struct dict *dict, const char *key)
{
	for (size_t i = 0; i < dict->n; i++)
		if (is_same(dict->text + dict->entries[i].key, key))
			return &dict->entries[i];
	return NULL;
}

const char *dict_get(const struct dict *dict, const char *key)
{
	const struct entry *e = find(dict, key);

	return e ? dict->text + e->value : NULL;
}

size_t dict_count(const struct dict *dict)
{
	return dict->n;
}

const char *dict_key(const struct dict *dict, size_t i)
{
	return dict->text + dict->entries[i].key;
}

const char *dict_value(const struct dict *dict, size_t i)
{
	return dict->text + dict->entries[i].value;
}

unsigned dict_line(const struct dict *dict, size_t i)
{
	return dict->entries[i].line;
}

unsigned dict_line_of(const struct dict *dict, const char *key)
{
	const struct entry *e = find(dict, key);

	return e ? e->line : 0;
}

int dict_get_bool(const struct dict *dict, const char *key, bool *ret)
{
	static const char *const word[][2] = {
		{ "false", "true" }, { "no", "yes" }, { "off", "on" }, { "0", "1" },
	};
	const char *value = dict_get(dict, key);

	if (!value)
		return -ENOENT;
	for (size_t i = 0; i < sizeof(word) / sizeof(word[0]); i++)
		for (int v = 0; v < 2; v++)
			if (is_same(value, word[i][v])) {
				*ret = v;
				return 0;
			}
	return -EINVAL;
}

/* strtoull() takes signs and white space, which do not belong here. */
static int parse_number(const char *text, int base, uint64_t *ret, const char **ret_end)
{
	unsigned long long n;
	char *end;

	if (*text < '0' || *text > '9')
		return -EINVAL;
	errno = 0;
	n = strtoull(text, &end, base);
	if (errno)
		return -ERANGE;
	*ret = n;
	*ret_end = end;
	return 0;
}

int dict_get_u64(const struct dict *dict, const char *key, uint64_t max, uint64_t *ret)
{
	const char *end, *value = dict_get(dict, key);
	uint64_t n;
	int r;

	if (!value)
		return -ENOENT;
	r = parse_number(value, 0, &n, &end);
	if (r)
		return r;
	if (*end)
		return -EINVAL;
	if (n > max)
		return -ERANGE;
	*ret = n;
	return 0;
}

int dict_get_u32_any_sign(const struct dict *dict, const char *key, uint32_t *ret)
{
	const char *end, *value = dict_get(dict, key);
	bool negative;
	uint64_t n;
	int r;

	if (!value)
		return -ENOENT;
	negative = *value == '-';
	r = parse_number(value + negative, 10, &n, &end);
	if (r)
		return r;
	if (*end)
		return -EINVAL;
	if (n > (negative ? 1ull << 31 : UINT32_MAX))
		return -ERANGE;
	*ret = (uint32_t)(negative ? 0 - n : n);
	return 0;
}

int dict_get_size(const struct dict *dict, const char *key, uint64_t max, uint64_t *ret)
{
	static const char unit[] = "kmg";
	const char *end, *found, *value = dict_get(dict, key);
	unsigned shift = 0;
	uint64_t n;
	int r;

	if (!value)
		return -ENOENT;
	r = parse_number(value, 10, &n, &end);
	if (r)
		return r;
	if (*end) {
		found = strchr(unit, lower(*end));
		if (!found || !*found || end[1])
			return -EINVAL;
		shift = 10 * (unsigned)(found - unit + 1);
	}
	if (n > max >> shift)
		return -ERANGE;
	*ret = n << shift;
	return 0;
}
