/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * DOC: Theory of operation
 *
 * One thread, one event loop. The broker has the rules; peers are the connections; things are descriptors that
 * clients have passed; VMs are started and found again by vm.c. This file is what holds them together: the control
 * socket, the ports of the broker, the grace period, and the end.
 *
 * Soft state: nothing is stored but a key, by which tokens are made. When vmcid is started and finds the key of an
 * earlier one, it connects to the devices that are there, and gives everybody LIMIT_VMCID_GRACE_USEC to come back;
 * requests that could take what is somebody else's wait that long. When vmcid ends and nobody is there who could
 * come back, it takes the key with it, and the next one need not wait.
 *
 * An embedded vmcid leaves LIMIT_VMCID_LEAVE_USEC after its last client.
 */
#include "server.h"

#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"
#include "endpoint.h"
#include "hold.h"
#include "peer.h"
#include "port.h"
#include "proto/limits.h"
#include "thing.h"
#include "vm.h"

#define CONTROL_NAME "control.sock"

/* Out of descriptors: the next connection is looked at after this. */
#define REOPEN_USEC 1000000ull

/* --- The broker's ports -------------------------------------------------------------------------------------- */

static int32_t port_deliver(void *ctx, void *sink, const uint8_t *dg, size_t size, bool event)
{
	const struct server *server = ctx;
	struct thing *thing = sink;

	/* That clients leave one after another now is not for them to know: they go on, and come back. */
	if (server->is_stopping)
		return (int32_t)size;
	return sink_deliver(thing->sink, dg, size, event ? VMCI_EVENT_QUEUE_MAX : VMCI_DG_QUEUE_MAX);
}

static void port_drop(void *ctx, void *thing)
{
	(void)ctx;
	thing_free(thing);
}

static bool port_is_same(void *ctx, const void *a, const void *b)
{
	(void)ctx;
	return thing_is_same(a, b);
}

static void port_identify(void *ctx, const void *memory, uint8_t ret_id[BRK_ID_SIZE])
{
	(void)ctx;
	thing_identify(memory, ret_id);
}

static bool port_clear(void *ctx, void *memory, uint64_t offset, uint64_t bytes)
{
	const struct server *server = ctx;

	/* Those who leave now go on, and come back to their regions. */
	return server->is_stopping || thing_clear(memory, offset, bytes);
}

static void port_mac(void *ctx, const uint8_t *data, size_t size, uint8_t ret_token[BRK_TOKEN_SIZE])
{
	const struct server *server = ctx;

	token_of_object(&server->rundir->key, data, size, ret_token);
}

/* For stamps, which are to be ordered over restarts: the boot's clock would not be, after another boot. */
static uint64_t port_now(void *ctx)
{
	struct timespec now;

	(void)ctx;
	clock_gettime(CLOCK_REALTIME, &now);
	return now.tv_sec < 0 ? 0 : (uint64_t)now.tv_sec * 1000000u + (uint64_t)now.tv_nsec / 1000u;
}

static void port_log(void *ctx, enum log_level level, const char *line)
{
	struct server *server = ctx;

	server_note(server, level, "%s", line);
}

/* --- The log ----------------------------------------------------------------------------------------------------- */

static int on_quiet(sd_event_source *source, uint64_t usec, void *ctx)
{
	struct server *server = ctx;

	(void)source;
	(void)usec;
	if (server->hushed)
		log_warn("%u more lines about clients were left out", server->hushed);
	server->hushed = 0;
	server->notes = LIMIT_VMCID_NOTES;
	brk_notes_renew(server->brk);
	return 0;
}

void server_note(struct server *server, enum log_level level, const char *fmt, ...)
{
	va_list ap;

	if (!log_wants(level))
		return;
	/* Who wants to see everything does. */
	if (level < LOG_LEVEL_DEBUG && !server->notes) {
		server->hushed++;
		return;
	}
	if (level < LOG_LEVEL_DEBUG && server->notes-- == LIMIT_VMCID_NOTES) {
		sd_event_source_set_time_relative(server->quiet, LIMIT_VMCID_NOTES_USEC);
		sd_event_source_set_enabled(server->quiet, SD_EVENT_ONESHOT);
	}
	va_start(ap, fmt);
	log_vmsg(level, fmt, ap);
	va_end(ap);
}

/* --- Coming and going --------------------------------------------------------------------------------------------- */

bool server_is_trusted(const struct server *server, uid_t uid)
{
	if (!uid || uid == geteuid())
		return true;
	for (size_t i = 0; i < server->conf->n_trusted; i++)
		if (server->conf->trusted[i] == uid)
			return true;
	return false;
}

/* Programs that are connected, or have a socket that says that they are there */
static bool has_anybody(const struct server *server)
{
	return server->n_peers || endpoints_count(server->endpoints) || holds_count(server->holds);
}

bool server_is_deserted(const struct server *server)
{
	return !has_anybody(server) && vms_is_deserted(server->vms);
}

static void update_leave(struct server *server, uint64_t usec)
{
	if (!server->is_embedded)
		return;
	if (has_anybody(server)) {
		sd_event_source_set_enabled(server->leave, SD_EVENT_OFF);
		return;
	}
	sd_event_source_set_time_relative(server->leave, usec);
	sd_event_source_set_enabled(server->leave, SD_EVENT_ONESHOT);
}

void server_add_peer(struct server *server, struct peer *peer)
{
	peer_link(peer, &server->peers);
	server->n_peers++;
	update_leave(server, 0);
}

void server_del_peer(struct server *server, struct peer *peer)
{
	peer_unlink(peer, &server->peers);
	server->n_peers--;
	if (!server->is_stopping)
		update_leave(server, LIMIT_VMCID_LEAVE_USEC);
}

void server_endpoints_changed(struct server *server)
{
	if (!server->is_stopping)
		update_leave(server, LIMIT_VMCID_LEAVE_USEC);
}

static int on_bury(sd_event_source *source, void *ctx)
{
	struct server *server = ctx;

	(void)source;
	peer_bury(server);
	return 0;
}

static int on_retry(sd_event_source *source, uint64_t usec, void *ctx)
{
	(void)source;
	(void)usec;
	peer_retry(ctx);
	return 0;
}

void server_retry(struct server *server)
{
	int enabled;

	if (sd_event_source_get_enabled(server->retry, &enabled) >= 0 && enabled != SD_EVENT_OFF)
		return;
	sd_event_source_set_time_relative(server->retry, LIMIT_VMCID_RETRY_USEC);
	sd_event_source_set_enabled(server->retry, SD_EVENT_ONESHOT);
}

void server_bury(struct server *server)
{
	sd_event_source_set_enabled(server->bury, SD_EVENT_ONESHOT);
}

/* Return: false: nobody there */
static bool accept_one(struct server *server)
{
	int fd = accept4(server->control, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (fd >= 0) {
		(void)peer_new(server, fd, false, NULL, NULL);
		return true;
	}
	if (errno == EAGAIN || errno == ECONNABORTED || errno == EINTR)
		return false;
	/* Who waits goes on waiting, and is not looked at in a loop. */
	server_note(server, LOG_LEVEL_ERR, "cannot accept a client: %s", strerror(errno));
	sd_event_source_set_enabled(server->listen, SD_EVENT_OFF);
	sd_event_source_set_time_relative(server->reopen, REOPEN_USEC);
	sd_event_source_set_enabled(server->reopen, SD_EVENT_ONESHOT);
	return false;
}

static int on_client(sd_event_source *source, int fd, uint32_t events, void *ctx)
{
	struct server *server = ctx;

	(void)source;
	(void)fd;
	(void)events;
	for (unsigned i = 0; i < LIMIT_VMCID_TURN; i++)
		if (!accept_one(server))
			break;
	return 0;
}

static int on_reopen(sd_event_source *source, uint64_t usec, void *ctx)
{
	struct server *server = ctx;

	(void)source;
	(void)usec;
	sd_event_source_set_enabled(server->listen, SD_EVENT_ON);
	return 0;
}

static int on_leave(sd_event_source *source, uint64_t usec, void *ctx)
{
	struct server *server = ctx;

	(void)source;
	(void)usec;
	/* Somebody may have come in the meantime. Who comes from now on finds the next one. */
	if (accept_one(server) || has_anybody(server))
		return 0;
	log_info("nobody is left");
	rundir_unlink(server->rundir, CONTROL_NAME);
	if (accept_one(server) || server->n_peers)
		log_info("somebody came too late, and has to come again");
	sd_event_exit(server->event, 0);
	return 0;
}

static int on_grace_over(sd_event_source *source, uint64_t usec, void *ctx)
{
	struct server *server = ctx;

	(void)source;
	(void)usec;
	server->in_grace = false;
	/* Before anybody gets what belonged to others. */
	ports_settle(server->ports, server->brk);
	brk_grace(server->brk, false);
	peer_resume(server);
	vms_open(server->vms);
	log_debug("the grace period is over");
	return 0;
}

void server_reload(struct server *server)
{
	vms_reload(server->vms);
}

/*
 * --- The whole
 * ------------------------------------------------------------------------------------------------------
 */

/* A timer that is off until it is needed. */
static int add_timer(struct server *server, sd_event_source **ret, sd_event_time_handler_t handler)
{
	int r = sd_event_add_time_relative(server->event, ret, CLOCK_MONOTONIC, 0, 0, handler, server);

	return r < 0 ? r : sd_event_source_set_enabled(*ret, SD_EVENT_OFF);
}

static int add_sources(struct server *server)
{
	int r;

	r = sd_event_add_io(server->event, &server->listen, server->control, EPOLLIN, on_client, server);
	if (r >= 0)
		r = sd_event_add_defer(server->event, &server->bury, on_bury, server);
	if (r >= 0)
		r = sd_event_source_set_enabled(server->bury, SD_EVENT_OFF);
	if (r >= 0)
		r = add_timer(server, &server->reopen, on_reopen);
	if (r >= 0)
		r = add_timer(server, &server->grace, on_grace_over);
	if (r >= 0)
		r = add_timer(server, &server->leave, on_leave);
	if (r >= 0)
		r = add_timer(server, &server->quiet, on_quiet);
	if (r >= 0)
		r = add_timer(server, &server->retry, on_retry);
	return r;
}

static int make_broker(struct server *server)
{
	const struct brk_ports ports = {
		.ctx = server,
		.deliver = port_deliver,
		.drop = port_drop,
		.is_same = port_is_same,
		.identify = port_identify,
		.clear = port_clear,
		.mac = port_mac,
		.now = port_now,
		.log = port_log,
	};
	struct token_key random;
	struct brk_config config;
	int r;

	token_key_make(&random);
	static_assert(sizeof(random) >= sizeof(config.seed), "a key is more than a seed");
	memcpy(config.seed, &random, sizeof(config.seed));
	r = brk_new(&config, &ports, &server->brk);
	if (!r)
		brk_limit(server->brk, &server->conf->limits);
	return r;
}

static int make_users(struct server *server)
{
	struct rlimit limit = { 0 };
	unsigned fds;

	getrlimit(RLIMIT_NOFILE, &limit);
	fds = limit.rlim_cur > INT32_MAX ? INT32_MAX : (unsigned)limit.rlim_cur;
	fds = fds > 2 * LIMIT_VMCID_OWN_FDS ? fds - LIMIT_VMCID_OWN_FDS : LIMIT_VMCID_OWN_FDS;
	/* One user does not take everything from the others; half of the rest is for connections. */
	server->users = users_new(fds / 2, fds / 8);
	return server->users ? 0 : -ENOMEM;
}

static int open_control(struct server *server, int control)
{
	if (control >= 0) {
		server->control = control;
		return 0;
	}
	server->control = rundir_listen(server->rundir, CONTROL_NAME, SOCK_SEQPACKET, server->conf->socket_mode,
					server->conf->socket_group);
	server->is_control_ours = server->control >= 0;
	return server->control < 0 ? server->control : 0;
}

static void begin(struct server *server)
{
	server->in_grace = server->rundir->resumed;
	/* First of all, so that nobody takes what is theirs. */
	holds_restore(server->holds);
	endpoints_restore(server->endpoints);
	if (server->in_grace) {
		brk_grace(server->brk, true);
		sd_event_source_set_time_relative(server->grace, LIMIT_VMCID_GRACE_USEC);
		sd_event_source_set_enabled(server->grace, SD_EVENT_ONESHOT);
		vms_resume(server->vms);
	} else {
		ports_settle(server->ports, server->brk);
		vms_open(server->vms);
	}
	update_leave(server, LIMIT_VMCID_FIRST_USEC);
}

int server_new(sd_event *event, const struct server_config *config, struct server **ret_server)
{
	struct server *server = calloc(1, sizeof(*server));
	const char *what = "memory";
	int r = -ENOMEM;

	if (server) {
		*server = (struct server){
			.rundir = config->rundir,
			.conf = config->conf,
			.spawner = config->spawner,
			.is_embedded = config->is_embedded,
			.event = sd_event_ref(event),
			.control = -1,
			.notes = LIMIT_VMCID_NOTES,
		};
		r = make_broker(server);
	}
	if (!r)
		r = make_users(server);
	if (!r)
		r = ports_new(config->rundir, &server->ports);
	if (!r) {
		what = CONTROL_NAME;
		r = open_control(server, config->control);
	}
	if (!r) {
		what = "the event loop";
		r = add_sources(server);
	}
	if (r >= 0)
		r = vms_new(server, config->vms, &server->vms);
	if (r >= 0)
		r = endpoints_new(server, &server->endpoints);
	if (r >= 0)
		r = holds_new(server, &server->holds);
	if (r < 0) {
		log_err("%s/%s: %s", config->rundir->path, what, strerror(-r));
		server_free(server);
		return r;
	}
	vms_reload(server->vms);
	begin(server);
	*ret_server = server;
	return 0;
}

struct server *server_free(struct server *server)
{
	if (!server)
		return NULL;
	server->is_stopping = true;
	/*
	 * Nobody comes in while we clear up; and our own sockets' files are gone before those who hold the other
	 * ends see it.
	 */
	if (server->is_control_ours)
		rundir_unlink(server->rundir, CONTROL_NAME);
	server->listen = sd_event_source_disable_unref(server->listen);
	fd_close(&server->control);
	peer_hush(server);
	while (server->peers)
		peer_free(server->peers);
	endpoints_free(server->endpoints);
	holds_free(server->holds);
	vms_free(server->vms);
	brk_free(server->brk);
	users_free(server->users);
	ports_free(server->ports);
	sd_event_source_disable_unref(server->reopen);
	sd_event_source_disable_unref(server->grace);
	sd_event_source_disable_unref(server->leave);
	sd_event_source_disable_unref(server->bury);
	sd_event_source_disable_unref(server->quiet);
	sd_event_source_disable_unref(server->retry);
	sd_event_unref(server->event);
	free(server);
	return NULL;
}
