# SPDX-License-Identifier: BSD-2-Clause
"""Quotas at their edge, and thousands of handles. The numbers: src/proto/limits.h."""

import contextlib
import os
import resource
import socket
import time

import pytest
from conftest import finish
from testbed.fabric import (ADD, BELL_CREATE, BELL_DESTROY, BELL_OPEN, DG_CREATE, DG_DESTROY, DG_SEND, GROUP_CREATE,
                            GROUP_DESTROY, GROUP_MEMBER, INVALID, NO_RESOURCES, PAGE, QP_CREATE, QP_DETACH, REGISTER,
                            REMOVE_ALL, SHM_CREATE, SHM_DETACH, STREAM_CONNECT, STREAM_OPEN, UNREGISTER, WATCH,
                            AttachedPair, Bell, Broker, CreatedPair, Device, Ended, Endpoint, Refused, Region, Sink,
                            as_user, datagram, eventfd, is_readable, memfd, qp_memory_size)
from testbed.process import until

ENDPOINTS, BELLS, REGIONS, NAMES, GROUPS, MEMBERS, GRANTS, WATCHES = 4096, 4096, 1024, 64, 64, 1024, 64, 2000
CLIENTS = 1024
MIB, GIB = 1 << 20, 1 << 30


@pytest.fixture
def many_descriptors():
    """vmcid gives a user a part of what it may open, which depends on the machine."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 20000:
        pytest.skip(f"needs a hard limit of 20000 open files, this one is {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 20000), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def edge(make, most, unmake):
    """make() succeeds most times, then not; one less makes room for one."""
    made = []
    for _ in range(most):
        reply = make()
        assert reply.status >= 0, f"{len(made)} of {most}: {reply.status}"
        made.append(reply.handle)
    assert make().status == NO_RESOURCES
    assert make().status == NO_RESOURCES
    assert unmake(made.pop(most // 2)) >= 0
    made.append(make().handle)
    assert make().status == NO_RESOURCES
    assert len(set(made)) == most
    return made


def test_endpoints(vmcid, host, soft, many_descriptors):
    sink = Sink()
    made = edge(lambda: soft.call(DG_CREATE, handle=(0, INVALID), fds=[sink]), ENDPOINTS,
                lambda handle: soft.call(DG_DESTROY, handle=handle).status)
    # others still can, and all of these work
    sender = Endpoint(host)
    for n, handle in enumerate(made):
        assert sender.send(handle, n.to_bytes(4, "little")) == 28
        got = sink.recv()
        assert (got.dst, int.from_bytes(got.payload, "little")) == (handle, n)
    assert len([line for line in host.list() if line.startswith(f"datagram {soft.cid}:")]) == ENDPOINTS
    sink.close()


def test_doorbells(soft, host, many_descriptors):
    fd = eventfd()
    made = edge(lambda: soft.call(BELL_CREATE, handle=(0, INVALID), fds=[fd]), BELLS,
                lambda handle: soft.call(BELL_DESTROY, handle=handle).status)
    for handle in made:
        reply = host.call(BELL_OPEN, handle=handle)
        os.eventfd_write(reply.fds[0], 1)
        reply.close()
    assert os.eventfd_read(fd) == len(made)
    os.close(fd)


def test_regions(soft, host, many_descriptors):
    fd = memfd(PAGE)
    edge(lambda: soft.call(SHM_CREATE, handle=(0, INVALID), size0=PAGE, fds=[fd]), REGIONS,
         lambda handle: soft.call(SHM_DETACH, handle=handle).status)
    os.close(fd)


def test_groups_and_members(soft, host):
    made = edge(lambda: soft.call(GROUP_CREATE), GROUPS, lambda handle: soft.call(GROUP_DESTROY, handle=handle).status)

    def add(n):
        return soft.call(GROUP_MEMBER, flags=ADD, handle=made[0], other=(100000 + n, 0)).status
    assert {add(n) for n in range(MEMBERS)} == {0}
    assert add(MEMBERS) == NO_RESOURCES
    assert soft.call(GROUP_MEMBER, flags=ADD, handle=made[1], other=(100000, 0)).status == 0


def test_names(soft, host):
    def register(n):
        return soft.discovery(REGISTER, b"name %d" % n, (soft.cid, 5000))[0]
    assert {register(n) for n in range(NAMES)} == {0}
    assert register(NAMES) == NO_RESOURCES
    assert host.discovery(REGISTER, b"name %d" % NAMES, (2, 5000))[0] == 0
    assert soft.discovery(UNREGISTER, b"name 7")[0] == 0
    assert register(NAMES + 1) == 0
    assert register(NAMES + 2) == NO_RESOURCES
    assert soft.lookup(b"name %d" % (NAMES - 1)) == (soft.cid, 5000)


def test_grants(soft):
    target = Endpoint(soft)

    def grant(n):
        return soft.priv(ADD, target.handle, (100000 + n, 0), 1 << 4)
    statuses = [grant(n) for n in range(GRANTS + 5)]
    room = statuses.index(NO_RESOURCES)
    assert GRANTS - 1 <= room <= GRANTS         # the owner has an entry of its own
    assert set(statuses[:room]) == {0} and set(statuses[room:]) == {NO_RESOURCES}
    assert soft.priv(REMOVE_ALL, target.handle, (100000, 0)) == 0
    assert grant(1000) == 0
    assert grant(1001) == NO_RESOURCES


def test_watches(soft):
    def watch(n, flags=0):
        return soft.call(WATCH, flags=flags, handle=(100000 + n, 0)).status
    assert {watch(n) for n in range(WATCHES)} == {0}
    assert watch(WATCHES) == NO_RESOURCES
    assert watch(5, 0x10) == 0
    assert watch(WATCHES) == 0
    assert watch(WATCHES + 1) == NO_RESOURCES


def test_ring_bytes(soft, host):
    def create(client, produce, consume):
        return CreatedPair(client, produce, consume)
    first, second = create(soft, 64 * MIB, 32 * MIB), create(soft, 16 * MIB, 16 * MIB - 1)
    with pytest.raises(Refused) as caught:
        create(soft, 2, 0)
    assert caught.value.status == NO_RESOURCES
    last = create(soft, 1, 0)
    with pytest.raises(Refused):
        create(soft, 1, 0)
    assert create(host, 64 * MIB, 64 * MIB)     # an account of its own
    assert second.detach() == 3
    assert create(soft, 16 * MIB, 16 * MIB - 1)
    assert last.detach() == 3 and first.detach() == 3


def test_region_bytes(vmcid, host):
    regions = [Region(host, GIB) for _ in range(4)]
    with pytest.raises(Refused) as caught:
        Region(host, 1)
    assert caught.value.status == NO_RESOURCES
    with pytest.raises(Refused):
        Region(vmcid.connect(INVALID), 1)       # of the same user
    assert regions.pop().detach() == 3
    assert Region(host, 1)


def test_connections_of_a_user(vmcid, host, needs_root, many_descriptors):
    def connect(n):
        with as_user(12345):
            return vmcid.connect(None if n % 2 else INVALID)
    clients = [connect(n) for n in range(CLIENTS)]
    with pytest.raises(Ended):
        connect(0)
    with as_user(12346):
        assert vmcid.connect().list()
    assert host.list()
    clients[0].close()
    until("room for one", lambda: not isinstance(attempt(connect), Ended))


def attempt(connect):
    try:
        return connect(0)
    except (Ended, OSError) as error:
        return Ended(error)


def test_descriptors_of_a_user(vmcid, host, needs_root, many_descriptors):
    """One user cannot take all that vmcid may open."""
    with as_user(12345):
        clients, taken = [vmcid.connect(INVALID) for _ in range(10)], 0
        sink = Sink()
        for client in clients:
            for _ in range(ENDPOINTS):
                status = client.call(DG_CREATE, handle=(0, INVALID), fds=[sink]).status
                if status < 0:
                    break
                taken += 1
            assert status == NO_RESOURCES
    sink.close()
    assert taken < 10 * ENDPOINTS
    # root, and others, still have room
    fd = eventfd()
    assert host.call(BELL_CREATE, handle=(0, INVALID), fds=[fd]).status == 0
    os.close(fd)
    with as_user(12346):
        other = vmcid.connect(INVALID)
    assert Endpoint(other).handle


@pytest.fixture
def used_up(directory, needs_root):
    """A vmcid that may open few files; and four users who can take all that it has for clients."""
    broker = Broker(directory, wrap=["prlimit", "--nofile=1024:1024"])
    others = []

    def take():
        fd = eventfd()
        for uid in range(12345, 12350):
            with as_user(uid):
                others.append(broker.connect())
            while others[-1].call(BELL_CREATE, handle=(0, INVALID), fds=[fd]).status >= 0:
                pass
        os.close(fd)

    def give_back():
        for client in others:
            client.close()
        others.clear()
        until("the descriptors to be back", lambda: attempt_bell(broker) is None)
    broker.take, broker.give_back = take, give_back
    yield broker
    finish(broker)
    assert "dropped" not in broker.process.text()


def attempt_bell(broker):
    with contextlib.closing(broker.connect()) as client:
        try:
            Bell(client)
        except Refused as error:
            return error
    return None


def test_others_use_up_all_descriptors(used_up):
    """That ends requests of third parties, with a code and without a trace; not their connections."""
    owner, client = used_up.connect(INVALID), used_up.connect(INVALID)
    bell, pair, region = Bell(owner), CreatedPair(owner), Region(owner, PAGE)
    used_up.take()
    for _ in range(3):
        assert client.call(BELL_OPEN, handle=bell.handle).status == NO_RESOURCES
        with pytest.raises(Refused) as caught:
            AttachedPair(client, pair.handle)
        assert caught.value.status == NO_RESOURCES
        with pytest.raises(Refused) as caught:
            Region(client, handle=region.handle)
        assert caught.value.status == NO_RESOURCES
        # what needs none is done, before and after
        assert client.list() and owner.list()
    used_up.give_back()
    os.close(client.open_bell(bell.handle))
    assert AttachedPair(client, pair.handle).detach() >= 0
    assert Region(client, handle=region.handle).detach() >= 0
    assert pair.detach() >= 0 and region.detach() >= 0


def test_others_use_up_the_descriptors_of_a_device(used_up):
    """A question with a descriptor cannot be put to it, and it cannot be given one: it goes on."""
    used_up.define("vm", 42)
    device = Device(used_up, "vm")
    client = used_up.connect()
    listener, port = client.listener()
    used_up.take()
    sock = client.new_socket()
    assert client.connect((42, 80), sock) == NO_RESOURCES
    assert device.call(STREAM_OPEN, handle=(42, 1000), other=(2, port)).status == NO_RESOURCES
    assert device.call(STREAM_OPEN, handle=(42, 1000), other=(42, 80)).status == NO_RESOURCES
    assert not is_readable(device) and not is_readable(listener)
    used_up.give_back()
    reply = device.call(STREAM_OPEN, handle=(42, 1000), other=(2, port))
    assert reply.status == 0
    reply.close()
    client.post(STREAM_CONNECT, handle=(INVALID, INVALID), other=(42, 80), fds=[client.new_socket()])
    ask = device.asked(STREAM_CONNECT)
    device.answer(ask)
    ask.close()
    assert client.recv().status == 0
    for each in sock, listener:
        each.close()
    device.close()
    used_up.undefine()


def test_thousands_of_queue_pairs(vmcid, soft, many_descriptors):
    memory = memfd(qp_memory_size(PAGE, PAGE))
    life = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)

    def create():
        return soft.ok(QP_CREATE, handle=(INVALID, INVALID), other=(INVALID, 0), size0=PAGE, size1=PAGE,
                       fds=[memory, life[1]]).handle
    handles = [create() for _ in range(2000)]
    assert len(set(handles)) == 2000
    assert len([line for line in soft.list() if line.startswith("pair ")]) == 2000
    for handle in handles[::2]:
        assert soft.call(QP_DETACH, handle=handle).status == 3
    handles = handles[1::2] + [create() for _ in range(1000)]
    assert len(set(handles)) == 2000
    os.close(memory)
    for each in life:
        each.close()


def test_thousands_die_at_once(vmcid, host, many_descriptors):
    """What is said at the end of each test: nothing is left."""
    doomed = vmcid.connect(INVALID)
    sink, fd, memory = Sink(), eventfd(), memfd(PAGE)
    for _ in range(2000):
        doomed.ok(DG_CREATE, handle=(0, INVALID), fds=[sink])
        doomed.ok(BELL_CREATE, handle=(0, INVALID), fds=[fd])
    for _ in range(500):
        doomed.ok(SHM_CREATE, handle=(0, INVALID), size0=PAGE, fds=[memory])
    cid = doomed.cid
    doomed.close()
    until("all to be gone", lambda: not [line for line in host.list() if f" {cid}" in line])
    sink.close()
    os.close(fd)
    os.close(memory)


def test_what_is_refused_costs_nothing(host):
    own = Endpoint(host)
    for _ in range(3000):
        assert host.call(DG_SEND, data=datagram((2, 4711), own.handle)).status < 0


def test_vmcid_has_no_descriptors_left(directory):
    """Who connects then waits, or is turned away; who is there goes on; and it passes."""
    broker = Broker(directory, wrap=["prlimit", "--nofile=256:256"])
    neighbour = broker.connect()
    endpoint = Endpoint(neighbour)
    crowd, failures = [], 0
    while len(crowd) < 600 and failures < 50:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        sock.setblocking(False)
        try:
            sock.connect(str(broker.path))
            crowd.append(sock)
        except BlockingIOError:     # the backlog is full
            sock.close()
            failures += 1
            time.sleep(0.02)
    assert 150 < len(crowd) < 600
    until("it to be out of descriptors", lambda: "Too many open files" in broker.process.text())
    for n in range(100):
        assert endpoint.send(endpoint.handle, b"x") == 25
        endpoint.recv()
    for sock in crowd:
        sock.close()
    assert until("room again", lambda: not isinstance(attempt(lambda _: broker.connect()), Ended))
    finish(broker)
    assert broker.process.text().count("Too many open files") < 100
