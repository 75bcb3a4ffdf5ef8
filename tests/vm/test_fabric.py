# SPDX-License-Identifier: BSD-2-Clause
"""Guests in the fabric: datagrams, names, doorbells, queue pairs and events with the host and with neighbours."""

import pytest
from testbed import names, until
from testbed.names import LOOKUP, REGISTER, UNREGISTER

MIB = 1 << 20

# VMCI_ERROR_*
INVALID_RESOURCE, INVALID_ARGS, NO_ACCESS = -1, -2, -7
DST_UNREACHABLE, NO_RESOURCES, UNAVAILABLE, NOT_FOUND, ALREADY_EXISTS = -10, -19, -20, -21, -22
MISMATCH = -31

LARGEST = 69632 - 24        # payload of a datagram


def pattern(size, seed):
    """What `dg fill` sends, in hexadecimal digits."""
    return bytes((seed + i) & 0xff for i in range(size)).hex() or "-"


# --- Contexts and datagrams -----------------------------------------------------------------------------------------


def test_guest_has_its_context(machine):
    assert machine.run("cid").last == str(machine.cid)


def test_datagram_to_a_host_program_and_back(fabric, machine):
    """An AF_VSOCK program of the guest and a program on libvmci."""
    host = fabric.host()
    host.run("dg create 7001")
    asking = machine.vm.start("vdg ask 2 7001 68656c6c6f")
    source, payload = host.run("dg recv 2:7001 120000").words
    assert source.startswith(f"{machine.cid}:") and payload == b"hello".hex()
    host.run(f"dg send 2:7001 {source} {b'and back'.hex()}")
    assert asking.check().strip() == f"from 2:7001 {b'and back'.hex()}"


def test_datagram_to_a_software_context_and_back(fabric, machine):
    program = fabric.host("any")
    assert program.cid >= 0x10000
    program.run("dg create 7001")
    machine.vm.start("vdg echo 7002").expect("ready")
    program.run(f"dg send 2:7001 {machine.cid}:7002 01".replace("2:7001", f"{program.cid}:7001", 1))
    source, payload = program.run(f"dg recv {program.cid}:7001 120000").words
    assert (source, payload) == (f"{machine.cid}:7002", "01")


@pytest.mark.parametrize("size", [0, 1, 4096, LARGEST])
def test_datagrams_of_all_sizes(fabric, machine, size):
    host = fabric.host()
    host.run("dg create 7003")
    machine.run("dg create 7003")
    here, there = "2:7003", f"{machine.cid}:7003"
    machine.run(f"dg fill {there} {here} {size} 7")
    assert host.run(f"dg recv {here} 120000").words == [there, pattern(size, 7)]
    assert host.run(f"dg fill {here} {there} {size} 8").code == size
    assert machine.run(f"dg recv {there} 120000").words == [here, pattern(size, 8)]


def test_datagrams_in_order(fabric, machine):
    """As fast as they go: the receiver sees a prefix of each burst, in order, and the sender is told of the rest."""
    host = fabric.host()
    host.run("dg create 7004")
    machine.run("dg create 7004")
    for seed in range(50):
        machine.run(f"dg fill {machine.cid}:7004 2:7004 8 {seed}")
    for seed in range(50):
        assert host.run("dg recv 2:7004 120000").last == pattern(8, seed)


def test_datagram_that_nobody_takes(fabric, machine):
    assert "EHOSTUNREACH" in machine.vm.start("vdg send 2 7999 00").check_fails()
    machine.run("dg create 7005")
    assert machine.fails(f"dg send {machine.cid}:7005 2:7999 00") == INVALID_RESOURCE
    assert machine.fails(f"dg send {machine.cid}:7005 999:7999 00") == DST_UNREACHABLE


def test_full_queue_is_said_to_the_sender(fabric, machine):
    """139264 bytes may wait; and who does not read is in nobody's way."""
    host = fabric.host()
    host.run("dg create 7006")
    host.run("dg create 7007")
    assert "ENOBUFS after 2" in machine.vm.start("vdg fill 2 7006 60000 9").check_fails()
    machine.run("dg create 7006")
    assert machine.fails(f"dg fill {machine.cid}:7006 2:7006 60000 0") == NO_RESOURCES
    machine.run(f"dg fill {machine.cid}:7006 2:7007 60000 0")
    assert host.run("dg recv 2:7007 120000").last == pattern(60000, 0)
    assert host.run("dg recv 2:7006 120000").last == pattern(60000, 0)
    machine.run(f"dg fill {machine.cid}:7006 2:7006 60000 0")


# --- Names ----------------------------------------------------------------------------------------------------------


def ask_discovery(machine, *request):
    endpoint = f"{machine.cid}:7010"
    machine.run(f"dg send {endpoint} 1:1 {names.request(*request)}")
    return names.reply(*machine.run(f"dg recv {endpoint} 120000").words)


def test_guest_looks_names_up(fabric, machine):
    host = fabric.host()
    host.run("name register colour 2:7011")
    machine.run("dg create 7010")
    assert ask_discovery(machine, LOOKUP, "colour") == (0, (2, 7011))
    assert ask_discovery(machine, LOOKUP, "flavour")[0] == NOT_FOUND


def test_guest_program_looks_names_up(fabric, machine):
    """By a datagram of AF_VSOCK to {1,1}."""
    host = fabric.host()
    host.run("name register colour 2:7012")
    assert names.ask(machine.vm, LOOKUP, "colour") == (0, (2, 7012))


def test_guest_registers_names(fabric, machine):
    host = fabric.host()
    machine.run("dg create 7010")
    assert ask_discovery(machine, REGISTER, "shape", (machine.cid, 7010))[0] == 0
    assert host.run("name lookup shape 0").last == f"{machine.cid}:7010"
    assert ask_discovery(machine, REGISTER, "shape", (machine.cid, 7010))[0] == ALREADY_EXISTS
    assert ask_discovery(machine, REGISTER, "host", (2, 7010))[0] < 0
    assert ask_discovery(machine, UNREGISTER, "shape")[0] == 0
    assert host.fails("name lookup shape 0") < 0


# --- Neighbours -----------------------------------------------------------------------------------------------------


def test_neighbours_of_one_domain_exchange_datagrams(fabric):
    one, two = fabric["bookworm"], fabric["trixie"]
    for asks, answers in (one, two), (two, one):
        answers.vm.start("vdg echo 7020").expect("ready")
        output = asks.vm.run(f"vdg ask {answers.cid} 7020 {b'neighbour'.hex()}")
        assert output.strip() == f"from {answers.cid}:7020 {b'neighbour'.hex()}"


def test_other_domains_do_not_exist(fabric):
    one, other = fabric["bookworm"], fabric["backports"]
    other.vm.start("vdg echo 7021").expect("ready")
    one.vm.start("vdg echo 7021").expect("ready")
    for asks, answers in (one, other), (other, one):
        asks.run("dg create 7022")
        unreachable = asks.fails(f"dg send {asks.cid}:7022 {answers.cid}:7021 00")
        assert unreachable == asks.fails(f"dg send {asks.cid}:7022 999:7021 00") == DST_UNREACHABLE
        assert asks.fails(f"bell ring {answers.cid}:7021") == DST_UNREACHABLE


def test_neighbours_ring_each_other(fabric):
    one, two = fabric["bookworm"], fabric["trixie"]
    for rings, hears in (one, two), (two, one):
        bell = hears.run("bell create any").last
        rings.run(f"bell ring {bell}")
        hears.run(f"bell wait {bell} 1 120000")


def test_neighbours_share_a_queue_pair(fabric):
    one, two, other = fabric["bookworm"], fabric["trixie"], fabric["backports"]
    for creates, attaches in (one, two), (two, one):
        handle = creates.run(f"qp alloc any {attaches.cid} 65536 32768 0").last
        assert other.fails(f"qp alloc {handle} {creates.cid} 32768 65536 1") == DST_UNREACHABLE
        attaches.run(f"qp alloc {handle} {creates.cid} 32768 65536 1")
        assert creates.run("events 120000").words == ["QP_PEER_ATTACH", str(attaches.cid), handle]
        for sends, receives in (creates, attaches), (attaches, creates):
            receiving = receives.vm.start(f"probe recv {handle} any any 2 {MIB}")
            sent = sends.vm.run(f"probe send {handle} any any 2 {MIB} 21")
            assert receiving.check().split()[1:] == sent.split()[1:]
        attaches.run(f"qp detach {handle}")
        assert creates.run("events 120000").words == ["QP_PEER_DETACH", str(attaches.cid), handle]


def test_firewall(fabric):
    """What beds.py denies is denied in both directions; what is beside it is not."""
    guest, host = fabric["classic"], fabric.host()
    ends = (guest, guest.cid, 2), (host, 2, guest.cid)

    def both(kind, rid, verb):
        """Has both ends do that to the other; their codes."""
        for user, cid, _ in ends:
            user.run(f"{kind} create {cid}:{rid}" if (user, kind) == (guest, "bell") else f"{kind} create {rid}")
        codes = []
        for user, cid, peer in ends:
            what = f"{kind} {verb} {cid}:{rid} {peer}:{rid} 2a" if kind == "dg" else f"{kind} {verb} {peer}:{rid}"
            codes.append(user.start(what).wait().code)
        for user, cid, _ in ends:
            user.run(f"{kind} destroy {cid}:{rid}")
        return codes

    for rid, wanted in (7299, 0), (7300, NO_ACCESS), (7399, NO_ACCESS), (7400, 0):
        for codes in both("dg", rid, "send"), both("bell", rid, "ring"):
            assert [min(code, 0) for code in codes] == [wanted, wanted], rid
        handle = guest.run(f"qp alloc {guest.cid}:{rid} 2 4096 4096 0").last
        assert min(host.start(f"qp attach {handle} 4096 4096 0").wait().code, 0) == wanted
        assert min(host.start(f"qp create {rid} {guest.cid} 4096 4096 0").wait().code, 0) == wanted


# --- Doorbells ------------------------------------------------------------------------------------------------------


def test_guest_rings_the_host(fabric, machine):
    host = fabric.host()
    bell = host.run("bell create any").last
    for _ in range(20):
        machine.run(f"bell ring {bell}")
    assert host.run(f"bell wait {bell} 20 120000").last == "20"


def test_host_rings_the_guest(fabric, machine):
    """Rings that come faster than the guest looks fall together, but none after the last look is lost."""
    host = fabric.host()
    bell = machine.run("bell create any").last
    for _ in range(20):
        host.run(f"bell ring {bell}")
        machine.run(f"bell wait {bell} 1 120000")


def test_software_context_and_guest_ring_each_other(fabric, machine):
    program = fabric.host("any")
    here, there = program.run("bell create any").last, machine.run("bell create any").last
    program.run(f"bell ring {there}")
    machine.run(f"bell wait {there} 1 120000")
    machine.run(f"bell ring {here}")
    assert program.run(f"bell wait {here} 1 120000").last == "1"


def test_no_such_doorbell(fabric, machine):
    host = fabric.host()
    assert machine.fails("bell ring 2:7030") == NOT_FOUND
    assert host.fails(f"bell ring {machine.cid}:7030") == NOT_FOUND
    assert machine.fails("bell ring 999:7030") == DST_UNREACHABLE


def test_doorbell_that_is_gone_or_another(fabric, machine):
    """Who rings need not hear of it at once, but soon: a device may keep a doorbell for a second."""
    host = fabric.host()
    bell = host.run("bell create 7031").last
    machine.run(f"bell ring {bell}")
    host.run(f"bell destroy {bell}")
    until("the doorbell to be gone", lambda: machine.start(f"bell ring {bell}").wait().code == NOT_FOUND)
    host.run("bell create 7031")
    machine.run(f"bell ring {bell}")
    host.run(f"bell wait {bell} 1 120000")
    host.run(f"bell destroy {bell}")
    host.run("bell create 7031")
    until("the other doorbell to be rung", lambda: machine.start(f"bell ring {bell}").wait().code == 0
          and host.start(f"bell wait {bell} 1 0").wait().code == 0)


# --- Queue pairs ----------------------------------------------------------------------------------------------------


class Pair:
    """A queue pair between a machine and a host program, with a doorbell of each for what it did."""

    def __init__(self, fabric, machine, creator, produce=MIB, consume=MIB, cid=2, flags=0):
        """Sizes are the creator's, flags the host's."""
        self.machine, self.host = machine, fabric.host(cid)
        if creator == "guest":
            self.handle = machine.run(f"qp alloc any {self.host.cid} {produce} {consume} 0").last
            self.attach(f"qp attach {self.handle} {consume} {produce} {flags}")
        else:
            self.handle = self.host.run(f"qp create any {machine.cid} {produce} {consume} {flags}").last
            machine.run(f"qp alloc {self.handle} {self.host.cid} {consume} {produce} 1")
        self.guest_bell = machine.run("bell create any").last
        self.host_bell = self.host.run("bell create any").last

    def attach(self, command):
        """Again, as long as the device does not answer vmcid in time, which on a busy machine happens."""
        codes = []

        def is_answered():
            codes.append(self.host.start(command).wait().code)
            return codes[-1] != UNAVAILABLE
        until("the device to answer", is_answered)
        assert codes[-1] >= 0, f"{command}: {codes}"

    def guest_use(self, poll=0):
        return f"{self.handle} {self.guest_bell} {self.host_bell} {poll}"

    def to_host(self, size, seed):
        """Moves the pattern of seed; True if the hashes are the same."""
        receiving = self.host.start(f"qp recv {self.handle} {self.guest_bell} {size}")
        sent = self.machine.vm.run(f"probe send {self.guest_use()} {size} {seed}")
        return sent.split()[1:] == receiving.check().words

    def to_guest(self, size, seed):
        receiving = self.machine.vm.start(f"probe recv {self.guest_use()} {size}")
        sent = self.host.run(f"qp send {self.handle} {self.guest_bell} {size} {seed}")
        return receiving.check().split()[1:] == sent.words


@pytest.mark.parametrize("creator", ["guest", "host"])
def test_queue_pair_bulk(fabric, machine, creator):
    """256 MiB, in the direction of who created it, and some the other way."""
    pair = Pair(fabric, machine, creator)
    big, small = 256 * MIB, 16 * MIB
    assert pair.to_host(big if creator == "guest" else small, 11)
    assert pair.to_guest(big if creator == "host" else small, 12)


@pytest.mark.parametrize("creator", ["guest", "host"])
def test_queue_pair_of_odd_sizes(fabric, machine, creator):
    pair = Pair(fabric, machine, creator, produce=5001, consume=1 if creator == "guest" else 12289)
    assert pair.to_host(100003, 13) if creator == "guest" else pair.to_guest(100003, 13)
    if creator == "host":
        assert pair.to_host(100003, 14)


def test_queue_pair_both_ways_at_once(fabric, machine):
    pair = Pair(fabric, machine, "guest", produce=65536, consume=65536, cid="any")
    size = 8 * MIB
    up = pair.host.start(f"qp recv {pair.handle} {pair.guest_bell} {size}")
    down = machine.vm.start(f"probe recv {pair.guest_use()} {size}")
    sending = machine.vm.start(f"probe send {pair.guest_use()} {size} 15")
    sent = pair.host.run(f"qp send {pair.handle} {pair.guest_bell} {size} 16")
    assert sent.words == down.check().split()[1:]
    assert up.check().words == sending.check().split()[1:]


def test_queue_pair_without_doorbells(fabric, machine):
    """A guest that neither rings nor listens, but looks into its ring from time to time."""
    pair = Pair(fabric, machine, "host")
    use = f"{pair.handle} any any 5"
    receiving = pair.host.start(f"qp recv {pair.handle} any {MIB}")
    sent = machine.vm.run(f"probe send {use} {MIB} 17")
    assert sent.split()[1:] == receiving.check().words
    receiving = machine.vm.start(f"probe recv {use} {MIB}")
    sent = pair.host.run(f"qp send {pair.handle} any {MIB} 18")
    assert sent.words == receiving.check().split()[1:]


def test_queue_pair_bytes_are_there_before_the_doorbell(fabric, machine):
    """What was written before a ring is there for who hears it."""
    pair = Pair(fabric, machine, "guest", produce=65536, consume=65536)
    for seed in range(10):
        machine.vm.run(f"probe send {pair.handle} any any 5 100 {seed}")
        machine.run(f"bell ring {pair.host_bell}")
        pair.host.run(f"bell wait {pair.host_bell} 1 120000")
        assert pair.host.run(f"qp state {pair.handle}").words[2] == "100"
        pair.host.run(f"qp recv {pair.handle} any 100")
        pair.host.run(f"qp send {pair.handle} any 100 {seed}")
        pair.host.run(f"bell ring {pair.guest_bell}")
        machine.run(f"bell wait {pair.guest_bell} 1 120000")
        assert machine.run(f"qp state {pair.handle}").words[3] == "100"
        machine.vm.run(f"probe recv {pair.handle} any any 5 100")


def test_queue_pair_events_and_last_words(fabric, machine):
    """Each end hears of the other; what was written before an end left can be read."""
    pair = Pair(fabric, machine, "guest", produce=65536, consume=65536)
    assert machine.run("events 120000").words == ["QP_PEER_ATTACH", "2", pair.handle]
    sent = pair.host.run(f"qp send {pair.handle} {pair.guest_bell} 50000 19")
    machine.run(f"bell wait {pair.guest_bell} 1 120000")
    pair.host.run(f"qp detach {pair.handle}")
    assert machine.run("events 120000").words == ["QP_PEER_DETACH", "2", pair.handle]
    assert machine.vm.run(f"probe recv {pair.handle} any any 5 0").split()[1:] == sent.words
    machine.run(f"qp detach {pair.handle}")

    pair = Pair(fabric, machine, "host", produce=65536, consume=65536)
    assert pair.host.run("events 120000").words == ["QP_PEER_ATTACH", str(machine.cid), pair.handle]
    sent = machine.vm.run(f"probe send {pair.guest_use()} 50000 20")
    machine.run(f"qp detach {pair.handle}")
    assert pair.host.run("events 120000").words == ["QP_PEER_DETACH", str(machine.cid), pair.handle]
    assert pair.host.run(f"qp recv {pair.handle} any 0").words == sent.split()[1:]
    pair.host.run(f"qp detach {pair.handle}")


def test_queue_pair_refusals(fabric, machine):
    host = fabric.host()
    assert machine.fails("qp alloc 2:7040 2 4096 4096 1") == NOT_FOUND
    assert host.fails(f"qp attach {machine.cid}:7040 4096 4096 0") == NOT_FOUND
    assert machine.fails(f"qp alloc {machine.cid}:7041 2 {128 * MIB} 4096 0") == NO_RESOURCES
    handle = machine.run("qp alloc any 2 8192 4096 0").last
    assert host.fails(f"qp attach {handle} 8192 4096 0") == MISMATCH
    assert fabric.host("any").fails(f"qp attach {handle} 4096 8192 0") == NO_ACCESS
    host.run(f"qp attach {handle} 4096 8192 0")
    assert fabric.host().fails(f"qp attach {handle} 4096 8192 0") < 0
    handle = host.run(f"qp create any {machine.cid} 8192 4096 0").last
    assert machine.fails(f"qp alloc {handle} 2 8192 4096 1") == MISMATCH
    machine.run(f"qp alloc {handle} 2 4096 8192 1")
    machine.run(f"qp detach {handle}")
    assert machine.fails(f"qp alloc {handle} 2 4096 8192 1") < 0, "nobody attaches again"


# --- Deaths ---------------------------------------------------------------------------------------------------------


def test_host_program_murdered(fabric, machine):
    pair = Pair(fabric, machine, "host")
    pair.host.run("name register mortal 2:7050")
    pair.host.kill()
    fabric.hosts.remove(pair.host)
    assert machine.run("events 120000").words == ["QP_PEER_DETACH", "2", pair.handle]
    assert "received 0 " in machine.vm.run(f"probe recv {pair.handle} any any 5 0")
    until("the dead program's doorbell to be gone",
          lambda: machine.start(f"bell ring {pair.host_bell}").wait().code == NOT_FOUND)
    assert fabric.host().fails("name lookup mortal 0") == NOT_FOUND


@pytest.mark.parametrize("how", ["rmmod vmci_probe", "a new start"])
def test_guest_side_goes(fabric, machine, how):
    """A module that is removed, and a guest that starts anew, leave; those who come next find nothing in their way."""
    pair = Pair(fabric, machine, "guest")
    watcher = fabric.host("any")
    watcher.run(f"watch {machine.cid}")
    machine.run("dg create 7060")
    sent = machine.vm.run(f"probe send {pair.guest_use()} 1000 22")
    boots = machine.vm.agent.boots
    if how.startswith("rmmod"):
        machine.vm.run(how)
    elif machine.name in ("bookworm", "classic"):
        machine.vm.start("reboot -f")
    else:
        machine.vm.qmp.command("system_reset")
    assert pair.host.run("events 60000").words == ["QP_PEER_DETACH", str(machine.cid), pair.handle]
    assert pair.host.run(f"qp recv {pair.handle} any 0").words == sent.split()[1:]
    stranger = fabric.host()
    until("the guest's doorbell to be gone",
          lambda: stranger.start(f"bell ring {pair.guest_bell}").wait().code == NOT_FOUND)
    pair.host.run(f"qp detach {pair.handle}")      # the next pair may have the same handle
    if how.startswith("rmmod"):
        machine.vm.run("insmod /lib/vmci_probe.ko")
    else:
        machine.vm.ready(boots + 1)
    assert Pair(fabric, machine, "guest").to_host(100000, 23)
    assert watcher.fails("events 0") < 0, "the context has not gone"


def test_guest_that_starts_anew_has_its_handles(fabric, machine):
    """It counts from the beginning, whoever still holds an end of what its predecessor had."""
    pair = Pair(fabric, machine, "guest")
    boots = machine.vm.agent.boots
    machine.vm.qmp.command("system_reset")
    pair.host.run("events 60000")
    machine.vm.ready(boots + 1)
    another = fabric.host("any")
    machine.run(f"bell create {pair.handle}")
    another.run(f"bell ring {pair.handle}")
    machine.run(f"bell wait {pair.handle} 1 120000")


def test_device_murdered(fabric, machine):
    """Everybody hears of it; the next VM has the name and the context again."""
    pair = Pair(fabric, machine, "host")
    watcher = fabric.host("any")
    watcher.run(f"watch {machine.cid}")
    pair.host.run("events 120000")
    machine.kill_device()
    assert pair.host.run("events 120000").words == ["QP_PEER_DETACH", str(machine.cid), pair.handle]
    assert watcher.run("events 120000").words[:2] == ["CTX_REMOVED", str(machine.cid)]
    assert pair.host.fails(f"bell ring {machine.cid}:4242") == DST_UNREACHABLE
    machine.restart()
    test_guest_has_its_context(machine)
    test_datagram_to_a_host_program_and_back(fabric, machine)
