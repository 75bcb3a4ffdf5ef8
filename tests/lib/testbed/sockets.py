# SPDX-License-Identifier: BSD-2-Clause
"""Unmodified programs under vmci-run."""

import pathlib
import re
import subprocess
import textwrap

from .process import BUILD, Process, until

PYTHON = "/usr/bin/python3"

# What every Python program of these tests begins with. It is the interpreter that is unmodified.
PRELUDE = """
import array, asyncio, contextlib, ctypes, errno, fcntl, os, selectors, select, signal, socket, socketserver, struct
import subprocess, sys, threading, time
V, ANY, HOST, LOCAL = socket.AF_VSOCK, socket.VMADDR_CID_ANY, socket.VMADDR_CID_HOST, 1
STREAM, DGRAM, SEQPACKET = socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET
def make(kind=STREAM, port=None, cid=ANY):
    sock = socket.socket(V, kind)
    if port is not None:
        sock.bind((cid, port))
    return sock
def patient(sock, seconds=120):
    # connect() waits for two seconds by default; guests on busy machines take longer. Python passes integers only.
    time_out = struct.pack("qq", seconds, 0)
    SO_VM_SOCKETS_CONNECT_TIMEOUT = 6
    assert ctypes.CDLL(None).setsockopt(sock.fileno(), V, SO_VM_SOCKETS_CONNECT_TIMEOUT, time_out, len(time_out)) == 0
    return sock
def listener(port=ANY, kind=STREAM, backlog=16):
    sock = make(kind, port)
    sock.listen(backlog)
    return sock
def client(port, cid=HOST, kind=STREAM):
    sock = make(kind)
    sock.connect((cid, port))
    return sock
def port_of(sock):
    return sock.getsockname()[1]
def name_of(number):
    return "EOPNOTSUPP" if number == errno.EOPNOTSUPP else errno.errorcode[number]    # not ENOTSUP
def error_of(function, *args):
    try:
        function(*args)
    except OSError as error:
        return name_of(error.errno)
    return "success"
def pair(kind=STREAM):
    server = listener(kind=kind)
    one = client(port_of(server), kind=kind)
    two, _ = server.accept()
    server.close()
    return one, two
"""


def sanitizer():
    """A library that is built with the address sanitizer needs its runtime before everything else."""
    text = subprocess.run(["ldd", BUILD / "libvmci-preload.so"], capture_output=True, text=True).stdout
    found = re.search(r"=> (\S*lib[at]san\S*)", text)
    return found[1] if found else None


def is_listening(path):
    """Whether a UNIX socket listens there (__SO_ACCEPTCON)."""
    rows = pathlib.Path("/proc/net/unix").read_text().splitlines()[1:]
    return any(row.split()[3] == "00010000" and row.endswith(f" {path}") for row in rows)


class Runner:
    """Starts programs under vmci-run, in a vmcid's runtime directory."""

    def __init__(self, directory, runtime):
        self.directory, self.runtime = pathlib.Path(directory), runtime
        self.running = []
        self.environment = {"PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "PYTHONUNBUFFERED": "1",
                            "ASAN_OPTIONS": "detect_leaks=0"}
        if sanitizer():
            self.environment["LD_PRELOAD"] = sanitizer()

    def command(self, *argv, cid=None, wrap=(), options=("--no-start",), **environment):
        """The whole command line; what runs before it (setpriv, say) is in wrap."""
        variables = {**self.environment, **environment}
        if cid is not None:
            options = (*options, "--cid", cid)
        return ["env", "-u", "VMCI_RUNTIME_DIR", "-u", "VMCI_CID", "-u", "VMCI_DEBUG", *wrap,
                "env", *(f"{key}={value}" for key, value in variables.items()),
                BUILD / "vmci-run", "--runtime-dir", self.runtime, *options, *argv]

    def start(self, *argv, **options):
        process = Process(self.command(*argv, **options), self.directory / f"program-{len(self.running)}.log")
        self.running.append(process)
        return process

    def run(self, *argv, status=0, **options):
        """Runs a program to its end; returns what it said."""
        process = self.start(*argv, **options)
        got = process.wait()
        assert got == status, f"status {got}:\n{process.text()}"
        return process.text()

    def script(self, text):
        path = self.directory / f"script-{len(self.running)}.py"
        path.write_text(PRELUDE + textwrap.dedent(text))
        return PYTHON, path

    def python(self, text, *arguments, **options):
        return self.run(*self.script(text), *arguments, **options)

    def start_python(self, text, *arguments, **options):
        return self.start(*self.script(text), *arguments, **options)

    def wait_port(self, port, cid=2):
        """Until somebody listens there."""
        path = self.runtime / "port" / str(cid) / str(port)
        until(f"somebody to listen at {path}", lambda: is_listening(path))

    @staticmethod
    def wait_text(process, text):
        """Until the program has said it."""
        def has_said():
            if text in process.text():
                return True
            assert process.is_running(), process.text()
            return False
        until(f"{process.argv[-1][-40:]!r} to say {text!r}", has_said)

    def close(self):
        for process in self.running:
            process.kill()


