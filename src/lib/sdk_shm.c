/* SPDX-License-Identifier: BSD-2-Clause */
/* The SDK of 2007: shared memory. */
#include "lib/sdk_priv.h"

/* What sizes the SDK can name: vmci_shm_create() of this library allows less, another program's may be larger. */
static bool has_size(uint64_t size)
{
	return size <= UINT32_MAX;
}

VMCIHandle VMCISharedMem_Create(uint32_t size, void **ret_addr)
{
	VMCIHandle handle = VMCI_INVALID_HANDLE;
	struct vmci_shm *shm;
	struct vmci *vmci;

	if (!ret_addr || size == 0 || sdk_enter(&vmci) != VMCI_SUCCESS)
		return handle;
	if (vmci_shm_create(vmci, VMCI_INVALID_ID, size, &shm) >= 0) {
		void *addr = vmci_shm_address(shm);
		VMCIHandle made = vmci_shm_handle(shm);

		if (sdk_add(SDK_SHM, made, shm) == VMCI_SUCCESS) {
			*ret_addr = addr;
			handle = made;
		} else {
			vmci_shm_detach(shm);
		}
	}
	sdk_leave();
	return handle;
}

int VMCISharedMem_Query(VMCIHandle handle, uint32_t *ret_size)
{
	struct vmci *vmci;
	uint64_t size;
	int result;

	if (!ret_size || VMCI_HANDLE_INVALID(handle))
		return VMCI_ERROR_INVALID_ARGS;
	result = sdk_enter(&vmci);
	if (result != VMCI_SUCCESS)
		return result;
	result = vmci_shm_query(vmci, handle, &size);
	sdk_leave();
	if (result < 0)
		return result;
	if (!has_size(size))
		return VMCI_ERROR_INVALID_SIZE;
	*ret_size = (uint32_t)size;
	return VMCI_SUCCESS;
}

/* Put a region into the table, or detach it. */
static int add_region(struct vmci_shm *shm, VMCIHandle handle, void **ret_addr, uint32_t *ret_size)
{
	uint64_t size = vmci_shm_size(shm);
	void *addr = vmci_shm_address(shm);
	int result = has_size(size) ? sdk_add(SDK_SHM, handle, shm) : VMCI_ERROR_INVALID_SIZE;

	if (result != VMCI_SUCCESS) {
		vmci_shm_detach(shm);
		return result;
	}
	*ret_addr = addr;
	*ret_size = (uint32_t)size;
	return VMCI_SUCCESS;
}

int VMCISharedMem_Attach(VMCIHandle handle, void **ret_addr, uint32_t *ret_size)
{
	struct vmci_shm *shm;
	struct vmci *vmci;
	int result;

	if (!ret_addr || !ret_size || VMCI_HANDLE_INVALID(handle))
		return VMCI_ERROR_INVALID_ARGS;
	result = sdk_enter(&vmci);
	if (result != VMCI_SUCCESS)
		return result;
	result = vmci_shm_attach(vmci, handle, &shm);
	if (result >= 0)
		result = add_region(shm, handle, ret_addr, ret_size);
	sdk_leave();
	return result;
}

int VMCISharedMem_Detach(VMCIHandle handle)
{
	struct sdk_object *object;
	struct vmci *vmci;
	int result = sdk_enter(&vmci);

	if (result != VMCI_SUCCESS)
		return result;
	result = sdk_take(SDK_SHM, handle, &object);
	if (result == VMCI_SUCCESS)
		result = sdk_end(vmci, object);
	sdk_leave();
	return result;
}
