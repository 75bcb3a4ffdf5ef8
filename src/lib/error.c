/* SPDX-License-Identifier: BSD-2-Clause */
/* Codes in words, and each thread's last message. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "lib/lib.h"

/* Holds the paths that vmci_open() has tried. */
#define MESSAGE_SIZE 1024

static _Thread_local char message[MESSAGE_SIZE];

struct word {
	const char *name;
	const char *words;
};

#define WORD(code, words) [-(code)] = { #code, words }

static const struct word error_words[] = {
	WORD(VMCI_ERROR_INVALID_RESOURCE, "no such resource"),
	WORD(VMCI_ERROR_INVALID_ARGS, "invalid arguments"),
	WORD(VMCI_ERROR_NO_MEM, "out of memory, or buffer too small"),
	WORD(VMCI_ERROR_DATAGRAM_FAILED, "datagram failed"),
	WORD(VMCI_ERROR_MORE_DATA, "more data"),
	WORD(VMCI_ERROR_NO_MORE_DATAGRAMS, "no more datagrams"),
	WORD(VMCI_ERROR_NO_ACCESS, "no access"),
	WORD(VMCI_ERROR_NO_HANDLE, "no such handle"),
	WORD(VMCI_ERROR_DUPLICATE_ENTRY, "duplicate entry"),
	WORD(VMCI_ERROR_DST_UNREACHABLE, "destination unreachable"),
	WORD(VMCI_ERROR_PAYLOAD_TOO_LARGE, "payload too large"),
	WORD(VMCI_ERROR_INVALID_PRIV, "no privilege of this resource"),
	WORD(VMCI_ERROR_GENERIC, "failed"),
	WORD(VMCI_ERROR_PAGE_ALREADY_SHARED, "page already shared"),
	WORD(VMCI_ERROR_CANNOT_SHARE_PAGE, "page cannot be shared"),
	WORD(VMCI_ERROR_CANNOT_UNSHARE_PAGE, "page cannot be unshared"),
	WORD(VMCI_ERROR_NO_PROCESS, "no such process"),
	WORD(VMCI_ERROR_NO_DATAGRAM, "no datagram"),
	WORD(VMCI_ERROR_NO_RESOURCES, "no resources"),
	WORD(VMCI_ERROR_UNAVAILABLE, "unavailable"),
	WORD(VMCI_ERROR_NOT_FOUND, "not found"),
	WORD(VMCI_ERROR_ALREADY_EXISTS, "already exists"),
	WORD(VMCI_ERROR_NOT_PAGE_ALIGNED, "not aligned to pages"),
	WORD(VMCI_ERROR_INVALID_SIZE, "invalid size"),
	WORD(VMCI_ERROR_REGION_ALREADY_SHARED, "region already shared"),
	WORD(VMCI_ERROR_TIMEOUT, "timed out"),
	WORD(VMCI_ERROR_DATAGRAM_INCOMPLETE, "datagram incomplete"),
	WORD(VMCI_ERROR_INCORRECT_IRQL, "incorrect interrupt level"),
	WORD(VMCI_ERROR_EVENT_UNKNOWN, "unknown event"),
	WORD(VMCI_ERROR_OBSOLETE, "obsolete"),
	WORD(VMCI_ERROR_QUEUEPAIR_MISMATCH, "queue pair does not match"),
	WORD(VMCI_ERROR_QUEUEPAIR_NOTSET, "queue pair not set"),
	WORD(VMCI_ERROR_QUEUEPAIR_NOTOWNER, "not the queue pair's owner"),
	WORD(VMCI_ERROR_QUEUEPAIR_NOTATTACHED, "not attached to the queue pair"),
	WORD(VMCI_ERROR_QUEUEPAIR_NOSPACE, "no space in the queue pair"),
	WORD(VMCI_ERROR_QUEUEPAIR_NODATA, "no data in the queue pair"),
	WORD(VMCI_ERROR_BUSMEM_INVALIDATION, "memory invalidated"),
	WORD(VMCI_ERROR_MODULE_NOT_LOADED, "module not loaded"),
	WORD(VMCI_ERROR_DEVICE_NOT_FOUND, "no broker and no device found"),
	WORD(VMCI_ERROR_QUEUEPAIR_NOT_READY, "queue pair not ready"),
	WORD(VMCI_ERROR_WOULD_BLOCK, "would block"),
};

#undef WORD
#define WORD(code, words) [code] = { #code, words }

static const struct word success_words[] = {
	WORD(VMCI_SUCCESS, "success"),
	WORD(VMCI_SUCCESS_ENTRY_DEAD, "entry is dead"),
	WORD(VMCI_SUCCESS_ACCESS_GRANTED, "access granted"),
	WORD(VMCI_SUCCESS_LAST_DETACH, "last one detached"),
	WORD(VMCI_SUCCESS_QUEUEPAIR_CREATE, "queue pair created"),
	WORD(VMCI_SUCCESS_QUEUEPAIR_ATTACH, "attached to queue pair"),
};

static const struct word *word_of(int code)
{
	size_t n_errors = sizeof(error_words) / sizeof(error_words[0]);
	size_t n_successes = sizeof(success_words) / sizeof(success_words[0]);

	if (code >= 0 && (size_t)code < n_successes)
		return &success_words[code];
	if (code < 0 && code > -(int)n_errors)
		return &error_words[-code];
	return NULL;
}

const char *vmci_strerror(int code)
{
	const struct word *word = word_of(code);

	if (word)
		return word->words;
	return code < 0 ? "unknown error" : "success";
}

const char *vmci_strerrorname(int code)
{
	const struct word *word = word_of(code);

	return word ? word->name : NULL;
}

const char *vmci_errmsg(void)
{
	return message;
}

int lib_fail(int code, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(message, sizeof(message), fmt, ap);
	va_end(ap);
	return code;
}

int lib_where(int code, const char *fmt, ...)
{
	char what[MESSAGE_SIZE];
	va_list ap;
	int n;

	memcpy(what, message, sizeof(what));
	va_start(ap, fmt);
	n = vsnprintf(message, sizeof(message), fmt, ap);
	va_end(ap);
	/* As much as there is room for. */
	if (n >= 0 && n < MESSAGE_SIZE - 3)
		snprintf(message + n, sizeof(message) - (size_t)n, ": %.*s", MESSAGE_SIZE - 3 - n, what);
	return code;
}
