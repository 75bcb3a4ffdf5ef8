/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The VMCI PCI device: config space, registers, datagrams, hypercalls, notification bitmap and
 * queue pairs of one guest. VMCI reference, 1 to 7; the contract is its 2.2, 2.3, 3.5, 3.6, 4.5 and 11.
 *
 * Pure: no I/O, no clock; its log lines go to a port, in bounded number. The VMM's side calls
 * dev_config_*(), dev_bar_*() and dev_reset(); the host's side calls dev_deliver(), dev_ring() and
 * dev_qp_*(); the device calls its ports.
 * One thread. A port must not call back into dev_config_*(), dev_bar_*() or dev_reset(); it may call
 * the functions of the host's side.
 */
#ifndef DEVICE_DEVICE_H
#define DEVICE_DEVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/log.h"
#include "base/mem.h"
#include "proto/handle.h"
#include "proto/qp.h"

struct dev;

enum dev_irq {
	DEV_IRQ_MSIX,	/* MSI-X capability; INTx is there too where @intx is set */
	DEV_IRQ_MSI,	/* MSI capability instead: a VMM that cannot unplug MSI-X */
};

/**
 * struct dev_config - what a device is made of
 * @cid:     context id of the guest, >= VMCI_CID_FIRST_VM
 * @classic: 8 KiB BAR1 without registers, port path only
 * @irq:     which interrupt capability the device shows
 * @intx:    interrupt pin A is there, too
 * @window:  bytes of BAR VMCI_WINDOW_BAR, which is memory of somebody else: a power of two; 0: there is no such BAR
 */
struct dev_config {
	uint32_t cid;
	bool classic;
	enum dev_irq irq;
	bool intx;
	uint64_t window;
};

/**
 * struct dev_far - the guest wants to attach to a queue pair of somebody outside of this device
 * @peer:    whom the guest named, or VMCI_INVALID_ID
 * @produce, @consume: sizes as the guest sees them
 */
struct dev_far {
	struct vmci_handle handle;
	uint32_t peer;
	uint64_t produce;
	uint64_t consume;
};

/**
 * struct dev_ports - what a device asks of its surroundings; all must be there, but for those of the second part
 */
struct dev_ports {
	void *ctx;

	/* Guest memory. */
	struct mem mem;

	/*
	 * Asked when a driver looks for the device's capabilities: can the guest's memory be reached at all? If not, no
	 * capability is shown, and the driver gives up instead of spinning for ever on a send that cannot be completed.
	 * NULL: always.
	 */
	bool (*mem_is_usable)(void *ctx);

	/*
	 * Send the message of interrupt cause @cause (0..2, the bit's index). The other side chooses the
	 * vector: @cause where the guest set that vector up, else 0 (reference, 1.3). Called for every
	 * event that the guest enabled, whatever is pending.
	 */
	void (*interrupt)(void *ctx, unsigned cause);

	/* Level of the INTx line, called when it changes. */
	void (*intx)(void *ctx, bool level);

	/*
	 * The guest sent a datagram to another context than 0 and its own. @dg points to @size bytes, header included;
	 * its source is authentic (reference 4.5, transport reference 2.2), its sizes agree.
	 * Return: what the guest reads as the result: @size, or a VMCI_ERROR_*
	 */
	int32_t (*datagram)(void *ctx, const uint8_t *dg, size_t size);

	/*
	 * The guest rang doorbell @handle of another context.
	 * Return: VMCI_SUCCESS or VMCI_ERROR_*
	 */
	int32_t (*doorbell)(void *ctx, struct vmci_handle handle);

	/* The guest attached to a queue pair that the host made with dev_qp_create(). */
	void (*qp_attached)(void *ctx, void *owner);

	/*
	 * The guest's end of a queue pair goes away (detach, reset), and this is the host end's last
	 * chance to read what is in the rings: the pages go back to the guest when this returns, and the
	 * view got from dev_qp_map() is dead. The host end is detached by this: no dev_qp_detach(). Also
	 * called, at a reset, for a queue pair of dev_qp_create() that the guest has not attached to: the
	 * driver that was told about it is no more.
	 */
	void (*qp_gone)(void *ctx, void *owner);

	/*
	 * A line for the log: why something was refused or reset. Each kind of line comes at most once per
	 * driver session and LIMIT_NOTES times between function resets, so a guest cannot flood a log.
	 */
	void (*log)(void *ctx, enum log_level level, const char *line);

	/* --- The second part: each may be NULL ------------------------------------------------ */

	/*
	 * Where the device keeps the state of the ports' byte streams: zeroed memory that outlives the process, so that
	 * another device can go on for this one (dev_adopt()).
	 */
	struct dev_carry *carry;

	/*
	 * The guest has taken something out of its queue, or lost it, since dev_deliver() said NO_RESOURCES last:
	 * it may be worth another attempt. Called once for each such time, however often it was refused.
	 */
	void (*room)(void *ctx);

	/* A doorbell of the guest is no more: it was unlinked, or its driver has gone. */
	void (*bell_gone)(void *ctx, struct vmci_handle handle);

	/*
	 * A driver session has ended: queue pairs and doorbells have gone already, each with its own call, and
	 * nothing that was sent to that driver is for the next one. dev_deliver() says DST_UNREACHABLE.
	 */
	void (*driver_gone)(void *ctx);

	/*
	 * There are other contexts than the guest and the host, and they have queue pairs: the guest may name any
	 * context as the peer of a pair that it creates, and dev_far_attach() takes the other end. If the guest
	 * asks for a pair that is not known here and whose name is not of its own context, this port is asked,
	 * after all else was checked. If there is such a pair, it attaches to it on the guest's behalf. NULL: there
	 * are none, and the two below are not called.
	 *
	 * Return: VMCI_SUCCESS_QUEUEPAIR_ATTACH, the owner of the far end (not NULL) and its context;
	 * VMCI_ERROR_NOT_FOUND: there is no such pair; another VMCI_ERROR_*, which the guest gets
	 */
	int32_t (*far_find)(void *ctx, const struct dev_far *far, void **ret_owner, uint32_t *ret_context);

	/* The guest is attached to what far_find() found, and has its memory: dev_qp_map() works from now on. */
	void (*far_attached)(void *ctx, void *owner);

	/* As qp_gone, for an owner from far_find() or dev_far_attach(). */
	void (*far_gone)(void *ctx, void *owner);
};

/**
 * dev_new() - make a device in power-on state
 *
 * Return: 0; -EINVAL (@config is not possible); -ENOMEM
 */
int dev_new(const struct dev_config *config, const struct dev_ports *ports, struct dev **ret_dev);

/* dev_free() - reset and free a device; NULL is fine. Returns NULL. */
struct dev *dev_free(struct dev *dev);

/* --- The VMM's side ------------------------------------------------------------------ */

/* dev_bar_size() - bytes of BAR @bar (0..5), 0 if there is none */
uint64_t dev_bar_size(const struct dev *dev, unsigned bar);

/* dev_bar_is_io() - is BAR @bar an I/O port BAR? */
bool dev_bar_is_io(const struct dev *dev, unsigned bar);

/* dev_msix_count(), dev_msi_count() - MSI-X vectors, MSI messages; 0 of the kind that is not there */
unsigned dev_msix_count(const struct dev *dev);
unsigned dev_msi_count(const struct dev *dev);

/* dev_pba_offset() - offset of the pending bit array in BAR1 (MSI-X devices) */
uint64_t dev_pba_offset(const struct dev *dev);

/**
 * dev_config_read(), dev_config_write() - access to the 256 bytes of config space
 *
 * Never fail: what lies outside reads as 0 and swallows writes; read-only bits are masked.
 * BAR sizing by all-ones works. Bus Master Enable going from 1 to 0 quiesces the device: reset.
 */
void dev_config_read(struct dev *dev, uint64_t off, void *buf, size_t len);
void dev_config_write(struct dev *dev, uint64_t off, const void *buf, size_t len);

/**
 * dev_bar_read(), dev_bar_write() - register access through BAR @bar
 * @off, @len: the caller has checked that they lie in the BAR
 *
 * Unknown registers read as 0 and swallow writes. Never fail. Any length and alignment has a meaning
 * (regs.c); one register write costs bounded work. When it returns, the transfer that it started is
 * complete, and after a reset no guest page is referred to.
 */
void dev_bar_read(struct dev *dev, unsigned bar, uint64_t off, void *buf, size_t len);
void dev_bar_write(struct dev *dev, unsigned bar, uint64_t off, const void *buf, size_t len);

/* dev_reset() - function reset: everything to power-on state, config space included. */
void dev_reset(struct dev *dev);

/* --- The host's side ---------------------------------------------------------------- */

/* dev_cid() - the guest's context id */
uint32_t dev_cid(const struct dev *dev);

/* dev_is_active() - did a driver set up the device (CAPS, interrupts enabled), and not reset it since? */
bool dev_is_active(const struct dev *dev);

/* dev_is_drained() - has the guest fetched everything that was queued for it, or is there no driver? */
bool dev_is_drained(const struct dev *dev);

/*
 * dev_let_go() - what dev_ports.carry points to stays as it is from now on: another device goes on with it. To be called
 * when no access to a BAR follows.
 */
void dev_let_go(struct dev *dev);

/**
 * dev_adopt() - this device goes on for another one, which knew queue pairs that this one does not
 * @left:    dev_ports.carry of the other one, whose process may have ended at any instruction; need not make sense
 * @sending: a write to DATA_OUT was under way, and may have been carried out or not
 *
 * If there is a driver, it gets the rest of the burst that it is reading over the ports. It may detach from any queue
 * pair until its session ends: Linux's keeps a pair that it was refused to leave, and crashes over that when it is
 * removed. For the same reason a datagram on the ports whose beginning the other device got counts as done.
 */
void dev_adopt(struct dev *dev, const struct dev_carry *left, bool sending);

/* dev_void_pairs() - tell the driver of an adopted device that its queue pairs are void (QP_RESUMED) */
void dev_void_pairs(struct dev *dev);

/**
 * dev_deliver() - queue a datagram for the guest, and interrupt it
 * @dg:   header and payload; the destination context must be the guest's
 * @size: bytes, VMCI_DG_HEADER_SIZE..VMCI_DG_MAX_SIZE, agreeing with the header
 *
 * Return: @size; VMCI_ERROR_INVALID_ARGS; VMCI_ERROR_NO_RESOURCES (queue full: reference, 9.2);
 * VMCI_ERROR_DST_UNREACHABLE (no driver wrote CAPS since the last reset)
 */
int32_t dev_deliver(struct dev *dev, const uint8_t *dg, size_t size);

/**
 * dev_ring() - ring a doorbell that the guest linked
 *
 * Return: VMCI_SUCCESS; VMCI_ERROR_NOT_FOUND; VMCI_ERROR_UNAVAILABLE (its bitmap cannot be written now)
 */
int32_t dev_ring(struct dev *dev, struct vmci_handle handle);

/* dev_has_bell() - did the guest link this doorbell? */
bool dev_has_bell(const struct dev *dev, struct vmci_handle handle);

/* dev_qp_room() - bytes of queue memory that the guest can still bring (reference, 7.6) */
uint64_t dev_qp_room(const struct dev *dev);

/**
 * dev_qp_create() - make a queue pair that the guest is to attach to (reference, 7.3)
 * @produce, @consume: the *host's* view of the sizes
 * @owner:             handed back by the qp_* ports; not NULL
 * @ret_handle:        (2, a resource id >= 1024)
 *
 * It has no memory until the guest attaches. Resource ids are used again as late as possible.
 * Return: VMCI_SUCCESS_QUEUEPAIR_CREATE; VMCI_ERROR_NO_RESOURCES; VMCI_ERROR_INVALID_ARGS; VMCI_ERROR_NO_MEM
 */
int32_t dev_qp_create(struct dev *dev, uint64_t produce, uint64_t consume, void *owner,
		      struct vmci_handle *ret_handle);

/* dev_qp_create_as() - the same for somebody who stands for context @context, which the guest's events name */
int32_t dev_qp_create_as(struct dev *dev, uint32_t context, uint64_t produce, uint64_t consume, void *owner,
			 struct vmci_handle *ret_handle);

/**
 * dev_qp_attach() - the host attaches to a queue pair that the guest created for it
 * @produce, @consume: the *host's* view of the sizes
 *
 * The guest is told by a QP_PEER_ATTACH event.
 * Return: VMCI_SUCCESS_QUEUEPAIR_ATTACH; VMCI_ERROR_NOT_FOUND; VMCI_ERROR_UNAVAILABLE (not free to be
 * attached); VMCI_ERROR_QUEUEPAIR_MISMATCH (sizes); VMCI_ERROR_NO_ACCESS (created for another peer)
 */
int32_t dev_qp_attach(struct dev *dev, struct vmci_handle handle, uint64_t produce, uint64_t consume,
		      void *owner);

/* dev_qp_attach_as() - the same for somebody who stands for context @context, for which it was created */
int32_t dev_qp_attach_as(struct dev *dev, struct vmci_handle handle, uint32_t context, uint64_t produce,
			 uint64_t consume, void *owner);

/**
 * dev_far_check() - could context @context attach to a queue pair that the guest created?
 * @produce, @consume: that context's view of the sizes
 *
 * Return: VMCI_SUCCESS_QUEUEPAIR_ATTACH, or what dev_far_attach() would say
 */
int32_t dev_far_check(struct dev *dev, struct vmci_handle handle, uint32_t context, uint64_t produce,
		      uint64_t consume);

/**
 * dev_far_attach() - context @context attaches to a queue pair that the guest created
 *
 * As dev_qp_attach(), for somebody outside of this device: dev_ports.far_gone tells @owner of the guest's end. What
 * is said below of the host's end holds for such an end, too.
 */
int32_t dev_far_attach(struct dev *dev, struct vmci_handle handle, uint32_t context, uint64_t produce,
		       uint64_t consume, void *owner);

/**
 * dev_qp_map() - the host's view of a queue pair that has memory
 *
 * The view is that of an endpoint which has neither read nor written: to be got once, after attaching.
 * It is good until the qp_gone port returns, or dev_qp_detach().
 * Return: VMCI_SUCCESS; VMCI_ERROR_NOT_FOUND (not attached by the host);
 * VMCI_ERROR_QUEUEPAIR_NOT_READY (no memory yet)
 */
int32_t dev_qp_map(struct dev *dev, struct vmci_handle handle, struct qp *ret_qp);

/**
 * dev_far_look() - the view of a queue pair that the guest has brought memory for, whoever has the other end, or nobody
 *
 * For finding out about its pages; for use, dev_qp_map() after attaching. Good until anything of the guest is handled.
 * Return: VMCI_SUCCESS; VMCI_ERROR_NOT_FOUND; VMCI_ERROR_QUEUEPAIR_NOT_READY (no memory yet)
 */
int32_t dev_far_look(struct dev *dev, struct vmci_handle handle, struct qp *ret_qp);

/**
 * dev_qp_detach() - the host's end leaves; the guest is told by a QP_PEER_DETACH event
 *
 * The guest keeps the memory and may drain its ring; a view got from dev_qp_map() is dead. The event is not
 * lost when the guest's queue is full: it follows when there is room. Does nothing for a handle that
 * the host is not attached to.
 */
void dev_qp_detach(struct dev *dev, struct vmci_handle handle);

#endif /* DEVICE_DEVICE_H */
