/* SPDX-License-Identifier: BSD-2-Clause */
/* A device with its surroundings replaced by notebooks, and guest memory by an array. */
#ifndef TEST_DEVICE_RIG_H
#define TEST_DEVICE_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "device/device.h"
#include "device/priv.h"
#include "proto/dg.h"
#include "proto/event.h"
#include "proto/hypercall.h"

#define CID 77u
#define RAM_SIZE 0x400000u	/* guest memory: [0, RAM_SIZE) */
#define PAGE 4096u

/* Where the tests put what. */
#define BITMAP_PPN 0x10u
#define TX 0x20000u
#define RX 0x40000u
#define AREA (RX + PAGE)
#define AREA_SIZE VMCI_DG_MAX_SIZE
#define PAGES_PPN 0x100u	/* pages of queue pairs from here on */

#define MMIO(reg) (VMCI_MMIO_REGS_OFFSET + (reg))

/* Whoever takes the ports' calls instead of the notebook. */
struct rig_ports {
	void *ctx;
	int32_t (*datagram)(void *ctx, const uint8_t *dg, size_t size);
	int32_t (*doorbell)(void *ctx, struct vmci_handle handle);
	void (*room)(void *ctx);
	void (*bell_gone)(void *ctx, struct vmci_handle handle);
	void (*driver_gone)(void *ctx);
	int32_t (*far_find)(void *ctx, const struct dev_far *far, void **ret_owner, uint32_t *ret_context);
	void (*far_attached)(void *ctx, void *owner);
	void (*far_gone)(void *ctx, void *owner);
};

struct rig {
	const struct rig_ports *ports;	/* or NULL; rigs of setup_far() only */
	struct dev *dev;
	bool mmio;		/* registers by BAR1, datagrams by DMA */
	uint8_t *ram;		/* RAM_SIZE bytes of @ram_fd, which is sealed as a VMM's memory is */
	int ram_fd;

	/* Guest memory: accesses counted; failures to order. */
	unsigned reads;
	unsigned writes;
	uint64_t last_read;	/* address */
	unsigned taken;		/* struct mem_pages alive */
	size_t pages_taken;	/* pages in them */
	int take_error;		/* what take() answers, if not 0 */
	int format_error;	/* what store64() answers */
	int pages_error;	/* what load64(), store64() and spans() answer: the pages are not there */
	uint64_t unmapped;	/* RAM from here on is not there, if not 0 */
	void (*after_read)(struct rig *rig, uint64_t addr, size_t len);
	void (*before_write)(struct rig *rig, uint64_t addr, size_t len);

	/* Ports. */
	unsigned irqs[3];
	bool intx;
	unsigned intx_changes;
	unsigned datagrams;
	uint8_t dg[VMCI_DG_MAX_SIZE];
	size_t dg_size;
	int32_t dg_result;	/* what the datagram port returns; 0: the size */
	void (*on_datagram)(struct rig *rig);
	unsigned doorbells;
	struct vmci_handle doorbell;
	unsigned attached;
	unsigned gone;
	void *owner;		/* of the last attached or gone */
	size_t pages_at_gone;
	void (*on_gone)(struct rig *rig, void *owner);
	unsigned rooms;
	void (*on_room)(struct rig *rig);
	unsigned bells_gone;
	struct vmci_handle bell_gone;
	void (*on_bell_gone)(struct rig *rig, struct vmci_handle handle);
	unsigned drivers_gone;
	void (*on_driver_gone)(struct rig *rig);

	/* Far queue pairs: rigs of setup_far() only. */
	unsigned finds;
	struct dev_far find;
	int32_t find_result;	/* what far_find says */
	uint32_t find_context;
	size_t pages_at_find;
	unsigned far_attached;
	unsigned far_gone;
	unsigned lines;
	char line[256];		/* the last */
	char text[8192];	/* all, as far as they fit */
};

/* rig_new() - a device of @config, bus mastering on; nothing else has been done to it */
struct rig *rig_new(const struct dev_config *config);

/* rig_free() - free it; nothing of guest memory must be left in use */
void rig_free(struct rig *rig);

/* rig_open_mmio(), rig_open_ports() - a default device, and a driver that has probed it over MMIO or ports */
struct rig *rig_open_mmio(void);
struct rig *rig_open_ports(void);

/* Test fixtures that put such a rig into *state. */
int setup_mmio(void **state);
int setup_ports(void **state);
int setup_blank(void **state);	/* no driver yet, @mmio is set */
int setup_far(void **state);	/* over MMIO, with other contexts around */
int teardown(void **state);

/* 32-bit register access on the rig's path; bytes through the ports. */
uint32_t in32(struct rig *rig, uint32_t reg);
void out32(struct rig *rig, uint32_t reg, uint32_t v);
uint8_t inb(struct rig *rig, uint32_t reg);
void outb(struct rig *rig, uint32_t reg, uint8_t v);

/* config16(), set_command() - config space */
uint16_t config16(struct rig *rig, unsigned off);
uint32_t config32(struct rig *rig, unsigned off);
void config_put32(struct rig *rig, unsigned off, uint32_t v);
void set_command(struct rig *rig, uint16_t v);
#define COMMAND_ON 0x0007u
#define COMMAND_NO_MASTER 0x0003u

/* rig_probe() - what a driver does, on the rig's path: CAPS .. INT_ENABLE */
void rig_probe(struct rig *rig);

/* rig_address() - the guest address at @off of taken pages. Return: is it there? */
bool rig_address(struct rig *rig, const struct mem_pages *pages, size_t off, uint64_t *ret_addr);

/* send_ports(), send_dma() - send a datagram; the result as the guest reads it */
int32_t send_ports(struct rig *rig, const uint8_t *dg, size_t size);
int32_t send_dma(struct rig *rig, const uint8_t *dg, size_t size);

/* send() - on the rig's path */
int32_t send_dg(struct rig *rig, const uint8_t *dg, size_t size);

/* put_dma() - a DMA header at @addr */
void put_dma(struct rig *rig, uint64_t addr, uint32_t busy, uint32_t opcode, uint32_t size);

/* put_element() - element @i of the list behind the header at @addr */
void put_element(struct rig *rig, uint64_t addr, unsigned i, uint64_t where, uint64_t len);

/* receive_dma() - one receive into the usual area; checks that it completes. Returns the area */
const uint8_t *receive_dma(struct rig *rig);

/* make_dg() - a datagram of @size bytes with a payload derived from @seed. Returns @size */
size_t make_dg(uint8_t *buf, struct vmci_handle dst, struct vmci_handle src, size_t size, unsigned seed);

/* deliver() - give the guest a datagram of @size bytes from (2, @seed); the result of dev_deliver() */
int32_t deliver(struct rig *rig, size_t size, unsigned seed);

/* check_dg() - is this the datagram that deliver() made, padded with zeroes? */
void check_dg(const uint8_t *p, size_t size, unsigned seed);

/* Hypercalls, on the rig's path. */
int32_t call_word(struct rig *rig, uint32_t rid, uint32_t word);
int32_t call_handle(struct rig *rig, uint32_t rid, struct vmci_handle handle);
int32_t call_link(struct rig *rig, struct vmci_handle handle, uint64_t index);

/* call_alloc() - QUEUEPAIR_ALLOC with the right number of pages from PAGES_PPN on */
int32_t call_alloc(struct rig *rig, struct vmci_handle handle, uint32_t peer, uint32_t flags,
		   uint64_t produce, uint64_t consume);

/* next_event() - take what waits for the guest as one event (MMIO rigs) */
struct event next_event(struct rig *rig);

/* check_books() - does what the device believes agree with what the ports saw? */
void check_books(struct rig *rig);

#endif /* TEST_DEVICE_RIG_H */
