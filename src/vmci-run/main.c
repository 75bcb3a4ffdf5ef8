/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * vmci-run: starts a program with AF_VSOCK being VMCI Sockets of this host: libvmci-preload and guard.c. vmci-run(1)
 *
 * It has said HELLO before, and given vmcid a socket that the program inherits, and which nobody uses: as long as it
 * is open, the context is there, and so is a vmcid that was started for us; a new one finds it (FAB_F_HOLD). The
 * program may give up our rights, and the socket can be used for nothing else.
 */
#include <argp.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "argument.h"
#include "base/fd.h"
#include "fabric/client.h"
#include "guard.h"
#include "lib/guest.h"
#include "lib/lib.h"
#include "lib/start.h"

#ifndef PRELOAD
#define PRELOAD "/usr/local/lib/libvmci-preload.so"
#endif

/* What shells say when they cannot run a command. */
#define EXIT_CANNOT_SET_UP 125
#define EXIT_CANNOT_EXECUTE 126
#define EXIT_NOT_FOUND 127

/* A vmcid that was started listens within this time, and answers. */
#define START_MS 5000
#define STEP_MS 20

/* The socket that holds the context has this number or a higher one, above the one of src/sock/ask.c. */
#define HELD_NUMBER 970

/* argp finds it by this name. */
__attribute__((visibility("default"))) const char *argp_program_version = "vmci-run (OpenVMCI) " OPENVMCI_VERSION;

struct options {
	uint32_t cid;
	const char *dir;
	bool no_start;
	char **argv;
};

enum { OPT_NO_START = 0x100 };

static const struct argp_option option_table[] = {
	{ "cid", 'c', "N", 0, "Be context N (16 or more; \"new\": one that is free) instead of the host's, 2", 0 },
	{ "runtime-dir", 'd', "DIR", 0, "vmcid's runtime directory, instead of the usual ones", 0 },
	{ "no-start", OPT_NO_START, NULL, 0, "Start no vmcid where none runs", 0 },
	{ 0 },
};

static error_t parse_option(int key, char *arg, struct argp_state *state)
{
	struct options *o = state->input;
	char *end;
	unsigned long cid;

	switch (key) {
	case 'c':
		errno = 0;
		cid = strtoul(arg, &end, 10);
		if (!strcmp(arg, "new"))
			o->cid = VMCI_INVALID_ID;
		else if (errno || *end || arg[0] < '0' || arg[0] > '9' || cid >= VMCI_INVALID_ID ||
			 (cid != VMCI_CID_HOST && cid < VMCI_CID_FIRST_VM))
			argp_error(state, "--cid %s: 2, a number from 16 up, or new", arg);
		else
			o->cid = (uint32_t)cid;
		return 0;
	case 'd':
		o->dir = arg;
		return 0;
	case OPT_NO_START:
		o->no_start = true;
		return 0;
	case ARGP_KEY_ARG:
		/* The rest is the program's. */
		o->argv = state->argv + state->next - 1;
		state->next = state->argc;
		return 0;
	case ARGP_KEY_END:
		if (!o->argv)
			argp_usage(state);
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static const struct argp option_parser = {
	.options = option_table,
	.parser = parse_option,
	.args_doc = "PROGRAM [ARG...]",
	.doc = "Run a program whose AF_VSOCK sockets are VMCI Sockets: they reach virtual machines, and other programs "
	       "of this "
	       "host.\v"
	       "The program is not changed, and need not know. The manual page has what is different from a kernel's "
	       "AF_VSOCK.",
};

/* Return: a connection to vmcid; -1 after a message */
static int reach(const struct options *o, struct home *ret_home)
{
	bool is_started = false;
	int fd = -1, r;

	for (unsigned ms = 0;; ms += STEP_MS) {
		r = home_find(o->dir, o->no_start, ret_home, &fd);
		if (r || fd >= 0)
			break;
		if (!is_started) {
			if (!ret_home->may_start)
				break;
			r = home_start(ret_home);
			if (r)
				break;
			is_started = true;
		}
		if (ms >= START_MS)
			break;
		poll(NULL, 0, STEP_MS);
	}
	if (fd < 0)
		fprintf(stderr, "vmci-run: %s\n", vmci_errmsg());
	return r ? -1 : fd;
}

/* Say hello over @fd, and have the context held by @socket. Return: 0, or -1 after a message */
static int say_hello(int fd, const struct home *home, int socket, uint32_t *cid)
{
	struct fab_msg reply, request = {
		.type = FAB_HELLO,
		.flags = FAB_F_HOLD,
		.handle.context = *cid,
		.size0 = FAB_VERSION,
		.data = (const uint8_t *)"vmci-run",
		.len = sizeof("vmci-run") - 1,
		.fd = { socket },
		.n_fds = 1,
	};
	struct fab_client *client;
	int r;

	if (fab_client_new(fd, &client)) {
		fprintf(stderr, "vmci-run: out of memory\n");
		return -1;
	}
	r = fab_client_call(client, &request, START_MS, &reply);
	fab_client_free(client);
	if (r) {
		fprintf(stderr, "vmci-run: vmcid at %s does not answer: %s\n", home->dir, strerror(-r));
		return -1;
	}
	if (reply.status < 0) {
		fprintf(stderr, "vmci-run: vmcid at %s does not let us join context %u: %s\n", home->dir, *cid,
			vmci_strerror(reply.status));
		return -1;
	}
	*cid = reply.handle.context;
	return 0;
}

/* Join the context; @fd is taken. Return: what it is held by, to be inherited; -1 after a message */
static int join(int fd, const struct home *home, uint32_t *cid)
{
	int held = -1, made = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	for (int number = HELD_NUMBER; made >= 0 && held < 0 && number >= 3; number /= 2)
		held = fcntl(made, F_DUPFD, number);
	fd_close(&made);
	if (held < 0) {
		fprintf(stderr, "vmci-run: %s\n", strerror(errno));
		fd_close(&fd);
		return -1;
	}
	if (say_hello(fd, home, held, cid))
		fd_close(&held);
	return held;
}

/* The library beside ourselves, in a build folder, or where it was installed. */
static int find_preload(char *path, size_t size)
{
	ssize_t n = readlink("/proc/self/exe", path, size - sizeof("libvmci-preload.so"));

	if (n > 0) {
		path[n] = '\0';
		strcpy(strrchr(path, '/') + 1, "libvmci-preload.so");
		if (!access(path, R_OK))
			return 0;
	}
	snprintf(path, size, "%s", PRELOAD);
	return access(path, R_OK);
}

/* Behind what is there: who wants to be first (a sanitizer) has a reason. */
static int set_preload(const char *path)
{
	const char *before = getenv("LD_PRELOAD");
	char *all;
	int r;

	if (!before || !before[0])
		return setenv("LD_PRELOAD", path, 1);
	if (asprintf(&all, "%s:%s", before, path) < 0)
		return -1;
	r = setenv("LD_PRELOAD", all, 1);
	free(all);
	return r;
}

static int set_environment(const struct home *home, uint32_t cid)
{
	char path[PATH_MAX], number[16];

	if (find_preload(path, sizeof(path))) {
		fprintf(stderr, "vmci-run: %s: %s\n", path, strerror(errno));
		return -1;
	}
	if (strpbrk(path, " :")) {
		fprintf(stderr, "vmci-run: %s: LD_PRELOAD takes no path with a space or a colon\n", path);
		return -1;
	}
	snprintf(number, sizeof(number), "%u", cid);
	if (set_preload(path) || setenv("VMCI_RUNTIME_DIR", home->dir, 1) || setenv("VMCI_CID", number, 1)) {
		fprintf(stderr, "vmci-run: %s\n", strerror(errno));
		return -1;
	}
	return 0;
}

/* Return: 0, or -1 after a message */
static int set_up(struct options *o)
{
	struct home home;
	int fd, r;

	if (guest_is_here(GUEST_PCI_DEVICES) && !o->dir && !getenv("VMCI_RUNTIME_DIR")) {
		/* A guest: the kernel has what is wanted. */
		if (o->cid == VMCI_CID_HOST)
			return 0;
		fprintf(stderr, "vmci-run: in a guest, --cid is for those who name a vmcid\n");
		return -1;
	}
	fd = reach(o, &home);
	if (fd < 0 && !o->no_start)
		return -1;
	if (fd >= 0 && join(fd, &home, &o->cid) < 0)
		return -1;
	if (set_environment(&home, o->cid))
		return -1;
	r = guard_enter();
	if (r)
		fprintf(stderr, "vmci-run: cannot keep the kernel's AF_VSOCK out of reach: %s\n", strerror(-r));
	return r ? -1 : 0;
}

/* The program's arguments, where ssh has got at them before */
static void rewrite_arguments(char **argv)
{
	while (*++argv) {
		char *text = argument_rewrite(*argv);

		if (text)
			*argv = text;
	}
}

int main(int argc, char **argv)
{
	struct options options = { .cid = VMCI_CID_HOST };

	argp_err_exit_status = EXIT_CANNOT_SET_UP;
	argp_parse(&option_parser, argc, argv, ARGP_IN_ORDER, NULL, &options);
	if (set_up(&options))
		return EXIT_CANNOT_SET_UP;
	rewrite_arguments(options.argv);
	execvp(options.argv[0], options.argv);
	fprintf(stderr, "vmci-run: %s: %s\n", options.argv[0], strerror(errno));
	return errno == ENOENT ? EXIT_NOT_FOUND : EXIT_CANNOT_EXECUTE;
}
