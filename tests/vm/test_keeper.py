# SPDX-License-Identifier: BSD-2-Clause
"""A device that ends before its VM: guest programs get an error, and the guest lives on."""

import signal
import threading

import pytest
from beds import one_bed
from test_lifecycle import RELOAD, OpenStreams, on, works
from testbed import PATHS, Device
from testbed.hybrid import Listener
from testbed.keeper import end
from testbed.process import LIMIT

HOW = pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL, signal.SIGSEGV],
                              ids=lambda how: how.name)

REMOVE = RELOAD.partition(" && modprobe")[0]


class BusyStreams(OpenStreams):
    """Streams of both directions that sleep, and one each way that moves data all the time."""

    def __init__(self, bed, port=5100):
        super().__init__(bed, port)
        self.pumps, self.pump_hosts, self.threads = [], [], []
        with Listener(bed.device.hybrid, port + 1) as listener:
            for ends in "/dev/zero VSOCK-CONNECT:2:{}", "VSOCK-CONNECT:2:{} OPEN:/dev/null":
                self.pumps.append(bed.vm.start("exec socat -u " + ends.format(port + 1)))
                self.pump_hosts.append(listener.accept())
        moved = threading.Semaphore(0)
        for host, move in zip(self.pump_hosts, (self._read, self._write)):
            thread = threading.Thread(target=move, args=(host, moved), daemon=True)
            thread.start()
            self.threads.append(thread)
        for _ in range(20):
            assert moved.acquire(timeout=LIMIT)

    @staticmethod
    def _read(sock, moved):
        while sock.recv(1 << 16):
            moved.release()

    @staticmethod
    def _write(sock, moved):
        try:
            while True:
                sock.sendall(bytes(1 << 16))
                moved.release()
        except OSError:
            pass

    def programs_end(self, limit):
        """All programs see the end of their stream, and none hangs."""
        self.all_end()
        for guest in self.guests[:2]:
            assert guest.check(limit).count("stream ") == 2
        for pump in self.pumps:
            pump.wait(limit)
        for thread in self.threads:
            thread.join(limit)
            assert not thread.is_alive()
        for host in self.pump_hosts:
            host.close()
        self.guests[2].kill()
        self.guests[2].wait(limit)


def cannot_connect(vm, times=50):
    """The guest is alive, and connects fail at once."""
    text = vm.run(f"for i in $(seq {times}); do vsx connect 2 5100 && exit 1; done; true")
    assert text.split() == ["EHOSTUNREACH"] * times     # not ETIMEDOUT


@HOW
def test_guest_survives_its_device(bed, how):
    """Programs end within seconds; the drivers can be removed; the VM can end."""
    streams = BusyStreams(bed)
    keeper = end(bed.device, how)
    streams.programs_end(30)
    cannot_connect(bed.vm)
    bed.vm.run(on(bed, REMOVE))
    # A driver that is loaded now is turned away, and does not hang either.
    bed.vm.run(on(bed, "modprobe TRANSPORT; grep -q vmci /proc/interrupts && exit 1; true"))
    assert not bed.complaints()
    bed.vm.kill()
    keeper.wait()


@one_bed
@pytest.mark.parametrize("how", ["reboot -f", "system_reset"])
def test_guest_reboots_without_its_device(bed, how):
    """Firmware and kernel find a device that offers nothing; the next device serves the next VM."""
    streams = BusyStreams(bed)
    keeper = end(bed.device, signal.SIGKILL)
    boots = bed.vm.agent.boots
    if how == "system_reset":
        bed.vm.qmp.command(how)
    else:
        bed.vm.start(how)
    streams.all_end()
    bed.vm.ready(boots + 1)
    bed.vm.run("! vsx connect 2 5100")
    bed.device = Device(bed.work.path, *PATHS[bed.path])
    assert keeper.is_running()
    bed.vm.kill()
    keeper.wait()
    bed.boot()
    bed.descriptors = bed.count_descriptors()
    works(bed)


@one_bed
def test_idle_guest_survives_its_device(bed):
    """Nothing was ever received by this driver, so nothing is known of its buffer."""
    bed.vm.run(on(bed, RELOAD))
    keeper = end(bed.device, signal.SIGKILL)
    cannot_connect(bed.vm)
    bed.vm.kill()
    keeper.wait()
