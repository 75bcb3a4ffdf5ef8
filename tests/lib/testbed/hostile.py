# SPDX-License-Identifier: BSD-2-Clause
"""A VMCI device that lies: a vfio-user server for a real QEMU, and what it does to the drivers of its guest.

DOC: Theory of operation

`Device` is an honest VMCI device, as small as drivers allow, written from the references (vfio-user, VMCI, vsock over
VMCI): it answers hypercalls, is an echo for datagrams, and a host with a service behind every port, which connects to
the guest as well. Every value that it says passes through `Liar.twist(kind, value)`, which mostly returns it, and at the
rate of its mood something else. What an honest device never does of itself (packets in the wrong state, storms of
interrupts, positions of rings that jump) is `mischief()`, which runs between messages.

It does not write where it has no business: pages that the guest has taken back, because it was told of a failure or has
reset the device, are left alone. Against that no driver could do anything (an IOMMU could).

A mood is chosen by a seed, and so is everything that is done; arm(seed) begins it, between two bindings of the driver.
The order of events in the guest is not ours, so a seed repeats the kind of lies, not each of them.
"""

import array
import collections
import os
import random
import select
import socket
import struct
import threading

HEADER = struct.Struct("=HHIII")
VERSION, DMA_MAP, DMA_UNMAP, GET_INFO, REGION_INFO, _, IRQ_INFO, SET_IRQS, READ, WRITE = range(1, 11)
RESET = 13
EINVAL = 22
CAPABILITIES = (b'{"capabilities":{"max_msg_fds":16,"max_data_xfer_size":1048576,"max_dma_maps":65535,'
                b'"pgsizes":4096}}\0')

CID, HOST = 42, 2
ANY = 0xffffffff
PAGE = 4096
DG_MAX = 69632
REGS = 0x20000
CONTROL, ICR, IMR, DATA_OUT, DATA_IN, CAPS, RESULT, RESULT_HIGH, OUT, OUT_HIGH, IN, IN_HIGH = (
    0x04, 0x08, 0x0c, 0x10, 0x14, 0x18, 0x1c, 0x20, 0x24, 0x28, 0x2c, 0x30)
QUERY, GET_CID, SET_BITMAP, BELL_LINK, BELL_UNLINK, BELL_NOTIFY = range(6)
QP_ALLOC, QP_DETACH = 10, 11
INVALID, REQUEST, NEGOTIATE, OFFER, ATTACH, WROTE, TOOK, RST, SHUTDOWN, WAIT_W, WAIT_R, REQUEST2, NEGOTIATE2 = range(13)
EVENT_ATTACH, EVENT_DETACH = 3, 4

# What a liar says instead: lengths, positions and codes at the edges of everything.
EDGES = [0, 1, 7, 8, 23, 24, 25, 31, 32, 33, 56, PAGE - 1, PAGE, PAGE + 1, DG_MAX - 24, DG_MAX - 23, DG_MAX, DG_MAX + 1,
         262143, 262144, 262145, 0x7fffffff, 0x80000000, 0xffffffe7, 0xffffffff, 1 << 32, (1 << 32) + 24, (1 << 63) - 1,
         1 << 63, (1 << 64) - 24, (1 << 64) - 8, (1 << 64) - 1]

# Name of a mood: kinds of lies and how often each is told. "lie" is for all kinds that are not named.
MOODS = {
    "honest": {},
    "registers": {"register": 0.3},
    "all-ones": {"vanish": 0.02},
    "all-ones at once": {"vanish": 1},
    "results": {"result": 0.3},
    "rare results": {"result": 0.03, "alloc": 0.5},
    "headers": {"receive": 0.5},
    "sizes": {"size": 0.3},
    "no marker": {"marker": 0.7},
    "never busy": {"busy": 0.05},
    "rings": {"ring": 0.3, "init": 0.2},
    "packets": {"packet": 0.3, "stray": 0.6},
    "bursts": {"burst": 0.1, "stray": 0.2},
    "datagrams": {"datagram": 0.5},
    "events": {"event": 0.6},
    "bells": {"bell": 0.6},
    "storm": {"storm": 0.3},
    "deaf": {"interrupt": 0.7},
    "everything": {"lie": 0.05, "vanish": 0.002, "busy": 0.005},
    "everything often": {"lie": 0.3, "vanish": 0.01, "busy": 0.01},
}


class Liar:
    """Lies of a mood, by a seed."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        names = list(MOODS)
        self.name = names[seed % len(names)]
        self.rates = MOODS[self.name]
        self.told = collections.Counter()

    def tells(self, kind):
        """Whether this one is a lie."""
        default = 0 if kind in ("vanish", "busy") else self.rates.get("lie", 0)
        if self.random.random() >= self.rates.get(kind, default):
            return False
        self.told[kind] += 1
        return True

    def number(self, bits=64):
        """Any number; most are of those that hurt."""
        value = self.random.choice([self.random.choice(EDGES), self.random.choice(EDGES), self.random.getrandbits(bits),
                                    self.random.randrange(64)])
        return value & ((1 << bits) - 1)

    def twist(self, kind, value, bits=32):
        return self.number(bits) if self.tells(kind) else value

    def scribble(self, data, most=8):
        """Data with some bytes, words or its end changed."""
        data = bytearray(data)
        for _ in range(self.random.randrange(1, most)):
            width = self.random.choice([1, 4, 8])
            if len(data) >= width:
                at = self.random.randrange(0, len(data) - width + 1)
                data[at:at + width] = self.number().to_bytes(8, "little")[:width]
        return bytes(data)

    def bytes(self, count):
        return self.random.randbytes(count)


class Memory:
    """The guest's RAM, by the descriptors that QEMU hands over."""

    def __init__(self):
        self.maps = {}

    def add(self, address, size, fd, offset):
        self.maps[address, size] = fd, offset

    def drop(self, address, size):
        fd, _ = self.maps.pop((address, size), (-1, 0))
        if fd >= 0:
            os.close(fd)

    def close(self):
        for key in list(self.maps):
            self.drop(*key)

    def _spans(self, address, size):
        while size:
            for (start, length), (fd, offset) in self.maps.items():
                if start <= address < start + length:
                    break
            else:
                raise KeyError(f"guest address {address:#x}")
            part = min(size, start + length - address)
            yield fd, offset + address - start, part
            address += part
            size -= part

    def read(self, address, size):
        return b"".join(os.pread(fd, part, offset) for fd, offset, part in self._spans(address, size))

    def write(self, address, data):
        for fd, offset, part in self._spans(address, len(data)):
            os.pwrite(fd, data[:part], offset)
            data = data[part:]


class Pair:
    """A queue pair of the guest: its pages, in the guest's order."""

    def __init__(self, handle, produce, consume, pages):
        self.handle, self.produce, self.consume = handle, produce, consume
        count = (produce + PAGE - 1) // PAGE
        self.produce_header, self.produce_pages = pages[0], pages[1:count + 1]
        self.consume_header, self.consume_pages = pages[count + 1], pages[count + 2:]


class Device(threading.Thread):
    """Listens at a socket for one QEMU; ends when that does."""

    def __init__(self, path, ports=False):
        super().__init__(daemon=True)
        self.ports = ports
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(path))
        self.listener.listen(1)
        self.memory = Memory()
        self.config = self._config()
        self.vectors = {}
        self.lock = threading.Lock()        # between us and arm()
        self.failure = None                 # of our own: a bug of this file
        self.liar = Liar(0)
        self.reset()
        self.start()

    # --- For tests

    def arm(self, seed):
        """Begins a new mood; the driver must not be bound."""
        with self.lock:
            self.liar = Liar(seed)
            self.reset()
            return self.liar

    def datagram(self, source, port, payload):
        """One to the guest, whoever it is from."""
        with self.lock:
            self._queue(struct.pack("<IIIIQ", CID, port, *source, len(payload)) + payload)

    # --- vfio-user

    def _config(self):
        config = bytearray(256)
        struct.pack_into("<HHHHBBBBBBBB", config, 0, 0x15ad, 0x0740, 0, 0x10, 0x10, 0, 0x80, 0x08, 0, 64, 0, 0)
        struct.pack_into("<I", config, 0x10, 1)                     # BAR0: ports
        struct.pack_into("<I", config, 0x14, 4)                     # BAR1: 64 bits of memory
        struct.pack_into("<HH", config, 0x2c, 0x15ad, 0x0740)
        config[0x34] = 0x40
        pba = 0x1000 if self.ports else 0x10000
        struct.pack_into("<BBHII", config, 0x40, 0x11, 0, 1 if self.ports else 2, 1, pba | 1)
        return config

    def run(self):
        try:
            self.socket, _ = self.listener.accept()
            with self.socket:
                while self._serve_one():
                    pass
        except (ConnectionError, BrokenPipeError):
            pass
        except BaseException as error:      # pragma: no cover
            self.failure = error
            raise
        finally:
            self.listener.close()
            self.memory.close()

    def _receive(self, count, fds):
        data = b""
        while len(data) < count:
            part, control, _, _ = self.socket.recvmsg(count - len(data), socket.CMSG_SPACE(64))
            if not part:
                return None
            for _, _, value in control:
                got = array.array("i")
                got.frombytes(value[:len(value) // 4 * 4])
                fds += got
            data += part
        return data

    def _serve_one(self):
        while not select.select([self.socket], [], [], 0.003)[0]:
            with self.lock:
                self._mischief()
        fds = []
        head = self._receive(16, fds)
        if head is None:
            return False
        ident, command, size, flags, _ = HEADER.unpack(head)
        body = self._receive(size - 16, fds) if size > 16 else b""
        if body is None:
            return False
        with self.lock:
            try:
                reply = self._handle(command, body, fds)
            except KeyError:                # memory that is not there: a confused guest gets no more
                reply = b"" if command == WRITE else None
                if command == WRITE:
                    reply = body[:16]
        for fd in fds:
            os.close(fd)
        if not flags & 0x10:
            if reply is None:
                self.socket.sendall(HEADER.pack(ident, command, 16, 0x21, EINVAL))
            else:
                self.socket.sendall(HEADER.pack(ident, command, 16 + len(reply), 1, 0) + reply)
        return True

    def _handle(self, command, body, fds):
        if command == VERSION:
            return body[:2] + b"\0\0" + CAPABILITIES
        if command == DMA_MAP:
            _, _, offset, address, size = struct.unpack_from("=IIQQQ", body)
            if fds:
                self.memory.add(address, size, fds.pop(0), offset)
            return b""
        if command == DMA_UNMAP:
            self.memory.drop(*struct.unpack_from("=QQ", body, 8))
            return body
        if command == GET_INFO:
            return struct.pack("=IIII", 16, 3, 9, 5)
        if command == REGION_INFO:
            index = struct.unpack_from("=I", body, 8)[0]
            size = {0: 64, 1: 0x2000 if self.ports else 0x40000, 7: 256}.get(index, 0)
            return struct.pack("=IIIIQQ", 32, 3 if size else 0, index, 0, size, 0)
        if command == IRQ_INFO:
            index = struct.unpack_from("=I", body, 8)[0]
            return struct.pack("=IIII", 16, 1, index, {2: 2 if self.ports else 3}.get(index, 0))
        if command == SET_IRQS:
            self._set_irqs(body, fds)
            return b""
        if command == RESET:
            self.reset()
            return b""
        if command not in (READ, WRITE):
            return None
        offset, region, count = struct.unpack_from("=QII", body)
        if command == READ:
            data = self._read(region, offset, count)
            return None if data is None else body[:16] + data
        self._write(region, offset, body[16:16 + count])
        return body[:16]

    def _set_irqs(self, body, fds):
        _, flags, index, start, count = struct.unpack_from("=IIIII", body)
        if index != 2:
            return
        for vector in range(start, start + count) if flags & 4 else list(self.vectors):
            old = self.vectors.pop(vector, None)
            if old is not None:
                os.close(old)
            if flags & 4 and fds:
                self.vectors[vector] = fds.pop(0)

    def _read(self, region, offset, count):
        if region == 7:
            return bytes(self.config[offset:offset + count])
        if region == 1 and offset >= REGS:
            offset -= REGS
        elif region == 1:
            return bytes(count)
        if self.vanished or self.liar.tells("vanish"):
            self.vanished = True
            return None if self.liar.random.random() < 0.5 else b"\xff" * count     # None: all ones, by QEMU
        if offset == DATA_IN:
            return bytes([self._read_byte()])
        if offset == RESULT and self.ports and self.liar.tells("register"):
            self.result = self.liar.number(32)
            self._failed(self.last[1], self.last[0], self.result)
        value = {CAPS: 0x0c if self.ports else 0x2c, ICR: self.causes, RESULT: self.result & ANY,
                 RESULT_HIGH: self.result >> 32 & ANY}.get(offset, 0)
        if offset == ICR:
            self.causes = 0
        if offset != RESULT or not self.ports:
            value = self.liar.twist("register", value)
        return (value & ((1 << 8 * count) - 1)).to_bytes(count, "little")

    def _write(self, region, offset, data):
        if region == 7:
            if offset in (0x04, 0x3c):
                self.config[offset:offset + len(data)] = data
            return
        if region == 1 and offset >= REGS:
            offset -= REGS
        elif region == 1:
            return
        value = int.from_bytes(data, "little")
        if offset == DATA_OUT:
            self._write_byte(value & 0xff)
        elif offset == CONTROL and value & 1:
            vanished = self.vanished
            self.reset()
            self.vanished = vanished
        elif offset == OUT_HIGH:
            self.out_high = value
        elif offset == IN_HIGH:
            self.in_high = value
        elif self.vanished or self.liar.tells("vanish"):
            self.vanished = True
        elif offset == OUT:
            self._send(self.out_high << 32 | value)
        elif offset == IN:
            self._fetch(self.in_high << 32 | value)

    def raise_vector(self, vector):
        self.causes |= 1 << vector
        fd = self.vectors.get(vector)
        if fd is not None and not self.vanished and not self.liar.tells("interrupt"):
            os.eventfd_write(fd, 1)

    # --- The device

    def reset(self):
        self.vanished = False
        self.result = self.causes = self.out_high = self.in_high = 0
        self.inbox, self.out, self.drain = collections.deque(), bytearray(), bytearray()
        self.bitmap, self.bells, self.last = None, {}, (b"", ANY)
        self.pairs, self.streams = {}, {}
        self.serial, self.next_port = 2000, 3000

    def _send(self, address):
        """A datagram by DMA."""
        busy, opcode, size = struct.unpack("<III", self.memory.read(address, 12))
        dg = self.memory.read(address + 24, min(size, DG_MAX))
        self.result = self._datagram(dg)
        self.memory.write(address + 16, struct.pack("<Q", self.result & (1 << 64) - 1))
        if not self.liar.tells("busy"):
            self.memory.write(address, bytes(4))

    def _write_byte(self, value):
        self.out.append(value)
        if len(self.out) >= 24:
            size = 24 + struct.unpack_from("<Q", self.out, 16)[0]
            if len(self.out) >= min(size, 1 << 20):
                dg, self.out = bytes(self.out), bytearray()
                self.result = self._datagram(dg)

    def _queue(self, dg):
        if sum(map(len, self.inbox)) < 2 * DG_MAX:
            self.inbox.append(dg)
        self.raise_vector(0)

    def _filled(self, room):
        """What a receive of that room yields."""
        liar, data = self.liar, b""
        while self.inbox and len(data) + len(self.inbox[0]) + 8 <= room:
            dg = self.inbox.popleft()
            if liar.tells("size"):
                dg = dg[:16] + struct.pack("<Q", liar.number()) + dg[24:]
            data += dg + bytes(-len(dg) % 8)
        if room - len(data) >= 24 and not liar.tells("marker"):
            data += b"\xff" * 24
        if liar.tells("receive"):
            data = liar.scribble(data or bytes(24)) if liar.random.random() < 0.7 else liar.bytes(min(room, 4000))
        return data

    def _fetch(self, address):
        """A receive by DMA."""
        where, length = struct.unpack("<QQ", self.memory.read(address + 24, 16))
        self.memory.write(where, self._filled(min(length, DG_MAX)))
        if self.liar.tells("receive"):      # the header is the guest's again; it should not care for what stands there
            self.memory.write(address + 4, self.liar.bytes(36))
        if not self.liar.tells("busy"):
            self.memory.write(address, struct.pack("<I", self.liar.random.choice([1, 1, 1, 0xffffffff])
                                                   if self.liar.rates else 1))
        self.raise_vector(2)

    def _read_byte(self):
        if not self.drain:
            data = self._filled(PAGE)
            self.drain += data + b"\xff" * (PAGE - len(data))
        return self.drain.pop(0)

    def _datagram(self, dg):
        """What the guest sends; the result."""
        if len(dg) < 24:
            return -2
        dst_cid, dst_rid, src_cid, src_rid, _ = struct.unpack_from("<IIIIQ", dg)
        if dst_cid == 0:
            result = self.liar.twist("alloc" if dst_rid == QP_ALLOC and "alloc" in self.liar.rates else "result",
                                     self._hypercall(dst_rid, dg))
            self._failed(dst_rid, dg, result & ANY)
            self.last = dg, dst_rid
            return result
        if dst_cid == HOST and dst_rid == 1 and len(dg) >= 56:
            self._packet(dg)
        else:
            self._queue(struct.pack("<IIIIQ", src_cid, src_rid, dst_cid, dst_rid, len(dg) - 24) + dg[24:])
        return self.liar.twist("result", len(dg))

    def _failed(self, rid, dg, result):
        """What the guest takes for failed has its pages back."""
        if rid == QP_ALLOC and result >> 31 and len(dg) >= 32:
            self.pairs.pop(struct.unpack_from("<Q", dg, 24)[0], None)
        if rid == SET_BITMAP and result:
            self.bitmap = None

    def _hypercall(self, rid, dg):
        if rid == QUERY:
            return 1
        if rid == GET_CID:
            return CID
        if rid == SET_BITMAP:
            self.bitmap = struct.unpack_from("<I", dg, 24)[0] * PAGE
            return 0
        if rid == BELL_LINK:
            handle, index = struct.unpack_from("<QQ", dg, 24)
            self.bells[handle] = index
            return 0
        if rid == BELL_UNLINK:
            self.bells.pop(struct.unpack_from("<Q", dg, 24)[0], None)
            return 0
        if rid == BELL_NOTIFY:
            index = self.bells.get(struct.unpack_from("<Q", dg, 24)[0])
            if index is None:
                return -21
            self._ring(index)
            return 0
        if rid == QP_ALLOC:
            return self._alloc(dg)
        if rid == QP_DETACH:
            return 0 if self.pairs.pop(struct.unpack_from("<Q", dg, 24)[0], None) else -21
        return -1

    def _ring(self, index):
        if self.bitmap and index < PAGE:
            self.memory.write(self.bitmap + index, b"\1")
        self.raise_vector(1)

    def _alloc(self, dg):
        handle, _, flags, produce, consume, count = struct.unpack_from("<QIIQQQ", dg, 24)
        if len(dg) < 64 + 4 * count or produce > 1 << 27 or consume > 1 << 27:
            return -2
        pages = [number * PAGE for number in struct.unpack_from(f"<{count}I", dg, 64)]
        pair = self.pairs[handle] = Pair(handle, produce, consume, pages)
        if not self.liar.tells("init"):
            for page in pair.produce_header, pair.consume_header:
                self.memory.write(page, struct.pack("<QQQ", handle, 0, 0))
        return 5 if flags & 1 else 4

    def event(self, number, body):
        self._queue(struct.pack("<IIIIQII", CID, 0, 0, 0, 8 + len(body), number, 0) + body)

    # --- The host's streams. A stream is (our port, the guest's): its queue pair's handle, or None

    def packet(self, kind, ours, theirs, argument=b"", proto=0):
        """A control packet to the guest."""
        dg = (struct.pack("<IIIIQBBHIII", CID, 1, HOST, 1, 32, 1, kind, proto, ours, theirs, 0)
              + argument.ljust(16, b"\0")[:16])
        if self.liar.tells("packet"):
            dg = dg[:24] + self.liar.scribble(dg[24:], 3)
        self._queue(dg)

    def _packet(self, dg):
        """A control packet of the guest."""
        _, kind, _, theirs, ours = struct.unpack_from("<BBHII", dg, 24)
        argument = dg[40:56]
        size, stream = struct.unpack_from("<Q", argument)[0], (ours, theirs)
        if kind in (REQUEST, REQUEST2):
            self.streams[stream] = None
            self.packet(NEGOTIATE2 if kind == REQUEST2 else NEGOTIATE, ours, theirs,
                        struct.pack("<Q", self.liar.twist("packet", size, 64)), 1 if kind == REQUEST2 else 0)
        elif kind == OFFER:
            self.streams[stream] = size
            self.event(EVENT_ATTACH, argument[:8] + struct.pack("<II", HOST, 0))
            self.packet(ATTACH, ours, theirs, argument[:8])
        elif kind in (NEGOTIATE, NEGOTIATE2):           # we connect: the guest's side attaches to our pair
            self.serial += 1
            handle = struct.pack("<II", HOST, self.serial)
            self.streams[stream] = struct.unpack("<Q", handle)[0]
            self.packet(OFFER, ours, theirs, handle)
        elif kind == ATTACH:
            self.streams[stream] = size
        elif kind == WROTE:
            self._echo(*stream)
        elif kind in (RST, SHUTDOWN):
            handle = self.streams.pop(stream, None)
            if kind == SHUTDOWN and handle is not None:
                self.event(EVENT_DETACH, struct.pack("<QII", handle, HOST, 0))
            elif kind == SHUTDOWN:
                self.packet(RST, ours, theirs)

    def _echo(self, ours, theirs):
        """Takes what the guest wrote, and gives back as much: nobody looks at the bytes."""
        pair = self.pairs.get(self.streams.get((ours, theirs)))
        if not pair or not pair.produce or not pair.consume:
            return
        tail, = struct.unpack("<Q", self.memory.read(pair.produce_header + 8, 8))
        head, = struct.unpack("<Q", self.memory.read(pair.consume_header + 16, 8))
        count = (tail - head) % pair.produce if tail < pair.produce else 0
        mine, = struct.unpack("<Q", self.memory.read(pair.consume_header + 8, 8))
        self._position(pair.consume_header + 16, tail, pair.produce)
        self._position(pair.consume_header + 8, (mine + count) % pair.consume, pair.consume)
        self.packet(TOOK, ours, theirs)
        self.packet(WROTE, ours, theirs)

    def _position(self, address, value, size):
        if self.liar.tells("ring"):
            value = self.liar.random.choice([size, size - 1, size + 1, self.liar.number()]) & (1 << 64) - 1
        self.memory.write(address, struct.pack("<Q", value))

    def connect(self, port):
        """Begins a stream to the guest."""
        self.next_port += 1
        self.streams[self.next_port, port] = None
        self.packet(REQUEST2, self.next_port, port, struct.pack("<Q", 65536), 1)

    # --- What no honest device does; and connecting, which it does

    def _mischief(self):
        if self.vanished or not self.vectors or self.bitmap is None:
            return
        liar = self.liar
        if liar.random.random() < (0.003 if self.ports else 0.05):
            self.connect(701)
        try:
            for kind, act in (("stray", self._stray), ("burst", self._burst), ("datagram", self._stray_datagram),
                              ("event", self._stray_event), ("bell", self._stray_bell), ("ring", self._jump),
                              ("storm", self._storm)):
                if liar.tells(kind):
                    act()
        except KeyError:
            pass        # pages of a guest that is confused by now

    def _some_stream(self):
        return self.liar.random.choice(list(self.streams) or [(700, 1024)])

    def _stray(self):
        """A packet of any type, mostly to a stream that there is."""
        liar = self.liar
        ours, theirs = self._some_stream()
        if liar.random.random() < 0.2:
            theirs = liar.random.choice([701, 0, ANY, liar.number(32)])
        handle = self.streams.get((ours, theirs)) or liar.number()
        argument = struct.pack("<QQ", liar.random.choice([handle, liar.number(), 65536, 3]), liar.number())
        self.packet(liar.random.choice([*range(14), 255, RST, SHUTDOWN, ATTACH, OFFER]), ours, theirs, argument,
                    liar.random.choice([0, 1, 1, 0xffff]))

    def _burst(self):
        for _ in range(200):
            self._stray()

    def _stray_datagram(self):
        """A long one takes seconds over ports: each byte is a message."""
        liar = self.liar
        words = [liar.random.choice([CID, 0, 1, HOST, ANY, liar.number(32)]),
                 liar.random.choice([0, 1, 1024, 1025, 5000, ANY - 1, liar.number(32)]),
                 liar.random.choice([CID, 0, 1, HOST, ANY, liar.number(32)]),
                 liar.random.choice([0, 1, 15, 1024, liar.number(32)])]
        sizes = [0, 1, 7, 8, 31, 32, 33, 1000] + ([] if self.ports else [5000, DG_MAX - 24])
        payload = liar.bytes(liar.random.choice(sizes))
        self._queue(struct.pack("<IIIIQ", *words, len(payload)) + payload)

    def _stray_event(self):
        liar = self.liar
        handle = self.streams.get(self._some_stream()) or liar.number()
        body = liar.random.choice([b"", liar.bytes(4), liar.bytes(16), struct.pack("<II", liar.random.choice(
            [CID, 43, ANY, 0, HOST]), 0), struct.pack("<QII", handle, HOST, 0), liar.bytes(64)])
        self.event(liar.random.choice([0, 1, 2, 3, 4, 4, 5, ANY]), body)

    def _stray_bell(self):
        for _ in range(self.liar.random.choice([1, 10, 1000])):
            self.memory.write(self.bitmap + self.liar.random.randrange(PAGE),
                              bytes([self.liar.random.choice([1, 0xff, 0xfe])]))
        self.raise_vector(1)

    def _jump(self):
        for pair in list(self.pairs.values())[:8]:
            page = self.liar.random.choice([pair.produce_header, pair.consume_header])
            at = self.liar.random.choice([0, 8, 16])
            size = max(pair.produce, pair.consume)
            value = self.liar.random.choice([size, size - 1, size + 1, self.liar.number(), 0])
            self.memory.write(page + at, struct.pack("<Q", value & (1 << 64) - 1))
        ours, theirs = self._some_stream()
        self.packet(self.liar.random.choice([WROTE, TOOK]), ours, theirs)

    def _storm(self):
        for _ in range(100):
            self.raise_vector(self.liar.random.randrange(3))
