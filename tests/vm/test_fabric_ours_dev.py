# SPDX-License-Identifier: BSD-2-Clause
"""/dev/vmci of our module: libvmci in guests, with programs of the host and of neighbours; and hostile programs.

hostx (tests/vm/host/hostx.c) runs here at both ends: it does not know whether it is in a guest. devx
(tests/vm/guest/devx.c) speaks to the kernel itself.
"""

import itertools

import pytest
from beds import DEVX, DOORBELL, HOSTX, QPAIR, SAMPLE, SHARED_MEM
from testbed import until
from testbed.host import Answer, check
from testbed.onhost import OnHost
from testbed.process import BUILD, LIMIT, TestbedError

pytestmark = pytest.mark.parametrize("fabric_holder", ["ours"], indirect=True)

NO_ACCESS, DST_UNREACHABLE, NO_RESOURCES, UNAVAILABLE = -7, -10, -19, -20
NOT_FOUND, ALREADY_EXISTS, TIMEOUT = -21, -22, -26
MIB = 1 << 20
PATIENCE = 120000
TO_SERVER, TO_CLIENT = "HELLO, SERVER!", "HELLO, CLIENT!"
INNER = ("bookworm", "trixie")


class GuestPending:
    def __init__(self, program, number, text):
        self.program, self.number, self.text = program, number, text

    def wait(self, limit=None):
        prefix = f"\n{self.number} "
        command = self.program.command
        command.expect(prefix, limit)
        after = command.output.partition(prefix)[2]
        until("the rest of the line", lambda: "\n" in command.output.partition(prefix)[2])
        after = command.output.partition(prefix)[2]
        return Answer(after.partition("\n")[0])

    def check(self, limit=None):
        return check(self.wait(limit), f"{self.program.name}: {self.text}")


class Guest:
    """hostx in a guest: like Host of testbed.host."""

    files = itertools.count(1)

    def __init__(self, machine):
        self.vm, self.name, self.cid = machine.vm, machine.name, machine.cid
        self.file = f"/tmp/hostx-{next(self.files)}"
        self.numbers = itertools.count(1)
        self.command = self.vm.start(f"mkfifo {self.file}; echo; exec /lib/{HOSTX.name} 2 <>{self.file}")
        assert int(GuestPending(self, 0, "hello").check().last) == machine.cid

    def start(self, text):
        pending = GuestPending(self, next(self.numbers), text)
        self.vm.run(f"echo '{pending.number} {text}' >{self.file}")
        return pending

    def run(self, text, limit=None):
        return self.start(text).check(limit)

    def fails(self, text, limit=None):
        answer = self.start(text).wait(limit)
        if answer.code >= 0:
            raise TestbedError(f"success of {text!r} in {self.name}: {answer}")
        return answer.code

    def kill(self):
        self.command.kill()
        self.command.wait()


def devx(machine, words, limit=None):
    command = machine.vm.start(f"exec /lib/{DEVX.name} {words}")
    assert command.wait(limit) == 0, command.output
    return command.output


def exchange(one, two, handle, size=MIB, seed=1):
    """Bytes through a queue pair in both directions, compared by their hashes."""
    for sends, receives in (one, two), (two, one):
        receiving = receives.start(f"qp recv {handle} any {size}")
        sent = sends.run(f"qp send {handle} any {size} {seed}", 2 * LIMIT)
        assert receiving.check(2 * LIMIT).words == sent.words
        seed += 1


# --- It is there ----------------------------------------------------------------------------------------------------


def test_the_file(fabric, machine):
    assert machine.vm.run("stat -c '%a %u %g' /dev/vmci").split() == ["600", "0", "0"]
    # Nobody else may.
    assert machine.vm.start(f"setuidgid nobody /lib/{SAMPLE.name} -c || "
                            f"su -s /bin/sh nobody -c '/lib/{SAMPLE.name} -c'").wait() != 0
    guest = Guest(machine)
    # Memberships hold it; AF_VSOCK is not needed, nor asked.
    pid = machine.vm.run("pidof " + HOSTX.name).strip()
    assert "/dev/vmci" in machine.vm.run(f"ls -l /proc/{pid}/fd")
    assert guest.fails("watch 5") == UNAVAILABLE


# --- The samples ----------------------------------------------------------------------------------------------------


def test_datagram_app(fabric, machine):
    server = OnHost(fabric, BUILD / "datagramApp", "-s")
    for _ in range(3):
        assert TO_CLIENT in machine.vm.run(f"/lib/{SAMPLE.name} -c")
    assert server.check().count(TO_SERVER) == 3
    server = machine.vm.start(f"exec /lib/{SAMPLE.name} -s")
    for _ in range(3):
        assert TO_CLIENT in OnHost(fabric, BUILD / "datagramApp", "-c").check()
    assert server.check().count(TO_SERVER) == 3


def test_datagram_app_in_one_guest(fabric, machine):
    server = machine.vm.start(f"exec /lib/{SAMPLE.name} -s")
    for _ in range(3):
        assert TO_CLIENT in machine.vm.run(f"/lib/{SAMPLE.name} -c")
    assert server.check().count(TO_SERVER) == 3


@pytest.mark.parametrize("serves, asks", [INNER, INNER[::-1]])
def test_samples_of_neighbours(fabric, serves, asks):
    for app, text, count in (SAMPLE, TO_CLIENT, 3), (SHARED_MEM, "the time is ", 1), (QPAIR, "MB/s", 1):
        server = fabric[serves].vm.start(f"exec /lib/{app.name} -s")
        for _ in range(count):
            assert text in fabric[asks].vm.run(f"/lib/{app.name} -c")
        server.check()


@pytest.mark.parametrize("name", ["trixie", "backports"])
def test_shared_mem_app(fabric, name):
    machine = fabric[name]
    server = machine.vm.start(f"exec /lib/{SHARED_MEM.name} -s")
    assert OnHost(fabric, BUILD / "sharedMemApp", "-c").check().count("the time is ") == 3
    server.check()
    if name in INNER:
        server = OnHost(fabric, BUILD / "sharedMemApp", "-s")
        assert machine.vm.run(f"/lib/{SHARED_MEM.name} -c").count("the time is ") == 3
        server.check()


def test_qpair_app(fabric, machine):
    """64 MiB there and back, and the sample compares them."""
    server = OnHost(fabric, BUILD / "qpairApp", "-s")
    assert "MB/s" in machine.vm.run(f"/lib/{QPAIR.name} -c")
    assert "67108864 bytes sent back" in server.check()
    server = machine.vm.start(f"exec /lib/{QPAIR.name} -s")
    assert "MB/s" in OnHost(fabric, BUILD / "qpairApp", "-c").check()
    assert "67108864 bytes sent back" in server.check()


def test_doorbell_app(fabric, machine):
    server = OnHost(fabric, BUILD / "doorbellApp", "-s", "-n", "3")
    machine.vm.run(f"/lib/{DOORBELL.name} -c -n 3")
    assert "3 in all" in server.check()
    # Rings that come together may be one in a guest.
    server = machine.vm.start(f"exec /lib/{DOORBELL.name} -s -n 3")
    for _ in range(3):
        seen = server.output.count("rung ")
        OnHost(fabric, BUILD / "doorbellApp", "-c", "-n", "1").check()
        until("the ring", lambda: server.output.count("rung ") > seen)
    server.check()


# --- Datagrams and names --------------------------------------------------------------------------------------------


def test_datagrams(fabric, machine):
    guest, host = Guest(machine), fabric.host()
    there, here = guest.run("dg create 5000").last, host.run("dg create any").last
    for size in 0, 1, 4096, 69632 - 24:
        for sends, source, receives, target in (guest, there, host, here), (host, here, guest, there):
            sent = sends.run(f"dg fill {source} {target} {size} 7")
            got = receives.run(f"dg recv {target} {PATIENCE}")
            assert source in got.words, got
            assert got.words[1:2] == [str(size)] or sent, got
    assert guest.fails(f"dg send {there} 2:4999 2a") < 0
    assert guest.fails(f"dg send {there} 999:5000 2a") == DST_UNREACHABLE
    assert guest.fails(f"dg recv {there} 50") == TIMEOUT
    assert Guest(machine).fails("dg create 5000") == ALREADY_EXISTS
    guest.kill()
    assert Guest(machine).run("dg create 5000").last == there


def test_names(fabric, machine):
    guest, host = Guest(machine), fabric.host()
    here = guest.run("dg create any").last
    guest.run(f"name register guests-{machine.name} {here}")
    assert host.run(f"name lookup guests-{machine.name} 0").last == here
    assert host.fails(f"name register guests-{machine.name} {host.run('dg create any').last}") == ALREADY_EXISTS
    guest.run(f"name unregister guests-{machine.name}")
    assert guest.fails(f"name lookup guests-{machine.name} 0") == NOT_FOUND
    there = host.run("dg create any").last
    host.run(f"name register hosts {there}")
    assert guest.run("name lookup hosts 0").last == there


# --- Doorbells ------------------------------------------------------------------------------------------------------


def test_doorbells(fabric, machine):
    guest, host = Guest(machine), fabric.host()
    there, here = guest.run("bell create any").last, host.run("bell create any").last
    for _ in range(20):
        host.run(f"bell ring {there}")
        guest.run(f"bell wait {there} 1 {PATIENCE}")
        guest.run(f"bell ring {here}")
        host.run(f"bell wait {here} 1 {PATIENCE}")
    # Another program of the same guest, and none.
    other = Guest(machine)
    other.run(f"bell ring {there}")
    guest.run(f"bell wait {there} 1 {PATIENCE}")
    assert other.fails("bell ring 2:7030") == NOT_FOUND
    assert other.fails(f"bell ring {machine.cid}:7030") == NOT_FOUND
    guest.kill()
    until("the bell to be gone", lambda: host.start(f"bell ring {there}").wait().code == NOT_FOUND
          or other.start(f"bell ring {there}").wait().code == NOT_FOUND)


# --- Queue pairs ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("creator", ["guest", "host"])
@pytest.mark.parametrize("end", ["detach", "murder of the guest's", "murder of the host's"])
def test_queue_pairs(fabric, machine, creator, end):
    guest, host = Guest(machine), fabric.host()
    one, two = (guest, host) if creator == "guest" else (host, guest)
    handle = one.run(f"qp create any {two.cid} 65536 5001 0").last
    assert one.run(f"qp state {handle}").words[0] == "waiting"
    two.run(f"qp attach {handle} 5001 65536 0")
    assert one.run(f"events {PATIENCE}").words == ["QP_PEER_ATTACH", str(two.cid), handle]
    for side in one, two:
        assert side.run(f"qp state {handle}").words[0] == "attached"
    exchange(guest, host, handle)
    # What was written last can be read.
    leaves, stays = (host, guest) if end == "murder of the host's" else (guest, host)
    sent = leaves.run(f"qp send {handle} any 3000 9")
    if end == "detach":
        leaves.run(f"qp detach {handle}")
    else:
        leaves.kill()
    until("the peer to have left", lambda: stays.run(f"qp state {handle}").words[0] == "left")
    assert stays.run(f"qp recv {handle} any 0").words == sent.words
    assert stays.run(f"events {PATIENCE}").words[0] == "QP_PEER_DETACH"
    stays.run(f"qp detach {handle}")


@pytest.mark.parametrize("creates, attaches", [INNER, INNER[::-1]])
def test_queue_pairs_of_neighbours(fabric, creates, attaches):
    one, two = Guest(fabric[creates]), Guest(fabric[attaches])
    handle = one.run(f"qp create any {two.cid} 65536 32768 0").last
    two.run(f"qp attach {handle} 32768 65536 0")
    assert one.run(f"events {PATIENCE}").words == ["QP_PEER_ATTACH", str(two.cid), handle]
    exchange(one, two, handle)
    two.kill()
    assert one.run(f"events {PATIENCE}").words == ["QP_PEER_DETACH", str(two.cid), handle]
    assert one.run(f"qp state {handle}").words[0] == "left"


def test_queue_pairs_in_one_guest(fabric, machine):
    one, two = Guest(machine), Guest(machine)
    handle = one.run(f"qp create any {machine.cid} 65536 5001 0").last
    assert two.fails(f"qp attach {handle} 5000 65536 0") < 0
    two.run(f"qp attach {handle} 5001 65536 0")
    assert one.run(f"events {PATIENCE}").words == ["QP_PEER_ATTACH", str(machine.cid), handle]
    exchange(one, two, handle)
    two.kill()
    assert one.run(f"events {PATIENCE}").words[0] == "QP_PEER_DETACH"


def test_queue_pairs_that_cannot_be(fabric, machine):
    guest = Guest(machine)
    assert guest.fails(f"qp create any 2 {1 << 40} 1 0") == NO_RESOURCES
    assert guest.fails(f"qp create any 2 {64 * MIB} 4096 0") == NO_RESOURCES        # a file's quota
    assert guest.fails("qp attach 2:5000 4096 4096 0") == NOT_FOUND
    assert guest.fails("qp create any 2 4096 4096 0x200") == NO_ACCESS              # direct
    guest.run(f"qp create any 2 {8 * MIB} {8 * MIB} 0")


# --- Hostile programs -----------------------------------------------------------------------------------------------


def test_wrong_arguments(fabric, machine):
    devx(machine, "wrong")


def test_quotas(fabric, machine):
    devx(machine, "quota", 2 * LIMIT)


def test_local_pair_and_death(fabric, machine):
    devx(machine, "local")


def test_noise(fabric, machine):
    for seed in 1, 2:
        devx(machine, f"noise 100000 {seed}", 2 * LIMIT)


def test_races(fabric, machine):
    devx(machine, "race 60000", 2 * LIMIT)


def test_killed_programs_leave_nothing(fabric, machine):
    """Whatever they had can be had again, at once and a hundred times."""
    for _ in range(25):
        command = machine.vm.start(f"exec /lib/{DEVX.name} hold 5005")
        command.expect("ready")
        command.kill()
        command.wait()


# --- The device goes ------------------------------------------------------------------------------------------------


def test_unbound_under_a_program(fabric, machine):
    command = machine.vm.start(f"mkfifo /tmp/hold; exec /lib/{DEVX.name} hold any <>/tmp/hold")
    command.expect("ready")
    driver = "/sys/bus/pci/drivers/vmci"
    address = machine.vm.run(f"cd {driver} && echo 0000:*").strip()
    machine.vm.run(f"echo {address} >{driver}/unbind")
    try:
        # No device, no file.
        assert machine.vm.start("exec 3<>/dev/vmci").wait() != 0
        machine.vm.run("echo >/tmp/hold")
        assert command.wait() == 0, command.output
        assert "over" in command.output
    finally:
        machine.vm.run(f"rm /tmp/hold; echo {address} >{driver}/bind")
    server = OnHost(fabric, BUILD / "datagramApp", "-s")
    for _ in range(3):
        assert TO_CLIENT in machine.vm.run(f"/lib/{SAMPLE.name} -c")
    server.check()
