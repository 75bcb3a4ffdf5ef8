// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include "id.h"

u32 id_choose(u32 *cursor, bool (*is_used)(u32 id, void *data), void *data)
{
	unsigned int tries;

	for (tries = 0; tries < ID_TRIES; tries++) {
		u32 id = *cursor;

		if (id < VMCI_RID_FIRST_DYNAMIC || id == VMCI_INVALID_ID)
			id = VMCI_RID_FIRST_DYNAMIC;
		*cursor = id + 1;
		if (!is_used(id, data))
			return id;
	}
	return VMCI_INVALID_ID;
}

#ifdef OVMCI_DEBUG
#include "selftest/id.c"
#endif
