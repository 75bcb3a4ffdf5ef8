/* SPDX-License-Identifier: BSD-2-Clause */
/* The membership: joining, datagrams and events both ways, a vmcid that does not answer, dies, and comes back. */
#include "bench.h"

#include <errno.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/fd.h"
#include "proto/discovery.h"

static const struct vmci_handle mine = { CID, 2000 };
static const struct vmci_handle theirs = { OTHER, 3000 };
static const struct vmci_handle inside = { CID, 5000 };

/* --- Joining -------------------------------------------------------------------------------------------------- */

static void test_hello(void **state)
{
	struct bench *b = bench_new();
	struct fab_msg hello;
	int fd[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fd), 0);
	vmcid_start(b, fd[1]);
	assert_int_equal(fabric_new(b->event, &(struct fabric_config){
		.cid = CID, .name = "a VM", .fd = fd[0] }, &b->f), 0);
	hello = heard(b, FAB_HELLO);
	assert_int_equal(hello.flags, FAB_F_DEVICE);
	assert_int_equal(hello.handle.context, CID);
	assert_int_equal(hello.size0, FAB_VERSION);
	assert_int_equal(hello.len, 4);
	assert_int_equal(hello.n_fds, 2);
	b->sink[0] = hello.fd[0];
	b->sink[1] = hello.fd[1];
	*state = b;
	assert_int_equal(bench_teardown(state), 0);
}

static void refused(struct script script)
{
	struct bench *b = bench_new();
	void *state = b;
	int fd[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fd), 0);
	script.type = script.reply.type = FAB_HELLO;
	will(b, script);
	vmcid_start(b, fd[1]);
	assert_true(fabric_new(b->event, &(struct fabric_config){
		.cid = CID, .name = "", .fd = fd[0], .rendezvous = b->path, }, &b->f) < 0);
	assert_null(b->f);
	assert_int_equal(bench_teardown(&state), 0);
}

static void test_refused_hello(void **state)
{
	(void)state;
	refused((struct script){ .reply = { .status = VMCI_ERROR_NO_ACCESS } });
	refused((struct script){ .reply = { .size0 = FAB_VERSION + 1, .handle.context = CID } });
	refused((struct script){ .reply = { .size0 = FAB_VERSION, .handle.context = CID + 1 } });
	refused((struct script){ .die = true });
	refused((struct script){ .mute = true });
}

static void test_no_vmcid_at_all(void **state)
{
	struct bench *b = bench_new();
	int fd[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fd), 0);
	close(fd[1]);
	assert_true(fabric_new(b->event, &(struct fabric_config){ .cid = CID, .name = "x", .fd = fd[0] }, &b->f) < 0);
	*state = b;
	assert_int_equal(bench_teardown(state), 0);
}

/* --- From the guest --------------------------------------------------------------------------------------------- */

static void test_datagrams_out(void **state)
{
	struct bench *b = *state;
	struct fab_msg request;

	assert_int_equal(send_to(b, handle_make(VMCI_CID_HOST, 2000), 100), 124);
	request = heard(b, FAB_DG_SEND);
	assert_int_equal(request.len, 124);
	assert_int_equal(dg_parse(b->data).dst.context, VMCI_CID_HOST);
	assert_int_equal(dg_parse(b->data).src.context, CID);
	assert_int_equal(send_to(b, theirs, VMCI_DG_MAX_PAYLOAD), VMCI_DG_MAX_SIZE);
	assert_int_equal(heard(b, FAB_DG_SEND).len, VMCI_DG_MAX_SIZE);
	assert_int_equal(send_to(b, handle_make(VMCI_CID_WELL_KNOWN, VMCI_RID_DISCOVERY), 20), 44);
	heard(b, FAB_DG_SEND);
}

static void test_results_are_the_guests(void **state)
{
	static const int32_t results[] = {
		VMCI_ERROR_NO_RESOURCES, VMCI_ERROR_DST_UNREACHABLE, VMCI_ERROR_INVALID_RESOURCE, VMCI_ERROR_NO_ACCESS,
	};
	struct bench *b = *state;

	for (size_t i = 0; i < sizeof(results) / sizeof(results[0]); i++) {
		will_say(b, FAB_DG_SEND, results[i]);
		assert_int_equal(send_to(b, theirs, 1), results[i]);
	}
}

/* Control packets of streams do not pass between guests (and what a device sends is not taken by another). */
static void test_no_streams_between_guests(void **state)
{
	struct bench *b = *state;

	assert_int_equal(send_to(b, handle_make(CID + 1, VMCI_RID_STREAM), 32), VMCI_ERROR_DST_UNREACHABLE);
	assert_int_equal(heard_count(b, FAB_DG_SEND), 0);
}

static void test_vmcid_that_does_not_answer(void **state)
{
	struct bench *b = *state;
	int64_t start = now_ms();
	struct fab_msg late = { .type = FAB_DG_SEND, .kind = FAB_REPLY, .status = 124 };

	will(b, (struct script){ .type = FAB_DG_SEND, .mute = true });
	assert_int_equal(send_to(b, theirs, 100), VMCI_ERROR_DATAGRAM_FAILED);
	assert_true(now_ms() - start >= LIMIT_FABRIC_CALL_MS - 1);

	/* From now on at once: a hundred of these would take ten seconds. */
	for (int i = 0; i < 200; i++)
		assert_int_equal(send_to(b, theirs, 100), VMCI_ERROR_NO_RESOURCES);
	assert_int_equal(heard_count(b, FAB_DG_SEND), 1);

	/* Until it says something, were it the late reply. */
	late.serial = heard(b, FAB_DG_SEND).serial;
	assert_int_equal(fab_send(b->vmcid, &late), 0);
	turn(b);
	assert_int_equal(send_to(b, theirs, 100), 124);
}

static void test_vmcid_that_dies_while_it_is_asked(void **state)
{
	struct bench *b = *state;

	will(b, (struct script){ .type = FAB_DG_SEND, .die = true });
	assert_int_equal(send_to(b, theirs, 100), VMCI_ERROR_DATAGRAM_FAILED);
	assert_true(send_to(b, theirs, 100) < 0);
	turn(b);
	/* There is no rendezvous: it will not come back. */
	assert_int_equal(send_to(b, theirs, 100), VMCI_ERROR_DST_UNREACHABLE);
	assert_int_equal(call_handle(b->rig, VMCI_HC_DOORBELL_NOTIFY, theirs), VMCI_ERROR_UNAVAILABLE);
}

static void test_vmcid_that_talks_nonsense(void **state)
{
	struct bench *b = *state;

	assert_int_equal(send(b->vmcid, "nonsense", 8, 0), 8);
	turn(b);
	assert_int_equal(send_to(b, theirs, 100), VMCI_ERROR_DST_UNREACHABLE);
}

/* Two devices may ask for each other's doorbell at the same moment. */
static void test_questions_are_answered_during_a_call(void **state)
{
	struct bench *b = *state;

	assert_int_equal(call_link(b->rig, mine, 5), VMCI_SUCCESS);
	will(b, (struct script){
		.type = FAB_BELL_OPEN,
		.ask = { .type = FAB_BELL_OPEN, .handle = mine },
		.reply = { .type = FAB_BELL_OPEN, .status = VMCI_ERROR_NO_ACCESS },
	});
	assert_int_equal(call_handle(b->rig, VMCI_HC_DOORBELL_NOTIFY, theirs), VMCI_ERROR_NO_ACCESS);
}

static void test_the_guest_attaches_here_while_somebody_attaches_there(void **state)
{
	struct bench *b = *state;
	struct pair p, q;

	guest_alloc(b, &p, 0x100, mine, VMCI_INVALID_ID, 0, 4096, 4096);
	will(b, (struct script){
		.type = FAB_QP_ATTACH,
		.ask = { .type = FAB_QP_ATTACH, .handle = mine, .other.context = OTHER, .size0 = 4096, .size1 = 4096 },
		.reply = { .type = FAB_QP_ATTACH, .status = VMCI_ERROR_QUEUEPAIR_MISMATCH },
	});
	assert_int_equal(guest_alloc(b, &q, 0x110, theirs, OTHER, 0, 4096, 4096), VMCI_ERROR_QUEUEPAIR_MISMATCH);
	turn(b);
}

/* --- To the guest ------------------------------------------------------------------------------------------------ */

static void test_datagrams_in(void **state)
{
	struct bench *b = *state;
	const uint8_t *dg;
	unsigned n;

	assert_true(mail(b, theirs, inside, 100, 3));
	assert_true(mail(b, handle_make(VMCI_CID_WELL_KNOWN, VMCI_RID_DISCOVERY), inside, 0, 3));
	assert_true(mail(b, theirs, inside, 60000, 4));
	turn(b);
	dg = next_dg(b, &n);
	assert_int_equal(n, 3);
	assert_int_equal(dg_parse(dg).src.context, OTHER);
	assert_int_equal(dg_parse(dg).payload_size, 100);
	assert_int_equal(dg_parse(dg + dg_padded(124)).src.context, VMCI_CID_WELL_KNOWN);
	assert_int_equal(dg_parse(dg + dg_padded(124) + 24).payload_size, 60000);
}

/* Nobody but the device itself tells its guest of events and streams. */
static void test_datagrams_that_are_not_welcome(void **state)
{
	struct bench *b = *state;
	uint8_t dg[64];

	assert_true(mail(b, handle_make(0, 0), handle_make(CID, 0), 24, 1));
	assert_true(mail(b, handle_make(0, 15), inside, 32, 1));
	assert_true(mail(b, theirs, handle_make(CID, VMCI_RID_EVENT), 24, 1));
	assert_true(mail(b, theirs, handle_make(CID, VMCI_RID_STREAM), 32, 1));
	assert_true(mail(b, handle_make(2, 1), handle_make(CID, VMCI_RID_STREAM), 32, 1));
	assert_true(mail(b, theirs, handle_make(CID, VMCI_INVALID_ID), 32, 1));
	assert_true(mail(b, theirs, handle_make(CID + 1, 5000), 32, 1));
	/* Sizes that lie, and nothing at all. */
	dg_build(dg, inside, theirs, 100);
	assert_int_equal(send(b->sink[0], dg, 64, 0), 64);
	dg_build(dg, inside, theirs, UINT64_MAX);
	assert_int_equal(send(b->sink[0], dg, 24, 0), 24);
	assert_int_equal(send(b->sink[0], dg, 23, 0), 23);
	assert_int_equal(send(b->sink[0], dg, 0, 0), 0);
	turn(b);
	assert_null(next_dg(b, NULL));
	assert_true(mail(b, theirs, inside, 1, 1));
	turn(b);
	assert_non_null(next_dg(b, NULL));
}

/* More than the guest's queue takes stays in the sink, in order, and nothing is lost. */
static void test_datagrams_wait_for_room(void **state)
{
	struct bench *b = *state;
	uint32_t sent = 0, got = 0;
	int64_t end = now_ms() + LONG_MS;

	while (got < 300) {
		const uint8_t *dg;
		unsigned n;

		assert_true(now_ms() < end);
		while (sent < 300 && mail(b, handle_make(OTHER, sent), inside, 3000 + sent, sent))
			sent++;
		turn(b);
		assert_true(b->rig->dev->inbox.bytes < VMCI_DG_QUEUE_MAX);
		for (dg = next_dg(b, &n); n; n--) {
			assert_int_equal(dg_parse(dg).src.resource, got);
			assert_int_equal(dg_parse(dg).payload_size, 3000 + got);
			dg += dg_padded(VMCI_DG_HEADER_SIZE + 3000 + got++);
		}
	}
	turn(b);
	assert_null(next_dg(b, NULL));
}

static void test_a_full_guest_costs_no_turns(void **state)
{
	struct bench *b = *state;

	while (mail(b, theirs, inside, 4000, 1))
		turn(b);
	turn(b);
	/* Nothing is busy, though something waits. */
	assert_false(fabric_run(b->f));
	assert_int_equal(sd_event_run(b->event, 0), 0);
	assert_non_null(next_dg(b, NULL));
	assert_false(fabric_run(b->f));
	assert_true(b->rig->dev->inbox.count > 0);
}

static void test_without_a_driver_nothing_is_kept(void **state)
{
	struct bench *b = *state;

	while (mail(b, theirs, inside, 4000, 1))
		turn(b);
	out32(b->rig, VMCI_REG_CONTROL, VMCI_CONTROL_RESET);
	assert_true(mail(b, theirs, inside, 10, 1));
	turn(b);
	rig_probe(b->rig);
	turn(b);
	assert_null(next_dg(b, NULL));

	/* Nor without a device. */
	fabric_set_dev(b->f, NULL);
	assert_true(mail(b, theirs, inside, 10, 1));
	turn(b);
	fabric_set_dev(b->f, b->rig->dev);
	turn(b);
	assert_null(next_dg(b, NULL));
	assert_true(mail(b, theirs, inside, 10, 1));
	turn(b);
	assert_non_null(next_dg(b, NULL));
}

static void send_event(struct bench *b, uint32_t id, uint32_t context)
{
	const struct event event = { .id = id, .context = context, .handle = mine };
	uint8_t buf[EVENT_MAX_SIZE];
	size_t size = event_build(buf, CID, &event);

	assert_int_equal(send(b->sink[1], buf, size, MSG_DONTWAIT), size);
}

static void test_events(void **state)
{
	struct bench *b = *state;
	struct event event;

	send_event(b, VMCI_EVENT_QP_PEER_ATTACH, OTHER);
	send_event(b, VMCI_EVENT_QP_PEER_DETACH, OTHER);
	send_event(b, VMCI_EVENT_QP_RESUMED, 0);
	send_event(b, VMCI_EVENT_CTX_ID_UPDATE, OTHER);
	send_event(b, VMCI_EVENT_CTX_REMOVED, OTHER);
	turn(b);
	event = next_event(b->rig);
	assert_int_equal(event.id, VMCI_EVENT_CTX_REMOVED);
	assert_int_equal(event.context, OTHER);
	assert_int_equal(send(b->sink[1], "not an event", 12, 0), 12);
	turn(b);
	assert_null(next_dg(b, NULL));
}

static void test_events_pass_when_datagrams_wait(void **state)
{
	struct bench *b = *state;
	unsigned before;

	while (mail(b, theirs, inside, 4000, 1))
		turn(b);
	before = b->rig->dev->inbox.count;
	send_event(b, VMCI_EVENT_CTX_REMOVED, OTHER);
	turn(b);
	assert_int_equal(b->rig->dev->inbox.count, before + 1);
}

static void test_contexts_are_watched_once_until_they_go(void **state)
{
	struct bench *b = *state;

	for (int i = 0; i < 3; i++)
		send_to(b, theirs, 1);
	send_to(b, handle_make(VMCI_CID_HOST, 9), 1);
	will_say(b, FAB_DG_SEND, VMCI_ERROR_DST_UNREACHABLE);
	send_to(b, handle_make(OTHER + 1, 9), 1);
	assert_int_equal(heard_count(b, FAB_WATCH), 0);
	turn(b);
	assert_int_equal(heard_count(b, FAB_WATCH), 1);
	assert_int_equal(heard(b, FAB_WATCH).handle.context, OTHER);
	send_event(b, VMCI_EVENT_CTX_REMOVED, OTHER);
	turn(b);
	send_to(b, theirs, 1);
	turn(b);
	assert_int_equal(heard_count(b, FAB_WATCH), 1);
}

static void test_watches_are_bounded(void **state)
{
	struct bench *b = *state;

	/* The notebook of the test holds less than the watches. */
	for (uint32_t i = 0; i < 100; i++) {
		assert_true(send_to(b, handle_make(OTHER + i, 9), 1) > 0);
		heard(b, FAB_DG_SEND);
	}
	turn(b);
	assert_int_equal(heard_count(b, FAB_WATCH), 100);
}

static void test_questions_without_a_vm(void **state)
{
	struct bench *b = *state;

	call_link(b->rig, mine, 5);
	fabric_set_dev(b->f, NULL);
	assert_int_equal(asks(b, (struct fab_msg){ .type = FAB_BELL_OPEN, .handle = mine }).status,
			 VMCI_ERROR_NOT_FOUND);
	assert_int_equal(asks(b, (struct fab_msg){
		.type = FAB_QP_ATTACH, .handle = mine, .other.context = OTHER, .size0 = 1, .size1 = 1 }).status,
		VMCI_ERROR_NOT_FOUND);
	fabric_set_dev(b->f, b->rig->dev);
}

/* --- The next vmcid ----------------------------------------------------------------------------------------------- */

static int connect_to(const char *path)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	strcpy(sun.sun_path, path);
	assert_int_equal(connect(fd, (struct sockaddr *)&sun, sizeof(sun)), 0);
	return fd;
}

/* A new vmcid. Its HELLO. */
static struct fab_msg come_back(struct bench *b)
{
	struct fab_msg hello;

	vmcid_start(b, connect_to(b->path));
	turn(b);
	hello = heard(b, FAB_HELLO);
	fd_close(&b->sink[0]);
	fd_close(&b->sink[1]);
	b->sink[0] = hello.fd[0];
	b->sink[1] = hello.fd[1];
	return hello;
}

static void test_a_new_vmcid_is_told_everything(void **state)
{
	struct bench *b = *state;
	struct pair p, q;
	struct fab_msg hello, hold;
	struct ring *ring;

	guest_alloc(b, &p, 0x100, mine, VMCI_INVALID_ID, 0, 8192, 4096);
	guest_alloc(b, &q, 0x110, handle_make(CID, 2001), VMCI_INVALID_ID, 0, 4096, 4096);
	ring = attach_peer(b, &p);
	heard(b, FAB_WATCH);
	assert_true(mail(b, theirs, inside, 5, 1));	/* waits in the sink, which is ours */
	vmcid_stop(b);
	assert_true(ring_write(ring, "meanwhile", 9) == 9);
	turn(b);
	assert_int_equal(guest_read(&p, (char[16]){ 0 }, 16), 9);
	assert_int_equal(send_to(b, theirs, 1), VMCI_ERROR_NO_RESOURCES);
	assert_non_null(next_dg(b, NULL));

	hello = come_back(b);
	assert_int_equal(hello.flags, FAB_F_DEVICE | FAB_F_RESUME);
	assert_memory_equal(hello.token, "0123456789abcdef", FAB_TOKEN_SIZE);
	turn(b);
	hold = heard(b, FAB_QP_HOLD);
	assert_true(handle_is_equal(hold.handle, mine));
	assert_int_equal(hold.other.context, OTHER);
	assert_int_equal(hold.size0, 8192);
	assert_int_equal(hold.size1, 4096);
	assert_int_equal(heard_count(b, FAB_QP_HOLD), 0);	/* of the other one nobody has to know */
	hold = heard(b, FAB_WATCH);
	assert_int_equal(hold.handle.context, OTHER);
	assert_int_equal(hold.flags, FAB_F_RESUME);

	assert_int_equal(send_to(b, theirs, 1), 25);
	assert_true(mail(b, theirs, inside, 7, 1));
	turn(b);
	assert_int_equal(dg_parse(next_dg(b, NULL)).payload_size, 7);
	ring_free(ring);
	until(b, heard_count(b, FAB_QP_DETACH) == 1);

	/* And once more. What was left meanwhile is no news to it. */
	vmcid_stop(b);
	turn(b);
	assert_int_equal(guest_detach(&q), VMCI_SUCCESS);
	come_back(b);
	turn(b);
	assert_int_equal(heard_count(b, FAB_QP_HOLD), 0);
	assert_int_equal(send_to(b, theirs, 1), 25);
}

/* --- Names of the guest -------------------------------------------------------------------------------------- */

/* The guest's resource @from asks the discovery service. */
static void ask_names(struct bench *b, uint32_t from, int32_t action, int32_t id, const char *name)
{
	static uint8_t dg[VMCI_DG_HEADER_SIZE + DISCOVERY_PAYLOAD_MAX];
	const struct discovery_request request = {
		.action = action, .id = id, .handle = { CID, 4000 }, .name = name, .name_size = strlen(name),
	};
	size_t size = discovery_request_build(dg + VMCI_DG_HEADER_SIZE, &request);

	dg_build(dg, handle_make(VMCI_CID_WELL_KNOWN, VMCI_RID_DISCOVERY), handle_make(CID, from), size);
	assert_true(send_dg(b->rig, dg, VMCI_DG_HEADER_SIZE + size) > 0);
}

/* And gets this answer, from @src. */
static void answer_names(struct bench *b, struct vmci_handle src, uint32_t to, int32_t id, int32_t code)
{
	uint8_t dg[VMCI_DG_HEADER_SIZE + DISCOVERY_REPLY_MAX];
	const struct discovery_reply reply = { .id = id, .code = code, .handle = { ~0u, ~0u }, .text = "" };
	size_t size = discovery_reply_build(dg + VMCI_DG_HEADER_SIZE, &reply);

	dg_build(dg, handle_make(CID, to), src, size);
	assert_true(send(b->sink[0], dg, VMCI_DG_HEADER_SIZE + size, 0) > 0);
	turn(b);
	next_dg(b, NULL);
}

static const struct vmci_handle discovery = { VMCI_CID_WELL_KNOWN, VMCI_RID_DISCOVERY };

static void test_a_new_vmcid_is_told_the_names(void **state)
{
	struct bench *b = *state;
	struct discovery_request request;
	struct fab_msg told;

	ask_names(b, 5000, DISCOVERY_REGISTER, 1, "kept");
	answer_names(b, discovery, 5000, 1, VMCI_SUCCESS);
	ask_names(b, 5000, DISCOVERY_REGISTER, 2, "taken by others");
	answer_names(b, discovery, 5000, 2, VMCI_ERROR_ALREADY_EXISTS);
	ask_names(b, 5000, DISCOVERY_REGISTER, 3, "given up");
	answer_names(b, discovery, 5000, 3, VMCI_SUCCESS);
	ask_names(b, 5001, DISCOVERY_UNREGISTER, 3, "given up");
	answer_names(b, discovery, 5001, 3, VMCI_SUCCESS);
	ask_names(b, 5000, DISCOVERY_UNREGISTER, 4, "kept");
	answer_names(b, discovery, 5000, 4, VMCI_ERROR_NO_ACCESS);
	/* Answers to nobody, of nobody, and to something else. */
	ask_names(b, 5000, DISCOVERY_REGISTER, 5, "never answered");
	answer_names(b, discovery, 5001, 5, VMCI_SUCCESS);
	answer_names(b, discovery, 5000, 6, VMCI_SUCCESS);
	answer_names(b, theirs, 5000, 5, VMCI_SUCCESS);
	ask_names(b, 5000, DISCOVERY_LOOKUP, 7, "looked up");
	answer_names(b, discovery, 5000, 7, VMCI_SUCCESS);
	assert_int_equal(heard_count(b, FAB_NAME), 0);

	vmcid_stop(b);
	come_back(b);
	turn(b);
	assert_int_equal(heard_count(b, FAB_NAME), 1);
	told = heard(b, FAB_NAME);
	assert_int_equal(told.flags, FAB_F_RESUME);
	assert_int_equal(discovery_request_parse(b->data, told.len, &request), 0);
	assert_int_equal(request.action, DISCOVERY_REGISTER);
	assert_true(handle_is_equal(request.handle, handle_make(CID, 4000)));
	assert_int_equal(request.name_size, 4);
	assert_memory_equal(request.name, "kept", 4);

	/* One that does not take it any more is not asked again, nor is the next. */
	vmcid_stop(b);
	will_say(b, FAB_NAME, VMCI_ERROR_NO_ACCESS);
	come_back(b);
	turn(b);
	heard(b, FAB_NAME);
	vmcid_stop(b);
	come_back(b);
	turn(b);
	assert_int_equal(heard_count(b, FAB_NAME), 0);
}

static void test_names_and_their_requests_are_bounded(void **state)
{
	struct bench *b = *state;
	char name[8];

	/* The first of them are forgotten, so their answers mean nothing. */
	for (unsigned i = 0; i < LIMIT_NAMES_ASKED + 10; i++) {
		snprintf(name, sizeof(name), "%u", i);
		ask_names(b, 5000, DISCOVERY_REGISTER, (int32_t)i, name);
		heard(b, FAB_DG_SEND);
	}
	for (int32_t i = 0; i < (int32_t)LIMIT_NAMES_ASKED + 10; i++)
		answer_names(b, discovery, 5000, i, VMCI_SUCCESS);
	/* More than vmcid allows: a vmcid that says yes nonetheless does no harm. */
	for (unsigned i = 100; i < 120; i++) {
		snprintf(name, sizeof(name), "%u", i);
		ask_names(b, 5000, DISCOVERY_REGISTER, (int32_t)i, name);
		answer_names(b, discovery, 5000, (int32_t)i, VMCI_SUCCESS);
	}
	vmcid_stop(b);
	come_back(b);
	turn(b);
	assert_int_equal(heard_count(b, FAB_NAME), LIMIT_BRK_NAMES);
}

static void test_odd_requests_for_names(void **state)
{
	struct bench *b = *state;
	uint8_t dg[600];

	for (size_t size = 0; size < 500; size += 7) {
		memset(dg, 0xff, sizeof(dg));
		dg_build(dg, discovery, handle_make(CID, 5000), size);
		put_le32(dg + VMCI_DG_HEADER_SIZE, DISCOVERY_REGISTER);
		assert_true(send_dg(b->rig, dg, VMCI_DG_HEADER_SIZE + size) > 0);
		heard(b, FAB_DG_SEND);
		dg_build(dg, handle_make(CID, 5000), discovery, size);
		assert_true(send(b->sink[0], dg, VMCI_DG_HEADER_SIZE + size, 0) > 0);
		turn(b);
		next_dg(b, NULL);
	}
}

static void test_a_new_vmcid_before_the_end_of_the_old_was_seen(void **state)
{
	struct bench *b = *state;

	vmcid_stop(b);
	come_back(b);
	assert_int_equal(send_to(b, theirs, 1), 25);
}

static void test_a_second_vmcid_is_turned_away(void **state)
{
	struct bench *b = *state;
	int fd = connect_to(b->path);
	struct pollfd p = { .fd = fd, .events = POLLIN };
	char byte;

	turn(b);
	assert_int_equal(poll(&p, 1, LONG_MS), 1);
	assert_int_equal(recv(fd, &byte, 1, 0), 0);
	close(fd);
	assert_int_equal(send_to(b, theirs, 1), 25);
}

static void test_a_new_vmcid_that_refuses(void **state)
{
	struct bench *b = *state;

	vmcid_stop(b);
	will_say(b, FAB_HELLO, VMCI_ERROR_NO_ACCESS);
	come_back(b);
	assert_int_equal(send_to(b, theirs, 1), VMCI_ERROR_NO_RESOURCES);
	vmcid_stop(b);
	will(b, (struct script){ .type = FAB_HELLO, .die = true });
	come_back(b);
	assert_int_equal(send_to(b, theirs, 1), VMCI_ERROR_NO_RESOURCES);
	vmcid_stop(b);
	come_back(b);
	assert_int_equal(send_to(b, theirs, 1), 25);
}

static void test_a_new_vmcid_that_dies_while_it_is_told(void **state)
{
	struct bench *b = *state;
	struct pair p;
	struct ring *ring;

	guest_alloc(b, &p, 0x100, mine, VMCI_INVALID_ID, 0, 8192, 4096);
	ring = attach_peer(b, &p);
	vmcid_stop(b);
	will(b, (struct script){ .type = FAB_QP_HOLD, .die = true });
	come_back(b);
	turn(b);
	heard(b, FAB_QP_HOLD);
	vmcid_stop(b);
	come_back(b);
	turn(b);
	heard(b, FAB_QP_HOLD);
	/* One that does not know it any more: the pair goes on. */
	vmcid_stop(b);
	will_say(b, FAB_QP_HOLD, VMCI_ERROR_UNAVAILABLE);
	come_back(b);
	turn(b);
	assert_int_equal(guest_write(&p, "x", 1), 1);
	until(b, ring_ready(ring, 1) == 1);
	ring_free(ring);
}

static void test_the_rendezvous_is_private(void **state)
{
	struct bench *b = *state;
	struct stat st;

	assert_int_equal(stat(b->path, &st), 0);
	assert_true(S_ISSOCK(st.st_mode));
	assert_int_equal(st.st_mode & 0777, 0600);
}

/* Somebody else's process: needs root here, to become somebody else. */
static void test_strangers_are_turned_away(void **state)
{
	struct bench *b = *state;
	struct pollfd p;
	char byte;
	int fd[2];
	pid_t pid;

	if (geteuid() != 0) {
		print_message("skipped: only root can become another user\n");
		skip();
	}
	vmcid_stop(b);
	turn(b);
	assert_int_equal(chmod(b->dir, 0755), 0);
	assert_int_equal(chmod(b->path, 0666), 0);
	assert_int_equal(pipe(fd), 0);
	pid = fork();
	if (pid == 0) {
		struct sockaddr_un sun = { .sun_family = AF_UNIX };
		int s = socket(AF_UNIX, SOCK_SEQPACKET, 0), r;

		strcpy(sun.sun_path, b->path);
		r = setresuid(65534, 65534, 65534) || connect(s, (struct sockaddr *)&sun, sizeof(sun));
		/* The end, and no HELLO. */
		p = (struct pollfd){ .fd = s, .events = POLLIN };
		r = r || write(fd[1], "c", 1) != 1 || poll(&p, 1, LONG_MS) != 1 || recv(s, &byte, 1, 0) != 0;
		byte = r ? 'n' : 'y';
		_exit(write(fd[1], &byte, 1) != 1);
	}
	close(fd[1]);
	assert_int_equal(read(fd[0], &byte, 1), 1);
	assert_int_equal(byte, 'c');
	p = (struct pollfd){ .fd = fd[0], .events = POLLIN };
	until(b, poll(&p, 1, 0) == 1);
	assert_int_equal(read(fd[0], &byte, 1), 1);
	assert_int_equal(byte, 'y');
	close(fd[0]);
}

/* vmcid need not be there at first. */
static void test_waiting_for_the_first_vmcid(void **state)
{
	struct bench *b = bench_new();
	struct fab_msg hello;

	assert_int_equal(fabric_new(b->event, &(struct fabric_config){
		.cid = CID, .name = "x", .fd = -1, .rendezvous = b->path, }, &b->f), 0);
	hello = come_back(b);
	assert_int_equal(hello.flags, FAB_F_DEVICE);
	*state = b;
	assert_int_equal(bench_teardown(state), 0);
}

#define T(f) cmocka_unit_test_setup_teardown(f, bench_setup, bench_teardown)
#define R(f) cmocka_unit_test_setup_teardown(f, bench_setup_rendezvous, bench_teardown)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_hello),
		cmocka_unit_test(test_refused_hello),
		cmocka_unit_test(test_no_vmcid_at_all),
		T(test_datagrams_out),
		T(test_results_are_the_guests),
		T(test_no_streams_between_guests),
		T(test_vmcid_that_does_not_answer),
		T(test_vmcid_that_dies_while_it_is_asked),
		T(test_vmcid_that_talks_nonsense),
		T(test_questions_are_answered_during_a_call),
		T(test_the_guest_attaches_here_while_somebody_attaches_there),
		T(test_datagrams_in),
		T(test_datagrams_that_are_not_welcome),
		T(test_datagrams_wait_for_room),
		T(test_a_full_guest_costs_no_turns),
		T(test_without_a_driver_nothing_is_kept),
		T(test_events),
		T(test_events_pass_when_datagrams_wait),
		T(test_contexts_are_watched_once_until_they_go),
		T(test_watches_are_bounded),
		T(test_questions_without_a_vm),
		R(test_a_new_vmcid_is_told_everything),
		R(test_a_new_vmcid_is_told_the_names),
		R(test_names_and_their_requests_are_bounded),
		T(test_odd_requests_for_names),
		R(test_a_new_vmcid_before_the_end_of_the_old_was_seen),
		R(test_a_second_vmcid_is_turned_away),
		R(test_a_new_vmcid_that_refuses),
		R(test_a_new_vmcid_that_dies_while_it_is_told),
		R(test_the_rendezvous_is_private),
		R(test_strangers_are_turned_away),
		cmocka_unit_test(test_waiting_for_the_first_vmcid),
	};

	return cmocka_run_group_tests_name("vmci-device fabric", tests, NULL, NULL);
}
