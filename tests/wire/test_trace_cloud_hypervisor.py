# SPDX-License-Identifier: BSD-2-Clause
"""Cloud Hypervisor's habits: reference, 10. Against vus-echo and vmci-device."""

import struct

import pytest

from vfio_user import (CLOUD_HYPERVISOR_CAPABILITIES, CONFIG, GET_INFO, GET_IRQ_INFO, GET_REGION_INFO, INTX,
                       MSIX, PAGE, Client, Ram, info_body, irq_info_body, region_info_body)


@pytest.fixture
def memory():
    made = Ram(64)
    made.fill(0, 1)
    yield made
    made.close()


def bar_size(client, bar):
    """Writes all-ones and looks what stays: size, and number of registers it takes."""
    registers = [0x10 + 4 * bar]
    if client.read32(CONFIG, registers[0]) & 7 == 4:
        registers.append(registers[0] + 4)
    value, kind = 0, 15
    for number, register in enumerate(registers):
        old = client.read32(CONFIG, register)
        client.write32(CONFIG, register, 0xffffffff)
        value |= client.read32(CONFIG, register) << (32 * number)
        client.write32(CONFIG, register, old)
    if value & 1:
        kind = 3
    return -(value & ~kind) & ((1 << 32 * len(registers)) - 1), len(registers)


def live(client, memory, event):
    assert client.negotiate(0, 1, CLOUD_HYPERVISOR_CAPABILITIES)[:2] == (0, 1)
    reply = client.call(GET_INFO, info_body(32))
    assert len(reply.body) == 16                        # although there is room for 32
    regions = struct.unpack("=4xIII", reply.body)[1]
    sizes = []
    for index in range(regions):                        # each one, VGA too
        reply = client.call(GET_REGION_INFO, region_info_body(index))
        argsz, flags, _, _, size, _ = struct.unpack_from("=IIIIQQ", reply.body)
        if argsz > 32:                                  # asks again, and panics without an fd
            reply = client.call(GET_REGION_INFO, region_info_body(index, argsz))
            flags = struct.unpack_from("=I", reply.body, 4)[0]
        assert bool(flags & 4) == bool(reply.fds)
        sizes.append(size)
    client.map(0, 64 * PAGE, memory.fd)

    # BARs are sized through config space.
    bar = 0
    while bar < 6:
        size, width = bar_size(client, bar)
        assert size == sizes[bar]
        assert width == 1 or sizes[bar + 1] == 0
        bar += width
    client.write32(CONFIG, 0x30, 0xffffffff)
    assert client.read32(CONFIG, 0x30) == 0

    # INTx is set up when its count is not 0, whatever the pin says.
    count = struct.unpack("=12xI", client.call(GET_IRQ_INFO, irq_info_body(INTX)).body)[0]
    assert count == (1 if client.read(CONFIG, 0x3d, 1) != b"\0" else 0)
    if count:
        client.set_irqs(0x24, INTX, 0, 1, [event().fd])

    vectors = struct.unpack("=12xI", client.call(GET_IRQ_INFO, irq_info_body(MSIX)).body)[0]
    client.set_irqs(0x24, MSIX, 0, vectors, [event().fd for _ in range(vectors)])
    # Writes are never posted; their reply has 16 bytes (checked in write()).
    client.write(CONFIG, 4, struct.pack("=H", 6))
    client.reset()
    client.set_irqs(0x21, MSIX, 0, 0)
    client.unmap(0, 64 * PAGE)


def test_vus_echo(server, memory, event):
    for _ in range(3):                                  # a reboot connects anew
        client = server.connect(is_negotiated=False)
        live(client, memory, event)
        client.close()


@pytest.mark.parametrize("options", [(), ("--classic",), ("--intx",)])
def test_vmci_device(device, memory, event, options):
    started = device(*options)
    for _ in range(3):
        client = Client(started.socket)
        live(client, memory, event)
        client.close()
