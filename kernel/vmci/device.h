/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/* device.h - the device: its registers, its two paths, and which one is there */
#ifndef OVMCI_DEVICE_H
#define OVMCI_DEVICE_H

#include <linux/atomic.h>
#include <linux/io.h>
#include <linux/mutex.h>
#include <linux/pci.h>
#include <linux/wait.h>
#include <linux/workqueue.h>

#include <ovmci.h>

#include "burst.h"

/* Seconds that a device may take for anything. Ours answers within a millisecond; a host may be paused meanwhile. */
#define VMCI_PATIENCE 20

struct vmci_device;

/**
 * struct vmci_path - a way to the device: ports, or memory and DMA
 * @vectors: interrupt vectors that it has for itself
 * @caps:    what the device must offer for it
 * @page:    for burst_start()
 * @alloc:   memory that it needs; @free takes it back, all or nothing, at any time
 * @start:   tells the device of that memory
 * @send:    a datagram, header and all; the device's result. Under the device's lock; may sleep
 * @read:    @want bytes of what it hands out, to @at in the drain's buffer. Return: 0, or -ENODEV: end the drain
 */
struct vmci_path {
	const char *name;
	unsigned int vectors;
	u32 caps;
	u32 page;
	int (*alloc)(struct vmci_device *vd);
	void (*free)(struct vmci_device *vd);
	void (*start)(struct vmci_device *vd);
	int (*send)(struct vmci_device *vd, const void *dg, size_t size);
	int (*read)(struct vmci_device *vd, u32 at, u32 want);
};

extern const struct vmci_path vmci_port_path, vmci_dma_path;

/**
 * struct vmci_device - one, bound
 * @caps:     VMCI_CAP_*, in use
 * @regs:     as iomap has it, ports or memory
 * @tx, @rx:  blocks for DMA, the header first; @tx_dma, @rx_dma: their bus addresses
 * @tx_long:  the same for a send that does not fit into @tx, while there is one
 * @buffer:   what a drain reads into, BURST_SIZE bytes
 * @bounce:   where a datagram is copied to, so that the device does not change it while somebody looks
 * @bitmap:   the page of bells, NULL without VMCI_CAP_NOTIFICATIONS
 * @vectors:  interrupts that we have; 1: one for all causes, and then @causes are those that the thread has not seen
 * @done:     a read by DMA may be done
 * @dead:     touch no register: it is gone, broken or reset
 * @state:    serialises up, down, gone
 * @up:       it runs
 */
struct vmci_device {
	struct pci_dev *pdev;
	const struct vmci_path *path;
	void __iomem *regs;
	u32 caps;
	void *tx, *rx;
	dma_addr_t tx_dma, rx_dma;
	void *tx_long;
	size_t tx_long_size;
	dma_addr_t tx_long_dma;
	u8 *buffer, *bounce;
	u8 *bitmap;
	dma_addr_t bitmap_dma;
	int vectors;
	atomic_t causes;
	wait_queue_head_t done;
	bool dead;
	struct mutex state;
	bool up;
	struct work_struct lost;
};

/* Callbacks that are not called by interrupts' threads run here. */
extern struct workqueue_struct *vmci_workers;

static inline u32 vmci_read(struct vmci_device *vd, u32 reg)
{
	return ioread32(vd->regs + reg);
}

static inline void vmci_write(struct vmci_device *vd, u32 reg, u32 value)
{
	iowrite32(value, vd->regs + reg);
}

static inline bool vmci_is_dead(const struct vmci_device *vd)
{
	return READ_ONCE(vd->dead);
}

/* vmci_is_absent() - was it pulled out? Then all that it reads is ones, which the capabilities never are. */
bool vmci_is_absent(struct vmci_device *vd);

/* vmci_lost() - give up a device that is gone or broken: no register of it is touched again; any context */
void vmci_lost(struct vmci_device *vd, const char *why);

/* vmci_result() - what it said to the last datagram, from its register */
int vmci_result(struct vmci_device *vd);

/* vmci_receive() - fetch and dispatch all that waits; one thread at a time */
void vmci_receive(struct vmci_device *vd);

/* --- Which device is there -------------------------------------------------------------------------------------- */

/*
 * vmci_device_lock() - the device that runs, with its registers to ourselves. Return: it, or NULL; the lock is taken in
 * both cases. Callbacks of nobody are called under it. vmci_device_unlock() follows.
 */
struct vmci_device *vmci_device_lock(void);
void vmci_device_unlock(void);

/* vmci_device_send() - send a datagram, header and all. Return: a VMCI result code; locks */
int vmci_device_send(const void *dg, size_t size);

/* vmci_hypercall() - the same under the lock, for a datagram to the hypervisor; @dg has room for the header in front */
int vmci_hypercall(struct vmci_device *vd, u32 resource, void *dg, size_t size);

/* Whoever moves bytes asks vmci_session() some times for each piece: it costs no call. */
extern u32 vmci_session_now;

/**
 * vmci_session() - which run of the device this is: another one after each reset; 0: none. Any context
 *
 * What the device knows of us, it knows for one session.
 */
static inline u32 vmci_session(void)
{
	return READ_ONCE(vmci_session_now);
}

/* vmci_device_enter() - @vd runs from now on, in a new session; @context is ours */
void vmci_device_enter(struct vmci_device *vd, u32 context);

/* vmci_device_leave() - it does not any more; the lock is taken when this returns, for what is to be cleared */
void vmci_device_leave(struct vmci_device *vd);

/* vmci_device_set_context_id() - Return: can it be one? */
bool vmci_device_set_context_id(u32 context);

/* vmci_device_tell() - tell the notifiers that the device is there, or is not; once for each change */
void vmci_device_tell(struct vmci_device *vd, bool is_there);

#endif /* OVMCI_DEVICE_H */
