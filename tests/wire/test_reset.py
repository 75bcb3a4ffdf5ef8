# SPDX-License-Identifier: BSD-2-Clause
"""DEVICE_RESET: reference, 0.13, 9.2."""

import pytest

from conftest import RANGES, RESETS
from vfio_user import MSIX, PAGE, RESET
from wrong import refused, silent, unwanted_fds


def test_maps_and_eventfds_stay(client, ram, event):
    one = event()
    client.map(0, PAGE, ram.fd)
    client.set_irqs(0x24, MSIX, 0, 1, [one.fd])
    client.reset()
    assert client.register(RESETS) == 1
    assert client.register(RANGES) == 1
    assert client.dma_read(0, 1) == b"\1"
    client.cause(0)
    assert one.count() == 1


def test_pending_interrupts_go(client, event):
    client.set_irqs(0x24, MSIX, 0, 1)
    client.cause(0)
    assert client.read(1, 0x10000, 1) == b"\1"
    client.reset()
    assert client.read(1, 0x10000, 1) == b"\0"
    one = event()
    client.set_irqs(0x24, MSIX, 0, 1, [one.fd])
    assert one.count() == 0


@pytest.mark.parametrize("length", [1, 4, 16, 65536])
def test_body(client, length):
    refused(client, RESET, bytes(length))
    assert client.register(RESETS) == 0


def test_fds(client):
    unwanted_fds(client, RESET, b"")


def test_no_reply(client):
    silent(client, RESET)
    assert client.register(RESETS) == 1
