// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * vmci.ko - the guest's half of VMCI: the driver of the PCI device 15ad:0740, and a kernel API on it (ovmci.h)
 *
 * What is where: pci.c binds the device and brings it up and down; device.c knows which one is there; port.c and dma.c
 * are the two ways to it, receive.c and burst.c what comes from it; datagram.c, event.c, bell.c and qpair.c are the API;
 * dev*.c are /dev/vmci, which is made of that.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/module.h>
#include <linux/pci.h>
#include <linux/workqueue.h>

#include "callee.h"
#include "dev.h"
#include "device.h"
#include "pci.h"
#include "selftest/selftest.h"

DEFINE_SRCU(vmci_callees);
struct workqueue_struct *vmci_workers;

static int __init vmci_init(void)
{
	int r;

	if (!vmci_selftest())
		return -ENOTRECOVERABLE;
	vmci_workers = alloc_workqueue("vmci", WQ_UNBOUND, 0);
	if (!vmci_workers)
		return -ENOMEM;
	r = pci_register_driver(&vmci_pci_driver);
	if (r)
		goto destroy;
	r = dev_init();
	if (r)
		goto unregister;
	return 0;
unregister:
	pci_unregister_driver(&vmci_pci_driver);
destroy:
	destroy_workqueue(vmci_workers);
	return r;
}

static void __exit vmci_exit(void)
{
	dev_exit();
	pci_unregister_driver(&vmci_pci_driver);
	destroy_workqueue(vmci_workers);
	srcu_barrier(&vmci_callees);
}

module_init(vmci_init);
module_exit(vmci_exit);

MODULE_DESCRIPTION("VMware Virtual Machine Communication Interface, guest driver of OpenVMCI");
MODULE_AUTHOR("the OpenVMCI maintainers");
MODULE_VERSION(OVMCI_VERSION);
MODULE_LICENSE("Dual BSD/GPL");
