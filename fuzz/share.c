/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The datagrams of the service for shared memory, both ways. The first byte: 0 for a request, else a reply. What can be
 * read comes out the same when it is written and read again.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "proto/share.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool is_right)
{
	if (!is_right)
		abort();
}

static void request(const uint8_t *data, size_t size)
{
	struct share_request one, two;
	uint8_t buf[SHARE_REQUEST_SIZE];

	if (share_request_parse(data, size, &one))
		return;
	check(size >= SHARE_REQUEST_SIZE);
	share_request_build(buf, &one);
	check(!share_request_parse(buf, sizeof(buf), &two));
	check(one.version == two.version && one.action == two.action && one.id == two.id && one.bytes == two.bytes &&
	      handle_is_equal(one.handle, two.handle));
	check(*share_action_to_string(one.action) != '\0');
}

static void reply(const uint8_t *data, size_t size)
{
	static struct share_reply one;
	uint8_t buf[SHARE_REPLY_MAX];

	if (share_reply_parse(data, size, &one))
		return;
	check(one.n_ports <= SHARE_PORTS_MAX);
	check(share_reply_build(buf, &one) == size);
	check(!memcmp(buf, data, size));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (!size)
		return 0;
	if (data[0])
		reply(data + 1, size - 1);
	else
		request(data + 1, size - 1);
	return 0;
}
