# SPDX-License-Identifier: BSD-2-Clause
"""Real QEMU without a guest: -accel qtest lets us be the CPU."""

import struct

from .process import until
from .qemu import Qemu, connect_unix, vmci_device_option

CONFIG_ADDRESS, CONFIG_DATA = 0xcf8, 0xcfc

# Registers of the device.
CONTROL, ICR, IMR = 0x04, 0x08, 0x0c
DATA_OUT, DATA_IN, CAPS, RESULT_LOW = 0x10, 0x14, 0x18, 0x1c
DATA_OUT_LOW, DATA_OUT_HIGH, DATA_IN_LOW, DATA_IN_HIGH, PAGE_SHIFT = 0x24, 0x28, 0x2c, 0x30, 0x34


class QtestMachine(Qemu):
    """A QEMU whose memory and I/O ports we read and write."""

    def __init__(self, directory, *options, **kwargs):
        super().__init__(directory, "-accel", "qtest",
                         "-qtest", f"unix:{directory}/qtest.sock,server=on,wait=off",
                         "-qtest-log", "none", *options, memory=64, **kwargs)
        self.qtest = connect_unix(self, f"{directory}/qtest.sock").makefile("rwb")

    def ask(self, *words):
        self.qtest.write(" ".join(str(word) for word in words).encode() + b"\n")
        self.qtest.flush()
        while True:
            answer = self.qtest.readline().decode().split()
            if answer and answer[0] != "IRQ":
                assert answer[0] == "OK", f"{words}: {answer}"
                return answer[1:]

    def port_in(self, port, size=4):
        return int(self.ask({1: "inb", 2: "inw", 4: "inl"}[size], hex(port))[0], 16)

    def port_out(self, port, value, size=4):
        self.ask({1: "outb", 2: "outw", 4: "outl"}[size], hex(port), hex(value))

    def load(self, address, size=4):
        return int.from_bytes(self.read(address, size), "little") if size > 8 else \
            int(self.ask({1: "readb", 2: "readw", 4: "readl", 8: "readq"}[size], hex(address))[0], 16)

    def store(self, address, value, size=4):
        self.ask({1: "writeb", 2: "writew", 4: "writel", 8: "writeq"}[size], hex(address), hex(value))

    def read(self, address, size):
        return bytes.fromhex(self.ask("read", hex(address), hex(size))[0][2:])

    def write(self, address, data):
        self.ask("write", hex(address), hex(len(data)), "0x" + data.hex())


class PciFunction:
    """Config space of a function on bus 0."""

    def __init__(self, machine, slot):
        self.machine, self.slot = machine, slot

    def _select(self, offset):
        self.machine.port_out(CONFIG_ADDRESS, 0x80000000 | self.slot << 11 | offset & 0xfc)
        return CONFIG_DATA + (offset & 3)

    def get(self, offset, size=4):
        return self.machine.port_in(self._select(offset), size)

    def set(self, offset, value, size=4):
        self.machine.port_out(self._select(offset), value, size)

    def capability(self, number):
        """Offset of a capability, or None."""
        offset = self.get(0x34, 1)
        while offset:
            if self.get(offset, 1) == number:
                return offset
            offset = self.get(offset + 1, 1)
        return None


class VmciMachine(QtestMachine):
    """A QEMU with a vmci-device in slot 4, whose driver we are."""

    SLOT = 4
    PORTS, BAR1, REGISTERS = 0xc000, 0xd0000000, 0xd0020000
    # Where in RAM we keep things.
    MESSAGES, SEND, RECEIVE = 0x100000, 0x200000, 0x300000

    def __init__(self, directory, socket, *options, properties=None, plugged=True, **kwargs):
        plug = ["-device", vmci_device_option(socket, addr=hex(self.SLOT), **(properties or {}))]
        super().__init__(directory, *plug * plugged, *options, **kwargs)
        self.pci = PciFunction(self, self.SLOT)
        # As firmware does: the device takes memory without a single byte set for unreachable.
        self.write(0x1000, b"firmware was here")

    def enable(self):
        """Puts the BARs in place and turns decoding and bus mastering on."""
        self.pci.set(0x10, self.PORTS)
        self.pci.set(0x14, self.BAR1)
        self.pci.set(0x18, 0)
        self.pci.set(0x04, 0x7, 2)
        return self

    def get(self, register):
        return self.load(self.REGISTERS + register)

    def put(self, register, value):
        self.store(self.REGISTERS + register, value)

    def probe(self):
        """What Linux's driver does to get ready over MMIO."""
        assert self.get(CAPS) & 0x24 == 0x24
        self.put(CAPS, 0x2c)
        self.put(PAGE_SHIFT, 12)
        self.put(DATA_IN_HIGH, 0)
        self.put(DATA_OUT_HIGH, 0)
        assert self.hypercall(0, struct.pack("<III", 1, 0, 1)) == 1
        self.put(IMR, 0x7)
        self.put(CONTROL, 0x2)

    def send(self, datagram):
        """Sends a datagram by DMA; returns the result register."""
        self.write(self.SEND, struct.pack("<IIIIq", 1, 0, len(datagram), 0, 0) + datagram)
        self.put(DATA_OUT_LOW, self.SEND)
        result = self.get(RESULT_LOW)
        assert self.load(self.SEND) == 0, "the device must clear busy, whatever was sent"
        return result - (result >> 31 << 32)

    def hypercall(self, number, payload):
        none = 0xffffffff
        return self.send(struct.pack("<IIIIQ", 0, number, none, none, len(payload)) + payload)

    def receive(self, size=69632):
        """One receive by DMA: what the device put into the area."""
        header = struct.pack("<IIIIq", 0, 1, 1, 0, 0) + struct.pack("<QQ", self.RECEIVE + 4096, size)
        self.write(self.RECEIVE, header)
        self.put(DATA_IN_LOW, self.RECEIVE)
        self.get(CAPS)      # memory writes are posted; a read is behind them
        assert self.load(self.RECEIVE) == 1, "a receive completes within the register write"
        return self.read(self.RECEIVE + 4096, size)

    def message(self, vector):
        """The data of a vector's interrupt message if it came; takes it away."""
        self.get(CAPS)
        data = self.load(self.MESSAGES + 16 * vector)
        self.store(self.MESSAGES + 16 * vector, 0)
        return data

    def wait_message(self, vector):
        return until(f"the message of vector {vector}", lambda: self.message(vector))

    def set_vector(self, vector, data, masked=False):
        """An entry of the MSI-X table, its message aimed at our RAM."""
        entry = self.BAR1 + 16 * vector
        self.store(entry, self.MESSAGES + 16 * vector)
        self.store(entry + 4, 0)
        self.store(entry + 8, data)
        self.store(entry + 12, int(masked))

    def enable_msix(self, count=3):
        for vector in range(count):
            self.set_vector(vector, 0xabc0 + vector)
        self.pci.set(self.pci.capability(0x11) + 2, 0x8000, 2)
