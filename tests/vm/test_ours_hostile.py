# SPDX-License-Identifier: BSD-2-Clause
"""Our modules on a device that lies (testbed/hostile.py): whatever it does, the guest neither panics nor hangs.

SEEDS=first-last runs others than the usual ones; the seed of a failure stands in its message.
"""

import collections
import os

import pytest
from beds import EVERYTHING
from testbed import VM, TestbedError
from testbed.bed import COMPLAINT
from testbed.hostile import CID, HOST, MOODS, Device

# Of all moods. Over ports, where each byte is a message, only those that mean something there, and short datagrams.
ROUNDS = {"6.12-mmio": 2 if EVERYTHING else 1, "newest-mmio": 1, "6.12-classic": 1, "checked-mmio": 1}
PORTS = {"registers", "all-ones", "results", "sizes", "rings", "packets", "datagrams", "everything", "everything often"}

# Programs of all kinds while the driver is bound, none for longer than it may take; then it is unbound. A device that
# was refused, or driven away, is not bound then.
WHERE = """
device=$(grep -l 0x0740 /sys/bus/pci/devices/*/device); device=${device%/device}; device=${device##*/}
driver=/sys/bus/pci/drivers/vmci
"""
UNBIND = f"{WHERE} echo $device >$driver/unbind"
CYCLE = WHERE + """
echo $device >$driver/bind
t="timeout -s KILL"
$t 2 vsx echo 701 &
$t 2 socat -u VSOCK-LISTEN:702,fork OPEN:/dev/null &
$t 2 vdg echo 5000 &
$t 1 vsx streams 2 700 3 30000 &
$t 1 vsx hold 2 700 2 write &
$t 1 vsx hold 2 700 2 read &
$t 1 vdg ask 2 5000 00112233 &
$t 1 vdg fill 2 5001 60000 5 &
$t 1 sh -c 'vsx connect 2 700; vsx connect 0 976; vsx connect 42 701'
sleep 0.3
[ ! -e $driver/$device ] || echo $device >$driver/unbind
wait
"""


def seeds(bed):
    first, _, last = os.environ.get("SEEDS", f"0-{ROUNDS[bed] * len(MOODS) - 1}").partition("-")
    names = list(MOODS)
    return [seed for seed in range(int(first), int(last or first) + 1)
            if "SEEDS" in os.environ or not bed.endswith("classic") or names[seed % len(names)] in PORTS]


@pytest.mark.parametrize("bed", ["6.12-mmio", "newest-mmio", "6.12-classic"] + ["checked-mmio"] * EVERYTHING)
def test_hostile_device(workdir, bed):
    kernel, path = bed.split("-")
    ports = path == "classic"
    device = Device(workdir / "device.sock", ports)
    # Slab's red zones and poison, and freed pages that are overwritten, make of a silent corruption a panic.
    vm = VM(workdir, kernel, workdir / "device.sock", drivers="ours", cpus=2,
            append="slub_debug=FZP init_on_free=1 kfence.sample_interval=10 hung_task_panic=1 softlockup_panic=1")
    try:
        vm.ready().run(UNBIND)
        told = collections.Counter()
        for seed in seeds(bed):
            told[run(device, vm, seed)] += device.liar.told.total()
        assert device.failure is None
        silent = [name for name, count in told.items() if MOODS[name] and not count]
        # Some lies are of DMA alone, and a chosen seed may have little to say.
        assert not silent or ports or "SEEDS" in os.environ, f"moods that told no lie: {silent}"
        # How many there were depends on how fast the machine is; but there was one for each mood, taken together.
        assert sum(told.values()) >= len(told) or "SEEDS" in os.environ
        works(device, vm)
    finally:
        vm.kill()


def test_nobody_outside_speaks_for_the_guest(workdir):
    """A datagram of its own never comes by the device; one that says so is not delivered."""
    device = Device(workdir / "device.sock")
    vm = VM(workdir, "6.12", workdir / "device.sock", drivers="ours")
    try:
        vm.ready()
        receiver = vm.start("vdg recv 5005 1").expect("ready")
        device.datagram((CID, 9), 5005, b"forged")
        device.datagram((HOST, 9), 5005, b"from the host")
        output = receiver.check()
        assert f"from {HOST}:9 {b'from the host'.hex()}" in output and "42:9" not in output, output
        assert device.failure is None
    finally:
        vm.kill()


def run(device, vm, seed):
    """One binding in the mood of a seed."""
    liar = device.arm(seed)
    try:
        vm.start(CYCLE.replace("60000", "600") if device.ports else CYCLE).wait()
        if not vm.is_sound():
            raise TestbedError("the guest panicked")
        complaints = [line for line in vm.console.read_text(errors="replace").splitlines() if COMPLAINT.search(line)]
        if complaints:
            raise TestbedError("\n".join(complaints))
    except TestbedError as error:
        raise TestbedError(f"seed {seed}, mood {liar.name!r}, lies {dict(liar.told)}: {error}") from None
    return liar.name


def works(device, vm):
    """After all that the driver binds to an honest device, and streams and datagrams pass."""
    device.arm(0)
    assert device.liar.name == "honest"
    vm.run(f"{WHERE} echo $device >$driver/bind")
    assert "00112233" in vm.run("vdg ask 2 5000 00112233")
    assert "connected" in vm.run("vsx connect 2 700")
    vm.run(UNBIND)
