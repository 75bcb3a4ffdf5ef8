# SPDX-License-Identifier: BSD-2-Clause
"""The host end of streams: the Firecracker convention, spoken from scratch."""

import os
import socket
import struct
import threading
import time

from .process import LIMIT


def open_socket(path):
    """Connects to a UNIX socket, waiting its turn where the listener's queue is full."""
    sock = socket.socket(socket.AF_UNIX)
    # Not settimeout(), with which a full queue is an error at once.
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", int(LIMIT), 0))
    sock.connect(str(path))
    sock.settimeout(LIMIT)
    return sock


# On a busy machine a guest does not always make it in time: vmci-device gives it 2 seconds for its answer, and Linux
# itself resets what it has had pending for one. Who is refused later than after this many seconds may try again.
TIME_OUT = 0.9


def connect(path, port):
    """Connects to a port of the guest, again after a time-out. ConnectionError if it is refused."""
    end = time.monotonic() + LIMIT
    while True:
        began = time.monotonic()
        try:
            return try_connect(path, port)
        except ConnectionError:
            if time.monotonic() - began < TIME_OUT or time.monotonic() > end:
                raise


def try_connect(path, port):
    """Connects to a port of the guest. ConnectionError if it is refused, or after a time-out."""
    sock = open_socket(path)
    sock.sendall(b"CONNECT %d\n" % port)
    answer = b""
    while not answer.endswith(b"\n"):
        byte = sock.recv(1)
        if not byte:
            sock.close()
            raise ConnectionError(f"port {port} of the guest refused")
        answer += byte
    if not answer.startswith(b"OK "):
        sock.close()
        raise ConnectionError(f"answer to CONNECT {port}: {answer!r}")
    return sock


class Listener:
    """Takes what the guest connects to a port of the host."""

    def __init__(self, path, port):
        self.path = f"{path}_{port}"
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.bind(self.path)
        self.socket.listen(1024)
        self.socket.settimeout(LIMIT)

    def accept(self):
        sock = self.socket.accept()[0]
        sock.settimeout(LIMIT)
        return sock

    def close(self):
        if self.socket.fileno() >= 0:
            self.socket.close()
            os.unlink(self.path)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()


def read_all(sock):
    """Everything up to the end of the stream."""
    parts = []
    while True:
        part = sock.recv(1 << 20)
        if not part:
            return b"".join(parts)
        parts.append(part)


def _echo(sock):
    with sock:
        try:
            while True:
                data = sock.recv(1 << 16)
                if not data:
                    return
                sock.sendall(data)
        except OSError:
            pass


class echo_server:
    """with echo_server(path, port): streams of the guest get back what they send."""

    def __init__(self, path, port):
        self.listener = Listener(path, port)
        self.listener.socket.settimeout(None)
        self.accepted = []
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def _serve(self):
        while True:
            try:
                sock = self.listener.socket.accept()[0]
            except OSError:
                return
            self.accepted.append(sock)
            threading.Thread(target=_echo, args=(sock,), daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.listener.socket.shutdown(socket.SHUT_RDWR)
        self.thread.join(LIMIT)
        self.listener.close()
        for sock in self.accepted:
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
