# SPDX-License-Identifier: BSD-2-Clause
"""The rows of the table: what each measures, in which unit, and the goal."""

import dataclasses
import statistics
import typing

from bed import BURST
from fabric import WAYS as FABRIC
from host import WAYS as HOST
from modules import WAYS as MODULES
from shim import WAYS as SHIM

# What the throw-away model of the device did, before there was this one.
MODEL_CONNECT_MS = 7
MODEL_ECHO_MB = 108
MODEL_RTT_US = 200
MODEL_PORTS_RTT_US = 61000
MODEL_PORTS_MB = 0.3

ALL = ("vmci", "virtio-serial", "tcp")
WITH_CONNECTIONS = ("vmci", "tcp")
OURS = ("vmci",)
BETWEEN_GUESTS = ("vmci", "tcp")

# Who has a column in the table of a section; sections with the same columns share one.
COLUMNS = {"mmio": ALL, "ports": ALL, "modules": tuple(MODULES), "fabric": FABRIC, "shim": SHIM, "host": HOST}

SENT = "sender sends without pause; bytes until the far end has them, by the host's clock"


ALONE = "host: AF_UNIX alone 64B"      # a part of our way, measured by itself


@dataclasses.dataclass(frozen=True)
class Goal:
    """A figure to reach: of our own, or a multiple of the best peer's, or of named ones."""

    number: float
    text: str
    of_peers: bool = False
    against: tuple = ()         # (peer, factor): the number does not matter then


def beat_peers(times=2.0):
    return Goal(times, f"{times:g}x best peer", of_peers=True)


def against(more, **factors):
    """At least so many times the rate of each of these, or at most so many times as long."""
    text = ", ".join(f"{'>=' if more else '<='} {factor:g}x {way}"
                     for way, factor in factors.items())
    return Goal(0, text, against=tuple(factors.items()))


def model(figure, more, unit, times=3):
    number = figure * times if more else figure / times
    return Goal(number, f"{'>=' if more else '<='} {number:.3g} {unit}")


@dataclasses.dataclass(frozen=True)
class Row:
    name: str
    unit: str
    more: bool                  # is more better?
    kind: str                   # what to measure (bed.KINDS), and at which size
    size: int
    metric: typing.Callable     # figure of a Sample; called with the transport's name, too
    ways: tuple = ALL
    goal: typing.Optional[Goal] = None
    note: typing.Callable = None        # further words on the row's samples of ours
    section: str = "mmio"
    beside: str = None                  # the peer that the ratio is to, where no goal names one

    @property
    def key(self):
        return self.section, self.kind, self.size


def megabytes(sample, _):
    return sample.rate() / 1e6


def per_second(sample, _):
    return sample.rate()


def guest_median_us(sample, _):
    return sample.guest["median"] / 1e3


def host_median_us(sample, _):
    return sample.host["median"] / 1e3


def connect_ms(sample, _):
    return sample.guest["median"] / 1e6


def device_cpu(sample, _):
    return sample.cpu["vmci-device"] / sample.gib()


def outside_cpu(sample, way):
    used = sample.cpu["qemu main"] + sample.cpu["qemu other"]
    return (used + (sample.cpu["vmci-device"] if way == "vmci" else 0)) / sample.gib()


def messages(sample, _):
    return sample.rate("count")


def fixed(text):
    return lambda samples: text


def p99_of(end):
    def note(samples):
        figure = statistics.median(getattr(sample, end)["p99"] for sample in samples)
        return f"p99 {figure / 1e3:.{0 if figure >= 1e4 else 2}f} us"
    return note


PORTS = ("bound by region accesses: to drain inbound datagrams the guest's driver reads at least "
         "4096 bytes of DATA_IN one by one, to send one it writes each byte; each is a request to "
         "vmci-device whose reply the vCPU waits for, through QEMU's proxy thread")


SIZES = {"64B": 64, "4K": 4096, "64K": 65536}
DIRECTIONS = {"up": "guest->host", "down": "host->guest"}


def throughput(kind, label, **more):
    note = SENT
    if (kind, label) == ("down", "64B"):
        note += (f"; each is a write(2) of the program to a UNIX socket: see the row '{ALONE}' for "
                 f"a socket pair between two processes, without any VM")
    return Row(f"throughput {DIRECTIONS[kind]} {label}", "MB/s", True, kind, SIZES[label],
               megabytes, goal=beat_peers(), note=fixed(note), **more)


QPAIR = ("through libvmci, two processes, each on a CPU of its own; bare: a ring with memcpy in "
         "and out, and nothing else; ratio is to bare, of measurements side by side")


def qpair(label, size, **factors):
    return Row(f"host: throughput {label}", "MB/s", True, "stream", size, megabytes, HOST,
               goal=against(True, **factors) if factors else None, note=fixed(QPAIR),
               section="host")


VMS = ("from one guest to another, both with one vCPU, by the clock of the one that counts; tcp: over "
       "virtio-net, a stream netdev of QEMU in each and a UNIX socket between them")
UNDER_SHIM = ("two processes, each on a CPU of its own: a program with AF_VSOCK sockets, under vmci-run; the "
              "same with AF_UNIX, with TCP over loopback; ratio is to unix, of measurements side by side")


def between_guests(label):
    return Row(f"vms: throughput {label}", "MB/s", True, "stream", SIZES[label], megabytes, BETWEEN_GUESTS,
               goal=beat_peers(), note=fixed(VMS), section="fabric")


MODULES_NOTE = ("two guests of the same kernel, idle when it is not their turn: vmci: our vmci and vmsock; in-box: the "
                "kernel's own drivers; ratio is of measurements side by side")


def of_modules(name, unit, more, kind, size, metric):
    def note(samples):
        busy = statistics.median(sample.cpu["vcpu"] / sample.wall for sample in samples)
        return f"our guest's processor is busy {100 * busy:.0f} % of the time; {MODULES_NOTE}"
    return Row(f"modules: {name}", unit, more, kind, size, metric, tuple(MODULES), section="modules", beside="in-box",
               goal=against(more, **{"in-box": 1}), note=note)


def datagrams(kind, label):
    return Row(f"datagrams {label} 64B", "1/s", True, kind, 64, messages, ("vmci", "udp"), section="fabric",
               note=fixed("that came; who sends does not wait for anybody, and tries again where it is told "
                          "that a queue is full. vmci: AF_VSOCK, at the host under vmci-run; udp: QEMU's "
                          "user network"))


def under_shim(label, **factors):
    return Row(f"shim: throughput {label}", "MB/s", True, "stream", SIZES[label], megabytes, SHIM,
               goal=against(True, **factors) if factors else None, note=fixed(UNDER_SHIM), section="shim",
               beside="unix")


ROWS = [
    *(throughput(kind, label) for kind in DIRECTIONS for label in SIZES),
    Row("throughput echo 64K", "MB/s", True, "echo", 65536, megabytes,
        goal=model(MODEL_ECHO_MB, True, "MB/s"),
        note=fixed("guest sends, host sends all back at the same time; bytes counted once")),
    Row("round trip guest asks 64B", "us", False, "ask", 64, guest_median_us,
        goal=model(MODEL_RTT_US, False, "us"), note=p99_of("guest")),
    Row("round trip host asks 64B", "us", False, "asked", 64, host_median_us,
        goal=model(MODEL_RTT_US, False, "us"), note=p99_of("host")),
    Row("connect guest->host", "ms", False, "knock", 1, connect_ms, WITH_CONNECTIONS,
        goal=model(MODEL_CONNECT_MS, False, "ms"),
        note=lambda samples: p99_of("guest")(samples) + "; connect(2), by the guest's clock"),
    Row("connections guest->host", "1/s", True, "knock", 1, per_second, WITH_CONNECTIONS,
        note=fixed("one after the other: connect, a byte each way, close")),
    Row("connections host->guest", "1/s", True, "knocked", 1, per_second, WITH_CONNECTIONS,
        note=fixed(f"as from the guest, in bursts of at most {BURST}")),
    *(Row(f"CPU vmci-device {DIRECTIONS[kind]} {label}", "s/GiB", False, kind, SIZES[label],
          device_cpu, OURS, note=fixed("user and system time of its processes"))
      for kind in DIRECTIONS for label in ("64B", "64K")),
    *(Row(f"CPU outside guest {DIRECTIONS[kind]} 64K", "s/GiB", False, kind, 65536, outside_cpu,
          note=fixed("QEMU's threads but the vCPUs, plus vmci-device for vmci"))
      for kind in DIRECTIONS),
    *(Row(f"ports: throughput {DIRECTIONS[kind]} 64K", "MB/s", True, kind, 65536, megabytes, OURS,
          goal=model(MODEL_PORTS_MB, True, "MB/s"), section="ports",
          note=fixed("payload goes through shared memory here, too: bound by how often a side "
                     "must notify the other, and so by region accesses, as the round trip"))
      for kind in DIRECTIONS),
    Row("ports: round trip guest asks 64B", "us", False, "ask", 64, guest_median_us, OURS,
        goal=model(MODEL_PORTS_RTT_US, False, "us"), section="ports",
        note=lambda samples: f"{p99_of('guest')(samples)}; {PORTS}"),
    Row("ports: connect guest->host", "ms", False, "knock", 1, connect_ms, OURS,
        note=p99_of("guest"), section="ports"),
    *(of_modules(f"throughput {DIRECTIONS[kind]} {label}", "MB/s", True, kind, SIZES[label], megabytes)
      for kind in DIRECTIONS for label in SIZES),
    of_modules("throughput echo 64K", "MB/s", True, "echo", 65536, megabytes),
    of_modules("round trip guest asks 64B", "us", False, "ask", 64, guest_median_us),
    of_modules("round trip host asks 64B", "us", False, "asked", 64, host_median_us),
    of_modules("connect guest->host", "ms", False, "knock", 1, connect_ms),
    of_modules("connections host->guest", "1/s", True, "knocked", 1, per_second),
    *(between_guests(label) for label in SIZES),
    Row("vms: round trip 64B", "us", False, "ask", 64, host_median_us, BETWEEN_GUESTS, section="fabric",
        note=lambda samples: f"{p99_of('host')(samples)}; {VMS}"),
    Row("vms: connections", "1/s", True, "knock", 1, messages, BETWEEN_GUESTS, section="fabric",
        note=fixed(f"one after the other: connect, a byte each way, close; in bursts of at most {BURST}")),
    datagrams("dgram up", "guest->host"),
    datagrams("dgram down", "host->guest"),
    under_shim("64B"),
    under_shim("4K"),
    under_shim("64K", unix=0.95),
    Row("shim: round trip 64B", "us", False, "ask", 64, host_median_us, SHIM, section="shim", beside="unix",
        note=lambda samples: f"{p99_of('host')(samples)}; {UNDER_SHIM}"),
    Row("shim: connections", "1/s", True, "knock", 1, messages, SHIM, goal=against(True, unix=0.5), section="shim",
        note=fixed("one after the other: socket, connect, a byte each way, close; and accept at the other end. Each "
                   "connect() under vmci-run is a request to vmcid, which runs on one of the two CPUs, too")),
    qpair("64B", 64, bare=0.5),
    qpair("1K", 1024),
    qpair("64K", 65536, bare=0.8, unix=5),
    Row("host: round trip spinning 64B", "us", False, "spin", 64, host_median_us, ("vmci", "bare"),
        goal=against(False, bare=5), section="host",
        note=lambda samples: f"{p99_of('host')(samples)}; bare: one cache line"),
    Row("host: round trip sleeping 64B", "us", False, "sleep", 64, host_median_us, HOST,
        goal=against(False, bare=1.3), section="host",
        note=lambda samples: f"{p99_of('host')(samples)}; bare: two eventfds"),
    Row("host: datagrams 64B", "1/s", True, "dgram", 64, messages, ("vmci", "unix"), section="host",
        note=fixed("ours go through the broker, which answers each; unix: a pair of SOCK_DGRAM")),
    Row(ALONE, "MB/s", True, "stream", 64, megabytes, ("unix",), section="host"),   # for comparison
]


class Result:
    """What a row came to: a list of figures for each transport that has any."""

    def __init__(self, row, samples):
        self.row = row
        self.figures = {way: [row.metric(sample, way) for sample in samples[way]]
                        for way in row.ways if samples.get(way)}
        self.medians = {way: statistics.median(all_of) for way, all_of in self.figures.items()}
        self.peers = {way: self.medians[way] for way in self.medians if way != "vmci"}
        self.note = ""
        if row.note and samples.get("vmci"):
            self.note = row.note(samples["vmci"])

    @property
    def value(self):
        return self.medians.get("vmci")

    @property
    def best_peer(self):
        if not self.peers:
            return None
        return (max if self.row.more else min)(self.peers.values())

    def ratio_to(self, way):
        """Ours to a peer's, more than 1 is better: the median over measurements side by side."""
        ours, theirs = self.figures.get("vmci", []), self.figures.get(way, [])
        if not ours or len(ours) != len(theirs) or not all(ours) or not all(theirs):
            return None
        return statistics.median(a / b if self.row.more else b / a for a, b in zip(ours, theirs))

    @property
    def ratio(self):
        """Ours to the best peer's; more than 1 is better. To the first one that a goal names, or to the row's."""
        if self.row.goal and self.row.goal.against:
            return self.ratio_to(self.row.goal.against[0][0])
        if self.row.beside:
            return self.ratio_to(self.row.beside)
        if self.value is None or self.best_peer is None:
            return None
        pair = (self.value, self.best_peer) if self.row.more else (self.best_peer, self.value)
        return pair[0] / pair[1] if pair[1] else None

    @property
    def reached(self):
        """yes, no, "beaten" (better than both peers, but not as far as the goal), or None."""
        goal = self.row.goal
        if goal is None or self.value is None:
            return None
        if goal.against:
            ratios = [(self.ratio_to(way), factor) for way, factor in goal.against]
            if None in [ratio for ratio, _ in ratios]:
                return None
            met = all(ratio >= (factor if self.row.more else 1 / factor)
                      for ratio, factor in ratios)
            return "yes" if met else "no"
        if goal.of_peers:
            if self.ratio is None:
                return None
            return "yes" if self.ratio >= goal.number else "beaten" if self.ratio > 1 else "no"
        met = self.value >= goal.number if self.row.more else self.value <= goal.number
        return "yes" if met else "no"

    def as_json(self):
        row = self.row
        return {
            "name": row.name, "unit": row.unit, "value": self.value, "peers": self.peers,
            "ratio": self.ratio, "goal": row.goal.text if row.goal else None,
            "reached": self.reached, "note": self.note, "section": row.section,
            "more_is_better": row.more, "samples": self.figures,
            "ratios": {way: self.ratio_to(way) for way in self.peers},
        }
