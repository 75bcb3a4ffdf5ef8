/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The table of msg.h, as data: what each type and kind of message may carry. One check serves both directions, and both
 * ends: who builds a message asserts it, who parses one refuses what does not pass.
 */
#include "fabric/msg.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "base/bytes.h"

/* Fields that may be other than 0. */
#define HANDLE_CONTEXT 0x01u
#define HANDLE_RESOURCE 0x02u
#define HANDLE (HANDLE_CONTEXT | HANDLE_RESOURCE)
#define OTHER_CONTEXT 0x04u
#define OTHER_RESOURCE 0x08u
#define OTHER (OTHER_CONTEXT | OTHER_RESOURCE)
#define SIZE0 0x10u
#define SIZE1 0x20u
#define SIZES (SIZE0 | SIZE1)
#define TOKEN 0x40u

/* Statuses of success, as bits; the one of DG_SEND is a number of bytes. */
#define STATUS(n) (1u << (n))
#define STATUS_BYTES STATUS(31)

/**
 * struct rule - what one kind of one type may carry
 * @is_known: is there such a message at all?
 * @fields:   that may be other than 0
 * @flags:    that may be set
 * @choice:   of these flags, exactly one is set
 * @status:   allowed when it is not negative; 0 stands for STATUS(0)
 * @data_min: bytes of data, at least
 * @data_max: at most
 * @fds:      descriptors, exactly
 */
struct rule {
	_Bool is_known;
	uint8_t fields;
	uint16_t flags;
	uint16_t choice;
	uint32_t status;
	uint32_t data_min;
	uint32_t data_max;
	unsigned fds;
};

#define RULE(...) { .is_known = 1, __VA_ARGS__ }

static const struct rule rules[FAB_TYPE_NUM][FAB_KIND_NUM] = {
	[FAB_HELLO] = {
		/* A device also has descriptors, and who holds may: fab_check(). */
		[FAB_REQUEST] = RULE(.fields = HANDLE_CONTEXT | SIZE0 | TOKEN,
				     .flags = FAB_F_RESUME | FAB_F_DEVICE | FAB_F_RESTRICTED | FAB_F_HOLD,
				     .data_max = FAB_LABEL_MAX),
		[FAB_REPLY] = RULE(.fields = HANDLE_CONTEXT | SIZE0 | TOKEN,
				   .flags = FAB_F_RESUME | FAB_F_DEVICE | FAB_F_RESTRICTED | FAB_F_TRUSTED |
					    FAB_F_WINDOW | FAB_F_HOLD),
	},
	[FAB_DG_CREATE] = {
		[FAB_REQUEST] = RULE(.fields = HANDLE_RESOURCE | TOKEN, .flags = FAB_F_RESUME, .fds = 1),
		[FAB_REPLY] = RULE(.fields = HANDLE | TOKEN),
	},
	[FAB_DG_DESTROY] = {
		[FAB_REQUEST] = RULE(.fields = HANDLE),
		[FAB_REPLY] = RULE(),
	},
	[FAB_DG_SEND] = {
		[FAB_REQUEST] = RULE(.data_min = VMCI_DG_HEADER_SIZE, .data_max = VMCI_DG_MAX_SIZE),
		[FAB_REPLY] = RULE(.status = STATUS_BYTES),
	},
	[FAB_EVENTS] = {
		[FAB_REQUEST] = RULE(.fds = 1),
		[FAB_REPLY] = RULE(),
	},
	[FAB_WATCH] = {
		[FAB_REQUEST] = RULE(.fields = HANDLE_CONTEXT, .flags = FAB_F_OFF | FAB_F_RESUME),
		[FAB_REPLY] = RULE(),
	},
	[FAB_BELL_CREATE] = {
		[FAB_REQUEST] = RULE(.fields = HANDLE_RESOURCE | TOKEN, .flags = FAB_F_RESUME, .fds = 1),
		[FAB_REPLY] = RULE(.fields = HANDLE | TOKEN),
	},
	[FAB_BELL_DESTROY] = {
		[FAB_REQUEST] = RULE(.fields = HANDLE),
		[FAB_REPLY] = RULE(),
	},
	[FAB_BELL_OPEN] = {
		[FAB_REQUEST] = RULE(.fields = HANDLE),
		[FAB_REPLY] = RULE(.fds = 1),
		[FAB_ASK] = RULE(.fields = HANDLE),
		[FAB_ANSWER] = RULE(.fds = 1),
	},
	[FAB_QP_CREATE] = {
		[FAB_REQUEST] = RULE(.fields = HANDLE | OTHER_CONTEXT | SIZES | TOKEN,
				     .flags = FAB_F_RESUME | FAB_F_TRUSTED | FAB_F_DIRECT, .fds = 2),
		[FAB_REPLY] = RULE(.fields = HANDLE | TOKEN, .status = STATUS(VMCI_SUCCESS_QUEUEPAIR_CREATE)),
	},
	[FAB_QP_ATTACH] = {
		[FAB_REQUEST] = RULE(.fields = HANDLE | OTHER_CONTEXT | SIZES,
				     .flags = FAB_F_TRUSTED | FAB_F_DIRECT),
		[FAB_REPLY] = RULE(.fields = OTHER_CONTEXT | TOKEN, .flags = FAB_F_DIRECT,
				   .status = STATUS(VMCI_SUCCESS_QUEUEPAIR_ATTACH), .fds = 2),
		[FAB_ASK] = RULE(.fields = HANDLE | OTHER_CONTEXT | SIZES, .flags = FAB_F_TRUSTED | FAB_F_DIRECT),
		[FAB_ANSWER] = RULE(.status = STATUS(VMCI_SUCCESS_QUEUEPAIR_ATTACH), .fds = 2),
	},
	[FAB_QP_HOLD] = {
		[FAB_REQUEST] = RULE(.fields = HANDLE | OTHER_CONTEXT | SIZES | TOKEN, .flags = FAB_F_TRUSTED),
		[FAB_REPLY] = RULE(),
	},
	[FAB_QP_DETACH] = {
		[FAB_REQUEST] = RULE(.fields = HANDLE),
		[FAB_REPLY] = RULE(.status = STATUS(VMCI_SUCCESS) | STATUS(VMCI_SUCCESS_LAST_DETACH)),
	},
	[FAB_SHM_CREATE] = {
		[FAB_REQUEST] = RULE(.fields = HANDLE_RESOURCE | SIZES | TOKEN, .flags = FAB_F_RESUME, .fds = 1),
		[FAB_REPLY] = RULE(.fields = HANDLE | TOKEN),
	},
	[FAB_SHM_QUERY] = {
		[FAB_REQUEST] = RULE(.fields = HANDLE),
		[FAB_REPLY] = RULE(.fields = SIZE0),
	},
	[FAB_SHM_ATTACH] = {
		[FAB_REQUEST] = RULE(.fields = HANDLE),
		[FAB_REPLY] = RULE(.fields = SIZES | TOKEN, .fds = 1),
	},
	[FAB_SHM_HOLD] = {
		[FAB_REQUEST] = RULE(.fields = HANDLE | SIZES | TOKEN, .fds = 1),
		[FAB_REPLY] = RULE(),
	},
	[FAB_SHM_DETACH] = {
		[FAB_REQUEST] = RULE(.fields = HANDLE),
		[FAB_REPLY] = RULE(.status = STATUS(VMCI_SUCCESS) | STATUS(VMCI_SUCCESS_LAST_DETACH)),
	},
	[FAB_NAME] = {
		[FAB_REQUEST] = RULE(.fields = TOKEN, .flags = FAB_F_RESUME, .data_min = 1, .data_max = FAB_NAME_MAX),
		[FAB_REPLY] = RULE(.fields = TOKEN, .data_min = 1, .data_max = FAB_NAME_MAX),
	},
	[FAB_PRIV] = {
		[FAB_REQUEST] = RULE(.fields = HANDLE | OTHER | SIZES,
				     .choice = FAB_F_ADD | FAB_F_REMOVE | FAB_F_REMOVE_ALL | FAB_F_CHECK),
		[FAB_REPLY] = RULE(.status = STATUS(VMCI_SUCCESS) | STATUS(VMCI_SUCCESS_ACCESS_GRANTED)),
	},
	[FAB_GROUP_CREATE] = {
		[FAB_REQUEST] = RULE(.fields = HANDLE_RESOURCE | TOKEN, .flags = FAB_F_RESUME),
		[FAB_REPLY] = RULE(.fields = HANDLE | TOKEN),
	},
	[FAB_GROUP_DESTROY] = {
		[FAB_REQUEST] = RULE(.fields = HANDLE),
		[FAB_REPLY] = RULE(),
	},
	[FAB_GROUP_MEMBER] = {
		[FAB_REQUEST] = RULE(.fields = HANDLE | OTHER, .flags = FAB_F_ASSIGN,
				     .choice = FAB_F_ADD | FAB_F_REMOVE | FAB_F_CHECK),
		[FAB_REPLY] = RULE(.status = STATUS(0) | STATUS(1)),
	},
	[FAB_LIST] = {
		[FAB_REQUEST] = RULE(.fields = SIZE0),
		[FAB_REPLY] = RULE(.fields = SIZE0, .data_max = FAB_DATA_MAX),
	},
	[FAB_STREAM_BIND] = {
		[FAB_REQUEST] = RULE(.fields = HANDLE, .fds = 1),
		[FAB_REPLY] = RULE(.fields = HANDLE),
	},
	[FAB_STREAM_CONNECT] = {
		[FAB_REQUEST] = RULE(.fields = HANDLE | OTHER | SIZE0, .flags = FAB_F_PENDING, .fds = 1),
		[FAB_REPLY] = RULE(.fields = HANDLE, .flags = FAB_F_PENDING),
		[FAB_ASK] = RULE(.fields = HANDLE | OTHER | SIZES, .flags = FAB_F_PENDING, .fds = 1),
		[FAB_ANSWER] = RULE(),
	},
	[FAB_STREAM_OPEN] = {
		[FAB_REQUEST] = RULE(.fields = HANDLE | OTHER),
		[FAB_REPLY] = RULE(.flags = FAB_F_PENDING, .fds = 1),
	},
	[FAB_SHM_ALLOC] = {
		[FAB_REQUEST] = RULE(.fields = HANDLE_RESOURCE | SIZE0),
		[FAB_REPLY] = RULE(.fields = HANDLE | SIZE1 | TOKEN, .data_min = FAB_TOKEN_SIZE,
				   .data_max = FAB_TOKEN_SIZE + FAB_KEY_MAX, .fds = 1),
	},
	[FAB_WINDOW] = {
		[FAB_REQUEST] = RULE(.fields = SIZE0 | TOKEN, .flags = FAB_F_RESUME, .data_max = FAB_KEY_MAX, .fds = 1),
		[FAB_REPLY] = RULE(.fields = TOKEN),
	},
	[FAB_DG_BIND] = {
		[FAB_REQUEST] = RULE(.fields = HANDLE, .fds = 1),
		[FAB_REPLY] = RULE(.fields = HANDLE),
	},
	[FAB_VM_FIND] = {
		[FAB_REQUEST] = RULE(.data_min = FAB_UUID_SIZE, .data_max = FAB_UUID_SIZE),
		[FAB_REPLY] = RULE(.fields = HANDLE_CONTEXT),
	},
};

static const char *const names[] = {
	[FAB_HELLO] = "HELLO",
	[FAB_DG_CREATE] = "DG_CREATE",
	[FAB_DG_DESTROY] = "DG_DESTROY",
	[FAB_DG_SEND] = "DG_SEND",
	[FAB_EVENTS] = "EVENTS",
	[FAB_WATCH] = "WATCH",
	[FAB_BELL_CREATE] = "BELL_CREATE",
	[FAB_BELL_DESTROY] = "BELL_DESTROY",
	[FAB_BELL_OPEN] = "BELL_OPEN",
	[FAB_QP_CREATE] = "QP_CREATE",
	[FAB_QP_ATTACH] = "QP_ATTACH",
	[FAB_QP_HOLD] = "QP_HOLD",
	[FAB_QP_DETACH] = "QP_DETACH",
	[FAB_SHM_CREATE] = "SHM_CREATE",
	[FAB_SHM_QUERY] = "SHM_QUERY",
	[FAB_SHM_ATTACH] = "SHM_ATTACH",
	[FAB_SHM_HOLD] = "SHM_HOLD",
	[FAB_SHM_DETACH] = "SHM_DETACH",
	[FAB_NAME] = "NAME",
	[FAB_PRIV] = "PRIV",
	[FAB_GROUP_CREATE] = "GROUP_CREATE",
	[FAB_GROUP_DESTROY] = "GROUP_DESTROY",
	[FAB_GROUP_MEMBER] = "GROUP_MEMBER",
	[FAB_LIST] = "LIST",
	[FAB_STREAM_BIND] = "STREAM_BIND",
	[FAB_STREAM_CONNECT] = "STREAM_CONNECT",
	[FAB_STREAM_OPEN] = "STREAM_OPEN",
	[FAB_SHM_ALLOC] = "SHM_ALLOC",
	[FAB_WINDOW] = "WINDOW",
	[FAB_DG_BIND] = "DG_BIND",
	[FAB_VM_FIND] = "VM_FIND",
};
static_assert(sizeof(names) / sizeof(names[0]) == FAB_TYPE_NUM, "each type has a name");

const char *fab_type_to_string(enum fab_type type)
{
	return (unsigned)type < FAB_TYPE_NUM && names[type] ? names[type] : "?";
}

/**
 * has_token() - is any byte of the token other than 0?
 */
static _Bool has_token(const struct fab_msg *msg)
{
	for (size_t i = 0; i < FAB_TOKEN_SIZE; i++)
		if (msg->token[i])
			return 1;
	return 0;
}

/**
 * odd_field() - a field that is used and must not be; NULL if there is none
 */
static const char *odd_field(const struct fab_msg *msg, unsigned fields)
{
	if (msg->handle.context && !(fields & HANDLE_CONTEXT))
		return "a handle's context where none belongs";
	if (msg->handle.resource && !(fields & HANDLE_RESOURCE))
		return "a handle's resource where none belongs";
	if (msg->other.context && !(fields & OTHER_CONTEXT))
		return "a second context where none belongs";
	if (msg->other.resource && !(fields & OTHER_RESOURCE))
		return "a second resource where none belongs";
	if (msg->size0 && !(fields & SIZE0))
		return "a size where none belongs";
	if (msg->size1 && !(fields & SIZE1))
		return "a second size where none belongs";
	if (!(fields & TOKEN) && has_token(msg))
		return "a token where none belongs";
	return NULL;
}

/**
 * odd_flags() - what is wrong with the flags, or NULL
 */
static const char *odd_flags(const struct fab_msg *msg, const struct rule *rule)
{
	unsigned chosen = msg->flags & rule->choice;

	if (msg->flags & ~((uint32_t)rule->flags | rule->choice))
		return "a flag where it does not belong";
	if (rule->choice && (!chosen || chosen & (chosen - 1)))
		return "not exactly one of the flags of which there must be one";
	if (msg->flags & FAB_F_ASSIGN && !(msg->flags & FAB_F_ADD))
		return "ASSIGN without ADD";
	if (msg->flags & FAB_F_OFF && msg->flags & FAB_F_RESUME)
		return "OFF with RESUME";
	if (msg->flags & FAB_F_HOLD && msg->flags & FAB_F_DEVICE)
		return "HOLD of a device";
	if (msg->type == FAB_STREAM_CONNECT && msg->size1 && !(msg->flags & FAB_F_PENDING))
		return "a stopper without PENDING";
	if (rule->flags & FAB_F_RESUME && msg->kind == FAB_REQUEST && !(msg->flags & FAB_F_RESUME)) {
		if (has_token(msg))
			return "a token without RESUME";
		if (msg->type == FAB_GROUP_CREATE && msg->handle.resource)
			return "a group's resource without RESUME";
	}
	return NULL;
}

/**
 * odd_status() - what is wrong with the status, or NULL
 */
static const char *odd_status(const struct fab_msg *msg, const struct rule *rule)
{
	uint32_t allowed = rule->status ? rule->status : STATUS(0);

	if (msg->kind == FAB_REQUEST || msg->kind == FAB_ASK)
		return msg->status ? "a status in a question" : NULL;
	if (msg->status < 0)
		return msg->status < VMCI_ERROR_WOULD_BLOCK ? "an unknown error" : NULL;
	if (allowed == STATUS_BYTES)
		return (uint32_t)msg->status > VMCI_DG_MAX_SIZE ? "more bytes sent than a datagram has" : NULL;
	return msg->status > 30 || !(allowed & STATUS(msg->status)) ? "a status that the type does not have" : NULL;
}

const char *fab_check(const struct fab_msg *msg)
{
	const struct rule *rule;
	unsigned least, most;
	const char *odd;

	if ((unsigned)msg->type >= FAB_TYPE_NUM || !names[msg->type])
		return "unknown type";
	if ((unsigned)msg->kind >= FAB_KIND_NUM)
		return "unknown kind";
	rule = &rules[msg->type][msg->kind];
	if (!rule->is_known)
		return "a kind that the type does not have";
	odd = odd_status(msg, rule);
	if (!odd)
		odd = odd_flags(msg, rule);
	if (!odd)
		odd = odd_field(msg, rule->fields);
	if (odd)
		return odd;
	if (msg->status < 0)
		return msg->len ? "data behind an error" : msg->n_fds ? "descriptors behind an error" : NULL;
	if (msg->len < rule->data_min)
		return "too few data";
	if (msg->len > rule->data_max)
		return "too many data";
	least = most = rule->fds;
	/* A device brings its two sinks along; who holds a context may bring the socket that it is held by. */
	if (msg->type == FAB_HELLO && msg->kind == FAB_REQUEST) {
		least = most = msg->flags & FAB_F_DEVICE ? 2 : 0;
		most += !!(msg->flags & FAB_F_HOLD);
	}
	if (msg->n_fds < least)
		return "too few descriptors";
	if (msg->n_fds > most)
		return "too many descriptors";
	return NULL;
}

void fab_build(const struct fab_msg *msg, uint8_t *buf)
{
	assert(!fab_check(msg));
	memset(buf, 0, FAB_HEADER_SIZE);
	put_le16(buf, (uint16_t)msg->type);
	put_le16(buf + 2, (uint16_t)msg->kind);
	put_le32(buf + 4, msg->serial);
	put_le32(buf + 8, (uint32_t)msg->status);
	put_le32(buf + 12, msg->flags);
	handle_put(buf + 16, msg->handle);
	handle_put(buf + 24, msg->other);
	put_le64(buf + 32, msg->size0);
	put_le64(buf + 40, msg->size1);
	memcpy(buf + 48, msg->token, FAB_TOKEN_SIZE);
}

const char *fab_parse_why(const uint8_t *buf, size_t len, unsigned n_fds, struct fab_msg *ret_msg)
{
	struct fab_msg msg = { 0 };
	const char *odd;

	if (len < FAB_HEADER_SIZE)
		return "shorter than a header";
	if (len > FAB_MSG_MAX)
		return "longer than any message";
	msg.type = (enum fab_type)get_le16(buf);
	msg.kind = (enum fab_kind)get_le16(buf + 2);
	msg.serial = get_le32(buf + 4);
	msg.status = (int32_t)get_le32(buf + 8);
	msg.flags = get_le32(buf + 12);
	msg.handle = handle_get(buf + 16);
	msg.other = handle_get(buf + 24);
	msg.size0 = get_le64(buf + 32);
	msg.size1 = get_le64(buf + 40);
	memcpy(msg.token, buf + 48, FAB_TOKEN_SIZE);
	msg.len = len - FAB_HEADER_SIZE;
	msg.data = msg.len ? buf + FAB_HEADER_SIZE : NULL;
	msg.n_fds = n_fds;
	odd = fab_check(&msg);
	if (odd)
		return odd;
	/* All but the descriptors, which are the caller's. */
	memcpy(ret_msg, &msg, offsetof(struct fab_msg, fd));
	ret_msg->n_fds = n_fds;
	return NULL;
}

int fab_parse(const uint8_t *buf, size_t len, unsigned n_fds, struct fab_msg *ret_msg)
{
	return fab_parse_why(buf, len, n_fds, ret_msg) ? -EBADMSG : 0;
}
