# SPDX-License-Identifier: BSD-2-Clause
"""A device that ends before its VM: guest programs get an error, and the guest lives on."""

import os
import pathlib
import signal
import time

import pytest
from beds import one_bed
from test_lifecycle import RELOAD, OpenStreams, works
from testbed import PATHS, VM, Device, TestbedError, connect, until
from testbed.hybrid import Listener, read_all

# QEMU's patience with an access that was under way.
QEMU_PATIENCE = 5


def children(pid):
    return [int(child) for child in
            pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def keeper_of(device):
    """Process id of a device's keeper."""
    [pid] = [child for child in children(device.pid)
             if pathlib.Path(f"/proc/{child}/comm").read_text() == "vmci-keeper\n"]
    return pid


def is_alive(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def end(device, how):
    """Ends a device; returns its keeper."""
    keeper = keeper_of(device)
    if how == "SIGTERM":
        assert device.terminate() == 0
    else:
        os.kill(device.pid, getattr(signal, how))
        assert device.wait() == -getattr(signal, how)
    assert is_alive(keeper)
    return keeper


def survives(vm, connects=20):
    """The guest is alive, and connects fail at once."""
    begin = time.monotonic()
    text = vm.run(f"for i in $(seq {connects}); do vsx connect 2 5100 && exit 1; done; true", 20)
    assert text.split() == ["EHOSTUNREACH"] * connects
    assert time.monotonic() - begin < 10


class Busy(OpenStreams):
    """Streams of both directions that sleep, and others that move data all the time."""

    def __init__(self, bed, port=5100):
        super().__init__(bed, port)
        with Listener(bed.device.hybrid, port + 1) as listener:
            self.pumps = [
                bed.vm.start(f"exec socat -u /dev/zero VSOCK-CONNECT:2:{port + 1}"),
                bed.vm.start(f"exec socat -u VSOCK-CONNECT:2:{port + 1} OPEN:/dev/null")]
            self.pump_hosts = [listener.accept() for _ in range(2)]

    def programs_end(self):
        """Readers and writers end by themselves, within seconds."""
        for guest in self.guests[:2]:
            assert guest.check(20).count("stream ") == 2
        for pump in self.pumps:
            pump.wait(20)


@pytest.mark.parametrize("how", ["SIGTERM", "SIGKILL", "SIGSEGV"])
def test_guest_survives(bed, how):
    streams = Busy(bed)
    keeper = end(bed.device, how)
    begin = time.monotonic()
    streams.all_end()
    streams.programs_end()
    took = time.monotonic() - begin
    survives(bed.vm)
    streams.guests[2].kill()
    bed.vm.run("sync", 20)
    print(f"{how}: programs ended after {took:.2f} s")
    assert not bed.complaints()
    bed.vm.kill()
    until("the keeper to end with its VM", lambda: not is_alive(keeper), 5)
