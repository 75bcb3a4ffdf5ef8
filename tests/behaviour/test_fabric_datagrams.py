# SPDX-License-Identifier: BSD-2-Clause
"""Datagrams between programs, and the queue of each endpoint. doc/protocol-fabric.md, 6."""

import contextlib
import os
import socket

import pytest
from testbed.fabric import (ALREADY_EXISTS, DG_CREATE, DG_DESTROY, DG_HEADER, DG_MAX, DG_SEND, DISCOVERY,
                            DST_UNREACHABLE, INVALID, INVALID_ARGS, INVALID_RESOURCE, LOOKUP, NOT_FOUND, NO_ACCESS,
                            NO_RESOURCES, NO_TOKEN, QUEUE_MAX, REGISTER, Endpoint, Refused, Sink, as_user, datagram,
                            discovery_request, eventfd, parse_discovery)
from testbed.process import until


def status_of(client, rid):
    with pytest.raises(Refused) as caught:
        Endpoint(client, rid)
    return caught.value.status


def test_an_endpoint(host):
    endpoints = [Endpoint(host) for _ in range(10)]
    assert all(each.handle[0] == 2 and each.handle[1] >= 1024 for each in endpoints)
    assert len({each.handle for each in endpoints}) == 10
    assert len({each.token for each in endpoints} - {NO_TOKEN}) == 10


def test_resource_ids_are_used_again_late(host):
    first = Endpoint(host)
    assert first.destroy() == 0
    assert all(Endpoint(host).handle != first.handle for _ in range(100))


@pytest.mark.parametrize("rid", [1024, 5000, 0xfffffffe])
def test_a_wished_id(host, soft, rid):
    assert Endpoint(host, rid).handle == (2, rid)
    assert Endpoint(soft, rid).handle == (soft.cid, rid)
    assert status_of(host, rid) == ALREADY_EXISTS


def test_reserved_ids(vmcid, host, soft):
    for rid in 0, 1:
        assert status_of(host, rid) in (NO_ACCESS, ALREADY_EXISTS)
    if os.geteuid() == 0:
        assert Endpoint(host, 500).handle == (2, 500)
        with as_user(12345):
            stranger = vmcid.connect(INVALID)
            for rid in 0, 1, 2, 500, 1023:
                assert status_of(stranger, rid) == NO_ACCESS


@pytest.mark.parametrize("size", [0, 1, 7, 8, 9, 4096, DG_MAX - DG_HEADER - 1, DG_MAX - DG_HEADER])
def test_sizes(host, soft, size):
    a, b = Endpoint(host), Endpoint(soft)
    payload = os.urandom(size)
    assert a.send(b.handle, payload) == DG_HEADER + size
    got = b.recv()
    assert (got.src, got.dst, got.payload) == (a.handle, b.handle, payload)
    assert b.sink.is_empty()


def test_all_kinds_of_neighbours(vmcid, host, soft):
    other = vmcid.connect(INVALID)
    ends = [Endpoint(client) for client in (host, host, soft, other)]
    for a in ends:
        for b in ends:
            assert a.send(b.handle, b"hello") == 29
            assert b.recv().src == a.handle


def test_order_is_kept(host, soft):
    a, b = Endpoint(host), Endpoint(soft)
    for n in range(1000):
        if n >= 50:
            assert b.recv().payload == (n - 50).to_bytes(4, "little")
        assert a.send(b.handle, n.to_bytes(4, "little")) == 28
    assert [int.from_bytes(b.recv().payload, "little") for _ in range(50)] == list(range(950, 1000))


def test_where_nobody_is(host, soft):
    a = Endpoint(host)
    assert a.send((4711, 1024)) == DST_UNREACHABLE
    assert a.send((0, 1024)) == DST_UNREACHABLE
    assert a.send((0, 1)) == DST_UNREACHABLE
    for rid in 0, 2, 1024:
        assert a.send((1, rid)) == DST_UNREACHABLE
    assert a.send((INVALID, 1024)) < 0
    assert a.send((soft.cid, 1024)) == INVALID_RESOURCE
    assert a.send((soft.cid, INVALID)) < 0
    assert a.send((2, 0)) < 0
    assert a.send((2, 5000)) == INVALID_RESOURCE
    assert a.sink.is_empty()


def test_sources(vmcid, host, soft):
    a, foreign, neighbour = Endpoint(host), Endpoint(soft), Endpoint(vmcid.connect())

    def send(src):
        return host.call(DG_SEND, data=datagram(a.handle, src, b"x")).status
    assert send(a.handle) == 25
    for src in foreign.handle, neighbour.handle:
        assert send(src) == NO_ACCESS
    for src in (2, 4711), (2, INVALID), (2, 0), (INVALID, INVALID), (0, 0):
        assert send(src) in (INVALID_ARGS, NO_ACCESS)
    a.recv()
    assert a.sink.is_empty()


def test_headers_that_lie_about_the_size(host):
    a = Endpoint(host)
    for size in 0, 4, 6, 1 << 31, 1 << 32, (1 << 64) - 1, (1 << 64) - 19:
        assert host.call(DG_SEND, data=datagram(a.handle, a.handle, b"12345", size)).status == INVALID_ARGS
    assert a.sink.is_empty()


def test_the_edge_of_the_queue(host, soft):
    a, b = Endpoint(host), Endpoint(soft)
    assert a.send(b.handle, bytes(DG_MAX - DG_HEADER)) == DG_MAX
    # what would make 139264 bytes is too much
    assert a.send(b.handle, bytes(DG_MAX - DG_HEADER)) == NO_RESOURCES
    assert a.send(b.handle, bytes(DG_MAX - DG_HEADER - 1)) == DG_MAX - 1
    assert a.send(b.handle) == NO_RESOURCES
    assert len(b.recv().payload) == DG_MAX - DG_HEADER
    assert a.send(b.handle, bytes(DG_MAX - DG_HEADER)) == DG_MAX
    assert len(b.recv().payload) == DG_MAX - DG_HEADER - 1
    assert len(b.recv().payload) == DG_MAX - DG_HEADER
    assert b.sink.is_empty()


def test_a_full_queue_of_small_ones(host, soft):
    a, b = Endpoint(host), Endpoint(soft)
    sent = 0
    while a.send(b.handle, sent.to_bytes(8, "little")) > 0:
        sent += 1
    assert sent == (QUEUE_MAX - 1) // 32
    # each that is taken makes room for one
    for n in range(200):
        assert b.recv().payload == n.to_bytes(8, "little")
        assert a.send(b.handle, (sent + n).to_bytes(8, "little")) == 32
        assert a.send(b.handle, bytes(8)) == NO_RESOURCES
    for n in range(200, sent + 200):
        assert b.recv().payload == n.to_bytes(8, "little")
    assert b.sink.is_empty()


def test_a_full_queue_harms_nobody_else(host, soft):
    a, full, free = Endpoint(host), Endpoint(soft), Endpoint(soft)
    while a.send(full.handle, bytes(1000)) > 0:
        pass
    assert a.send(full.handle, bytes(1000)) == NO_RESOURCES
    assert a.send(free.handle, b"x") == 25
    assert free.recv().payload == b"x"


def test_destroyed(host, soft):
    a, b = Endpoint(host), Endpoint(soft)
    assert a.send(b.handle, b"before") > 0
    assert soft.call(DG_DESTROY, handle=b.handle).status == 0
    assert a.send(b.handle, b"after") == INVALID_RESOURCE
    # what was delivered before is still there
    assert b.recv().payload == b"before"
    assert soft.call(DG_DESTROY, handle=b.handle).status == NOT_FOUND
    assert soft.call(DG_SEND, data=datagram(a.handle, b.handle)).status == INVALID_ARGS
    assert Endpoint(soft, b.handle[1]).handle == b.handle


def test_destroying_what_is_not_one_s_own(vmcid, host, soft):
    b, neighbour = Endpoint(soft), Endpoint(vmcid.connect())
    assert host.call(DG_DESTROY, handle=b.handle).status in (NO_ACCESS, NOT_FOUND)
    assert host.call(DG_DESTROY, handle=neighbour.handle).status == NO_ACCESS
    assert host.call(DG_DESTROY, handle=(2, 4711)).status == NOT_FOUND
    assert host.call(DG_DESTROY, handle=(2, 0)).status < 0
    assert host.call(DG_DESTROY, handle=DISCOVERY).status < 0
    assert Endpoint(host).send(b.handle, b"x") == 25


def test_a_receiver_that_closed_its_end(host, soft):
    a, b = Endpoint(host), Endpoint(soft)
    b.sink.ours.close()
    b.sink.theirs.close()
    assert a.send(b.handle, b"x") < 0
    assert a.send(b.handle, b"x") < 0


def test_things_that_are_no_sink(host):
    pairs = [socket.socketpair(socket.AF_UNIX, kind) for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM)]
    with contextlib.ExitStack() as stack:
        wrong = [stack.enter_context(sock) for pair in pairs for sock in pair]
        wrong.append(stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)))     # alone
        wrong.append(stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM)))
        wrong.append(stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)))
        wrong += [stack.enter_context(open(path, mode)) for path, mode in
                  (("/dev/null", "wb"), ("/dev/zero", "rb"), ("/proc/self/mem", "rb"))]
        listener = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
        listener.bind("")
        listener.listen()
        wrong.append(listener)
        for each in wrong:
            assert host.call(DG_CREATE, handle=(0, INVALID), fds=[each]).status == INVALID_ARGS
        for fd in eventfd(), os.memfd_create("x"), os.open("/", os.O_PATH):
            assert host.call(DG_CREATE, handle=(0, INVALID), fds=[fd]).status == INVALID_ARGS
            os.close(fd)
    assert Endpoint(host).handle


def test_a_sink_of_another_user(vmcid, host, needs_root):
    with as_user(12345):
        sink = Sink()
    assert host.call(DG_CREATE, handle=(0, INVALID), fds=[sink]).status == INVALID_ARGS
    sink.close()


def test_the_connection_itself_as_a_sink(host):
    """vmcid would hold both ends of it, and never hear that the client has gone."""
    assert host.call(DG_CREATE, handle=(0, INVALID), fds=[host]).status == INVALID_ARGS


def test_one_sink_for_two_endpoints(host):
    sink = Sink()
    first, second = Endpoint(host, sink=sink), Endpoint(host, sink=sink)
    assert first.send(second.handle, b"x") == 25
    assert second.recv().dst == second.handle


def test_an_endpoint_dies_with_its_client(vmcid, host, soft):
    a, b = Endpoint(host), Endpoint(soft)
    handle = b.handle
    assert a.send(handle, b"x") == 25
    soft.close()
    until("its context to be gone", lambda: a.send(handle, b"x") == DST_UNREACHABLE)


def test_others_of_the_same_context_stay(vmcid, host):
    neighbour = vmcid.connect()
    mine, gone = Endpoint(host), Endpoint(neighbour)
    handle = gone.handle
    neighbour.close()
    until("the endpoint to be gone", lambda: mine.send(handle) == INVALID_RESOURCE)
    assert mine.send(mine.handle, b"x") == 25


def test_discovery_by_datagrams(host, soft):
    a, server = Endpoint(soft), Endpoint(host)

    def ask(action, name, handle=(INVALID, INVALID)):
        request = discovery_request(action, name, handle)
        assert a.send(DISCOVERY, request) == DG_HEADER + len(request)
        reply = a.recv()
        assert (reply.src, reply.dst) == (DISCOVERY, a.handle)
        return parse_discovery(reply.payload)[:2]
    assert ask(LOOKUP, b"HOST INFO")[0] == NOT_FOUND
    assert host.discovery(REGISTER, b"HOST INFO", server.handle)[0] == 0
    assert ask(LOOKUP, b"HOST INFO") == (0, server.handle)
    assert ask(REGISTER, b"mine", a.handle)[0] == 0
    assert host.lookup(b"mine") == a.handle


def test_discovery_does_not_understand(host):
    a = Endpoint(host)
    good = discovery_request(LOOKUP, b"x" * 20)
    for wrong in b"", b"x", good[:19], good[:30], good + bytes(300), good[:16] + b"\xff" * 4 + good[20:]:
        status = a.send(DISCOVERY, wrong)
        if status >= 0:         # then there is an answer, an error
            assert parse_discovery(a.recv().payload.ljust(24, b"\0"))[0] < 0
    assert a.sink.is_empty()
