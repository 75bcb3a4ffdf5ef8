/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * vmci/vmcilib.h - the VMCI SDK of 2007: datagrams, shared memory, access control, discovery
 *
 * The interface that came with VMware Workstation 6.0, for programs that were written for it, and for small new
 * ones. It lies over <vmci/vmci.h>, which has more: queue pairs, doorbells, events, several memberships in one
 * process. Both may be used in one program; they share nothing but the context.
 *
 * No copy of the original header is known. What is certain about it is told by two samples of that time, a
 * linker's complaint, and drivers. Each declaration below carries one of these marks:
 *
 *	Attested	name, order of arguments and convention of the result are seen in use; the C types are ours
 *	By name		the name is attested, or that of the kernel's function; arguments are taken from the kernel's
 *	Ours		made in the style of the others
 *
 * Conventions
 *	Results	functions that return int: 0 or more is success, negative is a VMCI_ERROR_* of <vmci/defs.h>, in
 *		words by VMCI_ErrorString(). Those that return a handle: VMCI_INVALID_HANDLE is failure. Outputs are
 *		written only on success.
 *	Time	milliseconds: -1 waits for ever, 0 does not wait.
 *	Before	and after the membership (VMCI_InitApp() to VMCI_CleanupApp()) all other functions fail with
 *		VMCI_ERROR_NO_PROCESS, or return an invalid handle or id.
 *	Threads	all functions may be called by any number of threads at once, with the same handles, too. A handle
 *		that one thread destroys is safe in the hands of another: that one gets VMCI_ERROR_NO_HANDLE.
 *	fork	a child is no member; it may call VMCI_InitApp() itself. Shared memory stays mapped in it until then.
 *	Signals	no call is ended by a signal.
 *
 * Beside those named at each function, any call that asks the broker may return VMCI_ERROR_UNAVAILABLE (there
 * is none, and none came back within 5 s), VMCI_ERROR_DATAGRAM_FAILED (it went away while it was being asked:
 * done or not, nobody knows) and VMCI_ERROR_NO_MEM.
 */
#ifndef VMCI_VMCILIB_H
#define VMCI_VMCILIB_H

#include <stdint.h>

#include <vmci/defs.h>

#ifdef __cplusplus
extern "C" {
#endif

#ifndef VMCI_API
#define VMCI_API __attribute__((visibility("default")))
#endif

/* --- Types ---------------------------------------------------------------------------------------------------- */

/* The id of a context or of a resource in one. VMCI_INVALID_ID is none, or any. Attested. */
typedef uint32_t VMCIId;

/* Whom or what: members context and resource. Attested, but for the names of the members. */
typedef struct vmci_handle VMCIHandle;

/* One of VMCI_PRIV_* in <vmci/defs.h>: VMCI_PRIV_DG_SEND, VMCI_PRIV_SM_ATTACH, ... By name. */
typedef uint32_t VMCIResourcePrivilegeType;

/*
 * Handles. VMCI_MAKE_HANDLE(context, resource), VMCI_HANDLE_TO_CONTEXT_ID(handle),
 * VMCI_HANDLE_TO_RESOURCE_ID(handle), VMCI_HANDLE_EQUAL(handle, handle) and VMCI_HANDLE_INVALID(handle)
 * evaluate each argument once. All attested.
 */
static inline VMCIHandle vmcilib_make_handle(VMCIId context, VMCIId resource)
{
	VMCIHandle handle;

	handle.context = context;
	handle.resource = resource;
	return handle;
}

static inline int vmcilib_handle_equal(VMCIHandle a, VMCIHandle b)
{
	return a.context == b.context && a.resource == b.resource;
}

#define VMCI_MAKE_HANDLE(context_id, resource_id) vmcilib_make_handle((context_id), (resource_id))
#define VMCI_HANDLE_TO_CONTEXT_ID(handle) ((handle).context)
#define VMCI_HANDLE_TO_RESOURCE_ID(handle) ((handle).resource)
#define VMCI_HANDLE_EQUAL(a, b) vmcilib_handle_equal((a), (b))

/* Nobody and nothing: both members are VMCI_INVALID_ID. An expression, not an object. Attested. */
#define VMCI_INVALID_HANDLE VMCI_MAKE_HANDLE(VMCI_INVALID_ID, VMCI_INVALID_ID)
#define VMCI_HANDLE_INVALID(handle) VMCI_HANDLE_EQUAL((handle), VMCI_INVALID_HANDLE)

/* The name of the group that every context belongs to; VMCIDs_Lookup() yields its handle. Attested. */
#define VMCI_PUBLIC_GROUP_NAME "vmci public group"

/* --- The membership ------------------------------------------------------------------------------------------- */

/**
 * VMCI_InitApp() - become a member of a context; the first call of all
 * @device: NULL: the broker of the system, or else the user's own, which is started where none runs (vmci_open() of
 *	    <vmci/vmci.h>); or the broker's runtime directory, as an absolute path, or the path of control.sock
 *	    in it; or "/dev/NAME", as programs of 2007 have it, which means the same as NULL
 *
 * The context is the host's, or in a guest the guest's own. The environment variable VMCI_CONTEXT chooses
 * another one: "new" for a context of the process's own, or the number, 16 or more, of such a context, which
 * processes of one user may share.
 *
 * Counted: once a member, further calls succeed at once, and each needs its VMCI_CleanupApp(). A process has
 * one membership: while it has it, @device may be NULL, "/dev/NAME", or the same path again.
 *
 * Waits for at most 5 s. Return: VMCI_SUCCESS; VMCI_ERROR_INVALID_ARGS: an unusable name, another path than the
 * membership's, or an unusable VMCI_CONTEXT; VMCI_ERROR_DEVICE_NOT_FOUND: no broker there;
 * VMCI_ERROR_NO_ACCESS; VMCI_ERROR_NO_RESOURCES: quota. Attested; the paths and the variable are ours.
 */
VMCI_API int VMCI_InitApp(const char *device);

/**
 * VMCI_CleanupApp() - the last call of all; of several memberships, the last one ends it
 *
 * Wakes whoever waits in other threads (VMCI_ERROR_NO_HANDLE, VMCI_ERROR_NO_PROCESS), takes back the names that
 * were registered, destroys the endpoints, detaches the regions (their memory must not be touched any more),
 * and destroys the groups that were created. Without a membership it does nothing. Attested.
 */
VMCI_API void VMCI_CleanupApp(void);

/* VMCI_GetContextID() - the id of one's own context, 2 for the host's; VMCI_INVALID_ID without a membership. Ours. */
VMCI_API VMCIId VMCI_GetContextID(void);

/* VMCI_Version() - version of the library: major << 16 | minor << 8 | patch. Needs no membership. Ours. */
VMCI_API uint32_t VMCI_Version(void);

/* VMCI_ErrorString() - a result in words: "no resources". Never NULL, static. Needs no membership. Ours. */
VMCI_API const char *VMCI_ErrorString(int code);

/* --- Datagrams ------------------------------------------------------------------------------------------------ */

/*
 * Delivered whole or not at all, in order from each sender, unreliably. A payload has at most
 * VMCI_DG_MAX_PAYLOAD (69608) bytes. Each endpoint has a queue of less than 139264 bytes, 24 bytes of header
 * with each datagram included.
 */

/**
 * VMCIDatagram_CreateHnd() - make an endpoint, with a resource id that is chosen for it, 1024 or more
 * @flags: 0
 *
 * Return: its handle; VMCI_INVALID_HANDLE on failure, quota for one. Attested; that the argument means flags is
 * a guess.
 */
VMCI_API VMCIHandle VMCIDatagram_CreateHnd(uint32_t flags);

/**
 * VMCIDatagram_CreateHndEx() - make an endpoint with a wish
 * @rid:   resource id, VMCI_INVALID_ID to have one chosen; below 1024 only for trusted users
 * @flags: 0
 *
 * Return: VMCI_SUCCESS; VMCI_ERROR_ALREADY_EXISTS: the id is taken; VMCI_ERROR_NO_ACCESS; VMCI_ERROR_NO_RESOURCES;
 * VMCI_ERROR_INVALID_ARGS. Ours.
 */
VMCI_API int VMCIDatagram_CreateHndEx(VMCIId rid, uint32_t flags, VMCIHandle *ret_handle);

/**
 * VMCIDatagram_DestroyHnd() - destroy an endpoint and what is in its queue
 *
 * Who waits for its datagrams is woken with VMCI_ERROR_NO_HANDLE; names that this process has given to it are
 * taken back. Waits until other threads have left it, which they do at once, or, if they are sending, in 5 s at most.
 * Return: VMCI_SUCCESS; VMCI_ERROR_NO_HANDLE: not an endpoint of this process, or no more;
 * VMCI_ERROR_INVALID_ARGS: the invalid handle. Attested.
 */
VMCI_API int VMCIDatagram_DestroyHnd(VMCIHandle handle);

/**
 * VMCIDatagram_SendTo() - send @size bytes of @payload
 * @dst: the receiver
 * @src: an endpoint of this process
 *
 * Never waits for the receiver. Return: @size; VMCI_ERROR_NO_RESOURCES: the receiver's queue is full;
 * VMCI_ERROR_DST_UNREACHABLE: no such context; VMCI_ERROR_INVALID_RESOURCE: no such endpoint in it;
 * VMCI_ERROR_NO_ACCESS; VMCI_ERROR_INVALID_ARGS: too large; VMCI_ERROR_NO_HANDLE: @src is not an endpoint of
 * this process. Attested; that success counts the payload is ours, only that it is 0 or more is known.
 */
VMCI_API int VMCIDatagram_SendTo(VMCIHandle dst, VMCIHandle src, uint32_t size, const void *payload);

/**
 * VMCIDatagram_RecvFrom() - wait for a datagram, and take it
 * @handle:  an endpoint of this process
 * @ret_src: its sender, or NULL
 * @buf:     where the payload goes
 * @size:    of @buf
 *
 * Return: bytes of payload, 0 or more; VMCI_ERROR_NO_MEM: @size is too small, and the datagram stays first in
 * the queue; VMCI_ERROR_NO_HANDLE: not an endpoint of this process, or destroyed meanwhile. Attested.
 */
VMCI_API int VMCIDatagram_RecvFrom(VMCIHandle handle, VMCIHandle *ret_src, void *buf, uint32_t size);

/*
 * VMCIDatagram_RecvFromTimeout() - the same, with an end: VMCI_ERROR_TIMEOUT, also when @ms is 0 and nothing is
 * there. Ours.
 */
VMCI_API int VMCIDatagram_RecvFromTimeout(VMCIHandle handle, VMCIHandle *ret_src, void *buf, uint32_t size, int ms);

/**
 * VMCIDatagram_GetFd() - a descriptor for poll(2), readable while datagrams wait
 *
 * It belongs to the endpoint, and is closed with it: only poll it. Return: the descriptor;
 * VMCI_ERROR_NO_HANDLE. Ours.
 */
VMCI_API int VMCIDatagram_GetFd(VMCIHandle handle);

/* --- Shared memory -------------------------------------------------------------------------------------------- */

/*
 * What is in a region is the business of those who share it; there is no word about changes. A region lives as
 * long as somebody is attached to it, its creator or not.
 */

/**
 * VMCISharedMem_Create() - make a region of @size bytes, all zero, and attach to it
 * @ret_addr: where it is mapped
 *
 * Return: its handle; VMCI_INVALID_HANDLE on failure: @size is 0 or more than 1 GiB, quota, no memory. Attested.
 */
VMCI_API VMCIHandle VMCISharedMem_Create(uint32_t size, void **ret_addr);

/**
 * VMCISharedMem_Query() - the size of a region in bytes, as it was created; needs no attachment
 *
 * Return: VMCI_SUCCESS; VMCI_ERROR_NOT_FOUND; VMCI_ERROR_NO_ACCESS; VMCI_ERROR_INVALID_ARGS. Attested.
 */
VMCI_API int VMCISharedMem_Query(VMCIHandle handle, uint32_t *ret_size);

/**
 * VMCISharedMem_Attach() - map a region
 * @ret_addr: where it is
 * @ret_size: its size, as VMCISharedMem_Query()
 *
 * Return: VMCI_SUCCESS; VMCI_ERROR_ALREADY_EXISTS: this process is attached (who creates is); VMCI_ERROR_NOT_FOUND;
 * VMCI_ERROR_NO_ACCESS; VMCI_ERROR_NO_RESOURCES; VMCI_ERROR_INVALID_ARGS. Attested.
 */
VMCI_API int VMCISharedMem_Attach(VMCIHandle handle, void **ret_addr, uint32_t *ret_size);

/**
 * VMCISharedMem_Detach() - unmap a region; for its creator, too, there is no other end
 *
 * The memory must not be touched any more, by no thread.
 * Return: VMCI_SUCCESS; VMCI_SUCCESS_LAST_DETACH: nobody was left, and the region is gone;
 * VMCI_ERROR_NO_HANDLE: this process is not attached; VMCI_ERROR_INVALID_ARGS. Attested.
 */
VMCI_API int VMCISharedMem_Detach(VMCIHandle handle);

/* --- Access control ------------------------------------------------------------------------------------------- */

/*
 * A resource (endpoint, region, group) is open to all who may reach it until somebody is given, or denied, a
 * privilege for it. From then on VMCI_PRIV_DG_SEND is needed to send to an endpoint, and VMCI_PRIV_SM_ATTACH to
 * attach to a region. The context that owns the resource always may. A client is a context, {id, 0}, or a
 * group; what is set for the context itself comes before what its groups have. What is set for a context, and its
 * membership of groups, goes with it. Who changes privileges needs VMCI_PRIV_CH_PRIV, as the owner has.
 */

/**
 * VMCIResource_AddClientPrivileges() - allow and deny
 * @resource:  what it is about
 * @client:    whom
 * @num_allow: entries of @allow, which may be NULL if there are none
 * @num_deny:  entries of @deny, likewise; what is in both is denied
 *
 * Return: VMCI_SUCCESS; VMCI_ERROR_INVALID_ARGS: invalid handles, no privilege at all, or no such resource;
 * VMCI_ERROR_INVALID_PRIV: not a privilege, or not one for this resource; VMCI_ERROR_NO_ACCESS;
 * VMCI_ERROR_NO_RESOURCES. By name.
 */
VMCI_API int VMCIResource_AddClientPrivileges(VMCIHandle resource, VMCIHandle client, int num_allow,
					      const VMCIResourcePrivilegeType *allow, int num_deny,
					      const VMCIResourcePrivilegeType *deny);

/* VMCIResource_RemoveClientPrivileges() - neither allowed nor denied from now on; results as above. By name. */
VMCI_API int VMCIResource_RemoveClientPrivileges(VMCIHandle resource, VMCIHandle client, int num,
						 const VMCIResourcePrivilegeType *privileges);

/* VMCIResource_RemoveAllClientPrivileges() - the same for all of the client's privileges. By name. */
VMCI_API int VMCIResource_RemoveAllClientPrivileges(VMCIHandle resource, VMCIHandle client);

/**
 * VMCIResource_CheckClientPrivilege() - may the context @client do that?
 *
 * Return: VMCI_SUCCESS_ACCESS_GRANTED (2); VMCI_ERROR_NO_ACCESS: denied, or never allowed; VMCI_ERROR_INVALID_PRIV;
 * VMCI_ERROR_INVALID_ARGS. By name.
 */
VMCI_API int VMCIResource_CheckClientPrivilege(VMCIHandle resource, VMCIHandle client,
					       VMCIResourcePrivilegeType privilege);

/**
 * VMCIGroup_Create(), VMCIGroup_Destroy() - a set of contexts that privileges can be given to
 *
 * Return: VMCI_SUCCESS; VMCI_ERROR_INVALID_ARGS, VMCI_ERROR_NO_ACCESS, VMCI_ERROR_NO_RESOURCES,
 * VMCI_ERROR_NOT_FOUND. Names are the kernel's, arguments ours, and so for the others.
 */
VMCI_API int VMCIGroup_Create(VMCIHandle *ret_group);
VMCI_API int VMCIGroup_Destroy(VMCIHandle group);

/**
 * VMCIGroup_AddMember(), VMCIGroup_RemoveMember() - @member is a context, {id, 0}
 * @may_assign: not 0: it may be given privileges through the group
 *
 * Return: as above; VMCI_ERROR_ALREADY_EXISTS: it is a member already
 */
VMCI_API int VMCIGroup_AddMember(VMCIHandle group, VMCIHandle member, int may_assign);
VMCI_API int VMCIGroup_RemoveMember(VMCIHandle group, VMCIHandle member);

/* VMCIGroup_IsMember() - Return: 1 or 0; an error as above */
VMCI_API int VMCIGroup_IsMember(VMCIHandle group, VMCIHandle member);

/* --- Discovery ------------------------------------------------------------------------------------------------ */

/*
 * Names of 1..255 bytes, compared exactly, one name space for the machine. Those that begin with "vmci " are
 * reserved.
 */

/**
 * VMCIDs_Register() - give a name to a handle of one's own context (the host may name anything)
 *
 * Return: VMCI_SUCCESS; VMCI_ERROR_ALREADY_EXISTS: the name is taken; VMCI_ERROR_INVALID_ARGS; VMCI_ERROR_NO_ACCESS;
 * VMCI_ERROR_NO_RESOURCES: quota. Attested.
 */
VMCI_API int VMCIDs_Register(const char *name, VMCIHandle handle);

/*
 * VMCIDs_Lookup() - the handle of a name; does not wait for one. VMCI_ERROR_NOT_FOUND, VMCI_ERROR_INVALID_ARGS.
 * Attested.
 */
VMCI_API int VMCIDs_Lookup(const char *name, VMCIHandle *ret_handle);

/* VMCIDs_LookupTimeout() - the same, but gives it @ms to appear before VMCI_ERROR_NOT_FOUND is the answer. Ours. */
VMCI_API int VMCIDs_LookupTimeout(const char *name, VMCIHandle *ret_handle, int ms);

/*
 * VMCIDs_Unregister() - VMCI_ERROR_NOT_FOUND; VMCI_ERROR_NO_ACCESS: another context's; VMCI_ERROR_INVALID_ARGS.
 * Attested.
 */
VMCI_API int VMCIDs_Unregister(const char *name);

#ifdef __cplusplus
}
#endif

#endif /* VMCI_VMCILIB_H */
