# SPDX-License-Identifier: BSD-2-Clause
"""Programs that send descriptors to the hybrid socket: refused by the kernel, or the program's connection ends; nobody
waits for them to be closed."""

import socket
import time

import pytest
from testbed.process import until
from testbed.tarpit import LIMIT, Tarpit


@pytest.fixture
def tarpit():
    made = Tarpit()
    yield made
    made.close()


def connect(device):
    program = socket.socket(socket.AF_UNIX)
    program.settimeout(2 * LIMIT)
    program.connect(str(device.hybrid))
    return program


def is_ended(program):
    try:
        return not program.recv(1)
    except ConnectionResetError:
        return True


@pytest.mark.parametrize("depth", [0, 1, 2])
@pytest.mark.parametrize("words", [b"nonsense\n", b"CONNECT 5000\n", b"CONN"])
def test_hello_with_a_descriptor(device, tarpit, words, depth):
    running = device()
    until("the hybrid socket", running.hybrid.exists)
    bad = connect(running)
    try:
        tarpit.send(running.pid, bad, words, depth)
        is_sent = True
    except PermissionError:
        is_sent = False
    if words == b"CONN":
        bad.shutdown(socket.SHUT_WR)
    elif not is_sent:
        bad.send(b"nonsense\n")
    began = time.monotonic()
    good = connect(running)
    good.send(b"nonsense\n")
    assert is_ended(good)
    assert is_ended(bad)
    assert time.monotonic() - began < LIMIT
    good.close()
    bad.close()
