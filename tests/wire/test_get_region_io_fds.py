# SPDX-License-Identifier: BSD-2-Clause
"""DEVICE_GET_REGION_IO_FDS: reference, 4.3. We have none."""

import struct

import pytest

from vfio_user import GET_REGION_IO_FDS
from wrong import refused, short_bodies, silent, small_argsz, unwanted_fds


def body(index, argsz=16, flags=0, count=0):
    return struct.pack("=IIII", argsz, flags, index, count)


@pytest.mark.parametrize("index", range(9))
@pytest.mark.parametrize("argsz", [16, 56, 2 ** 32 - 1])
def test_none(client, index, argsz):
    reply = client.call(GET_REGION_IO_FDS, body(index, argsz, count=1))
    assert reply.body == body(index) and not reply.fds


@pytest.mark.parametrize("bad", [body(9), body(2 ** 32 - 1), body(0, flags=1)])
def test_bad_numbers(client, bad):
    refused(client, GET_REGION_IO_FDS, bad)


def test_wrong_bodies(client):
    short_bodies(client, GET_REGION_IO_FDS, body(1))
    small_argsz(client, GET_REGION_IO_FDS, body(1))
    unwanted_fds(client, GET_REGION_IO_FDS, body(1))


def test_no_reply(client):
    silent(client, GET_REGION_IO_FDS, body(1))
