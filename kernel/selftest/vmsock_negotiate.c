// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* Included by vmsock/negotiate.c. */
#include "selftest.h"

bool __init vmsock_negotiate_selftest(void)
{
	static const struct ring_limits usual = { 262144, 128, 262144 };
	static const struct ring_limits odd = { 4097, 4096, 5000 };
	static const struct ring_limits none = { 0, 0, U64_MAX };
	static const struct ring_limits huge = { U64_MAX, 0, U64_MAX };
	bool ok = true;

	T(vmsock_negotiate_request(&usual) == 262144);
	T(vmsock_negotiate_request(&none) == 0);
	T(vmsock_negotiate_request(&huge) == 0);

	T(vmsock_negotiate_answer(&usual, 262144) == 262144);
	T(vmsock_negotiate_answer(&usual, 128) == 128);
	T(vmsock_negotiate_answer(&usual, 127) == 262144);
	T(vmsock_negotiate_answer(&usual, 262145) == 262144);
	T(vmsock_negotiate_answer(&usual, U64_MAX) == 262144);
	T(vmsock_negotiate_answer(&usual, 0) == 0);
	T(vmsock_negotiate_answer(&odd, 5000) == 5000);
	T(vmsock_negotiate_answer(&odd, 5001) == 4097);
	T(vmsock_negotiate_answer(&none, 1) == 0);
	T(vmsock_negotiate_answer(&none, 2) == 2);
	T(vmsock_negotiate_answer(&huge, (u64)RING_MAX + 1) == 0);
	T(vmsock_negotiate_answer(&huge, RING_MAX) == RING_MAX);

	T(vmsock_negotiate_is_acceptable(&usual, 128) && vmsock_negotiate_is_acceptable(&usual, 262144));
	T(!vmsock_negotiate_is_acceptable(&usual, 127) && !vmsock_negotiate_is_acceptable(&usual, 262145));
	T(!vmsock_negotiate_is_acceptable(&huge, (u64)RING_MAX + 1) && !vmsock_negotiate_is_acceptable(&huge, U64_MAX));
	T(!vmsock_negotiate_is_acceptable(&none, 0) && !vmsock_negotiate_is_acceptable(&none, 1));

	T(negotiate_proto(0) == 0);
	T(negotiate_proto(0xffff) == VMCI_STREAM_PROTO_QSTATE);
	T(negotiate_proto(0xfffe) == 0);
	return ok;
}
