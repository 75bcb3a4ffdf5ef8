# SPDX-License-Identifier: BSD-2-Clause
"""Which guests the VM tests run on."""

import os

import pytest
from testbed import Bed, FabricBed
from testbed.process import BUILD
from testbed.vm import CHECKED

# scripts/check --all: the tests on all beds and in full length, where else what differs is enough.
EVERYTHING = "EVERYTHING" in os.environ

# In an order in which every other one takes half of the time: those behind ports take twice as long. "legacy" has the
# handshake and notifications of before 2009.
BEDS = [("newest", "classic"), ("6.1", "mmio"), ("6.12", "legacy"), ("6.12", "mmio"), ("newest", "mmio")]
if EVERYTHING:
    BEDS += [("6.1", "classic"), ("6.12", "classic")]       # the same driver behind the same ports

# With our modules in the guest. The last two run the core of the tests only: other kernels and paths differ little.
OURS = [("6.12", "mmio", "ours"), ("newest", "mmio", "ours"), ("6.12", "classic", "ours"), ("6.1", "mmio", "ours"),
        ("6.12", "legacy", "ours")]
CORE = {OURS[3], OURS[4]}
if EVERYTHING:
    OURS += [(CHECKED, "mmio", "ours")]     # with KASAN and lockdep: slow
CORE_TESTS = ("test_streams",)

# Of the tests with vmcid, those that run with our modules, too.
FABRIC_TESTS = ("test_fabric", "test_fabric_streams", "test_fabric_samples", "test_fabric_restart",
                "test_fabric_window", "test_fabric_ours_dev")

# The newest kernel runs on two CPUs, which only TCG's threads keep in order.
CPUS = {"newest": 2}

# For tests that one kernel and path are enough for, and for those of our modules alone.
def only(*beds):
    return pytest.mark.parametrize("holder", beds, indirect=True, ids="-".join)


one_bed = only(("6.12", "mmio"), OURS[0])


class Holder:
    """Boots the bed anew when a test has destroyed it."""

    def __init__(self, kernel, path, drivers="in-box"):
        self.kernel, self.path, self.drivers, self.bed = kernel, path, drivers, None

    def get(self):
        if self.bed and not self.bed.is_alive:
            self.close()
        if not self.bed:
            self.bed = Bed(self.kernel, self.path, cpus=CPUS.get(self.kernel, 1), drivers=self.drivers)
        return self.bed

    def close(self):
        if self.bed:
            self.bed.close()
        self.bed = None


# What the firewall of a machine denies: resources 7300 to 7399.
FILTERS = {f"vmci.filter{i}.{key}": value
           for i, protocol in enumerate(("datagram", "doorbell", "queuepair", "stream"))
           for key, value in (("action", "deny"), ("protocol", protocol), ("portLow", 7300), ("portHigh", 7399))}

# Bytes of shared memory that two of them have together, and one for itself; and the host's programs with the two.
WINDOW = 16 << 20
CONF = 'openvmci.window.host = "inner"\n'

# The fabric's machines: name, then kernel, context, keys of the definition, options of the VM.
# Two are neighbours; the third must not see them; the fourth reaches its device over ports, and has a firewall.
MACHINES = {
    "bookworm": ("6.1", 101, {"vmci0.domain": "inner", "openvmci.window": WINDOW}, {}),
    "trixie": ("6.12", 102, {"vmci0.domain": "inner", "openvmci.window": WINDOW}, {}),
    "backports": ("newest", 103, {"vmci0.domain": "outer", "openvmci.window": WINDOW}, {"cpus": CPUS["newest"]}),
    "classic": ("6.12", 104, {"openvmci.classic": "TRUE", "vmci.filter.enable": "TRUE", **FILTERS}, {}),
}


# In /lib of all of them.
SAMPLE = BUILD / "samples/datagramApp-static"
SHARED_MEM = BUILD / "samples/sharedMemApp-static"
SHMX = BUILD / "tests/vm/shmx-static"
QPAIR = BUILD / "samples/qpairApp-static"
DOORBELL = BUILD / "samples/doorbellApp-static"
HOSTX = BUILD / "tests/vm/hostx-static"
DEVX = BUILD / "tests/vm/devx-static"
FILES = SAMPLE, SHARED_MEM, SHMX, QPAIR, DOORBELL, HOSTX, DEVX


class FabricHolder:
    """One fabric for all tests; another one when a test has destroyed it."""

    def __init__(self, drivers):
        self.drivers, self.bed = drivers, None

    def kernel(self, name, kernel):
        """With everything, our modules on one machine are looked at by KASAN and lockdep."""
        return CHECKED if EVERYTHING and self.drivers == "ours" and name == "trixie" else kernel

    def get(self):
        if self.bed and not self.bed.is_alive:
            self.close()
        if not self.bed:
            self.bed = FabricBed({name: (self.kernel(name, kernel), *rest,
                                         {**options, "drivers": self.drivers, "files": FILES})
                                  for name, (kernel, *rest, options) in MACHINES.items()}, conf=CONF)
        return self.bed

    def close(self):
        if self.bed:
            self.bed.close()
        self.bed = None
