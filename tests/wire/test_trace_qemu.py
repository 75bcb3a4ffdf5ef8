# SPDX-License-Identifier: BSD-2-Clause
"""QEMU's life cycle, message by message: reference, 9.1 to 9.3. Against vus-echo and vmci-device."""

import struct

import pytest

from vfio_user import (BAR0, BAR1, CONFIG, DMA_MAP, ERR, GET_INFO, GET_IRQ_INFO, GET_REGION_INFO, MSI, MSIX,
                       PAGE, REGION_READ, Client, Ram, access_body, info_body, irq_info_body, map_body,
                       region_info_body)
from wrong import refused

RAM_SIZE = 64 * PAGE


def start_up(client, memory, msix=True):
    """Everything up to the end of the machine's reset; returns config space as QEMU read it."""
    assert client.negotiate()[:2] == (0, 0)
    # Memory, asynchronously: the replies are fetched later.
    pending = [client.send(DMA_MAP, map_body(0, RAM_SIZE // 2), [memory.fd]),
               client.send(DMA_MAP, map_body(0xc0000000, RAM_SIZE // 2, RAM_SIZE // 2), [memory.fd]),
               client.send(DMA_MAP, map_body(0xfffc0000, 0x40000, flags=1))]
    for ident in pending:
        client.answer(ident, DMA_MAP)
    flags, regions, irqs = struct.unpack("=4xIII", client.call(GET_INFO, info_body()).body)
    assert flags == 3 and regions == 9 and irqs == 5
    sizes = {}
    for index in (0, 1, 2, 3, 4, 5, 7):
        reply = client.call(GET_REGION_INFO, region_info_body(index))
        argsz, region_flags, number, _, size, _ = struct.unpack("=IIIIQQ", reply.body)
        assert number == index and (size == 0) == (region_flags == 0) and argsz >= 32
        assert size & (size - 1) == 0               # else QEMU aborts
        sizes[index] = size
    err = struct.unpack("=IIII", client.call(GET_IRQ_INFO, irq_info_body(ERR)).body)
    assert err == (16, 1, ERR, 1)

    config = client.read(CONFIG, 0, 256)
    old = client.read(CONFIG, 0x30, 4)
    client.write32(CONFIG, 0x30, 0xfffff800)
    assert client.read32(CONFIG, 0x30) == 0         # no ROM
    client.write(CONFIG, 0x30, old)
    for bar in range(6):
        if sizes[bar]:
            client.read(CONFIG, 0x10 + 4 * bar, 4)
    if msix:
        capability = find_capability(config, 0x11)
        control = struct.unpack("=H", client.read(CONFIG, capability + 2, 2))[0]
        table, pba = client.read32(CONFIG, capability + 4), client.read32(CONFIG, capability + 8)
        for where, length in ((table, 16 * ((control & 0x7ff) + 1)), (pba, 8)):
            assert sizes[where & 7] >= (where & ~7) + length    # else QEMU dies
        assert table & 7 == pba & 7 and abs((table & ~7) - (pba & ~7)) >= PAGE
        info = struct.unpack("=IIII", client.call(GET_IRQ_INFO, irq_info_body(MSIX)).body)
        assert info == (16, 1, MSIX, (control & 0x7ff) + 1)
    client.read(CONFIG, 0x3d, 1)
    return config


def machine_reset(client):
    command = struct.unpack("=H", client.read(CONFIG, 4, 2))[0]
    client.write(CONFIG, 4, struct.pack("=H", command & ~0x407))
    client.reset()
    client.read(CONFIG, 0x3d, 1)
    for bar in range(6):
        client.write32(CONFIG, 0x10 + 4 * bar, 0)


def find_capability(config, wanted):
    assert config[6] & 0x10
    at, hops = config[0x34], 0
    while at and hops < 48:
        if config[at] == wanted:
            return at
        at, hops = config[at + 1], hops + 1
    return None


def boot_storm(client, memory):
    """The firmware moves low memory about."""
    client.unmap(0, RAM_SIZE // 2)
    for split in range(1, 20):
        client.map(0, split * PAGE, memory.fd)
        client.map(split * PAGE, PAGE, memory.fd, offset=split * PAGE, flags=1)
        rest = RAM_SIZE // 2 - (split + 1) * PAGE
        client.map((split + 1) * PAGE, rest, memory.fd, offset=(split + 1) * PAGE)
        client.unmap(0, split * PAGE)
        client.unmap(split * PAGE, PAGE)
        client.unmap((split + 1) * PAGE, rest)
    client.map(0, RAM_SIZE // 2, memory.fd)


def enable_msix(client, config, events):
    capability = find_capability(config, 0x11)
    client.write(CONFIG, 4, struct.pack("=H", 0x0407))
    client.write(CONFIG, capability + 2, struct.pack("=H", 0x8002))
    client.set_irqs(0x24, MSIX, 0, 1)
    for vector, event in enumerate(events):
        client.set_irqs(0x24, MSIX, vector, 1, [event.fd])


def guest_reset(client, config):
    client.set_irqs(0x21, MSIX, 0, 0)
    client.write(CONFIG, find_capability(config, 0x11) + 2, struct.pack("=H", 0x0002))
    client.read(CONFIG, 0x3d, 1)
    machine_reset(client)


def unplug(client):
    client.set_irqs(0x24, ERR, 0, 1)
    client.unmap(0, RAM_SIZE // 2)
    client.unmap(0xc0000000, RAM_SIZE // 2)
    client.unmap(0xfffc0000, 0x40000)
    client.close()


@pytest.fixture
def memory():
    made = Ram(RAM_SIZE // PAGE)
    made.fill(0, 1)
    yield made
    made.close()


def live(client, memory, event):
    config = start_up(client, memory)
    client.set_irqs(0x24, ERR, 0, 1, [event().fd])
    machine_reset(client)
    boot_storm(client, memory)
    for _ in range(3):
        enable_msix(client, config, [event() for _ in range(3)])
        guest_reset(client, config)
    return config


def test_vus_echo(server, memory, event):
    client = server.connect(is_negotiated=False)
    live(client, memory, event)
    assert client.dma_read(0, 1) == b"\1"
    unplug(client)


def test_vmci_device(device, memory, event):
    started = device()
    client = Client(started.socket)
    config = live(client, memory, event)
    assert struct.unpack_from("=HH", config) == (0x15ad, 0x0740)
    assert config[10:12] == b"\x80\x08"
    # Unknown or bad things do not end it.
    refused(client, 99)
    for region, offset in ((BAR0, 64), (BAR1, 0x40000), (CONFIG, 256), (2, 0)):
        refused(client, REGION_READ, access_body(region, offset, 4))
    unplug(client)
    # The next VM.
    client = Client(started.socket)
    live(client, memory, event)
    client.close()


def test_vmci_device_with_msi(device, memory, event):
    client = Client(device("--msi").socket)
    config = start_up(client, memory, msix=False)
    assert find_capability(config, 0x11) is None
    capability = find_capability(config, 0x05)
    assert capability
    machine_reset(client)
    info = struct.unpack("=IIII", client.call(GET_IRQ_INFO, irq_info_body(MSI)).body)
    assert info == (16, 9, MSI, 1)
    one = event()
    client.set_irqs(0x24, MSI, 0, 1, [one.fd])
    client.set_irqs(0x21, MSI, 0, 0)
    client.close()


def test_vmci_device_classic(device, memory, event):
    client = Client(device("--classic").socket)
    start_up(client, memory)
    machine_reset(client)
    reply = client.call(GET_REGION_INFO, region_info_body(BAR1))
    assert struct.unpack_from("=Q", reply.body, 16)[0] == 0x2000
    client.close()


def test_vmci_device_outlives_a_killed_vm(device, memory):
    started = device()
    for _ in range(5):
        client = Client(started.socket)
        start_up(client, memory)
        client.close()


def test_vmci_device_survives_garbage(device):
    started = device()
    for data in (bytes(64), b"\xff" * 4096, b"GET / HTTP/1.1\r\n\r\n", b"\1"):
        client = Client(started.socket)
        client.send_raw(data)
        client.close()
    client = Client(started.socket)
    client.negotiate()
    client.close()
