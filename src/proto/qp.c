/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * DOC: Theory of operation
 *
 * A queue pair is two byte rings. Each ring has a header page and data pages. An endpoint writes
 * only into the header page of the ring that it produces into: there stand its write position in
 * that ring (the tail) and its read position in the other ring (the head). So each endpoint reads
 * the peer's positions from the header page of the ring that it consumes from:
 *
 *	mine:   produce header: tail = how far I have written,  head = how far I have read
 *	peer's: consume header: tail = how far it has written,  head = how far it has read
 *
 * Positions are offsets in [0, size); equal positions mean an empty ring, so one byte always
 * stays unused. The shared memory belongs to a peer that may write anything at any time:
 *
 *  - our own positions live in private memory, and their shared copies are never read back;
 *  - the peer's position is loaded once per question, range-checked, and only that copy is used.
 *
 * Ordering: data is written before the tail is published (release), a tail is read (acquire)
 * before its data. The port's load64 and store64 do that.
 */
#include "proto/qp.h"

#include <errno.h>

static uint64_t pages_of(uint64_t size, unsigned page_shift)
{
	uint64_t mask = (UINT64_C(1) << page_shift) - 1;

	return (size >> page_shift) + ((size & mask) != 0);
}

uint64_t qp_page_count(uint64_t produce, uint64_t consume, unsigned page_shift)
{
	return pages_of(produce, page_shift) + pages_of(consume, page_shift) + 2;
}

void qp_init(struct qp *qp, struct mem mem, struct mem_pages *pages, unsigned page_shift, uint64_t first,
	     uint64_t second, bool own)
{
	size_t second_hdr = (size_t)(1 + pages_of(first, page_shift)) << page_shift;

	*qp = (struct qp){
		.mem = mem,
		.pages = pages,
		.page_shift = page_shift,
		.produce_hdr = own ? 0 : second_hdr,
		.consume_hdr = own ? second_hdr : 0,
		.produce_size = own ? first : second,
		.consume_size = own ? second : first,
	};
}

static int format_header(struct qp *qp, size_t hdr, uint64_t handle)
{
	int r = qp->mem.ops->store64(qp->mem.ctx, qp->pages, hdr, handle);

	if (!r)
		r = qp->mem.ops->store64(qp->mem.ctx, qp->pages, hdr + VMCI_QUEUE_TAIL_OFFSET, 0);
	if (!r)
		r = qp->mem.ops->store64(qp->mem.ctx, qp->pages, hdr + VMCI_QUEUE_HEAD_OFFSET, 0);
	return r;
}

int qp_format(struct qp *qp, struct vmci_handle handle)
{
	uint64_t word = (uint64_t)handle.resource << 32 | handle.context;
	int r = format_header(qp, qp->produce_hdr, word);

	return r ? r : format_header(qp, qp->consume_hdr, word);
}

/* Load one of the peer's positions, which must lie in a ring of @size bytes. */
static int load_position(struct qp *qp, size_t off, uint64_t size, uint64_t *ret)
{
	uint64_t p_pos;
	int r = qp->mem.ops->load64(qp->mem.ctx, qp->pages, qp->consume_hdr + off, &p_pos);

	if (r)
		return r;
	if (p_pos >= size)
		return -EBADMSG;
	*ret = p_pos;
	return 0;
}

int qp_ready(struct qp *qp, uint64_t *ret_bytes)
{
	uint64_t tail;
	int r;

	if (qp->consume_size == 0) {
		*ret_bytes = 0;
		return 0;
	}
	r = load_position(qp, VMCI_QUEUE_TAIL_OFFSET, qp->consume_size, &tail);
	if (r)
		return r;
	*ret_bytes = tail >= qp->head ? tail - qp->head : qp->consume_size - (qp->head - tail);
	return 0;
}

int qp_free(struct qp *qp, uint64_t *ret_bytes)
{
	uint64_t head;
	int r;

	if (qp->produce_size == 0) {
		*ret_bytes = 0;
		return 0;
	}
	r = load_position(qp, VMCI_QUEUE_HEAD_OFFSET, qp->produce_size, &head);
	if (r)
		return r;
	*ret_bytes = qp->tail >= head ? qp->produce_size - (qp->tail - head) - 1 : head - qp->tail - 1;
	return 0;
}

static int ring_spans(struct qp *qp, size_t hdr, uint64_t size, uint64_t pos, uint64_t len, struct mem_span *spans,
		      int max)
{
	size_t data = hdr + ((size_t)1 << qp->page_shift);
	uint64_t first = len > size - pos ? size - pos : len;
	int n = qp->mem.ops->spans(qp->mem.ctx, qp->pages, data + (size_t)pos, (size_t)first, spans, max);
	uint64_t covered = 0;
	int m;

	if (n < 0 || first == len || n == max)
		return n;
	for (int i = 0; i < n; i++)
		covered += spans[i].len;
	if (covered < first)
		return n;
	m = qp->mem.ops->spans(qp->mem.ctx, qp->pages, data, (size_t)(len - first), spans + n, max - n);
	return m < 0 ? m : n + m;
}

int qp_read_spans(struct qp *qp, uint64_t len, struct mem_span *spans, int max)
{
	return ring_spans(qp, qp->consume_hdr, qp->consume_size, qp->head, len, spans, max);
}

int qp_write_spans(struct qp *qp, uint64_t len, struct mem_span *spans, int max)
{
	return ring_spans(qp, qp->produce_hdr, qp->produce_size, qp->tail, len, spans, max);
}

static uint64_t advance(uint64_t pos, uint64_t n, uint64_t size)
{
	pos += n;
	return pos >= size ? pos - size : pos;
}

void qp_consume(struct qp *qp, uint64_t n)
{
	qp->head = advance(qp->head, n, qp->consume_size);
}

int qp_show(struct qp *qp, uint64_t lag)
{
	uint64_t pos = qp->head >= lag ? qp->head - lag : qp->consume_size - (lag - qp->head);
	int r = qp->mem.ops->store64(qp->mem.ctx, qp->pages, qp->produce_hdr + VMCI_QUEUE_HEAD_OFFSET, pos);

	if (!r)
		qp->shown = pos;
	return r;
}

uint64_t qp_unshown(const struct qp *qp)
{
	return qp->head >= qp->shown ? qp->head - qp->shown : qp->consume_size - (qp->shown - qp->head);
}

int qp_shown_free(struct qp *qp, uint64_t *ret_bytes)
{
	uint64_t ready;
	int r = qp_ready(qp, &ready);

	if (r)
		return r;
	ready += qp_unshown(qp);
	if (ready >= qp->consume_size)
		return -EBADMSG;
	*ret_bytes = qp->consume_size - 1 - ready;
	return 0;
}

int qp_unread(struct qp *qp, uint64_t *ret_bytes)
{
	uint64_t room;
	int r = qp_free(qp, &room);

	if (r)
		return r;
	*ret_bytes = qp->produce_size - 1 - room;
	return 0;
}

int qp_produce(struct qp *qp, uint64_t n)
{
	qp->tail = advance(qp->tail, n, qp->produce_size);
	return qp->mem.ops->store64(qp->mem.ctx, qp->pages, qp->produce_hdr + VMCI_QUEUE_TAIL_OFFSET, qp->tail);
}
