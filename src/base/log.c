/* SPDX-License-Identifier: BSD-2-Clause */
#include "base/log.h"

#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const level_name[] = {
	[LOG_LEVEL_ERR] = "err",     [LOG_LEVEL_WARN] = "warn",	  [LOG_LEVEL_INFO] = "info",
	[LOG_LEVEL_DEBUG] = "debug", [LOG_LEVEL_TRACE] = "trace",
};
static_assert(sizeof(level_name) / sizeof(level_name[0]) == LOG_LEVEL_NUM, "a name for each level");

/* syslog(3) priorities, as sd-daemon(3) wants them in front of a line. */
static const char *const level_prefix[] = {
	[LOG_LEVEL_ERR] = "<3>",   [LOG_LEVEL_WARN] = "<4>",  [LOG_LEVEL_INFO] = "<6>",
	[LOG_LEVEL_DEBUG] = "<7>", [LOG_LEVEL_TRACE] = "<7>",
};
static_assert(sizeof(level_prefix) / sizeof(level_prefix[0]) == LOG_LEVEL_NUM, "a prefix for each level");

static const char *log_name = "openvmci";
static enum log_level log_max = LOG_LEVEL_INFO;
static bool log_journal;

int log_level_from_string(const char *name)
{
	for (int i = 0; i < LOG_LEVEL_NUM; i++)
		if (!strcmp(name, level_name[i]))
			return i;
	return -EINVAL;
}

const char *log_level_to_string(enum log_level level)
{
	return level_name[level];
}

void log_open(const char *name, enum log_level level)
{
	log_name = name;
	log_max = level;
	log_journal = getenv("JOURNAL_STREAM") != NULL;
}

bool log_wants(enum log_level level)
{
	return level <= log_max;
}

void log_vmsg(enum log_level level, const char *fmt, va_list ap)
{
	char line[1024];
	int saved = errno;

	if (log_wants(level)) {
		vsnprintf(line, sizeof(line), fmt, ap);
		if (log_journal)
			fprintf(stderr, "%s%s\n", level_prefix[level], line);
		else
			fprintf(stderr, "%s: %s: %s\n", log_name, level_name[level], line);
	}
	errno = saved;
}

void log_msg(enum log_level level, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	log_vmsg(level, fmt, ap);
	va_end(ap);
}
