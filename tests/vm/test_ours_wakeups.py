# SPDX-License-Identifier: BSD-2-Clause
"""Our vmsock and who must be told: of bytes and room although packets do not go, of waiting once, of an end only if
it is theirs."""

import collections
import struct

import pytest
from beds import DEVX
from test_ours import SLEEP
from testbed import VM, hostile, until
from testbed.bed import COMPLAINT

PORT = 901
FULL = -19          # NO_RESOURCES: the peer's queue is full
FOR_EVER = 10 ** 9


class Host(hostile.Device):
    """An honest host that takes control packets of some types after many tries only. Counts, by stream and type."""

    def __init__(self, *args):
        self.refuse = collections.Counter()
        self.tried, self.taken = collections.Counter(), collections.Counter()
        self.while_linking = None
        super().__init__(*args)

    def _mischief(self):
        pass

    def _datagram(self, dg):
        if struct.unpack_from("<II", dg) == (hostile.HOST, 1) and len(dg) >= 56:
            _, kind, _, theirs, ours = struct.unpack_from("<BBHII", dg, 24)
            self.tried[kind] += 1
            if self.refuse[kind] > 0:
                self.refuse[kind] -= 1
                return FULL
            self.taken[kind] += 1
            self.taken[kind, ours, theirs] += 1
        return super()._datagram(dg)

    def _hypercall(self, rid, dg):
        if rid == hostile.BELL_LINK and self.while_linking:
            act, self.while_linking = self.while_linking, None
            act()
        return super()._hypercall(rid, dg)

    def _pair(self, stream):
        return self.pairs[self.streams[stream]]

    def write(self, stream, count):
        """Puts bytes into the ring, whatever they are, and says so. Returns whether there was room."""
        with self.lock:
            pair = self._pair(stream)
            tail, = struct.unpack("<Q", self.memory.read(pair.consume_header + 8, 8))
            if count > pair.consume - 1 - (tail - self._read_so_far(pair)) % pair.consume:
                return False
            self._position(pair.consume_header + 8, (tail + count) % pair.consume, pair.consume)
            self.packet(hostile.WROTE, *stream)
            return True

    def _read_so_far(self, pair):
        return struct.unpack("<Q", self.memory.read(pair.produce_header + 16, 8))[0]

    def is_empty(self, stream):
        with self.lock:
            pair = self._pair(stream)
            tail, = struct.unpack("<Q", self.memory.read(pair.consume_header + 8, 8))
            return tail == self._read_so_far(pair)

    def ring(self, stream):
        with self.lock:
            return self._pair(stream).consume


class Setup:
    def __init__(self, workdir, kernel="6.12", legacy=False, cpus=1):
        self.device = Host(workdir / "device.sock")
        self.vm = VM(workdir, kernel, workdir / "device.sock", drivers="ours", cpus=cpus, files=[DEVX],
                     append="slub_debug=FZP init_on_free=1 softlockup_panic=1").ready()
        if legacy:
            self.vm.run("rmmod vmsock && modprobe vmsock legacy=1")

    def __enter__(self):
        return self.device, self.vm

    def __exit__(self, kind, *_):
        try:
            if kind is None:
                self.vm.agent.kill_all()
                self.vm.run("until rmmod vmsock; do sleep 0.1; done 2>/dev/null")
                lines = self.vm.console.read_text(errors="replace").splitlines()
                assert not [line for line in lines if COMPLAINT.search(line)]
                assert self.device.failure is None
        finally:
            self.vm.kill()


def test_packets_that_do_not_go_at_once(workdir):
    """The peer learns of bytes, of the end and of room all the same."""
    with Setup(workdir) as (device, vm):
        for _ in range(3):
            device.refuse = collections.Counter({hostile.WROTE: 40, hostile.SHUTDOWN: 40})
            vm.start(f"head -c 20000 /dev/zero | socat -t 60 - VSOCK-CONNECT:2:{PORT} | wc -c").check()
            assert device.refuse[hostile.WROTE] == device.refuse[hostile.SHUTDOWN] == 0

        reader = vm.start(f"exec vsx hold 2 {PORT} 1 read").expect("holding 1")
        stream, = device.streams
        device.refuse[hostile.TOOK] = 100
        before = device.taken[hostile.TOOK]
        assert device.write(stream, device.ring(stream) - 1)
        until("the guest to say that there is room", lambda: device.taken[hostile.TOOK] > before)
        assert device.is_empty(stream)
        reader.kill()


def test_room_for_a_peer_that_does_not_read(workdir):
    """Who has said that it will not read, but writes, is told of room."""
    with Setup(workdir) as (device, vm):
        vm.start(f"exec vsx hold 2 {PORT} 1 read").expect("holding 1")
        stream, = device.streams
        with device.lock:
            device.packet(hostile.SHUTDOWN, *stream, struct.pack("<Q", 1))
        for times in 1, 2:
            assert device.write(stream, device.ring(stream) - 1)
            until("the guest to say that there is room", lambda: device.taken[hostile.TOOK] >= times)
            until("it to have taken all", lambda: device.is_empty(stream))


def test_streams_that_end_while_they_owe_packets(workdir):
    """Their programs end, the device goes, the machine sleeps: nothing is left, and nothing is sent any more."""
    where = "device=$(basename /sys/bus/pci/drivers/vmci/0000:*); cd /sys/bus/pci/drivers/vmci;"
    with Setup(workdir) as (device, vm):
        for end in ("", f"{where} echo $device >unbind; sleep 0.3; echo $device >bind", SLEEP["freeze"]) * 2:
            device.refuse = collections.Counter({hostile.WROTE: FOR_EVER, hostile.SHUTDOWN: FOR_EVER})
            before = device.tried.copy()
            program = vm.start(f"exec vsx streams 2 {PORT} 20 1000")
            until("the guest to have tried", lambda: device.tried[hostile.WROTE] >= before[hostile.WROTE] + 20 * 12)
            if end:
                vm.start(end).check()
            program.kill()
            program.wait()
            before = device.tried.copy()
            vm.run("sleep 0.3; until rmmod vmsock; do sleep 0.05; done 2>/dev/null; sleep 0.3")
            assert device.tried[hostile.WROTE] == before[hostile.WROTE]
            device.refuse.clear()
            vm.run("modprobe vmsock")
            assert "median" in vm.start(f"vsx rtt 2 {PORT} 3 20000").check()


def test_owing_is_no_busy_loop(workdir):
    """A reader that sleeps, and owes READ, sleeps; it asks some times a second."""
    with Setup(workdir) as (device, vm):
        vm.start(f"exec socat -u VSOCK-CONNECT:2:{PORT} OPEN:/dev/null")
        until("the stream", lambda: any(device.streams.values()))
        stream, = device.streams
        device.refuse[hostile.TOOK] = FOR_EVER
        assert device.write(stream, device.ring(stream) - 1)
        until("the guest to have taken all", lambda: device.is_empty(stream))
        vm.run("sleep 1")
        before = device.tried[hostile.TOOK]
        vm.run("sleep 3")
        assert 5 <= device.tried[hostile.TOOK] - before <= 150      # 60 in three seconds; a guest may be slow


@pytest.mark.parametrize("kernel", ["6.12", "newest"])
def test_waiting_is_told_once(workdir, kernel):
    """Of the legacy kind: a program looks at two streams again and again, as something comes on one of them."""
    rounds = 40
    with Setup(workdir, kernel, legacy=True) as (device, vm):
        vm.start(f"exec vsx hold 2 {PORT} 2 read").expect("holding 2")
        busy, idle = sorted(device.streams)
        for _ in range(rounds):
            until("room", lambda: device.write(busy, 1))
            until("the guest to have taken it", lambda: device.is_empty(busy))
        # It waits for more, and has said so: else it would sleep too long.
        told = device.taken[hostile.WAIT_R, *busy]
        assert device.write(busy, 1)
        until("the guest to wait again", lambda: device.taken[hostile.WAIT_R, *busy] > told)
        vm.run("sleep 0.3")
        assert 2 <= device.taken[hostile.WAIT_R, *busy] <= rounds + 2
        assert device.taken[hostile.WAIT_R, *idle] == 1


def test_stream_that_is_made_during_resume(workdir):
    """Those of before have ended; one that is made before the others hear of it has not."""
    with Setup(workdir, cpus=2) as (device, vm):
        vm.start(f"exec vsx echo {PORT}").expect("listening")
        vm.start(f"exec /lib/{DEVX.name} bells 200").expect("holding")
        old = vm.start(f"exec vsx hold 2 {PORT + 1} 1 read").expect("holding 1")

        def connect():
            # Those of the stream before are still in use in the guest.
            device.next_port = device.serial = ports.pop()
            device.connect(PORT)

        ports = [4000, 5000, 6000]
        while ports:
            ready = device.taken[hostile.ATTACH]
            device.while_linking = connect
            vm.start(SLEEP["freeze"]).check()
            until("the stream", lambda: device.taken[hostile.ATTACH] > ready)
            old.wait()
            vm.run("sleep 0.5")
            new, = device.streams
            assert device.streams[new] in device.pairs, "the new stream has ended"
            assert device.write(new, 100)
            until("the guest to take it", lambda: device.is_empty(new))
            old = vm.start(f"exec vsx hold 2 {PORT + 1} 1 read").expect("holding 1")
