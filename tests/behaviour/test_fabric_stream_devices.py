# SPDX-License-Identifier: BSD-2-Clause
"""Streams to and from guests, whose devices the test plays: slow, dead, or refusing. doc/protocol-fabric.md, 13."""

import contextlib
import errno
import select
import socket

import pytest
from testbed.fabric import (BELL_OPEN, DST_UNREACHABLE, HOST, INVALID, INVALID_ARGS, NOT_FOUND, NO_ACCESS, PENDING,
                            STREAM_BIND, STREAM_CONNECT, STREAM_OPEN, TIMEOUT, WOULD_BLOCK, Address,
                            Device, Ended, is_readable, parse_address, wait_readable)
from testbed.process import until

GUEST, FRIEND, STRANGER, WALLED = 42, 43, 44, 45
PORT = 5000
CONNECTS = 256


@pytest.fixture
def vms(vmcid):
    yield vmcid
    vmcid.close()
    vmcid.undefine()


@pytest.fixture
def device(vms):
    vms.define("guest", GUEST, 'vmci0.domain = "x"')
    return Device(vms, "guest")


@pytest.fixture
def friend(vms):
    vms.define("friend", FRIEND, 'vmci0.domain = "x"')
    return Device(vms, "friend")


def open_stream(device, to, port=1024):
    """The reply to STREAM_OPEN, and its socket or None."""
    reply = device.call(STREAM_OPEN, handle=(device.cid, port), other=to)
    sock = socket.socket(fileno=reply.fds.pop()) if reply.status >= 0 else None
    return reply, sock


def asked(device):
    """The question STREAM_CONNECT, and its socket."""
    ask = device.asked(STREAM_CONNECT)
    sock = socket.socket(fileno=ask.fds.pop())
    sock.setblocking(True)
    return ask, sock


def receive(sock, size):
    data = b""
    while len(data) < size and (piece := sock.recv(size - len(data))):
        data += piece
    return data


def start(client, to, timeout=0, type_=socket.SOCK_STREAM):
    """A connect that waits for its reply."""
    sock = client.new_socket(type_)
    client.post(STREAM_CONNECT, handle=(INVALID, INVALID), other=to, size0=timeout, fds=[sock])
    return sock


# --- Programs to guests -------------------------------------------------------------------------------------------

def test_accepted(vms, host, device):
    sock = start(host, (GUEST, PORT), 3000)
    ask, end = asked(device)
    assert ask.other == (GUEST, PORT) and ask.handle[0] == HOST and ask.handle[1] >= 1024
    assert (ask.size0, ask.flags) == (3000, 0)
    assert not is_readable(host)        # the reply waits for the guest
    device.answer(ask)
    reply = host.recv()
    assert reply.status == 0 and reply.handle == ask.handle
    assert parse_address(sock.getpeername()) == Address(GUEST, PORT, None)
    assert parse_address(sock.getsockname()).port == ask.handle[1]
    assert parse_address(end.getpeername()) == parse_address(sock.getsockname())
    assert not list((vms.runtime / "port" / str(GUEST)).iterdir())
    sock.send(b"there")
    assert end.recv(100) == b"there"
    end.send(b"back")
    assert sock.recv(100) == b"back"
    end.close()
    assert sock.recv(100) == b""
    sock.close()


def test_times(host, device):
    """0 is two seconds, and nothing is longer than a minute."""
    for wish, granted in (0, 2000), (1, 1), (60000, 60000), (60001, 60000), (2 ** 64 - 1, 60000):
        sock = start(host, (GUEST, PORT), wish)
        ask, end = asked(device)
        assert ask.size0 == granted
        device.answer(ask, NOT_FOUND)
        host.recv()
        end.close()
        sock.close()


@pytest.mark.parametrize("status", [NOT_FOUND, TIMEOUT, DST_UNREACHABLE])
def test_refused(host, device, status):
    sock = start(host, (GUEST, PORT))
    ask, end = asked(device)
    end.close()
    device.answer(ask, status)
    assert host.recv().status == status
    assert sock.recv(1) == b""          # it has no other end
    sock.close()


def test_no_answer(vms, host, device):
    sock = start(host, (GUEST, PORT), 200)
    ask, end = asked(device)
    assert host.recv().status == TIMEOUT
    device.answer(ask)                  # too late, and no fault
    end.close()
    sock.close()
    sock = start(host, (GUEST, PORT))
    ask, end = asked(device)
    device.answer(ask)
    assert host.recv().status == 0
    end.close()
    sock.close()


def test_device_dies(vms, host, device):
    sock = start(host, (GUEST, PORT), 60000)
    ask, end = asked(device)
    end.close()
    device.close()
    assert host.recv().status == DST_UNREACHABLE
    assert sock.recv(1) == b""
    sock.close()
    sock = host.new_socket()
    assert host.connect((GUEST, PORT), sock) == DST_UNREACHABLE
    sock.close()


def test_program_dies(vms, device):
    client = vms.connect()
    sock = start(client, (GUEST, PORT), 60000)
    ask, end = asked(device)
    sock.close()
    client.close()
    assert end.recv(1) == b""           # vmcid has no copy of the program's end
    device.answer(ask)                  # to nobody
    end.close()
    assert device.call(STREAM_BIND, fds=[socket.socket(socket.AF_UNIX)]).status == INVALID_ARGS


def test_program_dies_before_the_device_has_read(vms, device):
    client = vms.connect()
    sock = start(client, (GUEST, PORT), 60000)
    wait_readable(device)
    client.close()
    sock.close()
    ask, end = asked(device)
    assert end.recv(1) == b""
    end.close()
    device.answer(ask, NOT_FOUND)


def test_others_are_served_meanwhile(vms, host, soft, device):
    sock = start(host, (GUEST, PORT), 60000)
    ask, end = asked(device)
    listener, port = soft.listener()
    assert vms.connect().connect((soft.cid, port), soft.new_socket()) == 0
    device.answer(ask)
    assert host.recv().status == 0
    for each in sock, end, listener:
        each.close()


def test_seqpacket_has_no_way_into_a_guest(host, device):
    sock = host.new_socket(socket.SOCK_SEQPACKET)
    assert host.connect((GUEST, PORT), sock) == INVALID_ARGS
    assert not is_readable(device)
    sock.close()


def test_too_many_at_once(vms, device):
    """A device has so many to think of; the next is told to come again, and other questions still come through."""
    clients, socks, ends = [], [], []
    for _ in range(CONNECTS):
        clients.append(vms.connect())
        socks.append(start(clients[-1], (GUEST, PORT), 60000))
        ends.append(asked(device))
    last = vms.connect()
    sock = last.new_socket()
    assert last.connect((GUEST, PORT), sock) == WOULD_BLOCK
    last.post(BELL_OPEN, handle=(GUEST, 2000))
    device.answer(device.asked(BELL_OPEN), NOT_FOUND)
    assert last.recv().status == NOT_FOUND
    ask, end = ends.pop()
    device.answer(ask)
    assert clients[-1].recv().status == 0
    again = start(last, (GUEST, PORT))
    ask, second = asked(device)
    device.answer(ask, NOT_FOUND)
    assert last.recv().status == NOT_FOUND
    for each in *socks, sock, again, end, second, *(end for _, end in ends):
        each.close()


def test_answers_that_are_none(vms, host, device):
    sock = start(host, (GUEST, PORT), 60000)
    ask, end = asked(device)
    with contextlib.suppress(Ended):
        device.answer(ask, fds=[end])
    assert host.recv().status == DST_UNREACHABLE
    sock.close()
    end.close()


def start_pending(client, to, timeout=0):
    """A connect that does not wait; the reply comes at once, and the device's question."""
    sock = client.new_socket()
    client.post(STREAM_CONNECT, handle=(INVALID, INVALID), other=to, size0=timeout, flags=PENDING, fds=[sock])
    return sock, client.recv()


def is_writable(sock):
    return bool(select.select([], [sock], [], 0)[1])


def test_without_waiting(vms, host, device):
    sock, reply = start_pending(host, (GUEST, PORT), 3000)
    ask, end = asked(device)
    assert (reply.status, reply.flags, reply.handle) == (0, PENDING, ask.handle)
    assert (ask.size0, ask.flags, ask.other) == (3000, PENDING, (GUEST, PORT))
    assert 0 < ask.size1 < 1 << 20 and not is_writable(sock)
    device.answer(ask)                  # whatever it says: the socket is what counts
    assert host.connect((HOST, 1), host.new_socket()) == NOT_FOUND      # the connection is free
    assert parse_address(sock.getpeername()) == Address(GUEST, PORT, None)
    assert end.recv(ask.size1, socket.MSG_WAITALL) == bytes(ask.size1)
    assert is_writable(sock)
    sock.send(b"there")
    assert end.recv(100) == b"there"
    end.close()
    sock.close()


def test_without_waiting_for_a_program(vms, host, soft):
    """There is nothing to wait for."""
    listener, port = soft.listener()
    sock, reply = start_pending(host, (soft.cid, port))
    assert (reply.status, reply.flags) == (0, 0) and is_writable(sock)
    sock.close()
    listener.close()


def test_without_waiting_and_the_device_dies(host, device):
    """Its end goes with it; vmcid has none."""
    sock, reply = start_pending(host, (GUEST, PORT), 60000)
    ask, end = asked(device)
    device.close()
    end.close()
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.ECONNRESET
    sock.close()

    def again():
        sock, reply = start_pending(host, (GUEST, PORT))
        sock.close()
        return reply.status == DST_UNREACHABLE and not reply.flags
    until("vmcid to see it", again)


def test_without_waiting_too_many(vms, device):
    """One connection is enough for all that may be under way; unanswered ones count, whoever has gone."""
    client = vms.connect()
    for _ in range(CONNECTS):
        sock, reply = start_pending(client, (GUEST, PORT), 60000)
        assert reply.flags == PENDING
        sock.close()
    sock, reply = start_pending(client, (GUEST, PORT))
    assert reply.status == WOULD_BLOCK
    sock.close()
    for _ in range(CONNECTS):
        ask, end = asked(device)
        assert len(receive(end, ask.size1 + 1)) == ask.size1      # and then the end
        end.close()
        device.answer(ask)
    assert vms.connect().list()
    sock, reply = start_pending(client, (GUEST, PORT))
    assert reply.flags == PENDING
    ask, end = asked(device)
    device.answer(ask, NOT_FOUND)
    end.close()
    sock.close()


def test_without_waiting_at_odd_sockets(host, device, needs_root):
    """A send buffer of any size; where it is too large, the reply is waited for."""
    for size, is_pending in (1, True), (100000, True), (1 << 20, True), (8 << 20, False):
        sock = host.new_socket()
        sock.setsockopt(socket.SOL_SOCKET, 32, size)    # SO_SNDBUFFORCE
        host.post(STREAM_CONNECT, handle=(INVALID, INVALID), other=(GUEST, PORT), flags=PENDING, fds=[sock])
        ask, end = asked(device)
        assert (ask.flags, bool(ask.size1)) == ((PENDING, True) if is_pending else (0, False))
        assert is_writable(sock) == (not is_pending)
        device.answer(ask)
        assert host.recv().flags == ask.flags
        end.close()
        sock.close()


# --- Guests to programs ---------------------------------------------------------------------------------------------

def test_to_a_port(host, soft, device):
    for client in host, soft:
        listener, port = client.listener()
        reply, sock = open_stream(device, (client.cid, port), 77)
        assert reply.status == 0 and not reply.flags
        server, name = listener.accept()
        assert parse_address(name) == Address(GUEST, 77, "guest")
        sock.send(b"from the guest")
        assert server.recv(100) == b"from the guest"
        for each in listener, sock, server:
            each.close()
        assert open_stream(device, (client.cid, port))[0].status == NOT_FOUND


def test_not_there(vms, device):
    assert open_stream(device, (HOST, PORT))[0].status == NOT_FOUND
    assert open_stream(device, (999, PORT))[0].status == DST_UNREACHABLE
    assert open_stream(device, (GUEST, PORT))[0].status == NOT_FOUND
    reply = device.call(STREAM_OPEN, handle=(FRIEND, 1), other=(HOST, PORT))
    assert reply.status == NO_ACCESS
    sock = socket.socket(socket.AF_UNIX)
    assert device.call(STREAM_BIND, handle=(GUEST, PORT), fds=[sock]).status == INVALID_ARGS
    assert device.call(STREAM_CONNECT, handle=(GUEST, 1), other=(HOST, PORT), fds=[sock]).status == INVALID_ARGS
    sock.close()


def test_long_name_of_a_vm(vms, host):
    name = "n" * 48
    vms.define(name, 4000000000)
    device = Device(vms, name)
    listener, port = host.listener()
    reply, sock = open_stream(device, (HOST, port), 4294967294)
    server, peer = listener.accept()
    assert parse_address(peer) == Address(4000000000, 4294967294, name)
    for each in listener, sock, server:
        each.close()


def test_seqpacket_port(host, device):
    listener, port = host.listener(type_=socket.SOCK_SEQPACKET)
    assert open_stream(device, (HOST, port))[0].status == NOT_FOUND
    listener.close()


def test_full_queue_of_a_program(host, device):
    listener, port = host.listener(backlog=0)
    reply, sock = open_stream(device, (HOST, port))
    assert open_stream(device, (HOST, port))[0].status == WOULD_BLOCK
    sock.close()
    listener.close()


# --- Guests to guests ------------------------------------------------------------------------------------------------

def test_neighbours(device, friend):
    reply, sock = open_stream(device, (FRIEND, 22), 1000)
    assert reply.status == 0 and reply.flags == PENDING
    ask, end = asked(friend)
    assert (ask.handle, ask.other, ask.flags) == ((GUEST, 1000), (FRIEND, 22), PENDING)
    friend.answer(ask)
    end.send(b"\1")
    sock.setblocking(True)
    assert sock.recv(1) == b"\1"
    sock.send(b"hello")
    assert end.recv(100) == b"hello"
    assert parse_address(sock.getpeername()) == Address(FRIEND, 22, None)
    assert parse_address(end.getpeername()) == Address(GUEST, 1000, "guest")
    end.close()
    assert sock.recv(100) == b""
    sock.close()


def test_both_at_once(device, friend):
    """Two devices that connect to each other do not wait for each other."""
    serials = [a.post(STREAM_OPEN, handle=(a.cid, 1), other=(b.cid, 2))
               for a, b in ((device, friend), (friend, device))]
    for each, serial in zip((device, friend), serials):
        messages = sorted((each.recv(), each.recv()), key=lambda message: message.kind)
        assert [message.kind for message in messages] == [1, 2] and messages[0].serial == serial
        for message in messages:
            message.close()


def test_hundreds_of_streams_between_neighbours(device, friend):
    """The device answers at once, so the number of questions is no bound."""
    socks = []
    for n in range(300):
        reply, sock = open_stream(device, (FRIEND, 22), n)
        assert reply.status == 0, n
        socks.append(sock)
        ask, end = asked(friend)
        friend.answer(ask)
        socks.append(end)
    for sock in socks:
        sock.close()


def test_friend_dies(device, friend):
    reply, sock = open_stream(device, (FRIEND, 22))
    friend.close()
    sock.setblocking(True)
    assert sock.recv(1) == b""
    sock.close()

    def is_gone():
        """vmcid hears of it by another connection than ours, so later, perhaps."""
        reply, sock = open_stream(device, (FRIEND, 22))
        if sock:
            sock.close()
        return reply.status == DST_UNREACHABLE
    until("the friend to be gone", is_gone)


def test_strangers(vms, device):
    vms.define("stranger", STRANGER)
    stranger = Device(vms, "stranger")
    assert open_stream(device, (STRANGER, 22))[0].status == DST_UNREACHABLE
    assert open_stream(stranger, (GUEST, 22))[0].status == DST_UNREACHABLE
    assert not is_readable(device) and not is_readable(stranger)


def test_firewall(vms, host, device):
    vms.define("walled", WALLED, 'vmci0.domain = "x"', 'vmci.filter.enable = "TRUE"',
               'vmci.filter0.action = "deny"', 'vmci.filter0.protocol = "stream"', 'vmci.filter0.portLow = "5000"',
               'vmci.filter0.portHigh = "5009"')
    walled = Device(vms, "walled")
    listener, _ = host.listener(5000)
    sock = host.new_socket()
    assert open_stream(walled, (HOST, 5000))[0].status == NO_ACCESS
    assert open_stream(walled, (HOST, 5001))[0].status == NO_ACCESS
    assert open_stream(walled, (GUEST, 5009))[0].status == NO_ACCESS
    assert open_stream(device, (WALLED, 5009))[0].status == NO_ACCESS
    assert host.connect((WALLED, 5009), sock) == NO_ACCESS
    assert open_stream(walled, (HOST, 5010))[0].status == NOT_FOUND
    assert not is_readable(listener)
    sock.close()
    listener.close()


def test_restricted(vms, host, needs_root):
    vms.define("walled", WALLED, 'openvmci.restricted = "TRUE"')
    walled = Device(vms, "walled")
    listener, port = host.listener()
    reply, sock = open_stream(walled, (HOST, port))         # we are root
    assert reply.status == 0
    path = vms.runtime / "port" / "2" / str(port)
    path.chmod(0o600)                                       # as if somebody else had bound it
    assert open_stream(walled, (HOST, port))[0].status == NO_ACCESS
    sock.close()
    listener.close()


# --- vmcid killed at each step ---------------------------------------------------------------------------------------

@pytest.mark.parametrize("step", ["asked", "answered", "running"])
def test_killed(vms, host, device, friend, step):
    device.listen()
    friend.listen()
    sock = start(host, (GUEST, PORT), 60000)
    reply, pair = open_stream(friend, (GUEST, 22))
    asks = [asked(device), asked(device)]
    (ask, end), (second, other) = sorted(asks, key=lambda each: each[0].flags)
    if step != "asked":
        device.answer(ask)
        device.answer(second)
        assert host.recv().status == 0
    if step == "running":
        end.send(b"x")
    vms.kill()
    with pytest.raises(Ended):
        host.recv()
    if step == "running":
        assert sock.recv(1) == b"x"
    # the two devices go on without vmcid
    other.send(b"\1")
    pair.setblocking(True)
    assert pair.recv(1) == b"\1"
    vms.start()
    assert not device.resume() and not friend.resume() and not host.resume()
    again = start(host, (GUEST, PORT))
    ask, third = asked(device)
    device.answer(ask)
    assert host.recv().status == 0
    for each in sock, pair, end, other, again, third:
        each.close()


def test_left_over_path(vms, host, device):
    """Killed between bind and connect, vmcid leaves a path in the guest's folder."""
    folder = vms.runtime / "port" / str(GUEST)
    folder.mkdir(exist_ok=True)
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(folder / str(PORT)))
    sock = start(host, (GUEST, PORT))
    ask, end = asked(device)
    device.answer(ask)
    assert host.recv().status == 0
    for each in left, sock, end:
        each.close()
    until("the folder to be empty", lambda: not list(folder.iterdir()))
