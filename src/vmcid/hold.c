/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * DOC: Theory of operation
 *
 * A program under vmci-run(1) need not know of vmcid, so it cannot come back to a new one and say that it has a
 * context. Something that it has must be found there: a socket of SOCK_SEQPACKET that it inherits. We have bound it
 * to a name in our folder "held", which says everything there is to know, and let it listen:
 *
 *	CONTEXT "." UID "." NUMBER [ "r" ]	decimal; r: the context is restricted
 *
 * and are connected to it. Nobody accepts that: it stays in the listener's queue, and the kernel ends it when the last
 * one who has the listener closes it. So we hear at once when the program and all that it has started have gone, and
 * the context goes with its ports, if nobody else is in it. For the broker each hold is a client of its own, which has
 * no connection.
 *
 * A new vmcid reads the folder, before anybody else is served, and connects to what is still there: the context is the
 * same user's again. Who else wants it is told what he would have been told before. The names were made by vmcid alone,
 * and nobody else gets to the sockets: the folder is closed to all others. A name must not say more than is true: a
 * hold whose context was lost to somebody with a newer token goes at once (holds_evict()), or it would win it back.
 * What earlier vmcids have left in the queue takes places in it, of which there are as many as listen(2) gives (4096).
 *
 * The socket is good for nothing else, so whoever has it may have fewer rights than who made it. Who accepts from it
 * could end our connection without closing the listener; or say something, to which nobody listens. The first is
 * nothing that happens by itself, and ends the hold; the second stays in the socket, in which there is not much room,
 * and no descriptor can come from there where the kernel can see to that (else closer.c).
 */
#include "hold.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/closer.h"
#include "base/fd.h"
#include "base/log.h"
#include "patient.h"
#include "port.h"
#include "proto/limits.h"

#define FOLDER "held"

/* Numbers that are tried before we say that there are too many. */
#define TRIES 64

/**
 * struct hold - one
 * @user: who pays for @fd
 * @fd:   our end
 * @path: in the runtime directory; "": there is none yet
 */
struct hold {
	LIST_ENTRY(hold) link;
	struct holds *holds;
	struct brk_client *client;
	struct user *user;
	int fd;
	sd_event_source *io;
	char path[48];
};

/**
 * struct holds - all of them
 * @next: number of the next one
 */
struct holds {
	struct server *server;
	LIST_HEAD(, hold) all;
	unsigned count;
	uint32_t next;
};

unsigned holds_count(const struct holds *holds)
{
	return holds ? holds->count : 0;
}

uint32_t hold_cid(const struct hold *hold)
{
	return brk_client_cid(hold->client);
}

static void make_path(struct hold *hold, uid_t uid, uint32_t number)
{
	snprintf(hold->path, sizeof(hold->path), FOLDER "/%u.%u.%u%s", hold_cid(hold), (unsigned)uid, number,
		 brk_client_is_restricted(hold->client) ? "r" : "");
}

static int make_address(const struct hold *hold, struct sockaddr_un *ret_sun)
{
	*ret_sun = (struct sockaddr_un){ .sun_family = AF_UNIX };
	return rundir_path(hold->holds->server->rundir, hold->path, ret_sun->sun_path, sizeof(ret_sun->sun_path));
}

/* Forget it. The context goes, with its ports, if it was the last one there. */
static struct hold *release(struct hold *hold, bool unlink)
{
	struct server *server = hold->holds->server;
	uint32_t cid = hold->client ? hold_cid(hold) : VMCI_INVALID_ID;

	if (unlink && hold->path[0])
		rundir_unlink(server->rundir, hold->path);
	LIST_REMOVE(hold, link);
	hold->holds->count--;
	brk_client_free(hold->client);
	sd_event_source_disable_unref(hold->io);
	if (hold->fd >= 0)
		user_drop(hold->user, 1);
	closer_close(&hold->fd);
	user_unref(hold->user);
	free(hold);
	server_endpoints_changed(server);
	/* Others of that context may be on their way: ports_settle() sees to it then. */
	if (!server->is_stopping && !server->in_grace && cid != VMCI_INVALID_ID && !brk_cid_is_there(server->brk, cid))
		ports_forget(server->ports, cid);
	return NULL;
}

struct hold *hold_free(struct hold *hold)
{
	return release(hold, true);
}

/* Connect to the listener. Return: a descriptor; -ECONNREFUSED, -ENOENT: it has gone; another negative errno */
static int dial(const struct hold *hold)
{
	int fd, r = rundir_connect(hold->holds->server->rundir, hold->path, SOCK_SEQPACKET);

	if (r < 0)
		return r;
	fd = r;
	closer_refuse(fd);
	return fd;
}

static int on_end(sd_event_source *source, int fd, uint32_t events, void *ctx)
{
	struct hold *hold = ctx;
	struct server *server = hold->holds->server;
	int again = dial(hold);

	(void)source;
	(void)fd;
	(void)events;
	if (again >= 0 || again == -EAGAIN)
		server_note(server, LOG_LEVEL_WARN, "%s: dropped: it was to hold its context and no more, and was used",
			    hold->path);
	else
		log_debug("%s: its socket is closed", hold->path);
	closer_close(&again);
	release(hold, true);
	return 0;
}

/* Its end is told, and nothing else. Return: 0 or a negative errno */
static int watch(struct hold *hold)
{
	int r = dial(hold);

	if (r < 0)
		return r;
	if (!user_take(hold->user, 1)) {
		fd_close(&r);
		return -EMFILE;
	}
	hold->fd = r;
	r = sd_event_add_io(hold->holds->server->event, &hold->io, hold->fd, 0, on_end, hold);
	return r < 0 ? r : 0;
}

/* One that is a client of the broker, and nothing more yet. Return: 0; VMCI_ERROR_*; BRK_LATER */
static int32_t make(struct holds *holds, const struct hold_wish *wish, struct hold **ret_hold)
{
	struct server *server = holds->server;
	const struct brk_creds creds = {
		.uid = wish->uid,
		.pid = wish->pid,
		.trusted = server_is_trusted(server, wish->uid),
	};
	struct hold *hold = calloc(1, sizeof(*hold));
	uint8_t token[BRK_TOKEN_SIZE];
	int32_t r;

	if (!hold)
		return VMCI_ERROR_NO_MEM;
	hold->holds = holds;
	hold->user = user_again(wish->user);
	hold->fd = -1;
	LIST_INSERT_HEAD(&holds->all, hold, link);
	holds->count++;
	r = brk_client_new(server->brk, &creds, NULL, &hold->client);
	if (!r)
		r = brk_hello(hold->client, wish->cid, wish->is_restricted, wish->label, wish->resume, token);
	if (r < 0) {
		release(hold, false);
		return r;
	}
	*ret_hold = hold;
	return 0;
}

/* --- Holding -------------------------------------------------------------------------------------------------- */

static const char *check(int fd, uid_t uid)
{
	struct sockaddr_un sun;
	struct stat st;
	int domain = 0, type = 0;
	socklen_t len = sizeof(domain);

	if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len) || domain != AF_UNIX)
		return "not a UNIX socket";
	len = sizeof(type);
	if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) || type != SOCK_SEQPACKET)
		return "not a SOCK_SEQPACKET socket";
	/* Whose it is, is who made it. */
	if (fstat(fd, &st) || st.st_uid != uid)
		return "a socket of another user";
	len = sizeof(sun);
	if (!getpeername(fd, (struct sockaddr *)&sun, &len))
		return "a socket that is connected";
	return NULL;
}

/* Give the program's socket a name that nobody has. Return: 0 or a negative errno; -EINVAL: it has one */
static int name_it(struct hold *hold, uid_t uid, int fd)
{
	struct sockaddr_un sun;
	int r = -EADDRINUSE;

	for (unsigned i = 0; i < TRIES && r == -EADDRINUSE; i++) {
		make_path(hold, uid, hold->holds->next++);
		r = make_address(hold, &sun);
		if (!r)
			r = patient_bind(fd, &sun, sizeof(sun));
	}
	/* What lies there is not ours. */
	if (r)
		hold->path[0] = '\0';
	return r;
}

int32_t hold_new(struct holds *holds, const struct hold_wish *wish, int fd, struct hold **ret_hold)
{
	const char *odd = check(fd, wish->uid);
	struct hold *hold;
	int32_t r;
	mode_t mask;

	if (odd) {
		server_note(holds->server, LOG_LEVEL_INFO, "%s: HELLO: %s", wish->name, odd);
		return VMCI_ERROR_INVALID_ARGS;
	}
	r = make(holds, wish, &hold);
	if (r < 0)
		return r;
	mask = umask(0177);
	r = name_it(hold, wish->uid, fd);
	umask(mask);
	if (!r && listen(fd, SOMAXCONN))
		r = -errno;
	if (!r)
		r = watch(hold);
	if (!r) {
		server_endpoints_changed(holds->server);
		*ret_hold = hold;
		return 0;
	}
	if (r != -EINTR)
		log_debug("%s: HELLO: its socket cannot hold a context: %s", wish->name, strerror(-r));
	release(hold, true);
	if (r == -EINTR)
		return r;
	return r == -ENOMEM ? VMCI_ERROR_NO_MEM : r == -EINVAL ? VMCI_ERROR_INVALID_ARGS : VMCI_ERROR_NO_RESOURCES;
}

/* --- After a restart ------------------------------------------------------------------------------------------ */

/* Return: false: it is none that can be used */
static bool restore(void *ctx, const char *name)
{
	struct holds *holds = ctx;
	struct server *server = holds->server;
	struct hold_wish wish = { .label = "held" };
	unsigned cid, uid, number;
	struct hold *hold;
	int end = 0;

	if (sscanf(name, "%u.%u.%u%n", &cid, &uid, &number, &end) != 3 || !end)
		return false;
	wish.is_restricted = name[end] == 'r';
	if (name[end + wish.is_restricted])
		return false;
	if (holds->next <= number)
		holds->next = number + 1;
	wish.cid = cid;
	wish.uid = uid;
	wish.user = user_ref(server->users, uid, server_is_trusted(server, uid));
	if (!wish.user)
		return false;
	if (make(holds, &wish, &hold) < 0)
		hold = NULL;
	user_unref(wish.user);
	if (!hold)
		return false;
	make_path(hold, uid, number);
	if (!watch(hold))
		return true;
	release(hold, false);
	return false;
}

void holds_restore(struct holds *holds)
{
	struct rundir *rundir = holds->server->rundir;
	int r = rundir_sweep(rundir, FOLDER, restore, holds);

	if (r)
		log_warn("%s/" FOLDER ": %s", rundir->path, strerror(-r));
	if (holds->count)
		log_info("%u programs are there that hold their contexts", holds->count);
}

void holds_evict(struct holds *holds)
{
	struct hold *hold, *next;

	for (hold = LIST_FIRST(&holds->all); hold; hold = next) {
		next = LIST_NEXT(hold, link);
		if (hold_cid(hold) != VMCI_INVALID_ID)
			continue;
		log_debug("%s: its context is somebody else's", hold->path);
		release(hold, true);
	}
}

int holds_new(struct server *server, struct holds **ret_holds)
{
	struct holds *holds = calloc(1, sizeof(*holds));

	if (!holds)
		return -ENOMEM;
	holds->server = server;
	LIST_INIT(&holds->all);
	*ret_holds = holds;
	return 0;
}

/* Has its listener gone, without our having been told yet? */
static bool has_gone(const struct hold *hold)
{
	struct pollfd pollfd = { .fd = hold->fd };

	return poll(&pollfd, 1, 0) > 0;
}

struct holds *holds_free(struct holds *holds)
{
	if (!holds)
		return NULL;
	while (!LIST_EMPTY(&holds->all)) {
		struct hold *hold = LIST_FIRST(&holds->all);

		/* The name of one that is in use is what the next vmcid finds it by. */
		release(hold, has_gone(hold));
	}
	free(holds);
	return NULL;
}
