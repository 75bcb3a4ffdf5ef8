// SPDX-License-Identifier: BSD-2-Clause
/*
 * The guest's hand at /dev/vmci_probe (tests/vm/module/vmci_probe.c).
 *
 *	probe WORDS...				runs a command; prints its answer; status 1 if its code is negative
 *	probe send H BELL RING POLL BYTES SEED	writes the pattern of SEED through a queue pair
 *	probe recv H BELL RING POLL BYTES	reads BYTES, or (0) to the end; prints their number and hash
 *	probe gen BYTES SEED			writes the pattern of SEED to its output; needs no device
 */
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "pattern.h"

#define CHUNK 65536
#define TEXT (1 << 18)

static int device(void)
{
	int fd = open("/dev/vmci_probe", O_RDWR | O_CLOEXEC);

	if (fd < 0)
		err(2, "/dev/vmci_probe");
	return fd;
}

/* Runs a command, prints the answer if told so, and returns the code. */
static int run(int fd, const char *command, int is_quiet)
{
	static char answer[TEXT];
	size_t have = 0;
	ssize_t n;

	if (write(fd, command, strlen(command)) < 0)
		err(2, "%s", command);
	while ((!have || answer[have - 1] != '\n' || !is_quiet) &&
	       (n = read(fd, answer + have, sizeof(answer) - 1 - have)) > 0)
		have += (size_t)n;
	answer[have] = 0;
	if (!is_quiet || *answer == '-')
		fputs(answer, stdout);
	return atoi(answer);
}

static int run_words(int argc, char **argv)
{
	static char command[TEXT];
	size_t size = 0;
	int i;

	for (i = 1; i < argc; i++)
		size += (size_t)snprintf(command + size, sizeof(command) - size, "%s%s", i > 1 ? " " : "", argv[i]);
	return run(device(), command, 0) < 0;
}

static int use(char **arg)
{
	char command[256];
	int fd = device();

	snprintf(command, sizeof(command), "qp use %s %s %s %s", arg[0], arg[1], arg[2], arg[3]);
	if (run(fd, command, 1) < 0)
		exit(1);
	return fd;
}

static int send_pattern(char **arg)
{
	uint64_t size = strtoull(arg[4], NULL, 0), seed = strtoull(arg[5], NULL, 0), done;
	static uint8_t data[CHUNK];
	int fd = use(arg);
	struct hash hash;

	hash_init(&hash);
	for (done = 0; done < size;) {
		size_t now = size - done < CHUNK ? (size_t)(size - done) : CHUNK;

		pattern_fill(data, now, seed, done);
		hash_add(&hash, data, now);
		if (write(fd, data, now) != (ssize_t)now)
			err(1, "write after %llu bytes", (unsigned long long)done);
		done += now;
	}
	printf("sent %llu %016llx\n", (unsigned long long)done, (unsigned long long)hash_end(&hash));
	return 0;
}

static int receive(char **arg)
{
	uint64_t size = strtoull(arg[4], NULL, 0);
	static uint8_t data[CHUNK];
	int fd = use(arg);
	struct hash hash;

	hash_init(&hash);
	while (!size || hash.size < size) {
		size_t now = size && size - hash.size < CHUNK ? (size_t)(size - hash.size) : CHUNK;
		ssize_t n = read(fd, data, now);

		if (n < 0)
			err(1, "read after %llu bytes", (unsigned long long)hash.size);
		if (!n)
			break;
		hash_add(&hash, data, (size_t)n);
	}
	printf("received %llu %016llx\n", (unsigned long long)hash.size, (unsigned long long)hash_end(&hash));
	return 0;
}

static int generate(char **arg)
{
	uint64_t size = strtoull(arg[0], NULL, 0), seed = strtoull(arg[1], NULL, 0), done;
	static uint8_t data[CHUNK];

	for (done = 0; done < size;) {
		size_t now = size - done < CHUNK ? (size_t)(size - done) : CHUNK, sent = 0;

		pattern_fill(data, now, seed, done);
		while (sent < now) {
			ssize_t n = write(STDOUT_FILENO, data + sent, now - sent);

			if (n < 0)
				err(1, "write");
			sent += (size_t)n;
		}
		done += now;
	}
	return 0;
}

int main(int argc, char **argv)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (argc == 8 && !strcmp(argv[1], "send"))
		return send_pattern(argv + 2);
	if (argc == 7 && !strcmp(argv[1], "recv"))
		return receive(argv + 2);
	if (argc == 4 && !strcmp(argv[1], "gen"))
		return generate(argv + 2);
	if (argc > 1)
		return run_words(argc, argv);
	errx(2, "usage: probe WORDS... | send H BELL RING POLL BYTES SEED | recv H BELL RING POLL BYTES |"
	     " gen BYTES SEED");
}
