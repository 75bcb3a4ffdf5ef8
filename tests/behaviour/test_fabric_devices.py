# SPDX-License-Identifier: BSD-2-Clause
"""Devices as clients of vmcid: played by the test, so that they can be slow, dead or liars.
doc/protocol-fabric.md, 3, 5 and 8.
"""

import os
import socket

import pytest
from testbed.fabric import (ATTACHED, BELL_OPEN, CTX_REMOVED, DEVICE, DG_CREATE, DISCOVERY, DST_UNREACHABLE, HELLO,
                            INVALID, INVALID_ARGS, LAST_DETACH, LOOKUP, NOT_FOUND, NO_ACCESS, NO_TOKEN, PAGE,
                            PEER_ATTACH, PEER_DETACH, PIPELINE, QP_ATTACH, RESUME, UNAVAILABLE, AttachedPair, Bell,
                            CreatedPair, Device, Ended, Endpoint, Events, Message, Sink, as_user, discovery_request,
                            eventfd, memfd, parse_datagram, parse_discovery, parse_event, qp_memory_size,
                            wait_readable)
from testbed.process import until

GUEST = 42
SIZES = dict(other=(INVALID, 0), size0=PAGE, size1=2 * PAGE)


@pytest.fixture
def vms(vmcid):
    yield vmcid
    vmcid.close()
    vmcid.undefine()


@pytest.fixture
def device(vms):
    vms.define("guest", GUEST)
    return Device(vms, "guest")


def event(device):
    return parse_event(device.events.recv())


# --- Hello ---------------------------------------------------------------------------------------------------

def test_hello(vms, host):
    vms.define("guest", GUEST)
    device = Device(vms, "guest", is_greeting=False)
    assert device.argv["--cid"] == str(GUEST) and device.argv["--name"] == "guest"
    reply = device.greet()
    assert reply.handle == (GUEST, 0) and reply.flags & DEVICE and reply.token != NO_TOKEN
    assert "context 42 vm name guest" in host.list()


def test_what_is_no_hello_of_a_device(vms):
    vms.define("guest", GUEST)
    device, sinks = Device(vms, "guest", is_greeting=False), [Sink(), Sink()]
    assert device.call(HELLO, size0=1, handle=(GUEST, 0)).status == NO_ACCESS
    for cid in 2, GUEST + 1, INVALID:
        assert device.call(HELLO, size0=1, handle=(cid, 0), flags=DEVICE, fds=sinks).status == INVALID_ARGS
    for wrong in [sinks[0], eventfd()], [eventfd(), sinks[0]]:
        assert device.call(HELLO, size0=1, handle=(GUEST, 0), flags=DEVICE, fds=wrong).status == INVALID_ARGS
    assert device.greet().handle == (GUEST, 0)
    assert device.call(HELLO, size0=1, handle=(GUEST, 0), flags=DEVICE, fds=sinks).status < 0
    for sink in sinks:
        sink.close()


def test_a_vm_s_context_is_no_program_s(vms, device, host):
    for is_there in True, False:
        client = vms.connect(None)
        assert client.call(HELLO, size0=1, handle=(GUEST, 0)).status == NO_ACCESS
        if is_there:
            device.close()
            until("the context to be gone",
                  lambda: not [line for line in host.list() if line.startswith("context 42 ")])


# --- Datagrams -----------------------------------------------------------------------------------------------

def test_datagrams_both_ways(device, host):
    endpoint = Endpoint(host)
    for rid in 0, 1, 1023, 1024, 5000, INVALID - 1:
        status = endpoint.send((GUEST, rid), b"to guest")
        if status > 0:      # what a guest has is the guest's business
            assert device.datagrams.recv().dst == (GUEST, rid)
        assert device.send_datagram((GUEST, rid), endpoint.handle, b"from guest") == 34
        got = endpoint.recv()
        assert (got.src, got.payload) == ((GUEST, rid), b"from guest")
    assert device.events.is_empty()


def test_a_device_speaks_for_its_guest_only(device, host):
    endpoint = Endpoint(host)
    for src in endpoint.handle, (43, 1024), (0, 0), (1, 1), (INVALID, 1024):
        assert device.send_datagram(src, endpoint.handle) in (NO_ACCESS, INVALID_ARGS)
    assert endpoint.sink.is_empty()


def test_it_needs_no_endpoints(device):
    with Sink().ours as end:
        assert device.call(DG_CREATE, handle=(0, INVALID), fds=[end]).status == INVALID_ARGS


def test_discovery_from_a_guest(device, host):
    host.discovery(1, b"HOST INFO", (2, 5000))
    request = discovery_request(LOOKUP, b"HOST INFO")
    assert device.send_datagram((GUEST, 1024), DISCOVERY, request) == 24 + len(request)
    reply = device.datagrams.recv()
    assert (reply.src, reply.dst) == (DISCOVERY, (GUEST, 1024))
    assert parse_discovery(reply.payload)[:2] == (0, (2, 5000))


def send_between(vms, first, second):
    """What becomes of a datagram from one to the other, with these lines in their definitions."""
    vms.define("a", 50, *first)
    vms.define("b", 51, *second)
    a, b = Device(vms, "a"), Device(vms, "b")
    status = a.send_datagram((50, 1024), (51, 1024), b"x")
    if status > 0:
        assert b.datagrams.recv().src == (50, 1024)
    return status


@pytest.mark.parametrize("first, second, is_open", [
    ((), (), False),
    (('vmci0.domain = "x"',), ('vmci0.domain = "x"',), True),
    (('vmci0.domain = "x"',), ('vmci0.domain = "y"',), False),
    (('vmci0.domain = "x"',), (), False),
    (('vmci0.domain = ""',), ('vmci0.domain = ""',), False),
    (('vmci0.unrestricted = "TRUE"',), ('vmci0.unrestricted = "TRUE"',), True),
    (('vmci0.unrestricted = "TRUE"',), (), False),
])
def test_neighbours(vms, first, second, is_open):
    assert send_between(vms, first, second) == (25 if is_open else DST_UNREACHABLE)


def test_a_restricted_vm(vms, host, needs_root):
    vms.define("guest", GUEST, 'openvmci.restricted = "TRUE"')
    device = Device(vms, "guest")
    with as_user(12345):
        stranger = Endpoint(vms.connect(INVALID))
    trusted = Endpoint(host)
    assert stranger.send((GUEST, 1024)) == NO_ACCESS
    assert device.send_datagram((GUEST, 1024), stranger.handle) == NO_ACCESS
    assert trusted.send((GUEST, 1024)) == 24
    assert device.send_datagram((GUEST, 1024), trusted.handle) == 24


def test_the_firewall(vms, host):
    vms.define("guest", GUEST, 'vmci.filter.enable = "TRUE"',
               'vmci.filter0.action = "deny"', 'vmci.filter0.protocol = "datagram"', 'vmci.filter0.direction = "guest"',
               'vmci.filter0.portLow = "2000"', 'vmci.filter0.portHigh = "2999"')
    device, endpoint = Device(vms, "guest"), Endpoint(host)
    for rid, status in (1999, 24), (2000, NO_ACCESS), (2999, NO_ACCESS), (3000, 24):
        assert endpoint.send((GUEST, rid)) == status
    assert device.send_datagram((GUEST, 2500), endpoint.handle) == 24


# --- Questions -----------------------------------------------------------------------------------------------

def test_a_guest_s_doorbell(device, host):
    host.post(BELL_OPEN, handle=(GUEST, 5))
    ask, fd = device.asked(BELL_OPEN), eventfd()
    assert ask.handle == (GUEST, 5)
    device.answer(ask, fds=[fd])
    reply = host.recv()
    assert reply.status == 0
    os.eventfd_write(reply.fds[0], 1)
    assert os.eventfd_read(fd) == 1
    os.close(fd)
    reply.close()


@pytest.mark.parametrize("status", [NOT_FOUND, NO_ACCESS, UNAVAILABLE, -41])
def test_the_device_says_no(device, host, status):
    for type_, fields in (BELL_OPEN, {}), (QP_ATTACH, SIZES):
        host.post(type_, handle=(GUEST, 5000), **fields)
        device.answer(device.asked(type_), status)
        assert host.recv().status == status


def test_answers_with_the_wrong_things(device, host):
    memory, life = memfd(qp_memory_size(2 * PAGE, PAGE)), socket.socketpair()
    bells = [memfd(PAGE), os.open("/dev/null", os.O_RDWR), os.dup(life[0].fileno())]
    for fd in bells:
        host.post(BELL_OPEN, handle=(GUEST, 5))
        device.answer(device.asked(BELL_OPEN), fds=[fd])
        assert host.recv().status == UNAVAILABLE
        os.close(fd)
    small = memfd(qp_memory_size(PAGE, PAGE))
    for fds in [small, life[1]], [life[1], memory], [memory, memory], [memory, eventfd()]:
        host.post(QP_ATTACH, handle=(GUEST, 5000), **SIZES)
        device.answer(device.asked(QP_ATTACH), ATTACHED, fds)
        assert host.recv().status == UNAVAILABLE
    assert host.list()
    assert device.call(BELL_OPEN, handle=(2, 4711)).status == NOT_FOUND
    os.close(memory)
    for each in life:
        each.close()


def test_no_answer(device, host):
    host.post(BELL_OPEN, handle=(GUEST, 5))
    ask = device.asked(BELL_OPEN)
    assert host.recv().status == UNAVAILABLE
    # it comes late: no harm, and its descriptor is closed
    fd = eventfd()
    device.answer(ask, fds=[fd])
    os.close(fd)
    host.post(BELL_OPEN, handle=(GUEST, 6))
    device.answer(device.asked(BELL_OPEN), NOT_FOUND)
    assert host.recv().status == NOT_FOUND


@pytest.mark.parametrize("how", ["twice", "another serial", "another type", "unasked"])
def test_answers_to_nothing(vms, device, host, how):
    if how != "unasked":
        host.post(BELL_OPEN, handle=(GUEST, 5))
        ask = device.asked(BELL_OPEN)
        if how == "twice":
            device.answer(ask, NOT_FOUND)
            device.answer(ask, NOT_FOUND)
            assert host.recv().status == NOT_FOUND
        elif how == "another serial":
            ask.serial += 1
            device.answer(ask, NOT_FOUND)
            assert host.recv().status == DST_UNREACHABLE
        else:
            ask.type = QP_ATTACH
            device.answer(ask, NOT_FOUND)
            assert host.recv().status == DST_UNREACHABLE
    else:
        device.answer(Message(BELL_OPEN, serial=1), NOT_FOUND)
    wait_readable(device)
    assert device.is_ended()
    assert "what was not asked" in vms.process.text()


def test_the_device_dies_while_it_is_asked(vms, device, host):
    askers = [vms.connect() for _ in range(5)]
    for asker in askers:
        asker.post(BELL_OPEN, handle=(GUEST, 5))
    device.asked(BELL_OPEN)
    device.close()
    assert {asker.recv().status for asker in askers} == {DST_UNREACHABLE}
    assert host.call(BELL_OPEN, handle=(GUEST, 5)).status == DST_UNREACHABLE


def test_the_asker_dies(vms, device, host):
    asker = vms.connect(INVALID)
    asker.post(BELL_OPEN, handle=(GUEST, 5))
    ask = device.asked(BELL_OPEN)
    asker.close()
    fd = eventfd()
    device.answer(ask, fds=[fd])
    os.close(fd)
    asker = vms.connect(INVALID)
    asker.post(QP_ATTACH, handle=(GUEST, 5000), **SIZES)
    ask = device.asked(QP_ATTACH)
    asker.close()
    until("the asker to be gone", lambda: len([line for line in host.list() if line.startswith("client ")]) == 2)
    ours, theirs = socket.socketpair()
    memory = memfd(qp_memory_size(2 * PAGE, PAGE))
    device.answer(ask, ATTACHED, [memory, theirs])
    theirs.close()
    os.close(memory)
    wait_readable(ours)
    assert ours.recv(1) == b""      # nobody has the pair
    ours.close()


def test_so_many_questions(vms, device):
    askers = [vms.connect() for _ in range(PIPELINE + 3)]
    for asker in askers:
        asker.post(BELL_OPEN, handle=(GUEST, 5))
    asks = [device.asked(BELL_OPEN) for _ in range(PIPELINE)]
    assert [asker.recv().status for asker in askers[PIPELINE:]] == [UNAVAILABLE] * 3
    for ask in reversed(asks):
        device.answer(ask, NOT_FOUND)
    assert {asker.recv().status for asker in askers[:PIPELINE]} <= {NOT_FOUND, UNAVAILABLE}
    askers[0].post(BELL_OPEN, handle=(GUEST, 5))
    device.answer(device.asked(BELL_OPEN), NOT_FOUND)
    assert askers[0].recv().status == NOT_FOUND


def test_two_devices_ask_for_each_other_s(vms):
    for name, cid in ("a", 50), ("b", 51):
        vms.define(name, cid, 'vmci0.domain = "x"')
    a, b = Device(vms, "a"), Device(vms, "b")
    serials = a.post(BELL_OPEN, handle=(51, 5)), b.post(BELL_OPEN, handle=(50, 5))
    fd = eventfd()
    a.answer(a.asked(BELL_OPEN), fds=[fd])
    b.answer(b.asked(BELL_OPEN), fds=[fd])
    for device, serial in zip((a, b), serials):
        reply = device.recv()
        assert (reply.serial, reply.status) == (serial, 0)
        reply.close()
    os.close(fd)


def test_a_device_that_does_not_read(vms, device, host):
    """Its sink fills: the sender is told. Its connection fills: it is dropped."""
    endpoint = Endpoint(host)
    while endpoint.send((GUEST, 1024), bytes(1000)) > 0:
        pass
    for _ in range(100000):
        try:
            device.post(BELL_OPEN, handle=(2, 4711))
        except Ended:
            break
    else:
        raise AssertionError("it was never dropped")
    assert "does not read" in until("a reason", lambda: "dropped" in vms.process.text() and vms.process.text())
    until("the context to go", lambda: endpoint.send((GUEST, 1024)) == DST_UNREACHABLE)


# --- Queue pairs ---------------------------------------------------------------------------------------------

def test_the_guest_s_pair(device, host):
    host.post(QP_ATTACH, handle=(GUEST, 5000), **SIZES)
    ask = device.asked(QP_ATTACH)
    assert (ask.handle, ask.other, ask.size0, ask.size1) == ((GUEST, 5000), (2, 0), PAGE, 2 * PAGE)
    ours, theirs = socket.socketpair()
    memory = memfd(qp_memory_size(2 * PAGE, PAGE))
    device.answer(ask, ATTACHED, [memory, theirs])
    theirs.close()
    reply = host.recv()
    assert (reply.status, reply.other[0]) == (ATTACHED, GUEST) and reply.token != NO_TOKEN
    assert len(reply.fds) == 2
    reply.close()
    wait_readable(ours)
    assert ours.recv(1) == b""
    ours.close()
    os.close(memory)


def test_a_pair_that_the_device_makes_known(device, host):
    mine = CreatedPair(device, PAGE, 2 * PAGE, context=GUEST, rid=5000, peer=2)
    theirs = AttachedPair(host, (GUEST, 5000), 2 * PAGE, PAGE)
    assert event(device).id == PEER_ATTACH
    assert mine.wait_for_attach() == 2
    assert theirs.detach() == 0
    assert event(device).id == PEER_DETACH
    assert mine.detach() == LAST_DETACH


def test_a_pair_of_the_host_for_the_guest(device, host):
    events = Events(host)
    mine = CreatedPair(host, peer=GUEST)
    theirs = AttachedPair(device, mine.handle, peer=2)
    assert mine.wait_for_attach() == GUEST
    assert events.recv().id == PEER_ATTACH
    device.close()
    assert events.recv().id == PEER_DETACH
    assert mine.is_left()
    assert theirs.map is None
    assert mine.detach() == LAST_DETACH


# --- Ends ----------------------------------------------------------------------------------------------------

def test_the_end_of_a_vm(vms, device, host):
    events, endpoint = Events(host), Endpoint(host)
    assert events.watch(GUEST) == 0
    device.close()
    assert events.recv().id == CTX_REMOVED
    assert endpoint.send((GUEST, 1024)) == DST_UNREACHABLE
    # the next VMM gets a new device, in the same context
    again = Device(vms, "guest")
    assert again.cid == GUEST
    assert endpoint.send((GUEST, 1024)) == 24


def test_a_device_survives_vmcid(vms, device, host):
    device.listen()
    endpoint, bell = Endpoint(host), Bell(device)
    pair = CreatedPair(device, context=GUEST, rid=5000, peer=2)
    theirs = AttachedPair(host, (GUEST, 5000))
    pair.wait_for_attach()
    assert endpoint.send((GUEST, 1024), b"before") == 30
    vms.restart()
    assert device.resume() == []
    assert host.resume() == []
    assert endpoint.send((GUEST, 1024), b"after") == 29
    assert [device.datagrams.recv().payload for _ in range(2)] == [b"before", b"after"]
    fd = host.open_bell(bell.handle)
    os.eventfd_write(fd, 1)
    assert bell.rung() == 1
    os.close(fd)
    assert theirs.detach() == 0
    assert pair.is_left()


def test_a_stranger_at_the_rendezvous(vms, device, host):
    """It must show the token of the device's first hello."""
    device.listen()
    vms.kill()
    vms.start()
    sock, _ = device.listener.accept()
    device.sock.close()
    device.sock = sock
    device.sock.settimeout(20)
    for token in NO_TOKEN, b"x" * 16, host.token:
        assert device.call(HELLO, size0=1, handle=(GUEST, 0), flags=DEVICE | RESUME, token=token, data=b"guest",
                           fds=device.sinks).status == NO_ACCESS
    assert device.call(HELLO, size0=1, handle=(43, 0), flags=DEVICE | RESUME, token=device.token, data=b"guest",
                       fds=device.sinks).status == NO_ACCESS
    assert device.call(HELLO, size0=1, handle=(GUEST, 0), flags=DEVICE | RESUME, token=device.token, data=b"other",
                       fds=device.sinks).status == NO_ACCESS
    assert device.greet(RESUME, device.token).handle == (GUEST, 0)


def test_datagrams_are_whole(device, host):
    endpoint = Endpoint(host)
    payload = os.urandom(69608)
    assert endpoint.send((GUEST, 1024), payload) == 69632
    packet = device.datagrams.ours.recv(1 << 17)
    assert parse_datagram(packet).payload == payload
