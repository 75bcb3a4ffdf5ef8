# SPDX-License-Identifier: BSD-2-Clause
"""A device and a guest attached to it, as the VM tests use them."""

import os
import re

from .device import Device
from .process import TestbedError, Workdir, share_processor, until
from .vm import VM

# Ways between guest and device: options of vmci-device.
PATHS = {"mmio": [], "classic": ["--classic"], "legacy": ["--legacy-streams"]}

# What a kernel says when something is wrong with it.
COMPLAINT = re.compile(r"BUG:|WARNING:|Oops|soft lockup|hung task|blocked for more than|Call Trace|"
                       r"UBSAN:|sleeping function|Kernel panic|detected stall|general protection")


class Bed:
    """Device and guest; close() ends both."""

    def __init__(self, kernel, path="mmio", *device_options, **vm_options):
        self.kernel, self.path, self.vm_options = kernel, path, vm_options
        self.work = Workdir()
        self.device = self.vm = None
        try:
            self.device = Device(self.work.path, *PATHS[path], *device_options)
            self.boot()
            self.descriptors = self.count_descriptors()
        except BaseException as error:
            logs = self.work.logs()
            self.close()
            if isinstance(error, TestbedError):
                raise TestbedError(f"{error}\n{logs}") from None
            raise

    def boot(self):
        """Starts the guest, in the place of one that has gone."""
        self.vm = VM(self.work.path, self.kernel, self.device.socket, **self.vm_options)
        if self.path == "classic":
            share_processor(self.vm.pid, self.device.pid)
        self.vm.ready()

    def close(self):
        for process in self.vm, self.device:
            if process:
                process.kill()
        self.work.close()

    @property
    def is_alive(self):
        return self.vm.is_running() and self.device.is_running() and not self.vm.agent.closed

    def count_descriptors(self):
        return len(os.listdir(f"/proc/{self.device.pid}/fd"))

    def complaints(self):
        text = self.vm.console.read_text(errors="replace")
        return [line for line in text.splitlines() if COMPLAINT.search(line)]

    def settle(self):
        """After a test: ends its guest commands, and insists that nothing is left behind."""
        self.vm.agent.kill_all()
        until("the device to close what the test's streams used",
              lambda: self.count_descriptors() <= self.descriptors)
        if self.complaints():
            raise TestbedError("the guest's kernel complains:\n" + "\n".join(self.complaints()))
