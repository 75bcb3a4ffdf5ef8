# SPDX-License-Identifier: BSD-2-Clause
"""A client that passes descriptors whose close takes long: nobody else waits."""

import time

import pytest
from testbed.fabric import BELL_CREATE, DG_CREATE, EVENTS, SHM_CREATE, Ended, Message
from testbed.tarpit import LIMIT, Tarpit


@pytest.fixture
def tarpit():
    made = Tarpit()
    yield made
    made.close()


def is_prompt(client):
    began = time.monotonic()
    client.sock.settimeout(2 * LIMIT)
    client.list()
    assert time.monotonic() - began < LIMIT


def request(client, kind):
    """The bytes of a request that has one descriptor."""
    return Message(kind, serial=client.serial + 1).pack()


@pytest.mark.parametrize("depth", [0, 1, 2])
@pytest.mark.parametrize("kind", [BELL_CREATE, SHM_CREATE, DG_CREATE, EVENTS])
def test_refused(vmcid, host, tarpit, kind, depth):
    bad = vmcid.connect(cid=0xffffffff)
    tarpit.send(vmcid.process.pid, bad.sock, request(bad, kind), depth)
    is_prompt(host)
    bad.close()
    is_prompt(host)


@pytest.mark.parametrize("depth", [0, 1])
def test_as_many_as_a_message_can_have(vmcid, host, tarpit, depth):
    """That is no message at all, and its sender is dropped."""
    bad = vmcid.connect(cid=0xffffffff)
    tarpit.send(vmcid.process.pid, bad.sock, request(bad, BELL_CREATE), depth, 253)
    is_prompt(host)
    with pytest.raises(Ended):
        bad.recv()


def test_unread(vmcid, host, tarpit):
    """In the queue of a connection that has been dropped for what was before them."""
    for depth in range(3):
        bad = vmcid.connect(cid=0xffffffff)
        bad.sock.send(b"nonsense")
        try:
            tarpit.send(vmcid.process.pid, bad.sock, request(bad, BELL_CREATE), depth, 100)
        except OSError:     # it was faster
            pass
        is_prompt(host)
        bad.close()
    is_prompt(host)
