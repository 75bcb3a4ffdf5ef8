# SPDX-License-Identifier: BSD-2-Clause
"""Direct queue pairs as vmcid sees them: who may have a guest's memory, and that it passes vmcid by.
doc/protocol-fabric.md, 9. The device and the program are played by the test.
"""

import mmap
import os
import socket
import struct

import pytest
from testbed.fabric import (ATTACHED, DIRECT, F_SEAL_SHRINK, INVALID, INVALID_ARGS, NO_ACCESS, PAGE, QP_ATTACH,
                            TRUSTED, AttachedPair, CreatedPair, Device, Refused, as_user, is_readable, is_same_file,
                            memfd, qp_memory_size, wait_readable)

GUEST, STRANGER = 42, 4242
MAGIC = 0x53444d56


@pytest.fixture
def vms(vmcid):
    yield vmcid
    vmcid.close()
    vmcid.undefine()


@pytest.fixture
def device(vms):
    vms.define("guest", GUEST)
    return Device(vms, "guest")


def sheet(ram_pages, size_in, size_out):
    """What the device sends: src/fabric/direct.h. One piece, from the beginning of the file."""
    fd = memfd(PAGE + 16)
    os.pwrite(fd, struct.pack("<IIiIQQI", MAGIC, 0, 0, 1, size_in, size_out, 1), 0)
    os.pwrite(fd, struct.pack("<IIQ", 0, ram_pages, 0), PAGE)
    return fd


def send_pages(life, size_in, size_out):
    """The device's part, once the other end is there; returns the guest's memory."""
    ram = memfd(64 * PAGE, F_SEAL_SHRINK)
    fd = sheet(qp_memory_size(size_in, size_out) // PAGE, size_in, size_out)
    socket.send_fds(life, [b"\0"], [fd, ram])
    os.close(fd)
    return ram


def receive_pages(life):
    """The program's part; returns sheet and memory."""
    wait_readable(life)
    _, fds, _, _ = socket.recv_fds(life, 1, 4)
    assert struct.unpack("<I", os.pread(fds[0], 4, 0))[0] == MAGIC
    return fds


def test_attach(vms, device, host):
    """The guest's memory goes from its device to the program, over the life socket."""
    host.post(QP_ATTACH, handle=(GUEST, 5000), other=(INVALID, 0), size0=PAGE, size1=2 * PAGE, flags=DIRECT)
    ask = device.asked(QP_ATTACH)
    assert ask.flags == DIRECT
    ours, theirs = socket.socketpair()
    memory = memfd(qp_memory_size(2 * PAGE, PAGE))
    device.answer(ask, ATTACHED, [memory, theirs])
    theirs.close()
    reply = host.recv()
    assert (reply.status, reply.flags, len(reply.fds)) == (ATTACHED, DIRECT, 2)
    with socket.socket(fileno=reply.fds.pop()) as life:
        life.send(struct.pack("<I", 2))
        assert ours.recv(4) == struct.pack("<I", 2)
        ram = send_pages(ours, 2 * PAGE, PAGE)
        fds = receive_pages(life)
        assert is_same_file(fds[1], ram)
        with mmap.mmap(ram, 0) as guest, mmap.mmap(fds[1], 0) as program:
            guest[100:105] = b"hello"
            assert program[100:105] == b"hello"
        for fd in (ram, memory, *fds):
            os.close(fd)
    ours.close()
    reply.close()


def test_create(vms, device, host):
    """The device is told what the creator wants."""
    mine = CreatedPair(host, peer=GUEST, flags=DIRECT)
    plain = CreatedPair(host, peer=GUEST)
    reply = device.ok(QP_ATTACH, handle=plain.handle, other=(2, 0), size0=PAGE, size1=PAGE)
    assert reply.flags == 0
    reply.close()
    reply = device.ok(QP_ATTACH, handle=mine.handle, other=(2, 0), size0=PAGE, size1=PAGE)
    assert (reply.status, reply.flags, len(reply.fds)) == (ATTACHED, DIRECT, 2)
    with socket.socket(fileno=reply.fds.pop()) as life:
        life.send(struct.pack("<I", GUEST))
        assert mine.wait_for_attach() == GUEST
        os.close(send_pages(life, PAGE, PAGE))
        for fd in receive_pages(mine.life):
            os.close(fd)
    reply.close()


def test_a_new_vmcid(vms, device, host):
    """What is not attached yet is a direct pair to the next one, too."""
    mine = CreatedPair(host, peer=GUEST, flags=DIRECT)
    device.listen()
    vms.restart()
    assert device.resume() == [] and host.resume() == []
    reply = device.ok(QP_ATTACH, handle=mine.handle, other=(2, 0), size0=PAGE, size1=PAGE)
    assert reply.flags == DIRECT
    reply.close()


def test_between_programs(vms, host):
    """There is nothing to be copied, and nothing comes."""
    mine = CreatedPair(host)
    theirs = AttachedPair(vms.connect(INVALID), mine.handle, flags=DIRECT)
    assert mine.wait_for_attach() == theirs.client.cid
    for peer in INVALID, 2, theirs.client.cid:
        with pytest.raises(Refused) as refused:
            CreatedPair(host, peer=peer, flags=DIRECT)
        assert refused.value.status == INVALID_ARGS


def test_not_for_everybody(vms, device, host, needs_root):
    with as_user(STRANGER):
        stranger = vms.connect()
    assert not stranger.granted & TRUSTED
    for flags in DIRECT, DIRECT | TRUSTED:
        assert stranger.call(QP_ATTACH, handle=(GUEST, 5000), other=(INVALID, 0), size0=PAGE, size1=PAGE,
                             flags=flags).status == NO_ACCESS
        with pytest.raises(Refused) as refused:
            CreatedPair(stranger, peer=GUEST, flags=flags)
        assert refused.value.status == NO_ACCESS
    mine = CreatedPair(host)
    assert stranger.call(QP_ATTACH, handle=mine.handle, other=(INVALID, 0), size0=PAGE, size1=PAGE,
                         flags=DIRECT).status == NO_ACCESS
    # The device was asked for nothing.
    assert not is_readable(device)
