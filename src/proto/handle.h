/* SPDX-License-Identifier: BSD-2-Clause */
/* A VMCI handle in host byte order: (context id, resource id). */
#ifndef PROTO_HANDLE_H
#define PROTO_HANDLE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "vmci/defs.h"

static inline struct vmci_handle handle_make(uint32_t context, uint32_t resource)
{
	return (struct vmci_handle){ .context = context, .resource = resource };
}

/* handle_is_valid() - a handle is invalid when all its bits are ones. */
static inline bool handle_is_valid(struct vmci_handle h)
{
	return h.context != VMCI_INVALID_ID || h.resource != VMCI_INVALID_ID;
}

static inline bool handle_is_equal(struct vmci_handle a, struct vmci_handle b)
{
	return a.context == b.context && a.resource == b.resource;
}

/* handle_get() / handle_put() - the 8-byte wire form. */
static inline struct vmci_handle handle_get(const void *p)
{
	return handle_make(get_le32(p), get_le32((const uint8_t *)p + 4));
}

static inline void handle_put(void *p, struct vmci_handle h)
{
	put_le32(p, h.context);
	put_le32((uint8_t *)p + 4, h.resource);
}

#endif /* PROTO_HANDLE_H */
