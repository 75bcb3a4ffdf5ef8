// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
#include "selftest/selftest.h"

static bool __init is_below(u32 id, void *data)
{
	return id < *(u32 *)data;
}

bool __init id_selftest(void)
{
	u32 cursor = 0, below = 0;
	bool ok = true;

	T(id_choose(&cursor, is_below, &below) == 1024);
	T(id_choose(&cursor, is_below, &below) == 1025);
	below = 2000;
	T(id_choose(&cursor, is_below, &below) == 2000);
	cursor = 0xfffffffe;
	below = 0;
	T(id_choose(&cursor, is_below, &below) == 0xfffffffe);
	T(id_choose(&cursor, is_below, &below) == 1024);
	below = 0xffffffff;
	T(id_choose(&cursor, is_below, &below) == VMCI_INVALID_ID);
	return ok;
}
