/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The dictionary of .vmx files and of vmcid.conf: lines of the form
 *
 *	key = "value"		# comment
 *
 * Keys are compared without regard to case. A value may stand without quotes, and then ends at white space. Inside
 * quotes |22 is the byte 0x22 (a quote), |7C a bar, and so on. Lines are empty, comments (#), or one assignment;
 * they end with LF or CR LF. A key that is assigned twice is an error, as it is for VMware. The text is UTF-8 or
 * anything else without NUL bytes.
 */
#ifndef BASE_DICT_H
#define BASE_DICT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DICT_TEXT_MAX 262144u	/* bytes of a file: fifty times what VMware writes */
#define DICT_KEY_MAX 127u	/* bytes: the longest known, "ethernet0.addressType" and the like, have about 40 */
#define DICT_VALUE_MAX 4095u	/* bytes: a path */
#define DICT_ENTRIES_MAX 4096u	/* lookups are linear while parsing: this many take milliseconds */

struct dict;

/**
 * struct dict_error - why a text is no dictionary
 * @line:   counted from 1
 * @reason: a static string, no punctuation
 */
struct dict_error {
	unsigned line;
	const char *reason;
};

/**
 * dict_parse() - read a dictionary
 * @text: @len bytes; not kept
 *
 * Return: 0; -EBADMSG: @ret_error says why (and is written in this case only); -ENOMEM
 */
int dict_parse(const char *text, size_t len, struct dict **ret_dict, struct dict_error *ret_error);

/* dict_free() - NULL is fine. Returns NULL. */
struct dict *dict_free(struct dict *dict);

/* dict_get() - the value of @key, or NULL. It lives as long as @dict. */
const char *dict_get(const struct dict *dict, const char *key);

/* dict_count(), dict_key(), dict_value(), dict_line() - entry @i, in the order of the text, and its line */
size_t dict_count(const struct dict *dict);
const char *dict_key(const struct dict *dict, size_t i);
const char *dict_value(const struct dict *dict, size_t i);
unsigned dict_line(const struct dict *dict, size_t i);

/* dict_line_of() - the line of @key; 0 if it is not there */
unsigned dict_line_of(const struct dict *dict, const char *key);

/**
 * dict_get_bool() - a truth value: TRUE, YES, ON, 1 or FALSE, NO, OFF, 0, in any case
 *
 * Return: 0; -ENOENT: no such key; -EINVAL: something else. *@ret is written on success only: give it the default
 * before.
 */
int dict_get_bool(const struct dict *dict, const char *key, bool *ret);

/**
 * dict_get_u64() - a number up to @max: decimal, hexadecimal (0x) or octal (0)
 *
 * Return: as dict_get_bool(); -ERANGE: more than @max
 */
int dict_get_u64(const struct dict *dict, const char *key, uint64_t max, uint64_t *ret);

/**
 * dict_get_u32_any_sign() - a 32-bit number, as VMware writes ids: 4294967295 and -1 are the same
 *
 * Decimal. Return: as dict_get_u64()
 */
int dict_get_u32_any_sign(const struct dict *dict, const char *key, uint32_t *ret);

/**
 * dict_get_size() - a number of bytes: decimal, with K, M or G behind it if wished
 *
 * Return: as dict_get_u64()
 */
int dict_get_size(const struct dict *dict, const char *key, uint64_t max, uint64_t *ret);

#endif /* BASE_DICT_H */
