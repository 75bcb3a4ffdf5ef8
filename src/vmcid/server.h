/* SPDX-License-Identifier: BSD-2-Clause */
/* The daemon: what its parts have in common. Theory: server.c */
#ifndef VMCID_SERVER_H
#define VMCID_SERVER_H

#include <stdbool.h>
#include <systemd/sd-event.h>

#include "broker/broker.h"
#include "conf.h"
#include "rundir.h"
#include "spawner.h"
#include "user.h"

struct endpoints;
struct holds;
struct peer;
struct ports;
struct vms;
struct vms_config;

/**
 * struct server - one per process
 * @rundir:      the caller's
 * @conf:        likewise
 * @spawner:     likewise; NULL: VMs cannot be served
 * @is_embedded: leave when nobody is there any more
 * @in_grace:    those who were there before a restart are coming back
 * @notes:       lines that clients may still cause in the log in this period
 */
struct server {
	struct rundir *rundir;
	const struct conf *conf;
	struct spawner *spawner;
	bool is_embedded;

	sd_event *event;
	struct brk *brk;
	struct users *users;
	struct ports *ports;
	struct vms *vms;
	struct endpoints *endpoints;
	struct holds *holds;

	int control;
	bool is_control_ours;
	sd_event_source *listen;
	sd_event_source *reopen;
	sd_event_source *grace;
	sd_event_source *leave;
	sd_event_source *bury;
	sd_event_source *quiet;
	sd_event_source *retry;

	struct peer *peers;
	unsigned n_peers;
	bool in_grace;
	bool is_stopping;
	unsigned notes;
	unsigned hushed;
};

/**
 * struct server_config - what a server is made of
 * @control:     a socket that systemd listens at, taken; or -1
 * @vms:         stays the caller's
 */
struct server_config {
	struct rundir *rundir;
	const struct conf *conf;
	struct spawner *spawner;
	const struct vms_config *vms;
	int control;
	bool is_embedded;
};

/* server_new() - 0, or a negative errno after a line in the log */
int server_new(sd_event *event, const struct server_config *config, struct server **ret_server);

/* server_free() - NULL is fine. Returns NULL. */
struct server *server_free(struct server *server);

/* server_is_deserted() - are there neither clients nor devices, so that nobody can come back? */
bool server_is_deserted(const struct server *server);

/* server_reload() - read the definitions of VMs anew */
void server_reload(struct server *server);

/**
 * server_note() - a line in the log that a client has caused
 *
 * Bounded in number: beyond that they are counted only.
 */
void server_note(struct server *server, enum log_level level, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* server_retry() - call peer_retry() after LIMIT_VMCID_RETRY_USEC */
void server_retry(struct server *server);

/* server_bury() - call peer_bury() from the event loop, soon */
void server_bury(struct server *server);

/* server_is_trusted() - does the configuration trust the user? */
bool server_is_trusted(const struct server *server, uid_t uid);

/* For endpoint.c and hold.c: one more, or one less, of those who keep an embedded vmcid from leaving. */
void server_endpoints_changed(struct server *server);

/* For peer.c: a connection came, or went. */
void server_add_peer(struct server *server, struct peer *peer);
void server_del_peer(struct server *server, struct peer *peer);

#endif /* VMCID_SERVER_H */
