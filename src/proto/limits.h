/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Every limit of OpenVMCI, with its reason (design, rule 4). Sizes are ours; a peer may only
 * shrink them. Limits that are part of VMCI itself stand in vmci/defs.h.
 */
#ifndef PROTO_LIMITS_H
#define PROTO_LIMITS_H

#include "vmci/defs.h"

/*
 * Largest hypercall datagram taken over the ports: the largest that any driver builds, a
 * QUEUEPAIR_ALLOC for 128 MiB with 64-bit PPNs (VMCI reference, 3.1).
 */
#define LIMIT_HYPERCALL_SIZE 262232u

/* Queue pairs of one guest: what 128 MiB of 4 KiB pages hold (reference, 7.6). */
#define LIMIT_QUEUE_PAIRS 16384u

/* Doorbells of one guest; also the largest bitmap index + 1 with 4 KiB pages (reference, 5). */
#define LIMIT_DOORBELLS 4096u

/* Bytes of guest queue memory that one guest may have attached, and that may linger unread. */
#define LIMIT_QUEUE_MEMORY VMCI_QP_GUEST_MEMORY_MAX

/*
 * Streams of one guest. 128 MiB hold 256 with the default ring of 256 KiB each way; a guest with
 * smaller rings can have more, and each costs us a descriptor and about 500 bytes.
 */
#define LIMIT_STREAMS 4096u

/* Pending and unaccepted connections of one port: the usual SOMAXCONN. */
#define LIMIT_BACKLOG 128u

/* Ring sizes that a stream accepts and proposes (transport reference, 1.1 and 6.5). */
#define LIMIT_RING_MIN 128u
#define LIMIT_RING_MAX 262144u
#define LIMIT_RING_DEFAULT 262144u
#define LIMIT_RING_LEGACY 65536u	/* proposed after a fallback to the legacy handshake */

/*
 * Rings get smaller when less than so many streams of their size would fit into the guest's queue memory, down to this
 * size. Linux holds the memory of an accepted stream for a second after its end: with rings of 256 KiB that is 256 streams
 * a second, with this about 1000.
 */
#define LIMIT_RING_SPARE 64u
#define LIMIT_RING_PRESSED 8192u

/*
 * A server's child that saw a REQUEST and no OFFER is dropped after this. Linux gives it a second (transport reference,
 * 6.4), which a guest behind ports on a busy machine does not always make; its connect() waits for two by default.
 */
#define LIMIT_PENDING_NS 3000000000ull

/*
 * A client gets this long to find itself connected, before the first packet that is no answer to one of its own: four
 * times what it took for its OFFER, as a guest behind ports or on a busy machine takes a hundred times as long as others,
 * but within these bounds. It is over with the first sign that the client is connected.
 */
#define LIMIT_FRESH_MIN_NS 20000000ull
#define LIMIT_FRESH_MAX_NS 1000000000ull
#define LIMIT_FRESH_TIMES 4

/* A connect from the host fails with a time-out after this (transport reference, 5). */
#define LIMIT_CONNECT_NS 2000000000ull

/* Bytes that one stream may move in one turn before the next stream has its turn. */
#define LIMIT_TURN_BYTES 131072u

/* Scatter-gather elements of a DMA datagram buffer: what fits into its header page. */
#define LIMIT_DMA_ELEMENTS 254u

/* device */

/*
 * Ring that holds a guest's inbound datagrams, each padded to 8 bytes. The limits of the reference
 * (9.2) count unpadded bytes; padding adds most to datagrams of 25 bytes, which take 32.
 */
#define LIMIT_INBOX_RING 262144u

/* Ring bytes of a queue pair with the PINNED flag (reference, 9.2). */
#define LIMIT_PINNED_QUEUE_PAIR 32768u

/*
 * Lines of one kind that a guest can put into the log between two function resets; beyond that it
 * would be a flood. A kind also speaks at most once per driver session.
 */
#define LIMIT_NOTES 16u

/* vfio-user */

/*
 * Data bytes of one region access. The device has registers only: a guest's access has up to 8 bytes, QEMU's
 * look at config space 256 (and it refuses less). The rest is room for bursts of posted writes (36 bytes each) that
 * one recvmsg(2) fetches.
 */
#define LIMIT_VFIO_XFER 65536u

/* Largest message, header and fixed part included: it bounds both buffers of a session. */
#define LIMIT_VFIO_MESSAGE (16u + 16u + LIMIT_VFIO_XFER)

/* Descriptors in one message: the most that QEMU offers and that Cloud Hypervisor sends. */
#define LIMIT_VFIO_FDS 16u

/* Ranges mapped at the same time: the most that QEMU lets us offer. A table entry has 40 bytes. */
#define LIMIT_VFIO_MAPS 65535u

/*
 * Files behind those ranges, each a descriptor of ours: one per RAM backend of a VM (256 memory slots), and as many
 * for what else may be there, within the usual 1024 descriptors of a process.
 */
#define LIMIT_VFIO_FILES 512u

/* Vectors of MSI or MSI-X: one word of pending bits; the device has 3. */
#define LIMIT_VFIO_VECTORS 64u

/* Mappable areas of one region. */
#define LIMIT_VFIO_AREAS 16u

/* Messages that are served before other event sources have their turn. */
#define LIMIT_VFIO_TURN 64u

/* A client that leaves a reply unread this long has given it up: QEMU's own time-out (vfio-user reference, 9.4). */
#define LIMIT_VFIO_STALL_NS 5000000000ull

/* Complaints about one client that are logged as warnings; later ones are for debugging only. */
#define LIMIT_VFIO_COMPLAINTS 32u

/* Bytes of RAM that are looked at to find out whether they reach us at all (share=off). */
#define LIMIT_VFIO_PROBE (16u << 20)

/* all programs */

/*
 * Closing what somebody else has made, however much it is, keeps us no longer than this: as long as some messages take.
 * Less would be spent on the clock.
 */
#define LIMIT_CLOSE_USEC 100u

/* hybrid sockets */

/* A program that connects to a hybrid socket says where to within this time: it is on the same machine. */
#define LIMIT_HELLO_USEC 5000000ull

/* A guest gets this long to fetch the news that its streams have ended, when the device is told to end. */
#define LIMIT_FAREWELL_NS 500000000ull

/* Programs get this long to read what a guest wrote last, when the device is told to end. */
#define LIMIT_LINGER_USEC 10000000ull

/* Sockets of programs: every stream, as many that drain, and some that have not spoken yet. */
#define LIMIT_ENDS (2u * LIMIT_STREAMS + 256u)

/* keeper */

/*
 * The keeper, our own process, gets this long to make room when hundreds of messages wait for it. The VM stands still
 * meanwhile, and a VMM gives up after seconds (vfio-user reference, 9.4).
 */
#define LIMIT_KEEPER_WAIT_MS 200

/*
 * After taking over, the keeper waits until nothing has come from the VMM for this long; then it looks for transfers
 * whose start was lost, and tells the guest. Long enough for the posted writes that the VMM still had in its own queue,
 * and for any pause in a burst of port accesses; short for a guest that spins meanwhile.
 */
#define LIMIT_KEEPER_SETTLE_NS 20000000ull

/*
 * A VMM that says nothing for this long has not got the answer that vmci-device may have sent with its last breath. Far
 * longer than a VMM takes for its next question, also where it has to wait for a processor; a VMM's own patience are seconds.
 */
#define LIMIT_KEEPER_OWE_NS 1000000000ull

/* It waits no longer than this for that pause: guests always pause, but need not. */
#define LIMIT_KEEPER_UNREST_NS 1000000000ull

/*
 * The window of a guest: a BAR is a power of two, and mapped in pages; a region of the fabric has 1 GiB at most
 * (LIMIT_BRK_REGION).
 */
#define LIMIT_WINDOW_MIN 4096u
#define LIMIT_WINDOW_PAGE 4096u		/* where regions begin in it: what a guest can map */
#define LIMIT_WINDOW_MAX (1u << 30)

/* the fabric, in vmci-device */

/*
 * A guest that sends to others stands still while vmcid answers, which takes it microseconds, but for a machine with
 * more to do than it can (seen: 100 ms). After this time it is out of order. A VMM gives up after seconds.
 */
#define LIMIT_FABRIC_CALL_MS 500

/* vmcid, which has just started us, or connected to us, answers to a HELLO within this time. */
#define LIMIT_FABRIC_HELLO_MS 2000

/* Requests that can wait (watches, what was detached, what is held) for each round of the event loop. */
#define LIMIT_FABRIC_TURN 32u

/* Other contexts whose end is of interest to a guest: those that it has dealt with, the first so many. */
#define LIMIT_WATCHES 256u

/* Requests of a guest to register names whose answers are awaited: as many as it may have names. */
#define LIMIT_NAMES_ASKED 64u

/*
 * Ports of a guest that have shared memory: as many as a context may have regions. A port whose program has died counts
 * until somebody clears up (vmci-device/share.c).
 */
#define LIMIT_SHARES LIMIT_BRK_REGIONS

/* Answers of the service for shared memory that the guest's queue has no room for; beyond that it is asked again. */
#define LIMIT_SHARE_REPLIES 64u

/* Doorbells of others that a guest rings: each is a descriptor; the one that was rung longest ago makes room. */
#define LIMIT_BELLS_OUT 256u

/* One that is older is opened anew: its owner may have made another one of the same name. A call per bell and second. */
#define LIMIT_BELL_AGE_NS 1000000000ull

/* Doorbells of a guest that others ring: each is a descriptor. */
#define LIMIT_BELLS_IN 1024u

/* Who makes us wait at an eventfd gets a signal after this; and again, as long as it takes. */
#define LIMIT_KICK_USEC 10000

/* Bytes of a sink's socket: more than wait for a guest (2 * 69632), with what the kernel adds to each. */
#define LIMIT_MAIL_BUFFER (1 << 18)

/* Datagrams that are passed on before other event sources have their turn. */
#define LIMIT_MAIL_TURN 64u

/* Datagrams that are thrown away at once with a driver: more than 139264 bytes of the smallest. */
#define LIMIT_MAIL_DRAIN 16384u

/* Queue pairs of a guest with other contexts: each is a descriptor, and its rings once more. */
#define LIMIT_BRIDGES 4096u

/*
 * How often the rings of a guest are looked at, when it has been quiet for longer than streams are polled: it tells nobody
 * that it has moved an index. From the first to the second interval, doubling; after the quiet time with the third. A
 * look costs little, to wake for it about 10 us: measured, 1.1 % of a CPU at 1 ms, 0.14 % at 20 ms.
 */
#define LIMIT_BRIDGE_FIRST_NS 50000ull
#define LIMIT_BRIDGE_LAST_NS 1000000ull
#define LIMIT_BRIDGE_IDLE_NS 20000000ull
#define LIMIT_BRIDGE_QUIET_NS 10000000000ull

/* A guest gets this long to make room for what a peer wrote before it left; then it is told, and the rest is lost. */
#define LIMIT_BRIDGE_STALL_NS 10000000000ull

/* A peer that was given a guest's pair has this long to say that it is there: all it has to do is to map its memory. */
#define LIMIT_BRIDGE_OFFER_NS 5000000000ull

/* A peer that reads nothing for this long of what a guest wrote before it left has given it up. */
#define LIMIT_BRIDGE_REST_NS 60000000000ull

/* vmcid */

/*
 * Messages that wait for one client to read: as many replies as it may have requests under way, and as many questions if it
 * is a device. Who has more does not keep to the protocol.
 */
#define LIMIT_VMCID_REPLIES 128u

/* A device is asked more: who connects to its guest. */
#define LIMIT_VMCID_QUESTIONS (LIMIT_VMCID_REPLIES + LIMIT_VMCID_CONNECTS)

/* A message whose descriptors the kernel had no room for is tried again after this. */
#define LIMIT_VMCID_RETRY_USEC 20000ull

/* Their bytes: replies are small, but for lists. */
#define LIMIT_VMCID_REPLY_BYTES (1u << 20)

/* Bytes of one reply to LIST: some hundred lines. */
#define LIMIT_VMCID_LIST_BYTES 32768u

/* A device gets this long to answer a question; a program waits meanwhile. */
#define LIMIT_VMCID_ASK_USEC 1000000ull

/* After a restart the owners of everything get this long to come back, before others may take their ids and names. */
#define LIMIT_VMCID_GRACE_USEC 1000000ull

/* A client says HELLO within this time; it is on the same machine. */
#define LIMIT_VMCID_HELLO_USEC 10000000ull

/* An embedded vmcid stays this long without clients: programs that are run one after another share it. */
#define LIMIT_VMCID_LEAVE_USEC 1000000ull

/* And this long for its first one, which is just starting it. */
#define LIMIT_VMCID_FIRST_USEC 10000000ull

/*
 * Endpoints of sockets that programs keep: nobody tells when such a socket is closed, so vmcid looks. A look is a system
 * call.
 */
#define LIMIT_VMCID_SWEEP_USEC 2000000ull

/* Who has exhausted his quota makes us look again not more often than this, however often he asks. */
#define LIMIT_VMCID_SWEEP_PAUSE_USEC 100000ull

/* Messages of one client that are served before other event sources have their turn. */
#define LIMIT_VMCID_TURN 16u

/* Lines that clients together can put into the log in a period of so many microseconds; the rest is counted. */
#define LIMIT_VMCID_NOTES 100u
#define LIMIT_VMCID_NOTES_USEC 10000000ull

/* VMs with a definition: each has a socket, and may have a process. */
#define LIMIT_VMCID_VMS 1024u

/* Users that vmcid.conf may name as trusted. */
#define LIMIT_VMCID_TRUSTED 64u

/* Descriptors that vmcid keeps for itself (sockets, timers, VMs being started) and leaves to users of its limit. */
#define LIMIT_VMCID_OWN_FDS 128u

/* Paths of one user's ports, those included whose sockets have gone; as many as a context has doorbells. */
#define LIMIT_PORTS_USER 4096u

/*
 * They are looked through (about 3 us each) when they are twice as many as after the last time, and no fewer than these;
 * not more often than this where it was in vain.
 */
#define LIMIT_PORTS_SWEEP 64u
#define LIMIT_PORTS_SWEEP_MS 1000

/* Binding and connecting a socket never waits, unless somebody else who has it sees to that; then for so long. */
#define LIMIT_PORTS_WAIT_USEC 10000u

/*
 * Bytes that stop the socket of a program that connects to a guest and must not wait: a quarter of its send buffer, which
 * has 208 KiB by default. Where it has more than four times this, connecting waits.
 */
#define LIMIT_PORTS_STOPPER (1u << 20)

/* Programs that connect to one guest at the same moment: more than a listener's queue usually has room for. */
#define LIMIT_VMCID_CONNECTS 256u

/* broker */

/*
 * Quotas of the broker. What is one VM's, or one software context's, counts in its context; in the host's context each user
 * has the same for himself. They bound the broker's memory and descriptors, not what a program needs: a program that needs
 * thousands of handles has them.
 */

/* Connections of one user, each a descriptor of ours: a program has one. */
#define LIMIT_BRK_CLIENTS_USER 1024u

/* Software contexts of one user: each has at least one connection. */
#define LIMIT_BRK_CONTEXTS_USER LIMIT_BRK_CLIENTS_USER

/* Everything with a handle of one user, whatever it is: about 20 MiB of ours, and as many descriptors. */
#define LIMIT_BRK_RESOURCES_USER 65536u

/* Datagram endpoints of a context: as many as doorbells. Queue pairs and doorbells have the limits of guests, above. */
#define LIMIT_BRK_ENDPOINTS 4096u

/* Regions of a context; bytes of one, which programs may want to map as a whole; bytes of one user's, all of them memory. */
#define LIMIT_BRK_REGIONS 1024u
#define LIMIT_BRK_REGION (UINT64_C(1) << 30)
#define LIMIT_BRK_REGION_BYTES_USER (UINT64_C(4) << 30)

/* Regions that one client is attached to: several contexts' worth. */
#define LIMIT_BRK_ATTACHMENTS 4096u

/* Names that a context registers (SDK reference, 10.2). */
#define LIMIT_BRK_NAMES 64u

/* Groups of a context, and members of one. */
#define LIMIT_BRK_GROUPS 64u
#define LIMIT_BRK_MEMBERS 1024u

/* Grants of one resource, all of which a check may have to look at; grants that one context has made. */
#define LIMIT_BRK_GRANTS_RESOURCE 64u
#define LIMIT_BRK_GRANTS 4096u

/* Contexts that one client watches: the length of such lists in VMCI (VMCI reference, 9.2). */
#define LIMIT_BRK_WATCHES 2000u

/* Rules of one VM's firewall, all of which may be looked at for each datagram. */
#define LIMIT_BRK_FILTER_RULES 256u

/* Lines that one client can put into the log, until vmcid renews the allowance. */
#define LIMIT_BRK_NOTES 16u

/* A line of log or list: names and labels at their longest fit (255 bytes). */
#define LIMIT_BRK_LINE 512u

/* Objects looked at for one request to list them, whether they are shown or not. */
#define LIMIT_BRK_LIST 8192u

/* --- Direct queue pairs ----------------------------------------------------------------------------------------- */

/*
 * Pieces that the pages of a direct queue pair may lie in. Each is a mapping, two where its ring is mapped twice: so a pair
 * has an eighth of what the kernel gives a process (vm.max_map_count, 65530), and all pairs of a process have a quarter.
 */
#define LIMIT_DIRECT_RUNS 4096u
#define LIMIT_DIRECT_MAPPINGS 16384u

#endif /* PROTO_LIMITS_H */
