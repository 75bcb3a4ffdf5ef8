/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * DOC: Theory of operation
 *
 * What a direct pair is, and how it goes: fabric/ring_direct.c. This is the lender's side of it:
 *
 *	begin	Where the pages lie (file, offset) is found in the table of what the VMM maps, and written into a sheet.
 *		The want words of the program's header page are cleared: whatever the guest had there.
 *	look	Only while the program sleeps, or is about to, which it says by a byte over the life: at the want words that
 *		it has written into its header page, and at all four indices. All of that is memory that the guest can
 *		write to, and decides nothing here but whether a byte is sent; one for each want word, at most.
 *	return	The guest takes its pages back and waits for us, in a register write; so nobody is waited for here. First
 *		*gone* is set, then what the guest wrote and the program has not read is copied, then sent. The program's
 *		own head, which says where that begins, is read from its header page; it may lag behind, but is not
 *		ahead. If the guest has forged it, the program reads nonsense in the place of what this guest wrote.
 *	free	Whatever the reason (the VMM has unmapped a page; the program has broken something): *gone* is set, and the
 *		life ends.
 *
 * What is lent is a descriptor of the guest's whole memory: vmcid lets only those ask for it that it trusts.
 */
#include "loan.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "base/fd.h"
#include "fabric/direct.h"
#include "fabric/ring.h"
#include "proto/limits.h"

_Static_assert(DIRECT_FILES_MAX == VUS_PLACES_FILES, "what is found can be said");

/**
 * struct loan - pages that are lent
 * @life:     borrowed
 * @qp:       as the device sees it
 * @sheet:    what the program was told
 * @answered: want words for which it was woken: for the guest's tail, for its head
 */
struct loan {
	int life;
	struct qp qp;
	struct direct_sheet sheet;
	loan_places_fn places;
	void *ctx;
	uint32_t answered[2];
};

/**
 * struct found - where pages lie
 */
struct found {
	struct direct_run *runs;
	unsigned n_runs;
	int fds[1 + DIRECT_FILES_MAX];	/* [0]: for the sheet */
	unsigned n_files;
};

static uint64_t whole(uint64_t bytes)
{
	return (bytes + DIRECT_PAGE - 1) / DIRECT_PAGE * DIRECT_PAGE;
}

/* Of a ring: its header page, as far as it is used, and its data. */
static int add_ring(const struct qp *qp, size_t hdr, uint64_t size, loan_places_fn places, void *ctx,
		    struct vus_places *to)
{
	int r = places(ctx, qp->pages, hdr, DIRECT_PAGE, to);

	return r || !size ? r : places(ctx, qp->pages, hdr + ((size_t)1 << qp->page_shift), (size_t)whole(size), to);
}

/* Return: 0, and @ret_found->runs to be freed; a negative errno */
static int find(const struct qp *qp, loan_places_fn places, void *ctx, struct found *ret_found)
{
	struct vus_places at = { .max = LIMIT_DIRECT_RUNS };
	struct found found = { 0 };
	int r = -ENOMEM;

	if (!places)
		return -ENOTSUP;
	at.place = calloc(at.max, sizeof(*at.place));
	found.runs = calloc(at.max, sizeof(*found.runs));
	if (at.place && found.runs)
		r = add_ring(qp, qp->consume_hdr, qp->consume_size, places, ctx, &at);
	if (!r)
		r = add_ring(qp, qp->produce_hdr, qp->produce_size, places, ctx, &at);
	for (unsigned i = 0; i < at.n && !r; i++)
		found.runs[i] = (struct direct_run){
			.file = at.place[i].file,
			.pages = (uint32_t)(at.place[i].len / DIRECT_PAGE),
			.offset = at.place[i].offset,
		};
	free(at.place);
	if (r) {
		free(found.runs);
		return r;
	}
	found.n_runs = at.n;
	found.n_files = at.n_fds;
	memcpy(found.fds + 1, at.fd, sizeof(at.fd));
	*ret_found = found;
	return 0;
}

int32_t loan_code(int error)
{
	switch (error) {
	case -ENOTSUP:
	case -E2BIG:
	case -EFAULT:
		return VMCI_ERROR_CANNOT_SHARE_PAGE;
	case -ENOMEM:
		return VMCI_ERROR_NO_MEM;
	default:
		return VMCI_ERROR_NO_RESOURCES;
	}
}

const char *loan_reason(int error)
{
	switch (error) {
	case -ENOTSUP:
		return "the guest's memory is not sealed against shrinking, or in huge pages";
	case -E2BIG:
		return "its pages lie in too many pieces, or files";
	case -EFAULT:
		return "its pages are not mapped";
	default:
		return strerror(-error);
	}
}

int loan_check(const struct qp *qp, loan_places_fn places, void *ctx)
{
	struct found found;
	int r = find(qp, places, ctx, &found);

	if (!r)
		free(found.runs);
	return r;
}

static int load(const struct qp *qp, size_t hdr, size_t off, uint64_t *ret)
{
	return qp->mem.ops->load64(qp->mem.ctx, qp->pages, hdr + off, ret);
}

int loan_begin(int life, const struct qp *qp, loan_places_fn places, void *ctx, struct loan **ret_loan)
{
	struct loan *loan = calloc(1, sizeof(*loan));
	struct found found;
	int r;

	if (!loan)
		return -ENOMEM;
	*loan = (struct loan){ .life = life, .qp = *qp, .places = places, .ctx = ctx };
	r = find(qp, places, ctx, &found);
	if (r) {
		free(loan);
		return r;
	}
	r = qp->mem.ops->store64(qp->mem.ctx, qp->pages, qp->produce_hdr + RING_WANT_IN_OFFSET, 0);
	if (!r)
		r = qp->mem.ops->store64(qp->mem.ctx, qp->pages, qp->produce_hdr + RING_WANT_OUT_OFFSET, 0);
	if (!r)
		r = direct_sheet_new(0, qp->consume_size, qp->produce_size, found.runs, found.n_runs, found.n_files,
				     &loan->sheet, &found.fds[0]);
	free(found.runs);
	if (!r) {
		r = direct_send(life, found.fds, 1 + found.n_files);
		fd_close(&found.fds[0]);
	}
	if (r) {
		loan_free(loan);
		return r;
	}
	*ret_loan = loan;
	return 0;
}

void loan_refuse(int life, int32_t code)
{
	struct direct_sheet sheet;
	int fd;

	if (direct_sheet_new(code, 0, 0, NULL, 0, 0, &sheet, &fd))
		return;
	(void)direct_send(life, &fd, 1);
	fd_close(&fd);
	direct_sheet_done(&sheet);
}

bool loan_is_good(const struct loan *loan)
{
	struct found found;
	bool is_good;

	if (find(&loan->qp, loan->places, loan->ctx, &found))
		return false;
	is_good = direct_sheet_is(&loan->sheet, found.runs, found.n_runs);
	free(found.runs);
	return is_good;
}

/* --- Looking for the program -------------------------------------------------------------------------------------- */

static void wake(const struct loan *loan)
{
	char byte = 0;

	/* If it is full, there are wake-ups enough in it. */
	(void)send(loan->life, &byte, 1, MSG_DONTWAIT | MSG_NOSIGNAL);
}

/* is_there() - what the program waits for: something to read, or room */
static int is_there(const struct qp *qp, bool out, bool *ret_there)
{
	uint64_t size = out ? qp->produce_size : qp->consume_size, g_tail, g_head;
	int r = load(qp, out ? qp->produce_hdr : qp->consume_hdr, VMCI_QUEUE_TAIL_OFFSET, &g_tail);

	if (!r)
		r = load(qp, out ? qp->consume_hdr : qp->produce_hdr, VMCI_QUEUE_HEAD_OFFSET, &g_head);
	if (r)
		return r;
	/* What is out of range is for the program to find out. */
	if (out && g_tail < size)
		g_tail = g_tail + 1 == size ? 0 : g_tail + 1;
	*ret_there = g_tail != g_head || g_tail >= size;
	return 0;
}

int loan_look(struct loan *loan)
{
	static const size_t offset[2] = { RING_WANT_IN_OFFSET, RING_WANT_OUT_OFFSET };
	bool is_there_now = false, waits = false;
	uint64_t word;

	for (unsigned i = 0; i < 2; i++) {
		int r = load(&loan->qp, loan->qp.produce_hdr, offset[i], &word);
		uint32_t g_want = r ? 0 : (uint32_t)word;

		if (!r && g_want && g_want != loan->answered[i])
			r = is_there(&loan->qp, i == 1, &is_there_now);
		if (r)
			return r;
		if (!g_want || g_want == loan->answered[i])
			continue;
		if (is_there_now) {
			loan->answered[i] = g_want;
			wake(loan);
		} else {
			waits = true;
		}
	}
	return waits;
}

/* --- The end ------------------------------------------------------------------------------------------------------ */

/* copy_unread() - what the program has not read, to where it lies in the ring at @to */
static int copy_unread(struct qp *qp, uint64_t g_head, uint64_t ready, uint8_t *to)
{
	qp->head = g_head;
	while (ready) {
		struct mem_span span[QP_MAX_SPANS];
		int n = qp_read_spans(qp, ready, span, QP_MAX_SPANS);

		if (n < 0)
			return n;
		for (int i = 0; i < n; i++) {
			memcpy(to + qp->head, span[i].base, span[i].len);
			qp_consume(qp, span[i].len);
			ready -= span[i].len;
		}
	}
	return 0;
}

static int take_snapshot(struct qp *qp, uint8_t *map)
{
	uint64_t tail = 0, head = 0, g_peer_head = 0, ready = 0;
	int r = 0;

	if (qp->produce_size)
		r = load(qp, qp->consume_hdr, VMCI_QUEUE_HEAD_OFFSET, &g_peer_head);
	if (!r && qp->consume_size) {
		r = load(qp, qp->consume_hdr, VMCI_QUEUE_TAIL_OFFSET, &tail);
		if (!r)
			r = load(qp, qp->produce_hdr, VMCI_QUEUE_HEAD_OFFSET, &head);
		if (!r && (tail >= qp->consume_size || head >= qp->consume_size))
			r = -EBADMSG;
		if (!r) {
			ready = tail >= head ? tail - head : qp->consume_size - (head - tail);
			r = copy_unread(qp, head, ready, map + DIRECT_PAGE);
		}
	}
	put_le64(map + VMCI_QUEUE_TAIL_OFFSET, tail);
	put_le64(map + VMCI_QUEUE_HEAD_OFFSET, g_peer_head);
	return r;
}

int loan_return(struct loan *loan)
{
	uint8_t *map;
	int fd, r;

	direct_sheet_end(&loan->sheet);
	r = direct_snapshot_new(loan->qp.consume_size, &map, &fd);
	if (!r) {
		r = take_snapshot(&loan->qp, map);
		munmap(map, direct_snapshot_size(loan->qp.consume_size));
		if (!r)
			r = direct_send(loan->life, &fd, 1);
		fd_close(&fd);
	}
	return r;
}

struct loan *loan_free(struct loan *loan)
{
	if (!loan)
		return NULL;
	if (loan->sheet.map)
		direct_sheet_end(&loan->sheet);
	direct_sheet_done(&loan->sheet);
	free(loan);
	return NULL;
}
