/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The SDK of 2007: discovery. The names that this process has registered are kept, to be taken back at its end:
 * what they name may be another process's, and outlive it.
 */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "lib/sdk_priv.h"

/* How long a lookup waits before it sees that the membership ends. */
#define SLICE_MS 50

struct name {
	struct name *next;
	struct vmci_handle handle;
	char text[];
};

/* under the lock */
static struct name *names;

static struct name *name_new(const char *text, struct vmci_handle handle)
{
	size_t size = strlen(text) + 1;
	struct name *name = malloc(sizeof(*name) + size);

	if (!name)
		return NULL;
	memcpy(name->text, text, size);
	name->handle = handle;
	return name;
}

static void remember(struct name *name)
{
	sdk_lock();
	name->next = names;
	names = name;
	sdk_unlock();
}

/* Take out the name @text, or one of @handle, or any: what is not NULL counts. The caller frees it. */
static struct name *take(const char *text, const struct vmci_handle *handle)
{
	struct name *found = NULL;

	sdk_lock();
	for (struct name **at = &names; *at; at = &(*at)->next) {
		if ((!text || !strcmp((*at)->text, text)) &&
		    (!handle || VMCI_HANDLE_EQUAL((*at)->handle, *handle))) {
			found = *at;
			*at = found->next;
			break;
		}
	}
	sdk_unlock();
	return found;
}

void sdk_forget_names(struct vmci *vmci, const struct vmci_handle *handle)
{
	struct vmci_handle now;
	struct name *name;
	int result = VMCI_SUCCESS;

	while ((name = take(NULL, handle))) {
		/* who has waited for the broker in vain does not do so again */
		if (result != VMCI_ERROR_UNAVAILABLE)
			result = vmci_name_lookup(vmci, name->text, 0, &now);
		/* somebody of the same context may have taken it back, and given it to something else */
		if (result >= 0 && VMCI_HANDLE_EQUAL(now, name->handle))
			vmci_name_unregister(vmci, name->text);
		free(name);
	}
}

void sdk_drop_names(void)
{
	struct name *name;

	while ((name = names)) {
		names = name->next;
		free(name);
	}
}

int VMCIDs_Register(const char *name, VMCIHandle handle)
{
	struct vmci *vmci;
	struct name *kept;
	int result;

	if (!name || VMCI_HANDLE_INVALID(handle))
		return VMCI_ERROR_INVALID_ARGS;
	result = sdk_enter(&vmci);
	if (result != VMCI_SUCCESS)
		return result;
	kept = name_new(name, handle);
	result = kept ? vmci_name_register(vmci, name, handle) : VMCI_ERROR_NO_MEM;
	if (result >= 0)
		remember(kept);
	else
		free(kept);
	sdk_leave();
	return result;
}

int VMCIDs_Lookup(const char *name, VMCIHandle *ret_handle)
{
	return VMCIDs_LookupTimeout(name, ret_handle, 0);
}

static int64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

int VMCIDs_LookupTimeout(const char *name, VMCIHandle *ret_handle, int ms)
{
	int64_t end = now_ms() + ms, left = SLICE_MS;
	struct vmci *vmci;
	int result;

	if (!name || !ret_handle)
		return VMCI_ERROR_INVALID_ARGS;
	result = sdk_enter(&vmci);
	if (result != VMCI_SUCCESS)
		return result;
	for (;;) {
		if (ms >= 0) {
			left = end - now_ms();
			if (left < 0)
				left = 0;
		}
		result = vmci_name_lookup(vmci, name, left < SLICE_MS ? (int)left : SLICE_MS, ret_handle);
		if (result != VMCI_ERROR_NOT_FOUND || (ms >= 0 && left <= SLICE_MS))
			break;
		if (sdk_is_closing()) {
			result = VMCI_ERROR_NO_PROCESS;
			break;
		}
	}
	sdk_leave();
	return result;
}

int VMCIDs_Unregister(const char *name)
{
	struct vmci *vmci;
	int result;

	if (!name)
		return VMCI_ERROR_INVALID_ARGS;
	result = sdk_enter(&vmci);
	if (result != VMCI_SUCCESS)
		return result;
	result = vmci_name_unregister(vmci, name);
	if (result >= 0 || result == VMCI_ERROR_NOT_FOUND)
		free(take(name, NULL));
	sdk_leave();
	return result;
}
