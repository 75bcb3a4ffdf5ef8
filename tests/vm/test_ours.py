# SPDX-License-Identifier: BSD-2-Clause
"""Our modules come and go: self-tests, 200 loadings with traffic, unbinding under open sockets, sleep, reboot, kexec."""

import re

import pytest
from beds import EVERYTHING, OURS, only
from test_lifecycle import OpenStreams, works
from testbed import KERNELS, VM, Bed, Device, FabricBed, echo_server, names, until
from testbed.vm import CHECKED, kernel_files

LOADS = 200
beds_of_6_12 = only(OURS[0], *OURS[5:])
both_beds = only(*OURS[:2], *OURS[5:])
kernels_6_12 = pytest.mark.parametrize("kernel", ["6.12"] + [CHECKED] * EVERYTHING)

WHERE = """
device=$(grep -l 0x0740 /sys/bus/pci/devices/*/device); device=${device%/device}; device=${device##*/}
driver=/sys/bus/pci/drivers/DRIVER
"""

# Each time a datagram to vmcid's discovery service and the one that comes back, and an echo of the host on a stream.
LOAD = """
remove() { until rmmod $1 2>/tmp/why; do grep -q "temporarily unavailable" /tmp/why || exit 9; sleep 0.05; done; }
if grep -q vmci /proc/modules; then remove vmsock; remove vmci; fi
for i in $(seq %d); do
	modprobe vmci && modprobe vmsock || exit 1
	vdg ask 1 1 %s | grep -q 'from 1:1' || exit 2
	vsx streams 2 %d 1 20000 | grep -q 'ok 1 streams' || exit 3
	remove vmsock; remove vmci
done
"""


@pytest.mark.parametrize("kernel", [*KERNELS] + [CHECKED] * EVERYTHING)
def test_self_tests_pass_at_load(workdir, kernel):
    device = Device(workdir)
    vm = VM(workdir, kernel, device.socket, drivers="debug").ready()
    said = vm.run("dmesg")
    assert "vmci: self-tests: pass" in said and "FAIL" not in said, said
    assert "vmsock" in vm.run("lsmod")      # it would not be loaded else
    vm.kill()


def memory(vm):
    """Pages that the kernel has for itself, for good."""
    vm.run("sync; echo 3 >/proc/sys/vm/drop_caches; sleep 1; echo 3 >/proc/sys/vm/drop_caches")
    info = dict(line.split(":") for line in vm.run("cat /proc/meminfo").splitlines())
    kilobytes = {name: int(info[name].split()[0])
                 for name in ("SUnreclaim", "VmallocUsed", "Percpu", "PageTables", "KernelStack", "MemFree")}
    free = kilobytes.pop("MemFree")
    return sum(kilobytes.values()) // 4, free // 4


@kernels_6_12
def test_loaded_200_times_with_traffic(workdir, kernel):
    fabric = FabricBed({"one": (kernel, 101, {}, {"drivers": "ours", "probe": False})})
    try:
        vm, hybrid = fabric["one"].vm, fabric["one"].hybrid
        with echo_server(hybrid, 5200):
            script = LOAD % (20, names.request(names.LOOKUP, "nobody"), 5200)
            assert vm.start(script).wait(300) == 0                  # what is allocated once, or for each CPU, comes now
            used, free = memory(vm)
            assert vm.start(script.replace("seq 20", f"seq {LOADS}")).wait(600) == 0
            used_then, free_then = memory(vm)
        # A page for each loading is 200; buddies and slabs that are half full are some.
        assert used_then - used < LOADS // 2, f"{used_then - used} pages more than before"
        assert free - free_then < LOADS, f"{free - free_then} pages less are free"
        left = vm.run("cat /proc/slabinfo /proc/interrupts /proc/modules; ls /sys/bus/pci/drivers /sys/kernel/slab")
        assert not re.search("vmci|vmsock", left), left
        assert not fabric["one"].complaints()
    finally:
        fabric.close()


def unbind(vm):
    vm.run(on_vm(vm, WHERE + "echo $device >$driver/unbind"))


def bind(vm):
    vm.run(on_vm(vm, WHERE + "echo $device >$driver/bind"))


def on_vm(vm, text):
    return text.replace("DRIVER", vm.driver)


@both_beds
def test_unbound_with_streams_open(bed):
    """Streams end on both sides, nobody hangs, nothing can be opened; with the next binding all is as before."""
    for _ in range(5):
        streams = OpenStreams(bed)
        waiting = bed.vm.start("exec socat -u VSOCK-LISTEN:5300 -")
        unbind(bed.vm)
        streams.all_end()
        for guest in streams.guests[:2]:
            assert guest.check().count("stream ") == 2
        assert bed.vm.start("vsx connect 2 5100").wait() != 0
        bind(bed.vm)
        # Who listened before the device went listens still.
        waiting.kill()
        streams.guests[2].kill()
        waiting.wait()
        streams.guests[2].wait()
        works(bed)


@beds_of_6_12
def test_surprise_removal(bed):
    """The device is pulled out of the slot, as hot-unplug does."""
    streams = OpenStreams(bed)
    bed.vm.run("echo 1 >/sys/bus/pci/devices/$(basename /sys/bus/pci/drivers/vmci/0000:*)/remove")
    streams.all_end()
    for guest in streams.guests[:2]:
        assert guest.check().count("stream ") == 2
    streams.guests[2].kill()
    streams.guests[2].wait()
    bed.vm.run("echo 1 >/sys/bus/pci/rescan")
    works(bed)


# To RAM, out of which QEMU's clock wakes the machine after a reset of its devices; and to idle, where nothing of QEMU
# wakes it: the kernel's own test suspends the drivers, waits a second, and resumes them.
SLEEP = {
    "mem": "echo 0 >/sys/class/rtc/rtc0/wakealarm; echo +3 >/sys/class/rtc/rtc0/wakealarm; echo mem >/sys/power/state",
    "freeze": "echo 1 >/sys/module/suspend/parameters/pm_test_delay; echo devices >/sys/power/pm_test;"
              " echo freeze >/sys/power/state; echo none >/sys/power/pm_test",
}


# Linux 7.3's virtio console, by which we talk to the guest, does not come back from a suspend, with or without VMCI.
@kernels_6_12
@pytest.mark.parametrize("how", SLEEP)
def test_sleep(how, kernel):
    """Streams end, and new ones work."""
    bed = Bed(kernel, "mmio", drivers="ours", packed=True)
    try:
        for _ in range(3):
            streams = OpenStreams(bed)
            bed.vm.start(SLEEP[how]).check()
            streams.all_end()
            for guest in streams.guests[:2]:
                guest.wait()
            streams.kill_guests()
            works(bed)
        bed.settle()
    finally:
        bed.close()


@beds_of_6_12
def test_orderly_reboot(bed):
    """With the drivers' shutdown, which `reboot -f` calls, too, and with programs that are still there."""
    streams = OpenStreams(bed)
    boots = bed.vm.agent.boots
    bed.vm.start("reboot -f")
    streams.all_end()
    bed.vm.ready(boots + 1)
    works(bed)


@kernels_6_12
def test_kexec(workdir, kernel):
    """The next kernel finds a device that nobody reset but our shutdown, and streams that are gone."""
    files = kernel_files(kernel, drivers="ours")
    bed = Bed(kernel, "mmio", drivers="ours", files=files, memory=1024)
    try:
        streams = OpenStreams(bed)
        boots = bed.vm.agent.boots
        command = bed.vm.start(f"exec kexec /lib/{files[0].name} /lib/{files[1].name}")
        until("the next kernel", lambda: bed.vm.agent.boots > boots or command.status is not None)
        assert command.status is None, command.output
        bed.vm.ready(boots + 1)
        streams.all_end()
        works(bed)
        assert not bed.complaints()
    finally:
        bed.close()


def test_in_box_drivers_loaded_first(workdir):
    """They have the device and /dev/vmci: ours are turned away, each with a line that says why; and then they are not."""
    bed = Bed("6.12", "mmio", drivers="ours")
    try:
        # rmmod waits for sockets that were closed a moment ago.
        gone = "until rmmod vmsock vmci; do sleep 0.2; done; dmesg -c >/dev/null"
        bed.vm.run(f"{gone}; modprobe vmw_vsock_vmci_transport")
        said = bed.vm.run("modprobe vmci && echo SUCCESS; modprobe vmsock && echo SUCCESS; dmesg")
        assert "SUCCESS" not in said and re.search(r"vmci: .*/dev/vmci", said), said
        works(bed)
        bed.vm.run("until rmmod vmw_vsock_vmci_transport; do sleep 0.2; done; rmmod vmw_vmci && modprobe vmsock")
        works(bed)
        assert bed.vm.is_sound()
    finally:
        bed.close()


# Options of vmci.ko, the device that shows what they do, what the driver says then, and the kernel of its interrupts.
OPTIONS = {
    "ports=1": ([], "by ports, .* interrupts: 2", "PCI-MSI"),
    "disable_msix=1": (["--intx"], "by DMA, .* interrupts: 1", "IO-APIC"),
    "disable_msix=0": (["--msi", "--intx"], "by DMA, .* interrupts: 1", "PCI-MSI"),
    "disable_msi=1": (["--msi", "--intx"], "by DMA, .* interrupts: 1", "IO-APIC"),
}


@kernels_6_12
@pytest.mark.parametrize("options", OPTIONS)
def test_module_options(workdir, options, kernel):
    arguments, said, chip = OPTIONS[options]
    device = Device(workdir, *arguments)
    vm = VM(workdir, kernel, device.socket, drivers="ours").ready()
    vm.run(f"rmmod vmsock vmci; dmesg -c >/dev/null; modprobe vmci {options} && modprobe vmsock")
    assert re.search(said, vm.run("dmesg"))
    with echo_server(device.hybrid, 5200):
        assert "ok 1 streams" in vm.run("vsx streams 2 5200 1 20000")
    interrupts = [line for line in vm.run("cat /proc/interrupts").splitlines() if line.endswith("vmci")]
    assert interrupts and all(chip in line for line in interrupts), interrupts
    vm.kill()
