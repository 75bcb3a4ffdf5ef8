/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Streams: who may have which port, and who may connect to whom. Ports themselves are vmcid's, and in truth the
 * kernel's: nothing is remembered here. VMCI sockets, 5.6 and 5.8; transport reference, 13.
 */
#include "broker/priv.h"

int32_t brk_stream_own(struct brk_client *client, struct vmci_handle wish, struct vmci_handle *ret_address)
{
	if (!client->context)
		return VMCI_ERROR_INVALID_ARGS;
	if (wish.context == VMCI_INVALID_ID)
		wish.context = client->context->cid;
	if (wish.context != client->context->cid)
		return brk_denied(client, "have port", wish, "another context");
	/* A guest's ports are its kernel's affair. */
	if (wish.resource <= VMCI_PORT_LAST_RESERVED && !client->creds.device && !brk_client_is_trusted(client))
		return brk_denied(client, "have port", wish, "port below 1024");
	*ret_address = wish;
	return VMCI_SUCCESS;
}

/* As absent() of datagrams: a guest's CPU waits for the result. */
static int32_t absent(const struct brk_client *client, int32_t code)
{
	return client->creds.device ? code : brk_absent(client->brk, code);
}

int32_t brk_stream_connect(struct brk_client *client, struct vmci_handle to, enum brk_listener listener,
			   struct brk_client **ret_device)
{
	struct brk *brk = client->brk;
	struct brk_context *context;
	bool is_trusted, is_there;
	int32_t result;

	if (!client->context || to.resource == VMCI_PORT_ANY)
		return VMCI_ERROR_INVALID_ARGS;
	context = brk_context_present(brk, to.context);
	if (!context)
		return brk_cid_is_possible(to.context) ? absent(client, VMCI_ERROR_DST_UNREACHABLE) :
							 VMCI_ERROR_DST_UNREACHABLE;
	is_there = context->presence == BRK_VM || listener != BRK_LISTENER_NONE;
	is_trusted = context->presence == BRK_HOST ? listener == BRK_LISTENER_TRUSTED : context->is_trusted;
	result = brk_meet(client, context, is_trusted);
	if (result == VMCI_ERROR_DST_UNREACHABLE)
		return result;
	/* Restricted or not, there is nothing to tell about a port where nobody listens; the firewall comes first. */
	if (!brk_pass(client->context, context, BRK_FILTER_STREAM, to.resource))
		return brk_denied(client, "connect to", to, "filter");
	if (!is_there)
		return VMCI_ERROR_NOT_FOUND;
	if (result)
		return brk_denied(client, "connect to", to, "restricted");
	if (context->presence != BRK_VM)
		return VMCI_SUCCESS;
	/* Within a guest, its kernel connects. */
	if (context->device == client)
		return VMCI_ERROR_NOT_FOUND;
	*ret_device = context->device;
	return BRK_ASK;
}
