# SPDX-License-Identifier: BSD-2-Clause
"""Bulk transfers with unmodified socat in the guest, hashed at both ends."""

import functools
import hashlib
import os
import subprocess
import threading
import time

from .host import host_program
from .hybrid import Listener, connect, read_all


class Transfer:
    """What one end sent and the other received."""

    def __init__(self, size, sent, received, seconds):
        self.size, self.sent, self.received, self.seconds = size, sent, received, seconds

    @property
    def is_right(self):
        return self.sent == self.received


def guest_to_host(device, vm, size, port=5000):
    sent = vm.run(f"head -c {size} /dev/urandom >/tmp/sent; sha256sum </tmp/sent").split()[0]
    with Listener(device.hybrid, port) as listener:
        socat = vm.start(f"socat -u -b 65536 OPEN:/tmp/sent VSOCK-CONNECT:2:{port} && rm /tmp/sent")
        with listener.accept() as stream:
            began = time.monotonic()
            data = read_all(stream)
            seconds = time.monotonic() - began
        socat.check()
    return Transfer(size, sent, hashlib.sha256(data).hexdigest(), seconds)


def host_to_guest(device, vm, size, port=5001):
    data = os.urandom(size)
    socat = vm.start(f"socat -d -d -u -b 65536 VSOCK-LISTEN:{port} CREATE:/tmp/received")
    socat.expect("listening on")
    with connect(device.hybrid, port) as stream:
        began = time.monotonic()
        stream.sendall(data)
    socat.check()
    seconds = time.monotonic() - began
    received = vm.run("sha256sum </tmp/received && rm /tmp/received").split()[0]
    return Transfer(size, hashlib.sha256(data).hexdigest(), received, seconds)


@functools.lru_cache(None)
def generated(size, seed):
    """SHA-256 of the pattern that a guest's `probe gen` writes."""
    with subprocess.Popen([host_program("probe"), "gen", str(size), str(seed)], stdout=subprocess.PIPE) as child:
        digest = hashlib.sha256()
        while data := child.stdout.read(1 << 20):
            digest.update(data)
    return digest.hexdigest()


class Stream:
    """An AF_VSOCK stream of a guest, read and hashed as it comes."""

    def __init__(self, machine, size, seed, port=7100):
        self.size, self.seed, self.got, self.digest = size, seed, 0, hashlib.sha256()
        with Listener(machine.hybrid, port) as listener:
            self.guest = machine.vm.start(f"probe gen {size} {seed} | socat -u -b 262144 - VSOCK-CONNECT:2:{port}")
            self.socket = listener.accept()
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def _read(self):
        with self.socket:
            while data := self.socket.recv(1 << 20):
                self.digest.update(data)
                self.got += len(data)

    def is_right(self):
        """Waits for the end."""
        self.guest.check(600)
        self.thread.join(60)
        return self.got == self.size and self.digest.hexdigest() == generated(self.size, self.seed)
