// SPDX-License-Identifier: BSD-2-Clause
/*
 * The test guest's command agent. Runs shell commands for the host, many at once,
 * over one byte channel (a virtio-serial port). A frame is a line "KIND ID LENGTH",
 * then LENGTH bytes:
 *
 *	host to guest	run	the command
 *			kill	the number of a signal for the command's process group
 *	guest to host	hello	the kernel's release; once, when ready
 *			out	output, both stdout and stderr
 *			exit	exit status, 128 + number if a signal ended it; last of its ID
 *
 * A command ends when its shell does; who it leaves behind loses its output.
 */
#define _GNU_SOURCE
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#define COMMANDS	256
#define CHUNK		16384

struct command {
	int id;
	pid_t pid;		/* 0: slot is free */
	int out;
};

static struct command commands[COMMANDS];
static int port;
static char input[CHUNK];	/* what the port gave: have bytes, used of them served */
static size_t have, used;

static void write_all(const char *data, size_t size)
{
	while (size) {
		ssize_t n = write(port, data, size);

		if (n < 0 && (errno == EINTR || errno == EAGAIN))
			continue;
		if (n <= 0)
			err(1, "agent: write");
		data += n;
		size -= (size_t)n;
	}
}

static void send_frame(const char *kind, int id, const char *data, size_t size)
{
	static char frame[CHUNK + 64];
	int head = snprintf(frame, 64, "%s %d %zu\n", kind, id, size);

	memcpy(frame + head, data, size);
	write_all(frame, (size_t)head + size);
}

/* Reads one byte, however long the host is away. */
static char read_byte(void)
{
	while (used == have) {
		ssize_t n = read(port, input, sizeof(input));

		used = have = 0;
		if (n > 0)
			have = (size_t)n;
		else if (n < 0 && errno != EINTR)
			err(1, "agent: read");
		else
			usleep(50000);
	}
	return input[used++];
}

static void start(int id, char *text)
{
	struct command *c = commands;
	int pipes[2];

	while (c->pid && ++c < commands + COMMANDS)
		;
	if (c == commands + COMMANDS || pipe2(pipes, O_CLOEXEC)) {
		send_frame("exit", id, "125", 3);
		return;
	}
	c->id = id;
	c->out = pipes[0];
	fcntl(c->out, F_SETFL, O_NONBLOCK);
	c->pid = fork();
	if (!c->pid) {
		sigset_t none;

		sigemptyset(&none);
		sigprocmask(SIG_SETMASK, &none, NULL);
		setsid();
		dup2(open("/dev/null", O_RDONLY), 0);
		dup2(pipes[1], 1);
		dup2(pipes[1], 2);
		execl("/bin/sh", "sh", "-c", text, (char *)NULL);
		_exit(127);
	}
	close(pipes[1]);
}

/* Serves one frame of the host. */
static void serve(void)
{
	char kind[16], line[64], *text;
	size_t i = 0, size;
	int id;

	while ((line[i] = read_byte()) != '\n')
		if (++i == sizeof(line) - 1)
			i = 0;
	line[i] = 0;
	if (sscanf(line, "%15s %d %zu", kind, &id, &size) != 3)
		errx(1, "agent: not a frame: %s", line);
	text = calloc(1, size + 1);
	if (!text)
		err(1, "agent");
	for (i = 0; i < size; i++)
		text[i] = read_byte();
	if (!strcmp(kind, "run"))
		start(id, text);
	for (i = 0; !strcmp(kind, "kill") && i < COMMANDS; i++)
		if (commands[i].pid && commands[i].id == id)
			kill(-commands[i].pid, atoi(text));
	free(text);
}

static void forward(struct command *c)
{
	char data[CHUNK];
	ssize_t n;

	while ((n = read(c->out, data, sizeof(data))) > 0)
		send_frame("out", c->id, data, (size_t)n);
	if (!n) {	/* closed its output, and may well live on */
		close(c->out);
		c->out = -1;
	}
}

static void reap(void)
{
	struct command *c;
	char text[16];
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		for (c = commands; c < commands + COMMANDS && c->pid != pid; c++)
			;
		if (c == commands + COMMANDS)
			continue;
		if (c->out >= 0)
			forward(c);
		if (c->out >= 0)
			close(c->out);
		c->pid = 0;
		status = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
		send_frame("exit", c->id, text, (size_t)snprintf(text, sizeof(text), "%d", status));
	}
}

int main(int argc, char **argv)
{
	struct pollfd polled[COMMANDS + 2];
	struct signalfd_siginfo info;
	struct utsname name;
	sigset_t child;
	int signals, i;

	port = argc == 2 ? open(argv[1], O_RDWR | O_CLOEXEC) : -1;
	if (port < 0)
		err(1, "agent: %s", argv[1]);
	sigemptyset(&child);
	sigaddset(&child, SIGCHLD);
	sigprocmask(SIG_BLOCK, &child, NULL);
	signals = signalfd(-1, &child, SFD_CLOEXEC);
	uname(&name);
	send_frame("hello", 0, name.release, strlen(name.release));
	for (;;) {
		polled[0] = (struct pollfd){ .fd = port, .events = POLLIN };
		polled[1] = (struct pollfd){ .fd = signals, .events = POLLIN };
		for (i = 0; i < COMMANDS; i++)
			polled[i + 2] = (struct pollfd){
				.fd = commands[i].pid ? commands[i].out : -1, .events = POLLIN };
		if (poll(polled, COMMANDS + 2, -1) < 0)
			continue;
		for (i = 0; i < COMMANDS; i++)
			if (polled[i + 2].revents)
				forward(&commands[i]);
		if (polled[1].revents && read(signals, &info, sizeof(info)) > 0)
			reap();
		if (polled[0].revents & POLLIN)
			do
				serve();
			while (used < have);
		else if (polled[0].revents)
			usleep(50000);
	}
}
