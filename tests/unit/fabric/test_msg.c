/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The codec against a second table, written from the one in msg.h: every type and kind, right; then each thing that
 * can be wrong with it, alone.
 */
#include "rig.h"

#include <errno.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define MOST_FLAGS 16u
#define END 0xffffu

/*
 * fields: c, r: handle's context, resource; C, R: the second one's; 0, 1: sizes; t: token
 * flags:  every combination that is allowed, up to END
 * status: every one that is allowed and not negative, up to -1; "b": 0..69632
 */
struct row {
	enum fab_type type;
	enum fab_kind kind;
	const char *fields;
	uint32_t flags[MOST_FLAGS + 1];
	const char *status;
	size_t least;
	size_t most;
	unsigned fds;
};

#define NONE { 0, END }
#define RESUME { 0, FAB_F_RESUME, END }
#define TRUSTED { 0, FAB_F_TRUSTED, END }
#define DIRECT { 0, FAB_F_TRUSTED, FAB_F_DIRECT, FAB_F_TRUSTED | FAB_F_DIRECT, END }

static const struct row rows[] = {
	{ FAB_HELLO, FAB_REQUEST, "c0t", { 0, 1, 4, 5, 0x2000, 0x2001, 0x2004, 0x2005, END }, "0", 0, 64, 0 },
	{ FAB_HELLO, FAB_REQUEST, "c0t", { 2, 3, 6, 7, END }, "0", 0, 64, 2 },
	{ FAB_HELLO, FAB_REPLY, "c0t", { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, END }, "0", 0, 0, 0 },
	{ FAB_HELLO, FAB_REPLY, "c0t", { 0x1000, 0x1001, 0x1004, 0x1008, 0x100f, END }, "0", 0, 0, 0 },
	{ FAB_HELLO, FAB_REPLY, "c0t", { 0x2000, 0x2001, 0x2004, 0x2008, 0x3000, 0x300d, END }, "0", 0, 0, 0 },
	{ FAB_DG_CREATE, FAB_REQUEST, "rt", RESUME, "0", 0, 0, 1 },
	{ FAB_DG_CREATE, FAB_REPLY, "crt", NONE, "0", 0, 0, 0 },
	{ FAB_DG_DESTROY, FAB_REQUEST, "cr", NONE, "0", 0, 0, 0 },
	{ FAB_DG_DESTROY, FAB_REPLY, "", NONE, "0", 0, 0, 0 },
	{ FAB_DG_SEND, FAB_REQUEST, "", NONE, "0", 24, 69632, 0 },
	{ FAB_DG_SEND, FAB_REPLY, "", NONE, "b", 0, 0, 0 },
	{ FAB_EVENTS, FAB_REQUEST, "", NONE, "0", 0, 0, 1 },
	{ FAB_EVENTS, FAB_REPLY, "", NONE, "0", 0, 0, 0 },
	{ FAB_WATCH, FAB_REQUEST, "c", { 0, 1, 0x10, END }, "0", 0, 0, 0 },
	{ FAB_WATCH, FAB_REPLY, "", NONE, "0", 0, 0, 0 },
	{ FAB_BELL_CREATE, FAB_REQUEST, "rt", RESUME, "0", 0, 0, 1 },
	{ FAB_BELL_CREATE, FAB_REPLY, "crt", NONE, "0", 0, 0, 0 },
	{ FAB_BELL_DESTROY, FAB_REQUEST, "cr", NONE, "0", 0, 0, 0 },
	{ FAB_BELL_DESTROY, FAB_REPLY, "", NONE, "0", 0, 0, 0 },
	{ FAB_BELL_OPEN, FAB_REQUEST, "cr", NONE, "0", 0, 0, 0 },
	{ FAB_BELL_OPEN, FAB_REPLY, "", NONE, "0", 0, 0, 1 },
	{ FAB_BELL_OPEN, FAB_ASK, "cr", NONE, "0", 0, 0, 0 },
	{ FAB_BELL_OPEN, FAB_ANSWER, "", NONE, "0", 0, 0, 1 },
	{ FAB_QP_CREATE, FAB_REQUEST, "crC01t", { 0, 1, 8, 9, 0x400, 0x401, 0x408, 0x409, END }, "0", 0, 0, 2 },
	{ FAB_QP_CREATE, FAB_REPLY, "crt", NONE, "4", 0, 0, 0 },
	{ FAB_QP_ATTACH, FAB_REQUEST, "crC01", DIRECT, "0", 0, 0, 0 },
	{ FAB_QP_ATTACH, FAB_REPLY, "Ct", { 0, 0x400, END }, "5", 0, 0, 2 },
	{ FAB_QP_ATTACH, FAB_ASK, "crC01", DIRECT, "0", 0, 0, 0 },
	{ FAB_QP_ATTACH, FAB_ANSWER, "", NONE, "5", 0, 0, 2 },
	{ FAB_QP_HOLD, FAB_REQUEST, "crC01t", TRUSTED, "0", 0, 0, 0 },
	{ FAB_QP_HOLD, FAB_REPLY, "", NONE, "0", 0, 0, 0 },
	{ FAB_QP_DETACH, FAB_REQUEST, "cr", NONE, "0", 0, 0, 0 },
	{ FAB_QP_DETACH, FAB_REPLY, "", NONE, "03", 0, 0, 0 },
	{ FAB_SHM_CREATE, FAB_REQUEST, "r01t", RESUME, "0", 0, 0, 1 },
	{ FAB_SHM_CREATE, FAB_REPLY, "crt", NONE, "0", 0, 0, 0 },
	{ FAB_SHM_QUERY, FAB_REQUEST, "cr", NONE, "0", 0, 0, 0 },
	{ FAB_SHM_QUERY, FAB_REPLY, "0", NONE, "0", 0, 0, 0 },
	{ FAB_SHM_ATTACH, FAB_REQUEST, "cr", NONE, "0", 0, 0, 0 },
	{ FAB_SHM_ATTACH, FAB_REPLY, "01t", NONE, "0", 0, 0, 1 },
	{ FAB_SHM_HOLD, FAB_REQUEST, "cr01t", NONE, "0", 0, 0, 1 },
	{ FAB_SHM_HOLD, FAB_REPLY, "", NONE, "0", 0, 0, 0 },
	{ FAB_SHM_DETACH, FAB_REQUEST, "cr", NONE, "0", 0, 0, 0 },
	{ FAB_SHM_DETACH, FAB_REPLY, "", NONE, "03", 0, 0, 0 },
	{ FAB_NAME, FAB_REQUEST, "t", RESUME, "0", 1, 300, 0 },
	{ FAB_NAME, FAB_REPLY, "t", NONE, "0", 1, 300, 0 },
	{ FAB_PRIV, FAB_REQUEST, "crCR01", { 0x20, 0x40, 0x80, 0x100, END }, "0", 0, 0, 0 },
	{ FAB_PRIV, FAB_REPLY, "", NONE, "02", 0, 0, 0 },
	{ FAB_GROUP_CREATE, FAB_REQUEST, "t", { 0, END }, "0", 0, 0, 0 },
	{ FAB_GROUP_CREATE, FAB_REQUEST, "rt", { 1, END }, "0", 0, 0, 0 },
	{ FAB_GROUP_CREATE, FAB_REPLY, "crt", NONE, "0", 0, 0, 0 },
	{ FAB_GROUP_DESTROY, FAB_REQUEST, "cr", NONE, "0", 0, 0, 0 },
	{ FAB_GROUP_DESTROY, FAB_REPLY, "", NONE, "0", 0, 0, 0 },
	{ FAB_GROUP_MEMBER, FAB_REQUEST, "crCR", { 0x20, 0x220, 0x40, 0x100, END }, "0", 0, 0, 0 },
	{ FAB_GROUP_MEMBER, FAB_REPLY, "", NONE, "01", 0, 0, 0 },
	{ FAB_LIST, FAB_REQUEST, "0", NONE, "0", 0, 0, 0 },
	{ FAB_LIST, FAB_REPLY, "0", NONE, "0", 0, 69632, 0 },
	{ FAB_STREAM_BIND, FAB_REQUEST, "cr", NONE, "0", 0, 0, 1 },
	{ FAB_STREAM_BIND, FAB_REPLY, "cr", NONE, "0", 0, 0, 0 },
	{ FAB_STREAM_CONNECT, FAB_REQUEST, "crCR0", { 0, 0x800, END }, "0", 0, 0, 1 },
	{ FAB_STREAM_CONNECT, FAB_REPLY, "cr", { 0, 0x800, END }, "0", 0, 0, 0 },
	{ FAB_STREAM_CONNECT, FAB_ASK, "crCR0", { 0, END }, "0", 0, 0, 1 },
	{ FAB_STREAM_CONNECT, FAB_ASK, "crCR01", { 0x800, END }, "0", 0, 0, 1 },
	{ FAB_STREAM_CONNECT, FAB_ANSWER, "", NONE, "0", 0, 0, 0 },
	{ FAB_STREAM_OPEN, FAB_REQUEST, "crCR", NONE, "0", 0, 0, 0 },
	{ FAB_STREAM_OPEN, FAB_REPLY, "", { 0, 0x800, END }, "0", 0, 0, 1 },
	{ FAB_SHM_ALLOC, FAB_REQUEST, "r0", NONE, "0", 0, 0, 0 },
	{ FAB_SHM_ALLOC, FAB_REPLY, "cr1t", NONE, "0", 16, 88, 1 },
	{ FAB_WINDOW, FAB_REQUEST, "0t", RESUME, "0", 0, 72, 1 },
	{ FAB_WINDOW, FAB_REPLY, "t", NONE, "0", 0, 0, 0 },
	{ FAB_DG_BIND, FAB_REQUEST, "cr", NONE, "0", 0, 0, 1 },
	{ FAB_DG_BIND, FAB_REPLY, "cr", NONE, "0", 0, 0, 0 },
	{ FAB_VM_FIND, FAB_REQUEST, "", NONE, "0", 16, 16, 0 },
	{ FAB_VM_FIND, FAB_REPLY, "c", NONE, "0", 0, 0, 0 },
};
#define N_ROWS (sizeof(rows) / sizeof(rows[0]))

static uint8_t bytes[FAB_DATA_MAX + 1];

/* Requests that resume something show a token then, and only then. */
static bool has_token(const struct row *row, uint32_t flags)
{
	if (!strchr(row->fields, 't'))
		return false;
	return row->kind != FAB_REQUEST || row->type == FAB_QP_HOLD || row->type == FAB_SHM_HOLD ||
	       flags & FAB_F_RESUME;
}

static bool is_status(const struct row *row, int32_t status)
{
	if (row->kind == FAB_REPLY || row->kind == FAB_ANSWER) {
		if (status < 0)
			return status >= -41;
		if (*row->status == 'b')
			return status <= 69632;
		return status < 10 && strchr(row->status, '0' + status);
	}
	return !status;
}

static struct fab_msg good(const struct row *row, uint32_t flags)
{
	struct fab_msg msg = { .type = row->type, .kind = row->kind, .serial = 0xfedcba98, .flags = flags };

	if (row->kind == FAB_REPLY || row->kind == FAB_ANSWER)
		msg.status = *row->status == 'b' ? 24 : *row->status - '0';
	if (strchr(row->fields, 'c'))
		msg.handle.context = 0xffffffff;
	if (strchr(row->fields, 'r'))
		msg.handle.resource = 0x80000001;
	if (strchr(row->fields, 'C'))
		msg.other.context = 0x01020304;
	if (strchr(row->fields, 'R'))
		msg.other.resource = 0x05060708;
	if (strchr(row->fields, '0'))
		msg.size0 = 0x1122334455667788;
	if (strchr(row->fields, '1'))
		msg.size1 = 0xffeeddccbbaa9988;
	if (has_token(row, flags))
		for (unsigned i = 0; i < FAB_TOKEN_SIZE; i++)
			msg.token[i] = (uint8_t)(0xf0 + i);
	msg.data = bytes;
	msg.len = row->most;
	msg.n_fds = row->fds;
	return msg;
}

/* Through bytes and back, and through the check. */
static bool passes(const struct fab_msg *msg)
{
	static uint8_t buf[FAB_MSG_MAX + 1];
	struct fab_msg back;
	const char *why;

	memset(&back, 0xee, sizeof(back));
	if (fab_check(msg)) {
		/* fab_build() would end the program: put the bytes there by hand. */
		put_le16(buf, (uint16_t)msg->type);
		put_le16(buf + 2, (uint16_t)msg->kind);
		put_le32(buf + 4, msg->serial);
		put_le32(buf + 8, (uint32_t)msg->status);
		put_le32(buf + 12, msg->flags);
		handle_put(buf + 16, msg->handle);
		handle_put(buf + 24, msg->other);
		put_le64(buf + 32, msg->size0);
		put_le64(buf + 40, msg->size1);
		memcpy(buf + 48, msg->token, 16);
	} else {
		memset(buf, 0xdd, FAB_HEADER_SIZE);
		fab_build(msg, buf);
	}
	if (msg->len)
		memcpy(buf + 64, msg->data, msg->len);
	why = fab_parse_why(buf, 64 + msg->len, msg->n_fds, &back);
	if (why) {
		struct fab_msg untouched;

		memset(&untouched, 0xee, sizeof(untouched));
		assert_memory_equal(&back, &untouched, sizeof(back));
		assert_non_null(fab_check(msg));
		assert_int_equal(fab_parse(buf, 64 + msg->len, msg->n_fds, &back), -EBADMSG);
		assert_true(strlen(why) > 8);
		return false;
	}
	assert_null(fab_check(msg));
	assert_true(rig_is_equal(msg, &back));
	/* The descriptors are the caller's. */
	for (unsigned i = 0; i < FAB_FDS_MAX; i++)
		assert_int_equal(back.fd[i], (int)0xeeeeeeee);
	return true;
}

static void test_right_ones_pass(void **state)
{
	(void)state;
	for (const struct row *row = rows; row < rows + N_ROWS; row++)
		for (const uint32_t *flags = row->flags; *flags != END; flags++) {
			struct fab_msg msg = good(row, *flags);

			assert_true(passes(&msg));
			msg.len = row->least;
			assert_true(passes(&msg));
			/* everything may be 0 */
			msg.handle = msg.other = handle_make(0, 0);
			msg.size0 = msg.size1 = msg.serial = 0;
			memset(msg.token, 0, sizeof(msg.token));
			assert_true(passes(&msg));
		}
}

static void test_every_flag(void **state)
{
	(void)state;
	for (const struct row *row = rows; row < rows + N_ROWS; row++)
		for (uint32_t bit = 0; bit < 32 + 1024; bit++) {
			uint32_t flags = bit < 32 ? 1u << bit : bit - 32;
			const struct row *allows = NULL;
			struct fab_msg msg;

			/* some have two rows */
			for (const struct row *r = rows; r < rows + N_ROWS; r++)
				for (const uint32_t *f = r->flags; *f != END; f++)
					if (r->type == row->type && r->kind == row->kind && *f == flags)
						allows = r;
			msg = good(allows ? allows : row, flags);
			if (passes(&msg) != !!allows)
				fail_msg("%s, kind %d, flags %x", fab_type_to_string(row->type), row->kind, flags);
		}
}

/* And whoever does may bring a socket. */
static void test_a_device_does_not_hold(void **state)
{
	(void)state;
	for (uint32_t flags = 0; flags < 8; flags++)
		for (unsigned n_fds = 0; n_fds <= 2; n_fds++) {
			struct fab_msg msg = good(&rows[0], flags | FAB_F_HOLD);

			msg.n_fds = n_fds;
			assert_int_equal(passes(&msg), !(flags & FAB_F_DEVICE) && n_fds <= 1);
		}
}

static void test_every_field_that_does_not_belong(void **state)
{
	static const char all[] = "crCR01t";

	(void)state;
	for (const struct row *row = rows; row < rows + N_ROWS; row++)
		for (const char *field = all; *field; field++) {
			struct fab_msg msg = good(row, row->flags[0]);
			bool is_right = strchr(row->fields, *field) && (*field != 't' || has_token(row, row->flags[0]));

			switch (*field) {
			case 'c': msg.handle.context = 1; break;
			case 'r': msg.handle.resource = 1; break;
			case 'C': msg.other.context = 1; break;
			case 'R': msg.other.resource = 1; break;
			case '0': msg.size0 = 1ull << 63; break;
			case '1': msg.size1 = 1ull << 63; break;
			default: msg.token[FAB_TOKEN_SIZE - 1] = 1;
			}
			if (passes(&msg) != is_right)
				fail_msg("%s, kind %d, field %c", fab_type_to_string(row->type), row->kind, *field);
		}
}

static void test_every_byte_of_a_token_counts(void **state)
{
	(void)state;
	for (unsigned i = 0; i < FAB_TOKEN_SIZE; i++) {
		struct fab_msg msg = { .type = FAB_DG_DESTROY, .kind = FAB_REQUEST };

		msg.token[i] = 0x80;
		assert_false(passes(&msg));
	}
}

/* What is not in the table: who holds a context may bring a socket for that. */
static bool may_have(const struct row *row, uint32_t flags, unsigned n_fds)
{
	return row->type == FAB_HELLO && row->kind == FAB_REQUEST && flags & FAB_F_HOLD && n_fds == 1;
}

static void test_amounts_of_data_and_descriptors(void **state)
{
	(void)state;
	for (const struct row *row = rows; row < rows + N_ROWS; row++)
		for (const uint32_t *flags = row->flags; *flags != END; flags++) {
			struct fab_msg msg = good(row, *flags);

			if (row->most < FAB_DATA_MAX) {
				msg.len = row->most + 1;
				assert_false(passes(&msg));
				msg.len = FAB_DATA_MAX;
				assert_false(passes(&msg));
			}
			if (row->least) {
				msg.len = row->least - 1;
				assert_false(passes(&msg));
				msg.len = 0;
				assert_false(passes(&msg));
			}
			msg = good(row, *flags);
			for (msg.n_fds = 0; msg.n_fds <= FAB_FDS_MAX + 1; msg.n_fds++)
				assert_int_equal(passes(&msg), msg.n_fds == row->fds || may_have(row, *flags, msg.n_fds));
			msg.n_fds = UINT32_MAX;
			assert_false(passes(&msg));
		}
}

static void test_statuses(void **state)
{
	static const int32_t more[] = { INT32_MIN, INT32_MIN + 1, -65536, -1000, INT32_MAX, 31, 32, 33, 35, 63, 64, 65,
					69, 69631, 69632, 69633, 0x10000, 0x100000 };

	(void)state;
	for (const struct row *row = rows; row < rows + N_ROWS; row++)
		for (unsigned i = 0; i < 60 + sizeof(more) / sizeof(more[0]); i++) {
			struct fab_msg msg = good(row, row->flags[0]);

			msg.status = i < 60 ? (int32_t)i - 50 : more[i - 60];
			if (msg.status < 0)
				msg.len = msg.n_fds = 0;
			if (passes(&msg) != is_status(row, msg.status))
				fail_msg("%s, kind %d: %d", fab_type_to_string(row->type), row->kind, msg.status);
		}
}

static void test_nothing_rides_behind_an_error(void **state)
{
	(void)state;
	for (const struct row *row = rows; row < rows + N_ROWS; row++) {
		struct fab_msg msg = good(row, row->flags[0]);

		if (row->kind != FAB_REPLY && row->kind != FAB_ANSWER)
			continue;
		msg.status = VMCI_ERROR_NO_ACCESS;
		msg.len = msg.n_fds = 0;
		assert_true(passes(&msg));
		msg.len = 1;
		assert_false(passes(&msg));
		msg.len = 0;
		for (msg.n_fds = 1; msg.n_fds <= FAB_FDS_MAX; msg.n_fds++)
			assert_false(passes(&msg));
	}
}

static void test_types_and_kinds_that_are_none(void **state)
{
	(void)state;
	for (unsigned type = 0; type < 70000; type += type < 64 ? 1 : 997)
		for (unsigned kind = 0; kind < 70000; kind += kind < 16 ? 1 : 9973) {
			struct fab_msg msg = {
				.type = (enum fab_type)(type & 0xffff),
				.kind = (enum fab_kind)(kind & 0xffff),
			};
			bool is_known = false;

			for (const struct row *row = rows; row < rows + N_ROWS; row++)
				if (row->type == msg.type && row->kind == msg.kind) {
					msg = good(row, row->flags[0]);
					is_known = true;
				}
			assert_int_equal(passes(&msg), is_known);
		}
}

static void test_lengths_of_packets(void **state)
{
	static uint8_t buf[FAB_MSG_MAX + 1];
	struct fab_msg msg = { .type = FAB_DG_SEND, .kind = FAB_REQUEST, .data = bytes, .len = FAB_DATA_MAX }, back;

	(void)state;
	fab_build(&msg, buf);
	assert_int_equal(fab_parse(buf, FAB_MSG_MAX, 0, &back), 0);
	assert_ptr_equal(back.data, buf + FAB_HEADER_SIZE);
	assert_int_equal(fab_parse(buf, FAB_MSG_MAX + 1, 0, &back), -EBADMSG);
	assert_int_equal(fab_parse(buf, SIZE_MAX, 0, &back), -EBADMSG);
	for (size_t len = 0; len < FAB_HEADER_SIZE; len++)
		assert_int_equal(fab_parse(buf, len, 0, &back), -EBADMSG);

	msg = (struct fab_msg){ .type = FAB_WATCH, .kind = FAB_REPLY };
	fab_build(&msg, buf);
	assert_int_equal(fab_parse(buf, FAB_HEADER_SIZE, 0, &back), 0);
	assert_null(back.data);
}

/* msg.h, the layout: a copy of it in bytes. */
static void test_the_layout(void **state)
{
	static const uint8_t expected[FAB_HEADER_SIZE] = {
		10, 0, 0, 0, 0x44, 0x33, 0x22, 0x11, 0, 0, 0, 0, 9, 0, 0, 0,
		0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x09, 0x0a, 0x0b, 0x0c, 0, 0, 0, 0,
		0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18, 0x21, 0x22, 0x23, 0x24, 0x25, 0x26, 0x27, 0x28,
		1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16,
	};
	struct fab_msg msg = {
		.type = FAB_QP_CREATE,
		.kind = FAB_REQUEST,
		.serial = 0x11223344,
		.flags = FAB_F_RESUME | FAB_F_TRUSTED,
		.handle = { 0x04030201, 0x08070605 },
		.other = { 0x0c0b0a09, 0 },
		.size0 = 0x1817161514131211,
		.size1 = 0x2827262524232221,
		.token = { 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16 },
		.n_fds = 2,
	};
	uint8_t buf[FAB_HEADER_SIZE];

	(void)state;
	fab_build(&msg, buf);
	assert_memory_equal(buf, expected, sizeof(buf));

	msg = (struct fab_msg){ .type = FAB_LIST, .kind = FAB_REPLY, .status = VMCI_ERROR_NO_RESOURCES };
	fab_build(&msg, buf);
	assert_int_equal(get_le32(buf), FAB_LIST | 1 << 16);
	assert_int_equal((int32_t)get_le32(buf + 8), -19);
}

static void test_names_of_types(void **state)
{
	(void)state;
	assert_string_equal(fab_type_to_string(FAB_HELLO), "HELLO");
	assert_string_equal(fab_type_to_string(FAB_LIST), "LIST");
	assert_string_equal(fab_type_to_string((enum fab_type)0), "?");
	assert_string_equal(fab_type_to_string(FAB_TYPE_NUM), "?");
	assert_string_equal(fab_type_to_string((enum fab_type)-1), "?");
	for (unsigned a = 1; a < FAB_TYPE_NUM; a++)
		for (unsigned b = 1; b < a; b++)
			assert_string_not_equal(fab_type_to_string((enum fab_type)a),
						fab_type_to_string((enum fab_type)b));
}

/* A message that breaks the protocol is our own bug when it is to be built. */
static void test_build_refuses_what_is_wrong(void **state)
{
	struct fab_msg msg = { .type = FAB_EVENTS, .kind = FAB_REQUEST };
	uint8_t buf[FAB_HEADER_SIZE];
	int status;
	pid_t pid = fork();

	(void)state;
	assert_true(pid >= 0);
	if (!pid) {
		close(STDERR_FILENO);
		fab_build(&msg, buf);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status) || WEXITSTATUS(status));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_right_ones_pass),
		cmocka_unit_test(test_every_flag),
		cmocka_unit_test(test_a_device_does_not_hold),
		cmocka_unit_test(test_every_field_that_does_not_belong),
		cmocka_unit_test(test_every_byte_of_a_token_counts),
		cmocka_unit_test(test_amounts_of_data_and_descriptors),
		cmocka_unit_test(test_statuses),
		cmocka_unit_test(test_nothing_rides_behind_an_error),
		cmocka_unit_test(test_types_and_kinds_that_are_none),
		cmocka_unit_test(test_lengths_of_packets),
		cmocka_unit_test(test_the_layout),
		cmocka_unit_test(test_names_of_types),
		cmocka_unit_test(test_build_refuses_what_is_wrong),
	};

	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)(i * 7);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
