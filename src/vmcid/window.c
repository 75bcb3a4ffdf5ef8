/* SPDX-License-Identifier: BSD-2-Clause */
#include "window.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"
#include "thing.h"

/* Sealed: neither we nor a VM can take it away from those who map it. */
static int make_memory(uint64_t bytes)
{
	int fd = memfd_create("vmci-window", MFD_CLOEXEC | MFD_ALLOW_SEALING), r;

	if (fd < 0)
		return -errno;
	if (ftruncate(fd, (off_t)bytes) || fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)) {
		r = -errno;
		fd_close(&fd);
		return r;
	}
	return fd;
}

int window_open(struct server *server, const char *key, uint64_t bytes, struct brk_window **ret_window)
{
	struct brk_window *window = brk_window_find(server->brk, key);
	struct thing *thing;
	struct user *user;
	const char *odd;
	int32_t code;
	int fd;

	if (window) {
		*ret_window = brk_window_ref(window);
		return 0;
	}
	fd = make_memory(bytes);
	if (fd < 0)
		return fd;
	user = user_ref(server->users, geteuid(), true);
	code = user ? thing_new(server->event, THING_MEMORY, &fd, geteuid(), user, bytes, &thing, &odd) :
		VMCI_ERROR_NO_MEM;
	if (user)
		user_unref(user);
	if (code < 0) {
		fd_close(&fd);
		return -ENOMEM;
	}
	code = brk_window_new(server->brk, key, bytes, thing, &window);
	if (code < 0) {
		thing_free(thing);
		return code == VMCI_ERROR_INVALID_ARGS ? -EINVAL : -ENOMEM;
	}
	log_info("window %s: %llu bytes", key, (unsigned long long)bytes);
	*ret_window = window;
	return 0;
}
