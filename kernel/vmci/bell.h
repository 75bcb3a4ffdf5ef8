/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* bell.h - doorbells, inwards */
#ifndef OVMCI_BELL_H
#define OVMCI_BELL_H

#include <linux/types.h>

/* vmci_bells_scan() - call those that the device has marked in its page; one thread at a time */
void vmci_bells_scan(u8 *page);

/* vmci_bells_rename() - our context has another id; their handles' resources stay */
void vmci_bells_rename(u32 from, u32 to);

/* vmci_bells_relink() - tell the device, which was reset, of all bells again */
void vmci_bells_relink(void);

/* vmci_bells_kill() - the device is gone: its bells are dead, and their places free */
void vmci_bells_kill(void);

#endif /* OVMCI_BELL_H */
