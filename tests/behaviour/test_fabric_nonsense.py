# SPDX-License-Identifier: BSD-2-Clause
"""A client that sends nonsense: its connection ends, the log says why, nobody else notices.
doc/protocol-fabric.md, 2.
"""

import os
import random
import struct

import pytest
from testbed.fabric import (ADD, ANSWER, ASK, ASSIGN, BELL_CREATE, BELL_DESTROY, BELL_OPEN, CHECK, DATA_MAX, DEVICE,
                            DG_BIND, DG_CREATE, DG_DESTROY, DG_SEND, DIRECT, EVENTS, GROUP_CREATE, GROUP_DESTROY,
                            GROUP_MEMBER, HEADER_SIZE, HELLO, HOLD, LIST, NAME, OFF, PENDING, PRIV, QP_ATTACH,
                            QP_CREATE, QP_DETACH, QP_HOLD, REMOVE, REMOVE_ALL, REPLY, RESTRICTED, RESUME, SHM_ALLOC,
                            SHM_ATTACH, SHM_CREATE, SHM_DETACH, SHM_HOLD, SHM_QUERY, STREAM_BIND, STREAM_CONNECT,
                            STREAM_OPEN, TRUSTED, VM_FIND, WATCH, WINDOW, Ended, Endpoint, Message, datagram,
                            discovery_request, eventfd)
from testbed.process import until

# What a request may have: fields, flags (besides those of which there must be one), one of, data, descriptors.
C, R, C2, R2, S0, S1, T = "context", "resource", "other", "second", "size0", "size1", "token"
TYPES = {
    HELLO: ((C, S0, T), RESUME | DEVICE | RESTRICTED | HOLD, (), (0, 64), 0),
    DG_CREATE: ((R, T), RESUME, (), (0, 0), 1),
    DG_DESTROY: ((C, R), 0, (), (0, 0), 0),
    DG_SEND: ((), 0, (), (24, DATA_MAX), 0),
    EVENTS: ((), 0, (), (0, 0), 1),
    WATCH: ((C,), RESUME | OFF, (), (0, 0), 0),
    BELL_CREATE: ((R, T), RESUME, (), (0, 0), 1),
    BELL_DESTROY: ((C, R), 0, (), (0, 0), 0),
    BELL_OPEN: ((C, R), 0, (), (0, 0), 0),
    QP_CREATE: ((C, R, C2, S0, S1, T), RESUME | TRUSTED | DIRECT, (), (0, 0), 2),
    QP_ATTACH: ((C, R, C2, S0, S1), TRUSTED | DIRECT, (), (0, 0), 0),
    QP_HOLD: ((C, R, C2, S0, S1, T), TRUSTED, (), (0, 0), 0),
    QP_DETACH: ((C, R), 0, (), (0, 0), 0),
    SHM_CREATE: ((R, S0, S1, T), RESUME, (), (0, 0), 1),
    SHM_QUERY: ((C, R), 0, (), (0, 0), 0),
    SHM_ATTACH: ((C, R), 0, (), (0, 0), 0),
    SHM_HOLD: ((C, R, S0, S1, T), 0, (), (0, 0), 1),
    SHM_DETACH: ((C, R), 0, (), (0, 0), 0),
    NAME: ((T,), RESUME, (), (1, 300), 0),
    PRIV: ((C, R, C2, R2, S0, S1), 0, (ADD, REMOVE, REMOVE_ALL, CHECK), (0, 0), 0),
    GROUP_CREATE: ((R, T), RESUME, (), (0, 0), 0),
    GROUP_DESTROY: ((C, R), 0, (), (0, 0), 0),
    GROUP_MEMBER: ((C, R, C2, R2), ASSIGN, (ADD, REMOVE, CHECK), (0, 0), 0),
    LIST: ((S0,), 0, (), (0, 0), 0),
    STREAM_BIND: ((C, R), 0, (), (0, 0), 1),
    STREAM_CONNECT: ((C, R, C2, R2, S0), PENDING, (), (0, 0), 1),
    STREAM_OPEN: ((C, R, C2, R2), 0, (), (0, 0), 0),
    SHM_ALLOC: ((R, S0), 0, (), (0, 0), 0),
    WINDOW: ((S0, T), RESUME, (), (0, 72), 1),
    DG_BIND: ((C, R), 0, (), (0, 0), 1),
    VM_FIND: ((), 0, (), (16, 16), 0),
}
BITS = [1 << bit for bit in range(32)]


def right(type_):
    """A request that is right, with its number of descriptors."""
    _, _, choice, (least, _), fds = TYPES[type_]
    return Message(type_, flags=choice[0] if choice else 0, size0=type_ == HELLO, data=bytes(least)), fds


def set_field(message, name):
    if name == C:
        message.handle = (1, message.handle[1])
    elif name == R:
        message.handle = (message.handle[0], 1)
    elif name == C2:
        message.other = (1, 0)
    elif name == R2:
        message.other = (0, 1)
    elif name == T:
        message.token = b"x" * 16
    else:
        setattr(message, name, 1 << 40)


def wrong_requests(type_):
    """(what is wrong, message, number of descriptors)"""
    fields, flags, choice, (least, most), fds = TYPES[type_]

    def wrong(what, n_fds=fds, **changes):
        message, _ = right(type_)
        for name, value in changes.items():
            setattr(message, name, value)
        return what, message, n_fds

    for name in C, R, C2, R2, S0, S1, T:
        if name not in fields or name == T and flags & RESUME or (type_, name) == (GROUP_CREATE, R):
            message, _ = right(type_)
            set_field(message, name)
            yield f"field {name}", message, fds
    for bit in BITS:
        if not (flags | sum(choice)) & bit:
            yield wrong(f"flag {bit:#x}", flags=right(type_)[0].flags | bit)
    if choice:
        yield wrong("none of the flags", flags=0)
        yield wrong("two of the flags", flags=choice[0] | choice[1])
        yield wrong("all of the flags", flags=sum(choice))
    if ASSIGN & flags:
        yield wrong("ASSIGN without ADD", flags=ASSIGN | REMOVE)
    if HOLD & flags:
        yield wrong("HOLD of a device", 2, flags=HOLD | DEVICE)
        yield wrong("HOLD of a device with a socket", 3, flags=HOLD | DEVICE)
        yield wrong("HOLD with two sockets", 2, flags=HOLD)
    for status in 1, -1, -0x80000000, 0x7fffffff:
        yield wrong(f"status {status}", status=status)
    if least:
        yield wrong("too few data", data=bytes(least - 1))
        yield wrong("no data", data=b"")
    if most < DATA_MAX:
        yield wrong("too many data", data=bytes(most + 1))
        yield wrong("far too many data", data=bytes(DATA_MAX))
    for n_fds in 0, 1, 2, 3, 4, 5, 8, 100, 253:
        if n_fds != fds:
            yield wrong(f"{n_fds} descriptors", n_fds)
    for kind in REPLY, ASK, ANSWER, 4, 0xffff:
        yield wrong(f"kind {kind}", kind=kind)


class Neighbour:
    """Somebody who must not notice."""

    def __init__(self, vmcid):
        self.client = vmcid.connect()
        self.endpoint = Endpoint(self.client)

    def is_well(self):
        assert self.endpoint.send(self.endpoint.handle, b"fine") == 28
        assert self.endpoint.recv().payload == b"fine"


@pytest.fixture
def neighbour(vmcid):
    return Neighbour(vmcid)


def ends(client, packet, n_fds=0):
    """Whether this ends the connection, without an answer."""
    fd = eventfd()
    try:
        client.send_raw(packet, [fd] * n_fds)
        client.recv().close()
    except Ended:
        return True
    finally:
        os.close(fd)
        client.close()
    return False


@pytest.mark.parametrize("is_greeted", [True, False])
@pytest.mark.parametrize("type_", TYPES)
def test_a_request_that_breaks_the_table(vmcid, neighbour, type_, is_greeted):
    count = 0
    for what, message, n_fds in wrong_requests(type_):
        client = vmcid.connect(2 if is_greeted else None)
        vmcid.clients.remove(client)
        assert ends(client, message.pack(), n_fds), what
        count += 1
    neighbour.is_well()
    assert count > 30
    until("a reason in the log", lambda: "dropped: " in vmcid.process.text())


def test_right_ones_are_right(vmcid):
    """Or the tests above would show nothing."""
    for type_ in TYPES:
        message, n_fds = right(type_)
        client = vmcid.connect()
        fds = [eventfd() for _ in range(n_fds)]
        client.send_raw(message.pack(), fds)
        reply = client.recv()
        assert (reply.type, reply.kind) == (type_, REPLY)
        reply.close()
        for fd in fds:
            os.close(fd)
    assert "dropped" not in vmcid.process.text()


@pytest.mark.parametrize("type_", TYPES)
def test_more_than_hello_of_one_that_only_holds(vmcid, neighbour, type_):
    """Whatever is right for others; and an answer."""
    message, n_fds = right(type_)
    client = vmcid.connect(flags=HOLD)
    assert client.granted & HOLD
    assert ends(client, message.pack(), n_fds)
    until("a reason in the log", lambda: "dropped: it was to hold its context and no more, and said "
          in vmcid.process.text())
    neighbour.is_well()


PACKETS = {
    "empty": b"",
    "a byte": b"\0",
    "a header but for a byte": Message(LIST).pack()[:-1],
    "zeros": bytes(HEADER_SIZE),
    "ones": b"\xff" * HEADER_SIZE,
    "text": b"GET / HTTP/1.0\r\n\r\n" * 5,
    "type 0": Message(0).pack(),
    "an unknown type": Message(VM_FIND + 1).pack(),
    "type 65535": Message(0xffff).pack(),
    "the largest": Message(LIST).pack() + bytes(DATA_MAX),
    "larger than the largest": Message(DG_SEND).pack() + bytes(DATA_MAX + 1),
    "far larger": bytes(180000),
    "big-endian": struct.pack(">HHI", LIST, 0, 1) + bytes(56),
}


@pytest.mark.parametrize("n_fds", [0, 1, 2, 4, 5, 253])
@pytest.mark.parametrize("what", PACKETS)
def test_packets_that_are_no_messages(vmcid, neighbour, what, n_fds):
    if not PACKETS[what] and not n_fds:
        client = vmcid.connect()
        client.sock.send(b"")
    assert ends(vmcid.connect(), PACKETS[what], n_fds)
    neighbour.is_well()
    text = until("a reason in the log", lambda: [line for line in vmcid.process.text().splitlines()
                                                 if "dropped: " in line])
    assert all(len(line.split("dropped: ")[1]) > 5 for line in text)


def test_nonsense_behind_good_requests(vmcid, neighbour):
    client = vmcid.connect()
    for _ in range(10):
        client.post(LIST)
    client.send_raw(b"nonsense")
    with pytest.raises(Ended):
        for _ in range(11):
            client.recv()
    neighbour.is_well()


def test_answers_to_nothing(vmcid, neighbour):
    for type_, n_fds in (BELL_OPEN, 1), (QP_ATTACH, 2):
        status = 5 if type_ == QP_ATTACH else 0
        assert ends(vmcid.connect(), Message(type_, ANSWER, status=status).pack(), n_fds)
        assert ends(vmcid.connect(), Message(type_, ANSWER, status=-20).pack())
    neighbour.is_well()


def test_a_flood_of_nonsense_is_no_flood_of_lines(vmcid, neighbour):
    for _ in range(1000):
        client = vmcid.connect(None)
        vmcid.clients.remove(client)
        assert ends(client, b"nonsense")
    neighbour.is_well()
    assert vmcid.process.text().count("dropped: ") < 500


def test_random_messages(vmcid, neighbour):
    """Whatever comes of them."""
    rng = random.Random(20261121)
    bodies = [b"", bytes(24), datagram((2, 1024), (2, 1024)), discovery_request(1, b"name", (2, 1024)), os.urandom(300)]
    values = [0, 1, 2, 16, 1023, 1024, 4096, 1 << 20, 1 << 27, 1 << 31, 0xffffffff]
    client, alive = vmcid.connect(), 0
    for _ in range(4000):
        type_ = rng.choice(list(TYPES))
        fields, flags, choice, _, n_fds = TYPES[type_]
        message = Message(type_, serial=rng.getrandbits(32), data=rng.choice(bodies))
        message.flags = (rng.getrandbits(10) & flags) | (rng.choice(choice) if choice else 0)
        message.handle = tuple(rng.choice(values) if name in fields else 0 for name in (C, R))
        message.other = tuple(rng.choice(values) if name in fields else 0 for name in (C2, R2))
        message.size0, message.size1 = (rng.choice(values) if name in fields else 0 for name in (S0, S1))
        if T in fields and (message.flags & RESUME or not flags & RESUME):
            message.token = rng.randbytes(16)
        if TYPES[type_][3] == (0, 0):
            message.data = b""
        fd = eventfd()
        try:
            client.send_raw(message.pack(), [fd] * n_fds)
            client.recv().close()
            alive += 1
        except Ended:
            client.close()
            vmcid.clients.remove(client)
            client = vmcid.connect()
        os.close(fd)
    assert alive > 1000
    neighbour.is_well()
