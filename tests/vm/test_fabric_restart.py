# SPDX-License-Identifier: BSD-2-Clause
"""vmcid killed while guests and programs are at work: it costs no byte and no VM, and the next one knows everybody."""

from test_fabric import DST_UNREACHABLE, MIB, NOT_FOUND, Pair
from testbed import names, until
from testbed.transfer import Stream

GIB = 1 << 30


def replace_broker(fabric):
    """kill -9, a moment without, and the next."""
    fabric.kill_broker()
    fabric.restart_broker()


def patiently(user, text, wanted=lambda code: code >= 0):
    """Runs a command until it has the wanted code: right after a restart not everybody is back."""
    until(f"the right code of {text!r}", lambda: wanted(user.start(text).wait().code))


def test_streams_and_queue_pairs_survive_the_broker(fabric):
    """1 GiB of a stream, and 256 MiB of queue pairs in both directions, with vmcid killed in the middle, twice."""
    stream = Stream(fabric["trixie"], GIB, 31)
    up, down = Pair(fabric, fabric["bookworm"], "guest"), Pair(fabric, fabric["backports"], "host", cid="any")
    size = 256 * MIB
    receiving = up.host.start(f"qp recv {up.handle} {up.guest_bell} {size}")
    sending = up.machine.vm.start(f"probe send {up.guest_use()} {size} 32")
    taking = down.machine.vm.start(f"probe recv {down.guest_use()} {size}")
    giving = down.host.start(f"qp send {down.handle} {down.guest_bell} {size} 33")

    for part in 8, 4:
        until("the stream to get on", lambda: stream.got > GIB // part, 300)
        replace_broker(fabric)
    assert stream.got < GIB, "the stream was over before its time"

    assert receiving.check(300).words == sending.check(300).split()[1:]
    assert giving.check(300).words == taking.check(300).split()[1:]
    assert stream.is_right()


def test_pairs_move_on_without_a_broker(fabric):
    """While there is none at all. Who was introduced to a doorbell can go on ringing it."""
    pair = Pair(fabric, fabric["trixie"], "guest")
    pair.host.run(f"bell ring {pair.guest_bell}")
    pair.machine.run(f"bell ring {pair.host_bell}")
    stream = Stream(fabric["bookworm"], 64 * MIB, 34)
    fabric.kill_broker()
    try:
        assert pair.to_host(16 * MIB, 35)
        assert pair.to_guest(16 * MIB, 36)
        assert stream.is_right()
    finally:
        fabric.restart_broker()


def test_everybody_is_known_again(fabric):
    """Endpoints, doorbells, names and waiting queue pairs, of guests, of the host, and of software contexts."""
    machine, neighbour, other = fabric["trixie"], fabric["bookworm"], fabric["backports"]
    host, program = fabric.host(), fabric.host("any")
    for user, cid in (machine, machine.cid), (neighbour, neighbour.cid), (host, 2), (program, program.cid):
        user.run("dg create 7110")
        user.run(f"bell create {cid}:7111" if user in (machine, neighbour) else "bell create 7111")
    host.run("name register known 2:7110")
    waits = host.run(f"qp create 7112 {machine.cid} 4096 4096 0").last
    offers = machine.run("qp alloc any 2 4096 4096 0").last
    machine.run("events 0")

    replace_broker(fabric)

    for one, here, two, there in ((machine, machine.cid, host, 2), (machine, machine.cid, program, program.cid),
                                  (host, 2, program, program.cid), (machine, machine.cid, neighbour, neighbour.cid)):
        for sends, source, hears, target in (one, here, two, there), (two, there, one, here):
            patiently(sends, f"dg send {source}:7110 {target}:7110 2a")
            assert hears.run(f"dg recv {target}:7110 120000").words == [f"{source}:7110", "2a"]
            patiently(sends, f"bell ring {target}:7111")
            hears.run(f"bell wait {target}:7111 1 120000")
    assert other.fails(f"bell ring {machine.cid}:7111") == DST_UNREACHABLE

    assert program.run("name lookup known 10000").last == "2:7110"
    machine.run(f"dg send {machine.cid}:7110 1:1 {names.request(names.LOOKUP, 'known')}")
    assert names.reply(*machine.run(f"dg recv {machine.cid}:7110 120000").words) == (0, (2, 7110))

    machine.run(f"qp alloc {waits} 2 4096 4096 1")
    host.run(f"qp attach {offers} 4096 4096 0")
    assert sorted(host.run("events 120000").words) == sorted(["QP_PEER_ATTACH", str(machine.cid), waits])
    assert machine.run("events 120000").words == ["QP_PEER_ATTACH", "2", offers]


def test_a_guests_name_is_known_again(fabric):
    machine, host = fabric["trixie"], fabric.host()
    assert names.ask(machine.vm, names.REGISTER, "guest's", (machine.cid, 7110))[0] == 0
    assert host.run("name lookup guest's 0").last == f"{machine.cid}:7110"
    replace_broker(fabric)
    assert host.run("name lookup guest's 10000").last == f"{machine.cid}:7110"


def test_those_who_died_meanwhile_are_gone(fabric):
    machine = fabric["trixie"]
    pair, mourner = Pair(fabric, machine, "host", cid="any"), fabric.host()
    gone = pair.host.cid
    fabric.kill_broker()
    pair.host.kill()
    fabric.hosts.remove(pair.host)
    fabric.restart_broker()
    assert machine.run("events 120000").words == ["QP_PEER_DETACH", str(gone), pair.handle]
    machine.run("dg create 7120")
    patiently(mourner, f"bell ring {pair.host_bell}", lambda code: code in (DST_UNREACHABLE, NOT_FOUND))
    patiently(machine, f"dg send {machine.cid}:7120 {gone}:7120 00", lambda code: code == DST_UNREACHABLE)


def test_a_vm_that_ends_meanwhile_can_start_again(fabric):
    machine = fabric["bookworm"]
    watcher = fabric.host()
    fabric.kill_broker()
    machine.stop()
    fabric.restart_broker()
    machine.boot().ready()
    assert machine.run("cid").last == str(machine.cid)
    watcher.run("dg create 7130")
    machine.run("dg create 7130")
    patiently(machine, f"dg send {machine.cid}:7130 2:7130 2a")
    assert watcher.run("dg recv 2:7130 120000").last == "2a"
