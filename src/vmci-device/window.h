/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The window: memory that programs of the guest and of the host map, the guest's as a BAR of the device. What is in
 * it is their business.
 */
#ifndef VMCI_DEVICE_WINDOW_H
#define VMCI_DEVICE_WINDOW_H

#include <stddef.h>
#include <stdint.h>

/* struct window - @size bytes of the memfd @fd, at @map once it is mapped; @fd is -1 where there is none */
struct window {
	int fd;
	uint64_t size;
	uint8_t *map;
};

/* window_make() - new memory of @size bytes. Return: 0 or a negative errno */
int window_make(struct window *window, uint64_t size);

/**
 * window_take() - memory of somebody else, perhaps shared with other VMs: all of it
 * @fd: taken over on success
 *
 * Return: 0; -EINVAL: not memory that is sealed against shrinking, or its size is none that a BAR can have
 */
int window_take(struct window *window, int fd);

/* window_is_size() - can a window have so many bytes? */
_Bool window_is_size(uint64_t size);

/* window_map() - for window_read() and window_write(). Return: 0 or a negative errno */
int window_map(struct window *window);

/* window_close() - unmap and close; nothing where there is none */
void window_close(struct window *window);

/* window_read(), window_write() - what a VMM asks that has not mapped the window; the range lies in it */
void window_read(const struct window *window, uint64_t off, void *buf, size_t len);
void window_write(const struct window *window, uint64_t off, const void *buf, size_t len);

#endif /* VMCI_DEVICE_WINDOW_H */
