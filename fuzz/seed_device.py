#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""Writes seeds for the device fuzzer, from the probe transcripts of the drivers: seed_device.py FOLDER

The encoding is that of step() in device.c: one byte says what to do, and what follows depends on it.
"""

import pathlib
import struct
import sys

MMIO = 0x80
DMA = 0x80
STATUS, CONTROL, ICR, IMR, CAPS, RESULT = 0x00, 0x04, 0x08, 0x0c, 0x18, 0x1c
IN_HIGH, OUT_HIGH, PAGE_SHIFT = 0x30, 0x28, 0x34
ANONYMOUS = (0xffffffff, 0xffffffff)
CID = 77


def op(number, high=False):
    """The byte that means @number; with bit 7 set, if @high."""
    return bytes([next(b for b in range(256) if b % 18 == number and (b >= 0x80) == high)])


def write(reg, value, path=0):
    return op(0) + bytes([reg | path]) + struct.pack("<I", value)


def read(reg, path=0):
    return op(1) + bytes([reg | path])


def command(value):
    return op(5) + bytes([4, 1]) + struct.pack("<H", value)


def datagram(dst, src, payload=b""):
    return struct.pack("<IIIIQ", *dst, *src, len(payload)) + payload


def send(dg, dma):
    assert len(dg) < 256
    return op(8, dma) + bytes([len(dg)]) + dg


def call(rid, payload, dma):
    return send(datagram((0, rid), ANONYMOUS, payload), dma)


def bitmap(dma, garbage=0):
    return call(2, struct.pack("<II", 1, garbage), dma)


def query(dma):
    return call(0, struct.pack("<III", 1, 0, 1), dma)


def link(dma, rid=3):
    return call(3, struct.pack("<IIQ", CID, rid, 5), dma)


def unlink(dma, rid=3):
    return call(4, struct.pack("<II", CID, rid), dma)


def buffer(addr, opcode, size, *elements):
    """A DMA buffer at @addr, and its being sent."""
    data = struct.pack("<IIIIQ", 1, opcode, size, 0, 0) + b"".join(struct.pack("<QQ", *e) for e in elements)
    return op(7) + struct.pack("<I", addr) + bytes([len(data)]) + data + write(0x24, addr, MMIO)


def memory(mutations=0, limit=None, fails=False):
    how = mutations | (0x10 if limit is not None else 0) | (0x20 if fails else 0)
    return op(16) + bytes([how]) + (bytes([limit]) if limit is not None else b"")


def alloc(dma, handle=(CID, 2), flags=0):
    pages = struct.pack("<IIII", 40, 41, 42, 43)
    return call(10, struct.pack("<IIIIQQQ", *handle, 2, flags, 4096, 4096, 4) + pages, dma)


def detach(dma, handle=(CID, 2)):
    return call(11, struct.pack("<II", *handle), dma)


def packet(dma, dst=(2, 1)):
    body = struct.pack("<BBHIIIQQ", 1, 11, 0, 1024, 80, 0, 262144, 0)
    return send(datagram(dst, (CID, 1), body), dma)


def deliver(size, count=1, event=False):
    return op(12) + bytes([(count - 1) << 4 | event << 3]) + struct.pack("<H", size - 24)


def drain(size):
    return op(4) + struct.pack("<H", size)


def receive():
    return op(11) + bytes([1]) + struct.pack("<HH", 0, 0x8800)


def ring():
    return op(13) + bytes([3 << 3])


def host_pair(what, owner, a=4096, b=4096, handle=b""):
    return op(14) + bytes([what | owner << 2]) + struct.pack("<HH", a, b) + handle


OWN_2 = bytes([2 << 3])     # some_handle(): (CID, 2)


def probe(path, caps, imr, dma):
    steps = [command(7), read(CAPS, path), write(CAPS, caps, path)]
    if path:
        steps += [write(PAGE_SHIFT, 12, path), write(IN_HIGH, 0, path), write(OUT_HIGH, 0, path)]
    if caps & 8:
        steps.append(bitmap(dma, 0xdeadbeef))
    return steps + [query(dma), call(1, b"", dma), write(IMR, imr, path), write(CONTROL, 2, path)]


def seeds():
    linux_ports = probe(0, 0x0c, 3, False)
    echo_ports = probe(0, 0x2c, 3, False)
    mmio = probe(MMIO, 0x2c, 7, True)
    old = probe(0, 0x04, 1, False)
    reset = [write(CONTROL, 1)]
    pair = [alloc(False), host_pair(1, 1, handle=OWN_2), host_pair(2, 1)]
    pair_dma = [alloc(True), host_pair(1, 1, handle=OWN_2), host_pair(2, 1)]

    yield "linux-ports", 0, linux_ports + [packet(False), deliver(56), read(ICR), drain(4096)] + reset
    yield "linux-ports-classic", 1, linux_ports + [deliver(56, 3), drain(4096)] + reset
    yield "linux-ports-echo", 0, echo_ports + [link(False), ring(), packet(False)] + reset
    yield "linux-mmio", 0, mmio + [packet(True), deliver(56), receive()] + [write(CONTROL, 1, MMIO)]
    yield "linux-mmio-msi", 2, mmio + [deliver(56, 2), read(ICR, MMIO), receive(), read(ICR, MMIO)]
    yield "linux-mmio-kexec", 0, mmio + pair_dma + [link(True)] + mmio + [receive()]
    yield "freebsd", 0, linux_ports + [deliver(56), drain(4096)] + reset + [command(3)]
    yield "legacy", 0, linux_ports + [alloc(False), detach(False), detach(False)] + reset
    yield "guest-2009", 4, old + [deliver(56), read(ICR), drain(4096), bitmap(False)] + reset
    yield "pair-ports", 0, linux_ports + pair + [detach(False)] + reset
    yield "pair-mmio", 0, mmio + pair_dma + [host_pair(3, 1), receive(), detach(True)]
    yield "pair-host", 0, mmio + [host_pair(0, 1), alloc(True, (2, 1024), 1), host_pair(2, 1), detach(True, (2, 1024))]
    yield "pair-reset", 0, mmio + pair_dma + [op(15) + bytes([0])]
    yield "large-drain", 0, linux_ports + [deliver(5000), deliver(56), drain(65535), drain(4097)]
    yield "fill-drain", 0, linux_ports + [deliver(4080), deliver(56, 16), drain(4096), drain(4096)]
    yield "doorbells", 0, mmio + [link(True), ring(), call(5, struct.pack("<II", CID, 3), True),
                                  call(4, struct.pack("<II", CID, 3), True), ring()]
    yield "hypervisor", 0, mmio + [packet(True, (0, 15)), packet(True, (1, 1)), packet(True, (CID, 1)), receive()]
    yield "mutations", 0, mmio + [memory(15)] + [packet(True), alloc(True), receive()] * 3
    yield "unmapped", 0, mmio + pair_dma + [memory(limit=20), packet(True), receive(), ring()]
    yield "no-memory", 0, mmio + [memory(fails=True), alloc(True), memory(), alloc(True)]
    yield "bitmap-gone", 0, mmio + [link(True), memory(limit=1), ring(), memory(), ring()]
    full = [deliver(60000, 16, True), deliver(3000, 16, True), deliver(400, 16, True)]
    yield "owed-detach", 0, mmio + pair_dma + full + [host_pair(3, 1)] + [receive()] * 4
    yield "owed-both", 0, mmio + [alloc(True)] + full + pair_dma[1:] + [host_pair(3, 1)] + [receive()] * 4
    yield "owed-gone", 0, mmio + pair_dma + full + [host_pair(3, 1), detach(True)] + [receive()] * 2
    yield "collisions", 0, mmio + [step for rid in range(0, 6) for step in (
        link(True, rid << 28), alloc(True, (CID, rid << 28)))] + [
            step for rid in (1, 0, 5) for step in (unlink(True, rid << 28), detach(True, (CID, rid << 28)))]
    yield "elements", 0, mmio + [
        buffer(0x9000, 1, 2, (0x8000, 24), (0x8018, 32)), buffer(0x9000, 1, 1, (0x100000, 56)),
        buffer(0x9000, 1, 255), buffer(0x9fe0, 1, 1, (0x8000, 24))]
    yield "elements-wrap", 0, mmio + [buffer(0x9000, 1, 1, ((1 << 64) - 8, 56)), buffer(0x9000, 2, 56),
                                      buffer(0x9000, 1, 2, (0, 1 << 63), (0, 1 << 63))]


def main():
    folder = pathlib.Path(sys.argv[1])
    for name, how, steps in seeds():
        (folder / f"seed-{name}").write_bytes(bytes([how]) + b"".join(steps))


main()
