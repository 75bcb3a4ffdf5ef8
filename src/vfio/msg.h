/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * vfio-user messages: bytes to structures and back. Pure: no I/O, no state, no allocation.
 *
 * Every parser gets the *body* of a message (what follows the 16-byte header) and its length, copies
 * what it needs out of it, and checks what can be checked without knowing the device: lengths,
 * argsz, flag combinations, arithmetic. Structures that carry argsz may be followed by bytes that we do
 * not know (that is what argsz is for); all others must have exactly their length.
 *
 * Every builder zeroes what it builds, checks nothing but the room (a bug if it lacks), and returns the
 * number of bytes built.
 *
 * "Reference, N" in this folder's comments is section N of the project's vfio-user reference.
 */
#ifndef VFIO_MSG_H
#define VFIO_MSG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define VUS_HEADER_SIZE 16u

/* Commands (reference, 2). 14 and 19 are reserved; 11 and 12 are ours to send, and we never do. */
enum vus_cmd {
	VUS_CMD_VERSION = 1,
	VUS_CMD_DMA_MAP,
	VUS_CMD_DMA_UNMAP,
	VUS_CMD_GET_INFO,
	VUS_CMD_GET_REGION_INFO,
	VUS_CMD_GET_REGION_IO_FDS,
	VUS_CMD_GET_IRQ_INFO,
	VUS_CMD_SET_IRQS,
	VUS_CMD_REGION_READ,
	VUS_CMD_REGION_WRITE,
	VUS_CMD_DMA_READ,
	VUS_CMD_DMA_WRITE,
	VUS_CMD_RESET,
	VUS_CMD_DIRTY_PAGES,
	VUS_CMD_REGION_WRITE_MULTI,
	VUS_CMD_FEATURE,
	VUS_CMD_MIG_DATA_READ,
	VUS_CMD_MIG_DATA_WRITE,
	VUS_CMD_NUM,
};

/* vus_cmd_to_string() - the name of a command, "?" for a number that is none */
const char *vus_cmd_to_string(unsigned cmd);

/* Header flags (reference, 1.1). */
#define VUS_TYPE_MASK 0x0fu
#define VUS_TYPE_COMMAND 0u
#define VUS_TYPE_REPLY 1u
#define VUS_NO_REPLY 0x10u
#define VUS_ERROR 0x20u

/**
 * struct vus_header - a message's header (reference, 1.1)
 * @id:    chosen by the sender, echoed in the reply
 * @cmd:   enum vus_cmd, or a number unknown to us
 * @size:  bytes of the whole message, header included
 * @flags: VUS_TYPE_*, VUS_NO_REPLY, VUS_ERROR
 * @error: errno value of an error reply
 */
struct vus_header {
	uint16_t id;
	uint16_t cmd;
	uint32_t size;
	uint32_t flags;
	uint32_t error;
};

/* vus_header_parse() - take a header apart; any 16 bytes are one. Validity: vus_header_check(). */
void vus_header_parse(const uint8_t *buf, struct vus_header *ret_header);

/**
 * vus_header_check() - may a message with this header be received by a server? (reference, 1.1)
 * @max: largest message taken, header included
 *
 * Return: NULL, or the reason why the connection cannot go on
 */
const char *vus_header_check(const struct vus_header *header, uint32_t max);

/**
 * vus_reply_build() - the header of a reply
 * @buf:   VUS_HEADER_SIZE bytes
 * @cmd:   the command that is answered
 * @body:  bytes that follow; must be 0 for an error
 * @error: 0 or a positive errno
 */
void vus_reply_build(uint8_t *buf, const struct vus_header *cmd, uint32_t body, uint32_t error);

/* --- VERSION (reference, 3) ------------------------------------------------------------ */

/**
 * struct vus_version - a proposal of the client
 * @json:     text of the capabilities, NUL-terminated inside the body; NULL if there is none
 * @json_len: its length without the NUL
 */
struct vus_version {
	uint16_t major;
	uint16_t minor;
	const char *json;
	size_t json_len;
};

/* vus_version_parse() - Return: 0; -EINVAL (too short, or text without its NUL) */
int vus_version_parse(const uint8_t *body, size_t len, struct vus_version *ret_version);

/* vus_version_build() - version and NUL-terminated @json. Return: bytes built */
size_t vus_version_build(uint8_t *body, size_t room, uint16_t major, uint16_t minor, const char *json);

/**
 * struct vus_caps - what a client can take, with the protocol's defaults for what it does not say
 * @max_msg_fds: fds in one of our messages
 * @max_xfer:    data bytes in one of our DMA requests (we send none)
 */
struct vus_caps {
	uint32_t max_msg_fds;
	uint64_t max_xfer;
};

/**
 * vus_caps_parse() - read a client's capabilities leniently: what is unknown or of a wrong type is ignored
 * @json: text of @len bytes, or NULL for none. Allocates while it runs (once per connection)
 *
 * Return: 0; -EINVAL (not a JSON object)
 */
int vus_caps_parse(const char *json, size_t len, struct vus_caps *ret_caps);

/* --- Guest memory (reference, 6) --------------------------------------------------------- */

#define VUS_DMA_MAP_SIZE 32u
#define VUS_DMA_UNMAP_SIZE 24u

#define VUS_DMA_READ 1u		/* the device may read */
#define VUS_DMA_WRITE 2u	/* the device may write */
#define VUS_DMA_UNMAP_ALL 2u	/* flag of DMA_UNMAP */

struct vus_dma_map {
	uint32_t flags;		/* VUS_DMA_READ, VUS_DMA_WRITE: at least one */
	uint64_t offset;	/* in the file */
	uint64_t addr;		/* guest-physical */
	uint64_t size;		/* > 0; neither addr + size nor offset + size wraps */
};

struct vus_dma_unmap {
	bool all;		/* addr and size are 0 */
	uint64_t addr;
	uint64_t size;
};

/* vus_dma_map_parse() - Return: 0; -EINVAL (length, argsz, flags, size 0, wrap-around) */
int vus_dma_map_parse(const uint8_t *body, size_t len, struct vus_dma_map *ret_map);

/* vus_dma_unmap_parse() - Return: 0; -EINVAL (length, argsz, flags, a range together with "all") */
int vus_dma_unmap_parse(const uint8_t *body, size_t len, struct vus_dma_unmap *ret_unmap);

/* --- Device description (reference, 4) ---------------------------------------------------- */

#define VUS_REGION_CONFIG 7u
#define VUS_REGION_NUM 9u	/* BAR0..BAR5, ROM, CONFIG, VGA */

enum vus_irq {
	VUS_IRQ_INTX,
	VUS_IRQ_MSI,
	VUS_IRQ_MSIX,
	VUS_IRQ_ERR,
	VUS_IRQ_REQ,
	VUS_IRQ_NUM,
};

#define VUS_INFO_SIZE 16u
#define VUS_INFO_RESET 1u
#define VUS_INFO_PCI 2u

/* vus_info_parse() - GET_INFO. Return: 0; -EINVAL (length, argsz) */
int vus_info_parse(const uint8_t *body, size_t len);

/* vus_info_build() - Return: bytes built */
size_t vus_info_build(uint8_t *body, size_t room, uint32_t flags, uint32_t regions, uint32_t irqs);

#define VUS_REGION_INFO_SIZE 32u
#define VUS_REGION_READ 1u
#define VUS_REGION_WRITE 2u
#define VUS_REGION_MMAP 4u
#define VUS_REGION_CAPS 8u

/* A part of a region that may be mapped. */
struct vus_area {
	uint64_t offset;
	uint64_t size;
};

struct vus_region_info {
	uint32_t argsz;
	uint32_t index;
};

/* vus_region_info_parse() - Return: 0; -EINVAL (length, argsz). The index is not checked. */
int vus_region_info_parse(const uint8_t *body, size_t len, struct vus_region_info *ret_info);

/**
 * vus_region_info_build() - a region's description
 * @argsz: room offered by the client, >= 32. If the capabilities do not fit into it, only the fixed part is
 *         built, without the CAPS flag and with argsz telling how much is needed (reference, 4.2)
 * @flags: VUS_REGION_READ, _WRITE, _MMAP
 * @areas: mappable parts; @n_areas 0 = no sparse capability
 * @ret_full: is everything there? An fd may only go with the full reply
 *
 * Return: bytes built
 */
size_t vus_region_info_build(uint8_t *body, size_t room, const struct vus_region_info *info, uint32_t flags,
			     uint64_t size, uint64_t offset, const struct vus_area *areas, uint32_t n_areas,
			     bool *ret_full);

#define VUS_REGION_IO_FDS_SIZE 16u

/* vus_region_io_fds_parse() - Return: 0; -EINVAL (length, argsz, flags). The index is not checked. */
int vus_region_io_fds_parse(const uint8_t *body, size_t len, uint32_t *ret_index);

/* vus_region_io_fds_build() - "there are none". Return: bytes built */
size_t vus_region_io_fds_build(uint8_t *body, size_t room, uint32_t index);

#define VUS_IRQ_INFO_SIZE 16u
#define VUS_IRQ_EVENTFD 1u
#define VUS_IRQ_MASKABLE 2u
#define VUS_IRQ_AUTOMASKED 4u
#define VUS_IRQ_NORESIZE 8u

/* vus_irq_info_parse() - Return: 0; -EINVAL (length, argsz). The index is not checked. */
int vus_irq_info_parse(const uint8_t *body, size_t len, uint32_t *ret_index);

/* vus_irq_info_build() - Return: bytes built */
size_t vus_irq_info_build(uint8_t *body, size_t room, uint32_t flags, uint32_t index, uint32_t count);

/* --- Interrupts (reference, 7) ----------------------------------------------------------- */

#define VUS_SET_IRQS_SIZE 20u

enum vus_irq_data {
	VUS_IRQ_DATA_NONE,
	VUS_IRQ_DATA_BOOL,
	VUS_IRQ_DATA_EVENTFD,
	VUS_IRQ_DATA_NUM,
};

enum vus_irq_action {
	VUS_IRQ_ACTION_MASK,
	VUS_IRQ_ACTION_UNMASK,
	VUS_IRQ_ACTION_TRIGGER,
	VUS_IRQ_ACTION_NUM,
};

struct vus_set_irqs {
	enum vus_irq_data data;
	enum vus_irq_action action;
	uint32_t index;
	uint32_t start;
	uint32_t count;		/* start + count does not wrap */
	const uint8_t *bools;	/* DATA_BOOL: count bytes inside the body; else NULL */
};

/* vus_set_irqs_parse() - Return: 0; -EINVAL (length, argsz, flags, wrap-around, index). Not the counts. */
int vus_set_irqs_parse(const uint8_t *body, size_t len, struct vus_set_irqs *ret_set);

/* --- Region access (reference, 5) ----------------------------------------------------------- */

#define VUS_ACCESS_SIZE 16u
#define VUS_MULTI_HEAD_SIZE 8u
#define VUS_MULTI_ENTRY_SIZE 24u

struct vus_access {
	uint64_t offset;
	uint32_t region;
	uint32_t count;
	const uint8_t *data;	/* write: count bytes inside the body; read: NULL */
};

/* vus_region_read_parse() - Return: 0; -EINVAL (length). Region, offset and count are not checked. */
int vus_region_read_parse(const uint8_t *body, size_t len, struct vus_access *ret_access);

/* vus_region_write_parse() - Return: 0; -EINVAL (length, count is not what follows) */
int vus_region_write_parse(const uint8_t *body, size_t len, struct vus_access *ret_access);

/* vus_access_build() - head of the reply to a read or write; a read's data follow. Return: bytes built */
size_t vus_access_build(uint8_t *body, size_t room, const struct vus_access *access);

/* vus_multi_parse() - REGION_WRITE_MULTI: the number of writes. Return: 0; -EINVAL (length, count) */
int vus_multi_parse(const uint8_t *body, size_t len, uint64_t *ret_n);

/* vus_multi_entry_parse() - write @i of a body that vus_multi_parse() accepted. Return: 0; -EINVAL (count) */
int vus_multi_entry_parse(const uint8_t *body, uint64_t i, struct vus_access *ret_access);

/* vus_multi_build() - the number of writes done. Return: bytes built */
size_t vus_multi_build(uint8_t *body, size_t room, uint64_t n);

/* --- Migration (reference, 9.5): parsed so that the log can name what is refused ---------------- */

#define VUS_FEATURE_HEAD_SIZE 8u
#define VUS_FEATURE_GET (1u << 16)
#define VUS_FEATURE_SET (1u << 17)
#define VUS_FEATURE_PROBE (1u << 18)

struct vus_feature {
	uint32_t argsz;
	uint16_t feature;
	uint32_t ops;		/* VUS_FEATURE_GET, _SET, _PROBE */
	const uint8_t *data;
	size_t len;
};

/* vus_feature_parse() - Return: 0; -EINVAL (length, argsz, flags) */
int vus_feature_parse(const uint8_t *body, size_t len, struct vus_feature *ret_feature);

/* One piece of migration data; @data is NULL when reading. */
struct vus_mig_data {
	uint32_t argsz;
	uint32_t size;
	const uint8_t *data;
};

/* vus_mig_read_parse(), vus_mig_write_parse() - Return: 0; -EINVAL (length, argsz) */
int vus_mig_read_parse(const uint8_t *body, size_t len, struct vus_mig_data *ret_data);
int vus_mig_write_parse(const uint8_t *body, size_t len, struct vus_mig_data *ret_data);

#endif /* VFIO_MSG_H */
