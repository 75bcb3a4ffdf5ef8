# SPDX-License-Identifier: BSD-2-Clause
"""What a driver finds when vmci-device has gone and its keeper serves."""

import os
import signal
import struct
import time

import pytest
from testbed import until
from testbed.keeper import Keeper, end
from testbed.qtest import (CAPS, CONTROL, DATA_IN, DATA_OUT, DATA_OUT_LOW, ICR, IMR, RESULT_LOW,
                           VmciMachine)

HOW = pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL, signal.SIGSEGV],
                              ids=lambda how: how.name)
QP_RESUMED, CONTEXT_ID, DETACH = 2, 1, 11
INVALID_RESOURCE = -1


def to_the_host(size=56):
    """A control packet of streams."""
    return struct.pack("<IIIIQ", 2, 1, 42, 1, size - 24) + bytes(size - 24)


def takes_over(machine):
    """Waits until the keeper serves: nothing is offered any more."""
    until("the keeper to take over", lambda: machine.get(CAPS) == 0)


def is_resumed_event(area):
    return area[:28] == struct.pack("<IIIIQI", 42, 0, 0, 0, 8, QP_RESUMED) and \
        area[32:56] == b"\xff" * 24


@HOW
def test_driver_is_told_and_refused(bench, how):
    bench.start_device()
    machine = bench.start_machine().enable()
    machine.enable_msix()
    machine.probe()
    keeper = end(bench.device, how)
    takes_over(machine)
    assert machine.wait_message(0) == 0xabc0
    assert is_resumed_event(machine.receive())
    assert machine.wait_message(2) == 0xabc2
    assert machine.receive()[:24] == b"\xff" * 24
    assert machine.send(to_the_host()) == INVALID_RESOURCE
    assert machine.hypercall(CONTEXT_ID, b"") == 42
    assert machine.hypercall(DETACH, struct.pack("<II", 42, 1024)) == 0
    machine.put(CONTROL, 1)
    assert machine.get(IMR) == 0
    machine.kill()
    keeper.wait()


@HOW
def test_reboot_finds_a_device_that_offers_nothing(bench, how):
    bench.start_device()
    machine = bench.start_machine().enable()
    machine.probe()
    end(bench.device, how)
    takes_over(machine)
    for _ in range(2):
        machine.qmp.command("system_reset")
        machine.qmp.event("RESET")
        assert machine.pci.get(0x00) == 0x074015ad
        assert machine.pci.get(0x04, 2) & 0x7 == 0
        machine.enable()
        assert machine.get(CAPS) == 0


def test_shared_vector(bench):
    """One vector: its handler reads the causes."""
    bench.start_device()
    machine = bench.start_machine().enable()
    machine.enable_msix(1)
    machine.probe()
    end(bench.device, signal.SIGKILL)
    assert machine.wait_message(0) == 0xabc0
    assert machine.get(ICR) == 1
    assert machine.get(ICR) == 0
    assert is_resumed_event(machine.receive())
    assert machine.wait_message(0) == 0xabc0
    assert machine.get(ICR) == 4


@pytest.mark.parametrize("option", ["--msi", "--intx", "--classic"])
def test_other_kinds_of_device(bench, option):
    bench.start_device(option)
    machine = bench.start_machine().enable()
    ports = machine.PORTS
    machine.port_out(ports + CAPS, 0x0c)
    machine.port_out(ports + IMR, 0x3)
    machine.port_out(ports + CONTROL, 0x2)
    end(bench.device, signal.SIGKILL)
    until("the keeper to take over", lambda: machine.port_in(ports + CAPS) == 0)
    time.sleep(0.1)
    assert machine.port_in(ports + ICR) == 1
    event = bytes(machine.port_in(ports + DATA_IN, 1) for _ in range(4096))
    assert is_resumed_event(event)
    for byte in to_the_host():
        machine.port_out(ports + DATA_OUT, byte, 1)
    assert machine.port_in(ports + RESULT_LOW) == INVALID_RESOURCE & 0xffffffff


def used_buffers(bench):
    """A machine whose buffers for sending and receiving are known to the device."""
    bench.start_device()
    machine = bench.start_machine().enable()
    machine.enable_msix()
    machine.probe()
    machine.receive()
    machine.message(2)
    return machine


def open_send(machine):
    datagram = to_the_host()
    machine.write(machine.SEND, struct.pack("<IIIIq", 1, 0, len(datagram), 0, 0) + datagram)


def open_receive(machine):
    header = struct.pack("<IIIIq", 0, 1, 1, 0, 0) + struct.pack("<QQ", machine.RECEIVE + 4096, 69632)
    machine.write(machine.RECEIVE, header)


@pytest.mark.parametrize("drivers", [1, 2])
def test_lost_writes_are_made_up_for(bench, drivers):
    """The writes that start a send and a receive have gone with the device."""
    machine = used_buffers(bench)
    if drivers == 2:
        machine.put(CONTROL, 1)
        machine.probe()
        machine.receive()
        machine.message(2)
    open_send(machine)
    open_receive(machine)
    end(bench.device, signal.SIGKILL)
    until("the send to be completed", lambda: machine.load(machine.SEND) == 0, 5)
    assert machine.load(machine.SEND + 16, 8) == INVALID_RESOURCE & 0xffffffffffffffff
    assert machine.get(RESULT_LOW) == INVALID_RESOURCE & 0xffffffff
    assert machine.load(machine.RECEIVE) == 1
    assert machine.wait_message(2) == 0xabc2
    assert is_resumed_event(machine.read(machine.RECEIVE + 4096, 4096))


@pytest.mark.parametrize("leave", ["reset", "caps", "power", "master"])
def test_memory_of_a_driver_that_left_is_not_touched(bench, leave):
    machine = used_buffers(bench)
    if leave == "reset":
        machine.put(CONTROL, 1)
    elif leave == "caps":
        machine.put(CAPS, 0x2c)
    elif leave == "power":
        machine.qmp.command("system_reset")
        machine.qmp.event("RESET")
        machine.enable()
    else:
        machine.pci.set(0x04, 0x3, 2)
        machine.pci.set(0x04, 0x7, 2)
    machine.get(CAPS)
    open_send(machine)
    open_receive(machine)
    end(bench.device, signal.SIGKILL)
    takes_over(machine)
    time.sleep(0.2)
    assert machine.load(machine.SEND) == 1
    assert machine.load(machine.RECEIVE) == 0
    assert machine.message(0) == 0


def test_device_killed_while_it_is_used(bench):
    """At any instruction. QEMU waits 5 seconds for an answer that never comes."""
    for attempt in range(20):
        bench.start_device()
        machine = bench.start_machine().enable()
        machine.probe()
        keeper = Keeper(bench.device)
        header = struct.pack("<IIIIq", 1, 0, 56, 0, 0) + to_the_host()
        for _ in range(50):
            machine.write(machine.SEND, header)
            machine.put(DATA_OUT_LOW, machine.SEND)
        bench.device.kill()
        for _ in range(50):
            machine.write(machine.SEND, header)
            machine.put(DATA_OUT_LOW, machine.SEND)
        assert machine.send(to_the_host()) == INVALID_RESOURCE
        machine.kill()
        keeper.wait()


def test_device_stopped_and_killed(bench):
    """What waits in the socket is served by the keeper."""
    machine = used_buffers(bench)
    bench.device.child.send_signal(signal.SIGSTOP)
    open_send(machine)
    machine.put(DATA_OUT_LOW, machine.SEND)
    assert machine.load(machine.SEND) == 1
    end(bench.device, signal.SIGKILL)
    until("the send to be completed", lambda: machine.load(machine.SEND) == 0, 5)
    assert machine.get(RESULT_LOW) == INVALID_RESOURCE & 0xffffffff


def test_next_device_at_the_same_socket(bench):
    """The dead device's keeper is in nobody's way."""
    bench.start_device()
    machine = bench.start_machine().enable()
    machine.probe()
    keeper = end(bench.device, signal.SIGKILL)
    bench.start_device()
    other = bench.directory / "other"
    other.mkdir()
    second = VmciMachine(other, bench.device.socket)
    bench.machines.append(second)
    second.enable().probe()
    assert keeper.is_running()
    takes_over(machine)
    second.probe()
    machine.kill()
    keeper.wait()


def test_keeper_has_nothing_but_its_vm(bench):
    bench.start_device()
    keeper = Keeper(bench.device)
    assert keeper.command_line == "vmci-keeper"
    idle = keeper.descriptors()
    assert len(idle) == 5 and list(idle.values()).count("/dev/null") == 3
    for _ in range(3):
        machine = bench.start_machine().enable()
        machine.probe()
        until("the keeper to follow", keeper.maps_guest_memory)
        machine.kill()
        until("the keeper to let go", lambda: keeper.descriptors() == idle)
        assert not keeper.maps_guest_memory()
    assert bench.device.terminate() == 0
    keeper.wait()


def test_keeper_ends_with_once(bench):
    device = bench.start_device("--once")
    keeper = Keeper(device)
    bench.start_machine().enable().qmp.command("quit")
    assert device.wait() == 0
    keeper.wait()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP], ids=lambda how: how.name)
def test_device_does_without_a_keeper_that_fails(bench, how):
    """It is said once, and the end of the device is the end of the connection."""
    bench.start_device()
    keeper = Keeper(bench.device)
    machine = bench.start_machine().enable()
    machine.probe()
    os.kill(keeper.pid, how)
    for _ in range(2000):
        machine.put(IMR, 7)
    machine.probe()
    assert bench.device.text().count("the keeper is of no use any more") == 1
    # QEMU may abort from here on: it does when it notices in the middle of an access.
    bench.device.kill()
    if how == signal.SIGSTOP:
        os.kill(keeper.pid, signal.SIGCONT)
    keeper.wait()
    assert "gone before" not in bench.device.text()


def test_no_keeper(bench):
    bench.start_device("--no-keeper")
    with pytest.raises(ValueError):
        Keeper(bench.device)
