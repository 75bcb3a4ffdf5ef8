/* SPDX-License-Identifier: BSD-2-Clause */
#include "listener.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/closer.h"
#include "base/fd.h"

#define BACKLOG 128

static int make_address(const char *path, struct sockaddr_un *ret_sun)
{
	size_t len = strlen(path);

	if (len == 0)
		return -EINVAL;
	if (len >= sizeof(ret_sun->sun_path))
		return -ENAMETOOLONG;
	*ret_sun = (struct sockaddr_un){ .sun_family = AF_UNIX };
	memcpy(ret_sun->sun_path, path, len);
	return 0;
}

int unix_connect(const char *path)
{
	struct sockaddr_un sun;
	int fd, r = make_address(path, &sun);

	if (r)
		return r;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	closer_refuse(fd);
	if (connect(fd, (struct sockaddr *)&sun, sizeof(sun))) {
		r = -errno;
		fd_close(&fd);
		return r;
	}
	return fd;
}

/*
 * Is the file at @path a socket that nobody listens at? Asked with a socket of another type, so that a listener is not
 * disturbed: it would answer EPROTOTYPE.
 */
static bool is_stale(const struct sockaddr_un *sun)
{
	struct stat st;
	bool refused;
	int fd;

	if (lstat(sun->sun_path, &st) || !S_ISSOCK(st.st_mode))
		return false;
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return false;
	refused = connect(fd, (const struct sockaddr *)sun, sizeof(*sun)) && errno == ECONNREFUSED;
	fd_close(&fd);
	return refused;
}

static int open_type(const char *path, int type, mode_t mode)
{
	struct sockaddr_un sun;
	mode_t mask;
	int fd, r = make_address(path, &sun);

	if (r)
		return r;
	fd = socket(AF_UNIX, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	mask = umask(0777 & ~mode);
	r = bind(fd, (struct sockaddr *)&sun, sizeof(sun));
	if (r && errno == EADDRINUSE && is_stale(&sun) && !unlink(path))
		r = bind(fd, (struct sockaddr *)&sun, sizeof(sun));
	if (r)
		r = -errno;
	umask(mask);
	if (!r && listen(fd, BACKLOG)) {
		r = -errno;
		unlink(path);
	}
	if (r) {
		fd_close(&fd);
		return r;
	}
	return fd;
}

int listener_open(const char *path)
{
	return open_type(path, SOCK_STREAM, 0660);
}

int listener_open_packets(const char *path)
{
	return open_type(path, SOCK_SEQPACKET, 0600);
}

void listener_close(int *fd, const char *path)
{
	if (*fd < 0)
		return;
	unlink(path);
	/* Who waits there may have sent something. */
	closer_close(fd);
}
