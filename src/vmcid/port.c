/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * DOC: Theory of operation
 *
 * A port is a socket of a program that we have bound to port/<context>/<port> in the runtime directory. We keep no copy
 * of it, so the kernel knows when it is gone: what is left then is a path to nothing, a *stale* one, which is removed
 * when somebody wants the port, and now and then. The state of all ports is what lies in the folder, and in
 * the kernel, so a new vmcid finds everything as it was.
 *
 * Is a path stale? A socket of another type is connected to it: the kernel says EPROTOTYPE if a stream socket
 * is bound there, listening or not, and ECONNREFUSED if none is. Nobody notices, and it does not matter in which
 * network name space the socket is, as it would for /proc/net/unix. Who is about to be connected there finds it out
 * by that, and is not looked for before (ports_glance()): making and closing a socket is half of a connection's price.
 *
 * The folder "port" is for us alone (mode 0700), so nobody else can connect to what lies there, and what a listener
 * accepts was connected here, after the broker was asked, and has the name that we gave it. The mode of a socket's
 * path means nothing for the same reason; it says whether who bound it was trusted (TRUSTED_MODE).
 *
 * Quotas: the sockets are their programs' own, the paths are ours. A user has LIMIT_PORTS_USER of them, stale ones
 * included; they are looked through when their number has doubled since the last time, so that a bind has a bounded
 * price on the average.
 *
 * Whose a path is must outlive us, or a context's next user would be met at what the last one had left there. The
 * file is ours, whatever the socket is; so the user is written down as the time of its last change, which nothing
 * else changes (MARK says that it is one of these). A new vmcid believes it, for the folder is closed to all others.
 * Until its grace period is over, what is from before it stays, since its owner may be on his way (@is_old); then
 * what is not the context's user's goes, and what bears no mark.
 *
 * Sockets that were passed are not ours alone. Their flags can be changed under us, and connect(2) waits for room in
 * the listener's queue unless O_NONBLOCK is set. So it is set, and an alarm ends a wait all the same (as in
 * closer.c). Who makes us wait has done so on purpose. The kernel binds and connects a socket once. So its name is
 * compared after it is set, whoever has set it, and before it is connected; nothing else is checked of a socket that
 * could change between check and use.
 *
 * A guest has no listeners here. Who connects to one is connected to a listener of our own that is there for just
 * that, so that the socket gets a peer with the right name; what it accepts goes to the guest's device. To a
 * program that does not wait for the guest's answer, a socket that is connected but cannot be written to looks like one
 * that is being connected (ports_stop()).
 */
#include "port.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"
#include "patient.h"
#include "proto/limits.h"

#define BUCKETS 1024u
#define TRUSTED_MODE 0700u
#define UNTRUSTED_MODE 0600u

/* Nanoseconds of the time that is a user: nobody has seen a clock show them on purpose. */
#define MARK 470815162

/* Chosen ports: from the first that anybody may have up to those that devices choose for themselves. */
#define FIRST_PORT (VMCI_PORT_LAST_RESERVED + 1)
#define END_PORT (1u << 30)

/* Random numbers that are fetched at once. */
#define RANDOMS 32u

/* Ports that are tried before we say that none is free. */
#define TRIES 64

/* "port/4294967295/4294967295" */
#define NAME_SIZE 32

struct owner;

/**
 * struct port - a path that we have made
 * @link: in its bucket; @by_owner: in the owner's list
 * @is_trusted: what its mode says, for those to whom it makes no difference (ports_glance())
 * @is_old: from before a restart, whose grace period is not over
 */
struct port {
	LIST_ENTRY(port) link;
	LIST_ENTRY(port) by_owner;
	struct owner *owner;
	uint32_t cid;
	uint32_t port;
	bool is_trusted;
	bool is_old;
};

/**
 * struct owner - a user who has ports
 * @sweep_at: so many ports are looked through
 * @swept_at: when that was done last, if it helped nothing; milliseconds
 */
struct owner {
	LIST_ENTRY(owner) link;
	LIST_HEAD(, port) ports;
	uid_t uid;
	unsigned count;
	unsigned sweep_at;
	int64_t swept_at;
};

/**
 * struct ports - all of them
 * @next: port to be chosen next: they are used again as late as possible
 * @random: numbers for names, @n_random of them not used yet
 */
struct ports {
	const struct rundir *rundir;
	LIST_HEAD(, port) bucket[BUCKETS];
	LIST_HEAD(, owner) owners;
	uint32_t next;
	uint64_t random[RANDOMS];
	unsigned n_random;
};

static int64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* --- Paths -------------------------------------------------------------------------------------------------------- */

static void folder_name(char *name, uint32_t cid)
{
	snprintf(name, NAME_SIZE, FAB_PORT_FOLDER "/%u", cid);
}

static void port_name(char *name, uint32_t cid, uint32_t port)
{
	snprintf(name, NAME_SIZE, FAB_PORT_FOLDER "/%u/%u", cid, port);
}

static int make_address(const struct ports *ports, uint32_t cid, uint32_t port, struct sockaddr_un *ret_sun)
{
	char name[NAME_SIZE];

	port_name(name, cid, port);
	*ret_sun = (struct sockaddr_un){ .sun_family = AF_UNIX };
	return rundir_path(ports->rundir, name, ret_sun->sun_path, sizeof(ret_sun->sun_path));
}

/* Has the path at @sun a socket? What cannot be found out counts as one. */
static bool is_alive(const struct sockaddr_un *sun)
{
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	bool is_gone;

	if (fd < 0)
		return true;
	is_gone = connect(fd, (const struct sockaddr *)sun, sizeof(*sun)) && (errno == ECONNREFUSED || errno == ENOENT);
	fd_close(&fd);
	return !is_gone;
}

static void remove_path(const struct ports *ports, uint32_t cid, uint32_t port)
{
	char name[NAME_SIZE];

	port_name(name, cid, port);
	rundir_unlink(ports->rundir, name);
}

/* Write down that the path is @uid's. Where that is not possible, it does not outlive us. */
static void mark(const struct ports *ports, uint32_t cid, uint32_t port, uid_t uid)
{
	const struct timespec times[2] = { { .tv_nsec = UTIME_OMIT }, { .tv_sec = (time_t)uid, .tv_nsec = MARK } };
	char name[NAME_SIZE];

	port_name(name, cid, port);
	if (utimensat(ports->rundir->fd, name, times, AT_SYMLINK_NOFOLLOW))
		log_debug("%s: whose it is cannot be written down: %s", name, strerror(errno));
}

static bool is_mode_trusted(const struct stat *st)
{
	return (st->st_mode & 0777) == TRUSTED_MODE;
}

/* Whose is the path? Return: false: that is not written down */
static bool read_mark(const struct ports *ports, uint32_t cid, uint32_t port, uid_t *ret_uid, bool *ret_is_trusted)
{
	char name[NAME_SIZE];
	struct stat st;

	port_name(name, cid, port);
	if (fstatat(ports->rundir->fd, name, &st, AT_SYMLINK_NOFOLLOW) || st.st_mtim.tv_nsec != MARK ||
	    st.st_mtim.tv_sec < 0 || st.st_mtim.tv_sec > UINT32_MAX)
		return false;
	*ret_uid = (uid_t)st.st_mtim.tv_sec;
	*ret_is_trusted = is_mode_trusted(&st);
	return true;
}

/* --- Whose they are ----------------------------------------------------------------------------------------------- */

static unsigned bucket_of(uint32_t cid, uint32_t port)
{
	uint32_t h = cid * 0x9e3779b1u ^ port * 0x85ebca6bu;

	return (h ^ h >> 16) % BUCKETS;
}

static struct port *find(const struct ports *ports, uint32_t cid, uint32_t port)
{
	struct port *p;

	LIST_FOREACH(p, &ports->bucket[bucket_of(cid, port)], link)
		if (p->cid == cid && p->port == port)
			return p;
	return NULL;
}

/* The path is gone, or about to be. */
static void drop(struct port *port)
{
	struct owner *owner = port->owner;

	LIST_REMOVE(port, link);
	LIST_REMOVE(port, by_owner);
	free(port);
	if (--owner->count)
		return;
	LIST_REMOVE(owner, link);
	free(owner);
}

static void drop_at(const struct ports *ports, uint32_t cid, uint32_t port)
{
	struct port *p = find(ports, cid, port);

	if (p)
		drop(p);
}

static struct owner *find_owner(const struct ports *ports, uid_t uid)
{
	struct owner *owner;

	LIST_FOREACH(owner, &ports->owners, link)
		if (owner->uid == uid)
			return owner;
	return NULL;
}

/* Write down that the path at @cid, @port is @uid's. Return: 0 or VMCI_ERROR_NO_MEM */
static int32_t note(struct ports *ports, uid_t uid, bool is_trusted, uint32_t cid, uint32_t port)
{
	struct owner *owner = find_owner(ports, uid);
	struct port *p = calloc(1, sizeof(*p));

	if (!p)
		return VMCI_ERROR_NO_MEM;
	if (!owner) {
		owner = calloc(1, sizeof(*owner));
		if (!owner) {
			free(p);
			return VMCI_ERROR_NO_MEM;
		}
		owner->uid = uid;
		owner->sweep_at = LIMIT_PORTS_SWEEP;
		LIST_INIT(&owner->ports);
		LIST_INSERT_HEAD(&ports->owners, owner, link);
	}
	p->owner = owner;
	p->cid = cid;
	p->port = port;
	p->is_trusted = is_trusted;
	LIST_INSERT_HEAD(&ports->bucket[bucket_of(cid, port)], p, link);
	LIST_INSERT_HEAD(&owner->ports, p, by_owner);
	owner->count++;
	return 0;
}

/* Remove the paths of @uid that are stale. */
static void sweep(struct ports *ports, uid_t uid)
{
	struct owner *owner = find_owner(ports, uid);
	struct port *port, *next;
	struct sockaddr_un sun;

	owner->swept_at = now_ms();
	/* One more, so that the owner stays until we are through. */
	owner->count++;
	for (port = LIST_FIRST(&owner->ports); port; port = next) {
		next = LIST_NEXT(port, by_owner);
		if (make_address(ports, port->cid, port->port, &sun) || is_alive(&sun))
			continue;
		remove_path(ports, port->cid, port->port);
		drop(port);
	}
	owner->count--;
	owner->sweep_at = 2 * owner->count > LIMIT_PORTS_SWEEP ? 2 * owner->count : LIMIT_PORTS_SWEEP;
	if (owner->sweep_at > LIMIT_PORTS_USER)
		owner->sweep_at = LIMIT_PORTS_USER;
	if (owner->count)
		return;
	LIST_REMOVE(owner, link);
	free(owner);
}

static bool has_room(struct ports *ports, uid_t uid)
{
	struct owner *owner = find_owner(ports, uid);

	if (!owner || owner->count < owner->sweep_at)
		return true;
	if (owner->count >= LIMIT_PORTS_USER && now_ms() - owner->swept_at < LIMIT_PORTS_SWEEP_MS)
		return false;
	sweep(ports, uid);
	owner = find_owner(ports, uid);
	return !owner || owner->count < LIMIT_PORTS_USER;
}

/* --- Sockets of others ------------------------------------------------------------------------------------------- */

static int option(int fd, int name)
{
	int value = -1;
	socklen_t len = sizeof(value);

	return getsockopt(fd, SOL_SOCKET, name, &value, &len) ? -1 : value;
}

static bool is_bound(int fd, struct sockaddr_un *sun, socklen_t *len)
{
	memset(sun, 0, sizeof(*sun));
	*len = sizeof(*sun);
	return getsockname(fd, (struct sockaddr *)sun, len) || *len > sizeof(sa_family_t);
}

static int32_t code_of(int error)
{
	switch (error) {
	case 0:
	case -EINTR:
		return error;
	case -ECONNREFUSED:
	case -ENOENT:
	case -EPROTOTYPE:
		return VMCI_ERROR_NOT_FOUND;
	case -EAGAIN:
		return VMCI_ERROR_WOULD_BLOCK;
	case -EINVAL:
	case -EISCONN:
	case -EALREADY:
	case -EINPROGRESS:
	case -ENAMETOOLONG:
	case -EOPNOTSUPP:
		return VMCI_ERROR_INVALID_ARGS;
	case -EACCES:
	case -EPERM:
		return VMCI_ERROR_NO_ACCESS;
	case -ENOMEM:
	case -ENOBUFS:
		return VMCI_ERROR_NO_MEM;
	case -EMFILE:
	case -ENFILE:
	case -ENOSPC:
	case -EDQUOT:
		return VMCI_ERROR_NO_RESOURCES;
	default:
		return VMCI_ERROR_UNAVAILABLE;
	}
}

static uint64_t random_bits(struct ports *ports)
{
	if (!ports->n_random) {
		(void)!getrandom(ports->random, sizeof(ports->random), GRND_NONBLOCK);
		ports->n_random = RANDOMS;
	}
	return ports->random[--ports->n_random];
}

/* --- Binding ----------------------------------------------------------------------------------------------------- */

static uint32_t choose(struct ports *ports)
{
	uint32_t port = ports->next++;

	if (ports->next == END_PORT)
		ports->next = FIRST_PORT;
	return port;
}

/* Bind to a certain path. -EADDRINUSE: there is something, stale or not */
static int bind_path(const struct ports *ports, int fd, const struct sockaddr_un *sun, uint32_t cid, uint32_t port,
		     mode_t mode)
{
	char name[NAME_SIZE];
	mode_t mask = umask(07777 & ~mode);
	int r = patient_bind(fd, sun, sizeof(*sun));

	if (r == -ENOENT) {
		folder_name(name, cid);
		umask(0);
		if (mkdirat(ports->rundir->fd, name, 0700) && errno != EEXIST)
			r = -errno;
		umask(07777 & ~mode);
		if (r == -ENOENT)
			r = patient_bind(fd, sun, sizeof(*sun));
	}
	umask(mask);
	if (r)
		return r;
	/* The mode that the program gave its socket (fchmod(2)) may have taken from it. */
	port_name(name, cid, port);
	(void)fchmodat(ports->rundir->fd, name, mode, 0);
	return 0;
}

static int32_t bind_one(struct ports *ports, int fd, uid_t uid, bool is_trusted, uint32_t cid, uint32_t port)
{
	mode_t mode = is_trusted ? TRUSTED_MODE : UNTRUSTED_MODE;
	struct sockaddr_un sun;
	int r = make_address(ports, cid, port, &sun);

	if (r)
		return code_of(r);
	r = bind_path(ports, fd, &sun, cid, port, mode);
	if (r == -EADDRINUSE && !is_alive(&sun)) {
		drop_at(ports, cid, port);
		remove_path(ports, cid, port);
		r = bind_path(ports, fd, &sun, cid, port, mode);
	}
	if (r)
		return r == -EADDRINUSE ? VMCI_ERROR_ALREADY_EXISTS : code_of(r);
	mark(ports, cid, port, uid);
	/* A path that somebody has removed from outside may be in the books still. */
	drop_at(ports, cid, port);
	if (note(ports, uid, is_trusted, cid, port) < 0) {
		remove_path(ports, cid, port);
		return VMCI_ERROR_NO_MEM;
	}
	return 0;
}

int32_t ports_bind(struct ports *ports, int fd, uid_t uid, bool is_trusted, uint32_t cid, uint32_t *port)
{
	struct sockaddr_un sun;
	socklen_t len;
	uint32_t chosen;
	int32_t r;

	if (is_bound(fd, &sun, &len))
		return VMCI_ERROR_INVALID_ARGS;
	if (!has_room(ports, uid))
		return VMCI_ERROR_NO_RESOURCES;
	if (*port != VMCI_PORT_ANY)
		return bind_one(ports, fd, uid, is_trusted, cid, *port);
	for (unsigned i = 0; i < TRIES; i++) {
		chosen = choose(ports);
		r = bind_one(ports, fd, uid, is_trusted, cid, chosen);
		if (r != VMCI_ERROR_ALREADY_EXISTS) {
			*port = chosen;
			return r;
		}
	}
	return VMCI_ERROR_NO_RESOURCES;
}

/* What lies in the folder, socket or not */
static enum brk_listener look_at_path(const struct ports *ports, uint32_t cid, uint32_t port)
{
	char name[NAME_SIZE];
	struct stat st;

	port_name(name, cid, port);
	if (fstatat(ports->rundir->fd, name, &st, AT_SYMLINK_NOFOLLOW) || !S_ISSOCK(st.st_mode))
		return BRK_LISTENER_NONE;
	return is_mode_trusted(&st) ? BRK_LISTENER_TRUSTED : BRK_LISTENER_UNTRUSTED;
}

enum brk_listener ports_glance(const struct ports *ports, uint32_t cid, uint32_t port)
{
	const struct port *p = find(ports, cid, port);

	if (p)
		return p->is_trusted ? BRK_LISTENER_TRUSTED : BRK_LISTENER_UNTRUSTED;
	/* It may be from before a restart, and whose it is could not be written down. */
	return look_at_path(ports, cid, port);
}

enum brk_listener ports_look(const struct ports *ports, uint32_t cid, uint32_t port)
{
	enum brk_listener listener = look_at_path(ports, cid, port);
	struct sockaddr_un sun;

	if (listener != BRK_LISTENER_NONE && (make_address(ports, cid, port, &sun) || !is_alive(&sun)))
		return BRK_LISTENER_NONE;
	return listener;
}

/* --- Connecting -------------------------------------------------------------------------------------------------- */

/* Is the name one that @self would get? Its port may be VMCI_PORT_ANY. @ret_address: what it says, if it is */
static bool is_name_of(const struct sockaddr_un *sun, socklen_t len, const struct fab_address *self,
		       struct fab_address *ret_address)
{
	return !fab_address_parse(sun, len, ret_address) && ret_address->kind == self->kind &&
	       ret_address->context == self->context &&
	       (self->port == VMCI_PORT_ANY || ret_address->port == self->port) && ret_address->uid == self->uid &&
	       ret_address->gid == self->gid && ret_address->pid == self->pid &&
	       strcmp(ret_address->vm, self->vm) == 0;
}

int32_t ports_source(struct ports *ports, int fd, struct fab_address *self)
{
	struct fab_address bound;
	struct sockaddr_un sun;
	socklen_t len;

	/* Bound by us for an earlier try, perhaps; what matters is that we would give it this name now. */
	if (is_bound(fd, &sun, &len)) {
		if (!is_name_of(&sun, len, self, &bound))
			return VMCI_ERROR_INVALID_ARGS;
		self->port = bound.port;
	}
	if (self->kind == FAB_ADDRESS_VM)
		return 0;
	if (self->port != VMCI_PORT_ANY)
		return ports_look(ports, self->context, self->port) ? VMCI_ERROR_ALREADY_EXISTS : 0;
	for (unsigned i = 0; i < TRIES; i++) {
		self->port = choose(ports);
		/* The books will do: another one is as good. */
		if (!find(ports, self->context, self->port))
			return 0;
	}
	return VMCI_ERROR_NO_RESOURCES;
}

/*
 * Give @fd its name, if it has none. What it was when ports_source() looked does not count: whoever else has the
 * socket may have bound it since. A name that is set stays, so one that we did not set is looked at now, and that is
 * the one that listeners see.
 *
 * Return: 0; -EINVAL: it has another name; another negative errno
 */
static int name_socket(struct ports *ports, int fd, const struct fab_address *self)
{
	struct fab_address bound;
	struct sockaddr_un sun;
	socklen_t len;
	int r = -EADDRINUSE;

	assert(self->kind == FAB_ADDRESS_VM || self->port != VMCI_PORT_ANY);
	/* Somebody has taken one of 2^52 names, or they are very many. */
	for (unsigned i = 0; i < 2 && r == -EADDRINUSE; i++) {
		len = fab_address_build(self, random_bits(ports), &sun);
		r = patient_bind(fd, &sun, len);
	}
	/* -EINVAL: it has a name. */
	if (r != -EINVAL)
		return r;
	return is_bound(fd, &sun, &len) && is_name_of(&sun, len, self, &bound) ? 0 : -EINVAL;
}

int32_t ports_connect(struct ports *ports, int fd, const struct fab_address *self, uint32_t cid, uint32_t port)
{
	struct sockaddr_un sun;
	int r = make_address(ports, cid, port, &sun);

	if (r)
		return code_of(r);
	patient_begin();
	r = name_socket(ports, fd, self);
	if (!r)
		r = patient_connect(fd, &sun, sizeof(sun));
	patient_end();
	return code_of(r);
}

int32_t ports_join(struct ports *ports, int fd, const struct fab_address *self, uint32_t cid, uint32_t port,
		   int *ret_end)
{
	struct sockaddr_un sun;
	int end = -1, listener, r = make_address(ports, cid, port, &sun);

	if (!r && option(fd, SO_TYPE) != SOCK_STREAM)
		r = -EINVAL;
	if (!r)
		r = name_socket(ports, fd, self);
	if (r)
		return code_of(r);
	listener = ports_socket();
	if (listener < 0)
		return code_of(listener);
	/* One that was killed in the middle of this may have left its path. */
	remove_path(ports, cid, port);
	r = bind_path(ports, listener, &sun, cid, port, UNTRUSTED_MODE);
	if (!r && listen(listener, 1))
		r = -errno;
	if (!r)
		r = patient_connect(fd, &sun, sizeof(sun));
	if (!r) {
		end = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		r = end < 0 ? -errno : 0;
	}
	remove_path(ports, cid, port);
	fd_close(&listener);
	if (r)
		return code_of(r);
	*ret_end = end;
	return 0;
}

static bool is_writable(int fd)
{
	struct pollfd pollfd = { .fd = fd, .events = POLLOUT };

	return poll(&pollfd, 1, 0) == 1 && pollfd.revents & POLLOUT;
}

/*
 * To poll(2) a socket is writable while no more than a quarter of its send buffer is taken (unix(7) does not say so,
 * tests/vm/guest/stopper.c looks), and what we write counts for more than its bytes. Nothing that others do with the
 * socket meanwhile harms anybody but them.
 */
uint32_t ports_stop(int fd)
{
	static const char nothing[65536];
	int room = option(fd, SO_SNDBUF);
	uint32_t want = room < 0 ? 0 : (uint32_t)room / 4 + 1, done = 0;

	if (!want || want > LIMIT_PORTS_STOPPER)
		return 0;
	while (done < LIMIT_PORTS_STOPPER && is_writable(fd)) {
		size_t size = want > done ? want - done : want;
		ssize_t n = send(fd, nothing, size < sizeof(nothing) ? size : sizeof(nothing),
				 MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n <= 0)
			break;
		done += (uint32_t)n;
	}
	return done;
}

int ports_socket(void)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	return fd < 0 ? -errno : fd;
}

/* --- Contexts that go -------------------------------------------------------------------------------------------- */

static bool read_id(const char *text, uint32_t *ret)
{
	char *end;
	unsigned long long id = strtoull(text, &end, 10);

	*ret = (uint32_t)id;
	return *text >= '0' && *text <= '9' && !*end && id <= UINT32_MAX;
}

static DIR *open_folder(const struct ports *ports, const char *name)
{
	int fd = openat(ports->rundir->fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);

	if (!dir)
		fd_close(&fd);
	return dir;
}

/* goes_fn - shall the path go? */
typedef bool goes_fn(const struct ports *ports, uint32_t cid, uint32_t port, const void *ctx);

/* Remove what lies in the folder of @cid and @goes. Then the folder, if nothing is left. */
static void clear(struct ports *ports, uint32_t cid, goes_fn *goes, const void *ctx)
{
	char name[NAME_SIZE];
	struct dirent *entry;
	uint32_t port;
	DIR *dir;

	folder_name(name, cid);
	dir = open_folder(ports, name);
	if (!dir)
		return;
	while ((entry = readdir(dir))) {
		if (!read_id(entry->d_name, &port) || !goes(ports, cid, port, ctx))
			continue;
		drop_at(ports, cid, port);
		remove_path(ports, cid, port);
	}
	closedir(dir);
	(void)unlinkat(ports->rundir->fd, name, AT_REMOVEDIR);
}

static bool all_go(const struct ports *ports, uint32_t cid, uint32_t port, const void *ctx)
{
	(void)ports;
	(void)cid;
	(void)port;
	(void)ctx;
	return true;
}

static bool stale_goes(const struct ports *ports, uint32_t cid, uint32_t port, const void *ctx)
{
	struct sockaddr_un sun;

	(void)ctx;
	return !make_address(ports, cid, port, &sun) && !is_alive(&sun);
}

/* What the user *@ctx does not have in the books. */
static bool others_go(const struct ports *ports, uint32_t cid, uint32_t port, const void *ctx)
{
	const uid_t *uid = ctx;
	const struct port *p = find(ports, cid, port);

	return !p || (p->owner->uid != *uid && !p->is_old);
}

/* After the grace period. The host's context is everybody's. */
static bool orphans_go(const struct ports *ports, uint32_t cid, uint32_t port, const void *ctx)
{
	const struct brk *brk = ctx;
	struct port *p = find(ports, cid, port);

	if (p)
		p->is_old = false;
	return cid != VMCI_CID_HOST && (!p || !brk_cid_is_of(brk, cid, p->owner->uid));
}

void ports_forget(struct ports *ports, uint32_t cid)
{
	clear(ports, cid, all_go, NULL);
}

void ports_claim(struct ports *ports, uint32_t cid, uid_t uid)
{
	clear(ports, cid, others_go, &uid);
}

/* Call @fn for each context that has a folder. */
static void for_each_folder(struct ports *ports, void (*fn)(struct ports *ports, uint32_t cid, const void *ctx),
			    const void *ctx)
{
	DIR *dir = open_folder(ports, FAB_PORT_FOLDER);
	struct dirent *entry;
	uint32_t cid;

	if (!dir)
		return;
	while ((entry = readdir(dir)))
		if (read_id(entry->d_name, &cid))
			fn(ports, cid, ctx);
	closedir(dir);
}

/* An earlier vmcid's: what is stale goes, the rest is written in the books. */
static void restore(struct ports *ports, uint32_t cid, const void *ctx)
{
	char name[NAME_SIZE];
	struct dirent *entry;
	bool is_trusted;
	uint32_t port;
	uid_t uid;
	DIR *dir;

	(void)ctx;
	clear(ports, cid, stale_goes, NULL);
	folder_name(name, cid);
	dir = open_folder(ports, name);
	if (!dir)
		return;
	while ((entry = readdir(dir)))
		if (read_id(entry->d_name, &port) && read_mark(ports, cid, port, &uid, &is_trusted) &&
		    note(ports, uid, is_trusted, cid, port) >= 0)
			find(ports, cid, port)->is_old = true;
	closedir(dir);
}

static void clear_orphans(struct ports *ports, uint32_t cid, const void *ctx)
{
	clear(ports, cid, orphans_go, ctx);
}

void ports_settle(struct ports *ports, const struct brk *brk)
{
	for_each_folder(ports, clear_orphans, brk);
}

int ports_new(const struct rundir *rundir, struct ports **ret_ports)
{
	struct ports *ports = calloc(1, sizeof(*ports));

	if (!ports)
		return -ENOMEM;
	ports->rundir = rundir;
	/* Somewhere else than an earlier one, whose ports may be remembered. */
	ports->next = FIRST_PORT + (uint32_t)(random_bits(ports) % (END_PORT - FIRST_PORT));
	for_each_folder(ports, restore, NULL);
	*ret_ports = ports;
	return 0;
}

struct ports *ports_free(struct ports *ports)
{
	if (!ports)
		return NULL;
	for (unsigned i = 0; i < BUCKETS; i++)
		while (!LIST_EMPTY(&ports->bucket[i]))
			drop(LIST_FIRST(&ports->bucket[i]));
	free(ports);
	return NULL;
}
