/* SPDX-License-Identifier: BSD-2-Clause */
/* Datagrams: the header's wire form, and padding. VMCI reference, 3.1. */
#ifndef PROTO_DG_H
#define PROTO_DG_H

#include <stddef.h>

#include "proto/handle.h"

struct dg_header {
	struct vmci_handle dst;
	struct vmci_handle src;
	uint64_t payload_size;
};

/* dg_parse() - read the 24-byte header at @p; nothing in it is checked. */
static inline struct dg_header dg_parse(const void *p)
{
	const uint8_t *b = p;

	return (struct dg_header){
		.dst = handle_get(b),
		.src = handle_get(b + 8),
		.payload_size = get_le64(b + 16),
	};
}

/* dg_build() - write the 24-byte header to @p. */
static inline void dg_build(void *p, struct vmci_handle dst, struct vmci_handle src, uint64_t payload_size)
{
	uint8_t *b = p;

	handle_put(b, dst);
	handle_put(b + 8, src);
	put_le64(b + 16, payload_size);
}

/* dg_padded() - @size rounded up as datagrams are padded on receipt; @size is bounded by the caller. */
static inline size_t dg_padded(size_t size)
{
	return (size + VMCI_DG_ALIGN - 1) & ~(size_t)(VMCI_DG_ALIGN - 1);
}

#endif /* PROTO_DG_H */
