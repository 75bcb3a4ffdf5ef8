#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""Writes the seeds of corpus/vfio: what QEMU and Cloud Hypervisor send, and some wrong things.

The format is that of vfio.c. Usage: seed_vfio.py FOLDER
"""

import pathlib
import struct
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "tests/wire"))
sys.dont_write_bytecode = True

import vfio_user as v       # noqa: E402

SEALED, EVENT, TRUNCATED, PIPE = (kind << 3 for kind in range(4))
MORE, COOKED, READ = 0x20, 0x40, 0x80


def record(control, data):
    return struct.pack("<BH", control, len(data)) + data


def cooked(command, body=b"", control=READ, flags=0):
    return record(COOKED | control, bytes([command, flags]) + body)


def raw(command, body=b"", control=READ, flags=0):
    return record(control, v.header(1, command, len(body), flags) + body)


def write(offset, value, flags=v.NO_REPLY):
    """What the device is to do: the low bits of the offset."""
    return cooked(v.REGION_WRITE, v.access_body(v.BAR1, offset, 8, struct.pack("=Q", value)), flags=flags)


def read(region, offset, count):
    return cooked(v.REGION_READ, v.access_body(region, offset, count))


def start_up():
    yield cooked(v.DMA_MAP, v.map_body(0, 16 * v.PAGE), READ | SEALED | 1)
    yield cooked(v.DMA_MAP, v.map_body(0xfffc0000, 0x40000, flags=1))
    yield cooked(v.GET_INFO, v.info_body())
    for index in range(9):
        yield cooked(v.GET_REGION_INFO, v.region_info_body(index))
    for index in range(5):
        yield cooked(v.GET_IRQ_INFO, v.irq_info_body(index))
    yield read(v.CONFIG, 0, 256)
    yield cooked(v.REGION_WRITE, v.access_body(v.CONFIG, 0x30, 4, b"\0\xf8\xff\xff"))
    yield read(v.CONFIG, 0x30, 4)
    yield cooked(v.SET_IRQS, v.irqs_body(0x24, v.ERR, 0, 1), READ | EVENT | 1)
    yield cooked(v.RESET)


def memory():
    yield cooked(v.DMA_MAP, v.map_body(0, 4 * v.PAGE, v.PAGE), READ | SEALED | 1)
    yield cooked(v.DMA_MAP, v.map_body(4 * v.PAGE, 12 * v.PAGE), READ | SEALED | 1)
    yield write(0, 4 * v.PAGE - 20)             # read
    for what in range(4):                       # take, load, store, spans
        yield write(6 | what << 4, 3 * v.PAGE)
    yield write(6 | 1 << 6, 8)                  # a large page
    yield write(6 | 3 << 4 | 1 << 6, 0x3ff8)
    yield cooked(v.DMA_UNMAP, v.unmap_body(0, 4 * v.PAGE))
    yield write(6 | 1 << 4, 0)
    yield cooked(v.DMA_MAP, v.map_body(0, 4 * v.PAGE), READ | SEALED | 1)
    yield write(6 | 1 << 4, 0)
    yield write(1, 100)
    yield write(2, 200)
    yield cooked(v.DMA_UNMAP, v.unmap_body(0, 0, flags=2))
    yield write(6 | 1 << 4, 0)


def interrupts():
    yield cooked(v.SET_IRQS, v.irqs_body(0x24, v.MSIX, 0, 1))
    for vector in range(3):
        yield write(3, vector)
        yield cooked(v.SET_IRQS, v.irqs_body(0x24, v.MSIX, vector, 1), READ | EVENT | 1)
    yield read(v.BAR1, 2048, 8)
    yield cooked(v.SET_IRQS, v.irqs_body(0x22, v.MSIX, 0, 3, b"\1\0\1"))
    yield cooked(v.SET_IRQS, v.irqs_body(0x21, v.MSIX, 0, 0))
    yield cooked(v.SET_IRQS, v.irqs_body(0x24, v.MSIX, 0, 3), READ | EVENT | 3)
    yield cooked(v.SET_IRQS, v.irqs_body(0x24, v.INTX, 0, 1), READ | EVENT | 1)
    yield cooked(v.SET_IRQS, v.irqs_body(0x09, v.INTX, 0, 1))
    yield cooked(v.SET_IRQS, v.irqs_body(0x14, v.INTX, 0, 1), READ | EVENT | 1)
    yield write(4, 1)
    yield cooked(v.SET_IRQS, v.irqs_body(0x11, v.INTX, 0, 1))
    yield write(5, 0)
    yield cooked(v.SET_IRQS, v.irqs_body(0x24, v.MSI, 0, 1), READ | EVENT | 1)
    yield cooked(v.RESET)


def truncated():
    yield cooked(v.DMA_MAP, v.map_body(0, 16 * v.PAGE), READ | TRUNCATED | 1)
    yield write(0, 100)
    yield write(6, 8 * v.PAGE)
    yield write(6 | 1 << 4, 0)
    yield write(0, 100)


def pieces():
    """Raw bytes, split: a header and its fd, the body together with the next message."""
    one = v.header(1, v.DMA_MAP, 32) + v.map_body(0, v.PAGE)
    two = v.header(2, v.DMA_MAP, 32) + v.map_body(v.PAGE, v.PAGE)
    yield record(SEALED | 1, one[:16])
    yield record(MORE, one[16:])
    yield record(SEALED | 1 | READ, two)
    yield record(READ, v.header(3, v.GET_INFO, 16) + v.info_body() + v.header(4, v.RESET, 0)
                 + v.header(5, v.REGION_READ, 16)[:9])
    yield record(READ, v.header(5, v.REGION_READ, 16)[9:] + v.access_body(0, 0, 4))


def wrong():
    yield cooked(99)
    yield cooked(v.DMA_MAP, v.map_body(0, v.PAGE), READ | PIPE | 1)
    yield cooked(v.DMA_MAP, v.map_body(1, v.PAGE), READ | SEALED | 1)
    yield cooked(v.SET_IRQS, v.irqs_body(0x24, v.MSIX, 0, 1), READ | PIPE | 1)
    yield cooked(v.REGION_READ, v.access_body(9, 0, 4))
    yield cooked(v.REGION_WRITE_MULTI, struct.pack("=QQII8s", 1, 0, 0, 4, b"abcd"))
    yield cooked(v.FEATURE, struct.pack("=IIQ", 16, 0x10001, 0))
    yield cooked(v.GET_REGION_IO_FDS, struct.pack("=IIII", 16, 0, 1, 0))
    yield cooked(v.MIG_DATA_WRITE, struct.pack("=II", 8, 0))
    yield cooked(v.GET_INFO, v.info_body(), READ | EVENT | 7)


def versions():
    for name, minor, text in (("qemu", 0, v.QEMU_CAPABILITIES),
                              ("cloud-hypervisor", 1, v.CLOUD_HYPERVISOR_CAPABILITIES),
                              ("bad", 0, b'{"capabilities":{\0')):
        yield f"version-{name}", b"\xff" + cooked(v.VERSION, v.version_body(0, minor, text)) + cooked(
            v.GET_INFO, v.info_body(32))


def main():
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    seeds = dict(versions())
    for make in (start_up, memory, interrupts, truncated, pieces, wrong):
        seeds[f"seed-{make.__name__.replace('_', '-')}"] = b"".join(make())
    seeds["seed-unread"] = read(v.BAR1, 0, 4096).replace(b"\xc0", b"\x40", 1) * 100
    seeds["seed-header"] = raw(v.RESET) + record(READ, v.header(1, v.RESET, 0, size=15))
    for name, data in seeds.items():
        (folder / name).write_bytes(data)


main()
