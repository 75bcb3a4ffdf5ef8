# SPDX-License-Identifier: BSD-2-Clause
"""REGION_READ: reference, 5.1."""

import pytest

from vfio_user import (BAR0, BAR1, CONFIG, MAX_XFER, REGION_READ, access_body)
from wrong import refused, short_bodies, silent, unwanted_fds


@pytest.mark.parametrize("count", [1, 2, 4, 8])
@pytest.mark.parametrize("region, offset", [(BAR0, 0), (BAR0, 56), (BAR1, 0x30000), (CONFIG, 0)])
def test_sizes(client, region, offset, count):
    client.write(BAR0, 0, bytes(range(64)))
    client.write(BAR1, 0x30000, bytes(range(100, 116)))
    whole = client.read(region, offset, 8)
    assert client.read(region, offset, count) == whole[:count]


def test_last_bytes(client):
    for region, size in ((BAR0, 64), (BAR1, 0x40000), (CONFIG, 256)):
        assert len(client.read(region, size - 1, 1)) == 1
        assert len(client.read(region, size - 8, 8)) == 8


def test_qemu_reads_all_of_config_space(client):
    config = client.read(CONFIG, 0, 256)
    assert config[:4] == b"\x34\x12\xe1\x0d" and len(config) == 256


def test_nothing(client):
    assert client.read(BAR0, 0, 0) == b""
    assert client.read(BAR0, 64, 0) == b""


def test_most(client):
    assert len(client.read(BAR1, 0, MAX_XFER)) == MAX_XFER
    refused(client, REGION_READ, access_body(BAR1, 0, MAX_XFER + 1))


@pytest.mark.parametrize("region, offset, count", [
    (BAR0, 64, 1), (BAR0, 63, 2), (BAR0, 0, 65), (BAR0, 2 ** 64 - 1, 1), (BAR0, 2 ** 64 - 1, 2),
    (BAR0, 2 ** 64 - 4, 8), (BAR0, 2 ** 32, 4), (BAR1, 0x40000, 4), (3, 0, 1), (6, 0, 4), (8, 0, 4),
    (9, 0, 4), (2 ** 32 - 1, 0, 4), (CONFIG, 256, 1), (CONFIG, 253, 4),
    (BAR0, 0, 2 ** 32 - 1), (BAR1, 1, 2 ** 32 - 1), (BAR0, 65, 0)])
def test_outside(client, region, offset, count):
    refused(client, REGION_READ, access_body(region, offset, count))


def test_wrong_bodies(client):
    short_bodies(client, REGION_READ, access_body(BAR0, 0, 4))
    for more in (1, 4, 100):
        refused(client, REGION_READ, access_body(BAR0, 0, 4) + bytes(more))
    unwanted_fds(client, REGION_READ, access_body(BAR0, 0, 4))


def test_no_reply(client):
    silent(client, REGION_READ, access_body(BAR0, 0, 4))
    silent(client, REGION_READ, access_body(9, 0, 4))
