/* SPDX-License-Identifier: BSD-2-Clause */
#include "rig.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

struct mem_pages {
	size_t n;
	unsigned page_shift;
	uint64_t addr[];
};

/* --- Guest memory ---------------------------------------------------------------------- */

static bool is_ram(const struct rig *rig, uint64_t addr, size_t len)
{
	uint64_t size = rig->unmapped ? rig->unmapped : RAM_SIZE;

	return addr <= size && len <= size - addr;
}

static int ram_read(void *ctx, uint64_t addr, void *buf, size_t len)
{
	struct rig *rig = ctx;

	rig->reads++;
	rig->last_read = addr;
	if (!is_ram(rig, addr, len))
		return -EFAULT;
	memcpy(buf, rig->ram + addr, len);
	if (rig->after_read)
		rig->after_read(rig, addr, len);
	return 0;
}

static int ram_write(void *ctx, uint64_t addr, const void *buf, size_t len)
{
	struct rig *rig = ctx;

	rig->writes++;
	if (!is_ram(rig, addr, len))
		return -EFAULT;
	if (rig->before_write)
		rig->before_write(rig, addr, len);
	memcpy(rig->ram + addr, buf, len);
	return 0;
}

static int ram_store32(void *ctx, uint64_t addr, uint32_t v)
{
	uint8_t word[4];

	assert_int_equal(addr % 4, 0);
	put_le32(word, v);
	return ram_write(ctx, addr, word, sizeof(word));
}

static int ram_take(void *ctx, const uint64_t *addr, size_t n, unsigned page_shift,
		    struct mem_pages **ret_pages)
{
	struct rig *rig = ctx;
	struct mem_pages *pages;

	if (rig->take_error)
		return rig->take_error;
	for (size_t i = 0; i < n; i++) {
		assert_int_equal(addr[i] & ((UINT64_C(1) << page_shift) - 1), 0);
		if (!is_ram(rig, addr[i], (size_t)1 << page_shift))
			return -EFAULT;
	}
	pages = malloc(sizeof(*pages) + n * sizeof(pages->addr[0]));
	assert_non_null(pages);
	pages->n = n;
	pages->page_shift = page_shift;
	memcpy(pages->addr, addr, n * sizeof(pages->addr[0]));
	rig->taken++;
	rig->pages_taken += n;
	*ret_pages = pages;
	return 0;
}

static void ram_drop(void *ctx, struct mem_pages *pages)
{
	struct rig *rig = ctx;

	if (!pages)
		return;
	rig->taken--;
	rig->pages_taken -= pages->n;
	free(pages);
}

static uint8_t *at(struct rig *rig, struct mem_pages *pages, size_t off)
{
	size_t page = off >> pages->page_shift;

	assert_true(page < pages->n);
	return rig->ram + pages->addr[page] + (off & (((size_t)1 << pages->page_shift) - 1));
}

bool rig_address(struct rig *rig, const struct mem_pages *pages, size_t off, uint64_t *ret_addr)
{
	if (rig->pages_error || off >> pages->page_shift >= pages->n)
		return false;
	*ret_addr = pages->addr[off >> pages->page_shift] + (off & (((size_t)1 << pages->page_shift) - 1));
	return is_ram(rig, *ret_addr, 1);
}

static int ram_load64(void *ctx, struct mem_pages *pages, size_t off, uint64_t *ret)
{
	struct rig *rig = ctx;

	if (rig->pages_error)
		return rig->pages_error;
	*ret = get_le64(at(ctx, pages, off));
	return 0;
}

static int ram_store64(void *ctx, struct mem_pages *pages, size_t off, uint64_t v)
{
	struct rig *rig = ctx;

	if (rig->format_error || rig->pages_error)
		return rig->format_error ? rig->format_error : rig->pages_error;
	put_le64(at(rig, pages, off), v);
	return 0;
}

static int ram_spans(void *ctx, struct mem_pages *pages, size_t off, size_t len, struct mem_span *spans,
		     int max)
{
	size_t room = ((size_t)1 << pages->page_shift) - (off & (((size_t)1 << pages->page_shift) - 1));

	assert_true(max >= 1);
	if (((struct rig *)ctx)->pages_error)
		return ((struct rig *)ctx)->pages_error;
	spans[0] = (struct mem_span){ .base = at(ctx, pages, off), .len = len < room ? len : room };
	return 1;
}

static const struct mem_ops ram_ops = {
	.read = ram_read,
	.write = ram_write,
	.store32 = ram_store32,
	.take = ram_take,
	.drop = ram_drop,
	.load64 = ram_load64,
	.store64 = ram_store64,
	.spans = ram_spans,
};

/* --- Ports -------------------------------------------------------------------------------- */

static void port_interrupt(void *ctx, unsigned cause)
{
	struct rig *rig = ctx;

	assert_true(cause < 3);
	rig->irqs[cause]++;
}

static void port_intx(void *ctx, bool level)
{
	struct rig *rig = ctx;

	assert_true(level != rig->intx);
	rig->intx = level;
	rig->intx_changes++;
}

static int32_t port_datagram(void *ctx, const uint8_t *dg, size_t size)
{
	struct rig *rig = ctx;

	if (rig->ports)
		return rig->ports->datagram(rig->ports->ctx, dg, size);
	assert_true(size >= VMCI_DG_HEADER_SIZE && size <= VMCI_DG_MAX_SIZE);
	assert_int_equal(dg_parse(dg).payload_size, size - VMCI_DG_HEADER_SIZE);
	assert_int_equal(dg_parse(dg).src.context, CID);
	rig->datagrams++;
	memcpy(rig->dg, dg, size);
	rig->dg_size = size;
	if (rig->on_datagram)
		rig->on_datagram(rig);
	return rig->dg_result ? rig->dg_result : (int32_t)size;
}

static int32_t port_doorbell(void *ctx, struct vmci_handle handle)
{
	struct rig *rig = ctx;

	if (rig->ports)
		return rig->ports->doorbell(rig->ports->ctx, handle);
	rig->doorbells++;
	rig->doorbell = handle;
	return VMCI_SUCCESS;
}

static void port_qp_attached(void *ctx, void *owner)
{
	struct rig *rig = ctx;

	rig->attached++;
	rig->owner = owner;
}

static void port_qp_gone(void *ctx, void *owner)
{
	struct rig *rig = ctx;

	rig->gone++;
	rig->owner = owner;
	rig->pages_at_gone = rig->pages_taken;
	if (rig->on_gone)
		rig->on_gone(rig, owner);
}

static void port_room(void *ctx)
{
	struct rig *rig = ctx;

	if (rig->ports) {
		rig->ports->room(rig->ports->ctx);
		return;
	}
	rig->rooms++;
	if (rig->on_room)
		rig->on_room(rig);
}

static void port_bell_gone(void *ctx, struct vmci_handle handle)
{
	struct rig *rig = ctx;

	if (rig->ports) {
		rig->ports->bell_gone(rig->ports->ctx, handle);
		return;
	}
	assert_false(dev_has_bell(rig->dev, handle));
	rig->bells_gone++;
	rig->bell_gone = handle;
	if (rig->on_bell_gone)
		rig->on_bell_gone(rig, handle);
}

static void port_driver_gone(void *ctx)
{
	struct rig *rig = ctx;

	if (rig->ports) {
		rig->ports->driver_gone(rig->ports->ctx);
		return;
	}
	assert_int_equal(rig->dev->pairs.count, 0);
	assert_int_equal(rig->dev->bells.count, 0);
	assert_int_equal(rig->dev->inbox.count, 0);
	rig->drivers_gone++;
	if (rig->on_driver_gone)
		rig->on_driver_gone(rig);
}

static int32_t port_far_find(void *ctx, const struct dev_far *far, void **ret_owner, uint32_t *ret_context)
{
	struct rig *rig = ctx;

	if (rig->ports)
		return rig->ports->far_find(rig->ports->ctx, far, ret_owner, ret_context);
	rig->finds++;
	rig->find = *far;
	rig->pages_at_find = rig->pages_taken;
	if (rig->find_result < 0)
		return rig->find_result;
	*ret_owner = &rig->find;
	*ret_context = rig->find_context;
	return VMCI_SUCCESS_QUEUEPAIR_ATTACH;
}

static void port_far_attached(void *ctx, void *owner)
{
	struct rig *rig = ctx;
	struct qp qp;

	if (rig->ports) {
		rig->ports->far_attached(rig->ports->ctx, owner);
		return;
	}
	rig->far_attached++;
	rig->owner = owner;
	assert_int_equal(dev_qp_map(rig->dev, rig->find.handle, &qp), VMCI_SUCCESS);
}

static void port_far_gone(void *ctx, void *owner)
{
	struct rig *rig = ctx;

	if (rig->ports) {
		rig->ports->far_gone(rig->ports->ctx, owner);
		return;
	}
	rig->far_gone++;
	rig->owner = owner;
	rig->pages_at_gone = rig->pages_taken;
	if (rig->on_gone)
		rig->on_gone(rig, owner);
}

static void port_log(void *ctx, enum log_level level, const char *line)
{
	struct rig *rig = ctx;

	assert_true(level < LOG_LEVEL_NUM);
	assert_null(strchr(line, '\n'));
	rig->lines++;
	snprintf(rig->line, sizeof(rig->line), "%s", line);
	if (strlen(rig->text) + strlen(line) + 2 <= sizeof(rig->text))
		strcat(strcat(rig->text, line), "\n");
}

/* --- Making one ------------------------------------------------------------------------------ */

static void make_ram(struct rig *rig)
{
	rig->ram_fd = memfd_create("guest", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	assert_true(rig->ram_fd >= 0);
	assert_int_equal(ftruncate(rig->ram_fd, RAM_SIZE), 0);
	assert_int_equal(fcntl(rig->ram_fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL), 0);
	rig->ram = mmap(NULL, RAM_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, rig->ram_fd, 0);
	assert_true(rig->ram != MAP_FAILED);
}

static struct rig *make(const struct dev_config *config, bool far)
{
	struct rig *rig = calloc(1, sizeof(*rig));
	struct dev_ports ports = {
		.ctx = rig,
		.mem = { .ops = &ram_ops, .ctx = rig },
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
		.far_find = far ? port_far_find : NULL,
		.far_attached = far ? port_far_attached : NULL,
		.far_gone = far ? port_far_gone : NULL,
	};

	assert_non_null(rig);
	make_ram(rig);
	assert_int_equal(dev_new(config, &ports, &rig->dev), 0);
	set_command(rig, COMMAND_ON);
	return rig;
}

struct rig *rig_new(const struct dev_config *config)
{
	return make(config, false);
}

void rig_free(struct rig *rig)
{
	check_books(rig);
	rig->on_gone = NULL;
	rig->on_room = NULL;
	rig->on_bell_gone = NULL;
	rig->on_driver_gone = NULL;
	rig->dev = dev_free(rig->dev);
	assert_null(rig->dev);
	assert_int_equal(rig->taken, 0);
	assert_int_equal(rig->pages_taken, 0);
	assert_false(rig->intx);
	munmap(rig->ram, RAM_SIZE);
	close(rig->ram_fd);
	free(rig);
}

static struct rig *open_path(bool mmio)
{
	const struct dev_config config = { .cid = CID };
	struct rig *rig = rig_new(&config);

	rig->mmio = mmio;
	rig_probe(rig);
	return rig;
}

struct rig *rig_open_mmio(void)
{
	return open_path(true);
}

struct rig *rig_open_ports(void)
{
	return open_path(false);
}

int setup_mmio(void **state)
{
	*state = rig_open_mmio();
	return 0;
}

int setup_ports(void **state)
{
	*state = rig_open_ports();
	return 0;
}

int setup_far(void **state)
{
	const struct dev_config config = { .cid = CID };
	struct rig *rig = make(&config, true);

	rig->mmio = true;
	rig->find_context = 2;
	rig_probe(rig);
	*state = rig;
	return 0;
}

int setup_blank(void **state)
{
	const struct dev_config config = { .cid = CID };
	struct rig *rig = rig_new(&config);

	rig->mmio = true;
	*state = rig;
	return 0;
}

int teardown(void **state)
{
	rig_free(*state);
	return 0;
}

/* --- The guest's side -------------------------------------------------------------------------- */

uint32_t in32(struct rig *rig, uint32_t reg)
{
	uint8_t buf[4];

	if (rig->mmio)
		dev_bar_read(rig->dev, 1, MMIO(reg), buf, sizeof(buf));
	else
		dev_bar_read(rig->dev, 0, reg, buf, sizeof(buf));
	return get_le32(buf);
}

void out32(struct rig *rig, uint32_t reg, uint32_t v)
{
	uint8_t buf[4];

	put_le32(buf, v);
	if (rig->mmio)
		dev_bar_write(rig->dev, 1, MMIO(reg), buf, sizeof(buf));
	else
		dev_bar_write(rig->dev, 0, reg, buf, sizeof(buf));
}

uint8_t inb(struct rig *rig, uint32_t reg)
{
	uint8_t v;

	dev_bar_read(rig->dev, 0, reg, &v, 1);
	return v;
}

void outb(struct rig *rig, uint32_t reg, uint8_t v)
{
	dev_bar_write(rig->dev, 0, reg, &v, 1);
}

uint16_t config16(struct rig *rig, unsigned off)
{
	uint8_t buf[2];

	dev_config_read(rig->dev, off, buf, sizeof(buf));
	return get_le16(buf);
}

uint32_t config32(struct rig *rig, unsigned off)
{
	uint8_t buf[4];

	dev_config_read(rig->dev, off, buf, sizeof(buf));
	return get_le32(buf);
}

void config_put32(struct rig *rig, unsigned off, uint32_t v)
{
	uint8_t buf[4];

	put_le32(buf, v);
	dev_config_write(rig->dev, off, buf, sizeof(buf));
}

void set_command(struct rig *rig, uint16_t v)
{
	uint8_t buf[2];

	put_le16(buf, v);
	dev_config_write(rig->dev, 4, buf, sizeof(buf));
}

void rig_probe(struct rig *rig)
{
	out32(rig, VMCI_REG_CAPS, in32(rig, VMCI_REG_CAPS));
	if (rig->mmio) {
		out32(rig, VMCI_REG_PAGE_SHIFT, 12);
		out32(rig, VMCI_REG_DATA_IN_HIGH, 0);
		out32(rig, VMCI_REG_DATA_OUT_HIGH, 0);
	}
	assert_int_equal(call_word(rig, VMCI_HC_SET_NOTIFY_BITMAP, BITMAP_PPN), 0);
	out32(rig, VMCI_REG_IMR, rig->mmio ? 0x7 : 0x3);
	out32(rig, VMCI_REG_CONTROL, VMCI_CONTROL_INT_ENABLE);
}

int32_t send_ports(struct rig *rig, const uint8_t *dg, size_t size)
{
	uint8_t buf[4];

	for (size_t i = 0; i < size; i++)
		outb(rig, VMCI_REG_DATA_OUT, dg[i]);
	dev_bar_read(rig->dev, 0, VMCI_REG_RESULT_LOW, buf, sizeof(buf));
	return (int32_t)get_le32(buf);
}

int32_t send_dma(struct rig *rig, const uint8_t *dg, size_t size)
{
	uint8_t low[4], result[4];

	put_dma(rig, TX, 1, VMCI_DMA_INLINE, (uint32_t)size);
	memcpy(rig->ram + TX + 24, dg, size);
	put_le32(low, TX);
	dev_bar_write(rig->dev, 1, MMIO(VMCI_REG_DATA_OUT_LOW), low, sizeof(low));
	assert_int_equal(get_le32(rig->ram + TX), 0);
	dev_bar_read(rig->dev, 1, MMIO(VMCI_REG_RESULT_LOW), result, sizeof(result));
	assert_int_equal(get_le32(rig->ram + TX + 16), get_le32(result));
	return (int32_t)get_le32(result);
}

int32_t send_dg(struct rig *rig, const uint8_t *dg, size_t size)
{
	return rig->mmio ? send_dma(rig, dg, size) : send_ports(rig, dg, size);
}

void put_dma(struct rig *rig, uint64_t addr, uint32_t busy, uint32_t opcode, uint32_t size)
{
	put_le32(rig->ram + addr, busy);
	put_le32(rig->ram + addr + 4, opcode);
	put_le32(rig->ram + addr + 8, size);
	put_le32(rig->ram + addr + 12, 0);
	put_le64(rig->ram + addr + 16, 0x5555555555555555u);
}

void put_element(struct rig *rig, uint64_t addr, unsigned i, uint64_t where, uint64_t len)
{
	put_le64(rig->ram + addr + 24 + 16 * i, where);
	put_le64(rig->ram + addr + 32 + 16 * i, len);
}

const uint8_t *receive_dma(struct rig *rig)
{
	unsigned before = rig->irqs[2];

	put_dma(rig, RX, 0, VMCI_DMA_SG, 1);
	put_element(rig, RX, 0, AREA, AREA_SIZE);
	out32(rig, VMCI_REG_DATA_IN_LOW, RX);
	assert_int_equal(get_le32(rig->ram + RX), 1);
	assert_int_equal(rig->irqs[2], before + 1);
	return rig->ram + AREA;
}

size_t make_dg(uint8_t *buf, struct vmci_handle dst, struct vmci_handle src, size_t size, unsigned seed)
{
	dg_build(buf, dst, src, size - VMCI_DG_HEADER_SIZE);
	for (size_t i = VMCI_DG_HEADER_SIZE; i < size; i++)
		buf[i] = (uint8_t)(seed * 31 + i * 7);
	return size;
}

int32_t deliver(struct rig *rig, size_t size, unsigned seed)
{
	static uint8_t buf[VMCI_DG_MAX_SIZE];

	make_dg(buf, handle_make(CID, 5000), handle_make(VMCI_CID_HOST, seed), size, seed);
	return dev_deliver(rig->dev, buf, size);
}

void check_dg(const uint8_t *p, size_t size, unsigned seed)
{
	static uint8_t expected[VMCI_DG_MAX_SIZE + VMCI_DG_ALIGN];

	memset(expected, 0, dg_padded(size));
	make_dg(expected, handle_make(CID, 5000), handle_make(VMCI_CID_HOST, seed), size, seed);
	assert_memory_equal(p, expected, dg_padded(size));
}

int32_t call_word(struct rig *rig, uint32_t rid, uint32_t word)
{
	uint8_t buf[HC_WORD_SIZE];

	return send_dg(rig, buf, hc_word_build(buf, rid, word));
}

int32_t call_handle(struct rig *rig, uint32_t rid, struct vmci_handle handle)
{
	uint8_t buf[HC_HANDLE_SIZE];

	return send_dg(rig, buf, hc_handle_build(buf, rid, handle));
}

int32_t call_link(struct rig *rig, struct vmci_handle handle, uint64_t index)
{
	const struct hc_link link = { .handle = handle, .index = index };
	uint8_t buf[HC_LINK_SIZE];

	return send_dg(rig, buf, hc_link_build(buf, &link));
}

int32_t call_alloc(struct rig *rig, struct vmci_handle handle, uint32_t peer, uint32_t flags,
		   uint64_t produce, uint64_t consume)
{
	static uint8_t list[LIMIT_HYPERCALL_SIZE], buf[LIMIT_HYPERCALL_SIZE];
	uint64_t n = qp_page_count(produce, consume, rig->dev->page_shift);
	uint32_t pages = (RAM_SIZE >> rig->dev->page_shift) - 1;
	const struct hc_qp_alloc alloc = {
		.handle = handle,
		.peer = peer,
		.flags = flags,
		.produce = produce,
		.consume = consume,
		.page_count = n,
		.list = list,
		.list_size = n <= 32771 ? 4 * (size_t)n : 0,
	};

	for (size_t i = 0; i < alloc.list_size / 4; i++)
		put_le32(list + 4 * i, (uint32_t)(PAGES_PPN + i) % pages);
	return send_dg(rig, buf, hc_qp_alloc_build(buf, &alloc));
}

struct event next_event(struct rig *rig)
{
	const uint8_t *p = receive_dma(rig);
	struct event event;
	size_t size = VMCI_DG_HEADER_SIZE + (size_t)dg_parse(p).payload_size;

	assert_int_equal(event_parse(p, size, &event), 0);
	assert_int_equal(get_le32(p + dg_padded(size) + 4), 0xffffffff);
	return event;
}

void check_books(struct rig *rig)
{
	assert_true(rig->dev->pairs.memory <= LIMIT_QUEUE_MEMORY);
	assert_true(rig->dev->pairs.count <= LIMIT_QUEUE_PAIRS);
	assert_true(rig->taken <= rig->dev->pairs.count);
	assert_true((rig->dev->pairs.memory == 0) == (rig->taken == 0));
	assert_true(rig->dev->bells.count <= rig->dev->bells.used);
	assert_true(rig->dev->bells.used <= LIMIT_DOORBELLS);
	assert_true(rig->dev->inbox.bytes < VMCI_EVENT_QUEUE_MAX);
	assert_true(rig->dev->inbox.tail - rig->dev->inbox.head <= LIMIT_INBOX_RING);
	assert_true((rig->dev->inbox.count == 0) == (rig->dev->inbox.bytes == 0));
	assert_int_equal(rig->intx, rig->dev->intr.level);
}
