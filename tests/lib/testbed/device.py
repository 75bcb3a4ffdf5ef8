# SPDX-License-Identifier: BSD-2-Clause
"""A running vmci-device."""

import pathlib

from .process import BUILD, Process, TestbedError, until


def is_listening(path):
    """Whether somebody listens at this UNIX socket; found out without connecting."""
    for line in pathlib.Path("/proc/net/unix").read_text().splitlines()[1:]:
        fields = line.split(None, 7)
        if len(fields) == 8 and fields[7] == str(path) and int(fields[3], 16) & 0x10000:
            return True
    return False


class Device(Process):
    """vmci-device in a directory of the test: device.sock, hybrid.sock, device.log."""

    def __init__(self, directory, *options, cid=42, program=None):
        directory = pathlib.Path(directory)
        self.socket = directory / "device.sock"
        self.hybrid = directory / "hybrid.sock"
        self.cid = cid
        program = program or BUILD / "vmci-device"
        if not pathlib.Path(program).exists():
            raise TestbedError(f"{program} does not exist: run make first")
        super().__init__([program, "--socket", self.socket, "--cid", cid,
                          "--hybrid", self.hybrid, "--log", "debug", *options],
                         directory / "device.log")
        until(f"vmci-device to listen; it says:\n{self.tail()}",
              lambda: is_listening(self.socket) or not self.is_running())
        if not self.is_running():
            raise TestbedError(f"vmci-device did not start:\n{self.tail()}")
