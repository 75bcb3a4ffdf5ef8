# SPDX-License-Identifier: BSD-2-Clause
"""Our vmsock and handshakes that end in the middle, however; and streams within one guest."""

import collections
import struct

import pytest
from testbed import KERNELS, VM, Bed, until
from testbed import hostile
from testbed.bed import COMPLAINT

PORT = 901
BACKLOG = 5
TIMES = 4 * BACKLOG
ACCEPTED = "N accepting connection"


class Rude(hostile.Device):
    """An honest host, but for what it answers to NEGOTIATE2: these packets, if there are any."""

    def __init__(self, *args):
        self.answers, self.said = None, collections.Counter()
        super().__init__(*args)

    def _packet(self, dg):
        _, kind, _, theirs, ours = struct.unpack_from("<BBHII", dg, 24)
        if theirs == PORT:
            self.said[kind] += 1
        if theirs == PORT and kind == hostile.NEGOTIATE2 and self.answers is not None:
            for answer, argument in self.answers:
                self.packet(answer, ours, theirs, argument)
        else:
            super()._packet(dg)

    def connects(self, times, answers, *expected):
        """Connects so often, one after the other; waits until the guest has said all that is expected, that often."""
        self.answers = answers
        for _ in range(times):
            before = self.said.copy()
            self.connect(PORT)
            until(f"the guest to say {expected}", lambda: all(self.said[kind] > before[kind] for kind in expected))

    def _is_served(self):
        before = self.said.copy()
        self.connect(PORT)
        until("the guest to attach or refuse", lambda: (self.said - before)[hostile.ATTACH] or
              (self.said - before)[hostile.RST])
        return self.said[hostile.ATTACH] > before[hostile.ATTACH]

    def connects_well(self, times, server):
        """Connects in good order, so often, one after the other, and the program accepts each. Until it has accepted
        what was before, it may have no place: then once more.
        """
        self.answers = None
        for _ in range(times):
            until("the guest to serve a connect", self._is_served)
            until("its program to accept", lambda: server.output.count(ACCEPTED) == self.said[hostile.ATTACH])


def handle(context, resource):
    return struct.pack("<II", context, resource)


# What comes in the place of an OFFER. All but the first two are answered by RST.
ENDS = {
    "RST": [(hostile.RST, b"")],
    "two RST": [(hostile.RST, b"")] * 2,
    "WROTE": [(hostile.WROTE, b"")],
    "REQUEST2": [(hostile.REQUEST2, struct.pack("<Q", 65536))],
    "SHUTDOWN": [(hostile.SHUTDOWN, struct.pack("<Q", 3))],
    "no handle": [(hostile.OFFER, handle(hostile.ANY, hostile.ANY))],
    "half a handle": [(hostile.OFFER, handle(hostile.HOST, hostile.ANY))],
    "a handle of the guest's own": [(hostile.OFFER, handle(hostile.CID, 1024))],
}


@pytest.mark.parametrize("kernel", KERNELS)
def test_pending_connections_that_come_to_nothing(workdir, kernel):
    """They leave nothing behind: no place in the backlog, no reference to the module."""
    device = Rude(workdir / "device.sock")
    vm = VM(workdir, kernel, workdir / "device.sock", drivers="ours", cpus=2,
            append="slub_debug=FZP init_on_free=1 softlockup_panic=1").ready()
    try:
        server = vm.start(f"exec socat -d -d -u VSOCK-LISTEN:{PORT},fork,backlog={BACKLOG} OPEN:/dev/null 2>&1")
        server.expect("listening on")
        for name, answers in ENDS.items():
            refused = () if answers[0][0] == hostile.RST else (hostile.RST,)
            device.connects(TIMES, answers, hostile.NEGOTIATE2, *refused)
            device.connects_well(2 * BACKLOG, server)
            assert vm.is_sound(), name

        # Who says nothing has a place for a second; more than there are places get none.
        device.answers, before = [], device.said.copy()
        for _ in range(TIMES):
            device.connect(PORT)
        until("the guest to answer all", lambda: (device.said - before).total() >= TIMES)
        assert (device.said - before)[hostile.NEGOTIATE2] <= BACKLOG + 1
        vm.run("sleep 2")
        device.connects_well(2 * BACKLOG, server)

        server.kill(9)
        vm.agent.kill_all()
        vm.run("until rmmod vmsock; do sleep 0.1; done 2>/dev/null")
        complaints = [line for line in vm.console.read_text(errors="replace").splitlines() if COMPLAINT.search(line)]
        assert not complaints
        assert device.failure is None
    finally:
        vm.kill()


@pytest.mark.parametrize("legacy", [False, True], ids=["queue-state", "legacy"])
@pytest.mark.parametrize("kernel", ["6.12", "newest"])
def test_streams_within_one_guest(kernel, legacy):
    """Without vsock_loopback, a guest's streams to itself are ours: queue pairs that the device does not know."""
    bed = Bed(kernel, drivers="ours")
    try:
        if legacy:
            bed.vm.run("rmmod vmsock && modprobe vmsock legacy=1")
        cid = bed.device.cid
        bed.vm.start("vsx echo 950").expect("listening")
        cid = bed.device.cid
        assert "connected" in bed.vm.run(f"vsx connect {cid} 950")
        assert "ok 10 streams" in bed.vm.run(f"vsx streams {cid} 950 10 300000")
        assert "ok 1 streams" in bed.vm.run(f"vsx streams {cid} 950 1 3000000")
        assert bed.vm.start(f"vsx connect {cid} 951").wait() != 0
        receiver = bed.vm.start("socat -d -d -u VSOCK-LISTEN:952 SYSTEM:sha256sum 2>&1")
        receiver.expect("listening on")
        sent = bed.vm.run("head -c 1000000 /dev/urandom >/tmp/x; sha256sum </tmp/x; "
                          f"socat -u OPEN:/tmp/x VSOCK-CONNECT:{cid}:952")
        assert sent.split()[0] in receiver.check()
        bed.settle()
    finally:
        bed.close()
