# SPDX-License-Identifier: BSD-2-Clause
"""The stream of bytes that messages come in: reference, 1, 0.2 to 0.4, 12.1."""

import random
import struct
import time

import pytest

from conftest import FILES, RANGES
from vfio_user import (BAR1, DMA_MAP, DMA_UNMAP, GET_INFO, NO_REPLY, PAGE, REGION_READ, REGION_WRITE,
                       RESET, VERSION, Closed, access_body, header, info_body, map_body, unmap_body,
                       version_body)
from wrong import is_alive

# (command, flags, body, does an fd come with it?)
LIFE = [
    (VERSION, 0, version_body(), False),
    (DMA_MAP, 0, map_body(0, 4 * PAGE), True),
    (DMA_MAP, 0, map_body(0xfffc0000, 0x40000, flags=1), False),
    (GET_INFO, 0, info_body(), False),
    (REGION_WRITE, NO_REPLY, access_body(BAR1, 0x30000, 4, b"abcd"), False),
    (DMA_MAP, 0, map_body(0x100000, 4 * PAGE, 4 * PAGE), True),
    (REGION_READ, 0, access_body(BAR1, 0x30000, 4), False),
    (DMA_UNMAP, 0, unmap_body(0, 4 * PAGE), False),
    (RESET, 0, b"", False),
]


def messages(ram):
    for number, (command, flags, body, has_fd) in enumerate(LIFE):
        yield (header(number, command, len(body), flags) + body, [ram.fd] if has_fd else [],
               not flags & NO_REPLY)


def check(client):
    """The replies, in order; then what must have become of LIFE."""
    for number, (command, flags, _, _) in enumerate(LIFE):
        if not flags & NO_REPLY:
            reply = client.answer(number, command)
            if command == REGION_READ:
                assert reply.body[16:] == b"abcd"
    assert client.is_silent()
    assert client.register(RANGES) == 2
    assert client.register(FILES) == 1
    assert client.dma_read(0x100000, 1) == b"\5"


def test_whole_messages(raw, ram):
    for data, fds, _ in messages(ram):
        raw.send_raw(data, fds)
    check(raw)


def test_one_byte_at_a_time(raw, ram):
    for data, fds, _ in messages(ram):
        for number in range(len(data)):
            raw.send_raw(data[number:number + 1], fds if number == 0 else [])
    check(raw)


def test_header_and_body_apart(raw, ram):
    for data, fds, _ in messages(ram):
        raw.send_raw(data[:16], fds)
        time.sleep(0.01)
        if data[16:]:
            raw.send_raw(data[16:])
    check(raw)


@pytest.mark.parametrize("seed", range(10))
def test_random_pieces(raw, ram, seed):
    dice = random.Random(seed)
    for data, fds, _ in messages(ram):
        while data:
            count = min(len(data), dice.choice((1, 2, 7, 15, 16, 17, 30, 100)))
            raw.send_raw(data[:count], fds)
            data, fds = data[count:], []
            if dice.random() < 0.2:
                time.sleep(0.002)
    check(raw)


def test_many_messages_in_one_segment(client):
    count = 1000
    stream = b"".join(header(n, REGION_WRITE, 20, NO_REPLY)
                      + access_body(BAR1, 0x30000 + 4 * n, 4, struct.pack("=I", n))
                      for n in range(count))
    client.socket.sendall(stream + header(7, GET_INFO, 16) + info_body())
    assert client.answer(7, GET_INFO)
    assert client.read(BAR1, 0x30000, 4 * count) == b"".join(struct.pack("=I", n) for n in range(count))


def test_many_calls_in_one_segment_are_answered_in_order(client):
    stream = b"".join(header(n, GET_INFO, 16) + info_body() for n in range(200))
    client.socket.sendall(stream)
    for number in range(200):
        client.answer(number, GET_INFO)


def test_end_at_every_byte(server, ram):
    total = sum(len(data) for data, _, _ in messages(ram))
    before = server.fds()
    for end in range(0, total, 3):
        client = server.connect(is_negotiated=False)
        left = end
        for data, fds, _ in messages(ram):
            if not left:
                break
            client.send_raw(data[:left], fds)
            left -= min(left, len(data))
        client.close()
    last = server.connect()
    assert last.register(RANGES) == 0
    assert server.fds() == before + 2       # the connection, and what INTx is polled with


def test_client_that_never_reads_is_ended(client, server):
    """Bounded: its replies fill the socket, then nothing is served; after 5 s it is given up."""
    client.socket.setblocking(False)
    began = time.monotonic()
    with pytest.raises(Closed):
        while time.monotonic() < began + 20:
            try:
                client.send_raw(header(1, REGION_READ, 16) + access_body(BAR1, 0, 65536))
            except BlockingIOError:
                time.sleep(0.05)
    assert 4 < time.monotonic() - began < 15
    assert "does not read its replies" in server.text()


def test_client_that_reads_late_gets_everything(client):
    count = 40
    client.socket.settimeout(10)
    for number in range(count):
        client.send(REGION_READ, access_body(BAR1, 0, 60000 + number))
    time.sleep(0.3)
    first = client.next - count
    for number in range(count):
        assert len(client.answer(first + number, REGION_READ).body) == 16 + 60000 + number
    assert is_alive(client)


def test_next_client_waits_and_starts_afresh(server, ram):
    first = server.connect()
    first.map(0, PAGE, ram.fd)
    second = server.connect(is_negotiated=False)        # in the backlog
    second.send(VERSION, version_body())
    assert second.is_silent()
    first.close()
    second.answer(0, VERSION)
    assert second.register(RANGES) == 0


@pytest.mark.parametrize("seed", range(20))
def test_random_messages(server, ram, seed):
    """Well-formed headers, random bodies, fds and flags: the server lives (the fixture checks)."""
    dice = random.Random(seed)
    client = server.connect()
    for _ in range(300):
        body = bytearray(dice.choice((0, 8, 16, 20, 24, 32, 40)))
        for at in range(0, len(body) - 3, 4):
            struct.pack_into("=I", body, at, dice.choice(
                (0, 1, 2, 3, 4, 5, 8, 16, 32, 0x24, 0x21, 64, 4096, 8192, 65536, 2 ** 31, 2 ** 32 - 1)))
        client.send(dice.randrange(2, 20), bytes(body), [ram.fd] * dice.choice((0, 0, 0, 1, 1, 2, 3)),
                    dice.choice((0, NO_REPLY)))
        client.socket.setblocking(False)
        try:
            client.socket.recv(65536)
        except BlockingIOError:
            pass
        client.socket.settimeout(20)
    client.close()
