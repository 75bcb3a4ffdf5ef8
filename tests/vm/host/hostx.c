// SPDX-License-Identifier: BSD-2-Clause
/*
 * The host's hand at libvmci, for the VM tests: the counterpart of the guest's probe, and nearly the same words.
 *
 *	hostx CID		joins a context (any: a new one) in $VMCI_RUNTIME_DIR; says "0 CID"
 *
 * Then each line "NUMBER WORDS..." of the input is a command; they run at the same time, each answering with a line
 * "NUMBER CODE words..." when it is done. Handles are CID:RESOURCE; any: have one chosen, or none.
 *
 *	qp create RESOURCE PEER PRODUCE CONSUME FLAGS	answers the handle
 *	qp attach H PRODUCE CONSUME FLAGS
 *	qp state H					waiting, attached or left; peer; bytes ready, room
 *	qp send H RING BYTES SEED			writes the pattern of SEED, ringing at each piece; bytes, hash
 *	qp recv H RING BYTES				reads BYTES, or (0) to the end; bytes and hash
 *	qp detach H
 *	bell create RESOURCE | ring H | wait H COUNT MS | destroy H
 *	dg create RESOURCE | send H DST HEX | fill H DST SIZE SEED | recv H MS | destroy H
 *	events MS					waits for one: NAME CONTEXT HANDLE
 *	watch CONTEXT
 *	name register NAME H | unregister NAME | lookup NAME MS
 *
 * Nobody may destroy what another command uses.
 */
#include <err.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <vmci/vmci.h>

#include "../guest/pattern.h"

#define CHUNK 65536
#define PATIENCE 60000	/* ms that a piece of a queue pair may take */
#define OBJECTS 1024
#define LINE_SIZE (4 * VMCI_DG_MAX_SIZE)

enum kind { NONE, QP, BELL, RINGER, DG };

static struct object {
	enum kind kind;
	struct vmci_handle handle;
	void *is;
} objects[OBJECTS];

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_mutex_t output = PTHREAD_MUTEX_INITIALIZER;
static struct vmci *vmci;
static struct vmci_events *events;

struct command {
	char *words, *rest;
	int wrong;
	char *answer;
	size_t len;
};

static char *word(struct command *c)
{
	char *found = strtok_r(c->rest ? NULL : c->words, " \n", &c->rest);

	c->wrong |= !found;
	return found ? found : (char *)"";
}

static uint64_t number(struct command *c)
{
	char *text = word(c), *end;
	uint64_t value;

	if (!strcmp(text, "any"))
		return VMCI_INVALID_ID;
	value = strtoull(text, &end, 0);
	c->wrong |= !*text || *end;
	return value;
}

static struct vmci_handle handle(struct command *c)
{
	struct vmci_handle h = { VMCI_INVALID_ID, VMCI_INVALID_ID };
	char *text = word(c);

	if (strcmp(text, "any"))
		c->wrong |= sscanf(text, "%" SCNu32 ":%" SCNu32, &h.context, &h.resource) != 2;
	return h;
}

__attribute__((format(printf, 2, 3))) static void say(struct command *c, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	c->len += (size_t)vsnprintf(c->answer + c->len, LINE_SIZE - c->len, fmt, ap);
	va_end(ap);
}

static void say_handle(struct command *c, struct vmci_handle h)
{
	say(c, " %" PRIu32 ":%" PRIu32, h.context, h.resource);
}

static int is_same(struct vmci_handle a, struct vmci_handle b)
{
	return a.context == b.context && a.resource == b.resource;
}

static struct object *find(enum kind kind, struct vmci_handle h)
{
	struct object *found = NULL;
	size_t i;

	pthread_mutex_lock(&lock);
	for (i = 0; i < OBJECTS; i++)
		if (objects[i].kind == kind && (kind == NONE || is_same(objects[i].handle, h)))
			found = &objects[i];
	pthread_mutex_unlock(&lock);
	return found;
}

static void add(struct command *c, enum kind kind, struct vmci_handle h, void *is)
{
	size_t i;

	pthread_mutex_lock(&lock);
	for (i = 0; i < OBJECTS && objects[i].kind; i++)
		;
	if (i == OBJECTS)
		errx(2, "too many objects");
	objects[i] = (struct object){ kind, h, is };
	pthread_mutex_unlock(&lock);
	if (c)
		say_handle(c, h);
}

static int destroy(struct object *o)
{
	struct object was;

	pthread_mutex_lock(&lock);
	was = *o;
	o->kind = NONE;
	pthread_mutex_unlock(&lock);
	if (was.kind == QP)
		vmci_qpair_close(was.is);
	else if (was.kind == BELL)
		vmci_doorbell_close(was.is);
	else if (was.kind == DG)
		vmci_dgram_close(was.is);
	return 0;
}

/*
 * A doorbell is introduced once, and then rung directly. In its first second a new broker may not have its owner back
 * yet, and says so.
 */
static int ring(struct vmci_handle h)
{
	struct object *o = find(RINGER, h);
	struct vmci_ringer *ringer;
	int r, left = 100;

	if (!o) {
		while ((r = vmci_ringer_open(vmci, h, &ringer)) == VMCI_ERROR_UNAVAILABLE && left--)
			usleep(100000);
		if (r < 0)
			return r;
		add(NULL, RINGER, h, ringer);
		o = find(RINGER, h);
	}
	return vmci_ringer_ring(o->is);
}

static int ring_any(struct vmci_handle h)
{
	return h.context == VMCI_INVALID_ID ? 0 : ring(h);
}

static int qp_open(struct command *c, int create)
{
	struct vmci_handle h = { 0, 0 };
	uint32_t rid = 0, peer = 0, flags;
	struct vmci_qpair *qp;
	uint64_t produce, consume;
	int r;

	if (create) {
		rid = (uint32_t)number(c);
		peer = (uint32_t)number(c);
	} else {
		h = handle(c);
	}
	produce = number(c);
	consume = number(c);
	flags = (uint32_t)number(c);
	if (c->wrong)
		return VMCI_ERROR_INVALID_ARGS;
	r = create ? vmci_qpair_create(vmci, rid, peer, produce, consume, flags, &qp) :
		     vmci_qpair_attach(vmci, h, produce, consume, flags, &qp);
	if (r >= 0)
		add(c, QP, vmci_qpair_handle(qp), qp);
	return r;
}

static int qp_state(struct command *c, struct vmci_qpair *qp)
{
	static const char *const names[] = { "waiting", "attached", "left" };
	uint32_t peer = VMCI_INVALID_ID;
	enum vmci_qpair_state state = vmci_qpair_state(qp, &peer);

	say(c, " %s %" PRIu32 " %" PRId64 " %" PRId64, names[state], peer, vmci_qpair_ready(qp), vmci_qpair_room(qp));
	return 0;
}

static int say_hash(struct command *c, const struct hash *hash)
{
	say(c, " %" PRIu64 " %016" PRIx64, hash->size, hash_end(hash));
	return 0;
}

static int qp_send(struct command *c, struct vmci_qpair *qp)
{
	struct vmci_handle bell = handle(c);
	uint64_t size = number(c), seed = number(c), done;
	uint8_t data[CHUNK];
	struct hash hash;

	if (c->wrong)
		return VMCI_ERROR_INVALID_ARGS;
	hash_init(&hash);
	for (done = 0; done < size;) {
		size_t now = size - done < CHUNK ? (size_t)(size - done) : CHUNK, sent;

		pattern_fill(data, now, seed, done);
		hash_add(&hash, data, now);
		for (sent = 0; sent < now;) {
			int64_t n = vmci_qpair_write(qp, data + sent, now - sent, PATIENCE);
			int r = n < 0 ? (int)n : ring_any(bell);

			if (r < 0) {
				say(c, " after %" PRIu64, done + sent);
				return r;
			}
			sent += (size_t)n;
		}
		done += now;
	}
	return say_hash(c, &hash);
}

static int qp_recv(struct command *c, struct vmci_qpair *qp)
{
	struct vmci_handle bell = handle(c);
	uint64_t size = number(c);
	uint8_t data[CHUNK];
	struct hash hash;

	if (c->wrong)
		return VMCI_ERROR_INVALID_ARGS;
	hash_init(&hash);
	while (!size || hash.size < size) {
		size_t now = size && size - hash.size < CHUNK ? (size_t)(size - hash.size) : CHUNK;
		int64_t n = vmci_qpair_read(qp, data, now, PATIENCE);
		int r = 0;

		if (n == VMCI_ERROR_QUEUEPAIR_NOTATTACHED)
			break;
		if (n > 0) {
			hash_add(&hash, data, (size_t)n);
			r = ring_any(bell);
		}
		/* Who has left cannot be rung: its last bytes are still there. */
		if (n < 0 || (r < 0 && vmci_qpair_state(qp, NULL) == VMCI_QPAIR_ATTACHED)) {
			say(c, " after %" PRIu64, hash.size);
			return n < 0 ? (int)n : r;
		}
	}
	return say_hash(c, &hash);
}

static int bell_create(struct command *c)
{
	uint32_t rid = (uint32_t)number(c);
	struct vmci_doorbell *bell;
	int r = c->wrong ? VMCI_ERROR_INVALID_ARGS : vmci_doorbell_open(vmci, rid, &bell);

	if (r >= 0)
		add(c, BELL, vmci_doorbell_handle(bell), bell);
	return r;
}

static int bell_wait(struct command *c, struct vmci_doorbell *bell)
{
	int64_t count = (int64_t)number(c), have = 0, n = 0;
	int ms = (int)number(c);

	while (have < count && n >= 0) {
		n = vmci_doorbell_wait(bell, ms);
		have += n > 0 ? n : 0;
	}
	say(c, " %" PRId64, have);
	return n < 0 ? (int)n : 0;
}

static int dg_create(struct command *c)
{
	uint32_t rid = (uint32_t)number(c);
	struct vmci_dgram *dg;
	int r = c->wrong ? VMCI_ERROR_INVALID_ARGS : vmci_dgram_open(vmci, rid, &dg);

	if (r >= 0)
		add(c, DG, vmci_dgram_handle(dg), dg);
	return r;
}

static int dg_send(struct command *c, struct vmci_dgram *dg, int fill)
{
	struct vmci_handle dst = handle(c);
	char *hex = fill ? NULL : word(c);
	size_t size = fill ? (size_t)number(c) : strcmp(hex, "-") ? strlen(hex) / 2 : 0, i;
	unsigned seed = fill ? (unsigned)number(c) : 0;
	uint8_t data[2 * VMCI_DG_MAX_SIZE];

	if (c->wrong || size > sizeof(data))
		return VMCI_ERROR_INVALID_ARGS;
	for (i = 0; i < size; i++)
		if (fill)
			data[i] = (uint8_t)(seed + i);
		else if (sscanf(hex + 2 * i, "%2hhx", &data[i]) != 1)
			return VMCI_ERROR_INVALID_ARGS;
	return vmci_dgram_send(dg, dst, data, size);
}

static int dg_recv(struct command *c, struct vmci_dgram *dg)
{
	uint8_t data[VMCI_DG_MAX_SIZE];
	struct vmci_handle src;
	int n = vmci_dgram_recv(dg, data, sizeof(data), (int)number(c), &src), i;

	if (n < 0)
		return n;
	say_handle(c, src);
	say(c, n ? " " : " -");
	for (i = 0; i < n; i++)
		say(c, "%02x", data[i]);
	return 0;
}

static int wait_event(struct command *c)
{
	struct vmci_event event;
	int r = vmci_events_wait(events, (int)number(c), &event);

	if (r < 0)
		return r;
	say(c, " %s %" PRIu32, event.id == VMCI_EVENT_CTX_REMOVED ? "CTX_REMOVED" :
	    event.id == VMCI_EVENT_QP_PEER_ATTACH ? "QP_PEER_ATTACH" :
	    event.id == VMCI_EVENT_QP_PEER_DETACH ? "QP_PEER_DETACH" : "?", event.context);
	say_handle(c, event.handle);
	return 0;
}

static int name(struct command *c)
{
	char *verb = word(c), *what = word(c);
	struct vmci_handle h;
	int r;

	if (!strcmp(verb, "register"))
		return vmci_name_register(vmci, what, handle(c));
	if (!strcmp(verb, "unregister"))
		return vmci_name_unregister(vmci, what);
	r = vmci_name_lookup(vmci, what, (int)number(c), &h);
	if (r >= 0)
		say_handle(c, h);
	return r;
}

static int on_object(struct command *c, enum kind kind, const char *verb)
{
	struct vmci_handle h = handle(c);
	struct object *o;

	if (c->wrong)
		return VMCI_ERROR_INVALID_ARGS;
	if (kind == BELL && !strcmp(verb, "ring"))
		return ring(h);
	o = find(kind, h);
	if (!o)
		return VMCI_ERROR_NOT_FOUND;
	if (!strcmp(verb, kind == QP ? "detach" : "destroy"))
		return destroy(o);
	if (!strcmp(verb, "state"))
		return qp_state(c, o->is);
	if (!strcmp(verb, "wait"))
		return bell_wait(c, o->is);
	if (!strcmp(verb, "fill"))
		return dg_send(c, o->is, 1);
	if (!strcmp(verb, "send"))
		return kind == QP ? qp_send(c, o->is) : dg_send(c, o->is, 0);
	if (!strcmp(verb, "recv"))
		return kind == QP ? qp_recv(c, o->is) : dg_recv(c, o->is);
	return VMCI_ERROR_INVALID_ARGS;
}

static int run(struct command *c)
{
	char *noun = word(c), *verb;

	if (!strcmp(noun, "events"))
		return wait_event(c);
	if (!strcmp(noun, "watch"))
		return vmci_events_watch(events, (uint32_t)number(c));
	if (!strcmp(noun, "name"))
		return name(c);
	verb = word(c);
	if (!strcmp(noun, "qp"))
		return strcmp(verb, "create") && strcmp(verb, "attach") ? on_object(c, QP, verb) :
									  qp_open(c, *verb == 'c');
	if (!strcmp(noun, "bell"))
		return strcmp(verb, "create") ? on_object(c, BELL, verb) : bell_create(c);
	if (!strcmp(noun, "dg"))
		return strcmp(verb, "create") ? on_object(c, DG, verb) : dg_create(c);
	return VMCI_ERROR_INVALID_ARGS;
}

static void *serve(void *line)
{
	struct command c = { .words = line, .answer = calloc(1, LINE_SIZE) };
	char *id = word(&c);
	int code = run(&c);

	pthread_mutex_lock(&output);
	printf("%s %d%s%s%s\n", id, code, c.answer, code < 0 ? " # " : "", code < 0 ? vmci_errmsg() : "");
	pthread_mutex_unlock(&output);
	free(c.answer);
	free(line);
	return NULL;
}

int main(int argc, char **argv)
{
	static char line[LINE_SIZE];
	pthread_attr_t attr;
	uint32_t cid;
	int r;

	if (argc != 2)
		errx(2, "usage: hostx CID");
	setvbuf(stdout, NULL, _IOLBF, 0);
	cid = strcmp(argv[1], "any") ? (uint32_t)strtoul(argv[1], NULL, 0) : VMCI_INVALID_ID;
	r = vmci_open(NULL, cid, VMCI_OPEN_NO_START, &vmci);
	if (r >= 0)
		r = vmci_events_open(vmci, &events);
	if (r < 0) {
		printf("0 %d # %s\n", r, vmci_errmsg());
		return 1;
	}
	printf("0 0 %" PRIu32 "\n", vmci_cid(vmci));
	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	while (fgets(line, sizeof(line), stdin)) {
		pthread_t thread;

		if (pthread_create(&thread, &attr, serve, strdup(line)))
			errx(2, "no thread");
	}
	/* Nobody is writing now, and nobody will: exit() would flush what a thread has just written. */
	pthread_mutex_lock(&output);
	_exit(0);
}
