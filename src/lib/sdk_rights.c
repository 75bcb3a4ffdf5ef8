/* SPDX-License-Identifier: BSD-2-Clause */
/* The SDK of 2007: access control, and groups. */
#include "lib/sdk_priv.h"

/* The privileges of an array as a mask. Return: 0, VMCI_ERROR_INVALID_ARGS or VMCI_ERROR_INVALID_PRIV */
static int mask_of(int num, const VMCIResourcePrivilegeType *privileges, uint32_t *ret_mask)
{
	uint32_t mask = 0;

	if (num < 0 || (num > 0 && !privileges))
		return VMCI_ERROR_INVALID_ARGS;
	for (int i = 0; i < num; i++) {
		if (privileges[i] >= VMCI_PRIV_NUM)
			return VMCI_ERROR_INVALID_PRIV;
		mask |= 1u << privileges[i];
	}
	*ret_mask = mask;
	return VMCI_SUCCESS;
}

/* Handles are valid, and we are members. Return: 0; then sdk_leave() */
static int enter(VMCIHandle a, VMCIHandle b, struct vmci **ret_vmci)
{
	if (VMCI_HANDLE_INVALID(a) || VMCI_HANDLE_INVALID(b))
		return VMCI_ERROR_INVALID_ARGS;
	return sdk_enter(ret_vmci);
}

int VMCIResource_AddClientPrivileges(VMCIHandle resource, VMCIHandle client, int num_allow,
				     const VMCIResourcePrivilegeType *allow, int num_deny,
				     const VMCIResourcePrivilegeType *deny)
{
	uint32_t allowed, denied;
	struct vmci *vmci;
	int result = mask_of(num_allow, allow, &allowed);

	if (result == VMCI_SUCCESS)
		result = mask_of(num_deny, deny, &denied);
	if (result == VMCI_SUCCESS && !(allowed | denied))
		result = VMCI_ERROR_INVALID_ARGS;
	if (result == VMCI_SUCCESS)
		result = enter(resource, client, &vmci);
	if (result != VMCI_SUCCESS)
		return result;
	result = vmci_grant(vmci, resource, client, allowed & ~denied, denied);
	sdk_leave();
	return result;
}

int VMCIResource_RemoveClientPrivileges(VMCIHandle resource, VMCIHandle client, int num,
					const VMCIResourcePrivilegeType *privileges)
{
	struct vmci *vmci;
	uint32_t mask;
	int result = mask_of(num, privileges, &mask);

	if (result == VMCI_SUCCESS && !mask)
		result = VMCI_ERROR_INVALID_ARGS;
	if (result == VMCI_SUCCESS)
		result = enter(resource, client, &vmci);
	if (result != VMCI_SUCCESS)
		return result;
	result = vmci_revoke(vmci, resource, client, mask);
	sdk_leave();
	return result;
}

int VMCIResource_RemoveAllClientPrivileges(VMCIHandle resource, VMCIHandle client)
{
	struct vmci *vmci;
	int result = enter(resource, client, &vmci);

	if (result != VMCI_SUCCESS)
		return result;
	result = vmci_revoke_all(vmci, resource, client);
	sdk_leave();
	return result;
}

int VMCIResource_CheckClientPrivilege(VMCIHandle resource, VMCIHandle client, VMCIResourcePrivilegeType privilege)
{
	struct vmci *vmci;
	int result;

	if (privilege >= VMCI_PRIV_NUM)
		return VMCI_ERROR_INVALID_PRIV;
	result = enter(resource, client, &vmci);
	if (result != VMCI_SUCCESS)
		return result;
	result = vmci_check(vmci, resource, client, privilege);
	sdk_leave();
	return result;
}

int VMCIGroup_Create(VMCIHandle *ret_group)
{
	struct vmci *vmci;
	VMCIHandle group;
	int result;

	if (!ret_group)
		return VMCI_ERROR_INVALID_ARGS;
	result = sdk_enter(&vmci);
	if (result != VMCI_SUCCESS)
		return result;
	result = vmci_group_create(vmci, &group);
	if (result >= 0) {
		result = sdk_add(SDK_GROUP, group, NULL);
		if (result == VMCI_SUCCESS)
			*ret_group = group;
		else
			vmci_group_destroy(vmci, group);
	}
	sdk_leave();
	return result;
}

int VMCIGroup_Destroy(VMCIHandle group)
{
	struct sdk_object *object;
	struct vmci *vmci;
	int result = enter(group, group, &vmci);

	if (result != VMCI_SUCCESS)
		return result;
	/* another process's may be destroyed, too, with the right to do so */
	if (sdk_take(SDK_GROUP, group, &object) == VMCI_SUCCESS)
		result = sdk_end(vmci, object);
	else
		result = vmci_group_destroy(vmci, group);
	sdk_leave();
	return result;
}

int VMCIGroup_AddMember(VMCIHandle group, VMCIHandle member, int may_assign)
{
	struct vmci *vmci;
	int result = enter(group, member, &vmci);

	if (result != VMCI_SUCCESS)
		return result;
	result = vmci_group_add(vmci, group, member, may_assign != 0);
	sdk_leave();
	return result;
}

int VMCIGroup_RemoveMember(VMCIHandle group, VMCIHandle member)
{
	struct vmci *vmci;
	int result = enter(group, member, &vmci);

	if (result != VMCI_SUCCESS)
		return result;
	result = vmci_group_remove(vmci, group, member);
	sdk_leave();
	return result;
}

int VMCIGroup_IsMember(VMCIHandle group, VMCIHandle member)
{
	struct vmci *vmci;
	int result = enter(group, member, &vmci);

	if (result != VMCI_SUCCESS)
		return result;
	result = vmci_group_is_member(vmci, group, member);
	sdk_leave();
	return result;
}
