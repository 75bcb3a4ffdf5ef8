# SPDX-License-Identifier: BSD-2-Clause
"""A device and a QEMU under our control; a second each, no guest."""

import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))

from testbed import Device  # noqa: E402
from testbed.plugin import pytest_runtest_makereport, workdir  # noqa: E402,F401
from testbed.qtest import VmciMachine  # noqa: E402


class Bench:
    """Starts devices and machines in the test's directory; all end with the test."""

    def __init__(self, directory):
        self.directory = directory
        self.device = None
        self.machines = []

    def start_device(self, *options, **kwargs):
        self.device = Device(self.directory, *options, **kwargs)
        return self.device

    def start_machine(self, *options, **kwargs):
        machine = VmciMachine(self.directory, self.device.socket, *options, **kwargs)
        self.machines.append(machine)
        return machine

    def close(self):
        for machine in self.machines:
            machine.kill()
        if self.device:
            self.device.kill()


@pytest.fixture
def bench(workdir):  # noqa: F811
    """A device must end well: with status 0, and no complaint of a sanitizer."""
    bench = Bench(workdir)
    try:
        yield bench
        for machine in bench.machines:
            machine.kill()
        if bench.device and bench.device.is_running():
            assert bench.device.terminate() == 0
            assert "ERROR: " not in bench.device.text() and "runtime error" not in bench.device.text()
    finally:
        bench.close()


@pytest.fixture
def machine(bench):
    """A q35 with a device of the default kind, BARs in place."""
    bench.start_device()
    return bench.start_machine().enable()
