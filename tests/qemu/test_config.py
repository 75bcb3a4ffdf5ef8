# SPDX-License-Identifier: BSD-2-Clause
"""Start-up and PCI config space, through QEMU's eyes and a guest's."""

import os

import pytest
from testbed.qtest import CAPS

ALL_ONES = 0xffffffff


def test_identity(machine):
    assert machine.pci.get(0x00) == 0x074015ad
    assert machine.pci.get(0x08) >> 8 == 0x088000
    assert machine.pci.get(0x2c) == 0x074015ad
    assert machine.pci.get(0x0e, 1) & 0x7f == 0


def test_qemu_sees_two_bars(machine):
    [device] = [d for d in machine.qmp.command("query-pci")[0]["devices"] if d["slot"] == machine.SLOT]
    regions = {r["bar"]: (r["type"], r["size"], r["address"]) for r in device["regions"]}
    assert regions == {0: ("io", 64, machine.PORTS), 1: ("memory", 0x40000, machine.BAR1)}


@pytest.mark.parametrize("options, table, bar1", [
    ([], 3, 0xfffc0000), (["--classic"], 2, 0xffffe000)], ids=["mmio", "classic"])
def test_bar_sizes_and_vectors(bench, options, table, bar1):
    bench.start_device(*options)
    pci = bench.start_machine().pci
    pci.set(0x10, ALL_ONES)
    assert pci.get(0x10) == 0xffffffc0 | 1
    pci.set(0x14, ALL_ONES)
    pci.set(0x18, ALL_ONES)
    assert pci.get(0x14) == bar1 | 4
    assert pci.get(0x18) == ALL_ONES
    for absent in 0x1c, 0x20, 0x24, 0x30:
        pci.set(absent, ALL_ONES)
        assert pci.get(absent) == 0
    msix = pci.capability(0x11)
    assert pci.get(msix + 2, 2) & 0x7ff == table - 1
    assert pci.get(msix + 4) == 0 | 1
    assert pci.get(msix + 8) == (0x10000 if not options else 0x1000) | 1


def test_read_only_fields_stay(machine):
    before = [machine.pci.get(offset) for offset in range(0, 0x100, 4)]
    for offset in 0x00, 0x08, 0x2c, 0x34, 0x3c:
        machine.pci.set(offset, ALL_ONES)
    after = [machine.pci.get(offset) for offset in range(0, 0x100, 4)]
    before[0x3c // 4] |= 0xff       # the interrupt line is a scratch register
    before[0x0c // 4] = after[0x0c // 4]
    assert after == before


def test_every_config_byte_survives_garbage(machine):
    """No write to config space may bring an error, or take the device away."""
    for value in ALL_ONES, 0, 0x5a5a5a5a:
        for offset in range(0, 0x100, 4):
            machine.pci.set(offset, value)
    assert machine.pci.get(0x00) == 0x074015ad
    assert "error" not in machine.text()
    machine.enable()
    assert machine.get(CAPS) == 0x2c


def test_one_register_file_behind_both_bars(machine):
    assert machine.port_in(machine.PORTS + CAPS) == machine.get(CAPS) == 0x2c


def test_bars_move(machine):
    machine.pci.set(0x10, 0xd000)
    machine.pci.set(0x14, 0xe0000000)
    assert machine.port_in(0xd000 + CAPS) == 0x2c
    assert machine.load(0xe0020000 + CAPS) == 0x2c
    assert machine.load(machine.REGISTERS + CAPS) != 0x2c


def test_no_decoding_no_registers(machine):
    machine.pci.set(0x04, 0x4, 2)
    assert machine.load(machine.REGISTERS + CAPS) != 0x2c
    machine.pci.set(0x04, 0x7, 2)
    assert machine.get(CAPS) == 0x2c


def test_classic_has_ports_only(bench):
    bench.start_device("--classic")
    machine = bench.start_machine().enable()
    assert machine.port_in(machine.PORTS + CAPS) & 0x2c == 0x0c


def test_twenty_machines_one_device(bench):
    """Each VM finds a fresh device, and none leaves a descriptor behind."""
    bench.start_device()
    counts = set()
    for _ in range(20):
        machine = bench.start_machine().enable()
        machine.probe()
        counts.add(len(os.listdir(f"/proc/{bench.device.pid}/fd")))
        machine.qmp.command("quit")
        assert machine.wait() == 0
    assert len(counts) == 1


def test_without_posted_writes(bench):
    bench.start_device()
    machine = bench.start_machine(properties={"x-no-posted-writes": True}).enable()
    machine.probe()
