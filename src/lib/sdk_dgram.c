/* SPDX-License-Identifier: BSD-2-Clause */
/* The SDK of 2007: datagrams. */
#include <errno.h>
#include <poll.h>
#include <time.h>

#include "lib/sdk_priv.h"

/* So often who waits looks whether a new broker has refused the endpoint, which its descriptor does not tell. */
#define LOOK_MS 1000

int VMCIDatagram_CreateHndEx(VMCIId rid, uint32_t flags, VMCIHandle *ret_handle)
{
	struct vmci_dgram *dgram;
	struct vmci *vmci;
	int result;

	if (flags || !ret_handle)
		return VMCI_ERROR_INVALID_ARGS;
	result = sdk_enter(&vmci);
	if (result != VMCI_SUCCESS)
		return result;
	result = vmci_dgram_open(vmci, rid, &dgram);
	if (result >= 0) {
		VMCIHandle handle = vmci_dgram_handle(dgram);

		result = sdk_add(SDK_DGRAM, handle, dgram);
		if (result == VMCI_SUCCESS)
			*ret_handle = handle;
		else
			vmci_dgram_close(dgram);
	}
	sdk_leave();
	return result;
}

VMCIHandle VMCIDatagram_CreateHnd(uint32_t flags)
{
	VMCIHandle handle = VMCI_INVALID_HANDLE;

	VMCIDatagram_CreateHndEx(VMCI_INVALID_ID, flags, &handle);
	return handle;
}

int VMCIDatagram_DestroyHnd(VMCIHandle handle)
{
	struct sdk_object *object;
	struct vmci *vmci;
	int result = sdk_enter(&vmci);

	if (result != VMCI_SUCCESS)
		return result;
	result = sdk_take(SDK_DGRAM, handle, &object);
	if (result == VMCI_SUCCESS)
		result = sdk_end(vmci, object);
	sdk_leave();
	return result;
}

int VMCIDatagram_SendTo(VMCIHandle dst, VMCIHandle src, uint32_t size, const void *payload)
{
	struct sdk_object *object;
	int result;

	if (size > VMCI_DG_MAX_PAYLOAD || (!payload && size > 0))
		return VMCI_ERROR_INVALID_ARGS;
	result = sdk_get(SDK_DGRAM, src, &object);
	if (result != VMCI_SUCCESS)
		return result;
	result = vmci_dgram_send(object->dgram, dst, payload ? payload : "", size);
	sdk_put(object);
	return result;
}

static int64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/*
 * Sleep until there may be a datagram, or the object is dead. Return: 0, VMCI_ERROR_TIMEOUT or VMCI_ERROR_NO_HANDLE
 */
static int wait_for_datagram(struct sdk_object *object, int64_t end)
{
	struct pollfd fds[2] = { { .events = POLLIN }, { .events = POLLIN } };
	int64_t left = end < 0 ? LOOK_MS : end - now_ms();
	int n;

	if (left <= 0)
		return VMCI_ERROR_TIMEOUT;
	fds[0].fd = vmci_dgram_fd(object->dgram);
	fds[1].fd = sdk_wake(object);
	if (fds[1].fd < 0)
		return fds[1].fd;
	n = poll(fds, 2, left < LOOK_MS ? (int)left : LOOK_MS);
	if (n < 0 && errno != EINTR)
		return VMCI_ERROR_NO_RESOURCES;
	if (n > 0 && fds[1].revents)
		return VMCI_ERROR_NO_HANDLE;
	return VMCI_SUCCESS;
}

int VMCIDatagram_RecvFromTimeout(VMCIHandle handle, VMCIHandle *ret_src, void *buf, uint32_t size, int ms)
{
	int64_t end = ms < 0 ? -1 : now_ms() + ms;
	struct sdk_object *object;
	int result;

	if (!buf && size > 0)
		return VMCI_ERROR_INVALID_ARGS;
	result = sdk_get(SDK_DGRAM, handle, &object);
	if (result != VMCI_SUCCESS)
		return result;
	/*
	 * It does not sleep in vmci_dgram_recv(), which would have to be woken without knowing whether we are
	 * in there yet.
	 */
	do {
		result = vmci_dgram_recv(object->dgram, buf, size, 0, ret_src);
		if (result != VMCI_ERROR_WOULD_BLOCK)
			break;
		result = wait_for_datagram(object, end);
	} while (result == VMCI_SUCCESS);
	sdk_put(object);
	return result;
}

int VMCIDatagram_RecvFrom(VMCIHandle handle, VMCIHandle *ret_src, void *buf, uint32_t size)
{
	return VMCIDatagram_RecvFromTimeout(handle, ret_src, buf, size, -1);
}

int VMCIDatagram_GetFd(VMCIHandle handle)
{
	struct sdk_object *object;
	int result = sdk_get(SDK_DGRAM, handle, &object);

	if (result != VMCI_SUCCESS)
		return result;
	result = vmci_dgram_fd(object->dgram);
	sdk_put(object);
	return result;
}
