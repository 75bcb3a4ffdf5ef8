/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * DOC: Theory of operation
 *
 *	VMM socket --> session --> device --> streams --> ends (sockets of programs)
 *	               |            |   |       |
 *	               guest memory +---|-------+
 *	                                +--> fabric (other contexts: datagrams, doorbells, queue pairs)
 *
 * Calls go to the right during one dispatch of the event loop; what the streams have to do is then done
 * in one place, on_work(), which runs as long as there is work, with the other event sources getting
 * their turns in between. While streams are hot (see stream_pump.c) the loop does not sleep, but for moments in which
 * none of them is to be looked at.
 */
#include "vm.h"

#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>

#include "base/fd.h"
#include "base/log.h"
#include "desc.h"
#include "proto/dg.h"
#include "proto/limits.h"
#include "vfio/session.h"

/* The other sources of events never wait longer than this for one that rests. */
#define REST_MAX_NS 50000u

struct vm {
	char name[32];
	struct vm_config config;
	sd_event *event;
	sd_event_source *io;		/* the session's socket */
	sd_event_source *irq;		/* INTx resample */
	sd_event_source *work;		/* runs while there is work */
	sd_event_source *timer;
	struct vus_dma *dma;
	struct dev *dev;
	struct streams *streams;
	struct vus_session *session;
	uint64_t rest_ns;		/* for so long there is nothing to look at */
	uint64_t stop_at;		/* vm_stop() was called, and waits no longer than that; 0: it was not */
	bool roomy;			/* the guest has made room in its queue since the streams ran */
	bool over;			/* the session has ended: the VMM has gone, or is to be left alone */
	bool active;			/* the guest's driver was there when last looked at */
	bool unusable;			/* and was told off for memory that cannot be reached */
	void (*ended)(void *ctx);
	void *ended_ctx;
};

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* --- Ports of the device and of the streams ------------------------------------------- */

static void port_interrupt(void *ctx, unsigned cause)
{
	struct vm *vm = ctx;

	vus_irq_cause(vus_session_irqs(vm->session), cause);
}

static bool port_mem_is_usable(void *ctx)
{
	struct vm *vm = ctx;

	if (vus_dma_files(vm->dma) && !vus_dma_is_share_off_suspected(vm->dma))
		return true;
	if (vm->unusable)
		return false;
	vm->unusable = true;
	log_err("%s: the guest's memory cannot be reached, so its driver is turned away; the VM needs "
		"-object memory-backend-memfd,share=on", vm->name);
	return false;
}

static void port_intx(void *ctx, bool level)
{
	struct vm *vm = ctx;

	vus_irq_intx(vus_session_irqs(vm->session), level);
}

/* Do we stand for context @context towards the guest, as far as streams go? */
static bool has_streams(const struct vm *vm, uint32_t context)
{
	return context == VMCI_CID_HOST ||
	       (vm->config.fabric && context >= VMCI_CID_FIRST_VM && context != VMCI_INVALID_ID);
}

static int32_t port_datagram(void *ctx, const uint8_t *dg, size_t size)
{
	struct vm *vm = ctx;
	struct dg_header h = dg_parse(dg);

	if (h.dst.resource == VMCI_RID_STREAM && has_streams(vm, h.dst.context))
		return streams_packet(vm->streams, dg, size);
	if (vm->config.fabric)
		return fabric_datagram(vm->config.fabric, dg, size);
	return h.dst.context == VMCI_CID_HOST ? VMCI_ERROR_INVALID_RESOURCE : VMCI_ERROR_DST_UNREACHABLE;
}

static int32_t port_doorbell(void *ctx, struct vmci_handle handle)
{
	struct vm *vm = ctx;

	if (vm->config.fabric)
		return fabric_doorbell(vm->config.fabric, handle);
	return handle.context == VMCI_CID_HOST ? VMCI_ERROR_NOT_FOUND : VMCI_ERROR_DST_UNREACHABLE;
}

static void port_qp_attached(void *ctx, void *owner)
{
	/* A stream waits for the ATTACH packet, which follows. */
	(void)ctx;
	(void)owner;
}

static void port_qp_gone(void *ctx, void *owner)
{
	(void)ctx;
	stream_peer_gone(owner);
}

static void port_room(void *ctx)
{
	struct vm *vm = ctx;

	vm->roomy = true;
	if (vm->config.fabric)
		fabric_room(vm->config.fabric);
}

static void port_bell_gone(void *ctx, struct vmci_handle handle)
{
	struct vm *vm = ctx;

	fabric_bell_gone(vm->config.fabric, handle);
}

static void port_driver_gone(void *ctx)
{
	struct vm *vm = ctx;

	fabric_driver_gone(vm->config.fabric);
}

static int32_t port_far_find(void *ctx, const struct dev_far *far, void **ret_owner, uint32_t *ret_context)
{
	struct vm *vm = ctx;

	return fabric_far_find(vm->config.fabric, far, ret_owner, ret_context);
}

static void port_far_attached(void *ctx, void *owner)
{
	struct vm *vm = ctx;

	fabric_far_attached(vm->config.fabric, owner);
}

static void port_far_gone(void *ctx, void *owner)
{
	struct vm *vm = ctx;

	fabric_far_gone(vm->config.fabric, owner);
}

static int places(void *ctx, const struct mem_pages *pages, size_t off, size_t len, struct vus_places *ret)
{
	struct vm *vm = ctx;

	return vus_dma_places(vm->dma, pages, off, len, ret);
}

static void port_log(void *ctx, enum log_level level, const char *line)
{
	struct vm *vm = ctx;

	log_msg(level, "%s: %s", vm->name, line);
}

static uint64_t port_now(void *ctx)
{
	(void)ctx;
	return now_ns();
}

static int32_t port_send(void *ctx, const uint8_t *dg, size_t size)
{
	struct vm *vm = ctx;

	return dev_deliver(vm->dev, dg, size);
}

static uint64_t port_qp_room(void *ctx)
{
	struct vm *vm = ctx;

	return dev_qp_room(vm->dev);
}

static int32_t port_qp_create(void *ctx, uint32_t local_cid, uint64_t produce, uint64_t consume, void *owner,
			      struct vmci_handle *ret_handle)
{
	struct vm *vm = ctx;

	return dev_qp_create_as(vm->dev, local_cid, produce, consume, owner, ret_handle);
}

static int32_t port_qp_attach(void *ctx, struct vmci_handle handle, uint32_t local_cid, uint64_t produce,
			      uint64_t consume, void *owner)
{
	struct vm *vm = ctx;

	return dev_qp_attach_as(vm->dev, handle, local_cid, produce, consume, owner);
}

static int32_t port_qp_map(void *ctx, struct vmci_handle handle, struct qp *ret_qp)
{
	struct vm *vm = ctx;

	return dev_qp_map(vm->dev, handle, ret_qp);
}

static void port_qp_detach(void *ctx, struct vmci_handle handle)
{
	struct vm *vm = ctx;

	dev_qp_detach(vm->dev, handle);
}

static int port_open(void *ctx, struct stream *s, uint32_t local_cid, uint32_t local_port, uint32_t peer_port,
		     void **ret_end)
{
	struct vm *vm = ctx;

	int r = -ENOENT, hybrid;

	if (vm->stop_at)
		return -ECONNREFUSED;
	if (vm->config.fabric)
		r = fabric_open(vm->config.fabric, s, local_cid, local_port, peer_port, ret_end);
	/* A port of the fabric comes first; what is forbidden there is so for hybrid sockets, too. */
	if (local_cid == VMCI_CID_HOST && vm->config.hybrid && (r == -ENOENT || r == -EHOSTDOWN)) {
		hybrid = hybrid_open(vm->config.hybrid, s, local_port, ret_end);
		r = hybrid && r == -EHOSTDOWN ? r : hybrid;
	}
	return r == -EHOSTDOWN && vm->config.fabric ? fabric_postpone(vm->config.fabric, s, ret_end) : r;
}

/* --- Operations of the session ------------------------------------------------------------ */

static void op_read(void *ctx, unsigned region, uint64_t off, void *buf, size_t len)
{
	struct vm *vm = ctx;

	if (region == VUS_REGION_CONFIG)
		dev_config_read(vm->dev, off, buf, len);
	else if (region == VMCI_WINDOW_BAR)
		window_read(vm->config.window, off, buf, len);
	else
		dev_bar_read(vm->dev, region, off, buf, len);
}

/* A driver that left, or was replaced, takes its connects with it (transport reference, 10.5). */
static void notice_driver(struct vm *vm)
{
	bool active = dev_is_active(vm->dev);

	if (vm->active && !active)
		streams_reset(vm->streams);
	vm->active = active;
}

static void op_write(void *ctx, unsigned region, uint64_t off, const void *buf, size_t len)
{
	struct vm *vm = ctx;

	if (region == VUS_REGION_CONFIG)
		dev_config_write(vm->dev, off, buf, len);
	else if (region == VMCI_WINDOW_BAR)
		window_write(vm->config.window, off, buf, len);
	else
		dev_bar_write(vm->dev, region, off, buf, len);
	notice_driver(vm);
}

static void op_reset(void *ctx)
{
	struct vm *vm = ctx;

	dev_reset(vm->dev);
	notice_driver(vm);
}

static void op_dma_changed(void *ctx, uint64_t addr, uint64_t size, bool mapped)
{
	struct vm *vm = ctx;

	(void)addr;
	(void)size;
	if (!mapped) {
		if (vm->config.fabric)
			fabric_memory_gone(vm->config.fabric);
		return;
	}
	streams_memory_changed(vm->streams);
	if (vm->config.fabric)
		fabric_memory_changed(vm->config.fabric);
}

static void op_tap(void *ctx, const uint8_t *msg, size_t len, const int *fds, size_t n_fds)
{
	struct vm *vm = ctx;

	keeper_tell(vm->config.keeper, msg, len, fds, n_fds);
}

static const struct vus_ops session_ops = {
	.region_read = op_read,
	.region_write = op_write,
	.reset = op_reset,
	.dma_changed = op_dma_changed,
	.tap = op_tap,
};

/* --- Events --------------------------------------------------------------------------------- */

static void vm_end(struct vm *vm)
{
	sd_event_source_set_enabled(vm->io, SD_EVENT_OFF);
	sd_event_source_set_enabled(vm->work, SD_EVENT_OFF);
	sd_event_source_set_enabled(vm->timer, SD_EVENT_OFF);
	vm->ended(vm->ended_ctx);
}

/* Was it told to stop, and need not wait any longer? */
static bool is_stopped(const struct vm *vm)
{
	return vm->stop_at && (dev_is_drained(vm->dev) || now_ns() >= vm->stop_at);
}

/* Serve the session; false: it has ended, and so may have @vm. */
static bool serve(struct vm *vm)
{
	int r = vus_session_handle(vm->session);

	keeper_told(vm->config.keeper);
	vm->over = r != 0;
	if (r == 0 && !is_stopped(vm))
		return true;
	if (r == 1)
		log_info("%s: the VMM disconnected", vm->name);
	vm_end(vm);
	return false;
}

/* Before each wait of the loop: what is left to do, and until when may it sleep? */
static int on_prepare(sd_event_source *source, void *ctx)
{
	struct vm *vm = ctx;
	uint64_t deadline, session_deadline;
	bool hot, busy;

	(void)source;
	if (vm->roomy)
		streams_room(vm->streams);
	vm->roomy = false;
	busy = streams_run(vm->streams);
	hot = streams_poll(vm->streams);
	busy = vus_session_is_pending(vm->session) || busy;
	if (vm->config.fabric)
		busy = fabric_run(vm->config.fabric) || busy;
	vm->rest_ns = hot && !busy ? streams_rest(vm->streams) : 0;
	sd_event_source_set_enabled(vm->work, hot || busy ? SD_EVENT_ON : SD_EVENT_OFF);

	sd_event_source_set_io_events(vm->io, vus_session_events(vm->session));
	deadline = streams_deadline(vm->streams);
	if (vm->config.fabric && fabric_deadline(vm->config.fabric) < deadline)
		deadline = fabric_deadline(vm->config.fabric);
	session_deadline = vus_session_deadline(vm->session);
	if (session_deadline && session_deadline < deadline)
		deadline = session_deadline;
	if (vm->stop_at && vm->stop_at < deadline)
		deadline = vm->stop_at;
	if (deadline == UINT64_MAX) {
		sd_event_source_set_enabled(vm->timer, SD_EVENT_OFF);
	} else {
		sd_event_source_set_time(vm->timer, deadline / 1000 + 1);
		sd_event_source_set_enabled(vm->timer, SD_EVENT_ONESHOT);
	}
	return 0;
}

/* Leave the processor to those whose bytes we wait for. Only the VMM is heard meanwhile. */
static void rest(struct vm *vm)
{
	struct pollfd fd = { .fd = vus_session_fd(vm->session), .events = POLLIN };
	struct timespec time = { .tv_nsec = (long)(vm->rest_ns < REST_MAX_NS ? vm->rest_ns : REST_MAX_NS) };

	ppoll(&fd, 1, &time, NULL);
}

/* Enabled while there is work: the loop comes round at once, and on_prepare() does it. */
static int on_work(sd_event_source *source, void *ctx)
{
	struct vm *vm = ctx;

	(void)source;
	if (vm->rest_ns)
		rest(vm);
	else
		sched_yield();
	serve(vm);
	return 0;
}

static int on_session(sd_event_source *source, int fd, uint32_t events, void *ctx)
{
	(void)source;
	(void)fd;
	(void)events;
	serve(ctx);
	return 0;
}

static int on_timer(sd_event_source *source, uint64_t usec, void *ctx)
{
	(void)source;
	(void)usec;
	serve(ctx);
	return 0;
}

static int on_irq(sd_event_source *source, int fd, uint32_t events, void *ctx)
{
	struct vm *vm = ctx;

	(void)source;
	(void)fd;
	(void)events;
	vus_irqs_handle(vus_session_irqs(vm->session));
	return 0;
}

/* --- Making and ending ------------------------------------------------------------------------ */

static int watch(struct vm *vm)
{
	int fd = vus_irqs_fd(vus_session_irqs(vm->session));
	int r;

	r = sd_event_add_io(vm->event, &vm->io, vus_session_fd(vm->session), EPOLLIN, on_session, vm);
	if (r >= 0)
		r = sd_event_source_set_prepare(vm->io, on_prepare);
	if (r >= 0 && fd >= 0)
		r = sd_event_add_io(vm->event, &vm->irq, fd, EPOLLIN, on_irq, vm);
	if (r >= 0)
		r = sd_event_add_defer(vm->event, &vm->work, on_work, vm);
	if (r >= 0)
		r = sd_event_source_set_priority(vm->work, SD_EVENT_PRIORITY_IDLE);
	if (r >= 0)
		r = sd_event_add_time(vm->event, &vm->timer, CLOCK_MONOTONIC, 0, 1, on_timer, vm);
	return r < 0 ? r : 0;
}

int vm_new(sd_event *event, int fd, const struct vm_config *config, void (*ended)(void *ctx), void *ctx,
	   struct vm **ret_vm)
{
	struct vm *vm = calloc(1, sizeof(*vm));
	struct dev_ports dev_ports = {
		.ctx = vm,
		.mem_is_usable = port_mem_is_usable,
		.interrupt = port_interrupt,
		.intx = port_intx,
		.datagram = port_datagram,
		.doorbell = port_doorbell,
		.qp_attached = port_qp_attached,
		.qp_gone = port_qp_gone,
		.log = port_log,
		.room = port_room,
	};
	struct stream_ports stream_ports = {
		.ctx = vm,
		.now = port_now,
		.send = port_send,
		.qp_room = port_qp_room,
		.qp_create = port_qp_create,
		.qp_attach = port_qp_attach,
		.qp_map = port_qp_map,
		.qp_detach = port_qp_detach,
		.open = port_open,
		.end = &end_ops,
		.log = port_log,
	};
	struct stream_config stream_config = {
		.peer_cid = config->device.cid,
		.legacy = config->legacy,
		.ring_size = LIMIT_RING_DEFAULT,
		.spin_ns = config->spin_ns,
		.log_level = log_wants(LOG_LEVEL_TRACE) ? LOG_LEVEL_TRACE
			     : log_wants(LOG_LEVEL_DEBUG) ? LOG_LEVEL_DEBUG
							  : LOG_LEVEL_INFO,
	};
	struct vus_desc desc;
	int r;

	if (!vm) {
		fd_close(&fd);
		return -ENOMEM;
	}
	vm->event = sd_event_ref(event);
	vm->config = *config;
	vm->ended = ended;
	vm->ended_ctx = ctx;
	snprintf(vm->name, sizeof(vm->name), "cid %u", config->device.cid);

	r = vus_dma_new(vm->name, LIMIT_VFIO_MAPS, &vm->dma);
	if (r)
		goto fail;
	dev_ports.mem = vus_dma_mem(vm->dma);
	dev_ports.carry = keeper_carry(config->keeper);
	if (config->fabric) {
		dev_ports.bell_gone = port_bell_gone;
		dev_ports.driver_gone = port_driver_gone;
		dev_ports.far_find = port_far_find;
		dev_ports.far_attached = port_far_attached;
		dev_ports.far_gone = port_far_gone;
	}
	r = dev_new(&config->device, &dev_ports, &vm->dev);
	if (r)
		goto fail;
	r = streams_new(&stream_config, &stream_ports, &vm->streams);
	if (r)
		goto fail;
	desc_make(vm->dev, vm->name, config->device.intx, &desc);
	if (config->window) {
		desc.region[VMCI_WINDOW_BAR].flags |= VUS_REGION_MMAP;
		desc.region[VMCI_WINDOW_BAR].fd = config->window->fd;
	}
	r = vus_session_new(fd_take(&fd), &desc, vm->dma, &session_ops, vm, &vm->session);
	if (r)
		goto fail;
	if (config->keeper)
		vus_session_set_input(vm->session, keeper_input(config->keeper));
	r = watch(vm);
	if (r)
		goto fail;
	keeper_attach(config->keeper, vus_session_fd(vm->session));
	if (config->hybrid)
		hybrid_set_streams(config->hybrid, vm->streams);
	if (config->fabric) {
		fabric_set_dev(config->fabric, vm->dev);
		fabric_set_places(config->fabric, places, vm);
		fabric_set_streams(config->fabric, vm->streams);
	}
	*ret_vm = vm;
	return 0;

fail:
	fd_close(&fd);
	vm_free(vm);
	return r;
}

void vm_stop(struct vm *vm)
{
	vm->stop_at = now_ns() + LIMIT_FAREWELL_NS;
	streams_reset(vm->streams);
	serve(vm);
}

/*
 * With a keeper, closing the connection does not end it: the keeper has it, too. So it is told what is to become of
 * it, when nothing here touches the guest any more.
 */
static void close_session(struct vm *vm)
{
	if (vm->over)
		shutdown(vus_session_fd(vm->session), SHUT_RDWR);
	vm->session = vus_session_free(vm->session);
	if (vm->over)
		keeper_drop(vm->config.keeper);
	else
		keeper_hand_over(vm->config.keeper);
}

struct vm *vm_free(struct vm *vm)
{
	if (!vm)
		return NULL;
	if (vm->config.hybrid)
		hybrid_set_streams(vm->config.hybrid, NULL);
	if (vm->config.fabric)
		fabric_set_streams(vm->config.fabric, NULL);
	sd_event_source_disable_unref(vm->io);
	sd_event_source_disable_unref(vm->irq);
	sd_event_source_disable_unref(vm->work);
	sd_event_source_disable_unref(vm->timer);
	if (vm->dev)
		dev_let_go(vm->dev);
	/* While guest memory is still there: streams hand over what the guest wrote last. */
	if (vm->session)
		dev_reset(vm->dev);
	if (vm->config.fabric) {
		fabric_set_dev(vm->config.fabric, NULL);
		fabric_set_places(vm->config.fabric, NULL, NULL);
	}
	vm->streams = streams_free(vm->streams);
	vm->dev = dev_free(vm->dev);
	if (vm->session)
		close_session(vm);
	vm->dma = vus_dma_free(vm->dma);
	sd_event_unref(vm->event);
	free(vm);
	return NULL;
}
