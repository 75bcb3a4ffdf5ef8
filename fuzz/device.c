/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Fuzzes the device: the input is a program of register accesses, config writes, guest memory that
 * changes between two reads, and calls of the host's side. After each step the device's books must
 * agree with what its ports saw.
 */
#include "device_stage.h"

#include "proto/dg.h"
#include "proto/event.h"
#include "proto/hypercall.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* --- Ports ----------------------------------------------------------------------------------- */

static void port_interrupt(void *ctx, unsigned cause)
{
	(void)ctx;
	CHECK(cause < 3);
	CHECK(s.dev->intr.enabled && s.dev->intr.imr >> cause & 1);
	s.irqs[cause]++;
}

static void port_intx(void *ctx, bool level)
{
	(void)ctx;
	CHECK(level != s.intx);
	s.intx = level;
}

/* What a host end may do in answer to a guest's datagram, or when it hears that the guest is gone. */
static void host_acts(void)
{
	uint8_t dg[64];
	uint8_t what = take8();

	if (what & 1) {
		dg_build(dg, handle_make(CID, 1), handle_make(2, 1), 32);
		memset(dg + 24, 0, 32);
		dev_deliver(s.dev, dg, 56);
	}
	if (what & 2)
		dev_ring(s.dev, handle_make(CID, what >> 4));
	if (what & 4) {
		struct owner *o = &s.owner[what >> 3 & (OWNERS - 1)];

		if (o->alive) {
			o->alive = o->mapped = false;
			dev_qp_detach(s.dev, o->handle);
		}
	}
}

static int32_t port_datagram(void *ctx, const uint8_t *dg, size_t size)
{
	struct dg_header h = dg_parse(dg);

	(void)ctx;
	CHECK(size >= VMCI_DG_HEADER_SIZE && size <= VMCI_DG_MAX_SIZE);
	CHECK(h.payload_size == size - VMCI_DG_HEADER_SIZE);
	CHECK(h.src.context == CID);
	CHECK(h.dst.context != 0 && h.dst.context != CID && h.dst.context != VMCI_INVALID_ID);
	host_acts();
	return (int32_t)size;
}

static int32_t port_doorbell(void *ctx, struct vmci_handle handle)
{
	(void)ctx;
	CHECK(handle.context != 0 && handle.context != 1 && handle.context != CID);
	host_acts();
	return VMCI_SUCCESS;
}

static void look(struct owner *o)
{
	uint64_t n;

	if (!o->mapped)
		return;
	if (!qp_ready(&o->qp, &n))
		CHECK(o->qp.consume_size == 0 || n < o->qp.consume_size);
	if (!qp_free(&o->qp, &n))
		CHECK(o->qp.produce_size == 0 || n < o->qp.produce_size);
}

static void attached(struct owner *o, bool far)
{
	CHECK(o >= s.owner && o < s.owner + OWNERS && o->alive && o->far == far);
	o->mapped = dev_qp_map(s.dev, o->handle, &o->qp) == VMCI_SUCCESS;
	CHECK(o->mapped);
	host_acts();
}

static void port_qp_attached(void *ctx, void *owner)
{
	(void)ctx;
	attached(owner, false);
}

static void port_far_attached(void *ctx, void *owner)
{
	(void)ctx;
	attached(owner, true);
}

static void gone(struct owner *o, bool far)
{
	CHECK(o >= s.owner && o < s.owner + OWNERS && o->alive && o->far == far);
	look(o);
	host_acts();
	o->alive = false;
	o->mapped = false;
}

static void port_qp_gone(void *ctx, void *owner)
{
	(void)ctx;
	gone(owner, false);
}

static void port_far_gone(void *ctx, void *owner)
{
	(void)ctx;
	gone(owner, true);
}

static int32_t port_far_find(void *ctx, const struct dev_far *far, void **ret_owner, uint32_t *ret_context)
{
	uint8_t how = take8();
	struct owner *o = &s.owner[how & (OWNERS - 1)];
	struct qp qp;

	(void)ctx;
	CHECK(far->handle.context != CID);
	CHECK(s.taken);
	host_acts();
	/* Nobody is attached to what is being looked for. */
	dev_qp_detach(s.dev, far->handle);
	CHECK(dev_qp_map(s.dev, far->handle, &qp) != VMCI_SUCCESS);
	if (how & 0x80 || o->alive)
		return how & 0x40 ? VMCI_ERROR_NOT_FOUND : VMCI_ERROR_NO_ACCESS;
	*o = (struct owner){ .alive = true, .far = true, .handle = far->handle };
	*ret_owner = o;
	*ret_context = how;
	return VMCI_SUCCESS_QUEUEPAIR_ATTACH;
}

static void port_room(void *ctx)
{
	(void)ctx;
	CHECK(!s.dev->starved);
	host_acts();
}

static void port_bell_gone(void *ctx, struct vmci_handle handle)
{
	(void)ctx;
	CHECK(!dev_has_bell(s.dev, handle));
	CHECK(dev_ring(s.dev, handle) == VMCI_ERROR_NOT_FOUND);
}

static void port_driver_gone(void *ctx)
{
	(void)ctx;
	CHECK(!s.taken && !s.dev->bells.count && !s.dev->inbox.count && !s.dev->acked);
	host_acts();
}

static void port_log(void *ctx, enum log_level level, const char *line)
{
	(void)ctx;
	CHECK(level < LOG_LEVEL_NUM);
	CHECK(strlen(line) < 256 && !strchr(line, '\n'));
}

/* --- The guest's side ---------------------------------------------------------------------------- */

static void bar_write(unsigned bar, uint64_t off, const void *buf, size_t len)
{
	s.accesses = 0;
	dev_bar_write(s.dev, bar, off, buf, len);
	CHECK(s.accesses <= MAX_ACCESSES * (1 + len / 4));
}

static void out32(bool mmio, uint32_t reg, uint32_t v)
{
	uint8_t buf[4];

	put_le32(buf, v);
	bar_write(mmio, mmio ? MMIO(reg) : reg, buf, 4);
}

static uint32_t in32(bool mmio, uint32_t reg)
{
	uint8_t buf[4];

	dev_bar_read(s.dev, mmio, mmio ? MMIO(reg) : reg, buf, 4);
	return get_le32(buf);
}

/* A send or receive of a guest with DMA must be over when the write is, whatever is in the buffer. */
static void kick(uint32_t reg, uint32_t addr)
{
	uint32_t high = reg == VMCI_REG_DATA_OUT_LOW ? s.dev->out_high : s.dev->in_high;
	bool possible =
		dev_space_is_master(&s.dev->space) && !s.dev->config.classic && addr % 4 == 0 && !high;

	s.stored_at = UINT64_MAX;
	out32(true, reg, addr);
	if (possible) {
		CHECK(s.stored_at == addr);
		CHECK(s.stored == (reg == VMCI_REG_DATA_IN_LOW));
		CHECK(reg == VMCI_REG_DATA_OUT_LOW || s.dev->intr.icr & VMCI_CAUSE_DMA_DATAGRAM);
	}
}

static void put_ram(uint32_t addr, const uint8_t *buf, size_t len)
{
	if (addr < RAM_SIZE && len <= RAM_SIZE - addr)
		memcpy(s.ram + addr, buf, len);
}

static void send(bool dma, const uint8_t *dg, size_t len)
{
	uint8_t head[VMCI_DMA_HEADER_SIZE] = { 1 };

	if (dma) {
		put_le32(head + 8, (uint32_t)len);
		put_ram(TX, head, sizeof(head));
		put_ram(TX + 24, dg, len);
		kick(VMCI_REG_DATA_OUT_LOW, TX);
	} else {
		for (size_t i = 0; i < len; i++)
			bar_write(0, VMCI_REG_DATA_OUT, dg + i, 1);
	}
	in32(dma, VMCI_REG_RESULT_LOW);
}

static struct vmci_handle some_handle(void)
{
	static const uint32_t context[] = { CID, CID, 2, 0, 1, CID + 1, VMCI_INVALID_ID, 2 };
	uint8_t v = take8();

	if ((v & 7) == 7)
		return s.owner[v >> 3].handle;
	return handle_make(context[v & 7], v >> 3);
}

static void do_call(void)
{
	uint8_t buf[HC_QUERY_MAX_SIZE];
	uint8_t what = take8();
	bool dma = what & 0x80;
	struct hc_query query = { .count = 1 };
	struct hc_link link;

	switch (what % 6) {
	case 0:
		query.count = take8() % 32;
		for (uint32_t i = 0; i < query.count; i++)
			query.rid[i] = take8();
		send(dma, buf, hc_query_build(buf, &query));
		break;
	case 1:
		send(dma, buf, hc_empty_build(buf, take8()));
		break;
	case 2:
		send(dma, buf, hc_word_build(buf, VMCI_HC_SET_NOTIFY_BITMAP, take8()));
		break;
	case 3:
		link.handle = some_handle();
		link.index = take16();
		send(dma, buf, hc_link_build(buf, &link));
		break;
	default:
		send(dma, buf, hc_handle_build(buf, take8() % 18, some_handle()));
		break;
	}
}

static void do_alloc(void)
{
	static uint8_t list[4 * 1024], buf[VMCI_QPALLOC_LIST_OFFSET + sizeof(list)];
	uint8_t how = take8();
	struct hc_qp_alloc alloc = {
		.handle = some_handle(),
		.peer = how & 1 ? VMCI_INVALID_ID : how & 2 ? take8() : 2,
		.flags = how & 4 ? take8() : 0,
		.produce = take32() % (how & 8 ? UINT32_MAX : 0x100000),
		.consume = take32() % (how & 8 ? UINT32_MAX : 0x100000),
		.list = list,
	};

	alloc.page_count = qp_page_count(alloc.produce, alloc.consume, s.dev->page_shift);
	if (alloc.page_count > 1024)
		alloc.page_count = 1024;
	alloc.list_size = 4 * alloc.page_count;
	for (size_t i = 0; i < alloc.page_count; i++)
		put_le32(list + 4 * i, (uint32_t)(i + how) % (RAM_SIZE / PAGE >> (s.dev->page_shift - 12)));
	if (how & 16)
		put_le32(list + 4 * (take16() % 1024), take32());
	if (how & 32)
		alloc.page_count += take8();
	if (how & 64)
		alloc.list_size = take16() % sizeof(list);
	send(how & 128, buf, hc_qp_alloc_build(buf, &alloc));
}

static void do_receive(void)
{
	uint8_t head[VMCI_DMA_HEADER_SIZE] = { 0 }, element[VMCI_DMA_ELEMENT_SIZE];
	uint8_t n = take8();

	put_le32(head + 4, VMCI_DMA_SG);
	put_le32(head + 8, n);
	put_ram(RX, head, sizeof(head));
	for (unsigned i = 0; i < n; i++) {
		put_le64(element, RX + PAGE + (uint64_t)take16() * 4);
		put_le64(element + 8, n > 4 ? take8() : take16() * 2u);
		put_ram(RX + 24 + 16 * i, element, sizeof(element));
	}
	kick(VMCI_REG_DATA_IN_LOW, RX);
}

/* What a driver does when it probes. */
static void do_probe(void)
{
	uint8_t how = take8(), buf[HC_WORD_SIZE], on[2] = { 7, 0 };
	bool mmio = how & 1;

	dev_config_write(s.dev, 4, on, 2);
	out32(mmio, VMCI_REG_CAPS, how & 2 ? 0x4 : in32(mmio, VMCI_REG_CAPS));
	if (mmio)
		out32(mmio, VMCI_REG_PAGE_SHIFT, 12 + 2 * (how >> 2 & 3u));
	send(mmio, buf, hc_word_build(buf, VMCI_HC_SET_NOTIFY_BITMAP, 1));
	out32(mmio, VMCI_REG_IMR, 7);
	out32(mmio, VMCI_REG_CONTROL, VMCI_CONTROL_INT_ENABLE);
}

static void do_odd_access(void)
{
	static uint8_t buf[256];
	uint8_t bar = take8();
	uint64_t off = take16(), size = dev_bar_size(s.dev, bar % 6);
	size_t len = take8();

	if (bar & 0x40)
		off += VMCI_MMIO_REGS_OFFSET - 128;
	if (!size || off >= size)
		return;
	if (len > size - off)
		len = (size_t)(size - off);
	if (bar & 0x80) {
		dev_bar_read(s.dev, bar % 6, off, buf, len);
		return;
	}
	memset(buf, 0, sizeof(buf));
	take_bytes(buf, len);
	bar_write(bar % 6, off, buf, len);
}

/* --- The host's side ------------------------------------------------------------------------------- */

static void do_deliver(void)
{
	static uint8_t dg[VMCI_DG_MAX_SIZE];
	uint8_t how = take8();
	size_t len = VMCI_DG_HEADER_SIZE + (how & 1 ? take8() : take16() % VMCI_DG_MAX_PAYLOAD);

	dg_build(dg, handle_make(how & 2 ? take8() : CID, how & 4 ? VMCI_INVALID_ID : 1),
		 handle_make(how & 8 ? 0 : 2, 0), len - VMCI_DG_HEADER_SIZE);
	for (unsigned i = 0; i <= how >> 4; i++)
		dev_deliver(s.dev, dg, len);
}

static void do_host_pair(void)
{
	uint8_t how = take8();
	struct owner *o = &s.owner[how >> 2];
	uint32_t a = take16(), b = take16();

	switch (how & 3) {
	case 0:
		if (!o->alive && dev_qp_create(s.dev, a, b, o, &o->handle) > 0)
			*o = (struct owner){ .alive = true, .handle = o->handle };
		break;
	case 1:
		if (!o->alive) {
			struct vmci_handle handle = some_handle();

			bool far = s.far && a & 1;

			if ((far ? dev_far_attach(s.dev, handle, take8(), a, b, o) :
				   dev_qp_attach(s.dev, handle, a, b, o)) > 0)
				*o = (struct owner){ .alive = true, .far = far, .handle = handle };
		}
		break;
	case 2:
		if (o->alive && !o->mapped)
			o->mapped = dev_qp_map(s.dev, o->handle, &o->qp) == VMCI_SUCCESS;
		if (o->alive)
			look(o);
		break;
	default:
		if (o->alive) {
			o->alive = o->mapped = false;
			dev_qp_detach(s.dev, o->handle);
		}
		break;
	}
}

/* --- Steps --------------------------------------------------------------------------------------------- */

static void check_books(void)
{
	const struct dev *dev = s.dev;

	CHECK(dev->pairs.memory <= LIMIT_QUEUE_MEMORY);
	CHECK(dev->pairs.count <= LIMIT_QUEUE_PAIRS);
	CHECK(s.taken <= dev->pairs.count);
	CHECK((dev->pairs.memory == 0) == (s.taken == 0));
	CHECK(s.pages <= LIMIT_QUEUE_MEMORY / PAGE + 4 * (size_t)dev->pairs.count);
	CHECK(dev->bells.count <= dev->bells.used && dev->bells.used <= LIMIT_DOORBELLS);
	CHECK(dev->inbox.bytes < VMCI_EVENT_QUEUE_MAX);
	CHECK(dev->inbox.tail - dev->inbox.head <= LIMIT_INBOX_RING);
	CHECK((dev->inbox.count == 0) == (dev->inbox.head == dev->inbox.tail));
	CHECK((dev->inbox.count == 0) == (dev->inbox.bytes == 0));
	CHECK(dev->outbox.len <= sizeof(dev->outbox.buf));
	CHECK(dev->carry->drain.begun ? dev->carry->drain.pos < dev->carry->drain.length &&
						dev->carry->drain.data <= dev->carry->drain.length :
					dev->carry->drain.pos == 0);
	CHECK(s.intx == dev->intr.level);
	CHECK(!dev->resetting);
}

static void check_empty(void)
{
	CHECK(s.taken == 0 && s.pages == 0);
	CHECK(s.dev->pairs.count == 0 && s.dev->pairs.memory == 0);
	CHECK(!s.dev->pairs.owed_first && !s.dev->pairs.owed_last);
	CHECK(s.dev->bells.count == 0 && !s.dev->bells.has_bitmap);
	CHECK(s.dev->inbox.count == 0);
	CHECK(!s.intx);
	for (unsigned i = 0; i < OWNERS; i++)
		CHECK(!s.owner[i].alive);
}

static void do_reset(void)
{
	static const uint8_t off[2] = { 3, 0 };
	bool was_master = dev_space_is_master(&s.dev->space);
	uint8_t how = take8();

	switch (how % 4) {
	case 0:
		dev_reset(s.dev);
		break;
	case 1:
		out32(how & 4, VMCI_REG_CONTROL, VMCI_CONTROL_RESET);
		break;
	case 2:
		out32(how & 4, VMCI_REG_CAPS, how >> 3);
		break;
	default:
		dev_config_write(s.dev, 4, off, 2);
		if (!was_master)
			return;
		break;
	}
	/* The registers in BAR1 are not there on a classic device. */
	if (how % 4 != 0 && how % 4 != 3 && how & 4 && s.dev->config.classic)
		return;
	check_empty();
}

static void step(void)
{
	uint8_t op = take8(), buf[256];
	uint32_t addr;
	size_t n;

	switch (op % 18) {
	case 0:
		n = take8();
		out32(n & 0x80, (uint32_t)n & 0x3c, take32());
		break;
	case 1:
		n = take8();
		in32(n & 0x80, (uint32_t)n & 0x3c);
		break;
	case 2:
		do_odd_access();
		break;
	case 3:
		n = take_bytes(buf, take8());
		for (size_t i = 0; i < n; i++)
			bar_write(0, VMCI_REG_DATA_OUT, buf + i, 1);
		break;
	case 4:
		for (n = take16(); n && s.drained < MAX_DRAINED; n--, s.drained++)
			dev_bar_read(s.dev, 0, VMCI_REG_DATA_IN, buf, 1);
		break;
	case 5:
		n = take8();
		dev_config_write(s.dev, n, buf, take_bytes(buf, 1 + take8() % 8));
		break;
	case 6:
		dev_config_read(s.dev, take16(), buf, take8());
		break;
	case 7:
		addr = take32() % RAM_SIZE;
		n = take_bytes(buf, take8());
		put_ram(addr, buf, n);
		break;
	case 8:
		n = take8();
		memset(buf, 0, sizeof(buf));
		take_bytes(buf, n);
		send(op & 0x80, buf, n);
		break;
	case 9:
		do_call();
		break;
	case 10:
		do_alloc();
		break;
	case 11:
		if (op & 0x80)
			kick(VMCI_REG_DATA_IN_LOW, take32() % (2 * RAM_SIZE));
		else
			do_receive();
		break;
	case 12:
		do_deliver();
		break;
	case 13:
		dev_ring(s.dev, some_handle());
		break;
	case 14:
		do_host_pair();
		break;
	case 15:
		do_reset();
		break;
	case 16:
		n = take8();
		s.mutations = n & 0x0f;
		s.limit = n & 0x10 ? (uint64_t)take8() * PAGE / 2 : RAM_SIZE;
		if (s.limit > RAM_SIZE)
			s.limit = RAM_SIZE;
		s.no_memory = n & 0x20;
		break;
	default:
		do_probe();
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct dev_ports ports = {
		.ctx = &s,
		.mem = { .ops = &ram_ops, .ctx = &s },
		.interrupt = port_interrupt,
		.intx = port_intx,
		.datagram = port_datagram,
		.doorbell = port_doorbell,
		.qp_attached = port_qp_attached,
		.qp_gone = port_qp_gone,
		.log = port_log,
		.room = port_room,
		.bell_gone = port_bell_gone,
		.driver_gone = port_driver_gone,
	};
	struct dev_config config = { .cid = CID };
	uint8_t how;

	memset(&s, 0, sizeof(s));
	s.data = data;
	s.size = size;
	s.limit = RAM_SIZE;
	how = take8();
	config.classic = how & 1;
	config.irq = how & 2 ? DEV_IRQ_MSI : DEV_IRQ_MSIX;
	config.intx = how & 4;
	s.far = how & 8;
	config.window = how & 16 ? PAGE : 0;
	if (s.far) {
		ports.far_find = port_far_find;
		ports.far_attached = port_far_attached;
		ports.far_gone = port_far_gone;
	}
	CHECK(!dev_new(&config, &ports, &s.dev));
	while (s.size) {
		step();
		check_books();
	}
	dev_reset(s.dev);
	check_books();
	check_empty();
	s.dev = dev_free(s.dev);
	CHECK(!s.dev && !s.taken);
	return 0;
}
