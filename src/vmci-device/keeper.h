/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The keeper: a second process that keeps a VM alive when vmci-device has gone before it.
 *
 * A guest does not survive that its device stops answering: drivers spin with interrupts off until a datagram has
 * been sent, and programs that sleep in recv() are never woken. And no VMM connects anew. So a second process has the
 * VMM's connection, too, follows what the VMM makes of the device, and serves it when this process ends, however it
 * does (standin.h). It ends with the VMM.
 */
#ifndef VMCI_DEVICE_KEEPER_H
#define VMCI_DEVICE_KEEPER_H

#include "base/log.h"
#include "device/device.h"
#include "vfio/session.h"

struct keeper;

/**
 * struct keeper_config - how to start one
 * @device:  the device that it stands in for
 * @confine: shall it enter its sandbox?
 * @level:   of its messages, when it has something to say
 * @argv:    of main(): it puts its name there
 */
struct keeper_config {
	struct dev_config device;
	bool confine;
	enum log_level level;
	char **argv;
};

/**
 * keeper_start() - fork the process
 *
 * To be called once, with one thread. The new process closes all descriptors but standard error.
 *
 * Return: 0 or a negative errno
 */
int keeper_start(const struct keeper_config *config, struct keeper **ret_keeper);

/* keeper_carry() - for dev_ports.carry of the device of a VMM that is attached; NULL: there is none */
struct dev_carry *keeper_carry(struct keeper *k);

/* keeper_input() - likewise for vus_session_set_input() */
struct vus_input *keeper_input(struct keeper *k);

/* keeper_free() - it ends, unless it has a VM to keep; NULL is fine. Returns NULL. */
struct keeper *keeper_free(struct keeper *k);

/*
 * The rest may be called with NULL, and does nothing then; nor does it when the keeper has failed, which is logged
 * once.
 */

/* keeper_attach() - a VMM connected; @fd is borrowed. It is followed until keeper_drop() or keeper_hand_over() */
void keeper_attach(struct keeper *k, int fd);

/* keeper_tell() - the VMM sent this message, which will now be carried out; as vus_ops.tap */
void keeper_tell(struct keeper *k, const uint8_t *msg, size_t len, const int *fds, size_t n_fds);

/* keeper_told() - what was told of has been carried out, and answered */
void keeper_told(struct keeper *k);

/* keeper_drop() - the VMM has gone, or is to be left alone */
void keeper_drop(struct keeper *k);

/*
 * keeper_hand_over() - the keeper shall serve the VMM now. This process must have let go of its connection and of
 * guest memory.
 */
void keeper_hand_over(struct keeper *k);

#endif /* VMCI_DEVICE_KEEPER_H */
