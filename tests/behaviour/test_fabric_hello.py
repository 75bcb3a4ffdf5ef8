# SPDX-License-Identifier: BSD-2-Clause
"""HELLO: contexts, who may join them, and what comes before it. doc/protocol-fabric.md, 3."""

import os
import socket

import pytest
from testbed.fabric import (ADD, ALREADY_EXISTS, BELL_CREATE, BELL_DESTROY, BELL_OPEN, CTX_REMOVED, DEVICE,
                            DG_CREATE, DG_DESTROY, DG_SEND, EVENTS, GROUP_CREATE, GROUP_DESTROY, GROUP_MEMBER, HELLO,
                            HOLD, HOST, INVALID, INVALID_ARGS, LIST, LOOKUP, NAME, NO_ACCESS, NO_TOKEN, PAGE, PRIV,
                            QP_ATTACH, QP_CREATE, QP_DETACH, QP_HOLD, REPLY, RESTRICTED, RESUME, SHM_ATTACH,
                            SHM_CREATE, SHM_DETACH, SHM_HOLD, SHM_QUERY, TRUSTED, WATCH, Ended, Events, Message,
                            Refused, Sink, as_user, datagram, discovery_request, eventfd, memfd, qp_memory_size,
                            wait_readable)
from testbed.process import until


def refused(vmcid, cid, **options):
    with pytest.raises(Refused) as caught:
        vmcid.connect(cid, **options)
    return caught.value.status


def test_host(vmcid):
    client = vmcid.connect(None)
    reply = client.hello(HOST)
    assert reply.handle == (HOST, 0)
    assert reply.size0 == 1
    assert reply.token != NO_TOKEN
    assert not reply.data
    assert reply.flags == (TRUSTED if os.geteuid() == 0 else reply.flags)


def test_any_number_of_members_of_the_host(vmcid):
    clients = [vmcid.connect() for _ in range(20)]
    assert {client.cid for client in clients} == {HOST}


def test_new_contexts_are_new(vmcid):
    clients = [vmcid.connect(INVALID) for _ in range(20)]
    cids = {client.cid for client in clients}
    assert len(cids) == 20
    assert all(0x10000 <= cid < INVALID for cid in cids)
    assert len({client.token for client in clients}) == 20


@pytest.mark.parametrize("cid", [16, 17, 1066538581, 0x7fffffff, 0xfffffffe])
def test_a_wished_context(vmcid, cid):
    assert vmcid.connect(cid).cid == cid


@pytest.mark.parametrize("cid", [0, 1, *range(3, 16)])
def test_reserved_contexts(vmcid, cid):
    assert refused(vmcid, cid) == INVALID_ARGS


def test_the_same_user_joins(vmcid):
    first = vmcid.connect(4711)
    second = vmcid.connect(4711)
    assert first.cid == second.cid == 4711


def test_a_context_is_there_as_long_as_a_member(vmcid, host):
    first, second = vmcid.connect(4711), vmcid.connect(4711)
    events = Events(host)
    assert events.watch(4711) == 0
    first.close()
    assert second.list()
    assert events.is_empty()
    second.close()
    event = events.recv()
    assert (event.id, event.context) == (CTX_REMOVED, 4711)
    assert not [line for line in host.list() if line.startswith("context 4711 ")]
    assert vmcid.connect(4711).cid == 4711


def test_one_that_only_holds(vmcid, host):
    """Its context is there as long as it, whoever else comes and goes."""
    holder = vmcid.connect(4711, flags=HOLD)
    assert holder.granted & HOLD
    assert not host.granted & HOLD
    events = Events(host)
    assert events.watch(4711) == 0
    other = vmcid.connect(4711)
    assert not other.granted & HOLD
    other.close()
    assert host.list() and events.is_empty()
    assert vmcid.connect(4711).list()
    copy = holder.sock.dup()
    holder.close()
    vmcid.clients.pop().close()
    assert host.list() and events.is_empty()
    copy.send(Message(HELLO, serial=9, size0=1, handle=(4711, 0)).pack())
    event = events.recv()
    assert (event.id, event.context) == (CTX_REMOVED, 4711)
    copy.close()
    assert "it was to hold its context and no more, and said HELLO" in vmcid.process.text()


def test_one_that_holds_and_asks_in_one_breath(vmcid):
    client = vmcid.connect(None)
    client.post(HELLO, size0=1, handle=(HOST, 0), flags=HOLD)
    client.post(LIST)
    reply = client.recv()
    assert (reply.type, reply.status, reply.flags & HOLD) == (HELLO, 0, HOLD)
    with pytest.raises(Ended):
        client.recv()


def test_contexts_of_other_users(vmcid, needs_root):
    vmcid.connect(4711)
    with as_user(12345):
        assert refused(vmcid, 4711) == NO_ACCESS
        own = vmcid.connect(4712)
        assert not own.granted & TRUSTED
        assert vmcid.connect(4712).cid == 4712
        assert vmcid.connect(HOST).cid == HOST
    with as_user(12346):
        assert refused(vmcid, 4712) == NO_ACCESS


def test_restricted(vmcid):
    client = vmcid.connect(INVALID, flags=RESTRICTED)
    assert client.granted & RESTRICTED
    assert not vmcid.connect(INVALID).granted & RESTRICTED
    # joining: as it is
    assert vmcid.connect(client.cid).granted & RESTRICTED


def test_the_host_is_never_restricted(vmcid):
    assert refused(vmcid, HOST, flags=RESTRICTED) == INVALID_ARGS


def test_hello_twice(vmcid, host):
    assert host.call(HELLO, size0=1, handle=(HOST, 0)).status == INVALID_ARGS
    assert host.call(HELLO, size0=1, handle=(INVALID, 0)).status == INVALID_ARGS
    assert host.list()


def test_hello_again_after_a_refusal(vmcid):
    client = vmcid.connect(None)
    assert client.call(HELLO, size0=1, handle=(5, 0)).status == INVALID_ARGS
    assert client.hello(HOST).handle == (HOST, 0)


def test_versions(vmcid):
    client = vmcid.connect(None)
    client.post(HELLO, size0=0, handle=(HOST, 0))
    with pytest.raises(Ended):
        client.recv()
        client.recv()
    # a newer client gets what we speak
    for version in 2, 1 << 63:
        client = vmcid.connect(None)
        assert client.ok(HELLO, size0=version, handle=(HOST, 0)).size0 == 1


def test_devices_do_not_come_this_way(vmcid):
    client = vmcid.connect(None)
    sinks = [Sink(), Sink()]
    for cid in HOST, 42, INVALID:
        reply = client.call(HELLO, size0=1, handle=(cid, 0), flags=DEVICE, fds=sinks)
        assert reply.status == NO_ACCESS
        reply = client.call(HELLO, size0=1, handle=(cid, 0), flags=DEVICE | RESUME, token=b"x" * 16, fds=sinks)
        assert reply.status == NO_ACCESS
    for sink in sinks:
        sink.close()
    assert client.hello(HOST).handle == (HOST, 0)


@pytest.mark.parametrize("label", [b"", b"x" * 64, b"two\nlines\x1b[31m", bytes(64), b"\xff" * 64, b"%s%n%99d"])
def test_labels(vmcid, host, label):
    client = vmcid.connect(label=label)
    client.send_raw(b"")        # nonsense: vmcid speaks of it
    with pytest.raises(Ended):
        client.recv()
    assert host.list()
    text = until("a line in the log", lambda: vmcid.process.text() if "dropped" in vmcid.process.text() else None)
    assert "\x1b" not in text and "\nlines" not in text


def test_a_wrong_token(vmcid):
    client = vmcid.connect(4711)
    other = vmcid.connect(None)
    reply = other.call(HELLO, size0=1, handle=(4711, 0), flags=RESUME, token=b"x" * 16)
    assert reply.status == NO_ACCESS
    reply = other.call(HELLO, size0=1, handle=(4712, 0), flags=RESUME, token=client.token)
    assert reply.status == NO_ACCESS
    reply = other.call(HELLO, size0=1, handle=(4711, 0), flags=RESUME, token=client.token)
    assert reply.status == 0


BEFORE = {
    DG_CREATE: dict(handle=(0, INVALID), fds=1), DG_DESTROY: dict(handle=(2, 1024)),
    DG_SEND: dict(data=datagram((2, 1024), (2, 1024))), EVENTS: dict(fds=1), WATCH: dict(handle=(42, 0)),
    BELL_CREATE: dict(handle=(0, INVALID), fds="bell"), BELL_DESTROY: dict(handle=(2, 1024)),
    BELL_OPEN: dict(handle=(2, 1024)),
    QP_CREATE: dict(handle=(INVALID, INVALID), other=(INVALID, 0), size0=PAGE, size1=PAGE, fds="pair"),
    QP_ATTACH: dict(handle=(2, 1024), other=(INVALID, 0), size0=PAGE, size1=PAGE),
    QP_HOLD: dict(handle=(2, 1024), other=(INVALID, 0), size0=PAGE, size1=PAGE, token=b"x" * 16),
    QP_DETACH: dict(handle=(2, 1024)), SHM_CREATE: dict(size0=PAGE, handle=(0, INVALID), fds="memory"),
    SHM_QUERY: dict(handle=(2, 1024)), SHM_ATTACH: dict(handle=(2, 1024)),
    SHM_HOLD: dict(handle=(2, 1024), size0=PAGE, token=b"x" * 16, fds="memory"), SHM_DETACH: dict(handle=(2, 1024)),
    NAME: dict(data=discovery_request(LOOKUP, b"name")), PRIV: dict(handle=(2, 1024), other=(2, 0), flags=ADD, size0=1),
    GROUP_CREATE: {}, GROUP_DESTROY: dict(handle=(2, 1024)),
    GROUP_MEMBER: dict(handle=(2, 1024), other=(2, 0), flags=ADD), LIST: {},
}


@pytest.mark.parametrize("type_", BEFORE)
def test_nothing_before_hello(vmcid, type_):
    client = vmcid.connect(None)
    fields, made = dict(BEFORE[type_]), []
    kind = fields.pop("fds", None)
    if kind == 1:
        made = [Sink()]
    elif kind == "bell":
        made = [eventfd()]
    elif kind == "memory":
        made = [memfd(PAGE)]
    elif kind == "pair":
        made = [memfd(qp_memory_size(PAGE, PAGE)), *socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)]
    assert client.call(type_, fds=made[:2], **fields).status == INVALID_ARGS
    assert client.hello(HOST).handle == (HOST, 0)
    for each in made:
        os.close(each) if isinstance(each, int) else each.close()


def test_serials_are_the_client_s(vmcid, host):
    for serial in 0, 1, 0xffffffff, 0x80000000, 5, 5, 5:
        host.send(Message(LIST, serial=serial))
        reply = host.recv()
        assert (reply.type, reply.kind, reply.serial) == (LIST, REPLY, serial)


def test_replies_come_in_order(vmcid, host):
    serials = [host.post(WATCH, handle=(1000 + n, 0)) for n in range(64)]
    assert [host.recv().serial for _ in serials] == serials
    assert host.call(WATCH, handle=(1000, 0)).status == ALREADY_EXISTS


def test_who_says_nothing_is_dropped(vmcid):
    silent, talkative = vmcid.connect(None), vmcid.connect(None)
    talkative.hello(HOST)
    wait_readable(silent)
    assert silent.is_ended()
    assert not talkative.is_ended()
    assert "HELLO" in vmcid.process.text()
