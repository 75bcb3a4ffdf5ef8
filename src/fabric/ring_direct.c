// SPDX-License-Identifier: BSD-2-Clause
/*
 * DOC: Theory of operation
 *
 * A direct pair is one whose memory is the guest's own pages, mapped by a trusted program. The guest does what it does with
 * any queue pair, and knows nothing of this. Its device copies nothing: it lends the pages, looks at the guest's indices
 * while the program sleeps, and takes the pages back (vmci-device/loan.c).
 *
 * Beginning. A direct pair begins like any other one: memory (a memfd), life, hello. Then the device sends a sheet over the
 * life (fabric/direct.h), whoever of the two has made the pair, and the pages are mapped *over* the memory, at the same
 * addresses, while two threads may be using the view. This works because nothing goes before: nobody writes into the memfd,
 * and it says that the guest's head is 1, so the ring that we write is full; and because of the order: first all data,
 * then our header page, then the guest's, which alone can say that there is anything to read, or room. The guest's
 * head is 0 then, which our own check takes for size - 1 bytes read.
 *
 * While it lasts. All that ring.c does with a peer's indices holds: they are loaded once, checked, and kept. A
 * guest does not know of want words, and neither reads ours nor has any. So who is about to sleep writes its own, and a
 * byte to the device, which reads them and both indices in the guest's memory, and answers with a byte when there is what
 * was waited for. A guest that overwrites our header page changes nothing for us but when we are woken.
 *
 * The end. The guest's driver gets its pages back the moment it asks for them: its CPU waits in a register write, and
 * is not to wait for us as well. So the device, before it lets the guest go on,
 *
 *	1. writes *gone* into the sheet, 2. copies what the guest wrote last and we have not read, 3. sends this (the
 *	snapshot) over the life, and ends it.
 *
 * And here, *gone* is looked at before each write of up to 64 KiB, and after each read and each look at an index:
 *
 *	what was read is good if *gone* was not set afterwards (else it is thrown away, and comes again out of the snapshot);
 *	what is written can go into a page that is not the queue's any more, if the guest leaves between the look and the
 *	end of this piece. There is no help for that without making the guest wait, and it is why only trusted programs may
 *	do it, with guests that do not take a pair away while it is being written to (SECURITY.md).
 *
 * When the snapshot is heard it is mapped over the pages, again at the same addresses, and then it is a pair whose peer
 * has left: what is there can be read. If there is none (the device died, or the VMM took the memory away), anonymous memory
 * takes its place, and nothing can be read: what was in the pages may have been somebody else's.
 *
 *	AWAITED  ->  MAPPED  ->  ENDED
 *	   |            |
 *	   +------------+---->   LOST
 *
 * The phase is changed by the thread that hears (one at a time), and always such that the others cannot take one memory for
 * the other: LOST before the pages go, MAPPED and ENDED after they have come; between them is *gone*.
 *
 * SIGBUS. A file of guest memory is mapped only if it is sealed against shrinking and no hugetlbfs: so a page
 * that is touched is there. The device refuses others, too; here nobody relies on it.
 *
 * Mappings. A guest's pages lie where its allocator put them, in the worst case each needs a mapping of its own, and
 * where the ring is mapped twice, two. The kernel gives a process 65530 (vm.max_map_count), and malloc(3) and others
 * need some. So there is a bound for a pair and one for the process (limits.h).
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/checked.h"
#include "fabric/direct.h"
#include "proto/limits.h"
#include "ring_priv.h"

_Static_assert(DIRECT_PAGE == RING_PAGE, "the same pages");

static _Atomic unsigned all_mappings;

/**
 * struct lent - what a sheet says, read once and checked
 * @files: descriptors, borrowed
 */
struct lent {
	struct direct_run *runs;
	unsigned n_runs;
	const int *files;
	unsigned n_files;
};

int ring_await_pages(struct ring *ring)
{
	struct ring_direct *direct = calloc(1, sizeof(*direct));

	if (!direct)
		return -ENOMEM;
	atomic_init(&direct->phase, RING_PAGES_AWAITED);
	if (ring->out.size > 1) {
		ring->out.peer = 1;
		atomic_store_explicit(ring->out.peer_index, htole64(1), memory_order_relaxed);
	}
	ring->out.peer_want = ring->in.peer_want = &direct->nobody;
	if (ring->life >= 0)
		closer_permit(ring->life);
	ring->is_refusing = false;
	ring->direct = direct;
	return 0;
}

int ring_pages(const struct ring *ring)
{
	switch (ring->direct ? ring_phase(ring) : RING_PAGES_NONE) {
	case RING_PAGES_NONE:
	case RING_PAGES_AWAITED:
		return 0;
	case RING_PAGES_LOST:
		return ring->direct->code;
	default:
		return 1;
	}
}

static void set_phase(struct ring *ring, enum ring_phase phase)
{
	atomic_store(&ring->direct->phase, phase);
}

static void refund(struct ring_direct *direct)
{
	atomic_fetch_sub(&all_mappings, direct->mappings);
	direct->mappings = 0;
}

void ring_direct_free(struct ring *ring)
{
	struct ring_direct *direct = ring->direct;

	if (!direct)
		return;
	if (direct->sheet)
		munmap(direct->sheet, DIRECT_PAGE);
	refund(direct);
	free(direct);
	ring->direct = NULL;
}

static bool map_at(uint8_t *at, uint64_t size, int flags, int fd, uint64_t offset)
{
	return !size || mmap(at, size, PROT_READ | PROT_WRITE, MAP_FIXED | MAP_NORESERVE | flags, fd, (off_t)offset) !=
			MAP_FAILED;
}

void ring_direct_lost(struct ring *ring, int32_t code)
{
	struct ring_direct *direct = ring->direct;
	enum ring_phase phase = ring_phase(ring);

	if (phase == RING_PAGES_ENDED || phase == RING_PAGES_LOST)
		return;
	direct->code = code < 0 ? code : VMCI_ERROR_UNAVAILABLE;
	set_phase(ring, RING_PAGES_LOST);
	/* If that fails nobody touches what is there: see the phase. */
	if (map_at(ring->map, ring->map_size, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0))
		refund(direct);
}

/* --- The sheet ---------------------------------------------------------------------------------------------------- */

/* size_of_file() - is it memory that is there when it is touched? Return: its size, or -1 */
static int64_t size_of_file(int fd)
{
	int seals = fcntl(fd, F_GET_SEALS);
	struct statfs fs;
	struct stat st;

	if (seals < 0 || !(seals & F_SEAL_SHRINK) || fstat(fd, &st) || fstatfs(fd, &fs) || fs.f_type != TMPFS_MAGIC)
		return -1;
	return st.st_size;
}

static bool read_all(int fd, uint8_t *buf, size_t size, size_t offset)
{
	ssize_t n = 0;

	for (; size; buf += n, offset += (size_t)n, size -= (size_t)n) {
		n = pread(fd, buf, size, (off_t)offset);
		if (n <= 0)
			return false;
	}
	return true;
}

/* is_sound() - are the runs inside of their files, and just as many pages as there must be? */
static bool is_sound(const struct ring *ring, const struct lent *p_lent)
{
	uint64_t pages = ring_memory_size(ring->out.size, ring->in.size) / DIRECT_PAGE;
	int64_t size[DIRECT_FILES_MAX];

	for (unsigned i = 0; i < p_lent->n_files; i++) {
		size[i] = size_of_file(p_lent->files[i]);
		if (size[i] < 0)
			return false;
	}
	for (unsigned i = 0; i < p_lent->n_runs; i++) {
		const struct direct_run *p_run = &p_lent->runs[i];

		if (p_run->file >= p_lent->n_files || !p_run->pages || p_run->pages > pages ||
		    p_run->offset % DIRECT_PAGE ||
		    !range_fits(p_run->offset, (uint64_t)p_run->pages * DIRECT_PAGE, (uint64_t)size[p_run->file]))
			return false;
		pages -= p_run->pages;
	}
	return !pages;
}

/**
 * read_sheet() - read it, once
 * @fds: the sheet, and files
 *
 * Return: 0, and @ret_lent->runs to be freed; VMCI_ERROR_*: there are no pages; 1: it is not of the protocol
 */
static int32_t read_sheet(const struct ring *ring, const int *fds, unsigned n, struct lent *ret_lent)
{
	struct lent lent = { .files = fds + 1, .n_files = n - 1 };
	uint8_t head[DIRECT_HEADER], *runs;
	struct stat st;

	if (fstat(fds[0], &st) || st.st_size < (off_t)DIRECT_PAGE ||
	    st.st_size > (off_t)(DIRECT_PAGE + LIMIT_DIRECT_RUNS * DIRECT_RUN) ||
	    ring_check_memory(fds[0], (uint64_t)st.st_size) || !read_all(fds[0], head, sizeof(head), 0) ||
	    get_le32(head) != DIRECT_MAGIC || get_le32(head + DIRECT_FILES) != lent.n_files)
		return 1;
	if (get_le32(head + DIRECT_CODE))
		return (int32_t)get_le32(head + DIRECT_CODE) < 0 ? (int32_t)get_le32(head + DIRECT_CODE) : 1;
	lent.n_runs = get_le32(head + DIRECT_RUNS);
	if (!lent.n_files || get_le64(head + DIRECT_IN) != ring->in.size || get_le64(head + DIRECT_OUT) != ring->out.size ||
	    lent.n_runs > LIMIT_DIRECT_RUNS || st.st_size != (off_t)(DIRECT_PAGE + lent.n_runs * DIRECT_RUN))
		return 1;
	runs = malloc(lent.n_runs * (size_t)DIRECT_RUN + 1);
	lent.runs = calloc(lent.n_runs + 1, sizeof(*lent.runs));
	if (!runs || !lent.runs) {
		free(runs);
		free(lent.runs);
		return VMCI_ERROR_NO_MEM;
	}
	if (!read_all(fds[0], runs, lent.n_runs * (size_t)DIRECT_RUN, DIRECT_PAGE))
		lent.n_runs = 0;
	for (unsigned i = 0; i < lent.n_runs; i++)
		lent.runs[i] = (struct direct_run){
			.file = get_le32(runs + i * DIRECT_RUN),
			.pages = get_le32(runs + i * DIRECT_RUN + 4),
			.offset = get_le64(runs + i * DIRECT_RUN + 8),
		};
	free(runs);
	if (!is_sound(ring, &lent)) {
		free(lent.runs);
		return 1;
	}
	*ret_lent = lent;
	return 0;
}

/* --- Mapping ------------------------------------------------------------------------------------------------------ */

/* map_pages() - map @n pages of the order of the queue, from the page @first on, at @at */
static bool map_pages(const struct lent *lent, uint64_t first, uint64_t n, uint8_t *at)
{
	const struct direct_run *run = lent->runs;

	for (; first >= run->pages && n; run++)
		first -= run->pages;
	for (; n; run++, first = 0) {
		uint64_t pages = run->pages - first < n ? run->pages - first : n;

		if (!map_at(at, pages * DIRECT_PAGE, MAP_SHARED, lent->files[run->file], run->offset + first * DIRECT_PAGE))
			return false;
		at += pages * DIRECT_PAGE;
		n -= pages;
	}
	return true;
}

/* map_data() - the data of @way, whose first page is @first */
static bool map_data(const struct lent *lent, const struct ring_way *way, uint64_t first)
{
	uint64_t n = ring_pages_of(way->size) / RING_PAGE;

	return map_pages(lent, first, n, way->data) && (!way->twice || map_pages(lent, first, n, way->data + way->size));
}

static bool map_all(struct ring *ring, const struct lent *lent, int sheet)
{
	uint64_t out = 1 + ring_pages_of(ring->in.size) / RING_PAGE;
	struct ring_direct *direct = ring->direct;
	void *page;

	direct->mappings = 2 * lent->n_runs + 4;
	if (atomic_fetch_add(&all_mappings, direct->mappings) > LIMIT_DIRECT_MAPPINGS - direct->mappings)
		return false;
	page = mmap(NULL, DIRECT_PAGE, PROT_READ, MAP_SHARED, sheet, 0);
	if (page == MAP_FAILED)
		return false;
	direct->sheet = page;
	direct->gone = (const _Atomic uint32_t *)(const void *)(direct->sheet + DIRECT_GONE);
	/* Data, our header page, the guest's: see above. */
	if (!map_data(lent, &ring->in, 1) || !map_data(lent, &ring->out, out + 1) ||
	    !map_pages(lent, out, 1, ring->out.data - RING_PAGE))
		return false;
	set_phase(ring, RING_PAGES_MAPPED);
	if (!map_pages(lent, 0, 1, ring->in.data - RING_PAGE))
		return false;
	/* A child has no business there, nor has a core dump. */
	madvise(ring->map, ring->map_size, MADV_DONTFORK);
	madvise(ring->map, ring->map_size, MADV_DONTDUMP);
	return true;
}

/* take_sheet() - the pages have come, or do not. Return: 0; VMCI_ERROR_*: there are none */
static int32_t take_sheet(struct ring *ring, const int *fds, unsigned n)
{
	struct lent lent;
	int32_t code = n <= 1 + DIRECT_FILES_MAX ? read_sheet(ring, fds, n, &lent) : 1;

	if (code)
		return code < 0 ? code : VMCI_ERROR_INVALID_ARGS;
	if (!map_all(ring, &lent, fds[0]))
		code = VMCI_ERROR_NO_RESOURCES;
	free(lent.runs);
	if (!code)
		atomic_store_explicit(&ring->state, RING_ATTACHED, memory_order_release);
	return code;
}

/* take_snapshot() - the guest has left: what it wrote last has come. Return: is it mapped? */
static bool take_snapshot(struct ring *ring, const int *fds, unsigned n)
{
	struct ring_way *in = &ring->in;
	uint64_t room = ring_pages_of(in->size);

	if (n != 1 || ring_check_memory(fds[0], direct_snapshot_size(in->size)) ||
	    !map_at(ring->out.data - RING_PAGE, ring_room_of(ring->out.size), MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) ||
	    !map_at(in->data, room, MAP_SHARED, fds[0], RING_PAGE) ||
	    (in->twice && !map_at(in->data + room, room, MAP_SHARED, fds[0], RING_PAGE)) ||
	    !map_at(in->data - RING_PAGE, RING_PAGE, MAP_SHARED, fds[0], 0))
		return false;
	set_phase(ring, RING_PAGES_ENDED);
	refund(ring->direct);
	return true;
}

/* --- Receiving ---------------------------------------------------------------------------------------------------- */

ssize_t ring_direct_recv(struct ring *ring, struct msghdr *msg, int flags, int *fds, unsigned *ret_n)
{
	union {
		struct cmsghdr align;
		/* All that can come: what there is no room for is closed by the kernel, and we would wait. */
		char buf[CMSG_SPACE(CLOSER_FDS_MAX * sizeof(int)) + CMSG_SPACE(sizeof(struct ucred))];
	} control;
	unsigned n_fds = 0;
	ssize_t n;

	msg->msg_control = control.buf;
	msg->msg_controllen = sizeof(control);
	n = recvmsg(ring->life, msg, flags | MSG_CMSG_CLOEXEC);
	for (struct cmsghdr *cmsg = n < 0 ? NULL : CMSG_FIRSTHDR(msg); cmsg; cmsg = CMSG_NXTHDR(msg, cmsg)) {
		size_t bytes = cmsg->cmsg_len - CMSG_LEN(0);

		if (cmsg->cmsg_level != SOL_SOCKET || cmsg->cmsg_type != SCM_RIGHTS || bytes > CLOSER_FDS_MAX * sizeof(int))
			continue;
		memcpy(fds, CMSG_DATA(cmsg), bytes);
		n_fds = (unsigned)(bytes / sizeof(int));
	}
	msg->msg_control = NULL;
	msg->msg_controllen = 0;
	*ret_n = n_fds;
	return n;
}

bool ring_direct_take(struct ring *ring, int *fds, unsigned n)
{
	enum ring_phase phase = ring_phase(ring);
	int32_t code = VMCI_ERROR_INVALID_ARGS;
	bool good = true;

	if (phase == RING_PAGES_AWAITED)
		code = take_sheet(ring, fds, n);
	else if (phase == RING_PAGES_MAPPED)
		good = take_snapshot(ring, fds, n);
	else
		good = false;
	closer_close_all(fds, n);
	if (phase == RING_PAGES_AWAITED && code)
		good = false;
	if (!good)
		ring_direct_lost(ring, code);
	return good;
}
