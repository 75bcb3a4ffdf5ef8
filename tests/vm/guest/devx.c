/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * devx - what programs should not do with /dev/vmci of our vmci.ko, for tests in guests
 *
 *	wrong		arguments that are wrong, one by one
 *	quota		as many of everything as there may be, and one more
 *	race N		N rounds of everything at once on one file: closing, mapping, destroying, by several threads
 *	noise N SEED	N calls whose arguments are whatever comes
 *	hold RESOURCE	have something of everything (a region only where there is a window), say "ready", wait for a
 *			line; then: is the file dead, as it is when the device has gone?
 *	bells N		has N bells until it is killed; says "holding" when it has
 *	local CID	a queue pair with both ends in this guest, in two processes, and the death of one
 *	inbox		is /dev/vmci somebody else's?
 *
 * Each fault is a line; status 1 then.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <vmci/defs.h>

#include "uapi/vmci_dev.h"

#define ANY VMCI_INVALID_ID
#define PAGE 4096u

/* Longer than anything takes that happens at all. */
#define PATIENCE_MS 120000

static int faults;

static void fault(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static void fault(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	putchar('\n');
	fflush(stdout);
	faults++;
}

static int dev(void)
{
	int fd = open(VMCI_DEV_PATH, O_RDWR | O_CLOEXEC);

	if (fd < 0) {
		perror(VMCI_DEV_PATH);
		exit(1);
	}
	return fd;
}

static struct vmci_dev_version limits(void)
{
	struct vmci_dev_version v;
	int fd = dev();

	if (ioctl(fd, VMCI_DEV_VERSION, &v) || v.magic != VMCI_DEV_MAGIC || v.version != VMCI_DEV_VERSION_1)
		fault("VERSION");
	close(fd);
	return v;
}

/* Must fail with @want. */
static void fails(int fd, unsigned long call, void *arg, int want, const char *what)
{
	int r = ioctl(fd, call, arg), got = r ? errno : 0;

	if (got != want)
		fault("%s: %s instead of %s", what, strerror(got), strerror(want));
}

/* Must succeed. */
static void works(int fd, unsigned long call, void *arg, const char *what)
{
	fails(fd, call, arg, 0, what);
}

#define FAILS(fd, call, want, type, ...) \
	do { type arg_ = { __VA_ARGS__ }; fails(fd, call, &arg_, want, #call " " #__VA_ARGS__); } while (0)

static struct vmci_dev_endpoint endpoint(int fd)
{
	struct vmci_dev_endpoint e = { .handle = { ANY, ANY } };

	works(fd, VMCI_DEV_DATAGRAM_CREATE, &e, "endpoint");
	return e;
}

static int bell(int fd, struct vmci_dev_bell *b)
{
	*b = (struct vmci_dev_bell){ .handle = { ANY, ANY }, .fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC) };
	if (ioctl(fd, VMCI_DEV_BELL_CREATE, b)) {
		close(b->fd);
		return -errno;
	}
	return 0;
}

/* Both ends in this guest, so that no peer is needed. */
static int local_pair(int fd, uint64_t size, struct vmci_dev_qpair *q)
{
	*q = (struct vmci_dev_qpair){
		.handle = { ANY, ANY }, .produce = size, .consume = size, .peer = ANY, .flags = VMCI_QP_LOCAL,
		.wake = -1,
	};
	return ioctl(fd, VMCI_DEV_QPAIR_CREATE, q) ? -errno : q->result < 0 ? q->result : 0;
}

/* --- wrong ------------------------------------------------------------------------------------------------------ */

static void wrong_numbers(int fd)
{
	char room[256] = { 0 };

	fails(fd, 0, room, ENOTTY, "call 0");
	fails(fd, 1951, room, ENOTTY, "the in-box version call");
	fails(fd, _IOWR(VMCI_DEV_TYPE, VMCI_DEV_CALLS, struct vmci_dev_bell), room, ENOTTY, "a number too large");
	fails(fd, _IOWR(VMCI_DEV_TYPE, 255, struct vmci_dev_bell), room, ENOTTY, "number 255");
	fails(fd, _IOWR(VMCI_DEV_TYPE, 3, char[8]), room, ENOTTY, "a size too small");
	fails(fd, _IOWR(VMCI_DEV_TYPE, 3, char[16000]), room, ENOTTY, "a size too large");
	fails(fd, _IO(VMCI_DEV_TYPE, 3), room, ENOTTY, "no size");
	fails(fd, _IOR(VMCI_DEV_TYPE, 3, struct vmci_dev_send), room, ENOTTY, "the wrong direction");
}

static void wrong_pointers(int fd)
{
	static const unsigned long calls[] = {
		VMCI_DEV_VERSION, VMCI_DEV_DATAGRAM_CREATE, VMCI_DEV_DATAGRAM_DESTROY, VMCI_DEV_DATAGRAM_SEND,
		VMCI_DEV_DATAGRAM_RECEIVE, VMCI_DEV_QPAIR_CREATE, VMCI_DEV_QPAIR_STATE, VMCI_DEV_QPAIR_DESTROY,
		VMCI_DEV_BELL_CREATE, VMCI_DEV_BELL_DESTROY, VMCI_DEV_BELL_RING, VMCI_DEV_EVENT_SUBSCRIBE,
		VMCI_DEV_SHM_CREATE, VMCI_DEV_SHM_ATTACH, VMCI_DEV_SHM_QUERY, VMCI_DEV_SHM_DETACH,
	};
	char *page = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct vmci_dev_endpoint e = endpoint(fd);
	struct vmci_dev_send send = { .dst = e.handle, .src = e.handle, .payload = 1, .size = 8 };
	struct vmci_dev_receive receive = { .size = VMCI_DG_MAX_PAYLOAD };
	char byte;

	mprotect(page + PAGE, PAGE, PROT_NONE);
	for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
		fails(fd, calls[i], NULL, EFAULT, "a null pointer");
		fails(fd, calls[i], (void *)~0ul, EFAULT, "a pointer to nothing");
		fails(fd, calls[i], (void *)0xffffffff80000000ul, EFAULT, "a pointer into the kernel");
		fails(fd, calls[i], page + PAGE - 4, EFAULT, "the end of a page");
	}
	fails(fd, VMCI_DEV_DATAGRAM_SEND, &send, EFAULT, "payload nowhere");
	send.payload = 0xffffffff80000000ul;
	fails(fd, VMCI_DEV_DATAGRAM_SEND, &send, EFAULT, "payload in the kernel");
	send.payload = (uintptr_t)page + PAGE - 4;
	fails(fd, VMCI_DEV_DATAGRAM_SEND, &send, EFAULT, "payload half there");
	send.payload = (uintptr_t)page;
	works(fd, VMCI_DEV_DATAGRAM_SEND, &send, "payload");
	if (send.result < 0)
		fault("to ourselves: %d", send.result);
	poll(&(struct pollfd){ .fd = fd, .events = POLLIN }, 1, PATIENCE_MS);
	receive.payload = 0xffffffff80000000ul;
	fails(fd, VMCI_DEV_DATAGRAM_RECEIVE, &receive, EFAULT, "receive into the kernel");
	receive.size = 7;
	receive.payload = (uintptr_t)page;
	fails(fd, VMCI_DEV_DATAGRAM_RECEIVE, &receive, EMSGSIZE, "too little room");
	receive.size = VMCI_DG_MAX_PAYLOAD;
	receive.flags = VMCI_DEV_PEEK;
	works(fd, VMCI_DEV_DATAGRAM_RECEIVE, &receive, "peek");
	receive.size = 8;
	receive.flags = 0;
	works(fd, VMCI_DEV_DATAGRAM_RECEIVE, &receive, "it is still there");
	receive.size = 8;
	fails(fd, VMCI_DEV_DATAGRAM_RECEIVE, &receive, EAGAIN, "it has been taken");
	if (read(fd, &byte, 1) != -1 || write(fd, &byte, 1) != -1)
		fault("read or write");
	works(fd, VMCI_DEV_DATAGRAM_DESTROY, &e, "destroy");
	fails(fd, VMCI_DEV_DATAGRAM_DESTROY, &e, ENOENT, "destroy twice");
	fails(fd, VMCI_DEV_DATAGRAM_SEND, &send, ENOENT, "send from what was destroyed");
	munmap(page, 2 * PAGE);
}

static void wrong_datagrams(int fd)
{
	struct vmci_dev_endpoint e = endpoint(fd), same = { .handle = { ANY, e.handle.resource } };
	struct vmci_dev_handle own = e.handle;
	int other = dev();

	fails(fd, VMCI_DEV_DATAGRAM_CREATE, &same, EADDRINUSE, "the same id");
	fails(other, VMCI_DEV_DATAGRAM_CREATE, &same, EADDRINUSE, "the same id in another file");
	fails(other, VMCI_DEV_DATAGRAM_DESTROY, &e, ENOENT, "somebody else's");
	FAILS(fd, VMCI_DEV_DATAGRAM_CREATE, EINVAL, struct vmci_dev_endpoint, .handle = { ANY, 0 });
	FAILS(fd, VMCI_DEV_DATAGRAM_CREATE, EINVAL, struct vmci_dev_endpoint, .handle = { ANY, 1 });
	FAILS(fd, VMCI_DEV_DATAGRAM_CREATE, EINVAL, struct vmci_dev_endpoint, .handle = { ANY, ANY }, .flags = 1);
	FAILS(fd, VMCI_DEV_DATAGRAM_CREATE, EINVAL, struct vmci_dev_endpoint, .handle = { ANY, ANY }, .reserved = 1);
	FAILS(fd, VMCI_DEV_DATAGRAM_DESTROY, EINVAL, struct vmci_dev_endpoint, .handle = own, .flags = 8);
	FAILS(fd, VMCI_DEV_DATAGRAM_SEND, EMSGSIZE, struct vmci_dev_send, .dst = { 2, 5 }, .src = own,
	      .size = VMCI_DG_MAX_PAYLOAD + 1);
	FAILS(fd, VMCI_DEV_DATAGRAM_SEND, EMSGSIZE, struct vmci_dev_send, .dst = { 2, 5 }, .src = own, .size = ~0u);
	FAILS(fd, VMCI_DEV_DATAGRAM_SEND, EINVAL, struct vmci_dev_send, .dst = { 2, 5 }, .src = own, .flags = 1);
	FAILS(fd, VMCI_DEV_DATAGRAM_SEND, EINVAL, struct vmci_dev_send, .dst = { 2, 5 }, .src = own, .reserved = 1);
	/* Hypercalls, and what belongs to drivers. */
	for (uint32_t i = 0; i < 20; i++)
		FAILS(fd, VMCI_DEV_DATAGRAM_SEND, EACCES, struct vmci_dev_send, .dst = { 0, i }, .src = own);
	FAILS(fd, VMCI_DEV_DATAGRAM_SEND, EACCES, struct vmci_dev_send, .dst = { 2, 1 }, .src = own);
	FAILS(fd, VMCI_DEV_DATAGRAM_SEND, EACCES, struct vmci_dev_send, .dst = { own.context, 0 }, .src = own);
	FAILS(fd, VMCI_DEV_DATAGRAM_SEND, EACCES, struct vmci_dev_send, .dst = { ANY, 5000 }, .src = own);
	/* From somebody else. */
	FAILS(fd, VMCI_DEV_DATAGRAM_SEND, ENOENT, struct vmci_dev_send, .dst = { 2, 5 }, .src = { own.context, 1 });
	FAILS(fd, VMCI_DEV_DATAGRAM_SEND, ENOENT, struct vmci_dev_send, .dst = { 2, 5 }, .src = { 2, own.resource });
	FAILS(fd, VMCI_DEV_DATAGRAM_SEND, ENOENT, struct vmci_dev_send, .dst = { 2, 5 }, .src = { 0, 0 });
	FAILS(other, VMCI_DEV_DATAGRAM_SEND, ENOENT, struct vmci_dev_send, .dst = { 2, 5 }, .src = own);
	FAILS(other, VMCI_DEV_DATAGRAM_SEND, ENOENT, struct vmci_dev_send, .dst = { 2, 5 }, .src = { ANY, ANY });
	FAILS(fd, VMCI_DEV_DATAGRAM_RECEIVE, EINVAL, struct vmci_dev_receive, .flags = 2);
	FAILS(fd, VMCI_DEV_DATAGRAM_RECEIVE, EAGAIN, struct vmci_dev_receive, .size = ~0u);
	close(other);
	works(fd, VMCI_DEV_DATAGRAM_DESTROY, &e, "destroy");
}

static void wrong_bells(int fd)
{
	struct vmci_dev_bell b;
	int pipes[2];

	if (bell(fd, &b))
		fault("bell");
	if (pipe(pipes))
		exit(1);
	FAILS(fd, VMCI_DEV_BELL_CREATE, EBADF, struct vmci_dev_bell, .handle = { ANY, ANY }, .fd = -1);
	FAILS(fd, VMCI_DEV_BELL_CREATE, EBADF, struct vmci_dev_bell, .handle = { ANY, ANY }, .fd = 999);
	FAILS(fd, VMCI_DEV_BELL_CREATE, EINVAL, struct vmci_dev_bell, .handle = { ANY, ANY }, .fd = pipes[0]);
	FAILS(fd, VMCI_DEV_BELL_CREATE, EINVAL, struct vmci_dev_bell, .handle = { ANY, ANY }, .fd = fd);
	FAILS(fd, VMCI_DEV_BELL_CREATE, EINVAL, struct vmci_dev_bell, .handle = { ANY, 1 }, .fd = b.fd);
	FAILS(fd, VMCI_DEV_BELL_CREATE, EADDRINUSE, struct vmci_dev_bell, .handle = { ANY, b.handle.resource },
	      .fd = b.fd);
	FAILS(fd, VMCI_DEV_BELL_CREATE, EINVAL, struct vmci_dev_bell, .handle = { ANY, ANY }, .fd = b.fd, .flags = 1);
	FAILS(fd, VMCI_DEV_BELL_DESTROY, ENOENT, struct vmci_dev_bell, .handle = { 2, b.handle.resource });
	FAILS(fd, VMCI_DEV_BELL_DESTROY, EINVAL, struct vmci_dev_bell, .handle = b.handle, .fd = 5);
	for (int i = 0; i < 5; i++) {
		struct vmci_dev_bell ring = { .handle = b.handle };
		eventfd_t count;

		works(fd, VMCI_DEV_BELL_RING, &ring, "ring");
		if (ring.result < 0)
			fault("our own bell: %d", ring.result);
		poll(&(struct pollfd){ .fd = b.fd, .events = POLLIN }, 1, PATIENCE_MS);
		if (eventfd_read(b.fd, &count) || count != 1)
			fault("not rung");
	}
	FAILS(fd, VMCI_DEV_BELL_DESTROY, 0, struct vmci_dev_bell, .handle = b.handle);
	FAILS(fd, VMCI_DEV_BELL_DESTROY, ENOENT, struct vmci_dev_bell, .handle = b.handle);
	b = (struct vmci_dev_bell){ .handle = b.handle };
	works(fd, VMCI_DEV_BELL_RING, &b, "ring what is not there");
	if (b.result >= 0)
		fault("a bell that was destroyed: %d", b.result);
	close(pipes[0]);
	close(pipes[1]);
}

static void wrong_events(int fd)
{
	FAILS(fd, VMCI_DEV_EVENT_SUBSCRIBE, EINVAL, struct vmci_dev_subscribe, .events = 1 << 5);
	FAILS(fd, VMCI_DEV_EVENT_SUBSCRIBE, EINVAL, struct vmci_dev_subscribe, .events = ~0u);
	FAILS(fd, VMCI_DEV_EVENT_SUBSCRIBE, EINVAL, struct vmci_dev_subscribe, .flags = 1);
	FAILS(fd, VMCI_DEV_EVENT_SUBSCRIBE, 0, struct vmci_dev_subscribe, .events = 0x1f);
	FAILS(fd, VMCI_DEV_EVENT_SUBSCRIBE, 0, struct vmci_dev_subscribe, .events = 0);
	FAILS(fd, VMCI_DEV_EVENT_READ, EAGAIN, struct vmci_dev_event, 0);
}

#define PAIR .handle = { ANY, ANY }, .peer = ANY, .wake = -1

static void *map_at(int fd, uint64_t offset, size_t size, int prot, int flags)
{
	return mmap(NULL, size, prot, flags, fd, (off_t)offset);
}

static void cannot_map(int fd, uint64_t offset, size_t size, int prot, int flags, const char *what)
{
	void *at = map_at(fd, offset, size, prot, flags);

	if (at != MAP_FAILED) {
		fault("mapped: %s", what);
		munmap(at, size);
	}
}

static void wrong_pairs(int fd)
{
	const uint64_t huge = 1ull << 40, slot = 1ull << 30;
	struct vmci_dev_qpair q, again;
	struct vmci_dev_qpair_state state;
	const int rw = PROT_READ | PROT_WRITE;
	int other = dev();
	uint8_t *at;

	FAILS(fd, VMCI_DEV_QPAIR_CREATE, EINVAL, struct vmci_dev_qpair, PAIR);
	FAILS(fd, VMCI_DEV_QPAIR_CREATE, ENOSPC, struct vmci_dev_qpair, PAIR, .produce = huge);
	FAILS(fd, VMCI_DEV_QPAIR_CREATE, ENOSPC, struct vmci_dev_qpair, PAIR, .produce = ~0ull, .consume = ~0ull);
	FAILS(fd, VMCI_DEV_QPAIR_CREATE, ENOSPC, struct vmci_dev_qpair, PAIR, .produce = 1, .consume = ~0ull - 4095);
	for (uint32_t bit = 4; bit; bit <<= 1)
		FAILS(fd, VMCI_DEV_QPAIR_CREATE, EINVAL, struct vmci_dev_qpair, PAIR, .produce = 1, .flags = bit);
	FAILS(fd, VMCI_DEV_QPAIR_CREATE, EBADF, struct vmci_dev_qpair, .handle = { ANY, ANY }, .peer = ANY, .wake = 999,
	      .produce = 1);
	FAILS(fd, VMCI_DEV_QPAIR_CREATE, EINVAL, struct vmci_dev_qpair, .handle = { ANY, ANY }, .peer = ANY, .wake = fd,
	      .produce = 1);
	FAILS(fd, VMCI_DEV_QPAIR_CREATE, EINVAL, struct vmci_dev_qpair, .handle = { ANY, ANY }, .peer = ANY, .wake = -2,
	      .produce = 1);
	FAILS(fd, VMCI_DEV_QPAIR_CREATE, EINVAL, struct vmci_dev_qpair, .handle = { 2, ANY }, .peer = ANY, .wake = -1,
	      .produce = 1);
	FAILS(fd, VMCI_DEV_QPAIR_CREATE, EINVAL, struct vmci_dev_qpair, .handle = { 2, 1 }, .peer = 2, .wake = -1,
	      .produce = 1);
	FAILS(fd, VMCI_DEV_QPAIR_STATE, ENOENT, struct vmci_dev_qpair_state, .handle = { 2, 5 });
	FAILS(fd, VMCI_DEV_QPAIR_DESTROY, ENOENT, struct vmci_dev_qpair_state, .handle = { ANY, ANY });
	if (local_pair(fd, 5000, &q) || q.size != 6 * PAGE) {
		fault("local pair");
		return;
	}
	again = (struct vmci_dev_qpair){ .handle = q.handle, .produce = 5000, .consume = 5000, .peer = ANY, .wake = -1,
					 .flags = VMCI_QP_LOCAL | VMCI_QP_ATTACH_ONLY };
	fails(fd, VMCI_DEV_QPAIR_CREATE, &again, EEXIST, "both ends in one file");
	again.produce = 5001;
	works(other, VMCI_DEV_QPAIR_CREATE, &again, "the wrong size");
	if (again.result != VMCI_ERROR_QUEUEPAIR_MISMATCH)
		fault("the wrong size: %d", again.result);
	cannot_map(fd, q.offset, q.size, rw, MAP_PRIVATE, "privately");
	cannot_map(fd, q.offset, q.size - PAGE, rw, MAP_SHARED, "a part");
	cannot_map(fd, q.offset, q.size + PAGE, rw, MAP_SHARED, "more");
	cannot_map(fd, q.offset + PAGE, q.size, rw, MAP_SHARED, "a page further on");
	cannot_map(fd, q.offset + PAGE, q.size - PAGE, rw, MAP_SHARED, "the end");
	cannot_map(fd, q.offset + slot, q.size, rw, MAP_SHARED, "nothing");
	cannot_map(fd, slot << 32, q.size, rw, MAP_SHARED, "far away");
	cannot_map(fd, 0x7ffffffffffff000, PAGE, rw, MAP_SHARED, "the last page");
	cannot_map(other, q.offset, q.size, rw, MAP_SHARED, "somebody else's");
	at = map_at(fd, q.offset, q.size, rw, MAP_SHARED);
	if (at == MAP_FAILED) {
		fault("mmap: %s", strerror(errno));
		return;
	}
	if (mremap(at, q.size, q.size + PAGE, MREMAP_MAYMOVE) != MAP_FAILED)
		fault("grown");
	memset(at, 0xff, q.size);	/* its headers, too */
	state = (struct vmci_dev_qpair_state){ .handle = q.handle };
	fails(other, VMCI_DEV_QPAIR_DESTROY, &state, ENOENT, "somebody else's");
	works(fd, VMCI_DEV_QPAIR_STATE, &state, "state");
	if (state.state != VMCI_DEV_QPAIR_WAITING)
		fault("state %u", state.state);
	state = (struct vmci_dev_qpair_state){ .handle = q.handle };
	works(fd, VMCI_DEV_QPAIR_DESTROY, &state, "destroy");
	fails(fd, VMCI_DEV_QPAIR_DESTROY, &state, ENOENT, "destroy twice");
	for (size_t i = 0; i < q.size; i++)
		if (at[i] != 0xff) {
			fault("what is mapped has changed");
			break;
		}
	memset(at, 1, q.size);
	cannot_map(fd, q.offset, q.size, rw, MAP_SHARED, "destroyed");
	munmap(at + PAGE, PAGE);	/* a hole */
	munmap(at, q.size);
	close(other);
}

static void wrong_regions(int fd, const struct vmci_dev_version *v)
{
	const int rw = PROT_READ | PROT_WRITE;
	struct vmci_dev_region r = { .handle = { ANY, ANY }, .bytes = 5000 }, detach;
	uint8_t *at, *rest;
	int other = dev();

	FAILS(fd, VMCI_DEV_SHM_CREATE, EINVAL, struct vmci_dev_region, .handle = { ANY, ANY });
	FAILS(fd, VMCI_DEV_SHM_CREATE, EINVAL, struct vmci_dev_region, .handle = { ANY, ANY }, .bytes = (1u << 30) + 1);
	FAILS(fd, VMCI_DEV_SHM_CREATE, EINVAL, struct vmci_dev_region, .handle = { ANY, ANY }, .bytes = ~0ull);
	FAILS(fd, VMCI_DEV_SHM_CREATE, EINVAL, struct vmci_dev_region, .handle = { ANY, ANY }, .bytes = 1, .flags = 1);
	FAILS(fd, VMCI_DEV_SHM_CREATE, EINVAL, struct vmci_dev_region, .handle = { 2, ANY }, .bytes = 1);
	FAILS(fd, VMCI_DEV_SHM_CREATE, EINVAL, struct vmci_dev_region, .handle = { ANY, 1 }, .bytes = 1);
	FAILS(fd, VMCI_DEV_SHM_ATTACH, EINVAL, struct vmci_dev_region, .handle = { ANY, ANY });
	FAILS(fd, VMCI_DEV_SHM_DETACH, ENOENT, struct vmci_dev_region, .handle = { 2, 77 });
	if (!(v->features & VMCI_DEV_HAS_WINDOW)) {
		fails(fd, VMCI_DEV_SHM_CREATE, &r, EOPNOTSUPP, "no window");
		close(other);
		return;
	}
	works(fd, VMCI_DEV_SHM_CREATE, &r, "region");
	if (r.result < 0) {
		fault("region: %d", r.result);
		return;
	}
	cannot_map(fd, r.offset, 2 * PAGE, rw, MAP_PRIVATE, "privately");
	cannot_map(fd, r.offset, 3 * PAGE, rw, MAP_SHARED, "more");
	cannot_map(fd, r.offset + 2 * PAGE, PAGE, rw, MAP_SHARED, "what is behind it");
	cannot_map(fd, r.offset + PAGE, 2 * PAGE, rw, MAP_SHARED, "beyond its end");
	cannot_map(other, r.offset, 2 * PAGE, rw, MAP_SHARED, "somebody else's");
	at = map_at(fd, r.offset, 2 * PAGE, rw, MAP_SHARED);
	rest = map_at(fd, r.offset + PAGE, PAGE, rw, MAP_SHARED);
	if (at == MAP_FAILED || rest == MAP_FAILED) {
		fault("mmap of a region: %s", strerror(errno));
		return;
	}
	at[PAGE + 5] = 77;
	if (rest[5] != 77)
		fault("not the same page");
	detach = (struct vmci_dev_region){ .handle = r.handle };
	fails(other, VMCI_DEV_SHM_DETACH, &detach, ENOENT, "somebody else's");
	works(fd, VMCI_DEV_SHM_DETACH, &detach, "detach");
	if (detach.result != VMCI_SUCCESS_LAST_DETACH)
		fault("detach: %d", detach.result);
	fails(fd, VMCI_DEV_SHM_DETACH, &detach, ENOENT, "detach twice");
	/* What is mapped of it is gone, whoever has its place in the file next: a child dies of it. */
	for (int i = 0; i < 3; i++) {
		struct vmci_dev_region next = { .handle = { ANY, ANY }, .bytes = 5000 };

		works(fd, VMCI_DEV_SHM_CREATE, &next, "another region");
	}
	if (!fork()) {
		*(volatile uint8_t *)at = 1;
		_exit(0);
	}
	int status;
	wait(&status);
	if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGBUS)
		fault("what was detached can be touched");
	munmap(at, 2 * PAGE);
	munmap(rest, PAGE);
	close(other);
}

/* The memory of a pair that was destroyed stays, also when a region comes and goes that might have its place. */
static void wrong_places(const struct vmci_dev_version *v)
{
	struct vmci_dev_qpair_state state;
	struct vmci_dev_qpair q;
	int fd = dev(), status;
	uint8_t *at;

	if (!(v->features & VMCI_DEV_HAS_WINDOW)) {
		close(fd);
		return;
	}
	if (local_pair(fd, 8192, &q)) {
		fault("local pair");
		return;
	}
	at = map_at(fd, q.offset, q.size, PROT_READ | PROT_WRITE, MAP_SHARED);
	memset(at, 3, q.size);
	state = (struct vmci_dev_qpair_state){ .handle = q.handle };
	works(fd, VMCI_DEV_QPAIR_DESTROY, &state, "destroy");
	for (int i = 0; i < 5; i++) {
		struct vmci_dev_region r = { .handle = { ANY, ANY }, .bytes = 100 }, detach;

		works(fd, VMCI_DEV_SHM_CREATE, &r, "region");
		if (r.offset == q.offset)
			fault("a region in the place of memory that is mapped");
		detach = (struct vmci_dev_region){ .handle = r.handle };
		works(fd, VMCI_DEV_SHM_DETACH, &detach, "detach");
	}
	if (!fork()) {
		for (uint64_t i = 0; i < q.size; i++)
			if (((volatile uint8_t *)at)[i] != 3)
				_exit(1);
		_exit(0);
	}
	wait(&status);
	if (status)
		fault("the memory of a destroyed pair has gone: %#x", status);
	munmap(at, q.size);
	close(fd);
}

static void wrong_modes(void)
{
	int fd = open(VMCI_DEV_PATH, O_RDONLY | O_CLOEXEC);
	struct vmci_dev_qpair q;

	if (fd < 0 || local_pair(fd, 100, &q)) {
		fault("open for reading");
		return;
	}
	cannot_map(fd, q.offset, q.size, PROT_READ | PROT_WRITE, MAP_SHARED, "writable, of a file for reading");
	close(fd);
}

static void wrong(void)
{
	struct vmci_dev_version v = limits();
	int fd = dev();

	wrong_numbers(fd);
	wrong_pointers(fd);
	wrong_datagrams(fd);
	wrong_bells(fd);
	wrong_events(fd);
	wrong_pairs(fd);
	wrong_regions(fd, &v);
	wrong_places(&v);
	close(fd);
	wrong_modes();
}

/* --- quota ------------------------------------------------------------------------------------------------------ */

static void quota_of_memory(const struct vmci_dev_version *v)
{
	struct vmci_dev_qpair q;
	int fd = dev(), r, n = 0;
	uint64_t bytes = 0;
	void *at[64];

	/* What is destroyed, but mapped, still counts. */
	while (n < 64 && !(r = local_pair(fd, 1 << 20, &q))) {
		struct vmci_dev_qpair_state state = { .handle = q.handle };

		bytes += q.size;
		at[n] = map_at(fd, q.offset, q.size, PROT_READ | PROT_WRITE, MAP_SHARED);
		if (at[n] == MAP_FAILED)
			fault("mmap: %s", strerror(errno));
		*(char *)at[n++] = 1;
		works(fd, VMCI_DEV_QPAIR_DESTROY, &state, "destroy");
	}
	if (r != -ENOSPC || bytes > v->qpair_bytes || bytes + q.size < v->qpair_bytes - (2 << 20))
		fault("%d pairs of %llu bytes, then %d", n, (unsigned long long)bytes, r);
	for (int i = 0; i < n; i++)
		munmap(at[i], (2 << 20) + 2 * PAGE);
	if (local_pair(fd, 1 << 20, &q))
		fault("unmapped memory still counts");
	close(fd);
	/* In all files together. */
	for (n = 0; n < 16; n++) {
		fd = dup(dev());
		for (r = 0; !r;)
			r = local_pair(fd, 4 << 20, &q);
		if (r != -ENOSPC)
			fault("%d instead of no room", r);
	}
	for (fd = 3; fd < 100; fd++)
		close(fd);
	fd = dev();
	if (local_pair(fd, 4 << 20, &q))
		fault("what was closed still counts");
	close(fd);
}

/* Takes what arrives, until nothing has for a while. Return: how many, all of @size */
static unsigned drain(int fd, uint32_t size)
{
	static char payload[VMCI_DG_MAX_PAYLOAD];
	unsigned got = 0;

	while (poll(&(struct pollfd){ .fd = fd, .events = POLLIN }, 1, got ? 200 : PATIENCE_MS)) {
		struct vmci_dev_receive receive = { .payload = (uintptr_t)payload, .size = sizeof(payload) };

		works(fd, VMCI_DEV_DATAGRAM_RECEIVE, &receive, "receive");
		if (receive.size != size)
			fault("%u bytes instead of %u", receive.size, size);
		got++;
	}
	return got;
}

static void quota_of_datagrams(const struct vmci_dev_version *v)
{
	static const uint32_t sizes[] = { 0, 1, 1000, VMCI_DG_MAX_PAYLOAD };
	static char payload[VMCI_DG_MAX_PAYLOAD];
	int from = dev();

	endpoint(from);
	for (size_t s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++) {
		int to = dev();
		struct vmci_dev_endpoint e = endpoint(to);

		for (int i = 0; i < 10000; i++) {
			struct vmci_dev_send send = {
				.dst = e.handle, .src = { ANY, ANY }, .payload = (uintptr_t)payload, .size = sizes[s],
			};

			works(from, VMCI_DEV_DATAGRAM_SEND, &send, "send");
			if (send.result < 0 && send.result != VMCI_ERROR_NO_RESOURCES)
				fault("flood: %d", send.result);
		}
		/* What is under way arrives, or not. */
		if (!drain(to, sizes[s]))
			fault("nothing of size %u arrived", sizes[s]);
		/* A new one arrives: the quota is given back. */
		struct vmci_dev_send last = {
			.dst = e.handle, .src = { ANY, ANY }, .payload = (uintptr_t)payload, .size = 7,
		};

		/* On a busy machine not all may have arrived yet. */
		for (unsigned tries = 0; tries < 100; tries++) {
			works(from, VMCI_DEV_DATAGRAM_SEND, &last, "send");
			if (last.result != VMCI_ERROR_NO_RESOURCES)
				break;
			drain(to, sizes[s]);
		}
		if (last.result < 0 || poll(&(struct pollfd){ .fd = to, .events = POLLIN }, 1, PATIENCE_MS) != 1)
			fault("nothing arrives after a flood of size %u", sizes[s]);
		close(to);
	}
	(void)v;
	close(from);
}

static void quota(void)
{
	struct vmci_dev_version v = limits();
	struct vmci_dev_bell b;
	struct vmci_dev_qpair q;
	int fd = dev();
	unsigned n;

	for (n = 0; n < v.endpoints; n++)
		endpoint(fd);
	FAILS(fd, VMCI_DEV_DATAGRAM_CREATE, ENOSPC, struct vmci_dev_endpoint, .handle = { ANY, ANY });
	for (n = 0; !bell(fd, &b); n++)
		;
	if (n != v.bells || errno != ENOSPC)
		fault("%u bells, then %s", n, strerror(errno));
	for (n = 0; !local_pair(fd, 1, &q); n++)
		;
	if (n != v.qpairs || errno != ENOSPC)
		fault("%u queue pairs, then %s", n, strerror(errno));
	if (v.features & VMCI_DEV_HAS_WINDOW) {
		struct vmci_dev_region r;

		for (n = 0; n <= v.regions; n++) {
			r = (struct vmci_dev_region){ .handle = { ANY, ANY }, .bytes = 1 };
			if (ioctl(fd, VMCI_DEV_SHM_CREATE, &r) || r.result < 0)
				break;
		}
		if (n != v.regions || errno != ENOSPC)
			fault("%u regions, then %s, %d", n, strerror(errno), r.result);
	}
	close(fd);
	for (n = 3; n < 300; n++)
		close((int)n);
	quota_of_memory(&v);
	quota_of_datagrams(&v);
}

/* --- race ------------------------------------------------------------------------------------------------------- */

static struct shared {
	int fd;
	_Atomic int rounds;
	_Atomic uint32_t endpoint, bell, pair;
	_Atomic uint64_t offset, size;
	struct vmci_dev_version v;
	uint32_t cid;
} shared;

static void race_once(unsigned *seed)
{
	int fd = shared.fd;
	char payload[64] = { 0 };

	switch (rand_r(seed) % 12) {
	case 0: {
		struct vmci_dev_endpoint e = { .handle = { ANY, ANY } };

		if (!ioctl(fd, VMCI_DEV_DATAGRAM_CREATE, &e))
			shared.endpoint = e.handle.resource;
		break;
	}
	case 1: {
		struct vmci_dev_endpoint e = { .handle = { shared.cid, shared.endpoint } };

		ioctl(fd, VMCI_DEV_DATAGRAM_DESTROY, &e);
		break;
	}
	case 2: {
		struct vmci_dev_send s = { .dst = { shared.cid, shared.endpoint }, .src = { ANY, ANY },
					   .payload = (uintptr_t)payload, .size = sizeof(payload) };

		ioctl(fd, VMCI_DEV_DATAGRAM_SEND, &s);
		break;
	}
	case 3: {
		struct vmci_dev_receive r = { .payload = (uintptr_t)payload, .size = sizeof(payload) };

		ioctl(fd, VMCI_DEV_DATAGRAM_RECEIVE, &r);
		break;
	}
	case 4: {
		struct vmci_dev_bell b;

		if (!bell(fd, &b)) {
			shared.bell = b.handle.resource;
			close(b.fd);
		}
		break;
	}
	case 5: {
		struct vmci_dev_bell b = { .handle = { shared.cid, shared.bell } };

		ioctl(fd, rand_r(seed) % 2 ? VMCI_DEV_BELL_RING : VMCI_DEV_BELL_DESTROY, &b);
		break;
	}
	case 6: {
		struct vmci_dev_qpair q;

		if (!local_pair(fd, 10000, &q)) {
			shared.pair = q.handle.resource;
			shared.offset = q.offset;
			shared.size = q.size;
		}
		break;
	}
	case 7: {
		struct vmci_dev_qpair_state s = { .handle = { shared.cid, shared.pair } };

		ioctl(fd, rand_r(seed) % 2 ? VMCI_DEV_QPAIR_STATE : VMCI_DEV_QPAIR_DESTROY, &s);
		break;
	}
	case 8: {
		size_t size = shared.size;
		char *at = size ? map_at(fd, shared.offset, size, PROT_READ | PROT_WRITE, MAP_SHARED) : MAP_FAILED;

		if (at != MAP_FAILED) {
			memset(at, 7, size);
			munmap(at, size);
		}
		break;
	}
	case 9: {
		struct vmci_dev_subscribe s = { .events = rand_r(seed) % 32 };
		struct vmci_dev_event e;

		ioctl(fd, VMCI_DEV_EVENT_SUBSCRIBE, &s);
		ioctl(fd, VMCI_DEV_EVENT_READ, &e);
		break;
	}
	case 10:
		poll(&(struct pollfd){ .fd = fd, .events = POLLIN | POLLPRI }, 1, 0);
		break;
	case 11: {
		/* A child that has it all, and ends. */
		struct vmci_dev_region r = { .handle = { ANY, ANY }, .bytes = 100 };

		if (rand_r(seed) % 8 || !(shared.v.features & VMCI_DEV_HAS_WINDOW))
			break;
		if (!ioctl(fd, VMCI_DEV_SHM_CREATE, &r) && r.result >= 0) {
			char *at = map_at(fd, r.offset, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED);

			if (at != MAP_FAILED) {
				*at = 1;
				munmap(at, PAGE);
			}
			r = (struct vmci_dev_region){ .handle = r.handle };
			ioctl(fd, VMCI_DEV_SHM_DETACH, &r);
		}
		break;
	}
	}
}

static void *racer(void *arg)
{
	unsigned seed = (unsigned)(uintptr_t)arg;

	while (shared.rounds-- > 0)
		race_once(&seed);
	return NULL;
}

/* The descriptor itself is replaced under the others' feet. */
static void *closer(void *arg)
{
	while (shared.rounds > 0) {
		int fd = dev();

		usleep(3000);
		dup2(fd, shared.fd);
		close(fd);
	}
	return arg;
}

static void race(int rounds)
{
	pthread_t thread[5];

	shared.v = limits();
	shared.cid = shared.v.context;
	shared.fd = dev();
	shared.rounds = rounds;
	for (uintptr_t i = 0; i < 5; i++)
		pthread_create(&thread[i], NULL, i ? racer : closer, (void *)i);
	for (int i = 0; i < 5; i++)
		pthread_join(thread[i], NULL);
	/* And killed with everything open. */
	for (int i = 0; i < 10; i++) {
		pid_t pid = fork();
		int status;

		if (!pid) {
			shared.rounds = 1 << 30;
			for (uintptr_t t = 0; t < 4; t++)
				pthread_create(&thread[t], NULL, racer, (void *)(t + 10));
			pause();
		}
		usleep(20000);
		kill(pid, SIGKILL);
		waitpid(pid, &status, 0);
	}
}

static void noise(int calls, unsigned seed)
{
	union {
		uint8_t bytes[128];
		uint32_t words[32];
	} arg;
	int fd = dev();

	for (int i = 0; i < calls; i++) {
		unsigned nr = (unsigned)rand_r(&seed) % VMCI_DEV_CALLS;
		static const unsigned char sizes[] = {
			sizeof(struct vmci_dev_version), 16, 16, sizeof(struct vmci_dev_send),
			sizeof(struct vmci_dev_receive), sizeof(struct vmci_dev_qpair), 16, 16,
			sizeof(struct vmci_dev_bell), sizeof(struct vmci_dev_bell), sizeof(struct vmci_dev_bell),
			8, sizeof(struct vmci_dev_event), 32, 32, 32, 32,
		};
		unsigned dir = nr == 0 || nr == 12 ? _IOC_READ : nr == 2 || nr == 9 || nr == 11 ? _IOC_WRITE :
			       _IOC_READ | _IOC_WRITE;

		for (unsigned j = 0; j < 32; j++) {
			static const uint32_t values[] = { 0, 1, 2, ANY, 1024, 4096, 0x80000000u };

			arg.words[j] = rand_r(&seed) % 2 ? values[(unsigned)rand_r(&seed) % 7] :
							   (uint32_t)rand_r(&seed);
		}
		/* Not into our own stack. */
		if (nr == 4)
			arg.words[4] = arg.words[5] = 0;
		/* Else every other call waits for the host. */
		if (nr >= 13 && i % 64)
			continue;
		ioctl(fd, _IOC(dir, VMCI_DEV_TYPE, nr, sizes[nr]), &arg);
		if (i % 1000 == 999) {
			close(fd);
			fd = dev();
		}
	}
	close(fd);
}

/* --- hold, local, inbox ----------------------------------------------------------------------------------------- */

static void hold(uint32_t resource)
{
	struct vmci_dev_version v = limits();
	struct vmci_dev_endpoint e = { .handle = { ANY, resource } };
	struct vmci_dev_region r = { .handle = { ANY, ANY }, .bytes = 100 };
	struct vmci_dev_qpair q = { .handle = { ANY, ANY }, .produce = 100, .consume = 100, .peer = 2, .wake = -1 };
	struct vmci_dev_bell b;
	struct pollfd pfd;
	int fd = dev(), status;
	char *pair, *region = NULL;

	pfd = (struct pollfd){ .fd = fd, .events = POLLIN };
	works(fd, VMCI_DEV_DATAGRAM_CREATE, &e, "endpoint");
	if (bell(fd, &b))
		fault("bell");
	q.wake = b.fd;
	works(fd, VMCI_DEV_QPAIR_CREATE, &q, "queue pair");
	pair = map_at(fd, q.offset, q.size, PROT_READ | PROT_WRITE, MAP_SHARED);
	if (pair == MAP_FAILED) {
		fault("mmap: %s", strerror(errno));
		return;
	}
	if (v.features & VMCI_DEV_HAS_WINDOW) {
		works(fd, VMCI_DEV_SHM_CREATE, &r, "region");
		region = map_at(fd, r.offset, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED);
		*region = 1;
	}
	printf("ready\n");
	fflush(stdout);
	getchar();
	poll(&pfd, 1, PATIENCE_MS);
	if (!(pfd.revents & POLLERR) || !(pfd.revents & POLLHUP))
		fault("poll says %#x", pfd.revents);
	FAILS(fd, VMCI_DEV_VERSION, ENODEV, struct vmci_dev_version, 0);
	FAILS(fd, VMCI_DEV_DATAGRAM_CREATE, ENODEV, struct vmci_dev_endpoint, .handle = { ANY, ANY });
	FAILS(fd, VMCI_DEV_DATAGRAM_SEND, ENODEV, struct vmci_dev_send, .dst = { 2, 5000 }, .src = e.handle);
	FAILS(fd, VMCI_DEV_DATAGRAM_RECEIVE, ENODEV, struct vmci_dev_receive, 0);
	FAILS(fd, VMCI_DEV_QPAIR_DESTROY, ENODEV, struct vmci_dev_qpair_state, .handle = q.handle);
	FAILS(fd, VMCI_DEV_BELL_RING, ENODEV, struct vmci_dev_bell, .handle = b.handle);
	FAILS(fd, VMCI_DEV_SHM_DETACH, ENODEV, struct vmci_dev_region, .handle = r.handle);
	cannot_map(fd, q.offset, q.size, PROT_READ | PROT_WRITE, MAP_SHARED, "a dead pair");
	if (poll(&(struct pollfd){ .fd = b.fd, .events = POLLIN }, 1, 0) != 1)
		fault("the queue pair's owner is not woken");
	memset(pair, 5, q.size);
	if (region && !fork()) {
		*(volatile char *)region = 1;
		_exit(0);
	}
	if (region) {
		wait(&status);
		if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGBUS)
			fault("the window can be touched");
	}
	printf("over\n");
}

static void local(void)
{
	struct vmci_dev_subscribe subscribe = {
		.events = 1 << VMCI_EVENT_QP_PEER_ATTACH | 1 << VMCI_EVENT_QP_PEER_DETACH,
	};
	struct pollfd pfd = { .events = POLLIN };
	struct vmci_dev_event event = { 0 };
	struct vmci_dev_qpair q;
	int fd = dev(), status;
	char *at;
	pid_t pid;

	pfd.fd = fd;
	works(fd, VMCI_DEV_EVENT_SUBSCRIBE, &subscribe, "subscribe");
	if (local_pair(fd, 8192, &q)) {
		fault("local pair");
		return;
	}
	at = map_at(fd, q.offset, q.size, PROT_READ | PROT_WRITE, MAP_SHARED);
	pid = fork();
	if (!pid) {
		struct vmci_dev_qpair a = {
			.handle = q.handle, .produce = 8192, .consume = 8192, .peer = ANY, .wake = -1,
			.flags = VMCI_QP_LOCAL | VMCI_QP_ATTACH_ONLY,
		};
		char *other;

		munmap(at, q.size);
		close(fd);
		fd = dev();
		works(fd, VMCI_DEV_QPAIR_CREATE, &a, "attach");
		other = map_at(fd, a.offset, a.size, PROT_READ | PROT_WRITE, MAP_SHARED);
		if (a.result != VMCI_SUCCESS_QUEUEPAIR_ATTACH || other == MAP_FAILED)
			_exit(1);
		strcpy(other + PAGE, "from the attacher");
		pause();
	}
	if (poll(&pfd, 1, PATIENCE_MS) != 1 || ioctl(fd, VMCI_DEV_EVENT_READ, &event) ||
	    event.event != VMCI_EVENT_QP_PEER_ATTACH || event.handle.resource != q.handle.resource)
		fault("no event of the attacher: %u", event.event);
	for (int i = 0; i < 1000 && !at[q.size / 2 + PAGE]; i++)
		usleep(10000);
	kill(pid, SIGKILL);
	waitpid(pid, &status, 0);
	if (!WIFSIGNALED(status))
		fault("the attacher has failed");
	if (poll(&pfd, 1, PATIENCE_MS) != 1 || ioctl(fd, VMCI_DEV_EVENT_READ, &event) ||
	    event.event != VMCI_EVENT_QP_PEER_DETACH)
		fault("no event of its death: %u", event.event);
	if (strcmp(at + q.size / 2 + PAGE, "from the attacher"))
		fault("not what was written");
	struct vmci_dev_qpair_state state = { .handle = q.handle };

	works(fd, VMCI_DEV_QPAIR_STATE, &state, "state");
	if (state.state != VMCI_DEV_QPAIR_LEFT)
		fault("state %u", state.state);
	close(fd);
	munmap(at, q.size);
}

/* Has so many bells until it is killed. */
static void bells(int count)
{
	struct vmci_dev_bell b;
	int fd = dev();

	for (int i = 0; i < count; i++)
		if (bell(fd, &b))
			fault("bell %d: %s", i, strerror(errno));
	puts("holding");
	fflush(stdout);
	pause();
}

static void inbox(void)
{
	struct vmci_dev_version v;
	int fd = dev();

	if (!ioctl(fd, VMCI_DEV_VERSION, &v))
		fault("it answers");
	close(fd);
}

int main(int argc, char **argv)
{
	const char *verb = argc > 1 ? argv[1] : "";

	if (!strcmp(verb, "wrong"))
		wrong();
	else if (!strcmp(verb, "quota"))
		quota();
	else if (!strcmp(verb, "race") && argc > 2)
		race(atoi(argv[2]));
	else if (!strcmp(verb, "noise") && argc > 3)
		noise(atoi(argv[2]), (unsigned)atoi(argv[3]));
	else if (!strcmp(verb, "hold") && argc > 2)
		hold(strcmp(argv[2], "any") ? (uint32_t)atoi(argv[2]) : ANY);
	else if (!strcmp(verb, "bells") && argc > 2)
		bells(atoi(argv[2]));
	else if (!strcmp(verb, "local"))
		local();
	else if (!strcmp(verb, "inbox"))
		inbox();
	else
		return 2;
	return faults != 0;
}
