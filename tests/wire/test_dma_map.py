# SPDX-License-Identifier: BSD-2-Clause
"""DMA_MAP: reference, 6.1, 6.3, 6.4."""

import errno
import os

import pytest

from conftest import FDS, FILES, LOAD, MAPS, RANGES, SHARE_OFF, STORE32, TAKE
from vfio_user import DMA_MAP, PAGE, Ram, map_body
from wrong import is_alive, refused, short_bodies, silent, small_argsz


def test_memory_is_read_and_written(client, ram):
    client.map(0x100000, 4 * PAGE, ram.fd, offset=2 * PAGE)
    assert client.dma_read(0x100000, 4) == bytes([3]) * 4
    assert client.dma_read(0x100000 + 4 * PAGE - 1, 1) == bytes([6])
    assert client.dma_write(0x100000 + PAGE, b"hello") == 0
    assert ram.map[3 * PAGE:3 * PAGE + 5] == b"hello"
    assert client.go(STORE32, 0x100000, 0x01020304) == 0
    assert ram.map[2 * PAGE:2 * PAGE + 4] == b"\4\3\2\1"
    assert client.register(MAPS) == 1


def test_outside_is_a_fault(client, ram):
    client.map(0x100000, PAGE, ram.fd)
    for address in (0, 0x100000 - 1, 0x100000 + PAGE, 0x100000 + PAGE - 3, 2 ** 64 - 4, 2 ** 63):
        assert client.dma_read(address, 4) == -errno.EFAULT


def test_without_fd_is_accepted_and_unreachable(client):
    client.map(0xfffc0000, 0x40000, flags=1)
    assert client.dma_read(0xfffc0000, 4) == -errno.EFAULT
    assert client.register(RANGES) == 1


def test_read_only(client, ram):
    client.map(0xc0000, PAGE, ram.fd, flags=1)
    assert client.dma_read(0xc0000, 1) == b"\1"
    assert client.dma_write(0xc0000, b"x") == -errno.EFAULT
    assert client.go(TAKE, 0xc0000) == -errno.EFAULT
    assert ram.map[0] == 1


def test_access_straddles_maps(client, ram):
    client.map(0, PAGE, ram.fd, offset=5 * PAGE)
    client.map(PAGE, PAGE, ram.fd, offset=0)
    assert client.dma_read(PAGE - 2, 4) == b"\6\6\1\1"
    assert client.dma_write(PAGE - 1, b"ab") == 0
    assert ram.map[6 * PAGE - 1:6 * PAGE] + ram.map[:1] == b"ab"


def test_one_mapping_and_one_fd_for_each_file(client, server, ram):
    before = client.register(FDS)
    for page in range(16):
        client.map(page * PAGE, PAGE, ram.fd, offset=(15 - page) * PAGE)
    assert client.register(RANGES) == 16
    assert client.register(FILES) == 1
    assert client.register(FDS) == before + 1
    with open(f"/proc/{server.pid}/maps", encoding="ascii") as maps:
        assert sum("guest-ram" in line for line in maps) == 1
    assert client.dma_read(3 * PAGE, 1) == bytes([13])


def test_boot_storm(client, ram):
    """40 to 80 unmaps and maps of low memory, each with a fresh descriptor of the file."""
    client.map(0, 16 * PAGE, ram.fd)
    assert client.go(TAKE, PAGE) == 0
    for _ in range(80):
        client.unmap(0, 16 * PAGE)
        assert client.go(LOAD) == -errno.EFAULT
        again = os.dup(ram.fd)
        client.map(0, 16 * PAGE, again)
        os.close(again)
        assert client.go(LOAD) == 0
    assert client.register(FILES) == 1


@pytest.mark.parametrize("address, size", [
    (4, 4), (4, 1), (7, 1), (5, 2), (3, 2), (7, 2), (0, 16), (3, 6)])
def test_overlap_is_eexist(client, ram, address, size):
    client.map(4 * PAGE, 4 * PAGE, ram.fd)
    refused(client, DMA_MAP, map_body(address * PAGE, size * PAGE), [ram.fd], errno.EEXIST)
    refused(client, DMA_MAP, map_body(address * PAGE, size * PAGE), [], errno.EEXIST)
    assert client.register(RANGES) == 1


@pytest.mark.parametrize("body", [
    map_body(0, 0), map_body(1, PAGE), map_body(0, PAGE + 1), map_body(0, PAGE, 1),
    map_body(0, 17 * PAGE), map_body(0, PAGE, 16 * PAGE), map_body(0, 2 * PAGE, 15 * PAGE),
    map_body(0, PAGE, 2 ** 64 - PAGE), map_body(2 ** 64 - PAGE, 2 * PAGE),
    map_body(0, 2 ** 64 - PAGE, PAGE), map_body(0, 2 ** 62), map_body(PAGE, 2 ** 64 - PAGE),
    map_body(0, PAGE, flags=0), map_body(0, PAGE, flags=4), map_body(0, PAGE, flags=7),
    map_body(0, PAGE, flags=11), map_body(0, PAGE, flags=2 ** 31 + 3),
])
def test_bad_numbers(client, ram, body):
    before = client.register(FDS)
    refused(client, DMA_MAP, body, [ram.fd])
    assert client.register(RANGES) == 0
    assert client.register(FDS) == before


def test_wrong_bodies(client, ram):
    before = client.register(FDS)
    short_bodies(client, DMA_MAP, map_body(0, PAGE), [ram.fd])
    small_argsz(client, DMA_MAP, map_body(0, PAGE), [ram.fd])
    assert client.register(FDS) == before
    # A client that counts the header, or knows more fields than we.
    client.call(DMA_MAP, map_body(0, PAGE, argsz=48), [ram.fd])
    client.call(DMA_MAP, map_body(PAGE, PAGE, argsz=40) + bytes(8), [ram.fd])
    client.call(DMA_MAP, map_body(2 * PAGE, PAGE, argsz=2 ** 32 - 1), [ram.fd])


@pytest.mark.parametrize("count", [2, 3, 16])
def test_too_many_fds(client, ram, count):
    before = client.register(FDS)
    refused(client, DMA_MAP, map_body(0, PAGE), [ram.fd] * count)
    assert client.register(FDS) == before


def test_17_fds_close(client, server, ram):
    client.send(DMA_MAP, map_body(0, PAGE), [ram.fd] * 17)
    assert client.is_closed()
    assert "more than 16 fds" in server.text()


def test_no_reply(client, ram):
    silent(client, DMA_MAP, map_body(0, PAGE), [ram.fd])
    assert client.register(RANGES) == 1
    silent(client, DMA_MAP, map_body(0, PAGE), [ram.fd])    # an overlap
    silent(client, DMA_MAP, map_body(0, 1), [ram.fd, ram.fd])


def test_descriptor_without_the_right_to_write(client, ram):
    path = f"/proc/self/fd/{ram.fd}"
    read_only = os.open(path, os.O_RDONLY)
    refused(client, DMA_MAP, map_body(0, PAGE), [read_only], errno.EACCES)
    client.map(0, PAGE, read_only, flags=1)
    assert client.dma_read(0, 1) == b"\1"
    os.close(read_only)


def test_what_is_no_file_is_accepted_and_unreachable(client, server, event):
    reader, writer = os.pipe()
    directory = os.open("/", os.O_RDONLY)
    null = os.open("/dev/null", os.O_RDWR)
    for number, fd in enumerate((reader, writer, directory, null, event().fd)):
        client.map(number * PAGE, PAGE, fd)
        assert client.dma_read(number * PAGE, 1) == -errno.EFAULT
    for fd in (reader, writer, directory, null):
        os.close(fd)
    assert "no memfd or file" in server.text()


def test_too_many_maps(client):
    for number in range(65535):
        client.send(DMA_MAP, map_body(number * PAGE, PAGE, flags=1), flags=0x10)
        if number % 1000 == 0:
            assert is_alive(client)
    refused(client, DMA_MAP, map_body(2 ** 40, PAGE), number=errno.ENOSPC)
    client.unmap(77 * PAGE, PAGE)
    client.map(2 ** 40, PAGE)


def test_share_off_is_noticed(client, server):
    private = Ram(64, is_shared=False)
    for page in range(64):
        private.fill(page, 0xff)
    client.map(0, 64 * PAGE, private.fd)
    assert client.dma_read(PAGE, 8) == bytes(8)
    assert client.register(SHARE_OFF) == 1
    assert "share=on" in server.text()
    private.close()


def test_share_on_is_not_suspected(client, server, ram):
    client.map(0, 16 * PAGE, ram.fd)
    client.dma_read(0, 8)
    assert client.register(SHARE_OFF) == 0
    assert "share=on" not in server.text()


def test_truncated_memory_ends_the_client_only(client, server):
    memory = Ram(4, is_sealed=False)
    memory.fill(1, 7)
    client.map(0, 4 * PAGE, memory.fd)
    assert client.dma_read(PAGE, 1) == b"\7"
    memory.map.close()
    os.ftruncate(memory.fd, 0)
    client.post(1, 0x20000, (PAGE).to_bytes(8, "little") + (4).to_bytes(4, "little"))
    client.post(1, 0x2000c, (1).to_bytes(4, "little"))
    assert client.is_closed()
    assert "truncated" in server.text()
    assert "not sealed" in server.text()
    os.close(memory.fd)
