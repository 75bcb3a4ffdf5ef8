/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* wire.h - fields of wire structures, little-endian, at any address */
#ifndef OVMCI_WIRE_H
#define OVMCI_WIRE_H

#include <linux/string.h>
#include <asm/byteorder.h>

#include <ovmci.h>

static inline u32 get_le32(const void *p)
{
	__le32 value;

	memcpy(&value, p, sizeof(value));
	return le32_to_cpu(value);
}

static inline u64 get_le64(const void *p)
{
	__le64 value;

	memcpy(&value, p, sizeof(value));
	return le64_to_cpu(value);
}

static inline void put_le32(void *p, u32 value)
{
	__le32 le = cpu_to_le32(value);

	memcpy(p, &le, sizeof(le));
}

static inline void put_le64(void *p, u64 value)
{
	__le64 le = cpu_to_le64(value);

	memcpy(p, &le, sizeof(le));
}

static inline struct ovmci_handle get_handle(const void *p)
{
	return (struct ovmci_handle){ .context = get_le32(p), .resource = get_le32(p + 4) };
}

static inline void put_handle(void *p, struct ovmci_handle handle)
{
	put_le32(p, handle.context);
	put_le32(p + 4, handle.resource);
}

static inline bool handle_is_equal(struct ovmci_handle a, struct ovmci_handle b)
{
	return a.context == b.context && a.resource == b.resource;
}

static inline bool handle_is_invalid(struct ovmci_handle h)
{
	return h.context == VMCI_INVALID_ID && h.resource == VMCI_INVALID_ID;
}

/* put_header() - the 24 bytes in front of a datagram's payload */
static inline void put_header(void *p, struct ovmci_handle dst, struct ovmci_handle src, u64 payload)
{
	put_handle(p, dst);
	put_handle(p + 8, src);
	put_le64(p + 16, payload);
}

#endif /* OVMCI_WIRE_H */
