/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A stage for the vfio-user server: memfds as guest RAM, a session on one end of a socket pair, and the test
 * as the client on the other. Every fixture counts the open descriptors before and after.
 */
#ifndef VFIO_RIG_H
#define VFIO_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "vfio/session.h"

#define PAGE 4096u
#define RIG_BAR1_SIZE 0x40000u
#define RIG_PBA 0x10000u

/* rig_count_fds() - descriptors that this process has open */
int rig_count_fds(void);

/* rig_memfd() - a memfd of @pages pages, page i filled with bytes @tag + i; perhaps sealed like QEMU's */
int rig_memfd(unsigned pages, uint8_t tag, bool is_sealed);

/* rig_mapped() - bytes of files called @name (as memfd_create() got it) that are mapped into this process */
size_t rig_mapped(const char *name);

/* rig_map() - vus_dma_map() with a duplicate of @fd (or without one if it is -1) */
int rig_map(struct vus_dma *dma, uint64_t addr, uint64_t size, uint64_t offset, uint32_t flags, int fd);

/* rig_eventfd() - an eventfd; rig_fired() - how often it was signalled since the last call */
int rig_eventfd(void);
uint64_t rig_fired(int fd);

/**
 * struct rig - a session and its client
 * @client: the client's end of the socket
 * @id:     of the next message
 * @read, @written, @resets, @maps, @unmaps: calls of the operations so far
 * @last_region, @last_off, @last_len: of the last access
 * @taps:   messages tapped; @tapped, @tapped_fds: the last one, seen after @tapped_before other calls
 * @is_lazy: reads leave the buffer as it is
 * @bar:    what is read and written, the same for all regions
 */
struct rig {
	int client;
	uint16_t id;
	struct vus_dma *dma;
	struct vus_session *session;
	struct vus_desc desc;
	unsigned reads, writes, resets, maps, unmaps;
	unsigned last_region;
	uint64_t last_off;
	size_t last_len;
	uint64_t last_addr, last_size;
	unsigned taps, tapped_before;
	struct vus_header tapped;
	size_t tapped_fds;
	int fds;
	bool is_lazy;
	uint8_t bar[RIG_BAR1_SIZE];
};

/* rig_desc() - BAR0 of 64 bytes, BAR1 of 256 KiB with 3 MSI-X vectors, config space, INTx, 1 MSI, ERR, REQ */
void rig_desc(struct vus_desc *desc);

/* rig_new() - a session before VERSION; rig_open() - after it; rig_free() - the end, checks for leaks */
struct rig *rig_new(const struct vus_desc *desc);
struct rig *rig_open(const struct vus_desc *desc);
void rig_free(struct rig *rig);

/* cmocka fixtures over rig_open() with rig_desc() */
int rig_setup(void **state);
int rig_setup_new(void **state);
int rig_teardown(void **state);

/* rig_put() - one header into @buf: command, flags, body length. Returns VUS_HEADER_SIZE */
size_t rig_header(struct rig *rig, uint8_t *buf, unsigned cmd, uint32_t flags, size_t body);

/* rig_send() - send bytes with fds (duplicates travel; the caller keeps his), in one sendmsg() */
void rig_send(struct rig *rig, const void *buf, size_t len, const int *fds, size_t n_fds);

/* rig_command() - send one command */
void rig_command(struct rig *rig, unsigned cmd, uint32_t flags, const void *body, size_t len, const int *fds,
		 size_t n_fds);

/* rig_handle() - let the session work until it has nothing to do; its last result */
int rig_handle(struct rig *rig);

/* rig_recv() - what the session has sent: up to @room bytes, their number returned, and a descriptor or -1 */
size_t rig_recv(struct rig *rig, void *buf, size_t room, int *ret_fd);

/**
 * rig_call() - command, handling, reply
 * @ret_body: body of the reply, VUS_HEADER_SIZE less than a message
 * @ret_len:  its length
 *
 * Checks id, command, size and flags of the reply.
 * Return: 0, or the negative errno of an error reply; 1 if there was no reply
 */
int rig_call(struct rig *rig, unsigned cmd, const void *body, size_t len, const int *fds, size_t n_fds,
	     void *ret_body, size_t *ret_len);

/* Bodies. Each returns its length. */
size_t rig_body_version(uint8_t *buf, unsigned major, unsigned minor, const char *json);
size_t rig_body_map(uint8_t *buf, uint32_t argsz, uint32_t flags, uint64_t offset, uint64_t addr,
		    uint64_t size);
size_t rig_body_unmap(uint8_t *buf, uint32_t argsz, uint32_t flags, uint64_t addr, uint64_t size);
size_t rig_body_info(uint8_t *buf, uint32_t argsz);
size_t rig_body_region_info(uint8_t *buf, uint32_t argsz, uint32_t index);
size_t rig_body_irq_info(uint8_t *buf, uint32_t argsz, uint32_t index);
size_t rig_body_irqs(uint8_t *buf, uint32_t argsz, uint32_t flags, uint32_t index, uint32_t start,
		     uint32_t count);
size_t rig_body_access(uint8_t *buf, uint64_t off, uint32_t region, uint32_t count);
size_t rig_body_write(uint8_t *buf, uint64_t off, uint32_t region, uint32_t count, const void *data);

/* What QEMU 11.1.3 and Cloud Hypervisor propose. */
extern const char rig_qemu_json[];
extern const char rig_ch_json[];

#endif /* VFIO_RIG_H */
