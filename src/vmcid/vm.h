/* SPDX-License-Identifier: BSD-2-Clause */
/* The VMs: their definitions, sockets and devices. Theory: vm.c */
#ifndef VMCID_VM_H
#define VMCID_VM_H

#include "broker/broker.h"
#include "fabric/msg.h"
#include "server.h"

struct vms;
struct vm;

/**
 * struct vms_config
 * @path:     directory of definitions, or NULL: there are none
 * @program:  the device's program
 * @level:    of its log
 * @sandbox:  devices are to have one
 */
struct vms_config {
	const char *path;
	const char *program;
	enum log_level level;
	bool sandbox;
};

/* vms_new() - @config and its strings stay the caller's. 0 or a negative errno */
int vms_new(struct server *server, const struct vms_config *config, struct vms **ret_vms);

/* vms_free() - devices go on by themselves; NULL is fine. Returns NULL. */
struct vms *vms_free(struct vms *vms);

/* vms_reload() - read the definitions. VMs whose device runs keep what they were started with until it has gone. */
void vms_reload(struct vms *vms);

/* vms_resume() - connect to the devices that an earlier vmcid has left */
void vms_resume(struct vms *vms);

/* vms_open() - the grace period is over, or there is none: VMMs may come */
void vms_open(struct vms *vms);

/* vms_is_deserted() - no device runs */
bool vms_is_deserted(const struct vms *vms);

/**
 * vms_find_resumed() - a device says that it has context @cid, and is the VM called @name
 *
 * Return: the VM, which has that context id now; NULL: the token is wrong, or it has a device already
 */
struct vm *vms_find_resumed(struct vms *vms, uint32_t cid, const char *name,
			    const uint8_t token[static FAB_TOKEN_SIZE]);

/**
 * vms_find_uuid() - the running VM that has the UUID of @client's question
 *
 * Of those that @client may know. Return: 0; VMCI_ERROR_NOT_FOUND: none, or more than one
 */
int32_t vms_find_uuid(const struct vms *vms, const struct brk_client *client, const uint8_t uuid[static FAB_UUID_SIZE],
		      uint32_t *ret_cid);

/* vm_config() - for the broker; lives as long as the device's connection */
const struct brk_vm *vm_config(const struct vm *vm);

const char *vm_name(const struct vm *vm);

/**
 * vms_host_window() - where regions of the host's programs lie, as vmcid.conf says
 *
 * It is made if no VM has it yet. Return: a reference, for brk_window_unref(); NULL: there is none: vmcid.conf names
 * none, or no VM with a window is defined there, or there is no memory
 */
struct brk_window *vms_host_window(struct vms *vms);

/* vm_keep_window() - its device has this one, and keeps it even if it is away from us for a while */
void vm_keep_window(struct vm *vm, struct brk_window *window);

/* vm_device_ready(), vm_device_gone() - its connection @peer has said HELLO, has ended */
void vm_device_ready(struct vm *vm, struct peer *peer);
void vm_device_gone(struct vm *vm, struct peer *peer);

#endif /* VMCID_VM_H */
