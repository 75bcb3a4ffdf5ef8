/* SPDX-License-Identifier: BSD-2-Clause */
/* Doorbells both ways, and eventfds whose other holders mean no good. */
#include "bench.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "vmci-device/bell.h"
#include "vmci-device/kick.h"

static const struct vmci_handle theirs = { OTHER, 3000 };
static const struct vmci_handle mine = { CID, 2000 };

/* --- kick() --------------------------------------------------------------------------------------------- */

static uint64_t count(int fd)
{
	uint64_t n;

	assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
	return read(fd, &n, sizeof(n)) == sizeof(n) ? n : 0;
}

static void fill(int fd)
{
	const uint64_t most = UINT64_MAX - 1;

	assert_int_equal(write(fd, &most, sizeof(most)), sizeof(most));
}

static void test_kick(void **state)
{
	int fd = eventfd(0, EFD_NONBLOCK);

	(void)state;
	assert_int_equal(kick(fd), 0);
	assert_int_equal(kick(fd), 0);
	assert_int_equal(count(fd), 2);
	fill(fd);
	assert_int_equal(kick(fd), 0);		/* full: it was rung, and nobody has looked */
	close(fd);
	assert_int_equal(kick(fd), -EBADF);
}

static void test_kick_does_not_wait(void **state)
{
	int fd = eventfd(0, 0);

	(void)state;
	fill(fd);
	for (int i = 0; i < 3; i++)
		assert_int_equal(kick(fd), -EINTR);
	assert_int_equal(count(fd), UINT64_MAX - 1);
	assert_int_equal(fcntl(fd, F_SETFL, 0), 0);
	assert_int_equal(kick(fd), 0);
	assert_int_equal(count(fd), 1);
	close(fd);
}

static void test_clearing_does_not_wait(void **state)
{
	int fd = eventfd(5, 0);

	(void)state;
	kick_clear(fd);
	kick_clear(fd);		/* empty, and blocking */
	assert_int_equal(count(fd), 0);
	close(fd);
}

/* --- Doorbells of others: bells alone ----------------------------------------------------------------------- */

struct world {
	struct bells *bells;
	sd_event *event;
	uint64_t now;
	unsigned opens;
	int32_t result;
	int fd;			/* of the last one opened, our copy */
	unsigned rung;
	bool unlink;
};

static int32_t world_open(void *ctx, struct vmci_handle handle, int *ret_fd)
{
	struct world *w = ctx;

	(void)handle;
	w->opens++;
	if (w->result)
		return w->result;
	if (w->fd >= 0)
		close(w->fd);
	w->fd = eventfd(0, EFD_NONBLOCK);
	*ret_fd = dup(w->fd);
	return 0;
}

static void world_rung(void *ctx, struct vmci_handle handle)
{
	struct world *w = ctx;

	w->rung++;
	if (w->unlink)
		bells_unlink(w->bells, handle);
}

static uint64_t world_now(void *ctx)
{
	return ((struct world *)ctx)->now;
}

static int world_setup(void **state)
{
	struct world *w = calloc(1, sizeof(*w));
	const struct bells_ports ports = { .ctx = w, .open = world_open, .rung = world_rung, .now = world_now };

	w->fd = -1;
	w->now = 5000000000u;
	assert_int_equal(sd_event_new(&w->event), 0);
	assert_int_equal(bells_new(w->event, &ports, &w->bells), 0);
	*state = w;
	return 0;
}

static int world_teardown(void **state)
{
	struct world *w = *state;

	w->bells = bells_free(w->bells);
	sd_event_unref(w->event);
	if (w->fd >= 0)
		close(w->fd);
	free(w);
	return 0;
}

static void test_opened_once_and_rung_often(void **state)
{
	struct world *w = *state;

	for (int i = 0; i < 10; i++)
		assert_int_equal(bells_ring(w->bells, theirs), VMCI_SUCCESS);
	assert_int_equal(w->opens, 1);
	assert_int_equal(count(w->fd), 10);
}

static void test_opened_anew_after_a_second(void **state)
{
	struct world *w = *state;

	assert_int_equal(bells_ring(w->bells, theirs), VMCI_SUCCESS);
	w->now += LIMIT_BELL_AGE_NS;
	assert_int_equal(bells_ring(w->bells, theirs), VMCI_SUCCESS);
	assert_int_equal(w->opens, 2);
	assert_int_equal(count(w->fd), 1);	/* the new one */

	/* Nobody can be asked: the old one goes on. */
	w->now += LIMIT_BELL_AGE_NS;
	w->result = 1;
	assert_int_equal(bells_ring(w->bells, theirs), VMCI_SUCCESS);
	assert_int_equal(count(w->fd), 1);

	/* It is no more. */
	w->result = VMCI_ERROR_NOT_FOUND;
	assert_int_equal(bells_ring(w->bells, theirs), VMCI_ERROR_NOT_FOUND);
	w->result = 1;
	assert_int_equal(bells_ring(w->bells, theirs), VMCI_ERROR_UNAVAILABLE);
}

static void test_contexts_that_go_take_their_bells(void **state)
{
	struct world *w = *state;

	assert_int_equal(bells_ring(w->bells, theirs), VMCI_SUCCESS);
	assert_int_equal(bells_ring(w->bells, handle_make(OTHER + 1, 1)), VMCI_SUCCESS);
	bells_forget(w->bells, OTHER);
	bells_forget(w->bells, OTHER + 5);
	w->result = VMCI_ERROR_DST_UNREACHABLE;
	assert_int_equal(bells_ring(w->bells, theirs), VMCI_ERROR_DST_UNREACHABLE);
	assert_int_equal(bells_ring(w->bells, handle_make(OTHER + 1, 1)), VMCI_SUCCESS);
}

static void test_the_one_rung_longest_ago_makes_room(void **state)
{
	struct world *w = *state;

	for (uint32_t i = 0; i < LIMIT_BELLS_OUT; i++)
		assert_int_equal(bells_ring(w->bells, handle_make(OTHER, 1024 + i)), VMCI_SUCCESS);
	assert_int_equal(bells_ring(w->bells, handle_make(OTHER, 1024)), VMCI_SUCCESS);
	assert_int_equal(bells_ring(w->bells, theirs), VMCI_SUCCESS);
	assert_int_equal(w->opens, LIMIT_BELLS_OUT + 1);
	assert_int_equal(bells_ring(w->bells, handle_make(OTHER, 1024)), VMCI_SUCCESS);
	assert_int_equal(w->opens, LIMIT_BELLS_OUT + 1);
	assert_int_equal(bells_ring(w->bells, handle_make(OTHER, 1025)), VMCI_SUCCESS);
	assert_int_equal(w->opens, LIMIT_BELLS_OUT + 2);
}

static void test_jammed_bells_are_dropped(void **state)
{
	struct world *w = *state;

	assert_int_equal(bells_ring(w->bells, theirs), VMCI_SUCCESS);
	assert_int_equal(fcntl(w->fd, F_SETFL, 0), 0);
	count(w->fd);
	assert_int_equal(fcntl(w->fd, F_SETFL, 0), 0);
	fill(w->fd);
	assert_int_equal(bells_ring(w->bells, theirs), VMCI_ERROR_UNAVAILABLE);
	assert_int_equal(bells_ring(w->bells, theirs), VMCI_SUCCESS);
	assert_int_equal(w->opens, 2);
}

/* --- Doorbells of the guest: bells alone ---------------------------------------------------------------------- */

static void run(struct world *w)
{
	while (sd_event_run(w->event, 0) > 0)
		;
}

static void test_given_bells_are_heard_each_time(void **state)
{
	struct world *w = *state;
	int fd, again;

	assert_int_equal(bells_give(w->bells, mine, &fd), VMCI_SUCCESS);
	assert_int_equal(bells_give(w->bells, mine, &again), VMCI_SUCCESS);
	assert_int_equal(fd, again);
	for (unsigned i = 1; i <= 5; i++) {
		assert_int_equal(kick(fd), 0);
		run(w);
		assert_int_equal(w->rung, i);
	}
	run(w);
	assert_int_equal(w->rung, 5);

	/* Whoever fills it has rung it, and it works on. */
	fill(fd);
	run(w);
	assert_int_equal(w->rung, 6);
	assert_int_equal(kick(fd), 0);
	run(w);
	assert_int_equal(w->rung, 7);

	/* Nor does it matter that somebody makes it blocking and empty. */
	assert_int_equal(fcntl(fd, F_SETFL, 0), 0);
	assert_int_equal(kick(fd), 0);
	run(w);
	assert_int_equal(w->rung, 8);
}

static void test_unlinked_bells_are_silent(void **state)
{
	struct world *w = *state;
	int fd, copy;

	assert_int_equal(bells_give(w->bells, mine, &fd), VMCI_SUCCESS);
	copy = dup(fd);
	bells_unlink(w->bells, mine);
	bells_unlink(w->bells, mine);
	assert_int_equal(kick(copy), 0);
	run(w);
	assert_int_equal(w->rung, 0);
	close(copy);

	/* Also from the call that says that it was rung. */
	assert_int_equal(bells_give(w->bells, mine, &fd), VMCI_SUCCESS);
	assert_int_equal(kick(fd), 0);
	w->unlink = true;
	run(w);
	assert_int_equal(w->rung, 1);
}

static void test_given_bells_are_bounded(void **state)
{
	struct world *w = *state;
	int fd;

	for (uint32_t i = 0; i < LIMIT_BELLS_IN; i++) {
		int32_t r = bells_give(w->bells, handle_make(CID, 1024 + i), &fd);

		if (r == VMCI_ERROR_NO_RESOURCES && i > 100)
			return;		/* out of descriptors before that: as good */
		assert_int_equal(r, VMCI_SUCCESS);
	}
	assert_int_equal(bells_give(w->bells, handle_make(CID, 9999), &fd), VMCI_ERROR_NO_RESOURCES);
	bells_unlink(w->bells, handle_make(CID, 1024));
	assert_int_equal(bells_give(w->bells, handle_make(CID, 9999), &fd), VMCI_SUCCESS);
}

/* --- With guest and vmcid ------------------------------------------------------------------------------------- */

static void test_guest_rings_others(void **state)
{
	struct bench *b = *state;
	int fd = eventfd(0, EFD_NONBLOCK);
	struct fab_msg request;

	assert_int_equal(call_handle(b->rig, VMCI_HC_DOORBELL_NOTIFY, theirs), VMCI_ERROR_NOT_FOUND);
	heard(b, FAB_BELL_OPEN);
	will_reply(b, (struct fab_msg){ .type = FAB_BELL_OPEN, .n_fds = 1, .fd = { dup(fd) } });
	assert_int_equal(call_handle(b->rig, VMCI_HC_DOORBELL_NOTIFY, theirs), VMCI_SUCCESS);
	assert_int_equal(call_handle(b->rig, VMCI_HC_DOORBELL_NOTIFY, theirs), VMCI_SUCCESS);
	request = heard(b, FAB_BELL_OPEN);
	assert_true(handle_is_equal(request.handle, theirs));
	assert_int_equal(heard_count(b, FAB_BELL_OPEN), 0);
	assert_int_equal(count(fd), 2);
	close(fd);

	/* From now on its end is of interest. */
	turn(b);
	assert_int_equal(heard(b, FAB_WATCH).handle.context, OTHER);
}

static void test_guest_rings_while_vmcid_is_away(void **state)
{
	struct bench *b = *state;
	int fd = eventfd(0, EFD_NONBLOCK);

	will_reply(b, (struct fab_msg){ .type = FAB_BELL_OPEN, .n_fds = 1, .fd = { dup(fd) } });
	assert_int_equal(call_handle(b->rig, VMCI_HC_DOORBELL_NOTIFY, theirs), VMCI_SUCCESS);
	vmcid_stop(b);
	turn(b);
	assert_int_equal(call_handle(b->rig, VMCI_HC_DOORBELL_NOTIFY, theirs), VMCI_SUCCESS);
	assert_int_equal(count(fd), 2);
	assert_int_equal(call_handle(b->rig, VMCI_HC_DOORBELL_NOTIFY, handle_make(OTHER, 1)), VMCI_ERROR_UNAVAILABLE);
	close(fd);
}

static void test_others_ring_the_guest(void **state)
{
	struct bench *b = *state;
	struct fab_msg answer = asks(b, (struct fab_msg){ .type = FAB_BELL_OPEN, .handle = mine });
	unsigned irqs;

	assert_int_equal(answer.status, VMCI_ERROR_NOT_FOUND);
	assert_int_equal(call_link(b->rig, mine, 33), VMCI_SUCCESS);
	assert_int_equal(asks(b, (struct fab_msg){ .type = FAB_BELL_OPEN, .handle = handle_make(CID, 2001) }).status,
			 VMCI_ERROR_NOT_FOUND);
	assert_int_equal(asks(b, (struct fab_msg){ .type = FAB_BELL_OPEN, .handle = handle_make(2, 2000) }).status,
			 VMCI_ERROR_NOT_FOUND);
	answer = asks(b, (struct fab_msg){ .type = FAB_BELL_OPEN, .handle = mine });
	assert_int_equal(answer.status, VMCI_SUCCESS);
	assert_int_equal(answer.n_fds, 1);

	irqs = b->rig->irqs[1];
	assert_int_equal(kick(answer.fd[0]), 0);
	turn(b);
	assert_int_equal(b->rig->irqs[1], irqs + 1);
	assert_int_equal(b->rig->ram[BITMAP_PPN * PAGE + 33], 1);

	assert_int_equal(call_handle(b->rig, VMCI_HC_DOORBELL_UNLINK, mine), VMCI_SUCCESS);
	assert_int_equal(kick(answer.fd[0]), 0);
	turn(b);
	assert_int_equal(b->rig->irqs[1], irqs + 1);
	fab_drop(&answer);
}

static void test_reset_silences_all(void **state)
{
	struct bench *b = *state;
	struct fab_msg answer;
	unsigned irqs;

	assert_int_equal(call_link(b->rig, mine, 33), VMCI_SUCCESS);
	answer = asks(b, (struct fab_msg){ .type = FAB_BELL_OPEN, .handle = mine });
	out32(b->rig, VMCI_REG_CONTROL, VMCI_CONTROL_RESET);
	rig_probe(b->rig);
	assert_int_equal(call_link(b->rig, mine, 34), VMCI_SUCCESS);
	irqs = b->rig->irqs[1];
	assert_int_equal(kick(answer.fd[0]), 0);	/* of the driver before */
	turn(b);
	assert_int_equal(b->rig->irqs[1], irqs);
	fab_drop(&answer);
}

#define W(f) cmocka_unit_test_setup_teardown(f, world_setup, world_teardown)
#define B(f) cmocka_unit_test_setup_teardown(f, bench_setup, bench_teardown)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_kick),
		cmocka_unit_test(test_kick_does_not_wait),
		cmocka_unit_test(test_clearing_does_not_wait),
		W(test_opened_once_and_rung_often),
		W(test_opened_anew_after_a_second),
		W(test_contexts_that_go_take_their_bells),
		W(test_the_one_rung_longest_ago_makes_room),
		W(test_jammed_bells_are_dropped),
		W(test_given_bells_are_heard_each_time),
		W(test_unlinked_bells_are_silent),
		W(test_given_bells_are_bounded),
		B(test_guest_rings_others),
		B(test_guest_rings_while_vmcid_is_away),
		B(test_others_ring_the_guest),
		B(test_reset_silences_all),
	};

	return cmocka_run_group_tests_name("vmci-device doorbells", tests, NULL, NULL);
}
