/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * DOC: Theory of operation
 *
 * A program that knows sockets only (through src/sock) has a SOCK_DGRAM UNIX socket, and forks, executes other
 * programs and passes the socket on as it likes; whoever has it is the endpoint. So the endpoint must not end with
 * the connection over which it was made, and nobody may be relied on to tell vmcid about it after a restart. Both are
 * had by binding the socket to a name in our folder "dgram", which says everything there is to know:
 *
 *	CONTEXT "." PORT "." UID [ "r" ]	decimal; r: the context is restricted
 *
 * vmcid has a socket of its own for each of them, connected to that name: the sink. For the broker, who knows
 * owners only, each is a client of its own, which has no connection.
 *
 * When the program's socket is closed by the last one who has it, nobody is told. It is found out by connecting once
 * more, which is refused then: every LIMIT_VMCID_SWEEP_USEC while there are any, and at once where it matters, when
 * somebody wishes the port, or quotas are exhausted.
 *
 * A new vmcid reads the folder. The names were made by vmcid alone: the folder is closed to all others.
 */
#include "endpoint.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
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
#include "thing.h"

#define FOLDER "dgram"

/**
 * struct endpoint - one
 * @fd:      of its sink, which has it
 * @path:    in the runtime directory
 */
struct endpoint {
	struct endpoint *next;
	struct brk_client *client;
	struct vmci_handle handle;
	int fd;
	char path[48];
};

/**
 * struct endpoints - all of them
 * @swept: when all were looked at last
 */
struct endpoints {
	struct server *server;
	struct endpoint *first;
	unsigned count;
	uint64_t swept;
	sd_event_source *sweep;
};

unsigned endpoints_count(const struct endpoints *endpoints)
{
	return endpoints ? endpoints->count : 0;
}

/* --- Their names ---------------------------------------------------------------------------------------------- */

static void make_path(struct endpoint *endpoint, uid_t uid, bool is_restricted)
{
	snprintf(endpoint->path, sizeof(endpoint->path), FOLDER "/%u.%u.%u%s", endpoint->handle.context,
		 endpoint->handle.resource, (unsigned)uid, is_restricted ? "r" : "");
}

static int make_address(const struct endpoints *endpoints, const struct endpoint *endpoint, struct sockaddr_un *ret_sun)
{
	*ret_sun = (struct sockaddr_un){ .sun_family = AF_UNIX };
	return rundir_path(endpoints->server->rundir, endpoint->path, ret_sun->sun_path, sizeof(ret_sun->sun_path));
}

/* Connect, or look whether it still can be. Return: 0; -ECONNREFUSED, -ENOENT: it has gone; another negative errno */
static int connect_to(const struct endpoints *endpoints, const struct endpoint *endpoint)
{
	struct sockaddr_un sun;
	int r = make_address(endpoints, endpoint, &sun);

	if (r)
		return r;
	return connect(endpoint->fd, (const struct sockaddr *)&sun, sizeof(sun)) ? -errno : 0;
}

/* --- Coming and going ----------------------------------------------------------------------------------------- */

/* With all that the broker has of it, the sink too; and with the ports of its context, if it was the last there. */
static void endpoint_free(struct endpoints *endpoints, struct endpoint *endpoint, bool unlink)
{
	struct server *server = endpoints->server;
	uint32_t cid = endpoint->client ? brk_client_cid(endpoint->client) : VMCI_INVALID_ID;

	if (unlink)
		rundir_unlink(server->rundir, endpoint->path);
	brk_client_free(endpoint->client);
	free(endpoint);
	/* Others of that context may be on their way: ports_settle() sees to it then. */
	if (server->is_stopping || server->in_grace)
		return;
	if (cid != VMCI_INVALID_ID && !brk_cid_is_there(server->brk, cid))
		ports_forget(server->ports, cid);
}

static bool has_gone(const struct endpoints *endpoints, const struct endpoint *endpoint)
{
	int r = connect_to(endpoints, endpoint);

	return r == -ECONNREFUSED || r == -ENOENT;
}

/* Forget those that have gone; @handle: this one only. Return: were there any? */
static bool sweep(struct endpoints *endpoints, const struct vmci_handle *handle)
{
	struct endpoint **at = &endpoints->first;
	unsigned before = endpoints->count;

	if (!handle)
		sd_event_now(endpoints->server->event, CLOCK_MONOTONIC, &endpoints->swept);
	while (*at) {
		struct endpoint *endpoint = *at;

		if ((handle && !handle_is_equal(endpoint->handle, *handle)) || !has_gone(endpoints, endpoint)) {
			at = &endpoint->next;
			continue;
		}
		*at = endpoint->next;
		endpoints->count--;
		log_debug("endpoint %u:%u: its socket is closed", endpoint->handle.context, endpoint->handle.resource);
		endpoint_free(endpoints, endpoint, true);
	}
	if (endpoints->count == before)
		return false;
	server_endpoints_changed(endpoints->server);
	return true;
}

void endpoints_evict(struct endpoints *endpoints)
{
	struct endpoint **at = &endpoints->first;
	unsigned before = endpoints->count;

	while (*at) {
		struct endpoint *endpoint = *at;

		if (brk_client_cid(endpoint->client) != VMCI_INVALID_ID) {
			at = &endpoint->next;
			continue;
		}
		*at = endpoint->next;
		endpoints->count--;
		log_debug("endpoint %u:%u: its context is somebody else's", endpoint->handle.context,
			  endpoint->handle.resource);
		endpoint_free(endpoints, endpoint, true);
	}
	if (endpoints->count != before)
		server_endpoints_changed(endpoints->server);
}

static void schedule(struct endpoints *endpoints)
{
	if (!endpoints->count) {
		sd_event_source_set_enabled(endpoints->sweep, SD_EVENT_OFF);
		return;
	}
	sd_event_source_set_time_relative(endpoints->sweep, LIMIT_VMCID_SWEEP_USEC);
	sd_event_source_set_enabled(endpoints->sweep, SD_EVENT_ONESHOT);
}

static int on_sweep(sd_event_source *source, uint64_t usec, void *ctx)
{
	struct endpoints *endpoints = ctx;

	(void)source;
	(void)usec;
	sweep(endpoints, NULL);
	schedule(endpoints);
	return 0;
}

static void add(struct endpoints *endpoints, struct endpoint *endpoint)
{
	endpoint->next = endpoints->first;
	endpoints->first = endpoint;
	if (!endpoints->count++)
		schedule(endpoints);
	server_endpoints_changed(endpoints->server);
}

/**
 * make() - tell the broker of an endpoint that is not connected yet
 * @cid, @port: its address, or a port to be chosen
 *
 * Return: 0; VMCI_ERROR_*; BRK_LATER
 */
static int32_t make(struct endpoints *endpoints, const struct brk_creds *creds, struct user *user, uint32_t cid,
		    uint32_t port, bool is_restricted, struct endpoint **ret_endpoint)
{
	struct server *server = endpoints->server;
	struct endpoint *endpoint = calloc(1, sizeof(*endpoint));
	uint8_t token[BRK_TOKEN_SIZE];
	struct thing *thing = NULL;
	int32_t r;
	int fd;

	if (!endpoint)
		return VMCI_ERROR_NO_MEM;
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0) {
		free(endpoint);
		return VMCI_ERROR_NO_RESOURCES;
	}
	endpoint->fd = fd;
	r = thing_new_sink(server->event, fd, user, &thing);
	if (r < 0)
		fd_close(&fd);
	if (!r)
		r = brk_client_new(server->brk, creds, NULL, &endpoint->client);
	if (!r)
		r = brk_hello(endpoint->client, cid, is_restricted, "socket", NULL, token);
	if (!r)
		r = brk_dg_create(endpoint->client, port, NULL, thing, &endpoint->handle, token);
	if (!r)
		r = brk_dg_share(endpoint->client, endpoint->handle);
	else
		thing_free(thing);
	if (r < 0) {
		endpoint_free(endpoints, endpoint, false);
		return r;
	}
	*ret_endpoint = endpoint;
	return 0;
}

/* --- Binding -------------------------------------------------------------------------------------------------- */

static const char *check(int fd, uid_t uid)
{
	struct sockaddr_un sun;
	struct stat st;
	int domain = 0, type = 0;
	socklen_t len = sizeof(domain);

	/* Whose it is, is who made it. */
	if (fstat(fd, &st) || st.st_uid != uid)
		return "a socket of another user";

	if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len) || domain != AF_UNIX)
		return "not a UNIX socket";
	len = sizeof(type);
	if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) || type != SOCK_DGRAM)
		return "not a SOCK_DGRAM socket";
	len = sizeof(sun);
	if (getsockname(fd, (struct sockaddr *)&sun, &len) || len > sizeof(sa_family_t))
		return "a socket that has a name";
	len = sizeof(sun);
	/* Of a pair, for example: it would take datagrams from nobody else. */
	if (!getpeername(fd, (struct sockaddr *)&sun, &len))
		return "a socket that is connected";
	return NULL;
}

/* Give the program's socket its name, and connect to it. Return: 0; VMCI_ERROR_*; -EINTR: somebody made us wait */
static int32_t name_it(const struct endpoints *endpoints, const struct endpoint *endpoint, int fd)
{
	struct sockaddr_un sun;
	mode_t mask;
	int r = make_address(endpoints, endpoint, &sun);

	if (!r) {
		/* The handle is ours: what lies there is left of somebody who has gone. */
		rundir_unlink(endpoints->server->rundir, endpoint->path);
		mask = umask(0177);
		r = patient_bind(fd, &sun, sizeof(sun));
		umask(mask);
	}
	if (!r)
		r = connect_to(endpoints, endpoint);
	if (!r || r == -EINTR)
		return r;
	log_debug("endpoint %u:%u: %s", endpoint->handle.context, endpoint->handle.resource, strerror(-r));
	return r == -ENOMEM ? VMCI_ERROR_NO_MEM : r == -EINVAL ? VMCI_ERROR_INVALID_ARGS : VMCI_ERROR_NO_RESOURCES;
}

/* Binding has failed with @result: is that because of some that have gone? */
static bool make_room(struct endpoints *endpoints, int32_t result, struct vmci_handle handle)
{
	uint64_t now = 0;

	if (result == VMCI_ERROR_ALREADY_EXISTS)
		return sweep(endpoints, &handle);
	if (result != VMCI_ERROR_NO_RESOURCES)
		return false;
	sd_event_now(endpoints->server->event, CLOCK_MONOTONIC, &now);
	return now - endpoints->swept >= LIMIT_VMCID_SWEEP_PAUSE_USEC && sweep(endpoints, NULL);
}

int32_t endpoint_bind(struct endpoints *endpoints, const struct endpoint_wish *wish, int fd,
		      struct vmci_handle *ret_handle)
{
	uint32_t cid = brk_client_cid(wish->client);
	bool is_restricted = brk_client_is_restricted(wish->client);
	const struct brk_creds creds = {
		.uid = wish->uid,
		.pid = wish->pid,
		.trusted = server_is_trusted(endpoints->server, wish->uid),
	};
	struct endpoint *endpoint;
	const char *odd;
	int32_t r;

	if (brk_client_is_device(wish->client) || cid == VMCI_INVALID_ID ||
	    (wish->handle.context != VMCI_INVALID_ID && wish->handle.context != cid))
		return VMCI_ERROR_INVALID_ARGS;
	odd = check(fd, wish->uid);
	if (odd) {
		server_note(endpoints->server, LOG_LEVEL_INFO, "%s: DG_BIND: %s", wish->name, odd);
		return VMCI_ERROR_INVALID_ARGS;
	}
	r = make(endpoints, &creds, wish->user, cid, wish->handle.resource, is_restricted, &endpoint);
	if (make_room(endpoints, r, handle_make(cid, wish->handle.resource)))
		r = make(endpoints, &creds, wish->user, cid, wish->handle.resource, is_restricted, &endpoint);
	if (r < 0)
		return r;
	make_path(endpoint, wish->uid, is_restricted);
	r = name_it(endpoints, endpoint, fd);
	if (r < 0) {
		endpoint_free(endpoints, endpoint, true);
		return r;
	}
	add(endpoints, endpoint);
	*ret_handle = endpoint->handle;
	return 0;
}

/* --- After a restart ------------------------------------------------------------------------------------------ */

/* Return: false: it is none that can be used */
static bool restore(void *ctx, const char *name)
{
	struct endpoints *endpoints = ctx;
	struct server *server = endpoints->server;
	struct brk_creds creds = { 0 };
	struct endpoint *endpoint;
	unsigned cid, port, uid;
	struct user *user;
	int end = 0;
	bool is_restricted;

	if (sscanf(name, "%u.%u.%u%n", &cid, &port, &uid, &end) != 3 || !end)
		return false;
	is_restricted = name[end] == 'r';
	if (name[end + is_restricted])
		return false;
	creds.uid = uid;
	creds.trusted = server_is_trusted(server, uid);
	user = user_ref(server->users, uid, creds.trusted);
	if (!user)
		return false;
	if (make(endpoints, &creds, user, cid, port, is_restricted, &endpoint) < 0)
		endpoint = NULL;
	user_unref(user);
	if (!endpoint)
		return false;
	make_path(endpoint, uid, is_restricted);
	if (connect_to(endpoints, endpoint)) {
		endpoint_free(endpoints, endpoint, false);
		return false;
	}
	add(endpoints, endpoint);
	return true;
}

void endpoints_restore(struct endpoints *endpoints)
{
	struct rundir *rundir = endpoints->server->rundir;
	int r = rundir_sweep(rundir, FOLDER, restore, endpoints);

	if (r)
		log_warn("%s/" FOLDER ": %s", rundir->path, strerror(-r));
	if (endpoints->count)
		log_info("%u sockets with datagrams are there", endpoints->count);
}

int endpoints_new(struct server *server, struct endpoints **ret_endpoints)
{
	struct endpoints *endpoints = calloc(1, sizeof(*endpoints));
	int r;

	if (!endpoints)
		return -ENOMEM;
	endpoints->server = server;
	r = sd_event_add_time_relative(server->event, &endpoints->sweep, CLOCK_MONOTONIC, 0, 0, on_sweep, endpoints);
	if (r >= 0)
		r = sd_event_source_set_enabled(endpoints->sweep, SD_EVENT_OFF);
	if (r < 0) {
		endpoints_free(endpoints);
		return r;
	}
	*ret_endpoints = endpoints;
	return 0;
}

struct endpoints *endpoints_free(struct endpoints *endpoints)
{
	if (!endpoints)
		return NULL;
	while (endpoints->first) {
		struct endpoint *endpoint = endpoints->first;

		endpoints->first = endpoint->next;
		endpoints->count--;
		/* The name of one that is in use is what the next vmcid finds it by. */
		endpoint_free(endpoints, endpoint, has_gone(endpoints, endpoint));
	}
	sd_event_source_disable_unref(endpoints->sweep);
	free(endpoints);
	return NULL;
}
