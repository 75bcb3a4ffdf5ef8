/* SPDX-License-Identifier: BSD-2-Clause */
#include "base/uuid.h"

static int digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

bool uuid_parse(const char *text, uint8_t ret_uuid[static UUID_SIZE])
{
	for (unsigned i = 0; i < UUID_SIZE; i++) {
		int high, low;

		if (i && (*text == ' ' || *text == '-'))
			text++;
		high = digit(*text);
		low = high < 0 ? -1 : digit(text[1]);
		if (low < 0)
			return false;
		ret_uuid[i] = (uint8_t)(high << 4 | low);
		text += 2;
	}
	return !*text;
}
