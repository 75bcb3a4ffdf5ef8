/* SPDX-License-Identifier: BSD-2-Clause */
/* The notification bitmap and the doorbells of the guest. VMCI reference, 5. */
#ifndef DEVICE_DOORBELL_H
#define DEVICE_DOORBELL_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/handle.h"
#include "proto/hypercall.h"
#include "proto/limits.h"

#define BELL_BUCKETS 1024u

struct dev;

/**
 * struct dev_bell - a linked doorbell
 * @index: byte of the bitmap
 * @next:  slot + 1 of the next one in its bucket, or of the next free one; 0 ends the list
 */
struct dev_bell {
	struct vmci_handle handle;
	uint32_t index;
	uint16_t next;
};

/**
 * struct dev_bells - all of them; all zeroes is none
 * @bitmap:     guest address of the bitmap
 * @has_bitmap: it is set
 * @count:      doorbells linked
 * @used:       slots ever used; above them all are free
 * @free:       slot + 1 of the first free one below @used, or 0
 * @bucket:     slot + 1 of the first one of each bucket, or 0
 */
struct dev_bells {
	uint64_t bitmap;
	bool has_bitmap;
	unsigned count;
	uint16_t used;
	uint16_t free;
	uint16_t bucket[BELL_BUCKETS];
	struct dev_bell slot[LIMIT_DOORBELLS];
};

/* dev_bells_reset() - no bitmap, no doorbells any more */
void dev_bells_reset(struct dev *dev);

/* dev_bells_set_bitmap() - hypercall SET_NOTIFY_BITMAP. Return: VMCI_SUCCESS, or VMCI_ERROR_* */
int32_t dev_bells_set_bitmap(struct dev *dev, uint32_t g_ppn);

/* dev_bells_link(), dev_bells_unlink() - hypercalls DOORBELL_LINK, DOORBELL_UNLINK */
int32_t dev_bells_link(struct dev *dev, const struct hc_link *g_link);
int32_t dev_bells_unlink(struct dev *dev, struct vmci_handle handle);

#endif /* DEVICE_DOORBELL_H */
