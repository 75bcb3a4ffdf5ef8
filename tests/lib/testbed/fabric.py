# SPDX-License-Identifier: BSD-2-Clause
"""The fabric's protocol in a second implementation, for tests: src/fabric/msg.h, doc/protocol-fabric.md.

Message is what travels; nothing in it is checked, so wrong ones can be sent. Client is a connection, and remembers
what it has, so that it can tell it to a restarted vmcid.
"""

import contextlib
import dataclasses
import fcntl
import mmap
import os
import re
import select
import socket
import struct

from .process import LIMIT, BUILD, Process, TestbedError, until

VERSION = 1
HEADER_SIZE, DATA_MAX, PIPELINE = 64, 69632, 64
INVALID = 0xffffffff
HOST = 2
NO_TOKEN = bytes(16)

(HELLO, DG_CREATE, DG_DESTROY, DG_SEND, EVENTS, WATCH, BELL_CREATE, BELL_DESTROY, BELL_OPEN, QP_CREATE, QP_ATTACH,
 QP_HOLD, QP_DETACH, SHM_CREATE, SHM_QUERY, SHM_ATTACH, SHM_HOLD, SHM_DETACH, NAME, PRIV, GROUP_CREATE,
 GROUP_DESTROY, GROUP_MEMBER, LIST, STREAM_BIND, STREAM_CONNECT, STREAM_OPEN, SHM_ALLOC, WINDOW,
 DG_BIND, VM_FIND) = range(1, 32)
REQUEST, REPLY, ASK, ANSWER = range(4)

RESUME, DEVICE, RESTRICTED, TRUSTED, OFF = 1, 2, 4, 8, 0x10
ADD, REMOVE, REMOVE_ALL, CHECK, ASSIGN = 0x20, 0x40, 0x80, 0x100, 0x200
DIRECT, PENDING, HAS_WINDOW, HOLD = 0x400, 0x800, 0x1000, 0x2000

# Results
ATTACHED, CREATED, LAST_DETACH, GRANTED = 5, 4, 3, 2
(INVALID_RESOURCE, INVALID_ARGS, NO_MEM, DATAGRAM_FAILED, MORE_DATA, NO_MORE_DATAGRAMS, NO_ACCESS, NO_HANDLE,
 DUPLICATE_ENTRY, DST_UNREACHABLE, PAYLOAD_TOO_LARGE, INVALID_PRIV, GENERIC) = range(-1, -14, -1)
NO_RESOURCES, UNAVAILABLE, NOT_FOUND, ALREADY_EXISTS, NOT_PAGE_ALIGNED, INVALID_SIZE = range(-19, -25, -1)
TIMEOUT = -26
QP_MISMATCH, QP_NOT_ATTACHED = -31, -34
WOULD_BLOCK = -41

# Events
CTX_REMOVED, PEER_ATTACH, PEER_DETACH = 1, 3, 4

# Discovery
LOOKUP, REGISTER, UNREGISTER = range(3)
DISCOVERY = (1, 1)

# Rights
CH_PRIV, DESTROY_RESOURCE, ASSIGN_CLIENT, DG_CREATE_PRIV, DG_SEND_PRIV, SM_CREATE, SM_ATTACH = range(7)

DG_HEADER, DG_MAX, QUEUE_MAX, EVENT_QUEUE_MAX = 24, 69632, 139264, 188416
PAGE = 4096

F_ADD_SEALS, F_SEAL_SHRINK, F_SEAL_GROW, F_SEAL_WRITE = 1033, 2, 4, 8


class Ended(Exception):
    """The connection is over."""


# --- Messages ------------------------------------------------------------------------------------------------

@dataclasses.dataclass
class Message:
    type: int
    kind: int = REQUEST
    serial: int = 0
    status: int = 0
    flags: int = 0
    handle: tuple = (0, 0)
    other: tuple = (0, 0)
    size0: int = 0
    size1: int = 0
    token: bytes = NO_TOKEN
    data: bytes = b""
    fds: list = dataclasses.field(default_factory=list)

    LAYOUT = struct.Struct("<HHIiIIIIIQQ16s")

    def pack(self):
        return self.LAYOUT.pack(self.type, self.kind, self.serial, self.status, self.flags, *self.handle,
                                *self.other, self.size0, self.size1, self.token) + self.data

    @classmethod
    def unpack(cls, packet, fds=()):
        if len(packet) < HEADER_SIZE:
            raise TestbedError(f"a packet of {len(packet)} bytes")
        (type_, kind, serial, status, flags, context, resource, other, second, size0, size1,
         token) = cls.LAYOUT.unpack(packet[:HEADER_SIZE])
        return cls(type_, kind, serial, status, flags, (context, resource), (other, second), size0, size1, token,
                   packet[HEADER_SIZE:], list(fds))

    def close(self):
        """Closes the descriptors that came with it."""
        for fd in self.fds:
            os.close(fd)
        self.fds = []


assert Message.LAYOUT.size == HEADER_SIZE


def fileno(thing):
    return thing if isinstance(thing, int) else thing.fileno()


def is_readable(thing, seconds=0):
    poll = select.poll()        # select() ends at descriptor 1023
    poll.register(fileno(thing), select.POLLIN)
    return bool(poll.poll(seconds * 1000))


def wait_readable(thing):
    if not is_readable(thing, LIMIT):
        raise TestbedError(f"nothing to read within {LIMIT:g} seconds")


class Link:
    """A SOCK_SEQPACKET socket with messages."""

    def __init__(self, sock):
        self.sock = sock
        self.sock.settimeout(LIMIT)

    def send_raw(self, packet, fds=()):
        try:
            if fds:
                socket.send_fds(self.sock, [packet], [fileno(fd) for fd in fds])
            else:
                self.sock.send(packet)
        except (BrokenPipeError, ConnectionResetError):
            raise Ended from None

    def send(self, message):
        self.send_raw(message.pack(), message.fds)

    def recv(self):
        """The next message; the descriptors in it are the caller's."""
        for _ in range(2):
            try:
                packet, fds, flags, _ = socket.recv_fds(self.sock, HEADER_SIZE + DATA_MAX + 1, 16,
                                                        socket.MSG_CMSG_CLOEXEC)
            except ConnectionResetError:
                continue        # what was said before the end is still there
            if not packet:
                break
            assert not flags & (socket.MSG_CTRUNC | socket.MSG_TRUNC)
            return Message.unpack(packet, fds)
        raise Ended

    def is_ended(self):
        """Whether the other side has ended the connection; what it said before is thrown away."""
        if not is_readable(self.sock):
            return False
        try:
            self.recv().close()
        except Ended:
            return True
        return self.is_ended()

    def fileno(self):
        return self.sock.fileno()

    def close(self):
        self.sock.close()


# --- What clients own ----------------------------------------------------------------------------------------

def datagram(dst, src, payload=b"", size=None):
    return struct.pack("<IIIIQ", *dst, *src, len(payload) if size is None else size) + payload


@dataclasses.dataclass
class Datagram:
    dst: tuple
    src: tuple
    payload: bytes


def parse_datagram(packet):
    dst, dst_rid, src, src_rid, size = struct.unpack("<IIIIQ", packet[:DG_HEADER])
    assert size == len(packet) - DG_HEADER
    return Datagram((dst, dst_rid), (src, src_rid), packet[DG_HEADER:])


class Sink:
    """A socket pair into which vmcid writes datagrams."""

    def __init__(self):
        self.theirs, self.ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.ours.settimeout(LIMIT)

    def recv(self):
        return parse_datagram(self.ours.recv(DG_MAX + 1))

    def is_empty(self):
        return not is_readable(self.ours)

    def fileno(self):
        """Of the end that vmcid gets."""
        return self.theirs.fileno()

    def close(self):
        self.theirs.close()
        self.ours.close()


@dataclasses.dataclass
class Event:
    id: int
    context: int
    handle: tuple


def parse_event(dg):
    """VMCI reference, 6."""
    assert dg.src[0] == 0 and dg.dst[1] == 0
    event, _ = struct.unpack("<II", dg.payload[:8])
    if event == CTX_REMOVED:
        return Event(event, struct.unpack("<I", dg.payload[8:12])[0], None)
    context, resource, peer = struct.unpack("<III", dg.payload[8:20])
    return Event(event, peer, (context, resource))


def eventfd(value=0):
    return os.eventfd(value, os.EFD_CLOEXEC | os.EFD_NONBLOCK)


def memfd(size, seals=F_SEAL_SHRINK | F_SEAL_GROW):
    fd = os.memfd_create("test", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, size)
    if seals:
        fcntl.fcntl(fd, F_ADD_SEALS, seals)
    return fd


def is_same_file(a, b):
    a, b = os.fstat(a), os.fstat(b)
    return (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino)


def qp_memory_size(produce, consume):
    return sum(PAGE + (size + PAGE - 1) // PAGE * PAGE for size in (produce, consume))


class Object:
    """Something that a client has at vmcid."""

    def __init__(self, client):
        self.client = client
        client.objects.append(self)

    def forget(self):
        if self in self.client.objects:
            self.client.objects.remove(self)
        self.close()

    def close(self):
        pass

    def resume(self):
        """Tells it to a restarted vmcid; returns the status."""
        raise NotImplementedError


class Endpoint(Object):
    def __init__(self, client, rid=INVALID, sink=None):
        with client.user():
            self.sink = sink or Sink()
        reply = client.ok(DG_CREATE, handle=(0, rid), fds=[self.sink])
        self.handle, self.token = reply.handle, reply.token
        super().__init__(client)

    def resume(self):
        reply = self.client.call(DG_CREATE, flags=RESUME, handle=(0, self.handle[1]), token=self.token,
                                 fds=[self.sink])
        assert reply.status < 0 or (reply.handle, reply.token) == (self.handle, self.token)
        return reply.status

    def send(self, dst, payload=b""):
        """The status: bytes sent, header included, or an error."""
        return self.client.call(DG_SEND, data=datagram(dst, self.handle, payload)).status

    def recv(self):
        return self.sink.recv()

    def destroy(self):
        status = self.client.call(DG_DESTROY, handle=self.handle).status
        self.forget()
        return status

    def close(self):
        self.sink.close()


class Events(Object):
    def __init__(self, client):
        with client.user():
            self.sink = Sink()
        self.watched = []
        client.ok(EVENTS, fds=[self.sink])
        super().__init__(client)

    def resume(self):
        status = self.client.call(EVENTS, fds=[self.sink]).status
        for context in self.watched:
            status = status or self.client.call(WATCH, flags=RESUME, handle=(context, 0)).status
        return status

    def watch(self, context):
        status = self.client.call(WATCH, handle=(context, 0)).status
        if status >= 0:
            self.watched.append(context)
        return status

    def unwatch(self, context):
        self.watched.remove(context)
        return self.client.call(WATCH, flags=OFF, handle=(context, 0)).status

    def recv(self):
        return parse_event(self.sink.recv())

    def is_empty(self):
        return self.sink.is_empty()

    def close(self):
        self.sink.close()


class Bell(Object):
    def __init__(self, client, rid=INVALID):
        self.fd = eventfd()
        reply = client.ok(BELL_CREATE, handle=(0, rid), fds=[self.fd])
        self.handle, self.token = reply.handle, reply.token
        super().__init__(client)

    def resume(self):
        reply = self.client.call(BELL_CREATE, flags=RESUME, handle=(0, self.handle[1]), token=self.token,
                                 fds=[self.fd])
        assert reply.status < 0 or (reply.handle, reply.token) == (self.handle, self.token)
        return reply.status

    def rung(self):
        """How often it was rung since the last look."""
        try:
            return os.eventfd_read(self.fd)
        except BlockingIOError:
            return 0

    def destroy(self):
        status = self.client.call(BELL_DESTROY, handle=self.handle).status
        self.forget()
        return status

    def close(self):
        if self.fd >= 0:
            os.close(self.fd)
        self.fd = -1


class Pair(Object):
    """An end of a queue pair: its memory and our end of the life socket."""

    def __init__(self, client, peer, produce, consume, flags):
        self.peer, self.produce, self.consume, self.flags = peer, produce, consume, flags
        self.memory = self.map = self.life = self.their_life = None
        super().__init__(client)

    def fields(self):
        return {"handle": self.handle, "other": (self.peer, 0), "size0": self.produce, "size1": self.consume,
                "flags": self.flags}

    def hold(self):
        return self.client.call(QP_HOLD, token=self.token, **self.fields()).status

    def ring(self):
        """A signal to the other end."""
        self.life.send(b"\0")

    def is_left(self):
        """Whether the other end of the life socket has been closed; bytes in it are thrown away."""
        while is_readable(self.life):
            try:
                if not self.life.recv(4096):
                    return True
            except ConnectionResetError:
                return True
        return False

    def detach(self):
        status = self.client.call(QP_DETACH, handle=self.handle).status
        self.forget()
        return status

    def close(self):
        if self.map:
            self.map.close()
        for sock in self.life, self.their_life:
            if sock:
                sock.close()
        if self.memory is not None:
            os.close(self.memory)
        self.memory = self.map = self.life = self.their_life = None


class CreatedPair(Pair):
    def __init__(self, client, produce=PAGE, consume=PAGE, peer=INVALID, rid=INVALID, context=INVALID, flags=0,
                 memory=None):
        super().__init__(client, peer, produce, consume, flags)
        self.memory = memfd(qp_memory_size(produce, consume)) if memory is None else memory
        self.map = mmap.mmap(self.memory, 0)
        with client.user():
            self.life, self.their_life = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self.life.settimeout(LIMIT)
        self.handle, self.token = (context, rid), NO_TOKEN
        try:
            reply = client.ok(QP_CREATE, fds=[self.memory, self.their_life], **self.fields())
        except Refused:
            self.forget()
            raise
        assert reply.status == CREATED
        self.handle, self.token = reply.handle, reply.token

    def wait_for_attach(self):
        """Waits for the attacher's hello; returns its context."""
        hello = b""
        while len(hello) < 4:
            part = self.life.recv(4 - len(hello))
            if not part:
                raise Ended
            hello += part
        self.their_life.close()
        self.their_life = None
        self.peer = struct.unpack("<I", hello)[0]
        return self.peer

    def resume(self):
        if self.their_life and not is_readable(self.life):
            fields = self.fields()
            fields["flags"] |= RESUME
            return self.client.call(QP_CREATE, token=self.token, fds=[self.memory, self.their_life],
                                    **fields).status
        if self.their_life:
            self.wait_for_attach()
        return self.hold()


class AttachedPair(Pair):
    def __init__(self, client, handle, produce=PAGE, consume=PAGE, peer=INVALID, flags=0, is_hello=True):
        super().__init__(client, peer, produce, consume, flags)
        self.handle = handle
        try:
            reply = client.ok(QP_ATTACH, **self.fields())
        except Refused:
            self.forget()
            raise
        assert reply.status == ATTACHED
        self.peer, self.token = reply.other[0], reply.token
        self.memory, life = reply.fds
        self.map = mmap.mmap(self.memory, 0)
        self.life = socket.socket(fileno=life)
        self.life.settimeout(LIMIT)
        if is_hello:
            self.say_hello()

    def say_hello(self):
        self.life.send(struct.pack("<I", self.client.cid))

    def resume(self):
        return self.hold()


class Region(Object):
    """A shared region: made, or, with a handle, attached to."""

    def __init__(self, client, size=PAGE, rid=INVALID, handle=None, offset=0):
        self.is_owner = handle is None
        self.size, self.offset = size, offset
        if self.is_owner:
            self.memory = memfd(max(size + offset, 1))
            try:
                reply = client.ok(SHM_CREATE, handle=(0, rid), size0=size, size1=offset, fds=[self.memory])
            except Refused:
                os.close(self.memory)
                raise
            self.handle = reply.handle
        else:
            reply = client.ok(SHM_ATTACH, handle=handle)
            self.handle, self.size, self.offset = handle, reply.size0, reply.size1
            self.memory, = reply.fds
        self.token = reply.token
        self.map = mmap.mmap(self.memory, 0)
        super().__init__(client)

    def resume(self):
        if self.is_owner:
            return self.client.call(SHM_CREATE, flags=RESUME, handle=(0, self.handle[1]), size0=self.size,
                                    size1=self.offset, token=self.token, fds=[self.memory]).status
        return self.client.call(SHM_HOLD, handle=self.handle, size0=self.size, size1=self.offset,
                                token=self.token, fds=[self.memory]).status

    def detach(self):
        status = self.client.call(SHM_DETACH, handle=self.handle).status
        self.forget()
        return status

    def close(self):
        if self.map:
            self.map.close()
            os.close(self.memory)
        self.map = None


class Name(Object):
    def __init__(self, client, name, handle):
        self.name, self.handle = name, handle
        code, _, self.token = client.discovery(REGISTER, name, handle)
        if code < 0:
            raise Refused(NAME, code)
        super().__init__(client)

    def resume(self):
        return self.client.discovery(REGISTER, self.name, self.handle, RESUME, self.token)[0]

    def unregister(self):
        code = self.client.discovery(UNREGISTER, self.name)[0]
        self.forget()
        return code


class Placed(Object):
    """A region in a window: made, or, with a handle, attached to. A device gives its window's memory."""

    def __init__(self, client, size=PAGE, rid=INVALID, handle=None):
        self.is_owner = handle is None
        self.size, self.key = size, b""
        if self.is_owner:
            reply = client.ok(SHM_ALLOC, handle=(0, rid), size0=size)
            self.handle, self.offset = reply.handle, reply.size1
            self.window_token, self.key = reply.data[:16], reply.data[16:]
        else:
            reply = client.ok(SHM_ATTACH, handle=handle)
            self.handle, self.size, self.offset = handle, reply.size0, reply.size1
        self.token = reply.token
        self.memory, = reply.fds
        self.window_size = os.fstat(self.memory).st_size
        self.map = mmap.mmap(self.memory, 0)
        super().__init__(client)

    def read(self, size):
        return self.map[self.offset:self.offset + size]

    def write(self, data):
        self.map[self.offset:self.offset + len(data)] = data

    def resume(self):
        if self.is_owner and not isinstance(self.client, Device):
            self.client.call(WINDOW, flags=RESUME, size0=self.window_size, token=self.window_token, data=self.key,
                             fds=[self.memory])
        if self.is_owner:
            return self.client.call(SHM_CREATE, flags=RESUME, handle=(0, self.handle[1]), size0=self.size,
                                    size1=self.offset, token=self.token, fds=[self.memory]).status
        return self.client.call(SHM_HOLD, handle=self.handle, size0=self.size, size1=self.offset,
                                token=self.token, fds=[self.memory]).status

    def detach(self):
        status = self.client.call(SHM_DETACH, handle=self.handle).status
        self.forget()
        return status

    def close(self):
        if self.map:
            self.map.close()
            os.close(self.memory)
        self.map = None


class Group(Object):
    def __init__(self, client):
        reply = client.ok(GROUP_CREATE)
        self.handle, self.token, self.members = reply.handle, reply.token, []
        super().__init__(client)

    def resume(self):
        status = self.client.call(GROUP_CREATE, flags=RESUME, handle=(0, self.handle[1]), token=self.token).status
        for member in self.members:
            status = status or self.change(ADD, member)
        return status

    def change(self, flags, member):
        return self.client.call(GROUP_MEMBER, flags=flags, handle=self.handle, other=member).status

    def add(self, member, flags=0):
        status = self.change(ADD | flags, member)
        if status >= 0:
            self.members.append(member)
        return status

    def remove(self, member):
        return self.change(REMOVE, member)

    def has(self, member):
        return self.change(CHECK, member)

    def destroy(self):
        status = self.client.call(GROUP_DESTROY, handle=self.handle).status
        self.forget()
        return status


# --- Streams ------------------------------------------------------------------------------------------------

@dataclasses.dataclass
class Address:
    """What a socket's name says. who: (uid, gid, pid) of a program, the name of a VM, or None: it is a port."""
    context: int
    port: int
    who: object


PORT_NAME = re.compile(rb".*/port/(\d+)/(\d+)", re.DOTALL)
ABSTRACT_NAME = re.compile(rb"\0vmci/(\d+)/(\d+)/(?:(\d+)\.(\d+)\.(\d+)/[0-9a-f]{13}|vm/[0-9a-f]{13}/(.*))", re.DOTALL)


def parse_address(name):
    """The address, or None: not a name of the fabric."""
    name = name.encode() if isinstance(name, str) else name
    match = PORT_NAME.fullmatch(name)
    if match:
        return Address(int(match[1]), int(match[2]), None)
    match = ABSTRACT_NAME.fullmatch(name)
    if not match:
        return None
    who = match[6].decode() if match[3] is None else tuple(int(match[n]) for n in (3, 4, 5))
    return Address(int(match[1]), int(match[2]), who)


def peer_credentials(sock):
    """pid, uid, gid, as the kernel says."""
    return struct.unpack("iII", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))


# --- Clients -------------------------------------------------------------------------------------------------

class Refused(Exception):
    """A request that had to succeed did not."""

    def __init__(self, type_, status):
        super().__init__(f"type {type_}: {status}")
        self.status = status


def discovery_request(action, name, handle=(INVALID, INVALID), number=7):
    return struct.pack("<iiIIi", action, number, *handle, len(name)) + name + b"\0" + bytes(3)


def parse_discovery(payload):
    number, code, context, resource, length = struct.unpack("<iiIIi", payload[:20])
    assert number == 7 and len(payload) >= 20 + length + 1
    return code, (context, resource), payload[20:20 + length]


class Client(Link):
    """A connection to vmcid. Without a cid nothing has been said yet."""

    def __init__(self, path, cid=HOST, flags=0, label=b"test"):
        self.path, self.flags, self.label, self.uid = path, flags, label, os.geteuid()
        self.cid, self.token = None, NO_TOKEN
        self.objects, self.serial = [], 0
        super().__init__(self.dial())
        try:
            if cid is not None:
                self.hello(cid)
        except Refused:
            self.close()
            raise

    def dial(self):
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            sock.connect(str(self.path))
        except OSError:
            sock.close()
            raise
        return sock

    def user(self):
        """What is made meanwhile belongs to this client's user."""
        return contextlib.nullcontext() if self.uid == os.geteuid() else as_user(self.uid)

    def hello(self, cid, flags=0, token=NO_TOKEN):
        reply = self.call(HELLO, size0=VERSION, handle=(cid, 0), flags=self.flags | flags, token=token,
                          data=self.label)
        if reply.status < 0:
            raise Refused(HELLO, reply.status)
        self.cid, self.token = reply.handle[0], reply.token
        self.granted = reply.flags
        return reply

    def post(self, type_, **fields):
        """Sends a request; returns its serial."""
        self.serial += 1
        self.send(Message(type_, serial=self.serial, **fields))
        return self.serial

    def call(self, type_, **fields):
        serial = self.post(type_, **fields)
        reply = self.recv()
        assert (reply.type, reply.kind, reply.serial) == (type_, REPLY, serial), reply
        if reply.status < 0:
            assert not reply.data and not reply.fds
        return reply

    def ok(self, type_, **fields):
        reply = self.call(type_, **fields)
        if reply.status < 0:
            raise Refused(type_, reply.status)
        return reply

    def resume(self):
        """Connects again and tells everything; returns the objects that were refused, with the statuses."""
        self.sock.close()

        def connect():
            with contextlib.suppress(OSError), self.user():
                return self.dial()
        self.sock = until("a new vmcid", connect)
        self.sock.settimeout(LIMIT)
        self.hello(self.cid, RESUME, self.token)
        statuses = [(each, each.resume()) for each in self.objects]
        return [(each, status) for each, status in statuses if status < 0]

    def discovery(self, action, name, handle=(INVALID, INVALID), flags=0, token=NO_TOKEN):
        """Code, handle, token."""
        reply = self.ok(NAME, flags=flags, token=token, data=discovery_request(action, name, handle))
        code, found, _ = parse_discovery(reply.data)
        return code, found, reply.token

    def lookup(self, name):
        """The handle, or a code."""
        code, handle, _ = self.discovery(LOOKUP, name)
        return code if code < 0 else handle

    def open_bell(self, handle):
        """An eventfd, or raises Refused."""
        return self.ok(BELL_OPEN, handle=handle).fds[0]

    def priv(self, flags, resource, client, allow=0, deny=0):
        return self.call(PRIV, flags=flags, handle=resource, other=client, size0=allow, size1=deny).status

    def new_socket(self, type_=socket.SOCK_STREAM):
        """A socket of this client's user."""
        with self.user():
            sock = socket.socket(socket.AF_UNIX, type_)
        sock.settimeout(LIMIT)
        return sock

    def bind(self, sock, port=INVALID, context=INVALID):
        """The port, or an error."""
        reply = self.call(STREAM_BIND, handle=(context, port), fds=[sock])
        return reply.status if reply.status < 0 else reply.handle[1]

    def listener(self, port=INVALID, type_=socket.SOCK_STREAM, backlog=16):
        """A socket that listens, and its port."""
        sock = self.new_socket(type_)
        port = self.bind(sock, port)
        if port < 0:
            sock.close()
            raise Refused(STREAM_BIND, port)
        sock.listen(backlog)
        return sock, port

    def connect(self, to, sock, port=INVALID, timeout=0):
        """The status."""
        return self.call(STREAM_CONNECT, handle=(INVALID, port), other=to, size0=timeout, fds=[sock]).status

    def connected(self, to, type_=socket.SOCK_STREAM, port=INVALID):
        """A connected socket."""
        sock = self.new_socket(type_)
        status = self.connect(to, sock, port)
        if status < 0:
            sock.close()
            raise Refused(STREAM_CONNECT, status)
        return sock

    def list(self):
        """All lines."""
        lines, first = [], 0
        while True:
            reply = self.ok(LIST, size0=first)
            lines += reply.data.decode().splitlines()
            first = reply.size0
            if not first:
                return lines

    def close(self):
        """As if it had died: nothing is said before."""
        super().close()
        for each in self.objects:
            each.close()
        self.objects = []


@contextlib.contextmanager
def as_user(uid):
    """What is connected and made meanwhile belongs to another user. Needs root."""
    os.setegid(uid)
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


class Device(Client):
    """The client that a VM's device is. vmcid starts a program that hands its connection over to us."""

    PROGRAM = """#!/usr/bin/python3 -IS
import os, socket, sys
sock = socket.socket(socket.AF_UNIX)
sock.connect({path!r})
socket.send_fds(sock, ["\\0".join(sys.argv).encode()], [3, 4] + [5] * ("--window-fd" in sys.argv))
os.close(3)
os.close(4)
sock.recv(1)
"""

    def __init__(self, broker, name, is_greeting=True):
        self.broker, self.name, self.listener = broker, name, None
        path = broker.runtime / "vm" / f"{name}.sock"
        self.vmm = until(f"vmcid to listen at {path}", lambda: self.dial_vmm(path))
        self.vmm.settimeout(LIMIT)
        self.process, _ = broker.stub.accept()
        self.process.settimeout(LIMIT)
        text, (conn, fabric, *self.window), _, _ = socket.recv_fds(self.process, 4096, 3)
        self.window_token = None
        os.close(conn)
        argv = text.decode().split("\0")
        self.argv = dict(zip(argv[1::2], argv[2::2]))
        self.sinks = []
        self.connection = socket.socket(fileno=fabric)
        super().__init__(broker.path, None)
        self.label = name.encode()
        broker.clients.append(self)
        if is_greeting:
            self.greet()

    @staticmethod
    def dial_vmm(path):
        """A connection, or None: the socket is there, but not listened at yet."""
        sock = socket.socket(socket.AF_UNIX)
        try:
            sock.connect(str(path))
        except ConnectionRefusedError:
            sock.close()
            return None
        return sock

    def dial(self):
        return self.connection

    def greet(self, flags=0, token=NO_TOKEN):
        """HELLO with the two sinks."""
        self.sinks = self.sinks or [Sink(), Sink()]
        self.datagrams, self.events = self.sinks
        cid = int(self.argv["--cid"])
        reply = self.ok(HELLO, size0=VERSION, handle=(cid, 0), flags=DEVICE | flags, token=token, data=self.label,
                        fds=self.sinks)
        self.cid, self.token, self.granted = reply.handle[0], reply.token, reply.flags
        return reply

    def show(self, memory=None, token=None):
        """WINDOW, with what vmcid has given, or something else; the reply."""
        memory = self.window[0] if memory is None else memory
        flags, token = (0, NO_TOKEN) if token is None else (RESUME, token)
        reply = self.call(WINDOW, flags=flags, size0=os.fstat(memory).st_size, token=token, fds=[memory])
        if reply.status >= 0:
            self.window_token = reply.token
        return reply

    def listen(self):
        """At the rendezvous socket, for a vmcid to come."""
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.listener.settimeout(LIMIT)
        self.listener.bind(self.argv["--rendezvous"])
        self.listener.listen()

    def resume(self):
        self.sock.close()
        self.sock, _ = self.listener.accept()
        self.sock.settimeout(LIMIT)
        self.greet(RESUME, self.token)
        if self.window_token is not None:
            assert self.show(token=self.window_token).status >= 0
        statuses = [(each, each.resume()) for each in self.objects]
        return [(each, status) for each, status in statuses if status < 0]

    def asked(self, type_):
        """Waits for a question."""
        ask = self.recv()
        assert (ask.type, ask.kind) == (type_, ASK), ask
        return ask

    def answer(self, ask, status=0, fds=(), **fields):
        self.send(Message(ask.type, ANSWER, ask.serial, status, fds=list(fds), **fields))

    def send_datagram(self, src, dst, payload=b""):
        return self.call(DG_SEND, data=datagram(dst, src, payload)).status

    def close(self):
        """Its end, as far as vmcid can see."""
        super().close()
        for each in self.process, self.vmm, self.listener, *self.sinks:
            if each:
                each.close()
        for memory in self.window:
            os.close(memory)
        self.sinks, self.window = [], []


class Broker:
    """vmcid in a directory, to be killed and restarted at will."""

    def __init__(self, directory, *options, wrap=()):
        self.directory, self.options, self.wrap = directory, options, wrap
        self.runtime = directory / "run"
        self.path = self.runtime / "control.sock"
        self.config, self.vms = directory / "vmcid.conf", directory / "vms"
        self.configure()
        self.vms.mkdir(exist_ok=True)
        program = directory / "device"
        program.write_text(Device.PROGRAM.format(path=str(directory / "stub.sock")))
        program.chmod(0o755)
        self.stub = socket.socket(socket.AF_UNIX)
        self.stub.settimeout(LIMIT)
        self.stub.bind(str(directory / "stub.sock"))
        self.stub.listen()
        self.clients, self.process = [], None
        self.start()

    def start(self):
        program = BUILD / "vmcid"
        if not program.exists():
            raise TestbedError(f"{program} does not exist: run make first")
        self.process = Process([*self.wrap, program, "--runtime-dir", self.runtime, "--config", self.config,
                                "--vms", self.vms, "--device", self.directory / "device", "--log", "debug",
                                *self.options],
                               self.directory / "vmcid.log")

        def connect():
            if not self.process.is_running():
                raise TestbedError(f"vmcid did not start:\n{self.process.tail()}")
            with contextlib.suppress(OSError):
                return Client(self.path, None)
            return None
        first = until("vmcid to listen", connect)
        if self.clients:
            first.close()
            return
        # What it is like when nobody is there. It keeps what it once needed to measure datagrams, so it is given some.
        first.hello(HOST)
        endpoint = Endpoint(first)
        assert endpoint.send(endpoint.handle) == DG_HEADER
        assert endpoint.destroy() == 0
        self.idle_list, self.idle_fds = first.list(), self.fds() - 1        # without this client's
        first.close()

    def connect(self, cid=HOST, **options):
        client = Client(self.path, cid, **options)
        self.clients.append(client)
        return client

    def configure(self, *lines):
        """For the next start."""
        self.config.write_text("\n".join(['socket.mode = "0666"', *lines]) + "\n")       # any user

    def define(self, name, cid, *lines):
        """Writes the definition of a VM, which vmcid notices."""
        text = "\n".join(['vmci0.present = "TRUE"', f'vmci0.id = "{cid}"', *lines]) + "\n"
        (self.vms / f"{name}.vmx").write_text(text)
        until(f"the socket of VM {name}", (self.runtime / "vm" / f"{name}.sock").exists)

    def undefine(self):
        for path in self.vms.iterdir():
            path.unlink()
        until("the sockets of VMs to go", lambda: not list((self.runtime / "vm").glob("*.sock")))

    def kill(self):
        self.process.kill()

    def restart(self):
        """kill -9, and a new one."""
        self.kill()
        self.start()

    def fds(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def close(self):
        for client in self.clients:
            client.close()
        self.clients = []
        self.stub.close()
