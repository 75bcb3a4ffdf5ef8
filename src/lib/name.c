/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The discovery service. Requests and replies have the wire format of its datagrams, over the broker's connection;
 * in a guest without a broker they are datagrams. What is registered is an object of the membership, so that a new
 * broker is told; it is gone with the membership, or with the handle that it names.
 */
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "lib/gate.h"
#include "lib/guest.h"
#include "lib/lib.h"
#include "lib/name.h"
#include "proto/discovery.h"

/* Between two looks at a name that is not there yet; the steps double. */
#define LOOK_MIN_MS 5
#define LOOK_MAX_MS 100

/**
 * struct name - a registered one
 * @is_known: a broker has granted it. Set last, by who registers it, and who sees it may drop the name
 */
struct name {
	struct lib_object object;
	struct vmci_handle handle;
	uint8_t token[FAB_TOKEN_SIZE];
	atomic_bool is_known;
	size_t size;
	char name[DISCOVERY_NAME_MAX + 1];
};

/**
 * struct question - a request under way
 * @name:   what is registered; or NULL
 * @handle: what was found
 */
struct question {
	int32_t id;
	struct name *name;
	struct vmci_handle handle;
};

static struct name *of_object(const struct lib_object *object)
{
	return (struct name *)((uintptr_t)object - offsetof(struct name, object));
}

/**
 * read_reply() - what the service says
 *
 * Return: its code; VMCI_ERROR_GENERIC: that was no answer to request @id
 */
static int read_reply(const struct fab_msg *reply, int32_t id, struct vmci_handle *ret_handle)
{
	struct discovery_reply answer;

	if (discovery_reply_parse(reply->data, reply->len, &answer) || answer.id != id)
		return lib_fail(VMCI_ERROR_GENERIC, "the broker's answer is none");
	if (answer.code < 0)
		return lib_fail(answer.code, "the broker says: %s%s%.*s", vmci_strerror(answer.code),
				answer.text_size ? ": " : "", (int)answer.text_size, answer.text);
	*ret_handle = answer.handle;
	return 0;
}

static int resume(struct lib_object *object, struct fab_client *client)
{
	struct name *name = of_object(object);
	struct discovery_request question = {
		.action = DISCOVERY_REGISTER,
		.handle = name->handle,
		.name = name->name,
		.name_size = name->size,
	};
	uint8_t payload[DISCOVERY_PAYLOAD_MAX];
	struct fab_msg reply, request = { .type = FAB_NAME, .flags = FAB_F_RESUME, .data = payload };
	struct vmci_handle handle;
	int r;

	if (!atomic_load(&name->is_known))
		return 0;
	request.len = discovery_request_build(payload, &question);
	memcpy(request.token, name->token, sizeof(request.token));
	r = lib_resume_call(client, &request, &reply);
	if (r)
		return r;
	r = read_reply(&reply, 0, &handle);
	if (!r)
		memcpy(name->token, reply.token, sizeof(name->token));
	else
		atomic_store(&name->is_known, false);
	fab_drop(&reply);
	return r;
}

static void drop(struct lib_object *object)
{
	free(of_object(object));
}

static const struct lib_object_ops name_ops = { .resume = resume, .drop = drop };

static int take_answer(struct fab_msg *reply, void *arg)
{
	struct question *question = arg;
	int r = read_reply(reply, question->id, &question->handle);

	if (!r && question->name) {
		memcpy(question->name->token, reply->token, sizeof(question->name->token));
		atomic_store(&question->name->is_known, true);
	}
	return r;
}

/**
 * ask() - ask the service
 * @handle: register: what gets the name; lookup: what was found
 *
 * Return: 0; VMCI_ERROR_*
 */
static int ask(struct vmci *vmci, enum discovery_action action, const char *text, struct name *name,
	       struct vmci_handle *handle)
{
	static atomic_int ids;
	struct question question = { .id = atomic_fetch_add(&ids, 1), .name = name };
	struct discovery_request wire = {
		.action = action,
		.id = question.id,
		.handle = { VMCI_INVALID_ID, VMCI_INVALID_ID },
		.name = text,
		.name_size = text ? strnlen(text, DISCOVERY_NAME_MAX + 1) : 0,
	};
	uint8_t payload[DISCOVERY_PAYLOAD_MAX];
	struct fab_msg request = { .type = FAB_NAME, .data = payload };
	int r = lib_usable(vmci);

	if (r)
		return r;
	if (!wire.name_size || wire.name_size > DISCOVERY_NAME_MAX)
		return lib_fail(VMCI_ERROR_INVALID_ARGS, "a name has 1 to %u bytes", DISCOVERY_NAME_MAX);
	if (lib_guest(vmci))
		return guest_name(lib_guest(vmci), action, text, handle);
	if (action == DISCOVERY_REGISTER)
		wire.handle = *handle;
	request.len = discovery_request_build(payload, &wire);
	r = lib_call(vmci, &request, true, take_answer, &question);
	if (!r && action == DISCOVERY_LOOKUP)
		*handle = question.handle;
	return r;
}

int vmci_name_register(struct vmci *vmci, const char *text, struct vmci_handle handle)
{
	struct name *name = calloc(1, sizeof(*name));
	int r;

	if (!name)
		return lib_fail(VMCI_ERROR_NO_MEM, "vmci_name_register: out of memory");
	name->object.ops = &name_ops;
	atomic_init(&name->is_known, false);
	name->handle = handle;
	name->size = text ? strnlen(text, DISCOVERY_NAME_MAX) : 0;
	if (text)
		memcpy(name->name, text, name->size);
	lib_add(vmci, &name->object);
	r = ask(vmci, DISCOVERY_REGISTER, text, name, &handle);
	/* The host's broker looks after names that guests have registered. */
	if (r || lib_guest(vmci)) {
		lib_del(vmci, &name->object);
		free(name);
	}
	return r ? lib_where(r, "vmci_name_register: \"%s\" for %u:%u", text ? text : "", handle.context,
			     handle.resource) : 0;
}

static bool is_called(const struct lib_object *object, const void *arg)
{
	const struct name *name = of_object(object);

	return atomic_load(&name->is_known) && !strcmp(name->name, arg);
}

static bool is_of(const struct lib_object *object, const void *arg)
{
	const struct name *name = of_object(object);

	return atomic_load(&name->is_known) && handle_is_equal(name->handle, *(const struct vmci_handle *)arg);
}

void name_forget(struct vmci *vmci, struct vmci_handle handle)
{
	lib_remove_if(vmci, &name_ops, is_of, &handle);
}

int vmci_name_unregister(struct vmci *vmci, const char *text)
{
	int r = ask(vmci, DISCOVERY_UNREGISTER, text, NULL, NULL);

	if (!r)
		lib_remove_if(vmci, &name_ops, is_called, text);
	return r ? lib_where(r, "vmci_name_unregister: \"%s\"", text ? text : "") : 0;
}

int vmci_name_lookup(struct vmci *vmci, const char *text, int timeout_ms, struct vmci_handle *ret_handle)
{
	struct lib_deadline deadline = lib_deadline(timeout_ms);
	struct vmci_handle handle;
	int step = LOOK_MIN_MS;
	int left, r;

	for (;;) {
		struct timespec pause = { 0 };

		r = ask(vmci, DISCOVERY_LOOKUP, text, NULL, &handle);
		if (r != VMCI_ERROR_NOT_FOUND)
			break;
		left = lib_left_ms(deadline);
		if (!left)
			break;
		if (left > 0 && step > left)
			step = left;
		pause.tv_nsec = step * 1000000L;
		nanosleep(&pause, NULL);
		step = step * 2 < LOOK_MAX_MS ? step * 2 : LOOK_MAX_MS;
	}
	if (r)
		return lib_where(r, "vmci_name_lookup: \"%s\"", text ? text : "");
	*ret_handle = handle;
	return 0;
}
