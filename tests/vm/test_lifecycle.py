# SPDX-License-Identifier: BSD-2-Clause
"""Drivers, guests, VMMs and devices that come and go while streams are open."""

import pytest
from beds import EVERYTHING, one_bed
from testbed import PATHS, VM, Bed, Device, Listener, connect, until
from testbed.hybrid import read_all
from testbed.transfer import guest_to_host, host_to_guest

RELOAD = """
remove() { until rmmod $1 2>/tmp/why; do grep -q "temporarily unavailable" /tmp/why || exit 1; sleep 0.1; done; }
remove TRANSPORT && remove DRIVER && modprobe TRANSPORT
"""


def on(bed, text):
    """A script with the names that the guest's drivers have."""
    return text.replace("TRANSPORT", bed.vm.transport).replace("DRIVER", bed.vm.driver)


class OpenStreams:
    """Streams of both directions: idle, and full of data that the host does not read."""

    def __init__(self, bed, port=5100):
        self.guests, self.hosts = [], []
        for what in "read", "write":
            with Listener(bed.device.hybrid, port) as listener:
                guest = bed.vm.start(f"exec vsx hold 2 {port} 2 {what}")
                self.hosts += [listener.accept() for _ in range(2)]
            self.guests.append(guest.expect("holding 2"))
        self.guests.append(bed.vm.start(f"exec vsx echo {port}").expect("listening"))
        self.hosts += [connect(bed.device.hybrid, port) for _ in range(2)]

    def kill_guests(self):
        for guest in self.guests:
            guest.kill()
        for guest in self.guests:
            guest.wait()

    def all_end(self):
        """All our ends see the end of their stream."""
        for host in self.hosts:
            read_all(host)
            host.close()


def works(bed):
    assert guest_to_host(bed.device, bed.vm, 1 << 20).is_right
    assert host_to_guest(bed.device, bed.vm, 1 << 20).is_right


def test_drivers_reloaded_again_and_again(bed):
    for _ in range(20 if EVERYTHING or (bed.kernel, bed.path) == ("6.12", "mmio") else 5):
        streams = OpenStreams(bed)
        streams.kill_guests()
        bed.vm.run(on(bed, RELOAD))
        streams.all_end()
    works(bed)


def test_guest_reboots_with_streams_open(bed):
    for how in "reboot -f", "system_reset":
        streams = OpenStreams(bed)
        boots = bed.vm.agent.boots
        if how == "system_reset":
            bed.vm.qmp.command(how)
        else:
            bed.vm.start(how)
        streams.all_end()
        bed.vm.ready(boots + 1)
        works(bed)


def test_device_serves_the_next_vm(bed):
    """QEMU is killed with streams open; the next one starts with a fresh device."""
    streams = OpenStreams(bed)
    bed.vm.kill()
    streams.all_end()
    until("the device to close what the VM's streams used",
          lambda: bed.count_descriptors() < bed.descriptors)
    bed.boot()
    works(bed)


def test_device_murdered_while_streams_run(bed):
    """Host programs see the end, and the next device and VM find nothing in their way."""
    streams = OpenStreams(bed)
    bed.device.kill()
    streams.all_end()
    bed.vm.kill()
    bed.device = Device(bed.work.path, *PATHS[bed.path])
    bed.boot()
    works(bed)


def test_no_vm_no_streams(workdir):
    device = Device(workdir)
    with pytest.raises(ConnectionError):
        connect(device.hybrid, 5000)
    assert device.terminate() == 0


@one_bed
def test_once_leaves_with_its_vm(holder):
    bed = Bed("6.12", "mmio", "--once")
    try:
        streams = OpenStreams(bed)
        bed.vm.kill()
        streams.all_end()
        assert bed.device.wait() == 0
    finally:
        bed.close()


def test_memory_not_shared_is_named_in_the_log(workdir):
    device = Device(workdir)
    vm = VM(workdir, "6.12", device.socket, share=False)
    until("a hint in the log", lambda: "share=on" in device.text())
    vm.kill()
    assert device.terminate() == 0
