/* SPDX-License-Identifier: BSD-2-Clause */
/* vmcid: the broker of the fabric. Options, start and end. */
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
#include <sys/un.h>
#include <systemd/sd-daemon.h>
#include <systemd/sd-event.h>
#include <unistd.h>

#include "base/closer.h"
#include "base/fd.h"
#include "base/log.h"
#include "conf.h"
#include "proto/limits.h"
#include "rundir.h"
#include "sandbox.h"
#include "server.h"
#include "spawner.h"
#include "token.h"
#include "vm.h"

/* argp finds it by this name. */
__attribute__((visibility("default"))) const char *argp_program_version = "vmcid (OpenVMCI) " OPENVMCI_VERSION;

#define SERVICE_RUNDIR "/run/vmci"
#define SERVICE_VMS "/etc/openvmci/vms"
#define SERVICE_CONFIG "/etc/openvmci/vmcid.conf"
#define USER_FOLDER "openvmci"
#define DEVICE_NAME "vmci-device"
#define LOG_NAME "vmcid.log"
/* The log of an embedded vmcid begins anew when it is larger at the start. */
#define LOG_BYTES (1 << 20)

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

/**
 * struct options - the command line, and what follows from it
 * @rundir, @vms, @config, @program: absolute paths; @vms may be ""
 */
struct options {
	const char *rundir_arg;
	const char *vms_arg;
	const char *config_arg;
	const char *program_arg;
	char rundir[CONF_PATH_MAX];
	char vms[CONF_PATH_MAX];
	char config[CONF_PATH_MAX];
	char program[CONF_PATH_MAX];
	bool is_service;
	bool is_embedded;
	bool no_sandbox;
	enum log_level level;
};

enum {
	OPT_RUNDIR = 'r',
	OPT_VMS = 'm',
	OPT_CONFIG = 'f',
	OPT_DEVICE = 'd',
	OPT_LOG = 'l',
	OPT_EMBEDDED = 256,
	OPT_NO_SANDBOX,
};

static const struct argp_option option_table[] = {
	{ "runtime-dir", OPT_RUNDIR, "DIR", 0,
	  "Directory of the sockets (default: $VMCI_RUNTIME_DIR; /run/vmci for root and as a service; else "
	  "$XDG_RUNTIME_DIR/vmci)", 1 },
	{ "vms", OPT_VMS, "DIR", 0,
	  "Directory of the VMs' definitions, NAME.vmx (default: /etc/openvmci/vms for root and as a service, else "
	  "~/.config/openvmci/vms)", 1 },
	{ "config", OPT_CONFIG, "FILE", 0,
	  "Configuration (default: /etc/openvmci/vmcid.conf for root and as a service, else "
	  "~/.config/openvmci/vmcid.conf; it need not be there)", 1 },
	{ "device", OPT_DEVICE, "PROGRAM", 0,
	  "What is started for each VM (default: vmci-device beside this program)", 2 },
	{ "embedded", OPT_EMBEDDED, NULL, 0,
	  "Leave when the last client has gone, log to vmcid.log in the runtime directory, serve no VMs: how libvmci "
	  "starts it", 3 },
	{ "no-sandbox", OPT_NO_SANDBOX, NULL, 0, "Keep all rights of the process (for debuggers and sanitizers)", 4 },
	{ "log", OPT_LOG, "LEVEL", 0, "err, warn, info (default), debug or trace", 4 },
	{ 0 },
};

static error_t parse_option(int key, char *arg, struct argp_state *state)
{
	struct options *o = state->input;
	int level;

	switch (key) {
	case OPT_RUNDIR:
		if (!*arg)
			argp_error(state, "--runtime-dir wants a directory");
		o->rundir_arg = arg;
		break;
	case OPT_VMS:
		if (!*arg)
			argp_error(state, "--vms wants a directory");
		o->vms_arg = arg;
		break;
	case OPT_CONFIG:
		if (!*arg)
			argp_error(state, "--config wants a file");
		o->config_arg = arg;
		break;
	case OPT_DEVICE:
		if (!*arg)
			argp_error(state, "--device wants a program");
		o->program_arg = arg;
		break;
	case OPT_EMBEDDED:
		o->is_embedded = true;
		break;
	case OPT_NO_SANDBOX:
		o->no_sandbox = true;
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
	default:
		return ARGP_ERR_UNKNOWN;
	}
	return 0;
}

static const struct argp option_parser = {
	.options = option_table,
	.parser = parse_option,
	.doc = "The broker of VMCI: introduces virtual machines, programs of the host, and programs to each other.\v"
	       "Without any option it does what is usual for who starts it.  See vmcid(8) and vmcid.conf(5).",
};

/* --- Paths ------------------------------------------------------------------------------------------------------ */

__attribute__((format(printf, 2, 3))) static int set_path(char *path, const char *fmt, ...)
{
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(path, CONF_PATH_MAX, fmt, ap);
	va_end(ap);
	if (n < 0 || n >= (int)CONF_PATH_MAX) {
		log_err("%.100s...: %s", path, strerror(ENAMETOOLONG));
		return -ENAMETOOLONG;
	}
	return 0;
}

/* As it is said, but from the root on: an embedded one changes its directory. */
static int set_absolute(char *path, const char *arg)
{
	char cwd[CONF_PATH_MAX];

	if (*arg == '/')
		return set_path(path, "%s", arg);
	if (!getcwd(cwd, sizeof(cwd))) {
		log_err("%s: %s", arg, strerror(errno));
		return -errno;
	}
	return set_path(path, "%s/%s", cwd, arg);
}

static bool is_set(const char *value)
{
	return value && *value;
}

/* Where libvmci looks for us: vmci_open(). */
static int choose_rundir(struct options *o)
{
	const char *dir = getenv("VMCI_RUNTIME_DIR"), *xdg = getenv("XDG_RUNTIME_DIR");
	char run[64];
	unsigned uid = geteuid();

	if (o->rundir_arg)
		return set_absolute(o->rundir, o->rundir_arg);
	if (is_set(dir))
		return set_absolute(o->rundir, dir);
	if (o->is_service)
		return set_path(o->rundir, "%s", SERVICE_RUNDIR);
	if (is_set(xdg))
		return set_path(o->rundir, "%s/vmci", xdg);
	snprintf(run, sizeof(run), "/run/user/%u", uid);
	if (!access(run, W_OK | X_OK))
		return set_path(o->rundir, "%s/vmci", run);
	return set_path(o->rundir, "/tmp/vmci-%u", uid);
}

/* @name in the place for configuration of who we are. */
static int set_configured(const struct options *o, char *path, const char *service, const char *name)
{
	const char *xdg = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");

	if (o->is_service)
		return set_path(path, "%s", service);
	if (is_set(xdg))
		return set_path(path, "%s/" USER_FOLDER "/%s", xdg, name);
	if (is_set(home))
		return set_path(path, "%s/.config/" USER_FOLDER "/%s", home, name);
	*path = '\0';
	return 0;
}

static int choose_vms(struct options *o)
{
	int r;

	*o->vms = '\0';
	if (o->vms_arg)
		return set_absolute(o->vms, o->vms_arg);
	if (o->is_embedded)
		return 0;
	r = set_configured(o, o->vms, SERVICE_VMS, "vms");
	if (!r && *o->vms && access(o->vms, F_OK))
		*o->vms = '\0';
	return r;
}

static int choose_program(struct options *o, const struct conf *conf)
{
	char *slash;
	ssize_t n;

	if (o->program_arg)
		return set_absolute(o->program, o->program_arg);
	if (*conf->program)
		return set_path(o->program, "%s", conf->program);
	n = readlink("/proc/self/exe", o->program, sizeof(o->program) - sizeof(DEVICE_NAME));
	if (n < 0) {
		log_err("/proc/self/exe: %s", strerror(errno));
		return -errno;
	}
	o->program[n] = '\0';
	slash = strrchr(o->program, '/');
	strcpy(slash ? slash + 1 : o->program, DEVICE_NAME);
	return 0;
}

static int read_conf(struct options *o, struct conf *conf)
{
	char reason[CONF_REASON_SIZE], *text;
	size_t len;
	int r;

	if (o->config_arg)
		r = set_absolute(o->config, o->config_arg);
	else
		r = set_configured(o, o->config, SERVICE_CONFIG, "vmcid.conf");
	if (r || !*o->config)
		return r;
	r = conf_read_file(AT_FDCWD, o->config, &text, &len);
	/* Not there, or in a home that is not this user's: environments are inherited. */
	if (!o->config_arg && (r == -ENOENT || (r == -EACCES && o->is_embedded)))
		return 0;
	if (r) {
		log_err("%s: %s", o->config, strerror(-r));
		return r;
	}
	r = conf_parse(text, len, conf, reason);
	free(text);
	if (r)
		log_err("%s: %s", o->config, r == -EBADMSG ? reason : strerror(-r));
	return r;
}

/* --- Start ------------------------------------------------------------------------------------------------------- */

/*
 * Return: the socket that systemd listens at for us; -1: there is none; another negative number after a line in the
 * log
 */
static int take_passed_socket(void)
{
	int n = sd_listen_fds(1);

	if (n < 0) {
		log_err("cannot take the socket of systemd: %s", strerror(-n));
		return -EINVAL;
	}
	if (!n)
		return -1;
	if (n > 1 || sd_is_socket(SD_LISTEN_FDS_START, AF_UNIX, SOCK_SEQPACKET, 1) <= 0) {
		log_err("passed was something else than one listening UNIX socket of type SEQPACKET");
		return -EINVAL;
	}
	if (fcntl(SD_LISTEN_FDS_START, F_SETFL, fcntl(SD_LISTEN_FDS_START, F_GETFL) | O_NONBLOCK)) {
		log_err("descriptor %d: %s", SD_LISTEN_FDS_START, strerror(errno));
		return -EINVAL;
	}
	return SD_LISTEN_FDS_START;
}

/* Each client, each of its objects, and each VM is a descriptor or some. */
static void raise_nofile(void)
{
	struct rlimit lim;

	if (getrlimit(RLIMIT_NOFILE, &lim))
		return;
	lim.rlim_cur = lim.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &lim))
		log_warn("cannot raise the limit of open files: %s", strerror(errno));
}

/*
 * The client that has started us goes its own way: no terminal, no directory of its that we keep busy, and messages
 * where they are found again.
 */
static int detach(const struct rundir *rundir)
{
	struct stat st;
	int null, log, r = 0;

	log = openat(rundir->fd, LOG_NAME, O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_CLOEXEC, 0600);
	null = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (log < 0 || null < 0)
		r = -errno;
	else if (!fstat(log, &st) && st.st_size > LOG_BYTES && ftruncate(log, 0))
		r = -errno;
	if (!r && (dup2(null, STDIN_FILENO) < 0 || dup2(null, STDOUT_FILENO) < 0 || dup2(log, STDERR_FILENO) < 0))
		r = -errno;
	fd_close(&log);
	fd_close(&null);
	if (r) {
		log_err("%s/" LOG_NAME ": %s", rundir->path, strerror(-r));
		return r;
	}
	/* No matter whether who started us has done this. */
	(void)setsid();
	if (chdir("/"))
		return -errno;
	return 0;
}

static int on_signal(sd_event_source *source, const struct signalfd_siginfo *info, void *ctx)
{
	(void)ctx;
	log_info("signal %u: ending; devices go on", info->ssi_signo);
	sd_notify(0, "STOPPING=1");
	return sd_event_exit(sd_event_source_get_event(source), 0);
}

static int on_hangup(sd_event_source *source, const struct signalfd_siginfo *info, void *ctx)
{
	struct server **server = ctx;

	(void)source;
	(void)info;
	sd_notify(0, "RELOADING=1");
	log_info("reading the definitions of VMs anew");
	if (*server)
		server_reload(*server);
	sd_notify(0, "READY=1");
	return 0;
}

static int make_event(sd_event **ret_event, struct server **server)
{
	int r = sd_event_new(ret_event);

	if (r >= 0)
		r = sd_event_add_signal(*ret_event, NULL, SIGTERM, on_signal, NULL);
	if (r >= 0)
		r = sd_event_add_signal(*ret_event, NULL, SIGINT, on_signal, NULL);
	if (r >= 0)
		r = sd_event_add_signal(*ret_event, NULL, SIGHUP, on_hangup, server);
	if (r >= 0)
		r = sd_event_set_watchdog(*ret_event, true);
	if (r < 0)
		log_err("cannot set up the event loop: %s", strerror(-r));
	return r < 0 ? r : 0;
}

static int confine(const struct options *o, const struct rundir *rundir)
{
	int r;

	if (o->no_sandbox)
		return 0;
	if (SANITIZED) {
		log_info("built with a sanitizer, which needs more rights: no sandbox");
		return 0;
	}
	r = sandbox_enter(rundir->fd);
	if (r)
		log_err("cannot enter the sandbox: %s (--no-sandbox goes without)", strerror(-r));
	return r;
}

/* With everything in place. */
static int run(struct options *o, const struct conf *conf, struct rundir *rundir, struct spawner *spawner, int *control)
{
	const struct vms_config vms = {
		.path = *o->vms ? o->vms : NULL,
		.program = o->program,
		.level = o->level,
		.sandbox = !o->no_sandbox,
	};
	const struct server_config config = {
		.rundir = rundir,
		.conf = conf,
		.spawner = spawner,
		.vms = &vms,
		.control = fd_take(control),
		.is_embedded = o->is_embedded,
	};
	struct server *server = NULL;
	sd_event *event = NULL;
	bool deserted = false;
	int r;

	r = make_event(&event, &server);
	if (!r)
		r = server_new(event, &config, &server);
	if (!r)
		r = confine(o, rundir);
	if (!r) {
		sd_notify(0, "READY=1");
		log_info("listening at %s/control.sock", rundir->path);
		r = sd_event_loop(event);
		deserted = server_is_deserted(server);
	}
	server_free(server);
	sd_event_unref(event);
	rundir_close(rundir, deserted);
	return r;
}

static void block_signals(void)
{
	sigset_t mask;

	sigemptyset(&mask);
	sigaddset(&mask, SIGTERM);
	sigaddset(&mask, SIGINT);
	sigaddset(&mask, SIGHUP);
	sigprocmask(SIG_BLOCK, &mask, NULL);
	signal(SIGPIPE, SIG_IGN);
}

static int start(struct options *o)
{
	struct conf conf = conf_default();
	char reason[RUNDIR_REASON_SIZE];
	struct spawner *spawner = NULL;
	struct rundir rundir;
	int control = -1, r;

	r = read_conf(o, &conf);
	if (!r)
		r = choose_rundir(o);
	if (!r)
		r = choose_vms(o);
	if (!r)
		r = choose_program(o, &conf);
	if (r)
		return r;
	if (*o->vms && access(o->vms, R_OK | X_OK)) {
		log_err("%s: %s", o->vms, strerror(errno));
		return -errno;
	}
	control = take_passed_socket();
	if (control < -1)
		return control;
	block_signals();
	raise_nofile();
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	/* Before anything is open that it should not have. */
	if (*o->vms)
		r = spawner_start(&spawner);
	if (r) {
		log_err("cannot start a process: %s", strerror(-r));
		return r;
	}
	r = closer_start(LIMIT_CLOSE_USEC);
	if (r) {
		log_err("cannot close descriptors of others in time: %s", strerror(-r));
		return r;
	}
	r = token_init();
	if (r)
		log_err("cannot get random numbers");
	if (!r)
		r = rundir_open(o->rundir, o->is_service ? 0755 : 0700, o->is_embedded, &rundir, reason);
	if (r == -EBUSY && o->is_embedded) {
		/* Somebody was faster: all is well. */
		r = 0;
	} else if (r) {
		log_err("%s", reason);
	} else {
		if (o->is_embedded)
			r = detach(&rundir);
		if (!r)
			r = run(o, &conf, &rundir, spawner, &control);
	}
	fd_close(&control);
	spawner_free(spawner);
	return r;
}

int main(int argc, char **argv)
{
	struct options options = { .level = LOG_LEVEL_INFO };

	argp_err_exit_status = EXIT_FAILURE;
	argp_parse(&option_parser, argc, argv, 0, NULL, &options);
	log_open("vmcid", options.level);
	options.is_service = !options.is_embedded && (!geteuid() || getenv("RUNTIME_DIRECTORY"));
	return start(&options) < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
