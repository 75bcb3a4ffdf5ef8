# SPDX-License-Identifier: BSD-2-Clause
"""Queue pairs: memory and life socket, introduced once. doc/protocol-fabric.md, 9; VMCI reference, 7.3 and 7.4."""

import os
import socket

import pytest
from testbed.fabric import (ALREADY_EXISTS, ATTACHED, CREATED, DST_UNREACHABLE, F_SEAL_GROW, F_SEAL_SHRINK,
                            F_SEAL_WRITE, INVALID, INVALID_ARGS, LAST_DETACH, NOT_FOUND, NO_ACCESS, NO_RESOURCES,
                            NO_TOKEN, PAGE, PEER_ATTACH, PEER_DETACH, QP_ATTACH, QP_CREATE, QP_DETACH, QP_HOLD,
                            QP_MISMATCH, QP_NOT_ATTACHED, RESTRICTED, TRUSTED, UNAVAILABLE, AttachedPair, Bell,
                            CreatedPair, Event, Events, Refused, as_user, is_same_file, memfd, qp_memory_size,
                            wait_readable)
from testbed.process import until

MOST = 128 << 20


def attach(client, handle, produce=PAGE, consume=PAGE, peer=INVALID, flags=0):
    """The status; what comes with success is closed."""
    reply = client.call(QP_ATTACH, handle=handle, other=(peer, 0), size0=produce, size1=consume, flags=flags)
    reply.close()
    return reply.status


def create(client, produce=PAGE, consume=PAGE, peer=INVALID, handle=(INVALID, INVALID), fds=None, flags=0):
    """The status of a QP_CREATE with a memory as it should be, or with other descriptors."""
    made = []
    if fds is None:
        size = qp_memory_size(produce, consume)
        made = [memfd(size if size <= MOST + 2 * PAGE else PAGE),
                *socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)]
        fds = made[:2]
    reply = client.call(QP_CREATE, handle=handle, other=(peer, 0), size0=produce, size1=consume, flags=flags, fds=fds)
    for each in made:
        os.close(each) if isinstance(each, int) else each.close()
    return reply.status


def test_the_two_ends_meet(host, soft):
    mine = CreatedPair(host, produce=3 * PAGE, consume=100)
    assert mine.handle[0] == 2 and mine.handle[1] >= 1024 and mine.token != NO_TOKEN
    theirs = AttachedPair(soft, mine.handle, produce=100, consume=3 * PAGE)
    assert theirs.peer == 2 and theirs.token != NO_TOKEN
    assert mine.wait_for_attach() == soft.cid
    assert is_same_file(mine.memory, theirs.memory)
    mine.map[PAGE:PAGE + 5] = b"hello"
    assert theirs.map[PAGE:PAGE + 5] == b"hello"
    for a, b in (mine, theirs), (theirs, mine):
        a.ring()
        wait_readable(b.life)
        assert b.life.recv(1) == b"\0"
    # vmcid holds nothing of it any more
    assert not mine.is_left() and not theirs.is_left()
    theirs.life.close()
    wait_readable(mine.life)
    assert mine.is_left()


def test_events(host, soft):
    created, attached = Events(host), Events(soft)
    mine = CreatedPair(host)
    assert created.is_empty()
    theirs = AttachedPair(soft, mine.handle)
    assert created.recv() == Event(PEER_ATTACH, soft.cid, mine.handle)
    assert attached.is_empty()
    assert theirs.detach() == 0
    assert created.recv() == Event(PEER_DETACH, soft.cid, mine.handle)
    assert mine.detach() == LAST_DETACH
    assert created.is_empty() and attached.is_empty()


def test_the_creator_leaves_first(host, soft):
    events = Events(soft)
    mine = CreatedPair(host)
    theirs = AttachedPair(soft, mine.handle)
    assert mine.detach() == 0
    assert events.recv() == Event(PEER_DETACH, 2, theirs.handle)
    assert theirs.is_left()
    assert soft.call(QP_DETACH, handle=theirs.handle).status == LAST_DETACH
    assert soft.call(QP_DETACH, handle=theirs.handle).status == NOT_FOUND


def test_nobody_attaches_twice_or_after_the_end(vmcid, host, soft):
    third = vmcid.connect(INVALID)
    mine = CreatedPair(host)
    theirs = AttachedPair(soft, mine.handle)
    assert attach(soft, mine.handle) == ALREADY_EXISTS
    assert attach(host, mine.handle) == ALREADY_EXISTS
    assert attach(third, mine.handle) == UNAVAILABLE
    assert theirs.detach() == 0
    assert attach(third, mine.handle) == UNAVAILABLE
    assert attach(soft, mine.handle) == UNAVAILABLE
    assert mine.detach() == LAST_DETACH
    assert attach(third, mine.handle) == NOT_FOUND


def test_two_programs_of_one_context(vmcid, host):
    other = vmcid.connect()
    mine = CreatedPair(host)
    theirs = AttachedPair(other, mine.handle)
    assert mine.wait_for_attach() == 2
    assert host.call(QP_DETACH, handle=mine.handle).status == 0
    assert theirs.detach() == LAST_DETACH


def test_both_ends_in_one_program(host):
    mine = CreatedPair(host)
    assert attach(host, mine.handle) == ALREADY_EXISTS


def test_nobody_has_attached_yet(host, soft):
    mine = CreatedPair(host)
    assert soft.call(QP_DETACH, handle=mine.handle).status in (QP_NOT_ATTACHED, NOT_FOUND)
    assert mine.detach() == LAST_DETACH
    assert attach(soft, mine.handle) == NOT_FOUND


@pytest.mark.parametrize("produce, consume", [(1, 0), (0, 1), (1, 1), (PAGE, PAGE + 1), (12345, 678901),
                                              (MOST // 2, MOST // 2), (MOST, 0), (0, MOST), (MOST - 1, 1)])
def test_sizes(host, soft, produce, consume):
    mine = CreatedPair(host, produce, consume)
    for wrong in (produce, consume + 1), (consume + 1, produce), (0, 1 << 20), (consume, produce ^ 1):
        if wrong != (consume, produce) and any(wrong) and sum(wrong) <= MOST:
            assert attach(soft, mine.handle, *wrong) == QP_MISMATCH
    assert attach(soft, mine.handle, consume, produce) == ATTACHED


def test_sizes_that_are_none(host, soft):
    mine = CreatedPair(host)
    assert create(host, 0, 0) == INVALID_ARGS
    assert attach(soft, mine.handle, 0, 0) == INVALID_ARGS
    for produce, consume in (MOST, 1), (1, MOST), (MOST + 1, 0), (1 << 63, 1 << 63), ((1 << 64) - 1, 1), \
            ((1 << 64) - 1, (1 << 64) - 1), ((1 << 64) - PAGE, PAGE), (1 << 32, 0):
        assert create(host, produce, consume) == NO_RESOURCES
        assert attach(soft, mine.handle, produce, consume) == NO_RESOURCES
    assert attach(soft, mine.handle) == ATTACHED


def test_the_named_peer(vmcid, host, soft):
    third = vmcid.connect(INVALID)
    mine = CreatedPair(host, peer=soft.cid)
    assert attach(third, mine.handle) == NO_ACCESS
    assert attach(vmcid.connect(), mine.handle) == NO_ACCESS
    assert attach(soft, mine.handle, peer=2) == ATTACHED


def test_the_peer_that_an_attacher_expects(host, soft):
    mine = CreatedPair(host)
    assert attach(soft, mine.handle, peer=soft.cid) < 0
    assert attach(soft, mine.handle, peer=4711) < 0
    assert attach(soft, mine.handle, peer=2) == ATTACHED


def test_handles(host, soft):
    # VMCI reference, 7.3: the handle's context is the creator's or the peer's
    assert CreatedPair(host, context=2, rid=5000).handle == (2, 5000)
    assert CreatedPair(host, context=INVALID, rid=5001).handle == (2, 5001)
    assert CreatedPair(host, context=soft.cid, peer=soft.cid, rid=5000).handle == (soft.cid, 5000)
    assert create(host, handle=(soft.cid, 5001)) in (NO_ACCESS, INVALID_ARGS)
    assert create(host, handle=(4711, 5001), peer=soft.cid) in (NO_ACCESS, INVALID_ARGS)
    assert create(host, handle=(2, 5000)) == ALREADY_EXISTS
    assert create(soft, handle=(soft.cid, 5000)) == ALREADY_EXISTS
    assert create(host, handle=(2, 0)) < 0


def test_a_handle_that_is_something_else(host, soft):
    bell = Bell(host)
    assert create(host, handle=bell.handle) == ALREADY_EXISTS
    assert attach(soft, bell.handle) == NOT_FOUND
    assert host.call(QP_DETACH, handle=bell.handle).status == NOT_FOUND


def test_peers_and_contexts_that_are_not_there(host, soft):
    assert create(host, peer=4711) == DST_UNREACHABLE
    assert attach(soft, (4711, 1024)) in (DST_UNREACHABLE, NOT_FOUND)
    assert attach(soft, (2, 4711)) == NOT_FOUND
    for handle in (0, 1024), (1, 1), (INVALID, INVALID), (2, INVALID):
        assert attach(soft, handle) < 0


def test_only_with_a_trusted_peer(vmcid, host, needs_root):
    with as_user(12345):
        stranger = vmcid.connect(INVALID)
    mine = CreatedPair(host, flags=TRUSTED)
    assert attach(stranger, mine.handle, flags=TRUSTED) in (NO_ACCESS, QP_MISMATCH)
    assert attach(stranger, mine.handle) in (NO_ACCESS, QP_MISMATCH)
    assert attach(vmcid.connect(INVALID), mine.handle, flags=TRUSTED) == ATTACHED


def test_restricted_ones_keep_to_trusted_ones(vmcid, host, needs_root):
    with as_user(12345):
        stranger = vmcid.connect(INVALID)
        recluse = vmcid.connect(INVALID, flags=RESTRICTED)
        mine = CreatedPair(stranger)
        theirs = CreatedPair(recluse)
    assert attach(recluse, mine.handle) == NO_ACCESS
    assert attach(stranger, theirs.handle) == NO_ACCESS
    assert attach(host, theirs.handle) == ATTACHED


# --- What is passed ------------------------------------------------------------------------------------------

def refuses(client, fds, produce=PAGE, consume=PAGE):
    status = create(client, produce, consume, fds=fds)
    assert status == INVALID_ARGS, status


@pytest.fixture
def life():
    pair = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    yield pair[1]
    for each in pair:
        each.close()


def test_memory_that_is_none(host, life):
    size = qp_memory_size(PAGE, PAGE)
    wrong = [memfd(size, seals) for seals in (0, F_SEAL_SHRINK, F_SEAL_GROW)]
    wrong += [memfd(size + more) for more in (-PAGE, -1, 1, PAGE)] + [memfd(0)]
    wrong.append(memfd(size, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE))
    whole = memfd(size)
    wrong.append(os.open(f"/proc/self/fd/{whole}", os.O_RDONLY))
    wrong += [os.open("/dev/zero", os.O_RDWR), os.open("/", os.O_PATH), os.eventfd(0)]
    for fd in wrong:
        refuses(host, [fd, life])
        os.close(fd)
    assert create(host, fds=[whole, life]) == CREATED
    os.close(whole)


def test_a_life_that_is_none(host, life):
    memory = memfd(qp_memory_size(PAGE, PAGE))
    pairs = [socket.socketpair(socket.AF_UNIX, kind) for kind in (socket.SOCK_DGRAM, socket.SOCK_SEQPACKET)]
    alone = [socket.socket(family, socket.SOCK_STREAM) for family in (socket.AF_UNIX, socket.AF_INET)]
    for sock in *pairs[0], *pairs[1], *alone:
        refuses(host, [memory, sock])
        sock.close()
    refuses(host, [memory, memory])
    refuses(host, [life, life])
    refuses(host, [life, memory])
    assert create(host, fds=[memory, life]) == CREATED
    os.close(memory)


def test_a_life_of_another_user(host, needs_root):
    with as_user(12345):
        pair = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    memory = memfd(qp_memory_size(PAGE, PAGE))
    refuses(host, [memory, pair[0]])
    os.close(memory)
    for each in pair:
        each.close()


# --- Ends ----------------------------------------------------------------------------------------------------

def test_the_creator_dies_before_anybody_attached(vmcid, host, soft):
    handle = CreatedPair(soft).handle
    soft.close()
    until("the pair to be gone", lambda: attach(host, handle) in (NOT_FOUND, DST_UNREACHABLE))


def test_the_attacher_dies(host, soft):
    events = Events(host)
    mine = CreatedPair(host)
    cid = soft.cid
    AttachedPair(soft, mine.handle)
    mine.wait_for_attach()
    soft.close()
    assert events.recv().id == PEER_ATTACH
    assert events.recv() == Event(PEER_DETACH, cid, mine.handle)
    wait_readable(mine.life)
    assert mine.is_left()
    assert mine.detach() == LAST_DETACH


def test_the_creator_dies(host, soft):
    events = Events(host)
    cid = soft.cid
    theirs = CreatedPair(soft)
    mine = AttachedPair(host, theirs.handle)
    theirs.wait_for_attach()
    handle = theirs.handle
    soft.close()
    assert events.recv() == Event(PEER_DETACH, cid, handle)
    wait_readable(mine.life)
    assert mine.is_left()
    assert mine.detach() == LAST_DETACH


def test_hold_needs_its_token(vmcid, host, soft):
    mine = CreatedPair(host)
    theirs = AttachedPair(soft, mine.handle)
    mine.wait_for_attach()
    assert mine.hold() == ALREADY_EXISTS
    assert theirs.hold() == ALREADY_EXISTS
    third = vmcid.connect(INVALID)
    for token in b"x" * 16, NO_TOKEN, third.token:
        fields = dict(handle=mine.handle, other=(2, 0), size0=PAGE, size1=PAGE)
        assert third.call(QP_HOLD, token=token, **fields).status == NO_ACCESS


def test_creating_and_leaving_many_times(host, soft):
    for _ in range(300):
        mine = CreatedPair(host)
        theirs = AttachedPair(soft, mine.handle)
        assert theirs.detach() == 0
        assert mine.detach() == LAST_DETACH


def test_a_refused_request_costs_nothing(host):
    for _ in range(2000):
        assert create(host, handle=(2, 1)) < 0


def test_raises(host):
    with pytest.raises(Refused):
        AttachedPair(host, (2, 4711))
