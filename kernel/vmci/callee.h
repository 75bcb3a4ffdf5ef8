/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* callee.h - an object with a callback, which its owner can destroy while others call */
#ifndef OVMCI_CALLEE_H
#define OVMCI_CALLEE_H

#include <linux/mutex.h>
#include <linux/srcu.h>

/*
 * Who looks up objects to call them holds this, and may sleep; objects that have been taken out of their table are
 * freed by call_srcu().
 */
extern struct srcu_struct vmci_callees;

/**
 * struct callee - the part of the object that both sides use
 * @mutex:  held while the callback runs: one call at a time
 * @closed: no call any more
 */
struct callee {
	struct mutex mutex;
	bool closed;
};

#define callee_init(c)					\
	do {						\
		mutex_init(&(c)->mutex);		\
		(c)->closed = false;			\
	} while (0)

/* callee_enter() - may the callback be called? If so, callee_leave() comes after it. */
static inline bool callee_enter(struct callee *c)
{
	mutex_lock(&c->mutex);
	if (!c->closed)
		return true;
	mutex_unlock(&c->mutex);
	return false;
}

static inline void callee_leave(struct callee *c)
{
	mutex_unlock(&c->mutex);
}

/*
 * callee_close() - waits until the callback does not run, and will not again
 *
 * The callback of another object may do so, hence the nesting.
 */
static inline void callee_close(struct callee *c)
{
	mutex_lock_nested(&c->mutex, SINGLE_DEPTH_NESTING);
	c->closed = true;
	mutex_unlock(&c->mutex);
}

#endif /* OVMCI_CALLEE_H */
