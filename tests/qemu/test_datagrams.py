# SPDX-License-Identifier: BSD-2-Clause
"""Registers, DMA and interrupts as a driver uses them."""

import struct

import pytest
from testbed.qtest import (CAPS, CONTROL, DATA_IN, DATA_OUT, DATA_OUT_LOW, ICR, IMR, RESULT_LOW)

CID = 42
NOTIFY_BITMAP, CONTEXT_ID = 2, 1
NO_ACCESS, INVALID_ARGS = -7, -2


def datagram(payload, to=(CID, 2000), source=(CID, 2000)):
    return struct.pack("<IIIIQ", *to, *source, len(payload)) + payload


def test_probe_and_context_id(machine):
    machine.probe()
    assert machine.hypercall(CONTEXT_ID, b"") == CID


def test_datagram_to_oneself_comes_back_with_interrupts(machine):
    machine.enable_msix()
    machine.probe()
    sent = datagram(b"to whom it may concern..")
    assert machine.send(sent) == len(sent)
    assert machine.wait_message(0) == 0xabc0
    area = machine.receive()
    assert area[:len(sent)] == sent
    assert area[len(sent):len(sent) + 24] == b"\xff" * 24
    assert machine.wait_message(2) == 0xabc2
    assert machine.receive()[:24] == b"\xff" * 24


def test_every_datagram_interrupts(machine):
    """Exclusive vectors are edges: each event sends its message, read or not."""
    machine.enable_msix()
    machine.probe()
    for _ in range(3):
        machine.send(datagram(b"again..."))
        assert machine.wait_message(0) == 0xabc0


def test_masked_vector_fires_when_unmasked(machine):
    machine.enable_msix()
    machine.set_vector(0, 0xabc0, masked=True)
    machine.probe()
    machine.send(datagram(b"wait for"))
    assert machine.message(0) == 0
    machine.set_vector(0, 0xabd0)
    assert machine.wait_message(0) == 0xabd0


def test_vector_can_be_aimed_anew(machine):
    machine.enable_msix()
    machine.probe()
    machine.set_vector(0, 0x1111)
    machine.send(datagram(b"........"))
    assert machine.wait_message(0) == 0x1111


def test_masked_causes_do_not_interrupt(machine):
    machine.enable_msix()
    machine.probe()
    machine.put(IMR, 0x4)
    machine.send(datagram(b"quietly."))
    machine.receive()
    assert machine.wait_message(2) == 0xabc2
    assert machine.message(0) == 0


def test_msi_and_interrupt_causes(bench):
    bench.start_device("--msi")
    machine = bench.start_machine().enable()
    msi = machine.pci.capability(0x05)
    assert machine.pci.capability(0x11) is None
    machine.pci.set(msi + 4, machine.MESSAGES)
    machine.pci.set(msi + 8, 0)
    machine.pci.set(msi + 12, 0x77, 2)
    machine.pci.set(msi + 2, 0x1, 2)
    machine.probe()
    machine.send(datagram(b"one line"))
    assert machine.wait_message(0) == 0x77
    assert machine.get(ICR) == 0x1
    assert machine.get(ICR) == 0, "reading acknowledges"


@pytest.mark.parametrize("source", [(41, 2000), (2, 1), (0, 0)])
def test_forged_source_is_refused(machine, source):
    machine.probe()
    assert machine.send(datagram(b"", source=source)) == NO_ACCESS


def test_send_from_nowhere_leaves_the_device_alive(machine):
    machine.probe()
    machine.put(DATA_OUT_LOW, 0xc0000000)
    assert machine.get(RESULT_LOW) >> 31, "an address that is no memory is an error"
    assert machine.hypercall(CONTEXT_ID, b"") == CID


@pytest.mark.parametrize("size", [0, 23, 0xffffffff])
def test_wrong_size_in_the_send_header(machine, size):
    machine.probe()
    machine.write(machine.SEND, struct.pack("<IIIIq", 1, 0, size, 0, 0) + datagram(b""))
    machine.put(DATA_OUT_LOW, machine.SEND)
    assert machine.get(RESULT_LOW) >> 31
    assert machine.load(machine.SEND) == 0, "busy must be cleared"


def test_notification_bitmap_must_be_memory(machine):
    machine.probe()
    assert machine.hypercall(NOTIFY_BITMAP, struct.pack("<Q", 0x400)) == 0
    assert machine.hypercall(NOTIFY_BITMAP, struct.pack("<Q", 0xffffffff)) < 0


def ports_send(machine, data):
    for byte in data:
        machine.port_out(machine.PORTS + DATA_OUT, byte, 1)
    result = machine.port_in(machine.PORTS + RESULT_LOW)
    return result - (result >> 31 << 32)


@pytest.mark.parametrize("options", [[], ["--classic"]], ids=["mmio", "classic"])
def test_byte_ports(bench, options):
    bench.start_device(*options)
    machine = bench.start_machine().enable()
    machine.port_out(machine.PORTS + CAPS, 0xc)
    sent = datagram(b"byte for byte...")
    assert ports_send(machine, sent) == len(sent)
    assert ports_send(machine, sent[:30]) == INVALID_ARGS, "an unfinished datagram is dropped"
    assert ports_send(machine, sent) == len(sent)
    burst = bytes(machine.port_in(machine.PORTS + DATA_IN, 1) for _ in range(4096))
    assert burst[:80] == sent + sent
    assert burst[80:] == b"\xff" * (4096 - 80)


def test_driver_reset_forgets(machine):
    machine.enable_msix()
    machine.probe()
    machine.send(datagram(b"forgotten"))
    machine.put(CONTROL, 0x1)
    machine.probe()
    assert machine.receive()[:24] == b"\xff" * 24
    assert machine.hypercall(CONTEXT_ID, b"") == CID
