/* SPDX-License-Identifier: BSD-2-Clause */
/* The device's side of direct queue pairs. How it all fits together: ring_direct.c, vmci-device/loan.c. */
#include "fabric/direct.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/fd.h"

#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x0010
#endif

/* shared_memory() - a memfd of @size bytes, mapped; further @seals once it is */
static int shared_memory(const char *name, size_t size, int seals, uint8_t **ret_map, int *ret_fd)
{
	int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
	void *map;
	int error;

	if (fd < 0)
		return -errno;
	if (ftruncate(fd, (off_t)size)) {
		error = -errno;
		fd_close(&fd);
		return error;
	}
	map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED || fcntl(fd, F_ADD_SEALS, seals | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)) {
		error = -errno;
		if (map != MAP_FAILED)
			munmap(map, size);
		fd_close(&fd);
		return error;
	}
	*ret_map = map;
	*ret_fd = fd;
	return 0;
}

static void put_run(uint8_t *to, const struct direct_run *run)
{
	put_le32(to, run->file);
	put_le32(to + 4, run->pages);
	put_le64(to + 8, run->offset);
}

int direct_sheet_new(int32_t code, uint64_t in, uint64_t out, const struct direct_run *runs, unsigned n_runs,
		     unsigned n_files, struct direct_sheet *ret_sheet, int *ret_fd)
{
	struct direct_sheet sheet;
	int error;

	if (code < 0)
		n_runs = n_files = 0;
	sheet.size = DIRECT_PAGE + (size_t)n_runs * DIRECT_RUN;
	error = shared_memory("vmci-direct-sheet", sheet.size, F_SEAL_FUTURE_WRITE, &sheet.map, ret_fd);
	if (error)
		return error;
	put_le32(sheet.map, DIRECT_MAGIC);
	put_le32(sheet.map + DIRECT_CODE, (uint32_t)(code < 0 ? code : 0));
	put_le32(sheet.map + DIRECT_FILES, n_files);
	put_le64(sheet.map + DIRECT_IN, in);
	put_le64(sheet.map + DIRECT_OUT, out);
	put_le32(sheet.map + DIRECT_RUNS, n_runs);
	for (unsigned i = 0; i < n_runs; i++)
		put_run(sheet.map + DIRECT_PAGE + i * DIRECT_RUN, &runs[i]);
	*ret_sheet = sheet;
	return 0;
}

/* Only we can write there, so it says what we wrote. */
bool direct_sheet_is(const struct direct_sheet *sheet, const struct direct_run *runs, unsigned n_runs)
{
	uint8_t run[DIRECT_RUN];

	if (sheet->size != DIRECT_PAGE + (size_t)n_runs * DIRECT_RUN)
		return false;
	for (unsigned i = 0; i < n_runs; i++) {
		put_run(run, &runs[i]);
		if (memcmp(sheet->map + DIRECT_PAGE + i * DIRECT_RUN, run, DIRECT_RUN))
			return false;
	}
	return true;
}

void direct_sheet_end(struct direct_sheet *sheet)
{
	atomic_store((_Atomic uint32_t *)(void *)(sheet->map + DIRECT_GONE), 1);
}

void direct_sheet_done(struct direct_sheet *sheet)
{
	if (sheet->map)
		munmap(sheet->map, sheet->size);
	*sheet = (struct direct_sheet){ 0 };
}

int direct_send(int life, const int *fds, unsigned n)
{
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE((1 + DIRECT_FILES_MAX) * sizeof(int))];
	} control = { 0 };
	char byte = 0;
	struct iovec iov = { .iov_base = &byte, .iov_len = 1 };
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.buf,
		.msg_controllen = CMSG_SPACE(n * sizeof(int)),
	};
	ssize_t sent;

	control.align.cmsg_level = SOL_SOCKET;
	control.align.cmsg_type = SCM_RIGHTS;
	control.align.cmsg_len = CMSG_LEN(n * sizeof(int));
	memcpy(CMSG_DATA(&control.align), fds, n * sizeof(int));
	do
		sent = sendmsg(life, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
	while (sent < 0 && errno == EINTR);
	return sent < 0 ? -errno : 0;
}

size_t direct_snapshot_size(uint64_t in)
{
	return DIRECT_PAGE + (size_t)((in + DIRECT_PAGE - 1) / DIRECT_PAGE * DIRECT_PAGE);
}

int direct_snapshot_new(uint64_t in, uint8_t **ret_map, int *ret_fd)
{
	return shared_memory("vmci-direct-last-words", direct_snapshot_size(in), 0, ret_map, ret_fd);
}
