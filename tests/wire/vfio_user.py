# SPDX-License-Identifier: BSD-2-Clause
"""A vfio-user client, written from the reference and from nothing of src/: bytes on the wire."""

import array
import errno
import json
import mmap
import os
import select
import socket
import struct
import time

VERSION, DMA_MAP, DMA_UNMAP, GET_INFO, GET_REGION_INFO, GET_REGION_IO_FDS = range(1, 7)
GET_IRQ_INFO, SET_IRQS, REGION_READ, REGION_WRITE, DMA_READ, DMA_WRITE = range(7, 13)
RESET, DIRTY_PAGES, REGION_WRITE_MULTI, FEATURE, MIG_DATA_READ, MIG_DATA_WRITE = range(13, 19)

REPLY, NO_REPLY, ERROR = 0x01, 0x10, 0x20
BAR0, BAR1, BAR2, ROM, CONFIG, VGA = 0, 1, 2, 6, 7, 8
INTX, MSI, MSIX, ERR, REQ = range(5)
PAGE = 4096
MAX_XFER = 65536

LIMIT = 20          # seconds that an answer may take; only failures wait so long
SILENCE = 0.1       # seconds after which nothing is believed to come

QEMU_CAPABILITIES = (
    b'{"capabilities": {"pgsizes": 4096, "max_msg_fds": 16, "max_dma_maps": 65535, '
    b'"max_data_xfer_size": 1048576, "migration": {"max_bitmap_size": 268435456, '
    b'"pgsize": 4096}, "write_multiple": true}}\0')
CLOUD_HYPERVISOR_CAPABILITIES = (
    b'{"capabilities":{"max_msg_fds":1,"max_data_xfer_size":1048576,'
    b'"migration":{"pgsize":4096}}}\0')


class Closed(Exception):
    """The server closed the connection."""


class Refused(Exception):
    """An error reply."""

    def __init__(self, number):
        super().__init__(errno.errorcode.get(number, number))
        self.errno = number


class Reply:
    def __init__(self, header, body, fds):
        self.id, self.command, self.size, self.flags, self.error = struct.unpack("=HHIII", header)
        self.body = body
        self.fds = fds


def header(ident, command, body_len, flags=0, error=0, size=None):
    return struct.pack("=HHIII", ident, command, 16 + body_len if size is None else size,
                       flags, error)


def version_body(major=0, minor=0, text=QEMU_CAPABILITIES):
    return struct.pack("=HH", major, minor) + text


def map_body(address, size, offset=0, flags=3, argsz=32):
    return struct.pack("=IIQQQ", argsz, flags, offset, address, size)


def unmap_body(address, size, flags=0, argsz=24):
    return struct.pack("=IIQQ", argsz, flags, address, size)


def info_body(argsz=16):
    return struct.pack("=IIII", argsz, 0, 0, 0)


def region_info_body(index, argsz=32):
    return struct.pack("=IIIIQQ", argsz, 0, index, 0, 0, 0)


def irq_info_body(index, argsz=16):
    return struct.pack("=IIII", argsz, 0, index, 0)


def irqs_body(flags, index, start, count, data=b"", argsz=None):
    return struct.pack("=IIIII", 20 + len(data) if argsz is None else argsz,
                       flags, index, start, count) + data


def access_body(region, offset, count, data=b""):
    return struct.pack("=QII", offset, region, count) + data


class Client:
    """One connection. Replies are checked for what holds for all of them."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.connect(str(path))      # waits for room in the backlog
        self.socket.settimeout(LIMIT)
        self.next = 0

    def close(self):
        self.socket.close()

    def send_raw(self, data, fds=()):
        """One sendmsg()."""
        control = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        try:
            assert self.socket.sendmsg([data], control) == len(data)
        except (BrokenPipeError, ConnectionResetError):
            raise Closed from None

    def send(self, command, body=b"", fds=(), flags=0):
        """One command; returns its id."""
        ident = self.next
        self.next = (self.next + 1) & 0xffff
        self.send_raw(header(ident, command, len(body), flags) + body, fds)
        return ident

    def recv_bytes(self, count):
        data, fds = b"", []
        while len(data) < count:
            try:
                part, control, flags, _ = self.socket.recvmsg(count - len(data),
                                                              socket.CMSG_SPACE(64))
            except ConnectionResetError:
                raise Closed from None
            if not part:
                raise Closed
            assert not flags & socket.MSG_CTRUNC
            for level, kind, value in control:
                assert (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS)
                got = array.array("i")
                got.frombytes(value)
                fds += list(got)
            data += part
        return data, fds

    def recv(self):
        """One reply; the header must come in one piece (reference, 0.3)."""
        assert select.select([self.socket], [], [], LIMIT)[0], "no reply"
        head = self.socket.recv(16, socket.MSG_PEEK)
        assert len(head) in (0, 16)
        head, fds = self.recv_bytes(16)
        body, more = self.recv_bytes(struct.unpack_from("=I", head, 4)[0] - 16)
        assert not more
        return Reply(head, body, fds)

    def answer(self, ident, command):
        """The reply to this command; raises Refused when it is an error."""
        reply = self.recv()
        assert (reply.id, reply.command) == (ident, command)
        if reply.flags & ERROR:
            assert reply.flags == REPLY | ERROR and reply.body == b"" and reply.error > 0
            assert not reply.fds
            raise Refused(reply.error)
        assert reply.flags == REPLY and reply.error == 0
        return reply

    def call(self, command, body=b"", fds=()):
        return self.answer(self.send(command, body, fds), command)

    def is_silent(self):
        return not select.select([self.socket], [], [], SILENCE)[0]

    def is_closed(self):
        """Whether the server closes the connection; nothing else may come before."""
        try:
            self.recv_bytes(1)
        except Closed:
            return True
        return False

    # What a VMM does.

    def negotiate(self, major=0, minor=0, text=QEMU_CAPABILITIES):
        reply = self.call(VERSION, version_body(major, minor, text))
        assert reply.body[-1:] == b"\0"
        return struct.unpack_from("=HH", reply.body) + (json.loads(reply.body[4:-1]),)

    def read(self, region, offset, count):
        reply = self.call(REGION_READ, access_body(region, offset, count))
        assert reply.body[:16] == access_body(region, offset, count)
        assert len(reply.body) == 16 + count
        return reply.body[16:]

    def write(self, region, offset, data):
        reply = self.call(REGION_WRITE, access_body(region, offset, len(data), data))
        assert reply.body == access_body(region, offset, len(data))

    def post(self, region, offset, data):
        """A posted write."""
        self.send(REGION_WRITE, access_body(region, offset, len(data), data), flags=NO_REPLY)

    def read32(self, region, offset):
        return struct.unpack("=I", self.read(region, offset, 4))[0]

    def write32(self, region, offset, value):
        self.write(region, offset, struct.pack("=I", value & 0xffffffff))

    def map(self, address, size, fd=None, offset=0, flags=3):
        reply = self.call(DMA_MAP, map_body(address, size, offset, flags),
                          [] if fd is None else [fd])
        assert reply.body == b""

    def unmap(self, address, size, flags=0):
        body = unmap_body(address, size, flags)
        assert self.call(DMA_UNMAP, body).body == body

    def set_irqs(self, flags, index, start, count, fds=(), data=b""):
        assert self.call(SET_IRQS, irqs_body(flags, index, start, count, data), fds).body == b""

    def reset(self):
        assert self.call(RESET).body == b""


class Ram:
    """Guest memory as QEMU makes it: a sealed memfd."""

    def __init__(self, pages, is_sealed=True, is_shared=True):
        self.fd = os.memfd_create("guest-ram", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(self.fd, pages * PAGE)
        if is_sealed:
            import fcntl
            fcntl.fcntl(self.fd, 1033, 7)       # F_ADD_SEALS, SEAL|SHRINK|GROW
        self.map = mmap.mmap(self.fd, pages * PAGE,
                             flags=mmap.MAP_SHARED if is_shared else mmap.MAP_PRIVATE)

    def fill(self, page, value):
        self.map[page * PAGE:(page + 1) * PAGE] = bytes([value]) * PAGE

    def close(self):
        self.map.close()
        os.close(self.fd)


class Event:
    """An eventfd of the VMM."""

    def __init__(self):
        self.fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def count(self):
        """How often it was signalled since the last call."""
        try:
            return os.eventfd_read(self.fd)
        except BlockingIOError:
            return 0

    def is_pending(self):
        """Signalled, and not read yet; count() would read it, in the place of the server."""
        return bool(select.select([self.fd], [], [], 0)[0])

    def signal(self):
        os.eventfd_write(self.fd, 1)

    def close(self):
        os.close(self.fd)


def until(predicate, limit=LIMIT):
    end = time.monotonic() + limit
    while not predicate():
        assert time.monotonic() < end, "did not happen in time"
        time.sleep(0.005)
