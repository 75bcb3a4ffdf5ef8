/* SPDX-License-Identifier: BSD-2-Clause */
/* Interrupts: vfio-user reference, 7; VMCI reference, 1.3. */
#include "rig.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "proto/limits.h"

struct irqs {
	struct vus_irqs *irqs;
	int event[4];	/* the VMM's eventfds */
	int fds;
};

static int setup(void **state)
{
	static const uint32_t count[VUS_IRQ_NUM] = { 1, 1, 3, 1, 1 };
	struct irqs *t = calloc(1, sizeof(*t));

	t->fds = rig_count_fds();
	assert_int_equal(vus_irqs_new(count, &t->irqs), 0);
	for (int i = 0; i < 4; i++)
		t->event[i] = rig_eventfd();
	*state = t;
	return 0;
}

static int teardown(void **state)
{
	struct irqs *t = *state;

	assert_null(vus_irqs_free(t->irqs));
	for (int i = 0; i < 4; i++)
		close(t->event[i]);
	assert_int_equal(rig_count_fds(), t->fds);
	free(t);
	return 0;
}

/* set() - SET_IRQS with duplicates of @n of the VMM's eventfds, from number @first */
static int set(struct irqs *t, enum vus_irq_data data, enum vus_irq_action action, uint32_t index,
	       uint32_t start, uint32_t count, int first, size_t n)
{
	static const uint8_t yes[LIMIT_VFIO_VECTORS] = { 1, 1, 1, 1 };
	struct vus_set_irqs msg = {
		.data = data,
		.action = action,
		.index = index,
		.start = start,
		.count = count,
		.bools = data == VUS_IRQ_DATA_BOOL ? yes : NULL,
	};
	int fds[8], r;

	for (size_t i = 0; i < n; i++)
		fds[i] = dup(t->event[first + (int)i]);
	r = vus_irqs_set(t->irqs, &msg, fds, n);
	for (size_t i = 0; i < n; i++)
		if (fds[i] >= 0)
			close(fds[i]);
	return r;
}

/* The usual ones. */
static int give(struct irqs *t, uint32_t index, uint32_t start, int event)
{
	return set(t, VUS_IRQ_DATA_EVENTFD, VUS_IRQ_ACTION_TRIGGER, index, start, 1, event, 1);
}

static int deassign(struct irqs *t, uint32_t index, uint32_t start, uint32_t count)
{
	return set(t, VUS_IRQ_DATA_EVENTFD, VUS_IRQ_ACTION_TRIGGER, index, start, count, 0, 0);
}

static int disable(struct irqs *t, uint32_t index)
{
	return set(t, VUS_IRQ_DATA_NONE, VUS_IRQ_ACTION_TRIGGER, index, 0, 0, 0, 0);
}

static int none(struct irqs *t, enum vus_irq_action action, uint32_t index, uint32_t start, uint32_t count)
{
	return set(t, VUS_IRQ_DATA_NONE, action, index, start, count, 0, 0);
}

static void test_limits_of_new(void **state)
{
	static const uint32_t bad[][VUS_IRQ_NUM] = {
		{ 2, 0, 0, 0, 0 },
		{ 0, LIMIT_VFIO_VECTORS + 1, 0, 0, 0 },
		{ 0, 0, LIMIT_VFIO_VECTORS + 1, 0, 0 },
		{ 0, 0, 0, 2, 0 },
		{ 0, 0, 0, 0, 2 },
	};
	static const uint32_t no_intx[VUS_IRQ_NUM] = { 0, 0, LIMIT_VFIO_VECTORS, 1, 1 };
	struct vus_irqs *irqs;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(vus_irqs_new(bad[i], &irqs), -EINVAL);
	assert_int_equal(vus_irqs_new(no_intx, &irqs), 0);
	assert_int_equal(vus_irqs_fd(irqs), -1);
	assert_int_equal(vus_irqs_count(irqs, VUS_IRQ_MSIX), LIMIT_VFIO_VECTORS);
	vus_irqs_handle(irqs);
	vus_irq_intx(irqs, true);
	vus_irq_cause(irqs, 0);
	vus_irqs_free(irqs);
	assert_null(vus_irqs_free(NULL));
}

static void test_s7_1_vector_of_its_own_for_each_cause(void **state)
{
	struct irqs *t = *state;

	assert_int_equal(deassign(t, VUS_IRQ_MSIX, 0, 1), 0);
	for (unsigned v = 0; v < 3; v++)
		assert_int_equal(give(t, VUS_IRQ_MSIX, v, (int)v), 0);
	/* There is no vector for this one, and it must not be another index's. */
	assert_int_equal(give(t, VUS_IRQ_ERR, 0, 3), 0);
	vus_irq_cause(t->irqs, 3);
	vus_irq_cause(t->irqs, UINT32_MAX);
	assert_int_equal(rig_fired(t->event[3]), 0);
	for (unsigned cause = 0; cause < 3; cause++) {
		/* VMCI 1.3: a message for every new event, whatever is pending. */
		vus_irq_cause(t->irqs, cause);
		vus_irq_cause(t->irqs, cause);
		for (unsigned v = 0; v < 3; v++)
			assert_int_equal(rig_fired(t->event[v]), v == cause ? 2 : 0);
	}
	assert_int_equal(vus_irqs_pba(t->irqs), 0);
}

static void test_vmci_1_3_only_vector_0_set_up_gets_every_cause(void **state)
{
	struct irqs *t = *state;

	assert_int_equal(deassign(t, VUS_IRQ_MSIX, 0, 1), 0);
	assert_int_equal(give(t, VUS_IRQ_MSIX, 0, 0), 0);
	for (unsigned cause = 0; cause < 3; cause++)
		vus_irq_cause(t->irqs, cause);
	assert_int_equal(rig_fired(t->event[0]), 3);
	/* Once there is another vector, causes have their own again. */
	assert_int_equal(give(t, VUS_IRQ_MSIX, 1, 1), 0);
	vus_irq_cause(t->irqs, 1);
	assert_int_equal(rig_fired(t->event[0]), 0);
	assert_int_equal(rig_fired(t->event[1]), 1);
	vus_irq_cause(t->irqs, 2);
	assert_int_equal(rig_fired(t->event[0]), 0);
	assert_int_equal(vus_irqs_pba(t->irqs), 1 << 2);
	/* Disabling forgets which were set up. */
	assert_int_equal(disable(t, VUS_IRQ_MSIX), 0);
	assert_int_equal(give(t, VUS_IRQ_MSIX, 0, 0), 0);
	vus_irq_cause(t->irqs, 1);
	assert_int_equal(rig_fired(t->event[0]), 1);
}

static void test_s7_1_enable_without_fd_is_accepted(void **state)
{
	struct irqs *t = *state;

	/* QEMU's message for "MSI-X enable". */
	assert_int_equal(deassign(t, VUS_IRQ_MSIX, 0, 1), 0);
	assert_int_equal(vus_irqs_pba(t->irqs), 0);
}

static void test_s7_4_pending_bit_until_the_eventfd_arrives(void **state)
{
	struct irqs *t = *state;

	/* Not enabled: nothing is remembered. */
	vus_irq_cause(t->irqs, 1);
	assert_int_equal(vus_irqs_pba(t->irqs), 0);

	assert_int_equal(deassign(t, VUS_IRQ_MSIX, 0, 1), 0);
	vus_irq_cause(t->irqs, 1);
	assert_int_equal(vus_irqs_pba(t->irqs), 1 << 1);
	assert_int_equal(give(t, VUS_IRQ_MSIX, 0, 0), 0);
	assert_int_equal(rig_fired(t->event[0]), 0);
	assert_int_equal(give(t, VUS_IRQ_MSIX, 1, 1), 0);
	assert_int_equal(rig_fired(t->event[1]), 1);
	assert_int_equal(vus_irqs_pba(t->irqs), 0);

	/* A vector that lost its eventfd stays the cause's vector. */
	assert_int_equal(deassign(t, VUS_IRQ_MSIX, 1, 1), 0);
	vus_irq_cause(t->irqs, 1);
	assert_int_equal(rig_fired(t->event[0]), 0);
	assert_int_equal(vus_irqs_pba(t->irqs), 1 << 1);
	assert_int_equal(give(t, VUS_IRQ_MSIX, 1, 2), 0);
	assert_int_equal(rig_fired(t->event[2]), 1);

	/* Disabling forgets. */
	assert_int_equal(deassign(t, VUS_IRQ_MSIX, 0, 3), 0);
	vus_irq_cause(t->irqs, 1);
	assert_int_equal(disable(t, VUS_IRQ_MSIX), 0);
	assert_int_equal(vus_irqs_pba(t->irqs), 0);
	/* Not enabled any more: nothing is remembered again. */
	vus_irq_cause(t->irqs, 1);
	assert_int_equal(vus_irqs_pba(t->irqs), 0);
	assert_int_equal(give(t, VUS_IRQ_MSIX, 1, 3), 0);
	assert_int_equal(rig_fired(t->event[3]), 0);
}

static void test_s7_1_eventfd_is_replaced_on_every_unmask(void **state)
{
	struct irqs *t = *state;
	int fds = rig_count_fds();

	for (int i = 0; i < 10; i++)
		assert_int_equal(give(t, VUS_IRQ_MSIX, 0, i & 1), 0);
	assert_int_equal(rig_count_fds(), fds + 1);
	vus_irq_cause(t->irqs, 0);
	assert_int_equal(rig_fired(t->event[0]), 0);
	assert_int_equal(rig_fired(t->event[1]), 1);
}

static void test_s10_many_eventfds_at_once(void **state)
{
	struct irqs *t = *state;

	assert_int_equal(set(t, VUS_IRQ_DATA_EVENTFD, VUS_IRQ_ACTION_TRIGGER, VUS_IRQ_MSIX, 0, 3, 0, 3), 0);
	for (unsigned cause = 0; cause < 3; cause++)
		vus_irq_cause(t->irqs, cause);
	for (int i = 0; i < 3; i++)
		assert_int_equal(rig_fired(t->event[i]), 1);
	assert_int_equal(disable(t, VUS_IRQ_MSIX), 0);
	vus_irq_cause(t->irqs, 0);
	assert_int_equal(rig_fired(t->event[0]), 0);
}

static void test_s7_2_msi_has_one_message(void **state)
{
	struct irqs *t = *state;

	assert_int_equal(give(t, VUS_IRQ_MSI, 0, 3), 0);
	for (unsigned cause = 0; cause < 3; cause++)
		vus_irq_cause(t->irqs, cause);
	assert_int_equal(rig_fired(t->event[3]), 3);
	assert_int_equal(vus_irqs_pba(t->irqs), 0);
	assert_int_equal(disable(t, VUS_IRQ_MSI), 0);
	vus_irq_cause(t->irqs, 0);
	assert_int_equal(rig_fired(t->event[3]), 0);
}

static void test_s7_counts_are_checked(void **state)
{
	struct irqs *t = *state;
	int fds = rig_count_fds();

	assert_int_equal(give(t, VUS_IRQ_MSIX, 3, 0), -EINVAL);
	assert_int_equal(give(t, VUS_IRQ_MSI, 1, 0), -EINVAL);
	assert_int_equal(give(t, VUS_IRQ_NUM, 0, 0), -EINVAL);
	assert_int_equal(deassign(t, VUS_IRQ_MSIX, 0, 4), -EINVAL);
	assert_int_equal(deassign(t, VUS_IRQ_MSIX, 1, UINT32_MAX), -EINVAL);
	assert_int_equal(deassign(t, VUS_IRQ_MSIX, UINT32_MAX, 1), -EINVAL);
	/* Number of fds: none, or the count. */
	assert_int_equal(set(t, VUS_IRQ_DATA_EVENTFD, VUS_IRQ_ACTION_TRIGGER, VUS_IRQ_MSIX, 0, 3, 0, 2),
			 -EINVAL);
	assert_int_equal(set(t, VUS_IRQ_DATA_EVENTFD, VUS_IRQ_ACTION_TRIGGER, VUS_IRQ_MSIX, 0, 2, 0, 3),
			 -EINVAL);
	assert_int_equal(set(t, VUS_IRQ_DATA_EVENTFD, VUS_IRQ_ACTION_TRIGGER, VUS_IRQ_MSIX, 0, 0, 0, 1),
			 -EINVAL);
	assert_int_equal(set(t, VUS_IRQ_DATA_NONE, VUS_IRQ_ACTION_TRIGGER, VUS_IRQ_MSIX, 0, 1, 0, 1),
			 -EINVAL);
	/* Nothing at all, at the end of the range. */
	assert_int_equal(deassign(t, VUS_IRQ_MSIX, 3, 0), 0);
	assert_int_equal(rig_count_fds(), fds);
	vus_irq_cause(t->irqs, 0);
	assert_int_equal(vus_irqs_pba(t->irqs), 0);
}

static void test_s7_err_and_req_only_trigger(void **state)
{
	struct irqs *t = *state;

	for (uint32_t index = VUS_IRQ_ERR; index <= VUS_IRQ_REQ; index++) {
		assert_int_equal(give(t, index, 0, 0), 0);
		assert_int_equal(none(t, VUS_IRQ_ACTION_MASK, index, 0, 1), -EINVAL);
		assert_int_equal(none(t, VUS_IRQ_ACTION_UNMASK, index, 0, 1), -EINVAL);
		assert_int_equal(none(t, VUS_IRQ_ACTION_TRIGGER, index, 0, 1), 0);
		assert_int_equal(rig_fired(t->event[0]), 1);
		assert_int_equal(deassign(t, index, 0, 1), 0);
		assert_int_equal(none(t, VUS_IRQ_ACTION_TRIGGER, index, 0, 1), 0);
		assert_int_equal(rig_fired(t->event[0]), 0);
	}
}

static void test_s7_trigger_by_message(void **state)
{
	static const uint8_t second[3] = { 0, 7, 0 };
	struct vus_set_irqs msg = {
		.data = VUS_IRQ_DATA_BOOL,
		.action = VUS_IRQ_ACTION_TRIGGER,
		.index = VUS_IRQ_MSIX,
		.count = 3,
		.bools = second,
	};
	struct irqs *t = *state;

	assert_int_equal(set(t, VUS_IRQ_DATA_EVENTFD, VUS_IRQ_ACTION_TRIGGER, VUS_IRQ_MSIX, 0, 3, 0, 3), 0);
	assert_int_equal(none(t, VUS_IRQ_ACTION_TRIGGER, VUS_IRQ_MSIX, 0, 3), 0);
	for (int i = 0; i < 3; i++)
		assert_int_equal(rig_fired(t->event[i]), 1);
	assert_int_equal(vus_irqs_set(t->irqs, &msg, NULL, 0), 0);
	assert_int_equal(rig_fired(t->event[0]), 0);
	assert_int_equal(rig_fired(t->event[1]), 1);
	assert_int_equal(rig_fired(t->event[2]), 0);
	/* INTx, too, when there is an eventfd. */
	assert_int_equal(none(t, VUS_IRQ_ACTION_TRIGGER, VUS_IRQ_INTX, 0, 1), 0);
	assert_int_equal(give(t, VUS_IRQ_INTX, 0, 3), 0);
	assert_int_equal(none(t, VUS_IRQ_ACTION_TRIGGER, VUS_IRQ_INTX, 0, 1), 0);
	assert_int_equal(rig_fired(t->event[3]), 1);
}

static void test_s7_masked_vector_is_pending(void **state)
{
	struct irqs *t = *state;

	assert_int_equal(set(t, VUS_IRQ_DATA_EVENTFD, VUS_IRQ_ACTION_TRIGGER, VUS_IRQ_MSIX, 0, 3, 0, 3), 0);
	assert_int_equal(none(t, VUS_IRQ_ACTION_MASK, VUS_IRQ_MSIX, 1, 1), 0);
	vus_irq_cause(t->irqs, 1);
	vus_irq_cause(t->irqs, 2);
	assert_int_equal(rig_fired(t->event[1]), 0);
	assert_int_equal(rig_fired(t->event[2]), 1);
	assert_int_equal(vus_irqs_pba(t->irqs), 1 << 1);
	assert_int_equal(set(t, VUS_IRQ_DATA_BOOL, VUS_IRQ_ACTION_UNMASK, VUS_IRQ_MSIX, 0, 3, 0, 0), 0);
	assert_int_equal(rig_fired(t->event[1]), 1);
	assert_int_equal(vus_irqs_pba(t->irqs), 0);
	/* The same for those that are raised by message. */
	assert_int_equal(none(t, VUS_IRQ_ACTION_MASK, VUS_IRQ_MSIX, 2, 1), 0);
	assert_int_equal(none(t, VUS_IRQ_ACTION_TRIGGER, VUS_IRQ_MSIX, 2, 1), 0);
	assert_int_equal(rig_fired(t->event[2]), 0);
	assert_int_equal(vus_irqs_pba(t->irqs), 1 << 2);
	/* There are no eventfds for masking, and for unmasking with INTx only. */
	assert_int_equal(set(t, VUS_IRQ_DATA_EVENTFD, VUS_IRQ_ACTION_MASK, VUS_IRQ_MSIX, 0, 1, 0, 1),
			 -EINVAL);
	assert_int_equal(set(t, VUS_IRQ_DATA_EVENTFD, VUS_IRQ_ACTION_UNMASK, VUS_IRQ_MSIX, 0, 1, 0, 1),
			 -EINVAL);
	assert_int_equal(set(t, VUS_IRQ_DATA_EVENTFD, VUS_IRQ_ACTION_MASK, VUS_IRQ_INTX, 0, 1, 0, 1),
			 -EINVAL);
}

static void test_s7_3_intx_fires_once_until_unmasked(void **state)
{
	struct irqs *t = *state;

	assert_int_equal(give(t, VUS_IRQ_INTX, 0, 0), 0);
	vus_irq_intx(t->irqs, true);
	assert_int_equal(rig_fired(t->event[0]), 1);
	vus_irq_intx(t->irqs, false);
	vus_irq_intx(t->irqs, true);
	assert_int_equal(rig_fired(t->event[0]), 0);
	/* Still asserted at the unmask: again. */
	assert_int_equal(none(t, VUS_IRQ_ACTION_UNMASK, VUS_IRQ_INTX, 0, 1), 0);
	assert_int_equal(rig_fired(t->event[0]), 1);
	/* Not asserted any more: not. */
	vus_irq_intx(t->irqs, false);
	assert_int_equal(none(t, VUS_IRQ_ACTION_UNMASK, VUS_IRQ_INTX, 0, 1), 0);
	assert_int_equal(rig_fired(t->event[0]), 0);
	/* Unmasked and asserted: at once. */
	vus_irq_intx(t->irqs, true);
	assert_int_equal(rig_fired(t->event[0]), 1);
	/* Messages have nothing to do with it. */
	vus_irq_cause(t->irqs, 0);
	assert_int_equal(rig_fired(t->event[0]), 0);
}

static void test_s7_3_intx_masked_by_message(void **state)
{
	struct irqs *t = *state;

	assert_int_equal(give(t, VUS_IRQ_INTX, 0, 0), 0);
	assert_int_equal(none(t, VUS_IRQ_ACTION_MASK, VUS_IRQ_INTX, 0, 1), 0);
	vus_irq_intx(t->irqs, true);
	assert_int_equal(rig_fired(t->event[0]), 0);
	assert_int_equal(none(t, VUS_IRQ_ACTION_UNMASK, VUS_IRQ_INTX, 0, 1), 0);
	assert_int_equal(rig_fired(t->event[0]), 1);
}

static void test_s7_3_intx_asserted_before_there_is_an_eventfd(void **state)
{
	struct irqs *t = *state;

	vus_irq_intx(t->irqs, true);
	assert_int_equal(give(t, VUS_IRQ_INTX, 0, 0), 0);
	assert_int_equal(rig_fired(t->event[0]), 1);
	/* Disabled and set up again, as QEMU does when the guest changes to MSI-X and back. */
	assert_int_equal(disable(t, VUS_IRQ_INTX), 0);
	assert_int_equal(give(t, VUS_IRQ_INTX, 0, 1), 0);
	assert_int_equal(rig_fired(t->event[1]), 1);
}

static int resample(struct irqs *t, int event)
{
	return set(t, VUS_IRQ_DATA_EVENTFD, VUS_IRQ_ACTION_UNMASK, VUS_IRQ_INTX, 0, 1, event, 1);
}

static bool is_readable(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	return poll(&p, 1, 0) == 1;
}

static void test_s7_3_resample_eventfd_unmasks(void **state)
{
	struct irqs *t = *state;
	int fd = vus_irqs_fd(t->irqs);
	const uint64_t one = 1;

	assert_true(fd >= 0);
	/* KVM's group: trigger, mask, resample, unmask. */
	assert_int_equal(give(t, VUS_IRQ_INTX, 0, 0), 0);
	assert_int_equal(none(t, VUS_IRQ_ACTION_MASK, VUS_IRQ_INTX, 0, 1), 0);
	assert_int_equal(resample(t, 1), 0);
	assert_int_equal(none(t, VUS_IRQ_ACTION_UNMASK, VUS_IRQ_INTX, 0, 1), 0);
	vus_irq_intx(t->irqs, true);
	assert_int_equal(rig_fired(t->event[0]), 1);
	assert_false(is_readable(fd));
	/* The guest ended the interrupt, and the line is still asserted. */
	assert_int_equal(write(t->event[1], &one, 8), 8);
	assert_true(is_readable(fd));
	vus_irqs_handle(t->irqs);
	assert_int_equal(rig_fired(t->event[0]), 1);
	assert_false(is_readable(fd));
	vus_irqs_handle(t->irqs);
	assert_int_equal(rig_fired(t->event[0]), 0);
	/* The next time it is not. */
	vus_irq_intx(t->irqs, false);
	assert_int_equal(write(t->event[1], &one, 8), 8);
	vus_irqs_handle(t->irqs);
	assert_int_equal(rig_fired(t->event[0]), 0);
	vus_irq_intx(t->irqs, true);
	assert_int_equal(rig_fired(t->event[0]), 1);

	/* Another resample eventfd: the old one is without effect, although the VMM keeps it open. */
	assert_int_equal(resample(t, 2), 0);
	assert_int_equal(write(t->event[1], &one, 8), 8);
	assert_false(is_readable(fd));
	assert_int_equal(write(t->event[2], &one, 8), 8);
	assert_true(is_readable(fd));
	vus_irqs_handle(t->irqs);
	assert_int_equal(rig_fired(t->event[0]), 1);
	/* None any more. */
	assert_int_equal(set(t, VUS_IRQ_DATA_EVENTFD, VUS_IRQ_ACTION_UNMASK, VUS_IRQ_INTX, 0, 1, 0, 0), 0);
	assert_int_equal(write(t->event[2], &one, 8), 8);
	assert_false(is_readable(fd));
	/* Dropped with the index. */
	assert_int_equal(resample(t, 2), 0);
	assert_int_equal(disable(t, VUS_IRQ_INTX), 0);
	assert_int_equal(write(t->event[2], &one, 8), 8);
	assert_false(is_readable(fd));
}

static void test_s9_2_reset_forgets_what_is_pending_and_keeps_eventfds(void **state)
{
	struct irqs *t = *state;

	assert_int_equal(deassign(t, VUS_IRQ_MSIX, 0, 3), 0);
	vus_irq_cause(t->irqs, 2);
	assert_int_equal(give(t, VUS_IRQ_MSIX, 0, 0), 0);
	vus_irq_intx(t->irqs, true);
	vus_irqs_reset(t->irqs);
	assert_int_equal(vus_irqs_pba(t->irqs), 0);
	assert_int_equal(give(t, VUS_IRQ_INTX, 0, 1), 0);
	assert_int_equal(rig_fired(t->event[1]), 0);
	vus_irq_cause(t->irqs, 0);
	assert_int_equal(rig_fired(t->event[0]), 1);
}

static void test_s7_4_full_eventfd_does_not_block(void **state)
{
	struct irqs *t = *state;
	const uint64_t full = UINT64_MAX - 1;

	/* A blocking one: it is made non-blocking. */
	close(t->event[0]);
	t->event[0] = eventfd(0, EFD_CLOEXEC);
	assert_int_equal(write(t->event[0], &full, 8), 8);
	assert_int_equal(give(t, VUS_IRQ_MSIX, 0, 0), 0);
	assert_true(fcntl(t->event[0], F_GETFL) & O_NONBLOCK);
	vus_irq_cause(t->irqs, 0);
	assert_true(rig_fired(t->event[0]) == full);
	vus_irq_cause(t->irqs, 0);
	assert_int_equal(rig_fired(t->event[0]), 1);
}

static void test_what_is_no_eventfd_is_refused(void **state)
{
	struct irqs *t = *state;
	int pipe_fd[2], kept[2];

	assert_int_equal(pipe2(pipe_fd, O_CLOEXEC), 0);
	memcpy(kept, t->event, sizeof(kept));
	assert_int_equal(give(t, VUS_IRQ_MSIX, 0, 0), 0);
	/* A pipe would raise SIGPIPE. All or nothing: the good one is not taken. */
	t->event[0] = rig_eventfd();
	t->event[1] = pipe_fd[1];
	assert_int_equal(set(t, VUS_IRQ_DATA_EVENTFD, VUS_IRQ_ACTION_TRIGGER, VUS_IRQ_MSIX, 0, 2, 0, 2),
			 -EINVAL);
	vus_irq_cause(t->irqs, 0);
	assert_int_equal(rig_fired(t->event[0]), 0);
	assert_int_equal(rig_fired(kept[0]), 1);
	assert_int_equal(resample(t, 1), -EINVAL);
	close(pipe_fd[0]);
	close(pipe_fd[1]);
	close(t->event[0]);
	memcpy(t->event, kept, sizeof(kept));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_limits_of_new),
		cmocka_unit_test_setup_teardown(test_s7_1_vector_of_its_own_for_each_cause, setup, teardown),
		cmocka_unit_test_setup_teardown(test_vmci_1_3_only_vector_0_set_up_gets_every_cause, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_s7_1_enable_without_fd_is_accepted, setup, teardown),
		cmocka_unit_test_setup_teardown(test_s7_4_pending_bit_until_the_eventfd_arrives, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_s7_1_eventfd_is_replaced_on_every_unmask, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_s10_many_eventfds_at_once, setup, teardown),
		cmocka_unit_test_setup_teardown(test_s7_2_msi_has_one_message, setup, teardown),
		cmocka_unit_test_setup_teardown(test_s7_counts_are_checked, setup, teardown),
		cmocka_unit_test_setup_teardown(test_s7_err_and_req_only_trigger, setup, teardown),
		cmocka_unit_test_setup_teardown(test_s7_trigger_by_message, setup, teardown),
		cmocka_unit_test_setup_teardown(test_s7_masked_vector_is_pending, setup, teardown),
		cmocka_unit_test_setup_teardown(test_s7_3_intx_fires_once_until_unmasked, setup, teardown),
		cmocka_unit_test_setup_teardown(test_s7_3_intx_masked_by_message, setup, teardown),
		cmocka_unit_test_setup_teardown(test_s7_3_intx_asserted_before_there_is_an_eventfd, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_s7_3_resample_eventfd_unmasks, setup, teardown),
		cmocka_unit_test_setup_teardown(test_s9_2_reset_forgets_what_is_pending_and_keeps_eventfds,
						setup, teardown),
		cmocka_unit_test_setup_teardown(test_s7_4_full_eventfd_does_not_block, setup, teardown),
		cmocka_unit_test_setup_teardown(test_what_is_no_eventfd_is_refused, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
