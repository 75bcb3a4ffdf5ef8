# SPDX-License-Identifier: BSD-2-Clause
"""REGION_WRITE_MULTI: reference, 5.3. Not offered, but served."""

import struct

import pytest

from vfio_user import BAR0, BAR1, NO_REPLY, REGION_WRITE_MULTI
from wrong import is_alive, refused, short_bodies, silent, unwanted_fds


def body(*writes, count=None):
    packed = struct.pack("=Q", len(writes) if count is None else count)
    for region, offset, data, *length in writes:
        packed += struct.pack("=QII8s", offset, region, length[0] if length else len(data), data)
    return packed


GOOD = body((BAR0, 0, b"aaaaaaaa"), (BAR1, 0x30000, b"bb"), (BAR0, 4, b"cccc"))


def test_writes_are_done_in_order(client):
    assert client.call(REGION_WRITE_MULTI, GOOD).body == struct.pack("=Q", 3)
    assert client.read(BAR0, 0, 9) == b"aaaacccc\0"
    assert client.read(BAR1, 0x30000, 3) == b"bb\0"


def test_200_as_qemu_sends_them(client):
    writes = [(BAR1, 0x30000 + 4 * n, n.to_bytes(4, "little")) for n in range(200)]
    client.send(REGION_WRITE_MULTI, body(*writes), flags=NO_REPLY)
    assert client.read(BAR1, 0x30000, 800) == b"".join(data for _, _, data in writes)


def test_none(client):
    assert client.call(REGION_WRITE_MULTI, body()).body == struct.pack("=Q", 0)


@pytest.mark.parametrize("bad", [
    (BAR0, 64, b"x"), (BAR0, 60, b"12345678"), (9, 0, b"x"), (3, 0, b"x"), (BAR0, 2 ** 64 - 1, b"xx"),
    (BAR0, 0, b"x", 0), (BAR0, 0, b"x", 9), (BAR0, 0, b"x", 2 ** 32 - 1)])
@pytest.mark.parametrize("at", [0, 1, 2])
def test_one_bad_write_and_none_is_done(client, bad, at):
    writes = [(BAR0, 0, b"aaaaaaaa"), (BAR0, 8, b"bb")]
    writes.insert(at, bad)
    refused(client, REGION_WRITE_MULTI, body(*writes))
    assert client.read(BAR0, 0, 64) == bytes(64)


@pytest.mark.parametrize("count", [0, 2, 4, 200, 2 ** 32, 2 ** 61 + 3, 2 ** 64 - 1,
                                   (2 ** 64 + 72) // 24])
def test_count_that_is_not_what_follows(client, count):
    refused(client, REGION_WRITE_MULTI, struct.pack("=Q", count) + GOOD[8:])


def test_wrong_bodies(client):
    short_bodies(client, REGION_WRITE_MULTI, GOOD)
    refused(client, REGION_WRITE_MULTI, GOOD + b"\0")
    unwanted_fds(client, REGION_WRITE_MULTI, GOOD)
    assert client.read(BAR0, 0, 8) == bytes(8)


def test_no_reply(client):
    silent(client, REGION_WRITE_MULTI, GOOD)
    silent(client, REGION_WRITE_MULTI, GOOD[:-1])
    assert is_alive(client)
