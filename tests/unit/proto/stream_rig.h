/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A stage for the stream state machine: one struct streams (the host, context 2), and the test playing the
 * guest (context 20) by hand: its packets, its queue pairs in plain memory, its ring positions. Ends are
 * counters that make and check a byte pattern, so that any lost, doubled or swapped byte is noticed where it
 * happens.
 */
#ifndef STREAM_RIG_H
#define STREAM_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "proto/limits.h"
#include "proto/packet.h"
#include "proto/stream.h"

#define RIG_HOST 2u
#define RIG_GUEST 20u
#define RIG_PORT 5000u	/* where the host listens */
#define RIG_PEER 1024u	/* where the guest does, or connects from */
#define RIG_SIZE 4096u	/* ring size, where it does not matter */
#define RIG_FOREVER UINT64_MAX

/**
 * struct rig_end - an end on the program's side
 * @room:       bytes that send() takes before it says @send_error (0: -EAGAIN)
 * @got:        bytes taken; each was checked against the pattern
 * @avail:      bytes that recv() gives before it says @recv_end
 * @recv_end:   what recv() says then: 0: -EAGAIN; RIG_EOF: end of stream; else that errno
 * @put:        bytes given
 * @chunk:      at most so many bytes at once; 0: any number
 * @fault:      the next so many send() or recv() calls say -EFAULT
 * @told:       VMCI_SHUTDOWN_* it was told
 * @finish_len: bytes handed over by finish(); they are counted in @got, too
 */
#define RIG_EOF 1
struct rig_end {
	struct rig_end *next;
	uint64_t room, got;
	int send_error;
	uint64_t avail, put;
	int recv_end;
	size_t chunk;
	unsigned fault;
	unsigned told, told_count;
	bool connected, failed, finished, closed;
	int error;
	size_t finish_len;
	unsigned sends, recvs;
};

/* Did the stream make its last call on this end? */
static inline bool rig_end_is_over(const struct rig_end *e)
{
	return e->failed || e->finished || e->closed;
}

/* Pages in plain memory: shuffled, so that ranges that seem to be adjacent are not. */
struct mem_pages {
	uint8_t *base;
	size_t n;
	bool *unmapped;		/* one for each page */
};

struct rig_pair {
	struct vmci_handle handle;
	uint64_t size;
	bool host, guest;	/* attached */
	void *owner;		/* the host's */
	struct mem_pages pages;
};
#define RIG_PAIRS 8

/* When the test may act in the middle of what the host does. */
enum rig_when {
	RIG_BEFORE_LOAD,
	RIG_BEFORE_STORE,
	RIG_AFTER_STORE,
};

#define RIG_SENT 512
struct rig {
	struct streams *t;
	uint64_t now;
	uint64_t qp_room;
	/* the next connection */
	uint32_t host_port, guest_port;
	/* packets to the guest */
	struct packet sent[RIG_SENT];
	unsigned sent_head, sent_tail;
	unsigned refuse;	/* so many sends are answered with @refuse_with */
	int32_t refuse_with;
	unsigned refused;	/* sends that were */
	/* queue pairs */
	struct rig_pair pair[RIG_PAIRS];
	uint32_t next_resource;
	int32_t create_result, attach_result, map_result;	/* if negative, that is the answer */
	unsigned detaches;
	bool reset;		/* the device was reset: it has no pairs */
	/* the program's side */
	uint32_t local_cid;	/* its context, RIG_HOST unless a test sets another one */
	int open_result;
	unsigned opens;
	uint32_t open_cid, open_local, open_peer;
	uint32_t pair_cid;	/* whose end was made or attached last */
	struct stream *opened;
	struct rig_end *next_end;
	struct rig_end *ends;
	/* log */
	unsigned lines;
	char line[256];
	/* called at each load and store of a ring position by the host */
	void (*hook)(struct rig *rig, enum rig_when when);
	void *hook_ctx;
	unsigned loads, stores;
};

struct rig_options {
	bool legacy;
	uint64_t spin_ns;
	uint32_t ring_size;
	uint64_t qp_room;	/* 0: no matter */
};

struct rig *rig_new(const struct rig_options *options);
void rig_free(struct rig *rig);

/* cmocka's setup and teardown for a rig with default options */
int rig_setup(void **state);
int rig_teardown(void **state);

/* A new end that takes @room bytes; it lives as long as the rig. */
struct rig_end *rig_end_new(struct rig *rig, uint64_t room);

/* Byte @pos of a direction's pattern. */
uint8_t rig_byte(bool from_guest, uint64_t pos);

/* --- packets ------------------------------------------------------------------------------- */

/* Send a control packet as the guest; returns what streams_packet() does. */
int32_t rig_packet(struct rig *rig, unsigned type, uint32_t src_port, uint32_t dst_port, uint64_t arg,
		   uint16_t proto);

/* The oldest packet that the guest has not looked at; NULL if there is none. */
const struct packet *rig_next(struct rig *rig);

/* There must be one, of this type and between these ports; it has the canonical form. */
const struct packet *rig_expect_at(struct rig *rig, unsigned type, uint32_t src_port, uint32_t dst_port,
				   const char *file, int line);
#define rig_expect(rig, type) \
	rig_expect_at(rig, type, (rig)->host_port, (rig)->guest_port, __FILE__, __LINE__)
#define rig_expect_ports(rig, type, src, dst) rig_expect_at(rig, type, src, dst, __FILE__, __LINE__)
void rig_expect_quiet_at(struct rig *rig, const char *file, int line);
#define rig_expect_quiet(rig) rig_expect_quiet_at(rig, __FILE__, __LINE__)

/* There must be none but this one. */
#define rig_expect_only(rig, type)                                                                           \
	do {                                                                                                 \
		rig_expect(rig, type);                                                                       \
		rig_expect_quiet(rig);                                                                       \
	} while (0)

/* Throw packets away; returns a bit set (1 << type) of what was among them. */
unsigned rig_drain(struct rig *rig);

/* --- queue pairs and rings ----------------------------------------------------------------- */

struct rig_pair *rig_guest_create(struct rig *rig, uint64_t size);
struct rig_pair *rig_guest_attach(struct rig *rig, struct vmci_handle handle, uint64_t size);
struct rig_pair *rig_pair_find(struct rig *rig, struct vmci_handle handle);

/* The guest's end goes, as the device tells it. */
void rig_guest_detach(struct rig *rig, struct rig_pair *pair);

/* Map or unmap all pages, and say so. */
void rig_map(struct rig *rig, struct rig_pair *pair, bool mapped);

/* A connection as the guest sees it. */
struct rig_conn {
	struct rig *rig;
	struct rig_pair *pair;
	struct rig_end *end;
	struct stream *stream;	/* known if the host is the server */
	struct qp qp;		/* the guest's view */
	uint32_t host_port;
	uint32_t guest_port;
	uint64_t written, read;	/* by the guest, so far */
};

/* The guest's driver: put bytes of the pattern in (as many as fit), take and check. No packets. */
uint64_t rig_write(struct rig_conn *c, uint64_t n);
uint64_t rig_read(struct rig_conn *c, uint64_t n);

/* The guest stores a ring position without further ado. */
void rig_poke_tail(struct rig_conn *c, uint64_t v);
void rig_poke_head(struct rig_conn *c, uint64_t v);

/* What the host shows. */
uint64_t rig_peek_tail(struct rig_conn *c);
uint64_t rig_peek_head(struct rig_conn *c);

/* A packet of this connection from the guest. */
void rig_say(struct rig_conn *c, unsigned type, uint64_t arg);

/* streams_run() and streams_poll() until they have nothing to do, as an event loop would. Moves no clock. */
void rig_run(struct rig *rig);

/* The whole handshake, by which side ever. The packets are checked and gone afterwards, owed ones too. */
void rig_conn_init(struct rig_conn *c, struct rig *rig, struct rig_pair *pair, struct rig_end *end, uint32_t size);
void rig_accept(struct rig *rig, struct rig_end *end, bool qstate, uint32_t size, struct rig_conn *ret_conn);
void rig_connect(struct rig *rig, struct rig_end *end, bool qstate, uint32_t size, struct rig_conn *ret_conn);

/* An accepted connection with a new end, which is returned: the host has asked for what it asks for when all is quiet. */
struct rig_end *rig_quiet(struct rig *rig, bool qstate, uint64_t room, struct rig_conn *ret_conn);

#endif /* STREAM_RIG_H */
