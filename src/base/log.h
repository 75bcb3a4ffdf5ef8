/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Logging for programs and for the parts that do I/O. The pure parts (proto, device, broker) do
 * not log: they hand their reasons to a port.
 *
 * Lines go to standard error; under systemd (JOURNAL_STREAM is set) each carries its level as
 * "<N>", elsewhere as a word. One thread only.
 */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include <stdarg.h>

enum log_level {
	LOG_LEVEL_ERR,		/* something does not work, somebody should look */
	LOG_LEVEL_WARN,		/* works, but not as it should */
	LOG_LEVEL_INFO,		/* what an administrator wants to know */
	LOG_LEVEL_DEBUG,	/* what we want to know */
	LOG_LEVEL_TRACE,	/* every message and packet */
	LOG_LEVEL_NUM,
};

/**
 * log_level_from_string() - the level called @name ("err", "warn", "info", "debug", "trace")
 *
 * Return: the level, or -EINVAL
 */
int log_level_from_string(const char *name);

/* log_level_to_string() - the name of @level */
const char *log_level_to_string(enum log_level level);

/**
 * log_open() - set the program's name, and the least important level that is printed
 * @name:  printed in front of each line; must live for ever
 * @level: messages above it are dropped
 */
void log_open(const char *name, enum log_level level);

/* log_wants() - would a message of @level be printed? For messages that cost something to make. */
_Bool log_wants(enum log_level level);

/* log_msg() - print one line (no newline in @fmt) if @level is wanted. Keeps errno. */
void log_msg(enum log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void log_vmsg(enum log_level level, const char *fmt, va_list ap) __attribute__((format(printf, 2, 0)));

#define log_err(...) log_msg(LOG_LEVEL_ERR, __VA_ARGS__)
#define log_warn(...) log_msg(LOG_LEVEL_WARN, __VA_ARGS__)
#define log_info(...) log_msg(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...) log_msg(LOG_LEVEL_DEBUG, __VA_ARGS__)
#define log_trace(...) log_msg(LOG_LEVEL_TRACE, __VA_ARGS__)

#endif /* BASE_LOG_H */
