# SPDX-License-Identifier: BSD-2-Clause
"""REGION_WRITE: reference, 5.1, 5.2, 8."""

import pytest

from vfio_user import (BAR0, BAR1, CONFIG, MAX_XFER, NO_REPLY, REGION_WRITE, access_body, header)
from wrong import is_alive, refused, short_bodies, silent, unwanted_fds


@pytest.mark.parametrize("data", [b"\x11", b"\x11\x22", b"\x11\x22\x33\x44", bytes(range(1, 9))])
@pytest.mark.parametrize("region, offset", [(BAR0, 0), (BAR0, 55), (BAR1, 0x30001)])
def test_sizes(client, region, offset, data):
    """The reply has the 16 bytes that the Rust client waits for (checked in write())."""
    client.write(region, offset, data)
    assert client.read(region, offset, len(data)) == data
    assert client.read(region, offset + len(data), 1) == b"\0"


def test_posted_writes_are_done_before_a_later_read(client):
    for number in range(2000):
        client.post(BAR1, 0x30000, number.to_bytes(4, "little"))
    assert client.read32(BAR1, 0x30000) == 1999


def test_posted_write_acts_at_once(client, ram):
    client.map(0, 4096, ram.fd)
    client.post(BAR1, 0x21000, b"posted")
    client.post(BAR1, 0x20000, (100).to_bytes(8, "little") + (6).to_bytes(4, "little"))
    client.post(BAR1, 0x2000c, (2).to_bytes(4, "little"))
    assert is_alive(client)
    assert ram.map[100:106] == b"posted"


def test_bar_sizing(client):
    """All-ones, as Cloud Hypervisor does it; the ROM register stays 0 (reference, 0.8)."""
    for bar, answer in ((0, 0xffffffc1), (1, 0xfffc0000), (3, 0), (5, 0)):
        client.write32(CONFIG, 0x10 + 4 * bar, 0xffffffff)
        assert client.read32(CONFIG, 0x10 + 4 * bar) == answer
    client.write32(CONFIG, 0x30, 0xfffff800)
    assert client.read32(CONFIG, 0x30) == 0


def test_most(client):
    data = bytes(n * 7 & 0xff for n in range(MAX_XFER))
    client.write(BAR1, 0x30000, data)
    assert client.read(BAR1, 0x30000, MAX_XFER) == data


def test_more_than_most_closes(client):
    """The message would be longer than any that we take."""
    client.send_raw(header(9, REGION_WRITE, 16 + MAX_XFER + 1))
    assert client.is_closed()


def test_nothing(client):
    client.write(BAR0, 64, b"")


@pytest.mark.parametrize("region, offset, count", [
    (BAR0, 64, 1), (BAR0, 63, 2), (BAR0, 2 ** 64 - 1, 1), (BAR0, 2 ** 64 - 1, 2), (BAR0, 2 ** 32, 4),
    (BAR1, 0x40000, 4), (3, 0, 1), (6, 0, 4), (8, 0, 4), (9, 0, 4), (2 ** 32 - 1, 0, 4),
    (CONFIG, 256, 1), (CONFIG, 253, 4)])
def test_outside(client, region, offset, count):
    body = access_body(region, offset, count, b"\xff" * count)
    refused(client, REGION_WRITE, body)
    client.send(REGION_WRITE, body, flags=NO_REPLY)
    assert is_alive(client)
    assert client.read(BAR0, 56, 8) == bytes(8)


@pytest.mark.parametrize("count", [0, 3, 5, 8, 2 ** 31, 2 ** 32 - 1, 2 ** 32 - 16])
def test_count_that_is_not_what_follows(client, count):
    refused(client, REGION_WRITE, access_body(BAR0, 0, count, b"abcd"))
    assert client.read(BAR0, 0, 4) == bytes(4)


def test_wrong_bodies(client):
    short_bodies(client, REGION_WRITE, access_body(BAR0, 0, 4, b"abcd"))
    unwanted_fds(client, REGION_WRITE, access_body(BAR0, 0, 4, b"abcd"))
    assert client.read(BAR0, 0, 4) == bytes(4)


def test_no_reply(client):
    silent(client, REGION_WRITE, access_body(BAR0, 0, 4, b"abcd"))
    silent(client, REGION_WRITE, access_body(BAR0, 63, 4, b"abcd"))
