/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * DOC: Theory of operation
 *
 * A message is 16 bytes of header and a body. All integers are in the host's byte order, packed; we run on
 * little-endian hosts only, so the helpers of base/bytes.h read and build them.
 *
 * argsz. Clients disagree about what it counts: QEMU's is the length of the body, the Rust client's includes
 * the header. So it is checked for a minimum and never used as a length, except for the room that
 * GET_REGION_INFO offers.
 */
#include "vfio/msg.h"

#include <assert.h>
#include <errno.h>
#include <jansson.h>
#include <string.h>

#include "base/bytes.h"
#include "base/checked.h"

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
	      "vfio-user has the host's byte order (reference, 1)");

static const char *const cmd_name[] = {
	[VUS_CMD_VERSION] = "VERSION",
	[VUS_CMD_DMA_MAP] = "DMA_MAP",
	[VUS_CMD_DMA_UNMAP] = "DMA_UNMAP",
	[VUS_CMD_GET_INFO] = "DEVICE_GET_INFO",
	[VUS_CMD_GET_REGION_INFO] = "DEVICE_GET_REGION_INFO",
	[VUS_CMD_GET_REGION_IO_FDS] = "DEVICE_GET_REGION_IO_FDS",
	[VUS_CMD_GET_IRQ_INFO] = "DEVICE_GET_IRQ_INFO",
	[VUS_CMD_SET_IRQS] = "DEVICE_SET_IRQS",
	[VUS_CMD_REGION_READ] = "REGION_READ",
	[VUS_CMD_REGION_WRITE] = "REGION_WRITE",
	[VUS_CMD_DMA_READ] = "DMA_READ",
	[VUS_CMD_DMA_WRITE] = "DMA_WRITE",
	[VUS_CMD_RESET] = "DEVICE_RESET",
	[VUS_CMD_DIRTY_PAGES] = "DIRTY_PAGES",
	[VUS_CMD_REGION_WRITE_MULTI] = "REGION_WRITE_MULTI",
	[VUS_CMD_FEATURE] = "DEVICE_FEATURE",
	[VUS_CMD_MIG_DATA_READ] = "MIG_DATA_READ",
	[VUS_CMD_MIG_DATA_WRITE] = "MIG_DATA_WRITE",
};
static_assert(sizeof(cmd_name) / sizeof(cmd_name[0]) == VUS_CMD_NUM, "a name for each command");

const char *vus_cmd_to_string(unsigned cmd)
{
	if (cmd >= VUS_CMD_NUM || !cmd_name[cmd])
		return "?";
	return cmd_name[cmd];
}

void vus_header_parse(const uint8_t *buf, struct vus_header *ret_header)
{
	*ret_header = (struct vus_header){
		.id = get_le16(buf),
		.cmd = get_le16(buf + 2),
		.size = get_le32(buf + 4),
		.flags = get_le32(buf + 8),
		.error = get_le32(buf + 12),
	};
}

const char *vus_header_check(const struct vus_header *header, uint32_t max)
{
	if (header->size < VUS_HEADER_SIZE)
		return "message is shorter than its header";
	if (header->size > max)
		return "message is too long";
	if ((header->flags & VUS_TYPE_MASK) == VUS_TYPE_REPLY)
		return "reply to nothing";
	if ((header->flags & VUS_TYPE_MASK) != VUS_TYPE_COMMAND)
		return "neither command nor reply";
	return NULL;
}

void vus_reply_build(uint8_t *buf, const struct vus_header *cmd, uint32_t body, uint32_t error)
{
	assert(!error || !body);
	memset(buf, 0, VUS_HEADER_SIZE);
	put_le16(buf, cmd->id);
	put_le16(buf + 2, cmd->cmd);
	put_le32(buf + 4, VUS_HEADER_SIZE + body);
	put_le32(buf + 8, VUS_TYPE_REPLY | (error ? VUS_ERROR : 0));
	put_le32(buf + 12, error);
}

/**
 * has_argsz() - is there a body of at least @min bytes whose first word says so, too?
 */
static bool has_argsz(const uint8_t *body, size_t len, uint32_t min)
{
	return len >= min && get_le32(body) >= min;
}

int vus_version_parse(const uint8_t *body, size_t len, struct vus_version *ret_version)
{
	struct vus_version version = { 0 };

	if (len < 4)
		return -EINVAL;
	version.major = get_le16(body);
	version.minor = get_le16(body + 2);
	if (len > 4) {
		version.json = (const char *)body + 4;
		version.json_len = strnlen(version.json, len - 4);
		if (version.json_len == len - 4)
			return -EINVAL;
	}
	*ret_version = version;
	return 0;
}

size_t vus_version_build(uint8_t *body, size_t room, uint16_t major, uint16_t minor, const char *json)
{
	size_t len = 4 + strlen(json) + 1;

	assert(room >= len);
	put_le16(body, major);
	put_le16(body + 2, minor);
	memcpy(body + 4, json, len - 4);
	return len;
}

/**
 * get_number() - the non-negative integer called @key, @missing if there is none
 */
static uint64_t get_number(const json_t *object, const char *key, uint64_t missing)
{
	const json_t *value = json_object_get(object, key);

	if (!json_is_integer(value) || json_integer_value(value) < 0)
		return missing;
	return (uint64_t)json_integer_value(value);
}

int vus_caps_parse(const char *json, size_t len, struct vus_caps *ret_caps)
{
	struct vus_caps caps = { .max_msg_fds = 1, .max_xfer = 1048576 };
	const json_t *object;
	uint64_t fds;
	json_t *root;

	if (json) {
		root = json_loadb(json, len, 0, NULL);
		if (!json_is_object(root)) {
			json_decref(root);
			return -EINVAL;
		}
		object = json_object_get(root, "capabilities");
		fds = get_number(object, "max_msg_fds", caps.max_msg_fds);
		caps.max_msg_fds = fds > UINT32_MAX ? UINT32_MAX : (uint32_t)fds;
		caps.max_xfer = get_number(object, "max_data_xfer_size", caps.max_xfer);
		json_decref(root);
	}
	*ret_caps = caps;
	return 0;
}

int vus_dma_map_parse(const uint8_t *body, size_t len, struct vus_dma_map *ret_map)
{
	struct vus_dma_map map;
	uint64_t end;

	if (!has_argsz(body, len, VUS_DMA_MAP_SIZE))
		return -EINVAL;
	map = (struct vus_dma_map){
		.flags = get_le32(body + 4),
		.offset = get_le64(body + 8),
		.addr = get_le64(body + 16),
		.size = get_le64(body + 24),
	};
	if (!map.flags || map.flags & ~(VUS_DMA_READ | VUS_DMA_WRITE))
		return -EINVAL;
	if (!map.size || !add64(map.addr, map.size, &end) || !add64(map.offset, map.size, &end))
		return -EINVAL;
	*ret_map = map;
	return 0;
}

int vus_dma_unmap_parse(const uint8_t *body, size_t len, struct vus_dma_unmap *ret_unmap)
{
	struct vus_dma_unmap unmap;
	uint32_t flags;

	if (!has_argsz(body, len, VUS_DMA_UNMAP_SIZE))
		return -EINVAL;
	flags = get_le32(body + 4);
	unmap = (struct vus_dma_unmap){
		.all = flags == VUS_DMA_UNMAP_ALL,
		.addr = get_le64(body + 8),
		.size = get_le64(body + 16),
	};
	if (flags && !unmap.all)
		return -EINVAL;
	if (unmap.all ? unmap.addr || unmap.size : !unmap.size)
		return -EINVAL;
	*ret_unmap = unmap;
	return 0;
}

int vus_info_parse(const uint8_t *body, size_t len)
{
	return has_argsz(body, len, VUS_INFO_SIZE) ? 0 : -EINVAL;
}

size_t vus_info_build(uint8_t *body, size_t room, uint32_t flags, uint32_t regions, uint32_t irqs)
{
	assert(room >= VUS_INFO_SIZE);
	memset(body, 0, VUS_INFO_SIZE);
	put_le32(body, VUS_INFO_SIZE);
	put_le32(body + 4, flags);
	put_le32(body + 8, regions);
	put_le32(body + 12, irqs);
	return VUS_INFO_SIZE;
}

int vus_region_info_parse(const uint8_t *body, size_t len, struct vus_region_info *ret_info)
{
	if (!has_argsz(body, len, VUS_REGION_INFO_SIZE))
		return -EINVAL;
	*ret_info = (struct vus_region_info){ .argsz = get_le32(body), .index = get_le32(body + 8) };
	return 0;
}

#define CAP_SPARSE_MMAP 1u
#define CAP_SPARSE_HEAD 16u
#define CAP_SPARSE_AREA 16u

size_t vus_region_info_build(uint8_t *body, size_t room, const struct vus_region_info *info, uint32_t flags,
			     uint64_t size, uint64_t offset, const struct vus_area *areas, uint32_t n_areas,
			     bool *ret_full)
{
	uint32_t caps = n_areas ? CAP_SPARSE_HEAD + n_areas * CAP_SPARSE_AREA : 0;
	uint32_t need = VUS_REGION_INFO_SIZE + caps;
	bool full = info->argsz >= need;
	size_t len = full ? need : VUS_REGION_INFO_SIZE;
	uint8_t *cap = body + VUS_REGION_INFO_SIZE;

	assert(room >= len);
	memset(body, 0, len);
	put_le32(body, need);
	put_le32(body + 4, flags);
	put_le32(body + 8, info->index);
	put_le64(body + 16, size);
	put_le64(body + 24, offset);
	if (full && caps) {
		put_le32(body + 4, flags | VUS_REGION_CAPS);
		put_le32(body + 12, VUS_REGION_INFO_SIZE);
		put_le16(cap, CAP_SPARSE_MMAP);
		put_le16(cap + 2, 1);
		put_le32(cap + 8, n_areas);
		for (uint32_t i = 0; i < n_areas; i++) {
			put_le64(cap + CAP_SPARSE_HEAD + i * CAP_SPARSE_AREA, areas[i].offset);
			put_le64(cap + CAP_SPARSE_HEAD + i * CAP_SPARSE_AREA + 8, areas[i].size);
		}
	}
	*ret_full = full;
	return len;
}

int vus_region_io_fds_parse(const uint8_t *body, size_t len, uint32_t *ret_index)
{
	if (!has_argsz(body, len, VUS_REGION_IO_FDS_SIZE) || get_le32(body + 4))
		return -EINVAL;
	*ret_index = get_le32(body + 8);
	return 0;
}

size_t vus_region_io_fds_build(uint8_t *body, size_t room, uint32_t index)
{
	assert(room >= VUS_REGION_IO_FDS_SIZE);
	memset(body, 0, VUS_REGION_IO_FDS_SIZE);
	put_le32(body, VUS_REGION_IO_FDS_SIZE);
	put_le32(body + 8, index);
	return VUS_REGION_IO_FDS_SIZE;
}

int vus_irq_info_parse(const uint8_t *body, size_t len, uint32_t *ret_index)
{
	if (!has_argsz(body, len, VUS_IRQ_INFO_SIZE))
		return -EINVAL;
	*ret_index = get_le32(body + 8);
	return 0;
}

size_t vus_irq_info_build(uint8_t *body, size_t room, uint32_t flags, uint32_t index, uint32_t count)
{
	assert(room >= VUS_IRQ_INFO_SIZE);
	memset(body, 0, VUS_IRQ_INFO_SIZE);
	put_le32(body, VUS_IRQ_INFO_SIZE);
	put_le32(body + 4, flags);
	put_le32(body + 8, index);
	put_le32(body + 12, count);
	return VUS_IRQ_INFO_SIZE;
}

/* Flag bits of SET_IRQS: three for the data type, three for the action. */
#define SET_IRQS_DATA_SHIFT 0
#define SET_IRQS_ACTION_SHIFT 3

/**
 * one_of() - which of @n flags that start at bit @shift is set?
 *
 * Return: its number, or -EINVAL if it is not exactly one
 */
static int one_of(uint32_t flags, unsigned shift, int n)
{
	int found = -EINVAL;

	for (int i = 0; i < n; i++) {
		if (!(flags >> shift >> i & 1))
			continue;
		if (found >= 0)
			return -EINVAL;
		found = i;
	}
	return found;
}

int vus_set_irqs_parse(const uint8_t *body, size_t len, struct vus_set_irqs *ret_set)
{
	struct vus_set_irqs set;
	uint32_t flags;
	uint64_t end;
	int data, action;

	if (!has_argsz(body, len, VUS_SET_IRQS_SIZE))
		return -EINVAL;
	flags = get_le32(body + 4);
	data = one_of(flags, SET_IRQS_DATA_SHIFT, VUS_IRQ_DATA_NUM);
	action = one_of(flags, SET_IRQS_ACTION_SHIFT, VUS_IRQ_ACTION_NUM);
	if (data < 0 || action < 0 || flags >> (SET_IRQS_ACTION_SHIFT + VUS_IRQ_ACTION_NUM))
		return -EINVAL;
	set = (struct vus_set_irqs){
		.data = (enum vus_irq_data)data,
		.action = (enum vus_irq_action)action,
		.index = get_le32(body + 8),
		.start = get_le32(body + 12),
		.count = get_le32(body + 16),
	};
	if (set.index >= VUS_IRQ_NUM || !add64(set.start, set.count, &end) || end > UINT32_MAX)
		return -EINVAL;
	if (data == VUS_IRQ_DATA_BOOL) {
		if (len - VUS_SET_IRQS_SIZE != set.count || get_le32(body) - VUS_SET_IRQS_SIZE < set.count)
			return -EINVAL;
		set.bools = body + VUS_SET_IRQS_SIZE;
	}
	*ret_set = set;
	return 0;
}

/**
 * access_parse() - the fixed part of a region access
 */
static void access_parse(const uint8_t *body, struct vus_access *access)
{
	*access = (struct vus_access){
		.offset = get_le64(body),
		.region = get_le32(body + 8),
		.count = get_le32(body + 12),
	};
}

int vus_region_read_parse(const uint8_t *body, size_t len, struct vus_access *ret_access)
{
	if (len != VUS_ACCESS_SIZE)
		return -EINVAL;
	access_parse(body, ret_access);
	return 0;
}

int vus_region_write_parse(const uint8_t *body, size_t len, struct vus_access *ret_access)
{
	struct vus_access access;

	if (len < VUS_ACCESS_SIZE)
		return -EINVAL;
	access_parse(body, &access);
	if (len - VUS_ACCESS_SIZE != access.count)
		return -EINVAL;
	access.data = body + VUS_ACCESS_SIZE;
	*ret_access = access;
	return 0;
}

size_t vus_access_build(uint8_t *body, size_t room, const struct vus_access *access)
{
	assert(room >= VUS_ACCESS_SIZE);
	put_le64(body, access->offset);
	put_le32(body + 8, access->region);
	put_le32(body + 12, access->count);
	return VUS_ACCESS_SIZE;
}

int vus_multi_parse(const uint8_t *body, size_t len, uint64_t *ret_n)
{
	uint64_t n, size;

	if (len < VUS_MULTI_HEAD_SIZE)
		return -EINVAL;
	n = get_le64(body);
	if (!mul64(n, VUS_MULTI_ENTRY_SIZE, &size) || size != len - VUS_MULTI_HEAD_SIZE)
		return -EINVAL;
	*ret_n = n;
	return 0;
}

int vus_multi_entry_parse(const uint8_t *body, uint64_t i, struct vus_access *ret_access)
{
	const uint8_t *entry = body + VUS_MULTI_HEAD_SIZE + i * VUS_MULTI_ENTRY_SIZE;
	struct vus_access access;

	access_parse(entry, &access);
	if (!access.count || access.count > 8)
		return -EINVAL;
	access.data = entry + VUS_ACCESS_SIZE;
	*ret_access = access;
	return 0;
}

size_t vus_multi_build(uint8_t *body, size_t room, uint64_t n)
{
	assert(room >= VUS_MULTI_HEAD_SIZE);
	put_le64(body, n);
	return VUS_MULTI_HEAD_SIZE;
}

int vus_feature_parse(const uint8_t *body, size_t len, struct vus_feature *ret_feature)
{
	uint32_t flags;

	if (!has_argsz(body, len, VUS_FEATURE_HEAD_SIZE))
		return -EINVAL;
	flags = get_le32(body + 4);
	if (flags & ~(0xffffu | VUS_FEATURE_GET | VUS_FEATURE_SET | VUS_FEATURE_PROBE))
		return -EINVAL;
	*ret_feature = (struct vus_feature){
		.argsz = get_le32(body),
		.feature = (uint16_t)flags,
		.ops = flags & ~0xffffu,
		.data = body + VUS_FEATURE_HEAD_SIZE,
		.len = len - VUS_FEATURE_HEAD_SIZE,
	};
	return 0;
}

#define MIG_HEAD_SIZE 8u

int vus_mig_read_parse(const uint8_t *body, size_t len, struct vus_mig_data *ret_data)
{
	if (!has_argsz(body, len, MIG_HEAD_SIZE))
		return -EINVAL;
	*ret_data = (struct vus_mig_data){ .argsz = get_le32(body), .size = get_le32(body + 4) };
	return 0;
}

int vus_mig_write_parse(const uint8_t *body, size_t len, struct vus_mig_data *ret_data)
{
	struct vus_mig_data data;
	int r;

	r = vus_mig_read_parse(body, len, &data);
	if (r < 0)
		return r;
	if (len - MIG_HEAD_SIZE != data.size)
		return -EINVAL;
	data.data = body + MIG_HEAD_SIZE;
	*ret_data = data;
	return 0;
}
