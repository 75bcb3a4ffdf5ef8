/* SPDX-License-Identifier: BSD-2-Clause */
/* One endpoint's view of a queue pair: transport reference, 7. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "proto/qp.h"

#define PAGE 4096u
#define PAGES 160

/* Linear memory, in which accesses of ring positions are counted and can be made to fail. */
struct mem_pages {
	uint8_t data[PAGES * PAGE];
	unsigned loads, stores;
	size_t fail_store;	/* stores to this page fail; SIZE_MAX: none do */
	bool fail_load;
	bool fail_spans;
	size_t span_max;	/* longest span; 0: any */
};

static int load64(void *ctx, struct mem_pages *pages, size_t off, uint64_t *ret)
{
	assert_ptr_equal(ctx, pages);
	assert_int_equal(off % 8, 0);
	assert_true(off + 8 <= sizeof(pages->data));
	if (pages->fail_load)
		return -EFAULT;
	pages->loads++;
	*ret = get_le64(pages->data + off);
	return 0;
}

static int store64(void *ctx, struct mem_pages *pages, size_t off, uint64_t v)
{
	assert_ptr_equal(ctx, pages);
	assert_int_equal(off % 8, 0);
	assert_true(off + 8 <= sizeof(pages->data));
	if (off / PAGE == pages->fail_store)
		return -EFAULT;
	pages->stores++;
	put_le64(pages->data + off, v);
	return 0;
}

static int spans_of(void *ctx, struct mem_pages *pages, size_t off, size_t len, struct mem_span *spans,
		    int max)
{
	int n = 0;

	assert_ptr_equal(ctx, pages);
	assert_true(len > 0 && max > 0 && off + len <= sizeof(pages->data));
	if (pages->fail_spans)
		return -EFAULT;
	while (len && n < max) {
		size_t here = pages->span_max && pages->span_max < len ? pages->span_max : len;

		spans[n++] = (struct mem_span){ pages->data + off, here };
		off += here;
		len -= here;
	}
	return n;
}

static const struct mem_ops ops = { .load64 = load64, .store64 = store64, .spans = spans_of };

static struct mem_pages pages;

static struct qp view(uint64_t first, uint64_t second, bool own)
{
	struct mem mem = { &ops, &pages };
	struct qp qp;

	qp_init(&qp, mem, &pages, 12, first, second, own);
	return qp;
}

static int setup(void **state)
{
	(void)state;
	memset(&pages, 0, sizeof(pages));
	pages.fail_store = SIZE_MAX;
	return 0;
}

/* The peer's positions, as it would write them into our consume header. */
static void peer_tail(const struct qp *qp, uint64_t v)
{
	put_le64(pages.data + qp->consume_hdr + 8, v);
}

static void peer_head(const struct qp *qp, uint64_t v)
{
	put_le64(pages.data + qp->consume_hdr + 16, v);
}

static void test_s6_5_rings_take_whole_pages(void **state)
{
	(void)state;
	assert_int_equal(qp_page_count(4096, 4096, 12), 4);
	assert_int_equal(qp_page_count(4097, 1, 12), 5);
	assert_int_equal(qp_page_count(262144, 262144, 12), 130);
	assert_int_equal(qp_page_count(0, 0, 12), 2);
	assert_int_equal(qp_page_count(65536, 65537, 16), 5);
}

static void test_s7_owner_produces_into_the_first_ring(void **state)
{
	struct qp own = view(5000, 100, true), other = view(5000, 100, false);

	(void)state;
	assert_int_equal(own.produce_hdr, 0);
	assert_int_equal(own.consume_hdr, 3 * PAGE);	/* header, two pages of data */
	assert_int_equal(own.produce_size, 5000);
	assert_int_equal(own.consume_size, 100);
	assert_int_equal(other.produce_hdr, own.consume_hdr);
	assert_int_equal(other.consume_hdr, own.produce_hdr);
	assert_int_equal(other.produce_size, 100);
	assert_int_equal(other.consume_size, 5000);
}

static void test_s7_format_writes_handle_and_zeros(void **state)
{
	struct qp qp = view(PAGE, PAGE, true);

	(void)state;
	memset(pages.data, 0xee, 4 * PAGE);
	assert_int_equal(qp_format(&qp, handle_make(20, 0x1234)), 0);
	for (size_t hdr = 0; hdr <= 2 * PAGE; hdr += 2 * PAGE) {
		assert_int_equal(get_le32(pages.data + hdr), 20);
		assert_int_equal(get_le32(pages.data + hdr + 4), 0x1234);
		assert_int_equal(get_le64(pages.data + hdr + 8), 0);
		assert_int_equal(get_le64(pages.data + hdr + 16), 0);
		assert_int_equal(pages.data[hdr + 24], 0xee);
	}
}

static void test_s7_format_without_memory(void **state)
{
	struct qp qp = view(PAGE, PAGE, true);

	(void)state;
	pages.fail_store = 2;	/* the second header */
	assert_int_equal(qp_format(&qp, handle_make(20, 1)), -EFAULT);
	pages.fail_store = 0;
	assert_int_equal(qp_format(&qp, handle_make(20, 1)), -EFAULT);
}

/* Both formulas of section 7 against counting, for every pair of positions. */
static void test_s7_ready_and_free_for_all_positions(void **state)
{
	const uint64_t size = 7;

	(void)state;
	for (uint64_t tail = 0; tail < size; tail++) {
		for (uint64_t head = 0; head < size; head++) {
			struct qp qp = view(size, size, true);
			uint64_t used = 0, n;

			for (uint64_t i = head; i != tail; i = (i + 1) % size)
				used++;
			qp.head = head;
			peer_tail(&qp, tail);
			assert_int_equal(qp_ready(&qp, &n), 0);
			assert_int_equal(n, used);

			qp.tail = tail;
			peer_head(&qp, head);
			assert_int_equal(qp_free(&qp, &n), 0);
			assert_int_equal(n, size - 1 - used);
			assert_int_equal(qp_unread(&qp, &n), 0);
			assert_int_equal(n, used);
		}
	}
}

static void test_s7_capacity_is_one_less_than_the_size(void **state)
{
	struct qp qp = view(128, 128, true);
	uint64_t n;

	(void)state;
	assert_int_equal(qp_free(&qp, &n), 0);
	assert_int_equal(n, 127);
	assert_int_equal(qp_produce(&qp, 127), 0);
	assert_int_equal(qp_free(&qp, &n), 0);
	assert_int_equal(n, 0);
}

static void test_s7_positions_out_of_range(void **state)
{
	static const uint64_t bad[] = { 4096, 4097, 8192, UINT32_MAX, 0x100000000, 0x100000001, UINT64_MAX };
	struct qp qp = view(4096, 4096, true);
	uint64_t n = 4711;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		peer_tail(&qp, bad[i]);
		peer_head(&qp, 0);
		assert_int_equal(qp_ready(&qp, &n), -EBADMSG);
		assert_int_equal(qp_shown_free(&qp, &n), -EBADMSG);
		peer_tail(&qp, 0);
		peer_head(&qp, bad[i]);
		assert_int_equal(qp_free(&qp, &n), -EBADMSG);
		assert_int_equal(qp_unread(&qp, &n), -EBADMSG);
	}
	assert_int_equal(n, 4711);
	peer_tail(&qp, 4095);
	peer_head(&qp, 4095);
	assert_int_equal(qp_ready(&qp, &n), 0);
	assert_int_equal(n, 4095);
	assert_int_equal(qp_free(&qp, &n), 0);
	assert_int_equal(n, 4094);
}

/* Each position is judged by the size of its own ring. */
static void test_s7_rings_of_different_sizes(void **state)
{
	struct qp qp = view(200, 300, true);
	uint64_t n;

	(void)state;
	peer_tail(&qp, 250);
	assert_int_equal(qp_ready(&qp, &n), 0);
	assert_int_equal(n, 250);
	peer_head(&qp, 250);
	assert_int_equal(qp_free(&qp, &n), -EBADMSG);
	peer_head(&qp, 199);
	assert_int_equal(qp_free(&qp, &n), 0);
	assert_int_equal(n, 198);
}

static void test_s7_a_ring_of_no_bytes(void **state)
{
	struct qp qp = view(0, 0, true);
	uint64_t n = 1;

	(void)state;
	assert_int_equal(qp_ready(&qp, &n), 0);
	assert_int_equal(n, 0);
	n = 1;
	assert_int_equal(qp_free(&qp, &n), 0);
	assert_int_equal(n, 0);
	assert_int_equal(pages.loads, 0);
}

/* The peer's position is loaded once for each question; ours are never read back. */
static void test_s7_shared_memory_is_read_once(void **state)
{
	struct qp qp = view(4096, 4096, true);
	uint64_t n;

	(void)state;
	peer_tail(&qp, 100);
	assert_int_equal(qp_ready(&qp, &n), 0);
	assert_int_equal(pages.loads, 1);
	assert_int_equal(qp_free(&qp, &n), 0);
	assert_int_equal(pages.loads, 2);
	assert_int_equal(qp_shown_free(&qp, &n), 0);
	assert_int_equal(pages.loads, 3);
	assert_int_equal(qp_unread(&qp, &n), 0);
	assert_int_equal(pages.loads, 4);

	qp_consume(&qp, 10);
	assert_int_equal(qp_show(&qp, 0), 0);
	assert_int_equal(qp_produce(&qp, 50), 0);
	memset(pages.data + qp.produce_hdr, 0xff, 24);
	assert_int_equal(qp_ready(&qp, &n), 0);
	assert_int_equal(n, 90);
	assert_int_equal(qp_free(&qp, &n), 0);
	assert_int_equal(n, 4095 - 50);
	assert_int_equal(qp_produce(&qp, 1), 0);
	assert_int_equal(get_le64(pages.data + qp.produce_hdr + 8), 51);
}

static void test_s7_positions_wrap(void **state)
{
	struct qp qp = view(129, 129, true);

	(void)state;
	assert_int_equal(qp_produce(&qp, 128), 0);
	assert_int_equal(get_le64(pages.data + qp.produce_hdr + 8), 128);
	peer_head(&qp, 128);
	assert_int_equal(qp_produce(&qp, 1), 0);
	assert_int_equal(get_le64(pages.data + qp.produce_hdr + 8), 0);
	assert_int_equal(qp_produce(&qp, 100), 0);
	assert_int_equal(get_le64(pages.data + qp.produce_hdr + 8), 100);
	peer_head(&qp, 100);
	assert_int_equal(qp_produce(&qp, 50), 0);
	assert_int_equal(get_le64(pages.data + qp.produce_hdr + 8), 21);

	qp_consume(&qp, 100);
	qp_consume(&qp, 29);
	assert_int_equal(qp_show(&qp, 0), 0);
	assert_int_equal(get_le64(pages.data + qp.produce_hdr + 16), 0);
	qp_consume(&qp, 128);
	qp_consume(&qp, 3);
	assert_int_equal(qp_show(&qp, 0), 0);
	assert_int_equal(get_le64(pages.data + qp.produce_hdr + 16), 2);
}

/* The ring ends after its size, not after its pages. */
static void test_s7_spans_follow_the_ring_round(void **state)
{
	struct qp qp = view(5000, 5000, true);
	struct mem_span span[4];

	(void)state;
	qp.head = 4990;
	qp.tail = 4990;
	assert_int_equal(qp_read_spans(&qp, 30, span, 4), 2);
	assert_ptr_equal(span[0].base, pages.data + qp.consume_hdr + PAGE + 4990);
	assert_int_equal(span[0].len, 10);
	assert_ptr_equal(span[1].base, pages.data + qp.consume_hdr + PAGE);
	assert_int_equal(span[1].len, 20);
	assert_int_equal(qp_write_spans(&qp, 30, span, 4), 2);
	assert_ptr_equal(span[0].base, pages.data + qp.produce_hdr + PAGE + 4990);
	assert_ptr_equal(span[1].base, pages.data + qp.produce_hdr + PAGE);

	/* just up to the end */
	assert_int_equal(qp_read_spans(&qp, 10, span, 4), 1);
	assert_int_equal(span[0].len, 10);
	/* room for one span: the rest another time */
	assert_int_equal(qp_read_spans(&qp, 30, span, 1), 1);
	assert_int_equal(span[0].len, 10);
}

static void test_s7_spans_stop_where_there_is_no_room(void **state)
{
	struct qp qp = view(5000, 5000, true);
	struct mem_span span[8];

	(void)state;
	pages.span_max = 4;
	qp.head = 4990;
	/* 4 + 4 + 2, then 4 + 4 + 4 + 4 + 4 */
	assert_int_equal(qp_read_spans(&qp, 30, span, 8), 8);
	assert_int_equal(span[2].len, 2);
	assert_ptr_equal(span[3].base, pages.data + qp.consume_hdr + PAGE);
	assert_int_equal(span[7].len, 4);
	/* not even the first part fits: nothing from behind the wrap may follow */
	assert_int_equal(qp_read_spans(&qp, 30, span, 2), 2);
	assert_ptr_equal(span[1].base, pages.data + qp.consume_hdr + PAGE + 4994);
}

static void test_s7_spans_without_memory(void **state)
{
	struct qp qp = view(4096, 4096, true);
	struct mem_span span[2];

	(void)state;
	pages.fail_spans = true;
	assert_int_equal(qp_read_spans(&qp, 10, span, 2), -EFAULT);
	assert_int_equal(qp_write_spans(&qp, 10, span, 2), -EFAULT);
}

static void test_questions_without_memory(void **state)
{
	struct qp qp = view(4096, 4096, true);
	uint64_t n = 5;

	(void)state;
	pages.fail_load = true;
	assert_int_equal(qp_ready(&qp, &n), -EFAULT);
	assert_int_equal(qp_free(&qp, &n), -EFAULT);
	assert_int_equal(qp_shown_free(&qp, &n), -EFAULT);
	assert_int_equal(qp_unread(&qp, &n), -EFAULT);
	assert_int_equal(n, 5);
}

static void test_consume_is_shown_later(void **state)
{
	struct qp qp = view(4096, 4096, true);
	uint64_t n;

	(void)state;
	peer_tail(&qp, 4095);
	qp_consume(&qp, 1000);
	assert_int_equal(qp_unshown(&qp), 1000);
	assert_int_equal(get_le64(pages.data + qp.produce_hdr + 16), 0);
	assert_int_equal(qp_shown_free(&qp, &n), 0);
	assert_int_equal(n, 0);
	assert_int_equal(qp_show(&qp, 1), 0);
	assert_int_equal(qp_unshown(&qp), 1);
	assert_int_equal(get_le64(pages.data + qp.produce_hdr + 16), 999);
	assert_int_equal(qp_shown_free(&qp, &n), 0);
	assert_int_equal(n, 999);
	assert_int_equal(qp_show(&qp, 0), 0);
	assert_int_equal(qp_unshown(&qp), 0);
	assert_int_equal(qp_shown_free(&qp, &n), 0);
	assert_int_equal(n, 1000);
}

static void test_lag_goes_round_the_ring(void **state)
{
	struct qp qp = view(4096, 4096, true);

	(void)state;
	qp_consume(&qp, 4095);
	assert_int_equal(qp_show(&qp, 0), 0);
	qp_consume(&qp, 1);
	assert_int_equal(qp_show(&qp, 1), 0);
	assert_int_equal(get_le64(pages.data + qp.produce_hdr + 16), 4095);
	assert_int_equal(qp_unshown(&qp), 1);
	qp_consume(&qp, 10);
	assert_int_equal(qp_unshown(&qp), 11);
}

/* A peer that fills more than what it was shown as free. */
static void test_s7_more_bytes_than_were_free(void **state)
{
	struct qp qp = view(128, 128, true);
	uint64_t n;

	(void)state;
	qp_consume(&qp, 10);
	peer_tail(&qp, 9);	/* 127 bytes ready, and 10 that it should believe to be there still */
	assert_int_equal(qp_ready(&qp, &n), 0);
	assert_int_equal(n, 127);
	assert_int_equal(qp_shown_free(&qp, &n), -EBADMSG);
}

static void test_show_without_memory_can_be_repeated(void **state)
{
	struct qp qp = view(4096, 4096, true);

	(void)state;
	qp_consume(&qp, 7);
	pages.fail_store = 0;
	assert_int_equal(qp_show(&qp, 0), -EFAULT);
	assert_int_equal(qp_unshown(&qp), 7);
	pages.fail_store = SIZE_MAX;
	assert_int_equal(qp_show(&qp, 0), 0);
	assert_int_equal(get_le64(pages.data + 16), 7);
	assert_int_equal(qp_unshown(&qp), 0);
}

static void test_produce_without_memory_can_be_repeated(void **state)
{
	struct qp qp = view(4096, 4096, true);
	uint64_t n;

	(void)state;
	pages.fail_store = 0;
	assert_int_equal(qp_produce(&qp, 7), -EFAULT);
	assert_int_equal(qp_free(&qp, &n), 0);
	assert_int_equal(n, 4095 - 7);
	pages.fail_store = SIZE_MAX;
	assert_int_equal(qp_produce(&qp, 0), 0);
	assert_int_equal(get_le64(pages.data + 8), 7);
}

#define TEST(name) cmocka_unit_test_setup(name, setup)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_s6_5_rings_take_whole_pages),
		TEST(test_s7_owner_produces_into_the_first_ring),
		TEST(test_s7_format_writes_handle_and_zeros),
		TEST(test_s7_format_without_memory),
		TEST(test_s7_ready_and_free_for_all_positions),
		TEST(test_s7_capacity_is_one_less_than_the_size),
		TEST(test_s7_positions_out_of_range),
		TEST(test_s7_rings_of_different_sizes),
		TEST(test_s7_a_ring_of_no_bytes),
		TEST(test_s7_shared_memory_is_read_once),
		TEST(test_s7_positions_wrap),
		TEST(test_s7_spans_follow_the_ring_round),
		TEST(test_s7_spans_stop_where_there_is_no_room),
		TEST(test_s7_spans_without_memory),
		TEST(test_questions_without_memory),
		TEST(test_consume_is_shown_later),
		TEST(test_lag_goes_round_the_ring),
		TEST(test_s7_more_bytes_than_were_free),
		TEST(test_show_without_memory_can_be_repeated),
		TEST(test_produce_without_memory_can_be_repeated),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
