/* SPDX-License-Identifier: BSD-2-Clause */
/* The connected stream: bytes both ways, in either role and with either notification scheme. */
#include <errno.h>

#include "stream_rig.h"

static void connect_any(struct rig *rig, struct rig_end *end, bool client, bool qstate, uint32_t size,
			struct rig_conn *ret_conn)
{
	if (client)
		rig_connect(rig, end, qstate, size, ret_conn);
	else
		rig_accept(rig, end, qstate, size, ret_conn);
}

/* A few times round each ring, the guest following the rules of the scheme. */
static void test_s7_bytes_both_ways(void **state)
{
	(void)state;
	for (unsigned v = 0; v < 16; v++) {
		bool client = v & 1, qstate = v & 2;
		struct rig_options options = { .spin_ns = v & 4 ? 5000 : 0 };
		uint32_t size = v & 8 ? 5000 : RIG_SIZE;
		struct rig *rig = rig_new(&options);
		struct rig_end *end = rig_end_new(rig, RIG_FOREVER);
		struct rig_conn c;

		connect_any(rig, end, client, qstate, size, &c);
		for (unsigned i = 0; i < 50; i++) {
			assert_int_equal(rig_write(&c, 777), 777);
			rig_say(&c, PACKET_WROTE, 0);
			end->avail = 999;
			stream_readable(c.stream);
			rig_run(rig);
			assert_int_equal(end->got, c.written);
			assert_int_equal(rig_read(&c, 5000), 999);
			rig_drain(rig);
		}
		assert_int_equal(streams_count(rig->t), 1);
		rig_guest_detach(rig, c.pair);
		assert_true(end->finished);
		rig_free(rig);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_s7_bytes_both_ways),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
