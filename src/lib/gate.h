/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A gate stands before an object that several threads use: it knows how many are inside, wakes those that wait when
 * the object is closed, and lets the closer wait until they have left. And deadlines.
 */
#ifndef LIB_GATE_H
#define LIB_GATE_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

/* --- Time --------------------------------------------------------------------------------------------------- */

/**
 * struct lib_deadline - until when a call may wait
 * @at:      nanoseconds of the monotonic clock; UINT64_MAX: for ever
 * @is_zero: the call must not wait at all: VMCI_ERROR_WOULD_BLOCK instead of VMCI_ERROR_TIMEOUT
 */
struct lib_deadline {
	uint64_t at;
	bool is_zero;
};

/* lib_deadline() - @timeout_ms as in vmci.h; everything negative is for ever */
struct lib_deadline lib_deadline(int timeout_ms);

/* lib_now() - nanoseconds of the monotonic clock */
uint64_t lib_now(void);

/* lib_left_ms() - for poll(2): milliseconds until @deadline, rounded up; 0: it is over; -1: never */
int lib_left_ms(struct lib_deadline deadline);

/* lib_cond_init(), lib_cond_wait() - a condition of the monotonic clock. Return: false: the deadline is over */
void lib_cond_init(pthread_cond_t *cond);
bool lib_cond_wait(pthread_cond_t *cond, pthread_mutex_t *lock, struct lib_deadline deadline);

/* --- Gates -------------------------------------------------------------------------------------------------- */

/**
 * struct lib_gate - see above
 * @users:     threads inside
 * @is_shut:   nobody comes in any more
 * @is_woken:  nobody waits any more: the object is closed, or lost
 * @wake:      an eventfd that is readable then; made by the first who waits, as many objects are only polled; or -1
 */
struct lib_gate {
	pthread_mutex_t lock;
	pthread_cond_t idle;
	unsigned users;
	bool is_shut;
	bool is_woken;
	int wake;
};

void lib_gate_init(struct lib_gate *gate);

/* lib_gate_done() - nobody is inside; with @forked it may look as if */
void lib_gate_done(struct lib_gate *gate, bool forked);

/* lib_gate_enter() - 0, lib_gate_leave() later; VMCI_ERROR_NO_HANDLE: shut, with vmci_errmsg() */
int lib_gate_enter(struct lib_gate *gate);
void lib_gate_leave(struct lib_gate *gate);

/* lib_gate_wake() - the object is lost: nobody waits any more; who comes in can still take what is there */
void lib_gate_wake(struct lib_gate *gate);

/* lib_gate_shut() - the object is closed: wake, and wait until everybody has left; with @forked there is nobody */
void lib_gate_shut(struct lib_gate *gate, bool forked);

/**
 * lib_gate_wait() - wait, inside, until @fd is readable
 *
 * Return: 0; VMCI_ERROR_TIMEOUT, VMCI_ERROR_WOULD_BLOCK; VMCI_ERROR_NO_HANDLE: closed or lost;
 * VMCI_ERROR_NO_RESOURCES. With vmci_errmsg()
 */
int lib_gate_wait(struct lib_gate *gate, int fd, struct lib_deadline deadline);

#endif /* LIB_GATE_H */
