# SPDX-License-Identifier: BSD-2-Clause
"""Commands that no client may send, or that nobody knows: reference, 1.2, 2."""

import pytest

from vfio_user import DIRTY_PAGES, DMA_READ, DMA_WRITE
from wrong import refused, silent, unwanted_fds

COMMANDS = [0, DMA_READ, DMA_WRITE, DIRTY_PAGES, 19, 20, 255, 256, 0x8000, 0xffff]


@pytest.mark.parametrize("command", COMMANDS)
def test_einval(client, command):
    for length in (0, 1, 16, 24, 1000):
        refused(client, command, bytes(length))


@pytest.mark.parametrize("command", COMMANDS)
def test_fds_and_no_reply(client, command):
    unwanted_fds(client, command, bytes(16))
    silent(client, command, bytes(16))
