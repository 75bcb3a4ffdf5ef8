/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A device that does nothing but keep its guest alive: what answers a VMM when vmci-device has gone.
 *
 * It has two phases. While vmci-device lives, the stand-in *follows*: it is fed with those messages of the VMM that
 * shape the device (standin_wants()), and so has the same guest memory, interrupts, config space and registers, but
 * does nothing to the guest. After standin_take_over() it *serves* the VMM itself: what the guest sends is refused, its
 * streams are declared dead, and a new driver is turned away.
 */
#ifndef VMCI_DEVICE_STANDIN_H
#define VMCI_DEVICE_STANDIN_H

#include "device/carry.h"
#include "device/device.h"
#include "vfio/session.h"

struct standin;

/**
 * struct standin_filter - which DMA addresses were fed already; all zeroes at the start of a VMM connection
 */
struct standin_filter {
	uint32_t send;
	uint32_t receive;
};

/**
 * standin_wants() - does a stand-in have to be fed with this message?
 * @msg: header and body, @len bytes; a session is about to carry it out
 *
 * Yes for what shapes the device. No for questions, and for the registers that move datagrams, but for the addresses
 * of DMA buffers when they are not known: a guest that is busy costs nothing here.
 */
bool standin_wants(struct standin_filter *filter, const uint8_t *msg, size_t len);

/*
 * standin_stream_read(), standin_stream_write() - is the message a read of one byte of DATA_IN, a write to DATA_OUT?
 * @msg: header and body, @len bytes
 */
bool standin_stream_read(const uint8_t *msg, size_t len, struct vus_access *ret_access);
bool standin_stream_write(const uint8_t *msg, size_t len);

/**
 * standin_new() - make one that follows
 * @fd:     stream socket where it is fed with messages, none of which wants a reply; taken over, also on failure
 * @config: of the device that it stands in for
 *
 * Return: 0 or a negative errno
 */
int standin_new(int fd, const struct dev_config *config, struct standin **ret_standin);

/* standin_free() - drop guest memory, interrupts and the connection; NULL is fine. Returns NULL. */
struct standin *standin_free(struct standin *s);

/* standin_has_followed() - was the message of command @cmd and this @id the last that it was fed with? */
bool standin_has_followed(const struct standin *s, uint16_t cmd, uint16_t id);

/* standin_fd() - what to poll for standin_events(): where it is fed, later the VMM. Owned by the stand-in */
int standin_fd(const struct standin *s);
short standin_events(const struct standin *s);

/* standin_irq_fd() - poll this for POLLIN, too, when it serves; -1: nothing */
int standin_irq_fd(const struct standin *s);

/* standin_timeout() - how long may be slept before the next standin_handle(): ms, -1 = for ever, as of poll(2) */
int standin_timeout(const struct standin *s);

/**
 * standin_handle() - read and carry out what is there. May be called at any time
 *
 * Return: 0; 1 (the other side has closed); a negative errno
 */
int standin_handle(struct standin *s);

/**
 * struct standin_left - what vmci-device left behind, at whatever instruction it ended
 * @carry:   of its device
 * @input:   of its session
 * @skip:    bytes of the input that began to be carried out
 * @sending: they are a write to DATA_OUT
 */
struct standin_left {
	const struct dev_carry *carry;
	const struct vus_input *input;
	size_t skip;
	bool sending;
};

/**
 * standin_take_over() - serve the VMM from now on
 * @fd: its connection, whose next byte begins a message; taken over
 *
 * To be called when all that it was fed with has been handled. A guest with a driver is told that its queue pairs are
 * void (QP_RESUMED: VMCI reference, 6): all its streams end. What was under way when vmci-device ended is completed.
 */
void standin_take_over(struct standin *s, int fd, const struct standin_left *left);

/* standin_next_byte() - read a byte of DATA_IN, as the guest would. After standin_take_over() */
uint8_t standin_next_byte(struct standin *s);

/**
 * standin_owe() - send @reply, @size bytes (STANDIN_REPLY_MAX), to the VMM if it asks nothing else for a while
 *
 * For a reply that vmci-device may have sent, or not: a VMM that has got it goes on at once, and one that has not says
 * nothing. After standin_take_over().
 */
void standin_owe(struct standin *s, const uint8_t *reply, size_t size);

#define STANDIN_REPLY_MAX 64u

#endif /* VMCI_DEVICE_STANDIN_H */
