# SPDX-License-Identifier: BSD-2-Clause
"""Doorbells: an eventfd, introduced once. doc/protocol-fabric.md, 8."""

import os
import socket

import pytest
from testbed.fabric import (ALREADY_EXISTS, BELL_CREATE, BELL_DESTROY, BELL_OPEN, DST_UNREACHABLE, INVALID,
                            INVALID_ARGS, NOT_FOUND, NO_ACCESS, Bell, Endpoint, Refused, as_user, eventfd)
from testbed.process import until


def status_of(client, handle):
    return client.call(BELL_OPEN, handle=handle).status


def ring(fd, times=1):
    for _ in range(times):
        os.eventfd_write(fd, 1)


def test_ring(host, soft):
    bell = Bell(host)
    assert bell.handle[0] == 2 and bell.handle[1] >= 1024
    fd = soft.open_bell(bell.handle)
    assert bell.rung() == 0
    ring(fd, 3)
    assert bell.rung() == 3
    os.close(fd)


def test_it_needs_no_vmcid_to_ring(vmcid, host, soft):
    bell = Bell(host)
    fd = soft.open_bell(bell.handle)
    vmcid.kill()
    ring(fd)
    assert bell.rung() == 1
    vmcid.start()
    ring(fd)
    assert bell.rung() == 1
    os.close(fd)


def test_many_ringers(vmcid, host):
    bell = Bell(host)
    fds = [vmcid.connect(INVALID).open_bell(bell.handle) for _ in range(20)]
    for fd in fds:
        ring(fd)
        os.close(fd)
    assert bell.rung() == 20


def test_one_s_own(host):
    bell = Bell(host)
    fd = host.open_bell(bell.handle)
    ring(fd)
    assert bell.rung() == 1
    os.close(fd)


@pytest.mark.parametrize("rid", [1024, 5000, 0xfffffffe])
def test_a_wished_id(host, rid):
    assert Bell(host, rid).handle == (2, rid)
    with pytest.raises(Refused) as caught:
        Bell(host, rid)
    assert caught.value.status == ALREADY_EXISTS


def test_one_name_space_for_all_kinds(host):
    bell, endpoint = Bell(host), Endpoint(host)
    for make, taken in (Endpoint, bell), (Bell, endpoint):
        with pytest.raises(Refused) as caught:
            make(host, taken.handle[1])
        assert caught.value.status == ALREADY_EXISTS
    assert status_of(host, endpoint.handle) == NOT_FOUND
    assert host.call(BELL_DESTROY, handle=endpoint.handle).status == NOT_FOUND


def test_where_none_is(host, soft):
    assert status_of(host, (2, 4711)) == NOT_FOUND
    assert status_of(host, (soft.cid, 4711)) == NOT_FOUND
    assert status_of(host, (4711, 4711)) == DST_UNREACHABLE
    for handle in (0, 5), (1, 1), (INVALID, INVALID), (2, INVALID), (2, 0):
        assert status_of(host, handle) < 0


def test_destroyed(host, soft):
    bell = Bell(host)
    fd = soft.open_bell(bell.handle)
    assert bell.destroy() == 0
    ring(fd)        # goes nowhere
    os.close(fd)
    assert status_of(soft, bell.handle) == NOT_FOUND
    assert host.call(BELL_DESTROY, handle=bell.handle).status == NOT_FOUND


def test_only_its_owner_destroys_it(vmcid, host, soft):
    bell = Bell(host)
    assert vmcid.connect().call(BELL_DESTROY, handle=bell.handle).status == NO_ACCESS
    assert soft.call(BELL_DESTROY, handle=bell.handle).status in (NO_ACCESS, NOT_FOUND)
    assert status_of(host, bell.handle) == 0


def test_it_dies_with_its_client(vmcid, host, soft):
    bell = Bell(soft)
    handle = bell.handle
    fd = host.open_bell(handle)
    soft.close()
    until("the context to be gone", lambda: status_of(host, handle) == DST_UNREACHABLE)
    ring(fd)
    os.close(fd)


def test_things_that_are_no_eventfd(host):
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ends = os.pipe()
    plain = [os.memfd_create("x"), os.open("/dev/null", os.O_RDWR), os.open("/", os.O_PATH),
             os.open("/proc/self/mem", os.O_RDONLY)]
    for fd in sock.fileno(), *ends, *plain:
        assert host.call(BELL_CREATE, handle=(0, INVALID), fds=[fd]).status == INVALID_ARGS
    sock.close()
    for fd in *ends, *plain:
        os.close(fd)


def test_an_eventfd_that_would_block_its_ringers(host, soft):
    fd = os.eventfd(0, os.EFD_CLOEXEC)
    reply = host.ok(BELL_CREATE, handle=(0, INVALID), fds=[fd])
    opened = soft.open_bell(reply.handle)
    assert not os.get_blocking(opened)
    os.close(fd)
    os.close(opened)


def test_one_eventfd_for_two_bells(host, soft):
    fd = eventfd()
    handles = [host.ok(BELL_CREATE, handle=(0, INVALID), fds=[fd]).handle for _ in range(2)]
    for handle in handles:
        opened = soft.open_bell(handle)
        ring(opened)
        os.close(opened)
    assert os.eventfd_read(fd) == 2
    os.close(fd)


def test_reserved_ids_are_for_trusted_ones(vmcid, host, needs_root):
    assert Bell(host, 500).handle == (2, 500)
    with as_user(12345):
        stranger = vmcid.connect(INVALID)
        with pytest.raises(Refused) as caught:
            Bell(stranger, 500)
        assert caught.value.status == NO_ACCESS
        # to open is allowed
        os.close(stranger.open_bell((2, 500)))
