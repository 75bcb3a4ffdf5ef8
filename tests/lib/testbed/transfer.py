# SPDX-License-Identifier: BSD-2-Clause
"""Bulk transfers with unmodified socat in the guest, hashed at both ends."""

import hashlib
import os
import time

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
