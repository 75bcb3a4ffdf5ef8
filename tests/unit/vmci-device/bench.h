/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The fabric's end in vmci-device, between a real device with a guest that the test plays, and a vmcid that it
 * plays, too: a thread that notes every request, and replies as it was told, or yes and amen.
 */
#ifndef TEST_VMCI_DEVICE_BENCH_H
#define TEST_VMCI_DEVICE_BENCH_H

#include <pthread.h>
#include <systemd/sd-event.h>

#include "fabric/link.h"
#include "fabric/ring.h"
#include "rig.h"
#include "vmci-device/fabric.h"

#define OTHER 0x10001u		/* a software context */
#define LONG_MS 20000		/* only failures wait so long */

#define NOTES 256

/**
 * struct script - what vmcid does at the next request of @type
 * @mute:  nothing
 * @die:   it closes the connection; before it replies
 * @ask:   if it has a type: asks this first, and replies when it has been answered
 */
struct script {
	enum fab_type type;
	bool used;
	bool mute;
	bool die;
	struct fab_msg ask;
	struct fab_msg reply;
};

/**
 * struct bench - everything
 * @vmcid:   vmcid's end of the control connection, -1: there is none
 * @scripts: what it will do
 * @notes:   what it was told, requests and answers; data of datagrams in @data
 * @sink:    what came with the last HELLO
 * @lend_error: what the table of guest memory says when it is asked where pages lie
 * @lend_fd:    where they lie instead of in the guest's memory, if it is not 0
 * @dir, @path: folder and file of the rendezvous socket
 */
struct bench {
	struct rig *rig;
	sd_event *event;
	struct fabric *f;
	int vmcid;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t noted;
	struct script scripts[NOTES];
	struct fab_msg notes[NOTES];
	bool taken[NOTES];
	unsigned n_scripts;
	unsigned n_notes;
	uint8_t data[VMCI_DG_MAX_SIZE];
	int sink[2];
	int fds_before;
	int lend_error;
	int lend_fd;
	char dir[64];
	char path[96];
};

/*
 * bench_setup() - a member; bench_setup_rendezvous() - with a rendezvous socket, too. bench_teardown() - checks that
 * nothing is left open
 */
int bench_setup(void **state);
int bench_setup_rendezvous(void **state);
int bench_teardown(void **state);

/* bench_new() - no vmcid, no device, no fabric yet */
struct bench *bench_new(void);

/* vmcid_start() - a vmcid at this end of a connection; vmcid_stop() - it dies */
void vmcid_start(struct bench *b, int fd);
void vmcid_stop(struct bench *b);

/*
 * will() - what vmcid does at a request; will_reply(), will_say() - its reply; its descriptors are the bench's from
 * now on
 */
void will(struct bench *b, struct script script);
void will_reply(struct bench *b, struct fab_msg reply);
void will_say(struct bench *b, enum fab_type type, int32_t status);

/* heard() - the oldest request of @type that vmcid was sent. Descriptors are the test's. heard_count() - how many */
struct fab_msg heard(struct bench *b, enum fab_type type);
unsigned heard_count(struct bench *b, enum fab_type type);

/* asks() - vmcid asks, the device answers: the answer, with its descriptors */
struct fab_msg asks(struct bench *b, struct fab_msg question);

/* turn() - rounds of the event loop until there is nothing to do at once */
void turn(struct bench *b);

/* until() - rounds until @is_true; fails after LONG_MS */
#define until(b, is_true) \
	do { \
		int64_t end_ms = now_ms() + LONG_MS; \
		while (!(is_true)) { \
			assert_true(now_ms() < end_ms); \
			turn(b); \
		} \
	} while (0)

int64_t now_ms(void);

/* pass() - time goes by at once, for the code under test too */
void pass(uint64_t ns);

/* tick() - from now on, time goes by with each look at the clock */
void tick(uint64_t ns);

/* send_to() - the guest sends 24 + @payload bytes from its resource 5000. Return: what it reads */
int32_t send_to(struct bench *b, struct vmci_handle dst, size_t payload);

/* mail() - vmcid writes a datagram of 24 + @payload bytes from @src into the sink. Return: was there room? */
bool mail(struct bench *b, struct vmci_handle src, struct vmci_handle dst, size_t payload, unsigned seed);

/* next_dg() - the guest takes what is in its queue; the first datagram, NULL: none. @ret_count: how many, or NULL */
const uint8_t *next_dg(struct bench *b, unsigned *ret_count);

/* --- Queue pairs: the guest's end ---------------------------------------------------------------------------- */

/**
 * struct pair - the guest's end of a queue pair
 * @ppn:  of each page, in their order
 * @out, @in: header pages of the ring that it produces, and of the other
 */
struct pair {
	struct bench *b;
	struct vmci_handle handle;
	uint64_t produce;
	uint64_t consume;
	uint32_t ppn[4096];
	uint8_t *out;
	uint8_t *in;
	uint64_t tail;
	uint64_t head;
};

/* guest_alloc() - QUEUEPAIR_ALLOC with pages from number @ppn on. Return: what the guest reads */
int32_t guest_alloc(struct bench *b, struct pair *p, uint32_t ppn, struct vmci_handle handle, uint32_t peer,
		    uint32_t flags, uint64_t produce, uint64_t consume);

/* guest_alloc_pages() - the same with these pages, in this order */
int32_t guest_alloc_pages(struct bench *b, struct pair *p, const uint32_t *ppn, struct vmci_handle handle, uint32_t peer,
			  uint32_t flags, uint64_t produce, uint64_t consume);

/* guest_write(), guest_read() - as many bytes as fit, or are there. Return: bytes */
size_t guest_write(struct pair *p, const void *buf, size_t n);
size_t guest_read(struct pair *p, void *buf, size_t n);

/* guest_detach() - QUEUEPAIR_DETACH */
int32_t guest_detach(struct pair *p);

/* pattern() - byte @i of a stream */
uint8_t pattern(unsigned seed, size_t i);

/* peer_maps() - OTHER, a program, attaches: by the two descriptors, which are closed */
struct ring *peer_maps(int fd[2], uint64_t produce, uint64_t consume);

/* attach_peer() - the guest has made @p; OTHER attaches to it, and the guest knows */
struct ring *attach_peer(struct bench *b, struct pair *p);

#endif /* TEST_VMCI_DEVICE_BENCH_H */
