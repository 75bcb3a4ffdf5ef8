# SPDX-License-Identifier: BSD-2-Clause
"""Shared regions. doc/protocol-fabric.md, 10; VMCI SDK reference, 4 and 10.1."""

import os
import socket

import pytest
from testbed.fabric import (ALREADY_EXISTS, DST_UNREACHABLE, F_SEAL_GROW, F_SEAL_SHRINK, F_SEAL_WRITE, INVALID,
                            INVALID_ARGS, INVALID_SIZE, LAST_DETACH, NOT_FOUND, NO_ACCESS, NO_TOKEN, PAGE,
                            SHM_ATTACH, SHM_CREATE, SHM_DETACH, SHM_HOLD, SHM_QUERY, Bell, Refused, Region, as_user,
                            is_same_file, memfd)

GIB = 1 << 30
from testbed.process import until


def query(client, handle):
    """The size, or an error."""
    reply = client.call(SHM_QUERY, handle=handle)
    return reply.status or reply.size0


def attach(client, handle):
    reply = client.call(SHM_ATTACH, handle=handle)
    reply.close()
    return reply.status


def create(client, size, fd, offset=0):
    return client.call(SHM_CREATE, handle=(0, INVALID), size0=size, size1=offset, fds=[fd]).status


def test_one_writes_the_other_reads(host, soft):
    mine = Region(host, 128)
    assert query(soft, mine.handle) == 128
    theirs = Region(soft, handle=mine.handle)
    assert (theirs.size, theirs.offset) == (128, 0)
    assert is_same_file(mine.memory, theirs.memory)
    mine.map[:5] = b"hello"
    assert theirs.map[:5] == b"hello"
    assert theirs.detach() == 0
    assert mine.detach() == LAST_DETACH
    assert query(soft, mine.handle) == NOT_FOUND


def test_a_region_inside_its_memory(host, soft):
    mine = Region(host, 100, offset=PAGE)
    theirs = Region(soft, handle=mine.handle)
    assert (theirs.size, theirs.offset) == (100, PAGE)


def test_it_survives_its_creator(vmcid, host, soft):
    mine = Region(soft, 128)
    mine.map[:5] = b"hello"
    handle = mine.handle
    theirs = Region(host, handle=handle)
    assert mine.detach() == 0
    assert query(soft, handle) == 128
    third = Region(vmcid.connect(), handle=handle)
    assert third.map[:5] == b"hello"
    assert third.detach() == 0
    assert theirs.detach() == LAST_DETACH
    assert query(soft, handle) == NOT_FOUND


def test_its_creator_dies(vmcid, host):
    creator = vmcid.connect()
    handle = Region(creator, 128).handle
    theirs = Region(host, handle=handle)
    creator.close()
    assert theirs.map[0] == 0
    third = Region(vmcid.connect(), handle=handle)
    assert third.detach() == 0
    assert theirs.detach() == LAST_DETACH


def test_the_context_of_its_creator_goes(host, soft):
    """Whether it can still be found then is one thing; who is attached keeps it."""
    theirs = Region(host, handle=Region(soft, 128).handle)
    context = f"context {soft.cid} "
    soft.close()
    until("the creator to be gone", lambda: not [line for line in host.list() if line.startswith(context)])
    theirs.map[:2] = b"hi"
    assert theirs.detach() in (LAST_DETACH, NOT_FOUND)


def test_once_for_each_client(host, soft):
    mine = Region(host)
    assert attach(host, mine.handle) == ALREADY_EXISTS
    assert attach(soft, mine.handle) == 0
    assert attach(soft, mine.handle) == ALREADY_EXISTS
    assert soft.call(SHM_DETACH, handle=mine.handle).status == 0
    assert soft.call(SHM_DETACH, handle=mine.handle).status == NOT_FOUND
    assert attach(soft, mine.handle) == 0


def test_detaching_without_being_attached(host, soft):
    mine = Region(host)
    assert soft.call(SHM_DETACH, handle=mine.handle).status == NOT_FOUND
    assert query(soft, mine.handle) == PAGE


def test_where_none_is(host, soft):
    bell = Bell(host)
    for call in query, attach:
        assert call(soft, (2, 4711)) == NOT_FOUND
        assert call(soft, (4711, 4711)) == DST_UNREACHABLE
        assert call(soft, bell.handle) == NOT_FOUND
        for handle in (0, 5), (1, 1), (INVALID, INVALID):
            assert call(soft, handle) < 0


@pytest.mark.parametrize("size", [1, 127, PAGE, PAGE + 1, GIB])
def test_sizes(host, soft, size):
    mine = Region(host, size)
    assert query(soft, mine.handle) == size


def test_sizes_that_are_none(host):
    fd = memfd(GIB + PAGE)
    for size in 0, GIB + 1, 1 << 63, (1 << 64) - 1:
        assert create(host, size, fd) in (INVALID_SIZE, INVALID_ARGS)
    for size, offset in (1, 1 << 63), ((1 << 64) - 1, 1), (PAGE, (1 << 64) - PAGE), (GIB, PAGE + 1), (1, GIB + PAGE):
        assert create(host, size, fd, offset) in (INVALID_SIZE, INVALID_ARGS)
    assert create(host, GIB, fd) == 0
    os.close(fd)


def test_memory_that_is_none(host):
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    fds = [memfd(PAGE, 0), memfd(PAGE, F_SEAL_GROW), memfd(PAGE, F_SEAL_SHRINK | F_SEAL_WRITE), memfd(PAGE - 1),
           os.open("/dev/zero", os.O_RDWR), os.eventfd(0), os.open("/", os.O_PATH)]
    for fd in *fds, sock.fileno():
        assert create(host, PAGE, fd) == INVALID_ARGS
    for fd in fds:
        os.close(fd)
    sock.close()
    larger = memfd(3 * PAGE, F_SEAL_SHRINK)
    assert create(host, PAGE, larger) == 0
    os.close(larger)


def test_hold_needs_its_token(vmcid, host, soft):
    mine = Region(host)
    theirs = Region(soft, handle=mine.handle)
    third = vmcid.connect(INVALID)
    for token in b"x" * 16, NO_TOKEN:
        reply = third.call(SHM_HOLD, handle=mine.handle, size0=PAGE, token=token, fds=[theirs.memory])
        assert reply.status == NO_ACCESS
    assert soft.call(SHM_HOLD, handle=mine.handle, size0=PAGE, token=theirs.token,
                     fds=[theirs.memory]).status == ALREADY_EXISTS


def test_other_users_are_let_in(vmcid, host, needs_root):
    mine = Region(host)
    with as_user(12345):
        theirs = Region(vmcid.connect(), handle=mine.handle)
        with pytest.raises(Refused) as caught:
            Region(vmcid.connect(), rid=500)
        assert caught.value.status == NO_ACCESS
    assert is_same_file(mine.memory, theirs.memory)
