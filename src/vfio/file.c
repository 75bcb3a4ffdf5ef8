/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * DOC: Theory of operation
 *
 * One mapping per file. A VMM maps and unmaps low memory dozens of times while it boots, each time with
 * another descriptor of the same file (reference, 6.1). So a file is mapped once, from its start to the
 * highest offset that is needed, and maps and unmaps of ranges become changes of a table. The mapping grows
 * by mapping the file anew and dropping the old mapping (mremap(2) cannot grow hugetlb mappings); it shrinks
 * in place.
 *
 * SIGBUS. A file that its owner truncates keeps its mapping, but a touch beyond the new end raises SIGBUS.
 * The handler looks the address up in the list of all files. If it lies in one of them, one page of zeroes is
 * mapped over it, the table that owns the file is marked lost and gets a new generation, and the instruction
 * runs again. Any other SIGBUS has its default effect.
 *
 *	The signal is raised by our own access to guest memory, so the handler runs at a known place of the
 *	only thread; the list is never being changed at that moment, because nothing touches guest memory
 *	while it is. What the handler uses: the list, mmap(2), atomics, signal(2), raise(3).
 *
 *	A replaced page hides the file's own page, if it should come back. That does not matter: a lost table
 *	answers -EFAULT to everything until its session ends, and the mapping goes with it.
 */
#include "vfio/file.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/fd.h"

static struct vus_file *all_files;
static bool handler_installed;

/**
 * on_sigbus() - a touch of mapped memory failed
 */
static void on_sigbus(int sig, siginfo_t *info, void *context)
{
	uintptr_t addr = (uintptr_t)info->si_addr;
	struct vus_file *file;
	int saved = errno;
	void *page;

	(void)context;
	/* Only what the kernel raised for an access has an address; kill(2) has none. */
	for (file = info->si_code > 0 ? all_files : NULL; file; file = file->next_all)
		if (addr - (uintptr_t)file->base < file->len)
			break;
	if (file) {
		page = (void *)(addr & ~(uintptr_t)(file->page - 1));
		if (mmap(page, file->page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED,
			 -1, 0) != MAP_FAILED) {
			atomic_store(&file->epoch->lost, true);
			atomic_fetch_add(&file->epoch->generation, 1);
			errno = saved;
			return;
		}
	}
	signal(sig, SIG_DFL);
	raise(sig);
	errno = saved;
}

int vus_file_init(void)
{
	struct sigaction action = { .sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO };

	if (handler_installed)
		return 0;
	sigemptyset(&action.sa_mask);
	if (sigaction(SIGBUS, &action, NULL) < 0)
		return -errno;
	handler_installed = true;
	return 0;
}

/**
 * map_file() - map [0, @end) of @fd, rounded up to its pages
 */
static int map_file(int fd, uint64_t end, int prot, size_t page, uint8_t **ret_base, size_t *ret_len)
{
	struct stat st;
	size_t len;
	void *base;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (end > (uint64_t)st.st_size || end > SIZE_MAX / 2)
		return -EINVAL;
	len = ((size_t)end + page - 1) & ~(page - 1);
	base = mmap(NULL, len, prot, MAP_SHARED | MAP_NORESERVE, fd, 0);
	if (base == MAP_FAILED)
		return -errno;
	/* A core dump of ours is no place for a guest's memory. */
	madvise(base, len, MADV_DONTDUMP);
	*ret_base = base;
	*ret_len = len;
	return 0;
}

int vus_file_new(struct vus_epoch *epoch, int fd, uint64_t end, int prot, struct vus_file **ret_file)
{
	struct vus_file *file;
	struct statfs fs;
	struct stat st;
	int r;

	if (fstat(fd, &st) < 0 || fstatfs(fd, &fs) < 0)
		return -errno;
	file = malloc(sizeof(*file));
	if (!file)
		return -ENOMEM;
	*file = (struct vus_file){
		.epoch = epoch,
		.dev = st.st_dev,
		.ino = st.st_ino,
		.fd = fd,
		.end = end,
		.prot = prot,
		.page = (size_t)sysconf(_SC_PAGESIZE),
	};
	if (fs.f_type == HUGETLBFS_MAGIC)
		file->page = (size_t)fs.f_bsize;
	r = map_file(fd, end, prot, file->page, &file->base, &file->len);
	if (r < 0) {
		free(file);
		return r;
	}
	file->next_all = all_files;
	all_files = file;
	*ret_file = file;
	return 0;
}

struct vus_file *vus_file_free(struct vus_file *file)
{
	struct vus_file **link = &all_files;

	if (!file)
		return NULL;
	while (*link != file)
		link = &(*link)->next_all;
	*link = file->next_all;
	munmap(file->base, file->len);
	fd_close(&file->fd);
	free(file);
	return NULL;
}

int vus_file_grow(struct vus_file *file, int fd, uint64_t end, int prot)
{
	int other = file->fd;
	uint8_t *base;
	size_t len;
	int r;

	prot |= file->prot;
	if (end <= file->end && prot == file->prot) {
		close(fd);
		return 0;
	}
	if (end < file->end)
		end = file->end;
	r = map_file(fd, end, prot, file->page, &base, &len);
	if (r == -EACCES || r == -EPERM) {
		/* The new descriptor has fewer rights than the one we keep. */
		other = fd;
		fd = file->fd;
		r = map_file(fd, end, prot, file->page, &base, &len);
	}
	if (r < 0)
		return r;
	munmap(file->base, file->len);
	close(other);
	file->fd = fd;
	file->base = base;
	file->len = len;
	file->end = end;
	file->prot = prot;
	atomic_fetch_add(&file->epoch->generation, 1);
	return 0;
}

void vus_file_shrink(struct vus_file *file, uint64_t end)
{
	size_t len = ((size_t)end + file->page - 1) & ~(file->page - 1);

	file->end = end;
	/* If that fails, the tail stays mapped and unused. */
	if (len < file->len && !munmap(file->base + len, file->len - len))
		file->len = len;
}
