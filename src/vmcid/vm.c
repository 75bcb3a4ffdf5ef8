/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * DOC: Theory of operation
 *
 * Each VM that is defined has a context id and a listening socket, vm/<name>.sock, to which its VMM connects. Then
 * a device is started for it, with that connection and one to us; the next VMM waits in the backlog until that
 * device has gone.
 *
 * Devices outlive vmcid. Each listens at device/<cid>.sock; when vmcid is started anew, it connects to all that it
 * finds there. A device then says HELLO with the token that it had got, and its VM's name. It keeps the context id
 * that it has, and another VM that would have had this id gets another one.
 *
 * The definitions are read at the start, on SIGHUP, and when the directory changes. What a device was started with
 * holds until it has gone; then the definition is looked at again.
 */
#include "vm.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"
#include "definition.h"
#include "peer.h"
#include "spawner.h"
#include "thing.h"
#include "token.h"
#include "window.h"

/* Where context ids come from when the definition wishes none: above what people choose, below programs' own. */
#define AUTO_FIRST 0x1000u
#define AUTO_NUM 0xe000u

/* A device that has left us but not ended is looked for at intervals, which get longer as long as it does not stay. */
#define SEARCH_USEC 125000ull
#define SEARCH_MAX_USEC 16000000ull
/* Writing a definition takes an editor several steps. */
#define SETTLE_USEC 200000ull

/**
 * enum vm_state
 * @VM_IDLE:     no device. The socket is watched.
 * @VM_STARTING: a device was asked for, or connected to; it has not said HELLO.
 * @VM_SERVED:   it has.
 * @VM_LEAVING:  its connection has ended. Caveat: it may be there: as a process of ours that has not ended, or at its
 *		 socket, where it waits for us. It is looked for (@search).
 */
enum vm_state {
	VM_IDLE,
	VM_STARTING,
	VM_SERVED,
	VM_LEAVING,
};

/**
 * struct vm - a VM
 * @config:     of @def and @cid
 * @is_defined: its definition is there
 * @is_stale:   look at the definition again when the device has gone
 * @is_seen:    during vms_reload()
 * @run:        id of the process at the spawner; 0: none of ours
 * @wait:       the next interval of the search
 * @window:     that its device has; NULL: none, or we have not heard of it yet
 */
struct vm {
	struct vms *vms;
	struct vm *next;
	struct definition def;
	struct brk_vm config;
	bool is_defined;
	bool is_stale;
	bool is_seen;
	enum vm_state state;
	struct peer *peer;
	uint32_t run;
	uint64_t wait;
	struct brk_window *window;
	int fd;
	sd_event_source *listen;
	sd_event_source *search;
};

struct vms {
	struct server *server;
	const struct vms_config *config;
	struct vm *first;
	unsigned n;
	uint32_t last_run;
	bool is_open;
	sd_event_source *changes;
	sd_event_source *settle;
};

const struct brk_vm *vm_config(const struct vm *vm)
{
	return &vm->config;
}

const char *vm_name(const struct vm *vm)
{
	return vm->def.name;
}

static void socket_name(const struct vm *vm, char *buf, size_t size)
{
	snprintf(buf, size, "vm/%s.sock", vm->def.name);
}

static void rendezvous_name(uint32_t cid, char *buf, size_t size)
{
	snprintf(buf, size, "device/%u.sock", cid);
}

/* --- Context ids -------------------------------------------------------------------------------------------- */

static uint32_t wished_cid(const struct definition *def)
{
	uint32_t hash = 2166136261u;

	if (def->id != VMCI_INVALID_ID)
		return def->id;
	/* From the name, so that it is the same next time. */
	for (const char *p = def->name; *p; p++)
		hash = (hash ^ (uint8_t)*p) * 16777619u;
	return AUTO_FIRST + hash % AUTO_NUM;
}

/* The next free one. */
static int take_cid(struct vm *vm, const struct definition *def)
{
	struct brk *brk = vm->vms->server->brk;
	uint32_t wish = wished_cid(def), cid = wish;

	/* What is in the way are VMs and contexts of programs: few. */
	for (unsigned tries = 0; tries < 4 * LIMIT_VMCID_VMS; tries++) {
		int32_t r = brk_cid_is_free(brk, cid) ? brk_reserve(brk, cid) : VMCI_ERROR_ALREADY_EXISTS;

		if (r == VMCI_ERROR_NO_MEM)
			return -ENOMEM;
		if (r >= 0) {
			if (cid != wish && def->id != VMCI_INVALID_ID && !def->bumped)
				log_warn("vm %s: context id %u is taken; it gets %u", def->name, wish, cid);
			vm->config.cid = cid;
			return 0;
		}
		cid = cid >= VMCI_INVALID_ID - 1 ? VMCI_CID_FIRST_VM : cid + 1;
	}
	return -EADDRNOTAVAIL;
}

static void give_cid(struct vm *vm)
{
	if (vm->config.cid)
		brk_unreserve(vm->vms->server->brk, vm->config.cid);
	vm->config.cid = 0;
}

/* --- Windows ------------------------------------------------------------------------------------------------- */

/* @vm has a window that it does not share, or shares it with others of @domain. */
static bool has_window(const struct vm *vm, const char *domain)
{
	return vm->is_defined && vm->def.window && !strcmp(vm->def.domain, domain);
}

/* A domain's window is as large as the largest that one of its VMs wants. */
static const struct vm *largest(const struct vms *vms, const char *domain)
{
	const struct vm *found = NULL;

	for (const struct vm *vm = vms->first; vm; vm = vm->next)
		if (has_window(vm, domain) && (!found || vm->def.window > found->def.window))
			found = vm;
	return found;
}

/* Whose definition says how large @vm's window is. */
static const struct vm *model_of(const struct vms *vms, const struct vm *vm)
{
	const struct vm *model = *vm->def.domain ? largest(vms, vm->def.domain) : NULL;

	/* Its definition has gone meanwhile, say. */
	return model ? model : vm;
}

/* The window that @vm is to have, as it is there or as it is made. One reference */
static int take_window(struct vms *vms, const struct vm *vm, struct brk_window **ret_window)
{
	char key[BRK_KEY_MAX + 1];

	brk_window_key(key, sizeof(key), vm->def.domain, vm->def.name);
	return window_open(vms->server, key, model_of(vms, vm)->def.window, ret_window);
}

/* It has one that is not as its definition says: why? */
static void explain_window(const struct vm *vm)
{
	uint64_t bytes = brk_window_bytes(vm->window);
	const struct vm *model = model_of(vm->vms, vm);

	if (bytes == vm->def.window)
		return;
	if (bytes == model->def.window)
		log_err("vm %s: its window has %llu bytes, not %llu: vm %s of the same domain says so", vm->def.name,
			(unsigned long long)bytes, (unsigned long long)vm->def.window, model->def.name);
	else
		log_err("vm %s: its window has %llu bytes, not %llu: somebody uses it already", vm->def.name,
			(unsigned long long)bytes, (unsigned long long)vm->def.window);
}

struct brk_window *vms_host_window(struct vms *vms)
{
	const char *name = vms->server->conf->window_host;
	const struct vm *vm = *name ? largest(vms, name) : NULL;
	struct brk_window *window;
	char key[BRK_KEY_MAX + 1];
	int r;

	if (!*name)
		return NULL;
	for (const struct vm *other = vms->first; other && !vm; other = other->next)
		if (has_window(other, "") && !strcmp(other->def.name, name))
			vm = other;
	if (!vm) {
		/* Their definitions have gone, and some may be there all the same. */
		brk_window_key(key, sizeof(key), name, NULL);
		window = brk_window_find(vms->server->brk, key);
		brk_window_key(key, sizeof(key), NULL, name);
		return brk_window_ref(window ? window : brk_window_find(vms->server->brk, key));
	}
	r = take_window(vms, vm, &window);
	if (r)
		server_note(vms->server, LOG_LEVEL_ERR, "no memory for the window of %s: %s", name, strerror(-r));
	return r ? NULL : window;
}

static void drop_window(struct vm *vm)
{
	brk_window_unref(vm->vms->server->brk, vm->window);
	vm->window = NULL;
}

void vm_keep_window(struct vm *vm, struct brk_window *window)
{
	brk_window_ref(window);
	drop_window(vm);
	vm->window = window;
}

static void apply(struct vm *vm, const struct definition *def)
{
	memcpy(&vm->def, def, sizeof(*def));
	vm->config.name = vm->def.name;
	vm->config.domain = vm->def.domain;
	vm->config.unrestricted = vm->def.unrestricted;
	vm->config.restricted = vm->def.restricted;
	vm->config.rules = vm->def.rules;
	vm->config.n_rules = vm->def.n_rules;
}

/* --- Devices ---------------------------------------------------------------------------------------------------- */

static void update_listen(struct vm *vm)
{
	bool on = vm->vms->is_open && vm->state == VM_IDLE && vm->is_defined;

	if (vm->listen)
		sd_event_source_set_enabled(vm->listen, on ? SD_EVENT_ON : SD_EVENT_OFF);
}

static void become_idle(struct vm *vm)
{
	vm->state = VM_IDLE;
	vm->wait = 0;
	drop_window(vm);
	vm->search = sd_event_source_disable_unref(vm->search);
	update_listen(vm);
	/* Not now: the caller may hold on to the VM. */
	if ((vm->is_stale || !vm->is_defined) && vm->vms->settle) {
		sd_event_source_set_time_relative(vm->vms->settle, 0);
		sd_event_source_set_enabled(vm->vms->settle, SD_EVENT_ONESHOT);
	}
}

/* Is a device listening for us? Then it is our client from now on. */
static int find_device(struct vm *vm)
{
	char name[64];
	int fd;

	rendezvous_name(vm->config.cid, name, sizeof(name));
	fd = rundir_connect(vm->vms->server->rundir, name, SOCK_SEQPACKET);
	if (fd < 0)
		return fd;
	return peer_new(vm->vms->server, fd, true, vm, &vm->peer);
}

static int on_search(sd_event_source *source, uint64_t usec, void *ctx);

static void search(struct vm *vm, uint64_t usec)
{
	int r = 0;

	vm->state = VM_LEAVING;
	if (vm->search) {
		sd_event_source_set_time_relative(vm->search, usec);
		sd_event_source_set_enabled(vm->search, SD_EVENT_ONESHOT);
	} else {
		r = sd_event_add_time_relative(vm->vms->server->event, &vm->search, CLOCK_MONOTONIC, usec, 0, on_search,
					       vm);
	}
	if (r < 0)
		log_err("vm %s: cannot look for its device: %s", vm->def.name, strerror(-r));
}

static void search_later(struct vm *vm)
{
	vm->wait = vm->wait ? vm->wait : SEARCH_USEC;
	search(vm, vm->wait);
	vm->wait = vm->wait < SEARCH_MAX_USEC ? 2 * vm->wait : SEARCH_MAX_USEC;
}

static int on_search(sd_event_source *source, uint64_t usec, void *ctx)
{
	struct vm *vm = ctx;
	int r;

	(void)source;
	(void)usec;
	r = find_device(vm);
	if (!r) {
		vm->state = VM_STARTING;
	} else if (!vm->run && (r == -ECONNREFUSED || r == -ENOENT)) {
		char name[64];

		log_info("vm %s: its device has gone", vm->def.name);
		/* Should it have been killed. */
		rendezvous_name(vm->config.cid, name, sizeof(name));
		rundir_unlink(vm->vms->server->rundir, name);
		become_idle(vm);
	} else {
		search_later(vm);
	}
	return 0;
}

void vm_device_ready(struct vm *vm, struct peer *peer)
{
	vm->peer = peer;
	vm->state = VM_SERVED;
	vm->wait = 0;
	vm->search = sd_event_source_disable_unref(vm->search);
	update_listen(vm);
	log_info("cid %u: vm %s is there", vm->config.cid, vm->def.name);
}

void vm_device_gone(struct vm *vm, struct peer *peer)
{
	if (vm->peer != peer)
		return;
	vm->peer = NULL;
	if (vm->vms->server->is_stopping)
		return;
	search_later(vm);
}

static void on_started(void *ctx, uint32_t id, pid_t pid, int error)
{
	struct vms *vms = ctx;

	for (struct vm *vm = vms->first; vm; vm = vm->next) {
		if (vm->run != id)
			continue;
		if (!error) {
			log_debug("vm %s: device is process %d", vm->def.name, (int)pid);
			return;
		}
		log_err("vm %s: %s: %s", vm->def.name, vms->config->program, strerror(-error));
		vm->run = 0;
		/* Our own end of its connection tells us that it has gone, and all the rest. */
		return;
	}
}

static void on_exited(void *ctx, uint32_t id, int status)
{
	struct vms *vms = ctx;

	for (struct vm *vm = vms->first; vm; vm = vm->next) {
		if (vm->run != id)
			continue;
		vm->run = 0;
		if (WIFSIGNALED(status))
			log_warn("vm %s: its device was ended by signal %d", vm->def.name, WTERMSIG(status));
		else if (WEXITSTATUS(status))
			log_warn("vm %s: its device ended with status %d", vm->def.name, WEXITSTATUS(status));
		if (vm->state == VM_LEAVING)
			search(vm, 0);
		return;
	}
}

static const struct spawner_ops spawner_ops = { .started = on_started, .exited = on_exited };

static uint32_t new_run(struct vms *vms)
{
	if (!++vms->last_run)
		vms->last_run = 1;
	return vms->last_run;
}

/* Takes neither descriptor. */
static int start_device(struct vm *vm, int conn, int fabric)
{
	const struct vms_config *config = vm->vms->config;
	const struct rundir *rundir = vm->vms->server->rundir;
	char conn_arg[16], fabric_arg[16], cid[16], window[16], name[64];
	char rendezvous[sizeof(((struct sockaddr_un *)NULL)->sun_path)], hybrid[sizeof(rendezvous)];
	const char *argv[SPAWNER_ARGS_MAX + 1];
	int fds[] = { conn, fabric, -1 };
	unsigned n = 0, n_fds = 2;
	struct thing *memory;
	int r;

	snprintf(conn_arg, sizeof(conn_arg), "%d", SPAWNER_FIRST_FD);
	snprintf(fabric_arg, sizeof(fabric_arg), "%d", SPAWNER_FIRST_FD + 1);
	snprintf(cid, sizeof(cid), "%u", vm->config.cid);
	snprintf(window, sizeof(window), "%d", SPAWNER_FIRST_FD + 2);
	rendezvous_name(vm->config.cid, name, sizeof(name));
	r = rundir_path(rundir, name, rendezvous, sizeof(rendezvous));
	if (r)
		return r;
	snprintf(name, sizeof(name), "hybrid/%s.sock", vm->def.name);
	r = vm->def.hybrid ? rundir_path(rundir, name, hybrid, sizeof(hybrid)) : 0;
	if (r)
		return r;
	drop_window(vm);
	if (vm->def.window) {
		r = take_window(vm->vms, vm, &vm->window);
		if (r)
			return r;
		explain_window(vm);
		memory = brk_window_memory(vm->window);
		fds[n_fds++] = memory->fd[0];
	}
	argv[n++] = config->program;
	argv[n++] = "--conn-fd";
	argv[n++] = conn_arg;
	argv[n++] = "--fabric-fd";
	argv[n++] = fabric_arg;
	argv[n++] = "--rendezvous";
	argv[n++] = rendezvous;
	argv[n++] = "--name";
	argv[n++] = vm->def.name;
	argv[n++] = "--cid";
	argv[n++] = cid;
	argv[n++] = "--log";
	argv[n++] = log_level_to_string(config->level);
	argv[n++] = "--once";
	if (vm->def.hybrid) {
		argv[n++] = "--hybrid";
		argv[n++] = hybrid;
	}
	if (vm->def.classic)
		argv[n++] = "--classic";
	if (vm->def.msi)
		argv[n++] = "--msi";
	if (vm->window) {
		argv[n++] = "--window-fd";
		argv[n++] = window;
	}
	if (!config->sandbox)
		argv[n++] = "--no-sandbox";
	argv[n] = NULL;
	vm->run = new_run(vm->vms);
	r = spawner_run(vm->vms->server->spawner, vm->run, argv, fds, n_fds);
	if (r)
		vm->run = 0;
	return r;
}

static int serve(struct vm *vm, int conn)
{
	struct server *server = vm->vms->server;
	int fds[2], r;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds))
		return -errno;
	r = peer_new(server, fds[0], true, vm, &vm->peer);
	if (!r) {
		vm->state = VM_STARTING;
		r = start_device(vm, conn, fds[1]);
	}
	/* On failure the other end is closed by this, and vm_device_gone() follows. */
	fd_close(&fds[1]);
	return r;
}

static int on_vmm(sd_event_source *source, int listener, uint32_t events, void *ctx)
{
	struct vm *vm = ctx;
	struct ucred peer = { 0 };
	socklen_t len = sizeof(peer);
	int fd, r;

	(void)source;
	(void)events;
	if (!find_device(vm)) {
		log_warn("vm %s: a device is serving it already", vm->def.name);
		vm->state = VM_STARTING;
		update_listen(vm);
		return 0;
	}
	fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (fd < 0) {
		if (errno != EAGAIN && errno != ECONNABORTED)
			log_err("vm %s: accept: %s", vm->def.name, strerror(errno));
		return 0;
	}
	getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len);
	log_info("vm %s: VMM connected (pid %d, uid %u)", vm->def.name, (int)peer.pid, (unsigned)peer.uid);
	r = serve(vm, fd);
	if (r)
		log_err("vm %s: cannot start its device: %s", vm->def.name, strerror(-r));
	fd_close(&fd);
	update_listen(vm);
	return 0;
}

/* --- Definitions -------------------------------------------------------------------------------------------------- */

static void vm_close(struct vm *vm)
{
	char name[64];

	vm->listen = sd_event_source_disable_unref(vm->listen);
	if (vm->fd >= 0) {
		socket_name(vm, name, sizeof(name));
		rundir_unlink(vm->vms->server->rundir, name);
		fd_close(&vm->fd);
	}
}

static struct vm *vm_free(struct vm *vm)
{
	vm_close(vm);
	sd_event_source_disable_unref(vm->search);
	drop_window(vm);
	give_cid(vm);
	free(vm);
	return NULL;
}

static void unlink_vm(struct vm *vm)
{
	struct vm **at;

	for (at = &vm->vms->first; *at != vm; at = &(*at)->next)
		;
	*at = vm->next;
	vm->vms->n--;
}

static int vm_open(struct vm *vm)
{
	struct server *server = vm->vms->server;
	char name[64];
	int r;

	socket_name(vm, name, sizeof(name));
	vm->fd = rundir_listen(server->rundir, name, SOCK_STREAM, server->conf->vm_mode, server->conf->vm_group);
	if (vm->fd < 0)
		return vm->fd;
	r = sd_event_add_io(server->event, &vm->listen, vm->fd, EPOLLIN, on_vmm, vm);
	if (r < 0) {
		vm_close(vm);
		return r;
	}
	update_listen(vm);
	return 0;
}

static struct vm *find_vm(const struct vms *vms, const char *name)
{
	for (struct vm *vm = vms->first; vm; vm = vm->next)
		if (!strcmp(vm->def.name, name))
			return vm;
	return NULL;
}

static struct vm *vm_new(struct vms *vms, const struct definition *def)
{
	struct vm *vm = calloc(1, sizeof(*vm));

	if (!vm)
		return NULL;
	*vm = (struct vm){ .vms = vms, .next = vms->first, .fd = -1 };
	apply(vm, def);
	vms->first = vm;
	vms->n++;
	return vm;
}

static void add_vm(struct vms *vms, const struct definition *def)
{
	struct vm *vm = vm_new(vms, def);
	int r;

	if (!vm) {
		log_err("vm %s: out of memory", def->name);
		return;
	}
	vm->is_defined = true;
	vm->is_seen = true;
	r = take_cid(vm, def);
	if (!r)
		r = vm_open(vm);
	if (r) {
		log_err("vm %s: cannot listen for its VMM: %s", def->name, strerror(-r));
		unlink_vm(vm);
		vm_free(vm);
		return;
	}
	log_info("vm %s: context id %u", def->name, vm->config.cid);
}

static void update_vm(struct vm *vm, const struct definition *def)
{
	bool moves;
	int r;

	vm->is_seen = true;
	if (vm->is_defined && !memcmp(&vm->def, def, sizeof(*def))) {
		vm->is_stale = false;
		return;
	}
	if (vm->state != VM_IDLE) {
		vm->is_stale = true;
		log_info("vm %s: its definition has changed, which holds when its device has gone", vm->def.name);
		return;
	}
	vm->is_stale = false;
	vm->is_defined = true;
	moves = wished_cid(&vm->def) != wished_cid(def) || !vm->config.cid;
	if (moves) {
		give_cid(vm);
		r = take_cid(vm, def);
		if (r) {
			log_err("vm %s: no context id: %s", def->name, strerror(-r));
			vm->is_defined = false;
		}
	}
	apply(vm, def);
	r = vm->fd < 0 ? vm_open(vm) : 0;
	if (r)
		log_err("vm %s: cannot listen for its VMM: %s", def->name, strerror(-r));
	update_listen(vm);
	log_info("vm %s: context id %u, by a new definition", def->name, vm->config.cid);
}

static void warn(void *ctx, const char *line)
{
	log_warn("%s: %s", (const char *)ctx, line);
}

/* Return: 0; -ENOENT: there is no such VM; another negative errno: it is wrong */
static int read_definition(int dir, const char *file, struct definition *ret_def)
{
	char name[DEFINITION_NAME_MAX + 1], reason[DEFINITION_REASON_SIZE];
	char *text;
	size_t len;
	int r;

	r = definition_name(file, name);
	if (r == -EINVAL)
		log_warn("%s: not a name for a VM: letters, digits, and \"._-+@ \" behind the first, %u at most", file,
			 DEFINITION_NAME_MAX);
	if (r)
		return -ENOENT;
	r = conf_read_file(dir, file, &text, &len);
	if (r) {
		log_err("%s: %s", file, strerror(-r));
		return r == -ENOENT ? r : -EBADMSG;
	}
	r = definition_parse(name, text, len, warn, (void *)(uintptr_t)file, ret_def, reason);
	free(text);
	if (r == -EBADMSG)
		log_err("%s: %s", file, reason);
	if (!r && !ret_def->present) {
		log_info("%s: this VM has no VMCI device (vmci0.present)", file);
		return -ENOENT;
	}
	return r;
}

static int compare_definition(const void *a, const void *b)
{
	const struct definition *x = a, *y = b;
	bool p = x->id != VMCI_INVALID_ID && !x->bumped, q = y->id != VMCI_INVALID_ID && !y->bumped;

	/* Wishes come first, so that they are granted. */
	return p != q ? (p ? -1 : 1) : strcmp(x->name, y->name);
}

/* What is wrong now was right before, perhaps: the VM stays as it is. */
static void keep_broken(struct vms *vms, const char *file)
{
	char name[DEFINITION_NAME_MAX + 1];
	struct vm *vm;

	if (definition_name(file, name))
		return;
	vm = find_vm(vms, name);
	if (vm && vm->is_defined)
		vm->is_seen = true;
}

static void sync_vms(struct vms *vms, struct definition *defs, size_t n)
{
	struct vm *next;

	if (n)
		qsort(defs, n, sizeof(*defs), compare_definition);
	for (size_t i = 0; i < n; i++) {
		struct vm *vm = find_vm(vms, defs[i].name);

		if (vm)
			update_vm(vm, &defs[i]);
		else
			add_vm(vms, &defs[i]);
	}
	for (struct vm *vm = vms->first; vm; vm = next) {
		next = vm->next;
		if (vm->is_seen)
			continue;
		if (vm->is_defined)
			log_info("vm %s: its definition has gone", vm->def.name);
		vm->is_defined = false;
		vm_close(vm);
		if (vm->state == VM_IDLE) {
			unlink_vm(vm);
			vm_free(vm);
		}
	}
}

void vms_reload(struct vms *vms)
{
	struct definition *defs;
	struct dirent *entry;
	size_t n = 0;
	DIR *dir;

	for (struct vm *vm = vms->first; vm; vm = vm->next)
		vm->is_seen = false;
	if (!vms->config->path) {
		sync_vms(vms, NULL, 0);
		return;
	}
	dir = opendir(vms->config->path);
	defs = calloc(LIMIT_VMCID_VMS, sizeof(*defs));
	if (!dir || !defs) {
		log_err("%s: %s", vms->config->path, dir ? "out of memory" : strerror(errno));
		free(defs);
		if (dir)
			closedir(dir);
		return;
	}
	while ((entry = readdir(dir))) {
		int r;

		if (n == LIMIT_VMCID_VMS) {
			log_err("%s: more than %u definitions", vms->config->path, LIMIT_VMCID_VMS);
			break;
		}
		r = read_definition(dirfd(dir), entry->d_name, &defs[n]);
		if (!r)
			n++;
		else if (r != -ENOENT)
			keep_broken(vms, entry->d_name);
	}
	closedir(dir);
	sync_vms(vms, defs, n);
	free(defs);
}

static int on_settled(sd_event_source *source, uint64_t usec, void *ctx)
{
	struct vms *vms = ctx;

	(void)source;
	(void)usec;
	vms_reload(vms);
	return 0;
}

static int on_change(sd_event_source *source, const struct inotify_event *event, void *ctx)
{
	struct vms *vms = ctx;

	(void)source;
	if (event->len && event->name[0] == '.')
		return 0;
	sd_event_source_set_time_relative(vms->settle, SETTLE_USEC);
	sd_event_source_set_enabled(vms->settle, SD_EVENT_ONESHOT);
	return 0;
}

/* --- All of them ------------------------------------------------------------------------------------------------- */

/* A VM that would have this id, and has no device, gets another. */
static void make_room(struct vms *vms, uint32_t cid)
{
	for (struct vm *vm = vms->first; vm; vm = vm->next) {
		struct definition def = vm->def;

		if (vm->config.cid != cid || vm->state != VM_IDLE)
			continue;
		/* Its own wish is in the way: the one behind it. */
		def.id = cid == VMCI_INVALID_ID - 1 ? VMCI_CID_FIRST_VM : cid + 1;
		give_cid(vm);
		if (take_cid(vm, &def)) {
			log_err("vm %s: no context id", vm->def.name);
			continue;
		}
		log_warn("vm %s: context id %u is in use; it gets %u", vm->def.name, cid, vm->config.cid);
	}
}

static bool has_uuid(const struct vm *vm, const uint8_t *uuid)
{
	static_assert(FAB_UUID_SIZE == UUID_SIZE, "the same on the wire");
	for (unsigned i = 0; i < vm->def.n_uuids; i++)
		if (!memcmp(vm->def.uuid[i], uuid, UUID_SIZE))
			return true;
	return false;
}

int32_t vms_find_uuid(const struct vms *vms, const struct brk_client *client, const uint8_t uuid[static FAB_UUID_SIZE],
		      uint32_t *ret_cid)
{
	int32_t result = VMCI_ERROR_NOT_FOUND;

	for (const struct vm *vm = vms->first; vm; vm = vm->next) {
		if (vm->state != VM_SERVED || !has_uuid(vm, uuid) || brk_vm_may_know(client, vm->config.cid))
			continue;
		/* A VM and its copy: nobody can say which is meant. */
		if (!result)
			return VMCI_ERROR_NOT_FOUND;
		*ret_cid = vm->config.cid;
		result = 0;
	}
	return result;
}

struct vm *vms_find_resumed(struct vms *vms, uint32_t cid, const char *name,
			    const uint8_t token[static FAB_TOKEN_SIZE])
{
	uint8_t expected[FAB_TOKEN_SIZE];
	struct definition def = { .id = VMCI_INVALID_ID, .present = true, .restricted = true };
	struct vm *vm;

	token_of_device(&vms->server->rundir->key, cid, name, expected);
	if (!token_is_equal(token, expected) || strlen(name) > DEFINITION_NAME_MAX) {
		log_warn("a device at context id %u cannot prove that it is ours", cid);
		return NULL;
	}
	vm = find_vm(vms, name);
	if (!vm) {
		/* Nobody knows what it was allowed to do. */
		log_warn("vm %s: its definition has gone; it is restricted", name);
		snprintf(def.name, sizeof(def.name), "%s", name);
		vm = vm_new(vms, &def);
		if (!vm)
			return NULL;
	}
	if (vm->peer)
		return NULL;
	if (vm->config.cid != cid) {
		make_room(vms, cid);
		give_cid(vm);
		vm->config.cid = cid;
		/* Should a program have it, the broker refuses the device. */
		(void)brk_reserve(vms->server->brk, cid);
	}
	return vm;
}

/* Call @handle for each file in @folder of the runtime directory. */
static void for_each_file(struct vms *vms, const char *folder, void (*handle)(struct vms *vms, const char *name))
{
	int fd = openat(vms->server->rundir->fd, folder, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *entry;
	char name[64 + NAME_MAX];

	if (!dir) {
		fd_close(&fd);
		return;
	}
	while ((entry = readdir(dir))) {
		if (entry->d_name[0] == '.')
			continue;
		snprintf(name, sizeof(name), "%s/%s", folder, entry->d_name);
		handle(vms, name);
	}
	closedir(dir);
}

static void remove_socket(struct vms *vms, const char *name)
{
	rundir_unlink(vms->server->rundir, name);
}

static void resume_device(struct vms *vms, const char *name)
{
	int fd = rundir_connect(vms->server->rundir, name, SOCK_SEQPACKET);

	if (fd == -ECONNREFUSED)
		rundir_unlink(vms->server->rundir, name);
	if (fd >= 0)
		(void)peer_new(vms->server, fd, true, NULL, NULL);
}

void vms_resume(struct vms *vms)
{
	for_each_file(vms, "device", resume_device);
}

void vms_open(struct vms *vms)
{
	vms->is_open = true;
	for (struct vm *vm = vms->first; vm; vm = vm->next)
		update_listen(vm);
}

bool vms_is_deserted(const struct vms *vms)
{
	for (const struct vm *vm = vms->first; vm; vm = vm->next)
		if (vm->state != VM_IDLE)
			return false;
	return true;
}

int vms_new(struct server *server, const struct vms_config *config, struct vms **ret_vms)
{
	struct vms *vms = calloc(1, sizeof(*vms));
	int r = 0;

	if (!vms)
		return -ENOMEM;
	*vms = (struct vms){ .server = server, .config = config };
	r = sd_event_add_time_relative(server->event, &vms->settle, CLOCK_MONOTONIC, 0, 0, on_settled, vms);
	if (r >= 0)
		r = sd_event_source_set_enabled(vms->settle, SD_EVENT_OFF);
	if (r >= 0 && server->spawner)
		r = spawner_watch(server->spawner, server->event, &spawner_ops, vms);
	if (r >= 0 && config->path && sd_event_add_inotify(server->event, &vms->changes, config->path,
							   IN_CLOSE_WRITE | IN_MOVED_TO | IN_MOVED_FROM | IN_DELETE |
								   IN_ONLYDIR, on_change, vms) < 0)
		log_info("%s: changes are not noticed; use SIGHUP", config->path);
	if (r < 0) {
		vms_free(vms);
		return r;
	}
	/* Of an earlier vmcid that was killed; those of VMs that are still defined are made anew. */
	for_each_file(vms, "vm", remove_socket);
	*ret_vms = vms;
	return 0;
}

struct vms *vms_free(struct vms *vms)
{
	if (vms) {
		while (vms->first) {
			struct vm *vm = vms->first;

			unlink_vm(vm);
			vm_free(vm);
		}
		sd_event_source_disable_unref(vms->settle);
		sd_event_source_disable_unref(vms->changes);
		free(vms);
	}
	return NULL;
}
