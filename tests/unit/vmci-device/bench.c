/* SPDX-License-Identifier: BSD-2-Clause */
#include "bench.h"

#include <dirent.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/fd.h"
#include "proto/discovery.h"

static int count_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	int n = 0;

	assert_non_null(dir);
	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}

/* The clock of everything that is linked here, see meson.build. */
int __real_clock_gettime(clockid_t clock, struct timespec *ts);
int __wrap_clock_gettime(clockid_t clock, struct timespec *ts);

static _Atomic uint64_t passed_ns, tick_ns;

int __wrap_clock_gettime(clockid_t clock, struct timespec *ts)
{
	int r = __real_clock_gettime(clock, ts);
	uint64_t step = tick_ns, ns = (uint64_t)ts->tv_nsec + atomic_fetch_add(&passed_ns, step) + step;

	ts->tv_sec += (time_t)(ns / 1000000000u);
	ts->tv_nsec = (long)(ns % 1000000000u);
	return r;
}

void pass(uint64_t ns)
{
	passed_ns += ns;
}

void tick(uint64_t ns)
{
	tick_ns = ns;
}

int64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* --- The device's ports ----------------------------------------------------------------------------------- */

static int32_t port_datagram(void *ctx, const uint8_t *dg, size_t size)
{
	return fabric_datagram(((struct bench *)ctx)->f, dg, size);
}

static int32_t port_doorbell(void *ctx, struct vmci_handle handle)
{
	return fabric_doorbell(((struct bench *)ctx)->f, handle);
}

static void port_room(void *ctx)
{
	fabric_room(((struct bench *)ctx)->f);
}

static void port_bell_gone(void *ctx, struct vmci_handle handle)
{
	fabric_bell_gone(((struct bench *)ctx)->f, handle);
}

static void port_driver_gone(void *ctx)
{
	fabric_driver_gone(((struct bench *)ctx)->f);
}

static int32_t port_far_find(void *ctx, const struct dev_far *far, void **ret_owner, uint32_t *ret_context)
{
	return fabric_far_find(((struct bench *)ctx)->f, far, ret_owner, ret_context);
}

static void port_far_attached(void *ctx, void *owner)
{
	fabric_far_attached(((struct bench *)ctx)->f, owner);
}

static void port_far_gone(void *ctx, void *owner)
{
	fabric_far_gone(((struct bench *)ctx)->f, owner);
}

static struct rig_ports ports = {
	.datagram = port_datagram,
	.doorbell = port_doorbell,
	.room = port_room,
	.bell_gone = port_bell_gone,
	.driver_gone = port_driver_gone,
	.far_find = port_far_find,
	.far_attached = port_far_attached,
	.far_gone = port_far_gone,
};

/* As vus_dma_places(). */
static int places(void *ctx, const struct mem_pages *pages, size_t off, size_t len, struct vus_places *to)
{
	struct bench *b = ctx;

	if (b->lend_error)
		return b->lend_error;
	for (size_t end = off + len; off < end; off += PAGE) {
		struct vus_place *last = to->n ? &to->place[to->n - 1] : NULL;
		uint64_t addr;

		if (!rig_address(b->rig, pages, off, &addr))
			return -EFAULT;
		to->fd[0] = b->lend_fd ? b->lend_fd : b->rig->ram_fd;
		to->n_fds = 1;
		if (last && last->offset + last->len == addr)
			last->len += PAGE;
		else if (to->n == to->max)
			return -E2BIG;
		else
			to->place[to->n++] = (struct vus_place){ .offset = addr, .len = PAGE };
	}
	return 0;
}

/* --- vmcid ---------------------------------------------------------------------------------------------------- */

/* What it says to what it was not told to expect: success. */
static struct fab_msg yes(const struct fab_msg *request)
{
	struct fab_msg reply = { .type = request->type };

	if (request->type == FAB_DG_SEND)
		reply.status = (int32_t)request->len;
	if (request->type == FAB_HELLO) {
		reply.size0 = FAB_VERSION;
		reply.handle.context = CID;
		reply.flags = FAB_F_DEVICE;
		memcpy(reply.token, "0123456789abcdef", FAB_TOKEN_SIZE);
	}
	if (request->type == FAB_NAME) {
		static uint8_t buf[DISCOVERY_REPLY_MAX];

		reply.len = discovery_reply_build(buf, &(struct discovery_reply){ .handle = { ~0u, ~0u }, .text = "" });
		reply.data = buf;
	}
	if (request->type == FAB_BELL_OPEN || request->type == FAB_QP_ATTACH)
		reply.status = VMCI_ERROR_NOT_FOUND;
	return reply;
}

static void note(struct bench *b, const struct fab_msg *msg)
{
	if (msg->type == FAB_DG_SEND || msg->type == FAB_NAME)
		memcpy(b->data, msg->data, msg->len);
	if (b->n_notes == NOTES)
		abort();
	b->notes[b->n_notes] = *msg;
	b->notes[b->n_notes++].data = b->data;
	pthread_cond_broadcast(&b->noted);
}

static void say(int fd, struct fab_msg *msg)
{
	if (fab_send(fd, msg))
		shutdown(fd, SHUT_RDWR);
	fab_drop(msg);
}

static struct script script_for(struct bench *b, const struct fab_msg *request)
{
	for (unsigned i = 0; i < b->n_scripts; i++)
		if (!b->scripts[i].used && b->scripts[i].type == request->type) {
			b->scripts[i].used = true;
			return b->scripts[i];
		}
	return (struct script){ .type = request->type, .reply = yes(request) };
}

static void *vmcid_main(void *ctx)
{
	static uint8_t buf[FAB_MSG_MAX];
	struct bench *b = ctx;
	struct script held = { 0 };
	struct fab_msg msg;
	int fd = b->vmcid;

	for (;;) {
		struct pollfd p = { .fd = fd, .events = POLLIN };
		struct script now;
		int r;

		poll(&p, 1, -1);
		r = fab_recv(fd, buf, &msg);
		if (r == -EAGAIN)
			continue;
		if (r)
			break;
		pthread_mutex_lock(&b->lock);
		note(b, &msg);
		if (msg.kind == FAB_REQUEST) {
			now = script_for(b, &msg);
			now.reply.kind = FAB_REPLY;
			now.reply.serial = msg.serial;
		} else {
			/* An answer: whoever waited for it gets its reply. */
			now = held;
			held = (struct script){ .mute = true };
		}
		pthread_mutex_unlock(&b->lock);
		if (msg.kind == FAB_ANSWER && !now.type)
			continue;
		if (msg.kind == FAB_REQUEST && now.ask.type) {
			now.ask.kind = FAB_ASK;
			now.ask.serial = 7;
			say(fd, &now.ask);
			held = now;
			held.ask.type = 0;
			continue;
		}
		if (now.die)
			break;
		if (!now.mute)
			say(fd, &now.reply);
	}
	shutdown(fd, SHUT_RDWR);
	return NULL;
}

void vmcid_start(struct bench *b, int fd)
{
	b->vmcid = fd;
	assert_int_equal(pthread_create(&b->thread, NULL, vmcid_main, b), 0);
}

void vmcid_stop(struct bench *b)
{
	if (b->vmcid < 0)
		return;
	shutdown(b->vmcid, SHUT_RDWR);
	pthread_join(b->thread, NULL);
	fd_close(&b->vmcid);
}

void will(struct bench *b, struct script script)
{
	pthread_mutex_lock(&b->lock);
	assert_true(b->n_scripts < NOTES);
	b->scripts[b->n_scripts++] = script;
	pthread_mutex_unlock(&b->lock);
}

void will_reply(struct bench *b, struct fab_msg reply)
{
	will(b, (struct script){ .type = reply.type, .reply = reply });
}

void will_say(struct bench *b, enum fab_type type, int32_t status)
{
	will_reply(b, (struct fab_msg){ .type = type, .status = status });
}

/* The oldest note of this kind, or NULL; the lock is held. */
static struct fab_msg *find_note(struct bench *b, enum fab_type type, enum fab_kind kind, bool take)
{
	for (unsigned i = 0; i < b->n_notes; i++)
		if (!b->taken[i] && b->notes[i].type == type && b->notes[i].kind == kind) {
			b->taken[i] = take;
			return &b->notes[i];
		}
	return NULL;
}

struct fab_msg heard(struct bench *b, enum fab_type type)
{
	int64_t end = now_ms() + LONG_MS;
	struct fab_msg *msg;

	for (;;) {
		pthread_mutex_lock(&b->lock);
		msg = find_note(b, type, FAB_REQUEST, true);
		pthread_mutex_unlock(&b->lock);
		if (msg)
			return *msg;
		assert_true(now_ms() < end);
		usleep(1000);
	}
}

unsigned heard_count(struct bench *b, enum fab_type type)
{
	unsigned n = 0;

	pthread_mutex_lock(&b->lock);
	for (unsigned i = 0; i < b->n_notes; i++)
		n += !b->taken[i] && b->notes[i].type == type && b->notes[i].kind == FAB_REQUEST;
	pthread_mutex_unlock(&b->lock);
	return n;
}

struct fab_msg asks(struct bench *b, struct fab_msg question)
{
	static uint32_t serial = 1000;
	struct fab_msg *msg = NULL;

	question.kind = FAB_ASK;
	question.serial = ++serial;
	assert_int_equal(fab_send(b->vmcid, &question), 0);
	for (int64_t end = now_ms() + LONG_MS; !msg;) {
		assert_true(now_ms() < end);
		turn(b);
		pthread_mutex_lock(&b->lock);
		msg = find_note(b, question.type, FAB_ANSWER, true);
		pthread_mutex_unlock(&b->lock);
	}
	assert_int_equal(msg->serial, serial);
	return *msg;
}

/* --- Making one --------------------------------------------------------------------------------------------- */

struct bench *bench_new(void)
{
	struct bench *b = calloc(1, sizeof(*b));

	assert_non_null(b);
	b->fds_before = count_fds();
	b->vmcid = b->sink[0] = b->sink[1] = -1;
	pthread_mutex_init(&b->lock, NULL);
	pthread_cond_init(&b->noted, NULL);
	strcpy(b->dir, "/tmp/test-fabric-XXXXXX");
	assert_non_null(mkdtemp(b->dir));
	snprintf(b->path, sizeof(b->path), "%s/device.sock", b->dir);
	assert_int_equal(sd_event_new(&b->event), 0);
	return b;
}

static int setup(void **state, bool rendezvous)
{
	struct bench *b = bench_new();
	struct fab_msg hello;
	int fd[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fd), 0);
	vmcid_start(b, fd[1]);
	assert_int_equal(fabric_new(b->event, &(struct fabric_config){
		.cid = CID, .name = "vm1", .fd = fd[0], .rendezvous = rendezvous ? b->path : NULL, .spin_ns = 200000,
	}, &b->f), 0);
	hello = heard(b, FAB_HELLO);
	b->sink[0] = hello.fd[0];
	b->sink[1] = hello.fd[1];

	setup_far((void **)&b->rig);
	ports.ctx = b;
	b->rig->ports = &ports;
	fabric_set_dev(b->f, b->rig->dev);
	fabric_set_places(b->f, places, b);
	*state = b;
	return 0;
}

int bench_setup(void **state)
{
	return setup(state, false);
}

int bench_setup_rendezvous(void **state)
{
	return setup(state, true);
}

int bench_teardown(void **state)
{
	struct bench *b = *state;
	int after;

	if (b->rig) {
		dev_reset(b->rig->dev);
		fabric_set_dev(b->f, NULL);
		fabric_set_places(b->f, NULL, NULL);
		b->rig->ports = NULL;
		rig_free(b->rig);
	}
	b->f = fabric_free(b->f);
	sd_event_unref(b->event);
	vmcid_stop(b);
	fd_close(&b->sink[0]);
	fd_close(&b->sink[1]);
	for (unsigned i = 0; i < b->n_notes; i++)
		if (!b->taken[i])
			fab_drop(&b->notes[i]);
	for (unsigned i = 0; i < b->n_scripts; i++)
		if (!b->scripts[i].used)
			fab_drop(&b->scripts[i].reply);
	pthread_mutex_destroy(&b->lock);
	pthread_cond_destroy(&b->noted);
	/* Nothing is left in it. */
	assert_int_equal(rmdir(b->dir), 0);
	after = count_fds();
	if (after != b->fds_before)
		print_error("%d descriptors before, %d after\n", b->fds_before, after);
	after -= b->fds_before;
	free(b);
	return after;
}

void turn(struct bench *b)
{
	bool busy;

	do {
		busy = fabric_run(b->f);
		busy = sd_event_run(b->event, 0) > 0 || busy;
	} while (busy);
	/* What is looked at now and then is looked at now. */
	if (fabric_deadline(b->f) != UINT64_MAX)
		usleep(100);
}

/* --- The guest -------------------------------------------------------------------------------------------------- */

int32_t send_to(struct bench *b, struct vmci_handle dst, size_t payload)
{
	static uint8_t dg[VMCI_DG_MAX_SIZE];

	return send_dg(b->rig, dg, make_dg(dg, dst, handle_make(CID, 5000), VMCI_DG_HEADER_SIZE + payload, 1));
}

bool mail(struct bench *b, struct vmci_handle src, struct vmci_handle dst, size_t payload, unsigned seed)
{
	static uint8_t dg[VMCI_DG_MAX_SIZE];
	size_t size = make_dg(dg, dst, src, VMCI_DG_HEADER_SIZE + payload, seed);
	ssize_t n = send(b->sink[0], dg, size, MSG_DONTWAIT | MSG_NOSIGNAL);

	assert_true(n == (ssize_t)size || (n < 0 && errno == EAGAIN));
	return n > 0;
}

const uint8_t *next_dg(struct bench *b, unsigned *ret_count)
{
	const uint8_t *area = receive_dma(b->rig), *p = area;
	unsigned n = 0;

	while (get_le32(p + 4) != VMCI_INVALID_ID) {
		p += dg_padded(VMCI_DG_HEADER_SIZE + (size_t)dg_parse(p).payload_size);
		n++;
	}
	if (ret_count)
		*ret_count = n;
	return n ? area : NULL;
}

int32_t guest_alloc(struct bench *b, struct pair *p, uint32_t ppn, struct vmci_handle handle, uint32_t peer,
		    uint32_t flags, uint64_t produce, uint64_t consume)
{
	uint32_t pages[4096];

	for (uint32_t i = 0; i < 4096; i++)
		pages[i] = ppn + i;
	return guest_alloc_pages(b, p, pages, handle, peer, flags, produce, consume);
}

int32_t guest_alloc_pages(struct bench *b, struct pair *p, const uint32_t *ppn, struct vmci_handle handle, uint32_t peer,
			  uint32_t flags, uint64_t produce, uint64_t consume)
{
	static uint8_t list[16384], buf[sizeof(list) + VMCI_QPALLOC_LIST_OFFSET];
	uint64_t n = qp_page_count(produce, consume, 12);
	const struct hc_qp_alloc alloc = {
		.handle = handle, .peer = peer, .flags = flags, .produce = produce, .consume = consume,
		.page_count = n, .list = list, .list_size = 4 * (size_t)n,
	};

	assert_true(4 * n <= sizeof(list));
	for (uint32_t i = 0; i < n; i++) {
		assert_true((ppn[i] + 1) * PAGE <= RAM_SIZE);
		put_le32(list + 4 * i, ppn[i]);
	}
	*p = (struct pair){
		.b = b, .handle = handle, .produce = produce, .consume = consume,
		.out = b->rig->ram + ppn[0] * PAGE,
		.in = b->rig->ram + ppn[qp_page_count(produce, 0, 12) - 1] * PAGE,
	};
	memcpy(p->ppn, ppn, (size_t)n * sizeof(*ppn));
	return send_dg(b->rig, buf, hc_qp_alloc_build(buf, &alloc));
}

/* A guest's indices are words to it: others may look at any moment. */
static uint64_t load_index(const uint8_t *at)
{
	return le64toh(__atomic_load_n((const uint64_t *)(const void *)at, __ATOMIC_ACQUIRE));
}

static void store_index(uint8_t *at, uint64_t index)
{
	__atomic_store_n((uint64_t *)(void *)at, htole64(index), __ATOMIC_RELEASE);
}

/* The byte at @at of the ring whose first data page is the @first of the list. */
static uint8_t *data_at(const struct pair *p, unsigned first, uint64_t at)
{
	return p->b->rig->ram + (size_t)p->ppn[first + at / PAGE] * PAGE + at % PAGE;
}

size_t guest_write(struct pair *p, const void *buf, size_t n)
{
	uint64_t head = load_index(p->in + VMCI_QUEUE_HEAD_OFFSET), room;

	assert_true(head < p->produce);
	room = p->tail >= head ? p->produce - (p->tail - head) - 1 : head - p->tail - 1;
	n = n < room ? n : room;
	for (size_t i = 0; i < n; i++) {
		*data_at(p, 1, p->tail) = ((const uint8_t *)buf)[i];
		p->tail = (p->tail + 1) % p->produce;
	}
	store_index(p->out + VMCI_QUEUE_TAIL_OFFSET, p->tail);
	return n;
}

size_t guest_read(struct pair *p, void *buf, size_t n)
{
	uint64_t tail = load_index(p->in + VMCI_QUEUE_TAIL_OFFSET), ready;

	assert_true(tail < p->consume);
	ready = tail >= p->head ? tail - p->head : p->consume - (p->head - tail);
	n = n < ready ? n : ready;
	for (size_t i = 0; i < n; i++) {
		((uint8_t *)buf)[i] = *data_at(p, (unsigned)qp_page_count(p->produce, 0, 12), p->head);
		p->head = (p->head + 1) % p->consume;
	}
	store_index(p->out + VMCI_QUEUE_HEAD_OFFSET, p->head);
	return n;
}

int32_t guest_detach(struct pair *p)
{
	return call_handle(p->b->rig, VMCI_HC_QUEUEPAIR_DETACH, p->handle);
}

uint8_t pattern(unsigned seed, size_t i)
{
	return (uint8_t)(seed * 17 + i * 7 + (i >> 8) * 13 + (i >> 16));
}

struct ring *peer_maps(int fd[2], uint64_t produce, uint64_t consume)
{
	struct ring *ring;

	assert_int_equal(ring_map(fd[0], fd[1], OTHER, produce, consume, &ring), 0);
	close(fd[0]);
	return ring;
}

struct ring *attach_peer(struct bench *b, struct pair *p)
{
	struct fab_msg answer = asks(b, (struct fab_msg){
		.type = FAB_QP_ATTACH, .handle = p->handle, .other.context = OTHER,
		.size0 = p->consume, .size1 = p->produce,
	});
	struct event event;
	struct ring *ring;

	assert_int_equal(answer.status, VMCI_SUCCESS_QUEUEPAIR_ATTACH);
	assert_int_equal(answer.n_fds, 2);
	ring = peer_maps(answer.fd, p->consume, p->produce);
	turn(b);
	event = next_event(b->rig);
	assert_int_equal(event.id, VMCI_EVENT_QP_PEER_ATTACH);
	assert_int_equal(event.context, OTHER);
	assert_true(handle_is_equal(event.handle, p->handle));
	return ring;
}
