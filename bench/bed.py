# SPDX-License-Identifier: BSD-2-Clause
"""One guest, three ways to its host, and one measurement at a time on any of them."""

import contextlib
import os
import pathlib
import socket
import subprocess
import time

from testbed import VM, Device, Listener, TestbedError
from testbed.process import ROOT, Workdir
from testbed.qemu import connect_unix

LIMIT = 60          # seconds that a measurement may take in all; only failures do
BURST = 200         # connections from the host in one measurement
CPUS = sorted(os.sched_getaffinity(0))
GATEWAY = "10.0.2.2"    # QEMU's user network: what a guest connects to here, the host gets


class Vmci:
    """AF_VSOCK in the guest, vmci-device's hybrid sockets at the host."""

    name = "vmci"
    connects = True

    def __init__(self, bed):
        self.hybrid = bed.device.hybrid
        self.port = 4000

    def prepare(self, vm):
        vm.run(f"test -n \"$(ls /sys/bus/pci/drivers/{vm.driver} | grep :)\"")

    @contextlib.contextmanager
    def listen(self):
        """Yields what the guest connects to, and a socket that accepts it."""
        self.port += 1
        with Listener(self.hybrid, self.port) as listener:
            yield f"vsock:2:{self.port}", listener.socket

    def guest_listener(self):
        """What the guest listens at, and what the host connects to."""
        self.port += 1
        return f"vsock-listen:{self.port}", f"hybrid:{self.hybrid}:{self.port}"


class Tcp:
    """TCP over virtio-net with QEMU's user network, loopback at the host."""

    name = "tcp"
    connects = True

    def __init__(self, bed):
        self.forwarded = bed.forwarded

    def prepare(self, vm):
        vm.run("modprobe -q virtio_net; ip link set lo up && ip link set eth0 up"
               " && ip addr add 10.0.2.15/24 dev eth0")

    @contextlib.contextmanager
    def listen(self):
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen(128)
            yield f"tcp:{GATEWAY}:{listener.getsockname()[1]}", listener

    def guest_listener(self):
        return "tcp-listen:4000", f"tcp:127.0.0.1:{self.forwarded}"


class VirtioSerial:
    """A virtio-serial port over a chardev socket: one channel, no connections."""

    name = "virtio-serial"
    connects = False

    def __init__(self, bed):
        self.path = bed.path / "serial.sock"
        self.socket = None

    def prepare(self, vm):
        self.socket = connect_unix(vm, self.path)
        self.socket.setblocking(True)


TRANSPORTS = {way.name: way for way in (Vmci, VirtioSerial, Tcp)}

# What is measured: the guest's verb and the host's, and who connects to whom.
KINDS = {
    "up": ("source", "sink"),
    "down": ("sink", "source"),
    "echo": ("echoed", "echo"),
    "ask": ("ping", "pong"),
    "asked": ("pong", "ping"),
    "knock": ("knock", "answer"),
    "knocked": ("answer", "knock"),
}


class Sample:
    """One measurement: what both ends printed, and CPU seconds of ours and of all others."""

    def __init__(self, host, guest, cpu, wall):
        self.host, self.guest, self.cpu, self.wall = host, guest, cpu, wall
        self.seconds = host["ns"] / 1e9

    def rate(self, end="host"):
        """Bytes, round trips or connections per second by an end's clock."""
        data = getattr(self, end)
        return data.get("bytes", data.get("count")) * 1e9 / data["ns"]

    def gib(self):
        """What went over the stream one way."""
        return self.host["bytes"] / 2**30


def parse_pairs(text):
    words = text.split("\n")[-2].split() if text.count("\n") else []
    return {key: float(value) for key, value in zip(words[::2], words[1::2])}


def cpu_seconds(pid):
    """CPU seconds of each thread of a process, by (thread id, name)."""
    threads = {}
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):      # it has just ended
            name = (task / "comm").read_text().strip()
            fields = (task / "stat").read_text().rpartition(")")[2].split()
            ticks = int(fields[11]) + int(fields[12])
            try:    # the same in nanoseconds, where the kernel has it
                used = int((task / "schedstat").read_text().split()[0]) / 1e9
            except OSError:
                used = ticks / os.sysconf("SC_CLK_TCK")
            threads[int(task.name), name] = used
    return threads


def family(pid):
    """A process and its descendants."""
    pids = [pid]
    for parent in pids:
        with contextlib.suppress(OSError):      # it has just ended
            for task in pathlib.Path(f"/proc/{parent}/task").iterdir():
                pids += map(int, (task / "children").read_text().split())
    return pids


def busy_seconds():
    """CPU seconds of everything on this machine, ours and others'."""
    fields = pathlib.Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]
    return (sum(map(int, fields)) - int(fields[3]) - int(fields[4])) / os.sysconf("SC_CLK_TCK")


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def build_tools(output):
    """Builds stream-bench and dgram-bench for both ends; returns the host's stream-bench, which has
    the other beside it, and an archive for the guest."""
    guest, archive = output / "guest", output / "guest.cpio"
    (guest / "bin").mkdir(parents=True, exist_ok=True)
    for name in "stream-bench", "dgram-bench":
        compiler = [*os.environ.get("CC", "gcc").split(), "-O2", "-Wall", "-Wextra",
                    ROOT / f"bench/{name}.c", "-o"]
        subprocess.run([*compiler, output / name], check=True)
        subprocess.run([*compiler, guest / "bin" / name, "-static", "-DGUEST"], check=True)
    with open(archive, "wb") as out:
        subprocess.run(["cpio", "-o", "-H", "newc", "--quiet"], cwd=guest, check=True,
                       input=b"bin\nbin/stream-bench\nbin/dgram-bench\n", stdout=out)
    return output / "stream-bench", archive


class Bed:
    """A vmci-device and a running guest with all devices; with Bed(...) as bed."""

    def __init__(self, output, kernel, names, device_args=(), pin=False, posted=True, drivers="in-box"):
        self.work = Workdir()
        self.path = self.work.path
        self.kernel, self.names = kernel, names
        self.device_args = device_args
        self.properties = {} if posted else {"x-no-posted-writes": True}
        self.pin = pin
        self.drivers = drivers
        self.output = output
        self.device = self.vm = None
        self.ways = {}
        self.forwarded = None

    def __enter__(self):
        try:
            self._start()
            return self
        except BaseException:
            self.close()
            raise

    def __exit__(self, kind, *_):
        if kind and kind is not KeyboardInterrupt:
            self.last_words()
        self.close()

    def _start(self):
        self.program, archive = build_tools(self.output)
        self.forwarded = free_port()
        if self.pin:    # us, and with us all children
            os.sched_setaffinity(0, CPUS[:-1])
        if "vmci" in self.names:
            # The later --log wins: debugging messages are no part of a measurement.
            self.device = Device(self.path, "--log", "info", *self.device_args)
        self.vm = VM(
            self.path, self.kernel, self.device and self.device.socket,
            "-name", "bench,debug-threads=on",
            "-chardev", f"socket,id=serial,path={self.path}/serial.sock,server=on,wait=off",
            "-device", "virtio-serial-pci,id=serial0",
            "-device", "virtserialport,bus=serial0.0,chardev=serial,name=bench",
            "-netdev", f"user,id=net0,hostfwd=tcp:127.0.0.1:{self.forwarded}-:4000",
            "-device", "virtio-net-pci,netdev=net0,romfile=", archives=(archive,),
            drivers=self.drivers, **self.properties).ready()
        for thread, name in cpu_seconds(self.vm.pid):
            if self.pin and name.startswith("CPU "):
                os.sched_setaffinity(thread, CPUS[-1:])
        for name in self.names:
            way = TRANSPORTS[name](self)
            way.prepare(self.vm)
            self.ways[name] = way

    def close(self):
        for process in self.vm, self.device:
            if process:
                process.kill()
        self.work.close()

    def last_words(self):
        print(self.work.logs())

    def _cpu(self):
        """CPU seconds so far of QEMU's parts and of vmci-device."""
        used = dict.fromkeys(("vcpu", "qemu main", "qemu other", "vmci-device"), 0.0)
        for (thread, name), seconds in cpu_seconds(self.vm.pid).items():
            if name.startswith("CPU "):
                used["vcpu"] += seconds
            else:
                used["qemu main" if thread == self.vm.pid else "qemu other"] += seconds
        if self.device:
            used["vmci-device"] = sum(sum(cpu_seconds(pid).values())
                                      for pid in family(self.device.pid))
        return used

    def _host_end(self, verb, endpoint, words, fds=()):
        argv = ["setpriv", "--pdeathsig", "KILL", "--", self.program, verb, endpoint, *words]
        return subprocess.Popen(argv, pass_fds=fds, stdin=subprocess.DEVNULL,
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def _guest_end(self, verb, endpoint, words):
        return self.vm.start(f"stream-bench {verb} {endpoint} {' '.join(words)}")

    def _finish(self, guest, host):
        """Waits for both ends; an end that fails must not leave us waiting for the other."""
        end = time.monotonic() + LIMIT
        host_text = ""
        try:
            while host.poll() is None and guest.status in (None, 0):
                if time.monotonic() > end or guest.lost:
                    break
                time.sleep(0.005)
            if host.poll() == 0:
                guest.wait(max(1, end - time.monotonic()))
        finally:
            if host.poll() is None:
                host.kill()
            host_text = host.communicate()[0]
            if guest.status is None and not guest.lost:
                guest.kill()
        if host.returncode or guest.status:
            raise TestbedError(f"{guest.text}: status {guest.status}: {guest.output.strip()}; "
                               f"host: status {host.returncode}: {host_text.strip()}")
        return parse_pairs(host_text), parse_pairs(guest.output)

    @contextlib.contextmanager
    def _ends(self, way, kind, words):
        """Starts both ends of a measurement."""
        guest_verb, host_verb = KINDS[kind]
        if kind == "knocked":
            listen, connect = way.guest_listener()
            guest = self._guest_end(guest_verb, listen, words).expect("listening")
            yield guest, self._host_end(host_verb, connect, words)
            return
        if not way.connects:
            guest = self._guest_end(guest_verb, "port:bench", words)
            fd = way.socket.fileno()
            yield guest, self._host_end(host_verb, f"fd:{fd}", words, (fd,))
            return
        with way.listen() as (endpoint, listener):
            if kind == "knock":
                listener.setblocking(True)
                fd = listener.fileno()
                host = self._host_end(host_verb, f"fd:{fd}", words, (fd,))
                yield self._guest_end(guest_verb, endpoint, words), host
                return
            guest = self._guest_end(guest_verb, endpoint, words)
            listener.settimeout(20)
            try:
                stream = listener.accept()[0]
            except TimeoutError:
                raise TestbedError(f"{guest.text}: no connection: {guest.output}") from None
            with stream:
                stream.setblocking(True)
                fd = stream.fileno()
                host = self._host_end(host_verb, f"fd:{fd}", words, (fd,))
            yield guest, host

    def measure(self, name, kind, seconds, size):
        """One measurement on one transport."""
        words = [str(round(1000 * seconds)), str(size)]
        if kind == "knocked":
            # The guest keeps the queue pair of an accepted connection for a second, and has
            # memory for 256: measure a burst, and wait until the one before is forgotten.
            words.append(str(BURST))
            time.sleep(1.2)
        before, busy, began = self._cpu(), busy_seconds(), time.monotonic()
        with self._ends(self.ways[name], kind, words) as (guest, host):
            host_pairs, guest_pairs = self._finish(guest, host)
        wall, after = time.monotonic() - began, self._cpu()
        cpu = {part: after[part] - before[part] for part in after}
        cpu["far end"] = host_pairs["user"] + host_pairs["sys"]
        cpu["others"] = max(0, busy_seconds() - busy - sum(cpu.values()))
        return Sample(host_pairs, guest_pairs, cpu, wall)
