# SPDX-License-Identifier: BSD-2-Clause
"""Resets, unplugging, and a device that dies under its VMM."""

import signal
import socket
import struct
import subprocess

import pytest
from testbed import TestbedError, until
from testbed.process import BUILD
from testbed.qtest import CAPS, IMR, VmciMachine

INVALID_RESOURCE = -1

# A control packet of no known type, to which the device answers INVALID in its own time.
STREAM_REQUEST = struct.pack("<IIIIQBBHIII16x", 2, 1, 42, 1, 32, 1, 13, 0, 5000, 5001, 0)

ACPI_EJECT = 0xae08     # of the machine "pc": a set bit ejects that slot


def test_system_reset_is_a_power_on(machine):
    machine.enable_msix()
    machine.probe()
    for _ in range(3):
        machine.qmp.command("system_reset")
        machine.qmp.event("RESET")
        assert machine.pci.get(0x04, 2) & 0x7 == 0
        assert machine.pci.get(0x10) == 1
        machine.enable()
        assert machine.get(CAPS) == 0x2c
        assert machine.get(IMR) == 0
        machine.enable_msix()
        machine.probe()


def next_device_works(bench, machine):
    """A new device never gets the old VM, and serves the next."""
    bench.start_device()
    machine.qmp.command("system_reset")
    machine.qmp.event("RESET")
    machine.enable()
    assert machine.get(CAPS) != 0x2c
    assert machine.qmp.command("query-status")["running"]
    machine.kill()
    bench.start_machine().enable().probe()


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL], ids=["terminated", "killed"])
def test_device_ends_and_its_keeper_serves(bench, how):
    """Sends complete, with an error; no new driver would take the device."""
    bench.start_device()
    machine = bench.start_machine().enable()
    machine.probe()
    assert machine.send(STREAM_REQUEST) == len(STREAM_REQUEST)
    bench.device.child.send_signal(how)
    bench.device.wait()
    assert machine.send(STREAM_REQUEST) == INVALID_RESOURCE
    assert machine.get(CAPS) == 0
    next_device_works(bench, machine)


def test_vmm_killed_and_replaced(bench):
    bench.start_device()
    for _ in range(3):
        machine = bench.start_machine().enable()
        machine.enable_msix()
        machine.probe()
        machine.kill()


def test_second_vmm_waits_for_the_first(bench):
    """One VM at a time: the second QEMU is served when the first has gone."""
    bench.start_device()
    first = bench.start_machine().enable()
    first.probe()
    second = socket.socket(socket.AF_UNIX)
    second.connect(str(bench.device.socket))
    first.probe()
    second.close()
    first.kill()
    bench.start_machine().enable().probe()


def test_unplug_and_plug_with_msi(bench):
    bench.start_device("--msi")
    machine = bench.start_machine(machine="pc")
    for times in range(1, 4):
        machine.enable().probe()
        machine.qmp.command("device_del", id="vmci0")
        machine.port_out(ACPI_EJECT, 1 << machine.SLOT)
        machine.qmp.event("DEVICE_DELETED")
        assert machine.pci.get(0x00) == 0xffffffff
        until("the device to see it",
              lambda: bench.device.text().count("VMM disconnected") == times)
        machine.qmp.command("device_add", driver="vfio-user-pci", id="vmci0",
                            addr=hex(machine.SLOT),
                            socket={"type": "unix", "path": str(bench.device.socket)})
        assert machine.pci.get(0x00) == 0x074015ad


def test_hot_plug_with_msix(bench):
    bench.start_device()
    machine = bench.start_machine(machine="pc", plugged=False)
    assert machine.pci.get(0x00) == 0xffffffff
    machine.qmp.command("device_add", driver="vfio-user-pci", id="vmci0", addr=hex(machine.SLOT),
                        socket={"type": "unix", "path": str(bench.device.socket)})
    machine.enable().enable_msix()
    machine.probe()


def test_hot_plug_without_a_device_is_a_clean_error(bench):
    device = bench.start_device()
    device.terminate()
    machine = bench.start_machine(machine="pc", plugged=False)
    with pytest.raises(TestbedError, match="device_add"):
        machine.qmp.command("device_add", driver="vfio-user-pci", id="vmci0",
                            socket={"type": "unix", "path": str(device.socket)})
    assert machine.qmp.command("query-status")["running"]


def test_once(bench):
    device = bench.start_device("--once")
    bench.start_machine().enable().qmp.command("quit")
    assert device.wait() == 0


def test_inherited_listening_socket(bench):
    """--fd N: as a service manager starts it."""
    listener = socket.socket(socket.AF_UNIX)
    path = bench.directory / "inherited.sock"
    listener.bind(str(path))
    listener.listen(1)
    log = bench.directory / "inherited.log"
    with open(log, "wb") as out:
        child = subprocess.Popen([BUILD / "vmci-device", "--fd", str(listener.fileno()), "--cid", "77",
                                  "--once"], pass_fds=[listener.fileno()], stderr=out)
    listener.close()
    try:
        machine = VmciMachine(bench.directory, path)
        bench.machines.append(machine)
        machine.enable().probe()
        assert machine.hypercall(1, b"") == 77
        machine.kill()
        assert child.wait(60) == 0
    finally:
        child.kill()
        child.wait()
