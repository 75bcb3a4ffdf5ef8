/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * DOC: Theory of operation
 *
 * A request to register or unregister is noted when it goes out, and what it says is true once the answer says so. A
 * request finds its answer by the resource that asked, and by the id in both. Answers that were lost, or that vmcid
 * never gave, leave notes behind, which make room for later ones.
 */
#include "name.h"

#include <string.h>

static bool is_called(const struct name *name, const char *text, size_t size)
{
	return name->size == size && !memcmp(name->text, text, size);
}

void names_ask(struct names *names, uint32_t from, const uint8_t *payload, size_t size)
{
	struct discovery_request request;
	struct name *name;

	if (discovery_request_parse(payload, size, &request) || !request.name_size ||
	    request.name_size > DISCOVERY_NAME_MAX)
		return;
	if (request.action != DISCOVERY_REGISTER && request.action != DISCOVERY_UNREGISTER)
		return;
	name = &names->asked[names->n_asked++ % LIMIT_NAMES_ASKED];
	*name = (struct name){
		.from = from,
		.id = request.id,
		.action = request.action,
		.handle = request.handle,
		.size = request.name_size,
	};
	memcpy(name->text, request.name, request.name_size);
}

static void forget(struct names *names, unsigned i)
{
	if (!names->known[i].told)
		names->n_untold--;
	names->known[i] = names->known[--names->n_known];
}

static void carry_out(struct names *names, const struct name *asked)
{
	for (unsigned i = 0; i < names->n_known; i++)
		if (is_called(&names->known[i], asked->text, asked->size)) {
			forget(names, i);
			break;
		}
	if (asked->action != DISCOVERY_REGISTER || names->n_known == LIMIT_BRK_NAMES)
		return;
	names->known[names->n_known] = *asked;
	names->known[names->n_known++].told = true;
}

void names_answer(struct names *names, uint32_t to, const uint8_t *payload, size_t size)
{
	struct discovery_reply reply;

	if (discovery_reply_parse(payload, size, &reply))
		return;
	/* The oldest of those that it can be the answer to. */
	for (unsigned i = 0; i < LIMIT_NAMES_ASKED; i++) {
		struct name *asked = &names->asked[(names->n_asked + i) % LIMIT_NAMES_ASKED];

		if (!asked->size || asked->from != to || asked->id != reply.id)
			continue;
		if (reply.code >= 0)
			carry_out(names, asked);
		asked->size = 0;
		return;
	}
}

void names_tell_all(struct names *names)
{
	for (unsigned i = 0; i < names->n_known; i++)
		names->known[i].told = false;
	names->n_untold = names->n_known;
}

static unsigned first_untold(const struct names *names)
{
	unsigned i = 0;

	while (i < names->n_known && names->known[i].told)
		i++;
	return i;
}

size_t names_next(struct names *names, uint8_t *buf)
{
	const struct name *name = &names->known[first_untold(names)];

	if (!names->n_untold)
		return 0;
	return discovery_request_build(buf, &(struct discovery_request){
		.action = DISCOVERY_REGISTER, .handle = name->handle, .name = name->text, .name_size = name->size,
	});
}

void names_told(struct names *names, int32_t code)
{
	unsigned i = first_untold(names);

	if (!names->n_untold)
		return;
	if (code < 0) {
		forget(names, i);
		return;
	}
	names->known[i].told = true;
	names->n_untold--;
}

void names_forget(struct names *names, struct vmci_handle handle)
{
	for (unsigned i = names->n_known; i > 0; i--)
		if (handle_is_equal(names->known[i - 1].handle, handle))
			forget(names, i - 1);
}
