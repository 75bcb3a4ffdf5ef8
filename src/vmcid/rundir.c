/* SPDX-License-Identifier: BSD-2-Clause */
#include "rundir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "base/fd.h"

/* An embedded vmcid that is asked to leave does so in milliseconds, unless the machine is very busy. */
#define TAKE_OVER_MS 5000
#define TAKE_OVER_STEP_MS 10

#define BACKLOG 128
#define KEY_NAME "key"
#define LOCK_NAME "lock"
/* What an embedded vmcid writes into the lock: who reads it may ask it to leave. */
#define EMBEDDED_WORD "embedded"

__attribute__((format(printf, 3, 4))) static int fail(char *reason, int error, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(reason, RUNDIR_REASON_SIZE, fmt, ap);
	va_end(ap);
	return error;
}

static int open_directory(const char *path, mode_t mode, struct rundir *rundir, char *reason)
{
	struct stat st;

	if (!mkdir(path, mode)) {
		/* The mask may have taken from it. */
		if (chmod(path, mode))
			return fail(reason, -errno, "%s: %s", path, strerror(errno));
	} else if (errno != EEXIST) {
		return fail(reason, -errno, "%s: cannot make it: %s", path, strerror(errno));
	}
	rundir->fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (rundir->fd < 0)
		return fail(reason, -errno, "%s: %s", path, errno == ELOOP ? "a symbolic link" : strerror(errno));
	if (fstat(rundir->fd, &st))
		return fail(reason, -errno, "%s: %s", path, strerror(errno));
	if (st.st_uid != geteuid())
		return fail(reason, -EPERM, "%s: belongs to user %u, not to us (%u)", path, (unsigned)st.st_uid,
			    (unsigned)geteuid());
	if (st.st_mode & (S_IWGRP | S_IWOTH))
		return fail(reason, -EPERM, "%s: others may write there (mode %04o)", path,
			    (unsigned)st.st_mode & 07777u);
	return 0;
}

static pid_t embedded_pid(int lock)
{
	char text[64] = "";
	long pid;

	if (pread(lock, text, sizeof(text) - 1, 0) <= 0)
		return 0;
	if (sscanf(text, EMBEDDED_WORD " %ld", &pid) != 1 || pid <= 1)
		return 0;
	return (pid_t)pid;
}

/* The lock is held by another: is it one that goes when asked? */
static int take_over(int lock)
{
	struct timespec step = { .tv_nsec = TAKE_OVER_STEP_MS * 1000000l };
	pid_t pid = embedded_pid(lock);

	if (!pid || kill(pid, SIGTERM))
		return -EBUSY;
	for (int ms = 0; ms < TAKE_OVER_MS; ms += TAKE_OVER_STEP_MS) {
		if (!flock(lock, LOCK_EX | LOCK_NB))
			return 0;
		nanosleep(&step, NULL);
	}
	return -EBUSY;
}

static int take_lock(struct rundir *rundir, bool embedded, char *reason)
{
	char text[64];
	int r = 0, n;

	rundir->lock = openat(rundir->fd, LOCK_NAME, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (rundir->lock < 0)
		return fail(reason, -errno, "%s/%s: %s", rundir->path, LOCK_NAME, strerror(errno));
	if (flock(rundir->lock, LOCK_EX | LOCK_NB)) {
		r = errno == EWOULDBLOCK ? -EBUSY : -errno;
		if (r == -EBUSY && !embedded)
			r = take_over(rundir->lock);
	}
	if (r == -EBUSY)
		return fail(reason, r, "%s: another vmcid is running there", rundir->path);
	if (r)
		return fail(reason, r, "%s/%s: %s", rundir->path, LOCK_NAME, strerror(-r));
	n = snprintf(text, sizeof(text), "%s %ld\n", embedded ? EMBEDDED_WORD : "service", (long)getpid());
	if (ftruncate(rundir->lock, 0) || pwrite(rundir->lock, text, (size_t)n, 0) != n)
		return fail(reason, -EIO, "%s/%s: cannot write it", rundir->path, LOCK_NAME);
	return 0;
}

/* Return: true if there was a usable key */
static bool read_key(const struct rundir *rundir, struct token_key *ret_key)
{
	struct token_key key;
	struct stat st;
	bool fine;
	int fd = openat(rundir->fd, KEY_NAME, O_RDONLY | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC);

	if (fd < 0)
		return false;
	/* A key that others could have read or made is none. */
	fine = !fstat(fd, &st) && S_ISREG(st.st_mode) && st.st_uid == geteuid() && !(st.st_mode & 077) &&
	       st.st_size == sizeof(key) && read(fd, &key, sizeof(key)) == sizeof(key);
	fd_close(&fd);
	if (fine)
		*ret_key = key;
	return fine;
}

/* Whole or not at all: who is killed in between leaves no half key. */
static int write_key(const struct rundir *rundir)
{
	static const char temporary[] = KEY_NAME ".new";
	int fd, r = 0;

	unlinkat(rundir->fd, temporary, 0);
	fd = openat(rundir->fd, temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	if (write(fd, &rundir->key, sizeof(rundir->key)) != sizeof(rundir->key))
		r = -EIO;
	fd_close(&fd);
	if (!r && renameat(rundir->fd, temporary, rundir->fd, KEY_NAME))
		r = -errno;
	return r;
}

static int make_folder(const struct rundir *rundir, const char *name, mode_t mode, char *reason)
{
	if (mkdirat(rundir->fd, name, mode) && errno != EEXIST)
		return fail(reason, -errno, "%s/%s: %s", rundir->path, name, strerror(errno));
	if (fchmodat(rundir->fd, name, mode, 0))
		return fail(reason, -errno, "%s/%s: %s", rundir->path, name, strerror(errno));
	return 0;
}

int rundir_open(const char *path, mode_t mode, bool embedded, struct rundir *ret_rundir,
		char ret_reason[static RUNDIR_REASON_SIZE])
{
	struct rundir rundir = { .path = path, .fd = -1, .lock = -1 };
	int r;

	r = open_directory(path, mode, &rundir, ret_reason);
	if (!r)
		r = take_lock(&rundir, embedded, ret_reason);
	if (!r)
		r = make_folder(&rundir, "vm", mode, ret_reason);
	if (!r)
		r = make_folder(&rundir, "hybrid", mode, ret_reason);
	if (!r)
		r = make_folder(&rundir, "device", 0700, ret_reason);
	if (!r)
		r = make_folder(&rundir, "dgram", 0700, ret_reason);
	if (!r)
		r = make_folder(&rundir, "held", 0700, ret_reason);
	/* Nobody but us connects to what lies there: port.c. */
	if (!r)
		r = make_folder(&rundir, "port", 0700, ret_reason);
	if (!r) {
		rundir.resumed = read_key(&rundir, &rundir.key);
		if (!rundir.resumed) {
			token_key_make(&rundir.key);
			r = write_key(&rundir);
			if (r)
				fail(ret_reason, r, "%s/%s: %s", path, KEY_NAME, strerror(-r));
		}
	}
	if (r) {
		fd_close(&rundir.lock);
		fd_close(&rundir.fd);
		return r;
	}
	*ret_rundir = rundir;
	return 0;
}

void rundir_close(struct rundir *rundir, bool forget)
{
	if (forget)
		rundir_unlink(rundir, KEY_NAME);
	explicit_bzero(&rundir->key, sizeof(rundir->key));
	fd_close(&rundir->lock);
	fd_close(&rundir->fd);
}

int rundir_path(const struct rundir *rundir, const char *name, char *buf, size_t size)
{
	int n = snprintf(buf, size, "%s/%s", rundir->path, name);

	return n < 0 || (size_t)n >= size ? -ENAMETOOLONG : 0;
}

static int make_address(const struct rundir *rundir, const char *name, struct sockaddr_un *ret_sun)
{
	*ret_sun = (struct sockaddr_un){ .sun_family = AF_UNIX };
	return rundir_path(rundir, name, ret_sun->sun_path, sizeof(ret_sun->sun_path));
}

int rundir_listen(const struct rundir *rundir, const char *name, int type, mode_t mode, gid_t group)
{
	struct sockaddr_un sun;
	int fd, r = make_address(rundir, name, &sun);
	mode_t mask;

	if (r)
		return r;
	fd = socket(AF_UNIX, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	rundir_unlink(rundir, name);
	/* Nobody comes in before mode and group are right; and nobody who may come in is told that he may not. */
	mask = umask(group == (gid_t)-1 ? 0777 & ~mode : 0777);
	if (bind(fd, (struct sockaddr *)&sun, sizeof(sun)))
		r = -errno;
	umask(mask);
	if (!r && group != (gid_t)-1 && fchownat(rundir->fd, name, (uid_t)-1, group, AT_SYMLINK_NOFOLLOW))
		r = -errno;
	if (!r && group != (gid_t)-1 && fchmodat(rundir->fd, name, mode, 0))
		r = -errno;
	if (!r && listen(fd, BACKLOG))
		r = -errno;
	if (r) {
		fd_close(&fd);
		return r;
	}
	return fd;
}

int rundir_connect(const struct rundir *rundir, const char *name, int type)
{
	struct sockaddr_un sun;
	int fd, r = make_address(rundir, name, &sun);

	if (r)
		return r;
	fd = socket(AF_UNIX, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	if (connect(fd, (struct sockaddr *)&sun, sizeof(sun))) {
		r = -errno;
		fd_close(&fd);
		return r;
	}
	return fd;
}

void rundir_unlink(const struct rundir *rundir, const char *name)
{
	unlinkat(rundir->fd, name, 0);
}

int rundir_sweep(const struct rundir *rundir, const char *folder, bool (*keep)(void *ctx, const char *name),
		 void *ctx)
{
	int fd = openat(rundir->fd, folder, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC), r;
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *entry;

	if (!dir) {
		r = -errno;
		fd_close(&fd);
		return r;
	}
	while ((entry = readdir(dir)))
		if (entry->d_name[0] != '.' && !keep(ctx, entry->d_name))
			unlinkat(dirfd(dir), entry->d_name, 0);
	closedir(dir);
	return 0;
}
