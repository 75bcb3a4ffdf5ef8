/* SPDX-License-Identifier: BSD-2-Clause */
/* Hypercall payloads. VMCI reference, 4.3; offsets are those of its tables, from the datagram's start. */
#include "proto/hypercall.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "proto/dg.h"

static const char *const names[] = {
	[VMCI_HC_RESOURCES_QUERY] = "RESOURCES_QUERY",
	[VMCI_HC_GET_CONTEXT_ID] = "GET_CONTEXT_ID",
	[VMCI_HC_SET_NOTIFY_BITMAP] = "SET_NOTIFY_BITMAP",
	[VMCI_HC_DOORBELL_LINK] = "DOORBELL_LINK",
	[VMCI_HC_DOORBELL_UNLINK] = "DOORBELL_UNLINK",
	[VMCI_HC_DOORBELL_NOTIFY] = "DOORBELL_NOTIFY",
	[VMCI_HC_DATAGRAM_REQUEST_MAP] = "DATAGRAM_REQUEST_MAP",
	[VMCI_HC_DATAGRAM_REMOVE_MAP] = "DATAGRAM_REMOVE_MAP",
	[VMCI_HC_EVENT_SUBSCRIBE] = "EVENT_SUBSCRIBE",
	[VMCI_HC_EVENT_UNSUBSCRIBE] = "EVENT_UNSUBSCRIBE",
	[VMCI_HC_QUEUEPAIR_ALLOC] = "QUEUEPAIR_ALLOC",
	[VMCI_HC_QUEUEPAIR_DETACH] = "QUEUEPAIR_DETACH",
	[VMCI_HC_UNITY_PBRPC] = "UNITY_PBRPC",
	[VMCI_HC_STREAM] = "STREAM",
	[VMCI_HC_NUM - 1] = "RPC",
};
static_assert(sizeof(names) / sizeof(names[0]) == VMCI_HC_NUM, "a name for each hypercall");

const char *hc_name(uint32_t rid)
{
	return rid < VMCI_HC_NUM && names[rid] ? names[rid] : "?";
}

/* Start a datagram of @size bytes to hypercall @rid: zeroes, then the header. */
static size_t begin(uint8_t *buf, uint32_t rid, size_t size)
{
	memset(buf, 0, size);
	dg_build(buf, handle_make(VMCI_CID_HYPERVISOR, rid), handle_make(VMCI_INVALID_ID, VMCI_INVALID_ID),
		 size - VMCI_DG_HEADER_SIZE);
	return size;
}

int hc_query_parse(const uint8_t *dg, size_t size, struct hc_query *ret_query)
{
	uint32_t p_count;

	if (size < 32)
		return -EBADMSG;
	p_count = get_le32(dg + 24);
	if (p_count > VMCI_RESOURCES_MAX || size - 32 < 4 * (size_t)p_count)
		return -EBADMSG;
	ret_query->count = p_count;
	for (uint32_t i = 0; i < p_count; i++)
		ret_query->rid[i] = get_le32(dg + 32 + 4 * (size_t)i);
	return 0;
}

size_t hc_query_build(uint8_t *buf, const struct hc_query *query)
{
	size_t size = begin(buf, VMCI_HC_RESOURCES_QUERY, 32 + 4 * (size_t)query->count);

	put_le32(buf + 24, query->count);
	for (uint32_t i = 0; i < query->count; i++)
		put_le32(buf + 32 + 4 * (size_t)i, query->rid[i]);
	return size;
}

int hc_word_parse(const uint8_t *dg, size_t size, uint32_t *ret_word)
{
	if (size < HC_WORD_SIZE)
		return -EBADMSG;
	*ret_word = get_le32(dg + 24);
	return 0;
}

size_t hc_word_build(uint8_t *buf, uint32_t rid, uint32_t word)
{
	size_t size = begin(buf, rid, HC_WORD_SIZE);

	put_le32(buf + 24, word);
	return size;
}

int hc_handle_parse(const uint8_t *dg, size_t size, struct vmci_handle *ret_handle)
{
	if (size < HC_HANDLE_SIZE)
		return -EBADMSG;
	*ret_handle = handle_get(dg + 24);
	return 0;
}

size_t hc_handle_build(uint8_t *buf, uint32_t rid, struct vmci_handle handle)
{
	size_t size = begin(buf, rid, HC_HANDLE_SIZE);

	handle_put(buf + 24, handle);
	return size;
}

int hc_link_parse(const uint8_t *dg, size_t size, struct hc_link *ret_link)
{
	if (size < HC_LINK_SIZE)
		return -EBADMSG;
	*ret_link = (struct hc_link){ .handle = handle_get(dg + 24), .index = get_le64(dg + 32) };
	return 0;
}

size_t hc_link_build(uint8_t *buf, const struct hc_link *link)
{
	size_t size = begin(buf, VMCI_HC_DOORBELL_LINK, HC_LINK_SIZE);

	handle_put(buf + 24, link->handle);
	put_le64(buf + 32, link->index);
	return size;
}

int hc_qp_alloc_parse(const uint8_t *dg, size_t size, struct hc_qp_alloc *ret_alloc)
{
	if (size < VMCI_QPALLOC_LIST_OFFSET)
		return -EBADMSG;
	*ret_alloc = (struct hc_qp_alloc){
		.handle = handle_get(dg + 24),
		.peer = get_le32(dg + 32),
		.flags = get_le32(dg + 36),
		.produce = get_le64(dg + 40),
		.consume = get_le64(dg + 48),
		.page_count = get_le64(dg + 56),
		.list = dg + VMCI_QPALLOC_LIST_OFFSET,
		.list_size = size - VMCI_QPALLOC_LIST_OFFSET,
	};
	return 0;
}

size_t hc_qp_alloc_build(uint8_t *buf, const struct hc_qp_alloc *alloc)
{
	size_t size = begin(buf, VMCI_HC_QUEUEPAIR_ALLOC, VMCI_QPALLOC_LIST_OFFSET + alloc->list_size);

	handle_put(buf + 24, alloc->handle);
	put_le32(buf + 32, alloc->peer);
	put_le32(buf + 36, alloc->flags);
	put_le64(buf + 40, alloc->produce);
	put_le64(buf + 48, alloc->consume);
	put_le64(buf + 56, alloc->page_count);
	if (alloc->list_size)
		memcpy(buf + VMCI_QPALLOC_LIST_OFFSET, alloc->list, alloc->list_size);
	return size;
}

size_t hc_empty_build(uint8_t *buf, uint32_t rid)
{
	return begin(buf, rid, VMCI_DG_HEADER_SIZE);
}
