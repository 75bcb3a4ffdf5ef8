/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * DOC: Theory of operation
 *
 * The guest describes a transfer by a header in its memory, followed by inline data or by a list
 * of places. VMCI reference, 3.3 and 3.6. Header, list and datagram are each copied once; what is
 * checked is the copy. Both transfers are over when the register write is.
 *
 * A driver that sends spins until busy is 0, with interrupts off, and one that receives may spin until
 * busy is 1. So whatever is wrong with a buffer, it is completed: the RESULT register first (drivers
 * read the result there), then the result in the header, then busy, which releases the guest.
 */
#include "device/priv.h"

#include <string.h>

#include "base/bytes.h"
#include "base/checked.h"
#include "proto/dg.h"

#define RESULT_OFFSET 16
#define DONE_SENDING 0u
#define DONE_RECEIVING 1u

struct head {
	uint32_t busy;
	uint32_t opcode;
	uint32_t size;
};

struct element {
	uint64_t addr;
	uint64_t len;
};

/**
 * struct places - where in guest memory the data of a transfer lies
 * @count: elements of @element, whose address ranges do not wrap
 * @total: sum of their lengths
 */
struct places {
	unsigned count;
	uint64_t total;
	struct element element[LIMIT_DMA_ELEMENTS];
};

static int mem_read(struct dev *dev, uint64_t addr, void *buf, size_t len)
{
	return dev->ports.mem.ops->read(dev->ports.mem.ctx, addr, buf, len);
}

static int mem_write(struct dev *dev, uint64_t addr, const void *buf, size_t len)
{
	return dev->ports.mem.ops->write(dev->ports.mem.ctx, addr, buf, len);
}

/* Tell the guest that the transfer is over. What cannot be written is not there to be waited for. */
static void complete(struct dev *dev, uint64_t addr, int64_t result, uint32_t busy)
{
	uint8_t word[8];
	uint64_t end;

	if (!add64(addr, VMCI_DMA_HEADER_SIZE, &end))
		return;
	put_le64(word, (uint64_t)result);
	mem_write(dev, addr + RESULT_OFFSET, word, sizeof(word));
	if (addr % 4 == 0) {
		dev->ports.mem.ops->store32(dev->ports.mem.ctx, addr, busy);
	} else {
		put_le32(word, busy);
		mem_write(dev, addr, word, 4);
	}
}

static bool read_head(struct dev *dev, uint64_t addr, struct head *ret_head)
{
	uint8_t buf[VMCI_DMA_HEADER_SIZE];
	uint64_t end;

	if (!add64(addr, VMCI_DMA_HEADER_SIZE, &end) || mem_read(dev, addr, buf, sizeof(buf)))
		return false;
	*ret_head = (struct head){
		.busy = get_le32(buf),
		.opcode = get_le32(buf + 4),
		.size = get_le32(buf + 8),
	};
	return true;
}

static bool add_place(struct places *places, uint64_t g_addr, uint64_t g_len)
{
	uint64_t end;

	if (!add64(g_addr, g_len, &end) || !add64(places->total, g_len, &places->total))
		return false;
	places->element[places->count++] = (struct element){ .addr = g_addr, .len = g_len };
	return true;
}

/* The list must lie in the page of its header: reference, 3.3. */
static bool read_list(struct dev *dev, uint64_t addr, uint32_t g_count, struct places *places)
{
	uint64_t page = UINT64_C(1) << dev->page_shift;
	uint64_t list = addr + VMCI_DMA_HEADER_SIZE;
	uint8_t raw[LIMIT_DMA_ELEMENTS * VMCI_DMA_ELEMENT_SIZE];

	if (g_count == 0 || g_count > LIMIT_DMA_ELEMENTS ||
	    !range_fits((addr & (page - 1)) + VMCI_DMA_HEADER_SIZE, g_count * VMCI_DMA_ELEMENT_SIZE, page))
		return false;
	if (mem_read(dev, list, raw, g_count * VMCI_DMA_ELEMENT_SIZE))
		return false;
	for (uint32_t i = 0; i < g_count; i++) {
		const uint8_t *p = raw + i * VMCI_DMA_ELEMENT_SIZE;

		if (!add_place(places, get_le64(p), get_le64(p + 8)))
			return false;
	}
	return true;
}

/* Find out where the data lies that @head describes. */
static bool read_places(struct dev *dev, uint64_t addr, const struct head *head, struct places *places)
{
	places->count = 0;
	places->total = 0;
	if (head->opcode == VMCI_DMA_INLINE)
		return add_place(places, addr + VMCI_DMA_HEADER_SIZE, head->size);
	return head->opcode == VMCI_DMA_SG && read_list(dev, addr, head->size, places);
}

/* Copy all of @places, which fits, into @buf. */
static bool gather(struct dev *dev, const struct places *places, uint8_t *buf)
{
	for (unsigned i = 0; i < places->count; i++) {
		const struct element *e = &places->element[i];

		if (e->len && mem_read(dev, e->addr, buf, (size_t)e->len))
			return false;
		buf += e->len;
	}
	return true;
}

/* Say once why a send fails. */
static int64_t refuse(struct dev *dev, uint64_t addr, const char *why)
{
	dev_note(dev, DEV_NOTE_SEND, LOG_LEVEL_WARN, "send buffer at 0x%llx: %s", (unsigned long long)addr,
		 why);
	return VMCI_ERROR_INVALID_ARGS;
}

/*
 * Memory that is not shared with us shows the zeroes of an untouched file instead of what the
 * guest has written; the first buffer of a driver gives it away.
 */
static void check_shared(struct dev *dev, const struct head *head)
{
	if (dev->fresh && head->busy == 0 && head->size == 0)
		dev_note(dev, DEV_NOTE_NOT_SHARED, LOG_LEVEL_ERR,
			 "guest memory reads as zeroes: is it shared? Its memory backend needs share=on");
	dev->fresh = false;
}

static int64_t send(struct dev *dev, uint64_t addr)
{
	struct places places;
	struct dg_header h;
	struct head head;

	if (!read_head(dev, addr, &head))
		return refuse(dev, addr, "not guest memory");
	check_shared(dev, &head);
	if (!read_places(dev, addr, &head, &places))
		return refuse(dev, addr, "bad header or list");
	if (places.total < VMCI_DG_HEADER_SIZE || places.total > sizeof(dev->tx))
		return refuse(dev, addr, "bad size");
	if (!gather(dev, &places, dev->tx))
		return refuse(dev, addr, "data is not guest memory");
	h = dg_parse(dev->tx);
	if (h.payload_size != places.total - VMCI_DG_HEADER_SIZE)
		return refuse(dev, addr, "sizes of datagram and buffer differ");
	if (places.total > VMCI_DG_MAX_SIZE && h.dst.context != VMCI_CID_HYPERVISOR)
		return refuse(dev, addr, "bad size");
	return dev_send(dev, dev->tx, (size_t)places.total);
}

void dev_dma_send(struct dev *dev, uint32_t low)
{
	uint64_t addr = (uint64_t)dev->out_high << 32 | low;

	if (!dev_can_dma(dev)) {
		dev->result = VMCI_ERROR_UNAVAILABLE;
		return;
	}
	dev->result = send(dev, addr);
	complete(dev, addr, dev->result, DONE_SENDING);
}

/* struct cursor - how far @places are filled */
struct cursor {
	const struct places *places;
	unsigned i;
	uint64_t off;
};

/* Append @len bytes, for which there is room. */
static bool scatter(struct dev *dev, struct cursor *c, const uint8_t *buf, size_t len)
{
	while (len) {
		const struct element *e = &c->places->element[c->i];
		size_t n = e->len - c->off < len ? (size_t)(e->len - c->off) : len;

		if (n && mem_write(dev, e->addr + c->off, buf, n))
			return false;
		buf += n;
		len -= n;
		c->off += n;
		if (c->off == e->len) {
			c->i++;
			c->off = 0;
		}
	}
	return true;
}

/* Write the @len oldest bytes of the queue, and the end marker if there is room for it. */
static bool fill(struct dev *dev, const struct places *places, size_t len)
{
	struct cursor c = { .places = places };
	uint8_t marker[VMCI_DG_HEADER_SIZE];

	for (size_t off = 0, n; off < len; off += n) {
		const uint8_t *p = dev_inbox_view(&dev->inbox, off, len - off, &n);

		if (!scatter(dev, &c, p, n))
			return false;
	}
	if (places->total - len < sizeof(marker))
		return true;
	memset(marker, 0xff, sizeof(marker));
	return scatter(dev, &c, marker, sizeof(marker));
}

/* Return: bytes delivered, or VMCI_ERROR_INVALID_ARGS and nothing is taken from the queue */
static int64_t receive(struct dev *dev, uint64_t addr)
{
	struct places places;
	struct head head;
	const char *why;
	uint64_t room;
	size_t len;

	if (!read_head(dev, addr, &head)) {
		why = "not guest memory";
	} else if (!read_places(dev, addr, &head, &places)) {
		why = "bad header or list";
	} else {
		room = places.total < LIMIT_INBOX_RING ? places.total : LIMIT_INBOX_RING;
		len = dev_inbox_fit(&dev->inbox, (size_t)room);
		if (fill(dev, &places, len)) {
			dev_inbox_pop(&dev->inbox, len);
			return (int64_t)len;
		}
		why = "area is not guest memory";
	}
	dev_note(dev, DEV_NOTE_RECEIVE, LOG_LEVEL_WARN, "receive buffer at 0x%llx: %s",
		 (unsigned long long)addr, why);
	return VMCI_ERROR_INVALID_ARGS;
}

void dev_dma_receive(struct dev *dev, uint32_t low)
{
	uint64_t addr = (uint64_t)dev->in_high << 32 | low;
	int64_t r;

	if (!dev_can_dma(dev))
		return;
	r = receive(dev, addr);
	complete(dev, addr, r, DONE_RECEIVING);
	dev_intr_raise(dev, VMCI_CAUSE_DMA_DATAGRAM);
	if (r <= 0)
		return;
	dev_taken(dev);
	if (dev->inbox.count)
		dev_intr_raise(dev, VMCI_CAUSE_DATAGRAM);
}
