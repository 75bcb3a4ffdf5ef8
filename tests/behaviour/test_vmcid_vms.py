# SPDX-License-Identifier: BSD-2-Clause
"""VMs of vmcid: definitions, sockets, devices that are started, die, survive. fake_device.py plays the device."""

import contextlib
import json
import os
import pathlib
import signal
import socket
import time

import pytest
from testbed.fabric import (BELL_OPEN, CTX_REMOVED, DEVICE, DST_UNREACHABLE, HELLO, INVALID,
                            NOT_FOUND, NO_ACCESS, PAGE, QP_ATTACH, UNAVAILABLE, AttachedPair, Broker, Client, Endpoint,
                            Events, Refused, Sink)
from testbed.process import until

FAKE = pathlib.Path(__file__).with_name("fake_device.py")
LIMIT = 20


class Vmm:
    """What connects to vm/NAME.sock; the device behind it obeys."""

    def __init__(self, broker, name):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(LIMIT)
        self.sock.connect(str(broker.runtime / "vm" / f"{name}.sock"))

    def do(self, command):
        self.sock.sendall(command.encode())
        answer = b""
        while not answer.endswith(b"\n"):
            part = self.sock.recv(65536)
            if not part:
                raise EOFError(command)
            answer += part
        return answer.decode().rstrip("\n")

    def options(self):
        return json.loads(self.do("options"))

    def is_ended(self):
        self.sock.setblocking(False)
        try:
            return self.sock.recv(1) == b""
        except BlockingIOError:
            return False
        except ConnectionResetError:
            return True
        finally:
            self.sock.settimeout(LIMIT)

    def close(self):
        self.sock.close()


class VmBroker(Broker):
    """A vmcid with definitions, and VMMs at its sockets."""

    def __init__(self, directory, **definitions):
        self.vmms = []
        (directory / "vms").mkdir()
        for name, text in definitions.items():
            self.define_in(directory, name, text)
        super().__init__(directory, "--device", FAKE)

    @staticmethod
    def define_in(directory, name, text):
        new = directory / "vms" / f".{name}.new"
        new.write_text(text)
        new.rename(directory / "vms" / f"{name}.vmx")

    def define(self, name, text):
        self.define_in(self.directory, name, text)

    def socket(self, name):
        return self.runtime / "vm" / f"{name}.sock"

    def power_on(self, name, cid=None):
        """Connects, and waits for the device to be known."""
        vmm = Vmm(self, name)
        self.vmms.append(vmm)
        options = vmm.options()
        if cid is not None:
            assert options["cid"] == cid
        vmm.cid, vmm.pid = options["cid"], options["pid"]
        self.wait_for_context(vmm.cid)
        return vmm

    def contexts(self):
        client = Client(self.path)
        try:
            return {int(line.split()[1]) for line in client.list() if line.startswith("context ")}
        finally:
            client.close()

    def wait_for_context(self, cid, is_there=True):
        until(f"context {cid}", lambda: (cid in self.contexts()) == is_there, LIMIT)

    def log(self):
        return self.process.text()

    def wait_for_log(self, text):
        until(f"{text!r} in the log", lambda: text in self.log(), LIMIT)

    def hangup(self):
        os.kill(self.process.pid, signal.SIGHUP)

    def close(self):
        for vmm in self.vmms:
            vmm.close()
        super().close()


@pytest.fixture
def start(directory):
    brokers = []

    def start(**definitions):
        brokers.append(VmBroker(directory, **definitions))
        return brokers[-1]
    yield start
    for broker in brokers:
        pids = [vmm.pid for vmm in broker.vmms if hasattr(vmm, "pid")]
        broker.close()
        for pid in pids:
            until(f"device {pid} to end with its VM", lambda: not is_alive(pid), LIMIT)
        assert broker.process.is_running(), broker.log()
        until("what devices left to be removed", lambda: not list((broker.runtime / "device").iterdir()), LIMIT)
        assert broker.process.terminate() == 0, broker.log()
        assert "Sanitizer" not in broker.log() and "runtime error" not in broker.log(), broker.log()
        assert not list((broker.runtime / "vm").iterdir())


def is_alive(pid):
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):    # it may end while we read
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1][0] not in "ZX"
    return False


# --- Definitions ---------------------------------------------------------------------------------------------

def test_definitions(start):
    broker = start(web='vmci0.id = "100"\n', db="", off='vmci0.present = "FALSE"\n', low='vmci0.id = "3"\n',
                   broken='vmci0.id = "100\n', wrong='vmci.filter0.action = "drop"\n')
    (broker.vms / "notes.txt").write_text("no definition")
    assert sorted(each.name for each in (broker.runtime / "vm").iterdir()) == ["db.sock", "low.sock", "web.sock"]
    for line in ("vm web: context id 100", "vm low: context id 16", "low.vmx: line 1: vmci0.id: context ids below 16",
                 "off.vmx: this VM has no VMCI device", "broken.vmx: line 1: the value's closing quote is missing",
                 "wrong.vmx: line 1: vmci.filter0.action: \"drop\" is not known here"):
        assert line in broker.log()


def test_collisions(start):
    """A wish that is taken becomes the next free id; nobody's id depends on what else is defined."""
    broker = start(a='vmci0.id = "100"\n', b='vmci0.id = "100"\n', c='vmci0.id = "101"\n', d="")
    assert "vm a: context id 100" in broker.log()
    assert "vm b: context id 100 is taken; it gets 101" in broker.log()
    assert "vm c: context id 101 is taken; it gets 102" in broker.log()
    cid = broker.power_on("d").cid
    assert 0x1000 <= cid < 0xf000
    broker.close()
    broker.wait_for_context(cid, False)
    broker.vmms = []
    for name in "a", "b", "c":
        (broker.vms / f"{name}.vmx").unlink()
    broker.restart()
    broker.power_on("d", cid)


def test_a_program_cannot_have_it(start):
    broker = start(web='vmci0.id = "100"\n')
    with pytest.raises(Refused) as refused:
        broker.connect(cid=100)
    assert refused.value.status == NO_ACCESS


def test_a_program_has_it_already(start):
    broker = start()
    broker.connect(cid=100)
    broker.define("web", 'vmci0.id = "100"\n')
    broker.wait_for_log("vm web: context id 100 is taken; it gets 101")
    broker.power_on("web", 101)


def test_modes(directory):
    (directory / "vms").mkdir()
    (directory / "vms" / "web.vmx").write_text("")

    class Configured(Broker):
        def start(self):
            self.config.write_text('vm.mode = "0600"\nsocket.mode = "0660"\n')
            super().start()
    broker = Configured(directory)
    assert (broker.runtime / "vm" / "web.sock").stat().st_mode & 0o777 == 0o600
    assert broker.path.stat().st_mode & 0o777 == 0o660
    broker.close()
    assert broker.process.terminate() == 0


@pytest.mark.parametrize("how", ("hangup", "notice"))
def test_changes(start, how):
    """Added, changed and removed while vmcid runs, by SIGHUP or because it looks."""
    broker = start(old="", changed='vmci0.id = "100"\n', used='vmci0.id = "200"\n')
    vmm = broker.power_on("used", 200)

    def change(*steps):
        for step in steps:
            step()
        if how == "hangup":
            broker.hangup()
    change(lambda: broker.define("new", 'vmci0.id = "300"\n'), lambda: broker.define("changed", 'vmci0.id = "101"\n'),
           lambda: broker.define("used", 'vmci0.id = "201"\n'), (broker.vms / "old.vmx").unlink)
    until("the new socket", broker.socket("new").exists, LIMIT)
    until("the old one to be gone", lambda: not broker.socket("old").exists(), LIMIT)
    broker.wait_for_log("vm used: its definition has changed, which holds when its device has gone")
    broker.power_on("new", 300)
    broker.power_on("changed", 101)
    assert vmm.options()["cid"] == 200
    vmm.close()
    broker.wait_for_log("vm used: context id 201")
    broker.power_on("used", 201)


def test_broken_later(start):
    """A definition that is broken while its VM is there, or waits, leaves all as it was."""
    broker = start(a='vmci0.id = "100"\n', b='vmci0.id = "101"\n')
    broker.power_on("a", 100)
    broker.define("a", "rubbish")
    broker.define("b", "rubbish")
    broker.wait_for_log("a.vmx: line 1")
    broker.wait_for_log("b.vmx: line 1")
    broker.power_on("b", 101)


def test_removed_while_used(start):
    broker = start(web='vmci0.id = "100"\n')
    vmm = broker.power_on("web", 100)
    (broker.vms / "web.vmx").unlink()
    broker.wait_for_log("vm web: its definition has gone")
    assert not broker.socket("web").exists()
    assert vmm.options()["cid"] == 100
    vmm.close()
    broker.wait_for_context(100, False)
    # The id is free again.
    until("the id to be free", lambda: can_have(broker, 100), LIMIT)


def can_have(broker, cid):
    try:
        client = Client(broker.path, cid)
    except Refused:
        return False
    client.close()
    return True


def test_directory_that_is_none(start):
    broker = start(web="")
    broker.vms.rename(broker.directory / "elsewhere")
    broker.hangup()
    broker.wait_for_log("vms: No such file or directory")
    broker.power_on("web")


# --- Devices -------------------------------------------------------------------------------------------------

def test_options(start):
    broker = start(**{"web 1": 'vmci0.id = "100"\n', "b": 'openvmci.classic = "TRUE"\nopenvmci.hybrid = "FALSE"\n'
                      'openvmci.window = "1M"\n', "c": 'openvmci.msi = "TRUE"\n'})
    vmm = broker.power_on("web 1", 100)
    options = vmm.options()
    assert options["name"] == "web 1" and options["once"] and options["log"] == "debug"
    assert options["rendezvous"] == str(broker.runtime / "device" / "100.sock")
    assert options["hybrid"] == str(broker.runtime / "hybrid" / "web 1.sock")
    assert (options["classic"], options["msi"], options["window_fd"]) == (False, False, None)
    # In a session of its own: what ends vmcid's does not end it.
    assert options["sid"] == options["pid"]
    options = broker.power_on("b").options()
    assert (options["classic"], options["msi"], options["window_fd"], options["hybrid"]) == (True, False, 5, None)
    assert broker.power_on("c").options()["msi"]


def test_device_has_nothing_else(start):
    """Standard descriptors and what was passed; the rest it opened itself."""
    broker = start(web="")
    vmm = broker.power_on("web")
    fds = sorted(int(fd) for fd in os.listdir(f"/proc/{vmm.pid}/fd"))
    # 3, 4: the connections. 5 to 8: two sinks. 9: the rendezvous socket.
    assert fds == list(range(10))


def test_next_vmm_waits(start):
    broker = start(web='vmci0.id = "100"\n')
    first = broker.power_on("web", 100)
    second = Vmm(broker, "web")
    broker.vmms.append(second)
    second.sock.sendall(b"options")
    time.sleep(0.5)
    second.sock.setblocking(False)
    with pytest.raises(BlockingIOError):
        second.sock.recv(1)
    second.sock.settimeout(LIMIT)
    first.close()
    answer = json.loads(second.sock.recv(65536))
    assert answer["cid"] == 100 and answer["pid"] != first.pid
    second.pid = answer["pid"]


def test_a_device_that_lingers_is_waited_for(start):
    broker = start(web="")
    first = broker.power_on("web")
    first.sock.sendall(b"linger 1")
    until("the connection to end", first.is_ended, LIMIT)
    second = broker.power_on("web")
    assert not is_alive(first.pid)
    assert second.pid != first.pid


def test_death_of_a_device(start):
    broker = start(web='vmci0.id = "100"\n')
    host = broker.connect()
    events = Events(host)
    assert events.watch(100) == 0
    vmm = broker.power_on("web", 100)
    os.kill(vmm.pid, signal.SIGKILL)
    event = events.recv()
    assert (event.id, event.context) == (CTX_REMOVED, 100)
    assert Endpoint(host).send((100, 5)) == DST_UNREACHABLE
    broker.wait_for_log("vm web: its device was ended by signal 9")
    assert broker.power_on("web", 100).pid != vmm.pid


def test_status_of_a_device(start):
    broker = start(web="")
    vmm = broker.power_on("web")
    vmm.sock.sendall(b"exit 7")
    broker.wait_for_log("vm web: its device ended with status 7")
    broker.power_on("web")


def test_program_that_is_none(directory):
    (directory / "vms").mkdir()
    (directory / "vms" / "web.vmx").write_text("")
    broker = Broker(directory, "--device", "/no/such/program")
    for _ in range(2):
        vmm = Vmm(broker, "web")
        assert vmm.sock.recv(1) == b""
        vmm.close()
        until("a complaint", lambda: "vm web: /no/such/program: No such file" in broker.process.text(), LIMIT)
        until("the VM to be waited for again", lambda: broker.process.text().count("its device has gone") > _, LIMIT)
    broker.close()
    assert broker.process.terminate() == 0


# --- Datagrams, doorbells, queue pairs of a guest ------------------------------------------------------------------

def test_datagrams(start):
    broker = start(web='vmci0.id = "100"\n')
    host = broker.connect()
    vmm = broker.power_on("web", 100)
    endpoint = Endpoint(host)
    assert endpoint.send((100, 1234), b"to the guest") == 36
    assert vmm.do("received") == repr_datagram((100, 1234), endpoint.handle, b"to the guest")
    assert int(vmm.do(f"send {endpoint.handle[0]} {endpoint.handle[1]}")) == 38
    got = endpoint.recv()
    assert (got.src, got.payload) == ((100, 77), b"from the guest")
    assert int(vmm.do("send 5 5")) == DST_UNREACHABLE


def repr_datagram(dst, src, payload):
    return f"Datagram(dst={dst!r}, src={src!r}, payload={payload!r})"


def test_neighbours(start):
    """VMs see each other in one domain, or when both are unrestricted; else they do not exist for each other."""
    broker = start(a='vmci0.id = "100"\nvmci0.domain = "blue"\n', b='vmci0.id = "101"\nvmci0.domain = "blue"\n',
                   c='vmci0.id = "102"\nvmci0.unrestricted = "TRUE"\n',
                   d='vmci0.id = "103"\nvmci0.unrestricted = "TRUE"\n',
                   e='vmci0.id = "104"\n')
    vms = {cid: broker.power_on(name, cid) for name, cid in zip("abcde", range(100, 105))}
    for src, vmm in vms.items():
        for dst in vms:
            if src != dst:
                expected = 38 if {src, dst} in ({100, 101}, {102, 103}) else DST_UNREACHABLE
                assert (src, dst, int(vmm.do(f"send {dst} 9"))) == (src, dst, expected)


def test_restricted(start, needs_root):
    broker = start(a='vmci0.id = "100"\nopenvmci.restricted = "TRUE"\n')
    vmm = broker.power_on("a", 100)
    trusted = Endpoint(broker.connect())
    assert trusted.send((100, 9)) == 24
    os.setegid(4242)
    os.seteuid(4242)
    try:
        stranger = Endpoint(broker.connect())
    finally:
        os.seteuid(0)
        os.setegid(0)
    assert stranger.send((100, 9)) == NO_ACCESS
    assert int(vmm.do(f"send {stranger.handle[0]} {stranger.handle[1]}")) == NO_ACCESS
    assert int(vmm.do(f"send {trusted.handle[0]} {trusted.handle[1]}")) == 38


def test_filter(start):
    broker = start(a='vmci0.id = "100"\nvmci.filter.enable = "TRUE"\nvmci.filter1.action = "deny"\n'
                   'vmci.filter1.protocol = "datagram"\nvmci.filter1.direction = "guest"\n'
                   'vmci.filter1.portHigh = "99"\n')
    vmm = broker.power_on("a", 100)
    endpoint = Endpoint(broker.connect())
    assert endpoint.send((100, 99)) == NO_ACCESS
    assert endpoint.send((100, 100)) == 24
    assert int(vmm.do(f"send {endpoint.handle[0]} {endpoint.handle[1]}")) == 38


def test_bell(start):
    broker = start(web='vmci0.id = "100"\n')
    host = broker.connect()
    vmm = broker.power_on("web", 100)
    bell = host.open_bell((100, 55))
    os.eventfd_write(bell, 3)
    assert vmm.do("rung") == "3"
    os.close(bell)


def test_pair(start):
    broker = start(web='vmci0.id = "100"\n')
    host = broker.connect()
    vmm = broker.power_on("web", 100)
    pair = AttachedPair(host, (100, 2000), 3 * PAGE, PAGE)
    assert pair.peer == 100
    assert vmm.do("peer") == "2"
    assert not pair.is_left()
    vmm.close()
    until("the other end to be gone", pair.is_left, LIMIT)


@pytest.mark.parametrize("how,status", (("refuse", NOT_FOUND), ("nonsense", UNAVAILABLE), ("silent", UNAVAILABLE)))
def test_answers(start, how, status):
    """What the device says is passed on; what is wrong, or never comes, is UNAVAILABLE."""
    broker = start(web='vmci0.id = "100"\n')
    host, other = broker.connect(), broker.connect()
    vmm = broker.power_on("web", 100)
    assert vmm.do(how) == how
    begin = time.monotonic()
    host.post(BELL_OPEN, handle=(100, 1))
    # Meanwhile others are served.
    assert Endpoint(other).send((100, 5)) == 24
    assert host.recv().status == status
    assert host.call(QP_ATTACH, handle=(100, 2), size0=PAGE, size1=PAGE, other=(INVALID, 0)).status == status
    assert time.monotonic() - begin < 10
    # It goes on.
    vmm.do("answer")
    os.close(host.open_bell((100, 1)))


def test_answers_come_in_order(start):
    """Requests behind one that waits are answered after it."""
    broker = start(web='vmci0.id = "100"\n')
    host = broker.connect()
    vmm = broker.power_on("web", 100)
    vmm.do("silent")
    serials = [host.post(BELL_OPEN, handle=(100, 1))] + [host.post(24) for _ in range(10)]
    assert [host.recv().serial for _ in serials] == serials


def test_device_goes_while_asked(start):
    broker = start(web='vmci0.id = "100"\n')
    host = broker.connect()
    vmm = broker.power_on("web", 100)
    vmm.do("silent")
    host.post(BELL_OPEN, handle=(100, 1))
    os.kill(vmm.pid, signal.SIGKILL)
    assert host.recv().status == DST_UNREACHABLE
    assert host.call(BELL_OPEN, handle=(100, 1)).status in (DST_UNREACHABLE, NOT_FOUND)


def test_asker_goes(start):
    broker = start(web='vmci0.id = "100"\n')
    vmm = broker.power_on("web", 100)
    vmm.do("silent")
    client = broker.connect()
    client.post(BELL_OPEN, handle=(100, 1))
    client.close()
    time.sleep(0.2)
    vmm.do("answer")
    os.close(broker.connect().open_bell((100, 1)))


def test_many_questions(start):
    """A device that never answers is asked no more than 64 times."""
    broker = start(web='vmci0.id = "100"\n')
    vmm = broker.power_on("web", 100)
    vmm.do("silent")
    clients = [broker.connect() for _ in range(70)]
    for client in clients:
        client.post(BELL_OPEN, handle=(100, 1))
    assert {client.recv().status for client in clients} == {UNAVAILABLE}
    assert "dropped" not in broker.log()
    assert vmm.options()["cid"] == 100


@pytest.mark.parametrize("how,reason", (("unasked", "an answer (BELL_OPEN) to what was not asked"),
                                        ("twice", "an answer (BELL_OPEN) to what was not asked")))
def test_lying_device(start, how, reason):
    """It is dropped, comes back by its rendezvous socket, and its VM goes on."""
    broker = start(web='vmci0.id = "100"\n')
    vmm = broker.power_on("web", 100)
    vmm.do(how)
    if how == "twice":
        assert broker.connect().call(BELL_OPEN, handle=(100, 1)).status == NOT_FOUND
        vmm.do("answer")
    broker.wait_for_log(f"cid 100: dropped: {reason}")
    until("the device to be back", lambda: vmm.do("hellos") == "[0, 0]", LIMIT)
    os.close(broker.connect().open_bell((100, 1)))
    assert is_alive(vmm.pid)


def test_programs_are_no_devices(start):
    broker = start(web='vmci0.id = "100"\n')
    client = broker.connect(cid=None)
    sinks = [Sink(), Sink()]
    reply = client.call(HELLO, size0=1, handle=(100, 0), flags=DEVICE, fds=sinks)
    assert reply.status == NO_ACCESS
    for sink in sinks:
        sink.close()


# --- vmcid goes, devices stay ----------------------------------------------------------------------------------------

@pytest.mark.parametrize("how", ("kill", "terminate"))
def test_devices_survive(start, how):
    broker = start(a='vmci0.id = "100"\n', b="")
    vmms = broker.power_on("a", 100), broker.power_on("b")
    if how == "kill":
        broker.kill()
    else:
        assert broker.process.terminate() == 0
    assert all(is_alive(vmm.pid) for vmm in vmms)
    begin = time.monotonic()
    broker.start()
    for vmm in vmms:
        broker.wait_for_context(vmm.cid)
    # "within a second" (design, rule 2), with room for slow machines
    assert time.monotonic() - begin < 10
    assert [vmm.do("hellos") for vmm in vmms] == ["[0, 0]"] * 2
    # All works as before.
    host = broker.connect()
    os.close(host.open_bell((100, 1)))
    endpoint = Endpoint(host)
    assert int(vmms[0].do(f"send {endpoint.handle[0]} {endpoint.handle[1]}")) == 38
    # And the next VMM waits, and is served.
    second = Vmm(broker, "a")
    broker.vmms.append(second)
    vmms[0].close()
    second.pid = second.options()["pid"]
    assert second.pid != vmms[0].pid


def test_ids_stay(start):
    """A device that survives keeps its id, whatever the definitions say by now."""
    broker = start(a='vmci0.id = "100"\n')
    vmm = broker.power_on("a", 100)
    broker.kill()
    broker.define("a", 'vmci0.id = "300"\n')
    broker.define("b", 'vmci0.id = "100"\n')
    broker.start()
    broker.wait_for_context(100)
    broker.wait_for_log("vm b: context id 100 is in use; it gets 101")
    broker.power_on("b", 101)
    assert vmm.options()["cid"] == 100
    vmm.close()
    broker.wait_for_context(100, False)
    until("the new id", lambda: broker.log().count("vm a: context id 300") > 0, LIMIT)


def test_definition_is_gone_after_a_restart(start, needs_root):
    """Nobody knows any more what the VM was allowed to do: as little as possible."""
    broker = start(a='vmci0.id = "100"\n')
    vmm = broker.power_on("a", 100)
    broker.kill()
    (broker.vms / "a.vmx").unlink()
    broker.start()
    broker.wait_for_context(100)
    broker.wait_for_log("vm a: its definition has gone; it is restricted")
    assert Endpoint(broker.connect()).send((100, 9)) == 24
    os.setegid(4242)
    os.seteuid(4242)
    try:
        stranger = Endpoint(broker.connect())
    finally:
        os.seteuid(0)
        os.setegid(0)
    assert stranger.send((100, 9)) == NO_ACCESS
    assert vmm.options()["cid"] == 100


@pytest.mark.parametrize("lie", ("forge", "claim b"))
def test_device_that_proves_nothing(start, lie):
    broker = start(a='vmci0.id = "100"\n', b='vmci0.id = "200"\n')
    vmm = broker.power_on("a", 100)
    vmm.do(lie)
    broker.restart()
    broker.wait_for_log("a device at context id 100 cannot prove that it is ours")
    time.sleep(0.5)
    assert 100 not in broker.contexts()
    assert is_alive(vmm.pid)
    # Its VM's socket is not served by a second one as long as it is there.
    second = Vmm(broker, "a")
    broker.vmms.append(second)
    time.sleep(0.5)
    second.sock.setblocking(False)
    with pytest.raises(BlockingIOError):
        second.sock.recv(1)
    second.sock.settimeout(LIMIT)
    vmm.close()
    second.pid = second.options()["pid"]


def test_device_dies_with_vmcid(start):
    """Its rendezvous socket's file is left; nobody listens there."""
    broker = start(a='vmci0.id = "100"\n')
    vmm = broker.power_on("a", 100)
    broker.kill()
    os.kill(vmm.pid, signal.SIGKILL)
    until("its end", lambda: not is_alive(vmm.pid), LIMIT)
    assert (broker.runtime / "device" / "100.sock").exists()
    broker.start()
    broker.power_on("a", 100)


def test_restart_while_a_vmm_waits(start):
    broker = start(a='vmci0.id = "100"\n')
    broker.kill()
    broker.start()
    broker.power_on("a", 100)


def test_second_restart(start):
    broker = start(a='vmci0.id = "100"\n')
    vmm = broker.power_on("a", 100)
    for n in range(3):
        broker.restart()
        until("the device to be back", lambda: vmm.do("hellos") == json.dumps([0] * (n + 2)), LIMIT)
        broker.wait_for_context(100)
