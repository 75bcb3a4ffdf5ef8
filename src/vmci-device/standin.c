/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * DOC: Theory of operation
 *
 * The same parts as in vm.c without streams: guest memory, device, session. Following is nothing but a session whose
 * client is vmci-device, which passes on messages of the VMM, with their descriptors, before it carries them out.
 *
 * While it follows it must not act, so three things are held back: interrupts, INTx, and the registers that move
 * datagrams. Of the latter only the addresses are kept. They are needed for one thing: a register write that
 * vmci-device began to carry out is lost, and the guest may spin for ever on the transfer that it was to
 * start (VMCI reference, 3.3 and 3.6). So after taking over, when the VMM has been quiet for a moment, the headers at
 * these addresses are looked at once, and a transfer that is still open is started anew. A send that the guest starts
 * at the same moment is carried out twice, which does not matter where sends are refused; and a driver starts no
 * receive while it waits for one. Everything later comes through the session.
 *
 * The guest is told of its loss then, and not before. Over the ports it may be in the middle of a burst that the dead
 * process began (reference, 3.5); it gets the rest of it (dev_ports.carry), and hears of its loss in the next.
 *
 * What a guest sees of a device that serves like this:
 *
 *	datagrams		refused with INVALID_RESOURCE, which in-box drivers make EHOSTUNREACH (transport reference, 15)
 *	hypercalls		as ever; and it may detach from queue pairs that only vmci-device knew
 *	receives, interrupts	as ever; what is queued is one event
 *	CAPS			0, so a driver that is loaded now gives up at once (reference, 2.2)
 */
#include "standin.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>

#include "base/bytes.h"
#include "base/fd.h"
#include "base/log.h"
#include "desc.h"
#include "proto/limits.h"
#include "vfio/session.h"

/**
 * struct standin - see above
 * @last:           header of the message that was followed last
 * @send, @receive: where the driver's buffers are, as it wrote it to the registers; 0: nowhere
 * @settle_at:      when the VMM has been quiet for long enough to settle; 0: settled, or following
 * @settle_by:      when to settle at the latest
 * @owed:           a reply that is sent at @owe_at; nothing if that is 0
 */
struct standin {
	char name[32];
	struct dev_config config;
	struct vus_dma *dma;
	struct dev *dev;
	struct vus_session *session;
	bool serves;
	struct vus_header last;
	uint32_t send;
	uint32_t receive;
	uint64_t settle_at;
	uint64_t settle_by;
	uint8_t owed[STANDIN_REPLY_MAX];
	size_t owed_size;
	uint64_t owe_at;
};

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* --- Registers ----------------------------------------------------------------------------- */

/**
 * find_reg() - is this a plain access to one register, or to two (drivers do nothing else)?
 * @ret_reg: the register, or the lower one
 */
static bool find_reg(unsigned region, uint64_t off, size_t len, uint32_t *ret_reg)
{
	uint64_t base = region == 1 ? VMCI_MMIO_REGS_OFFSET : 0;

	if (region > 1 || off < base || off - base > VMCI_REG_PAGE_SHIFT || off % 4 || (len != 4 && len != 8))
		return false;
	*ret_reg = (uint32_t)(off - base);
	return true;
}

/* Does the register move a datagram? */
static bool is_transfer(uint32_t reg)
{
	return reg == VMCI_REG_DATA_OUT || reg == VMCI_REG_DATA_IN || reg == VMCI_REG_DATA_OUT_LOW ||
	       reg == VMCI_REG_DATA_IN_LOW;
}

static bool is_stream(const struct vus_access *access, uint32_t reg)
{
	return access->region <= 1 && access->offset == (access->region ? VMCI_MMIO_REGS_OFFSET : 0) + reg;
}

bool standin_stream_read(const uint8_t *msg, size_t len, struct vus_access *ret_access)
{
	struct vus_header header;

	vus_header_parse(msg, &header);
	return header.cmd == VUS_CMD_REGION_READ &&
	       !vus_region_read_parse(msg + VUS_HEADER_SIZE, len - VUS_HEADER_SIZE, ret_access) &&
	       ret_access->count == 1 && is_stream(ret_access, VMCI_REG_DATA_IN);
}

bool standin_stream_write(const uint8_t *msg, size_t len)
{
	struct vus_header header;
	struct vus_access access;

	vus_header_parse(msg, &header);
	return header.cmd == VUS_CMD_REGION_WRITE &&
	       !vus_region_write_parse(msg + VUS_HEADER_SIZE, len - VUS_HEADER_SIZE, &access) &&
	       is_stream(&access, VMCI_REG_DATA_OUT);
}

/* Does the write shape the device? */
static bool shapes_by_write(const struct vus_access *access)
{
	uint32_t reg;

	if (access->region == VUS_REGION_CONFIG)
		return true;
	return find_reg(access->region, access->offset, access->count, &reg) &&
	       (access->count == 8 || !is_transfer(reg));
}

static bool shapes(const struct vus_header *header, const uint8_t *body, size_t len)
{
	struct vus_access access;
	struct vus_set_irqs set;

	switch (header->cmd) {
	case VUS_CMD_VERSION:
	case VUS_CMD_DMA_MAP:
	case VUS_CMD_DMA_UNMAP:
	case VUS_CMD_RESET:
	case VUS_CMD_REGION_WRITE_MULTI:
		return true;
	case VUS_CMD_SET_IRQS:
		/* An order to raise interrupts now has been carried out once. */
		return !vus_set_irqs_parse(body, len, &set) &&
		       (set.action != VUS_IRQ_ACTION_TRIGGER || set.data == VUS_IRQ_DATA_EVENTFD || !set.count);
	case VUS_CMD_REGION_WRITE:
		return !vus_region_write_parse(body, len, &access) && shapes_by_write(&access);
	default:
		return false;
	}
}

/* Does the message tell an address of a DMA buffer that is not known? */
static bool is_news(struct standin_filter *filter, const struct vus_header *header, const uint8_t *body, size_t len)
{
	struct vus_access access;
	uint32_t reg, *known, value;

	if (header->cmd != VUS_CMD_REGION_WRITE || vus_region_write_parse(body, len, &access) ||
	    !find_reg(access.region, access.offset, access.count, &reg) || access.count != 4)
		return false;
	if (reg != VMCI_REG_DATA_OUT_LOW && reg != VMCI_REG_DATA_IN_LOW)
		return false;
	value = get_le32(access.data);
	known = reg == VMCI_REG_DATA_OUT_LOW ? &filter->send : &filter->receive;
	if (*known == value)
		return false;
	*known = value;
	return true;
}

bool standin_wants(struct standin_filter *filter, const uint8_t *msg, size_t len)
{
	const uint8_t *body = msg + VUS_HEADER_SIZE;
	struct vus_header header;

	vus_header_parse(msg, &header);
	len -= VUS_HEADER_SIZE;
	if (!shapes(&header, body, len))
		return is_news(filter, &header, body, len);
	/* It may make a stand-in forget the addresses: the next driver may use the same. */
	*filter = (struct standin_filter){ 0 };
	return true;
}

/* A register write while following. */
static void follow_reg(struct standin *s, unsigned region, uint64_t off, uint32_t reg, const uint8_t *word)
{
	uint32_t value = get_le32(word);

	if (reg == VMCI_REG_DATA_OUT_LOW)
		s->send = value;
	else if (reg == VMCI_REG_DATA_IN_LOW)
		s->receive = value;
	if (is_transfer(reg))
		return;
	/* Another driver, or none: the buffers of the last one are ordinary memory again. */
	if (reg == VMCI_REG_CAPS || (reg == VMCI_REG_CONTROL && value & VMCI_CONTROL_RESET))
		s->send = s->receive = 0;
	dev_bar_write(s->dev, region, off, word, 4);
}

/* --- Operations of the session -------------------------------------------------------------- */

static void op_read(void *ctx, unsigned region, uint64_t off, void *buf, size_t len)
{
	struct standin *s = ctx;

	if (region == VUS_REGION_CONFIG)
		dev_config_read(s->dev, off, buf, len);
	else
		dev_bar_read(s->dev, region, off, buf, len);
}

static void op_write(void *ctx, unsigned region, uint64_t off, const void *buf, size_t len)
{
	struct standin *s = ctx;
	uint32_t reg;

	if (region == VUS_REGION_CONFIG) {
		dev_config_write(s->dev, off, buf, len);
		/* Bus mastering off ends a driver's session, too. */
		if (!s->serves && !dev_is_active(s->dev))
			s->send = s->receive = 0;
	} else if (s->serves) {
		dev_bar_write(s->dev, region, off, buf, len);
	} else if (find_reg(region, off, len, &reg)) {
		/* From the top, as the device does it. */
		if (len == 8)
			follow_reg(s, region, off + 4, reg + 4, (const uint8_t *)buf + 4);
		follow_reg(s, region, off, reg, buf);
	}
}

static void op_reset(void *ctx)
{
	struct standin *s = ctx;

	s->send = s->receive = 0;
	dev_reset(s->dev);
}

static void op_dma_changed(void *ctx, uint64_t addr, uint64_t size, bool mapped)
{
	(void)ctx;
	(void)addr;
	(void)size;
	(void)mapped;
}

static void op_tap(void *ctx, const uint8_t *msg, size_t len, const int *fds, size_t n_fds)
{
	struct standin *s = ctx;

	(void)len;
	(void)fds;
	(void)n_fds;
	if (!s->serves)
		vus_header_parse(msg, &s->last);
}

static const struct vus_ops session_ops = {
	.region_read = op_read,
	.region_write = op_write,
	.reset = op_reset,
	.dma_changed = op_dma_changed,
	.tap = op_tap,
};

/* --- Ports of the device -------------------------------------------------------------------- */

static bool port_mem_is_usable(void *ctx)
{
	(void)ctx;
	return false;
}

static void port_interrupt(void *ctx, unsigned cause)
{
	struct standin *s = ctx;

	if (s->serves)
		vus_irq_cause(vus_session_irqs(s->session), cause);
}

static void port_intx(void *ctx, bool level)
{
	struct standin *s = ctx;

	if (s->serves)
		vus_irq_intx(vus_session_irqs(s->session), level);
}

static int32_t port_datagram(void *ctx, const uint8_t *dg, size_t size)
{
	(void)ctx;
	(void)dg;
	(void)size;
	return VMCI_ERROR_INVALID_RESOURCE;
}

static int32_t port_doorbell(void *ctx, struct vmci_handle handle)
{
	(void)ctx;
	(void)handle;
	return VMCI_ERROR_NOT_FOUND;
}

static void port_qp(void *ctx, void *owner)
{
	(void)ctx;
	(void)owner;
}

static void port_log(void *ctx, enum log_level level, const char *line)
{
	struct standin *s = ctx;

	log_msg(level, "%s: %s", s->name, line);
}

/* --- Life ------------------------------------------------------------------------------------- */

int standin_new(int fd, const struct dev_config *config, struct standin **ret_standin)
{
	struct standin *s = calloc(1, sizeof(*s));
	struct dev_ports ports = {
		.ctx = s,
		.mem_is_usable = port_mem_is_usable,
		.interrupt = port_interrupt,
		.intx = port_intx,
		.datagram = port_datagram,
		.doorbell = port_doorbell,
		.qp_attached = port_qp,
		.qp_gone = port_qp,
		.log = port_log,
	};
	struct vus_desc desc;
	int r;

	if (!s) {
		fd_close(&fd);
		return -ENOMEM;
	}
	s->config = *config;
	snprintf(s->name, sizeof(s->name), "cid %u", config->cid);
	r = vus_dma_new(s->name, LIMIT_VFIO_MAPS, &s->dma);
	if (r)
		goto fail;
	ports.mem = vus_dma_mem(s->dma);
	r = dev_new(config, &ports, &s->dev);
	if (r)
		goto fail;
	desc_make(s->dev, s->name, config->intx, &desc);
	r = vus_session_new(fd_take(&fd), &desc, s->dma, &session_ops, s, &s->session);
	if (r)
		goto fail;
	*ret_standin = s;
	return 0;

fail:
	fd_close(&fd);
	standin_free(s);
	return r;
}

struct standin *standin_free(struct standin *s)
{
	if (!s)
		return NULL;
	s->serves = false;
	s->dev = dev_free(s->dev);
	s->session = vus_session_free(s->session);
	s->dma = vus_dma_free(s->dma);
	free(s);
	return NULL;
}

bool standin_has_followed(const struct standin *s, uint16_t cmd, uint16_t id)
{
	return s->last.cmd == cmd && s->last.id == id;
}

int standin_fd(const struct standin *s)
{
	return vus_session_fd(s->session);
}

short standin_events(const struct standin *s)
{
	return vus_session_events(s->session) & EPOLLOUT ? POLLOUT : POLLIN;
}

int standin_irq_fd(const struct standin *s)
{
	return s->serves ? vus_irqs_fd(vus_session_irqs(s->session)) : -1;
}

int standin_timeout(const struct standin *s)
{
	uint64_t deadline = vus_session_deadline(s->session), now = now_ns();

	if (vus_session_is_pending(s->session))
		return 0;
	if (s->settle_at && (!deadline || s->settle_at < deadline))
		deadline = s->settle_at;
	if (s->owe_at && (!deadline || s->owe_at < deadline))
		deadline = s->owe_at;
	if (!deadline)
		return -1;
	/* All are seconds away at most. */
	return deadline > now ? (int)((deadline - now) / 1000000 + 1) : 0;
}

/* Write @low into the register @reg as the guest would. */
static void start_transfer(struct standin *s, uint32_t reg, uint32_t low)
{
	uint8_t word[4];

	put_le32(word, low);
	dev_bar_write(s->dev, 1, VMCI_MMIO_REGS_OFFSET + reg, word, sizeof(word));
}

/* Does the header of the buffer at the address in @high_reg and @low say that its transfer is open? */
static bool is_open(struct standin *s, uint32_t high_reg, uint32_t low, bool is_send)
{
	struct mem mem = vus_dma_mem(s->dma);
	uint8_t head[VMCI_DMA_HEADER_SIZE], high[4];

	if (!low)
		return false;
	dev_bar_read(s->dev, 1, VMCI_MMIO_REGS_OFFSET + high_reg, high, sizeof(high));
	if (mem.ops->read(mem.ctx, (uint64_t)get_le32(high) << 32 | low, head, sizeof(head)))
		return false;
	if (is_send)
		return get_le32(head);
	return !get_le32(head) && get_le32(head + 4) == VMCI_DMA_SG && get_le32(head + 8) == 1;
}

/* See the top. */
static void settle(struct standin *s)
{
	bool send = is_open(s, VMCI_REG_DATA_OUT_HIGH, s->send, true);
	bool receive = is_open(s, VMCI_REG_DATA_IN_HIGH, s->receive, false);

	s->settle_at = 0;
	dev_void_pairs(s->dev);
	log_debug("%s: %s send, %s receive was under way", s->name, send ? "a" : "no", receive ? "a" : "no");
	if (receive)
		start_transfer(s, VMCI_REG_DATA_IN_LOW, s->receive);
	if (send)
		start_transfer(s, VMCI_REG_DATA_OUT_LOW, s->send);
}

/* Send what is owed, when it is time. Return: 0 or a negative errno */
static int pay(struct standin *s)
{
	ssize_t n;

	if (now_ns() < s->owe_at)
		return 0;
	s->owe_at = 0;
	n = send(vus_session_fd(s->session), s->owed, s->owed_size, MSG_NOSIGNAL | MSG_DONTWAIT);
	return n == (ssize_t)s->owed_size ? 0 : -EIO;
}

int standin_handle(struct standin *s)
{
	uint64_t served = vus_session_messages(s->session);
	int r = vus_session_handle(s->session);
	uint64_t now;

	if (r)
		return r;
	if (s->serves)
		vus_irqs_handle(vus_session_irqs(s->session));
	if (served != vus_session_messages(s->session))
		s->owe_at = 0;
	else if (s->owe_at && (r = pay(s)) < 0)
		return r;
	if (!s->settle_at)
		return 0;
	now = now_ns();
	if (served != vus_session_messages(s->session))
		s->settle_at = now + LIMIT_KEEPER_SETTLE_NS;
	if (now >= s->settle_at || now >= s->settle_by)
		settle(s);
	return 0;
}

void standin_take_over(struct standin *s, int fd, const struct standin_left *left)
{
	vus_session_move(s->session, fd, left->input, left->skip);
	s->serves = true;
	dev_adopt(s->dev, left->carry, left->sending);
	s->settle_at = now_ns() + LIMIT_KEEPER_SETTLE_NS;
	s->settle_by = now_ns() + LIMIT_KEEPER_UNREST_NS;
}

uint8_t standin_next_byte(struct standin *s)
{
	uint8_t byte;

	dev_bar_read(s->dev, 0, VMCI_REG_DATA_IN, &byte, 1);
	return byte;
}

void standin_owe(struct standin *s, const uint8_t *reply, size_t size)
{
	assert(size <= sizeof(s->owed));
	memcpy(s->owed, reply, size);
	s->owed_size = size;
	s->owe_at = now_ns() + LIMIT_KEEPER_OWE_NS;
}
