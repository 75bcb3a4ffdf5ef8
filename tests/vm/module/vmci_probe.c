// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * vmci_probe - the guest kernel's own VMCI API (linux/vmw_vmci_api.h) in the hands of a test, by /dev/vmci_probe; or
 * (OURS) that of our vmci.ko by the same names (ours.h)
 *
 * DOC: Theory of operation
 *
 * A test opens the device, writes one command, and reads the answer: "CODE words...\n"; a negative CODE is what the
 * API said (VMCI_ERROR_*). Objects are known by their handle, CONTEXT:RESOURCE, to everybody who opens the device, and
 * live until somebody destroys them or the module goes. `any` is the invalid handle: have one chosen.
 *
 *	cid					the context's id
 *	qp alloc H PEER PRODUCE CONSUME FLAGS	create or (flag 1: only) attach; answers the handle
 *	qp state H				bytes: free and ready to produce, free and ready to consume; peer:
 *						waiting, attached or left, as events have it
 *	qp use H BELL RING POLL			see below
 *	qp detach H
 *	bell create H				answers the handle
 *	bell ring H				anybody's
 *	bell wait H COUNT MS			until it was rung COUNT times since the last wait; answers how often
 *	bell destroy H
 *	dg create RESOURCE			answers the handle
 *	dg send H DST HEX			payload in hexadecimal digits, - for none
 *	dg fill H DST SIZE SEED			SIZE bytes: SEED, SEED + 1, ...
 *	dg recv H MS				answers the source and the payload
 *	dg destroy H
 *	events MS				waits for one; answers all since the last time: NAME CONTEXT [HANDLE]
 *
 * `qp use` turns the open file into the queue pair's data: write() produces all its bytes, read() consumes one or more;
 * the end of file is a peer that left. Guests are not told of a peer's progress, so we ring the doorbell RING after we
 * moved the ring's positions, and sleep until our own doorbell BELL is rung, or look again after POLL milliseconds.
 * `any` for no doorbell, 0 for no looking; who then waits for longer than PATIENCE gets ETIMEDOUT.
 *
 * Locks: objects_mutex guards the list; an object is freed by who puts its last reference. What callbacks of the API
 * touch, which run in whatever context, is behind the spinlock events_lock. One wait queue serves all.
 */
#include <linux/fs.h>
#include <linux/kref.h>
#include <linux/list.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/uaccess.h>
#include <linux/uio.h>
#include <linux/socket.h>
#include <linux/wait.h>
#if __has_include(<linux/hex.h>)
#include <linux/hex.h>	/* else it is in linux/kernel.h */
#endif
#ifdef OURS
#include "ours.h"
#else
#include <linux/vmw_vmci_api.h>
#include <linux/vmw_vmci_defs.h>
#endif

#define CHUNK		(64u << 10)
#define TEXT		(2u * VMCI_MAX_DG_SIZE + 256)	/* the longest command or answer: a datagram in hexadecimal */
#define PATIENCE	(60 * HZ)
#define EVENTS		256				/* kept for the test; then the oldest go */
#define DATAGRAMS	4096				/* of one endpoint; then the newest go */
#define RID_DOORBELL_NOTIFY 5				/* hypercall */

enum kind { QP, BELL, DG };

struct object {
	struct kref ref;
	struct list_head entry;
	enum kind kind;
	struct vmci_handle handle;
	struct vmci_qp *qp;
	bool attached, left;		/* the queue pair's peer */
	bool dead;
	u64 rung;
	struct list_head queue;		/* datagrams */
	unsigned int queued;
};

struct queued {
	struct list_head entry;
	u64 bytes[];			/* a struct vmci_datagram and its payload */
};

struct session {
	struct mutex mutex;
	char *text;			/* the answer; TEXT bytes */
	size_t len, read;
	struct object *qp;		/* in use, and how */
	struct object *bell;
	struct vmci_handle ring;
	unsigned int poll_ms;
	void *chunk;
};

struct event {
	u32 id, context;
	struct vmci_handle handle;
};

static LIST_HEAD(objects);
static DEFINE_MUTEX(objects_mutex);
static DEFINE_SPINLOCK(events_lock);
static DECLARE_WAIT_QUEUE_HEAD(changed);
static struct event events[EVENTS];
static unsigned int event_first, event_count;
static u32 subscriptions[VMCI_EVENT_QP_PEER_DETACH + 1];

/* --- Objects --------------------------------------------------------------------------------------------------- */

static void object_release(struct kref *ref)
{
	struct object *o = container_of(ref, struct object, ref);
	struct queued *q, *next;

	list_for_each_entry_safe(q, next, &o->queue, entry)
		kfree(q);
	kfree(o);
}

static void put(struct object *o)
{
	if (o)
		kref_put(&o->ref, object_release);
}

static struct object *object_new(enum kind kind)
{
	struct object *o = kzalloc(sizeof(*o), GFP_KERNEL);

	if (!o)
		return NULL;
	kref_init(&o->ref);
	INIT_LIST_HEAD(&o->entry);
	INIT_LIST_HEAD(&o->queue);
	o->kind = kind;
	return o;
}

/* Events may come before who created the queue pair has put it into the list: they are looked up in the log, too. */
static void object_add(struct object *o)
{
	unsigned long flags;
	unsigned int i;

	mutex_lock(&objects_mutex);
	spin_lock_irqsave(&events_lock, flags);
	list_add_tail(&o->entry, &objects);
	for (i = 0; o->kind == QP && i < event_count; i++) {
		struct event *e = &events[(event_first + i) % EVENTS];

		if (vmci_handle_is_equal(e->handle, o->handle)) {
			o->attached |= e->id == VMCI_EVENT_QP_PEER_ATTACH;
			o->left |= e->id == VMCI_EVENT_QP_PEER_DETACH;
		}
	}
	spin_unlock_irqrestore(&events_lock, flags);
	mutex_unlock(&objects_mutex);
}

static struct object *find(enum kind kind, struct vmci_handle handle)
{
	struct object *o, *found = NULL;

	mutex_lock(&objects_mutex);
	list_for_each_entry(o, &objects, entry)
		if (o->kind == kind && vmci_handle_is_equal(o->handle, handle))
			found = o;
	if (found)
		kref_get(&found->ref);
	mutex_unlock(&objects_mutex);
	return found;
}

/* Takes the object out of the world. The caller's reference stays. */
static int object_destroy(struct object *o)
{
	unsigned long flags;
	bool mine;
	int code;

	mutex_lock(&objects_mutex);
	spin_lock_irqsave(&events_lock, flags);
	mine = !o->dead;
	o->dead = true;
	list_del_init(&o->entry);
	spin_unlock_irqrestore(&events_lock, flags);
	if (!mine)
		code = VMCI_ERROR_NOT_FOUND;
	else if (o->kind == QP)
		code = vmci_qpair_detach(&o->qp);
	else if (o->kind == BELL)
		code = vmci_doorbell_destroy(o->handle);
	else
		code = vmci_datagram_destroy_handle(o->handle);
	mutex_unlock(&objects_mutex);
	wake_up_all(&changed);
	if (mine)
		put(o);		/* the list's */
	return code;
}

/* --- What the API calls back ------------------------------------------------------------------------------------ */

static void on_bell(void *data)
{
	struct object *o = data;
	unsigned long flags;

	spin_lock_irqsave(&events_lock, flags);
	o->rung++;
	spin_unlock_irqrestore(&events_lock, flags);
	wake_up_all(&changed);
}

static int on_datagram(void *data, struct vmci_datagram *dg)
{
	struct object *o = data;
	unsigned long flags;
	struct queued *q;

	q = kmalloc(sizeof(*q) + VMCI_DG_SIZE(dg), GFP_ATOMIC);
	if (!q)
		return VMCI_ERROR_NO_MEM;
	memcpy(q->bytes, dg, VMCI_DG_SIZE(dg));
	spin_lock_irqsave(&events_lock, flags);
	if (o->queued < DATAGRAMS) {
		o->queued++;
		list_add_tail(&q->entry, &o->queue);
		q = NULL;
	}
	spin_unlock_irqrestore(&events_lock, flags);
	kfree(q);
	wake_up_all(&changed);
	return VMCI_SUCCESS;
}

static void on_event(u32 sub, const struct vmci_event_data *data, void *none)
{
	const struct vmci_event_payld_ctx *ctx = vmci_event_data_const_payload(data);
	const struct vmci_event_payld_qp *qp = vmci_event_data_const_payload(data);
	struct event e = { .id = data->event, .handle = VMCI_INVALID_HANDLE };
	unsigned long flags;
	struct object *o;

	if (e.id == VMCI_EVENT_QP_PEER_ATTACH || e.id == VMCI_EVENT_QP_PEER_DETACH) {
		e.handle = qp->handle;
		e.context = qp->peer_id;
	} else if (e.id != VMCI_EVENT_QP_RESUMED) {
		e.context = ctx->context_id;
	}
	spin_lock_irqsave(&events_lock, flags);
	list_for_each_entry(o, &objects, entry)
		if (o->kind == QP && vmci_handle_is_equal(o->handle, e.handle)) {
			o->attached |= e.id == VMCI_EVENT_QP_PEER_ATTACH;
			o->left |= e.id == VMCI_EVENT_QP_PEER_DETACH;
		}
	if (event_count == EVENTS) {
		event_first = (event_first + 1) % EVENTS;
		event_count--;
	}
	events[(event_first + event_count++) % EVENTS] = e;
	spin_unlock_irqrestore(&events_lock, flags);
	wake_up_all(&changed);
}

/* --- Commands --------------------------------------------------------------------------------------------------- */

static __printf(2, 3) void say(struct session *s, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	s->len += vscnprintf(s->text + s->len, TEXT - s->len, fmt, args);
	va_end(args);
}

static void say_handle(struct session *s, struct vmci_handle h)
{
	say(s, " %u:%u", h.context, h.resource);
}

/* Words of a command, taken one after the other; what is missing or wrong makes all of it wrong. */
struct words {
	char *rest;
	bool wrong;
};

static char *word(struct words *w)
{
	char *found;

	do
		found = strsep(&w->rest, " \n");
	while (found && !*found);
	w->wrong |= !found;
	return found ? found : "";
}

static u64 number(struct words *w)
{
	u64 value = 0;
	char *text = word(w);

	if (!strcmp(text, "any"))
		return VMCI_INVALID_ID;
	w->wrong |= kstrtou64(text, 0, &value) != 0;
	return value;
}

static struct vmci_handle handle(struct words *w)
{
	struct vmci_handle h = VMCI_INVALID_HANDLE;
	char *text = word(w);

	if (strcmp(text, "any"))
		w->wrong |= sscanf(text, "%u:%u", &h.context, &h.resource) != 2;
	return h;
}

static int add_or_free(struct session *s, struct object *o, int code)
{
	if (code < VMCI_SUCCESS) {
		put(o);
		return code;
	}
	object_add(o);
	say_handle(s, o->handle);
	return code;
}

static int qp_alloc(struct session *s, struct words *w)
{
	struct vmci_handle h = handle(w);
	u32 peer = (u32)number(w);
	u64 produce = number(w), consume = number(w);
	u32 flags = (u32)number(w);
	struct object *o;
	int code;

	if (w->wrong)
		return -EINVAL;
	o = object_new(QP);
	if (!o)
		return -ENOMEM;
	code = vmci_qpair_alloc(&o->qp, &h, produce, consume, peer, flags, VMCI_NO_PRIVILEGE_FLAGS);
	o->handle = h;
	return add_or_free(s, o, code);
}

static int qp_state(struct session *s, struct object *o)
{
	int code = VMCI_ERROR_NOT_FOUND;

	mutex_lock(&objects_mutex);
	if (!o->dead) {
		say(s, " %lld %lld %lld %lld %s", vmci_qpair_produce_free_space(o->qp),
		    vmci_qpair_produce_buf_ready(o->qp), vmci_qpair_consume_free_space(o->qp),
		    vmci_qpair_consume_buf_ready(o->qp), o->left ? "left" : o->attached ? "attached" : "waiting");
		code = VMCI_SUCCESS;
	}
	mutex_unlock(&objects_mutex);
	return code;
}

static int qp_use(struct session *s, struct words *w, struct object *o)
{
	struct vmci_handle bell = handle(w), ring = handle(w);
	unsigned int poll_ms = (unsigned int)number(w);
	struct object *b = NULL;

	if (w->wrong)
		return -EINVAL;
	if (!vmci_handle_is_invalid(bell)) {
		b = find(BELL, bell);
		if (!b)
			return VMCI_ERROR_NOT_FOUND;
	}
	if (!s->chunk)
		s->chunk = kvmalloc(CHUNK, GFP_KERNEL);
	if (!s->chunk) {
		put(b);
		return -ENOMEM;
	}
	kref_get(&o->ref);
	s->qp = o;
	s->bell = b;
	s->ring = ring;
	s->poll_ms = poll_ms;
	return VMCI_SUCCESS;
}

static int bell_create(struct session *s, struct words *w)
{
	struct vmci_handle h = handle(w);
	struct object *o;
	int code;

	if (w->wrong)
		return -EINVAL;
	o = object_new(BELL);
	if (!o)
		return -ENOMEM;
	code = vmci_doorbell_create(&h, 0, VMCI_NO_PRIVILEGE_FLAGS, on_bell, o);
	o->handle = h;
	return add_or_free(s, o, code);
}

/*
 * Where the API has no call for it, a datagram to the hypervisor does what that did: it is the hypercall. Only
 * endpoints may send datagrams, so we have one.
 */
#ifdef HAVE_DOORBELL_NOTIFY
static int ring(struct vmci_handle h)
{
	return vmci_doorbell_notify(h, VMCI_NO_PRIVILEGE_FLAGS);
}

static int ring_init(void) { return 0; }
static void ring_done(void) { }
#else
static struct vmci_handle ringer = { VMCI_INVALID_ID, VMCI_INVALID_ID };

static int ring(struct vmci_handle h)
{
	struct vmci_doorbell_notify_msg msg = {
		.hdr.dst = { VMCI_HYPERVISOR_CONTEXT_ID, RID_DOORBELL_NOTIFY },
		.hdr.src = ringer,
		.hdr.payload_size = sizeof(msg) - sizeof(msg.hdr),
		.handle = h,
	};

	return vmci_datagram_send(&msg.hdr);
}

static int on_nothing(void *data, struct vmci_datagram *dg) { return VMCI_SUCCESS; }

static int ring_init(void)
{
	return vmci_datagram_create_handle(VMCI_INVALID_ID, VMCI_FLAG_DG_NONE, on_nothing, NULL, &ringer);
}

static void ring_done(void) { vmci_datagram_destroy_handle(ringer); }
#endif

static bool has_rung(struct object *o, u64 count)
{
	return READ_ONCE(o->rung) >= count || READ_ONCE(o->dead);
}

static int bell_wait(struct session *s, struct words *w, struct object *o)
{
	u64 count = number(w), ms = number(w);
	unsigned long flags;
	long left;

	if (w->wrong)
		return -EINVAL;
	left = wait_event_interruptible_timeout(changed, has_rung(o, count), msecs_to_jiffies((unsigned int)ms));
	if (left < 0)
		return -EINTR;
	spin_lock_irqsave(&events_lock, flags);
	count = o->rung;
	if (left)
		o->rung = 0;
	spin_unlock_irqrestore(&events_lock, flags);
	say(s, " %llu", count);
	return left ? VMCI_SUCCESS : VMCI_ERROR_TIMEOUT;
}

static int dg_create(struct session *s, struct words *w)
{
	u32 rid = (u32)number(w);
	struct object *o;
	int code;

	if (w->wrong)
		return -EINVAL;
	o = object_new(DG);
	if (!o)
		return -ENOMEM;
	code = vmci_datagram_create_handle(rid, VMCI_FLAG_DG_NONE, on_datagram, o, &o->handle);
	return add_or_free(s, o, code);
}

static int dg_send(struct words *w, struct object *o, bool fill)
{
	struct vmci_handle dst = handle(w);
	char *hex = fill ? NULL : word(w);
	size_t size = fill ? number(w) : strcmp(hex, "-") ? strlen(hex) / 2 : 0, i;
	u8 seed = fill ? (u8)number(w) : 0;
	struct vmci_datagram *dg;
	u8 *payload;
	int code;

	if (w->wrong || size > 2 * VMCI_MAX_DG_SIZE)
		return -EINVAL;
	dg = kvzalloc(sizeof(*dg) + size, GFP_KERNEL);
	if (!dg)
		return -ENOMEM;
	dg->dst = dst;
	dg->src = o->handle;
	dg->payload_size = size;
	payload = VMCI_DG_PAYLOAD(dg);
	if (!fill && hex2bin(payload, hex, size)) {
		kvfree(dg);
		return -EINVAL;
	}
	for (i = 0; fill && i < size; i++)
		payload[i] = (u8)(seed + i);
	code = vmci_datagram_send(dg);
	kvfree(dg);
	return code;
}

static struct queued *dg_take(struct object *o)
{
	struct queued *q;
	unsigned long flags;

	spin_lock_irqsave(&events_lock, flags);
	q = list_first_entry_or_null(&o->queue, struct queued, entry);
	if (q) {
		list_del(&q->entry);
		o->queued--;
	}
	spin_unlock_irqrestore(&events_lock, flags);
	return q;
}

static int dg_recv(struct session *s, struct words *w, struct object *o)
{
	u64 ms = number(w);
	struct queued *q = NULL;
	struct vmci_datagram *dg;
	u8 *payload;
	size_t i;

	if (w->wrong)
		return -EINVAL;
	if (wait_event_interruptible_timeout(changed, (q = dg_take(o)) || READ_ONCE(o->dead),
					     msecs_to_jiffies((unsigned int)ms)) < 0)
		return -EINTR;
	if (!q)
		return VMCI_ERROR_NO_DATAGRAM;
	dg = (struct vmci_datagram *)q->bytes;
	say_handle(s, dg->src);
	say(s, dg->payload_size ? " " : " -");
	payload = VMCI_DG_PAYLOAD(dg);
	for (i = 0; i < dg->payload_size; i++)
		say(s, "%02x", payload[i]);
	kfree(q);
	return VMCI_SUCCESS;
}

static bool event_take(struct event *ret_event)
{
	unsigned long flags;
	bool found;

	spin_lock_irqsave(&events_lock, flags);
	found = event_count;
	if (found) {
		*ret_event = events[event_first];
		event_first = (event_first + 1) % EVENTS;
		event_count--;
	}
	spin_unlock_irqrestore(&events_lock, flags);
	return found;
}

static int take_events(struct session *s, struct words *w)
{
	static const char *const names[] = { "CTX_ID_UPDATE", "CTX_REMOVED", "QP_RESUMED", "QP_PEER_ATTACH",
					     "QP_PEER_DETACH" };
	u64 ms = number(w);
	struct event e;

	if (w->wrong)
		return -EINVAL;
	if (wait_event_interruptible_timeout(changed, READ_ONCE(event_count), msecs_to_jiffies((unsigned int)ms)) < 0)
		return -EINTR;
	while (event_take(&e)) {
		say(s, "\n%s %u", e.id < ARRAY_SIZE(names) ? names[e.id] : "?", e.context);
		if (!vmci_handle_is_invalid(e.handle))
			say_handle(s, e.handle);
	}
	return VMCI_SUCCESS;
}

static int on_object(struct session *s, struct words *w, enum kind kind, const char *verb)
{
	struct vmci_handle h = handle(w);
	struct object *o;
	int code = -EINVAL;

	if (w->wrong)
		return code;
	if (kind == BELL && !strcmp(verb, "ring"))
		return ring(h);
	o = find(kind, h);
	if (!o)
		return VMCI_ERROR_NOT_FOUND;
	if (!strcmp(verb, kind == QP ? "detach" : "destroy"))
		code = object_destroy(o);
	else if (kind == QP && !strcmp(verb, "state"))
		code = qp_state(s, o);
	else if (kind == QP && !strcmp(verb, "use"))
		code = qp_use(s, w, o);
	else if (kind == BELL && !strcmp(verb, "wait"))
		code = bell_wait(s, w, o);
	else if (kind == DG && !strcmp(verb, "recv"))
		code = dg_recv(s, w, o);
	else if (kind == DG && (!strcmp(verb, "send") || !strcmp(verb, "fill")))
		code = dg_send(w, o, *verb == 'f');
	put(o);
	return code;
}

static int run(struct session *s, char *text)
{
	struct words w = { text };
	char *noun = word(&w), *verb;

	if (!strcmp(noun, "cid")) {
		say(s, " %u", vmci_get_context_id());
		return VMCI_SUCCESS;
	}
	if (!strcmp(noun, "events"))
		return take_events(s, &w);
	verb = word(&w);
	if (!strcmp(noun, "qp"))
		return strcmp(verb, "alloc") ? on_object(s, &w, QP, verb) : qp_alloc(s, &w);
	if (!strcmp(noun, "bell"))
		return strcmp(verb, "create") ? on_object(s, &w, BELL, verb) : bell_create(s, &w);
	if (!strcmp(noun, "dg"))
		return strcmp(verb, "create") ? on_object(s, &w, DG, verb) : dg_create(s, &w);
	return -EINVAL;
}

/* --- A queue pair's data ---------------------------------------------------------------------------------------- */

/* One try: bytes moved, or an error of the API. The mutex keeps the queue pair there. */
static ssize_t move(struct session *s, bool produce, size_t offset, size_t size)
{
	struct kvec vec = { s->chunk + offset, size };
	struct msghdr msg = { };
	ssize_t n = VMCI_ERROR_NOT_FOUND;

	iov_iter_kvec(&msg.msg_iter, produce ? WRITE : READ, &vec, 1, size);
	mutex_lock(&objects_mutex);
	if (!s->qp->dead)
		n = produce ? vmci_qpair_enquev(s->qp->qp, &msg, size, 0) : vmci_qpair_dequev(s->qp->qp, &msg, size, 0);
	mutex_unlock(&objects_mutex);
	if (n > 0 && !vmci_handle_is_invalid(s->ring))
		ring(s->ring);
	return n;
}

/* Like move(), but waits for room or data. 0: the peer has left, and there is no more. */
static ssize_t move_some(struct session *s, bool produce, size_t offset, size_t size)
{
	unsigned long end = jiffies + PATIENCE;

	while (true) {
		bool left = READ_ONCE(s->qp->left);
		u64 heard = s->bell ? READ_ONCE(s->bell->rung) : 0;
		long step = s->poll_ms ? msecs_to_jiffies(s->poll_ms) : PATIENCE;
		ssize_t n;

		if (produce && left)
			return -EPIPE;
		n = move(s, produce, offset, size);
		if (n > 0)
			return n;
		if (n != VMCI_ERROR_QUEUEPAIR_NOSPACE && n != VMCI_ERROR_QUEUEPAIR_NODATA) {
			pr_err("vmci_probe: queue pair %u:%u: code %zd\n", s->qp->handle.context,
			       s->qp->handle.resource, n);
			return -EIO;
		}
		if (left)
			return 0;
		if (time_after(jiffies, end))
			return -ETIMEDOUT;
		if (wait_event_interruptible_timeout(changed, (s->bell && READ_ONCE(s->bell->rung) != heard) ||
						     READ_ONCE(s->qp->left) || READ_ONCE(s->qp->dead), step) < 0)
			return -EINTR;
	}
}

static ssize_t produce(struct session *s, const char __user *data, size_t size)
{
	size_t done, have, sent;

	for (done = 0; done < size; done += have) {
		have = min_t(size_t, size - done, CHUNK);
		if (copy_from_user(s->chunk, data + done, have))
			return -EFAULT;
		for (sent = 0; sent < have;) {
			ssize_t n = move_some(s, true, sent, have - sent);

			if (n <= 0)
				return n;
			sent += n;
		}
	}
	return size;
}

static ssize_t consume(struct session *s, char __user *data, size_t size)
{
	ssize_t n = move_some(s, false, 0, min_t(size_t, size, CHUNK));

	if (n > 0 && copy_to_user(data, s->chunk, n))
		return -EFAULT;
	return n;
}

/* --- The device file -------------------------------------------------------------------------------------------- */

static int probe_open(struct inode *inode, struct file *file)
{
	struct session *s = kzalloc(sizeof(*s), GFP_KERNEL);

	if (!s)
		return -ENOMEM;
	s->text = kvmalloc(TEXT, GFP_KERNEL);
	if (!s->text) {
		kfree(s);
		return -ENOMEM;
	}
	mutex_init(&s->mutex);
	file->private_data = s;
	return nonseekable_open(inode, file);
}

static int probe_release(struct inode *inode, struct file *file)
{
	struct session *s = file->private_data;

	put(s->qp);
	put(s->bell);
	kvfree(s->chunk);
	kvfree(s->text);
	kfree(s);
	return 0;
}

static ssize_t probe_write(struct file *file, const char __user *data, size_t size, loff_t *pos)
{
	struct session *s = file->private_data;
	ssize_t result;
	char *command, head[16];
	int digits;

	if (mutex_lock_interruptible(&s->mutex))
		return -EINTR;
	if (s->qp) {
		result = produce(s, data, size);
		goto out;
	}
	command = size < TEXT ? memdup_user_nul(data, size) : ERR_PTR(-E2BIG);
	if (IS_ERR(command)) {
		result = PTR_ERR(command);
		goto out;
	}
	/* The code goes in front of the words, when it is known. */
	s->len = s->read = sizeof(head);
	digits = snprintf(head, sizeof(head), "%d", run(s, command));
	say(s, "\n");
	s->read -= digits;
	memcpy(s->text + s->read, head, digits);
	kfree(command);
	result = size;
out:
	mutex_unlock(&s->mutex);
	return result;
}

static ssize_t probe_read(struct file *file, char __user *data, size_t size, loff_t *pos)
{
	struct session *s = file->private_data;
	ssize_t result;

	if (mutex_lock_interruptible(&s->mutex))
		return -EINTR;
	if (s->qp && s->read == s->len) {
		result = consume(s, data, size);
	} else {
		result = min(size, s->len - s->read);
		if (copy_to_user(data, s->text + s->read, result))
			result = -EFAULT;
		else
			s->read += result;
	}
	mutex_unlock(&s->mutex);
	return result;
}

static const struct file_operations probe_fops = {
	.owner = THIS_MODULE,
	.open = probe_open,
	.release = probe_release,
	.read = probe_read,
	.write = probe_write,
};

static struct miscdevice probe_device = { .minor = MISC_DYNAMIC_MINOR, .name = "vmci_probe", .fops = &probe_fops };

static void unsubscribe(void)
{
	u32 i;

	for (i = 0; i < ARRAY_SIZE(subscriptions); i++)
		if (subscriptions[i] != VMCI_INVALID_ID)
			vmci_event_unsubscribe(subscriptions[i]);
}

static int __init probe_init(void)
{
	u32 i;
	int code = ring_init();

	if (code < VMCI_SUCCESS) {
		pr_err("vmci_probe: no datagram endpoint: code %d\n", code);
		return -ENODEV;
	}
	for (i = 0; i < ARRAY_SIZE(subscriptions); i++)
		if (vmci_event_subscribe(i, on_event, NULL, &subscriptions[i]) < VMCI_SUCCESS)
			subscriptions[i] = VMCI_INVALID_ID;
	code = misc_register(&probe_device);
	if (code) {
		unsubscribe();
		ring_done();
	}
	return code;
}

static void __exit probe_exit(void)
{
	struct object *o, *next;

	misc_deregister(&probe_device);
	list_for_each_entry_safe(o, next, &objects, entry)
		object_destroy(o);
	unsubscribe();
	ring_done();
}

module_init(probe_init);
module_exit(probe_exit);
MODULE_LICENSE("Dual BSD/GPL");
MODULE_DESCRIPTION("The in-box VMCI API for tests");
