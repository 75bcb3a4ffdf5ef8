# SPDX-License-Identifier: BSD-2-Clause
"""A QEMU process with QMP."""

import functools
import json
import pathlib
import socket
import subprocess

from .process import LIMIT, ROOT, Process, TestbedError, until


@functools.lru_cache(None)
def qemu_program():
    """A QEMU with vfio-user-pci, fetched if need be."""
    found = subprocess.run([ROOT / "scripts/fetch-qemu"], stdout=subprocess.PIPE, check=True)
    return found.stdout.decode().strip()


def vmci_device_option(path, **properties):
    """-device for a vmci-device that listens at path."""
    return json.dumps({"driver": "vfio-user-pci", "id": "vmci0",
                       "socket": {"type": "unix", "path": str(path)}, **properties})


def connect_unix(process, path, limit=None):
    """Connects to a socket that a process is about to make."""
    sock = socket.socket(socket.AF_UNIX)

    def attempt():
        if not process.is_running():
            raise TestbedError(f"QEMU ended at start:\n{process.tail()}")
        try:
            sock.connect(str(path))
            return True
        except (FileNotFoundError, ConnectionRefusedError):
            return False
    until(f"QEMU's socket {path}", attempt, limit)
    sock.settimeout(limit or LIMIT)
    return sock


class Qmp:
    """QEMU's control channel; events are kept until somebody asks for them."""

    def __init__(self, sock):
        self.file = sock.makefile("rwb")
        self.events = []
        json.loads(self.file.readline())
        self.command("qmp_capabilities")

    def _read(self):
        line = self.file.readline()
        if not line:
            raise TestbedError("QEMU closed QMP")
        return json.loads(line)

    def command(self, name, **arguments):
        """Runs a command; TestbedError if QEMU refuses it."""
        self.file.write(json.dumps({"execute": name, "arguments": arguments}).encode() + b"\n")
        self.file.flush()
        while True:
            answer = self._read()
            if "return" in answer:
                return answer["return"]
            if "error" in answer:
                raise TestbedError(f"{name}: {answer['error']['desc']}")
            self.events.append(answer)

    def event(self, name):
        """Waits for an event and takes it."""
        while True:
            for event in self.events:
                if event["event"] == name:
                    self.events.remove(event)
                    return event
            answer = self._read()
            if "event" in answer:
                self.events.append(answer)


class Qemu(Process):
    """QEMU with shared memory, no default devices, and QMP as .qmp."""

    def __init__(self, directory, *options, memory=512, share=True, machine="q35",
                 terminal=False):
        directory = pathlib.Path(directory)
        argv = [qemu_program(), "-nodefaults", "-no-user-config", "-display", "none",
                "-object", f"memory-backend-memfd,id=mem0,size={memory}M,"
                           f"share={'on' if share else 'off'}",
                "-machine", f"{machine},memory-backend=mem0", "-m", f"{memory}M",
                "-qmp", f"unix:{directory}/qmp.sock,server=on,wait=off", *options]
        super().__init__(argv, directory / "qemu.log", terminal=terminal)
        try:
            self.qmp = Qmp(connect_unix(self, directory / "qmp.sock"))
        except BaseException:
            self.kill()
            raise
