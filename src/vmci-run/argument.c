/* SPDX-License-Identifier: BSD-2-Clause */
#include "argument.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#define LETTERS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"

char *argument_rewrite(const char *text)
{
	static const char prefix[] = "VSOCK-";
	char quad[INET_ADDRSTRLEN], *rewritten;
	const char *at, *end;
	struct in_addr address;
	size_t word;

	if (strncasecmp(text, prefix, strlen(prefix)))
		return NULL;
	word = strspn(text + strlen(prefix), LETTERS);
	at = text + strlen(prefix) + word;
	if (!word || *at != ':')
		return NULL;
	end = strchr(++at, ':');
	if (!end || (size_t)(end - at) >= sizeof(quad))
		return NULL;
	memcpy(quad, at, (size_t)(end - at));
	quad[end - at] = '\0';
	/* Four decimal numbers without leading zeros, and nothing else */
	if (inet_pton(AF_INET, quad, &address) != 1)
		return NULL;
	if (asprintf(&rewritten, "%.*s%u%s", (int)(at - text), text, ntohl(address.s_addr), end) < 0)
		return NULL;
	return rewritten;
}
