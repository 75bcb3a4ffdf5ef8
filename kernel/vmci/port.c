// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* port.c - the way by I/O ports: byte streams out and in (reference, 3.2 and 3.5) */
#include <linux/mm.h>
#include <linux/sched.h>

#include "device.h"

/* Bytes of string I/O in one go: each may be an exit to the host. */
#define CHUNK 4096u

static int port_alloc(struct vmci_device *vd)
{
	vd->buffer = kvmalloc(BURST_SIZE, GFP_KERNEL);
	return vd->buffer ? 0 : -ENOMEM;
}

static void port_free(struct vmci_device *vd)
{
	kvfree(vd->buffer);
	vd->buffer = NULL;
}

static void port_start(struct vmci_device *vd)
{
}

static int port_send(struct vmci_device *vd, const void *dg, size_t size)
{
	size_t n;

	for (; size; dg += n, size -= n) {
		n = min_t(size_t, size, CHUNK);
		iowrite8_rep(vd->regs + VMCI_REG_DATA_OUT, dg, n);
		cond_resched();
	}
	return vmci_result(vd);
}

/* A device that is gone reads as all ones, which ends the drain. */
static int port_read(struct vmci_device *vd, u32 at, u32 want)
{
	u32 n;

	for (; want; at += n, want -= n) {
		if (vmci_is_dead(vd))
			return -ENODEV;
		n = min(want, CHUNK);
		ioread8_rep(vd->regs + VMCI_REG_DATA_IN, vd->buffer + at, n);
		cond_resched();
	}
	return 0;
}

const struct vmci_path vmci_port_path = {
	.name = "ports",
	.vectors = 2,
	.caps = VMCI_CAP_DATAGRAM,
	.page = PAGE_SIZE,
	.alloc = port_alloc,
	.free = port_free,
	.start = port_start,
	.send = port_send,
	.read = port_read,
};
