# SPDX-License-Identifier: BSD-2-Clause
"""DMA_UNMAP: reference, 6.2."""

import errno

import pytest

from conftest import FDS, FILES, LAST_UNMAP, LOAD, RANGES, TAKE, UNMAPS
from vfio_user import DMA_UNMAP, PAGE, Ram, unmap_body
from wrong import refused, short_bodies, silent, small_argsz, unwanted_fds


def test_range_is_out_of_reach(client, ram):
    before = client.register(FDS)
    client.map(0, PAGE, ram.fd)
    client.map(PAGE, PAGE, ram.fd, offset=PAGE)
    client.unmap(0, PAGE)
    assert client.dma_read(0, 1) == -errno.EFAULT
    assert client.dma_read(PAGE, 1) == b"\2"
    assert client.register(UNMAPS) == 1
    client.unmap(PAGE, PAGE)
    assert client.register(RANGES) == 0
    assert client.register(FILES) == 0
    assert client.register(FDS) == before


def test_pages_in_use_are_revoked_and_come_back(client, ram):
    other = Ram(2)
    other.fill(1, 99)
    client.map(0, 4 * PAGE, ram.fd)
    assert client.go(TAKE, 2 * PAGE) == 0
    assert client.go(LOAD) == 0
    client.unmap(0, 4 * PAGE)
    assert client.go(LOAD) == -errno.EFAULT
    client.map(2 * PAGE, PAGE, other.fd, offset=PAGE)
    assert client.go(LOAD) == 0
    assert client.read(1, 0x21000, 8) == bytes([99]) * 8
    client.unmap(2 * PAGE, PAGE)
    client.map(2 * PAGE, PAGE, other.fd, offset=PAGE, flags=1)
    assert client.go(LOAD) == -errno.EFAULT
    other.close()


def test_mapping_of_the_file_shrinks(client, server, ram):
    client.map(0, PAGE, ram.fd)
    client.map(PAGE, PAGE, ram.fd, offset=15 * PAGE)

    def mapped():
        with open(f"/proc/{server.pid}/maps", encoding="ascii") as maps:
            spans = [line.split()[0].split("-") for line in maps if "guest-ram" in line]
        return sum(int(end, 16) - int(start, 16) for start, end in spans)
    assert mapped() == 16 * PAGE
    client.unmap(PAGE, PAGE)
    assert mapped() == PAGE
    client.unmap(0, PAGE)
    assert mapped() == 0


@pytest.mark.parametrize("address, size", [
    (4, 3), (4, 5), (5, 3), (5, 1), (0, 4), (8, 1), (2 ** 51, 1), (0, 2 ** 50)])
def test_only_what_was_mapped(client, ram, address, size):
    client.map(4 * PAGE, 4 * PAGE, ram.fd)
    refused(client, DMA_UNMAP, unmap_body(address * PAGE, size * PAGE), number=errno.ENOENT)
    assert client.dma_read(4 * PAGE, 1) == b"\1"


def test_twice(client, ram):
    client.map(0, PAGE, ram.fd)
    client.unmap(0, PAGE)
    refused(client, DMA_UNMAP, unmap_body(0, PAGE), number=errno.ENOENT)


def test_all(client, ram):
    for page in range(8):
        client.map(2 * page * PAGE, PAGE, ram.fd if page % 2 else None)
    client.unmap(0, 0, flags=2)
    assert client.register(RANGES) == 0
    assert client.register(UNMAPS) == 1
    assert client.register(LAST_UNMAP) == 0xffffffff
    client.unmap(0, 0, flags=2)         # of nothing


@pytest.mark.parametrize("body", [
    unmap_body(0, PAGE, flags=1),               # a dirty bitmap
    unmap_body(0, PAGE, flags=1) + bytes(24),
    unmap_body(0, PAGE, flags=2), unmap_body(PAGE, 0, flags=2),     # "all" of a range
    unmap_body(0, 0, flags=3), unmap_body(0, PAGE, flags=4), unmap_body(0, PAGE, flags=2 ** 31),
    unmap_body(0, 0),
])
def test_bad_numbers(client, ram, body):
    client.map(0, PAGE, ram.fd)
    refused(client, DMA_UNMAP, body)
    assert client.register(RANGES) == 1


def test_wrong_bodies(client, ram):
    client.map(0, PAGE, ram.fd)
    short_bodies(client, DMA_UNMAP, unmap_body(0, PAGE))
    small_argsz(client, DMA_UNMAP, unmap_body(0, PAGE))
    unwanted_fds(client, DMA_UNMAP, unmap_body(0, PAGE))
    assert client.register(RANGES) == 1
    body = unmap_body(0, PAGE, argsz=40)
    assert client.call(DMA_UNMAP, body).body == body


def test_no_reply(client, ram):
    client.map(0, PAGE, ram.fd)
    silent(client, DMA_UNMAP, unmap_body(0, PAGE))
    silent(client, DMA_UNMAP, unmap_body(0, PAGE))
    assert client.register(RANGES) == 0
