# SPDX-License-Identifier: BSD-2-Clause
"""The second process of a vmci-device, which keeps its VM alive when it ends."""

import os
import pathlib
import signal

from .process import until


class Keeper:
    """The keeper of a running device."""

    def __init__(self, device):
        children = pathlib.Path(f"/proc/{device.pid}/task/{device.pid}/children")
        [self.pid] = [int(pid) for pid in children.read_text().split()]
        self.proc = pathlib.Path(f"/proc/{self.pid}")
        until("the keeper to have its name", lambda: self.name == "vmci-keeper")

    @property
    def name(self):
        return (self.proc / "comm").read_text().strip()

    @property
    def command_line(self):
        return (self.proc / "cmdline").read_bytes().rstrip(b"\0").decode()

    def is_running(self):
        try:
            return "\nState:\tZ" not in (self.proc / "status").read_text()
        except (FileNotFoundError, ProcessLookupError):
            return False

    def descriptors(self):
        """What its descriptors are, by number."""
        return {int(link.name): os.readlink(link) for link in (self.proc / "fd").iterdir()}

    def maps_guest_memory(self):
        return "memory-backend-memfd" in (self.proc / "maps").read_text()

    def kill(self):
        if self.is_running():
            os.kill(self.pid, signal.SIGKILL)

    def wait(self, limit=10):
        until("the keeper to end", lambda: not self.is_running(), limit)


def end(device, how):
    """Ends a device by a signal; returns its keeper, which must have stayed."""
    keeper = Keeper(device)
    os.kill(device.pid, how)
    status = device.wait()
    if how == signal.SIGSEGV and status == 1:
        assert "AddressSanitizer:DEADLYSIGNAL" in device.text()     # which makes it an exit
    else:
        assert status == (0 if how == signal.SIGTERM else -how)
    return keeper
