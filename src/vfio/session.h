/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * One vfio-user client: its socket, its messages, its end.
 *
 * The program accepts a connection, makes a session, watches vus_session_fd() for vus_session_events(), and
 * calls vus_session_handle() then. Nothing in here blocks or keeps time; one thread.
 *
 *	struct vus_dma *dma;			vus_dma_new("vm3", LIMIT_VFIO_MAPS, &dma);
 *	struct mem mem = vus_dma_mem(dma);	... make the device model with it ...
 *	struct vus_session *session;		vus_session_new(fd, &desc, dma, &ops, ctx, &session);
 *	... handle until it returns something else than 0 ...
 *	vus_session_free(session);		free the device model;	vus_dma_free(dma);
 */
#ifndef VFIO_SESSION_H
#define VFIO_SESSION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/limits.h"
#include "vfio/dma.h"
#include "vfio/irq.h"
#include "vfio/msg.h"

struct vus_session;

/**
 * struct vus_region - one region of the device
 * @size:    bytes, 0 = absent. BARs: a power of two (anything else aborts QEMU: reference, 0)
 * @flags:   VUS_REGION_READ, _WRITE; _MMAP together with @fd
 * @fd:      for VUS_REGION_MMAP: what the client maps; borrowed. Ignored without that flag
 * @offset:  for VUS_REGION_MMAP: where the region starts in @fd
 * @areas:   for VUS_REGION_MMAP: the mappable parts, page multiples; borrowed
 * @n_areas: 0 = the whole region, at most LIMIT_VFIO_AREAS
 */
struct vus_region {
	uint64_t size;
	uint32_t flags;
	int fd;
	uint64_t offset;
	const struct vus_area *areas;
	uint32_t n_areas;
};

/**
 * struct vus_desc - what the client is told about the device
 * @name:       names the VM in log lines ("vm3"); must outlive the session
 * @region:     BAR0..BAR5, ROM, CONFIG, VGA
 * @irq_count:  per enum vus_irq. INTX 0 or 1 (0 without an interrupt pin), ERR and REQ usually 1
 * @pba_region: BAR with the MSI-X pending bits, if @irq_count of MSI-X is not 0
 * @pba_offset: where they are in it. Reads there are answered by the session, on top of region_read()
 */
struct vus_desc {
	const char *name;
	struct vus_region region[VUS_REGION_NUM];
	uint32_t irq_count[VUS_IRQ_NUM];
	uint32_t pba_region;
	uint64_t pba_offset;
};

/**
 * struct vus_ops - what the client asks of the device; all must be there
 *
 * They cannot fail, must not block, and must neither free nor handle the session; they may use guest memory
 * and interrupts. Whatever they do is done before the reply goes out.
 */
struct vus_ops {
	/* Fill @buf (zeroed) from @off of @region. The range lies inside the region. */
	void (*region_read)(void *ctx, unsigned region, uint64_t off, void *buf, size_t len);

	/* Write. The range lies inside the region. */
	void (*region_write)(void *ctx, unsigned region, uint64_t off, const void *buf, size_t len);

	/* DEVICE_RESET: registers to power-on values; everything of the guest torn down (reference, 9.2). */
	void (*reset)(void *ctx);

	/*
	 * Guest memory appeared (@mapped) or went away at [@addr, @addr + @size); an unmap of everything is
	 * told once, as [0, UINT64_MAX). The table has changed already.
	 */
	void (*dma_changed)(void *ctx, uint64_t addr, uint64_t size, bool mapped);

	/*
	 * May be NULL. A message is about to be carried out: for somebody who has to know what the client
	 * made of the device. @msg has @len bytes, header included, and came with @n_fds descriptors, which
	 * are borrowed.
	 */
	void (*tap)(void *ctx, const uint8_t *msg, size_t len, const int *fds, size_t n_fds);
};

/**
 * vus_session_new() - start to serve a client
 * @fd:   connected AF_UNIX stream socket; taken over, also on failure
 * @desc: copied; what it points to must outlive the session
 * @dma:  the VM's guest memory, empty; borrowed
 * @ops:  borrowed
 * @ctx:  handed to @ops
 *
 * Return: 0; -EINVAL (an impossible @desc); -ENOMEM; what epoll_create1(2) said
 */
int vus_session_new(int fd, const struct vus_desc *desc, struct vus_dma *dma, const struct vus_ops *ops,
		    void *ctx, struct vus_session **ret_session);

/**
 * struct vus_input - what a session has received and not served yet
 * @start: the first message begins here. Behind the last one all is zero
 */
struct vus_input {
	size_t start;
	uint8_t bytes[LIMIT_VFIO_MESSAGE];
};

/*
 * vus_session_set_input() - receive into @input, which is cleared first, and outlives the session and perhaps the
 * process. Before the first vus_session_handle(). A message begins to be served with @tap, and is out of the input
 * before it is answered.
 */
void vus_session_set_input(struct vus_session *session, struct vus_input *input);

/*
 * vus_session_free() - close the socket, drop all maps of the table and all eventfds, free; NULL is fine.
 * Returns NULL. The device model is not told.
 */
struct vus_session *vus_session_free(struct vus_session *session);

/* vus_session_fd() - the socket, to be watched; owned by the session */
int vus_session_fd(const struct vus_session *session);

/*
 * vus_session_events() - what to watch the socket for: EPOLLIN, or EPOLLOUT while a reply waits for room.
 * May change in vus_session_handle().
 */
uint32_t vus_session_events(const struct vus_session *session);

/*
 * vus_session_is_pending() - are complete messages waiting in the buffer? Then vus_session_handle() should be
 * called again, after other event sources had their turn, without waiting for the socket. May change in
 * vus_session_handle().
 */
bool vus_session_is_pending(const struct vus_session *session);

/*
 * vus_session_deadline() - when to call vus_session_handle() at the latest: CLOCK_MONOTONIC in ns, 0 = never.
 * Set while a reply waits for room; a client that does not read for LIMIT_VFIO_STALL_NS is ended. May change
 * in vus_session_handle().
 */
uint64_t vus_session_deadline(const struct vus_session *session);

/**
 * vus_session_handle() - read what is there, and serve complete messages
 *
 * One recvmsg(2) at most, and LIMIT_VFIO_TURN messages at most. May be called at any time.
 *
 * Return: 0; 1 (the client has gone); a negative errno: the session has ended, for the reason that
 * vus_session_reason() tells and that has been logged: -EPROTO (the client broke the protocol), -EFAULT
 * (guest memory vanished), -ETIMEDOUT (the client does not read its replies), or what recvmsg(2) or
 * sendmsg(2) said. After that it answers the same for ever.
 */
int vus_session_handle(struct vus_session *session);

/**
 * vus_session_move() - go on with another connection, at the border of two messages
 * @fd:   as in vus_session_new(); taken over
 * @left: what the first server had received there and not served; need not make sense. Descriptors that came with it
 *        are lost. NULL: nothing
 * @skip: bytes of it that were served all the same
 *
 * For a session that was fed with what its client's first server carried out, and now becomes the server
 * itself. Maps, interrupts and the version agreed stay; unread input is dropped, and a client that had gone
 * has come back.
 */
void vus_session_move(struct vus_session *session, int fd, const struct vus_input *left, size_t skip);

/* vus_session_reason() - why the session ended, for people; "" while it goes on */
const char *vus_session_reason(const struct vus_session *session);

/* vus_session_messages() - number of messages served so far */
uint64_t vus_session_messages(const struct vus_session *session);

/* vus_session_irqs() - the device's interrupts; owned by the session */
struct vus_irqs *vus_session_irqs(struct vus_session *session);

#endif /* VFIO_SESSION_H */
