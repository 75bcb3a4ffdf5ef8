/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0 */
/*
 * vmci/defs.h - what VMCI looks like on the wire: registers, datagrams,
 * hypercalls, queue pairs, events, and the AF_VSOCK control packet.
 *
 * Constants and layouts only: no function, no pointer, no dependency beyond
 * fixed-width integers, so that it compiles in user space and in kernels.
 * Everything is little-endian. The *_wire structures describe layouts; code
 * reads and writes them through encoders, never by casting foreign memory.
 */
#ifndef VMCI_DEFS_H
#define VMCI_DEFS_H

#ifdef __KERNEL__
#include <linux/types.h>
typedef __u8 vmci_u8;
typedef __u16 vmci_le16;
typedef __u32 vmci_le32;
typedef __u64 vmci_le64;
#else
#include <stdint.h>
typedef uint8_t vmci_u8;
typedef uint16_t vmci_le16;
typedef uint32_t vmci_le32;
typedef uint64_t vmci_le64;
#endif

/* --- PCI identity ------------------------------------------------------- */

#define VMCI_PCI_VENDOR 0x15adu
#define VMCI_PCI_DEVICE 0x0740u
#define VMCI_PCI_CLASS 0x088000u
#define VMCI_PCI_REVISION 0x10u

#define VMCI_PORT_BAR_SIZE 0x40u	 /* BAR0, I/O ports */
#define VMCI_MMIO_BAR_SIZE 0x40000u	 /* BAR1 of the MMIO device, exactly */
#define VMCI_CLASSIC_BAR_SIZE 0x2000u	 /* BAR1 of the classic device */
#define VMCI_MMIO_REGS_OFFSET 0x20000u	 /* registers in BAR1 (MMIO device) */
#define VMCI_MMIO_REGS_SIZE 0x10000u
#define VMCI_MMIO_PBA_OFFSET 0x10000u	 /* MSI-X table is at 0 */
#define VMCI_CLASSIC_PBA_OFFSET 0x1000u
#define VMCI_WINDOW_BAR 3u		/* BAR3, 64-bit, prefetchable: the window (ours) */
#define VMCI_MMIO_VECTORS 3u
#define VMCI_CLASSIC_VECTORS 2u

/* --- Registers: the same offsets over ports and over MMIO ---------------- */

#define VMCI_REG_STATUS 0x00u
#define VMCI_REG_CONTROL 0x04u
#define VMCI_REG_ICR 0x08u
#define VMCI_REG_IMR 0x0cu
#define VMCI_REG_DATA_OUT 0x10u		/* ports only, byte stream */
#define VMCI_REG_DATA_IN 0x14u		/* ports only, byte stream */
#define VMCI_REG_CAPS 0x18u
#define VMCI_REG_RESULT_LOW 0x1cu
#define VMCI_REG_RESULT_HIGH 0x20u
#define VMCI_REG_DATA_OUT_LOW 0x24u	/* MMIO only: starts a DMA send */
#define VMCI_REG_DATA_OUT_HIGH 0x28u
#define VMCI_REG_DATA_IN_LOW 0x2cu	/* MMIO only: starts a DMA receive */
#define VMCI_REG_DATA_IN_HIGH 0x30u
#define VMCI_REG_PAGE_SHIFT 0x34u

#define VMCI_STATUS_INT_ON 0x1u

#define VMCI_CONTROL_RESET 0x1u
#define VMCI_CONTROL_INT_ENABLE 0x2u
#define VMCI_CONTROL_INT_DISABLE 0x4u

/* Interrupt causes; the bit's index is also the vector in exclusive mode. */
#define VMCI_CAUSE_DATAGRAM 0x1u
#define VMCI_CAUSE_NOTIFICATION 0x2u
#define VMCI_CAUSE_DMA_DATAGRAM 0x4u
#define VMCI_CAUSE_ALL 0x7u

#define VMCI_CAP_HYPERCALL 0x01u
#define VMCI_CAP_GUESTCALL 0x02u
#define VMCI_CAP_DATAGRAM 0x04u
#define VMCI_CAP_NOTIFICATIONS 0x08u
#define VMCI_CAP_PPN64 0x10u
#define VMCI_CAP_DMA_DATAGRAM 0x20u

/* --- Contexts and resources ----------------------------------------------- */

#define VMCI_CID_HYPERVISOR 0u
#define VMCI_CID_WELL_KNOWN 1u
#define VMCI_CID_HOST 2u
#define VMCI_CID_FIRST_VM 16u		/* lower ids are reserved */
#define VMCI_INVALID_ID 0xffffffffu	/* context or resource: none, or any */

#define VMCI_RID_EVENT 0u		/* at a guest: where events go */
#define VMCI_RID_STREAM 1u		/* AF_VSOCK stream control */
#define VMCI_RID_FIRST_DYNAMIC 1024u

/* Resources of the hypervisor context (CID 0): the hypercalls. */
#define VMCI_HC_RESOURCES_QUERY 0u
#define VMCI_HC_GET_CONTEXT_ID 1u
#define VMCI_HC_SET_NOTIFY_BITMAP 2u
#define VMCI_HC_DOORBELL_LINK 3u
#define VMCI_HC_DOORBELL_UNLINK 4u
#define VMCI_HC_DOORBELL_NOTIFY 5u
#define VMCI_HC_DATAGRAM_REQUEST_MAP 6u
#define VMCI_HC_DATAGRAM_REMOVE_MAP 7u
#define VMCI_HC_EVENT_SUBSCRIBE 8u
#define VMCI_HC_EVENT_UNSUBSCRIBE 9u
#define VMCI_HC_QUEUEPAIR_ALLOC 10u
#define VMCI_HC_QUEUEPAIR_DETACH 11u
#define VMCI_HC_UNITY_PBRPC 14u
#define VMCI_HC_STREAM 15u		/* stream control of the hypervisor */
#define VMCI_HC_NUM 17u

struct vmci_handle_wire {
	vmci_le32 context;
	vmci_le32 resource;
};

#ifndef __KERNEL__
/* The same in host byte order: what programs use. */
struct vmci_handle {
	uint32_t context;
	uint32_t resource;
};
#endif

/* At context 1: services of the broker. */
#define VMCI_RID_DISCOVERY 1u		/* names (VMCI SDK, 2007) */
#define VMCI_RID_SHM 3u			/* shared memory in guests (ours), answered by the device */

/* What an object is, as far as rights are concerned (VMCI SDK, 2007). */
#define VMCI_RESOURCE_ANY 0u
#define VMCI_RESOURCE_API 1u
#define VMCI_RESOURCE_GROUP 2u
#define VMCI_RESOURCE_DATAGRAM 3u
#define VMCI_RESOURCE_SHAREDMEM 4u

#define VMCI_PRIV_CH_PRIV 0u		/* change privileges */
#define VMCI_PRIV_DESTROY_RESOURCE 1u
#define VMCI_PRIV_ASSIGN_CLIENT 2u	/* of groups */
#define VMCI_PRIV_DG_CREATE 3u
#define VMCI_PRIV_DG_SEND 4u
#define VMCI_PRIV_SM_CREATE 5u
#define VMCI_PRIV_SM_ATTACH 6u
#define VMCI_PRIV_NUM 7u

/* --- Datagrams -------------------------------------------------------------- */

struct vmci_datagram_wire {
	struct vmci_handle_wire dst;
	struct vmci_handle_wire src;
	vmci_le64 payload_size;		/* bytes behind this header */
};
#define VMCI_DG_HEADER_SIZE 24u
#define VMCI_DG_MAX_SIZE 69632u		/* routable, header included */
#define VMCI_DG_MAX_PAYLOAD (VMCI_DG_MAX_SIZE - VMCI_DG_HEADER_SIZE)
#define VMCI_DG_ALIGN 8u		/* received datagrams are padded to it */
#define VMCI_DG_QUEUE_MAX 139264u	/* queued for one context: 2 x maximum */
#define VMCI_EVENT_QUEUE_MAX 188416u	/* the same for events */

/* The head of a DMA buffer; inline data or elements follow at 24. */
struct vmci_dma_header_wire {
	vmci_le32 busy;
	vmci_le32 opcode;
	vmci_le32 size;
	vmci_le32 reserved;
	vmci_le64 result;
};
#define VMCI_DMA_HEADER_SIZE 24u
#define VMCI_DMA_INLINE 0u
#define VMCI_DMA_SG 1u

struct vmci_dma_element_wire {
	vmci_le64 address;
	vmci_le64 length;
};
#define VMCI_DMA_ELEMENT_SIZE 16u

/* --- Hypercall payloads; offsets are from the start of the datagram ---------- */

#define VMCI_RESOURCES_MAX 31u
#define VMCI_QPALLOC_LIST_OFFSET 64u

/* Flags of a queue pair. */
#define VMCI_QP_ATTACH_ONLY 0x1u
#define VMCI_QP_LOCAL 0x2u
#define VMCI_QP_NONBLOCK 0x4u
#define VMCI_QP_PINNED 0x8u
#define VMCI_QP_ALL_FLAGS 0xfu

/* --- Queue pairs -------------------------------------------------------------- */

struct vmci_queue_header_wire {
	struct vmci_handle_wire handle;
	vmci_le64 producer_tail;	/* next byte to write in this queue */
	vmci_le64 consumer_head;	/* next byte to read in the other one */
};
#define VMCI_QUEUE_HEADER_SIZE 24u
#define VMCI_QUEUE_TAIL_OFFSET 8u
#define VMCI_QUEUE_HEAD_OFFSET 16u
#define VMCI_QP_GUEST_MEMORY_MAX (128u * 1024u * 1024u)

/* --- Events ---------------------------------------------------------------------- */

#define VMCI_EVENT_CTX_ID_UPDATE 0u
#define VMCI_EVENT_CTX_REMOVED 1u
#define VMCI_EVENT_QP_RESUMED 2u
#define VMCI_EVENT_QP_PEER_ATTACH 3u
#define VMCI_EVENT_QP_PEER_DETACH 4u

/* --- AF_VSOCK control packets ------------------------------------------------------ */

struct vmci_stream_packet_wire {
	struct vmci_datagram_wire dg;
	vmci_u8 version;
	vmci_u8 type;
	vmci_le16 proto;
	vmci_le32 src_port;
	vmci_le32 dst_port;
	vmci_le32 reserved;
	vmci_le64 arg0;			/* size, mode, handle or generation */
	vmci_le64 arg1;			/* offset */
};
#define VMCI_STREAM_PACKET_SIZE 56u
#define VMCI_STREAM_VERSION 1u
#define VMCI_STREAM_PROTO_QSTATE 0x1u
#define VMCI_PORT_ANY 0xffffffffu
#define VMCI_PORT_LAST_RESERVED 1023u

#define VMCI_SHUTDOWN_RECEIVE 0x1u
#define VMCI_SHUTDOWN_SEND 0x2u
#define VMCI_SHUTDOWN_BOTH 0x3u

/* --- Results ------------------------------------------------------------------------ */

#define VMCI_SUCCESS_QUEUEPAIR_ATTACH 5
#define VMCI_SUCCESS_QUEUEPAIR_CREATE 4
#define VMCI_SUCCESS_LAST_DETACH 3
#define VMCI_SUCCESS_ACCESS_GRANTED 2
#define VMCI_SUCCESS_ENTRY_DEAD 1
#define VMCI_SUCCESS 0
#define VMCI_ERROR_INVALID_RESOURCE (-1)
#define VMCI_ERROR_INVALID_ARGS (-2)
#define VMCI_ERROR_NO_MEM (-3)
#define VMCI_ERROR_DATAGRAM_FAILED (-4)
#define VMCI_ERROR_MORE_DATA (-5)
#define VMCI_ERROR_NO_MORE_DATAGRAMS (-6)
#define VMCI_ERROR_NO_ACCESS (-7)
#define VMCI_ERROR_NO_HANDLE (-8)
#define VMCI_ERROR_DUPLICATE_ENTRY (-9)
#define VMCI_ERROR_DST_UNREACHABLE (-10)
#define VMCI_ERROR_PAYLOAD_TOO_LARGE (-11)
#define VMCI_ERROR_INVALID_PRIV (-12)
#define VMCI_ERROR_GENERIC (-13)
#define VMCI_ERROR_PAGE_ALREADY_SHARED (-14)
#define VMCI_ERROR_CANNOT_SHARE_PAGE (-15)
#define VMCI_ERROR_CANNOT_UNSHARE_PAGE (-16)
#define VMCI_ERROR_NO_PROCESS (-17)
#define VMCI_ERROR_NO_DATAGRAM (-18)
#define VMCI_ERROR_NO_RESOURCES (-19)
#define VMCI_ERROR_UNAVAILABLE (-20)
#define VMCI_ERROR_NOT_FOUND (-21)
#define VMCI_ERROR_ALREADY_EXISTS (-22)
#define VMCI_ERROR_NOT_PAGE_ALIGNED (-23)
#define VMCI_ERROR_INVALID_SIZE (-24)
#define VMCI_ERROR_REGION_ALREADY_SHARED (-25)
#define VMCI_ERROR_TIMEOUT (-26)
#define VMCI_ERROR_DATAGRAM_INCOMPLETE (-27)
#define VMCI_ERROR_INCORRECT_IRQL (-28)
#define VMCI_ERROR_EVENT_UNKNOWN (-29)
#define VMCI_ERROR_OBSOLETE (-30)
#define VMCI_ERROR_QUEUEPAIR_MISMATCH (-31)
#define VMCI_ERROR_QUEUEPAIR_NOTSET (-32)
#define VMCI_ERROR_QUEUEPAIR_NOTOWNER (-33)
#define VMCI_ERROR_QUEUEPAIR_NOTATTACHED (-34)
#define VMCI_ERROR_QUEUEPAIR_NOSPACE (-35)
#define VMCI_ERROR_QUEUEPAIR_NODATA (-36)
#define VMCI_ERROR_BUSMEM_INVALIDATION (-37)
#define VMCI_ERROR_MODULE_NOT_LOADED (-38)
#define VMCI_ERROR_DEVICE_NOT_FOUND (-39)
#define VMCI_ERROR_QUEUEPAIR_NOT_READY (-40)
#define VMCI_ERROR_WOULD_BLOCK (-41)

#endif /* VMCI_DEFS_H */
