/* SPDX-License-Identifier: BSD-2-Clause */
#include "fake.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "base/fd.h"
#include "proto/dg.h"
#include "proto/discovery.h"

#define CONNECTIONS 32
#define SEEN 4096
#define NAMES 8

struct fake {
	char parent[32];
	char dir[80];
	pthread_mutex_t lock;
	pthread_cond_t changed;
	pthread_t thread;
	bool runs;
	int stop;
	int listener;
	int connection[CONNECTIONS];
	unsigned n_connections;
	unsigned n_accepted;
	unsigned n_open;

	struct seen seen[SEEN];
	unsigned n_seen;
	unsigned n_hellos;
	enum fab_type fault_type;
	unsigned fault_in;
	enum fault fault;
	int32_t fault_status;

	uint32_t rid;
	int sink;
	int events;
	int bell;
	int memory;
	uint64_t size;
	uint64_t offset;
	char names[NAMES][256];
	struct vmci_handle named[NAMES];
};

bool in_time(unsigned *waited_ms)
{
	struct timespec ms = { .tv_nsec = 1000000 };

	nanosleep(&ms, NULL);
	return ++*waited_ms < LIMIT_MS;
}

unsigned fds_open(void)
{
	DIR *dir = opendir("/proc/self/fd");
	unsigned n = 0;

	while (readdir(dir))
		n++;
	closedir(dir);
	return n - 3;
}

/* --- Replies ------------------------------------------------------------------------------------------------ */

static void keep(int *place, struct fab_msg *msg)
{
	fd_close(place);
	*place = fd_take(&msg->fd[0]);
}

static void make_handle(struct fake *fake, const struct fab_msg *msg, struct fab_msg *reply)
{
	uint32_t rid = msg->handle.resource;

	if (rid == VMCI_INVALID_ID || !rid)
		rid = fake->rid++;
	reply->handle = handle_make(VMCI_CID_HOST, rid);
	memset(reply->token, (int)(rid & 0x7f) + 1, sizeof(reply->token));
}

static void discover(struct fake *fake, const struct fab_msg *msg, struct fab_msg *reply, uint8_t *buf)
{
	struct discovery_reply answer = { .handle = { VMCI_INVALID_ID, VMCI_INVALID_ID } };
	struct discovery_request request;
	int at = -1, room = -1;

	assert(!discovery_request_parse(msg->data, msg->len, &request));
	for (int i = NAMES - 1; i >= 0; i--) {
		if (!fake->names[i][0])
			room = i;
		else if (strlen(fake->names[i]) == request.name_size &&
			 !memcmp(fake->names[i], request.name, request.name_size))
			at = i;
	}
	answer.id = request.id;
	if (request.action == DISCOVERY_REGISTER) {
		answer.code = at < 0 ? room < 0 ? VMCI_ERROR_NO_RESOURCES : 0 : VMCI_ERROR_ALREADY_EXISTS;
		if (!answer.code) {
			snprintf(fake->names[room], sizeof(fake->names[room]), "%.*s", (int)request.name_size,
				 request.name);
			fake->named[room] = request.handle;
			memset(reply->token, 0x77, sizeof(reply->token));
		}
	} else {
		answer.code = at < 0 ? VMCI_ERROR_NOT_FOUND : 0;
		if (!answer.code && request.action == DISCOVERY_UNREGISTER)
			fake->names[at][0] = '\0';
		else if (!answer.code)
			answer.handle = fake->named[at];
	}
	reply->len = discovery_reply_build(buf, &answer);
	reply->data = buf;
}

/* The reply to @msg. The lock is held. */
static void answer(struct fake *fake, struct fab_msg *msg, struct fab_msg *reply, uint8_t *buf)
{
	*reply = (struct fab_msg){ .type = msg->type, .kind = FAB_REPLY, .serial = msg->serial };
	switch (msg->type) {
	case FAB_HELLO:
		reply->size0 = FAB_VERSION;
		reply->handle.context = msg->handle.context == VMCI_INVALID_ID ? 0x10000 : msg->handle.context;
		memset(reply->token, 0x11, sizeof(reply->token));
		break;
	case FAB_DG_CREATE:
		make_handle(fake, msg, reply);
		keep(&fake->sink, msg);
		break;
	case FAB_DG_SEND:
		if (fake->stop < 0 && dg_parse(msg->data).dst.resource == FAKE_MORTAL_PORT)
			_exit(0);
		reply->status = (int32_t)msg->len;
		break;
	case FAB_EVENTS:
		keep(&fake->events, msg);
		break;
	case FAB_BELL_CREATE:
		make_handle(fake, msg, reply);
		keep(&fake->bell, msg);
		break;
	case FAB_BELL_OPEN:
		reply->fd[0] = fake->bell;
		reply->n_fds = 1;
		break;
	case FAB_QP_CREATE:
		make_handle(fake, msg, reply);
		reply->status = VMCI_SUCCESS_QUEUEPAIR_CREATE;
		break;
	case FAB_SHM_CREATE:
		make_handle(fake, msg, reply);
		keep(&fake->memory, msg);
		fake->size = msg->size0;
		fake->offset = msg->size1;
		break;
	case FAB_SHM_QUERY:
		reply->size0 = fake->size;
		break;
	case FAB_SHM_ATTACH:
		reply->size0 = fake->size;
		reply->size1 = fake->offset;
		memset(reply->token, 0x55, sizeof(reply->token));
		reply->fd[0] = fake->memory;
		reply->n_fds = 1;
		break;
	case FAB_SHM_DETACH:
		reply->status = VMCI_SUCCESS_LAST_DETACH;
		break;
	case FAB_NAME:
		discover(fake, msg, reply, buf);
		break;
	case FAB_PRIV:
		reply->status = msg->flags & FAB_F_CHECK ? VMCI_SUCCESS_ACCESS_GRANTED : 0;
		break;
	case FAB_GROUP_CREATE:
		make_handle(fake, msg, reply);
		break;
	case FAB_GROUP_MEMBER:
		reply->status = msg->flags & FAB_F_CHECK ? 1 : 0;
		break;
	default:
		break;
	}
	if (reply->n_fds && reply->fd[0] < 0) {
		*reply = (struct fab_msg){ .type = msg->type, .kind = FAB_REPLY, .serial = msg->serial,
					   .status = VMCI_ERROR_NOT_FOUND };
	}
}

/* A packet without the checks of fab_send(). */
static void send_raw(int fd, const uint8_t *packet, size_t size, int passed, unsigned n_fds)
{
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(8 * sizeof(int))];
	} control = { 0 };
	struct iovec iov = { (void *)(uintptr_t)packet, size };
	struct msghdr hdr = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (n_fds) {
		struct cmsghdr *cmsg = &control.align;

		hdr.msg_control = control.buf;
		hdr.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
		cmsg->cmsg_level = SOL_SOCKET;
		cmsg->cmsg_type = SCM_RIGHTS;
		cmsg->cmsg_len = CMSG_LEN(n_fds * sizeof(int));
		for (unsigned i = 0; i < n_fds; i++)
			memcpy(CMSG_DATA(cmsg) + i * sizeof(int), &passed, sizeof(int));
	}
	sendmsg(fd, &hdr, MSG_NOSIGNAL | MSG_DONTWAIT);
}

/* Send @reply, as wrong as @fault says. Return: the connection goes on */
static bool send_wrong(int fd, enum fault fault, const struct fab_msg *reply)
{
	uint8_t packet[FAB_HEADER_SIZE + 400] = { 0 };

	fab_build(reply, packet);
	switch (fault) {
	case FAULT_DIE_AFTER:
		fab_send(fd, reply);
		return false;
	case FAULT_GARBAGE:
		memset(packet, 0xa5, sizeof(packet));
		send_raw(fd, packet, 80, -1, 0);
		return true;
	case FAULT_SHORT:
		send_raw(fd, packet, FAB_HEADER_SIZE / 2, -1, 0);
		return true;
	case FAULT_TYPE:
		packet[0] = packet[0] == FAB_DG_DESTROY ? FAB_BELL_DESTROY : FAB_DG_DESTROY;
		memset(packet + 8, 0, FAB_HEADER_SIZE - 8);
		send_raw(fd, packet, FAB_HEADER_SIZE, -1, 0);
		return true;
	case FAULT_SERIAL:
		packet[4] ^= 0x55;
		send_raw(fd, packet, FAB_HEADER_SIZE, reply->fd[0], reply->n_fds);
		return true;
	case FAULT_KIND:
		packet[2] = FAB_REQUEST;
		send_raw(fd, packet, FAB_HEADER_SIZE, reply->fd[0], reply->n_fds);
		return true;
	case FAULT_FDS:
		send_raw(fd, packet, FAB_HEADER_SIZE, fd, 6);
		return true;
	case FAULT_NO_FDS:
		send_raw(fd, packet, FAB_HEADER_SIZE, fd, reply->n_fds ? 0 : 1);
		return true;
	case FAULT_DATA:
		send_raw(fd, packet, FAB_HEADER_SIZE + (reply->len ? 0 : 8), reply->fd[0], reply->n_fds);
		return true;
	default:
		return false;
	}
}

/* --- Requests ----------------------------------------------------------------------------------------------- */

static void note(struct fake *fake, const struct fab_msg *msg)
{
	struct seen *seen = &fake->seen[fake->n_seen % SEEN];
	struct stat st;

	seen->msg = *msg;
	seen->msg.data = NULL;
	if (msg->len)
		memcpy(seen->data, msg->data, msg->len < sizeof(seen->data) ? msg->len : sizeof(seen->data));
	if (msg->n_fds && !fstat(msg->fd[0], &st)) {
		seen->dev = st.st_dev;
		seen->ino = st.st_ino;
	}
	fake->n_seen++;
	if (msg->type == FAB_HELLO)
		fake->n_hellos++;
	pthread_cond_broadcast(&fake->changed);
}

/* Serve one request. Return: the connection goes on */
static bool serve(struct fake *fake, int fd)
{
	static uint8_t buf[FAB_MSG_MAX];
	uint8_t data[DISCOVERY_REPLY_MAX];
	struct fab_msg msg, reply;
	enum fault fault = FAULT_NONE;
	bool goes_on = true;
	int r = fab_recv(fd, buf, &msg);

	if (r)
		return r == -EAGAIN;
	pthread_mutex_lock(&fake->lock);
	note(fake, &msg);
	if (fake->fault_in && msg.type == fake->fault_type && !--fake->fault_in)
		fault = fake->fault;
	if (fault == FAULT_DIE_BEFORE) {
		goes_on = false;
	} else if (fault == FAULT_REFUSE) {
		reply = (struct fab_msg){ .type = msg.type, .kind = FAB_REPLY, .serial = msg.serial,
					  .status = fake->fault_status };
		fab_send(fd, &reply);
	} else if (fault != FAULT_SILENT) {
		answer(fake, &msg, &reply, data);
		if (fault == FAULT_NONE)
			goes_on = !fab_send(fd, &reply);
		else
			goes_on = send_wrong(fd, fault, &reply);
	}
	pthread_mutex_unlock(&fake->lock);
	fab_drop(&msg);
	return goes_on;
}

/* What a client had goes with it; there is one at a time in the tests to which that matters. */
static void end_connection(struct fake *fake, int *fd)
{
	pthread_mutex_lock(&fake->lock);
	memset(fake->names, 0, sizeof(fake->names));
	fake->n_open--;
	pthread_mutex_unlock(&fake->lock);
	fd_close(fd);
}

static void turn(struct fake *fake, struct pollfd *pollfd, unsigned n)
{
	unsigned kept = 0;

	for (unsigned i = 0; i < n; i++) {
		if (!pollfd[i].revents || serve(fake, pollfd[i].fd))
			fake->connection[kept++] = pollfd[i].fd;
		else
			end_connection(fake, &pollfd[i].fd);
	}
	fake->n_connections = kept;
}

static void *run(void *arg)
{
	struct fake *fake = arg;

	for (;;) {
		struct pollfd pollfd[CONNECTIONS + 2];
		unsigned n = fake->n_connections;

		for (unsigned i = 0; i < n; i++)
			pollfd[i] = (struct pollfd){ .fd = fake->connection[i], .events = POLLIN };
		pollfd[n] = (struct pollfd){ .fd = fake->listener, .events = POLLIN };
		pollfd[n + 1] = (struct pollfd){ .fd = fake->stop, .events = POLLIN };
		poll(pollfd, n + 2, -1);
		if (pollfd[n + 1].revents)
			return NULL;
		turn(fake, pollfd, n);
		if (pollfd[n].revents && fake->n_connections < CONNECTIONS) {
			int fd = accept4(fake->listener, NULL, NULL, SOCK_CLOEXEC);

			if (fd >= 0) {
				fake->connection[fake->n_connections++] = fd;
				fake->n_accepted++;
				pthread_mutex_lock(&fake->lock);
				fake->n_open++;
				pthread_mutex_unlock(&fake->lock);
			}
		}
		if (fake->stop < 0 && fake->n_accepted && !fake->n_connections)
			return NULL;
	}
}

/* --- Life --------------------------------------------------------------------------------------------------- */

static void socket_path(const struct fake *fake, char *path, size_t size)
{
	snprintf(path, size, "%s/control.sock", fake->dir);
}

static void fake_listen(struct fake *fake)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	socket_path(fake, address.sun_path, sizeof(address.sun_path));
	unlink(address.sun_path);
	fake->listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	assert(!bind(fake->listener, (struct sockaddr *)&address, sizeof(address)));
	assert(!listen(fake->listener, 64));
}

static struct fake *make(void)
{
	struct fake *fake = calloc(1, sizeof(*fake));

	assert(fake);
	fake->rid = FAKE_FIRST_RID;
	fake->sink = fake->events = fake->bell = fake->memory = fake->listener = fake->stop = -1;
	pthread_mutex_init(&fake->lock, NULL);
	pthread_cond_init(&fake->changed, NULL);
	return fake;
}

void fake_rise(struct fake *fake)
{
	assert(!fake->runs);
	fake->stop = eventfd(0, EFD_CLOEXEC);
	fake_listen(fake);
	assert(!pthread_create(&fake->thread, NULL, run, fake));
	fake->runs = true;
}

void fake_die(struct fake *fake)
{
	if (!fake->runs)
		return;
	eventfd_write(fake->stop, 1);
	pthread_join(fake->thread, NULL);
	fake->runs = false;
	/* Nobody is to find it listening, and its connections ended. */
	fd_close(&fake->listener);
	for (unsigned i = 0; i < fake->n_connections; i++)
		fd_close(&fake->connection[i]);
	fake->n_connections = fake->n_open = 0;
	fd_close(&fake->stop);
	fd_close(&fake->sink);
	fd_close(&fake->events);
	fd_close(&fake->bell);
	fd_close(&fake->memory);
	memset(fake->names, 0, sizeof(fake->names));
}

struct fake *fake_new(void)
{
	struct fake *fake = make();

	strcpy(fake->parent, "/tmp/vmci-test-XXXXXX");
	assert(mkdtemp(fake->parent));
	snprintf(fake->dir, sizeof(fake->dir), "%s/run", fake->parent);
	assert(!mkdir(fake->dir, 0700));
	fake_rise(fake);
	return fake;
}

void fake_free(struct fake *fake)
{
	char path[200];

	fake_die(fake);
	socket_path(fake, path, sizeof(path));
	unlink(path);
	rmdir(fake->dir);
	rmdir(fake->parent);
	pthread_cond_destroy(&fake->changed);
	pthread_mutex_destroy(&fake->lock);
	free(fake);
}

int fake_serve(const char *dir)
{
	struct fake *fake = make();

	snprintf(fake->dir, sizeof(fake->dir), "%s", dir);
	fake_listen(fake);
	run(fake);
	fd_close(&fake->listener);
	return 0;
}

const char *fake_dir(const struct fake *fake)
{
	return fake->dir;
}

/* --- For tests ---------------------------------------------------------------------------------------------- */

void fake_fault(struct fake *fake, enum fab_type type, unsigned nth, enum fault fault, int32_t status)
{
	pthread_mutex_lock(&fake->lock);
	fake->fault_type = type;
	fake->fault_in = nth;
	fake->fault = fault;
	fake->fault_status = status;
	pthread_mutex_unlock(&fake->lock);
}

/* The @nth of @type, or NULL. The lock is held. */
static const struct seen *find(struct fake *fake, enum fab_type type, unsigned nth)
{
	for (unsigned i = 0; i < fake->n_seen && i < SEEN; i++)
		if (fake->seen[i].msg.type == type && !nth--)
			return &fake->seen[i];
	return NULL;
}

struct seen fake_seen(struct fake *fake, enum fab_type type, unsigned nth)
{
	const struct seen *found = NULL;
	struct seen seen = { 0 };
	unsigned waited = 0;

	do {
		pthread_mutex_lock(&fake->lock);
		found = find(fake, type, nth);
		if (found)
			seen = *found;
		pthread_mutex_unlock(&fake->lock);
	} while (!found && in_time(&waited));
	if (!found)
		fail_msg("no request %s came", fab_type_to_string(type));
	return seen;
}

unsigned fake_count(struct fake *fake, enum fab_type type)
{
	unsigned n = 0;

	pthread_mutex_lock(&fake->lock);
	for (unsigned i = 0; i < fake->n_seen && i < SEEN; i++)
		n += fake->seen[i].msg.type == type;
	pthread_mutex_unlock(&fake->lock);
	return n;
}

void fake_clear(struct fake *fake)
{
	pthread_mutex_lock(&fake->lock);
	fake->n_seen = 0;
	pthread_mutex_unlock(&fake->lock);
}

unsigned fake_hellos(struct fake *fake)
{
	unsigned n;

	pthread_mutex_lock(&fake->lock);
	n = fake->n_hellos;
	pthread_mutex_unlock(&fake->lock);
	return n;
}

unsigned fake_connections(struct fake *fake)
{
	unsigned n;

	pthread_mutex_lock(&fake->lock);
	n = fake->n_open;
	pthread_mutex_unlock(&fake->lock);
	return n;
}

void fake_wait_hellos(struct fake *fake, unsigned n)
{
	unsigned waited = 0;

	while (fake_hellos(fake) < n)
		if (!in_time(&waited))
			fail_msg("%u hellos instead of %u", fake_hellos(fake), n);
}

static void write_to(struct fake *fake, const int *place, const void *packet, size_t size)
{
	pthread_mutex_lock(&fake->lock);
	assert_int_equal(send(*place, packet, size, MSG_NOSIGNAL | MSG_DONTWAIT), (ssize_t)size);
	pthread_mutex_unlock(&fake->lock);
}

void fake_deliver_raw(struct fake *fake, const void *packet, size_t size)
{
	write_to(fake, &fake->sink, packet, size);
}

void fake_deliver(struct fake *fake, struct vmci_handle src, uint64_t said, const void *payload, size_t size)
{
	uint8_t *dg = malloc(VMCI_DG_HEADER_SIZE + size);

	dg_build(dg, handle_make(VMCI_CID_HOST, FAKE_FIRST_RID), src, said);
	if (size)
		memcpy(dg + VMCI_DG_HEADER_SIZE, payload, size);
	fake_deliver_raw(fake, dg, VMCI_DG_HEADER_SIZE + size);
	free(dg);
}

void fake_shutdown_sink(struct fake *fake)
{
	pthread_mutex_lock(&fake->lock);
	shutdown(fake->sink, SHUT_RDWR);
	pthread_mutex_unlock(&fake->lock);
}

void fake_event(struct fake *fake, const void *dg, size_t size)
{
	write_to(fake, &fake->events, dg, size);
}

int fake_bell(struct fake *fake)
{
	int fd;

	pthread_mutex_lock(&fake->lock);
	fd = fcntl(fake->bell, F_DUPFD_CLOEXEC, 0);
	pthread_mutex_unlock(&fake->lock);
	return fd;
}

void fake_give(struct fake *fake, int fd, uint64_t size, uint64_t offset)
{
	pthread_mutex_lock(&fake->lock);
	fd_close(&fake->bell);
	fd_close(&fake->memory);
	fake->bell = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	fake->memory = fd;
	fake->size = size;
	fake->offset = offset;
	pthread_mutex_unlock(&fake->lock);
}
