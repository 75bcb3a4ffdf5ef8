/* SPDX-License-Identifier: BSD-2-Clause */
/* vmci-device: a VMCI device for one VM, behind a vfio-user socket. */
#include <argp.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <systemd/sd-daemon.h>
#include <systemd/sd-event.h>

#include "base/closer.h"
#include "base/fd.h"
#include "base/log.h"
#include "end.h"
#include "fabric.h"
#include "hybrid.h"
#include "keeper.h"
#include "listener.h"
#include "proto/limits.h"
#include "sandbox.h"
#include "vm.h"
#include "window.h"

/* argp finds it by this name. */
__attribute__((visibility("default"))) const char *argp_program_version = "vmci-device (OpenVMCI) " OPENVMCI_VERSION;

#define DEFAULT_SPIN_US 200u
#define TIMER_SLACK_NS 1000ul	/* we rest for some microseconds between looks at streams */
#define MAX_SPIN_US 1000000u

/* Is this a build with AddressSanitizer? Its leak check clones and traces the process. */
#if defined(__SANITIZE_ADDRESS__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

struct options {
	const char *socket;
	const char *hybrid;
	const char *rendezvous;
	const char *name;
	int fd;
	int conn_fd;
	int fabric_fd;
	int window_fd;
	uint64_t window_size;
	bool once;
	bool no_sandbox;
	bool no_keeper;
	enum log_level level;
	struct vm_config vm;
};

enum {
	OPT_SOCKET = 's',
	OPT_CID = 'c',
	OPT_HYBRID = 'y',
	OPT_FD = 'f',
	OPT_LOG = 'l',
	OPT_ONCE = '1',
	OPT_CLASSIC = 256,
	OPT_MSI,
	OPT_INTX,
	OPT_POLL,
	OPT_LEGACY,
	OPT_NO_SANDBOX,
	OPT_NO_KEEPER,
	OPT_CONN_FD,
	OPT_FABRIC_FD,
	OPT_RENDEZVOUS,
	OPT_NAME,
	OPT_WINDOW,
	OPT_WINDOW_FD,
};

static const struct argp_option option_table[] = {
	{ "socket", OPT_SOCKET, "PATH", 0, "Listen for the VMM at the UNIX socket PATH", 1 },
	{ "socket-path", OPT_SOCKET, "PATH", OPTION_ALIAS, NULL, 1 },
	{ "fd", OPT_FD, "N", 0, "Listen at the descriptor N, which was opened by the caller", 1 },
	{ "conn-fd", OPT_CONN_FD, "N", 0, "Serve the VMM that has connected at the descriptor N, then exit", 1 },
	{ "cid", OPT_CID, "N", 0, "The guest's context id, 16 or more", 1 },
	{ "hybrid", OPT_HYBRID, "PATH", 0,
	  "Streams: programs connect to the UNIX socket PATH and send \"CONNECT <port>\"; a guest's connect to port P of "
	  "the host arrives at the UNIX socket PATH_P", 2 },
	{ "fabric-fd", OPT_FABRIC_FD, "N", 0, "Other contexts: the descriptor N is connected to vmcid", 2 },
	{ "rendezvous", OPT_RENDEZVOUS, "PATH", 0,
	  "Where a new vmcid finds this device after the old one has ended: listen at the UNIX socket PATH", 2 },
	{ "name", OPT_NAME, "NAME", 0, "The VM's name, for vmcid", 2 },
	{ "classic", OPT_CLASSIC, NULL, 0, "A device without registers in memory, as before 2022: slow", 3 },
	{ "msi", OPT_MSI, NULL, 0, "MSI instead of MSI-X, so that QEMU can unplug the device", 3 },
	{ "intx", OPT_INTX, NULL, 0, "Offer a legacy interrupt pin, too, for guests of before 2010", 3 },
	{ "window", OPT_WINDOW, "BYTES", 0,
	  "A window of so many bytes, a power of two: memory that programs of the guest and of the host can map", 3 },
	{ "window-fd", OPT_WINDOW_FD, "N", 0, "The same, with the memory at the descriptor N", 3 },
	{ "once", OPT_ONCE, NULL, 0, "Exit when the VM has gone, instead of waiting for the next", 4 },
	{ "poll-us", OPT_POLL, "N", 0,
	  "Look at a busy stream for N microseconds after its last byte before going to sleep (default: 200; 0: do not)", 4 },
	{ "legacy-streams", OPT_LEGACY, NULL, 0, "Streams with the handshake of before 2009 only (for tests)", 4 },
	{ "no-keeper", OPT_NO_KEEPER, NULL, 0,
	  "Do without the process that keeps the VM alive when this one ends before it", 5 },
	{ "no-sandbox", OPT_NO_SANDBOX, NULL, 0, "Keep all rights of the process (for debuggers and sanitizers)", 5 },
	{ "log", OPT_LOG, "LEVEL", 0, "err, warn, info (default), debug or trace", 5 },
	{ 0 },
};

static unsigned long parse_number(struct argp_state *state, const char *name, const char *arg, unsigned long min,
				  unsigned long max)
{
	char *end;
	unsigned long n;

	errno = 0;
	n = strtoul(arg, &end, 0);
	if (errno || end == arg || *end || *arg == '-' || n < min || n > max)
		argp_error(state, "--%s wants a number from %lu to %lu, not \"%s\"", name, min, max, arg);
	return n;
}

static error_t parse_option(int key, char *arg, struct argp_state *state)
{
	struct options *o = state->input;
	int level;

	switch (key) {
	case OPT_SOCKET:
		if (!*arg)
			argp_error(state, "--socket wants a path");
		o->socket = arg;
		break;
	case OPT_FD:
		o->fd = (int)parse_number(state, "fd", arg, 3, 1u << 20);
		break;
	case OPT_CONN_FD:
		o->conn_fd = (int)parse_number(state, "conn-fd", arg, 3, 1u << 20);
		o->once = true;
		break;
	case OPT_FABRIC_FD:
		o->fabric_fd = (int)parse_number(state, "fabric-fd", arg, 3, 1u << 20);
		break;
	case OPT_RENDEZVOUS:
		if (!*arg)
			argp_error(state, "--rendezvous wants a path");
		o->rendezvous = arg;
		break;
	case OPT_NAME:
		if (!*arg)
			argp_error(state, "--name wants a name");
		o->name = arg;
		break;
	case OPT_WINDOW:
		o->window_size = parse_number(state, "window", arg, LIMIT_WINDOW_MIN, LIMIT_WINDOW_MAX);
		if (!window_is_size(o->window_size))
			argp_error(state, "--window wants a power of two, not \"%s\"", arg);
		break;
	case OPT_WINDOW_FD:
		o->window_fd = (int)parse_number(state, "window-fd", arg, 3, 1u << 20);
		break;
	case OPT_CID:
		o->vm.device.cid = (uint32_t)parse_number(state, "cid", arg, VMCI_CID_FIRST_VM, VMCI_INVALID_ID - 1);
		break;
	case OPT_HYBRID:
		if (!*arg)
			argp_error(state, "--hybrid wants a path");
		o->hybrid = arg;
		break;
	case OPT_CLASSIC:
		o->vm.device.classic = true;
		break;
	case OPT_MSI:
		o->vm.device.irq = DEV_IRQ_MSI;
		break;
	case OPT_INTX:
		o->vm.device.intx = true;
		break;
	case OPT_ONCE:
		o->once = true;
		break;
	case OPT_POLL:
		o->vm.spin_ns = parse_number(state, "poll-us", arg, 0, MAX_SPIN_US) * 1000u;
		break;
	case OPT_LEGACY:
		o->vm.legacy = true;
		break;
	case OPT_NO_SANDBOX:
		o->no_sandbox = true;
		break;
	case OPT_NO_KEEPER:
		o->no_keeper = true;
		break;
	case OPT_LOG:
		level = log_level_from_string(arg);
		if (level < 0)
			argp_error(state, "--log wants err, warn, info, debug or trace, not \"%s\"", arg);
		o->level = (enum log_level)level;
		break;
	case ARGP_KEY_ARG:
		argp_error(state, "unexpected argument \"%s\"", arg);
		break;
	case ARGP_KEY_END:
		if ((o->socket != NULL) + (o->fd >= 0) + (o->conn_fd >= 0) > 1)
			argp_error(state, "give one of --socket, --fd and --conn-fd");
		if (!o->socket && o->fd < 0 && o->conn_fd < 0)
			argp_error(state, "give the VMM's socket with --socket, --fd or --conn-fd");
		if (o->window_size && o->window_fd >= 0)
			argp_error(state, "give either --window or --window-fd, not both");
		if (o->fabric_fd >= 0 && (o->fabric_fd == o->fd || o->fabric_fd == o->conn_fd))
			argp_error(state, "--fabric-fd is the VMM's socket");
		if (!o->vm.device.cid)
			argp_error(state, "give the guest's context id with --cid");
		break;
	default:
		return ARGP_ERR_UNKNOWN;
	}
	return 0;
}

static const struct argp option_parser = {
	.options = option_table,
	.parser = parse_option,
	.doc = "A VMCI device for one VM, behind a vfio-user socket.\v"
	       "The VMM (QEMU 10.1 or later, Cloud Hypervisor) must give the VM shared memory.  With QEMU:\n\n"
	       "  qemu-system-x86_64 -m 2G -machine q35,memory-backend=mem0 \\\n"
	       "  -object memory-backend-memfd,id=mem0,size=2G,share=on \\\n"
	       "  -device '{\"driver\":\"vfio-user-pci\",\"socket\":{\"type\":\"unix\",\"path\":\"PATH\"}}'",
};

/**
 * struct server - the process
 * @vm:       the VMM that is being served, or NULL
 * @stopping: a signal came, or the VM of --once has gone
 * @signalled: the former: somebody waits for the end
 * @ends:      sockets of programs
 * @lingering: how many of ends and fabric still have something for programs
 * @limit:    ends that
 * @left:     bytes that they had when it was looked at last
 */
struct server {
	struct options options;
	sd_event *event;
	sd_event_source *listen;
	struct vm *vm;
	struct ends *ends;
	bool stopping;
	bool signalled;
	int lingering;
	sd_event_source *limit;
	size_t left;
	int fd;
};

static void on_idle(void *ctx)
{
	struct server *server = ctx;

	if (--server->lingering == 0)
		sd_event_exit(server->event, 0);
}

static size_t bytes_left(const struct server *server)
{
	const struct vm_config *vm = &server->options.vm;

	return ends_lingering(server->ends) + (vm->fabric ? fabric_lingering(vm->fabric) : 0);
}

static int on_lingered(sd_event_source *source, uint64_t usec, void *ctx)
{
	struct server *server = ctx;
	size_t left = bytes_left(server), before = server->left;

	(void)usec;
	server->left = left;
	/* Who reads, however slowly, gets everything, unless somebody waits for us. */
	if (!server->signalled && left < before) {
		sd_event_source_set_time_relative(source, LIMIT_LINGER_USEC);
		return sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
	}
	log_warn("ending, though programs have not read %zu bytes", left);
	sd_event_exit(server->event, 0);
	return 0;
}

/* Programs do not keep it for ever: the next VM may be waiting for this process to end. */
static int limit_lingering(struct server *server)
{
	if (server->limit)
		return 0;
	server->left = bytes_left(server);
	return sd_event_add_time_relative(server->event, &server->limit, CLOCK_MONOTONIC, LIMIT_LINGER_USEC, 0, on_lingered,
					  server);
}

/* No VM any more, and no new one: end when programs have read what is theirs. */
static void linger(struct server *server)
{
	struct hybrid *h = server->options.vm.hybrid;
	struct fabric *f = server->options.vm.fabric;

	server->stopping = true;
	if (server->listen)
		sd_event_source_set_enabled(server->listen, SD_EVENT_OFF);
	if (h)
		hybrid_stop(h);
	server->lingering = ends_stop(server->ends, on_idle, server);
	server->lingering += f && fabric_stop(f, on_idle, server);
	if (!server->lingering || limit_lingering(server) < 0)
		sd_event_exit(server->event, 0);
}

static void on_vm_ended(void *ctx)
{
	struct server *server = ctx;

	server->vm = vm_free(server->vm);
	if (server->options.once || server->stopping)
		linger(server);
	else if (server->listen)
		sd_event_source_set_enabled(server->listen, SD_EVENT_ON);
}

/* The first signal ends things in good order, the second at once. */
static int on_signal(sd_event_source *source, const struct signalfd_siginfo *info, void *ctx)
{
	struct server *server = ctx;
	bool again = server->stopping;

	(void)source;
	(void)info;
	server->stopping = true;
	server->signalled = true;
	sd_notify(0, "STOPPING=1");
	if (again || limit_lingering(server) < 0)
		sd_event_exit(server->event, 0);
	else if (server->vm)
		vm_stop(server->vm);
	else
		linger(server);
	return 0;
}

/* Serve the VMM at @fd: taken over. */
static int serve(struct server *server, int fd)
{
	struct ucred peer = { 0 };
	socklen_t len = sizeof(peer);
	int r;

	getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len);
	r = vm_new(server->event, fd, &server->options.vm, on_vm_ended, server, &server->vm);
	if (r < 0) {
		log_err("cannot serve the VMM: %s", strerror(-r));
		return r;
	}
	log_info("cid %u: VMM connected (pid %d, uid %u)", server->options.vm.device.cid, (int)peer.pid,
		 (unsigned)peer.uid);
	return 0;
}

static int on_vmm(sd_event_source *source, int listener, uint32_t events, void *ctx)
{
	struct server *server = ctx;
	int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

	(void)events;
	if (fd < 0) {
		if (errno != EAGAIN && errno != ECONNABORTED)
			log_err("accept: %s", strerror(errno));
		return 0;
	}
	/* One VM at a time: the next waits in the backlog. */
	if (!serve(server, fd))
		sd_event_source_set_enabled(source, SD_EVENT_OFF);
	return 0;
}

/* Each stream is a descriptor. */
static void raise_nofile(void)
{
	struct rlimit lim;

	if (getrlimit(RLIMIT_NOFILE, &lim))
		return;
	lim.rlim_cur = lim.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &lim))
		log_warn("cannot raise the limit of open files: %s", strerror(errno));
}

/* Is @fd a connected socket of this kind? Makes it ours: non-blocking, close-on-exec. */
static bool is_connected(int fd, int type)
{
	return sd_is_socket(fd, AF_UNIX, type, 0) > 0 && !fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) &&
	       !fcntl(fd, F_SETFD, FD_CLOEXEC);
}

static int open_fabric(struct server *server)
{
	struct options *o = &server->options;
	char number[32];
	struct fabric_config config = {
		.cid = o->vm.device.cid,
		.name = o->name ? o->name : number,
		.fd = o->fabric_fd,
		.rendezvous = o->rendezvous,
		.window = o->vm.window,
		.ends = server->ends,
		.spin_ns = o->vm.spin_ns,
	};

	if (o->fabric_fd < 0 && !o->rendezvous)
		return 0;
	if (o->fabric_fd >= 0 && !is_connected(o->fabric_fd, SOCK_SEQPACKET)) {
		log_err("descriptor %d is not a connected UNIX SEQPACKET socket", o->fabric_fd);
		return -EINVAL;
	}
	snprintf(number, sizeof(number), "cid %u", o->vm.device.cid);
	return fabric_new(server->event, &config, &o->vm.fabric);
}

/* To be done before the keeper starts: it must know how large the window is. It has no business with what is in it. */
static int open_window(struct options *o, struct window *window)
{
	int r = 0;

	if (o->window_fd >= 0)
		r = window_take(window, o->window_fd);
	else if (o->window_size)
		r = window_make(window, o->window_size);
	if (r == -EINVAL)
		log_err("descriptor %d is not memory for a window", o->window_fd);
	else if (r)
		log_err("no memory for the window: %s", strerror(-r));
	else if (window->fd >= 0)
		o->vm.window = window;
	o->vm.device.window = window->size;
	return r;
}

static int server_open(struct server *server)
{
	struct options *o = &server->options;
	int r;

	if (o->conn_fd >= 0) {
		if (!is_connected(o->conn_fd, SOCK_STREAM)) {
			log_err("descriptor %d is not a connected UNIX stream socket", o->conn_fd);
			return -EINVAL;
		}
	} else if (o->fd >= 0) {
		if (sd_is_socket(o->fd, AF_UNIX, SOCK_STREAM, 1) <= 0 ||
		    fcntl(o->fd, F_SETFL, fcntl(o->fd, F_GETFL) | O_NONBLOCK)) {
			log_err("descriptor %d is not a listening UNIX stream socket", o->fd);
			return -EINVAL;
		}
		server->fd = o->fd;
	} else {
		server->fd = listener_open(o->socket);
		if (server->fd < 0) {
			log_err("%s: %s", o->socket,
				server->fd == -EADDRINUSE ? "in use by another process, or not a socket"
							  : strerror(-server->fd));
			return server->fd;
		}
	}
	r = ends_new(server->event, &server->ends);
	if (r < 0) {
		log_err("%s", strerror(-r));
		return r;
	}
	if (o->hybrid) {
		r = hybrid_new(server->event, o->hybrid, server->ends, &o->vm.hybrid);
		if (r < 0) {
			log_err("%s: %s", o->hybrid,
				r == -EADDRINUSE ? "in use by another process, or not a socket" : strerror(-r));
			return r;
		}
	}
	r = open_fabric(server);
	if (r < 0 || server->fd < 0)
		return r;
	r = sd_event_add_io(server->event, &server->listen, server->fd, EPOLLIN, on_vmm, server);
	if (r < 0)
		log_err("cannot watch the socket: %s", strerror(-r));
	return r;
}

static int confine(const struct options *o)
{
	const char *paths[4] = { NULL };
	int n = 0, r;

	if (o->socket)
		paths[n++] = o->socket;
	if (o->hybrid)
		paths[n++] = o->hybrid;
	if (o->rendezvous)
		paths[n++] = o->rendezvous;

	if (o->no_sandbox)
		return 0;
	if (SANITIZED) {
		log_info("built with a sanitizer, which needs more rights: no sandbox");
		return 0;
	}
	r = sandbox_enter(paths);
	if (r < 0)
		log_err("cannot enter the sandbox: %s (--no-sandbox goes without)", strerror(-r));
	return r;
}

/* Without a keeper everything works, until this process ends before its VM. */
static void start_keeper(struct options *o, char **argv)
{
	struct keeper_config config = {
		.device = o->vm.device,
		.confine = !o->no_sandbox && !SANITIZED,
		.level = o->level,
		.argv = argv,
	};
	int r;

	if (o->no_keeper)
		return;
	/* Nobody waits for it. */
	signal(SIGCHLD, SIG_IGN);
	r = keeper_start(&config, &o->vm.keeper);
	if (r < 0)
		log_warn("no keeper: %s; should this process end before its VM, the VM hangs", strerror(-r));
}

static void server_close(struct server *server)
{
	server->vm = vm_free(server->vm);
	server->options.vm.keeper = keeper_free(server->options.vm.keeper);
	server->options.vm.fabric = fabric_free(server->options.vm.fabric);
	server->ends = ends_free(server->ends);
	server->options.vm.hybrid = hybrid_free(server->options.vm.hybrid);
	sd_event_source_disable_unref(server->listen);
	sd_event_source_disable_unref(server->limit);
	if (server->options.socket)
		listener_close(&server->fd, server->options.socket);
	else
		fd_close(&server->fd);
	sd_event_unref(server->event);
}

int main(int argc, char **argv)
{
	struct server server = {
		.options = {
			.fd = -1, .conn_fd = -1, .fabric_fd = -1, .window_fd = -1,
			.level = LOG_LEVEL_INFO,
			.vm = { .spin_ns = DEFAULT_SPIN_US * 1000u },
		},
		.fd = -1,
	};
	sigset_t mask;
	struct window window = { .fd = -1 };
	int r;

	argp_err_exit_status = EXIT_FAILURE;
	argp_parse(&option_parser, argc, argv, 0, NULL, &server.options);
	log_open("vmci-device", server.options.level);
	raise_nofile();
	if (open_window(&server.options, &window))
		return EXIT_FAILURE;
	start_keeper(&server.options, argv);
	prctl(PR_SET_TIMERSLACK, TIMER_SLACK_NS);

	sigemptyset(&mask);
	sigaddset(&mask, SIGTERM);
	sigaddset(&mask, SIGINT);
	sigprocmask(SIG_BLOCK, &mask, NULL);
	signal(SIGPIPE, SIG_IGN);

	r = closer_start(LIMIT_CLOSE_USEC);
	if (r < 0) {
		log_err("cannot close descriptors of others in time: %s", strerror(-r));
		return EXIT_FAILURE;
	}
	r = sd_event_new(&server.event);
	if (r >= 0)
		r = sd_event_add_signal(server.event, NULL, SIGTERM, on_signal, &server);
	if (r >= 0)
		r = sd_event_add_signal(server.event, NULL, SIGINT, on_signal, &server);
	if (r < 0) {
		log_err("cannot set up the event loop: %s", strerror(-r));
		return EXIT_FAILURE;
	}
	r = window_map(&window);
	if (r < 0)
		log_err("cannot map the window: %s", strerror(-r));
	if (r >= 0)
		r = server_open(&server);
	if (r >= 0)
		r = confine(&server.options);
	if (r >= 0) {
		sd_notify(0, "READY=1");
		if (server.options.conn_fd >= 0)
			r = serve(&server, server.options.conn_fd);
		else
			log_info("cid %u: waiting for a VMM", server.options.vm.device.cid);
	}
	if (r >= 0)
		r = sd_event_loop(server.event);
	server_close(&server);
	window_close(&window);
	return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
