# SPDX-License-Identifier: BSD-2-Clause
"""Queue pairs of guests whose pages a host program has mapped itself: nothing is copied, and no byte is lost."""

import os
import pathlib
import signal

import pytest
from test_fabric import DST_UNREACHABLE, MIB, NO_ACCESS, Pair
from testbed import until

DIRECT = 0x200      # VMCI_QPAIR_DIRECT

# VMCI_ERROR_*
CANNOT_SHARE_PAGE, NOT_ATTACHED = -15, -34


def has_guest_memory(pid, size):
    """Whether a process has so many bytes, or more, of a guest's memory mapped."""
    mapped = 0
    for line in pathlib.Path(f"/proc/{pid}/maps").read_text().splitlines():
        if "memory-backend-memfd" in line:
            start, end = (int(part, 16) for part in line.split()[0].split("-"))
            mapped += end - start
    return mapped >= size if size else mapped > 0


def pair_of(fabric, machine, creator, **options):
    return Pair(fabric, machine, creator, flags=DIRECT, **options)


@pytest.mark.parametrize("creator", ["guest", "host"])
def test_bulk(fabric, machine, creator):
    """256 MiB, in the direction of who created it, and some the other way; in the guest's own memory."""
    pair = pair_of(fabric, machine, creator)
    big, small = 256 * MIB, 16 * MIB
    assert pair.to_host(big if creator == "guest" else small, 11)
    assert has_guest_memory(pair.host.pid, 2 * MIB)
    assert pair.to_guest(big if creator == "host" else small, 12)
    pair.machine.run(f"qp detach {pair.handle}")
    assert pair.host.run("events 120000").words[0].startswith("QP_PEER_")
    pair.host.run(f"qp state {pair.handle}")
    until("the guest's memory to be let go of", lambda: not has_guest_memory(pair.host.pid, 0))


@pytest.mark.parametrize("creator", ["guest", "host"])
def test_odd_sizes(fabric, machine, creator):
    pair = pair_of(fabric, machine, creator, produce=5001, consume=1 if creator == "guest" else 12289)
    assert pair.to_host(100003, 13) if creator == "guest" else pair.to_guest(100003, 13)
    if creator == "host":
        assert pair.to_host(100003, 14)


def test_both_ways_at_once(fabric, machine):
    pair = pair_of(fabric, machine, "guest", produce=65536, consume=65536, cid="any")
    size = 8 * MIB
    up = pair.host.start(f"qp recv {pair.handle} {pair.guest_bell} {size}")
    down = machine.vm.start(f"probe recv {pair.guest_use()} {size}")
    sending = machine.vm.start(f"probe send {pair.guest_use()} {size} 15")
    sent = pair.host.run(f"qp send {pair.handle} {pair.guest_bell} {size} 16")
    assert sent.words == down.check().split()[1:]
    assert up.check().words == sending.check().split()[1:]


def test_without_doorbells(fabric, machine):
    """A guest that neither rings nor listens, and a program that sleeps."""
    pair = pair_of(fabric, machine, "host")
    use = f"{pair.handle} any any 5"
    receiving = pair.host.start(f"qp recv {pair.handle} any {MIB}")
    sent = machine.vm.run(f"probe send {use} {MIB} 17")
    assert sent.split()[1:] == receiving.check().words
    receiving = machine.vm.start(f"probe recv {use} {MIB}")
    sent = pair.host.run(f"qp send {pair.handle} any {MIB} 18")
    assert sent.words == receiving.check().split()[1:]


def test_last_words(fabric, machine):
    """Each end hears of the other; what was written before an end left can be read."""
    pair = pair_of(fabric, machine, "guest", produce=65536, consume=65536)
    assert machine.run("events 120000").words == ["QP_PEER_ATTACH", "2", pair.handle]
    sent = pair.host.run(f"qp send {pair.handle} {pair.guest_bell} 50000 19")
    pair.host.run(f"qp detach {pair.handle}")
    assert machine.run("events 120000").words == ["QP_PEER_DETACH", "2", pair.handle]
    assert machine.vm.run(f"probe recv {pair.handle} any any 5 0").split()[1:] == sent.words
    machine.run(f"qp detach {pair.handle}")

    pair = pair_of(fabric, machine, "host", produce=65536, consume=65536)
    assert pair.host.run("events 120000").words == ["QP_PEER_ATTACH", str(machine.cid), pair.handle]
    sent = machine.vm.run(f"probe send {pair.guest_use()} 50000 20")
    machine.run(f"qp detach {pair.handle}")
    assert pair.host.run("events 120000").words == ["QP_PEER_DETACH", str(machine.cid), pair.handle]
    assert pair.host.run(f"qp recv {pair.handle} any 0").words == sent.split()[1:]
    pair.host.run(f"qp detach {pair.handle}")


@pytest.mark.parametrize("how", ["rmmod vmci_probe", "a new start"])
def test_guest_side_goes(fabric, machine, how):
    """In the middle of a transfer: the program hears of it, lets go of the memory, and the guest thrives."""
    pair = pair_of(fabric, machine, "guest")
    sent = machine.vm.run(f"probe send {pair.guest_use()} 1000 22")
    giving = pair.host.start(f"qp send {pair.handle} any {64 * MIB} 23")     # blocks: nobody reads
    until("the ring to be full", lambda: pair.host.run(f"qp state {pair.handle}").words[3] == "0")
    boots = machine.vm.agent.boots
    if how.startswith("rmmod"):
        machine.vm.run(how)
    else:
        machine.vm.qmp.command("system_reset")
    assert giving.wait().code == NOT_ATTACHED
    assert not has_guest_memory(pair.host.pid, 0)
    if how.startswith("rmmod"):
        assert pair.host.run(f"qp recv {pair.handle} any 0").words == sent.split()[1:]
        machine.vm.run("insmod /lib/vmci_probe.ko")
    else:
        assert pair.host.run(f"qp state {pair.handle}").words[0] == "left"
        machine.vm.ready(boots + 1)
    pair.host.run(f"qp detach {pair.handle}")
    assert pair_of(fabric, machine, "guest").to_host(100000, 24)


def test_without_a_broker(fabric, machine):
    """vmcid killed under a pair in use, and another one started: no byte is lost, and it is known again."""
    pair = pair_of(fabric, machine, "guest")
    size = 32 * MIB
    receiving = pair.host.start(f"qp recv {pair.handle} any {size}")
    sending = machine.vm.start(f"probe send {pair.handle} any any 5 {size} 25")
    fabric.kill_broker()
    assert receiving.check(300).words == sending.check(300).split()[1:]
    fabric.restart_broker()
    until("everybody to be back", lambda: fabric.host().start(f"qp attach {pair.handle} {MIB} {MIB} 0").wait().code
          not in (DST_UNREACHABLE, -21))
    assert pair.to_guest(MIB, 26)


def test_vm_is_killed(fabric):
    """QEMU in the middle of a transfer: the program hears of it, and has nothing of its memory any more."""
    machine = fabric["trixie"]
    pair = pair_of(fabric, machine, "guest")
    giving = pair.host.start(f"qp send {pair.handle} any {64 * MIB} 27")
    until("the ring to be full", lambda: pair.host.run(f"qp state {pair.handle}").words[3] == "0")
    machine.vm.kill()
    assert giving.wait().code == NOT_ATTACHED
    assert not has_guest_memory(pair.host.pid, 0)
    machine.restart()
    assert pair_of(fabric, machine, "guest").to_host(100000, 28)


def test_device_is_killed(fabric):
    """And the device: nobody is there to say anything, but the kernel."""
    machine = fabric["trixie"]
    pair = pair_of(fabric, machine, "host")
    giving = pair.host.start(f"qp send {pair.handle} any {64 * MIB} 29")
    until("the ring to be full", lambda: pair.host.run(f"qp state {pair.handle}").words[3] == "0")
    os.kill(machine.device, signal.SIGKILL)
    assert giving.wait().code == NOT_ATTACHED
    assert not has_guest_memory(pair.host.pid, 0)
    machine.restart()
    assert pair_of(fabric, machine, "host").to_host(100000, 30)


def test_program_is_killed(fabric, machine):
    pair = pair_of(fabric, machine, "host")
    pair.host.kill()
    fabric.hosts.remove(pair.host)
    assert machine.run("events 120000").words == ["QP_PEER_DETACH", "2", pair.handle]
    assert "received 0 " in machine.vm.run(f"probe recv {pair.handle} any any 5 0")


def test_not_everybody(fabric):
    """Who is not trusted gets no guest's memory, but a copy; and only guests have any."""
    machine = fabric["trixie"]
    handle = machine.run("qp alloc any 2 8192 4096 0").last
    fabric.work.path.chmod(0o711)
    stranger = fabric.host(uid=65534)
    assert stranger.fails(f"qp attach {handle} 4096 8192 {DIRECT}") == NO_ACCESS
    assert stranger.fails(f"qp create any {machine.cid} 4096 8192 {DIRECT}") == NO_ACCESS
    assert fabric.host().fails(f"qp create any any 4096 8192 {DIRECT}") < 0
    assert fabric.host().fails(f"qp create any 2 4096 8192 {DIRECT}") < 0
    stranger.run(f"qp attach {handle} 4096 8192 0")
    assert not has_guest_memory(stranger.pid, 0)
