/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Membership of a guest: the rules. The sockets: guest_vsock.c; /dev/vmci: guest_dev.c.
 *
 * DOC: Theory of operation
 *
 * A VMCI handle {context, resource} is the address of a datagram socket, context id and port, and the in-box
 * driver sends as it is told to context 1, too. So an endpoint is a socket, or a file of /dev/vmci; the kernel keeps
 * its queue, and there is nothing to be resumed.
 *
 * The discovery service is asked from a socket made for the question, which goes with the answer: late answers find
 * nobody. What arrives counts if it comes from {1, 1}, which the device vouches for, and shows the question's
 * id. Either way a datagram can be lost, so the question is sent again, with the same id, after WAIT_FIRST_MS,
 * and then with ever longer pauses. The service may so be asked twice to do what can be done once, and refuse
 * the second time:
 *
 *	register, ALREADY_EXISTS	looked up; if it is our handle that has the name, we have succeeded
 *	unregister, NOT_FOUND		we have succeeded
 *
 * Both only if the question was sent more than once.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.h"
#include "lib/gate.h"
#include "lib/guest.h"
#include "lib/lib.h"
#include "proto/share.h"

/*
 * How long a call waits for a service of the host. Behind ports every byte is an exit, and on a busy host a datagram can
 * take seconds.
 */
#define CALL_MS 15000

/* Pauses between attempts: far longer than an answer takes, and several fit into CALL_MS. */
#define WAIT_FIRST_MS 200
#define WAIT_MAX_MS 1000

/* The in-box driver, and ours. */
#define DRIVER "vmw_vmci"
#define OUR_DRIVER "vmci"

/* The largest answer of a service. */
#define GUEST_ANSWER_MAX SHARE_REPLY_MAX

struct guest {
	const struct guest_ports *ports;
	uint32_t cid;
	int device;
	atomic_uint next_id;
	struct guest_shms shms;
};

/* ----- is it one? */

/* Does the file hold the number @value, in hexadecimal? */
static bool file_says(int dir, const char *name, unsigned value)
{
	int fd = openat(dir, name, O_RDONLY | O_CLOEXEC);
	char text[16], *end;
	ssize_t n;

	if (fd < 0)
		return false;
	n = read(fd, text, sizeof(text) - 1);
	fd_close(&fd);
	if (n <= 0)
		return false;
	text[n] = '\0';
	return strtoul(text, &end, 16) == value && (*end == '\n' || *end == '\0');
}

static bool driver_is_bound(int dir)
{
	char target[256], *slash;
	ssize_t n = readlinkat(dir, "driver", target, sizeof(target) - 1);

	if (n < 0)
		return false;
	target[n] = '\0';
	slash = strrchr(target, '/');
	slash = slash ? slash + 1 : target;
	return !strcmp(slash, DRIVER) || !strcmp(slash, OUR_DRIVER);
}

/* The folder of the device @name, if it is one of ours; or -1. */
static int open_vmci(int devices, const char *name)
{
	int dir = openat(devices, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (dir >= 0 && !(file_says(dir, "vendor", VMCI_PCI_VENDOR) && file_says(dir, "device", VMCI_PCI_DEVICE) &&
			  driver_is_bound(dir)))
		fd_close(&dir);
	return dir;
}

int guest_find(const char *pci_devices)
{
	DIR *devices = opendir(pci_devices);
	const struct dirent *entry;
	int dir = -1;

	if (!devices)
		return -1;
	while (dir < 0 && (entry = readdir(devices)))
		if (entry->d_name[0] != '.')
			dir = open_vmci(dirfd(devices), entry->d_name);
	closedir(devices);
	return dir;
}

bool guest_is_here(const char *pci_devices)
{
	int dir = guest_find(pci_devices);
	bool found = dir >= 0;

	fd_close(&dir);
	return found;
}

/* ----- membership */

int guest_open(const struct guest_ports *ports, struct guest **ret_guest)
{
	struct guest *guest;
	uint32_t cid, port;
	unsigned id;
	int fd;

	if (ports->pci_devices && !guest_is_here(ports->pci_devices)) {
		return lib_fail(VMCI_ERROR_DEVICE_NOT_FOUND, "no VMCI device with the driver %s or %s in %s", DRIVER,
				OUR_DRIVER, ports->pci_devices);
	}
	fd = ports->cid(&cid);
	if (fd < 0)
		return lib_fail(VMCI_ERROR_DEVICE_NOT_FOUND, "%s: %s", ports->name, strerror(-fd));
	if (cid < VMCI_CID_FIRST_VM || cid == VMCI_INVALID_ID)
		return lib_fail(VMCI_ERROR_DEVICE_NOT_FOUND, "%s: %u is no guest's context id", ports->name, cid);
	fd = ports->bind(VMCI_PORT_ANY, &port);
	if (fd < 0)
		return lib_fail(VMCI_ERROR_DEVICE_NOT_FOUND, "%s: no datagrams: %s", ports->name, strerror(-fd));
	fd_close(&fd);

	guest = calloc(1, sizeof(*guest));
	if (!guest)
		return lib_fail(VMCI_ERROR_NO_MEM, "out of memory");
	guest->device = -1;
	if (ports->open) {
		guest->device = ports->open();
		if (guest->device < 0) {
			fd = guest->device;
			free(guest);
			return lib_fail(VMCI_ERROR_DEVICE_NOT_FOUND, "%s: %s", ports->name, strerror(-fd));
		}
	}
	/* ids that nobody has seen lately; any will do */
	if (getrandom(&id, sizeof(id), GRND_NONBLOCK) != sizeof(id))
		id = (unsigned)lib_now();
	guest->ports = ports;
	guest->cid = cid;
	atomic_init(&guest->next_id, id);
	pthread_mutex_init(&guest->shms.lock, NULL);
	*ret_guest = guest;
	return VMCI_SUCCESS;
}

struct guest *guest_close(struct guest *guest)
{
	if (guest) {
		fd_close(&guest->device);
		pthread_mutex_destroy(&guest->shms.lock);
	}
	free(guest);
	return NULL;
}

uint32_t guest_cid(const struct guest *guest)
{
	return guest->cid;
}

int guest_device(const struct guest *guest)
{
	return guest->device;
}

/* ----- datagrams */

/* what bind() and socket() say; socket reference, 11 and 15 */
static int code_of_bind(int error)
{
	switch (error) {
	case EADDRINUSE:
		return VMCI_ERROR_ALREADY_EXISTS;
	case EACCES:
	case EPERM:
		return VMCI_ERROR_NO_ACCESS;
	case EMFILE:
	case ENFILE:
	case ENOSPC:
	case ENOMEM:
	case ENOBUFS:
	case EADDRNOTAVAIL:
		return VMCI_ERROR_NO_RESOURCES;
	default:
		return VMCI_ERROR_UNAVAILABLE;
	}
}

/* what sendto() says; whatever has no errno of its own is EINVAL, and we do not send what is invalid */
static int code_of_send(int error)
{
	switch (error) {
	case EHOSTUNREACH:
		return VMCI_ERROR_INVALID_RESOURCE;
	case EPERM:
	case EACCES:
		return VMCI_ERROR_NO_ACCESS;
	case ENOBUFS:
	case EAGAIN:
		return VMCI_ERROR_NO_RESOURCES;
	case ENOMEM:
		return VMCI_ERROR_NO_MEM;
	case EMSGSIZE:
		return VMCI_ERROR_INVALID_ARGS;
	case ENODEV:
	case ENXIO:
	case ENETDOWN:
		return VMCI_ERROR_UNAVAILABLE;
	default:
		return VMCI_ERROR_DST_UNREACHABLE;
	}
}

int guest_socket(struct guest *guest, uint32_t rid, uint32_t *ret_rid)
{
	uint32_t port;
	int fd;

	if (rid == VMCI_RID_EVENT || rid == VMCI_RID_STREAM)
		return lib_fail(VMCI_ERROR_INVALID_ARGS, "resource %u is the driver's", rid);
	if (guest->ports->pci_devices && !guest_is_here(guest->ports->pci_devices))
		return lib_fail(VMCI_ERROR_UNAVAILABLE, "the VMCI device has gone");
	fd = guest->ports->bind(rid, &port);
	if (fd < 0)
		return lib_fail(code_of_bind(-fd), "%s: datagrams: %s", guest->ports->name, strerror(-fd));
	*ret_rid = port;
	return fd;
}

int guest_send(struct guest *guest, int fd, struct vmci_handle dst, const void *data, size_t size)
{
	ssize_t n;

	if (size > VMCI_DG_MAX_PAYLOAD)
		return lib_fail(VMCI_ERROR_INVALID_ARGS, "%zu bytes are too many for a datagram", size);
	/* the driver would take "any" for our own */
	if (dst.context == VMCI_INVALID_ID)
		return lib_fail(VMCI_ERROR_DST_UNREACHABLE, "no such context");
	do
		n = guest->ports->send(fd, dst, data, size);
	while (n == -EINTR);
	if (n < 0)
		return lib_fail(code_of_send((int)-n), "datagram to %u:%u: %s", dst.context, dst.resource,
				strerror((int)-n));
	return (int)size;
}

/* one datagram, or what fits. Return: bytes or a VMCI_ERROR_* */
static int recv_once(struct guest *guest, int fd, void *buf, size_t size, int flags, struct vmci_handle *ret_src,
		     bool *ret_cut)
{
	ssize_t n;

	do
		n = guest->ports->recv(fd, buf, size, flags | MSG_DONTWAIT, ret_src, ret_cut);
	while (n == -EINTR);
	if (n == -EAGAIN)
		return VMCI_ERROR_WOULD_BLOCK;
	if (n < 0)
		return lib_fail(VMCI_ERROR_UNAVAILABLE, "%s: datagrams: %s", guest->ports->name, strerror((int)-n));
	return (int)n;
}

int guest_recv(struct guest *guest, int fd, void *buf, size_t size, struct vmci_handle *ret_src)
{
	struct vmci_handle src;
	bool cut;
	int result;

	/* the kernel would throw away what does not fit */
	if (size < VMCI_DG_MAX_PAYLOAD) {
		result = recv_once(guest, fd, buf, size, MSG_PEEK, &src, &cut);
		if (result < 0)
			return result;
		if (cut)
			return lib_fail(VMCI_ERROR_NO_MEM, "%zu bytes are not enough for the datagram", size);
	}
	result = recv_once(guest, fd, buf, size, 0, &src, &cut);
	if (result >= 0 && ret_src)
		*ret_src = src;
	return result;
}

/* ----- questions */

/* A datagram of @service that is the answer, if it is there by now. Return: 0, VMCI_ERROR_WOULD_BLOCK, _UNAVAILABLE */
static int next_answer(struct guest *guest, int fd, struct vmci_handle service,
		       bool (*is_answer)(const uint8_t *buf, size_t size, void *arg), void *arg)
{
	uint8_t buf[GUEST_ANSWER_MAX];
	struct vmci_handle src;
	bool cut;
	int n;

	while ((n = recv_once(guest, fd, buf, sizeof(buf), 0, &src, &cut)) >= 0)
		if (!cut && handle_is_equal(src, service) && is_answer(buf, (size_t)n, arg))
			return VMCI_SUCCESS;
	return n;
}

static int wait_for_answer(struct guest *guest, int fd, struct vmci_handle service, struct lib_deadline deadline,
			   bool (*is_answer)(const uint8_t *buf, size_t size, void *arg), void *arg)
{
	struct pollfd pfd = { .fd = fd, .events = POLLIN };

	for (;;) {
		int result = next_answer(guest, fd, service, is_answer, arg);
		int left = lib_left_ms(deadline);

		if (result != VMCI_ERROR_WOULD_BLOCK)
			return result;
		if (left == 0)
			return VMCI_ERROR_TIMEOUT;
		if (poll(&pfd, 1, left) < 0 && errno != EINTR)
			return lib_fail(VMCI_ERROR_NO_RESOURCES, "poll: %s", strerror(errno));
	}
}

int guest_call(struct guest *guest, int fd, struct vmci_handle service, const void *payload, size_t size,
	       bool (*is_answer)(const uint8_t *buf, size_t size, void *arg), void *arg, unsigned *ret_sent)
{
	struct lib_deadline end = lib_deadline(CALL_MS);
	int wait = WAIT_FIRST_MS, result;

	for (unsigned sent = 1;; sent++) {
		int left = lib_left_ms(end);

		if (left == 0)
			return lib_fail(VMCI_ERROR_UNAVAILABLE, "the service at %u:%u does not answer", service.context,
					service.resource);
		result = guest_send(guest, fd, service, payload, size);
		/* no room is a matter of time */
		if (result < 0 && result != VMCI_ERROR_NO_RESOURCES)
			return result;
		result = wait_for_answer(guest, fd, service, lib_deadline(wait < left ? wait : left), is_answer, arg);
		if (result != VMCI_ERROR_TIMEOUT) {
			*ret_sent = sent;
			return result;
		}
		wait = wait * 2 < WAIT_MAX_MS ? wait * 2 : WAIT_MAX_MS;
	}
}

uint32_t guest_id(struct guest *guest)
{
	return atomic_fetch_add(&guest->next_id, 1);
}

const struct guest_ports *guest_ports_of(const struct guest *guest)
{
	return guest->ports;
}

struct guest_shms *guest_shms(struct guest *guest)
{
	return &guest->shms;
}

/* ----- names */

/* struct question - about a name, and what is answered */
struct question {
	int32_t id;
	struct discovery_reply reply;
};

static bool is_reply(const uint8_t *buf, size_t size, void *arg)
{
	struct question *question = arg;
	struct discovery_reply reply;

	if (size > DISCOVERY_REPLY_MAX || discovery_reply_parse(buf, size, &reply) < 0 || reply.id != question->id)
		return false;
	reply.text = NULL;
	reply.text_size = 0;
	question->reply = reply;
	return true;
}

static int ask_from_new_socket(struct guest *guest, const struct discovery_request *request,
			       struct discovery_reply *ret_reply, unsigned *ret_sent)
{
	const struct vmci_handle service = { VMCI_CID_WELL_KNOWN, VMCI_RID_DISCOVERY };
	struct question question = { .id = request->id };
	uint8_t payload[DISCOVERY_PAYLOAD_MAX];
	size_t size = discovery_request_build(payload, request);
	uint32_t rid;
	int fd, result;

	if (size == 0)
		return lib_fail(VMCI_ERROR_INVALID_ARGS, "the name is too long");
	fd = guest_socket(guest, VMCI_INVALID_ID, &rid);
	if (fd < 0)
		return fd;
	result = guest_call(guest, fd, service, payload, size, is_reply, &question, ret_sent);
	fd_close(&fd);
	if (result >= 0)
		*ret_reply = question.reply;
	return result;
}

int guest_name(struct guest *guest, enum discovery_action action, const char *name, struct vmci_handle *handle)
{
	struct discovery_request request = {
		.action = action,
		.id = (int32_t)guest_id(guest),
		.handle = action == DISCOVERY_REGISTER ? *handle : handle_make(VMCI_INVALID_ID, VMCI_INVALID_ID),
		.name = name,
		.name_size = strlen(name),
	};
	struct discovery_reply reply = { .code = VMCI_ERROR_UNAVAILABLE };
	struct vmci_handle found;
	unsigned sent = 0;
	int result;

	if (request.name_size == 0 || request.name_size > DISCOVERY_NAME_MAX)
		return lib_fail(VMCI_ERROR_INVALID_ARGS, "a name has 1 to %u bytes", DISCOVERY_NAME_MAX);
	result = ask_from_new_socket(guest, &request, &reply, &sent);
	if (result < 0)
		return result;
	result = reply.code;
	if (sent > 1 && action == DISCOVERY_UNREGISTER && result == VMCI_ERROR_NOT_FOUND)
		result = VMCI_SUCCESS;
	if (sent > 1 && action == DISCOVERY_REGISTER && result == VMCI_ERROR_ALREADY_EXISTS &&
	    guest_name(guest, DISCOVERY_LOOKUP, name, &found) == VMCI_SUCCESS && handle_is_equal(found, *handle))
		result = VMCI_SUCCESS;
	if (result < 0)
		return lib_fail(result, "name \"%s\": %s", name, vmci_strerror(result));
	if (action == DISCOVERY_LOOKUP)
		*handle = reply.handle;
	return VMCI_SUCCESS;
}
