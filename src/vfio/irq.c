/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * DOC: Theory of operation
 *
 * Each index (INTx, MSI, MSI-X, ERR, REQ) has vectors. A vector has an eventfd or not, may be masked, and may
 * be pending: it was raised while it had no eventfd or was masked, and fires as soon as both are put right.
 * The pending bits of MSI-X are what the guest reads in the PBA.
 *
 * An index is active from its first SET_IRQS until it is disabled (NONE|TRIGGER with count 0). QEMU activates
 * MSI-X with a de-assign of vector 0, at a time when there is no eventfd yet, and gives eventfds one by one
 * as the guest unmasks vectors (reference, 7.1). A vector that got an eventfd since the index became active
 * is *ready*, and stays so when the eventfd is taken away. That tells how many vectors the driver uses: if
 * only vector 0 is ready, the driver runs all causes over it and reads the cause register.
 *
 * INTx is a level, and an eventfd is an edge. States of the line, as (asserted, masked):
 *
 *	(0,0) -- assert --> fire, (1,1)		(1,1) -- deassert --> (0,1)
 *	(0,1) -- assert --> (1,1)		(0,1) -- unmask --> (0,0)
 *	(1,1) -- unmask --> fire, (1,1)
 *
 * Masked after firing ("automasked"): the VMM unmasks when it has seen the guest serve the interrupt, by
 * message or by the resample eventfd. If the line is still asserted then, it fires again.
 */
#include "vfio/irq.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/checked.h"
#include "base/fd.h"
#include "proto/limits.h"

struct vector {
	int fd;
	bool is_masked;
	bool is_pending;
	bool is_ready;
};

struct index {
	struct vector *vector;
	uint32_t count;
	bool is_active;
};

/**
 * struct vus_irqs - the interrupts of a device
 * @epoll:    holds @resample, so that the caller polls one descriptor for ever; -1 without INTx
 * @resample: unmasks INTx; -1 if not given
 * @level:    of the INTx line
 */
struct vus_irqs {
	struct index index[VUS_IRQ_NUM];
	int epoll;
	int resample;
	bool level;
	struct vector vector[];
};

int vus_irqs_new(const uint32_t count[VUS_IRQ_NUM], struct vus_irqs **ret_irqs)
{
	struct vus_irqs *irqs;
	size_t total = 0, n = 0;

	for (int i = 0; i < VUS_IRQ_NUM; i++) {
		if (count[i] > (i == VUS_IRQ_MSI || i == VUS_IRQ_MSIX ? LIMIT_VFIO_VECTORS : 1))
			return -EINVAL;
		total += count[i];
	}
	irqs = calloc(1, sizeof(*irqs) + total * sizeof(irqs->vector[0]));
	if (!irqs)
		return -ENOMEM;
	irqs->epoll = irqs->resample = -1;
	for (int i = 0; i < VUS_IRQ_NUM; i++) {
		irqs->index[i] = (struct index){ .vector = irqs->vector + n, .count = count[i] };
		n += count[i];
	}
	for (size_t i = 0; i < total; i++)
		irqs->vector[i].fd = -1;
	if (count[VUS_IRQ_INTX]) {
		irqs->epoll = epoll_create1(EPOLL_CLOEXEC);
		if (irqs->epoll < 0) {
			int r = -errno;

			vus_irqs_free(irqs);
			return r;
		}
	}
	*ret_irqs = irqs;
	return 0;
}

/**
 * set_resample() - @fd (taken over, or -1) unmasks INTx from now on
 *
 * Return: 0; what epoll_ctl(2) said (and nothing is changed, @fd is still the caller's)
 */
static int set_resample(struct vus_irqs *irqs, int fd)
{
	/* Edges only: a descriptor that read() does not calm must not keep the event loop busy. */
	struct epoll_event event = { .events = EPOLLIN | EPOLLET };

	if (fd >= 0 && epoll_ctl(irqs->epoll, EPOLL_CTL_ADD, fd, &event) < 0)
		return -errno;
	/* The VMM holds the same eventfd, so closing alone would not take it out of the set. */
	if (irqs->resample >= 0)
		epoll_ctl(irqs->epoll, EPOLL_CTL_DEL, irqs->resample, NULL);
	fd_close(&irqs->resample);
	irqs->resample = fd;
	return 0;
}

/**
 * disable() - drop all eventfds of an index, and what is pending
 */
static void disable(struct vus_irqs *irqs, struct index *index)
{
	for (uint32_t i = 0; i < index->count; i++) {
		fd_close(&index->vector[i].fd);
		index->vector[i] = (struct vector){ .fd = -1 };
	}
	index->is_active = false;
	if (index == &irqs->index[VUS_IRQ_INTX])
		set_resample(irqs, -1);
}

struct vus_irqs *vus_irqs_free(struct vus_irqs *irqs)
{
	if (!irqs)
		return NULL;
	for (int i = 0; i < VUS_IRQ_NUM; i++)
		disable(irqs, &irqs->index[i]);
	fd_close(&irqs->epoll);
	free(irqs);
	return NULL;
}

uint32_t vus_irqs_count(const struct vus_irqs *irqs, enum vus_irq index)
{
	return irqs->index[index].count;
}

/**
 * signal_fd() - add 1 to an eventfd. One that is full is as good as signalled.
 */
static void signal_fd(int fd)
{
	const uint64_t one = 1;
	ssize_t n = write(fd, &one, sizeof(one));

	(void)n;
}

/**
 * raise_vector() - fire, or remember
 */
static void raise_vector(struct vector *vector)
{
	if (vector->fd < 0 || vector->is_masked) {
		vector->is_pending = true;
		return;
	}
	vector->is_pending = false;
	signal_fd(vector->fd);
}

/**
 * raise_intx() - fire if the line is asserted and may fire
 */
static void raise_intx(struct vus_irqs *irqs)
{
	struct vector *vector = irqs->index[VUS_IRQ_INTX].vector;

	if (!irqs->level || vector->fd < 0 || vector->is_masked)
		return;
	vector->is_masked = true;
	signal_fd(vector->fd);
}

/**
 * update() - @vector of @index may be able to fire now
 */
static void update(struct vus_irqs *irqs, struct index *index, struct vector *vector)
{
	if (index == &irqs->index[VUS_IRQ_INTX])
		raise_intx(irqs);
	else if (vector->is_pending)
		raise_vector(vector);
}

void vus_irq_cause(struct vus_irqs *irqs, unsigned cause)
{
	const struct index *msix = &irqs->index[VUS_IRQ_MSIX];
	const struct index *msi = &irqs->index[VUS_IRQ_MSI];

	if (msix->is_active) {
		bool is_shared = msix->vector[0].is_ready;

		for (uint32_t i = 1; i < msix->count; i++)
			is_shared = is_shared && !msix->vector[i].is_ready;
		if (is_shared)
			raise_vector(&msix->vector[0]);
		else if (cause < msix->count)
			raise_vector(&msix->vector[cause]);
	} else if (msi->is_active) {
		raise_vector(&msi->vector[0]);
	}
}

void vus_irq_intx(struct vus_irqs *irqs, bool level)
{
	irqs->level = level;
	if (irqs->index[VUS_IRQ_INTX].count)
		raise_intx(irqs);
}

uint64_t vus_irqs_pba(const struct vus_irqs *irqs)
{
	const struct index *msix = &irqs->index[VUS_IRQ_MSIX];
	uint64_t pba = 0;

	for (uint32_t i = 0; i < msix->count; i++)
		pba |= (uint64_t)msix->vector[i].is_pending << i;
	return pba;
}

void vus_irqs_reset(struct vus_irqs *irqs)
{
	irqs->level = false;
	for (int i = 0; i < VUS_IRQ_NUM; i++)
		for (uint32_t v = 0; v < irqs->index[i].count; v++)
			irqs->index[i].vector[v].is_pending = false;
}

int vus_irqs_fd(const struct vus_irqs *irqs)
{
	return irqs->epoll;
}

void vus_irqs_handle(struct vus_irqs *irqs)
{
	struct epoll_event event;
	uint64_t n;

	if (irqs->epoll < 0 || epoll_wait(irqs->epoll, &event, 1, 0) < 1)
		return;
	if (irqs->resample < 0 || read(irqs->resample, &n, sizeof(n)) != sizeof(n))
		return;
	irqs->index[VUS_IRQ_INTX].vector[0].is_masked = false;
	raise_intx(irqs);
}

/**
 * prepare_eventfd() - check that @fd is an eventfd as far as can be told, and make it non-blocking
 *
 * Eventfds are anonymous inodes, which have no file type. What has one (a pipe, a socket, a file) would do
 * something else than counting when written to.
 */
static int prepare_eventfd(int fd)
{
	struct stat st;
	int flags;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (st.st_mode & S_IFMT)
		return -EINVAL;
	flags = fcntl(fd, F_GETFL);
	if (flags < 0)
		return -errno;
	if (!(flags & O_NONBLOCK) && fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
		return -errno;
	return 0;
}

/**
 * set_eventfds() - DATA_EVENTFD: give or take away eventfds
 */
static int set_eventfds(struct vus_irqs *irqs, struct index *index, const struct vus_set_irqs *set, int *fds,
			size_t n_fds)
{
	bool is_intx = set->index == VUS_IRQ_INTX;
	int r;

	if (n_fds && n_fds != set->count)
		return -EINVAL;
	if (set->action == VUS_IRQ_ACTION_MASK || (set->action == VUS_IRQ_ACTION_UNMASK && !is_intx))
		return -EINVAL;
	for (size_t i = 0; i < n_fds; i++) {
		r = prepare_eventfd(fds[i]);
		if (r < 0)
			return r;
	}
	if (set->action == VUS_IRQ_ACTION_UNMASK) {
		if (!set->count)
			return 0;
		r = set_resample(irqs, n_fds ? fds[0] : -1);
		if (r < 0)
			return r;
		if (n_fds)
			fds[0] = -1;
		return 0;
	}

	if (set->count)
		index->is_active = true;
	for (uint32_t i = 0; i < set->count; i++) {
		struct vector *vector = &index->vector[set->start + i];

		fd_close(&vector->fd);
		if (!n_fds)
			continue;
		vector->fd = fd_take(&fds[i]);
		vector->is_ready = true;
		update(irqs, index, vector);
	}
	return 0;
}

/**
 * apply() - DATA_NONE or DATA_BOOL, for one vector
 */
static void apply(struct vus_irqs *irqs, struct index *index, struct vector *vector,
		  enum vus_irq_action action)
{
	switch (action) {
	case VUS_IRQ_ACTION_MASK:
		vector->is_masked = true;
		break;
	case VUS_IRQ_ACTION_UNMASK:
		vector->is_masked = false;
		update(irqs, index, vector);
		break;
	case VUS_IRQ_ACTION_TRIGGER:
		/* A test aid: one message, and on INTx one pulse. */
		if (index == &irqs->index[VUS_IRQ_INTX] || !index->is_active) {
			if (vector->fd >= 0)
				signal_fd(vector->fd);
		} else {
			raise_vector(vector);
		}
		break;
	case VUS_IRQ_ACTION_NUM:
		assert(false);
	}
}

int vus_irqs_set(struct vus_irqs *irqs, const struct vus_set_irqs *set, int *fds, size_t n_fds)
{
	struct index *index;

	if (set->index >= VUS_IRQ_NUM)
		return -EINVAL;
	index = &irqs->index[set->index];
	if (!range_fits(set->start, set->count, index->count))
		return -EINVAL;
	if ((set->index == VUS_IRQ_ERR || set->index == VUS_IRQ_REQ) && set->action != VUS_IRQ_ACTION_TRIGGER)
		return -EINVAL;
	if (set->data == VUS_IRQ_DATA_EVENTFD)
		return set_eventfds(irqs, index, set, fds, n_fds);
	if (n_fds)
		return -EINVAL;
	if (set->data == VUS_IRQ_DATA_NONE && set->action == VUS_IRQ_ACTION_TRIGGER && !set->count) {
		disable(irqs, index);
		return 0;
	}
	for (uint32_t i = 0; i < set->count; i++)
		if (set->data == VUS_IRQ_DATA_NONE || set->bools[i])
			apply(irqs, index, &index->vector[set->start + i], set->action);
	return 0;
}
