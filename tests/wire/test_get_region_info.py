# SPDX-License-Identifier: BSD-2-Clause
"""DEVICE_GET_REGION_INFO: reference, 4.2."""

import mmap
import os
import struct

import pytest

from vfio_user import BAR2, GET_REGION_INFO, region_info_body
from wrong import refused, short_bodies, silent, small_argsz, unwanted_fds

SIZES = {0: 64, 1: 0x40000, 2: 0x10000, 7: 256}


def info(client, index, argsz=32):
    reply = client.call(GET_REGION_INFO, region_info_body(index, argsz))
    return struct.unpack_from("=IIIIQQ", reply.body), reply


@pytest.mark.parametrize("index", [0, 1, 3, 4, 5, 6, 7, 8])
def test_every_index_is_answered(client, index):
    """An error for an absent region would keep QEMU from starting."""
    size = SIZES.get(index, 0)
    fields, reply = info(client, index)
    assert fields == (32, 3 if size else 0, index, 0, size, 0)
    assert len(reply.body) == 32 and not reply.fds


def test_mappable_region_in_two_steps(client):
    # First: what is needed; neither CAPS nor an fd yet.
    fields, reply = info(client, BAR2)
    assert fields == (64, 7, BAR2, 0, 0x10000, 0)
    assert len(reply.body) == 32 and not reply.fds
    for argsz in (33, 63):
        assert info(client, BAR2, argsz)[0] == fields
    # Then: everything.
    fields, reply = info(client, BAR2, 64)
    assert fields == (64, 15, BAR2, 32, 0x10000, 0)
    assert struct.unpack_from("=HHIIIQQ", reply.body, 32) == (1, 1, 0, 1, 0, 0x1000, 0xf000)
    assert len(reply.body) == 64 and len(reply.fds) == 1
    with mmap.mmap(reply.fds[0], 0x10000) as mapped:
        mapped[0x1234:0x1238] = b"ping"
        assert client.read(BAR2, 0x1234, 4) == b"ping"
        client.write(BAR2, 0x1238, b"pong")
        assert mapped[0x1238:0x123c] == b"pong"
    os.close(reply.fds[0])
    # More room than needed is fine.
    fields, reply = info(client, BAR2, 4096)
    assert fields[0] == 64
    os.close(reply.fds[0])


def test_client_that_takes_no_fds_is_offered_no_mapping(raw):
    raw.negotiate(text=b'{"capabilities":{"max_msg_fds":0}}\0')
    fields, reply = info(raw, BAR2, 64)
    assert fields == (32, 3, BAR2, 0, 0x10000, 0)
    assert not reply.fds


@pytest.mark.parametrize("index", [9, 10, 255, 2 ** 31, 2 ** 32 - 1])
def test_bad_index(client, index):
    refused(client, GET_REGION_INFO, region_info_body(index))


def test_wrong_bodies(client):
    short_bodies(client, GET_REGION_INFO, region_info_body(1))
    small_argsz(client, GET_REGION_INFO, region_info_body(1))
    unwanted_fds(client, GET_REGION_INFO, region_info_body(1))


def test_no_reply(client):
    silent(client, GET_REGION_INFO, region_info_body(1))
    silent(client, GET_REGION_INFO, region_info_body(BAR2, 64))
    silent(client, GET_REGION_INFO, region_info_body(99))
