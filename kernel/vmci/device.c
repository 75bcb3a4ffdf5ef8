// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * DOC: Theory of operation
 *
 * There is one device at most. device_mutex guards the pointer to it and serialises all that goes to it: so a datagram is
 * on its way only while the device is there, and who takes the pointer away under the mutex knows that nobody uses
 * the device.
 *
 * A session is the time from bringing the device up to its reset. Whatever we had with the device is void afterwards:
 * so queue pairs remember their session.
 *
 * Notifiers hear of a device's coming and going, but not of the sessions in between (suspend): clients hear of those as
 * VMCI_EVENT_QP_RESUMED. presence_mutex makes the registration of a notifier atomic with that.
 *
 * Locks, outer first: vmci_device.state, presence_mutex, device_mutex.
 */
#include <linux/module.h>
#include <linux/notifier.h>

#include "device.h"
#include "wire.h"

static DEFINE_MUTEX(device_mutex);
static struct vmci_device *device;
u32 vmci_session_now;
static u32 last_session;
static u32 context_id = VMCI_INVALID_ID;

static DEFINE_MUTEX(presence_mutex);
static BLOCKING_NOTIFIER_HEAD(notifiers);
static struct vmci_device *present;

int ovmci_errno(int result)
{
	if (result >= 0)
		return 0;
	switch (result) {
	case VMCI_ERROR_NO_MEM:
		return -ENOMEM;
	case VMCI_ERROR_DUPLICATE_ENTRY:
	case VMCI_ERROR_ALREADY_EXISTS:
		return -EADDRINUSE;
	case VMCI_ERROR_NO_ACCESS:
		return -EPERM;
	case VMCI_ERROR_NO_RESOURCES:
		return -ENOBUFS;
	case VMCI_ERROR_INVALID_RESOURCE:
		return -EHOSTUNREACH;
	case VMCI_ERROR_DEVICE_NOT_FOUND:
		return -ENODEV;
	default:
		return -EINVAL;
	}
}
EXPORT_SYMBOL_GPL(ovmci_errno);

u32 ovmci_context_id(void)
{
	return READ_ONCE(context_id);
}
EXPORT_SYMBOL_GPL(ovmci_context_id);

bool vmci_device_set_context_id(u32 context)
{
	if (context <= VMCI_CID_HOST || context == VMCI_INVALID_ID)
		return false;
	WRITE_ONCE(context_id, context);
	return true;
}

/* --- Registers -------------------------------------------------------------------------------------------------- */

bool vmci_is_absent(struct vmci_device *vd)
{
	return vmci_read(vd, VMCI_REG_CAPS) == ~0u;
}

void vmci_lost(struct vmci_device *vd, const char *why)
{
	if (xchg(&vd->dead, true))
		return;
	dev_err(&vd->pdev->dev, "%s: it is given up\n", why);
	schedule_work(&vd->lost);
}

int vmci_result(struct vmci_device *vd)
{
	int result = (int)vmci_read(vd, VMCI_REG_RESULT_LOW);

	if (result != -1 || !vmci_is_absent(vd))
		return result;
	vmci_lost(vd, "the device is gone");
	return VMCI_ERROR_DEVICE_NOT_FOUND;
}

/* --- Sending ---------------------------------------------------------------------------------------------------- */

struct vmci_device *vmci_device_lock(void)
{
	mutex_lock(&device_mutex);
	return device && !vmci_is_dead(device) ? device : NULL;
}

void vmci_device_unlock(void)
{
	mutex_unlock(&device_mutex);
}

int vmci_device_send(const void *dg, size_t size)
{
	struct vmci_device *vd = vmci_device_lock();
	int result = vd ? vd->path->send(vd, dg, size) : VMCI_ERROR_DEVICE_NOT_FOUND;

	vmci_device_unlock();
	return result;
}

int vmci_hypercall(struct vmci_device *vd, u32 resource, void *dg, size_t size)
{
	const struct ovmci_handle dst = { VMCI_CID_HYPERVISOR, resource };

	put_header(dg, dst, OVMCI_INVALID_HANDLE, size - VMCI_DG_HEADER_SIZE);
	return vd->path->send(vd, dg, size);
}

/* --- Coming and going ------------------------------------------------------------------------------------------- */

void vmci_device_enter(struct vmci_device *vd, u32 context)
{
	mutex_lock(&device_mutex);
	vmci_device_set_context_id(context);
	device = vd;
	if (++last_session == 0)
		last_session = 1;
	WRITE_ONCE(vmci_session_now, last_session);
	mutex_unlock(&device_mutex);
}

void vmci_device_leave(struct vmci_device *vd)
{
	mutex_lock(&device_mutex);
	if (device == vd) {
		device = NULL;
		WRITE_ONCE(vmci_session_now, 0);
	}
}

void vmci_device_tell(struct vmci_device *vd, bool is_there)
{
	mutex_lock(&presence_mutex);
	if (is_there && !present) {
		present = vd;
		blocking_notifier_call_chain(&notifiers, OVMCI_DEVICE_READY, NULL);
	} else if (!is_there && present == vd) {
		present = NULL;
		WRITE_ONCE(context_id, VMCI_INVALID_ID);
		blocking_notifier_call_chain(&notifiers, OVMCI_DEVICE_GONE, NULL);
	}
	mutex_unlock(&presence_mutex);
}

int ovmci_register_notifier(struct notifier_block *nb)
{
	int r;

	mutex_lock(&presence_mutex);
	r = blocking_notifier_chain_register(&notifiers, nb);
	if (!r && present)
		nb->notifier_call(nb, OVMCI_DEVICE_READY, NULL);
	mutex_unlock(&presence_mutex);
	return r;
}
EXPORT_SYMBOL_GPL(ovmci_register_notifier);

void ovmci_unregister_notifier(struct notifier_block *nb)
{
	blocking_notifier_chain_unregister(&notifiers, nb);
}
EXPORT_SYMBOL_GPL(ovmci_unregister_notifier);

int ovmci_window(struct ovmci_window *ret_window)
{
	int r = -ENODEV;

	mutex_lock(&device_mutex);
	if (device && pci_resource_flags(device->pdev, VMCI_WINDOW_BAR) & IORESOURCE_MEM &&
	    pci_resource_len(device->pdev, VMCI_WINDOW_BAR)) {
		ret_window->base = pci_resource_start(device->pdev, VMCI_WINDOW_BAR);
		ret_window->size = pci_resource_len(device->pdev, VMCI_WINDOW_BAR);
		r = 0;
	}
	mutex_unlock(&device_mutex);
	return r;
}
EXPORT_SYMBOL_GPL(ovmci_window);
