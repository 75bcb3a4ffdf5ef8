/* SPDX-License-Identifier: BSD-2-Clause */
/* Rings of links inside objects: adding and removing cost the same however many there are. */
#ifndef BROKER_LIST_H
#define BROKER_LIST_H

#include <stdbool.h>
#include <stddef.h>

/* struct brk_link - a list's head, or an object's place in a list. In no list: points to itself. */
struct brk_link {
	struct brk_link *next;
	struct brk_link *prev;
};

/* brk_of() - the object of type @type whose member @member is at @link */
#define brk_of(link, type, member) ((type *)(void *)((char *)(link) - offsetof(type, member)))

static inline void brk_link_init(struct brk_link *link)
{
	link->next = link;
	link->prev = link;
}

static inline bool brk_list_is_empty(const struct brk_link *head)
{
	return head->next == head;
}

/* brk_list_add() - put @link, which is in no list, at the end of the list @head */
static inline void brk_list_add(struct brk_link *head, struct brk_link *link)
{
	link->next = head;
	link->prev = head->prev;
	head->prev->next = link;
	head->prev = link;
}

/* brk_list_del() - take @link out of its list, if it is in one */
static inline void brk_list_del(struct brk_link *link)
{
	link->next->prev = link->prev;
	link->prev->next = link->next;
	brk_link_init(link);
}

#endif /* BROKER_LIST_H */
