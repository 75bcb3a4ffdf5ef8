# SPDX-License-Identifier: BSD-2-Clause
"""A program of the host and another, with AF_VSOCK under vmci-run, AF_UNIX or TCP between them."""

import os
import subprocess
import time

from bed import CPUS, LIMIT, build_tools, busy_seconds, free_port, parse_pairs
from host import HostSample
from testbed import TestbedError
from testbed.process import BUILD, Workdir

WAYS = ("vmci", "unix", "tcp")

# What is measured: the verb of the end that listens, that of the other, and which of them counts.
KINDS = {
    "stream": ("sink", "source", 0),
    "ask": ("pong", "ping", 1),
    "knock": ("answer", "knock", 1),
}


def pinned(argv, end):
    """Each end stays on a CPU of its own, the first and the last that there are, and does not outlive us."""
    return ["taskset", "-c", str(CPUS[0 if end else -1]), "setpriv", "--pdeathsig", "KILL", "--", *map(str, argv)]


def wait_listening(process, what):
    """Until it has said so; an end that fails has ended."""
    line = process.stdout.readline()
    if line.strip() != "listening":
        raise TestbedError(f"{what}: {line.strip() or process.wait(LIMIT)}")


def finish(processes, what):
    """What programs have said when all have ended; one that fails must not leave us waiting for the others."""
    end = time.monotonic() + LIMIT
    while any(process.poll() is None for process in processes) and time.monotonic() < end and \
            not any(process.poll() for process in processes):
        time.sleep(0.005)
    late = [process for process in processes if process.poll() is None]
    for process in late:
        process.kill()
    texts = [process.communicate()[0] for process in processes]
    if late or any(process.returncode for process in processes):
        raise TestbedError(f"{what}: status {[process.returncode for process in processes]}: "
                           + "; ".join(text.strip() for text in texts))
    return [parse_pairs(text) for text in texts]


class Way:
    """For the measurer: a failure of one measurement says nothing about the next."""

    connects = True


class ShimBed:
    """A broker of its own, which the first program under vmci-run starts; with ShimBed(...) as bed."""

    def __init__(self, output):
        self.program, _ = build_tools(output)
        self.ways = dict.fromkeys(WAYS, Way())
        self.work = Workdir()
        self.port = 4000
        (self.work.path / "rt").mkdir(mode=0o700)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.work.close()

    def last_words(self):
        for path in self.work.path.glob("rt/*.log"):
            print(f"--- {path.name}\n{path.read_text(errors='replace')}")

    def _endpoints(self, name):
        """What one end listens at, and the other connects to."""
        self.port += 1
        if name == "vmci":
            return f"vsock-listen:{self.port}", f"vsock:2:{self.port}"
        if name == "unix":
            return f"unix-listen:{self.work.path}/{self.port}", f"unix:{self.work.path}/{self.port}"
        port = free_port()
        return f"tcp-listen:{port}", f"tcp:127.0.0.1:{port}"

    def _start(self, name, argv, end):
        if name == "vmci":
            argv = [BUILD.resolve() / "vmci-run", "--runtime-dir", self.work.path / "rt", *argv]
        environment = {**os.environ, "VMCI_VMCID": str(BUILD.resolve() / "vmcid")}
        return subprocess.Popen(pinned(argv, end), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                stderr=subprocess.STDOUT, text=True, env=environment)

    def measure(self, name, kind, seconds, size):
        """One measurement of one way."""
        listens, connects, counts = KINDS[kind]
        words, what = [str(round(1000 * seconds)), str(size)], f"{name} {kind} {size}"
        at, to = self._endpoints(name)
        server, client = self._start(name, [self.program, listens, at, *words], 0), None
        try:
            wait_listening(server, what)
            busy, own, began = busy_seconds(), os.times(), time.monotonic()
            client = self._start(name, [self.program, connects, to, *words], 1)
            pairs = finish([server, client], what)
        finally:
            for process in server, client:
                if process and process.poll() is None:
                    process.kill()
                    process.wait()
        wall, after = time.monotonic() - began, os.times()
        ours = sum(after[:4]) - sum(own[:4])
        others = min(max(0, busy_seconds() - busy - ours), wall * len(CPUS))
        return HostSample(pairs[counts], wall, others)
