#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""Writes the seeds of corpus/stream: whole connections in both roles and both modes, and how they end.

The format is that of stream.c. Usage: seed_stream.py FOLDER
"""

import pathlib
import sys

(PACKET, DATAGRAM, CONNECT, RUN, POLL, LOOP, TIME, END, STIR, LEAVE, CREATE, ATTACH, DETACH, POSITION, WILD,
 MAP, REFUSE, RESET) = range(18)
(INVALID, REQUEST, NEGOTIATE, OFFER, ATTACHED, WROTE, READ, RST, SHUTDOWN, WAITING_WRITE, WAITING_READ,
 REQUEST2, NEGOTIATE2) = range(13)

LEGACY, HOT = 1, 2
SIZE_4096 = 0x25            # as an argument: 128 << 5
AGAIN, EOF, GONE, FAULT, RESET_BY_PEER = range(5)
TAIL, HEAD = 0, 1

STIR_ALL = bytes([STIR, 0, 3])
LOOPS = bytes([LOOP])


def flags(*bits, ring=5):
    return bytes([sum(bits) | ring << 4])


def magnitude(value):
    return bytes([value]) if value < 0xf0 else bytes([0xf3]) + value.to_bytes(4, "little")


def packet(kind, argument=0x10, proto=0, address=0):
    return bytes([PACKET, kind, address, argument, proto])


def position(which, value, header=0, pair=0):
    return bytes([POSITION, pair, which | header << 1]) + magnitude(value)


def end(room, avail, recv=AGAIN, send=AGAIN, which=0):
    return bytes([END, which]) + magnitude(room) + magnitude(avail) + bytes([recv | send << 4])


def served(new, address=0):
    """The guest connects to us."""
    return (packet(REQUEST2 if new else REQUEST, SIZE_4096, int(new), address) + bytes([CREATE, 5]) +
            packet(OFFER, 0x00, address=address) + LOOPS)


def client(new, address=0):
    """We connect to the guest."""
    return (bytes([CONNECT, address, 0]) +
            packet(NEGOTIATE2 if new else NEGOTIATE, SIZE_4096, int(new), address) +
            bytes([ATTACH, 0]) + packet(ATTACHED, 0x00, address=address) + LOOPS)


def traffic(new):
    """Some bytes both ways, a full ring, a slow end."""
    ask = b"" if new else packet(WAITING_READ) + packet(WAITING_WRITE)
    return (position(TAIL, 100) + packet(WROTE) + LOOPS + ask + end(1000, 1000) + STIR_ALL + LOOPS +
            position(HEAD, 1000) + packet(READ) + LOOPS + position(TAIL, 99) + end(0, 0) + packet(WROTE) +
            LOOPS + end(9000, 9000) + STIR_ALL + LOOPS + position(HEAD, 50) + packet(READ) + LOOPS)


def endings(name, start):
    back = position(TAIL, 90)
    yield f"{name}-shutdown", (start + position(TAIL, 50) + packet(SHUTDOWN, 0x12) + LOOPS +
                               end(10, 10, EOF, RESET_BY_PEER) + STIR_ALL + LOOPS +
                               packet(SHUTDOWN, 0x11) + end(0, 0, GONE, GONE) + STIR_ALL + LOOPS)
    yield f"{name}-close", start + end(100, 200, GONE) + STIR_ALL + LOOPS + packet(READ)
    yield f"{name}-rst", start + back + packet(RST) + LOOPS + end(90, 90) + STIR_ALL + LOOPS
    yield f"{name}-abort", start + bytes([LEAVE, 0, 2])
    yield f"{name}-reset", start + back + bytes([RESET])
    yield f"{name}-broken", start + position(TAIL, 4096) + packet(WROTE) + LOOPS
    yield f"{name}-deaf", (start + end(0, 0, AGAIN, RESET_BY_PEER) + back + packet(WROTE) + LOOPS + LOOPS +
                           position(TAIL, 60) + packet(WROTE) + LOOPS)
    yield f"{name}-wild", (start + end(1000, 1000) + STIR_ALL + bytes([WILD, 0, LOOP]) + bytes(range(60)) +
                           packet(WROTE) + LOOPS + bytes(range(0, 240, 4)))
    yield f"{name}-unmapped", (start + back + bytes([MAP, 0, 7]) + packet(WROTE) + LOOPS +
                               end(100, 100) + STIR_ALL + bytes([MAP, 0, 1]) + LOOPS +
                               bytes([MAP, 0, 0]) + LOOPS)
    yield f"{name}-full-queue", (start + bytes([REFUSE, 3]) + end(100, 100, EOF) + STIR_ALL + back +
                                 packet(WROTE) + LOOPS + bytes([TIME, 21, RUN]) * 4)


def handshakes():
    request2 = packet(REQUEST2, SIZE_4096, 1)
    opening = packet(REQUEST2, SIZE_4096, 1, 4)
    connect = bytes([CONNECT, 0, 0])
    yield "server-in-progress", (flags() + opening + bytes([LEAVE, 0, 0, CREATE, 5]) +
                                 packet(OFFER, 0, address=4) + LOOPS)
    yield "server-refused", flags() + opening + bytes([LEAVE, 0, 1])
    yield "server-times-out", flags() + packet(REQUEST, SIZE_4096) + bytes([TIME, 30, RUN])
    yield "server-nobody-listens", flags() + packet(REQUEST2, SIZE_4096, 1, 8)
    yield "server-no-port", flags() + packet(REQUEST2, SIZE_4096, 1, 12)
    yield "server-legacy", flags(LEGACY) + request2 + served(False)
    yield "server-twice", flags() + request2 + request2
    yield "client-falls-back", (flags() + connect + packet(INVALID) + packet(RST) +
                                packet(NEGOTIATE, SIZE_4096) + bytes([ATTACH, 0]) + packet(ATTACHED, 0) +
                                LOOPS)
    yield "client-times-out", flags() + bytes([CONNECT, 0, 100, TIME, 10, RUN])
    yield "client-ephemeral", (flags() + bytes([CONNECT, 12, 0]) + packet(NEGOTIATE2, SIZE_4096, 1, 0x80) +
                               bytes([ATTACH, 0]) + packet(ATTACHED, 0, 0, 0x80) + LOOPS +
                               packet(RST, address=0x80))
    yield "client-reset", flags() + connect + packet(RST)
    yield "client-peer-gone", flags() + connect + packet(NEGOTIATE, SIZE_4096) + bytes([ATTACH, 0, DETACH, 0])
    yield "two-at-once", (flags(HOT) + served(True) + bytes([CONNECT, 5, 0]) +
                          packet(NEGOTIATE, SIZE_4096, 0, 5) + LOOPS)
    yield "unknown-type", flags() + served(True) + packet(13) + packet(255) + packet(14, address=9)
    yield "short-datagram", flags() + bytes([DATAGRAM, 55]) + bytes(55)
    header = [2, 0, 0, 0, 1, 0, 0, 0, 20, 0, 0, 0, 1, 0, 0, 0, 32, 0, 0, 0, 0, 0, 0, 0]
    body = [1, REQUEST2, 1, 0, 0, 4, 0, 0, 0x88, 0x13, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0, 0, 0, 0, 0]
    yield "long-datagram", flags() + bytes([DATAGRAM, 64] + header + body) + bytes(16)


def seeds():
    for name, handshake in (("server", served), ("client", client)):
        for mode, new in (("qstate", True), ("packet", False)):
            for speed, bits in (("cold", []), ("hot", [HOT])):
                start = flags(*bits) + handshake(new)
                yield f"{name}-{mode}-{speed}", start + traffic(new) + bytes([DETACH, 0])
            yield from endings(f"{name}-{mode}", flags() + handshake(new))
    yield from handshakes()


def main():
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in seeds():
        (folder / f"seed-{name}").write_bytes(data)


if __name__ == "__main__":
    main()
