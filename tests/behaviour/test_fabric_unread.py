# SPDX-License-Identifier: BSD-2-Clause
"""Clients that do not read: limited, then dropped, with a reason; nobody else waits. doc/protocol-fabric.md, 4."""

import pytest
from testbed.fabric import (EVENT_QUEUE_MAX, LIST, PEER_ATTACH, PEER_DETACH, PIPELINE, WATCH, AttachedPair,
                            CreatedPair, Ended, Endpoint, Events, Message)
from testbed.process import until


def flood(client, message, most=100000):
    """Asks and asks; returns how often that was possible before the connection ended."""
    packet = message.pack()
    for n in range(most):
        try:
            client.send_raw(packet)
        except Ended:
            return n
    raise AssertionError(f"{most} requests without a look at the replies")


@pytest.mark.parametrize("message", [Message(LIST), Message(WATCH, handle=(4711, 0)), Message(LIST, size0=1 << 63)],
                         ids=["LIST", "WATCH", "LIST, the end"])
def test_replies_are_not_read(vmcid, host, soft, message):
    mine = Endpoint(soft)
    n = flood(host, message)
    assert n >= PIPELINE        # so many everybody may have under way
    assert mine.send(mine.handle, b"x") == 25
    assert "does not read" in until("a reason in the log", lambda: "dropped" in vmcid.process.text()
                                    and vmcid.process.text())


def test_what_it_owned_goes_with_it(vmcid, host, soft):
    handle = Endpoint(host).handle
    sender = Endpoint(soft)
    assert sender.send(handle) == 24
    flood(host, Message(LIST))
    until("its endpoint to be gone", lambda: sender.send(handle) < 0)


def test_late_but_within_bounds(host):
    serials = [host.post(LIST) for _ in range(PIPELINE)]
    assert [host.recv().serial for _ in serials] == serials
    # and now and then
    for _ in range(20):
        host.post(LIST)
        host.post(LIST)
        host.recv()
    for _ in range(20):
        host.recv()


def test_several_at_once(vmcid, soft):
    mine = Endpoint(soft)
    for _ in range(5):
        flood(vmcid.connect(), Message(LIST))
        assert mine.send(mine.handle, b"x") == 25
        mine.recv()


def test_datagrams_are_not_read(vmcid, host, soft):
    sink, sender = Endpoint(host), Endpoint(soft)
    refused = 0
    for _ in range(2000):
        refused += sender.send(sink.handle, bytes(1000)) < 0
    assert refused >= 2000 - EVENT_QUEUE_MAX // 1000
    # the connection of the one who does not read is fine
    assert host.list()
    assert "dropped" not in vmcid.process.text()


def test_events_are_not_read(vmcid, host, soft):
    """They have a bound, too, and do not cost the client its connection."""
    events = Events(host)
    endpoint = Endpoint(host)
    rounds = EVENT_QUEUE_MAX // 48 // 2 + 200
    for _ in range(rounds):
        mine = CreatedPair(host)
        theirs = AttachedPair(soft, mine.handle)
        theirs.detach()
        mine.detach()
    # the oldest, in order; some of them wait in vmcid until there is room in the socket
    for n in range((EVENT_QUEUE_MAX - 1) // 48):
        assert events.recv().id == (PEER_DETACH if n % 2 else PEER_ATTACH)
    assert host.list()
    assert events.is_empty()
    # datagrams have their own queue, and events come again
    assert endpoint.send(endpoint.handle, b"x") == 25
    mine = CreatedPair(host)
    AttachedPair(soft, mine.handle)
    assert events.recv().handle == mine.handle


def test_a_life_socket_that_is_not_read(host, soft):
    """Is between the two."""
    mine = CreatedPair(host)
    theirs = AttachedPair(soft, mine.handle)
    theirs.life.setblocking(False)
    with pytest.raises(BlockingIOError):
        while True:
            theirs.life.send(bytes(4096))
    assert theirs.detach() == 0
    assert mine.detach() == 3
