# SPDX-License-Identifier: BSD-2-Clause
"""A server for each test, and clients of it. BUILD names the build folder."""

import os
import pathlib
import struct
import sys

import pytest

sys.path[:0] = [str(pathlib.Path(__file__).resolve().parent),
                str(pathlib.Path(__file__).resolve().parents[1] / "lib")]

from testbed.device import Device, is_listening      # noqa: E402
from testbed.process import BUILD, Process, Workdir, until  # noqa: E402
from vfio_user import BAR1, Client, Event, Ram       # noqa: E402

REGISTERS, BUFFER = 0x20000, 0x21000
ADDR, LEN, GO, RESULT, RESETS, MAPS, UNMAPS = 0x00, 0x08, 0x0c, 0x10, 0x20, 0x24, 0x28
FDS, RANGES, FILES, SHARE_OFF, LAST_UNMAP = 0x2c, 0x30, 0x34, 0x38, 0x3c
READ, WRITE, CAUSE, LEVEL, TAKE, LOAD, DROP, STORE32 = range(1, 9)


class EchoClient(Client):
    """A client that knows vus-echo's registers."""

    def register(self, offset):
        return self.read32(BAR1, REGISTERS + offset)

    def go(self, action, address=0, length=0):
        """Lets the device act; returns its result."""
        self.write(BAR1, REGISTERS + ADDR, struct.pack("=QI", address, length & 0xffffffff))
        self.write32(BAR1, REGISTERS + GO, action)
        return struct.unpack("=i", self.read(BAR1, REGISTERS + RESULT, 4))[0]

    def dma_read(self, address, length):
        result = self.go(READ, address, length)
        return result if result < 0 else self.read(BAR1, BUFFER, length)

    def dma_write(self, address, data):
        self.write(BAR1, BUFFER, data)
        return self.go(WRITE, address, len(data))

    def cause(self, cause):
        assert self.go(CAUSE, 0, cause) == 0

    def level(self, level):
        assert self.go(LEVEL, 0, level) == 0


class Server(Process):
    """vus-echo; new clients by connect()."""

    def __init__(self, directory):
        self.socket = directory / "echo.sock"
        self.clients = []
        super().__init__([BUILD / "tests/wire/vus-echo", self.socket], directory / "echo.log")
        until("vus-echo to listen", lambda: is_listening(self.socket) or not self.is_running())

    def connect(self, is_negotiated=True):
        client = EchoClient(self.socket)
        self.clients.append(client)
        if is_negotiated:
            client.negotiate()
        return client

    def fds(self):
        """Descriptors open in the server."""
        return len(os.listdir(f"/proc/{self.pid}/fd"))


@pytest.fixture
def directory():
    work = Workdir()
    yield work.path
    work.close()


@pytest.fixture
def server(directory):
    """Whatever a test does to it, the server lives, serves the next client, and leaks nothing."""
    running = Server(directory)
    before = running.fds()
    yield running
    assert running.is_running(), running.text()
    for client in running.clients:
        client.close()
    last = running.connect()
    assert last.register(RANGES) == 0
    last.close()
    until("all descriptors to be closed", lambda: running.fds() == before)
    running.kill()
    assert "Sanitizer" not in running.text(), running.text()
    assert "runtime error" not in running.text(), running.text()


@pytest.fixture
def client(server):
    """Connected, version agreed."""
    return server.connect()


@pytest.fixture
def raw(server):
    """Connected, nothing said yet."""
    return server.connect(is_negotiated=False)


@pytest.fixture
def ram():
    memory = Ram(16)
    for page in range(16):
        memory.fill(page, page + 1)
    yield memory
    memory.close()


@pytest.fixture
def event():
    made = []

    def make():
        made.append(Event())
        return made[-1]
    yield make
    for each in made:
        each.close()


@pytest.fixture
def device(directory):
    """Starts vmci-device with options; connect with Client(device.socket)."""
    running = []

    def start(*options):
        if b"__asan_init" in (BUILD / "vmci-device").read_bytes():
            options += ("--no-sandbox",)        # it would keep the sanitizers from reporting
        running.append(Device(directory, *options, cid=20))
        return running[-1]
    yield start
    for each in running:
        assert each.is_running(), each.text()
        assert each.terminate() == 0, each.text()
        assert "Sanitizer" not in each.text(), each.text()
        assert "runtime error" not in each.text(), each.text()
