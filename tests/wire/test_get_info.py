# SPDX-License-Identifier: BSD-2-Clause
"""DEVICE_GET_INFO: reference, 4.1."""

import struct

import pytest

from vfio_user import GET_INFO, info_body
from wrong import refused, short_bodies, silent, small_argsz, unwanted_fds

GOOD = struct.pack("=IIII", 16, 3, 9, 5)    # RESET|PCI, 9 regions, 5 IRQ indexes


@pytest.mark.parametrize("argsz", [16, 32, 4096, 2 ** 32 - 1])
def test_info(client, argsz):
    """QEMU offers 16 bytes, Cloud Hypervisor 32: 16 come."""
    assert client.call(GET_INFO, info_body(argsz)).body == GOOD


def test_longer_structure_of_a_later_client(client):
    assert client.call(GET_INFO, info_body(32) + bytes(16)).body == GOOD


def test_wrong_bodies(client):
    short_bodies(client, GET_INFO, info_body())
    small_argsz(client, GET_INFO, info_body())
    unwanted_fds(client, GET_INFO, info_body())
    refused(client, GET_INFO)


def test_no_reply(client):
    silent(client, GET_INFO, info_body())
    silent(client, GET_INFO, b"")
