# SPDX-License-Identifier: BSD-2-Clause
"""Two guests under one vmcid, with a cable between network cards of theirs; and a program of the host."""

import os
import subprocess
import time

from bed import BURST, GATEWAY, LIMIT, build_tools, busy_seconds, cpu_seconds, family, free_port, parse_pairs
from host import HostSample
from shim import KINDS, Way
from testbed import FabricBed, TestbedError
from testbed.process import BUILD, Workdir, until

WAYS = ("vmci", "tcp", "udp")

# Contexts, addresses on the cable, and of the guest that has a card of QEMU's user network, too.
MACHINES = {"one": (101, "10.0.3.1"), "two": (102, "10.0.3.2")}
USER = "10.0.2.15"
UDP_PORT = 4000
DATAGRAMS = {"dgram up": True, "dgram down": False}     # does the guest send?


def card(name, mac, netdev):
    return "-netdev", f"{netdev},id={name}", "-device", f"virtio-net-pci,netdev={name},mac={mac},romfile="


class FabricBench:
    """vmcid and two running guests; with FabricBench(...) as bed."""

    def __init__(self, output, kernel, names):
        self.program, archive = build_tools(output)
        self.dgram = self.program.with_name("dgram-bench")
        self.ways = dict.fromkeys(names, Way())
        self.forwarded, self.work = free_port(), Workdir()
        cable = f"addr.type=unix,addr.path={self.work.path}/cable"
        options = {
            "one": (*card("cable", "52:54:00:00:00:01", f"stream,server=on,{cable}"),
                    *card("user", "52:54:00:00:00:03", f"user,hostfwd=udp:127.0.0.1:{self.forwarded}-:{UDP_PORT}")),
            "two": card("cable", "52:54:00:00:00:02", f"stream,server=off,{cable}"),
        }
        try:
            self.bed = FabricBed({name: (kernel, cid, {"vmci0.domain": "bench"},
                                         {"probe": False, "archives": (archive,), "options": options[name]})
                                  for name, (cid, _) in MACHINES.items()}, "--log", "info")
        except BaseException:
            self.work.close()
            raise
        self.one, self.two = self.bed["one"], self.bed["two"]
        self.vm = self.one.vm
        self.port = 5000

    def __enter__(self):
        try:
            for machine in self.one, self.two:
                machine.vm.run("modprobe -q virtio_net; ip link set lo up; ip link set eth0 up;"
                               f" ip addr add {MACHINES[machine.name][1]}/24 dev eth0")
            self.one.vm.run(f"ip link set eth1 up; ip addr add {USER}/24 dev eth1")
            return self
        except BaseException:
            self.close()
            raise

    def __exit__(self, kind, *_):
        if kind and kind is not KeyboardInterrupt:
            self.last_words()
        self.close()

    def close(self):
        self.bed.close()
        self.work.close()

    def last_words(self):
        print(self.bed.work.logs())

    def _used(self):
        """CPU seconds of the machines, their devices and vmcid."""
        pids = [self.one.vm.pid, self.two.vm.pid, *family(self.bed.broker.pid)]
        return sum(sum(cpu_seconds(pid).values()) for pid in pids)

    def _host(self, name, argv):
        """A program of the host; with AF_VSOCK, under vmci-run."""
        if name == "vmci":
            argv = [BUILD.resolve() / "vmci-run", "--no-start", "--runtime-dir", self.bed.broker.runtime, *argv]
        return HostEnd(argv)

    def _streams(self, name, kind, words):
        """Guest one connects to guest two; what the end that counts has printed."""
        listens, connects, counts = KINDS[kind]
        at, to = f"tcp-listen:{self.port}", f"tcp:{MACHINES['two'][1]}:{self.port}"
        if name == "vmci":
            at, to = f"vsock-listen:{self.port}", f"vsock:{self.two.cid}:{self.port}"
        server = GuestEnd(self.two, f"stream-bench {listens} {at} {words}")
        return finish(server, lambda: GuestEnd(self.one, f"stream-bench {connects} {to} {words}"))[counts]

    def _datagrams(self, name, up, words):
        """Guest one and a program of the host; what the end that receives has printed."""
        at = f"vsock:{self.port}" if name == "vmci" else f"udp:{self.port if up else UDP_PORT}"
        if up:
            to = f"vsock:2:{self.port}" if name == "vmci" else f"udp:{GATEWAY}:{self.port}"
            server = self._host(name, [self.dgram, "count", at, *words.split()])
            return finish(server, lambda: GuestEnd(self.one, f"dgram-bench shoot {to} {words}"))[0]
        to = f"vsock:{self.one.cid}:{self.port}" if name == "vmci" else f"udp:127.0.0.1:{self.forwarded}"
        server = GuestEnd(self.one, f"dgram-bench count {at} {words}")
        return finish(server, lambda: self._host(name, [self.dgram, "shoot", to, *words.split()]))[0]

    def measure(self, name, kind, seconds, size):
        """One measurement of one way."""
        self.port = free_port() if name == "udp" else self.port + 1
        words = f"{round(1000 * seconds)} {size}"
        if kind == "knock":     # see bed.Bed.measure
            words += f" {BURST}"
            time.sleep(1.2)
        before, busy, own, began = self._used(), busy_seconds(), os.times(), time.monotonic()
        if kind in DATAGRAMS:
            pairs = self._datagrams(name, DATAGRAMS[kind], words)
        else:
            pairs = self._streams(name, kind, words)
        wall, after = time.monotonic() - began, os.times()
        ours = self._used() - before + sum(after[:4]) - sum(own[:4])
        return HostSample(pairs, wall, max(0, busy_seconds() - busy - ours))


class GuestEnd:
    """A program of a guest."""

    def __init__(self, machine, text):
        self.text, self.command = f"{machine.name}: {text}", machine.vm.start(f"exec {text}")

    @property
    def status(self):
        return 1 if self.command.lost else self.command.status

    @property
    def output(self):
        return self.command.output

    def kill(self):
        if self.status is None:
            self.command.kill()


class HostEnd:
    """A program of the host. What it says is little: a pipe holds it."""

    def __init__(self, argv):
        self.text, self.output = f"host: {argv[-4:]}", ""
        self.child = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", "--", *map(str, argv)],
                                      stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        os.set_blocking(self.child.stdout.fileno(), False)

    @property
    def status(self):
        status = self.child.poll()
        self.output += (self.child.stdout.read() or b"").decode()
        return status

    def kill(self):
        if self.child.poll() is None:
            self.child.kill()
            self.child.wait()


def finish(server, start):
    """Starts the other end when one listens; what both have printed. An end that fails ends the other."""
    ends = [server]
    try:
        until(f"{server.text} to listen", lambda: server.status is not None or "listening" in server.output, step=0.005)
        ends.append(start())
        until("both ends to end", lambda: all(end.status == 0 for end in ends) or any(end.status for end in ends),
              LIMIT, step=0.005)
        if any(end.status for end in ends):
            raise TestbedError("; ".join(f"{end.text}: status {end.status}: {end.output.strip()}" for end in ends))
    finally:
        for end in ends:
            end.kill()
    return [parse_pairs(end.output.replace("\r", "")) for end in ends]
