/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Hypercalls: datagrams to the hypervisor context, whose resource id says what to do. VMCI
 * reference, 4.3. Pure codecs of whole datagrams, header included.
 *
 * Parsers take a datagram whose header says @size bytes, check that the payload is long enough for
 * its fields, and ignore what is behind and all padding, which drivers leave uninitialised
 * (reference, 11). They check no value. Builders write a complete datagram from the anonymous
 * source, with zeroed padding.
 */
#ifndef PROTO_HYPERCALL_H
#define PROTO_HYPERCALL_H

#include <stddef.h>

#include "proto/handle.h"

#define HC_QUERY_MAX_SIZE (VMCI_DG_HEADER_SIZE + 8 + 4 * VMCI_RESOURCES_MAX)
#define HC_WORD_SIZE (VMCI_DG_HEADER_SIZE + 8u)
#define HC_HANDLE_SIZE (VMCI_DG_HEADER_SIZE + 8u)
#define HC_LINK_SIZE (VMCI_DG_HEADER_SIZE + 16u)

/* hc_name() - the name of hypercall @rid, for messages; "?" if it has none */
const char *hc_name(uint32_t rid);

/**
 * struct hc_query - RESOURCES_QUERY: which of these are supported?
 * @count: entries of @rid, 0..VMCI_RESOURCES_MAX
 */
struct hc_query {
	uint32_t count;
	uint32_t rid[VMCI_RESOURCES_MAX];
};

/* hc_query_parse() - Return: 0, or -EBADMSG (too short, or too many entries) */
int hc_query_parse(const uint8_t *dg, size_t size, struct hc_query *ret_query);

/* hc_query_build() - @buf holds HC_QUERY_MAX_SIZE bytes. Return: size of the datagram */
size_t hc_query_build(uint8_t *buf, const struct hc_query *query);

/**
 * hc_word_parse() - a hypercall with one u32 and padding
 *
 * SET_NOTIFY_BITMAP (the page number; its upper half is garbage unless 64-bit page numbers were
 * agreed on), DATAGRAM_REQUEST_MAP and _REMOVE_MAP, EVENT_SUBSCRIBE and _UNSUBSCRIBE.
 * Return: 0, or -EBADMSG
 */
int hc_word_parse(const uint8_t *dg, size_t size, uint32_t *ret_word);

/* hc_word_build() - @buf holds HC_WORD_SIZE bytes. Return: size of the datagram */
size_t hc_word_build(uint8_t *buf, uint32_t rid, uint32_t word);

/* hc_handle_parse() - DOORBELL_UNLINK, DOORBELL_NOTIFY, QUEUEPAIR_DETACH. Return: 0, or -EBADMSG */
int hc_handle_parse(const uint8_t *dg, size_t size, struct vmci_handle *ret_handle);

/* hc_handle_build() - @buf holds HC_HANDLE_SIZE bytes. Return: size of the datagram */
size_t hc_handle_build(uint8_t *buf, uint32_t rid, struct vmci_handle handle);

/* struct hc_link - DOORBELL_LINK: byte @index of the notification bitmap stands for @handle */
struct hc_link {
	struct vmci_handle handle;
	uint64_t index;
};

/* hc_link_parse() - Return: 0, or -EBADMSG */
int hc_link_parse(const uint8_t *dg, size_t size, struct hc_link *ret_link);

/* hc_link_build() - @buf holds HC_LINK_SIZE bytes. Return: size of the datagram */
size_t hc_link_build(uint8_t *buf, const struct hc_link *link);

/**
 * struct hc_qp_alloc - QUEUEPAIR_ALLOC: create a queue pair, or attach to one
 * @handle:    its name
 * @peer:      context that may attach, or VMCI_INVALID_ID for any
 * @flags:     VMCI_QP_*
 * @produce:   bytes of the ring that the caller writes into, header page excluded
 * @consume:   bytes of the other ring
 * @page_count: entries of the page list, as the caller claims
 * @list:      the page list: borrowed from the datagram
 * @list_size: bytes that are really there
 */
struct hc_qp_alloc {
	struct vmci_handle handle;
	uint32_t peer;
	uint32_t flags;
	uint64_t produce;
	uint64_t consume;
	uint64_t page_count;
	const uint8_t *list;
	size_t list_size;
};

/* hc_qp_alloc_parse() - Return: 0, or -EBADMSG (too short for the fixed part; the list is not checked) */
int hc_qp_alloc_parse(const uint8_t *dg, size_t size, struct hc_qp_alloc *ret_alloc);

/* hc_qp_alloc_page() - entry @i of a list of 32-bit page numbers; the caller has checked @i */
static inline uint32_t hc_qp_alloc_page(const struct hc_qp_alloc *alloc, size_t i)
{
	return get_le32(alloc->list + 4 * i);
}

/**
 * hc_qp_alloc_build() - build the fixed part and @list_size bytes of list
 * @buf: holds VMCI_QPALLOC_LIST_OFFSET + @alloc->list_size bytes
 *
 * Return: size of the datagram
 */
size_t hc_qp_alloc_build(uint8_t *buf, const struct hc_qp_alloc *alloc);

/* hc_empty_build() - a hypercall without payload: GET_CONTEXT_ID. Return: size of the datagram */
size_t hc_empty_build(uint8_t *buf, uint32_t rid);

#endif /* PROTO_HYPERCALL_H */
