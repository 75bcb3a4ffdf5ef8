/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Shared memory of a guest: the window is a BAR of the VMCI device, which the kernel lets root map; where a region lies
 * in it says the service at {1, 3} (proto/share.h), which is the device, too. With /dev/vmci the kernel does all that
 * (guest_dev.c), and what is here keeps book.
 *
 * DOC: Theory of operation
 *
 * Each attachment has a socket, from which it was asked for, and which is kept. The service ties the attachment to its
 * port: nobody else in the guest can get that port as long as we live, and whoever gets it afterwards has the right to
 * say that we are gone. That is what sweep() does for others: before the first region of a membership, and when there
 * is no room, it looks whether it can bind the ports that have something, and detaches in the name of those that it can.
 *
 * The place comes from the service, and is checked against the BAR. Its resource file, not the write-combining one:
 * order of writes is what two programs rely on. Where the hypervisor has a say in caching, the BAR is ordinary memory
 * anyway.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/checked.h"
#include "base/fd.h"
#include "lib/guest.h"
#include "lib/lib.h"
#include "proto/share.h"

#define WINDOW_FILE "resource3"
static_assert(VMCI_WINDOW_BAR == 3, "the name of its file");

static const struct vmci_handle service = { VMCI_CID_WELL_KNOWN, VMCI_RID_SHM };
static const struct vmci_handle whatever = { VMCI_INVALID_ID, VMCI_INVALID_ID };

/* ----- the window */

/* Return: a descriptor, and its size; VMCI_ERROR_UNAVAILABLE, VMCI_ERROR_NO_ACCESS */
static int open_window(const struct guest *guest, uint64_t *ret_size)
{
	int dir = guest_find(guest_ports_of(guest)->pci_devices), fd, error;
	struct stat st;

	if (dir < 0)
		return lib_fail(VMCI_ERROR_UNAVAILABLE, "the VMCI device has gone");
	fd = openat(dir, WINDOW_FILE, O_RDWR | O_CLOEXEC);
	error = errno;
	fd_close(&dir);
	if (fd < 0 && (error == EACCES || error == EPERM))
		return lib_fail(VMCI_ERROR_NO_ACCESS, "the window of the VMCI device: %s; it takes root to map it",
				strerror(error));
	if (fd < 0 && error != ENOENT)
		return lib_fail(VMCI_ERROR_UNAVAILABLE, "the window of the VMCI device: %s", strerror(error));
	if (fd < 0 || fstat(fd, &st) || st.st_size <= 0) {
		fd_close(&fd);
		return lib_fail(VMCI_ERROR_UNAVAILABLE,
				"this VM has no window for shared memory (openvmci.window in its definition)");
	}
	*ret_size = (uint64_t)st.st_size;
	return fd;
}

/* Map @shm->size bytes at @offset of the window @fd. Return: 0; VMCI_ERROR_* */
static int map(struct guest_shm *shm, int fd, uint64_t window, uint64_t offset)
{
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE), size;
	void *address;

	if (!shm->size || !add64(shm->size, page - 1, &size) || offset % page ||
	    !range_fits(offset, size & ~(page - 1), window))
		return lib_fail(VMCI_ERROR_UNAVAILABLE, "the region is said to lie where the window has nothing");
	size &= ~(page - 1);
	address = mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, (off_t)offset);
	if (address == MAP_FAILED)
		return lib_fail(errno == EPERM ? VMCI_ERROR_NO_ACCESS : VMCI_ERROR_NO_MEM,
				"mmap of %llu bytes of the window: %s", (unsigned long long)size, strerror(errno));
	shm->map = address;
	shm->map_size = (size_t)size;
	return VMCI_SUCCESS;
}

/* ----- the service */

struct question {
	struct share_request request;
	struct share_reply reply;
};

static bool is_reply(const uint8_t *buf, size_t size, void *arg)
{
	struct question *question = arg;

	return !share_reply_parse(buf, size, &question->reply) && question->reply.id == question->request.id &&
	       question->reply.action == question->request.action;
}

/*
 * Ask from the socket @fd. A host that does not know the service says so as of any address that it does not know.
 * Return: the code of the reply; VMCI_ERROR_UNAVAILABLE, VMCI_ERROR_NO_MEM: nobody answers
 */
static int ask(struct guest *guest, int fd, struct question *question, unsigned *ret_sent)
{
	uint8_t payload[SHARE_REQUEST_SIZE];
	uint64_t random;
	int result;

	question->request.version = SHARE_VERSION;
	/* Never that of somebody who had the port before. */
	question->request.id = guest_id(guest);
	if (getrandom(&random, sizeof(random), GRND_NONBLOCK) == sizeof(random))
		question->request.id ^= random;
	share_request_build(payload, &question->request);
	result = guest_call(guest, fd, service, payload, sizeof(payload), is_reply, question, ret_sent);
	if (result == VMCI_ERROR_DST_UNREACHABLE || result == VMCI_ERROR_INVALID_RESOURCE)
		return lib_fail(VMCI_ERROR_UNAVAILABLE, "the host has no shared memory for guests");
	if (result < 0)
		return result;
	if (question->reply.code < 0)
		return lib_fail(question->reply.code, "the service says: %s", vmci_strerror(question->reply.code));
	return question->reply.code;
}

/* ----- those that dead programs have left */

/* Is the socket of @port gone? Then its attachment goes, too. */
static void clear_port(struct guest *guest, uint32_t port)
{
	struct question question = { .request.action = SHARE_DETACH, .request.handle = whatever };
	unsigned sent;
	uint32_t bound;
	int fd;

	if (port <= VMCI_RID_STREAM || port == VMCI_INVALID_ID)
		return;
	fd = guest_ports_of(guest)->bind(port, &bound);
	if (fd < 0)
		return;
	if (bound == port)
		(void)ask(guest, fd, &question, &sent);
	fd_close(&fd);
}

static void sweep(struct guest *guest)
{
	struct question question = { .request.action = SHARE_OWNERS };
	uint64_t before;
	unsigned sent;
	uint32_t port;
	int fd = guest_socket(guest, VMCI_INVALID_ID, &port), result;

	if (fd < 0)
		return;
	do {
		before = question.request.bytes;
		result = ask(guest, fd, &question, &sent);
		for (unsigned i = 0; result >= 0 && i < question.reply.n_ports; i++)
			clear_port(guest, question.reply.port[i]);
		question.request.bytes = question.reply.bytes;
	} while (result >= 0 && question.request.bytes > before);
	fd_close(&fd);
}

static void sweep_once(struct guest *guest)
{
	struct guest_shms *shms = guest_shms(guest);
	bool is_swept;

	pthread_mutex_lock(&shms->lock);
	is_swept = shms->is_swept;
	shms->is_swept = true;
	pthread_mutex_unlock(&shms->lock);
	if (!is_swept)
		sweep(guest);
}

/* ----- attachments */

static bool is_attached(struct guest *guest, struct vmci_handle handle)
{
	struct guest_shms *shms = guest_shms(guest);
	const struct guest_shm *shm;

	pthread_mutex_lock(&shms->lock);
	for (shm = shms->first; shm; shm = shm->next)
		if (handle_is_equal(shm->handle, handle))
			break;
	pthread_mutex_unlock(&shms->lock);
	return shm != NULL;
}

/* Return: false: another thread was faster */
static bool note(struct guest *guest, struct guest_shm *shm)
{
	struct guest_shms *shms = guest_shms(guest);
	const struct guest_shm *other;

	pthread_mutex_lock(&shms->lock);
	for (other = shms->first; other; other = other->next)
		if (handle_is_equal(other->handle, shm->handle))
			break;
	if (!other) {
		shm->next = shms->first;
		shms->first = shm;
	}
	pthread_mutex_unlock(&shms->lock);
	return !other;
}

static void forget(struct guest *guest, struct guest_shm *shm)
{
	struct guest_shms *shms = guest_shms(guest);

	pthread_mutex_lock(&shms->lock);
	for (struct guest_shm **at = &shms->first; *at; at = &(*at)->next)
		if (*at == shm) {
			*at = shm->next;
			break;
		}
	pthread_mutex_unlock(&shms->lock);
}

/* Say that the port of @fd has @handle no longer. The answer to the first question may have been lost. */
static int tell(struct guest *guest, int fd, struct vmci_handle handle)
{
	struct question question = { .request.action = SHARE_DETACH, .request.handle = handle };
	unsigned sent;
	int result = ask(guest, fd, &question, &sent);

	return result == VMCI_SUCCESS_LAST_DETACH ? result : VMCI_SUCCESS;
}

/* The same from the kernel: what it grants goes with its descriptor. */
static int get_from_ports(struct guest *guest, const struct question *question, struct guest_shm *shm)
{
	int result = guest_ports_of(guest)->shm_get(question->request.action == SHARE_CREATE, question->request.handle,
						    question->request.bytes, shm);

	if (result >= 0 && !note(guest, shm)) {
		munmap(shm->map, shm->map_size);
		fd_close(&shm->fd);
		return lib_fail(VMCI_ERROR_ALREADY_EXISTS, "this program is attached to it");
	}
	return result < 0 ? result : VMCI_SUCCESS;
}

/* What @question asks for, mapped. */
static int get(struct guest *guest, struct question *question, struct guest_shm *shm)
{
	uint64_t window = 0;
	unsigned sent;
	uint32_t port;
	int bar, result;

	if (guest_ports_of(guest)->shm_get)
		return get_from_ports(guest, question, shm);
	bar = open_window(guest, &window);
	if (bar < 0)
		return bar;
	sweep_once(guest);
	shm->map = NULL;
	shm->fd = guest_socket(guest, VMCI_INVALID_ID, &port);
	result = shm->fd < 0 ? shm->fd : ask(guest, shm->fd, question, &sent);
	if (shm->fd >= 0 && result == VMCI_ERROR_NO_RESOURCES) {
		sweep(guest);
		result = ask(guest, shm->fd, question, &sent);
	}
	if (result >= 0) {
		shm->handle = question->reply.handle;
		shm->size = question->reply.bytes;
		result = map(shm, bar, window, question->reply.offset);
		if (result >= 0 && !note(guest, shm))
			result = lib_fail(VMCI_ERROR_ALREADY_EXISTS, "this program is attached to it");
		if (result < 0)
			tell(guest, shm->fd, shm->handle);
	}
	fd_close(&bar);
	if (result < 0) {
		if (shm->map)
			munmap(shm->map, shm->map_size);
		fd_close(&shm->fd);
	}
	return result < 0 ? result : VMCI_SUCCESS;
}

int guest_shm_create(struct guest *guest, uint32_t rid, uint64_t size, struct guest_shm *shm)
{
	struct question question = {
		.request.action = SHARE_CREATE,
		.request.handle = handle_make(guest_cid(guest), rid),
		.request.bytes = size,
	};

	return get(guest, &question, shm);
}

int guest_shm_attach(struct guest *guest, struct vmci_handle handle, struct guest_shm *shm)
{
	struct question question = { .request.action = SHARE_ATTACH, .request.handle = handle };

	if (is_attached(guest, handle))
		return lib_fail(VMCI_ERROR_ALREADY_EXISTS, "this program is attached to it");
	return get(guest, &question, shm);
}

int guest_shm_query(struct guest *guest, struct vmci_handle handle, uint64_t *ret_size)
{
	struct question question = { .request.action = SHARE_QUERY, .request.handle = handle };
	unsigned sent;
	uint32_t port;
	int fd, result;

	if (guest_ports_of(guest)->shm_query)
		return guest_ports_of(guest)->shm_query(handle, ret_size);
	fd = guest_socket(guest, VMCI_INVALID_ID, &port);
	if (fd < 0)
		return fd;
	result = ask(guest, fd, &question, &sent);
	fd_close(&fd);
	if (result < 0)
		return result;
	*ret_size = question.reply.bytes;
	return VMCI_SUCCESS;
}

int guest_shm_detach(struct guest *guest, struct guest_shm *shm, bool is_forked)
{
	int result = VMCI_SUCCESS;

	munmap(shm->map, shm->map_size);
	/* A child has none of the locks in order, and it is not its to say. */
	if (!is_forked) {
		forget(guest, shm);
		result = guest_ports_of(guest)->shm_detach ? guest_ports_of(guest)->shm_detach(shm) :
			 tell(guest, shm->fd, shm->handle);
	}
	fd_close(&shm->fd);
	return result;
}
