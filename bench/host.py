# SPDX-License-Identifier: BSD-2-Clause
"""Two processes of the host, several ways between them, and one measurement at a time."""

import os
import subprocess
import time

from bed import CPUS, LIMIT, busy_seconds, parse_pairs
from testbed import TestbedError
from testbed.process import BUILD, ROOT, Workdir

WAYS = ("vmci", "bare", "unix", "tcp", "zmq", "nng")


class Way:
    """For the measurer: a failure of one measurement says nothing about the next."""

    connects = True


class HostSample:
    """One measurement: what the end that counts printed, and CPU seconds of all others."""

    def __init__(self, host, wall, others):
        self.host, self.wall = host, wall
        self.cpu = {"others": others}
        self.seconds = host["ns"] / 1e9

    def rate(self, what="bytes"):
        """Bytes, or messages, per second."""
        return self.host[what] * 1e9 / self.host["ns"]

    def describe(self):
        figures = []
        if "median" in self.host:
            figures.append(f"{self.host['median'] / 1e3:.4g} us, p99 {self.host['p99'] / 1e3:.4g} us")
        elif "bytes" in self.host:
            figures.append(f"{self.rate() / 1e6:.4g} MB/s")
        if "count" in self.host:
            figures.append(f"{self.rate('count'):.4g}/s")
        figure = ", ".join(figures)
        return (f"{figure} in {self.seconds:.2f} s; CPU % of the end that counts: "
                f"{100 * self.host['user'] / self.wall:.0f} user "
                f"{100 * self.host['sys'] / self.wall:.0f} sys, others "
                f"{100 * self.cpu['others'] / self.wall:.0f}")


def build_tool(output):
    """Builds qpair-bench with the library of the build folder."""
    program = output / "qpair-bench"
    subprocess.run([*os.environ.get("CC", "gcc").split(), "-O2", "-Wall", "-Wextra",
                    "-D_GNU_SOURCE", "-I", ROOT / "include", ROOT / "bench/qpair-bench.c",
                    "-o", program, "-L", BUILD, f"-Wl,-rpath,{BUILD.resolve()}",
                    "-lvmci", "-lzmq", "-lnng"], check=True)
    return program


class HostBed:
    """A broker of its own, which the first membership starts; with HostBed(...) as bed."""

    def __init__(self, output):
        self.program = build_tool(output)
        self.ways = dict.fromkeys(WAYS, Way())
        self.work = Workdir()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.work.close()

    def last_words(self):
        for path in self.work.path.glob("rt/*.log"):
            print(f"--- {path.name}\n{path.read_text(errors='replace')}")

    def measure(self, name, kind, seconds, size):
        """One measurement of one way."""
        environment = {**os.environ, "VMCI_RUNTIME_DIR": str(self.work.path / "rt"),
                       "VMCI_VMCID": str(BUILD.resolve() / "vmcid")}
        argv = ["setpriv", "--pdeathsig", "KILL", "--", self.program, name, kind,
                str(round(1000 * seconds)), str(size), self.work.path]
        busy, own, began = busy_seconds(), os.times(), time.monotonic()
        try:
            done = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                  stderr=subprocess.STDOUT, text=True, env=environment,
                                  timeout=LIMIT)
        except subprocess.TimeoutExpired:
            raise TestbedError(f"qpair-bench {name} {kind} {size}: no end") from None
        if done.returncode:
            raise TestbedError(f"qpair-bench {name} {kind} {size}: status {done.returncode}: "
                               f"{done.stdout.strip()}")
        wall, after = time.monotonic() - began, os.times()
        ours = sum(after[:4]) - sum(own[:4])
        others = min(max(0, busy_seconds() - busy - ours), wall * len(CPUS))
        return HostSample(parse_pairs(done.stdout), wall, others)
