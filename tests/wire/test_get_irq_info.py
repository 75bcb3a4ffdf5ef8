# SPDX-License-Identifier: BSD-2-Clause
"""DEVICE_GET_IRQ_INFO: reference, 4.4."""

import struct

import pytest

from vfio_user import ERR, GET_IRQ_INFO, INTX, MSI, MSIX, REQ, irq_info_body
from wrong import refused, short_bodies, silent, small_argsz, unwanted_fds


@pytest.mark.parametrize("index, flags, count", [
    (INTX, 7, 1),       # eventfd, maskable, automasked
    (MSI, 9, 1),        # eventfd, not resizable
    (MSIX, 1, 3),       # eventfd, and resizable, so that QEMU adds vectors singly
    (ERR, 1, 1), (REQ, 1, 1)])
def test_every_index(client, index, flags, count):
    good = struct.pack("=IIII", 16, flags, index, count)
    assert client.call(GET_IRQ_INFO, irq_info_body(index)).body == good
    assert client.call(GET_IRQ_INFO, irq_info_body(index, 32)).body == good


@pytest.mark.parametrize("index", [5, 6, 2 ** 31, 2 ** 32 - 1])
def test_bad_index(client, index):
    refused(client, GET_IRQ_INFO, irq_info_body(index))


def test_wrong_bodies(client):
    short_bodies(client, GET_IRQ_INFO, irq_info_body(2))
    small_argsz(client, GET_IRQ_INFO, irq_info_body(2))
    unwanted_fds(client, GET_IRQ_INFO, irq_info_body(2))


def test_no_reply(client):
    silent(client, GET_IRQ_INFO, irq_info_body(2))
    silent(client, GET_IRQ_INFO, irq_info_body(9))
