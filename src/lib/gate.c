/* SPDX-License-Identifier: BSD-2-Clause */
#include "lib/gate.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>

#include "base/fd.h"
#include "lib/lib.h"

#define NS_PER_S 1000000000u
#define NS_PER_MS 1000000u

uint64_t lib_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec;
}

struct lib_deadline lib_deadline(int timeout_ms)
{
	if (timeout_ms < 0)
		return (struct lib_deadline){ .at = UINT64_MAX };
	return (struct lib_deadline){
		.at = lib_now() + (uint64_t)timeout_ms * NS_PER_MS,
		.is_zero = timeout_ms == 0,
	};
}

int lib_left_ms(struct lib_deadline deadline)
{
	uint64_t now, left;

	if (deadline.at == UINT64_MAX)
		return -1;
	now = lib_now();
	if (deadline.is_zero || now >= deadline.at)
		return 0;
	left = (deadline.at - now + NS_PER_MS - 1) / NS_PER_MS;
	return left > INT_MAX ? INT_MAX : (int)left;
}

void lib_cond_init(pthread_cond_t *cond)
{
	pthread_condattr_t attr;

	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(cond, &attr);
	pthread_condattr_destroy(&attr);
}

bool lib_cond_wait(pthread_cond_t *cond, pthread_mutex_t *lock, struct lib_deadline deadline)
{
	struct timespec ts;

	if (deadline.at == UINT64_MAX) {
		pthread_cond_wait(cond, lock);
		return true;
	}
	ts.tv_sec = (time_t)(deadline.at / NS_PER_S);
	ts.tv_nsec = (long)(deadline.at % NS_PER_S);
	return pthread_cond_timedwait(cond, lock, &ts) != ETIMEDOUT;
}

void lib_gate_init(struct lib_gate *gate)
{
	*gate = (struct lib_gate){ .wake = -1 };
	pthread_mutex_init(&gate->lock, NULL);
	pthread_cond_init(&gate->idle, NULL);
}

void lib_gate_done(struct lib_gate *gate, bool forked)
{
	fd_close(&gate->wake);
	/* The threads that waited in the parent are not here: to destroy what they wait for would wait for them. */
	if (forked)
		return;
	pthread_cond_destroy(&gate->idle);
	pthread_mutex_destroy(&gate->lock);
}

int lib_gate_enter(struct lib_gate *gate)
{
	bool is_shut;

	pthread_mutex_lock(&gate->lock);
	is_shut = gate->is_shut;
	if (!is_shut)
		gate->users++;
	pthread_mutex_unlock(&gate->lock);
	return is_shut ? lib_fail(VMCI_ERROR_NO_HANDLE, "closed by another thread") : 0;
}

void lib_gate_leave(struct lib_gate *gate)
{
	pthread_mutex_lock(&gate->lock);
	if (!--gate->users && gate->is_shut)
		pthread_cond_signal(&gate->idle);
	pthread_mutex_unlock(&gate->lock);
}

/**
 * wake() - the lock is held
 */
static void wake(struct lib_gate *gate)
{
	gate->is_woken = true;
	if (gate->wake >= 0)
		eventfd_write(gate->wake, 1);
}

void lib_gate_wake(struct lib_gate *gate)
{
	pthread_mutex_lock(&gate->lock);
	wake(gate);
	pthread_mutex_unlock(&gate->lock);
}

void lib_gate_shut(struct lib_gate *gate, bool forked)
{
	if (forked)
		return;
	pthread_mutex_lock(&gate->lock);
	gate->is_shut = true;
	wake(gate);
	while (gate->users)
		pthread_cond_wait(&gate->idle, &gate->lock);
	pthread_mutex_unlock(&gate->lock);
}

static int fail_woken(void)
{
	return lib_fail(VMCI_ERROR_NO_HANDLE, "closed by another thread, or lost with the broker");
}

/**
 * get_wake() - the eventfd, made if it is not there
 *
 * Return: 0; VMCI_ERROR_NO_HANDLE; VMCI_ERROR_NO_RESOURCES
 */
static int get_wake(struct lib_gate *gate, int *ret_wake)
{
	bool is_woken;

	pthread_mutex_lock(&gate->lock);
	if (gate->wake < 0)
		gate->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	is_woken = gate->is_woken;
	*ret_wake = gate->wake;
	pthread_mutex_unlock(&gate->lock);
	if (is_woken)
		return fail_woken();
	return *ret_wake < 0 ? lib_fail(VMCI_ERROR_NO_RESOURCES, "eventfd: %s", strerror(errno)) : 0;
}

int lib_gate_wait(struct lib_gate *gate, int fd, struct lib_deadline deadline)
{
	struct pollfd poll_fd[] = { { .fd = fd, .events = POLLIN }, { .fd = -1, .events = POLLIN } };
	int r;

	if (deadline.is_zero)
		return lib_fail(VMCI_ERROR_WOULD_BLOCK, "nothing there");
	r = get_wake(gate, &poll_fd[1].fd);
	if (r)
		return r;
	for (;;) {
		int left = lib_left_ms(deadline);
		int n = poll(poll_fd, 2, left);

		if (n < 0 && errno != EINTR)
			return lib_fail(VMCI_ERROR_NO_RESOURCES, "poll: %s", strerror(errno));
		if (n > 0 && poll_fd[1].revents)
			return fail_woken();
		if (n > 0)
			return 0;
		if (n == 0 && left == 0)
			return lib_fail(VMCI_ERROR_TIMEOUT, "nothing came in time");
	}
}
