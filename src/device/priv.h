/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The inside of a device, for the files of this folder (and for tests and fuzzers that check its
 * books).
 */
#ifndef DEVICE_PRIV_H
#define DEVICE_PRIV_H

#include "device/carry.h"
#include "device/config.h"
#include "device/device.h"
#include "device/doorbell.h"
#include "device/inbox.h"
#include "device/outbox.h"
#include "device/pair.h"

/*
 * What the guest can make the device say; each at most once per driver session, and LIMIT_NOTES
 * times between function resets.
 */
enum dev_note {
	DEV_NOTE_SESSION,	/* a driver wrote CAPS */
	DEV_NOTE_RESET,		/* a driver wrote RESET */
	DEV_NOTE_MASTER_OFF,	/* bus mastering was taken away from a driver */
	DEV_NOTE_NO_MASTER,	/* DMA wanted without bus mastering */
	DEV_NOTE_PAGE_SHIFT,
	DEV_NOTE_NOT_SHARED,	/* guest memory reads as zeroes */
	DEV_NOTE_SEND,		/* bad send buffer */
	DEV_NOTE_RECEIVE,	/* bad receive buffer */
	DEV_NOTE_SOURCE,	/* forged source */
	DEV_NOTE_OUTBOX,	/* fragment, or datagram too large, on the ports */
	DEV_NOTE_HYPERCALL,	/* unknown or malformed hypercall */
	DEV_NOTE_BITMAP,	/* bitmap refused or gone */
	DEV_NOTE_PAIR,		/* queue pair refused */
	DEV_NOTE_QUEUE_FULL,	/* the guest does not read what it gets */
	DEV_NOTE_NUM,
};

/**
 * struct dev_intr - interrupt state
 * @icr:     causes since the guest last read it
 * @imr:     causes that may interrupt
 * @enabled: INT_ENABLE was written
 * @level:   INTx level as last told to the port
 */
struct dev_intr {
	uint32_t icr;
	uint32_t imr;
	bool enabled;
	bool level;
};

/**
 * struct dev - a device
 * @config:     what it was made as
 * @ports:      its surroundings
 * @offered:    capabilities offered
 * @acked:      capabilities that the driver uses; 0: no driver session
 * @resetting:  a reset is under way: the host's side gets nothing new
 * @adopted:    the driver has queue pairs that are not known here
 * @starved:    something did not fit into the inbox since the room port was called last
 * @fresh:      no DMA send has been seen since CAPS was written
 * @page_shift: log2 of the guest's page size
 * @out_high, @in_high: latched upper halves of the DMA addresses
 * @result:     of the last datagram sent
 * @carry:      the streams of the ports: of dev_ports.carry, or @own
 * @said, @notes: see enum dev_note
 * @tx:         private copy of a datagram sent by DMA
 */
struct dev {
	struct dev_config config;
	struct dev_ports ports;
	uint32_t offered;
	uint32_t acked;
	bool resetting;
	bool adopted;
	bool starved;
	bool fresh;
	unsigned page_shift;
	uint32_t out_high;
	uint32_t in_high;
	int64_t result;
	struct dev_carry *carry;
	struct dev_intr intr;
	bool said[DEV_NOTE_NUM];
	uint8_t notes[DEV_NOTE_NUM];
	struct dev_space space;
	struct dev_bells bells;
	struct dev_pairs pairs;
	struct dev_inbox inbox;
	struct dev_carry own;
	struct dev_outbox outbox;
	uint8_t tx[LIMIT_HYPERCALL_SIZE];
};

/* --- device.c --- */

/* dev_note() - put a line into the log, within its bounds */
void dev_note(struct dev *dev, enum dev_note note, enum log_level level, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));

/* dev_driver_reset() - everything that a driver set up is gone (reference, 2.3); config space stays */
void dev_driver_reset(struct dev *dev);

/* dev_queue() - put a datagram into the inbox and interrupt; no checks. Return: @size, or VMCI_ERROR_* */
int32_t dev_queue(struct dev *dev, const uint8_t *dg, size_t size);

/* dev_taken() - the guest has taken datagrams: those who wait for room get it */
void dev_taken(struct dev *dev);

/* dev_can_dma() - is bus mastering on? Says so once if not */
bool dev_can_dma(struct dev *dev);

/* --- intr.c --- */

/* dev_intr_clear() - no causes, all masked, disabled */
void dev_intr_clear(struct dev *dev);

/* dev_intr_raise() - something happened: @cause is one VMCI_CAUSE_* bit */
void dev_intr_raise(struct dev *dev, uint32_t cause);

/* dev_intr_ack() - ICR is read: its value; the causes are cleared */
uint32_t dev_intr_ack(struct dev *dev);

/* dev_intr_set_mask(), dev_intr_set_enabled() - IMR, and the enable bit: pending causes fire */
void dev_intr_set_mask(struct dev *dev, uint32_t imr);
void dev_intr_set_enabled(struct dev *dev, bool enabled);

/* dev_intr_update() - work out the INTx level anew */
void dev_intr_update(struct dev *dev);

/* --- regs.c --- */

/* dev_regs_read(), dev_regs_write() - any access to the register file; @off counts from its start */
void dev_regs_read(struct dev *dev, uint64_t off, uint8_t *buf, size_t len);
void dev_regs_write(struct dev *dev, uint64_t off, const uint8_t *buf, size_t len);

/* --- route.c --- */

/**
 * dev_send() - the guest sends a datagram
 * @dg:   private copy; the source may be completed in place
 * @size: bytes, at least a header, agreeing with the header; more than VMCI_DG_MAX_SIZE only for the
 *        hypervisor
 *
 * Return: the result for the guest
 */
int64_t dev_send(struct dev *dev, uint8_t *dg, size_t size);

/* --- hypercall handlers: call.c --- */

/* dev_call() - carry out the hypercall in @dg. Return: the result for the guest */
int64_t dev_call(struct dev *dev, uint32_t rid, const uint8_t *dg, size_t size);

/* --- dma.c --- */

/* dev_dma_send(), dev_dma_receive() - the registers DATA_OUT_LOW, DATA_IN_LOW were written */
void dev_dma_send(struct dev *dev, uint32_t low);
void dev_dma_receive(struct dev *dev, uint32_t low);

#endif /* DEVICE_PRIV_H */
