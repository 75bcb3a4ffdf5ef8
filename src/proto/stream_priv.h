/* SPDX-License-Identifier: BSD-2-Clause */
/* Only for the stream*.c files. */
#ifndef PROTO_STREAM_PRIV_H
#define PROTO_STREAM_PRIV_H

#include <sys/queue.h>

#include "proto/limits.h"
#include "proto/packet.h"
#include "proto/stream.h"

#define STREAM_BUCKETS 1024u

/**
 * enum stream_state - where a stream is in its life
 *
 * @STREAM_OPENING: server; a REQUEST came, and the end has not answered yet.
 *	Operations: stream_accept(), stream_refuse(), time-out. Caveat: no packet was sent to the peer yet.
 * @STREAM_PENDING: server; NEGOTIATE was sent, OFFER is awaited.
 *	Operations: OFFER, RST, time-out; everything else ends it with RST. Caveat: no queue pair yet.
 * @STREAM_REQUESTED: client; REQUEST2 or REQUEST was sent.
 *	Operations: NEGOTIATE(2), INVALID, RST, time-out. Caveat: no queue pair yet.
 * @STREAM_OFFERED: client; the queue pair was made and OFFERed, ATTACH is awaited.
 *	Operations: ATTACH, RST, peer gone, time-out. Caveat: the queue pair may have no memory yet.
 * @STREAM_CONNECTED: bytes flow.
 *	Operations: everything on data. Caveat: only in this state @qp is valid (and in the next) and the end sees send() and recv().
 * @STREAM_CLOSING: our end closed, and the peer has not read all of what it wrote.
 *	Operations: SHUTDOWN, RST, peer gone, packets that make us look at the ring. Caveat: there is no end any more.
 */
enum stream_state {
	STREAM_OPENING,
	STREAM_PENDING,
	STREAM_REQUESTED,
	STREAM_OFFERED,
	STREAM_CONNECTED,
	STREAM_CLOSING,
	STREAM_NUM,
};

/* Packets that are owed to the peer: sent as soon as it takes them. */
#define OWE_WROTE 0x1u
#define OWE_READ 0x2u
#define OWE_WAITING_READ 0x4u
#define OWE_WAITING_WRITE 0x8u
#define OWE_SHUTDOWN 0x10u

/* Lists a stream can be on. */
#define ON_RUN 0x1u
#define ON_HOT 0x2u
#define ON_OWING 0x4u
#define ON_TIMER 0x8u

/**
 * struct stream
 * @owed:          OWE_*
 * @peer_down:     VMCI_SHUTDOWN_* that the peer announced
 * @own_down:      VMCI_SHUTDOWN_* that we announced, or owe
 * @passed_down:   VMCI_SHUTDOWN_* that the end was told
 * @qstate:        queue-state notification (REQUEST2); else packet notification
 * @sent_request2: a REQUEST2 is out: INVALID means fall back
 * @ignore_rst:    the next RST belongs to that INVALID
 * @readable:      recv() may have something
 * @writable:      send() may take something
 * @eof:           recv() said that no more comes
 * @deaf:          send() said that nobody reads: what the peer wrote is dropped
 * @end_gone:      the end has neither reader nor writer
 * @wants_room:    the peer may sleep until there is room in the ring we consume from
 * @wants_data:    (packet notification) the peer may sleep until there is data
 * @sent_wr, @sent_ww: (packet notification) WAITING_READ / WAITING_WRITE is out, unanswered
 * @fresh:         the peer may not have handled our ATTACH yet: it is sent nothing
 * @fresh_at:      when NEGOTIATE left; then, of a fresh stream, when it will have handled it
 * @fill:          (polling) fill our ring to its last byte, so that the peer tells us of room
 * @parked:        the ring's memory is not mapped at present
 * @unpublished:   bytes are in our ring that the peer was not shown: the header's page was not mapped
 * @gen_p, @gen_c: times the produce and the consume ring wrapped (8.4)
 * @hot_left:      how long to go on polling
 * @looked_at:     when it was polled last
 * @spin_ns:       how long to poll after bytes moved: full_wait(), or less where that was in vain
 * @active_at:     when bytes moved last
 * @closing_ns:    (closing) time between two looks at the ring
 * @flow:          turns in a row that moved bytes in the direction of @flow_in, and none in the other
 * @trickle:       the last of them, that moved a few only
 */
struct stream {
	struct streams *t;
	LIST_ENTRY(stream) hash;
	TAILQ_ENTRY(stream) run, hot, owing, timer;
	void *end;
	struct qp qp;
	struct vmci_handle handle;
	enum stream_state state;
	uint32_t local_cid;
	uint32_t local_port;
	uint32_t peer_port;
	uint32_t size;
	uint64_t deadline;
	uint64_t hot_left;
	uint64_t looked_at;
	uint64_t spin_ns;
	uint64_t closing_ns;
	uint64_t active_at;
	uint64_t fresh_at;
	unsigned flow;
	unsigned trickle;
	bool flow_in;
	uint64_t gen_p;
	uint64_t gen_c;
	unsigned on;
	unsigned owed;
	unsigned peer_down;
	unsigned own_down;
	unsigned passed_down;
	bool qstate : 1;
	bool sent_request2 : 1;
	bool ignore_rst : 1;
	bool readable : 1;
	bool writable : 1;
	bool eof : 1;
	bool deaf : 1;
	bool end_gone : 1;
	bool wants_room : 1;
	bool wants_data : 1;
	bool sent_wr : 1;
	bool sent_ww : 1;
	bool fresh : 1;
	bool fill : 1;
	bool parked : 1;
	bool unpublished : 1;
};

TAILQ_HEAD(stream_list, stream);

/**
 * struct streams
 * @run:     have work; @run_count of them
 * @hot:     were active a moment ago: polled
 * @owing:   owe packets that the peer's queue had no room for; tried again at @retry_at
 * @timers:  handshakes, and streams that close; the one that is due first at the head
 */
struct streams {
	struct stream_config config;
	struct stream_ports ports;
	LIST_HEAD(, stream) bucket[STREAM_BUCKETS];
	struct stream_list run, hot, owing, timers;
	size_t run_count;
	uint64_t retry_at;
	uint32_t next_port;
	size_t count;
};

/* stream.c: the table, and the ends of lives */
struct stream *stream_find(const struct streams *t, uint32_t peer_port, uint32_t local_cid, uint32_t local_port);
int stream_new(struct streams *t, uint32_t peer_port, uint32_t local_cid, uint32_t local_port,
	       struct stream **ret_stream);
void stream_free(struct stream *s);
uint32_t streams_ring_size(const struct streams *t);
void stream_arm(struct stream *s, uint64_t timeout_ns);
void stream_disarm(struct stream *s);
void stream_queue(struct stream *s);
void stream_log(const struct stream *s, enum log_level level, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
int32_t stream_send(const struct stream *s, unsigned type, uint64_t arg, uint64_t offset, uint16_t proto);
void streams_send_answer(const struct streams *t, const struct packet *to, unsigned type);
void stream_close(struct stream *s);
void stream_closing_packet(struct stream *s, const struct packet *p);
void stream_reset(struct stream *s, const char *why);

/* stream_handshake.c: everything before "connected" */
int32_t handshake_new(struct streams *t, const struct packet *p);
void handshake_packet(struct stream *s, const struct packet *p);
void handshake_timeout(struct stream *s);
void handshake_fail(struct stream *s, int error);

/* stream_pump.c: "connected" */
void pump_start(struct stream *s, bool as_server);
void pump_refresh(struct stream *s);
void pump_packet(struct stream *s, const struct packet *p);
void pump_run(struct stream *s);
bool pump_poll(struct stream *s, uint64_t now);

/* pump_rest() - for how many nanoseconds pump_poll() would not look */
uint64_t pump_rest(const struct stream *s, uint64_t now);
void pump_announce(struct stream *s, unsigned how);
void pump_flush(struct stream *s);
void pump_peer_gone(struct stream *s);

#endif /* PROTO_STREAM_PRIV_H */
