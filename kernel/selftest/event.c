// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
#include "selftest/selftest.h"

bool __init event_selftest(void)
{
	struct ovmci_event event;
	u8 payload[32] = { 0 };
	bool ok = true;
	size_t size;
	u32 id;

	put_le32(payload + 8, 0x11223344);
	put_le32(payload + 12, 0x55667788);
	put_le32(payload + 16, 42);

	put_le32(payload, VMCI_EVENT_QP_PEER_ATTACH);
	T(vmci_event_parse(payload, 24, &event));
	T(event.event == VMCI_EVENT_QP_PEER_ATTACH && event.context == 42);
	T(event.handle.context == 0x11223344 && event.handle.resource == 0x55667788);
	T(vmci_event_parse(payload, 20, &event));
	T(!vmci_event_parse(payload, 19, &event));
	T(!vmci_event_parse(payload, 25, &event));
	put_le32(payload, VMCI_EVENT_CTX_ID_UPDATE);
	T(vmci_event_parse(payload, 16, &event));
	T(event.context == 0x11223344 && !event.handle.context && !event.handle.resource);
	T(vmci_event_parse(payload, 12, &event));
	T(!vmci_event_parse(payload, 11, &event));
	put_le32(payload, VMCI_EVENT_QP_RESUMED);
	T(vmci_event_parse(payload, 4, &event));
	T(!event.context && !event.handle.context);

	/* Whatever it is, nobody looks behind its end. */
	for (id = 0; id < 10; id++) {
		put_le32(payload, id);
		for (size = 0; size < sizeof(payload); size++) {
			bool known = vmci_event_parse(payload, size, &event);

			T(!known || (id <= VMCI_EVENT_QP_PEER_DETACH && size >= 4 && size <= 24));
		}
	}
	put_le32(payload, 0xffffffff);
	T(!vmci_event_parse(payload, 24, &event));
	return ok;
}
