/* SPDX-License-Identifier: BSD-2-Clause */
/* Input that outlives a session, and another session that goes on with it: struct vus_input. */
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/bytes.h"
#include "rig.h"

static uint8_t body[64];
static struct vus_input input, left;

/* A session that receives into @input, and has agreed on a version */
static struct rig *open_rig(struct vus_input *to)
{
	struct vus_desc desc;
	struct rig *rig;
	uint8_t reply[256];
	size_t len;

	rig_desc(&desc);
	rig = rig_new(&desc);
	memset(to, 0x5a, sizeof(*to));		/* of a session before */
	vus_session_set_input(rig->session, to);
	assert_int_equal(rig_call(rig, VUS_CMD_VERSION, body, rig_body_version(body, 0, 1, NULL), NULL, 0, reply, &len), 0);
	return rig;
}

static int setup(void **state)
{
	*state = open_rig(&input);
	return 0;
}

static void write_posted(struct rig *rig, unsigned i)
{
	rig_command(rig, VUS_CMD_REGION_WRITE, VUS_NO_REPLY, body,
		    rig_body_write(body, 0x20000 + 4 * i, 1, 4, "abcd"), NULL, 0);
}

/* Complete messages at the start of what is left */
static unsigned count(const struct vus_input *in)
{
	struct vus_header header;
	unsigned n = 0;

	for (size_t at = in->start; sizeof(in->bytes) - at >= VUS_HEADER_SIZE; at += header.size, n++) {
		vus_header_parse(in->bytes + at, &header);
		if (vus_header_check(&header, LIMIT_VFIO_MESSAGE))
			break;
	}
	return n;
}

static void test_holds_what_was_not_served(void **state)
{
	struct rig *rig = *state;

	for (unsigned i = 0; i < LIMIT_VFIO_TURN + 7; i++)
		write_posted(rig, i);
	assert_int_equal(vus_session_handle(rig->session), 0);
	assert_int_equal(count(&input), 7);
	assert_int_equal(vus_session_handle(rig->session), 0);
	assert_int_equal(count(&input), 0);
}

/* Nothing of a longer batch shows behind a shorter one */
static void test_zeroes_behind_it(void **state)
{
	struct rig *rig = *state;

	for (unsigned i = 0; i < LIMIT_VFIO_TURN; i++)
		write_posted(rig, i);
	assert_int_equal(vus_session_handle(rig->session), 0);
	for (unsigned i = 0; i < LIMIT_VFIO_TURN + 1; i++)
		write_posted(rig, i);
	assert_int_equal(vus_session_handle(rig->session), 0);
	assert_int_equal(count(&input), 1);
	assert_int_equal(vus_session_handle(rig->session), 0);
	write_posted(rig, 0);
	write_posted(rig, 0);
	assert_int_equal(rig_handle(rig), 0);
	for (size_t i = input.start; i < sizeof(input.bytes); i++)
		assert_int_equal(input.bytes[i], 0);
}

/* The buffer's end is reached, in the middle of a message */
static void test_piece_is_moved(void **state)
{
	struct rig *rig = *state;
	static uint8_t buf[36 * 4000];
	unsigned n = sizeof(buf) / 36;

	for (unsigned i = 0; i < n; i++) {
		rig_header(rig, buf + 36 * i, VUS_CMD_REGION_WRITE, VUS_NO_REPLY, 20);
		rig_body_write(buf + 36 * i + VUS_HEADER_SIZE, 0x20000 + 4 * (i % 1000), 1, 4, "abcd");
	}
	for (size_t at = 0, size; at < sizeof(buf); at += size) {
		size = sizeof(buf) - at < 50001 ? sizeof(buf) - at : 50001;
		rig_send(rig, buf + at, size, NULL, 0);
		assert_int_equal(rig_handle(rig), 0);
	}
	assert_int_equal(rig->writes, n);
	for (size_t i = input.start; i < sizeof(input.bytes); i++)
		assert_int_equal(input.bytes[i], 0);
}

/* Another session serves what this one did not; @skip messages of it were begun */
static void go_on(unsigned skip, unsigned wanted)
{
	struct rig *other = open_rig(&left);
	int pair[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair), 0);
	close(other->client);
	other->client = pair[0];
	vus_session_move(other->session, pair[1], &input, skip * 36);
	assert_int_equal(vus_session_is_pending(other->session), wanted > 0);
	assert_int_equal(rig_handle(other), 0);
	assert_int_equal(other->writes, wanted);
	/* And then what comes */
	write_posted(other, 1);
	assert_int_equal(rig_handle(other), 0);
	assert_int_equal(other->writes, wanted + 1);
	rig_free(other);
}

static void test_another_session_goes_on(void **state)
{
	struct rig *rig = *state;

	go_on(0, 0);
	for (unsigned i = 0; i < LIMIT_VFIO_TURN + 7; i++)
		write_posted(rig, i);
	assert_int_equal(vus_session_handle(rig->session), 0);
	go_on(0, 7);
	go_on(1, 6);
	go_on(7, 0);
}

/* Who left it may have been taken over by a guest */
static void test_what_is_left_is_nonsense(void **state)
{
	struct rig *rig = *state;

	input.start = sizeof(input.bytes) + 1;
	go_on(0, 0);
	input.start = SIZE_MAX;
	go_on(1, 0);
	input.start = sizeof(input.bytes) - 8;
	go_on(0, 0);
	go_on(1, 0);
	input.start = 0;
	memset(input.bytes, 0xff, sizeof(input.bytes));
	go_on(0, 0);
	/* Whole messages up to one that does not fit, or is a bad one, are served */
	memset(input.bytes, 0, sizeof(input.bytes));
	for (unsigned i = 0; i < 2; i++) {
		rig_header(rig, input.bytes + 36 * i, VUS_CMD_REGION_WRITE, VUS_NO_REPLY, 20);
		rig_body_write(input.bytes + 36 * i + VUS_HEADER_SIZE, 0, 1, 4, "abcd");
	}
	put_le32(input.bytes + 36 + 4, UINT32_MAX);
	go_on(0, 1);
	put_le32(input.bytes + 36 + 4, 36);
	go_on(0, 2);
	memset(&input, 0, sizeof(input));
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, rig_teardown)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		T(test_holds_what_was_not_served),
		T(test_zeroes_behind_it),
		T(test_piece_is_moved),
		T(test_another_session_goes_on),
		T(test_what_is_left_is_nonsense),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
