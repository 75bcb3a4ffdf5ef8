/* SPDX-License-Identifier: BSD-2-Clause */
#include "window.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "proto/limits.h"

_Bool window_is_size(uint64_t size)
{
	return size >= LIMIT_WINDOW_MIN && size <= LIMIT_WINDOW_MAX && !(size & (size - 1));
}

int window_make(struct window *window, uint64_t size)
{
	int fd, r;

	if (!window_is_size(size))
		return -EINVAL;
	fd = memfd_create("vmci-window", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0)
		return -errno;
	if (ftruncate(fd, (off_t)size) || fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)) {
		r = -errno;
		fd_close(&fd);
		return r;
	}
	*window = (struct window){ .fd = fd, .size = size };
	return 0;
}

int window_take(struct window *window, int fd)
{
	int seals = fcntl(fd, F_GET_SEALS);
	struct stat st;

	if (seals < 0 || !(seals & F_SEAL_SHRINK) || seals & F_SEAL_WRITE || fstat(fd, &st) || st.st_size < 0 ||
	    !window_is_size((uint64_t)st.st_size) || (fcntl(fd, F_GETFL) & O_ACCMODE) != O_RDWR)
		return -EINVAL;
	if (fcntl(fd, F_SETFD, FD_CLOEXEC))
		return -errno;
	*window = (struct window){ .fd = fd, .size = (uint64_t)st.st_size };
	return 0;
}

int window_map(struct window *window)
{
	void *map;

	if (window->fd < 0)
		return 0;
	map = mmap(NULL, window->size, PROT_READ | PROT_WRITE, MAP_SHARED, window->fd, 0);
	if (map == MAP_FAILED)
		return -errno;
	window->map = map;
	return 0;
}

void window_close(struct window *window)
{
	if (window->map)
		munmap(window->map, window->size);
	window->map = NULL;
	fd_close(&window->fd);
}

void window_read(const struct window *window, uint64_t off, void *buf, size_t len)
{
	memcpy(buf, window->map + off, len);
}

void window_write(const struct window *window, uint64_t off, const void *buf, size_t len)
{
	memcpy(window->map + off, buf, len);
}
