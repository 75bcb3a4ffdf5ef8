# SPDX-License-Identifier: BSD-2-Clause
"""Descriptors whose last close(2) takes long: what hostile programs pass."""

import os
import signal
import socket
import struct

SECONDS = 20
LIMIT = 10      # who is back within this has not waited for one


class Tarpit:
    """A reader that does not read. make() connects to it, with unsent bytes and SO_LINGER."""

    def __init__(self):
        self.listener = socket.socket()
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.listener.bind(("127.0.0.1", 0))
        self.listener.listen(1000)
        self.kept = []

    def make(self, depth=0):
        """A descriptor; with a @depth, of a UNIX socket that has such a one in its queue."""
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        sock.connect(self.listener.getsockname())
        sock.setblocking(False)
        try:
            while True:
                sock.send(bytes(65536))
        except BlockingIOError:
            pass
        sock.setblocking(True)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, SECONDS))
        for _ in range(depth):
            ours, theirs = socket.socketpair()
            socket.send_fds(ours, [b"x"], [sock.fileno()])
            sock.close()
            ours.close()
            sock = theirs
        return sock

    def send(self, pid, to, data, depth=0, n=1):
        """Send @n of them to the process @pid, which is stopped meanwhile: its copies are the last ones.
        PermissionError: the kernel does not let them pass (SO_PASSRIGHTS)."""
        socks = [self.make(depth) for _ in range(n)]
        os.kill(pid, signal.SIGSTOP)
        try:
            socket.send_fds(to, [data], [sock.fileno() for sock in socks])
            for sock in socks:
                sock.close()
        except OSError:
            self.kept += socks
            raise
        finally:
            os.kill(pid, signal.SIGCONT)

    def close(self):
        """The connections are reset by this: then nothing takes long any more."""
        self.listener.close()
        for sock in self.kept:
            sock.close()
