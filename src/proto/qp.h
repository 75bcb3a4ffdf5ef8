/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * One endpoint's view of a queue pair whose pages lie in guest memory: ring arithmetic with
 * private copies of every index. VMCI reference, 7.1; transport reference, 7.
 */
#ifndef PROTO_QP_H
#define PROTO_QP_H

#include "base/mem.h"
#include "proto/handle.h"

/* Spans asked for at once when moving ring data. */
#define QP_MAX_SPANS 64

/**
 * struct qp - a view; initialised by qp_init(), owns nothing
 * @mem:          port to the memory that holds the pages
 * @pages:        the pages, in the order of the guest's list; owned by whoever took them
 * @page_shift:   log2 of the page size
 * @produce_hdr:  linear offset of the header page of the ring we write into
 * @consume_hdr:  linear offset of the header page of the ring we read from
 * @produce_size: bytes of the ring we write into; indices are below it
 * @consume_size: bytes of the ring we read from
 * @tail:         our write position (the shared copy is write-only for us)
 * @head:         our read position (likewise)
 * @shown:        the read position as the peer was last told: qp_consumed() may lag, see there
 */
struct qp {
	struct mem mem;
	struct mem_pages *pages;
	unsigned page_shift;
	size_t produce_hdr;
	size_t consume_hdr;
	uint64_t produce_size;
	uint64_t consume_size;
	uint64_t tail;
	uint64_t head;
	uint64_t shown;
};

/**
 * qp_page_count() - pages of a queue pair: both rings' data pages and two header pages
 * @produce, @consume: ring sizes in bytes; the caller has bounded their sum
 */
uint64_t qp_page_count(uint64_t produce, uint64_t consume, unsigned page_shift);

/**
 * qp_init() - set up the view of one endpoint
 * @qp:        the view
 * @mem:       port to the memory
 * @pages:     qp_page_count() pages in the order: first ring's header, first ring's data, second
 *             ring's header, second ring's data. The first ring is the one that the *owner* of the
 *             list produces into
 * @first, @second: sizes of the rings in that order
 * @own:       is this endpoint the owner of the list (produces into the first ring)?
 */
void qp_init(struct qp *qp, struct mem mem, struct mem_pages *pages, unsigned page_shift, uint64_t first,
	     uint64_t second, bool own);

/**
 * qp_format() - write handle, tail 0 and head 0 into both header pages (reference, 7.2)
 *
 * To be done once, before the peer may use the pair. Return: 0 or negative errno
 */
int qp_format(struct qp *qp, struct vmci_handle handle);

/**
 * qp_ready() - bytes that wait to be read
 *
 * Reads the peer's write position once and checks it.
 * Return: 0; -EFAULT if the memory is not there; -EBADMSG if the peer's index is out of range
 */
int qp_ready(struct qp *qp, uint64_t *ret_bytes);

/* qp_free() - bytes that can be written; like qp_ready(). */
int qp_free(struct qp *qp, uint64_t *ret_bytes);

/**
 * qp_read_spans() - where the next @len readable bytes lie
 * @len: at most what qp_ready() returned, and not 0
 *
 * The spans follow the ring round its end. They cover less than @len only where @max is reached.
 * Return: number of spans, or a negative errno
 */
int qp_read_spans(struct qp *qp, uint64_t len, struct mem_span *spans, int max);

/* qp_write_spans() - where the next @len bytes can be written; like qp_read_spans(). */
int qp_write_spans(struct qp *qp, uint64_t len, struct mem_span *spans, int max);

/**
 * qp_consume() - @n bytes were taken out: advance the read position, without telling the peer
 *
 * The peer sees it after qp_show(). As long as the shown position lags behind, the peer sees a ring
 * that is not empty, and so has no reason to send a notification for each write.
 */
void qp_consume(struct qp *qp, uint64_t n);

/**
 * qp_show() - publish the read position, but for the last @lag bytes consumed
 * @lag: 0, or 1 to let the ring look non-empty; at most qp_unshown()
 *
 * Return: 0 or -EFAULT (nothing was published)
 */
int qp_show(struct qp *qp, uint64_t lag);

/* qp_unshown() - bytes consumed and not yet shown to the peer. */
uint64_t qp_unshown(const struct qp *qp);

/**
 * qp_shown_free() - free bytes of the ring we consume from, as the peer sees them now
 *
 * After publishing @n bytes and a full barrier: equal to @n means that the ring was full for the
 * peer before (transport reference, 9.2). Return: 0 or negative errno, as qp_ready()
 */
int qp_shown_free(struct qp *qp, uint64_t *ret_bytes);

/**
 * qp_unread() - bytes of the ring we produce into that the peer has not read
 *
 * After publishing @n bytes and a full barrier: equal to @n means that the ring was empty before
 * (transport reference, 9.1). Return: 0 or negative errno, as qp_free()
 */
int qp_unread(struct qp *qp, uint64_t *ret_bytes);

/**
 * qp_produce() - @n bytes were put in: advance the write position, and publish it
 *
 * Return: 0; -EFAULT: it was advanced, but the peer does not see it yet; qp_produce(qp, 0) tries again
 */
int qp_produce(struct qp *qp, uint64_t n);

#endif /* PROTO_QP_H */
