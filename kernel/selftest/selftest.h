/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * selftest.h - tests of what needs no device, in debug builds (OVMCI_DEBUG=1), at load
 *
 * Each is a file that its unit includes at the end, so that it sees the unit's statics.
 */
#ifndef OVMCI_SELFTEST_H
#define OVMCI_SELFTEST_H

#include <linux/init.h>
#include <linux/printk.h>

#ifdef OVMCI_DEBUG

bool __init burst_selftest(void);
bool __init event_selftest(void);
bool __init id_selftest(void);
bool __init qmem_selftest(void);
bool __init ring_selftest(void);

/* T() - one case: @ok, a bool of the function, becomes false if @condition does not hold */
#define T(condition)									\
	do {										\
		if (!(condition)) {							\
			pr_err("%s: line %d: failed: %s\n", __func__, __LINE__, #condition);	\
			ok = false;							\
		}									\
	} while (0)

/* vmci_selftest() - runs all. Return: did all pass? */
static inline bool __init vmci_selftest(void)
{
	bool ok = burst_selftest() & event_selftest() & id_selftest() & qmem_selftest() & ring_selftest();

	if (ok)
		pr_info("self-tests: pass\n");
	return ok;
}

#else

static inline bool vmci_selftest(void)
{
	return true;
}

#endif

#endif /* OVMCI_SELFTEST_H */
